# Speaks POP3 with the server, through kpopc or byte by byte.

# kpopc ARGUMENT ...: runs the kpopc of this build.
kpopc() {
	"$KPOPD_BUILD/kpopc" "$@"
}

# pop USER COMMAND ...: runs a whole session, and prints the answers without
# CRs. The exit status is kpopc's.
pop() {
	local user=$1
	shift
	printf '%s\r\n' "USER $user" "PASS x" "$@" | kpopc mail.kpopd.test |
	    tr -d '\r'
	return "${PIPESTATUS[1]}"
}

# retrieve N: prints message N as a client gets it, with the server's line ends
# and without dot-stuffing. Fails if its size differs from the announced size.
retrieve() {
	printf '%s\r\n' "USER alice" "PASS x" "RETR $1" QUIT |
	    kpopc mail.kpopd.test | perl -0777 -ne '
		s/\A(?:\+OK[^\n]*\n){3}//;
		($size) = /\A\+OK (\d+) octets\r\n/ or exit 1;
		s/\A[^\n]*\n//;
		s/^\.\r\n\+OK bye.*\z//ms or exit 2;
		s/^\.//mg;
		length == $size or exit 3;
		print'
}

# pop_commands TABLE ...: prints a line "NAME LEAST MOST" for each command in
# these tables of pop3-auth.c and pop3-trans.c.
pop_commands() {
	local table
	for table; do
		sed -nE "/ $table\[\] = \{/,/^\};/s/^[[:blank:]]*\{ ?\"([A-Z0-9]+)\", ([0-9]+), ([A-Z0-9_]+),.*/\1 \2 \3/p" \
		    "$top/pop3-auth.c" "$top/pop3-trans.c" | grep . ||
		    { echo "no table $table" >&2; return 1; }
	done
}

# pop_verbs TABLE ...: prints the name of each command once.
pop_verbs() {
	pop_commands "$@" | cut -d' ' -f1 | sort -u
}

# pop_open [KPOPC-OPTION ...]: begins a dialogue. The functions pop_... below
# send commands and read answers. pop_close ends the dialogue.
pop_open() {
	pop_run "$KPOPD_BUILD/kpopc" "$@" mail.kpopd.test 1109
}

# pop_run COMMAND ...: begins a dialogue through this command.
pop_run() {
	coproc POP {
		"$@" 2>"$WORLD/kpopc.err"
	}
	pop_pid=$POP_PID
	exec {pop_in}<&"${POP[0]}" {pop_out}>&"${POP[1]}"
	eval "exec ${POP[0]}<&- ${POP[1]}>&-"
}

# pop_say LINE: sends a line.
pop_say() {
	printf '%s\r\n' "$1" >&"$pop_out"
}

# pop_hear [PATTERN]: reads a line into $heard, within $pop_patience seconds
# (twenty by default). Fails unless the line matches the pattern (extended).
pop_hear() {
	heard=
	if ! IFS= read -r -t "${pop_patience:-20}" heard <&"$pop_in"; then
		echo "no answer, expected: ${1-a line}; kpopc reports:" \
		    "$(cat "$WORLD/kpopc.err")" >&2
		return 1
	fi
	heard=${heard%$'\r'}
	[[ $heard =~ ${1-.} ]] ||
	    { echo "answer: $heard, expected: $1" >&2; return 1; }
}

# pop_hear_lines: reads an answer into the array $lines, up to the line with the
# dot.
pop_hear_lines() {
	pop_hear '^\+OK'
	lines=()
	while pop_hear '' && [ "$heard" != . ]; do
		lines+=("$heard")
	done
}

# pop_ask COMMAND [PATTERN]: sends a command and reads a line, which must match
# the pattern.
pop_ask() {
	pop_say "$1"
	pop_hear "${2-^\\+OK}"
}

# broker_has_dropped: returns true if the newest connection's broker has given
# up root, or if there is no broker. Sets $broker to the broker's pid.
broker_has_dropped() {
	broker=$(broker_pid)
	[ -z "$broker" ] ||
	    ! grep -q "^Uid:[[:space:]]*0" "/proc/$broker/status"
}

# pop_begin USER: opens a session of the user, which has a ticket.
pop_begin() {
	pop_open
	pop_hear '^\+OK'
	pop_ask "USER $1"
	pop_ask "PASS x"
}

# pop_login USER: begins a dialogue and logs in. The session does not wait until
# the broker has given up root, so pop_login does.
pop_login() {
	pop_begin "$1"
	await 5 broker_has_dropped
}

# pop_login_locking USER: logs in like pop_login. The session must make the list
# of messages, so it locks the mailbox and has a broker.
pop_login_locking() {
	forget_index
	pop_login "$1"
	[ -n "$broker" ] || { echo "the session has no broker" >&2; return 1; }
}

# pop_hear_end [SECONDS]: waits until the server closes the connection, for at
# most SECONDS (twenty by default).
pop_hear_end() {
	local rest
	if IFS= read -r -t "${1:-20}" rest <&"$pop_in"; then
		echo "expected the end, answer: $rest" >&2
		return 1
	fi
	await "${1:-20}" "! kill -0 $pop_pid 2>/dev/null"
}

# pop_close: closes kpopc's input and output, and waits until kpopc ends.
pop_close() {
	[ -n "${pop_pid-}" ] || return 0
	exec {pop_in}<&- {pop_out}>&-
	await 5 "! kill -0 $pop_pid 2>/dev/null"
	wait "$pop_pid" 2>/dev/null || true
	pop_pid=
}

# pop_cut: ends the connection without QUIT.
pop_cut() {
	kill -KILL "$pop_pid"
	pop_close
}

# u32 N: prints four bytes, the most significant first.
u32() {
	local byte shift
	for shift in 24 16 8 0; do
		printf -v byte '\\x%02x' $(($1 >> shift & 255))
		printf "$byte"
	done
}

# framed: prints the length of standard input, then standard input.
framed() {
	local file="$WORLD/framed.$BASHPID"
	cat >"$file"
	u32 "$(stat -c %s "$file")"
	cat "$file"
	rm "$file"
}

# versions [SENDAUTH [APPLICATION]]: prints the two versions with which the
# sendauth exchange begins.
versions() {
	printf '%s\0' "${1-KRB5_SENDAUTH_V1.0}" | framed
	printf '%s\0' "${2-KPOPV1.0}" | framed
}

# apreq ARGUMENT ...: prints an AP-REQ (tests/programs/apreq.c).
apreq() {
	"$KPOPD_BUILD/tests/programs/apreq" "$@"
}

# wire [SECONDS]: sends standard input unchanged to the server. Prints what the
# server sends until it closes the connection, for at most SECONDS. Discards
# socat's message about a reset.
wire() {
	timeout "${1:-10}" socat -lf /dev/null -t "${1:-10}" \
	    - TCP:127.0.0.1:1109
}

# hear_only [SECONDS]: connects, sends nothing, and does not close the client's
# side. Prints what the server sends until it closes the connection.
hear_only() {
	timeout "${1:-10}" socat -u TCP:127.0.0.1:1109 -
}

# wire_hex [SECONDS]: prints the same as wire, in hexadecimal on one line.
wire_hex() {
	wire "$@" | od -An -v -tx1 | tr -d ' \n'
}

# peers HOW FILE N ...: runs tests/programs/peers.pl.
peers() {
	perl "$BATS_TEST_DIRNAME/programs/peers.pl" "$@"
}

# trickle SECONDS: prints standard input byte by byte. Waits SECONDS after each
# byte.
trickle() {
	perl -e '$| = 1; undef $/; $SIG{PIPE} = "IGNORE";
	    for (split //, <STDIN>) {
		print or exit;
		select undef, undef, undef, $ARGV[0];
	    }' "$1"
}

# clients COMMAND ...: runs tests/programs/clients.pl.
clients() {
	KPOPD_BUILD=$KPOPD_BUILD timeout "${clients_patience:-600}" \
	    perl "$BATS_TEST_DIRNAME/programs/clients.pl" "$@"
}

# become USER COMMAND ...: runs the command as the user, who has alice's ticket,
# in place of this shell.
become() {
	exec setpriv --reuid "$1" --regid "$1" --init-groups \
	    env HOME="/home/$1" KRB5CCNAME=FILE:/home/alice/ccache "${@:2}"
}

# as USER COMMAND ...: runs the command as the user.
as() {
	(become "$@")
}

become_local_pop() {
	become "$1" /usr/bin/python3 \
	    "$BATS_TEST_DIRNAME/programs/local-pop.py" \
	    "${address-127.0.0.1}" 2110 "${@:2}"
}

# local_pop USER COMMAND ...: runs tests/programs/local-pop.py as the user.
# local_pop_start does so in the background, and sets $started to its pid.
local_pop() {
	(become_local_pop "$@")
}

local_pop_start() {
	rm -f "$WORLD/$2"
	become_local_pop "$@" </dev/null >"$WORLD/$2" 3>&- &
	started=$!
}

# has_blocked_writer: returns true if $session sleeps, and the kernel has output
# for the client that the client has not read.
has_blocked_writer() {
	[[ $(field "$session" State) == S* ]] &&
	    ss -Htn state established sport = 1109 |
	    awk '$2 > 0 { found = 1 } END { exit !found }'
}
