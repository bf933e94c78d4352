# A file system that answers its calls or keeps them waiting
# (tests/programs/fuse.pl). A test can have only one such file system at a time.

# fuse_over DIRECTORY [OPTION ...]: mounts the file system over the directory,
# with these options of fuse.pl. The file system shows the directory's files,
# which are now in $WORLD/fuse. Skips the test if the kernel has no FUSE.
fuse_over() {
	fuse_at=$1
	rm -rf "$WORLD/fuse" "$WORLD/fuse.hang" "$WORLD/fuse.log"
	cp -a "$1" "$WORLD/fuse"
	: >"$WORLD/fuse.log"
	fuse_mount "$@"
	await 5 "mountpoint -q '$1' || ! kill -0 $fuse_pid" || return
	mountpoint -q "$1" || skip "this kernel has no FUSE"
}

# fuse_mount DIRECTORY [OPTION ...]: mounts $WORLD/fuse over the directory.
fuse_mount() {
	perl "$BATS_TEST_DIRNAME/programs/fuse.pl" "$WORLD/fuse" "$1" \
	    "$WORLD/fuse.hang" "$WORLD/fuse.log" "${@:2}" 3>&- &
	fuse_pid=$!
}

# fuse_hang PATTERN: keeps calls waiting if they match the pattern (extended),
# such as "READ /new/1" or "LOOKUP /.k5login".
fuse_hang() {
	: >"$WORLD/fuse.log"
	printf '%s\n' "$1" >"$WORLD/fuse.hang.new"
	mv "$WORLD/fuse.hang.new" "$WORLD/fuse.hang"
}

# fuse_hangs [COUNT]: waits until COUNT calls (one by default) wait for an
# answer.
fuse_hangs() {
	await 10 "[ \$(wc -l <'$WORLD/fuse.log') -ge ${1-1} ]"
}

# fuse_answers: makes the file system answer all calls, including those that
# wait.
fuse_answers() {
	rm -f "$WORLD/fuse.hang"
	kill -CONT "$fuse_pid" 2>/dev/null || true
}

# fuse_sleep: stops the file system, so that it does not even receive calls. A
# process that waits for the file system can be killed, as with NFS.
fuse_sleep() {
	kill -STOP "$fuse_pid"
	await 5 '[[ $(field "$fuse_pid" State) == T* ]]'
}

# fuse_end: ends the file system, if there is one, and copies its files to the
# directory.
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
