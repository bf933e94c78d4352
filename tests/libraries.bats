#!/usr/bin/env bats
# Clients that have no Kerberos of their own, or are made of a language's
# library: each as README's table has it.

load helpers/all

setup_file() { tls_make; }

setup() {
	begin_test
	realm_login alice
	mbox one two | store alice
	rm -rf "$WORLD"/got* "$WORLD/getmail"
	middle= lmtp= trusted= port=1109
}

teardown() {
	for pid in $middle $lmtp; do kill "$pid" 2>/dev/null || true; done
	rm -f "$WORLD/lmtp" $trusted
	server_stop
	end_test
}

# got FILE: both messages are in it, whole.
got() {
	[ "$(tr -d '\r' <"$1" | grep -c '^Subject: \(one\|two\)$')" -eq 2 ] &&
	    [ "$(tr -d '\r' <"$1" | grep -c 'line [123]$')" -eq 6 ] ||
	    { cat "$1" >&2; return 1; }
}

# took_all LAYER: the client has fetched and removed both messages, and the log
# has the login with this layer.
took_all() {
	got "$WORLD/got"
	[ ! -s /var/mail/alice ]
	log_has "login .*user=alice .*layer=$1 "
	log_has 'logout .*reason=quit .*deleted=2 left=0 '
	mbox one two | store alice
	rm -f "$WORLD/got"
	log_mark
}

# client SCRIPT HOW: one of tests/clients, by the interpreter that its name
# says.
client() {
	local with=/usr/bin/python3
	[ "${1##*.}" != pl ] || with=perl
	timeout 30 $with "$BATS_TEST_DIRNAME/clients/$1" "$2" mail.kpopd.test \
	    $port "$WORLD/tls/ca.pem" "$KPOPD_BUILD/kpopc" >"$WORLD/got" 3>&-
}

@test "Python's poplib: KPOP by a kpopc of its own" {
	server_start $(tls_options)
	client fetch.py kpop
	took_all none
}

@test "Python's poplib with python3-gssapi: AUTH GSSAPI in the clear, after STLS, and in pop3s" {
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

@test "Perl's Net::POP3 with Authen::SASL and GSSAPI: in the clear, after STLS, and in pop3s" {
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

@test "poplib and Net::POP3 break off if STLS is removed from the server's answers, or refused" {
	server_start -p $(tls_options)
	for script in fetch.py fetch.pl; do
		port=2110
		# Net::POP3 does not look at the list, and begins TLS.
		edited 2110 '$_ = "" if /^STLS/; s/^\+OK begin TLS/-ERR no TLS/'
		run client $script stls
		[ "$status" -ne 0 ]
		kill "$middle"
		await 5 '! ss -Hltn sport = 2110 | grep -q . && ! pgrep -x kpopd >/dev/null'
		log_has 'refused '
		log_lacks ' login '
		spool_is alice one two
		log_mark
		port=1109
		client $script stls
		took_all tls
	done
}

@test "poplib and Net::POP3 take a line of 5000 bytes, 8 bits, dots and an end without a line end" {
	server_start -p $(tls_options)
	for script in fetch.py fetch.pl; do
		{
			from_line
			printf 'Received: x\nMessage-ID: <long@kpopd.test>\n\n.\n..x\n\377\303\274\n%s\nend' "$(printf '%5000s' '' | tr ' ' y)"
		} | store alice
		client $script stls
		tr -d '\r' <"$WORLD/got" | sed '1,/^$/d' |
		    cmp - \
			<(printf '.\n..x\n\377\303\274\n%s\nend\n' \
			    "$(printf '%5000s' '' | tr ' ' y)")
		[ ! -s /var/mail/alice ]
	done
}

# alice_ticket: alice herself has her ticket, for clients that she starts.
alice_ticket() {
	cp "$WORLD/ccache" /home/alice/ccache
	chown alice /home/alice/ccache
}

# getmail_poll OPTION …: alice's poll, as README has it, with these options of
# kpopc; removes what it has fetched.
getmail_poll() {
	alice_ticket
	rm -rf /home/alice/.config
	su - alice \
	    -c \
	    'mkdir -p .config/getmail && cat >.config/getmail/getmailrc' <<-END
	[retriever]
	type = SimplePOP3Retriever
	server = 127.0.0.1
	port = 2110
	username = alice
	password = x
	[destination]
	type = MDA_lmtp
	host = $WORLD/lmtp
	override = alice
	[options]
	delete = true
	END
	cat >/home/alice/poll <<-END
	socat UNIX-LISTEN:\$HOME/.kpop,mode=600,unlink-early EXEC:"$KPOPD_BUILD/kpopc $* mail.kpopd.test 1109" &
	until [ -S ~/.kpop ]; do sleep 0.1; done
	unshare --map-current-user --keep-caps --net sh -c '
		ip link set lo up
		socat TCP-LISTEN:2110,bind=127.0.0.1 UNIX-CONNECT:\$HOME/.kpop &
		until ss -Hltn sport = 2110 | grep -q .; do sleep 0.1; done
		getmail'
	END
	su - alice -c "KRB5CCNAME=FILE:/home/alice/ccache timeout 30 sh poll" \
	    3>&-
}

@test "getmail with kpopc in a network of its own: KPOP in TLS, and AUTH GSSAPI with its layer" {
	/usr/bin/python3 "$BATS_TEST_DIRNAME/clients/lmtp.py" "$WORLD/lmtp" \
	    "$WORLD/got" 3>&- 2>/dev/null &
	lmtp=$!
	await 5 '[ -S $WORLD/lmtp ]'
	chmod 755 "$WORLD"
	server_start $(tls_options)
	getmail_poll --tls -C "$WORLD/tls/ca.pem"
	took_all tls
	server_stop
	server_start -p
	getmail_poll -p
	took_all confidentiality
}

# fdm_fetch OPTION …: kpopc with these options is fdm's connection.
fdm_fetch() {
	alice_ticket
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

@test "fdm with kpopc as its pipe: KPOP in TLS, and AUTH GSSAPI with its layer" {
	server_start $(tls_options)
	fdm_fetch --tls -C "$WORLD/tls/ca.pem"
	took_all tls
	server_stop
	server_start -p
	fdm_fetch -p
	took_all confidentiality
}

# snail_fetch OPTION: of s-nail's variable pop3-use-starttls, set or "no" before
# it.
snail_fetch() {
	printf 'set v15-compat=y tls-ca-file=%s tls-verify=strict pop3-auth=gssapi %s\n' "$WORLD/tls/ca.pem" "$1" >"$WORLD/mailrc"
	rm -f "$WORLD/got"
	printf 'copy * %s\ndelete *\nquit\n' "$WORLD/got" |
	    MAILRC=$WORLD/mailrc timeout 20 s-nail -n \
		-f pop3://alice@mail.kpopd.test:$port 3>&-
}

@test "s-nail with pop3-auth=gssapi: after STLS, and in the clear; it breaks off if STLS is refused" {
	server_start -p $(tls_options)
	snail_fetch pop3-use-starttls
	took_all tls
	snail_fetch nopop3-use-starttls
	took_all none
	port=2110
	edited 2110 '$_ = "" if /^STLS/; s/^\+OK begin TLS/-ERR no TLS/'
	run snail_fetch pop3-use-starttls
	[ "$status" -ne 0 ]
	kill "$middle"
	log_has 'refused '
	log_lacks ' login '
	[ ! -e "$WORLD/got" ]
	spool_is alice one two
}

# cclient_moves HOW: the library of alpine and PHP, by alice's mailutil.
cclient_moves() {
	alice_ticket
	su - \
	    alice -c "KRB5CCNAME=FILE:/home/alice/ccache timeout 20 mailutil -verbose move '{mail.kpopd.test:1109/pop3/$1/user=alice}INBOX' '#driver.unix/got'" \
	    </dev/null 3>&- || return
	mv /home/alice/got "$WORLD/got"
}

@test "c-client (UW's mailutil): in pop3s, and in the clear; its /tls is TLS 1.0, which is refused, and the log says so" {
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
	# It knows the system's authorities only.
	trusted=/etc/ssl/certs/$(openssl x509 -hash -noout \
	    -in "$WORLD/tls/ca.pem").0
	cp "$WORLD/tls/ca.pem" "$trusted"
	cclient_moves ssl
	took_all tls
}

@test "what Evolution, Thunderbird, pop3.el and Jakarta Mail send, write for write, fetches and removes all" {
	local dialogue file
	for dialogue in kpop gssapi; do
		server_start $([ $dialogue = kpop ] || echo -p)
		for file in "$BATS_TEST_DIRNAME/clients/dialogues"/*-$dialogue; do
			echo "$file"
			timeout 30 /usr/bin/python3 \
			    "$BATS_TEST_DIRNAME/clients/play.py" "$file" \
			    mail.kpopd.test 1109 \
			    $([ $dialogue = gssapi ] ||
				echo "$KPOPD_BUILD/kpopc") >"$WORLD/got" 3>&-
			took_all none
		done
		server_stop
	done
}

@test "a client that ends no line, as Evolution's UTF8, is left at the login deadline" {
	server_start -t 3
	pop_open
	pop_hear '^\+OK'
	printf UTF8 >&"$pop_out"
	pop_hear_end 6
	log_has 'refused .*reason="no login: idle"'
	spool_is alice one two
}
