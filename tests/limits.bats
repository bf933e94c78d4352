#!/usr/bin/env bats
# Checks clients that do not log in. Such clients must cause little memory use,
# whatever they send. A refused client must get the same answer after the same
# time, whatever the reason.

load helpers/all

setup_file() { :; }

setup() {
	begin_test
	realm_login alice
	# The limit is in KiB. A sanitizer build has no real limit, because the
	# sanitizer's own memory would hide kpopd's memory use.
	most=$([ -n "${SANITIZER-}" ] && echo 10000000 || echo 16384)
}

# hostile NAME AGAIN: sends standard input, and then AGAIN for ever. Does not
# read the answers. Fails if all processes of kpopd together use more than $most
# KiB.
hostile() {
	clients hostile "$1" "$most" "$2" >&3
	await 10 'no_kpopd'
}

# after_stls: prints STLS, and waits until kpopd-tls waits for input. Then
# prints standard input. If it were printed earlier, it would be cleartext
# commands after STLS.
after_stls() {
	printf 'STLS\r\n'
	await 5 'jailed_in tls | grep -q .'
	cat
}

# stays_small N: takes N samples of the private memory of all processes. Returns
# true if each sample is at most $most.
stays_small() {
	local n now largest=0
	for ((n = 0; n < $1; n++)); do
		now=$(clients memory)
		[ "$now" -le "$largest" ] || largest=$now
	done
	echo "# limits: an endless line inside TLS   $largest KiB at most" >&3
	[ "$largest" -gt 0 ] && [ "$largest" -le "$most" ]
}

# bytes DIGITS [N]: prints the bytes whose hexadecimal form is DIGITS. Prints
# these bytes once, or N times.
bytes() {
	perl -e 'print pack("H*", shift) x shift' "$1" "${2-1}"
}

# bats test_tags=promise:5
@test "all processes of a KPOP connection use at most 16 MiB before the login, whatever the client sends" {
	server_start -t 30 -x 127.0.0.9
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
@test "all processes of a POP3 connection use at most 16 MiB before the login, also by GSSAPI or STLS" {
	tls_make
	server_start -p -t 30 $(tls_options)
	pop_open -p
	pop_close
	await 10 'no_kpopd'
	hostile "an endless line" 'x' </dev/null
	hostile "endless CAPA, nothing read" 'CAPA\r\n' </dev/null
	hostile "endless AUTH" 'AUTH GSSAPI\r\n' </dev/null
	hostile "an endless token" 'AAAA' < <(printf 'AUTH GSSAPI\r\n')
	hostile "an endless first token" 'YIIB' < <(printf 'AUTH GSSAPI ')
	hostile "a token of 64 KiB" \
	    'AAAA\r\n' < <(printf 'AUTH GSSAPI\r\n'; bytes 6082ffff300000 9362 |
		base64 -w 0; printf '\r\n')
	hostile "TLS: a record of 16 KiB" '\x00' \
	    < <(bytes 1603014000 | after_stls)
	hostile "TLS: a hello of 16 MiB" \
	    '\x16\x03\x01\x40\x00\x01\xff\xff\xff' \
	    < <(bytes 160301400001ffffff | after_stls)
	log_lacks 'cleartext commands after STLS'
}

@test "all processes of a connection use at most 16 MiB with TLS from the first byte, in the handshake and after it" {
	tls_make
	server_start -p -T immediate -t 30 $(tls_options)
	s_client </dev/null >/dev/null || true
	await 10 'no_kpopd'
	hostile "a record of 16 KiB" '\x00' < <(bytes 1603014000)
	hostile "a hello of 16 MiB" '\x16\x03\x01\x40\x00\x01\xff\xff\xff' \
	    < <(bytes 160301400001ffffff)
	# After the handshake socat sends one endless line.
	timeout 60 socat "SYSTEM:tr '\\\\0' x </dev/zero" \
	    "OPENSSL:127.0.0.1:1109,verify=0" >/dev/null 2>&1 3>&- &
	sender=$!
	await 5 'jailed_in tls | grep -q .'
	await 10 'ss -Htin sport = 1109 | grep -Eq "bytes_received:[0-9]{7}"'
	stays_small 20
	kill $sender 2>/dev/null || true
}

# bats test_tags=promise:6
@test "all refused logins get the same answer after about the same time, whatever the reason" {
	realm_other_start
	KRB5CCNAME=FILE:$WORLD/ccache.eve kinit -k \
	    -t "$WORLD/keytabs/eve@OTHER.TEST.keytab" eve@OTHER.TEST
	mbox one | store bob
	server_start
	# Get the ticket of the other realm first, so that the first attempt
	# does not take longer than the others.
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
