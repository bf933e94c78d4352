#!/usr/bin/env bats
# Somebody in the middle who takes protection off: begins TLS with the server
# himself, or edits what the server says.

load helpers/all

setup_file() { tls_make; }

setup() {
	begin_test
	realm_login alice
	mbox one two | store alice
	rm -rf "$WORLD"/got* "$WORLD/Mail" "$WORLD/ids"
}

teardown() {
	for pid in ${middle-} ${front-}; do
		kill "$pid" 2>/dev/null || true
	done
	pkill -x openssl || true
	server_stop
	end_test
}

# Serves with the layers of GSSAPI and TLS; clients come to port 2110, where
# somebody is in the middle.
serve_with_somebody_in_the_middle() {
	server_start -p "$@" $(tls_options)
	in_the_middle 2110
}

# sees_nothing: who is in the middle has seen the way in, and neither a command
# after it nor mail.
sees_nothing() {
	grep -aq '^AUTH GSSAPI' "$WORLD/seen"
	LC_ALL=C grep \
	    -aP '(STAT|RETR 1|DELE 1|TOP 1 \d+|QUIT)\r|Subject|line 1' \
	    "$WORLD/seen" "$WORLD/seen.back" && return 1 || :
}

sees_mail() {
	grep -aq 'one line 1' "$WORLD/seen.back"
}

@test "kpopc -p and nmh have their layer although somebody in the middle has begun TLS" {
	for when in offer require; do
		serve_with_somebody_in_the_middle -T $when
		run kpopc -p mail.kpopd.test 2110 \
		    < <(printf '%s\r\n' "USER alice" "PASS x" "RETR 1" QUIT)
		[ "$status" -eq 0 ] || { echo "$output"; return 1; }
		[[ $output == \
		    *"+OK 2 messages"*"one line 3"*"+OK bye, 2 messages left"* ]] || { echo "$output"; return 1; }
		log_has 'login .*layer=tls\+confidentiality '
		sees_nothing
		kill "$middle"
		server_stop
	done
	serve_with_somebody_in_the_middle
	printf 'Path: %s/Mail\n' "$WORLD" >"$WORLD/mh_profile"
	mkdir -p "$WORLD/Mail/inbox"
	MH="$WORLD/mh_profile" timeout 20 /usr/bin/mh/inc \
	    -host mail.kpopd.test -port 2110 -user alice -sasl \
	    -saslmech GSSAPI -notruncate
	[ "$(cat "$WORLD/Mail/inbox"/* | grep -c '^Subject: \(one\|two\)')" \
	    -eq 2 ]
	log_has 'login .*layer=tls\+confidentiality '
	sees_nothing
}

# pop3test PORT OPTION ...: it ends when its standard input does, so that stays
# open until the server has said goodbye.
pop3test() {
	: >"$WORLD/pop3test"
	{
		printf '%s\n' STAT "RETR 1" QUIT
		await 15 '[ -s "$WORLD/pop3test" ]' || :
		await 15 'grep -aq "^+OK bye" "$WORLD/pop3test" || ! pgrep -x pop3test >/dev/null' || :
	} 3>&- |
	    timeout 20 /usr/lib/cyrus/bin/pop3test -p "$1" "${@:2}" -u alice \
		-a alice mail.kpopd.test 3>&- 2>&1 | tee "$WORLD/pop3test"
}

@test "pop3test, too, with the strength that it is told, and without only integrity" {
	serve_with_somebody_in_the_middle
	run pop3test 2110 -m GSSAPI -k 57 -l 256
	[[ $output == *"+OK 2 messages"*"one line 3"* ]] ||
	    { echo "$output"; return 1; }
	log_has 'login .*layer=tls\+confidentiality '
	sees_nothing
	# Its own largest strength is below that of confidentiality.
	run pop3test 2110 -m GSSAPI
	[[ $output == *"+OK 2 messages"*"one line 3"* ]] ||
	    { echo "$output"; return 1; }
	log_has 'login .*layer=tls\+integrity '
	sees_mail
}

@test "inside TLS of their own nmh takes no layer, and pop3test, whose bindings are of another kind, is refused" {
	server_start -p $(tls_options)
	printf 'Path: %s/Mail\n' "$WORLD" >"$WORLD/mh_profile"
	mkdir -p "$WORLD/Mail/inbox"
	SSL_CERT_FILE="$WORLD/tls/ca.pem" MH="$WORLD/mh_profile" timeout 20 \
	    /usr/bin/mh/inc -host mail.kpopd.test -port 1109 -user alice -sasl \
	    -saslmech GSSAPI \
	    -tls -notruncate
	[ "$(cat "$WORLD/Mail/inbox"/* | grep -c '^Subject: \(one\|two\)')" \
	    -eq 2 ]
	log_has 'login .*layer=tls '
	run pop3test 1109 -m GSSAPI -t ""
	[[ $output == *"-ERR [AUTH] not authenticated"* &&
	    $output != *"+OK 2 messages"* ]] || { echo "$output"; return 1; }
	log_has 'refused .*reason="GSSAPI" error="Incorrect channel bindings were supplied"'
}

# tried STATUS PATTERN KPOPC_OPTION ...: kpopc through port 2110 ends with this
# status and says this; $output and $errors have both streams.
tried() {
	local expected=$1 pattern=$2
	shift 2
	run \
	    bash -c 'printf "%s\r\n" "USER alice" "PASS secret" STAT QUIT | timeout 20 "$KPOPD_BUILD/kpopc" "$@" mail.kpopd.test 2110 2>"$WORLD/errors"' - "$@"
	errors=$(cat "$WORLD/errors")
	[ "$status" -eq "$expected" ] && [[ $output$errors == *"$pattern"* ]] ||
	    { echo "$status: $output"; echo "$errors"; return 1; }
}

@test "kpopc takes no word for a login, and no altered offer of layers" {
	server_start -p
	# Before any token, in place of the server's proof, in place of its
	# offer.
	for n in 2 3 4; do
		edited 2110 '$_ = "+OK 2 messages\r\n" if $n == '$n
		tried 1 \
		    "the server ended AUTH before it had proven its identity" -p
		[[ $output != *messages* ]]
		kill "$middle"
		await 5 '! ss -Hltn sport = 2110 | grep -q .'
	done
	edited 2110 's/^\+ (.*)(.)(.{9})\r/"+ $1" . ($2 eq "A" ? "B" : "A") . "$3\r"/e if $n == 4'
	tried 1 "the server's offer of layers" -p
	log_lacks ' login '
}

@test "CAPA and refusals that somebody edits: kpopc -p says no password, and begins nothing in cleartext" {
	server_start -p $(tls_options)
	edited 2110 '$_ = "" if /^(SASL|STLS)/; $_ = "USER\r\nSASL PLAIN\r\n" if /^TOP/; $_ = "-ERR AUTH is not known\r\n" if /^\+ /'
	tried 1 "-ERR AUTH is not known" -p
	grep -q '^AUTH GSSAPI' "$WORLD/said"
	grep -E 'secret|alice|STAT' "$WORLD/said" && return 1 || :
	kill "$middle"
	await 5 '! ss -Hltn sport = 2110 | grep -q .'
	edited 2110 '$_ = "-ERR no TLS\r\n" if $n == 2'
	tried 1 "no TLS: -ERR no TLS" -p --tls -C "$WORLD/tls/ca.pem"
	grep -E 'AUTH|secret|alice|STAT' "$WORLD/said" && return 1 || :
}

@test "what came before TLS is not shown behind it, and what comes with the answer to STLS ends the connection" {
	# In KPOP the server proves itself before its greeting, but anybody can
	# change that.
	for mode in -p ""; do
		server_start $mode $(tls_options)
		edited 2110 's/^\+OK kpopd at.*\n/+OK <injected\@middle> \e]0;owned\a\r\n/; $raw = 1 if /^\+OK begin TLS/'
		tried 0 "+OK 2 410" $mode --tls -C "$WORLD/tls/ca.pem"
		[[ $output$errors != *injected* &&
		    ${lines[0]} == "+OK USER and PASS come next"* ]] ||
		    { echo "$output"; return 1; }
		log_has 'login .*layer=tls '
		kill "$middle"
		await 5 '! ss -Hltn sport = 2110 | grep -q .'
		edited 2110 'if (/^\+OK begin TLS/) { $_ .= "+OK injected\r\n+OK 9 messages\r\n"; $raw = 1 }'
		tried 1 "TLS: " $mode --tls -C "$WORLD/tls/ca.pem"
		[[ -z $output && $errors != *injected* ]]
		kill "$middle"
		await 5 '! ss -Hltn sport = 2110 | grep -q .'
		server_stop
	done
}

@test "a valid certificate of somebody else: by another name kpopc refuses it, by the same name the ticket is bound to the right one" {
	server_start -p $(tls_options)
	for name in other.kpopd.test mail.kpopd.test; do
		(
			cd "$WORLD/tls"
			openssl req -newkey rsa:2048 -nodes -subj /CN=$name \
			    -keyout $name.key -out $name.csr
			openssl x509 -req -in $name.csr -CA ca.pem \
			    -CAkey ca.key -CAcreateserial -days 30 \
			    -extfile <(echo "subjectAltName=DNS:$name") \
			    -out $name.crt
			cat $name.crt ca.pem >$name.pem
		) >"$WORLD/openssl.log" 2>&1
		# Its own TLS on one side, and the server's on the other.
		rm -f "$WORLD/seen"
		socat -r \
		    "$WORLD/seen" "OPENSSL-LISTEN:2111,reuseaddr,fork,verify=0,cert=$WORLD/tls/$name.pem,key=$WORLD/tls/$name.key" \
		    EXEC:"$WORLD/behind" 3>&- 2>/dev/null &
		middle=$!
		printf '#!/bin/sh\nexec openssl s_client -quiet -starttls pop3 -connect 127.0.0.1:1109 2>/dev/null\n' >"$WORLD/behind"
		# To kpopc, which begins with STLS, the server in front of it is
		# this one.
		printf '#!/bin/bash\nprintf "+OK\\r\\n"; read -r line; printf "+OK\\r\\n"; exec socat - TCP:127.0.0.1:2111\n' >"$WORLD/front"
		chmod 755 "$WORLD/front" "$WORLD/behind"
		socat TCP-LISTEN:2110,reuseaddr,fork EXEC:"$WORLD/front" 3>&- \
		    2>/dev/null &
		front=$!
		await 5 'ss -Hltn sport = 2111 | grep -q . && ss -Hltn sport = 2110 | grep -q .'
		if [ $name = other.kpopd.test ]; then
			tried 1 "TLS: hostname mismatch" -p --tls \
			    -C "$WORLD/tls/ca.pem"
			[ ! -s "$WORLD/seen" ]
		else
			tried 1 "-ERR [AUTH] not authenticated" -p --tls \
			    -C "$WORLD/tls/ca.pem"
			log_has 'refused .*reason="GSSAPI" error="Incorrect channel bindings were supplied"'
		fi
		log_lacks ' login '
		kill "$middle" "$front"
		await 5 '! ss -Hltn sport = 2110 | grep -q .'
	done
}

# serve_offer OFFER: a server with the key on port 2110 that offers these
# layers.
serve_offer() {
	KRB5_KTNAME=$WORLD/server.keytab socat TCP-LISTEN:2110,reuseaddr,fork \
	    EXEC:"$KPOPD_BUILD/tests/programs/gssserve $1" 3>&- 2>/dev/null &
	middle=$!
	await 5 'ss -Hltn sport = 2110 | grep -q .'
}

@test "kpopc -p takes the best layer that is offered, and none only where --cleartext says so" {
	for offer in "7 4" "3 2" "5 4" "1 1"; do
		serve_offer ${offer% *}
		# It ends without an answer to STAT and QUIT.
		tried 3 "+OK layer ${offer#* }" -p --cleartext
		if [ "${offer% *}" -eq 1 ]; then
			tried 1 "the server offers no security layer" -p
			[[ $output != *layer* ]]
		else
			tried 3 "+OK layer ${offer#* }" -p
		fi
		kill "$middle"
		await 5 '! ss -Hltn sport = 2110 | grep -q .'
	done
	serve_offer 8
	tried 1 "the server offers no layer that kpopc supports" -p --cleartext
	run kpopc --cleartext mail.kpopd.test
	[ "$status" -eq 2 ]
}

@test "pop3test takes what such a server offers, unless it is told the least strength" {
	serve_offer 1
	run pop3test 2110 -m GSSAPI
	[[ $output == *"+OK layer 1"* ]] || { echo "$output"; return 1; }
	run pop3test 2110 -m GSSAPI -k 57 -l 256
	[[ $output == *"mechanism too weak"* && $output != *"+OK layer"* ]] ||
	    { echo "$output"; return 1; }
}
