#!/usr/bin/env bats
# Who may log in: names as sites have them and names that no account has, uids,
# expired accounts.

load helpers/all

# Account names, and how the log has them.
names=(alice@example.org 'KPOPD\alice' 'alice$' alice+lists $'jos\xc3\xa9'
    $'jos\xe9' 'a b' .alice ..alice '*' '%s%n'
    'a"b' "a'b;id" 1001 "$(printf 'l%.0s' {1..56})"
    "$(printf 'm%.0s' {1..240})")
logged=(alice@example.org 'KPOPD\134alice' 'alice$' alice+lists 'jos\303\251'
    'jos\351' 'a\040b' .alice ..alice '*' '%s%n'
    'a\042b' "a'b;id" 1001 "${names[14]}" "$(printf 'm%.0s' {1..200})")

setup_file() {
	local i
	cp /etc/passwd "$WORLD/passwd"
	for i in "${!names[@]}"; do
		echo \
		    "${names[i]}:x:$((20000 + i)):$((20000 + i))::/home/site$i:/usr/sbin/nologin" >>/etc/passwd
		mkdir -p "/home/site$i"
		echo alice@KPOPD.TEST >"/home/site$i/.k5login"
		chown -R "$((20000 + i)):$((20000 + i))" "/home/site$i"
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
}

refused="-ERR [AUTH] this ticket does not open that mailbox"

# log_names EVENT FORM: the log has a line of this event whose user is FORM, as
# it stands.
log_names() {
	event=$1 form=$2
	await 2 'log_lines | grep -aF ": $event " | sed "s/$/ /" | grep -aFq -- " user=$form "' ||
	    {
		    echo "no $1 of user=$2, the log has:" >&2
		    log_lines >&2
		    return 1
	    }
}

# spool_of I NAME ...: the spool of the Ith name has these messages.
spool_of() {
	mbox "${@:2}" >"/var/mail/${names[$1]}"
	chown "$((20000 + $1)):mail" "/var/mail/${names[$1]}"
	chmod 660 "/var/mail/${names[$1]}"
}

@test "whatever name the account database has may log in and remove mail, and has state of its own" {
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
		# Its session lock is one of its own.
		pop_login "${names[i]}"
		run pop "${names[i]}" QUIT
		pop_close
		[[ $output == *"-ERR [IN-USE]"* ]] ||
		    { echo "${names[i]}: $output"; return 1; }
		# The state is found again, and says nothing of another name.
		run pop "${names[i]}" STAT QUIT
		[[ $output == *"+OK 1 messages"* ]]
		[ "$(grep -c . "$state/users/$((20000 + i)).mailboxes")" -eq 1 ]
	done
	[ ! -e "$state"/users/*.former.* ]
}

@test "a dotlock of any name keeps kpopd out, as long as its process lives" {
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
	server_stop
	server_start
}

@test "Maildirs of any name, by user and by home directory" {
	local i mailboxes
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
			[ ! -e "$maildir/new/1.one.mail" ] &&
			    [ -e "$maildir/cur/2.two.mail:2,S" ]
		done
	done
	server_stop
	server_start
	rm -rf /srv/mail
}

@test "--recover finishes the removals of users of any name, and prints nothing raw" {
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
	! LC_ALL=C grep -q '[^ -~]' <<<"$output"
}

@test "a principal opens the account of its own name, whatever characters are in it" {
	local name plain i
	# As kinit has to be told.
	for name in 'alice\@example.org' 'alice$' alice+lists; do
		admin "addprinc -randkey \"$name\"" &&
		    admin "ktadd -k $WORLD/keytabs/strange.keytab \"$name\""
		plain=${name//\\@/@}
		i=0
		while [ "${names[i]}" != "$plain" ]; do i=$((i + 1)); done
		mv "/home/site$i/.k5login" "$WORLD/k5login"
		spool_of $i one
		kinit -k -t "$WORLD/keytabs/strange.keytab" "$name"
		log_mark
		run pop "$plain" QUIT
		[[ $output == *"+OK 1 messages"* ]] || {
			echo "$name: $output"
			mv "$WORLD/k5login" "/home/site$i/.k5login"
			return 1
		}
		log_names login "${logged[i]}"
		log_has ' by=localname$'
		# The principal's text means it, too.
		run pop "$name@KPOPD.TEST" QUIT
		[[ $output == *"+OK 1 messages"* ]] || {
			echo "$name: $output"
			mv "$WORLD/k5login" "/home/site$i/.k5login"
			return 1
		}
		mv "$WORLD/k5login" "/home/site$i/.k5login"
		# And nothing else.
		run pop bob QUIT
		[ "${lines[-1]}" = "$refused" ]
	done
}

@test "USER with the very principal means an account of exactly that name, if there is one, else the first component" {
	mbox one | store alice
	run pop alice@KPOPD.TEST QUIT
	[[ $output == *"+OK 1 messages"* ]] ||
	    { echo "$output"; log_lines; return 1; }
	log_names login alice
	cp /etc/passwd "$WORLD/passwd.before"
	echo "alice@KPOPD.TEST:x:20100:20100::/home/site100:/bin/sh" \
	    >>/etc/passwd
	mkdir -p /home/site100
	mbox one two three >/var/mail/alice@KPOPD.TEST
	chown 20100 /var/mail/alice@KPOPD.TEST
	log_mark
	# alice's ticket does not open it before she may.
	run pop alice@KPOPD.TEST QUIT
	strange=$output
	log_has 'refused .*reason="not permitted to be this user" user=alice@KPOPD\.TEST principal=alice@KPOPD\.TEST$' || status=1
	echo alice@KPOPD.TEST >/home/site100/.k5login
	chown 20100 /home/site100/.k5login
	run pop alice@KPOPD.TEST QUIT
	exact=$output
	run pop alice QUIT
	cp "$WORLD/passwd.before" /etc/passwd
	[ "$(tail -n 1 <<<"$strange")" = "$refused" ]
	[[ $exact == *"+OK 3 messages"* ]]
	[[ $output == *"+OK 1 messages"* ]]
}

# hostile FORM NAME: USER with this name is refused as any other, and the log
# has it as FORM.
hostile() {
	log_mark
	run pop "$2" STAT QUIT
	[[ ${lines[-1]} = "$refused" && $output != *STAT* ]] ||
	    { echo "$2: $output"; return 1; }
	log_names refused "$1"
	# One line, in which nothing is raw.
	[ "$(log_lines | wc -l)" -eq 1 ]
	! log_lines | LC_ALL=C grep -aq '[^ -~]'
}

# means MESSAGES NAME ...: USER with each of these names opens a mailbox of so
# many messages.
means() {
	local name
	for name in "${@:2}"; do
		log_mark
		run pop "$name" QUIT
		[[ $output == *"+OK $1 messages"* ]] ||
		    { echo "$name: $output"; log_lines; return 1; }
		# Its last line; otherwise that could come after the next mark.
		log_has ' logout '
	done
}

# bats test_tags=attack:7-13,promise:1
@test "USER name@domain means name, if the domain is the host's, the realm in any case, or one of -D" {
	mbox one | store alice
	mbox one two | store bob
	spool_keep
	means 1 alice@mail.kpopd.test alice@MAIL.Kpopd.Test alice@KPOPD.TEST \
	    alice@kpopd.test alice@Kpopd.Test
	log_names login alice
	# The name of the ticket's service is the host's, too, whatever the host
	# calls itself.
	hostname mx7
	means 1 alice@mail.kpopd.test alice@MX7
	hostname mail.kpopd.test
	hostile alice@mx7 alice@mx7
	# The principal decides, and the log has what was sent.
	hostile bob@kpopd.test bob@kpopd.test
	log_has 'refused .*reason="not permitted to be this user" user=bob@kpopd\.test principal=alice@KPOPD\.TEST$'
	hostile bob@Mail.Kpopd.Test bob@Mail.Kpopd.Test
	log_has 'refused .*reason="not permitted to be this user" '
	hostile root@kpopd.test root@kpopd.test
	log_has 'refused .*reason="uid 0" user=root@kpopd\.test '
	hostile daemon@kpopd.test daemon@kpopd.test
	log_has \
	    'refused .*reason="uid below the minimum" user=daemon@kpopd\.test '
	# The first letter's case is the name's, and nothing else is a domain.
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
@test "-D names further domains, with commas and in any case; an account of exactly the name goes before them" {
	local bad
	mbox one | store alice
	spool_of 0 one two three
	server_stop
	server_start -D Example.ORG,example.net
	means 1 alice@example.net alice@EXAMPLE.net alice@kpopd.test alice
	means 3 alice@example.org
	log_names login alice@example.org
	# alice@example.org is an account, alice@EXAMPLE.ORG is none.
	means 1 alice@EXAMPLE.ORG
	log_names login alice
	# The last @ is the domain's.
	means 3 alice@example.org@example.net alice@example.org@kpopd.test
	# An account of exactly the name that may not log in is not passed over.
	cp /etc/passwd "$WORLD/passwd.before"
	echo "alice@example.net:x:100:100::/nonexistent:/bin/sh" >>/etc/passwd
	hostile alice@example.net alice@example.net
	bad=$?
	log_has \
	    'refused .*reason="uid below the minimum" user=alice@example\.net ' || bad=1
	cp "$WORLD/passwd.before" /etc/passwd
	[ $bad -eq 0 ]
	hostile alice@example.com alice@example.com
	hostile bob@example.net bob@example.net
	log_has 'refused .*reason="not permitted to be this user" user=bob@example\.net '
	server_stop
	server_start
	hostile alice@example.net alice@example.net
}

@test "-D takes domains with commas, and nothing else" {
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
	[[ $output == *"  -D domains  "* ]]
}

@test "the principal may be named with its realm in any case, also if it is another realm's" {
	mbox one | store alice
	realm_other_start
	echo eve@OTHER.TEST >/home/alice/.k5login
	chown alice /home/alice/.k5login
	kinit -k -t "$WORLD/keytabs/eve@OTHER.TEST.keytab" eve@OTHER.TEST
	means 1 alice alice@kpopd.test
	# She has no account of her own name, and alice is none of that realm's.
	for name in eve@OTHER.TEST eve@other.test; do
		hostile "$name" "$name"
		log_has 'refused .*reason="unknown user" '
	done
	hostile alice@OTHER.TEST alice@OTHER.TEST
	cp /etc/passwd "$WORLD/passwd.before"
	echo "eve:x:20100:20100::/home/site100:/bin/sh" >>/etc/passwd
	mkdir -p /home/site100
	echo eve@OTHER.TEST >/home/site100/.k5login
	chown -R 20100 /home/site100
	run means 0 eve@OTHER.TEST eve@other.test eve@Other.Test eve@kpopd.test
	cp "$WORLD/passwd.before" /etc/passwd
	rm -rf /home/alice/.k5login
	[ "$status" -eq 0 ] || { echo "$output"; return 1; }
}

# bats test_tags=promise:5
@test "a name that no path or log may have is refused, and is in the log all the same, escaped" {
	mbox one | store alice
	spool_keep
	while read -r form name; do
		printf -v name %b "$name"
		hostile "$form" "$name"
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

@test "a name with a line end in it is two commands, and one that is too long none" {
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
	# The longest that fits in a line.
	hostile "$(printf 'a%.0s' {1..200})" "$(printf 'a%.0s' {1..248})"
	run pop "$(printf 'a%.0s' {1..249})" QUIT
	[[ $output == *"-ERR line too long"* ]] || { echo "$output"; return 1; }
}

# quoted NAME: as fetchmailrc has it.
quoted() {
	if [[ $1 = *'"'* ]]; then
		printf "'%s'" "$1"
	else
		printf '"%s"' "${1//\\/\\\\}"
	fi
}

@test "real clients name such accounts: fetchmail by KPOP, then fetchmail, curl and kpopc by AUTH GSSAPI" {
	local i how client
	fetch() {
		printf '%s\n' \
		    "poll mail.kpopd.test $1 user $(quoted \
			"${names[i]}") sslproto '' keep fetchall mda \"cat >>$WORLD/got\"" >"$WORLD/fetchmailrc"
		chmod 600 "$WORLD/fetchmailrc"
		timeout 20 fetchmail --nodetach --nosyslog \
		    -f "$WORLD/fetchmailrc" -i "$WORLD/ids" \
		    --pidfile "$WORLD/fetchmail.pid"
	}
	by_fetchmail_kpop() { fetch 'proto KPOP auth kerberos_v5'; }
	by_fetchmail() { fetch 'proto POP3 service 1109 auth gssapi'; }
	by_curl() {
		timeout 20 curl -sS --login-options AUTH=GSSAPI \
		    -u alice@KPOPD.TEST: --sasl-authzid "${names[i]}" \
		    pop3://mail.kpopd.test:1109/1 >>"$WORLD/got"
	}
	by_kpopc() {
		printf '%s\r\n' "USER ${names[i]}" "PASS x" "RETR 1" QUIT |
		    kpopc -p mail.kpopd.test 1109 >"$WORLD/got"
	}
	for how in '' -p; do
		server_stop
		server_start $how
		for client in $([ -z "$how" ] && echo fetchmail_kpop ||
		    echo fetchmail curl kpopc); do
			for i in "${!names[@]}"; do
				# A name of 240 letters is too long for clients'
				# own lines.
				[ ${#names[i]} -lt 200 ] || continue
				spool_of "$i" one
				rm -f "$WORLD/got" "$WORLD/ids"
				log_mark
				run by_$client
				log_names login "${logged[i]}" ||
				    { echo "$client: $output"; return 1; }
				grep -q 'one line 3' "$WORLD/got"
			done
		done
	done
	server_stop
	server_start
}

@test "AUTH GSSAPI names users by the same rule" {
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
	log_has ' refused .*reason="not permitted to be this user" user=bob@kpopd\.test principal=alice@KPOPD\.TEST$'
	for name in ../alice $'a\nb' $'\x1b[2J' -x; do
		log_mark
		run "$KPOPD_BUILD/tests/programs/gsstalk" 1 65536 well "$name"
		log_has ' refused .*reason="not a user name" user=[^ ]+ principal=alice@KPOPD\.TEST$'
		if log_lines | LC_ALL=C grep -aq '[^ -~]'; then return 1; fi
	done
	server_stop
	server_start
}

# alice_is ANSWER COMMAND ...: after the command, alice is let in, or is refused
# (out) because her account has expired.
alice_is() {
	local answer=$1
	shift
	"$@"
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

# bats test_tags=promise:1
@test "an expired account is refused; a locked, old or absent password, a shell and /etc/nologin are not asked" {
	mbox one | store alice
	cp /etc/shadow "$WORLD/shadow"
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
	alice_is in \
	    eval 'echo "the machine is going down" >/etc/nologin; cp /etc/nologin /run/nologin'
	rm /etc/nologin /run/nologin
	cp "$WORLD/shadow" /etc/shadow
	chmod 640 /etc/shadow
}

# hash_bytes: alice's password hash, as hexadecimal digits.
hash_bytes() {
	printf '%s' "$hash" | od -An -v -tx1 | tr -d ' \n'
	echo
}

@test "no process of a login has a password hash in its memory" {
	[ -z "${SANITIZER-}" ] ||
	    skip "a build with sanitizers has other memory"
	mbox one | store alice
	cp /etc/shadow "$WORLD/shadow"
	hash='$y$j9T$kpopdkpopdkpopdkpopd$0123456789abcdefghijklmnopqrstuvwxyzABCDEFG'
	usermod -p "$hash" alice
	pop_login alice
	holds_none "$(child_pid)" hash_bytes
	holds_none "$(monitor_pid)" hash_bytes
	pop_close
	cp "$WORLD/shadow" /etc/shadow
	chmod 640 /etc/shadow
}

# bats test_tags=promise:1
@test "nobody's uid never logs in; -n bounds the others on both sides" {
	local uid i
	cp /etc/passwd "$WORLD/passwd.before"
	for uid in 65534 65535 65533 61184 524288 4294967293; do
		mkdir -p "/home/site$uid"
		echo alice@KPOPD.TEST >"/home/site$uid/.k5login"
		echo "u$uid:x:$uid:20000::/home/site$uid:/bin/sh" >>/etc/passwd
		chown -R "$uid" "/home/site$uid"
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
	server_stop
	server_start
	cp "$WORLD/passwd.before" /etc/passwd
}

@test "-n takes one uid or two, in order, and nothing else" {
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

# k5login_is KIND: alice's .k5login is absent, names $who, names others, is
# empty, unreadable, or bob's.
k5login_is() {
	rm -f /home/alice/.k5login
	case $1 in
	absent) return ;;
	others)
		printf '%s\n' "x$who@KPOPD.TEST" "$who@KPOPD.TESTS" "$who" \
		    " $who@KPOPD.TEST" "$who@KPOPD.TEST " >/home/alice/.k5login
		;;
	empty) : >/home/alice/.k5login ;;
	*) printf '%s\n' x@KPOPD.TEST "$who@KPOPD.TEST" >/home/alice/.k5login ;;
	esac
	chown alice /home/alice/.k5login
	[ "$1" != unreadable ] || chmod 0 /home/alice/.k5login
	[ "$1" != foreign ] || chown bob /home/alice/.k5login
}

# logs_in_by WANTED KIND: with this .k5login $who is let in as alice by the
# WANTED rule; none: is refused.
logs_in_by() {
	local said
	k5login_is "$2"
	log_mark
	said=$(pop alice QUIT)
	await 2 'log_lines | grep -Eq ": (login|refused) "'
	by=$(log_lines | sed -n 's/.*: login .* by=\([a-z0-9]*\)$/\1/p')
	[ "${by:-none}" = "$1" ] && return
	echo "$who, .k5login $2, $rules: by ${by:-none}, not $1: $said"
	return 1
}

# rules_are RELATIONS: what krb5.conf says besides, of [libdefaults] and of
# [plugins] localauth.
rules_are() {
	rules="$*"
	sed "s/default_realm = KPOPD.TEST/&\n\t$1/" "$WORLD/krb5.conf.before" \
	    >/etc/krb5.conf
	sed -i '/^\[realms\]/,/kdc = 127.0.0.1:88$/s|kdc = 127.0.0.1:88$|&\n\t\t\tauth_to_local = RULE:[1:$1](carol)s/carol/alice/\n\t\t\tauth_to_local = DEFAULT|' /etc/krb5.conf
	printf '[plugins]\n\tlocalauth = {\n\t\tmodule = test:%s/tests/programs/localauth.so\n%s\n\t}\n' "$KPOPD_BUILD" "${2-}" >>/etc/krb5.conf
}

@test "by= names the rule that let in, whatever else is there" {
	local kind authoritative bad=0
	cp /etc/krb5.conf "$WORLD/krb5.conf.before"
	# alice is alice by the default rule, carol by auth_to_local, mallory by
	# a plugin, bob by .k5login alone.
	for who in alice carol mallory bob; do
		realm_login $who
		case $who in
		alice | carol) else=localname ;;
		mallory) else=plugin ;;
		*) else=none ;;
		esac
		for authoritative in true false; do
			rules_are "k5login_authoritative = $authoritative"
			logs_in_by $else absent || bad=1
			logs_in_by k5login names || bad=1
			for kind in others empty unreadable foreign; do
				if [ $authoritative = true ]; then
					logs_in_by none $kind
				else
					logs_in_by $else $kind
				fi || bad=1
			done
		done
		rules_are "" "disable = k5login"
		for kind in absent names others; do
			logs_in_by $else $kind || bad=1
		done
		rules_are "" "enable_only = test"
		[ $else = plugin ] || else=none
		for kind in absent names others; do
			logs_in_by $else $kind || bad=1
		done
		rules_are "" \
		    $'enable_only = k5login\nenable_only = test\ndisable = test'
		logs_in_by k5login names || bad=1
		logs_in_by none absent || bad=1
		rules_are "" "disable = an2ln"
		logs_in_by $else absent || bad=1
	done
	rm -f /home/alice/.k5login
	cp "$WORLD/krb5.conf.before" /etc/krb5.conf
	[ $bad -eq 0 ]
}
