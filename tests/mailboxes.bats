#!/usr/bin/env bats
# Checks that state belongs to one mailbox of one user, and that an unfinished
# removal is finished only in its own mailbox.

load helpers/all

setup_file() {
	server_start -l fcntl
}

teardown_file() {
	server_stop
}

setup() {
	[ -z "${SANITIZER-}" ] ||
	    skip "ASan's own system calls are in the way of strace"
	begin_test
	realm_login alice
	uid=$(id -u alice)
}

teardown() {
	if [ -n "${holder-}" ]; then kill "$holder" 2>/dev/null; fi
	second_server_stop
	for mounted in /srv/mail-mounted /srv/spool /home/alice/Maildir \
	    /home/alice; do
		! mountpoint -q $mounted || umount -l $mounted
	done
	[ ! -e "$WORLD/mounted" ] ||
	    { umount -l /var/mail; rm "$WORLD/mounted"; }
	end_test
}

# interrupt_removal STATE: kills kpopd while it removes the first of alice's
# four messages. STATE is the name that the journal then has: j or j.cut.
interrupt_removal() {
	local call=fsync n=3
	[ "$1" = j ] || { call=ftruncate n=1; }
	mbox one two three four >"$WORLD/old"
	doomed=(1)
	killed_quit together $call $n
	[ -e "$(kept)/$1" ]
}

# hide_spool: mounts another directory over /var/mail, as if the spool were not
# mounted.
hide_spool() {
	mkdir -p "$WORLD/below"
	rm -f "$WORLD/below"/*
	chgrp mail "$WORLD/below"
	chmod 2775 "$WORLD/below"
	mount --bind "$WORLD/below" /var/mail
	touch "$WORLD/mounted"
}

# show_spool: unmounts what hide_spool has mounted.
show_spool() {
	await 5 "umount /var/mail"
	rm "$WORLD/mounted"
}

# hold_lock FILE: starts a process with the session lock in this file, which
# keeps it until the teardown.
hold_lock() {
	: >"$WORLD/has-lock"
	perl -e 'use Fcntl; $| = 1;
	    open F, "+<", shift or die;
	    $lock = pack "s s l! l! i", F_WRLCK, 0, 0, 0, 0;
	    fcntl F, F_SETLK, $lock or die;
	    print "locked\n";
	    sleep' "$1" >"$WORLD/has-lock" 3>&- &
	holder=$!
	await 5 '[ -s "$WORLD/has-lock" ]'
}

# serve [KPOPD-OPTION ...]: replaces the server by one with these options.
serve() {
	server_stop
	server_start "$@"
}

# recover [KPOPD-OPTION ...]: runs kpopd --recover.
recover() {
	"$KPOPD_BUILD/kpopd" --recover -d "$state" "$@"
}

@test "an unfinished removal waits while its mailbox is absent or not mounted, and is finished afterwards" {
	for in in j j.cut; do
		for below in nothing mail; do
			interrupt_removal $in
			hide_spool
			[ $below = nothing ] || mbox late | store alice
			log_mark
			run recover -l fcntl
			[ "$status" -eq 1 ]
			[ "$output" = \
			    "alice (/var/mail/alice): not reachable, see syslog" ]
			log_has 'failed .*mounted\?'
			run pop alice QUIT
			[[ $output == \
			    *"-ERR [SYS/TEMP] the mailbox cannot be opened now"* ]]
			[ -e "$(kept)/$in" ]
			show_spool
			pop alice QUIT | grep '^+OK 3 messages'
			spool_is alice two three four
			no_journal
		done
	done
}

@test "--recover logs why it cannot finish a removal while another process has the session lock" {
	interrupt_removal j
	hold_lock "$(kept)/session"
	log_mark
	run recover -l fcntl
	[ "$status" -eq 1 ]
	[ "$output" = "alice (/var/mail/alice): not reachable, see syslog" ]
	log_has 'failed .*what="finishing a removal" error="another process has the session lock"'
	kill "$holder"
	wait "$holder" || true
	run recover -l fcntl
	[ "$output" = "alice (/var/mail/alice): removal finished" ]
	spool_is alice two three four
}

@test "a mailbox is unavailable if it vanished with its directory, and empty if another program removed it" {
	mbox one two | store alice
	pop alice QUIT | grep '^+OK 2 messages'
	hide_spool
	log_mark
	run pop alice STAT QUIT
	[[ $output == *"-ERR [SYS/TEMP] the mailbox cannot be opened now"* ]]
	log_has 'failed .*mounted\?'
	show_spool
	pop alice QUIT | grep '^+OK 2 messages'
	rm /var/mail/alice
	for again in 1 2; do
		pop alice QUIT | grep '^+OK 0 messages'
	done
	hide_spool
	# The mailbox was empty at the last login, so no mail can have vanished.
	pop alice QUIT | grep '^+OK 0 messages'
}

@test "--recover finishes a removal in a file with the mailbox's bytes and another inode" {
	for in in j j.cut; do
		interrupt_removal $in
		cp -p /var/mail/alice /var/mail/copy
		mv /var/mail/copy /var/mail/alice
		run recover -l fcntl
		[ "$status" -eq 0 ]
		[ "$output" = "alice (/var/mail/alice): removal finished" ]
		spool_is alice two three four
	done
}

@test "--recover sets aside a removal that does not match its mailbox, reports the removal, and fails" {
	for in in j j.cut; do
		interrupt_removal $in
		mbox other >/var/mail/alice
		run recover -l fcntl
		[ "$status" -eq 1 ]
		[[ $output == "alice (/var/mail/alice): set aside: "* ]]
		ls "$(kept)"/rescue.*."$in"
		rm "$(kept)"/rescue.*
		spool_is alice other
	done
}

@test "a service for other mailboxes that uses the same state directory does not touch an unfinished removal" {
	for in in j j.cut; do
		interrupt_removal $in
		serve -l fcntl -m 'mbox:~/Mailbox'
		pop alice QUIT | grep '^+OK 0 messages'
		serve -l fcntl -m 'maildir:~/Maildir'
		pop alice QUIT | grep '^+OK 0 messages'
		serve -l fcntl
		# One run recovers the mailboxes of all services. The -m of the
		# run does not matter.
		run recover -l fcntl -m 'maildir:~/Maildir'
		[ "$status" -eq 0 ]
		[[ $output == *"alice (/var/mail/alice): removal finished"* ]]
		spool_is alice two three four
	done
}

# second_server MAILBOXES: starts a second server on port 1110. It has the
# options of the first server, but another -m.
second_server() {
	sed -e "s/1109/1110/; s, -m [^ ]*,,; s,-d $state,& -m $1," \
	    "$WORLD/xinetd.conf" >"$WORLD/xinetd2.conf"
	xinetd -dontfork -f "$WORLD/xinetd2.conf" \
	    -pidfile "$WORLD/xinetd2.pid" 3>&- >/dev/null 2>&1 &
	await 5 'ss -Hltn sport = 1110 | grep -q .'
}

# second_pop: runs a session of alice with the second server.
second_pop() {
	kpopc mail.kpopd.test 1110 \
	    < <(printf '%s\r\n' "USER alice" "PASS x" QUIT)
}

# second_server_stop: ends the second server, if there is one.
second_server_stop() {
	local pid
	pid=$(cat "$WORLD/xinetd2.pid" 2>/dev/null) || return 0
	kill "$pid" 2>/dev/null || :
	await 5 "! kill -0 $pid 2>/dev/null"
	rm -f "$WORLD/xinetd2.pid"
}

@test "two spellings of a mailbox's path lead to one journal and one session lock" {
	[ -L /var/spool/mail ]
	interrupt_removal j
	serve -l fcntl -m mbox:/var/spool/mail/%u
	pop alice QUIT | grep '^+OK 3 messages'
	spool_is alice two three four
	second_server mbox:/var/mail/%u
	pop_login alice
	run second_pop
	[[ $output == *"-ERR [IN-USE]"* ]]
	pop_ask QUIT
}

@test "two mounts of a mailbox lead to one session lock and one journal" {
	mkdir -p /srv/mail-mounted
	mount --bind /var/mail /srv/mail-mounted
	for in in j j.cut; do
		interrupt_removal $in
		# The second server finds the same directory under another path.
		second_server mbox:/srv/mail-mounted/%u
		run second_pop
		[[ $output == *"+OK 3 messages"* ]] ||
		    { echo "$output"; false; }
		spool_is alice two three four
		pop_login alice
		run second_pop
		[[ $output == *"-ERR [IN-USE]"* ]]
		pop_ask QUIT
		pop_hear_end
		run second_pop
		[[ $output == *"+OK 3 messages"* ]]
		second_server_stop
		no_journal
		rm -r "$state/users"
	done
	await 5 'umount /srv/mail-mounted'
}

@test "a login fails, and the log contains the reason, if one of the user's state directories cannot be read" {
	mbox one | store alice
	pop alice QUIT | grep '^+OK 1 messages'
	mkdir -m 700 "$state/users/$uid/mbox-of-root"
	log_mark
	run pop alice QUIT
	rmdir "$state/users/$uid/mbox-of-root"
	[[ $output == *"-ERR [SYS/TEMP]"* ]]
	log_has \
	    'failed .*other state directories of the user.*Permission denied'
	pop alice QUIT | grep '^+OK 1 messages'
}

@test "a mailbox is in use at another mount, too, until the monitor of a killed session has finished the removal" {
	mkdir -p /srv/mail-mounted
	mount --bind /var/mail /srv/mail-mounted
	mbox one two three four >"$WORLD/old"
	doomed=(1)
	marked_session
	hold_next_broker
	attach "$session" -o /dev/null -e trace=fsync \
	    -e inject=fsync:signal=KILL:when=3
	pop_say QUIT
	detached
	second_server mbox:/srv/mail-mounted/%u
	run second_pop
	[[ $output == *"-ERR [IN-USE]"* ]]
	kill_monitor
	pop_close
	kpopd_ends 5
	run second_pop
	second_server_stop
	await 5 'umount /srv/mail-mounted'
	[[ $output == *"+OK 3 messages"* ]]
	spool_is alice two three four
}

@test "--recover finishes a removal in a moved spool although a copy of the mailbox was used meanwhile" {
	for in in j j.cut; do
		server_stop
		mkdir -p /srv/spool
		mount --bind /var/mail /srv/spool
		server_start -l fcntl -m mbox:/srv/spool/%u
		interrupt_removal $in
		await 5 'umount /srv/spool'
		server_stop
		server_start -l fcntl -m 'mbox:~/copy'
		cp -p /var/mail/alice /home/alice/copy
		pop alice QUIT | grep '^+OK'
		[ -e "$state"/users/*/mbox-*/$in ]
		server_stop
		server_start -l fcntl
		echo "alice mbox:/var/mail/%u" >>"$state/users/$uid.mailboxes"
		run recover -l fcntl
		[[ $output == *"alice (/var/mail/alice): removal finished"* ]]
		spool_is alice two three four
		rm -r "$state/users" /home/alice/copy
	done
}

@test "two users with one uid have separate state, and --recover reports both" {
	useradd -o -u "$uid" -M -d /home/alice -s /bin/sh info
	realm_add info
	interrupt_removal j
	realm_login info
	mbox x | store info
	pop info QUIT | grep '^+OK 1 messages'
	run recover -l fcntl
	userdel info 2>/dev/null || sed -i '/^info:/d' /etc/passwd /etc/shadow
	[ "$status" -eq 0 ]
	[[ $output == *"alice (/var/mail/alice): removal finished"* ]]
	[[ $output == *"info (/var/mail/info): nothing to do"* ]]
	spool_is alice two three four
}

# remove_user USER: removes the user and the home directory. userdel fails while
# a process of the user runs.
remove_user() {
	await 5 "! pgrep -u $1 >/dev/null"
	userdel -r "$1" 2>/dev/null
}

@test "a new user of a uid cannot read the former user's state, and the first login sets it aside" {
	useradd -m -u 5555 dave
	realm_add dave
	realm_login dave
	mbox one | store dave
	pop dave QUIT | grep '^+OK 1 messages'
	echo "dave's mail" >"$(kept dave)/rescue.1"
	chown dave "$(kept dave)/rescue.1"
	directory=$(kept dave)
	remove_user dave
	useradd -m -u 5555 eve
	realm_add eve
	refute su eve -c "cat '$directory/rescue.1'"
	refute su eve -c "ls '$state/users'"
	realm_login eve
	log_mark
	pop eve QUIT | grep '^+OK 0 messages'
	remove_user eve
	log_has 'former-user .*uid=5555 user=dave directory=5555\.former\.'
	[ ! -e "$directory/rescue.1" ]
	[ "$(cat "$state"/users/5555.former.*/*/rescue.1)" = "dave's mail" ]
	[ "$(stat -c '%U %a' "$state"/users/5555.former.*[0-9] | head -n 1)" = \
	    "root 700" ]
}

@test "--recover reports a removal as not reachable if its user is gone or its mailbox is not found" {
	interrupt_removal j
	mv "$(kept)/j" "$WORLD/j"
	pop alice QUIT
	# Wait until the session's broker has ended, because it would finish the
	# removal.
	await 5 '! pgrep -u alice -x kpopd >/dev/null'
	mv "$WORLD/j" "$(kept)/j"
	echo "nobody-at-all mbox:/var/mail/%u" >"$state/users/$uid.mailboxes"
	run recover -l fcntl
	[ "$status" -eq 1 ]
	[[ $output == \
	    *"nobody-at-all, uid $uid: not reachable: unknown user"* ]]
	echo "alice mbox:/var/mail/elsewhere/%u" >"$state/users/$uid.mailboxes"
	run recover -l fcntl
	[ "$status" -eq 1 ]
	[[ $output == *"not reachable"* ]]
	[ -e "$(kept)/j" ]
	cp /etc/passwd "$WORLD/passwd"
	sed -i 's,:/home/alice:,:home/alice:,' /etc/passwd
	echo "alice mbox:%h/inbox" >"$state/users/$uid.mailboxes"
	run recover -l fcntl
	cp "$WORLD/passwd" /etc/passwd
	[[ $output == *"alice, uid $uid: not reachable: the path of the mailbox is too long, or not absolute"* ]]
}

@test "a spool takes over an earlier version's state although a login to a Maildir came first" {
	for in in j j.cut; do
		interrupt_removal $in
		mv "$(kept)/$in" "$state/users/$uid/"
		rm -r "$(kept)" "$state/users/$uid.mailboxes"
		touch "$state/users/$uid/session"
		chown -R alice: "$state/users/$uid"
		serve -l fcntl -m 'maildir:~/Maildir'
		pop alice QUIT | grep '^+OK 0 messages'
		serve -l fcntl
		pop alice QUIT | grep '^+OK 3 messages'
		spool_is alice two three four
		rm -r "$state/users"
	done
}

@test "an earlier version's state is taken over once, by the mailbox that it belongs to" {
	for in in j j.cut; do
		interrupt_removal $in
		mv "$(kept)/$in" "$state/users/$uid/"
		rm -r "$(kept)" "$state/users/$uid.mailboxes"
		touch "$state/users/$uid"/{session,index,j.tmp}
		mkfifo "$state/users/$uid/yield"
		chown -R alice: "$state/users/$uid"
		chmod 711 "$state/users"
		hide_spool
		run pop alice QUIT
		[[ $output == *"-ERR [SYS/TEMP]"* ]] || {
			echo "$output"
			log_lines
			ls -la "$state/users/$uid"
			return 1
		}
		mbox other | store alice
		pop alice QUIT | grep '^+OK 1 messages'
		[ -e "$state/users/$uid/$in" ]
		show_spool
		run recover -l fcntl
		[ "$status" -eq 0 ]
		[ "$output" = "alice (/var/mail/alice): removal finished" ]
		spool_is alice two three four
		[ "$(ls "$state/users/$uid" | grep -vx places)" = \
		    "$(basename "$(kept)")" ]
		rm -r "$state/users"
	done
}

@test "a session of an earlier version, whose lock has another path, keeps its mailbox in use" {
	mbox two three four | store alice
	mkdir -m 711 "$state/users"
	mkdir -m 700 "$state/users/$uid"
	touch "$state/users/$uid/session"
	chown -R alice: "$state/users/$uid"
	hold_lock "$state/users/$uid/session"
	run pop alice QUIT
	[[ $output == *"-ERR [IN-USE]"* ]]
}

@test "a Maildir that vanished with its directory is unavailable, not empty, and kpopd does not create it" {
	box=/home/alice/Maildir
	for which in maildir maildir+create; do
		for part in /home/alice /home/alice/Maildir; do
			serve -m "$which:~/Maildir"
			rm -rf "$box"
			su alice -c "mkdir -p $box/new $box/cur $box/tmp"
			printf 'Subject: one\n\none\n' >$box/new/1.M1.h
			chown alice: $box/new/1.M1.h
			pop alice QUIT | grep '^+OK 1 messages'
			mkdir -p "$WORLD/no-home"
			chown alice: "$WORLD/no-home"
			chmod 700 "$WORLD/no-home"
			mount --bind "$WORLD/no-home" "$part"
			log_mark
			run pop alice STAT QUIT
			await 5 "umount $part"
			expected="-ERR [SYS/TEMP] the mailbox"
			expected+=" cannot be opened now"
			[[ $output == *"$expected"* ]] ||
			    { echo "$which $part: $output"; return 1; }
			[ -z "$(ls "$WORLD/no-home")" ]
			log_has 'failed .*mounted\?'
			pop alice QUIT | grep '^+OK 1 messages'
		done
		# If the user has removed the Maildir, kpopd serves an empty
		# mailbox. Without +create, the mailbox is also empty in another
		# home directory. With +create, this login has made the Maildir
		# again.
		rm -r "$box"
		pop alice QUIT | grep '^+OK 0 messages'
		[ "$which" = maildir ] || continue
		mount --bind "$WORLD/no-home" /home/alice
		run pop alice QUIT
		rm -rf "$WORLD"/no-home/*
		await 5 "umount /home/alice"
		[[ $output == *"+OK 0 messages"* ]]
	done
}
