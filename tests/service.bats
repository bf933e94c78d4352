#!/usr/bin/env bats
# The service's keys: their names in the keytab and in -s, their encryption
# types and what the log says of these.

load helpers/all

setup_file() {
	cp /etc/krb5.conf "$WORLD/krb5.conf.before"
	# MIT Kerberos issues and takes RC4 only if it is told. The world's KDC
	# has not been.
	sed \
	    -i -e 's/^\[libdefaults\]/&\n\tallow_rc4 = true\n\tallow_weak_crypto = true/' -e 's/127\.0\.0\.1:88$/127.0.0.1:8088/' /etc/krb5.conf
	sed 's/_ports = 88$/_ports = 8088/' "$KRB5_KDC_PROFILE" \
	    >"$WORLD/rc4.kdc.conf"
	KRB5_KDC_PROFILE="$WORLD/rc4.kdc.conf" krb5kdc -r KPOPD.TEST -n \
	    -P "$WORLD/rc4.kdc.pid" 3>&- >/dev/null 2>&1 &
	await 5 'ss -Hlun sport = 8088 | grep -q .'
}

teardown_file() {
	kill "$(cat "$WORLD/rc4.kdc.pid")"
	cp "$WORLD/krb5.conf.before" /etc/krb5.conf
}

setup() {
	begin_test
	realm_login alice
	mbox one two | store alice
	spool_keep
	rm -f "$WORLD/some.keytab"
}

teardown() {
	server_stop
	end_test
}

# serve_keys [kpopd option ...]: a server with some.keytab.
serve_keys() {
	server_configure "$@"
	sed -i "s,$WORLD/server.keytab,$WORLD/some.keytab," "$WORLD/xinetd.conf"
	xinetd_run
}

# issue NAME KEY SESSION: a service NAME with a key of one encryption type in
# some.keytab, whose tickets have session keys of another.
issue() {
	admin "addprinc -randkey $1"
	admin "ktadd -k $WORLD/some.keytab -e $2:normal $1"
	admin "setstr $1 session_enctypes $3"
}

# talk SERVICE [kpopc option ...]: alice's session with a ticket for this
# service.
talk() {
	printf '%s\r\n' "USER alice" "PASS x" STAT QUIT |
	    kpopc -s "$1" "${@:2}" mail.kpopd.test 1109 | tr -d '\r'
	return "${PIPESTATUS[1]}"
}

rc4=arcfour-hmac
aes=aes256-cts-hmac-sha1-96
other=aes128-cts-hmac-sha256-128

@test "the log has the ticket's encryption type and the session key's, by KPOP and by AUTH GSSAPI" {
	local type how
	issue pop/rc4.kpopd.test $rc4 $aes
	issue pop/aes.kpopd.test $aes $rc4
	issue pop/new.kpopd.test $other $aes
	issue pop/both.kpopd.test $rc4 $rc4
	for how in '' -p; do
		serve_keys $how
		for type in "rc4 $rc4 $aes" "aes $aes $rc4" "new $other $aes" \
		    "both $rc4 $rc4"; do
			set -- $type
			log_mark
			run talk "pop/$1.kpopd.test" $how
			[[ $output == *"+OK 2 messages"* ]] ||
			    { echo "$type: $output"; log_lines; return 1; }
			log_has "login .* service=pop/$1\\.kpopd\\.test@KPOPD\\.TEST ticket=$2 session=$3 .*mutual=yes "
			log_lacks enctype=
		done
		server_stop
	done
}

@test "keys of POP/ and POP3/, in letters of either case, are keys of ours, by KPOP and by AUTH GSSAPI" {
	local how name
	for name in POP Pop POP3 pOp3; do
		issue $name/mail.kpopd.test $aes $aes
	done
	for how in '' -p; do
		serve_keys $how
		for name in POP Pop POP3 pOp3; do
			run talk $name/mail.kpopd.test $how
			[[ $output == *"+OK 2 messages"* ]] ||
			    { echo "$how $name: $output"; log_lines; return 1; }
			log_has "login .* service=$name/mail\\.kpopd\\.test@KPOPD\\.TEST "
		done
		server_stop
	done
	# Nothing longer or shorter is.
	for name in POPS PO IMAP POP3S HOST; do
		rm -f "$WORLD/some.keytab"
		issue $name/mail.kpopd.test $aes $aes
		serve_keys
		run wire </dev/null
		[[ $output == \
		    "-ERR [SYS/PERM] the server has no Kerberos key"* ]] ||
		    { echo "$name: $output"; return 1; }
		log_has 'failed .*what="reading the keytab [^"]+" error="it has no key for pop/HOST or pop3/HOST"$'
		server_stop
	done
}

@test "-s POP/... is obeyed: of keys whose names differ in case alone it takes the one that it names" {
	local how name
	for name in POP pop Pop3; do issue $name/two.kpopd.test $aes $aes; done
	for how in '' -p; do
		for name in POP pop Pop3; do
			serve_keys $how -s $name/two.kpopd.test
			for other in POP pop Pop3; do
				run talk $other/two.kpopd.test $how
				if [ $other = $name ]; then
					[[ $output == *"+OK 2 messages"* ]] || {
						echo "$how -s $name: $output"
						log_lines
						return 1
					}
				else
					[[ $output != *"messages"* ]] || {
						echo "$how -s $name, $other: $output"
						return 1
					}
				fi
			done
			server_stop
		done
	done
}

@test "stock clients ask for pop/, and the keytab has that key as POP/, as Active Directory's tools write it" {
	# The KDC of Active Directory takes any case for the same service; here
	# the keytab is rewritten.
	perl -0777 -pe 's/\x00\x03pop\x00/\x00\x03POP\x00/g' \
	    "$WORLD/server.keytab" >"$WORLD/some.keytab"
	klist -k "$WORLD/some.keytab" | grep -q ' POP/mail\.kpopd\.test@'
	if klist -k "$WORLD/some.keytab" | grep -q ' pop/'; then return 1; fi
	serve_keys
	cat >"$WORLD/fetchmailrc" <<-END
	poll mail.kpopd.test proto KPOP auth kerberos_v5 user "alice" sslproto '' keep mda "cat >>$WORLD/fetched"
	END
	chmod 600 "$WORLD/fetchmailrc"
	rm -f "$WORLD/fetched"
	run fetchmail --nodetach --nosyslog -f "$WORLD/fetchmailrc" \
	    -i "$WORLD/fetchids" --pidfile "$WORLD/fetchmail.pid"
	[ "$status" -eq 0 ] || { echo "$output"; log_lines; return 1; }
	grep -q 'two line 3' "$WORLD/fetched"
	log_has 'login .* service=POP/mail\.kpopd\.test@KPOPD\.TEST '
	run pop alice QUIT
	[[ $output == *"+OK 2 messages"* ]]
	server_stop
	serve_keys -p -s POP/mail.kpopd.test
	log_mark
	run curl -sS --login-options AUTH=GSSAPI -u alice@KPOPD.TEST: \
	    pop3://mail.kpopd.test:1109/2
	[[ $output == *"two line 3"* ]] ||
	    { echo "$output"; log_lines; return 1; }
	log_has 'login .* service=POP/mail\.kpopd\.test@KPOPD\.TEST '
}

@test "what the log says of -s is true: no such key, or no service of ours" {
	local name
	cp "$WORLD/server.keytab" "$WORLD/some.keytab"
	for name in pop/elsewhere.test POP/mail.kpopd.test \
	    pop/mail.kpopd.test@OTHER.TEST pop3/MAIL.kpopd.test; do
		serve_keys -s $name
		run wire </dev/null
		[[ $output == \
		    "-ERR [SYS/PERM] the server has no Kerberos key"* ]] ||
		    { echo "$name: $output"; return 1; }
		log_has "failed .*what=\"reading the keytab [^\"]+\" error=\"it has no key for $name(@KPOPD.TEST)?, the principal of -s\"\$"
		server_stop
	done
	# Some of these have keys in it.
	for name in host/mail.kpopd.test HOST/mail.kpopd.test \
	    imap/mail.kpopd.test pop pop/mail.kpopd.test/x \
	    popx/mail.kpopd.test; do
		serve_keys -s $name
		run wire </dev/null
		[[ $output == \
		    "-ERR [SYS/PERM] the server has no Kerberos key"* ]] ||
		    { echo "$name: $output"; return 1; }
		log_has "failed .*what=\"parsing the principal of -s\" error=\"neither pop/HOST nor pop3/HOST: $name\"\$"
		server_stop
	done
}
