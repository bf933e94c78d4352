# Long sweeps: ./run-tests takes a short form of each, make torture all of it.

# long: whether this is the long form.
long() {
	[ -n "${TORTURE-}" ]
}

# sample EVERY TOTAL: which occurrences of a call to take: all in the long form.
sample() {
	seq 1 "$(long && echo 1 || echo "$1")" "$2"
}

# count_point COMMAND …: one more point of the sweep, bad when the command
# fails; what it printed is shown then.
count_point() {
	local output
	points=$((${points-0} + 1))
	output=$("$@" 2>&1) && return
	bad=$((${bad-0} + 1))
	printf '# bad point %d: %s\n%s\n' "$points" "$*" "$output" |
	    sed 's/^[^#]/# &/' >&3
}

# points_are_good WHAT LEAST: the line that tests/tools/torture adds up; fails
# with any bad point, or with fewer points than LEAST.
points_are_good() {
	echo "# $1: ${points-0} points, ${bad-0} bad" >&3
	[ "${bad-0}" -eq 0 ] && [ "${points-0}" -ge "$2" ]
}
