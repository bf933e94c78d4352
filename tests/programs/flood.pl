# Opens many connections from one address, one after the other: perl flood.pl
# ADDRESS COUNT HOW. accept.bats runs it.
#
# If HOW is "close", closes each connection at once. If HOW is "shut", shuts the
# client's side and reads the answer. If HOW is "byte", does the same, but sends
# a byte before. If HOW is "stay", prints "ready" and holds all connections
# until standard input ends. Prints each answer on one line, with "|" instead of
# line ends.
use strict;
use warnings;
use Socket;

$| = 1;
my ($address, $count, $how) = @ARGV;
my $holds = $how ne 'close';
my @held;

for (1 .. $count) {
	socket my $s, PF_INET, SOCK_STREAM, 0 or die "socket: $!\n";
	bind $s, sockaddr_in(0, inet_aton($address)) or die "bind: $!\n";
	connect $s, sockaddr_in(1109, INADDR_LOOPBACK)
	    or die "connect: $!\n";
	push @held, $s if $holds;
	syswrite $s, 'x' if $how eq 'byte';
	shutdown $s, SHUT_WR if $how eq 'shut' || $how eq 'byte';
}
if ($how eq 'stay') {
	print "ready\n";
	<STDIN>;
	exit;
}
for my $s (@held) {
	my ($answer, $part) = ('', '');
	$answer .= $part while sysread $s, $part, 4096;
	print $answer =~ s/\r\n/|/gr, "\n";
}
