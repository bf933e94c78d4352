#!/usr/bin/env bats
# Checks that QUIT's answer is true and that no mail is lost if space, inodes or
# quota are used up. Checks that a full mailbox can be emptied.

load helpers/all
load helpers/points

# Each of the six messages has 8 KiB, so 40 KiB follow the first message.
body_lines=560
small=$WORLD/small

setup() {
	begin_test
	realm_login alice
	uid=$(id -u alice)
	points=0 bad=0 mounted=()
	mkdir -p "$small" && mkdir -p -m 711 "$state/users"
	: >"$WORLD/answers"
}

teardown() {
	local at status=0
	end_test || status=1
	for at in "${mounted[@]}"; do
		umount "$at" || { umount -l "$at"; status=1; }
	done
	rm -f "$WORLD/image"
	return $status
}

# mount_small KIND [OPTIONS]: mounts a new small file system, and makes
# directories for the state and the spool in it. The kernel frees the loop
# device together with its mount.
mount_small() {
	if [ "$1" = tmpfs ]; then
		mount -t tmpfs -o "mode=755,size=1m${2:+,$2}" small "$small"
	else
		[ -e /dev/loop-control ] || skip "no loop devices"
		truncate -s 8M "$WORLD/image"
		mkfs.ext4 -q -m 0 -b 1024 ${2-} "$WORLD/image"
		mount -o loop "$WORLD/image" "$small"
	fi
	mounted=("$small")
	mkdir -m 711 "$small/users"
	mkdir "$small/mail"
	chgrp mail "$small/mail"
	chmod 2775 "$small/mail"
}

# use_small_for state|spool|both|nothing: moves the users' state, the spool or
# both to the small file system. The replay cache stays where it is, because
# kpopd refuses each login if it cannot write the cache.
use_small_for() {
	[[ $1 != @(state|both) ]] || bind_mount "$small/users" "$state/users"
	[[ $1 != @(spool|both) ]] || bind_mount "$small/mail" /var/mail
	mbox one | store alice
	pop alice QUIT
}

# bind_mount FROM TO: mounts a directory at another place until the end of the
# test.
bind_mount() {
	mount --bind "$1" "$2"
	mounted=("$2" "${mounted[@]}")
}

# free_kib: sets $kib to the free space on the small file system.
free_kib() {
	local free unit
	read -r free unit < <(stat -f -c '%a %S' "$small")
	kib=$((free * unit / 1024))
}

# leave KIB: fills the small file system until exactly KIB is free.
leave() {
	local size
	sync -f "$small"
	for _ in $(seq 20); do
		free_kib
		[ "$kib" -ne "$1" ] || return 0
		size=$(stat -c %s "$small/filler" 2>/dev/null) || size=0
		if [ "$kib" -gt "$1" ]; then
			# The file system can allocate freed blocks only after
			# the file system has written its own journal.
			fallocate -l $((size + (kib - $1) * 1024)) \
			    "$small/filler" 2>/dev/null || {
				head -c $(((kib - $1) * 1024)) /dev/zero \
				    >>"$small/filler"
				sync -f "$small"
			} 2>/dev/null || :
		else
			truncate -s $((size - ($1 - kib) * 1024)) \
			    "$small/filler"
		fi
	done
	# The file system is full if root cannot allocate another block.
	if [ "$1" -eq 0 ] && ! fallocate -l $((size + 1024)) \
	    "$small/filler" 2>/dev/null; then return 0; fi
	echo "cannot leave $1 KiB, only $kib" >&2
	return 1
}

# use_all_inodes: makes files on the small file system until no inode is left.
use_all_inodes() {
	local i=0
	mkdir -p "$small/inodes"
	while : >"$small/inodes/$((i++))"; do :; done 2>/dev/null
	[ "$(stat -f -c %d "$small")" -eq 0 ]
}

# make_room: removes the files that leave and use_all_inodes made.
make_room() {
	rm -rf "${small:?}/filler" "$small/inodes"
}

# quit_after COMMAND …: runs a session of the scene, and runs the command before
# QUIT. Sets $heard to the answer.
quit_after() {
	make_room
	refill "$WORLD/before"
	session_opens "${deletions[@]}" && "$@" || return
	pop_say QUIT
	answer && session_ends || return
	echo "$heard" >>"$WORLD/answers"
}

# true_point SCENE COMMAND …: runs the command before QUIT. Returns true if the
# answer describes the mailbox truly. The effect of the command lasts until the
# next login has ended.
true_point() {
	scene "$1"
	{ quit_after "${@:2}" && is_true "$heard"; } || { mop_up; return 1; }
}

# full_point SCENE COMMAND …: runs true_point. Also returns false if a removal
# that needs no space has failed.
full_point() {
	true_point "$@" || return
	case $1 in
	tail | all)
		[[ $heard == "+OK bye, $left "* ]] ||
		    { wrong "$heard"; return 1; }
		;;
	esac
}

# steps MOST: prints the numbers of KiB that a sweep leaves free.
steps() {
	if long; then seq 0 "$1"; else echo 0 1 $(($1 / 2)) 44 "$1"; fi
}

# each_scene COMMAND …: runs full_point for each scene.
each_scene() {
	local name
	for name in first mixed tail all; do
		count_point full_point $name "$@"
	done
}

# sweep TITLE: runs full_point for each scene and each number of KiB. Fails
# unless at least one number of KiB was enough space.
sweep() {
	local n
	for n in $(steps 56); do
		# A tmpfs has pages of 4 KiB, so only multiples of 4 make a
		# difference.
		[ "$(stat -f -c %S "$small")" -le 1024 ] || ((n % 4 == 0)) ||
		    continue
		each_scene leave "$n"
	done
	make_room
	refute grep -v '^+OK bye\|^-ERR \[SYS/TEMP\] nothing removed' \
	    "$WORLD/answers"
	grep -q '^+OK bye, 5 ' "$WORLD/answers"
	points_are_good "$1" 16
}

# bats test_tags=fault:6-1,promise:7
@test "QUIT removes all marked messages or none if the state directory's ext4 is full" {
	mount_small ext4
	use_small_for state
	sweep "state on ext4"
	grep -q '^-ERR' "$WORLD/answers"
}

@test "QUIT removes all marked messages or none if state and spool are on one full ext4" {
	mount_small ext4
	use_small_for both
	sweep "state and spool on ext4"
	grep -q '^-ERR' "$WORLD/answers"
}

@test "QUIT removes all marked messages or none if the spool's ext4 is full" {
	mount_small ext4
	use_small_for spool
	sweep "spool on ext4"
}

@test "QUIT removes all marked messages or none if state and spool are on one full tmpfs" {
	mount_small tmpfs
	use_small_for both
	sweep "state and spool on tmpfs"
	grep -q '^-ERR' "$WORLD/answers"
}

@test "kpopd respects another program's dotlock on a full file system, and removes a stale one" {
	mount_small ext4
	use_small_for spool
	leave 0
	forget_index
	: >/var/mail/alice.lock
	pop_open
	printf '%s\r\n' "USER alice" "PASS x" >&"$pop_out"
	pop_hear '^\+OK'
	pop_hear '^\+OK'
	pop_patience=60 pop_hear '^-ERR \[IN-USE\]'
	pop_hear_end
	[ -e /var/mail/alice.lock ]
	touch -d '-6 minutes' /var/mail/alice.lock
	[ "$(last_login)" = 1 ]
	[ ! -e /var/mail/alice.lock ]
}

@test "QUIT removes nothing if no inode is left for the journal, unless it removes the last messages or all messages" {
	for kind in ext4 tmpfs; do
		case $kind in
		ext4) mount_small ext4 '-N 32' ;;
		tmpfs) mount_small tmpfs nr_inodes=32 ;;
		esac
		use_small_for state
		each_scene use_all_inodes
		make_room
		kpopd_ends 20
		umount "$state/users" "$small"
		mounted=()
	done
	[ "$(sort "$WORLD/answers" | uniq -c | tr -s ' ' | tr '\n' ,)" \
	    = " 2 +OK bye, 0 messages left, 2 +OK bye, 4 messages left, 4 -ERR [SYS/TEMP] nothing removed," ]
	points_are_good "no inodes" 8
	log_has 'failed .*what="creating the journal in the state directory" error="No space left on device" mailbox=/var/mail/alice$'
}

@test "QUIT removes nothing if no inode is left for the dotlock, and a later QUIT works when an inode is free" {
	mount_small tmpfs nr_inodes=32
	use_small_for spool
	scene first
	quit_after use_all_inodes
	[ "$heard" = "-ERR [SYS/TEMP] nothing removed" ]
	is_now "$WORLD/before"
	[[ $(last_login) == "-ERR [SYS/TEMP]"* ]]
	make_room
	is_true "$heard"
}

@test "a user's first login without an inode for her state directory gets [SYS/TEMP], and her mail stays" {
	mount_small tmpfs nr_inodes=32
	mbox one | store alice
	bind_mount "$small/users" "$state/users"
	use_all_inodes
	run pop alice QUIT
	[ "${lines[-1]}" = "-ERR [SYS/TEMP] the mailbox cannot be opened now" ]
	log_has 'No space left'
	# The answer to another principal is the same as if the disk had space.
	realm_login bob
	run pop alice QUIT
	[ "${lines[-1]}" = \
	    "-ERR [AUTH] this ticket does not open that mailbox" ]
	realm_login alice
	# Now the directory exists, but its lock file cannot be made.
	make_room
	mkdir -m 700 "$state/users/$uid"
	chown alice: "$state/users/$uid"
	use_all_inodes
	run pop alice QUIT
	[ "${lines[-1]}" = "-ERR [SYS/TEMP] the mailbox cannot be opened now" ]
	log_count 2 'logout .* reason=unavailable$'
	make_room
	[ "$(last_login)" = 1 ]
	spool_is alice one
}

@test "kpopd answers that a service is not available if a login finds no space for the replay cache" {
	mbox one | store alice
	server_stop
	mount_small tmpfs
	# After make_room, the replay cache has enough space.
	mount -o remount,size=16m "$small"
	bind_mount "$small" "$state"
	server_start
	leave 0
	run pop alice QUIT
	[[ $output == \
	    "kpopc: the server refused the ticket: A service is not available"* ]]
	log_has 'failed .*opening the replay cache .*No space left'
	make_room
	[ "$(last_login)" = 1 ]
	spool_is alice one
}

@test "kpopd with TLS answers each client if no inode is left for the jail of kpopd-tls" {
	[ -z "${SANITIZER-}" ] || skip "the sanitizers' reports need the jails"
	server_stop
	tls_make
	mount_small tmpfs nr_inodes=32
	bind_mount "$small" "$state"
	use_all_inodes
	server_start $(tls_options)
	run timeout 10 bash -c 'cat </dev/tcp/127.0.0.1/1109'
	log_has \
	    "failed .*what=.making directory $state/tls. error=.No space left"
	[[ $output == "-ERR [SYS/TEMP] the server cannot serve now"* ]]
}

# grant KIB: sets alice's quota to KIB more than alice uses.
grant() {
	local used
	sync -f "$small"
	used=$(repquota -u -v "$small" | awk '$1 == "alice" { print $3 }') &&
	    [ -n "$used" ] || return
	setquota -u alice 0 $((used + $1)) 0 0 "$small"
}

@test "QUIT removes all marked messages or none if the user is near her ext4 quota" {
	[ -e /dev/loop-control ] || skip "no loop devices"
	truncate -s 8M "$WORLD/image"
	mkfs.ext4 -q -m 0 -b 1024 -O quota -E quotatype=usrquota "$WORLD/image"
	mount -o loop,usrquota "$WORLD/image" "$small" 2>"$WORLD/mount" ||
	    skip "this kernel mounts no ext4 with quota"
	umount "$small"
	mount_small ext4 '-O quota -E quotatype=usrquota'
	use_small_for state
	for n in $(steps 56); do
		each_scene grant "$n"
	done
	setquota -u alice 0 0 0 0 "$small"
	grep -q '^-ERR' "$WORLD/answers"
	points_are_good "quota" 16
}

# writes_fail ERROR: makes each write of the session to a file fail.
writes_fail() {
	faults "$session" -e "inject=pwrite64:error=$1"
}

# btrfs has quotas even if the kernel has no user quotas.
# bats test_tags=fault:7
@test "QUIT removes nothing in a btrfs subvolume at its quota, unless it removes the last messages or all messages" {
	[ -e /dev/loop-control ] || skip "no loop devices"
	truncate -s 128M "$WORLD/image"
	mkfs.btrfs -q "$WORLD/image"
	mount -o loop "$WORLD/image" "$small" ||
	    skip "this kernel mounts no btrfs"
	mounted=("$small")
	btrfs -q subvolume create "$small/users"
	chmod 711 "$small/users"
	btrfs -q quota enable "$small"
	use_small_for state
	sync -f "$small"
	used=$(btrfs qgroup show -r --raw "$small/users" |
	    awk '/^0\// { n = $2 } END { print n }')
	btrfs -q qgroup limit $((used + 16384)) "$small/users"
	each_scene :
	log_has 'Disk quota exceeded'
	[ "$(grep -c '^-ERR \[SYS/TEMP\] nothing removed' "$WORLD/answers")" \
	    -eq 2 ]
	points_are_good "quota of a subvolume" 4
}

@test "QUIT removes nothing if all writes fail (ENOSPC, EDQUOT, EIO), unless it removes the last messages or all messages" {
	[ -z "${SANITIZER-}" ] || skip "ASan's own system calls are in the way"
	use_small_for nothing
	for error in ENOSPC EDQUOT EIO; do
		each_scene writes_fail $error
	done
	[ "$(grep -c '^-ERR' "$WORLD/answers")" -eq 6 ]
	points_are_good "no byte written" 12
}

# limit BYTES: limits the size of the session's files. A write that crosses the
# limit writes only the bytes below the limit. The next write fails with EFBIG.
limit() {
	# Run prlimit as the user, because root may lack CAP_SYS_RESOURCE.
	setpriv --reuid=alice --regid=alice --clear-groups prlimit \
	    --pid "$session" --fsize="$1"
}

# bats test_tags=catalogue:86-3
@test "QUIT's answer is true wherever in the journal or the mailbox the limit of the file size is reached" {
	use_small_for nothing
	scene first
	most=$(($(stat -c %s "$WORLD/before") + 8192))
	step=$((most / 6))
	if long; then step=509; fi
	for n in $(seq 0 $step $most) 4095 4096 4097; do
		for name in first mixed tail all; do
			count_point true_point $name limit "$n"
		done
	done
	grep -q '^-ERR.*nothing removed' "$WORLD/answers"
	grep -q '^-ERR.*may not be removed yet' "$WORLD/answers"
	log_has 'failed .*error="File too large"'
	points_are_good "file size limits" 30
}
