#!/usr/bin/env bats
# Checks that kept messages are unchanged if kpopd is killed at any system call
# of QUIT or of the recovery after it.

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

# intact LATE ...: logs in. Returns true if the spool then contains either the
# old or the new messages, followed by the messages LATE. If the client has got
# +OK to QUIT, the spool must contain the new messages.
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

# quit_point alone|together CALL N: kills the session alone, or session and
# monitor together, at the session's Nth CALL of QUIT. Returns true if the spool
# is intact after the next login.
quit_point() {
	local late=()
	killed_quit "$@" || { kill_connection; return 1; }
	if [ "$1" = together ]; then
		late=(late)
		mbox late >>/var/mail/alice
	fi
	intact "${late[@]}"
}

# sweep alone|together: tests each call of QUIT, with mailboxes of several
# shapes.
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
@test "all or no marked messages are removed if the session is killed at any system call of QUIT" {
	sweep alone
	points_are_good "session killed" $(long && echo 1000 || echo 20)
}

# The server uses no dotlock, because a killed monitor would leave its dotlock
# behind.
# bats test_tags=fault:1-2,promise:7
@test "all or no marked messages are removed if session and monitor are killed at any system call of QUIT" {
	server_stop
	server_start -l fcntl
	sweep together
	points_are_good "all killed" $(long && echo 1000 || echo 20)
}

# save_crash: copies the spool and the state directory that a crash has left.
save_crash() {
	rm -rf "$WORLD/crash"
	cp -a "$state/users/$(id -u alice)" "$WORLD/crash"
	cp /var/mail/alice "$WORLD/crash.spool"
}

# restore_crash: restores what save_crash copied. The spool keeps its inode,
# because the journal contains the inode.
restore_crash() {
	rm -rf "$state/users/$(id -u alice)"
	cp -a "$WORLD/crash" "$state/users/$(id -u alice)"
	cat "$WORLD/crash.spool" >/var/mail/alice
}

# begin_recovery: begins a login, which waits for the lock of the spool before
# it recovers. Sets $session and $monitor to the pids.
begin_recovery() {
	locker L
	log_mark
	pop_open
	pop_say "USER alice"
	pop_say "PASS x"
	log_has 'login '
	monitor=$(monitor_pid)
	# The pre-auth process may still have the client's connection.
	session=$(pgrep -o -u alice -x kpopd -P "$monitor")
	hold_broker
}

# record_recovery: prints the names of a recovery's system calls, each with its
# count.
record_recovery() {
	restore_crash
	begin_recovery
	attach "$session" -o "$WORLD/trace"
	locker U
	for _ in 1 2 3; do pop_hear '^\+OK'; done
	release_broker
	pop_ask QUIT
	pop_close
	detached
	# The recovery begins once the lock is taken.
	sed -n '/= 0$/,$p' "$WORLD/trace" |
	    sed '/"+OK/q' >"$WORLD/trace.recovery"
	calls_in "$WORLD/trace.recovery" | grep -v '^clock_nanosleep '
}

# recovery_point CALL N: kills the recovery at its Nth CALL. Returns true if the
# spool is intact after the next login.
recovery_point() {
	local call=$1 n=$2
	restore_crash
	begin_recovery
	attach "$session" -o /dev/null -e "trace=$call" \
	    -e "inject=$call:signal=KILL:when=$n"
	locker U
	# The answers end here if the recovery was killed. It was not if it
	# makes fewer than N calls.
	for _ in 1 2 3; do
		pop_hear '' 2>/dev/null ||
		    { echo "$call $n" >>"$WORLD/killed"; break; }
	done
	kill -KILL "$session" 2>/dev/null
	kill_monitor
	pop_close
	detached
	kpopd_ends 5 || return 1
	mbox later >>/var/mail/alice
	intact late later
}

# bats test_tags=fault:2
@test "all or no marked messages are removed if the recovery after a crash is killed at any system call" {
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
			save_crash
			record_recovery >"$WORLD/calls"
			while read -r call count <&9; do
				for n in $(sample 6 "$count"); do
					count_point recovery_point "$call" "$n"
				done
			done 9<"$WORLD/calls"
		done
	done
	# The numbers of reads and waits differ between recoveries, so some
	# kills come after the end of a recovery.
	echo "# recovery killed: $(wc -l <"$WORLD/killed") before its end" >&3
	[ "$(wc -l <"$WORLD/killed")" -ge $((points * 8 / 10)) ]
	points_are_good "recovery killed" $(long && echo 2000 || echo 20)
}
