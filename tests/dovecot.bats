#!/usr/bin/env bats
# Checks that no message is lost, doubled or changed, and that no UIDL changes,
# while Dovecot's IMAP, dovecot-lda, procmail and sessions use one mailbox at
# the same time.
#
# Dovecot has the settings of docs/ADMIN.md. tests/programs/beside.py runs the
# operations and describes what is killed, and what is checked.

load helpers/all

setup_file() { :; }

setup() {
	[ -z "${SANITIZER-}" ] ||
	    skip "storm.bats has the storm with sanitizers"
	[ -x /usr/lib/dovecot/imap ] || skip "Dovecot's IMAP is not installed"
	begin_test
	realm_login alice
	chmod 755 "$WORLD"
}

teardown() {
	[ -z "${SANITIZER-}" ] || return 0
	dovecot_end || true
	rm -f /home/alice/.procmailrc /etc/procmailrc
	rm -rf /home/alice/mail /home/alice/Maildir
	end_test
}

# documented mbox|maildir: prints the settings of docs/ADMIN.md for this format.
documented() {
	local first="mail_location = $1"
	! dovecot_is_new || first="mail_driver = $1"
	"$top/tests/programs/document-blocks.py" "$top/docs/ADMIN.md" "$first"
}

# imap_serve: starts Dovecot's IMAP with the settings on standard input.
imap_serve() {
	dovecot_serve imap 2143 < <(
		! dovecot_is_new || printf '%s\n' \
		    "dovecot_config_version = 2.4.0" \
		    "dovecot_storage_version = 2.4.0" \
		    "auth_allow_cleartext = yes"
		dovecot_is_new || echo "disable_plaintext_auth = no"
		printf '%s\n' "auth_mechanisms = plain" "ssl = no" \
		    "mail_max_userip_connections = 1000"
		cat
	)
}

# mbox_prepare: starts kpopd for spools. procmail waits a second for each
# message if the mailbox has been read in the same second, and eight seconds for
# a dotlock. Without these settings the storm would take hours.
mbox_prepare() {
	server_start
	mount -o remount,bind,noatime /var/mail
	echo LOCKSLEEP=1 >/etc/procmailrc
}

# storm_of mbox|maildir COUNT: runs COUNT operations, or 20,000 in a long test
# run. The seed is $SEED, or a new one in each run.
storm_of() {
	local seed=${SEED-$RANDOM} count=$2 status=0
	if long; then
		count=20000
	else
		export WITHOUT="${WITHOUT-} anywhere"
	fi
	KPOPC="$KPOPD_BUILD/kpopc" /usr/bin/python3 \
	    "$BATS_TEST_DIRNAME/programs/beside.py" "$1" "$seed" \
	    "${COUNT-$count}" >"$WORLD/points" 2>&1 3>&- || status=$?
	cat "$WORLD/points" >&3
	if [ $status -ne 0 ]; then
		log_lines | grep -aEv ' (login|logout) |signal 9' |
		    tail -n 40 || :
		grep -E 'Error|Warning' "$WORLD/dovecot.log" | tail -n 20 || :
		return $status
	fi
	no_journal
	[ "$1" = maildir ] || [ "$(ls -A /var/mail)" = alice ]
}

# bats test_tags=fault:9-2,promise:7
@test "no message is lost and no UIDL changes while Dovecot, dovecot-lda, procmail and sessions use one mbox with the documented locks" {
	mbox_prepare
	imap_serve < <(documented mbox)
	storm_of mbox 150
}

# bats test_tags=fault:9-2,promise:7
@test "no message is lost and no UIDL changes while Dovecot, dovecot-lda and sessions use one mbox with Debian's locks" {
	mbox_prepare
	imap_serve < <(documented mbox | grep -v '^mbox_.*_locks')
	WITHOUT=procmail storm_of mbox 250
}

# bats test_tags=fault:9-2,promise:7
@test "no message is lost and no UIDL changes while Dovecot, dovecot-lda, procmail and sessions use one Maildir" {
	server_start -m maildir:~/Maildir
	printf 'DEFAULT=$HOME/Maildir/\n' >/home/alice/.procmailrc
	chown alice /home/alice/.procmailrc
	su alice -c 'mkdir -p ~/Maildir/new ~/Maildir/cur ~/Maildir/tmp'
	imap_serve < <(documented maildir)
	storm_of maildir 500
}
