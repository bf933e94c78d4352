# A false POP3 server that answers STLS, and then sends bytes that are not valid
# TLS: perl false-stls.pl ANSWER. falseserver.bats runs it.
#
# ANSWER is the answer to the client's hello, from the table below.
use strict;
use warnings;

my %answers = (
	text => "+OK 3 messages\r\n\e]0;owned\a" x 100,
	alert => "\x15\3\3\0\2\2\x28",
	warnings => "\x15\3\3\0\2\1\x5a" x 20000,
	'close-notify' => "\x15\3\3\0\2\1\0",
	'too-large-record' => "\x16\3\3\xff\xff" . 'x' x 65535,
	'hello-of-16-MB' => "\x16\3\3\x40\0\2\xff\xff\xff"
	    . 'x' x 16380
	    . ("\x16\3\3\x40\0" . 'x' x 16384) x 40,
	'application-data' => "\x17\3\3\0\x20" . "+OK owned\r\n" x 20,
	'old-version' => "\x16\3\1\0\x2a\2\0\0\x26\3\1"
	    . 'x' x 32
	    . "\0\0\x35\0",
	'half-a-hello' => "\x16\3\3\0\x7a\2\0\0",
	nothing => '',
);
my ($name) = @ARGV;
my $answer = $answers{$name} // die "$name: no such answer\n";
$| = 1;
print "+OK\r\n";
<STDIN>;
print "+OK\r\n";
sysread STDIN, my $hello, 5;
print $answer;
