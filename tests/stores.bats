#!/usr/bin/env bats
# Checks that kpopd treats mbox and Maildir in the same way. The mail is
# delivered by procmail.

load helpers/all

# The argument of -m for each format, and procmail's DEFAULT for it.
declare -gA formats=(
	[mbox:/var/mail/%u]=/var/mail/alice
	[maildir:~/box]='$HOME/box/'
)

setup() {
	begin_test
	realm_login alice
}

teardown() {
	rm -rf /home/alice/{box,.procmailrc}
	end_test
}

# each_format FUNCTION: runs the function for every format. Before each run,
# empties the mailbox and makes "deliver alice" deliver to that mailbox. Fails
# if the function fails.
each_format() {
	local format
	for format in "${!formats[@]}"; do
		teardown
		setup
		server_stop
		server_start -m "$format"
		echo "DEFAULT=${formats[$format]}" |
		    store_as alice /home/alice/.procmailrc
		"$1" || { echo "with $format" >&2; return 1; }
	done
}

# store_as USER FILE: writes standard input to FILE, and makes the user the
# owner of FILE.
store_as() {
	cat >"$2"
	chown "$1:" "$2"
}

# deliver_all NAME ...: delivers these messages, in this order.
deliver_all() {
	local name
	for name in "$@"; do
		make_message "$name" | deliver alice
		# The names that procmail makes sort by the time in seconds.
		# Names from the same second have no order.
		[ ! -e /home/alice/box ] ||
		    await_second $((EPOCHSECONDS + 1))
	done
}

# holds NAME ...: returns true if the next session finds exactly these messages,
# byte for byte.
holds() {
	local name n=0
	pop alice STAT QUIT | grep -q "^+OK $# " ||
	    { pop alice STAT QUIT >&2; return 1; }
	for name in "$@"; do
		n=$((n + 1))
		printf '%s\r\n' "USER alice" "PASS x" "RETR $n" QUIT |
		    kpopc mail.kpopd.test | sed '1,4d' |
		    head -n -2 |
		    cmp - <(make_message "$name" | sed 's/$/\r/') || return 1
	done
}

# Each of the following functions checks one behaviour in one format.
# each_format runs it for both formats.

# delivered_is_served: messages are served, marked and removed.
delivered_is_served() {
	deliver_all one two three || return 1
	holds one two three || return 1
	run pop alice "TOP 1 1" LIST UIDL "DELE 2" "RETR 2" STAT QUIT
	[[ $output == *"one line 1"$'\n'.$'\n'* &&
	    $output == *"-ERR message is deleted"* ]] || return 1
	[[ $output == *"+OK bye, 2 messages left" ]] || return 1
	holds one three || return 1
	run pop alice "DELE 1" "DELE 2" QUIT
	[[ $output == *"+OK bye, 0 messages left" ]] || return 1
	holds
}

@test "kpopd serves what procmail has delivered byte for byte and removes it by DELE, in mbox and Maildir" {
	each_format delivered_is_served
}

# arrives_and_stays: a message arrives during a session that removes another
# message.
arrives_and_stays() {
	deliver_all one two || return 1
	pop_login alice || return 1
	pop_ask "DELE 1" || return 1
	deliver_all three || return 1
	pop_ask STAT '^\+OK 1 ' || return 1
	pop_ask QUIT '^\+OK bye, 1' || return 1
	pop_hear_end || return 1
	holds two three
}

@test "QUIT keeps a message that was delivered during the session, in mbox and Maildir" {
	each_format arrives_and_stays
}

# lost_removes_nothing: a session excludes other sessions, and then loses its
# client.
lost_removes_nothing() {
	deliver_all one two || return 1
	pop_login alice || return 1
	pop_ask "DELE 1" || return 1
	run pop alice STAT QUIT
	[[ ${lines[-1]} == "-ERR [IN-USE]"* ]] || return 1
	pop_cut
	log_has 'logout .*reason=lost' || return 1
	holds one two
}

@test "a mailbox has one session at a time, which removes nothing without QUIT, in mbox and Maildir" {
	each_format lost_removes_nothing
}

# ids_are_kept: messages keep their ids after a removal and without the index.
ids_are_kept() {
	deliver_all one two three || return 1
	pop alice UIDL QUIT | sed -n 's/^[0-9] //p' >"$WORLD/before"
	[ "$(sort -u "$WORLD/before" | wc -l)" -eq 3 ] || return 1
	pop alice "DELE 1" QUIT >"$WORLD/out"
	rm -rf "$state/users"
	pop alice UIDL QUIT | sed -n 's/^[0-9] //p' |
	    cmp - <(tail -n 2 "$WORLD/before")
}

@test "messages keep their UIDLs after a removal and a loss of the state directory, in mbox and Maildir" {
	each_format ids_are_kept
}

# fetchmail_takes_all: fetchmail fetches and removes all messages.
fetchmail_takes_all() {
	deliver_all one two || return 1
	cat >"$WORLD/fetchmailrc" <<-END
	poll mail.kpopd.test proto KPOP auth kerberos_v5 user "alice" sslproto '' mda "cat >>$WORLD/fetched"
	END
	chmod 600 "$WORLD/fetchmailrc"
	rm -f "$WORLD/fetched"
	timeout 20 fetchmail --nodetach --nosyslog -f "$WORLD/fetchmailrc" \
	    -i "$WORLD/ids" --pidfile "$WORLD/fetchmail.pid" || return 1
	[ "$(grep -c '^Subject: \(one\|two\)' "$WORLD/fetched")" -eq 2 ] ||
	    return 1
	holds
}

@test "fetchmail fetches and removes all messages, in mbox and Maildir" {
	each_format fetchmail_takes_all
}
