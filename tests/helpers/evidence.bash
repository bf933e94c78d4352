# What a test of strange input shows: what the client hears, what the log says,
# and that what stands in the spool is as it was.

# spool_now [DIRECTORY]: what stands there, a line each: type, inode, owner,
# mode, links, size, times but the access', and the bytes' hash. Nothing is
# opened but regular files, and of these none of GiBs: their tests look by
# themselves.
spool_now() {
	(
		cd "${1:-${spool_place:-/var/mail}}" || exit
		find . -mindepth 1 \
		    -printf '%p %y %i %U:%G %m %n %s %T@ %C@ %l\n' | sort
		find . -type f -size -64M -print0 | sort -z |
		    xargs -0r sha256sum
	)
}

# spool_mark, spool_kept: nothing of it has changed meanwhile. $spool_place is
# where to look, if it is not /var/mail.
spool_mark() {
	spool_then=$(spool_now)
}

spool_kept() {
	diff <(printf '%s\n' "$spool_then") <(spool_now) >&2
}

# spool_keep: from here to the end of the test nothing in the spool directory
# may change; end_test asks spool_untouched.
spool_keep() {
	spool_now /var/mail >"$WORLD/spool.kept"
}

spool_untouched() {
	[ ! -e "$WORLD/spool.kept" ] ||
	    diff "$WORLD/spool.kept" <(spool_now /var/mail) >&2
}

# spool_file FILE: whose it is and what may be done with it; a removal leaves
# that, and the inode.
spool_file() {
	stat -c '%i %U:%G %a %h' "${1:-/var/mail/alice}"
}

# log_says_quits 'RETRIEVED DELETED LEFT' …: since log_mark there were just
# these logins of alice, each ended by QUIT with these numbers, in this order,
# and nothing went wrong.
log_says_quits() {
	await 2 "[ \"\$(log_lines | grep -ac ' reason=quit ')\" -ge $# ]" &&
	    diff <(printf '%s\n' "$@") <(log_lines | sed -n \
		's/.*: logout .* reason=quit retrieved=\([0-9]*\) .* deleted=\([0-9]*\) left=\([0-9]*\) .*/\1 \2 \3/p') >&2 &&
	    [ "$(log_lines | grep -ac ': login .* user=alice ')" -eq $# ] &&
	    log_says_no_trouble
}

log_says_no_trouble() {
	! log_lines |
	    grep -aE ': (failed|fatal|refused|nonsense|skipped|recovery|rescue|index) ' >&2
}

# opens_not CODE 'LOG': alice's mailbox cannot be opened; so she hears, in a
# line that every client can show; the log says why and how it ended; and what
# stands in the spool is as it was.
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
