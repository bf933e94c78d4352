#!/usr/bin/env bats
# Many at once: open sessions, silent peers, thousands of logins. What each
# costs, and that nothing is left. make load

load helpers/all

# As it is installed: xinetd's limits are part of what is tested.
setup_file() {
	server_configure
	cp "$WORLD/xinetd.conf" "$WORLD/roomy.conf"
	sed -i 's/\(instances[[:space:]]*=\).*/\1 UNLIMITED/' \
	    "$WORLD/roomy.conf"
	grep -E 'instances|per_source|cps' "$top/xinetd.d/kpop" |
	    grep -v '#' >"$WORLD/shipped"
	roomy
	begin_replay_cache
}

# roomy: the server with room for as many as a test opens.
roomy() {
	cp "$WORLD/roomy.conf" "$WORLD/xinetd.conf"
	xinetd_run
}

# listen_ourselves [kpopd option ...]: the server that accepts connections
# itself.
listen_ourselves() {
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
	local status=0
	[ -z "$holder" ] || kill "$holder" 2>/dev/null || :
	# A listener stays; its sessions must not.
	[ "$(sed -n 's/.*wait[[:space:]]*= //p' "$WORLD/xinetd.conf")" = no ] ||
	    server_stop
	end_test || status=1
	cmp -s "$WORLD/roomy.conf" "$WORLD/xinetd.conf" ||
	    { server_stop; roomy; }
	return $status
}

# people COUNT: so many users, each with a mailbox of 20 messages, and what
# their clients say first in $WORLD/hello.N.
people() {
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
		# Alice may read them all, so that one ticket does.
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

# connections ADDRESS …: sessions.pl's, into $ready; it holds them.
connections() {
	coproc MANY {
		exec perl "$top/tests/programs/sessions.pl" "$@" \
		    2>"$WORLD/sessions.err"
	}
	holder=$MANY_PID
	exec {many}<&"${MANY[0]}" {many_in}>&"${MANY[1]}"
	read -r -t 60 _ ready <&"$many" ||
	    { cat "$WORLD/sessions.err" >&2; return 1; }
}

# they_end: into $bye how many said so.
they_end() {
	exec {many_in}>&-
	eval "exec ${MANY[1]}>&-" 2>/dev/null || :
	read -r -t 60 _ bye <&"$many" || bye=0
	wait "$holder" 2>/dev/null || :
	holder=
}

# open_sessions: so many as there are, measured and served to the end. A page
# that several processes share counts for each in part.
open_sessions() {
	local count=20 pid n most=0 each
	! long || count=200
	people $count
	connections 127.0.0.1 $(seq -f "$WORLD/hello.%.0f" $count)
	[ "$ready" -eq $count ]
	for pid in $(pgrep -x kpopd); do
		n=$(private "$pid")
		[ "$n" -le "$most" ] || most=$n
	done
	each=$(($(clients memory) / count))
	echo "# load: $count sessions, $each KiB each with all its processes; private dirty of the largest process $most KiB" >&3
	[ -n "${SANITIZER-}" ] || [ "$most" -gt 0 ]
	[ -n "${SANITIZER-}" ] || [ "$each" -gt 0 ]
	[ -n "${SANITIZER-}" ] || [ "$each" -le 2048 ]
	they_end
	[ "$bye" -eq $count ]
	for n in $(seq $count); do cmp "$WORLD/twenty" "/var/mail/u$n"; done
	[ -z "$(ls /var/mail | grep -v '^u[0-9]*$\|^alice$')" ]
}

@test "many sessions open at once: each has its few hundred KiB, and all are served to the end" {
	open_sessions
}

@test "many sessions open at once, of one listener: each has less, and all are served to the end" {
	listen_ourselves -a 1000:1000:100000:0
	open_sessions
}

# silent MOST-PROCESSES [wait]: the peers, each with nothing to say.
silent() {
	count=60 bound=3
	! long || count=500 bound=1
	pop alice QUIT >/dev/null
	clients silence $count $bound "$1" "${2-now}" >&3
	spool_is alice one two
}

@test "silent peers from one address, under the limits that are shipped: a login from another waits no second" {
	server_stop
	server_configure
	while read -r name _ value; do
		sed -i "s/^\([[:space:]]*$name[[:space:]]*=\).*/\1 $value/" \
		    "$WORLD/xinetd.conf"
	done <"$WORLD/shipped"
	xinetd_run
	# Two for each of ten, and one good session's.
	silent 24
}

@test "silent peers from one address, under the limits that a listener has: a login from another waits no second" {
	listen_ourselves
	silent 45
}

@test "one address opens and closes a thousand connections a second: a login from another is served all the same" {
	seconds=3 bound=5
	! long || seconds=20 bound=0.5
	listen_ourselves
	pop alice QUIT >/dev/null
	listener=$(pgrep -o -x kpopd)
	clients flood "$listener" 1 1000 0 $seconds $bound >&3
	spool_is alice one two
	# What more addresses and connections do is shown, not judged: whoever
	# has so many can have all places.
	long || return 0
	for many in 1:10000 100:1000 1000:1000 10000:1000 10000:10000; do
		clients flood "$listener" "${many%:*}" "${many#*:}" 0 10 any >&3
	done
	for many in 1 100 10000; do
		clients flood "$listener" $many 1000 0.2 10 any >&3
	done
	await 40 '[ "$(pgrep -cx kpopd)" -eq 1 ]'
}

@test "silent peers from one address who are all let in: a login from another waits no second" {
	server_stop
	server_configure -t 120
	sed -i 's/\(instances[[:space:]]*=\).*/\1 UNLIMITED/' \
	    "$WORLD/xinetd.conf"
	xinetd_run
	silent 1010 wait
}

# logins COUNT: alice's, one after the other; how long they take, in seconds,
# into $took. The first that fails fails all.
logins() {
	local begin=$SECONDS
	mkdir -p "$WORLD/tickets"
	kinit -c "$WORLD/tickets/alice" -k -t "$WORLD/keytabs/alice.keytab" \
	    alice
	for _ in $(seq $(($1 / 100))); do
		"$KPOPD_BUILD/bench/client" -a kpop -t "$WORLD/tickets" \
		    -w kpopd -n 100 mail.kpopd.test 1109 alice STAT QUIT \
		    >"$WORLD/client" || return
	done
	took=$((SECONDS - begin))
}

# all_logged COUNT
all_logged() {
	await 5 \
	    "[ \"\$(log_lines | grep -ac 'logout .*reason=quit ')\" -eq $1 ]"
	[ "$(log_lines | grep -ac ' login ')" -eq "$1" ]
	log_lacks 'fatal|failed|refused'
}

@test "thousands of logins: none fails, nothing is left of them" {
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

@test "the same where kpopd accepts connections itself" {
	count=200
	! long || count=10000
	listen_ourselves -a 1000:1000:100000:0
	pop alice QUIT >/dev/null
	listener=$(pgrep -o -x kpopd)
	left_behind "$listener" 1 >"$WORLD/before"
	memory=$(private "$listener")
	log_mark
	logins $count
	echo \
	    "# load: $count logins in $took s, accepted by itself; the listener's own memory $memory KiB, then $(private "$listener")" >&3
	left_behind "$listener" 1 >"$WORLD/after"
	diff "$WORLD/before" "$WORLD/after"
	[ -n "${SANITIZER-}" ] ||
	    [ "$(private "$listener")" -le $((memory + 64)) ]
	all_logged $count
}
