# Prints authorization data for an authenticator: perl authdata.pl nested|pac.
# before.bats runs it.
#
#	nested   IF-RELEVANT in IF-RELEVANT (RFC 4120 section 5.2.6.1), 1,500
#	         times or up to 40,000 bytes
#	pac      a PAC whose counts and offsets are too large
use strict;
use warnings;

# Returns the DER element with this tag.
sub element {
	my ($tag, $content) = @_;
	my $n = length $content;
	return $tag . ($n < 128 ? chr $n : "\x82" . pack 'n', $n) . $content;
}

# Returns an AuthorizationData with one element of type 1 (IF-RELEVANT).
sub if_relevant {
	my ($content) = @_;
	my $type = "\xa0\x03\x02\x01\x01";
	my $data = element("\xa1", element("\x04", $content));
	return element("\x30", element("\x30", $type . $data));
}

my $what = shift // '';
if ($what eq 'nested') {
	my $data = "\x30\x00";
	for (1 .. 1500) {
		my $more = if_relevant($data);
		last if length $more > 40000;
		$data = $more;
	}
	print $data;
} elsif ($what eq 'pac') {
	print pack 'V6', 0xffffffff, 0, 1, 0xffffffff, 0xfffffff0, 0xffffffff;
} else {
	die "unknown: $what\n";
}
