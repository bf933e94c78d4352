# Connects many clients at the same time, and ends each one early: perl peers.pl
# HOW FILE N ...
#
# For each N, a client sends the first N bytes of FILE. If HOW is "end", the
# client then ends its side. If HOW is "reset", the client resets the
# connection. Prints a line for each client. The line contains N and, in
# hexadecimal, what the server has sent. kpop.bats runs it.
use strict;
use warnings;
use Socket;

use constant {
	AT_ONCE => 30,
	DEADLINE => 30,
	# The versions of sendauth and KPOP together have this length. The
	# server answers both with one byte.
	VERSIONS => 36,
	# The time in seconds to wait for an answer that should not come.
	GRACE => 0.3,
};

my ($how, $file, @lengths) = @ARGV;
open my $in, '<:raw', $file or die "$file: $!\n";
my $text = do { local $/; <$in> };
$SIG{ALRM} = sub { die "peers: a connection does not end\n" };

while (my @now = splice @lengths, 0, AT_ONCE) {
	my %peer;
	alarm DEADLINE;
	for my $n (@now) {
		socket my $s, PF_INET, SOCK_STREAM, 0;
		connect $s, sockaddr_in(1109, INADDR_LOOPBACK)
		    or die "connect: $!\n";
		syswrite $s, substr $text, 0, $n;
		shutdown $s, 1 if $how eq 'end';
		$peer{$n} = $s;
	}
	for my $n (@now) {
		my ($s, $heard, $some) = ($peer{$n}, '');
		if ($how eq 'end') {
			$heard .= $some while sysread $s, $some, 4096;
		} else {
			sysread $s, $heard, 4096 if $n >= VERSIONS;
			select undef, undef, undef, GRACE if $n == $now[0];
			$heard .= $some
			    if defined recv $s, $some, 4096, MSG_DONTWAIT;
			setsockopt $s, SOL_SOCKET, SO_LINGER, pack 'ii', 1, 0;
			close $s;
		}
		print "$n ", unpack('H*', $heard), "\n";
	}
}
