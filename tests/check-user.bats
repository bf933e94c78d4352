#!/usr/bin/env bats
# Checks that kpopd --check names what keeps a user from the mailbox, and that a
# real login is refused or served as --check reports.

load helpers/all

setup_file() {
	cp -p /etc/krb5.conf "$WORLD/krb5.conf.saved"
	cp -p /etc/shadow "$WORLD/shadow.saved"
	cp -p /etc/passwd "$WORLD/passwd.saved"
	cp -p /etc/group "$WORLD/group.saved"
	server_start
}

setup() {
	begin_test
	options=()
	realm_login alice
	mbox one | store alice
}

teardown() {
	local mounted
	for mounted in "${mounts[@]}"; do umount -l "$mounted"; done
	cp -p "$WORLD/krb5.conf.saved" /etc/krb5.conf
	cp -p "$WORLD/shadow.saved" /etc/shadow
	cp -p "$WORLD/passwd.saved" /etc/passwd
	cp -p "$WORLD/group.saved" /etc/group
	rm -rf /etc/nologin /etc/kpopd.access /etc/fstab /srv/mail \
	    /srv/k5login /home/{alice,victim}
	cp -a /etc/skel /home/alice
	chown -R alice:alice /home/alice
	chmod 755 /home/alice
	chmod 2775 /var/mail
	chown root:mail /var/mail
	end_test
}

mounts=()

# options OPTION ...: starts the server with these options; --check gets the
# same.
options() {
	options=("$@")
	server_stop
	server_start "$@"
}

# examine [USER]: runs --check for the user (alice by default). Its lines are in
# $output.
examine() {
	run "$KPOPD_BUILD/kpopd-check" --check -d "$state" \
	    -k "$WORLD/server.keytab" "${options[@]}" "${1-alice}"
	[ "$status" -le 1 ] || { echo "$output"; return 1; }
}

# says PATTERN: returns true if a line of the last --check matches the pattern
# (extended) from its beginning.
says() {
	grep -Eq -- "^$1" <<<"$output" ||
	    { echo "no line '$1' in:" >&2; echo "$output" >&2; return 1; }
}

# lacks PATTERN: returns true if no line of the last --check matches.
lacks() {
	! grep -Eq -- "^$1" <<<"$output" ||
	    { echo "a line '$1' in:" >&2; echo "$output" >&2; return 1; }
}

# opens [USER]: returns true if a login with alice's ticket opens the mailbox.
opens() {
	local answers
	answers=$(pop "${1-alice}" STAT QUIT) || :
	grep -Eq '^\+OK [0-9]+ messages' <<<"$answers"
}

# refuses_as_said PATTERN [USER]: runs --check, which must have this line, and a
# login, which must be refused.
refuses_as_said() {
	examine "${@:2}"
	[ "$status" -eq 1 ]
	says "$1"
	says 'FAIL  (account|principal|mailbox) '
	refute opens "${@:2}"
}

# serves_as_said PATTERN [USER]: runs --check, which must have this line and
# nothing that fails for this user, and a login, which must be served.
serves_as_said() {
	examine "${@:2}"
	says "$1"
	lacks 'FAIL  (account|principal|k5login|realm|localname|mailbox|user) '
	opens "${@:2}"
}

# follow KIND: runs the remedy of the line of this kind that fails, or the last
# part of the remedy.
follow() {
	eval "$(sed -n "s/^FAIL  $1 .*\(Remedy\|or\): //p" <<<"$output")"
}

# k5login LINE ...: writes alice's .k5login.
k5login() {
	printf '%s\n' "$@" >/home/alice/.k5login
	chown alice:alice /home/alice/.k5login
}

# check_logs_nothing: returns true if kpopd-check has logged nothing.
check_logs_nothing() {
	log_written
	refute grep -aE ' kpopd-check(\[[0-9]+\])?:' "$WORLD/syslog"
}

@test "kpopd --check says by which rule a user may log in, and what the mailbox is" {
	serves_as_said 'ok    principal alice@KPOPD.TEST: it may log in as alice, by auth_to_local or the default rule$'
	says "ok    account alice: uid $(id -u alice), home directory /home/alice, not expired\$"
	says 'ok    mailbox /var/mail/alice: an mbox, [0-9]+ bytes, mode 0660, owner alice$'
	says 'ok    spool /var/mail: dotlocks can be made, by the group mail$'
	lacks '(FAIL|warn)  (account|principal|k5login|mailbox|directory|spool|journal|rescue|mount) '
	check_logs_nothing
	k5login alice@KPOPD.TEST alice/admin@KPOPD.TEST
	serves_as_said 'ok    principal alice@KPOPD.TEST: it may log in as alice, because .k5login names it$'
	says 'ok    principal alice/admin@KPOPD.TEST: it may log in as alice, because .k5login names it$'
	# No USER: nothing of a user.
	run "$KPOPD_BUILD/kpopd-check" --check -d "$state"
	lacks '.*alice'
}

@test "kpopd --check makes no file, and a login after it makes the state directory" {
	rm -rf "$state/users"
	examine
	[ ! -e "$state/users" ]
	rm /var/mail/alice
	options -m maildir+create:~/Maildir
	serves_as_said 'ok    mailbox /home/alice/Maildir: there is none; the next login makes it$'
	rm -rf /home/alice/Maildir
	examine
	[ ! -e /home/alice/Maildir ]
}

@test "kpopd --check names a .k5login that names another principal only" {
	k5login bob@KPOPD.TEST carol@KPOPD.TEST
	refuses_as_said 'FAIL  k5login /home/alice/.k5login: it names only bob@KPOPD.TEST, carol@KPOPD.TEST, and so does not permit alice@KPOPD.TEST; .*Remedy: printf .%s.n. alice@KPOPD.TEST . setsid -w runuser -u alice -- tee -a /home/alice/.k5login >/dev/null$'
	says 'FAIL  principal alice@KPOPD.TEST: it may not log in as alice: '
	says 'ok    principal bob@KPOPD.TEST: it may log in as alice, because .k5login names it$'
	log_has 'refused .* user=alice '
	# The remedy helps.
	follow k5login
	serves_as_said 'ok    principal alice@KPOPD.TEST: '
	# krb5.conf may place the file elsewhere.
	sed -i 's,^\[libdefaults\],&\nk5login_directory = /srv/k5login,' \
	    /etc/krb5.conf
	mkdir -p /srv/k5login
	echo bob@KPOPD.TEST >/srv/k5login/alice
	refuses_as_said \
	    'FAIL  k5login /srv/k5login/alice: it names only bob@KPOPD.TEST, '
	follow k5login
	serves_as_said 'ok    principal alice@KPOPD.TEST: '
}

@test "kpopd --check reads a last line of .k5login without a line feed, and its remedy keeps that line" {
	printf bob@KPOPD.TEST >/home/alice/.k5login
	chown alice:alice /home/alice/.k5login
	refuses_as_said \
	    'FAIL  k5login /home/alice/.k5login: it names only bob@KPOPD.TEST, '
	says 'ok    principal bob@KPOPD.TEST: it may log in as alice, '
	lacks 'warn  k5login '
	follow k5login
	serves_as_said 'ok    principal alice@KPOPD.TEST: '
	says 'ok    principal bob@KPOPD.TEST: it may log in as alice, '
}

@test "kpopd --check names a .k5login with only an instance of the user, which does not permit the user" {
	k5login alice/admin@KPOPD.TEST
	refuses_as_said 'FAIL  k5login /home/alice/.k5login: it names only instances of the user: alice/admin@KPOPD.TEST, and so does not permit alice@KPOPD.TEST; without this file alice@KPOPD.TEST could log in\.'
	realm_login alice/admin
	opens
}

@test "kpopd --check names what is wrong with a line of .k5login" {
	k5login 'alice@KPOPD.TEST '
	refuses_as_said 'FAIL  k5login .*: no line is exactly alice@KPOPD.TEST: a blank or a carriage return follows the principal\.'
	printf 'alice@KPOPD.TEST\r\n' >/home/alice/.k5login
	refuses_as_said 'FAIL  k5login .*a carriage return follows'
	k5login alice
	refuses_as_said 'FAIL  k5login .*the realm is missing'
	says 'warn  k5login /home/alice/.k5login: not exactly NAME@REALM, so it permits no principal: line 1$'
	k5login Alice@kpopd.test
	refuses_as_said 'FAIL  k5login .*upper and lower case'
	k5login
	: >/home/alice/.k5login
	refuses_as_said 'FAIL  k5login .*it names no principal'
}

@test "kpopd --check names a .k5login that is not the user's file, or that others can write" {
	k5login alice@KPOPD.TEST
	chown bob /home/alice/.k5login
	refuses_as_said 'FAIL  k5login /home/alice/.k5login: it belongs to neither root nor the user, .*: mode 0644, owner bob\. Remedy: setsid -w runuser -u alice -- mv -bT /home/alice/.k5login /home/alice/.k5login.old </dev/null$'
	follow k5login
	serves_as_said 'ok    principal alice@KPOPD.TEST: '
	mv /home/alice/.k5login.old /home/alice/.k5login
	chown root /home/alice/.k5login
	serves_as_said \
	    'ok    principal alice@KPOPD.TEST: .*because .k5login names it$'
	chmod 000 /home/alice/.k5login
	refuses_as_said \
	    'FAIL  k5login .*: Permission denied: mode 0000, owner root'
	follow k5login
	serves_as_said 'ok    principal alice@KPOPD.TEST: '
	k5login alice@KPOPD.TEST
	chmod 666 /home/alice/.k5login
	opens
	examine
	says 'FAIL  k5login /home/alice/.k5login: other users can write it, .*Remedy: setsid -w runuser -u alice -- chmod go-w /home/alice/.k5login </dev/null$'
	follow k5login
	serves_as_said 'ok    principal alice@KPOPD.TEST: '
	# root's own file in the user's directory
	chown root /home/alice/.k5login
	chmod 666 /home/alice/.k5login
	examine
	says 'FAIL  k5login /home/alice/.k5login: other users can write it, .*, gid [0-9]+$'
	chmod 777 /home/alice
	opens
	examine
	says 'FAIL  directory /home/alice: every user can replace .k5login, because it has mode 0777, owner alice\. Remedy: chmod o-w /home/alice$'
	follow directory
	examine
	lacks '(FAIL|warn)  directory '
}

@test "kpopd --check names a home directory that a group can write, unless the group is the user's own" {
	usermod -aG carol bob
	chmod 775 /home/alice
	examine
	lacks '(FAIL|warn)  directory '
	chgrp carol /home/alice
	opens
	examine
	says "FAIL  directory /home/alice: members of the group $(id -g carol) can replace .k5login, because it has mode 0775, owner alice\. Remedy: chmod g-w /home/alice\$"
	follow directory
	examine
	lacks '(FAIL|warn)  directory '
	chown bob /home/alice
	examine
	says 'warn  directory /home/alice: its owner can replace .k5login: mode 0755, owner bob\. Remedy: chown -h alice /home/alice$'
}

@test "kpopd --check names a home directory that the user may not search" {
	chmod 000 /home/alice
	refuses_as_said 'FAIL  k5login /home/alice/.k5login: whether it exists cannot be found out, .*: /home/alice \(mode 0000, owner alice\) may not be searched by this user\. Remedy: chmod u.rwx /home/alice$'
	follow k5login
	serves_as_said 'ok    principal '
	chown root /home/alice
	chmod 700 /home/alice
	refuses_as_said 'FAIL  k5login .*/home/alice \(mode 0700, owner root\) may not be searched by this user\. Remedy: chmod o.x /home/alice$'
	# A session has no other group than the user's own, so --check has none.
	usermod -aG mail alice
	chgrp mail /home/alice
	chmod 710 /home/alice
	refuses_as_said 'FAIL  k5login .*/home/alice \(mode 0710, owner root\) may not be searched'
}

@test "kpopd --check names the realms of -r and the rule of auth_to_local that refuse a user" {
	options -r OTHER.TEST
	refuses_as_said 'FAIL  realm KPOPD.TEST: it is not one of OTHER.TEST \(-r\)\. Remedy: add the realm to realms \(-r\)$'
	options
	sed -i 's/^\t*KPOPD.TEST = {/&\nauth_to_local = RULE:[1:$1](alice)s\/alice\/bob\//' /etc/krb5.conf
	refuses_as_said 'FAIL  localname alice@KPOPD.TEST: auth_to_local and the default rule give bob, and there is no .k5login\.'
}

@test "kpopd --check ends with a sentence if krb5.conf has no default realm" {
	sed -i /default_realm/d /etc/krb5.conf
	examine
	says 'FAIL  principal: there is no default realm'
	says 'ok    account alice: '
	says 'ok    mailbox /var/mail/alice: '
}

@test "kpopd --check names the reason why an account may not log in, as the log does" {
	local name reason
	while read -r name reason; do
		log_mark
		refuses_as_said "FAIL  account $name: $reason\\." "$name"
		log_has "refused .*reason=\"$reason\" user=$name "
		lacks '.*mailbox /'
	done <<-END
	nobody-here unknown user
	daemon uid below the minimum
	END
	refuses_as_said 'FAIL  account root: uid 0$' root
	options -n 1000:1000
	usermod -u 1234 alice
	refuses_as_said 'FAIL  account alice: uid above the maximum\. Remedy: if uid 1234 is a person.s, set uids'
}

@test "kpopd --check names an expired account, and what does not keep a user out" {
	chage -E 2020-01-01 alice
	refuses_as_said 'FAIL  account alice: account expired\. Remedy: chage -l alice, then chage -E -1 alice$'
	chage -E -1 alice
	usermod -s /usr/sbin/nologin alice
	passwd -l alice
	touch /etc/nologin
	serves_as_said \
	    'ok    nologin /etc/nologin: it exists, but kpopd does not read it$'
}

@test "kpopd --check finds the account that a mail address means" {
	serves_as_said 'ok    account alice: ' alice@mail.kpopd.test
	serves_as_said 'ok    principal alice@KPOPD.TEST: ' alice@KPOPD.TEST
	refuses_as_said 'FAIL  account alice@example.org: unknown user' \
	    alice@example.org
}

@test "kpopd --check names a mailbox of another owner, a symlink, a directory, a second link and a mode" {
	chown root /var/mail/alice
	refuses_as_said 'FAIL  mailbox /var/mail/alice: .*\(/var/mail/alice: mode 0660, owner root\)\. Remedy: chown -h alice /var/mail/alice$'
	chown bob /var/mail/alice
	chmod 666 /var/mail/alice
	refuses_as_said \
	    'FAIL  mailbox /var/mail/alice: .*mode 0666, owner bob\)'
	rm /var/mail/alice
	mbox one | store bob
	ln -s bob /var/mail/alice
	refuses_as_said 'FAIL  mailbox /var/mail/alice: .*Remedy: replace the symlink /var/mail/alice by the mailbox, or '
	rm /var/mail/alice
	mkdir /var/mail/alice
	refuses_as_said 'FAIL  mailbox /var/mail/alice: .*Remedy: if it is a Maildir, set mailboxes \(-m\) to maildir:'
	rmdir /var/mail/alice
	mkfifo /var/mail/alice
	refuses_as_said 'FAIL  mailbox /var/mail/alice: .*Remedy: mv -bT /var/mail/alice /var/mail/alice.old$'
	rm /var/mail/alice
	mbox one | store alice
	ln /var/mail/alice /var/mail/other
	refuses_as_said 'FAIL  mailbox /var/mail/alice: .*more than one link.*Remedy: find / -xdev -samefile /var/mail/alice, '
	rm /var/mail/other
	chmod 040 /var/mail/alice
	refuses_as_said 'FAIL  mailbox /var/mail/alice: .*Permission denied.*Remedy: chmod u.rwX /var/mail/alice$'
	chmod 644 /var/mail/alice
	serves_as_said 'warn  mailbox /var/mail/alice: every user can read or write it: mode 0644'
	check_logs_nothing
}

@test "kpopd --check names a mailbox that is not of the format" {
	printf 'Subject: no mbox\n\ntext\n' | store alice
	refuses_as_said \
	    'FAIL  mailbox /var/mail/alice: .*does not begin with a From line'
	printf '\n\n' | store alice
	serves_as_said 'ok    mailbox /var/mail/alice: an mbox, 2 bytes'
	: | store alice
	serves_as_said 'ok    mailbox /var/mail/alice: an mbox, 0 bytes'
	rm /var/mail/alice
	serves_as_said 'ok    mailbox /var/mail/alice: there is none yet, so a login shows no mail$'
	install -d -o alice /home/alice/Maildir/{new,cur}
	serves_as_said 'warn  mailbox /var/mail/alice: .*there is /home/alice/Maildir\. Remedy: if mail is delivered there, set mailboxes \(-m\) to maildir:'
}

# has_open FILE: returns true if a process of kpopd-check has the file open.
has_open() {
	local pid fd
	for pid in $(pgrep -x kpopd-check); do
		for fd in /proc/"$pid"/fd/*; do
			[[ ! $fd -ef $1 ]] || return 0
		done
	done
	return 1
}

@test "kpopd --check waits for an MDA that writes the first message, and names an F that stays" {
	local ok='ok    mailbox /var/mail/alice: an mbox, ' waited=false
	# kpopd-check waits for three seconds. On a busy machine the rest may
	# come later, so try five times.
	for _ in 1 2 3 4 5; do
		printf F | store alice
		{ examine && says "$ok"; } 3>&- &
		examiner=$!
		await 20 'has_open /var/mail/alice ||
		    ! kill -0 "$examiner" 2>/dev/null'
		mbox one | tail -c +2 >>/var/mail/alice
		! wait "$examiner" || { waited=true; break; }
	done
	$waited
	printf F | store alice
	refuses_as_said \
	    'FAIL  mailbox /var/mail/alice: .*does not begin with a From line'
}

@test "kpopd --check names a spool directory that is absent, another user's, or writable by all" {
	options -m mbox:/srv/mail/%u
	refuses_as_said 'FAIL  mailbox /srv/mail/alice: /srv/mail: No such file or directory .*Remedy: mount its file system, or: install -d -g mail -m 2775 /srv/mail$'
	follow mailbox
	serves_as_said 'ok    mailbox /srv/mail/alice: there is none yet'
	chown nobody /srv/mail
	refuses_as_said 'FAIL  mailbox /srv/mail/alice: .*\(mode 2775, owner nobody\)\. Remedy: chown -h root /srv/mail$'
	says 'warn  directory /srv/mail: its owner can replace the mailbox: mode 2775, owner nobody'
	chown root /srv/mail
	chmod 777 /srv/mail
	refuses_as_said \
	    'FAIL  mailbox /srv/mail/alice: .*Remedy: chmod o-w /srv/mail$'
	chmod 700 /srv/mail
	refuses_as_said 'FAIL  mailbox /srv/mail/alice: /srv/mail \(mode 2700, owner root\) may not be searched by this user .*Remedy: chmod o.x /srv/mail$'
	chmod 755 /srv/mail
	serves_as_said 'warn  spool /srv/mail: no dotlock can be made: Permission denied\. Remedy: chown root:mail /srv/mail && chmod 2775 /srv/mail; or '
	options -m mbox:/srv/mail/%u -l fcntl
	examine
	lacks '.*  spool '
	# The symlink of Debian is no obstacle.
	mkdir /srv/mail/real
	chmod 1777 /srv/mail/real
	ln -s real /srv/mail/link
	options -m mbox:/srv/mail/link/%u
	serves_as_said 'warn  spool /srv/mail/real: every user may write it'
	ln -sfn nowhere /srv/mail/link
	refuses_as_said 'FAIL  mailbox /srv/mail/link/alice: /srv/mail/link is a symlink to nowhere: No such file'
}

@test "kpopd --check names a spool that is in fstab but not mounted, and one that the last login had elsewhere" {
	opens
	mkdir "$WORLD/below"
	chgrp mail "$WORLD/below"
	chmod 2775 "$WORLD/below"
	echo "disk:/mail /var/mail nfs defaults 0 0" >/etc/fstab
	examine
	lacks '.*fstab'
	mount --bind "$WORLD/below" /var/mail
	mounts=(/var/mail)
	refuses_as_said \
	    'FAIL  mailbox /var/mail/alice: .*is the file system mounted\?'
	echo "disk:/mail /home nfs defaults 0 0" >/etc/fstab
	echo "disk:/srv /srv/mail nfs defaults 0 0" >>/etc/fstab
	echo "disk:/other /srv/other nfs noauto 0 0" >>/etc/fstab
	mkdir -p /srv/{mail,other}
	options -m mbox:/srv/mail/%u
	examine
	says 'FAIL  mount /srv/mail: fstab\(5\) has a file system for it, disk:/srv, which is not mounted: .*Remedy: mount /srv/mail$'
	lacks '(FAIL|warn)  mount /(home|srv/other)'
	options -m maildir:/srv/other/%u
	examine
	says 'warn  mount /srv/other: .*noauto'
	rmdir /srv/other
	# A symlink leads there, or a symlink has the name in fstab.
	ln -s mail /srv/link
	options -m mbox:/srv/link/%u
	examine
	says 'FAIL  mount /srv/mail: '
	echo "disk:/srv /srv/link nfs defaults 0 0" >/etc/fstab
	examine
	says 'FAIL  mount /srv/link: '
	rm /srv/link
}

@test "kpopd --check names a Maildir that is missing, misspelt, incomplete or another user's" {
	options -m maildir:~/Maildir
	rm /var/mail/alice
	serves_as_said 'warn  mailbox /home/alice/Maildir: there is none, so a login shows no mail\.'
	mkdir -p /home/alice/{archive,maildir}/{new,cur,tmp}
	chown -R alice /home/alice/maildir
	serves_as_said 'warn  mailbox /home/alice/Maildir: .* but there is /home/alice/maildir\. Remedy: correct the path in mailboxes \(-m\)$'
	mv /home/alice/maildir /home/alice/Maildir
	serves_as_said 'ok    mailbox /home/alice/Maildir: a Maildir, mode 0755, owner alice$'
	rmdir /home/alice/Maildir/tmp
	serves_as_said 'warn  mailbox /home/alice/Maildir: a Maildir has new, cur and tmp, but this has no tmp\.'
	chown root /home/alice/Maildir/new
	refuses_as_said 'FAIL  mailbox /home/alice/Maildir: .*\(/home/alice/Maildir/new: mode 0755, owner root\)\. Remedy: \(cd /home/alice/Maildir/new && .*chown alice \.\)$'
	follow mailbox
	serves_as_said 'warn  mailbox /home/alice/Maildir: a Maildir has new, '
	rmdir /home/alice/Maildir/new
	ln -s cur /home/alice/Maildir/new
	refuses_as_said 'FAIL  mailbox /home/alice/Maildir: .*Remedy: replace the symlink /home/alice/Maildir/new '
	rm -r /home/alice/Maildir
	: >/home/alice/Maildir
	refuses_as_said \
	    'FAIL  mailbox /home/alice/Maildir: .*Remedy: if it is an mbox, '
	rm /home/alice/Maildir
	mbox one | store alice
	serves_as_said 'warn  mailbox /home/alice/Maildir: .* but there is /var/mail/alice\. Remedy: if mail is delivered there, set mailboxes \(-m\) to mbox:'
	options -m maildir+create:~/mail/Maildir
	refuses_as_said 'FAIL  mailbox /home/alice/mail/Maildir: /home/alice/mail: No such file or directory .*Remedy: make it as the user: mkdir -p /home/alice/mail$'
	options -m maildir+create:~/Maildir
	chown root:root /home/alice
	refuses_as_said 'FAIL  mailbox /home/alice/Maildir: there is none, and the user cannot make it: Permission denied'
}

@test "kpopd --check follows no hostile file as root, prints no escape sequence, and proposes no command for one" {
	local bad=$'\e[31m`id`' line
	k5login "$bad" "$(head -c 100000 /dev/zero | tr '\0' x)" '#' '@' \
	    'bob@OTHER.TEST' $'a\t\xff\nok    forged@KPOPD.TEST'
	head -c 100000 /dev/urandom >>/home/alice/.k5login
	refuses_as_said 'FAIL  k5login /home/alice/.k5login: it names only @, bob@OTHER.TEST, ok    forged@KPOPD.TEST, '
	refute env LC_ALL=C grep '[^ -~]' <<<"$output"
	# A symlink to a file of root.
	echo secret >"$WORLD/secret"
	chmod 600 "$WORLD/secret"
	ln -sf "$WORLD/secret" /home/alice/.k5login
	refuses_as_said 'FAIL  k5login /home/alice/.k5login: .*Remedy: setsid -w runuser -u alice -- mv -bT /home/alice/.k5login /home/alice/.k5login.old </dev/null$'
	lacks '.*secret'
	rm /home/alice/.k5login
	mkfifo /home/alice/.k5login
	chown alice /home/alice/.k5login
	examine
	says 'FAIL  k5login /home/alice/.k5login: it is not a file, '
	rm /home/alice/.k5login
	options -m maildir:~/Maildir
	install -d -o alice \
	    "/home/alice/a'b;id$bad"$'\nok    forged: x'/{new,cur}
	serves_as_said "warn  mailbox /home/alice/Maildir: .* but there is /home/alice/a'b;id"
	lacks 'ok    forged'
	refute env LC_ALL=C grep '[^ -~]' <<<"$output"
}

@test "kpopd --check proposes no change of a file to which the user's symlink leads" {
	mkdir -p /srv/mail/box/Maildir/{new,cur,tmp}
	ln -s /srv/mail/box /home/alice/mail
	options -m maildir:~/mail/Maildir
	refuses_as_said 'FAIL  mailbox /home/alice/mail/Maildir: .*: mode 0755, owner root\)$'
	chown -R alice /srv/mail/box/Maildir
	chown bob /srv/mail/box
	refuses_as_said 'FAIL  mailbox /home/alice/mail/Maildir: .*\(mode 0755, owner bob\)$'
	says 'warn  directory /home/alice/mail: its owner can replace the mailbox: mode 0755, owner bob$'
	chmod 700 /srv/mail/box
	refuses_as_said 'FAIL  mailbox /home/alice/mail/Maildir: /home/alice/mail \(mode 0700, owner bob\) may not be searched by this user \(.*\)$'
}

# swapped KIND: returns true if the remedy of the line of this kind changes
# nothing of root or of bob after alice has put a link in the place of PATH.
swapped() {
	local before
	before=$(victims)
	(follow "$1") || :
	diff <(echo "$before") <(victims)
}

victims() {
	cat /home/victim/file
	ls -lRn --time-style=+ /home/victim
}

@test "a remedy of kpopd --check changes no other file if the user then puts a link in the place" {
	mkdir -p /home/victim/new
	echo alice@KPOPD.TEST >/home/victim/file
	chgrp mail /home/victim/file
	chmod 664 /home/victim/file
	# A symlink to root's file that a group can write.
	ln -s /home/victim/file /home/alice/.k5login
	examine
	says 'FAIL  k5login .*other users can write it, '
	swapped k5login
	# The line that the file lacks.
	rm /home/alice/.k5login
	k5login bob@KPOPD.TEST
	examine
	says 'FAIL  k5login .*it names only bob@KPOPD.TEST, '
	ln -sf /home/victim/file /home/alice/.k5login
	swapped k5login
	# Its owner and mode.
	rm /home/alice/.k5login
	k5login bob@KPOPD.TEST
	chown bob /home/alice/.k5login
	examine
	says 'FAIL  k5login .*belongs to neither root nor the user'
	ln -f /home/victim/file /home/alice/.k5login
	swapped k5login
	rm -f /home/alice/.k5login*
	k5login bob@KPOPD.TEST
	chmod 666 /home/alice/.k5login
	examine
	says 'FAIL  k5login .*other users can write it'
	ln -sf /home/victim /home/alice/.k5login
	swapped k5login
	# Where the file would be moved to.
	ln -s /home/victim /home/alice/.k5login.old
	ln -sfn /etc/hostname /home/alice/.k5login
	examine
	says 'FAIL  k5login .*it names no principal'
	swapped k5login
	rm -rf /home/alice/.k5login*
	# The directory of an mbox, in which others make dotlocks.
	options -m mbox:~/mail/inbox
	install -d -o alice -m 777 /home/alice/mail
	examine
	says 'warn  spool /home/alice/mail: every user may write it, '
	mv /home/alice/mail /home/alice/before
	ln -s /home/victim /home/alice/mail
	output=$(sed 's/^warn  spool/FAIL  spool/' <<<"$output")
	swapped spool
	# A directory above the file.
	options -m maildir:~/Maildir
	install -d -o alice /home/alice/Maildir/cur /home/alice/Maildir
	install -d -o bob /home/alice/Maildir/new
	examine
	says 'FAIL  mailbox .*/new: mode 0755, owner bob'
	mv /home/alice/Maildir /home/alice/elsewhere
	ln -s /home/victim /home/alice/Maildir
	swapped mailbox
}

@test "a remedy of kpopd --check runs nothing as the user that could type on root's terminal" {
	local remedy pid
	k5login bob@KPOPD.TEST
	examine
	remedy=$(sed -n 's/^FAIL  k5login .*Remedy: //p' <<<"$output")
	rm /home/alice/.k5login
	mkfifo /home/alice/.k5login
	chown alice /home/alice/.k5login
	script -qec "$remedy" /dev/null </dev/null >"$WORLD/typed" 3>&- &
	await 5 'pid=$(pgrep -u alice -x tee)'
	[ "$(ps -o tty= -p "$pid")" = '?' ]
	[ "$(readlink "/proc/$pid/fd/1")" = /dev/null ]
	kill "$pid"
	wait $! || :
	rm /home/alice/.k5login
	k5login bob@KPOPD.TEST
	chmod 666 /home/alice/.k5login
	examine
	says 'FAIL  k5login .*Remedy: setsid -w runuser -u alice -- chmod go-w /home/alice/.k5login </dev/null$'
}

@test "kpopd --check quotes names for a shell" {
	local name="a'b;touch bad"
	echo "$name:x:20001:20001::/home/alice:/bin/sh" >>/etc/passwd
	rm -rf /home/alice
	mkdir -m 0 /home/alice
	chown 20001 /home/alice
	options -m "mbox:/srv/mail/%u"
	mkdir -p "/srv/mail"
	echo one >"/srv/mail/$name"
	examine "$name"
	says 'FAIL  principal '
	cd "$WORLD"
	follow mailbox
	[ "$(stat -c %u "/srv/mail/$name")" -eq 20001 ]
	[ ! -e "$WORLD/bad" ]
}

@test "kpopd --check --json has one object a line" {
	k5login $'b\e"\\ob@KPOPD.TEST'
	run "$KPOPD_BUILD/kpopd-check" --check --json -d "$state" \
	    -k "$WORLD/server.keytab" alice
	[ "$status" -eq 1 ]
	perl -MJSON::PP -ne '
	    my $o = decode_json($_);
	    $n++ if $$o{kind} eq "k5login" && $$o{verdict} eq "FAIL"
		&& $$o{name} eq "/home/alice/.k5login"
		&& $$o{remedy} =~ /^printf/;
	    END { exit !($n == 1) }' <<<"$output"
}

@test "kpopd --check lists unfinished removals and rescued journals of all users with their remedy" {
	[ -z "${SANITIZER-}" ] ||
	    skip "ASan's own system calls are in the way of strace"
	local own
	options -l fcntl
	mbox one two three | store alice
	run "$KPOPD_BUILD/kpopd-check" --check -d "$state"
	lacks '[A-Za-z]+ +(journal|rescue) '
	break_off alice 1
	own=$(kept)
	[ -e "$own/j" ]
	run "$KPOPD_BUILD/kpopd-check" --check -d "$state"
	says "warn  journal $own/j: a removal from /var/mail/alice was interrupted and is not finished\. Remedy: kpopd --recover -d $state\$"
	# The remedy helps.
	"$KPOPD_BUILD/kpopd" --recover -d "$state"
	run "$KPOPD_BUILD/kpopd-check" --check -d "$state"
	lacks '[A-Za-z]+ +(journal|rescue) '
	pop_login alice
	touch "$own/j"
	run "$KPOPD_BUILD/kpopd-check" --check -d "$state"
	says "ok    journal $own/j: a session is removing messages from /var/mail/alice\$"
	rm "$own/j"
	pop_close
	kpopd_ends 5
	# A session that ends while --check looks at its journal.
	pop_login alice
	touch "$own/j"
	strace -f -o "$WORLD/trace" -P "$own" \
	    -e inject=getdents64:delay_exit=5000000:when=1 \
	    "$KPOPD_BUILD/kpopd-check" --check -d "$state" >"$WORLD/checked" \
	    3>&- &
	await 20 "grep -q 'getdents64(.*(DELAYED)' '$WORLD/trace'"
	rm "$own/j"
	pop_ask QUIT
	pop_hear_end
	pop_close
	wait $! || [ $? -eq 1 ]
	output=$(<"$WORLD/checked")
	lacks '[A-Za-z]+ +journal '
	# A user's directories are not all listed.
	touch "$own/j"
	for i in {1..50}; do cp -a "$own" "$own.$i"; done
	examine bob
	[ "$(grep -c 'was interrupted and' <<<"$output")" -eq 10 ]
	says "warn  journal $state/users/[0-9]*: there may be more"
	rm -r "$own".* "$own/j"
	touch "$own/rescue.1790000000.1.j" "$own/rescue.1790000001.1.j"
	mkdir "$state/users/4711.former.1790000000"
	examine bob
	says "warn  rescue $own/rescue.17900000.*: 2 journals that did not fit /var/mail/alice were set aside\. Remedy: tail -c .4097 $own/rescue.17900000.* . less prints "
	says "warn  former $state/users/4711.former.1790000000: "
}

# access LINE ...: writes the access file, which only root may read.
access() {
	printf '%s\n' "$@" >"$WORLD/access.new"
	chmod 600 "$WORLD/access.new"
	mv "$WORLD/access.new" /etc/kpopd.access
}

@test "kpopd --check decides by the access file before .k5login, and prints its lines for the user" {
	k5login bob@KPOPD.TEST carol@KPOPD.TEST
	access 'alice@KPOPD.TEST alice read tls from=192.0.2.1' \
	    'carol@KPOPD.TEST * deny' 'bob@KPOPD.TEST bob full'
	examine
	says 'ok    access alice@KPOPD.TEST: line 1: it may log in as alice, and remove nothing, under conditions$'
	says \
	    'ok    access carol@KPOPD.TEST: line 2: it may not log in as alice$'
	lacks 'ok    access bob@'
	says 'ok    principal alice@KPOPD.TEST: it may log in as alice, by line 1 of the access file, to remove nothing$'
	says 'ok    principal bob@KPOPD.TEST: it may log in as alice, because .k5login names it$'
	says 'warn  principal carol@KPOPD.TEST: .*names it, but it may not log in as alice: denied by line 2 of the access file: the line denies the principal'
	access 'alice@KPOPD.TEST alice full'
	serves_as_said 'ok    principal alice@KPOPD.TEST: it may log in as alice, by line 1 of the access file$'
	access '*@KPOPD.TEST * deny'
	refuses_as_said 'FAIL  principal alice@KPOPD.TEST: it may not log in as alice: denied by line 1 of the access file: the line denies the principal$'
	lacks 'FAIL  k5login'
	access 'Alice@KPOPD.TEST alice full'
	refuses_as_said 'FAIL  principal alice@KPOPD.TEST: it may not log in as alice: denied by line 1 of the access file: the principal differs'
	access 'alice@KPOPD.TEST alice'
	refuses_as_said 'FAIL  principal alice@KPOPD.TEST: it may not log in as alice: the access file has a mistake, so no client may log in'
	options -r OTHER.TEST
	access 'alice@KPOPD.TEST alice full'
	refuses_as_said 'FAIL  realm KPOPD.TEST: it is not one of OTHER'
}
