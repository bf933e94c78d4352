# Edits an mbox file as mail readers do: perl mbox-edit.pl COMMAND ... <mailbox.
# readers.bats runs it.
#
#	without SUBJECT ...
#	         prints the mailbox without the messages with these subjects
#	message SUBJECT
#	         prints the messages with this subject, each without its From
#	         line and the empty line after it
#	fields front|end FIELD ...
#	         prints the mailbox with these fields at the front or the end of
#	         each header. Removes other fields with these names. In FIELD
#	         the characters \n\t mean a line end and a tab.
use strict;
use warnings;

my ($command, @words) = @ARGV;
my $mailbox = do { local $/; <STDIN> };
my @messages = split /(?<=\n\n)(?=From )/, $mailbox;

sub subject_of {
	my ($message) = @_;
	return $message =~ /^Subject: (.*)/m ? $1 : '';
}

# Returns the message with the fields at PLACE of its header.
sub with_fields {
	my ($message, $place, @fields) = @_;
	my ($from, $header, $body) =
	    $message =~ /\A(.*\n)((?:.+\n)*)(\n.*)\z/s or die "no header\n";
	for my $field (@fields) {
		my ($name) = $field =~ /^([^:]+):/;
		$header =~ s/^\Q$name\E:.*\n(?:[ \t].*\n)*//mg;
	}
	my $new = join '', map { s/\\n\\t/\n\t/gr . "\n" } @fields;
	return $from . ($place eq 'front' ? $new . $header : $header . $new)
	    . $body;
}

if ($command eq 'without') {
	my %is_gone = map { $_ => 1 } @words;
	print grep { !$is_gone{ subject_of($_) } } @messages;
} elsif ($command eq 'message') {
	for (grep { subject_of($_) eq $words[0] } @messages) {
		print substr $_, index($_, "\n") + 1, -1;
	}
} elsif ($command eq 'fields') {
	print map { with_fields($_, @words) } @messages;
} else {
	die "unknown command $command\n";
}
