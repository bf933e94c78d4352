#!/usr/bin/env bats
# Checks that the monitor ends processes that hang, and processes that a user
# has stopped. Without this, such processes would hold slots and make other
# users wait.

load helpers/all
load helpers/points

setup() {
	begin_test
	realm_login alice
}

teardown() {
	[ -z "${lock_holder-}" ] || kill "$lock_holder" 2>/dev/null || :
	[ -z "${quiet-}" ] || exec {quiet}>&- || :
	pkill -KILL -x strace || :
	pkill -KILL -u alice -x sh || :
	rm -f /home/alice/.k5login /home/alice/stopping
	end_test
}

# restart OPTION ...: replaces the server by one with these options, until the
# end of the test.
restart() {
	server_stop
	server_start "$@"
}

# as_alice COMMAND ...: runs the shell command as alice.
as_alice() {
	su alice -s /bin/sh -c "$*"
}

# stop_all_of_alice: starts a shell that repeatedly stops all processes of kpopd
# that run as alice. The shell runs until it is killed. Returns when the shell
# has begun.
stop_all_of_alice() {
	as_alice 'trap "" TERM
	    while :; do
		pkill -STOP -u alice -x kpopd
		: >~/stopping
		sleep 0.01
	    done' 3>&- &
	await 20 '[ -e /home/alice/stopping ]'
}

# is_over SECONDS: waits up to SECONDS until no process of kpopd is left.
is_over() {
	await "$1" 'no_kpopd'
}

@test "a session that its user stops is killed at once, and its slot is free" {
	mbox one | store alice
	spool_keep
	pop_login alice
	as_alice kill -STOP "$(child_pid)"
	pop_hear_end
	is_over 5
	log_has 'fatal .*error="the session was stopped, and was killed"$'
}

@test "a session that is stopped in a removal is killed, and a recovery finishes the removal" {
	[ -z "${SANITIZER-}" ] || skip "ASan's own system calls are in the way"
	mbox one two three | store alice
	pop_login alice
	pop_ask "DELE 1"
	attach "$(child_pid)" -o /dev/null -e trace=fsync \
	    -e inject=fsync:signal=STOP:when=3
	pop_say QUIT
	pop_hear_end
	is_over 10
	log_has 'fatal .*error="the session was stopped, and was killed"$'
	log_has 'recovery .*state=j$'
	spool_is alice two three
	no_journal
}

@test "a broker that its user stops is killed at once, and its session removes nothing and ends" {
	mbox one two | store alice
	spool_keep
	pop_login alice
	pop_ask "DELE 1"
	as_alice kill -STOP "$(broker_pid)"
	log_has 'fatal .*error="the broker was stopped, and was killed"$'
	pop_ask QUIT '^-ERR \[SYS/TEMP\] nothing removed$'
	pop_hear_end
	is_over 5
}

@test "a recovery that its user stops is killed with its broker, and the next login finishes the removal" {
	[ -z "${SANITIZER-}" ] || skip "ASan's own system calls are in the way"
	mbox one two three | store alice
	pop_login alice
	pop_ask "DELE 1"
	session=$(child_pid)
	attach "$(broker_pid)" -f -o "$WORLD/stopped" -e trace=ftruncate \
	    -e inject=ftruncate:signal=STOP:when=1
	attach "$session" -o /dev/null -e trace=fsync \
	    -e inject=fsync:signal=KILL:when=3
	pop_say QUIT
	pop_hear_end
	is_over 5
	log_has 'fatal .*error="the recovery was stopped, and was killed"$'
	run pop alice QUIT
	[[ $output == *"+OK 2 messages"* ]]
	spool_is alice two three
}

# bats test_tags=promise:8
@test "a user who stops all of the user's own kpopd processes from their start keeps no slot" {
	mbox one | store alice
	stop_all_of_alice
	for _ in 1 2 3 4 5; do
		{
			versions
			apreq pop/mail.kpopd.test | framed
			printf 'USER alice\r\nPASS x\r\n'
		} | wire 2 >/dev/null 3>&- || :
	done
	pkill -KILL -u alice -x sh
	# A pkill of that shell would stop the next session, too.
	await 10 '! pgrep -u alice -x "sh|pkill" >/dev/null'
	is_over 20
	run pop alice QUIT
	[[ $output == *"+OK 1 messages"* ]]
}

@test "a session that hangs after it has refused the login is killed at the deadline, and the refusal is logged once" {
	restart -t 12
	as_alice mkfifo /home/alice/.k5login
	pop_open
	pop_hear '^\+OK'
	pop_ask "USER alice"
	pop_say "PASS x"
	await 5 'session=$(pgrep -n -u alice -x kpopd)'
	# The session waits for a writer of the FIFO.
	"$KPOPD_BUILD/tests/programs/preauth-standin" "$session" message N \
	    forged
	pop_hear '^-ERR \[AUTH\]'
	pop_hear_end
	kill -0 "$session"
	is_over 25
	log_has 'refused .*reason="forged" user=alice '
	log_count 1 ' (refused|fatal) '
}

# bats test_tags=promise:2
@test "a kpopd-tls or a relay that hangs before the login is killed at the login deadline" {
	tls_make
	# On a busy machine kpopd-tls takes seconds until it is in its jail.
	restart -T immediate -t 6 $(tls_options)
	exec {quiet}<>/dev/tcp/127.0.0.1/1109
	await 5 'hangs=$(jailed_in tls) && [ -n "$hangs" ]'
	kill -STOP "$hangs"
	is_over 12
	exec {quiet}>&-
	log_has 'fatal .*error="kpopd-tls did not end in time, and was killed"$'
	restart -p -t 6
	exec {quiet}<>/dev/tcp/127.0.0.1/1109
	read -r -t 5 _ <&"$quiet"
	preauth=$(child_pid)
	kill -STOP "$preauth"
	"$KPOPD_BUILD/tests/programs/preauth-standin" "$preauth" layer 1
	await 5 'hangs=$(jailed_in relay) && [ -n "$hangs" ]'
	kill -STOP "$hangs"
	is_over 12
	log_has 'fatal .*error="the relay did not end in time, and was killed"$'
}

@test "a kpopd-tls that hangs after the end of its session is killed after the write timeout" {
	mbox one | store alice
	tls_make
	restart -t 30:6 $(tls_options)
	pop_open --tls -C "$WORLD/tls/ca.pem"
	pop_hear '^\+OK'
	pop_ask "USER alice"
	hangs=$(jailed_in tls)
	pop_ask "PASS x"
	kill -STOP "$hangs"
	is_over 30
	log_has 'logout .*reason=idle'
	log_has 'fatal .*error="kpopd-tls did not end in time, and was killed"$'
}

@test "a session that hangs after it has refused the login gives a kpopd-tls that hangs no more time" {
	tls_make
	restart -t 20:18 $(tls_options)
	as_alice mkfifo /home/alice/.k5login
	pop_open --tls -C "$WORLD/tls/ca.pem"
	pop_hear '^\+OK'
	pop_ask "USER alice"
	pop_say "PASS x"
	await 5 'session=$(pgrep -n -u alice -x kpopd)'
	kill -STOP "$(jailed_in tls)"
	begin=$EPOCHSECONDS
	"$KPOPD_BUILD/tests/programs/preauth-standin" "$session" message N \
	    forged
	# The refusal ends after 2 s, and the session is killed after 20 s. The
	# write timeout of 18 s begins at the end of the refusal.
	is_over 50
	[ $((EPOCHSECONDS - begin)) -lt 30 ]
	log_has 'fatal .*error="kpopd-tls did not end in time, and was killed"$'
}

# is_killed PID: returns true if the process has ended, is a zombie, or will end
# because of a pending SIGKILL. Signal 9 is the lowest bit of the third
# hexadecimal digit from the right.
is_killed() {
	! kill -0 "$1" 2>/dev/null ||
	    grep -Eq '^State:.*Z|^S(ig|hd)Pnd:.*[13579bdf]..$' \
		"/proc/$1/status"
}

@test "a session that hangs after the login is permitted and before it has its lock is killed at the deadline" {
	[ -z "${SANITIZER-}" ] || skip "ASan's own system calls are in the way"
	mbox one | store alice
	spool_keep
	restart -t 20
	login_stands
	# The delay makes the session hang, as on a file system that does not
	# answer.
	attach "$session" -o /dev/null -e trace=getcwd \
	    -e inject=getcwd:delay_enter=600000000
	echo alice@KPOPD.TEST >&"$k5login"
	exec {k5login}>&-
	log_has ' login '
	await 40 'is_killed "$session"'
	# strace would notice the end of the session only after the delay that
	# strace adds. The session's parent would notice the end even later.
	pkill -KILL -x strace
	is_over 20
	log_has 'refused .*reason="login deadline, session killed"$'
	pop_close
}

# unfinished USER: makes a mailbox with an unfinished removal of the first
# message. The removal was decided, but session and broker were killed before
# the removal was finished.
unfinished() {
	mbox one two | store "$1"
	KRB5CCNAME=FILE:$WORLD/cc.$1 kinit -k -t "$WORLD/keytabs/$1.keytab" "$1"
	KRB5CCNAME=FILE:$WORLD/cc.$1 break_off "$1" 1
}

# hold_lock: takes the fcntl lock of alice's spool for a minute. Sets
# $lock_holder to the pid of the process that holds it.
hold_lock() {
	perl -MPOSIX -e '
	    $| = 1;
	    open my $spool, "+<", "/var/mail/alice" or die "spool: $!\n";
	    my $lock = pack "s s l! l! i", F_WRLCK, 0, 0, 0, 0;
	    fcntl $spool, F_SETLK, $lock or die "lock: $!\n";
	    print "held\n";
	    sleep 60' >"$WORLD/held" 3>&- &
	lock_holder=$!
	await 5 'grep -q held "$WORLD/held"'
}

# bats test_tags=promise:8
@test "--recover finishes another user's removal although one user holds locks and stops processes" {
	[ -z "${SANITIZER-}" ] || skip "ASan's own system calls are in the way"
	unfinished alice
	unfinished bob
	hold_lock
	stop_all_of_alice
	begin=$SECONDS
	run timeout 60 "$KPOPD_BUILD/kpopd" --recover -d "$state"
	pkill -KILL -u alice -x sh
	[ "$status" -eq 1 ]
	[[ $output == *"alice (/var/mail/alice): not reachable, see syslog"* ]]
	[[ $output == *"bob (/var/mail/bob): removal finished"* ]]
	[ $((SECONDS - begin)) -lt 40 ]
	log_has 'fatal peer=none error="the (recovery|broker) was stopped, and was killed"$'
	spool_is bob two
	# Here alice stops no processes, so --recover waits for the lock as long
	# as a session would.
	run timeout 60 "$KPOPD_BUILD/kpopd" --recover -d "$state"
	[ "$status" -eq 1 ]
	[[ $output == *"alice (/var/mail/alice): not reachable, see syslog"* ]]
	kill "$lock_holder"
	lock_holder=
	run "$KPOPD_BUILD/kpopd" --recover -d "$state"
	[[ $output == *"alice (/var/mail/alice): removal finished"* ]]
	spool_is alice two
}

@test "a session whose monitor is killed continues and finishes its removal" {
	mbox one two three | store alice
	pop_login alice
	pop_ask "DELE 1"
	kill -KILL "$(monitor_pid)"
	pop_ask QUIT '^\+OK bye, 2 messages left'
	is_over 5
	spool_is alice two three
}
