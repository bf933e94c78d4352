#!/usr/bin/env bats
# Checks kpopc --listen: that POP3 programs of the same user fetch mail through
# it, that it refuses all others, and that a user reads what is wrong.

load helpers/all

setup_file() {
	tls_make
	chmod 755 "$WORLD"
	server_start $(tls_options)
}

setup() {
	begin_test
	mbox one two | store alice
	rm -rf "$WORLD"/got* "$WORLD/ids" "$WORLD/local.err"
	give_ticket
	listener=
}

teardown() {
	local status=0
	[ -z "$listener" ] || kill -KILL "$listener" 2>/dev/null || true
	end_test || status=1
	await 5 '! ss -Hltn sport = 2110 | grep -q .' || status=1
	return $status
}

# give_ticket [KINIT-OPTION ...]: gives alice a ticket.
give_ticket() {
	realm_login alice "$@"
	cp "$WORLD/ccache" /home/alice/ccache
	chown alice /home/alice/ccache
}

# listen [OPTION ...]: starts kpopc on port 2110 as alice, for the server. Sets
# $listener to its pid. $under is a command that runs it.
listen() {
	become "${listening_user-alice}" ${under-} "$KPOPD_BUILD/kpopc" \
	    --listen 2110 -C "$WORLD/tls/ca.pem" "$@" mail.kpopd.test 1109 \
	    </dev/null >/dev/null 2>"$WORLD/local.err" 3>&- &
	listener=$!
	# kpopc listens on 127.0.0.1 first, and then on ::1.
	await 5 '[ "$(ss -Hltn sport = 2110 | wc -l)" -eq 2 ]' ||
	    { cat "$WORLD/local.err"; return 1; }
}

# listen_end: ends kpopc, and returns its exit status.
listen_end() {
	local pid=$listener
	listener=
	kill "$pid"
	wait "$pid"
}

# took_all LAYER: returns true if both messages were fetched, and the server has
# removed them after a login with LAYER. Stores them again.
took_all() {
	[ "$(tr -d '\r' <"$WORLD/got" | grep -c '^Subject: \(one\|two\)$')" \
	    -eq 2 ] ||
	    { cat "$WORLD/got" "$WORLD/local.err" >&2; return 1; }
	[ ! -s /var/mail/alice ]
	log_has "login .*user=alice .*layer=$1 "
	rm -f "$WORLD/got"
	mbox one two | store alice
	log_mark
}

# shows TEXT ...: returns true if $output contains each of these texts.
shows() {
	local text
	for text; do
		[[ $output == *"$text"* ]] ||
		    { echo "expected: $text, output: $output"; return 1; }
	done
}

# answers TEXT: returns true if $output is this text. Evolution shows no answer
# of more than 60 characters.
answers() {
	[ "$output" = "$1" ] && [ "${#1}" -le 60 ] ||
	    { echo "output: $output"; return 1; }
}

# children: prints the pids of the listener's children.
children() {
	pgrep -P "$listener"
}

# no_child: waits until the listener has no child, and so no zombie.
no_child() {
	await 10 '[ -z "$(children)" ]'
}

@test "Python's poplib fetches mail from 127.0.0.1 and ::1 with any password, in TLS to the server" {
	listen
	for address in 127.0.0.1 ::1; do
		local_pop alice fetch >"$WORLD/got"
		took_all tls
	done
	no_child
	[ ! -s "$WORLD/local.err" ]
}

@test "kpopc --listen uses a layer of GSSAPI with -p, and no protection only with --cleartext" {
	listen --cleartext
	local_pop alice fetch >"$WORLD/got"
	took_all none
	listen_end
	server_stop
	server_start -p $(tls_options)
	listen -p
	local_pop alice fetch >"$WORLD/got"
	took_all confidentiality
}

@test "fetchmail and mutt fetch mail by plain POP3 from kpopc --listen" {
	listen
	cat >"$WORLD/fetchmailrc" <<-END
	poll localhost proto POP3 service 2110 auth password
	    user alice password x sslproto '' mda "cat >>$WORLD/got"
	END
	chown alice "$WORLD/fetchmailrc"
	chmod 600 "$WORLD/fetchmailrc"
	touch "$WORLD/got"
	chown alice "$WORLD/got"
	as alice timeout 20 fetchmail --nodetach --nosyslog \
	    -f "$WORLD/fetchmailrc" -i /home/alice/ids \
	    --pidfile /home/alice/fetchmail.pid
	took_all tls
	printf '%s\n' 'set pop_pass=x pop_delete=yes ssl_starttls=no' \
	    'set ssl_force_tls=no pop_authenticators=user' \
	    'set folder=/home/alice header_cache= wait_key=no delete=yes' \
	    'push "<tag-pattern>~A<enter><tag-prefix><copy-message>/home/alice/got<enter>y<quit>"' \
	    >/home/alice/muttrc
	as alice timeout 20 env TERM=xterm script -qefc "stty rows 24 cols 80
		mutt -n -F /home/alice/muttrc -f pop://alice@127.0.0.1:2110" \
	    /dev/null </dev/null >"$WORLD/screen" 2>&1 3>&- || true
	[ "$(grep -c '^Subject: \(one\|two\)$' /home/alice/got)" -eq 2 ] ||
	    { cat "$WORLD/screen"; return 1; }
	log_has 'login .*user=alice .*layer=tls '
}

# refuses_others: returns true if the processes of bob and of root are refused,
# and alice's process is served.
refuses_others() {
	local user
	for user in bob root; do
		run local_pop $user login
		shows '-ERR [AUTH] only the user that runs kpopc'
		run local_pop $user say "USER alice" "PASS x" "DELE 1" QUIT
		[[ $output != *+OK* ]]
	done
	[ "$(local_pop alice login)" = served ]
	spool_is alice one two
}

# bats test_tags=attack:8-22
@test "kpopc --listen refuses the processes of another user and of root" {
	listen
	for address in 127.0.0.1 ::1; do refuses_others; done
	run local_pop bob login
	[ "$(grep -c 'kpopc: refused a connection of uid' \
	    "$WORLD/local.err")" -eq 1 ]
	log_count 2 'login .*user=alice '
	# A user namespace hides the uid from bob, not from the kernel.
	run as bob unshare --user --map-root-user /usr/bin/python3 \
	    "$BATS_TEST_DIRNAME/programs/local-pop.py" 127.0.0.1 2110 login
	shows 'only the user that runs kpopc'
}

# bats test_tags=attack:8-22
@test "kpopc --listen finds the user in /proc/net if netlink is forbidden" {
	# The first two sockets are those that listen.
	under="strace -o /home/alice/trace -e trace=socket,openat
	    -e inject=socket:error=EPERM:when=3+" listen
	for address in 127.0.0.1 ::1; do refuses_others; done
	# A program may use an IPv6 socket for an IPv4 address, as Java does.
	address=::ffff:127.0.0.1 refuses_others
	grep -q 'AF_NETLINK.*INJECTED' /home/alice/trace
	grep -q '/proc/net/tcp6' /home/alice/trace
}

@test "kpopc --listen serves a program with an IPv6 socket for an IPv4 address" {
	listen
	address=::ffff:127.0.0.1 refuses_others
}

# bats test_tags=attack:8-23
@test "kpopc --listen as root serves root, and neither others nor a connection that was closed" {
	cp "$WORLD/ccache" /home/alice/ccache
	listening_user=root listen
	# The kernel reports root as the owner of a socket that was closed.
	kill -STOP "$listener"
	as bob /usr/bin/python3 - <<-'END'
	import socket
	s = socket.create_connection(('127.0.0.1', 2110))
	s.sendall(b'USER alice\r\nPASS x\r\nDELE 1\r\nDELE 2\r\nQUIT\r\n')
	END
	kill -CONT "$listener"
	await 5 'grep -q "reports no user" "$WORLD/local.err"'
	[ "$(local_pop root login)" = served ]
	run local_pop alice login
	shows 'only the user that runs kpopc'
	log_count 1 'login .*user=alice '
	spool_is alice one two
}

# bats test_tags=attack:8-23
@test "commands of another user are not obeyed if that user resets the connection and the port goes to a process of this user" {
	rm -f "$WORLD/reset"
	listen
	kill -STOP "$listener"
	local_pop_start bob from 20000 "$WORLD/reset" "USER alice" "PASS x" \
	    "DELE 1" "DELE 2" QUIT
	await 10 'grep -q sent "$WORLD/from"'
	touch "$WORLD/reset"
	wait "$started"
	local_pop_start alice again 20000
	await 10 'grep -q connected "$WORLD/again"'
	kill -CONT "$listener"
	wait "$started"
	# alice's own connection is served.
	grep -q '^+OK 2 messages' "$WORLD/again" ||
	    { cat "$WORLD/again"; return 1; }
	log_count 1 'logout .*deleted=0 left=2 '
	spool_is alice one two
}

# bats test_tags=attack:8-24
@test "a web page in a browser of the same user cannot send commands through kpopc --listen" {
	local first
	for first in "POST / HTTP/1.1" "GET / HTTP/1.1" "OPTIONS / HTTP/1.1" \
	    "USER / HTTP/1.1" "CAPA /?x HTTP/1.0" \
	    "NOOP /$(printf 'x%.0s' {1..600}) HTTP/1.1" \
	    $'\x16\x03\x01\x02' "PASS x"; do
		listen
		run local_pop alice say "$first" "Host: x" "" "USER alice" \
		    "PASS x" "DELE 1" "DELE 2" QUIT
		[[ $output != *octets* && $output != *messages* ]]
		await 5 'grep -q "does not speak POP3" "$WORLD/local.err"'
		listen_end
	done
	server_stop
	server_start -p
	listen -p
	# A page of the same origin may choose the method, and the origin may be
	# an address of this computer (DNS rebinding).
	for first in POST USER; do
		run local_pop alice say "$first / HTTP/1.1" "" "USER alice" \
		    "PASS x" "DELE 1" "DELE 2" QUIT
		shows '-ERR [SYS/TEMP] the local program does not speak POP3'
	done
	log_lacks ' login '
	spool_is alice one two
}

@test "a missing or expired ticket is the answer to USER, which names kinit, and the next connection works after kinit" {
	listen
	rm /home/alice/ccache
	run local_pop alice login
	answers '-ERR [AUTH] no Kerberos ticket: run kinit'
	# Until then the program is answered as by a server.
	run local_pop alice say CAPA NOOP "USER alice" "PASS x" QUIT
	[ "${lines[0]}" = "+OK USER and PASS come next" ]
	[ "${lines[2]}" = USER ]
	[ "$(grep -c '^-ERR \[AUTH\] no Kerberos ticket' <<<"$output")" -eq 3 ]
	[ "${lines[-1]}" = "+OK bye" ]
	# The details are for the log.
	grep -q 'no tickets: .*/home/alice/ccache' "$WORLD/local.err"
	give_ticket -l 1s
	await_second $((EPOCHSECONDS + 2))
	run local_pop alice login
	answers '-ERR [AUTH] Kerberos ticket has expired: run kinit'
	give_ticket
	[ "$(local_pop alice login)" = served ]
	no_child
}

@test "fetchmail and mutt show the answer that names kinit" {
	listen
	rm /home/alice/ccache
	printf '%s\n' 'poll localhost proto POP3 service 2110 auth password' \
	    "user alice password x sslproto ''" >/home/alice/fetchmailrc
	chown alice /home/alice/fetchmailrc
	chmod 600 /home/alice/fetchmailrc
	run as alice timeout 20 fetchmail -v --nodetach --nosyslog \
	    -f /home/alice/fetchmailrc -i /home/alice/ids \
	    --pidfile /home/alice/fetchmail.pid
	[[ $output == *"run kinit"* ]] || { echo "$output"; return 1; }
	printf '%s\n' 'set pop_pass=x ssl_starttls=no ssl_force_tls=no' \
	    'set pop_authenticators=user folder=/home/alice' \
	    >/home/alice/muttrc
	as alice timeout 30 env TERM=xterm script -qefc "stty rows 24 cols 200
		mutt -n -F /home/alice/muttrc -f pop://alice@127.0.0.1:2110" \
	    /dev/null </dev/null >"$WORLD/screen" 2>&1 3>&- &
	await 20 'grep -q "run kinit" "$WORLD/screen"' ||
	    { cat "$WORLD/screen"; return 1; }
	pkill -x mutt
	wait $! || true
}

@test "a server or KDC that is gone, and a wrong certificate, are answered as temporary failures with the reason" {
	listen
	server_stop
	run local_pop alice login
	answers '-ERR [SYS/TEMP] cannot reach the mail server: try later'
	grep -q 'mail.kpopd.test port 1109: Connection refused' \
	    "$WORLD/local.err"
	server_start
	run local_pop alice login
	shows '-ERR [SYS/TEMP] no TLS: -ERR '
	listen_end
	server_stop
	server_start $(tls_options)
	listen -C "$WORLD/tls/server.crt"
	run local_pop alice login
	shows '-ERR [SYS/TEMP] TLS: ' certificate
	listen_end
	sed 's/127.0.0.1:88/127.0.0.1:9/' /etc/krb5.conf >"$WORLD/nokdc.conf"
	under="env KRB5_CONFIG=$WORLD/nokdc.conf" listen -s pop/unheard.of
	run local_pop alice login
	answers '-ERR [SYS/TEMP] no Kerberos server answers: try again later'
	listen_end
	# As on a computer without network, if the KDCs are in DNS.
	sed '/127.0.0.1:88/d' /etc/krb5.conf >"$WORLD/nokdc.conf"
	under="env KRB5_CONFIG=$WORLD/nokdc.conf" listen -s pop/unheard.of
	run local_pop alice login
	answers '-ERR [SYS/TEMP] cannot find a Kerberos server: try later'
	grep -q 'Cannot find KDC for realm' "$WORLD/local.err"
	listen_end
	# kinit does not help.
	under= listen -s pop/unheard.of
	run local_pop alice login
	shows '-ERR [SYS/TEMP] no ticket for pop/unheard.of'
}

@test "100 messages of several segments are fetched without a delay for each" {
	local mode i
	for mode in --cleartext --tls; do
		for i in {1..100}; do
			printf 'From a@b Mon Jan  1 00:00:00 2024\n\n'
			printf '%070d\n' {1..70}
			echo
		done | store alice
		listen $mode
		local_pop alice pace >"$WORLD/pace"
		# With delayed acknowledgments each takes 40 ms more.
		[ "$(wc -l <"$WORLD/pace")" -eq 100 ]
		[ "$(sort -n "$WORLD/pace" | head -n 1)" -lt 35 ]
		[ ! -s /var/mail/alice ]
		listen_end
	done
}

# all_served HOW: returns true if 50 connections are served, and the listener
# has the same descriptors as before and no child.
all_served() {
	local before
	listen
	[ "$(local_pop alice login)" = served ]
	no_child
	before=$(fds "$listener")
	[ "$(local_pop alice "$1" 50)" = "served 50" ]
	no_child
	[ "$(fds "$listener")" = "$before" ]
	[ ! -s "$WORLD/local.err" ]
}

@test "50 connections in a row are served, and leave no process and no descriptor" {
	all_served row
}

@test "50 connections at once are served, and leave no process and no descriptor" {
	all_served together
}

# bats test_tags=attack:8-25
@test "the 65th connection at once is refused with the reason, and other users cannot use the places up" {
	# Without a ticket kpopc itself answers.
	rm /home/alice/ccache
	listen
	local_pop_start bob hold 100
	await 20 'grep -q "held 0" "$WORLD/hold"'
	others=$started
	local_pop alice hold 65 stop >"$WORLD/held"
	kill "$others"
	diff "$WORLD/held" - <<-'END'
	-ERR [SYS/TEMP] too many connections to kpopc at once, close one
	held 64
	END
	no_child
}

@test "kpopc --listen -t ends a connection that is idle, and removes nothing" {
	listen -t 5
	as alice /usr/bin/python3 - >"$WORLD/idle" <<-'END'
	import poplib
	pop = poplib.POP3("127.0.0.1", 2110, timeout=30)
	pop.user("alice")
	pop.pass_("x")
	pop.dele(1)
	print(pop.file.readline())
	END
	[ "$(cat "$WORLD/idle")" = "b''" ]
	no_child
	grep -q 'ended a connection that was idle' "$WORLD/local.err"
	log_has 'logout .*deleted=0 left=2 '
	spool_is alice one two
}

@test "SIGTERM ends kpopc --listen with its sessions, and frees the port" {
	listen
	local_pop_start alice hold 3
	await 20 'grep -q "held 3" "$WORLD/hold"'
	# Each has a process that serves the program, the session, and TLS.
	[ "$(pgrep -cx kpopc)" -eq 10 ]
	listen_end
	refute pgrep -x kpopc
	refute grep -q . <(ss -Hltn sport = 2110)
	kill "$started"
	log_has 'logout .*deleted=0 left=2 '
	spool_is alice one two
}

@test "kpopc --listen started with nohup outlives its terminal with its sessions" {
	under=nohup listen
	local_pop_start alice hold 1
	await 20 'grep -q "held 1" "$WORLD/hold"'
	kill -HUP "$listener" $(children)
	run local_pop alice say QUIT
	await 5 '[ "$(children | wc -l)" -eq 1 ]' ||
	    { kill "$started"; return 1; }
	log_lacks ' logout '
	kill "$started"
	shows '+OK bye'
	listen_end
}

@test "a program that does not read why its session has ended keeps its place for a minute only" {
	server_stop
	server_start -p
	under="strace -f -o /home/alice/trace -e trace=alarm" listen -p
	local_pop_start alice hold 2
	await 20 'grep -q "held 2" "$WORLD/hold"' || { kill "$started"; false; }
	# The second connection has a greeting and no login.
	kill -KILL $(pgrep -P "$(pgrep -d , -P "$(children)")")
	await 5 'grep -q "alarm(60" /home/alice/trace' ||
	    { kill "$started"; false; }
	kill "$started"
}

@test "kpopc --listen blocks no signal that its parent has blocked" {
	under="env --block-signal" listen
	local_pop_start alice hold 1
	await 20 'grep -q "held 1" "$WORLD/hold"' || { kill "$started"; false; }
	run grep -h SigBlk $(children | sed 's,.*,/proc/&/status,')
	kill "$listener"
	await 5 '! pgrep -x kpopc >/dev/null' || { kill "$started"; false; }
	kill "$started"
	[[ $output =~ ^SigBlk:[[:space:]]0+$ ]]
}

@test "sessions end if the listener is killed" {
	listen
	local_pop_start alice hold 2
	await 20 'grep -q "held 2" "$WORLD/hold"'
	kill -KILL "$listener"
	await 5 '! pgrep -x kpopc >/dev/null'
	kill "$started"
	log_has 'logout .*deleted=0 left=2 '
	spool_is alice one two
}

@test "kpopc --listen listens on the loopback addresses only, and prints what is wrong with its arguments" {
	listen
	[ "$(ss -Hltn sport = 2110 | awk '{ print $4 }' | sort)" = \
	    $'127.0.0.1:2110\n[::1]:2110' ]
	run kpopc --listen 2110 mail.kpopd.test
	[ "$status" -eq 1 ]
	[ "$output" = "kpopc: 127.0.0.1 port 2110: Address already in use" ]
	for port in 0 70000 x -1 ''; do
		run kpopc --listen "$port" mail.kpopd.test
		[ "$status" -eq 2 ] &&
		    [[ $output == *"not a number from 1 to 65535" ]] ||
		    { echo "$port: $status $output"; return 1; }
	done
	for arguments in '-t 5 host' '--listen 1 --tls --cleartext host' \
	    '--listen 1' '--listen 1 -t 0 host' '--listen 1 -t 1x host'; do
		run kpopc $arguments
		[ "$status" -eq 2 ]
	done
	run kpopc --listen systemd mail.kpopd.test
	[ "$status" -eq 1 ]
	[[ $output == "kpopc: no sockets were passed"* ]]
	run setpriv --reuid 65534 --regid 65534 --clear-groups \
	    "$KPOPD_BUILD/kpopc" --listen 2111 mail.kpopd.test
	[[ $output == *"uid for unknown users"* ]]
}

# activate ADDRESS OPTION ...: starts kpopc by systemd-socket-activate, which
# passes it the socket.
activate() {
	become alice systemd-socket-activate -E KRB5CCNAME -l "$@" \
	    "$KPOPD_BUILD/kpopc" --listen systemd -C "$WORLD/tls/ca.pem" \
	    mail.kpopd.test 1109 >/dev/null 2>"$WORLD/local.err" 3>&- &
	listener=$!
	await 5 'ss -Hltn sport = 2110 | grep -q .'
}

@test "kpopc --listen systemd serves the sockets that it was passed, if they are loopback ones" {
	activate 127.0.0.1:2110 -l '[::1]:2110'
	for address in 127.0.0.1 ::1; do refuses_others; done
	local_pop alice fetch >"$WORLD/got"
	took_all tls
	listen_end
	address=127.0.0.1
	activate 0.0.0.0:2110
	run local_pop alice say QUIT
	await 5 'grep -q "does not listen on a loopback" "$WORLD/local.err"'
	kill "$listener" 2>/dev/null || true
	wait "$listener" || true
	await 5 '! ss -Hltn sport = 2110 | grep -q .'
	# Accept=yes passes a connection.
	activate 127.0.0.1:2110 --accept
	run local_pop alice say QUIT
	await 5 'grep -q "not a listening socket" "$WORLD/local.err"'
}

@test "kpopc --listen writes no file" {
	listen
	touch "$WORLD/before"
	[ "$(local_pop alice login)" = served ]
	rm /home/alice/ccache
	run local_pop alice login
	[ -z "$(find /home/alice /tmp /run /var/tmp -newer "$WORLD/before" \
	    -user alice -type f ! -path "$state/*" 2>/dev/null)" ]
}
