#!/usr/bin/env bats
# Each system call of QUIT and of a login fails once, with each error: the
# answer is true, and no kept message is touched.

load helpers/all
load helpers/points

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
	[ ! -e "$WORLD/fcntl-only" ] ||
	    { rm "$WORLD/fcntl-only"; server_stop; server_start; }
	end_test
}

# errors_of CALL: how this call is to fail. Not a short read or write: an
# injected count is a lie about bytes that nobody moved. Short writes come from
# a file size limit (full.bats); "nothing copied" is no lie.
errors_of() {
	case $1 in
	# These do not fail.
	exit_group | getpid | geteuid | alarm | restart_syscall | rt_* | clock_nanosleep) ;;
	mmap | munmap | mremap | mprotect | brk) echo ENOMEM ;;
	getrandom) echo EINTR EAGAIN ENOSYS ;;
	# Of .k5login: strace finds the session in it, and may see it begin
	# again or not.
	read) ;;
	wait4) echo EINTR ;;
	poll) echo EINTR EAGAIN ENOMEM ;;
	sendto | recvfrom | shutdown) echo EIO EINTR EAGAIN ENOMEM EPIPE ;;
	close) echo EIO EINTR ENOSPC EDQUOT ;;
	*) echo EIO ENOSPC EDQUOT EINTR ENOMEM EAGAIN ESTALE EROFS ;;
	esac
}

# plan TRACE: "CALL N HOW" for each call in it up to the answer; the short form
# takes each seventh, which comes by each call and each error.
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
		# What comes behind the answer to the client depends on who is
		# faster.
		[ "$call,${rest%%,*}" != sendto,0 ] || break
	done <"$1"
}

# injection 'CALL N HOW': strace's options for it.
injection() {
	local call n how
	read -r call n how <<<"$1"
	printf '%s ' -e "trace=$call" -e "inject=$call:$how:when=$n"
}

# was_injected CALL
was_injected() {
	grep -q "^$1(.*(INJECTED)" "$WORLD/trace" ||
	    { echo "the call was not reached"; return 1; }
}

# quit_with WHO STRACE-OPTION …: a QUIT of the scene with faults in WHO,
# $session or $broker.
quit_with() {
	refill "$WORLD/before"
	session_opens "${deletions[@]}" || return
	await 5 \
	    'broker=$(broker_pid) && [ -n "$broker" ] && [ "$broker" != "$session" ]' || return
	faults "${!1}" "${@:2}" || return
	pop_say QUIT
	answer && session_ends
}

# quit_point WHO 'CALL N HOW' STRACE-OPTION …
quit_point() {
	{
		quit_with "$1" $(injection "$2") "${@:3}" &&
		    was_injected "${2%% *}" && is_true "$heard"
	} || { mop_up; return 1; }
}

# sweep_quit SCENE WHO STRACE-OPTION …: first it is seen which calls there are;
# the options hold in all points.
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

# login_is_true: they saw all messages, or none; the mailbox is $1 afterwards,
# and after another login $2.
login_is_true() {
	case $heard in
	"+OK $count messages")
		[ "$bye" = "+OK bye, $count messages left" ] || [ -z "$bye" ] ||
		    { wrong "$heard $bye"; return 1; }
		;;
	"-ERR [SYS/TEMP] the mailbox cannot be opened now" | "-ERR [SYS/PERM] the mailbox cannot be opened" | \
	"-ERR [IN-USE] another program has locked the mailbox" | \
	"-ERR [AUTH] this ticket does not open that mailbox" | "") ;;
	*) wrong "$heard"; return 1 ;;
	esac
	[ "$(last_login)" = "$count" ] && is_now "$1" ||
	    { wrong "$heard"; return 1; }
	nothing_else
}

# login_point 'CALL N HOW'
login_point() {
	{ refill "$WORLD/before" && login_with $(injection "$1") &&
	    was_injected "${1%% *}" &&
	    { is_now "$WORLD/before" || { wrong "$heard"; false; }; } &&
	    login_is_true "$WORLD/before"; } ||
	    { rm -f /home/alice/.k5login; mop_up; return 1; }
}

# unfinished: a removal as a crash has left it.
unfinished() {
	cat "$WORLD/broken" >"$(spool alice)"
	cp -p "$WORLD/journal" "$(kept)/j"
}

# recovery_point 'CALL N HOW'
recovery_point() {
	{ unfinished && login_with $(injection "$1") &&
	    was_injected "${1%% *}" &&
	    login_is_true "$WORLD/after"; } ||
	    { rm -f /home/alice/.k5login; mop_up; return 1; }
}

# fcntl_only: a server without a dotlock, which the monitor would leave when it
# is killed.
fcntl_only() {
	touch "$WORLD/fcntl-only"
	server_stop
	server_start -l fcntl
}

# fsync_fails N: a QUIT whose Nth fsync fails; what the session left is seen
# before anybody else has worked on it.
fsync_fails() {
	scene mixed
	refill "$WORLD/before"
	session_opens "${deletions[@]}"
	hold_broker
	faults "$session" -e "inject=fsync:error=EIO:when=$1"
	pop_say QUIT
	answer
	# The broker is held.
	soon 5 "! kill -0 $session 2>/dev/null"
	seen=$(sed -n '/INJECTED/,$p' "$WORLD/trace")
	left_behind=$(ls -A "$(kept)" | tr '\n' ' ')
}

# then_killed: the monitor is killed, too; the next login finds all in order.
then_killed() {
	kill_monitor
	session_ends
	[ "$(last_login)" = "$1" ]
	nothing_else
}

@test "fsync of the journal fails: nothing is removed, there is no journal" {
	fcntl_only
	fsync_fails 1
	[ "$heard" = "-ERR [SYS/TEMP] nothing removed" ]
	[ "$left_behind" = "index mailbox session yield " ]
	is_now "$WORLD/before"
	then_killed 6
	is_now "$WORLD/before"
}

# bats test_tags=fault:5
@test "a later fsync fails: the session stops there, the journal stays, nothing is cut, the next login removes the rest" {
	fcntl_only
	for n in 2 3 4 5; do
		fsync_fails $n
		[ "$heard" = \
		    "-ERR [SYS/TEMP] the next login will finish the removal" ]
		grep -E '^(pwrite64|ftruncate|renameat|unlinkat|fsync)\(' \
		    <<<"$(tail -n +2 <<<"$seen")" && return 1 || :
		size=$(stat -c %s /var/mail/alice)
		case $n in
		2 | 3) [ "$left_behind" = "index j mailbox session yield " ] ;;
		4 | 5)
			[ "$left_behind" = \
			    "index j.cut mailbox session yield " ]
			;;
		esac
		case $n in
		2) is_now "$WORLD/before" ;;
		3 | 4) [ "$size" -eq "$(stat -c %s "$WORLD/before")" ] ;;
		5) is_now "$WORLD/after" ;;
		esac
		then_killed 4
		is_now "$WORLD/after"
	done
}

@test "fsync of a mailbox that was emptied fails: the answer is no +OK, the mailbox is empty" {
	scene all
	refill "$WORLD/before"
	session_opens "${deletions[@]}"
	faults "$session" -e inject=fsync:error=EIO:when=1
	pop_say QUIT
	answer
	session_ends
	[ "$heard" = "-ERR [SYS/TEMP] the next login will finish the removal" ]
	[ ! -s /var/mail/alice ]
	[ "$(last_login)" = 0 ]
	nothing_else
}

# bats test_tags=fault:4-2
@test "an error in each system call of a login" {
	scene mixed
	count=${#names[@]}
	refill "$WORLD/before"
	# The first login makes the mailbox's state directory, either in the
	# session or in the broker.
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
@test "an error in each system call of a login that has a removal to finish" {
	scene mixed
	count=$left
	# Killed at the fsync of the mailbox, the monitor with it.
	fcntl_only
	refill "$WORLD/before"
	session_opens "${deletions[@]}"
	hold_broker
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
	rm "$WORLD/fcntl-only"
	login_with
	[ "$heard" = "+OK $count messages" ]
	is_now "$WORLD/after"
	plan "$WORLD/trace" >"$WORLD/plan"
	while read -r point <&4; do
		count_point recovery_point "$point"
	done 4<"$WORLD/plan"
	points_are_good "errors of a recovery" 40
}

@test "a message that the disk does not give is refused, or ends without its dot; nobody gets half of one" {
	local fault said=
	mbox one two three | store alice
	spool_keep
	for fault in newfstatat:1 pread64:{1..17}; do
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
			# The index' own record can be done without.
			if [ "$heard" = . ]; then
				diff <(printf '%s\n' "${lines[@]}") \
				    <(make_message two)
			else
				said+="cut;"
				log_has 'logout .*reason=(failed|changed) .*deleted=0 left=3 '
			fi
		else
			log_has 'failed .*what="reading message 2"'
			pop_say "RETR 3"
			pop_hear_lines
			pop_ask QUIT '^\+OK bye, 3'
		fi
		pop_close
		await 5 '! pgrep -x kpopd >/dev/null'
		log_mark
	done
	[[ $said == "-ERR [SYS/TEMP] cannot read the message;"*"-ERR [SYS/TEMP] another program changed the mailbox;"*"cut;"* ]] || { echo "$said"; return 1; }
}

# bats test_tags=fault:4-1,promise:7
@test "an error in each system call of QUIT" {
	sweep_quit mixed session
	if long; then
		sweep_quit tail session
		sweep_quit all session
	fi
	points_are_good "errors of QUIT" 50
}

@test "an error in each system call of the broker while QUIT locks and unlocks" {
	sweep_quit mixed broker
	points_are_good "errors of the broker" 10
}
