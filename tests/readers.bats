#!/usr/bin/env bats
# Checks that no mail is lost or confused when real mail readers rewrite a
# mailbox during a session, or when a session removes messages from a mailbox
# that a reader has opened.

load helpers/all

readers=(mutt bsd-mailx mail.mailutils)

setup() {
	begin_test
	realm_login alice
	# The names have the same length, so that a message can move to the
	# exact offset of another one.
	names=(m1 m2 m3 m4 m5)
	printf 'set %s\n' folder=~ delete=yes quit=yes move=no wait_key=no \
	    beep=no mark_old=no sort=mailbox-order >"$WORLD/muttrc"
	[ -p "$WORLD/keys" ] || mkfifo "$WORLD/keys"
	reader=
}

teardown() {
	reader_end 2>/dev/null || true
	end_test
}

# reader_open READER: starts the reader on alice's mailbox as alice. Returns
# when the reader has read the mailbox.
reader_open() {
	local command="$1 -n"
	[ "$1" != mutt ] ||
	    command="TERM=xterm script -qefc 'stty rows 24 cols 80; mutt -n -F $WORLD/muttrc -f /var/mail/alice' /dev/null"
	rm -f "$WORLD/screen"
	su alice -c "cd; $command" <"$WORLD/keys" >"$WORLD/screen" 2>&1 3>&- &
	reader=$!
	exec {keys}>"$WORLD/keys"
	if [ "$1" = mutt ]; then
		# mutt discards the keys that it receives before it draws its
		# screen.
		await 10 "grep -aq -- ---Mutt: '$WORLD/screen'" ||
		    { tail -c 500 "$WORLD/screen" >&2; return 1; }
	else
		reader_types '!touch ~/ready\n'
		await 10 '[ -e /home/alice/ready ]'
		rm /home/alice/ready
	fi
}

# reader_types TEXT: sends keys to the reader. TEXT is a format of printf.
reader_types() {
	# shellcheck disable=SC2059
	printf "$1" >&"$keys"
}

# reader_deletes READER N: deletes message N in the reader. The file does not
# change yet.
reader_deletes() {
	if [ "$1" = mutt ]; then
		reader_types "$2\\nd"
	else
		reader_types "d $2\\n"
	fi
}

# reader_finishes READER: makes the reader rewrite the mailbox and end.
reader_finishes() {
	if [ "$1" = mutt ]; then reader_types q; else reader_types 'q\n'; fi
}

# reader_ends: waits until the reader ends.
reader_ends() {
	await 20 "! kill -0 $reader 2>/dev/null" ||
	    { tail -c 500 "$WORLD/screen" >&2; return 1; }
	reader_end
}

# reader_end: ends the reader if one runs.
reader_end() {
	[ -n "$reader" ] || return 0
	exec {keys}>&-
	kill "$reader" 2>/dev/null || true
	wait "$reader" 2>/dev/null || true
	reader=
}

# reader_quits READER: makes the reader rewrite the mailbox, and waits until the
# reader ends.
reader_quits() {
	reader_finishes "$1"
	# If mail arrives just before mutt writes, mutt does not end. Then send
	# the key a second time.
	await 20 "! kill -0 $reader 2>/dev/null || grep -aq 'Unable to write' '$WORLD/screen'"
	! grep -aq 'Unable to write' "$WORLD/screen" || reader_finishes "$1"
	reader_ends
}

# reader_removes READER N: starts the reader, removes message N, and ends the
# reader.
reader_removes() {
	reader_open "$1"
	reader_deletes "$1" "$2"
	reader_quits "$1"
}

# mbox_edit COMMAND ...: runs tests/programs/mbox-edit.pl.
mbox_edit() {
	perl "$BATS_TEST_DIRNAME/programs/mbox-edit.pl" "$@"
}

# subjects: prints, in one line, the subjects in alice's mailbox.
subjects() {
	sed -n 's/^Subject: //p' /var/mail/alice | xargs
}

# is_message NAME: returns true if standard input is the message NAME. Ignores
# the fields that readers add to the header.
is_message() {
	diff <(grep -Ev '^(Status|X-UID|X-IMAPbase|Content-Length|Lines): ') \
	    <(make_message "$1")
}

# holds_whole NAME ...: returns true if alice's mailbox contains each of these
# messages once and whole.
holds_whole() {
	local name
	for name in "$@"; do
		[ "$(grep -c "^Subject: $name\$" /var/mail/alice)" -eq 1 ] &&
		    mbox_edit message "$name" </var/mail/alice |
		    is_message "$name" || return
	done
}

# retr_or_err N NAME: retrieves message N. Fails unless the answer is -ERR or
# the whole message with this name.
retr_or_err() {
	pop_say "RETR $1"
	pop_hear
	[[ $heard != -ERR* ]] || return 0
	[[ $heard == +OK* ]]
	lines=()
	while pop_hear '' && [ "$heard" != . ]; do
		lines+=("$heard")
	done
	printf '%s\n' "${lines[@]}" | is_message "$2"
}

# bats test_tags=fault:11
@test "QUIT removes the marked messages that a mail reader has left, and RETR never shows another message" {
	for name in "${readers[@]}"; do
		for marks in 1 5 3 "1 5" "1 3 5" "2 3 4" "1 2 3 4 5"; do
			mbox "${names[@]}" | store alice
			pop_login alice
			for mark in $marks; do pop_ask "DELE $mark"; done
			reader_removes "$name" 3
			[ "$(subjects)" = "m1 m2 m4 m5" ]
			# Compute the file that the reader has written, without
			# the marked messages.
			read -ra marked <<<"m${marks// / m}"
			mbox_edit without "${marked[@]}" </var/mail/alice \
			    >"$WORLD/expected"
			for i in 1 2 3 4 5; do
				[[ " $marks " == *" $i "* ]] ||
				    retr_or_err "$i" "m$i"
			done
			if [[ $marks == *3* ]]; then
				pop_ask QUIT \
				    '^-ERR some deleted messages not removed'
			else
				pop_ask QUIT '^\+OK bye'
			fi
			pop_hear_end
			echo "$name removed 3, marked: $marks," \
			    "left: $(subjects)"
			cmp /var/mail/alice "$WORLD/expected"
		done
	done
}

@test "QUIT removes neither of two equal messages if a mail reader has already removed the marked one" {
	for name in "${readers[@]}"; do
		mbox m0 m1 tw tw m4 | store alice
		# Let the reader add its fields to all messages now, so that the
		# lengths do not change later.
		reader_removes "$name" 1
		pop_login alice
		pop_ask "DELE 2"
		reader_removes "$name" 2
		cp /var/mail/alice "$WORLD/expected"
		pop_ask QUIT '^-ERR some deleted messages not removed'
		pop_hear_end
		echo "after $name there are: $(subjects)"
		cmp /var/mail/alice "$WORLD/expected"
	done
}

@test "a session does not confuse two messages with equal headers after a mail reader has removed one" {
	for name in "${readers[@]}"; do
		{ mbox m0 m1 tw; mbox tw | sed 's/line/LINE/'; mbox m4; } |
		    store alice
		reader_removes "$name" 1
		pop_login alice
		reader_removes "$name" 2
		cp /var/mail/alice "$WORLD/expected"
		retr_or_err 2 tw
		pop_ask "DELE 2"
		pop_ask QUIT '^-ERR some deleted messages not removed'
		pop_hear_end
		cmp /var/mail/alice "$WORLD/expected"
	done
}

# bsd-mailx assumes that a mailbox only grows, and mailutils assumes that no
# message moves. Both lose mail if any program removes a message while they have
# the mailbox open. So this test leaves out mailutils, and delivers no mail
# while bsd-mailx runs.
@test "mutt and bsd-mailx lose no kept message if a session removes another while they have the mailbox open" {
	for name in mutt bsd-mailx; do
		mbox "${names[@]}" | store alice
		reader_open "$name"
		reader_deletes "$name" 4
		run pop alice "DELE 2" QUIT
		[[ $output == *"+OK bye, 4"* ]]
		[ "$name" != mutt ] || make_message late | deliver alice
		reader_quits "$name"
		echo "after $name there are: $(subjects)"
		holds_whole m1 m3 m5
		[ "$name" != mutt ] || holds_whole late
		run pop alice QUIT
		[[ ${lines[-1]} == "+OK bye"* ]]
	done
}

@test "QUIT answers [IN-USE] and removes nothing while a mail reader writes the mailbox" {
	for name in "${readers[@]}"; do
		mbox "${names[@]}" | store alice
		reader_open "$name"
		reader_deletes "$name" 4
		pop_login alice
		pop_ask "DELE 2"
		pid=$(pgrep -n -x -u alice "$name")
		attach "$pid" -o "$WORLD/stopped" -e trace=ftruncate \
		    -e inject=ftruncate:signal=STOP:when=1
		reader_finishes "$name"
		await 5 "grep -q 'stopped by SIGSTOP' $WORLD/stopped"
		pop_patience=60 pop_ask QUIT '^-ERR \[IN-USE\]'
		pop_hear_end
		kill "$tracer"
		wait "$tracer" 2>/dev/null || true
		kill -CONT "$pid"
		reader_ends
		echo "after $name there are: $(subjects)"
		[ "$(subjects)" = "m1 m2 m3 m5" ]
		holds_whole m1 m2 m3 m5
	done
}

# marks_mutt PROGRAM LABEL: sets flags and this label with mutt or neomutt.
marks_mutt() {
	cat >"$WORLD/marks" <<-END
	set quit=yes move=no wait_key=no beep=no folder=~ delete=yes sort=mailbox-order mbox_type=mbox
	push "<first-entry><edit-label><kill-line>$2<enter><next-entry><flag-message><next-entry><toggle-new><sync-mailbox><exit>"
	END
	in_terminal "$1 -n -F $WORLD/marks -f /var/mail/alice"
}

# marks_alpine: makes alpine number all messages and add its keyword fields.
marks_alpine() {
	printf '%s\n' inbox-path=/var/mail/alice \
	    feature-list=quit-without-confirm user-domain=kpopd.test \
	    last-version-used=6.26 >/home/alice/.pinerc
	chown alice /home/alice/.pinerc
	rm -f "$WORLD/screen"
	su alice -c "cd; mkdir -p mail; TERM=xterm script -qefc 'stty rows 40 cols 100; alpine -i' /dev/null" <"$WORLD/keys" >"$WORLD/screen" 2>&1 3>&- &
	reader=$!
	exec {keys}<>"$WORLD/keys"
	await 20 "grep -aq 'MESSAGE INDEX' '$WORLD/screen'" ||
	    { tail -c 600 "$WORLD/screen"; return 1; }
	# alpine discards a key that comes too early, so repeat the key.
	await 20 "reader_types q; ! kill -0 $reader 2>/dev/null"
	reader_end
}

# marks_dovecot KEYWORD: sets flags and this keyword with Dovecot.
marks_dovecot() {
	dovecot_configure mbox '~/dovecot' /var/mail/alice </dev/null
	dovecot_does "flags add" "'\\Seen $1' mailbox INBOX 1" &&
	    dovecot_does "flags add" "'\\Flagged \$Label1' mailbox INBOX 2" &&
	    dovecot_does "flags add" "'\\Answered $1' mailbox INBOX 3"
}

# marks_recorded front|end FIELD ...: changes each message as programs do that
# are too large for this test. Such a program puts these fields at the front or
# at the end of each header, and removes the fields that it added earlier.
marks_recorded() {
	mbox_edit fields "$@" </var/mail/alice >"$WORLD/marked"
	cat "$WORLD/marked" >/var/mail/alice
}

# marks READER N: makes the reader mark the messages for the first (1) or the
# second time (2). Fails unless the reader has written its field, $field.
marks() {
	case $1 in
	mutt | neomutt)
		field="X-Label: $1$2"
		marks_mutt "$1" "$1$2"
		;;
	bsd-mailx)
		field=Status:
		su alice -c 'cd; bsd-mailx -n -f /var/mail/alice' \
		    <<<$'type 2\nquit' >/dev/null 2>&1
		;;
	s-nail)
		field=X-Status:
		su alice -c 'cd; s-nail -n -f /var/mail/alice' \
		    <<<$'flag 1\nanswered 2\ndraft 3\nquit' >/dev/null 2>&1
		;;
	mailutils)
		field=X-UID:
		su alice -c 'cd; mail.mailutils -n -f /var/mail/alice' \
		    <<<$'set hold\nprint 3\nquit' >/dev/null 2>&1
		;;
	alpine)
		field=X-IMAPbase:
		marks_alpine
		;;
	dovecot)
		field="X-Keywords: .*$1$2"
		marks_dovecot "$1$2"
		;;
	thunderbird)
		field="X-Mozilla-Keys: .*foo$2"
		marks_recorded front "X-Mozilla-Status: 000$2" \
		    'X-Mozilla-Status2: 00000000' \
		    "X-Mozilla-Keys: \$label1 foo$2                          "
		;;
	evolution)
		field="X-Evolution: 00000001-001$2"
		marks_recorded end "X-Evolution: 00000001-001$2"
		;;
	rmail)
		field=X-RMAIL-ATTRIBUTES:
		marks_recorded end "X-RMAIL-ATTRIBUTES: A---$2---" \
		    "X-RMAIL-KEYWORDS: foo$2"
		;;
	gnus)
		field=X-Gnus-Article-Number:
		marks_recorded end 'Lines: 2' \
		    "X-Gnus-Article-Number: $2   Sun, 29 Nov 2026 06:02:00 +0000"
		;;
	vm)
		field=X-VM-v5-Data:
		marks_recorded front 'X-VM-Summary-Format: "%n %*%a\n"' \
		    "X-VM-Labels: (\"foo$2\")" 'X-VM-Bookmark: 2' \
		    "X-VM-v5-Data: ([t nil]\\n\\t[nil $2]\\n\\t(\"foo\"))"
		;;
	esac
	grep -q "^$field" /var/mail/alice ||
	    { echo "$1 has not written $field"; cat /var/mail/alice; return 1; }
}

# ids_are_kept: returns true if UIDL sends the lines in $WORLD/ids.
ids_are_kept() {
	pop alice UIDL QUIT | grep '^[0-9] ' | diff "$WORLD/ids" -
}

# bats test_tags=catalogue:60-2
@test "flags and labels that mail readers write, once or twice, do not change the UIDL of a message" {
	mbox m1 m2 m3 | store alice
	pop alice UIDL QUIT | grep '^[123] ' >"$WORLD/ids"
	[ "$(wc -l <"$WORLD/ids")" -eq 3 ]
	for name in mutt neomutt bsd-mailx s-nail mailutils alpine dovecot \
	    thunderbird evolution rmail gnus vm; do
		for time in 1 2; do
			marks "$name" "$time"
			for kept in yes no; do
				ids_are_kept || {
					echo "after $name, $time"
					cat /var/mail/alice
					return 1
				}
				[ "$kept" = no ] || forget_index
			done
		done
	done
}

# bats test_tags=attack:4-18
@test "a message with a truncated header keeps its UIDL when Dovecot ends the header's line and appends a message" {
	dovecot_configure mbox '~/dovecot' /var/mail/alice </dev/null
	for end in '' '\r' '\n\n'; do
		rm -rf /home/alice/dovecot
		{
			mbox m1
			from_line
			printf 'Message-ID: <cut@kpopd.test>\nSubject: cut%b' \
			    "$end"
		} | store alice
		forget_index
		pop alice UIDL QUIT | grep '^[12] ' >"$WORLD/ids"
		make_message m3 | dovecot_does save
		run pop alice UIDL QUIT
		[[ $output == *"+OK 3 messages"* ]] || {
			echo "after '$end'"
			cat "$WORLD/dovecot.err" /var/mail/alice
			return 1
		}
		grep '^[12] ' <<<"$output" | diff "$WORLD/ids" -
	done
}

@test "kpopd keeps the internal message of a mailbox that Dovecot has emptied, and does not show it" {
	mbox m1 m2 | store alice
	marks_dovecot one
	dovecot_does expunge 'mailbox INBOX all'
	grep -q '^X-IMAP: ' /var/mail/alice
	cp /var/mail/alice "$WORLD/internal"
	run pop alice STAT QUIT
	[[ $output == *$'\n+OK 0 0\n'* ]]
	make_message m3 | deliver alice
	run pop alice "DELE 1" QUIT
	[[ $output == *"+OK bye, 0 messages left"* ]]
	cmp /var/mail/alice "$WORLD/internal"
}

@test "kpopd does not show Dovecot's internal message after other mail readers or Dovecot have changed it" {
	mbox m1 m2 | store alice
	marks_dovecot one
	dovecot_does expunge 'mailbox INBOX all'
	for name in m3 m4 m5; do make_message "$name" | deliver alice; done
	pop alice UIDL QUIT | grep '^[0-9] ' >"$WORLD/ids"
	[ "$(wc -l <"$WORLD/ids")" -eq 3 ]
	for name in mutt bsd-mailx s-nail mailutils; do
		marks "$name" 1
		for then in '' 'marks_dovecot two'; do
			$then
			forget_index
			ids_are_kept || {
				echo "after $name, $then"
				cat /var/mail/alice
				return 1
			}
		done
	done
}

@test "a message gets another UIDL when mutt links it to a thread, which changes its In-Reply-To field" {
	mbox m1 m2 | store alice
	pop alice UIDL QUIT | grep '^[12] ' >"$WORLD/ids"
	printf 'set quit=yes move=no beep=no folder=~ sort=threads\npush "<first-entry><tag-entry><next-entry><link-threads><sync-mailbox><exit>"\n' >"$WORLD/marks"
	in_terminal "mutt -n -F $WORLD/marks -f /var/mail/alice"
	[ "$(grep -c '^In-Reply-To: ' /var/mail/alice)" -eq 1 ]
	pop alice UIDL QUIT | grep '^[12] ' >"$WORLD/now"
	[ "$(comm -12 <(sort "$WORLD/ids") <(sort "$WORLD/now") | wc -l)" \
	    -eq 1 ]
}
