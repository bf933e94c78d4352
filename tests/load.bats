#!/usr/bin/env bats
# Checks that kpopd serves many open sessions, silent peers and thousands of
# logins, and measures what each costs. "make load" runs the long form.

load helpers/all

setup_file() {
	start_unlimited
	grep -E 'instances|per_source|cps' "$top/xinetd.d/kpop" |
	    grep -v '#' >"$WORLD/shipped"
	begin_replay_cache
}

# start_unlimited [KPOPD-OPTION ...]: starts a server without xinetd's limit on
# the number of connections.
start_unlimited() {
	server_configure "$@"
	sed -i 's/\(instances[[:space:]]*=\).*/\1 UNLIMITED/' \
	    "$WORLD/xinetd.conf"
	xinetd_run
}

# start_listener [KPOPD-OPTION ...]: starts a listener, which accepts
# connections itself.
start_listener() {
	server_stop
	server_configure "$@"
	sed -i 's/\(wait[[:space:]]*=\).*/\1 yes/' "$WORLD/xinetd.conf"
	xinetd_run
}

holder=
setup() {
	begin_test
	realm_login alice
	mbox one two | store alice
}

teardown() {
	[ -z "$holder" ] || kill "$holder" 2>/dev/null || :
	# end_test waits until each kpopd has ended, but a listener does not
	# end.
	[ "$(sed -n 's/.*wait[[:space:]]*= //p' "$WORLD/xinetd.conf")" = no ] ||
	    server_stop
	end_test
}

# add_users COUNT: adds COUNT users, each with a mailbox of 20 messages. Writes
# the bytes that user N's client sends first to $WORLD/hello.N.
add_users() {
	local n names=()
	for n in $(seq "$1"); do
		id "u$n" >/dev/null 2>&1 ||
		    echo \
			"u$n:x:$((5000 + n)):$((5000 + n))::/home/u$n:/bin/sh" \
			>>/etc/passwd
		names+=("m$n")
	done
	mbox $(seq -f 'm%.0f' 20) >"$WORLD/twenty"
	for n in $(seq "$1"); do
		install -d -o "$((5000 + n))" -g "$((5000 + n))" -m 700 \
		    "/home/u$n"
		# Permit alice to open each mailbox, so that all sessions can
		# use one ticket.
		echo alice@KPOPD.TEST >"/home/u$n/.k5login"
		chown "$((5000 + n))" "/home/u$n/.k5login"
		install -o "$((5000 + n))" -g mail -m 660 "$WORLD/twenty" \
		    "/var/mail/u$n"
		{
			versions
			apreq pop/mail.kpopd.test | framed
			printf 'USER u%d\r\nPASS x\r\n' "$n"
		} >"$WORLD/hello.$n"
	done
}

# open_connections ADDRESS FILE …: opens a session for each file
# (tests/programs/sessions.pl). Sets $ready to the number of sessions. Sets
# $holder to the pid of the program that keeps the sessions open.
open_connections() {
	coproc MANY {
		exec perl "$top/tests/programs/sessions.pl" "$@" \
		    2>"$WORLD/sessions.err"
	}
	holder=$MANY_PID
	exec {many}<&"${MANY[0]}" {many_in}>&"${MANY[1]}"
	read -r -t 60 _ ready <&"$many" ||
	    { cat "$WORLD/sessions.err" >&2; return 1; }
}

# end_connections: ends the sessions by QUIT. Sets $bye to the number of
# sessions that got an answer.
end_connections() {
	exec {many_in}>&-
	eval "exec ${MANY[1]}>&-" 2>/dev/null || :
	read -r -t 60 _ bye <&"$many" || bye=0
	wait "$holder" 2>/dev/null || :
	holder=
}

# many_sessions: opens many sessions, measures their memory and ends the
# sessions. If several processes share a page, each counts an equal part of the
# page.
many_sessions() {
	local count=20 pid n most=0 each
	! long || count=200
	add_users $count
	open_connections 127.0.0.1 $(seq -f "$WORLD/hello.%.0f" $count)
	[ "$ready" -eq $count ]
	for pid in $(pgrep -x kpopd); do
		# A pre-auth process may still be ending.
		n=$(private "$pid" 2>/dev/null) || continue
		[ "$n" -le "$most" ] || most=$n
	done
	each=$(($(clients memory) / count))
	echo "# load: $count sessions, $each KiB each with all its processes;" \
	    "private dirty of the largest process $most KiB" >&3
	[ -n "${SANITIZER-}" ] || [ "$most" -gt 0 ]
	[ -n "${SANITIZER-}" ] || [ "$each" -gt 0 ]
	[ -n "${SANITIZER-}" ] || [ "$each" -le 2048 ]
	end_connections
	[ "$bye" -eq $count ]
	for n in $(seq $count); do cmp "$WORLD/twenty" "/var/mail/u$n"; done
	ls /var/mail | refute grep -v '^u[0-9]*$\|^alice$'
}

@test "many sessions at once under xinetd are all served, with at most 2 MiB of memory each" {
	many_sessions
}

@test "many sessions at once of one listener are all served, with at most 2 MiB of memory each" {
	start_listener -a 1000:1000:100000:0
	many_sessions
}

# silent_peers MOST-PROCESSES [wait]: opens connections that send nothing
# (tests/programs/clients.pl), and measures a login at the same time.
silent_peers() {
	count=60 bound=10
	! long || count=500 bound=1
	pop alice QUIT >/dev/null
	clients silence $count $bound "$1" "${2-now}" >&3
	spool_is alice one two
}

@test "silent peers of one address delay another address's login by less than a second under xinetd's shipped limits" {
	server_stop
	server_configure
	while read -r name _ value; do
		sed -i "s/^\([[:space:]]*$name[[:space:]]*=\).*/\1 $value/" \
		    "$WORLD/xinetd.conf"
	done <"$WORLD/shipped"
	xinetd_run
	# Ten connections have two processes each, and one session has four.
	silent_peers 24
}

@test "silent peers of one address delay another address's login by less than a second under a listener's default limits" {
	start_listener
	silent_peers 45
}

@test "a listener serves a login while another address opens and closes a thousand connections a second" {
	seconds=3 bound=10
	! long || seconds=20 bound=0.5
	start_listener
	pop alice QUIT >/dev/null
	listener=$(pgrep -o -x kpopd)
	clients flood "$listener" 1 1000 0 $seconds $bound >&3
	spool_is alice one two
	# More addresses and connections can use all slots, so these runs only
	# measure.
	long || return 0
	for many in 1:10000 100:1000 1000:1000 10000:1000 10000:10000; do
		clients flood "$listener" "${many%:*}" "${many#*:}" 0 10 any >&3
	done
	for many in 1 100 10000; do
		clients flood "$listener" $many 1000 0.2 10 any >&3
	done
	await 40 '[ "$(pgrep -cx kpopd)" -eq 1 ]'
}

@test "silent peers of one address delay another address's login by less than a second if no limit rejects them" {
	server_stop
	start_unlimited -t 120
	silent_peers 1010 wait
}

# logins COUNT [CLIENT-OPTION ...]: logs in as alice COUNT times, one after the
# other, with these options of bench/client. Sets $took to the seconds that this
# takes. Stops at the first login that fails, and fails.
logins() {
	local begin=$SECONDS
	mkdir -p "$WORLD/tickets"
	kinit -c "$WORLD/tickets/alice" -k -t "$WORLD/keytabs/alice.keytab" \
	    alice
	for _ in $(seq $(($1 / 100))); do
		"$KPOPD_BUILD/bench/client" -a kpop -t "$WORLD/tickets" \
		    -w kpopd -n 100 "${@:2}" mail.kpopd.test 1109 alice STAT \
		    QUIT >"$WORLD/client" || return
	done
	took=$((SECONDS - begin))
}

# all_logged COUNT: returns true if the log has COUNT logins and logouts, and no
# failure.
all_logged() {
	await 5 \
	    "[ \"\$(log_lines | grep -ac 'logout .*reason=quit ')\" -eq $1 ]"
	[ "$(log_lines | grep -ac ' login ')" -eq "$1" ]
	log_lacks 'fatal|failed|refused'
}

# A short test run makes 200 logins.
@test "none of ten thousand logins under xinetd fails, and they leave no process, descriptor or file" {
	count=200
	! long || count=10000
	xinetd=$(cat "$WORLD/xinetd.pid")
	pop alice QUIT >/dev/null
	left_behind "$xinetd" 0 >"$WORLD/before"
	log_mark
	logins $count
	echo "# load: $count logins in $took s" >&3
	left_behind "$xinetd" 0 >"$WORLD/after"
	diff "$WORLD/before" "$WORLD/after"
	all_logged $count
}

@test "none of ten thousand logins of a listener fails, and they leave no process, descriptor, file or memory" {
	count=200
	! long || count=10000
	start_listener -a 1000:1000:100000:0
	pop alice QUIT >/dev/null
	listener=$(pgrep -o -x kpopd)
	left_behind "$listener" 1 >"$WORLD/before"
	memory=$(private "$listener")
	log_mark
	logins $count
	echo "# load: $count logins of a listener in $took s; its own memory" \
	    "was $memory KiB, then $(private "$listener") KiB" >&3
	left_behind "$listener" 1 >"$WORLD/after"
	diff "$WORLD/before" "$WORLD/after"
	[ -n "${SANITIZER-}" ] ||
	    [ "$(private "$listener")" -le $((memory + 64)) ]
	all_logged $count
}

# faults_below PID: prints the number of page faults of those children of the
# process that have ended.
faults_below() {
	sed 's/.*) //' "/proc/$1/stat" | cut -d ' ' -f 9
}

@test "none of ten thousand logins in TLS by a kept kpopd-tls fails, and they leave it no process, descriptor, file or memory" {
	count=200
	! long || count=10000
	tls_make
	start_listener -a 1000:1000:100000:0 $(tls_options)
	pop alice --tls -C "$WORLD/tls/ca.pem" QUIT >/dev/null
	listener=$(pgrep -o -x kpopd)
	await 20 'keeper=$(pgrep -x kpopd-tls -P "$listener") &&
	    has_only_spare "$keeper"'
	logins 100 -l tls
	await 10 'has_only_spare "$keeper"'
	await 5 'fds "$keeper" | grep -q pidfd'
	left_behind "$keeper" 1 >"$WORLD/before"
	memory=$(private "$keeper") faults=$(faults_below "$keeper")
	log_mark
	logins $count -l tls
	await 10 'has_only_spare "$keeper"'
	echo "# load: $count logins in TLS in $took s; the memory of the kept" \
	    "kpopd-tls was $memory KiB, then $(private "$keeper") KiB" >&3
	await 5 'fds "$keeper" | grep -q pidfd'
	left_behind "$keeper" 1 >"$WORLD/after"
	diff "$WORLD/before" "$WORLD/after"
	[ -n "${SANITIZER-}" ] ||
	    [ "$(private "$keeper")" -le $((memory + 64)) ]
	all_logged $count
	# The kept kpopd-tls has made a process for each login: every process
	# causes page faults.
	[ $(($(faults_below "$keeper") - faults)) -ge $((20 * count)) ]
}
