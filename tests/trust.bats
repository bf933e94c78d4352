#!/usr/bin/env bats
# What another program does to a mailbox between a client's visits: no message
# is given, or removed, under another's UIDL.

load helpers/all

setup_file() {
	server_start
}

teardown_file() {
	server_stop
}

setup() {
	begin_test
	realm_login alice
}

teardown() {
	! mountpoint -q "$WORLD/overlay" ||
	    { umount /var/mail; umount "$WORLD/overlay"; }
	end_test
}

# filler: a message that makes a mailbox too large to be read as a whole after
# each delivery (mbox-list.c).
filler() {
	from_line
	make_message filler
	yes 'a line of a message that is there for its size' | head -c 5000000
	printf '\n\n'
}

# padded NAME: a message with the room that Dovecot leaves for flags.
padded() {
	from_line
	make_message "$1" | sed 's/^Subject: .*/&\nX-Keywords:          /'
	echo
}

# in_place FROM TO: these bytes of the spool become others, as many.
in_place() {
	[ "${#1}" -eq "${#2}" ]
	perl \
	    -0777 -e 'open F, "+<", shift or die; $_ = <F>; my $at = index $_, shift; die if $at < 0; seek F, $at, 0; print F shift' \
	    /var/mail/alice "$1" "$2"
}

# settle: the stamp of the mailbox proves something from now on: its last change
# is some ticks of the clock old.
settle() {
	local changed
	changed=$(date -r /var/mail/alice +%s%N)
	await 5 "[ \$((\$(date +%s%N) - $changed)) -gt 60000000 ]"
}

# each_size COMMAND …: with a mailbox that is read as a whole when it has
# changed, and with one that is not.
each_size() {
	front() { :; }
	"$@"
	front() { filler; }
	"$@"
}

# number_of UIDL: the message with this id, from the output of UIDL in $output.
number_of() {
	sed -n "s/^\([0-9]*\) $1\$/\1/p" <<<"$output"
}

# id_of NUMBER: its id.
id_of() {
	sed -n "s/^$1 \([^ ]*\)\$/\1/p" <<<"$output"
}

flags_before_growth() {
	local n
	{ padded one; front; mbox two; } | store alice
	settle
	pop alice UIDL LIST QUIT >/dev/null
	in_place $'X-Keywords:          \n' $'X-Status: F\nStatus: O\n'
	make_message three | deliver alice
	settle
	for n in 1 2; do
		run pop alice "RETR 1" QUIT
		[[ $output == \
		    *$'\nX-Status: F\nStatus: O\n'*$'\none line 3\n.\n+OK bye'* ]] || { echo "$output"; return 1; }
	done
	# Once it has been noticed LIST and STAT are right, too.
	run pop alice STAT LIST QUIT
	rm -f "$(kept)/index"
	[ "$output" = "$(pop alice STAT LIST QUIT)" ]
}

@test "a flag that a reader has written in its place before mail came: RETR is whole in every session" {
	each_size flags_before_growth
}

sorted_before_growth() {
	local one two
	{ mbox aaa bbb; front; mbox last; } | store alice
	settle
	run pop alice UIDL QUIT
	one=$(id_of 1) two=$(id_of 2)
	{ mbox bbb aaa; front; mbox last new; } | store alice
	settle
	run pop alice UIDL QUIT
	pop alice "RETR $(number_of "$one")" QUIT | grep '^Subject: aaa$'
	run pop alice UIDL QUIT
	pop alice "DELE $(number_of "$two")" QUIT | tail -n 1 | grep '^+OK bye'
	[ "$(grep -c '^Subject: bbb$' /var/mail/alice)" -eq 0 ]
	[ "$(grep -c '^Subject: aaa$' /var/mail/alice)" -eq 1 ]
}

# bats test_tags=promise:7
@test "a mailbox that another program sorted before mail came: RETR and DELE hit what UIDL named" {
	each_size sorted_before_growth
}

moved_in_session() {
	{ mbox one; front; mbox two three; } | store alice
	settle
	pop_login alice
	pop_ask "UIDL 1"
	# A reader removes the first message: all others are somewhere else now.
	{ front; mbox two three; } | store alice
	pop_ask "RETR 1" '^-ERR \[SYS/TEMP\] another program changed'
	pop_say "RETR $1"
	pop_hear_lines
	[[ " ${lines[*]} " == *" Subject: two "* ]]
	pop_ask "DELE $1"
	pop_ask QUIT '^\+OK bye'
	pop_close
	[ "$(grep -c '^Subject: two$' /var/mail/alice)" -eq 0 ]
	[ "$(grep -c '^Subject: three$' /var/mail/alice)" -eq 1 ]
}

@test "messages that another program moved in a session are found where they are" {
	front() { :; }
	moved_in_session 2
	front() { filler; }
	moved_in_session 3
}

# ups N: a device's message: its header is the same each time.
ups() {
	printf 'From ups@host Mon Nov 23 05:00:00 2026\nFrom: ups@host\nTo: alice\nSubject: status\n%s\nreading %s\n\n' "${2-}" "$1"
}

fetch_kept() {
	timeout 20 fetchmail --nodetach --nosyslog -i "$WORLD/ids" \
	    -f "$WORLD/fetchmailrc" --pidfile "$WORLD/fetchmail.pid" \
	    >/dev/null 2>&1 || :
	grep '^reading [0-9]' "$WORLD/got" | tr '\n' ' '
}

@test "of messages with equal headers each keeps its UIDL, whichever go: none is taken for one that was seen" {
	cat >"$WORLD/fetchmailrc" <<-END
	poll mail.kpopd.test proto KPOP uidl auth kerberos_v5 user alice sslproto '' keep mda "cat >>$WORLD/got"
	END
	chmod 600 "$WORLD/fetchmailrc"
	# Without a Message-ID, and with one that is always the same.
	for id in '' $'Message-ID: <status@ups>\n'; do
		for how in "pop alice 'DELE 1' QUIT" \
		    "ups 2 '$id' | store alice" \
		    "pop alice 'DELE 1' QUIT; ups 3 '$id' >>/var/mail/alice"; do
			rm -f "$WORLD/got" "$WORLD/ids" "$(kept)/index"
			touch "$WORLD/got"
			ups 1 "$id" | store alice
			settle
			[ "$(fetch_kept)" = "reading 1 " ]
			ups 2 "$id" >>/var/mail/alice
			settle
			pop alice QUIT >/dev/null
			eval "$how" >/dev/null
			[[ $(fetch_kept) == "reading 1 reading 2 "* ]] || {
				echo "$how ($id): $(cat "$WORLD/got")"
				return 1
			}
		done
	done
}

many_equal() {
	for i in $(seq 120); do ups "$i"; done | store alice
	[ $# -gt 0 ] || settle
	pop_login alice
	pop_say "RETR 7"
	pop_hear_lines
	make_message late | deliver alice
	pop_say "RETR 8"
	pop_hear_lines
	[[ " ${lines[*]} " == *" reading 8 "* ]]
	pop_ask "DELE 7"
	pop_ask QUIT '^\+OK bye, 119 messages left'
	pop_close
	[ "$(grep -c '^reading 7$' /var/mail/alice)" -eq 0 ]
	[ "$(grep -c '^reading ' /var/mail/alice)" -eq 119 ]
}

@test "more than a hundred messages with equal headers are served and removed while mail arrives" {
	many_equal
	# On a file system whose clock is not known no stamp proves anything for
	# a minute.
	mkdir -p "$WORLD"/{up,low,work,overlay}
	mount -t overlay \
	    -o "lowerdir=$WORLD/low,upperdir=$WORLD/up,workdir=$WORLD/work" \
	    kpopd "$WORLD/overlay" || skip "no overlay here"
	chgrp mail "$WORLD/overlay"
	chmod 2775 "$WORLD/overlay"
	mount --bind "$WORLD/overlay" /var/mail
	many_equal unsettled
}
