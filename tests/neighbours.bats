#!/usr/bin/env bats
# Checks mailboxes and state on a file system that other hosts may see, as far
# as one host can show it. The file system is tests/programs/fuse.pl; kpopd
# cannot know that it is not a cluster's.

load helpers/all

setup_file() { :; }
teardown_file() { :; }

setup() {
	begin_test
	mbox one two three | store alice
	realm_login alice
}

teardown() {
	local status=0
	[ -z "${other-}" ] || kill "$other" 2>/dev/null || true
	# A listener lives on, and uses the file system.
	[ -z "${fuse_pid-}" ] || fuse_answers
	server_stop
	fuse_end
	end_test || status=1
	rm -rf /srv/spool /srv/other
	return $status
}

# share_spool: puts the spool on a shared file system, as /srv/spool, and starts
# the server.
share_spool() {
	mkdir -p /srv/spool
	chown root:mail /srv/spool
	chmod 2775 /srv/spool
	cp -p /var/mail/alice /srv/spool/
	server_start "$@" -m mbox:/srv/spool/%u
	fuse_over /srv/spool
}

# lock_file AGE TEXT: makes alice's dotlock, touched AGE minutes ago.
lock_file() {
	printf '%s\n' "$2" >/srv/spool/alice.lock
	touch -d "-$1 minutes" /srv/spool/alice.lock
	forget_index
}

@test "on a shared file system a dotlock of another program is stale after five minutes, whatever pid it contains" {
	share_spool
	lock_file 4 $$
	run pop alice QUIT
	[[ ${lines[-1]} == "-ERR [IN-USE] another program"* ]]
	[ -e /srv/spool/alice.lock ]
	lock_file 6 $$
	run pop alice QUIT
	[[ ${lines[-1]} == "+OK bye, 3 messages left" ]]
	[ "$(ls -A /srv/spool)" = alice ]
	# Dovecot names the host whose pid this is.
	lock_file 6 "$$:$(hostname)"
	run pop alice QUIT
	[[ ${lines[-1]} == "-ERR [IN-USE] another program"* ]]
	lock_file 6 "$$:another.kpopd.test"
	run pop alice QUIT
	[[ ${lines[-1]} == "+OK bye, 3 messages left" ]]
}

# elsewhere COMMAND ...: runs the command as on another host, where no process
# has the pid of a process of this host.
elsewhere() {
	unshare --pid --fork "$@"
}

@test "dotlockfile -p of another host does not break kpopd's dotlock on a shared file system" {
	share_spool
	pop_login alice
	pop_ask "DELE 1"
	fuse_hang '^WRITE /alice$'
	pop_say QUIT
	fuse_hangs
	[ -e /srv/spool/alice.lock ]
	run elsewhere dotlockfile -p -r 0 -l /srv/spool/alice.lock
	[ "$status" -ne 0 ]
	fuse_answers
	pop_hear '^\+OK bye, 2'
	pop_hear_end
	[ ! -e /srv/spool/alice.lock ]
}

@test "two services with one state directory that see the spool as two devices let one session into a mailbox" {
	share_spool
	mkdir -p /srv/other
	fuse_also /srv/other
	[ "$(stat -c %d /srv/other)" != "$(stat -c %d /srv/spool)" ]
	PORT=1110 perl "$BATS_TEST_DIRNAME/programs/listen.pl" tcp:127.0.0.1 \
	    "$KPOPD_BUILD/kpopd" -d "$state" -k "$WORLD/server.keytab" \
	    -m mbox:/srv/other/%u 3>&- &
	other=$!
	await 5 'ss -Hltn sport = 1110 | grep -q .'
	pop_login alice
	run kpopc mail.kpopd.test 1110 \
	    < <(printf '%s\r\n' "USER alice" "PASS x" QUIT)
	[[ $output == *"-ERR [IN-USE] another program"* ]] ||
	    { echo "$output"; log_lines; return 1; }
	pop_ask QUIT
	pop_hear_end
}

# share_state IDLE: puts the state on a shared file system, with this idle
# limit. Logins cannot use the FIFO of takeover requests, as if they were on
# another host.
share_state() {
	server_start -t "30:$1"
	pop alice QUIT
	rm "$(kept)/yield"
	: >"$(kept)/yield"
	chown alice "$(kept)/yield"
	fuse_over "$state/users"
}

@test "an idle session on a shared file system ends if the same principal logs in on another host" {
	share_state 20
	pop_login alice
	pop_ask "DELE 1"
	# The idle time before takeover is a second. The login waits at most
	# four seconds for the old session, which a busy machine may delay.
	sleep 1.5
	for _ in 1 2 3; do
		run pop alice STAT QUIT
		[[ $output == *"[IN-USE]"* ]] || break
	done
	[[ $output == *"+OK 3 messages"*"+OK bye, 3 messages left" ]] ||
	    { echo "$output"; log_lines; return 1; }
	pop_hear_end
	log_has 'logout .*reason=yielded retrieved=0 octets=0 topped=0 deleted=0 left=3'
}

# looks_thrice: waits until $session has looked three times for a takeover
# request.
looks_thrice() {
	attach "$session" -o "$WORLD/looks" -e trace=openat
	await 30 '[ "$(grep -c takeover "$WORLD/looks")" -ge 3 ]'
	kill "$tracer"
	detached
}

@test "a login that a busy session has refused does not end that session later, nor the next session" {
	local refused session
	# The idle time before takeover is five seconds.
	share_state 100
	pop_login alice
	session=$(child_pid)
	pop alice QUIT >"$WORLD/refused" 3>&- &
	refused=$!
	until ! kill -0 $refused 2>/dev/null; do
		pop_ask NOOP
		sleep 0.1
	done
	grep -q '^-ERR \[IN-USE\] another session' "$WORLD/refused"
	[ -s "$(kept)/takeover" ]
	looks_thrice
	pop_ask NOOP
	pop_ask QUIT
	pop_hear_end
	kpopd_ends 5
	pop_login alice
	session=$(child_pid)
	looks_thrice
	pop_ask QUIT '^\+OK bye, 3'
	pop_hear_end
	log_lacks 'reason=yielded'
}

@test "a session on a local file system makes and reads no file for takeover requests" {
	# The first look would be due after five seconds.
	server_start -t 30:100
	pop_login alice
	attach "$(child_pid)" -o "$WORLD/looks" -e trace=openat,fstatfs
	await 20 'grep -q fstatfs "$WORLD/looks"'
	# Two further looks would be due.
	sleep 2
	kill "$tracer"
	detached
	[ "$(grep -c fstatfs "$WORLD/looks")" -eq 1 ]
	refute grep takeover "$WORLD/looks"
	pop alice QUIT
	[ ! -e "$(kept)/takeover" ]
}

# share_all: puts all of STATE on a shared file system, and starts the server
# with these options.
share_all() {
	mkdir -p "$state"
	server_start "$@"
	pop alice QUIT
	fuse_over "$state"
}

# hung_is_answered PATTERN SECONDS: returns true if a login of alice is answered
# in time while the file system keeps calls that match the pattern waiting, and
# if the next login succeeds when the file system answers again.
hung_is_answered() {
	local begin=$EPOCHREALTIME
	fuse_hang "$1"
	run timeout 40 "$KPOPD_BUILD/kpopc" mail.kpopd.test \
	    < <(printf '%s\r\n' "USER alice" "PASS x" QUIT)
	[[ -s $WORLD/fuse.log && $output == *"[SYS/TEMP] "* ]] &&
	    awk "BEGIN { exit !($EPOCHREALTIME - $begin < $2) }" ||
	    { echo "$1: $output, after" \
		"$(bc <<<"$EPOCHREALTIME - $begin") s"; log_lines; return 1; }
	fuse_answers
	await 20 no_kpopd
	run pop alice QUIT
	[[ ${lines[-1]} == "+OK bye, 3 messages left" ]] ||
	    { echo "$1, afterwards: $output"; return 1; }
}

@test "a login is answered with [SYS/TEMP] before its deadline if STATE does not answer, wherever the login waits" {
	share_all -t 6
	# The pre-auth process waits, and cannot be killed.
	hung_is_answered . 10
	log_has 'refused .*"login deadline, a file system does not answer"$'
	hung_is_answered '^READ /replay' 10
	# The monitor, and then the session, wait after the login, which has at
	# least 15 s from then on.
	hung_is_answered '/logins' 22
	hung_is_answered '^LOOKUP /users' 22
	hung_is_answered '^(LOOKUP|OPEN) .*/session' 22
	log_has 'logout .*reason=unavailable error="login deadline, a file system does not answer"$'
}

@test "a KPOP client and a client in TLS read the answer if the replay cache does not answer between their requests" {
	tls_make
	share_all -t 12 $(tls_options)
	hung_is_answered '^WRITE /replay' 16
	fuse_hang '^WRITE /replay'
	run timeout 40 "$KPOPD_BUILD/kpopc" --tls -C "$WORLD/tls/ca.pem" \
	    mail.kpopd.test < <(printf '%s\r\n' "USER alice" "PASS x" QUIT)
	[[ $output == *"[SYS/TEMP] "* ]] || { echo "$output"; return 1; }
}

@test "a login is refused if its record took so long that the file server may have given the cache's lock away" {
	local late
	share_all
	fuse_hang '^WRITE /replay'
	"$KPOPD_BUILD/kpopc" mail.kpopd.test <<<"USER alice" \
	    >"$WORLD/late" 2>&1 3>&- &
	late=$!
	fuse_hangs
	# The record must take more than three seconds (LATE_MS).
	sleep 3.5
	fuse_answers
	refute wait $late
	log_has 'refused .*error="replay cache: Connection timed out"'
	refute grep '^+OK' "$WORLD/late"
	[[ $(pop alice QUIT) == *"3 messages left" ]]
}

@test "logins pile up on a file system that does not answer only up to the limit of sessions, and all end when it answers" {
	local n
	mkdir -p "$state"
	listener_start -t 6 -a 5:5:100:0
	pop alice QUIT
	fuse_over "$state"
	fuse_hang .
	for n in $(seq 12); do
		pop alice QUIT >"$WORLD/pile.$n" 2>&1 3>&- &
	done
	# The killed processes of the first clients cannot end, so their places
	# are not free.
	await 20 '[ "$(grep -l "SYS/TEMP" "$WORLD"/pile.* | wc -l)" -eq 12 ]' ||
	    { head "$WORLD"/pile.*; return 1; }
	log_has 'fatal .*error="the pre-auth process was killed and does not end: it waits for a file system"$'
	run pop alice QUIT
	[[ $output == *"-ERR [SYS/TEMP] "* ]]
	# A monitor and a pre-auth process for each session, and the listener.
	[ "$(pgrep -cx kpopd)" -le 11 ]
	fuse_answers
	await 10 '[ "$(pgrep -cx kpopd)" -le 1 ]'
	run pop alice QUIT
	[[ ${lines[-1]} == "+OK bye, 3 messages left" ]]
}

@test "a listener that starts while the file system of STATE does not answer answers its clients" {
	[ -z "${SANITIZER-}" ] || skip "the directory for reports would hang"
	mkdir -p "$state"
	listener_start -t 6
	pop alice QUIT
	server_stop
	fuse_over "$state"
	fuse_hang .
	xinetd_run
	run timeout 20 "$KPOPD_BUILD/kpopc" mail.kpopd.test </dev/null
	[[ $output == *"-ERR [SYS/TEMP] "* ]]
	log_has 'fatal .*error="waiting for the file system of the directory [^ ]*: Connection timed out"$'
	fuse_answers
	await 10 '[[ $(pop alice QUIT) == *"+OK bye, 3 messages left"* ]]'
}
