# Changes the flags of a Maildir's messages without a pause: perl
# maildir-flags.pl MAILDIR COUNT.
#
# At the start MAILDIR/cur must have the files "1.M1.host:2," to
# "COUNT.M1.host:2,". Runs until the file MAILDIR/stop exists.
# tests/maildir.bats runs it.
use strict;
use warnings;

my ($maildir, $count) = @ARGV;
chdir $maildir or die "$maildir: $!";
my @flags = ('', 'S', 'RS', 'FS');
my @now = (0) x ($count + 1);

until (-e 'stop') {
	my $n = 1 + int rand $count;
	my $next = ($now[$n] + 1) % @flags;
	my $name = "cur/$n.M1.host:2,";
	rename "$name$flags[$now[$n]]", "$name$flags[$next]" or die "$name: $!";
	$now[$n] = $next;
}
