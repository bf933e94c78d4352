#!/usr/bin/env bats
# A listening standard input: xinetd's "wait = yes", as systemd's "Accept=no".
# One process accepts, and all else is as ever.

load helpers/all

# listener_start [kpopd option ...]: xinetd waits for connections, and starts
# the listener with the first.
listener_start() {
	server_configure "$@"
	sed -i -e 's/\(wait[[:space:]]*=\).*/\1 yes/' \
	    -e '/per_source\|instances\|flags/d' "$WORLD/xinetd.conf"
	xinetd_run
}

# restart [kpopd option ...]
restart() {
	server_stop
	listener_start "$@"
}

setup_file() { listener_start; }

setup() {
	begin_test
	realm_login alice
}

# The listener stays; its sessions must not.
teardown() {
	local status=0
	pop_close 2>/dev/null || true
	pkill -KILL -x kpopc 2>/dev/null || true
	await 5 'no_sessions' || { server_stop; listener_start; status=1; }
	[ -e "$WORLD/xinetd.pid" ] || listener_start
	no_reports || status=1
	return $status
}

listener_pid() {
	pgrep -o -x kpopd -P "$(cat "$WORLD/xinetd.pid")"
}

no_sessions() {
	[ "$(pgrep -x 'kpopd|kpopd-tls' | wc -l)" -le 1 ]
}

# As in other files, but the monitor's parent is the listener.
monitor_pid() {
	pgrep -n -x kpopd -P "$(listener_pid)"
}

# awake: the listener is there, by a connection that says nothing.
awake() {
	wire 5 </dev/null >/dev/null || true
	await 5 'no_sessions'
	await 5 'listener_pid >/dev/null'
}

# listen_by PERL_SOCKET COMMAND ...: what systemd does, for sockets that xinetd
# does not have: fd 0 listens.
listen_by() {
	perl -e 'use IO::Socket::IP; use IO::Socket::UNIX; use POSIX;
	    my $s = eval shift or die "$@ $!"; POSIX::dup2(fileno $s, $_) for 0 .. 2; exec @ARGV or die' "$@" 3>&- &
	by=$!
}

@test "kpopc and fetchmail are served by one listener" {
	mbox one two | store alice
	awake
	listener=$(listener_pid)
	run pop alice STAT QUIT
	[[ $output == *"+OK 2 messages"*"+OK bye, 2 messages left"* ]]
	printf 'poll mail.kpopd.test proto KPOP auth kerberos_v5\n\tuser alice sslproto "" mda "cat >>%s"\n' \
	    "$WORLD/fetched" >"$WORLD/fetchmailrc"
	chmod 600 "$WORLD/fetchmailrc"
	rm -f "$WORLD/fetched"
	fetchmail --nosyslog -f "$WORLD/fetchmailrc"
	grep -q two "$WORLD/fetched"
	[ ! -s "$(spool alice)" ]
	[ "$(listener_pid)" = "$listener" ]
	log_has 'mail\.info kpopd\[[0-9]+\]: login peer=[^ ]+:[0-9]+ user=alice principal=alice@KPOPD\.TEST .*by=localname$'
	log_has 'logout peer=[^ ]+:[0-9]+ reason=quit .*deleted=2 left=0'
	# Two monitors wrote the lines, and not the listener.
	[ "$(log_lines | sed -n 's/.*kpopd\[\([0-9]*\)\]: login.*/\1/p' |
	    sort -u | wc -l)" -eq 2 ]
}

@test "many at once are served, and nothing of theirs is left" {
	restart -a 100:100:10000
	awake
	listener=$(listener_pid)
	before=$(fds "$listener")
	pids=()
	for user in alice bob carol; do
		mbox one | store $user
		KRB5CCNAME=FILE:$WORLD/ccache.$user realm_login $user
		for _ in 1 2 3 4; do
			for _ in $(seq "${MANY-25}"); do
				KRB5CCNAME=FILE:$WORLD/ccache.$user pop \
				    "$user" STAT QUIT || true
			done >"$WORLD/many.$user.$RANDOM$RANDOM" 3>&- &
			pids+=($!)
		done
	done
	wait "${pids[@]}"
	# Of one user's sessions one is let in at a time; the others are told,
	# all of them in so many words.
	cat "$WORLD"/many.* >"$WORLD/all"
	rm "$WORLD"/many.*
	[ "$(grep -cE '^\+OK bye, 1 messages left|IN-USE' "$WORLD/all")" \
	    -eq $((12 * ${MANY-25})) ]
	[ "$(grep -c '^+OK bye' "$WORLD/all")" -gt $((3 * ${MANY-25})) ]
	await 5 'no_sessions'
	[ "$(listener_pid)" = "$listener" ]
	[ -z "$(pgrep -r Z -P "$listener")" ]
	await 5 '[ "$(fds "$listener")" = "$before" ]'
	restart
}

# bats test_tags=promise:3
@test "the listener has its socket, syslog and signals, holds no key, and its sessions have nothing of it" {
	mbox one | store alice
	pop_open
	pop_hear '^\+OK'
	listener=$(listener_pid)
	listening=$(readlink "/proc/$listener/fd/0")
	signals=$(readlink "/proc/$listener/fd/4")
	# Whoever finds the kernel's queue full tries again only after a second;
	# xinetd's has room for 64.
	[ "$(ss -Hltn sport = 1109 | awk '{ print $3 }' | sort -n |
	    head -n 1)" -eq "$(cat /proc/sys/net/core/somaxconn)" ]
	[[ $signals == *signalfd* ]]
	[ "$(sockets "$listener")" -eq 2 ]
	[ "$(others "$listener")" -eq 3 ]
	preauth=$(child_pid)
	holds_key "$preauth"
	holds_none "$listener"
	holds_none "$(monitor_pid)"
	# The connection twice, /dev/null, the channel, and in the monitor
	# syslog: as when inetd starts them. The pre-auth process has the replay
	# cache as well.
	for pid in "$preauth" "$(monitor_pid)"; do
		fds "$pid"
		[ "$(sockets "$pid")" \
		    -eq $([ "$pid" = "$preauth" ] && echo 3 || echo 4) ]
		[ "$(fds "$pid" | grep -v " $state/replay\$" |
		    grep -vc ' socket:')" -eq 1 ]
		[ "$(readlink "/proc/$pid/fd/2")" = /dev/null ]
	done
	fds "$preauth" | grep -q " $state/replay\$"
	[ "$(others "$(monitor_pid)")" -eq 1 ]
	# Without this the next check would not see it.
	fds "$listener" | grep -qF "$listening"
	for pid in $(pgrep -x kpopd | grep -vx "$listener"); do
		fds "$pid" | grep -F -e "$listening" -e "$signals" &&
		    return 1 || :
	done
	# The table of who is connected stays behind.
	table=$(awk \
	    '/^[0-9a-f]+-/ { place = $1 } /^VmFlags:.* dc/ { print place }' \
	    "/proc/$listener/smaps")
	[ "$(wc -w <<<"$table")" -eq 1 ]
	grep -q "^$table rw-p" "/proc/$listener/maps"
	grep "^$table rw-p" "/proc/$preauth/maps" "/proc/$(monitor_pid)/maps" &&
	    return 1 || :
	pop_ask "USER alice"
	pop_ask "PASS x"
	session=$(child_pid)
	[ "$session" != "$preauth" ]
	holds_none "$session"
	holds_none "$(monitor_pid)"
	holds_none "$listener"
	[ "$(fds "$session" | wc -l)" -eq 12 ]
	await 5 '[ "$(sockets "$(broker_pid)")" -eq 2 ]'
	# Syslog, and the channels to session and broker.
	[ "$(sockets "$(monitor_pid)")" -eq 3 ]
	for pid in $(pgrep -x kpopd | grep -vx "$listener"); do
		fds "$pid" | grep -F -e "$listening" -e "$signals" &&
		    return 1 || :
	done
	pop_ask QUIT
}

@test "pre-auth process, session and broker are confined as ever" {
	mbox one | store alice
	pop_open
	pop_hear '^\+OK'
	preauth=$(child_pid)
	has_nothing "$preauth" "$(id -u kpopd)" "$(id -g kpopd)"
	[ "$(readlink "/proc/$preauth/root")" = "$state/preauth" ]
	grep -Eq 'Max open files +16 +16' "/proc/$preauth/limits"
	[ -n "${SANITIZER-}" ] ||
	    grep -Eq 'Max address space +67108864 +67108864' \
		"/proc/$preauth/limits"
	pop_ask "USER alice"
	pop_ask "PASS x"
	has_nothing "$(child_pid)" "$(id -u alice)" "$(id -g alice)"
	await 5 '[ "$(field "$(broker_pid)" CapPrm)" = 0000000000000000 ]'
	broker=$(broker_pid)
	[ "$(field "$broker" CapPrm)$(field "$broker" CapEff)" = \
	    "$(printf '%032d' 0)" ]
	[ "$(field "$broker" Uid)" = \
	    "$(id -u alice) $(id -u alice) $(id -u alice) $(id -u alice)" ]
	# Of the listener's signals nothing is left: none blocked but those that
	# stop a service, in the broker; but SIGSYS, the sandbox's, none caught;
	# only SIGPIPE and SIGXFSZ ignored.
	[ "$(field "$broker" SigBlk)" = 0000000000004003 ]
	[ "$(field "$(child_pid)" SigBlk)" = 0000000000000000 ]
	for pid in "$broker" "$(child_pid)"; do
		[ -n "${SANITIZER-}" ] ||
		    [ "$(field "$pid" SigCgt)" = 0000000040000000 ]
		[ "$(field "$pid" SigIgn)" = 0000000001001000 ]
	done
	pop_ask QUIT
}

# bats test_tags=promise:2
@test "listener and monitor never open the keytab, nor read what clients send" {
	[ -z "${SANITIZER-}" ] || skip "ASan's own system calls are in the way"
	mbox one | store alice
	rm -rf "$WORLD/traces"
	mkdir "$WORLD/traces"
	awake
	strace -ff -o "$WORLD/traces/t" -p "$(listener_pid)" \
	    2>"$WORLD/strace.err" 3>&- &
	await 5 'grep -q attached "$WORLD/strace.err"'
	pop alice QUIT
	await 5 'no_sessions'
	pkill -x strace
	await 5 '! pgrep -x strace >/dev/null'
	cd "$WORLD/traces"
	# The listener, monitor, pre-auth process, session, broker, and who asks
	# whether the account has expired.
	[ "$(ls | wc -l)" -eq 6 ]
	opened=$(grep -l 'openat.*server.keytab' t.*)
	[ "$(wc -w <<<"$opened")" -eq 1 ]
	grep -q 'chroot("preauth")' "$opened"
	listener=t.$(listener_pid)
	[ "$listener" != "$opened" ]
	grep -q accept4 "$listener"
	grep -E '^(recv[a-z]*|pread64)\(|^read\((0|1|5),' "$listener" &&
	    return 1 || :
	# krb5.conf was read before; nobody reads it again.
	grep -l 'open.*krb5.conf' t.* && return 1 || :
}

@test "a pre-auth process or a session that is killed takes nobody with it" {
	mbox one | store alice
	pop_open
	pop_hear '^\+OK'
	listener=$(listener_pid)
	kill -KILL "$(child_pid)"
	pop_hear_end
	pop_close
	pop_login alice
	kill -KILL "$(child_pid)"
	pop_hear_end
	pop_close
	pop_login alice
	kill -KILL "$(monitor_pid)" "$(child_pid)"
	pop_hear_end
	pop_close
	run pop alice STAT QUIT
	[[ $output == *"+OK bye, 1 messages left"* ]]
	[ "$(listener_pid)" = "$listener" ]
	[ -z "$(pgrep -r Z -P "$listener")" ]
}

@test "SIGKILL of the listener harms no session, and xinetd starts another" {
	mbox one two | store alice
	pop_login alice
	listener=$(listener_pid)
	kill -KILL "$listener"
	await 5 "! kill -0 $listener 2>/dev/null"
	KRB5CCNAME=FILE:$WORLD/ccache.bob realm_login bob
	KRB5CCNAME=FILE:$WORLD/ccache.bob run pop bob QUIT
	[[ $output == *"+OK bye"* ]]
	[ "$(listener_pid)" != "$listener" ]
	pop_say "RETR 1"
	pop_hear_lines
	pop_ask "DELE 1"
	pop_ask QUIT '^\+OK bye, 1 '
	pop_hear_end
	[ "$(grep -c '^From ' "$(spool alice)")" -eq 1 ]
}

@test "SIGTERM ends the listener at once, its sessions go on to their ends, and xinetd starts another" {
	mbox one two | store alice
	pop_login alice
	listener=$(listener_pid)
	kill -TERM "$listener"
	await 2 "! kill -0 $listener 2>/dev/null"
	pop_say "RETR 2"
	pop_hear_lines
	pop_ask "DELE 2"
	pop_ask QUIT '^\+OK bye, 1 '
	pop_hear_end
	log_has 'logout .*reason=quit .*deleted=1 left=1'
	[ "$(grep -c '^From ' "$(spool alice)")" -eq 1 ]
	run pop alice QUIT
	[[ $output == *"+OK 1 messages"* ]]
	[ "$(listener_pid)" != "$listener" ]
}

@test "without sessions the listener ends after its time with status 0, and comes again with the next connection" {
	restart -a 10:10:100:2
	sed -i 's/log_on_success.*/log_on_success = EXIT/' "$WORLD/xinetd.conf"
	kill -HUP "$(cat "$WORLD/xinetd.pid")"
	pop_login alice
	listener=$(listener_pid)
	# Somebody is there.
	sleep 3
	kill -0 "$listener"
	pop_ask QUIT
	pop_hear_end
	await 5 "! kill -0 $listener 2>/dev/null"
	await 3 'grep -a "xinetd.*EXIT: .*kpop status=0" "$WORLD/syslog"'
	run pop alice QUIT
	[[ $output == *"+OK bye"* ]]
	restart
}

@test "SIGHUP reads krb5.conf again, and nothing else does" {
	cp /etc/krb5.conf "$WORLD/server.conf"
	server_stop
	server_env="KRB5_CONFIG=$WORLD/server.conf" listener_start
	mbox one | store alice
	run pop alice QUIT
	[[ $output == *"+OK 1 messages"* ]]
	listener=$(listener_pid)
	# alice is carol from now on, once it is read.
	sed 's/KPOPD.TEST = {/&\nauth_to_local = RULE:[1:$1](alice)s\/alice\/carol\//' /etc/krb5.conf >"$WORLD/server.conf"
	sleep 1.1
	run pop alice QUIT
	[[ $output == *"+OK 1 messages"* ]]
	kill -HUP "$listener"
	run pop alice QUIT
	[[ $output == *"-ERR [AUTH]"* ]]
	run pop carol QUIT
	[[ $output == *"+OK 0 messages"* ]]
	# Saved badly in the middle of a login: what was read holds, and no
	# wider rule comes of it.
	pop_open
	pop_hear '^\+OK'
	pop_ask "USER alice"
	: >"$WORLD/server.conf"
	sleep 1.1
	pop_ask "PASS x" '^-ERR \[AUTH\]'
	pop_close
	run pop carol QUIT
	[[ $output == *"+OK 0 messages"* ]]
	# What cannot be read at SIGHUP is not taken.
	echo '[libdefaults' >"$WORLD/server.conf"
	kill -HUP "$listener"
	log_has 'failed .*what="initializing libkrb5 from krb5.conf"'
	run pop carol QUIT
	[[ $output == *"+OK 0 messages"* ]]
	# Nor is nothing, in the moment in which it is saved.
	for gone in 'rm' ': >'; do
		log_mark
		eval "$gone \"\$WORLD/server.conf\""
		kill -HUP "$listener"
		log_has 'failed .*what="reading krb5.conf again" error="it is empty now"'
		run pop carol QUIT
		[[ $output == *"+OK 0 messages"* ]]
	done
	[ "$(listener_pid)" = "$listener" ]
	restart
}

@test "more sessions than there may be in all are sent away with a word, at once, and logged once a minute" {
	restart -a 2:10:1000
	pop_login alice
	first=$pop_pid
	exec {held}<>/dev/tcp/127.0.0.1/1109
	await 5 '[ "$(pgrep -x kpopd -P "$(listener_pid)" | wc -l)" -eq 2 ]'
	for _ in 1 2 3 4; do
		run hear_only
		[[ $output == "-ERR [SYS/TEMP] too many connections"* ]]
	done
	[ "$(log_lines |
	    grep -c \
	    'refused peer=127.0.0.1:[0-9]* reason="too many sessions" more=0')" -eq 1 ]
	[ "$(log_lines | grep -c 'too many')" -eq 1 ]
	exec {held}>&-
	await 5 '[ "$(pgrep -x kpopd -P "$(listener_pid)" | wc -l)" -eq 1 ]'
	# One has gone: there is a place again.
	run hear_only
	[[ $output != *"too many"* ]]
	[ "$first" = "$pop_pid" ]
	pop_ask QUIT
	pop_close
	restart
}

@test "more sessions from one address than may be are sent away, others are served; of IPv6 a /64 is one" {
	ip -6 route add local 2001:db8::/32 dev lo
	echo 1 >/proc/sys/net/ipv6/ip_nonlocal_bind
	server_stop
	listen_by 'IO::Socket::IP->new(LocalHost => "::", LocalPort => 1109, Listen => 5, ReuseAddr => 1)' \
	    env ${SANITIZER-} "$KPOPD_BUILD/kpopd" -d "$state" \
	    -k "$WORLD/server.keytab" -a 10:2:1000
	await 5 'ss -Hltn sport = 1109 | grep -q .'
	to() {
		timeout 3 socat -t 3 - "TCP6:[2001:db8:0:1::1]:1109,bind=[$1]" \
		    < <(sleep "${2-0.5}")
	}
	pids=()
	for address in 2001:db8:0:1::1 2001:db8:0:1::2; do
		to $address 5 >/dev/null 3>&- &
		pids+=($!)
	done
	await 5 '[ "$(pgrep -x kpopd -P "$by" | wc -l)" -eq 2 ]'
	run to 2001:db8:0:1::3
	[[ $output == "-ERR [SYS/TEMP]"* ]]
	run to 2001:db8:0:2::1
	[[ $output != *"too many"* ]]
	# IPv4 that comes in as IPv6 is by its own address.
	run timeout 3 socat -t 3 - TCP4:127.0.0.1:1109,bind=127.0.0.9 \
	    < <(sleep 0.5)
	[[ $output != *"too many"* ]]
	run pop alice QUIT
	[[ $output == *"+OK bye"* ]]
	log_has 'refused peer=\[2001:db8:0:1::3\]:[0-9]+ reason="too many sessions from this address"'
	log_has 'login peer=[^ ]+:[0-9]+'
	kill -TERM "$by"
	wait "$by" "${pids[@]}" || true
	ip -6 route del local 2001:db8::/32 dev lo
	listener_start
}

@test "more connections in a second than may be wait for their turn" {
	restart -a 100:100:2
	awake
	sleep 1.5
	begin=$(date +%s%N)
	pids=()
	for _ in 1 2 3 4 5 6; do
		# A byte before the end: the server cannot know that this client
		# has left.
		wire 8 < <(printf x) 3>&- >/dev/null &
		pids+=($!)
	done
	wait "${pids[@]}"
	spent=$((($(date +%s%N) - begin) / 1000000))
	# Two at once, four more at two a second.
	echo "$spent ms"
	[ "$spent" -ge 1700 ]
	[ "$spent" -lt 6000 ]
	log_has 'refused peer=none reason="too many connections in a second, they wait"'
	restart
}

# flood ADDRESS COUNT HOW: so many connections from there, one after the other:
# "close" closes each at once, "shut" ends its side and waits for what comes,
# "byte" does so after a byte, "stay" says "ready" and leaves all open until
# standard input ends. Prints what was heard, one a line.
flood() {
	perl -MSocket -e '$| = 1; my ($from, $n, $how) = @ARGV; my (@s, %heard);
	    for (1 .. $n) {
		socket(my $s, PF_INET, SOCK_STREAM, 0); bind($s, sockaddr_in(0, inet_aton($from))) or die "bind: $!";
		connect($s, sockaddr_in(1109, INADDR_LOOPBACK)) or die "connect: $!";
		push @s, $s if $how ne "close";
		syswrite $s, "x" if $how eq "byte";
		shutdown($s, 1) if $how ne "close" && $how ne "stay";
	    }
	    if ($how eq "stay") { print "ready\n"; <STDIN>; exit }
	    for my $s (@s) { my ($all, $some) = ""; $all .= $some while sysread $s, $some, 4096; $all =~ s/\r\n/|/g; print "$all\n" }' "$@"
}

@test "one address above its rate is sent away at once, and another is served at once meanwhile" {
	restart -a 100:4:1000:300:1
	mbox one | store alice
	awake
	listener=$(listener_pid)
	log_mark
	# As many at once as it may have, each with its pre-auth process; the
	# others are told.
	flood 127.0.0.66 40 byte >"$WORLD/heard"
	[ "$(grep -c 'SYS/TEMP. too many connections' "$WORLD/heard")" -ge 34 ]
	[ "$(grep -c 'SYS/TEMP. too many connections' "$WORLD/heard")" -le 36 ]
	log_has 'refused peer=127\.0\.0\.66:[0-9]+ reason="too many (connections in a second|sessions) from this address" more=0'
	run pop alice QUIT
	[[ $output == *"+OK 1 messages"*"+OK bye"* ]]
	await 5 'no_sessions'
	# Time goes on for it as well.
	await 5 \
	    '[ "$(flood 127.0.0.66 1 byte)" != "-ERR [SYS/TEMP] too many connections, try again later|" ]'
	[ "$(listener_pid)" = "$listener" ]
	restart
}

@test "an address that connects again and again, somewhat above its rate, waits and is not sent away" {
	restart -a 100:10:1000:300:2
	awake
	begin=$(date +%s%N)
	# Ten at once, then one each half second.
	for _ in $(seq 13); do
		run wire 8 < <(printf x)
		[[ $output != *"too many connections"* ]]
	done
	spent=$((($(date +%s%N) - begin) / 1000000))
	echo "$spent ms"
	[ "$spent" -ge 1200 ]
	restart
}

@test "one address that opens and closes without end takes no place, no process, and not another address's turn" {
	restart -a 20:4:10:300:2
	mbox one | store alice
	run pop alice QUIT
	log_mark
	forks=$(awk '/^processes/ { print $2 }' /proc/stat)
	flood 127.0.0.66 1000 close
	run pop alice QUIT
	[[ $output == *"+OK 1 messages"*"+OK bye"* ]] ||
	    { log_lines; return 1; }
	# Each process of the machine counts, so leave room; before, each
	# connection had two.
	[ $(($(awk '/^processes/ { print $2 }' /proc/stat) - forks)) -lt 400 ]
	log_has '"(closed before it was served|too many connections in a second from this address)" more=0'
	await 5 'no_sessions'
	restart
}

@test "a connection that is gone before its turn has no process; one that ended its side after some bytes has" {
	restart -a 100:100:1
	# One a second: the first has the second's place, the others wait, and
	# leave.
	pids=()
	wire 8 < <(printf x) >/dev/null 3>&- &
	pids+=($!)
	log_has 'refused peer=127\.0\.0\.1:'
	flood 127.0.0.66 20 close
	begin=$(date +%s%N)
	run wire 8 < <(printf x)
	spent=$((($(date +%s%N) - begin) / 1000000))
	wait "${pids[@]}" || true
	echo "$spent ms"
	# Not twenty seconds later.
	[ "$spent" -lt 6000 ]
	log_has 'refused peer=127\.0\.0\.66:[0-9]+ reason="closed before it was served"'
	[ "$(log_lines | grep -c 'peer=127.0.0.1:')" -ge 2 ]
	restart
}

@test "the connections that wait are nobody's but the listener's" {
	restart -a 100:100:1
	awake
	coproc STAY { flood 127.0.0.66 5 stay; }
	read -r ready <&"${STAY[0]}"
	[ "$ready" = ready ]
	listener=$(listener_pid)
	await 5 '[ "$(sockets "$listener")" -ge 4 ]'
	await 5 '[ "$(pgrep -x kpopd -P "$listener" | wc -l)" -ge 1 ]'
	monitor=$(pgrep -o -x kpopd -P "$listener")
	await 5 '[ -n "$(pgrep -x kpopd -P "$monitor")" ]'
	[ "$(sockets "$listener")" -ge 3 ]
	for pid in "$monitor" "$(pgrep -x kpopd -P "$monitor")"; do
		fds "$pid"
		[ "$(sockets "$pid")" \
		    -eq $([ "$pid" = "$monitor" ] && echo 4 || echo 3) ]
		[ "$(fds "$pid" | grep -v " $state/replay\$" |
		    grep -vc ' socket:')" -eq 1 ]
	done
	# A listener that ends says so to those who wait.
	exec {waits}<>/dev/tcp/127.0.0.1/1109
	await 5 \
	    '[ "$(ss -Htn state established sport = 1109 | wc -l)" -ge 6 ] && [ "$(ss -Hltn sport = 1109 | awk "{ print \$2 }")" -eq 0 ]'
	kill -TERM "$listener"
	read -r -t 5 heard <&"$waits"
	exec {waits}>&-
	eval "exec ${STAY[1]}>&-"
	[[ $heard == "-ERR [SYS/TEMP] too many connections"* ]] ||
	    [[ $heard == "" ]]
	log_has 'refused peer=[0-9.]+:[0-9]+ reason="the listener ends"'
	restart
}

@test "behind a proxy its clients have no limit in common" {
	restart -p -a 100:1:1000:300:1 -x 127.0.0.66
	awake
	coproc STAY { flood 127.0.0.66 30 stay; }
	read -r ready <&"${STAY[0]}"
	await 5 '[ "$(pgrep -x kpopd -P "$(listener_pid)" | wc -l)" -eq 30 ]'
	eval "exec ${STAY[1]}>&-"
	await 5 'no_sessions'
	# From elsewhere one.
	exec {held}<>/dev/tcp/127.0.0.1/1109
	read -r -t 5 _ <&"$held"
	run hear_only
	exec {held}>&-
	[[ $output == "-ERR [SYS/TEMP] too many connections"* ]]
	restart
}

@test "without descriptors the listener rests, says so once, and goes on when there are some" {
	awake
	listener=$(listener_pid)
	prlimit --pid "$listener" --nofile=5:4096
	exec {held}<>/dev/tcp/127.0.0.1/1109
	log_has 'failed peer=none what="accepting a connection" error="Too many open files" more=0'
	before=$(awk '{ print $14 + $15 }' "/proc/$listener/stat")
	sleep 2
	[ $(($(awk '{ print $14 + $15 }' "/proc/$listener/stat") - before)) \
	    -le 5 ]
	[ "$(log_lines | grep -c 'accepting a connection')" -eq 1 ]
	prlimit --pid "$listener" --nofile=1024:4096
	exec {held}>&-
	run pop alice QUIT
	[[ $output == *"+OK bye"* ]]
	[ "$(listener_pid)" = "$listener" ]
}

@test "others may take connections from the same socket: the listener is never stuck" {
	[ -z "${SANITIZER-}" ] || skip "ASan's own system calls are in the way"
	server_stop
	# One that blocks, and a sibling that takes a connection when it is told
	# to.
	perl -e 'use IO::Socket::IP; use POSIX; my $s = IO::Socket::IP->new(LocalHost => "127.0.0.1", LocalPort => 1109, Listen => 50, ReuseAddr => 1) or die;
	    my $pid = fork; if (!$pid) { $SIG{USR1} = sub { close $s->accept; exit }; sleep 60; exit }
	    open my $f, ">", "'"$WORLD/taker"'"; print $f $pid; close $f;
	    POSIX::dup2(fileno $s, $_) for 0 .. 2; exec @ARGV' env \
	    ${SANITIZER-} "$KPOPD_BUILD/kpopd" -d "$state" \
	    -k "$WORLD/server.keytab" -a 100:100:1000 3>&- &
	by=$!
	await 5 'ss -Hltn sport = 1109 | grep -q .'
	# The listener has seen the connection, and comes too late to take it.
	strace -o /dev/null -p "$by" -e inject=accept4:delay_enter=2000000 \
	    2>"$WORLD/strace.err" 3>&- &
	await 5 'grep -q attached "$WORLD/strace.err"'
	exec {held}<>/dev/tcp/127.0.0.1/1109
	sleep 0.1
	kill -USR1 "$(cat "$WORLD/taker")"
	sleep 2.5
	exec {held}>&-
	pkill -x strace
	await 5 '! pgrep -x strace >/dev/null'
	# The listener, which is its parent now, is awake and sees it end.
	await 3 '! kill -0 "$(cat "$WORLD/taker")" 2>/dev/null' && taken=yes ||
	    taken=no
	kill -TERM "$by"
	await 1 "! kill -0 $by 2>/dev/null" ||
	    { kill -KILL "$by"; taken=stuck; }
	kill -KILL "$(cat "$WORLD/taker")" 2>/dev/null || :
	listener_start
	[ $taken = yes ]
}

@test "a Unix socket, and one that does not block, are served" {
	server_stop
	listen_by 'my $s = IO::Socket::UNIX->new(Local => "'"$WORLD/kpop.socket"'", Listen => 5); $s->blocking(0); $s' \
	    env ${SANITIZER-} "$KPOPD_BUILD/kpopd" -d "$state" \
	    -k "$WORLD/server.keytab" -a 10:1:100
	await 5 '[ -S "$WORLD/kpop.socket" ]'
	mbox one | store alice
	# No address, so no limit of one.
	socat - "UNIX-CONNECT:$WORLD/kpop.socket" >/dev/null < <(sleep 3) 3>&- &
	{
		versions
		apreq -m pop/mail.kpopd.test | framed
		printf 'USER alice\r\nPASS x\r\nQUIT\r\n'
	} >"$WORLD/all"
	run \
	    bash -c "socat -t 5 - UNIX-CONNECT:$WORLD/kpop.socket <$WORLD/all | tr -d '\r\0' | tail -n 1"
	kill -TERM "$by"
	wait "$by"
	rm "$WORLD/kpop.socket"
	listener_start
	[[ $output == "+OK bye, 1 messages left" ]]
}

@test "what inetd left open, blocked or ignored does no harm" {
	server_stop
	server_configure
	cat >"$WORLD/messy" <<-END
	#!/usr/bin/perl
	umask 0; \$SIG{\$_} = 'IGNORE' for qw(CHLD PIPE ALRM TERM HUP);
	use POSIX; POSIX::sigprocmask(SIG_BLOCK, POSIX::SigSet->new(SIGALRM, SIGCHLD, SIGTERM, SIGHUP));
	for my \$n (3 .. 200) { POSIX::dup2(0, \$n) }
	exec '$KPOPD_BUILD/kpopd', @ARGV;
	END
	chmod 755 "$WORLD/messy"
	sed -i -e "s,^\([[:space:]]*server[[:space:]]*=\).*,\1 $WORLD/messy," \
	    -e 's/\(wait[[:space:]]*=\).*/\1 yes/' \
	    -e '/per_source\|instances\|flags/d' "$WORLD/xinetd.conf"
	xinetd_run
	mbox one | store alice
	pop_login alice
	has_nothing "$(child_pid)" "$(id -u alice)" "$(id -g alice)"
	[ "$(fds "$(child_pid)" | wc -l)" -eq 12 ]
	listener=$(listener_pid)
	[ "$(fds "$listener" | wc -l)" -eq 5 ]
	pop_ask QUIT
	pop_hear_end
	await 5 'no_sessions'
	[ -z "$(pgrep -r Z -P "$listener")" ]
	kill -TERM "$listener"
	await 2 "! kill -0 $listener 2>/dev/null"
	restart
}

@test "a session has its own line to syslog: syslogd may have been started again" {
	awake
	kill -TERM "$(cat "$WORLD/rsyslogd.pid")"
	await 5 '[ ! -e /dev/log ] || ! pgrep -x rsyslogd >/dev/null'
	rm -f "$WORLD/rsyslogd.pid"
	rsyslogd -n -f "$WORLD/rsyslog.conf" -i "$WORLD/rsyslogd.pid" 3>&- &
	await 5 '[ -S /dev/log ]'
	# The pre-auth process is in its jail when it says this.
	log_mark
	run wire < <(printf 'CAPA\r\n')
	log_has 'refused peer=127.0.0.1:[0-9]+ reason='
}

@test "a listener that was started before syslogd is heard when syslogd is there" {
	kill -TERM "$(cat "$WORLD/rsyslogd.pid")"
	await 5 '! pgrep -x rsyslogd >/dev/null'
	rm -f "$WORLD/rsyslogd.pid" /dev/log
	restart -a 1:1:1000
	exec {held}<>/dev/tcp/127.0.0.1/1109
	await 5 '[ "$(pgrep -x kpopd -P "$(listener_pid)" | wc -l)" -eq 1 ]'
	rsyslogd -n -f "$WORLD/rsyslog.conf" -i "$WORLD/rsyslogd.pid" 3>&- &
	await 5 '[ -S /dev/log ]'
	run hear_only
	[[ $output == "-ERR [SYS/TEMP] too many connections"* ]]
	exec {held}>&-
	log_has 'refused peer=127.0.0.1:[0-9]+ reason="too many sessions"'
	restart
}

@test "TLS and the GSSAPI layer: their processes have nothing of the listener" {
	tls_make
	restart $(tls_options)
	mbox one | store alice
	kpopc --tls -C "$WORLD/tls/ca.pem" mail.kpopd.test \
	    < <(printf 'USER alice\r\nPASS x\r\n'; sleep 2; printf 'QUIT\r\n') \
	    >"$WORLD/heard" 3>&- &
	client=$!
	await 5 'grep -q "OK 1 messages" "$WORLD/heard"'
	listening=$(readlink "/proc/$(listener_pid)/fd/0")
	tls=$(pgrep -x kpopd-tls)
	fds "$tls" | grep -q 'socket:'
	fds "$tls" | grep -F "$listening" && return 1 || :
	holds_key "$tls" tls_key_bytes
	holds_none "$(listener_pid)" tls_key_bytes
	holds_none "$(listener_pid)"
	wait "$client"
	grep -q '^+OK bye, 1 messages left' "$WORLD/heard"
	# Those who find no place hear nothing: it would be no TLS.
	restart -a 1:1:100 -T immediate $(tls_options)
	exec {held}<>/dev/tcp/127.0.0.1/1109
	await 5 '[ "$(pgrep -x kpopd -P "$(listener_pid)" | wc -l)" -eq 1 ]'
	run hear_only
	exec {held}>&-
	[ -z "$output" ]
	log_has 'refused .*"too many sessions"'
	restart -p
	run \
	    bash -c "printf 'USER alice\r\nPASS x\r\nSTAT\r\nQUIT\r\n' | '$KPOPD_BUILD/kpopc' -p mail.kpopd.test 1109"
	[[ $output == *"+OK 1 "*"+OK bye"* ]]
	log_has 'login .*layer=confidentiality'
	restart
}

@test "the capabilities that kpopd.service leaves are enough" {
	[ -z "${SANITIZER-}" ] || skip "ASan has needs of its own"
	tls_make
	mbox one two | store alice
	left=$(sed -n 's/^CapabilityBoundingSet=//p' \
	    "$top/systemd/kpopd.service" | tr 'A-Z' 'a-z' |
	    sed 's/cap_/+/g; s/ /,/g')
	[ -n "$left" ]
	for mode in '' -p; do
		server_stop
		rm -rf "$state"
		listen_by 'IO::Socket::IP->new(LocalHost => "::", LocalPort => 1109, Listen => 5, ReuseAddr => 1)' \
		    setpriv --bounding-set="-all,$left" --inh-caps=-all \
		    "$KPOPD_BUILD/kpopd" \
		    -d "$state" -k "$WORLD/server.keytab" $(tls_options) $mode
		await 5 'ss -Hltn sport = 1109 | grep -q .'
		for tls in '' "--tls -C $WORLD/tls/ca.pem"; do
			run \
			    bash -c "printf 'USER alice\r\nPASS x\r\nQUIT\r\n' | '$KPOPD_BUILD/kpopc' $mode $tls mail.kpopd.test 1109"
			[[ $output == *"+OK bye, 2 "* ]] || {
				kill "$by"
				echo "$mode $tls: $output"
				log_lines
				listener_start
				return 1
			}
		done
		[ "$(field "$by" CapBnd)" != "$(field $$ CapBnd)" ]
		run \
		    bash -c "printf 'USER bob\r\nPASS x\r\nQUIT\r\n' | '$KPOPD_BUILD/kpopc' $mode mail.kpopd.test 1109"
		kill "$by"
		[[ $output == *"-ERR [AUTH]"* ]]
	done
	run pop alice QUIT
	listener_start
}

@test "behind a proxy the log has the client" {
	restart -p -x 127.0.0.1
	run wire \
	    3 < <(printf \
		'PROXY TCP4 192.0.2.7 192.0.2.1 4711 1109\r\nCAPA\r\nQUIT\r\n')
	[[ $output == "+OK"*"+OK bye"* ]]
	log_has 'refused peer=192\.0\.2\.7:4711 reason="no login: left"'
	restart
}

@test "what -a does not take is said" {
	for limits in 0 1:0 1:1:0 1:1:1:-1 1:1:1:1:0 1:1:1:1:1:1 x 100001 '' \
	    1: :1; do
		run "$KPOPD_BUILD/kpopd" -a "$limits" </dev/null
		[ "$status" -eq 2 ]
		[[ $output == *"-a takes"* ]] ||
		    { echo "$limits: $output"; return 1; }
	done
	for limits in 1:1:1:0 1:1:1:0:1; do
		run "$KPOPD_BUILD/kpopd" -a $limits </dev/null
		[[ $output == *"standard input is not a connection"* ]]
	done
}

# many_nets COUNT: connections from so many /64 networks of IPv6, each closed by
# a reset at once.
many_nets() {
	perl -MIO::Socket::IP -MSocket=:all -e 'for my $i (1 .. shift) {
	    my $s = IO::Socket::IP->new(LocalHost => sprintf("2001:db8:0:%x::1", $i), PeerHost => "2001:db8:ffff::1", PeerPort => 1109) or die "$i: $@";
	    setsockopt($s, SOL_SOCKET, SO_LINGER, pack("ii", 1, 0)) if $i % 2; close $s }' "$1"
}

# bats test_tags=attack:6-1,attack:6-2
@test "one attacker who has many /64 networks costs the listener no memory and no descriptor, and delays nobody" {
	ip -6 route add local 2001:db8::/32 dev lo
	echo 1 >/proc/sys/net/ipv6/ip_nonlocal_bind
	server_stop
	listen_by 'IO::Socket::IP->new(LocalHost => "::", LocalPort => 1109, Listen => 5, ReuseAddr => 1)' \
	    env ${SANITIZER-} "$KPOPD_BUILD/kpopd" -d "$state" \
	    -k "$WORLD/server.keytab"
	await 5 'ss -Hltn sport = 1109 | grep -q .'
	many_nets 200
	await 5 'no_sessions'
	before=$(fds "$by") memory=$(field "$by" VmSize)
	many_nets "${MANY-2500}" 3>&- &
	nets=$!
	begin=$(date +%s%N)
	run pop alice QUIT
	spent=$((($(date +%s%N) - begin) / 1000000))
	wait "$nets"
	[[ $output == *"+OK bye"* && $spent -lt 3000 ]] ||
	    { echo "$spent ms: $output"; return 1; }
	await 5 'no_sessions'
	await 5 '[ "$(fds "$by")" = "$before" ]'
	[ -n "${SANITIZER-}" ] || [ "$(field "$by" VmSize)" = "$memory" ]
	# One line a minute for each sort of those that were not served.
	log_has 'closed before it was served'
	[ "$(log_lines | grep -c 'closed before it was served')" -le 2 ]
	kill -TERM "$by"
	wait "$by" || true
	ip -6 route del local 2001:db8::/32 dev lo
	listener_start
}

# bats test_tags=attack:6-4,attack:6-5,attack:6-6
@test "odd ends of connections: urgent data alone, a byte and a reset, half-closed with and without data: nothing of them stays" {
	awake
	listener=$(listener_pid)
	before=$(fds "$listener")
	perl -MIO::Socket::IP -MSocket=:all \
	    -e 'for my $i (1 .. 20) { for my $how (0 .. 5) {
	    my $s = IO::Socket::IP->new(PeerHost => "127.0.0.1", PeerPort => 1109) or die;
	    send($s, "u", MSG_OOB) if $how < 2;
	    syswrite $s, "x" x (1 << 3 * $how) if $how > 1;
	    shutdown $s, 1 if $how % 2;
	    setsockopt($s, SOL_SOCKET, SO_LINGER, pack("ii", 1, 0)) if $how != 3;
	    close $s } }'
	run pop alice QUIT
	[[ $output == *"+OK bye"* ]] || { echo "$output"; return 1; }
	await 5 'no_sessions'
	[ "$(listener_pid)" = "$listener" ]
	await 5 '[ "$(fds "$listener")" = "$before" ]'
	log_lacks 'fatal|failed'
}

# bats test_tags=attack:6-7,attack:6-8,attack:6-9,attack:6-10
@test "signals to the listener by the hundred, all its monitors killed at once, a stop: it serves on with the memory it had" {
	awake
	listener=$(listener_pid)
	kill -HUP "$listener"
	run pop alice QUIT
	before=$(fds "$listener") memory=$(field "$listener" VmRSS | tr -dc 0-9)
	for _ in $(seq "${MANY-300}"); do
		kill -HUP "$listener"
		kill -ALRM "$listener"
		kill -CHLD "$listener"
	done
	for _ in $(seq 8); do
		exec {held}<>/dev/tcp/127.0.0.1/1109
		helds+=($held)
	done
	await 5 '[ "$(pgrep -x kpopd -P "$listener" | wc -l)" -eq 8 ]'
	kill -KILL $(pgrep -x kpopd -P "$listener")
	for held in "${helds[@]}"; do exec {held}>&-; done
	await 10 'no_sessions'
	[ -z "$(pgrep -r Z -P "$listener")" ]
	kill -STOP "$listener"
	pop alice QUIT >"$WORLD/heard" 3>&- &
	waiting=$!
	await 5 '[ "$(ss -Hltn sport = 1109 | awk "{ print \$2 }")" -ge 1 ]'
	kill -TERM "$waiting" || :
	kill -CONT "$listener"
	run pop alice QUIT
	[[ $output == *"+OK bye"* ]] || { echo "$output"; return 1; }
	wait "$waiting" || :
	await 5 'no_sessions'
	[ "$(listener_pid)" = "$listener" ]
	fds "$listener"
	await 5 '[ "$(fds "$listener")" = "$before" ]'
	[ -n "${SANITIZER-}" ] ||
	    [ "$(field "$listener" VmRSS | tr -dc 0-9)" -lt $((memory + 1024)) \
		] || { field "$listener" VmRSS; echo "$memory"; return 1; }
	log_lacks 'fatal peer=none'
}
