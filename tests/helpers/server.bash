# The real xinetd with our own xinetd.d/kpop, the processes of a connection, and
# what they logged.

# Tests empty /var/mail and kill by name: never on the real machine.
[ -e "${WORLD-}/server.keytab" ] ||
    { echo "to be run by tests/world, or ./run-tests FILE" >&2; exit 1; }

top=$(cd "$BATS_TEST_DIRNAME/.." && pwd)
: "${KPOPD_BUILD:=$top/build/gcc}"
state=$WORLD/state

# await SECONDS 'COMMAND': until the shell command succeeds; says so when it
# does not.
await() {
	local tries=$(($1 * 20))
	while ! eval "$2"; do
		if [ $((tries--)) -le 0 ]; then
			echo "waited $1 s in vain for: $2" >&2
			return 1
		fi
		sleep 0.05
	done
}

# server_configure [kpopd option ...]: what xinetd is to run; server_env are
# variables that it sets. SANITIZER (from run-tests) adds its environment.
server_configure() {
	sed -e "s,/usr/sbin/kpopd,$KPOPD_BUILD/kpopd," \
	    -e "s|^#*[[:space:]]*server_args.*|server_args = -d $state -k $WORLD/server.keytab $*|" \
	    -e 's,\(disable[[:space:]]*=\).*,\1 no,' \
	    -e 's,\(per_source[[:space:]]*=\).*,\1 UNLIMITED,' \
	    -e 's,\(cps[[:space:]]*=\).*,\1 1000 1,' \
	    -e "s,^\([[:space:]]*\)passenv.*,&\n\1env = NOTHING=here ${SANITIZER-} ${server_env-}," \
	    ${SANITIZER:+-e '/rlimit_as/d'} \
	    "$top/xinetd.d/kpop" >"$WORLD/xinetd.conf"
}

# server_start [kpopd option ...]
server_start() {
	server_configure "$@"
	xinetd_run
}

# server_under 'BASH' [kpopd option ...]: xinetd starts a shell that says this;
# kpopd and its options are its arguments: 'umask 0; exec "$@"'.
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

# Starts xinetd with the configuration that stands there.
xinetd_run() {
	if [ -n "${SANITIZER-}" ]; then
		# Reports are written inside the jails.
		for jail in preauth tls relay; do
			mkdir -p "$state/$jail/run/sanitizer"
			chmod 711 "$state" "$state/$jail"
			chmod 1777 "$state/$jail/run/sanitizer"
		done
	fi
	xinetd -dontfork -f "$WORLD/xinetd.conf" -pidfile "$WORLD/xinetd.pid" \
	    3>&- >/dev/null 2>&1 &
	await 5 'ss -Hltn sport = 1109 | grep -q .'
	log_mark
}

# begin_replay_cache: a first login makes it, which the log says once. A ticket
# that was shown before is not taken.
begin_replay_cache() {
	realm_login alice
	pop alice QUIT
}

server_stop() {
	local pid
	pid=$(cat "$WORLD/xinetd.pid" 2>/dev/null) || return 0
	kill "$pid" 2>/dev/null || true
	await 5 "! kill -0 $pid 2>/dev/null"
	pkill -KILL -x kpopd || true
	await 5 '! pgrep -x kpopd >/dev/null'
	rm -f "$WORLD/xinetd.pid"
}

# The newest connection's processes. xinetd starts the monitor; its children are
# the pre-auth process, then session and broker.
monitor_pid() {
	pgrep -n -x kpopd -P "$(cat "$WORLD/xinetd.pid")"
}

# The child that has the client, or may get it: the pre-auth process, then the
# session.
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

# The child that never has it, made after the session.
broker_pid() {
	local pid newest=
	for pid in $(pgrep -x kpopd -P "$(monitor_pid)"); do
		[ "$(readlink "/proc/$pid/fd/0")" != /dev/null ] || newest=$pid
	done
	echo "$newest"
}

# Everything kpopd has logged since the test began or log_mark.
log_mark() {
	log_begin=$(wc -l <"$WORLD/syslog")
}

log_lines() {
	tail -n "+$((log_begin + 1))" "$WORLD/syslog" |
	    grep -aE ' kpopd(-tls)?\[' || true
}

# log_has PATTERN: some line matches (extended), within ten seconds.
log_has() {
	await 10 "log_lines | grep -aEq -- '$1'" ||
	    { echo "the log has:" >&2; log_lines >&2; return 1; }
}

# log_count NUMBER PATTERN: so many lines match (extended), within ten seconds.
log_count() {
	await 10 "[ \$(log_lines | grep -aEc -- '$2') -eq $1 ]" ||
	    { echo "not $1 of $2, the log has:" >&2; log_lines >&2; return 1; }
}

# log_only PATTERN: there are lines, and all of them match (extended).
log_only() {
	sleep 0.2
	[ -n "$(log_lines)" ] && ! log_lines | grep -aEv -- "$1" >&2
}

log_lacks() {
	sleep 0.2
	! log_lines | grep -aEq -- "$1" ||
	    { echo "the log has:" >&2; log_lines >&2; return 1; }
}

# What every test file does around its tests.
begin_test() {
	log_mark
	realm_logout
	rm -rf /var/mail/* "$state"/users "$WORLD/held" "$WORLD/spool.kept"
}

# A teardown has no errexit: what fails in it is its status or nothing.
end_test() {
	local status=0
	pop_close 2>/dev/null || true
	pkill -KILL -x kpopc 2>/dev/null || true
	await 5 '! pgrep -x kpopd >/dev/null' ||
	    { pkill -KILL -x kpopd; status=1; }
	spool_untouched || status=1
	no_reports || status=1
	return $status
}

# What ASan and UBSan found, outside the pre-auth process's jail and in it,
# fails the test that did it.
no_reports() {
	local reports
	reports=$(ls /run/sanitizer/* "$state"/*/run/sanitizer/* 2>/dev/null) ||
	    true
	[ -n "$reports" ] || return 0
	cat $reports >&2
	rm -f $reports
	return 1
}
