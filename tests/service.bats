#!/usr/bin/env bats
# Checks the service's keys: which names kpopd accepts in the keytab and in -s,
# and which encryption types it logs.

load helpers/all

setup_file() {
	cp /etc/krb5.conf "$WORLD/krb5.conf.before"
	# MIT Kerberos issues and accepts RC4 only with these options. The KDC
	# of tests/world runs without these options, so this file starts its own
	# KDC.
	sed -i -e '/^\[libdefaults\]/{
		a \	allow_rc4 = true
		a \	allow_weak_crypto = true
	}' -e 's/127\.0\.0\.1:88$/127.0.0.1:8088/' /etc/krb5.conf
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

# serve_keys [KPOPD-OPTION ...]: starts a server with some.keytab.
serve_keys() {
	server_configure "$@"
	sed -i "s,$WORLD/server.keytab,$WORLD/some.keytab," "$WORLD/xinetd.conf"
	xinetd_run
}

# add_service NAME KEY SESSION: adds the principal NAME with a key of the
# encryption type KEY to the realm and to some.keytab. Lets the KDC issue
# session keys of the type SESSION.
add_service() {
	admin "addprinc -randkey $1"
	admin "ktadd -k $WORLD/some.keytab -e $2:normal $1"
	admin "setstr $1 session_enctypes $3"
}

# talk SERVICE [KPOPC-OPTION ...]: runs a session of alice with a ticket for
# SERVICE, and prints the answers.
talk() {
	printf '%s\r\n' "USER alice" "PASS x" STAT QUIT |
	    kpopc -s "$1" "${@:2}" mail.kpopd.test 1109 | tr -d '\r'
	return "${PIPESTATUS[1]}"
}

rc4=arcfour-hmac
aes=aes256-cts-hmac-sha1-96
other=aes128-cts-hmac-sha256-128

# answers_no_key: connects. Returns true if the server answers that it has no
# key.
answers_no_key() {
	run wire </dev/null
	[[ $output == "-ERR [SYS/PERM] the server has no Kerberos key"* ]] ||
	    { echo "$name: $output"; return 1; }
}

@test "kpopd logs the encryption types of ticket and session key, for KPOP and for AUTH GSSAPI" {
	local type how
	add_service pop/rc4.kpopd.test $rc4 $aes
	add_service pop/aes.kpopd.test $aes $rc4
	add_service pop/new.kpopd.test $other $aes
	add_service pop/both.kpopd.test $rc4 $rc4
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

@test "kpopd accepts tickets for POP/ and POP3/ in upper and lower case, by KPOP and by AUTH GSSAPI" {
	local how name
	for name in POP Pop POP3 pOp3; do
		add_service $name/mail.kpopd.test $aes $aes
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
	# kpopd does not accept longer or shorter names.
	for name in POPS PO IMAP POP3S HOST; do
		rm -f "$WORLD/some.keytab"
		add_service $name/mail.kpopd.test $aes $aes
		serve_keys
		answers_no_key
		log_has 'failed .*what="reading the keytab [^"]+" error="it has no key for pop/HOST or pop3/HOST"$'
		server_stop
	done
}

@test "kpopd with -s accepts tickets for exactly this principal, even if other principals differ from it only in case" {
	local how name
	for name in POP pop Pop3; do
		add_service $name/two.kpopd.test $aes $aes
	done
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
						echo "-s $name, $other: $output"
						return 1
					}
				fi
			done
			server_stop
		done
	done
}

@test "kpopd accepts tickets for pop/ with a key that the keytab names POP/, as Active Directory's tools do" {
	# Active Directory's KDC issues tickets for names in upper or lower
	# case. MIT's KDC does not, so the test changes the name in the keytab
	# instead.
	perl -0777 -pe 's/\x00\x03pop\x00/\x00\x03POP\x00/g' \
	    "$WORLD/server.keytab" >"$WORLD/some.keytab"
	klist -k "$WORLD/some.keytab" | grep -q ' POP/mail\.kpopd\.test@'
	klist -k "$WORLD/some.keytab" | refute grep ' pop/'
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

@test "the log distinguishes a keytab without the principal of -s from a -s that names no POP service" {
	local name
	cp "$WORLD/server.keytab" "$WORLD/some.keytab"
	for name in pop/elsewhere.test POP/mail.kpopd.test \
	    pop/mail.kpopd.test@OTHER.TEST pop3/MAIL.kpopd.test; do
		serve_keys -s $name
		answers_no_key
		log_has "failed .*what=\"reading the keytab [^\"]+\" error=\"it has no key for $name(@KPOPD.TEST)?, the principal of -s\"\$"
		server_stop
	done
	# The keytab contains keys of some of these principals.
	for name in host/mail.kpopd.test HOST/mail.kpopd.test \
	    imap/mail.kpopd.test pop pop/mail.kpopd.test/x \
	    popx/mail.kpopd.test; do
		serve_keys -s $name
		answers_no_key
		log_has "failed .*what=\"parsing the principal of -s\" error=\"neither pop/HOST nor pop3/HOST: $name\"\$"
		server_stop
	done
}
