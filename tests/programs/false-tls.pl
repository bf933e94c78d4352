# Runs instead of kpopd-tls and misbehaves: perl false-tls.pl HOW [ARGUMENT
# ...]. meddlers.bats mounts a script over kpopd-tls that runs it.
#
# The arguments are those of kpopd-tls. With three arguments kpopd-tls only
# checks its files. Standard output is the cleartext side. When kpopd-tls is
# ready, it sends a length and a text to the cleartext side. Descriptor 3 is the
# channel to the monitor. For each HOW it
#
#	size_255, size_65  sends a length that is too large
#	half      sends less text than the length
#	dies      ends
#	killed    is killed once it is ready
#	channel   closes the channel
#	question  sends a message that only the pre-auth process may send
#	large     sends a message that is too large
#	empty     sends an empty message
#	flood     sends 3,000 log lines
#	commands  sends POP3 commands once it is ready
use strict;
use warnings;
use IO::Handle;

my ($how, @arguments) = @ARGV;
exit 0 if @arguments == 3;
my $monitor = IO::Handle->new_from_fd(3, 'r+') or die "channel: $!\n";
my $ready = chr(32) . 'h' x 32;

# Sends a text on the cleartext side.
sub put { syswrite STDOUT, $_[0]; return }

# Sends a message to the monitor.
sub message { send $monitor, $_[0], 0; return }

my $log_line = "l\6failed" . "\0" x 16 . 'x' x 3000;
my %lies = (
	size_255 => sub { put("\xff" . 'h' x 255) },
	size_65 => sub { put("\x41" . 'h' x 65) },
	half => sub { put("\x20hhhhh") },
	dies => sub { exit 0 },
	killed => sub { put($ready); kill 'KILL', $$ },
	channel => sub { close $monitor; put($ready) },
	question => sub { message("\1" . "\0" x 3000); put($ready) },
	large => sub { message('l' x 60000); put($ready) },
	empty => sub { message(''); put($ready) },
	flood => sub { message($log_line) for 1 .. 3000; put($ready) },
	commands => sub { put($ready . "USER alice\r\nPASS x\r\nSTAT\r\n") },
);
$lies{$how}->();
# The monitor kills this process at the deadline.
sleep 60;
exit 0;
