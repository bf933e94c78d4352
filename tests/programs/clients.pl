# Runs clients of many kinds. Measures the clients' times, and what the server's
# processes use meanwhile: perl clients.pl COMMAND ARGUMENT ... The commands are
# at the end.
use strict;
use warnings;
use IO::Select;
use IO::Socket::INET;
use IPC::Open2;
use Socket
    qw(PF_INET SOCK_STREAM SOL_SOCKET SO_LINGER inet_aton pack_sockaddr_in);
use Time::HiRes qw(sleep time);

$| = 1;
$SIG{PIPE} = 'IGNORE';
my $kpopc = "$ENV{KPOPD_BUILD}/kpopc";

sub slurp {
	my ($file) = @_;
	local $/;
	open my $f, '<', $file or return '';
	return <$f> // '';
}

# Returns the pids of kpopd and kpopd-tls.
sub servers {
	return
	    grep { slurp("/proc/$_/comm") =~ /^kpopd(-tls)?$/ }
	    map { m,(\d+)$, } glob '/proc/[0-9]*';
}

# Returns a field of smaps_rollup in KiB, or 0 if the process has ended.
sub memory {
	my ($pid, $field) = @_;
	return slurp("/proc/$pid/smaps_rollup") =~ /^$field:\s+(\d+)/m ? $1 : 0;
}

# Returns the private memory of these processes. If several processes share a
# page, each counts an equal part of the page.
sub own_memory {
	my $sum = 0;
	$sum += memory($_, 'Pss_Anon') for @_;
	return $sum;
}

sub hear { my ($in) = @_; return scalar(<$in>) // '' }

sub ask { my ($in, $out, $line) = @_; print $out "$line\r\n"; return hear($in) }

# Begins a session of USER. Returns kpopc's pid, its input and output, the
# answer to PASS, and the seconds until that answer.
sub login {
	my ($user, @options) = @_;
	my $pid = open2(my $in, my $out, $kpopc, @options, 'mail.kpopd.test');
	$out->autoflush(1);
	hear($in);
	ask($in, $out, "USER $user");
	my $begin = time;
	my $answer = ask($in, $out, 'PASS x');
	return ($pid, $in, $out, $answer, time - $begin);
}

sub median {
	my @a = sort { $a <=> $b } @_;
	return @a ? $a[@a / 2] : 0;
}

# Runs a whole session. Returns the seconds that it took. Dies if the session is
# not good.
sub round_trip {
	my ($user) = @_;
	my $begin = time;
	my ($pid, $in, $out, $answer) = login($user);
	my $bye = ask($in, $out, 'QUIT');
	close $out;
	close $in;
	waitpid $pid, 0;
	die "a good login: ", $answer || "no answer", "\n"
	    unless $answer =~ /^\+OK/ && $bye =~ /^\+OK/;
	return time - $begin;
}

# Opens a silent connection from 127.0.0.2. Returns undef if that fails.
sub silent {
	return IO::Socket::INET->new(LocalAddr => '127.0.0.2',
		PeerAddr => '127.0.0.1', PeerPort => 1109, Timeout => 2);
}

# Opens N silent connections from one address. Good sessions from another
# address follow each other until all silent connections are open. If WHEN is
# "wait", the good sessions begin only after that. Dies if a good session takes
# BOUND seconds more than usual, or if there are more than MOST processes.
sub silence {
	my ($n, $bound, $most, $when) = @_;
	my @usual = map { round_trip('alice') } 1 .. 10;
	pipe my $ready, my $done or die;
	my $pid = fork // die;
	if ($pid == 0) {
		close $ready;
		my @peers = map { silent() // () } 1 .. $n;
		print {$done} scalar @peers, "\n";
		close $done;
		# The server closes rejected connections. The others stay open.
		sleep 600;
		exit;
	}
	close $done;
	my @times;
	my ($there, $held) = (0, 0);
	my $fail = sub { kill 'KILL', $pid; waitpid $pid, 0; die @_ };
	$there = hear($ready) if $when eq 'wait';
	sleep 1 if $when eq 'wait';
	my $select = IO::Select->new($ready);
	for (my $i = 0; $i < 30; $i++) {
		push @times,
		    eval { round_trip('alice') }
		    // $fail->("among silent peers: $@");
		$there = hear($ready), $i = 0
		    if !$there && $select->can_read(0);
		$i = 0 if !$there;
	}
	# The processes of the last session may still be ending.
	for (1 .. 200) {
		$held = () = servers();
		last if $held <= $most;
		sleep 0.05;
	}
	kill 'KILL', $pid;
	waitpid $pid, 0;
	my $worst = (sort { $b <=> $a } @times)[0];
	my $delay = $worst - median(@usual);
	printf
	    "# load: %d silent peers, %d processes for those who were let in; %d sessions from elsewhere, medians %.0f ms before and %.0f ms now, worst delay %.0f ms\n",
	    $there, $held, scalar @times, 1000 * median(@usual),
	    1000 * median(@times), 1000 * $delay;
	$delay <= $bound or die "delayed by more than $bound s\n";
	$held <= $most or die "more than $most processes\n";
}

# Opens and closes RATE connections a second until it is killed. The connections
# come in turn from ADDRESSES addresses in 127.0.0.0/8. Each connection is held
# for HOLD seconds. Writes the number of opened connections to the file.
sub open_and_close {
	my ($addresses, $rate, $hold, $file) = @_;
	my ($begin, $n, @held) = (time, 0);
	my $server = pack_sockaddr_in(1109, inet_aton('127.0.0.1'));
	open my $count, '>', $file or die;
	while (1) {
		socket my $s, PF_INET, SOCK_STREAM, 0 or die "socket: $!\n";
		$s->blocking(0);
		bind $s,
		    pack_sockaddr_in(0, pack 'N',
			0x7f010001 + $n++ % $addresses)
		    or die "bind: $!\n";
		connect $s, $server;
		push @held, [time + $hold, $s] if $hold;
		shift @held while @held && ($held[0][0] < time || @held > 900);
		close $s if !$hold;
		if ($n % 20 == 0) {
			seek $count, 0, 0;
			syswrite $count, "$n\n";
			my $early = $begin + $n / $rate - time;
			sleep $early if $early > 0;
		}
	}
}

# Returns the processor time that a process has used, in seconds.
sub used {
	my ($pid) = @_;
	my @f = split ' ', slurp("/proc/$pid/stat") =~ s/.*\)//r;
	return ($f[11] + $f[12]) / 100;
}

# Runs good sessions one after the other for SECONDS, while a process opens and
# closes connections. Dies if a good session takes BOUND seconds more than
# usual. Prints the delays, the share of a processor that LISTENER uses, and the
# time of the first session afterwards.
sub flood {
	my ($listener, $addresses, $rate, $hold, $seconds, $bound) = @_;
	my @usual = map { round_trip('alice') } 1 .. 10;
	my $file = "$ENV{WORLD}/flood";
	my $pid = fork // die;
	if ($pid == 0) {
		open_and_close($addresses, $rate, $hold, $file);
		exit;
	}
	sleep 0.05 until -s $file;
	my ($begin, $used, @times, $failed) = (time, used($listener));
	while (time < $begin + $seconds) {
		my $took = eval { round_trip('alice') };
		if (defined $took) { push @times, $took }
		else { $failed++ }
		# The rate limit also applies to the address of the good
		# sessions.
		sleep 0.1;
	}
	my $share = (used($listener) - $used) / (time - $begin);
	my $reached = slurp($file) / (time - $begin);
	kill 'KILL', $pid;
	waitpid $pid, 0;
	my $after = eval { round_trip('alice') } // -1;
	my $worst = (sort { $b <=> $a } @times)[0] // 999;
	my $delay = $worst - median(@usual);
	printf
	    "# load: %d of %d connections a second from %d addresses, held %g s: %d logins from another, %d refused; medians %.0f ms before and %.0f ms now, worst delay %.0f ms; listener %.1f %% of a processor; first one after %.0f ms\n",
	    $reached, $rate, $addresses, $hold, scalar @times, $failed // 0,
	    1000 * median(@usual), 1000 * median(@times), 1000 * $delay,
	    100 * $share, 1000 * $after;
	return if $bound eq 'any';
	die "refused\n" if $failed;
	die "delayed by more than $bound s\n" if $delay > $bound;
}

# Returns the seconds until the answer to PASS, and all that the server sends
# from that answer on.
sub refused {
	my ($user) = @_;
	my ($pid, $in, $out, $answer, $time) = login($user);
	my $rest = join '', <$in>;
	close $out;
	close $in;
	waitpid $pid, 0;
	return "$time " . "$answer$rest" =~ s/\r\n/|/gr;
}

# Compares the answers and the times of refusals. Dies unless the answers are
# equal, the times are at least LEAST seconds, and no two times differ by more
# than the factor FACTOR. The time of a case is its longest one among the
# fastest fifth, because a busy machine delays the others. A case is
# NAME:CCACHE:USER.
sub refusals {
	my ($tries, $least, $factor, @cases) = @_;
	my (%times, %answers, %from);
	for (@cases) {
		my ($name, $ccache, $user) = split /:/;
		# Run all cases at the same time, so that the machine is equally
		# busy for each.
		my $pid = open($from{$name}, '-|') // die;
		next if $pid;
		$ENV{KRB5CCNAME} = "FILE:$ccache";
		print refused($user), "\n" for 1 .. $tries;
		exit;
	}
	for my $name (keys %from) {
		while (readline $from{$name}) {
			my ($time, $answer) = /^(\S+) (.*)/
			    or die "no answer: $_\n";
			push @{ $times{$name} }, $time;
			$answers{$answer}++;
		}
		@{ $times{$name} // [] } == $tries
		    or die "$name: not all were answered\n";
	}
	my %fast;
	for my $name (keys %times) {
		my @a = sort { $a <=> $b } @{ $times{$name} };
		$fast{$name} = $a[$#a / 5];
	}
	printf "# limits: refused %d times each, ms (fastest fifth): %s\n",
	    $tries, join ', ',
	    map { sprintf '%s %.2f', $_, 1000 * $fast{$_} } sort keys %fast;
	print "# limits: the answer: $_\n" for keys %answers;
	keys %answers == 1 && (keys %answers)[0] =~ /^-ERR .*\|$/
	    or die "the answers differ\n";
	my @sorted = sort { $a <=> $b } values %fast;
	$sorted[0] >= $least or die "an answer before $least s\n";
	$sorted[-1] <= $factor * $sorted[0] or die "the times differ\n";
}

# Sends standard input. Then sends the line AGAIN without end, and does not read
# the answers. Samples the memory of all processes meanwhile. Dies if that is
# more than BOUND KiB.
sub hostile {
	my ($name, $bound, $again) = @_;
	my %letters = (r => "\r", n => "\n");
	$again =~ s/\\x(..)|\\([rn])/defined $1 ? chr hex $1 : $letters{$2}/ge;
	my $block = '';
	$block .= $again while length $block < 65536;
	my $s = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => 1109)
	    or die "no connection\n";
	my ($most, $sent, $samples) = (0, 0, 0);
	my $sample = sub {
		my $now = own_memory(servers());
		$samples++ if $now > 0;
		$most = $now if $now > $most;
		return $now;
	};
	# Some connections end after the first bytes.
	for (1 .. 200) { last if $sample->(); sleep 0.01 }
	# Send each piece of the input when it comes, because the sender may
	# have to pause after STLS.
	while (sysread STDIN, my $first, 65536) {
		syswrite $s, $first;
		$sample->();
	}
	$s->blocking(0);
	for (my $end = time + ($ENV{TORTURE} ? 5 : 0.5); time < $end;) {
		my $n = syswrite $s, $block;
		$sent += $n if defined $n;
		last if !$sample->();
	}
	close $s;
	printf "# limits: %-28s %5d KiB at most in %d samples, %d KiB sent\n",
	    $name, $most, $samples, $sent / 1024;
	$most > 0 or die "$name: nobody was there\n";
	$most <= $bound or die "$name: more than $bound KiB\n";
}

# For SECONDS, runs sessions of USER that read all messages. Prints the number
# of sessions.
sub readers {
	my ($user, $seconds) = @_;
	my ($n, $end) = (0, time + $seconds);
	while (time < $end) {
		my ($pid, $in, $out, $answer) = login($user);
		my ($messages) = $answer =~ /^\+OK (\d+) messages/
		    or die "PASS: $answer\n";
		for (map { "RETR $_" } 1 .. $messages) {
			ask($in, $out, $_) =~ /^\+OK/ or die "$_\n";
			while ((my $line = hear($in)) ne ".\r\n") {
				die "the end\n" if $line eq '';
			}
		}
		ask($in, $out, 'QUIT') =~ /^\+OK bye, $messages/
		    or die "QUIT\n";
		close $out;
		close $in;
		waitpid $pid, 0;
		$n++;
	}
	print "$n\n";
}

# For SECONDS, opens connections that break, are reset or send nonsense. Prints
# the number of connections.
sub broken {
	my ($seconds) = @_;
	my ($n, $end) = (0, time + $seconds);
	my $good = slurp("$ENV{WORLD}/opening");
	while (time < $end) {
		my $s =
		    IO::Socket::INET->new(PeerAddr => '127.0.0.1',
			PeerPort => 1109)
		    or next;
		my $kind = int rand 3;
		syswrite $s, substr($good, 0, rand length $good) if $kind < 2;
		syswrite $s, join '', map { chr rand 256 } 1 .. 1 + rand 2000
		    if $kind == 2;
		sleep rand 0.1;
		setsockopt $s, SOL_SOCKET, SO_LINGER, pack 'ii', 1, 0
		    if rand() < 0.5;
		close $s;
		$n++;
	}
	print "$n\n";
}

# For SECONDS, runs sessions of USER that mark messages and end without QUIT.
# Their connection is closed, or a process is killed. Prints the number of
# sessions.
sub cut {
	my ($user, $how, $seconds) = @_;
	my ($n, $end) = (0, time + $seconds);
	while (time < $end) {
		my ($pid, $in, $out, $answer) = login($user);
		if ($answer =~ /^\+OK/) {
			ask($in, $out, "DELE $_") for 1 .. 1 + rand 5;
			print $out "RETR 9\r\n" if rand() < 0.5;
			if ($how eq 'kill') {
				my @own = split ' ',
				    qx(pgrep -x kpopd -U $user);
				kill 'KILL', $own[rand @own] if @own;
			}
			$n++;
		}
		kill 'KILL', $pid;
		close $out;
		close $in;
		waitpid $pid, 0;
	}
	print "$n\n";
}

my ($command, @arguments) = @ARGV;
my %commands =
    (memory => sub { print own_memory(servers()), "\n" },
	refusals => \&refusals, silence => \&silence, flood => \&flood,
	hostile => \&hostile, readers => \&readers, broken => \&broken,
	cut => \&cut);
($commands{ $command // '' } // die 'one of ', join(' ', sort keys %commands),
	"\n")->(@arguments);
