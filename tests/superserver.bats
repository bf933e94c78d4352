#!/usr/bin/env bats
# Checks that the service stays alive: when the superserver is started again,
# when kpopd or a library is replaced, and while kpopd cannot start.

load helpers/all

# Each test starts a server of its own.
setup_file() { :; }

setup() {
	begin_test
	realm_login bob
	mbox one two | store bob
	mkdir -p "$WORLD/lib"
	rm -f "$WORLD/options"
}

teardown() {
	server_stop
	end_test
}

# start_waiting [KPOPD-OPTION ...]: starts an xinetd that starts a listener with
# the first connection. The listener is a copy of kpopd, and takes one library
# from a directory of its own. Its further options are in $WORLD/options.
start_waiting() {
	local library
	cp "$KPOPD_BUILD/kpopd" "$WORLD/kpopd"
	library=$(ldd "$WORLD/kpopd" | awk '$1 ~ /^libcom_err\./ { print $3 }')
	cp "$library" "$WORLD/lib/"
	touch "$WORLD/options"
	server_under "export LD_LIBRARY_PATH=$WORLD/lib
	    exec $WORLD/kpopd \"\${@:2}\" \$(<$WORLD/options)" "$@"
	server_stop
	sed -i -e 's/\(wait[[:space:]]*=\).*/\1 yes/' \
	    -e '/per_source\|instances\|flags/d' "$WORLD/xinetd.conf"
	xinetd_run
}

# listener_pid: prints the pid of the listener that the running xinetd has
# started.
listener_pid() {
	pgrep -o -x kpopd -P "$(cat "$WORLD/xinetd.pid")"
}

# serves: returns true if bob has a session, and prints its answers otherwise.
serves() {
	realm_login bob
	run pop bob QUIT
	[[ $output == *"+OK 2 messages"* ]] || { echo "$output"; return 1; }
}

# is_unable: connects. Returns true if the answer is that the server cannot
# serve now.
is_unable() {
	local answer="the server cannot serve now, try again later"
	run wire </dev/null
	[ "$output" = "-ERR [SYS/TEMP] $answer"$'\r' ] ||
	    { echo "answer: $output"; return 1; }
}

# open_session: logs alice in, for a session that lasts longer than the
# listener.
open_session() {
	realm_login alice
	pop_begin alice
}

# session_lasts: returns true if that session still answers, and ends it.
session_lasts() {
	pop_ask NOOP '^\+OK'
	pop_ask QUIT '^\+OK'
	pop_hear_end
}

@test "the listener ends with its xinetd, however that ends, and the next xinetd serves at once" {
	local how listener
	start_waiting
	for how in TERM KILL; do
		open_session
		listener=$(listener_pid)
		kill -$how "$(cat "$WORLD/xinetd.pid")"
		await 5 "! kill -0 $listener 2>/dev/null"
		rm -f "$WORLD/xinetd.pid"
		xinetd_run
		serves
		[ "$(listener_pid)" != "$listener" ]
		session_lasts
		serves
	done
}

@test "a listener that hangs ends with its xinetd too" {
	local listener
	start_waiting
	serves
	listener=$(listener_pid)
	kill -STOP "$listener"
	kill -KILL "$(cat "$WORLD/xinetd.pid")"
	await 5 "! kill -0 $listener 2>/dev/null"
}

@test "a kpopd whose xinetd ends while it cannot start ends too" {
	local unable
	start_waiting
	echo --wrong >"$WORLD/options"
	is_unable
	unable=$(listener_pid)
	# A stopped process does not end by itself after a while.
	kill -STOP "$unable"
	kill -TERM "$(cat "$WORLD/xinetd.pid")"
	await 10 "! kill -0 $unable 2>/dev/null"
}

# replace FILE: replaces the file by a copy as dpkg does: the new file is
# renamed to the name of the old one.
replace() {
	cp "$1" "$1.dpkg-new"
	mv "$1.dpkg-new" "$1"
}

# successor_serves PID: waits until another listener than this one serves.
successor_serves() {
	await 10 "serves >/dev/null && [ \"\$(listener_pid)\" != $1 ]"
}

@test "a new kpopd or a new library replaces the listener, and its sessions go on" {
	local file listener
	start_waiting
	for file in "$WORLD/kpopd" "$WORLD"/lib/libcom_err.*; do
		open_session
		listener=$(listener_pid)
		serves
		[ "$(listener_pid)" = "$listener" ]
		log_mark
		replace "$file"
		successor_serves "$listener"
		log_count 1 'listener peer=none reason="kpopd or a library was replaced"$'
		session_lasts
		listener=$(listener_pid)
		serves
		[ "$(listener_pid)" = "$listener" ]
	done
}

# start_traced STRACE-OPTION ...: does the same as start_waiting, but the
# listener runs under strace until trace_no_more.
start_traced() {
	[ -z "${SANITIZER-}" ] || skip "ASan's own system calls are in the way"
	start_waiting
	rm -f "$WORLD/start.trace"
	cp "$WORLD/under" "$WORLD/under.plain"
	# With -D the listener is a child of xinetd, and strace is not.
	sed -i "s,exec ,&strace -D -o $WORLD/start.trace $* ," "$WORLD/under"
}

# trace_no_more: ends strace. The next listener runs without it.
trace_no_more() {
	cp "$WORLD/under.plain" "$WORLD/under"
	pkill -KILL -x strace
	await 5 '! pgrep -x strace >/dev/null'
}

@test "a kpopd that was replaced while it started is followed by the new one" {
	local listener
	start_traced -e trace=getsockopt \
	    -e inject=getsockopt:signal=STOP:when=1
	hear_only 1 >/dev/null 3>&- &
	await 5 "grep -qs 'stopped by SIGSTOP' $WORLD/start.trace"
	listener=$(listener_pid)
	replace "$WORLD/kpopd"
	kill -CONT "$listener"
	trace_no_more
	successor_serves "$listener"
}

@test "an upgrade of many libraries starts so few listeners that systemd would keep the service" {
	local end=$((EPOCHSECONDS + 9)) listener listeners=0
	start_waiting
	while [ "$EPOCHSECONDS" -lt "$end" ]; do
		serves
		if [ "$(listener_pid)" != "${listener-}" ]; then
			listener=$(listener_pid)
			listeners=$((listeners + 1))
		fi
		replace "$WORLD"/lib/libcom_err.*
	done
	[ "$listeners" -ge 2 ]
	[ "$listeners" -le 5 ]
}

@test "a listener that is to end when it is idle for a second serves for three" {
	local begun
	start_waiting -a 200:20:50:1
	begun=${EPOCHREALTIME/./}
	serves
	await 20 '! listener_pid >/dev/null'
	[ $((${EPOCHREALTIME/./} - begun)) -gt 3000000 ]
}

@test "a listener serves on while no kpopd is installed, and the next kpopd replaces it" {
	local listener
	start_waiting
	serves
	listener=$(listener_pid)
	cp "$WORLD/kpopd" "$WORLD/kpopd.new"
	rm "$WORLD/kpopd"
	await_second $((EPOCHSECONDS + 4))
	serves
	serves
	[ "$(listener_pid)" = "$listener" ]
	mv "$WORLD/kpopd.new" "$WORLD/kpopd"
	successor_serves "$listener"
}

@test "connections that wait for their turn are served by the old listener after an upgrade" {
	local i listener pids=()
	start_waiting -p -a 200:20:2
	hear_only 1 >/dev/null || :
	await 10 'listener=$(listener_pid)'
	log_mark
	# One is served at once; the others wait for a second each.
	for i in 1 2 3 4 5 6; do
		hear_only 60 >"$WORLD/answer.$i" 3>&- &
		pids+=($!)
	done
	log_has 'reason="too many connections in a second, they wait"'
	replace "$WORLD/kpopd"
	await 10 "hear_only 1 >/dev/null; [ \"\$(listener_pid)\" != $listener ]"
	await 20 '[ "$(cat "$WORLD"/answer.? | grep -c "^+OK ")" -eq 6 ]' || :
	pkill -x socat
	wait "${pids[@]}" || :
	for i in 1 2 3 4 5 6; do
		grep -q '^+OK ' "$WORLD/answer.$i" ||
		    { cat "$WORLD/answer.$i"; return 1; }
	done
}

# The ways in which kpopd cannot start: what each changes, and what mends it.
# Each is something that an administrator repairs or that passes.
obstacles=(options account missing empty malformed readonly library)

obstruct() {
	cp /etc/krb5.conf "$WORLD/krb5.conf.whole"
	cp /etc/passwd "$WORLD/passwd.whole"
	case $1 in
	options) echo --wrong >"$WORLD/options" ;;
	account) sed -i '/^kpopd:/d' /etc/passwd ;;
	missing) mv /etc/krb5.conf /etc/krb5.conf.away ;;
	empty) : >/etc/krb5.conf ;;
	malformed) echo '[libdefaults' >/etc/krb5.conf ;;
	readonly)
		mkdir -p "$state"
		mount -t tmpfs -o ro,mode=755 kpopd "$state"
		;;
	library)
		# kpopd loads this library only with -p.
		echo -p >"$WORLD/options"
		: >"$WORLD/lib/libgssapi_krb5.so.2"
		;;
	esac
}

mend() {
	: >"$WORLD/options"
	rm -f /etc/krb5.conf.away
	cp "$WORLD/krb5.conf.whole" /etc/krb5.conf
	cp "$WORLD/passwd.whole" /etc/passwd
	! mountpoint -q "$state" || umount -l "$state"
	rm -f "$WORLD/lib/libgssapi_krb5.so.2"
}

# why OBSTACLE: prints what kpopd logs about it.
why() {
	case $1 in
	options) echo 'unknown option, or its argument .*: --wrong' ;;
	account) echo 'the pre-auth user cannot be used: unknown user: kpopd' ;;
	malformed) echo 'Kerberos does not work' ;;
	library) echo 'libgssapi cannot be loaded: .*libgssapi_krb5.so.2' ;;
	readonly) echo 'cannot write in directory .*: Read-only file system' ;;
	*) echo 'krb5.conf is missing or empty' ;;
	esac
}

# logged_rarely PATTERN: returns true if at least one line matches the pattern,
# and at most one for each five seconds since $begun. A listener that cannot
# start logs one line, and answers clients for five seconds before it ends.
logged_rarely() {
	local lines most
	log_has "$1"
	most=$((1 + (${EPOCHREALTIME/./} - begun) / 5000000))
	lines=$(log_lines | grep -aEc -- "$1")
	[ "$lines" -le $most ] || { echo "$lines lines: $1"; return 1; }
}

@test "a listener that cannot start logs why once, answers SYS/TEMP for a while, and serves when the cause is gone" {
	local obstacle begun
	start_waiting
	for obstacle in "${obstacles[@]}"; do
		log_mark
		obstruct $obstacle
		begun=${EPOCHREALTIME/./}
		is_unable || { mend; echo "$obstacle"; return 1; }
		is_unable || { mend; echo "$obstacle"; return 1; }
		is_unable || { mend; echo "$obstacle"; return 1; }
		mend
		await 15 'serves >/dev/null'
		logged_rarely "fatal peer=none error=\"$(why $obstacle)"
		# The superserver gives up what ends at once.
		[ $((${EPOCHREALTIME/./} - begun)) -gt 4500000 ]
		kill -TERM "$(listener_pid)"
	done
}

@test "a kpopd that cannot start answers its one connection SYS/TEMP" {
	local obstacle
	server_under "export LD_LIBRARY_PATH=$WORLD/lib
	    exec \"\$@\" \$(<$WORLD/options)"
	: >"$WORLD/options"
	for obstacle in "${obstacles[@]}"; do
		log_mark
		obstruct $obstacle
		is_unable || { mend; echo "$obstacle"; return 1; }
		mend
		serves
		log_count 1 "fatal peer=[^ ]+ error=\"$(why $obstacle)"
	done
}

@test "a listener that lacks a descriptor or that is to recover answers SYS/TEMP for a while" {
	local begun
	start_traced -e trace=signalfd4 -e inject=signalfd4:error=EMFILE
	begun=${EPOCHREALTIME/./}
	is_unable
	is_unable
	logged_rarely 'fatal peer=none error="preparing for signals'
	kpopd_ends 10
	[ $((${EPOCHREALTIME/./} - begun)) -gt 4500000 ]
	server_stop
	start_waiting
	echo --recover >"$WORLD/options"
	begun=${EPOCHREALTIME/./}
	is_unable
	is_unable
	logged_rarely 'fatal peer=none error="--recover serves no client'
}

@test "a kpopd whose cipher suites do not exist answers its one connection SYS/TEMP" {
	tls_make
	server_start $(tls_options) -C nonsense
	is_unable
	log_has 'fatal peer=[^ ]+ error="-C takes cipher suites that OpenSSL'
}

@test "a kpopd that cannot start sends nothing if its clients begin with TLS" {
	local mistake
	tls_make
	for mistake in "-T immediate -u nosuchuser" "--wrong -T immediate" \
	    "-t x -T immediate" "-T immediate -C nonsense"; do
		server_start $(tls_options) $mistake
		run wire </dev/null
		[ -z "$output" ] || { echo "$mistake: $output"; return 1; }
		log_count 1 ' kpopd\[[0-9]+\]: fatal peer=[^ ]+ error='
		server_stop
	done
	server_start -T immediate
	run wire </dev/null
	[ -z "$output" ]
	log_has 'fatal peer=[^ ]+ error="-T needs a certificate'
}

@test "a listener serves without TLS, and ends with its xinetd, if kpopd-tls cannot be started" {
	local listener
	tls_make
	rm -f "$state/tls.works"
	start_waiting $(tls_options)
	mount --bind /dev/null "$KPOPD_BUILD/kpopd-tls"
	run serves
	listener=$(listener_pid)
	kill -STOP "$listener"
	kill -KILL "$(cat "$WORLD/xinetd.pid")"
	await 10 '! ss -Hltn sport = 1109 | grep -q .' || status=1
	umount "$KPOPD_BUILD/kpopd-tls"
	[ "$status" -eq 0 ] || { echo "$output"; return 1; }
	log_count 1 'fatal peer=none error="starting .*/kpopd-tls'
}
