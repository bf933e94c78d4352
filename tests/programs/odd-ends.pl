# Ends connections in unusual ways, twenty times each: perl odd-ends.pl.
#
# Sends either only urgent data, or one or more bytes. May half-close the
# connection then. At the end, resets or closes the connection. accept.bats runs
# this.
use strict;
use warnings;
use IO::Socket::IP;
use Socket qw(:all);

for my $way ((0 .. 5) x 20) {
	my $s = IO::Socket::IP->new(PeerHost => '127.0.0.1', PeerPort => 1109)
	    or die "connect: $@\n";
	send $s, 'u', MSG_OOB if $way < 2;
	syswrite $s, 'x' x (1 << 3 * $way) if $way > 1;
	shutdown $s, SHUT_WR if $way % 2;
	setsockopt $s, SOL_SOCKET, SO_LINGER, pack('ii', 1, 0) if $way != 3;
	close $s;
}
