#!/usr/bin/env bats
# Attacks from within a login: by a captured session or broker, by the mailbox's owner, and by one user on another.

load helpers/all

setup() {
	begin_test
	realm_login alice
}

teardown() {
	[ -z "${flood-}" ] || kill -KILL "$flood" || :
	pkill -KILL -x strace || :
	end_test
	rm -rf /home/alice/.k5login
} 2>/dev/null

gone() {
	await "$1" '! pgrep -x kpopd >/dev/null'
}

as_alice() {
	su alice -s /bin/sh -c "$*"
}

says() {
	"$KPOPD_BUILD/tests/gatestand" "$@"
}

# floods PID …: lines without end come over the channel of this process; a process that it has made could send them.
floods() {
	says "$1" flood failed "what=flood" 3>&- &
	flood=$!
	log_has 'failed .*what=flood'
}

@test "a child of a captured broker that talks on and on keeps no slot when the broker has ended" {
	[ -z "${SANITIZER-}" ] || skip "LeakSanitizer and strace do not go together"
	mbox one | store alice
	pop_login alice
	broker=$(broker_pid) monitor=$(monitor_pid)
	# So the monitor never finds the channel empty, whoever is faster on this machine.
	attach "$monitor" -o /dev/null -e trace=recvmsg -e inject=recvmsg:delay_exit=20000
	floods "$broker"
	pop_ask QUIT
	pop_hear_end
	await 5 "! kill -0 $monitor 2>/dev/null"
}

@test "a captured gate or session that talks on and on is killed at its deadline" {
	server_stop
	server_start -t 2
	pop_open
	pop_hear '^\+OK'
	monitor=$(monitor_pid)
	kill -STOP "$(child_pid)"
	floods "$(child_pid)"
	await 6 "! kill -0 $monitor 2>/dev/null"
	log_has 'refused .*reason="login deadline, gate killed"$'
	pop_close
	kill -KILL "$flood" || :
	server_stop
	server_start
}

@test "a captured broker cannot say more than once that it finishes a removal" {
	mbox one | store alice
	pop_login alice
	broker=$(broker_pid)
	says "$broker" visit F ""
	pop_ask NOOP
	says "$broker" visit F ""
	log_has 'fatal .*error="the broker sent a malformed message, and was killed"$'
	pop_ask QUIT
	pop_hear_end
	gone 5
}

@test "what a captured session or broker says out of its turn ends it, and lets nobody in" {
	mbox one | store alice
	spool_keep
	for case in "session Y again" "session N again" "session F x" "session P x" "broker Y x" "broker N x" "broker K x" \
	    "session K two=words" "broker F bad\"text"; do
		read -r who kind text <<<"$case"
		log_mark
		pop_login alice
		if [ "$who" = session ]; then says "$(child_pid)" visit "$kind" "$text"; else says "$(broker_pid)" visit "$kind" "$text"; fi
		log_has "fatal .*error=\"the $who sent a malformed message, and was killed\"\$"
		pop_close
		gone 5
		log_count 1 ' login '
	done
}

@test "a captured session raises no alarm that kpopd does not raise for it" {
	mbox one | store alice
	pop_login alice
	for priority in 0 1 2 8 184 255; do
		says "$(child_pid)" line failed "what=priority-$priority" 1 $priority
		log_has "what=priority-$priority\$"
	done
	log_lacks 'emerg .*what='
	pop_ask QUIT
	pop_hear_end
}

@test "a user's signals cannot have the log say that a session made a forbidden call" {
	mbox one two | store alice
	spool_keep
	pop_login alice
	pop_ask "DELE 1"
	for pid in "$(child_pid)" "$(broker_pid)"; do
		# rt_sigqueueinfo: the value stands where the kernel puts the call's number; 101 is ptrace's.
		as_alice "perl -e 'require \"syscall.ph\" if 0; \$i = pack \"i i i i i i q x96\", 31, 0, -1, 0, \$\$, \$>, 101;
		    syscall 129, $pid, 31, \$i; kill 31, $pid'"
	done
	sleep 0.2
	log_lacks 'system call'
	pop_close
	gone 5
}

@test "neither a captured session nor a captured broker makes a file that gives its user's or group's rights away" {
	for who in session broker; do
		for call in "fchmod 5 04755" "fchmod 5 02755" "chmod /etc/x 04755" "fchmodat -100 x 06755 0" "fchown 5 -1 8"; do
			mbox one | store alice
			log_mark
			pop_login alice
			if [ $who = session ]; then pid=$(child_pid); else pid=$(broker_pid); fi
			captive "$pid" "$call"
			log_has "fatal .*the $who was ended for the system call ${call%% *}\"\$"
			pop_close
			gone 5
		done
	done
}

@test "a child of a captured broker ends with it, whatever it does" {
	mbox one | store alice
	pop_login alice
	broker=$(broker_pid)
	# 17 is SIGCHLD: a fork.
	captive "$broker" "clone 17 0 0 0 0" "clone 17 0 0 0 0"
	[ "$(wc -w <<<"$returned")" -eq 2 ]
	for pid in $returned; do kill -STOP "$pid"; done
	pop_ask QUIT
	pop_hear_end
	gone 5
}
