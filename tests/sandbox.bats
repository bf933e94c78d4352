#!/usr/bin/env bats
# Checks that the running processes have their sandbox: a seccomp filter, and
# Landlock. tests/unit/sandbox.c tests each system call and file.

load helpers/all

setup() {
	[ -z "${SANITIZER-}" ] || skip "a build with sanitizers has no sandbox"
	begin_test
	realm_login alice
}

teardown() {
	pkill -KILL -x strace || :
	end_test
}

# is_filtered PID: returns true if the process has a filter for its system calls
# and cannot get new rights.
is_filtered() {
	[ "$(field "$1" Seccomp)" = 2 ] && [ "$(field "$1" NoNewPrivs)" = 1 ]
}

# pop_with STRACE-OPTION ...: runs a session of alice, while strace traces
# xinetd and all processes that it starts. Sets $output to the answers.
pop_with() {
	local xinetd
	xinetd=$(cat "$WORLD/xinetd.pid")
	log_mark
	strace -f -q -p "$xinetd" -o "$WORLD/sandbox.trace" "$@" \
	    2>/dev/null 3>&- &
	await 5 '[ "$(field "$xinetd" TracerPid)" != 0 ]'
	run pop alice QUIT
	pkill -KILL -x strace || :
	await 5 '! pgrep -x strace >/dev/null'
}

# bats test_tags=promise:4
@test "pre-auth process, session and broker have a seccomp filter each; the monitor has none" {
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

# rules_of ARCHITECTURE ENDIAN: prints the filters for an architecture.
# ARCHITECTURE is its number in linux/audit.h. ENDIAN is 1 if the architecture
# is big-endian, otherwise 0.
rules_of() {
	mkdir -p "$WORLD/rules"
	sed -e "s/\(HOST_ARCHITECTURE\) .*/\1 $1/" \
	    -e "s/\(HOST_IS_BIG_ENDIAN\) .*/\1 $2/" \
	    "$KPOPD_BUILD/sandbox-numbers.h" >"$WORLD/rules/sandbox-numbers.h"
	gcc -I "$WORLD/rules" -o "$WORLD/rules/rules" "$top/sandbox-rules.c" \
	    -lseccomp
	"$WORLD/rules/rules"
}

@test "the filters are made for the host's architecture on any build machine, even if seccomp is forbidden there" {
	cd "$KPOPD_BUILD"
	for error in EPERM ENOSYS; do
		tests/programs/poor -e "$error" seccomp -- ./sandbox-rules |
		    cmp - sandbox-filters.h
	done
	cmp <(rules_of 0xc000003e 0) sandbox-filters.h
	# The numbers are those of the kernel's headers. arm64 uses the numbers
	# of asm-generic, and s390x has numbers of its own.
	rules_of 0xc00000b7 0 >"$WORLD/rules/arm64"
	rules_of 0x80000016 1 >"$WORLD/rules/s390x"
	for number in 'arm64 56 openat' 'arm64 57 close' 'arm64 63 read' \
	    'arm64 94 exit_group' 'arm64 277 seccomp' 's390x 3 read' \
	    's390x 6 close' 's390x 288 openat' 's390x 348 seccomp'; do
		read -r architecture call name <<<"$number"
		grep -qx "	\[$call\] = \"$name\"," \
		    "$WORLD/rules/$architecture"
	done
	# Each filter kills a process of another architecture. To do so, the
	# filter compares the architecture of the call.
	filters=$(grep -c '_filter\[\] = {$' "$WORLD/rules/arm64")
	[ "$filters" -ge 7 ]
	[ "$(grep -c '{ 0x0015, [01], [0-9]*, 0xc00000b7 }' \
	    "$WORLD/rules/arm64")" = "$filters" ]
	[ "$(grep -c '{ 0x0015, [01], [0-9]*, 0x80000016 }' \
	    "$WORLD/rules/s390x")" = "$filters" ]
	rm -r "$WORLD/rules"
}

# bats test_tags=promise:4
@test "kpopd-tls has a seccomp filter" {
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
@test "the relay has a seccomp filter" {
	server_stop
	server_start -p
	pop_open -p
	pop_hear '^\+OK'
	pop_ask "USER alice"
	pop_ask "PASS x"
	is_filtered "$(jailed_in relay)"
	pop_ask QUIT
	pop_hear_end
}

# bats test_tags=fault:15-2,promise:4
@test "a login fails if its seccomp filter cannot be installed, or has no effect" {
	for how in error=EFAULT retval=0; do
		pop_with -e trace=seccomp -e inject=seccomp:"$how"
		[[ $output != *"messages"* ]]
		log_has 'fatal .*seccomp'
	done
	run pop alice QUIT
	[[ $output == *"+OK"*"messages left"* ]]
}

# bats test_tags=fault:15-3,promise:4
@test "a login fails if Landlock fails, has no effect, or is not there" {
	# CALL:N is the Nth call. The first landlock_create_ruleset only asks
	# for the version.
	for call in landlock_create_ruleset:2 landlock_add_rule:1 \
	    landlock_restrict_self:1; do
		for how in error=EINVAL error=EPERM; do
			pop_with -e "trace=${call%:*}" \
			    -e "inject=${call%:*}:$how:when=${call#*:}"
			[[ $output != *"messages"* ]] ||
			    { echo "$call $how"; return 1; }
			log_has 'fatal .*[Ll]andlock'
		done
	done
	pop_with -e trace=landlock_restrict_self \
	    -e inject=landlock_restrict_self:retval=0
	[[ $output != *"messages"* ]]
	log_has 'fatal .*Landlock does not work'
	pop_with -e trace=landlock_create_ruleset \
	    -e inject=landlock_create_ruleset:error=ENOSYS
	[[ $output != *"messages"* ]]
	log_has 'fatal .*no Landlock'
}

# bats test_tags=promise:4
@test "a broker is killed for a forbidden system call, the log names the call, and the session removes nothing" {
	mbox one two | store alice
	spool_keep
	pop_login alice
	pop_ask "DELE 1"
	captive "$(broker_pid)" "execve /bin/true 0 0"
	log_has 'fatal .*the broker was ended for the system call execve'
	pop_ask QUIT '^-ERR \[SYS/TEMP\] nothing removed$'
	pop_hear_end
	kpopd_ends 5
}

@test "a session is killed for a forbidden system call, and the monitor's log line names the call" {
	mbox one | store alice
	pop_login alice
	session=$(child_pid)
	captive "$session" "execve /bin/true 0 0"
	pop_hear_end
	kpopd_ends 5
	log_has 'fatal .*the session was ended for the system call execve'
	spool_is alice one
}

# bats test_tags=promise:4
@test "a session that blocks its signals is killed for a forbidden system call, and the log has the signal" {
	mbox one | store alice
	pop_login alice
	# "@" is a byte in which only bit 6 is set. So the set of signals
	# contains 7, 15, 23, 31 (SIGSYS) and so on.
	captive "$(child_pid)" "rt_sigprocmask 0 @@@@@@@@ 0 8" \
	    "execve /bin/true 0 0"
	[ "$returned" = 0 ]
	pop_hear_end
	kpopd_ends 5
	log_has 'fatal .*the session was ended by signal 31 \(Bad system call\)'
	spool_is alice one
}

@test "by ioctl a session can only count unacknowledged bytes, and a relay only these and unread bytes" {
	# These are TIOCOUTQ, FIONREAD and TIOCSTI.
	count_unacknowledged="ioctl 0 0x5411 0"
	count_unread="ioctl 0 0x541b 0"
	insert_input="ioctl 0 0x5412 0"
	mbox one two | store alice
	pop_login alice
	pop_ask "DELE 1"
	# If the filter permits the call, the kernel returns EFAULT, because the
	# address for the count is NULL. If the filter forbids it, the filter
	# kills the process.
	captive "$(child_pid)" "$count_unacknowledged"
	[ "$returned" = -14 ]
	pop_ask NOOP
	captive "$(child_pid)" "$count_unread"
	pop_hear_end
	kpopd_ends 5
	log_has 'fatal .*the session was ended for the system call ioctl'
	server_stop
	server_start -p
	pop_open -p
	pop_hear '^\+OK'
	pop_ask "USER alice"
	pop_ask "PASS x"
	pop_ask "DELE 1"
	captive "$(jailed_in relay)" "$count_unacknowledged" "$count_unread"
	[ "$returned" = -14$'\n'-14 ]
	pop_ask NOOP
	captive "$(jailed_in relay)" "$insert_input"
	kpopd_ends 5
	log_has 'fatal .*was ended for the system call ioctl'
	spool_is alice one two
}
