# A false POP3 server on standard input and output: perl false-pop3.pl.
# kpopc.bats runs it.
#
# The environment contains the greeting, the answer to CAPA and the answer to
# AUTH, each the inside of a double-quoted Perl string: FALSE_GREETING,
# FALSE_CAPA and FALSE_AUTH. An answer is evaluated when it is sent, so that the
# string may contain code that writes slowly. All other commands are answered by
# "+OK" and an escape sequence.
use strict;
use warnings;

# Returns the string that the environment variable contains.
sub text {
	my ($name) = @_;
	my $text = eval "qq~$ENV{$name}~";
	die $@ if $@;
	return $text;
}

$| = 1;
print text('FALSE_GREETING');
while (<STDIN>) {
	if (/^CAPA/) {
		print text('FALSE_CAPA');
	} elsif (/^AUTH/) {
		print text('FALSE_AUTH');
	} else {
		print "+OK \e[1m\r\n";
	}
}
