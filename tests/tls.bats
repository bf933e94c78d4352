#!/usr/bin/env bats
# TLS: by STLS after the ticket and before AUTH, and from the first byte.

load helpers/all

setup_file() { tls_make; }

setup() {
	begin_test
	realm_login alice
	mbox one two | store alice
}

teardown() {
	server_stop
	end_test
}

# fetch POLL [OPTION]: one poll of fetchmail; what it delivers goes to
# $WORLD/got.
fetch() {
	printf '#!/bin/sh\n{ echo == message; cat; } >>%s/got\n' "$WORLD" \
	    >"$WORLD/mda"
	chmod 755 "$WORLD/mda"
	printf '%s\n' \
	    "$1 user alice ${2-sslcertfile $WORLD/tls/ca.pem} mda $WORLD/mda" \
	    >"$WORLD/fetchmailrc"
	chmod 600 "$WORLD/fetchmailrc"
	rm -f "$WORLD/got"
	timeout 20 fetchmail -v --nodetach --nosyslog -f "$WORLD/fetchmailrc" \
	    -i "$WORLD/ids" --pidfile "$WORLD/fetchmail.pid"
}

# recorded PORT: a relay on this port before the server; what the wire carries
# goes to $WORLD/wire.
recorded() {
	socat -r "$WORLD/wire" -R "$WORLD/wire.back" TCP-LISTEN:"$1",reuseaddr \
	    TCP:127.0.0.1:1109 3>&- 2>/dev/null &
	await 5 "ss -Hltn sport = $1 | grep -q ."
}

@test "fetchmail's defaults: KPOP, then TLS; the wire carries no mail" {
	server_start $(tls_options)
	rm -f "$WORLD"/wire*
	recorded 2109
	sed -i 's,^kpop 1109/tcp,kpop 2109/tcp,' /etc/services
	run fetch "poll mail.kpopd.test proto KPOP auth kerberos_v5"
	sed -i 's,^kpop 2109/tcp,kpop 1109/tcp,' /etc/services
	[ "$status" -eq 0 ] || { echo "$output"; return 1; }
	[ "$(grep -c '^Subject: \(one\|two\)' "$WORLD/got")" -eq 2 ]
	[ ! -s /var/mail/alice ]
	log_has 'kpopd\[[0-9]+\]: tls peer=[^ ]+ version=TLSv1.3 cipher='
	log_has 'login .*layer=tls '
	grep -aq STLS "$WORLD/wire"
	grep -aq 'Subject\|USER alice\|RETR\|line 1' "$WORLD/wire" \
	    "$WORLD/wire.back" && return 1 || :
}

@test "with sslproto '' the same server speaks plain KPOP, and no TLS process is started" {
	server_start $(tls_options)
	run fetch "poll mail.kpopd.test proto KPOP auth kerberos_v5" \
	    "sslproto ''"
	[ "$status" -eq 0 ] || { echo "$output"; return 1; }
	[ "$(grep -c '^Subject' "$WORLD/got")" -eq 2 ]
	log_has 'login .*layer=none '
	log_lacks 'kpopd-tls'
}

@test "STLS in POP3 mode: curl, with AUTH GSSAPI inside" {
	server_start -p $(tls_options)
	run timeout 10 curl -sS --ssl-reqd --cacert "$WORLD/tls/ca.pem" \
	    --login-options AUTH=GSSAPI -u alice@KPOPD.TEST: \
	    pop3://mail.kpopd.test:1109/2
	[ "$status" -eq 0 ] || { echo "$output"; return 1; }
	[[ $output == *"two line 3"* ]]
	log_has 'login .*layer=tls '
}

@test "TLS from the first byte: curl's pop3s" {
	server_start -p -T immediate $(tls_options)
	run timeout 10 curl -sS --cacert "$WORLD/tls/ca.pem" \
	    --login-options AUTH=GSSAPI -u alice@KPOPD.TEST: \
	    pop3s://mail.kpopd.test:1109/1
	[ "$status" -eq 0 ] || { echo "$output"; return 1; }
	[[ $output == *"one line 3"* ]]
}

@test "openssl s_client -starttls pop3; after it STLS is neither listed nor obeyed, and the end is announced" {
	server_start -p $(tls_options)
	run s_client -starttls pop3 < <(printf '%s\r\n' CAPA STLS QUIT; sleep 1)
	[[ $output == \
	    *"SASL GSSAPI"*"-ERR TLS has begun already"*"+OK bye"* ]] ||
	    { echo "$output"; cat "$WORLD/s_client.err"; return 1; }
	[[ $output != *$'\nSTLS'* ]]
	grep -q 'unexpected eof' "$WORLD/s_client.err" && return 1 || :
}

@test "kpopc --tls: STLS after the ticket and before AUTH, with the certificate verified and bound" {
	for mode in "" -p; do
		server_start $mode $(tls_options)
		run kpopc $mode --tls -C "$WORLD/tls/ca.pem" mail.kpopd.test \
		    1109 < <(printf '%s\r\n' "USER alice" "PASS x" STAT \
			"RETR 1" QUIT)
		[ "$status" -eq 0 ] || { echo "$output"; return 1; }
		[[ $output == \
		    *"+OK 2 410"*"one line 3"*"+OK bye, 2 messages left"* ]] ||
		    { echo "$output"; return 1; }
		log_has 'login .*layer=tls '
		# Not this authority's, and not this host's name.
		run kpopc $mode --tls mail.kpopd.test 1109 \
		    < <(printf '%s\r\n' "USER alice" "PASS x" QUIT)
		[ "$status" -eq 1 ]
		[[ $output == *"TLS: "*"certificate"* ]] ||
		    { echo "$output"; return 1; }
		run kpopc $mode --tls -C "$WORLD/tls/ca.pem" \
		    -s pop/mail.kpopd.test@KPOPD.TEST 127.0.0.1 1109 \
		    < <(printf '%s\r\n' "USER alice" "PASS x" QUIT)
		[ "$status" -eq 1 ]
		[[ $output == *"TLS: "*mismatch* ]] ||
		    { echo "$output"; return 1; }
		server_stop
	done
}

@test "old versions of TLS are refused, the new ones are not, and renegotiation is not to be had" {
	server_start -p $(tls_options)
	for version in -tls1 -tls1_1; do
		run s_client -starttls pop3 -cipher 'ALL:@SECLEVEL=0' $version \
		    < <(sleep 1)
		[ "$status" -ne 0 ]
	done
	log_has 'refused .*reason="TLS handshake"'
	for version in -tls1_2 -tls1_3; do
		run s_client -starttls pop3 $version \
		    < <(printf 'QUIT\r\n'; sleep 1)
		[[ $output == *"+OK bye"* ]] || {
			echo "$version: $output"
			cat "$WORLD/s_client.err"
			return 1
		}
	done
	# Without -quiet, s_client takes R for a wish to renegotiate.
	run timeout 10 openssl s_client -starttls pop3 -tls1_2 \
	    -CAfile "$WORLD/tls/ca.pem" -connect mail.kpopd.test:1109 \
	    < <(sleep 0.5; echo R; sleep 1; echo quit; sleep 1)
	[[ $output == *RENEGOTIATING* && $output != *"+OK bye"* ]]
}

# bats test_tags=attack:2-16
@test "what a client says against the certificate is in the log in words of our own" {
	local alert name
	# A client's hello, of TLS 1.2, in which alerts are in the clear here.
	socat -u TCP-LISTEN:2112,reuseaddr "OPEN:$WORLD/hello,creat,trunc" \
	    3>&- &
	await 5 'ss -Hltn sport = 2112 | grep -q .'
	timeout 5 openssl s_client -tls1_2 -connect 127.0.0.1:2112 </dev/null \
	    >/dev/null 2>&1 3>&- &
	await 5 '[ -s "$WORLD/hello" ]'
	kill %1 %2 2>/dev/null || true
	server_start -p -T immediate $(tls_options)
	# The words of OpenSSL stay for what is not about the certificate.
	while read -r alert name; do
		log_mark
		{
			cat "$WORLD/hello"
			printf \
			    "\\x15\\x03\\x03\\x00\\x02\\x02\\x$(printf %x \
				"$alert")"
		} | wire 3 >/dev/null
		log_has "kpopd\\[[0-9]+\\]: refused peer=127\\.0\\.0\\.1:[0-9]+ reason=\"$name\"" || { echo "$alert $name"; return 1; }
		log_lacks 'refused .*certificate.*error='
	done <<-'END'
		42 the client does not take the certificate: bad_certificate
		43 the client does not take the certificate: unsupported_certificate
		44 the client does not take the certificate: certificate_revoked
		45 the client does not take the certificate: certificate_expired
		46 the client does not take the certificate: certificate_unknown
		48 the client does not take the certificate: unknown_ca
		113 the client does not take the certificate: bad_certificate_status_response
		40 TLS handshake
		70 TLS handshake
		255 TLS handshake
	END
	# The reset that follows is there before the alert is read.
	log_mark
	exec {peer}<>/dev/tcp/127.0.0.1/1109
	cat "$WORLD/hello" >&"$peer"
	head -c 5 <&"$peer" >/dev/null
	tls=$(jailed_in tls)
	kill -STOP $tls
	printf '\x15\x03\x03\x00\x02\x02\x30' >&"$peer"
	# What was not read of the server's flight makes it one.
	exec {peer}>&-
	kill -CONT $tls
	log_has 'refused .*reason="the client does not take the certificate: unknown_ca"$'
	printf 'CAPA\r\nQUIT\r\n' | wire 3 >/dev/null
	log_has 'refused .*reason="cleartext, not TLS"$'
	log_mark
	printf 'GET / HTTP/1.1\r\n\r\n' | wire 3 >/dev/null
	log_has 'refused .*reason="cleartext, not TLS"$'
}

# authority NAME: another one, which has signed nothing here.
authority() {
	openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj "/CN=$1" \
	    -keyout "$WORLD/tls/$1.key" -out "$WORLD/tls/$1.pem" 2>/dev/null
}

@test "real clients that give up at the certificate are in the log as such: an unknown authority, an expired one, another name" {
	authority other-ca
	openssl req -new -key "$WORLD/tls/server.key" \
	    -subj /CN=mail.kpopd.test -out "$WORLD/tls/old.csr" 2>/dev/null
	openssl x509 -req -in "$WORLD/tls/old.csr" -CA "$WORLD/tls/ca.pem" \
	    -CAkey "$WORLD/tls/ca.key" -CAcreateserial -days -1 \
	    -extfile "$WORLD/tls/server.ext" -out "$WORLD/tls/old.pem" \
	    2>/dev/null
	gives_up() {
		log_mark
		run timeout 20 "${@:2}" </dev/null
		[ "$status" -ne 0 ] || { echo "$*: $output"; return 1; }
		log_has "refused .*reason=\"$1" ||
		    { echo "$*: $output"; return 1; }
		log_lacks ' login '
	}
	unknown='the client does not take the certificate: unknown_ca"$'
	expired='the client does not take the certificate: certificate_expired"$'
	closed='closed after the handshake, as by a client that does not take the certificate"$'
	printf 'poll mail.kpopd.test proto KPOP auth kerberos_v5 user alice sslcertck sslcertfile %s mda cat\n' "$WORLD/tls/other-ca.pem" >"$WORLD/fetchmailrc"
	chmod 600 "$WORLD/fetchmailrc"
	server_start $(tls_options)
	gives_up "$unknown" fetchmail --nodetach --nosyslog \
	    -f "$WORLD/fetchmailrc" --pidfile "$WORLD/fetchmail.pid"
	gives_up "$unknown" env SSL_CERT_FILE="$WORLD/tls/other-ca.pem" \
	    "$KPOPD_BUILD/kpopc" --tls mail.kpopd.test
	server_stop
	server_start -p $(tls_options)
	gives_up "$unknown" curl -sS --ssl-reqd \
	    --cacert "$WORLD/tls/other-ca.pem" --login-options AUTH=GSSAPI \
	    -u alice: pop3://mail.kpopd.test:1109/1
	gives_up "$unknown" openssl s_client -quiet -starttls pop3 \
	    -verify_return_error -CAfile "$WORLD/tls/other-ca.pem" \
	    -connect mail.kpopd.test:1109
	# It looks at the certificate when the handshake is over, and says
	# nothing of it.
	gives_up "$closed" mpop --host=mail.kpopd.test --port=1109 \
	    --auth=gssapi --user=alice --tls=on --tls-starttls=on \
	    --tls-trust-file="$WORLD/tls/other-ca.pem" --keep=on \
	    --uidls-file="$WORLD/ids" --delivery=mbox,"$WORLD/got"
	server_stop
	server_start -p -c "$WORLD/tls/old.pem" -K "$WORLD/tls/server.key"
	gives_up "$expired" curl -sS --ssl-reqd --cacert "$WORLD/tls/ca.pem" \
	    --login-options AUTH=GSSAPI -u alice: pop3://mail.kpopd.test:1109/1
	server_stop
	server_start -p -T immediate $(tls_options)
	gives_up "$unknown" curl -sS --cacert "$WORLD/tls/other-ca.pem" \
	    --login-options AUTH=GSSAPI -u alice: pop3s://mail.kpopd.test:1109/1
	gives_up "$closed" curl -sS --cacert "$WORLD/tls/ca.pem" \
	    --login-options AUTH=GSSAPI -u alice: pop3s://127.0.0.1:1109/1
	gives_up "$closed" mpop --host=mail.kpopd.test --port=1109 \
	    --auth=gssapi --user=alice --tls=on --tls-starttls=off \
	    --tls-trust-file="$WORLD/tls/other-ca.pem" --keep=on \
	    --uidls-file="$WORLD/ids" --delivery=mbox,"$WORLD/got"
}

# bats test_tags=attack:2-17
@test "what a client says against the certificate after it has spoken inside TLS is no reason of a refusal, nor is cleartext after the handshake" {
	local how
	server_start $(tls_options)
	ends() {
		{
			versions
			apreq pop/mail.kpopd.test | framed
		} >"$WORLD/exchange"
		log_mark
		timeout 20 /usr/bin/python3 \
		    "$BATS_TEST_DIRNAME/clients/alert.py" "$1" \
		    "$WORLD/exchange" "${@:2}"
		log_has ' (logout|refused) .*(reason=lost|"no login: lost")'
	}
	for how in 42 43 44 45 46 48 113 'USER alice' 'GET / HTTP/1.0' \
	    'CONNECT x:1 HTTP/1.0'; do
		ends "$how" "USER alice" "PASS x" STAT
		log_has ' login .*layer=tls '
		log_has 'failed peer=[^ ]* what="TLS" error="'
		log_lacks 'refused |does not take|cleartext'
		ends "$how" CAPA
		log_lacks 'does not take|cleartext'
		# Some look at the certificate after the handshake, and then say
		# it.
		ends "$how"
		log_lacks 'cleartext'
		[ ${#how} -gt 3 ] ||
		    log_has 'refused .*reason="the client does not take the certificate: '
	done
}

@test "a client that is silent after the handshake, says something, or never begins it, is not taken for one that gives up" {
	server_start -p -t 2 -T immediate $(tls_options)
	# Its input does not end; the server's end of the connection is its end.
	exec {quiet}<> <(:)
	s_client <&"$quiet" >/dev/null || true
	exec {quiet}>&-
	log_has 'refused .*reason="no login: idle"$'
	s_client < <(printf 'NOOP\r\nQUIT\r\n') >/dev/null || true
	log_has 'refused .*reason="no login: left"$'
	wire </dev/null >/dev/null
	log_has 'refused .*reason="no login: lost"$'
	log_lacks 'certificate'
}

@test "what came before the handshake is never a command after it" {
	server_start -p $(tls_options)
	run wire 3 < <(printf 'STLS\r\nCAPA\r\nQUIT\r\n')
	[[ $output == *"-ERR nothing may follow STLS"* &&
	    $output != *"capabilities"* ]]
	log_has 'refused .*reason="cleartext commands after STLS"'
	# A moment later, when TLS is awaited already.
	run wire 3 < <(printf 'STLS\r\n'; sleep 0.5; printf 'CAPA\r\nQUIT\r\n')
	[[ $output == *"+OK begin TLS"* && $output != *"capabilities"* &&
	    $output != *"bye"* ]]
	log_has 'refused .*reason="cleartext, not TLS"$'
}

@test "with -T require nobody comes in without TLS" {
	server_start -T require $(tls_options)
	run pop alice STAT QUIT
	[[ $output == *"-ERR [AUTH] STLS comes first"* &&
	    $output != *"+OK 2"* ]]
	log_has 'refused .*reason="login without TLS, which is required"$'
	server_stop
	server_start -p -T require $(tls_options)
	run wire 3 < <(printf '%s\r\n' CAPA "AUTH GSSAPI" QUIT)
	[[ $output == *STLS*"-ERR [AUTH] STLS comes first"* &&
	    $output != *SASL* ]]
	log_count 1 'refused .*reason="login without TLS, which is required"$'
	run fetch "poll mail.kpopd.test proto POP3 service 1109 auth gssapi"
	[ "$status" -eq 0 ] || { echo "$output"; return 1; }
	[ "$(grep -c '^Subject' "$WORLD/got")" -eq 2 ]
}

@test "STLS that is not offered is a reason of its own, if the client leaves then" {
	local how
	for how in -p ''; do
		server_start $how
		pop_say_stls() {
			if [ -n "$how" ]; then
				printf "$@" | wire 3
			else
				{
					versions
					apreq pop/mail.kpopd.test | framed
					printf "$@"
				} | wire 3
			fi
		}
		for rest in 'QUIT\r\n' '' 'CAPA\r\nQUIT\r\n'; do
			log_mark
			run pop_say_stls "CAPA\r\nSTLS\r\n$rest"
			[[ $output == *"-ERR no TLS here"* ]]
			log_has 'refused .*reason="STLS, which is not offered"$'
			log_count 1 .
		done
		server_stop
	done
	# A client that goes on is let in, and no line is about STLS.
	server_start
	log_mark
	run pop alice STLS QUIT
	run \
	    bash -c "printf '%s\r\n' STLS 'USER alice' 'PASS x' QUIT | '$KPOPD_BUILD/kpopc' mail.kpopd.test"
	[[ $output == *"-ERR no TLS here"*"+OK 2 messages"* ]]
	log_lacks 'refused|STLS'
}

@test "a certificate that does not work is logged, and TLS is not offered; once it is mended, it is" {
	cp "$WORLD/tls/server.pem" "$WORLD/tls/tried.pem"
	openssl genrsa -out "$WORLD/tls/other.key" 2048 2>/dev/null
	cp "$WORLD/tls/other.key" "$WORLD/tls/tried.key"
	server_start -p -c "$WORLD/tls/tried.pem" -K "$WORLD/tls/tried.key"
	run wire 3 < <(printf '%s\r\n' CAPA STLS QUIT)
	[[ $output != *$'\nSTLS'* && $output == *"-ERR no TLS here"* ]]
	log_has 'kpopd-tls\[[0-9]+\]: failed .*the certificate.s key|key values mismatch'
	cp "$WORLD/tls/server.key" "$WORLD/tls/tried.key"
	run wire 3 < <(printf '%s\r\n' CAPA QUIT)
	[[ $output == *STLS* ]]
	rm "$WORLD/tls/tried.key"
	run wire 3 < <(printf '%s\r\n' CAPA QUIT)
	[[ $output != *STLS* && $output == *SASL* ]]
}

@test "a client that stalls in the handshake is cut off by the deadline, and leaves no process" {
	server_start -p -t 2:20 $(tls_options)
	exec 9<>/dev/tcp/127.0.0.1/1109
	printf 'STLS\r\n' >&9
	await 5 'pgrep -x kpopd-tls >/dev/null'
	printf '\x16\x03\x01\x02' >&9
	# The client stays.
	await 6 '! pgrep -x "kpopd|kpopd-tls" >/dev/null'
	exec 9>&-
	log_has 'refused '
}

@test "one byte at a time, and messages larger than many records, arrive whole" {
	{ from_line; printf 'Subject: large\n\n'; seq 200000; echo; } |
	    store alice
	server_start -p -T immediate $(tls_options)
	timeout 20 curl -sS --cacert "$WORLD/tls/ca.pem" \
	    --login-options AUTH=GSSAPI -u alice@KPOPD.TEST: \
	    pop3s://mail.kpopd.test:1109/1 |
	    tr -d '\r' | tail -n +3 | cmp - <(seq 200000)
	run s_client -max_send_frag \
	    512 < <(for c in C A P A; do
		    printf $c
		    sleep 0.1
	    done; printf '\r\nQUIT\r\n'; sleep 1)
	[[ $output == *"SASL GSSAPI"*"+OK bye"* ]]
}

# bats test_tags=fault:17-2,promise:3
@test "the TLS key is in kpopd-tls, the service's in the pre-auth process; neither has the other's, and the session has none" {
	server_start $(tls_options)
	"$KPOPD_BUILD/kpopc" --tls -C "$WORLD/tls/ca.pem" mail.kpopd.test \
	    < <(sleep 6; printf "%s\r\n" "USER alice" "PASS x"; sleep 30) \
	    >/dev/null 2>&1 3>&- &
	await 5 '[ -n "$(jailed_in tls)" ]'
	sleep 0.3
	tls=$(jailed_in tls) preauth=$(jailed_in preauth)
	holds_key "$tls" tls_key_bytes
	holds_none "$tls"
	holds_key "$preauth"
	holds_none "$preauth" tls_key_bytes
	await 15 "log_lines | grep -q 'login .*layer=tls'"
	for pid in $(pgrep -x kpopd); do
		holds_none "$pid"
		holds_none "$pid" tls_key_bytes
	done
}

@test "kpopd-tls that makes a forbidden call is ended, and the log names the call" {
	[ -z "${SANITIZER-}" ] || skip "built for sanitizers, without a sandbox"
	server_start $(tls_options)
	"$KPOPD_BUILD/kpopc" --tls -C "$WORLD/tls/ca.pem" mail.kpopd.test \
	    < <(sleep 8) >/dev/null 2>&1 3>&- &
	await 5 '[ -n "$(jailed_in tls)" ]'
	captive "$(jailed_in tls)" "execve /bin/true 0 0"
	log_has 'kpopd\[[0-9]+\]: fatal .*kpopd-tls was ended for the system call execve"$'
}

@test "where TLS cannot begin after all the connection ends with a word" {
	server_start $(tls_options) -U nobody-by-this-name
	run \
	    wire < <(versions; apreq pop/mail.kpopd.test |
		framed; printf 'STLS\r\nUSER alice\r\nPASS x\r\nQUIT\r\n')
	[[ $output != *"messages"* ]]
	run \
	    wire < <(versions; apreq pop/mail.kpopd.test |
		framed
		printf 'STLS\r\n'
		sleep 1; printf 'USER alice\r\nPASS x\r\nQUIT\r\n')
	[[ $output == *"-ERR [SYS/TEMP] TLS cannot be had now"* &&
	    $output != *"PASS comes"* ]] || { echo "$output"; return 1; }
	log_lacks ' login '
	# From the first byte on there are no words for it.
	server_stop
	server_start -T immediate $(tls_options) -U nobody-by-this-name
	run openssl s_client -connect 127.0.0.1:1109 \
	    -CAfile "$WORLD/tls/ca.pem" </dev/null
	[[ $status -ne 0 && $output != *"BEGIN CERTIFICATE"* ]]
	log_has 'fatal .*the user [^ ]+ of kpopd-tls cannot be used'
	log_lacks ' login '
}

# inside_tls PORT: what comes to this port goes on to the server inside TLS from
# its first byte.
inside_tls() {
	socat \
	    TCP-LISTEN:"$1",reuseaddr,fork OPENSSL:127.0.0.1:1109,cafile="$WORLD/tls/ca.pem",commonname=mail.kpopd.test 3>&- 2>/dev/null &
	relay=$!
	await 5 "ss -Hltn sport = $1 | grep -q ."
}

@test "KPOP inside TLS from the first byte" {
	server_start -T immediate $(tls_options)
	inside_tls 2114
	run kpopc -s pop/mail.kpopd.test@KPOPD.TEST localhost 2114 \
	    < <(printf '%s\r\n' "USER alice" "PASS x" CAPA "RETR 1" QUIT)
	kill $relay
	[[ $output == *"+OK 2 messages"*"one line 3"*"+OK bye"* &&
	    $output != *STLS* ]] || { echo "$output"; return 1; }
	log_has 'login .*layer=tls '
	run pop alice QUIT
	[[ $output != *"+OK"* ]]
}

@test "channel bindings: the certificate's are taken and need no layer, none are and may have one, another certificate's are refused" {
	server_start -p -T immediate $(tls_options)
	inside_tls 2115
	hash=$(openssl x509 -in "$WORLD/tls/server.crt" -outform DER |
	    sha256sum | cut -d' ' -f1)
	cat >"$WORLD/bind" <<-'END'
	exec "$1" "${3-1}" 65536 well alice 2115 "tls-server-end-point:$(perl -e 'print pack "H*", shift' "$2")"
	END
	# A hash with a NUL in it would be cut off on the command line, one with
	# a final LF by the shell.
	[[ ! $hash =~ ^(..)*00 && $hash != *0a ]] ||
	    skip "this certificate's hash cannot be an argument"
	run timeout 10 bash "$WORLD/bind" \
	    "$KPOPD_BUILD/tests/programs/gsstalk" "$hash"
	[[ $output == *"+OK 2 messages"* ]] || { echo "$output"; return 1; }
	run timeout 10 "$KPOPD_BUILD/tests/programs/gsstalk" 1 0 well alice 2115
	[[ $output == *"+OK 2 messages"* ]] || { echo "$output"; return 1; }
	log_lacks 'layer=tls\+'
	# A client that has bound the channel needs no layer and gets none; the
	# other may be on this end of somebody's TLS.
	run timeout 10 bash "$WORLD/bind" \
	    "$KPOPD_BUILD/tests/programs/gsstalk" "$hash" 4
	[[ $output == *"-ERR [AUTH] not authenticated"* ]] ||
	    { echo "$output"; return 1; }
	log_has 'refused .*reason="GSSAPI: a layer that was not offered"'
	run timeout 10 "$KPOPD_BUILD/tests/programs/gsstalk" 4 65536 well \
	    alice 2115
	[[ $output == *"+OK 2 messages"*"+OK bye"* ]] ||
	    { echo "$output"; return 1; }
	log_has 'login .*layer=tls\+confidentiality '
	run timeout 10 bash "$WORLD/bind" \
	    "$KPOPD_BUILD/tests/programs/gsstalk" \
	    "$(printf other | sha256sum | cut -d' ' -f1)"
	kill $relay
	[[ $output == *"-ERR [AUTH] not authenticated"* ]] ||
	    { echo "$output"; return 1; }
	log_has 'refused .*reason="GSSAPI" error="Incorrect channel bindings were supplied"'
}

@test "a client that ends its side gets all its answers, and without QUIT nothing is removed" {
	server_start $(tls_options)
	run kpopc --tls -C "$WORLD/tls/ca.pem" mail.kpopd.test \
	    < <(printf '%s\r\n' "USER alice" "PASS x" "DELE 1" "RETR 2")
	[ "$status" -eq 0 ]
	[[ $output == *"message 1 deleted"*"two line 3"* ]] ||
	    { echo "$output"; return 1; }
	log_has 'logout .*reason=lost .*deleted=0'
	spool_is alice one two
	# Cut without a word: the client knows that it was not the end.
	run kpopc --tls -C "$WORLD/tls/ca.pem" \
	    mail.kpopd.test < <(printf '%s\r\n' "USER alice" "PASS x" \
		STAT; sleep 1; pkill -KILL -x kpopd-tls; sleep 1)
	[ "$status" -eq 3 ]
	[[ $output == *"TLS: "* ]] || { echo "$output"; return 1; }
}

# bats test_tags=promise:2
@test "kpopd-tls runs as its own user in an empty directory" {
	server_start -p $(tls_options)
	s_client -starttls pop3 < <(sleep 3) >/dev/null 3>&- &
	await 5 \
	    'pgrep -x kpopd-tls >/dev/null && [ "$(readlink /proc/$(pgrep -x kpopd-tls)/root)" = "$state/tls" ]'
	pid=$(pgrep -x kpopd-tls)
	uid=$(id -u kpopd-tls)
	grep -Pq "^Uid:\t$uid\t$uid\t$uid\t$uid\$" "/proc/$pid/status"
	grep -Pq '^CapEff:\t0+$' "/proc/$pid/status"
	grep -Pq '^NoNewPrivs:\t1$' "/proc/$pid/status"
	[ -n "${SANITIZER-}" ] || [ -z "$(ls -A "$state/tls")" ]
	[ "$(stat -c '%U %a' "$state/tls")" = "root 711" ]
	pkill -x openssl
}

# connects VERSION NAME: a handshake with this suite alone; its name is what was
# agreed on.
connects() {
	local how="-ciphersuites $2"
	[ "$1" = tls1_3 ] || how="-cipher $2:@SECLEVEL=0"
	timeout 20 openssl s_client -connect 127.0.0.1:1109 -"$1" $how \
	    </dev/null 2>/dev/null | grep -q "Cipher is $2\$"
}

# suites VERSION [AWK]: the names of all that this library has, or of those of
# which the condition holds.
suites() {
	local list=ALL:COMPLEMENTOFALL:@SECLEVEL=0
	if [ "$1" = tls1_3 ]; then
		openssl ciphers -V -s -tls1_3 -ciphersuites \
		    TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256:TLS_AES_128_CCM_SHA256:TLS_AES_128_CCM_8_SHA256 "$list" |
		    awk "\$4 == \"TLSv1.3\" && (${2-1}) { print \$3 }"
	else
		openssl ciphers -V "$list" |
		    awk "\$4 != \"TLSv1.3\" && (${2-1}) { print \$3 }"
	fi | sort
}

# connecting VERSION: the names of those that connect, of all.
connecting() {
	local name
	for name in $(suites "$1"); do
		connects "$1" "$name" && echo "$name" || :
	done
}

# A server whose certificate has a key of this kind: rsa or ec.
serve_with_key() {
	server_stop
	if [ "$1" = ec ] && [ ! -e "$WORLD/tls/ec.pem" ]; then
		openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 \
		    -nodes -days 30 -subj /CN=mail.kpopd.test \
		    -keyout "$WORLD/tls/ec.key" -out "$WORLD/tls/ec.pem" \
		    2>/dev/null
	fi
	if [ "$1" = ec ]; then
		server_start -p -T immediate -c "$WORLD/tls/ec.pem" \
		    -K "$WORLD/tls/ec.key" "${@:2}"
	else
		server_start -p -T immediate $(tls_options) "${@:2}"
	fi
}

@test "of all cipher suites that the library has only those with forward secrecy and AEAD connect" {
	[ "$(suites tls1_2 | wc -l)" -gt 100 ]
	for key in rsa ec; do
		serve_with_key $key
		# Names of OpenSSL's table: key exchange, authentication,
		# encryption.
		[ $key = rsa ] && au=RSA || au=ECDSA
		diff <(suites tls1_2 "\$5 == \"Kx=ECDH\" && \$6 == \"Au=$au\" && \$7 ~ /^Enc=(AESGCM|CHACHA20)/") <(connecting tls1_2)
	done
	[ "$(connecting tls1_2 | wc -l)" -eq 3 ]
	diff <(printf '%s\n' TLS_AES_128_GCM_SHA256 TLS_AES_256_GCM_SHA384 \
	    TLS_CHACHA20_POLY1305_SHA256) <(connecting tls1_3)
}

@test "-C names cipher suites in OpenSSL's way, also those of old clients, of DHE, and of TLS 1.3" {
	serve_with_key rsa -C DEFAULT
	connects tls1_2 AES256-SHA256
	connects tls1_2 DHE-RSA-AES256-GCM-SHA384
	connects tls1_3 TLS_AES_256_GCM_SHA384
	connects tls1_2 ADH-AES256-GCM-SHA384 && return 1 || :
	serve_with_key rsa -C AES128-SHA,TLS_AES_128_CCM_SHA256
	[ "$(connecting tls1_2)" = AES128-SHA ]
	[ "$(connecting tls1_3)" = TLS_AES_128_CCM_SHA256 ]
	# What is said of one version leaves the other as it is.
	serve_with_key rsa -C TLS_CHACHA20_POLY1305_SHA256
	[ "$(connecting tls1_3)" = TLS_CHACHA20_POLY1305_SHA256 ]
	connects tls1_2 ECDHE-RSA-AES128-GCM-SHA256
	connects tls1_2 AES256-SHA256 && return 1 || :
}

@test "cipher suites that OpenSSL does not have are refused at the start, and nothing is served instead" {
	for list in NOSUCH ECDHE+AESGCM:NOSUCH 'ALL:!NOSUCH' ECDHE+NOSUCH \
	    TLS_NOSUCH TLS_AES_256_GCM_SHA384:TLS_AES_256_GCM_SHA \
	    @SECLEVEL=9:ALL ALL:@NOSUCH '!aNULL' '!NULL:!ALL' :; do
		for when in offer require immediate; do
			server_start -p -T $when $(tls_options) -C "$list"
			run wire 3 < <(printf '%s\r\n' CAPA "AUTH GSSAPI" QUIT)
			[ -z "$output" ] ||
			    { echo "$list $when: $output"; return 1; }
			log_has 'kpopd-tls\[[0-9]+\]: fatal .*error="-C: OpenSSL has no cipher suites '
			log_has "kpopd\\[[0-9]+\\]: fatal .*error=\"-C takes cipher suites that OpenSSL has, not "
			server_stop
		done
	done
	# Nor when a good list was there before, or the same certificate is
	# tried.
	server_start -p $(tls_options) -C ECDHE+AESGCM
	run s_client -starttls pop3 < <(printf 'QUIT\r\n')
	[[ $output == *"+OK bye"* ]]
	server_stop
	server_start -p $(tls_options) -C ECDHE+AESGCM:NOSUCH
	run wire 3 < <(printf '%s\r\n' CAPA QUIT)
	[ -z "$output" ]
	server_stop
	# By hand what is no list at all is said at once, and so is a list
	# without a certificate.
	for list in '' 'ALL"' "$(head -c 1000 /dev/zero | tr '\0' a)"; do
		run "$KPOPD_BUILD/kpopd" -C "$list" $(tls_options) </dev/null
		[ "$status" -eq 2 ]
		[[ $output == *"-C takes OpenSSL's cipher list"* ]]
	done
	run "$KPOPD_BUILD/kpopd" -C ALL </dev/null
	[ "$status" -eq 2 ]
	[[ $output == *"TLS needs a certificate"* ]]
}

# s_server OPTION ...: behind STLS on port 2110, a server of TLS with this
# certificate. It says what $words, a file, has, and ends.
s_server() {
	openssl s_server -quiet -accept 2111 -cert "$WORLD/tls/server.pem" \
	    -key "$WORLD/tls/server.key" "$@" 3>&- >/dev/null 2>&1 \
	    <"${words-/dev/null}" &
	front=$!
	printf '#!/bin/bash\nprintf "+OK\\r\\n"; read -r line; printf "+OK\\r\\n"; exec socat - TCP:127.0.0.1:2111\n' >"$WORLD/front"
	chmod 755 "$WORLD/front"
	socat TCP-LISTEN:2110,reuseaddr,fork EXEC:"$WORLD/front" 3>&- \
	    2>/dev/null &
	front="$front $!"
	await 5 'ss -Hltn sport = 2111 | grep -q . && ss -Hltn sport = 2110 | grep -q .'
}

@test "kpopc asks for as much: no older version, no suite without forward secrecy and AEAD" {
	for how in "-tls1_2 -cipher AES256-GCM-SHA384" \
	    "-tls1_2 -cipher ECDHE-RSA-AES256-SHA384" \
	    "-tls1_2 -cipher DHE-RSA-AES256-GCM-SHA384" \
	    "-tls1_1 -cipher ALL:@SECLEVEL=0" \
	    "-tls1_2 -cipher ECDHE-RSA-AES256-GCM-SHA384" "-tls1_3"; do
		s_server $how
		run timeout 20 "$KPOPD_BUILD/kpopc" -p --tls \
		    -C "$WORLD/tls/ca.pem" mail.kpopd.test 2110 </dev/null
		kill $front
		await 5 '! ss -Hltn sport = 2111 | grep -q . && ! ss -Hltn sport = 2110 | grep -q .'
		case $how in
		*ECDHE*GCM* | *1_3)
			[[ $output == *"+OK USER and PASS come next"* ]]
			;;
		*)
			[[ $status -eq 1 && $output == *"TLS: "* &&
			    $output != *"+OK"* ]]
			;;
		esac || { echo "$how: $status $output"; return 1; }
	done
}

@test "kpopc that ends leaves no process of its layers behind, whatever the server does" {
	mkfifo "$WORLD/words"
	exec {quiet}<>"$WORLD/words"
	words=$WORLD/words s_server -tls1_3
	"$KPOPD_BUILD/kpopc" -p --tls -C "$WORLD/tls/ca.pem" mail.kpopd.test \
	    2110 <&"$quiet" >"$WORLD/greeted" 2>&1 3>&- &
	client=$!
	await 5 'grep -q "USER and PASS" "$WORLD/greeted"'
	[ "$(pgrep -x kpopc | wc -l)" -eq 2 ]
	# Who takes nothing and says nothing any more.
	kill -STOP ${front% *}
	kill -KILL $client
	exec {quiet}>&-
	await 5 '! pgrep -x kpopc >/dev/null'
	kill -CONT ${front% *}
	kill $front
}

@test "a listener with cipher suites that OpenSSL does not have ends at its start" {
	run timeout 10 perl -MIO::Socket::INET -e '
		my $s = IO::Socket::INET->new(Listen => 5, LocalAddr => "127.0.0.1", LocalPort => 2112, ReuseAddr => 1) or die;
		open STDIN, "<&", $s or die; exec @ARGV' env ${SANITIZER-} \
	    "$KPOPD_BUILD/kpopd" -p -d "$state" -k "$WORLD/server.keytab" \
	    $(tls_options) -C NOSUCH
	[ "$status" -eq 2 ] || { echo "$status: $output"; return 1; }
	[ -z "$output" ]
	log_has 'kpopd\[[0-9]+\]: fatal .*error="-C takes cipher suites that OpenSSL has, not NOSUCH"'
}
