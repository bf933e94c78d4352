# An attacker who can rename in /var/mail: perl swap.pl.
#
# Prints "held". Then replaces alice's spool by a symbolic link to bob's spool,
# and by a hard link to bob's spool. After each replacement, puts alice's spool
# back. Continues until it is killed. spools.bats runs it.
use strict;
use warnings;

# Sleeps in one of ten calls, for up to 20 ms. Such a pause is long enough for a
# whole login, or only for a part of a login.
sub nap {
	select undef, undef, undef, rand 0.02 if rand() < 0.1;
}

# Moves alice's spool away and calls SUB, which makes the file "next". Then
# renames that file to alice's spool.
sub swap {
	my ($make) = @_;
	nap();
	rename 'alice', 'real';
	nap();
	$make->();
	rename 'next', 'alice';
	nap();
}

chdir '/var/mail' or die "/var/mail: $!\n";
$| = 1;
print "held\n";
while (1) {
	swap(sub { symlink '/var/mail/bob', 'next' });
	rename 'real', 'alice';
	swap(sub { link 'bob', 'next' });
	unlink 'alice';
	nap();
	rename 'real', 'alice';
}
