#!/usr/bin/env bats
# Checks AUTH GSSAPI and its layers in POP3 mode (-p), also with real clients.

load helpers/all

setup_file() { server_start -p; }

setup() {
	begin_test
	realm_login alice
	mbox one two | store alice
}

# pop3test LEAST MOST USER: runs a session with Cyrus' client. The layer must
# have a strength of LEAST to MOST bits.
pop3test() {
	printf '%s\n' STAT "RETR 2" "DELE 1" QUIT |
	    timeout 20 /usr/lib/cyrus/bin/pop3test -m GSSAPI -k "$1" -l "$2" \
		-p 1109 -u "$3" -a alice mail.kpopd.test 2>&1
}

@test "Cyrus' client has a session without a layer, with integrity and with confidentiality" {
	local aes=aes256-cts-hmac-sha1-96
	for layer in "0 0 none" "1 56 integrity" "57 256 confidentiality"; do
		set -- $layer
		mbox one two | store alice
		run pop3test "$1" "$2" alice
		[[ $output == *"+OK 2 messages"*"+OK 2 410"*"two line 3"* &&
		    $output == *"two line 3"*"+OK message 1 deleted"* ]] ||
		    { echo "$output"; return 1; }
		log_has "login .*principal=alice@KPOPD.TEST .*ticket=$aes session=$aes .*mutual=yes .*layer=$3 "
		kpopd_ends 5
		spool_is alice two
	done
}

# dialogue [KPOPC-OPTION ...]: runs a session through kpopc -p with these
# options.
dialogue() {
	printf '%s\r\n' CAPA "USER alice" "PASS x" STAT "RETR 1" QUIT |
	    kpopc -p "$@" mail.kpopd.test 1109 | tr -d '\r'
	return "${PIPESTATUS[1]}"
}

@test "kpopc -p logs in by AUTH GSSAPI in place of USER and PASS, and encrypts the session" {
	run dialogue
	[ "$status" -eq 0 ] || { echo "$output"; return 1; }
	[[ $output == \
	    *USER*"+OK 2 messages"*"one line 3"*"+OK bye, 2 messages left" ]] ||
	    { echo "$output"; return 1; }
	log_has 'login .*user=alice .*layer=confidentiality '
}

@test "kpopc -p gets a ticket from a keytab, reports a refused login, and fails without a ticket" {
	realm_logout
	run dialogue -k "$WORLD/keytabs/alice.keytab"
	[[ $output == *"+OK 2 messages"* ]] || { echo "$output"; return 1; }
	run dialogue -k "$WORLD/keytabs/bob.keytab"
	[[ $output == \
	    *"-ERR [AUTH] this ticket does not open that mailbox"* ]] ||
	    { echo "$output"; return 1; }
	run dialogue
	[ "$status" -eq 1 ]
	[[ $output == *"no tickets"* || $output == *"ticket"* ]] ||
	    { echo "$output"; return 1; }
}

@test "the pre-auth process's copy of krb5.conf contains each file that KRB5_CONFIG names" {
	# The second section needs quotation marks and contains subsections.
	cat >"$WORLD/strict.conf" <<-'END'
	[libdefaults]
		permitted_enctypes = aes128-cts-hmac-sha256-128
	[appdefaults]
		kpopd-test = {
			inner = {
				word = " a \"b\" \\ \t"
				word = ""
			}
		}
	END
	server_stop
	server_env="KRB5_CONFIG=/etc/krb5.conf:$WORLD/strict.conf" \
	    server_start -p
	run dialogue
	copy=$(cat "$state/preauth/krb5.conf")
	log_has 'refused .*reason="GSSAPI" error=".*enctype aes256-cts'
	[[ $output == *"-ERR [AUTH] not authenticated"* ]] ||
	    { echo "$output"; return 1; }
	[[ $copy == *'word = " a \"b\" \\ \t"'*'word = ""'* ]] ||
	    { echo "$copy"; return 1; }
	server_stop
	server_start -p
	run dialogue
	[[ $output == *"+OK 2 messages"* ]]
}

@test "kpopd sends a large message byte for byte through each layer" {
	{ from_line; printf 'Subject: large\n\n'; seq 300000; echo; } |
	    store alice
	printf '%s\r\n' "USER alice" "PASS x" "RETR 1" QUIT |
	    kpopc -p mail.kpopd.test 1109 | tr -d '\r' | sed '1,6d' |
	    head -n -2 | cmp - <(seq 300000)
	exec {silent}<> <(:)
	for layer in "0 0" "1 56" "57 256"; do
		# At the end of its input, pop3test exits and discards unread
		# answers. So the test keeps this input open until the session
		# ends.
		printf '%s\n' "RETR 1" QUIT >&"$silent"
		timeout 30 /usr/lib/cyrus/bin/pop3test -m GSSAPI \
		    -k ${layer% *} -l ${layer#* } -p 1109 -a alice \
		    mail.kpopd.test <&"$silent" 2>&1 |
		    tr -d '\r' | grep -x '[0-9][0-9]*' | cmp - <(seq 300000)
	done
	exec {silent}>&-
}

# gsstalk ARGUMENT ...: runs tests/programs/gsstalk.c.
gsstalk() {
	timeout 20 "$KPOPD_BUILD/tests/programs/gsstalk" "$@"
}

# bats test_tags=promise:1
@test "kpopd ends the session and removes nothing at a wrong, repeated, missing, long or cleartext token" {
	for layer in 2 4; do
		for how in flip replay short zero huge large clear skip none; do
			# The case "clear" omits encryption, which the integrity
			# layer does not have.
			[ $layer$how != 2clear ] || continue
			run gsstalk $layer 65536 $how
			[[ $output == \
			    *"+OK 2 messages"*"+OK message 1 deleted"* &&
			    $output != *bye* ]] ||
			    { echo "$layer $how: $output"; return 1; }
			log_has 'logout .*reason=lost .*deleted=0'
			[ "$how" = short ] || log_has 'failed .*what="a token '
			kpopd_ends 5
			spool_is alice one two
			log_mark
		done
	done
}

@test "kpopd refuses a request for an unknown layer, and for tokens that are too small for a layer" {
	for request in "0 0" "3 65536" "8 65536" "4 10" "2 0"; do
		run gsstalk $request well
		[ "$status" -eq 1 ]
		[[ $output == *"-ERR [AUTH] not authenticated"* ]] ||
		    { echo "$request: $output"; return 1; }
	done
	log_has 'refused .*reason="GSSAPI: a layer that was not offered"'
	log_has 'refused .*reason="GSSAPI: the client accepts only tokens too small for a layer"'
	spool_is alice one two
}

@test "kpopd sends no token larger than the client accepts" {
	{
		mbox one
		from_line
		printf 'Subject: large\n\n'
		seq 30000
		echo
	} >"$WORLD/large.mbox"
	# 76 bytes are the least with encryption.
	for most in 76 100 1024 5000 65535; do
		for layer in 2 4; do
			store alice <"$WORLD/large.mbox"
			gsstalk $layer $most well >"$WORLD/out"
			[ "$(sed -n 's/^largest token: //p' "$WORLD/out")" \
			    -le $most ]
			tr -d '\r' <"$WORLD/out" | grep -x '[0-9][0-9]*' |
			    cmp - <(seq 30000)
			grep -q '+OK bye, 1' "$WORLD/out"
		done
	done
}

@test "only the pre-auth user may read the jails' copies of krb5.conf, which follow its changes" {
	gsstalk 1 0 well
	gsstalk 4 65536 well
	for jail in preauth relay; do
		[ "$(stat -c '%U %G %a' "$state/$jail/krb5.conf")" = \
		    "root kpopd 640" ]
	done
	cp /etc/krb5.conf "$WORLD/krb5.conf.kept"
	sed -i 's/^\[libdefaults\]/&\n\tclockskew = 299/' /etc/krb5.conf
	run gsstalk 4 65536 well
	cp "$WORLD/krb5.conf.kept" /etc/krb5.conf
	[[ $output == *"+OK bye"* ]] || { echo "$output"; return 1; }
	grep -q 'clockskew = "299"' "$state/preauth/krb5.conf"
	grep -q 'clockskew = "299"' "$state/relay/krb5.conf"
}

@test "kpopd -p serves after the pre-auth user was made again with another group, or the copy of krb5.conf was changed" {
	gsstalk 4 65536 well
	for change in "chgrp nogroup" "chown nobody" "chmod 600" "chmod 666"; do
		for jail in preauth relay; do
			$change "$state/$jail/krb5.conf"
		done
		run gsstalk 4 65536 well
		[[ $output == *"+OK bye"* ]] ||
		    { echo "$change: $output"; return 1; }
		for jail in preauth relay; do
			[ "$(stat -c '%U %G %a' "$state/$jail/krb5.conf")" = \
			    "root kpopd 640" ]
		done
	done
}

@test "kpopd refuses AUTH and logs the reason if it cannot copy krb5.conf into the jail" {
	gsstalk 4 65536 well
	rm -f "$state/preauth/krb5.conf"
	mkdir "$state/preauth/krb5.conf"
	run wire 30 < <(printf 'AUTH GSSAPI\r\nQUIT\r\n')
	rmdir "$state/preauth/krb5.conf"
	[[ $output == *"-ERR [SYS/PERM] the server has no Kerberos key"* ]] ||
	    { echo "$output"; return 1; }
	log_has 'failed .*what="copying krb5.conf to [^"]+/preauth/krb5.conf" error="'
	[ -z "$(find "$state/preauth" -name "krb5.conf*")" ]
	mbox one two | store alice
	run gsstalk 4 65536 well
	[[ $output == *"+OK bye"* ]]
}

@test "kpopd refuses a recorded AUTH that is sent again" {
	rm -f "$WORLD/recorded"
	socat -r "$WORLD/recorded" TCP-LISTEN:2113,reuseaddr \
	    TCP:127.0.0.1:1109 3>&- 2>/dev/null &
	await 5 'ss -Hltn sport = 2113 | grep -q .'
	run timeout 10 curl -sS --login-options AUTH=GSSAPI \
	    -u alice@KPOPD.TEST: \
	    --connect-to mail.kpopd.test:110:127.0.0.1:2113 \
	    pop3://mail.kpopd.test:110/1
	[ "$status" -eq 0 ] || { echo "$output"; return 1; }
	run wire 30 <"$WORLD/recorded"
	[[ $output == *"-ERR [AUTH] not authenticated"* &&
	    $output != *"+OK 2 messages"* ]]
	log_has 'refused .*reason="GSSAPI" error="Request is a replay"'
}

# bats test_tags=fault:17-3,promise:3
@test "the pre-auth process has the service's key, and no other process of the session has it" {
	exec {silent}<> <(:)
	"$KPOPD_BUILD/kpopc" -p mail.kpopd.test 1109 <&"$silent" >/dev/null \
	    2>&1 3>&- &
	client=$!
	await 5 '[ -n "$(jailed_in preauth)" ]'
	await 5 'holds_key "$(jailed_in preauth)"'
	kill $client
	kpopd_ends 5
	exec {commands}<> <(:)
	printf '%s\n' STAT >&"$commands"
	timeout 300 /usr/lib/cyrus/bin/pop3test -m GSSAPI -k 57 -l 256 -p 1109 \
	    -a alice mail.kpopd.test <&"$commands" >/dev/null 2>&1 3>&- &
	client=$!
	log_has 'login .*layer=confidentiality'
	relay=$(jailed_in relay)
	grep -Pq '^CapEff:\t0+$' "/proc/$relay/status"
	grep -Pq "^Uid:\t$(id -u kpopd)\t" "/proc/$relay/status"
	# The four processes are the relay, the session, the broker and the
	# monitor.
	await 5 '[ "$(pgrep -x kpopd | wc -l)" -eq 4 ] &&
	    [ -z "$(jailed_in preauth)" ]'
	for pid in $(pgrep -x kpopd); do
		holds_none "$pid"
	done
	kill "$client"
	exec {silent}>&- {commands}>&-
}

@test "kpopd logs clients in despite files that crashed processes with the same pids left in the jails" {
	local pid next
	dialogue >/dev/null
	# The processes of the next connections will have these pids.
	next=$(sh -c 'echo $$')
	rm -f "$state/preauth/krb5.conf"
	for ((pid = next; pid < next + 400; pid++)); do
		: >"$state/relay/$pid"
		: >"$state/preauth/krb5.conf.$pid"
	done
	log_mark
	run dialogue
	[[ $output == *"+OK 2 messages"* ]] || { echo "$output"; return 1; }
	log_has 'login .*layer=confidentiality'
	log_lacks 'fatal|failed'
	# kpopd has replaced the files whose names contain the pids of its
	# processes.
	[ "$(ls "$state/relay" | grep -vxc run)" -eq 400 ]
	[ "$(ls "$state/preauth" | grep -c krb5.conf)" -eq 400 ]
	find "$state/relay" "$state/preauth" -maxdepth 1 -size 0 \
	    -name '*[0-9]' -delete
}

# bats test_tags=promise:1
@test "kpopd -p refuses passwords and other mechanisms, and CAPA lists SASL GSSAPI without USER" {
	run wire \
	    < <(printf '%s\r\n' CAPA "USER alice" "PASS x" "APOP alice x" QUIT)
	[[ $output == *"SASL GSSAPI"*"-ERR [AUTH]"*"+OK bye"* ]]
	[ "$(grep -cF -- '-ERR [AUTH]' <<<"$output")" -eq 3 ]
	[[ $output != *$'\nUSER'* ]]
	log_has 'refused .*reason="login by password, and only AUTH GSSAPI is served"$'
	log_mark
	run wire < <(printf '%s\r\n' "AUTH PLAIN" QUIT)
	log_has 'refused .*reason="AUTH by another mechanism than GSSAPI"$'
	log_count 1 .
	# If the client uses AUTH GSSAPI after an attempt with a password, the
	# log does not name that attempt.
	log_mark
	printf '%s\r\n' "USER alice" "AUTH GSSAPI" '*' NOOP QUIT |
	    wire >/dev/null
	log_has 'refused .*reason="no login: left"$'
}


# bats test_tags=catalogue:29-3
@test "kpopd -p logs which other protocol a client speaks in place of POP3" {
	local reason text
	spool_keep
	while IFS="|" read -r reason text; do
		log_mark
		printf "$text" | wire >/dev/null
		log_has \
		    "refused peer=127\\.0\\.0\\.1:[0-9]+ reason=\"$reason\"\$"
		log_count 1 refused
	done <<-'END'
		TLS client|\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03
		TLS client|\x16\x03\x01\x00\n\x01\x00\x01\xfc\n\x03
		KPOP client|\x00\x00\x00\x13KRB5_SENDAUTH_V1.0\x00\x00\x00\x00\x09KPOPV1.0\x00
		KPOP client|\x00\x00\x00\x13KRB5_SENDAUTH_V1.0\x00\x00\x00\x00\x09KPOPV1.0\x00QUIT\r\n
		HTTP client|GET / HTTP/1.1\r\nHost: x\r\n\r\n
		SMTP client|EHLO x\r\nQUIT\r\n
		SSH client|SSH-2.0-x\r\n
		PROXY header where none is taken|PROXY TCP4 192.0.2.7 192.0.2.1 1 2\r\nCAPA\r\nQUIT\r\n
		PROXY header where none is taken|\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\x7f\x00\x00\x01\x7f\x00\x00\x01\x00\x01\x00\x02CAPA\r\n
		no login: left|\r\n\r\nQUIT\n
		no login: lost|DELETE / HTTP/1.1\r\nHost: x\r\n\r\n
		no login: lost|NOOP\r\nGET / HTTP/1.1\r\n
		no login: left|QUIT\r\n
		no login: lost|\x16\x02\n
	END
}

@test "kpopd -p logs that kpopc and fetchmail speak KPOP to it" {
	run kpopc mail.kpopd.test 1109 </dev/null
	[ "$status" -ne 0 ]
	log_has 'refused .*reason="KPOP client"$'
	log_mark
	cat >"$WORLD/fetchmailrc" <<-'END'
	poll mail.kpopd.test proto KPOP auth kerberos_v5
	user alice sslproto "" mda cat
	END
	chmod 600 "$WORLD/fetchmailrc"
	run timeout 20 fetchmail --nodetach --nosyslog -f "$WORLD/fetchmailrc" \
	    --pidfile "$WORLD/fetchmail.pid"
	[ "$status" -ne 0 ]
	log_has 'refused .*reason="KPOP client"$'
}

@test "AUTH GSSAPI accepts an initial response in its line; other commands keep the limit of 255 bytes" {
	run gsstalk 1 0 initial
	[[ $output == "+OK 2 messages"* ]] || { echo "$output"; return 1; }
	run wire < <(printf 'NOOP %0300d\r\nQUIT\r\n' 1)
	[[ $output == *"-ERR line too long"*"+OK bye"* ]]
	run wire \
	    < <(printf '%s\r\n' "AUTH GSSAPI =" '*' "AUTH GSSAPI YQ==" QUIT)
	[[ $output == \
	    *"+ "*"-ERR cancelled"*"-ERR [AUTH] not authenticated"*"+OK bye"* ]]
}

@test "a server without a key for its service neither lists nor accepts AUTH GSSAPI" {
	server_stop
	server_start -p -s pop/nowhere.test@KPOPD.TEST
	run wire < <(printf '%s\r\n' CAPA "AUTH GSSAPI" QUIT)
	[[ $output != *SASL* &&
	    $output == *"-ERR [SYS/PERM] the server has no Kerberos key"* ]]
}

# base64_line N: prints N bytes of base64.
base64_line() {
	head -c "$1" /dev/zero | tr '\0' A
}

# bats test_tags=catalogue:26-2
@test "kpopd refuses a token over the limit, and logs its size and no byte of it" {
	# The limit is 65,536 bytes. kpopd decodes the first line, which is only
	# a little longer than the limit, and does not decode the other lines.
	for size in 87384 87388 100000 2000000; do
		bytes=$((size / 4 * 3))
		# The token is in a separate line, or in the line of AUTH
		# GSSAPI.
		for how in alone initial; do
			log_mark
			{
				printf 'AUTH GSSAPI'
				[ $how = alone ] && printf '\r\n' || printf ' '
				base64_line $size
				printf '\r\nQUIT\r\n'
			} | wire >"$WORLD/answer"
			[ "$(grep -c -- "^-ERR the token is too large"$'\r' \
			    "$WORLD/answer")" -eq 1 ] ||
			    { cat "$WORLD/answer"; return 1; }
			tail -n 1 "$WORLD/answer" | grep -q '^+OK bye'
			log_count 1 "refused peer=[^ ]* reason=\"GSSAPI token of $bytes bytes\""
			log_lacks AAAA
			kpopd_ends 5
		done
	done
	# GSSAPI refuses the token that is exactly as long as the limit. This
	# refusal counts as an attempt, and the two other refusals count as
	# well. Three attempts end the connection.
	{
		printf 'AUTH GSSAPI '
		base64_line 87380
		printf '\r\nAUTH GSSAPI '
		base64_line 90000
		printf '\r\nAUTH GSSAPI '
		base64_line 90000
		printf '\r\nQUIT\r\n'
	} | wire >"$WORLD/answer"
	[ "$(grep -c '^-ERR' "$WORLD/answer")" -eq 3 ] ||
	    { cat "$WORLD/answer"; return 1; }
	refute grep '+OK bye' "$WORLD/answer"
	log_has 'refused .*reason="GSSAPI: not a first token of Kerberos"'
}

# bats test_tags=catalogue:26-3
@test "kpopd logs that a client cancels AUTH, or sends a line that is not base64" {
	run wire < <(printf '%s\r\n' "AUTH GSSAPI" '*' "AUTH GSSAPI" '!!!' \
	    "AUTH GSSAPI !!!" QUIT)
	log_count 1 'refused .*reason="GSSAPI: cancelled by the client"'
	log_count 2 'refused .*reason="GSSAPI: not base64"'
}

@test "kpopc -p with a ticket that is too large prints the server's refusal and exits with 1" {
	local expected="kpopc: the server answered: -ERR the token is too large"
	# A KDC of Active Directory makes large tickets for members of many
	# groups.
	for size in 60000 66000 90000; do
		realm_login alice
		head -c $size /dev/urandom >"$WORLD/groups"
		"$KPOPD_BUILD/tests/programs/apreq" -e "64:$WORLD/groups" \
		    pop/mail.kpopd.test@KPOPD.TEST | wc -c
		log_mark
		status=0
		printf '%s\r\n' "USER alice" "PASS x" STAT QUIT |
		    timeout 20 "$KPOPD_BUILD/kpopc" -p mail.kpopd.test 1109 \
			>"$WORLD/answer" 2>"$WORLD/errors" || status=$?
		[ $size != 60000 ] || {
			grep -q '^+OK 2 messages' "$WORLD/answer" ||
			    { cat "$WORLD/answer" "$WORLD/errors"; return 1; }
			continue
		}
		[ $status -eq 1 ] || {
			echo $status
			cat "$WORLD/answer" "$WORLD/errors"
			return 1
		}
		[ "$(tail -n 1 "$WORLD/answer" | tr -d '\r')" = \
		    "-ERR the token is too large" ] &&
		    [ "$(cat "$WORLD/errors")" = "$expected" ] ||
		    { cat "$WORLD/answer" "$WORLD/errors"; return 1; }
		log_has 'refused .*reason="GSSAPI token of [0-9]{5,6} bytes"'
	done
}

# bats test_tags=promise:1
@test "AUTH GSSAPI does not open another user's mailbox" {
	mbox three | store bob
	run pop3test 0 0 bob
	[[ $output != *"+OK 1 "* && $output != *three* ]]
	log_has 'refused .*reason="not permitted to be this user" user=bob principal=alice@KPOPD.TEST'
	spool_is bob three
}

# bats test_tags=attack:7-14
@test "kpopd refuses an authzid with blanks or control characters, and logs it escaped in one line" {
	local name form
	spool_keep
	while IFS='|' read -r name form; do
		log_mark
		run gsstalk 1 65536 well \
		    "$(printf '%b.' "$name" | sed '$s/\.$//')"
		[ "$output" = \
		    $'-ERR [AUTH] this ticket does not open that mailbox\r' ] ||
		    { echo "$name: $output"; return 1; }
		log_count 1 refused
		log_lines |
		    grep -Fq -- " user=$form principal=alice@KPOPD.TEST" ||
		    { echo "$form"; log_lines; return 1; }
	done <<-'END'
		alice\rlogin|alice\015login
		alice\nlogin peer=1.2.3.4:5 user=root|alice\012login\040peer=1.2.3.4:5\040user=root
		alice\r\nSTAT|alice\015\012STAT
		\nalice|\012alice
		alice |alice\040
		 alice|\040alice
		alice@kpopd.test |alice@kpopd.test\040
		alice@kpopd.test\x1b[2J|alice@kpopd.test\033[2J
		bob@kpopd.test|bob@kpopd.test
	END
}


@test "kpopd ends the connection after three failed attempts at AUTH" {
	run wire < <(printf '%s\r\n' "AUTH GSSAPI" '*' "AUTH GSSAPI" '!!!' \
	    "AUTH GSSAPI bm8gdG9rZW4=" NOOP)
	[[ $output == *"-ERR cancelled"*"-ERR this is not base64"* ]]
	[[ ${lines[-1]} == "-ERR [AUTH] not authenticated"* ]]
	[[ $output != *"-ERR no such command"* ]]
	log_has 'refused .*reason="no login: too many attempts"$'
	log_lacks 'no login: (left|lost)'
}

# bats test_tags=catalogue:21-2
@test "the log names twenty lines that are not commands as the reason of the end before a login" {
	run wire < <(for _ in $(seq 21); do printf 'XYZ\r\n'; done)
	[ "$(grep -c '^-ERR no such command' <<<"$output")" -eq 20 ]
	log_has 'nonsense .*lines=20$'
	log_has 'refused .*reason="no login: nonsense"$'
}

@test "kpopd -p lists the mechanism GSSAPI at AUTH, and the session goes on after one refusal" {
	run wire < <(printf '%s\r\n' AUTH "AUTH PLAIN x" "AUTH GSSAPI" \
	    "$(head -c 70000 /dev/zero | base64 -w 0)" QUIT)
	[[ $output == *"GSSAPI"*"-ERR [AUTH] the only mechanism"* ]]
	[[ $output == *"-ERR the token is too large"*"+OK bye"* ]]
}
