#!/usr/bin/env bats
# Checks that QUIT removes the marked messages and no other, even if another
# program changes the mailbox, kpopd is killed or the disk is full.

load helpers/all

setup() {
	begin_test
	realm_login alice
	uid=$(id -u alice)
}

teardown() {
	local status=0
	end_test || status=1
	! mountpoint -q "$state" || umount "$state" || status=1
	return $status
}

@test "QUIT removes exactly the marked messages, for each subset of four messages" {
	names=(one two three four)
	for subset in $(seq 1 15); do
		mbox "${names[@]}" | store alice
		commands=() kept=()
		for i in 0 1 2 3; do
			if ((subset >> i & 1)); then
				commands+=("DELE $((i + 1))")
			else
				kept+=("${names[i]}")
			fi
		done
		run pop alice "${commands[@]}" QUIT
		[[ ${lines[-1]} == "+OK bye, ${#kept[@]} messages left" ]]
		spool_is alice "${kept[@]}"
		no_journal
	done
}

@test "QUIT keeps the spool's inode, owner and mode" {
	mbox one two three | store alice
	before=$(stat -c '%i %U %G %a' /var/mail/alice)
	pop alice "DELE 1" QUIT
	[ "$(stat -c '%i %U %G %a' /var/mail/alice)" = "$before" ]
	spool_is alice two three
}

@test "QUIT keeps a message that was delivered during the session" {
	mbox one two | store alice
	for mark in "DELE 1" "DELE 2"; do
		mbox one two | store alice
		pop_login alice
		pop_ask "$mark"
		make_message late | deliver alice
		pop_ask QUIT '^\+OK bye, 1'
		pop_hear_end
		run pop alice "RETR 2" QUIT
		[[ $output == *"+OK 2 messages"*"Subject: late"* ]]
	done
}

@test "QUIT keeps a message that was delivered during the session if it removes all others" {
	mbox one two | store alice
	pop_login alice
	pop_ask "DELE 1"
	pop_ask "DELE 2"
	make_message late | deliver alice
	pop_ask QUIT
	pop_hear_end
	run pop alice "RETR 1" QUIT
	[[ $output == *"+OK 1 messages"*"Subject: late"* ]]
}

@test "QUIT removes the other marked messages and answers -ERR if another program has removed one of them" {
	mbox one two three four | store alice
	pop_login alice
	pop_ask "DELE 2"
	pop_ask "DELE 4"
	mbox two three >/var/mail/alice
	pop_ask "RETR 1" '^-ERR \[SYS/TEMP\] another program'
	pop_ask QUIT '^-ERR some deleted messages not removed'
	pop_hear_end
	spool_is alice three
	log_has 'failed .*another program changed the mailbox'
}

@test "QUIT keeps a message that equals the marked one, which another program has removed" {
	mbox one two two | store alice
	pop_login alice
	pop_ask "DELE 2"
	mbox two >/var/mail/alice
	pop_ask QUIT '^-ERR some deleted messages not removed'
	pop_hear_end
	spool_is alice two
}

@test "QUIT removes one of two equal messages" {
	mbox two two one | store alice
	pop alice "DELE 2" QUIT
	spool_is alice two one
}

@test "QUIT removes a marked message to which a mail reader has added a Status field" {
	mbox one two | store alice
	pop_login alice
	pop_ask "DELE 2"
	mbox one two | sed 's/^Subject:.*/&\nStatus: RO/' >/var/mail/alice
	pop_ask QUIT '^\+OK bye'
	pop_hear_end
	[ "$(grep -c '^Status: RO' /var/mail/alice)" -eq 1 ]
	refute grep '^Subject: two' /var/mail/alice
}

# bats test_tags=catalogue:75-2
@test "QUIT leaves a spool unchanged if another program has put it in place of the session's spool" {
	mbox one two | store alice
	pop_login alice
	pop_ask "DELE 1"
	mbox one two >/var/mail/alice.new
	chown alice:mail /var/mail/alice.new
	mv /var/mail/alice.new /var/mail/alice
	spool_mark
	pop_ask QUIT '^-ERR some deleted messages not removed'
	pop_hear_end
	spool_is alice one two
	spool_kept
	log_has 'failed .*what="removing messages" error="another program replaced the mailbox"'
	log_has 'logout .* reason=quit .* deleted=0 left=2 '
}

# hold_read_lock: starts a process that holds a POSIX read lock on alice's
# spool. Sets $holder to its pid.
hold_read_lock() {
	perl -e 'use POSIX;
	    open F, "<", "/var/mail/alice" or die;
	    my $lock = pack "s s l! l! i", F_RDLCK, 0, 0, 0, 0;
	    fcntl F, F_SETLK, $lock or die;
	    $| = 1;
	    print "held\n";
	    sleep 60' >"$WORLD/held" 3>&- &
	holder=$!
	await 5 'grep -q held "$WORLD/held"'
}

# bats test_tags=fault:13
@test "QUIT answers [IN-USE] and removes nothing if another program keeps its lock on the spool" {
	mbox one two | store alice
	pop_login alice
	pop_ask "DELE 1"
	hold_read_lock
	pop_patience=60 pop_ask QUIT '^-ERR \[IN-USE\]'
	kill "$holder"
	pop_hear_end
	spool_is alice one two
}

@test "QUIT removes nothing if there is no space for the journal, unless it removes the last messages or all messages" {
	server_stop
	# The file system has space for the replay cache and 64 KiB.
	mount -t tmpfs -o size=12452k,mode=755 small "$state"
	server_start
	pop alice QUIT
	{
		mbox one
		from_line
		printf 'Subject: large\n\n'
		seq 30000
		echo
		mbox three
	} | store alice
	sum=$(sha256sum </var/mail/alice)
	run pop alice "DELE 1" QUIT
	[ "${lines[-1]}" = "-ERR [SYS/TEMP] nothing removed" ]
	[ "$(sha256sum </var/mail/alice)" = "$sum" ]
	no_journal
	log_has 'failed .*No space left'
	run pop alice "DELE 3" QUIT
	[ "${lines[-1]}" = "+OK bye, 2 messages left" ]
	run pop alice "DELE 1" "DELE 2" QUIT
	[ "${lines[-1]}" = "+OK bye, 0 messages left" ]
	[ ! -s /var/mail/alice ]
}

# start_without_broker: starts a server whose sessions lock without a broker.
# Then no dotlock is left if a monitor is killed.
start_without_broker() {
	server_stop
	server_start -l fcntl
}

# kill_removal_at CALL N: begins a QUIT that removes two of five messages. Kills
# session and monitor at the session's Nth CALL.
kill_removal_at() {
	doomed=(2 4)
	mbox one two three four five >"$WORLD/old"
	killed_quit together "$@"
}

# bats test_tags=fault:12
@test "a login after an interrupted removal serves a spool that was rewritten meanwhile, and keeps the journal" {
	[ -z "${SANITIZER-}" ] || skip "ASan's own system calls are in the way"
	start_without_broker
	kill_removal_at fsync 3
	[ -e "$(kept)/j" ]
	mbox other mail entirely >/var/mail/alice
	run pop alice QUIT
	[[ $output == *"+OK 3 messages"* ]]
	spool_is alice other mail entirely
	log_has 'rescue .*file=rescue\.[0-9.]+\.j reason="another program rewrote the mailbox" mailbox=/var/mail/alice$'
	tail -c +4097 "$(kept)"/rescue.* | cmp - <(mbox three five)
}

# bats test_tags=catalogue:79-1
@test "a login renames forged journals and leaves the mailbox unchanged" {
	mbox one two | store alice
	pop alice QUIT
	spool_mark
	for forged in 'head -c 10 /dev/urandom' 'head -c 10000 /dev/urandom' \
	    'head -c 8192 /dev/zero' 'printf ""'; do
		# The broker of the login before looks for a journal when that
		# login's session has ended.
		kpopd_ends 5
		for name in j j.cut j.tmp; do
			bash -c "$forged" >"$(kept)/$name"
			chown alice "$(kept)/$name"
		done
		log_mark
		run pop alice QUIT
		[[ $output == *"+OK 2 messages"*"+OK bye, 2 messages left" ]]
		spool_kept
		log_has 'recovery .*state=j$'
		log_has \
		    'rescue .*file=rescue\.[0-9.]+\.j reason="damaged journal"'
		log_has 'rescue .*file=rescue\.[0-9.]+\.j\.cut reason="damaged journal"'
		log_lacks 'fatal|signal'
		ls "$(kept)" | refute grep -Ev \
		    '^(mailbox|session|yield|index|rescue.*)$'
	done
}

# make_socket NAME: makes a Unix socket.
make_socket() {
	perl -MSocket -e '
	    socket S, PF_UNIX, SOCK_STREAM, 0 or die;
	    bind S, sockaddr_un shift or die' "$1"
}

# bats test_tags=catalogue:79-4,promise:8
@test "a login renames any file that the user has put in the journal's place, and does not follow a link" {
	mbox one two | store alice
	pop alice QUIT
	spool_mark
	passwd=$(spool_file /etc/passwd; sha256sum /etc/passwd)
	for name in j j.cut; do
		for make in mkfifo mkdir 'ln -s /etc/passwd' 'ln -s nowhere' \
		    make_socket; do
			kpopd_ends 5
			log_mark
			(cd "$(kept)" && $make $name && chown -h alice $name)
			run pop alice QUIT
			[[ $output == \
			    *"+OK 2 messages"*"+OK bye, 2 messages left" ]] ||
			    { echo "$make $name: $output"; return 1; }
			spool_kept
			log_has "rescue .*file=rescue\\.[0-9.]+\\.$name reason=.damaged journal"
			[ ! -e "$(kept)/$name" ] && [ ! -L "$(kept)/$name" ]
		done
	done
	[ "$(spool_file /etc/passwd; sha256sum /etc/passwd)" = "$passwd" ]
	# kpopd removes j.tmp only by unlink. If j.tmp is a directory, an
	# administrator must remove it.
	mkdir "$(kept)/j.tmp"
	opens_not SYS/TEMP \
	    'what="unlinking an old j.tmp" error="Is a directory"'
	rmdir "$(kept)/j.tmp"
	pop alice QUIT | grep '^+OK 2 messages'
}

@test "if a session is killed in the middle of a removal, another process finishes the removal at once" {
	[ -z "${SANITIZER-}" ] || skip "ASan's own system calls are in the way"
	mbox one two three | store alice
	pop_login alice
	pop_ask "DELE 1"
	attach "$(child_pid)" -o /dev/null \
	    -e "inject=fsync:signal=KILL:when=3"
	pop_say QUIT
	pop_hear_end
	kpopd_ends 5
	spool_is alice two three
	no_journal
	[ ! -e /var/mail/alice.lock ]
	log_has 'fatal .*session (was ended by signal 9|closed its channel)'
	log_has 'recovery .*state=j$'
}

@test "a session that gets TERM, HUP or INT during a removal keeps its locks until it has finished the removal" {
	[ -z "${SANITIZER-}" ] || skip "ASan's own system calls are in the way"
	for signal in TERM HUP INT; do
		for place in pwrite64:when=3 fsync:when=3 ftruncate:when=1; do
			mbox one two three | store alice
			pop_login alice
			pop_ask "DELE 1"
			session=$(child_pid) monitor=$(monitor_pid) \
			    broker=$(broker_pid)
			blind_monitor
			rm -f "$WORLD/stopped"
			attach "$session" -o "$WORLD/stopped" \
			    -e "trace=${place%:*}" \
			    -e "inject=${place%:*}:signal=STOP:${place#*:}"
			pop_say QUIT
			await 5 "grep -q 'stopped by SIGSTOP' $WORLD/stopped"
			# Signal all processes of the service, as systemd does.
			kill -$signal "$session" "$monitor" "$broker"
			[ -e /var/mail/alice.lock ]
			kill -CONT "$session"
			monitor_sees
			detached
			pop_hear_end
			kpopd_ends 5
			spool_is alice two three
			no_journal
			[ ! -e /var/mail/alice.lock ]
		done
	done
	# If the session is not removing messages, all processes end at once.
	mbox one two | store alice
	pop_login alice
	pop_ask "DELE 1"
	kill -TERM "$(child_pid)" "$(monitor_pid)" "$(broker_pid)"
	pop_hear_end
	kpopd_ends 5
	spool_is alice one two
}

@test "kpopd --recover finishes the removals of all users, and prints a line for each mailbox" {
	[ -z "${SANITIZER-}" ] || skip "ASan's own system calls are in the way"
	run "$KPOPD_BUILD/kpopd" --recover -d "$state"
	[ "$status" -eq 0 ]
	[ -z "$output" ]
	start_without_broker
	kill_removal_at fsync 3
	[ -e "$(kept)/j" ]
	run "$KPOPD_BUILD/kpopd" --recover -d "$state"
	[ "$status" -eq 0 ]
	[ "$output" = "alice (/var/mail/alice): removal finished" ]
	run "$KPOPD_BUILD/kpopd" --recover -d "$state"
	[ "$status" -eq 0 ]
	[ "$output" = "alice (/var/mail/alice): nothing to do" ]
	spool_is alice one three five
	no_journal
	[ ! -e /var/mail/alice.lock ]
	# After a crash, a new directory may still belong to root.
	mkdir -m 700 "$state/users/54321"
	run "$KPOPD_BUILD/kpopd" --recover -d "$state"
	[ "$status" -eq 0 ]
	[ "$output" = "alice (/var/mail/alice): nothing to do" ]
	touch "$state/users/54321/j"
	run "$KPOPD_BUILD/kpopd" --recover -d "$state"
	[ "$status" -eq 1 ]
	[[ $output == *"alice (/var/mail/alice): nothing to do"* ]]
	[[ $output == *"uid 54321: not reachable: unknown user"* ]]
}

@test "kpopd --recover needs the sandbox, and with -S optional finishes removals without it" {
	[ -z "${SANITIZER-}" ] || skip "a build with sanitizers has no sandbox"
	start_without_broker
	kill_removal_at fsync 3
	forbid="$KPOPD_BUILD/tests/programs/poor -e EPERM"
	for part in seccomp landlock_create_ruleset; do
		run $forbid $part -- "$KPOPD_BUILD/kpopd" --recover -d "$state"
		[ "$status" -eq 2 ]
		[[ $output == "kpopd: the sandbox cannot be made: no "* ]]
		[[ ${lines[0]} == *"-S optional" ]]
		[ -e "$(kept)/j" ]
	done
	run $forbid seccomp landlock_create_ruleset -- "$KPOPD_BUILD/kpopd" \
	    --recover -S optional -d "$state"
	[ "$status" -eq 0 ]
	[ "$output" = "alice (/var/mail/alice): removal finished" ]
	log_count 1 'sandbox .*no seccomp.*no Landlock'
	spool_is alice one three five
	no_journal
}

# calls_below root|user DIRECTORY: prints the system calls of --recover that
# name a file below the directory. With "root", prints the calls that each
# process makes before it has become a user. With "user", prints the calls that
# it makes after that.
calls_below() {
	local trace
	for trace in "$WORLD"/trace.*; do
		awk -v of="$1" -v below="$2/" -v at="<$2>, " '
			function is_below() {
				return index($0, below) ||
				    index($0, at) && !index($0, ", \"\", ")
			}
			/^setresuid\(/ { is_user = 1; next }
			(of == "user") == (is_user == 1) && is_below()' "$trace"
	done
}

@test "kpopd --recover opens mailboxes and the content of a user's state directory only as the user" {
	[ -z "${SANITIZER-}" ] || skip "ASan's own system calls are in the way"
	start_without_broker
	kill_removal_at fsync 3
	[ -e "$(kept)/j" ]
	# Make a journal that belongs to no mailbox, for a user who does not
	# exist.
	mkdir -p "$state/users/54321/mbox-1"
	touch "$state/users/54321/mbox-1/j"
	run strace -ff -y -s 4096 -e trace=%file,getdents64,setresuid \
	    -o "$WORLD/trace" \
	    "$KPOPD_BUILD/kpopd" --recover -d "$state"
	[ "$status" -eq 1 ]
	[[ $output == *"alice (/var/mail/alice): removal finished"* ]]
	[[ $output == *"uid 54321: not reachable: unknown user"* ]]
	for directory in "$state/users/$uid" "$state/users/54321" \
	    "$(realpath /var/mail)"; do
		calls_below root "$directory" | refute grep .
		[ -n "$(calls_below user "$directory")" ]
	done
	# Root opens the user's state directory, but nothing below it.
	grep -h "openat(.*\"$uid\".* = [0-9]*<$state/users/$uid>" \
	    "$WORLD"/trace.*
}

# bats test_tags=catalogue:79-3
@test "a login renames the journal of another mailbox, whole or truncated, and leaves the mailbox unchanged" {
	[ -z "${SANITIZER-}" ] || skip "ASan's own system calls are in the way"
	start_without_broker
	doomed=(2)
	mbox one two three >"$WORLD/old"
	killed_quit together fsync 3
	cp "$(kept)/j" "$WORLD/journal"
	rm "$(kept)/j"
	mbox other mail >"$WORLD/alice.other"
	cp "$WORLD/alice.other" /var/mail/alice.other
	chown alice:mail /var/mail/alice.other
	mv /var/mail/alice.other /var/mail/alice
	for size in 100000 5000 4096 4000 100 1; do
		for name in j j.cut; do
			# The broker of the last login looks for journals, too.
			kpopd_ends 10
			head -c $size "$WORLD/journal" >"$(kept)/$name"
			chown alice "$(kept)/$name"
			spool_mark
			run pop alice QUIT
			[[ $output == *"+OK 2 messages"* ]] ||
			    { echo "$size $name: $output"; return 1; }
			spool_kept
		done
	done
	spool_is alice other mail
	ls "$(kept)" | grep -q '^rescue'
	log_has 'rescue .*reason="another program rewrote the mailbox"'
	log_has 'rescue .*reason="damaged journal"'
}
