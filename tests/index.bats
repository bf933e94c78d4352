#!/usr/bin/env bats
# What a poll reads: of an unchanged mailbox nothing, of one that has grown what
# is new, whatever its size.

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

# settle: the last change is so old that a later one would show.
settle() {
	sleep 0.1
}

# poll: alice's login and QUIT, with all system calls of the session in
# $WORLD/trace. $heard is the answer to PASS.
poll() {
	[ -z "${SANITIZER-}" ] || skip "ASan's own system calls are in the way"
	login_with -e trace=all
	[[ $heard == +OK* && $bye == +OK* ]]
}

# touched NAME: the calls of the last poll on the file opened as "NAME", in its
# openat and by its descriptor.
touched() {
	awk -v name="\"$1\"" '
	    /^openat\(/ && index($0, name) && / = [0-9]+$/ { fd = $NF; print; next }
	    fd != "" && match($0, /^[a-z0-9_]+\([0-9]+/) {
		split($0, part, /[(,)]/)
		if (part[2] == fd) { print; if (part[1] == "close") fd = "" }
	    }' "$WORLD/trace"
}

# bytes_read NAME: of that file, in the last poll.
bytes_read() {
	touched "$1" |
	    awk '/^(read|pread64|readv|preadv2?|copy_file_range|sendfile)\(/ { n += $NF } END { print n + 0 }'
}

@test "a poll of an unchanged mailbox opens it and reads nothing of it, and locks nothing" {
	mbox one two three | store alice
	settle
	poll
	[ "$heard" = "+OK 3 messages" ]
	# That the trace shows such things.
	[ "$(bytes_read alice)" -eq "$(stat -c %s "$mailbox")" ]
	touched alice | grep -q '^fcntl(.*F_OFD_SETLK'
	poll
	[ "$heard" = "+OK 3 messages" ]
	touched alice | grep -q '^openat('
	[ "$(bytes_read alice)" -eq 0 ]
	touched alice | grep -E '^(fcntl|flock|mmap)\(.*(LCK|LOCK|PROT_READ)' &&
	    return 1 || :
	grep -q 'alice\.lock' "$WORLD/trace" && return 1 || :
}

@test "after a delivery to a large mailbox the new message is read and no other" {
	mbox one two three | store alice
	perl -e 'print "From a\nSubject: large\n\n", ("x" x 70 . "\n") x 70000, "\n"' >>"$mailbox"
	settle
	poll
	before=$(stat -c %s "$mailbox")
	mbox two >>"$mailbox"
	new=$(($(stat -c %s "$mailbox") - before))
	settle
	poll
	[ "$heard" = "+OK 5 messages" ]
	# Some headers besides, 16 KiB for each, and the boundaries.
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

deliver_three() {
	mbox three >>"$mailbox"
}

@test "a mailbox that was polled at once after its delivery is looked into again, and then no more" {
	# A busy machine may not poll at once; one time of ten it does.
	for _ in 1 2 3 4 5 6 7 8 9 10; do
		mbox one two | store alice
		settle
		poll
		just_before=deliver_three poll
		[ "$heard" = "+OK 3 messages" ]
		settle
		poll
		[ "$heard" = "+OK 3 messages" ]
		again=$(bytes_read alice)
		poll
		[ "$(bytes_read alice)" -eq 0 ]
		[ "$again" -eq 0 ] || return 0
	done
	return 1
}

@test "who has the mailbox locked does not keep a poll of an unchanged one waiting" {
	mbox one two | store alice
	settle
	pop alice QUIT
	dotlockfile -l "$mailbox.lock"
	locker_start
	locker L
	begin=$SECONDS
	run pop alice STAT "RETR 2" QUIT
	[[ $output == *"+OK 2 "*"Subject: two"*"+OK bye"* ]]
	[ $((SECONDS - begin)) -lt 5 ]
	# With something new it has to wait.
	forget_index
	run pop alice STAT QUIT
	[[ $output == *"-ERR [IN-USE]"* ]]
	rm "$mailbox.lock"
}

@test "after a removal nothing is read, and what is left is what there is" {
	mbox one two three four one | store alice
	settle
	# Of equal messages one that has gone keeps its id, which only the index
	# knows: so none of them goes.
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

@test "a mailbox replaced by one of equal size and time, or changed in its place, is read again" {
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

@test "a session killed at each system call with which it keeps the list: the next one sees what there is" {
	[ -z "${SANITIZER-}" ] || skip "ASan's own system calls are in the way"
	points=0
	mbox one two | store alice
	settle
	pop alice QUIT
	# Two shapes: a new list, and one that goes on.
	for shape in new grown; do
		mbox one two | store alice
		settle
		[ $shape = new ] && forget_index || pop alice QUIT
		mbox three >>"$mailbox"
		login_with -e trace=pwrite64,renameat,unlinkat,openat,ftruncate
		calls_in "$WORLD/trace" >"$WORLD/calls"
		while read -r call n <&4; do
			for i in $(seq "$n"); do
				mbox one two | store alice
				settle
				[ $shape = new ] && forget_index ||
				    pop alice QUIT
				mbox three >>"$mailbox"
				login_stands
				faults "$session" -e "trace=$call" \
				    -e "inject=$call:signal=KILL:when=$i"
				echo alice@KPOPD.TEST >&"$k5login"
				exec {k5login}>&-
				pop_hear_end 10 || :
				session_ends 2>/dev/null || :
				pop_close
				rm -f /home/alice/.k5login
				await 5 '! pgrep -x kpopd >/dev/null'
				run pop alice "RETR 3" QUIT
				[[ $output == \
				    *"+OK 3 messages"*"Subject: three"* ]] || {
					    echo "$shape $call $i: $output"
					    return 1
				    }
				points=$((points + 1))
			done
		done 4<"$WORLD/calls"
	done
	echo "# list kept: $points points" >&3
	[ "$points" -ge 10 ]
}

@test "a Maildir that has not changed: no name and no file is read; else the names, and the new file" {
	server_stop
	server_start -m maildir:~/Maildir
	box=/home/alice/Maildir
	su alice -c "mkdir -m 700 $box $box/tmp $box/new $box/cur"
	for name in one two three; do
		make_message $name >"$box/new/170000000${#name}.M1.$name"
	done
	chown -R alice: $box
	settle
	poll
	[ "$heard" = "+OK 3 messages" ]
	grep -q '^getdents64(' "$WORLD/trace"
	[ "$(grep -c '^openat(.*\.M1\.' "$WORLD/trace")" -eq 3 ]
	poll
	[ "$heard" = "+OK 3 messages" ]
	grep -qE '^getdents64\(|^openat\(.*\.M1\.' "$WORLD/trace" && return 1 ||
	    :
	make_message two >"$box/new/1800000000.M1.four"
	chown alice: $box/new/*.four
	mv "$box/new/1700000003.M1.one" "$box/cur/1700000003.M1.one:2,S"
	settle
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
	server_stop
	server_start
}
