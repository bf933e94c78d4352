#!/usr/bin/env bats
# Checks that the bench runs each scenario and reports a figure for it. The
# figures have no meaning, because the runs are small.

setup_file() {
	load_server
	small_bench
}

# load_server: loads helpers/server.bash. The other helpers are not needed,
# because the bench starts its own servers.
load_server() {
	# shellcheck source=/dev/null
	source "$BATS_TEST_DIRNAME/helpers/server.bash"
}

# run_small DIRECTORY [VARIABLE=VALUE ...]: runs one round of every scenario
# except throughput, with few messages. The variables change that.
run_small() {
	mkdir "$1"
	cp "$top/bench/README.md" "$1"
	env ROUNDS=1 SETTLE=0 BIG=60 LARGE=30 MIL=100 MAILDIR=20 LOGINS=8 \
	    ONE=10 PLOT_ROUNDS=1 PLOT_SIZES="1 2" PLOT_MESSAGES="10 100" \
	    PLOT_FILES="1 10" SCENARIOS="s1 s2 s3 s4 s5 s6 s9 plot" \
	    KPOPD_BUILD="$KPOPD_BUILD" "${@:2}" \
	    "$top/bench/run" "$1" >"$1.out" 2>&1 3>&- ||
	    { cat "$1.out" >&2; return 1; }
}

# small_bench: measures kpopd without the other servers.
small_bench() {
	run_small "$WORLD/bench" WITHOUT_PEERS=yes
}

# without_figure: prints the rows of the table without a figure for kpopd,
# except rows for limits.
without_figure() {
	awk -F ' *[|] *' '/^[|] S[0-9]/ && $8 !~ /^[0-9.]+$/ { print $2 }' \
	    "$WORLD/bench/RESULTS.md" |
	    grep -Ev '^S[0-9] limit:' || :
}

@test "the bench reports a figure of kpopd for every scenario" {
	[ "$(grep -c '^| S[0-9]' "$WORLD/bench/RESULTS.md")" -ge 25 ]
	without_figure
	[ -z "$(without_figure)" ]
}

@test "the bench reports figures for every kind of login, and a reason for each server that is missing" {
	for way in 'KPOP' 'KPOP, TLS' 'AUTH GSSAPI' 'AUTH GSSAPI, TLS' \
	    'AUTH GSSAPI, confidentiality'; do
		grep -Eq "^\| $way( \| [0-9.]+){5} \|$" \
		    "$WORLD/bench/RESULTS.md"
	done
	grep -qx '\* popa3d: not installed' "$WORLD/bench/RESULTS.md"
}

# tuned_figure ROW: prints the figure of tuned Dovecot in this row of the table
# in $WORLD/peers.
tuned_figure() {
	awk -F ' *[|] *' -v row="$1" '$2 == row { print $7 }' \
	    "$WORLD/peers/RESULTS.md"
}

@test "the bench measures Dovecot's mbox, its Maildir and its logins in TLS, if Dovecot is installed" {
	[ -e /usr/lib/dovecot/pop3 ] || skip "Dovecot is not installed"
	[ -z "${SANITIZER-}" ] || skip "a bench with sanitizers measures them"
	load_server
	run_small "$WORLD/peers" WITHOUT_PACKAGES=yes SCENARIOS="s1 s2 s5 s9" \
	    KEPT=no
	for row in 'S1 eight at once' 'S2 then UIDL' 'S5 the last' \
	    'S9 Maildir, first open; limit: open, read, close' \
	    'S9 delete all; limit: unlink'; do
		[[ $(tuned_figure "$row") =~ ^[0-9.]+$ ]]
	done
	[ "$(grep -Ec '^\| Dovecot, tuned \| [0-9.]+ ' \
	    "$WORLD/peers/RESULTS.md")" -eq 2 ]
}

# tls_figures WAY: prints how many tables have figures of this way for logins in
# TLS.
tls_figures() {
	grep -Ec "^\| $1 \| [0-9.]+ \| [^|]+ \| [0-9.]+ \| [^|]+ \|$" \
	    "$WORLD/bench/RESULTS.md"
}

# has_reason WAYS REASON NUMBER: returns true if NUMBER of the ways in TLS with
# these names have this reason not to be measured.
has_reason() {
	[ "$(grep -Ec "^\* $1-(rsa|p256): this $2" \
	    "$WORLD/bench/RESULTS.md")" -eq "$3" ]
}

@test "the bench reports figures in TLS for each way to kpopd and both certificates, or a reason" {
	local by
	# xinetd's table of RETR has the same form.
	[ "$(tls_figures 'kpopd by xinetd')" -eq 3 ]
	for by in 'by xinetd' 'accepting by itself'; do
		[ "$(tls_figures "kpopd $by, kept kpopd-tls")" -eq 2 ] ||
		    has_reason 'kpopd-(accept-)?kept' 'build has no kpopd' 4
	done
	[ "$(tls_figures 'kpopd accepting by itself')" -eq 2 ] ||
	    has_reason kpopd-accept 'listener keeps a kpopd-tls' 2
	grep -q 'the client takes [0-9.]* ms without TLS, [0-9.]* ms with' \
	    <(tr '\n' ' ' <"$WORLD/bench/RESULTS.md")
}

@test "the bench writes the figures of its README, and finds a README whose figures were edited" {
	local README=$WORLD/bench/README.md rate
	load_server
	rate=$(awk -F ' *[|] *' '/^[|] S1 eight at once/ { print $8 }' \
	    "$WORLD/bench/RESULTS.md")
	grep -q "^| these sessions.* | $rate; as the listener" "$README"
	"$top/bench/summary" --check "$WORLD/bench"
	sed -i "s/ $rate;/ 1$rate;/" "$README"
	refute "$top/bench/summary" --check "$WORLD/bench"
	# The project's own README has the figures of its own results.
	"$top/bench/summary" --check "$top/bench"
}

@test "the bench draws two lines for kpopd in each plot" {
	for plot in open poll retr delete memory maildir; do
		[ "$(grep -c '<polyline' "$WORLD/bench/$plot.svg")" -eq 2 ]
	done
}

# client_gets ANSWER: runs the bench's client against a server that sends ANSWER
# to STAT (tests/programs/stat-server.pl).
client_gets() {
	rm -f "$WORLD/listens"
	timeout 20 perl "$BATS_TEST_DIRNAME/programs/stat-server.pl" 10110 \
	    "$1" >"$WORLD/listens" 3>&- &
	await 5 '[ -s "$WORLD/listens" ]'
	run "$KPOPD_BUILD/bench/client" -a pass 127.0.0.1 10110 nobody STAT QUIT
	wait $! || :
}

@test "the bench's client fails if the server answers -ERR or does not exist" {
	load_server
	client_gets '+OK 0 0'
	[ "$status" -eq 0 ]
	client_gets '-ERR no'
	[ "$status" -ne 0 ]
	refute "$KPOPD_BUILD/bench/client" -a pass 127.0.0.1 1 nobody STAT QUIT
}

@test "the bench's client fails at once if one of its jobs cannot start" {
	load_server
	mkdir -p "$WORLD/few"
	kinit -c "$WORLD/few/alice" -k -t "$WORLD/keytabs/alice.keytab" alice
	# alice1, the user of the second job, has no ticket.
	run timeout 60 "$KPOPD_BUILD/bench/client" -a kpop -n 2 -j 2 \
	    -t "$WORLD/few" mail.kpopd.test 1109 alice QUIT
	[ "$status" -eq 1 ]
	[[ $output == *"a job has failed"* ]]
}

# counts_of PERCENT: writes $WORLD/counts.tsv as bench/instructions does, for
# two rows. The count of a poll is PERCENT of a thousand.
counts_of() {
	printf '%s\t%s\n' environment "Debian 12" environment "libc 2" \
	    program "kpopd 1" "a login: the monitor" 1234567 \
	    "a poll" $(($1 * 10)) >"$WORLD/counts.tsv"
}

# compare_counts ACTION: runs bench/counts with the page $WORLD/page.md.
compare_counts() {
	run perl "$top/bench/counts" "$1" "$WORLD/page.md" "$WORLD/counts.tsv"
}

@test "make check-instructions fails for a count that is 4 % above the kept one and names its row, but not for 2 %" {
	load_server
	rm -f "$WORLD/page.md"
	counts_of 100
	compare_counts keep
	[ "$status" -eq 0 ]
	counts_of 104
	compare_counts check
	[ "$status" -eq 1 ]
	[[ $output == *"FAILED a poll: 1,040, 1.040 of the kept 1,000"* ]]
	[[ $output != *"FAILED a login"* ]]
	for percent in 102 50; do
		counts_of $percent
		compare_counts check
		[ "$status" -eq 0 ]
		[[ $output != *FAILED* ]]
	done
}

@test "make check-instructions fails for a row that was not counted, and for a row that was not kept" {
	load_server
	rm -f "$WORLD/page.md"
	counts_of 100
	compare_counts keep
	sed -i '/^a poll/d' "$WORLD/counts.tsv"
	compare_counts check
	[ "$status" -eq 1 ]
	[[ $output == *"FAILED a poll: not counted"* ]]
	compare_counts keep
	counts_of 100
	compare_counts check
	[ "$status" -eq 1 ]
	[[ $output == *"FAILED a poll: no count is kept"* ]]
}

@test "make check-instructions is skipped with its reason if the kept counts are of other libraries; keeping new ones replaces them" {
	load_server
	rm -f "$WORLD/page.md"
	counts_of 100
	compare_counts keep
	sed -i 's/Debian 12/Debian 13/' "$WORLD/counts.tsv"
	compare_counts keep
	counts_of 104
	sed -i 's/libc 2/libc 3/' "$WORLD/counts.tsv"
	compare_counts check
	[ "$status" -eq 77 ]
	[[ $output == *"skipped"*"no counts for Debian 12, libc 3;"* ]]
	compare_counts keep
	compare_counts check
	[ "$status" -eq 0 ]
	[ "$(grep -c '^## ' "$WORLD/page.md")" -eq 2 ]
	[ "$(grep -c 'libc 2$' "$WORLD/page.md")" -eq 1 ]
	# A run that has counted nothing fails.
	: >"$WORLD/counts.tsv"
	compare_counts check
	[ "$status" -ne 0 ] && [ "$status" -ne 77 ]
}
