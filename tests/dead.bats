#!/usr/bin/env bats
# A connection that dies orders nothing: what was sent must have been
# acknowledged before QUIT removes anything.

load helpers/all

# The ways in: KPOP, KPOP with STLS, KPOP inside TLS from the first byte, POP3
# with a layer of GSSAPI, and that layer inside TLS.
modes=(plain stls immediate layer both)

setup_file() {
	tls_make
	# A client that does not read: its kernel takes little on its behalf.
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
	[ -z "${away-}" ] || kill "$away" 2>/dev/null || true
	ip link del s0 2>/dev/null || true
	server_stop
	end_test
}

# serve MODE [OPTION ...]: a server for clients of this mode, and $client,
# kpopc's options for it.
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

# forward MODE [HOST]: whoever connects to port 2109 is forwarded to the server
# by $forwarder.
forward() {
	local to=TCP:${2-127.0.0.1}:1109
	[[ $1 != @(immediate|both) ]] ||
	    to=OPENSSL:${2-127.0.0.1}:1109,cafile=$WORLD/tls/ca.pem,commonname=mail.kpopd.test
	$far socat -t 60 TCP-LISTEN:2109,reuseaddr "$to" 3>&- 2>/dev/null &
	forwarder=$!
	await 5 "$far ss -Hltn sport = 2109 | grep -q ."
}

# talk COMMAND ...: a session by way of the forwarder that says all of this in
# one write, and ends its side.
talk() {
	printf '%s\r\n' "USER alice" "PASS x" "$@" >"$WORLD/commands"
	$far "$KPOPD_BUILD/kpopc" "${client[@]}" mail.kpopd.test 2109 \
	    <"$WORLD/commands"
}

# The server has sent what its client does not take.
answer_is_stuck() {
	await 10 \
	    '[ "$(ss -Htn state connected sport = 1109 | awk "{ n += \$3 } END { print n + 0 }")" -gt 0 ]'
}

# talk_stuck COMMAND ...: the same in the background. Its side stays open, and
# it takes no answer.
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

# What talk_stuck began is over.
talk_no_more() {
	exec {say}>&- {hold}>&-
	pkill -KILL -x kpopc || true
	await 5 '! pgrep -x kpopd >/dev/null'
}

# gone_in MODE COMMAND: a client that says this, DELE 1 and QUIT at once, takes
# nothing, and is reset.
gone_in() {
	serve "$1"
	store alice <"$WORLD/mailbox"
	forward "$1"
	talk_stuck "$2" "DELE 1" QUIT
	kill -KILL "$forwarder"
	forwarder=
	log_has 'logout .*reason=lost .*deleted=0 ' || { echo "$*"; return 1; }
	cmp /var/mail/alice "$WORLD/mailbox" || { echo "$*"; return 1; }
	talk_no_more
}

# bats test_tags=catalogue:44-3,promise:7
@test "a client that is reset in the middle of an answer orders nothing with what it has sent already" {
	for mode in "${modes[@]}"; do
		gone_in "$mode" "RETR 1"
		gone_in "$mode" "TOP 1 99999999"
	done
}

@test "nor in the middle of a list" {
	perl -e 'print "From a\nN: $_\n\n$_\n\n" for 1 .. 300000' \
	    >"$WORLD/mailbox"
	gone_in plain UIDL
	gone_in layer UIDL
}

@test "a relay that dies is a client that dies" {
	for mode in stls layer both; do
		serve $mode
		store alice <"$WORLD/mailbox"
		forward $mode
		talk_stuck "TOP 1 99999999" "DELE 1" QUIT
		# Whose socket it is that leads to the client.
		relay=$(ss -Htnp state connected sport = 1109 |
		    sed -n 's/.*pid=\([0-9]*\).*/\1/p' | head -n 1)
		kill -KILL "$relay"
		log_has 'logout .*reason=lost .*deleted=0 '
		cmp /var/mail/alice "$WORLD/mailbox"
		kill -KILL "$forwarder"
		talk_no_more
	done
}

@test "so is the inner one of two" {
	serve both
	store alice <"$WORLD/mailbox"
	forward both
	talk_stuck "TOP 1 99999999" "DELE 1" QUIT
	log_has 'login .*layer=tls\+confidentiality '
	kill -KILL "$(jailed_in relay)"
	log_has 'logout .*reason=lost .*deleted=0 '
	cmp /var/mail/alice "$WORLD/mailbox"
	kill -KILL "$forwarder"
	talk_no_more
}

@test "the same commands of a client that is slow, or has ended its side, and lives are obeyed" {
	for mode in "${modes[@]}"; do
		serve "$mode"
		store alice <"$WORLD/mailbox"
		forward "$mode"
		# Its input ends with QUIT.
		talk "RETR 1" "DELE 1" QUIT |
		    perl -e 'while (sysread STDIN, $_, 262144) { print; select undef, undef, undef, 0.02 }' |
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

# go_away: from now on clients are in another network, from where the server is
# 10.9.0.1.
go_away() {
	unshare --net sleep 100 3>&- &
	away=$!
	far="nsenter -t $away -n"
	await 5 \
	    "[ \"\$(readlink /proc/$away/ns/net)\" != \"\$(readlink /proc/self/ns/net)\" ]"
	ip link add s0 type veth peer name c0 netns "$away"
	ip addr add 10.9.0.1/24 dev s0
	ip link set s0 up
	$far ip addr add 10.9.0.2/24 dev c0
	$far ip link set c0 up
	$far ip link set lo up
}

# The server's packets go to somebody else; it still gets the client's.
deafen() {
	ip neigh replace 10.9.0.2 lladdr 02:00:00:00:00:01 dev s0 nud permanent
}

heal() {
	ip neigh replace 10.9.0.2 lladdr \
	    "$($far ip -o link show c0 |
		sed 's,.*link/ether \([^ ]*\) .*,\1,')" dev s0 nud permanent
}

# deaf_in MODE [OPTION ...]: a client has seen the login; what is answered to
# TOP, DELE and QUIT does not arrive.
deaf_in() {
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
	deafen
	printf '%s\r\n' "TOP 1 1" "DELE 1" QUIT >&"$say"
	answer_is_stuck
}

# bats test_tags=catalogue:44-4
@test "answers that are not acknowledged: QUIT waits, and removes nothing if they never are" {
	go_away
	for mode in "${modes[@]}"; do
		deaf_in "$mode" -t 30:10
		await 10 "log_lines | grep -q 'logout .*reason=lost .*deleted=0 left=2 '" || { log_lines; return 1; }
		spool_is alice one two
		heal
		exec {say}>&-
	done
}

@test "answers that are acknowledged late: QUIT waits, and then removes" {
	go_away
	for mode in "${modes[@]}"; do
		deaf_in "$mode"
		# The session waits: it counts.
		attach "$(child_pid)" -e trace=ioctl -o "$WORLD/counted"
		await 5 "grep -q OUTQ '$WORLD/counted'"
		spool_is alice one two
		heal
		await 10 "grep -q 'bye, 1 messages left' $WORLD/far.out" ||
		    { log_lines; return 1; }
		log_has 'logout .*reason=quit .*deleted=1 left=1 '
		spool_is alice two
		exec {say}>&-
	done
}
