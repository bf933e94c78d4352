# Contains the scenarios. In each one the servers take turns, and every sample
# is recorded. bench/run loads this in tests/world.

: "${ROUNDS:=5}" "${LOGINS:=60}" "${BIG:=64000}" "${LARGE:=580}" \
    "${MIL:=1000000}" "${MAILDIR:=64000}" "${ONE:=16000}"
: "${PLOT_ROUNDS:=3}" "${PLOT_SIZES:=1 4 16 64 256 1024 4096}" \
    "${PLOT_MESSAGES:=10 100 1000 10000 100000 1000000}"
: "${PLOT_FILES:=10 100 1000 10000 100000}"
# The program and option that keep a kpopd-tls. Logins with it are measured if
# the program has the option. KEPT=no leaves them out.
: "${KEPT:=kpopd --keep-tls}"
# If a server needs this many seconds for a sample, it is not measured again for
# this row, and not for larger points of a plot.
: "${SLOW:=20}"
# The number of rounds of the other servers in S5, which take long.
: "${PEER_ROUNDS:=$ROUNDS}"
# If a step takes this many seconds, the run fails.
: "${STEP_TIMEOUT:=900}"
# More seconds than the granularity that the servers assume for file times.
: "${SETTLE:=2.1}"

# fail TEXT: ends the run.
fail() {
	echo "bench/run: $*" >&2
	exit 1
}

# sample ROW SERVER VALUE: records a sample.
sample() {
	printf '%s\t%s\t%s\n' "$@" >>"$samples"
}

# taking_part SERVER ...: prints those of the servers that can run.
taking_part() {
	local server
	for server in "$@"; do
		[ -n "${lacks[$server]-}" ] || echo "$server"
	done
}

# The rows that took a server too long.
declare -A slow=()

# too_slow ROW SERVER: returns true if a sample of this row took the server too
# long.
too_slow() {
	[ -n "${slow["$1 $2"]-}" ]
}

# note_slow ROW SERVER NANOSECONDS: records if the sample took too long.
note_slow() {
	[ "$3" -lt $((SLOW * 1000000000)) ] || slow["$1 $2"]=yes
}

# owner SERVER: prints the server whose mailboxes are used. SERVER may also be a
# way to reach that server.
owner() {
	echo "${1%%-*}"
}

# What client has measured.
declare -A seen=()
# client SERVER MAILBOX [-OPTION ...] STEP ...: runs one session, or many at
# once. Sets $seen[STEP] to the time, $seen[STEP cpu] to the processor time and
# $seen[STEP bytes] to the bytes.
client() {
	local server=$1 user options=() output step value cpu bytes
	user=$(owner "$1")_$2
	shift 2
	while [[ ${1-} = -* ]]; do options+=("$1" "$2"); shift 2; done
	# shellcheck disable=SC2086
	output=$(timeout "$STEP_TIMEOUT" "$KPOPD_BUILD/bench/client" \
	    ${speaks[$server]} -t "$WORLD/tickets" \
	    -w "${processes[$(owner "$server")]}" "${options[@]}" \
	    "$domain" "${port[$server]}" "$user" "$@") || {
		tail -n 5 "$WORLD/syslog" "$WORLD/$server.log" >&2 \
		    2>/dev/null || :
		fail "a session of $user at $server failed: $*"
	}
	seen=()
	while read -r step value cpu bytes; do
		seen[$step]=$value seen["$step cpu"]=$cpu \
		    seen["$step bytes"]=$bytes
	done <<<"$output"
}

# calculate EXPRESSION: prints its value.
calculate() {
	perl -e "printf '%.9g', $1"
}

# uid USER: prints the user's uid.
uid() {
	id -u "$1"
}

# restore USER MASTER: copies the master into the user's mailbox.
restore() {
	cp "$disk/$2" "/var/mail/$1"
	chown "$1:mail" "/var/mail/$1"
	chmod 660 "/var/mail/$1"
}

# find_index USER [FIND-OPTION]: prints the paths of kpopd's indexes of the
# user, or does with them what the option says.
find_index() {
	find "$state/users/$(uid "$1")" -name index "${@:2}" 2>/dev/null || :
}

# forget USER: removes what the servers have stored about the user's mailbox.
forget() {
	rm -rf "/home/$1/mail" "/home/$1"/Maildir/dovecot*
	find_index "$1" -delete
}

# first_open SERVER MAILBOX STEP ...: runs a session like client, in which the
# server opens the mailbox for the first time. SERVER may be a way to a server.
# Fails if kpopd has made no file named index. Then kpopd stores what it knows
# elsewhere, and forget has not removed that.
first_open() {
	local user
	user=$(owner "$1")_$2
	forget "$user"
	client "$@"
	[ "$(owner "$1")" != kpopd ] || [ -n "$(find_index "$user")" ] ||
	    fail "kpopd has no index of the mailbox of $user"
}

# settle: writes everything to the disk, and waits longer than the granularity
# of file times. An index does not trust a time that is so close to a change.
# The bench does not measure that case.
settle() {
	sync
	sleep "$SETTLE"
}

# warm USER: reads the user's mailbox into memory. On rented machines the kernel
# may reclaim memory that was unused for seconds (DAMON). Then a slow server
# would make the next one slow.
warm() {
	cat "/var/mail/$1" >/dev/null
}

# append USER: appends a message, as an MDA does.
append() {
	"$KPOPD_BUILD/bench/spool" 1 2000 2000 >>"/var/mail/$1"
}

# make_masters: makes the mailboxes, and the master copies from which restore
# copies.
make_masters() {
	local server
	"$KPOPD_BUILD/bench/spool" 20 1600 20000 >"$disk/s20"
	"$KPOPD_BUILD/bench/spool" "$BIG" 1600 20000 "$LARGE" >"$disk/big"
	"$KPOPD_BUILD/bench/spool" "$MIL" 1 135 >"$disk/mil"
	for server in $(taking_part $servers); do
		for mailbox in s20 big mil; do
			restore "${server}_$mailbox" "$mailbox"
		done
		# Make a mailbox for each of the eight users that log in at
		# once.
		for mailbox in s20{1..7}; do
			restore "${server}_$mailbox" s20
		done
	done
	settle
}

others="popa3d dovecot tuned"
ways="kpopd-p kpopd-p-tls kpopd-p-layer kpopd-accept"

# S1: logins per second. S1 has three times as many rounds, which are short,
# because noise passes quickly. The CPU time of the client itself is recorded,
# too, because it is part of each figure.
s1() {
	local server all="floor kpopd $ways $others $in_tls"
	for server in $(taking_part $all); do
		client "$server" s20 -n 16 -j 8 STAT QUIT
	done
	for _ in $(seq $((ROUNDS * 3))); do
		for server in $(taking_part $all); do
			client "$server" s20 -n "$LOGINS" STAT QUIT
			sample s1.one "$server" \
			    "$(calculate "$LOGINS * 1e9 / ${seen[sessions]}")"
			sample s1.client "$server" \
			    "$(calculate "${seen["sessions cpu"]} / $LOGINS")"
			client "$server" s20 -n "$LOGINS" -j 8 STAT QUIT
			sample s1.eight "$server" \
			    "$(calculate "$LOGINS * 1e9 / ${seen[sessions]}")"
		done
	done
}

# S2: the first open of the mailbox big, including the login.
s2() {
	local server
	for _ in $(seq "$ROUNDS"); do
		# Read the same file as kpopd.
		sample s2.all floor \
		    "$("$KPOPD_BUILD/bench/floor" scan /var/mail/kpopd_big)"
		for server in $(taking_part kpopd $others); do
			! too_slow s2 "$server" || continue
			warm "${server}_big"
			first_open "$server" big STAT UIDL QUIT
			sample s2.stat "$server" $((seen[login] + seen[STAT]))
			sample s2.uidl "$server" "${seen[UIDL]}"
			sample s2.all "$server" "$(open_time)"
			note_slow s2 "$server" "$(open_time)"
		done
	done
}

# open_time: prints the time of the last session up to the answer to UIDL.
open_time() {
	echo $((seen[login] + seen[STAT] + seen[UIDL]))
}

# poll ROW SERVER MAILBOX: records the samples of one poll.
poll() {
	warm "$2_$3"
	client "$2" "$3" STAT UIDL QUIT
	sample "$1.stat" "$2" $((seen[login] + seen[STAT]))
	sample "$1.uidl" "$2" "$(open_time)"
	note_slow "$1" "$2" "$(open_time)"
}

# polls WHAT: makes every server poll every mailbox.
polls() {
	local mailbox server
	for mailbox in s20 big mil; do
		for server in $(taking_part kpopd $others); do
			too_slow "s3.$mailbox.$1" "$server" ||
			    poll "s3.$mailbox.$1" "$server" "$mailbox"
		done
	done
}

# S3: polls without new mail, and polls after one new message.
s3() {
	local mailbox server
	for mailbox in s20 big mil; do
		for server in $(taking_part kpopd $others); do
			client "$server" "$mailbox" STAT UIDL QUIT
		done
	done
	settle
	for mailbox in s20 big mil; do
		for server in $(taking_part kpopd $others); do
			client "$server" "$mailbox" STAT UIDL QUIT
		done
	done
	for _ in $(seq "$ROUNDS"); do
		polls again
		for mailbox in s20 big mil; do
			for server in $(taking_part kpopd $others); do
				append "${server}_$mailbox"
			done
		done
		settle
		polls new
	done
}

# retrieve ROW SERVER COUNT DEPTH: fetches COUNT messages with DEPTH requests in
# flight. Records the rate and the processor time.
retrieve() {
	local step="RETR:$3:$4" to=$2
	[ "$2" != floor ] || to=floor-big
	warm "$(owner "$2")_big"
	client "$to" big "$step" QUIT
	sample "$1.rate" "$2" \
	    "$(calculate "${seen["$step bytes"]} * 1e3 / ${seen[$step]}")"
	sample "$1.cpu" "$2" \
	    "$(calculate "${seen["$step cpu"]} / ${seen["$step bytes"]}")"
	note_slow "$1" "$2" "${seen[$step]}"
}

# S4: fetches all of big with 16 requests in flight, and a part of it one
# message at a time. Dovecot's first RETR writes to the spool, so it is not
# timed. In TLS only one certificate is used, because it matters only before the
# login, which is not timed here.
s4() {
	local server
	for server in $(taking_part kpopd $others); do
		client "$server" big RETR:10:1 QUIT
	done
	for _ in $(seq "$ROUNDS"); do
		for server in $(taking_part floor kpopd kpopd-rsa $ways \
		    $others tuned-rsa); do
			too_slow s4.many "$server" ||
			    retrieve s4.many "$server" 0 16
			too_slow s4.one "$server" ||
			    retrieve s4.one "$server" "$ONE" 1
		done
	done
}

# deletion SERVER WHICH: records the time of QUIT alone, on a restored mailbox.
# Fails unless the mailbox has fewer messages afterwards.
deletion() {
	local file=/var/mail/${1}_big
	restore "${1}_big" big
	settle
	warm "$1_big"
	client "$1" big "DELE:$2" QUIT
	[ "$(grep -c '^From ' "$file")" -lt "$BIG" ] ||
	    fail "$1 removed nothing: $2"
	sample "s5.$2" "$1" "${seen[QUIT]}"
	note_slow "s5.$2" "$1" "${seen[QUIT]}"
}

# floor STEP ARGUMENT ...: measures a lower limit of the machine.
floor() {
	"$KPOPD_BUILD/bench/floor" "$@"
}

# limit_of WHICH: measures the lower limit for a deletion, just before the
# deletion.
limit_of() {
	case $1 in
	10 | first)
		warm floor_big
		sample "s5.$1" floor "$(floor copy /var/mail/floor_big)"
		rm /var/mail/floor_big.copy
		;;
	1)
		restore floor_big big
		settle
		sample s5.1 floor "$(floor truncate /var/mail/floor_big)"
		restore floor_big big
		;;
	esac
}

# S5: a QUIT that removes every tenth message, all messages, the first one, or
# the last one.
s5() {
	local server which round
	for round in $(seq "$ROUNDS"); do
		sample s5.overwrite floor \
		    "$(floor overwrite /var/mail/floor_big)"
		settle
		for which in 10 1 first last; do
			limit_of "$which"
			for server in $(taking_part kpopd $others); do
				[ "$server" = kpopd ] ||
				    [ "$round" -le "$PEER_ROUNDS" ] || continue
				too_slow "s5.$which" "$server" ||
				    deletion "$server" "$which"
			done
		done
	done
	for server in $(taking_part $servers); do
		restore "${server}_big" big
	done
}

# S6: the private dirty memory of the session's process.
s6() {
	local server mailbox
	for _ in $(seq "$ROUNDS"); do
		client floor s20 STAT MEMORY QUIT
		sample s6.s20.again floor "${seen[MEMORY]}"
		for mailbox in s20 mil; do
			for server in $(taking_part kpopd $others); do
				! too_slow "s6.$mailbox" "$server" || continue
				first_open "$server" "$mailbox" STAT MEMORY QUIT
				sample "s6.$mailbox.first" "$server" \
				    "${seen[MEMORY]}"
				note_slow "s6.$mailbox" "$server" \
				    "${seen[STAT]}"
				client "$server" "$mailbox" STAT MEMORY QUIT
				sample "s6.$mailbox.again" "$server" \
				    "${seen[MEMORY]}"
			done
		done
	done
}

# fill_maildir USER COUNT LEAST MOST: makes a Maildir of COUNT messages with
# LEAST to MOST bytes in their bodies.
fill_maildir() {
	rm -rf "/home/$1/Maildir"
	mkdir -p "/home/$1/Maildir"/{new,cur,tmp}
	"$KPOPD_BUILD/bench/spool" "$2" "$3" "$4" 0 "/home/$1/Maildir"
	chown -R "$1:$1" "/home/$1/Maildir"
}

# The function that opens a Maildir for each turn.
declare -A opens=([first]=first_open [again]=client [new]=client)

# maildir_turn TURN SERVER: opens the server's Maildir, or removes all its
# messages, and records the time.
maildir_turn() {
	local to=$2 maildir=/home/${2}_maildir/Maildir
	[ "$2" != kpopd ] || to=kpopd-maildir
	if [ "$1" = delete ]; then
		client "$to" maildir DELE:1 QUIT
		sample s9.delete "$2" "${seen[QUIT]}"
		[ -z "$(find "$maildir"/{new,cur} -type f)" ] ||
		    fail "$2 left messages"
	else
		"${opens[$1]}" "$to" maildir STAT UIDL QUIT
		sample "s9.$1" "$2" "$(open_time)"
	fi
}

# S9: a Maildir is opened for the first time, opened again, opened after one
# more message, and emptied.
s9() {
	local server turn
	for _ in $(seq "$ROUNDS"); do
		for server in $(taking_part floor kpopd dovecot tuned); do
			fill_maildir "${server}_maildir" "$MAILDIR" 1600 20000
		done
		settle
		for what in readdir stat read; do
			sample "s9.$what" floor \
			    "$(floor "$what" /home/floor_maildir/Maildir)"
		done
		sample s9.delete floor \
		    "$(floor unlink /home/floor_maildir/Maildir)"
		for turn in first again new delete; do
			[ "$turn" != new ] || add_to_maildirs
			settle
			for server in $(taking_part kpopd dovecot tuned); do
				maildir_turn "$turn" "$server"
			done
		done
	done
}

# add_to_maildirs: adds a message to the Maildir of every server.
add_to_maildirs() {
	local server
	for server in $(taking_part kpopd dovecot tuned); do
		install -o "${server}_maildir" -m 600 "$disk/s20" \
		    "/home/${server}_maildir/Maildir/new/1800000000.new"
	done
}

# point AXIS X SERVER: records the first open, a poll, the memory, a fetch, and
# the removal of one message, with the mailbox in $disk/plot.
point() {
	local user=${3}_plot most=0
	restore "$user" plot
	settle
	for _ in $(seq "$PLOT_ROUNDS"); do
		first_open "$3" plot STAT UIDL QUIT
		sample "plot.$1.$2.open" "$3" "$(open_time)"
		[ "$(open_time)" -lt $((SLOW * 1000000000)) ] ||
		    { most=1; break; }
	done
	client "$3" plot STAT UIDL QUIT
	for _ in $(seq "$PLOT_ROUNDS"); do
		client "$3" plot STAT QUIT
		sample "plot.$1.$2.poll" "$3" $((seen[login] + seen[STAT]))
	done
	client "$3" plot STAT MEMORY QUIT
	sample "plot.$1.$2.memory" "$3" "${seen[MEMORY]}"
	client "$3" plot RETR:10:1 QUIT
	for _ in $(seq "$PLOT_ROUNDS"); do
		client "$3" plot RETR:0:16 QUIT
		sample "plot.$1.$2.retr" "$3" "${seen["RETR:0:16"]}"
		[ "${seen["RETR:0:16"]}" -lt $((SLOW * 1000000000)) ] ||
		    { most=1; break; }
	done
	for _ in $(seq "$PLOT_ROUNDS"); do
		settle
		client "$3" plot DELE:first QUIT
		sample "plot.$1.$2.delete" "$3" "${seen[QUIT]}"
		[ "${seen[QUIT]}" -lt $((SLOW * 1000000000)) ] ||
		    { most=1; break; }
	done
	rm -f "/var/mail/$user"
	[ "$most" -eq 0 ] || slow["plot.$1 $3"]=yes
}

# points AXIS X ...: records the points of one axis.
points() {
	local axis=$1 x server
	shift
	for x in "$@"; do
		case $axis in
		# The messages have the same average size as those of big.
		size)
			"$KPOPD_BUILD/bench/spool" $((x * 92)) 1600 20000 \
			    >"$disk/plot"
			;;
		messages) "$KPOPD_BUILD/bench/spool" "$x" 1 135 >"$disk/plot" ;;
		esac
		for server in $(taking_part kpopd $others); do
			# popa3d refuses a mailbox of 2 GiB or more.
			[ "$server" != popa3d ] ||
			    [ "$(stat -c %s "$disk/plot")" -lt 2147483648 ] ||
			    continue
			too_slow "plot.$axis" "$server" ||
			    point "$axis" "$x" "$server"
		done
		rm "$disk/plot"
	done
}

# maildir_point X SERVER: records the first and the second opening of a Maildir
# of X files.
maildir_point() {
	local user=${2}_maildir to=$2 what
	[ "$2" != kpopd ] || to=kpopd-maildir
	fill_maildir "$user" "$1" 1 135
	settle
	for what in first again; do
		for _ in $(seq "$PLOT_ROUNDS"); do
			"${opens[$what]}" "$to" maildir STAT UIDL QUIT
			sample "plot.$what.$1.maildir" "$2" "$(open_time)"
		done
	done
	rm -rf "/home/$user/Maildir"
}

# plot: measures the cost for several mailbox sizes, numbers of messages, and
# numbers of files in a Maildir.
plot() {
	local files server
	# shellcheck disable=SC2086
	points size $PLOT_SIZES
	# shellcheck disable=SC2086
	points messages $PLOT_MESSAGES
	for files in $PLOT_FILES; do
		for server in $(taking_part kpopd dovecot tuned); do
			maildir_point "$files" "$server"
		done
	done
}

# throughput: measures what encryption costs a client that fetches through
# kpopc. Writes a table.
throughput() {
	MESSAGES=${THROUGHPUT-64} ROUNDS=$ROUNDS "$top/bench/throughput" \
	    >"$WORLD/throughput" || fail "bench/throughput failed"
	sed 's/^[[:space:]]*/table\t/' "$WORLD/throughput" >>"$samples"
}
