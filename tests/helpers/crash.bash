# System calls of a running session: listed, stopped at, or failing, by strace.

# attach PID STRACE_OPTION ...: strace is at work on this process when this
# returns; $tracer is its pid.
attach() {
	local pid=$1 status
	shift
	strace -q -p "$pid" "$@" 2>"$WORLD/strace.err" 3>&- &
	tracer=$!
	for _ in $(seq 1000); do
		# One that was killed at once is none the worse for it.
		status=$(cat "/proc/$pid/status" 2>/dev/null) || return 0
		[[ ! $status =~ TracerPid:[[:space:]]+[1-9] ]] || return 0
		sleep 0.005
	done
	cat "$WORLD/strace.err" >&2
	return 1
}

# detached: strace has seen the end of its process.
detached() {
	wait "$tracer" 2>/dev/null || true
}

# hold_broker: the broker does nothing more when its session has ended, until it
# is killed or released. Until then it has to go on, because the session asks it
# to keep its locks.
hold_broker() {
	local tracer
	await 5 \
	    'broker=$(broker_pid) && [ -n "$broker" ] && [ "$broker" != "$session" ]' || return
	attach "$broker" -o /dev/null -e trace=shutdown \
	    -e inject=shutdown:delay_enter=600000000
	held_by=$tracer
}

release_broker() {
	kill -KILL "$held_by" 2>/dev/null || true
	wait "$held_by" 2>/dev/null || true
}

# kill_monitor: with the broker that is held. Its tracer would not see its end
# before the time is over.
kill_monitor() {
	kill -KILL "$monitor" "$broker" 2>/dev/null || true
	release_broker
}

# blind_monitor: it does not see that its session is stopped, which would be the
# session's end, until monitor_sees.
blind_monitor() {
	kill -STOP "$monitor"
}

monitor_sees() {
	kill -CONT "$monitor" 2>/dev/null || true
}

# calls_in FILE: the names of the system calls in what strace wrote, with how
# often each was made. The one that it was attached in does not count: it is the
# waiting before.
calls_in() {
	sed -n 's/^\([a-z0-9_]*\)(.*/\1/p' "$1" | grep -v '^restart_syscall$' |
	    sort | uniq -c | awk '{ print $2, $1 }'
}

# A mailbox by a number: how many messages, how large, and which of them are to
# go: some, the first, the last, all but one. Sets names, doomed (numbers), kept
# (names).
shape() {
	local i count kind
	RANDOM=$1 names=() doomed=() kept=()
	count=$((3 + RANDOM % 6)) kind=$((RANDOM % 4))
	for i in $(seq "$count"); do
		names+=("s$1n$i")
		case $kind in
		0) ((RANDOM % 2)) ;;
		1) [ "$i" -eq 1 ] ;;
		2) [ "$i" -ge $((count - 1)) ] ;;
		3) [ "$i" -ne 2 ] ;;
		esac && doomed+=("$i") || kept+=("s$1n$i")
	done
	[ ${#doomed[@]} -gt 0 ] || { doomed=(1) kept=("${names[@]:1}"); }
	shape_mbox "${names[@]}" >"$WORLD/old"
	shape_mbox "${kept[@]}" >"$WORLD/new"
}

shape_mbox() {
	local name
	for name in "$@"; do
		from_line
		make_message "$name" $((${name##*n} * ${name##*n} * 7 % 400))
		echo
	done
}

# Which system calls QUIT makes with this shape, and how many of each.
record_quit() {
	marked_session
	attach "$session" -o "$WORLD/trace"
	pop_ask QUIT
	pop_close
	detached
	cmp /var/mail/alice "$WORLD/new"
	calls_in "$WORLD/trace"
}

# A session on the mailbox $WORLD/old that has marked the messages $doomed:
# $session and $monitor are its processes.
marked_session() {
	local i
	store alice <"$WORLD/old"
	pop_login alice
	for i in "${doomed[@]}"; do
		pop_ask "DELE $i"
	done
	session=$(child_pid) monitor=$(monitor_pid)
}

# killed_quit HOW CALL N: QUIT of a marked session, killed at its Nth CALL:
# alone, so that its broker goes on, or together with broker and monitor, as by
# a power failure. Sets $said to what the client has heard: QUIT's answer, or
# "".
killed_quit() {
	local how=$1 call=$2 n=$3
	marked_session
	[ "$how" = alone ] || hold_broker
	attach "$session" -o /dev/null -e "trace=$call" \
	    -e "inject=$call:signal=KILL:when=$n"
	pop_say QUIT
	detached
	[ "$how" = alone ] || kill_monitor
	IFS= read -r -t 5 said <&"$pop_in" || said=
	pop_close
	await 5 '! pgrep -x kpopd >/dev/null'
}

# break_off USER N: a removal of USER's message N that is decided and not
# finished: session, broker and monitor were killed in QUIT.
break_off() {
	pop_login "$1"
	pop_ask "DELE $2"
	session=$(child_pid) monitor=$(monitor_pid)
	hold_broker
	attach "$session" -o /dev/null -e trace=fsync \
	    -e inject=fsync:signal=KILL:when=3
	pop_say QUIT
	detached
	kill_monitor
	pop_close
	await 10 '! pgrep -x kpopd >/dev/null'
}

# A process that holds a POSIX lock on alice's spool whenever it is told to, as
# an MDA would.
locker_start() {
	rm -f "$WORLD"/locker.*
	mkfifo "$WORLD/locker.in" "$WORLD/locker.out"
	perl -e 'use POSIX; $| = 1; while (<STDIN>) {
	    if (/L/) { open F, "+<", "/var/mail/alice" or die; $l = pack "s s l! l! i", F_WRLCK, 0, 0, 0, 0;
	        fcntl F, F_SETLKW, $l or die } else { close F }
	    print "done\n" }' <"$WORLD/locker.in" >"$WORLD/locker.out" 3>&- &
	locker=$!
	exec {locker_in}>"$WORLD/locker.in" {locker_out}<"$WORLD/locker.out"
}

locker() {
	echo "$1" >&"$locker_in"
	read -r -t 5 _ <&"$locker_out"
}

locker_stop() {
	[ -n "${locker-}" ] || return 0
	kill "$locker" 2>/dev/null || true
	exec {locker_in}>&- {locker_out}<&-
	locker=
}

# Everybody who works for alice's connection is killed at once, as by a power
# failure.
kill_connection() {
	pkill -KILL -x kpopd || true
	await 5 '! pgrep -x kpopd >/dev/null'
}
