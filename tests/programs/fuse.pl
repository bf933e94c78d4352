# A file system that answers its calls or keeps them waiting: perl fuse.pl
# SOURCE MOUNTPOINT HANG LOG [OPTION=VALUE ...].
#
# Shows the directory SOURCE at MOUNTPOINT through /dev/fuse, without a library.
#
# The file HANG contains a regular expression, such as "READ /new/1" or "LOOKUP
# /.k5login". While HANG exists, calls that match the expression get no answer.
# A line for each such call is written to LOG. The processes that wait cannot be
# killed, because the kernel has already passed on their requests. When HANG is
# changed or removed, the program answers the calls that no longer match.
#
# If this program is stopped, it takes no request from the kernel. Processes
# that wait can then be killed. After the program has ended, every call fails
# with ENOTCONN.
#
# The options are for a file system that other hosts change. SOURCE is then what
# the server has, and a process that changes SOURCE is another host:
#
#	cache=SECONDS   the kernel may keep names, also of absent files, sizes,
#	                times and content for this time
#	locks=1         a lock also excludes the processes of other mounts of
#	                SOURCE
#	behind=SECONDS  the server's clock is behind
#	step=SECONDS    the server's clock advances in steps
#	client=1        this program, as the server's client, keeps the status
#	                of a file until an fsync of the file, of a directory
#	                until its names are read, and of both until it changes
#	                them itself
#	listings=1      the kernel may keep names that it has read from a
#	                directory, until it learns of another time of it
#	trace=1         a line for each call is written to LOG
#	fail=FILE       while FILE exists, calls that match the expression in it
#	                fail
#	lost=FILE       if FILE exists, the server gives all locks of
#	                this mount away, and FILE is removed
use strict;
use warnings;
use Errno qw(:POSIX);
use Fcntl qw(:DEFAULT :mode);
use IO::Handle;
use IO::Poll qw(POLLIN);
use POSIX ();
use Time::HiRes ();

my ($source, $mountpoint, $hang, $log, @options) = @ARGV;
my %option = (
	cache => 0,
	locks => 0,
	behind => 0,
	step => 0,
	client => 0,
	listings => 0,
	trace => 0,
	fail => '',
	lost => '',
	map { split /=/, $_, 2 } @options
);
my $cache = $option{cache};
my %names = (
	1 => 'LOOKUP', 3 => 'GETATTR', 4 => 'SETATTR', 5 => 'READLINK',
	6 => 'SYMLINK', 8 => 'MKNOD', 9 => 'MKDIR',
	10 => 'UNLINK', 11 => 'RMDIR', 12 => 'RENAME', 13 => 'LINK',
	14 => 'OPEN', 15 => 'READ', 16 => 'WRITE', 17 => 'STATFS',
	18 => 'RELEASE', 20 => 'FSYNC', 25 => 'FLUSH', 26 => 'INIT',
	27 => 'OPENDIR', 28 => 'READDIR', 29 => 'RELEASEDIR',
	30 => 'FSYNCDIR', 32 => 'SETLK', 34 => 'ACCESS',
	35 => 'CREATE', 45 => 'RENAME2'
);
# A file's node is its inode number. The root's node is 1, as the kernel
# requires.
my %paths = (1 => '');
my (%open, %directories, @waiting);
my $handles = 0;
umask 0;

sub node {
	my ($path, @st) = @_;
	my $n = $path eq '' ? 1 : $st[1];
	$paths{$n} = $path;
	return $n;
}

# These functions return the seconds and the nanoseconds of times.
sub seconds {
	return map { int } @_;
}
sub nanoseconds {
	return map { int(($_ - int) * 1e9) } @_;
}

sub attributes {
	my (@st) = @_;
	return pack 'Q6 L10', $st[1], $st[7], $st[12] || 0,
	    seconds(@st[8, 9, 10]), nanoseconds(@st[8, 9, 10]),
	    @st[2, 3, 4, 5], 0, 4096, 0;
}

# Returns the status of a file with the times that the server's clock gives it.
sub by_its_clock {
	my (@st) = @_;
	for my $time (@st ? @st[8, 9, 10] : ()) {
		# The half of a second stands for a clock with nanoseconds.
		$time = int($time / $option{step}) * $option{step} + 0.5
		    if $option{step};
		$time -= $option{behind};
	}
	return @st;
}

# What the client has kept: status by path.
my %kept;

sub look {
	my ($path) = @_;
	return @{ $kept{$path} } if $kept{$path};
	my @st = by_its_clock(Time::HiRes::lstat($source . $path));
	$kept{$path} = \@st if $option{client} && @st;
	return @st;
}

# Forgets what a call makes out of date.
sub forget {
	my ($r) = @_;
	my $path = $paths{ $r->{node} } // '';
	if ($r->{op} =~ /^(?:FSYNC|OPENDIR|SETATTR|WRITE)$/
		|| $r->{op} eq 'OPEN' && !-e $source . $path)
	{
		delete $kept{$path};
	} elsif ($r->{op} =~ /^(?:CREATE|MKNOD|UNLINK)$/) {
		delete @kept{ $path, subject($r) =~ s/^\w+ //r };
	} elsif ($r->{op} =~ /^(?:MKDIR|RMDIR|RENAME|LINK|SYMLINK)/) {
		%kept = ();
	}
}

# Each of the following functions answers one kind of call. After an error the
# function returns undef and sets $!. Without the option cache the answers tell
# the kernel to cache nothing.
sub entry {
	my ($path) = @_;
	my @st = look($path);
	return pack('Q4 L2', 0, 0, $cache, $cache, 0, 0) . "\0" x 88
	    if !@st && $!{ENOENT} && $cache;
	return if !@st;
	return pack('Q4 L2', node($path, @st), 0, $cache, $cache, 0, 0)
	    . attributes(@st);
}

sub attributes_of {
	my ($node) = @_;
	my ($file) =
	    map { $_->{file} } grep { $_->{node} == $node } values %open;
	my @st =
	    $file && !$kept{ $paths{$node} // '' }
	    ? by_its_clock(Time::HiRes::stat($file))
	    : look($paths{$node})
	    or return;
	return pack('Q L2', $cache, 0, 0) . attributes(@st);
}

# FOPEN_DIRECT_IO, or FOPEN_KEEP_CACHE
sub open_flags { return $cache ? 2 : 1 }

sub opened {
	my ($path, $flags) = @_;
	$flags &= O_ACCMODE | O_TRUNC | O_APPEND | O_NONBLOCK;
	# O_APPEND is not needed, because the kernel passes the offset at which
	# bytes are appended.
	$flags &= ~O_APPEND;
	sysopen my $file, $source . $path, $flags or return;
	my @st = stat $file;
	$open{ ++$handles } = { file => $file, node => node($path, @st) };
	return pack 'Q L2', $handles, open_flags(), 0;
}

sub made {
	my ($path, $uid, $gid) = @_;
	# A new file may inherit its directory's group.
	my @st = lstat $source . $path;
	my @above = stat(($source . $path) =~ s,/[^/]*$,,r);
	$gid = $above[5] if $above[2] & S_ISGID;
	POSIX::lchown($uid, $gid, $source . $path)
	    or return
	    if $st[4] != $uid || $st[5] != $gid;
	return 1;
}

sub set_attributes {
	my ($node, $in) = @_;
	my ($valid, undef, $handle, $size, undef, $atime, $mtime, undef, $an,
		$mn, undef, $mode, undef, $uid, $gid) = unpack 'L2 Q6 L7', $in;
	my $path = $source . $paths{$node};
	my $now = Time::HiRes::time();
	chmod $mode & 07777, $path or return if $valid & 1;
	chown $valid & 2 ? $uid : -1, $valid & 4 ? $gid : -1, $path
	    or return
	    if $valid & 6;
	truncate $path, $size or return if $valid & 8;
	if ($valid & 0x30) {
		my @st = look($paths{$node});
		my $a =
		      $valid & 0x80 ? $now
		    : $valid & 0x10 ? $atime + $an / 1e9
		    : $st[8];
		my $m =
		      $valid & 0x100 ? $now
		    : $valid & 0x20 ? $mtime + $mn / 1e9
		    : $st[9];
		Time::HiRes::utime($a, $m, $path) or return;
	}
	return attributes_of($node);
}

sub renamed {
	my ($from, $to) = @_;
	rename $source . $from, $source . $to or return;
	s/^\Q$from\E(?=\/|$)/$to/ for values %paths;
	return '';
}

sub list {
	my ($handle, $offset, $room) = @_;
	my $d = $directories{$handle};
	my $out = '';
	for (my $i = $offset; $i < @$d; $i++) {
		my $one =
		    pack('Q2 L2', $d->[$i][0], $i + 1, length $d->[$i][1],
			$d->[$i][2])
		    . $d->[$i][1];
		$one .= "\0" x (-length($one) % 8);
		last if length($out) + length($one) > $room;
		$out .= $one;
	}
	return $out;
}

sub opened_directory {
	my ($path) = @_;
	opendir my $d, $source . $path or return;
	my @all = map {
		my @st = lstat "$source$path/$_";
		@st ? [$st[1], $_, S_IFMT($st[2]) >> 12] : ()
	} readdir $d;
	$directories{ ++$handles } = \@all;
	# FOPEN_CACHE_DIR and FOPEN_KEEP_CACHE
	return pack 'Q L2', $handles, $option{listings} ? 10 : 0, 0;
}

# Takes or releases a lock of an open file.
sub locked {
	my ($handle, undef, $start, $end, $type) = unpack 'Q4 L', $_[0];
	my $size = $end >= 2**62 ? 0 : $end - $start + 1;
	# 37 is F_OFD_SETLK.
	return fcntl($open{$handle}{file}, 37,
		pack 's2 x4 q2 l x4', $type, 0, $start, $size, 0) ? '' : undef;
}

# The server has not reached this host for a time, and gives its locks away.
sub lose_locks {
	return if !unlink $option{lost};
	for (values %open) {
		# fcntl writes into its argument. 2 is F_UNLCK.
		my $none = pack 's2 x4 q2 l x4', 2, 0, 0, 0, 0;
		fcntl $_->{file}, 37, $none;
	}
	return;
}

sub synced {
	my ($path) = @_;
	sysopen my $file, $source . $path, O_RDONLY or return;
	return $file->sync ? '' : undef;
}

sub answer {
	my ($r) = @_;
	my ($op, $node, $in) = @$r{qw(op node in)};
	my $path = $paths{$node} // '';
	my @strings = split /\0/, $in;
	$! = ENOSYS;
	return entry("$path/$strings[0]") if $op eq 'LOOKUP';
	return attributes_of($node) if $op eq 'GETATTR';
	return set_attributes($node, $in) if $op eq 'SETATTR';
	return readlink $source . $path if $op eq 'READLINK';
	return opened($path, unpack 'L', $in) if $op eq 'OPEN';
	return opened_directory($path) if $op eq 'OPENDIR';
	return list(unpack 'Q2 L', $in) if $op eq 'READDIR';
	return synced($path) if $op eq 'FSYNC' || $op eq 'FSYNCDIR';
	return locked($in) if $op eq 'SETLK';
	return '' if $op eq 'FLUSH';
	return pack 'Q5 L4 L6', 1 << 20, 1 << 19, 1 << 19, 1 << 20, 1 << 19,
	    4096, 255, 4096, 0, (0) x 6
	    if $op eq 'STATFS';
	if ($op eq 'READ') {
		my ($handle, $offset, $size) = unpack 'Q2 L', $in;
		sysseek $open{$handle}{file}, $offset, 0;
		my $n = sysread($open{$handle}{file}, my $data, $size);
		return defined $n ? $data : undef;
	}
	if ($op eq 'WRITE') {
		my ($handle, $offset, $size) = unpack 'Q2 L', $in;
		sysseek $open{$handle}{file}, $offset, 0;
		my $n = syswrite $open{$handle}{file}, substr($in, 40, $size);
		return defined $n ? pack 'L2', $n, 0 : undef;
	}
	if ($op eq 'RELEASE' || $op eq 'RELEASEDIR') {
		delete $open{ unpack 'Q', $in };
		delete $directories{ unpack 'Q', $in };
		return '';
	}
	if ($op eq 'CREATE') {
		my ($flags, $mode) = unpack 'L2', $in;
		my $new = "$path/" . unpack 'x16 Z*', $in;
		sysopen my $file, $source . $new,
		    $flags & (O_EXCL | O_TRUNC) | O_CREAT | O_RDWR,
		    $mode & 07777
		    or return;
		made($new, $r->{uid}, $r->{gid}) or return;
		my $entry = entry($new) // return;
		$open{ ++$handles } =
		    { file => $file, node => unpack 'Q', $entry };
		return $entry . pack 'Q L2', $handles, open_flags(), 0;
	}
	if ($op eq 'MKDIR' || $op eq 'MKNOD') {
		my $mode = unpack 'L', $in;
		my $new = "$path/" . unpack $op eq 'MKDIR' ? 'x8 Z*' : 'x16 Z*',
		    $in;
		(
			$op eq 'MKDIR' ? mkdir $source . $new,
			$mode & 07777
			: S_ISFIFO($mode)
			? POSIX::mkfifo($source . $new, $mode & 07777)
			: sysopen my $file, $source . $new,
			O_CREAT | O_EXCL | O_RDWR, $mode & 07777
		) or return;
		made($new, $r->{uid}, $r->{gid}) or return;
		return entry($new);
	}
	return unlink($source . "$path/$strings[0]") ? '' : undef
	    if $op eq 'UNLINK';
	return rmdir($source . "$path/$strings[0]") ? '' : undef
	    if $op eq 'RMDIR';
	if ($op eq 'RENAME' || $op eq 'RENAME2') {
		my ($to, $from_name, $to_name) =
		    unpack $op eq 'RENAME' ? 'Q Z* Z*' : 'Q x8 Z* Z*', $in;
		return renamed("$path/$from_name", "$paths{$to}/$to_name");
	}
	if ($op eq 'LINK') {
		my ($old, $name) = unpack 'Q Z*', $in;
		link $source . $paths{$old}, $source . "$path/$name" or return;
		return entry("$path/$name");
	}
	$! = ENOSYS;
	return;
}

sub slurp {
	my ($file) = @_;
	local $/;
	open my $f, '<', $file or return;
	my $text = <$f>;
	return $text =~ s,\n\z,,r;
}

# Returns the name of a request, which is compared with HANG.
sub subject {
	my ($r) = @_;
	my $path = $paths{ $r->{node} } // '?';
	$path .= "/$1"
	    if $r->{op} =~ /^(LOOKUP|UNLINK|RMDIR)$/ && $r->{in} =~ /^([^\0]*)/;
	$path .= '/' . unpack 'x16 Z*', $r->{in}
	    if $r->{op} =~ /^(CREATE|MKNOD)$/;
	return "$r->{op} " . ($path eq '' ? '/' : $path);
}

sub hangs {
	my ($r) = @_;
	my $pattern = slurp($hang);
	return defined $pattern && subject($r) =~ /$pattern/;
}

sub fails {
	my ($r) = @_;
	my $pattern = slurp($option{fail});
	return defined $pattern && subject($r) =~ /$pattern/;
}

sub reply {
	my ($fuse, $r) = @_;
	forget($r);
	lose_locks();
	my $fails = fails($r);
	$! = EIO;
	my $out = $fails ? undef : answer($r);
	my $error = defined $out ? 0 : -$!;
	$out //= '';
	# ENOENT means that the process that made the call no longer waits.
	syswrite($fuse,
		pack('L l Q', 16 + length $out, $error, $r->{unique}) . $out)
	    // $!{ENOENT} // die "answer: $!\n";
}

sub note {
	my ($text) = @_;
	open my $f, '>>', $log or die;
	$f->autoflush(1);
	print $f "$text\n";
}

$^F = 64;
sysopen my $fuse, '/dev/fuse', O_RDWR or die "/dev/fuse: $!\n";
system(
	'mount', '-i', '-t', 'fuse', '-o',
	'fd='
	    . fileno($fuse)
	    . ',rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions',
	'kpopd', $mountpoint
) == 0 or exit 77;
my $poll = IO::Poll->new;
$poll->mask($fuse => POLLIN);
for (;;) {
	my $due = $poll->poll(@waiting ? 0.05 : 1);
	my @still;
	for my $r (@waiting) { hangs($r) ? push @still, $r : reply($fuse, $r) }
	@waiting = @still;
	next if $due <= 0;
	my $n = sysread $fuse, my $in, 1 << 18;
	# ENOENT means that the request was withdrawn, and ENODEV that the file
	# system is no longer mounted.
	next if !defined $n && ($!{ENOENT} || $!{EINTR} || $!{EAGAIN});
	last if !defined $n;
	my %r;
	(undef, my $code, @r{qw(unique node uid gid pid)}) = unpack 'L2 Q2 L3',
	    $in;
	$r{in} = substr $in, 40;
	# The two kinds of FORGET, and INTERRUPT, get no answer.
	next if $code == 2 || $code == 42 || $code == 36;
	if ($code == 26) {
		# FUSE_POSIX_LOCKS, FUSE_AUTO_INVAL_DATA
		my $flags = ($option{locks} ? 2 : 0)
		    | ($option{listings} ? 4096 : 0);
		my $init = pack 'L4 S2 L2 S2 L8', 7, 31, 1 << 17,
		    $flags, 64, 48, 1 << 17, 1, 0, 0, (0) x 8;
		syswrite $fuse,
		    pack('L l Q', 16 + length $init, 0, $r{unique}) . $init;
		next;
	}
	$r{op} = $names{$code} // "CALL$code";
	note(subject(\%r)) if $option{trace};
	if (hangs(\%r)) {
		note(subject(\%r) . " pid=$r{pid}");
		push @waiting, \%r;
	} else {
		reply($fuse, \%r);
	}
}
