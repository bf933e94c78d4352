# A POP3 program that gives kpopc a non-blocking socket: perl nonblocking.pl
# KPOPC [ARGUMENT ...]. kpopc.bats runs it.
#
# The socket is kpopc's standard input and output. The program waits for the
# answer to each command. Prints the answer to QUIT, and exits with kpopc's
# status.
use strict;
use warnings;
use Fcntl;
use Socket;

socketpair my $program, my $end, AF_UNIX, SOCK_STREAM, 0 or die "socket: $!\n";
fcntl $end, F_SETFL, O_RDWR | O_NONBLOCK or die "fcntl: $!\n";
my $pid = fork // die "fork: $!\n";
if ($pid == 0) {
	close $program;
	open STDIN, '<&', $end or die "stdin: $!\n";
	open STDOUT, '>&', $end or die "stdout: $!\n";
	exec @ARGV or die "$ARGV[0]: $!\n";
}
close $end;
my $line = <$program>;
for my $command ('USER alice', 'PASS x', 'STAT', 'QUIT') {
	syswrite $program, "$command\r\n";
	$line = <$program>;
}
waitpid $pid, 0;
print $line;
exit $? >> 8;
