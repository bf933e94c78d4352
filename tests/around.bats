#!/usr/bin/env bats
# Checks kpopd on machines that are slow or lack something. File systems do not
# answer, name services hang, and kernels have no sandbox.

load helpers/all
load helpers/preload

setup_file() { :; }
teardown_file() { :; }

setup() {
	begin_test
	[ -z "${SANITIZER-}" ] ||
	    skip "minutes of deadlines, which are the same in a build with sanitizers"
	mbox one two | store alice
	mbox bobs | store bob
	realm_login alice
	KRB5CCNAME=FILE:$WORLD/bob.ccache realm_login bob
	tried=0
	rm -f "$WORLD"/tried.*
}

teardown() {
	local status=0
	fuse_end
	end_test || status=1
	rm -rf /home/{alice,bob}/{Maildir,inbox} /home/alice/.k5login /srv/spool
	rm -f /run/nss.folds
	# Undo the change, because other test files run in the same world.
	sed -i 's/^\(passwd:.*\) kpopd_test/\1/' /etc/nsswitch.conf
	return $status
}

# waiting: prints how many clients of tries have not ended.
waiting() {
	echo $((tried - $(ls "$WORLD" | grep -c '^tried\.')))
}

# bob_is_served: returns true if bob logs in and out, and if some clients of
# tries still wait then. If none waits at the beginning, bob only has to be
# served.
bob_is_served() {
	local before answer
	before=$(waiting)
	answer=$(printf '%s\r\n' "USER bob" "PASS x" QUIT |
	    KRB5CCNAME=FILE:$WORLD/bob.ccache \
		timeout 30 "$KPOPD_BUILD/kpopc" mail.kpopd.test) || :
	[[ $answer == *"+OK bye, 1 messages left"* ]] ||
	    { echo "bob: $answer"; log_lines; return 1; }
	[ "$before" -eq 0 ] || [ "$(waiting)" -gt 0 ] ||
	    { echo "bob waited"; return 1; }
}

# tries COUNT [SECONDS]: starts COUNT logins of $user (alice by default) at the
# same time in the background. Each client ends after SECONDS (30 by default).
tries() {
	local n
	tried=$1
	rm -f "$WORLD"/try.* "$WORLD"/tried.*
	for n in $(seq "$1"); do
		{
			printf '%s\r\n' "USER ${user-alice}" "PASS x" QUIT |
			    timeout "${2-30}" "$KPOPD_BUILD/kpopc" \
				mail.kpopd.test >"$WORLD/try.$n" 2>&1 || :
			: >"$WORLD/tried.$n"
		} 3>&- &
	done
}

# tries_end SECONDS: waits up to SECONDS until each client of tries has ended.
tries_end() {
	await "$1" '[ "$(waiting)" -eq 0 ]' ||
	    { list_processes; return 1; }
}

# tries_are_refused: returns true if no client of tries was let in.
tries_are_refused() {
	cat "$WORLD"/try.*
	refute grep -q messages "$WORLD"/try.*
}

# processes_end SECONDS [COUNT]: waits up to SECONDS until at most COUNT
# processes of kpopd are left (none by default).
processes_end() {
	await "$1" "[ \"\$(pgrep -cx kpopd)\" -le ${2-0} ]" ||
	    { list_processes; return 1; }
}

# list_processes: prints kpopd's processes, and what each process waits for.
list_processes() {
	ps -o pid,ppid,user,stat,wchan:20,args -C kpopd
}

# make_maildir NAME ...: makes a Maildir for alice with these new messages.
make_maildir() {
	local name
	mkdir -p /home/alice/Maildir/{cur,new,tmp}
	for name in "$@"; do
		make_message "$name" \
		    >"/home/alice/Maildir/new/1000000000.$name.mail"
	done
	chown -R alice:alice /home/alice/Maildir
}

# maildir_is NAME ...: returns true if alice's Maildir contains exactly these
# messages.
maildir_is() {
	diff <(cd /home/alice/Maildir &&
	    find new cur -type f -printf '%f\n' | sed 's/:2,.*//' | sort) \
	    <(printf '1000000000.%s.mail\n' "$@" | sort)
}

# bats test_tags=attack:9-1
@test "kpopd ends logins at the deadline if the user's home does not answer, and serves others meanwhile" {
	server_start -t 10
	fuse_over /home/alice
	fuse_sleep
	tries 3
	await 10 '[ "$(pgrep -cx kpopd -U alice)" -ge 1 ]'
	bob_is_served
	processes_end 30
	log_has 'refused .*reason="login deadline'
	tries_end 10
	tries_are_refused
	fuse_answers
	[[ $(pop alice QUIT) == *"+OK bye, 2 messages left" ]]
	spool_is alice one two
}

# bats test_tags=attack:9-2
@test "twenty logins of a user whose home does not answer leave few processes, which end when the home answers" {
	server_start -t 10
	fuse_over /home/alice
	fuse_hang k5login
	tries 20
	fuse_hangs 1
	bob_is_served
	# kpopd refuses each client and ends its monitor.
	tries_end 40
	tries_are_refused
	bob_is_served
	processes_end 30 4
	remaining=$(pgrep -cx kpopd)
	echo "# around: 20 logins at a home that does not answer:" \
	    "$remaining processes stay" >&3
	# At least one process still waits for the home directory. More logins
	# must not leave more processes.
	[ "$remaining" -ge 1 ]
	tries 5
	tries_end 40
	processes_end 30 4
	log_has 'refused .*reason="too many logins of this user'
	log_has 'fatal .*does not end: it waits for a file system'
	fuse_answers
	processes_end 30
	[[ $(pop alice QUIT) == *"+OK bye, 2 messages left" ]]
	spool_is alice one two
}

# bats test_tags=attack:9-3
@test "kpopd holds one of twenty sessions while the Maildir does not answer, serves others, and loses no mail" {
	server_start -t 10 -m maildir:~/Maildir
	make_maildir m1 m2
	# bob's mail is in bob's own Maildir.
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
		# The one session that already serves its client cannot be
		# ended. kpopd refuses all other logins.
		await 60 '[ "$(pgrep -cx kpopc)" -le 4 ] &&
		    [ "$(pgrep -cx kpopd)" -le 12 ]' ||
		    { list_processes; return 1; }
		remaining=$(pgrep -cx kpopd)
		echo "# around: 20 logins while $call hangs:" \
		    "$remaining processes stay" >&3
		fuse_answers
		processes_end 30
	done
	[[ $(pop alice QUIT) == *"+OK bye, 2 messages left" ]]
	maildir_is m1 m2
}

# bats test_tags=attack:9-4
@test "RETR waits for a Maildir that stops answering, and a second login gets [IN-USE] meanwhile" {
	server_start -m maildir:~/Maildir
	make_maildir m1 m2
	fuse_over /home/alice
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
@test "QUIT loses no mail if the Maildir stops answering, whether the session continues or is killed" {
	server_start -m maildir:~/Maildir
	make_maildir m1 m2 m3
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
	processes_end 30
	[[ $(pop alice QUIT) =~ "messages left" ]]
	maildir_is m1 m3
}

# copy_spools: copies the spools of alice and bob to /srv/spool. The tests mount
# a file system over that directory.
copy_spools() {
	mkdir -p /srv/spool
	chgrp mail /srv/spool
	chmod 2775 /srv/spool
	for user in alice bob; do
		cp -a "/var/mail/$user" /srv/spool
	done
}

# bats test_tags=attack:9-6
@test "QUIT waits for a spool that stops answering in any step, and then removes exactly the marked messages" {
	copy_spools
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
		processes_end 30
		cmp <(mbox one three) /srv/spool/alice ||
		    { echo "$call"; return 1; }
	done
}

# bats test_tags=attack:9-7
@test "the next login finds all or nothing removed if kpopd is killed while the spool does not answer QUIT" {
	copy_spools
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
		processes_end 30
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
@test "kpopd lets no client in while its state directory does not answer, and QUIT waits for the directory" {
	mkdir -p "$state"
	server_start -t 10
	[[ $(pop alice QUIT) == *"messages left" ]]
	fuse_over "$state/users"
	fuse_sleep
	tries 2
	tries_end 40
	tries_are_refused || {
		echo "the file system is $(field "$fuse_pid" State)"
		mount | grep fuse
		log_lines
		return 1
	}
	fuse_answers
	processes_end 30
	for call in WRITE FSYNC RENAME UNLINK; do
		mbox one two three | store alice
		pop_login alice
		pop_ask "DELE 2"
		fuse_hang "^$call .*"
		pop_say QUIT
		fuse_hangs || { echo "$call"; return 1; }
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
@test "kpopd --recover continues with the next user if the home of one does not answer" {
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

# nss_start: adds a name service (tests/programs/nss.c) for accounts that are in
# no file. Prepares mail and a ticket for the user "slow", uid 7001.
nss_start() {
	[ -z "${SANITIZER-}" ] ||
	    skip "the name service is made without sanitizers"
	mkdir -p "$WORLD/nss" /home/slow
	cp "$KPOPD_BUILD/tests/programs/libnss_kpopd_test.so.2" "$WORLD/nss"
	# ldconfig writes to a cache outside the world, so mount a directory
	# over it.
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

# nss_knows LINE ...: tells the name service which accounts exist.
# tests/programs/nss.c describes the lines.
nss_knows() {
	printf '%s\n' "$@" >/run/nss.new
	mv /run/nss.new /run/nss
}

# slow_login [COMMAND ...]: runs a session of the user slow.
slow_login() {
	KRB5CCNAME=FILE:$WORLD/slow.ccache pop slow "$@" QUIT
}

# slow_tries COUNT [SECONDS]: runs tries as the user slow.
slow_tries() {
	KRB5CCNAME=FILE:$WORLD/slow.ccache user=slow tries "$@"
}

# bats test_tags=attack:9-10
@test "a name service that takes two seconds for one user delays no other user" {
	nss_start
	nss_knows "slow 2 found 7001 /home/slow"
	[ "$(getent passwd slow | cut -d: -f3)" = 7001 ]
	server_start
	slow_tries 5
	await 10 '[ "$(wc -l </run/nss.asked)" -ge 2 ]'
	begin=$SECONDS
	bob_is_served
	# One after the other, the five would take half a minute.
	[ $((SECONDS - begin)) -lt 10 ]
	tries_end 40
	# At least one of the five logins gets the mailbox. The others may find
	# the mailbox in use.
	cat "$WORLD"/try.* | grep -q "^+OK bye, 1 messages left"
	slow_login | grep -q '^+OK bye, 1 messages left'
}

# bats test_tags=attack:9-11
@test "kpopd ends logins at the deadline if the name service never answers, and serves others meanwhile" {
	nss_start
	nss_knows "slow 3600 found 7001 /home/slow"
	server_start -t 10
	slow_tries 20
	await 10 '[ "$(wc -l </run/nss.asked)" -ge 10 ]'
	bob_is_served
	processes_end 30
	tries_end 10
	tries_are_refused
	log_has 'refused .*deadline'
	nss_knows "slow 0 found 7001 /home/slow"
	slow_login | grep -q '^+OK bye, 1 messages left'
}

@test "kpopd uses the account's own name for mailbox, state and log if the name service accepts others" {
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
		[[ $output == *"+OK 2 messages"* ]] ||
		    { echo "$name: $output"; log_lines; return 1; }
		log_has 'login .*user=KPOPD\\134folds '
	done
	# kpopd looks up the whole name before it looks up the name without the
	# domain.
	for name in folds@example.org folds@EXAMPLE.ORG Folds@Example.Org; do
		log_mark
		run pop "$name" QUIT
		[[ $output == *"+OK 3 messages"* ]] ||
		    { echo "$name: $output"; log_lines; return 1; }
		log_has 'login .*user=folds@example\.org '
	done
	[ "$(cat "$state/users/7003.mailboxes" "$state/users/7004.mailboxes" |
	    grep -c .)" -eq 2 ]
	# Sessions with two spellings of the name use the same mailbox.
	pop_login 'kpopd\folds'
	run pop 'KPOPD\FOLDS' QUIT
	pop_close
	[[ $output == *"[IN-USE]"* ]] || { echo "$output"; return 1; }
	find "$state/users" -name '*former*' | refute grep .
	[ "$(ls /var/mail | grep -ic folds)" -eq 2 ]
}

# bats test_tags=attack:9-24
@test "kpopd ends a login at the deadline if the name service waits in syslog(3)" {
	nss_start
	nss_knows "slow 0 logs 7001 /home/slow"
	server_start -t 10
	slow_tries 3
	await 10 '[ "$(wc -l </run/nss.asked)" -ge 3 ]'
	bob_is_served
	processes_end 30
	tries_end 20
	tries_are_refused
}

# bats test_tags=attack:9-12
@test "the login deadline ends a session whose own query hangs in the name service" {
	nss_start
	nss_knows "slow 3600 for-root 7001 /home/slow"
	server_start -t 10
	slow_tries 3
	await 10 'grep -q "by=7001" /run/nss.asked'
	bob_is_served
	processes_end 30
	tries_end 10
	tries_are_refused
	log_has 'refused .*reason="login deadline'
}

# bats test_tags=attack:9-25
@test "kpopd ends a login at the deadline if the lookup of a former user of the uid, or its lock, hangs" {
	nss_start
	nss_knows "slow 0 found 7001 /home/slow"
	server_start -t 10
	slow_login | grep -q '^+OK bye, 1 messages left'
	sed -i s/slow/gone/ "$state/users/7001.mailboxes"
	nss_knows "slow 0 found 7001 /home/slow" "gone 3600 absent 7001 /"
	: >/run/nss.asked
	slow_tries 3
	await 10 '[ "$(grep -c "^gone " /run/nss.asked)" -ge 3 ]'
	bob_is_served
	processes_end 30
	tries_end 10
	tries_are_refused
	log_has 'logout .*reason=unavailable error="login deadline'
	nss_knows "slow 0 found 7001 /home/slow" "gone 0 absent 7001 /"
	flock "$state/users/lock" sleep infinity 3>&- &
	holder=$!
	await 5 '! flock -n "$state/users/lock" true'
	log_mark
	slow_tries 3
	await 10 '[ "$(log_lines | grep -ac "login .*user=slow")" -ge 3 ]'
	bob_is_served
	processes_end 30
	tries_end 10
	tries_are_refused
	pkill -P "$holder"
	wait "$holder" || true
	slow_login | grep -q '^+OK bye, 1 messages left'
	find "$state/users" -name '7001.former.*' | grep -q .
}

# bats test_tags=attack:9-13
@test "kpopd refuses the login and keeps the state if the name service is down or lacks the user" {
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
	find "$state/users" -name '*former*' | refute grep .
}

# bats test_tags=attack:9-14
@test "a name service that gives another account each time does not mix the mail of two users" {
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
	log_has 'user=slow'
	# Uid 7001 owns the mailbox, so uid 7002 must not read it.
	KRB5CCNAME=FILE:$WORLD/mallory.ccache realm_login mallory
	# The answer depends on the pid. At each third login another process
	# shifts the pids, so the answers differ within one login, too.
	for n in $(seq 12); do
		[ $((n % 3)) -ne 0 ] || /bin/true
		output=$(KRB5CCNAME=FILE:$WORLD/mallory.ccache pop slow STAT \
		    QUIT) || true
		[[ $output != *"1 messages"* ]] || { log_lines; return 1; }
	done
}

# bats test_tags=attack:9-15
@test "kpopd --recover continues with the next user if the name service hangs for one" {
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
	    { kill $recovery; return 1; }
	await 40 "! kill -0 $recovery 2>/dev/null" ||
	    { kill $recovery; return 1; }
	grep 'alice.*removal finished' "$WORLD/recovered"
	grep '7001.*not reachable: the account database does not answer' \
	    "$WORLD/recovered"
	nss_knows "slow 0 found 7001 /home/slow"
	"$KPOPD_BUILD/kpopd" --recover -d "$state"
	cmp <(mbox slows slow3) /var/mail/slow
}

# server_without 'POOR-ARGUMENTS' [KPOPD-OPTION ...]: starts a server for which
# system calls fail (tests/programs/poor.c).
server_without() {
	[ -z "${SANITIZER-}" ] || skip "a build with sanitizers has no sandbox"
	local calls=$1
	shift
	server_under "exec $poor $calls -- \"\$@\"" "$@"
}

poor=$KPOPD_BUILD/tests/programs/poor
landlock="landlock_create_ruleset landlock_add_rule landlock_restrict_self"

# is_protected: runs a session of alice that removes message 1. Returns true if
# the processes have the right ids, jail and limits, which every kernel
# provides.
is_protected() {
	local pid
	pop_login alice
	has_nothing "$(child_pid)" "$(id -u alice)" "$(id -g alice)"
	for pid in $(pgrep -x kpopd); do
		# Only the monitor may be root, because the other processes read
		# the client's bytes.
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
	# The pre-auth process has its jail, its user and its limits.
	[ "$(readlink "/proc/$(child_pid)/root")" = "$state/preauth" ]
	[ "$(field "$(child_pid)" Uid)" = \
	    "$(id -u kpopd) $(id -u kpopd) $(id -u kpopd) $(id -u kpopd)" ]
	grep -Eq 'Max open files +16 +16' "/proc/$(child_pid)/limits"
	grep -Eq 'Max processes +0 +0' "/proc/$(child_pid)/limits"
	pop_close
	processes_end 30
}

# missing_text ERROR PART ...: prints a pattern of the log line for these parts,
# seccomp and Landlock, whose calls fail with this error.
missing_text() {
	local error=$1 text='the sandbox cannot be made: ' comma=
	shift
	for part; do
		text+="${comma}no $part \($error\)"
		comma=', '
	done
	text+='\. Permit the system calls'
	[[ $* != *seccomp* ]] || text+=' seccomp'
	[[ $* != *Landlock* ]] ||
	    text+=' landlock_create_ruleset landlock_add_rule landlock_restrict_self'
	echo "$text, in SystemCallFilter= of the unit or for the container .*, or use a kernel that has (it|both)"
}

# bats test_tags=promise:4
@test "kpopd refuses to serve where Landlock or seccomp is absent or forbidden, and one line names it and the remedy" {
	spool_keep
	# A container's filter may return any of these errors.
	while read -r error text parts; do
		calls=
		[[ $parts != *seccomp* ]] || calls=seccomp
		[[ $parts != *Landlock* ]] || calls+=" $landlock"
		echo "$error: without $parts"
		server_without "-e $error $calls"
		run pop alice STAT QUIT
		[[ $output != *messages* ]]
		log_only "^mail\.err .*fatal peer=[^ ]+ error=\"$(missing_text \
		    "${text//_/ }" $parts)\. Or serve without: -S optional\"\$"
		[ "$(log_lines | wc -l)" = 1 ]
		server_stop
	done <<-END
	ENOSYS Function_not_implemented Landlock
	EOPNOTSUPP Operation_not_supported Landlock
	EPERM Operation_not_permitted Landlock
	EACCES Permission_denied seccomp
	ENOSYS Function_not_implemented seccomp
	EPERM Operation_not_permitted seccomp Landlock
	END
	spool_is alice one two
}

# bats test_tags=attack:9-16
@test "kpopd serves without Landlock or seccomp with -S optional, logs once what is missing, and keeps users, jail and limits" {
	for missing in Landlock seccomp "seccomp Landlock"; do
		for error in EPERM:Operation_not_permitted \
		    ENOSYS:Function_not_implemented; do
			calls=
			[[ $missing != *seccomp* ]] || calls=seccomp
			[[ $missing != *Landlock* ]] || calls+=" $landlock"
			text=${error#*:}
			mbox one two | store alice
			server_without "-e ${error%:*} $calls" -S optional
			log_mark
			echo "without $missing, $error"
			is_protected
			spool_is alice two
			# Two connections have logged a line each.
			log_count 2 "sandbox .*error=\"$(missing_text \
			    "${text//_/ }" $missing)\"\$"
			log_count 2 sandbox
			server_stop
		done
	done
}

@test "kpopd makes the whole sandbox by prctl where only the call seccomp is forbidden, in a recovery, too" {
	server_without "-e EPERM seccomp-call"
	mbox one two | store alice
	pop_login alice
	# One filter is of the program poor.
	[ "$(field "$(child_pid)" Seccomp_filters)" = 2 ]
	await 5 '[ "$(field "$(broker_pid)" Seccomp_filters)" = 2 ]'
	pop_ask "DELE 1"
	# The session dies at the last step of its removal, and the broker
	# starts the recovery.
	attach "$(child_pid)" -f -o /dev/null -e trace=ftruncate \
	    -e inject=ftruncate:signal=KILL
	pop_say QUIT
	log_has 'recovery '
	processes_end 30
	spool_is alice two
	log_lacks 'sandbox|fatal .*(seccomp|system call)'
}

@test "a login fails, also with -S optional, if a part of the sandbox is forbidden after it was offered" {
	for how in "EPERM filters" "EACCES landlock_restrict_self" \
	    "EPERM landlock_add_rule" "ENOSYS landlock_restrict_self"; do
		echo "$how"
		spool_keep
		server_without "-e $how" -S optional
		run pop alice STAT QUIT
		[[ $output != *messages* ]]
		log_has 'fatal .*error="(seccomp|landlock_[a-z_]*): '
		server_stop
	done
}

# bats test_tags=attack:9-17
@test "kpopd serves TLS and GSSAPI layers on a kernel without Landlock and seccomp, with -S optional" {
	[ -z "${SANITIZER-}" ] || skip "a build with sanitizers has no sandbox"
	tls_make
	for client in "--tls -C $WORLD/tls/ca.pem" -p; do
		mbox one two | store alice
		[ "$client" = -p ] && options=-p || options=$(tls_options)
		server_without "$landlock seccomp" -S optional $options
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
@test "kpopd as a listener serves each connection on a kernel without Landlock and seccomp, and logs that once, with -S optional" {
	[ -z "${SANITIZER-}" ] || skip "a build with sanitizers has no sandbox"
	printf '#!/bin/bash\nexec %s %s -- %s "$@"\n' \
	    "$poor" "$landlock seccomp" "$KPOPD_BUILD/kpopd" \
	    >"$WORLD/under"
	chmod 755 "$WORLD/under"
	server_configure -S optional
	sed -i -e 's/\(wait[[:space:]]*=\).*/\1 yes/' \
	    -e '/per_source\|instances\|flags/d' \
	    -e "s,^\([[:space:]]*server[[:space:]]*=\).*,\1 $WORLD/under," \
	    "$WORLD/xinetd.conf"
	xinetd_run
	for _ in 1 2 3; do
		[[ $(pop alice QUIT) == *"+OK bye, 2 messages left" ]]
		bob_is_served
	done
	log_count 1 'sandbox .*no seccomp.*no Landlock'
	log_count 1 sandbox
	pkill -x kpopd
	processes_end 30
}

# removes_message: returns true if a session of alice retrieves one message and
# removes the other.
removes_message() {
	mbox one two | store alice
	pop alice "RETR 2" "DELE 1" QUIT |
	    grep -q '^+OK bye, 1 messages left' || { log_lines; return 1; }
	spool_is alice two
}

# bats test_tags=attack:9-19
@test "kpopd serves with no /proc, a hidden /proc, a read-only root, and noexec and nosuid mounts" {
	local restrict='mount -o remount,bind,noexec,nosuid,nodev "$WORLD"'
	restrict+=' && mount -o remount,bind,noexec,nosuid /var/lib'
	for how in 'mount -t tmpfs none /proc' \
	    'mount -o remount,bind,ro / && mount -o remount,bind,ro /etc' \
	    "$restrict" \
	    'mount -t proc -o hidepid=2 proc /proc'; do
		# Use a separate mount namespace, because a remount of the
		# test's /proc would hide processes from later tests. Use sh,
		# because bash reads .bashrc if its standard input is a socket.
		server_under "export WORLD=$WORLD
		    exec unshare --mount sh -c '$how && exec \"\$@\"' - \"\$@\""
		removes_message || { echo "with $how"; return 1; }
		server_stop
	done
}

# bats test_tags=attack:9-20
@test "kpopd refuses logins in a user namespace without the users' ids, and logs the step that failed" {
	spool_keep
	server_under "exec unshare --user --map-root-user \"\$@\""
	run pop alice STAT QUIT
	[[ $output != *messages* ]]
	log_has 'fatal .*error="(setgroups|setresgid|setresuid|cannot)'
}

# bats test_tags=attack:9-21
@test "kpopd refuses tickets while the clock is thirty years off, and sessions continue" {
	years=$((30 * 365 * 86400))
	preloaded
	for years in $years -$years; do
		log_mark
		mbox one two | store alice
		says 0 0 0
		pop_login alice
		pop_ask "DELE 1"
		says "$years" 0 0
		run pop alice QUIT
		[[ $output != *messages* ]]
		log_has 'refused .*reason="Kerberos" error='
		pop_ask QUIT '^\+OK bye, 1 messages left'
		pop_hear_end
		pop_close
		spool_is alice two
		says 0 0 0
		[[ $(pop alice QUIT) == *"+OK bye, 1 messages left" ]]
	done
}

@test "kpopd --check ends within the time of a login although a file system, a name service or the user stops it" {
	local check
	nss_start
	check="$KPOPD_BUILD/kpopd-check --check -t 3 -d $state"
	fuse_over /home/alice
	fuse_sleep
	run timeout -s KILL 60 $check alice
	[ "$status" -eq 1 ]
	grep -q '^FAIL  user alice: a file of this user, ' <<<"$output"
	fuse_end
	nss_knows "slow 3600 found 7001 /home/slow"
	run timeout -s KILL 60 $check slow
	[ "$status" -eq 1 ]
	[[ ${lines[-1]} == "FAIL  account: the account database does not answer within the time of a login (-t)" ]]
	# Only the child, as the user, waits for this name service.
	nss_knows "slow 3600 for-root 7001 /home/slow"
	$check -t 600 slow >"$WORLD/checked" 3>&- &
	await 5 "pgrep -u 7001 -x kpopd-check"
	await 5 'setpriv --reuid 7001 --clear-groups pkill -STOP -u 7001 -x kpopd-check; grep -q "this user has stopped" "$WORLD/checked"'
	# The child that looks at the mailbox waits, too.
	await 10 "setpriv --reuid 7001 --clear-groups pkill -STOP -u 7001 -x kpopd-check; ! kill -0 $! 2>/dev/null"
	wait $! || [ $? -eq 1 ]
}

@test "kpopd --check ends although a file system that it reads as root, or the database of kpopd's account, never answers" {
	local check="timeout -s KILL 100 $KPOPD_BUILD/kpopd-check --check -t 3"
	local out=$WORLD/checked pids=() pid
	nss_start
	nss_knows "slow 3600 found 7001 /home/slow"
	mkdir -p /srv/dead/{state,spool}
	cp "$WORLD/server.keytab" /etc/krb5.conf /srv/dead
	fuse_over /srv/dead
	fuse_sleep
	$check -d "$state" -u slow >"$out.account" 3>&- &
	pids+=($!)
	$check -d /srv/dead/state alice >"$out.state" 3>&- &
	pids+=($!)
	(trap '' ALRM && exec $check -d "$state" -k /srv/dead/server.keytab) \
	    >"$out.keytab" 3>&- &
	pids+=($!)
	KRB5_CONFIG=/srv/dead/krb5.conf $check -d "$state" alice \
	    >"$out.krb5" 3>&- &
	pids+=($!)
	$check -d "$state" -m mbox:/srv/dead/spool/%u alice \
	    >"$out.spool" 3>&- &
	pids+=($!)
	for pid in "${pids[@]}"; do
		wait "$pid" || [ $? -eq 1 ]
	done
	grep -q '^FAIL  account: the account database did not answer' \
	    "$out.account"
	grep -q '^FAIL  state /srv/dead/state: its file system did not ans' \
	    "$out.state"
	grep -q '^FAIL  keytab /srv/dead/server.keytab: its check did not e' \
	    "$out.keytab"
	grep -q '^FAIL  krb5.conf /srv/dead/krb5.conf: its file system did n' \
	    "$out.krb5"
	grep -q '^FAIL  spool /srv/dead/spool/alice: the file system of the' \
	    "$out.spool"
	# The parts that do not need it have checked.
	for name in account state keytab krb5 spool; do
		grep -Eq '^[a-zFAIL]+ +locks ' "$out.$name"
	done
}
