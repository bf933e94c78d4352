# Opens many connections from one address, one after the other: perl flood.pl
# ADDRESS COUNT HOW.
#
# HOW is "close" to close each at once; "shut" to end the client's side and read
# the answer; "byte" to send a byte before that; "stay" to print "ready" and
# hold all until standard input ends. Prints each answer on a line, with "|" in
# place of line ends. accept.bats runs this.
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
