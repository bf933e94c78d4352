# Holds many connections from one address of this machine: perl sessions.pl
# ADDRESS FILE ..., or ADDRESS silent COUNT.
#
# Each FILE contains what a client sends first: a ticket, USER and PASS. When
# all N clients have their answers, prints "ready N". With "silent", opens COUNT
# connections that send nothing. N in "ready N" is then the number of
# connections that were not rejected. Holds the connections until standard input
# ends. Then the sessions send QUIT. N in "bye N" is the number of sessions that
# got +OK.
use strict;
use warnings;
use IO::Socket::INET;

$| = 1;
$SIG{PIPE} = 'IGNORE';
my ($address, @files) = @ARGV;

sub connection {
	my $s =
	    IO::Socket::INET->new(LocalAddr => $address,
		PeerAddr => '127.0.0.1:1109', Timeout => 10)
	    or die "connect from $address: $!\n";
	$s->autoflush(1);
	return $s;
}

# Reads up to the answer to PASS. Before the first line come the binary answers
# of the exchange.
sub logged_in {
	my ($s) = @_;
	my $heard = '';
	until ($heard =~ /\+OK \d+ messages\r\n\z/) {
		sysread $s, my $piece, 4096 or die "no login: $heard\n";
		$heard .= $piece;
	}
}

sub slurp {
	my ($file) = @_;
	local $/;
	open my $f, '<', $file or die "$file: $!\n";
	return <$f>;
}

my @open;
if ($files[0] eq 'silent') {
	@open = map { connection() } 1 .. $files[1];
	# The server closes rejected connections at once.
	select undef, undef, undef, 0.5;
	my $kept = 0;
	for my $s (@open) {
		$s->blocking(0);
		$kept++ unless defined sysread $s, my $nothing, 1;
	}
	print "ready $kept\n";
	<STDIN>;
	exit;
}
for my $file (@files) {
	push @open, connection();
	syswrite $open[-1], slurp($file);
	logged_in($open[-1]);
}
printf "ready %d\n", scalar @open;
<STDIN>;
my $bye = 0;
for my $s (@open) {
	my $answer = '';
	syswrite $s, "QUIT\r\n";
	$bye++ if sysread($s, $answer, 100) && $answer =~ /^\+OK bye/;
}
print "bye $bye\n";
