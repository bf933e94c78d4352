# Fetches mail with Perl's Net::POP3, Authen::SASL and GSSAPI: fetch.pl
# clear|stls|pop3s HOST PORT CA. Prints all messages and removes them.
use strict;
use warnings;
use Authen::SASL qw(Perl);
use Net::POP3;

my ($how, $host, $port, $ca) = @ARGV;
my @verify = (SSL_ca_file => $ca, SSL_verifycn_name => $host);
my $pop =
    Net::POP3->new($host, Port => $port, Timeout => 20,
	$how eq 'pop3s' ? (SSL => 1, @verify) : ())
    or die "connect: $@\n";
$how ne 'stls' or $pop->starttls(@verify) or die "STLS: ", $pop->message, "\n";
# Net::POP3 has no security layer, so the client must not choose one.
my $sasl = Authen::SASL->new(mechanism => 'GSSAPI',
	callback => { user => 'alice', authname => 'alice' });
$pop->auth($sasl) or die "AUTH: ", $pop->message, "\n";
for my $number (sort { $a <=> $b } keys %{ $pop->list }) {
	print @{ $pop->get($number) };
	$pop->delete($number);
}
$pop->quit or die "QUIT: ", $pop->message, "\n";
