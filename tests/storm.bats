#!/usr/bin/env bats
# A storm of MDAs against QUITs with deletions: delivered = kept + deleted,
# exactly, byte for byte.

load helpers/all
load helpers/storm

# bats test_tags=fault:9,promise:7
@test "procmail, exim and Postfix's locks against QUIT: nothing is lost, nothing comes twice, nothing comes back" {
	local n=0 hows=(quit kill) count=240 gap=0.45
	! long || count=6000 gap=0.6
	storm_of $count $gap
	while storm_lasts && [ "${bad-0}" -lt 3 ]; do
		await 5 "[ -s /var/mail/alice ]" || continue
		count_point storm session "${hows[n++ % 2]}"
	done
	[ "${bad-0}" -lt 3 ]
	wait "${pids[@]}"
	[ "$(wc -l <"$STORM/delivered")" -eq $count ]
	# The last QUIT is judged by what is there after it.
	count_point storm session look
	storm check >&3
	echo \
	    "# storm: $(log_lines |
		grep -ac \
		' recovery .*state=') removals finished by another process" >&3
	if long; then
		points_are_good storm 100
	else
		points_are_good storm 21
	fi
}
