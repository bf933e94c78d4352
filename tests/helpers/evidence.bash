# Shows the effect of strange input: what the client gets, what is logged, and
# that the spool is as it was.

# spool_now [DIRECTORY]: prints a line for each file below the directory: type,
# inode, owner, mode, links, size, times but the access time, and the hash of
# the content. Opens only regular files of less than 64 MiB; the tests of larger
# files look at them themselves.
spool_now() {
	(
		cd "${1:-${spool_place:-/var/mail}}" || exit
		find . -mindepth 1 \
		    -printf '%p %y %i %U:%G %m %n %s %T@ %C@ %l\n' | sort
		find . -type f -size -64M -print0 | sort -z |
		    xargs -0r sha256sum
	)
}

# spool_mark, spool_kept: the second returns true if nothing has changed in the
# spool since the first. The directory is $spool_place if that is set, else
# /var/mail.
spool_mark() {
	spool_then=$(spool_now)
}

spool_kept() {
	diff <(printf '%s\n' "$spool_then") <(spool_now) >&2
}

# spool_keep: lets end_test fail if anything in /var/mail changes until then.
spool_keep() {
	spool_now /var/mail >"$WORLD/spool.kept"
}

# spool_untouched: returns true if nothing has changed since spool_keep, or if
# the test has not called that.
spool_untouched() {
	[ ! -e "$WORLD/spool.kept" ] ||
	    diff "$WORLD/spool.kept" <(spool_now /var/mail) >&2
}

# spool_file [FILE]: prints the inode, the owner, the mode and the links of the
# file, which a removal leaves as they are.
spool_file() {
	stat -c '%i %U:%G %a %h' "${1:-/var/mail/alice}"
}

# log_says_quits 'RETRIEVED DELETED LEFT' ...: returns true if alice has logged
# in this number of times since log_mark, each session ended by QUIT with these
# numbers, in this order, and nothing failed.
log_says_quits() {
	await 2 "[ \"\$(log_lines | grep -ac ' reason=quit ')\" -ge $# ]" &&
	    diff <(printf '%s\n' "$@") <(log_lines | sed -nE \
		-e '/: logout .* reason=quit /!d' \
		-e 's/.* retrieved=([0-9]*) (.*)/\1 \2/' \
		-e 's/^([0-9]*) .* deleted=([0-9]*) left=([0-9]*) .*/\1 \2 \3/p'
	    ) >&2 &&
	    [ "$(log_lines | grep -ac ': login .* user=alice ')" -eq $# ] &&
	    log_says_no_trouble
}

# log_says_no_trouble: returns true if no event of a failure is logged.
log_says_no_trouble() {
	local events='failed|fatal|refused|nonsense|skipped'
	events+='|recovery|rescue|index'
	! log_lines | grep -aE ": ($events) " >&2
}

# opens_not CODE 'PATTERN': logs in as alice, whose mailbox cannot be opened.
# Returns true if the answer has this response code and fits into the line of
# every client, if the failure and its reason are logged, and if the spool is as
# it was.
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
