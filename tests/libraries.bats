#!/usr/bin/env bats
# Checks that clients without Kerberos, and clients that use a library of a
# programming language, fetch mail as the table of docs/CLIENTS.md describes.

load helpers/all

setup_file() { tls_make; }

setup() {
	begin_test
	realm_login alice
	mbox one two | store alice
	rm -rf "$WORLD"/got* "$WORLD/getmail"
	middle= lmtp= authority= port=1109
}

teardown() {
	local pid
	for pid in $middle $lmtp; do kill "$pid" 2>/dev/null || true; done
	rm -f "$WORLD/lmtp" $authority
	end_test
}

# got FILE: returns true if the file contains both complete messages.
got() {
	[ "$(tr -d '\r' <"$1" | grep -c '^Subject: \(one\|two\)$')" -eq 2 ] &&
	    [ "$(tr -d '\r' <"$1" | grep -c 'line [123]$')" -eq 6 ] ||
	    { cat "$1" >&2; return 1; }
}

# took_all LAYER: returns true if the client has fetched and removed both
# messages, and the log has a login with this layer. Then stores both messages
# again for the next client.
took_all() {
	got "$WORLD/got"
	[ ! -s /var/mail/alice ]
	log_has "login .*user=alice .*layer=$1 "
	log_has 'logout .*reason=quit .*deleted=2 left=0 '
	mbox one two | store alice
	rm -f "$WORLD/got"
	log_mark
}

# client SCRIPT HOW: runs a script of tests/clients with Python or Perl. The
# script writes the messages to $WORLD/got.
client() {
	local interpreter=/usr/bin/python3
	[ "${1##*.}" != pl ] || interpreter=perl
	timeout 30 $interpreter "$BATS_TEST_DIRNAME/clients/$1" "$2" \
	    mail.kpopd.test $port "$WORLD/tls/ca.pem" "$KPOPD_BUILD/kpopc" \
	    >"$WORLD/got" 3>&-
}

# middle_end: ends the man in the middle, and waits until its sessions end.
middle_end() {
	kill "$middle"
	middle=
	await 5 '! ss -Hltn sport = 2110 | grep -q . &&
	    ! pgrep -x kpopd >/dev/null'
}

@test "Python's poplib fetches mail by KPOP through a kpopc that it starts" {
	server_start $(tls_options)
	client fetch.py kpop
	took_all none
}

@test "Python's poplib with python3-gssapi fetches mail without TLS, after STLS and by pop3s" {
	server_start -p $(tls_options)
	client fetch.py gssapi
	took_all none
	client fetch.py stls
	took_all tls
	server_stop
	server_start -p -T immediate $(tls_options)
	client fetch.py pop3s
	took_all tls
}

@test "Perl's Net::POP3 with Authen::SASL and GSSAPI fetches mail without TLS, after STLS and by pop3s" {
	server_start -p $(tls_options)
	client fetch.pl clear
	took_all none
	client fetch.pl stls
	took_all tls
	server_stop
	server_start -p -T immediate $(tls_options)
	client fetch.pl pop3s
	took_all tls
}

@test "poplib and Net::POP3 send no login if STLS is removed from the server's answers or refused" {
	server_start -p $(tls_options)
	for script in fetch.py fetch.pl; do
		port=2110
		# Net::POP3 ignores the list of capabilities and sends STLS. The
		# server refuses it.
		edited 2110 '$_ = "" if /^STLS/; s/^\+OK begin TLS/-ERR no TLS/'
		run client $script stls
		[ "$status" -ne 0 ]
		middle_end
		log_has 'refused '
		log_lacks ' login '
		spool_is alice one two
		log_mark
		port=1109
		client $script stls
		took_all tls
	done
}

@test "poplib and Net::POP3 fetch dots, 8-bit text, a line of 5000 bytes and a last line without its end" {
	server_start -p $(tls_options)
	printf '.\n..x\n\377\303\274\n%s\nend' \
	    "$(printf '%5000s' '' | tr ' ' y)" >"$WORLD/body"
	for script in fetch.py fetch.pl; do
		{
			from_line
			printf 'Received: x\nMessage-ID: <long@kpopd.test>\n\n'
			cat "$WORLD/body"
		} | store alice
		client $script stls
		tr -d '\r' <"$WORLD/got" | sed '1,/^$/d' |
		    cmp - <(cat "$WORLD/body"; echo)
		[ ! -s /var/mail/alice ]
	done
}

# give_ticket: copies the test's ticket to alice's home directory. Clients that
# run as alice use it.
give_ticket() {
	cp "$WORLD/ccache" /home/alice/ccache
	chown alice /home/alice/ccache
}

# getmail_poll OPTION …: runs getmail as alice in the way that kpopc(1)
# describes. The options are those of kpopc. getmail removes the messages that
# it has fetched.
getmail_poll() {
	give_ticket
	rm -rf /home/alice/.config
	su - alice -c '
	    mkdir -p .config/getmail && cat >.config/getmail/getmailrc' <<-END
	$("$BATS_TEST_DIRNAME/programs/document-blocks.py" "$top/kpopc.1" \
	    '[retriever]')
	[destination]
	type = MDA_lmtp
	host = $WORLD/lmtp
	override = alice
	[options]
	delete = true
	END
	cat >/home/alice/poll <<-END
	"$KPOPD_BUILD/kpopc" --listen 2110 $* mail.kpopd.test 1109 &
	until ss -Hltn sport = 2110 | grep -q .; do sleep 0.1; done
	getmail
	kill \$!
	wait
	END
	su - alice -c "KRB5CCNAME=FILE:/home/alice/ccache timeout 30 sh poll" \
	    3>&-
}

@test "getmail fetches mail from kpopc --listen by KPOP in TLS and by AUTH GSSAPI" {
	/usr/bin/python3 "$BATS_TEST_DIRNAME/clients/lmtp.py" "$WORLD/lmtp" \
	    "$WORLD/got" 3>&- 2>/dev/null &
	lmtp=$!
	await 5 'unix_listens $WORLD/lmtp'
	chmod 755 "$WORLD"
	server_start $(tls_options)
	getmail_poll -C "$WORLD/tls/ca.pem"
	took_all tls
	server_stop
	server_start -p
	getmail_poll -p
	took_all confidentiality
}

# fdm_fetch OPTION …: runs fdm as alice. Its connection is kpopc with these
# options.
fdm_fetch() {
	give_ticket
	cat >/home/alice/fdm.conf <<-END
	account "kpop" pop3 pipe "KRB5CCNAME=/home/alice/ccache $KPOPD_BUILD/kpopc $* mail.kpopd.test 1109" user "alice" pass "x"
	action "got" mbox "/home/alice/got"
	match all action "got"
	END
	rm -f /home/alice/got
	chown alice /home/alice/fdm.conf
	chmod 600 /home/alice/fdm.conf
	su alice -c "cd; timeout 30 fdm -f fdm.conf fetch" 3>&-
	mv /home/alice/got "$WORLD/got"
}

@test "fdm with kpopc as its pipe fetches mail by KPOP in TLS and by AUTH GSSAPI with confidentiality" {
	command -v fdm >/dev/null || skip "this Debian has no fdm"
	server_start $(tls_options)
	fdm_fetch --tls -C "$WORLD/tls/ca.pem"
	took_all tls
	server_stop
	server_start -p
	fdm_fetch -p
	took_all confidentiality
}

# snail_fetch pop3-use-starttls|nopop3-use-starttls: runs s-nail with or without
# STLS. s-nail moves the messages to $WORLD/got.
snail_fetch() {
	printf 'set %s\n' v15-compat=y tls-ca-file="$WORLD/tls/ca.pem" \
	    tls-verify=strict pop3-auth=gssapi "$1" >"$WORLD/mailrc"
	rm -f "$WORLD/got"
	printf 'copy * %s\ndelete *\nquit\n' "$WORLD/got" |
	    MAILRC=$WORLD/mailrc timeout 20 s-nail -n \
		-f pop3://alice@mail.kpopd.test:$port 3>&-
}

@test "s-nail with pop3-auth=gssapi fetches mail after STLS and without, and sends no login if STLS is refused" {
	server_start -p $(tls_options)
	snail_fetch pop3-use-starttls
	took_all tls
	snail_fetch nopop3-use-starttls
	took_all none
	port=2110
	edited 2110 '$_ = "" if /^STLS/; s/^\+OK begin TLS/-ERR no TLS/'
	run snail_fetch pop3-use-starttls
	[ "$status" -ne 0 ]
	middle_end
	log_has 'refused '
	log_lacks ' login '
	[ ! -e "$WORLD/got" ]
	spool_is alice one two
}

# cclient_moves HOW: moves the messages to $WORLD/got with mailutil. mailutil
# uses c-client, the library of alpine and PHP.
cclient_moves() {
	local from="{mail.kpopd.test:1109/pop3/$1/user=alice}INBOX"
	give_ticket
	su - alice -c "
	    export KRB5CCNAME=FILE:/home/alice/ccache
	    timeout 20 mailutil -verbose move '$from' '#driver.unix/got'" \
	    </dev/null 3>&- || return
	mv /home/alice/got "$WORLD/got"
}

@test "c-client fetches mail by pop3s and without TLS; kpopd refuses and logs the TLS 1.0 of c-client's /tls" {
	command -v mailutil >/dev/null || skip "this Debian has no uw-mailutils"
	server_start -p $(tls_options)
	cclient_moves notls
	took_all none
	run cclient_moves tls
	[ "$status" -ne 0 ]
	log_has \
	    'refused .*reason="TLS handshake" error=".*unsupported protocol"'
	spool_is alice one two
	server_stop
	server_start -p -T immediate $(tls_options)
	# c-client trusts only the system's certificate authorities.
	authority=/etc/ssl/certs/$(openssl x509 -hash -noout \
	    -in "$WORLD/tls/ca.pem").0
	cp "$WORLD/tls/ca.pem" "$authority"
	cclient_moves ssl
	took_all tls
}

# play_dialogues KIND [KPOPC]: sends the recorded writes of each client of this
# kind. Sends these through the program KPOPC if KPOPC is given.
play_dialogues() {
	local file
	for file in "$BATS_TEST_DIRNAME/clients/dialogues"/*-"$1"; do
		echo "$file"
		timeout 30 /usr/bin/python3 \
		    "$BATS_TEST_DIRNAME/clients/play.py" "$file" \
		    mail.kpopd.test 1109 "${@:2}" >"$WORLD/got" 3>&-
		took_all none
	done
}

@test "the recorded writes of Evolution, Thunderbird, pop3.el and Jakarta Mail fetch and remove all messages" {
	server_start
	play_dialogues kpop "$KPOPD_BUILD/kpopc"
	server_stop
	server_start -p
	play_dialogues gssapi
}

@test "kpopd closes the connection at the login deadline if a command lacks its line end, as Evolution's UTF8 does" {
	server_start -t 10
	pop_open
	pop_hear '^\+OK'
	printf UTF8 >&"$pop_out"
	pop_hear_end 30
	log_has 'refused .*reason="no login: idle"'
	spool_is alice one two
}
