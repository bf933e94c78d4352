#!/usr/bin/env bats
# Checks that a poll of an unchanged mailbox reads nothing of it, and that a
# poll of a mailbox that has grown reads only the new messages.

load helpers/all
load helpers/points

setup() {
	begin_test
	realm_login alice
	mailbox=/var/mail/alice
	index=$(kept)/index
}

teardown() {
	locker_stop
	rm -rf /home/alice/.k5login /home/alice/Maildir
	end_test
}

# poll [STRACE-OPTION ...]: logs in as alice and sends QUIT. Writes the system
# calls of the session to $WORLD/trace. Sets $heard to the answer to PASS.
poll() {
	[ -z "${SANITIZER-}" ] || skip "ASan's own system calls are in the way"
	login_with -e trace=all "$@"
	[[ $heard == +OK* && $bye == +OK* ]]
}

# calls_on NAME: prints the system calls of the last poll on the file NAME:
# openat, and the calls that use the descriptor from openat.
calls_on() {
	awk -v name="\"$1\"" '
	    /^openat\(/ && index($0, name) && / = [0-9]+$/ {
		fd = $NF
		print
		next
	    }
	    fd != "" && match($0, /^[a-z0-9_]+\([0-9]+/) {
		split($0, part, /[(,)]/)
		if (part[2] != fd) next
		print
		if (part[1] == "close") fd = ""
	    }' "$WORLD/trace"
}

# bytes_read NAME: prints the number of bytes of the file NAME that the last
# poll has read.
bytes_read() {
	local reads='^(read|pread64|readv|preadv2?|copy_file_range|sendfile)\('
	calls_on "$1" | grep -E "$reads" |
	    awk '{ n += $NF } END { print n + 0 }'
}

@test "a poll of an unchanged mailbox opens the spool, reads nothing of it, and locks nothing" {
	mbox one two three | store alice
	settle
	poll
	[ "$heard" = "+OK 3 messages" ]
	# The first poll must read and lock. Check that the trace shows that.
	[ "$(bytes_read alice)" -eq "$(stat -c %s "$mailbox")" ]
	calls_on alice | grep -q '^fcntl(.*F_OFD_SETLK'
	poll
	[ "$heard" = "+OK 3 messages" ]
	calls_on alice | grep -q '^openat('
	[ "$(bytes_read alice)" -eq 0 ]
	calls_on alice |
	    refute grep -E '^(fcntl|flock|mmap)\(.*(LCK|LOCK|PROT_READ)'
	refute grep 'alice\.lock' "$WORLD/trace"
}

@test "a poll after a delivery to a large mailbox reads the new message and no other body" {
	mbox one two three | store alice
	perl -e 'print "From a\nSubject: large\n\n",
	    ("x" x 70 . "\n") x 70000, "\n"' >>"$mailbox"
	settle
	poll
	before=$(stat -c %s "$mailbox")
	mbox two >>"$mailbox"
	new=$(($(stat -c %s "$mailbox") - before))
	settle
	poll
	[ "$heard" = "+OK 5 messages" ]
	# The poll also reads the boundaries and some headers. It reads at most
	# 16 KiB at a time for each.
	[ "$(bytes_read alice)" -ge "$new" ]
	[ "$(bytes_read alice)" -lt $((new + 16 * 20000)) ]
	poll
	[ "$(bytes_read alice)" -eq 0 ]
	run pop alice UIDL "RETR 5" QUIT
	with=$(grep -E '^[0-9]+ ' <<<"$output")
	[[ $output == *"Subject: two"* ]]
	forget_index
	run pop alice UIDL QUIT
	[ "$(grep -E '^[0-9]+ ' <<<"$output")" = "$with" ]
}

# deliver_three: appends the message "three" to the mailbox. Sets the mailbox's
# mtime to $mtime, if that is not empty.
deliver_three() {
	mbox three >>"$mailbox"
	[ -z "$mtime" ] || touch -m -d "$mtime" "$mailbox"
}

# answer_age: prints how old the mailbox's mtime was when the last poll -ttt
# answered PASS, in milliseconds.
answer_age() {
	awk -v mtime="$(date -r "$mailbox" +%s.%N)" '/"\+OK 3 messages/ {
		print int(($1 - mtime) * 1000)
		exit
	    }' "$WORLD/trace"
}

@test "if a mailbox changed just before the first poll, the second poll reads it again, and the third does not" {
	local mtime=
	# On a busy machine the first poll may come too late, so try ten times.
	# The last five times the mtime is ahead of the clock.
	for try in 1 2 3 4 5 6 7 8 9 10; do
		[ $try -le 5 ] || mtime='+3 seconds'
		mbox one two | store alice
		settle
		poll
		just_before=deliver_three poll -ttt
		[ "$heard" = "+OK 3 messages" ]
		age=$(answer_age)
		settle
		poll
		[ "$heard" = "+OK 3 messages" ]
		again=$(bytes_read alice)
		poll
		[ "$(bytes_read alice)" -eq 0 ]
		[ "$again" -eq 0 ] || return 0
		# A change of the last 40 ms counts as "just before".
		[ "$age" -ge 40 ] ||
		    { echo "nothing read again, age $age ms"; return 1; }
	done
	return 1
}

@test "a poll of an unchanged mailbox does not wait for another program's locks" {
	mbox one two | store alice
	settle
	pop alice QUIT
	dotlockfile -l "$mailbox.lock"
	locker_start
	locker L
	run pop alice STAT "RETR 2" QUIT
	[[ $output == *"+OK 2 "*"Subject: two"*"+OK bye"* ]]
	# Without the index the session must lock the mailbox.
	forget_index
	run pop alice STAT QUIT
	[[ $output == *"-ERR [IN-USE]"* ]]
	rm "$mailbox.lock"
}

@test "a poll after a removal reads nothing, and the index lists the messages that are left" {
	mbox one two three four one | store alice
	settle
	# Remove none of the equal messages, because the ids of the others would
	# then depend on the index.
	pop alice "DELE 3" QUIT
	poll
	[ "$heard" = "+OK 4 messages" ]
	[ "$(bytes_read alice)" -eq 0 ]
	run pop alice UIDL "RETR 1" "RETR 2" "RETR 3" "RETR 4" QUIT
	known=$output
	forget_index
	run pop alice UIDL "RETR 1" "RETR 2" "RETR 3" "RETR 4" QUIT
	[ "$output" = "$known" ]
}

@test "a session reads a mailbox again if it was replaced or rewritten with the same size and time" {
	mbox one two | store alice
	touch -d '2020-01-01 00:00:00.123456789' "$mailbox"
	settle
	run pop alice "RETR 2" QUIT
	[[ $output == *"Subject: two"* ]]
	cp -p "$mailbox" "$WORLD/other"
	sed -i 's/^Subject: two/Subject: owt/' "$WORLD/other"
	touch -r "$mailbox" "$WORLD/other"
	cp -p "$WORLD/other" "$mailbox.new"
	mv "$mailbox.new" "$mailbox"
	run pop alice "RETR 2" QUIT
	[[ $output == *"Subject: owt"* ]]
	settle
	pop alice QUIT
	sed 's/^Subject: owt/Subject: wto/' "$WORLD/other" |
	    dd of="$mailbox" conv=notrunc status=none
	touch -r "$WORLD/other" "$mailbox"
	run pop alice "RETR 2" QUIT
	[[ $output == *"Subject: wto"* ]]
}

# grow new|grown: delivers a message to a mailbox of two messages. Before the
# delivery, the mailbox has no index ("new") or an index of two messages
# ("grown").
grow() {
	mbox one two | store alice
	settle
	if [ "$1" = new ]; then forget_index; else pop alice QUIT; fi
	mbox three >>"$mailbox"
}

# killed_login CALL N: logs in, and kills the session at its Nth CALL.
killed_login() {
	login_stands
	faults "$session" -e "trace=$1" -e "inject=$1:signal=KILL:when=$2"
	echo alice@KPOPD.TEST >&"$k5login"
	exec {k5login}>&-
	pop_hear_end 10 || :
	session_ends 2>/dev/null || :
	pop_close
	rm -f /home/alice/.k5login
	kpopd_ends 5
}

@test "a session lists all messages after another was killed at any system call that writes the index" {
	[ -z "${SANITIZER-}" ] || skip "ASan's own system calls are in the way"
	points=0
	mbox one two | store alice
	settle
	pop alice QUIT
	for index_is in new grown; do
		grow $index_is
		login_with -e trace=pwrite64,renameat,unlinkat,openat,ftruncate
		calls_in "$WORLD/trace" >"$WORLD/calls"
		while read -r call count <&4; do
			for n in $(seq "$count"); do
				grow $index_is
				killed_login "$call" "$n"
				run pop alice "RETR 3" QUIT
				[[ $output == \
				    *"+OK 3 messages"*"Subject: three"* ]] || {
					echo "$index_is $call $n: $output"
					return 1
				}
				points=$((points + 1))
			done
		done 4<"$WORLD/calls"
	done
	echo "# index written: $points points" >&3
	[ "$points" -ge 10 ]
}

@test "a poll reads no name and no file of an unchanged Maildir, and the names and the new file of a changed one" {
	server_stop
	server_start -m maildir:~/Maildir
	box=/home/alice/Maildir
	su alice -c "mkdir -m 700 $box $box/tmp $box/new $box/cur"
	for name in one two three; do
		make_message $name >"$box/new/170000000${#name}.M1.$name"
	done
	chown -R alice: $box
	settle "$box/new"
	poll
	[ "$heard" = "+OK 3 messages" ]
	grep -q '^getdents64(' "$WORLD/trace"
	[ "$(grep -c '^openat(.*\.M1\.' "$WORLD/trace")" -eq 3 ]
	poll
	[ "$heard" = "+OK 3 messages" ]
	refute grep -E '^getdents64\(|^openat\(.*\.M1\.' "$WORLD/trace"
	make_message two >"$box/new/1800000000.M1.four"
	chown alice: $box/new/*.four
	mv "$box/new/1700000003.M1.one" "$box/cur/1700000003.M1.one:2,S"
	settle "$box/new"
	poll
	[ "$heard" = "+OK 4 messages" ]
	grep -q '^getdents64(' "$WORLD/trace"
	[ "$(grep -c '^openat(.*\.M1\.' "$WORLD/trace")" -eq 1 ]
	grep -q '^openat(.*\.M1\.four' "$WORLD/trace"
	run pop alice UIDL "RETR 1" "RETR 4" QUIT
	known=$output
	forget_index
	run pop alice UIDL "RETR 1" "RETR 4" QUIT
	[ "$output" = "$known" ]
}
