#!/usr/bin/env bats
# System calls and files that the processes may not use, in real ones;
# tests/unit/sandbox.c has them one by one.

load helpers/all

setup() {
	[ -z "${SANITIZER-}" ] || skip "a build with sanitizers has no sandbox"
	begin_test
	realm_login alice
}

teardown() {
	pkill -KILL -x strace || :
	end_test
	[[ $BATS_TEST_DESCRIPTION != *"has a filter" ]] ||
	    { server_stop; server_start; }
}

# is_filtered PID: system calls go through a filter; there is no way to new
# rights.
is_filtered() {
	[ "$(field "$1" Seccomp)" = 2 ]
	[ "$(field "$1" NoNewPrivs)" = 1 ]
}

# xinetd_with STRACE-OPTION …: whatever xinetd starts is traced like this.
xinetd_with() {
	strace -f -q -p "$(cat "$WORLD/xinetd.pid")" -o "$WORLD/sandbox.trace" \
	    "$@" 2>/dev/null 3>&- &
	await 5 \
	    "grep -q '^TracerPid:[[:space:]]*[1-9]' /proc/$(cat \
		"$WORLD/xinetd.pid")/status"
}

# bats test_tags=promise:4
@test "pre-auth process, session and broker have a filter each; the monitor has none" {
	mbox one | store alice
	pop_open
	pop_hear '^\+OK'
	is_filtered "$(child_pid)"
	[ "$(field "$(monitor_pid)" Seccomp)" = 0 ]
	pop_ask "USER alice"
	pop_ask "PASS x"
	is_filtered "$(child_pid)"
	await 5 'is_filtered "$(broker_pid)"'
	[ "$(field "$(monitor_pid)" Seccomp)" = 0 ]
	[ "$(field "$(child_pid)" Seccomp_filters)" = 1 ]
	pop_ask QUIT
}

# bats test_tags=promise:4
@test "kpopd-tls has a filter" {
	tls_make
	server_stop
	server_start $(tls_options)
	pop_open --tls -C "$WORLD/tls/ca.pem"
	pop_hear '^\+OK'
	pop_ask "USER alice"
	is_filtered "$(pgrep -n -x kpopd-tls)"
	pop_ask QUIT
	pop_hear_end
}

# bats test_tags=promise:4
@test "the relay has a filter" {
	server_stop
	server_start -p
	pop_open -p
	pop_hear '^\+OK'
	pop_ask "USER alice"
	pop_ask "PASS x"
	for pid in $(pgrep -x kpopd); do
		[ "$(readlink "/proc/$pid/root")" != "$state/relay" ] ||
		    relay=$pid
	done
	is_filtered "$relay"
	pop_ask QUIT
	pop_hear_end
}

# bats test_tags=fault:15-2,promise:4
@test "a filter that cannot be had, or is said to be there and is not, lets nobody in" {
	for how in error=EFAULT error=EPERM error=EINVAL retval=0; do
		log_mark
		xinetd_with -e trace=seccomp -e inject=seccomp:"$how"
		run pop alice QUIT
		pkill -KILL -x strace || :
		await 5 '! pgrep -x strace >/dev/null'
		[[ $output != *"messages"* ]]
		log_has 'fatal .*seccomp'
	done
	run pop alice QUIT
	[[ $output == *"+OK"*"messages left"* ]]
}

# bats test_tags=fault:15-3,promise:4
@test "Landlock that does not do what it says lets nobody in; a kernel without it is told of, and served" {
	# The first landlock_create_ruleset asks for the version.
	for call in landlock_create_ruleset:2 landlock_add_rule:1 \
	    landlock_restrict_self:1; do
		for how in error=EINVAL error=EPERM; do
			log_mark
			xinetd_with -e "trace=${call%:*}" \
			    -e "inject=${call%:*}:$how:when=${call#*:}"
			run pop alice QUIT
			pkill -KILL -x strace || :
			await 5 '! pgrep -x strace >/dev/null'
			[[ $output != *"messages"* ]] ||
			    { echo "$call $how"; return 1; }
			log_has 'fatal .*[Ll]andlock'
		done
	done
	log_mark
	xinetd_with -e trace=landlock_restrict_self \
	    -e inject=landlock_restrict_self:retval=0
	run pop alice QUIT
	pkill -KILL -x strace || :
	[[ $output != *"messages"* ]]
	log_has 'fatal .*Landlock does not work'
	log_mark
	xinetd_with -e trace=landlock_create_ruleset \
	    -e inject=landlock_create_ruleset:error=ENOSYS
	run pop alice QUIT
	pkill -KILL -x strace || :
	[[ $output == *"+OK"*"messages left"* ]]
	log_has 'sandbox .*no Landlock'
}

# bats test_tags=promise:4
@test "a broker that makes a forbidden call is ended, and the log names it; nothing is removed without it" {
	mbox one two | store alice
	spool_keep
	pop_login alice
	pop_ask "DELE 1"
	captive "$(broker_pid)" "execve /bin/true 0 0"
	log_has 'fatal .*the broker was ended for the system call execve'
	pop_ask QUIT '^-ERR \[SYS/TEMP\] nothing removed$'
	pop_hear_end
	await 5 '! pgrep -x kpopd >/dev/null'
}

@test "a session that makes a forbidden call is ended, and the monitor's line names it" {
	mbox one | store alice
	pop_login alice
	session=$(child_pid)
	captive "$session" "execve /bin/true 0 0"
	pop_hear_end
	await 5 '! pgrep -x kpopd >/dev/null'
	log_has 'fatal .*the session was ended for the system call execve'
	spool_is alice one
}

# relay_pid: the process of a GSSAPI layer.
relay_pid() {
	local pid
	for pid in $(pgrep -x kpopd); do
		[ "$(readlink "/proc/$pid/root")" != "$state/relay" ] ||
		    echo "$pid"
	done
}

@test "of ioctl the session may count what is unacknowledged, a relay what is unread besides, and neither anything else" {
	counts_unacknowledged="ioctl 0 0x5411 0" \
	    counts_unread="ioctl 0 0x541b 0" types="ioctl 0 0x5412 0"
	mbox one two | store alice
	pop_login alice
	pop_ask "DELE 1"
	# There is no place for the count: EFAULT, which is the kernel's answer
	# and not the filter's.
	captive "$(child_pid)" "$counts_unacknowledged"
	[ "$returned" = -14 ]
	pop_ask NOOP
	captive "$(child_pid)" "$counts_unread"
	pop_hear_end
	await 5 '! pgrep -x kpopd >/dev/null'
	log_has 'fatal .*the session was ended for the system call ioctl'
	server_stop
	server_start -p
	pop_open -p
	pop_hear '^\+OK'
	pop_ask "USER alice"
	pop_ask "PASS x"
	pop_ask "DELE 1"
	captive "$(relay_pid)" "$counts_unacknowledged" "$counts_unread"
	[ "$returned" = -14$'\n'-14 ]
	pop_ask NOOP
	captive "$(relay_pid)" "$types"
	await 5 '! pgrep -x kpopd >/dev/null'
	log_has 'fatal .*was ended for the system call ioctl'
	spool_is alice one two
	server_stop
	server_start
}
