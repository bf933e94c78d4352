#!/usr/bin/env bats
# Checks clients and kpopd against a man in the middle. The man in the middle
# begins TLS with the server himself, edits the server's lines, or has a
# certificate.

load helpers/all

setup_file() { tls_make; }

setup() {
	begin_test
	realm_login alice
	mbox one two | store alice
	rm -rf "$WORLD"/got* "$WORLD/Mail" "$WORLD/ids"
}

teardown() {
	local pid
	for pid in ${middle-} ${front-}; do
		kill "$pid" 2>/dev/null || true
		wait "$pid" 2>/dev/null || true
	done
	pkill -x openssl || true
	end_test
}

# middle_end: ends the process that is the man in the middle.
middle_end() {
	kill "$middle"
	await 5 '! ss -Hltn sport = 2110 | grep -q .'
}

# serve_in_the_middle KPOPD-OPTION ...: starts a server that offers TLS and
# GSSAPI layers, and a man in the middle on port 2110.
serve_in_the_middle() {
	server_start -p "$@" $(tls_options)
	in_the_middle 2110
}

# middle_sees_no_mail: returns true if the man in the middle has seen the
# client's AUTH GSSAPI, but no later command and no mail.
middle_sees_no_mail() {
	local commands='(STAT|RETR 1|DELE 1|TOP 1 \d+|QUIT)\r'
	grep -aq '^AUTH GSSAPI' "$WORLD/seen" &&
	    refute env LC_ALL=C grep -aP "$commands|Subject|line 1" \
		"$WORLD/seen" "$WORLD/seen.back"
}

# middle_sees_mail: returns true if the man in the middle has seen a message.
middle_sees_mail() {
	grep -aq 'one line 1' "$WORLD/seen.back"
}

# inc PORT OPTION ...: fetches alice's mail with nmh's inc. Returns true if inc
# got both messages.
inc() {
	printf 'Path: %s/Mail\n' "$WORLD" >"$WORLD/mh_profile"
	mkdir -p "$WORLD/Mail/inbox"
	MH="$WORLD/mh_profile" timeout 20 /usr/bin/mh/inc \
	    -host mail.kpopd.test -port "$1" -user alice -sasl \
	    -saslmech GSSAPI "${@:2}" -notruncate &&
	    [ "$(cat "$WORLD/Mail/inbox"/* |
		grep -c '^Subject: \(one\|two\)')" -eq 2 ]
}

@test "kpopc -p and nmh have a GSSAPI layer even if a man in the middle has begun TLS" {
	local policy
	for policy in offer require; do
		serve_in_the_middle -T $policy
		run kpopc -p mail.kpopd.test 2110 \
		    < <(printf '%s\r\n' "USER alice" "PASS x" "RETR 1" QUIT)
		[ "$status" -eq 0 ] || { echo "$output"; return 1; }
		[[ $output == *"+OK 2 messages"*"one line 3"* &&
		    $output == *"+OK bye, 2 messages left"* ]] ||
		    { echo "$output"; return 1; }
		log_has 'login .*layer=tls\+confidentiality '
		middle_sees_no_mail
		middle_end
		server_stop
	done
	serve_in_the_middle
	inc 2110
	log_has 'login .*layer=tls\+confidentiality '
	middle_sees_no_mail
}

# pop3test_is_done: returns true if the server has answered pop3test's QUIT, or
# pop3test has ended.
pop3test_is_done() {
	grep -aq '^+OK bye' "$WORLD/pop3test" || ! pgrep -x pop3test >/dev/null
}

# pop3test PORT OPTION ...: runs pop3test as alice. pop3test ends at the end of
# its standard input. So the input stays open until pop3test_is_done returns
# true.
pop3test() {
	: >"$WORLD/pop3test"
	{
		printf '%s\n' STAT "RETR 1" QUIT
		await 15 '[ -s "$WORLD/pop3test" ]' || :
		await 15 pop3test_is_done || :
	} 3>&- |
	    timeout 20 /usr/lib/cyrus/bin/pop3test -p "$1" "${@:2}" -u alice \
		-a alice mail.kpopd.test 3>&- 2>&1 | tee "$WORLD/pop3test"
}

@test "inside a man in the middle's TLS, pop3test with -k 57 -l 256 has confidentiality, and without them integrity" {
	serve_in_the_middle
	run pop3test 2110 -m GSSAPI -k 57 -l 256
	[[ $output == *"+OK 2 messages"*"one line 3"* ]] ||
	    { echo "$output"; return 1; }
	log_has 'login .*layer=tls\+confidentiality '
	middle_sees_no_mail
	# By default, pop3test's maximum strength is below the strength of
	# confidentiality.
	run pop3test 2110 -m GSSAPI
	[[ $output == *"+OK 2 messages"*"one line 3"* ]] ||
	    { echo "$output"; return 1; }
	log_has 'login .*layer=tls\+integrity '
	middle_sees_mail
}

@test "inside TLS, nmh uses no GSSAPI layer, and pop3test is refused because of other channel bindings" {
	server_start -p $(tls_options)
	SSL_CERT_FILE="$WORLD/tls/ca.pem" inc 1109 -tls
	log_has 'login .*layer=tls '
	run pop3test 1109 -m GSSAPI -t ""
	[[ $output == *"-ERR [AUTH] not authenticated"* &&
	    $output != *"+OK 2 messages"* ]] || { echo "$output"; return 1; }
	log_has 'refused .*reason="GSSAPI" error="Incorrect channel bindings were supplied"'
}

# talk KPOPC-OPTION ...: runs kpopc through port 2110. Its standard error goes
# to $WORLD/errors.
talk() {
	printf '%s\r\n' "USER alice" "PASS secret" STAT QUIT |
	    timeout 20 "$KPOPD_BUILD/kpopc" "$@" mail.kpopd.test 2110 \
		2>"$WORLD/errors"
}

# ends STATUS TEXT KPOPC-OPTION ...: calls talk. Returns true if kpopc exits
# with this status and prints TEXT. Sets $output and $errors to kpopc's two
# outputs.
ends() {
	run talk "${@:3}"
	errors=$(cat "$WORLD/errors")
	[ "$status" -eq "$1" ] && [[ $output$errors == *"$2"* ]] ||
	    { echo "$status: $output"; echo "$errors"; return 1; }
}

@test "kpopc -p rejects a login before the server has proven its identity, and an altered offer of layers" {
	local n
	server_start -p
	# The forged answer to the login comes before any token, in place of the
	# server's proof, or in place of the server's offer.
	for n in 2 3 4; do
		edited 2110 '$_ = "+OK 2 messages\r\n" if $n == '$n
		ends 1 \
		    "the server ended AUTH before it had proven its identity" -p
		[[ $output != *messages* ]]
		middle_end
	done
	edited 2110 's/^\+ (.*)(.)(.{9})\r/"+ $1" . ($2 eq "A" ? "B" : "A") . "$3\r"/e if $n == 4'
	ends 1 "the server's offer of layers" -p
	log_lacks ' login '
}

@test "kpopc -p sends no user, password or command in cleartext if a man in the middle edits CAPA or refusals" {
	server_start -p $(tls_options)
	edited 2110 '$_ = "" if /^(SASL|STLS)/; $_ = "USER\r\nSASL PLAIN\r\n" if /^TOP/; $_ = "-ERR AUTH is not known\r\n" if /^\+ /'
	ends 1 "-ERR AUTH is not known" -p
	# edit.pl ends its connection when it has recorded everything.
	kpopd_ends 5
	grep -q '^AUTH GSSAPI' "$WORLD/said"
	refute grep -E 'secret|alice|STAT' "$WORLD/said"
	middle_end
	edited 2110 '$_ = "-ERR no TLS\r\n" if $n == 2'
	ends 1 "no TLS: -ERR no TLS" -p --tls -C "$WORLD/tls/ca.pem"
	refute grep -E 'AUTH|secret|alice|STAT' "$WORLD/said"
}

@test "kpopc --tls prints nothing that came before TLS, and rejects bytes that follow the answer to STLS" {
	local mode
	# In KPOP the server proves its identity before the greeting, but a man
	# in the middle can change the greeting.
	for mode in -p ""; do
		server_start $mode $(tls_options)
		edited 2110 's/^\+OK kpopd at.*\n/+OK <injected\@middle> \e]0;owned\a\r\n/; $raw = 1 if /^\+OK begin TLS/'
		ends 0 "+OK 2 410" $mode --tls -C "$WORLD/tls/ca.pem"
		[[ $output$errors != *injected* &&
		    ${lines[0]} == "+OK USER and PASS come next"* ]] ||
		    { echo "$output"; return 1; }
		log_has 'login .*layer=tls '
		middle_end
		edited 2110 'if (/^\+OK begin TLS/) { $_ .= "+OK injected\r\n+OK 9 messages\r\n"; $raw = 1 }'
		ends 1 "TLS: " $mode --tls -C "$WORLD/tls/ca.pem"
		[[ -z $output && $errors != *injected* ]]
		middle_end
		server_stop
	done
}

# certificate NAME: makes a certificate for this host name, signed by the test's
# authority. Writes it to $WORLD/tls/NAME.pem, and its key to NAME.key.
certificate() (
	cd "$WORLD/tls"
	openssl req -newkey rsa:2048 -nodes -subj "/CN=$1" \
	    -keyout "$1.key" -out "$1.csr"
	openssl x509 -req -in "$1.csr" -CA ca.pem \
	    -CAkey ca.key -CAcreateserial -days 30 \
	    -extfile <(echo "subjectAltName=DNS:$1") \
	    -out "$1.crt"
	cat "$1.crt" ca.pem >"$1.pem"
) >"$WORLD/openssl.log" 2>&1

# tls_in_the_middle NAME: starts a man in the middle on port 2110. The man in
# the middle speaks TLS with the client, with the certificate NAME, and TLS with
# the server. $WORLD/seen records what the client sends inside TLS. Sets $front
# to the pid of the process on port 2110, which answers STLS. Sets $middle to
# the pid of the process on port 2111, which does TLS.
tls_in_the_middle() {
	local address="OPENSSL-LISTEN:2111,reuseaddr,fork,verify=0"
	address+=",cert=$WORLD/tls/$1.pem,key=$WORLD/tls/$1.key"
	rm -f "$WORLD/seen"
	cat >"$WORLD/back" <<-'END'
	#!/bin/sh
	exec openssl s_client -quiet -starttls pop3 \
	    -connect 127.0.0.1:1109 2>/dev/null
	END
	make_stls_front
	chmod 755 "$WORLD/back"
	socat -r "$WORLD/seen" "$address" EXEC:"$WORLD/back" 3>&- \
	    2>/dev/null &
	middle=$!
	socat TCP-LISTEN:2110,reuseaddr,fork EXEC:"$WORLD/front" 3>&- \
	    2>/dev/null &
	front=$!
	await 5 'ss -Hltn sport = 2111 | grep -q .'
	await 5 'ss -Hltn sport = 2110 | grep -q .'
}

@test "kpopc rejects a valid certificate of another name; kpopd refuses a ticket bound to another certificate" {
	local name
	server_start -p $(tls_options)
	for name in other.kpopd.test mail.kpopd.test; do
		certificate $name
		tls_in_the_middle $name
		if [ $name = other.kpopd.test ]; then
			ends 1 "TLS: hostname mismatch" -p --tls \
			    -C "$WORLD/tls/ca.pem"
			[ ! -s "$WORLD/seen" ]
		else
			ends 1 "-ERR [AUTH] not authenticated" -p --tls \
			    -C "$WORLD/tls/ca.pem"
			log_has 'refused .*reason="GSSAPI" error="Incorrect channel bindings were supplied"'
		fi
		log_lacks ' login '
		kill "$front"
		middle_end
		await 5 '! ss -Hltn sport = 2111 | grep -q .'
	done
}

# serve_offer OFFER: starts a server on port 2110 that has the service's key.
# OFFER is the number of the layers that it offers. Sets $middle to its pid.
serve_offer() {
	KRB5_KTNAME=$WORLD/server.keytab socat TCP-LISTEN:2110,reuseaddr,fork \
	    EXEC:"$KPOPD_BUILD/tests/programs/gssserve $1" 3>&- 2>/dev/null &
	middle=$!
	await 5 'ss -Hltn sport = 2110 | grep -q .'
}

@test "kpopc -p uses the best layer that is offered, and no layer only with --cleartext" {
	local offer
	# Each word contains an offer, and the layer that kpopc must choose.
	for offer in 7:4 3:2 5:4 1:1; do
		serve_offer ${offer%:*}
		# The server closes the connection without answering STAT and
		# QUIT.
		ends 3 "+OK layer ${offer#*:}" -p --cleartext
		if [ "${offer%:*}" -eq 1 ]; then
			ends 1 "the server offers no security layer" -p
			[[ $output != *layer* ]]
		else
			ends 3 "+OK layer ${offer#*:}" -p
		fi
		middle_end
	done
	serve_offer 8
	ends 1 "the server offers no layer that kpopc supports" -p --cleartext
	run kpopc --cleartext mail.kpopd.test
	[ "$status" -eq 2 ]
}

@test "pop3test uses no layer if the server offers none, unless it is given a minimum strength" {
	serve_offer 1
	run pop3test 2110 -m GSSAPI
	[[ $output == *"+OK layer 1"* ]] || { echo "$output"; return 1; }
	run pop3test 2110 -m GSSAPI -k 57 -l 256
	[[ $output == *"mechanism too weak"* && $output != *"+OK layer"* ]] ||
	    { echo "$output"; return 1; }
}
