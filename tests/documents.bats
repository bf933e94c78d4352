#!/usr/bin/env bats
# Checks that each command in README.md and docs/ works as it is written there.
# A machine is booted in a container, with kpopd installed; the names of the
# host and of the realm in the documents become those of the tests.

load helpers/all
load helpers/boot

setup_file() {
	boot_obstacle
	export why
	[ -z "$why" ] || return 0
	boot_make
	# Port 1109 has no name yet, as on a fresh Debian.
	sed -i '/1109/d' "$root/etc/services"
	install -d -m 710 "$root/etc/ssl/private"
	# fetchmail asks for the name of its own machine, too.
	echo "127.0.0.1 kpopd-test" >>"$root/etc/hosts"
	realm_add alice/cron
	boot_start
	export root booter group
}

teardown_file() {
	[ -z "${booter-}" ] || boot_stop
}

setup() {
	[ -z "$why" ] || skip "$why"
	mbox one two >"$root/var/mail/alice"
	chown alice:mail "$root/var/mail/alice"
	chmod 660 "$root/var/mail/alice"
}

teardown() {
	[ -z "$why" ] || return 0
	inside systemctl stop xinetd kpopd.socket kpopd.service
	inside systemctl disable -q kpopd.socket kpopd-recover.service
	rm -f "$root"/home/alice/.[fkm]*
}

# block FILE LINE: prints the block of a document that begins with this line,
# with the names of the tests.
block() {
	"$top/tests/programs/document-blocks.py" "$top/$1" "$2" |
	    sed -e 's/mail\.example\.org/mail.kpopd.test/g' \
		-e 's/EXAMPLE\.ORG/KPOPD.TEST/g'
}

# as_root: runs the commands that it reads, in the container.
as_root() {
	inside env -i HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin \
	    bash -ec "$(cat)" </dev/null
}

# as_alice: the same as alice. Her password is not asked for, because the tests
# have her key in a keytab.
as_alice() {
	local commands
	commands=$(sed 's/^kinit alice$/kinit -k -t ~\/.key alice/')
	inside runuser -u alice -- env -i HOME=/home/alice PATH=/usr/bin:/bin \
	    bash -ec "cd; $commands" </dev/null
}

# as_kadmin: runs lines of kadmin -q, here, where the KDC's database is. Keytabs
# are those of the container.
as_kadmin() {
	sed -e 's/^kadmin /kadmin.local /' -e "s, -k /, -k $root/,g" |
	    bash -e
}

# prepare: runs the steps of README.md until kpopd has its options.
prepare() {
	rm -f "$root/etc/krb5.keytab" "$root/etc/kpopd.keytab" \
	    "$root/etc/kpopd.conf"
	block README.md "kadmin -q 'addprinc -randkey pop/mail" |
	    sed /addprinc/d | as_kadmin
	block README.md "openssl req" | as_root 2>"$WORLD/openssl.log"
	block README.md "cat >>/etc/kpopd.conf" | as_root
}

# fetch: runs the steps of README.md of a client. The certificate need not be
# copied, because the client is this machine.
fetch() {
	sed -i '/1109/d' "$root/etc/services"
	chmod 644 "$root/etc/ssl/certs/kpopd.pem"
	install -o alice -m 600 "$WORLD/keytabs/alice.keytab" \
	    "$root/home/alice/.key"
	block README.md "apt install fetchmail" | sed /^apt/d | as_root
	block README.md "install -m 600 /dev/null ~/.fetchmailrc" | as_alice
}

@test "the commands of README.md lead to fetched mail with systemd" {
	prepare
	block README.md "systemctl enable --now kpopd.socket" | as_root
	block README.md "kpopd --check alice" | as_root
	run fetch
	[[ $status -eq 0 && $output == *"Subject: one"*"Subject: two"* ]] ||
	    { echo "$output"; return 1; }
	# The mail is still there.
	grep -q '^Subject: two' "$root/var/mail/alice"
	inside journalctl -t kpopd -o cat | grep '^login .*layer=tls'
}

@test "the commands of README.md lead to fetched mail with xinetd" {
	[ -x "$root/usr/sbin/xinetd" ]
	prepare
	block README.md "apt install xinetd" | sed /^apt/d | as_root
	await 10 "inside ss -Hltn 'sport = 1109' | grep -q ."
	block README.md "kpopd --check alice" | as_root
	run fetch
	[[ $status -eq 0 && $output == *"Subject: one"*"Subject: two"* ]] ||
	    { echo "$output"; return 1; }
	inside systemctl is-enabled kpopd-recover.service
}

@test "the commands of README.md let cron fetch alice's mail by another principal, and alice herself log in" {
	prepare
	block README.md "systemctl enable --now kpopd.socket" | as_root
	block README.md "kadmin -q 'addprinc -randkey alice/cron" |
	    sed /addprinc/d >"$WORLD/steps"
	grep -v ^chown "$WORLD/steps" | as_kadmin
	grep ^chown "$WORLD/steps" | as_root
	block README.md "printf '%s\\n' alice@EXAMPLE.ORG" | as_alice
	run fetch
	[ "$status" -eq 0 ] || { echo "$output"; return 1; }
	printf 'mda "cat >>fetched"\n' >>"$root/home/alice/.fetchmailrc"
	# The lines of crontab, as cron runs them.
	block README.md "KRB5CCNAME=FILE:.mail.ccache" >"$WORLD/crontab"
	[ "$(wc -l <"$WORLD/crontab")" -eq 2 ]
	sed -e '1s/^/export /' -e '2s,^\*/10 \* \* \* \* ,,' \
	    "$WORLD/crontab" | as_alice
	[ "$(grep -c '^Subject:' "$root/home/alice/fetched")" -eq 2 ]
	inside journalctl -t kpopd -o cat |
	    grep '^login .*principal=alice/cron@KPOPD.TEST .*by=k5login'
}

@test "the commands of docs/ADMIN.md work: another name, new keys, the log, recovery" {
	prepare
	block README.md "systemctl enable --now kpopd.socket" | as_root
	block docs/ADMIN.md "kadmin -q 'addprinc -randkey pop/pop" | as_kadmin
	klist -k "$root/etc/kpopd.keytab" | grep pop/pop.example.org
	block docs/ADMIN.md "kadmin -q 'ktadd -k /etc/kpopd.keytab pop/mail" |
	    as_kadmin
	block docs/ADMIN.md "kadmin -q 'ktremove" | as_kadmin
	# Only the newest key is left, and it serves.
	[ "$(klist -k "$root/etc/kpopd.keytab" |
	    sed -n 's,^ *\([0-9]*\) pop/mail.*,\1,p' | sort -u | wc -l)" -eq 1 ]
	realm_login alice
	printf '%s\r\n' "USER alice" "PASS x" STAT QUIT |
	    kpopc mail.kpopd.test | grep '^+OK 2 '
	printf '%s\r\n' "USER bob" "PASS x" QUIT |
	    kpopc mail.kpopd.test || true
	block docs/ADMIN.md "journalctl -t kpopd" | sed 1q | as_root |
	    grep ' refused .*user=bob'
	block docs/ADMIN.md "kpopd --recover" | as_root
}

# Who runs each block of the documents: this file (here), another test, a long
# test, or nobody with the reason.
blocks() {
	cat <<'END'
README.md	apt install ./kpopd_*.deb	make package-cycle
README.md	kadmin -q 'addprinc -randkey pop/mail	here
README.md	openssl req	here
README.md	cat >>/etc/kpopd.conf	here
README.md	systemctl enable --now kpopd.socket	here
README.md	apt install xinetd	here, without apt
README.md	for ip in tcp tcp6	make package-cycle
README.md	kpopd --check alice	here
README.md	ufw allow	packages.bats: the profile of ufw
README.md	apt install fetchmail	here, without apt
README.md	install -m 600 /dev/null	here
README.md	kadmin -q 'addprinc -randkey alice/cron'	here
README.md	printf '%s\n' alice@EXAMPLE.ORG	here
README.md	KRB5CCNAME=FILE:.mail.ccache	here
README.md	./demo	this is what runs the tests
docs/ADMIN.md	auth_to_local	login.bats: rules of auth_to_local
docs/ADMIN.md	kadmin -q 'addprinc	here
docs/ADMIN.md	proxies	proxy.bats
docs/ADMIN.md	kadmin -q 'ktadd	here
docs/ADMIN.md	kadmin -q 'ktremove	here
docs/ADMIN.md	setspn	no Active Directory can be installed here
docs/ADMIN.md	login peer=	lines of the log, of all tests
docs/ADMIN.md	journalctl	here
docs/ADMIN.md	kpopd --recover	here
docs/ADMIN.md	rm -rf /var/lib/kpopd/users	accounts.bats
docs/CLIENTS.md	kpop 1109/tcp	clients.bats
docs/CLIENTS.md	poll HOST proto POP3 plugin	clients.bats
docs/CLIENTS.md	kpopc --listen 2110	listen.bats
docs/CLIENTS.md	systemctl --user	systemd.bats: the socket for users
docs/PACKAGING.md	autoreconf	run-tests: make distcheck
docs/PACKAGING.md	for user in	package-cycle, by systemd-sysusers
docs/PACKAGING.md	apt install build-essential	make package-cycle
END
}

@test "each block of commands in the documents is run by a test, or has a reason why not" {
	local file first
	for file in README.md docs/ADMIN.md docs/CLIENTS.md \
	    docs/PACKAGING.md; do
		"$top/tests/programs/document-blocks.py" "$top/$file" |
		    sed "s,^,$file\t,"
	done >"$WORLD/found"
	[ "$(wc -l <"$WORLD/found")" -eq "$(blocks | wc -l)" ]
	paste "$WORLD/found" <(blocks) |
	    while IFS=$'\t' read -r file line listed first _; do
		[[ $file == "$listed" && $line == "$first"* ]] ||
		    { echo "$file: $line"; exit 1; }
	done
}
