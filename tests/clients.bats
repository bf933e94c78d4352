#!/usr/bin/env bats
# Stock clients against POP3 mode, each with the configuration that the README
# gives; proxies in front of it.

load helpers/all

setup_file() { tls_make; server_start -p $(tls_options); }

setup() {
	begin_test
	realm_login alice
	mbox one two | store alice
	rm -rf "$WORLD"/got* "$WORLD/Mail" "$WORLD/ids"
	front= port=1109
}

teardown() {
	for pid in $front; do kill "$pid" 2>/dev/null || true; done
	end_test
}

# got FILE: both messages are in it, whole.
got() {
	[ "$(tr -d '\r' <"$1" | grep -c '^Subject: \(one\|two\)$')" -eq 2 ] &&
	    [ "$(tr -d '\r' <"$1" | grep -c 'line [123]$')" -eq 6 ] ||
	    { cat "$1" >&2; return 1; }
}

# fetchmail_rc LINE ...
fetchmail_rc() {
	printf '%s\n' "$@" "mda \"cat >>$WORLD/got\"" >"$WORLD/fetchmailrc"
	chmod 600 "$WORLD/fetchmailrc"
	timeout 20 fetchmail --nodetach --nosyslog -f "$WORLD/fetchmailrc" \
	    -i "$WORLD/ids" --pidfile "$WORLD/fetchmail.pid"
}

@test "fetchmail with auth gssapi, with its default TLS and without" {
	fetchmail_rc \
	    'poll mail.kpopd.test proto POP3 service 1109 auth gssapi' \
	    "user alice sslcertfile $WORLD/tls/ca.pem"
	got "$WORLD/got"
	[ ! -s /var/mail/alice ]
	log_has 'login .*user=alice .*layer=tls '
	mbox one two | store alice
	rm "$WORLD/got"
	fetchmail_rc \
	    'poll mail.kpopd.test proto POP3 service 1109 auth gssapi' \
	    "user alice sslproto ''"
	got "$WORLD/got"
	log_has 'login .*user=alice .*layer=none '
}

@test "mpop with auth gssapi, in TLS and without" {
	for tls in "--tls=on --tls-starttls=on --tls-trust-file=$WORLD/tls/ca.pem" --tls=off; do
		mbox one two | store alice
		rm -f "$WORLD/got"
		timeout 20 mpop --host=mail.kpopd.test --port=1109 \
		    --auth=gssapi --user=alice $tls --keep=off \
		    --uidls-file="$WORLD/ids" --delivery=mbox,"$WORLD/got" \
		    --received-header=off
		got "$WORLD/got"
		[ ! -s /var/mail/alice ]
		rm -f "$WORLD/ids"
	done
}

@test "curl with AUTH=GSSAPI: pop3 in the clear, pop3 with STLS" {
	for tls in "" "--ssl-reqd --cacert $WORLD/tls/ca.pem"; do
		for n in 1 2; do
			timeout 20 curl -sS $tls --login-options AUTH=GSSAPI \
			    -u alice@KPOPD.TEST: \
			    "pop3://mail.kpopd.test:1109/$n" >>"$WORLD/got"
		done
		got "$WORLD/got"
		rm "$WORLD/got"
	done
}

@test "fetchmail, curl and mutt with the mail address in place of the user's name" {
	fetchmail_rc \
	    'poll mail.kpopd.test proto POP3 service 1109 auth gssapi' \
	    "user alice@kpopd.test sslproto ''"
	got "$WORLD/got"
	log_has 'login .*user=alice '
	mbox one two | store alice
	rm "$WORLD/got"
	log_mark
	for n in 1 2; do
		timeout 20 curl -sS --login-options AUTH=GSSAPI \
		    -u alice@KPOPD.TEST: --sasl-authzid alice@Mail.Kpopd.Test \
		    "pop3://mail.kpopd.test:1109/$n" >>"$WORLD/got"
	done
	got "$WORLD/got"
	log_has 'login .*user=alice '
	rm "$WORLD/got"
	log_mark
	user=alice%40kpopd.test save_all mutt ssl_starttls=no ssl_force_tls=no
	got "$WORLD/got" || { cat "$WORLD/screen"; return 1; }
	log_has 'login .*user=alice '
}

# save_all PROGRAM VARIABLE ...: mutt or neomutt opens the POP mailbox, copies
# all messages to a file and leaves.
save_all() {
	local program=$1
	shift
	{
		echo "set folder=$WORLD confirmcreate=no confirmappend=no copy=no quit=yes delete=no move=no wait_key=no pop_checkinterval=600"
		# neomutt does not know gssapi by this name, and finds it by
		# itself.
		[ "$program" = mutt ] && echo "set pop_authenticators=gssapi" ||
		    :
		echo "set certificate_file=$WORLD/tls/ca.pem mark_old=no"
		printf 'set %s\n' "$@"
		echo "push '<tag-pattern>~A<enter><tag-prefix><copy-message><kill-line>$WORLD/got<enter><exit>'"
	} >"$WORLD/muttrc"
	: >"$WORLD/screen"
	TERM=xterm timeout 20 \
	    script -qefc "$program -n -F $WORLD/muttrc -f pop://${user-alice}@mail.kpopd.test:$port" /dev/null </dev/null >"$WORLD/screen" 2>&1 3>&- || true
}

@test "mutt with pop_authenticators=gssapi and neomutt without, in TLS and in the clear" {
	for program in mutt neomutt; do
		for tls in yes no; do
			rm -f "$WORLD/got"
			log_mark
			save_all $program ssl_starttls=$tls ssl_force_tls=$tls
			got "$WORLD/got" || { cat "$WORLD/screen"; return 1; }
			grep -a 'Error in' "$WORLD/screen" && return 1 || :
			log_has \
			    "login .*user=alice .*layer=$([ $tls = yes ] &&
				echo tls || echo none) "
		done
	done
}

@test "nmh's inc -sasl takes confidentiality" {
	printf 'Path: %s/Mail\n' "$WORLD" >"$WORLD/mh_profile"
	mkdir -p "$WORLD/Mail/inbox"
	MH="$WORLD/mh_profile" timeout 20 /usr/bin/mh/inc \
	    -host mail.kpopd.test -port 1109 -user alice -sasl \
	    -saslmech GSSAPI -notruncate 2>&1
	log_has 'login .*user=alice .*layer=confidentiality '
	cat "$WORLD/Mail/inbox"/* >"$WORLD/got"
	got "$WORLD/got"
}

# get_through PORT: curl from 127.0.0.5 through what listens there, TLS from the
# first byte, the certificate verified.
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

@test "stunnel in front, with protocol = proxy: the log has the client" {
	server_stop
	server_start -p -x 127.0.0.1
	printf '%s\n' foreground=yes pid= syslog=no \
	    output="$WORLD/stunnel.log" "[pop3s]" accept=127.0.0.1:2995 \
	    connect=127.0.0.1:1109 \
	    protocol=proxy cert="$WORLD/tls/server.pem" \
	    key="$WORLD/tls/server.key" >"$WORLD/stunnel.conf"
	stunnel "$WORLD/stunnel.conf" 3>&- >/dev/null 2>&1 &
	front=$!
	await 5 'ss -Hltn sport = 2995 | grep -q .'
	get_through 2995
	log_has 'login peer=127.0.0.5:[0-9]+ user=alice'
	server_stop
	server_start -p $(tls_options)
}

@test "stunnel in front, with exec: kpopd on a socket pair" {
	printf '%s\n' foreground=yes pid= syslog=no \
	    output="$WORLD/stunnel.log" "[pop3s]" accept=127.0.0.1:2995 \
	    exec="$KPOPD_BUILD/kpopd" \
	    "execArgs=kpopd -p -d $state -k $WORLD/server.keytab" \
	    cert="$WORLD/tls/server.pem" key="$WORLD/tls/server.key" \
	    >"$WORLD/stunnel.conf"
	env $SANITIZER stunnel "$WORLD/stunnel.conf" 3>&- >/dev/null 2>&1 &
	front=$!
	await 5 'ss -Hltn sport = 2995 | grep -q .'
	get_through 2995
	# stunnel makes a pair of TCP sockets.
	log_has 'login peer=127.0.0.1:[0-9]+ user=alice'
}

@test "HAProxy in front, with send-proxy-v2" {
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
	front=$!
	await 5 'ss -Hltn sport = 2995 | grep -q .'
	get_through 2995
	log_has 'login peer=127.0.0.5:[0-9]+ user=alice .*layer=tls '
	log_has 'kpopd\[[0-9]+\]: tls peer=127.0.0.5:[0-9]+ '
	server_stop
	server_start -p $(tls_options)
}

# fetch_by CLIENT: this client, with what the README says for TLS, by way of
# $port.
fetch_by() {
	case $1 in
	fetchmail)
		fetchmail_rc \
		    "poll mail.kpopd.test proto POP3 service $port auth gssapi" "user alice sslcertfile $WORLD/tls/ca.pem"
		;;
	mpop) timeout 20 mpop --host=mail.kpopd.test --port=$port \
	    --auth=gssapi --user=alice --tls=on --tls-starttls=on \
	    --tls-trust-file="$WORLD/tls/ca.pem" --keep=off \
	    --uidls-file="$WORLD/ids" --delivery=mbox,"$WORLD/got" \
	    --received-header=off ;;
	curl) timeout 20 curl -sS --ssl-reqd --cacert "$WORLD/tls/ca.pem" \
	    --login-options AUTH=GSSAPI -u alice@KPOPD.TEST: \
	    "pop3://mail.kpopd.test:$port/1" >>"$WORLD/got" ;;
	mutt | neomutt) save_all $1 ssl_force_tls=yes ;;
	kpopc) printf '%s\r\n' "USER alice" "PASS x" "RETR 1" QUIT |
	    kpopc -p --tls -C "$WORLD/tls/ca.pem" mail.kpopd.test $port \
		>>"$WORLD/got" ;;
	esac >/dev/null 2>&1
}

@test "TLS cannot be taken off the clients of this table: neither by removing STLS nor by another one's TLS" {
	for client in fetchmail mpop curl mutt neomutt kpopc; do
		# The very command gets mail where nobody is in the middle.
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
		in_the_middle 2110
		fetch_by $client || true
		kill "$middle"
		pkill -x openssl || true
		await 5 '! ss -Hltn sport = 2110 | grep -q . && ! pgrep -x kpopd >/dev/null'
		log_lines | grep -q 'refused ' ||
		    { echo "$client did not come"; return 1; }
		log_lacks ' login ' || { echo "$client"; return 1; }
		spool_is alice one
	done
}

@test "what takes no layer and no TLS is read by somebody in the middle: fetchmail with sslproto '', mpop with tls off" {
	port=2110
	for client in fetchmail mpop; do
		in_the_middle 2110
		mbox one two | store alice
		rm -f "$WORLD/ids"
		log_mark
		case $client in
		fetchmail)
			fetchmail_rc "poll mail.kpopd.test proto POP3 service 2110 auth gssapi" "user alice sslproto ''"
			;;
		mpop) timeout 20 mpop --host=mail.kpopd.test --port=2110 \
		    --auth=gssapi --user=alice --tls=off --keep=off \
		    --uidls-file="$WORLD/ids" --delivery=mbox,"$WORLD/got" \
		    --received-header=off ;;
		esac
		log_has 'login .*layer=tls '
		grep -aq 'one line 1' "$WORLD/seen.back"
		kill "$middle"
		await 5 '! ss -Hltn sport = 2110 | grep -q .'
	done
}
