#!/usr/bin/env bats
# Locks against other programs, the broker that makes the dotlock and keeps the
# locks of a session that dies.

load helpers/all

setup() {
	begin_test
	mbox one two three | store alice
	realm_login alice
}

teardown() {
	[ -z "${holder-}" ] || kill -CONT "$holder" 2>/dev/null || true
	[ -z "${holder-}" ] || kill "$holder" 2>/dev/null || true
	locker_stop
	[ -z "${mode-}" ] ||
	    { chmod "$mode" /var/mail; chown root:mail /var/mail; }
	[ ! -e /run/spool ] || { rm -r /run/spool; server_stop; server_start; }
	end_test
}

# with_locks ORDER COMMAND …: a server with this order.
with_locks() {
	server_stop
	server_start -l "$1"
	"${@:2}"
	server_stop
	server_start
}

# holds 'PERL': a process that holds a lock on alice's spool, in $holder.
holds() {
	rm -f "$WORLD/held"
	perl -e 'use POSIX; use Fcntl ":flock"; open F, "+<", "/var/mail/alice" or die; $| = 1;
	    sub posix { my $l = pack("s s l! l! i", $_[0], 0, 0, 0, 0); fcntl(F, F_SETLK, $l) or die "busy" }'"
	    $1; print \"held\n\"; sleep 60" >"$WORLD/held" 2>&1 3>&- &
	holder=$!
	await 5 "grep -q 'held\|busy' $WORLD/held"
	grep -q held "$WORLD/held"
}

drop_hold() {
	kill "$holder" 2>/dev/null || true
	wait "$holder" 2>/dev/null || true
	holder=
}

# stops_us: alice's mailbox is [IN-USE].
stops_us() {
	forget_index
	run pop alice QUIT
	[[ ${lines[-1]} == "-ERR [IN-USE]"* ]] || { echo "$output"; return 1; }
}

lets_us() {
	forget_index
	run pop alice QUIT
	[[ ${lines[-1]} == "+OK bye"* ]] || { echo "$output"; return 1; }
}

@test "the order of locks is an option; nonsense is refused" {
	for order in fcntl flock dotlock fcntl,dotlock dotlock,fcntl \
	    flock,dotlock,fcntl; do
		with_locks $order lets_us
	done
	for order in '' none fcntl,fcntl fcntl, ,dotlock fcntldotlock; do
		run "$KPOPD_BUILD/kpopd" -l "$order" </dev/null
		[ "$status" -eq 2 ]
		[[ $output == *"-l takes"* ]]
	done
}

@test "the lock matrix: which of our locks excludes which of others'" {
	# A POSIX lock is seen by fcntl, flock(2) by flock, a dotlock by
	# dotlock, and by nothing else.
	holds 'posix(F_WRLCK)'
	with_locks fcntl stops_us
	with_locks flock lets_us
	with_locks dotlock lets_us
	drop_hold
	holds 'flock F, LOCK_EX | LOCK_NB or die "busy"'
	with_locks flock stops_us
	with_locks fcntl lets_us
	drop_hold
	dotlockfile -l /var/mail/alice.lock
	with_locks dotlock stops_us
	with_locks fcntl lets_us
	dotlockfile -u /var/mail/alice.lock
	# What real programs take, against the default.
	su alice -c 'dotlockfile -l -m'
	stops_us
	su alice -c 'dotlockfile -u -m'
	lets_us
	su alice -c 'mutt_dotlock -p /var/mail/alice'
	stops_us
	with_locks fcntl lets_us
	su alice -c 'mutt_dotlock -u -p /var/mail/alice'
	lets_us
}

# while_we_remove COMMAND …: with our session stopped right after it took its
# locks for QUIT.
while_we_remove() {
	pop_login alice
	pop_ask "DELE 1"
	local session monitor
	session=$(child_pid) monitor=$(monitor_pid)
	blind_monitor
	rm -f "$WORLD/stopped"
	strace -q -p "$session" -o "$WORLD/stopped" -e trace=pwrite64 \
	    -e inject=pwrite64:signal=STOP:when=1 2>/dev/null 3>&- &
	holder=$!
	await 5 "grep -q '^TracerPid:[[:space:]]*[1-9]' /proc/$session/status"
	pop_say QUIT
	# Its state alone would not do: under strace a process stops at each
	# system call.
	await 5 "grep -q 'stopped by SIGSTOP' $WORLD/stopped"
	[ -e /var/mail/alice.lock ]
	"$@"
	kill "$holder"
	wait "$holder" 2>/dev/null || true
	holder=
	kill -CONT "$session"
	monitor_sees
	pop_hear '^\+OK bye, 2'
	pop_hear_end
}

@test "while we remove, others' locks of each kind wait for us: fcntl, dotlockfile, mutt_dotlock, procmail" {
	[ -z "${SANITIZER-}" ] || skip "ASan's own system calls are in the way"
	others_wait() {
		run \
		    perl -e 'use POSIX; open F, "+<", "/var/mail/alice"; my $l = pack("s s l! l! i", F_WRLCK, 0, 0, 0, 0); fcntl(F, F_SETLK, $l) or exit 7'
		[ "$status" -eq 7 ]
		run dotlockfile -r 0 -l /var/mail/alice.lock
		[ "$status" -ne 0 ]
		run su alice -c 'mutt_dotlock -p -r 0 /var/mail/alice'
		# "A lock by another one exists."
		[ "$status" -eq 3 ]
		make_message late | deliver alice 3>&- &
		sleep 1
		grep -q 'Subject: late' /var/mail/alice && return 1 || :
	}
	while_we_remove others_wait
	await 20 "grep -q 'Subject: late' /var/mail/alice"
	run pop alice "RETR 3" QUIT
	[[ $output == *"+OK 3 messages"*"Subject: late"* ]]
}

@test "the broker is the user with the spool's group; the session has only the user's" {
	pop_login alice
	uid=$(id -u alice) gid=$(id -g alice) \
	    mail=$(getent group mail | cut -d: -f3)
	grep -Pq "^Uid:\t$uid\t$uid\t$uid\t$uid\$" "/proc/$(broker_pid)/status"
	grep -Pq "^Gid:\t$gid\t$mail\t$mail\t$mail\$" \
	    "/proc/$(broker_pid)/status"
	grep -Pq "^Gid:\t$gid\t$gid\t$gid\t$gid\$" "/proc/$(child_pid)/status"
	for process in broker child; do
		grep -Eq "^Groups:[[:space:]]$gid ?\$" \
		    "/proc/$(${process}_pid)/status"
		grep -q '^CapEff:[[:space:]]0000000000000000' \
		    "/proc/$(${process}_pid)/status"
	done
}

@test "the broker touches no name but the user's lock, opens no socket and no mailbox, whatever it is told" {
	[ -z "${SANITIZER-}" ] || skip "ASan's own system calls are in the way"
	pop_login alice
	broker=$(broker_pid)
	strace -q -p "$broker" -o "$WORLD/broker" 2>/dev/null 3>&- &
	holder=$!
	await 5 "grep -q '^TracerPid:[[:space:]]*[1-9]' /proc/$broker/status"
	pop_ask "DELE 1"
	pop_ask QUIT
	pop_hear_end
	wait "$holder" 2>/dev/null || true
	holder=
	grep -q 'openat.*alice\.lock.*O_EXCL' "$WORLD/broker"
	# Every name it used: the lock, the state directory, and the clock's
	# zone.
	grep -o '"[^"]*"' "$WORLD/broker" | grep '/' |
	    grep -Ev \
		'"/var/mail/alice\.lock"|users/'"$(id -u \
		    alice)"'"|"/etc/localtime"|"/var/mail"' && return 1 || :
	grep -E '^(socket|connect|execve|bind|accept|ptrace|kill)\(' \
	    "$WORLD/broker" && return 1 || :
}

@test "the broker removes the lock when the session dies in whatever way" {
	[ -z "${SANITIZER-}" ] || skip "ASan's own system calls are in the way"
	pop_login alice
	pop_ask "DELE 1"
	session=$(child_pid)
	strace -q -p "$session" -o /dev/null -e trace=pwrite64 \
	    -e inject=pwrite64:signal=KILL:when=1 2>/dev/null 3>&- &
	await 5 "grep -q '^TracerPid:[[:space:]]*[1-9]' /proc/$session/status"
	pop_say QUIT
	pop_hear_end
	await 5 '! pgrep -x kpopd >/dev/null'
	[ ! -e /var/mail/alice.lock ]
	[ -z "$(ls -A /var/mail | grep -v '^alice$')" ]
	spool_is alice one two three
}

# stops_us_and_says_so, lets_us_without_a_word: so, the log says it, and mailbox
# and lock are as they were, or the lock is gone.
stops_us_and_says_so() {
	log_mark
	spool_mark
	stops_us
	log_has 'failed .*what="locking the mailbox" error="Resource temporarily unavailable"'
	log_has 'logout .* reason=in-use$'
	spool_kept
}

lets_us_without_a_word() {
	log_mark
	mv /var/mail/alice.lock "$WORLD/alice.lock"
	spool_mark
	mv "$WORLD/alice.lock" /var/mail/alice.lock
	lets_us
	log_says_quits "0 0 3"
	spool_kept
}

# dead_process: the pid of a process that has ended, in $dead.
dead_process() {
	sleep 0 & dead=$!
	wait $dead
}

# bats test_tags=catalogue:66-1,catalogue:66-2
@test "a dotlock of another program is stale when its process has ended and nobody has touched it for five minutes" {
	dead_process
	echo $dead >/var/mail/alice.lock
	touch -d '-6 minutes' /var/mail/alice.lock
	lets_us_without_a_word
	# It may be alive in another PID namespace, as in a container that has
	# the spool, too.
	echo $dead >/var/mail/alice.lock
	stops_us_and_says_so
	echo $$ >/var/mail/alice.lock
	touch -d '-1 hour' /var/mail/alice.lock
	stops_us_and_says_so
	# Without a number in it: five minutes since it was last touched.
	echo >/var/mail/alice.lock
	stops_us_and_says_so
	touch -d '-6 minutes' /var/mail/alice.lock
	lets_us_without_a_word
}

@test "a dotlock of a kpopd that was killed is stale at once, for kpopd and for dotlockfile" {
	[ -z "${SANITIZER-}" ] || skip "ASan's own system calls are in the way"
	for taker in pop dotlockfile; do
		mbox one two three | store alice
		pop_login alice
		pop_ask "DELE 1"
		session=$(child_pid) monitor=$(monitor_pid) broker=$(broker_pid)
		blind_monitor
		rm -f "$WORLD/stopped"
		attach "$session" -o "$WORLD/stopped" -e trace=pwrite64 \
		    -e inject=pwrite64:signal=STOP:when=1
		pop_say QUIT
		await 5 "grep -q 'stopped by SIGSTOP' $WORLD/stopped"
		# Others read the first line alone; while its process lives they
		# wait.
		[ "$(head -n 1 /var/mail/alice.lock)" = "$broker" ]
		[[ $(tail -n 1 /var/mail/alice.lock) == \
		    "mail.kpopd.test $(cat \
			/proc/sys/kernel/random/boot_id) "* ]]
		run dotlockfile -p -r 0 -l /var/mail/alice.lock
		[ "$status" -ne 0 ]
		kill -KILL "$monitor" "$broker" "$session"
		detached
		pop_close
		await 5 '! pgrep -x kpopd >/dev/null'
		[ -e /var/mail/alice.lock ]
		if [ $taker = pop ]; then
			lets_us
		else
			dotlockfile -p -r 1 -l /var/mail/alice.lock
			dotlockfile -u /var/mail/alice.lock
		fi
		[ ! -e /var/mail/alice.lock ]
	done
}

# in_the_way REASON: alice's mailbox cannot be opened, the log says once why,
# and alice.lock stays as it is.
in_the_way() {
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
@test "the mailbox of a user named alice.lock is no stale dotlock, whatever is in it" {
	mbox precious >/var/mail/alice.lock
	chown 4321:mail /var/mail/alice.lock
	touch -d '-1 hour' /var/mail/alice.lock
	in_the_way "it is larger than a lock"
	for text in '' '0' 'From '; do
		printf %s "$text" >/var/mail/alice.lock
		touch -d '-1 hour' /var/mail/alice.lock
		[ "$text" = 'From ' ] &&
		    reason="it does not contain what programs write into a lock" || reason="it belongs to another user"
		in_the_way "$reason"
	done
	# Nor is a mailbox that is alice's own, or root's.
	for owner in alice root; do
		mbox precious >/var/mail/alice.lock
		chown $owner:mail /var/mail/alice.lock
		touch -d '-1 hour' /var/mail/alice.lock
		in_the_way "it is larger than a lock"
	done
	rm /var/mail/alice.lock
	lets_us
}

@test "what another user has put in the dotlock's place in a spool that all may write is in the log" {
	mode=2775
	chmod 1777 /var/mail
	su bob -c \
	    'sleep 60 >/dev/null 3>&- & echo $! >/var/mail/alice.lock; echo $!' >"$WORLD/bob"
	log_mark
	stops_us
	log_count 1 'failed .*what="making the dotlock" path=/var/mail/alice.lock error="it belongs to another user"'
	kill "$(cat "$WORLD/bob")"
	rm /var/mail/alice.lock
	lets_us
	# Where all may write, the user makes the dotlock.
	pop_login alice
	gid=$(id -g alice)
	[ "$(field "$(broker_pid)" Gid)" = "$gid $gid $gid $gid" ]
	echo $$ >/var/mail/alice.lock
	pop_ask "DELE 1"
	pop_patience=15 pop_ask QUIT '^-ERR \[IN-USE\]'
	pop_hear_end
	rm /var/mail/alice.lock
}

# has_dotlock: while it removes, the session of this server has alice's dotlock
# in /var/mail.
has_dotlock() {
	while_we_remove true
	spool_is alice two three
	mbox one two three | store alice
}

@test "a spool directory that symlinks of root's lead to has its dotlock, and its group" {
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

@test "a symlink that others than root can change is not followed; each login has a line about the missing dotlock" {
	mkdir -m 755 /run/spool
	ln -s /var/mail /run/spool/mail
	chgrp mail /run/spool
	chmod 775 /run/spool
	server_stop
	server_start -m "mbox:/run/spool/mail/%u"
	for _ in 1 2; do
		log_mark
		run pop alice "DELE 9" QUIT
		[[ $output == *"+OK bye, 3 messages left"* ]]
		log_count 1 'failed .*what="making the dotlock" path=/run/spool/mail/alice.lock error="a directory in the path is writable by others than root"'
	done
	pop_login alice
	gid=$(id -g alice)
	[ "$(field "$(broker_pid)" Gid)" = "$gid $gid $gid $gid" ]
	pop_ask QUIT
	pop_hear_end
}

@test "where only root may write the spool directory, each login has a line about it if -l wants a dotlock" {
	mode=2775
	chmod 755 /var/mail
	for _ in 1 2; do
		log_mark
		run pop alice "DELE 9" QUIT
		[[ $output == *"+OK bye, 3 messages left"* ]]
		log_count 1 'failed .*what="making the dotlock" path=/var/mail/alice.lock error="Permission denied"'
	done
	run pop alice "DELE 1" QUIT
	[[ $output == *"+OK bye, 2 messages left"* ]]
	log_mark
	with_locks fcntl lets_us
	log_lacks 'what="making the dotlock"'
}

# waiter KIND: waits for alice's mailbox with this lock, then notes its
# messages, and what of a removal is unfinished.
waiter() {
	perl -e 'use POSIX; use Fcntl ":flock"; my ($kind, $state) = @ARGV; $| = 1; open F, "+<", "/var/mail/alice" or die;
	    if ($kind eq "fcntl") { my $l = pack("s s l! l! i", F_WRLCK, 0, 0, 0, 0); fcntl(F, F_SETLKW, $l) or die "lock: $!" }
	    elsif ($kind eq "flock") { flock(F, LOCK_EX) or die "lock: $!" }
	    else { until (sysopen(L, "/var/mail/alice.lock", O_CREAT | O_EXCL | O_WRONLY)) { select undef, undef, undef, 0.0005 } }
	    my @left = grep { -e } "$state/j", "$state/j.cut"; my $text = do { local $/; <F> };
	    unlink "/var/mail/alice.lock" if $kind eq "dotlock";
	    print "@left ", join(" ", $text =~ /^Subject: (\w+)/mg), "\n"' \
	    "$1" "$(kept)" >"$WORLD/$1.found" 2>&1 3>&- &
	waiters+=($!)
}

# is_waiting PID KIND: it has asked for the lock that the session has, and
# sleeps.
is_waiting() {
	case $2 in
	fcntl) grep -q -- "-> .*POSIX .* $1 " /proc/locks ;;
	flock) grep -q -- "-> .*FLOCK .* $1 " /proc/locks ;;
	dotlock) fds "$1" | grep -q ' /var/mail/alice$' ;;
	esac
}

# death_point CALL N: the session alone is killed at its Nth CALL of QUIT, while
# programs wait for its locks of all kinds.
death_point() {
	local kind session monitor waiters=() i=0
	rm -f "$WORLD"/*.found "$WORLD/stopped"
	mbox one two three | store alice
	pop_login alice
	pop_ask "DELE 1"
	session=$(child_pid) monitor=$(monitor_pid)
	blind_monitor
	attach "$session" -o "$WORLD/stopped" -e "trace=$1" \
	    -e "inject=$1:signal=STOP:when=$2"
	pop_say QUIT
	await 5 "grep -q 'stopped by SIGSTOP' $WORLD/stopped" || return 1
	for kind in fcntl flock dotlock; do
		waiter $kind
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
	await 5 '! pgrep -x kpopd >/dev/null' || return 1
	no_journal && [ ! -e /var/mail/alice.lock ] && spool_is alice two three
}

@test "a session alone is killed in its removal: who waits for one of its locks gets it when the removal is finished" {
	[ -z "${SANITIZER-}" ] || skip "ASan's own system calls are in the way"
	server_stop
	server_start -l fcntl,flock,dotlock
	points=0 bad=0
	# From the journal's name on it is decided; the third fsync is the
	# mailbox', the fourth the next name's.
	for _ in $(seq "$(long && echo 40 || echo 1)"); do
		for point in "fsync 2" "fsync 3" "fsync 4" "ftruncate 1" \
		    "unlinkat 2"; do
			count_point death_point $point
		done
	done
	server_stop
	server_start
	points_are_good "session killed, its locks waited for" \
	    "$(long && echo 200 || echo 5)"
}

@test "a lock that goes in time is waited for" {
	dotlockfile -l /var/mail/alice.lock
	(sleep 2; rm /var/mail/alice.lock) 3>&- &
	lets_us
}

@test "two programs that lock in the other order both get through" {
	server_stop
	server_start -l dotlock,fcntl
	for _ in 1 2 3; do
		make_message more | deliver alice 3>&- &
		lets_us
		await 30 "! kill -0 $! 2>/dev/null"
	done
	server_stop
	server_start
	run pop alice QUIT
	[[ $output == *"+OK 6 messages"* ]]
}

@test "where the user may write the directory the broker needs no group, and the dotlock is made all the same" {
	mkdir -p /home/alice/spool
	cp -p /var/mail/alice /home/alice/spool/alice
	chown -R alice:alice /home/alice/spool
	server_stop
	server_start -m 'mbox:%h/spool/%u'
	pop_login alice
	gid=$(id -g alice)
	grep -Pq "^Gid:\t$gid\t$gid\t$gid\t$gid\$" "/proc/$(broker_pid)/status"
	echo $$ >/home/alice/spool/alice.lock
	pop_ask "DELE 1"
	pop_patience=15 pop_ask QUIT '^-ERR \[IN-USE\]'
	pop_hear_end
	rm /home/alice/spool/alice.lock
	run pop alice "DELE 1" QUIT
	server_stop
	server_start
	[[ $output == *"+OK bye, 2 messages left"* ]]
	[ -z "$(ls -A /home/alice/spool | grep -v '^alice$')" ]
	rm -r /home/alice/spool
}

# bats test_tags=promise:8
@test "a user cannot have the broker led into another directory by a symlink in the home directory" {
	mkdir -p "$WORLD/group/sub"
	chgrp -R mail "$WORLD/group"
	chmod -R 2775 "$WORLD/group"
	ln -s "$WORLD/group" /home/alice/link
	server_stop
	server_start -m 'mbox:%h/link/sub/%u'
	pop_login alice
	gid=$(id -g alice)
	run cat "/proc/$(broker_pid)/status"
	pop_ask QUIT
	pop_hear_end
	rm /home/alice/link
	server_stop
	server_start
	grep -Pq "^Gid:\t$gid\t$gid\t$gid\t$gid\$" <<<"$output"
	[ -z "$(ls -A "$WORLD/group/sub")" ]
}

@test "a dotlock from the future is somebody's, one without a process becomes stale" {
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

# session_held: another process, $holder, has alice's session lock until $go is
# closed.
session_held() {
	rm -f "$WORLD/held"
	perl -e 'use POSIX; $| = 1; open F, "+<", $ARGV[0] or die; truncate F, 0; syswrite F, "alice\@KPOPD.TEST";
	    my $l = pack("s s l! l! i", F_WRLCK, 0, 0, 0, 0); fcntl(F, F_SETLK, $l) or die "busy"; print "held\n"; <STDIN>' \
	    "$(kept)/session" <"$WORLD/go" >"$WORLD/held" 2>&1 3>&- &
	holder=$!
	exec {go}>"$WORLD/go"
	await 5 "grep -q held $WORLD/held"
}

# while_it_waits COMMAND …: a login waits for alice's session lock (it asks its
# holder to end) when the command runs; then goes on.
while_it_waits() {
	run pop alice QUIT
	forget_index
	rm -f "$WORLD/go"
	mkfifo "$WORLD/go"
	# The waiting login writes here.
	exec {yield}<>"$(kept)/yield"
	session_held
	pop alice STAT QUIT >"$WORLD/answer" 3>&- {go}>&- {yield}>&- &
	waiting=$!
	[ "$(timeout 5 head -c 1 <&"$yield" | wc -c)" -eq 1 ]
	"$@"
	exec {go}>&- {yield}>&-
	wait "$holder"
	holder=
	wait $waiting
	cat "$WORLD/answer"
}

replace_mailbox() {
	mbox new newer >/var/mail/alice.new
	chown alice:mail /var/mail/alice.new
	chmod 660 /var/mail/alice.new
	mv /var/mail/alice.new /var/mail/alice
}

@test "a mailbox that is made or replaced while the login waits for the session before is served" {
	mv /var/mail/alice "$WORLD/aside"
	while_it_waits replace_mailbox
	grep -q '^+OK 2 [1-9]' "$WORLD/answer"
	while_it_waits mv "$WORLD/aside" /var/mail/alice
	grep -q '^+OK 3 [1-9]' "$WORLD/answer"
}

@test "a Maildir that is made while the login waits for the session before is served" {
	server_stop
	server_start -m 'maildir:~/Maildir'
	make_maildir() {
		su alice -c 'mkdir -p ~/Maildir/new ~/Maildir/cur ~/Maildir/tmp'
		make_message one >/home/alice/Maildir/new/1.one
		chown alice:alice /home/alice/Maildir/new/1.one
	}
	while_it_waits make_maildir
	rm -r /home/alice/Maildir
	server_stop
	server_start
	grep -q '^+OK 1 [1-9]' "$WORLD/answer"
}

@test "a mailbox that is replaced while the login waits for another program's lock is served" {
	run pop alice QUIT
	forget_index
	locker_start
	locker L
	log_mark
	pop_open
	pop_hear '^\+OK'
	pop_ask "USER alice"
	pop_say "PASS x"
	log_has 'login '
	await 5 \
	    '! grep -q "^Uid:[[:space:]]*0" "/proc/$(child_pid)/status" && fds "$(child_pid)" | grep -q " /var/mail/alice\$"'
	replace_mailbox
	locker U
	pop_hear '^\+OK 2 messages'
	pop_ask QUIT
	pop_hear_end
	locker_stop
}
