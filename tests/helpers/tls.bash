# A certificate authority for the tests, and what it certifies.

# tls_make: $WORLD/tls/ca.pem, and for mail.kpopd.test server.pem with
# server.key. Once per world.
tls_make() {
	[ ! -e "$WORLD/tls/server.pem" ] || return 0
	mkdir -p "$WORLD/tls"
	(
		cd "$WORLD/tls"
		openssl req -x509 -newkey rsa:2048 -nodes -days 30 \
		    -subj /CN=throwaway-ca \
		    -keyout ca.key -out ca.pem
		openssl req -newkey rsa:2048 -nodes -subj /CN=mail.kpopd.test \
		    -keyout server.key -out server.csr
		printf 'subjectAltName=DNS:mail.kpopd.test,DNS:localhost\n' \
		    >server.ext
		openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key \
		    -CAcreateserial -days 30 \
		    -extfile server.ext -out server.crt
		cat server.crt ca.pem >server.pem
		chmod 600 server.key
		chmod 755 .
	) >"$WORLD/openssl.log" 2>&1 ||
	    { cat "$WORLD/openssl.log" >&2; return 1; }
}

# tls_options: for server_start.
tls_options() {
	echo "-c $WORLD/tls/server.pem -K $WORLD/tls/server.key"
}

# s_client OPTION ...: standard input to the server inside TLS, the certificate
# verified; prints what comes back.
s_client() {
	timeout 20 openssl s_client -quiet -verify_return_error \
	    -CAfile "$WORLD/tls/ca.pem" \
	    -servername mail.kpopd.test -verify_hostname mail.kpopd.test \
	    -connect mail.kpopd.test:1109 "$@" 2>"$WORLD/s_client.err"
}

# in_the_middle PORT: whoever comes to this port speaks cleartext with somebody
# in the middle, who begins TLS with the server. What is seen of the client is
# in $WORLD/seen, of the server in $WORLD/seen.back. $middle is its pid.
in_the_middle() {
	rm -f "$WORLD"/seen*
	cat >"$WORLD/middle" <<-END
	#!/bin/sh
	printf '+OK hello\r\n'
	exec openssl s_client -quiet -starttls pop3 -connect 127.0.0.1:1109 2>/dev/null
	END
	chmod 755 "$WORLD/middle"
	socat -r "$WORLD/seen" -R "$WORLD/seen.back" \
	    "TCP-LISTEN:$1,reuseaddr,fork" EXEC:"$WORLD/middle" 3>&- \
	    2>/dev/null &
	middle=$!
	await 5 "ss -Hltn sport = $1 | grep -q ."
}

# edited PORT PERL: whoever comes to this port has the server's lines edited: $_
# is the line, $n its number, from 1; once PERL has set $raw, what comes is
# passed as it is; if it has set $holds, the server's end is not. What the
# client says is in $WORLD/said. $middle is its pid.
edited() {
	rm -f "$WORLD/said"
	perl "$BATS_TEST_DIRNAME/programs/edit.pl" "$1" "$WORLD/said" "$2" \
	    3>&- &
	middle=$!
	await 5 "ss -Hltn sport = $1 | grep -q ."
}
