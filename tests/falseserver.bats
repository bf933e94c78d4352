#!/usr/bin/env bats
# kpopc against false servers, and against other users of its machine.

load helpers/all

setup_file() { tls_make; }

setup() {
	begin_test
	realm_login alice
}

teardown() {
	for pid in ${middle-} ${fake-}; do kill "$pid" 2>/dev/null || true; done
	server_stop
	end_test
}

fake_server() {
	socat TCP-LISTEN:2000,reuseaddr,fork SYSTEM:"$1" 3>&- 2>/dev/null &
	fake=$!
	await 5 'ss -Hltn sport = 2000 | grep -q .'
}

true_again() {
	kill "$fake"
	await 5 '! ss -Hltn sport = 2000 | grep -q .'
}

# fails PATTERN OPTION …: kpopc ends with status 1, says this, and nothing on
# standard output.
fails() {
	local pattern=$1 status=0
	shift
	printf '%s\r\n' "USER alice" "PASS x" QUIT |
	    timeout 40 "$KPOPD_BUILD/kpopc" "$@" >"$WORLD/heard" \
		2>"$WORLD/errors" || status=$?
	[ $status -eq 1 ] && [ ! -s "$WORLD/heard" ] &&
	    grep -Eq "^kpopc: .*$pattern" "$WORLD/errors" ||
	    {
		    echo "$status, expected: $pattern"
		    cat "$WORLD/heard" "$WORLD/errors"
		    return 1
	    }
}

# certificate NAME DAYS SUBJECT EXTENSIONS CA: an EC certificate in
# $WORLD/tls/NAME.pem and NAME.key.
certificate() (
	cd "$WORLD/tls"
	openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes \
	    -subj "$3" -keyout "$1.key" -out "$1.csr"
	openssl x509 -req -in "$1.csr" -CA "$5.pem" -CAkey "$5.key" \
	    -CAcreateserial $2 -extfile <(printf '%b' "$4") -out "$1.crt"
	cat "$1.crt" "$5.pem" >"$1.pem"
) >"$WORLD/openssl.log" 2>&1

# bats test_tags=attack:8-12,attack:8-13
@test "a certificate that is another's, old, a client's, a forged authority's, or for another name by any trick: kpopc says nothing inside that TLS" {
	local san='subjectAltName=DNS:mail.kpopd.test\n'
	certificate sound "-days 9" /CN=x "$san" ca
	certificate old \
	    "-not_before 20200101000000Z -not_after 20200201000000Z" /CN=x \
	    "$san" ca || certificate old "-days -1" /CN=x "$san" ca
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
	(cd "$WORLD/tls"; openssl req -x509 -newkey ec \
	    -pkeyopt ec_paramgen_curve:P-256 -nodes -days 9 \
	    -subj /CN=mail.kpopd.test \
	    -addext "subjectAltName=DNS:mail.kpopd.test" \
	    -keyout self.key -out self.pem) >"$WORLD/openssl.log" 2>&1
	printf '#!/bin/bash\nprintf "+OK\\r\\n"; read -r line; printf "+OK\\r\\n"; exec socat - TCP:127.0.0.1:2001\n' >"$WORLD/front"
	chmod 755 "$WORLD/front"
	for name in sound old clients forged other wild prefix nul email \
	    self; do
		socat "OPENSSL-LISTEN:2001,reuseaddr,fork,verify=0,cert=$WORLD/tls/$name.pem,key=$WORLD/tls/$name.key" SYSTEM:"cat >>$WORLD/inside.$name" 3>&- 2>/dev/null &
		middle=$!
		await 5 'ss -Hltn sport = 2001 | grep -q .'
		fake_server "$WORLD/front"
		printf 'QUIT\r\n' |
		    timeout 10 "$KPOPD_BUILD/kpopc" -p --tls \
			-C "$WORLD/tls/ca.pem" mail.kpopd.test 2000 \
			>"$WORLD/heard" 2>"$WORLD/errors" || :
		if [ $name = sound ]; then
			# It is the certificate that the others lack.
			await 5 'grep -q "^QUIT" "$WORLD/inside.sound"' ||
			    { cat "$WORLD/errors"; return 1; }
		else
			grep -q '^kpopc: TLS: ' "$WORLD/errors" ||
			    { echo "$name"; cat "$WORLD/errors"; return 1; }
			[ ! -s "$WORLD/heard" ] &&
			    [ ! -s "$WORLD/inside.$name" ] ||
			    { echo "$name"; return 1; }
		fi
		true_again
		kill "$middle"
		await 5 '! ss -Hltn sport = 2001 | grep -q .'
	done
}

# bats test_tags=attack:8-14,attack:8-15
@test "in place of TLS: words, alerts, records of no possible size, half a hello, a hello without end: kpopc ends and shows none of it" {
	local -A instead=(
		[words]='"+OK 3 messages\r\n\e]0;owned\a" x 100'
		[alert]='"\x15\3\3\0\2\2\x28"'
		[warnings]='"\x15\3\3\0\2\1\x5a" x 20000'
		[close_notify]='"\x15\3\3\0\2\1\0"'
		[too_large]='"\x16\3\3\xff\xff" . "x" x 65535'
		[hello_of_16_MB]='"\x16\3\3\x40\0\2\xff\xff\xff" . "x" x 16380 . ("\x16\3\3\x40\0" . "x" x 16384) x 40'
		[data]='"\x17\3\3\0\x20" . "+OK owned\r\n" x 20'
		[old_version]='"\x16\3\1\0\x2a\2\0\0\x26\3\1" . "x" x 32 . "\0\0\x35\0"'
		[half]='"\x16\3\3\0\x7a\2\0\0"'
		[nothing]='""'
	)
	for name in "${!instead[@]}"; do
		echo "\$| = 1; print qq(+OK\\r\\n); <STDIN>; print qq(+OK\\r\\n); sysread STDIN, my \$hello, 5; print ${instead[$name]};" >"$WORLD/instead.pl"
		fake_server "perl $WORLD/instead.pl"
		fails 'TLS: |the connection broke|the server closed' -p --tls \
		    -C "$WORLD/tls/ca.pem" mail.kpopd.test 2000
		LC_ALL=C grep -qP '[^ -~]|owned' "$WORLD/errors" &&
		    { echo "$name"; cat -v "$WORLD/errors"; return 1; } || :
		true_again
	done
}

# bats test_tags=attack:8-10,attack:8-11
@test "a proof that was another session's, the client's own request in its place, a proof for nobody: no server" {
	mbox one | store alice
	server_start
	# The exchange of a session that is in order, as somebody on the way has
	# it.
	rm -f "$WORLD"/seen*
	socat -r "$WORLD/seen" -R "$WORLD/seen.back" TCP-LISTEN:2110,reuseaddr \
	    TCP:127.0.0.1:1109 3>&- 2>/dev/null &
	middle=$!
	await 5 'ss -Hltn sport = 2110 | grep -q .'
	printf 'USER alice\r\nPASS x\r\nQUIT\r\n' |
	    "$KPOPD_BUILD/kpopc" mail.kpopd.test 2110 | grep -q '^+OK bye'
	await 5 '[ -s "$WORLD/seen.back" ]'
	local -A proofs=(
		[recorded]='open my $f, "<", "$ENV{WORLD}/seen.back"; local $/; my $all = <$f>; print substr $all, 1'
		[reflected]='print pack("N", 0), pack("N", length $request), $request'
		[empty]='print pack("N", 0), pack("N", 0)'
		[refused_and_accepted]='print pack("N", 1), "x", pack("N", 0), "+OK owned\r\n"'
		[zeros]='print pack("N", 0), pack("N", 500), "\0" x 500, "+OK owned\r\n"'
		[greeting]='print "+OK owned\r\n" x 100'
	)
	for name in "${!proofs[@]}"; do
		echo "\$| = 1; sysread STDIN, my \$versions, 36; print qq(\\0); read STDIN, my \$n, 4; read STDIN, my \$request, unpack 'N', \$n; ${proofs[$name]}; 1 while sysread STDIN, my \$rest, 4096" >"$WORLD/proof.pl"
		fake_server "perl $WORLD/proof.pl"
		fails '' mail.kpopd.test 2000
		grep -q owned "$WORLD/errors" && return 1 || :
		true_again
	done
}

# bats test_tags=attack:8-19,attack:8-20,attack:8-21
@test "another user's files: a ticket cache, keytab or list of authorities that cannot be read, is a directory or nonsense is said so, and left as it was" {
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
	before=$(cd "$WORLD/hostile"; find . -type f -exec sha256sum {} +)
	server_stop
	server_start -p $(tls_options)
	for file in noise empty directory loop absent; do
		fails 'TLS: ' -p --tls -C "$WORLD/hostile/$file" \
		    mail.kpopd.test 1109
	done
	[ "$(cd "$WORLD/hostile"; find . -type f -exec sha256sum {} +)" = \
	    "$before" ]
	# As another user, root's tickets.
	run su bob \
	    -s \
	    /bin/sh -c "KRB5CCNAME=FILE:$WORLD/hostile/roots '$KPOPD_BUILD/kpopc' mail.kpopd.test </dev/null"
	[ "$status" -eq 1 ] &&
	    [[ $output == *"Permission denied"* ||
		$output == *"no tickets"* ]] || { echo "$output"; return 1; }
}
