#!/usr/bin/env bats
# Surroundings that are slow, dead or poor: file systems that do not answer,
# name services that hang, kernels without a sandbox.

load helpers/all

setup_file() { :; }
teardown_file() { :; }

setup() {
	begin_test
	[ -z "${SANITIZER-}" ] ||
	    skip "four minutes of deadlines, which are the same in a build with sanitizers"
	mbox one two | store alice
	mbox bobs | store bob
	realm_login alice
	KRB5CCNAME=FILE:$WORLD/bob.ccache realm_login bob
}

teardown() {
	local status=0
	fuse_end
	end_test || status=1
	server_stop
	rm -rf /home/alice/Maildir /home/alice/.k5login
	# Other files run in the same world.
	sed -i 's/^\(passwd:.*\) kpopd_test/\1/' /etc/nsswitch.conf
	return $status
}

# bob_is_served: soon, whatever happens to alice.
bob_is_served() {
	local begin=$EPOCHREALTIME answer
	answer=$(KRB5CCNAME=FILE:$WORLD/bob.ccache timeout 10 "$BASH" \
	    -c \
	    'printf "%s\r\n" "USER bob" "PASS x" QUIT | "$0" mail.kpopd.test' \
	    "$KPOPD_BUILD/kpopc")
	[[ $answer == *"+OK bye, 1 messages left"* ]] ||
	    { echo "bob: $answer"; log_lines; return 1; }
	awk "BEGIN { exit !($EPOCHREALTIME - $begin < 5) }" ||
	    { echo "bob waited"; return 1; }
}

# tries COUNT [SECONDS]: so many logins of alice (or $user) at the same time, in
# the background.
tries() {
	local n
	tried=$1
	rm -f "$WORLD"/try.* "$WORLD"/tried.*
	for n in $(seq "$1"); do
		{
			timeout "${2-30}" \
			    "$BASH" -c 'printf "%s\r\n" "USER $1" "PASS x" QUIT | "$0" mail.kpopd.test' "$KPOPD_BUILD/kpopc" "${user-alice}" \
			    >"$WORLD/try.$n" 2>&1 || :
			: >"$WORLD/tried.$n"
		} 3>&- &
	done
}

# tries_end SECONDS: each of these clients has ended.
tries_end() {
	await "$1" '[ "$(ls "$WORLD" | grep -c "^tried\.")" -eq "$tried" ]' ||
	    { processes; return 1; }
}

# nobody_is_left: all processes of all connections have ended.
nobody_is_left() {
	await "$1" '! pgrep -x kpopd >/dev/null' || { processes; return 1; }
}

processes() {
	ps -o pid,ppid,user,stat,wchan:20,args -C kpopd
}

# maildir NAME …: alice has a Maildir with these new messages.
maildir() {
	local name
	mkdir -p /home/alice/Maildir/{cur,new,tmp}
	for name in "$@"; do
		make_message "$name" \
		    >"/home/alice/Maildir/new/1000000000.$name.mail"
	done
	chown -R alice:alice /home/alice/Maildir
}

# maildir_is NAME …: it has these, and nothing else.
maildir_is() {
	diff <(cd /home/alice/Maildir &&
	    find new cur -type f -printf '%f\n' | sed 's/:2,.*//' | sort) \
	    <(printf '1000000000.%s.mail\n' "$@" | sort)
}

# bats test_tags=attack:9-1
@test "a home that does not answer, as NFS does not: its user's logins end at the deadline, others are served meanwhile" {
	server_start -t 3
	fuse_over /home/alice
	fuse_sleep
	tries 3
	await 5 '[ "$(pgrep -cx kpopd -U alice)" -ge 1 ]'
	bob_is_served
	nobody_is_left 10
	log_has 'refused .*reason="login deadline'
	cat "$WORLD"/try.*
	! grep -q messages "$WORLD"/try.*
	fuse_answers
	[[ $(pop alice QUIT) == *"+OK bye, 2 messages left" ]]
	spool_is alice one two
}

# bats test_tags=attack:9-2
@test "a home whose calls cannot even be interrupted: twenty logins of its user take few places, others are served, and all end when it answers" {
	server_start -t 3
	fuse_over /home/alice
	fuse_hang k5login
	tries 20
	fuse_hangs 1
	bob_is_served
	# None of the clients is let in, each hears the end, and their monitors
	# end.
	tries_end 25
	grep messages "$WORLD"/try.* && return 1
	bob_is_served
	await 25 '[ "$(pgrep -cx kpopd)" -le 4 ]' || { processes; return 1; }
	echo \
	    "# around: 20 logins at a home that does not answer: $(pgrep -cx \
		kpopd) processes stay" >&3
	# A hang is not for ever: what waits is there, and no further login adds
	# to it.
	[ "$(pgrep -cx kpopd)" -ge 1 ]
	tries 5
	tries_end 25
	await 25 '[ "$(pgrep -cx kpopd)" -le 4 ]' || { processes; return 1; }
	log_has 'refused .*reason="too many logins of this user'
	log_has 'fatal .*does not end: it waits for a file system'
	fuse_answers
	nobody_is_left 10
	[[ $(pop alice QUIT) == *"+OK bye, 2 messages left" ]]
	spool_is alice one two
}

# bats test_tags=attack:9-3
@test "a Maildir that does not answer at the login: twenty logins hold one session, others are served, and it comes back whole" {
	server_start -t 3 -m maildir:~/Maildir
	maildir m1 m2
	mkdir -p /home/bob/Maildir/{cur,new,tmp}
	make_message bobs >/home/bob/Maildir/new/1000000000.bobs.mail
	chown -R bob:bob /home/bob/Maildir
	fuse_over /home/alice
	for call in 'READDIR /Maildir/new' 'OPENDIR /Maildir/cur' \
	    'GETATTR /Maildir/new' 'LOOKUP /Maildir$'; do
		rm -f "$state"/users/*/*/index
		fuse_hang "$call"
		tries 20 100
		fuse_hangs 1
		bob_is_served
		# Who has the client is beyond reach; all others are refused.
		await 60 \
		    '[ "$(pgrep -cx kpopc)" -le 4 ] && [ "$(pgrep -cx kpopd)" -le 12 ]' || { processes; return 1; }
		held=$(pgrep -cx kpopd)
		echo "# around: 20 logins while $call hangs: $held processes stay" >&3
		fuse_answers
		nobody_is_left 15
	done
	[[ $(pop alice QUIT) == *"+OK bye, 2 messages left" ]]
	maildir_is m1 m2
}

# bats test_tags=attack:9-4
@test "a Maildir that dies under RETR: others are served, a second login hears [IN-USE], and the message comes when it is back" {
	server_start -m maildir:~/Maildir
	maildir m1 m2
	fuse_over /home/alice
	rm -rf /home/bob/Maildir
	pop_login alice
	fuse_hang 'READ /Maildir/new/1000000000.m2'
	pop_say "RETR 2"
	fuse_hangs
	[[ $(pop alice QUIT) == *"-ERR [IN-USE]"* ]]
	fuse_answers
	pop_hear_lines
	[ "${lines[4]}" = "Subject: m2" ]
	pop_ask "DELE 1"
	pop_ask QUIT '^\+OK bye, 1 messages left'
	pop_hear_end
	maildir_is m2
}

# bats test_tags=attack:9-5
@test "a Maildir that dies under QUIT: nothing is lost by a process that is killed meanwhile, nor by one that goes on" {
	server_start -m maildir:~/Maildir
	maildir m1 m2 m3
	fuse_over /home/alice
	pop_login alice
	pop_ask "DELE 2"
	fuse_hang 'UNLINK /Maildir/(new|cur)/1000000000.m2'
	pop_say QUIT
	fuse_hangs
	fuse_answers
	pop_hear '^\+OK bye, 2 messages left'
	pop_hear_end
	pop_close
	maildir_is m1 m3
	pop_login alice
	pop_ask "DELE 1"
	fuse_sleep
	pop_say QUIT
	session=$(child_pid)
	kill -KILL "$session"
	pop_hear_end
	pop_close
	fuse_answers
	nobody_is_left 10
	[[ $(pop alice QUIT) =~ "messages left" ]]
	maildir_is m1 m3
}

# on_spool: alice and bob have mailboxes in /srv/spool, which is a file system
# of its own.
on_spool() {
	mkdir -p /srv/spool
	chgrp mail /srv/spool
	chmod 2775 /srv/spool
	for user in alice bob; do
		cp -a "/var/mail/$user" /srv/spool
	done
}

# bats test_tags=attack:9-6
@test "a spool that dies in each step of QUIT: a session that waits removes just what was marked, once it answers" {
	on_spool
	fuse_over /srv/spool
	server_start -m mbox:/srv/spool/%u
	for call in 'LOOKUP /alice.lock' 'READ /alice' 'WRITE /alice' \
	    'FSYNC /alice' 'SETATTR /alice' 'UNLINK /alice.lock'; do
		mbox one two three >/srv/spool/alice
		pop_login alice
		pop_ask "DELE 2"
		fuse_hang "^$call"
		pop_say QUIT
		fuse_hangs || { echo "$call"; return 1; }
		fuse_answers
		pop_hear '^\+OK bye, 2 messages left' ||
		    { echo "$call"; log_lines; return 1; }
		pop_hear_end
		pop_close
		nobody_is_left 10
		cmp <(mbox one three) /srv/spool/alice ||
		    { echo "$call"; return 1; }
	done
}

# bats test_tags=attack:9-7
@test "a spool that dies in each step of QUIT, and session and monitor are killed: the next login finds all or nothing removed" {
	on_spool
	fuse_over /srv/spool
	server_start -m mbox:/srv/spool/%u
	mbox one two three >"$WORLD/old"
	mbox one three >"$WORLD/new"
	for call in 'READ /alice' 'WRITE /alice' 'FSYNC /alice' \
	    'SETATTR /alice'; do
		cat "$WORLD/old" >/srv/spool/alice
		pop_login alice
		pop_ask "DELE 2"
		fuse_hang "^$call"
		pop_say QUIT
		fuse_hangs || { echo "$call"; return 1; }
		pkill -KILL -x kpopd
		fuse_answers
		nobody_is_left 10
		pop_hear_end
		pop_close
		[[ $(pop alice QUIT) == *"messages left" ]]
		cmp -s "$WORLD/old" /srv/spool/alice ||
		    cmp "$WORLD/new" /srv/spool/alice ||
		    { echo "$call"; return 1; }
		no_journal
	done
}

# bats test_tags=attack:9-8
@test "a state directory that does not answer: nobody is let in by it; a removal waits for it; afterwards all is as ever" {
	mkdir -p "$state"
	server_start -t 3
	[[ $(pop alice QUIT) == *"messages left" ]]
	fuse_over "$state/users"
	fuse_sleep
	tries 2 10
	tries_end 10
	! grep messages "$WORLD"/try.* || {
		echo "the file system is $(field "$fuse_pid" State)"
		mount | grep fuse
		log_lines
		return 1
	}
	fuse_answers
	nobody_is_left 10
	for call in WRITE FSYNC RENAME UNLINK; do
		mbox one two three | store alice
		pop_login alice
		pop_ask "DELE 2"
		fuse_hang "^$call .*"
		pop_say QUIT
		fuse_hangs || { echo "$call"; return 1; }
		bob_is_served || [ $call != READ ]
		fuse_answers
		pop_hear '^\+OK bye, 2 messages left' ||
		    { echo "$call"; log_lines; return 1; }
		pop_hear_end
		pop_close
		spool_is alice one three
		no_journal
	done
}

# bats test_tags=attack:9-9
@test "--recover goes on to the next user when the home of one does not answer" {
	server_start -m mbox:~/inbox
	for user in alice bob; do
		cp -a "/var/mail/$user" "/home/$user/inbox"
	done
	for user in alice bob; do
		mbox one two three >"/home/$user/inbox"
		[ $user = alice ] || export KRB5CCNAME=FILE:$WORLD/bob.ccache
		break_off $user 2
	done
	[ "$(find "$state/users" -name j | wc -l)" -eq 2 ]
	fuse_over /home/alice
	fuse_hang .
	timeout 100 "$KPOPD_BUILD/kpopd" --recover -d "$state" -m mbox:~/inbox \
	    >"$WORLD/recovered" || [ $? -eq 1 ]
	cat "$WORLD/recovered"
	grep -q '^alice .*not reachable' "$WORLD/recovered"
	grep -q '^bob .*removal finished' "$WORLD/recovered"
	cmp <(mbox one three) /home/bob/inbox
	fuse_answers
	"$KPOPD_BUILD/kpopd" --recover -d "$state" -m mbox:~/inbox
	cmp <(mbox one three) /home/alice/inbox
}

# nss_start: accounts that are in no file come from a name service of which
# $WORLD/nss.conf says what it knows (nss.c); slow, whose uid is 7001, has mail.
nss_start() {
	[ -z "${SANITIZER-}" ] ||
	    skip "the name service is made without sanitizers"
	mkdir -p "$WORLD/nss" /home/slow
	cp "$KPOPD_BUILD/tests/programs/libnss_kpopd_test.so.2" "$WORLD/nss"
	# ldconfig keeps what it knows of files outside of the world.
	[ ! -d /var/cache/ldconfig ] || mountpoint -q /var/cache/ldconfig ||
	    mount -t tmpfs kpopd /var/cache/ldconfig
	echo "$WORLD/nss" >/etc/ld.so.conf.d/kpopd-test.conf
	ldconfig -X
	sed -i 's/^passwd:.*/passwd: files kpopd_test/' /etc/nsswitch.conf
	: >/run/nss.asked
	chmod 666 /run/nss.asked
	chown 7001:7001 /home/slow
	mbox slows >/var/mail/slow
	chown 7001:mail /var/mail/slow
	chmod 660 /var/mail/slow
	[ -e "$WORLD/keytabs/slow.keytab" ] || realm_add slow
	KRB5CCNAME=FILE:$WORLD/slow.ccache realm_login slow
}

# nss_knows LINE …
nss_knows() {
	printf '%s\n' "$@" >/run/nss.new
	mv /run/nss.new /run/nss
}

# slow_login [COMMAND …]: a session of slow.
slow_login() {
	KRB5CCNAME=FILE:$WORLD/slow.ccache pop slow "$@" QUIT
}

slow_tries() {
	KRB5CCNAME=FILE:$WORLD/slow.ccache user=slow tries "$@"
}

# bats test_tags=attack:9-10
@test "a name service that takes two seconds: its user is served, and nobody else waits" {
	nss_start
	nss_knows "slow 2 found 7001 /home/slow"
	[ "$(getent passwd slow | cut -d: -f3)" = 7001 ]
	server_start
	slow_tries 5
	await 5 '[ "$(wc -l </run/nss.asked)" -ge 2 ]'
	bob_is_served
	tries_end 30
	# One of the five; the others find the mailbox in use.
	cat "$WORLD"/try.* | grep -q "^+OK bye, 1 messages left"
	slow_login | grep -q '^+OK bye, 1 messages left'
}

# bats test_tags=attack:9-11
@test "a name service that never answers: its user's logins end at the deadline with a line in the log, and nobody else waits" {
	nss_start
	nss_knows "slow 3600 found 7001 /home/slow"
	server_start -t 3
	slow_tries 20
	await 5 '[ "$(wc -l </run/nss.asked)" -ge 10 ]'
	bob_is_served
	nobody_is_left 10
	grep messages "$WORLD"/try.* && return 1
	log_has 'refused .*deadline'
	nss_knows "slow 0 found 7001 /home/slow"
	slow_login | grep -q '^+OK bye, 1 messages left'
}

@test "a name service that takes other spellings for an account: the mailbox, the state and the log are those of its own name" {
	nss_start
	nss_knows 'KPOPD\folds 0 found 7003 /home/folds' \
	    'folds@example.org 0 found 7004 /home/folds.org'
	for uid in 7003 7004; do
		home=/home/folds$([ $uid = 7003 ] || echo .org)
		mkdir -p $home
		echo slow@KPOPD.TEST >$home/.k5login
		chown -R $uid:$uid $home
	done
	mbox one two >'/var/mail/KPOPD\folds'
	mbox one two three >/var/mail/folds@example.org
	chown 7003:mail '/var/mail/KPOPD\folds'
	chown 7004:mail /var/mail/folds@example.org
	chmod 660 /var/mail/*folds*
	export KRB5CCNAME=FILE:$WORLD/slow.ccache
	server_start -D example.org
	run pop 'kpopd\FOLDS' QUIT
	[[ $output != *messages* ]]
	log_has 'refused .*reason="unknown user" '
	: >/run/nss.folds
	for name in 'KPOPD\folds' 'kpopd\FOLDS' 'Kpopd\Folds'; do
		log_mark
		run pop "$name" QUIT
		[[ $output == *"+OK 2 messages"* ]] || {
			echo "$name: $output"
			log_lines
			rm /run/nss.folds
			return 1
		}
		log_has 'login .*user=KPOPD\\134folds '
	done
	# It is the database that decides about the whole text first.
	for name in folds@example.org folds@EXAMPLE.ORG Folds@Example.Org; do
		log_mark
		run pop "$name" QUIT
		[[ $output == *"+OK 3 messages"* ]] || {
			echo "$name: $output"
			log_lines
			rm /run/nss.folds
			return 1
		}
		log_has 'login .*user=folds@example\.org '
	done
	[ "$(cat "$state/users/7003.mailboxes" "$state/users/7004.mailboxes" |
	    grep -c .)" -eq 2 ]
	# Two spellings at once are one mailbox in use.
	pop_login 'kpopd\folds'
	run pop 'KPOPD\FOLDS' QUIT
	pop_close
	rm /run/nss.folds
	[[ $output == *"[IN-USE]"* ]] || { echo "$output"; return 1; }
	find "$state/users" -name '*former*' | grep . && return 1 || :
	[ "$(ls /var/mail | grep -ic folds)" -eq 2 ]
}

# bats test_tags=attack:9-12
@test "a name service that hangs in the session's question only: the deadline ends it" {
	nss_start
	nss_knows "slow 3600 for-root 7001 /home/slow"
	server_start -t 3
	slow_tries 3
	await 5 'grep -q "by=7001" /run/nss.asked'
	bob_is_served
	nobody_is_left 10
	grep messages "$WORLD"/try.* && return 1
	log_has 'refused .*reason="login deadline'
}

# bats test_tags=attack:9-13
@test "a name service that cannot answer, or knows nobody of this name: refused, and nothing is set aside" {
	nss_start
	nss_knows "slow 0 found 7001 /home/slow"
	server_start -t 5
	slow_login | grep -q '^+OK bye, 1 messages left'
	for answer in down absent; do
		nss_knows "slow 0 $answer 7001 /home/slow"
		log_mark
		run slow_login
		[[ $output != *messages* ]]
		log_has 'refused .*user=slow'
	done
	[ -d "$state/users/7001" ]
	nss_knows "slow 0 found 7001 /home/slow"
	slow_login | grep -q '^+OK bye, 1 messages left'
	find "$state/users" -name '*former*' | grep . && return 1 || :
}

# bats test_tags=attack:9-14
@test "a name service that says something else each time mixes no two users' mail" {
	nss_start
	mkdir -p /home/other
	chown 7002:7002 /home/other
	echo mallory@KPOPD.TEST >/home/other/.k5login
	chown 7002 /home/other/.k5login
	nss_knows "slow 0 found 7001 /home/slow" "slow 0 found 7002 /home/other"
	server_start
	spool_keep
	served=0
	for _ in $(seq 12); do
		run slow_login STAT
		[[ $output == *"+OK 1 messages"* ]] && served=$((served + 1)) ||
		    [[ ${lines[-1]} == "-ERR"* ]]
	done
	echo "# around: $served of 12 logins served by a name service that changes its mind" >&3
	# The mailbox's owner is 7001: nobody else read it.
	log_lines | grep -a 'user=slow' >/dev/null
	KRB5CCNAME=FILE:$WORLD/mallory.ccache realm_login mallory
	# One process more or less between the monitor and the session: the
	# answers differ within one login, too.
	for n in $(seq 12); do
		[ $((n % 3)) -ne 0 ] || /bin/true
		output=$(KRB5CCNAME=FILE:$WORLD/mallory.ccache pop slow STAT \
		    QUIT) || true
		[[ $output != *"1 messages"* ]] || { log_lines; return 1; }
	done
}

# bats test_tags=attack:9-15
@test "--recover goes on to the next user while the name service hangs over one" {
	nss_start
	nss_knows "slow 0 found 7001 /home/slow"
	server_start
	mbox one two three | store alice
	for user in alice slow; do
		[ $user = alice ] || mbox slows slow2 slow3 >/var/mail/slow
		[ $user = alice ] || export KRB5CCNAME=FILE:$WORLD/slow.ccache
		break_off $user 2
	done
	[ "$(find "$state/users" -name j | wc -l)" -eq 2 ]
	nss_knows "slow 3600 found 7001 /home/slow"
	"$KPOPD_BUILD/kpopd" --recover -d "$state" >"$WORLD/recovered" 3>&- &
	recovery=$!
	await 40 'cmp -s <(mbox one three) /var/mail/alice' ||
	    { kill $recovery; false; }
	await 40 "! kill -0 $recovery 2>/dev/null" || { kill $recovery; false; }
	grep 'alice.*removal finished' "$WORLD/recovered"
	grep '7001.*not reachable: the account database does not answer' \
	    "$WORLD/recovered"
	nss_knows "slow 0 found 7001 /home/slow"
	"$KPOPD_BUILD/kpopd" --recover -d "$state"
	cmp <(mbox slows slow3) /var/mail/slow
}

# poorer_by CALL …: kpopd's kernel has none of these system calls (poor.c).
poorer_by() {
	[ -z "${SANITIZER-}" ] || skip "a build with sanitizers has no sandbox"
	server_under "exec $KPOPD_BUILD/tests/programs/poor $* -- \"\$@\""
}

landlock="landlock_create_ruleset landlock_add_rule landlock_restrict_self"

# still_protected: of a session in which alice is logged in: what no kernel is
# without.
still_protected() {
	local pid
	pop_login alice
	has_nothing "$(child_pid)" "$(id -u alice)" "$(id -g alice)"
	for pid in $(pgrep -x kpopd); do
		# Who has been made to read the client's bytes is not root.
		[ "$pid" = "$(monitor_pid)" ] ||
		    [ "$(stat -c %u "/proc/$pid")" != 0 ] ||
		    [ "$(field "$pid" Uid)" != "0 0 0 0" ]
	done
	pop_ask "RETR 1"
	while pop_hear '' && [ "$heard" != . ]; do :; done
	pop_ask "DELE 1"
	pop_ask QUIT '^\+OK bye, 1 messages left'
	pop_hear_end
	pop_close
	pop_open
	pop_hear '^\+OK'
	# The pre-auth process: jailed, a user of its own, few files, little
	# memory.
	[ "$(readlink "/proc/$(child_pid)/root")" = "$state/preauth" ]
	[ "$(field "$(child_pid)" Uid)" = \
	    "$(id -u kpopd) $(id -u kpopd) $(id -u kpopd) $(id -u kpopd)" ]
	grep -Eq 'Max open files +16 +16' "/proc/$(child_pid)/limits"
	grep -Eq 'Max processes +0 +0' "/proc/$(child_pid)/limits"
	pop_close
	nobody_is_left 10
}

# bats test_tags=attack:9-16
@test "a kernel without Landlock, without seccomp, without both: served, the log says what is missing, and users, jail and limits stay" {
	for missing in landlock seccomp both; do
		case $missing in
		landlock) calls=$landlock ;;
		seccomp) calls=seccomp ;;
		both) calls="$landlock seccomp" ;;
		esac
		mbox one two | store alice
		poorer_by $calls
		log_mark
		still_protected ||
		    { echo "without $missing"; log_lines; return 1; }
		spool_is alice two
		[ $missing = seccomp ] ||
		    log_has 'sandbox .*error="this kernel has no Landlock"'
		[ $missing = landlock ] ||
		    log_has 'sandbox .*error="this kernel has no seccomp"'
		[ $missing != landlock ] || log_lacks 'no seccomp'
		[ $missing != seccomp ] || log_lacks 'no Landlock'
		server_stop
	done
}

# bats test_tags=attack:9-17
@test "the same with TLS and with a layer of GSSAPI" {
	[ -z "${SANITIZER-}" ] || skip "a build with sanitizers has no sandbox"
	tls_make
	for client in "--tls -C $WORLD/tls/ca.pem" -p; do
		mbox one two | store alice
		[ "$client" = -p ] && options=-p || options=$(tls_options)
		server_under "exec $KPOPD_BUILD/tests/programs/poor $landlock seccomp -- \"\$@\"" $options
		pop_open $client
		pop_hear '^\+OK'
		pop_ask "USER alice"
		pop_ask "PASS x"
		pop_ask "DELE 2"
		pop_ask QUIT '^\+OK bye, 1 messages left'
		pop_hear_end
		pop_close
		spool_is alice one
		server_stop
	done
}

# bats test_tags=attack:9-18
@test "the same where kpopd accepts: each connection is served" {
	[ -z "${SANITIZER-}" ] || skip "a build with sanitizers has no sandbox"
	printf '#!/bin/bash\nexec %s %s -- %s "$@"\n' \
	    "$KPOPD_BUILD/tests/programs/poor" "$landlock seccomp" \
	    "$KPOPD_BUILD/kpopd" >"$WORLD/under"
	chmod 755 "$WORLD/under"
	server_configure
	sed -i -e 's/\(wait[[:space:]]*=\).*/\1 yes/' \
	    -e '/per_source\|instances\|flags/d' \
	    -e "s,^\([[:space:]]*server[[:space:]]*=\).*,\1 $WORLD/under," \
	    "$WORLD/xinetd.conf"
	xinetd_run
	for _ in 1 2 3; do
		[[ $(pop alice QUIT) == *"+OK bye, 2 messages left" ]]
		bob_is_served
	done
	log_has 'no Landlock'
	log_has 'no seccomp'
	pkill -x kpopd
	nobody_is_left 10
}

# served_as_ever: alice's session with a removal, under what kpopd is started
# by.
served_as_ever() {
	mbox one two | store alice
	pop alice "RETR 2" "DELE 1" QUIT |
	    grep -q '^+OK bye, 1 messages left' || { log_lines; return 1; }
	spool_is alice two
}

# bats test_tags=attack:9-19
@test "no /proc, a read-only root, noexec and nosuid mounts, a hidden /proc: served as ever" {
	for how in 'mount -t tmpfs none /proc' \
	    'mount -o remount,bind,ro / && mount -o remount,bind,ro /etc' \
	    'mount -o remount,bind,noexec,nosuid,nodev "$WORLD" && mount -o remount,bind,noexec,nosuid /var/lib' \
	    'mount -t proc -o hidepid=2 proc /proc'; do
		# A /proc of its own: to remount this one would hide processes
		# from all tests that follow. Not bash, which reads .bashrc if
		# its standard input is a socket.
		server_under "export WORLD=$WORLD; exec unshare --mount sh -c '$how && exec \"\$@\"' - \"\$@\""
		served_as_ever || { echo "with $how"; return 1; }
		server_stop
	done
}

# bats test_tags=attack:9-20
@test "a user namespace in which users have no ids: nobody is let in, and the log says which step failed" {
	spool_keep
	server_under "exec unshare --user --map-root-user \"\$@\""
	run pop alice STAT QUIT
	[[ $output != *messages* ]]
	log_has 'fatal .*error="(setgroups|setresgid|setresuid|cannot)'
}

# bats test_tags=attack:9-21
@test "a clock that is thirty years off: tickets are refused, a session that is in goes on, nothing is lost" {
	[ -z "${SANITIZER-}" ] || skip "ASan has its own allocator and clock"
	years=$((30 * 365 * 86400))
	shift_clock() {
		perl -e 'open my $f, "+<", $ARGV[0] or open $f, ">", $ARGV[0] or die; print $f pack "q4", $ARGV[1], 0, 0, 0' "$WORLD/preload" "$1"
		chmod 666 "$WORLD/preload"
	}
	shift_clock 0
	server_env="LD_PRELOAD=$KPOPD_BUILD/tests/programs/preload.so PRELOAD=$WORLD/preload" server_start
	for years in $years -$years; do
		mbox one two | store alice
		shift_clock 0
		pop_login alice
		pop_ask "DELE 1"
		shift_clock "$years"
		run pop alice QUIT
		[[ $output != *messages* ]]
		log_has 'refused .*reason="Kerberos" error='
		pop_ask QUIT '^\+OK bye, 1 messages left'
		pop_hear_end
		pop_close
		spool_is alice two
		shift_clock 0
		[[ $(pop alice QUIT) == *"+OK bye, 1 messages left" ]]
	done
}
