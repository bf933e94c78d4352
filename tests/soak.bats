#!/usr/bin/env bats
# Everything at once for as long as one likes: make soak T=seconds. Mail
# arrives, goes, is fetched; clients break off, lie and are killed.

load helpers/all
load helpers/storm

# What happens beside the storm's sessions; each fails when the server did not
# do what it should.
fetches() {
	local answer
	answer=$(pop bob "RETR 1" "TOP 2 1" UIDL QUIT) || return
	[[ $answer == *"+OK bye, 2 messages left"* ]]
}

is_refused() {
	local answer
	answer=$(pop carol QUIT) || :
	[[ $answer == *"-ERR [AUTH] this ticket does not open that mailbox"* &&
	    $answer != *messages* ]]
}

sends_nonsense() {
	local answer
	answer=$(head -c $((RANDOM % 3000)) /dev/urandom | wire 3 |
	    tr -d '\0') 2>/dev/null
	[[ $answer != *messages* ]]
}

breaks_off() {
	{
		versions
		apreq pop/mail.kpopd.test | framed
		printf 'USER bob\r\nPASS x\r\nDELE 1\r\nQUIT\r\n'
	} >"$WORLD/whole"
	# Before the QUIT's line ends, wherever that may be.
	head -c $((RANDOM % ($(stat -c %s "$WORLD/whole") - 2))) \
	    "$WORLD/whole" | wire 3 >/dev/null
	spool_is bob one two
}

is_killed() {
	pop_login bob && pop_ask "DELE 1" &&
	    kill -KILL "$(pgrep -o -x kpopd -U bob)" && pop_hear_end &&
	    pop_close && spool_is bob one two
}

repeats_a_ticket() {
	{
		versions
		apreq pop/mail.kpopd.test | framed
		printf 'USER bob\r\nPASS x\r\nQUIT\r\n'
	} >"$WORLD/again"
	wire 3 <"$WORLD/again" | grep -aq '^+OK bye' || return
	run ! grep -aq '^+OK' < <(wire 3 <"$WORLD/again")
}

# busy NAME COMMAND …: clients.pl at the same time as everything else; what it
# counts goes to $WORLD/NAME.count.
busy() {
	local name=$1
	shift
	clients_patience=$((seconds + 120)) clients "$@" >"$WORLD/$name.count" \
	    2>"$WORLD/$name.said" 3>&- &
	crowd+=("$name:$!")
}

bats_require_minimum_version 1.5.0

@test "deliveries, sessions, refusals, broken clients and kills for a while: nothing is lost, nothing is left" {
	local n=0 seconds=${SOAK:-6} count hows=(quit kill quit) others=(fetches
	    is_refused sends_nonsense breaks_off is_killed repeats_a_ticket)
	local -A done=()
	# Not more messages than fit into memory, for however long.
	count=$((seconds < 2000 ? seconds * 10 : 20000))
	local crowd=() name status user
	mbox one two | store bob
	mbox hers | store carol
	for user in dave erin frank; do
		id $user >/dev/null 2>&1 ||
		    useradd --create-home --shell /bin/sh $user
		echo alice@KPOPD.TEST >/home/$user/.k5login
		chown $user /home/$user/.k5login
		mbox $(seq -f 'kept%.0f' 30) | store $user
		pop $user QUIT >/dev/null
	done
	{
		versions
		apreq pop/mail.kpopd.test | framed
		printf 'USER erin\r\nPASS x\r\nDELE 1\r\n'
	} >"$WORLD/opening"
	echo alice@KPOPD.TEST >/home/bob/.k5login
	chown bob /home/bob/.k5login
	# Each user's state directory is made by the first login.
	fetches
	is_refused
	pop alice QUIT
	left_behind "$(cat "$WORLD/xinetd.pid")" 0 |
	    grep -v '/alice\|/index$' >"$WORLD/before"
	busy readers readers dave "$seconds"
	busy broken-off broken "$seconds"
	busy lines-cut cut erin cut "$seconds"
	busy killed cut frank kill "$seconds"
	storm_of $count "$(awk "BEGIN { print 6 * $seconds / $count }")"
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
	for name in "${crowd[@]}"; do
		status=0
		wait "${name#*:}" || status=$?
		name=${name%:*}
		echo \
		    "# soak: $name $(cat "$WORLD/$name.count" \
			"$WORLD/$name.said")" >&3
		count_point [ $status -eq 0 ]
		# Each did what it is for at least once.
		[ "$(head -n 1 "$WORLD/$name.count")" -gt 0 ]
	done
	[ "${done[session]-0}" -gt 0 ]
	[ "$seconds" -lt 60 ] || [ ${#done[@]} -eq $((${#others[@]} + 1)) ]
	[ "$(wc -l <"$STORM/delivered")" -eq $count ]
	count_point storm session look
	storm check >&3
	for other in "${!done[@]}"; do
		echo "# soak: $other ${done[$other]}" >&3
	done
	left_behind "$(cat "$WORLD/xinetd.pid")" 0 |
	    grep -v '/alice\|/index$' >"$WORLD/after"
	diff "$WORLD/before" "$WORLD/after" >"$WORLD/left" || {
		sed 's/^/# soak: left behind or gone: /' "$WORLD/left" >&3
		false
	}
	echo \
	    "# soak: left behind: nothing; $(head -n 1 \
		"$WORLD/after") of xinetd, $(wc -l \
		<"$WORLD/after") lines compared" >&3
	no_journal
	spool_is carol hers
	for user in dave erin frank; do
		spool_is $user $(seq -f 'kept%.0f' 30)
	done
	log_lacks 'the pre-auth process.s report|system call'
	points_are_good soak $((seconds / 2))
}
