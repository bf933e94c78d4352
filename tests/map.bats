#!/usr/bin/env bats
# Checks kpopc --uidl-map, which lists the ids of another server: against kpopd,
# whose ids of an mbox contain the hashes of the list, against Dovecot, and
# against servers that answer wrongly.

load helpers/all

setup_file() { tls_make; }

setup() {
	begin_test
	realm_login alice
	rm -f "$WORLD"/{mbox,maplog,password}
	(umask 077 && echo secret >"$WORLD/password")
}

teardown() {
	[ -z "${false_pid-}" ] || kill "$false_pid" 2>/dev/null || true
	dovecot_end
	rm -rf /home/alice/Maildir
	end_test
}

# list KPOPC-ARGUMENT ...: writes the list to $WORLD/list. Fails unless kpopc
# exits with 0 and prints no error.
list() {
	timeout 60 "$KPOPD_BUILD/kpopc" --uidl-map "$@" 3>&- >"$WORLD/list" \
	    2>"$WORLD/errors" && [ ! -s "$WORLD/errors" ] ||
	    { head -c 500 "$WORLD/errors" "$WORLD/list" >&2; return 1; }
}

# list_has COUNT: returns true if the list is whole, and has COUNT messages.
list_has() {
	[ "$(head -n 1 "$WORLD/list")" = "kpopd uidl list 1" ] &&
	    [ "$(tail -n 1 "$WORLD/list")" = "end $1" ] &&
	    [ "$(wc -l <"$WORLD/list")" -eq $(($1 + 2)) ] ||
	    { cat "$WORLD/list" >&2; return 1; }
}

# rows FIELDS: prints these fields of the messages' lines in the list.
rows() {
	sed '1d;$d' "$WORLD/list" | cut -d ' ' -f "$1"
}

# ids_have_hashes: returns true if each id of the list, which kpopd has given to
# a message of an mbox, consists of the hashes in the same line.
ids_have_hashes() {
	rows 1-3 | awk '
		NF != 3 { bad = 1; print }
		$3 == $1 { next }
		index($3, $1 "." $2) != 1 { bad = 1; print; next }
		substr($3, 40) !~ /^(\.[0-9]+)?$/ { bad = 1; print }
		END { exit bad }' >&2
}

# varied N mbox|DIRECTORY [clean]: makes N varied messages.
varied() {
	perl "$BATS_TEST_DIRNAME/programs/varied-mail.pl" "$@"
}

# map_server [PERL]: prints a command that serves $WORLD/mbox.
map_server() {
	printf "perl '%s/programs/map-server.pl' '%s/mbox' '%s'" \
	    "$BATS_TEST_DIRNAME" "$WORLD" "${1-}"
}

# fails STATUS PATTERN PERL [KPOPC-OPTION ...]: runs kpopc with a server of
# three messages that PERL changes. Returns true if kpopc exits with STATUS, has
# an error of one line that matches PATTERN, and prints nothing else.
fails() {
	local status=0
	[ -s "$WORLD/mbox" ] || mbox one two three >"$WORLD/mbox"
	timeout 60 "$KPOPD_BUILD/kpopc" --uidl-map "${@:4}" \
	    --command "$(map_server "$3")" 3>&- >"$WORLD/list" \
	    2>"$WORLD/errors" || status=$?
	[ "$status" -eq "$1" ] && [ ! -s "$WORLD/list" ] &&
	    [ "$(wc -l <"$WORLD/errors")" -eq 1 ] &&
	    grep -Eqx "kpopc: $2" "$WORLD/errors" || {
		echo "$3: status $status" >&2
		head -c 1000 "$WORLD/errors" "$WORLD/list" >&2
		return 1
	}
}

@test "kpopc --uidl-map has the hashes of kpopd's own ids for 1,200 messages, by KPOP, AUTH GSSAPI and TLS" {
	local way options count
	varied 1200 mbox | store alice
	for way in '' --tls -p '-p --tls'; do
		options=$(tls_options)
		case $way in -p*) options+=" -p" ;; esac
		server_stop
		server_start $options
		list $way -C "$WORLD/tls/ca.pem" mail.kpopd.test 1109
		list_has 1200
		ids_have_hashes || { echo "way: $way"; return 1; }
		rows 1-3 >"$WORLD/list.${way// /}"
		cmp "$WORLD/list." "$WORLD/list.${way// /}"
		log_has 'logout .*retrieved=0 .*deleted=0 '
	done
	# The mailbox has ids of each kind, and messages that were read whole.
	rows 3 >"$WORLD/listed"
	grep -Ec '^.{22}$' "$WORLD/listed"
	grep -E '^.{39}$' "$WORLD/listed" >/dev/null
	grep -E '^.{39}\.2$' "$WORLD/listed" >/dev/null
	count=$(rows 2 | grep -c '^-$')
	[ "$count" -gt 800 ]
	[ "$count" -lt 1150 ]
	# The list is the same as that of UIDL.
	server_stop
	server_start
	pop alice UIDL QUIT | sed -n 's/^[0-9]* \([^ ]*\)$/\1/p' |
	    cmp - "$WORLD/listed"
}

@test "kpopc --uidl-map has the hashes of kpopd's own ids for each boundary file" {
	server_start
	mkdir -p "$WORLD/boundaries"
	perl "$BATS_TEST_DIRNAME/programs/boundaries.pl" "$WORLD/boundaries" \
	    <"$BATS_TEST_DIRNAME/boundaries"
	local file count total=0
	while read -r file count _; do
		[ "$count" -gt 0 ] || continue
		store alice <"$WORLD/boundaries/$file"
		forget_index
		list mail.kpopd.test
		list_has "$count"
		ids_have_hashes || { echo "$file"; return 1; }
		total=$((total + count))
	done <"$WORLD/boundaries.list"
	[ "$total" -gt 100 ]
}

@test "a message has the same hashes in an mbox and in a Maildir" {
	varied 300 mbox | store alice
	server_start
	list mail.kpopd.test
	list_has 300
	rows 1-2 >"$WORLD/mbox.hashes"
	mkdir -p /home/alice/Maildir/{cur,new,tmp}
	varied 300 /home/alice/Maildir
	chown -R alice: /home/alice/Maildir
	server_stop
	server_start -m maildir:~/Maildir
	list mail.kpopd.test
	rows 1-2 | cmp - "$WORLD/mbox.hashes"
}

@test "Dovecot's list, by a master user and openssl s_client, has the hashes that kpopd's list has" {
	varied 1000 mbox clean | store alice
	server_start
	list mail.kpopd.test
	rows 1-2 >"$WORLD/kpopd.hashes"
	cp -p "$(spool alice)" "$WORLD/kept"
	dovecot_serve_master mbox '~/mail' /var/mail/alice
	list -l 'alice*master' --password-file "$WORLD/password" --command \
	    "openssl s_client -quiet -verify_quiet -verify_return_error \
	    -CAfile $WORLD/tls/ca.pem -connect mail.kpopd.test:995"
	list_has 1000
	rows 1-2 >"$WORLD/dovecot.hashes"
	diff "$WORLD/kpopd.hashes" "$WORLD/dovecot.hashes"
	rows 3 | grep -Ecx '[0-9a-f]{16}'
	# Nothing was marked as seen, even if it was read whole.
	[ "$(grep -ac '^Status: [A-Z]*R' "$(spool alice)")" -eq \
	    "$(grep -ac '^Status: [A-Z]*R' "$WORLD/kept")" ]
	# The same by STLS, without a command.
	rows 1-3 >"$WORLD/first"
	list -C "$WORLD/tls/ca.pem" -l 'alice*master' --tls \
	    --password-file "$WORLD/password" mail.kpopd.test
	rows 1-3 | cmp - "$WORLD/first"
}

# keeps_ids_of_dovecot MAILBOX mbox|maildir DIRECTORY [INBOX]: Dovecot serves
# alice's messages. Then kpopd does, with MAILBOX for -m. Returns true if kpopd
# gives Dovecot's ids after an import.
keeps_ids_of_dovecot() {
	dovecot_serve_master "${@:2}"
	list -C "$WORLD/tls/ca.pem" -l 'alice*master' --tls \
	    --password-file "$WORLD/password" mail.kpopd.test
	dovecot_end
	list_has 500
	"$KPOPD_BUILD/kpopd" --import-uidl alice -d "$state" \
	    -m "$1" <"$WORLD/list" >"$WORLD/output"
	cat "$WORLD/output"
	grep 'with an id of the other server: 500 of 500 messages' \
	    "$WORLD/output"
	pop alice UIDL QUIT | sed -n 's/^[0-9]* \([^ ]*\)$/\1/p' \
	    >"$WORLD/listed"
	rows 3 | sort >"$WORLD/listed.dovecot"
	[ "$(wc -l <"$WORLD/listed")" -eq 500 ]
	sort "$WORLD/listed" | cmp - "$WORLD/listed.dovecot"
}

@test "after kpopd --import-uidl of Dovecot's list, kpopd gives all messages Dovecot's ids, in mbox and Maildir" {
	varied 500 mbox clean | store alice
	server_start
	keeps_ids_of_dovecot mbox:/var/mail/%u mbox '~/mail' /var/mail/alice
	rows 3 | cmp - "$WORLD/listed"
	server_stop
	server_start -m maildir:~/Maildir
	mkdir -p /home/alice/Maildir/{cur,new,tmp}
	varied 500 /home/alice/Maildir clean
	chown -R alice: /home/alice/Maildir
	keeps_ids_of_dovecot maildir:~/Maildir maildir '~/Maildir'
}

@test "kpopc --uidl-map sends CAPA, UIDL, TOP and QUIT only, and does not wait for answers if the server lists PIPELINING" {
	varied 250 mbox clean | tr -d '\r' >"$WORLD/mbox"
	export MAP_LOG=$WORLD/maplog
	for way in with without none; do
		rm -f "$MAP_LOG"
		case $way in
		with) list --command "$(map_server)" ;;
		without) list --command "$(map_server 's/PIPELINING/X/')" ;;
		none) list --command \
		    "$(map_server '$_ = "-ERR\r\n" if $c eq "CAPA"')" ;;
		esac
		list_has 250
		rows 1-3 >"$WORLD/list.$way"
		cmp "$WORLD/list.with" "$WORLD/list.$way"
		[ "$(grep -c '^TOP [0-9]* 0$' "$MAP_LOG")" -eq 250 ]
		[ "$(grep -vcE '^(CAPA|UIDL|TOP [0-9 ]+|QUIT|early)$' \
		    "$MAP_LOG")" -eq 0 ]
		[ "$(tail -n 1 "$MAP_LOG")" = QUIT ]
		if [ $way = with ]; then
			grep -q '^early' "$MAP_LOG"
		else
			refute grep '^early' "$MAP_LOG"
		fi
	done
}

@test "kpopc --uidl-map reads whole messages only if the header does not identify them" {
	{
		mbox one two
		printf '%s\n' "$(from_line)" 'Subject: weak' '' text ''
		mbox two
	} >"$WORLD/mbox"
	MAP_LOG=$WORLD/maplog list --command "$(map_server)"
	list_has 4
	[ "$(rows 2 | sed 's/[0-9a-f]\{16\}/X/' | paste -sd ' ')" = "- X X X" ]
	[ "$(grep -c '^TOP [0-9]* 1000000000$' "$WORLD/maplog")" -eq 3 ]
	: >"$WORLD/mbox"
	list --command "$(map_server)"
	list_has 0
}

@test "kpopc --uidl-map prints an error and no list if the server answers wrongly" {
	fails 3 'UIDL: the server answered: -ERR \[X\] none' \
	    '$_ = "-ERR [X] none\r\n" if $c eq "UIDL"'
	fails 3 'TOP 1: the server answered: -ERR none' \
	    '$_ = "-ERR none\r\n" if $c =~ /^TOP/'
	fails 3 'TOP 2: the server answered: \\033\[1mgarbage' \
	    '$_ = "\e[1mgarbage\r\n" if $c eq "TOP 2 0"'
	fails 3 'CAPA: this is no answer of POP3: garbage' \
	    '$_ = "garbage\r\n" if $c eq "CAPA"'
	fails 1 'the server answered: \* OK IMAP' \
	    '$_ = "* OK IMAP\r\n" if $c eq ""'
	fails 3 "UIDL: a line does not begin with the next .*'s number: 3 .*" \
	    's/^2/3/m'
	fails 3 "UIDL: a line does not begin .*: 02 .*" 's/^2/02/m'
	fails 3 'UIDL: an id is not of 1 to 70 .* without blanks: 2 x*' \
	    's/old-2/"x" x 71/e'
	fails 3 'UIDL: an id is not .*: 2 a b' 's/old-2/a b/'
	fails 3 'UIDL: an id is not .*: 2 old-2 ' 's/old-2/old-2 /'
	fails 3 'UIDL: an id is not .*: 2 ' 's/old-2//'
	fails 3 'UIDL: an id is not .*: 2 \\303\\244' 's/old-2/\xc3\xa4/'
	fails 3 'UIDL: the answer contains a NUL' 's/old-2/a\0b/'
	fails 3 'TOP 4: the server answered: -ERR unknown' \
	    's/^(\.\r\n)/4 old-4\r\n$1/m if $c eq "UIDL"'
	# Whole messages are read in a second pass.
	mbox same same >"$WORLD/mbox"
	fails 3 'TOP 1: the header has changed' \
	    's/same/else/ if $c =~ /^TOP 1 1/'
	mbox one two three >"$WORLD/mbox"
	list --command "$(map_server 's/old-2/"x" x 70/e')"
	list_has 3
}

@test "kpopc --uidl-map lists ids that a server gives to several messages, and warns of them" {
	mbox one two one two one >"$WORLD/mbox"
	"$KPOPD_BUILD/kpopc" --uidl-map --command \
	    "$(map_server 's/old-[35]/old-1/g')" 3>&- >"$WORLD/list" \
	    2>"$WORLD/errors"
	list_has 5
	[ "$(rows 3 | paste -sd ' ')" = "old-1 old-2 old-1 old-4 old-1" ]
	[ "$(cat "$WORLD/errors")" = "kpopc: UIDL: 2 of 5 messages have the id of an earlier one, for example message 3 that of 1" ]
}

@test "kpopc --uidl-map prints an error and no list if the server closes the connection in the middle" {
	local command
	local closed="the server closed the connection before the answer ended"
	for command in CAPA UIDL "TOP 1 0" "TOP 3 0" QUIT; do
		fails 3 "${command% 0}: $closed" "exit if \$c eq \"$command\""
		[ "$command" = QUIT ] || fails 3 "${command% 0}: $closed" \
		    "if (\$c eq \"$command\") { print substr(\$_, 0, -3); exit }"
	done
	fails 1 'the server closed the connection' 'exit'
	timeout 20 "$KPOPD_BUILD/kpopc" --uidl-map --command /nonexistent \
	    3>&- >"$WORLD/list" 2>"$WORLD/errors" || status=$?
	[ "$status" -eq 1 ]
	grep 'the server closed the connection' "$WORLD/errors"
}

# ends_after N TOTAL: runs kpopc with a server that sends N of its TOTAL bytes
# and ends. Returns true if kpopc prints a list only if it has them all.
ends_after() {
	local status=0
	timeout 20 "$KPOPD_BUILD/kpopc" --uidl-map --command "$(map_server \
	    "our \$left //= $1; \$left -= length; if (\$left < 0) { print substr(\$_, 0, \$left); exit }")" \
	    3>&- >"$WORLD/list" 2>"$WORLD/errors" || status=$?
	if [ "$1" -lt "$2" ]; then
		[ "$status" -ne 0 ] && [ ! -s "$WORLD/list" ] &&
		    [ "$(wc -l <"$WORLD/errors")" -eq 1 ]
	else
		[ "$status" -eq 0 ] && list_has 3
	fi
}

@test "kpopc --uidl-map prints no list if the server ends after any byte before the last one" {
	local total every=17
	mbox one two >"$WORLD/mbox"
	# This message is read whole.
	printf '%s\n' "$(from_line)" 'Subject: weak' '' text '' >>"$WORLD/mbox"
	export MAP_SENT=$WORLD/sent
	list --command \
	    "$(map_server 'open my $f, ">>", $ENV{MAP_SENT}; print $f $_')"
	total=$(wc -c <"$WORLD/sent")
	! long || every=1
	for n in $(seq 0 $every $((total - 1))) $((total - 1)) "$total"; do
		count_point ends_after "$n" "$total"
	done
	points_are_good "ends of a server" 20
}

@test "kpopc --uidl-map gives up if the server sends too much, or nothing" {
	fails 3 'UIDL: a line of the answer is too long' \
	    's/old-2/"x" x 1000000/e if $c eq "UIDL"'
	fails 3 'TOP 1: a line of the answer is too long' \
	    '$_ = "+OK " . "x" x 1000000 if $c =~ /^TOP/'
	fails 3 'TOP 2: the header is too long' \
	    'if ($c eq "TOP 2 0") { print "+OK\r\n"; my $x = "X: y\r\n" x 10000; print $x for 1 .. 18000 }'
	fails 3 'TOP 2: the header is too long' \
	    'if ($c eq "TOP 2 0") { print "+OK\r\nX: "; my $x = "y" x 65536; print $x for 1 .. 17000 }'
	fails 3 'CAPA: the capabilities do not end' \
	    '$_ = "+OK\r\n" . "X\r\n" x 1000 if $c eq "CAPA"'
	fails 3 'UIDL: the mailbox has too many messages: 1000001 .*' \
	    'if ($c eq "UIDL") { print "+OK\r\n"; print "$_ i$_\r\n" for 1 .. 1000001 }'
	fails 3 'TOP 2: the server sent nothing for 8 s' \
	    'sleep 60 if $c eq "TOP 2 0"' -t 8
	fails 1 'the server did not finish the exchange in time' \
	    'sleep 20 if $c =~ /^PASS/' -t 1 -l alice \
	    --password-file "$WORLD/password"
	# Long lines of messages are no mistake.
	fails 3 'QUIT: the server closed the connection .*' \
	    's/one/"x" x 3000000/e if $c =~ /^TOP 1/; exit if $c eq "QUIT"'
}

@test "kpopc --uidl-map logs in with the password of a file that no other user can read" {
	local long
	mbox one >"$WORLD/mbox"
	long=$(printf '%0255d' 7)
	export MAP_LOG=$WORLD/maplog
	printf '%s\nmore\n' "$long" >"$WORLD/password"
	list -l 'alice*master' --password-file "$WORLD/password" \
	    --command "$(map_server)"
	list_has 1
	[ "$(head -n 2 "$MAP_LOG" | paste -sd :)" = \
	    "USER alice*master:PASS $long" ] || { cat "$MAP_LOG"; return 1; }
	# A pipe of the same user works, too.
	list -l alice --password-file <(echo 'two words') \
	    --command "$(map_server)"
	grep -x 'PASS two words' "$MAP_LOG"
	fails 1 "the server answered: -ERR \[AUTH\] no" \
	    '$_ = "-ERR [AUTH] no\r\n" if $c =~ /^PASS/' \
	    -l alice --password-file "$WORLD/password"
	fails 1 "the server answered: -ERR who" \
	    '$_ = "-ERR who\r\n" if $c =~ /^USER/' \
	    -l alice --password-file "$WORLD/password"
	rm "$MAP_LOG"
	for text in '' '\n' '\nx\n' 'a\r\n' 'a\0b\n' "8$long\n"; do
		printf "$text" >"$WORLD/password"
		fails 1 '.*/password: the first line is not a password .*' '' \
		    -l alice --password-file "$WORLD/password"
	done
	for mode in 640 604 622; do
		chmod $mode "$WORLD/password"
		fails 1 '.*/password: other users have rights to it .*' '' \
		    -l alice --password-file "$WORLD/password"
	done
	chmod 600 "$WORLD/password"
	chown bob "$WORLD/password"
	fails 1 '.*/password: other users have rights to it .*' '' \
	    -l alice --password-file "$WORLD/password"
	rm "$WORLD/password"
	fails 1 '.*/password: No such file .*' '' \
	    -l alice --password-file "$WORLD/password"
	# No server was started for these mistakes.
	[ ! -e "$MAP_LOG" ]
}

@test "the password of kpopc --uidl-map is in no argument and no environment of a process" {
	local pid text found=0
	mbox one >"$WORLD/mbox"
	echo Tell-No-One >"$WORLD/password"
	"$KPOPD_BUILD/kpopc" --uidl-map -l alice \
	    --password-file "$WORLD/password" --command \
	    "$(map_server "if (\$c eq \"UIDL\") { open F, \">\", \"$WORLD/in\"; sleep 1 until -e \"$WORLD/go\" }")" \
	    3>&- >"$WORLD/list" &
	await 10 '[ -e "$WORLD/in" ]'
	for pid in $! $(pgrep -P $!); do
		text=$(tr '\0' ' ' <"/proc/$pid/cmdline")
		[[ $text == *uidl-map* || $text == *map-server* ]]
		refute grep -a Tell-No-One "/proc/$pid/cmdline"
		refute grep -a Tell-No-One "/proc/$pid/environ"
		found=$((found + 1))
	done
	[ "$found" -ge 2 ]
	: >"$WORLD/go"
	wait $!
	list_has 1
}

@test "kpopc --uidl-map reports a refused login, wrong usage, and a full disk" {
	local arguments
	server_start
	mbox one | store alice
	run kpopc --uidl-map -l bob mail.kpopd.test
	[ "$status" -eq 1 ]
	[[ $output == "kpopc: the server answered: -ERR [AUTH] "* ]]
	run bash -c "'$KPOPD_BUILD/kpopc' --uidl-map mail.kpopd.test >/dev/full"
	[ "$status" -eq 3 ]
	[[ $output == "kpopc: standard output: No space"* ]]
	run bash -c "'$KPOPD_BUILD/kpopc' --uidl-map mail.kpopd.test >&-"
	[ "$status" -eq 0 ]
	for arguments in '' '--command x host' '--command x -l a' \
	    '--command x --password-file f' '--command x --tls' \
	    '--command x -p' '-l a --password-file f host' \
	    '--password-file f --tls host' '--probe host' '--listen 2 host' \
	    '-l a --password-file f --tls --cleartext host' \
	    '-l a --password-file f --tls -k k host' '-c 1 host' '-t 0 host'; do
		run kpopc --uidl-map $arguments
		[ "$status" -eq 2 ] || [[ $output == "KPOP UNKNOWN - wrong"* ]]
	done
	run kpopc --command x host
	[ "$status" -eq 2 ]
	run kpopc -l a --password-file f --tls host
	[ "$status" -eq 2 ]
}

# example FILE LINE: runs the commands of the document that begin with LINE, for
# this host and build.
example() {
	python3 "$BATS_TEST_DIRNAME/programs/document-blocks.py" \
	    "$top/$1" "$2" |
	    sed -e 's/old\.example\.org/mail.kpopd.test/' \
		-e "s,kpopc --,$KPOPD_BUILD/&," >"$WORLD/commands"
	[ -s "$WORLD/commands" ]
	SSL_CERT_FILE=$WORLD/tls/ca.pem sh -e "$WORLD/commands" 3>&-
}

# lists_are NAME ...: returns true if these users' lists, and no others, have
# the same three messages. Removes the lists.
lists_are() {
	local name
	[ "$(echo *.list)" = "$(printf '%s.list ' "$@" | sed 's/ $//')" ] ||
	    { echo "there are: $(echo *.list)"; return 1; }
	for name; do
		cut -d ' ' -f 1-2 "$name.list" |
		    cmp - <(cut -d ' ' -f 1-2 "$WORLD/first.list")
	done
	rm ./*.list
}

@test "the examples of kpopc(1) and of docs/ADMIN.md list the ids of a KPOP server, of Dovecot, and by ssh" {
	local user
	mkdir -p "$WORLD/example" "$WORLD/bin"
	cd "$WORLD/example"
	server_start
	for user in alice bob; do
		mbox one two three | store $user
		echo $user >>users
	done
	list mail.kpopd.test
	list_has 3
	cp "$WORLD/list" "$WORLD/first.list"
	realm_logout
	cp "$WORLD/keytabs/alice.keytab" alice.keytab
	cp -p "$WORLD/password" master
	cp -p "$WORLD/password" alice.password
	example kpopc.1 "kpopc --uidl-map -k"
	lists_are alice
	user=%u
	! dovecot_is_new || user=%{user}
	dovecot_serve_master mbox '~/mail' "/var/mail/$user"
	example kpopc.1 "for user in alice bob"
	lists_are alice bob
	example kpopc.1 "kpopc --uidl-map --tls"
	lists_are alice
	example docs/ADMIN.md 'for user in $(cat'
	lists_are alice bob
	# No host has ssh here.
	mbox one two three >"$WORLD/mbox"
	printf '#!/bin/sh\n[ "$*" = "%s" ] && exec %s\n' \
	    "mail.kpopd.test /usr/sbin/ipop3d" "$(map_server)" \
	    >"$WORLD/bin/ssh"
	chmod 755 "$WORLD/bin/ssh"
	PATH=$WORLD/bin:$PATH example kpopc.1 "kpopc --uidl-map -l alice"
	lists_are alice
}
