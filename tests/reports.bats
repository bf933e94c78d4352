#!/usr/bin/env bats
# What others have reported of other mail servers, clients and Kerberos
# programs, tried with kpopd and kpopc.

load helpers/all

setup() {
	begin_test
	realm_login alice
	mbox one two | store alice
	[ -e "$WORLD/hosts.kept" ] || cp /etc/hosts "$WORLD/hosts.kept"
	[ -e "$WORLD/keytab.kept" ] ||
	    cp "$WORLD/server.keytab" "$WORLD/keytab.kept"
}

teardown() {
	for pid in ${nobody-} ${dovecot-}; do
		kill "$pid" 2>/dev/null || true
	done
	cp "$WORLD/hosts.kept" /etc/hosts
	cp "$WORLD/keytab.kept" "$WORLD/server.keytab"
	hostname mail.kpopd.test
	ip -6 addr del fe80::5/64 dev lo 2>/dev/null || true
	ip addr del 198.51.100.7/32 dev lo 2>/dev/null || true
	end_test
}

# serve [KPOPD_OPTION ...]: the server with these options instead.
serve() {
	server_stop
	server_start "$@"
}

# mail_of KPOPC_ARGUMENT …: a session as alice; prints what kpopc prints on both
# streams, and returns its status.
mail_of() {
	printf '%s\r\n' "USER alice" "PASS x" STAT QUIT |
	    timeout 20 "$KPOPD_BUILD/kpopc" "$@" 2>&1 | tr -d '\r'
	return "${PIPESTATUS[1]}"
}

# gives_mail KPOPC_ARGUMENT …: such a session has both messages.
gives_mail() {
	run mail_of "$@"
	[ "$status" -eq 0 ] && [[ $output == *"+OK 2 410"* ]] ||
	    { echo "$*: $status: $output"; return 1; }
}

# From a library for IMAP in Go: the empty token of a client that has no more to
# say than the server's proof.
@test "an empty token of AUTH GSSAPI that the client writes as = is an empty token, after AUTH and in the middle" {
	serve -p
	for layer in 1 2 4; do
		mbox one two | store alice
		run timeout 20 "$KPOPD_BUILD/tests/programs/gsstalk" $layer \
		    65536 equals
		[ "$status" -eq 0 ] && [[ $output == "+OK 2 messages"* ]] ||
		    { echo "$layer: $output"; return 1; }
	done
	run wire 5 < <(printf '%s\r\n' "AUTH GSSAPI =" = QUIT)
	serve
	[[ $output == *"+ "*"-ERR [AUTH] not authenticated"*"+OK bye"* ]] ||
	    { echo "$output"; return 1; }
}

# From Windows clients whose library negotiates the mechanism, and from clients
# that pipeline commands over AUTH.
@test "in place of a first token: SPNEGO, NTLM, a bare AP-REQ, nothing, the next command: refused, and the log says what it is not" {
	serve -p
	printf \
	    '\x60\x0e\x06\x06\x2b\x06\x01\x05\x05\x02\xa0\x04\x30\x02\xa0\x00' \
	    >"$WORLD/token.spnego"
	printf 'NTLMSSP\0\1\0\0\0\x97\x82\x08\xe2' >"$WORLD/token.ntlm"
	apreq pop/mail.kpopd.test@KPOPD.TEST >"$WORLD/token.bare"
	: >"$WORLD/token.nothing"
	printf 'CAPA' | base64 -d >"$WORLD/token.command"
	for token in spnego ntlm bare nothing command; do
		log_mark
		{
			printf 'AUTH GSSAPI\r\n'
			base64 -w 0 <"$WORLD/token.$token"
			printf '\r\nQUIT\r\n'
		} | wire 5 >"$WORLD/heard"
		[ "$(tr -d '\r' <"$WORLD/heard" | tail -n 2)" = \
		    "-ERR [AUTH] not authenticated"$'\n'"+OK bye" ] ||
		    { echo "$token"; cat "$WORLD/heard"; serve; return 1; }
		log_count 1 \
		    'refused .*reason="GSSAPI: not a first token of Kerberos"'
	done
	run wire \
	    5 < <(printf '%s\r\n' "AUTH GSS-SPNEGO" "AUTH NTLM" \
		"AUTH KERBEROS_V4" QUIT)
	serve
	[ "$(grep -c -F -e '-ERR [AUTH] the only mechanism is GSSAPI' \
	    <<<"$output")" -eq 3 ]
}

# From Java and Windows clients, which say that they take 16 MiB.
@test "a client that takes tokens of 16 MiB gets such as kpopd makes" {
	serve -p
	for layer in 1 2 4; do
		mbox one two | store alice
		run timeout 20 "$KPOPD_BUILD/tests/programs/gsstalk" $layer \
		    16777215 well
		[ "$status" -eq 0 ] && [[ $output == "+OK 2 messages"* ]] ||
		    { echo "$layer: $output"; serve; return 1; }
	done
	serve
}

# From libraries for PHP and Go whose last act is QUIT, and which do not wait
# for its answer.
@test "a client that writes QUIT and closes at once has removed what it marked" {
	{
		versions
		apreq pop/mail.kpopd.test@KPOPD.TEST | framed
		printf 'USER alice\r\nPASS x\r\nRETR 1\r\nDELE 1\r\n'
	} >"$WORLD/say"
	perl \
	    -MSocket -e 'open F, "<:raw", $ARGV[0]; undef $/; my $say = <F>; socket(my $s, PF_INET, SOCK_STREAM, 0);
	    connect($s, sockaddr_in(1109, INADDR_LOOPBACK)) or die; syswrite $s, $say; my $heard = "";
	    while ($heard !~ /deleted\r\n$/) { sysread($s, $heard, 4096, length $heard) or die $heard }
	    syswrite $s, "QUIT\r\n"; close $s' "$WORLD/say"
	log_has 'logout .*reason=quit .*deleted=1 left=1 '
	spool_is alice two
}

# From servers that lost the end of an answer, or a stuffed dot, where their
# buffer was full.
@test "answers that end, and dots that stand, at the border of a buffer arrive whole, with and without a last line end" {
	local maildir=/home/alice/Maildir
	rm -rf "$maildir"
	mkdir -p "$maildir"/{cur,new,tmp}
	perl -e 'my $n = 0;
	    for my $at (1024, 4096, 8192, 65536, 131072) { for my $more (-14 .. 3) { for my $how (0 .. 2) {
		open F, ">", sprintf "$ARGV[0]/new/%d.M1P1.h", ++$n or die;
		print F "Subject: border\n\n", "y" x ($at + $more - 24), ("\n", "", "\n.\n..y\n.\n")[$how];
		close F;
	    } } }' "$maildir"
	chown -R alice: "$maildir"
	n=$(ls "$maildir/new" | wc -l)
	serve -m 'maildir:~/Maildir'
	{
		printf '%s\r\n' "USER alice" "PASS x"
		for i in $(seq "$n"); do printf 'RETR %d\r\n' "$i"; done
		printf 'QUIT\r\n'
	} |
	    kpopc mail.kpopd.test >"$WORLD/heard"
	serve
	rm -rf "$maildir"
	run perl -0777 -ne 's/^.*?\+OK \d+ messages\r\n//s; my $n = 0;
	    while (s/^\+OK (\d+) octets\r\n(.*?\r\n)\.\r\n//s) { my ($size, $text) = ($1, $2); $text =~ s/^\.\././mg; $n++; length $text == $size or print "$n: $size ", length $text, "\n" }
	    print "$n $_"' "$WORLD/heard"
	[ "${output%$'\r'}" = "$n +OK bye, $n messages left" ] ||
	    { echo "$output" | head -c 1000; return 1; }
}

# From clients on machines with little memory.
@test "a client with the smallest window gets a large message whole" {
	{ from_line; printf 'Subject: large\n\n'; seq 100000; echo; } |
	    store alice
	{
		versions
		apreq pop/mail.kpopd.test@KPOPD.TEST | framed
		printf 'USER alice\r\nPASS x\r\nRETR 1\r\nQUIT\r\n'
	} >"$WORLD/say"
	timeout 50 perl \
	    -MSocket -e 'open F, "<:raw", $ARGV[0]; undef $/; my $say = <F>; socket(my $s, PF_INET, SOCK_STREAM, 0);
	    setsockopt $s, SOL_SOCKET, SO_RCVBUF, 1; connect($s, sockaddr_in(1109, INADDR_LOOPBACK)) or die; syswrite $s, $say;
	    print $some while sysread $s, $some, 700' "$WORLD/say" \
	    >"$WORLD/heard"
	tr -d '\r' <"$WORLD/heard" | grep -ax '[0-9][0-9]*' |
	    cmp - <(seq 100000)
	log_has 'logout .*reason=quit retrieved=1 '
}

# From sites where Dovecot stopped at messages whose file names had been made
# with another size.
@test "a size in the name of a Maildir's file that is wrong decides nothing" {
	local maildir=/home/alice/Maildir
	rm -rf "$maildir"
	mkdir -p "$maildir"/{cur,new,tmp}
	for name in cur/1.M1P1.h,S=5,W=9999:2,S new/2.M1P1.h,S=99999,W=3 \
	    new/3.M1P1.h,S=99999999999999999999999,W=-1; do
		printf 'Subject: a\n\nbody\n' >"$maildir/$name"
	done
	chown -R alice: "$maildir"
	serve -m 'maildir:~/Maildir'
	run pop alice STAT "LIST 1" "LIST 2" "LIST 3" "RETR 2" "DELE 1" QUIT
	serve
	left=$(cd "$maildir"; echo */*)
	rm -rf "$maildir"
	[[ $output == *"+OK 3 60"*"+OK 1 20"*"+OK 2 20"*"+OK 3 20"*"+OK 20 octets"*body*"+OK bye, 2 messages left" ]] || { echo "$output"; return 1; }
	[ "$left" \
	    = "new/2.M1P1.h,S=99999,W=3 new/3.M1P1.h,S=99999999999999999999999,W=-1" ]
}

# From users who edited their spool, and programs that put an empty line first.
@test "empty lines before a mailbox's first message are no message, and stay" {
	{ printf '\n\n'; mbox one two; } | store alice
	run pop alice STAT "DELE 1" QUIT
	[[ $output == *"+OK 2 410"*"+OK bye, 1 messages left" ]] ||
	    { echo "$output"; return 1; }
	cmp /var/mail/alice <(printf '\n\n'; mbox two)
}

# From servers that keep each client waiting for the name of its address.
@test "a name server that does not answer delays no login, from an address with or without a name" {
	cp /etc/resolv.conf "$WORLD/resolv.kept"
	echo "nameserver 127.0.0.53" >/etc/resolv.conf
	rm -f "$WORLD/asked"
	socat -u UDP-RECV:53,bind=127.0.0.53 CREATE:"$WORLD/asked" 3>&- \
	    2>/dev/null &
	nobody=$!
	await 5 'ss -Hlun sport = 53 | grep -q .'
	{
		versions
		apreq pop/mail.kpopd.test@KPOPD.TEST | framed
		printf '%s\r\n' "USER alice" "PASS x" STAT QUIT
	} >"$WORLD/say"
	local begin=$SECONDS
	timeout 20 socat - TCP:127.0.0.1:1109,bind=127.9.8.7 <"$WORLD/say" \
	    >"$WORLD/heard"
	local took=$((SECONDS - begin))
	# The test itself: somebody who asks is heard.
	timeout 1 getent hosts nowhere.example || true
	cp "$WORLD/resolv.kept" /etc/resolv.conf
	grep -q '^+OK 2 410' "$WORLD/heard"
	log_has 'login peer=127\.9\.8\.7:'
	[ "$took" -le 3 ] || { echo "$took s"; return 1; }
	grep -aq nowhere "$WORLD/asked" &&
	    ! grep -aq '9.127\|arpa' "$WORLD/asked"
}

# From programs that could not read an address with a zone.
@test "link-local addresses with a zone: kpopc connects, kpopd serves and logs them" {
	# The KDC is deaf while it is there.
	kvno -q pop/mail.kpopd.test
	ip -6 addr add fe80::5/64 dev lo nodad ||
	    skip "no link-local addresses here"
	for zone in lo 1; do
		gives_mail -s pop/mail.kpopd.test "fe80::5%$zone"
		log_has 'login peer=\[fe80::5\]:[0-9]+ user=alice'
		log_mark
	done
}

# From users behind NAT whose tickets name the address that they had.
@test "a ticket with addresses in it is taken from any other address" {
	ip addr add 198.51.100.7/32 dev lo
	sed 's/127.0.0.1:88/198.51.100.7:88/' /etc/krb5.conf >"$WORLD/far.conf"
	local KRB5_CONFIG=$WORLD/far.conf
	export KRB5_CONFIG
	await 10 'realm_login alice -a 2>/dev/null'
	klist -na | grep -q 'Addresses: 198.51.100.7'
	gives_mail mail.kpopd.test
	log_has 'login peer=(127\.0\.0\.1|\[::1\]):'
	serve -p
	log_mark
	gives_mail -p mail.kpopd.test 1109
	log_has 'login peer=(127\.0\.0\.1|\[::1\]):'
	serve
}

# From clients that make the server's principal out of an alias, by each of
# libkrb5's rules.
@test "kpopc finds the principal behind an alias where krb5.conf lets it ask DNS, and says which it lacks where not" {
	echo "127.0.0.9 mail.kpopd.test cname.kpopd.test cname" >>/etc/hosts
	for mode in "" -p; do
		serve $mode
		for how in true fallback false; do
			sed "s/^\[libdefaults\]/&\n\tdns_canonicalize_hostname = $how\n\trdns = false/" /etc/krb5.conf >"$WORLD/dns.conf"
			for host in mail.kpopd.test cname.kpopd.test cname; do
				# libkrb5 keeps the ticket under the alias, too.
				realm_login alice
				if [ $how$host = false${host#mail} ]; then
					KRB5_CONFIG=$WORLD/dns.conf run \
					    mail_of $mode $host 1109
					[ "$status" -eq 1 ] &&
					    [[ $output =~ ^kpopc:\ no\ ticket\ for\ pop/$host@.*see\ -s ]] || { echo "$mode $how $host: $output"; return 1; }
				else
					KRB5_CONFIG=$WORLD/dns.conf gives_mail \
					    $mode $host 1109
				fi
			done
		done
	done
	serve
}

# From programs that take the tickets of the last kinit, whatever the user has
# said of the server.
@test "of several tickets in a collection kpopc takes those that .k5identity names for the server, otherwise the primary ones" {
	local KRB5CCNAME=DIR:$WORLD/collection
	export KRB5CCNAME
	rm -rf "$WORLD/collection" ~/.k5identity
	mkdir "$WORLD/collection"
	for name in bob alice carol; do realm_login $name; done
	for mode in "" -p; do
		serve $mode
		rm -f ~/.k5identity
		run mail_of $mode mail.kpopd.test 1109
		[ "$status" -eq 1 ] && log_has 'refused .*principal=carol@'
		echo 'alice@KPOPD.TEST service=pop' >~/.k5identity
		gives_mail $mode mail.kpopd.test 1109
		echo 'dave@KPOPD.TEST service=pop' >~/.k5identity
		run mail_of $mode mail.kpopd.test 1109
		[ "$status" -eq 1 ] &&
		    [[ $output == "kpopc: no tickets: "*"dave@KPOPD.TEST"* ]] ||
		    { echo "$output"; return 1; }
	done
	rm -f ~/.k5identity
	kswitch -p alice
	serve
	gives_mail mail.kpopd.test
	kdestroy -A -q
}

# From services whose key was changed: the tickets that clients have are of the
# old one.
@test "a key that is changed: tickets under the old one are taken as long as the keytab has it, and their refusal is told" {
	gives_mail mail.kpopd.test
	admin "ktadd -k $WORLD/server.keytab pop/mail.kpopd.test"
	cp "$WORLD/server.keytab" "$WORLD/keytab.kept"
	gives_mail mail.kpopd.test
	realm_login alice
	gives_mail mail.kpopd.test
	log_count 3 ' login '
	# Now a ticket under a key that is gone; the next of the same client is
	# good.
	admin "ktadd -k $WORLD/server.keytab pop/mail.kpopd.test"
	cp "$WORLD/server.keytab" "$WORLD/keytab.kept"
	admin "ktrem -k $WORLD/server.keytab pop/mail.kpopd.test old"
	run mail_of mail.kpopd.test
	[ "$status" -eq 1 ] &&
	    [[ $output == "kpopc: the server refused the ticket: "* ]] ||
	    { echo "$output"; return 1; }
	log_has 'refused .*reason="Kerberos" error='
	realm_login alice
	gives_mail mail.kpopd.test
}

# From hosts that are called localhost, or by a short name.
@test "whatever the server's host is called, tickets for a principal in its keytab are taken" {
	for name in mail localhost other.example.org; do
		hostname $name
		gives_mail -s pop/mail.kpopd.test mail.kpopd.test
	done
}

# From users who had the right program and the wrong port.
@test "kpopc that is told POP3 where KPOP is, or the reverse, says so" {
	serve -t 2
	run mail_of -p mail.kpopd.test 1109
	[ "$status" -eq 1 ] &&
	    [ "$output" \
		= "kpopc: the server answered: -ERR this is KPOP: it begins with a Kerberos ticket" ] || { echo "$output"; serve; return 1; }
	serve -p
	run mail_of mail.kpopd.test
	serve
	[ "$status" -eq 1 ] &&
	    [ "$output" = "kpopc: the server does not speak Kerberos 5 KPOP" \
		] || { echo "$output"; return 1; }
}

# dovecot_start: Dovecot's POP3 server with AUTH GSSAPI and STLS on port 2110;
# its pid in $dovecot.
dovecot_start() {
	cat >"$WORLD/dovecot.conf" <<-END
	base_dir = /run/dovecot.reports
	instance_name = reports
	protocols = pop3
	listen = 127.0.0.1
	log_path = $WORLD/dovecot.log
	ssl = yes
	ssl_cert = <$WORLD/tls/server.pem
	ssl_key = <$WORLD/tls/server.key
	auth_mechanisms = gssapi
	auth_krb5_keytab = $WORLD/server.keytab
	auth_gssapi_hostname = "\$ALL"
	first_valid_uid = 1
	mail_location = mbox:~/mail:INBOX=/var/mail/%u
	mail_privileged_group = mail
	passdb {
		driver = static
		args = nopassword=y
	}
	userdb {
		driver = passwd
	}
	service auth {
		user = root
	}
	service pop3-login {
		inet_listener pop3 {
			port = 2110
		}
		inet_listener pop3s {
			port = 0
		}
	}
	END
	tls_make
	dovecot -F -c "$WORLD/dovecot.conf" 3>&- >"$WORLD/dovecot.out" 2>&1 &
	dovecot=$!
	await 5 'ss -Hltn sport = 2110 | grep -q .' ||
	    { cat "$WORLD/dovecot.out" "$WORLD/dovecot.log"; return 1; }
}

# With Dovecot the end of TLS's input was the end of the connection, whatever it
# had still to say.
@test "kpopc -p with Dovecot as the server: all answers arrive, in TLS, too, where standard input ends behind QUIT; it refuses as it should" {
	command -v dovecot >/dev/null && [ -e /usr/lib/dovecot/pop3 ] &&
	    [ -e /usr/lib/dovecot/modules/auth/libmech_gssapi.so ] ||
	    skip "no Dovecot with POP3 and GSSAPI"
	dovecot_start
	for options in --cleartext "--tls -C $WORLD/tls/ca.pem"; do
		for _ in 1 2 3; do
			mbox one two | store alice
			printf '%s\r\n' "USER alice" "PASS x" STAT "RETR 1" \
			    "RETR 2" "DELE 1" QUIT |
			    timeout 20 "$KPOPD_BUILD/kpopc" -p $options \
				mail.kpopd.test 2110 >"$WORLD/heard"
			[ "$(grep -c '^+OK' "$WORLD/heard")" -eq 8 ] &&
			    grep -q '^two line 3' "$WORLD/heard" ||
			    { echo "$options"; cat "$WORLD/heard"; return 1; }
			[ "$(grep -c '^Subject: ' /var/mail/alice)" -eq 1 ]
		done
	done
	run mail_of -p mail.kpopd.test 2110
	[ "$status" -eq 1 ] &&
	    [[ $output == *"the server offers no security layer"* ]]
	realm_login bob
	run mail_of -p --tls -C "$WORLD/tls/ca.pem" mail.kpopd.test 2110
	[ "$status" -eq 1 ] &&
	    [[ $output == *"kpopc: the server answered: -ERR [AUTH] Authentication failed."* ]] || { echo "$output"; return 1; }
	kill "$dovecot"
	await 5 '! kill -0 "$dovecot" 2>/dev/null'
}
