#!/usr/bin/env bats
# No space, no inodes, no quota, no larger file: the answer is true, nothing is
# lost, and a full mailbox can still be emptied.

load helpers/all
load helpers/points

# 8 KiB each: the first message has 40 KiB behind it.
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

# disk KIND [OPTIONS]: a new small file system, with room for state and spool. A
# loop device goes by itself with its mount.
disk() {
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

# on_it state|spool|both|nothing: what of the users' is to be on the small file
# system. The replay cache is not: where it finds no space everybody is refused.
on_it() {
	case $1 in state | both) put_there "$small/users" "$state/users" ;; esac
	case $1 in spool | both) put_there "$small/mail" /var/mail ;; esac
	mbox one | store alice
	pop alice QUIT
}

put_there() {
	mount --bind "$1" "$2"
	mounted=("$2" "${mounted[@]}")
}

free_kib() {
	local free unit
	read -r free unit < <(stat -f -c '%a %S' "$small")
	kib=$((free * unit / 1024))
}

# leave N: so many KiB are free, exactly.
leave() {
	local size
	sync -f "$small"
	for _ in $(seq 20); do
		free_kib
		[ "$kib" -ne "$1" ] || return 0
		size=$(stat -c %s "$small/filler" 2>/dev/null) || size=0
		if [ "$kib" -gt "$1" ]; then
			# What was freed a moment ago is free, but not to be had
			# before the file system's journal is written.
			fallocate -l $((size + (kib - $1) * 1024)) \
			    "$small/filler" 2>/dev/null ||
			    {
				    head -c $(((kib - $1) * 1024)) /dev/zero \
					>>"$small/filler"
				    sync -f "$small"
			    } 2>/dev/null || :
		else
			truncate -s $((size - ($1 - kib) * 1024)) \
			    "$small/filler"
		fi
	done
	# What root cannot have is nobody's: no block more, so it is full.
	if [ "$1" -eq 0 ] &&
	    ! fallocate -l $((size + 1024)) "$small/filler" \
		2>/dev/null; then return 0; fi
	echo "cannot leave $1 KiB, only $kib" >&2
	return 1
}

# leave_inodes: none is free.
leave_inodes() {
	local i=0
	mkdir -p "$small/inodes"
	while : >"$small/inodes/$((i++))"; do :; done 2>/dev/null
	[ "$(stat -f -c %d "$small")" -eq 0 ]
}

make_room() {
	rm -rf "${small:?}/filler" "$small/inodes"
}

# quit_at FULL …: a QUIT of the scene, and before it the file system is made as
# full as the command says.
quit_at() {
	make_room
	refill "$WORLD/before"
	session_opens "${deletions[@]}" && "$@" || return
	pop_say QUIT
	answer && session_ends || return
	echo "$heard" >>"$WORLD/answers"
}

# true_point SCENE COMMAND …: what the command does before QUIT lasts until the
# next login, too.
true_point() {
	scene "$1"
	{ quit_at "${@:2}" && is_true "$heard"; } || { mop_up; return 1; }
}

# full_point SCENE COMMAND …: as true_point, and what needs no space is not
# refused.
full_point() {
	true_point "$@" || return
	case $1 in
	tail | all)
		[[ $heard == "+OK bye, $left "* ]] ||
		    { wrong "$heard"; return 1; }
		;;
	esac
}

# steps MOST: the KiB that the sweep leaves.
steps() {
	if long; then seq 0 "$1"; else echo 0 1 $(($1 / 2)) 44 "$1"; fi
}

# sweep WHAT: each scene at each number of KiB; some of them have to be too few,
# and some enough.
sweep() {
	local n which
	for n in $(steps 56); do
		# A tmpfs has pages.
		[ "$(stat -f -c %S "$small")" -le 1024 ] || ((n % 4 == 0)) ||
		    continue
		for which in first mixed tail all; do
			count_point full_point $which leave "$n"
		done
	done
	make_room
	! grep -v '^+OK bye\|^-ERR \[SYS/TEMP\] nothing removed' \
	    "$WORLD/answers" || return 1
	grep -q '^+OK bye, 5 ' "$WORLD/answers"
	points_are_good "$1" 16
}

# bats test_tags=fault:6-1,promise:7
@test "the state directory on a full ext4: nothing is removed or all of it, the tail and all always can be" {
	disk ext4
	on_it state
	sweep "state on ext4"
	grep -q '^-ERR' "$WORLD/answers"
}

@test "the same, state and spool on one file system" {
	disk ext4
	on_it both
	sweep "state and spool on ext4"
	grep -q '^-ERR' "$WORLD/answers"
}

@test "the same, only the spool on a full file system" {
	disk ext4
	on_it spool
	sweep "spool on ext4"
}

@test "the same on a tmpfs" {
	disk tmpfs
	on_it both
	sweep "state and spool on tmpfs"
	grep -q '^-ERR' "$WORLD/answers"
}

@test "a lock of another program on a full spool is respected; a stale one is not" {
	disk ext4
	on_it spool
	leave 0
	forget_index
	: >/var/mail/alice.lock
	pop_patience=15 pop_open
	printf '%s\r\n' "USER alice" "PASS x" >&"$pop_out"
	pop_hear '^\+OK'
	pop_hear '^\+OK'
	pop_patience=15 pop_hear '^-ERR \[IN-USE\]'
	pop_hear_end
	[ -e /var/mail/alice.lock ]
	touch -d '-6 minutes' /var/mail/alice.lock
	[ "$(last_login)" = 1 ]
	[ ! -e /var/mail/alice.lock ]
}

@test "no inode for the journal: nothing is removed, but the tail and all can be" {
	for kind in ext4 tmpfs; do
		[ $kind = tmpfs ] && disk tmpfs nr_inodes=32 ||
		    disk ext4 '-N 32'
		on_it state
		for which in first mixed tail all; do
			count_point full_point $which leave_inodes
		done
		make_room
		umount "$state/users" "$small"
		mounted=()
	done
	[ "$(sort "$WORLD/answers" | uniq -c | tr -s ' ' | tr '\n' ,)" \
	    = " 2 +OK bye, 0 messages left, 2 +OK bye, 4 messages left, 4 -ERR [SYS/TEMP] nothing removed," ]
	points_are_good "no inodes" 8
}

@test "no inode in the spool: it cannot be locked, nothing is removed; with one again all is well" {
	disk tmpfs nr_inodes=32
	on_it spool
	scene first
	quit_at leave_inodes
	[ "$heard" = "-ERR [SYS/TEMP] nothing removed" ]
	is_now "$WORLD/before"
	[[ $(last_login) == "-ERR [SYS/TEMP]"* ]]
	make_room
	is_true "$heard"
}

@test "no space for a user's first login: a clear answer, nothing lost" {
	disk tmpfs nr_inodes=32
	mbox one | store alice
	put_there "$small/users" "$state/users"
	leave_inodes
	run pop alice QUIT
	[ "${lines[-1]}" = "-ERR [SYS/TEMP] the mailbox cannot be opened now" ]
	log_has 'No space left'
	# To somebody else this says nothing about who there is.
	realm_login bob
	run pop alice QUIT
	[ "${lines[-1]}" = \
	    "-ERR [AUTH] this ticket does not open that mailbox" ]
	realm_login alice
	# The directory is there, but its lock file cannot be.
	make_room
	mkdir -m 700 "$state/users/$uid"
	chown alice: "$state/users/$uid"
	leave_inodes
	run pop alice QUIT
	[ "${lines[-1]}" = "-ERR [SYS/TEMP] the mailbox cannot be opened now" ]
	make_room
	[ "$(last_login)" = 1 ]
	spool_is alice one
}

@test "no space for the pre-auth process: a clear answer, nothing lost" {
	mbox one | store alice
	server_stop
	disk tmpfs
	# Room for the replay cache, when the rest has gone.
	mount -o remount,size=16m "$small"
	put_there "$small" "$state"
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

# grant N: alice's quota is so many KiB above what she has.
grant() {
	local used
	sync -f "$small"
	used=$(repquota -u -v "$small" | awk '$1 == "alice" { print $3 }') &&
	    [ -n "$used" ] || return
	setquota -u alice 0 $((used + $1)) 0 0 "$small"
}

@test "a user at her quota: nothing is removed or all of it, the tail and all always can be" {
	[ -e /dev/loop-control ] || skip "no loop devices"
	truncate -s 8M "$WORLD/image"
	mkfs.ext4 -q -m 0 -b 1024 -O quota -E quotatype=usrquota "$WORLD/image"
	mount -o loop,usrquota "$WORLD/image" "$small" 2>"$WORLD/mount" ||
	    skip "this kernel mounts no ext4 with quota"
	umount "$small"
	disk ext4 '-O quota -E quotatype=usrquota'
	on_it state
	for n in $(steps 56); do
		for which in first mixed tail all; do
			count_point full_point $which grant "$n"
		done
	done
	setquota -u alice 0 0 0 0 "$small"
	grep -q '^-ERR' "$WORLD/answers"
	points_are_good "quota" 16
}

# writes_fail ERROR: no byte can be written into any file.
writes_fail() {
	faults "$session" -e "inject=pwrite64:error=$1"
}

# btrfs has quotas of its own where the kernel lacks those of users.
# bats test_tags=fault:7
@test "a subvolume at its quota: nothing is removed, the tail and all can be" {
	[ -e /dev/loop-control ] || skip "no loop devices"
	truncate -s 128M "$WORLD/image"
	mkfs.btrfs -q "$WORLD/image"
	mount -o loop "$WORLD/image" "$small" ||
	    skip "this kernel mounts no btrfs"
	mounted=("$small")
	btrfs -q subvolume create "$small/users"
	chmod 711 "$small/users"
	btrfs -q quota enable "$small"
	on_it state
	sync -f "$small"
	used=$(btrfs qgroup show -r --raw "$small/users" |
	    awk '/^0\// { n = $2 } END { print n }')
	btrfs -q qgroup limit $((used + 16384)) "$small/users"
	for which in first mixed tail all; do
		count_point full_point $which :
	done
	log_has 'Disk quota exceeded'
	[ "$(grep -c '^-ERR \[SYS/TEMP\] nothing removed' "$WORLD/answers")" \
	    -eq 2 ]
	points_are_good "quota of a subvolume" 4
}

@test "no byte can be written, for want of space, quota or a disk that works: nothing is removed, but all can be" {
	[ -z "${SANITIZER-}" ] || skip "ASan's own system calls are in the way"
	on_it nothing
	for error in ENOSPC EDQUOT EIO; do
		for which in first mixed tail all; do
			count_point full_point $which writes_fail $error
		done
	done
	[ "$(grep -c '^-ERR' "$WORLD/answers")" -eq 6 ]
	points_are_good "no octet written" 12
}

# limit N: the session's files may have so many bytes, and no more: what goes
# further is a short write, then EFBIG.
limit() {
	# As the user: root need not have CAP_SYS_RESOURCE.
	setpriv --reuid=alice --regid=alice --clear-groups prlimit \
	    --pid "$session" --fsize="$1"
}

# bats test_tags=catalogue:86-3
@test "a limit of the file size at any place of journal and mailbox: a true answer" {
	on_it nothing
	scene first
	most=$(($(stat -c %s "$WORLD/before") + 8192))
	step=$((most / 6))
	if long; then step=509; fi
	for n in $(seq 0 $step $most) 4095 4096 4097; do
		for which in first mixed tail all; do
			count_point true_point $which limit "$n"
		done
	done
	grep -q '^-ERR.*nothing removed' "$WORLD/answers"
	grep -q '^-ERR.*next login' "$WORLD/answers"
	log_has 'failed .*error="File too large"'
	points_are_good "file size limits" 30
}
