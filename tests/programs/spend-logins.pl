# Sets the login counters in a replay cache to their limit: perl spend-logins.pl
# CACHE. tests/replay.bats runs it after one login of one principal.
#
# The counters begin after the header, in three rows. A principal has a counter
# in each row, so three counters are in use. A counter contains an epoch (32
# bits). Then come the number of logins in this epoch and the number in the
# previous epoch (16 bits each).
use strict;
use warnings;

use constant { HEADER => 4096, COUNTERS => 3 * 4096, BYTES => 8 };
use constant LIMIT => 32768;

my ($file) = @ARGV;
open my $cache, '+<', $file or die "$file: $!\n";
my $used = 0;
for my $n (0 .. COUNTERS - 1) {
	seek $cache, HEADER + BYTES * $n, 0;
	read $cache, my $counter, BYTES;
	my ($epoch, $now, $before) = unpack 'LSS', $counter;
	next unless $now;
	$used++;
	seek $cache, HEADER + BYTES * $n, 0;
	print $cache pack 'LSS', $epoch, LIMIT, $before;
}
close $cache or die "$file: $!\n";
$used == 3 or die "$used counters are in use\n";
