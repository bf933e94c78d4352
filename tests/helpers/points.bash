# Tests one point of a sweep. At a point, a session has a fault at one place,
# and its answer must be true. Test files with sweeps load this file.

# No process writes to this pipe. A read from the pipe with a time limit
# therefore sleeps, and needs no fork.
exec {tick}<> <(:)

# soon SECONDS 'COMMAND': does the same as await, but tries every 5 ms, because
# a sweep waits thousands of times.
soon() {
	local until=$((SECONDS + $1 + 1))
	until eval "$2"; do
		((SECONDS < until)) ||
		    { echo "not true within $1 s: $2" >&2; return 1; }
		read -r -t 0.005 -u "$tick" || :
	done
}

# session_opens COMMAND ...: begins a session of alice, sends all commands at
# once, and reads the answers. Sets $session and $monitor to the pids.
session_opens() {
	local n
	pop_open
	printf '%s\r\n' "USER alice" "PASS x" "$@" >&"$pop_out"
	for ((n = $# + 3; n > 0; n--)); do pop_hear '^\+OK' || return; done
	monitor=$(monitor_pid) && session=$(child_pid) &&
	    soon 5 broker_has_dropped
}

# faults PID STRACE-OPTION ...: attaches strace to the process, and returns when
# strace is attached. The output goes to $WORLD/trace.
faults() {
	local line
	# Another test file may have left a directory of this name.
	[ ! -d "$WORLD/trace" ] || rm -r "$WORLD/trace"
	exec {traced}< <(exec strace -p "$1" -o "$WORLD/trace" "${@:2}" 2>&1 \
	    3>&-)
	IFS= read -r -t 5 line <&"$traced" && [[ $line == *attached* ]] ||
	    { echo "strace says: $line" >&2; return 1; }
}

# answer: reads the next line into $heard. Sets $heard to "" if the connection
# ends without a line.
answer() {
	local status=0
	IFS= read -r -t "${pop_patience:-15}" heard <&"$pop_in" || status=$?
	heard=${heard%$'\r'}
	[ "$status" -lt 128 ] || { echo "no answer and no end" >&2; return 1; }
}

# session_ends: waits until the connection and all its processes have ended.
session_ends() {
	local rest status=0 line
	IFS= read -r -t 15 rest <&"$pop_in" || status=$?
	exec {pop_in}<&- {pop_out}>&-
	pop_pid=
	[ "$status" -ne 0 ] ||
	    { echo "expected the end, heard: $rest" >&2; return 1; }
	[ "$status" -lt 128 ] ||
	    { echo "the connection does not end" >&2; return 1; }
	soon 15 "! kill -0 $monitor 2>/dev/null" || return
	if [ -n "${traced-}" ]; then
		while IFS= read -r -t 5 line <&"$traced"; do :; done
		exec {traced}<&-
		traced=
	fi
}

# login_stands: begins a login of alice. Its session waits for the content of
# alice's .k5login, before it touches the mailbox. Sets $session and $monitor to
# the pids.
login_stands() {
	local fifo=/home/alice/.k5login
	[ -p $fifo ] || { su alice -c "mkfifo $fifo" || return; }
	# Open the FIFO for reading and writing. An open only for writing would
	# wait for the session.
	exec {k5login}<>$fifo
	pop_open
	printf '%s\r\n' "USER alice" "PASS x" >&"$pop_out"
	pop_hear '^\+OK' && pop_hear '^\+OK' && monitor=$(monitor_pid) || return
	soon 5 'session=$(pgrep -n -x kpopd -P "$monitor") &&
	    reads_fifo "$session" '$fifo
}

# reads_fifo PID FIFO: returns true if the process has opened the FIFO and
# sleeps.
reads_fifo() {
	local fd status
	for fd in /proc/"$1"/fd/*; do
		if [ "$fd" -ef "$2" ]; then
			read -r _ _ status _ <"/proc/$1/stat" &&
			    [ "$status" = S ]
			return
		fi
	done 2>/dev/null
	return 1
}

# login_with STRACE-OPTION ...: logs in with faults. Runs $just_before before
# the session opens the mailbox. Sets $heard to the answer to PASS. If the login
# succeeds, sets $bye to the answer to QUIT.
login_with() {
	local n
	bye=
	login_stands && faults "$session" "$@" || return
	${just_before-:}
	echo alice@KPOPD.TEST >&"$k5login"
	exec {k5login}>&-
	answer || return
	if [[ $heard == +OK* ]]; then
		n=$heard
		pop_say QUIT
		answer || return
		bye=$heard heard=$n
	fi
	session_ends
	rm -f /home/alice/.k5login
}

# last_login: logs in without marks and without strace. Prints the number of
# messages, or the error. The session must lock the mailbox, so it also removes
# stale dotlocks.
last_login() {
	forget_index
	pop alice QUIT |
	    sed -n -e 's/^+OK \([0-9]*\) messages$/\1/p' -e '/^-ERR/p'
}

# refill FILE: copies the file into alice's spool, and keeps the spool's inode.
# Waits until the next change is sure to get another file time. Without the
# wait, the machine's speed would decide whether a session reads each message
# again.
refill() {
	[ -e "$(spool alice)" ] || store alice </dev/null
	cat "$1" >"$(spool alice)"
	read -r -t 0.06 -u "$tick" || :
}

# nothing_else: returns true if the session has left only its lock file, and no
# lock is held.
nothing_else() {
	no_journal || return 1
	[ "$(ls -A /var/mail | grep -v '^\.lk')" = alice ] ||
	    { ls -lA /var/mail; return 1; }
}

# scene NAME: makes a mailbox of six messages, $WORLD/before, and the mailbox
# after the removal, $WORLD/after. Sets $marked to the numbers of the messages
# to remove, $deletions to the DELE commands, and $left to the number of kept
# messages.
names=(one two three four five six)
scene() {
	local i
	case $1 in
	mixed) marked=(2 4) ;;
	first) marked=(1) ;;
	tail) marked=(5 6) ;;
	all) marked=(1 2 3 4 5 6) ;;
	esac
	messages "$WORLD/before"
	messages "$WORLD/after" "${marked[@]}"
	left=$((${#names[@]} - ${#marked[@]}))
	deletions=("${marked[@]/#/DELE }")
}

# messages FILE [NUMBER ...]: writes the mailbox to FILE. Leaves out the
# messages with these numbers. Each message has $body_lines lines.
messages() {
	local i
	for i in "${!names[@]}"; do
		[[ " ${*:2} " != *" $((i + 1)) "* ]] || continue
		from_line
		make_message "${names[i]}" "${body_lines-}"
		echo
	done >"$1"
}

# is_now FILE: returns true if alice's spool equals the file.
is_now() {
	cmp -s "$1" "$(spool alice)"
}

# is_part: returns true if the spool lacks no messages except marked ones.
is_part() {
	local subset i gone
	for ((subset = 0; subset < 1 << ${#marked[@]}; subset++)); do
		gone=()
		for i in "${!marked[@]}"; do
			((subset >> i & 1)) && gone+=("${marked[i]}")
		done
		messages "$WORLD/part" "${gone[@]}"
		! is_now "$WORLD/part" || return 0
	done
	return 1
}

# is_true ANSWER: returns true if the answer to QUIT describes the mailbox truly
# and no other files are left. If the answer says that messages may not be
# removed yet, logs in before it checks the mailbox.
is_true() {
	local count
	case $1 in
	"+OK bye, $left messages left")
		is_now "$WORLD/after" || { wrong "$1"; return 1; }
		;;
	"-ERR [SYS/TEMP] nothing removed" | \
	"-ERR [SYS/PERM] nothing removed" | \
	"-ERR [IN-USE] the mailbox is locked, nothing removed")
		is_now "$WORLD/before" || { wrong "$1"; return 1; } ;;
	"-ERR some deleted messages not removed" | \
	"-ERR [SYS/TEMP] deleted messages may not be removed yet" | "") ;;
	*) wrong "$1"; return 1 ;;
	esac
	count=$(last_login)
	case $1 in
	*"removed yet"*) is_now "$WORLD/after" ;;
	*some*) is_part ;;
	"") is_now "$WORLD/before" || is_now "$WORLD/after" ;;
	+OK*) is_now "$WORLD/after" ;;
	*) is_now "$WORLD/before" ;;
	esac || { wrong "$1, and a login"; return 1; }
	[ "$count" = "$(grep -c '^From ' "$(spool alice)")" ] ||
	    { wrong "$count at the next login"; return 1; }
	nothing_else
}

# wrong WHAT: prints WHAT, which was not true, and the evidence.
wrong() {
	echo "not so: ${1:-no answer}"
	diff "$WORLD/before" "$(spool alice)" | head -n 20
	log_lines | tail -n 5
}

# mop_up: cleans up after a bad point, so that the next point does not fail for
# the same reason.
mop_up() {
	pkill -KILL -x kpopc || :
	pkill -KILL -x strace || :
	soon 5 '! pgrep -x kpopd >/dev/null' || pkill -KILL -x kpopd || :
	rm -rf "${state:?}/users/$uid"/[!s]* "$(spool alice)".*
}
