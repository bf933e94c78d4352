# Locks a file as other programs lock a spool: perl spool-lock.pl COMMAND KIND
# FILE [ARGUMENT]. lock.bats runs it.
#
# KIND is fcntl, flock or dotlock. The commands are
#	try		exits with status 0 if the lock is free, 7 if it is not
#	hold [TEXT]	locks FILE, replaces its content by TEXT if TEXT is
#			given, prints "held" and keeps the lock until it is
#			killed. If the lock is not free, prints "busy" and exits
#	wait STATE	waits for the lock, releases it, and prints the journals
#			in the state directory STATE and FILE's subjects
use strict;
use warnings;
use Errno qw(EEXIST);
use Fcntl qw(:DEFAULT :flock);

my ($command, $kind, $path, $argument) = @ARGV;
my $waits = $command eq 'wait';
open my $file, '+<', $path or die "$path: $!\n";

sub lock_fcntl {
	my $lock = pack 's s l! l! i', F_WRLCK, 0, 0, 0, 0;
	return fcntl $file, $waits ? F_SETLKW : F_SETLK, $lock;
}

sub lock_flock {
	return flock $file, $waits ? LOCK_EX : LOCK_EX | LOCK_NB;
}

# Makes the dotlock. A waiting program tries every half millisecond, so that it
# gets the lock as soon as another program has removed the dotlock.
sub lock_dotlock {
	my $flags = O_CREAT | O_EXCL | O_WRONLY;
	until (sysopen my $dotlock, "$path.lock", $flags) {
		return 0 if !$waits;
		$! == EEXIST or die "$path.lock: $!\n";
		select undef, undef, undef, 0.0005;
	}
	return 1;
}

sub read_all {
	local $/;
	return scalar <$file>;
}

my %locks = (fcntl => \&lock_fcntl, flock => \&lock_flock,
	dotlock => \&lock_dotlock);
my $locked = $locks{$kind}->();
$| = 1;
if ($command eq 'try') {
	unlink "$path.lock" if $locked && $kind eq 'dotlock';
	exit($locked ? 0 : 7);
} elsif ($command eq 'hold') {
	$locked or print("busy\n"), exit 1;
	if (defined $argument) {
		truncate $file, 0 or die "$path: $!\n";
		syswrite $file, $argument;
	}
	print "held\n";
	sleep;
} else {
	$locked or die "$path: $!\n";
	my @journals = grep { -e } "$argument/j", "$argument/j.cut";
	my $text = read_all();
	unlink "$path.lock" if $kind eq 'dotlock';
	print "@journals ", join(' ', $text =~ /^Subject: (\w+)/mg), "\n";
}
