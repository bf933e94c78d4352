# A man in the middle who changes one token of GSSAPI or one record of TLS: perl
# meddle.pl PORT tokens|records up|down HOW.
#
# Passes everything on until the layer begins. Then changes one token or record
# in the way that HOW specifies. With "up", that is the client's first token or
# record with commands. With "down", it is the server's next token or record
# after these commands.
use strict;
use warnings;
use IO::Select;
use IO::Socket::INET;

$SIG{CHLD} = 'IGNORE';
my ($port, $kind, $way, $how) = @ARGV;
my $is_tls = $kind eq 'records';
my ($begin, $head) =
    $is_tls ? (qr/^\+OK begin TLS.*\n/m, 5) : (qr/^\+OK \d+ messages.*\n/m, 4);
my $listener =
    IO::Socket::INET->new(Listen => 5, LocalAddr => '127.0.0.1',
	LocalPort => $port, ReuseAddr => 1)
    or die "$port: $!";

sub put {
	my ($to, $text) = @_;
	while (length $text) {
		my $n = syswrite $to, $text or return;
		substr($text, 0, $n) = '';
	}
	return;
}

# The frame that is held back.
my $held = '';
# Changes the frame in the way that HOW specifies, and sends the result. Returns
# true if the connection must end.
sub change {
	my ($to, $frame) = @_;
	my $size =
	    $is_tls ? substr($frame, 0, 3) . "\xff\xff" : "\xff\xff\xff\xff";
	my %become = (
		twice => $frame x 2, left_out => '',
		flipped => substr($frame, 0, -1) . (substr($frame, -1) ^ "\1"),
		huge => $size . 'x' x 70000,
		empty => ($is_tls ? "\x17\3\3\0\0" : "\0\0\0\0") . $frame,
		clear => "DELE 2\r\n+OK forged\r\nQUIT\r\n" . $frame,
		half => substr($frame, 0, length($frame) / 2), none => '',
		alert => "\x15\3\3\0\2\1\0" . $frame, late => '',
		warnings => "\x15\3\3\0\2\1\x5a" x 5000 . $frame,
		length_only => substr($frame, 0, 3)
	);
	die $how if !exists $become{$how};
	$held = $frame if $how eq 'late';
	put($to, $become{$how});
	return $how =~ /^(half|none|length_only)$/;
}

sub serve {
	my ($client) = @_;
	my $server = IO::Socket::INET->new('127.0.0.1:1109')
	    or die "server: $!";
	my %other = ($client => $server, $server => $client);
	my %text = ($client => '', $server => '');
	my ($layer, $done, $commands) = (0, 0, 0);
	my $set = IO::Select->new($client, $server);
	while ($set->count) {
		for my $from ($set->can_read) {
			my $to = $other{$from};
			if (!sysread $from, $text{$from}, 65536,
				length $text{$from})
			{
				$set->remove($from);
				shutdown $to, 1;
				next;
			}
			if (!$layer) {
				$layer = 1
				    if $from == $server
				    && $text{$from} =~ $begin;
				put($to, $text{$from});
				$text{$from} = '';
				next;
			}
			while (length $text{$from} >= $head) {
				my $n =
				    $head +
				    ($is_tls
					? unpack 'x3n', $text{$from}
					: unpack 'N', $text{$from});
				last if length $text{$from} < $n;
				my $frame = substr $text{$from}, 0, $n, '';
				# The client's first record of application data
				# contains its Finished message.
				$commands++
				    if $from == $client
				    && (!$is_tls || ord $frame == 23);
				my $mine =
				      !$done
				    && $from ==
				    ($way eq 'up' ? $client : $server)
				    && $commands > ($is_tls ? 1 : 0);
				if (!$mine) {
					put($to, $frame . $held);
					$held = '' if $done;
					next;
				}
				$done = 1;
				return if change($to, $frame);
			}
		}
	}
	return;
}

while (my $client = $listener->accept) {
	next if fork;
	serve($client);
	exit 0;
}
