# Mail: made, delivered by the real procmail, and looked at in the spool.

spool() {
	echo "/var/mail/$1"
}

# make_message NAME [LINES]: a message that can be recognized, with so many
# lines of body.
make_message() {
	cat <<-END
	Received: from nowhere by mail.kpopd.test; Mon, 23 Nov 2026 05:00:00 +0000
	Message-ID: <$1@kpopd.test>
	From: sender@kpopd.test
	To: alice@kpopd.test
	Subject: $1

	END
	seq -f "$1 line %.0f" 1 "${2:-3}"
}

# deliver USER: standard input by procmail, as an MTA would call it.
deliver() {
	procmail -f sender@kpopd.test -d "$1"
}

# store USER: standard input becomes the whole spool, as it is.
store() {
	cat >"$(spool "$1")"
	chown "$1:mail" "$(spool "$1")"
	chmod 660 "$(spool "$1")"
}

# from_line: what separates messages in hand-made spools.
from_line() {
	echo "From sender@kpopd.test Mon Nov 23 05:00:00 2026"
}

# mbox NAME ...: a spool with these messages.
mbox() {
	local name
	for name in "$@"; do
		from_line
		make_message "$name"
		echo
	done
}

# spool_is USER NAME ...: the spool holds exactly these messages.
spool_is() {
	cmp "$(spool "$1")" <(mbox "${@:2}") ||
	    { cat "$(spool "$1")" >&2; return 1; }
}

# forget_index: the next login has to look into the mailbox, and so has to lock
# it.
forget_index() {
	rm -f "$state"/users/*/*/index
}

# kept [USER]: the state directory of the user's spool; else of the first of the
# user's mailboxes.
kept() {
	local all=("$state/users/$(id -u "${1-alice}")"/*-*/) own
	own=$(grep -lx "/var/mail/${1-alice}" "${all[@]/%/mailbox}" \
	    2>/dev/null | head -n 1) || own=
	own=${own:-${all[0]}mailbox}
	echo "${own%/mailbox}"
}

# no_journal [USER]: nothing of a removal, finished or not, is in the user's
# state directory.
no_journal() {
	local left
	left=$(ls "$(kept "$@")" |
	    grep -vx 'mailbox\|session\|yield\|index\(.tmp\)\?') || return 0
	echo "left in the state directory: $left" >&2
	return 1
}
