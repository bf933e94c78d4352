#!/usr/bin/env bats
# Checks that a silently broken connection does not keep its user out. The
# session of such a connection ends at the user's next login, or when the kernel
# finds the connection dead.

load helpers/all

# With this idle limit of 20 seconds, the idle time before takeover is one
# second. A dead connection is found within four seconds.
setup_file() { server_start -t 30:20; }

setup() {
	begin_test
	realm_login alice
	mbox one two three | store alice
}

teardown() {
	[ -z "${away-}" ] || kill "$away" 2>/dev/null || true
	ip link del s0 2>/dev/null || true
	rm -f /home/alice/.k5login
	end_test
}

# be_idle: waits longer than the idle time before takeover. If the client does
# not read, the idle time begins when the socket's buffers are full.
be_idle() {
	sleep 1.5
}

# permit_bob: lets alice and bob log in as alice.
permit_bob() {
	printf 'alice@KPOPD.TEST\nbob@KPOPD.TEST\n' >/home/alice/.k5login
	chown alice /home/alice/.k5login
}

# second NAME COMMAND ...: logs in as alice with NAME's ticket while the first
# session is open, and prints the answers.
second() {
	local name=$1
	shift
	KRB5CCNAME="FILE:$WORLD/$name.second" kinit -k \
	    -t "$WORLD/keytabs/$name.keytab" "$name"
	KRB5CCNAME="FILE:$WORLD/$name.second" pop alice "$@"
}

@test "an idle session ends without UPDATE if the same principal logs in again" {
	pop_login alice
	pop_ask "DELE 1"
	be_idle
	run second alice STAT "DELE 3" QUIT
	[[ $output == *"+OK 3 messages"*"+OK bye, 2 messages left" ]]
	pop_hear_end
	log_has 'logout .*reason=yielded retrieved=0 octets=0 topped=0 deleted=0 left=3'
	spool_is alice one two
}

# be_busy: sends commands until the file $WORLD/answered exists. The pauses are
# much shorter than the idle time before takeover.
be_busy() {
	until [ -e "$WORLD/answered" ]; do
		pop_ask NOOP || return
		sleep 0.1
	done
}

@test "an active session goes on if the same principal logs in again, and the refusal contains the session's age" {
	local refusal="-ERR [IN-USE] another session has had the mailbox for"
	local begin=$SECONDS busy age
	rm -f "$WORLD/answered"
	# The idle time before takeover is ten seconds.
	server_stop
	server_start -t 30:200
	pop_login alice
	# Wait until the session's age is two seconds or more, because the
	# refusal contains the age.
	sleep 2.2
	pop_ask NOOP
	be_busy &
	busy=$!
	run second alice STAT QUIT
	age=$((SECONDS - begin))
	: >"$WORLD/answered"
	wait $busy
	[[ ${lines[-1]} =~ ^"$refusal "([0-9]+)" seconds"$ ]] ||
	    { echo "$output"; return 1; }
	[ "${BASH_REMATCH[1]}" -ge 2 ]
	[ "${BASH_REMATCH[1]}" -le $((age + 1)) ]
	log_has 'logout .*reason=in-use age=[0-9]+'
	pop_ask "DELE 1"
	pop_ask QUIT '^\+OK bye, 2'
	pop_hear_end
}

@test "a session whose client does not read its answer ends if the same principal logs in again" {
	{
		from_line
		printf 'Subject: large\n\n'
		head -c 20000000 /dev/zero | tr '\0' x
		printf '\n\n'
	} | store alice
	pop_login alice
	session=$(child_pid)
	pop_say "RETR 1"
	pop_hear '^\+OK'
	await 5 has_blocked_writer
	be_idle
	run second alice STAT QUIT
	[[ $output == *"+OK 1 messages"* ]]
	log_has 'logout .*reason=yielded'
}

@test "an idle session goes on if another principal logs in as the same user" {
	permit_bob
	pop_login alice
	be_idle
	run second bob STAT QUIT
	[[ ${lines[-1]} == "-ERR [IN-USE] another session has had"* ]]
	pop_ask QUIT
	pop_hear_end
	run second bob STAT QUIT
	[[ $output == *"+OK 3 messages"* ]]
}

@test "a file or symlink in the place of the takeover FIFO only prevents the takeover, and is left unchanged" {
	pop alice QUIT
	bash -c \
	    "cd '$(kept)' && rm yield && echo text >yield && chown alice yield"
	pop_login alice
	be_idle
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

@test "the mailbox is free at once after QUIT, even if the client stays connected" {
	local client
	permit_bob
	exec {client}<>/dev/tcp/127.0.0.1/1109
	{
		versions
		apreq pop/mail.kpopd.test | framed
		printf 'USER alice\r\nPASS x\r\nDELE 1\r\nQUIT\r\n'
	} >&"$client"
	timeout 20 grep -aqm 1 '^+OK bye, 2' <&"$client"
	# Use bob's ticket, because alice's session does not end for a login
	# with it.
	run second bob STAT QUIT
	[[ $output == *"+OK 2 messages"*"+OK bye, 2 messages left" ]] ||
	    { echo "$output"; return 1; }
	exec {client}>&-
	log_lacks 'in-use'
}

@test "ten logins in a row succeed, although the session before each of them is idle and still connected" {
	local i status=0
	for i in $(seq 10); do
		# sleep keeps kpopc's input open.
		(
			printf '%s\r\n' "USER alice" "PASS x" STAT
			exec sleep 60
		) 3>&- |
		    kpopc mail.kpopd.test >"$WORLD/idle.$i" 2>&1 3>&- &
		await 10 "grep -q '^+OK 3 [0-9]' $WORLD/idle.$i"
		be_idle
	done
	await 10 '[ "$(pgrep -x kpopd -u alice | wc -l)" -le 2 ]' || status=1
	pkill -x kpopc
	pkill -f '^sleep 60$' || true
	[ $status -eq 0 ]
	refute grep IN-USE "$WORLD"/idle.*
	spool_is alice one two three
}

# is_away: returns true if the process $away is in another network namespace.
is_away() {
	[ "$(readlink "/proc/$away/ns/net")" != \
	    "$(readlink /proc/self/ns/net)" ]
}

# far COMMAND ...: runs the command in the network namespace that go_away has
# made.
far() {
	nsenter -t "$away" -n "$@"
}

# go_away: makes another network namespace. From there, the server has the
# address 10.9.0.1.
go_away() {
	unshare --net sleep 100 3>&- &
	away=$!
	await 5 is_away
	ip link add s0 type veth peer name c0 netns "$away"
	ip addr add 10.9.0.1/24 dev s0
	ip link set s0 up
	far ip addr add 10.9.0.2/24 dev c0
	far ip link set c0 up
	far ip link set lo up
}

@test "kpopd finds a connection that broke silently before the idle limit, and frees the mailbox" {
	local begin commands
	go_away
	permit_bob
	# Get the ticket here, because the other network namespace has no KDC.
	kvno -q pop/mail.kpopd.test
	mkfifo "$WORLD/far.$BASHPID"
	exec {commands}<>"$WORLD/far.$BASHPID"
	far "$KPOPD_BUILD/kpopc" -s pop/mail.kpopd.test@KPOPD.TEST 10.9.0.1 \
	    <&"$commands" >"$WORLD/far.out" 2>&1 3>&- &
	printf '%s\r\n' "USER alice" "PASS x" "DELE 1" >&"$commands"
	await 5 "grep -q 'message 1 deleted' $WORLD/far.out"
	far ip link set c0 down
	begin=$SECONDS
	# Use bob's ticket, because alice's session does not end for a login
	# with it. On a busy machine the session may have ended already.
	run second bob STAT QUIT
	[[ ${lines[-1]} == "-ERR [IN-USE] another session has had"* ||
	    $output == *"+OK 3 messages"* ]]
	await 15 'log_lines | grep -aq "logout peer=10\.9\.0\.2.* reason=lost"'
	[ $((SECONDS - begin)) -le 18 ]
	run second bob STAT QUIT
	[[ $output == *"+OK 3 messages"* ]]
	exec {commands}>&-
}
