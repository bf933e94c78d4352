#!/usr/bin/env bats
# Checks what a removal adds to maildirsize, the file for a Maildir's quota
# (Maildir++). Checks that delivery programs understand the added line.

load helpers/all

box=/home/alice/Maildir
spool_place=$box

setup_file() { server_start -m maildir:~/Maildir; }

setup() {
	begin_test
	rm -rf "$box" /home/alice/.mailfilter
	realm_login alice
}

# as_alice COMMAND ...: runs the command as alice.
as_alice() {
	setpriv --reuid alice --regid alice --init-groups env HOME=/home/alice \
	    "$@"
}

# quota LIMIT: makes an empty Maildir with this quota.
quota() {
	as_alice maildirmake.maildrop "$box"
	as_alice maildirmake.maildrop -q "$1" "$box"
}

# arrives NAME: delivers a message with Courier's deliverquota, which exits with
# 77 if the Maildir is full.
arrives() {
	make_message "$1" | as_alice deliverquota.maildrop "$box"
}

# is_full NAME: returns true if Courier's deliverquota refuses the message.
is_full() {
	run arrives "$1"
	[ "$status" -eq 77 ]
}

# line BYTES MESSAGES: prints a line of maildirsize, as Courier writes it.
line() {
	printf '%12d %12d\n' "$1" "$2"
}

# pop_removes N ...: runs a session that removes these messages.
pop_removes() {
	run pop alice "${@/#/DELE }" QUIT
	[[ $output == *"+OK bye"* ]]
}

# first_file: prints the name of message 1 of a session. The file is in the
# directory "new".
first_file() {
	local subject
	subject=$(pop alice "TOP 1 0" QUIT | tr -d '\r' | grep '^Subject: ')
	basename "$(grep -lx "$subject" "$box"/new/*)"
}

# number_of FILE: prints the number that the message in this file has in a
# session.
number_of() {
	local subject n
	subject=$(grep '^Subject: ' "$1")
	for n in 1 2 3; do
		! pop alice "TOP $n 0" QUIT | tr -d '\r' |
		    grep -Fqx "$subject" || { echo "$n"; return 0; }
	done
	return 1
}

# sums: prints the sum of the bytes and the sum of the messages in all lines of
# maildirsize.
sums() {
	awk 'NR > 1 { b += $1; n += $2 } END { print b + 0, n + 0 }' \
	    "$box/maildirsize"
}

# describe_maildirsize: prints the type and the content of maildirsize.
describe_maildirsize() {
	stat -c %F "$box/maildirsize" 2>/dev/null || echo absent
	[ ! -f "$box/maildirsize" ] || cat "$box/maildirsize"
}

@test "a full Maildir accepts mail as soon as a session has removed a message" {
	quota 100000S,3C
	for name in m1 m2 m3; do arrives "$name"; done
	# Courier counts the messages when it refuses a message for the first
	# time. After that, it trusts the sums for 15 minutes.
	is_full m4
	is_full m4
	cp "$box/maildirsize" "$WORLD/before"
	size=$(stat -c %s "$box"/new/*,S=* | head -n 1)
	pop_removes 1
	diff "$box/maildirsize" <(cat "$WORLD/before"; line -"$size" -1)
	arrives m4
	is_full m5
	[ "$(sums | cut -d ' ' -f 2)" -eq 3 ]
	pop_removes 1 2 3
	[ "$(sums)" = "0 0" ]
	for name in m5 m6 m7; do arrives "$name"; done
	is_full m8
}

@test "maildrop delivers to a Maildir with a quota of bytes after a session has removed a message" {
	size=$({ echo "Return-Path: <x>"; make_message m1; } | wc -c)
	quota "$((size * 2 + 50))S"
	printf 'to "%s"\n' "$box" |
	    as_alice sh -c 'cat >~/.mailfilter; chmod 600 ~/.mailfilter'
	for name in m1 m2; do
		make_message "$name" | as_alice sh -c 'cd; maildrop .mailfilter'
	done
	for _ in 1 2; do
		run as_alice sh -c 'cd; maildrop .mailfilter' \
		    <<<"$(make_message m3)"
		[ "$status" -ne 0 ]
	done
	pop_removes 2
	make_message m3 | as_alice sh -c 'cd; maildrop .mailfilter'
	[ "$(sums | cut -d ' ' -f 2)" -eq 2 ]
}

@test "a session adds one line to maildirsize, with the sizes that the file names specify" {
	quota 100000S
	for name in m1 m2 m3; do arrives "$name"; done
	# Let a mail reader move one message and set flags. The name of a second
	# message has another size than the file. The name of a third message
	# contains no size.
	one=$(first_file)
	as_alice mv "$box/new/$one" "$box/cur/$one:2,RS"
	make_message m4 | as_alice sh -c "cat >$box/new/2000000000.a,S=12345"
	make_message m5 | as_alice sh -c "cat >$box/new/2000000001.b"
	make_message m6 | as_alice sh -c "cat >$box/cur/2000000002.c,S=7:2,"
	sum=$(($(stat -c %s "$box/cur/$one:2,RS") + 12345 + $(stat -c %s \
	    "$box/new/2000000001.b")))
	count=$(wc -l <"$box/maildirsize")
	pop_removes 1 4 5
	[ "$(wc -l <"$box/maildirsize")" -eq $((count + 1)) ]
	[ "$(tail -n 1 "$box/maildirsize")" = "$(line -$sum -3)" ]
	# A session that removes nothing writes nothing.
	before=$(stat -c '%s %Y %Z' "$box/maildirsize")
	pop alice "DELE 1" RSET QUIT >"$WORLD/answer"
	pop alice "DELE 1" >"$WORLD/answer"
	[ "$(stat -c '%s %Y %Z' "$box/maildirsize")" = "$before" ]
}

@test "kpopd makes Courier count anew when it removes a message with the flag T" {
	quota 100000S,2C
	arrives m1
	arrives m2
	one=$(first_file)
	# Courier does not count a message with the flag T.
	as_alice mv "$box/new/$one" "$box/cur/$one:2,ST"
	arrives m3
	is_full m4
	# Courier's names of one second do not sort by arrival.
	pop_removes "$(number_of "$box/cur/$one:2,ST")"
	[ "$(tail -n 1 "$box/maildirsize")" = "$(line 0 0)" ]
	is_full m4
	pop_removes 1
	arrives m4
}

@test "Dovecot's quota reads the line that kpopd adds, and does not count anew" {
	quota 100000S
	for name in m1 m2 m3; do arrives "$name"; done
	# maildirsize does not count this message. If Dovecot counted anew, it
	# would find three messages and not two.
	make_message m4 | as_alice sh -c "cat >$box/new/2000000000.a"
	pop_removes 2
	if dovecot_is_new; then
		dovecot_configure maildir '~/Maildir' <<-END
		mail_plugins {
		  quota = yes
		}
		quota "User quota" {
		  driver = maildir
		  storage_size = 100000B
		}
		END
	else
		dovecot_configure maildir '~/Maildir' <<-END
		mail_plugins = quota
		plugin {
		  quota = maildir:User quota
		  quota_rule = *:bytes=100000
		}
		END
	fi
	run dovecot_does "-f flow quota get"
	echo "$output"
	[[ $output == *Type=MESSAGE\ Value=2\ * ]]
}

# bats test_tags=catalogue:80-9,attack:4-16
@test "kpopd removes messages and leaves maildirsize unchanged if that file is unusable, another user's or absent" {
	for what in absent symlink fifo directory another\'s unwritable full \
	    empty half; do
		rm -rf "$box"
		quota 100000S,3C
		arrives m1
		case $what in
		absent) rm "$box/maildirsize" ;;
		symlink)
			mv "$box/maildirsize" "$box/other"
			as_alice ln -s other "$box/maildirsize"
			;;
		fifo)
			rm "$box/maildirsize"
			as_alice mkfifo "$box/maildirsize"
			;;
		directory)
			rm "$box/maildirsize"
			as_alice mkdir "$box/maildirsize"
			;;
		another\'s)
			chown root:alice "$box/maildirsize"
			chmod 666 "$box/maildirsize"
			;;
		unwritable) chmod 400 "$box/maildirsize" ;;
		full)
			yes '           1            0' |
			    head -c 5200 >>"$box/maildirsize"
			;;
		empty) : >"$box/maildirsize" ;;
		half) printf 12 >>"$box/maildirsize" ;;
		esac
		echo "$what:"
		describe_maildirsize >"$WORLD/before"
		log_mark
		pop_removes 1
		[ -z "$(ls "$box/new")" ]
		describe_maildirsize | cmp - "$WORLD/before"
		case $what in
		absent | full | empty | half)
			log_has ': logout '
			log_lacks failed
			;;
		*) log_has 'failed .*maildirsize.* error=' ;;
		esac
	done
}

@test "the sums in maildirsize are right after two programs have delivered while sessions removed messages" {
	quota 100000S
	deliver_many() { for i in $(seq 30); do arrives "$1$i"; done; }
	deliver_many a 3>&- &
	one=$!
	deliver_many b 3>&- &
	other=$!
	removed=0
	remove_two() {
		run pop alice "DELE 1" "DELE 3" QUIT
		removed=$((removed + $(grep -c '^+OK message . deleted' \
		    <<<"$output" || :)))
	}
	while kill -0 "$one" 2>/dev/null || kill -0 "$other" 2>/dev/null; do
		remove_two
	done
	# On a busy machine all may be delivered before the first session.
	remove_two
	wait "$one"
	wait "$other"
	[ "$removed" -gt 0 ]
	[ "$(ls "$box/new" | wc -l)" -eq $((60 - removed)) ]
	[ "$(sums)" = \
	    "$(cat "$box"/new/* /dev/null | wc -c) $((60 - removed))" ]
}

# bats test_tags=attack:4-17
@test "a lease on maildirsize does not keep a session waiting" {
	quota 100000S
	arrives m1
	cp "$box/maildirsize" "$WORLD/before"
	setpriv --reuid alice --regid alice --init-groups \
	    perl "$BATS_TEST_DIRNAME/programs/lease.pl" "$box/maildirsize" \
	    >"$WORLD/lease" 3>&- &
	holder=$!
	await 5 'grep -q held "$WORLD/lease"'
	begin=$SECONDS
	pop_removes 1
	[ $((SECONDS - begin)) -lt 30 ]
	log_has \
	    'failed .*maildirsize.* error="Resource temporarily unavailable"'
	kill "$holder"
	wait "$holder" || :
	cmp "$box/maildirsize" "$WORLD/before"
}

@test "the line of a session that is killed before it writes to maildirsize is missing until Courier counts anew" {
	[ -z "${SANITIZER-}" ] || skip "ASan's own system calls are in the way"
	quota 100000S,3C
	for name in m1 m2 m3; do arrives "$name"; done
	is_full m4
	cp "$box/maildirsize" "$WORLD/before"
	pop_login alice
	pop_ask "DELE 2"
	pid=$(child_pid)
	attach "$pid" -o /dev/null -e trace=fsync \
	    -e inject=fsync:signal=KILL:when=1
	pop_say QUIT
	pop_hear_end
	pop_close
	await 10 "! kill -0 $pid 2>/dev/null && ! kill -0 $tracer 2>/dev/null"
	[ "$(ls "$box/new" | wc -l)" -eq 2 ]
	cmp "$box/maildirsize" "$WORLD/before"
	is_full m4
	as_alice touch -d '16 minutes ago' "$box/maildirsize"
	arrives m4
}
