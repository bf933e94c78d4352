# Runs Dovecot: doveadm on alice's mailbox, as a mail reader. Dovecot 2.4 of
# Debian 13 has other names for its settings than 2.3 of Debian 12.

# dovecot_is_new: returns true if this is Dovecot 2.4 or later.
dovecot_is_new() {
	[[ $(/usr/sbin/dovecot --version) != 2.3.* ]]
}

# dovecot_mail mbox|maildir DIRECTORY [INBOX]: prints what a configuration
# begins with: where the mailboxes of a user are.
dovecot_mail() {
	if dovecot_is_new; then
		printf '%s\n' "dovecot_config_version = 2.4.0" \
		    "dovecot_storage_version = 2.4.0" \
		    "mail_home = /home/%{user}" "mail_driver = $1" \
		    "mail_path = $2" ${3+"mail_inbox_path = $3"}
	else
		echo "mail_location = $1:$2${3+:INBOX=$3}"
	fi
}

# dovecot_configure mbox|maildir DIRECTORY [INBOX]: writes a configuration for
# doveadm, whose mailboxes are in the directory. Standard input has further
# settings.
dovecot_configure() {
	{
		dovecot_mail "$@"
		printf '%s\n' "log_path = /dev/stderr" "first_valid_uid = 1" \
		    "mbox_write_locks = fcntl"
		cat
	} >"$WORLD/dovecot.conf"
	chmod 644 "$WORLD/dovecot.conf"
	chmod 755 "$WORLD"
}

# dovecot_self: prints the option of a command of doveadm that does not look the
# user up. Dovecot 2.3 has no such option, and does not look alice up.
dovecot_self() {
	! dovecot_is_new || echo --no-userdb-lookup
}

# dovecot_does COMMAND [ARGUMENTS]: runs a command of doveadm as alice. Both are
# words of a shell.
dovecot_does() {
	su alice -c "cd; USER=alice doveadm -o stats_writer_socket_path= \
	    -c $WORLD/dovecot.conf $1 $(dovecot_self) ${2-}" \
	    2>"$WORLD/dovecot.err" || { cat "$WORLD/dovecot.err"; return 1; }
}

# dovecot_run PROTOCOL PORT: starts Dovecot with the settings on standard input,
# for this protocol (pop3 or imap), and waits until it listens on the port. Sets
# $dovecot to its pid.
dovecot_run() {
	{
		cat
		printf '%s\n' "base_dir = /run/dovecot.$1" \
		    "instance_name = $1" "protocols = $1" \
		    "listen = 127.0.0.1" "log_path = $WORLD/dovecot.log" \
		    "first_valid_uid = 1"
	} >"$WORLD/dovecot.conf"
	chmod 644 "$WORLD/dovecot.conf"
	dovecot -F -c "$WORLD/dovecot.conf" 3>&- >"$WORLD/dovecot.out" 2>&1 &
	dovecot=$!
	await 10 "ss -Hltn sport = $2 | grep -q ." ||
	    { cat "$WORLD/dovecot.out" "$WORLD/dovecot.log"; return 1; }
}

# dovecot_listens PROTOCOL PORT TLS-PORT: prints the settings of these ports; 0
# is none.
dovecot_listens() {
	printf '%s\n' "service $1-login {" "inet_listener $1 {" "port = $2" \
	    "}" "inet_listener $1s {" "port = $3" "}" "}"
}

# dovecot_serve PROTOCOL PORT: starts a Dovecot that serves POP3 or IMAP (pop3,
# imap) on this port, with the settings on standard input. It needs no password.
dovecot_serve() {
	dovecot_run "$1" "$2" < <(
		cat
		dovecot_listens "$1" "$2" 0
		printf '%s\n' "service auth {" "user = root" "}"
		if dovecot_is_new; then
			printf '%s\n' "passdb static {" "fields {" \
			    "nopassword = yes" "}" "}" "userdb passwd {" "}"
		else
			printf '%s\n' "passdb {" "driver = static" \
			    "args = nopassword=y" "}" "userdb {" \
			    "driver = passwd" "}"
		fi
	)
}

# dovecot_serve_master mbox|maildir DIRECTORY [INBOX]: starts a Dovecot that
# serves POP3 on port 110, with STLS, and TLS on port 995. Each account has the
# password "none". The master user "master" has the password "secret", and logs
# in as alice with the name "alice*master". $dovecot_settings has further lines
# of the configuration.
dovecot_serve_master() {
	printf 'master:{PLAIN}secret\n' >"$WORLD/dovecot.masters"
	chmod 755 "$WORLD"
	chmod 644 "$WORLD/dovecot.masters"
	dovecot_run pop3 995 < <(
		dovecot_mail "$@"
		dovecot_listens pop3 110 995
		printf '%s\n' "mail_privileged_group = mail" "ssl = yes" \
		    "auth_master_user_separator = *" "${dovecot_settings-}"
		if dovecot_is_new; then
			printf '%s\n' \
			    "ssl_server_cert_file = $WORLD/tls/server.pem" \
			    "ssl_server_key_file = $WORLD/tls/server.key" \
			    "passdb masters {" "driver = passwd-file" \
			    "passwd_file_path = $WORLD/dovecot.masters" \
			    "master = yes" "}" "passdb static {" \
			    "password = none" "}" "userdb passwd {" "}"
		else
			printf '%s\n' "ssl_cert = <$WORLD/tls/server.pem" \
			    "ssl_key = <$WORLD/tls/server.key" "passdb {" \
			    "driver = passwd-file" "master = yes" \
			    "args = $WORLD/dovecot.masters" "}" "passdb {" \
			    "driver = static" "args = password=none" "}" \
			    "userdb {" "driver = passwd" "}"
		fi
	)
}

# dovecot_end: ends the Dovecot of dovecot_run, and its processes, if it runs.
dovecot_end() {
	[ -n "${dovecot-}" ] || return 0
	kill "$dovecot" 2>/dev/null || true
	wait "$dovecot" 2>/dev/null || true
	dovecot=
	await 10 '! pgrep -x "imap|pop3" >/dev/null'
}
