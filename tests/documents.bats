#!/usr/bin/env bats
# Checks that each command in README.md, docs/ and the manuals works as it is
# written there.
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
	cp -a "$root/etc/xinetd.d" "$WORLD/xinetd.d"
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
	cp -a "$WORLD"/xinetd.d/* "$root/etc/xinetd.d/"
	rm -rf "$root"/home/alice/* "$root"/home/alice/.[fkm]*
}

# block FILE LINE: prints the block of a document that begins with this line,
# with the names of the tests. Notes in $WORLD/ran that the block was run.
block() {
	local text
	text=$("$top/tests/programs/document-blocks.py" "$top/$1" "$2")
	printf '%s\t%s\n' "$1" "${text%%$'\n'*}" >>"$WORLD/ran"
	sed -e 's/mail\.example\.org/mail.kpopd.test/g' \
	    -e 's/EXAMPLE\.ORG/KPOPD.TEST/g' <<<"$text"
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

# journal_has PATTERN: waits up to twenty seconds until kpopd has logged a line
# that matches the pattern (basic).
journal_has() {
	await 20 "inside journalctl -q -t kpopd -o cat | grep -q '$1'"
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
	block README.md "printf '%s\\n' 'keytab" | as_root
}

# fetch: runs the steps of README.md of a client. The certificate need not be
# copied, because the client is this machine.
fetch() {
	sed -i '/1109/d' "$root/etc/services"
	chmod 644 "$root/etc/ssl/certs/kpopd.pem"
	install -o alice -m 600 "$WORLD/keytabs/alice.keytab" \
	    "$root/home/alice/.key"
	block README.md "apt install fetchmail" | sed /^apt/d | as_root
	block README.md "touch ~/.fetchmailrc" | as_alice
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
	journal_has '^login .*layer=tls'
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
	block README.md 'mda "procmail' >>"$root/home/alice/.fetchmailrc"
	# The lines of crontab, as cron runs them.
	block README.md "KRB5CCNAME=FILE:.mail.ccache" >"$WORLD/crontab"
	[ "$(wc -l <"$WORLD/crontab")" -eq 2 ]
	sed -e '1s/^/export /' -e '2s,^\*/10 \* \* \* \* ,,' \
	    "$WORLD/crontab" | as_alice
	[ "$(grep -c '^Subject:' "$root/home/alice/mbox")" -eq 2 ]
	# Each message has the line that begins it in an mbox.
	[ "$(grep -c '^From ' "$root/home/alice/mbox")" -eq 2 ]
	[ ! -s "$root/var/mail/alice" ]
	journal_has '^login .*principal=alice/cron@KPOPD.TEST .*by=k5login'
}

@test "the commands of docs/ADMIN.md work: another name, new keys, the log, recovery" {
	prepare
	block README.md "systemctl enable --now kpopd.socket" | as_root
	block docs/ADMIN.md "kadmin -q 'addprinc -randkey pop/pop" | as_kadmin
	klist -k "$root/etc/kpopd.keytab" | grep pop/pop.example.org
	block docs/ADMIN.md "kadmin -q 'addprinc -randkey pop/a" | as_kadmin
	klist -k "$root/etc/kpopd.keytab" | grep pop/a.example.org
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
	journal_has '^refused .*user=bob'
	# Some hosts have the log in a file.
	inside sh -c 'journalctl -q -t kpopd >/var/log/mail.log'
	[ "$(block docs/ADMIN.md "journalctl -t kpopd" | as_root |
	    grep -c ' refused .*user=bob')" -eq 2 ]
	block docs/ADMIN.md "kpopd --recover" | as_root
}

@test "the commands of docs/ADMIN.md keep the ids of another server, and take them to another host" {
	local first name
	prepare
	{
		echo "kpopd uidl list 1"
		for name in one two; do
			make_message $name |
			    "$KPOPD_BUILD/tests/programs/uidl-list" "old-$name"
		done
		echo "end 2"
	} >"$root/root/alice.list"
	{
		echo cd /root
		block docs/ADMIN.md "kpopd --uidl-report"
		block kpopd.8 "kpopd --import-uidl"
		block docs/ADMIN.md "for list"
	} | as_root >"$WORLD/output"
	[ "$(grep -cx 'alice: with an id of the other server: 2 of 2 messages' \
	    "$WORLD/output")" -eq 4 ]
	block docs/ADMIN.md "cd /var/lib/kpopd" | as_root
	rm -r "$root/var/lib/kpopd"
	block docs/ADMIN.md "mkdir -p /var/lib/kpopd" | as_root
	block README.md "systemctl enable --now kpopd.socket" | as_root
	realm_login alice
	printf '%s\r\n' "USER alice" "PASS x" UIDL QUIT |
	    kpopc mail.kpopd.test | tr -d '\r' >"$WORLD/output"
	grep -x '1 old-one' "$WORLD/output"
	grep -x '2 old-two' "$WORLD/output"
}

# started_for_alice: runs the steps of README.md for a server with systemd, and
# gives alice a ticket. She trusts the certificate.
started_for_alice() {
	prepare
	block README.md "systemctl enable --now kpopd.socket" | as_root
	chmod 644 "$root/etc/ssl/certs/kpopd.pem"
	install -o alice -m 600 "$WORLD/keytabs/alice.keytab" \
	    "$root/home/alice/.key"
	install -o alice -m 600 "$WORLD/keytabs/alice.keytab" \
	    "$root/home/alice/.mail.keytab"
	{
		echo 'kinit alice'
		echo 'export SSL_CERT_FILE=/etc/ssl/certs/kpopd.pem'
	} >"$WORLD/prelude"
}

# with_ticket: runs the commands that it reads as alice, with a ticket.
with_ticket() {
	cat "$WORLD/prelude" - | as_alice
}

# fetchmail_with: fetches alice's mail by the configuration that it reads.
fetchmail_with() {
	rm -f "$root/home/alice/fetched"
	{
		sed 's/HOST/mail.kpopd.test/'
		echo 'mda "cat >>fetched"'
	} >"$root/home/alice/.fetchmailrc"
	chown alice "$root/home/alice/.fetchmailrc"
	chmod 600 "$root/home/alice/.fetchmailrc"
	with_ticket <<<'fetchmail --all --keep --nodetach'
	[ "$(grep -c '^Subject:' "$root/home/alice/fetched")" -eq 2 ]
}

@test "the examples with kpopc as a tunnel fetch mail: by hand, from a file, with fetchmail and with mutt" {
	started_for_alice
	block kpopc.1 '$ kinit alice' >"$WORLD/example"
	# The server's lines are those that the manual has, and QUIT's.
	sed -n '/^[A-Z]/p' "$WORLD/example" >"$root/home/alice/dialogue"
	sed -n 's/^\$ //p' "$WORLD/example" | sed '$s,$, <dialogue,' |
	    with_ticket >"$WORLD/output"
	grep '^+OK' "$WORLD/example" | sed 's/ 3 / 2 /' |
	    diff - <(tr -d '\r' <"$WORLD/output" | sed '$d')
	block kpopc.1 'kpopc -k $HOME/.mail.keytab' | as_alice |
	    grep '^+OK 2 messages'
	block kpopc.1 'poll mail.example.org proto POP3 plugin' |
	    fetchmail_with
	block docs/CLIENTS.md 'poll HOST proto POP3 plugin' | fetchmail_with
	sed -i '/1109/d' "$root/etc/services"
	block docs/CLIENTS.md 'kpop 1109/tcp' >>"$root/etc/services"
	local logins before
	logins="inside journalctl -q -t kpopd -o cat |
	    grep -c '^login .*layer=tls'"
	before=$(eval "$logins" || :)
	echo 'poll HOST proto KPOP auth kerberos_v5 user alice' |
	    fetchmail_with
	await 20 "[ \$($logins) -gt $before ]"
	# The container has no terminals, so mutt runs outside.
	realm_login alice
	install -o alice -m 600 "$WORLD/ccache" /home/alice/ccache
	{
		block kpopc.1 'set tunnel=' |
		    sed "s,kpopc ,$KPOPD_BUILD/&,"
		printf '%s\n' 'set folder=/home/alice header_cache=' \
		    'push "<tag-pattern>~A<enter><tag-prefix><copy-message>/home/alice/mutt-got<enter>y<quit>"'
	} >/home/alice/.muttrc
	as alice timeout 20 env TERM=xterm script -qefc \
	    "stty rows 24 cols 80; mutt -n" /dev/null </dev/null \
	    >"$WORLD/screen" 2>&1 3>&- || true
	[ "$(grep -c '^Subject: \(one\|two\)$' /home/alice/mutt-got)" -eq 2 ] ||
	    { cat "$WORLD/screen"; return 1; }
}

@test "each example with kpopc --listen serves the example for Python's poplib" {
	local first
	started_for_alice
	block kpopc.1 'import poplib' >"$root/home/alice/.my-poplib.py"
	for first in 'docs/CLIENTS.md:kpopc --listen 2110' \
	    'kpopc.1:kpopc --listen 2110 mail.example.org <' \
	    'kpopc.1:kpopc --listen 2110 mail.example.org'; do
		{
			# The one for ~/.profile ends with "&".
			block "${first%%:*}" "${first#*:}" |
			    sed 's,[^&]$,& 2>/dev/null \&,'
			cat <<-'END'
			trap 'kill %1; wait' EXIT
			until ss -Hltn sport = 2110 | grep -q .; do
				sleep 0.1
			done
			python3 .my-poplib.py
			END
		} | with_ticket | grep '^(2, '
	done
}

@test "the examples of kpopd(8) for xinetd serve clients, and those of --check and kpopd-tls(8) work" {
	[ -x "$root/usr/sbin/xinetd" ]
	started_for_alice
	for page in kpopd.8 kpopd-check.8; do
		block $page 'kpopd --check alice' | as_root
	done
	block kpopd.8 'kpopd --recover' | as_root
	chmod 666 "$root/etc/kpopd.conf"
	block kpopd.8 'kpopd --check --json' | as_root >"$WORLD/output"
	chmod 644 "$root/etc/kpopd.conf"
	python3 "$top/tests/programs/json-lines.py" <"$WORLD/output"
	grep '"chmod go-w\|/etc/kpopd.conf' "$WORLD/output"
	for first in /usr/libexec/kpopd-tls 'kpopd --check -c new.pem'; do
		{
			echo 'cd /root'
			echo 'cp /etc/ssl/certs/kpopd.pem new.pem'
			echo 'cp /etc/ssl/private/kpopd.key new.key'
			block kpopd-tls.8 "$first"
		} | as_root >"$WORLD/output"
		grep 'it works\|^ok    tls-key new.key' "$WORLD/output"
	done
	inside systemctl stop kpopd.socket kpopd.service
	# The attributes of the second service, and then of a listener.
	block kpopd.8 $'disable\t\t= no' | sed 's/[[:space:]].*//' |
	    while read -r attribute; do
		sed -i "/^[[:space:]]*$attribute[[:space:]]/d" \
		    "$root/etc/xinetd.d/pop3-gssapi"
	done
	block kpopd.8 $'disable\t\t= no' |
	    sed -i '/^{/r /dev/stdin' "$root/etc/xinetd.d/pop3-gssapi"
	inside systemctl restart xinetd
	await 10 "inside ss -Hltn 'sport = 110' | grep -q ."
	# The listener of systemd is no longer enabled.
	inside systemctl disable -q kpopd.socket
	block kpopd.8 'kpopd --check -p -T require' | as_root |
	    grep '^ok    port 110: xinetd '
	printf '%s\r\n' "USER alice" "PASS x" QUIT \
	    >"$root/home/alice/dialogue"
	with_ticket <<<'kpopc -p --tls mail.kpopd.test <dialogue' |
	    grep '^+OK 2 messages'
	with_ticket <<<'kpopc -p mail.kpopd.test <dialogue 2>&1 || :' |
	    grep 'TLS'
	block kpopd.8 'service kpop' >"$root/etc/xinetd.d/kpop"
	inside systemctl restart xinetd
	await 10 "inside ss -Hltn 'sport = 1109' | grep -q ."
	with_ticket <<<'kpopc --tls mail.kpopd.test <dialogue' |
	    grep '^+OK 2 messages'
}

@test "the examples of kpopd.conf(5) and the lines for proxies have no mistake, and do what they say" {
	local first
	started_for_alice
	cp "$root/etc/kpopd.conf" "$WORLD/kept"
	for first in 'keytab /etc/kpopd.keytab' 'realms ' \
	    "# The service's own"; do
		block kpopd.conf.5 "$first" |
		    sed -e 's,/etc/ssl/mail.pem,/etc/ssl/certs/kpopd.pem,' \
			-e 's,/mail.key,/kpopd.key,' \
			>"$root/etc/kpopd.conf.new"
		block kpopd.conf.5 'kpopd --check -f' | as_root \
		    >"$WORLD/output" || :
		grep "^ok    options .*new: has no mistake" \
		    "$WORLD/output"
	done
	# With "tls require" a client without TLS gets no mail.
	block kpopd.conf.5 'keytab /etc/kpopd.keytab' \
	    >"$root/etc/kpopd.conf"
	inside systemctl reload-or-restart kpopd.service
	printf '%s\r\n' "USER alice" "PASS x" QUIT \
	    >"$root/home/alice/dialogue"
	with_ticket <<<'kpopc --tls mail.kpopd.test <dialogue' |
	    grep '^+OK 0 messages'
	with_ticket <<<'kpopc mail.kpopd.test <dialogue || :' |
	    refute grep '^+OK . messages'
	# An address that is not named may not send a header, and must not.
	{ cat "$WORLD/kept"; block docs/ADMIN.md proxies; } |
	    sed 's/192\.0\.2\.10/127.0.0.1/' >"$root/etc/kpopd.conf"
	inside systemctl reload-or-restart kpopd.service
	with_ticket <<<'kpopc -4 mail.kpopd.test <dialogue || :' |
	    refute grep '^+OK . messages'
	journal_has 'refused .*reason="PROXY header: missing"'
	with_ticket <<<'kpopc -6 mail.kpopd.test <dialogue' |
	    grep '^+OK 2 messages'
}

@test "the rule of docs/ADMIN.md lets in the principals of another realm, and its command removes a user's state" {
	local uid
	started_for_alice
	realm_other_start
	inside useradd --create-home eve
	cp "$root/etc/krb5.conf" "$WORLD/kept"
	{
		cat /etc/krb5.conf
		block docs/ADMIN.md '[realms]' |
		    sed 's/PARTNER\\\.EXAMPLE/OTHER\\.TEST/'
	} >"$root/etc/krb5.conf"
	inside systemctl stop kpopd.service
	realm_login eve@OTHER.TEST
	printf '%s\r\n' "USER eve" "PASS x" QUIT |
	    kpopc mail.kpopd.test | grep '^+OK 0 messages'
	# The second rule is the default for the server's own realm.
	realm_login alice
	printf '%s\r\n' "USER alice" "PASS x" QUIT |
	    kpopc mail.kpopd.test | grep '^+OK 2 messages'
	cp "$WORLD/kept" "$root/etc/krb5.conf"
	uid=$(id -u alice)
	inside test -d "/var/lib/kpopd/users/$uid"
	# The state of a uid that begins with the same digits stays.
	inside mkdir "/var/lib/kpopd/users/${uid}0"
	block docs/ADMIN.md 'rm -rf' | sed "s/1042/$uid/g" | as_root
	[ "$(inside sh -c "ls -d /var/lib/kpopd/users/$uid*")" = \
	    "/var/lib/kpopd/users/${uid}0" ]
	printf '%s\r\n' "USER alice" "PASS x" QUIT |
	    kpopc mail.kpopd.test | grep '^+OK 2 messages'
}

@test "the lines of README.md for inetd are those of the package, and docs/PACKAGING.md makes the users" {
	# package-cycle serves clients with the lines of the package.
	block README.md 'for ip in' | sed /^systemctl/d | as_root
	[ "$(wc -l <"$root/etc/inetd.conf")" -eq 2 ]
	while read -r line; do
		grep -F "    $line" "$top/debian/kpopd.README.Debian"
	done <"$root/etc/inetd.conf"
	rm "$root/etc/inetd.conf"
	inside userdel kpopd
	inside userdel kpopd-tls
	block docs/PACKAGING.md 'for user in' | as_root
	[ "$(inside id -u kpopd)" -lt 1000 ]
	[ "$(inside id -u kpopd-tls)" -lt 1000 ]
}

# Which test runs each block of the documents: "here" (this file), another file
# and its test, or a target of make. "not" comes before the reason why none
# does.
blocks() {
	cat <<'END'
README.md|apt install ./kpopd_*.deb|make package-cycle
README.md|kadmin -q 'addprinc -randkey pop/mail|here
README.md|openssl req|here
README.md|printf '%s\n' 'keytab|here
README.md|systemctl enable --now kpopd.socket|here
README.md|apt install xinetd|here
README.md|for ip in tcp tcp6|here
README.md|kpopd --check alice|here
README.md|ufw allow|packages.bats|the profiles of AppArmor and ufw
README.md|apt install fetchmail|here
README.md|touch ~/.fetchmailrc|here
README.md|kadmin -q 'addprinc -randkey alice/cron'|here
README.md|printf '%s\n' alice@EXAMPLE.ORG|here
README.md|mda "procmail|here
README.md|KRB5CCNAME=FILE:.mail.ccache|here
README.md|./demo|not|these two run the tests themselves
docs/ADMIN.md|[realms]|here
docs/ADMIN.md|# alice's job|here
docs/ADMIN.md|kpopd --check --access|here
docs/ADMIN.md|kadmin -q 'addprinc -randkey pop/pop|here
docs/ADMIN.md|kadmin -q 'addprinc -randkey pop/a|here
docs/ADMIN.md|chown nobody|not|no file system of the container is shared
docs/ADMIN.md|proxies|here
docs/ADMIN.md|gluster peer probe|hosts.bats|each of two hosts serves a mailbox on GlusterFS
docs/ADMIN.md|gluster volume create|hosts.bats|each of two hosts serves a mailbox on GlusterFS
docs/ADMIN.md|mkdir -p /srv/mail|hosts.bats|each of two hosts serves a mailbox on GlusterFS
docs/ADMIN.md|gluster volume clear-locks|not|nothing can cause the fault on purpose
docs/ADMIN.md|gluster volume clear-locks|not|nothing can cause the fault on purpose
docs/ADMIN.md|kadmin -q 'ktadd|here
docs/ADMIN.md|kadmin -q 'ktremove|here
docs/ADMIN.md|setspn|not|no Active Directory can be installed here
docs/ADMIN.md|login peer=|login.bats|and kpopd logs the user
docs/ADMIN.md|journalctl|here
docs/ADMIN.md|mail_location = mbox|dovecot.bats|with the documented locks
docs/ADMIN.md|mail_driver = mbox|dovecot.bats|with the documented locks
docs/ADMIN.md|mail_location = maildir|dovecot.bats|one Maildir
docs/ADMIN.md|mail_driver = maildir|dovecot.bats|one Maildir
docs/ADMIN.md|kpopd --recover|here
docs/ADMIN.md|cd /var/lib/kpopd|here
docs/ADMIN.md|mkdir -p /var/lib/kpopd|here
docs/ADMIN.md|uidl dovecot|uidl-servers.bats|Dovecot's messages in an mbox keep their
docs/ADMIN.md|kpopc --uidl-map|not|no other server runs in the container
docs/ADMIN.md|kpopd --uidl-report|here
docs/ADMIN.md|for list|here
docs/ADMIN.md|for user in $(cat|map.bats|the examples of kpopc(1)
docs/ADMIN.md|rm -rf|here
docs/CLIENTS.md|kpop 1109/tcp|here
docs/CLIENTS.md|poll HOST proto POP3 plugin|here
docs/CLIENTS.md|kpopc --listen 2110|here
docs/CLIENTS.md|systemctl --user|systemd.bats|a user's systemd keeps the port
docs/PACKAGING.md|autoreconf|run-tests|make distcheck
docs/PACKAGING.md|for user in|here
docs/PACKAGING.md|apt install build-essential|make package-cycle
kpopd.8|service kpop|here
kpopd.8|kt:2345:respawn|not|only init of System V reads it; keep.bats runs it
kpopd.8|[Service]|systemd.bats|may be credentials
kpopd.8|kpopd uidl list 1|uidl.bats|the ids of an imported list
kpopd.8|tail -c +4097|update.bats|was rewritten meanwhile, and keeps
kpopd.8|kpopd --check alice|here
kpopd.8|kpopd --check -p -T require|here
kpopd.8|kpopd --check --json|here
kpopd.8|kpopd --import-uidl|here
kpopd.8|kpopd --recover|here
kpopd.8|disable|here
kpopd.conf.5|# The service's own keytab, and TLS.|here
kpopd.conf.5|keytab /etc/kpopd.keytab|here
kpopd.conf.5|realms|here
kpopd.conf.5|kpopd --check -f|here
kpopd.conf.5|fatal error=|config.bats|each mistake in the file
kpopd.access.5|Ar principal user right|not|it is the form of a line
kpopd.access.5|alice/cron@EXAMPLE.ORG|here
kpopd.access.5|carol@EXAMPLE.ORG|here
kpopd.access.5|monitor/host|here
kpopd.access.5|refused reason="denied|access.bats|gets in by no other rule
kpopd.access.5|refused reason="the access|access.bats|no client gets in, clients are asked
kpopd-check.8|kpopd --check alice|here
kpopd-tls.8|/usr/libexec/kpopd-tls new.pem|here
kpopd-tls.8|kpopd --check -c new.pem|here
kpopc.1|KPOP OK|probe.bats|prints one line with the mailbox
kpopc.1|KPOP CRITICAL|probe.bats|names the fault of a certificate
kpopc.1|grep ' login peer='|probe.bats|for Nagios, cron and the log
kpopc.1|systemctl --user enable|systemd.bats|a user's systemd keeps the port
kpopc.1|systemctl --user import|not|only a login session has the variable
kpopc.1|kpopc --listen 2110 mail.example.org <|here
kpopc.1|kpopd uidl list 1|map.bats|has the hashes of kpopd's own ids for 1,200
kpopc.1|$ kinit alice|here
kpopc.1|kpopc -k $HOME/.mail.keytab|here
kpopc.1|kadmin -q 'addprinc -randkey probe|probe.bats|for Nagios, cron
kpopc.1|useradd|probe.bats|for Nagios, cron and the log
kpopc.1|define command|probe.bats|for Nagios, cron and the log
kpopc.1|object CheckCommand|not|no Icinga; its command is that of Nagios
kpopc.1|kpopc --probe|probe.bats|for Nagios, cron and the log
kpopc.1|kpopc --uidl-map -k|map.bats|the examples of kpopc(1)
kpopc.1|for user in alice bob|map.bats|the examples of kpopc(1)
kpopc.1|kpopc --uidl-map --tls|map.bats|the examples of kpopc(1)
kpopc.1|kpopc --uidl-map -l alice|map.bats|the examples of kpopc(1)
kpopc.1|poll mail.example.org|here
kpopc.1|set tunnel|here
kpopc.1|kpopc --listen 2110 mail.example.org|here
kpopc.1|[retriever]|libraries.bats|getmail fetches mail
kpopc.1|import poplib|here
END
}

# is_run FILE LINE WHERE TITLE: returns true if the block with this first line
# was run here, or if the test that WHERE and TITLE name exists.
is_run() {
	local where=$3 title=$4
	case $where in
	here) grep -Fqx -- "$1"$'\t'"$2" "$WORLD/ran" ;;
	*.bats)
		grep '^@test ' "$BATS_TEST_DIRNAME/$where" |
		    grep -F -- "$title"
		;;
	run-tests) grep -F -- "$title" "$top/run-tests" ;;
	"make "*) grep -Eq "(^| )${where#make }( |:)" "$top/Makefile.am" ;;
	not) [ -n "$title" ] ;;
	*) return 1 ;;
	esac
}

@test "the examples of kpopd.access(5) and docs/ADMIN.md have no mistake" {
	local document first
	prepare
	while IFS='|' read -r document first; do
		block "$document" "$first" >"$root/etc/kpopd.access.new"
		block docs/ADMIN.md 'kpopd --check --access' | as_root \
		    >"$WORLD/output" || :
		grep '^ok    access .*new: has no mistake; [1-9]' \
		    "$WORLD/output"
	done <<-END
		docs/ADMIN.md|# alice's job
		kpopd.access.5|alice/cron@EXAMPLE.ORG
		kpopd.access.5|carol@EXAMPLE.ORG
		kpopd.access.5|monitor/host
	END
	# The lines of the example file are comments.
	sed -n 's/^#\([^ ]*@\)/\1/p' "$top/examples/kpopd.access" \
	    >"$root/etc/kpopd.access.new"
	block docs/ADMIN.md 'kpopd --check --access' | as_root \
	    >"$WORLD/output" || :
	grep '^ok    access .*new: has no mistake; 6 lines' "$WORLD/output"
}

@test "each block of commands in the documents is run by a test, or has a reason why not" {
	local file line listed first where title
	[ "$BATS_TEST_NUMBER" -gt 1 ] || skip "the other tests were not run"
	for file in README.md docs/ADMIN.md docs/CLIENTS.md \
	    docs/PACKAGING.md kpopd.8 kpopd.conf.5 kpopd.access.5 \
	    kpopd-check.8 kpopd-tls.8 kpopc.1; do
		"$top/tests/programs/document-blocks.py" "$top/$file" |
		    sed "s,^,$file\t,"
	done >"$WORLD/found"
	[ "$(wc -l <"$WORLD/found")" -eq "$(blocks | wc -l)" ]
	exec 4< <(blocks)
	while IFS=$'\t' read -r file line; do
		IFS='|' read -r listed first where title <&4
		[[ $file == "$listed" && $line == "$first"* ]] &&
		    is_run "$file" "$line" "$where" "$title" ||
		    { echo "$file: $line: $where $title"; return 1; }
	done <"$WORLD/found"
}

@test "each manual has examples" {
	local page
	for page in kpopd.8 kpopd.conf.5 kpopd.access.5 kpopd-check.8 \
	    kpopd-tls.8 kpopc.1; do
		grep '^\.Sh EXAMPLES' "$top/$page"
	done
}
