# Shows the rights, descriptors and memory of processes, from /proc.

# field PID NAME: prints the value of a line of /proc/PID/status. Replaces each
# group of blanks by one blank.
field() {
	sed -n "s/^$2:[[:space:]]*//p" "/proc/$1/status" |
	    tr -s '[:space:]' ' ' | sed 's/ $//'
}

# has_nothing PID UID GID: returns true if the process has these ids and no
# other group. The process must have no capability and no way to get one. It
# must not write a core file, and must not be dumpable.
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
	# Root owns the /proc files of a process that is not dumpable.
	[ "$(stat -c %u "/proc/$1/mem")" = 0 ]
	[ "$(field "$1" SigBlk)" = 0000000000000000 ]
}

# fds PID: prints the process's descriptors and what each refers to, one on each
# line, in the order of the names. Needs only three processes.
fds() {
	find "/proc/$1/fd" -mindepth 1 -printf '%f %l\n' | sort
}

# is_keeper PID: returns true if the process is a kept kpopd-tls, which has its
# lock open.
is_keeper() {
	fds "$1" 2>/dev/null | grep -q '/tls\.lock$'
}

# is_spare PID: returns true if the process is the one that a kept kpopd-tls has
# ready for the next connection. Its only socket is that to the kept kpopd-tls.
is_spare() {
	[ "$(readlink "/proc/$1/root")" = "$state/tls" ] &&
	    [ "$(sockets "$1" 2>/dev/null)" = 1 ]
}

# has_only_spare PID: returns true if the kept kpopd-tls with this pid has its
# spare process, and no process of a connection.
has_only_spare() {
	local children
	mapfile -t children < <(pgrep -P "$1")
	[ "${#children[@]}" -eq 1 ] && is_spare "${children[0]}"
}

# kpopds: prints the pids of the processes of kpopd and kpopd-tls, except a kept
# kpopd-tls and its spare process.
kpopds() {
	local pid
	for pid in $(pgrep -x 'kpopd|kpopd-tls'); do
		is_keeper "$pid" || is_spare "$pid" || echo "$pid"
	done
}

# no_kpopd: returns true if there is no process of kpopd and kpopd-tls, except a
# kept kpopd-tls and its spare process.
no_kpopd() {
	[ -z "$(kpopds)" ]
}

# jailed_in NAME: prints the pids of the processes whose root directory is
# STATE/NAME, except a kept kpopd-tls and its spare process.
jailed_in() {
	local pid
	for pid in $(kpopds); do
		[ "$(readlink "/proc/$pid/root")" != "$state/$1" ] ||
		    echo "$pid"
	done
}

# sockets PID, others PID: print the number of the process's descriptors that
# are sockets, or that are not sockets.
sockets() {
	fds "$1" | grep -c ' socket:'
}

others() {
	fds "$1" | grep -vc ' socket:'
}

# private PID: prints the size of the memory that only this process has, in KiB.
private() {
	awk '/^Private_(Dirty|Hugetlb)/ { n += $2 } END { print n + 0 }' \
	    "/proc/$1/smaps_rollup"
}

# left_behind PID COUNT: waits until COUNT processes of kpopd are left. Prints
# what sessions may have left behind: the number of PID's descriptors, the locks
# and the state files.
left_behind() {
	await 10 "[ \"\$(pgrep -cx kpopd)\" -eq $2 ]" || return 1
	echo "descriptors $(ls "/proc/$1/fd" | wc -l)"
	find /var/mail "$state" -printf '%p %y\n' | sort
}

# captive PID "CALL WORD ..." ...: makes the process make these system calls
# (tests/programs/captive.c). Sets $returned to the results, one on each line.
captive() {
	local status=0
	returned=$("$KPOPD_BUILD/tests/programs/captive" "$@" 2>&1) || status=$?
	[ $status -ne 77 ] || skip "$returned"
	[ $status -eq 0 ] || { echo "$returned" >&2; return 1; }
}
