#!/usr/bin/env bats
# Checks USER and PASS: which principal opens which mailbox, and what kpopd
# logs.

load helpers/all

setup() { begin_test; }

teardown() {
	chmod 755 /home/alice
	rm -rf /home/*/.k5login
	end_test
}

refused="-ERR [AUTH] this ticket does not open that mailbox"

# session USER KPOPC-ARGUMENT ...: runs a session of USER through kpopc with
# these arguments.
session() {
	printf '%s\r\n' "USER $1" "PASS x" QUIT | kpopc "${@:2}"
}

# refuses USER: returns true if the server refuses a login as USER and then
# closes the connection.
refuses() {
	run pop "$1" STAT QUIT
	[ "${lines[3]-}" = "$refused" ] || [ "${lines[2]-}" = "$refused" ] ||
	    { echo "$output"; return 1; }
	[[ $output != *STAT* && ${lines[-1]} = "$refused" ]]
}

@test "a ticket opens its own user's mailbox, and kpopd logs the user, the principal and the address" {
	local aes=aes256-cts-hmac-sha1-96
	mbox one | store alice
	realm_login alice
	run pop alice STAT QUIT
	[ "$status" -eq 0 ]
	[[ ${lines[2]} = "+OK 1 messages" && ${lines[3]} =~ ^"+OK 1 "[0-9]+$ &&
	    ${lines[4]} = "+OK bye, 1 messages left" ]]
	log_has "mail\.info kpopd\[[0-9]+\]: login peer=[^ ]+:[0-9]+ user=alice principal=alice@KPOPD\.TEST service=pop/mail\.kpopd\.test@KPOPD\.TEST ticket=$aes session=$aes mutual=yes layer=none by=localname rights=full\$"
	log_has 'mail\.info kpopd\[[0-9]+\]: logout peer=[^ ]+:[0-9]+ reason=quit retrieved=0 octets=0 topped=0 deleted=0 left=1 seconds=[0-9]+$'
}

@test "USER accepts the user's principal in place of the user's name" {
	mbox one | store alice
	realm_login alice
	run pop alice@KPOPD.TEST QUIT
	[[ $output == *"+OK 1 messages"* ]]
	refuses bob@KPOPD.TEST
	refuses alice@OTHER.TEST
}

# bats test_tags=catalogue:32
@test "PASS accepts any password, and kpopd does not log it" {
	mbox one | store alice
	spool_keep
	realm_login alice
	for word in "" "a b c d e f g h" "secret-word" '%s%n'; do
		run kpopc mail.kpopd.test \
		    < <(printf '%s\r\n' "USER alice" "PASS $word" QUIT)
		[[ $output == *"+OK 1 messages"*"+OK bye"* ]]
	done
	log_count 4 ' logout .*reason=quit .*deleted=0 left=1 '
	log_only ' log(in|out) '
	log_lacks 'secret-word|%'
}

# bats test_tags=catalogue:33,catalogue:34,catalogue:35,catalogue:36-1,catalogue:37,catalogue:38-1,promise:1,promise:6
@test "kpopd answers all users that it refuses alike, and logs the reason for each" {
	mbox one | store alice
	mbox two | store bob
	spool_keep
	realm_login alice
	refuses bob
	log_has 'refused peer=[^ ]+:[0-9]+ reason="not permitted to be this user" user=bob principal=alice@KPOPD\.TEST error='
	refuses nobody-here
	log_has 'refused .*reason="unknown user" user=nobody-here principal=alice@KPOPD\.TEST$'
	refuses root
	log_has \
	    'refused .*reason="uid 0" user=root principal=alice@KPOPD\.TEST$'
	refuses daemon
	log_has 'refused .*reason="uid below the minimum" user=daemon principal=alice@KPOPD\.TEST$'
	refuses nobody
	log_has 'refused .*reason="uid (of nobody|below the minimum)" user=nobody principal=alice@KPOPD\.TEST$'
	for name in kpopd mail ALICE Alice 1001 0 .. . '*' ../alice ../x \
	    alice/ /etc/passwd -alice +alice %s%n %s%n%n \
	    "$(printf '%0200d' 0)" 'alice;id' $'alice\x01' $'\xff\xfe'; do
		refuses "$name"
	done
	for name in ALICE Alice 1001 0; do
		log_has "refused .*reason=\"unknown user\" user=$name principal=alice@KPOPD\.TEST\$"
	done
	log_has 'refused .*reason="not a user name" user=\.\./alice principal=alice@KPOPD\.TEST$'
	log_count 26 ' refused peer=[^ ]+:[0-9]+ reason="[a-z0-9 ]+" user=[!-~]+ principal=alice@KPOPD\.TEST( error="/home/bob/[^"]+")?$'
	log_count 26 .
}

# bats test_tags=catalogue:36-2
@test "USER ignores blanks around the name, but not those within it" {
	mbox one | store alice
	spool_keep
	realm_login alice
	run pop "  alice  " QUIT
	[[ $output == *"+OK 1 messages"* ]]
	refuses "alice bob"
	run pop "  " QUIT
	[[ $output == \
	    *"-ERR wrong number of arguments"*"-ERR USER comes first"* ]]
	log_has ' login .*user=alice principal=alice@KPOPD\.TEST '
	log_has ' refused .*reason="unknown user" user=alice\\040bob principal=alice@KPOPD\.TEST$'
	log_has ' refused .*reason="no login: left"$'
	log_count 4 .
}

# bats test_tags=catalogue:30,catalogue:31
@test "PASS logs in the user of the last USER, and is refused without USER" {
	mbox one | store alice
	mbox two two | store bob
	spool_keep
	realm_login alice
	pop_open
	pop_hear '^\+OK'
	pop_ask "PASS x" '^-ERR USER comes first$'
	pop_ask "USER bob"
	pop_ask "USER alice"
	pop_ask "PASS x" '^\+OK 1 messages'
	pop_ask QUIT
	log_has ' login .*user=alice principal=alice@KPOPD\.TEST '
	log_has ' logout .*reason=quit .*deleted=0 left=1 '
	log_count 2 .
}

@test "kpopd refuses a principal without an account" {
	realm_login mallory
	refuses mallory
	refuses alice
}

@test "a ticket of alice/admin does not open alice's mailbox" {
	realm_login alice/admin
	refuses alice
	refuses alice/admin@KPOPD.TEST
}

# bats test_tags=promise:1
@test "a .k5login admits the principals that it names, and excludes its owner if it does not name the owner" {
	mbox one | store bob
	echo alice@KPOPD.TEST >/home/bob/.k5login
	chown bob /home/bob/.k5login
	realm_login alice
	run pop bob QUIT
	[[ $output == *"+OK 1 messages"* ]]
	log_has 'login .*user=bob principal=alice@KPOPD\.TEST .*by=k5login'
	realm_login bob
	refuses bob
}

# bats test_tags=catalogue:77-2
@test "kpopd refuses a login if .k5login has another owner, is unreadable or links to another user's" {
	mbox one | store alice
	spool_mark
	realm_login alice
	echo alice@KPOPD.TEST >/home/alice/.k5login
	chown bob /home/alice/.k5login
	refuses alice
	chown alice /home/alice/.k5login
	chmod 000 /home/alice/.k5login
	refuses alice
	rm /home/alice/.k5login
	echo alice@KPOPD.TEST >/home/bob/.k5login
	chown bob /home/bob/.k5login
	ln -s /home/bob/.k5login /home/alice/.k5login
	refuses alice
	log_count 3 'refused .*reason="not permitted to be this user" user=alice principal=alice@KPOPD\.TEST '
	log_lacks 'login peer'
	spool_kept
}

# names_cause PATTERN: returns true if alice's login as alice is refused, and
# the log has the path of .k5login and a cause that matches the pattern
# (extended).
names_cause() {
	log_mark
	refuses alice
	log_has "refused peer=[^ ]+ reason=\"not permitted to be this user\" user=alice principal=alice@KPOPD\\.TEST error=\"/home/alice/\\.k5login: $1\"\$"
}

# k5login TEXT: writes alice's .k5login.
k5login() {
	printf '%b' "$1" >/home/alice/.k5login
	chown alice /home/alice/.k5login
}

# default_is DEFAULT-REALM: starts the server with a krb5.conf that has this
# default realm, or none if it is empty.
default_is() {
	sed "s/^.*default_realm = .*/${1:+default_realm = $1}/" /etc/krb5.conf \
	    >"$WORLD/other.conf"
	server_stop
	server_env="KRB5_CONFIG=$WORLD/other.conf"
	server_start
}

@test "the log names a .k5login that does not name the principal, or names it with an instance, blanks or no realm" {
	realm_login alice
	k5login 'bob@KPOPD.TEST\n'
	names_cause 'it does not name the principal'
	k5login 'bob@KPOPD.TEST\nalice/cron@KPOPD.TEST\n'
	names_cause 'it names the user with another instance, but does not name the principal'
	for line in alice 'alice@KPOPD.TEST\r' ' alice@KPOPD.TEST' \
	    'Alice@kpopd.test' 'bob@KPOPD.TEST\nalice@KPOPD.TEST '; do
		k5login "$line\n"
		names_cause 'its line for the principal differs from it in blanks, case, or realm'
	done
	k5login ''
	names_cause 'it is empty'
}

@test "the log names a .k5login that is not the user's or that the user cannot read, and the owner" {
	realm_login alice
	k5login 'alice@KPOPD.TEST\n'
	chown bob /home/alice/.k5login
	names_cause "it belongs to uid $(id -u bob), not to the user or root"
	chown root /home/alice/.k5login
	chmod 600 /home/alice/.k5login
	names_cause 'the user cannot read it: Permission denied'
	rm /home/alice/.k5login
	mkdir /home/alice/.k5login
	names_cause 'it is not a regular file'
}

@test "the log names a .k5login in a home directory that the user cannot search" {
	realm_login alice
	chmod 0 /home/alice
	names_cause 'the user cannot search the directories of its path: Permission denied'
}

@test "the log names the user or the default realm of krb5.conf if there is no .k5login" {
	realm_login alice
	refuses bob
	log_has 'user=bob principal=alice@KPOPD\.TEST error="/home/bob/\.k5login: it does not exist, and auth_to_local makes the principal user alice"$'
	default_is OTHER.TEST
	names_cause 'it does not exist, and auth_to_local gives the principal no user: the default realm is OTHER\.TEST'
	default_is ""
	names_cause 'it does not exist, and auth_to_local gives the principal no user: krb5\.conf has no default_realm'
}

@test "the log names the file of k5login_directory, and whether krb5.conf lets it decide" {
	realm_login alice
	mkdir "$WORLD/k5login.d"
	chmod 711 "$WORLD"
	echo bob@KPOPD.TEST >"$WORLD/k5login.d/alice"
	sed "/^\[libdefaults\]/a k5login_directory = $WORLD/k5login.d" \
	    /etc/krb5.conf >"$WORLD/other.conf"
	server_stop
	server_env="KRB5_CONFIG=$WORLD/other.conf"
	server_start
	refuses alice
	log_has "error=\"$WORLD/k5login\\.d/alice: it does not name the principal\"\$"
	# Without authority the file permits, but does not refuse.
	sed -i "/^\[libdefaults\]/a k5login_authoritative = false" \
	    "$WORLD/other.conf"
	echo bob@KPOPD.TEST >"$WORLD/k5login.d/bob"
	refuses bob
	log_has "error=\"$WORLD/k5login\\.d/bob: krb5.conf does not let it decide, and auth_to_local makes the principal user alice\"\$"
}

@test "a client gets its refusal before kpopd reads .k5login again for the log" {
	[ -z "${SANITIZER-}" ] || skip "ASan's own system calls are in the way"
	realm_login alice
	k5login 'bob@KPOPD.TEST\n'
	pop_open
	pop_hear '^\+OK'
	attach "$(monitor_pid)" -f -o /dev/null -P /home/alice/.k5login \
	    -e inject=openat:delay_enter=600000000:when=2
	pop_ask "USER alice"
	pop_ask "PASS x" '^-ERR \[AUTH\] this ticket does not open that'
	pop_hear_end
	log_lacks ' refused '
	# A session that is killed before it has found the cause is logged, too.
	pkill -KILL -u alice -x kpopd
	# strace keeps the dead process until it ends itself.
	kill -KILL "$tracer"
	detached
	log_has 'refused .*reason="not permitted to be this user" user=alice principal=alice@KPOPD\.TEST$'
}

# bats test_tags=promise:1
@test "-r admits only the realms that it names, whatever .k5login contains" {
	realm_other_start
	printf '%s\n' alice@KPOPD.TEST eve@OTHER.TEST >/home/alice/.k5login
	chown alice /home/alice/.k5login
	server_stop
	server_start -r OTHER.TEST,THIRD.TEST
	realm_login alice
	refuses alice
	log_has "refused .*reason=\"the realm is not one of -r\" user=alice"
	realm_login eve@OTHER.TEST
	run pop alice QUIT
	[[ $output == *"+OK bye"* ]]
	server_stop
	# A part of a realm's name does not match.
	server_start -r OTHER,TEST,KPOPD.TES,KPOPD.TEST.
	refuses alice
	realm_login alice
	refuses alice
	server_stop
	# Without -r the same .k5login admits alice.
	server_start
	run pop alice QUIT
	[[ $output == *"+OK bye"* ]]
}

# bats test_tags=catalogue:77-1,promise:8
@test "a FIFO as .k5login delays a login until the login deadline and no longer" {
	server_stop
	server_start -t 8
	mbox one | store alice
	spool_mark
	mkfifo /home/alice/.k5login
	chown alice /home/alice/.k5login
	realm_login alice
	begin=$SECONDS
	run pop alice QUIT
	took=$((SECONDS - begin))
	log_has 'refused .*reason="login deadline, session killed"'
	log_lacks 'login peer'
	[ $took -lt 25 ]
	# The client has received the greeting and the answer to USER.
	[[ $(grep -c '^+OK' <<<"$output") -eq 2 && $output != *messages* ]]
	spool_kept
}

@test "-n refuses users with smaller uids, and -s refuses tickets for other services" {
	local service=pop3/mail.kpopd.test
	server_stop
	server_start -n "$(id -u bob)" -s $service
	realm_login alice
	run kpopc mail.kpopd.test </dev/null
	[ "$status" -eq 1 ]
	run session alice -s $service mail.kpopd.test
	[[ $output == *"$refused"* ]]
	realm_login bob
	run session bob -s $service mail.kpopd.test
	[[ $output == *"+OK bye"* ]]
}

@test "the answer to a refused login has at most 77 bytes, and contains neither lock, wait nor %" {
	[ ${#refused} -lt 78 ]
	[[ $refused != *lock* && $refused != *wait* && $refused != *%* ]]
	realm_login alice
	refuses bob
}

# bats test_tags=fault:19-1
@test "a login needs no KDC if the client already has its ticket" {
	realm_login alice
	kpopc mail.kpopd.test </dev/null
	pkill -STOP krb5kdc
	run pop alice QUIT
	pkill -CONT krb5kdc
	[[ $output == *"+OK bye"* ]]
}

@test "kpopd logs an IPv6 address in brackets, and an IPv4 address without them" {
	server_stop
	server_configure
	sed -i 's/^{/{\n\tflags = IPv6/; /NODELAY KEEPALIVE/d' \
	    "$WORLD/xinetd.conf"
	xinetd_run
	realm_login alice
	run session alice -s pop/mail.kpopd.test ::1
	[[ $output == *"+OK bye"* ]]
	log_has 'login peer=\[::1\]:[0-9]+ user=alice'
	run session alice -s pop/mail.kpopd.test 127.0.0.1
	log_has 'login peer=127\.0\.0\.1:[0-9]+ user=alice'
}

# bats test_tags=catalogue:78-1
@test "a spool opens if the home directory is missing, and not if the home directory cannot be searched" {
	realm_login alice
	mbox one | store alice
	spool_mark
	mv /home/alice /home/away
	run pop alice STAT QUIT
	mv /home/away /home/alice
	[[ $output == *"+OK 1 "*"+OK bye, 1 messages left" ]]
	log_has 'login .*user=alice .*by=localname rights=full$'
	log_says_quits "0 0 1"
	chmod 0 /home/alice
	refuses alice
	chmod 755 /home/alice
	log_has 'failed .*what="looking for [^"]+\.k5login" error="Permission denied"'
	log_has 'refused .*reason="not permitted to be this user" user=alice'
	spool_kept
}
