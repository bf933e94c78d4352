#!/usr/bin/env bats
# Checks how kpopd serves a Maildir, in which other programs deliver and rename
# files at any time without locks. quota.bats tests the quota.

load helpers/all

box=/home/alice/Maildir
spool_place=$box

setup_file() { server_start -m maildir:~/Maildir; }

setup() {
	begin_test
	rm -rf "$box"
	realm_login alice
}

teardown() {
	umount -l "$box" 2>/dev/null || true
	umount -l "$WORLD/upper" 2>/dev/null || true
	rm -rf "$box" "$WORLD/lower" "$WORLD/upper"
	end_test
}

# as_alice COMMAND ...: runs the command as alice.
as_alice() {
	setpriv --reuid alice --regid alice --init-groups "$@"
}

# fill NAME ...: makes a Maildir. Puts the named messages into its directory
# "new", in this order.
fill() {
	local n=1700000000 name
	as_alice mkdir -m 700 "$box" "$box/tmp" "$box/new" "$box/cur"
	for name in "$@"; do
		make_message "$name" >"$box/new/$((n++)).M1P1.$name"
	done
	chown -R alice: "$box"
}

# fill_many COUNT FORMAT: adds small messages to the Maildir. The subjects are
# the numbers from 1 to COUNT. printf makes the file names from FORMAT and these
# numbers.
fill_many() {
	as_alice perl -e '
	    my ($maildir, $count, $format) = @ARGV;
	    chdir $maildir or die;
	    for my $n (1 .. $count) {
		open my $file, ">", sprintf($format, $n) or die;
		print $file "Subject: $n\n\nbody\n";
	    }' "$box" "$@"
}

# has NAME ...: returns true if the Maildir's "new" and "cur" contain exactly
# these messages, byte for byte.
has() {
	local name
	[ "$(find "$box/new" "$box/cur" -type f | wc -l)" -eq $# ] ||
	    { find "$box" >&2; return 1; }
	for name in "$@"; do
		cmp "$box"/*/*."$name"* <(make_message "$name") || return 1
	done
}

# wire_size FILE ...: prints the total size of these files in POP3.
wire_size() {
	sed 's/$/\r/' "$@" | wc -c
}

@test "a session on a Maildir has no broker, takes no lock and leaves the Maildir as it was" {
	fill one two
	before=$(find "$box" -printf '%P %i %s %T@ %C@ %m\n' | sort)
	pop_login alice
	[ -z "$(broker_pid)" ]
	pop_say "RETR 1"
	pop_hear_lines
	pop_ask QUIT
	pop_hear_end
	[ "$(find "$box" -printf '%P %i %s %T@ %C@ %m\n' | sort)" = "$before" ]
}

@test "kpopd serves an absent Maildir as an empty one, and creates it only if the option is maildir+create" {
	run pop alice STAT QUIT
	[[ $output == *"+OK 0 0"* ]]
	[ ! -e "$box" ]
	server_stop
	server_start -m maildir+create:~/Maildir
	run pop alice STAT QUIT
	[[ $output == *"+OK 0 0"* ]]
	[ "$(stat -c '%U %G %a' "$box" "$box/tmp" "$box/new" "$box/cur" |
	    sort -u)" = "alice alice 700" ]
}

@test "kpopd sends a message without a body as its file is, with or without the empty line after the header" {
	fill
	printf 'Message-ID: <1@kpopd.test>\nSubject: one\n\n' >"$box/new/1.a"
	printf 'Message-ID: <2@kpopd.test>\nSubject: two\n' >"$box/new/2.a"
	chown alice: "$box/new"/*
	printf '%s\r\n' "USER alice" "PASS x" LIST "RETR 1" "TOP 1 0" "RETR 2" \
	    "TOP 2 0" QUIT | kpopc mail.kpopd.test >"$WORLD/answers"
	one=$'Message-ID: <1@kpopd.test>\r\nSubject: one\r\n\r\n' \
	    two=$'Message-ID: <2@kpopd.test>\r\nSubject: two\r\n'
	sed '1,4d; /^+OK bye/d; s/^+OK top.*/+OK\r/' "$WORLD/answers" |
	    diff - <(
		printf '1 %s\r\n2 %s\r\n.\r\n' ${#one} ${#two}
		printf '+OK %s octets\r\n%s.\r\n+OK\r\n%s.\r\n' ${#one} "$one" \
		    "$one"
		printf '+OK %s octets\r\n%s.\r\n+OK\r\n%s.\r\n' ${#two} "$two" \
		    "$two")
}

# bats test_tags=catalogue:78-3
@test "kpopd answers -ERR if the home directory is missing, and serves no empty mailbox" {
	mv /home/alice /home/away
	run pop alice STAT QUIT
	mv /home/away /home/alice
	[[ ${lines[-1]} == "-ERR [SYS/TEMP]"* ]]
	log_has 'failed .*what="opening the mailbox directory [^"]*" error="No such file or directory"'
	log_has 'logout .* reason=unavailable$'
}

# bats test_tags=catalogue:80-1
@test "kpopd reads and removes messages whose flags a mail reader changes during the session" {
	fill one two three
	pop_login alice
	as_alice mv "$box/new/1700000001.M1P1.two" \
	    "$box/cur/1700000001.M1P1.two:2,S"
	pop_say "RETR 2"
	pop_hear_lines
	as_alice mv "$box/cur/1700000001.M1P1.two:2,S" \
	    "$box/cur/1700000001.M1P1.two:2,RS"
	as_alice mv "$box/new/1700000002.M1P1.three" \
	    "$box/cur/1700000002.M1P1.three:2,S"
	pop_ask "DELE 2"
	pop_ask QUIT '^\+OK bye, 2'
	pop_hear_end
	has one three
	[ "$(ls "$box/cur")" = "1700000002.M1P1.three:2,S" ]
	[ "$(stat -c '%U:%G %a' "$box" "$box"/*/ | sort -u)" = \
	    "alice:alice 700" ]
	log_says_quits "1 1 2"
}

# bats test_tags=catalogue:80-2
@test "kpopd answers -ERR to RETR and QUIT if another program has removed a message during the session" {
	fill one two three
	pop_login alice
	rm "$box/new/1700000000.M1P1.one"
	pop_ask "RETR 1" '^-ERR \[SYS/TEMP\] another program'
	pop_ask "DELE 1"
	pop_ask "DELE 2"
	pop_ask QUIT '^-ERR some deleted messages not removed'
	pop_hear_end
	has three
	log_has 'failed .*what="reading message 1" error="another program changed the mailbox"'
	log_has 'failed .*what="removing messages" error="another program changed the mailbox"'
	log_has 'logout .* reason=quit retrieved=0 .* deleted=1 left=2 '
}

@test "kpopd serves a Maildir that it cannot write to, and QUIT reports that nothing was removed" {
	fill one two
	mount --bind "$box" "$box"
	mount -o remount,bind,ro "$box"
	run pop alice "RETR 1" "DELE 1" QUIT
	kpopd_ends 5
	umount "$box"
	[[ $output == *"one line 3"*"-ERR [SYS/PERM] nothing removed" ]]
	has one two
	chmod 500 "$box/new"
	run pop alice "RETR 2" "DELE 1" QUIT
	[[ $output == *"two line 3"*"-ERR [SYS/PERM] nothing removed" ]]
	log_has 'failed .*what="removing messages" error="Permission denied"'
	has one two
}

# bats test_tags=catalogue:80-4
@test "kpopd refuses a Maildir of another owner, and a symlink or a file in place of a directory" {
	fill one
	chown bob "$box"
	chmod 777 "$box"
	opens_not SYS/PERM \
	    'opening the Maildir [^"]*" error="it has another owner'
	chown alice "$box"
	for part in cur new; do
		mv "$box/$part" "$box/elsewhere"
		ln -s elsewhere "$box/$part"
		opens_not SYS/PERM \
		    "opening the Maildir [^\"]*/$part\" error=\"Not a directory"
		rm "$box/$part"
		mv "$box/elsewhere" "$box/$part"
	done
	has one
	rm -r "$box"
	as_alice touch "$box"
	spool_place=/home/alice opens_not SYS/PERM \
	    'opening the Maildir [^"]*" error="Not a directory'
}

# bats test_tags=catalogue:80-3
@test "kpopd skips files that are not messages, serves the rest, and logs how many files it has skipped" {
	fill one
	echo x >"$box/new/2.a"$'\n'b
	echo x >"$box/cur/3."$'\001'
	ln -s /etc/shadow "$box/cur/4.link"
	mkfifo "$box/new/5.fifo"
	mkdir "$box/new/6.directory"
	echo x >"$box/new/7.closed"
	chmod 0 "$box/new/7.closed"
	chown -hR alice: "$box"
	spool_mark
	run pop alice STAT QUIT
	[[ $output == *"+OK 1 "*"+OK bye, 1 messages left" ]]
	spool_kept
	run pop alice STAT "DELE 1" QUIT
	[[ $output == *"+OK 1 "*"+OK bye, 0 messages left" ]]
	# Only the message is gone, and only the directory "new" has other
	# times.
	diff <(grep -v '\.one\|^\./new ' <<<"$spool_then") \
	    <(spool_now | grep -v '^\./new ')
	log_has 'skipped .*files=6 reason="not a regular file, not readable, or a control character in the name" mailbox=/home/alice/Maildir$'
	log_has 'logout .* reason=quit retrieved=0 .* deleted=1 left=0 '
	log_lacks '[^ -~]'
}

# bats test_tags=catalogue:80-7
@test "kpopd serves a message with names in new and cur once, removes both, and keeps a link elsewhere" {
	fill one two
	as_alice ln "$box/new/1700000000.M1P1.one" \
	    "$box/cur/1700000000.M1P1.one:2,S"
	as_alice ln "$box/new/1700000001.M1P1.two" /home/alice/backup
	run pop alice STAT "DELE 1" "DELE 2" QUIT
	[[ $output == *"+OK 2 "*"+OK bye, 0 messages left" ]]
	has
	cmp /home/alice/backup <(make_message two)
	rm /home/alice/backup
}

# bats test_tags=catalogue:80-8
@test "kpopd serves a message as soon as its file becomes readable, though the directory has not changed" {
	fill one two
	chmod 600 "$box"/new/*.two
	chown root "$box"/new/*.two
	run pop alice STAT QUIT
	[[ $output == *"+OK 1 "* ]]
	# Wait until the directory has a stable fingerprint.
	touch -d '1 hour ago' "$box/new"
	await 5 \
	    '[ "$(($(date +%s%N) - $(stat -c %.9Z "$box/new" | tr -d .)))" -gt 100000000 ]'
	run pop alice STAT QUIT
	[[ $output == *"+OK 1 "* ]]
	chown alice "$box"/new/*.two
	run pop alice STAT QUIT
	[[ $output == *"+OK 2 "* ]]
}

# change_in_place NAME: appends ten lines to the message's file. Copies the
# changed message to $WORLD/changed.
change_in_place() {
	{ cat "$box"/*/*."$1"* && seq 10; } >"$WORLD/changed"
	seq 10 | as_alice sh -c 'cat >>"$1"' sh "$box"/*/*."$1"*
}

# gets_changed NUMBER: returns true if RETR sends the message in $WORLD/changed.
# Its answer must contain the size of that message, and the final dot must
# follow the message.
gets_changed() {
	pop_ask "RETR $1" "^\+OK $(wire_size "$WORLD/changed") octets"
	lines=()
	while pop_hear '' && [ "$heard" != . ]; do
		lines+=("$heard")
	done
	[ "$heard" = . ]
	printf '%s\n' "${lines[@]}" | cmp - "$WORLD/changed"
}

# bats test_tags=catalogue:80-5
@test "kpopd sends a message that was changed in place whole, and STAT counts the new size" {
	fill one two
	pop alice STAT QUIT
	change_in_place two
	pop_login alice
	pop_ask STAT \
	    "^\+OK 2 $(wire_size <(make_message one) "$WORLD/changed")\$"
	gets_changed 2
	# The second change is made during the session.
	change_in_place one
	gets_changed 1
	pop_ask STAT "^\+OK 2 $(wire_size "$WORLD/changed" "$box"/*/*.two)\$"
	pop_ask "DELE 1"
	change_in_place two
	pop_ask "DELE 2"
	pop_ask QUIT '^-ERR some deleted messages not removed'
	pop_hear_end
	cmp "$box"/new/*.two "$WORLD/changed"
	[ ! -e "$box"/new/*.one ]
	run pop alice "DELE 1" QUIT
	[[ $output == *"+OK bye, 0 messages left" ]]
}

@test "kpopd sends one changed message of a thousand whole, and the next session lists its new size" {
	fill
	fill_many 1000 new/%d.a
	make_message one |
	    as_alice tee "$box/new/1700000000.M1P1.one" >/dev/null
	pop alice STAT QUIT
	change_in_place one
	pop_login alice
	gets_changed 1001
	pop_ask "LIST 1001" "^\+OK 1001 $(wire_size "$WORLD/changed")\$"
	pop_ask QUIT
	pop_hear_end
	run pop alice STAT "LIST 1001" QUIT
	[[ $output == *"+OK 1001 $(wire_size "$box"/new/*)"* &&
	    $output == *"+OK 1001 $(wire_size "$WORLD/changed")"$'\n'* ]]
}

# bats test_tags=catalogue:80-6
@test "kpopd ends the connection without the final dot if a message changes while it is sent" {
	fill
	{ printf 'Subject: big\n\n'; yes 'a line of text' | head -n 4000000; } |
	    as_alice tee "$box/new/1.big" >/dev/null
	pop_login alice
	pop_ask "RETR 1"
	for n in $(seq 10); do pop_hear ''; done
	# The size stays the same, so only the file's times show the change.
	printf b | as_alice dd of="$box/new/1.big" bs=1 seek=50000000 \
	    conv=notrunc status=none
	timeout 20 cat <&"$pop_in" | tail -c 100 >"$WORLD/rest"
	[ -s "$WORLD/rest" ]
	[ "$(tail -n 1 "$WORLD/rest" | tr -d '\r')" != . ]
	log_has 'logout .* reason=changed '
}

# bats test_tags=catalogue:80-10
@test "kpopd serves a Maildir on an overlay, where files have other device numbers than their directory" {
	local upper=$WORLD/upper
	mkdir -p "$WORLD/lower/tmp" "$WORLD/lower/new" "$WORLD/lower/cur" \
	    "$upper" "$box"
	mount -t tmpfs kpopd "$upper"
	mkdir "$upper/files" "$upper/work"
	for name in one two three; do
		make_message $name \
		    >"$WORLD/lower/new/17000000${#name}.M1P1.$name"
	done
	chown -R alice: "$WORLD/lower" "$upper/files" "$box"
	mount -t overlay kpopd "$box" -o \
	    "lowerdir=$WORLD/lower,upperdir=$upper/files,workdir=$upper/work"
	make_message four |
	    as_alice tee "$box/new/1800000000.M1P1.four" >/dev/null
	# The test needs an overlay on which files and directories have
	# different device numbers.
	[ "$(stat -c %d "$box"/new/*.one)" != "$(stat -c %d "$box/new")" ]
	for again in 1 2; do
		pop_login alice
		for n in 1 2 3 4; do
			pop_say "RETR $n"
			pop_hear_lines
			[ "$heard" = . ]
		done
		pop_ask QUIT
		pop_hear_end
	done
	run pop alice "DELE 1" "DELE 4" QUIT
	[[ $output == *"+OK bye, 2 messages left" ]]
	[ "$(ls "$box/new" | wc -l)" -eq 2 ]
	[ ! -e "$box"/new/*.four ]
}

# bats test_tags=catalogue:80-11
@test "no login misses a message while another program changes flags without a pause" {
	fill
	fill_many 1000 cur/%d.M1.host:2,
	as_alice perl "$BATS_TEST_DIRNAME/programs/maildir-flags.pl" "$box" \
	    1000 3>&- &
	reader=$!
	await 5 '[ -n "$(find "$box/cur" -name "*,[SRF]*" -print -quit)" ]'
	for n in $(seq 30); do
		run pop alice STAT "RETR $n" QUIT
		[[ $output == *"+OK 1000 "*"Subject: $n"* &&
		    $output == *"+OK bye, 1000 messages left" ]]
	done
	# The program still runs, so it has changed flags during all logins.
	kill -0 $reader
	touch "$box/stop"
	wait $reader
}

@test "a session that is killed at any step of QUIT has removed only marked messages" {
	[ -z "${SANITIZER-}" ] || skip "ASan's own system calls are in the way"
	points=0
	for call in newfstatat unlinkat fsync; do
		for n in 1 2 3 4 5; do
			rm -rf "$box"
			fill one two three four
			pop_login alice
			pop_ask "DELE 1"
			pop_ask "DELE 3"
			attach "$(child_pid)" -o /dev/null \
			    -e "inject=$call:signal=KILL:when=$n"
			pop_say QUIT
			if pop_hear '^\+OK' 2>/dev/null; then
				pop_close
				break
			fi
			pop_close
			points=$((points + 1))
			for name in two four; do
				cmp "$box"/new/*."$name" <(make_message "$name")
			done
			for left in "$box"/new/*.one "$box"/new/*.three; do
				[ ! -e "$left" ] ||
				    cmp "$left" <(make_message "${left##*.}")
			done
			run pop alice QUIT
			[[ $output == *"+OK bye"* ]]
		done
	done
	[ "$points" -ge 5 ]
}

@test "QUIT answers -ERR if any step of the removal fails" {
	[ -z "${SANITIZER-}" ] || skip "ASan's own system calls are in the way"
	for error in EIO ENOSPC EDQUOT EACCES; do
		for point in unlinkat:1 unlinkat:2 fsync:1; do
			rm -rf "$box"
			fill one two three
			pop_login alice
			pop_ask "DELE 1"
			pop_ask "DELE 3"
			attach "$(child_pid)" -o /dev/null -e \
			    "inject=${point%:*}:error=$error:when=${point#*:}"
			pop_ask QUIT '^-ERR some deleted messages not removed'
			pop_hear_end
			case $point in
			unlinkat:1) has one two ;;
			unlinkat:2) has two three ;;
			fsync:1) has two ;;
			esac
		done
	done
}

@test "kpopd loses no message and serves none twice while another program delivers and renames" {
	fill
	as_alice perl "$BATS_TEST_DIRNAME/programs/maildir-agent.pl" "$box" \
	    >"$WORLD/delivered" 3>&- &
	agent=$!
	: >"$WORLD/deleted"
	end=$((SECONDS + 10))
	until [ $SECONDS -ge $end ] && [ "$(wc -l <"$WORLD/deleted")" -ge 50 ]
	do
		kill -0 $agent
		pop_login alice
		pop_ask STAT
		count=${heard#+OK } count=${count% *}
		subjects=()
		for n in $(seq 1 3 "$count"); do
			pop_ask "RETR $n" '^(\+OK|-ERR \[SYS/TEMP\])'
			[[ $heard == +OK* ]] || continue
			subject=
			while pop_hear '' && [ "$heard" != . ]; do
				[[ $heard != Subject:* ]] ||
				    subject=${heard#Subject: }
			done
			pop_ask "DELE $n"
			subjects+=("$subject")
		done
		pop_ask QUIT '^\+OK bye'
		pop_hear_end
		pop_close
		printf '%s\n' "${subjects[@]}" | grep . >>"$WORLD/deleted" ||
		    true
	done
	touch "$box/stop"
	wait $agent
	kept=$(cat "$box"/new/* "$box"/cur/* 2>/dev/null |
	    sed -n 's/^Subject: //p')
	{ cat "$WORLD/deleted"; echo "$kept"; } | grep . | sort -n >"$WORLD/all"
	seq 0 $(($(cat "$WORLD/delivered") - 1)) | cmp - "$WORLD/all"
}

@test "kpopd removes ten thousand messages that were renamed in the session within twenty seconds" {
	fill
	fill_many 10000 new/%d.a
	pop_login alice
	pop_ask STAT '^\+OK 10000 '
	as_alice perl -e '
	    chdir $ARGV[0] or die;
	    for my $n (1 .. 10000) {
		rename "new/$n.a", "cur/$n.a:2,S" or die;
	    }' "$box"
	seq -f $'DELE %.0f\r' 9999 >&"$pop_out"
	for n in $(seq 9999); do pop_hear '^\+OK'; done
	begin=$SECONDS
	pop_patience=60 pop_ask QUIT '^\+OK bye, 1 '
	pop_hear_end
	[ $((SECONDS - begin)) -lt 20 ]
	[ "$(ls "$box/cur")" = "10000.a:2,S" ]
	[ -z "$(ls "$box/new")" ]
}
