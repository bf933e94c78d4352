#!/usr/bin/env bats
# A full file system, a quota and a limit on file sizes: an honest answer, nothing lost, and the mailbox can still be emptied.

load helpers/all

setup() {
	begin_test
	realm_login alice
	uid=$(id -u alice)
	names=(one two three four five six)
	large_mbox "${names[@]}" >"$WORLD/old"
	large_mbox two four five six >"$WORLD/new"
	large_mbox one two three four five >"$WORLD/tail"
}

teardown() {
	umount "$state/users" 2>/dev/null || true
	umount "$WORLD/small" 2>/dev/null || true
	grep -q 'small' "$WORLD/xinetd.conf" && { server_stop; server_start; }
	end_test
}

# Seven KiB a message: 28 KiB stay behind the first that goes.
large_mbox() {
	local name
	for name in "$@"; do
		from_line
		make_message "$name" 500
		echo
	done
}

# small KIND OPTIONS: a file system of 8 MiB for the journals, $state/users, of the kind and mounted with options.
small() {
	mkdir -p "$state/users"
	if [ "$1" = tmpfs ]; then
		mount -t tmpfs -o "size=8m,mode=711${2:+,$2}" small "$state/users"
	else
		rm -f "$WORLD/small.image"
		truncate -s 8M "$WORLD/small.image"
		mkfs.ext4 -q -m 0 ${ext4_options-} "$WORLD/small.image"
		mount -o "loop${2:+,$2}" "$WORLD/small.image" "$state/users" || return 1
		chmod 711 "$state/users"
	fi
}

# leave KIB: so much stays free for alice.
leave() {
	rm -f "$state/users/filler"
	local free
	free=$(df -k --output=avail "$state/users" | tail -n 1)
	[ "$free" -le "$1" ] || fallocate -l "$(((free - $1) * 1024))" "$state/users/filler"
	free=$(df -k --output=avail "$state/users" | tail -n 1)
	[ "$free" -le "$1" ] || head -c "$(((free - $1) * 1024))" /dev/zero >>"$state/users/filler"
}

# spool_same NAME: the spool is this file of $WORLD.
spool_same() {
	cmp "$spool" "$WORLD/$1"
}

reset_spool() {
	rm -f "$state/users/filler"
	cat "$WORLD/old" >"$spool"
}

# One amount of free space: a removal from the middle, then of the last message, then of all.
full_point() {
	reset_spool
	leave "$1"
	run pop alice "DELE 1" "DELE 3" QUIT
	case ${lines[-1]} in
	"+OK bye, 4 messages left") spool_same new && no_journal || return 1 ;;
	"-ERR [SYS/TEMP] nothing removed") refused=$((refused + 1)); spool_same old && no_journal || return 1 ;;
	*) echo "$output"; return 1 ;;
	esac
	reset_spool
	leave "$1"
	run pop alice "DELE 6" QUIT
	[ "${lines[-1]}" = "+OK bye, 5 messages left" ] && spool_same tail && no_journal || { echo "$output"; return 1; }
	run pop alice "DELE 1" "DELE 2" "DELE 3" "DELE 4" "DELE 5" QUIT
	[ "${lines[-1]}" = "+OK bye, 0 messages left" ] && [ ! -s "$spool" ] && no_journal || { echo "$output"; return 1; }
}

# sweep: every KiB from nothing to more than enough, or a spread of them. Some have to fail and some to succeed.
sweep() {
	local free some="0 1 3 4 5 8 16 27 28 29 31 32 33 36 40 48 64"
	local refusals="$WORLD/refusals"
	long && some=$(seq 0 64)
	pop alice QUIT >/dev/null
	rm -f "$refusals"
	for free in $some; do
		count_point full_point_counted "$free"
	done
	[ -s "$refusals" ] && [ "$(wc -l <"$refusals")" -lt "$points" ]
}

full_point_counted() {
	refused=0
	full_point "$1" || return 1
	[ "$refused" -eq 0 ] || echo "$1" >>"$WORLD/refusals"
}

@test "journals on a full ext4 and a full tmpfs" {
	store alice <"$WORLD/old"
	spool=/var/mail/alice
	for kind in ext4 tmpfs; do
		small $kind || skip "no loop devices here"
		sweep
		umount "$state/users"
	done
	points_are_good "journals on a full file system" 30
}

@test "journals and the spool itself on one full file system" {
	for kind in ext4 tmpfs; do
		small $kind || skip "no loop devices here"
		mkdir -p "$WORLD/small"
		mount --bind "$state/users" "$WORLD/small"
		mkdir "$WORLD/small/mail"
		chown alice "$WORLD/small/mail"
		spool=$WORLD/small/mail/alice
		cp "$WORLD/old" "$spool"
		chown alice "$spool"
		server_stop
		server_start -l fcntl -m "mbox:$WORLD/small/mail/%u"
		sweep
		umount "$WORLD/small" "$state/users"
	done
	points_are_good "journals and spool on a full file system" 30
}

@test "no inode left: for the journal, for a new user" {
	store alice <"$WORLD/old"
	spool=/var/mail/alice
	small tmpfs nr_inodes=6
	pop alice QUIT
	for i in 1 2 3 4 5 6; do
		: >"$state/users/full.$i" || break
	done 2>/dev/null
	run pop alice "DELE 1" QUIT
	[ "${lines[-1]}" = "-ERR [SYS/TEMP] nothing removed" ]
	spool_same old
	no_journal
	KRB5CCNAME=FILE:$WORLD/bob.cc kinit -k -t "$WORLD/keytabs/bob.keytab" bob
	KRB5CCNAME=FILE:$WORLD/bob.cc run pop bob STAT QUIT
	[[ ${lines[-1]} == "-ERR [SYS/TEMP]"* ]] || { echo "$output"; return 1; }
	log_has 'No space left'
	run pop alice "DELE 1" "DELE 2" "DELE 3" "DELE 4" "DELE 5" "DELE 6" QUIT
	[ "${lines[-1]}" = "+OK bye, 0 messages left" ]
}

# A file system on which $state/users has a quota: ext4's for users where the kernel knows them, else btrfs' for
# subvolumes. 16 KiB more may be written than there is now.
quota() {
	ext4_options="-O quota" small ext4 usrquota 2>/dev/null && {
		pop alice QUIT
		setquota -u alice 0 16 0 0 "$state/users"
		return
	}
	rm -f "$WORLD/small.image"
	truncate -s 128M "$WORLD/small.image"
	mkfs.btrfs -q "$WORLD/small.image"
	mkdir -p "$WORLD/small" "$state/users"
	mount -o loop "$WORLD/small.image" "$WORLD/small" || return 1
	btrfs -q subvolume create "$WORLD/small/users"
	chmod 711 "$WORLD/small/users"
	btrfs -q quota enable "$WORLD/small"
	mount --bind "$WORLD/small/users" "$state/users"
	pop alice QUIT
	sync -f "$WORLD/small"
	btrfs -q qgroup limit $(($(btrfs qgroup show -r --raw "$WORLD/small/users" | awk '/^0\// { n = $2 } END { print n }') + 16384)) "$WORLD/small/users"
}

@test "at her quota: nothing is removed but the last ones, and all" {
	store alice <"$WORLD/old"
	spool=/var/mail/alice
	quota || skip "this kernel has no quota, neither ext4's nor btrfs'"
	run pop alice "DELE 1" QUIT
	[ "${lines[-1]}" = "-ERR [SYS/TEMP] nothing removed" ] || { echo "$output"; return 1; }
	log_has 'Disk quota exceeded'
	spool_same old
	no_journal
	run pop alice "DELE 6" QUIT
	[ "${lines[-1]}" = "+OK bye, 5 messages left" ]
	spool_same tail
	run pop alice "DELE 1" "DELE 2" "DELE 3" "DELE 4" "DELE 5" QUIT
	[ "${lines[-1]}" = "+OK bye, 0 messages left" ]
	[ ! -s "$spool" ]
}

@test "a limit on the size of files: nothing is removed but what needs no larger one" {
	store alice <"$WORLD/old"
	spool=/var/mail/alice
	server_stop
	(ulimit -f 20 && server_start)
	run pop alice "DELE 1" QUIT
	[ "${lines[-1]}" = "-ERR [SYS/TEMP] nothing removed" ] || { echo "$output"; return 1; }
	spool_same old
	no_journal
	log_has 'File too large'
	run pop alice "DELE 1" "DELE 2" "DELE 3" "DELE 4" "DELE 5" "DELE 6" QUIT
	[ "${lines[-1]}" = "+OK bye, 0 messages left" ]
	server_stop
	server_start
}
