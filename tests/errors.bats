#!/usr/bin/env bats
# Makes any system call of QUIT or of a login fail, with each error. Also makes
# the disk fail in RETR and TOP. Checks that kpopd's answer is true and that no
# kept message changes.

load helpers/all
load helpers/points

# The sweeps take several minutes on a busy machine.
[ -z "${BATS_TEST_TIMEOUT-}" ] || BATS_TEST_TIMEOUT=900

setup() {
	[ -z "${SANITIZER-}" ] || skip "ASan's own system calls are in the way"
	begin_test
	realm_login alice
	uid=$(id -u alice)
	points=0 bad=0
}

teardown() {
	pkill -KILL -x strace || :
	rm -f /home/alice/.k5login
	end_test
}

# errors_of CALL: prints the errors with which CALL must fail. Short reads and
# writes are not injected, because strace would only fake their counts. Only a
# pwrite64 of no bytes is injected (plan). Short writes come from a file size
# limit (full.bats).
errors_of() {
	case $1 in
	# These calls do not fail.
	exit_group | getpid | geteuid | alarm | restart_syscall | rt_*) ;;
	clock_nanosleep) ;;
	mmap | munmap | mremap | mprotect | brk) echo ENOMEM ;;
	getrandom) echo EINTR EAGAIN ENOSYS ;;
	# strace attaches during the read of .k5login. So strace may or may not
	# see this call restart.
	read) ;;
	wait4) echo EINTR ;;
	poll) echo EINTR EAGAIN ENOMEM ;;
	sendto | recvfrom | shutdown) echo EIO EINTR EAGAIN ENOMEM EPIPE ;;
	close) echo EIO EINTR ENOSPC EDQUOT ;;
	*) echo EIO ENOSPC EDQUOT EINTR ENOMEM EAGAIN ESTALE EROFS ;;
	esac
}

# plan TRACE: prints "CALL N HOW" for each error of each call in the trace, up
# to the answer. A short test run prints every seventh of these lines. So it
# still has a line for each call with eight errors; a call with fewer errors may
# be left out. Every run also prints "pwrite64 N retval=0" for each pwrite64.
plan() {
	local call rest n error k=0
	local -A seen=()
	while IFS='(' read -r call rest; do
		[[ $call =~ ^[a-z0-9_]+$ ]] || continue
		n=$((${seen[$call]-0} + 1)) seen[$call]=$n
		for error in $(errors_of "$call"); do
			if long || ((k % 7 == 0)); then
				echo "$call $n error=$error"
			fi
			k=$((k + 1))
		done
		[ "$call" != pwrite64 ] || echo "$call $n retval=0"
		# Stop here, because the calls after the answer depend on
		# whether the client or the server is faster.
		[ "$call,${rest%%,*}" != sendto,0 ] || break
	done <"$1"
}

# injection 'CALL N HOW': prints strace's options that cause this failure.
injection() {
	local call n how
	read -r call n how <<<"$1"
	printf '%s ' -e "trace=$call" -e "inject=$call:$how:when=$n"
}

# was_injected CALL: returns true if strace has made this call fail.
was_injected() {
	grep -q "^$1(.*(INJECTED)" "$WORLD/trace" ||
	    { echo "the call was not reached"; return 1; }
}

# quit_with session|broker STRACE-OPTION …: runs a session of the scene. From
# QUIT on, strace injects faults into the session or the broker. Sets $heard to
# the answer.
quit_with() {
	refill "$WORLD/before"
	session_opens "${deletions[@]}" || return
	await 5 'broker=$(broker_pid) && [ -n "$broker" ] &&
	    [ "$broker" != "$session" ]' || return
	faults "${!1}" "${@:2}" || return
	pop_say QUIT
	answer && session_ends
}

# quit_point session|broker 'CALL N HOW' STRACE-OPTION …: makes the call fail in
# QUIT. Returns true if the answer describes the mailbox truly.
quit_point() {
	{
		quit_with "$1" $(injection "$2") "${@:3}" &&
		    was_injected "${2%% *}" && is_true "$heard"
	} || { mop_up; return 1; }
}

# sweep_quit SCENE session|broker STRACE-OPTION …: records the calls of QUIT.
# Then makes each call fail in a separate session. The options apply to all
# these sessions.
sweep_quit() {
	local point
	scene "$1"
	quit_with "$2" "${@:3}"
	[[ $heard == "+OK bye, $left messages left" ]]
	plan "$WORLD/trace" >"$WORLD/plan"
	while read -r point <&4; do
		count_point quit_point "$2" "$point" "${@:3}"
	done 4<"$WORLD/plan"
}

# login_is_true FILE: returns true if the login has shown all messages or none.
# Also logs in once more, and then the mailbox must equal FILE.
login_is_true() {
	case $heard in
	"+OK $count messages")
		[ "$bye" = "+OK bye, $count messages left" ] || [ -z "$bye" ] ||
		    { wrong "$heard $bye"; return 1; }
		;;
	"-ERR [SYS/TEMP] the mailbox cannot be opened now" | \
	"-ERR [SYS/PERM] the mailbox cannot be opened" | \
	"-ERR [IN-USE] another program has locked the mailbox" | \
	"-ERR [AUTH] this ticket does not open that mailbox" | "") ;;
	*) wrong "$heard"; return 1 ;;
	esac
	[ "$(last_login)" = "$count" ] && is_now "$1" ||
	    { wrong "$heard"; return 1; }
	nothing_else
}

# login_point 'CALL N HOW': makes the call fail in a login. Returns true if the
# answer is true and the mailbox has not changed.
login_point() {
	{ refill "$WORLD/before" && login_with $(injection "$1") &&
	    was_injected "${1%% *}" &&
	    { is_now "$WORLD/before" || { wrong "$heard"; false; }; } &&
	    login_is_true "$WORLD/before"; } ||
	    { rm -f /home/alice/.k5login; mop_up; return 1; }
}

# restore_crash: restores the mailbox and the journal that a crash has left.
restore_crash() {
	# The broker of the session before would obey the journal.
	kpopd_ends 5
	cat "$WORLD/broken" >"$(spool alice)"
	cp -p "$WORLD/journal" "$(kept)/j"
}

# recovery_point 'CALL N HOW': makes the call fail in a login that finishes a
# removal. Returns true if the answer is true and another login leaves the
# removal finished.
recovery_point() {
	{ restore_crash && login_with $(injection "$1") &&
	    was_injected "${1%% *}" &&
	    login_is_true "$WORLD/after"; } ||
	    { rm -f /home/alice/.k5login; mop_up; return 1; }
}

# start_without_dotlock: starts a server whose sessions make no dotlock, because
# a killed monitor would leave the dotlock behind.
start_without_dotlock() {
	server_stop
	server_start -l fcntl
}

# fsync_fails N: runs a session of the scene "mixed", in which the Nth fsync of
# QUIT fails. Sets $seen to the calls from that fsync on, and $left_files to the
# names in the mailbox's state directory before recovery.
fsync_fails() {
	scene mixed
	refill "$WORLD/before"
	session_opens "${deletions[@]}"
	hold_next_broker
	faults "$session" -e "inject=fsync:error=EIO:when=$1"
	pop_say QUIT
	answer
	# Do not wait for the broker, because it is held and does not end.
	soon 5 "! kill -0 $session 2>/dev/null"
	seen=$(sed -n '/INJECTED/,$p' "$WORLD/trace")
	left_files=$(ls -A "$(kept)" | tr '\n' ' ')
}

# kill_and_login COUNT: kills the monitor and the held broker, because the
# broker would finish the removal. Returns true if the next login shows COUNT
# messages and leaves no other file.
kill_and_login() {
	kill_monitor
	session_ends
	kpopd_ends 5
	[ "$(last_login)" = "$1" ]
	nothing_else
}

@test "QUIT removes nothing and leaves no journal if fsync of the journal fails" {
	start_without_dotlock
	fsync_fails 1
	[ "$heard" = "-ERR [SYS/TEMP] nothing removed" ]
	[ "$left_files" = "index mailbox session yield " ]
	is_now "$WORLD/before"
	kill_and_login 6
	is_now "$WORLD/before"
}

# bats test_tags=fault:5
@test "QUIT stops at a failed fsync of a later step, and the next login completes the removal" {
	start_without_dotlock
	for n in 2 3 4 5; do
		fsync_fails $n
		[ "$heard" = \
		    "-ERR [SYS/TEMP] deleted messages may not be removed yet" ]
		tail -n +2 <<<"$seen" | refute grep -E \
		    '^(pwrite64|ftruncate|renameat|unlinkat|fsync)\('
		size=$(stat -c %s /var/mail/alice)
		case $n in
		2 | 3) journal=j ;;
		4 | 5) journal=j.cut ;;
		esac
		[ "$left_files" = "index $journal mailbox session yield " ]
		case $n in
		2) is_now "$WORLD/before" ;;
		3 | 4) [ "$size" -eq "$(stat -c %s "$WORLD/before")" ] ;;
		5) is_now "$WORLD/after" ;;
		esac
		kill_and_login 4
		is_now "$WORLD/after"
	done
}

@test "QUIT answers -ERR if fsync fails after it has emptied the mailbox" {
	scene all
	refill "$WORLD/before"
	session_opens "${deletions[@]}"
	faults "$session" -e inject=fsync:error=EIO:when=1
	pop_say QUIT
	answer
	session_ends
	[ "$heard" = "-ERR [SYS/TEMP] deleted messages may not be removed yet" ]
	[ ! -s /var/mail/alice ]
	[ "$(last_login)" = 0 ]
	nothing_else
}

# bats test_tags=fault:4-2
@test "a login's answer is true and the mailbox unchanged if any system call of the login fails" {
	scene mixed
	count=${#names[@]}
	refill "$WORLD/before"
	# The first login makes the mailbox's state directory. Either the
	# session or the broker makes it.
	[ "$(last_login)" = "$count" ]
	refill "$WORLD/before"
	login_with
	[ "$heard" = "+OK $count messages" ]
	plan "$WORLD/trace" >"$WORLD/plan"
	while read -r point <&4; do
		count_point login_point "$point"
	done 4<"$WORLD/plan"
	points_are_good "errors of a login" 20
}

# bats test_tags=fault:4-3
@test "a login finishes an interrupted removal even if any system call of an earlier login has failed" {
	scene mixed
	count=$left
	# Session and monitor are killed at the fsync of the mailbox.
	start_without_dotlock
	refill "$WORLD/before"
	session_opens "${deletions[@]}"
	hold_next_broker
	faults "$session" -e inject=fsync:signal=KILL:when=3
	pop_say QUIT
	answer
	soon 5 "! kill -0 $session 2>/dev/null"
	kill_monitor
	session_ends
	cp -p "$(kept)/j" "$WORLD/journal"
	cp /var/mail/alice "$WORLD/broken"
	server_stop
	server_start
	login_with
	[ "$heard" = "+OK $count messages" ]
	is_now "$WORLD/after"
	plan "$WORLD/trace" >"$WORLD/plan"
	while read -r point <&4; do
		count_point recovery_point "$point"
	done 4<"$WORLD/plan"
	points_are_good "errors of a recovery" 40
}

@test "RETR answers -ERR or omits the final dot if the disk fails, and never passes off half a message as whole" {
	local fault said=
	mbox one two three | store alice
	spool_keep
	for fault in fstat,newfstatat:1 pread64:{1..17}; do
		pop_login alice
		faults "$(child_pid)" \
		    -e "inject=${fault%:*}:error=EIO:when=${fault#*:}"
		pop_say "RETR 2"
		pop_hear ''
		said+="$heard;"
		if [[ $heard == +OK* ]]; then
			lines=()
			while pop_hear '' 2>/dev/null && [ "$heard" != . ]; do
				lines+=("$heard")
			done
			# Some of the failed reads are reads of the index. The
			# session can work without the index.
			if [ "$heard" = . ]; then
				diff <(printf '%s\n' "${lines[@]}") \
				    <(make_message two)
			else
				said+="without dot;"
				log_has 'logout .*reason=(failed|changed) .*deleted=0 left=3 '
			fi
		else
			log_has 'failed .*what="reading message 2"'
			pop_say "RETR 3"
			pop_hear_lines
			pop_ask QUIT '^\+OK bye, 3'
		fi
		pop_close
		kpopd_ends 5
		log_mark
	done
	local refused="-ERR [SYS/TEMP] cannot read the message;"
	local changed="-ERR [SYS/TEMP] another program changed the mailbox;"
	[[ $said == "$refused"*"$changed"*"without dot;"* ]] ||
	    { echo "$said"; return 1; }
}

@test "the log has the error if the disk fails while RETR or TOP sends a message" {
	local box=/home/alice/Maildir command n
	server_stop
	server_start -m maildir:~/Maildir
	mkdir -p $box/{cur,new,tmp}
	{
		printf 'Subject: big\n\n'
		yes 'a line of text' | head -n 20000
	} >$box/new/1000000000.big.mail
	chown -R alice:alice $box
	pop alice QUIT
	for command in "RETR 1" "TOP 1 20000"; do
		for n in 2 4; do
			log_mark
			pop_login alice
			faults "$(child_pid)" \
			    -e "inject=pread64:error=EIO:when=$n+"
			pop_say "$command"
			timeout 20 cat <&"$pop_in" | tr -d '\r' >"$WORLD/rest"
			grep -q '^+OK' "$WORLD/rest"
			refute grep -qx '\.' "$WORLD/rest"
			pop_close
			log_has 'failed .*what="reading message 1" error="Input/output error" more=0 mailbox=/home/alice/Maildir$'
			log_has 'logout .*reason=failed .*deleted=0 left=1 '
		done
	done
}

# bats test_tags=fault:4-1,promise:7
@test "QUIT's answer is true and no kept message changes if any system call of QUIT fails" {
	sweep_quit mixed session
	if long; then
		sweep_quit tail session
		sweep_quit all session
	fi
	points_are_good "errors of QUIT" 50
}

@test "QUIT's answer is true and no kept message changes if any system call of the broker fails" {
	sweep_quit mixed broker
	points_are_good "errors of the broker" 10
}
