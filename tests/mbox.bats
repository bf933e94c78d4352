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

# retrieve N: message N as a client sees it, line ends as they came, stuffing undone.
retrieve() {
	printf '%s\r\n' "USER alice" "PASS x" "RETR $1" QUIT | kpopc mail.kpopd.test |
	    perl -0777 -ne 's/\A(?:\+OK[^\n]*\n){3}//; ($size) = /\A\+OK (\d+) octets\r\n/ or exit 1; s/\A[^\n]*\n//;
	        s/^\.\r\n\+OK bye.*\z//ms or exit 2; s/^\.//mg; length == $size or exit 3; print'
}

@test "messages of all kinds come out octet for octet, LIST's octets are RETR's" {
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
		# The same as the spool's octets between the separators, with CRLF for LF.
		perl -0777 -ne 'BEGIN { $n = shift } @m = split /(?:\A|(?<=\n\n)|(?<=\n\r\n))From a\n/; $_ = $m[$n]; s/\r?\n\z//; s/(?<!\r)\n/\r\n/g; print' \
		    "$n" "$WORLD/all.mbox" | cmp - "$WORLD/out"
		grep -qx "$n $(stat -c %s "$WORLD/out")" "$WORLD/list"
	done
	[ "$(sha256sum </var/mail/alice)" = "$sum" ]
}

@test "a line of 100 MiB is served whole, in bounded memory, and kept" {
	{ from_line; printf 'Subject: long\n\n'; head -c 104857600 /dev/zero | tr '\0' .; printf '\n\n'; } | store alice
	spool_mark
	retrieve 1 | tail -c +18 | sha256sum >"$WORLD/sum"
	[ "$(cat "$WORLD/sum")" = "$({ head -c 104857600 /dev/zero | tr '\0' .; printf '\r\n'; } | sha256sum)" ]
	# In one session: all of it is looked through, and sent.
	forget_index
	pop_login alice
	pop_say "RETR 1"
	timeout 60 sed -n '/^\.\r$/q' <&"$pop_in"
	[ -n "${SANITIZER-}" ] || [ "$(sed -n 's/VmHWM:[^0-9]*\([0-9]*\).*/\1/p' "/proc/$(child_pid)/status")" -lt 20000 ]
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
	pop alice STAT LIST UIDL "RETR 1" "TOP 2 1" "DELE 1" RSET QUIT >"$WORLD/answer"
	pop alice "DELE 1" >"$WORLD/answer"
	[ "$(stat -c '%i %s %x %y %z %a %U %G' /var/mail/alice)" = "$before" ]
	spool_is alice one two
}

@test "an absent and an empty spool hold no messages" {
	run pop alice STAT LIST UIDL QUIT
	[[ $output == *"+OK 0 messages"*"+OK 0 0"*"+OK bye, 0 messages left" ]]
	[ -z "$(ls -A /var/mail)" ]
	log_says_quits "0 0 0"
	store alice </dev/null
	spool_mark
	run pop alice STAT "RETR 1" QUIT
	[[ $output == *"+OK 0 0"*"-ERR no such message"*"+OK bye, 0 messages left" ]]
	log_says_quits "0 0 0" "0 0 0"
	spool_kept
}

@test "what procmail delivers is served and goes" {
	make_message one 5 | deliver alice
	make_message two 50 | deliver alice
	printf 'Subject: tricky\n\nFrom here on\n\nFrom there\n.\n' | deliver alice
	retrieve 1 | tr -d '\r' | diff - <(make_message one 5)
	retrieve 2 | tr -d '\r' | diff - <(make_message two 50)
	retrieve 3 | tr -d '\r' | diff - <(printf 'Subject: tricky\n\n>From here on\n\n>From there\n.\n')
	run pop alice "DELE 1" "DELE 3" QUIT
	[[ $output == *"+OK bye, 1 messages left" ]]
	retrieve 1 | tr -d '\r' | diff - <(make_message two 50)
}

@test "the internal message of other programs is neither shown nor removed" {
	{ printf 'From MAILER-DAEMON Mon\nSubject: DON'\''T DELETE THIS MESSAGE -- FOLDER INTERNAL DATA\nX-IMAP: 1 2\n\ninternal\n\n'; mbox one two; } | store alice
	run pop alice "DELE 1" "DELE 2" QUIT
	[[ $output == *"+OK 2 messages"*"+OK bye, 0 messages left" ]]
	grep -q '^internal$' /var/mail/alice
	grep -q 'Message-ID' /var/mail/alice && return 1 || :
}

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
	for where in 'mbox:%h/Mailbox' 'mbox:~/Mailbox' 'mbox:/home/%u/Mailbox'; do
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
	# A POSIX lock as MDAs take it; the whole message is there only when it goes.
	perl -e 'use Fcntl ":flock"; use POSIX; open F, "+>>", "/var/mail/alice"; $l = pack("s s l! l! i", F_WRLCK, 0, 0, 0, 0);
	    fcntl F, F_SETLK, $l or die; $| = 1; syswrite F, "F"; print "held\n"; sleep 2;
	    syswrite F, "rom b\nSubject: late\n\nlate\n\n"; sleep 0' >"$WORLD/held" 3>&- &
	holder=$!
	await 5 "grep -q held $WORLD/held"
	run pop alice STAT "RETR 2" QUIT
	[[ $output == *"+OK 2 messages"*"Subject: late"* ]]
	rm "$WORLD/held"
	perl -e 'use POSIX; open F, "+<", "/var/mail/alice"; $l = pack("s s l! l! i", F_WRLCK, 0, 0, 0, 0);
	    fcntl F, F_SETLK, $l or die; $| = 1; print "held\n"; sleep 60' >"$WORLD/held" 3>&- &
	holder=$!
	await 5 "grep -q held $WORLD/held"
	forget_index
	opens_not IN-USE 'locking the mailbox'
}

@test "a reader does not hold up deliveries" {
	mbox one | store alice
	pop_login alice
	timeout 5 bash -c "$(declare -f make_message deliver); make_message two | deliver alice"
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
	KRB5CCNAME=FILE:$WORLD/bob.cc kinit -k -t "$WORLD/keytabs/bob.keytab" bob
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

@test "ten sessions at once: one gets in, the others hear [IN-USE], the mailbox is whole" {
	mbox one two three | store alice
	for i in $(seq 10); do
		{ printf 'USER alice\r\nPASS x\r\nDELE 2\r\n'; sleep 3; printf 'QUIT\r\n'; } | kpopc mail.kpopd.test >"$WORLD/ten.$i" 3>&- 2>&1 &
	done
	sleep 0.5
	await 10 '! pgrep -x kpopc >/dev/null'
	[ "$(cat "$WORLD"/ten.* | grep -c '^+OK 3 messages')" -eq 1 ]
	[ "$(cat "$WORLD"/ten.* | grep -c '^-ERR \[IN-USE\]')" -eq 9 ]
	spool_is alice one three
}

@test "a million messages work" {
	perl -e 'print "From a\nN: $_\n\n$_\n\n" for 1 .. 1000000' | store alice
	file=$(spool_file)
	spool_mark
	run pop alice STAT "RETR 1" QUIT
	[[ $output == *"+OK 1000000 messages"*"N: 1"*"+OK bye, 1000000 messages left" ]]
	spool_kept
	run pop alice STAT "LIST 1000000" "UIDL 1000000" "RETR 999999" "DELE 1" "DELE 500000" "DELE 1000000" QUIT
	[[ $output == *"+OK 1000000 messages"*"+OK 1000000 23"*"N: 999999"*"+OK bye, 999997 messages left" ]]
	perl -e 'print map "From a\nN: $_\n\n$_\n\n", grep $_ != 1 && $_ != 500000 && $_ != 1000000, 1 .. 1000000' | cmp - /var/mail/alice
	[ "$(spool_file)" = "$file" ]
	log_says_quits "1 0 1000000" "1 3 999997"
}
