#!/usr/bin/env bats
# Checks that no message is sent or removed under another message's UIDL if
# another program has changed the mailbox between a client's sessions.

load helpers/all

setup() {
	begin_test
	realm_login alice
}

teardown() {
	! mountpoint -q "$WORLD/overlay" ||
	    { umount /var/mail; umount "$WORLD/overlay"; }
	end_test
}

# filler: prints a message that makes a mailbox large. kpopd does not read a
# whole large mailbox again after each delivery (mbox-list.c).
filler() {
	from_line
	make_message filler
	yes 'a line of a message that is there for its size' | head -c 5000000
	printf '\n\n'
}

# padded NAME: prints a message with the padding that Dovecot leaves for flags.
padded() {
	from_line
	make_message "$1" | sed 's/^Subject: .*/&\nX-Keywords:          /'
	echo
}

# overwrite FROM TO: replaces the text FROM in the spool by the text TO. Both
# must have the same length.
overwrite() {
	[ "${#1}" -eq "${#2}" ]
	perl -0777 -e '
	    open F, "+<", shift or die;
	    my $at = index <F>, shift;
	    die if $at < 0;
	    seek F, $at, 0;
	    print F shift' /var/mail/alice "$1" "$2"
}

# each_size COMMAND …: runs the command twice. The first time, the mailbox is so
# small that kpopd reads all of it after each change. The second time, the
# mailbox is too large for that. The function front prints the message that
# makes the mailbox large, or nothing.
each_size() {
	front() { :; }
	"$@"
	front() { filler; }
	"$@"
}

# number_of ID: prints the number of the message with this id. Takes it from
# UIDL's answer in $output.
number_of() {
	sed -n "s/^\([0-9]*\) $1\$/\1/p" <<<"$output"
}

# id_of NUMBER: prints the id of the message. Takes it from $output.
id_of() {
	sed -n "s/^$1 \([^ ]*\)\$/\1/p" <<<"$output"
}

# flags_before_growth: a mail reader writes flags into the first message. Then a
# message is delivered. RETR must send the first message whole.
flags_before_growth() {
	local n flags
	{ padded one; front; mbox two; } | store alice
	settle
	pop alice UIDL LIST QUIT >/dev/null
	flags=$'X-Status: F\nStatus: O\n'
	overwrite $'X-Keywords:          \n' "$flags"
	make_message three | deliver alice
	settle
	for n in 1 2; do
		run pop alice "RETR 1" QUIT
		[[ $output == \
		    *$'\n'"$flags"*$'\none line 3\n.\n+OK bye'* ]] ||
		    { echo "$output"; return 1; }
	done
	# The last session has noticed the change. So STAT and LIST are right in
	# this session.
	run pop alice STAT LIST QUIT
	rm -f "$(kept)/index"
	[ "$output" = "$(pop alice STAT LIST QUIT)" ]
}

@test "RETR sends a message whole after a mail reader has changed its flags and mail was delivered" {
	each_size flags_before_growth
}

# sorted_before_growth: another program swaps two messages. Then a message is
# delivered. RETR and DELE must act on the messages that UIDL names.
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
@test "RETR and DELE mean the message of the UIDL after another program has sorted the mailbox" {
	each_size sorted_before_growth
}

# moved_in_session NUMBER: another program removes the first message during a
# session. NUMBER is the number that the message "two" has in this session.
moved_in_session() {
	{ mbox one; front; mbox two three; } | store alice
	settle
	pop_login alice
	pop_ask "UIDL 1"
	# After this, all other messages have other offsets.
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

@test "RETR and DELE find a message that another program has moved within the mailbox during the session" {
	front() { :; }
	moved_in_session 2
	front() { filler; }
	moved_in_session 3
}

# ups N [FIELD]: prints the Nth message of a device. All of its messages have
# the same header.
ups() {
	printf '%s\n' 'From ups@host Mon Nov 23 05:00:00 2026' \
	    'From: ups@host' 'To: alice' 'Subject: status' \
	    "${2-}" "reading $1" ''
}

# fetch_kept: runs fetchmail, which keeps the messages on the server. Prints all
# that fetchmail has fetched since the first poll.
fetch_kept() {
	timeout 20 fetchmail --nodetach --nosyslog -i "$WORLD/ids" \
	    -f "$WORLD/fetchmailrc" --pidfile "$WORLD/fetchmail.pid" \
	    >/dev/null 2>&1 || :
	grep '^reading [0-9]' "$WORLD/got" | tr '\n' ' '
}

@test "fetchmail with uidl fetches each of several messages with equal headers, whichever of them are removed" {
	cat >"$WORLD/fetchmailrc" <<-END
	poll mail.kpopd.test proto KPOP uidl auth kerberos_v5 user alice sslproto '' keep mda "cat >>$WORLD/got"
	END
	chmod 600 "$WORLD/fetchmailrc"
	# Test messages without a Message-ID, and messages that share a
	# Message-ID.
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

# many_equal [settle]: retrieves and removes one of 120 messages with the same
# header, while a message is delivered. With "settle", first waits until the
# fingerprint is stable.
many_equal() {
	for i in $(seq 120); do ups "$i"; done | store alice
	"${1-:}"
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

@test "RETR and DELE find one of 120 messages with equal headers while mail is delivered" {
	many_equal settle
	# On a file system whose clock is unknown, a fingerprint is stable only
	# after a minute.
	mkdir -p "$WORLD"/{up,low,work,overlay}
	mount -t overlay \
	    -o "lowerdir=$WORLD/low,upperdir=$WORLD/up,workdir=$WORLD/work" \
	    kpopd "$WORLD/overlay" || skip "no overlay here"
	chgrp mail "$WORLD/overlay"
	chmod 2775 "$WORLD/overlay"
	mount --bind "$WORLD/overlay" /var/mail
	many_equal
}
