#!/usr/bin/env bats
# Checks that kpopd works under a real systemd with the installed units, and
# that the units confine it.

load helpers/all
load helpers/boot

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
}

# journal: prints what kpopd has logged since the beginning of the test.
journal() {
	inside journalctl -b --no-pager -q -o cat --since "@$started" -t kpopd \
	    -t kpopd-tls -u kpopd.service || true
}

# journal_has PATTERN: waits up to five seconds for a line of kpopd that matches
# the pattern (extended).
journal_has() {
	await 5 "journal | grep -Eq -- '$1'"
}

# serve [KPOPD-OPTION …]: starts the installed socket. A drop-in contains these
# options and the lines in $unit_lines.
serve() {
	inside systemctl stop kpopd.socket kpopd.service
	await 5 '! ss -Hltn sport = 1109 | grep -q .'
	mkdir -p "$root/etc/systemd/system/kpopd.service.d"
	printf '[Service]\nExecStart=\nExecStart=/usr/sbin/kpopd %s\n%s\n' \
	    "$*" "${unit_lines-}" \
	    >"$root/etc/systemd/system/kpopd.service.d/options.conf"
	[ $# -gt 0 ] || rm -r "$root/etc/systemd/system/kpopd.service.d"
	inside systemctl daemon-reload
	inside systemctl start kpopd.socket
}

# fill_spool NAME …: writes these messages to alice's spool in the container.
fill_spool() {
	mbox "$@" >"$root/var/mail/alice"
	chown alice:mail "$root/var/mail/alice"
	chmod 660 "$root/var/mail/alice"
}

# main_pid: prints the pid of the service's main process in the container.
main_pid() {
	inside systemctl show -P MainPID kpopd.service
}

@test "systemd-analyze verifies the units, and finds an exposure of at most 2.0 for the service" {
	inside systemd-analyze verify kpopd.service kpopd.socket
	inside systemd-analyze security --no-pager --threshold=20 kpopd.service
}

@test "kpopd under systemd serves kpopc and fetchmail from the spool, and removes messages under its locks" {
	serve
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
	journal_has '^login peer=[^ ]+ user=alice principal=alice@KPOPD\.TEST .*layer=none .*by=localname$'
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
	unit_lines=$'ProtectHome=no\nReadWritePaths=/home' serve \
	    -m maildir:~/Maildir
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
	    '^login .*user=alice principal=bob@KPOPD\.TEST .*by=k5login$'
}

# session_by KPOPC-ARGUMENT …: runs a session of alice through kpopc with these
# arguments. Returns true if one message is left.
session_by() {
	printf '%s\r\n' "USER alice" "PASS x" QUIT | kpopc "$@" |
	    grep '^+OK bye, 1 messages left'
}

@test "kpopd under systemd serves by TLS, and with -p in a layer of GSSAPI" {
	serve -c /etc/kpopd/server.pem -K /etc/kpopd/server.key
	fill_spool one
	session_by --tls -C "$WORLD/tls/ca.pem" mail.kpopd.test
	journal_has '^tls peer=[^ ]+ version=TLSv1.3'
	serve -p
	session_by -p mail.kpopd.test 1109
	journal_has '^login .*layer=confidentiality'
}

@test "a reload of the service takes over changed options; sessions and the socket stay" {
	serve
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

@test "kpopd under SystemCallFilter=@system-service serves no client and logs the remedy; with the named calls, or with -S optional, it serves" {
	filter=$'SystemCallFilter=\nSystemCallFilter=@system-service chroot'
	unit_lines=$filter serve -S required
	fill_spool one two
	run pop alice STAT QUIT
	[[ $output != *"+OK 2 "* ]]
	named='landlock_create_ruleset landlock_add_rule landlock_restrict_self'
	# systemd permits prctl, which is enough for seccomp.
	journal_has "^fatal .*no Landlock \\(Operation not permitted\\)\\..*calls $named, .*-S optional"
	unit_lines="$filter $named" serve -S required
	run pop alice STAT QUIT
	[[ $output == *"+OK 2 "* ]]
	unit_lines=$filter serve -S optional
	run pop alice STAT QUIT
	[[ $output == *"+OK 2 "* ]]
	journal_has '^sandbox .*no Landlock'
	[ "$(journal | grep -c '^sandbox')" = 1 ]
}

@test "a reload of the service keeps the listener, and a restart keeps its sessions" {
	serve
	fill_spool one two
	pop_open
	pop_hear '^\+OK'
	pop_ask "USER alice"
	pop_ask "PASS x"
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
