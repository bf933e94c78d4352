# Runs a program on a connection to which it cannot write: perl half-open.pl
# FILE COMMAND [ARGUMENT ...].
#
# The command has one end of a socket pair as fds 0, 1 and 2. The program sends
# FILE from the other end, and then shuts down the reading side of that end.
# Returns when the command has ended. tests/kpop.bats runs it.
use strict;
use warnings;
use Socket;

my ($file, @command) = @ARGV;
socketpair(my $client, my $server, AF_UNIX, SOCK_STREAM, 0)
    or die "socketpair: $!";
open my $input, '<:raw', $file or die "$file: $!";
my $bytes = do { local $/; <$input> };
syswrite($client, $bytes) == length $bytes or die "write: $!";
shutdown $client, 0;

my $pid = fork // die "fork: $!";
if ($pid == 0) {
	close $client;
	open STDIN, '<&', $server or exit 126;
	open STDOUT, '>&', $server or exit 126;
	open STDERR, '>&', $server or exit 126;
	exec @command or exit 127;
}
close $server;
waitpid $pid, 0;
