#!/usr/bin/env bats
# Checks how kpopd serves an mbox spool: it sends messages byte for byte,
# refuses some files, and locks the spool.

load helpers/all

setup() {
	begin_test
	realm_login alice
}

teardown() {
	locker_stop
	touch "$WORLD/quit"
	chmod 2775 /var/mail
	rm -f /home/alice/Mailbox
	end_test
}

@test "RETR sends messages of all kinds byte for byte, and LIST gives their sizes" {
	perl "$BATS_TEST_DIRNAME/programs/bodies.pl" >"$WORLD/all.mbox"
	store alice <"$WORLD/all.mbox"
	sum=$(sha256sum </var/mail/alice)
	count=$(grep -ac '^From a$' "$WORLD/all.mbox")
	pop alice LIST QUIT >"$WORLD/list"
	for n in $(seq "$count"); do
		retrieve "$n" >"$WORLD/out"
		# A client gets the spool's bytes between the From_ lines, with
		# CRLF instead of LF.
		perl -0777 -ne 'BEGIN { $n = shift }
		    @m = split /(?:\A|(?<=\n\n)|(?<=\n\r\n))From a\n/;
		    $_ = $m[$n]; s/\r?\n\z//; s/(?<!\r)\n/\r\n/g; print' \
		    "$n" "$WORLD/all.mbox" | cmp - "$WORLD/out"
		grep -qx "$n $(stat -c %s "$WORLD/out")" "$WORLD/list"
	done
	[ "$(sha256sum </var/mail/alice)" = "$sum" ]
}

# bats test_tags=catalogue:57
@test "kpopd serves a line of 100 MiB in bounded memory" {
	{
		from_line
		printf 'Subject: long\n\n'
		head -c 104857600 /dev/zero | tr '\0' .
		printf '\n\n'
	} | store alice
	spool_mark
	retrieve 1 | tail -c +18 | sha256sum >"$WORLD/sum"
	[ "$(cat "$WORLD/sum")" = \
	    "$({ head -c 104857600 /dev/zero | tr '\0' .; printf '\r\n'; } |
		sha256sum)" ]
	# Measure one session, in which kpopd scans and sends the whole mailbox.
	forget_index
	pop_login alice
	pop_say "RETR 1"
	timeout 60 sed -n '/^\.\r$/q' <&"$pop_in"
	[ -n "${SANITIZER-}" ] ||
	    [ "$(sed -n 's/VmHWM:[^0-9]*\([0-9]*\).*/\1/p' \
		"/proc/$(child_pid)/status")" -lt 20000 ]
	pop_ask QUIT
	pop_hear_end
	pop_close
	spool_kept
	log_says_quits "1 0 1" "1 0 1"
}

@test "a session that removes nothing leaves the spool's bytes, times, mode and inode as they were" {
	mbox one two | store alice
	touch -d '2001-02-03 04:05:06.789' /var/mail/alice
	before=$(stat -c '%i %s %x %y %z %a %U %G' /var/mail/alice)
	pop alice STAT LIST UIDL "RETR 1" "TOP 2 1" "DELE 1" RSET QUIT \
	    >"$WORLD/answer"
	pop alice "DELE 1" >"$WORLD/answer"
	[ "$(stat -c '%i %s %x %y %z %a %U %G' /var/mail/alice)" = "$before" ]
	spool_is alice one two
}

# bats test_tags=catalogue:46
@test "kpopd finds no messages in an absent and in an empty spool" {
	run pop alice STAT LIST UIDL QUIT
	[[ $output == *"+OK 0 messages"*"+OK 0 0"*"+OK bye, 0 messages left" ]]
	[ -z "$(ls -A /var/mail)" ]
	log_says_quits "0 0 0"
	store alice </dev/null
	spool_mark
	run pop alice STAT "RETR 1" QUIT
	[[ $output == \
	    *"+OK 0 0"*"-ERR no such message"*"+OK bye, 0 messages left" ]]
	log_says_quits "0 0 0" "0 0 0"
	spool_kept
}

@test "kpopd serves and removes messages that procmail has delivered" {
	make_message one 5 | deliver alice
	make_message two 50 | deliver alice
	printf 'Subject: tricky\n\nFrom here on\n\nFrom there\n.\n' |
	    deliver alice
	retrieve 1 | tr -d '\r' | diff - <(make_message one 5)
	retrieve 2 | tr -d '\r' | diff - <(make_message two 50)
	retrieve 3 | tr -d '\r' |
	    diff - \
		<(printf 'Subject: tricky\n\n>From here on\n\n>From there\n.\n')
	run pop alice "DELE 1" "DELE 3" QUIT
	[[ $output == *"+OK bye, 1 messages left" ]]
	retrieve 1 | tr -d '\r' | diff - <(make_message two 50)
}

# without_body NAME: prints a header and the empty line that ends it.
without_body() {
	make_message "$1" 0
}

# serves_without_body NUMBER NAME: returns true if RETR and TOP send the header
# and the empty line that ends the header. LIST must report the size of both.
serves_without_body() {
	without_body "$2" | sed 's/$/\r/' >"$WORLD/wanted"
	printf '%s\r\n' "USER alice" "PASS x" "LIST $1" "RETR $1" "TOP $1 0" \
	    "TOP $1 9" QUIT | kpopc mail.kpopd.test >"$WORLD/answers"
	[ "$(sed -n '4s/\r$//p' "$WORLD/answers")" = \
	    "+OK $1 $(wc -c <"$WORLD/wanted")" ]
	sed '1,4d; /^+OK bye/d; s/^+OK top.*/+OK\r/' "$WORLD/answers" |
	    diff - <(
		printf '+OK %s octets\r\n' "$(wc -c <"$WORLD/wanted")"
		cat "$WORLD/wanted"
		printf '.\r\n'
		for _ in 1 2; do
			printf '+OK\r\n'
			cat "$WORLD/wanted"
			printf '.\r\n'
		done)
}

# bats test_tags=catalogue:59-2
@test "kpopd sends the empty line that ends a header even if the message has no body" {
	without_body m1 | deliver alice
	without_body m2 | formail >>/var/mail/alice
	{
		from_line
		without_body m3
		from_line
		without_body m4
	} >>/var/mail/alice
	grep -c '^From ' /var/mail/alice | grep -qx 4
	for round in new known after; do
		for i in 1 2 3 4; do serves_without_body "$i" "m$i"; done
		[ "$round" != new ] || pop alice UIDL QUIT >"$WORLD/ids"
	done
	# Removals and deliveries before and after a message do not change that
	# message.
	run pop alice "DELE 2" "DELE 4" QUIT
	[[ $output == *"+OK bye, 2 messages left" ]]
	without_body m5 | deliver alice
	for round in known new; do
		serves_without_body 1 m1
		serves_without_body 2 m3
		serves_without_body 3 m5
		[ "$(pop alice "UIDL 2" QUIT | sed -n 's/^+OK 2 //p')" = \
		    "$(sed -n 's/^3 //p' "$WORLD/ids")" ]
		forget_index
	done
	run pop alice "DELE 1" "DELE 2" "DELE 3" QUIT
	[[ $output == *"+OK bye, 0 messages left" ]]
	[ ! -s /var/mail/alice ]
}

@test "kpopd neither shows nor removes the internal message of other programs" {
	{
		cat <<-END
		From MAILER-DAEMON Mon
		From: Mail System Internal Data <MAILER-DAEMON@mail>
		Subject: DON'T DELETE THIS MESSAGE -- FOLDER INTERNAL DATA
		X-IMAP: 1 2

		internal

		END
		mbox one two
	} | store alice
	run pop alice "DELE 1" "DELE 2" QUIT
	[[ $output == *"+OK 2 messages"*"+OK bye, 0 messages left" ]]
	grep -q '^internal$' /var/mail/alice
	refute grep -q 'Message-ID' /var/mail/alice
}

# bats test_tags=catalogue:64-2,catalogue:64-4
@test "kpopd serves and removes a first message that only resembles the internal one" {
	like_internal() {
		from_line
		cat <<-END
		X-IMAP: 1
		Subject: DON'T DELETE THIS MESSAGE -- FOLDER INTERNAL DATA, it said
		From: root

		what now?

		END
	}
	{ mbox one; like_internal; mbox two; } | store alice
	id=$(pop alice "UIDL 2" QUIT | sed -n 's/^+OK 2 \([^ \r]*\)\r*$/\1/p')
	[ -n "$id" ]
	pop alice "DELE 1" QUIT >"$WORLD/answer"
	run pop alice "UIDL 1" STAT QUIT
	[[ $output == *"+OK 1 $id"*"+OK 2 "* ]]
	forget_index
	run pop alice "UIDL 1" STAT "DELE 1" QUIT
	[[ $output == *"+OK 1 $id"*"+OK 2 "*"+OK bye, 1 messages left" ]]
	spool_is alice two
}

# with_planted [FIELD]: prints a message with FIELD in its header. Its body
# contains a forged message with a From_ line.
with_planted() {
	cat <<-END
	Received: from outside
	Message-ID: <evil@kpopd.test>
	Subject: hello
	${1-}
	Dear Alice,

	$(from_line)
	Received: from intranet
	Message-ID: <boss@kpopd.test>
	Subject: pay this

	please.

	From here on it is text again.
	END
}

# bats test_tags=catalogue:55-2
@test "a From_ line inside a message's Content-Length does not begin a message" {
	with_planted $'Content-Length: 500\n' | deliver alice
	make_message two | deliver alice
	# Procmail has corrected the length and has not quoted the From_ lines.
	[ "$(grep -c '^From ' /var/mail/alice)" -eq 4 ]
	[ "$(sed -n 's/^Content-Length: *//p' /var/mail/alice)" \
	    -eq "$(with_planted | sed '1,/^$/d' | wc -c)" ]
	retrieve 1 | tr -d '\r' | sed '/^Content-Length/d' |
	    cmp - <(with_planted)
	retrieve 2 | tr -d '\r' | cmp - <(make_message two)
	run pop alice STAT "DELE 1" QUIT
	[[ $output == *"+OK 2 messages"*"+OK bye, 1 messages left" ]]
	tail -n +2 /var/mail/alice | cmp - <(make_message two; echo)
}

# bats test_tags=catalogue:55-3
@test "kpopd with the format mboxo ignores every Content-Length" {
	{
		from_line
		size=$(with_planted | sed '1,/^$/d' | wc -c)
		with_planted "Content-Length: $size"$'\n'
		echo
		mbox two
	} | store alice
	run pop alice STAT QUIT
	[[ $output == *"+OK 2 messages"* ]]
	server_stop
	server_start -m 'mboxo:/var/mail/%u'
	# kpopd does not use the index of the other format.
	run pop alice STAT QUIT
	[[ $output == *"+OK 3 messages"* ]]
	# With -Y, procmail also ignores Content-Length, and quotes the From_
	# lines.
	rm /var/mail/alice
	with_planted $'Content-Length: 1\n' |
	    procmail -Y -f sender@kpopd.test -d alice
	make_message two | procmail -Y -f sender@kpopd.test -d alice
	run pop alice STAT QUIT
	[[ $output == *"+OK 2 messages"* ]]
}

@test "a message that Dovecot saves unquoted is one message, before and after Dovecot changes flags" {
	dovecot_configure mbox '~/mail' /var/mail/alice </dev/null
	mbox one | store alice
	sed 's/$/\r/' >"$WORLD/mail.eml" <<-END
	Received: x
	Message-ID: <f@kpopd.test>
	Subject: from

	Hello,

	From here on.
	From again.

	$(from_line)
	End: of
	END
	chmod 644 "$WORLD/mail.eml"
	dovecot_does save "-m INBOX $WORLD/mail.eml"
	[ "$(grep -c '^From ' /var/mail/alice)" -eq 5 ]
	make_message two | deliver alice
	pop alice STAT UIDL QUIT | tr -d '\r' >"$WORLD/before"
	grep -qx '+OK 3 messages' "$WORLD/before"
	retrieve 2 | sed '/^Received/,/^\r$/d' |
	    cmp - <(sed '1,/^\r$/d' "$WORLD/mail.eml")
	dovecot_does "flags add" "'\\Seen' mailbox INBOX ALL"
	pop alice STAT UIDL QUIT | tr -d '\r' >"$WORLD/after"
	diff <(grep '^[0-9]' "$WORLD/before") <(grep '^[0-9]' "$WORLD/after")
}

# bats test_tags=catalogue:49
@test "kpopd refuses a file that is not an mbox and does not change it" {
	printf 'this is\nno mailbox\n' | store alice
	opens_not SYS/PERM 'does not begin with a From line'
	[ "$(cat /var/mail/alice)" = "$(printf 'this is\nno mailbox')" ]
}

@test "kpopd refuses links, FIFOs, directories, files of other owners and unreadable files" {
	mbox secret | store bob
	ln -s /var/mail/bob /var/mail/alice
	opens_not SYS/PERM 'it is a symlink'
	rm /var/mail/alice
	ln -s /etc/shadow /var/mail/alice
	opens_not SYS/PERM 'it is a symlink'
	rm /var/mail/alice
	mbox one | store alice
	ln /var/mail/alice /var/mail/other
	opens_not SYS/PERM 'more than one link'
	rm /var/mail/alice /var/mail/other
	mkfifo /var/mail/alice
	chown alice /var/mail/alice
	opens_not SYS/PERM 'not a regular file'
	rm /var/mail/alice
	mkdir /var/mail/alice
	chown alice /var/mail/alice
	opens_not SYS/PERM 'it is not a regular file'
	rmdir /var/mail/alice
	mbox one | store alice
	chown bob /var/mail/alice
	chmod 666 /var/mail/alice
	opens_not SYS/PERM 'it has another owner'
	chown alice /var/mail/alice
	chmod 000 /var/mail/alice
	opens_not SYS/PERM 'Permission denied'
	chmod 400 /var/mail/alice
	opens_not SYS/PERM 'Permission denied'
}

@test "kpopd refuses a spool directory in which other users can rename files" {
	mbox one | store alice
	chmod 777 /var/mail
	opens_not SYS/PERM 'other users can rename'
	chmod 1777 /var/mail
	run pop alice QUIT
	[[ $output == *"+OK 1 messages"* ]]
}

@test "kpopd serves a spool in the home directory if -m names its path with %h, ~ or %u" {
	mbox home | store alice
	mv /var/mail/alice /home/alice/Mailbox
	for where in 'mbox:%h/Mailbox' 'mbox:~/Mailbox' \
	    'mbox:/home/%u/Mailbox'; do
		server_stop
		server_start -m "$where"
		run pop alice QUIT
		[[ $output == *"+OK 1 messages"* ]]
	done
}

@test "kpopd waits while another program locks the spool, and answers [IN-USE] if that takes too long" {
	mbox one | store alice
	# An MDA delivers while it has the lock.
	locker_start
	locker L
	printf F >>/var/mail/alice
	pop_open
	pop_hear '^\+OK'
	pop_ask "USER alice"
	pop_say "PASS x"
	# A pause is the only way to show that no answer comes.
	pop_patience=1 refute pop_hear '' 2>/dev/null
	printf 'rom b\nSubject: late\n\nlate\n\n' >>/var/mail/alice
	locker U
	pop_hear '^\+OK 2 messages'
	pop_say "RETR 2"
	pop_hear_lines
	[ "${lines[0]}" = "Subject: late" ]
	pop_ask QUIT
	pop_hear_end
	pop_close
	locker L
	forget_index
	opens_not IN-USE 'locking the mailbox'
}

@test "a session does not block deliveries" {
	mbox one | store alice
	pop_login alice
	make_message two | timeout 5 procmail -f sender@kpopd.test -d alice
	pop_ask STAT '^\+OK 1 '
	pop_ask QUIT
	run pop alice QUIT
	[[ $output == *"+OK 2 messages"* ]]
}

@test "a second session of the same user gets [IN-USE], and a session of another user does not" {
	mbox one | store alice
	mbox two three | store bob
	pop_login alice
	run pop alice STAT QUIT
	[[ ${lines[-1]} == "-ERR [IN-USE]"* ]]
	log_has 'logout .*reason=in-use'
	KRB5CCNAME=FILE:$WORLD/bob.cc realm_login bob
	KRB5CCNAME=FILE:$WORLD/bob.cc run pop bob STAT QUIT
	[[ $output == *"+OK 2 messages"* ]]
	pop_ask QUIT
	pop_hear_end
	run pop alice STAT QUIT
	[[ $output == *"+OK 1 messages"* ]]
	pop_login alice
	pop_cut
	log_has 'reason=lost'
	# The session logs its end before it releases its locks.
	kpopd_ends 5
	run pop alice STAT QUIT
	[[ $output == *"+OK 1 messages"* ]]
}

# bats test_tags=fault:10
@test "one of ten simultaneous sessions gets the mailbox, and the others get [IN-USE]" {
	local pids=()
	mbox one two three | store alice
	rm -f "$WORLD/quit"
	for i in $(seq 10); do
		{
			printf 'USER alice\r\nPASS x\r\nDELE 2\r\n'
			# Keep the mailbox in use until all other sessions are
			# refused.
			await 60 '[ -e "$WORLD/quit" ]'
			printf 'QUIT\r\n'
		} 3>&- | kpopc mail.kpopd.test >"$WORLD/ten.$i" 3>&- 2>&1 &
		pids+=($!)
	done
	await 30 \
	    '[ "$(cat "$WORLD"/ten.* | grep -c "^-ERR \[IN-USE\]")" -eq 9 ]'
	touch "$WORLD/quit"
	wait "${pids[@]}" || :
	[ "$(cat "$WORLD"/ten.* | grep -c '^+OK 3 messages')" -eq 1 ]
	[ "$(cat "$WORLD"/ten.* | grep -c '^-ERR \[IN-USE\]')" -eq 9 ]
	spool_is alice one three
}

# bats test_tags=catalogue:60-1
@test "kpopd serves and removes messages of a mailbox with a million messages" {
	perl -e 'print "From a\nN: $_\n\n$_\n\n" for 1 .. 1000000' | store alice
	file=$(spool_file)
	spool_mark
	run pop alice STAT "RETR 1" QUIT
	[[ $output == \
	    *"+OK 1000000 messages"*"N: 1"*"+OK bye, 1000000 messages left" ]]
	spool_kept
	run pop alice STAT "LIST 1000000" "UIDL 1000000" "RETR 999999" \
	    "DELE 1" "DELE 500000" "DELE 1000000" QUIT
	[[ $output == *"+OK 1000000 messages"*"+OK 1000000 23"* ]]
	[[ $output == *"N: 999999"*"+OK bye, 999997 messages left" ]]
	perl -e 'print map "From a\nN: $_\n\n$_\n\n",
	    grep $_ != 1 && $_ != 500000 && $_ != 1000000, 1 .. 1000000' |
	    cmp - /var/mail/alice
	[ "$(spool_file)" = "$file" ]
	log_says_quits "1 0 1000000" "1 3 999997"
}
