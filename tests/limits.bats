#!/usr/bin/env bats
# What those get who do not log in: little memory, whatever they send, and one
# answer after the same time.

load helpers/all

setup_file() { :; }

setup() {
	begin_test
	realm_login alice
	# A sanitizer's memory says nothing of ours.
	most=$([ -n "${SANITIZER-}" ] && echo 10000000 || echo 16384)
}

teardown() {
	server_stop
	no_reports
}

# hostile NAME AGAIN: standard input, then AGAIN for ever; nothing is read.
hostile() {
	await 10 '! pgrep -x "kpopd|kpopd-tls" >/dev/null'
	clients hostile "$1" "$most" "$2" >&3
}

# sampled N: so many samples of what all processes have for themselves are below
# the limit.
sampled() {
	local n now largest=0
	for ((n = 0; n < $1; n++)); do
		now=$(clients memory)
		[ "$now" -le "$largest" ] || largest=$now
	done
	echo "# limits: an endless line inside TLS   $largest KiB at most" >&3
	[ "$largest" -gt 0 ] && [ "$largest" -le "$most" ]
}

bytes() {
	perl -e 'print pack("H*", shift) x shift' "$1" "${2-1}"
}

# bats test_tags=promise:5
@test "KPOP before the login: no more than 16 MiB for all processes of a connection, whatever is sent" {
	server_start -t 3 -x 127.0.0.9
	hostile "a length of 4 GiB" '\x00' < <(u32 4294967295)
	hostile "a length of 2 GiB - 1" '\xff' < <(u32 2147483647)
	hostile "versions, then 4 GiB" '\x00' < <(versions; u32 4294967295)
	hostile "versions, then 64 KiB" '\x6e\x80\x30\x80' \
	    < <(versions; u32 65536; bytes 30 65536)
	hostile "versions, then 64 KiB - 1" '\x00' \
	    < <(versions; u32 65535; bytes 6e82 32767; bytes 00)
	hostile "an application of 4 GiB" 'KPOPV1.0' \
	    < <(printf 'KRB5_SENDAUTH_V1.0\0' | framed; u32 4294967295)
	hostile "a ticket, an endless line" 'x' \
	    < <(versions; apreq pop/mail.kpopd.test | framed)
	hostile "a ticket, endless commands" 'CAPA\r\n' \
	    < <(versions; apreq pop/mail.kpopd.test | framed)
	hostile "a ticket, sensible nonsense" 'X\r\nCAPA\r\n' \
	    < <(versions; apreq pop/mail.kpopd.test | framed)
	hostile "a ticket, endless USER" \
	    'USER aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n' \
	    < <(versions; apreq pop/mail.kpopd.test | framed)
}

# bats test_tags=promise:5
@test "POP3 before the login: no more than 16 MiB, also for TLS and tokens of GSSAPI" {
	tls_make
	server_start -p -t 3 $(tls_options)
	pop_open -p
	pop_close
	hostile "an endless line" 'x' </dev/null
	hostile "endless CAPA, nothing read" 'CAPA\r\n' </dev/null
	hostile "endless AUTH" 'AUTH GSSAPI\r\n' </dev/null
	hostile "an endless token" 'AAAA' < <(printf 'AUTH GSSAPI\r\n')
	hostile "an endless first token" 'YIIB' < <(printf 'AUTH GSSAPI ')
	hostile "a token of 64 KiB" \
	    'AAAA\r\n' < <(printf 'AUTH GSSAPI\r\n'; bytes 6082ffff300000 9362 |
		base64 -w 0; printf '\r\n')
	hostile "TLS: a record of 16 KiB" '\x00' \
	    < <(printf 'STLS\r\n'; sleep 0.3; bytes 1603014000)
	hostile "TLS: a hello of 16 MiB" \
	    '\x16\x03\x01\x40\x00\x01\xff\xff\xff' \
	    < <(printf 'STLS\r\n'; sleep 0.3; bytes 160301400001ffffff)
}

@test "TLS from the first byte: no more than 16 MiB before and behind the handshake" {
	tls_make
	server_start -p -T immediate -t 3 $(tls_options)
	s_client </dev/null >/dev/null || true
	hostile "a record of 16 KiB" '\x00' < <(bytes 1603014000)
	hostile "a hello of 16 MiB" '\x16\x03\x01\x40\x00\x01\xff\xff\xff' \
	    < <(bytes 160301400001ffffff)
	# Behind the handshake the pipe is openssl's, and what is read from it
	# is not read.
	timeout 4 socat "SYSTEM:tr '\\\\0' x </dev/zero" \
	    "OPENSSL:127.0.0.1:1109,verify=0" >/dev/null 2>&1 3>&- &
	sender=$!
	await 5 'jailed_in tls | grep -q .'
	sampled 20
	kill $sender 2>/dev/null || true
}

# bats test_tags=promise:6
@test "who is refused hears the same after about the same time, whatever the reason" {
	realm_other_start
	KRB5CCNAME=FILE:$WORLD/ccache.eve kinit -k \
	    -t "$WORLD/keytabs/eve@OTHER.TEST.keytab" eve@OTHER.TEST
	mbox one | store bob
	server_start
	# The other realm's ticket has to be one already.
	KRB5CCNAME=FILE:$WORLD/ccache.eve pop bob QUIT >/dev/null || true
	clients refusals 30 0.049 2 \
	    "unknown user:$WORLD/ccache:nobody-of-that-name" \
	    "refused principal:$WORLD/ccache:bob" \
	    "other realm:$WORLD/ccache.eve:bob" \
	    "system user:$WORLD/ccache:daemon" "no name:$WORLD/ccache:../bob" \
	    "our domain, unknown:$WORLD/ccache:nobody-of-that-name@kpopd.test" \
	    "our domain, refused:$WORLD/ccache:bob@kpopd.test" \
	    "other domain:$WORLD/ccache:bob@elsewhere.test" >&3
	for reason in 'unknown user' 'not permitted to be this user' \
	    'uid below the minimum'; do
		log_has "refused .*reason=\"$reason\""
	done
}
