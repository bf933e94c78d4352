# Makes mail, delivers it by the real procmail, and looks at it in the spool and
# in the state directory.

# spool USER: prints the path of the user's spool.
spool() {
	echo "/var/mail/$1"
}

# make_message NAME [LINES]: prints a message with the subject NAME and this
# number of lines in its body.
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

# deliver USER: delivers standard input by procmail, as an MTA does.
deliver() {
	procmail -f sender@kpopd.test -d "$1"
}

# store USER: makes standard input the user's spool, as it is.
store() {
	cat >"$(spool "$1")"
	chown "$1:mail" "$(spool "$1")"
	chmod 660 "$(spool "$1")"
}

# from_line: prints the line that begins a message in a spool.
from_line() {
	echo "From sender@kpopd.test Mon Nov 23 05:00:00 2026"
}

# mbox NAME ...: prints a spool of these messages.
mbox() {
	local name
	for name in "$@"; do
		from_line
		make_message "$name"
		echo
	done
}

# spool_is USER NAME ...: returns true if the spool contains exactly these
# messages.
spool_is() {
	cmp "$(spool "$1")" <(mbox "${@:2}") ||
	    { cat "$(spool "$1")" >&2; return 1; }
}

# forget_index: removes the indexes, so that the next login has to read the
# mailbox, and so to lock it.
forget_index() {
	rm -f "$state"/users/*/*/index
}

# kept [USER]: prints the state directory of the user's spool, or of the first
# of the user's mailboxes if the spool has none.
kept() {
	local all=("$state/users/$(id -u "${1-alice}")"/*-*/) own
	own=$(grep -lx "/var/mail/${1-alice}" "${all[@]/%/mailbox}" \
	    2>/dev/null | head -n 1) || own=
	own=${own:-${all[0]}mailbox}
	echo "${own%/mailbox}"
}

# no_journal [USER]: returns true if the state directory contains nothing of a
# removal, finished or not.
no_journal() {
	local left
	left=$(ls "$(kept "$@")" |
	    grep -vx 'mailbox\|session\|yield\|index\(.tmp\)\?') || return 0
	echo "left in the state directory: $left" >&2
	return 1
}
