# Makes a certificate authority for the tests, and its certificates. Starts
# clients and attackers that speak TLS.

# tls_make: makes $WORLD/tls/ca.pem, and server.pem with server.key for
# mail.kpopd.test. Only the first call in a world makes them.
tls_make() {
	[ ! -e "$WORLD/tls/server.pem" ] || return 0
	mkdir -p "$WORLD/tls"
	(
		cd "$WORLD/tls"
		openssl req -x509 -newkey rsa:2048 -nodes -days 30 \
		    -subj /CN=throwaway-ca \
		    -addext keyUsage=critical,keyCertSign,cRLSign \
		    -keyout ca.key -out ca.pem
		openssl req -newkey rsa:2048 -nodes -subj /CN=mail.kpopd.test \
		    -keyout server.key -out server.csr
		# Python 3.13 requires the extensions of RFC 5280.
		printf '%s\n' \
		    subjectAltName=DNS:mail.kpopd.test,DNS:localhost \
		    authorityKeyIdentifier=keyid >server.ext
		openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key \
		    -CAcreateserial -days 30 \
		    -extfile server.ext -out server.crt
		cat server.crt ca.pem >server.pem
		chmod 600 server.key
		chmod 755 .
	) >"$WORLD/openssl.log" 2>&1 ||
	    { cat "$WORLD/openssl.log" >&2; return 1; }
}

# tls_options: prints the options of kpopd for this certificate and key.
tls_options() {
	echo "-c $WORLD/tls/server.pem -K $WORLD/tls/server.key"
}

# expired_dates: prints the options of openssl x509 for a certificate that has
# expired. OpenSSL 3.0 has no dates there, and 3.5 no end before the start.
expired_dates() {
	if openssl x509 -help 2>&1 | grep -q -- -not_after; then
		echo "-not_before 20200101000000Z -not_after 20200201000000Z"
	else
		echo "-days -1"
	fi
}

# certificate NAME VALIDITY SUBJECT EXTENSIONS CA: makes an EC certificate,
# $WORLD/tls/NAME.pem, and its key, NAME.key. VALIDITY contains options of
# openssl.
certificate() (
	cd "$WORLD/tls"
	openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes \
	    -subj "$3" -keyout "$1.key" -out "$1.csr"
	openssl x509 -req -in "$1.csr" -CA "$5.pem" -CAkey "$5.key" \
	    -CAcreateserial $2 -extfile <(printf '%b' "$4") -out "$1.crt"
	cat "$1.crt" "$5.pem" >"$1.pem"
) >"$WORLD/openssl.log" 2>&1

# s_client OPTION ...: sends standard input to the server inside TLS, and prints
# what the server sends. Verifies the certificate.
s_client() {
	timeout 20 openssl s_client -quiet -verify_return_error \
	    -CAfile "$WORLD/tls/ca.pem" \
	    -servername mail.kpopd.test -verify_hostname mail.kpopd.test \
	    -connect mail.kpopd.test:1109 "$@" 2>"$WORLD/s_client.err"
}

# in_the_middle PORT: starts a man in the middle on this port. The man in the
# middle speaks cleartext with the client and TLS with the server. $WORLD/seen
# records what the client sends, and $WORLD/seen.back what the server sends.
# Sets $middle to the pid.
in_the_middle() {
	rm -f "$WORLD"/seen*
	cat >"$WORLD/middle" <<-END
	#!/bin/sh
	printf '+OK hello\r\n'
	exec openssl s_client -quiet -starttls pop3 \\
	    -connect 127.0.0.1:1109 2>/dev/null
	END
	chmod 755 "$WORLD/middle"
	socat -r "$WORLD/seen" -R "$WORLD/seen.back" \
	    "TCP-LISTEN:$1,reuseaddr,fork" EXEC:"$WORLD/middle" 3>&- \
	    2>/dev/null &
	middle=$!
	await 5 "ss -Hltn sport = $1 | grep -q ."
}

# edited PORT PERL: starts a man in the middle on this port, who edits the
# server's lines (tests/programs/edit.pl). In PERL, $_ is the line and $n its
# number, from 1 on. If PERL sets $raw, all later bytes are passed on unchanged.
# If PERL sets $holds, the end of the server's connection is not passed on.
# $WORLD/said records what the client sends. Sets $middle to the pid.
edited() {
	rm -f "$WORLD/said"
	perl "$BATS_TEST_DIRNAME/programs/edit.pl" "$1" "$WORLD/said" "$2" \
	    3>&- &
	middle=$!
	await 5 "ss -Hltn sport = $1 | grep -q ."
}

# edited_end: ends the man in the middle on port 2110 that edited has started.
edited_end() {
	kill "$middle"
	await 5 '! ss -Hltn sport = 2110 | grep -q .'
}

# make_stls_front: makes $WORLD/front, a program that answers a client's STLS
# and then passes the connection to the TLS server on port 2111.
make_stls_front() {
	cat >"$WORLD/front" <<-'END'
	#!/bin/bash
	printf '+OK\r\n'
	read -r line
	printf '+OK\r\n'
	exec socat - TCP:127.0.0.1:2111
	END
	chmod 755 "$WORLD/front"
}

# keep_tls [KPOPD-OPTION ...]: keeps a kpopd-tls ready with these options, until
# keep_end or server_stop ends it. $WORLD/keep.pid has its pid.
keep_tls() {
	env ${SANITIZER-} "$KPOPD_BUILD/kpopd" --keep-tls "$@" 3>&- \
	    >"$WORLD/keep.out" 2>&1 &
	echo $! >"$WORLD/keep.pid"
	await 20 'kept_tls_is_ready || ! kill -0 "$(keeper)" 2>/dev/null' &&
	    kept_tls_is_ready
}

# keeper: prints the pid of the kept kpopd-tls.
keeper() {
	cat "$WORLD/keep.pid" 2>/dev/null
}

# kept_tls_is_ready: returns true if the kept kpopd-tls has its spare process
# ready. Then it takes requests.
kept_tls_is_ready() {
	has_only_spare "$(keeper)"
}

# keep_end: ends the kept kpopd-tls that keep_tls has started.
keep_end() {
	local pid
	pid=$(keeper) || return 0
	kill -KILL "$pid" 2>/dev/null || true
	await 5 "! kill -0 $pid 2>/dev/null"
	rm -f "$WORLD/keep.pid"
}

# keep_beside: keeps a kpopd-tls with the options of xinetd's service, if they
# contain a certificate that works.
keep_beside() {
	local args
	args=$(sed -n 's/^[[:space:]]*server_args = //p' "$WORLD/xinetd.conf")
	case " $args " in
	*" -c "*) keep_tls $args || rm -f "$WORLD/keep.pid" ;;
	esac
}
