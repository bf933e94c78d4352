# A mail reader that respects locks: perl locking-reader.pl SPOOL STATE FOUND
# UNFINISHED. tests/absent.bats runs it while a removal is interrupted.
#
# Waits for a POSIX read lock on the spool. Then writes the names of the
# journals in the state directory to the file UNFINISHED, and copies the spool
# to the file FOUND.
use strict;
use warnings;
use Fcntl qw(F_RDLCK F_SETLKW);

my ($spool, $state, $found, $unfinished) = @ARGV;
open my $in, '<', $spool or die "$spool: $!\n";
my $lock = pack 's s l! l! i', F_RDLCK, 0, 0, 0, 0;
fcntl $in, F_SETLKW, $lock or die "lock: $!\n";

open my $names, '>', $unfinished or die "$unfinished: $!\n";
print $names grep { -e } "$state/j", "$state/j.cut";
close $names or die "$unfinished: $!\n";

open my $copy, '>', $found or die "$found: $!\n";
print $copy do { local $/; <$in> };
close $copy or die "$found: $!\n";
