# Prints a spool of messages with unusual bodies: perl bodies.pl.
#
# Each message begins with "From a" and has one header field. mbox.bats runs it.
use strict;
use warnings;

binmode STDOUT;
my @bodies = (
	"plain\n",
	"no end",
	"",
	"\n",
	".\n..\n.a\n",
	"a\rb\r\n",
	"nul \0 nul\n\0\0\n",
	join('', map { chr } 128 .. 255) . "\n",
	">From quoted\n",
	"a\nFrom inside\n",
	"\n\n\n",
	"x" x 300000 . "\n",
	".\r\n.\n",
	"tab\tand \x1b[31mescape\n",
	"." x 1000 . "\n",
	"\r",
	"\r\n",
);
for (@bodies) {
	print "From a\nSubject: t\n\n$_";
	print "\n" unless /\n\z/;
	print "\n";
}
