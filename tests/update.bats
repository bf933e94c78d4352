#!/usr/bin/env bats
# QUIT's removal: nothing but the marked messages goes, whatever happens
# meanwhile, and wherever it is killed.

load helpers/all

setup() {
	begin_test
	realm_login alice
	uid=$(id -u alice)
}

teardown() {
	grep -q -- '-l fcntl ' "$WORLD/xinetd.conf" ||
	    grep -q -- '-l fcntl$' "$WORLD/xinetd.conf" &&
	    { server_stop; server_start; }
	umount "$state" 2>/dev/null || true
	end_test
}

@test "every subset of four messages can be removed, in one session each" {
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

@test "the file stays the same file, with its owner and mode" {
	mbox one two three | store alice
	before=$(stat -c '%i %U %G %a' /var/mail/alice)
	pop alice "DELE 1" QUIT
	[ "$(stat -c '%i %U %G %a' /var/mail/alice)" = "$before" ]
	spool_is alice two three
}

@test "mail that arrives during the session stays" {
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

@test "mail that arrives stays even when all that was there is removed" {
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

@test "another program removes messages meanwhile: what can be found goes, the rest stays, and the answer says so" {
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

@test "of two equal messages, one removed by another program, the other is not taken for it" {
	mbox one two two | store alice
	pop_login alice
	pop_ask "DELE 2"
	mbox two >/var/mail/alice
	pop_ask QUIT '^-ERR some deleted messages not removed'
	pop_hear_end
	spool_is alice two
}

@test "one of two equal messages can be removed" {
	mbox two two one | store alice
	pop alice "DELE 2" QUIT
	spool_is alice two one
}

@test "a status that a reader wrote meanwhile does not keep a message from going" {
	mbox one two | store alice
	pop_login alice
	pop_ask "DELE 2"
	mbox one two | sed 's/^Subject:.*/&\nStatus: RO/' >/var/mail/alice
	pop_ask QUIT '^\+OK bye'
	pop_hear_end
	[ "$(grep -c '^Status: RO' /var/mail/alice)" -eq 1 ]
	grep -q '^Subject: two' /var/mail/alice && return 1 || :
}

# bats test_tags=catalogue:75-2
@test "a spool that was replaced meanwhile is left alone" {
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

# bats test_tags=fault:13
@test "a lock that does not go: [IN-USE], nothing is removed" {
	mbox one two | store alice
	pop_login alice
	pop_ask "DELE 1"
	perl -e 'use POSIX; open F, "+<", "/var/mail/alice"; $l = pack("s s l! l! i", F_RDLCK, 0, 0, 0, 0);
	    fcntl F, F_SETLK, $l or die; $| = 1; print "held\n"; sleep 60' \
	    >"$WORLD/held" 3>&- &
	await 5 "grep -q held $WORLD/held"
	pop_patience=15 pop_ask QUIT '^-ERR \[IN-USE\]'
	kill $!
	pop_hear_end
	spool_is alice one two
}

@test "no space for the journal: nothing is removed; the tail and all can still be" {
	umount "$state" 2>/dev/null || true
	server_stop
	# The replay cache, and 64 KiB.
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
	server_stop
	umount "$state"
	server_start
}

# no_broker: a server whose sessions lock by themselves, so that their monitors
# can be stopped.
no_broker() {
	server_stop
	server_start -l fcntl
}

# killed_at CALL N: a QUIT that removes two of five messages, killed there with
# its monitor.
killed_at() {
	doomed=(2 4)
	mbox one two three four five >"$WORLD/old"
	killed_quit together "$@"
}

# bats test_tags=fault:12
@test "a mailbox rewritten by another program between the kill and the login is served as it is, the journal kept" {
	[ -z "${SANITIZER-}" ] || skip "ASan's own system calls are in the way"
	no_broker
	killed_at fsync 3
	[ -e "$(kept)/j" ]
	mbox other mail entirely >/var/mail/alice
	run pop alice QUIT
	[[ $output == *"+OK 3 messages"* ]]
	spool_is alice other mail entirely
	log_has 'rescue .*file=rescue\.[0-9.]+\.j reason="another program rewrote the mailbox"'
	tail -c +4097 "$(kept)"/rescue.* | cmp - <(mbox three five)
}

# bats test_tags=catalogue:79-1
@test "forged journals are set aside: the mailbox stays as it is" {
	mbox one two | store alice
	pop alice QUIT
	spool_mark
	for forged in 'head -c 10 /dev/urandom' 'head -c 10000 /dev/urandom' \
	    'head -c 8192 /dev/zero' 'printf ""'; do
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
		[ -z \
		    "$(ls "$(kept)" |
			grep -v \
			'^mailbox$\|^session$\|^yield$\|^index$\|^rescue')" ]
	done
}

# bats test_tags=catalogue:79-4,promise:8
@test "whatever the user puts in a journal's place is set aside, and leads nowhere" {
	mbox one two | store alice
	pop alice QUIT
	spool_mark
	passwd=$(spool_file /etc/passwd; sha256sum /etc/passwd)
	for name in j j.cut; do
		for make in mkfifo mkdir 'ln -s /etc/passwd' 'ln -s nowhere' \
		    'perl -MSocket -e "socket S, PF_UNIX, SOCK_STREAM, 0; bind S, sockaddr_un shift or die"'; do
			log_mark
			bash -c \
			    "cd '$(kept)' && $make $name && chown -h alice $name"
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
	# Only a directory in the place of what is forgotten has to be taken
	# away by hand.
	mkdir "$(kept)/j.tmp"
	opens_not SYS/TEMP \
	    'what="unlinking an old j.tmp" error="Is a directory"'
	rmdir "$(kept)/j.tmp"
	pop alice QUIT | grep '^+OK 2 messages'
}

@test "a session that is killed in the middle of the removal: it is finished at once, by another one" {
	[ -z "${SANITIZER-}" ] || skip "ASan's own system calls are in the way"
	mbox one two three | store alice
	pop_login alice
	pop_ask "DELE 1"
	strace -q -p "$(child_pid)" -o /dev/null \
	    -e "inject=fsync:signal=KILL:when=3" 2>/dev/null 3>&- &
	await 5 \
	    "grep -q '^TracerPid:[[:space:]]*[1-9]' /proc/$(child_pid)/status"
	pop_say QUIT
	pop_hear_end
	await 5 '! pgrep -x kpopd >/dev/null'
	spool_is alice two three
	no_journal
	[ ! -e /var/mail/alice.lock ]
	log_has 'fatal .*session was ended by signal 9'
	log_has 'recovery .*state=j$'
}

@test "a service that is stopped in the middle of a removal finishes it first, under its locks" {
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
			# As systemd does it: all processes of the service.
			kill -$signal "$session" "$monitor" "$broker"
			[ -e /var/mail/alice.lock ]
			kill -CONT "$session"
			monitor_sees
			detached
			pop_hear_end
			await 5 '! pgrep -x kpopd >/dev/null'
			spool_is alice two three
			no_journal
			[ ! -e /var/mail/alice.lock ]
		done
	done
	# A session that removes nothing ends at once, and the others with it.
	mbox one two | store alice
	pop_login alice
	pop_ask "DELE 1"
	kill -TERM "$(child_pid)" "$(monitor_pid)" "$(broker_pid)"
	pop_hear_end
	await 5 '! pgrep -x kpopd >/dev/null'
	spool_is alice one two
}

@test "kpopd --recover finishes everybody's removals at boot, and says so" {
	[ -z "${SANITIZER-}" ] || skip "ASan's own system calls are in the way"
	run "$KPOPD_BUILD/kpopd" --recover -d "$state"
	[ "$status" -eq 0 ]
	[ -z "$output" ]
	no_broker
	killed_at fsync 3
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
	mkdir -p "$state/users/54321"
	touch "$state/users/54321/j"
	run "$KPOPD_BUILD/kpopd" --recover -d "$state"
	[ "$status" -eq 1 ]
	[[ $output == *"alice (/var/mail/alice): nothing to do"* ]]
	[[ $output == *"uid 54321: not reachable: unknown user"* ]]
}

# looks_below WHO DIRECTORY: the calls of --recover's processes that name a file
# below the directory. Of root: all before a process has become a user; of the
# user: all after that.
looks_below() {
	local trace
	for trace in "$WORLD"/trace.*; do
		awk -v who="$1" -v below="$2/" -v at="<$2>, " '
			/^setresuid\(/ { is_user = 1; next }
			(who == "user") == (is_user == 1) && (index($0, below) || index($0, at) && !index($0, ", \"\", "))' "$trace"
	done
}

@test "kpopd --recover looks below a user's directory, and for a mailbox, only as the user" {
	[ -z "${SANITIZER-}" ] || skip "ASan's own system calls are in the way"
	no_broker
	killed_at fsync 3
	[ -e "$(kept)/j" ]
	# One that no mailbox knows, of a user who does not exist.
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
		[ -z "$(looks_below root "$directory")" ] ||
		    { looks_below root "$directory"; return 1; }
		[ -n "$(looks_below user "$directory")" ]
	done
	# Root opens the directory itself.
	grep -h "openat(.*\"$uid\".* = [0-9]*<$state/users/$uid>" \
	    "$WORLD"/trace.*
	rm -r "$state/users/54321"
}

# bats test_tags=catalogue:79-3
@test "a journal of another mailbox, or half of one, changes nothing: it is set aside" {
	[ -z "${SANITIZER-}" ] || skip "ASan's own system calls are in the way"
	server_stop
	server_start -l fcntl
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
	server_stop
	server_start
}
