#!/usr/bin/env bats
# Checks the log. No process that reads what clients send has a socket to
# syslog. The monitor logs for each process only the events of its role.

load helpers/all

setup() {
	begin_test
	realm_login alice
}

# preauth_logs EVENT TEXT [COUNT]: makes a pre-auth process act as if it were
# compromised. The process asks its monitor to log this line, once or COUNT
# times.
preauth_logs() {
	log_mark
	pop_open
	pop_hear '^\+OK'
	"$KPOPD_BUILD/tests/programs/preauth-standin" "$(child_pid)" line "$@"
}

# no_syslog_socket: returns true if no process except the monitor has a socket
# to syslog.
no_syslog_socket() {
	local pid
	for pid in $(kpopds | grep -vx "$(monitor_pid)"); do
		ss -Hxp | grep u_dgr | refute grep -F "pid=$pid," || return
	done
}

# bats test_tags=promise:5
@test "no process but the monitor has a socket to syslog" {
	mbox one | store alice
	tls_make
	server_stop
	server_start -p $(tls_options)
	pop_open -p --tls -C "$WORLD/tls/ca.pem"
	pop_hear '^\+OK'
	ss -Hxp | grep u_dgr | grep -F "pid=$(monitor_pid),"
	[ "$(kpopds | wc -l)" -eq 3 ]
	no_syslog_socket
	pop_ask "USER alice"
	pop_ask "PASS x"
	await 5 '[ "$(kpopds | wc -l)" -eq 4 ]'
	no_syslog_socket
	pop_ask QUIT
	pop_hear_end
}

# bats test_tags=promise:5
@test "a login event from a pre-auth process is not logged as a login, but as a forbidden event" {
	preauth_logs login "user=root principal=root@KPOPD.TEST"
	log_has 'mail\.alert kpopd\[[0-9]+\]: fatal peer=[^ ]+ error="the pre-auth process logged a forbidden event: login"$'
	log_lacks ' login |root'
	pop_close
}

@test "an unknown event, and one with a blank or a line end in it, are not logged" {
	for event in "" "failed fatal" " failed" $'failed\n' "LOGIN" \
	    "logout"; do
		preauth_logs "$event" "what=forged"
		log_has 'alert .*fatal peer=[^ ]+ error="the pre-auth process logged a forbidden event: '
		log_lacks 'forged'
		pop_close
	done
}

# bats test_tags=promise:5
@test "a text of a compromised pre-auth process is logged as one line of visible characters after the true address" {
	preauth_logs failed \
	    $'what="x\n<86>sshd[1]: Accepted password for root\x1b[2J\x7f\xff"'
	log_has 'kpopd\[[0-9]+\]: failed peer=(\[::1\]|127\.0\.0\.1):[0-9]+ what="x\?<86>sshd\[1\]: Accepted password for root\?\[2J\?\?"$'
	refute grep -aq ' sshd\[' "$WORLD/syslog"
	log_lacks '[^ -~]'
	pop_close
}

@test "a compromised pre-auth process that names another client address is killed, and the address is not logged" {
	pop_open
	pop_hear '^\+OK'
	"$KPOPD_BUILD/tests/programs/preauth-standin" "$(child_pid)" peer 1
	pop_hear_end
	log_has 'alert .*fatal .*error="the pre-auth process sent a malformed message, and was killed"$'
	log_lacks '192\.0\.2\.66'
	pop_close
}

@test "about a hundred lines of a compromised pre-auth process or session are logged, and the rest are counted" {
	preauth_logs failed what=flood 1000
	await 5 '[ "$(log_lines | grep -c what=flood)" -ge 100 ]'
	pop_close
	log_count 1 'warning kpopd\[[0-9]+\]: withheld peer=[^ ]+ process="the pre-auth process" lines=(8[0-9][0-9]|90[01])$'
	[ "$(log_lines | grep -c what=flood)" -le 110 ]
	mbox one | store alice
	log_mark
	pop_login alice
	"$KPOPD_BUILD/tests/programs/preauth-standin" "$(child_pid)" line \
	    failed what=flood 1000
	pop_ask QUIT
	pop_hear_end
	# The monitor does not count its own lines as flooding, so it still logs
	# its own lines.
	log_count 1 ' login '
	log_count 1 'withheld .*process="the session" lines='
	[ "$(log_lines | grep -c what=flood)" -le 110 ]
}

@test "the monitor refuses to log a login for a session, and a logout for a broker" {
	mbox one | store alice
	pop_login_locking alice
	"$KPOPD_BUILD/tests/programs/preauth-standin" "$(child_pid)" line \
	    login user=root
	log_has 'alert .*fatal .*error="the session logged a forbidden event: login"$'
	"$KPOPD_BUILD/tests/programs/preauth-standin" "$(broker_pid)" line \
	    logout reason=quit
	log_has 'alert .*fatal .*error="the broker logged a forbidden event: logout"$'
	pop_ask QUIT
	log_count 1 ' login '
	log_count 1 ' logout '
}

@test "all log lines of a connection have the monitor's pid" {
	mbox one | store alice
	tls_make
	server_stop
	server_start $(tls_options)
	begin_replay_cache
	log_settle
	log_mark
	pop_open --tls -C "$WORLD/tls/ca.pem"
	pop_hear '^\+OK'
	pop_ask "USER alice"
	pop_ask "PASS x"
	monitor=$(monitor_pid)
	pop_ask QUIT
	pop_hear_end
	for event in tls login logout; do
		log_count 1 "kpopd\\[$monitor\\]: $event "
	done
	log_count 3 .
}
