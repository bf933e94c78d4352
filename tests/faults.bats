#!/usr/bin/env bats
# What is not to be relied upon: memory, the clock, the pre-auth process, the
# session itself, and the services around.

load helpers/all
load helpers/points
load helpers/preload

setup() {
	begin_test
	mbox one two three | store alice
	mbox bobs | store bob
	realm_login alice
}

teardown() {
	local status=0
	kill -CONT "$(cat "$WORLD/rsyslogd.pid")"
	[ ! -e /dev/log.away ] || mv /dev/log.away /dev/log
	end_test || status=1
	[ -z "${changed-}" ] || { server_stop; server_start; }
	return $status
}

asked() {
	perl -e 'open my $f, "<", $ARGV[0] or die; read $f, my $t, 32; print((unpack "q4", $t)[3])' "$shared"
}

# without_memory FROM MANY: one session in which these allocations fail.
without_memory() {
	local answer
	mbox one two three | store alice
	[ "${index-}" = kept ] || forget_index
	log_mark
	says 0 "$1" "$2"
	answer=$(pop alice "RETR 1" UIDL "DELE 2" QUIT 2>&1) || :
	says 0 0 0
	soon 10 '! pgrep -x kpopd >/dev/null' ||
	    { echo "still there"; return 1; }
	if log_lines | grep -a 'signal\|Landlock\|system call\|not one'; then
		return 1
	fi
	case $answer in
	*"+OK bye, 2 messages left"*) spool_is alice one three ;;
	*"+OK bye"*) echo "$answer"; return 1 ;;
	*) spool_is alice one two three || spool_is alice one three ;;
	esac || return 1
	spool_is bob bobs || return 1
	answer=$(pop alice QUIT) || :
	[[ $answer == *"messages left"* ]] ||
	    { echo "then: $answer"; return 1; }
	no_journal
}

# bats test_tags=fault:8
@test "each allocation fails, alone or with all behind it: a true answer or none, and the next login finds everything" {
	preloaded
	says 0 0 0
	pop alice "RETR 1" UIDL "DELE 2" QUIT >/dev/null
	all=$(asked)
	echo "# $all allocations in a session" >&3
	[ "$all" -gt 200 ]
	for ((n = 1; n <= all; n += $(long && echo 1 || echo 41))); do
		count_point without_memory $n 1
		count_point without_memory $n 1000000
	done
	points_are_good "allocations that fail" 30
}

# in_ms COMMAND …: how long it takes, into $took.
in_ms() {
	local begin
	begin=$(date +%s%N)
	"$@" || :
	took=$((($(date +%s%N) - begin) / 1000000))
}

# bats test_tags=fault:14
@test "a wall clock that jumps by a day moves no deadline: neither the login's, nor an idle session's, nor a lock's" {
	preloaded -t 2:2
	for day in 86400 -86400; do
		says 0 0 0
		{ sleep 1; says $day 0 0; } 3>&- &
		in_ms perl \
		    -MIO::Socket::INET -e 'my $s = IO::Socket::INET->new("127.0.0.1:1109") or die; 1 while sysread $s, my $t, 100'
		[ "$took" -gt 1500 ] && [ "$took" -lt 3500 ] ||
		    { echo "login: $took"; return 1; }
		says 0 0 0
		pop_login alice
		says $day 0 0
		in_ms pop_hear_end 5
		[ "$took" -gt 1000 ] && [ "$took" -lt 3500 ] ||
		    { echo "idle: $took"; return 1; }
		log_has 'logout .*reason=idle '
		says 0 0 0
		forget_index
		perl -e 'use POSIX; open F, "+<", "/var/mail/alice"; $l = pack("s s l! l! i", F_WRLCK, 0, 0, 0, 0);
		    fcntl F, F_SETLK, $l or die; $| = 1; print "held\n"; sleep 60' >"$WORLD/held" 3>&- &
		holder=$!
		await 5 "grep -q held $WORLD/held"
		{ sleep 2; says $day 0 0; } 3>&- &
		in_ms pop alice QUIT
		kill "$holder"
		[ "$took" -gt 5000 ] && [ "$took" -lt 15000 ] ||
		    { echo "lock: $took"; return 1; }
		log_mark
	done
	spool_is alice one two three
}

# preauth_says KIND SEED: a pre-auth process that was compromised says this;
# nobody gets in, the monitor ends.
preauth_says() {
	local preauth
	log_mark
	pop_open
	pop_hear '^\+OK' || return
	preauth=$(child_pid)
	kill -STOP "$preauth"
	"$KPOPD_BUILD/tests/programs/preauth-standin" "$preauth" "$1" "$2" ||
	    return
	pop_hear_end || return
	pop_close
	soon 5 '! pgrep -x kpopd >/dev/null' || return
	log_lines |
	    grep -aEq "fatal .*(the pre-auth process (sent a malformed message|closed its channel), and was killed)" || { log_lines; return 1; }
	if log_lines | grep -aE ' login |injected'; then return 1; fi
}

# bats test_tags=fault:16-1
@test "a pre-auth process that says whatever it likes starts no session, and its monitor ends" {
	# First that it is listened to: a compromised pre-auth process can name
	# whom it likes, which is the price of one key (DESIGN).
	pop_open
	pop_hear '^\+OK'
	kill -STOP "$(child_pid)"
	"$KPOPD_BUILD/tests/programs/preauth-standin" "$(child_pid)" login 1
	pop_hear '^\+OK 3 messages'
	log_has ' login .*user=alice '
	pop_close
	for kind in empty short descriptors questions; do
		count_point preauth_says $kind 1
	done
	for kind in spoiled random size; do
		for seed in $(seq $(long && echo 200 || echo 8)); do
			count_point preauth_says $kind "$seed"
		done
	done
	points_are_good "a compromised pre-auth process" 28
	spool_is alice one two three
}

# bats test_tags=fault:18-1,promise:2
@test "a compromised session opens nobody else's mail, no other file, and no socket" {
	[ -z "${SANITIZER-}" ] || skip "a build with sanitizers has no sandbox"
	# Where alice may write files that exist, in the spool's directory,
	# their modes decide.
	chmod 660 /var/mail/bob
	chmod 755 /home/bob
	echo secret >/home/bob/note
	chmod 644 /home/bob/note
	pop_login alice
	calls=('open /var/mail/bob 0' 'open /home/bob/note 0'
	    'open /etc/passwd 0' 'open /etc/shadow 0'
	    "open $WORLD/server.keytab 0" 'open /var/mail/new 0102 0600'
	    "open $state/users 0"
	    'open /home/alice/.forward 0102 0600' 'open /tmp/new 0102 0600'
	    'link /var/mail/bob /var/mail/linked'
	    'rename /var/mail/bob /var/mail/alice' 'unlink /var/mail/bob'
	    'socket 2 1 0' 'socket 10 2 0'
	    'socket 16 3 0' 'socket 1 2 0')
	captive "$(child_pid)" "${calls[@]}"
	# Each was answered by EPERM, EACCES or (for what would lead from one
	# place to another) EXDEV, and the session lives.
	[ "$(grep -Exc -- '-(1|13|18)' <<<"$returned")" -eq ${#calls[@]} ] ||
	    { echo "$returned"; return 1; }
	# The same way, what is its own can be opened: the calls were really
	# made.
	captive "$(child_pid)" 'open /var/mail/alice 0'
	[ "$returned" -gt 2 ]
	pop_ask QUIT
	spool_is alice one two three
	spool_is bob bobs
	[ -z "$(ls -A /var/mail | grep -v '^alice$\|^bob$')" ]
}

# bats test_tags=fault:18-2,promise:4
@test "a compromised session that forks, execs, traces, mounts or wants other rights is ended, and the log names the call" {
	[ -z "${SANITIZER-}" ] || skip "a build with sanitizers has no sandbox"
	for call in 'clone 17 0 0 0 0' 'execve /bin/sh 0 0' 'ptrace 16 1 0 0' \
	    'mount none /mnt tmpfs 0 0' 'setresuid 0 0 0' \
	    'chroot /' 'unshare 0x10000000' 'process_vm_readv 1 0 0 0 0 0' \
	    'io_uring_setup 1 0' 'bpf 0 0 0' 'mprotect 0 4096 4' \
	    'prctl 4 1 0 0 0' 'kill 1 0' 'kill 1 9' 'setsockopt 0 1 26 0 0' \
	    'recvmsg 0 0 0'; do
		log_mark
		pop_login alice
		captive "$(child_pid)" "$call"
		[ -z "$returned" ]
		pop_hear_end
		pop_close
		await 5 '! pgrep -x kpopd >/dev/null'
		log_has "fatal .*the session was ended for the system call ${call%% *}\"$"
	done
	spool_is alice one two three
}

# bats test_tags=fault:19-2
@test "name servers that do not answer hold up nobody" {
	kpopc mail.kpopd.test </dev/null
	socat -u UDP-RECVFROM:53,bind=127.0.0.1,fork /dev/null 3>&- &
	socat=$!
	cp /etc/resolv.conf "$WORLD/resolv.conf" 2>/dev/null || :
	cp /etc/hosts "$WORLD/hosts"
	echo 'nameserver 127.0.0.1' >"$WORLD/silent.conf"
	mount --bind "$WORLD/silent.conf" /etc/resolv.conf 2>/dev/null ||
	    cp "$WORLD/silent.conf" /etc/resolv.conf
	{
		versions
		apreq pop/mail.kpopd.test | framed
		printf 'USER alice\r\nPASS x\r\nQUIT\r\n'
	} >"$WORLD/all"
	: >/etc/hosts
	hostname elsewhere.invalid
	in_ms wire 10 <"$WORLD/all" >"$WORLD/answer"
	hostname mail.kpopd.test
	cat "$WORLD/hosts" >/etc/hosts
	umount /etc/resolv.conf 2>/dev/null ||
	    cp "$WORLD/resolv.conf" /etc/resolv.conf
	kill $socat
	grep -aq '^+OK bye' "$WORLD/answer"
	[ "$took" -lt 5000 ] || { echo "$took ms"; return 1; }
}

# bats test_tags=fault:19-3
@test "without syslog, and with one that takes nothing, mail is served within five seconds" {
	mv /dev/log /dev/log.away
	in_ms pop alice QUIT >"$WORLD/answer"
	mv /dev/log.away /dev/log
	grep -q '^+OK bye' "$WORLD/answer"
	[ "$took" -lt 5000 ] || { echo "absent: $took ms"; return 1; }
	kill -STOP "$(cat "$WORLD/rsyslogd.pid")"
	perl -MSocket \
	    -MFcntl -e 'socket S, PF_UNIX, SOCK_DGRAM, 0; connect S, sockaddr_un("/dev/log") or die;
	    fcntl S, F_SETFL, O_NONBLOCK; 1 while defined syswrite S, "<22>filling"; $!{EAGAIN} or die $!'
	in_ms timeout 20 \
	    bash -c 'printf "USER alice\r\nPASS x\r\nDELE 1\r\nQUIT\r\n" | "$0" mail.kpopd.test' "$KPOPD_BUILD/kpopc" >"$WORLD/answer"
	kill -CONT "$(cat "$WORLD/rsyslogd.pid")"
	grep -q '^+OK bye' "$WORLD/answer" || { cat "$WORLD/answer"; return 1; }
	[ "$took" -lt 5000 ] || { echo "full: $took ms"; return 1; }
	spool_is alice two three
	# Afterwards everything is logged again.
	log_mark
	pop alice QUIT
	log_has 'logout .*reason=quit '
}
