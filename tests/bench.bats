# The bench works: a tiny one of everything, in a world of its own. Its figures
# mean nothing.

bats_require_minimum_version 1.5.0

setup_file() {
	load_server
	tiny
}

load_server() {
	# shellcheck source=/dev/null
	source "$BATS_TEST_DIRNAME/helpers/server.bash"
}

# One round of every scenario but throughput, with a few messages, without the
# other servers.
tiny() {
	WITHOUT_PEERS=yes ROUNDS=1 SETTLE=0 BIG=60 LARGE=30 MIL=100 MAILDIR=20 \
	    LOGINS=8 ONE=10 \
	    PLOT_ROUNDS=1 PLOT_SIZES="1 2" PLOT_MESSAGES="10 100" \
	    PLOT_FILES="1 10" \
	    SCENARIOS="s1 s2 s3 s4 s5 s6 s9 plot" KPOPD_BUILD=$KPOPD_BUILD \
	    "$top/bench/run" "$WORLD/bench" >"$WORLD/bench.out" 2>&1 3>&- ||
	    { cat "$WORLD/bench.out" >&2; return 1; }
}

# What the table has no figure of kpopd's for, but the limits' own rows.
without_figure() {
	awk -F ' *[|] *' '/^[|] S[0-9]/ && $8 !~ /^[0-9.]+$/ { print $2 }' \
	    "$WORLD/bench/RESULTS.md" |
	    grep -Ev '^S[0-9] limit:' || :
}

@test "every scenario has a figure of kpopd's" {
	[ "$(grep -c '^| S[0-9]' "$WORLD/bench/RESULTS.md")" -ge 25 ]
	without_figure
	[ -z "$(without_figure)" ]
}

@test "every way to kpopd has its figures, and other servers that are not there a reason" {
	for way in 'KPOP' 'KPOP, TLS' 'AUTH GSSAPI' 'AUTH GSSAPI, TLS' \
	    'AUTH GSSAPI, confidentiality'; do
		grep -Eq "^\| $way( \| [0-9.]+){5} \|$" \
		    "$WORLD/bench/RESULTS.md"
	done
	grep -qx '\* popa3d: not installed' "$WORLD/bench/RESULTS.md"
}

@test "the plots have two lines for kpopd: by size and by messages, or of a Maildir opened first and again" {
	for plot in open poll retr delete memory maildir; do
		[ "$(grep -c '<polyline' "$WORLD/bench/$plot.svg")" -eq 2 ]
	done
}

@test "a client that is told no fails" {
	load_server
	# A server that takes the password, and whose answer to STAT is the
	# argument.
	for answer in '+OK 0 0' '-ERR no'; do
		timeout 20 perl \
		    -MIO::Socket::INET -e 'my $s = IO::Socket::INET->new(Listen => 1, LocalAddr => "127.0.0.1", LocalPort => 10110, ReuseAddr => 1) or die; syswrite STDOUT, "\n";
		    my $c = $s->accept; syswrite $c, "+OK\r\n"; while (<$c>) { syswrite $c, /^STAT/ ? "$ARGV[0]\r\n" : "+OK\r\n" }' -- "$answer" >"$WORLD/answers" 3>&- &
		await 5 '[ -s "$WORLD/answers" ]'
		run "$KPOPD_BUILD/bench/client" -a pass 127.0.0.1 10110 nobody \
		    STAT QUIT
		[ $((status == 0)) \
		    -eq $([[ $answer == +OK* ]] && echo 1 || echo 0) ]
		wait $! || :
		rm "$WORLD/answers"
	done
	# Nor is one that is not there a success.
	run ! "$KPOPD_BUILD/bench/client" -a pass 127.0.0.1 1 nobody STAT QUIT
}
