# A POP3 program that writes all its commands before it reads an answer: perl
# pipeliner.pl KPOPC [ARGUMENT ...]. kpopc.bats runs it.
#
# Runs kpopc and retrieves message 1, which must be larger than a pipe. When the
# pipe with the answers is full, writes 300 KB of NOOPs and a QUIT. After that,
# reads the answers. Prints the last line of the answers, and exits with kpopc's
# status.
use strict;
use warnings;
use IO::Handle;
use IPC::Open2;
use Time::HiRes qw(sleep);

use constant { FIONREAD => 0x541b, MUCH => 32768 };

my $pid = open2(my $from, my $to, @ARGV);
$to->autoflush(1);
print $to "USER alice\r\nPASS x\r\nRETR 1\r\n";
my $filled = 0;
for (my $tries = 0; $filled < MUCH; $tries++) {
	$tries < 200 or die "no answer to RETR within ten seconds\n";
	sleep 0.05;
	ioctl $from, FIONREAD, my $size = pack 'i', 0 or die "FIONREAD: $!\n";
	$filled = unpack 'i', $size;
}
print $to "NOOP\r\n" x 50000, "QUIT\r\n";
close $to;
my $last;
$last = $_ while <$from>;
waitpid $pid, 0;
print $last;
exit $? >> 8;
