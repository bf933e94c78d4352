#!/usr/bin/env bats
# Somebody in the middle who takes protection off: begins TLS with the server himself, or edits what the server says.

load helpers/all

setup_file() { tls_make; }

setup() {
	begin_test
	realm_login alice
	mbox one two | store alice
	rm -rf "$WORLD"/got* "$WORLD/Mail" "$WORLD/ids"
}

teardown() {
	[ -z "${middle-}" ] || kill "$middle" 2>/dev/null || true
	pkill -x openssl || true
	server_stop
	end_test
}

# Serves with the layers of GSSAPI and TLS; clients come to port 2110, where somebody is in the middle.
serve_with_somebody_in_the_middle() {
	server_start -p "$@" $(tls_options)
	in_the_middle 2110
}

# sees_nothing: who is in the middle has seen the way in, and neither a command after it nor mail.
sees_nothing() {
	grep -aq '^AUTH GSSAPI' "$WORLD/seen"
	! grep -aE 'STAT|RETR|DELE|TOP 1|QUIT|Subject|line 1' "$WORLD/seen" "$WORLD/seen.back"
}

sees_mail() {
	grep -aq 'one line 1' "$WORLD/seen.back"
}

@test "kpopc -p and nmh have their layer although somebody in the middle has begun TLS" {
	for when in offer require; do
		serve_with_somebody_in_the_middle -T $when
		run kpopc -p mail.kpopd.test 2110 < <(printf '%s\r\n' "USER alice" "PASS x" "RETR 1" QUIT)
		[ "$status" -eq 0 ] || { echo "$output"; return 1; }
		[[ $output == *"+OK 2 messages"*"one line 3"*"+OK bye, 2 messages left"* ]] || { echo "$output"; return 1; }
		log_has 'login .*layer=tls\+confidentiality '
		sees_nothing
		kill "$middle"
		server_stop
	done
	serve_with_somebody_in_the_middle
	printf 'Path: %s/Mail\n' "$WORLD" >"$WORLD/mh_profile"
	mkdir -p "$WORLD/Mail/inbox"
	MH="$WORLD/mh_profile" timeout 20 /usr/bin/mh/inc -host mail.kpopd.test -port 2110 -user alice -sasl -saslmech GSSAPI -notruncate
	[ "$(cat "$WORLD/Mail/inbox"/* | grep -c '^Subject: \(one\|two\)')" -eq 2 ]
	log_has 'login .*layer=tls\+confidentiality '
	sees_nothing
}

# pop3test PORT OPTION ...
pop3test() {
	{ printf '%s\n' STAT "RETR 1" QUIT; sleep 2; } 3>&- | timeout 20 /usr/lib/cyrus/bin/pop3test -p "$1" "${@:2}" -u alice -a alice mail.kpopd.test 2>&1 3>&-
}

@test "pop3test, too, with the strength that it is told, and without only integrity" {
	serve_with_somebody_in_the_middle
	run pop3test 2110 -m GSSAPI -k 57 -l 256
	[[ $output == *"+OK 2 messages"*"one line 3"* ]] || { echo "$output"; return 1; }
	log_has 'login .*layer=tls\+confidentiality '
	sees_nothing
	# Its own largest strength is below that of confidentiality.
	run pop3test 2110 -m GSSAPI
	[[ $output == *"+OK 2 messages"*"one line 3"* ]] || { echo "$output"; return 1; }
	log_has 'login .*layer=tls\+integrity '
	sees_mail
}

@test "inside TLS of their own nmh takes no layer, and pop3test, whose bindings are of another kind, is refused" {
	server_start -p $(tls_options)
	printf 'Path: %s/Mail\n' "$WORLD" >"$WORLD/mh_profile"
	mkdir -p "$WORLD/Mail/inbox"
	MH="$WORLD/mh_profile" timeout 20 /usr/bin/mh/inc -host mail.kpopd.test -port 1109 -user alice -sasl -saslmech GSSAPI \
	    -tls -nocertverify -notruncate
	[ "$(cat "$WORLD/Mail/inbox"/* | grep -c '^Subject: \(one\|two\)')" -eq 2 ]
	log_has 'login .*layer=tls '
	run pop3test 1109 -m GSSAPI -t ""
	[[ $output == *"-ERR [AUTH] not authenticated"* && $output != *"+OK 2 messages"* ]] || { echo "$output"; return 1; }
	log_has 'refused .*reason="GSSAPI" error="Incorrect channel bindings were supplied"'
}
