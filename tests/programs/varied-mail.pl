# Prints a spool of N varied messages: perl varied-mail.pl N mbox. Or writes the
# same messages to a Maildir: perl varied-mail.pl N DIRECTORY. With a third
# argument the messages contain no NUL. map.bats runs it.
use strict;
use warnings;

my ($n, $where, $is_clean) = @ARGV;
my $long = 'x' x 70;

# Returns the header of message $i. Some headers have neither Message-ID nor
# Received, some are equal to those of other messages, and some have fields that
# mail readers write.
sub header {
	my ($i) = @_;
	my $id = $i % 10 == 3 ? $i - 1 : $i;
	my @fields = ("Subject: message $id\n", "From: a\@kpopd.test\n");
	push @fields, "Message-ID: <$id\@kpopd.test>\n" if $id % 9 != 4;
	unshift @fields, "Received: from x\n\tby y; $id\n" if $id % 9 == 5;
	push @fields, "Status: RO\nX-UID: $i\nX-Keywords: a\n  folded $i\n"
	    if $i % 4 == 1;
	push @fields, "X-Long: " . "$long " x (1 + $i % 50) . "\n"
	    if $i % 6 == 0;
	push @fields, "X-Very-Long: " . 'y' x 200000 . "\n" if $i % 400 == 7;
	push @fields, "To: =?utf-8?q?a?=,\n $long,\n\t\xc3\xa4\xff\n"
	    if $i % 5 == 0;
	push @fields, ".dots: x\n" if $i % 8 == 0;
	push @fields, "X-Nul: a\0b\n" if $i % 30 == 2 && !$is_clean;
	return join '', @fields;
}

# Returns the body of message $i.
sub body {
	my ($i) = @_;
	return '' if $i % 11 == 0;
	my $text = $i % 20 == 13 ? "the same\n" : "line of $i\n";
	$text .= ".\n..\n.dot\n" if $i % 3 == 0;
	$text .= "\n\n\n" if $i % 12 == 2;
	$text .= "$long\r$long\n\xe9\xff\n" if $i % 5 == 1;
	$text .= "nul \0 nul\n" if $i % 30 == 1 && !$is_clean;
	$text .= 'z' x 300000 . "\n" if $i % 500 == 9;
	return $text;
}

for my $i (1 .. $n) {
	# Three of 60 messages are equal.
	my $same = $i % 60 > 57 ? $i - $i % 60 + 57 : $i;
	my $message = header($same);
	# Some messages have no empty line after the header.
	$message .= "\n" . body($same) unless $i % 77 == 0;
	$message =~ s/(?<!\r)\n/\r\n/g if $i % 7 == 0;
	if ($where eq 'mbox') {
		print "From a\@kpopd.test Mon Nov 23 05:00:00 2026\n",
		    $message, $message =~ /\r/ ? "\r\n" : "\n";
	} else {
		my $name = sprintf '%s/cur/%d.%d.kpopd:2,', $where,
		    1700000000 + $i, $i;
		open my $f, '>:raw', $name or die "$name: $!";
		print $f $message;
		close $f or die $!;
	}
}
