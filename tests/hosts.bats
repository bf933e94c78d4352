#!/usr/bin/env bats
# Checks several mail hosts that share their mailboxes on a real distributed
# file system, GlusterFS (helpers/hosts.bash), with the set-up of docs/ADMIN.md.

load helpers/all
load helpers/hosts
load helpers/torture

# reason: prints why these tests cannot run here, or nothing.
reason() {
	if [ -n "${SANITIZER-}" ]; then
		echo "the build with gcc runs them"
	else
		hosts_missing
	fi
}

setup_file() {
	local begin=$EPOCHREALTIME
	[ -z "$(reason)" ] || return 0
	hosts_start || return
	echo "# hosts: the start took $(seconds_since "$begin") s" >&3
}

teardown_file() {
	[ -n "$(reason)" ] || hosts_stop
}

setup() {
	[ -z "$(reason)" ] || skip "$(reason)"
	hosts_mail=/srv/mail pop_patience=20
	await 60 is_whole
	host b bash -c "rm -rf $hosts_mail/spool/* $hosts_mail/kpopd/users"
}

teardown() {
	[ -z "$(reason)" ] || return 0
	hosts_abandon
	storm_abandon
}

# seconds_since TIME: prints the seconds since this $EPOCHREALTIME.
seconds_since() {
	awk "BEGIN { printf \"%.1f\", $EPOCHREALTIME - $1 }"
}

# is_whole: returns true if all hosts are up and all bricks have the same.
is_whole() {
	bricks_are_up a b c && is_healed
}

# answers SERVER USER PATTERN: returns true if the last answer but one of a
# session that asks STAT is as the pattern (extended).
answers() {
	run hosts_pop "$1" "$2" STAT QUIT
	[[ ${lines[3]-} =~ $3 ]] || { echo "$output" >&2; return 1; }
}

# gets_in SERVER USER: repeats logins until one succeeds, for at most 60
# seconds. Prints the seconds that this took.
gets_in() {
	local begin=$EPOCHREALTIME
	until answers "$1" "$2" '^\+OK' 2>/dev/null; do
		[ "${EPOCHREALTIME%.*}" -lt $((${begin%.*} + 60)) ] || return
		sleep 0.2
	done
	seconds_since "$begin"
}

@test "each of two hosts serves a mailbox on GlusterFS, directly and through HAProxy" {
	make_message one | hosts_deliver a alice
	make_message two | hosts_deliver b alice
	for server in a b pop pop; do
		answers $server alice '^\+OK 2 '
	done
	hosts_pop a alice "DELE 1" QUIT
	answers b alice '^\+OK 1 '
	host_log a 'login peer=192.0.2.10:[0-9]+ user=alice '
	mbox two >"$WORLD/new"
	sed -i 's/^From .*/From sender@example.org Mon Nov 23 05:00:00 2026/' \
	    "$WORLD/new"
	await 10 "hosts_has alice $WORLD/new"
}

@test "a client gets tickets from the second KDC if the host of the first is cut off" {
	local begin
	for name in a b c x; do
		host $name ip route add blackhole 192.0.2.9
	done
	begin=$EPOCHREALTIME
	run host x kinit -c FILE:/run/second -k -t "$WORLD/hosts/alice.keytab" alice
	for name in a b c x; do
		host $name ip route del blackhole 192.0.2.9
	done
	[ "$status" -eq 0 ] || { echo "$output"; return 1; }
	echo "# hosts: a ticket from the second KDC took $(seconds_since "$begin") s" >&3
}

# quit_calls: prints "CALL N" for each call with which QUIT changes something,
# in the order of the calls.
quit_calls() {
	sed -nE 's/^(fsync|fdatasync|pwrite64|renameat|ftruncate|unlinkat)\(.*/\1/p' \
	    "$WORLD/trace" | awk '{ print $1, ++n[$1] }'
}

# marked_on HOST DELETED: begins a session of alice on the host, on the mailbox
# $WORLD/old, and marks these messages. Sets $session to its pid.
marked_on() {
	local n
	hosts_store alice <"$WORLD/old"
	hosts_open "$1" alice
	for n in $2; do pop_ask "DELE $n"; done
	session=$(host_session "$1" alice)
}

# is_stopped PID: returns true if the process is held by its tracer. A call that
# is only traced holds it for much less time.
is_stopped() {
	for _ in 1 2 3 4; do
		[[ $(field "$1" State 2>/dev/null) == t* ]] || return
		sleep 0.02
	done
}

# dies_before CALL N DELETED: a dies when QUIT is to make this call, and then b
# must serve alice within 60 seconds, with all of the marked messages or none.
# Adds what has become of them to $WORLD/outcomes.
dies_before() {
	local outcome=old waited
	marked_on a "$3"
	attach "$session" -o /dev/null -e "trace=$1" \
	    -e "inject=$1:delay_enter=60000000:when=$2"
	pop_say QUIT
	await 10 "is_stopped $session" || { kill "$tracer"; return 1; }
	host_die a
	kill -KILL "$tracer"
	detached
	hosts_abandon
	waited=$(gets_in b alice) || return
	hosts_has_on b "$WORLD/old" 2>/dev/null || outcome=new
	echo "$1 $2: $outcome after $waited s" >>"$WORLD/outcomes"
	[ "$outcome" = old ] || hosts_has_on b "$WORLD/new" || return
	host b bash -c "! ls $hosts_mail/kpopd/users/*/*/j* 2>/dev/null"
	host_return a
	await 60 is_whole
	hosts_has alice "$WORLD/$outcome"
}

# hosts_has_on HOST FILE: returns true if alice's mailbox is this one, as the
# host sees it.
hosts_has_on() {
	host "$1" cat "$hosts_mail/spool/alice" | cmp - "$2"
}

# dies_in_quit DELETED KEPT: a dies in QUIT before each call that changes
# something (in the short form, before one that comes before the decision, and
# before one that comes after it). KEPT are the messages that are then left.
dies_in_quit() {
	local call n
	rm -f "$WORLD/outcomes"
	mbox m1 m2 m3 m4 m5 m6 >"$WORLD/old"
	mbox $2 >"$WORLD/new"
	marked_on a "$1"
	attach "$session" -o "$WORLD/trace"
	pop_ask QUIT
	pop_close
	detached
	quit_calls >"$WORLD/calls"
	long || sed -n '/^fsync [14]$/p' "$WORLD/calls" >"$WORLD/calls.short"
	long || mv "$WORLD/calls.short" "$WORLD/calls"
	while read -r call n <&4; do
		count_point dies_before "$call" "$n" "$1"
		# A test that has failed may have left a client.
		hosts_abandon
	done 4<"$WORLD/calls"
	sed 's/^/# hosts: a died before /' "$WORLD/outcomes" >&3
	grep -q old "$WORLD/outcomes"
	grep -q new "$WORLD/outcomes"
}

@test "if a host dies in QUIT, the other host removes all marked messages or none, and serves the client within a minute" {
	dies_in_quit "2 5" "m1 m3 m4 m6"
	! long || dies_in_quit "1 2 3 4 5 6" ""
	points_are_good "hosts, QUIT" "$(long && echo 15 || echo 2)"
}

# is_served: returns true if HAProxy has a host that serves alice now.
is_served() {
	answers pop alice '^\+OK|^-ERR \[IN-USE\]' 2>/dev/null
}

# storm_death: a or b dies, while a client is in one of the phases of a session,
# and returns after at most ten seconds. Returns true if nothing was wrong, and
# the bricks have become the same again.
storm_death() {
	local name phases=(login retr quit quit any)
	name=$(shuf -n 1 -e a b)
	host_dies_in "${phases[RANDOM % 5]}" "$name" || return
	sleep $((RANDOM % 10))
	host_return "$name" || return
	storm_deliver "$name"
	await 120 is_whole || return
	storm_is_good
}

# point_here COMMAND ...: counts the command as a point, and runs it in this
# shell, which is the parent of the storm's processes.
point_here() {
	local status=0
	"$@" >"$WORLD/point" 2>&1 || status=$?
	count_point had "$status" "$*"
}

had() {
	[ "$1" -eq 0 ] || { cat "$WORLD/point"; hosts_complaints; }
	return "$1"
}

# storm_of_deaths mbox|maildir COUNT: lets hosts die during a storm, COUNT times
# or for $MINUTES.
storm_of_deaths() {
	local n
	storm_begin "$1"
	for n in $(seq "$2"); do
		point_here storm_death
		((n % 20 != 0)) || echo "# hosts: $n deaths, ${bad-0} bad" >&3
		[ "${bad-0}" -lt 5 ] || break
		[ $SECONDS -lt $((${MINUTES-600} * 60)) ] || break
	done
	point_here storm_end
}

@test "while hosts die, return and heal, no mail of an mbox is lost or doubled, no removal is undone, and no client waits longer than a minute" {
	storm_of_deaths mbox "${DEATHS-$(long && echo 300 || echo 3)}"
	points_are_good "hosts, mbox" 4
}

@test "no message is lost when one host removes while another delivers" {
	local mode store count=12
	! long || count=500
	for mode in default coherent; do
		hosts_mode $mode
		for store in mbox maildir; do
			loss_trial $store $count >"$WORLD/loss" ||
			    { cat "$WORLD/loss"; return 1; }
			sed "s/^# hosts:/& $mode:/" "$WORLD/loss" >&3
		done
	done
}

# mount_behind HOST: mounts the volume on /srv/behind there, by a client whose
# clock is an hour behind, as on a host with a wrong clock. Skips the test if
# there is no libfaketime.
mount_behind() {
	local library
	library=$(echo /usr/lib/*/faketime/libfaketimeMT.so.1)
	[ -e "$library" ] || skip "libfaketime is not installed"
	host "$1" mkdir -p /srv/behind
	local host_env="LD_PRELOAD=$library FAKETIME=-1h
	    FAKETIME_DONT_FAKE_MONOTONIC=1"
	host "$1" glusterfs --volfile-server=localhost --volfile-id=/mail \
	    /srv/behind
	host_env=
	await 10 "host $1 mountpoint -q /srv/behind"
}

# bytes_read HOST USER COMMAND ...: runs a session on the host, and prints how
# many bytes of the spool kpopd has read.
bytes_read() {
	local pid tracer server=$1
	shift
	pid=$(host "$server" cat /run/kpopd.pid)
	host "$server" strace -f -q -y -e trace=pread64 -o "$WORLD/reads" \
	    -p "$pid" 3>&- &
	tracer=$!
	await 10 "host $server grep -q 'TracerPid:.[1-9]' /proc/$pid/status"
	hosts_pop "$server" "$@" >"$WORLD/answers"
	host "$server" pkill -x strace
	wait "$tracer" || :
	sed -n "s/.*spool\/$1>.*= //p" "$WORLD/reads" | paste -sd+ | bc
}

@test "a host uses the index of the other host, but not after a change by a clock that is behind" {
	mount_behind a
	mbox one two six | host a bash -c \
	    'cat >/srv/behind/spool/bob && chown bob:mail /srv/behind/spool/bob'
	[ "$(bytes_read a bob "UIDL 1" QUIT)" -gt 500 ]
	[[ $(<"$WORLD/answers") =~ "+OK 1 "([^$'\n']+) ]]
	one=${BASH_REMATCH[1]}
	[ -z "$(bytes_read b bob STAT QUIT)" ]
	hosts_pop a bob "DELE 2" QUIT
	# The host behind leaves size and times as they are.
	mbox six one >"$WORLD/swapped"
	before=$(host a stat -c '%s %y %z' /srv/mail/spool/bob)
	host a dd of=/srv/behind/spool/bob conv=notrunc status=none \
	    <"$WORLD/swapped"
	[ "$(host a stat -c '%s %y %z' /srv/mail/spool/bob)" = "$before" ]
	[[ $(hosts_pop b bob "UIDL 2" QUIT) == *"+OK 2 $one"* ]]
}
