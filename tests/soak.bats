#!/usr/bin/env bats
# Everything at once for as long as one likes: make soak T=seconds. Mail arrives, goes, is fetched; clients break off, lie and are killed.

load helpers/all
load helpers/storm

# What happens beside the storm's sessions; each fails when the server did not do what it should.
fetches() {
	local answer
	answer=$(pop bob "RETR 1" "TOP 2 1" UIDL QUIT) || return
	[[ $answer == *"+OK bye, 2 messages left"* ]]
}

is_refused() {
	local answer
	answer=$(pop carol QUIT) || :
	[[ $answer == *"-ERR [AUTH] this ticket does not open that mailbox"* && $answer != *messages* ]]
}

sends_nonsense() {
	local answer
	answer=$(head -c $((RANDOM % 3000)) /dev/urandom | wire 3 | tr -d '\0') 2>/dev/null
	[[ $answer != *messages* ]]
}

breaks_off() {
	{ versions; apreq pop/mail.kpopd.test | framed; printf 'USER bob\r\nPASS x\r\nDELE 1\r\nQUIT\r\n'; } >"$WORLD/whole"
	# Before the QUIT's line ends, wherever that may be.
	head -c $((RANDOM % ($(stat -c %s "$WORLD/whole") - 2))) "$WORLD/whole" | wire 3 >/dev/null
	spool_is bob one two
}

is_killed() {
	pop_login bob && pop_ask "DELE 1" && kill -KILL "$(child_pid)" && pop_hear_end && pop_close && spool_is bob one two
}

repeats_a_ticket() {
	{ versions; apreq pop/mail.kpopd.test | framed; printf 'USER bob\r\nPASS x\r\nQUIT\r\n'; } >"$WORLD/again"
	wire 3 <"$WORLD/again" | grep -aq '^+OK bye' || return
	run ! grep -aq '^+OK' < <(wire 3 <"$WORLD/again")
}

bats_require_minimum_version 1.5.0

@test "deliveries, sessions, refusals, broken clients and kills for a while: nothing is lost, nothing is left" {
	local n=0 seconds=${SOAK:-10} gap=0.6 hows=(quit kill quit) others=(fetches is_refused sends_nonsense breaks_off is_killed repeats_a_ticket)
	local -A done=()
	mbox one two | store bob
	mbox hers | store carol
	echo alice@KPOPD.TEST >/home/bob/.k5login
	chown bob /home/bob/.k5login
	# Each user's state directory is made by the first login.
	fetches
	is_refused
	pop alice QUIT
	left_behind "$(cat "$WORLD/xinetd.pid")" 0 | grep -v /alice >"$WORLD/before"
	storm_of $((seconds * 10)) $gap
	while storm_lasts && [ "${bad-0}" -lt 3 ]; do
		if [ -s /var/mail/alice ]; then
			count_point storm session "${hows[n % 3]}"
			done[session]=$((${done[session]-0} + 1))
		fi
		other=${others[n++ % ${#others[@]}]}
		count_point "$other"
		done[$other]=$((${done[$other]-0} + 1))
	done
	[ "${bad-0}" -lt 3 ]
	wait "${pids[@]}"
	count_point storm session look
	storm check >&3
	for other in "${!done[@]}"; do echo "# soak: $other ${done[$other]}" >&3; done
	left_behind "$(cat "$WORLD/xinetd.pid")" 0 | grep -v /alice >"$WORLD/after"
	diff "$WORLD/before" "$WORLD/after"
	no_journal
	spool_is carol hers
	log_lacks 'the gate.s report|system call'
	points_are_good soak $((seconds / 2))
}
