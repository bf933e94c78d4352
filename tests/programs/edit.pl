# A man in the middle who edits lines: perl edit.pl PORT FILE PERL.
#
# Edits the server's lines with PERL until PERL sets $raw. Writes to FILE what
# clients send. If PERL has set $holds, the server's end of the connection is
# not passed on.
use strict;
use warnings;
use IO::Socket::INET;

$SIG{CHLD} = 'IGNORE';
my ($port, $file, $edit) = @ARGV;
my $listener =
    IO::Socket::INET->new(Listen => 5, LocalAddr => '127.0.0.1',
	LocalPort => $port, ReuseAddr => 1)
    or die "$port: $!";
our ($raw, $holds);
my $change = eval "sub { my \$n = shift; $edit }" or die $@;

sub say_all { my ($to, $text) = @_; print $to $text; $to->flush; return }

while (my $client = $listener->accept) {
	next if fork;
	close $listener;
	my $server = IO::Socket::INET->new('127.0.0.1:1109')
	    or die "server: $!";
	if (fork) {
		my ($n, $text) = (0, '');
		while (sysread $server, $text, 65536, length $text) {
			# KPOP's exchange does not consist of lines.
			say_all($client, $1)
			    if $n == 0
			    && $text =~ s/^([^+-].*?)(?=\+OK kpopd|\z)//s;
			while (!$raw && $text =~ s/^(.*?\n)//s) {
				local $_ = $1;
				$change->(++$n);
				say_all($client, $_);
			}
			next if !$raw;
			say_all($client, $text);
			$text = '';
		}
		sleep 60 if $holds;
		shutdown $client, 1;
		wait;
	} else {
		open my $said, '>>', $file or die "$file: $!";
		while (sysread $client, my $some, 65536) {
			say_all($said, $some);
			syswrite $server, $some;
		}
		shutdown $server, 1;
	}
	exit 0;
}
