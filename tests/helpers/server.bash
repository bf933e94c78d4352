# Starts the real xinetd with the project's xinetd.d/kpop. Finds the processes
# of a connection, and the lines that these processes have logged.

# The tests empty /var/mail and kill processes by name, so they must not run on
# the real machine.
[ -e "${WORLD-}/server.keytab" ] ||
    { echo "run this by tests/world, or by ./run-tests FILE" >&2; exit 1; }

top=$(cd "$BATS_TEST_DIRNAME/.." && pwd)
: "${KPOPD_BUILD:=$top/build/gcc}"
state=$WORLD/state

# await SECONDS 'COMMAND': repeats the shell command until it succeeds. Prints
# the command and fails if it has not succeeded after SECONDS.
await() {
	local tries=$(($1 * 20))
	while ! eval "$2"; do
		if [ $((tries--)) -le 0 ]; then
			echo "not true within $1 s: $2" >&2
			return 1
		fi
		sleep 0.05
	done
}

# kpopd_ends SECONDS: waits up to SECONDS until no process of kpopd is left.
kpopd_ends() {
	await "$1" '! pgrep -x kpopd >/dev/null'
}

# await_second SECOND: waits until the wall clock has reached this second since
# the epoch. Tests use it for programs that compare times by the second.
await_second() {
	await $(($1 - EPOCHSECONDS + 5)) "[ \$EPOCHSECONDS -ge $1 ]"
}

# refute COMMAND [ARGUMENT ...]: runs the command. If the command succeeds,
# prints it and fails.
refute() {
	! "$@" || { echo "succeeded: $*" >&2; return 1; }
}

# server_configure [KPOPD-OPTION ...]: writes the configuration of xinetd.
# xinetd will start kpopd with these options and with the variables in
# $server_env. $SANITIZER, which run-tests sets, contains more variables.
server_configure() {
	local args="-d $state -k $WORLD/server.keytab $*"
	local env="NOTHING=here ${SANITIZER-} ${server_env-}"
	sed -e "s,/usr/sbin/kpopd,$KPOPD_BUILD/kpopd," \
	    -e 's,\(disable[[:space:]]*=\).*,\1 no,' \
	    -e 's,\(per_source[[:space:]]*=\).*,\1 UNLIMITED,' \
	    -e 's,\(cps[[:space:]]*=\).*,\1 1000 1,' \
	    -e "s,^\([[:space:]]*\)passenv.*,&\n\1env = $env," \
	    -e "s|^\([[:space:]]*\)server[[:space:]].*|&\n\1server_args = $args|" \
	    ${SANITIZER:+-e '/rlimit_as/d'} \
	    "$top/xinetd.d/kpop" >"$WORLD/xinetd.conf"
}

# server_start [KPOPD-OPTION ...]: starts xinetd, and returns when xinetd
# listens. end_test restores the server that ran at begin_test.
server_start() {
	server_configure "$@"
	xinetd_run
}

# server_under 'BASH' [KPOPD-OPTION ...]: starts an xinetd that runs the shell
# text BASH. The text's arguments are kpopd and its options. An example is
# 'umask 0; exec "$@"'.
server_under() {
	printf '#!/bin/bash\nset -- %s "$@"\n%s\n' "$KPOPD_BUILD/kpopd" "$1" \
	    >"$WORLD/under"
	chmod 755 "$WORLD/under"
	shift
	server_configure "$@"
	sed -i "s,^\([[:space:]]*server[[:space:]]*=\).*,\1 $WORLD/under," \
	    "$WORLD/xinetd.conf"
	xinetd_run
}

# listener_start [KPOPD-OPTION ...]: starts xinetd, which waits for connections
# and starts the listener at the first one.
listener_start() {
	server_configure "$@"
	sed -i -e 's/\(wait[[:space:]]*=\).*/\1 yes/' \
	    -e '/per_source\|instances\|flags/d' "$WORLD/xinetd.conf"
	xinetd_run
}

# xinetd_run: starts xinetd with $WORLD/xinetd.conf.
xinetd_run() {
	if [ -n "${SANITIZER-}" ]; then
		# The jailed processes write sanitizer reports inside their
		# jails.
		for jail in preauth tls relay; do
			mkdir -p "$state/$jail/run/sanitizer"
			chmod 711 "$state" "$state/$jail"
			chmod 1777 "$state/$jail/run/sanitizer"
		done
	fi
	xinetd -dontfork -f "$WORLD/xinetd.conf" -pidfile "$WORLD/xinetd.pid" \
	    3>&- >/dev/null 2>&1 &
	await 5 'ss -Hltn sport = 1109 | grep -q .'
	# make check-kept sets KEEPS_TLS.
	[ -z "${KEEPS_TLS-}" ] || keep_beside
	log_mark
}

# begin_replay_cache: logs in, so that the replay cache is made and the line
# about the new cache is logged. Tests need this, because a new cache refuses
# older tickets.
begin_replay_cache() {
	realm_login alice
	pop alice QUIT
	log_has ' logout '
}

# server_runs: returns true if xinetd runs.
server_runs() {
	local pid
	{ read -r pid <"$WORLD/xinetd.pid"; } 2>/dev/null &&
	    kill -0 "$pid" 2>/dev/null
}

# server_stop: ends xinetd and every kpopd.
server_stop() {
	local pid
	pid=$(cat "$WORLD/xinetd.pid" 2>/dev/null) || return 0
	kill "$pid" 2>/dev/null || true
	await 5 "! kill -0 $pid 2>/dev/null"
	pkill -KILL -x kpopd || true
	kpopd_ends 5
	rm -f "$WORLD/xinetd.pid"
	keep_end
}

# server_note: records, for server_restore, the configuration of the running
# server. If no server runs, records that.
server_note() {
	server_noted=
	if server_runs; then
		server_noted=$(<"$WORLD/xinetd.conf")
	fi
}

# server_restore: restores what server_note has recorded. If the test has
# stopped or replaced the server, starts that server. If no server ran, stops
# the server.
server_restore() {
	local now=
	[ -n "${server_noted+set}" ] || return 0
	! server_runs || now=$(<"$WORLD/xinetd.conf")
	[ "$now" != "$server_noted" ] || return 0
	server_stop
	[ -n "$server_noted" ] || return 0
	printf '%s\n' "$server_noted" >"$WORLD/xinetd.conf"
	xinetd_run
}

# monitor_pid, child_pid and broker_pid print the pids of the processes of the
# newest connection. xinetd starts the monitor. The monitor starts the pre-auth
# process, and later the session and the broker.
monitor_pid() {
	pgrep -n -x kpopd -P "$(cat "$WORLD/xinetd.pid")"
}

# child_pid: prints the pid of the pre-auth process or the session. This is the
# monitor's child that has the client's connection, or may get the connection.
child_pid() {
	local pid with= without=
	for pid in $(pgrep -x kpopd -P "$(monitor_pid)"); do
		if [ "$(readlink "/proc/$pid/fd/0")" = /dev/null ]; then
			without=${without:-$pid}
		else
			with=$pid
		fi
	done
	echo "${with:-$without}"
}

# broker_pid: prints the pid of the newest child without the client's
# connection. The broker is started after the session and never gets the
# connection.
broker_pid() {
	local pid newest=
	for pid in $(pgrep -x kpopd -P "$(monitor_pid)"); do
		[ "$(readlink "/proc/$pid/fd/0")" != /dev/null ] || newest=$pid
	done
	echo "$newest"
}

# log_written: waits until syslogd has written what was logged before, at most
# five seconds. A test may stop syslogd, so a timeout is not a failure.
log_written() {
	local mark="settled $BASHPID $RANDOM"
	logger -u /dev/log -t tests "$mark" || return 0
	await 5 "tail -n 20 '$WORLD/syslog' | grep -aq '$mark'" 2>/dev/null || :
}

# log_mark: makes the functions below ignore all lines that were logged before.
# Waits for the processes of former connections, because a client may see the
# end of its session before the monitor has logged it. begin_test calls
# log_mark.
log_mark() {
	if pgrep -x kpopd >/dev/null; then log_settle; else log_written; fi
	log_begin=$(wc -l <"$WORLD/syslog")
}

# log_lines: prints the lines that kpopd and kpopd-tls have logged since
# log_mark.
log_lines() {
	tail -n "+$((log_begin + 1))" "$WORLD/syslog" |
	    grep -aE ' kpopd(-tls)?\[' || true
}

# log_has PATTERN: waits up to ten seconds until a line matches the pattern
# (extended).
log_has() {
	await 10 "log_lines | grep -aEq -- '$1'" ||
	    { echo "the log has:" >&2; log_lines >&2; return 1; }
}

# log_count NUMBER PATTERN: waits up to ten seconds until NUMBER lines match the
# pattern (extended). Returns true if no further line comes.
log_count() {
	local n="\$(log_lines | grep -aEc -- '$2')"
	await 10 "[ $n -ge $1 ]" && log_settle && eval "[ $n -eq $1 ]" ||
	    { echo "not $1 of $2, the log has:" >&2; log_lines >&2; return 1; }
}

# activity: prints the state of each server process, and how often the process
# has lost the processor.
activity() {
	pgrep -x 'xinetd|kpopd|kpopd-tls' | sed 's,.*,/proc/&/status,' |
	    xargs -r grep -hE '^(Pid|State|.*ctxt_switches):' 2>/dev/null || :
}

# is_quiet: returns true if no server process has run for 50 ms, or is waiting
# to run or for a disk.
is_quiet() {
	local before
	before=$(activity)
	sleep 0.05
	[[ $before != *State:$'\t'[RD]* ]] && [ "$before" = "$(activity)" ]
}

# log_settle: waits until the server processes are quiet, at most two seconds,
# and then until syslogd has written their lines. A test may keep processes
# busy, so a timeout is not a failure.
log_settle() {
	await 2 is_quiet 2>/dev/null || :
	log_written
}

# log_only PATTERN: returns true if there are lines and all match the pattern
# (extended). The line about a new replay cache does not count, because any test
# may be the first of its file.
log_only() {
	log_settle
	[ -n "$(log_lines)" ] && ! log_lines |
	    grep -aEv -e ' replay .* older authenticators"$' -e "$1" >&2
}

# log_lacks PATTERN: returns true if no line matches the pattern (extended).
log_lacks() {
	log_settle
	! log_lines | grep -aEq -- "$1" ||
	    { echo "the log has:" >&2; log_lines >&2; return 1; }
}

# begin_test, end_test: run before and after each test of each file.
begin_test() {
	log_mark
	server_note
	realm_logout
	rm -rf /var/mail/* "$state"/users "$WORLD/held" "$WORLD/spool.kept"
	rm -rf /etc/kpopd.conf
}

# Errexit is off in a teardown, so the variable "status" keeps the failure of
# each step.
end_test() {
	local status=0
	pop_close 2>/dev/null || true
	pkill -KILL -x kpopc 2>/dev/null || true
	await 5 '! pgrep -x kpopc >/dev/null' || status=1
	kpopd_ends 5 ||
	    { pkill -KILL -x kpopd; status=1; }
	server_restore || status=1
	spool_untouched || status=1
	no_reports || status=1
	return $status
}

# own_copy DIRECTORY: makes the directory writable until own_copy_end. What is
# written exists only in this world.
own_copy() {
	mkdir "$WORLD/upper" "$WORLD/work"
	mount -t overlay \
	    -o "lowerdir=$1,upperdir=$WORLD/upper,workdir=$WORLD/work" \
	    kpopd "$1"
	echo "$1" >"$WORLD/own"
}

# own_copy_end: ends own_copy, if the test has used it.
own_copy_end() {
	[ -e "$WORLD/own" ] || return 0
	umount -l "$(cat "$WORLD/own")"
	rm -rf "$WORLD/own" "$WORLD/upper" "$WORLD/work"
}

# no_reports: fails if ASan or UBSan has reported something, inside or outside
# the jails. Prints the report.
no_reports() {
	local reports
	reports=$(ls /run/sanitizer/* "$state"/*/run/sanitizer/* 2>/dev/null) ||
	    true
	[ -n "$reports" ] || return 0
	cat $reports >&2
	rm -f $reports
	return 1
}

# unix_listens PATH: returns true if a process listens on this Unix socket. The
# file is there before that.
unix_listens() {
	ss -Hx state listening src "$1" | grep -q .
}

# false_server COMMAND: starts a server on port 2000 that runs the shell command
# for each client, in place of kpopd. Sets $false_pid.
false_server() {
	socat TCP-LISTEN:2000,reuseaddr,fork SYSTEM:"$1" 3>&- 2>/dev/null &
	false_pid=$!
	await 5 'ss -Hltn sport = 2000 | grep -q .'
}

# false_end: ends the server with the pid $false_pid.
false_end() {
	kill "$false_pid"
	await 5 '! ss -Hltn sport = 2000 | grep -q .'
}
