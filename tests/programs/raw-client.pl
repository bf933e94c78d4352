# A client that sends a file unchanged: perl raw-client.pl HOW FILE.
# reports.bats runs it.
#
#	quit     waits until a message is marked, then sends QUIT and closes the
#	         connection without reading the answer
#	window   has the smallest receive buffer, and prints what it reads
use strict;
use warnings;
use Socket;

my ($how, $file) = @ARGV;
open my $in, '<:raw', $file or die "$file: $!\n";
my $text = do { local $/; <$in> };
socket my $server, PF_INET, SOCK_STREAM, 0 or die "socket: $!\n";
if ($how eq 'window') {
	setsockopt $server, SOL_SOCKET, SO_RCVBUF, 1 or die "setsockopt: $!\n";
}
connect $server, sockaddr_in(1109, INADDR_LOOPBACK) or die "connect: $!\n";
syswrite $server, $text;
my $answers = '';
if ($how eq 'quit') {
	while ($answers !~ /deleted\r\n\z/) {
		sysread $server, $answers, 4096, length $answers
		    or die "answers: $answers\n";
	}
	syswrite $server, "QUIT\r\n";
} elsif ($how eq 'window') {
	print $answers while sysread $server, $answers, 700;
} else {
	die "unknown: $how\n";
}
close $server;
