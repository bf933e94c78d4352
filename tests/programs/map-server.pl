# A POP3 server on standard input and output, as kpopc --uidl-map finds an old
# one: perl map-server.pl MBOX [PERL]. map.bats runs it.
#
# Serves the messages of MBOX, which has LF line ends, with the ids "old-N".
# Knows CAPA, USER, PASS, UIDL, TOP and QUIT. $MAP_LOG names a file that records
# the client's commands. If a client sends the next command before it has the
# answer to the last one, the server records "early".
#
# PERL is evaluated for each answer, and for the greeting. It may change $_, the
# whole answer. $c is the command, "" for the greeting. PERL may also write by
# itself, or exit.
use strict;
use warnings;

my ($mbox, $edit) = (@ARGV, '');
my @messages = split /^From [^\n]*\n/m, do {
	local $/;
	open my $f, '<:raw', $mbox or die "$mbox: $!";
	<$f> // '';
};
shift @messages;
open my $log, '>>', $ENV{MAP_LOG} // '/dev/null' or die $!;
$log->autoflush(1);
$| = 1;
binmode STDOUT;

# Returns the header of a message and $lines lines of its body, as POP3 has it.
sub top {
	my ($message, $lines) = @_;
	$message =~ s/\n\n\z/\n/;
	my ($header, $body) = split /^\n/m, $message, 2;
	my @body = split /^/, $body // '';
	splice @body, $lines if @body > $lines;
	my $text = join '', $header, "\n", @body;
	$text .= "\n" if $text !~ /\n\z/;
	$text =~ s/\r?\n/\r\n/g;
	$text =~ s/^\./../mg;
	return "+OK\r\n$text.\r\n";
}

sub answer {
	my ($c) = @_;
	return "+OK old\r\n" if $c eq '';
	return "+OK\r\nTOP\r\nUIDL\r\nPIPELINING\r\n.\r\n" if $c eq 'CAPA';
	return "+OK\r\n" if $c =~ /^(?:USER|PASS) |^QUIT$/;
	return join '', "+OK\r\n", (map "$_ old-$_\r\n", 1 .. @messages),
	    ".\r\n"
	    if $c eq 'UIDL';
	return top($messages[$1 - 1], $2)
	    if $c =~ /^TOP (\d+) (\d+)$/ && $1 >= 1 && $1 <= @messages;
	return "-ERR unknown\r\n";
}

my $input = '';
my $command = '';
while (1) {
	{
		local $_ = answer($command);
		my $c = $command;
		eval "$edit; 1" or die $@;
		my $ready = '';
		vec($ready, 0, 1) = 1;
		print $log "early\n"
		    if $input ne '' || select $ready, undef, undef, 0;
		print;
	}
	last if $command eq 'QUIT';
	while (index($input, "\r\n") < 0) {
		sysread STDIN, $input, 65536, length $input or exit;
	}
	($command, $input) = split /\r\n/, $input, 2;
	print $log "$command\n";
}
