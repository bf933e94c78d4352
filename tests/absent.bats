#!/usr/bin/env bats
# Checks that recovery finishes a removal in the right mailbox. Before the
# recovery, the mailbox may be absent or copied, or kpopd may serve another
# mailbox. Checks that mail readers never see half a removal.

load helpers/all
load helpers/points

setup_file() {
	server_start -l fcntl
	second_server_start
	useradd -o -u "$(id -u alice)" -M -d /home/alice -s /bin/sh twin
	realm_add twin
	mkdir -p "$WORLD/below" "$WORLD/away"
	chgrp mail "$WORLD/below"
	chmod 2775 "$WORLD/below"
}

teardown_file() {
	kill "$(cat "$WORLD/second.pid")" 2>/dev/null || true
	await 5 '! ss -Hltn sport = 1110 | grep -q .'
	server_stop
	userdel twin 2>/dev/null || sed -i '/^twin:/d' /etc/passwd /etc/shadow
}

setup() {
	begin_test
	[ -z "${SANITIZER-}" ] || skip "ASan's own system calls are in the way"
	realm_login alice
	KRB5CCNAME="FILE:$WORLD/twin.ccache" realm_login twin
}

teardown() {
	spool_comes_back
	end_test
}

# second_server_start: starts services for ~/Mailbox on port 1110 and for
# ~/Maildir on port 1111, with the same state directory.
second_server_start() {
	local box port=1110
	for box in 'mbox:~/Mailbox' 'maildir:~/Maildir'; do
		sed -e "s,1109,$port,; s,^{,&\n\tid = other$port,; s|server_args = .*|& -m $box|" "$WORLD/xinetd.conf"
		port=$((port + 1))
	done >"$WORLD/second.conf"
	xinetd -dontfork -f "$WORLD/second.conf" -pidfile "$WORLD/second.pid" \
	    3>&- >/dev/null 2>&1 &
	await 5 'ss -Hltn sport = 1111 | grep -q .'
}

# mount_over MOUNT-OPTION …: waits until no kpopd runs, and mounts another
# directory over the spool directory.
mount_over() {
	soon 5 '! pgrep -x kpopd >/dev/null' && mount "$@" /var/mail &&
	    touch "$WORLD/mounted"
}

# spool_comes_back: unmounts the directory that mount_over has mounted. Does
# nothing if there is none.
spool_comes_back() {
	[ -e "$WORLD/mounted" ] || return 0
	soon 5 '! pgrep -x kpopd >/dev/null'
	umount /var/mail && rm "$WORLD/mounted"
}

# crash CALL N: kills session and monitor at the Nth CALL of QUIT, as a power
# failure would. Copies the remaining files to $WORLD/crash*. Each event starts
# from this copy. Writes the mailbox after recovery to $WORLD/wanted.
crash() {
	spool_comes_back
	rm -rf "$state/users"
	killed_quit together "$1" "$2" || return
	rm -rf "$WORLD/crash" "$WORLD/said"
	cp -a "$state/users" "$WORLD/crash" &&
	    cp -p /var/mail/alice "$WORLD/crash.spool" || return
	[[ $said != +OK* ]] || touch "$WORLD/said"
	if pending; then
		cp "$WORLD/new" "$WORLD/wanted"
	else
		# Either the removal is not decided yet, or it is complete.
		cmp -s "$WORLD/new" "$WORLD/crash.spool" || {
			[ ! -e "$WORLD/said" ] &&
			    cmp "$WORLD/old" "$WORLD/crash.spool"
		} || return
		cp "$WORLD/crash.spool" "$WORLD/wanted"
	fi
}

# pending: returns true if the crash has left an unfinished removal.
pending() {
	compgen -G "$WORLD/crash/*/*/j" >/dev/null ||
	    compgen -G "$WORLD/crash/*/*/j.cut" >/dev/null
}

# crash_again: restores the files that the crash left. The spool and its
# directory keep their inodes.
crash_again() {
	spool_comes_back
	soon 5 '! pgrep -x kpopd >/dev/null' || return
	rm -rf "$state/users" "$WORLD/below"/* "$WORLD/away"/* /home/alice/Mail*
	cp -a "$WORLD/crash" "$state/users"
	find /var/mail -mindepth 1 ! -name alice -delete
	store alice <"$WORLD/crash.spool" &&
	    touch -r "$WORLD/crash.spool" /var/mail/alice
	: >"$WORLD/arrived"
}

# mail_arrives: appends a message to the spool, and writes it to $WORLD/arrived.
mail_arrives() {
	mbox late >"$WORLD/arrived"
	cat "$WORLD/arrived" >>/var/mail/alice
}

# recover_now STATUS TEXT: runs --recover. Returns true if its exit status is
# STATUS and it prints TEXT about alice's spool.
recover_now() {
	local status=0 printed
	printed=$("$KPOPD_BUILD/kpopd" --recover -d "$state" -l fcntl) ||
	    status=$?
	[ "$status" -eq "$1" ] &&
	    grep -qx "alice (/var/mail/alice): $2" <<<"$printed" && return
	echo "--recover: $status, $printed"
	return 1
}

# journal_untouched: returns true if the journal is as the crash left it, and no
# file has been renamed to rescue.*.
journal_untouched() {
	local file
	pending || return 0
	for file in j j.cut; do
		file=$(cd "$WORLD/crash" && compgen -G "*/*/$file") || continue
		cmp "$WORLD/crash/$file" "$state/users/$file" || return
	done
	refute compgen -G "$state/users/*/*/rescue*"
}

# unreachable ANSWER: runs --recover and a login. At every second point it logs
# in first. If a removal is pending, returns true if neither the login nor
# --recover has reached a mailbox. If no removal is pending, returns true if the
# login has got ANSWER.
unreachable() {
	local answer=$1 turn
	! pending || answer='-ERR [SYS/TEMP] the mailbox cannot be opened now'
	for turn in $((number_of_point & 1)) $((~number_of_point & 1)); do
		if [ "$turn" -eq 1 ]; then
			if pending; then
				recover_now 1 "not reachable, see syslog"
			else
				recover_now 0 "nothing to do"
			fi
		else
			pop alice QUIT >"$WORLD/answer" || :
			# Until its broker ends, --recover finds the mailbox
			# in use.
			soon 5 '! pgrep -x kpopd >/dev/null' || return
			grep -qF -- "$answer" "$WORLD/answer" || {
				echo "expected $answer"
				cat "$WORLD/answer"
				false
			}
		fi || return
		journal_untouched || return
	done
}

# The following functions are the events that may happen between crash and
# recovery. Each function returns true if kpopd has reacted correctly.

# happens_delivery: procmail delivers a message.
happens_delivery() {
	local size
	size=$(stat -c %s /var/mail/alice)
	make_message delivered | deliver alice || return
	tail -c "+$((size + 1))" /var/mail/alice >"$WORLD/arrived"
	grep -q '^Subject: delivered' "$WORLD/arrived"
}

# happens_absence: the spool is absent for a time.
happens_absence() {
	# Move within one file system, because the inode must stay the same.
	mv "$WORLD/mail/alice" "$WORLD/away/alice"
	unreachable "+OK 0 messages"
	local status=$?
	mv "$WORLD/away/alice" "$WORLD/mail/alice"
	return $status
}

# happens_unmounted: the spool's directory is not mounted for a time.
happens_unmounted() {
	mount_over --bind "$WORLD/below" &&
	    unreachable "-ERR [SYS/TEMP] the mailbox cannot be opened now" &&
	    [ -z "$(ls -A /var/mail)" ] && spool_comes_back
}

# happens_below: mail is delivered into the mount point while the spool's
# directory is not mounted.
happens_below() {
	mount_over --bind "$WORLD/below" && mbox below | store alice &&
	    unreachable "+OK 1 messages" && spool_comes_back &&
	    mbox below | cmp - "$WORLD/below/alice"
}

# happens_mbox: a session removes a message from ~/Mailbox.
happens_mbox() {
	mbox one two >/home/alice/Mailbox
	chown alice: /home/alice/Mailbox
	removes_first 1110 alice && mbox two | cmp - /home/alice/Mailbox &&
	    journal_untouched
}

# happens_maildir: a session removes a message from ~/Maildir.
happens_maildir() {
	local i
	mkdir -p /home/alice/Maildir/{new,cur,tmp}
	for i in 1 2; do make_message $i >/home/alice/Maildir/new/$i.x; done
	chown -R alice: /home/alice/Maildir
	removes_first 1111 alice &&
	    [ "$(ls /home/alice/Maildir/*)" = \
		"$(printf '%s\n' '/home/alice/Maildir/cur:' '' \
	    '/home/alice/Maildir/new:' 2.x '' '/home/alice/Maildir/tmp:')" ] &&
	    journal_untouched
}

# happens_twin: a session removes a message of another user with the same uid.
# That user also has the same state directory.
happens_twin() {
	mbox one two | store twin
	KRB5CCNAME="FILE:$WORLD/twin.ccache" removes_first 1109 twin &&
	    mbox two | cmp - /var/mail/twin &&
	    journal_untouched && rm /var/mail/twin
}

# removes_first PORT USER: removes the first of two messages in a session at
# this port. Returns true if the server answers that one message is left.
removes_first() {
	printf '%s\r\n' "USER $2" "PASS x" "DELE 1" QUIT |
	    kpopc mail.kpopd.test "$1" >"$WORLD/answer"
	grep -q '^+OK bye, 1 messages left' "$WORLD/answer" ||
	    { cat "$WORLD/answer"; return 1; }
}

# happens_copy: a copy on the same file system replaces the spool.
happens_copy() {
	cp -p /var/mail/alice /var/mail/copy &&
	    mv /var/mail/copy /var/mail/alice
}

# happens_move: the spool is restored on another file system.
happens_move() {
	cp -p /var/mail/alice "$WORLD/away/" &&
	    mount_over -t tmpfs -o mode=2775,gid=mail moved &&
	    cp -p "$WORLD/away/alice" /var/mail/
}

events=(delivery absence unmounted below mbox maildir twin copy move)

# is_finished: runs --recover and a login. At two of four points it logs in
# first. Returns true if the mailbox then consists of $WORLD/wanted and the mail
# that has arrived. The login must have served these messages, and no other file
# may be left.
is_finished() {
	local turn text="nothing to do"
	! pending || text="removal finished"
	for turn in $((number_of_point >> 1 & 1)) \
	    $((~(number_of_point >> 1) & 1)); do
		if [ "$turn" -eq 1 ]; then
			recover_now 0 "$text" || return
		else
			pop alice "RETR "{1..12} QUIT >"$WORLD/answer" ||
			    { cat "$WORLD/answer"; return 1; }
		fi
		text="nothing to do"
	done
	cat "$WORLD/wanted" "$WORLD/arrived" | cmp - /var/mail/alice || return
	diff <(grep '^Subject: ' /var/mail/alice) \
	    <(grep '^Subject: ' "$WORLD/answer") || return
	find "$state/users" -name 'j*' -o -name 'rescue*' -o -name '*.former*' |
	    refute grep . || return
	[ "$(ls -A /var/mail)" = alice ] || { ls -lA /var/mail; return 1; }
}

# event_point EVENT: restores the files that the crash left, lets the event
# happen, and checks the recovery. At four of eight points, mail arrives before
# the event.
event_point() {
	number_of_point=$points
	crash_again || return
	log_mark
	[ $((points >> 2 & 1)) -eq 0 ] || [ "$1" = delivery ] || mail_arrives
	"happens_$1" && is_finished || { log_lines; return 1; }
	spool_comes_back
}

# each_event_after CALL N: makes a crash, and tests each event after it.
each_event_after() {
	local event
	crash "$@" >"$WORLD/crash.log" 2>&1 || {
		count_point eval 'cat "$WORLD/crash.log"; false'
		kill_connection
		return
	}
	! pending || removals=$((${removals-0} + 1))
	for event in "${events[@]}"; do
		count_point event_point "$event"
	done
}

# each_call COMMAND …: runs the command for each system call of QUIT. The name
# and the number of the call are the last arguments of the command.
each_call() {
	local call count n
	record_quit >"$WORLD/calls"
	while read -r call count <&9; do
		for n in $(seq "$count"); do "$@" "$call" "$n"; done
	done 9<"$WORLD/calls"
}

# bats test_tags=fault:1-4
@test "recovery finishes an interrupted removal after its mailbox was absent, unmounted, copied, moved or grown" {
	if long; then
		# These shapes mark some messages, the last ones, the first one,
		# and all but one.
		for number in 33 2 3 1; do
			shape "$number"
			each_call each_event_after
		done
	else
		shape 33
		# After these calls the removal is undecided, decided, written,
		# or truncated.
		for call in "fsync 1" "fsync 3" "ftruncate 1" "unlinkat 2"; do
			each_event_after $call
		done
		# Only messages before the marked ones are kept.
		shape 2
		each_event_after fsync 3
	fi
	echo "# crashes with a removal to finish: $removals" >&3
	[ "$removals" -ge "$(long && echo 100 || echo 4)" ]
	points_are_good "mailbox absent, other mailbox, other inode" \
	    "$(long && echo 2500 || echo 45)"
}

# reader_start: starts a mail reader (tests/programs/locking-reader.pl), which
# copies the mailbox to $WORLD/found and the names of journals to
# $WORLD/unfinished. Sets $reader to its pid.
reader_start() {
	rm -f "$WORLD/found" "$WORLD/unfinished"
	perl "$BATS_TEST_DIRNAME/programs/locking-reader.pl" /var/mail/alice \
	    "$(kept)" "$WORLD/found" "$WORLD/unfinished" 3>&- &
	reader=$!
}

# reader_waits_or_ended: returns true if the reader waits for the lock or has
# ended.
reader_waits_or_ended() {
	grep -q -- "-> POSIX .* $reader " /proc/locks ||
	    ! kill -0 "$reader" 2>/dev/null
}

# reader_point CALL N: kills only the session, after its Nth CALL of QUIT. At
# that time a reader waits for the lock, or has already had the lock. If the
# reader waited, returns true if it has found the mailbox as recovery leaves it.
reader_point() {
	local name waited=false
	rm -f "$WORLD/stopped"
	marked_session || return
	blind_monitor
	attach "$session" -o "$WORLD/stopped" -e "trace=$1" \
	    -e "inject=$1:signal=STOP:when=$2" || return
	pop_say QUIT
	soon 5 'grep -q "stopped by SIGSTOP" "$WORLD/stopped" ||
	    ! kill -0 "$session" 2>/dev/null' || return
	reader_start
	soon 5 reader_waits_or_ended || return
	! kill -0 "$reader" 2>/dev/null ||
	    { waited=true && echo "$1 $2" >>"$WORLD/waited"; }
	kill -KILL "$session" 2>/dev/null
	monitor_sees
	IFS= read -r -t 5 said <&"$pop_in" || said=
	soon 15 '! kill -0 "$reader" 2>/dev/null' || return
	detached
	pop_close
	soon 5 '! pgrep -x kpopd >/dev/null' || return
	no_journal && [ "$(ls -A /var/mail)" = alice ] || return
	[ ! -s "$WORLD/unfinished" ] ||
	    { echo "the reader saw $(cat "$WORLD/unfinished")"; return 1; }
	! $waited || cmp "$WORLD/found" /var/mail/alice || return
	for name in found mail/alice; do
		cmp -s "$WORLD/new" "$WORLD/$name" && continue
		[[ $said != +OK* ]] && cmp "$WORLD/old" "$WORLD/$name" ||
		    { echo "$name, the answer was: $said"; return 1; }
	done
}

# count_reader_point CALL N: runs reader_point and counts the point. Cleans up
# if the point has failed.
count_reader_point() {
	count_point reader_point "$@"
	# Without this, a failed point would also make the next point fail.
	[ "${bad-0}" -eq "${bad_before-0}" ] ||
	    { kill_connection && rm -rf "$state/users"; }
	bad_before=${bad-0}
}

# bats test_tags=fault:1-3
@test "a mail reader that waits for the lock never sees half a removal if the session is killed in QUIT" {
	# A blind monitor starts no broker. With a dotlock the broker is started
	# when the login makes the list.
	server_stop
	server_start
	if long; then
		for number in 33 2 3 1; do
			shape "$number"
			each_call count_reader_point
		done
	else
		shape 33
		for call in "fdatasync 1" "fsync 1" "fsync 2" "pwrite64 4" \
		    "fsync 3" "renameat 2" "ftruncate 1" "unlinkat 2"; do
			count_reader_point $call
		done
	fi
	echo "# the reader waited for the session: $(wc -l <"$WORLD/waited")" \
	    >&3
	[ "$(wc -l <"$WORLD/waited")" -ge "$(long && echo 200 || echo 6)" ]
	points_are_good "session alone killed, a reader waits" \
	    "$(long && echo 300 || echo 8)"
}
