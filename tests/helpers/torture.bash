# Sweeps: ./run-tests takes a sample of each, make torture the whole.

# long: returns true if the sweeps are whole.
long() {
	[ -n "${TORTURE-}" ]
}

# sample EVERY TOTAL: prints the numbers up to TOTAL of the points to take: each
# one in the long form, else every EVERYth.
sample() {
	seq 1 "$(long && echo 1 || echo "$1")" "$2"
}

# count_point COMMAND [ARGUMENT ...]: counts one more point of the sweep. The
# point is bad if the command fails; then its output is shown.
count_point() {
	local output
	points=$((${points-0} + 1))
	output=$("$@" 2>&1) && return
	bad=$((${bad-0} + 1))
	printf '# bad point %d: %s\n%s\n' "$points" "$*" "$output" |
	    sed 's/^[^#]/# &/' >&3
}

# points_are_good WHAT LEAST: prints the line that tests/tools/torture adds up.
# Fails if there was a bad point, or if there were fewer points than LEAST.
points_are_good() {
	echo "# $1: ${points-0} points, ${bad-0} bad" >&3
	[ "${bad-0}" -eq 0 ] && [ "${points-0}" -ge "$2" ]
}
