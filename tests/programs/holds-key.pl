# Looks for keys in the writable memory of a process: perl holds-key.pl PID
# <KEYS.
#
# A key is a line of hexadecimal digits. Exits with status 0 if a key is found,
# and with 1 if no key is found. Any other status means that the memory could
# not be read. keys.bash runs it.
use strict;
use warnings;
# Addresses have more than 32 bits.
no warnings 'portable';

my ($pid) = @ARGV;
my @keys = map { chomp; pack 'H*', $_ } <STDIN>;
@keys or die "no keys\n";
open my $maps, '<', "/proc/$pid/maps" or die "maps of $pid: $!\n";
open my $memory, '<:raw', "/proc/$pid/mem" or die "memory of $pid: $!\n";
my ($found, $read) = (0, 0);
while (<$maps>) {
	/^([0-9a-f]+)-([0-9a-f]+) rw/ or next;
	my ($from, $size) = (hex $1, hex($2) - hex $1);
	# kpopd has no mapping that is so large. ASan reserves such mappings for
	# its shadow memory.
	next if $size > 1 << 30;
	sysseek $memory, $from, 0;
	sysread $memory, my $text, $size or next;
	$read += length $text;
	$found++ for grep { index($text, $_) >= 0 } @keys;
}
$read > 100_000 or die "read nothing of $pid\n";
exit($found ? 0 : 1);
