#!/usr/bin/env bats
# The service's keys: their names in the keytab and in -s, their encryption types and what the log says of these.

load helpers/all

setup_file() {
	cp /etc/krb5.conf "$WORLD/krb5.conf.before"
	# MIT Kerberos issues and takes RC4 only if it is told. The world's KDC has not been.
	sed -i -e 's/^\[libdefaults\]/&\n\tallow_rc4 = true\n\tallow_weak_crypto = true/' -e 's/127\.0\.0\.1:88$/127.0.0.1:8088/' /etc/krb5.conf
	sed 's/_ports = 88$/_ports = 8088/' "$KRB5_KDC_PROFILE" >"$WORLD/rc4.kdc.conf"
	KRB5_KDC_PROFILE="$WORLD/rc4.kdc.conf" krb5kdc -r KPOPD.TEST -n -P "$WORLD/rc4.kdc.pid" 3>&- >/dev/null 2>&1 &
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

# issue NAME KEY SESSION: a service NAME with a key of one encryption type in some.keytab, whose tickets have session keys of another.
issue() {
	admin "addprinc -randkey $1"
	admin "ktadd -k $WORLD/some.keytab -e $2:normal $1"
	admin "setstr $1 session_enctypes $3"
}

# talk SERVICE [kpopc option ...]: alice's session with a ticket for this service.
talk() {
	printf '%s\r\n' "USER alice" "PASS x" STAT QUIT | kpopc -s "$1" "${@:2}" mail.kpopd.test 1109 | tr -d '\r'
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
		for type in "rc4 $rc4 $aes" "aes $aes $rc4" "new $other $aes" "both $rc4 $rc4"; do
			set -- $type
			log_mark
			run talk "pop/$1.kpopd.test" $how
			[[ $output == *"+OK 2 messages"* ]] || { echo "$type: $output"; log_lines; return 1; }
			log_has "login .* service=pop/$1\\.kpopd\\.test@KPOPD\\.TEST ticket=$2 session=$3 mutual=yes "
			log_lacks enctype=
		done
		server_stop
	done
}
