#!/usr/bin/env bats
# Checks that stock clients fetch mail by POP3 with the configuration from
# docs/CLIENTS.md, directly and through a TLS proxy.

load helpers/all

setup_file() { tls_make; server_start -p $(tls_options); }

setup() {
	begin_test
	realm_login alice
	mbox one two | store alice
	rm -rf "$WORLD"/got* "$WORLD/Mail" "$WORLD/ids"
	proxy= port=1109
}

teardown() {
	[ -z "$proxy" ] || { kill "$proxy"; wait "$proxy"; } 2>/dev/null || true
	end_test
}

# got FILE: returns true if the file contains both complete messages.
got() {
	[ "$(tr -d '\r' <"$1" | grep -c '^Subject: \(one\|two\)$')" -eq 2 ] &&
	    [ "$(tr -d '\r' <"$1" | grep -c 'line [123]$')" -eq 6 ] ||
	    { cat "$1" >&2; return 1; }
}

# fetchmail_with LINE ...: runs fetchmail with these lines of configuration.
# fetchmail appends the messages to $WORLD/got.
fetchmail_with() {
	printf '%s\n' "$@" "mda \"cat >>$WORLD/got\"" >"$WORLD/fetchmailrc"
	chmod 600 "$WORLD/fetchmailrc"
	timeout 20 fetchmail --nodetach --nosyslog -f "$WORLD/fetchmailrc" \
	    -i "$WORLD/ids" --pidfile "$WORLD/fetchmail.pid"
}

# mpop_with OPTION ...: runs mpop with these options. mpop moves the messages to
# $WORLD/got.
mpop_with() {
	timeout 20 mpop --host=mail.kpopd.test --port=$port --auth=gssapi \
	    --user=alice --keep=off --uidls-file="$WORLD/ids" \
	    --delivery=mbox,"$WORLD/got" --received-header=off "$@"
}

# curl_with OPTION ...: gets both messages with curl and these options. Appends
# the messages to $WORLD/got.
curl_with() {
	local n
	for n in 1 2; do
		timeout 20 curl -sS --login-options AUTH=GSSAPI \
		    -u alice@KPOPD.TEST: "$@" \
		    "pop3://mail.kpopd.test:$port/$n" >>"$WORLD/got" || return
	done
}

@test "fetchmail with auth gssapi fetches mail in TLS, which is its default, and without TLS" {
	fetchmail_with \
	    'poll mail.kpopd.test proto POP3 service 1109 auth gssapi' \
	    "user alice sslcertfile $WORLD/tls/ca.pem"
	got "$WORLD/got"
	[ ! -s /var/mail/alice ]
	log_has 'login .*user=alice .*layer=tls '
	mbox one two | store alice
	rm "$WORLD/got"
	fetchmail_with \
	    'poll mail.kpopd.test proto POP3 service 1109 auth gssapi' \
	    "user alice sslproto ''"
	got "$WORLD/got"
	log_has 'login .*user=alice .*layer=none '
}

@test "mpop with auth gssapi fetches mail in TLS and without TLS" {
	with_tls="--tls=on --tls-starttls=on --tls-trust-file=$WORLD/tls/ca.pem"
	for tls in "$with_tls" --tls=off; do
		mbox one two | store alice
		rm -f "$WORLD/got"
		mpop_with $tls
		got "$WORLD/got"
		[ ! -s /var/mail/alice ]
		rm -f "$WORLD/ids"
	done
}

@test "curl with AUTH=GSSAPI fetches mail without TLS, and after STLS" {
	for tls in "" "--ssl-reqd --cacert $WORLD/tls/ca.pem"; do
		curl_with $tls
		got "$WORLD/got"
		rm "$WORLD/got"
	done
}

@test "fetchmail, curl and mutt fetch mail with the mail address in place of the user's name" {
	fetchmail_with \
	    'poll mail.kpopd.test proto POP3 service 1109 auth gssapi' \
	    "user alice@kpopd.test sslproto ''"
	got "$WORLD/got"
	log_has 'login .*user=alice '
	mbox one two | store alice
	rm "$WORLD/got"
	log_mark
	curl_with --sasl-authzid alice@Mail.Kpopd.Test
	got "$WORLD/got"
	log_has 'login .*user=alice '
	rm "$WORLD/got"
	log_mark
	user=alice%40kpopd.test mutt_with mutt \
	    ssl_starttls=no ssl_force_tls=no
	got "$WORLD/got" || { cat "$WORLD/screen"; return 1; }
	log_has 'login .*user=alice '
}

# mutt_with PROGRAM VARIABLE ...: runs mutt or neomutt with these variables. The
# program opens the POP mailbox, copies all messages to $WORLD/got and quits.
mutt_with() {
	local program=$1
	shift
	{
		echo "set folder=$WORLD confirmcreate=no confirmappend=no copy=no quit=yes delete=no move=no wait_key=no pop_checkinterval=600"
		# neomutt does not accept the value gssapi, and chooses GSSAPI
		# without it.
		[ "$program" = neomutt ] ||
		    echo "set pop_authenticators=gssapi"
		echo "set certificate_file=$WORLD/tls/ca.pem mark_old=no"
		printf 'set %s\n' "$@"
		echo "push '<tag-pattern>~A<enter><tag-prefix><copy-message><kill-line>$WORLD/got<enter><exit>'"
	} >"$WORLD/muttrc"
	: >"$WORLD/screen"
	# mutt does not start on a terminal without rows and columns.
	TERM=xterm timeout 20 \
	    script -qefc "stty rows 24 cols 80; $program -n -F $WORLD/muttrc -f pop://${user-alice}@mail.kpopd.test:$port" /dev/null </dev/null >"$WORLD/screen" 2>&1 3>&- || true
}

@test "mutt with pop_authenticators=gssapi, and neomutt without it, fetch mail in TLS and without TLS" {
	for program in mutt neomutt; do
		for tls in yes no; do
			rm -f "$WORLD/got"
			log_mark
			mutt_with $program ssl_starttls=$tls ssl_force_tls=$tls
			got "$WORLD/got" || { cat "$WORLD/screen"; return 1; }
			refute grep -a 'Error in' "$WORLD/screen"
			layer=none
			[ $tls = no ] || layer=tls
			log_has "login .*user=alice .*layer=$layer "
		done
	done
}

@test "nmh's inc -sasl fetches mail in GSSAPI's confidentiality" {
	printf 'Path: %s/Mail\n' "$WORLD" >"$WORLD/mh_profile"
	mkdir -p "$WORLD/Mail/inbox"
	MH="$WORLD/mh_profile" timeout 20 /usr/bin/mh/inc \
	    -host mail.kpopd.test -port 1109 -user alice -sasl \
	    -saslmech GSSAPI -notruncate 2>&1
	log_has 'login .*user=alice .*layer=confidentiality '
	cat "$WORLD/Mail/inbox"/* >"$WORLD/got"
	got "$WORLD/got"
}

# get_through PORT: gets both messages with curl through the proxy on this port.
# curl connects from 127.0.0.5, uses TLS from the first byte, and verifies the
# certificate.
get_through() {
	for n in 1 2; do
		timeout 20 curl -sS --interface 127.0.0.5 \
		    --connect-to "mail.kpopd.test:995:127.0.0.1:$1" \
		    --cacert "$WORLD/tls/ca.pem" \
		    --login-options AUTH=GSSAPI -u alice@KPOPD.TEST: \
		    "pop3s://mail.kpopd.test:995/$n" >>"$WORLD/got"
	done
	got "$WORLD/got"
}

@test "kpopd logs the client's address if stunnel with protocol = proxy forwards the connection" {
	server_stop
	server_start -p -x 127.0.0.1
	printf '%s\n' foreground=yes pid= syslog=no \
	    output="$WORLD/stunnel.log" "[pop3s]" accept=127.0.0.1:2995 \
	    connect=127.0.0.1:1109 \
	    protocol=proxy cert="$WORLD/tls/server.pem" \
	    key="$WORLD/tls/server.key" >"$WORLD/stunnel.conf"
	stunnel "$WORLD/stunnel.conf" 3>&- >/dev/null 2>&1 &
	proxy=$!
	await 5 'ss -Hltn sport = 2995 | grep -q .'
	get_through 2995
	log_has 'login peer=127.0.0.5:[0-9]+ user=alice'
}

@test "kpopd serves a client on the socket pair with which stunnel's exec starts it" {
	printf '%s\n' foreground=yes pid= syslog=no \
	    output="$WORLD/stunnel.log" "[pop3s]" accept=127.0.0.1:2995 \
	    exec="$KPOPD_BUILD/kpopd" \
	    "execArgs=kpopd -p -d $state -k $WORLD/server.keytab" \
	    cert="$WORLD/tls/server.pem" key="$WORLD/tls/server.key" \
	    >"$WORLD/stunnel.conf"
	env $SANITIZER stunnel "$WORLD/stunnel.conf" 3>&- >/dev/null 2>&1 &
	proxy=$!
	await 5 'ss -Hltn sport = 2995 | grep -q .'
	get_through 2995
	# stunnel's socket pair consists of TCP sockets, so the client has an
	# address.
	log_has 'login peer=127.0.0.1:[0-9]+ user=alice'
}

@test "kpopd logs the client's address if HAProxy with send-proxy-v2 forwards the connection" {
	server_stop
	server_start -p -T immediate -x 127.0.0.1,::1 $(tls_options)
	cat >"$WORLD/haproxy.cfg" <<-END
	defaults
		mode tcp
		timeout connect 5s
		timeout client 60s
		timeout server 60s
	frontend pop3s
		bind 127.0.0.1:2995
		default_backend kpopd
	backend kpopd
		server mail 127.0.0.1:1109 send-proxy-v2
	END
	haproxy -db -f "$WORLD/haproxy.cfg" 3>&- >"$WORLD/haproxy.log" 2>&1 &
	proxy=$!
	await 5 'ss -Hltn sport = 2995 | grep -q .'
	get_through 2995
	log_has 'login peer=127.0.0.5:[0-9]+ user=alice .*layer=tls '
	log_has 'kpopd\[[0-9]+\]: tls peer=127.0.0.5:[0-9]+ '
}

# fetch_by CLIENT: fetches mail with this client through $port, with the TLS
# options from docs/CLIENTS.md.
fetch_by() {
	local ca=$WORLD/tls/ca.pem
	case $1 in
	fetchmail)
		fetchmail_with \
		    "poll mail.kpopd.test proto POP3 service $port auth gssapi" \
		    "user alice sslcertfile $ca"
		;;
	mpop)
		mpop_with --tls=on --tls-starttls=on --tls-trust-file="$ca"
		;;
	curl)
		timeout 20 curl -sS --ssl-reqd --cacert "$ca" \
		    --login-options AUTH=GSSAPI -u alice@KPOPD.TEST: \
		    "pop3://mail.kpopd.test:$port/1" >>"$WORLD/got"
		;;
	mutt | neomutt) mutt_with $1 ssl_force_tls=yes ;;
	kpopc)
		printf '%s\r\n' "USER alice" "PASS x" "RETR 1" QUIT |
		    kpopc -p --tls -C "$ca" mail.kpopd.test $port \
			>>"$WORLD/got"
		;;
	esac >/dev/null 2>&1
}

@test "stock clients with the TLS options of docs/CLIENTS.md send no login if STLS is removed or the certificate is another's" {
	for client in fetchmail mpop curl mutt neomutt kpopc; do
		# Without a man in the middle, the same command gets the mail.
		port=1109
		mbox one | store alice
		fetch_by $client
		log_count 1 "login .*layer=tls "
		rm -rf "$WORLD/got" "$WORLD/ids"
		mbox one | store alice
		log_mark
		port=2110
		edited 2110 '$_ = "" if /^STLS/; s/^\+OK begin TLS/-ERR no TLS/'
		fetch_by $client || true
		kill "$middle"
		await 5 '! ss -Hltn sport = 2110 | grep -q .'
		log_has 'refused ' && log_lacks ' login ' ||
		    { echo "$client"; return 1; }
		log_mark
		in_the_middle 2110
		fetch_by $client || true
		kill "$middle"
		pkill -x openssl || true
		await 5 '! ss -Hltn sport = 2110 | grep -q . &&
		    ! pgrep -x kpopd >/dev/null'
		log_has 'refused ' ||
		    { echo "$client did not connect"; return 1; }
		log_lacks ' login ' || { echo "$client"; return 1; }
		spool_is alice one
	done
}

@test "a man in the middle reads the mail of fetchmail with sslproto '' and of mpop with tls off" {
	port=2110
	for client in fetchmail mpop; do
		in_the_middle 2110
		mbox one two | store alice
		rm -f "$WORLD/ids"
		log_mark
		case $client in
		fetchmail)
			fetchmail_with \
			    'poll mail.kpopd.test proto POP3 service 2110 auth gssapi' \
			    "user alice sslproto ''"
			;;
		mpop) mpop_with --tls=off ;;
		esac
		log_has 'login .*layer=tls '
		grep -aq 'one line 1' "$WORLD/seen.back"
		kill "$middle"
		await 5 '! ss -Hltn sport = 2110 | grep -q .'
	done
}
