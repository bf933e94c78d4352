#!/usr/bin/env bats
# Checks TLS in kpopd and kpopc. TLS begins either by STLS, after the ticket and
# before AUTH, or with the first byte.

load helpers/all

setup_file() { tls_make; }

setup() {
	begin_test
	realm_login alice
	mbox one two | store alice
}

# fetch POLL [OPTION]: lets fetchmail poll once. The messages that it delivers
# are in $WORLD/got.
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

# recorded PORT: starts a relay that listens on this port and connects to the
# server. The relay writes the client's bytes to $WORLD/wire and the server's
# bytes to $WORLD/wire.back.
recorded() {
	socat -r "$WORLD/wire" -R "$WORLD/wire.back" TCP-LISTEN:"$1",reuseaddr \
	    TCP:127.0.0.1:1109 3>&- 2>/dev/null &
	await 5 "ss -Hltn sport = $1 | grep -q ."
}

@test "fetchmail with its defaults fetches by KPOP inside TLS, and no mail is on the wire in cleartext" {
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
	refute grep -aq 'Subject\|USER alice\|RETR\|line 1' "$WORLD/wire" \
	    "$WORLD/wire.back"
}

@test "a server with a certificate serves fetchmail without TLS (sslproto ''), and starts no kpopd-tls" {
	server_start $(tls_options)
	run fetch "poll mail.kpopd.test proto KPOP auth kerberos_v5" \
	    "sslproto ''"
	[ "$status" -eq 0 ] || { echo "$output"; return 1; }
	[ "$(grep -c '^Subject' "$WORLD/got")" -eq 2 ]
	log_has 'login .*layer=none '
	log_lacks 'kpopd-tls'
}

@test "curl logs in by STLS and AUTH GSSAPI in POP3 mode" {
	server_start -p $(tls_options)
	run timeout 10 curl -sS --ssl-reqd --cacert "$WORLD/tls/ca.pem" \
	    --login-options AUTH=GSSAPI -u alice@KPOPD.TEST: \
	    pop3://mail.kpopd.test:1109/2
	[ "$status" -eq 0 ] || { echo "$output"; return 1; }
	[[ $output == *"two line 3"* ]]
	log_has 'login .*layer=tls '
}

@test "curl logs in by pop3s if TLS begins with the first byte" {
	server_start -p -T immediate $(tls_options)
	run timeout 10 curl -sS --cacert "$WORLD/tls/ca.pem" \
	    --login-options AUTH=GSSAPI -u alice@KPOPD.TEST: \
	    pop3s://mail.kpopd.test:1109/1
	[ "$status" -eq 0 ] || { echo "$output"; return 1; }
	[[ $output == *"one line 3"* ]]
}

@test "inside TLS, STLS is neither listed nor obeyed, and kpopd-tls announces the end of the stream" {
	server_start -p $(tls_options)
	run s_client -ign_eof -starttls pop3 \
	    < <(printf '%s\r\n' CAPA STLS QUIT)
	[[ $output == \
	    *"SASL GSSAPI"*"-ERR TLS has begun already"*"+OK bye"* ]] ||
	    { echo "$output"; cat "$WORLD/s_client.err"; return 1; }
	[[ $output != *$'\nSTLS'* ]]
	refute grep -q 'unexpected eof' "$WORLD/s_client.err"
}

# renegotiate: connects with TLS 1.2, asks for a renegotiation, then sends
# "quit". Sets $output to what s_client prints. Without -quiet, s_client
# renegotiates at a line "R".
renegotiate() {
	mkfifo "$WORLD/renegotiate"
	exec {tick}<>"$WORLD/renegotiate"
	timeout 10 openssl s_client -starttls pop3 -tls1_2 \
	    -CAfile "$WORLD/tls/ca.pem" -connect mail.kpopd.test:1109 \
	    <&"$tick" >"$WORLD/renegotiated" 2>&1 3>&- &
	client=$!
	await 5 'grep -q "Verify return code" "$WORLD/renegotiated"'
	echo R >&"$tick"
	await 5 'grep -q RENEGOTIATING "$WORLD/renegotiated"'
	echo quit >&"$tick"
	wait "$client" || true
	exec {tick}>&-
	rm "$WORLD/renegotiate"
	output=$(<"$WORLD/renegotiated")
}

@test "kpopc --tls logs in by KPOP and POP3, and refuses a certificate of another authority or host" {
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
		# Without -C, kpopc does not trust the authority. The
		# certificate is not for 127.0.0.1.
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

@test "TLS 1.2 and 1.3 are accepted; older versions and renegotiation are refused" {
	server_start -p $(tls_options)
	for version in -tls1 -tls1_1; do
		run s_client -starttls pop3 -cipher 'ALL:@SECLEVEL=0' $version \
		    </dev/null
		[ "$status" -ne 0 ]
	done
	log_has 'refused .*reason="TLS handshake"'
	for version in -tls1_2 -tls1_3; do
		run s_client -ign_eof -starttls pop3 $version \
		    < <(printf 'QUIT\r\n')
		[[ $output == *"+OK bye"* ]] || {
			echo "$version: $output"
			cat "$WORLD/s_client.err"
			return 1
		}
	done
	renegotiate
	[[ $output == *RENEGOTIATING* && $output != *"+OK bye"* ]]
}

# bats test_tags=attack:2-16
@test "the log names a client's alert about the certificate, and describes other alerts with OpenSSL's text" {
	local alert name
	# Record the first message of a client that uses TLS 1.2, because alerts
	# after that message are not encrypted yet.
	socat -u TCP-LISTEN:2112,reuseaddr "OPEN:$WORLD/hello,creat,trunc" \
	    3>&- &
	await 5 'ss -Hltn sport = 2112 | grep -q .'
	timeout 5 openssl s_client -tls1_2 -connect 127.0.0.1:2112 </dev/null \
	    >/dev/null 2>&1 3>&- &
	await 5 '[ -s "$WORLD/hello" ]'
	kill %1 %2 2>/dev/null || true
	server_start -p -T immediate $(tls_options)
	while read -r alert name; do
		log_mark
		{
			cat "$WORLD/hello"
			printf \
			    "\\x15\\x03\\x03\\x00\\x02\\x02\\x$(printf %x \
				"$alert")"
		} | wire 30 >/dev/null
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
	# kpopd-tls is stopped, and reads the alert only after the connection
	# was reset.
	log_mark
	exec {peer}<>/dev/tcp/127.0.0.1/1109
	cat "$WORLD/hello" >&"$peer"
	head -c 5 <&"$peer" >/dev/null
	tls=$(jailed_in tls)
	kill -STOP $tls
	printf '\x15\x03\x03\x00\x02\x02\x30' >&"$peer"
	# The kernel sends a reset at this close, because the client has not
	# read all bytes from the server.
	exec {peer}>&-
	kill -CONT $tls
	log_has 'refused .*reason="the client does not take the certificate: unknown_ca"$'
	printf 'CAPA\r\nQUIT\r\n' | wire 30 >/dev/null
	log_has 'refused .*reason="cleartext, not TLS"$'
	log_mark
	printf 'GET / HTTP/1.1\r\n\r\n' | wire 30 >/dev/null
	log_has 'refused .*reason="cleartext, not TLS"$'
}

# after_stls TEXT [FILE]: sends the content of FILE and STLS, and waits for the
# answer. Then sends TEXT, which printf formats, in cleartext. Sets $output to
# all bytes that the server sends before it closes the connection.
after_stls() {
	rm -f "$WORLD/answers"
	exec {peer}<>/dev/tcp/127.0.0.1/1109
	timeout 10 cat <&"$peer" 2>/dev/null >"$WORLD/answers" 3>&- &
	reader=$!
	cat "${2-/dev/null}" - <<<$'STLS\r' >&"$peer"
	await 5 'grep -aqsE "begin TLS|ERR" "$WORLD/answers"'
	printf "$1" >&"$peer" 2>/dev/null || true
	wait "$reader" || true
	exec {peer}>&-
	output=$(tr -d '\0' <"$WORLD/answers")
}

# authority NAME: makes an authority that has not signed the server's
# certificate.
authority() {
	openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj "/CN=$1" \
	    -keyout "$WORLD/tls/$1.key" -out "$WORLD/tls/$1.pem" 2>/dev/null
}

# gives_up REASON COMMAND ...: runs a client that must not accept the
# certificate. Checks that the log has REASON.
gives_up() {
	log_mark
	run timeout 20 "${@:2}" </dev/null
	[ "$status" -ne 0 ] || { echo "$*: $output"; return 1; }
	log_has "refused .*reason=\"$1" || { echo "$*: $output"; return 1; }
	log_lacks ' login '
}

@test "the log says why a client rejects the certificate: unknown authority, expired, or another name" {
	authority other-ca
	openssl req -new -key "$WORLD/tls/server.key" \
	    -subj /CN=mail.kpopd.test -out "$WORLD/tls/old.csr" 2>/dev/null
	openssl x509 -req -in "$WORLD/tls/old.csr" -CA "$WORLD/tls/ca.pem" \
	    -CAkey "$WORLD/tls/ca.key" -CAcreateserial $(expired_dates) \
	    -extfile "$WORLD/tls/server.ext" -out "$WORLD/tls/old.pem" \
	    2>/dev/null
	unknown='the client does not take the certificate: unknown_ca"$'
	expired='the client does not take the certificate:'
	expired+=' certificate_expired"$'
	closed='closed after the handshake, as by a client that'
	closed+=' does not take the certificate"$'
	cat >"$WORLD/fetchmailrc" <<-END
	poll mail.kpopd.test proto KPOP auth kerberos_v5 user alice
		sslcertck sslcertfile $WORLD/tls/other-ca.pem mda cat
	END
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
	# mpop checks the certificate only after the handshake, and sends no
	# alert.
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

# alert_after HOW [COMMAND ...]: sends these commands inside TLS. HOW is the
# number of the alert that is sent then, or a text that is sent then in
# cleartext (tests/clients/alert.py).
alert_after() {
	{ versions; apreq pop/mail.kpopd.test | framed; } >"$WORLD/exchange"
	log_mark
	timeout 20 /usr/bin/python3 "$BATS_TEST_DIRNAME/clients/alert.py" \
	    "$1" "$WORLD/exchange" "${@:2}"
	log_has ' (logout|refused) .*(reason=lost|"no login: lost")'
}

# bats test_tags=attack:2-17
@test "a late alert about the certificate, or cleartext after the handshake, is not logged as a refusal's reason" {
	local how
	server_start $(tls_options)
	for how in 42 43 44 45 46 48 113 'USER alice' 'GET / HTTP/1.0' \
	    'CONNECT x:1 HTTP/1.0'; do
		alert_after "$how" "USER alice" "PASS x" STAT
		log_has ' login .*layer=tls '
		log_has 'failed peer=[^ ]* what="TLS" error="'
		log_lacks 'refused |does not take|cleartext'
		alert_after "$how" CAPA
		log_lacks 'does not take|cleartext'
		# Some clients check the certificate after the handshake, and
		# then send the alert.
		alert_after "$how"
		log_lacks 'cleartext'
		[ ${#how} -gt 3 ] ||
		    log_has 'refused .*reason="the client does not take the certificate: '
	done
}

@test "a client that ends TLS without a login is not logged as one that rejects the certificate" {
	server_start -p -t 8 -T immediate $(tls_options)
	# The client's input stays open, so the server ends the connection.
	exec {quiet}<> <(:)
	s_client <&"$quiet" >/dev/null || true
	exec {quiet}>&-
	log_has 'refused .*reason="no login: idle"$'
	s_client < <(printf 'NOOP\r\nQUIT\r\n') >/dev/null || true
	log_has 'refused .*reason="no login: left"$'
	wire </dev/null >/dev/null
	log_has 'closed .*reason="before the first byte"$'
	log_lacks 'certificate'
}

@test "bytes that arrive before the TLS handshake are not obeyed as commands after it" {
	server_start -p $(tls_options)
	run wire 30 < <(printf 'STLS\r\nCAPA\r\nQUIT\r\n')
	[[ $output == *"-ERR nothing may follow STLS"* &&
	    $output != *"capabilities"* ]]
	log_has 'refused .*reason="cleartext commands after STLS"$'
	log_count 1 refused
	# Send the commands again, but while kpopd-tls already waits for the
	# handshake.
	after_stls 'CAPA\r\nQUIT\r\n'
	[[ $output == *"+OK begin TLS"* && $output != *"capabilities"* &&
	    $output != *"bye"* ]]
	log_has 'refused .*reason="cleartext, not TLS"$'
}

@test "-T require refuses a login without TLS" {
	server_start -T require $(tls_options)
	run pop alice STAT QUIT
	[[ $output == *"-ERR [AUTH] STLS comes first"* &&
	    $output != *"+OK 2"* ]]
	log_has 'refused .*reason="login without TLS, which is required"$'
	server_stop
	server_start -p -T require $(tls_options)
	run wire 30 < <(printf '%s\r\n' CAPA "AUTH GSSAPI" QUIT)
	[[ $output == *STLS*"-ERR [AUTH] STLS comes first"* &&
	    $output != *SASL* ]]
	log_count 1 'refused .*reason="login without TLS, which is required"$'
	run fetch "poll mail.kpopd.test proto POP3 service 1109 auth gssapi"
	[ "$status" -eq 0 ] || { echo "$output"; return 1; }
	[ "$(grep -c '^Subject' "$WORLD/got")" -eq 2 ]
}

# stls_then TEXT: connects by KPOP or, if $how is -p, by POP3. Sends the text,
# which printf formats, and prints the answers.
stls_then() {
	{
		[ "$how" = -p ] || {
			versions
			apreq pop/mail.kpopd.test | framed
		}
		printf "$1"
	} | wire 30
}

@test "the log has a separate reason for a client that leaves because STLS is not offered" {
	local how
	server_start
	begin_replay_cache
	server_stop
	log_settle
	for how in -p ''; do
		server_start $how
		for rest in 'QUIT\r\n' '' 'CAPA\r\nQUIT\r\n'; do
			log_mark
			run stls_then "CAPA\r\nSTLS\r\n$rest"
			[[ $output == *"-ERR no TLS here"* ]]
			log_has 'refused .*reason="STLS, which is not offered"$'
			log_count 1 .
		done
		server_stop
	done
	# If the client continues without TLS, the login succeeds, and STLS is
	# not logged.
	server_start
	log_mark
	run pop alice STLS QUIT
	run kpopc mail.kpopd.test \
	    < <(printf '%s\r\n' STLS "USER alice" "PASS x" QUIT)
	[[ $output == *"-ERR no TLS here"*"+OK 2 messages"* ]]
	log_lacks 'refused|STLS'
}

@test "kpopd logs that the certificate or its key does not work, and offers TLS only while both work" {
	cp "$WORLD/tls/server.pem" "$WORLD/tls/tried.pem"
	openssl genrsa -out "$WORLD/tls/other.key" 2048 2>/dev/null
	cp "$WORLD/tls/other.key" "$WORLD/tls/tried.key"
	server_start -p -c "$WORLD/tls/tried.pem" -K "$WORLD/tls/tried.key"
	run wire 30 < <(printf '%s\r\n' CAPA STLS QUIT)
	[[ $output != *$'\nSTLS'* && $output == *"-ERR no TLS here"* ]]
	log_has 'kpopd-tls\[[0-9]+\]: failed .*the certificate.s key|key values mismatch'
	cp "$WORLD/tls/server.key" "$WORLD/tls/tried.key"
	run wire 30 < <(printf '%s\r\n' CAPA QUIT)
	[[ $output == *STLS* ]]
	rm "$WORLD/tls/tried.key"
	run wire 30 < <(printf '%s\r\n' CAPA QUIT)
	[[ $output != *STLS* && $output == *SASL* ]]
}

# pair NAME TYPE [PARAMETER]: makes a key (NAME.key, in PKCS #8), and a
# certificate that it signs (NAME.pem).
pair() {
	openssl genpkey -algorithm "$2" ${3+-pkeyopt "$3"} -out "$1.key" \
	    2>/dev/null
	openssl req -x509 -new -key "$1.key" -out "$1.pem" -days 30 \
	    -subj /CN=mail.kpopd.test
}

# works CERTIFICATE KEY: returns true if kpopd-tls can use these two files.
works() {
	env ${SANITIZER-} "$KPOPD_BUILD/kpopd-tls" "$@" ""
}

@test "kpopd-tls uses a key of each type, in each form of PEM, and finds it between other text" {
	cd "$WORLD/tls"
	pair rsa RSA
	pair pss RSA-PSS
	pair p256 EC ec_paramgen_curve:P-256
	pair p384 EC ec_paramgen_curve:P-384
	pair ed25519 ED25519
	for name in rsa pss p256 p384 ed25519; do
		works $name.pem $name.key
		cat $name.pem $name.key >all
		works all all
		{ openssl pkey -in $name.key -pubout; cat $name.key; } >two
		works $name.pem two
		{ echo text; sed 's/$/\r/' $name.key; echo text; } >text
		works $name.pem text
		refute works $name.pem server.key
	done
	for name in rsa p256; do
		openssl pkey -in $name.key -traditional -out old
		grep -q "BEGIN .* PRIVATE KEY" old
		works $name.pem old
	done
	openssl ecparam -name prime256v1 >parameters
	cat parameters old >after
	works p256.pem after
	openssl x509 -in rsa.pem -text >chain
	cat p384.pem ed25519.pem >>chain
	works chain rsa.key
	# A passphrase cannot be asked for.
	for how in "" -traditional; do
		openssl pkey -in rsa.key $how -aes128 -passout pass:x \
		    -out locked
		refute works rsa.pem locked </dev/null
	done
}

@test "a client that stops in the handshake is disconnected at the login deadline, and leaves no process" {
	server_start -p -t 8:60 $(tls_options)
	exec 9<>/dev/tcp/127.0.0.1/1109
	printf 'STLS\r\n' >&9
	while read -r -t 10 line <&9 && [[ $line != *"begin TLS"* ]]; do :; done
	[[ $line == *"begin TLS"* ]]
	printf '\x16\x03\x01\x02' >&9
	# The connection ends although the client does not close it.
	await 30 'no_kpopd'
	exec 9>&-
	log_has 'refused '
}

@test "a message of many TLS records, and commands of one byte a record, arrive whole" {
	{ from_line; printf 'Subject: large\n\n'; seq 200000; echo; } |
	    store alice
	server_start -p -T immediate $(tls_options)
	timeout 20 curl -sS --cacert "$WORLD/tls/ca.pem" \
	    --login-options AUTH=GSSAPI -u alice@KPOPD.TEST: \
	    pop3s://mail.kpopd.test:1109/1 |
	    tr -d '\r' | tail -n +3 | cmp - <(seq 200000)
	run s_client -ign_eof -max_send_frag 512 \
	    < <(printf 'CAPA\r\nQUIT\r\n' | trickle 0.1)
	[[ $output == *"SASL GSSAPI"*"+OK bye"* ]]
}

# bats test_tags=fault:17-2,promise:3
@test "only kpopd-tls has the TLS key and only the pre-auth process the service key; the session has neither" {
	# To read the memory of a build with sanitizers takes long.
	server_start -t 300 $(tls_options)
	pop_open --tls -C "$WORLD/tls/ca.pem"
	pop_hear '^\+OK'
	tls=$(jailed_in tls) preauth=$(jailed_in preauth)
	holds_key "$tls" tls_key_bytes
	holds_none "$tls"
	holds_key "$preauth"
	holds_none "$preauth" tls_key_bytes
	pop_ask "USER alice"
	pop_ask "PASS x"
	log_has 'login .*layer=tls'
	await 10 '! kill -0 "$preauth" 2>/dev/null'
	for pid in $(pgrep -x kpopd); do
		holds_none "$pid"
		holds_none "$pid" tls_key_bytes
	done
}

@test "kpopd-tls is killed for a forbidden system call, and the log names the call" {
	[ -z "${SANITIZER-}" ] || skip "built for sanitizers, without a sandbox"
	server_start $(tls_options)
	pop_open --tls -C "$WORLD/tls/ca.pem"
	pop_hear '^\+OK'
	captive "$(jailed_in tls)" "execve /bin/true 0 0"
	log_has 'kpopd\[[0-9]+\]: fatal .*kpopd-tls was ended for the system call execve"$'
}

@test "if kpopd-tls cannot run, a client gets -ERR at STLS, and no text if TLS must begin with the first byte" {
	server_start $(tls_options) -U nobody-by-this-name
	{ versions; apreq pop/mail.kpopd.test | framed; } >"$WORLD/exchange"
	run wire < <(cat "$WORLD/exchange"
	    printf '%s\r\n' STLS "USER alice" "PASS x" QUIT)
	[[ $output != *"messages"* ]]
	{ versions; apreq pop/mail.kpopd.test | framed; } >"$WORLD/exchange"
	after_stls 'USER alice\r\nPASS x\r\nQUIT\r\n' "$WORLD/exchange"
	[[ $output == *"-ERR [SYS/TEMP] TLS cannot be had now"* &&
	    $output != *"PASS comes"* ]] || { echo "$output"; return 1; }
	log_has 'refused .*reason="no login: TLS failed"$'
	log_lacks ' login '
	server_stop
	server_start -T immediate $(tls_options) -U nobody-by-this-name
	run openssl s_client -connect 127.0.0.1:1109 \
	    -CAfile "$WORLD/tls/ca.pem" </dev/null
	[[ $status -ne 0 && $output != *"BEGIN CERTIFICATE"* ]]
	log_has 'fatal .*the user [^ ]+ of kpopd-tls cannot be used'
	log_lacks ' login '
}

# inside_tls PORT: starts a relay on this port, which passes the connection to
# the server inside TLS. Sets $relay to its pid.
inside_tls() {
	local check=cafile=$WORLD/tls/ca.pem,commonname=mail.kpopd.test
	socat TCP-LISTEN:"$1",reuseaddr,fork "OPENSSL:127.0.0.1:1109,$check" \
	    3>&- 2>/dev/null &
	relay=$!
	await 5 "ss -Hltn sport = $1 | grep -q ."
}

@test "kpopd serves KPOP inside TLS if TLS must begin with the first byte, and refuses KPOP without TLS" {
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

# talk_bound CERTIFICATE [LAYER]: logs in by AUTH GSSAPI through port 2115. The
# channel bindings are those of a certificate with these bytes.
talk_bound() {
	local binding
	binding=$({
		printf tls-server-end-point:
		openssl dgst -sha256 -binary "$1"
	} | base64 -w 0)
	timeout 10 "$KPOPD_BUILD/tests/programs/gsstalk" "${2-1}" 65536 well \
	    alice 2115 "$binding"
}

@test "kpopd offers no layer with the right channel bindings, any layer without bindings, and refuses wrong bindings" {
	server_start -p -T immediate $(tls_options)
	inside_tls 2115
	local der=$WORLD/server.der
	openssl x509 -in "$WORLD/tls/server.crt" -outform DER >"$der"
	run talk_bound "$der"
	[[ $output == *"+OK 2 messages"* ]] || { echo "$output"; return 1; }
	run timeout 10 "$KPOPD_BUILD/tests/programs/gsstalk" 1 0 well alice 2115
	[[ $output == *"+OK 2 messages"* ]] || { echo "$output"; return 1; }
	log_lacks 'layer=tls\+'
	# kpopd offers no layer to a client that has bound the channel. It
	# offers a layer to a client without the binding, because that client's
	# TLS may end at an attacker, who has a second TLS connection to kpopd.
	run talk_bound "$der" 4
	[[ $output == *"-ERR [AUTH] not authenticated"* ]] ||
	    { echo "$output"; return 1; }
	log_has 'refused .*reason="GSSAPI: a layer that was not offered"'
	run timeout 10 "$KPOPD_BUILD/tests/programs/gsstalk" 4 65536 well \
	    alice 2115
	[[ $output == *"+OK 2 messages"*"+OK bye"* ]] ||
	    { echo "$output"; return 1; }
	log_has 'login .*layer=tls\+confidentiality '
	echo x >>"$der"
	run talk_bound "$der"
	kill $relay
	[[ $output == *"-ERR [AUTH] not authenticated"* ]] ||
	    { echo "$output"; return 1; }
	log_has 'refused .*reason="GSSAPI" error="Incorrect channel bindings were supplied"'
}

@test "kpopc gets all answers after the end of its input; a truncated TLS stream is an error" {
	server_start $(tls_options)
	run kpopc --tls -C "$WORLD/tls/ca.pem" mail.kpopd.test \
	    < <(printf '%s\r\n' "USER alice" "PASS x" "DELE 1" "RETR 2")
	[ "$status" -eq 0 ]
	[[ $output == *"message 1 deleted"*"two line 3"* ]] ||
	    { echo "$output"; return 1; }
	log_has 'logout .*reason=lost .*deleted=0'
	spool_is alice one two
	# If the connection ends before TLS has announced the end of the stream,
	# kpopc reports an error.
	pop_open --tls -C "$WORLD/tls/ca.pem"
	pop_hear '^\+OK'
	pop_ask "USER alice"
	pop_ask "PASS x"
	pop_ask STAT
	pkill -KILL -x kpopd-tls
	status=0
	wait "$pop_pid" || status=$?
	[ "$status" -eq 3 ]
	grep 'TLS: ' "$WORLD/kpopc.err"
}

# bats test_tags=promise:2
@test "kpopd-tls runs as its own user in an empty directory" {
	server_start -p $(tls_options)
	exec {tick}<> <(:)
	s_client -starttls pop3 <&"$tick" >/dev/null 3>&- &
	await 10 'pid=$(jailed_in tls) &&
	    [ "$(field "$pid" NoNewPrivs 2>/dev/null)" = 1 ]'
	uid=$(id -u kpopd-tls)
	grep -Pq "^Uid:\t$uid\t$uid\t$uid\t$uid\$" "/proc/$pid/status"
	grep -Pq '^CapEff:\t0+$' "/proc/$pid/status"
	grep -Pq '^NoNewPrivs:\t1$' "/proc/$pid/status"
	[ -n "${SANITIZER-}" ] || [ -z "$(ls -A "$state/tls")" ]
	[ "$(stat -c '%U %a' "$state/tls")" = "root 711" ]
	pkill -x openssl
	exec {tick}>&-
}

# chosen VERSION NAMES: offers these cipher suites, with colons between them.
# Prints the name of the suite with which the handshake succeeds. Returns false
# if it does not succeed.
chosen() {
	local how="-ciphersuites $2"
	[ "$1" = tls1_3 ] || how="-cipher $2:@SECLEVEL=0"
	timeout 20 openssl s_client -connect 127.0.0.1:1109 -"$1" $how \
	    </dev/null 2>/dev/null |
	    sed -n 's/.*Cipher is \([A-Z0-9_-]*\)$/\1/p' | grep .
}

# connects VERSION NAME: returns true if a handshake succeeds with only this
# cipher suite.
connects() {
	[ "$(chosen "$1" "$2")" = "$2" ]
}

# suites VERSION [AWK]: prints the names of the library's cipher suites. If AWK
# is given, prints only the suites for which the condition AWK is true.
suites() {
	local list=ALL:COMPLEMENTOFALL:@SECLEVEL=0 names
	if [ "$1" = tls1_3 ]; then
		names=TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256
		names+=:TLS_AES_128_GCM_SHA256:TLS_AES_128_CCM_SHA256
		names+=:TLS_AES_128_CCM_8_SHA256
		openssl ciphers -V -s -tls1_3 -ciphersuites $names "$list" |
		    awk "\$4 == \"TLSv1.3\" && (${2-1}) { print \$3 }"
	else
		openssl ciphers -V "$list" |
		    awk "\$4 != \"TLSv1.3\" && (${2-1}) { print \$3 }"
	fi | sort
}

# connecting VERSION: prints the names of the suites with which a handshake
# succeeds. The client first offers all suites. It then repeatedly offers all
# suites that the server has not chosen yet, until the server accepts none.
connecting() {
	local left name
	left=$(suites "$1")
	while name=$(chosen "$1" "${left//$'\n'/:}"); do
		echo "$name"
		left=$(grep -Fvx -- "$name" <<<"$left") || break
	done | sort
}

# serve_with_key rsa|ec [KPOPD-OPTION ...]: starts a server whose certificate
# has a key of this kind.
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

@test "only the library's cipher suites with forward secrecy and AEAD connect" {
	[ "$(suites tls1_2 | wc -l)" -gt 100 ]
	for key in rsa ec; do
		serve_with_key $key
		# Columns 5 to 7 are key exchange, authentication and
		# encryption.
		[ $key = rsa ] && au=RSA || au=ECDSA
		diff <(suites tls1_2 "\$5 == \"Kx=ECDH\" && \$6 == \"Au=$au\" && \$7 ~ /^Enc=(AESGCM|CHACHA20)/") <(connecting tls1_2)
	done
	[ "$(connecting tls1_2 | wc -l)" -eq 3 ]
	diff <(printf '%s\n' TLS_AES_128_GCM_SHA256 TLS_AES_256_GCM_SHA384 \
	    TLS_CHACHA20_POLY1305_SHA256) <(connecting tls1_3)
}

@test "-C accepts a cipher list of OpenSSL that names suites of old clients, suites with DHE, or suites of TLS 1.3" {
	serve_with_key rsa -C DEFAULT
	connects tls1_2 AES256-SHA256
	connects tls1_2 DHE-RSA-AES256-GCM-SHA384
	connects tls1_3 TLS_AES_256_GCM_SHA384
	refute connects tls1_2 ADH-AES256-GCM-SHA384
	serve_with_key rsa -C AES128-SHA,TLS_AES_128_CCM_SHA256
	[ "$(connecting tls1_2)" = AES128-SHA ]
	[ "$(connecting tls1_3)" = TLS_AES_128_CCM_SHA256 ]
	# A list for one version does not change the other.
	serve_with_key rsa -C TLS_CHACHA20_POLY1305_SHA256
	[ "$(connecting tls1_3)" = TLS_CHACHA20_POLY1305_SHA256 ]
	connects tls1_2 ECDHE-RSA-AES128-GCM-SHA256
	refute connects tls1_2 AES256-SHA256
}

# openssl_conf SETTING: writes an openssl.cnf with this setting for all programs
# with TLS. Clients that the test starts ignore the file.
openssl_conf() {
	printf '%s\n' 'openssl_conf = all' '[all]' 'ssl_conf = ssl' '[ssl]' \
	    'system_default = settings' '[settings]' "$1" \
	    >/etc/ssl/openssl.cnf
	export OPENSSL_CONF=/dev/null
}

@test "kpopd-tls obeys the settings in openssl.cnf" {
	cp /etc/ssl/openssl.cnf "$WORLD/openssl.cnf"
	openssl_conf 'MaxProtocol = TLSv1.2'
	serve_with_key rsa
	connects tls1_2 ECDHE-RSA-AES128-GCM-SHA256
	refute connects tls1_3 TLS_AES_128_GCM_SHA256
	openssl_conf 'MinProtocol = TLSv1.3'
	refute connects tls1_2 ECDHE-RSA-AES128-GCM-SHA256
	connects tls1_3 TLS_AES_128_GCM_SHA256
	cp "$WORLD/openssl.cnf" /etc/ssl/openssl.cnf
	connects tls1_2 ECDHE-RSA-AES128-GCM-SHA256
}

@test "kpopd refuses to start with cipher suites that OpenSSL does not have, and serves nothing" {
	for list in NOSUCH ECDHE+AESGCM:NOSUCH 'ALL:!NOSUCH' ECDHE+NOSUCH \
	    TLS_NOSUCH TLS_AES_256_GCM_SHA384:TLS_AES_256_GCM_SHA \
	    @SECLEVEL=9:ALL ALL:@NOSUCH '!aNULL' '!NULL:!ALL' :; do
		later="-ERR [SYS/TEMP] the server cannot serve now, "
		later+=$'try again later\r'
		for when in offer require immediate; do
			server_start -p -T $when $(tls_options) -C "$list"
			run wire 30 < <(printf '%s\r\n' CAPA "AUTH GSSAPI" QUIT)
			[ $when != immediate ] || later=
			[ "$output" = "$later" ] ||
			    { echo "$list $when: $output"; return 1; }
			log_has 'kpopd-tls\[[0-9]+\]: fatal .*error="-C: OpenSSL has no cipher suites '
			log_has "kpopd\\[[0-9]+\\]: fatal .*error=\"-C takes cipher suites that OpenSSL has, not "
			server_stop
		done
	done
	# The refusal is the same after a server has run with a good list and
	# this certificate.
	server_start -p $(tls_options) -C ECDHE+AESGCM
	run s_client -starttls pop3 < <(printf 'QUIT\r\n')
	[[ $output == *"+OK bye"* ]]
	server_stop
	server_start -p $(tls_options) -C ECDHE+AESGCM:NOSUCH
	run wire 30 < <(printf '%s\r\n' CAPA QUIT)
	[[ $output == "-ERR [SYS/TEMP] "* ]]
	server_stop
	# If the argument cannot be a list, or there is no certificate, kpopd
	# exits at once with an error.
	for list in '' 'ALL"' "$(head -c 1000 /dev/zero | tr '\0' a)"; do
		run "$KPOPD_BUILD/kpopd" -C "$list" $(tls_options) </dev/null
		[ "$status" -eq 2 ]
		[[ $output == *"-C takes OpenSSL's cipher list"* ]]
	done
	run "$KPOPD_BUILD/kpopd" -C ALL </dev/null
	[ "$status" -eq 2 ]
	[[ $output == *"-C needs a certificate"* ]]
}

# listens PORT: returns true if a process listens on the port.
listens() {
	ss -Hltn sport = "$1" | grep -q .
}

# s_server OPTION ...: starts a server on port 2110 that begins TLS after STLS.
# The server sends the content of the file $server_input, and ends. Sets $front
# to the pids of the two processes.
s_server() {
	openssl s_server -quiet -accept 2111 -cert "$WORLD/tls/server.pem" \
	    -key "$WORLD/tls/server.key" "$@" 3>&- >/dev/null 2>&1 \
	    <"${server_input-/dev/null}" &
	front=$!
	make_stls_front
	socat TCP-LISTEN:2110,reuseaddr,fork EXEC:"$WORLD/front" 3>&- \
	    2>/dev/null &
	front="$front $!"
	await 5 'listens 2111 && listens 2110'
}

@test "kpopc refuses TLS before 1.2, and cipher suites without forward secrecy and AEAD" {
	for how in "-tls1_2 -cipher AES256-GCM-SHA384" \
	    "-tls1_2 -cipher ECDHE-RSA-AES256-SHA384" \
	    "-tls1_2 -cipher DHE-RSA-AES256-GCM-SHA384" \
	    "-tls1_1 -cipher ALL:@SECLEVEL=0" \
	    "-tls1_2 -cipher ECDHE-RSA-AES256-GCM-SHA384" "-tls1_3"; do
		s_server $how
		run timeout 20 "$KPOPD_BUILD/kpopc" -p --tls \
		    -C "$WORLD/tls/ca.pem" mail.kpopd.test 2110 </dev/null
		kill $front
		await 5 '! listens 2111 && ! listens 2110'
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

@test "a killed kpopc leaves no process of its TLS layer, even if the server hangs" {
	mkfifo "$WORLD/server_input"
	exec {quiet}<>"$WORLD/server_input"
	server_input=$WORLD/server_input s_server -tls1_3
	"$KPOPD_BUILD/kpopc" -p --tls -C "$WORLD/tls/ca.pem" mail.kpopd.test \
	    2110 <&"$quiet" >"$WORLD/greeted" 2>&1 3>&- &
	client=$!
	await 5 'grep -q "USER and PASS" "$WORLD/greeted"'
	[ "$(pgrep -x kpopc | wc -l)" -eq 2 ]
	# From now on the server neither reads nor sends.
	kill -STOP ${front% *}
	kill -KILL $client
	exec {quiet}>&-
	await 5 '! pgrep -x kpopc >/dev/null'
	kill -CONT ${front% *}
	kill $front
}

@test "a listener refuses to start with cipher suites that OpenSSL does not have" {
	run timeout 60 perl -MIO::Socket::INET -e '
	    my $s = IO::Socket::INET->new(Listen => 5, ReuseAddr => 1,
		LocalAddr => "127.0.0.1", LocalPort => 2112) or die;
	    open STDIN, "<&", $s or die;
	    exec @ARGV' env ${SANITIZER-} \
	    "$KPOPD_BUILD/kpopd" -p -d "$state" -k "$WORLD/server.keytab" \
	    $(tls_options) -C NOSUCH
	[ "$status" -eq 2 ] || { echo "$status: $output"; return 1; }
	[ -z "$output" ]
	log_has 'kpopd\[[0-9]+\]: fatal .*error="-C takes cipher suites that OpenSSL has, not NOSUCH"'
}
