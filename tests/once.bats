#!/usr/bin/env bats
# Checks that clients that leave mail on the server fetch each message exactly
# once, while other programs change the mailbox.

load helpers/all

setup_file() { :; }

setup() {
	begin_test
	realm_login alice
	cat >"$WORLD/muttrc" <<-END
	set folder=~ delete=yes quit=yes move=no wait_key=no beep=no
	set mark_old=yes sort=mailbox-order sleep_time=0
	END
	chmod 644 "$WORLD/muttrc"
	chmod 755 "$WORLD"
	tunnel= lmtp=
}

teardown() {
	for pid in $tunnel $lmtp; do kill "$pid" 2>/dev/null || true; done
	rm -f "$WORLD/lmtp" /home/alice/.procmailrc
	await 5 '! ss -Hltn sport = 2110 | grep -q .'
	end_test
}

# fetch_once STORE DIRECTORY [INBOX]: runs $SEQUENCES sequences of
# clients/once.py with these mailboxes of Dovecot's. By default, a short test
# run has five sequences, and a long run has 200. The seed is $SEED, or a new
# one in each run if $SEED is not set.
fetch_once() {
	local seed=${SEED-$((RANDOM * 1000))} count=${SEQUENCES-5} status=0
	[ -z "${SANITIZER-}" ] || count=${SEQUENCES-2}
	! long || count=${SEQUENCES-200}
	dovecot_configure "$@" <<-END
	mail_privileged_group =
	mbox_read_locks = fcntl
	service stats {
	}
	END
	socat TCP-LISTEN:2110,bind=127.0.0.1,reuseaddr,fork \
	    EXEC:"$KPOPD_BUILD/kpopc mail.kpopd.test 1109" 3>&- 2>/dev/null &
	tunnel=$!
	/usr/bin/python3 "$BATS_TEST_DIRNAME/clients/lmtp.py" "$WORLD/lmtp" \
	    "$WORLD/got.getmail" 3>&- 2>/dev/null &
	lmtp=$!
	await 5 'ss -Hltn sport = 2110 | grep -q . && unix_listens $WORLD/lmtp'
	KPOPC="$KPOPD_BUILD/kpopc" DOVEADM=$(dovecot_self) /usr/bin/python3 \
	    "$BATS_TEST_DIRNAME/clients/once.py" "$1" "$seed" "$count" \
	    >"$WORLD/points" 3>&- || status=$?
	sed 's/^/# /' "$WORLD/points" >&3
	return $status
}

@test "fetchmail and getmail fetch each message of an mbox once while other programs change the mailbox" {
	server_start
	fetch_once mbox '~/mail' /var/mail/alice
}

@test "fetchmail and getmail fetch each message of a Maildir once while other programs change the mailbox" {
	server_start -m maildir:~/Maildir
	printf 'DEFAULT=$HOME/Maildir/\n' >/home/alice/.procmailrc
	chown alice /home/alice/.procmailrc
	fetch_once maildir '~/Maildir'
}
