#!/usr/bin/env bats
# Messages in the spool: byte for byte, strange files, strange contents, locks.

load helpers/all

setup() {
	begin_test
	realm_login alice
}

teardown() {
	[ -z "${holder-}" ] || kill "$holder" 2>/dev/null || true
	chattr -i /var/mail/alice 2>/dev/null || true
	end_test
}

@test "messages of all kinds come out byte for byte, LIST's bytes are RETR's" {
	perl -e '
		my @bodies = ("plain\n", "no end", "", "\n", ".\n..\n.a\n", "a\rb\r\n", "nul \0 nul\n\0\0\n",
		    join("", map(chr, 128 .. 255)) . "\n", ">From quoted\n", "a\nFrom inside\n", "\n\n\n",
		    "x" x 300000 . "\n", ".\r\n.\n", "tab\tand \x1b[31mescape\n", "." x 1000 . "\n", "\r", "\r\n");
		for (@bodies) { print "From a\nSubject: t\n\n$_"; print "\n" unless /\n\z/; print "\n" }' >"$WORLD/all.mbox"
	store alice <"$WORLD/all.mbox"
	sum=$(sha256sum </var/mail/alice)
	count=$(grep -ac '^From a$' "$WORLD/all.mbox")
	pop alice LIST QUIT >"$WORLD/list"
	for n in $(seq "$count"); do
		retrieve "$n" >"$WORLD/out"
		# The same as the spool's bytes between the separators, with
		# CRLF for LF.
		perl \
		    -0777 -ne 'BEGIN { $n = shift } @m = split /(?:\A|(?<=\n\n)|(?<=\n\r\n))From a\n/; $_ = $m[$n]; s/\r?\n\z//; s/(?<!\r)\n/\r\n/g; print' \
		    "$n" "$WORLD/all.mbox" | cmp - "$WORLD/out"
		grep -qx "$n $(stat -c %s "$WORLD/out")" "$WORLD/list"
	done
	[ "$(sha256sum </var/mail/alice)" = "$sum" ]
}

# bats test_tags=catalogue:57
@test "a line of 100 MiB is served whole, in bounded memory, and kept" {
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
	# In one session: all of it is looked through, and sent.
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

@test "a session that removes nothing leaves the spool as it was, its times and inode included" {
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
@test "an absent and an empty spool hold no messages" {
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

@test "what procmail delivers is served and goes" {
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

# without_body NAME: a header and the empty line that ends it.
without_body() {
	make_message "$1" 0
}

# serves_without_body NUMBER NAME: RETR and TOP give the header and the empty
# line after it, and LIST that many bytes.
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
@test "a message without a body is served with the empty line that ends its header, whoever wrote it" {
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
	# What is removed around them, and comes after them, changes nothing.
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

@test "the internal message of other programs is neither shown nor removed" {
	{
		printf 'From MAILER-DAEMON Mon\nFrom: Mail System Internal Data <MAILER-DAEMON@mail>\nSubject: DON'\''T DELETE THIS MESSAGE -- FOLDER INTERNAL DATA\nX-IMAP: 1 2\n\ninternal\n\n'
		mbox one two
	} | store alice
	run pop alice "DELE 1" "DELE 2" QUIT
	[[ $output == *"+OK 2 messages"*"+OK bye, 0 messages left" ]]
	grep -q '^internal$' /var/mail/alice
	grep -q 'Message-ID' /var/mail/alice && return 1 || :
}

# bats test_tags=catalogue:64-2,catalogue:64-4
@test "a message that looks like the internal one comes to the front, and is served and removed" {
	looks() {
		from_line
		printf 'X-IMAP: 1\nSubject: DON'\''T DELETE THIS MESSAGE -- FOLDER INTERNAL DATA, it said\nFrom: root\n\nwhat now?\n\n'
	}
	{ mbox one; looks; mbox two; } | store alice
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

# planted [HEADER]: a mail from outside with another one in its text.
planted() {
	printf 'Received: from outside\nMessage-ID: <evil@kpopd.test>\nSubject: hello\n%s\nDear Alice,\n\n' "${1-}"
	from_line
	printf 'Received: from intranet\nMessage-ID: <boss@kpopd.test>\nSubject: pay this\n\nplease.\n\nFrom here on it is text again.\n'
}

# bats test_tags=catalogue:55-2
@test "what a mail with a Content-Length has in its text is no message, and goes with it" {
	planted $'Content-Length: 500\n' | deliver alice
	make_message two | deliver alice
	# Procmail has put the length right, and has not quoted.
	[ "$(grep -c '^From ' /var/mail/alice)" -eq 4 ]
	[ "$(sed -n 's/^Content-Length: *//p' /var/mail/alice)" \
	    -eq "$(planted | sed '1,/^$/d' | wc -c)" ]
	retrieve 1 | tr -d '\r' | sed '/^Content-Length/d' | cmp - <(planted)
	retrieve 2 | tr -d '\r' | cmp - <(make_message two)
	run pop alice STAT "DELE 1" QUIT
	[[ $output == *"+OK 2 messages"*"+OK bye, 1 messages left" ]]
	tail -n +2 /var/mail/alice | cmp - <(make_message two; echo)
}

# bats test_tags=catalogue:55-3
@test "with -m mboxo: no Content-Length is trusted" {
	{
		from_line
		planted \
		    "Content-Length: $(planted | sed '1,/^$/d' | wc -c)"$'\n'
		echo
		mbox two
	} | store alice
	run pop alice STAT QUIT
	[[ $output == *"+OK 2 messages"* ]]
	server_stop
	server_start -m 'mboxo:/var/mail/%u'
	# The list that was kept is another one's.
	run pop alice STAT QUIT
	[[ $output == *"+OK 3 messages"* ]]
	# With procmail's -Y it says what is so.
	rm /var/mail/alice
	planted $'Content-Length: 1\n' |
	    procmail -Y -f sender@kpopd.test -d alice
	make_message two | procmail -Y -f sender@kpopd.test -d alice
	run pop alice STAT QUIT
	[[ $output == *"+OK 2 messages"* ]]
	server_stop
	server_start
}

@test "what Dovecot saves unquoted is one message, before and after Dovecot looks at it" {
	cat >"$WORLD/dovecot.conf" <<-END
	log_path = /dev/stderr
	mail_location = mbox:~/mail:INBOX=/var/mail/%u
	mbox_write_locks = fcntl
	first_valid_uid = 1
	END
	chmod 755 "$WORLD"
	dovecot() {
		su alice -c "cd; USER=alice doveadm -o stats_writer_socket_path= -c $WORLD/dovecot.conf $*" 2>"$WORLD/dovecot.err"
	}
	mbox one | store alice
	printf 'Received: x\r\nMessage-ID: <f@kpopd.test>\r\nSubject: from\r\n\r\nHello,\r\n\r\nFrom here on.\r\nFrom again.\r\n\r\n%s\r\nEnd: of\r\n' "$(from_line)" >"$WORLD/mail.eml"
	chmod 644 "$WORLD/mail.eml"
	dovecot "save -m INBOX $WORLD/mail.eml"
	[ "$(grep -c '^From ' /var/mail/alice)" -eq 5 ]
	make_message two | deliver alice
	pop alice STAT UIDL QUIT | tr -d '\r' >"$WORLD/before"
	grep -qx '+OK 3 messages' "$WORLD/before"
	retrieve 2 | sed '/^Received/,/^\r$/d' |
	    cmp - <(sed '1,/^\r$/d' "$WORLD/mail.eml")
	dovecot "flags add '\\Seen' mailbox INBOX ALL"
	pop alice STAT UIDL QUIT | tr -d '\r' >"$WORLD/after"
	diff <(grep '^[0-9]' "$WORLD/before") <(grep '^[0-9]' "$WORLD/after")
}

# bats test_tags=catalogue:49
@test "a file that is no mbox is refused and left alone" {
	printf 'this is\nno mailbox\n' | store alice
	opens_not SYS/PERM 'does not begin with a From line'
	[ "$(cat /var/mail/alice)" = "$(printf 'this is\nno mailbox')" ]
}

@test "a symlink, a hard link, a FIFO, a directory, another's and an unreadable file are refused" {
	mbox secret | store bob
	ln -s /var/mail/bob /var/mail/alice
	opens_not SYS/PERM 'symbolic links'
	rm /var/mail/alice
	ln -s /etc/shadow /var/mail/alice
	opens_not SYS/PERM 'symbolic links'
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
	opens_not SYS/PERM 'Is a directory'
	rmdir /var/mail/alice
	mbox one | store alice
	chown bob /var/mail/alice
	chmod 666 /var/mail/alice
	opens_not SYS/PERM 'not permitted'
	chown alice /var/mail/alice
	chmod 000 /var/mail/alice
	opens_not SYS/PERM 'Permission denied'
	chmod 400 /var/mail/alice
	opens_not SYS/PERM 'Permission denied'
}

@test "a spool directory in which anybody can rename files is refused" {
	mbox one | store alice
	chmod 777 /var/mail
	opens_not SYS/PERM 'anybody can rename'
	chmod 1777 /var/mail
	run pop alice QUIT
	chmod 2775 /var/mail
	[[ $output == *"+OK 1 messages"* ]]
}

@test "a spool in the home directory works, by %h and by ~" {
	mbox home | store alice
	mv /var/mail/alice /home/alice/Mailbox
	for where in 'mbox:%h/Mailbox' 'mbox:~/Mailbox' \
	    'mbox:/home/%u/Mailbox'; do
		server_stop
		server_start -m "$where"
		run pop alice QUIT
		[[ $output == *"+OK 1 messages"* ]]
	done
	rm /home/alice/Mailbox
	server_stop
	server_start
}

@test "while another program holds the lock the spool is not read; then it is; too long is [IN-USE]" {
	mbox one | store alice
	# A POSIX lock as MDAs take it; the whole message is there only when it
	# goes.
	perl -e 'use Fcntl ":flock"; use POSIX; open F, "+>>", "/var/mail/alice"; $l = pack("s s l! l! i", F_WRLCK, 0, 0, 0, 0);
	    fcntl F, F_SETLK, $l or die; $| = 1; syswrite F, "F"; print "held\n"; sleep 2;
	    syswrite F, "rom b\nSubject: late\n\nlate\n\n"; sleep 0' \
	    >"$WORLD/held" 3>&- &
	holder=$!
	await 5 "grep -q held $WORLD/held"
	run pop alice STAT "RETR 2" QUIT
	[[ $output == *"+OK 2 messages"*"Subject: late"* ]]
	rm "$WORLD/held"
	perl -e 'use POSIX; open F, "+<", "/var/mail/alice"; $l = pack("s s l! l! i", F_WRLCK, 0, 0, 0, 0);
	    fcntl F, F_SETLK, $l or die; $| = 1; print "held\n"; sleep 60' \
	    >"$WORLD/held" 3>&- &
	holder=$!
	await 5 "grep -q held $WORLD/held"
	forget_index
	opens_not IN-USE 'locking the mailbox'
}

@test "a reader does not hold up deliveries" {
	mbox one | store alice
	pop_login alice
	timeout 5 bash \
	    -c \
	    "$(declare -f make_message \
		deliver); make_message two | deliver alice"
	pop_ask STAT '^\+OK 1 '
	pop_ask QUIT
	run pop alice QUIT
	[[ $output == *"+OK 2 messages"* ]]
}

@test "a second session of the same user is told [IN-USE]; another user's is not" {
	mbox one | store alice
	mbox two three | store bob
	pop_login alice
	run pop alice STAT QUIT
	[[ ${lines[-1]} == "-ERR [IN-USE]"* ]]
	log_has 'logout .*reason=in-use'
	KRB5CCNAME=FILE:$WORLD/bob.cc kinit -k -t "$WORLD/keytabs/bob.keytab" \
	    bob
	KRB5CCNAME=FILE:$WORLD/bob.cc run pop bob STAT QUIT
	[[ $output == *"+OK 2 messages"* ]]
	pop_ask QUIT
	pop_hear_end
	run pop alice STAT QUIT
	[[ $output == *"+OK 1 messages"* ]]
	pop_login alice
	pop_cut
	log_has 'reason=lost'
	run pop alice STAT QUIT
	[[ $output == *"+OK 1 messages"* ]]
}

# bats test_tags=fault:10
@test "ten sessions at once: one gets in, the others hear [IN-USE], the mailbox is whole" {
	mbox one two three | store alice
	for i in $(seq 10); do
		{
			printf 'USER alice\r\nPASS x\r\nDELE 2\r\n'
			sleep 3
			printf 'QUIT\r\n'
		} | kpopc mail.kpopd.test >"$WORLD/ten.$i" 3>&- 2>&1 &
	done
	sleep 0.5
	await 10 '! pgrep -x kpopc >/dev/null'
	[ "$(cat "$WORLD"/ten.* | grep -c '^+OK 3 messages')" -eq 1 ]
	[ "$(cat "$WORLD"/ten.* | grep -c '^-ERR \[IN-USE\]')" -eq 9 ]
	spool_is alice one three
}

# bats test_tags=catalogue:60-1
@test "a million messages work" {
	perl -e 'print "From a\nN: $_\n\n$_\n\n" for 1 .. 1000000' | store alice
	file=$(spool_file)
	spool_mark
	run pop alice STAT "RETR 1" QUIT
	[[ $output == \
	    *"+OK 1000000 messages"*"N: 1"*"+OK bye, 1000000 messages left" ]]
	spool_kept
	run pop alice STAT "LIST 1000000" "UIDL 1000000" "RETR 999999" \
	    "DELE 1" "DELE 500000" "DELE 1000000" QUIT
	[[ $output == *"+OK 1000000 messages"*"+OK 1000000 23"*"N: 999999"*"+OK bye, 999997 messages left" ]]
	perl -e 'print map "From a\nN: $_\n\n$_\n\n", grep $_ != 1 && $_ != 500000 && $_ != 1000000, 1 .. 1000000' | cmp - /var/mail/alice
	[ "$(spool_file)" = "$file" ]
	log_says_quits "1 0 1000000" "1 3 999997"
}
