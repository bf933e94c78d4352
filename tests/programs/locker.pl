# An MDA that locks as Postfix's local(8) does on Debian: perl locker.pl MAILBOX
# <MESSAGE. Runs as the user with group mail.
#
# Takes a dotlock by O_EXCL, then the fcntl lock. Exits with status 75 after too
# many attempts. Postfix waits a second between attempts. This program waits
# less, so that more attempts coincide with the actions of other programs.
use strict;
use warnings;
use Fcntl;
use IO::Handle;
use POSIX qw(EEXIST EAGAIN EACCES F_SETLK F_WRLCK strftime);

my ($path) = @ARGV;
my $dotlock = "$path.lock";
my $holds = 0;

sub retry_later { exit 75 }

END { unlink $dotlock if $holds }

# Repeats SUB until it returns true. A permanent error ends the program.
sub try {
	my ($once) = @_;
	for (1 .. 200) {
		return if $once->();
		retry_later()
		    unless $! == EEXIST || $! == EAGAIN || $! == EACCES;
		select undef, undef, undef, 0.02 + rand 0.06;
	}
	retry_later();
}

my $text = do { local $/; <STDIN> };
$text =~ s/^From />From /mg;
$text .= "\n" unless $text =~ /\n\z/;

try(sub { sysopen my $lock, $dotlock, O_WRONLY | O_CREAT | O_EXCL, 0 });
$holds = 1;
sysopen my $box, $path, O_RDWR | O_APPEND | O_CREAT, 0660 or retry_later();
my $whole = pack 's s l! l! i', F_WRLCK, 0, 0, 0, 0;
try(sub { fcntl $box, F_SETLK, $whole });
my @opened = stat $box;
my @named = lstat $path or retry_later();
retry_later() if "@opened[0, 1]" ne "@named[0, 1]" || $opened[3] != 1;
my $from = 'From sender@kpopd.test  '
    . strftime('%a %b %e %H:%M:%S %Y', gmtime) . "\n";
# Write in pieces, as slowly as to a disk. Then a program that ignores the locks
# reads half a message.
$box->autoflush(1);
for my $piece ($from, unpack('(a1000)*', $text), "\n") {
	select undef, undef, undef, rand 0.01;
	print $box $piece or die "$path: $!";
}
$box->sync or die "$path: $!";
close $box or die "$path: $!";
