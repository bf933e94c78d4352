#!/usr/bin/env bats
# Checks which of the server's names a client's ticket is for, if the name that
# the user has typed leads to another one (docs/ADMIN.md).

load helpers/all

setup_file() {
	kadmin.local -q "addprinc -randkey pop/pop.kpopd.test"
	kadmin.local -q "addprinc -randkey pop/a.kpopd.test"
	kadmin.local -q "ktadd -k $WORLD/server.keytab pop/pop.kpopd.test"
	kadmin.local -q "ktadd -k $WORLD/server.keytab pop/a.kpopd.test"
	cp /etc/hosts "$WORLD/hosts.kept"
	cp /etc/krb5.conf "$WORLD/krb5.conf.kept"
	server_start
}

setup() {
	begin_test
	realm_login alice
}

teardown_file() { server_stop; }

teardown() {
	cp "$WORLD/hosts.kept" /etc/hosts
	cp "$WORLD/krb5.conf.kept" /etc/krb5.conf
	end_test
}

# resolve NAMES SETTING ...: the lines NAMES are in /etc/hosts, and the settings
# in krb5.conf.
resolve() {
	{ printf "$1"; cat "$WORLD/hosts.kept"; } >/etc/hosts
	sed '/rdns/d' "$WORLD/krb5.conf.kept" >/etc/krb5.conf
	for setting in "${@:2}"; do
		sed -i "s/^\[libdefaults\]/&\n\t$setting/" /etc/krb5.conf
	done
}

# key_of CLIENT: prints the name for which the client gets a ticket when the
# user types pop.kpopd.test.
key_of() {
	rm -f "$WORLD/ccache"
	realm_login alice
	case $1 in
	kpopc) kpopc --probe pop.kpopd.test ;;
	kpopc-s) kpopc -s pop/pop.kpopd.test --probe pop.kpopd.test ;;
	fetchmail)
		cat >"$WORLD/fetchmailrc" <<-END
		poll pop.kpopd.test proto KPOP auth kerberos_v5 user alice
		sslproto '' keep mda true
		END
		chmod 600 "$WORLD/fetchmailrc"
		timeout 20 fetchmail -f "$WORLD/fetchmailrc" -N
		;;
	esac >"$WORLD/client.out" 2>&1 || true
	klist | sed -n 's,.*pop/\([^@]*\)@.*,\1,p' | sort -u
}

# asks_for CLIENT NAME: returns true if the client asks for NAME.kpopd.test.
asks_for() {
	[ "$(key_of "$1")" = "$2.kpopd.test" ] || {
		echo "$1: $(klist)"
		cat /etc/hosts /etc/krb5.conf "$WORLD/client.out"
		return 1
	}
}

alias='127.0.0.3 a.kpopd.test pop.kpopd.test\n'
reverse='127.0.0.3 a.kpopd.test\n127.0.0.3 pop.kpopd.test\n'
own='127.0.0.3 pop.kpopd.test\n'
canonical='dns_canonicalize_hostname ='

@test "a client asks for the key of the typed name or of the canonical one, as its krb5.conf has it" {
	local names one two by_kpopc by_fetchmail
	while read -r names one two by_kpopc by_fetchmail; do
		resolve "${!names}" "$canonical $one" "rdns = $two"
		asks_for kpopc "$by_kpopc"
		asks_for kpopc-s pop
		asks_for fetchmail "$by_fetchmail"
	done <<-END
	alias true false a a
	alias false true pop a
	alias fallback false pop a
	reverse true true a pop
	reverse true false pop pop
	own true true pop pop
	END
}
