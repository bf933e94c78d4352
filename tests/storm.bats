#!/usr/bin/env bats
# Checks that no message is lost or doubled while MDAs deliver and sessions
# remove messages at the same time. Each delivered message must be kept byte for
# byte, or removed.

load helpers/all
load helpers/storm

# bats test_tags=fault:9-1,promise:7
@test "no message is lost, doubled or restored while procmail, exim and Postfix's locks compete with QUIT" {
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
	# One more session checks the mailbox that the last QUIT has left.
	count_point storm session look
	storm check >&3
	finished=$(log_lines | grep -ac ' recovery .*state=') || :
	echo "# storm: $finished removals finished by another process" >&3
	if long; then
		points_are_good storm 100
	else
		points_are_good storm 8
	fi
}
