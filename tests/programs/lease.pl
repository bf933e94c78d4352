# Holds a write lease on a file until it is killed: perl lease.pl FILE.
#
# Prints "held" when it has the lease. Ignores the kernel's signal to release
# the lease. tests/quota.bats runs it.
use strict;
use warnings;
use Fcntl qw(F_SETLEASE F_WRLCK);

$SIG{IO} = 'IGNORE';
$| = 1;
open my $file, '+<', $ARGV[0] or die "$ARGV[0]: $!";
fcntl $file, F_SETLEASE, F_WRLCK or die "F_SETLEASE: $!";
print "held\n";
sleep while 1;
