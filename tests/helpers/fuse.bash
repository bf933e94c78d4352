# File systems that answer, or do not (fuse.pl). One at a time.

# fuse_over DIRECTORY: from now on its files come through a file system of which
# fuse_hang decides what it answers.
fuse_over() {
	fuse_at=$1
	rm -rf "$WORLD/fuse" "$WORLD/fuse.hang" "$WORLD/fuse.log"
	cp -a "$1" "$WORLD/fuse"
	: >"$WORLD/fuse.log"
	perl "$BATS_TEST_DIRNAME/programs/fuse.pl" "$WORLD/fuse" "$1" \
	    "$WORLD/fuse.hang" "$WORLD/fuse.log" 3>&- &
	fuse_pid=$!
	await 5 "mountpoint -q '$1' || ! kill -0 $fuse_pid" || return
	mountpoint -q "$1" || skip "this kernel has no FUSE"
}

# fuse_hang PATTERN: calls that match it get no answer ("READ /new/1", "LOOKUP
# /.k5login"; extended).
fuse_hang() {
	: >"$WORLD/fuse.log"
	printf '%s\n' "$1" >"$WORLD/fuse.hang.new"
	mv "$WORLD/fuse.hang.new" "$WORLD/fuse.hang"
}

# fuse_hangs [COUNT]: so many calls wait for an answer.
fuse_hangs() {
	await 10 "[ \$(wc -l <'$WORLD/fuse.log') -ge ${1-1} ]"
}

# fuse_answers: the calls that wait get their answers now, and all others from
# now on.
fuse_answers() {
	rm -f "$WORLD/fuse.hang"
	kill -CONT "$fuse_pid" 2>/dev/null || true
}

# fuse_sleep: no call is even taken; processes that wait can be killed, as with
# NFS.
fuse_sleep() {
	kill -STOP "$fuse_pid"
	await 5 '[[ $(field "$fuse_pid" State) == T* ]]'
}

# fuse_end: what it had becomes DIRECTORY's own again.
fuse_end() {
	[ -n "${fuse_pid-}" ] || return 0
	fuse_answers
	kill -KILL "$fuse_pid" 2>/dev/null || true
	wait "$fuse_pid" 2>/dev/null || true
	umount -l "$fuse_at" 2>/dev/null || true
	fuse_pid=
	find "$fuse_at" -mindepth 1 -delete
	cp -a "$WORLD/fuse/." "$fuse_at"
}
