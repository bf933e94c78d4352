#!/usr/bin/env bats
# Checks which users may log in: unusual account names, names without an
# account, uids, expired accounts and the rules of .k5login.

load helpers/all

# The account names. The array below has the form in which the log contains each
# name.
names=(alice@example.org 'KPOPD\alice' 'alice$' alice+lists $'jos\xc3\xa9'
    $'jos\xe9' 'a b' .alice ..alice '*' '%s%n'
    'a"b' "a'b;id" 1001 "$(printf 'l%.0s' {1..56})"
    "$(printf 'm%.0s' {1..240})")
logged=(alice@example.org 'KPOPD\134alice' 'alice$' alice+lists 'jos\303\251'
    'jos\351' 'a\040b' .alice ..alice '*' '%s%n'
    'a\042b' "a'b;id" 1001 "${names[14]}" "$(printf 'm%.0s' {1..200})")

# Adds an account for each of the names, with a .k5login for alice.
setup_file() {
	local i
	cp /etc/passwd "$WORLD/passwd"
	for i in "${!names[@]}"; do
		add_account "${names[i]}" $((20000 + i)) "/home/site$i"
	done
	server_start
}

teardown_file() {
	server_stop
	rm -rf /home/site*
	find /var/mail -uid +19999 -delete
	cp "$WORLD/passwd" /etc/passwd
}

setup() {
	begin_test
	realm_login alice
	saved=()
}

teardown() {
	local i
	for i in "${!saved[@]}"; do
		cp -p "$WORLD/saved.$i" "${saved[i]}"
	done
	rm -f /etc/nologin /run/nologin /home/alice/.k5login
	hostname mail.kpopd.test
	end_test
}

# save FILE: copies the file; teardown restores it.
save() {
	cp -p "$1" "$WORLD/saved.${#saved[@]}"
	saved+=("$1")
}

# add_account NAME UID HOME: adds an account whose .k5login permits alice.
add_account() {
	echo "$1:x:$2:$2::$3:/usr/sbin/nologin" >>/etc/passwd
	mkdir -p "$3"
	echo alice@KPOPD.TEST >"$3/.k5login"
	chown -R "$2:$2" "$3"
}

refused="-ERR [AUTH] this ticket does not open that mailbox"

# is_logged EVENT FORM: returns true if the log has a line for the event in
# which the user is exactly FORM.
is_logged() {
	log_lines | grep -aF ": $1 " | sed 's/$/ /' |
	    grep -aFq -- " user=$2 "
}

# log_names EVENT FORM: waits until is_logged returns true.
log_names() {
	local event=$1 form=$2
	await 10 'is_logged "$event" "$form"' || {
		echo "no $1 of user=$2, the log has:" >&2
		log_lines >&2
		return 1
	}
}

# spool_of I NAME ...: writes these messages to the spool of the account
# ${names[I]}.
spool_of() {
	mbox "${@:2}" >"/var/mail/${names[$1]}"
	chown "$((20000 + $1)):mail" "/var/mail/${names[$1]}"
	chmod 660 "/var/mail/${names[$1]}"
}

@test "kpopd serves every name of the account database, each with a state directory and a session lock of its own" {
	local i
	for i in "${!names[@]}"; do
		spool_of "$i" one two
		log_mark
		run pop "${names[i]}" STAT "DELE 1" QUIT
		[[ $output == *"+OK 2 messages"*"+OK bye, 1 messages left" ]] ||
		    { echo "${names[i]}: $output"; return 1; }
		log_names login "${logged[i]}"
		log_lacks ' failed '
		cmp "/var/mail/${names[i]}" <(mbox two)
		[ ! -e "/var/mail/${names[i]}.lock" ]
		[ "$(stat -c %u "$state/users/$((20000 + i))")" \
		    -eq $((20000 + i)) ]
		[ "$(cat "$state/users/$((20000 + i))"/mbox-*/mailbox)" = \
		    "/var/mail/${names[i]}" ]
		# A second login under this name finds the session lock.
		pop_login "${names[i]}"
		run pop "${names[i]}" QUIT
		pop_close
		kpopd_ends 5
		[[ $output == *"-ERR [IN-USE]"* ]] ||
		    { echo "${names[i]}: $output"; return 1; }
		# The next session finds the same state directory.
		run pop "${names[i]}" STAT QUIT
		[[ $output == *"+OK 1 messages"* ]]
		[ "$(grep -c . "$state/users/$((20000 + i)).mailboxes")" -eq 1 ]
	done
	[ ! -e "$state"/users/*.former.* ]
}

@test "kpopd does not open a mailbox while a living process holds its dotlock, whatever the account's name" {
	local i pids=()
	server_stop
	server_start -l dotlock
	for i in "${!names[@]}"; do
		spool_of "$i" one two
		echo $$ >"/var/mail/${names[i]}.lock"
		chmod 644 "/var/mail/${names[i]}.lock"
		pop "${names[i]}" QUIT >"$WORLD/answer.$i" 3>&- &
		pids+=($!)
	done
	wait "${pids[@]}" || :
	for i in "${!names[@]}"; do
		[[ $(tail -n 1 "$WORLD/answer.$i") == \
		    "-ERR [IN-USE] another program has locked the mailbox" ]] ||
		    { cat "$WORLD/answer.$i"; return 1; }
		[ "$(cat "/var/mail/${names[i]}.lock")" = $$ ]
		rm "/var/mail/${names[i]}.lock"
	done
}

@test "kpopd serves the Maildirs of every account name, by user name and by home directory" {
	local i mailboxes maildir
	mkdir -p /srv/mail
	for mailboxes in 'maildir:/srv/mail/%u' 'maildir:~/Maildir'; do
		server_stop
		server_start -m "$mailboxes"
		for i in "${!names[@]}"; do
			maildir=/srv/mail/${names[i]}
			[ "$mailboxes" = 'maildir:/srv/mail/%u' ] ||
			    maildir=/home/site$i/Maildir
			mkdir -p "$maildir"/{new,cur,tmp}
			make_message one >"$maildir/new/1.one.mail"
			make_message two >"$maildir/cur/2.two.mail:2,S"
			chown -R "$((20000 + i)):$((20000 + i))" "$maildir"
			run pop "${names[i]}" "DELE 1" QUIT
			[[ $output == \
			    *"+OK 2 messages"*"+OK bye, 1 messages left" ]] ||
			    { echo "${names[i]}: $output"; return 1; }
			[ ! -e "$maildir/new/1.one.mail" ]
			[ -e "$maildir/cur/2.two.mail:2,S" ]
		done
	done
	rm -rf /srv/mail
}

@test "kpopd --recover finishes the removals of unusual account names and prints printable ASCII only" {
	[ -z "${SANITIZER-}" ] ||
	    skip "ASan's own system calls are in the way of strace"
	local i
	for i in 0 1 2 4 5 6; do
		spool_of "$i" one two three
		break_off "${names[i]}" 1
		[ -e "$state/users/$((20000 + i))"/mbox-*/j ]
	done
	log_mark
	run "$KPOPD_BUILD/kpopd" --recover -d "$state"
	[ "$status" -eq 0 ]
	for i in 0 1 2 4 5 6; do
		grep -Fq -- "${logged[i]} (" <<<"$output"
		cmp "/var/mail/${names[i]}" <(mbox two three)
		log_names recovery "${logged[i]}"
	done
	[ "$(grep -c 'removal finished$' <<<"$output")" -eq 6 ]
	refute env LC_ALL=C grep '[^ -~]' <<<"$output"
}

@test "a principal opens the account of its own name, whatever characters the name contains" {
	local name plain i
	# The names are in kinit's syntax, in which \@ is an @ in the name.
	for name in 'alice\@example.org' 'alice$' alice+lists; do
		admin "addprinc -randkey \"$name\"" &&
		    admin "ktadd -k $WORLD/keytabs/strange.keytab \"$name\""
		plain=${name//\\@/@}
		i=0
		while [ "${names[i]}" != "$plain" ]; do i=$((i + 1)); done
		save "/home/site$i/.k5login"
		rm "/home/site$i/.k5login"
		spool_of $i one
		kinit -k -t "$WORLD/keytabs/strange.keytab" "$name"
		log_mark
		run pop "$plain" QUIT
		[[ $output == *"+OK 1 messages"* ]] ||
		    { echo "$name: $output"; return 1; }
		log_names login "${logged[i]}"
		log_has ' by=localname rights=full$'
		# The argument of USER may also be the full principal.
		run pop "$name@KPOPD.TEST" QUIT
		[[ $output == *"+OK 1 messages"* ]] ||
		    { echo "$name: $output"; return 1; }
		run pop bob QUIT
		[ "${lines[-1]}" = "$refused" ]
	done
}

@test "USER with the client's full principal opens the account of that name, or else the first component's account" {
	mbox one | store alice
	run pop alice@KPOPD.TEST QUIT
	[[ $output == *"+OK 1 messages"* ]] ||
	    { echo "$output"; log_lines; return 1; }
	log_names login alice
	save /etc/passwd
	add_account alice@KPOPD.TEST 20100 /home/site100
	rm /home/site100/.k5login
	mbox one two three >/var/mail/alice@KPOPD.TEST
	chown 20100 /var/mail/alice@KPOPD.TEST
	log_mark
	# alice's ticket opens this account only if the account's .k5login
	# permits alice.
	run pop alice@KPOPD.TEST QUIT
	[ "${lines[-1]}" = "$refused" ]
	log_has 'refused .*reason="not permitted to be this user" user=alice@KPOPD\.TEST principal=alice@KPOPD\.TEST error='
	echo alice@KPOPD.TEST >/home/site100/.k5login
	chown 20100 /home/site100/.k5login
	run pop alice@KPOPD.TEST QUIT
	[[ $output == *"+OK 3 messages"* ]]
	run pop alice QUIT
	[[ $output == *"+OK 1 messages"* ]]
}

# refuses_user FORM NAME: sends USER with this name. Returns true if the login
# is refused with the usual answer, and the log has one line for it. The line
# must be printable ASCII and contain the name as FORM.
refuses_user() {
	log_mark
	run pop "$2" STAT QUIT
	[[ ${lines[-1]} = "$refused" && $output != *STAT* ]] ||
	    { echo "$2: $output"; return 1; }
	log_names refused "$1" &&
	    [ "$(log_lines | wc -l)" -eq 1 ] &&
	    log_lines | refute env LC_ALL=C grep -a '[^ -~]'
}

# opens MESSAGES NAME ...: returns true if USER with each of these names opens a
# mailbox with this number of messages.
opens() {
	local name
	for name in "${@:2}"; do
		log_mark
		run pop "$name" QUIT
		[[ $output == *"+OK $1 messages"* ]] ||
		    { echo "$name: $output"; log_lines; return 1; }
		# Wait for the session's last line; otherwise it could come
		# after the next log_mark.
		log_has ' logout '
	done
}

# bats test_tags=attack:7-13,promise:1
@test "USER name@domain opens the account name if the domain is the host's name or the realm, in any case" {
	mbox one | store alice
	mbox one two | store bob
	spool_keep
	opens 1 alice@mail.kpopd.test alice@MAIL.Kpopd.Test alice@KPOPD.TEST \
	    alice@kpopd.test alice@Kpopd.Test
	log_names login alice
	# Two names count as the host's name: the hostname, and the host name in
	# the service's principal.
	hostname mx7
	opens 1 alice@mail.kpopd.test alice@MX7
	hostname mail.kpopd.test
	refuses_user alice@mx7 alice@mx7
	# The login is refused because of the principal, and the log has the
	# name as it was sent.
	refuses_user bob@kpopd.test bob@kpopd.test
	log_has 'refused .*reason="not permitted to be this user" user=bob@kpopd\.test principal=alice@KPOPD\.TEST error='
	refuses_user bob@Mail.Kpopd.Test bob@Mail.Kpopd.Test
	log_has 'refused .*reason="not permitted to be this user" '
	refuses_user root@kpopd.test root@kpopd.test
	log_has 'refused .*reason="uid 0" user=root@kpopd\.test '
	refuses_user daemon@kpopd.test daemon@kpopd.test
	log_has \
	    'refused .*reason="uid below the minimum" user=daemon@kpopd\.test '
	# The case of the name matters. No other string counts as a domain.
	for name in Alice@kpopd.test ALICE@KPOPD.TEST alice@ @kpopd.test @ \
	    alice@@kpopd.test alice@kpopd.test. alice@.kpopd.test \
	    alice@kpopd alice@test alice@kpopd.test@ \
	    alice@kpopd.test@kpopd.test alice@kpopd.test@elsewhere.test \
	    alice@elsewhere.test alice@example.net alice@kpopd.testx \
	    alice@xkpopd.test alice@mail alice@localhost \
	    'alice\@kpopd.test' '"alice"@kpopd.test' 'alice%kpopd.test' \
	    alice/admin@kpopd.test ../alice@kpopd.test -alice@kpopd.test \
	    alice@pop/mail.kpopd.test 'alice@kpopd.test '@x; do
		log_mark
		run pop "$name" STAT QUIT
		[ "${lines[-1]}" = "$refused" ] ||
		    { echo "$name: $output"; return 1; }
		log_has 'refused .*reason="(unknown user|not a user name)" user=[!-~]+ principal=alice@KPOPD\.TEST$'
		log_count 1 .
	done
	log_lacks ' login '
}

# bats test_tags=attack:7-15
@test "kpopd -D adds domains, in any case; an account of exactly the sent name takes precedence" {
	mbox one | store alice
	spool_of 0 one two three
	server_stop
	server_start -D Example.ORG,example.net
	opens 1 alice@example.net alice@EXAMPLE.net alice@kpopd.test alice
	opens 3 alice@example.org
	log_names login alice@example.org
	# An account alice@example.org exists, but alice@EXAMPLE.ORG does not.
	opens 1 alice@EXAMPLE.ORG
	log_names login alice
	# The domain begins after the last @.
	opens 3 alice@example.org@example.net alice@example.org@kpopd.test
	# If an account has exactly the sent name, kpopd chooses that account,
	# even if nobody may log in to it.
	save /etc/passwd
	echo "alice@example.net:x:100:100::/nonexistent:/bin/sh" >>/etc/passwd
	refuses_user alice@example.net alice@example.net
	log_has \
	    'refused .*reason="uid below the minimum" user=alice@example\.net '
	sed -i '/^alice@example\.net:/d' /etc/passwd
	refuses_user alice@example.com alice@example.com
	refuses_user bob@example.net bob@example.net
	log_has 'refused .*reason="not permitted to be this user" user=bob@example\.net '
	server_stop
	server_start
	refuses_user alice@example.net alice@example.net
}

@test "kpopd -D accepts domains separated by commas, and nothing else" {
	local domains
	for domains in '' , a, ,a a,,b @a a@b 'a b' $'a\tb'; do
		run "$KPOPD_BUILD/kpopd" --recover -d "$WORLD/none" \
		    -D "$domains"
		[ "$status" -eq 2 ] && [[ $output == *"-D takes domains"* ]] ||
		    { echo "$domains: $output"; return 1; }
	done
	run "$KPOPD_BUILD/kpopd" --recover -d "$WORLD/none" -D example.org,x
	[ "$status" -eq 0 ]
	run "$KPOPD_BUILD/kpopd" --help
	[[ $output == *"  -D, --domains domains"* ]]
}

@test "USER accepts the client's principal with its realm in any case, also if the realm is a foreign one" {
	mbox one | store alice
	realm_other_start
	echo eve@OTHER.TEST >/home/alice/.k5login
	chown alice /home/alice/.k5login
	kinit -k -t "$WORLD/keytabs/eve@OTHER.TEST.keytab" eve@OTHER.TEST
	opens 1 alice alice@kpopd.test
	# There is no account eve yet, and alice@OTHER.TEST is not the client's
	# principal.
	for name in eve@OTHER.TEST eve@other.test; do
		refuses_user "$name" "$name"
		log_has 'refused .*reason="unknown user" '
	done
	refuses_user alice@OTHER.TEST alice@OTHER.TEST
	save /etc/passwd
	add_account eve 20100 /home/site100
	echo eve@OTHER.TEST >/home/site100/.k5login
	opens 0 eve@OTHER.TEST eve@other.test eve@Other.Test eve@kpopd.test
}

# bats test_tags=promise:5
@test "kpopd refuses a user name that is unsafe in a path or in a log, and logs it escaped" {
	local form name
	mbox one | store alice
	spool_keep
	while read -r form name; do
		printf -v name %b "$name"
		refuses_user "$form" "$name"
	done <<-'END'
		../alice ../alice
		alice/../bob alice/../bob
		/etc/passwd /etc/passwd
		alice/ alice/
		. .
		.. ..
		-alice -alice
		alice\001 alice\x01
		\033[2J\033]0;owned\007 \x1b[2J\x1b]0;owned\x07
		alice\177 alice\x7f
		alice\015\040login\040user=root alice\x0d login user=root
		alice\040principal=root alice principal=root
		alice\042\040x alice" x
		%n%s%n %n%s%n
		../\303\251 ../\xc3\xa9
	END
	log_lacks ' login '
}

@test "kpopd reads USER with a line end in the name as two commands, and refuses a name that is too long" {
	mbox one | store alice
	spool_keep
	run pop $'alice\r\nNOOP' QUIT
	[[ $output == *"-ERR no such command here"*"+OK 1 messages"* ]] ||
	    { echo "$output"; return 1; }
	run pop $'alice\nlogin peer=1.2.3.4:5 user=root' QUIT
	[[ $output == *"-ERR no such command here"*"+OK 1 messages"* ]]
	log_mark
	run pop "$(printf 'a%.0s' {1..5000})" QUIT
	[[ $output == *"-ERR line too long"*"-ERR USER comes first"* ]] ||
	    { echo "$output"; return 1; }
	log_lacks 'aaaa'
	# This is the longest name that fits in a line.
	refuses_user "$(printf 'a%.0s' {1..200})" "$(printf 'a%.0s' {1..248})"
	run pop "$(printf 'a%.0s' {1..249})" QUIT
	[[ $output == *"-ERR line too long"* ]] || { echo "$output"; return 1; }
}

# quoted NAME: prints the name in quotes, in the syntax of fetchmailrc.
quoted() {
	if [[ $1 = *'"'* ]]; then
		printf "'%s'" "$1"
	else
		printf '"%s"' "${1//\\/\\\\}"
	fi
}

# fetch OPTIONS USER: runs fetchmail with these options of a fetchmailrc. Writes
# the messages to $WORLD/got.
fetch() {
	cat >"$WORLD/fetchmailrc" <<-END
	poll mail.kpopd.test $1 user $(quoted "$2") sslproto '' keep fetchall mda "cat >>$WORLD/got"
	END
	chmod 600 "$WORLD/fetchmailrc"
	timeout 20 fetchmail --nodetach --nosyslog \
	    -f "$WORLD/fetchmailrc" -i "$WORLD/ids" \
	    --pidfile "$WORLD/fetchmail.pid"
}

# by_fetchmail_kpop USER, by_fetchmail USER, by_curl USER, by_kpopc USER: fetch
# the user's first message into $WORLD/got.
by_fetchmail_kpop() {
	fetch 'proto KPOP auth kerberos_v5' "$1"
}

by_fetchmail() {
	fetch 'proto POP3 service 1109 auth gssapi' "$1"
}

by_curl() {
	timeout 20 curl -sS --login-options AUTH=GSSAPI \
	    -u alice@KPOPD.TEST: --sasl-authzid "$1" \
	    pop3://mail.kpopd.test:1109/1 >>"$WORLD/got"
}

by_kpopc() {
	printf '%s\r\n' "USER $1" "PASS x" "RETR 1" QUIT |
	    kpopc -p mail.kpopd.test 1109 >"$WORLD/got"
}

# fetches_all CLIENT: returns true if the client fetches the mail of each
# account. Leaves out names of 200 bytes or more, because the clients limit
# their own lines.
fetches_all() {
	local i
	for i in "${!names[@]}"; do
		[ ${#names[i]} -lt 200 ] || continue
		spool_of "$i" one
		rm -f "$WORLD/got" "$WORLD/ids"
		log_mark
		run "by_$1" "${names[i]}"
		log_names login "${logged[i]}" &&
		    grep -q 'one line 3' "$WORLD/got" ||
		    { echo "$1, ${names[i]}: $output"; return 1; }
	done
}

@test "fetchmail by KPOP, and fetchmail, curl and kpopc by AUTH GSSAPI, log in to accounts with unusual names" {
	local client
	fetches_all fetchmail_kpop
	server_stop
	server_start -p
	for client in fetchmail curl kpopc; do
		fetches_all $client
	done
}

@test "AUTH GSSAPI interprets the authzid as USER interprets its argument" {
	local i
	server_stop
	server_start -p -D example.net
	for i in "${!names[@]}"; do
		spool_of "$i" one
		log_mark
		run "$KPOPD_BUILD/tests/programs/gsstalk" 1 65536 well \
		    "${names[i]}"
		log_names login "${logged[i]}"
	done
	mbox one | store alice
	for name in alice@mail.kpopd.test alice@kpopd.test alice@KPOPD.TEST \
	    alice@Example.NET; do
		log_mark
		run "$KPOPD_BUILD/tests/programs/gsstalk" 1 65536 well "$name"
		log_names login alice
	done
	log_mark
	run "$KPOPD_BUILD/tests/programs/gsstalk" 1 65536 well bob@kpopd.test
	log_has ' refused .*reason="not permitted to be this user" user=bob@kpopd\.test principal=alice@KPOPD\.TEST error='
	for name in ../alice $'a\nb' $'\x1b[2J' -x; do
		log_mark
		run "$KPOPD_BUILD/tests/programs/gsstalk" 1 65536 well "$name"
		log_has ' refused .*reason="not a user name" user=[^ ]+ principal=alice@KPOPD\.TEST$'
		log_lines | refute env LC_ALL=C grep -a '[^ -~]'
	done
}

# alice_is ANSWER COMMAND ...: runs the command and logs in as alice. If ANSWER
# is "in", returns true if the login succeeds. If ANSWER is "out", returns true
# if the login is refused because the account has expired.
alice_is() {
	local answer=$1
	shift
	"$@" || return
	log_mark
	run pop alice QUIT
	if [ "$answer" = in ]; then
		[[ $output == *"+OK 1 messages"* ]] ||
		    { echo "$*: $output"; return 1; }
	else
		[ "${lines[-1]}" = "$refused" ] &&
		    log_has 'refused .*reason="account expired" user=alice principal=alice@KPOPD\.TEST$'
	fi
}

@test "kpopd refuses an account whose mailbox would have no absolute path, and logs that" {
	save /etc/passwd
	sed -i 's,:/home/alice:,:home/alice:,' /etc/passwd
	server_stop
	server_start -m mbox:~/inbox
	run pop alice QUIT
	[ "${lines[-1]}" = "$refused" ]
	log_has 'refused .*reason="the path of the mailbox is too long, or not absolute" user=alice '
}

# bats test_tags=promise:1
@test "kpopd refuses an expired account, and ignores the password's state, the shell and /etc/nologin" {
	mbox one | store alice
	save /etc/passwd
	save /etc/shadow
	alice_is out chage -E 0 alice
	alice_is out chage -E 1 alice
	alice_is out chage -E "$(date -ud yesterday +%F)" alice
	alice_is out chage -E "$(date -u +%F)" alice
	alice_is in chage -E "$(date -ud '+2 days' +%F)" alice
	alice_is in chage -E -1 alice
	alice_is in usermod -L alice
	alice_is in usermod -p '!' alice
	alice_is in usermod -p '*' alice
	alice_is in chage -d 2000-01-01 -M 1 -I 0 alice
	alice_is in chage -d 0 alice
	alice_is in sed -i '/^alice:/d' /etc/shadow
	alice_is in usermod -s /usr/sbin/nologin alice
	alice_is in usermod -s /bin/false alice
	alice_is in usermod -s /no/such/shell alice
	alice_is in usermod -s /bin/sh alice
	echo "the machine is going down" >/etc/nologin
	alice_is in cp /etc/nologin /run/nologin
}

# hash_bytes: prints alice's password hash as hexadecimal digits.
hash_bytes() {
	printf '%s' "$hash" | od -An -v -tx1 | tr -d ' \n'
	echo
}

@test "the memory of a login's processes contains no password hash" {
	[ -z "${SANITIZER-}" ] ||
	    skip "a build with sanitizers has other memory"
	mbox one | store alice
	save /etc/shadow
	hash='$y$j9T$kpopdkpopdkpopdkpopd$0123456789abcdefghijklmnopqrstuvwxyzABCDEFG'
	usermod -p "$hash" alice
	pop_login alice
	holds_none "$(child_pid)" hash_bytes
	holds_none "$(monitor_pid)" hash_bytes
	pop_close
}

# bats test_tags=promise:1
@test "kpopd refuses the uids of nobody; -n sets the lowest and the highest uid that may log in" {
	local uid
	save /etc/passwd
	for uid in 65534 65535 65533 61184 524288 4294967293; do
		add_account "u$uid" "$uid" "/home/site$uid"
	done
	for uid in 65533 61184 524288 4294967293; do
		run pop "u$uid" QUIT
		[[ $output == *"+OK 0 messages"* ]] ||
		    { echo "$uid: $output"; return 1; }
	done
	for uid in 65534 65535; do
		run pop "u$uid" QUIT
		[ "${lines[-1]}" = "$refused" ]
		log_has \
		    "refused .*reason=\"uid of nobody\" user=u$uid principal="
	done
	server_stop
	server_start -n 20001:60000
	for uid in 65533 61184 524288; do
		run pop "u$uid" QUIT
		[ "${lines[-1]}" = "$refused" ]
		log_has "refused .*reason=\"uid above the maximum\" user=u$uid principal="
	done
	run pop "${names[0]}" QUIT
	[ "${lines[-1]}" = "$refused" ]
	run pop "${names[1]}" QUIT
	[[ $output == *"+OK 0 messages"* ]] || { echo "$output"; return 1; }
}

# bats test_tags=promise:1
@test "the lowest uid that may log in is UID_MIN of login.defs when kpopd starts, else 1000; -n precedes it" {
	save /etc/passwd
	save /etc/login.defs
	add_account low 999 /home/low
	add_account high 1000 /home/high
	add_account higher 2000 /home/higher
	# UID_MIN, or none, and the accounts that may log in then.
	while read -r least open; do
		sed -i '/^UID_MIN/d' /etc/login.defs
		[ "$least" = absent ] || echo "UID_MIN $least" >>/etc/login.defs
		[ "$least" != file ] || rm /etc/login.defs
		for user in low high higher; do
			log_mark
			run pop "$user" QUIT
			if [[ " $open " == *" $user "* ]]; then
				[[ $output == *"+OK 0 messages"* ]]
			else
				[ "${lines[-1]}" = "$refused" ]
				log_has "refused .*reason=\"uid below the minimum\" user=$user "
			fi || { echo "$least, $user: $output"; return 1; }
		done
	done <<-END
	2000 higher
	999 low high higher
	absent high higher
	nonsense high higher
	file high higher
	END
	server_stop
	server_start -n 2000
	echo "UID_MIN 500" >/etc/login.defs
	run pop high QUIT
	[ "${lines[-1]}" = "$refused" ]
	run pop higher QUIT
	[[ $output == *"+OK 0 messages"* ]]
}

@test "kpopd -n accepts one uid, or two in ascending order, and nothing else" {
	local uids
	for uids in 0 -1 x '' 1000: :60000 60000:1000 1000:60000:1 \
	    1000:4294967294 4294967295 1000-60000; do
		run "$KPOPD_BUILD/kpopd" --recover -d "$WORLD/none" -n "$uids"
		[ "$status" -eq 2 ] && [[ $output == *"-n takes"* ]] ||
		    { echo "$uids: $output"; return 1; }
	done
	for uids in 1 1000 1000:1000 1000:60000 1000:4294967293; do
		run "$KPOPD_BUILD/kpopd" --recover -d "$WORLD/none" -n "$uids"
		[ "$status" -eq 0 ] || { echo "$uids: $output"; return 1; }
	done
}

# k5login_is KIND: removes alice's .k5login ("absent") or makes one. The new
# file contains $client ("names") or only similar names ("others"), is empty
# ("empty"), cannot be read ("unreadable") or belongs to bob ("foreign").
k5login_is() {
	local file=/home/alice/.k5login
	rm -f $file
	case $1 in
	absent) return ;;
	others)
		printf '%s\n' "x$client@KPOPD.TEST" "$client@KPOPD.TESTS" \
		    "$client" " $client@KPOPD.TEST" "$client@KPOPD.TEST " \
		    >$file
		;;
	empty) : >$file ;;
	*) printf '%s\n' x@KPOPD.TEST "$client@KPOPD.TEST" >$file ;;
	esac
	chown alice $file
	[ "$1" != unreadable ] || chmod 0 $file
	[ "$1" != foreign ] || chown bob $file
}

# logs_in_by RULE KIND: logs in as alice with $client's ticket and a .k5login of
# this kind. Returns true if RULE permits the login. If RULE is "none", returns
# true if the login is refused.
logs_in_by() {
	local answers by
	k5login_is "$2"
	log_mark
	answers=$(pop alice QUIT)
	await 10 'log_lines | grep -Eq ": (login|refused) "'
	by=$(log_lines |
	    sed -n 's/.*: login .* by=\([a-z0-9]*\) rights=full$/\1/p')
	[ "${by:-none}" = "$1" ] && return
	echo "$client, .k5login $2, $rules: by ${by:-none}, not $1: $answers"
	return 1
}

# rules_are LIBDEFAULTS [LOCALAUTH]: writes a krb5.conf with one relation in
# [libdefaults] and, if given, relations in [plugins] localauth.
rules_are() {
	local kdc='kdc = 127.0.0.1:88' rule
	rule='auth_to_local = RULE:[1:$1](carol)s/carol/alice/'
	rules="$*"
	sed -e "s/default_realm = KPOPD.TEST/&\n\t$1/" \
	    -e "/^\[realms\]/,/$kdc\$/s|$kdc\$|&\n\t\t\t$rule\n\t\t\tauth_to_local = DEFAULT|" \
	    "$WORLD/krb5.conf.before" >/etc/krb5.conf
	cat >>/etc/krb5.conf <<-END
	[plugins]
		localauth = {
			module = test:$KPOPD_BUILD/tests/programs/localauth.so
	${2-}
		}
	END
}

@test "the login line's by= names the rule that permitted the login, whatever other rules there are" {
	local client kind authoritative other bad=0
	save /etc/krb5.conf
	cp /etc/krb5.conf "$WORLD/krb5.conf.before"
	# Without .k5login, the default rule permits alice to log in as alice,
	# auth_to_local permits carol, and a plugin permits mallory. Nothing
	# permits bob.
	for client in alice carol mallory bob; do
		realm_login $client
		case $client in
		alice | carol) other=localname ;;
		mallory) other=plugin ;;
		*) other=none ;;
		esac
		for authoritative in true false; do
			rules_are "k5login_authoritative = $authoritative"
			logs_in_by $other absent || bad=1
			logs_in_by k5login names || bad=1
			for kind in others empty unreadable foreign; do
				if [ $authoritative = true ]; then
					logs_in_by none $kind
				else
					logs_in_by $other $kind
				fi || bad=1
			done
		done
		rules_are "" "disable = k5login"
		for kind in absent names others; do
			logs_in_by $other $kind || bad=1
		done
		rules_are "" "enable_only = test"
		[ $other = plugin ] || other=none
		for kind in absent names others; do
			logs_in_by $other $kind || bad=1
		done
		rules_are "" \
		    $'enable_only = k5login\nenable_only = test\ndisable = test'
		logs_in_by k5login names || bad=1
		logs_in_by none absent || bad=1
		rules_are "" "disable = an2ln"
		logs_in_by $other absent || bad=1
	done
	[ $bad -eq 0 ]
}
