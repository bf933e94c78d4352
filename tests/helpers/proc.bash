# What a process is and has, seen from /proc.

# field PID NAME: a line of /proc/PID/status without its name, blanks made
# single.
field() {
	sed -n "s/^$2:[[:space:]]*//p" "/proc/$1/status" |
	    tr -s '[:space:]' ' ' | sed 's/ $//'
}

# has_nothing PID UID GID: these ids and no other group, no capability, no way
# to new ones, no core, not dumpable.
has_nothing() {
	local name
	[ "$(field "$1" Uid)" = "$2 $2 $2 $2" ]
	[ "$(field "$1" Gid)" = "$3 $3 $3 $3" ]
	[ "$(field "$1" Groups)" = "$3" ]
	for name in CapInh CapPrm CapEff CapAmb; do
		[ "$(field "$1" $name)" = 0000000000000000 ]
	done
	[ "$(field "$1" NoNewPrivs)" = 1 ]
	grep -Eq 'Max core file size +0 +0' "/proc/$1/limits"
	grep -Eq 'Max processes +0 +0' "/proc/$1/limits"
	# Not dumpable: its /proc files are root's.
	[ "$(stat -c %u "/proc/$1/mem")" = 0 ]
	[ "$(field "$1" SigBlk)" = 0000000000000000 ]
}

# fds PID: what its descriptors are, one a line.
fds() {
	local fd
	for fd in /proc/"$1"/fd/*; do
		echo "$(basename "$fd") $(readlink "$fd")"
	done
}

# sockets PID, others PID: how many of its descriptors are sockets, and how many
# are not.
sockets() {
	fds "$1" | grep -c ' socket:'
}

others() {
	fds "$1" | grep -vc ' socket:'
}

# private PID: its own memory, in KiB.
private() {
	awk '/^Private_(Dirty|Hugetlb)/ { n += $2 } END { print n + 0 }' \
	    "/proc/$1/smaps_rollup"
}

# left_behind PID COUNT: whatever could have been forgotten: more than COUNT
# processes, descriptors of PID, locks, state.
left_behind() {
	await 10 "[ \"\$(pgrep -cx kpopd)\" -eq $2 ]" || return 1
	echo "descriptors $(ls "/proc/$1/fd" | wc -l)"
	find /var/mail "$state" -printf '%p %y\n' | sort
}

# captive PID "CALL WORD …" …: the process makes these system calls
# (tests/programs/captive.c); what they returned is $returned, one a line.
captive() {
	local status=0
	returned=$("$KPOPD_BUILD/tests/programs/captive" "$@" 2>&1) || status=$?
	[ $status -ne 77 ] || skip "$returned"
	[ $status -eq 0 ] || { echo "$returned" >&2; return 1; }
}
