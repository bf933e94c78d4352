#!/usr/bin/env bats
# Where messages begin: what kpopd, Dovecot, mutt and mailutils find in the
# spools of tests/boundaries.

load helpers/all

setup_file() {
	server_start
	mkdir "$WORLD/boundaries"
	make_spools "$WORLD/boundaries" <"$BATS_TEST_DIRNAME/boundaries"
	chmod 755 "$WORLD"
	cat >"$WORLD/dovecot.conf" <<-END
	log_path = /dev/stderr
	mail_location = mbox:~/boundaries:INBOX=~/inbox
	mbox_write_locks = fcntl
	first_valid_uid = 1
	END
}

setup() {
	begin_test
	realm_login alice
}

# make_spools DIRECTORY: turns the cases on standard input into files there, 001
# and so on. DIRECTORY.list gets a line of
# each: the file, the four counts, whether there are reasons, the name.
make_spools() {
	perl -we '
		my ($dir) = @ARGV; my (@cases, $case);
		my %macros = ("\@from" => "From sender\@example.test Mon Nov 23 05:00:00 2026\n");
		$macros{"\@$_"} = "Message-ID: <$_\@example.test>\nFrom: sender\@example.test\nSubject: $_\n\n$_\n\n" for qw(one two three);
		while (<STDIN>) {
			chomp;
			if (/^(\d+) (\d+) (\d+) (\d+)  (.+)/) {
				push @cases, $case = { name => $5, counts => [$1, $2, $3, $4], text => "", gap => "", why => 0 };
			} elsif (/^#/) {
				$case->{why} = 1 if $case && $case->{text} eq "";
			} elsif (/^$/) {
				$case->{gap} .= "\n" if $case;
			} elsif (s/^\t//) {
				my $line = exists $macros{$_} ? $macros{$_} : $_ eq "\@end" ? "\0END\0" : "$_\n";
				$line =~ s/\\r\n\z/\r\n/; $line =~ s/\\c\n\z//;
				$case->{text} .= $case->{gap} . $line;
				$case->{gap} = "";
			} else { die "not a line of a case: $_\n" }
		}
		open my $list, ">", "$dir.list" or die;
		my $n = 0;
		for (@cases) {
			my $text = $_->{text};
			if ($text =~ /LENGTH/) {
				my ($body) = $text =~ /LENGTH.*?\n\r?\n(.*)\0END\0/s or die "no \@end in $_->{name}";
				$text =~ s/LENGTH([+-]\d+)/length($body) + $1/e;
			}
			$text =~ s/\0END\0//;
			my $file = sprintf "%03d", ++$n;
			open my $out, ">:raw", "$dir/$file" or die; print $out $text; close $out or die;
			print $list "$file @{$_->{counts}} $_->{why} $_->{name}\n";
		}' "$1"
}

# expected COLUMN: prints "NNN COUNT NAME" of each case.
expected() {
	awk -v \
	    c="$(($1 + 1))" '{ printf "%s %s", $1, $c; for (i = 7; i <= NF; i++) printf " %s", $i; print "" }' "$WORLD/boundaries.list"
}

# agrees COLUMN: succeeds if standard input, "NNN COUNT" of each case, has that
# column's counts.
agrees() {
	join - <(awk '{ printf "%s", $1; for (i = 7; i <= NF; i++) printf " %s", $i; print "" }' "$WORLD/boundaries.list") >"$WORLD/found.$1"
	diff <(expected "$1") "$WORLD/found.$1"
}

# bats test_tags=catalogue:53-2
@test "kpopd finds as many messages in each spool as the table has" {
	for file in $(cut -d ' ' -f 1 "$WORLD/boundaries.list"); do
		store alice <"$WORLD/boundaries/$file"
		forget_index
		echo \
		    "$file $(pop alice STAT QUIT |
			sed -n 's/^+OK \([0-9]*\) [0-9]*\r\?$/\1/p')"
	done >"$WORLD/counts"
	agrees 1 <"$WORLD/counts"
}

@test "so does Dovecot" {
	cp -r "$WORLD/boundaries" /home/alice/boundaries
	chown -R alice /home/alice/boundaries
	su alice -c "cd; USER=alice doveadm -o stats_writer_socket_path= -c $WORLD/dovecot.conf -f tab mailbox status messages '*'" 2>"$WORLD/dovecot.err" |
	    sed -n 's/^\([0-9]\{3\}\)\t\([0-9]*\)$/\1 \2/p' |
	    sort >"$WORLD/counts"
	agrees 2 <"$WORLD/counts" || { cat "$WORLD/dovecot.err" >&2; return 1; }
}

@test "so does mutt" {
	# Each message is piped to a program of its own, which leaves a line.
	cp -r "$WORLD/boundaries" /home/alice/mutt
	chown -R alice /home/alice/mutt
	cat >"$WORLD/count" <<-'END'
	cd || exit
	echo "set quit=yes move=no wait_key=no beep=no pipe_split=yes pipe_decode=no folder=~" >"$1.rc"
	echo "push \"<tag-pattern>~A<enter><tag-prefix><pipe-message>wc -c >>~/$1.count<enter><exit>\"" >>"$1.rc"
	: >"$1.count"
	# The other end of its input stays open, because mutt would end with it.
	TERM=xterm timeout 20 script -qefc "mutt -n -R -F $1.rc -f mutt/$1" /dev/null <>keys >"$1.screen" 2>&1
	echo "$1 $(wc -l <"$1.count")"
	END
	su alice -c 'cd; mkfifo keys'
	cut -d ' ' -f 1 "$WORLD/boundaries.list" |
	    su alice -c "xargs -P 4 -n 1 sh $WORLD/count" |
	    sort >"$WORLD/counts"
	agrees 3 <"$WORLD/counts"
}

@test "so do mailutils" {
	cp -r "$WORLD/boundaries" /home/alice/mailutils
	for file in $(cut -d ' ' -f 1 "$WORLD/boundaries.list"); do
		# One that it does not open has no messages.
		echo \
		    "$file $(messages.mailutils -q \
			"/home/alice/mailutils/$file" 2>/dev/null || echo 0)"
	done >"$WORLD/counts"
	agrees 4 <"$WORLD/counts"
}

# piped_by_mutt FILE: what mutt shows of the first message in alice's file,
# without its From_ line.
piped_by_mutt() {
	cat >/home/alice/muttrc <<-'END'
	set quit=yes move=no wait_key=no beep=no pipe_decode=no folder=~
	push "<pipe-message>cat >~/piped<enter><exit>"
	END
	rm -f /home/alice/{keys,piped}
	su alice -c "cd; mkfifo keys; TERM=xterm timeout 20 script -qefc 'mutt -n -R -F muttrc -f $1' /dev/null <>keys >screen 2>&1" || return 1
	tail -n +2 /home/alice/piped
}

@test "the empty line that ends a header is the message's: mutt and mailutils agree, Dovecot takes it for the separator" {
	for lines in 1 2 3; do
		{ printf 'From s@example.test Mon Nov 23 05:00:00 2026\nMessage-ID: <1@example.test>\n'
			printf '\n%.0s' $(seq $lines)
			mbox two; } | store alice
		wanted=$((29 + 1 + (lines > 2 ? lines - 2 : 0)))
		retrieve 1 | tr -d '\r' >"$WORLD/shown"
		[ "$(wc -c <"$WORLD/shown")" -eq $wanted ]
		cp /var/mail/alice /home/alice/box
		chown alice /home/alice/box
		piped_by_mutt box | diff - "$WORLD/shown"
		# Of one empty line mailutils finds no message after it.
		[ $lines -eq 1 ] ||
		    su alice -c 'cd; mail.mailutils -n -f box' \
			<<<$'print 1\nexit' 2>&1 | grep -A 9 '^Message-ID' |
			diff - "$WORLD/shown"
		rm -rf /home/alice/dove
		su alice -c "cd; mkdir dove; cat /var/mail/alice >dove/box; USER=alice doveadm -o stats_writer_socket_path= -c $WORLD/dovecot.conf \
		    -o mail_location=mbox:~/dove:INBOX=~/none fetch size.physical mailbox box" >"$WORLD/dovecot.out" 2>"$WORLD/dovecot.err"
		echo \
		    "$(sed -n '/^size/{s/.*: //p;q}' \
			"$WORLD/dovecot.out") $lines"
	done >"$WORLD/dovecot.sizes"
	diff "$WORLD/dovecot.sizes" - <<<$'29 1\n30 2\n31 3'
}

@test "where kpopd differs from all others, the table says why" {
	[ "$(wc -l <"$WORLD/boundaries.list")" -ge 40 ]
	run awk '$3 == $4 && $4 == $5 && $2 != $3 && $6 == 0' \
	    "$WORLD/boundaries.list"
	[ -z "$output" ] || { echo "$output"; return 1; }
	# It never hides a message that all others find.
	run awk '$2 < $3 && $2 < $4 && $2 < $5' "$WORLD/boundaries.list"
	[ -z "$output" ] || { echo "$output"; return 1; }
}
