#!/usr/bin/env bats
# Checks the locks between kpopd and other programs. Also checks the broker,
# which makes the dotlock and keeps the locks of a killed session.

load helpers/all

# This program locks a file as other programs lock a spool.
spool_lock=$BATS_TEST_DIRNAME/programs/spool-lock.pl

setup() {
	begin_test
	mbox one two three | store alice
	realm_login alice
}

teardown() {
	local pid
	for pid in ${holder-} ${tracer-}; do
		kill "$pid" 2>/dev/null || true
	done
	locker_stop
	chmod 2775 /var/mail
	chown root:mail /var/mail
	rm -rf /run/spool /home/alice/spool /home/alice/link \
	    /home/alice/Maildir
	end_test
}

# with_locks ORDER COMMAND ...: runs the command with a server that uses this
# order of locks. Then starts the usual server again.
with_locks() {
	server_stop
	server_start -l "$1"
	"${@:2}"
	server_stop
	server_start
}

# hold KIND FILE [TEXT]: starts a process that locks the file, and writes TEXT
# to the file if TEXT is given. Sets $holder to its pid.
hold() {
	rm -f "$WORLD/held"
	perl "$spool_lock" hold "$@" >"$WORLD/held" 2>&1 3>&- &
	holder=$!
	await 5 "grep -q 'held\|busy' $WORLD/held"
	grep -q held "$WORLD/held"
}

# release: ends the process that hold has started, which releases the lock.
release() {
	kill "$holder" 2>/dev/null || true
	wait "$holder" 2>/dev/null || true
	holder=
}

# login_is_refused: logs in as alice. Returns true if the mailbox is in use.
login_is_refused() {
	forget_index
	run pop alice QUIT
	[[ ${lines[-1]} == "-ERR [IN-USE]"* ]] || { echo "$output"; return 1; }
}

# login_succeeds: logs in as alice. Returns true if the login succeeds.
login_succeeds() {
	forget_index
	run pop alice QUIT
	[[ ${lines[-1]} == "+OK bye"* ]] || { echo "$output"; return 1; }
}

# stop_in_quit CALL N: begins a session that deletes message 1. Stops the
# session with strace at the Nth CALL that it makes in QUIT. Sets $session,
# $monitor and $broker to the pids. The monitor is also stopped, until
# monitor_sees is called.
stop_in_quit() {
	pop_login_locking alice
	pop_ask "DELE 1"
	session=$(child_pid) monitor=$(monitor_pid) broker=$(broker_pid)
	blind_monitor
	rm -f "$WORLD/stopped"
	attach "$session" -o "$WORLD/stopped" -e "trace=$1" \
	    -e "inject=$1:signal=STOP:when=$2"
	pop_say QUIT
	# Find the stop in strace's output. The process state would not show it,
	# because under strace a process stops at each system call.
	await 5 "grep -q 'stopped by SIGSTOP' $WORLD/stopped"
}

# has_gids PID GID EFFECTIVE: returns true if the real gid of the process is
# GID, and its effective, saved and file system gids are EFFECTIVE.
has_gids() {
	[ "$(field "$1" Gid)" = "$2 $3 $3 $3" ]
}

@test "kpopd -l sets the order of the locks, and refuses anything but the three kinds of lock" {
	for order in fcntl flock dotlock fcntl,dotlock dotlock,fcntl \
	    flock,dotlock,fcntl; do
		with_locks $order login_succeeds
	done
	for order in '' none fcntl,fcntl fcntl, ,dotlock fcntldotlock; do
		run "$KPOPD_BUILD/kpopd" -l "$order" </dev/null
		[ "$status" -eq 2 ]
		[[ $output == *"-l takes"* ]]
	done
}

@test "kpopd's fcntl lock, flock and dotlock each exclude another program's lock of the same kind, and no other lock" {
	hold fcntl /var/mail/alice
	with_locks fcntl login_is_refused
	with_locks flock login_succeeds
	with_locks dotlock login_succeeds
	release
	hold flock /var/mail/alice
	with_locks flock login_is_refused
	with_locks fcntl login_succeeds
	release
	dotlockfile -l /var/mail/alice.lock
	with_locks dotlock login_is_refused
	with_locks fcntl login_succeeds
	dotlockfile -u /var/mail/alice.lock
	# Test the locks of real programs against the default order.
	su alice -c 'dotlockfile -l -m'
	login_is_refused
	su alice -c 'dotlockfile -u -m'
	login_succeeds
	su alice -c 'mutt_dotlock -p /var/mail/alice'
	login_is_refused
	with_locks fcntl login_succeeds
	su alice -c 'mutt_dotlock -u -p /var/mail/alice'
	login_succeeds
}

# during_removal COMMAND ...: stops a session that has taken its locks for QUIT,
# and runs the command. Then lets the session finish.
during_removal() {
	local session monitor broker
	stop_in_quit pwrite64 1
	[ -e /var/mail/alice.lock ]
	"$@"
	kill "$tracer"
	detached
	kill -CONT "$session"
	monitor_sees
	pop_hear '^\+OK bye, 2'
	pop_hear_end
}

# others_wait: returns true if no other program can lock alice's mailbox. Leaves
# a procmail that is waiting to deliver the message "late".
others_wait() {
	run perl "$spool_lock" try fcntl /var/mail/alice
	[ "$status" -eq 7 ]
	run dotlockfile -r 0 -l /var/mail/alice.lock
	[ "$status" -ne 0 ]
	run su alice -c 'mutt_dotlock -p -r 0 /var/mail/alice'
	# mutt_dotlock returns this status if another program has the lock.
	[ "$status" -eq 3 ]
	make_message late |
	    strace -q -o "$WORLD/procmail" -e trace=link,linkat \
		procmail -f sender@kpopd.test -d alice 2>/dev/null 3>&- &
	await 5 'grep -q "alice\.lock.*EEXIST" "$WORLD/procmail"'
	refute grep 'Subject: late' /var/mail/alice
}

@test "while kpopd removes a message, fcntl locks, dotlockfile, mutt_dotlock and procmail have to wait" {
	[ -z "${SANITIZER-}" ] || skip "ASan's own system calls are in the way"
	rm -f "$WORLD/procmail"
	during_removal others_wait
	await 20 "grep -q 'Subject: late' /var/mail/alice"
	run pop alice "RETR 3" QUIT
	[[ $output == *"+OK 3 messages"*"Subject: late"* ]]
}

@test "the broker has the user's uid and the spool's group; the session has the user's group only" {
	local uid gid mail broker session pid
	pop_login_locking alice
	uid=$(id -u alice) gid=$(id -g alice)
	mail=$(getent group mail | cut -d: -f3)
	broker=$(broker_pid) session=$(child_pid)
	[ "$(field "$broker" Uid)" = "$uid $uid $uid $uid" ]
	has_gids "$broker" "$gid" "$mail"
	has_gids "$session" "$gid" "$gid"
	for pid in $broker $session; do
		[ "$(field "$pid" Groups)" = "$gid" ]
		[ "$(field "$pid" CapEff)" = 0000000000000000 ]
	done
}

@test "the broker uses no path but the dotlock and the state directory, and opens no socket and no mailbox" {
	local uid
	[ -z "${SANITIZER-}" ] || skip "ASan's own system calls are in the way"
	uid=$(id -u alice)
	pop_login_locking alice
	attach "$(broker_pid)" -o "$WORLD/broker"
	pop_ask "DELE 1"
	pop_ask QUIT
	pop_hear_end
	detached
	grep -q 'openat.*alice\.lock.*O_EXCL' "$WORLD/broker"
	# The log reads the time zone, and the broker opens the directory of the
	# dotlock.
	grep -o '"[^"]*"' "$WORLD/broker" | grep '/' |
	    grep -v '^"/var/mail/alice\.lock"$' |
	    grep -v "users/$uid\"\$" |
	    refute grep -v '^"/etc/localtime"$\|^"/var/mail"$'
	refute grep -E '^(socket|connect|execve|bind|accept|ptrace|kill)\(' \
	    "$WORLD/broker"
}

@test "the broker removes the dotlock of a session that is killed" {
	[ -z "${SANITIZER-}" ] || skip "ASan's own system calls are in the way"
	pop_login alice
	pop_ask "DELE 1"
	attach "$(child_pid)" -o /dev/null -e trace=pwrite64 \
	    -e inject=pwrite64:signal=KILL:when=1
	pop_say QUIT
	pop_hear_end
	kpopd_ends 5
	[ ! -e /var/mail/alice.lock ]
	[ -z "$(ls -A /var/mail | grep -v '^alice$')" ]
	spool_is alice one two three
}

# dotlock_is_obeyed: logs in as alice. Returns true if the login is refused and
# logged as refused, and if nothing in the spool directory changes.
dotlock_is_obeyed() {
	log_mark
	spool_mark
	login_is_refused
	log_has 'failed .*what="locking the mailbox" error="Resource temporarily unavailable"'
	log_has 'logout .* reason=in-use$'
	spool_kept
}

# dotlock_is_removed: logs in as alice. Returns true if the login succeeds, no
# failure is logged, and nothing but alice.lock is removed.
dotlock_is_removed() {
	log_mark
	mv /var/mail/alice.lock "$WORLD/alice.lock"
	spool_mark
	mv "$WORLD/alice.lock" /var/mail/alice.lock
	login_succeeds
	log_says_quits "0 0 3"
	spool_kept
}

# bats test_tags=catalogue:66-1,catalogue:66-2
@test "kpopd removes another program's dotlock only if its process has ended and it is five minutes old" {
	local dead
	true &
	dead=$!
	wait $dead
	echo $dead >/var/mail/alice.lock
	touch -d '-6 minutes' /var/mail/alice.lock
	dotlock_is_removed
	# A new dotlock is obeyed although there is no process with its pid. The
	# process may run in a container with the same spool, which has its own
	# pids.
	echo $dead >/var/mail/alice.lock
	dotlock_is_obeyed
	echo $$ >/var/mail/alice.lock
	touch -d '-1 hour' /var/mail/alice.lock
	dotlock_is_obeyed
	# This dotlock has no pid.
	echo >/var/mail/alice.lock
	dotlock_is_obeyed
	touch -d '-6 minutes' /var/mail/alice.lock
	dotlock_is_removed
}

@test "a dotlock of a killed kpopd is stale at once, for kpopd and for dotlockfile" {
	local taker boot session monitor broker
	[ -z "${SANITIZER-}" ] || skip "ASan's own system calls are in the way"
	boot=$(cat /proc/sys/kernel/random/boot_id)
	for taker in pop dotlockfile; do
		mbox one two three | store alice
		stop_in_quit pwrite64 1
		# Other programs read only the first line, which contains the
		# broker's pid. They wait as long as the broker lives.
		[ "$(head -n 1 /var/mail/alice.lock)" = "$broker" ]
		[[ $(tail -n 1 /var/mail/alice.lock) == \
		    "mail.kpopd.test $boot "* ]]
		run dotlockfile -p -r 0 -l /var/mail/alice.lock
		[ "$status" -ne 0 ]
		# The broker first: it removes the lock when its monitor ends.
		kill -KILL "$broker" "$monitor" "$session"
		detached
		pop_close
		kpopd_ends 5
		[ -e /var/mail/alice.lock ]
		if [ $taker = pop ]; then
			login_succeeds
		else
			dotlockfile -p -r 1 -l /var/mail/alice.lock
			dotlockfile -u /var/mail/alice.lock
		fi
		[ ! -e /var/mail/alice.lock ]
	done
}

# keeps_lock_file REASON: logs in as alice. Returns true if the mailbox cannot
# be opened, and alice.lock and the mailbox are unchanged. The log must contain
# REASON once.
keeps_lock_file() {
	local was now
	was=$(stat -c '%i %s %Y %u' /var/mail/alice.lock)
	log_mark
	forget_index
	run pop alice "DELE 1" QUIT
	[[ ${lines[-1]} == "-ERR [SYS/TEMP]"* ]] ||
	    { echo "$output"; return 1; }
	log_count 1 "failed .*what=\"making the dotlock\" path=/var/mail/alice.lock error=\"$1\""
	now=$(stat -c '%i %s %Y %u' /var/mail/alice.lock)
	[ "$now" = "$was" ] || { echo "was $was, is $now"; return 1; }
	spool_is alice one two three
}

# bats test_tags=catalogue:66-5
@test "kpopd does not remove the mailbox of a user named alice.lock as a stale dotlock, whatever it contains" {
	local text reason owner
	mbox precious >/var/mail/alice.lock
	chown 4321:mail /var/mail/alice.lock
	touch -d '-1 hour' /var/mail/alice.lock
	keeps_lock_file "it is larger than a lock"
	for text in '' '0' 'From '; do
		printf %s "$text" >/var/mail/alice.lock
		touch -d '-1 hour' /var/mail/alice.lock
		reason="it belongs to another user"
		[ "$text" != 'From ' ] ||
		    reason="it does not contain what programs write into a lock"
		keeps_lock_file "$reason"
	done
	# Repeat this with files that belong to alice and to root.
	for owner in alice root; do
		mbox precious >/var/mail/alice.lock
		chown $owner:mail /var/mail/alice.lock
		touch -d '-1 hour' /var/mail/alice.lock
		keeps_lock_file "it is larger than a lock"
	done
	rm /var/mail/alice.lock
	login_succeeds
}

@test "kpopd does not remove another user's empty mailbox as a stale dotlock, although -n does not let that user log in" {
	local lock=/var/mail/carol.lock
	server_stop
	server_start -n "$(id -u carol)"
	realm_login carol
	mbox one | store carol
	install -o alice -g mail -m 600 /dev/null "$lock"
	[ "$(stat -c %u "$lock")" -lt "$(id -u carol)" ]
	touch -d '-1 hour' "$lock"
	log_mark
	run pop carol QUIT
	[[ $output == *"-ERR [SYS/TEMP]"* ]]
	log_has 'failed .*path=/var/mail/carol.lock error="it belongs to another user"'
	[ -e "$lock" ]
	rm "$lock"
	server_stop
	server_start
}

@test "kpopd obeys and logs another user's dotlock in a spool directory that all users may write" {
	local gid
	chmod 1777 /var/mail
	su bob -c \
	    'sleep 60 >/dev/null 3>&- & echo $! >/var/mail/alice.lock; echo $!' >"$WORLD/bob"
	log_mark
	login_is_refused
	log_count 1 'failed .*what="making the dotlock" path=/var/mail/alice.lock error="it belongs to another user"'
	kill "$(cat "$WORLD/bob")"
	rm /var/mail/alice.lock
	login_succeeds
	# The broker then makes the dotlock without the spool's group.
	pop_login_locking alice
	gid=$(id -g alice)
	has_gids "$(broker_pid)" "$gid" "$gid"
	echo $$ >/var/mail/alice.lock
	pop_ask "DELE 1"
	pop_patience=60 pop_ask QUIT '^-ERR \[IN-USE\]'
	pop_hear_end
	rm /var/mail/alice.lock
}

# has_dotlock: removes a message of alice. Returns true if alice's dotlock is in
# /var/mail during the removal.
has_dotlock() {
	during_removal true
	spool_is alice two three
	mbox one two three | store alice
}

@test "kpopd makes the dotlock in a spool directory that symlinks of root lead to" {
	[ -z "${SANITIZER-}" ] || skip "ASan's own system calls are in the way"
	mkdir -m 755 /run/spool
	ln -s ../../var/mail /run/spool/mail
	ln -s /run/spool/mail /run/spool/again
	for path in /run/spool/mail /run/spool/again \
	    //run/./spool/../spool/mail/; do
		server_stop
		server_start -m "mbox:$path/%u"
		has_dotlock
		log_lacks 'what="making the dotlock"'
	done
}

@test "kpopd makes no dotlock through a symlink that other users can change, and logs that in each session that needs it" {
	local gid
	mkdir -m 755 /run/spool
	ln -s /var/mail /run/spool/mail
	chgrp mail /run/spool
	chmod 775 /run/spool
	server_stop
	server_start -m "mbox:/run/spool/mail/%u"
	for _ in 1 2; do
		log_mark
		forget_index
		run pop alice "DELE 9" QUIT
		[[ $output == *"+OK bye, 3 messages left"* ]]
		log_count 1 'failed .*what="making the dotlock" path=/run/spool/mail/alice.lock error="a directory in the path is writable by others than root"'
	done
	pop_login_locking alice
	gid=$(id -g alice)
	has_gids "$(broker_pid)" "$gid" "$gid"
	pop_ask QUIT
	pop_hear_end
}

@test "if only root may write the spool directory, each session that needs the dotlock logs it" {
	chmod 755 /var/mail
	for _ in 1 2; do
		log_mark
		forget_index
		run pop alice "DELE 9" QUIT
		[[ $output == *"+OK bye, 3 messages left"* ]]
		log_count 1 'failed .*what="making the dotlock" path=/var/mail/alice.lock error="Permission denied"'
	done
	run pop alice "DELE 1" QUIT
	[[ $output == *"+OK bye, 2 messages left"* ]]
	with_locks fcntl makes_no_dotlock
}

# makes_no_dotlock: returns true if a login does not try to make a dotlock.
makes_no_dotlock() {
	login_succeeds
	log_lacks 'what="making the dotlock"'
}

# add_waiter KIND: starts a process that waits for this lock of alice's mailbox.
# The process then writes the mailbox's subjects and the unfinished journals to
# $WORLD/KIND.found.
add_waiter() {
	perl "$spool_lock" wait "$1" /var/mail/alice "$(kept)" \
	    >"$WORLD/$1.found" 2>&1 3>&- &
	waiters+=($!)
}

# is_waiting PID KIND: returns true if the process waits for the lock. A process
# that waits for a dotlock tries repeatedly once it has opened the mailbox.
is_waiting() {
	case $2 in
	fcntl) grep -q -- "-> .*POSIX .* $1 " /proc/locks ;;
	flock) grep -q -- "-> .*FLOCK .* $1 " /proc/locks ;;
	dotlock) fds "$1" | grep -q ' /var/mail/alice$' ;;
	esac
}

# kill_point CALL N: kills only the session, at its Nth CALL of QUIT. Three
# programs wait for the three locks of the session. Returns true if each program
# gets its lock after the removal is finished.
kill_point() {
	local kind session monitor broker waiters=() i=0
	rm -f "$WORLD"/*.found
	mbox one two three | store alice
	stop_in_quit "$1" "$2" || return 1
	for kind in fcntl flock dotlock; do
		add_waiter $kind
		await 5 "is_waiting ${waiters[-1]} $kind" || return 1
	done
	kill -KILL "$session"
	monitor_sees
	for kind in fcntl flock dotlock; do
		await 15 "! kill -0 ${waiters[$((i++))]} 2>/dev/null" ||
		    return 1
		[ "$(cat "$WORLD/$kind.found")" = " two three" ] ||
		    { cat "$WORLD/$kind.found"; return 1; }
	done
	detached
	pop_close
	kpopd_ends 5 || return 1
	no_journal && [ ! -e /var/mail/alice.lock ] && spool_is alice two three
}

# forks COMMAND: prints how many processes the monitor of a session makes from
# this command on until its end.
forks() {
	pop_login alice
	session=$(child_pid)
	attach "$(monitor_pid)" -o "$WORLD/forks" \
	    -e trace=clone,clone3,fork,vfork
	"$@" >/dev/null
	pop_close
	detached
	grep -Ec '^(clone3?|v?fork)\(' "$WORLD/forks" || true
}

remove_first() {
	pop_ask "DELE 1"
	pop_ask QUIT
}

kill_session() {
	kill -KILL "$session"
}

# kill_in_removal: kills the session after its removal is decided.
kill_in_removal() {
	local tracer
	pop_ask "DELE 1"
	attach "$session" -o /dev/null -e trace=fsync \
	    -e inject=fsync:signal=KILL:when=3
	pop_say QUIT
	detached
}

# no_broker_is_logged: returns true if the monitor has logged that it could not
# make the broker, and has ended only after its session.
no_broker_is_logged() {
	log_has 'failed .*what="making a process for the broker" error="Resource temporarily unavailable"$'
	log_lacks 'fatal'
}

# list_is_kept: makes an index that the next login trusts.
list_is_kept() {
	settle
	run pop alice QUIT
	[[ ${lines[-1]} == "+OK bye"* ]]
}

# only_if_needed: returns true if the monitor makes a broker for a removal, and
# for a session that was killed, but for no poll without new mail. The broker
# must finish the removal of a killed session.
only_if_needed() {
	list_is_kept
	pop_login alice
	[ -z "$broker" ]
	pop_close
	kpopd_ends 5
	[ "$(forks pop_ask QUIT)" = 0 ]
	[ "$(forks kill_session)" = 1 ]
	[ "$(forks remove_first)" = 1 ]
	spool_is alice two three
	list_is_kept
	[ "$(forks kill_in_removal)" = 1 ]
	no_journal && spool_is alice three
	mbox one two three | store alice
}

@test "the broker is started only for a dotlock or a removal, or after a session that was killed" {
	[ -z "${SANITIZER-}" ] || skip "ASan's own system calls are in the way"
	with_locks fcntl only_if_needed
	with_locks fcntl,dotlock only_if_needed
	pop_login_locking alice
}

# removes_nothing: returns true if the client learns that QUIT removes nothing,
# and the next session can remove the message.
removes_nothing() {
	pop_say QUIT
	pop_hear '^-ERR'
	pop_close
	kpopd_ends 5
	no_journal && spool_is alice one two three || return 1
	pop_login alice
	pop_ask "DELE 1"
	pop_ask QUIT '^\+OK bye, 2 messages left'
	pop_close
	spool_is alice two three
}

without_monitor() {
	pop_login alice
	pop_ask "DELE 1"
	kill -KILL "$(monitor_pid)"
	removes_nothing
}

without_fork() {
	mbox one two three | store alice
	list_is_kept
	log_mark
	pop_login alice
	pop_ask "DELE 1"
	attach "$(monitor_pid)" -o /dev/null -e trace=clone,clone3,fork \
	    -e inject=clone,clone3,fork:error=EAGAIN
	removes_nothing
	no_broker_is_logged
	log_has 'logout .*reason=quit .*deleted=0'
}

@test "a session without a monitor, or whose broker cannot be made, removes nothing, and the client learns it" {
	[ -z "${SANITIZER-}" ] || skip "ASan's own system calls are in the way"
	with_locks fcntl without_monitor
	with_locks fcntl,flock without_fork
	mbox one two three | store alice
	list_is_kept
	with_locks fcntl,dotlock without_monitor
	with_locks dotlock,fcntl without_fork
}

@test "if no broker can be started to make the dotlock, the client gets an error, and can log in again" {
	local tracer
	[ -z "${SANITIZER-}" ] || skip "ASan's own system calls are in the way"
	# The session waits for the kernel lock before it asks for the dotlock.
	locker_start
	locker L
	pop_open
	pop_say "USER alice"
	pop_say "PASS x"
	log_has 'login '
	attach "$(monitor_pid)" -o /dev/null -e trace=clone,clone3,fork \
	    -e inject=clone,clone3,fork:error=EAGAIN
	locker U
	pop_hear '^\+OK'
	pop_hear '^\+OK'
	pop_hear '^-ERR \[SYS/TEMP\]'
	detached
	pop_close
	no_broker_is_logged
	log_has 'logout .*reason=unavailable'
	[ ! -e /var/mail/alice.lock ]
	login_succeeds
	spool_is alice one two three
}

@test "a program that waits for a lock of a killed session gets it after the removal is finished" {
	local point points=0 bad=0
	[ -z "${SANITIZER-}" ] || skip "ASan's own system calls are in the way"
	server_stop
	server_start -l fcntl,flock,dotlock
	# All these calls come after the removal is decided, which is when the
	# journal gets its name. The third fsync syncs the mailbox. The fourth
	# fsync syncs the journal's next name.
	for _ in $(seq "$(long && echo 40 || echo 1)"); do
		for point in "fsync 2" "fsync 3" "fsync 4" "ftruncate 1" \
		    "unlinkat 2"; do
			count_point kill_point $point
		done
	done
	points_are_good "session killed, its locks waited for" \
	    "$(long && echo 200 || echo 5)"
}

@test "kpopd waits for a lock that another program releases within ten seconds" {
	dotlockfile -l /var/mail/alice.lock
	# The pause is long enough for several attempts of the broker.
	(
		await 10 '[ -n "$(broker_pid 2>/dev/null)" ]'
		sleep 2
		rm /var/mail/alice.lock
	) 3>&- &
	login_succeeds
}

@test "kpopd and procmail both get their locks, even if they lock in opposite orders" {
	server_stop
	server_start -l dotlock,fcntl
	for _ in 1 2 3; do
		make_message more | deliver alice 3>&- &
		login_succeeds
		await 30 "! kill -0 $! 2>/dev/null"
	done
	run pop alice QUIT
	[[ $output == *"+OK 6 messages"* ]]
}

@test "in a directory that the user may write, the broker makes the dotlock without the spool's group" {
	local gid
	mkdir -p /home/alice/spool
	cp -p /var/mail/alice /home/alice/spool/alice
	chown -R alice:alice /home/alice/spool
	server_stop
	server_start -m 'mbox:%h/spool/%u'
	pop_login_locking alice
	gid=$(id -g alice)
	has_gids "$(broker_pid)" "$gid" "$gid"
	echo $$ >/home/alice/spool/alice.lock
	pop_ask "DELE 1"
	pop_patience=60 pop_ask QUIT '^-ERR \[IN-USE\]'
	pop_hear_end
	rm /home/alice/spool/alice.lock
	run pop alice "DELE 1" QUIT
	[[ $output == *"+OK bye, 2 messages left"* ]]
	[ "$(ls -A /home/alice/spool)" = alice ]
}

# bats test_tags=promise:8
@test "a symlink in the user's home directory does not lead the broker into another directory with a group" {
	local gid mailbox
	mkdir -p "$WORLD/group/sub"
	chgrp -R mail "$WORLD/group"
	chmod -R 2775 "$WORLD/group"
	cp -p /var/mail/alice "$WORLD/group/sub/"
	ln -s "$WORLD/group" /home/alice/link
	gid=$(id -g alice)
	# Only %h tells kpopd that the mailbox is in a home directory.
	for mailbox in 'mbox:%h/link/sub/%u' 'mbox:/home/%u/link/sub/%u'; do
		server_stop
		server_start -m "$mailbox"
		pop_login_locking alice
		has_gids "$(broker_pid)" "$gid" "$gid"
		pop_ask QUIT
		pop_hear_end
	done
	[ "$(ls -A "$WORLD/group/sub")" = alice ]
}

@test "kpopd obeys an empty dotlock with a time in the future, and removes one that is ten minutes old" {
	mbox one | store alice
	: >/var/mail/alice.lock
	touch -d '+1 hour' /var/mail/alice.lock
	forget_index
	run pop alice STAT QUIT
	[[ ${lines[-1]} == "-ERR [IN-USE] another program"* ]]
	[ -e /var/mail/alice.lock ]
	touch -d '-10 minutes' /var/mail/alice.lock
	forget_index
	run pop alice STAT QUIT
	[[ $output == *"+OK 1 "* ]]
	[ ! -e /var/mail/alice.lock ]
}

# during_takeover OLD NEW MAILBOX: begins a login of alice to MAILBOX, a copy of
# OLD, and renames a copy of NEW to MAILBOX while the login waits for the
# session lock. If OLD is empty, there is no mailbox before. A process of the
# test holds that lock, as another session would, and then releases it. Writes
# the answers to $WORLD/answers. The login waits only a second, so tries five
# times.
during_takeover() {
	local login line try
	for try in {1..5}; do
		rm -rf "$3" "$3.new"
		[ -z "$1" ] || cp -a "$1" "$3"
		cp -a "$2" "$3.new"
		run pop alice QUIT
		forget_index
		# The login writes its takeover request, a NUL, to this FIFO.
		exec {requests}<>"$(kept)/yield"
		hold fcntl "$(kept)/session" alice@KPOPD.TEST
		pop alice STAT QUIT >"$WORLD/answers" 3>&- {requests}>&- &
		login=$!
		read -r -d '' -t 30 -u "$requests" line
		mv "$3.new" "$3"
		exec {requests}>&-
		release
		wait $login || :
		cat "$WORLD/answers"
		grep -q '^-ERR \[IN-USE\]' "$WORLD/answers" || return 0
	done
}

# replace_mailbox: renames a new mailbox with two messages to alice's spool.
replace_mailbox() {
	mbox new newer >/var/mail/alice.new
	chown alice:mail /var/mail/alice.new
	chmod 660 /var/mail/alice.new
	mv /var/mail/alice.new /var/mail/alice
}

@test "kpopd serves a mailbox that is made or replaced while the login waits for another session to end" {
	mv /var/mail/alice "$WORLD/three"
	replace_mailbox
	mv /var/mail/alice "$WORLD/two"
	during_takeover '' "$WORLD/two" /var/mail/alice
	grep -q '^+OK 2 [1-9]' "$WORLD/answers"
	during_takeover "$WORLD/two" "$WORLD/three" /var/mail/alice
	grep -q '^+OK 3 [1-9]' "$WORLD/answers"
}

@test "kpopd serves a Maildir that is made while the login waits for another session to end" {
	server_stop
	server_start -m 'maildir:~/Maildir'
	mkdir -p "$WORLD"/Maildir/{new,cur,tmp}
	make_message one >"$WORLD/Maildir/new/1.one"
	chown -R alice:alice "$WORLD/Maildir"
	during_takeover '' "$WORLD/Maildir" /home/alice/Maildir
	grep -q '^+OK 1 [1-9]' "$WORLD/answers"
}

# begin_login: begins a login of alice, and waits until it is logged. The answer
# to PASS is not read.
begin_login() {
	log_mark
	pop_open
	pop_hear '^\+OK'
	pop_ask "USER alice"
	pop_say "PASS x"
	log_has 'login '
}

# A session has two locks. A login must not take the one and be refused because
# of the other, while a killed session ends.
@test "a login waits for a session that has released one of its two locks and still has the other" {
	run pop alice QUIT
	# It waits only a second, so try five times.
	for _ in {1..5}; do
		hold fcntl "$state/users/$(id -u alice)/places"
		begin_login
		await 5 'log_lines | grep -aq " logout " ||
		    [[ $(cat "/proc/$(child_pid)/wchan") == *nanosleep* ]]'
		release
		pop_hear .
		[[ $heard == "-ERR [IN-USE]"* ]] || break
		pop_hear_end
		pop_close
	done
	[[ $heard == "+OK 3 messages"* ]]
	pop_ask QUIT
	pop_hear_end
}

# waits_for_locks: returns true if the session has the user's uid and has opened
# the mailbox.
waits_for_locks() {
	local session
	session=$(child_pid)
	[[ $(field "$session" Uid) != 0* ]] &&
	    fds "$session" | grep -q ' /var/mail/alice$'
}

@test "kpopd serves a mailbox that is replaced while the login waits for another program's lock" {
	run pop alice QUIT
	forget_index
	locker_start
	locker L
	begin_login
	await 5 waits_for_locks
	replace_mailbox
	locker U
	pop_hear '^\+OK 2 messages'
	pop_ask QUIT
	pop_hear_end
	locker_stop
}
