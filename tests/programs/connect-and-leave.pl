# Connects to port 1109 and leaves: perl connect-and-leave.pl reset|end HEADER
# [FILE].
#
# Sends HEADER, which is in base64, and ends or resets the connection. If there
# is FILE, first waits until a kpopd has it open.
use strict;
use warnings;
use MIME::Base64;
use Socket;
use Time::HiRes;

my ($how, $header, $file) = @ARGV;
socket my $s, PF_INET, SOCK_STREAM, 0 or die "socket: $!\n";
connect $s, sockaddr_in(1109, INADDR_LOOPBACK) or die "connect: $!\n";
$header = decode_base64($header);
syswrite $s, $header if $header ne '';

sub is_open {
	return grep { (readlink // '') eq $file }
	    map { glob "/proc/$_/fd/*" } split ' ', `pgrep -x kpopd`;
}

for (1 .. 200) {
	last if !defined $file || is_open();
	die "$file was not opened\n" if $_ == 200;
	Time::HiRes::sleep(0.05);
}
setsockopt $s, SOL_SOCKET, SO_LINGER, pack 'ii', 1, 0 if $how eq 'reset';
close $s;
