# Starts a program with the signals or descriptors that a bad caller might
# leave: perl inherit.pl HOW PROGRAM [ARGUMENT ...]. environment.bats starts
# kpopd with it.
#
#	ignored          all signals ignored
#	blocked          all signals blocked
#	null=FILE        a thousand descriptors of /dev/null
#	connection=FILE  a thousand descriptors of standard input
#
# Writes the number of its open descriptors to FILE.
use strict;
use warnings;
use POSIX qw(SIG_BLOCK dup2 sigprocmask);

# Makes descriptors 10 to 1009 copies of FD.
sub leave_open {
	my ($fd, $file) = @_;
	for my $copy (10 .. 1009) {
		dup2($fd, $copy) // die "dup2: $!\n";
	}
	my @descriptors = glob '/proc/self/fd/*';
	open my $out, '>', $file or die "$file: $!\n";
	print $out scalar(@descriptors), "\n";
	close $out or die "$file: $!\n";
	return;
}

my $how = shift // '';
if ($how eq 'ignored') {
	$SIG{$_} = 'IGNORE' for grep { !/^(NUM|ZERO|KILL|STOP|RT)/ } keys %SIG;
} elsif ($how eq 'blocked') {
	my $all = POSIX::SigSet->new;
	$all->fillset;
	sigprocmask(SIG_BLOCK, $all) or die "sigprocmask: $!\n";
} elsif ($how =~ /^null=(.*)/) {
	open my $null, '+<', '/dev/null' or die "/dev/null: $!\n";
	leave_open(fileno $null, $1);
} elsif ($how =~ /^connection=(.*)/) {
	leave_open(0, $1);
} else {
	die "unknown: $how\n";
}
exec @ARGV or die "$ARGV[0]: $!\n";
