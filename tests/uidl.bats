#!/usr/bin/env bats
# Checks that messages keep the unique ids of another server: kpopd
# --import-uidl and --uidl-report, and the sessions after an import.

load helpers/all

# The argument of -m for each format, and procmail's DEFAULT for it.
declare -gA formats=(
	[mbox:/var/mail/%u]=/var/mail/alice
	[maildir:~/box]='$HOME/box/'
)
format=mbox:/var/mail/%u

setup() {
	begin_test
	realm_login alice
	mounted=
}

teardown() {
	local status=0
	end_test || status=1
	[ -z "$mounted" ] || umount "$mounted" || status=1
	rm -rf /etc/procmailrc /home/alice/{box,.procmailrc} \
	    "$WORLD"/{list,letter,before,map}
	return $status
}

# each_format FUNCTION: runs the function for each format. Before each run,
# empties the mailbox and makes procmail deliver to that mailbox. The function
# must not be part of a condition; otherwise its checks could not fail.
each_format() {
	for format in "${!formats[@]}"; do
		teardown
		setup
		server_stop
		server_start -m "$format"
		echo "DEFAULT=${formats[$format]}" >/home/alice/.procmailrc
		chown alice: /home/alice/.procmailrc
		echo "$format:"
		"$1"
	done
}

# put SECOND FILE: delivers the message in FILE, which comes before messages of
# a later second in a Maildir.
put() {
	if [ "$format" = 'maildir:~/box' ]; then
		install -d -o alice -g alice /home/alice/box{,/cur,/new,/tmp}
		install -o alice -g alice -m 600 "$2" \
		    "/home/alice/box/new/$1.M1.mail.kpopd.test"
	else
		deliver alice <"$2"
	fi
}

# put_all NAME ...: delivers these messages, in this order.
put_all() {
	local n=0 name
	for name; do
		n=$((n + 1))
		make_message "$name" >"$WORLD/letter"
		put $((1000000000 + n)) "$WORLD/letter"
	done
}

# line [-b] ID: prints the line of a list for the message in standard input.
line() {
	"$KPOPD_BUILD/tests/programs/uidl-list" "$@"
}

# list_lines: writes a list with the lines that it reads to $WORLD/list.
list_lines() {
	awk 'BEGIN { print "kpopd uidl list 1" } { print }
		END { print "end " NR }' >"$WORLD/list"
}

# list NAME=ID ...: writes a list of these messages to $WORLD/list.
list() {
	local pair
	for pair; do
		make_message "${pair%%=*}" | line "${pair#*=}"
	done | list_lines
}

# import [OPTION ...]: imports $WORLD/list for alice.
import() {
	"$KPOPD_BUILD/kpopd" --import-uidl alice -d "$state" -m "$format" \
	    "$@" <"$WORLD/list" 2>&1
}

# report: runs --uidl-report with $WORLD/list for alice.
report() {
	"$KPOPD_BUILD/kpopd" --uidl-report alice -d "$state" -m "$format" \
	    <"$WORLD/list" 2>&1
}

# says TEXT: returns true if $output, of an import for alice, has this line.
says() {
	grep -qxF "alice: $1" <<<"$output" ||
	    { echo "not said: $1" >&2; return 1; }
}

# ids: prints the unique ids of alice's messages in one line, in order.
ids() {
	pop alice UIDL QUIT | sed -nE 's/^[0-9]+ ([^ ]+)$/\1/p' | paste -sd ' '
}

# ids_are ID ...: returns true if these are the ids. "*" means any id.
ids_are() {
	local got
	got=$(ids)
	# shellcheck disable=SC2053 # "*" is a pattern
	[[ $got == $* ]] || { echo "ids: $got, expected: $*" >&2; return 1; }
}

# map: prints the path of the mailbox's map.
map() {
	local dir
	for dir in "$state/users/$(id -u alice)/${format%%:*}"-*/; do
		echo "${dir}uidl"
	done
}

# imported_ids_are_given: after an import, sessions give the other server's ids,
# and commands act on the messages with these ids.
imported_ids_are_given() {
	local own
	put_all one two three
	own=$(ids)
	list two=old2 gone=old0 one=old1 three=old3
	run import
	echo "$output"
	[ "$status" -eq 0 ]
	[ "${lines[0]}" = \
	    "alice: with an id of the other server: 3 of 3 messages" ]
	[ "${lines[1]}" = "alice: without a message: 1 of 4 lines" ]
	[ "${#lines[@]}" -eq 2 ]
	log_has 'import peer=none user=alice messages=3 ids=3 lines=4$'
	ids_are old1 old2 old3
	# The ids do not depend on the index.
	forget_index
	ids_are old1 old2 old3
	make_message four | deliver alice
	ids_are old1 old2 old3 '*'
	run pop alice "UIDL 2" "RETR 2" "DELE 2" QUIT
	[[ $output == *"+OK 2 old2"* && $output == *"two line 3"* &&
	    $output == *"+OK bye, 3 messages left" ]]
	ids_are old1 old3 '*'
	# The new message has its own id, as it would have without an import.
	own=$(ids)
	mv "$(map)" "$WORLD/map"
	[ "${own##* }" = "$(ids | sed 's/.* //')" ]
	refute ids_are old1 old3 '*'
	mv "$WORLD/map" "$(map)"
	# The next import drops the line of the removed message.
	grep -q ' old2$' "$(map)"
	run import
	[ "$status" -eq 0 ]
	ids_are old1 old3 '*'
	refute grep -q ' old2$' "$(map)"
	[ "$(wc -l <"$(map)")" -eq 3 ]
}

@test "kpopd gives messages the ids of an imported list and new mail its own ids, in mbox and Maildir" {
	each_format imported_ids_are_given
}

@test "an import makes no Maildir and changes no mail" {
	format='maildir+create:~/box'
	server_stop
	server_start -m "$format"
	list one=old1
	run import
	[ "$status" -eq 3 ]
	run report
	[ "$status" -eq 0 ]
	[ ! -e /home/alice/box ]
	format='maildir:~/box'
	put_all one two
	tar -C /home/alice -cf "$WORLD/before" box
	import
	tar -C /home/alice -cf - box | cmp - "$WORLD/before"
	format=mbox:/var/mail/%u
	put_all one two
	# The import makes a dotlock, which changes the time of the directory.
	tar -C /var/mail -cf "$WORLD/before" alice
	import
	tar -C /var/mail -cf - alice | cmp - "$WORLD/before"
	[ "$(ls -A /var/mail)" = alice ]
}

# similar_messages_match: messages that are not identified by their header match
# by their body, and equal ones in their order.
similar_messages_match() {
	local n
	printf 'Subject: weak\n\nfirst\n' >"$WORLD/weak1"
	printf 'Subject: weak\n\nsecond\n' >"$WORLD/weak2"
	printf 'Subject: weak\n\nthird\n' >"$WORLD/weak3"
	make_message one >"$WORLD/same1"
	make_message one 5 >"$WORLD/same2"
	n=1000000000
	for file in weak1 same1 weak2 weak1 same2 same1 weak3; do
		put $((++n)) "$WORLD/$file"
	done
	{
		line -b w2 <"$WORLD/weak2"
		line -b s2 <"$WORLD/same2"
		line -b w1 <"$WORLD/weak1"
		line -b s1 <"$WORLD/same1"
		line -b w1b <"$WORLD/weak1"
		# Neither a body nor a header that identifies the message.
		line w3 <"$WORLD/weak3"
	} | list_lines
	run report
	echo "$output"
	[ "$status" -eq 0 ]
	[ "${lines[0]}" = \
	    "alice: with an id of the other server: 5 of 7 messages" ]
	[ "${lines[1]}" = \
	    "alice: in the list with another body: 2 of 7 messages, number 6, 7" ]
	[ "${lines[2]}" = "alice: without a message: 1 of 6 lines" ]
	[ "${#lines[@]}" -eq 3 ]
	[ ! -e "$(map)" ]
	import
	ids_are w1 s1 w2 w1b s2 '*' '*'
	[ "$(ids | tr ' ' '\n' | sort -u | wc -l)" -eq 7 ]
	# A line without a body matches none of several different messages.
	rm "$(map)"
	{
		line s <"$WORLD/same1"
		line -b w3 <"$WORLD/weak3"
	} | list_lines
	import
	ids_are '*' '*' '*' '*' '*' '*' w3
	[[ " $(ids) " != *" s "* ]]
}

@test "messages with equal or weak headers get the ids of the lines with their bodies, in mbox and Maildir" {
	each_format similar_messages_match
}

@test "a session looks for a map once, at its first UIDL" {
	put_all one two
	list one=old1
	for mapped in no yes; do
		[ $mapped = no ] || import
		pop alice QUIT
		pop_login alice
		attach "$(child_pid)" -o "$WORLD/calls" -e trace=open,openat
		pop_ask STAT
		pop_ask "LIST 1"
		pop_ask "DELE 1"
		pop_ask RSET
		[ "$(calls_in "$WORLD/calls" | wc -l)" -eq 0 ]
		pop_ask "UIDL 1"
		pop_ask "UIDL 2"
		pop_ask "UIDL 1"
		[ "$(calls_in "$WORLD/calls")" = "openat 1" ]
		grep -q '"uidl"' "$WORLD/calls"
		pop_ask QUIT
		pop_close
		detached
	done
}

@test "messages that a mail reader has marked, or that were stored with CRLF, get their ids" {
	make_message one | sed '3i Status: RO\nX-UID: 77\nX-Keywords: a b' \
	    >"$WORLD/letter"
	put 1 "$WORLD/letter"
	make_message two | sed 's/$/\r/' >"$WORLD/letter"
	put 2 "$WORLD/letter"
	make_message two | sed 's/$/\r/' | line -b old2 >"$WORLD/crlf"
	list one=old1 two=old2
	# A body has one hash with LF and CRLF.
	[ "$(make_message two | line -b old2)" = "$(cat "$WORLD/crlf")" ]
	import
	ids_are old1 old2
}

@test "fetchmail fetches no message again after its server was replaced and the ids were imported" {
	put_all one two three
	list one=OldServer.1 two=OldServer.2 three=OldServer.3
	printf 'alice@mail.kpopd.test %s\n' OldServer.{1,2,3} \
	    >"$WORLD/fetchids"
	cat >"$WORLD/fetchmailrc" <<-END
	poll mail.kpopd.test proto KPOP auth kerberos_v5 uidl user "alice"
	     sslproto '' keep mda "cat >>$WORLD/fetched"
	END
	chmod 600 "$WORLD/fetchmailrc" "$WORLD/fetchids"
	: >"$WORLD/fetched"
	chmod 666 "$WORLD/fetched"
	import
	fetch() {
		fetchmail --nodetach --nosyslog -f "$WORLD/fetchmailrc" \
		    -i "$WORLD/fetchids" --pidfile "$WORLD/fetchmail.pid"
	}
	run fetch
	echo "$output"
	[ "$status" -eq 1 ]
	[ ! -s "$WORLD/fetched" ]
	make_message four | deliver alice
	run fetch
	[ "$status" -eq 0 ]
	[ "$(grep -c ^Subject: "$WORLD/fetched")" -eq 1 ]
	grep -q '^Subject: four' "$WORLD/fetched"
	# Without the map it fetches all again.
	rm "$(map)"
	run fetch
	[ "$(grep -c ^Subject: "$WORLD/fetched")" -eq 4 ]
}

@test "a second import adds ids, and a message keeps the id of an earlier one" {
	put_all one two three four
	list one=old1 two=old2
	import
	# The new list contradicts the first: by another id of a message, and by
	# an id that another message has.
	list one=other1 three=old3 four=old2
	run import
	echo "$output"
	[ "$status" -eq 0 ]
	[ "${lines[0]}" = \
	    "alice: with an id of the other server: 3 of 4 messages" ]
	says "message has another id from an earlier import: 1 of 3 lines"
	ids_are old1 old2 old3 '*'
	[[ $(ids) != *other1* ]]
	# After its removal, the map is made again.
	rm "$(map)"
	import
	ids_are other1 '*' old3 old2
}

@test "a message whose own id another message had on the old server gets a third id" {
	local own
	put_all one two
	own=$(ids)
	list "one=${own#* }"
	import
	ids_are "${own#* }" ':0:*'
	forget_index
	ids_are "${own#* }" ':0:*'
	# The id stays although the line that made it necessary is gone.
	own=$(ids)
	pop alice "DELE 1" QUIT
	list two=gone one=gone2
	run import
	[ "$status" -eq 0 ]
	ids_are "${own#* }"
	# If each message has the own id of the other, both get it.
	rm "$(map)"
	put_all one
	own=$(ids)
	list "two=${own#* }" "one=${own% *}"
	import
	ids_are "${own#* }" "${own% *}"
}

# wrong LINE TEXT: returns true if an import of standard input fails because of
# this line, or of the list if it is 0, with this text, and changes nothing.
wrong() {
	local where="line $1 of the list"
	[ "$1" -ne 0 ] || where="the list"
	cat >"$WORLD/list"
	run import
	echo "$output"
	[ "$status" -eq 3 ] && [ "$output" = "alice: $where: $2" ] &&
	    cmp "$WORLD/map" "$(map)"
}

# bats test_tags=catalogue:87
@test "a wrong list changes nothing, and its mistake is printed with the line" {
	local good long id
	put_all one two
	list one=old1
	import
	cp "$(map)" "$WORLD/map"
	good=$(make_message two | line old2)
	long=$(printf '%071d' 0)
	no_header="its first word is not the hash of a header"
	no_body="its second word is neither the hash of a body nor -"
	no_id="its third word is not an id of 1 to 70 characters"
	first="it is not: kpopd uidl list 1"
	no_end="it does not end, so the list may be incomplete"
	begin="kpopd uidl list 1"
	wrong 1 "$first" </dev/null
	wrong 1 "$first" <<<""
	wrong 1 "$first" <<<"kpopd uidl list 2"
	wrong 1 "$first" <<<"$good"
	wrong 1 "$first" <<<"kpopd uidl map 1"
	wrong 1 "$no_end" < <(printf %s "$begin")
	wrong 1 "it is too long" < <(head -c 10000000 /dev/zero)
	wrong 2 "it is too long" < <(echo "$begin"; head -c 10000000 /dev/zero)
	wrong 3 "$no_end" < <(printf '%s\n' "$begin" "$good"; printf %s "$good")
	wrong 3 "$no_header" <<<"$begin"$'\n'"$good"$'\n'
	wrong 3 "$no_header" <<<"$begin"$'\n'"$good"$'\n'"$begin"
	wrong 2 "$no_header" <<<"$begin"$'\n'"x$good"
	wrong 2 "$no_header" <<<"$begin"$'\n'" $good"
	wrong 2 "$no_header" <<<"$begin"$'\n'"${good:1}"
	# The last character has bits that are none of the hash.
	wrong 2 "$no_header" <<<"$begin"$'\n'"${good:0:21}B${good:22}"
	wrong 2 "$no_body" <<<"$begin"$'\n'"${good:0:22}"
	wrong 2 "$no_body" <<<"$begin"$'\n'"${good:0:22} "
	wrong 2 "$no_body" <<<"$begin"$'\n'"${good:0:22} x old2"
	wrong 2 "$no_body" <<<"$begin"$'\n'"${good:0:22} 0000000000000000 old2"
	wrong 2 "$no_body" <<<"$begin"$'\n'"${good:0:22} 123456789ABCDEF0 old2"
	wrong 2 "$no_body" <<<"$begin"$'\n'"${good:0:22} 123456789abcdef old2"
	wrong 2 "$no_id" <<<"$begin"$'\n'"${good:0:22} -"
	wrong 2 "$no_id" <<<"$begin"$'\n'"${good:0:22} - "
	for id in "$long" "old 2" "old2 " " old2" $'old\t2' $'o\x7f' \
	    $'o\xe4'; do
		wrong 2 "$no_id" <<<"$begin"$'\n'"${good:0:22} - $id"
	done
	wrong 2 "$no_id" < <(printf '%s\n%s - old\0\n' "$begin" "${good:0:22}")
	wrong 2 "$no_header" < <(printf '%s\n\0%s\n' "$begin" "$good")
	run "$KPOPD_BUILD/kpopd" --import-uidl alice -d "$state" </tmp
	[ "$status" -eq 3 ]
	[ "$output" = "alice: the list: it cannot be read" ]
	# A list that is not whole, or is two lists.
	wrong 2 "it must be: end 0" <<<"$begin"
	wrong 3 "it must be: end 1" <<<"$begin"$'\n'"$good"
	for id in end "end " "end 0" "end 2" "end 01" "end 1 " "end 1 2"; do
		wrong 3 "it must be: end 1" <<<"$begin"$'\n'"$good"$'\n'"$id"
	done
	wrong 4 "it comes after the end" \
	    <<<"$begin"$'\n'"$good"$'\n'"end 1"$'\n'"$good"
	wrong 4 "it comes after the end" \
	    <<<"$begin"$'\n'"$good"$'\n'"end 1"$'\n'
	wrong 3 "$no_header" <<<"$begin"$'\n'"$good"$'\n'ending
	# The hash of a header may begin with this word.
	wrong 3 "it must be: end 1" <<<"$begin"$'\n'"end${good:3}"
	# The line ends of an editor are no mistake.
	sed 's/$/\r/' <<<"$begin"$'\n'"$good"$'\n'"end 1" >"$WORLD/list"
	import
	ids_are old1 old2
}

@test "a list in which lines repeat an id gives the id to one message" {
	put_all one two
	list one=same two=same one=same
	run import
	echo "$output"
	[ "$status" -eq 0 ]
	says "with the id of an earlier line: 2 of 3 lines"
	ids_are same '*'
	rm "$(map)"
	yes "$(make_message two | line same)" | head -n 1000000 | list_lines
	run import
	says "with the id of an earlier line: 999999 of 1000000 lines"
	ids_are '*' same
}

@test "a list of which no message is in the mailbox is refused" {
	put_all one two
	list three=old3 four=old4
	run import
	echo "$output"
	[ "$status" -eq 3 ]
	[ "${lines[-1]}" = \
	    "alice: no message is in the list, so nothing was changed" ]
	[ ! -e "$(map)" ]
	# An empty list of an empty mailbox is right.
	pop alice "DELE 1" "DELE 2" QUIT
	run import
	[ "$status" -eq 3 ]
	list
	run import
	[ "$status" -eq 0 ]
	[ "$output" = "alice: with an id of the other server: 0 of 0 messages" ]
}

@test "an import refuses a mailbox in use with status 4, and leaves the session alone" {
	put_all one
	list one=old1
	pop_login alice
	run import
	echo "$output"
	[ "$status" -eq 4 ]
	[[ $output == "alice: the mailbox is in use, "* ]]
	run report
	[ "$status" -eq 4 ]
	pop_ask "UIDL 1" '^\+OK 1 [^ ]{22}$'
	pop_ask QUIT
	pop_close
	run import
	[ "$status" -eq 0 ]
	ids_are old1
}

@test "a session waits for no import, and is told that the mailbox is in use" {
	put_all one
	ids
	kpopd_ends 5
	list one=old1
	# The import waits in its first fsync, with the session lock.
	strace -f -qq -o /dev/null -e trace=fsync \
	    -e inject=fsync:delay_enter=600000000 \
	    "$KPOPD_BUILD/kpopd" --import-uidl alice -d "$state" \
	    <"$WORLD/list" >"$WORLD/out" 2>&1 3>&- &
	tracer=$!
	await 10 '[ -e "$(map).tmp" ]' || { kill -KILL $tracer; return 1; }
	run pop alice STAT QUIT
	importer=$(pgrep -x -o kpopd -u alice)
	cat "/proc/$importer/status" >"$WORLD/status"
	ls -l "/proc/$importer/fd" >"$WORLD/files"
	# Without strace the import goes on.
	kill -KILL $tracer
	wait $tracer || true
	# It has had the user's rights only, and the filter of a session.
	grep -Eq "^Uid:(.$(id -u alice)){4}\$" "$WORLD/status"
	grep -Eq '^CapEff:.0*$' "$WORLD/status"
	[ -n "${SANITIZER-}" ] || grep -Eq '^Seccomp:.2$' "$WORLD/status"
	[ "$(grep -c ' [012] -> /dev/null$' "$WORLD/files")" -eq 3 ]
	refute grep -F "$WORLD/list" "$WORLD/files"
	[[ $output == *"-ERR [IN-USE]"* ]]
	kpopd_ends 10
	cat "$WORLD/out"
	ids_are old1
	[ ! -e "$(map).tmp" ]
}

# fails_at CALL FAULT: runs an import with this fault at a system call. Returns
# true if the import fails.
fails_at() {
	local status=0
	strace -f -qq -o /dev/null -e "trace=$1" -e "inject=$1:$2" \
	    "$KPOPD_BUILD/kpopd" --import-uidl alice -d "$state" \
	    <"$WORLD/list" >"$WORLD/out" 2>&1 || status=$?
	cat "$WORLD/out"
	echo "$1 $2: $status"
	[ $status -eq 1 ] && grep -q '^alice: failed, see syslog$' "$WORLD/out"
}

@test "an import that is killed or fails while it writes the map leaves the earlier map" {
	local call fault
	put_all one two
	list one=old1
	import
	cp "$(map)" "$WORLD/map"
	list one=old1 two=old2
	for call in fsync renameat; do
		for fault in signal=KILL error=EIO; do
			fails_at $call $fault
			cmp "$WORLD/map" "$(map)"
			ids_are old1 '*'
		done
	done
	import
	ids_are old1 old2
	[ ! -e "$(map).tmp" ]
	# After the rename, the new map is there as a whole.
	put_all three
	list three=old3
	fails_at fsync signal=KILL:when=2
	ids_are old1 old2 old3
}

@test "an import that was interrupted while it waits for its list changes nothing" {
	put_all one
	ids
	kpopd_ends 5
	list one=old1
	mkfifo "$WORLD/slow"
	"$KPOPD_BUILD/kpopd" --import-uidl alice -d "$state" <"$WORLD/slow" \
	    >"$WORLD/out" 2>&1 3>&- &
	importer=$!
	exec {slow}>"$WORLD/slow"
	await 5 'pgrep -x kpopd -u alice >/dev/null'
	# Meanwhile the mailbox is not locked.
	ids_are '*'
	kill -INT $importer
	wait $importer || true
	cat "$WORLD/list" >&"$slow"
	exec {slow}>&-
	rm "$WORLD/slow"
	kpopd_ends 10
	cat "$WORLD/out"
	[ ! -e "$(map)" ]
	refute ids_are old1
}

@test "an import with a full disk leaves the earlier map" {
	local n
	put_all one two
	list one=old1
	import
	# A file system with space for the earlier map only.
	mkdir -p "$WORLD/small"
	mount -t tmpfs -o size=64k small "$WORLD/small"
	cp -a "$state/users/." "$WORLD/small"
	mount --move "$WORLD/small" "$state/users"
	mounted=$state/users
	rm -f "$state"/users/*/*/index
	cp "$(map)" "$WORLD/map"
	head -c 1M /dev/zero >"$state/users/filler" || true
	list one=old1 two=old2
	run import
	echo "$output"
	[ "$status" -eq 1 ]
	[[ $output == *"alice: failed, see syslog"* ]]
	log_has 'fatal .*error="writing the file uidl in the state directory: No space left'
	cmp "$WORLD/map" "$(map)"
	[ ! -e "$(map).tmp" ]
	ids_are old1 '*'
	rm "$state/users/filler"
	import
	ids_are old1 old2
}

@test "an import refuses a user without an account, with another uid, and a service account" {
	list one=old1
	for user in nobody-here root nobody "" ../alice; do
		run "$KPOPD_BUILD/kpopd" --import-uidl "$user" -d "$state" \
		    <"$WORLD/list"
		echo "$output"
		[ "$status" -eq 1 ]
		[ "${#lines[@]}" -eq 1 ]
	done
	run "$KPOPD_BUILD/kpopd" --import-uidl alice -d "$state" -n 60000 \
	    <"$WORLD/list"
	[ "$status" -eq 1 ]
	# A user without mail, and without a mailbox.
	rm -f /var/mail/alice
	run import
	[ "$status" -eq 3 ]
	[ "${lines[-1]}" = \
	    "alice: no message is in the list, so nothing was changed" ]
}

@test "--import-uidl and --uidl-report refuse a terminal, a socket, another user than root, and each other" {
	run script -qec "'$KPOPD_BUILD/kpopd' --import-uidl alice -d '$state'" \
	    /dev/null </dev/null
	echo "$output"
	[ "$status" -eq 1 ]
	[[ $output == *"alice: the list must be standard input"* ]]
	: >"$WORLD/list"
	run "$KPOPD_BUILD/kpopd" --import-uidl alice --uidl-report alice \
	    <"$WORLD/list"
	[ "$status" -eq 2 ]
	[[ $output == *"--import-uidl excludes --uidl-report"* ]]
	run setpriv --reuid alice --clear-groups "$KPOPD_BUILD/kpopd" \
	    --uidl-report alice <"$WORLD/list"
	[ "$status" -eq 2 ]
	[[ $output == *"--uidl-report needs root"* ]]
	run socat EXEC:"$KPOPD_BUILD/kpopd --import-uidl alice" /dev/null
	log_has 'fatal .*--import-uidl serves no client'
}

# bats test_tags=catalogue:88
@test "with a damaged map UIDL fails, other commands work, and nothing is fetched twice" {
	local text perm="[SYS/PERM] cannot read the unique ids"
	put_all one two
	list one=old1 two=old2
	import
	for text in "" "kpopd uidl map 1" "kpopd uidl map 2"$'\n' \
	    "kpopd uidl map 1"$'\n'"a 1"$'\n'"b 1"$'\n'; do
		printf %s "$text" >"$(map)"
		log_mark
		run pop alice UIDL "UIDL 1" STAT "RETR 1" "DELE 1" RSET QUIT
		echo "$output"
		[ "$(grep -cxF -- "-ERR $perm" <<<"$output")" -eq 2 ]
		[[ $output == *"one line 3"* ]]
		log_count 1 'failed .*what="reading the file uidl in the state directory" error="it is damaged: remove it, import the ids again"'
		run import
		echo "$output"
		[ "$status" -eq 1 ]
		[[ $output == *"the earlier ids cannot be read"* ]]
	done
	rm "$(map)"
	import
	ids_are old1 old2
}

@test "a user's symlinks and FIFOs in place of the map are not followed" {
	local secret=$WORLD/secret
	put_all one
	ids
	echo "root's" >"$secret"
	list one=old1
	# In place of the map.
	ln -s "$secret" "$(map)"
	run pop alice UIDL QUIT
	[[ $output == *"-ERR [SYS/PERM] cannot read the unique ids"* ]]
	run import
	[ "$status" -eq 1 ]
	rm "$(map)"
	mkfifo "$(map)"
	chown alice "$(map)"
	run timeout 20 "$KPOPD_BUILD/kpopd" --import-uidl alice -d "$state" \
	    <"$WORLD/list"
	[ "$status" -eq 1 ]
	rm "$(map)"
	# In place of the file that is written.
	ln -s "$secret" "$(map).tmp"
	import
	ids_are old1
	[ ! -L "$(map)" ]
	[ "$(cat "$secret")" = "root's" ]
	# In place of the state directory.
	rm "$(map)"
	mkdir "$WORLD/elsewhere"
	chown alice "$WORLD/elsewhere"
	where=$(dirname "$(map)")
	mv "$where" "$where.real"
	ln -s "$WORLD/elsewhere" "$where"
	run import
	[ "$status" -eq 1 ]
	[ -z "$(ls "$WORLD/elsewhere")" ]
	rm "$where"
	mv "$where.real" "$where"
	rmdir "$WORLD/elsewhere"
	import
	ids_are old1
}

@test "an import is right while mail arrives in a Maildir and its files are renamed" {
	local i agent
	format='maildir:~/box'
	server_stop
	server_start -m "$format"
	install -d -o alice -g alice /home/alice/box{,/cur,/new,/tmp}
	put_all $(seq -f 'm%.0f' 300)
	list $(seq 300 | awk '{ print "m" $1 "=old" $1 }')
	setpriv --reuid alice --regid alice --clear-groups \
	    perl "$top/tests/programs/maildir-agent.pl" /home/alice/box \
	    >"$WORLD/out" 3>&- &
	agent=$!
	await 5 '[ -n "$(ls -A /home/alice/box/cur)" ]'
	for i in 1 2 3 4 5; do
		run import
		echo "$output"
		[ "$status" -eq 0 ] || break
		grep -q ': 300 of ' <<<"$output" || break
	done
	touch /home/alice/box/stop
	wait $agent
	[ "$status" -eq 0 ]
	[ "$(ids | tr ' ' '\n' | grep -c '^old')" -eq 300 ]
	ids | tr ' ' '\n' | head -n 300 | cmp - <(seq -f 'old%.0f' 300)
}

@test "a list of 100,000 messages is imported" {
	perl -e 'for my $i (1 .. 100_000) { print "From a\@b Mon Nov 23 05:00:00 2026\nMessage-ID: <$i\@b>\n\nbody\n\n" }' |
	    store alice
	ids | tr ' ' '\n' >"$WORLD/own"
	awk '{ print $1, "-", "old" NR }' "$WORLD/own" | shuf | list_lines
	run import
	echo "$output"
	[ "$output" = \
	    "alice: with an id of the other server: 100000 of 100000 messages" ]
	ids | tr ' ' '\n' | cmp - <(seq -f 'old%.0f' 100000)
}

# id_storm mbox|maildir: runs tests/programs/id-storm.py with $COUNT steps, with
# a small file system for the state. The seed is $SEED, or a new one in each
# run.
id_storm() {
	local count=20 mode status=0
	[ -z "${SANITIZER-}" ] || skip "the build without sanitizers tests this"
	! long || count=3000
	count=${COUNT-$count}
	pop alice QUIT
	mode=$(stat -c %a "$state/users")
	mount -t tmpfs -o "size=256k,nr_inodes=200,mode=$mode" state \
	    "$state/users"
	mounted=$state/users
	KPOPD_BUILD=$KPOPD_BUILD timeout $((count + 200)) /usr/bin/python3 \
	    "$BATS_TEST_DIRNAME/programs/id-storm.py" "$1" \
	    "${SEED-$RANDOM}" "$count" >"$WORLD/points" 3>&- || status=$?
	cat "$WORLD/points" >&3
	return $status
}

# bats test_tags=fault:22
@test "in an mbox, messages keep their ids while imports are killed or have a full disk, and mail comes and goes" {
	# procmail would wait a second for each message, and eight for a lock.
	mount -o remount,bind,noatime /var/mail
	# A broker that is killed leaves its dotlock behind, and procmail would
	# wait 1024 seconds for it.
	printf '%s\n' LOCKSLEEP=1 LOCKTIMEOUT=20 SUSPEND=1 >/etc/procmailrc
	id_storm mbox
}

# bats test_tags=fault:22
@test "in a Maildir, messages keep their ids while imports are killed or have a full disk, and mail comes and goes" {
	format='maildir:~/box'
	server_stop
	server_start -m "$format"
	echo "DEFAULT=${formats[$format]}" >/home/alice/.procmailrc
	chown alice: /home/alice/.procmailrc
	id_storm maildir
}
