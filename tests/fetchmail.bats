#!/usr/bin/env bats
# Checks that Debian's fetchmail fetches mail by its own KPOP and through kpopc
# as its plugin.

load helpers/all

setup() {
	begin_test
	rm -f "$WORLD/got" "$WORLD/fetchids"
	realm_login alice
}

# fetch OPTION …: runs fetchmail for one poll. The options are fetchmail's
# options for the user, and $flags contains its flags. fetchmail appends each
# message to $WORLD/got, after a line "== message".
fetch() {
	cat >"$WORLD/fetchmailrc" <<-END
	poll ${host-mail.kpopd.test} ${how-proto KPOP auth kerberos_v5} user "${user-alice}" sslproto ''
	     mda "$WORLD/mda" $*
	END
	printf '#!/bin/sh\n{ echo == message; cat; } >>%s/got\n' "$WORLD" \
	    >"$WORLD/mda"
	chmod 755 "$WORLD/mda"
	chmod 600 "$WORLD/fetchmailrc"
	fetchmail --nodetach --nosyslog -f "$WORLD/fetchmailrc" \
	    -i "$WORLD/fetchids" --pidfile "$WORLD/fetchmail.pid" "${flags[@]}"
}

# got NAME …: returns true if exactly these messages were delivered, in this
# order and with complete bodies.
got() {
	local name
	diff <(grep -E '^(== message|Subject: |.* line )' "$WORLD/got") \
	    <(for name; do
		    echo "== message"
		    make_message "$name" | grep -E '^Subject: | line '
	    done)
}

flags=()

@test "fetchmail fetches mail by KPOP and removes it" {
	for name in one two three; do make_message $name | deliver alice; done
	run fetch
	echo "$output"
	[ "$status" -eq 0 ]
	got one two three
	[ ! -s /var/mail/alice ]
	log_has 'login .*user=alice .*service=pop/mail\.kpopd\.test@KPOPD\.TEST .*mutual=yes'
	log_has 'logout .*reason=quit .*deleted=3 left=0 '
}

@test "fetchmail fetches mail with the mail address in place of the user's name" {
	make_message one | deliver alice
	user=alice@kpopd.test run fetch
	[ "$status" -eq 0 ] || { echo "$output"; return 1; }
	got one
	log_has 'login .*user=alice '
	user=bob@kpopd.test run fetch
	[ "$status" -eq 3 ]
	log_has 'refused .*reason="not permitted to be this user" user=bob@kpopd\.test principal=alice@KPOPD\.TEST error='
}

@test "fetchmail with keep removes no mail and fetches only new mail" {
	make_message one | deliver alice
	run fetch keep
	[ "$status" -eq 0 ]
	make_message two | deliver alice
	run fetch keep
	[ "$status" -eq 0 ]
	run fetch keep
	[ "$status" -eq 1 ]
	got one two
	run pop alice QUIT
	[[ $output == *"+OK 2 messages"* ]]
}

@test "fetchmail with fetchall and keep fetches a message by RETR, byte for byte" {
	{
		from_line
		printf 'Received: x\nSubject: strange\n\n.\n..\n\n%s\n\n' \
		    "$(head -c 5000 /dev/zero | tr '\0' y)"
	} | store alice
	run fetch fetchall keep
	[ "$status" -eq 0 ]
	sed '1,/^$/d' "$WORLD/got" |
	    cmp - \
		<(printf '.\n..\n\n%s\n' \
		    "$(head -c 5000 /dev/zero | tr '\0' y)")
}

@test "fetchmail with uidl fetches only new mail after another client has removed a message" {
	for name in one two three; do make_message $name | deliver alice; done
	flags=(--uidl)
	run fetch keep
	[ "$status" -eq 0 ]
	pop alice "DELE 1" QUIT
	make_message four | deliver alice
	run fetch keep
	[ "$status" -eq 0 ]
	got one two three four
}

@test "fetchmail reports that there is no mail" {
	run fetch
	[ "$status" -eq 1 ]
}

@test "kpopd logs a QUIT without a ticket if fetchmail has no ticket" {
	realm_logout
	run fetch
	[ "$status" -ne 0 ]
	kpopd_ends 5
	log_has 'refused .*reason="POP3 QUIT, as after a ticket that the client could not get"$'
}

@test "kpopd logs a QUIT without a ticket if fetchmail gets no ticket for the service" {
	sed -i '1i 127.0.0.2 nokey.kpopd.test' /etc/hosts
	host=nokey.kpopd.test run fetch
	sed -i 1d /etc/hosts
	[ "$status" -ne 0 ]
	log_has 'refused .*reason="POP3 QUIT, as after a ticket that the client could not get"$'
	log_count 1 .
}

@test "fetchmail reports a failed login if the ticket does not open the mailbox" {
	realm_login bob
	run fetch
	[ "$status" -eq 3 ]
	log_has 'refused .*user=alice principal=bob@KPOPD\.TEST'
}

@test "fetchmail reports a mailbox in use as busy, not as a failed login" {
	make_message one | deliver alice
	pop_login alice
	run fetch
	[ "$status" -eq 9 ]
	pop_ask QUIT
}

@test "fetchmail with POP3 and kpopc as its plugin fetches mail" {
	make_message one | deliver alice
	how="proto POP3 plugin \"$KPOPD_BUILD/kpopc %h\" auth password" run \
	    fetch "password x"
	echo "$output"
	[ "$status" -eq 0 ]
	got one
	[ ! -s /var/mail/alice ]
}

# reports STATUS ANSWER: returns true if fetchmail has exited with STATUS and
# kpopc has printed the server's -ERR with this text.
reports() {
	[ "$status" -eq "$1" ] &&
	    [[ $output == *"kpopc: the server answered: -ERR $2"* ]] ||
	    { echo "$status: $output"; return 1; }
}

@test "fetchmail with kpopc as its plugin reports a refusal as a failed login and a mailbox in use as busy" {
	make_message one | deliver alice
	for mode in "" -p; do
		server_stop
		server_start $mode
		how="proto POP3 plugin \"$KPOPD_BUILD/kpopc $mode %h 1109\""
		how+=" auth password"
		realm_login bob
		run fetch "password x"
		reports 3 "[AUTH] this ticket does not open that mailbox"
		realm_login alice
		pop_open $mode
		pop_hear '^\+OK'
		pop_ask "USER alice"
		pop_ask "PASS x"
		run fetch "password x"
		reports 9 "[IN-USE]"
		pop_ask QUIT
		pop_close
	done
}

# run_without_name COMMAND …: runs the command with Bats' run while services(5)
# does not contain kpop.
run_without_name() {
	cp /etc/services "$WORLD/services"
	sed -i '/^kpop[[:space:]]/d' /etc/services
	run "$@"
	cp "$WORLD/services" /etc/services
}

@test "fetchmail's own KPOP fails if services(5) lacks kpop, and fetchmail with kpopc as its plugin works" {
	make_message one | deliver alice
	run_without_name fetch
	[ "$status" -eq 2 ]
	[[ $output == *'getaddrinfo("mail.kpopd.test","kpop")'* ]] ||
	    { echo "$output"; return 1; }
	for way in port service; do
		log_mark
		how="proto KPOP $way 1109 auth kerberos_v5" \
		    run_without_name fetch
		[ "$status" -eq 3 ]
		[[ $output == *"run out of allowed authenticators"* ]] ||
		    { echo "$output"; return 1; }
		log_has 'refused .*reason="no login: left"'
	done
	[ ! -e "$WORLD/got" ]
	how="proto POP3 plugin \"$KPOPD_BUILD/kpopc %h\" auth password" \
	    run_without_name fetch "password x"
	[ "$status" -eq 0 ]
	got one
}

@test "fetchmail with its default sslproto fails without loss of mail if kpopd has no certificate" {
	make_message one | deliver alice
	run fetch "sslproto auto"
	[ "$status" -ne 0 ]
	grep -q one /var/mail/alice
}
