# Runs a POP3 session of alice by KPOP, and resets the connection in the middle
# of an answer: perl hang-up.pl FILE BYTES.
#
# FILE contains an AP-REQ without the mutual flag. Resets the connection after
# BYTES bytes of answers, or at the end of the session. Prints the number of
# bytes read. Sends each command only after the answer to the previous one, so
# that BYTES determines the place of the reset. tests/commands.bats runs it.
use strict;
use warnings;
use Socket;

use constant DEADLINE => 10;

my ($file, $limit) = @ARGV;
open my $f, '<:raw', $file or die "$file: $!";
my $ticket = do { local $/; <$f> };

sub framed { return join '', map { pack 'N/a*', $_ } @_ }

my @commands = (
	'USER alice', 'PASS x', 'STAT', 'LIST', 'UIDL', 'TOP 1 1', 'RETR 2',
	'DELE 1', 'NOOP', 'FOO', 'RETR 1', 'RSET', 'QUIT');
my $line = qr/\r\n$/;
my $lines = qr/^-ERR.*\r\n$|\r\n\.\r\n$/;
# Each entry contains the bytes that the client sends, and a pattern for the
# complete answer.
my @dialogue = (
	[framed("KRB5_SENDAUTH_V1.0\0", "KPOPV1.0\0"), qr/^\0/],
	[framed($ticket), qr/^.{4}\+OK.*\r\n$/s],
	map { ["$_\r\n", /^(LIST|UIDL|TOP|RETR)/ ? $lines : $line] } @commands);

$SIG{PIPE} = 'IGNORE';
alarm DEADLINE;
socket my $server, PF_INET, SOCK_STREAM, 0 or die "socket: $!";
connect $server, sockaddr_in(1109, INADDR_LOOPBACK) or die "connect: $!";
my $count = 0;
TALK: for (@dialogue) {
	my ($command, $whole) = @$_;
	syswrite $server, $command;
	my $answer = '';
	while ($answer !~ $whole) {
		last TALK if $count == $limit;
		sysread $server, $answer, 1, length $answer or last TALK;
		$count++;
	}
	last if $count == $limit;
}
setsockopt $server, SOL_SOCKET, SO_LINGER, pack 'ii', 1, 0;
close $server;
print "$count\n";
