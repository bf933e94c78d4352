#!/usr/bin/env bats
# Checks that kpopd and kpopc do not have defects that were reported for other
# mail servers, clients and Kerberos programs. The comment above a test names
# the programs or sites for which the defect was reported.

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
	[ -z "${name_server-}" ] || kill "$name_server" 2>/dev/null || true
	dovecot_end || true
	if [ -e "$WORLD/resolv.kept" ]; then
		cp "$WORLD/resolv.kept" /etc/resolv.conf
		rm "$WORLD/resolv.kept"
	fi
	rm -rf /home/alice/Maildir ~/.k5identity
	cp "$WORLD/hosts.kept" /etc/hosts
	cp "$WORLD/keytab.kept" "$WORLD/server.keytab"
	hostname mail.kpopd.test
	ip -6 addr del fe80::5/64 dev lo 2>/dev/null || true
	ip addr del 198.51.100.7/32 dev lo 2>/dev/null || true
	end_test
}

# serve [KPOPD-OPTION ...]: replaces the server by one with these options.
serve() {
	server_stop
	server_start "$@"
}

# maildir_make: makes an empty Maildir for alice. Sets $maildir to its path.
maildir_make() {
	maildir=/home/alice/Maildir
	rm -rf "$maildir"
	mkdir -p "$maildir"/{cur,new,tmp}
}

# session_by KPOPC-ARGUMENT ...: runs a session as alice through kpopc with
# these arguments. Prints both outputs of kpopc, and returns its status.
session_by() {
	printf '%s\r\n' "USER alice" "PASS x" STAT QUIT |
	    timeout 20 "$KPOPD_BUILD/kpopc" "$@" 2>&1 | tr -d '\r'
	return "${PIPESTATUS[1]}"
}

# gets_mail KPOPC-ARGUMENT ...: returns true if a session with these arguments
# finds both messages.
gets_mail() {
	run session_by "$@"
	[ "$status" -eq 0 ] && [[ $output == *"+OK 2 410"* ]] ||
	    { echo "$*: $status: $output"; return 1; }
}

# From an IMAP library in Go: a client sends an empty token after the server has
# proved its identity.
@test "kpopd reads = as an empty token, after AUTH GSSAPI and within the exchange" {
	serve -p
	for layer in 1 2 4; do
		mbox one two | store alice
		run timeout 20 "$KPOPD_BUILD/tests/programs/gsstalk" $layer \
		    65536 equals
		[ "$status" -eq 0 ] && [[ $output == "+OK 2 messages"* ]] ||
		    { echo "$layer: $output"; return 1; }
	done
	run wire 30 < <(printf '%s\r\n' "AUTH GSSAPI =" = QUIT)
	[[ $output == *"+ "*"-ERR [AUTH] not authenticated"*"+OK bye"* ]] ||
	    { echo "$output"; return 1; }
}

# From Windows clients whose library negotiates the mechanism, and from clients
# that pipeline commands after AUTH.
@test "kpopd refuses SPNEGO, NTLM, a bare AP-REQ, an empty token or a command as first token, and logs why" {
	serve -p
	printf '%b' '\x60\x0e\x06\x06\x2b\x06\x01\x05' \
	    '\x05\x02\xa0\x04\x30\x02\xa0\x00' >"$WORLD/token.spnego"
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
		} | wire 30 >"$WORLD/answers"
		[ "$(tr -d '\r' <"$WORLD/answers" | tail -n 2)" = \
		    "-ERR [AUTH] not authenticated"$'\n'"+OK bye" ] ||
		    { echo "$token"; cat "$WORLD/answers"; return 1; }
		log_count 1 \
		    'refused .*reason="GSSAPI: not a first token of Kerberos"'
	done
	run wire 30 < <(printf '%s\r\n' "AUTH GSS-SPNEGO" "AUTH NTLM" \
	    "AUTH KERBEROS_V4" QUIT)
	[ "$(grep -c -F -e '-ERR [AUTH] the only mechanism is GSSAPI' \
	    <<<"$output")" -eq 3 ]
}

# From Java and Windows clients, which accept 16 MiB.
@test "kpopd serves a client that accepts tokens of 16 MiB" {
	serve -p
	for layer in 1 2 4; do
		mbox one two | store alice
		run timeout 20 "$KPOPD_BUILD/tests/programs/gsstalk" $layer \
		    16777215 well
		[ "$status" -eq 0 ] && [[ $output == "+OK 2 messages"* ]] ||
		    { echo "$layer: $output"; return 1; }
	done
}

# From libraries for PHP and Go, which do not wait for the answer to QUIT.
@test "QUIT removes the marked messages although the client closes the connection at once" {
	{
		versions
		apreq pop/mail.kpopd.test@KPOPD.TEST | framed
		printf 'USER alice\r\nPASS x\r\nRETR 1\r\nDELE 1\r\n'
	} >"$WORLD/commands"
	perl "$BATS_TEST_DIRNAME/programs/raw-client.pl" quit "$WORLD/commands"
	log_has 'logout .*reason=quit .*deleted=1 left=1 '
	spool_is alice two
}

# From servers that lost the end of an answer, or a stuffed dot, when the
# server's buffer was full.
@test "kpopd sends a whole answer even if its end or a stuffed dot is at the end of a buffer" {
	local program=$BATS_TEST_DIRNAME/programs/buffer-ends.pl n
	maildir_make
	perl "$program" make "$maildir"
	chown -R alice: "$maildir"
	n=$(ls "$maildir/new" | wc -l)
	serve -m 'maildir:~/Maildir'
	{
		printf '%s\r\n' "USER alice" "PASS x"
		for i in $(seq "$n"); do printf 'RETR %d\r\n' "$i"; done
		printf 'QUIT\r\n'
	} | kpopc mail.kpopd.test >"$WORLD/answers"
	run perl "$program" check <"$WORLD/answers"
	[ "${output%$'\r'}" = "$n +OK bye, $n messages left" ] ||
	    { echo "$output" | head -c 1000; return 1; }
}

# From clients on machines with little memory.
@test "a client with the smallest receive buffer gets a large message whole" {
	{ from_line; printf 'Subject: large\n\n'; seq 100000; echo; } |
	    store alice
	{
		versions
		apreq pop/mail.kpopd.test@KPOPD.TEST | framed
		printf 'USER alice\r\nPASS x\r\nRETR 1\r\nQUIT\r\n'
	} >"$WORLD/commands"
	timeout 50 perl "$BATS_TEST_DIRNAME/programs/raw-client.pl" window \
	    "$WORLD/commands" >"$WORLD/answers"
	tr -d '\r' <"$WORLD/answers" | grep -ax '[0-9][0-9]*' |
	    cmp - <(seq 100000)
	log_has 'logout .*reason=quit retrieved=1 '
}

# From sites where Dovecot refused messages whose file names contained another
# size.
@test "kpopd ignores a wrong size in the name of a Maildir's file" {
	maildir_make
	for name in cur/1.M1P1.h,S=5,W=9999:2,S new/2.M1P1.h,S=99999,W=3 \
	    new/3.M1P1.h,S=99999999999999999999999,W=-1; do
		printf 'Subject: a\n\nbody\n' >"$maildir/$name"
	done
	chown -R alice: "$maildir"
	serve -m 'maildir:~/Maildir'
	run pop alice STAT "LIST 1" "LIST 2" "LIST 3" "RETR 2" "DELE 1" QUIT
	left=$(cd "$maildir"; echo */*)
	expected="*+OK 3 60*+OK 1 20*+OK 2 20*+OK 3 20*+OK 20 octets*body*"
	expected+="+OK bye, 2 messages left"
	[[ $output == $expected ]] || { echo "$output"; return 1; }
	[ "$left" = \
	    "new/2.M1P1.h,S=99999,W=3 new/3.M1P1.h,S=99999999999999999999999,W=-1" ]
}

# From users who edited their spool, and from programs that begin a spool with
# an empty line.
@test "kpopd keeps empty lines before a mailbox's first message, and counts no message for them" {
	{ printf '\n\n'; mbox one two; } | store alice
	run pop alice STAT "DELE 1" QUIT
	[[ $output == *"+OK 2 410"*"+OK bye, 1 messages left" ]] ||
	    { echo "$output"; return 1; }
	cmp /var/mail/alice <(printf '\n\n'; mbox two)
}

# From servers that look up the name of each client's address before they
# answer.
@test "a name server that does not answer delays no login" {
	cp /etc/resolv.conf "$WORLD/resolv.kept"
	echo "nameserver 127.0.0.53" >/etc/resolv.conf
	rm -f "$WORLD/asked"
	socat -u UDP-RECV:53,bind=127.0.0.53 CREATE:"$WORLD/asked" 3>&- \
	    2>/dev/null &
	name_server=$!
	await 5 'ss -Hlun sport = 53 | grep -q .'
	{
		versions
		apreq pop/mail.kpopd.test@KPOPD.TEST | framed
		printf '%s\r\n' "USER alice" "PASS x" STAT QUIT
	} >"$WORLD/commands"
	local begin=$SECONDS
	timeout 20 socat - TCP:127.0.0.1:1109,bind=127.9.8.7 \
	    <"$WORLD/commands" >"$WORLD/answers"
	local took=$((SECONDS - begin))
	grep -q '^+OK 2 410' "$WORLD/answers"
	log_has 'login peer=127\.9\.8\.7:'
	# The resolver would wait thirty seconds for a name server.
	[ "$took" -lt 20 ] || { echo "$took s"; return 1; }
	# Check that the false name server records questions at all.
	timeout 1 getent hosts nowhere.example || true
	await 5 'grep -aq nowhere "$WORLD/asked"'
	refute grep -a '9.127\|arpa' "$WORLD/asked"
}

# From programs that could not read an address with a zone.
@test "kpopc connects to a link-local address with a zone, and kpopd logs that address" {
	# Get the ticket first, because the KDC does not answer while the
	# address exists.
	kvno -q pop/mail.kpopd.test
	ip -6 addr add fe80::5/64 dev lo nodad ||
	    skip "no link-local addresses here"
	for zone in lo 1; do
		gets_mail -s pop/mail.kpopd.test "fe80::5%$zone"
		log_has 'login peer=\[fe80::5\]:[0-9]+ user=alice'
		log_mark
	done
}

# From users behind NAT, whose tickets contain another address than the one that
# the server sees.
@test "kpopd accepts a ticket with addresses from any other address" {
	ip addr add 198.51.100.7/32 dev lo
	sed 's/127.0.0.1:88/198.51.100.7:88/' /etc/krb5.conf >"$WORLD/far.conf"
	local KRB5_CONFIG=$WORLD/far.conf
	export KRB5_CONFIG
	await 10 'realm_login alice -a 2>/dev/null'
	klist -na | grep -q 'Addresses: 198.51.100.7'
	gets_mail mail.kpopd.test
	log_has 'login peer=(127\.0\.0\.1|\[::1\]):'
	serve -p
	log_mark
	gets_mail -p mail.kpopd.test 1109
	log_has 'login peer=(127\.0\.0\.1|\[::1\]):'
}

# From clients that make the server's principal from an alias. Each of libkrb5's
# rules is tested.
@test "kpopc finds the principal of an alias if krb5.conf permits DNS; otherwise it names the missing ticket" {
	echo "127.0.0.9 mail.kpopd.test cname.kpopd.test cname" >>/etc/hosts
	for mode in "" -p; do
		serve $mode
		for how in true fallback false; do
			dns="dns_canonicalize_hostname = $how"
			sed "s/^\[libdefaults\]/&\n\t$dns\n\trdns = false/" \
			    /etc/krb5.conf >"$WORLD/dns.conf"
			for host in mail.kpopd.test cname.kpopd.test cname; do
				# Use a new ccache, because libkrb5 also stores
				# the ticket under the alias.
				realm_login alice
				KRB5_CONFIG=$WORLD/dns.conf \
				    alias_is_resolved_if $how $mode $host
			done
		done
	done
}

# alias_is_resolved_if HOW [-p] HOST: returns true if kpopc gets mail from HOST.
# If HOW says that kpopc must not resolve the alias, returns true if kpopc
# reports the missing ticket.
alias_is_resolved_if() {
	local how=$1 host=${*: -1}
	shift
	if [ "$how$host" != "false${host#mail}" ]; then
		gets_mail "$@" 1109
		return
	fi
	run session_by "$@" 1109
	[ "$status" -eq 1 ] &&
	    [[ $output =~ ^kpopc:\ no\ ticket\ for\ pop/$host@.*see\ -s ]] ||
	    { echo "$how $*: $output"; return 1; }
}

# From programs that use the tickets of the last kinit although the user has
# chosen other tickets for the server.
@test "kpopc uses the tickets that .k5identity names for the server, otherwise the primary ones" {
	local KRB5CCNAME=DIR:$WORLD/collection
	export KRB5CCNAME
	rm -rf "$WORLD/collection" ~/.k5identity
	mkdir "$WORLD/collection"
	for name in bob alice carol; do realm_login $name; done
	for mode in "" -p; do
		serve $mode
		rm -f ~/.k5identity
		run session_by $mode mail.kpopd.test 1109
		[ "$status" -eq 1 ] && log_has 'refused .*principal=carol@'
		echo 'alice@KPOPD.TEST service=pop' >~/.k5identity
		gets_mail $mode mail.kpopd.test 1109
		echo 'dave@KPOPD.TEST service=pop' >~/.k5identity
		run session_by $mode mail.kpopd.test 1109
		[ "$status" -eq 1 ] &&
		    [[ $output == "kpopc: no tickets: "*"dave@KPOPD.TEST"* ]] ||
		    { echo "$output"; return 1; }
	done
	rm -f ~/.k5identity
	kswitch -p alice
	serve
	gets_mail mail.kpopd.test
	kdestroy -A -q
}

# From services whose key was changed while clients had tickets under the old
# key.
@test "kpopd accepts a ticket under an old key while the keytab has the key, and afterwards logs the refusal" {
	gets_mail mail.kpopd.test
	admin "ktadd -k $WORLD/server.keytab pop/mail.kpopd.test"
	cp "$WORLD/server.keytab" "$WORLD/keytab.kept"
	gets_mail mail.kpopd.test
	realm_login alice
	gets_mail mail.kpopd.test
	log_count 3 ' login '
	# Remove the key of the client's ticket. After that, the client's next
	# ticket must be accepted.
	admin "ktadd -k $WORLD/server.keytab pop/mail.kpopd.test"
	cp "$WORLD/server.keytab" "$WORLD/keytab.kept"
	admin "ktrem -k $WORLD/server.keytab pop/mail.kpopd.test old"
	run session_by mail.kpopd.test
	[ "$status" -eq 1 ] &&
	    [[ $output == "kpopc: the server refused the ticket: "* ]] ||
	    { echo "$output"; return 1; }
	log_has "refused .*reason=\"Kerberos\" error=\"[^\"]+ kvno [0-9]+ not found in keytab; [^\"]+: keytab FILE:$WORLD/server.keytab\"\$"
	realm_login alice
	gets_mail mail.kpopd.test
}

# From hosts named localhost, or with a short name.
@test "kpopd accepts a ticket for a principal in its keytab whatever the host's name is" {
	for name in mail localhost other.example.org; do
		hostname $name
		gets_mail -s pop/mail.kpopd.test mail.kpopd.test
	done
}

# From users who specified the wrong port.
@test "kpopc reports that it spoke POP3 to a KPOP server, or KPOP to a POP3 server" {
	serve -t 2
	run session_by -p mail.kpopd.test 1109
	expected="kpopc: the server answered:"
	expected+=" -ERR this is KPOP: it begins with a Kerberos ticket"
	[ "$status" -eq 1 ] && [ "$output" = "$expected" ] ||
	    { echo "$output"; return 1; }
	serve -p
	run session_by mail.kpopd.test
	expected="kpopc: the server does not speak Kerberos 5 KPOP"
	[ "$status" -eq 1 ] && [ "$output" = "$expected" ] ||
	    { echo "$output"; return 1; }
}

# dovecot_start: starts Dovecot's POP3 server with AUTH GSSAPI and STLS on port
# 2110.
dovecot_start() {
	tls_make
	dovecot_serve pop3 2110 < <(
		dovecot_mail mbox '~/mail' /var/mail/%{user}
		cat <<-END
		ssl = yes
		auth_mechanisms = gssapi
		auth_krb5_keytab = $WORLD/server.keytab
		auth_gssapi_hostname = "\$ALL"
		mail_privileged_group = mail
		END
		if dovecot_is_new; then
			cat <<-END
			ssl_server_cert_file = $WORLD/tls/server.pem
			ssl_server_key_file = $WORLD/tls/server.key
			END
		else
			cat <<-END
			ssl_cert = <$WORLD/tls/server.pem
			ssl_key = <$WORLD/tls/server.key
			END
		fi
	)
}

# When the input in TLS ends, Dovecot closes the connection although it has more
# answers to send.
@test "kpopc -p gets all answers from Dovecot, with and without TLS, and reports Dovecot's refusals" {
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
				mail.kpopd.test 2110 >"$WORLD/answers"
			[ "$(grep -c '^+OK' "$WORLD/answers")" -eq 8 ] &&
			    grep -q '^two line 3' "$WORLD/answers" ||
			    { echo "$options"; cat "$WORLD/answers"; return 1; }
			[ "$(grep -c '^Subject: ' /var/mail/alice)" -eq 1 ]
		done
	done
	run session_by -p mail.kpopd.test 2110
	[ "$status" -eq 1 ] &&
	    [[ $output == *"the server offers no security layer"* ]]
	expected="kpopc: the server answered:"
	expected+=" -ERR [AUTH] Authentication failed."
	realm_login bob
	run session_by -p --tls -C "$WORLD/tls/ca.pem" mail.kpopd.test 2110
	[ "$status" -eq 1 ] &&
	    [[ $output == *"$expected"* ]] || { echo "$output"; return 1; }
}
