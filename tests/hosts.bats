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
	# A host that has died in another mode has only the other mount.
	for name in a b; do
		host $name mountpoint -q /srv/mail || host_mount $name
	done
	! grep -sqv coherent "$WORLD/hosts/mode" || hosts_mode coherent
	await 60 is_whole
	hosts_empty
	for name in a b; do
		[ ! -s "$WORLD/hosts/$name/options" ] || kpopd_on $name
	done
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

# is_whole: returns true if all bricks are up and have the same. Waits first,
# because GlusterFS's commands take much of the processor.
is_whole() {
	sleep 0.5
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
	run host x kinit -c FILE:/run/second -k \
	    -t "$WORLD/hosts/alice.keytab" alice
	for name in a b c x; do
		host $name ip route del blackhole 192.0.2.9
	done
	[ "$status" -eq 0 ] || { echo "$output"; return 1; }
	echo "# hosts: a ticket from the second KDC took $(seconds_since "$begin") s" >&3
}

# quit_calls: prints "CALL N" for each call with which QUIT changes something,
# in the order of the calls.
quit_calls() {
	local calls='fsync|fdatasync|pwrite64|renameat|ftruncate|unlinkat'
	sed -nE "s/^($calls)\(.*/\1/p" "$WORLD/trace" |
	    awk '{ print $1, ++n[$1] }'
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

# hold_quit CALL N: says QUIT, and holds $session before this call. strace
# writes the beginning of a call before it holds the process.
hold_quit() {
	rm -f "$WORLD/at"
	attach "$session" -o "$WORLD/at" -e "trace=$1" \
	    -e "inject=$1:delay_enter=600000000:when=$2"
	pop_say QUIT
	await 10 "[ \"\$(grep -c '^$1(' '$WORLD/at')\" -ge $2 ]" ||
	    { kill "$tracer"; return 1; }
}

# dies_before CALL N DELETED: a dies when QUIT is to make this call, and then b
# must serve alice within 60 seconds, with all of the marked messages or none.
# Adds what has become of them to $WORLD/outcomes.
dies_before() {
	local outcome=old waited
	marked_on a "$3"
	hold_quit "$1" "$2" || return
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

# bats test_tags=fault:23-1,promise:7
@test "if a host dies in QUIT, the other host removes all marked messages or none, and serves the client within a minute" {
	dies_in_quit "2 5" "m1 m3 m4 m6"
	! long || dies_in_quit "1 2 3 4 5 6" ""
	points_are_good "hosts, QUIT" "$(long && echo 15 || echo 2)"
}

# login_calls: prints "PATH CALL N" for each of these calls of a login and a
# RETR for a file of the shared file system, as $WORLD/trace has them. N counts
# the calls of one process for one path.
login_calls() {
	local calls='fcntl|pread64|pwrite64|ftruncate|utimensat|fsync|renameat'
	local file="[0-9]+<($hosts_mail[^>]*)>"
	sed -nE "s,^([0-9]+) +($calls)\($file.*,\1 \3 \2,p" "$WORLD/trace" |
	    awk '{ n = ++count[$0]; print $2, $3, n }'
}

# attach_listener HOST OPTION ...: attaches strace to the listener on the host
# and to all processes that it makes. Sets $tracer.
attach_listener() {
	local pid server=$1
	shift
	pid=$(host "$server" cat /run/kpopd.pid)
	rm -f "$WORLD/strace.err"
	host "$server" strace -f "$@" -p "$pid" 2>"$WORLD/strace.err" 3>&- &
	tracer=$!
	await 10 "grep -q 'Process $pid attached' '$WORLD/strace.err'"
}

# trace_login [COMMAND ...]: alice logs in on a, where the mailbox has no index,
# and sends these commands. $WORLD/calls then has what login_calls prints.
trace_login() {
	host b bash -c "rm $hosts_mail/kpopd/users/*/*/index"
	attach_listener a -y -o "$WORLD/trace"
	hosts_pop a alice "$@" QUIT >/dev/null
	host a pkill -x strace
	detached
	login_calls >"$WORLD/calls"
}

# hold_login PATH CALL N [COMMAND ...]: alice logs in on a and sends these
# commands. Holds the first process of kpopd there that is to make this call.
hold_login() {
	hosts_store alice <"$WORLD/old"
	rm -f "$WORLD/at"
	attach_listener a -o "$WORLD/at" -P "$1" -e "trace=$2" \
	    -e "inject=$2:delay_enter=600000000:when=$3"
	hosts_dial a alice
	printf '%s\r\n' "USER alice" "PASS x" "${@:4}" >&"$pop_out"
	await 20 "awk '\$2 ~ /^$2\(/ && ++n[\$1] == $3 { held = 1 }
	    END { exit !held }' '$WORLD/at'" || { kill "$tracer"; return 1; }
}

# dies_in_login PATH CALL N: a dies when a process of a login or a RETR is to
# make this call, and then b must serve alice within 60 seconds, with all
# messages as they were.
dies_in_login() {
	local waited
	hold_login "$@" "RETR 1" QUIT || return
	host_die a
	detached
	hosts_abandon
	waited=$(gets_in b alice) || return
	echo "${1##*/} $2 $3: $waited s" >>"$WORLD/outcomes"
	hosts_has_on b "$WORLD/old" || return
	[ "$(hosts_pop b alice "RETR 1" "RETR 6" QUIT)" = \
	    "$(<"$WORLD/session")" ] || return
	host_return a || return
	await 60 is_whole || return
	hosts_has alice "$WORLD/old" || return
	answers a alice '^\+OK 6 '
}

# bats test_tags=fault:23-1,promise:7
@test "if a host dies in a login or in RETR, the other host serves the client within a minute, with all messages" {
	local path call n
	{ echo "From a@b Mon Nov 23 05:00:00 2026"; make_message m1 20000; echo
	    mbox m2 m3 m4 m5 m6; } >"$WORLD/old"
	hosts_store alice <"$WORLD/old"
	# The first login of a user makes some files.
	answers b alice '^\+OK 6 '
	hosts_pop b alice "RETR 1" "RETR 6" QUIT >"$WORLD/session"
	trace_login "RETR 1"
	# The short form has one point, in the middle of the message.
	long || sed -n -i '/alice pread64 10$/p' "$WORLD/calls"
	: >"$WORLD/outcomes"
	while read -r path call n <&4; do
		count_point dies_in_login "$path" "$call" "$n"
		hosts_abandon
	done 4<"$WORLD/calls"
	sed 's/^/# hosts: a died before /' "$WORLD/outcomes" >&3
	points_are_good "hosts, login" "$(long && echo 40 || echo 1)"
}

# storm_death: a or b dies, while a client is in one of the phases of a session,
# and returns after at most ten seconds. Returns true if nothing was wrong, and
# the bricks have become the same again.
storm_death() {
	local name phases=(login retr quit quit any)
	name=$(shuf -n 1 -e a b)
	host_dies_in "${phases[RANDOM % 5]}" "$name" || return
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
	[ "$1" -eq 0 ] || {
		cat "$WORLD/point" "$WORLD"/storm/parts
		hosts_complaints
	} 2>&1
	return "$1"
}

# storm_of WHAT mbox|maildir COUNT: lets something happen during a storm, COUNT
# times or for $MINUTES, with the mounts of hosts_mode $MODE.
storm_of() {
	local n
	[ -z "${MODE-}" ] || hosts_mode "$MODE"
	storm_begin "$2"
	for n in $(seq "$3"); do
		point_here "$1"
		((n % 20 != 0)) || echo "# hosts: $n of $1, ${bad-0} bad" >&3
		[ "${bad-0}" -lt 5 ] || break
		[ $SECONDS -lt $((${MINUTES-600} * 60)) ] || break
	done
	point_here storm_end
}

# storm_cut: the network between a or b and the other hosts of bricks is cut for
# at most 15 seconds. Clients can reach both sides.
storm_cut() {
	local name=a others="b c"
	[ $((RANDOM % 2)) -eq 0 ] || name=b others="a c"
	net_cut "$name" $others
	sleep $((RANDOM % 15))
	net_heal "$name" $others
	await 120 is_whole || return
	storm_is_good
}

# bats test_tags=fault:23-1,promise:7
@test "while hosts die, return and heal, no mail of an mbox is lost or doubled, no removal is undone, and no client waits longer than a minute" {
	storm_of storm_death mbox "${DEATHS-$(long && echo 300 || echo 2)}"
	points_are_good "hosts, mbox" 3
}

# bats test_tags=fault:23-1,promise:7
@test "while hosts die, return and heal, no mail of a Maildir is lost or doubled, no removal is undone, and no client waits longer than a minute" {
	storm_of storm_death maildir "${DEATHS-$(long && echo 100 || echo 1)}"
	points_are_good "hosts, maildir" 2
}

# bats test_tags=fault:23-3,promise:7
@test "while the network between hosts is cut and healed, no mail of an mbox is lost or doubled, no removal is undone, and no client waits longer than a minute" {
	storm_of storm_cut mbox "${CUTS-$(long && echo 100 || echo 1)}"
	points_are_good "hosts, network" 2
}

# stands_still HOST: the file system of the host answers nothing until
# goes_on HOST.
stands_still() {
	host "$1" pkill -STOP -f "glusterfs .*$hosts_mail\$"
}

goes_on() {
	host "$1" pkill -CONT -f "glusterfs .*$hosts_mail\$"
}

# bats test_tags=fault:23-4
@test "while the file system of a host stands still, a login there is answered with [SYS/TEMP] by the login deadline, and the other host serves" {
	local begin
	mbox m1 | hosts_store alice
	kpopd_on a -t 8:60
	answers a alice '^\+OK 1 '
	stands_still a
	begin=$SECONDS
	run hosts_pop a alice STAT QUIT
	goes_on a
	echo "# hosts: a login while the file system stands still: ${lines[-1]-} after $((SECONDS - begin)) s" >&3
	[[ $output == *"-ERR [SYS/TEMP]"* ]]
	[ $((SECONDS - begin)) -le 30 ]
	answers b alice '^\+OK 1 '
	await 20 "answers a alice '^\+OK 1 '"
}

# bats test_tags=fault:23-2
@test "a brick that dies and heals has what was delivered and removed meanwhile, and then serves in place of another" {
	mbox m1 m2 m3 | hosts_store alice
	brick_die c
	hosts_pop a alice "DELE 2" QUIT
	mbox m1 m3 m4 >"$WORLD/new"
	mbox m1 m3 m4 | hosts_store alice
	hosts_pop b alice "DELE 1" QUIT
	mbox m3 m4 >"$WORLD/new"
	refute hosts_has alice "$WORLD/new"
	brick_return c
	await 60 is_whole
	hosts_has alice "$WORLD/new"
	brick_die a
	# A mount may not have noticed yet that c is back.
	await 20 "answers a alice '^\+OK 2 '"
	await 20 "answers b alice '^\+OK 2 '"
	hosts_pop b alice "DELE 1" QUIT
	brick_return a
	await 60 is_whole
	mbox m4 >"$WORLD/new"
	hosts_has alice "$WORLD/new"
}

# refused_on HOST: returns true if the host gives no session to alice, and the
# client hears [SYS/TEMP] or the end of the connection.
refused_on() {
	run hosts_pop "$1" alice STAT QUIT
	[ "$status" -ne 0 ] && ! grep -q messages <<<"$output" &&
	    { [ "${#lines[@]}" -lt 3 ] ||
		[[ $output == *"-ERR [SYS/TEMP]"* ]] ||
		[[ $output == *"closed the connection"* ]]; } ||
	    { echo "$output"; return 1; }
}

# quit_in_cut WAIT: the network of a is cut, and after WAIT seconds its session
# says QUIT. The other hosts still serve alice, and a does not.
quit_in_cut() {
	marked_on a "2 5"
	net_cut a b c
	sleep "$1"
	pop_say QUIT
	pop_hear '^-ERR \[SYS/TEMP\]' || [ -z "$heard" ] || return
	hosts_abandon
	gets_in b alice || return
	refused_on a || return
	make_message m7 | hosts_deliver b alice || return
	net_heal a b c
	await 60 is_whole || return
	await 20 "answers a alice '^\+OK [57] '" || return
	host b cat "$hosts_mail/spool/alice" >"$WORLD/now"
	hosts_has alice "$WORLD/now"
}

# keeps_lock HOST KIND TEXT: lets tests/programs/hosts-lock.py on the host take
# the lock of the file spool/KIND, and waits until it has it.
keeps_lock() {
	local at=$WORLD/lock.$1.$2
	rm -f "$at"*
	mkfifo "$at.in"
	# Opened for both, so that it has no end.
	host "$1" /usr/bin/python3 "$BATS_TEST_DIRNAME/programs/hosts-lock.py" \
	    "$2" "$hosts_mail/spool/$2" "$3" 0<>"$at.in" >"$at" 2>&1 3>&- &
	await 60 "grep -q locked $at"
}

# uses_lost_lock EXPECTED TEXT: a and b take locks while the network of a is
# cut. When it is back, a process on a uses its descriptor, which has lost its
# lock. Its answers must be as expected, and the file must contain the text.
uses_lost_lock() {
	local kind
	for kind in ofd posix; do keeps_lock a $kind aaaa; done
	net_cut a b c
	for kind in ofd posix; do keeps_lock b $kind bbbb; done
	net_heal a b c
	await 60 "gets_in a alice >/dev/null && is_whole"
	for kind in ofd posix; do
		echo >"$WORLD/lock.a.$kind.in"
		await 20 "grep read $WORLD/lock.a.$kind"
		echo "# hosts: $kind: $(tail -n 1 "$WORLD/lock.a.$kind")" >&3
		grep -qx "$1" "$WORLD/lock.a.$kind"
		[ "$(host b cat "$hosts_mail/spool/$kind")" = "$2" ]
	done
	for kind in a b; do host $kind pkill -f hosts-lock.py; done
	hosts_empty
}

# bats test_tags=fault:23-3
@test "a descriptor whose lock was lost to another host reads and writes no more, but does without client.strict-locks" {
	long || skip "the next test has it in the short form"
	mbox m1 | hosts_store alice
	uses_lost_lock "read EBADFD write EBADFD sync EBADFD lock EBADFD" bbbb
	hosts_mode loose
	mbox m1 | hosts_store alice
	uses_lost_lock "read ok write ok sync ok lock EAGAIN" aaaa
}

# net_heals: ends the cut of a, and waits until all bricks have the same.
net_heals() {
	net_heal a b c
	await 60 is_whole
}

# goes_on_after_cut CALL N WHEN: the network of a is cut when QUIT is to make
# this call there. The others serve alice, deliver and remove. QUIT goes on
# while the network is cut (cut), or when it is back (back). None of the mail
# that the others have left may change, and they must be able to lock the
# mailbox. Adds the client's answer to $WORLD/outcomes.
goes_on_after_cut() {
	local waited
	marked_on a "2 5"
	hold_quit "$1" "$2" || return
	net_cut a b c
	waited=$(gets_in b alice) || return
	make_message m7 | hosts_deliver b alice || return
	run hosts_pop b alice "DELE 1" QUIT
	[[ ${lines[-1]} == "+OK bye"* ]] || return
	host b cat "$hosts_mail/spool/alice" >"$WORLD/now"
	[ "$3" = cut ] || net_heals || return
	kill -KILL "$tracer"
	detached
	await 60 "! kill -0 $session 2>/dev/null" || return
	pop_hear '' 2>/dev/null || :
	echo "$1 $2, goes on when $3: b served after $waited s," \
	    "QUIT on a: ${heard:-the end}" >>"$WORLD/outcomes"
	hosts_abandon
	[ "$3" = back ] || net_heals || return
	make_message m8 | hosts_deliver b alice || return
	await 20 "answers a alice \
	    '^\+OK $(($(grep -c '^From ' "$WORLD/now") + 1)) '" || return
	host b cat "$hosts_mail/spool/alice" |
	    cmp -n "$(stat -c %s "$WORLD/now")" - "$WORLD/now"
}

# bats test_tags=fault:23-3,promise:7
@test "a QUIT that goes on after its host was cut off changes nothing that another host has done since, and leaves no lock" {
	local call n when
	: >"$WORLD/outcomes"
	mbox m1 m2 m3 m4 m5 m6 >"$WORLD/old"
	marked_on a "2 5"
	attach "$session" -o "$WORLD/trace"
	pop_ask QUIT
	pop_close
	detached
	quit_calls >"$WORLD/calls"
	# The short form goes on with the first write to the mailbox.
	long || echo "pwrite64 5" >"$WORLD/calls"
	for when in back $(! long || echo cut); do
		while read -r call n <&4; do
			count_point goes_on_after_cut "$call" "$n" $when
			net_heal a b c 2>/dev/null || :
			hosts_abandon
			await 60 is_whole
			hosts_empty
		done 4<"$WORLD/calls"
	done
	sed 's/^/# hosts: cut before /' "$WORLD/outcomes" >&3
	points_are_good "hosts, QUIT goes on" "$(long && echo 30 || echo 1)"
}

# login_goes_on PATH CALL N: the network of a is cut when a login there is to
# make this call. The login goes on, and both hosts must serve when the network
# is back.
login_goes_on() {
	local waited
	hold_login "$@" || return
	net_cut a b c
	# Then the file system on a has noticed, too.
	waited=$(gets_in b alice) || return
	host a pkill -KILL -x strace
	detached
	hosts_abandon
	net_heals || return
	echo "${1##*/} $2 $3: b served after $waited s" >>"$WORLD/outcomes"
	gets_in a alice && gets_in b alice && hosts_has alice "$WORLD/old"
}

# bats test_tags=fault:23-3
@test "a login that goes on after its host was cut off leaves no lock" {
	local path call n
	mbox m1 m2 m3 m4 m5 m6 >"$WORLD/old"
	hosts_store alice <"$WORLD/old"
	answers b alice '^\+OK 6 '
	trace_login
	# The short form goes on just after the session lock was taken.
	long || sed -n -i '/session pwrite64 1$/p' "$WORLD/calls"
	: >"$WORLD/outcomes"
	while read -r path call n <&4; do
		count_point login_goes_on "$path" "$call" "$n"
		net_heal a b c 2>/dev/null || :
		hosts_abandon
		await 60 is_whole
	done 4<"$WORLD/calls"
	sed 's/^/# hosts: cut before /' "$WORLD/outcomes" >&3
	points_are_good "hosts, login goes on" "$(long && echo 25 || echo 1)"
}

# bats test_tags=fault:23-3
@test "a host that the others do not reach removes nothing and shows nothing, and the others go on" {
	local n
	mbox m1 m2 m3 m4 m5 m6 >"$WORLD/old"
	for n in $(long && seq 0 9 || echo 0); do
		count_point quit_in_cut "$n"
		net_heal a b c 2>/dev/null || :
		hosts_abandon
		await 60 is_whole
		hosts_empty
	done
	points_are_good "hosts, cut" 1
}

# writes_late CALL N: holds a's session before this call of QUIT, until the
# network of a was cut, b has finished the removal and got new mail, and the
# network is back. The session of a, which has lost its locks, must then change
# nothing.
writes_late() {
	marked_on a 1
	hold_quit "$1" "$2" || return
	net_cut a b c
	gets_in b alice || return
	make_message m7 | hosts_deliver b alice || return
	host b cat "$hosts_mail/spool/alice" >"$WORLD/now"
	net_heal a b c
	await 60 is_whole || return
	await 20 'hosts_has_on a "$WORLD/now"' || return
	kill -KILL "$tracer"
	detached
	await 20 "! kill -0 $session 2>/dev/null" || return
	hosts_abandon
	await 60 is_whole || return
	hosts_has alice "$WORLD/now" || { tail "$WORLD/now"; return 1; }
}

# bats test_tags=fault:23-3
@test "a session that is stopped while another host finishes its removal writes and truncates nothing later" {
	mbox m1 m2 m3 m4 m5 m6 >"$WORLD/old"
	# The fifth write is the marker.
	count_point writes_late pwrite64 5
	hosts_abandon
	hosts_empty
	count_point writes_late ftruncate 1
	points_are_good "hosts, late" 2
}

@test "no message is lost when one host removes while another delivers" {
	local mode store count
	for mode in ${MODES-default coherent}; do
		# The short form tries everything only on the harder mounts.
		count=12
		[ $mode = default ] || count=4
		! long || count=500
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
	local tracer server=$1
	shift
	attach_listener "$server" -y -e trace=pread64 -o "$WORLD/reads"
	hosts_pop "$server" "$@" >"$WORLD/answers"
	host "$server" pkill -x strace
	detached
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

# says_of MOUNT PATTERN: returns true if --check on a, with state and mail on
# this mount, prints a line for each of the two that matches.
says_of() {
	run host a "$KPOPD_BUILD/kpopd-check" --check -d "$1/kpopd" \
	    -m "mbox:$1/spool/%u" alice
	[ "$(grep -Ec "$2" <<<"$output")" -eq 2 ] ||
	    { echo "$output" >&2; return 1; }
}

@test "--check warns of a mount of GlusterFS that was made without client.strict-locks" {
	mbox one | hosts_store alice
	says_of /srv/mail '^ok .*its mount has client.strict-locks'
	gluster_on a volume set mail client.strict-locks off
	host a mkdir -p /srv/loose
	host_mount a /srv/loose
	gluster_on a volume set mail client.strict-locks on
	says_of /srv/loose '^warn .*its mount does not have client.strict-locks'
	host a umount -l /srv/loose
}

# takes_over: leaves a session of alice silent on a, and logs in on b. Returns
# true if that succeeds. The login waits at most four seconds for a, which may
# be too short on a busy machine, so tries three times.
takes_over() {
	for _ in {1..3}; do
		hosts_open a alice
		pop_ask "DELE 1"
		# The idle time before takeover is two seconds.
		sleep 2.5
		if answers b alice '^\+OK 2 '; then
			pop_hear_end
			hosts_abandon
			return
		fi
		hosts_abandon
	done
	return 1
}

@test "a login on another host ends an abandoned session of its principal, on coherent and on default mounts" {
	local mode before yielded=' logout .*reason=yielded .*deleted=0 left=2'
	for mode in coherent default; do
		before=$(host_log_lines a | grep -Ec "$yielded" || :)
		hosts_mode $mode
		kpopd_on a -t 30:40
		kpopd_on b -t 30:40
		mbox one two | hosts_store alice
		for _ in 1 2; do takes_over; done
		await 10 "[ \$(host_log_lines a | grep -Ec '$yielded') -ge \
		    $((before + 2)) ]"
	done
}

# obeys_dotlocks: returns true if kpopd on b obeys a living dotlock of a, and
# dotlockfile -p on b that of kpopd on a.
obeys_dotlocks() {
	local lock=$hosts_mail/spool/alice.lock tracer
	host a rm -rf "$hosts_mail/kpopd/users"
	mbox one two | hosts_store alice
	host a bash -c 'dotlockfile -p -l "$0" && sleep 60' "$lock" 3>&- &
	tracer=$!
	await 5 "host b test -e $lock"
	run hosts_pop b alice QUIT
	[[ ${lines[-1]} == "-ERR [IN-USE] another program"* ]] || return
	host b test -e "$lock" || return
	kill $tracer
	host a rm "$lock"
	# As long as b has the removed lock in its cache, dotlockfile -p on b
	# takes that lock's pid for the pid of the next lock.
	await 5 "! host b test -e $lock"
	answers a alice '^\+OK 2 ' || return
	await 5 '[ -z "$(host_session a alice)" ]' || return
	hosts_open a alice
	pop_ask "DELE 1"
	session=$(host_session a alice)
	hold_quit fsync 1 || return
	await 5 "host b test -e $lock"
	run host b dotlockfile -p -r 0 -l "$lock"
	[ "$status" -ne 0 ] || return
	kill -KILL "$tracer"
	detached
	pop_hear '^\+OK bye, 1' || return
	hosts_abandon
}

@test "kpopd obeys a living dotlock of another host, and dotlockfile -p on another host obeys kpopd's" {
	local mode
	for mode in coherent default; do
		hosts_mode $mode
		kpopd_on a -l fcntl,dotlock
		kpopd_on b -l fcntl,dotlock
		obeys_dotlocks || { echo "$mode: $output"; return 1; }
	done
}

@test "with GlusterFS's own timeouts, logins are answered within 30 seconds while a host with a brick is dead" {
	local n pids=() begin=$EPOCHREALTIME
	long || skip "the long form waits for GlusterFS's timeouts"
	hosts_mode default
	kpopd_on b
	mbox one two | hosts_store alice
	answers b alice '^\+OK 2 '
	host_die a
	begin=$EPOCHREALTIME
	for n in 1 2 3 4; do
		hosts_pop b alice STAT QUIT >"$WORLD/dead.$n" 2>&1 3>&- &
		pids+=($!)
	done
	for n in "${pids[@]}"; do wait "$n" || :; done
	seconds_since "$begin"
	awk "BEGIN { exit !($EPOCHREALTIME - $begin < 30) }"
	grep -L '\[SYS/TEMP\]\|^+OK bye' "$WORLD"/dead.* | refute grep .
	await 120 'answers b alice "^\+OK 2 " 2>/dev/null'
	host_return a
}

# show_both MODE COUNT: shows COUNT AP-REQs to both hosts. Prints what
# tests/programs/replay-hosts.py counts.
show_both() {
	local host_env=KRB5CCNAME=FILE:/run/alice
	host x "$KPOPD_BUILD/tests/programs/apreq" -o 2 -n "$2" \
	    pop/pop.example.org >"$WORLD/both"
	host x /usr/bin/python3 "$BATS_TEST_DIRNAME/programs/replay-hosts.py" \
	    "$WORLD/both" "$1" a.example.org:1109 b.example.org:1109
}

# bats test_tags=promise:1
@test "no AP-REQ is accepted twice, whether both hosts get it at once or one after the other" {
	local mode how count
	count=$(long && echo 150 || echo 5)
	for mode in default coherent; do
		hosts_mode $mode
		for name in a b; do kpopd_on $name; done
		show_both after 1
		for how in after once; do
			run show_both $how "$count"
			echo "# replay: $mode, $how: $output" >&3
			[[ $output == "never 0, once $count, more 0,"* ]]
		done
	done
}
