#!/usr/bin/env bats
# POP3 mode: AUTH GSSAPI and its layers, with real clients.

load helpers/all

setup_file() { server_start -p; }

setup() {
	begin_test
	realm_login alice
	mbox one two | store alice
}

# pop3test LEAST MOST USER: Cyrus' client, with a security layer of so many bits.
pop3test() {
	printf '%s\n' STAT "RETR 2" "DELE 1" QUIT |
	    timeout 20 /usr/lib/cyrus/bin/pop3test -m GSSAPI -k "$1" -l "$2" -p 1109 -u "$3" -a alice mail.kpopd.test 2>&1
}

@test "each layer works with Cyrus' client: none, integrity, confidentiality" {
	for layer in "0 0 none" "1 56 integrity" "57 256 confidentiality"; do
		set -- $layer
		mbox one two | store alice
		run pop3test "$1" "$2" alice
		[[ $output == *"+OK 2 messages"*"+OK 2 410"*"two line 3"*"+OK message 1 deleted"* ]] || { echo "$output"; return 1; }
		log_has "login .*principal=alice@KPOPD.TEST .*enctype=aes256-cts-hmac-sha1-96 mutual=yes layer=$3 "
		await 5 '! pgrep -x kpopd >/dev/null'
		spool_is alice two
	done
}

# dialogue KPOPC_OPTION ...: USER, PASS and commands through kpopc.
dialogue() {
	printf '%s\r\n' CAPA "USER alice" "PASS x" STAT "RETR 1" QUIT | kpopc -p "$@" mail.kpopd.test 1109 | tr -d '\r'
	return "${PIPESTATUS[1]}"
}

@test "kpopc -p makes USER and PASS an AUTH GSSAPI, and everything behind it confidential" {
	run dialogue
	[ "$status" -eq 0 ] || { echo "$output"; return 1; }
	[[ $output == *USER*"+OK 2 messages"*"one line 3"*"+OK bye, 2 messages left" ]] || { echo "$output"; return 1; }
	log_has 'login .*user=alice .*layer=confidentiality '
}

@test "kpopc -p with a keytab, for somebody else, without a ticket" {
	realm_logout
	run dialogue -k "$WORLD/keytabs/alice.keytab"
	[[ $output == *"+OK 2 messages"* ]] || { echo "$output"; return 1; }
	run dialogue -k "$WORLD/keytabs/bob.keytab"
	[[ $output == *"-ERR [AUTH] this ticket does not open that mailbox"* ]] || { echo "$output"; return 1; }
	run dialogue
	[ "$status" -eq 1 ]
	[[ $output == *"no tickets"* || $output == *"ticket"* ]] || { echo "$output"; return 1; }
}

@test "a large message goes through every layer octet for octet" {
	{ from_line; printf 'Subject: large\n\n'; seq 300000; echo; } | store alice
	printf '%s\r\n' "USER alice" "PASS x" "RETR 1" QUIT | kpopc -p mail.kpopd.test 1109 | tr -d '\r' | sed '1,6d' | head -n -2 | cmp - <(seq 300000)
	for layer in "0 0" "1 56" "57 256"; do
		# It ends with its input, whatever is still to come.
		{ printf '%s\n' "RETR 1" QUIT; sleep 5; } 3>&- |
		    timeout 30 /usr/lib/cyrus/bin/pop3test -m GSSAPI -k ${layer% *} -l ${layer#* } -p 1109 -a alice mail.kpopd.test 2>&1 |
		    tr -d '\r' | grep -x '[0-9][0-9]*' | cmp - <(seq 300000)
	done
}

@test "passwords are refused, and CAPA says what there is" {
	run wire 3 < <(printf '%s\r\n' CAPA "USER alice" "PASS x" "APOP alice x" QUIT)
	[[ $output == *"SASL GSSAPI"*"-ERR [AUTH]"*"-ERR [AUTH]"*"-ERR [AUTH]"*"+OK bye"* ]]
	[[ $output != *$'\nUSER'* ]]
}

@test "another user's mailbox stays shut" {
	mbox three | store bob
	run pop3test 0 0 bob
	[[ $output != *"+OK 1 "* && $output != *three* ]]
	log_has 'refused .*reason="not permitted to be this user" user=bob principal=alice@KPOPD.TEST'
	spool_is bob three
}

@test "cancelled, not base64, not a token: refused, and after three times the connection ends" {
	run wire 3 < <(printf '%s\r\n' "AUTH GSSAPI" '*' "AUTH GSSAPI" '!!!' "AUTH GSSAPI bm8gdG9rZW4=" NOOP)
	[[ $output == *"-ERR cancelled"*"-ERR this is not base64"*"-ERR [AUTH] not authenticated"* ]]
	[[ $output != *"-ERR no such command"* ]]
	run wire 3 < <(printf '%s\r\n' AUTH "AUTH PLAIN x" "AUTH GSSAPI" "$(head -c 70000 /dev/zero | base64 -w 0)" QUIT)
	[[ $output == *"GSSAPI"*"-ERR [AUTH] the only mechanism"*"-ERR line too long"*"+OK bye"* ]]
}
