#!/usr/bin/env bats
# Killed at any system call of QUIT, or of the recovery after it: no kept
# message is lost, altered or doubled.

load helpers/all

setup() {
	begin_test
	[ -z "${SANITIZER-}" ] || skip "ASan's own system calls are in the way"
	realm_login alice
}

teardown() {
	locker_stop
	end_test
}

# intact LATE ...: after the next login, the spool is the old or the new one and
# behind it what has arrived. If the client was told that the messages are
# removed, it is the new one.
intact() {
	local name
	pop alice QUIT >"$WORLD/answer" || { cat "$WORLD/answer"; return 1; }
	no_journal || return 1
	[ ! -e /var/mail/alice.lock ] || { echo "a dotlock is left"; return 1; }
	for name in old new; do
		[[ $name = new || $said != +OK* ]] || continue
		cat "$WORLD/$name" <(mbox "$@") | cmp -s - /var/mail/alice &&
		    return 0
	done
	diff "$WORLD/old" /var/mail/alice
	diff "$WORLD/new" /var/mail/alice
	return 1
}

quit_point() {
	local late=()
	killed_quit "$@" || { kill_connection; return 1; }
	if [ "$1" = together ]; then
		late=(late)
		mbox late >>/var/mail/alice
	fi
	intact "${late[@]}"
}

# sweep HOW: all calls of QUIT, with mailboxes of several shapes.
sweep() {
	local number call count n
	for number in $(seq $(long && echo 16 || echo 1)); do
		shape "$number"
		record_quit >"$WORLD/calls"
		while read -r call count <&9; do
			for n in $(sample 6 "$count"); do
				count_point quit_point "$1" "$call" "$n"
			done
		done 9<"$WORLD/calls"
	done
	log_has 'recovery .*state=j\.cut'
	log_has 'recovery .*state=j$'
}

# bats test_tags=fault:1-1
@test "the session killed at each system call of QUIT: its broker sees to it that all or nothing is removed" {
	sweep alone
	points_are_good "session killed" $(long && echo 1000 || echo 20)
}

# Without a dotlock, because the killed monitor's would be left.
# bats test_tags=fault:1-2,promise:7
@test "session and monitor killed at each system call of QUIT: so does the next login, with mail that has arrived" {
	server_stop
	server_start -l fcntl
	sweep together
	points_are_good "all killed" $(long && echo 1000 || echo 20)
}

# The spool and the state directory of a crash, to be had again: the inode is a
# part of it.
keep_crash() {
	rm -rf "$WORLD/crash"
	cp -a "$state/users/$(id -u alice)" "$WORLD/crash"
	cp /var/mail/alice "$WORLD/crash.spool"
}

again_crash() {
	rm -rf "$state/users/$(id -u alice)"
	cp -a "$WORLD/crash" "$state/users/$(id -u alice)"
	cat "$WORLD/crash.spool" >/var/mail/alice
}

# A login that is about to recover: it waits for the spool's lock.
recovering_session() {
	locker L
	log_mark
	pop_open
	pop_say "USER alice"
	pop_say "PASS x"
	log_has 'login '
	session=$(child_pid) monitor=$(monitor_pid)
	hold_broker
}

record_recovery() {
	again_crash
	recovering_session
	attach "$session" -o "$WORLD/trace"
	locker U
	for _ in 1 2 3; do pop_hear '^\+OK'; done
	release_broker
	pop_ask QUIT
	pop_close
	detached
	# Waiting for the lock is not recovering.
	sed -n '/= 0$/,$p' "$WORLD/trace" |
	    sed '/"+OK/q' >"$WORLD/trace.recovery"
	calls_in "$WORLD/trace.recovery" | grep -v '^clock_nanosleep '
}

recovery_point() {
	local call=$1 n=$2
	again_crash
	recovering_session
	attach "$session" -o /dev/null -e "trace=$call" \
	    -e "inject=$call:signal=KILL:when=$n"
	locker U
	# Killed before the mailbox was opened, or done with fewer calls.
	for _ in 1 2 3; do
		pop_hear '' 2>/dev/null ||
		    { echo "$call $n" >>"$WORLD/killed"; break; }
	done
	kill -KILL "$session" 2>/dev/null
	kill_monitor
	pop_close
	detached
	await 5 '! pgrep -x kpopd >/dev/null' || return 1
	mbox later >>/var/mail/alice
	intact late later
}

# bats test_tags=fault:2
@test "killed at each system call of a recovery, the next one finds all or nothing removed" {
	server_stop
	server_start -l fcntl
	locker_start
	crashes=("fsync 1" "fsync 2" "fsync 3" "fsync 4" "ftruncate 1"
	    "unlinkat 2")
	long || crashes=("fsync 3" "ftruncate 1")
	for number in $(seq $(long && echo 8 || echo 1)); do
		shape "$number"
		for crash in "${crashes[@]}"; do
			killed_quit together ${crash% *} ${crash#* }
			mbox late >>/var/mail/alice
			keep_crash
			record_recovery >"$WORLD/calls"
			while read -r call count <&9; do
				for n in $(sample 6 "$count"); do
					count_point recovery_point "$call" "$n"
				done
			done 9<"$WORLD/calls"
		done
	done
	# How often it reads and waits differs from one recovery to the next:
	# some points lie behind its end.
	echo "# recovery killed: $(wc -l <"$WORLD/killed") of them in it" >&3
	[ "$(wc -l <"$WORLD/killed")" -ge $((points * 8 / 10)) ]
	points_are_good "recovery killed" $(long && echo 2000 || echo 20)
}
