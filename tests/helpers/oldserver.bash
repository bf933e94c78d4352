# Runs POP3 servers that kpopd replaces. tests/tools/old-servers has unpacked
# their packages. They listen on port 2100, except for Dovecot on port 110, and
# accept alice with the password "none", except for Cyrus, which accepts
# Kerberos tickets.

old_place=$top/build/old-servers

# old_accounts: makes the accounts and rules of PAM that these servers need.
old_accounts() {
	local name
	echo alice:none | chpasswd
	for name in popa3d spop3d; do
		id "$name" >/dev/null 2>&1 ||
		    useradd --system --home-dir /nonexistent \
			--shell /usr/sbin/nologin "$name"
	done
	for name in popa3d solid-pop3d pop3d ipop3d pop; do
		printf '%s required pam_unix.so\n' auth account \
		    >"/etc/pam.d/$name"
	done
	mkdir -p /var/lib/popa3d /var/lib/solid-pop3d/bulletins
}

# old_program SERVER: prints the path of the program. Fails if it is not there.
# Debian 12 has no package of UW's ipop3d, so $IPOP3D names it.
old_program() {
	local program=$old_place/
	case $1 in
	popa3d) program+=popa3d/usr/sbin/popa3d ;;
	solid-pop3d) program+=solid-pop3d/usr/sbin/solid-pop3d ;;
	mailutils) program+=mailutils-pop3d/usr/sbin/pop3d ;;
	courier) program+=courier-pop/usr/lib/courier/courier/courierpop3d ;;
	cyrus) program+=cyrus-pop3d/usr/lib/cyrus/bin/pop3d ;;
	uw) program=${IPOP3D:-$(command -v ipop3d || :)} ;;
	esac
	[ -n "$program" ] && [ -x "$program" ] || return 1
	echo "$program"
}

# old_require SERVER: skips the test if the server's program is not there.
old_require() {
	old_program "$1" >/dev/null && return
	[ "$1" != uw ] ||
	    skip "Debian has no package of ipop3d, and IPOP3D names none"
	skip "tests/tools/old-servers has not unpacked $1"
}

# old_start SERVER: starts a server under xinetd.
old_start() {
	local user=root server arguments= environment=NOTHING=here
	server=$(old_program "$1")
	case $1 in
	mailutils)
		arguments=--inetd
		environment=LD_LIBRARY_PATH=$(find "$old_place" -name \
		    'lib*.so.*' -printf '%h\n' | sort -u | paste -sd:)
		;;
	courier)
		# This program begins after the login.
		printf '%s\n' '#!/bin/sh' 'printf "+OK\r\n"; read -r user' \
		    'printf "+OK\r\n"; read -r password; cd /home/alice' \
		    "exec env AUTHENTICATED=alice AUTHADDR=alice TCPREMOTEIP=127.0.0.1 TCPREMOTEPORT=1 $server Maildir 2>/dev/null" >"$WORLD/courier"
		chmod 755 "$WORLD" "$WORLD/courier"
		user=alice server=$WORLD/courier
		;;
	uw)
		printf '%s\n' 'I accept the risk for IMAP toolkit 4.1.' \
		    'set disable-plaintext nil' >/etc/c-client.cf
		;;
	esac
	cat >"$WORLD/old.conf" <<-END
	service old
	{
		type = UNLISTED
		port = 2100
		bind = 127.0.0.1
		protocol = tcp
		socket_type = stream
		wait = no
		user = $user
		server = $server
		${arguments:+server_args = $arguments}
		env = $environment
		cps = 1000 1
		flags = NODELAY
	}
	END
	xinetd -dontfork -f "$WORLD/old.conf" -pidfile "$WORLD/old.pid" \
	    >/dev/null 2>&1 3>&- &
	await 5 'ss -Hltn sport = 2100 | grep -q . && [ -s "$WORLD/old.pid" ]'
}

# old_uidl_format FORMAT: prints the setting for ids of this format, which has
# the syntax of Dovecot 2.3.
old_uidl_format() {
	local format=$1
	if dovecot_is_new; then
		format=$(sed -E 's/%0([0-9]+)X([uv])/%{\2|hex(\1)}/g
		    s/%X([uv])/%{\1|hex}/g; s/%0([0-9]+)([uv])/%{\2}/g
		    s/%([uvmfg])/%{\1}/g; s/\{u/{uid/g; s/\{v/{uidvalidity/g
		    s/\{m/{md5/g; s/\{f/{filename/g; s/\{g/{guid/g' <<<"$1")
	fi
	echo "pop3_uidl_format = $format"
}

# old_dovecot mbox|maildir [SETTING ...]: starts Dovecot on port 110 with these
# settings, for alice's mailbox.
old_dovecot() {
	local place='~/mail /var/mail/alice' settings
	[ "$1" = mbox ] || place='~/Maildir'
	settings=$(printf '%s\n' "${@:2}")
	if dovecot_is_new; then
		settings+=$'\nauth_allow_cleartext = yes'
	else
		settings+=$'\ndisable_plaintext_auth = no'
	fi
	dovecot_settings=$settings dovecot_serve_master "$1" $place
}

# old_cyrus FORMAT: starts Cyrus with its POP3 on port 2100, with this
# uidl_format, and IMAP on port 2143. Its files are in $WORLD/cyrus. By default
# it would keep removed messages, and replace bytes of headers by "X". The
# package of Cyrus' test clients depends on the one with its master process.
old_cyrus() {
	local dir=$WORLD/cyrus bin=usr/lib/cyrus/bin
	mkdir -p "$dir"/{mail,conf/db,conf/socket}
	[ -e "$dir/keytab" ] || admin \
	    "ktadd -norandkey -k $dir/keytab pop/mail.kpopd.test imap/mail.kpopd.test"
	chown -R cyrus "$dir"
	chmod 755 "$WORLD"
	cat >"$dir/imapd.conf" <<-END
	configdirectory: $dir/conf
	proc_path: $dir/conf/proc
	mboxname_lockpath: $dir/conf/lock
	defaultpartition: default
	partition-default: $dir/mail
	autocreate_quota: 0
	expunge_mode: immediate
	munge8bit: no
	sasl_mech_list: GSSAPI
	uidl_format: $1
	END
	cat >"$dir/cyrus.conf" <<-END
	SERVICES {
	  imap cmd="$old_place/cyrus-imapd/$bin/imapd -C $dir/imapd.conf" listen="127.0.0.1:2143"
	  pop3 cmd="$old_place/cyrus-pop3d/$bin/pop3d -C $dir/imapd.conf" listen="127.0.0.1:2100"
	}
	END
	KRB5_KTNAME=$dir/keytab "/$bin/master" -C "$dir/imapd.conf" \
	    -M "$dir/cyrus.conf" -p "$WORLD/old.pid" >/dev/null 2>&1 3>&- &
	await 10 'ss -Hltn sport = 2100 | grep -q . && [ -s "$WORLD/old.pid" ]'
}

# old_cyrus_gets FILE ...: appends these messages to alice's mailbox of Cyrus.
# With a layer of GSSAPI, the imtest of Cyrus 3.10 cannot log in.
old_cyrus_gets() {
	perl "$BATS_TEST_DIRNAME/programs/cyrus-mail.pl" append "$@" \
	    >"$WORLD/appends"
	timeout 60 /usr/lib/cyrus/bin/imtest -m GSSAPI -k 0 -l 0 -u alice \
	    -a alice -p 2143 mail.kpopd.test <"$WORLD/appends" \
	    >"$WORLD/appended" 2>&1
	[ "$(grep -c '^a OK .APPENDUID ' "$WORLD/appended")" -eq $# ] ||
	    { grep '^a ' "$WORLD/appended" | head -n 5 >&2; return 1; }
}

# old_stop: ends the servers.
old_stop() {
	local pid
	dovecot_end
	pid=$(cat "$WORLD/old.pid" 2>/dev/null) || return 0
	kill "$pid" 2>/dev/null || true
	await 10 "! kill -0 $pid 2>/dev/null &&
	    ! ss -Hltn '( sport = 2100 or sport = 2143 )' | grep -q ."
	rm -f "$WORLD/old.pid"
}
