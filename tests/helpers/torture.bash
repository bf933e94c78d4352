# Sweeps. ./run-tests tests a sample of each sweep, and make torture tests all
# points.

# long: returns true if all points of the sweeps are tested.
long() {
	[ -n "${TORTURE-}" ]
}

# sample EVERY TOTAL: prints the numbers from 1 to TOTAL of the points to test.
# A long test run gets all numbers, and a short run every EVERYth number.
sample() {
	seq 1 "$(long && echo 1 || echo "$1")" "$2"
}

# count_point COMMAND [ARGUMENT ...]: runs the command and counts it as one
# point of the sweep. If the command fails, the point is bad, and its output is
# shown.
count_point() {
	local output
	points=$((${points-0} + 1))
	output=$("$@" 2>&1) && return
	bad=$((${bad-0} + 1))
	printf '# bad point %d: %s\n%s\n' "$points" "$*" "$output" |
	    sed 's/^[^#]/# &/' >&3
}

# points_are_good WHAT LEAST: prints the line that tests/tools/torture adds up.
# Fails if a point was bad, or if there were fewer than LEAST points.
points_are_good() {
	echo "# $1: ${points-0} points, ${bad-0} bad" >&3
	[ "${bad-0}" -eq 0 ] && [ "${points-0}" -ge "$2" ]
}
