# Listens as systemd does, and executes a command with the socket as its
# descriptors 0, 1 and 2. "perl listen.pl tcp:ADDRESS COMMAND ..." listens on
# port 1109, or on $PORT. "perl listen.pl unix:PATH COMMAND ..." makes a socket
# that does not block.
#
# If $TAKER names a file, first starts a child with the same socket, and writes
# the child's pid to the file. At SIGUSR1 the child takes one connection, closes
# it and exits. accept.bats runs this.
use strict;
use warnings;
use IO::Socket::IP;
use IO::Socket::UNIX;
use POSIX qw(dup2);

my ($where, @command) = @ARGV;
my ($kind, $address) = split /:/, $where, 2;
my $socket = $kind eq 'unix'
    ? IO::Socket::UNIX->new(Local => $address, Listen => 5)
    : IO::Socket::IP->new(LocalHost => $address,
	LocalPort => $ENV{PORT} // 1109, Listen => 5, ReuseAddr => 1);
$socket or die "$where: $@ $!\n";
$socket->blocking(0) if $kind eq 'unix';

sub take_one {
	local $SIG{USR1} = sub { close $socket->accept; exit };
	sleep 60;
	exit;
}

if (my $file = $ENV{TAKER}) {
	my $pid = fork // die "fork: $!\n";
	take_one() if $pid == 0;
	open my $out, '>', $file or die "$file: $!\n";
	print $out $pid;
	close $out;
}
dup2(fileno $socket, $_) for 0 .. 2;
exec @command or die "$command[0]: $!\n";
