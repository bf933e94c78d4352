# A false POP3 server on standard input and output: perl false-pop3.pl.
# kpopc.bats runs it.
#
# The environment variables FALSE_GREETING, FALSE_CAPA and FALSE_AUTH contain
# the greeting and the answers to CAPA and AUTH. Each value is the content of a
# double-quoted Perl string. The string is evaluated when the answer is sent, so
# it may contain code that writes slowly. The answer to all other commands is
# "+OK" and an escape sequence.
use strict;
use warnings;

# Returns the value of the Perl string in the environment variable.
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
