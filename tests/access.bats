#!/usr/bin/env bats
# Checks the access file, kpopd.access(5): which principals it lets in or keeps
# out, and that a login with the right "read" removes nothing.

load helpers/all

box=/home/alice/Maildir

setup_file() {
	realm_add alice/cron
	realm_other_start
	tls_make
	server_start
}

setup() {
	begin_test
	mbox one two | store alice
}

teardown() {
	pop_close 2>/dev/null || true
	# A listener would outlive its sessions.
	[ -z "${listens-}" ] || server_stop
	rm -rf /etc/kpopd.access* /home/{alice,carol}/.k5login "$box"
	chage -E -1 alice
	end_test
}

refused="-ERR [AUTH] this ticket does not open that mailbox"
unavailable="-ERR [SYS/TEMP] the mailbox cannot be opened now"

# access_is [LINE ...]: writes /etc/kpopd.access.
access_is() {
	printf '%s\n' "$@" >"$WORLD/access.new"
	chmod 644 "$WORLD/access.new"
	mv "$WORLD/access.new" /etc/kpopd.access
}

# k5login_is [PRINCIPAL ...]: writes alice's .k5login.
k5login_is() {
	printf '%s\n' "$@" >/home/alice/.k5login
	chown alice: /home/alice/.k5login
}

# may NAME COMMAND ...: with a ticket of NAME, logs in as alice and sends these
# commands. Returns true if the client was let in.
may() {
	realm_login "$1"
	run pop alice "${@:2}"
	[[ $output == *"+OK 2 messages"* ]]
}

# may_not NAME [ANSWER]: returns true if the server refuses a login as alice
# with a ticket of NAME, by this answer.
may_not() {
	refute may "$1" QUIT || return
	[ "${lines[-1]}" = "${2-$refused}" ] || { echo "$output"; return 1; }
}

# denies NAME LINE WHY: as may_not, and the log names the line of the file and
# the cause.
denies() {
	log_mark
	may_not "$1"
	log_has "mail\.notice .*: refused .*reason=\"denied by the access file\" user=alice principal=[^ ]* error=\"/etc/kpopd\.access:$2: $3\"\$"
}

@test "a principal that the access file names logs in without .k5login, and the login line has its rights" {
	may_not alice/cron
	access_is '# who may fetch' '' 'alice/cron@KPOPD.TEST alice read' \
	    $'bob@KPOPD.TEST\t alice\t full  '
	may alice/cron QUIT
	log_has 'login .*user=alice principal=alice/cron@KPOPD\.TEST .*by=access rights=read$'
	may bob "DELE 1" QUIT
	log_has 'login .*user=alice principal=bob@KPOPD\.TEST .*by=access rights=full$'
	spool_is alice two
	mbox one two | store alice
	may alice QUIT
	log_has \
	    'login .*principal=alice@KPOPD\.TEST .*by=localname rights=full$'
	may_not carol
}

@test "the access file lets alice in although her .k5login names only alice/cron" {
	k5login_is alice/cron@KPOPD.TEST
	may alice/cron QUIT
	log_has \
	    'login .*principal=alice/cron@KPOPD\.TEST .*by=k5login rights=full$'
	may_not alice
	access_is 'alice@KPOPD.TEST alice full'
	may alice QUIT
	log_has 'login .*principal=alice@KPOPD\.TEST .*by=access rights=full$'
}

# reads_only: with the right read, alice/cron reads both messages and removes
# none, whatever it sends.
reads_only() {
	may alice/cron "DELE 1" "RETR 1" "TOP 2 0" LIST UIDL STAT NOOP \
	    "DELE 2" RSET "DELE 3" QUIT || { echo "$output"; return 1; }
	[ "$(grep -c '^-ERR \[SYS/PERM\] this login may only read$' \
	    <<<"$output")" -eq 2 ]
	[[ $output == *"one line 3"*"Subject: two"*"+OK 2 "* &&
	    $output == *"-ERR no such message"* &&
	    $output == *"+OK bye, 2 messages left" ]] ||
	    { echo "$output"; return 1; }
	log_has 'logout .*reason=quit retrieved=1 .*topped=1 deleted=0 left=2 '
}

@test "with the right read DELE is refused, QUIT removes nothing from an mbox, and all other commands work" {
	access_is 'alice/cron@KPOPD.TEST alice read'
	spool_keep
	reads_only
}

# fill_box: makes a Maildir of two messages.
fill_box() {
	mkdir -m 700 "$box" "$box/new" "$box/cur" "$box/tmp"
	make_message one >"$box/new/1700000001.M1P1.one"
	make_message two >"$box/cur/1700000002.M1P1.two:2,"
	chown -R alice: "$box"
}

@test "with the right read DELE is refused, and QUIT removes nothing from a Maildir" {
	server_stop
	server_start -m maildir+create:/home/%u/Maildir
	access_is 'alice/cron@KPOPD.TEST alice read'
	realm_login alice/cron
	run pop alice QUIT
	[[ $output == *"+OK 0 messages"* ]]
	[ ! -e "$box" ]
	fill_box
	find "$box" -type f -printf '%P %i %s %T@ %C@\n' >"$WORLD/before"
	reads_only
	find "$box" -type f -printf '%P %i %s %T@ %C@\n' |
	    diff "$WORLD/before" -
}

@test "a login with the right read finds an unfinished removal and is told to try again, and the broker finishes it" {
	realm_login alice
	break_off alice 1
	refute no_journal
	access_is 'alice/cron@KPOPD.TEST alice read'
	may_not alice/cron "$unavailable"
	log_has 'failed .*what="finishing an interrupted removal" error="this login may only read"'
	kpopd_ends 10
	no_journal
	spool_is alice two
	run pop alice QUIT
	[[ $output == *"+OK 1 messages"* ]] || { echo "$output"; return 1; }
}

# removes_as NAME RESULT: a session of NAME is compromised, and unlinks a file
# of the Maildir. Returns true if the system call returns RESULT.
removes_as() {
	realm_login "$1"
	pop_login alice
	captive "$(child_pid)" "unlinkat -100 $box/cur/1700000002.M1P1.two:2, 0"
	pop_close
	[ "${returned##*$'\n'}" = "$2" ] || { echo "$returned"; return 1; }
}

@test "a compromised session with the right read cannot remove a file of the Maildir" {
	[ -z "${SANITIZER-}" ] || skip "a build with sanitizers has no sandbox"
	server_stop
	server_start -m maildir:/home/%u/Maildir
	access_is 'alice/cron@KPOPD.TEST alice read' \
	    'bob@KPOPD.TEST alice full'
	fill_box
	removes_as alice/cron -13
	removes_as bob 0
}

@test "fetchmail with keep fetches by the right read, and without keep no mail is lost" {
	access_is 'alice/cron@KPOPD.TEST alice read'
	realm_login alice/cron
	spool_keep
	printf '#!/bin/sh\ncat >>%s/got\n' "$WORLD" >"$WORLD/mda"
	chmod 755 "$WORLD/mda"
	for keep in keep "no keep"; do
		rm -f "$WORLD/got"
		printf '%s\n' "poll mail.kpopd.test proto KPOP" \
		    "auth kerberos_v5 user alice $keep sslproto ''" \
		    "mda $WORLD/mda" >"$WORLD/fetchmailrc"
		chmod 600 "$WORLD/fetchmailrc"
		run timeout 20 fetchmail -a -v --nodetach --nosyslog \
		    -f "$WORLD/fetchmailrc" -i "$WORLD/ids" \
		    --pidfile "$WORLD/fetchmail.pid"
		grep -q '^Subject: one' "$WORLD/got" ||
		    { echo "$output"; return 1; }
		spool_untouched
	done
	[[ $output == *"[SYS/PERM] this login may only read"* ]]
	log_lacks ' logout .*deleted=[1-9]'
}

@test "a principal that the access file denies gets in by no other rule, and is answered like a stranger" {
	k5login_is alice@KPOPD.TEST bob@KPOPD.TEST
	access_is 'bob@KPOPD.TEST * deny' 'alice@KPOPD.TEST alice deny'
	denies bob 1 'the line denies the principal'
	denies alice 2 'the line denies the principal'
	may_not carol
	realm_login bob
	mbox one two | store bob
	run pop bob QUIT
	[ "${lines[-1]}" = "$refused" ]
	log_lacks ' login '
}

@test "the first line that names the principal and the user decides" {
	access_is 'alice/cron@KPOPD.TEST bob full' \
	    'alice/cron@KPOPD.TEST alice read' '*/cron@KPOPD.TEST * deny' \
	    'alice/cron@KPOPD.TEST alice full' '*@* * deny'
	may alice/cron QUIT
	log_has 'login .*principal=alice/cron@KPOPD\.TEST .*rights=read$'
	denies alice 5 'the line denies the principal'
	access_is '*/cron@KPOPD.TEST * deny' 'alice/cron@KPOPD.TEST alice full'
	denies alice/cron 1 'the line denies the principal'
}

@test "a * means one whole component or the realm, and nothing else" {
	access_is '*/*@KPOPD.TEST alice read' '*@OTHER.TEST alice read'
	may alice/cron QUIT
	may eve@OTHER.TEST QUIT
	log_has 'login .*principal=eve@OTHER\.TEST .*by=access rights=read$'
	may_not bob
	access_is '*@* alice read'
	may bob QUIT
	may eve@OTHER.TEST QUIT
	may_not alice/cron
}

@test "a principal that differs from a line only in upper and lower case has no right" {
	k5login_is Alice@KPOPD.TEST
	realm_add Alice
	may Alice QUIT
	access_is 'alice@KPOPD.TEST alice read'
	denies Alice 1 \
	    'the principal differs from the line in upper and lower case'
	access_is 'alice@KPOPD.TEST alice deny'
	denies Alice 1 'the line denies the principal'
}

@test "a line with from= holds only for clients of these networks, and a client of another gets in by no other rule" {
	access_is \
	    'alice@KPOPD.TEST alice full from=192.0.2.0/24,127.0.0.0/8,::1'
	may alice QUIT
	log_has 'login .*principal=alice@KPOPD\.TEST .*by=access rights=full$'
	access_is 'alice@KPOPD.TEST alice full from=192.0.2.0/24,2001:db8::/32'
	denies alice 1 'the address of the client is in no network of the line'
	access_is 'alice@KPOPD.TEST alice full from=192.0.2.0/24' \
	    'alice@KPOPD.TEST alice read from=::1,127.0.0.1'
	may alice QUIT
	log_has 'login .*principal=alice@KPOPD\.TEST .*by=access rights=read$'
}

# through_proxy HEADER: logs in with alice's ticket through a proxy that sends
# this header.
through_proxy() {
	await 5 '! ss -Hltn sport = 2110 | grep -q .'
	perl "$BATS_TEST_DIRNAME/programs/prefix-once.pl" 2110 "$1"$'\r\n' now \
	    3>&- &
	await 5 'ss -Hltn sport = 2110 | grep -q .'
	realm_login alice
	run kpopc -4p mail.kpopd.test 2110 \
	    < <(printf '%s\r\n' "USER alice" "PASS x" QUIT)
}

@test "from= means the client's address that a proxy names, and a proxy that names none has no address" {
	server_stop
	server_start -p -x 127.0.0.1
	access_is 'alice@KPOPD.TEST alice full from=192.0.2.7,2001:db8::7'
	for client in 'TCP4 192.0.2.7 192.0.2.1' 'TCP6 2001:db8::7 ::1'; do
		through_proxy "PROXY $client 4711 1109"
		[[ $output == *"+OK 2 messages"* ]] ||
		    { echo "$output"; return 1; }
	done
	log_count 2 ' login .*by=access rights=full$'
	through_proxy 'PROXY TCP4 192.0.2.8 192.0.2.1 4711 1109'
	[[ $output != *"+OK 2 messages"* ]]
	log_has 'refused peer=192\.0\.2\.8:4711 .*kpopd\.access:1: the address of the client is in no network of the line"'
	access_is 'alice@KPOPD.TEST alice full from=127.0.0.1,::1,local'
	through_proxy 'PROXY UNKNOWN'
	[[ $output != *"+OK 2 messages"* ]]
	log_has \
	    'refused .*kpopd\.access:1: the address of the client is not known"'
}

@test "tls requires TLS, and layer requires TLS or a layer of GSSAPI" {
	local no_tls='the connection has no TLS'
	server_stop
	server_start $(tls_options)
	realm_login alice
	access_is 'alice@KPOPD.TEST alice full tls'
	denies alice 1 "$no_tls"
	access_is 'alice@KPOPD.TEST alice full layer'
	denies alice 1 'the connection has neither TLS nor a layer of GSSAPI'
	for condition in tls layer; do
		access_is "alice@KPOPD.TEST alice full $condition"
		log_mark
		run kpopc --tls -C "$WORLD/tls/ca.pem" mail.kpopd.test \
		    < <(printf '%s\r\n' "USER alice" "PASS x" QUIT)
		[[ $output == *"+OK 2 messages"* ]] ||
		    { echo "$output"; return 1; }
		log_has 'login .*layer=tls by=access rights=full$'
	done
	server_stop
	server_start -p
	run kpopc -p mail.kpopd.test 1109 \
	    < <(printf '%s\r\n' "USER alice" "PASS x" QUIT)
	[[ $output == *"+OK 2 messages"* ]] || { echo "$output"; return 1; }
	log_has 'login .*layer=confidentiality by=access rights=full$'
	access_is 'alice@KPOPD.TEST alice full tls'
	run kpopc -p mail.kpopd.test 1109 \
	    < <(printf '%s\r\n' "USER alice" "PASS x" QUIT)
	[[ $output != *"+OK 2 messages"* ]]
	log_has "refused .*kpopd\\.access:1: $no_tls\""
}

@test "a realm that -r excludes and an expired account stay out although the access file names them" {
	access_is 'eve@OTHER.TEST alice full' 'alice@KPOPD.TEST alice full'
	may eve@OTHER.TEST QUIT
	server_stop
	server_start -r KPOPD.TEST
	may_not eve@OTHER.TEST
	log_has 'refused .*reason="the realm is not one of -r" .*principal=eve@OTHER\.TEST$'
	may alice QUIT
	chage -E 2020-01-01 alice
	may_not alice
	log_has 'refused .*reason="account expired" user=alice '
}

# spoilt LINE-NUMBER WHY: every login is refused with a request to try again,
# also that of an unknown user, and the log names the line.
spoilt() {
	log_mark
	may_not alice "$unavailable"
	log_has "mail\.err .*: refused .*reason=\"the access file cannot be used\" user=alice principal=alice@KPOPD\.TEST error=\"/etc/kpopd\.access$1: $2\"\$"
	realm_login alice
	run pop nobody-here QUIT
	[ "${lines[-1]}" = "$unavailable" ] || { echo "$output"; return 1; }
}

@test "while the access file has a mistake no client gets in, clients are asked to try again, and the log has the line" {
	access_is 'bob@KPOPD.TEST alice deny' 'alice@KPOPD.TEST alice full'
	may alice QUIT
	access_is 'alice@KPOPD.TEST alice full' 'bob@KPOPD.TEST alice'
	spoilt :2 'a line is PRINCIPAL USER RIGHT, with blanks between them'
	access_is 'alice@KPOPD.TEST alice full' '#' 'al* alice deny'
	spoilt :3 'a \* in the principal must be a whole component'
	access_is 'alice@KPOPD.TEST * full'
	spoilt :1 'the user \* is only for deny'
	: >/etc/kpopd.access
	spoilt '' 'it is empty; remove it, or write a comment into it'
	printf 'alice@KPOPD.TEST alice full' >/etc/kpopd.access
	spoilt :1 'the last line has no line feed; the file is incomplete'
	access_is 'alice@KPOPD.TEST alice full'
	chmod 664 /etc/kpopd.access
	spoilt '' 'others than root may write it \(see chmod 644\)'
	access_is 'alice@KPOPD.TEST alice full'
	chown alice /etc/kpopd.access
	spoilt '' 'it does not belong to root'
	rm /etc/kpopd.access
	ln -s /nonexistent /etc/kpopd.access
	spoilt '' 'No such file or directory'
	rm /etc/kpopd.access
	mkfifo /etc/kpopd.access
	spoilt '' 'it is not a regular file'
	rm /etc/kpopd.access
	may alice QUIT
	log_has 'login .*by=localname rights=full$'
}

# answered_after MS USER: while the monitor waits 200 ms for the access file, a
# login as this user is refused no earlier than after MS.
answered_after() {
	local begin
	pop_open
	pop_hear '^\+OK'
	pop_ask "USER $2"
	attach "$(monitor_pid)" -o /dev/null -P /etc/kpopd.access \
	    -e inject=pread64:delay_exit=200000
	begin=${EPOCHREALTIME/./}
	pop_ask "PASS x" '^-ERR \[AUTH\]'
	took=$(((${EPOCHREALTIME/./} - begin) / 1000))
	pop_close
	detached
	[ "$took" -ge "$1" ] || { echo "$2: $took ms"; return 1; }
}

@test "a refusal does not show whether the user exists although the access file takes long to read" {
	[ -z "${SANITIZER-}" ] || skip "ASan's own system calls are in the way"
	access_is 'alice@KPOPD.TEST * deny'
	touch -d '1 minute ago' /etc/kpopd.access
	realm_login alice
	answered_after 250 alice
	answered_after 250 nobody-of-that-name
}

@test "a change of the access file applies to the next login of a running listener, and the file of an option must exist" {
	local file=/etc/kpopd.access.2
	server_stop
	listens=yes
	listener_start --access "$file"
	may_not alice "$unavailable"
	log_has \
	    "mail\.err .*: refused .*error=\"$file: No such file or directory\""
	access_is 'alice@KPOPD.TEST alice read'
	mv /etc/kpopd.access "$file"
	may alice QUIT
	log_has 'login .*by=access rights=read$'
	access_is '*@* * deny'
	mv /etc/kpopd.access "$file"
	may_not alice
}

# access_storm files|logins COUNT: runs tests/programs/access-storm.py with
# $COUNT points, or COUNT of them. The seed is $SEED, or a new one in each run.
access_storm() {
	local count=${COUNT-$2} status=0
	KPOPD_BUILD=$KPOPD_BUILD timeout $((count + 200)) /usr/bin/python3 \
	    "$BATS_TEST_DIRNAME/programs/access-storm.py" "$1" \
	    "${SEED-$RANDOM}" "$count" >"$WORLD/points" 3>&- || status=$?
	cut -c1-2000 "$WORLD/points" >&3
	return $status
}

@test "random access files give random logins the rights that kpopd.access(5) describes" {
	local count=5000
	! long || count=1000000
	access_storm files $count
}

# bats test_tags=fault:21
@test "while the access file changes, each login has the right of a file that was there, and one with the right read removes nothing" {
	local name ticket count=60
	[ -z "${SANITIZER-}" ] || skip "the build without sanitizers tests this"
	! long || count=3000
	server_stop
	server_start $(tls_options)
	printf '%s\n' carol@KPOPD.TEST mallory@KPOPD.TEST >/home/carol/.k5login
	chown carol: /home/carol/.k5login
	# Another test may have made Alice.
	[ -e "$WORLD/keytabs/Alice.keytab" ] || realm_add Alice
	for name in alice bob carol mallory Alice alice/cron alice/admin \
	    eve@OTHER.TEST; do
		ticket=FILE:$WORLD/ticket.${name//\//.}
		KRB5CCNAME=$ticket realm_login "$name"
		[[ $name == *@* ]] || name+=@KPOPD.TEST
		echo "$name $ticket"
	done >"$WORLD/tickets"
	access_storm logins $count
}
