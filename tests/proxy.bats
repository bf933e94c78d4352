#!/usr/bin/env bats
# The PROXY protocol: the client that a proxy names is the one in the log, and
# nobody else is believed.

load helpers/all

setup_file() { tls_make; server_start -p -x 127.0.0.1; }

setup() {
	begin_test
	realm_login alice
}

# says HEADER: the server's answer to a connection that begins with this (as
# printf has it), then CAPA and QUIT.
says() {
	{ printf "$1"; printf 'CAPA\r\nQUIT\r\n'; } | wire 3
}

v2='\r\n\r\n\x00\r\nQUIT\n'

@test "version 1 and 2, IPv4 and IPv6: the log has the client" {
	for header in 'PROXY TCP4 192.0.2.7 192.0.2.1 4711 1109\r\n=192.0.2.7:4711' \
	    'PROXY TCP6 2001:db8::7 2001:db8::1 4711 1109\r\n=\[2001:db8::7\]:4711' \
	    "$v2"'\x21\x11\x00\x0c\xc0\x00\x02\x08\xc0\x00\x02\x01\x12\x67\x04\x55=192.0.2.8:4711' \
	    "$v2"'\x21\x21\x00\x24\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x08\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x12\x67\x04\x55=\[2001:db8::8\]:4711' \
	    "$v2"'\x21\x11\x00\x10\xc0\x00\x02\x09\xc0\x00\x02\x01\x12\x67\x04\x55\x04\x00\x01a=192.0.2.9:4711'; do
		run says "${header%%=*}"
		[[ $output == "+OK"*"SASL GSSAPI"*"+OK bye"* ]] ||
		    { echo "$header: $output"; return 1; }
		log_has "refused peer=${header##*=} reason=\"no login: left\""
	done
}

@test "the log has one form of an address, whatever form the header has it in" {
	mapped='\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff'
	for header in 'PROXY TCP6 ::ffff:192.0.2.11 ::ffff:192.0.2.1 4711 1109\r\n=192.0.2.11:4711' \
	    'PROXY TCP6 ::FFFF:C000:20C ::1 4711 1109\r\n=192.0.2.12:4711' \
	    'PROXY TCP6 0:0:0:0:0:ffff:192.0.2.13 ::1 4711 1109\r\n=192.0.2.13:4711' \
	    'PROXY TCP6 2001:0DB8:0000:0000:0000:0000:0000:000E ::1 4711 1109\r\n=[2001:db8::e]:4711' \
	    'PROXY TCP6 2001:db8:0:0:1:0:0:f ::1 4711 1109\r\n=[2001:db8::1:0:0:f]:4711' \
	    "$v2\\x21\\x21\\x00\\x24$mapped\\xc0\\x00\\x02\\x10$mapped\\xc0\\x00\\x02\\x01\\x12\\x67\\x04\\x55=192.0.2.16:4711"; do
		run says "${header%%=*}"
		[[ $output == "+OK"*"+OK bye"* ]] ||
		    { echo "$header: $output"; return 1; }
		await 2 'log_lines | grep -F "refused peer=${header##*=} reason=\"no login: left\""' || { log_lines; return 1; }
	done
	log_lacks 'ffff'
}

@test "a proxy that speaks for itself, or for an unknown one, is itself in the log" {
	for header in 'PROXY UNKNOWN\r\n' \
	    'PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n' "$v2"'\x20\x00\x00\x00' \
	    "$v2"'\x21\x00\x00\x00'; do
		log_mark
		run says "$header"
		[[ $output == "+OK"*"+OK bye"* ]] ||
		    { echo "$header: $output"; return 1; }
		log_has 'refused peer=127.0.0.1:[0-9]+ reason="no login: left"'
	done
}

@test "no header, half a header and nonsense are refused without a word" {
	for header in '' 'PROXY TCP4 192.0.2.7\r\n' \
	    'PROXY TCP4 192.0.2.7 192.0.2.1 4711 70000\r\n' \
	    'PROXY TCP4 name 192.0.2.1 1 2\r\n' \
	    'PROXY TCP5 192.0.2.7 192.0.2.1 1 2\r\n' \
	    'PROXY TCP4 192.0.2.7 192.0.2.1 1 2 3\r\n' \
	    'PROXY TCP4 192.0.2.7 192.0.2.1 1 2\n' \
	    "PROXY TCP4 $(head -c 200 /dev/zero | tr '\0' 1)\\r\\n" \
	    "$v2"'\x11\x11\x00\x0c' "$v2"'\x21\x11\x00\x04aaaa' \
	    "$v2"'\x21\x11\xff\xff' \
	    'PROXY TCP4 192.0.2.7\x00 192.0.2.1 1 2\r\n' \
	    'PROXY TCP4 192.0.2.007 192.0.2.1 1 2\r\n' \
	    'PROXY TCP4 192.0.2.7 192.0.2.1 +1 2\r\n' \
	    'PROXY TCP4 192.0.2.7 192.0.2.1 01 2\r\n' \
	    'PROXY TCP4 192.0.2.7 192.0.2.1 1 \t2\r\n' \
	    'PROXY TCP6 ::ffff:192.0.2.07 ::1 1 2\r\n' \
	    'PROXY TCP6 fe80::1%%lo ::1 1 2\r\n'; do
		run says "$header"
		[ -z "$output" ] || { echo "$header: $output"; return 1; }
	done
	log_has 'refused peer=127.0.0.1:[0-9]+ reason="PROXY header: missing"'
	log_has 'reason="PROXY header: too long"'
}

@test "a header that does not come in time, or trickles in, ends at the login deadline" {
	server_stop
	server_start -p -t 2 -x 127.0.0.1
	run wire 10 < <(sleep 9)
	[ -z "$output" ] || { echo "heard: $output"; return 1; }
	output=$(printf 'PROXY TCP4 192.0.2.7 192.0.2.1 4711 1109\r\n' |
	    trickle 0.3 | wire 10 2>/dev/null) || true
	[ -z "$output" ] || { echo "heard: $output"; return 1; }
	log_count 2 \
	    'refused peer=127.0.0.1:[0-9]+ reason="PROXY header: too late"'
	server_stop
	server_start -p -x 127.0.0.1
}

@test "a header from elsewhere is no command" {
	run socat -t 3 - TCP6:[::1]:1109 \
	    < <(printf 'PROXY TCP4 192.0.2.7 192.0.2.1 4711 1109\r\nQUIT\r\n')
	[[ $output == "+OK"*"-ERR"*"+OK bye"* ]]
	log_lacks '192.0.2.7'
}

@test "behind it TLS begins at once: what follows the header is left alone" {
	server_stop
	server_start -p -T immediate -x 127.0.0.0/8 $(tls_options)
	perl -e 'use IO::Socket::INET; my $l = IO::Socket::INET->new(LocalAddr => "127.0.0.1:2110", Listen => 1, ReuseAddr => 1) or die;
	    my $c = $l->accept; my $s = IO::Socket::INET->new(PeerAddr => "127.0.0.1:1109") or die;
	    sysread $c, my $first, 65536; syswrite $s, "PROXY TCP4 192.0.2.7 192.0.2.1 4711 1109\r\n$first";
	    my $pid = fork; if (!$pid) { while (sysread $c, my $b, 65536) { syswrite $s, $b } exit }
	    while (sysread $s, my $b, 65536) { syswrite $c, $b } kill 9, $pid' \
	    3>&- &
	await 5 'ss -Hltn sport = 2110 | grep -q .'
	run timeout 10 curl -sS \
	    --connect-to mail.kpopd.test:995:127.0.0.1:2110 \
	    --cacert "$WORLD/tls/ca.pem" --login-options AUTH=GSSAPI \
	    -u alice@KPOPD.TEST: pop3s://mail.kpopd.test:995/
	[ "$status" -eq 0 ] || { echo "$output"; return 1; }
	log_has 'kpopd\[[0-9]+\]: tls peer=192.0.2.7:4711'
	log_has 'login peer=192.0.2.7:4711 user=alice'
	server_stop
	server_start -p -x 127.0.0.1
}
