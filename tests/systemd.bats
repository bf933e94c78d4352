#!/usr/bin/env bats
# Checks that kpopd works under a real systemd with the installed units, and
# that the units confine it.

load helpers/all
load helpers/boot

# The lines of kpopd.conf for TLS.
tls=("tls-certificate /etc/kpopd/server.pem" "tls-key /etc/kpopd/server.key")

setup_file() {
	boot_obstacle
	export why
	[ -z "$why" ] || return 0
	boot_make
	tls_make
	for file in ca.pem server.pem server.key; do
		install -m 600 "$WORLD/tls/$file" "$root/etc/kpopd/$file"
	done
	boot_start
	inside systemctl enable -q kpopd.socket
	export root booter group
}

teardown_file() {
	[ -z "${booter-}" ] || boot_stop
}

setup() {
	[ -z "$why" ] || skip "$why"
	realm_login alice
	find "$root/var/mail" -mindepth 1 -delete
	started=$(inside date +%s)
}

teardown() {
	[ -z "$why" ] || return 0
	pop_close 2>/dev/null || true
	journal | tail -n 20
	[ -z "${booted_again-}" ] || boot_stop
}

# journal: prints what kpopd and systemd itself have logged since the beginning
# of the test. journald may not find the unit of a process that ends at once.
journal() {
	inside journalctl -b --no-pager -q -o cat --since "@$started" \
	    SYSLOG_IDENTIFIER=kpopd + SYSLOG_IDENTIFIER=kpopd-tls + _PID=1 ||
	    true
}

# journal_has PATTERN: waits up to five seconds for a line of kpopd that matches
# the pattern (extended).
journal_has() {
	await 5 "journal | grep -Eq -- '$1'"
}

# stop_all: stops every unit of kpopd.
stop_all() {
	inside systemctl stop 'kpopd*.socket' 'kpopd*.service'
	await 5 '! ss -Hltn "( sport = 1109 or sport = 110 or sport = 995 )" |
	    grep -q .'
}

# serve SOCKET [LINE ...]: starts this socket unit, with these lines in
# kpopd.conf. A drop-in for each service contains the lines in $unit_lines.
serve() {
	local socket=$1 place=$root/etc/systemd/system directory
	shift
	stop_all
	rm -rf "$root/etc/kpopd.conf" "$place"/kpopd*
	if [ $# -gt 0 ]; then
		printf '%s\n' "$@" >"$root/etc/kpopd.conf"
	fi
	if [ -n "${unit_lines-}" ]; then
		for directory in kpopd.service.d kpopd-.service.d; do
			mkdir "$place/$directory"
			printf '[Service]\n%s\n' "$unit_lines" \
			    >"$place/$directory/test.conf"
		done
	fi
	inside systemctl daemon-reload
	forget_starts
	inside systemctl start "$socket"
}

# forget_starts: lets the recovery be started again. Its unit permits three
# starts in half an hour, and newer versions of systemd count those before a
# daemon-reload, too.
forget_starts() {
	inside systemctl reset-failed kpopd-recover.service 2>/dev/null || :
}

# fill_spool NAME …: writes these messages to alice's spool in the container.
fill_spool() {
	mbox "$@" >"$root/var/mail/alice"
	chown alice:mail "$root/var/mail/alice"
	chmod 660 "$root/var/mail/alice"
}

# main_pid: prints the pid of the listener in the container, or 0.
main_pid() {
	inside systemctl show -P MainPID kpopd.service
}

@test "systemd-analyze verifies the units, and finds an exposure of at most 2.0 for each service" {
	local units service
	units=$(cd "$top/systemd" &&
	    ls kpopd* | sed -e 's/\.in$//' -e 's/reopen@/&kpopd.socket/' \
		-e 's/pause@/&kpopd.service/')
	run inside systemd-analyze verify $units
	[[ $status -eq 0 && -z $output ]] || { echo "$output"; return 1; }
	for service in $(grep '\.service$' <<<"$units"); do
		inside systemd-analyze security --no-pager --threshold=20 \
		    "$service"
	done
	inside systemd-analyze security --no-pager --threshold=19 \
	    kpopd-recover.service
}

@test "systemd-sysusers makes the users of kpopd, and systemd-tmpfiles its state directory" {
	local file
	for file in passwd group shadow; do
		cp "$root/etc/$file" "$WORLD/machine.$file"
		sed -i '/^kpopd/d' "$root/etc/$file"
	done
	rm -rf "$root/var/lib/kpopd"
	inside systemd-sysusers kpopd.conf
	inside systemd-tmpfiles --create kpopd.conf
	for file in kpopd kpopd-tls; do
		run inside getent passwd "$file"
		[[ $output == "$file:"*:/nonexistent:*/nologin ]]
	done
	[ "$(stat -c '%U:%G %a' "$root/var/lib/kpopd")" = "root:root 755" ]
	for file in passwd group shadow; do
		cp "$WORLD/machine.$file" "$root/etc/$file"
	done
}

@test "kpopd under systemd serves kpopc and fetchmail from the spool, and removes messages under its locks" {
	serve kpopd.socket
	fill_spool one two three
	run pop alice STAT "DELE 1" QUIT
	[[ $output == *"+OK 3 "*"+OK bye, 2 messages left"* ]]
	cmp "$root/var/mail/alice" <(mbox two three)
	[ "$(ls "$root/var/mail")" = alice ]
	cat >"$WORLD/fetchmailrc" <<-END
	poll mail.kpopd.test proto KPOP auth kerberos_v5
		user alice sslproto "" mda "cat >>$WORLD/fetched"
	END
	chmod 600 "$WORLD/fetchmailrc"
	rm -f "$WORLD/fetched"
	fetchmail --nosyslog -f "$WORLD/fetchmailrc"
	grep -q three "$WORLD/fetched"
	[ ! -s "$root/var/mail/alice" ]
	journal_has '^login peer=[^ ]+ user=alice principal=alice@KPOPD\.TEST .*layer=none .*by=localname rights=full$'
	journal_has '^logout peer=[^ ]+ reason=quit .*deleted=2 left=0 '
	# In the unit's confinement, no lock and no sandbox has failed.
	journal | refute grep -E '^(failed|sandbox|fatal)'
	# kpopd runs in the container's network, so the unit has really served.
	[ "$(inside readlink "/proc/$(main_pid)/ns/net")" != \
	    "$(readlink /proc/self/ns/net)" ]
	[ "$(inside sed -n 's/^NoNewPrivs:\t//p' "/proc/$(main_pid)/status")" \
	    = 1 ]
}

@test "kpopd under systemd serves a Maildir in the home directory, and reads .k5login there" {
	unit_lines=$'ProtectHome=no\nReadWritePaths=/home' \
	    serve kpopd.socket "mailboxes maildir:~/Maildir"
	inside systemd-analyze security --no-pager --threshold=21 kpopd.service
	mkdir -p "$root"/home/alice/Maildir/{new,cur,tmp}
	make_message one >"$root/home/alice/Maildir/new/1000.1.mail"
	make_message two >"$root/home/alice/Maildir/new/1001.2.mail"
	chown -R alice:alice "$root/home/alice/Maildir"
	echo bob@KPOPD.TEST >"$root/home/alice/.k5login"
	chown alice:alice "$root/home/alice/.k5login"
	run pop alice STAT QUIT
	[[ $output == *"-ERR [AUTH]"* ]]
	realm_login bob
	run pop alice STAT "DELE 1" QUIT
	rm "$root/home/alice/.k5login"
	[[ $output == *"+OK 2 "*"+OK bye, 1 messages left"* ]]
	[ "$(ls "$root/home/alice/Maildir/new")" = 1001.2.mail ]
	journal_has \
	    '^login .*user=alice principal=bob@KPOPD\.TEST .*by=k5login rights=full$'
}

# session_by KPOPC-ARGUMENT …: runs a session of alice through kpopc with these
# arguments. Returns true if one message is left.
session_by() {
	printf '%s\r\n' "USER alice" "PASS x" QUIT | kpopc "$@" |
	    grep '^+OK bye, 1 messages left'
}

@test "kpopd under systemd serves by TLS, and with -p in a layer of GSSAPI" {
	serve kpopd.socket "${tls[@]}"
	fill_spool one
	session_by --tls -C "$WORLD/tls/ca.pem" mail.kpopd.test
	journal_has '^tls peer=[^ ]+ version=TLSv1.3'
	serve kpopd-pop3.socket
	session_by -p mail.kpopd.test 110
	journal_has '^login .*layer=confidentiality'
}

@test "a reload of the service takes over changed options; sessions and the socket stay" {
	serve kpopd.socket
	fill_spool one
	pop_open
	pop_hear '^\+OK'
	pop_ask "USER alice"
	pop_ask "PASS x" '^\+OK 1 messages'
	first=$(main_pid)
	realm_login bob
	echo "realms NOWHERE.TEST" >"$root/etc/kpopd.conf"
	chmod 644 "$root/etc/kpopd.conf"
	inside systemctl reload kpopd.service
	await 5 '[ "$(main_pid)" != "$first" ]'
	run pop bob QUIT
	rm "$root/etc/kpopd.conf"
	[[ $output == *"-ERR [AUTH]"* ]]
	inside systemctl reload kpopd.service
	await 5 '! inside systemctl is-active -q kpopd.service'
	run pop bob QUIT
	[[ $output == *"+OK bye"* ]]
	pop_ask STAT '^\+OK 1 '
	pop_ask QUIT '^\+OK bye'
	pop_hear_end
	inside systemctl is-active -q kpopd.socket
}

@test "kpopd under a SystemCallFilter= without Landlock serves no client and logs the remedy; with the named calls, or with -S optional, it serves" {
	local calls named filter
	calls=$'SystemCallFilter=\nSystemCallFilter=@system-service chroot'
	named='landlock_create_ruleset landlock_add_rule landlock_restrict_self'
	# systemd 252 does not have these calls in @system-service, 257 has.
	filter="$calls"$'\n'"SystemCallFilter=~$named"
	unit_lines=$filter serve kpopd.socket "sandbox required"
	fill_spool one two
	run pop alice STAT QUIT
	[[ $output != *"+OK 2 "* ]]
	# systemd permits prctl, which is enough for seccomp.
	journal_has "^fatal .*no Landlock \\(Operation not permitted\\)\\..*calls $named, in SystemCallFilter=.*-S optional"
	unit_lines="$calls $named" serve kpopd.socket "sandbox required"
	run pop alice STAT QUIT
	[[ $output == *"+OK 2 "* ]]
	unit_lines=$filter serve kpopd.socket "sandbox optional"
	run pop alice STAT QUIT
	[[ $output == *"+OK 2 "* ]]
	# The recovery logs it, and the listener; no session does.
	run pop alice STAT QUIT
	[[ $output == *"+OK 2 "* ]]
	await 5 '[ "$(journal | grep -c "^logout .*left=2")" -eq 3 ]'
	[ "$(journal | grep -c '^sandbox .*no Landlock')" -eq 2 ]
}

@test "a reload of the service keeps the listener, and a restart keeps its sessions" {
	serve kpopd.socket
	fill_spool one two
	pop_begin alice
	first=$(main_pid)
	inside systemctl reload kpopd.service
	[ "$(main_pid)" = "$first" ]
	realm_login bob
	run pop bob QUIT
	[[ $output == *"+OK bye"* ]]
	[ "$(main_pid)" = "$first" ]
	inside systemctl restart kpopd.service
	run pop bob QUIT
	[[ $output == *"+OK bye"* ]]
	[ "$(main_pid)" != "$first" ]
	pop_ask "DELE 1"
	pop_ask QUIT '^\+OK bye, 1 '
	pop_hear_end
	cmp "$root/var/mail/alice" <(mbox two)
	inside systemctl is-active -q kpopd.socket kpopd.service
}

# fetch_by POLL [OPTION]: lets fetchmail fetch alice's mail in TLS, by this
# protocol, into $WORLD/fetched.
fetch_by() {
	cat >"$WORLD/fetchmailrc" <<-END
	poll mail.kpopd.test $1 user alice ${2-}
		sslcertck sslcertfile "$WORLD/tls/ca.pem"
		mda "cat >>$WORLD/fetched"
	END
	chmod 600 "$WORLD/fetchmailrc"
	rm -f "$WORLD/fetched"
	fetchmail --nosyslog -f "$WORLD/fetchmailrc"
}

# units_log PATTERN: waits up to five seconds for a line that matches the
# pattern (extended): date, host, unit of the process, pid and text.
units_log() {
	await 5 "inside journalctl -b -q --no-pager -o with-unit \
	    --since '@$started' -t kpopd | grep -Eq -- '$1'"
}

@test "fetchmail fetches mail in TLS through each socket, by the service of that socket" {
	local name service poll option n=0
	local quit='^logout .*reason=quit .*deleted=2 left=0 '
	while IFS='|' read -r name service poll option; do
		serve "kpopd$name.socket" "${tls[@]}"
		fill_spool one two
		fetch_by "$poll" "$option" </dev/null
		grep -q '^Subject: two' "$WORLD/fetched"
		[ ! -s "$root/var/mail/alice" ]
		units_log " $service\\[[0-9]+\\]: login .*layer=tls "
		n=$((n + 1))
		await 5 "[ \$(journal | grep -Ec '$quit') -eq $n ]"
		journal | refute grep -E '^(failed|sandbox|fatal)'
	done <<-'END'
	|kpopd\.service|proto KPOP auth kerberos_v5|
	-each|kpopd-each@[^ ]+\.service|proto KPOP auth kerberos_v5|
	-pop3|kpopd-pop3\.service|proto POP3 auth gssapi|
	-pop3s|kpopd-pop3s\.service|proto POP3 port 995 auth gssapi|ssl
	END
	# A connection that has ended leaves no unit.
	await 5 '! inside systemctl list-units -q --all "kpopd-each@*" |
	    grep -q .'
}

@test "three sockets serve at once, and kpopd-each.socket replaces kpopd.socket" {
	serve kpopd.socket "${tls[@]}"
	inside systemctl start kpopd-pop3.socket kpopd-pop3s.socket
	fill_spool one
	session_by --tls -C "$WORLD/tls/ca.pem" mail.kpopd.test
	session_by -p mail.kpopd.test 110
	fetch_by "proto POP3 port 995 auth gssapi" "ssl keep"
	grep -q '^Subject: one' "$WORLD/fetched"
	inside systemctl start kpopd-each.socket
	session_by --tls -C "$WORLD/tls/ca.pem" mail.kpopd.test
	units_log ' kpopd-each@[^ ]+\[[0-9]+\]: login '
	refute inside systemctl is-active -q kpopd.socket
}

# keeper_pid: prints the pid of kpopd-tls.service in the container, or 0.
keeper_pid() {
	inside systemctl show -P MainPID kpopd-tls.service
}

# children_of PID: prints how many processes the kept kpopd-tls with this pid in
# the container has: the spare process, and one for each connection.
children_of() {
	inside pgrep -c -x kpopd-tls -P "$1" || true
}

# tls_is_kept: returns true if kpopd-tls.service has only its spare process.
# Then it takes requests.
tls_is_kept() {
	[ "$(children_of "$(keeper_pid)")" = 1 ]
}

# tls_open: opens a session with TLS.
tls_open() {
	pop_open --tls -C "$WORLD/tls/ca.pem"
	pop_hear '^\+OK'
	pop_ask "USER alice"
	pop_ask "PASS x" '^\+OK 2 messages'
}

# tls_open_kept PID: opens a session with TLS that the kept kpopd-tls with this
# pid in the container serves. On a busy machine its answer to the monitor may
# come too late, so tries five times.
tls_open_kept() {
	local try
	for try in {1..5}; do
		tls_open
		! await 5 "[ \"\$(children_of $1)\" = 2 ]" || return 0
		pop_ask QUIT
		pop_close
	done
	return 1
}

# tls_is_good: returns true if the journal has no failure but an answer of the
# kept kpopd-tls that came too late.
tls_is_good() {
	journal | grep -v 'what="asking the kept kpopd-tls"' |
	    refute grep -E '^(failed|sandbox|fatal)'
}

@test "kpopd-tls.service does TLS for kpopd-each.socket, its end leaves the sessions, and it starts again after a new certificate" {
	serve kpopd-each.socket "${tls[@]}"
	inside systemctl start kpopd-tls.service
	fill_spool one two
	await 20 tls_is_kept
	tls_open_kept "$(keeper_pid)"
	inside systemctl stop kpopd-tls.service
	pop_ask STAT '^\+OK 2 '
	pop_ask QUIT
	pop_close
	# Now the monitor starts a kpopd-tls.
	tls_open
	pop_ask QUIT
	pop_close
	inside systemctl start kpopd-tls.service
	await 20 tls_is_kept
	first=$(keeper_pid)
	touch "$root/etc/kpopd/server.pem"
	# This client is served although the kept kpopd-tls ends.
	tls_open
	journal_has '^kept .*reason="the certificate, the key or the program '
	pop_ask QUIT
	pop_close
	await 20 '[ "$(keeper_pid)" != "$first" ] && tls_is_kept'
	tls_open_kept "$(keeper_pid)"
	pop_ask QUIT
	tls_is_good
}

@test "kpopd.service keeps a kpopd-tls of its own, which does TLS for its connections" {
	local own=
	serve kpopd.socket "${tls[@]}"
	fill_spool one two
	# The first connection starts the listener.
	tls_open
	pop_ask QUIT
	pop_close
	await 20 'own=$(inside pgrep -x kpopd-tls -P "$(main_pid)") &&
	    [ "$(children_of "$own")" = 1 ]'
	tls_open_kept "$own"
	pop_ask QUIT
	tls_is_good
}

# failed_starts: prints a line for each attempt of kpopd-tls to read the
# certificate that failed in this test, with the time in seconds first.
failed_starts() {
	inside journalctl -b --no-pager -q -o short-unix --since "@$started" \
	    SYSLOG_IDENTIFIER=kpopd-tls |
	    grep 'failed .*reading the certificate' || true
}

@test "kpopd-tls.service with a wrong certificate is started at most once in ten seconds" {
	serve kpopd-each.socket "tls-certificate /etc/passwd"
	inside systemctl start kpopd-tls.service
	await 30 '[ "$(failed_starts | wc -l)" -ge 2 ]'
	# The times of the first two attempts, in seconds.
	failed_starts | head -n 2 | awk '{ print }
	    NR == 2 { exit !($1 - first >= 9) } { first = $1 }'
}

# crowd_in: opens 100 connections in less than a second. crowd_out closes them.
crowd_in() {
	rm -f "$WORLD/crowd"
	mkfifo "$WORLD/crowd.in"
	perl "$BATS_TEST_DIRNAME/programs/flood.pl" 127.0.0.1 100 stay \
	    <"$WORLD/crowd.in" >"$WORLD/crowd" 3>&- &
	crowd_pid=$!
	exec {crowd}>"$WORLD/crowd.in"
	rm "$WORLD/crowd.in"
	await 5 'grep -q ready "$WORLD/crowd"'
}

crowd_out() {
	exec {crowd}>&-
	wait "$crowd_pid"
}

# write_drop_in UNIT LINE ...: writes these lines for the unit.
write_drop_in() {
	local directory=$root/etc/systemd/system/$1.d
	mkdir -p "$directory"
	printf '%s\n' "${@:2}" >"$directory/obstacle.conf"
}

# drop_in UNIT LINE ...: adds these lines to the unit.
drop_in() {
	write_drop_in "$@"
	inside systemctl daemon-reload
}

# drop_out UNIT: removes these lines.
drop_out() {
	rm "$root/etc/systemd/system/$1.d/obstacle.conf"
	inside systemctl daemon-reload
}

# obstruct OBSTACLE, mend OBSTACLE: let no listener start, or let it again.
obstruct() {
	local library=$root/usr/lib/$(gcc -print-multiarch)/libcom_err.so.2
	case $1 in
	options) echo unknown >"$root/etc/kpopd.conf" ;;
	account) sed -i.whole '/^kpopd:/d' "$root/etc/passwd" ;;
	krb5.conf)
		cp "$root/etc/krb5.conf" "$root/etc/krb5.conf.whole"
		: >"$root/etc/krb5.conf"
		;;
	read-only)
		inside mount -t tmpfs -o mode=755 tmpfs /var/lib/kpopd
		inside mount -o remount,ro /var/lib/kpopd
		;;
	execute) chmod a-x "$root/usr/sbin/kpopd" ;;
	missing) mv "$root/usr/sbin/kpopd" "$root/usr/sbin/kpopd.away" ;;
	library) mv "$library" "$library.away" ;;
	namespace)
		drop_in kpopd.service "[Service]" ReadWritePaths=/nonexistent
		;;
	credential)
		drop_in kpopd.service "[Service]" \
		    LoadCredential=keytab:/nonexistent
		;;
	mount)
		mkdir -p "$root/srv/far"
		drop_in kpopd-mounts.target "[Unit]" RequiresMountsFor=/srv/far
		printf '[Mount]\nWhat=/nonexistent\nWhere=/srv/far\n' \
		    >"$root/etc/systemd/system/srv-far.mount"
		inside systemctl daemon-reload
		;;
	esac
}

mend() {
	local library=$root/usr/lib/$(gcc -print-multiarch)/libcom_err.so.2
	case $1 in
	options) rm "$root/etc/kpopd.conf" ;;
	account) mv "$root/etc/passwd.whole" "$root/etc/passwd" ;;
	krb5.conf) mv "$root/etc/krb5.conf.whole" "$root/etc/krb5.conf" ;;
	read-only) inside mount -o remount,rw /var/lib/kpopd ;;
	execute) chmod a+x "$root/usr/sbin/kpopd" ;;
	missing) mv "$root/usr/sbin/kpopd.away" "$root/usr/sbin/kpopd" ;;
	library) mv "$library.away" "$library" ;;
	namespace | credential) drop_out kpopd.service ;;
	mount)
		rm "$root/etc/systemd/system/srv-far.mount"
		drop_out kpopd-mounts.target
		;;
	esac
}

# serves_bob: returns true if bob can log in.
serves_bob() {
	realm_login bob
	run pop bob QUIT
	[[ $output == *"+OK bye"* ]]
}

# has_stayed_open: returns true if systemd has closed no socket since the test
# began.
has_stayed_open() {
	journal | refute grep '^kpopd.*\.socket: Failed with'
}

# failures: prints how often kpopd.service has failed since the test began.
failures() {
	journal | grep -c '^kpopd\.service: Failed with'
}

# outlasts NUMBER OBSTACLE: lets 100 connections come while no listener can
# start, and waits for this number of attempts. Returns true if the socket has
# outlived them all, if there were two seconds between them, and if the socket
# serves when the obstacle is gone.
outlasts() {
	local number=$1 obstacle=$2 result=0 begun
	started=$(inside date +%s)
	serve kpopd.socket
	obstruct "$obstacle"
	begun=${EPOCHREALTIME/./}
	crowd_in
	await 30 "[ \$(failures) -ge $number ]" || result=1
	[ $((${EPOCHREALTIME/./} - begun)) -ge $((2000000 * (number - 1))) ] ||
	    result=1
	inside systemctl is-active -q kpopd.socket || result=1
	has_stayed_open || result=1
	mend "$obstacle"
	crowd_out
	await 20 serves_bob || result=1
	[ "$obstacle" != read-only ] || {
		stop_all
		inside umount /var/lib/kpopd
	}
	[ $result = 0 ] || { echo "$obstacle"; journal | tail -n 40; return 1; }
}

@test "kpopd.socket outlasts 100 connections while systemd cannot start kpopd: not executable, missing, without a library" {
	outlasts 3 execute
	outlasts 3 missing
	outlasts 3 library
}

@test "kpopd.socket outlasts 100 connections while a unit is broken: no such path, no such credential, no mount" {
	outlasts 3 namespace
	outlasts 3 credential
	outlasts 3 mount
}

@test "kpopd.socket outlasts 100 connections while kpopd is unable: options, account, krb5.conf" {
	outlasts 1 options
	outlasts 1 account
	outlasts 1 krb5.conf
}

@test "a listener that began while the state directory was read-only does not keep it so" {
	outlasts 1 read-only
}

@test "kpopd.socket outlasts listeners that are restarted and killed, and so do the sessions" {
	local n killed
	serve kpopd.socket
	fill_spool one two
	pop_begin alice
	# systemd's limit is five starts in ten seconds, if there is one.
	for n in 1 2 3 4 5 6 7 8; do
		inside systemctl restart kpopd.service
	done
	for n in 1 2 3; do
		serves_bob
		killed=$(main_pid)
		inside kill -KILL "$killed"
		crowd_in
		await 10 "[[ \$(main_pid) != @(0|$killed) ]]"
		crowd_out
	done
	serves_bob
	has_stayed_open
	pop_ask "DELE 1"
	pop_ask QUIT '^\+OK bye, 1 '
	pop_hear_end
}

@test "kpopd-each.socket outlasts 500 connections at once, and a kpopd that cannot start" {
	local n
	serve kpopd-each.socket
	# systemd's limit is 200 in two seconds, if there is one.
	for n in 1 2 3 4 5; do
		perl "$BATS_TEST_DIRNAME/programs/flood.pl" 127.0.0.1 100 close
	done
	await 20 serves_bob
	has_stayed_open
	obstruct missing
	crowd_in
	crowd_out
	await 5 "journal | grep -q 'status=203/EXEC'"
	mend missing
	await 20 serves_bob
	# Neither leaves failed units.
	await 10 '! inside systemctl list-units -q --all "kpopd-each@*" |
	    grep -q .'
}

@test "an upgraded kpopd serves the next connection, and the open session goes on" {
	local first
	serve kpopd.socket
	fill_spool one two
	pop_begin alice
	first=$(main_pid)
	# As dpkg does it.
	cp "$root/usr/sbin/kpopd" "$root/usr/sbin/kpopd.dpkg-new"
	mv "$root/usr/sbin/kpopd.dpkg-new" "$root/usr/sbin/kpopd"
	await 10 "serves_bob && [ \"\$(main_pid)\" != $first ]"
	journal_has '^listener .*reason="kpopd or a library was replaced"$'
	pop_ask "DELE 1"
	pop_ask QUIT '^\+OK bye, 1 '
	pop_hear_end
	cmp "$root/var/mail/alice" <(mbox two)
}

@test "the keytab and the key of TLS may be credentials, which kpopd finds without their files" {
	unit_lines='LoadCredential=keytab:/etc/krb5.keytab
LoadCredential=tls-key:/etc/kpopd/server.key
Environment=KRB5_KTNAME=%d/keytab
InaccessiblePaths=/etc/krb5.keytab /etc/kpopd/server.key' serve kpopd.socket \
	    "tls-certificate /etc/kpopd/server.pem" \
	    "tls-key /run/credentials/kpopd.service/tls-key"
	fill_spool one
	session_by --tls -C "$WORLD/tls/ca.pem" mail.kpopd.test
	journal_has '^login .*layer=tls '
	journal | refute grep -E '^(failed|sandbox|fatal)'
	# The files are really out of reach.
	unit_lines='InaccessiblePaths=/etc/krb5.keytab' serve kpopd.socket
	refute session_by mail.kpopd.test
	journal_has '^failed .*what="reading the keytab'
}

@test "a socket whose service cannot be loaded, or whose port is in use, is opened again" {
	local listener
	serve kpopd.socket
	# The mistake that "systemctl edit" invites.
	drop_in kpopd.service "[Service]" "ExecStart=/usr/sbin/kpopd -p"
	refute serves_bob
	refute inside systemctl is-active -q kpopd.socket
	await 20 "journal | grep -q 'not loaded, refusing'"
	drop_out kpopd.service
	await 20 'inside systemctl is-active -q kpopd.socket'
	serves_bob
	stop_all
	perl "$BATS_TEST_DIRNAME/programs/listen.pl" tcp:127.0.0.1 \
	    sleep infinity 3>&- &
	listener=$!
	await 5 'ss -Hltn sport = 1109 | grep -q .'
	refute inside systemctl start kpopd.socket
	kill "$listener"
	await 20 'inside systemctl is-active -q kpopd.socket'
	serves_bob
	# An administrator who stops it is obeyed.
	inside systemctl stop -q kpopd.service
	drop_in kpopd.service "[Service]" "ExecStart=/usr/sbin/kpopd -p"
	refute serves_bob
	inside systemctl stop kpopd.socket
	# A unit that is to open the socket is activating until it has done so.
	[ "$(inside systemctl is-active kpopd-reopen@kpopd.socket.service)" \
	    = inactive ]
	drop_out kpopd.service
}

# check_says PATTERN ...: runs kpopd --check in the container. Returns true if a
# line matches each pattern (extended) from its beginning. Sets $checked.
check_says() {
	local pattern
	checked=$(inside timeout 60 kpopd --check </dev/null) || :
	for pattern in "$@"; do
		grep -aEq -- "^$pattern" <<<"$checked" || {
			echo "no line matches: $pattern"
			grep -E '^[^ ]+ +(service|port|systemd)' <<<"$checked"
			return 1
		}
	done
}

# check_mends PATTERN: runs kpopd --check in the container, and the remedy of
# the line that matches the pattern. A remedy may only send a signal, so waits
# until a check has no such line.
check_mends() {
	local gone=$1
	check_says "$1"
	remedy=$(grep -aE -m 1 -- "^$1" <<<"$checked")
	remedy=${remedy#*. Remedy: }
	inside bash -c "$remedy" 3>&-
	await 1 'check_says "ok +sandbox" &&
	    refute grep -aE -- "^$gone" <<<"$checked"'
}

# is_content: returns true if the last check has nothing to say about the
# superservers but where kpopd listens.
is_content() {
	refute grep -aE '^(FAIL|warn) +(service|port|systemd|xinetd)' \
	    <<<"$checked"
}

@test "kpopd --check names a service that has not read the options that the file now has, and the remedy lets it read them" {
	local first
	serve kpopd.socket "keytab /etc/krb5.keytab"
	serves_bob
	check_says 'ok    port 1109: '
	is_content
	first=$(main_pid)
	echo "timeouts 40" >>"$root/etc/kpopd.conf"
	check_says "warn  service kpopd.service: the listener \\(pid $first\\) has not read /etc/kpopd.conf since timeouts was changed there\\. Remedy: systemctl reload kpopd.service\$"
	check_mends "warn  service kpopd.service: the listener"
	serves_bob
	[ "$(main_pid)" != "$first" ]
	check_says 'ok    port 1109: '
	is_content
	echo '[kpopd]' >>"$root/etc/krb5.conf"
	echo 'test = yes' >>"$root/etc/krb5.conf"
	check_mends "warn  service kpopd.service: the listener .* krb5.conf"
	is_content
	sed -i '/^\[kpopd/,$d' "$root/etc/krb5.conf"
	rm "$root/etc/kpopd.conf"
}

@test "the remedies of kpopd --check enable kpopd.socket, and of two sockets for one port they keep the active one" {
	local names='kpopd(-each)?.socket and kpopd(-each)?.socket'
	serve kpopd.socket
	inside systemctl enable -q kpopd.socket
	inside systemctl disable -q --now kpopd.socket
	check_mends 'FAIL  service kpopd.socket: no superserver starts kpopd for KPOP: it is disabled'
	check_says 'ok    port 1109: systemd .* listens, for kpopd.socket'
	is_content
	inside systemctl enable -q kpopd-each.socket
	check_says 'ok    port 1109: .* for kpopd.socket'
	refute grep 'the socket is enabled, but it is inactive' <<<"$checked"
	check_mends "FAIL  service kpopd-each.socket: $names both have port"
	is_content
	inside systemctl enable -q --now kpopd-each.socket
	check_says 'ok    port 1109: .* for kpopd-each.socket'
	check_mends "FAIL  service kpopd.socket: $names both have port"
	check_says 'ok    port 1109: .* for kpopd-each.socket'
	is_content
	# The administrator has chosen kpopd-each.socket.
	inside systemctl stop kpopd-each.socket
	check_mends 'FAIL  service kpopd-each.socket: the socket is enabled, but it is inactive'
	inside systemctl disable -q --now kpopd-each.socket
	inside systemctl mask -q kpopd.socket
	check_mends 'FAIL  service kpopd-each.socket: no superserver starts'
	inside systemctl unmask -q kpopd.socket
	inside systemctl disable -q --now kpopd-each.socket
	inside systemctl enable -q kpopd.socket
}

# recovery_has_ended: waits until systemd has given the recovery up, which it
# does after three attempts, or waits with the next attempt for long.
recovery_has_ended() {
	local state='inside systemctl is-active kpopd-recover.service'
	[ "$setting" = RestartSec=900 ] || await 9 "[ \"\$($state)\" = failed ]"
}

@test "kpopd --check names a recovery that has failed or waits for another attempt, and the remedy mends it" {
	local line='warn  service kpopd-recover.service: ' setting
	serve kpopd.socket
	check_says 'ok    port 1109: '
	is_content
	for setting in RestartSec=900 Restart=no RestartSec=100ms; do
		drop_in kpopd-recover.service "[Service]" "$setting"
		inside systemctl stop kpopd-recover.service
		forget_starts
		obstruct options
		refute inside systemctl start kpopd-recover.service
		recovery_has_ended
		check_says "$line.*\\((exit-code|start-limit-hit)\\),.*Remedy: "
		# The remedy shows the reason, if it does not mend.
		remedy=$(grep -aE -m 1 "^$line" <<<"$checked")
		run inside bash -c "${remedy#*. Remedy: }"
		[[ $output == *"unknown word: unknown"* ]]
		recovery_has_ended
		mend options
		check_mends "$line"
		inside systemctl is-active -q kpopd-recover.service
	done
	drop_out kpopd-recover.service
}

@test "the remedy of kpopd --check enables kpopd in xinetd's file, and restarts xinetd" {
	stop_all
	inside systemctl disable -q kpopd.socket
	inside systemctl mask -q kpopd.socket kpopd-each.socket
	inside systemctl start xinetd
	check_mends "FAIL  service /etc/xinetd.d/kpop: no superserver starts kpopd for KPOP: it contains disable = yes\\. Remedy: sed -i 's/.*/' /etc/xinetd.d/kpop && systemctl restart xinetd\$"
	check_says 'ok    port 1109: xinetd \(pid [0-9]+\) listens'
	check_mends 'warn  service kpopd-recover.service: it is disabled'
	inside systemctl disable -q kpopd-recover.service
	inside systemctl stop xinetd
	sed -i '/disable/s/no/yes/' "$root/etc/xinetd.d/kpop"
	inside systemctl unmask -q kpopd.socket kpopd-each.socket
	inside systemctl enable -q kpopd.socket
}

@test "kpopd --check names a unit that is disabled, masked, inactive, broken, or starts kpopd with other options" {
	serve kpopd.socket
	inside systemctl enable -q kpopd.socket
	check_says \
	    'ok    port 1109: systemd \(pid 1\) listens, for kpopd.socket'
	refute grep -E '^(FAIL|warn) +(service|port|systemd)' <<<"$checked"
	inside systemctl disable -q kpopd.socket
	check_says 'warn  service kpopd.socket: the socket is active, but it is disabled, .*Remedy: systemctl enable kpopd.socket' \
	    'ok    port 1109: systemd'
	inside systemctl stop kpopd.socket
	check_says 'FAIL  service kpopd.socket: no superserver starts kpopd for KPOP: it is disabled\. Remedy: systemctl enable --now kpopd.socket'
	inside systemctl mask -q kpopd-each.socket
	inside systemctl mask -q kpopd.socket
	check_says 'FAIL  service kpopd.*: it is masked\. Remedy: systemctl unmask kpopd'
	inside systemctl unmask -q kpopd.socket kpopd-each.socket
	inside systemctl enable -q kpopd.socket
	check_says 'FAIL  service kpopd.socket: the socket is enabled, but it is inactive\. Remedy: systemctl start kpopd.socket'
	drop_in kpopd.service "[Service]" "ExecStart=" \
	    "ExecStart=/usr/sbin/kpopd -r OTHER.TEST" \
	    Environment=KRB5_KTNAME=/etc/other
	check_says 'warn  service kpopd.socket: kpopd is started with realms OTHER.TEST, .*Remedy: kpopd --check -r OTHER.TEST' \
	    'warn  service kpopd.socket: kpopd is started with KRB5_KTNAME=/etc/other'
	drop_out kpopd.service
	drop_in kpopd.service "[Service]" "ExecStart=/usr/sbin/kpopd -p"
	check_says 'FAIL  service kpopd.service: systemd does not start the service: bad-setting\. Remedy: systemd-analyze verify kpopd.service'
	drop_out kpopd.service
}

@test "kpopd --check names a socket of systemd that has failed, the program that has its port, and two superservers for one port" {
	stop_all
	inside socat TCP-LISTEN:1109,reuseaddr,fork /dev/null 3>&- &
	await 5 'ss -Hltn sport = 1109 | grep -q .'
	refute inside systemctl start kpopd.socket
	check_says 'FAIL  service kpopd.socket: the socket has failed \(res' \
	    'FAIL  port 1109: the port is taken by socat1? \(pid [0-9]+, uid 0\)'
	inside pkill -x "socat1?"
	await 5 '! ss -Hltn sport = 1109 | grep -q .'
	inside systemctl stop kpopd.socket
	inside systemctl enable -q kpopd-each.socket kpopd.socket
	sed -i '/disable/s/yes/no/' "$root/etc/xinetd.d/kpop"
	check_says \
	    'FAIL  service .*: kpopd.*socket and kpopd.*socket both have port' \
	    'warn  service kpopd-recover.service: it is disabled' \
	    'FAIL  service .*: /etc/xinetd.d/kpop and kpopd.*socket both have'
	sed -i '/disable/s/no/yes/' "$root/etc/xinetd.d/kpop"
	inside systemctl disable -q kpopd-each.socket
}

# the_journal: prints the names of the journals of alice's mailbox.
the_journal() {
	(cd "$root" && ls var/lib/kpopd/users/*/*/j*) 2>/dev/null
}

@test "kpopd-recover.service tries again if it could not finish" {
	serve kpopd.socket
	drop_in kpopd-recover.service "[Service]" RestartSec=10
	inside systemctl stop kpopd-recover.service
	forget_starts
	obstruct options
	refute inside systemctl start kpopd-recover.service
	mend options
	await 60 'inside systemctl is-active -q kpopd-recover.service'
}

# of_alice COMMAND ...: runs the command in the container as alice, with her
# systemd.
of_alice() {
	inside runuser -u alice -- env "XDG_RUNTIME_DIR=/run/user/$alice" "$@"
}

@test "a user's systemd keeps the port of kpopc@HOST.socket, and starts kpopc for a program of that user only" {
	local alice unit=kpopc@mail.kpopd.test
	alice=$(id -u alice)
	serve kpopd.socket
	fill_spool one
	inside systemctl start dbus.socket "user@$alice.service"
	[ "$(of_alice systemctl --user is-enabled $unit.socket)" = disabled ]
	mkdir -p "$root/home/alice/.config/kpopc"
	printf '%s\n' 'OPTIONS="--cleartext"' \
	    'KRB5CCNAME=FILE:/home/alice/ccache' \
	    >"$root/home/alice/.config/kpopc/mail.kpopd.test"
	cp "$WORLD/ccache" "$root/home/alice/ccache"
	chown -R alice "$root/home/alice"
	of_alice systemctl --user enable --now $unit.socket
	local_pop alice fetch >"$WORLD/got"
	grep -q '^Subject: one' "$WORLD/got"
	run local_pop bob login
	[[ $output == *"only the user that runs kpopc"* ]]
	of_alice systemctl --user stop $unit.service $unit.socket
	[ "$(of_alice systemctl --user show -P Result $unit.service)" = \
	    success ]
	refute pgrep -x kpopc
	inside systemctl stop "user@$alice.service"
}

# The last test, because its machine ends with it.
@test "after a crash in a removal kpopd-recover.service finishes it before the mail service delivers" {
	local session tracer
	serve kpopd.socket
	fill_spool one two three
	pop_begin alice
	pop_ask "DELE 1"
	session=$(for pid in $(pgrep -x kpopd -u alice); do
		[ "$(readlink "/proc/$pid/fd/0")" = /dev/null ] || echo "$pid"
	done)
	# The removal is decided, and not finished.
	attach "$session" -o "$WORLD/trace" -e trace=ftruncate \
	    -e inject=ftruncate:delay_enter=600000000
	pop_say QUIT
	await 10 'the_journal | grep -q "/j\.cut$"'
	# All processes at once. The session ends only after strace.
	echo 1 >"$group/cgroup.kill"
	kill -KILL "$tracer"
	boot_stop
	pop_close
	the_journal
	refute cmp -s "$root/var/mail/alice" <(mbox two three)
	# The machine was off for longer than a dotlock of another one counts.
	touch -c -d "6 minutes ago" "$root/var/mail/alice.lock"
	# A mail service that records the journals that it finds. The recovery
	# is slow, so that a service that does not wait comes first.
	mbox four >"$root/etc/message"
	cat >"$root/etc/deliver" <<-'END'
	ls /var/lib/kpopd/users/*/*/j* >/etc/found
	procmail -d alice </etc/message
	END
	cat >"$root/etc/systemd/system/exim4.service" <<-'END'
	[Service]
	Type=oneshot
	RemainAfterExit=yes
	ExecStart=/bin/sh /etc/deliver
	END
	write_drop_in kpopd-recover.service "[Service]" \
	    "ExecStartPre=+/bin/sleep 2"
	mkdir -p "$root/etc/systemd/system"/{sockets,test}.target.wants
	ln -s ../exim4.service "$root/etc/systemd/system/test.target.wants/"
	ln -sf /lib/systemd/system/kpopd.socket \
	    "$root/etc/systemd/system/sockets.target.wants/"
	boot_obstacle
	booted_again=yes
	boot_start
	[ ! -s "$root/etc/found" ]
	inside systemctl is-active -q kpopd-recover.service exim4.service
	[ -z "$(the_journal)" ]
	grep -v '^From ' "$root/var/mail/alice" |
	    cmp - <(mbox two three four | grep -v '^From ')
	realm_login alice
	run pop alice STAT QUIT
	[[ $output == *"+OK 3 "* ]]
}
