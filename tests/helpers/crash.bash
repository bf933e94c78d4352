# Lists the system calls of a running session with strace. Can stop the session
# at a system call, make the call fail, or kill the session there.

# attach PID STRACE-OPTION ...: attaches strace to the process. Sets $tracer to
# strace's pid.
attach() {
	local pid=$1 says="$WORLD/strace.err.$1"
	shift
	rm -f "$says"
	strace -p "$pid" "$@" 2>"$says" 3>&- &
	tracer=$!
	for _ in $(seq 1000); do
		# If the process was killed at once, that is not an error.
		[ -e "/proc/$pid" ] || return 0
		# strace has interrupted the process when it says this.
		! grep -q "$pid attached" "$says" 2>/dev/null || return 0
		sleep 0.005
	done
	cat "$says" >&2
	return 1
}

# detached: waits until strace ends. strace ends after the process that it
# traces.
detached() {
	wait "$tracer" 2>/dev/null || true
}

# hold_broker: makes the broker stop at its call of shutdown, after its session
# has ended. The broker waits until it is killed or released. It must not be
# stopped earlier, because the session still asks the broker to keep locks.
hold_broker() {
	local tracer
	await 5 'broker=$(broker_pid) && [ -n "$broker" ] &&
	    [ "$broker" != "$session" ]' || return
	attach "$broker" -o /dev/null -e trace=shutdown \
	    -e inject=shutdown:delay_enter=600000000
	held_by=$tracer
}

# hold_next_broker: holds the broker of the next removal. With a dotlock the
# login has started the broker, because it has made the list. Without a dotlock
# the monitor starts the broker for the removal, so strace follows the monitor.
hold_next_broker() {
	local tracer
	grep -Eq 'server_args.* -l fcntl( |$)' "$WORLD/xinetd.conf" ||
	    { hold_broker; return; }
	attach "$monitor" -f -o /dev/null -e trace=shutdown \
	    -e inject=shutdown:delay_enter=600000000
	held_by=$tracer
}

# release_broker: lets the broker continue.
release_broker() {
	kill -KILL "$held_by" 2>/dev/null || true
	wait "$held_by" 2>/dev/null || true
}

# kill_monitor: kills the monitor, the held broker and strace. strace would
# otherwise end only after the delay of hold_broker.
kill_monitor() {
	# shellcheck disable=SC2046 # one word for each process
	kill -KILL "$monitor" $(pgrep -x kpopd -P "$monitor") 2>/dev/null ||
	    true
	release_broker
}

# blind_monitor: stops the monitor until monitor_sees is called. A running
# monitor would notice that its session is stopped, and kill the session.
blind_monitor() {
	kill -STOP "$monitor"
}

monitor_sees() {
	kill -CONT "$monitor" 2>/dev/null || true
}

# calls_in FILE: prints the system calls in strace's output, each with its
# count. Leaves out restart_syscall, which follows when strace interrupts a
# process that waits.
calls_in() {
	sed -n 's/^\([a-z0-9_]*\)(.*/\1/p' "$1" | grep -v '^restart_syscall$' |
	    sort | uniq -c | awk '{ print $2, $1 }'
}

# shape NUMBER: makes a mailbox whose number of messages, sizes and marks depend
# only on NUMBER. The marked messages are a random selection, only the first,
# only the last two, or all but the second. Sets $names, $doomed (the numbers of
# the marked messages) and $kept (the names of the others). Writes the mailbox
# before and after the removal to $WORLD/old and $WORLD/new.
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

# shape_mbox NAME ...: prints a mailbox with these messages.
shape_mbox() {
	local name
	for name in "$@"; do
		from_line
		make_message "$name" $((${name##*n} * ${name##*n} * 7 % 400))
		echo
	done
}

# record_quit: prints the system calls that QUIT makes in the current shape,
# each with its count.
record_quit() {
	marked_session
	attach "$session" -o "$WORLD/trace"
	pop_ask QUIT
	pop_close
	detached
	cmp /var/mail/alice "$WORLD/new"
	calls_in "$WORLD/trace"
}

# marked_session: begins a session on the mailbox $WORLD/old, and marks the
# messages $doomed. Sets $session and $monitor to the pids.
marked_session() {
	local i
	store alice <"$WORLD/old"
	pop_login alice
	for i in "${doomed[@]}"; do
		pop_ask "DELE $i"
	done
	session=$(child_pid) monitor=$(monitor_pid)
}

# killed_quit HOW CALL N: begins a session by marked_session and sends QUIT.
# Kills the session at the Nth system call CALL that QUIT makes. If HOW is
# "alone", the broker continues. If HOW is "together", broker and monitor are
# also killed, as by a power failure. Sets $said to the answer that the client
# has got. Sets $said to "" if there was no answer.
killed_quit() {
	local how=$1 call=$2 n=$3
	marked_session
	[ "$how" = alone ] || hold_next_broker
	attach "$session" -o /dev/null -e "trace=$call" \
	    -e "inject=$call:signal=KILL:when=$n"
	pop_say QUIT
	detached
	[ "$how" = alone ] || kill_monitor
	IFS= read -r -t 5 said <&"$pop_in" || said=
	pop_close
	kpopd_ends 5
}

# break_off USER N: kills session, broker and monitor in QUIT. The removal of
# USER's message N is then decided, but not finished.
break_off() {
	pop_login "$1"
	pop_ask "DELE $2"
	session=$(child_pid) monitor=$(monitor_pid)
	hold_next_broker
	attach "$session" -o /dev/null -e trace=fsync \
	    -e inject=fsync:signal=KILL:when=3
	pop_say QUIT
	detached
	kill_monitor
	pop_close
	kpopd_ends 10
}

# locker_start: starts a process that takes and releases a POSIX lock on alice's
# spool, as an MDA does.
locker_start() {
	rm -f "$WORLD"/locker.*
	mkfifo "$WORLD/locker.in" "$WORLD/locker.out"
	perl -e 'use POSIX; $| = 1;
	    while (<STDIN>) {
		if (/L/) {
		    open F, "+<", "/var/mail/alice" or die;
		    $l = pack "s s l! l! i", F_WRLCK, 0, 0, 0, 0;
		    fcntl F, F_SETLKW, $l or die;
		} else {
		    close F;
		}
		print "done\n";
	    }' <"$WORLD/locker.in" >"$WORLD/locker.out" 3>&- &
	locker=$!
	exec {locker_in}>"$WORLD/locker.in" {locker_out}<"$WORLD/locker.out"
}

# locker L, locker U: makes the process of locker_start take (L) or release (U)
# the lock.
locker() {
	echo "$1" >&"$locker_in"
	read -r -t 5 _ <&"$locker_out"
}

# locker_stop: ends the process that locker_start has started, if there is one.
locker_stop() {
	[ -n "${locker-}" ] || return 0
	kill "$locker" 2>/dev/null || true
	exec {locker_in}>&- {locker_out}<&-
	locker=
}

# kill_connection: kills all processes of kpopd at once, as by a power failure.
kill_connection() {
	pkill -KILL -x kpopd || true
	kpopd_ends 5
}
