#!/usr/bin/env bats
# Strange mailboxes and strange things in a mailbox' place: what is served is what stands there, what is kept stays octet for octet.

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
	while [ "$(grep -c ' /var/mail ' /proc/self/mounts)" -gt 1 ]; do umount /var/mail; done
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

# on_disk: alice's mailbox is $disk/alice of a real file system; the world's own tree is in memory.
on_disk() {
	disk=$(mktemp -d /var/tmp/kpopd-test.XXXXXX)
	chmod 755 "$disk"
	other_server -m "mbox:$disk/%u" "$@"
}

# messages_of FILE 'PERL': runs it with the file's messages, found by perl's own reading, as they stand in @part and as a
# client gets them in @wire (both from 1); what stands before the first is $part[0].
messages_of() {
	perl -we 'use strict; our (@part, @wire, @at);
		open F, "<", shift or die; binmode F; my $file = do { local $/; <F> } // ""; my $code = shift;
		push @at, $-[0] while $file =~ /(?:\A|(?<=\A\n)|(?<=\A\r\n)|(?<=\n\n)|(?<=\n\r\n))From /g;
		$part[0] = substr($file, 0, $at[0] // length $file); $wire[0] = "";
		for my $n (1 .. @at) {
			my $m = $part[$n] = substr($file, $at[$n - 1], ($at[$n] // length $file) - $at[$n - 1]);
			$m =~ s/(?<=\n)\r?\n\z//;
			$m =~ s/\A[^\n]*\n?//;
			$m =~ s/(?<!\r)\n/\r\n/g;
			$m .= "\r\n" unless $m eq "" || substr($m, -1) eq "\n";
			$wire[$n] = $m;
		}
		eval $code; die $@ if $@' "$@"
}

# serves FILE: STAT, LIST, UIDL and all RETRs of alice's mailbox give what messages_of finds in FILE; octet by octet.
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

# removes N …: these messages of alice's mailbox go, all else stays octet for octet.
removes() {
	# shellcheck disable=SC2016
	messages_of /var/mail/alice 'my %gone = map { $_ => 1 } @ARGV; print map $part[$_], grep !$gone{$_}, 0 .. $#part' "$@" >"$WORLD/kept"
	pop alice "${@/#/DELE }" QUIT >"$WORLD/answer"
	[[ $(tail -n 1 "$WORLD/answer") == "+OK bye, "* ]] && cmp "$WORLD/kept" /var/mail/alice &&
	    no_journal
}

# whole [WHAT]: standard input as a mailbox is served whole and left alone, and each message can be removed by itself.
whole() {
	local n count
	cat >"$WORLD/whole"
	store alice <"$WORLD/whole"
	serves "$WORLD/whole" || { echo "in the mailbox: ${1-}"; return 1; }
	cmp "$WORLD/whole" /var/mail/alice
	count=$(messages_of "$WORLD/whole" 'print $#part')
	for n in $(seq "$count"); do
		store alice <"$WORLD/whole"
		removes "$n" || { echo "DELE $n in the mailbox: ${1-}"; return 1; }
	done
	[ "$count" -eq "${2-$count}" ]
}

# opens_not 'ERROR' 'LOG': the mailbox cannot be opened; so the client hears and the log says.
opens_not() {
	log_mark
	run pop alice STAT QUIT
	[[ ${lines[-1]} == "-ERR [$1]"* && ${#lines[-1]} -lt 78 ]] || { echo "$output"; return 1; }
	log_has "failed .*$2"
}

# refused: alice's ticket does not open alice's mailbox.
refused() {
	run pop alice STAT QUIT
	[[ ${lines[-1]} == "-ERR [AUTH] "* ]] || { echo "$output"; return 1; }
}

@test "empty mailboxes and such of empty lines alone have no messages and stay as they are" {
	for octets in '' '\n' '\n\n\n' '\r\n' '\r\n\n'; do
		printf "$octets" | whole "$octets" 0
	done
}

@test "messages without their line ends, empty lines or headers are served and removed alone" {
	printf 'From a\nA: b\n\nno final newline' | whole "no final newline" 1
	{ mbox one; printf 'From a\nA: b\n\nno final newline'; } | whole "no final newline, two" 2
	printf 'From a' | whole "From and no end" 1
	printf 'From \n' | whole "From alone" 1
	printf 'From \n\nFrom \n\nFrom ' | whole "nothing but From" 3
	printf 'From a\nA: b\nC: d' | whole "no empty line behind the header" 1
	printf 'From a\nA: b\nFrom c\nD: e\n\nFrom f\nG: h\n\n' | whole "no empty line before From" 2
	printf 'From a\n\nno header\n\nFrom b\n\n\n\nFrom c\nD: e\n\n' | whole "no header" 3
	printf '\n\nFrom a\nA: b\n\nc\n\nFrom d\nE: f\n\n' | whole "empty lines in front" 2
	printf 'From a\nA: b\n\nc\n\r' | whole "CR at the end" 1
	printf 'From a\nA: b\n\nc\n\nF' | whole "F at the end" 1
	printf 'From a\nA: b\n\nc\n\n\n\n\nFrom d\nE: f\n\n\n\n' | whole "many empty lines" 2
}

@test "CRLF, mixed line ends and lone CRs are served and removed alone" {
	mbox one two three | sed 's/$/\r/' | whole "CRLF" 3
	{ mbox one; mbox two | sed 's/$/\r/'; mbox three; } | whole "mixed by message" 3
	mbox one two three | sed '1~2s/$/\r/' | whole "mixed by line"
	mbox one two three | sed '2~2s/$/\r/' | whole "mixed by other lines"
	printf 'From a\r\nA: b\r\n\n\r\nFrom c\nD: e\n\r\nFrom f\r\r\n\r\r\n\r\nFrom g\n\n' | whole "CR CR LF" 4
	printf 'From a\nA: b\rC: d\r\rFrom e\rF: g\n\n\rFrom h\n\nFrom i\n\n' | whole "lone CRs" 2
}

@test "NULs, all octets, From in bodies, dots and a lying Content-Length are served and removed alone" {
	perl -e 'print "From a\nA: \0b\n\0\n\n\0\n\0\0\n\nFrom \0\n\0: \0\n\n\n"' | whole "NULs" 2
	perl -e 'print map "From a\nA: b\n\n" . join("", map chr, 0 .. 255) . "\n\n", 1 .. 3' | whole "all octets" 3
	printf 'From a\nA: b\n\nFrom c\n\nFrom d\nfrom e\n\nfrom f\n\n From g\n\nFrom: h\n\n' | whole "From in the body"
	printf 'From a\nA: b\n\n>From c\n\n>From d\n>>From e\n\nFrom f\nG: h\n\n>From i\n\n' | whole ">From" 2
	printf 'From a\nA: b\n\n.\n..\n.c\n...\n\n.\n\nFrom .\n.: .\n\n.\n\n' | whole "dots" 2
	printf 'From a\nA: b\n\n.' | whole "a dot at the end" 1
	for length in 0 1 5 30 9999 99999999999999999999 -1 x; do
		printf 'From a\nContent-Length: %s\n\nc\n\nFrom d\nContent-Length: %s\nE: f\n\ng\n\nFrom h\n\n' $length $length |
		    whole "Content-Length $length" 3
	done
}

@test "equal messages have different UIDLs, and just one of them goes" {
	mbox two two one two | whole "equal messages" 4
	for _ in $(seq 20); do printf 'From a\nSame: yes\n\nsame\n\n'; done | store alice
	serves /var/mail/alice
	removes 1 7 20
	serves /var/mail/alice
	# Equal headers, other bodies: the right one goes.
	for n in 1 2 3 4 5; do printf 'From a\nSame: yes\n\n%s\n\n' $n; done | whole "equal headers" 5
}

@test "the internal message stays octet for octet when all others go" {
	internal() { printf 'From MAILER-DAEMON Mon\nDate: now\nSubject: DON'\''T DELETE THIS MESSAGE -- FOLDER INTERNAL DATA\nX-IMAP: 1 2\nStatus: RO\n\ninternal\n\nlines\n\n'; }
	{ internal; mbox one two; } | store alice
	run pop alice STAT "DELE 2" QUIT
	[[ $output == *"+OK bye, 1 messages left" ]]
	cmp /var/mail/alice <(internal; mbox one)
	run pop alice "DELE 1" QUIT
	cmp /var/mail/alice <(internal)
	run pop alice "DELE 1" QUIT
	[[ $output == *"+OK 0 messages"*"-ERR no such message"*"+OK bye, 0 messages left" ]]
	cmp /var/mail/alice <(internal)
	# Elsewhere than in front it is a message as others are.
	{ mbox one; internal; } | whole "not in front" 2
}

@test "half a message that a delivery left at the end takes nothing with it but what stands behind it" {
	half() { from_line; printf 'Subject: half\n\nthis was to be longer, but the machine st'; }
	{ mbox one two; half; } | whole "half a message" 3
	# Procmail appends behind it; the result is another program's doing, and is served as it stands.
	{ mbox one two; half; } | store alice
	make_message three | deliver alice
	make_message four | deliver alice
	cp /var/mail/alice "$WORLD/whole"
	cmp <(head -c "$( { mbox one two; half; } | wc -c)" /var/mail/alice) <(mbox one two; half)
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
