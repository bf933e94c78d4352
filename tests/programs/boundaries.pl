# Makes spools from the cases of tests/boundaries on standard input: perl
# boundaries.pl DIRECTORY <tests/boundaries.
#
# Writes the spools DIRECTORY/001 and so on. Writes a line for each case to
# DIRECTORY.list. The line contains the file, the four counts, 1 if the case has
# reasons (0 if not), and the name. boundaries.bats runs it.
use strict;
use warnings;

my ($directory) = @ARGV;

# The abbreviations of lines, which the head of tests/boundaries describes.
my %macros = ('@from' =>
	    "From sender\@example.test Mon Nov 23 05:00:00 2026\n");
for (qw(one two three)) {
	$macros{"\@$_"} =
	      "Message-ID: <$_\@example.test>\n"
	    . "From: sender\@example.test\nSubject: $_\n\n$_\n\n";
}
my $end = "\0END\0";

# Returns the line of the spool that a line of a case describes.
sub expand {
	my ($line) = @_;
	$line =
	      exists $macros{$line} ? $macros{$line}
	    : $line eq '@end'       ? $end
	    :                         "$line\n";
	$line =~ s/\\r\n\z/\r\n/;
	$line =~ s/\\c\n\z//;
	return $line;
}

# Returns the spool of a case. Replaces LENGTH+1 by the number of bytes.
sub finish {
	my ($text, $name) = @_;
	if ($text =~ /LENGTH/) {
		my ($body) = $text =~ /LENGTH.*?\n\r?\n(.*)$end/s
		    or die "no \@end in $name\n";
		$text =~ s/LENGTH([+-]\d+)/length($body) + $1/e;
	}
	$text =~ s/$end//;
	return $text;
}

my (@cases, $case);
while (<STDIN>) {
	chomp;
	if (/^(\d+ \d+ \d+ \d+)  (.+)/) {
		$case = {
			name => $2, counts => $1, text => '', gap => '',
			why => 0
		};
		push @cases, $case;
	} elsif (/^#/) {
		$case->{why} = 1 if $case && $case->{text} eq '';
	} elsif (/^$/) {
		# Empty lines between two cases belong to neither case.
		$case->{gap} .= "\n" if $case;
	} elsif (s/^\t//) {
		$case->{text} .= $case->{gap} . expand($_);
		$case->{gap} = '';
	} else {
		die "not a line of a case: $_\n";
	}
}

open my $list, '>', "$directory.list" or die "$directory.list: $!\n";
my $n = 0;
for (@cases) {
	my $file = sprintf '%03d', ++$n;
	open my $out, '>:raw', "$directory/$file" or die "$file: $!\n";
	print $out finish($_->{text}, $_->{name});
	close $out or die "$file: $!\n";
	print $list "$file $_->{counts} $_->{why} $_->{name}\n";
}
