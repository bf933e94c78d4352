# Tests answers that end near the end of a buffer: perl buffer-ends.pl make
# DIRECTORY, perl buffer-ends.pl check <ANSWERS. reports.bats runs it.
#
#	make     makes messages in DIRECTORY/new of a Maildir. They have about
#	         1 KiB to 128 KiB, a last line end or none, and lines that
#	         begin with a dot.
#	check    reads the answers of a session that retrieves all messages.
#	         Prints each message whose size differs from the announced
#	         one, then the number of good messages and the answer to QUIT.
use strict;
use warnings;

sub make {
	my ($directory) = @_;
	my $n = 0;
	for my $size (1024, 4096, 8192, 65536, 131072) {
		for my $more (-14 .. 3) {
			for my $end ("\n", '', "\n.\n..y\n.\n") {
				my $name = sprintf '%s/new/%d.M1P1.h',
				    $directory, ++$n;
				open my $out, '>', $name or die "$name: $!\n";
				print $out "Subject: border\n\n",
				    'y' x ($size + $more - 24), $end;
				close $out or die "$name: $!\n";
			}
		}
	}
	return;
}

sub check {
	local $_ = do { local $/; <STDIN> };
	my $n = 0;
	s/^.*?\+OK \d+ messages\r\n//s;
	while (s/^\+OK (\d+) octets\r\n(.*?\r\n)\.\r\n//s) {
		my ($size, $text) = ($1, $2);
		$text =~ s/^\.\././mg;
		$n++;
		length $text == $size
		    or print "$n: $size ", length $text, "\n";
	}
	print "$n $_";
	return;
}

my ($command, @words) = @ARGV;
if ($command eq 'make') {
	make(@words);
} elsif ($command eq 'check') {
	check();
} else {
	die "unknown command $command\n";
}
