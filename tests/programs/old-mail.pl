# Makes varied messages for tests of unique ids: perl old-mail.pl mbox FIRST
# LAST, or perl old-mail.pl maildir DIRECTORY FIRST LAST.
#
# The first form prints a spool, the second one adds files to new and cur. The
# subject of message N is "mN". uidl-servers.bats runs it.
use strict;
use warnings;

binmode STDOUT;
my ($form, @rest) = @ARGV;
my $directory = $form eq 'maildir' ? shift @rest : undef;
my ($first, $last) = @rest;

# Returns the header fields of message N. Some messages have no Message-ID, no
# Received, no Date, folded fields, fields in other letters, fields twice, very
# long fields, or fields that another server would write.
sub header {
	my ($n) = @_;
	my @fields;

	push @fields, "Return-Path: <s$n\@kpopd.test>" if $n % 3 == 0;
	push @fields, "Delivered-To: alice+$n\@kpopd.test" if $n % 4 == 0;
	push @fields, "X-Delivery-ID: $n-$n" if $n % 11 == 0;
	push @fields, "Received: from a by b id $n;\n" .
	    "\tMon, 23 Nov 2026 05:00:00 +0000" if $n % 5 != 0;
	push @fields, "received: from c by d\n  (more)\n  id $n" if $n % 7 == 0;
	push @fields, "Message-ID: <$n\@kpopd.test>" if $n % 6 != 0;
	push @fields, "message-id:<$n.second\@kpopd.test>" if $n % 13 == 0;
	push @fields, "Message-Id:\n <$n.folded\@kpopd.test>" if $n % 17 == 0;
	push @fields, sprintf "Date: Mon, 23 Nov 2026 %02d:%02d:%02d +0000",
	    $n / 3600, $n / 60 % 60, $n % 60 if $n % 8 != 0;
	push @fields, "X-Long: " . 'x' x 3000 if $n % 19 == 0;
	push @fields, "X-Longer: " . 'x' x 70000 if $n % 41 == 0;
	push @fields, "Delivered-To: " . 'y' x 200 . $n if $n % 23 == 0;
	push @fields, "X-UID: 9999$n" if $n % 29 == 0;
	push @fields, "Status: RO" if $n % 31 == 0;
	push @fields, "Subject: m$n";
	push @fields, "To: gr\xc3\xbcn\@kpopd.test" if $n % 9 == 0;
	push @fields, "Received: after the subject $n" if $n % 12 == 0;
	return join('', map { "$_\n" } @fields) . "\n";
}

# Returns the body of message N.
sub body {
	my ($n) = @_;

	return '' if $n % 37 == 0;
	return ".\n..\n>From x\n$n\n" if $n % 10 == 0;
	return "\xff\xfe$n\n" . 'z' x 2000 . "\n" if $n % 14 == 0;
	return "body $n\n" x ($n % 5 + 1);
}

for my $n ($first .. $last) {
	my $message = header($n) . body($n);
	if (!defined $directory) {
		print "From s$n\@kpopd.test Mon Nov 23 05:00:00 2026\n",
		    "$message\n";
		next;
	}
	my $name = 1700000000 + $n . ".M${n}P1.host";
	$name .= ',S=' . length $message if $n % 3 == 0;
	my $place = $n % 4 == 0 ? 'new' : 'cur';
	$name .= ':2,' . ('', 'S', 'FS', 'RS')[$n % 7 % 4] if $place eq 'cur';
	open my $file, '>', "$directory/$place/$name" or die "$name: $!\n";
	binmode $file;
	print $file $message;
	close $file or die "$name: $!\n";
}
