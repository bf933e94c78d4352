#!/usr/bin/env bats
# Checks kpopc against false servers, and against files that other users of the
# machine have made.

load helpers/all

setup_file() { tls_make; }

setup() {
	begin_test
	realm_login alice
}

teardown() {
	local pid
	for pid in ${middle-} ${false_pid-}; do
		kill "$pid" 2>/dev/null || true
	done
	end_test
}

# fails PATTERN KPOPC-ARGUMENT ...: runs kpopc. Returns true if kpopc exits with
# status 1, prints an error that matches PATTERN (extended), and prints nothing
# on standard output.
fails() {
	local pattern=$1 status=0
	shift
	printf '%s\r\n' "USER alice" "PASS x" QUIT |
	    timeout 40 "$KPOPD_BUILD/kpopc" "$@" >"$WORLD/output" \
		2>"$WORLD/errors" || status=$?
	[ $status -eq 1 ] && [ ! -s "$WORLD/output" ] &&
	    grep -Eq "^kpopc: .*$pattern" "$WORLD/errors" || {
		echo "status $status, expected: $pattern"
		cat -v "$WORLD/output" "$WORLD/errors"
		return 1
	}
}

# self_signed: makes a certificate in $WORLD/tls/self.pem that no authority has
# signed.
self_signed() (
	cd "$WORLD/tls"
	openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes \
	    -days 9 -subj /CN=mail.kpopd.test \
	    -addext "subjectAltName=DNS:mail.kpopd.test" \
	    -keyout self.key -out self.pem
) >"$WORLD/openssl.log" 2>&1

# false_tls NAME: starts a server on port 2000 that answers STLS and has the
# certificate NAME. $WORLD/inside.NAME records what clients send inside TLS.
# Sets $middle to the pid of the TLS server, on port 2001.
false_tls() {
	local address="OPENSSL-LISTEN:2001,reuseaddr,fork,verify=0"
	address+=",cert=$WORLD/tls/$1.pem,key=$WORLD/tls/$1.key"
	cat >"$WORLD/front" <<-'END'
	#!/bin/bash
	printf '+OK\r\n'
	read -r line
	printf '+OK\r\n'
	exec socat - TCP:127.0.0.1:2001
	END
	chmod 755 "$WORLD/front"
	socat "$address" SYSTEM:"cat >>$WORLD/inside.$1" 3>&- 2>/dev/null &
	middle=$!
	await 5 'ss -Hltn sport = 2001 | grep -q .'
	false_server "$WORLD/front"
}

# bats test_tags=attack:8-12,attack:8-13
@test "kpopc --tls sends nothing inside TLS if the certificate is old, forged, or for another name or purpose" {
	local name san='subjectAltName=DNS:mail.kpopd.test\n'
	certificate sound "-days 9" /CN=x "$san" ca
	certificate old "$(expired_dates)" /CN=x "$san" ca
	certificate clients "-days 9" /CN=x \
	    "${san}extendedKeyUsage=clientAuth\n" ca
	certificate leaf "-days 9" \
	    /CN=other.test "subjectAltName=DNS:other.test\nbasicConstraints=critical,CA:FALSE\n" ca
	certificate forged "-days 9" /CN=x "$san" leaf
	certificate other "-days 9" /CN=mail.kpopd.test \
	    "subjectAltName=DNS:other.test\n" ca
	certificate wild "-days 9" /CN=x \
	    "subjectAltName=DNS:*.test,DNS:mail*.other,DNS:*\n" ca
	certificate prefix "-days 9" \
	    /CN=x "subjectAltName=DNS:mail.kpopd.test.evil.test,DNS:evil.mail.kpopd.test,DNS:kpopd.test\n" ca
	certificate nul "-days 9" \
	    /CN=x "subjectAltName=DER:301c821a6d61696c2e6b706f70642e74657374002e6576696c2e74657374\n" ca
	certificate email "-days 9" \
	    /emailAddress=mail.kpopd.test "subjectAltName=email:alice@mail.kpopd.test,URI:https://mail.kpopd.test\n" ca
	self_signed
	for name in sound old clients forged other wild prefix nul email \
	    self; do
		false_tls $name
		printf 'QUIT\r\n' |
		    timeout 10 "$KPOPD_BUILD/kpopc" -p --tls \
			-C "$WORLD/tls/ca.pem" mail.kpopd.test 2000 \
			>"$WORLD/output" 2>"$WORLD/errors" || :
		if [ $name = sound ]; then
			# kpopc accepts the same server if its certificate is
			# good.
			await 5 'grep -q "^QUIT" "$WORLD/inside.sound"' ||
			    { cat "$WORLD/errors"; return 1; }
		else
			grep -q '^kpopc: TLS: .' "$WORLD/errors" ||
			    { echo "$name"; cat "$WORLD/errors"; return 1; }
			[ ! -s "$WORLD/output" ] &&
			    [ ! -s "$WORLD/inside.$name" ] ||
			    { echo "$name"; return 1; }
		fi
		false_end
		kill "$middle"
		await 5 '! ss -Hltn sport = 2001 | grep -q .'
	done
}

# bats test_tags=attack:8-14,attack:8-15
@test "kpopc --tls fails if the server sends invalid TLS after STLS, and prints none of these bytes" {
	local answer
	for answer in text alert warnings close-notify too-large-record \
	    hello-of-16-MB application-data old-version half-a-hello \
	    nothing; do
		false_server \
		    "perl $BATS_TEST_DIRNAME/programs/false-stls.pl $answer"
		fails 'TLS: .|the connection broke|the server closed' -p --tls \
		    -C "$WORLD/tls/ca.pem" mail.kpopd.test 2000
		refute env LC_ALL=C grep -qP '[^ -~]|owned' "$WORLD/errors" ||
		    { echo "$answer"; cat -v "$WORLD/errors"; return 1; }
		false_end
	done
}

# bats test_tags=attack:8-10,attack:8-11
@test "kpopc rejects an AP-REP of another session, its own AP-REQ sent back, and an empty or invalid AP-REP" {
	local answer
	mbox one | store alice
	server_start
	# A man in the middle records a good session.
	rm -f "$WORLD"/seen*
	socat -r "$WORLD/seen" -R "$WORLD/seen.back" TCP-LISTEN:2110,reuseaddr \
	    TCP:127.0.0.1:1109 3>&- 2>/dev/null &
	middle=$!
	await 5 'ss -Hltn sport = 2110 | grep -q .'
	printf 'USER alice\r\nPASS x\r\nQUIT\r\n' |
	    "$KPOPD_BUILD/kpopc" mail.kpopd.test 2110 | grep -q '^+OK bye'
	await 5 '[ -s "$WORLD/seen.back" ]'
	for answer in "recorded $WORLD/seen.back" reflected empty \
	    refuse-and-accept zeros greeting; do
		false_server \
		    "perl $BATS_TEST_DIRNAME/programs/false-krb5.pl $answer"
		fails '' mail.kpopd.test 2000
		refute grep owned "$WORLD/errors"
		false_end
	done
}

# hostile_hashes: prints the hashes of the hostile files.
hostile_hashes() (
	cd "$WORLD/hostile"
	find . -type f -exec sha256sum {} +
)

# bats test_tags=attack:8-19,attack:8-20,attack:8-21
@test "kpopc reports a ticket cache, keytab or list of authorities that it cannot use, and does not change it" {
	local file before
	server_start
	mkdir -p "$WORLD/hostile"
	chmod 755 "$WORLD" "$WORLD/hostile"
	head -c 5000 /dev/urandom >"$WORLD/hostile/noise"
	printf '\5\4\377\377' >"$WORLD/hostile/header"
	: >"$WORLD/hostile/empty"
	mkdir -p "$WORLD/hostile/directory"
	ln -sf loop "$WORLD/hostile/loop"
	install -m 600 "$WORLD/ccache" "$WORLD/hostile/roots"
	for file in noise header empty directory loop absent; do
		KRB5CCNAME=FILE:$WORLD/hostile/$file fails 'no tickets' \
		    mail.kpopd.test
		fails '' -k "$WORLD/hostile/$file" mail.kpopd.test
	done
	before=$(hostile_hashes)
	server_stop
	server_start -p $(tls_options)
	for file in noise empty directory loop absent; do
		fails 'TLS: ' -p --tls -C "$WORLD/hostile/$file" \
		    mail.kpopd.test 1109
	done
	[ "$(hostile_hashes)" = "$before" ]
	# bob tries to use root's tickets.
	run su bob -s /bin/sh -c \
	    "KRB5CCNAME=FILE:$WORLD/hostile/roots '$KPOPD_BUILD/kpopc' mail.kpopd.test </dev/null"
	[ "$status" -eq 1 ] &&
	    [[ $output == *"Permission denied"* ||
		$output == *"no tickets"* ]] || { echo "$output"; return 1; }
}
