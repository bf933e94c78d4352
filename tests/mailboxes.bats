#!/usr/bin/env bats
# State belongs to one mailbox of one user: an unfinished removal waits for its
# own mailbox, whatever else is there.

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
	! mountpoint -q "$WORLD/away" 2>/dev/null || umount "$WORLD/away"
	while umount -l /var/mail/below 2>/dev/null; do :; done
	for mounted in /srv/mail-mounted /srv/spool; do
		! mountpoint -q $mounted || umount $mounted
	done
	[ ! -e "$WORLD/mounted" ] || { umount /var/mail; rm "$WORLD/mounted"; }
	end_test
}

# broken_off STATE: alice's removal of the first of four long messages is broken
# off in the state j or j.cut.
broken_off() {
	local call=fsync n=3
	[ "$1" = j ] || { call=ftruncate n=1; }
	mbox one two three four >"$WORLD/old"
	doomed=(1)
	killed_quit together $call $n
	[ -e "$(kept)/$1" ]
}

# another_spool: the spool is not mounted; what lies below is another directory.
another_spool() {
	mkdir -p "$WORLD/below"
	rm -f "$WORLD/below"/*
	chgrp mail "$WORLD/below"
	chmod 2775 "$WORLD/below"
	mount --bind "$WORLD/below" /var/mail
	touch "$WORLD/mounted"
}

spool_comes_back() {
	await 5 "umount /var/mail"
	rm "$WORLD/mounted"
}

recover() {
	"$KPOPD_BUILD/kpopd" --recover -d "$state" "$@"
}

@test "a removal waits while its mailbox is absent or not mounted, and is finished when it is back" {
	for in in j j.cut; do
		for below in nothing mail; do
			broken_off $in
			another_spool
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
			spool_comes_back
			pop alice QUIT | grep '^+OK 3 messages'
			spool_is alice two three four
			no_journal
		done
	done
}

@test "a mailbox that vanished with its directory is not empty; one that another program removed is" {
	mbox one two | store alice
	pop alice QUIT | grep '^+OK 2 messages'
	another_spool
	log_mark
	run pop alice STAT QUIT
	[[ $output == *"-ERR [SYS/TEMP] the mailbox cannot be opened now"* ]]
	log_has 'failed .*mounted\?'
	spool_comes_back
	pop alice QUIT | grep '^+OK 2 messages'
	rm /var/mail/alice
	for again in 1 2; do
		pop alice QUIT | grep '^+OK 0 messages'
	done
	another_spool
	# It was empty last time, so nothing has vanished.
	pop alice QUIT | grep '^+OK 0 messages'
}

@test "the same bytes in another inode are the journal's mailbox" {
	for in in j j.cut; do
		broken_off $in
		cp -p /var/mail/alice /var/mail/copy
		mv /var/mail/copy /var/mail/alice
		run recover -l fcntl
		[ "$status" -eq 0 ]
		[ "$output" = "alice (/var/mail/alice): removal finished" ]
		spool_is alice two three four
	done
}

@test "a removal that does not fit any more is set aside, --recover says so and fails" {
	for in in j j.cut; do
		broken_off $in
		mbox other >/var/mail/alice
		run recover -l fcntl
		[ "$status" -eq 1 ]
		[[ $output == "alice (/var/mail/alice): set aside: "* ]]
		ls "$(kept)"/rescue.*."$in"
		rm "$(kept)"/rescue.*
		spool_is alice other
	done
}

@test "a service for other mailboxes with the same state directory leaves a removal alone" {
	for in in j j.cut; do
		broken_off $in
		server_stop
		server_start -l fcntl -m 'mbox:~/Mailbox'
		pop alice QUIT | grep '^+OK 0 messages'
		server_stop
		server_start -l fcntl -m 'maildir:~/Maildir'
		pop alice QUIT | grep '^+OK 0 messages'
		server_stop
		server_start -l fcntl
		# One run for all services, whatever its own -m.
		run recover -l fcntl -m 'maildir:~/Maildir'
		[ "$status" -eq 0 ]
		[[ $output == *"alice (/var/mail/alice): removal finished"* ]]
		spool_is alice two three four
	done
}

@test "a mailbox has one state however its path is spelled: journal, and lock" {
	[ -L /var/spool/mail ]
	broken_off j
	server_stop
	server_start -l fcntl -m mbox:/var/spool/mail/%u
	pop alice QUIT | grep '^+OK 3 messages'
	spool_is alice two three four
	# A second server beside it has the other spelling.
	sed -e 's/1109/1110/; s,mbox:/var/spool/mail/,mbox:/var/mail/,' \
	    "$WORLD/xinetd.conf" >"$WORLD/xinetd2.conf"
	xinetd -dontfork -f "$WORLD/xinetd2.conf" \
	    -pidfile "$WORLD/xinetd2.pid" 3>&- >/dev/null 2>&1 &
	await 5 'ss -Hltn sport = 1110 | grep -q .'
	pop_login alice
	run kpopc mail.kpopd.test 1110 \
	    < <(printf 'USER alice\r\nPASS x\r\nQUIT\r\n')
	kill "$(cat "$WORLD/xinetd2.pid")"
	[[ $output == *"-ERR [IN-USE]"* ]]
	pop_ask QUIT
	server_stop
	server_start -l fcntl
}

# second_server -m PATH: beside the first one, on port 1110, with another path
# of the mailboxes.
second_server() {
	sed -e "s/1109/1110/; s,-d $state,& $*," "$WORLD/xinetd.conf" \
	    >"$WORLD/xinetd2.conf"
	xinetd -dontfork -f "$WORLD/xinetd2.conf" \
	    -pidfile "$WORLD/xinetd2.pid" 3>&- >/dev/null 2>&1 &
	await 5 'ss -Hltn sport = 1110 | grep -q .'
}

second_pop() {
	kpopc mail.kpopd.test 1110 \
	    < <(printf '%s\r\n' "USER alice" "PASS x" "$@" QUIT)
}

second_server_stop() {
	local pid
	pid=$(cat "$WORLD/xinetd2.pid")
	kill "$pid"
	await 5 "! kill -0 $pid 2>/dev/null"
}

@test "a mailbox that another mount leads to, too, has one session and one removal" {
	mkdir -p /srv/mail-mounted
	mount --bind /var/mail /srv/mail-mounted
	for in in j j.cut; do
		broken_off $in
		# The whole directory is somewhere else when it is looked for.
		second_server -m mbox:/srv/mail-mounted/%u
		run second_pop
		[[ $output == *"+OK 3 messages"* ]] ||
		    { echo "$output"; second_server_stop; false; }
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

@test "a state directory that cannot be looked at may have a removal: the mailbox waits, and the log says why" {
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

@test "another mount of a mailbox is in use while a killed session's monitor has its removal to finish" {
	mkdir -p /srv/mail-mounted
	mount --bind /var/mail /srv/mail-mounted
	mbox one two three four >"$WORLD/old"
	doomed=(1)
	marked_session
	hold_broker
	attach "$session" -o /dev/null -e trace=fsync \
	    -e inject=fsync:signal=KILL:when=3
	pop_say QUIT
	detached
	second_server -m mbox:/srv/mail-mounted/%u
	run second_pop
	[[ $output == *"-ERR [IN-USE]"* ]]
	kill_monitor
	pop_close
	await 5 '! pgrep -x kpopd >/dev/null'
	run second_pop
	second_server_stop
	await 5 'umount /srv/mail-mounted'
	[[ $output == *"+OK 3 messages"* ]]
	spool_is alice two three four
}

@test "--recover finishes a removal whose spool was moved; a copy of the mailbox does not take it away" {
	for in in j j.cut; do
		server_stop
		mkdir -p /srv/spool
		mount --bind /var/mail /srv/spool
		server_start -l fcntl -m mbox:/srv/spool/%u
		broken_off $in
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

@test "two users of one uid have state of their own, and both are recovered" {
	useradd -o -u "$uid" -M -d /home/alice -s /bin/sh info
	realm_add info
	broken_off j
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

@test "nobody reads the state of a former user of the uid; it is set aside at the next login" {
	useradd -m -u 5555 dave
	realm_add dave
	realm_login dave
	mbox one | store dave
	pop dave QUIT | grep '^+OK 1 messages'
	echo "dave's mail" >"$(kept dave)/rescue.1"
	chown dave "$(kept dave)/rescue.1"
	directory=$(kept dave)
	userdel -r dave 2>/dev/null
	useradd -m -u 5555 eve
	realm_add eve
	! su eve -c "cat '$directory/rescue.1'"
	! su eve -c "ls '$state/users'"
	realm_login eve
	log_mark
	pop eve QUIT | grep '^+OK 0 messages'
	userdel -r eve 2>/dev/null
	log_has 'former-user .*uid=5555 user=dave directory=5555\.former\.'
	[ ! -e "$directory/rescue.1" ]
	[ "$(cat "$state"/users/5555.former.*/*/rescue.1)" = "dave's mail" ]
	[ "$(stat -c '%U %a' "$state"/users/5555.former.*[0-9] | head -n 1)" = \
	    "root 700" ]
}

@test "--recover says of a removal whose user is gone, or whose mailbox nobody knows, that it is not reachable" {
	broken_off j
	mv "$(kept)/j" "$WORLD/j"
	pop alice QUIT
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
}

@test "a login to a mailbox of another format does not keep what an earlier version left from being taken over" {
	for in in j j.cut; do
		broken_off $in
		mv "$(kept)/$in" "$state/users/$uid/"
		rm -r "$(kept)" "$state/users/$uid.mailboxes"
		touch "$state/users/$uid/session"
		chown -R alice: "$state/users/$uid"
		server_stop
		server_start -l fcntl -m 'maildir:~/Maildir'
		pop alice QUIT | grep '^+OK 0 messages'
		server_stop
		server_start -l fcntl
		pop alice QUIT | grep '^+OK 3 messages'
		spool_is alice two three four
		rm -r "$state/users"
	done
}

@test "what an earlier version left is taken over once, by the mailbox that it belongs to" {
	for in in j j.cut; do
		broken_off $in
		mv "$(kept)/$in" "$state/users/$uid/"
		rm -r "$(kept)" "$state/users/$uid.mailboxes"
		touch "$state/users/$uid"/{session,index,j.tmp}
		mkfifo "$state/users/$uid/yield"
		chown -R alice: "$state/users/$uid"
		chmod 711 "$state/users"
		another_spool
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
		spool_comes_back
		run recover -l fcntl
		[ "$status" -eq 0 ]
		[ "$output" = "alice (/var/mail/alice): removal finished" ]
		spool_is alice two three four
		[ "$(ls "$state/users/$uid" | grep -vx places)" = \
		    "$(basename "$(kept)")" ]
		rm -r "$state/users"
	done
	# A session of the earlier version keeps its mailbox.
	mkdir -m 711 "$state/users"
	mkdir -m 700 "$state/users/$uid"
	touch "$state/users/$uid/session"
	chown -R alice: "$state/users/$uid"
	perl -e 'use Fcntl; $| = 1; open F, "+<", shift or die; $l = pack "s s l! l! i", F_WRLCK, 0, 0, 0, 0; fcntl F, F_SETLK, $l or die; print "has it\n"; sleep 60' "$state/users/$uid/session" >"$WORLD/has" 3>&- &
	holder=$!
	await 5 '[ -s "$WORLD/has" ]'
	run pop alice QUIT
	kill $holder
	[[ $output == *"-ERR [IN-USE]"* ]]
}

@test "a Maildir that vanished with its directory is not empty, and is not made anew" {
	box=/home/alice/Maildir
	for which in maildir maildir+create; do
		for part in /home/alice /home/alice/Maildir; do
			server_stop
			server_start -m "$which:~/Maildir"
			rm -rf "$box"
			su alice -c "mkdir -p $box/new $box/cur $box/tmp && printf 'Subject: one\n\none\n' >$box/new/1.M1.h"
			pop alice QUIT | grep '^+OK 1 messages'
			mkdir -p "$WORLD/no-home"
			chown alice: "$WORLD/no-home"
			chmod 700 "$WORLD/no-home"
			mount --bind "$WORLD/no-home" "$part"
			log_mark
			run pop alice STAT QUIT
			umount "$part"
			[[ $output == \
			    *"-ERR [SYS/TEMP] the mailbox cannot be opened now"* ]] || { echo "$which $part: $output"; return 1; }
			[ -z "$(ls "$WORLD/no-home")" ]
			log_has 'failed .*mounted\?'
			pop alice QUIT | grep '^+OK 1 messages'
		done
		# Removed by its user: empty, also elsewhere from then on,
		# unless it has been made again.
		rm -r "$box"
		pop alice QUIT | grep '^+OK 0 messages'
		[ "$which" = maildir ] || continue
		mount --bind "$WORLD/no-home" /home/alice
		run pop alice QUIT
		rm -rf "$WORLD"/no-home/*
		umount /home/alice
		[[ $output == *"+OK 0 messages"* ]]
	done
	server_stop
	server_start -l fcntl
}
