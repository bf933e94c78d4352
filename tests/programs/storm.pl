# Makes the mail of a storm, and runs the POP3 client that reads it: perl
# storm.pl COMMAND. The commands are at the end. Keeps its records in the
# directory $STORM:
#
#	N          a message as its MDA gets it
#	delivered  the numbers of the messages that the MDAs took
#	books      what the client has seen and removed (Storable)
use strict;
use warnings;
use IPC::Open2;
use Storable qw(retrieve store);
use Time::HiRes qw(sleep time);

$| = 1;
$SIG{PIPE} = 'IGNORE';
my $storm = $ENV{STORM} or die "no \$STORM\n";
my @mdas = qw(procmail exim postfix);

sub slurp {
	my ($file) = @_;
	local $/;
	open my $f, '<', $file or die "$file: $!\n";
	return <$f>;
}

sub mda { my ($n) = @_; return $mdas[$n % @mdas] }

# Writes message N. Parts of its body look like the next message, like the end
# of an answer, or like line ends.
sub make {
	my ($n) = @_;
	my @odd =
	    ("From nobody Mon Nov 23 05:00:00 2026", "From ", ">From there",
		".", "..", ". dot", "", "", "x" x 900, "\xe4\xf6 \t");
	srand $n;
	my $text =
	    "Message-ID: <$n\@kpopd.test>\nFrom: sender\@kpopd.test\nTo: alice\@kpopd.test\n"
	    . "Date: Mon, 23 Nov 2026 05:00:00 +0000\nSubject: storm $n by "
	    . mda($n) . "\n\n";
	$text .=
	    (rand() < 0.2 ? $odd[rand @odd] : "$n line $_ " . 'abc ' x rand 20)
	    . "\n"
	    for 1 .. int rand 101;
	# End the last line, as an MTA does. Without the line end, procmail
	# would add no empty line after the message.
	chomp $text
	    if $n % 5 == 0 && mda($n) ne 'procmail' && $text !~ /\n\n\z/;
	open my $f, '>', "$storm/$n" or die;
	print $f $text;
	close $f or die;
}

# Returns the bytes after the "From " line of message N in the spool.
sub stored {
	my ($n) = @_;
	my ($header, $body) = split /(?<=\n\n)/, slurp("$storm/$n"), 2;
	$body //= '';
	$body =~ s/^From />From /mg;
	my $text = $header . $body;
	$text .= "\n" unless $text =~ /\n\z/;
	# procmail adds an empty line only if the message does not end with one.
	# The other MDAs always add an empty line.
	return mda($n) eq 'procmail' && $text =~ /\n\n\z/ ? $text : "$text\n";
}

# Returns message N as POP3 shows it, without the empty line before the next
# message. If the message has no body, this empty line ends the header and is
# kept.
sub shown {
	my ($n) = @_;
	my ($text) = stored($n);
	return $text =~ /\n\n./s || $text =~ /\n\n\n\z/
	    ? substr $text, 0, -1
	    : $text;
}

my ($in, $out, $kpopc);

sub hear {
	my $line = <$in> // return '';
	$line =~ s/\r\n\z/\n/ or die "no CRLF: $line";
	return $line;
}

sub ask { my ($line) = @_; print $out "$line\r\n"; return hear() }

sub must {
	my ($line) = @_;
	my $answer = ask($line);
	$answer =~ /^\+OK/ or die "$line: $answer\n";
	return $answer;
}

sub lines {
	my @lines;
	while ((my $line = hear()) ne ".\n") {
		die "the end in the middle of an answer\n" if $line eq '';
		$line =~ s/^\.//;
		push @lines, $line;
	}
	return @lines;
}

sub hang_up { close $out; close $in; waitpid $kpopc, 0 }

# Logs in. Tries again as long as the mailbox is in use.
sub login {
	my ($books) = @_;
	for (my $end = time + 60; time < $end; sleep 0.05) {
		$kpopc = open2($in, $out, "$ENV{KPOPD_BUILD}/kpopc",
			'mail.kpopd.test');
		binmode $_ for $in, $out;
		$out->autoflush(1);
		hear() =~ /^\+OK/ or die "no greeting\n";
		must('USER alice');
		my $answer = ask('PASS x');
		return if $answer =~ /^\+OK/;
		$answer =~ /^-ERR \[IN-USE\]/ or die "PASS: $answer\n";
		$books->{in_use}++;
		hang_up();
	}
	die "in use for a minute\n";
}

# Reads the whole mailbox. Returns the numbers of its messages in order. Dies
# unless each message is as it was delivered and has its earlier UIDL.
sub look {
	my ($books) = @_;
	my @now;
	must('UIDL');
	for (lines()) {
		my ($at, $uidl) = /^(\d+) (\S+)$/ or die "UIDL: $_\n";
		must("RETR $at");
		my $text = join '', lines();
		my ($n) = $text =~ /^Message-ID: <(\d+)\@/m
		    or die "message $at is none of ours\n";
		$text eq shown($n) or die "message $n is not as delivered\n";
		($books->{uidl}{$n} //= $uidl) eq $uidl
		    or die "the UIDL of message $n changed\n";
		push @now, $n;
	}
	return @now;
}

# Compares the mailbox with the last QUIT. The mailbox must contain the messages
# of that session, without those that QUIT removed. After these it must contain
# only new messages.
sub judge {
	my ($books, @now) = @_;
	my %there = map { $_ => 1 } @now;
	my @marked = @{ $books->{marked} };
	my @gone = grep { !$there{$_} } @marked;
	my $answer = $books->{answer};
	my $fine =
	      $answer =~ /^\+OK/ ? @gone == @marked
	    : $answer =~ /^-ERR \[IN-USE\]/ ? @gone == 0
	    : $answer =~ /^-ERR some/ ? 1
	    : $answer eq '' && $books->{killed} ? @gone == 0 || @gone == @marked
	    : 0;
	die "of @marked @gone are gone, QUIT's answer was: $answer\n"
	    unless $fine;
	$books->{outcome}{ $answer eq ''
		? (@gone ? 'killed, all gone' : 'killed, none gone')
		: $answer =~ s/,.*|\n//sr }++
	    if @marked;
	$books->{deleted}{$_} = 1 for @gone;
	my @kept = grep { !$books->{deleted}{$_} } @{ $books->{list} };
	my %known = map { $_ => 1 } @{ $books->{list} },
	    keys %{ $books->{deleted} };
	my @begin = splice @now, 0, scalar @kept;
	"@begin" eq "@kept" or die "kept were @kept, there are @begin\n";
	for (@now) {
		die "message $_ is there again\n" if $known{$_}++;
	}
}

# Returns the pid of alice's newest process that has the client's connection.
# This is the session, because the broker does not have it.
sub session_pid {
	my @own =
	    grep { (readlink("/proc/$_/fd/0") // '') =~ /^socket:/ } split ' ',
	    qx(pgrep -x kpopd -U alice);
	return $own[-1] // die "alice has no session\n";
}

# Slows down the session's calls that write to the disk. On a disk most of the
# time in QUIT is spent in these calls, including the time between the last
# check and the truncation. On tmpfs these calls would take no time.
sub slow_down {
	my ($session) = @_;
	my $tracer = fork // die;
	if ($tracer == 0) {
		open STDERR, '>', '/dev/null';
		exec
		    "strace -q -o /dev/null -e trace=fsync,ftruncate -e inject=fsync,ftruncate:delay_enter=8000 -p $session";
	}
	for (1 .. 1500) {
		return $tracer
		    if slurp("/proc/$session/status") =~ /^TracerPid:\s*[1-9]/m;
		sleep 0.02;
	}
	die "strace does not trace\n";
}

# Runs one session. If HOW is "look", the session removes nothing. If HOW is
# "kill", the session is killed at a random point of QUIT.
sub session {
	my ($how) = @_;
	my $books =
	    -e "$storm/books"
	    ? retrieve("$storm/books")
	    : { list => [], marked => [], answer => '+OK' };
	login($books);
	my @now = look($books);
	judge($books, @now);
	my $share = (0.1, 0.3, 0.5, 0.9, 1)[rand 5];
	my @marks = $how eq 'look' ? () : grep { rand() < $share } 1 .. @now;
	@marks = (1 + int rand @now) if !@marks && @now && $how ne 'look';
	must("DELE $_") for @marks;
	$books->{list} = \@now;
	$books->{marked} = [map { $now[$_ - 1] } @marks];
	$books->{killed} = $how eq 'kill';
	my $session = session_pid();
	my $tracer = slow_down($session);
	# Mail arrives during this pause.
	sleep rand 0.6;
	print $out "QUIT\r\n";
	if ($how eq 'kill') {
		sleep rand 0.03;
		kill 'KILL', $session;
	}
	$books->{answer} = hear();
	hang_up();
	waitpid $tracer, 0;
	store($books, "$storm/books");
}

# Checks the result. Every delivered message must be kept or deleted, and the
# spool must consist of the messages as they were delivered.
sub check {
	my $books = retrieve("$storm/books");
	my $spool = slurp('/var/mail/alice');
	my %count = map { $_ => 1 } keys %{ $books->{deleted} };
	my ($deleted, $kept) = (scalar keys %count, 0);
	while ((pos($spool) // 0) < length $spool) {
		my $at = pos($spool) // 0;
		$spool =~
		    /\GFrom sender\@kpopd\.test .*\n(?=Message-ID: <(\d+)\@)/gc
		    or die "at byte $at of the spool no message begins\n";
		my $text = stored($1);
		substr($spool, pos $spool, length $text) eq $text
		    or die
		    "message $1, at byte $at of the spool, is not as delivered\n";
		pos($spool) += length $text;
		$count{$1}++;
		$kept++;
	}
	my @delivered = split ' ', slurp("$storm/delivered");
	for (@delivered) {
		my $times = delete $count{$_} // 0;
		die "message $_ was delivered once and is there $times times\n"
		    if $times != 1;
	}
	die "nobody delivered ", join(' ', keys %count), "\n" if %count;
	my $quits = 0;
	$quits += $_ for values %{ $books->{outcome} };
	printf
	    "# storm: %d delivered = %d kept + %d deleted in %d QUITs; login in use: %d; %s\n",
	    scalar @delivered, $kept, $deleted,
	    $quits, $books->{in_use} // 0, join '; ',
	    map { "$_: $books->{outcome}{$_}" }
	    sort keys %{ $books->{outcome} };
}

my ($command, $argument) = @ARGV;
if ($command eq 'make') { make($_) for 1 .. $argument }
elsif ($command eq 'session') { session($argument) }
elsif ($command eq 'check') { check() }
else { die "make COUNT, session look|quit|kill, or check\n" }
