#!/usr/bin/env bats
# The monitor watches: no process that belongs to the user, or has been
# compromised, keeps a connection's slot or another user waiting.

load helpers/all
load helpers/points

setup() {
	begin_test
	realm_login alice
}

teardown() {
	[ -z "${keeper-}" ] || kill "$keeper" || :
	exec {quiet}>&- || :
	pkill -KILL -x strace || :
	end_test
	rm -f /home/alice/.k5login /home/alice/stopping
	[ ! -e "$WORLD/other-options" ] ||
	    { rm "$WORLD/other-options"; server_stop; server_start; }
} 2>/dev/null

# restart OPTION …: the server of this test alone.
restart() {
	touch "$WORLD/other-options"
	server_stop
	server_start "$@"
}

# as_alice COMMAND …
as_alice() {
	su alice -s /bin/sh -c "$*"
}

gone() {
	await "$1" '! pgrep -x "kpopd|kpopd-tls" >/dev/null'
}

@test "a session that its user stops is killed at once, and the slot is free" {
	mbox one | store alice
	spool_keep
	pop_login alice
	as_alice kill -STOP "$(child_pid)"
	pop_hear_end
	gone 5
	log_has 'fatal .*error="the session was stopped, and was killed"$'
}

@test "a session that is stopped in a removal is killed, and the removal is finished" {
	[ -z "${SANITIZER-}" ] || skip "ASan's own system calls are in the way"
	mbox one two three | store alice
	pop_login alice
	pop_ask "DELE 1"
	attach "$(child_pid)" -o /dev/null -e trace=fsync \
	    -e inject=fsync:signal=STOP:when=3
	pop_say QUIT
	pop_hear_end
	gone 10
	log_has 'fatal .*error="the session was stopped, and was killed"$'
	log_has 'recovery .*state=j$'
	spool_is alice two three
	no_journal
}

@test "a broker that its user stops is killed at once; the session removes nothing and ends" {
	mbox one two | store alice
	spool_keep
	pop_login alice
	pop_ask "DELE 1"
	as_alice kill -STOP "$(broker_pid)"
	log_has 'fatal .*error="the broker was stopped, and was killed"$'
	pop_ask QUIT '^-ERR \[SYS/TEMP\] nothing removed$'
	pop_hear_end
	gone 5
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
	gone 5
	log_has 'fatal .*error="the recovery was stopped, and was killed"$'
	run pop alice QUIT
	[[ $output == *"+OK 2 messages"* ]]
	spool_is alice two three
}

# bats test_tags=promise:8
@test "a user who stops whatever runs as the user, from the start on, keeps no slot" {
	mbox one | store alice
	as_alice 'trap "" TERM; while :; do pkill -STOP -u alice -x kpopd; : >~/stopping; sleep 0.01; done' 3>&- &
	await 20 '[ -e /home/alice/stopping ]'
	for _ in 1 2 3 4 5; do
		{
			versions
			apreq pop/mail.kpopd.test | framed
			printf 'USER alice\r\nPASS x\r\n'
		} | wire 2 >/dev/null 3>&- || :
	done
	pkill -KILL -u alice -x sh
	gone 5
	run pop alice QUIT
	[[ $output == *"+OK 1 messages"* ]]
}

# bats test_tags=promise:2
@test "a kpopd-tls or a relay that hangs before any login is killed at the login deadline" {
	tls_make
	restart -T immediate -t 2 $(tls_options)
	exec {quiet}<>/dev/tcp/127.0.0.1/1109
	await 5 'jailed_in tls | grep -q .'
	kill -STOP "$(jailed_in tls)"
	gone 8
	exec {quiet}>&-
	log_has 'fatal .*error="kpopd-tls did not end in time, and was killed"$'
	restart -p -t 2
	exec {quiet}<>/dev/tcp/127.0.0.1/1109
	read -r -t 5 _ <&"$quiet"
	preauth=$(child_pid)
	kill -STOP "$preauth"
	"$KPOPD_BUILD/tests/programs/preauth-standin" "$preauth" layer 1
	await 5 'jailed_in relay | grep -q .'
	kill -STOP "$(jailed_in relay)"
	gone 8
	log_has 'fatal .*error="the relay did not end in time, and was killed"$'
}

@test "a kpopd-tls that hangs when its session has ended is killed after the write timeout" {
	mbox one | store alice
	tls_make
	restart -t 30:2 $(tls_options)
	pop_open --tls -C "$WORLD/tls/ca.pem"
	pop_hear '^\+OK'
	pop_ask "USER alice"
	pop_ask "PASS x"
	kill -STOP "$(jailed_in tls)"
	gone 10
	log_has 'logout .*reason=idle'
	log_has 'fatal .*error="kpopd-tls did not end in time, and was killed"$'
}

@test "a session that hangs between the permission and its lock is killed" {
	[ -z "${SANITIZER-}" ] || skip "ASan's own system calls are in the way"
	mbox one | store alice
	spool_keep
	restart -t 2
	login_stands
	# As on a file system that does not answer.
	attach "$session" -o /dev/null -e trace=mkdirat \
	    -e inject=mkdirat:delay_enter=600000000
	echo alice@KPOPD.TEST >&"$k5login"
	exec {k5login}>&-
	log_has ' login '
	# Killed, or SIGKILL waits for it.
	await 40 "! kill -0 $session || grep -Eq '^State:.*Z|^S(ig|hd)Pnd:.*[13579bdf]..\$' /proc/$session/status"
	# Its tracer would not see its end before the time is over, and then its
	# parent does.
	pkill -KILL -x strace
	gone 5
	log_has 'refused .*reason="login deadline, session killed"$'
	pop_close
}

# unfinished USER: a removal of USER's first message that was decided, in a
# session that was killed with its broker.
unfinished() {
	mbox one two | store "$1"
	KRB5CCNAME=FILE:$WORLD/cc.$1 kinit -k -t "$WORLD/keytabs/$1.keytab" "$1"
	KRB5CCNAME=FILE:$WORLD/cc.$1 break_off "$1" 1
}

# bats test_tags=promise:8
@test "--recover: a user who holds locks and stops processes keeps no other user waiting" {
	[ -z "${SANITIZER-}" ] || skip "ASan's own system calls are in the way"
	unfinished alice
	unfinished bob
	perl -e 'use POSIX; open F, "+<", "/var/mail/alice"; $l = pack "s s l! l! i", F_WRLCK, 0, 0, 0, 0;
	    fcntl F, F_SETLK, $l or die; $| = 1; print "held\n"; sleep 60' \
	    >"$WORLD/held" 3>&- &
	keeper=$!
	await 5 'grep -q held "$WORLD/held"'
	as_alice 'while :; do pkill -STOP -u alice -x kpopd; : >~/stopping; sleep 0.01; done' 3>&- &
	await 20 '[ -e /home/alice/stopping ]'
	begin=$SECONDS
	run timeout 60 "$KPOPD_BUILD/kpopd" --recover -d "$state"
	pkill -KILL -u alice -x sh
	[ "$status" -eq 1 ]
	[[ $output == *"alice (/var/mail/alice): not reachable, see syslog"* ]]
	[[ $output == *"bob (/var/mail/bob): removal finished"* ]]
	[ $((SECONDS - begin)) -lt 40 ]
	log_has 'fatal peer=none error="the (recovery|broker) was stopped, and was killed"$'
	spool_is bob two
	# Without the stopping: it waits for the lock as long as any session
	# does.
	run timeout 60 "$KPOPD_BUILD/kpopd" --recover -d "$state"
	[ "$status" -eq 1 ]
	[[ $output == *"alice (/var/mail/alice): not reachable, see syslog"* ]]
	kill "$keeper"
	keeper=
	run "$KPOPD_BUILD/kpopd" --recover -d "$state"
	[[ $output == *"alice (/var/mail/alice): removal finished"* ]]
	spool_is alice two
}

@test "a session's monitor that is killed takes nobody with it: the removal is finished" {
	mbox one two three | store alice
	pop_login alice
	pop_ask "DELE 1"
	kill -KILL "$(monitor_pid)"
	pop_ask QUIT '^\+OK bye, 2 messages left'
	gone 5
	spool_is alice two three
}
