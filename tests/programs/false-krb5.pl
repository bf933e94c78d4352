# A false KPOP server, or a false KDC: perl false-krb5.pl ANSWER [ARGUMENT ...].
# kpopc.bats and falseserver.bats run it.
#
# The server reads KPOP's versions and the AP-REQ from standard input, writes
# ANSWER to standard output, and reads until the client closes. ANSWER is
#	none			nothing; ends after the answer to the versions
#	krb-error		a KRB-ERROR that contains an escape sequence
#	accept			an acceptance, with "abcd" instead of an AP-REP
#	long-error SIZE		a KRB-ERROR with the length SIZE (hexadecimal),
#				and 100 MiB of it
#	long-reply SIZE		an AP-REP, in the same way
#	recorded FILE		another server's bytes, which FILE contains
#	reflected		the client's AP-REQ instead of an AP-REP
#	empty			an AP-REP of no bytes
#	refuse-and-accept	a KRB-ERROR of one byte, then an acceptance
#	zeros			an AP-REP of 500 zeros
#	greeting		POP3 greetings instead of an AP-REP
# The KDC answers each request with a KRB-ERROR that contains an escape
# sequence:
#	kdc PORT		listens on this UDP port
use strict;
use warnings;
use IO::Socket::INET;

use constant { KRB_AP_ERR_MODIFIED => 41, KRB_ERR_GENERIC => 60 };

# Returns the DER encoding of a value of less than 256 bytes.
sub der {
	my ($tag, $value) = @_;
	my $length = length $value;
	return
	    chr($tag)
	    . ($length < 128 ? chr $length : "\x81" . chr $length)
	    . $value;
}

# Returns a KRB-ERROR (RFC 4120 section 5.9.1) with this error code.
sub krb_error {
	my ($code) = @_;
	my $realm = der(0x1b, 'KPOPD.TEST');
	my $name =
	    der(0x30,
		der(0xa0, "\x02\x01\x01")
		. der(0xa1, der(0x30, der(0x1b, 'x'))));
	return der(
		0x7e,
		der(0x30,
			der(0xa0, "\x02\x01\x05")
			. der(0xa1, "\x02\x01\x1e")
			. der(0xa4, der(0x18, '20260101000000Z'))
			. der(0xa5, "\x02\x01\x00")
			. der(0xa6, "\x02\x01" . chr $code)
			. der(0xa9, $realm)
			. der(0xaa, $name)
			. der(0xab, der(0x1b, "\e[31mred\a\n"))));
}

# Returns the length of the text followed by the text, as sendauth sends a
# message.
sub framed {
	my ($text) = @_;
	return pack('N', length $text) . $text;
}

sub read_file {
	my ($file) = @_;
	open my $in, '<:raw', $file or die "$file: $!\n";
	local $/;
	return scalar <$in>;
}

sub serve_kdc {
	my ($port) = @_;
	my $socket = IO::Socket::INET->new(LocalPort => $port, Proto => 'udp')
	    or die "$port: $!\n";
	$socket->send(krb_error(KRB_ERR_GENERIC))
	    while $socket->recv(my $request, 65535);
	return;
}

# Reads and accepts the two versions. Then reads the AP-REQ and returns it.
sub read_request {
	read STDIN, my $versions, 36;
	print "\0";
	read STDIN, my $length, 4 or exit;
	read STDIN, my $request, unpack 'N', $length;
	return $request;
}

# Writes 100 MiB, or less if the client closes the connection.
sub write_long {
	my ($head) = @_;
	local $SIG{PIPE} = 'IGNORE';
	print $head;
	for (1 .. 100) {
		print 'x' x 1048576 or exit;
	}
	return;
}

my $accepted = pack 'N', 0;
my ($answer, $argument) = @ARGV;
my %answers = (
	'krb-error' => sub { print framed(krb_error(KRB_AP_ERR_MODIFIED)) },
	'accept' =>
	    sub { print $accepted, framed('abcd'), "+OK hello\r\n" },
	'long-error' => sub { write_long(pack 'N', hex $argument) },
	'long-reply' => sub { write_long($accepted . pack 'N', hex $argument) },
	# The first byte accepts the versions. read_request has already sent
	# that byte.
	'recorded' => sub { print substr read_file($argument), 1 },
	'reflected' => sub { print $accepted, framed($_[0]) },
	'empty' => sub { print $accepted, framed('') },
	'refuse-and-accept' =>
	    sub { print framed('x'), $accepted, "+OK owned\r\n" },
	'zeros' =>
	    sub { print $accepted, framed("\0" x 500), "+OK owned\r\n" },
	'greeting' => sub { print "+OK owned\r\n" x 100 },
);

$| = 1;
binmode STDIN;
binmode STDOUT;
if ($answer eq 'kdc') {
	serve_kdc($argument);
} elsif ($answer eq 'none') {
	read STDIN, my $versions, 36;
	print "\0";
} else {
	my $write = $answers{$answer} or die "$answer: no such answer\n";
	$write->(read_request());
	1 while sysread STDIN, my $rest, 4096;
}
