#!/usr/bin/env bats
# Strange mailboxes and strange things in a mailbox' place: what is served is
# what stands there, what is kept stays byte for byte.

load helpers/all

setup() {
	begin_test
	realm_login alice
	uid=$(id -u alice)
}

teardown() {
	[ -z "${holder-}" ] || kill "$holder" 2>/dev/null || true
	if [ -n "${disk-}" ]; then
		chattr -R -ia "$disk" 2>/dev/null || true
		rm -rf "$disk"
	fi
	while mountpoint -q /var/mail/alice; do umount /var/mail/alice; done
	while [ "$(grep -c ' /var/mail ' /proc/self/mounts)" -gt 1 ]; do
		umount /var/mail
	done
	rm -f /home/*/.k5login /home/alice/elsewhere
	chmod 755 /home/alice
	[ ! -e "$WORLD/other-server" ] || usual_server
	end_test
}

# other_server OPTION …: until the test ends.
other_server() {
	touch "$WORLD/other-server"
	server_stop
	server_start "$@"
}

usual_server() {
	server_stop
	server_start
	rm -f "$WORLD/other-server"
}

# on_disk: alice's mailbox is $disk/alice of a real file system; the world's own
# tree is in memory.
on_disk() {
	disk=$(mktemp -d /var/tmp/kpopd-test.XXXXXX)
	chmod 755 "$disk"
	spool_place=$disk
	other_server -l fcntl -m "mbox:$disk/%u"
}

# messages_of FILE 'PERL': runs it with the file's messages, found by perl's own
# reading, as they stand in @part and as a client gets them in @wire (both from
# 1); what stands before the first is $part[0].
messages_of() {
	perl -we 'use strict; our (@part, @wire, @at);
		open F, "<", shift or die; binmode F; my $file = do { local $/; <F> } // ""; my $code = shift;
		while ($file =~ /(?:\A|(?<=\A\n)|(?<=\A\r\n)|(?<=\n\n)|(?<=\n\r\n))From ([^\n]*)/g) {
			my ($at, $line) = ($-[0], $1);
			push @at, $at if !@at || $line =~ / [A-Z][a-z]{2} +\d+ \d+:\d\d:\d\d \d{4}\r?\z/ ||
			    $file =~ /\G\n(?:[A-Za-z][!-9;-~]*:(?!\/\/)|>From )/;
		}
		$part[0] = substr($file, 0, $at[0] // length $file); $wire[0] = "";
		for my $n (1 .. @at) {
			my $m = $part[$n] = substr($file, $at[$n - 1], ($at[$n] // length $file) - $at[$n - 1]);
			$m =~ s/\A[^\n]*\n?//;
			# The empty line that ends the header stays, even if nothing comes after it.
			$m =~ s/(?<=\n)\r?\n\z// if $m =~ /(?:\A|\n)\r?\n./s;
			$m =~ s/(?<!\r)\n/\r\n/g;
			$m .= "\r\n" unless $m eq "" || substr($m, -1) eq "\n";
			$wire[$n] = $m;
		}
		eval $code; die $@ if $@' "$@"
}

# serves FILE: STAT, LIST, UIDL and all RETRs of alice's mailbox give what
# messages_of finds in FILE; byte by byte.
serves() {
	local count
	count=$(messages_of "$1" 'print $#part')
	{
		printf '%s\r\n' "USER alice" "PASS x" STAT LIST UIDL
		seq -f $'RETR %.0f\r' "$count"
		printf 'QUIT\r\n'
	} | kpopc mail.kpopd.test >"$WORLD/answers"
	# shellcheck disable=SC2016
	messages_of "$1" '
		open A, "<", $ARGV[0] or die; binmode A;
		my ($octets, @list, %seen) = (0);
		sub line { local $/ = "\r\n"; my $l = <A> // die "no more answers\n"; chomp $l; $l }
		sub good { my $l = line(); $l =~ /^\+OK/ or die "heard: $l\n"; $l }
		good() for 1 .. 2;
		good() eq "+OK $#part messages" or die "other number of messages than $#part\n";
		$octets += length for @wire;
		my $stat = good(); $stat eq "+OK $#part $octets" or die "STAT: $stat, not $octets\n";
		good(); while ((my $l = line()) ne ".") { push @list, $l }
		"@list" eq join " ", map "$_ " . length $wire[$_], 1 .. $#part or die "LIST: @list\n";
		good(); my $n = 0;
		while ((my $l = line()) ne ".") {
			$l =~ /^(\d+) ([\x21-\x7e]{1,70})$/ && $1 == ++$n && !$seen{$2}++ or die "UIDL: $l\n";
		}
		$n == $#part or die "UIDL: $n lines\n";
		for my $n (1 .. $#part) {
			good() eq "+OK " . length($wire[$n]) . " octets" or die "RETR $n: other size\n";
			my $got = ""; while ((my $l = line()) ne ".") { $l =~ s/^\.//; $got .= "$l\r\n" }
			$got eq $wire[$n] or die "RETR $n: other octets\n";
		}
		good() =~ /^\+OK bye/ or die;' "$WORLD/answers"
}

# removes N …: these messages of alice's mailbox go, all else stays byte for
# byte, and the file's owner and mode with it.
removes() {
	local file
	file=$(spool_file)
	# shellcheck disable=SC2016
	messages_of \
	    /var/mail/alice 'my %gone = map { $_ => 1 } @ARGV; print map $part[$_], grep !$gone{$_}, 0 .. $#part' "$@" >"$WORLD/kept"
	pop alice "${@/#/DELE }" QUIT >"$WORLD/answer"
	[[ $(tail -n 1 "$WORLD/answer") == "+OK bye, "* ]] &&
	    cmp "$WORLD/kept" /var/mail/alice &&
	    [ "$(spool_file)" = "$file" ] && no_journal
}

# whole [WHAT [COUNT]]: standard input as a mailbox is served whole and left
# alone, and each message can be removed by itself; the log has these sessions
# and no trouble.
whole() {
	local n count ends
	cat >"$WORLD/whole"
	count=$(messages_of "$WORLD/whole" 'print $#part')
	store alice <"$WORLD/whole"
	log_mark
	spool_mark
	serves "$WORLD/whole" && spool_kept ||
	    { echo "in the mailbox: ${1-}"; return 1; }
	ends=("$count 0 $count")
	for n in $(seq "$count"); do
		store alice <"$WORLD/whole"
		removes "$n" ||
		    { echo "DELE $n in the mailbox: ${1-}"; return 1; }
		ends+=("0 1 $((count - 1))")
	done
	log_says_quits "${ends[@]}" ||
	    { echo "of the mailbox: ${1-}"; return 1; }
	[ "$count" -eq "${2-$count}" ]
}

# refused: alice's ticket does not open alice's mailbox, which stays as it is.
refused() {
	spool_mark
	run pop alice STAT QUIT
	[[ ${lines[-1]} = \
	    "-ERR [AUTH] this ticket does not open that mailbox" ]] ||
	    { echo "$output"; return 1; }
	log_has 'refused .*reason="not permitted to be this user" user=alice'
	spool_kept
}

# bats test_tags=catalogue:45,catalogue:47
@test "empty mailboxes and such of empty lines alone have no messages and stay as they are" {
	for octets in '' '\n' '\n\n\n' '\r\n' '\r\n\n'; do
		printf "$octets" | whole "$octets" 0
	done
}

# bats test_tags=catalogue:48,catalogue:59-1
@test "messages without their line ends, empty lines or headers are served and removed alone" {
	printf 'From a\nA: b\n\nno final newline' | whole "no final newline" 1
	{ mbox one; printf 'From a\nA: b\n\nno final newline'; } |
	    whole "no final newline, two" 2
	printf 'From a' | whole "From and no end" 1
	printf 'From \n' | whole "From alone" 1
	printf 'From \n\nFrom \n\nFrom ' | whole "nothing but From" 1
	{ from_line; echo; from_line; echo; from_line; } |
	    whole "nothing but From and a date" 3
	printf 'From a\nA: b\nC: d' | whole "no empty line behind the header" 1
	printf 'From a\nA: b\nFrom c\nD: e\n\nFrom f\nG: h\n\n' |
	    whole "no empty line before From" 2
	{
		printf 'From a\n\nno header\n\n'
		from_line
		printf '\n\n\nFrom c\nD: e\n\n'
	} | whole "no header" 3
	printf '\n\nFrom a\nA: b\n\nc\n\nFrom d\nE: f\n\n' |
	    whole "empty lines in front" 2
	printf '\n\nFrom a\n\nc\n\nFrom d\nE: f\n\n' |
	    whole "empty lines in front, and no header" 2
	printf 'From a\nA: b\n\nc\n\r' | whole "CR at the end" 1
	printf 'From a\nA: b\n\nc\n\nF' | whole "F at the end" 1
	printf 'From a\nA: b\n\nc\n\n\n\n\nFrom d\nE: f\n\n\n\n' |
	    whole "many empty lines" 2
	printf 'From a\nA: b\n\nFrom c\nD: e\n\nFrom f\nG: h\n\n' |
	    whole "no body, one empty line" 3
	printf 'From a\nA: b\n\n\nFrom c\nD: e\n\n\nFrom f\nG: h\n\n\n' |
	    whole "no body, two empty lines" 3
	printf 'From a\r\nA: b\r\n\r\nFrom c\r\nD: e\r\n\r\n\r\n' |
	    whole "no body, CRLF" 2
}

# bats test_tags=catalogue:50,catalogue:51
@test "CRLF, mixed line ends and lone CRs are served and removed alone" {
	mbox one two three | sed 's/$/\r/' | whole "CRLF" 3
	{ mbox one; mbox two | sed 's/$/\r/'; mbox three; } |
	    whole "mixed by message" 3
	mbox one two three | sed '1~2s/$/\r/' | whole "mixed by line"
	mbox one two three | sed '2~2s/$/\r/' | whole "mixed by other lines"
	printf 'From a\r\nA: b\r\n\n\r\nFrom c\nD: e\n\r\nFrom f\r\r\nA: b\r\r\n\r\r\n\r\nFrom g\nC: d\n\n' | whole "CR CR LF" 4
	printf \
	    'From a\nA: b\rC: d\r\rFrom e\rF: g\n\n\rFrom h\n\nFrom i\nJ: k\n\n' | whole "lone CRs" 2
}

# bats test_tags=catalogue:52
@test "NULs and all other bytes are served and removed alone" {
	perl -e 'print "From a\nA: \0b\n\0\n\n\0\n\0\0\n\nFrom \0 Mon Nov 23 05:00:00 2026\n\0: \0\n\n\n"' | whole "NULs" 2
	perl -e 'print map "From a\nA: b\n\n" . join("", map chr, 0 .. 255) . "\n\n", 1 .. 3' | whole "all octets" 3
}

# bats test_tags=catalogue:53-1,catalogue:54
@test "From and a date or a header after it begin a message also where a body meant it, the word alone and >From never do" {
	printf 'From a\nA: b\n\nFrom c\n\nFrom d\nfrom e\n\nfrom f\n\n From g\n\nFrom: h\n\nFrom here on.' | whole "From in the body" 1
	printf 'From a\nA: b\n\nFrom c\nD: e\n\n' |
	    whole "From and a header in the body" 2
	{ printf 'From a\nA: b\n\n'; from_line; printf '\n\ntext\n\n'; } |
	    whole "From and a date in the body" 2
	printf 'From a\nA: b\n\n>From c\n\n>From d\n>>From e\n\nFrom f\nG: h\n\n>From i\n\n' | whole ">From" 2
}

# bats test_tags=catalogue:56
@test "lines of dots, and a dot alone, are served and removed alone" {
	printf 'From a\nA: b\n\n.\n..\n.c\n...\n\n.\n\nFrom .\nA.: .\n\n.\n\n' |
	    whole "dots" 2
	printf 'From a\nA: b\n\n.' | whole "a dot at the end" 1
}

# bats test_tags=catalogue:55-1
@test "a Content-Length that is not where a message ends decides nothing" {
	for length in 0 1 5 30 9999 99999999999999999999 -1 x; do
		printf 'From a\nContent-Length: %s\n\nc\n\nFrom d\nContent-Length: %s\nE: f\n\ng\n\nFrom h\nI: j\n\n' $length $length |
		    whole "Content-Length $length" 3
	done
}

# bats test_tags=catalogue:61
@test "equal messages have different UIDLs, and just one of them goes" {
	mbox two two one two | whole "equal messages" 4
	for _ in $(seq 20); do printf 'From a\nSame: yes\n\nsame\n\n'; done |
	    store alice
	log_mark
	serves /var/mail/alice
	removes 1 7 20
	serves /var/mail/alice
	log_says_quits "20 0 20" "0 3 17" "17 0 17"
	# Equal headers, other bodies: the right one goes.
	for n in 1 2 3 4 5; do printf 'From a\nSame: yes\n\n%s\n\n' $n; done |
	    whole "equal headers" 5
}

# bats test_tags=catalogue:64-1,catalogue:64-3
@test "the internal message stays byte for byte when all others go" {
	internal() {
		printf 'From MAILER-DAEMON Mon\nDate: now\nFrom: Mail System Internal Data <MAILER-DAEMON@mail>\nSubject: DON'\''T DELETE THIS MESSAGE -- FOLDER INTERNAL DATA\nX-IMAP: 1 2\nStatus: RO\n\ninternal\n\nlines\n\n'
	}
	{ internal; mbox one two; } | store alice
	file=$(spool_file)
	run pop alice STAT "DELE 2" QUIT
	[[ $output == *"+OK 2 messages"*"+OK bye, 1 messages left" ]]
	cmp /var/mail/alice <(internal; mbox one)
	run pop alice "DELE 1" QUIT
	[[ $output == *"+OK 1 messages"*"+OK bye, 0 messages left" ]]
	cmp /var/mail/alice <(internal)
	[ "$(spool_file)" = "$file" ]
	spool_mark
	run pop alice "DELE 1" QUIT
	[[ $output == \
	    *"+OK 0 messages"*"-ERR no such message"*"+OK bye, 0 messages left" ]]
	spool_kept
	log_says_quits "0 1 1" "0 1 0" "0 0 0"
	# Elsewhere than in front it is a message as others are.
	{ mbox one; internal; } | whole "not in front" 2
}

# bats test_tags=catalogue:65-1
@test "half a message that a delivery left at the end takes nothing with it but what stands behind it" {
	half() {
		from_line
		printf \
		    'Subject: half\n\nthis was to be longer, but the machine st'
	}
	{ mbox one two; half; } | whole "half a message" 3
	# Procmail appends behind it; the result is another program's doing, and
	# is served as it stands.
	{ mbox one two; half; } | store alice
	make_message three | deliver alice
	make_message four | deliver alice
	cp /var/mail/alice "$WORLD/whole"
	cmp <(head -c "$( { mbox one two; half; } | wc -c)" /var/mail/alice) \
	    <(mbox one two; half)
	serves "$WORLD/whole"
	count=$(messages_of "$WORLD/whole" 'print $#part')
	[ "$count" -ge 4 ]
	removes 2
	removes $((count - 1))
	removes 1
	# A From alone and half of it.
	for end in F From 'From ' 'From a' $'From a\nSubject: x'; do
		{ mbox one; printf '%s' "$end"; } | whole "$end"
	done
}

# bats test_tags=catalogue:65-2
@test "half a message behind which another is delivered during the session stays, with that one" {
	half() { from_line; printf 'Subject: half\n\nthis was to be longer'; }
	{ mbox one; half; } | store alice
	pop_login alice
	pop_ask "RETR 2"
	while pop_hear '' && [ "$heard" != . ]; do :; done
	pop_ask "DELE 2"
	make_message late | deliver alice
	cp /var/mail/alice "$WORLD/before"
	pop_ask "RETR 1"
	while pop_hear '' && [ "$heard" != . ]; do :; done
	pop_ask QUIT '^-ERR some deleted messages not removed'
	pop_hear_end
	cmp "$WORLD/before" /var/mail/alice
	grep -q '^Subject: late$' /var/mail/alice
	log_has 'failed .*another program changed the mailbox'
	log_has 'logout .* reason=quit .* deleted=0 left=2 '
}

# retrieve_sum: the SHA-256 of message 1 as POP3 sends it, of which no line may
# begin with a dot.
retrieve_sum() {
	printf '%s\r\n' "USER alice" "PASS x" "RETR 1" QUIT |
	    kpopc mail.kpopd.test | sed -e '1,4d' | head -n -2 | sha256sum
}

# bats test_tags=catalogue:58
@test "a header of a million fields and one of 100 MiB are served whole, in bounded memory, and kept" {
	fields() { printf 'Subject: many\n'; seq -f 'X-Field: %.0f' "$1"; }
	field() {
		printf 'Subject: '
		head -c 104857600 /dev/zero | tr '\0' h
		printf '\n'
	}
	for header in "fields 1000000" field; do
		# shellcheck disable=SC2086
		{ from_line; $header; printf '\nbody\n\n'; mbox last; } |
		    store alice
		sum=$(sha256sum </var/mail/alice)
		log_mark
		spool_mark
		[ "$(retrieve_sum)" = \
		    "$({ $header; printf '\nbody\n'; } | sed 's/$/\r/' |
			sha256sum)" ]
		# In one session: all of it is looked through, and sent.
		forget_index
		pop_login alice
		pop_say "RETR 1"
		timeout 60 sed -n '/^\.\r$/q' <&"$pop_in"
		pop_say "TOP 2 0"
		pop_hear_lines
		[ -n "${SANITIZER-}" ] ||
		    [ "$(sed -n 's/VmHWM:[^0-9]*\([0-9]*\).*/\1/p' \
			"/proc/$(child_pid)/status")" -lt 20000 ]
		pop_cut
		[ "$(sha256sum </var/mail/alice)" = "$sum" ]
		spool_kept
		file=$(spool_file)
		pop alice "DELE 1" QUIT
		spool_is alice last
		[ "$(spool_file)" = "$file" ]
		log_has 'logout .* reason=quit retrieved=1 .* deleted=0 left=2 '
		log_has 'logout .* reason=lost retrieved=1 .* topped=1 deleted=0 left=2 '
		log_has 'logout .* reason=quit retrieved=0 .* deleted=1 left=1 '
		log_says_no_trouble
	done
}

# bats test_tags=catalogue:63
@test "a sparse mailbox of a TiB: the login takes its time, which costs nobody else anything" {
	{ from_line; printf 'Subject: hole\n\n'; } | store alice
	truncate -s 1T /var/mail/alice
	mbox one | store bob
	spool_mark
	pop_open
	pop_hear '^\+OK'
	pop_ask "USER alice"
	pop_say "PASS x"
	log_has 'login .*user=alice'
	sleep 0.5
	session=$(child_pid)
	# Meanwhile: others are served at once, a second login is told so at
	# once, memory is bounded.
	KRB5CCNAME=FILE:$WORLD/bob.cc kinit -k -t "$WORLD/keytabs/bob.keytab" \
	    bob
	begin=$(date +%s%N)
	KRB5CCNAME=FILE:$WORLD/bob.cc run pop bob QUIT
	[[ $output == *"+OK 1 messages"* ]]
	run pop alice QUIT
	[[ ${lines[-1]} == \
	    "-ERR [IN-USE] another session has had the mailbox for "* ]]
	[ $((($(date +%s%N) - begin) / 1000000)) -lt 3000 ]
	[ -n "${SANITIZER-}" ] ||
	    [ "$(sed -n 's/VmHWM:[^0-9]*\([0-9]*\).*/\1/p' \
		"/proc/$session/status")" -lt 16384 ]
	if long; then
		begin=$SECONDS
		pop_patience=600 pop_hear '^\+OK 1 messages'
		echo "# 1 TiB of holes: $((SECONDS - begin)) s" >&3
		pop_ask "LIST 1" "^\\+OK 1 109951162[0-9]*$"
		pop_ask QUIT
	fi
	# Killed by hand it leaves no lock, and its client hears nothing but the
	# end.
	if ! long; then
		kill -KILL "$session"
		pop_hear_end
		log_has 'fatal .*session was ended by signal 9'
	fi
	await 5 '! pgrep -x kpopd >/dev/null'
	[ "$(stat -c %s /var/mail/alice)" -eq 1099511627776 ]
	spool_kept
}

# bats test_tags=catalogue:62
@test "a mailbox of 5 GiB: what stands behind and before the gap is read and removed" {
	# Holes cost nothing but the reading.
	long && room=12 || room=1
	on_disk
	[ "$(df --output=avail -B1G "$disk" | tail -n 1)" -ge $room ] ||
	    skip "less than $room GiB free"
	{ mbox one; from_line; printf 'Subject: hole\n\n'; } >"$disk/alice"
	begin=$(stat -c %s "$disk/alice")
	truncate -s $((5 << 30)) "$disk/alice"
	{ printf '\n\n'; mbox last; } >>"$disk/alice"
	chown alice "$disk/alice"
	file=$(spool_file "$disk/alice")
	spool_mark
	run pop alice STAT LIST "RETR 3" QUIT
	[[ $output == *"+OK 3 messages"*"+OK 3 53687"*"Subject: last"*"+OK bye, 3 messages left" ]]
	spool_kept
	log_says_quits "1 0 3"
	run pop alice "RETR 3" "DELE 3" QUIT
	[[ $output == \
	    *"+OK 3 messages"*"Subject: last"*"+OK bye, 2 messages left" ]]
	[ "$(stat -c %s "$disk/alice")" -eq $(((5 << 30) + 2)) ]
	# What is removed in front moves all of it.
	if long; then
		printf '%s\r\n' "USER alice" "PASS x" "DELE 1" QUIT |
		    kpopc mail.kpopd.test | grep '^+OK bye, 1 messages left'
		[ "$(stat -c %s "$disk/alice")" \
		    -eq $(((5 << 30) + 2 - $(mbox one | wc -c))) ]
		cmp <(head -c "$begin" "$disk/alice" | head -n 3) \
		    <(from_line; printf 'Subject: hole\n\n')
		no_journal
	else
		pop_login alice
		pop_ask "DELE 1"
		pop_cut
		log_has 'logout .* reason=lost .* deleted=0 left=2 '
	fi
	[ "$(spool_file "$disk/alice")" = "$file" ]
	log_says_no_trouble
}

# two_mailboxes: alice's, and bob's, which only our own checks keep from alice.
two_mailboxes() {
	mbox one two | store alice
	mbox secret private | store bob
	chmod 666 /var/mail/bob
	cp /etc/shadow "$WORLD/shadow"
	shadow=$(spool_file /etc/shadow)
}

others_are_kept() {
	spool_is bob secret private
	cmp "$WORLD/shadow" /etc/shadow &&
	    [ "$(spool_file /etc/shadow)" = "$shadow" ]
}

# bats test_tags=catalogue:67,catalogue:68,catalogue:69,catalogue:71,catalogue:72
@test "what is no mailbox of alice's is refused, and what stands there or behind it is as it was" {
	two_mailboxes
	for target in /etc/shadow /var/mail/bob /dev/null /dev/zero /nowhere \
	    alice "$WORLD"; do
		ln -sfn "$target" /var/mail/alice
		chown -h alice /var/mail/alice
		opens_not SYS/PERM 'symbolic links'
		[ "$(readlink /var/mail/alice)" = "$target" ]
		rm /var/mail/alice
	done
	[ ! -e /nowhere ]
	# A hard link to another's mail, and of one's own.
	ln /var/mail/bob /var/mail/alice
	opens_not SYS/PERM 'another owner|not permitted'
	rm /var/mail/alice
	mbox one two | store alice
	ln /var/mail/alice /var/mail/copy
	opens_not SYS/PERM 'more than one link'
	spool_is alice one two
	rm /var/mail/copy /var/mail/alice
	mkfifo -m 666 /var/mail/alice
	chown alice /var/mail/alice
	opens_not SYS/PERM 'not a regular file'
	[ -p /var/mail/alice ]
	rm /var/mail/alice
	mkdir -m 777 /var/mail/alice
	mbox one >/var/mail/alice/one
	chown -R alice /var/mail/alice
	opens_not SYS/PERM 'Is a directory'
	cmp /var/mail/alice/one <(mbox one)
	rm -r /var/mail/alice
	perl \
	    -MSocket -e 'socket(S, PF_UNIX, SOCK_STREAM, 0); bind(S, sockaddr_un("/var/mail/alice")) or die'
	chown alice /var/mail/alice
	opens_not SYS/PERM 'opening the mailbox'
	rm /var/mail/alice
	mbox one two | store alice
	for owner in bob root; do
		chown $owner /var/mail/alice
		chmod 666 /var/mail/alice
		opens_not SYS/PERM 'another owner|not permitted'
		spool_is alice one two
	done
	others_are_kept
}

# bats test_tags=catalogue:70
@test "devices in the mailbox' place are refused" {
	# Null, zero, full, tty; a disk that is not there.
	for device in 'c 1 3' 'c 1 5' 'c 1 7' 'c 5 0' 'b 99 99'; do
		# shellcheck disable=SC2086
		mknod -m 666 /var/mail/alice $device
		chown alice /var/mail/alice
		opens_not SYS/PERM 'opening the mailbox'
		rm /var/mail/alice
	done
	mbox one | store alice
	mount --bind /dev/null /var/mail/alice
	opens_not SYS/PERM 'opening the mailbox'
	umount /var/mail/alice
	spool_is alice one
}

# bats test_tags=catalogue:73-1,catalogue:73-2
@test "of a mailbox' mode the owner's bits count, and they are not changed" {
	for mode in 000 040 444 400 200; do
		mbox one two | store alice
		chmod $mode /var/mail/alice
		opens_not SYS/PERM 'Permission denied'
		[ "$(stat -c %a /var/mail/alice)" -eq $((10#$mode)) ]
	done
	for mode in 600 660 666 777; do
		mbox one two | store alice
		chmod $mode /var/mail/alice
		log_mark
		removes 1
		[ "$(stat -c %a /var/mail/alice)" -eq $mode ]
		log_says_quits "0 1 1"
	done
}

# swapped_login: one login gets alice's mail, none, or an error; $WORLD/good
# counts the first.
swapped_login() {
	log_mark
	pop alice "RETR 1" "DELE 7" "RETR 2" QUIT >"$WORLD/answer" || true
	cat "$WORLD/answer"
	grep -aq 'secret\|private' "$WORLD/answer" && return 1 || :
	if grep -q '^-ERR \[SYS/' "$WORLD/answer"; then
		log_has 'failed .*what="opening the mailbox" error=' &&
		    log_has 'logout .* reason=unavailable$'
		return
	fi
	grep -q '^+OK 2 messages' "$WORLD/answer" || {
		grep -q '^+OK 0 messages\|^-ERR \[IN-USE\]' "$WORLD/answer"
		return
	}
	echo $(($(cat "$WORLD/good") + 1)) >"$WORLD/good"
	diff \
	    <(grep -a ' line ' "$WORLD/answer") <(make_message one |
		grep ' line '; make_message two | grep ' line ')
}

# bats test_tags=catalogue:74
@test "a mailbox swapped for another's mail and back in a tight loop: never another's, nothing lost" {
	two_mailboxes
	mbox one two >"$WORLD/whole"
	file=$(spool_file)
	login_begin=$log_begin
	echo 0 >"$WORLD/good"
	# shellcheck disable=SC2016
	perl -e 'chdir "/var/mail" or die; $| = 1; print "held\n";
		# At times long enough for a whole login, at times for a part of one.
		sub nap { select undef, undef, undef, rand 0.02 if rand() < 0.1 }
		while (1) {
			nap; rename "alice", "real"; nap;
			symlink "/var/mail/bob", "next"; rename "next", "alice"; nap; rename "real", "alice";
			nap; rename "alice", "real";
			link "bob", "next"; rename "next", "alice"; nap; unlink "alice"; nap; rename "real", "alice";
		}' >"$WORLD/held" 3>&- &
	holder=$!
	await 5 "grep -q held $WORLD/held"
	long && tries=2000 || tries=100
	for _ in $(seq $tries); do
		count_point swapped_login
	done
	[ "$(cat "$WORLD/good")" -ge 1 ]
	points_are_good "logins to a mailbox that is being swapped" $tries
	kill "$holder"
	wait "$holder" 2>/dev/null || true
	holder=
	cd /var/mail
	[ ! -e real ] || mv -f real alice
	cmp "$WORLD/whole" /var/mail/alice
	[ "$(spool_file alice)" = "$file" ]
	others_are_kept
	log_begin=$login_begin
	log_lacks 'fatal|signal'
}

# bats test_tags=catalogue:75-1
@test "a swap in the middle of sessions with deletions: the removal finds its file or removes nothing" {
	two_mailboxes
	for swap in 'ln -sfn /var/mail/bob /var/mail/alice' \
	    'rm /var/mail/alice' 'mv /var/mail/alice /var/mail/moved' \
	    'ln -f /var/mail/bob /var/mail/alice' \
	    'rm /var/mail/alice; mkdir /var/mail/alice' \
	    'rm /var/mail/alice; mkfifo /var/mail/alice' \
	    'ln /var/mail/alice /var/mail/moved; cp -p --remove-destination /var/mail/alice /var/mail/alice.2; mv /var/mail/alice.2 /var/mail/alice'; do
		rm -rf /var/mail/alice /var/mail/moved
		mbox one two | store alice
		log_mark
		pop_login alice
		pop_ask "DELE 1"
		eval "$swap"
		spool_mark
		# Reading goes on from the file that was opened.
		pop_say "RETR 2"
		pop_hear_lines
		[[ ${lines[*]} == *"Subject: two"* ]]
		pop_ask QUIT '^-ERR (some deleted messages not removed|\[SYS/TEMP\] nothing removed|\[IN-USE\])'
		pop_hear_end
		spool_kept
		log_has 'failed .*another program (replaced|changed) the mailbox|failed .*what="locking the mailbox"'
		log_has 'logout .* reason=quit retrieved=1 .* deleted=0 left=2 '
		[ ! -e /var/mail/moved ] || cmp /var/mail/moved <(mbox one two)
		[ ! -f /var/mail/alice ] || [ -L /var/mail/alice ] ||
		    cmp /var/mail/alice <(mbox one two) ||
		    spool_is alice secret private
		others_are_kept
	done
	rm -rf /var/mail/alice /var/mail/moved
}

# large_message LINES: a message too large for what stands between server and
# client to take it at once.
large_message() {
	from_line
	printf 'Subject: large\n\n'
	yes 'one of many lines of some length, so that the client has to wait' |
	    head -n "$1"
	echo
}

# bats test_tags=catalogue:75-3
@test "a mailbox that shrinks in the middle of RETR: the answer ends without its dot" {
	{ large_message 800000; mbox last; } | store alice
	for shrink in 'truncate -s 100000 /var/mail/alice' \
	    ': >/var/mail/alice' 'mbox last >/var/mail/alice'; do
		{ large_message 800000; mbox last; } | store alice
		pop_login alice
		pop_say "RETR 1"
		pop_hear '^\+OK [0-9]+ octets'
		sleep 0.3
		eval "$shrink"
		spool_mark
		timeout 20 cat <&"$pop_in" >"$WORLD/rest"
		grep -qx $'\\.\r' "$WORLD/rest" && return 1 || :
		[ "$(stat -c %s "$WORLD/rest")" -lt 40000000 ]
		pop_close
		spool_kept
		log_has 'logout .*reason=changed'
		log_mark
	done
}

@test "a mailbox whose bytes move in the middle of RETR: what is of two places ends without its dot" {
	local field
	# As long as a line of it, so that there is as much of everything as was
	# promised.
	field="X-Keywords: $(large_message 1 | sed -n '4s/./k/gp' | cut -c 13-)"
	for moved in first large; do
		{ mbox first; large_message 800000; mbox last; } | store alice
		log_mark
		pop_login alice
		pop_say "RETR 2"
		pop_hear '^\+OK [0-9]+ octets'
		sleep 0.3
		# As a reader does that notes a keyword: all behind it stands
		# elsewhere, in the same file.
		sed "0,/^Subject: $moved/s//$field\\n&/" /var/mail/alice \
		    >"$WORLD/moved"
		cat "$WORLD/moved" 1<>/var/mail/alice
		spool_mark
		timeout 20 cat <&"$pop_in" >"$WORLD/rest"
		grep -qx $'\\.\r' "$WORLD/rest" && return 1 || :
		pop_close
		spool_kept
		log_has 'logout .*reason=changed'
	done
}

# bats test_tags=catalogue:75-4
@test "mail that arrives in the middle of RETR, and a mailbox that is replaced then, do not touch the answer" {
	for change in 'make_message late | deliver alice' \
	    'mv /var/mail/alice /var/mail/moved' 'rm /var/mail/alice'; do
		large_message 800000 | store alice
		log_mark
		pop_login alice
		pop_say "RETR 1"
		pop_hear '^\+OK [0-9]+ octets'
		sleep 0.3
		eval "$change"
		head -c \
		    "$(($(large_message 800000 | tail -n +2 | head -n -1 |
			wc -lc | awk '{ print $1 + $2 }')))" <&"$pop_in" \
		    >"$WORLD/rest"
		cmp \
		    "$WORLD/rest" <(large_message 800000 | tail -n +2 |
			head -n -1 | sed 's/$/\r/')
		pop_hear '^\.$'
		spool_mark
		pop_ask QUIT
		pop_hear_end
		spool_kept
		log_says_quits "1 0 1"
	done
}

# bats test_tags=catalogue:75-5
@test "a mailbox edited in its place, of the same size: what changed is neither served nor removed" {
	mbox one two three | store alice
	pop_login alice
	pop_ask "DELE 2"
	pop_ask "DELE 3"
	mbox one TWO three >/var/mail/alice
	file=$(spool_file)
	pop_ask "RSET"
	pop_ask "RETR 2" '^-ERR \[SYS/TEMP\] another program'
	pop_ask "DELE 2"
	pop_ask "DELE 3"
	pop_ask QUIT '^-ERR some deleted messages not removed'
	pop_hear_end
	spool_is alice one TWO
	[ "$(spool_file)" = "$file" ]
	log_has 'failed .*what="reading message 2" error="another program changed the mailbox"'
	log_has 'failed .*what="removing messages" error="another program changed the mailbox"'
	log_has 'logout .* reason=quit retrieved=0 .* deleted=1 left=2 '
}

# bats test_tags=catalogue:76-1
@test "an immutable mailbox is refused; one that becomes so is kept whole, and finished when it is no more" {
	on_disk
	mbox one two three >"$disk/alice"
	chown alice "$disk/alice"
	chattr +i "$disk/alice" || skip "this file system has no such attribute"
	opens_not SYS/PERM 'not permitted'
	chattr -i "$disk/alice"
	chattr +a "$disk/alice"
	opens_not SYS/PERM 'not permitted'
	chattr -a "$disk/alice"
	cmp "$disk/alice" <(mbox one two three)
	for attribute in i a; do
		# All of it: without a journal, at once or not at all.
		mbox one two three >"$disk/alice"
		pop_login alice
		for n in 1 2 3; do pop_ask "DELE $n"; done
		chattr +$attribute "$disk/alice"
		spool_mark
		pop_ask QUIT '^-ERR \[SYS/TEMP\] nothing removed'
		pop_hear_end
		spool_kept
		log_has 'failed .*what="truncating the mailbox" error="Operation not permitted"'
		chattr -$attribute "$disk/alice"
		cmp "$disk/alice" <(mbox one two three)
		# Some of it: decided, and so said.
		pop_login alice
		pop_ask "DELE 2"
		file=$(spool_file "$disk/alice")
		chattr +$attribute "$disk/alice"
		log_mark
		pop_ask QUIT \
		    '^-ERR \[SYS/TEMP\] the next login will finish the removal'
		pop_hear_end
		await 5 '! pgrep -x kpopd >/dev/null'
		log_has 'failed .*what="(writing|truncating) the mailbox" error="Operation not permitted"'
		opens_not SYS/PERM 'not permitted'
		chattr -$attribute "$disk/alice"
		run pop alice QUIT
		[[ $output == *"+OK 2 messages"* ]]
		cmp "$disk/alice" <(mbox one three)
		[ "$(spool_file "$disk/alice")" = "$file" ]
		log_has 'recovery .*state=j(\.cut)?$'
		no_journal
	done
}

# bats test_tags=catalogue:76-2
@test "a read-only mailbox is refused; one that becomes so in a session can be read, and QUIT is honest" {
	mbox one two three | store alice
	mount --bind /var/mail /var/mail
	mount -o remount,bind,ro /var/mail
	opens_not SYS/PERM 'Read-only'
	umount /var/mail
	pop_login alice
	pop_ask "DELE 1"
	mount --bind /var/mail /var/mail
	mount -o remount,bind,ro /var/mail
	pop_say "RETR 2"
	pop_hear_lines
	[[ ${lines[*]} == *"Subject: two"* ]]
	pop_ask QUIT '^-ERR \[SYS/TEMP\] nothing removed'
	pop_hear_end
	spool_kept
	umount /var/mail
	log_has \
	    'failed .*what="locking the mailbox" error="Read-only file system"'
	log_has 'logout .* reason=quit retrieved=1 .* deleted=0 left=3 '
	spool_is alice one two three
	no_journal
	removes 1
}

# bats test_tags=catalogue:66-4
@test "a dotlock that is no file is nobody's, and nobody waits for it" {
	mbox one two | store alice
	for make in 'mkfifo -m 666' 'mkdir'; do
		$make /var/mail/alice.lock
		forget_index
		pop_open
		pop_hear '^\+OK'
		pop_ask "USER alice"
		pop_ask "PASS x" \
		    '^-ERR \[SYS/TEMP\] the mailbox cannot be opened now$'
		pop_hear_end
		log_has 'failed .*locking the mailbox.*File exists'
		log_mark
		rm -r /var/mail/alice.lock
		pop_login alice
		pop_ask "DELE 1"
		$make /var/mail/alice.lock
		spool_mark
		pop_ask QUIT '^-ERR \[SYS/TEMP\] nothing removed'
		pop_hear_end
		spool_kept
		log_has 'failed .*locking the mailbox.*File exists'
		rm -r /var/mail/alice.lock
		spool_is alice one two
	done
	await 5 '! pgrep -x kpopd >/dev/null'
}

# bats test_tags=catalogue:66-3
@test "a dotlock from the future is nobody's to remove, whatever process is named in it" {
	mbox one two | store alice
	spool_mark
	sleep 0 & dead=$!
	wait $dead
	echo $dead >/var/mail/alice.lock
	touch -d '-1 year' /var/mail/alice.lock
	forget_index
	log_mark
	pop alice QUIT >"$WORLD/answer"
	grep -q '^+OK 2 messages' "$WORLD/answer"
	[ ! -e /var/mail/alice.lock ]
	log_says_quits "0 0 2"
	spool_kept
	for text in '' $dead; do
		from_the_future "$text"
	done
}

# from_the_future TEXT: a dotlock with this text and a time that has not come is
# waited for.
from_the_future() {
	echo "$1" >/var/mail/alice.lock
	touch -d '+1 year' /var/mail/alice.lock
	forget_index
	pop_open
	pop_hear '^\+OK'
	pop_ask "USER alice"
	pop_say "PASS x"
	if long; then
		pop_patience=15 pop_hear \
		    '^-ERR \[IN-USE\] another program has locked the mailbox$'
		pop_hear_end
		log_has 'failed .*what="locking the mailbox" error="Resource temporarily unavailable"'
		rm /var/mail/alice.lock
	else
		# It waits; when the lock goes, it goes on.
		sleep 1
		rm /var/mail/alice.lock
		pop_hear '^\+OK 2 messages'
		pop_ask QUIT
		pop_hear_end
	fi
	spool_is alice one two
	spool_kept
}

# k5login 'COMMAND': what makes alice's .k5login, which is hers.
k5login() {
	rm -rf /home/alice/.k5login
	eval "$1"
	chown -h alice /home/alice/.k5login
}

# bats test_tags=catalogue:77-3
@test "a .k5login of a GiB, one that never ends, a device, a directory and a loop let nobody in" {
	other_server -t 2
	mbox one | store alice
	spool_mark
	cd /home/alice
	# Each that hangs takes until the deadline.
	hanging=('truncate -s 1G .k5login' 'ln -s /dev/zero .k5login')
	long && hanging+=('mkfifo .k5login' 'ln -s /dev/full .k5login')
	for make in "${hanging[@]}" \
	    'yes bob@KPOPD.TEST | head -c 1000000 >.k5login' \
	    'head -c 1000000 /dev/zero | tr "\0" x >.k5login' \
	    'mkdir .k5login' 'ln -s .k5login .k5login' \
	    'ln -s /etc/shadow .k5login' 'ln -s /var/mail/alice .k5login' \
	    'printf "alice@KPOPD.TEST\0\n" | sed "s/^/x/" >.k5login' \
	    'printf "alice@KPOPD.TEST.\n" >.k5login' ': >.k5login'; do
		k5login "$make"
		log_mark
		begin=$SECONDS
		run pop alice STAT QUIT
		[[ $output != *messages* ]] ||
		    { echo "let in: $make"; return 1; }
		[ $((SECONDS - begin)) -lt 6 ]
		log_has 'refused .*reason="(not permitted to be this user"|login deadline, session killed")'
		log_lacks 'login peer'
	done
	await 5 '! pgrep -x kpopd >/dev/null'
	spool_kept
	# And in the same place a good one works.
	echo alice@KPOPD.TEST >elsewhere
	chown alice elsewhere
	k5login 'ln -s elsewhere .k5login'
	run pop alice QUIT
	[[ $output == *"+OK 1 messages"* ]]
	log_has 'login .*by=k5login'
}

# bats test_tags=catalogue:78-2
@test "a .k5login that cannot be looked for is not taken for an absent one" {
	mbox one | store alice
	k5login 'echo bob@KPOPD.TEST >/home/alice/.k5login'
	refused
	chmod 000 /home/alice
	refused
	log_has 'failed .*what="looking for [^"]+\.k5login" error="Permission denied"'
	chmod 755 /home/alice
	[ -z "${SANITIZER-}" ] || return 0
	# As a file server does that has trouble.
	for error in EIO ESTALE ETIMEDOUT EACCES; do
		log_mark
		pop_open
		pop_hear '^\+OK'
		strace -f -q -p "$(monitor_pid)" -o /dev/null \
		    -P \
		    /home/alice/.k5login -e "inject=access,faccessat,faccessat2,open,openat:error=$error" 2>/dev/null 3>&- &
		holder=$!
		await 5 \
		    "grep -q '^TracerPid:[[:space:]]*[1-9]' /proc/$(monitor_pid)/status"
		pop_ask "USER alice"
		pop_ask "PASS x" \
		    '^-ERR \[AUTH\] this ticket does not open that mailbox$'
		pop_hear_end
		wait "$holder" 2>/dev/null || true
		holder=
		log_has 'failed .*what="looking for [^"]+\.k5login"'
		log_lacks 'login peer'
	done
	# No home directory, and a file in its place, are an absent one.
	mv /home/alice /home/gone
	run pop alice QUIT
	touch /home/alice
	pop alice QUIT >"$WORLD/answer"
	rm /home/alice
	mv /home/gone /home/alice
	[[ $output == *"+OK 1 messages"* ]]
	grep -q '^+OK 1 messages' "$WORLD/answer"
	log_has 'login .*by=localname'
	spool_kept
}

# a_journal USER: $WORLD/USER.j is the journal of a removal of USER's that was
# decided but not begun; the mailbox is whole.
a_journal() {
	local session monitor ours
	ours=$(id -u "$1")
	mbox "$1-one" "$1-two" "$1-three" | store "$1"
	pop_login "$1"
	pop_ask "DELE 2"
	session=$(child_pid) monitor=$(monitor_pid)
	hold_broker
	strace -q -p "$session" -o /dev/null -e trace=fsync \
	    -e inject=fsync:signal=KILL:when=2 2>/dev/null 3>&- &
	holder=$!
	await 5 "grep -q '^TracerPid:[[:space:]]*[1-9]' /proc/$session/status"
	pop_say QUIT
	pop_hear '.' 2>/dev/null && return 1 || :
	pop_close
	wait "$holder" 2>/dev/null || true
	holder=
	kill_monitor
	await 5 '! pgrep -x kpopd >/dev/null'
	mv "$(kept "$1")/j" "$WORLD/$1.j"
	spool_is "$1" "$1-one" "$1-two" "$1-three"
}

# as_bob COMMAND …: with bob's ticket.
as_bob() {
	KRB5CCNAME=FILE:$WORLD/bob.cc kinit -k -t "$WORLD/keytabs/bob.keytab" \
	    bob
	KRB5CCNAME=FILE:$WORLD/bob.cc "$@"
}

# with_journal NAME FILE: FILE is NAME in alice's state directory, and she logs
# in.
with_journal() {
	cp "$2" "$(kept)/$1"
	chown alice "$(kept)/$1"
	log_mark
	spool_mark
	run pop alice QUIT
	[[ ${lines[-1]} == "+OK bye, "* ]]
	spool_kept
	# A j.tmp is forgotten; whatever else is not followed is kept for a
	# person to see.
	[ "$1" = j.tmp ] ||
	    log_has "rescue .*file=rescue\\.[0-9.]+\\.$1 reason=.(damaged journal|another program rewrote the mailbox)"
	ls "$(kept)" | grep -q '^j' && return 1 || :
}

# bats test_tags=catalogue:79-2
@test "another user's journal, one from an older mailbox and a truncated one remove nothing" {
	[ -z "${SANITIZER-}" ] || skip "ASan's own system calls are in the way"
	other_server -l fcntl
	as_bob a_journal bob
	a_journal alice
	size=$(stat -c %s "$WORLD/alice.j")
	for name in j j.cut j.tmp; do
		with_journal $name "$WORLD/bob.j"
		spool_is alice alice-one alice-two alice-three
		for cut in 0 1 7 8 100 4095 4096 $((size - 1)); do
			head -c "$cut" "$WORLD/alice.j" >"$WORLD/part"
			with_journal $name "$WORLD/part"
			spool_is alice alice-one alice-two alice-three
		done
		{ cat "$WORLD/alice.j"; echo more; } >"$WORLD/part"
		with_journal $name "$WORLD/part"
		spool_is alice alice-one alice-two alice-three
	done
	# An byte of the head is another one.
	for at in 0 8 16 24 32 40 60 100 150 191; do
		perl -0777 \
		    -pe 'BEGIN { $at = shift } substr($_, $at, 1) ^= "\x01"' \
		    "$at" "$WORLD/alice.j" >"$WORLD/part"
		with_journal j "$WORLD/part"
		spool_is alice alice-one alice-two alice-three
	done
	# The mailbox is another file of the same content, as after a move to
	# another disk: the journal is its own.
	cp -p --remove-destination /var/mail/alice "$WORLD/copy"
	mv "$WORLD/copy" /var/mail/alice
	cp -p "$WORLD/alice.j" "$(kept)/j"
	pop alice QUIT
	spool_is alice alice-one alice-three
	# The mailbox has other content.
	mbox alice-four | store alice
	with_journal j.cut "$WORLD/alice.j"
	spool_is alice alice-four
	# bob's own does what it is for.
	spool_is bob bob-one bob-two bob-three
	cp -p "$WORLD/bob.j" "$(kept bob)/j"
	log_mark
	file=$(spool_file /var/mail/bob)
	as_bob pop bob QUIT
	spool_is bob bob-one bob-three
	[ "$(spool_file /var/mail/bob)" = "$file" ]
	log_has 'recovery .*state=j$'
}

# bats test_tags=catalogue:79-5
@test "FIFOs, links, directories and devices in the state directory hang nothing and lead nowhere" {
	two_mailboxes
	pop alice QUIT
	echo precious >"$WORLD/precious"
	chown alice "$WORLD/precious"
	own=$(kept)
	# In the mailbox's own directory, and where an earlier version had these
	# files.
	for name in "$own"/{j,j.cut,j.tmp,session} \
	    "$state/users/$uid"/{j,j.tmp,session}; do
		for make in 'mkfifo' 'ln -s /etc/passwd' \
		    "ln -s $WORLD/precious" 'ln -s /dev/zero' 'ln -s nowhere' \
		    'mkdir' 'ln -s /var/mail/bob'; do
			rm -rf "${state:?}/users/$uid"/*
			mkdir -m 700 "$own"
			[ "${name%/*}" = "$own" ] ||
			    touch "$state/users/$uid/session"
			[ "${name##*/}" != session ] ||
			    rm -f "$state/users/$uid/session"
			bash -c "$make '$name'"
			chown -hR alice "$state/users/$uid"
			pop_open
			pop_hear '^\+OK'
			pop_ask "USER alice"
			log_mark
			spool_mark
			pop_ask "PASS x" '^(\+OK 2 messages|-ERR \[(SYS/TEMP|SYS/PERM|IN-USE)\])'
			if [[ $heard == +OK* ]]; then
				pop_ask "DELE 1"
				pop_ask QUIT '^(\+OK bye, 1|-ERR \[SYS/TEMP\])'
			fi
			pop_hear_end
			pop_close
			await 5 '! pgrep -x kpopd >/dev/null'
			case $heard in
			*'bye, 1'*)
				spool_is alice two
				mbox one two | store alice
				;;
			# Whatever is refused is said, and why.
			*)
				spool_kept
				log_has 'failed .*error='
				;;
			esac
			# Once it is gone all works.
			rm -rf "${state:?}/users/$uid"/*
			pop alice QUIT | grep -q '^+OK 2 messages'
		done
	done
	[ "$(cat "$WORLD/precious")" = precious ]
	others_are_kept
	log_lacks 'signal'
}
