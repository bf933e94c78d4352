# Checks the effect of strange input: what the client gets, what the log
# contains, and whether the spool has changed.

# spool_now [DIRECTORY]: prints a line for each file below the directory. The
# line contains type, inode, owner, mode, links, size, all times except the
# access time, and the hash of the content. Opens only regular files of less
# than 64 MiB. A test with larger files must check those files itself.
spool_now() {
	(
		cd "${1:-${spool_place:-/var/mail}}" || exit
		find . -mindepth 1 \
		    -printf '%p %y %i %U:%G %m %n %s %T@ %C@ %l\n' | sort
		find . -type f -size -64M -print0 | sort -z |
		    xargs -0r sha256sum
	)
}

# spool_mark, spool_kept: spool_kept returns true if nothing in the spool
# directory has changed since spool_mark. The directory is $spool_place if that
# is set, otherwise /var/mail.
spool_mark() {
	spool_then=$(spool_now)
}

spool_kept() {
	diff <(printf '%s\n' "$spool_then") <(spool_now) >&2
}

# spool_keep: makes end_test fail if anything in /var/mail changes until then.
spool_keep() {
	spool_now /var/mail >"$WORLD/spool.kept"
}

# spool_untouched: returns true if nothing has changed since spool_keep, or if
# the test has not called spool_keep.
spool_untouched() {
	[ ! -e "$WORLD/spool.kept" ] ||
	    diff "$WORLD/spool.kept" <(spool_now /var/mail) >&2
}

# spool_file [FILE]: prints the file's inode, owner, mode and links. A removal
# does not change these.
spool_file() {
	stat -c '%i %U:%G %a %h' "${1:-/var/mail/alice}"
}

# log_says_quits 'RETRIEVED DELETED LEFT' ...: returns true if alice has had one
# session for each argument since log_mark. The sessions must have ended by
# QUIT. Two monitors may log in any order, so the order of the sessions does not
# count. The log must contain each session's numbers and no failure.
log_says_quits() {
	await 10 "[ \"\$(log_lines | grep -ac ' reason=quit ')\" -ge $# ]" &&
	    diff <(printf '%s\n' "$@" | sort) <(log_lines | sed -nE \
		-e '/: logout .* reason=quit /!d' \
		-e 's/.* retrieved=([0-9]*) (.*)/\1 \2/' \
		-e 's/^([0-9]*) .* deleted=([0-9]*) left=([0-9]*) .*/\1 \2 \3/p' |
		sort
	    ) >&2 &&
	    [ "$(log_lines | grep -ac ': login .* user=alice ')" -eq $# ] &&
	    log_says_no_trouble
}

# log_says_no_trouble: returns true if no event of a failure was logged.
log_says_no_trouble() {
	local events='failed|fatal|refused|nonsense|skipped'
	events+='|recovery|rescue|index'
	! log_lines | grep -aE ": ($events) " >&2
}

# opens_not CODE 'PATTERN': logs in as alice, whose mailbox cannot be opened.
# Returns true if the answer has this response code and is short enough for
# every client. The failure and its reason must be logged, and the spool must be
# unchanged.
opens_not() {
	local reason=unavailable
	[ "$1" != IN-USE ] || reason=in-use
	log_mark
	spool_mark
	run pop alice STAT QUIT
	[[ ${lines[-1]} == "-ERR [$1]"* && ${#lines[-1]} -lt 78 &&
	    $output != *messages* ]] || { echo "$output"; return 1; }
	log_has ": failed .*$2" && log_has ": logout .* reason=$reason\$" &&
	    spool_kept
}
