#!/usr/bin/env bats
# Maildirs: other programs deliver and rename at any time, no lock, nothing but
# unlink and the line for the quota (quota.bats).

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

as_alice() {
	setpriv --reuid alice --regid alice --init-groups "$@"
}

# fill NAME ...: a Maildir with these messages in new, in this order.
fill() {
	local n=1700000000 name
	as_alice mkdir -m 700 "$box" "$box/tmp" "$box/new" "$box/cur"
	for name in "$@"; do
		make_message "$name" >"$box/new/$((n++)).M1P1.$name"
	done
	chown -R alice: "$box"
}

# has NAME ...: new and cur hold exactly these messages, byte for byte.
has() {
	local name
	[ "$(find "$box/new" "$box/cur" -type f | wc -l)" -eq $# ] ||
	    { find "$box" >&2; return 1; }
	for name in "$@"; do
		cmp "$box"/*/*."$name"* <(make_message "$name") || return 1
	done
}

@test "the session has no broker and takes no lock; the Maildir is left as it was" {
	fill one two
	before=$(find "$box" -printf '%P %i %s %T@ %C@ %m\n' | sort)
	pop_login alice
	[ -z "$(broker_pid)" ]
	pop_ask "RETR 1"
	while [ "$heard" != . ]; do pop_hear ''; done
	pop_ask QUIT
	pop_hear_end
	[ "$(find "$box" -printf '%P %i %s %T@ %C@ %m\n' | sort)" = "$before" ]
}

@test "an absent Maildir is empty and stays absent, unless the option asks" {
	run pop alice STAT QUIT
	[[ $output == *"+OK 0 0"* ]]
	[ ! -e "$box" ]
	server_stop
	server_start -m maildir+create:~/Maildir
	run pop alice STAT QUIT
	server_stop
	server_start -m maildir:~/Maildir
	[[ $output == *"+OK 0 0"* ]]
	[ "$(stat -c '%U %G %a' "$box" "$box/tmp" "$box/new" "$box/cur" |
	    sort -u)" = "alice alice 700" ]
}

@test "a Maildir's file without a body is served as it stands, with and without the empty line after the header" {
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
@test "a home directory that is missing is no empty mailbox" {
	mv /home/alice /home/away
	run pop alice STAT QUIT
	mv /home/away /home/alice
	[[ ${lines[-1]} == "-ERR [SYS/TEMP]"* ]]
	log_has 'failed .*what="opening the mailbox directory [^"]*" error="No such file or directory"'
	log_has 'logout .* reason=unavailable$'
}

# bats test_tags=catalogue:80-1
@test "flags that a mail reader changes meanwhile hide nothing: the messages are read and removed" {
	fill one two three
	pop_login alice
	as_alice mv "$box/new/1700000001.M1P1.two" \
	    "$box/cur/1700000001.M1P1.two:2,S"
	pop_ask "RETR 2"
	while [ "$heard" != . ]; do pop_hear ''; done
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
@test "what another program removed meanwhile cannot be read, and QUIT says so" {
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

@test "a Maildir that is not to be written: reading works, QUIT says that nothing is removed" {
	fill one two
	mount --bind "$box" "$box"
	mount -o remount,bind,ro "$box"
	run pop alice "RETR 1" "DELE 1" QUIT
	await 5 '! pgrep -x kpopd >/dev/null'
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
@test "another's Maildir, a symlinked cur and a file in its place are refused" {
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
@test "odd names and files are skipped, the rest is served, and the log says how many" {
	fill one
	as_alice \
	    sh -c "cd '$box' && echo x >new/\$(printf '2.a\\nb') && echo x >cur/\$(printf '3.\\001') &&
	    ln -s /etc/shadow cur/4.link && mkfifo new/5.fifo && mkdir new/6.directory"
	as_alice sh \
	    -c "cd '$box' && echo x >new/7.closed && chmod 0 new/7.closed"
	spool_mark
	run pop alice STAT QUIT
	[[ $output == *"+OK 1 "*"+OK bye, 1 messages left" ]]
	spool_kept
	run pop alice STAT "DELE 1" QUIT
	[[ $output == *"+OK 1 "*"+OK bye, 0 messages left" ]]
	# All is there but the message and the times of the directory it was in.
	diff <(grep -v '\.one\|^\./new ' <<<"$spool_then") \
	    <(spool_now | grep -v '^\./new ')
	log_has 'skipped .*files=6 reason="not a regular file, not readable, or a control character in the name"'
	log_has 'logout .* reason=quit retrieved=0 .* deleted=1 left=0 '
	log_lacks '[^ -~]'
}

# bats test_tags=catalogue:80-7
@test "a message under two names, in new and in cur, is one, and goes with both; a backup's link stays" {
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
@test "a message that could not be read is served as soon as it can be, though new is as it was" {
	fill one two
	chmod 600 "$box"/new/*.two
	chown root "$box"/new/*.two
	run pop alice STAT QUIT
	[[ $output == *"+OK 1 "* ]]
	# Once more when the directory has been as it is for so long that it
	# would prove something.
	touch -d '1 hour ago' "$box/new"
	await 5 \
	    '[ "$(($(date +%s%N) - $(stat -c %.9Z "$box/new" | tr -d .)))" -gt 100000000 ]'
	run pop alice STAT QUIT
	[[ $output == *"+OK 1 "* ]]
	chown alice "$box"/new/*.two
	run pop alice STAT QUIT
	[[ $output == *"+OK 2 "* ]]
}

# change_in_place NAME: the message gets ten lines more, and is the same file.
change_in_place() {
	{ cat "$box"/*/*."$1"* && seq 10; } >"$WORLD/changed"
	seq 10 | as_alice sh -c 'cat >>"$1"' sh "$box"/*/*."$1"*
}

# gets_changed NUMBER: RETR announces as many bytes as it sends, all of the
# changed message, and the dot.
gets_changed() {
	pop_ask "RETR $1" \
	    "^\+OK $(sed 's/$/\r/' "$WORLD/changed" | wc -c) octets"
	lines=()
	while pop_hear '' && [ "$heard" != . ]; do
		lines+=("$heard")
	done
	printf '%s\n' "${lines[@]}" | cmp - "$WORLD/changed"
}

# bats test_tags=catalogue:80-5
@test "a message that is changed in place is sent whole, with its dot; STAT and LIST are right" {
	fill one two
	pop alice STAT QUIT
	change_in_place two
	pop_login alice
	sizes=($(make_message one | sed 's/$/\r/' | wc -c)
	    $(sed 's/$/\r/' "$WORLD/changed" | wc -c))
	pop_ask STAT "^\+OK 2 $((sizes[0] + sizes[1]))\$"
	gets_changed 2
	# Once more, in the session.
	change_in_place one
	gets_changed 1
	pop_ask STAT \
	    "^\+OK 2 $(cat "$WORLD/changed" "$box"/*/*.two | sed 's/$/\r/' |
		wc -c)\$"
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

@test "among many messages one that is changed in place is sent whole at once, and listed right by the next session" {
	fill
	as_alice \
	    perl -e 'chdir shift; for (1 .. 1000) { open F, ">new/$_.a" or die; print F "Subject: $_\n\nbody\n"; close F }' "$box"
	make_message one |
	    as_alice tee "$box/new/1700000000.M1P1.one" >/dev/null
	pop alice STAT QUIT
	change_in_place one
	pop_login alice
	gets_changed 1001
	pop_ask "LIST 1001" \
	    "^\+OK 1001 $(sed 's/$/\r/' "$WORLD/changed" | wc -c)\$"
	pop_ask QUIT
	pop_hear_end
	run pop alice STAT "LIST 1001" QUIT
	[[ $output == \
	    *"+OK 1001 $(cat "$box"/new/* | sed 's/$/\r/' |
		wc -c)"*"+OK 1001 $(sed 's/$/\r/' "$WORLD/changed" | wc -c)"* ]]
}

# bats test_tags=catalogue:80-6
@test "a message that changes while it is sent does not get its dot" {
	fill
	as_alice \
	    perl -e 'chdir shift; open F, ">new/1.big" or die; print F "Subject: big\n\n", "a line of text\n" x 4000000' "$box"
	pop_login alice
	pop_ask "RETR 1"
	for n in $(seq 10); do pop_hear ''; done
	# In as many bytes, so that only the file's time tells.
	as_alice perl \
	    -e 'open F, "+<", shift or die; seek F, 50000000, 0; print F "b"' \
	    "$box/new/1.big"
	timeout 20 cat <&"$pop_in" | tail -c 100 >"$WORLD/rest"
	[ -s "$WORLD/rest" ]
	[ "$(tail -n 1 "$WORLD/rest" | tr -d '\r')" != . ]
	log_has 'logout .* reason=changed '
}

# bats test_tags=catalogue:80-10
@test "an overlay of two file systems, where files have other device numbers than their directory" {
	mkdir -p "$WORLD/lower/tmp" "$WORLD/lower/new" "$WORLD/lower/cur" \
	    "$WORLD/upper" "$box"
	mount -t tmpfs kpopd "$WORLD/upper"
	mkdir "$WORLD/upper/files" "$WORLD/upper/work"
	for name in one two three; do
		make_message $name \
		    >"$WORLD/lower/new/17000000${#name}.M1P1.$name"
	done
	chown -R alice: "$WORLD/lower" "$WORLD/upper/files" "$box"
	mount -t \
	    overlay -o "lowerdir=$WORLD/lower,upperdir=$WORLD/upper/files,workdir=$WORLD/upper/work" kpopd "$box"
	make_message four |
	    as_alice tee "$box/new/1800000000.M1P1.four" >/dev/null
	# Else this would test nothing.
	[ "$(stat -c %d "$box"/new/*.one)" != "$(stat -c %d "$box/new")" ]
	for again in 1 2; do
		pop_login alice
		for n in 1 2 3 4; do
			pop_ask "RETR $n"
			while pop_hear '' && [ "$heard" != . ]; do :; done
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
	as_alice \
	    perl -e 'chdir shift; for (1 .. 1000) { open F, ">cur/$_.M1.host:2," or die; print F "Subject: $_\n\nbody\n"; close F }' "$box"
	as_alice perl \
	    -e 'chdir shift; my @f = ("", "S", "RS", "FS"); my @n = (0) x 1001;
	    for (;;) { my $i = 1 + int rand 1000; my $o = $n[$i]++;
	        rename "cur/$i.M1.host:2,$f[$o % 4]", "cur/$i.M1.host:2,$f[($o + 1) % 4]" or die }' "$box" 3>&- &
	reader=$!
	for n in $(seq 30); do
		run pop alice STAT "RETR $n" QUIT
		[[ $output == \
		    *"+OK 1000 "*"Subject: $n"*"+OK bye, 1000 messages left" ]] || break
	done
	kill $reader
	[[ $output == *"Subject: 30"*"+OK bye, 1000 messages left" ]]
}

@test "killed at each step of QUIT: some of the marked are gone, everything else is untouched" {
	[ -z "${SANITIZER-}" ] || skip "ASan's own system calls are in the way"
	points=0
	for call in newfstatat unlinkat fsync; do
		for n in 1 2 3 4 5; do
			rm -rf "$box"
			fill one two three four
			pop_login alice
			pop_ask "DELE 1"
			pop_ask "DELE 3"
			strace -q -p "$(child_pid)" -o /dev/null \
			    -e "inject=$call:signal=KILL:when=$n" 2>/dev/null \
			    3>&- &
			await 5 \
			    "grep -q '^TracerPid:[[:space:]]*[1-9]' /proc/$(child_pid)/status"
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

@test "an error at each step: an honest answer" {
	[ -z "${SANITIZER-}" ] || skip "ASan's own system calls are in the way"
	for error in EIO ENOSPC EDQUOT EACCES; do
		for point in unlinkat:1 unlinkat:2 fsync:1; do
			rm -rf "$box"
			fill one two three
			pop_login alice
			pop_ask "DELE 1"
			pop_ask "DELE 3"
			strace -q -p "$(child_pid)" \
			    -o /dev/null -e \
			    "inject=${point%:*}:error=$error:when=${point#*:}" \
			    2>/dev/null 3>&- &
			await 5 \
			    "grep -q '^TracerPid:[[:space:]]*[1-9]' /proc/$(child_pid)/status"
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

@test "while another program delivers and renames all the time, delivered is kept and deleted" {
	fill
	# A delivery agent and a mail reader in one: into tmp, to new, to cur,
	# from flags to flags.
	as_alice perl -e 'chdir shift or die; my $n = 0; my $end = time + 10;
	    while (time < $end) {
	        my $name = sprintf "%d.M%06d.host", time, $n;
	        open F, ">tmp/$name" or die; print F "Subject: $n\n\n", "body $n\n" x ($n % 7); close F;
	        rename "tmp/$name", "new/$name" or die; $n++;
	        opendir D, "new"; my @new = grep !/^\./, readdir D; opendir D, "cur"; my @cur = grep !/^\./, readdir D;
	        for (grep rand() < .5, @new) { rename "new/$_", "cur/$_:2," }
	        for (grep rand() < .3, @cur) { my ($u) = split /:/; rename "cur/$_", "cur/$u:2," . (rand() < .5 ? "S" : "RS") }
	        select undef, undef, undef, .005 }
	    print "$n\n"' "$box" >"$WORLD/delivered" 3>&- &
	agent=$!
	: >"$WORLD/deleted"
	while kill -0 $agent 2>/dev/null; do
		pop_login alice
		pop_ask STAT
		count=${heard#+OK } count=${count% *}
		took=()
		for n in $(seq 1 3 "$count"); do
			pop_ask "RETR $n" '^(\+OK|-ERR \[SYS/TEMP\])'
			[[ $heard == +OK* ]] || continue
			subject=
			while pop_hear '' && [ "$heard" != . ]; do
				[[ $heard != Subject:* ]] ||
				    subject=${heard#Subject: }
			done
			pop_ask "DELE $n"
			took+=("$subject")
		done
		pop_ask QUIT '^\+OK bye'
		pop_hear_end
		pop_close
		printf '%s\n' "${took[@]}" | grep . >>"$WORLD/deleted" || true
	done
	kept=$(cat "$box"/new/* "$box"/cur/* 2>/dev/null |
	    sed -n 's/^Subject: //p')
	{ cat "$WORLD/deleted"; echo "$kept"; } | grep . | sort -n >"$WORLD/all"
	seq 0 $(($(cat "$WORLD/delivered") - 1)) | cmp - "$WORLD/all"
	[ "$(wc -l <"$WORLD/deleted")" -ge 50 ]
}

@test "ten thousand messages, all renamed in the session, are removed in a few seconds" {
	fill
	as_alice \
	    perl -e 'chdir shift; for (1 .. 10000) { open F, ">new/$_.a" or die; print F "Subject: $_\n\nbody\n"; close F }' "$box"
	pop_login alice
	pop_ask STAT '^\+OK 10000 '
	as_alice \
	    perl -e 'chdir shift; for (1 .. 10000) { rename "new/$_.a", "cur/$_.a:2,S" or die }' "$box"
	for n in $(seq 9999); do echo "DELE $n"; done | tr '\n' '\r' |
	    sed 's/\r/\r\n/g' >&"$pop_out"
	for n in $(seq 9999); do pop_hear '^\+OK'; done
	begin=$SECONDS
	pop_patience=60 pop_ask QUIT '^\+OK bye, 1 '
	pop_hear_end
	[ $((SECONDS - begin)) -lt 20 ]
	[ "$(ls "$box/cur")" = "10000.a:2,S" ]
	[ -z "$(ls "$box/new")" ]
}
