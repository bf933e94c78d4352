#!/usr/bin/env bats
# Checks the PROXY protocol (-x). The log contains the client that a proxy
# names. A header from an address that is not a proxy's is not trusted.

load helpers/all

setup_file() { tls_make; server_start -p -x 127.0.0.1; }

setup() {
	begin_test
	realm_login alice
}

# answer_after HEADER: sends HEADER, which printf formats, then CAPA and QUIT.
# Prints the answers.
answer_after() {
	{ printf "$1"; printf 'CAPA\r\nQUIT\r\n'; } | wire 30
}

# A header of version 2 begins with this signature.
v2='\r\n\r\n\x00\r\nQUIT\n'

@test "the log has the IPv4 or IPv6 address of the client that a PROXY header of version 1 or 2 names" {
	for header in \
	    'PROXY TCP4 192.0.2.7 192.0.2.1 4711 1109\r\n=192.0.2.7:4711' \
	    'PROXY TCP6 2001:db8::7 2001:db8::1 4711 1109\r\n=\[2001:db8::7\]:4711' \
	    "$v2"'\x21\x11\x00\x0c\xc0\x00\x02\x08\xc0\x00\x02\x01\x12\x67\x04\x55=192.0.2.8:4711' \
	    "$v2"'\x21\x21\x00\x24\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x08\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x12\x67\x04\x55=\[2001:db8::8\]:4711' \
	    "$v2"'\x21\x11\x00\x10\xc0\x00\x02\x09\xc0\x00\x02\x01\x12\x67\x04\x55\x04\x00\x01a=192.0.2.9:4711'; do
		run answer_after "${header%%=*}"
		[[ $output == "+OK"*"SASL GSSAPI"*"+OK bye"* ]] ||
		    { echo "$header: $output"; return 1; }
		log_has "refused peer=${header##*=} reason=\"no login: left\""
	done
}

@test "the log writes each address in one form, in whatever form the PROXY header contains the address" {
	mapped='\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff'
	for header in 'PROXY TCP6 ::ffff:192.0.2.11 ::ffff:192.0.2.1 4711 1109\r\n=192.0.2.11:4711' \
	    'PROXY TCP6 ::FFFF:C000:20C ::1 4711 1109\r\n=192.0.2.12:4711' \
	    'PROXY TCP6 0:0:0:0:0:ffff:192.0.2.13 ::1 4711 1109\r\n=192.0.2.13:4711' \
	    'PROXY TCP6 2001:0DB8:0000:0000:0000:0000:0000:000E ::1 4711 1109\r\n=[2001:db8::e]:4711' \
	    'PROXY TCP6 2001:db8:0:0:1:0:0:f ::1 4711 1109\r\n=[2001:db8::1:0:0:f]:4711' \
	    "$v2\\x21\\x21\\x00\\x24$mapped\\xc0\\x00\\x02\\x10$mapped\\xc0\\x00\\x02\\x01\\x12\\x67\\x04\\x55=192.0.2.16:4711"; do
		run answer_after "${header%%=*}"
		[[ $output == "+OK"*"+OK bye"* ]] ||
		    { echo "$header: $output"; return 1; }
		line="refused peer=${header##*=} reason=\"no login: left\""
		await 10 'log_lines | grep -F "$line"' ||
		    { log_lines; return 1; }
	done
	log_lacks 'ffff'
}

@test "the log has the proxy's own address if its header names no client" {
	for header in 'PROXY UNKNOWN\r\n' \
	    'PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n' "$v2"'\x20\x00\x00\x00' \
	    "$v2"'\x21\x00\x00\x00'; do
		log_mark
		run answer_after "$header"
		[[ $output == "+OK"*"+OK bye"* ]] ||
		    { echo "$header: $output"; return 1; }
		log_has 'refused peer=127.0.0.1:[0-9]+ reason="no login: left"'
	done
}

@test "a proxy that sends no PROXY header, or a malformed one, is refused without an answer" {
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
		run answer_after "$header"
		[ -z "$output" ] || { echo "$header: $output"; return 1; }
	done
	log_has 'refused peer=127.0.0.1:[0-9]+ reason="PROXY header: missing"'
	log_has 'reason="PROXY header: too long"'
}

@test "a proxy whose PROXY header is late, or arrives byte by byte, is refused at the login deadline" {
	server_stop
	server_start -p -t 2 -x 127.0.0.1
	# The client sends nothing for longer than the deadline of two seconds.
	# So the server ends the connection.
	run wire 10 < <(sleep 9)
	[ -z "$output" ] || { echo "answer: $output"; return 1; }
	output=$(printf 'PROXY TCP4 192.0.2.7 192.0.2.1 4711 1109\r\n' |
	    trickle 0.3 | wire 10 2>/dev/null) || true
	[ -z "$output" ] || { echo "answer: $output"; return 1; }
	log_count 2 \
	    'refused peer=127.0.0.1:[0-9]+ reason="PROXY header: too late"'
}

@test "a PROXY header from an address that is not a proxy's is an unknown command" {
	run socat -t 30 - TCP6:[::1]:1109 \
	    < <(printf 'PROXY TCP4 192.0.2.7 192.0.2.1 4711 1109\r\nQUIT\r\n')
	[[ $output == "+OK"*"-ERR"*"+OK bye"* ]]
	log_lacks '192.0.2.7'
}

@test "TLS may begin with the first byte after the PROXY header, in the same packet" {
	server_stop
	server_start -p -T immediate -x 127.0.0.0/8 $(tls_options)
	perl "$BATS_TEST_DIRNAME/programs/prefix-once.pl" 2110 \
	    $'PROXY TCP4 192.0.2.7 192.0.2.1 4711 1109\r\n' 3>&- &
	await 5 'ss -Hltn sport = 2110 | grep -q .'
	run timeout 10 curl -sS \
	    --connect-to mail.kpopd.test:995:127.0.0.1:2110 \
	    --cacert "$WORLD/tls/ca.pem" --login-options AUTH=GSSAPI \
	    -u alice@KPOPD.TEST: pop3s://mail.kpopd.test:995/
	[ "$status" -eq 0 ] || { echo "$output"; return 1; }
	log_has 'kpopd\[[0-9]+\]: tls peer=192.0.2.7:4711'
	log_has 'login peer=192.0.2.7:4711 user=alice'
}

# connect_and_leave reset|end HEADER [FILE]: connects, sends HEADER, and ends or
# resets the connection. With FILE, does so only when kpopd has FILE open.
connect_and_leave() {
	perl "$BATS_TEST_DIRNAME/programs/connect-and-leave.pl" \
	    "$1" "$(printf "$2" | base64 -w 0)" "${@:3}"
}

# leave_while_reading reset|end HEADER FILE: makes FILE a FIFO, and leaves as
# connect_and_leave does when kpopd reads it. Then kpopd gets FILE's content.
leave_while_reading() {
	mv "$3" "$3.kept"
	mkfifo "$3"
	exec {fifo}<>"$3"
	connect_and_leave "$@"
	mv "$3.kept" "$3"
	cat "$3" >&$fifo
	exec {fifo}>&-
}

@test "the log has the client that a PROXY header names, even if the proxy has reset the connection" {
	cp /etc/krb5.conf "$WORLD/proxied.conf"
	cp "$WORLD/server.keytab" "$WORLD/proxied.keytab"
	server_stop
	server_env="KRB5_CONFIG=$WORLD/proxied.conf" server_start -p \
	    -k "$WORLD/proxied.keytab" -x 127.0.0.1
	for file in proxied.conf proxied.keytab; do
		log_mark
		leave_while_reading reset \
		    'PROXY TCP4 192.0.2.7 192.0.2.1 4711 1109\r\n' \
		    "$WORLD/$file"
		log_has 'closed peer=192\.0\.2\.7:4711 reason="before the first byte"' ||
		    { echo "$file"; return 1; }
	done
}

# leave_before_accept reset|end HEADER: leaves before the superserver or the
# listener has seen the connection.
leave_before_accept() {
	local pid
	pid=$(listener_pid 2>/dev/null) || pid=$(cat "$WORLD/xinetd.pid")
	kill -STOP "$pid"
	connect_and_leave "$@"
	kill -CONT "$pid"
}

# listener_pid: prints the listener's pid.
listener_pid() {
	grep -q 'wait.*= yes' "$WORLD/xinetd.conf" && monitor_pid
}

# leaves_two_lines reset|end HEADER: returns true if a connection that ends
# before it is accepted, and one that ends later, leave the line and no other.
leaves_two_lines() {
	local line=' closed .*reason="before the first byte"$'
	log_mark
	leave_before_accept "$@"
	log_has "$line"
	leave_while_reading "$@" "$WORLD/proxied.conf"
	log_count 2 "$line"
	kpopd_ends 5
	log_count 2 . || { echo "$mode $*"; return 1; }
}

@test "a balancer's check that ends or resets its connection at any time is logged as closed, not as refused" {
	cp /etc/krb5.conf "$WORLD/proxied.conf"
	local server_env="KRB5_CONFIG=$WORLD/proxied.conf"
	for mode in "" -p "-T immediate $(tls_options)" \
	    "-p -T immediate $(tls_options)"; do
		server_stop
		server_start -x 127.0.0.1 $mode
		# The first connection makes the replay cache, which is logged.
		connect_and_leave end ""
		log_has ' closed '
		for how in reset end; do
			leaves_two_lines $how ""
			leaves_two_lines $how "$v2\\x20\\x00\\x00\\x00"
		done
	done
}

@test "the listener logs a balancer's check as closed if the connection is reset before it is accepted" {
	server_stop
	listener_start -x 127.0.0.1
	printf 'x\r\n' | wire >/dev/null
	await 5 '[ "$(pgrep -cx kpopd)" -eq 1 ]'
	log_mark
	for how in reset end; do
		for header in "" "$v2\\x20\\x00\\x00\\x00"; do
			leave_before_accept $how "$header"
		done
	done
	# The one that ended its side after a header is served.
	log_has ' closed .*reason="before the first byte"$'
	log_has ' closed .*reason="before it was served" more=0$'
	log_lacks ' refused '
	server_stop
}

# haproxy_checks HEADER: runs HAProxy, whose checks send this header, until it
# has made a dozen.
haproxy_checks() {
	cat >"$WORLD/haproxy.cfg" <<-END
	defaults
		mode tcp
		timeout connect 2s
		timeout client 1m
		timeout server 1m
	listen kpop
		bind 127.0.0.1:2109
		default-server $1 check check-send-proxy inter 50ms
		option tcp-check
		server a 127.0.0.1:1109
	END
	haproxy -db -f "$WORLD/haproxy.cfg" 3>&- >/dev/null 2>&1 &
	haproxy=$!
	await 20 "[ \$(log_lines | grep -c ' closed ') -ge 12 ]"
	kill "$haproxy"
	wait "$haproxy" || true
}

@test "the checks of HAProxy leave no line about a refusal" {
	command -v haproxy >/dev/null || skip "HAProxy is not installed"
	for header in send-proxy send-proxy-v2; do
		for mode in "" -p; do
			server_stop
			server_start -x 127.0.0.1 $mode
			haproxy_checks $header
			log_lacks ' refused ' ||
			    { log_lines; echo "$header $mode"; return 1; }
		done
	done
}
