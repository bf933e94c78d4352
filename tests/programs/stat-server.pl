# A POP3 server for one connection: perl stat-server.pl PORT ANSWER.
# tests/bench.bats runs it against the bench's client.
#
# Sends ANSWER to STAT, and +OK to every other command. Prints an empty line
# when it listens.
use strict;
use warnings;
use IO::Socket::INET;

my ($port, $answer) = @ARGV;
my $listener =
    IO::Socket::INET->new(Listen => 1, LocalAddr => '127.0.0.1',
	LocalPort => $port, ReuseAddr => 1)
    or die "$port: $!\n";
syswrite STDOUT, "\n";

my $client = $listener->accept or die "accept: $!\n";
syswrite $client, "+OK\r\n";
while (<$client>) {
	syswrite $client, /^STAT/ ? "$answer\r\n" : "+OK\r\n";
}
