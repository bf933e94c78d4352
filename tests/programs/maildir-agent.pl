# Delivers to a Maildir and renames its messages continuously: perl
# maildir-agent.pl MAILDIR.
#
# Acts as a delivery agent and a mail reader. Moves messages from tmp to new and
# from new to cur, and changes their flags. The subjects of the messages are 0,
# 1, 2 and so on. Runs until the file MAILDIR/stop exists, then prints the
# number of messages. tests/maildir.bats runs it.
use strict;
use warnings;

use constant PAUSE => .005;

chdir $ARGV[0] or die "$ARGV[0]: $!";
my $count = 0;

sub deliver {
	my $name = sprintf '%d.M%06d.host', time, $count;
	open my $file, '>', "tmp/$name" or die "$name: $!";
	print $file "Subject: $count\n\n", "body $count\n" x ($count % 7);
	close $file or die "$name: $!";
	rename "tmp/$name", "new/$name" or die "$name: $!";
	$count++;
	return;
}

sub names_in {
	my ($directory) = @_;
	opendir my $d, $directory or die "$directory: $!";
	return grep { !/^\./ } readdir $d;
}

until (-e 'stop') {
	deliver();
	my @new = names_in('new');
	my @cur = names_in('cur');
	# A rename fails if kpopd has removed the message meanwhile.
	for (grep { rand() < .5 } @new) {
		rename "new/$_", "cur/$_:2,";
	}
	for (grep { rand() < .3 } @cur) {
		my ($unique) = split /:/;
		my $flags = rand() < .5 ? 'S' : 'RS';
		rename "cur/$_", "cur/$unique:2,$flags";
	}
	select undef, undef, undef, PAUSE;
}
print "$count\n";
