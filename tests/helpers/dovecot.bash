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

# dovecot_serve mbox|maildir DIRECTORY [INBOX]: starts Dovecot. It serves POP3
# on port 110, with STLS, and TLS on port 995. Each account has the password
# "none". The master user "master" has the password "secret", and logs in as
# alice with the name "alice*master".
dovecot_serve() {
	printf 'master:{PLAIN}secret\n' >"$WORLD/dovecot.masters"
	{
		dovecot_mail "$@"
		printf '%s\n' "base_dir = $WORLD/dovecot.run" \
		    "log_path = $WORLD/dovecot.log" "protocols = pop3" \
		    "listen = 127.0.0.1" "first_valid_uid = 1" \
		    "mail_privileged_group = mail" "ssl = yes" \
		    "auth_master_user_separator = *" "service pop3-login {" \
		    "inet_listener pop3 {" "port = 110" "}" \
		    "inet_listener pop3s {" "port = 995" "}" "}"
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
	} >"$WORLD/dovecot.conf"
	chmod 755 "$WORLD"
	chmod 644 "$WORLD"/dovecot.{conf,masters}
	/usr/sbin/dovecot -F -c "$WORLD/dovecot.conf" 3>&- \
	    >"$WORLD/dovecot.err" 2>&1 &
	dovecot_pid=$!
	await 10 'ss -Hltn sport = 995 | grep -q .' ||
	    { cat "$WORLD"/dovecot.{err,log} >&2; return 1; }
}

# dovecot_end: ends the Dovecot that dovecot_serve has started.
dovecot_end() {
	[ -n "${dovecot_pid-}" ] || return 0
	kill "$dovecot_pid" 2>/dev/null || true
	await 10 '! ss -Hltn "sport = 110 or sport = 995" | grep -q .'
}
