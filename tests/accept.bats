#!/usr/bin/env bats
# Checks the listener: kpopd with a listening socket as standard input, from
# xinetd ("wait = yes") or from systemd ("Accept=no").

load helpers/all

# listener_restart [KPOPD-OPTION ...]: replaces the server by a listener with
# these options, until the end of the test.
listener_restart() {
	server_stop
	listener_start "$@"
}

setup_file() { listener_start; }

setup() {
	begin_test
	realm_login alice
	kpopd=(env ${SANITIZER-} "$KPOPD_BUILD/kpopd" -d "$state"
	    -k "$WORLD/server.keytab")
}

# This teardown does not call end_test, because the listener continues after its
# sessions have ended.
teardown() {
	local status=0
	pop_close 2>/dev/null || true
	pkill -KILL -x kpopc 2>/dev/null || true
	pkill -KILL -x strace || true
	pkill -KILL -x socat || true
	own_listener_stop
	await 5 'no_sessions' || { pkill -KILL -x kpopd; status=1; }
	ip -6 route del local 2001:db8::/32 dev lo 2>/dev/null || true
	server_restore || status=1
	no_reports || status=1
	return $status
}

# listener_pid: prints the pid of the listener that xinetd has started.
listener_pid() {
	pgrep -o -x kpopd -P "$(cat "$WORLD/xinetd.pid")"
}

# no_sessions: returns true if no process of kpopd is left except the listener.
no_sessions() {
	[ "$(kpopds | wc -l)" -le 1 ]
}

# monitor_pid: prints the monitor's pid. It replaces the helper with the same
# name, because here the monitor's parent is the listener.
monitor_pid() {
	pgrep -n -x kpopd -P "$(listener_pid)"
}

# monitors_are COUNT [PID]: returns true if the listener, or the listener PID,
# has COUNT monitors.
monitors_are() {
	[ "$(pgrep -x kpopd -P "${2-$(listener_pid)}" | wc -l)" -eq "$1" ]
}

# listener_wake: makes a connection that sends nothing, so that xinetd starts
# the listener.
listener_wake() {
	wire 30 </dev/null >/dev/null || true
	await 5 'no_sessions'
	await 5 'listener_pid >/dev/null'
}

# listener_on SOCKET COMMAND ...: starts a listener as systemd does
# (tests/programs/listen.pl). Sets $own_listener to its pid.
listener_on() {
	perl "$BATS_TEST_DIRNAME/programs/listen.pl" "$@" 3>&- &
	own_listener=$!
	if [[ $1 == tcp:* ]]; then
		await 5 'ss -Hltn sport = 1109 | grep -q .'
	else
		await 5 "unix_listens '${1#unix:}'"
	fi
}

# own_listener_stop: ends the listener that listener_on has started, if there is
# one. Also ends the process that takes connections from the same socket.
own_listener_stop() {
	[ -n "${own_listener-}" ] || return 0
	kill -TERM "$own_listener" 2>/dev/null || true
	await 5 "! kill -0 $own_listener 2>/dev/null" ||
	    kill -KILL "$own_listener" || true
	wait "$own_listener" 2>/dev/null || true
	kill -KILL ${taker-} 2>/dev/null || true
	own_listener=
}

# ipv6_networks: gives this machine all addresses of 2001:db8::/32 until the end
# of the test.
ipv6_networks() {
	ip -6 route add local 2001:db8::/32 dev lo
	echo 1 >/proc/sys/net/ipv6/ip_nonlocal_bind
}

# now_ms: prints the time in milliseconds.
now_ms() {
	echo $(($(date +%s%N) / 1000000))
}

# is_rejected TEXT: returns true if TEXT is the answer to a connection above a
# limit.
is_rejected() {
	[[ $1 == "-ERR [SYS/TEMP] too many connections"* ]] ||
	    { echo "not rejected: $1"; return 1; }
}

# flood ADDRESS COUNT HOW: runs tests/programs/flood.pl.
flood() {
	perl "$BATS_TEST_DIRNAME/programs/flood.pl" "$@"
}

# hold_connections ADDRESS COUNT: opens COUNT silent connections from the
# address. They stay open until release_connections is called.
hold_connections() {
	local ready
	coproc STAY { flood "$1" "$2" stay; }
	read -r ready <&"${STAY[0]}"
	[ "$ready" = ready ]
}

release_connections() {
	eval "exec ${STAY[1]}>&-"
}

# syslogd_stop, syslogd_start: end syslogd and start it again.
syslogd_stop() {
	kill -TERM "$(cat "$WORLD/rsyslogd.pid")"
	await 5 '! pgrep -x rsyslogd >/dev/null'
	rm -f "$WORLD/rsyslogd.pid" /dev/log
}

syslogd_start() {
	rsyslogd -n -f "$WORLD/rsyslog.conf" -i "$WORLD/rsyslogd.pid" 3>&- &
	await 5 '[ -S /dev/log ]'
}

@test "kpopc and fetchmail are served by one listener" {
	mbox one two | store alice
	listener_wake
	listener=$(listener_pid)
	run pop alice STAT QUIT
	[[ $output == *"+OK 2 messages"*"+OK bye, 2 messages left"* ]]
	cat >"$WORLD/fetchmailrc" <<-END
	poll mail.kpopd.test proto KPOP auth kerberos_v5
		user alice sslproto "" mda "cat >>$WORLD/fetched"
	END
	chmod 600 "$WORLD/fetchmailrc"
	rm -f "$WORLD/fetched"
	fetchmail --nosyslog -f "$WORLD/fetchmailrc"
	grep -q two "$WORLD/fetched"
	[ ! -s "$(spool alice)" ]
	[ "$(listener_pid)" = "$listener" ]
	log_has 'mail\.info kpopd\[[0-9]+\]: login peer=[^ ]+:[0-9]+ user=alice principal=alice@KPOPD\.TEST .*by=localname rights=full$'
	log_has 'logout peer=[^ ]+:[0-9]+ reason=quit .*deleted=2 left=0'
	# Two monitors logged the lines. The listener logged none.
	[ "$(log_lines | sed -n 's/.*kpopd\[\([0-9]*\)\]: login.*/\1/p' |
	    sort -u | wc -l)" -eq 2 ]
}

# log_in_often USER: runs MANY sessions of the user, one after the other.
log_in_often() {
	for _ in $(seq "${MANY-25}"); do
		KRB5CCNAME=FILE:$WORLD/ccache.$1 pop "$1" STAT QUIT || true
	done
}

@test "the listener serves many clients at once, and keeps no descriptor or process after they have ended" {
	listener_restart -a 100:100:10000
	listener_wake
	listener=$(listener_pid)
	before=$(fds "$listener")
	pids=()
	for user in alice bob carol; do
		mbox one | store $user
		KRB5CCNAME=FILE:$WORLD/ccache.$user realm_login $user
		for client in 1 2 3 4; do
			log_in_often $user >"$WORLD/many.$user.$client" 3>&- &
			pids+=($!)
		done
	done
	wait "${pids[@]}"
	# Only one session of a user is admitted at a time. Each other login
	# gets an error with the code IN-USE.
	cat "$WORLD"/many.* >"$WORLD/all"
	rm "$WORLD"/many.*
	[ "$(grep -cE '^\+OK bye, 1 messages left|IN-USE' "$WORLD/all")" \
	    -eq $((12 * ${MANY-25})) ]
	[ "$(grep -c '^+OK bye' "$WORLD/all")" -gt $((3 * ${MANY-25})) ]
	await 5 'no_sessions'
	[ "$(listener_pid)" = "$listener" ]
	await 5 '[ -z "$(pgrep -r Z -P "$listener")" ]'
	await 5 '[ "$(fds "$listener")" = "$before" ]'
}

# not_from_listener: returns true if no process of a session has the listening
# socket, or the listener's options, krb5.conf or signalfd.
not_from_listener() {
	local pid
	for pid in $(pgrep -x kpopd | grep -vx "$listener"); do
		fds "$pid" | refute grep -F -e "$listening" -e "$signals" \
		    -e memfd: ||
		    return
	done
}

# shared_table PID: prints the addresses of the mappings that children of the
# process do not inherit.
shared_table() {
	awk '/^[0-9a-f]+-/ { place = $1 } /^VmFlags:.* dc/ { print place }' \
	    "/proc/$1/smaps"
}

# bats test_tags=promise:3
@test "the listener has its socket, syslog, options, krb5.conf, signals and no key, and no session inherits a descriptor from it" {
	# To read the memory of a build with sanitizers takes long.
	listener_restart -t 300
	mbox one | store alice
	pop_open
	pop_hear '^\+OK'
	listener=$(listener_pid)
	listening=$(readlink "/proc/$listener/fd/0")
	[[ $(readlink "/proc/$listener/fd/4") == /memfd:kpopd.conf* ]]
	[[ $(readlink "/proc/$listener/fd/5") == /memfd:krb5.conf* ]]
	signals=$(readlink "/proc/$listener/fd/6")
	# The kernel's queue of the listening socket must be as long as
	# possible. xinetd's queue has 64 entries, and while a queue is full, a
	# client waits a second before it tries again.
	[ "$(ss -Hltn sport = 1109 | awk '{ print $3 }' | sort -n |
	    head -n 1)" -eq "$(cat /proc/sys/net/core/somaxconn)" ]
	[[ $signals == *signalfd* ]]
	await 10 '[ "$(sockets "$listener")" -eq 2 ]'
	[ "$(others "$listener")" -eq 5 ]
	preauth=$(child_pid)
	holds_key "$preauth"
	holds_none "$listener"
	holds_none "$(monitor_pid)"
	# Both processes have the descriptors that they have after a start by
	# inetd: the connection twice, /dev/null, and the channel. The monitor
	# also has syslog, and the pre-auth process also has the replay cache.
	for pid in "$preauth" "$(monitor_pid)"; do
		# The monitor may not have closed its child's ends yet.
		await 10 '[ "$(sockets "$pid")" \
		    -eq $([ "$pid" = "$preauth" ] && echo 3 || echo 4) ]' ||
		    { fds "$pid"; return 1; }
		[ "$(fds "$pid" | grep -v " $state/replay\$" |
		    grep -vc ' socket:')" -eq 1 ]
		[ "$(readlink "/proc/$pid/fd/2")" = /dev/null ]
	done
	fds "$preauth" | grep -q " $state/replay\$"
	[ "$(others "$(monitor_pid)")" -eq 1 ]
	# Check that $listening is right, because not_from_listener could not
	# notice a wrong value.
	fds "$listener" | grep -qF "$listening"
	not_from_listener
	# No child inherits the table of the connected addresses.
	table=$(shared_table "$listener")
	[ "$(wc -w <<<"$table")" -eq 1 ]
	grep -q "^$table rw-p" "/proc/$listener/maps"
	refute grep "^$table rw-p" "/proc/$preauth/maps" \
	    "/proc/$(monitor_pid)/maps"
	pop_ask "USER alice"
	pop_ask "PASS x"
	session=$(child_pid)
	[ "$session" != "$preauth" ]
	holds_none "$session"
	holds_none "$(monitor_pid)"
	holds_none "$listener"
	[ "$(fds "$session" | wc -l)" -eq 12 ]
	await 5 '[ "$(sockets "$(broker_pid)")" -eq 2 ]'
	# The three sockets are syslog and the channels to session and broker.
	await 10 '[ "$(sockets "$(monitor_pid)")" -eq 3 ]'
	not_from_listener
	pop_ask QUIT
}

@test "pre-auth process, session and broker of a listener are confined as those of inetd" {
	mbox one | store alice
	pop_open
	pop_hear '^\+OK'
	preauth=$(child_pid)
	has_nothing "$preauth" "$(id -u kpopd)" "$(id -g kpopd)"
	[ "$(readlink "/proc/$preauth/root")" = "$state/preauth" ]
	grep -Eq 'Max open files +16 +16' "/proc/$preauth/limits"
	[ -n "${SANITIZER-}" ] ||
	    grep -Eq 'Max address space +67108864 +67108864' \
		"/proc/$preauth/limits"
	pop_ask "USER alice"
	pop_ask "PASS x"
	has_nothing "$(child_pid)" "$(id -u alice)" "$(id -g alice)"
	await 10 '[ "$(field "$(broker_pid)" NoNewPrivs)" = 1 ]'
	broker=$(broker_pid)
	[ "$(field "$broker" CapPrm)$(field "$broker" CapEff)" = \
	    "$(printf '%032d' 0)" ]
	[ "$(field "$broker" Uid)" = \
	    "$(id -u alice) $(id -u alice) $(id -u alice) $(id -u alice)" ]
	# The listener's signal settings are undone. The broker blocks the
	# signals that stop a service. The sandbox catches SIGSYS. SIGPIPE and
	# SIGXFSZ are ignored.
	[ "$(field "$broker" SigBlk)" = 0000000000004003 ]
	[ "$(field "$(child_pid)" SigBlk)" = 0000000000000000 ]
	for pid in "$broker" "$(child_pid)"; do
		[ -n "${SANITIZER-}" ] ||
		    await 10 '[ "$(field "$pid" SigCgt)" = 0000000040000000 ]'
		[ "$(field "$pid" SigIgn)" = 0000000001001000 ]
	done
	pop_ask QUIT
}

# bats test_tags=promise:2
@test "listener and monitor never open the keytab, nor read what clients send" {
	[ -z "${SANITIZER-}" ] || skip "ASan's own system calls are in the way"
	mbox one | store alice
	rm -rf "$WORLD/traces"
	mkdir "$WORLD/traces"
	listener_wake
	attach "$(listener_pid)" -ff -y -o "$WORLD/traces/t"
	pop alice QUIT
	await 5 'no_sessions'
	pkill -x strace
	await 5 '! pgrep -x strace >/dev/null'
	cd "$WORLD/traces"
	# The six processes are the listener, monitor, pre-auth process,
	# session, broker, and the process that checks whether the account has
	# expired.
	[ "$(ls | wc -l)" -eq 6 ]
	opened=$(grep -l 'openat.*server.keytab' t.*)
	[ "$(wc -w <<<"$opened")" -eq 1 ]
	grep -q 'chroot("preauth")' "$opened"
	listener=t.$(listener_pid)
	[ "$listener" != "$opened" ]
	grep -q accept4 "$listener"
	refute grep -E '^(recv[a-z]*|pread64)\(|^read\([0-9]+<socket:' \
	    "$listener"
	# main has read krb5.conf before. No process reads it again.
	refute grep -l 'open.*krb5.conf' t.*
}

@test "a pre-auth process, a session or a monitor that is killed ends only its own connection" {
	mbox one | store alice
	pop_open
	pop_hear '^\+OK'
	listener=$(listener_pid)
	kill -KILL "$(child_pid)"
	pop_hear_end
	pop_close
	await 5 'no_sessions'
	pop_login alice
	kill -KILL "$(child_pid)"
	pop_hear_end
	pop_close
	await 5 'no_sessions'
	pop_login alice
	kill -KILL "$(monitor_pid)" "$(child_pid)"
	pop_hear_end
	pop_close
	await 5 'no_sessions'
	run pop alice STAT QUIT
	[[ $output == *"+OK bye, 1 messages left"* ]]
	[ "$(listener_pid)" = "$listener" ]
	await 5 '[ -z "$(pgrep -r Z -P "$listener")" ]'
}

@test "SIGKILL of the listener harms no session, and xinetd starts another listener" {
	mbox one two | store alice
	pop_login alice
	listener=$(listener_pid)
	kill -KILL "$listener"
	await 5 "! kill -0 $listener 2>/dev/null"
	KRB5CCNAME=FILE:$WORLD/ccache.bob realm_login bob
	KRB5CCNAME=FILE:$WORLD/ccache.bob run pop bob QUIT
	[[ $output == *"+OK bye"* ]]
	[ "$(listener_pid)" != "$listener" ]
	pop_say "RETR 1"
	pop_hear_lines
	pop_ask "DELE 1"
	pop_ask QUIT '^\+OK bye, 1 '
	pop_hear_end
	[ "$(grep -c '^From ' "$(spool alice)")" -eq 1 ]
}

@test "SIGTERM ends the listener at once; its sessions continue, and xinetd starts another listener" {
	mbox one two | store alice
	pop_login alice
	listener=$(listener_pid)
	kill -TERM "$listener"
	await 10 "! kill -0 $listener 2>/dev/null"
	pop_say "RETR 2"
	pop_hear_lines
	pop_ask "DELE 2"
	pop_ask QUIT '^\+OK bye, 1 '
	pop_hear_end
	log_has 'logout .*reason=quit .*deleted=1 left=1'
	[ "$(grep -c '^From ' "$(spool alice)")" -eq 1 ]
	run pop alice QUIT
	[[ $output == *"+OK 1 messages"* ]]
	[ "$(listener_pid)" != "$listener" ]
}

@test "a listener without sessions exits with status 0 after the time in -a, and the next connection starts one" {
	listener_restart -a 10:10:100:2
	sed -i 's/log_on_success.*/log_on_success = EXIT/' "$WORLD/xinetd.conf"
	kill -HUP "$(cat "$WORLD/xinetd.pid")"
	pop_login alice
	listener=$(listener_pid)
	# Wait longer than the two seconds of -a, which count only while no
	# session runs.
	sleep 3
	kill -0 "$listener"
	pop_ask QUIT
	pop_hear_end
	await 5 "! kill -0 $listener 2>/dev/null"
	await 10 'grep -a "xinetd.*EXIT: .*kpop status=0" "$WORLD/syslog"'
	run pop alice QUIT
	[[ $output == *"+OK bye"* ]]
}

# may_be_read_again: waits until libkrb5 could notice that krb5.conf has
# changed. libkrb5 checks the time of krb5.conf once a second.
may_be_read_again() {
	await_second $((EPOCHSECONDS + 2))
}

@test "the listener reads krb5.conf again only after SIGHUP, and ignores a bad or empty file" {
	cp /etc/krb5.conf "$WORLD/server.conf"
	server_env="KRB5_CONFIG=$WORLD/server.conf" listener_restart
	mbox one | store alice
	run pop alice QUIT
	[[ $output == *"+OK 1 messages"* ]]
	listener=$(listener_pid)
	# With the new file, the principal alice is the user carol.
	rule='RULE:[1:$1](alice)s/alice/carol/'
	sed "s,KPOPD.TEST = {,&\nauth_to_local = $rule," /etc/krb5.conf \
	    >"$WORLD/server.conf"
	may_be_read_again
	run pop alice QUIT
	[[ $output == *"+OK 1 messages"* ]]
	kill -HUP "$listener"
	run pop alice QUIT
	[[ $output == *"-ERR [AUTH]"* ]]
	run pop carol QUIT
	[[ $output == *"+OK 0 messages"* ]]
	# If the file becomes empty during a login, kpopd still uses the
	# snapshot. Otherwise the default rules would permit more principals.
	pop_open
	pop_hear '^\+OK'
	pop_ask "USER alice"
	: >"$WORLD/server.conf"
	may_be_read_again
	pop_ask "PASS x" '^-ERR \[AUTH\]'
	pop_close
	run pop carol QUIT
	[[ $output == *"+OK 0 messages"* ]]
	# After SIGHUP, a file with an error is not used.
	echo '[libdefaults' >"$WORLD/server.conf"
	kill -HUP "$listener"
	log_has 'failed .*what="initializing libkrb5 from krb5.conf"'
	run pop carol QUIT
	[[ $output == *"+OK 0 messages"* ]]
	# A missing or an empty file is not used either. An editor may leave one
	# for a moment while it saves.
	for gone in 'rm' ': >'; do
		log_mark
		eval "$gone \"\$WORLD/server.conf\""
		kill -HUP "$listener"
		log_has 'failed .*what="reading krb5.conf again" error="it is absent or empty now"'
		run pop carol QUIT
		[[ $output == *"+OK 0 messages"* ]]
	done
	[ "$(listener_pid)" = "$listener" ]
}

@test "connections above the limit of all sessions are rejected at once with -ERR, and logged once a minute" {
	listener_restart -a 2:10:1000
	pop_login alice
	first=$pop_pid
	exec {held}<>/dev/tcp/127.0.0.1/1109
	await 5 'monitors_are 2'
	for _ in 1 2 3 4; do
		run hear_only
		is_rejected "$output"
	done
	log_count 1 \
	    'refused peer=127.0.0.1:[0-9]* reason="too many sessions" more=0'
	log_settle
	[ "$(log_lines | grep -c 'too many')" -eq 1 ]
	exec {held}>&-
	await 5 'monitors_are 1'
	# One session has ended, so another connection is admitted.
	run hear_only
	[[ $output != *"too many"* ]]
	[ "$first" = "$pop_pid" ]
	pop_ask QUIT
}

# answer_to ADDRESS [SECONDS]: connects from this IPv6 address, sends nothing,
# and prints what the server sends within SECONDS (three by default).
answer_to() {
	timeout "${2-3}" socat -u "TCP6:[2001:db8:0:1::1]:1109,bind=[$1]" -
}

@test "connections above the limit of one address or one IPv6 /64 are rejected, and other addresses are served" {
	ipv6_networks
	server_stop
	listener_on tcp::: "${kpopd[@]}" -a 10:2:1000
	pids=()
	for address in 2001:db8:0:1::1 2001:db8:0:1::2; do
		answer_to $address 60 >/dev/null 3>&- &
		pids+=($!)
	done
	await 5 'monitors_are 2 "$own_listener"'
	run answer_to 2001:db8:0:1::3 20
	[[ $output == "-ERR [SYS/TEMP]"* ]]
	run answer_to 2001:db8:0:2::1
	[[ $output != *"too many"* ]]
	# An IPv4 client of the IPv6 socket counts for its own IPv4 address.
	run timeout 3 socat -u TCP4:127.0.0.1:1109,bind=127.0.0.9 -
	[[ $output != *"too many"* ]]
	run pop alice QUIT
	[[ $output == *"+OK bye"* ]]
	log_has 'refused peer=\[2001:db8:0:1::3\]:[0-9]+ reason="too many sessions from this address"'
	log_has 'login peer=[^ ]+:[0-9]+'
	pkill -x socat
	wait "${pids[@]}" || true
}

@test "connections above the rate of all connections wait, and all of them are served" {
	listener_restart -a 100:100:2
	listener_wake
	# Wait until the credit has reached its maximum, which is two
	# connections.
	sleep 1.5
	begin=$(now_ms)
	pids=()
	for _ in 1 2 3 4 5 6; do
		# Send a byte. A client that closes its side before it has sent
		# a byte counts as a client that has left.
		wire 30 < <(printf x) 3>&- >/dev/null &
		pids+=($!)
	done
	wait "${pids[@]}"
	spent=$(($(now_ms) - begin))
	# Two connections are served at once, and the other four at two a
	# second.
	echo "$spent ms"
	[ "$spent" -ge 1700 ]
	[ "$spent" -lt 20000 ]
	log_has 'refused peer=none reason="too many connections in a second, they wait"'
}

@test "an address far above its rate is rejected at once, and another address is served meanwhile" {
	listener_restart -a 100:4:1000:300:1
	mbox one | store alice
	listener_wake
	listener=$(listener_pid)
	log_mark
	# Four connections get a pre-auth process each, and one more for each
	# second that the flood takes. About 36 are rejected.
	flood 127.0.0.66 40 byte >"$WORLD/answers"
	rejected=$(grep -c 'SYS/TEMP. too many connections' "$WORLD/answers")
	[ "$rejected" -ge 30 ]
	[ "$rejected" -le 36 ]
	log_has 'refused peer=127\.0\.0\.66:[0-9]+ reason="too many (connections in a second|sessions) from this address" more=0'
	run pop alice QUIT
	[[ $output == *"+OK 1 messages"*"+OK bye"* ]]
	await 5 'no_sessions'
	# The address earns new credit as time passes.
	await 5 '! is_rejected "$(flood 127.0.0.66 1 byte)" >/dev/null'
	[ "$(listener_pid)" = "$listener" ]
}

@test "an address that connects somewhat above its rate waits and is not rejected" {
	listener_restart -a 100:10:1000:300:2
	listener_wake
	begin=$(now_ms)
	# Ten connections are served at once. After these, one connection is
	# served every half second.
	for _ in $(seq 13); do
		run wire 30 < <(printf x)
		[[ $output != *"too many connections"* ]]
	done
	spent=$(($(now_ms) - begin))
	echo "$spent ms"
	[ "$spent" -ge 1200 ]
}

# processes_started: prints the last pid of this pid namespace. The namespace
# belongs to this world alone, so other tests do not count.
processes_started() {
	cut -d ' ' -f 5 /proc/loadavg
}

@test "an address that opens and closes connections without end costs few processes and delays no other address" {
	listener_restart -a 20:4:10:300:2
	mbox one | store alice
	run pop alice QUIT
	log_mark
	started=$(processes_started)
	flood 127.0.0.66 1000 close
	run pop alice QUIT
	[[ $output == *"+OK 1 messages"*"+OK bye"* ]] ||
	    { log_lines; return 1; }
	# If each connection got two processes, far more would be started.
	[ $(($(processes_started) - started)) -lt 400 ]
	log_has '"(before it was served|too many connections in a second from this address)" more=0'
	await 5 'no_sessions'
}

@test "a waiting connection that closes gets no process; one that sends bytes and then half-closes gets one" {
	listener_restart -a 100:100:1
	# The first connection uses up the credit. So the twenty others wait,
	# and are closed before they are served.
	pids=()
	wire 30 < <(printf x) >/dev/null 3>&- &
	pids+=($!)
	log_has 'refused peer=127\.0\.0\.1:'
	flood 127.0.0.66 20 close
	begin=$(now_ms)
	run wire 30 < <(printf x)
	spent=$(($(now_ms) - begin))
	wait "${pids[@]}" || true
	echo "$spent ms"
	# If each of the twenty connections were served, this client would wait
	# twenty seconds.
	[ "$spent" -lt 15000 ]
	log_has 'closed peer=127\.0\.0\.66:[0-9]+ reason="before it was served"'
	await 10 '[ "$(log_lines | grep -c "peer=127.0.0.1:")" -ge 2 ]'
}

# all_are_accepted: returns true if 31 clients are connected to the port, and
# the kernel's queue is empty.
all_are_accepted() {
	[ "$(ss -Htn state established sport = 1109 | wc -l)" -ge 31 ] &&
	    [ "$(ss -Hltn sport = 1109 | awk '{ print $2 }')" -eq 0 ]
}

@test "only the listener has the connections that wait in the listener, and it rejects them when it ends" {
	# One session begins each second, so the last connection waits for half
	# a minute.
	listener_restart -a 100:100:1:300:100
	listener_wake
	hold_connections 127.0.0.66 30
	listener=$(listener_pid)
	await 5 '[ "$(sockets "$listener")" -ge 4 ]'
	await 5 '[ "$(pgrep -x kpopd -P "$listener" | wc -l)" -ge 1 ]'
	monitor=$(pgrep -o -x kpopd -P "$listener")
	await 5 '[ -n "$(pgrep -x kpopd -P "$monitor")" ]'
	[ "$(sockets "$listener")" -ge 3 ]
	for pid in "$monitor" "$(pgrep -x kpopd -P "$monitor")"; do
		await 10 '[ "$(sockets "$pid")" \
		    -eq $([ "$pid" = "$monitor" ] && echo 4 || echo 3) ] &&
		    [ "$(fds "$pid" | grep -v " $state/replay\$" |
			grep -vc " socket:")" -eq 1 ]' ||
		    { fds "$pid"; return 1; }
	done
	exec {waits}<>/dev/tcp/127.0.0.1/1109
	await 5 'all_are_accepted'
	kill -TERM "$listener"
	read -r -t 15 answer <&"$waits"
	exec {waits}>&-
	release_connections
	[[ $answer == "" ]] || is_rejected "$answer"
	log_has 'refused peer=[0-9.]+:[0-9]+ reason="the listener ends"'
}

@test "the limits of one address do not apply to the connections of a proxy" {
	listener_restart -p -a 100:1:1000:300:1 -x 127.0.0.66
	listener_wake
	hold_connections 127.0.0.66 30
	await 5 'monitors_are 30'
	release_connections
	await 5 'no_sessions'
	# An address that is not a proxy's may have only one connection.
	exec {held}<>/dev/tcp/127.0.0.1/1109
	read -r -t 5 _ <&"$held"
	run hear_only
	exec {held}>&-
	is_rejected "$output"
}

# ticks PID: prints the processor time of the process, in hundredths of a
# second.
ticks() {
	awk '{ print $14 + $15 }' "/proc/$1/stat"
}

@test "a listener that has no free descriptor waits, logs one line, and continues when a descriptor is free" {
	listener_wake
	listener=$(listener_pid)
	limit=$(prlimit --pid "$listener" --nofile --noheadings --raw \
	    --output SOFT,HARD | tr ' ' :)
	prlimit --pid "$listener" --nofile="5:${limit#*:}"
	exec {held}<>/dev/tcp/127.0.0.1/1109
	log_has 'failed peer=none what="accepting a connection" error="Too many open files" more=0'
	# A listener that tried again without a back-off would use much
	# processor time during this pause.
	before=$(ticks "$listener")
	sleep 2
	[ $(($(ticks "$listener") - before)) -le 5 ]
	[ "$(log_lines | grep -c 'accepting a connection')" -eq 1 ]
	prlimit --pid "$listener" --nofile="$limit"
	exec {held}>&-
	run pop alice QUIT
	[[ $output == *"+OK bye"* ]]
	[ "$(listener_pid)" = "$listener" ]
}

@test "the listener does not block if another process takes a connection from its socket" {
	[ -z "${SANITIZER-}" ] || skip "ASan's own system calls are in the way"
	server_stop
	TAKER=$WORLD/taker listener_on tcp:127.0.0.1 "${kpopd[@]}" \
	    -a 100:100:1000
	await 10 '[ -s "$WORLD/taker" ]'
	taker=$(<"$WORLD/taker")
	# Wait until the other process handles SIGUSR1.
	await 10 '((0x$(field "$taker" SigCgt) & 1 << 9))'
	# The listener sees the connection, but tries to accept it only six
	# seconds later. By then the other process has taken the connection.
	attach "$own_listener" -o "$WORLD/accepts" -e trace=accept4 \
	    -e inject=accept4:delay_enter=6000000
	exec {held}<>/dev/tcp/127.0.0.1/1109
	await 5 'grep -q "^accept4(" "$WORLD/accepts"'
	kill -USR1 "$taker"
	# The call may end with EAGAIN, or by the signal of the listener's
	# timer.
	await 30 'grep -q "^accept4(.*) = " "$WORLD/accepts"'
	exec {held}>&-
	pkill -x strace
	await 5 '! pgrep -x strace >/dev/null'
	# The listener is the parent of the other process, and reaps it.
	await 10 "! kill -0 $taker 2>/dev/null"
	kill -TERM "$own_listener"
	await 10 "! kill -0 $own_listener 2>/dev/null"
}

@test "the listener serves a non-blocking Unix socket, where no limit of one address applies" {
	server_stop
	rm -f "$WORLD/kpop.socket"
	listener_on "unix:$WORLD/kpop.socket" "${kpopd[@]}" -a 10:1:100
	mbox one | store alice
	# This client stays connected while the second client connects. -a
	# admits one connection for each address, but a client of a Unix socket
	# has no address.
	exec {tick}<> <(:)
	socat - "UNIX-CONNECT:$WORLD/kpop.socket" >/dev/null <&"$tick" 3>&- &
	silent=$!
	await 5 'monitors_are 1 "$own_listener"'
	{
		versions
		apreq -m pop/mail.kpopd.test | framed
		printf 'USER alice\r\nPASS x\r\nQUIT\r\n'
	} >"$WORLD/all"
	socat -t 5 - "UNIX-CONNECT:$WORLD/kpop.socket" <"$WORLD/all" |
	    tr -d '\r\0' >"$WORLD/answers"
	[ "$(tail -n 1 "$WORLD/answers")" = "+OK bye, 1 messages left" ]
	kill "$silent"
	exec {tick}>&-
	kill -TERM "$own_listener"
	wait "$own_listener"
}

@test "descriptors that inetd left open and signals that it blocked or ignored do not harm the listener" {
	server_stop
	server_configure
	cat >"$WORLD/messy" <<-END
	#!/usr/bin/perl
	use POSIX;
	umask 0;
	\$SIG{\$_} = 'IGNORE' for qw(CHLD PIPE ALRM TERM HUP);
	POSIX::sigprocmask(SIG_BLOCK,
	    POSIX::SigSet->new(SIGALRM, SIGCHLD, SIGTERM, SIGHUP));
	POSIX::dup2(0, \$_) for 3 .. 200;
	exec '$KPOPD_BUILD/kpopd', @ARGV;
	END
	chmod 755 "$WORLD/messy"
	sed -i -e "s,^\([[:space:]]*server[[:space:]]*=\).*,\1 $WORLD/messy," \
	    -e 's/\(wait[[:space:]]*=\).*/\1 yes/' \
	    -e '/per_source\|instances\|flags/d' "$WORLD/xinetd.conf"
	xinetd_run
	mbox one | store alice
	pop_login alice
	has_nothing "$(child_pid)" "$(id -u alice)" "$(id -g alice)"
	[ "$(fds "$(child_pid)" | wc -l)" -eq 12 ]
	listener=$(listener_pid)
	await 10 '[ "$(fds "$listener" | wc -l)" -eq 7 ]'
	pop_ask QUIT
	pop_hear_end
	await 5 'no_sessions'
	await 5 '[ -z "$(pgrep -r Z -P "$listener")" ]'
	kill -TERM "$listener"
	await 10 "! kill -0 $listener 2>/dev/null"
}

@test "a connection is logged after syslogd was started again, because its monitor has its own socket to syslog" {
	listener_wake
	syslogd_stop
	syslogd_start
	# The pre-auth process is already in its jail when it logs this.
	log_mark
	run wire < <(printf 'CAPA\r\n')
	log_has 'refused peer=127.0.0.1:[0-9]+ reason='
}

@test "a listener that was started before syslogd logs as soon as syslogd runs" {
	syslogd_stop
	listener_restart -a 1:1:1000
	listener_wake
	hold_connections 127.0.0.1 1
	await 5 'monitors_are 1'
	syslogd_start
	run hear_only
	is_rejected "$output"
	release_connections
	log_has 'refused peer=127.0.0.1:[0-9]+ reason="too many sessions"'
}

@test "a listener serves clients with TLS and GSSAPI layers, and kpopd-tls does not have the listener's socket" {
	tls_make
	listener_restart $(tls_options)
	mbox one | store alice
	pop_open --tls -C "$WORLD/tls/ca.pem"
	pop_hear '^\+OK'
	pop_ask "USER alice"
	pop_ask "PASS x" '^\+OK 1 messages'
	listening=$(readlink "/proc/$(listener_pid)/fd/0")
	tls=$(jailed_in tls)
	fds "$tls" | grep -q 'socket:'
	fds "$tls" | refute grep -F "$listening"
	holds_key "$tls" tls_key_bytes
	holds_none "$(listener_pid)" tls_key_bytes
	holds_none "$(listener_pid)"
	pop_ask QUIT '^\+OK bye, 1 messages left'
	pop_close
	# If TLS begins with the first byte, a rejected client gets no text,
	# because it expects TLS.
	listener_restart -a 1:1:100 -T immediate $(tls_options)
	exec {held}<>/dev/tcp/127.0.0.1/1109
	await 5 'monitors_are 1'
	run hear_only
	exec {held}>&-
	[ -z "$output" ]
	log_has 'refused .*"too many sessions( from this address)?"'
	listener_restart -p
	run kpopc -p mail.kpopd.test 1109 \
	    < <(printf '%s\r\n' "USER alice" "PASS x" STAT QUIT)
	[[ $output == *"+OK 1 "*"+OK bye"* ]]
	log_has 'login .*layer=confidentiality'
}

# talk MODE OPTIONS USER: runs a session through kpopc with these options.
talk() {
	kpopc $1 $2 mail.kpopd.test 1109 \
	    < <(printf '%s\r\n' "USER $3" "PASS x" QUIT)
}

# kept_by_listener: prints the pid of the kept kpopd-tls of the listener.
kept_by_listener() {
	pgrep -x kpopd-tls -P "$(listener_pid)"
}

# tls_is_kept: returns true if a kept kpopd-tls of the listener takes requests.
tls_is_kept() {
	has_only_spare "$(kept_by_listener)"
}

# tls_login: logs in with TLS, and ends.
tls_login() {
	pop alice --tls -C "$WORLD/tls/ca.pem" QUIT
}

@test "a listener with a certificate keeps a kpopd-tls, which has nothing of the listener and ends with it" {
	tls_make
	listener_restart $(tls_options)
	listener_wake
	await 10 'tls_is_kept'
	keeper=$(kept_by_listener) listener=$(listener_pid)
	fds "$keeper" | refute grep -F "$(readlink "/proc/$listener/fd/0")"
	fds "$keeper" | refute grep -F memfd
	holds_none "$keeper"
	# On a busy machine the answer of the kept kpopd-tls may come too late,
	# so try five times.
	for _ in 1 2 3 4 5; do
		pop_open --tls -C "$WORLD/tls/ca.pem"
		pop_hear '^\+OK'
		pop_ask "USER alice"
		pop_ask "PASS x" '^\+OK'
		parent=$(field "$(jailed_in tls)" PPid)
		[ "$parent" != "$keeper" ] || break
		pop_ask QUIT
		pop_close
		await 10 'no_sessions'
	done
	[ "$parent" = "$keeper" ]
	# The kept kpopd-tls ends with the listener, and its connections go on.
	kill -KILL "$listener"
	await 5 '! kill -0 "$keeper" 2>/dev/null'
	pop_ask STAT '^\+OK 0 '
	pop_ask QUIT '^\+OK'
	pop_close
}

@test "a listener starts another kept kpopd-tls if one has ended, and meanwhile clients are served" {
	tls_make
	listener_restart $(tls_options)
	tls_login
	await 10 'tls_is_kept'
	first=$(kept_by_listener)
	kill -KILL "$first"
	tls_login
	# The listener starts one at most every ten seconds, when a client
	# connects.
	await 20 'tls_login >/dev/null && tls_is_kept'
	[ "$(kept_by_listener)" != "$first" ]
	# On a busy machine a kept kpopd-tls may answer too late.
	log_settle
	log_lines | grep -E ' (failed|fatal) ' |
	    refute grep -v 'what="asking the kept kpopd-tls" .*not answer'
}

@test "a listener without a certificate keeps no kpopd-tls" {
	pop alice QUIT
	refute kept_by_listener
}

@test "the capabilities that kpopd.service leaves are enough for kpopd" {
	[ -z "${SANITIZER-}" ] || skip "ASan has needs of its own"
	tls_make
	mbox one two | store alice
	left=$(sed -n 's/^CapabilityBoundingSet=//p' \
	    "$top/systemd/confinement.in" | tr 'A-Z\n' 'a-z ' |
	    sed 's/cap_/+/g; s/ $//; s/ /,/g')
	[ -n "$left" ]
	server_stop
	for mode in '' -p; do
		rm -rf "$state"
		listener_on tcp::: \
		    setpriv --bounding-set="-all,$left" --inh-caps=-all \
		    "${kpopd[@]}" $(tls_options) $mode
		for tls in '' "--tls -C $WORLD/tls/ca.pem"; do
			run talk "$mode" "$tls" alice
			[[ $output == *"+OK bye, 2 "* ]] || {
				echo "$mode $tls: $output"
				log_lines
				return 1
			}
		done
		[ "$(field "$own_listener" CapBnd)" != "$(field $$ CapBnd)" ]
		run talk "$mode" '' bob
		[[ $output == *"-ERR [AUTH]"* ]]
		own_listener_stop
	done
}

@test "the listener logs the client that a proxy names" {
	listener_restart -p -x 127.0.0.1
	run wire 30 < <(printf '%s\r\n' \
	    'PROXY TCP4 192.0.2.7 192.0.2.1 4711 1109' CAPA QUIT)
	[[ $output == "+OK"*"+OK bye"* ]]
	log_has 'refused peer=192\.0\.2\.7:4711 reason="no login: left"'
}

@test "kpopd refuses an argument of -a that is not a valid set of limits" {
	for limits in 0 1:0 1:1:0 1:1:1:-1 1:1:1:1:0 1:1:1:1:1:1 x 100001 '' \
	    1: :1; do
		run "$KPOPD_BUILD/kpopd" -a "$limits" </dev/null
		[ "$status" -eq 2 ]
		[[ $output == *"-a takes"* ]] ||
		    { echo "$limits: $output"; return 1; }
	done
	for limits in 1:1:1:0 1:1:1:0:1; do
		run "$KPOPD_BUILD/kpopd" -a $limits </dev/null
		[[ $output == *"standard input is not a connection"* ]]
	done
}

# many_networks COUNT: makes a connection from each of COUNT /64 networks of
# IPv6, and closes each one. Closes every second connection by a reset.
many_networks() {
	perl -MIO::Socket::IP -MSocket=:all -e '
	    for my $i (1 .. shift) {
		my $s = IO::Socket::IP->new(
		    LocalHost => sprintf("2001:db8:0:%x::1", $i),
		    PeerHost => "2001:db8:ffff::1", PeerPort => 1109)
		    or die "$i: $@";
		setsockopt($s, SOL_SOCKET, SO_LINGER, pack("ii", 1, 0))
		    if $i % 2;
	    }' "$1"
}

# bats test_tags=attack:6-1,attack:6-2
@test "an attacker with many /64 networks costs the listener no memory and no descriptor, and delays no client" {
	ipv6_networks
	server_stop
	listener_on tcp::: "${kpopd[@]}"
	many_networks 200
	# The listener has accepted all of them before it serves this one.
	pop alice QUIT >/dev/null
	await 5 'no_sessions'
	before=$(fds "$own_listener") memory=$(field "$own_listener" VmSize)
	many_networks "${MANY-2500}" 3>&- &
	attacker=$!
	begin=$(now_ms)
	run pop alice QUIT
	spent=$(($(now_ms) - begin))
	wait "$attacker"
	[[ $output == *"+OK bye"* && $spent -lt 20000 ]] ||
	    { echo "$spent ms: $output"; return 1; }
	await 5 'no_sessions'
	await 5 '[ "$(fds "$own_listener")" = "$before" ]'
	[ -n "${SANITIZER-}" ] ||
	    [ "$(field "$own_listener" VmSize)" = "$memory" ]
	# The log interval is a minute, so the line is logged at most twice.
	log_has ' closed .*before it was served'
	log_settle
	[ "$(log_lines | grep -c 'before it was served')" -le 2 ]
}

# bats test_tags=attack:6-4,attack:6-5,attack:6-6
@test "urgent data alone, bytes and a reset, and half-closed connections leave nothing in the listener" {
	listener_wake
	listener=$(listener_pid)
	before=$(fds "$listener")
	perl "$BATS_TEST_DIRNAME/programs/odd-ends.pl"
	run pop alice QUIT
	[[ $output == *"+OK bye"* ]] || { echo "$output"; return 1; }
	await 5 'no_sessions'
	[ "$(listener_pid)" = "$listener" ]
	await 5 '[ "$(fds "$listener")" = "$before" ]'
	log_lacks 'fatal|failed'
}

# bats test_tags=attack:6-7,attack:6-8,attack:6-9,attack:6-10
@test "the listener continues, with no more memory, after hundreds of signals, the killing of all monitors, and a SIGSTOP" {
	listener_wake
	listener=$(listener_pid)
	kill -HUP "$listener"
	run pop alice QUIT
	before=$(fds "$listener") memory=$(field "$listener" VmRSS | tr -dc 0-9)
	for _ in $(seq "${MANY-300}"); do
		kill -HUP "$listener"
		kill -ALRM "$listener"
		kill -CHLD "$listener"
	done
	for _ in $(seq 8); do
		exec {held}<>/dev/tcp/127.0.0.1/1109
		connections+=($held)
	done
	await 5 'monitors_are 8'
	kill -KILL $(pgrep -x kpopd -P "$listener")
	for held in "${connections[@]}"; do exec {held}>&-; done
	await 10 'no_sessions'
	await 5 '[ -z "$(pgrep -r Z -P "$listener")" ]'
	kill -STOP "$listener"
	pop alice QUIT >"$WORLD/answers" 3>&- &
	waiting=$!
	await 5 '[ "$(ss -Hltn sport = 1109 | awk "{ print \$2 }")" -ge 1 ]'
	pkill -KILL -x kpopc || :
	kill -CONT "$listener"
	run pop alice QUIT
	[[ $output == *"+OK bye"* ]] || { echo "$output"; return 1; }
	wait "$waiting" || :
	await 5 'no_sessions'
	[ "$(listener_pid)" = "$listener" ]
	fds "$listener"
	await 5 '[ "$(fds "$listener")" = "$before" ]'
	[ -n "${SANITIZER-}" ] ||
	    [ "$(field "$listener" VmRSS | tr -dc 0-9)" \
		-lt $((memory + 1024)) ] ||
	    { field "$listener" VmRSS; echo "$memory"; return 1; }
	log_lacks 'fatal peer=none'
}

@test "each start of the listener logs that other users can read the keytab or the TLS key; its connections do not" {
	tls_make
	cp "$WORLD/server.keytab" "$WORLD/exposed.keytab"
	cp "$WORLD/tls/server.key" "$WORLD/exposed.key"
	chmod 644 "$WORLD/exposed.keytab" "$WORLD/exposed.key"
	for _ in 1 2; do
		listener_restart -k "$WORLD/exposed.keytab" \
		    -c "$WORLD/tls/server.pem" -K "$WORLD/exposed.key"
		for _ in 1 2 3; do
			[[ $(pop alice QUIT) == *"+OK bye"* ]]
		done
		log_count 1 'exposed peer=none file="[^"]*/exposed.keytab" reason="every user can read it;'
		log_count 1 'exposed peer=none file="[^"]*/exposed.key" reason="every user can read it;'
	done
	rm "$WORLD/exposed.keytab" "$WORLD/exposed.key"
}
