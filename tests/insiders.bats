#!/usr/bin/env bats
# Checks that attacks after a login fail. The attackers are a compromised
# session or broker, the mailbox's owner, and another user.

load helpers/all

setup() {
	begin_test
	realm_login alice
}

teardown() {
	[ -z "${flooder-}" ] || kill -KILL "$flooder" 2>/dev/null || :
	pkill -KILL -x strace || :
	rm -rf /home/alice/.k5login /home/bob-k5login
	if [ -e "$WORLD/passwd" ]; then
		cp "$WORLD/passwd" /etc/passwd
		rm "$WORLD/passwd"
	fi
	end_test
}

# as_alice COMMAND: runs the shell command as alice.
as_alice() {
	su alice -s /bin/sh -c "$*"
}

# pid_of session|broker: prints the pid of the newest connection's session or
# broker.
pid_of() {
	if [ "$1" = session ]; then child_pid; else broker_pid; fi
}

# standin ARGUMENT ...: sends messages as a compromised child of the monitor
# (tests/programs/preauth-standin.c).
standin() {
	"$KPOPD_BUILD/tests/programs/preauth-standin" "$@"
}

# flood_channel PID: starts a program that sends log lines without end over the
# channel of process PID. It takes the place of a child of that process, which
# would have the same channel. Sets $flooder to the program's pid. Returns when
# the first line is logged.
flood_channel() {
	standin "$1" flood failed "what=flood" 3>&- &
	flooder=$!
	log_has 'failed .*what=flood'
}

# forge_sigsys PID: sends SIGSYS (31) to the process as alice, first by
# rt_sigqueueinfo (129), then by kill. The first signal pretends that the
# process has called ptrace (101), which is a forbidden call.
forge_sigsys() {
	as_alice "perl -e '\$info = pack \"i i i i i i q x96\",
		31, 0, -1, 0, \$\$, \$>, 101;
	    syscall 129, $1, 31, \$info; kill 31, $1'"
}

# bats test_tags=attack:5-3,attack:7-1
@test "a monitor ends after its broker although the broker's child still sends log lines without end" {
	[ -z "${SANITIZER-}" ] ||
	    skip "LeakSanitizer and strace do not go together"
	mbox one | store alice
	pop_login_locking alice
	broker=$(broker_pid) monitor=$(monitor_pid)
	# The delay makes sure that the monitor never finds the channel empty,
	# even if $flooder sends slowly.
	attach "$monitor" -o /dev/null -e trace=recvmsg \
	    -e inject=recvmsg:delay_exit=20000
	flood_channel "$broker"
	pop_ask QUIT
	pop_hear_end
	await 5 "! kill -0 $monitor 2>/dev/null"
}

# bats test_tags=attack:7-2
@test "a monitor kills the pre-auth process at the login deadline although log lines arrive without end" {
	server_stop
	server_start -t 10
	pop_open
	pop_hear '^\+OK'
	monitor=$(monitor_pid)
	kill -STOP "$(child_pid)"
	flood_channel "$(child_pid)"
	await 20 "! kill -0 $monitor 2>/dev/null"
	log_has 'refused .*reason="login deadline, pre-auth process killed"$'
}

# bats test_tags=attack:5-4,attack:7-3
@test "a monitor kills a broker that announces a second time that it finishes a removal" {
	mbox one | store alice
	pop_login_locking alice
	broker=$(broker_pid)
	standin "$broker" message F ""
	pop_ask NOOP
	standin "$broker" message F ""
	log_has 'fatal .*error="the broker sent a malformed message, and was killed"$'
	pop_ask QUIT
	pop_hear_end
	kpopd_ends 5
}

# bats test_tags=attack:4-8,attack:4-9,attack:5-5,attack:7-8
@test "a monitor kills a session or broker that sends a message out of turn, and logs no second login" {
	mbox one | store alice
	spool_keep
	for case in "session Y again" "session N again" "session C x" \
	    "session F x" "session P x" "broker Y x" "broker N x" "broker K x" \
	    "session K two=words" "broker F bad\"text"; do
		read -r who kind text <<<"$case"
		log_mark
		pop_login_locking alice
		standin "$(pid_of "$who")" message "$kind" "$text"
		log_has "fatal .*error=\"the $who sent a malformed message, and was killed\"\$"
		pop_close
		kpopd_ends 5
		log_count 1 ' login '
	done
}

# begin_asking: begins a login as alice whose session cannot decide it, because
# her .k5login is a FIFO without a writer. Sets $session to the session's pid.
begin_asking() {
	rm -f /home/alice/.k5login
	mkfifo /home/alice/.k5login
	chown alice /home/alice/.k5login
	pop_open
	pop_hear '^\+OK'
	pop_ask "USER alice"
	pop_say "PASS x"
	await 5 'session=$(pgrep -n -u alice -x kpopd)'
}

# bats test_tags=attack:4-19
@test "a refused login is answered and logged once, whatever its compromised session sends after the refusal" {
	# log-texts knows that these two are no reasons of kpopd.
	for reason in forged ""; do
		for more in C:x N:x Y:k5login K:x F:x 'C:x=y' 'C:x"y' \
		    $'C:x\ny' $'C:x\e'; do
			log_mark
			begin_asking
			standin "$session" message N "$reason"
			# A session that was killed has no channel.
			standin "$session" message "${more%%:*}" "${more#*:}"
			standin "$session" message C y || :
			pop_hear '^-ERR \[AUTH\] this ticket does not open that mailbox'
			pop_hear_end
			kpopd_ends 5
			log_has "refused peer=[^ ]+ reason=\"$reason\" user=alice principal=alice@KPOPD\\.TEST( error=\"/home/alice/\\.k5login: x\")?\$"
			[ "$more" = C:x ] ||
			    log_has 'fatal .*error="the session sent a malformed message, and was killed"$'
			log_count 1 ' refused '
			log_lacks ' login |error="/home/alice/.k5login: [^x]'
		done
	done
}

# bats test_tags=attack:4-19
@test "a monitor kills a session that sends the cause of a refusal before it has refused the login" {
	begin_asking
	standin "$session" message C x
	pop_hear_end
	log_has 'fatal .*error="the session sent a malformed message, and was killed"$'
	log_lacks ' (login|refused) '
}

# bats test_tags=attack:4-10,attack:7-7
@test "a monitor logs a session's line with less than emergency priority, whatever priority the session asks for" {
	mbox one | store alice
	pop_login alice
	for priority in 0 1 2 8 184 255; do
		standin "$(child_pid)" line failed \
		    "what=priority-$priority" 1 $priority
		log_has "what=priority-$priority\$"
	done
	log_lacks 'emerg .*what='
	pop_ask QUIT
	pop_hear_end
}

# bats test_tags=attack:7-6
@test "if a user sends SIGSYS to a session or broker, the monitor logs no forbidden system call" {
	[ -z "${SANITIZER-}" ] || skip "a build with sanitizers has no sandbox"
	mbox one two | store alice
	spool_keep
	pop_login_locking alice
	pop_ask "DELE 1"
	for pid in "$(child_pid)" "$(broker_pid)"; do
		forge_sigsys "$pid"
	done
	pop_close
	kpopd_ends 5
	log_has '(logout|fatal) '
	log_lacks 'system call'
}

# bats test_tags=attack:4-1,attack:4-2,attack:5-1
@test "the sandbox ends a session or broker that sets a file's set-user-ID or set-group-ID bit, or its group" {
	[ -z "${SANITIZER-}" ] || skip "a build with sanitizers has no sandbox"
	for who in session broker; do
		for call in "fchmod 5 04755" "fchmod 5 02755" \
		    "chmod /etc/x 04755" "fchmodat -100 x 06755 0" \
		    "fchown 5 -1 8"; do
			mbox one | store alice
			log_mark
			pop_login_locking alice
			captive "$(pid_of "$who")" "$call"
			log_has "fatal .*the $who was ended for the system call ${call%% *}\"\$"
			pop_close
			kpopd_ends 5
		done
	done
}

# bats test_tags=attack:5-2,attack:7-5
@test "the children of a compromised broker end when the broker ends" {
	mbox one | store alice
	pop_login_locking alice
	broker=$(broker_pid)
	# A clone with 17 (SIGCHLD) is a fork.
	captive "$broker" "clone 17 0 0 0 0" "clone 17 0 0 0 0"
	[ "$(wc -w <<<"$returned")" -eq 2 ]
	# Both children still run, because they wait for the session.
	for pid in $returned; do kill -0 "$pid"; done
	kill -KILL "$broker"
	for pid in $returned; do await 5 "! kill -0 $pid 2>/dev/null"; done
	pop_ask QUIT
	pop_hear_end
	kpopd_ends 5
}

# bats test_tags=attack:7-4
@test "a broker that announces a removal before its session has ended still gets an hour for the removal" {
	[ -z "${SANITIZER-}" ] ||
	    skip "LeakSanitizer and strace do not go together"
	mbox one | store alice
	pop_login_locking alice
	session=$(child_pid) broker=$(broker_pid)
	attach "$broker" -o /dev/null -e trace=recvmsg \
	    -e inject=recvmsg:delay_exit=2000000
	attach "$(monitor_pid)" -o "$WORLD/waits" -e trace=ppoll
	standin "$broker" message F ""
	# This is the limit of a call, not what a call has left of its limit.
	await 5 'grep -Eq "[0-9], \{tv_sec=(3600|359[0-9])" "$WORLD/waits"'
	: >"$WORLD/waits"
	kill -KILL "$session"
	log_has 'fatal .*the session was ended by signal 9'
	# This is the limit of a call, not what a call has left of its limit.
	await 5 'grep -Eq "[0-9], \{tv_sec=(3600|359[0-9])" "$WORLD/waits"'
	refute grep -E "tv_sec=[56][0-9]," "$WORLD/waits"
	pop_close
	kpopd_ends 8
}

# bats test_tags=attack:4-11,attack:5-11
@test "if a user sends a signal to the user's own session and broker, QUIT still removes all marked messages or none" {
	[ -z "${SANITIZER-}" ] || skip "a build with sanitizers has no sandbox"
	for signal in $(seq 1 31) 34 50 64; do
		mbox one two | store alice
		pop_login_locking alice
		pop_ask "DELE 1"
		for pid in "$(child_pid)" "$(broker_pid)"; do
			as_alice "kill -$signal $pid" || :
		done
		(pop_say QUIT) || :
		pop_close
		kpopd_ends 5
		run pop alice QUIT
		[[ $output == *"+OK 1 messages"* ||
		    $output == *"+OK 2 messages"* ]] ||
		    { echo "$signal: $output"; false; }
		kpopd_ends 5
	done 2>/dev/null
	log_lacks 'system call|malformed'
}

# bats test_tags=attack:4-12
@test "resource limits that a user sets on the user's own session lose no mail" {
	# If ASan gets no memory, it ends the process with its own report.
	local memory="as=0 data=0"
	[ -z "${SANITIZER-}" ] || memory=
	for limit in fsize=0 fsize=100 nofile=3 nofile=0 $memory stack=0 \
	    memlock=0 cpu=0 cpu=1 nproc=0 locks=0 sigpending=0; do
		mbox one two three | store alice
		pop_login alice
		pop_ask "DELE 2"
		as_alice "prlimit --pid $(child_pid) --$limit" || :
		(pop_say QUIT) || :
		heard=
		IFS= read -r -t 10 heard <&"$pop_in" || :
		pop_close
		kpopd_ends 10
		run pop alice QUIT
		case $heard in
		"+OK bye"*) [[ $output == *"+OK 2 messages"* ]] ;;
		-ERR*"nothing removed"*) [[ $output == *"+OK 3 messages"* ]] ;;
		*)
			[[ $output == *"+OK 2 messages"* ||
			    $output == *"+OK 3 messages"* ]]
			;;
		esac || { echo "$limit: $heard; $output"; false; }
		[[ $output != *"+OK 3 messages"* ]] ||
		    spool_is alice one two three
		[[ $output != *"+OK 2 messages"* ]] || spool_is alice one three
	done
}

# bats test_tags=attack:4-14
@test "a .k5login of any type or content admits no principal that it does not name, and delays no other user" {
	mbox one | store alice
	mbox one | store bob
	spool_keep
	server_stop
	server_start -t 8
	other=/home/bob-k5login
	printf 'bob@KPOPD.TEST\n' >$other
	chown bob $other
	chmod 644 $other
	realm_logout
	realm_login bob
	x=/home/alice/.k5login
	while read -r make; do
		rm -rf $x
		eval "$make"
		# Give the file to alice, because root has made it. Do not do so
		# for links and devices.
		[[ $make == ln* || $make == mknod* ]] || chown alice $x
		run pop alice QUIT
		[[ $output != *messages* ]] || { echo "$make: $output"; false; }
		run pop bob QUIT
		[[ $output == *"+OK 1 messages"* ]] ||
		    { echo "after $make: $output"; false; }
	done <<-'END'
		mkdir $x
		ln -s $x $x
		ln -s /dev/zero $x
		ln -s /dev/full $x
		ln -s /proc/self/mem $x
		ln -s /proc/self/fd/0 $x
		ln -s /proc/self/fd/3 $x
		ln -s /proc/self/environ $x
		ln -s $other $x
		ln $other $x
		ln -s /etc/shadow $x
		mknod $x c 1 5
		truncate -s 1T $x
		printf 'bob@KPOPD.TEST ' >$x
		printf ' bob@KPOPD.TEST\n' >$x
		printf 'bob@KPOPD.TEST\r\n' >$x
		printf '*@KPOPD.TEST\n*\n' >$x
		printf '#bob@KPOPD.TEST\nbob\nBOB@KPOPD.TEST\nbob@kpopd.test\n' >$x
		perl -MSocket -e 'socket S, 1, 1, 0; bind S, sockaddr_un($ARGV[0]) or die' $x
	END
	log_lacks ' login .*user=alice'
}

# bats test_tags=attack:7-11,attack:7-12
@test "a user cannot signal, limit, reschedule, trace or inspect a process of another user's session" {
	mbox one | store bob
	realm_logout
	realm_login bob
	pop_login_locking bob
	for pid in "$(child_pid)" "$(broker_pid)" "$(monitor_pid)"; do
		for attack in "kill -0 $pid" "kill -STOP $pid" \
		    "kill -KILL -$pid" "prlimit --pid $pid --cpu=1" \
		    "renice -n 5 -p $pid" \
		    "taskset -p 1 $pid" "ionice -c 3 -p $pid" \
		    "chrt -b -p 0 $pid" "cat /proc/$pid/mem" \
		    "cat /proc/$pid/environ" \
		    "cat /proc/$pid/maps" "ls /proc/$pid/fd/" \
		    "cat /proc/$pid/syscall" "cat /proc/$pid/stack" \
		    "readlink /proc/$pid/root" \
		    "readlink /proc/$pid/cwd" \
		    "echo 1000 >/proc/$pid/oom_score_adj" \
		    "echo 1 >/proc/$pid/clear_refs" \
		    "strace -p $pid -o /dev/null"; do
			refute as_alice "$attack"
		done
	done
	pop_ask NOOP
	pop_ask QUIT
	pop_hear_end
	log_lacks 'fatal'
}

# pidfd_getfd_of PID: prints a shell command that succeeds if pidfd_getfd (438)
# can copy descriptor 0 of the process. pidfd_open (434) makes the pidfd.
pidfd_getfd_of() {
	echo "perl -e 'exit !(syscall(438, syscall(434, $1, 0), 0, 0) >= 0)'"
}

# bats test_tags=attack:4-13,attack:5-12
@test "a user cannot trace or inspect the session and broker of the user's own mailbox" {
	mbox one | store alice
	pop_login_locking alice
	for pid in "$(child_pid)" "$(broker_pid)"; do
		for attack in "cat /proc/$pid/mem" "cat /proc/$pid/environ" \
		    "ls /proc/$pid/fd/" "cat /proc/$pid/syscall" \
		    "readlink /proc/$pid/root" \
		    "echo 1000 >/proc/$pid/oom_score_adj" \
		    "echo 1 >/proc/$pid/clear_refs" \
		    "strace -p $pid -o /dev/null" \
		    "$(pidfd_getfd_of "$pid")"; do
			refute as_alice "$attack"
		done
	done
	pop_ask QUIT
	pop_hear_end
	log_lacks 'fatal'
}

# bats test_tags=attack:4-3,attack:4-4,attack:4-5,attack:4-6,attack:4-7,attack:5-6,attack:5-7,attack:5-8,attack:5-9,attack:5-10
@test "the sandbox ends a compromised session or broker that makes a system call outside its role" {
	[ -z "${SANITIZER-}" ] || skip "a build with sanitizers has no sandbox"
	mbox one | store alice
	spool_keep
	while read -r who call; do
		log_mark
		pop_login_locking alice
		captive "$(pid_of "$who")" "$call"
		log_has "fatal .*the $who was ended for the system call ${call%% *}\"\$"
		pop_close
		kpopd_ends 5
	done <<-END
		session clone 17 0 0 0 0
		session setpgid 0 0
		session prlimit64 0 7 0 0
		session kill 1 0
		session process_vm_readv 1 0 0 0 0 0
		session pidfd_getfd 3 0 0
		session io_uring_setup 1 0
		session memfd_create x 0
		session userfaultfd 0
		session keyctl 0 0 0
		session unshare 0x10000000
		session mount x /tmp x 0 0
		session setsockopt 0 1 13 0 0
		session recvmsg 3 0 0
		session fcntl 0 8 1
		session fcntl 0 0 9
		session sendmsg 0 0 0x4000
		session mmap 0 4096 4 34 -1 0
		session dup2 3 0
		broker setpgid 0 0
		broker setsid
		broker kill 1 9
		broker execveat 3 x 0 0 0
		broker pidfd_send_signal 3 9 0 0
		broker prctl 36 1 0 0 0
		broker fchmod 3 0666
		broker setgroups 0 0
		broker ptrace 16 1 0 0
		broker setns 3 0
		broker process_vm_writev 1 0 0 0 0 0
		broker mprotect 4096 4096 4
		broker symlinkat /etc/shadow -100 x
	END
}

# bats test_tags=attack:4-15
@test "a home directory of any kind admits no other principal, and delays no other user" {
	mbox one | store alice
	mbox one | store bob
	spool_keep
	cp /etc/passwd "$WORLD/passwd"
	realm_logout
	realm_login bob
	for home in / "" alice home/bob ../../home/bob /home/bob /dev/null \
	    /dev/zero /proc/self /proc/self/fd/0 /etc/passwd /root /nowhere \
	    "$(printf '/%0200d' {1..19})"; do
		awk -F: -v OFS=: -v home="$home" \
		    '$1 == "alice" { $6 = home } { print }' \
		    "$WORLD/passwd" >/etc/passwd
		grep -q "^alice:.*:$home:" /etc/passwd
		run pop alice QUIT
		[[ $output != *messages* ]] || { echo "$home: $output"; false; }
		run pop bob QUIT
		[[ $output == *"+OK 1 messages"* ]] ||
		    { echo "after $home: $output"; false; }
	done
	log_lacks ' login .*user=alice'
}

# bats test_tags=attack:7-9,attack:7-10
@test "a monitor has only /dev/null, syslog and its channels, whatever descriptors a compromised child sends" {
	mbox one | store alice
	pop_login_locking alice
	monitor=$(monitor_pid)
	# The monitor may still have the pre-auth process and the directory of
	# the user's state.
	await 10 '[ "$(others "$monitor")" -eq 3 ] &&
	    [ "$(pgrep -cx kpopd -P "$monitor")" -eq 2 ]'
	fds "$monitor"
	[ "$(fds "$monitor" | grep -c ' /dev/null$')" -eq 3 ]
	before=$(sockets "$monitor")
	standin "$(broker_pid)" descriptors 1
	log_has 'fatal .*error="the broker sent a malformed message, and was killed"$'
	await 5 '[ "$(sockets "$monitor")" -eq $((before - 1)) ]'
	[ "$(others "$monitor")" -eq 3 ]
	standin "$(child_pid)" descriptors 1
	log_has 'fatal .*error="the session sent a malformed message, and was killed"$'
	kpopd_ends 5
}
