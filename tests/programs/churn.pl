# Logs in with one AP-REQ after another: perl churn.pl FILE [gssapi].
#
# FILE contains AP-REQs, each after its length in four bytes. The program sends
# the AP-REQs by KPOP, or by AUTH GSSAPI. Prints the number of those that the
# server has accepted. replay.bash runs it.
use strict;
use warnings;
use MIME::Base64;
use Socket;

# The time limit for an answer, in seconds.
use constant DEADLINE => 20;

my ($file, $by_gssapi) = @ARGV;
my $hello = pack 'N/a*N/a*', "KRB5_SENDAUTH_V1.0\0", "KPOPV1.0\0";
# The mechanism's OID and the token's type (RFC 4121 section 4.1).
my $head = "\x06\x09\x2a\x86\x48\x86\xf7\x12\x01\x02\x02\x01\x00";
my $good = $by_gssapi ? qr/\n\+ BQ/ : qr/^\0{5}/;
my $bad = $by_gssapi ? qr/\n-ERR/ : qr/^\0..[^\0]/s;
my $accepted = 0;

sub gssapi {
	my $token = $head . $_[0];
	$token = "\x60\x82" . pack('n', length $token) . $token;
	return 'AUTH GSSAPI ' . encode_base64($token, '') . "\r\n*\r\n";
}

$SIG{ALRM} = sub { die "churn: no answer\n" };
open my $in, '<:raw', $file or die "$file: $!\n";
while (read $in, my $length, 4) {
	read $in, my $request, unpack 'N', $length;
	alarm DEADLINE;
	socket my $s, PF_INET, SOCK_STREAM, 0;
	connect $s, sockaddr_in(1109, INADDR_LOOPBACK) or die "connect: $!\n";
	syswrite $s, $by_gssapi
	    ? gssapi($request)
	    : $hello . $length . $request;
	my $heard = '';
	while ($heard !~ $good && $heard !~ $bad) {
		sysread $s, $heard, 4096, length $heard or last;
	}
	$accepted++ if $heard =~ $good;
}
print "$accepted\n";
