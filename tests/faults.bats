#!/usr/bin/env bats
# Checks that kpopd loses no mail and opens no other mailbox if memory is short,
# the clock jumps, name servers or syslog fail, or a process is compromised.

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
	locker_stop
	end_test || status=1
	return $status
}

# allocations: prints the number of allocations since the last call of says.
allocations() {
	perl -e '
	    open my $f, "<", $ARGV[0] or die;
	    read $f, my $numbers, 32;
	    print((unpack "q4", $numbers)[3])' "$shared"
}

# without_memory FROM MANY: runs a session in which MANY allocations fail,
# beginning with the allocation number FROM. Returns true if no message is lost
# and the next login works.
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
	log_lines | refute grep -a \
	    'signal\|Landlock\|system call\|malformed message' ||
	    return
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
@test "a session loses no mail if any allocation fails, alone or with all after it, and the next login works" {
	preloaded
	says 0 0 0
	pop alice "RETR 1" UIDL "DELE 2" QUIT >/dev/null
	all=$(allocations)
	echo "# $all allocations in a session" >&3
	[ "$all" -gt 200 ]
	for ((n = 1; n <= all; n += $(long && echo 1 || echo 41))); do
		count_point without_memory $n 1
		count_point without_memory $n 1000000
	done
	points_are_good "allocations that fail" 30
}

# in_ms COMMAND …: runs the command. Sets $took to its duration in milliseconds.
in_ms() {
	local begin
	begin=$(date +%s%N)
	"$@" || :
	took=$((($(date +%s%N) - begin) / 1000000))
}

# jump_when SECONDS 'CONDITION': waits until the condition is true, and moves
# the server's clock by SECONDS. The caller runs this in the background, and
# waits for a deadline meanwhile.
jump_when() {
	await 10 "$2" && says "$1" 0 0
}

# ended_in LEAST MOST WHAT: returns true if $took is between LEAST and MOST
# milliseconds.
ended_in() {
	[ "$took" -gt "$1" ] && [ "$took" -lt "$2" ] ||
	    { echo "$3: $took ms"; return 1; }
}

# A deadline that followed the wall clock would come at once, or a day later.
# bats test_tags=fault:14
@test "a jump of the wall clock by a day does not move the login deadline, the idle limit or the wait for a lock" {
	preloaded -t 6:6
	for day in 86400 -86400; do
		kpopd_ends 5
		says 0 0 0
		# The monitor and the pre-auth process.
		jump_when $day '[ "$(pgrep -cx kpopd)" -ge 2 ]' 3>&- &
		in_ms hear_only 60
		wait $!
		ended_in 3000 60000 login
		says 0 0 0
		pop_begin alice
		says $day 0 0
		in_ms pop_hear_end 60
		ended_in 1000 60000 idle
		log_has 'logout .*reason=idle '
		says 0 0 0
		forget_index
		locker_start
		locker L
		log_mark
		# After the login, the session waits for the lock.
		jump_when $day 'log_lines | grep -q ": login "' 3>&- &
		in_ms pop alice QUIT
		wait $!
		locker_stop
		ended_in 5000 60000 lock
	done
	spool_is alice one two three
}

# preauth_says KIND SEED: makes a compromised pre-auth process send messages of
# this kind. Returns true if there is no login and the monitor ends.
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
	local reason='sent a malformed message|closed its channel'
	log_has "fatal .*the pre-auth process ($reason), and was killed" ||
	    return
	log_lines | refute grep -aE ' login |injected'
}

# bats test_tags=fault:16-1
@test "a compromised pre-auth process that sends malformed messages starts no session, and its monitor ends" {
	# The same program can also send a correct message, which the monitor
	# accepts. The monitor cannot check the principal in the message,
	# because only the pre-auth process has seen the ticket (DESIGN §2.14).
	pop_open
	pop_hear '^\+OK'
	kill -STOP "$(child_pid)"
	"$KPOPD_BUILD/tests/programs/preauth-standin" "$(child_pid)" login 1
	# The stopped process has not given its turn to answer back, so the
	# session ends when it would answer.
	pop_hear_end
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
@test "a compromised session cannot open another user's mail, any other file or a socket" {
	[ -z "${SANITIZER-}" ] || skip "a build with sanitizers has no sandbox"
	# The sandbox permits the session to write to existing files in the
	# spool's directory. For these files, only the mode of the file decides.
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
	# Each call failed with EPERM, EACCES or (across directories) EXDEV, and
	# the session still runs.
	[ "$(grep -Exc -- '-(1|13|18)' <<<"$returned")" -eq ${#calls[@]} ] ||
	    { echo "$returned"; return 1; }
	# The same call opens alice's own spool. That shows that the calls above
	# were really made.
	captive "$(child_pid)" 'open /var/mail/alice 0'
	[ "$returned" -gt 2 ]
	pop_ask QUIT
	spool_is alice one two three
	spool_is bob bobs
	ls -A /var/mail | refute grep -v '^alice$\|^bob$'
}

# bats test_tags=fault:18-2,promise:4
@test "a compromised session that forks, execs, traces, mounts or changes its ids is killed, and the call is logged" {
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
		kpopd_ends 5
		log_has "fatal .*the session was ended for the system call ${call%% *}\"$"
	done
	spool_is alice one two three
}

# bats test_tags=fault:19-2
@test "kpopd serves a client without waiting for a name server that does not answer" {
	kpopc mail.kpopd.test </dev/null
	socat -u UDP-RECVFROM:53,bind=127.0.0.1,fork /dev/null 3>&- &
	socat=$!
	await 5 'ss -Hlun sport = 53 | grep -q .'
	cp /etc/resolv.conf "$WORLD/resolv.conf" 2>/dev/null || :
	cp /etc/hosts "$WORLD/hosts"
	printf '%s\n' 'nameserver 127.0.0.1' 'options timeout:30' \
	    >"$WORLD/silent.conf"
	mount --bind "$WORLD/silent.conf" /etc/resolv.conf 2>/dev/null ||
	    cp "$WORLD/silent.conf" /etc/resolv.conf
	{
		versions
		apreq pop/mail.kpopd.test | framed
		printf 'USER alice\r\nPASS x\r\nQUIT\r\n'
	} >"$WORLD/all"
	: >/etc/hosts
	hostname elsewhere.invalid
	in_ms wire 30 <"$WORLD/all" >"$WORLD/answer"
	hostname mail.kpopd.test
	cat "$WORLD/hosts" >/etc/hosts
	umount /etc/resolv.conf 2>/dev/null ||
	    cp "$WORLD/resolv.conf" /etc/resolv.conf
	kill $socat
	grep -aq '^+OK bye' "$WORLD/answer"
	[ "$took" -lt 20000 ] || { echo "$took ms"; return 1; }
}

# fill_syslog: sends messages to the stopped syslogd until its socket is full.
fill_syslog() {
	perl -MSocket -MFcntl -e '
	    socket S, PF_UNIX, SOCK_DGRAM, 0;
	    connect S, sockaddr_un("/dev/log") or die;
	    fcntl S, F_SETFL, O_NONBLOCK;
	    1 while defined syswrite S, "<22>filling";
	    $!{EAGAIN} or die $!'
}

# bats test_tags=fault:19-3
@test "kpopd serves a client without syslog, and if syslog's socket is full" {
	mv /dev/log /dev/log.away
	in_ms pop alice QUIT >"$WORLD/answer"
	mv /dev/log.away /dev/log
	grep -q '^+OK bye' "$WORLD/answer"
	[ "$took" -lt 20000 ] || { echo "absent: $took ms"; return 1; }
	kill -STOP "$(cat "$WORLD/rsyslogd.pid")"
	fill_syslog
	in_ms pop alice "DELE 1" QUIT >"$WORLD/answer"
	kill -CONT "$(cat "$WORLD/rsyslogd.pid")"
	grep -q '^+OK bye' "$WORLD/answer" || { cat "$WORLD/answer"; return 1; }
	[ "$took" -lt 20000 ] || { echo "full: $took ms"; return 1; }
	spool_is alice two three
	# Now syslog works again, and all events are logged.
	kpopd_ends 5
	log_mark
	pop alice QUIT
	log_has 'logout .*reason=quit '
}

# refusal_ms USER: logs in as a user who is refused, three times. Sets $took to
# the least time until the answer, in milliseconds.
refusal_ms() {
	local begin ms
	took=
	for _ in 1 2 3; do
		pop_open
		pop_hear '^\+OK'
		pop_ask "USER $1"
		begin=${EPOCHREALTIME/./}
		pop_ask "PASS x" '^-ERR \[AUTH\]'
		ms=$(((${EPOCHREALTIME/./} - begin) / 1000))
		[ "${took:-$ms}" -lt "$ms" ] || took=$ms
		pop_close
	done
}

# bats test_tags=fault:19-4
@test "a client cannot find out by the time of its refusal whether a user exists, if syslog's socket is full" {
	begin_replay_cache
	kill -STOP "$(cat "$WORLD/rsyslogd.pid")"
	fill_syslog
	refusal_ms bob
	[ "$took" -lt 900 ] || { echo "bob: $took ms"; return 1; }
	refusal_ms nobody-of-that-name
	[ "$took" -lt 900 ] || { echo "unknown: $took ms"; return 1; }
}

# bats test_tags=fault:19-5
@test "a refused login is logged although the process that answers the client cannot be made" {
	[ -z "${SANITIZER-}" ] || skip "ASan's own system calls are in the way"
	pop_open
	pop_hear '^\+OK'
	# The monitor asks for the account's expiry in its first new process,
	# and the second is the session.
	attach "$(monitor_pid)" -o /dev/null -e trace=clone,clone3,fork \
	    -e inject=clone,clone3,fork:error=EAGAIN:when=3
	pop_ask "USER bob"
	pop_ask "PASS x" '^-ERR \[SYS/TEMP\] '
	pop_hear_end
	detached
	log_has 'fatal .*error="fork: Resource temporarily unavailable"$'
	log_has 'refused .*reason="not permitted to be this user" user=bob principal=alice@KPOPD\.TEST'
	log_count 1 ' refused '
}
