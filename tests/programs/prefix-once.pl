# Passes one connection on as a proxy does: perl prefix-once.pl PORT TEXT [now].
#
# Listens on this port of 127.0.0.1. Sends TEXT and the client's first bytes to
# the server in one write; with "now", sends TEXT without waiting for the
# client. Then passes on all other bytes of both sides. proxy.bats and
# access.bats run this.
use strict;
use warnings;
use IO::Socket::INET;

my ($port, $text, $now) = @ARGV;
my $listener = IO::Socket::INET->new(LocalAddr => "127.0.0.1:$port",
	Listen => 1, ReuseAddr => 1)
    or die "$port: $!\n";
my $client = $listener->accept or die "accept: $!\n";
my $server = IO::Socket::INET->new(PeerAddr => '127.0.0.1:1109')
    or die "server: $!\n";

sub pass {
	my ($from, $to) = @_;
	while (sysread $from, my $bytes, 65536) { syswrite $to, $bytes }
	return;
}

sysread $client, my $first, 65536 if !$now;
syswrite $server, $text . ($first // '');
my $pid = fork // die "fork: $!\n";
if ($pid == 0) {
	pass($client, $server);
	exit;
}
pass($server, $client);
kill 'KILL', $pid;
