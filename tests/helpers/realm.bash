# Gets tickets from the realm of tests/world.

# realm_login NAME [KINIT-OPTION ...]: gets a ticket for NAME into the test's
# ccache.
realm_login() {
	local name=$1
	shift
	kinit -k -t "$WORLD/keytabs/${name/\//.}.keytab" "$@" "$name"
}

# realm_logout: removes the test's tickets.
realm_logout() {
	kdestroy -q 2>/dev/null || true
}

# admin COMMAND [OPTION ...]: runs a command of kadmin.local.
admin() {
	kadmin.local "${@:2}" -q "$1" >"$WORLD/kadmin.log" 2>&1 ||
	    { cat "$WORLD/kadmin.log" >&2; return 1; }
}

# realm_add NAME: makes a principal with its own keytab.
realm_add() {
	admin "addprinc -randkey $1"
	admin "ktadd -k $WORLD/keytabs/${1/\//.}.keytab $1"
}

# realm_other_start: makes the realm OTHER.TEST, which KPOPD.TEST trusts, with
# the principal eve. Only the first call in a world makes it.
realm_other_start() {
	local realm=OTHER.TEST
	if [ -e "$WORLD/keytabs/eve@$realm.keytab" ]; then return; fi
	kdb5_util create -r $realm -s -P throwaway >"$WORLD/kadmin.log" 2>&1
	admin "addprinc -randkey eve@$realm" -r $realm
	admin "ktadd -k $WORLD/keytabs/eve@$realm.keytab eve@$realm" -r $realm
	admin "addprinc -pw shared krbtgt/KPOPD.TEST@$realm" -r $realm
	admin "addprinc -pw shared krbtgt/KPOPD.TEST@$realm"
	krb5kdc -r $realm -n -P "$WORLD/other.pid" 3>&- 4>&- \
	    >/dev/null 2>&1 &
	await 5 'ss -Hlun sport = 10088 | grep -q .'
	cat >>/etc/krb5.conf <<-END
	[domain_realm]
		mail.kpopd.test = KPOPD.TEST
	[capaths]
		$realm = {
			KPOPD.TEST = .
		}
	END
}
