# POP3 dialogues: through kpopc, or byte by byte.

kpopc() {
	"$KPOPD_BUILD/kpopc" "$@"
}

# pop USER COMMAND ...: a whole session; the answers are printed without CRs.
# The exit status is kpopc's.
pop() {
	local user=$1
	shift
	printf '%s\r\n' "USER $user" "PASS x" "$@" | kpopc mail.kpopd.test |
	    tr -d '\r'
	return "${PIPESTATUS[1]}"
}

# retrieve N: message N as a client sees it, line ends as they came, stuffing
# undone.
retrieve() {
	printf '%s\r\n' "USER alice" "PASS x" "RETR $1" QUIT |
	    kpopc mail.kpopd.test |
	    perl \
		-0777 -ne 's/\A(?:\+OK[^\n]*\n){3}//; ($size) = /\A\+OK (\d+) octets\r\n/ or exit 1; s/\A[^\n]*\n//;
	        s/^\.\r\n\+OK bye.*\z//ms or exit 2; s/^\.//mg; length == $size or exit 3; print'
}

# A dialogue: pop_open [KPOPC-OPTION …], pop_say LINE, pop_hear [PATTERN],
# pop_hear_lines, pop_close.
pop_open() {
	coproc POP {
		"$KPOPD_BUILD/kpopc" "$@" mail.kpopd.test 1109 \
		    2>"$WORLD/kpopc.err"
	}
	pop_pid=$POP_PID
	exec {pop_in}<&"${POP[0]}" {pop_out}>&"${POP[1]}"
	eval "exec ${POP[0]}<&- ${POP[1]}>&-"
}

pop_say() {
	printf '%s\r\n' "$1" >&"$pop_out"
}

# One line within five seconds into $heard; it has to match the pattern
# (extended).
pop_hear() {
	heard=
	if ! IFS= read -r -t "${pop_patience:-5}" heard <&"$pop_in"; then
		echo \
		    "heard nothing, expected: ${1-a line}; kpopc says: $(cat \
			"$WORLD/kpopc.err")" >&2
		return 1
	fi
	heard=${heard%$'\r'}
	[[ $heard =~ ${1-.} ]] ||
	    { echo "heard: $heard, expected: $1" >&2; return 1; }
}

# Up to the line with the dot, into the array $lines.
pop_hear_lines() {
	pop_hear '^\+OK'
	lines=()
	while pop_hear '' && [ "$heard" != . ]; do
		lines+=("$heard")
	done
}

# pop_ask COMMAND [PATTERN]: says it and hears one line.
pop_ask() {
	pop_say "$1"
	pop_hear "${2-^\\+OK}"
}

# pop_login USER: up to PASS's good answer, and until the broker, for which the
# session need not wait, has given up root.
pop_login() {
	pop_open
	pop_hear '^\+OK'
	pop_ask "USER $1"
	pop_ask "PASS x"
	await 5 \
	    'broker=$(broker_pid); [ -z "$broker" ] || ! grep -q "^Uid:[[:space:]]*0" "/proc/$broker/status"'
}

# The server is to close now.
pop_hear_end() {
	local rest
	if IFS= read -r -t "${1:-5}" rest <&"$pop_in"; then
		echo "expected the end, heard: $rest" >&2
		return 1
	fi
	await "${1:-5}" "! kill -0 $pop_pid 2>/dev/null"
}

pop_close() {
	[ -n "${pop_pid-}" ] || return 0
	exec {pop_in}<&- {pop_out}>&-
	await 5 "! kill -0 $pop_pid 2>/dev/null"
	wait "$pop_pid" 2>/dev/null || true
	pop_pid=
}

# The line is cut, without QUIT.
pop_cut() {
	kill -KILL "$pop_pid"
	pop_close
}

# u32 N: four bytes, most significant first.
u32() {
	printf \
	    "\\x$(printf %02x $(($1 >> 24 & 255)))\\x$(printf %02x \
		$(($1 >> 16 & 255)))\\x$(printf %02x $(($1 >> 8 & 255)))\\x$(printf %02x $(($1 & 255)))"
}

# framed: standard input behind its length.
framed() {
	local file="$WORLD/framed.$BASHPID"
	cat >"$file"
	u32 "$(stat -c %s "$file")"
	cat "$file"
	rm "$file"
}

# versions [SENDAUTH [APPLICATION]]: how sendauth begins.
versions() {
	printf '%s\0' "${1-KRB5_SENDAUTH_V1.0}" | framed
	printf '%s\0' "${2-KPOPV1.0}" | framed
}

apreq() {
	"$KPOPD_BUILD/tests/programs/apreq" "$@"
}

# wire [SECONDS]: standard input to the server as it is; prints what comes back
# until it closes, at most SECONDS.
wire() {
	timeout "${1:-10}" socat -t "${1:-10}" - TCP:127.0.0.1:1109
}

# hear_only [SECONDS]: says nothing and ends nothing; what the server says until
# it closes.
hear_only() {
	timeout "${1:-10}" socat -u TCP:127.0.0.1:1109 -
}

# wire_hex: the same as wire, as hexadecimal digits in one line.
wire_hex() {
	wire "$@" | od -An -v -tx1 | tr -d ' \n'
}

# peers HOW FILE N ...: many clients at once, each sends the first N bytes of
# FILE and then ends its side (end) or resets the connection (reset). Prints N
# and, as hexadecimal digits, what each has heard.
peers() {
	perl \
	    -MSocket -e '$SIG{ALRM} = sub { die "peers: no end" }; my $how = shift; open F, "<:raw", shift or die; undef $/; my $text = <F>;
	    while (my @now = splice @ARGV, 0, 30) {
		my %peer; alarm 30;
		for my $n (@now) {
			socket(my $s, PF_INET, SOCK_STREAM, 0); connect($s, sockaddr_in(1109, INADDR_LOOPBACK)) or die "connect: $!";
			syswrite $s, substr($text, 0, $n); shutdown($s, 1) if $how eq "end"; $peer{$n} = $s;
		}
		for my $n (@now) {
			my ($s, $heard, $some) = ($peer{$n}, "");
			if ($how eq "end") { $heard .= $some while sysread $s, $some, 4096 }
			else {
				sysread $s, $heard, 4096 if $n >= 36;
				select undef, undef, undef, 0.3 if $n == $now[0];
				$heard .= $some if defined recv($s, $some, 4096, MSG_DONTWAIT);
				setsockopt $s, SOL_SOCKET, SO_LINGER, pack("ii", 1, 0); close $s;
			}
			print "$n ", unpack("H*", $heard), "\n";
		}
	    }' "$@"
}

# trickle SECONDS: standard input byte by byte, with so much time between them.
trickle() {
	perl -e '$| = 1; undef $/; $SIG{PIPE} = "IGNORE";
	    for (split //, <STDIN>) { print or exit; select undef, undef, undef, $ARGV[0] }' "$1"
}

# clients COMMAND …: see clients.pl.
clients() {
	KPOPD_BUILD=$KPOPD_BUILD timeout "${clients_patience:-600}" perl \
	    "$BATS_TEST_DIRNAME/programs/clients.pl" "$@"
}
