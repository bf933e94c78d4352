# Makes mail, delivers it with the real procmail, and checks the spool and the
# state directory.

# spool USER: prints the path of the user's spool.
spool() {
	echo "/var/mail/$1"
}

# make_message NAME [LINES]: prints a message with the subject NAME and LINES
# lines in its body.
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

# deliver USER: delivers standard input with procmail, as an MTA does.
deliver() {
	procmail -f sender@kpopd.test -d "$1"
}

# store USER: writes standard input unchanged to the user's spool.
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

# settle [FILE]: waits until the index may trust the time of the file, which is
# alice's spool by default. The kernel's file times have a granularity of some
# milliseconds.
settle() {
	local changed
	changed=$(date -r "${1-/var/mail/alice}" +%s%N)
	await 5 "[ \$((\$(date +%s%N) - $changed)) -gt 60000000 ]"
}

# forget_index: removes the indexes. The next login must then lock and read the
# mailbox.
forget_index() {
	rm -f "$state"/users/*/*/index
}

# kept [USER]: prints the state directory of the user's spool. If the spool has
# no state directory, prints the state directory of the user's first mailbox.
kept() {
	local all=("$state/users/$(id -u "${1-alice}")"/*-*/) own
	own=$(grep -lx "/var/mail/${1-alice}" "${all[@]/%/mailbox}" \
	    2>/dev/null | head -n 1) || own=
	own=${own:-${all[0]}mailbox}
	echo "${own%/mailbox}"
}

# no_journal [USER]: returns true if the state directory contains no file of a
# finished or unfinished removal.
no_journal() {
	local left
	left=$(ls "$(kept "$@")" |
	    grep -vx 'mailbox\|session\|yield\|index\(.tmp\)\?') || return 0
	echo "left in the state directory: $left" >&2
	return 1
}

# in_terminal COMMAND: runs the command as alice in a terminal until it ends.
# Types no keys.
in_terminal() {
	rm -f "$WORLD/screen"
	[ -p "$WORLD/keys" ] || mkfifo "$WORLD/keys"
	su alice -c "cd; TERM=xterm timeout 20 script -qefc 'stty rows 40 cols 100; $1' /dev/null" <>"$WORLD/keys" >"$WORLD/screen" 2>&1
}
