# Prints the unique id of each message on a POP3 server of this host: perl
# ids.pl PORT USER [NUMBER ...].
#
# The client is Net::POP3. Each line has a message's subject and its id, sorted
# by subject. Then removes the messages with these numbers. uidl-servers.bats
# runs it.
use strict;
use warnings;
use Net::POP3;

my ($port, $user, @remove) = @ARGV;
my %ids;

my $pop = Net::POP3->new('127.0.0.1', Port => $port, Timeout => 60)
    or die "no connection to port $port: $@\n";
defined $pop->login($user, 'none') or die 'login: ' . $pop->message;
my $list = $pop->uidl or die 'UIDL: ' . $pop->message;
for my $number (sort { $a <=> $b } keys %$list) {
	my $header = $pop->top($number, 0)
	    or die "TOP $number: " . $pop->message;
	my ($subject) = map { /^Subject: (\S+)/ ? $1 : () } @$header;
	die "message $number has no subject\n" if !defined $subject;
	die "two messages $subject\n" if exists $ids{$subject};
	$ids{$subject} = $list->{$number};
	my ($one) = $pop->uidl($number);
	$one = (split ' ', $one)[-1];
	die "UIDL $number: $one\n" if $one ne $ids{$subject};
}
for my $number (@remove) {
	$pop->delete($number) or die "DELE $number: " . $pop->message;
}
$pop->quit;
print "$_ $ids{$_}\n" for sort keys %ids;
