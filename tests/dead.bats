#!/usr/bin/env bats
# Checks that QUIT removes nothing if the connection has died. The client must
# have acknowledged all answers before messages are removed.

load helpers/all

# The modes, in this order: KPOP, KPOP with STLS, KPOP inside TLS from the first
# byte, POP3 with a GSSAPI layer, and POP3 with a GSSAPI layer inside TLS.
modes=(plain stls immediate layer both)

setup_file() {
	tls_make
	# If a client does not read, its kernel must buffer only little.
	cp /proc/sys/net/ipv4/tcp_rmem "$WORLD/tcp_rmem"
	echo 4096 65536 131072 >/proc/sys/net/ipv4/tcp_rmem
	{
		from_line
		printf 'Subject: large\n\n'
		head -c 20000000 /dev/zero | tr '\0' x | fold -w 76
		printf '\n\n'
		mbox two
	} >"$WORLD/large"
}

teardown_file() {
	cat "$WORLD/tcp_rmem" >/proc/sys/net/ipv4/tcp_rmem
}

setup() {
	begin_test
	realm_login alice
	kvno -q pop/mail.kpopd.test
	cp "$WORLD/large" "$WORLD/mailbox"
}

teardown() {
	[ -z "${forwarder-}" ] || kill -KILL "$forwarder" 2>/dev/null || true
	[ -z "${far_pid-}" ] || kill "$far_pid" 2>/dev/null || true
	ip link del s0 2>/dev/null || true
	end_test
}

# serve MODE [OPTION ...]: starts a server for clients of this mode. Sets
# $client to the options of kpopc for this mode.
serve() {
	local mode=$1 options
	shift
	client=() options=()
	case $mode in
	stls) options=($(tls_options)) client=(--tls -C "$WORLD/tls/ca.pem") ;;
	immediate) options=(-T immediate $(tls_options)) ;;
	layer) options=(-p) client=(-p) ;;
	both) options=(-p -T immediate $(tls_options)) client=(-p) ;;
	esac
	server_stop
	server_start "${options[@]}" "$@"
	log_mark
}

# forward MODE [HOST]: starts a process that forwards connections from port 2109
# to the server. If TLS begins with the first byte in this mode, the process
# forwards the connections inside TLS. Sets $forwarder to its pid.
forward() {
	local to=TCP:${2-127.0.0.1}:1109
	[[ $1 != @(immediate|both) ]] || {
		to=OPENSSL:${2-127.0.0.1}:1109,cafile=$WORLD/tls/ca.pem
		to+=,commonname=mail.kpopd.test
	}
	$far socat -t 60 TCP-LISTEN:2109,reuseaddr "$to" 3>&- 2>/dev/null &
	forwarder=$!
	await 5 "$far ss -Hltn sport = 2109 | grep -q ."
}

# talk COMMAND ...: logs in through the forwarder, sends all commands at once,
# and ends the client's input.
talk() {
	printf '%s\r\n' "USER alice" "PASS x" "$@" >"$WORLD/commands"
	$far "$KPOPD_BUILD/kpopc" "${client[@]}" mail.kpopd.test 2109 \
	    <"$WORLD/commands"
}

# unsent: prints the number of bytes that the server has sent and that no client
# has acknowledged.
unsent() {
	ss -Htn state connected sport = 1109 |
	    awk '{ n += $3 } END { print n + 0 }'
}

# answer_is_stuck: waits until the server has sent bytes that the client does
# not acknowledge.
answer_is_stuck() {
	await 10 '[ "$(unsent)" -gt 0 ]'
}

# talk_stuck COMMAND ...: logs in and sends all commands at once, in the
# background. The client does not end its input, and does not read the answers.
talk_stuck() {
	rm -f "$WORLD/say" "$WORLD/stuck"
	mkfifo "$WORLD/say" "$WORLD/stuck"
	exec {say}<>"$WORLD/say" {hold}<>"$WORLD/stuck"
	printf '%s\r\n' "USER alice" "PASS x" "$@" >&"$say"
	$far "$KPOPD_BUILD/kpopc" "${client[@]}" mail.kpopd.test 2109 <&"$say" \
	    >&"$hold" 2>/dev/null 3>&- &
	log_has 'login '
	answer_is_stuck
}

# talk_end: ends the client that talk_stuck has started, and waits until the
# session ends.
talk_end() {
	exec {say}>&- {hold}>&-
	pkill -KILL -x kpopc || true
	kpopd_ends 5
}

# reset_in MODE COMMAND: sends the command, DELE 1 and QUIT at once, does not
# read the answers, and resets the connection. Returns true if nothing was
# removed.
reset_in() {
	serve "$1"
	store alice <"$WORLD/mailbox"
	forward "$1"
	talk_stuck "$2" "DELE 1" QUIT
	kill -KILL "$forwarder"
	forwarder=
	log_has 'logout .*reason=lost .*deleted=0 ' || { echo "$*"; return 1; }
	cmp /var/mail/alice "$WORLD/mailbox" || { echo "$*"; return 1; }
	talk_end
}

# bats test_tags=catalogue:44-3,promise:7
@test "QUIT removes nothing if the client's connection is reset in the middle of RETR or TOP" {
	for mode in "${modes[@]}"; do
		reset_in "$mode" "RETR 1"
		reset_in "$mode" "TOP 1 99999999"
	done
}

@test "QUIT removes nothing if the client's connection is reset in the middle of UIDL" {
	perl -e 'print "From a\nN: $_\n\n$_\n\n" for 1 .. 300000' \
	    >"$WORLD/mailbox"
	reset_in plain UIDL
	reset_in layer UIDL
}

@test "QUIT removes nothing if the relay that has the client's socket is killed" {
	for mode in stls layer both; do
		serve $mode
		store alice <"$WORLD/mailbox"
		forward $mode
		talk_stuck "TOP 1 99999999" "DELE 1" QUIT
		# The process that has the client's socket is the relay.
		relay=$(ss -Htnp state connected sport = 1109 |
		    sed -n 's/.*pid=\([0-9]*\).*/\1/p' | head -n 1)
		kill -KILL "$relay"
		log_has 'logout .*reason=lost .*deleted=0 '
		cmp /var/mail/alice "$WORLD/mailbox"
		kill -KILL "$forwarder"
		talk_end
	done
}

@test "QUIT removes nothing if GSSAPI's relay inside TLS is killed" {
	serve both
	store alice <"$WORLD/mailbox"
	forward both
	talk_stuck "TOP 1 99999999" "DELE 1" QUIT
	log_has 'login .*layer=tls\+confidentiality '
	kill -KILL "$(jailed_in relay)"
	log_has 'logout .*reason=lost .*deleted=0 '
	cmp /var/mail/alice "$WORLD/mailbox"
	kill -KILL "$forwarder"
	talk_end
}

# read_slowly: copies standard input to standard output. Pauses after each 256
# KiB.
read_slowly() {
	perl -e '
	    while (sysread STDIN, $_, 262144) {
		print;
		select undef, undef, undef, 0.02;
	    }'
}

@test "QUIT removes the marked messages of a client that reads slowly, or has ended its input" {
	for mode in "${modes[@]}"; do
		serve "$mode"
		store alice <"$WORLD/mailbox"
		forward "$mode"
		talk "RETR 1" "DELE 1" QUIT | read_slowly |
		    tr -d '\r' >"$WORLD/answer"
		[ "$(grep -c '^x' "$WORLD/answer")" \
		    -eq "$(grep -c '^x' "$WORLD/mailbox")" ] ||
		    { echo "$mode"; return 1; }
		[ "$(tail -n 2 "$WORLD/answer")" = \
		    "+OK message 1 deleted"$'\n'"+OK bye, 1 messages left" ]
		log_has 'logout .*reason=quit .*deleted=1 left=1 '
		spool_is alice two
	done
	serve plain
	mbox one two | store alice
	{
		versions
		apreq pop/mail.kpopd.test | framed
		printf '%s\r\n' "USER alice" "PASS x" "RETR 1" "DELE 1" QUIT
	} | wire | tr -d '\0\r' >"$WORLD/answer"
	[ "$(tail -n 1 "$WORLD/answer")" = "+OK bye, 1 messages left" ]
	spool_is alice two
}

# go_far: makes another network namespace. Then clients run in that namespace,
# through $far. The server has the address 10.9.0.1 for them. Sets $far_pid to
# the pid of a process in the namespace.
go_far() {
	unshare --net sleep 1000 3>&- &
	far_pid=$!
	far="nsenter -t $far_pid -n"
	await 5 '[ "$(readlink "/proc/$far_pid/ns/net")" != \
	    "$(readlink /proc/self/ns/net)" ]'
	ip link add s0 type veth peer name c0 netns "$far_pid"
	ip addr add 10.9.0.1/24 dev s0
	ip link set s0 up
	$far ip addr add 10.9.0.2/24 dev c0
	$far ip link set c0 up
	$far ip link set lo up
}

# client_at MAC: sends the server's packets for the client to this MAC address.
client_at() {
	ip neigh replace 10.9.0.2 lladdr "$1" dev s0 nud permanent
}

# lose_answers: sends the server's packets to a wrong address. The client's
# packets still reach the server.
lose_answers() {
	client_at 02:00:00:00:00:01
}

# pass_answers: sends the server's packets to the right address again.
pass_answers() {
	client_at "$($far ip -o link show c0 |
	    sed 's,.*link/ether \([^ ]*\) .*,\1,')"
}

# quit_without_answers MODE [OPTION ...]: begins a session. After the login, the
# answers to TOP, DELE and QUIT do not reach the client.
quit_without_answers() {
	serve "$@"
	mbox one two | store alice
	forward "$1" 10.9.0.1
	rm -f "$WORLD/far.in" "$WORLD/far.out"
	mkfifo "$WORLD/far.in"
	exec {say}<>"$WORLD/far.in"
	$far "$KPOPD_BUILD/kpopc" "${client[@]}" mail.kpopd.test 2109 <&"$say" \
	    >"$WORLD/far.out" 2>&1 3>&- &
	printf '%s\r\n' "USER alice" "PASS x" NOOP >&"$say"
	await 5 "grep -q 'nothing done' $WORLD/far.out"
	lose_answers
	printf '%s\r\n' "TOP 1 1" "DELE 1" QUIT >&"$say"
	answer_is_stuck
}

# bats test_tags=catalogue:44-4
@test "QUIT waits until its client has acknowledged the answers, and removes nothing if it never does" {
	go_far
	for mode in "${modes[@]}"; do
		# With -t 30:30 the kernel ends the connection six seconds after
		# the last acknowledgement.
		quit_without_answers "$mode" -t 30:30
		await 20 'log_lines |
		    grep -q "logout .*reason=lost .*deleted=0 left=2 "' ||
		    { log_lines; return 1; }
		spool_is alice one two
		pass_answers
		exec {say}>&-
	done
}

@test "QUIT removes the marked messages once its client acknowledges the answers late" {
	go_far
	for mode in "${modes[@]}"; do
		quit_without_answers "$mode"
		# The trace shows that the session asks for the number of
		# unacknowledged bytes.
		attach "$(child_pid)" -e trace=ioctl -o "$WORLD/counted"
		await 5 "grep -q OUTQ '$WORLD/counted'"
		spool_is alice one two
		pass_answers
		await 10 "grep -q 'bye, 1 messages left' $WORLD/far.out" ||
		    { log_lines; return 1; }
		log_has 'logout .*reason=quit .*deleted=1 left=1 '
		spool_is alice two
		exec {say}>&-
	done
}
