# Finds the messages of a spool with its own code. Tests compare these messages
# with those that kpopd finds: perl spool-messages.pl count FILE perl
# spool-messages.pl without FILE N ... perl spool-messages.pl check FILE ANSWERS
#
# count prints the number of messages. without prints the spool without the
# messages N, counted from 1. check fails unless the file ANSWERS contains what
# a server must answer to USER, PASS, STAT, LIST, UIDL, RETR for each message,
# and QUIT. spools.bats runs it.
use strict;
use warnings;

my ($command, $path, @arguments) = @ARGV;
# @part contains the messages as they are in the spool, and @wire as a client
# gets them. Both count from 1. $part[0] contains the bytes before the first
# message.
my (@part, @wire);

sub slurp {
	my ($file) = @_;
	local $/;
	open my $in, '<:raw', $file or die "$file: $!\n";
	return <$in> // '';
}

# Returns the offsets at which the messages of a spool begin.
sub beginnings {
	my ($file) = @_;
	my $date = qr/ [A-Z][a-z]{2} +\d+ \d+:\d\d:\d\d \d{4}\r?\z/;
	my $start = qr/\A|(?<=\A\n)|(?<=\A\r\n)|(?<=\n\n)|(?<=\n\r\n)/;
	my @at;
	while ($file =~ /(?:$start)From ([^\n]*)/g) {
		my ($at, $line) = ($-[0], $1);
		push @at, $at
		    if !@at
		    || $line =~ $date
		    || $file =~ /\G\n(?:[A-Za-z][!-9;-~]*:(?!\/\/)|>From )/;
	}
	return @at;
}

# Returns a message of the spool as a client must get it.
sub on_the_wire {
	my ($message) = @_;
	$message =~ s/\A[^\n]*\n?//;
	# The empty line that ends the header is kept, even if nothing follows
	# it.
	$message =~ s/(?<=\n)\r?\n\z// if $message =~ /(?:\A|\n)\r?\n./s;
	$message =~ s/(?<!\r)\n/\r\n/g;
	$message .= "\r\n" unless $message eq '' || $message =~ /\n\z/;
	return $message;
}

sub read_spool {
	my ($file) = @_;
	my @at = beginnings($file);
	@part = (substr $file, 0, $at[0] // length $file);
	@wire = ('');
	for my $n (1 .. @at) {
		my $end = $at[$n] // length $file;
		$part[$n] = substr $file, $at[ $n - 1 ], $end - $at[ $n - 1 ];
		$wire[$n] = on_the_wire($part[$n]);
	}
}

my $answers;

# Returns the next line of the answers.
sub line {
	local $/ = "\r\n";
	my $line = <$answers> // die "no more answers\n";
	chomp $line;
	return $line;
}

# Returns the next line of the answers. It must begin with +OK.
sub good {
	my $line = line();
	$line =~ /^\+OK/ or die "answer: $line\n";
	return $line;
}

# Returns the lines up to the final dot.
sub lines {
	my @lines;
	while ((my $line = line()) ne '.') { push @lines, $line }
	return @lines;
}

sub check_answers {
	my $count = $#part;
	my $bytes = 0;
	$bytes += length for @wire;
	good() for 1 .. 2;
	good() eq "+OK $count messages" or die "PASS: not $count messages\n";

	my $stat = good();
	$stat eq "+OK $count $bytes" or die "STAT: $stat, not $bytes\n";

	good();
	my @list = lines();
	"@list" eq join ' ', map { "$_ " . length $wire[$_] } 1 .. $count
	    or die "LIST: @list\n";

	good();
	my ($n, %seen) = (0);
	for (lines()) {
		/^(\d+) ([\x21-\x7e]{1,70})$/ && $1 == ++$n && !$seen{$2}++
		    or die "UIDL: $_\n";
	}
	$n == $count or die "UIDL: $n lines\n";

	for my $n (1 .. $count) {
		good() eq '+OK ' . length($wire[$n]) . ' octets'
		    or die "RETR $n: another size\n";
		my $got = join '', map { s/^\.//r . "\r\n" } lines();
		$got eq $wire[$n] or die "RETR $n: other bytes\n";
	}
	good() =~ /^\+OK bye/ or die "QUIT: no +OK bye\n";
}

binmode STDOUT;
read_spool(slurp($path));
if ($command eq 'count') {
	print $#part;
} elsif ($command eq 'without') {
	my %removed = map { $_ => 1 } @arguments;
	print map { $part[$_] } grep { !$removed{$_} } 0 .. $#part;
} elsif ($command eq 'check') {
	open $answers, '<:raw', $arguments[0] or die "$arguments[0]: $!\n";
	check_answers();
} else {
	die "unknown command: $command\n";
}
