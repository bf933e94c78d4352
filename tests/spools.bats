#!/usr/bin/env bats
# Checks that kpopd serves unusual spools byte for byte and removes only the
# marked messages. Checks that kpopd refuses a spool that is not alice's own
# file.

load helpers/all

setup() {
	begin_test
	realm_login alice
	uid=$(id -u alice)
}

teardown() {
	[ -z "${holder-}" ] || kill "$holder" 2>/dev/null || true
	if [ -n "${disk-}" ]; then
		chattr -R -ia "$disk" 2>/dev/null || true
		rm -rf "$disk"
	fi
	while mountpoint -q /var/mail/alice; do umount /var/mail/alice; done
	while [ "$(grep -c ' /var/mail ' /proc/self/mounts)" -gt 1 ]; do
		umount /var/mail
	done
	[ -z "${spool_mode-}" ] || chmod "$spool_mode" /var/mail
	rm -f /home/*/.k5login /home/alice/elsewhere
	chmod 755 /home/alice
	end_test
}

# on_disk: makes a directory for alice's spool on a real file system, and sets
# $disk to it. The directories that tests/world mounts are in memory.
on_disk() {
	disk=$(mktemp -d /var/tmp/kpopd-test.XXXXXX)
	chmod 755 "$disk"
	spool_place=$disk
	server_stop
	server_start -l fcntl -m "mbox:$disk/%u"
}

# spool_messages COMMAND FILE ...: runs tests/programs/spool-messages.pl.
spool_messages() {
	perl "$BATS_TEST_DIRNAME/programs/spool-messages.pl" "$@"
}

# serves FILE: returns true if STAT, LIST, UIDL and all RETRs of alice's mailbox
# report exactly the messages that spool_messages finds in FILE.
serves() {
	local count
	count=$(spool_messages count "$1")
	{
		printf '%s\r\n' "USER alice" "PASS x" STAT LIST UIDL
		seq -f $'RETR %.0f\r' "$count"
		printf 'QUIT\r\n'
	} | kpopc mail.kpopd.test >"$WORLD/answers"
	spool_messages check "$1" "$WORLD/answers"
}

# removes N ...: removes the messages with these numbers from alice's mailbox.
# Returns true if all other bytes, the file's owner and the file's mode are
# unchanged.
removes() {
	local file
	file=$(spool_file)
	spool_messages without /var/mail/alice "$@" >"$WORLD/kept"
	pop alice "${@/#/DELE }" QUIT >"$WORLD/answer"
	[[ $(tail -n 1 "$WORLD/answer") == "+OK bye, "* ]] &&
	    cmp "$WORLD/kept" /var/mail/alice &&
	    [ "$(spool_file)" = "$file" ] && no_journal
}

# is_exact [DESCRIPTION [COUNT]]: stores standard input as alice's spool.
# Returns true if all messages are served, the spool is not changed, and each
# message can be removed alone. The log must contain these sessions and no
# failure. COUNT is the number of messages.
is_exact() {
	local n count ends
	cat >"$WORLD/spool"
	count=$(spool_messages count "$WORLD/spool")
	store alice <"$WORLD/spool"
	log_mark
	spool_mark
	serves "$WORLD/spool" && spool_kept ||
	    { echo "in the spool: ${1-}"; return 1; }
	ends=("$count 0 $count")
	for n in $(seq "$count"); do
		store alice <"$WORLD/spool"
		removes "$n" ||
		    { echo "DELE $n in the spool: ${1-}"; return 1; }
		ends+=("0 1 $((count - 1))")
	done
	log_says_quits "${ends[@]}" ||
	    { echo "log of the spool: ${1-}"; return 1; }
	[ "$count" -eq "${2-$count}" ]
}

# is_refused: returns true if a login as alice with alice's ticket is refused
# and alice's mailbox stays as it is.
is_refused() {
	log_mark
	spool_mark
	run pop alice STAT QUIT
	[[ ${lines[-1]} = \
	    "-ERR [AUTH] this ticket does not open that mailbox" ]] ||
	    { echo "$output"; return 1; }
	log_has 'refused .*reason="not permitted to be this user" user=alice'
	spool_kept
}

# bats test_tags=catalogue:45,catalogue:47
@test "kpopd finds no messages in spools that are empty or contain only empty lines" {
	for bytes in '' '\n' '\n\n\n' '\r\n' '\r\n\n'; do
		printf "$bytes" | is_exact "$bytes" 0
	done
}

# bats test_tags=catalogue:48,catalogue:59-1
@test "kpopd serves and removes messages that lack a line end, an empty line or a header" {
	printf 'From a\nA: b\n\nno final newline' |
	    is_exact "no final newline" 1
	{ mbox one; printf 'From a\nA: b\n\nno final newline'; } |
	    is_exact "no final newline, two" 2
	printf 'From a' | is_exact "From and no end" 1
	printf 'From \n' | is_exact "From alone" 1
	printf 'From \n\nFrom \n\nFrom ' | is_exact "nothing but From" 1
	{ from_line; echo; from_line; echo; from_line; } |
	    is_exact "nothing but From and a date" 3
	printf 'From a\nA: b\nC: d' |
	    is_exact "no empty line after the header" 1
	printf 'From a\nA: b\nFrom c\nD: e\n\nFrom f\nG: h\n\n' |
	    is_exact "no empty line before From" 2
	{
		printf 'From a\n\nno header\n\n'
		from_line
		printf '\n\n\nFrom c\nD: e\n\n'
	} | is_exact "no header" 3
	printf '\n\nFrom a\nA: b\n\nc\n\nFrom d\nE: f\n\n' |
	    is_exact "empty lines in front" 2
	printf '\n\nFrom a\n\nc\n\nFrom d\nE: f\n\n' |
	    is_exact "empty lines in front, and no header" 2
	printf 'From a\nA: b\n\nc\n\r' | is_exact "CR at the end" 1
	printf 'From a\nA: b\n\nc\n\nF' | is_exact "F at the end" 1
	printf 'From a\nA: b\n\nc\n\n\n\n\nFrom d\nE: f\n\n\n\n' |
	    is_exact "many empty lines" 2
	printf 'From a\nA: b\n\nFrom c\nD: e\n\nFrom f\nG: h\n\n' |
	    is_exact "no body, one empty line" 3
	printf 'From a\nA: b\n\n\nFrom c\nD: e\n\n\nFrom f\nG: h\n\n\n' |
	    is_exact "no body, two empty lines" 3
	printf 'From a\r\nA: b\r\n\r\nFrom c\r\nD: e\r\n\r\n\r\n' |
	    is_exact "no body, CRLF" 2
}

# bats test_tags=catalogue:50,catalogue:51
@test "kpopd serves and removes messages with CRLF, mixed line ends and lone CRs" {
	mbox one two three | sed 's/$/\r/' | is_exact "CRLF" 3
	{ mbox one; mbox two | sed 's/$/\r/'; mbox three; } |
	    is_exact "mixed by message" 3
	mbox one two three | sed '1~2s/$/\r/' | is_exact "mixed by line"
	mbox one two three | sed '2~2s/$/\r/' | is_exact "mixed by other lines"
	{
		printf 'From a\r\nA: b\r\n\n\r\n'
		printf 'From c\nD: e\n\r\n'
		printf 'From f\r\r\nA: b\r\r\n\r\r\n\r\n'
		printf 'From g\nC: d\n\n'
	} | is_exact "CR CR LF" 4
	{
		printf 'From a\nA: b\rC: d\r\rFrom e\rF: g\n\n'
		printf '\rFrom h\n\nFrom i\nJ: k\n\n'
	} | is_exact "lone CRs" 2
}

# bats test_tags=catalogue:52
@test "kpopd serves and removes messages that contain NUL and every other byte" {
	{
		printf 'From a\nA: \0b\n\0\n\n\0\n\0\0\n\n'
		printf 'From \0 Mon Nov 23 05:00:00 2026\n\0: \0\n\n\n'
	} | is_exact "NULs" 2
	perl -e 'print map "From a\nA: b\n\n" .
	    join("", map chr, 0 .. 255) . "\n\n", 1 .. 3' |
	    is_exact "all bytes" 3
}

# bats test_tags=catalogue:53-1,catalogue:54
@test "an unquoted From line begins a message only if a date or a header field follows" {
	{
		printf 'From a\nA: b\n\nFrom c\n\nFrom d\nfrom e\n\n'
		printf 'from f\n\n From g\n\nFrom: h\n\nFrom here on.'
	} | is_exact "From in the body" 1
	printf 'From a\nA: b\n\nFrom c\nD: e\n\n' |
	    is_exact "From and a header in the body" 2
	{ printf 'From a\nA: b\n\n'; from_line; printf '\n\ntext\n\n'; } |
	    is_exact "From and a date in the body" 2
	{
		printf 'From a\nA: b\n\n>From c\n\n>From d\n>>From e\n\n'
		printf 'From f\nG: h\n\n>From i\n\n'
	} | is_exact ">From" 2
}

# bats test_tags=catalogue:56
@test "kpopd serves and removes messages with lines that begin with dots or are one dot" {
	printf 'From a\nA: b\n\n.\n..\n.c\n...\n\n.\n\nFrom .\nA.: .\n\n.\n\n' |
	    is_exact "dots" 2
	printf 'From a\nA: b\n\n.' | is_exact "a dot at the end" 1
}

# bats test_tags=catalogue:55-1
@test "kpopd ignores a Content-Length that does not end where a message ends" {
	for length in 0 1 5 30 9999 99999999999999999999 -1 x; do
		{
			printf 'From a\nContent-Length: %s\n\nc\n\n' $length
			printf 'From d\nContent-Length: %s\nE: f\n\ng\n\n' \
			    $length
			printf 'From h\nI: j\n\n'
		} | is_exact "Content-Length $length" 3
	done
}

# bats test_tags=catalogue:61
@test "equal messages have different unique ids, and DELE removes only one of them" {
	mbox two two one two | is_exact "equal messages" 4
	for _ in $(seq 20); do printf 'From a\nSame: yes\n\nsame\n\n'; done |
	    store alice
	log_mark
	serves /var/mail/alice
	removes 1 7 20
	serves /var/mail/alice
	log_says_quits "20 0 20" "0 3 17" "17 0 17"
	# These messages differ only in their bodies.
	for n in 1 2 3 4 5; do printf 'From a\nSame: yes\n\n%s\n\n' $n; done |
	    is_exact "equal headers" 5
}

# bats test_tags=catalogue:64-1,catalogue:64-3
@test "the internal message of other programs stays byte for byte when all other messages are removed" {
	internal() {
		cat <<-END
		From MAILER-DAEMON Mon
		Date: now
		From: Mail System Internal Data <MAILER-DAEMON@mail>
		Subject: DON'T DELETE THIS MESSAGE -- FOLDER INTERNAL DATA
		X-IMAP: 1 2
		Status: RO

		internal

		lines

		END
	}
	{ internal; mbox one two; } | store alice
	file=$(spool_file)
	run pop alice STAT "DELE 2" QUIT
	[[ $output == *"+OK 2 messages"*"+OK bye, 1 messages left" ]]
	cmp /var/mail/alice <(internal; mbox one)
	run pop alice "DELE 1" QUIT
	[[ $output == *"+OK 1 messages"*"+OK bye, 0 messages left" ]]
	cmp /var/mail/alice <(internal)
	[ "$(spool_file)" = "$file" ]
	spool_mark
	run pop alice "DELE 1" QUIT
	[[ $output == *"+OK 0 messages"*"-ERR no such message"* ]]
	[[ $output == *"+OK bye, 0 messages left" ]]
	spool_kept
	log_says_quits "0 1 1" "0 1 0" "0 0 0"
	# After another message, an internal message counts as an ordinary one.
	{ mbox one; internal; } | is_exact "not in front" 2
}

# bats test_tags=catalogue:65-1
@test "an incomplete message at the end of the spool is served and removed, and no other bytes with it" {
	incomplete() {
		from_line
		printf \
		    'Subject: half\n\nthis was to be longer, but the machine st'
	}
	{ mbox one two; incomplete; } | is_exact "an incomplete message" 3
	# Procmail appends to the incomplete message. kpopd serves the result
	# unchanged.
	{ mbox one two; incomplete; } >"$WORLD/before"
	store alice <"$WORLD/before"
	make_message three | deliver alice
	make_message four | deliver alice
	cp /var/mail/alice "$WORLD/spool"
	head -c "$(stat -c %s "$WORLD/before")" /var/mail/alice |
	    cmp - "$WORLD/before"
	serves "$WORLD/spool"
	count=$(spool_messages count "$WORLD/spool")
	[ "$count" -ge 4 ]
	removes 2
	removes $((count - 1))
	removes 1
	# The spool ends with a part of a header.
	for end in F From 'From ' 'From a' $'From a\nSubject: x'; do
		{ mbox one; printf '%s' "$end"; } | is_exact "$end"
	done
}

# bats test_tags=catalogue:65-2
@test "QUIT does not remove an incomplete last message once the session has noticed new mail after it" {
	incomplete() {
		from_line
		printf 'Subject: half\n\nthis was to be longer'
	}
	{ mbox one; incomplete; } | store alice
	pop_login alice
	pop_ask "RETR 2"
	while pop_hear '' && [ "$heard" != . ]; do :; done
	pop_ask "DELE 2"
	make_message late | deliver alice
	cp /var/mail/alice "$WORLD/before"
	pop_ask "RETR 1"
	while pop_hear '' && [ "$heard" != . ]; do :; done
	pop_ask QUIT '^-ERR some deleted messages not removed'
	pop_hear_end
	cmp "$WORLD/before" /var/mail/alice
	grep -q '^Subject: late$' /var/mail/alice
	log_has 'failed .*another program changed the mailbox'
	log_has 'logout .* reason=quit .* deleted=0 left=2 '
}

# as_bob COMMAND ...: gets a ticket for bob, and runs the command with this
# ticket.
as_bob() {
	KRB5CCNAME=FILE:$WORLD/bob.cc realm_login bob
	KRB5CCNAME=FILE:$WORLD/bob.cc "$@"
}

# retrieve_sum: prints the SHA-256 of message 1 as POP3 sends it. No line of the
# message may begin with a dot.
retrieve_sum() {
	printf '%s\r\n' "USER alice" "PASS x" "RETR 1" QUIT |
	    kpopc mail.kpopd.test | sed -e '1,4d' | head -n -2 | sha256sum
}

# bats test_tags=catalogue:58
@test "kpopd serves a header of a million fields and a field of 100 MiB in bounded memory" {
	many_fields() {
		printf 'Subject: many\n'
		seq -f 'X-Field: %.0f' 1000000
	}
	long_field() {
		printf 'Subject: '
		head -c 104857600 /dev/zero | tr '\0' h
		printf '\n'
	}
	for header in many_fields long_field; do
		{ from_line; $header; printf '\nbody\n\n'; mbox last; } |
		    store alice
		sum=$(sha256sum </var/mail/alice)
		log_mark
		spool_mark
		[ "$(retrieve_sum)" = \
		    "$({ $header; printf '\nbody\n'; } | sed 's/$/\r/' |
			sha256sum)" ]
		# Measure one session, in which kpopd scans and sends the whole
		# mailbox.
		forget_index
		pop_patience=60 pop_login alice
		pop_say "RETR 1"
		timeout 60 sed -n '/^\.\r$/q' <&"$pop_in"
		pop_say "TOP 2 0"
		pop_patience=60 pop_hear_lines
		[ -n "${SANITIZER-}" ] ||
		    [ "$(sed -n 's/VmHWM:[^0-9]*\([0-9]*\).*/\1/p' \
			"/proc/$(child_pid)/status")" -lt 20000 ]
		pop_cut
		kpopd_ends 5
		[ "$(sha256sum </var/mail/alice)" = "$sum" ]
		spool_kept
		file=$(spool_file)
		pop alice "DELE 1" QUIT
		spool_is alice last
		[ "$(spool_file)" = "$file" ]
		log_has 'logout .* reason=quit retrieved=1 .* deleted=0 left=2 '
		log_has 'logout .* reason=lost retrieved=1 .* topped=1 deleted=0 left=2 '
		log_has 'logout .* reason=quit retrieved=0 .* deleted=1 left=1 '
		log_says_no_trouble
	done
}

# bytes_read PID: prints the number of bytes that the process has read.
bytes_read() {
	sed -n 's/^rchar: //p' "/proc/$1/io"
}

# bats test_tags=catalogue:63
@test "the scan of a sparse mailbox of a TiB delays no other user and takes bounded memory" {
	{ from_line; printf 'Subject: hole\n\n'; } | store alice
	truncate -s 1T /var/mail/alice
	mbox one | store bob
	spool_mark
	pop_open
	pop_hear '^\+OK'
	pop_ask "USER alice"
	pop_say "PASS x"
	log_has 'login .*user=alice'
	await 5 'session=$(child_pid)
	    fds "$session" | grep -q " /var/mail/alice$"'
	await 5 '[ "$(bytes_read "$session")" -gt 100000000 ]'
	# During the scan another user is served at once. A second login of
	# alice is refused at once.
	begin=$(date +%s%N)
	run as_bob pop bob QUIT
	[[ $output == *"+OK 1 messages"* ]]
	run pop alice QUIT
	[[ ${lines[-1]} == \
	    "-ERR [IN-USE] another session has had the mailbox for "* ]]
	[ $((($(date +%s%N) - begin) / 1000000)) -lt 60000 ]
	[ -n "${SANITIZER-}" ] ||
	    [ "$(sed -n 's/VmHWM:[^0-9]*\([0-9]*\).*/\1/p' \
		"/proc/$session/status")" -lt 16384 ]
	if long; then
		begin=$SECONDS
		pop_patience=600 pop_hear '^\+OK 1 messages'
		echo "# 1 TiB of holes: $((SECONDS - begin)) s" >&3
		pop_ask "LIST 1" "^\\+OK 1 109951162[0-9]*$"
		pop_ask QUIT
	fi
	# If the session is killed, its client gets no answer, and its locks are
	# released.
	if ! long; then
		kill -KILL "$session"
		pop_hear_end
		log_has 'fatal .*session was ended by signal 9'
	fi
	kpopd_ends 5
	[ "$(stat -c %s /var/mail/alice)" -eq 1099511627776 ]
	spool_kept
}

# bats test_tags=catalogue:62
@test "kpopd reads and removes messages before and after a gap of 5 GiB" {
	# The mailbox is mostly a hole, so it takes little of the disk.
	long && room=12 || room=1
	on_disk
	[ "$(df --output=avail -B1G "$disk" | tail -n 1)" -ge $room ] ||
	    skip "less than $room GiB free"
	{ mbox one; from_line; printf 'Subject: hole\n\n'; } >"$disk/alice"
	begin=$(stat -c %s "$disk/alice")
	truncate -s $((5 << 30)) "$disk/alice"
	{ printf '\n\n'; mbox last; } >>"$disk/alice"
	chown alice "$disk/alice"
	file=$(spool_file "$disk/alice")
	spool_mark
	run pop alice STAT LIST "RETR 3" QUIT
	[[ $output == *"+OK 3 messages"*"+OK 3 53687"*"Subject: last"* ]]
	[[ $output == *"+OK bye, 3 messages left" ]]
	spool_kept
	log_says_quits "1 0 3"
	run pop alice "RETR 3" "DELE 3" QUIT
	[[ $output == \
	    *"+OK 3 messages"*"Subject: last"*"+OK bye, 2 messages left" ]]
	[ "$(stat -c %s "$disk/alice")" -eq $(((5 << 30) + 2)) ]
	# If the first message is removed, kpopd must move all later bytes.
	if long; then
		printf '%s\r\n' "USER alice" "PASS x" "DELE 1" QUIT |
		    kpopc mail.kpopd.test | grep '^+OK bye, 1 messages left'
		[ "$(stat -c %s "$disk/alice")" \
		    -eq $(((5 << 30) + 2 - $(mbox one | wc -c))) ]
		cmp <(head -c "$begin" "$disk/alice" | head -n 3) \
		    <(from_line; printf 'Subject: hole\n\n')
		no_journal
	else
		pop_login alice
		pop_ask "DELE 1"
		pop_cut
		log_has 'logout .* reason=lost .* deleted=0 left=2 '
	fi
	[ "$(spool_file "$disk/alice")" = "$file" ]
	log_says_no_trouble
}

# two_mailboxes: makes spools for alice and bob. The mode of bob's spool lets
# alice read and write it, so only kpopd's own checks protect bob's mail.
two_mailboxes() {
	mbox one two | store alice
	mbox secret private | store bob
	chmod 666 /var/mail/bob
	cp /etc/shadow "$WORLD/shadow"
	shadow=$(spool_file /etc/shadow)
}

# others_are_kept: returns true if bob's spool and /etc/shadow are the same as
# after two_mailboxes.
others_are_kept() {
	spool_is bob secret private
	cmp "$WORLD/shadow" /etc/shadow &&
	    [ "$(spool_file /etc/shadow)" = "$shadow" ]
}

# bats test_tags=catalogue:67,catalogue:68,catalogue:69,catalogue:71,catalogue:72
@test "kpopd refuses links, FIFOs, directories, sockets and files of other owners as a mailbox" {
	two_mailboxes
	for target in /etc/shadow /var/mail/bob /dev/null /dev/zero /nowhere \
	    alice "$WORLD"; do
		ln -sfn "$target" /var/mail/alice
		chown -h alice /var/mail/alice
		opens_not SYS/PERM \
		    'opening the mailbox" error="it is a symlink" mailbox=/var/mail/alice$'
		[ "$(readlink /var/mail/alice)" = "$target" ]
		rm /var/mail/alice
	done
	[ ! -e /nowhere ]
	# Try a hard link to bob's spool, and then one to a spool of alice.
	ln /var/mail/bob /var/mail/alice
	opens_not SYS/PERM "another owner, uid $(id -u bob)\" mailbox="
	rm /var/mail/alice
	mbox one two | store alice
	ln /var/mail/alice /var/mail/copy
	opens_not SYS/PERM 'more than one link'
	spool_is alice one two
	rm /var/mail/copy /var/mail/alice
	mkfifo -m 666 /var/mail/alice
	chown alice /var/mail/alice
	opens_not SYS/PERM 'not a regular file'
	[ -p /var/mail/alice ]
	rm /var/mail/alice
	mkdir -m 777 /var/mail/alice
	mbox one >/var/mail/alice/one
	chown -R alice /var/mail/alice
	opens_not SYS/PERM 'not a regular file'
	cmp /var/mail/alice/one <(mbox one)
	rm -r /var/mail/alice
	perl -MSocket -e 'socket my $s, PF_UNIX, SOCK_STREAM, 0;
	    bind $s, sockaddr_un("/var/mail/alice") or die'
	chown alice /var/mail/alice
	opens_not SYS/PERM 'not a regular file'
	rm /var/mail/alice
	mbox one two | store alice
	for owner in bob root; do
		chown $owner /var/mail/alice
		chmod 666 /var/mail/alice
		opens_not SYS/PERM "another owner, uid $(id -u $owner)\" mailbox=/var/mail/alice$"
		spool_is alice one two
	done
	others_are_kept
}

@test "the log names a mailbox of root that the user cannot read, and a spool directory that the user cannot search" {
	mbox one | store alice
	chown root /var/mail/alice
	chmod 600 /var/mail/alice
	opens_not SYS/PERM 'opening the mailbox" error="it has another owner, uid 0" mailbox=/var/mail/alice$'
	chown alice /var/mail/alice
	spool_mode=$(stat -c %a /var/mail)
	chmod 700 /var/mail
	opens_not SYS/TEMP 'searching the mailbox directory" error="Permission denied" mailbox=/var/mail/alice$'
	chmod "$spool_mode" /var/mail
	echo junk >/var/mail/alice
	opens_not SYS/PERM 'reading the mailbox" error="it does not begin with a From line" mailbox=/var/mail/alice$'
}

# bats test_tags=catalogue:70
@test "kpopd refuses a device as a mailbox" {
	# The devices are /dev/null, zero, full and tty, and a disk that does
	# not exist.
	for device in 'c 1 3' 'c 1 5' 'c 1 7' 'c 5 0' 'b 99 99'; do
		# shellcheck disable=SC2086
		mknod -m 666 /var/mail/alice $device
		chown alice /var/mail/alice
		opens_not SYS/PERM 'opening the mailbox'
		rm /var/mail/alice
	done
	mbox one | store alice
	mount --bind /dev/null /var/mail/alice
	opens_not SYS/PERM 'opening the mailbox'
	umount /var/mail/alice
	spool_is alice one
}

# bats test_tags=catalogue:73-1,catalogue:73-2
@test "kpopd opens a mailbox only if its owner may read and write it, and keeps its mode" {
	for mode in 000 040 444 400 200; do
		mbox one two | store alice
		chmod $mode /var/mail/alice
		opens_not SYS/PERM 'Permission denied'
		[ "$(stat -c %a /var/mail/alice)" -eq $((10#$mode)) ]
	done
	for mode in 600 660 666 777; do
		mbox one two | store alice
		chmod $mode /var/mail/alice
		log_mark
		removes 1
		[ "$(stat -c %a /var/mail/alice)" -eq $mode ]
		log_says_quits "0 1 1"
	done
}

# swapped_login: logs in as alice. Returns true if kpopd answers with alice's
# mail, with no mail, or with a temporary error that it logs. Counts the logins
# with alice's mail in $WORLD/good.
swapped_login() {
	log_mark
	pop alice "RETR 1" "DELE 7" "RETR 2" QUIT >"$WORLD/answer" || true
	cat "$WORLD/answer"
	refute grep -aq 'secret\|private' "$WORLD/answer" || return
	if grep -q '^-ERR \[SYS/' "$WORLD/answer"; then
		log_has 'failed .*what="opening the mailbox" error=' &&
		    log_has 'logout .* reason=unavailable$'
		return
	fi
	grep -q '^+OK 2 messages' "$WORLD/answer" || {
		grep -q '^+OK 0 messages\|^-ERR \[IN-USE\]' "$WORLD/answer"
		return
	}
	echo $(($(cat "$WORLD/good") + 1)) >"$WORLD/good"
	diff \
	    <(grep -a ' line ' "$WORLD/answer") <(make_message one |
		grep ' line '; make_message two | grep ' line ')
}

# bats test_tags=catalogue:74
@test "while alice's mailbox is replaced again and again by links to bob's, kpopd shows no mail of bob's and loses none" {
	two_mailboxes
	mbox one two >"$WORLD/spool"
	file=$(spool_file)
	login_begin=$log_begin
	echo 0 >"$WORLD/good"
	perl "$BATS_TEST_DIRNAME/programs/swap.pl" >"$WORLD/held" 3>&- &
	holder=$!
	await 5 "grep -q held $WORLD/held"
	long && tries=2000 || tries=100
	for _ in $(seq $tries); do
		count_point swapped_login
	done
	[ "$(cat "$WORLD/good")" -ge 1 ]
	points_are_good "logins to a mailbox that is being swapped" $tries
	kill "$holder"
	wait "$holder" 2>/dev/null || true
	holder=
	cd /var/mail
	[ ! -e real ] || mv -f real alice
	cmp "$WORLD/spool" /var/mail/alice
	[ "$(spool_file alice)" = "$file" ]
	others_are_kept
	log_begin=$login_begin
	log_lacks 'fatal|signal'
}

# copy_in_place: moves alice's spool to /var/mail/moved, and puts a copy at its
# old path.
copy_in_place() {
	ln /var/mail/alice /var/mail/moved
	cp -p --remove-destination /var/mail/alice /var/mail/alice.2
	mv /var/mail/alice.2 /var/mail/alice
}

# bats test_tags=catalogue:75-1
@test "QUIT removes nothing if the mailbox was replaced during the session" {
	two_mailboxes
	for swap in 'ln -sfn /var/mail/bob /var/mail/alice' \
	    'rm /var/mail/alice' 'mv /var/mail/alice /var/mail/moved' \
	    'ln -f /var/mail/bob /var/mail/alice' \
	    'rm /var/mail/alice; mkdir /var/mail/alice' \
	    'rm /var/mail/alice; mkfifo /var/mail/alice' \
	    'copy_in_place'; do
		rm -rf /var/mail/alice /var/mail/moved
		mbox one two | store alice
		log_mark
		pop_login alice
		pop_ask "DELE 1"
		eval "$swap"
		spool_mark
		# The session still reads the file that it has opened.
		pop_say "RETR 2"
		pop_hear_lines
		[[ ${lines[*]} == *"Subject: two"* ]]
		pop_ask QUIT '^-ERR (some deleted messages not removed|\[SYS/TEMP\] nothing removed|\[IN-USE\])'
		pop_hear_end
		spool_kept
		log_has 'failed .*another program (replaced|changed) the mailbox|failed .*what="locking the mailbox"'
		log_has 'logout .* reason=quit retrieved=1 .* deleted=0 left=2 '
		[ ! -e /var/mail/moved ] || cmp /var/mail/moved <(mbox one two)
		[ ! -f /var/mail/alice ] || [ -L /var/mail/alice ] ||
		    cmp /var/mail/alice <(mbox one two) ||
		    spool_is alice secret private
		others_are_kept
	done
}

# large_message LINES: prints a message that does not fit into the buffers
# between server and client.
large_message() {
	from_line
	printf 'Subject: large\n\n'
	yes 'one of many lines of some length, so that the client has to wait' |
	    head -n "$1"
	echo
}

# begin_large N: logs in as alice and begins to retrieve message N, which
# large_message has made. Returns when the session is waiting because the client
# reads nothing.
begin_large() {
	pop_login alice
	pop_say "RETR $1"
	pop_hear '^\+OK [0-9]+ octets'
	session=$(child_pid)
	await 5 has_blocked_writer
}

# bats test_tags=catalogue:75-3
@test "RETR ends without its dot if the mailbox shrinks before the message is sent" {
	for shrink in 'truncate -s 100000 /var/mail/alice' \
	    ': >/var/mail/alice' 'mbox last >/var/mail/alice'; do
		{ large_message 800000; mbox last; } | store alice
		begin_large 1
		eval "$shrink"
		spool_mark
		timeout 20 cat <&"$pop_in" >"$WORLD/rest"
		refute grep -qx $'\\.\r' "$WORLD/rest"
		[ "$(stat -c %s "$WORLD/rest")" -lt 40000000 ]
		pop_close
		spool_kept
		log_has 'logout .*reason=changed'
		log_mark
	done
}

@test "RETR ends without its dot if bytes move in the mailbox before the message is sent" {
	local keywords
	# The added field is as long as a line of the message. So RETR does not
	# notice the change by a lack of bytes.
	keywords="X-Keywords: "
	keywords+=$(large_message 1 | sed -n '4s/./k/gp' | cut -c 13-)
	for moved in first large; do
		{ mbox first; large_message 800000; mbox last; } | store alice
		log_mark
		begin_large 2
		# A mail reader that adds a keyword moves all later bytes within
		# the same file.
		sed "0,/^Subject: $moved/s//$keywords\\n&/" /var/mail/alice \
		    >"$WORLD/moved"
		cat "$WORLD/moved" 1<>/var/mail/alice
		spool_mark
		timeout 20 cat <&"$pop_in" >"$WORLD/rest"
		refute grep -qx $'\\.\r' "$WORLD/rest"
		pop_close
		spool_kept
		log_has 'logout .*reason=changed'
	done
}

# bats test_tags=catalogue:75-4
@test "RETR sends the message as it was if mail arrives or the mailbox is replaced meanwhile" {
	for change in 'make_message late | deliver alice' \
	    'mv /var/mail/alice /var/mail/moved' 'rm /var/mail/alice'; do
		large_message 800000 | store alice
		log_mark
		begin_large 1
		eval "$change"
		large_message 800000 | tail -n +2 | head -n -1 |
		    sed 's/$/\r/' >"$WORLD/wanted"
		head -c "$(stat -c %s "$WORLD/wanted")" <&"$pop_in" \
		    >"$WORLD/rest"
		cmp "$WORLD/rest" "$WORLD/wanted"
		pop_hear '^\.$'
		spool_mark
		pop_ask QUIT
		pop_hear_end
		spool_kept
		log_says_quits "1 0 1"
	done
}

# bats test_tags=catalogue:75-5
@test "kpopd neither serves nor removes a message that is edited in place with the same size" {
	mbox one two three | store alice
	pop_login alice
	pop_ask "DELE 2"
	pop_ask "DELE 3"
	mbox one TWO three >/var/mail/alice
	file=$(spool_file)
	pop_ask "RSET"
	pop_ask "RETR 2" '^-ERR \[SYS/TEMP\] another program'
	pop_ask "DELE 2"
	pop_ask "DELE 3"
	pop_ask QUIT '^-ERR some deleted messages not removed'
	pop_hear_end
	spool_is alice one TWO
	[ "$(spool_file)" = "$file" ]
	log_has 'failed .*what="reading message 2" error="another program changed the mailbox"'
	log_has 'failed .*what="removing messages" error="another program changed the mailbox"'
	log_has 'logout .* reason=quit retrieved=0 .* deleted=1 left=2 '
}

# bats test_tags=catalogue:76-1
@test "kpopd refuses an immutable mailbox, and finishes a removal when the mailbox is no longer immutable" {
	on_disk
	mbox one two three >"$disk/alice"
	chown alice "$disk/alice"
	chattr +i "$disk/alice" || skip "this file system has no such attribute"
	opens_not SYS/PERM 'not permitted'
	chattr -i "$disk/alice"
	chattr +a "$disk/alice"
	opens_not SYS/PERM 'not permitted'
	chattr -a "$disk/alice"
	cmp "$disk/alice" <(mbox one two three)
	for attribute in i a; do
		# To remove all messages, kpopd needs no journal.
		mbox one two three >"$disk/alice"
		pop_login alice
		for n in 1 2 3; do pop_ask "DELE $n"; done
		chattr +$attribute "$disk/alice"
		spool_mark
		pop_ask QUIT '^-ERR \[SYS/TEMP\] nothing removed'
		pop_hear_end
		spool_kept
		log_has 'failed .*what="truncating the mailbox" error="Operation not permitted"'
		chattr -$attribute "$disk/alice"
		cmp "$disk/alice" <(mbox one two three)
		# If only some messages are removed, the removal is already
		# decided when it fails.
		pop_login alice
		pop_ask "DELE 2"
		file=$(spool_file "$disk/alice")
		chattr +$attribute "$disk/alice"
		log_mark
		pop_ask QUIT \
		    '^-ERR \[SYS/TEMP\] deleted messages may not be removed yet'
		pop_hear_end
		kpopd_ends 5
		log_has 'failed .*what="(writing|truncating) the mailbox" error="Operation not permitted"'
		opens_not SYS/PERM 'not permitted'
		chattr -$attribute "$disk/alice"
		run pop alice QUIT
		[[ $output == *"+OK 2 messages"* ]]
		cmp "$disk/alice" <(mbox one three)
		[ "$(spool_file "$disk/alice")" = "$file" ]
		log_has 'recovery .*state=j(\.cut)?$'
		no_journal
	done
}

# bats test_tags=catalogue:76-2
@test "kpopd refuses a read-only mailbox; QUIT reports that nothing is removed from one that became read-only" {
	mbox one two three | store alice
	mount --bind /var/mail /var/mail
	mount -o remount,bind,ro /var/mail
	opens_not SYS/PERM 'Read-only'
	umount /var/mail
	pop_login alice
	pop_ask "DELE 1"
	mount --bind /var/mail /var/mail
	mount -o remount,bind,ro /var/mail
	pop_say "RETR 2"
	pop_hear_lines
	[[ ${lines[*]} == *"Subject: two"* ]]
	pop_ask QUIT '^-ERR \[SYS/TEMP\] nothing removed'
	pop_hear_end
	spool_kept
	umount /var/mail
	log_has \
	    'failed .*what="locking the mailbox" error="Read-only file system" mailbox=/var/mail/alice$'
	log_has 'logout .* reason=quit retrieved=1 .* deleted=0 left=3 '
	spool_is alice one two three
	no_journal
	removes 1
}

# bats test_tags=catalogue:66-4
@test "kpopd refuses a login at once if the dotlock is a FIFO or a directory" {
	mbox one two | store alice
	for make in 'mkfifo -m 666' 'mkdir'; do
		$make /var/mail/alice.lock
		forget_index
		log_mark
		pop_open
		pop_hear '^\+OK'
		pop_ask "USER alice"
		pop_ask "PASS x" \
		    '^-ERR \[SYS/TEMP\] the mailbox cannot be opened now$'
		pop_hear_end
		log_has 'failed .*locking the mailbox.*File exists'
		log_mark
		rm -r /var/mail/alice.lock
		pop_login alice
		pop_ask "DELE 1"
		$make /var/mail/alice.lock
		spool_mark
		pop_ask QUIT '^-ERR \[SYS/TEMP\] nothing removed'
		pop_hear_end
		spool_kept
		log_has 'failed .*locking the mailbox.*File exists'
		rm -r /var/mail/alice.lock
		spool_is alice one two
	done
	kpopd_ends 5
}

# bats test_tags=catalogue:66-3
@test "kpopd removes an old dotlock of a dead process, and waits for one whose time is in the future" {
	mbox one two | store alice
	spool_mark
	true & dead=$!
	wait $dead
	echo $dead >/var/mail/alice.lock
	touch -d '-1 year' /var/mail/alice.lock
	forget_index
	log_mark
	pop alice QUIT >"$WORLD/answer"
	grep -q '^+OK 2 messages' "$WORLD/answer"
	[ ! -e /var/mail/alice.lock ]
	log_says_quits "0 0 2"
	spool_kept
	for text in '' $dead; do
		waits_for_future_dotlock "$text"
	done
}

# waits_for_future_dotlock TEXT: makes a dotlock with this text and a time in
# the future. Returns true if a login waits for that dotlock.
waits_for_future_dotlock() {
	echo "$1" >/var/mail/alice.lock
	touch -d '+1 year' /var/mail/alice.lock
	forget_index
	log_mark
	pop_open
	pop_hear '^\+OK'
	pop_ask "USER alice"
	pop_say "PASS x"
	if long; then
		pop_patience=60 pop_hear \
		    '^-ERR \[IN-USE\] another program has locked the mailbox$'
		pop_hear_end
		log_has 'failed .*what="locking the mailbox" error="Resource temporarily unavailable"'
		rm /var/mail/alice.lock
	else
		# The login waits until the dotlock is removed. A pause is the
		# only way to show that no answer comes.
		pop_patience=1 refute pop_hear '' 2>/dev/null
		rm /var/mail/alice.lock
		pop_hear '^\+OK 2 messages'
		pop_ask QUIT
		pop_hear_end
	fi
	spool_is alice one two
	spool_kept
}

# make_k5login 'COMMAND': makes alice's .k5login with the command, and makes
# alice the owner of that file.
make_k5login() {
	rm -rf /home/alice/.k5login
	eval "$1"
	chown -h alice /home/alice/.k5login
}

# bats test_tags=catalogue:77-3
@test "kpopd refuses the login if .k5login is huge, endless, a device, a directory or a loop" {
	server_stop
	server_start -t 8
	mbox one | store alice
	spool_mark
	cd /home/alice
	# With these files the login lasts until its deadline.
	hanging=('truncate -s 1G .k5login' 'ln -s /dev/zero .k5login')
	long && hanging+=('mkfifo .k5login' 'ln -s /dev/full .k5login')
	for make in "${hanging[@]}" \
	    'yes bob@KPOPD.TEST | head -c 1000000 >.k5login' \
	    'head -c 1000000 /dev/zero | tr "\0" x >.k5login' \
	    'mkdir .k5login' 'ln -s .k5login .k5login' \
	    'ln -s /etc/shadow .k5login' 'ln -s /var/mail/alice .k5login' \
	    'printf "alice@KPOPD.TEST\0\n" | sed "s/^/x/" >.k5login' \
	    'printf "alice@KPOPD.TEST.\n" >.k5login' ': >.k5login'; do
		make_k5login "$make"
		log_mark
		begin=$SECONDS
		run pop alice STAT QUIT
		[[ $output != *messages* ]] ||
		    { echo "let in: $make"; return 1; }
		[ $((SECONDS - begin)) -lt 40 ]
		log_has 'refused .*reason="(not permitted to be this user"|login deadline, session killed")'
		log_lacks 'login peer'
	done
	kpopd_ends 5
	spool_kept
	# A good file at the target of such a symlink works.
	echo alice@KPOPD.TEST >elsewhere
	chown alice elsewhere
	make_k5login 'ln -s elsewhere .k5login'
	run pop alice QUIT
	[[ $output == *"+OK 1 messages"* ]]
	log_has 'login .*by=k5login'
}

# bats test_tags=catalogue:78-2
@test "kpopd refuses the login if it cannot determine whether there is a .k5login" {
	mbox one | store alice
	make_k5login 'echo bob@KPOPD.TEST >/home/alice/.k5login'
	is_refused
	chmod 000 /home/alice
	is_refused
	log_has 'failed .*what="looking for [^"]+\.k5login" error="Permission denied"'
	chmod 755 /home/alice
	[ -z "${SANITIZER-}" ] || return 0
	# These are the errors of a file server that fails.
	for error in EIO ESTALE ETIMEDOUT EACCES; do
		log_mark
		pop_open
		pop_hear '^\+OK'
		attach "$(monitor_pid)" -f -o /dev/null \
		    -P /home/alice/.k5login \
		    -e "inject=access,faccessat,faccessat2,open,openat:error=$error"
		pop_ask "USER alice"
		pop_ask "PASS x" \
		    '^-ERR \[AUTH\] this ticket does not open that mailbox$'
		pop_hear_end
		detached
		log_has 'failed .*what="looking for [^"]+\.k5login"'
		log_lacks 'login peer'
	done
	# Without a home directory there is no .k5login. Neither is there one if
	# the home directory is a file.
	mv /home/alice /home/gone
	run pop alice QUIT
	touch /home/alice
	pop alice QUIT >"$WORLD/answer"
	rm /home/alice
	mv /home/gone /home/alice
	[[ $output == *"+OK 1 messages"* ]]
	grep -q '^+OK 1 messages' "$WORLD/answer"
	log_has 'login .*by=localname'
	spool_kept
}

# make_journal USER: makes $WORLD/USER.j, the journal of a removal that is
# decided but has not changed the mailbox yet.
make_journal() {
	local session monitor
	mbox "$1-one" "$1-two" "$1-three" | store "$1"
	pop_login "$1"
	pop_ask "DELE 2"
	session=$(child_pid) monitor=$(monitor_pid)
	hold_next_broker
	attach "$session" -o /dev/null -e trace=fsync \
	    -e inject=fsync:signal=KILL:when=2
	pop_say QUIT
	pop_patience=5 refute pop_hear '.' 2>/dev/null
	pop_close
	detached
	kill_monitor
	kpopd_ends 5
	mv "$(kept "$1")/j" "$WORLD/$1.j"
	spool_is "$1" "$1-one" "$1-two" "$1-three"
}

# ignores_journal NAME FILE: copies FILE to NAME in alice's state directory, and
# logs in. Returns true if the spool is unchanged and the journal no longer has
# this name.
ignores_journal() {
	# The broker of the session before looks for a journal when that session
	# has ended.
	kpopd_ends 5
	cp "$2" "$(kept)/$1"
	chown alice "$(kept)/$1"
	log_mark
	spool_mark
	run pop alice QUIT
	[[ ${lines[-1]} == "+OK bye, "* ]]
	spool_kept
	# Recovery discards a j.tmp. It renames any other journal that it does
	# not obey, so that an administrator can examine the file.
	[ "$1" = j.tmp ] ||
	    log_has "rescue .*file=rescue\\.[0-9.]+\\.$1 reason=.(damaged journal|another program rewrote the mailbox)"
	ls "$(kept)" | refute grep '^j'
}

# bats test_tags=catalogue:79-2
@test "recovery removes nothing if the journal is another user's, is of an older mailbox, or is damaged" {
	[ -z "${SANITIZER-}" ] || skip "ASan's own system calls are in the way"
	server_stop
	server_start -l fcntl
	as_bob make_journal bob
	make_journal alice
	size=$(stat -c %s "$WORLD/alice.j")
	for name in j j.cut j.tmp; do
		ignores_journal $name "$WORLD/bob.j"
		spool_is alice alice-one alice-two alice-three
		for length in 0 1 7 8 100 4095 4096 $((size - 1)); do
			head -c "$length" "$WORLD/alice.j" >"$WORLD/part"
			ignores_journal $name "$WORLD/part"
			spool_is alice alice-one alice-two alice-three
		done
		{ cat "$WORLD/alice.j"; echo more; } >"$WORLD/part"
		ignores_journal $name "$WORLD/part"
		spool_is alice alice-one alice-two alice-three
	done
	# Change one byte of the head.
	for at in 0 8 16 24 32 40 60 100 150 191; do
		perl -0777 \
		    -pe 'BEGIN { $at = shift } substr($_, $at, 1) ^= "\x01"' \
		    "$at" "$WORLD/alice.j" >"$WORLD/part"
		ignores_journal j "$WORLD/part"
		spool_is alice alice-one alice-two alice-three
	done
	# A move to another disk leaves a copy of the mailbox in a new file.
	# This copy still matches the journal.
	cp -p --remove-destination /var/mail/alice "$WORLD/copy"
	mv "$WORLD/copy" /var/mail/alice
	kpopd_ends 5
	cp -p "$WORLD/alice.j" "$(kept)/j"
	pop alice QUIT
	spool_is alice alice-one alice-three
	# A mailbox with other content does not match.
	mbox alice-four | store alice
	ignores_journal j.cut "$WORLD/alice.j"
	spool_is alice alice-four
	# Recovery obeys bob's journal in bob's own state directory.
	spool_is bob bob-one bob-two bob-three
	cp -p "$WORLD/bob.j" "$(kept bob)/j"
	log_mark
	file=$(spool_file /var/mail/bob)
	as_bob pop bob QUIT
	spool_is bob bob-one bob-three
	[ "$(spool_file /var/mail/bob)" = "$file" ]
	log_has 'recovery .*state=j$'
}

# bats test_tags=catalogue:79-5
@test "kpopd does not hang and follows no link if the state directory contains FIFOs, links and directories" {
	two_mailboxes
	pop alice QUIT
	echo precious >"$WORLD/precious"
	chown alice "$WORLD/precious"
	own=$(kept)
	# Earlier versions kept these files in the user's directory.
	for name in "$own"/{j,j.cut,j.tmp,session} \
	    "$state/users/$uid"/{j,j.tmp,session}; do
		for make in 'mkfifo' 'ln -s /etc/passwd' \
		    "ln -s $WORLD/precious" 'ln -s /dev/zero' 'ln -s nowhere' \
		    'mkdir' 'ln -s /var/mail/bob'; do
			rm -rf "${state:?}/users/$uid"/*
			mkdir -m 700 "$own"
			[ "${name%/*}" = "$own" ] ||
			    touch "$state/users/$uid/session"
			[ "${name##*/}" != session ] ||
			    rm -f "$state/users/$uid/session"
			bash -c "$make '$name'"
			chown -hR alice "$state/users/$uid"
			pop_open
			pop_hear '^\+OK'
			pop_ask "USER alice"
			log_mark
			spool_mark
			pop_ask "PASS x" '^(\+OK 2 messages|-ERR \[(SYS/TEMP|SYS/PERM|IN-USE)\])'
			if [[ $heard == +OK* ]]; then
				pop_ask "DELE 1"
				pop_ask QUIT '^(\+OK bye, 1|-ERR \[SYS/TEMP\])'
			fi
			pop_hear_end
			pop_close
			kpopd_ends 5
			case $heard in
			*'bye, 1'*)
				spool_is alice two
				mbox one two | store alice
				;;
			# A refusal is logged with its reason.
			*)
				spool_kept
				log_has 'failed .*error='
				log_has ' logout .* reason='
				;;
			esac
			# Once the file is removed, logins work.
			rm -rf "${state:?}/users/$uid"/*
			pop alice QUIT | grep -q '^+OK 2 messages'
		done
	done
	[ "$(cat "$WORLD/precious")" = precious ]
	others_are_kept
	log_lacks 'signal'
}
