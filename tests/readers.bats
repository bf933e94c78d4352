#!/usr/bin/env bats
# Real mail readers rewrite the mailbox while a session is open, and sessions
# remove from it while a reader has it open.

load helpers/all

readers=(mutt bsd-mailx mail.mailutils)

setup() {
	begin_test
	realm_login alice
	# Of one length each, so that one message may come to lie exactly where
	# another one was.
	names=(m1 m2 m3 m4 m5)
	echo "set folder=~ delete=yes quit=yes move=no wait_key=no beep=no mark_old=no sort=mailbox-order" >"$WORLD/muttrc"
	[ -p "$WORLD/keys" ] || mkfifo "$WORLD/keys"
	reader=
}

teardown() {
	reader_end 2>/dev/null || true
	end_test
}

# reader_open READER: alice starts it on her mailbox; returns when it shows it.
reader_open() {
	local command="$1 -n"
	[ "$1" != mutt ] ||
	    command="TERM=xterm script -qefc 'mutt -n -F $WORLD/muttrc -f /var/mail/alice' /dev/null"
	rm -f "$WORLD/screen"
	su alice -c "cd; $command" <"$WORLD/keys" >"$WORLD/screen" 2>&1 3>&- &
	reader=$!
	exec {keys}>"$WORLD/keys"
	if [ "$1" = mutt ]; then
		# What is typed before the screen is there would be forgotten.
		await 10 "grep -aq -- ---Mutt: '$WORLD/screen'" ||
		    { tail -c 500 "$WORLD/screen" >&2; return 1; }
	else
		reader_does '!touch ~/ready\n'
		await 10 '[ -e /home/alice/ready ]'
		rm /home/alice/ready
	fi
}

reader_does() {
	# shellcheck disable=SC2059
	printf "$1" >&"$keys"
}

# reader_deletes READER N: not yet in the file.
reader_deletes() {
	if [ "$1" = mutt ]; then
		reader_does "$2\\nd"
	else
		reader_does "d $2\\n"
	fi
}

# It is told to rewrite the mailbox and end.
reader_finishes() {
	if [ "$1" = mutt ]; then reader_does q; else reader_does 'q\n'; fi
}

reader_ends() {
	await 20 "! kill -0 $reader 2>/dev/null" ||
	    { tail -c 500 "$WORLD/screen" >&2; return 1; }
	reader_end
}

reader_end() {
	[ -n "$reader" ] || return 0
	exec {keys}>&-
	kill "$reader" 2>/dev/null || true
	wait "$reader" 2>/dev/null || true
	reader=
}

reader_quits() {
	reader_finishes "$1"
	# mutt stays when mail comes while it is about to write, and wants to be
	# told again.
	await 20 "! kill -0 $reader 2>/dev/null || grep -aq 'Unable to write' '$WORLD/screen'"
	! grep -aq 'Unable to write' "$WORLD/screen" || reader_finishes "$1"
	reader_ends
}

# reader_removes READER N: all of it.
reader_removes() {
	reader_open "$1"
	reader_deletes "$1" "$2"
	reader_quits "$1"
}

# without NAME …: the mailbox on standard input without these messages.
without() {
	perl -e '%gone = map { $_ => 1 } @ARGV; undef $/;
	    for (split /(?<=\n\n)(?=From )/, <STDIN>) { /^Subject: (.*)/m; print unless $gone{$1} }' "$@"
}

# subjects: of the messages in the mailbox, in one line.
subjects() {
	sed -n 's/^Subject: //p' /var/mail/alice | xargs
}

# is_message NAME: standard input is it, but for the fields that readers add to
# the header.
is_message() {
	diff <(grep -Ev '^(Status|X-UID|X-IMAPbase|Content-Length|Lines): ') \
	    <(make_message "$1")
}

# holds_whole NAME …: the mailbox has each of these messages once, and whole.
holds_whole() {
	local name
	for name in "$@"; do
		[ "$(grep -c "^Subject: $name\$" /var/mail/alice)" -eq 1 ]
		perl -e 'undef $/; for (split /(?<=\n\n)(?=From )/, <STDIN>) { print substr($_, index($_, "\n") + 1, -1) if /^Subject: $ARGV[0]$/m }' \
		    "$name" </var/mail/alice | is_message "$name"
	done
}

# retr_or_err N NAME: the message with this name, whole, or a refusal.
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
@test "a reader removes a message in mid-session: of the marked ones just those go that are still there; no other is shown" {
	for name in "${readers[@]}"; do
		for marks in 1 5 3 "1 5" "1 3 5" "2 3 4" "1 2 3 4 5"; do
			mbox "${names[@]}" | store alice
			pop_login alice
			for mark in $marks; do pop_ask "DELE $mark"; done
			reader_removes "$name" 3
			[ "$(subjects)" = "m1 m2 m4 m5" ]
			# What the reader left, without what was marked.
			read -ra gone <<<"m${marks// / m}"
			without "${gone[@]}" </var/mail/alice >"$WORLD/expected"
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
			echo \
			    "$name removed 3, marked were $marks, there are: $(subjects)"
			cmp /var/mail/alice "$WORLD/expected"
		done
	done
}

@test "a reader removes one of two equal messages, and that one was marked: the other one stays" {
	for name in "${readers[@]}"; do
		mbox m0 m1 tw tw m4 | store alice
		# It has added its fields to all of them: lengths stay the same
		# from now on.
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

@test "a reader removes one of two messages whose headers are equal, their bodies not: neither is taken for the other" {
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

# bsd-mailx believes that a mailbox can only have grown, mailutils that nothing
# moves. Whoever removes a message while they have the mailbox open makes them
# lose mail, be it mutt or us; only the first one's rewriting is good enough to
# be tested, and only without new mail.
@test "a session removes messages while a reader has the mailbox open: what the reader writes then lacks nothing that was kept" {
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

@test "while a reader writes, QUIT finds the mailbox [IN-USE] and removes nothing" {
	for name in "${readers[@]}"; do
		mbox "${names[@]}" | store alice
		reader_open "$name"
		reader_deletes "$name" 4
		pop_login alice
		pop_ask "DELE 2"
		pid=$(pgrep -n -x -u alice "$name")
		strace -q -p "$pid" -o "$WORLD/stopped" -e trace=ftruncate \
		    -e inject=ftruncate:signal=STOP:when=1 2>/dev/null 3>&- &
		tracer=$!
		await 5 \
		    "grep -q '^TracerPid:[[:space:]]*[1-9]' /proc/$pid/status"
		reader_finishes "$name"
		await 5 "grep -q 'stopped by SIGSTOP' $WORLD/stopped"
		pop_patience=15 pop_ask QUIT '^-ERR \[IN-USE\]'
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

# in_terminal PROGRAM: alice runs it in a terminal, without keys, until it ends.
in_terminal() {
	rm -f "$WORLD/screen"
	su alice -c "cd; TERM=xterm timeout 20 script -qefc 'stty rows 40 cols 100; $1' /dev/null" <>"$WORLD/keys" >"$WORLD/screen" 2>&1
}

# marks_mutt PROGRAM LABEL: flags and labels, as mutt and neomutt set them.
marks_mutt() {
	cat >"$WORLD/marks" <<-END
	set quit=yes move=no wait_key=no beep=no folder=~ delete=yes sort=mailbox-order mbox_type=mbox
	push "<first-entry><edit-label><kill-line>$2<enter><next-entry><flag-message><next-entry><toggle-new><sync-mailbox><exit>"
	END
	in_terminal "$1 -n -F $WORLD/marks -f /var/mail/alice"
}

# marks_alpine: it numbers all messages, and makes room for keywords.
marks_alpine() {
	printf 'inbox-path=/var/mail/alice\nfeature-list=quit-without-confirm\nuser-domain=kpopd.test\nlast-version-used=6.26\n' >/home/alice/.pinerc
	chown alice /home/alice/.pinerc
	rm -f "$WORLD/screen"
	su alice -c "cd; mkdir -p mail; TERM=xterm script -qefc 'stty rows 40 cols 100; alpine -i' /dev/null" <"$WORLD/keys" >"$WORLD/screen" 2>&1 3>&- &
	reader=$!
	exec {keys}<>"$WORLD/keys"
	await 20 "grep -aq 'MESSAGE INDEX' '$WORLD/screen'" ||
	    { tail -c 600 "$WORLD/screen"; return 1; }
	# A key that comes too early is forgotten.
	await 20 "reader_does q; ! kill -0 $reader 2>/dev/null"
	reader_end
}

configure_dovecot() {
	printf 'log_path = /dev/stderr\nmail_location = mbox:~/dovecot:INBOX=/var/mail/alice\nmbox_write_locks = fcntl\nfirst_valid_uid = 1\n' >"$WORLD/dovecot.conf"
	chmod 755 "$WORLD"
}

# marks_dovecot KEYWORD
marks_dovecot() {
	configure_dovecot
	# shellcheck disable=SC2016
	su alice -c "cd; export USER=alice; for what in '1 \\Seen $1' '2 \\Flagged \$Label1' '3 \\Answered $1'; do
		set -- \$what; doveadm -o stats_writer_socket_path= -c $WORLD/dovecot.conf flags add \"\$2 \$3\" mailbox INBOX \"\$1\" || exit 1; done" 2>"$WORLD/dovecot.err" ||
	    { cat "$WORLD/dovecot.err"; return 1; }
}

# marks_recorded FIELD …: a program that is too large for this test was seen to
# put such fields in front of a header (front), or at its end, in the same way
# in each message, and to replace those that it has put there before.
marks_recorded() {
	perl -we 'my ($front, @fields) = @ARGV; undef $/; $_ = <STDIN>;
		for my $m (split /(?<=\n\n)(?=From )/) {
			my ($from, $header, $body) = $m =~ /\A(.*\n)((?:.+\n)*)(\n.*)\z/s or die;
			for my $f (@fields) { my ($name) = $f =~ /^([^:]+):/; $header =~ s/^\Q$name\E:.*\n(?:[ \t].*\n)*//mg }
			my $new = join "", map { s/\\n\\t/\n\t/gr . "\n" } @fields;
			print $from, $front eq "front" ? $new . $header : $header . $new, $body;
		}' "$@" </var/mail/alice >"$WORLD/marked"
	cat "$WORLD/marked" >/var/mail/alice
}

# marks READER N: what the reader does to each message the first (1) and the
# second time (2); field: what it is seen by.
marks() {
	case $1 in
	mutt | neomutt) field="X-Label: $1$2"; marks_mutt "$1" "$1$2" ;;
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
	alpine) field=X-IMAPbase:; marks_alpine ;;
	dovecot) field="X-Keywords: .*$1$2"; marks_dovecot "$1$2" ;;
	thunderbird) field="X-Mozilla-Keys: .*foo$2"
		marks_recorded front "X-Mozilla-Status: 000$2" \
		    'X-Mozilla-Status2: 00000000' \
		    "X-Mozilla-Keys: \$label1 foo$2                          " ;;
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
		marks_recorded end \
		    'Lines: 2' "X-Gnus-Article-Number: $2   Sun, 29 Nov 2026 06:02:00 +0000"
		;;
	vm) field=X-VM-v5-Data:
		marks_recorded front 'X-VM-Summary-Format: "%n %*%a\n"' \
		    "X-VM-Labels: (\"foo$2\")" 'X-VM-Bookmark: 2' \
		    "X-VM-v5-Data: ([t nil]\\n\\t[nil $2]\\n\\t(\"foo\"))" ;;
	esac
	grep -q "^$field" /var/mail/alice ||
	    { echo "$1 has not written $field"; cat /var/mail/alice; return 1; }
}

# bats test_tags=catalogue:60-2
@test "flags and labels that real readers write change no UIDL, the first time and the next; no message is taken for new" {
	mbox m1 m2 m3 | store alice
	pop alice UIDL QUIT | grep '^[123] ' >"$WORLD/ids"
	[ "$(wc -l <"$WORLD/ids")" -eq 3 ]
	for name in mutt neomutt bsd-mailx s-nail mailutils alpine dovecot \
	    thunderbird evolution rmail gnus vm; do
		for time in 1 2; do
			marks "$name" "$time"
			for kept in yes no; do
				pop alice UIDL QUIT | grep '^[123] ' |
				    diff "$WORLD/ids" - || {
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
@test "a message whose header was cut off has the same UIDL when Dovecot has ended its line and put another one after it" {
	configure_dovecot
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
		make_message m3 |
		    su alice -c "cd; USER=alice doveadm -o stats_writer_socket_path= -c $WORLD/dovecot.conf save" 2>"$WORLD/dovecot.err" ||
		    { cat "$WORLD/dovecot.err"; return 1; }
		run pop alice UIDL QUIT
		[[ $output == *"+OK 3 messages"* ]] || {
			echo "after '$end'"
			cat "$WORLD/dovecot.err" /var/mail/alice
			return 1
		}
		grep '^[12] ' <<<"$output" | diff "$WORLD/ids" -
	done
}

@test "what Dovecot keeps in a mailbox that it has emptied is no message, and stays" {
	mbox m1 m2 | store alice
	marks_dovecot one
	su alice -c "cd; USER=alice doveadm -o stats_writer_socket_path= -c $WORLD/dovecot.conf expunge mailbox INBOX all" 2>"$WORLD/dovecot.err"
	grep -q '^X-IMAP: ' /var/mail/alice
	cp /var/mail/alice "$WORLD/internal"
	run pop alice STAT QUIT
	[[ $output == *$'\n+OK 0 0\n'* ]]
	make_message m3 | deliver alice
	run pop alice "DELE 1" QUIT
	[[ $output == *"+OK bye, 0 messages left"* ]]
	cmp /var/mail/alice "$WORLD/internal"
}

@test "what Dovecot keeps in a mailbox is no message, whatever other readers write into it, and Dovecot again" {
	mbox m1 m2 | store alice
	marks_dovecot one
	su alice -c "cd; USER=alice doveadm -o stats_writer_socket_path= -c $WORLD/dovecot.conf expunge mailbox INBOX all" 2>"$WORLD/dovecot.err"
	for name in m3 m4 m5; do make_message "$name" | deliver alice; done
	pop alice UIDL QUIT | grep '^[0-9] ' >"$WORLD/ids"
	[ "$(wc -l <"$WORLD/ids")" -eq 3 ]
	for name in mutt bsd-mailx s-nail mailutils; do
		marks "$name" 1
		for then in '' 'marks_dovecot two'; do
			$then
			forget_index
			pop alice UIDL QUIT | grep '^[0-9] ' |
			    diff "$WORLD/ids" - || {
				    echo "after $name, $then"
				    cat /var/mail/alice
				    return 1
			    }
		done
	done
}

@test "a thread that mutt links is another message then: In-Reply-To is part of what the sender wrote" {
	mbox m1 m2 | store alice
	pop alice UIDL QUIT | grep '^[12] ' >"$WORLD/ids"
	printf 'set quit=yes move=no beep=no folder=~ sort=threads\npush "<first-entry><tag-entry><next-entry><link-threads><sync-mailbox><exit>"\n' >"$WORLD/marks"
	in_terminal "mutt -n -F $WORLD/marks -f /var/mail/alice"
	[ "$(grep -c '^In-Reply-To: ' /var/mail/alice)" -eq 1 ]
	pop alice UIDL QUIT | grep '^[12] ' >"$WORLD/now"
	[ "$(comm -12 <(sort "$WORLD/ids") <(sort "$WORLD/now") | wc -l)" \
	    -eq 1 ]
}
