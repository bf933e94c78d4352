#!/usr/bin/env bats
# A connection that broke without a sign does not keep its user out: it is found
# dead, and it yields when he comes back.

load helpers/all

# After one second of silence a session yields; a dead line is found in 4 s.
setup_file() { server_start -t 30:20; }

setup() {
	begin_test
	realm_login alice
	mbox one two three | store alice
	uid=$(id -u alice)
}

teardown() {
	[ -z "${away-}" ] || kill "$away" 2>/dev/null || true
	ip link del s0 2>/dev/null || true
	rm -f /home/alice/.k5login
	end_test
}

# second NAME COMMAND ...: another session beside the one that is open, with
# NAME's ticket.
second() {
	local name=$1
	shift
	KRB5CCNAME="FILE:$WORLD/$name.second" kinit -k \
	    -t "$WORLD/keytabs/$name.keytab" "$name"
	KRB5CCNAME="FILE:$WORLD/$name.second" pop alice "$@"
}

@test "the same principal comes back: the idle session ends without UPDATE, the new one goes on" {
	pop_login alice
	pop_ask "DELE 1"
	sleep 1.2
	run second alice STAT "DELE 3" QUIT
	[[ $output == *"+OK 3 messages"*"+OK bye, 2 messages left" ]]
	pop_hear_end
	log_has 'logout .*reason=yielded retrieved=0 octets=0 topped=0 deleted=0 left=3'
	spool_is alice one two
}

@test "a session that is at work does not yield, and the answer says how old it is" {
	pop_login alice
	sleep 2.2
	for i in $(seq 8); do
		pop_ask NOOP
		sleep 0.2
	done &
	busy=$!
	sleep 0.3
	run second alice STAT QUIT
	wait $busy
	[[ ${lines[-1]} =~ ^"-ERR [IN-USE] another session has had the mailbox for "([0-9]+)" seconds"$ ]] || { echo "$output"; return 1; }
	[ "${BASH_REMATCH[1]}" -ge 2 ]
	[ "${BASH_REMATCH[1]}" -le 10 ]
	log_has 'logout .*reason=in-use age=[0-9]+'
	pop_ask "DELE 1"
	pop_ask QUIT '^\+OK bye, 2'
	pop_hear_end
}

@test "a session in the middle of an answer that nobody takes yields, too" {
	{
		from_line
		printf 'Subject: large\n\n'
		head -c 20000000 /dev/zero | tr '\0' x
		printf '\n\n'
	} | store alice
	pop_login alice
	pop_say "RETR 1"
	sleep 1.5
	run second alice STAT QUIT
	[[ $output == *"+OK 1 messages"* ]]
	log_has 'logout .*reason=yielded'
}

@test "it does not yield to another principal" {
	printf 'alice@KPOPD.TEST\nbob@KPOPD.TEST\n' >/home/alice/.k5login
	chown alice /home/alice/.k5login
	pop_login alice
	sleep 1.2
	run second bob STAT QUIT
	[[ ${lines[-1]} == "-ERR [IN-USE] another session has had"* ]]
	pop_ask QUIT
	pop_hear_end
	run second bob STAT QUIT
	[[ $output == *"+OK 3 messages"* ]]
}

@test "what the user puts in the FIFO's place changes nothing but that nobody yields" {
	pop alice QUIT
	bash -c \
	    "cd '$(kept)' && rm yield && echo text >yield && chown alice yield"
	pop_login alice
	sleep 1.2
	run second alice STAT QUIT
	[[ ${lines[-1]} == "-ERR [IN-USE]"* ]]
	[ "$(cat "$(kept)/yield")" = text ]
	pop_ask QUIT
	pop_hear_end
	bash -c \
	    "cd '$(kept)' && rm yield && ln -s /dev/null yield && chown -h alice yield"
	run pop alice STAT QUIT
	[[ $output == *"+OK 3 messages"* ]]
}

@test "after QUIT the mailbox is free at once, though its client is still connected" {
	printf 'alice@KPOPD.TEST\nbob@KPOPD.TEST\n' >/home/alice/.k5login
	chown alice /home/alice/.k5login
	exec 9<>/dev/tcp/127.0.0.1/1109
	{
		versions
		apreq pop/mail.kpopd.test | framed
		printf 'USER alice\r\nPASS x\r\nDELE 1\r\nQUIT\r\n'
	} >&9
	timeout 5 grep -aqm 1 '^+OK bye, 2' <&9
	# Another's ticket: nobody yields to it.
	run second bob STAT QUIT
	[[ $output == *"+OK 2 messages"*"+OK bye, 2 messages left" ]] ||
	    { echo "$output"; return 1; }
	exec 9>&-
	log_lacks 'in-use'
}

@test "ten logins one after the other, each with an idle one before it: none is refused" {
	for i in $(seq 10); do
		(
			printf '%s\r\n' "USER alice" "PASS x" STAT
			exec sleep 60
		) 3>&- |
		    kpopc mail.kpopd.test >"$WORLD/idle.$i" 2>&1 3>&- &
		await 10 "grep -q '^+OK 3 [0-9]' $WORLD/idle.$i"
		sleep 1.1
	done
	sessions=$(pgrep -x kpopd -u alice | wc -l)
	pkill -x kpopc
	pkill -f '^sleep 60$' || true
	[ "$sessions" -le 2 ]
	[ "$(cat "$WORLD"/idle.* | grep -c 'IN-USE')" -eq 0 ]
	spool_is alice one two three
}

# far COMMAND: in another network, from where the server is 10.9.0.1.
far() {
	nsenter -t "$away" -n "$@"
}

@test "a line that is cut without a sign is found dead, and the mailbox is free" {
	unshare --net sleep 100 3>&- &
	away=$!
	await 5 \
	    "[ \"\$(readlink /proc/$away/ns/net)\" != \"\$(readlink /proc/self/ns/net)\" ]"
	ip link add s0 type veth peer name c0 netns "$away"
	ip addr add 10.9.0.1/24 dev s0
	ip link set s0 up
	far ip addr add 10.9.0.2/24 dev c0
	far ip link set c0 up
	far ip link set lo up
	# The ticket is got at home: there is no KDC out there. Somebody else's
	# later, so that nothing yields.
	printf 'alice@KPOPD.TEST\nbob@KPOPD.TEST\n' >/home/alice/.k5login
	chown alice /home/alice/.k5login
	kvno -q pop/mail.kpopd.test
	mkfifo "$WORLD/far.$BASHPID"
	exec {say}<>"$WORLD/far.$BASHPID"
	far "$KPOPD_BUILD/kpopc" -s pop/mail.kpopd.test@KPOPD.TEST 10.9.0.1 \
	    <&"$say" >"$WORLD/far.out" 2>&1 3>&- &
	printf '%s\r\n' "USER alice" "PASS x" "DELE 1" >&"$say"
	await 5 "grep -q 'message 1 deleted' $WORLD/far.out"
	far ip link set c0 down
	begin=$SECONDS
	run second bob STAT QUIT
	[[ ${lines[-1]} == "-ERR [IN-USE] another session has had"* ]]
	await 15 "grep -a 'logout .*reason=lost' $WORLD/syslog | tail -n 1 | grep -q 'peer=10.9.0.2'"
	[ $((SECONDS - begin)) -le 10 ]
	run second bob STAT QUIT
	[[ $output == *"+OK 3 messages"* ]]
	exec {say}>&-
}
