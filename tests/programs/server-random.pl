#!/usr/bin/perl
# Begins a TLS 1.2 handshake with a server, and prints what the server has
# chosen at random, in hexadecimal: the random of its ServerHello, and its
# public key for this handshake.
#
#	server-random.pl HOST PORT
#
# Runs as any user.
use strict;
use warnings;
use IO::Socket::INET;

my ($host, $port) = @ARGV;
my $socket = IO::Socket::INET->new(PeerAddr => $host, PeerPort => $port)
    or die "connect: $!";

sub vector {
	my ($bytes, $text) = @_;
	return substr(pack('N', length $text), 4 - $bytes) . $text;
}

# The groups (x25519, secp256r1) and signatures that any server has.
my $extensions = pack('n', 10) . vector(2, vector(2, pack('n*', 29, 23)))
    . pack('n', 11) . vector(2, vector(1, "\0"))
    . pack('n', 13) . vector(2, vector(2, pack('n*', 0x0804, 0x0403, 0x0401)));
# TLS_ECDHE_RSA and _ECDSA with AES_256_GCM_SHA384 and AES_128_GCM_SHA256
my $hello = pack('n', 0x0303) . ("\1" x 32) . vector(1, '')
    . vector(2, pack('n*', 0xc030, 0xc02f, 0xc02c, 0xc02b))
    . vector(1, "\0") . vector(2, $extensions);
print $socket "\x16\x03\x01" . vector(2, "\1" . vector(3, $hello));

sub take {
	my ($n) = @_;
	my $text = '';
	while (length $text < $n) {
		sysread $socket, $text, $n - length $text, length $text
		    or die 'the server has ended the connection';
	}
	return $text;
}

# Handshake messages, until the ServerKeyExchange (12).
my ($messages, %message) = ('');
while (!$message{12}) {
	my ($type, $size) = unpack 'Cxxn', take(5);
	die "a record of type $type" if $type != 22;
	$messages .= take($size);
	while (length $messages >= 4) {
		my ($kind, $high, $low) = unpack 'CCn', $messages;
		my $n = $high << 16 | $low;
		last if length $messages < 4 + $n;
		$message{$kind} = substr $messages, 4, $n;
		$messages = substr $messages, 4 + $n;
	}
}
my ($curve, $key_size) = unpack 'xnC', $message{12};
print unpack('H*', substr $message{2}, 2, 32), ' ',
    unpack('H*', substr $message{12}, 4, $key_size), "\n";
