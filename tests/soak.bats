#!/usr/bin/env bats
# Checks that kpopd loses no mail and leaves nothing behind while deliveries,
# sessions, refusals, disconnected clients and kills continue: make soak
# T=SECONDS.

load helpers/all
load helpers/storm

# These actions run beside the storm's sessions. Each action returns true if the
# server has reacted correctly.

# fetches: retrieves bob's messages.
fetches() {
	local answer
	answer=$(pop bob "RETR 1" "TOP 2 1" UIDL QUIT) || return
	[[ $answer == *"+OK bye, 2 messages left"* ]]
}

# is_refused: logs in to a mailbox that the ticket does not open.
is_refused() {
	local answer
	answer=$(pop carol QUIT) || :
	[[ $answer == *"-ERR [AUTH] this ticket does not open that mailbox"* &&
	    $answer != *messages* ]]
}

# sends_nonsense: sends random bytes.
sends_nonsense() {
	local answer
	answer=$(head -c $((RANDOM % 3000)) /dev/urandom | wire 30 |
	    tr -d '\0') 2>/dev/null
	[[ $answer != *messages* ]]
}

# breaks_off: disconnects before QUIT's line end.
breaks_off() {
	{
		versions
		apreq pop/mail.kpopd.test | framed
		printf 'USER bob\r\nPASS x\r\nDELE 1\r\nQUIT\r\n'
	} >"$WORLD/whole"
	head -c $((RANDOM % ($(stat -c %s "$WORLD/whole") - 2))) \
	    "$WORLD/whole" | wire 30 >/dev/null
	spool_is bob one two
}

# is_killed: kills a session that has marked a message.
is_killed() {
	pop_login bob && pop_ask "DELE 1" && pkill -KILL -x kpopd -U bob &&
	    pop_hear_end && pop_close && spool_is bob one two &&
	    await 10 '! pgrep -x kpopd -U bob >/dev/null'
}

# repeats_a_ticket: sends the same bytes of a login twice.
repeats_a_ticket() {
	{
		versions
		apreq pop/mail.kpopd.test | framed
		printf 'USER bob\r\nPASS x\r\nQUIT\r\n'
	} >"$WORLD/again"
	wire 30 <"$WORLD/again" | grep -aq '^+OK bye' || return
	refute grep -a '^+OK' < <(wire 30 <"$WORLD/again")
}

# start_clients NAME COMMAND …: starts tests/programs/clients.pl with this
# command. The program writes its count to $WORLD/NAME.count. Adds NAME and the
# program's pid to the array $programs.
start_clients() {
	local name=$1
	shift
	clients_patience=$((seconds + 120)) clients "$@" >"$WORLD/$name.count" \
	    2>"$WORLD/$name.err" 3>&- &
	programs+=("$name:$!")
}

# lasting: prints what sessions may have left behind, except alice's mailbox and
# what a session may leave: the list of a mailbox, a part of this list after a
# kill, and the file of a login that ran beside another login of its user.
lasting() {
	left_behind "$(cat "$WORLD/xinetd.pid")" 0 |
	    grep -v '/alice\|/index\|/logins/'
}

@test "kpopd loses no mail and leaves nothing after many deliveries, sessions, refusals, broken clients and kills" {
	local n=0 seconds=${SOAK:-6} count hows=(quit kill quit) others=(fetches
	    is_refused sends_nonsense breaks_off is_killed repeats_a_ticket)
	local -A done=()
	# Limit the number of messages, because the world's files are in memory.
	count=$((seconds < 2000 ? seconds * 10 : 20000))
	local programs=() name status user counted
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
	# The first login of each user makes the state directory.
	fetches
	is_refused
	pop alice QUIT
	lasting >"$WORLD/before"
	start_clients readers readers dave "$seconds"
	start_clients broken broken "$seconds"
	start_clients disconnected cut erin cut "$seconds"
	start_clients killed cut frank kill "$seconds"
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
	for name in "${programs[@]}"; do
		status=0
		wait "${name#*:}" || status=$?
		name=${name%:*}
		counted=$(cat "$WORLD/$name.count" "$WORLD/$name.err")
		echo "# soak: $name $counted" >&3
		count_point [ $status -eq 0 ]
		# Each program must have done its work at least once.
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
	lasting >"$WORLD/after"
	diff "$WORLD/before" "$WORLD/after" >"$WORLD/left" || {
		sed 's/^/left behind or missing: /' "$WORLD/left" >&2
		false
	}
	echo "# soak: left behind: nothing; $(head -n 1 "$WORLD/after")" \
	    "of xinetd, $(wc -l <"$WORLD/after") lines compared" >&3
	no_journal
	spool_is carol hers
	for user in dave erin frank; do
		spool_is $user $(seq -f 'kept%.0f' 30)
	done
	log_lacks 'malformed message|system call'
	points_are_good soak $((seconds / 2))
}
