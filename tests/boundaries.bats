#!/usr/bin/env bats
# Checks the number of messages that kpopd, Dovecot, mutt and mailutils find in
# each spool of tests/boundaries.

load helpers/all

setup_file() {
	server_start
	mkdir "$WORLD/boundaries"
	perl "$BATS_TEST_DIRNAME/programs/boundaries.pl" "$WORLD/boundaries" \
	    <"$BATS_TEST_DIRNAME/boundaries"
	chmod 755 "$WORLD"
}

setup() {
	begin_test
	realm_login alice
}

# numbers: prints the numbers of the cases, 001 and so on.
numbers() {
	cut -d ' ' -f 1 "$WORLD/boundaries.list"
}

# agrees COLUMN: returns true if standard input contains the counts of the
# table's column COLUMN. Each input line is "NNN COUNT" for one case.
agrees() {
	join -t ' ' - <(cut -d ' ' -f 1,7- "$WORLD/boundaries.list") |
	    diff <(cut -d ' ' -f "1,$(($1 + 1)),7-" "$WORLD/boundaries.list") -
}

# bats test_tags=catalogue:53-2
@test "kpopd finds the messages of each boundary file that the table gives for kpopd" {
	for file in $(numbers); do
		store alice <"$WORLD/boundaries/$file"
		forget_index
		count=$(pop alice STAT QUIT |
		    sed -n 's/^+OK \([0-9]*\) [0-9]*$/\1/p')
		echo "$file $count"
	done >"$WORLD/counts"
	agrees 1 <"$WORLD/counts"
}

@test "Dovecot finds the messages of each boundary file that the table gives for Dovecot" {
	cp -r "$WORLD/boundaries" /home/alice/boundaries
	chown -R alice /home/alice/boundaries
	dovecot_configure mbox '~/boundaries' '~/inbox' </dev/null
	dovecot_does "-f tab mailbox status" "messages '*'" |
	    sed -n 's/^\([0-9]\{3\}\)\t\([0-9]*\)$/\1 \2/p' |
	    sort >"$WORLD/counts"
	agrees 2 <"$WORLD/counts" || { cat "$WORLD/dovecot.err" >&2; return 1; }
}

@test "mutt finds the messages of each boundary file that the table gives for mutt" {
	# mutt pipes each message to a program that writes a line.
	cp -r "$WORLD/boundaries" /home/alice/mutt
	chown -R alice /home/alice/mutt
	cat >"$WORLD/count" <<-'END'
	cd || exit
	echo "set quit=yes move=no wait_key=no beep=no pipe_split=yes pipe_decode=no folder=~" >"$1.rc"
	echo "push \"<tag-pattern>~A<enter><tag-prefix><pipe-message>wc -c >>~/$1.count<enter><exit>\"" >>"$1.rc"
	: >"$1.count"
	# <> keeps the input open; mutt ends when its input ends.
	TERM=xterm timeout 20 script -qefc "stty rows 24 cols 80; mutt -n -R -F $1.rc -f mutt/$1" /dev/null <>keys >"$1.screen" 2>&1
	echo "$1 $(wc -l <"$1.count")"
	END
	su alice -c 'cd; mkfifo keys'
	numbers | su alice -c "xargs -P 4 -n 1 sh $WORLD/count" |
	    sort >"$WORLD/counts"
	agrees 3 <"$WORLD/counts"
}

@test "mailutils finds the messages of each boundary file that the table gives for mailutils" {
	cp -r "$WORLD/boundaries" /home/alice/mailutils
	for file in $(numbers); do
		# A file that mailutils cannot open counts as 0.
		count=$(messages.mailutils -q "/home/alice/mailutils/$file" \
		    2>/dev/null || echo 0)
		echo "$file $count"
	done >"$WORLD/counts"
	agrees 4 <"$WORLD/counts"
}

# piped_by_mutt FILE: prints the first message of FILE, a file in alice's home.
# mutt pipes the message, without its From_ line, to the output.
piped_by_mutt() {
	cat >/home/alice/muttrc <<-'END'
	set quit=yes move=no wait_key=no beep=no pipe_decode=no folder=~
	push "<pipe-message>cat >~/piped<enter><exit>"
	END
	rm -f /home/alice/{keys,piped}
	su alice -c "cd; mkfifo keys; TERM=xterm timeout 20 script -qefc \
	    'stty rows 24 cols 80; mutt -n -R -F muttrc -f $1' \
	    /dev/null <>keys >screen 2>&1" || return 1
	tail -n +2 /home/alice/piped
}

@test "kpopd, mutt and mailutils keep the empty line that ends a header; Dovecot takes it for a separator" {
	dovecot_configure mbox '~/dove' '~/none' </dev/null
	for lines in 1 2 3; do
		{
			echo 'From s@example.test Mon Nov 23 05:00:00 2026'
			echo 'Message-ID: <1@example.test>'
			printf '\n%.0s' $(seq $lines)
			mbox two
		} | store alice
		wanted=$((29 + 1 + (lines > 2 ? lines - 2 : 0)))
		retrieve 1 | tr -d '\r' >"$WORLD/shown"
		[ "$(wc -c <"$WORLD/shown")" -eq $wanted ]
		cp /var/mail/alice /home/alice/box
		chown alice /home/alice/box
		piped_by_mutt box | diff - "$WORLD/shown"
		# If the header ends with a single empty line, mailutils finds
		# no message.
		[ $lines -eq 1 ] ||
		    su alice -c 'cd; mail.mailutils -n -f box' \
			<<<$'print 1\nexit' 2>&1 | grep -A 9 '^Message-ID' |
			diff - "$WORLD/shown"
		rm -rf /home/alice/dove
		su alice -c "cd; mkdir dove; cat /var/mail/alice >dove/box"
		dovecot_does fetch "size.physical mailbox box" \
		    >"$WORLD/dovecot.out"
		size=$(sed -n '/^size/{s/.*: //p;q}' "$WORLD/dovecot.out")
		echo "$size $lines"
	done >"$WORLD/dovecot.sizes"
	diff "$WORLD/dovecot.sizes" - <<<$'29 1\n30 2\n31 3'
}

@test "the table gives a reason where kpopd differs from all other programs, and kpopd hides no message that they find" {
	[ "$(wc -l <"$WORLD/boundaries.list")" -ge 40 ]
	run awk '$3 == $4 && $4 == $5 && $2 != $3 && $6 == 0' \
	    "$WORLD/boundaries.list"
	[ -z "$output" ] || { echo "$output"; return 1; }
	# kpopd must find every message that all other programs find.
	run awk '$2 < $3 && $2 < $4 && $2 < $5' "$WORLD/boundaries.list"
	[ -z "$output" ] || { echo "$output"; return 1; }
}
