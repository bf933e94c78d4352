# What is measured: each scenario lets the servers take turns and notes every
# sample. Loaded by bench/run, inside the world.

: "${ROUNDS:=5}" "${LOGINS:=60}" "${BIG:=64000}" "${LARGE:=580}" \
    "${MIL:=1000000}" "${MAILDIR:=64000}" "${ONE:=16000}"
: "${PLOT_ROUNDS:=3}" "${PLOT_SIZES:=1 4 16 64 256 1024 4096}" \
    "${PLOT_MESSAGES:=10 100 1000 10000 100000 1000000}"
: "${PLOT_FILES:=10 100 1000 10000 100000}"
# Whoever took so many seconds for one sample gives no second one; at a point of
# a plot, no larger point.
: "${SLOW:=20}"
# S5 takes others so long that they may have fewer rounds.
: "${PEER_ROUNDS:=$ROUNDS}"
# A step that takes so many seconds is a failure.
: "${PATIENCE:=900}"
# Longer than what the servers take for the granularity of times.
: "${SETTLE:=2.1}"

fail() {
	echo "bench/run: $*" >&2
	exit 1
}

# sample ROW SERVER VALUE
sample() {
	printf '%s\t%s\t%s\n' "$@" >>"$samples"
}

# taking_part SERVER …: those that are there.
taking_part() {
	local server
	for server in "$@"; do
		[ -n "${lacks[$server]-}" ] || echo "$server"
	done
}

declare -A slow=()
# too_slow ROW SERVER: it has shown that; note_slow ROW SERVER NANOSECONDS notes
# whether it has.
too_slow() {
	[ -n "${slow["$1 $2"]-}" ]
}

note_slow() {
	[ "$3" -lt $((SLOW * 1000000000)) ] || slow["$1 $2"]=yes
}

owner() {
	echo "${1%%-*}"
}

# client SERVER MAILBOX [-OPTION …] STEP …: a session, or many; what it prints
# into the array $seen[STEP], CPU into $seen[STEP cpu], bytes into $seen[STEP
# bytes].
declare -A seen=()
client() {
	local server=$1 user options=() output step value cpu octets
	user=$(owner "$1")_$2
	shift 2
	while [[ ${1-} = -* ]]; do options+=("$1" "$2"); shift 2; done
	# shellcheck disable=SC2086
	output=$(timeout "$PATIENCE" "$KPOPD_BUILD/bench/client" \
	    ${speaks[$server]} -t "$WORLD/tickets" \
	    -w "${processes[$(owner "$server")]}" "${options[@]}" \
	    "$domain" "${port[$server]}" "$user" "$@") || {
		tail -n 5 "$WORLD/syslog" "$WORLD/$server.log" >&2 \
		    2>/dev/null || :
		fail "a session of $user at $server failed: $*"
	}
	seen=()
	while read -r step value cpu octets; do
		seen[$step]=$value seen["$step cpu"]=$cpu \
		    seen["$step octets"]=$octets
	done <<<"$output"
}

calculate() {
	perl -e "printf '%.9g', $1"
}

uid() {
	id -u "$1"
}

# restore USER MASTER: the mailbox is the master's again, with every page
# written.
restore() {
	cp "$disk/$2" "/var/mail/$1"
	chown "$1:mail" "/var/mail/$1"
	chmod 660 "/var/mail/$1"
}

# forget USER: what servers remember of its mailbox.
forget() {
	rm -rf "$state/users/$(uid "$1")/index" "/home/$1/mail" \
	    "/home/$1"/Maildir/dovecot*
}

# Times within a clock's granularity of a change prove nothing to an index; that
# is no part of what is measured.
settle() {
	sync
	sleep "$SETTLE"
}

# warm USER: its mailbox is in memory. A kernel that takes back what lay unused
# for seconds (DAMON, on rented machines) would have the slow ones make the next
# one slow.
warm() {
	cat "/var/mail/$1" >/dev/null
}

# append USER: one more message, as an MDA would.
append() {
	"$KPOPD_BUILD/bench/spool" 1 2000 2000 >>"/var/mail/$1"
}

make_masters() {
	local server
	"$KPOPD_BUILD/bench/spool" 20 1600 20000 >"$disk/s20"
	"$KPOPD_BUILD/bench/spool" "$BIG" 1600 20000 "$LARGE" >"$disk/big"
	"$KPOPD_BUILD/bench/spool" "$MIL" 1 135 >"$disk/mil"
	for server in $(taking_part $servers); do
		for mailbox in s20 big mil; do
			restore "${server}_$mailbox" "$mailbox"
		done
		# One for each of eight at once.
		for mailbox in s20{1..7}; do
			restore "${server}_$mailbox" s20
		done
	done
	settle
}

others="popa3d dovecot tuned"
ways="kpopd-tls kpopd-p kpopd-p-tls kpopd-p-layer kpopd-accept"

# S1: logins per second; three times as many rounds as elsewhere, but short
# ones: noise passes quickly.
s1() {
	local server
	for server in $(taking_part floor kpopd $ways $others); do
		client "$server" s20 -n 16 -j 8 STAT QUIT
	done
	for _ in $(seq $((ROUNDS * 3))); do
		for server in $(taking_part floor kpopd $ways $others); do
			client "$server" s20 -n "$LOGINS" STAT QUIT
			sample s1.one "$server" \
			    "$(calculate "$LOGINS * 1e9 / ${seen[sessions]}")"
			client "$server" s20 -n "$LOGINS" -j 8 STAT QUIT
			sample s1.eight "$server" \
			    "$(calculate "$LOGINS * 1e9 / ${seen[sessions]}")"
		done
	done
}

# S2: the first open of big; the login is in it.
s2() {
	local server
	for _ in $(seq "$ROUNDS"); do
		# The same file that kpopd reads.
		sample s2.all floor \
		    "$("$KPOPD_BUILD/bench/floor" scan /var/mail/kpopd_big)"
		for server in $(taking_part kpopd $others); do
			! too_slow s2 "$server" || continue
			forget "${server}_big"
			warm "${server}_big"
			client "$server" big STAT UIDL QUIT
			sample s2.stat "$server" $((seen[login] + seen[STAT]))
			sample s2.uidl "$server" "${seen[UIDL]}"
			sample s2.all "$server" \
			    $((seen[login] + seen[STAT] + seen[UIDL]))
			note_slow s2 "$server" \
			    $((seen[login] + seen[STAT] + seen[UIDL]))
		done
	done
}

# poll ROW SERVER MAILBOX
poll() {
	warm "$2_$3"
	client "$2" "$3" STAT UIDL QUIT
	sample "$1.stat" "$2" $((seen[login] + seen[STAT]))
	sample "$1.uidl" "$2" $((seen[login] + seen[STAT] + seen[UIDL]))
	note_slow "$1" "$2" $((seen[login] + seen[STAT] + seen[UIDL]))
}

# polls WHAT: everybody's poll of every mailbox.
polls() {
	local mailbox server
	for mailbox in s20 big mil; do
		for server in $(taking_part kpopd $others); do
			too_slow "s3.$mailbox.$1" "$server" ||
			    poll "s3.$mailbox.$1" "$server" "$mailbox"
		done
	done
}

# S3: polls with nothing new, and after one message.
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

# retrieve ROW SERVER COUNT DEPTH
retrieve() {
	local step="RETR:$3:$4" to=$2
	[ "$2" != floor ] || to=floor-big
	warm "$(owner "$2")_big"
	client "$to" big "$step" QUIT
	sample "$1.rate" "$2" \
	    "$(calculate "${seen["$step octets"]} * 1e3 / ${seen[$step]}")"
	sample "$1.cpu" "$2" \
	    "$(calculate "${seen["$step cpu"]} / ${seen["$step octets"]}")"
	note_slow "$1" "$2" "${seen[$step]}"
}

# S4: big is fetched, 16 requests in flight, and a part of it one at a time.
# Dovecot's first RETR writes to the spool: not timed.
s4() {
	local server
	for server in $(taking_part kpopd $others); do
		client "$server" big RETR:10:1 QUIT
	done
	for _ in $(seq "$ROUNDS"); do
		for server in $(taking_part floor kpopd $ways $others); do
			too_slow s4.many "$server" ||
			    retrieve s4.many "$server" 0 16
			too_slow s4.one "$server" ||
			    retrieve s4.one "$server" "$ONE" 1
		done
	done
}

# deletion SERVER WHICH: QUIT alone; the mailbox is whole before, and has fewer
# messages afterwards.
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

floor() {
	"$KPOPD_BUILD/bench/floor" "$@"
}

# limit_of WHICH: what a deletion is compared with, just before it.
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

# S5: QUIT with marks: every tenth, all, the first, the last.
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

# S6: private dirty memory of the session's process.
s6() {
	local server mailbox
	for _ in $(seq "$ROUNDS"); do
		client floor s20 STAT MEMORY QUIT
		sample s6.s20.again floor "${seen[MEMORY]}"
		for mailbox in s20 mil; do
			for server in $(taking_part kpopd $others); do
				! too_slow "s6.$mailbox" "$server" || continue
				forget "${server}_$mailbox"
				client "$server" "$mailbox" STAT MEMORY QUIT
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

# fill_maildir USER COUNT LEAST MOST: so many messages, of so many bytes in
# their bodies.
fill_maildir() {
	rm -rf "/home/$1/Maildir"
	mkdir -p "/home/$1/Maildir"/{new,cur,tmp}
	"$KPOPD_BUILD/bench/spool" "$2" "$3" "$4" 0 "/home/$1/Maildir"
	chown -R "$1:$1" "/home/$1/Maildir"
}

# S9: a Maildir: opened first, again, after one more, and emptied.
s9() {
	local server turn to
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
			if [ "$turn" = new ]; then
				for server in $(taking_part kpopd dovecot \
				    tuned); do
					install -o "${server}_maildir" -m 600 \
					    "$disk/s20" "/home/${server}_maildir/Maildir/new/1800000000.new"
				done
			fi
			settle
			for server in $(taking_part kpopd dovecot tuned); do
				to=$server
				[ "$server" != kpopd ] || to=kpopd-maildir
				if [ "$turn" = delete ]; then
					client "$to" maildir DELE:1 QUIT
					sample s9.delete "$server" \
					    "${seen[QUIT]}"
					[ -z \
					    "$(find "/home/${server}_maildir/Maildir"/{new,cur} -type f)" ] || fail "$server left messages"
				else
					[ "$turn" != first ] ||
					    forget "${server}_maildir"
					client "$to" maildir STAT UIDL QUIT
					sample "s9.$turn" "$server" \
					    $((seen[login] + seen[STAT] + seen[UIDL]))
				fi
			done
		done
	done
}

# point AXIS X SERVER: first open, poll, memory, a fetch and the removal of one
# message of a mailbox that stands in $disk/plot.
point() {
	local user=${3}_plot most=0
	restore "$user" plot
	settle
	for _ in $(seq "$PLOT_ROUNDS"); do
		forget "$user"
		client "$3" plot STAT UIDL QUIT
		sample "plot.$1.$2.open" "$3" \
		    $((seen[login] + seen[STAT] + seen[UIDL]))
		[ $((seen[login] + seen[STAT] + seen[UIDL])) \
		    -lt $((SLOW * 1000000000)) ] || { most=1; break; }
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

points() {
	local axis=$1 x server
	shift
	for x in "$@"; do
		case $axis in
		# Such messages as big has, on average.
		size)
			"$KPOPD_BUILD/bench/spool" $((x * 92)) 1600 20000 \
			    >"$disk/plot"
			;;
		messages) "$KPOPD_BUILD/bench/spool" "$x" 1 135 >"$disk/plot" ;;
		esac
		for server in $(taking_part kpopd $others); do
			# popa3d takes no mailbox of 2 GiB or more.
			[ "$server" != popa3d ] ||
			    [ "$(stat -c %s "$disk/plot")" -lt 2147483648 ] ||
			    continue
			too_slow "plot.$axis" "$server" ||
			    point "$axis" "$x" "$server"
		done
		rm "$disk/plot"
	done
}

# maildir_point X SERVER: a Maildir of so many files, opened first and again.
maildir_point() {
	local user=${2}_maildir to=$2 what
	[ "$2" != kpopd ] || to=kpopd-maildir
	fill_maildir "$user" "$1" 1 135
	settle
	for what in first again; do
		for _ in $(seq "$PLOT_ROUNDS"); do
			[ $what = again ] || forget "$user"
			client "$to" maildir STAT UIDL QUIT
			sample "plot.$what.$1.maildir" "$2" \
			    $((seen[login] + seen[STAT] + seen[UIDL]))
		done
	done
	rm -rf "/home/$user/Maildir"
}

# The cost against the mailbox's size, against its messages, and against a
# Maildir's files.
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

# What encryption costs a client that fetches: kpopc. A table by itself.
throughput() {
	MESSAGES=${THROUGHPUT-64} ROUNDS=$ROUNDS "$top/bench/throughput" \
	    >"$WORLD/throughput" || fail "bench/throughput failed"
	sed 's/^[[:space:]]*/table\t/' "$WORLD/throughput" >>"$samples"
}
