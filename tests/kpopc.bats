#!/usr/bin/env bats
# The client: its messages for each failure, and that it is a tunnel.

load helpers/all

teardown() {
	for pid in ${fake-} ${middle-}; do kill "$pid" 2>/dev/null || true; done
	grep -q '^kpop[[:space:]]' /etc/services ||
	    printf 'kpop 1109/tcp\n' >>/etc/services
	end_test
}

# fails STATUS PATTERN ARGUMENT …: one line of this kind on standard error.
fails() {
	run kpopc "${@:3}" </dev/null
	[ "$status" -eq "$1" ]
	[ "${#lines[@]}" -eq 1 ]
	[[ $output =~ ^kpopc:\ .*$2 ]] || { echo "$output"; return 1; }
}

# A server on port 2000 that does what the shell command says.
fake_server() {
	socat TCP-LISTEN:2000,reuseaddr,fork SYSTEM:"$1" 3>&- 2>/dev/null &
	fake=$!
	await 5 'ss -Hltn sport = 2000 | grep -q .'
}

@test "wrong usage says so" {
	for arguments in '' 'a b c' '-x host' '-u alice host'; do
		run kpopc $arguments
		[ "$status" -eq 2 ]
		[[ $output == *usage:* ]]
	done
	run kpopc -V
	[[ $output =~ ^kpopc\ [0-9.]+$ ]]
}

@test "without tickets it says to run kinit" {
	realm_logout
	fails 1 'no tickets: .*kinit' mail.kpopd.test
}

@test "an expired ticket, too" {
	realm_login alice -l 1s
	sleep 2
	fails 1 '(expired).*kinit again' mail.kpopd.test
}

@test "a service that the realm does not know is named" {
	realm_login alice
	fails 1 'no ticket for pop/nowhere@KPOPD\.TEST: .*no such service' \
	    -s pop/nowhere mail.kpopd.test
}

@test "an unknown host, a closed port, a KDC that is down" {
	realm_login alice
	fails 1 'nowhere\.invalid port' -s pop/mail.kpopd.test nowhere.invalid
	fails 1 'port 1: Connection refused' mail.kpopd.test 1
	sed 's/127.0.0.1:88/127.0.0.1:9/' /etc/krb5.conf >"$WORLD/nokdc.conf"
	KRB5_CONFIG=$WORLD/nokdc.conf fails 1 'no ticket for .*KDC' \
	    -s pop/unheard.of mail.kpopd.test
}

@test "with -k it takes a keytab and leaves no tickets behind" {
	realm_logout
	run \
	    bash -c "printf 'USER alice\r\nPASS x\r\nQUIT\r\n' | '$KPOPD_BUILD/kpopc' -k '$WORLD/keytabs/alice.keytab' mail.kpopd.test"
	[[ $output == *"+OK bye"* ]]
	run klist
	[ "$status" -ne 0 ]
	fails 1 'not found' -k /nonexistent mail.kpopd.test
	fails 1 'no ticket with the keytab' -k "$WORLD/keytabs/alice.keytab" \
	    -u bob mail.kpopd.test
}

@test "a server that is not KPOP is called so" {
	realm_login alice
	for words in '+OK POP3 here' 'SSH-2.0-x' '* OK IMAP'; do
		fake_server "echo '$words'; cat >/dev/null"
		fails 1 'does not speak Kerberos 5 KPOP' mail.kpopd.test 2000
		kill "$fake"
		await 5 '! ss -Hltn sport = 2000 | grep -q .'
	done
}

# bats test_tags=attack:8-2
@test "a server that refuses before the exchange is shown in its own words, escaped, also if it closes at once" {
	realm_login alice
	for way in 'cat >/dev/null' 'sleep 0.2' true; do
		for words in '-ERR [SYS/TEMP] too many\033[31m\r\n' \
		    '-ERR [SYS/TEMP] too many\r\nmore\r\n' \
		    '-ERR [SYS/TEMP] too many'; do
			# The socket itself: socat would drop the words if it
			# cannot pass on what kpopc says.
			printf '#!/bin/sh\nprintf -- "%s"\n%s\n' "$words" \
			    "$way" >"$WORLD/refuser"
			chmod 755 "$WORLD/refuser"
			socat TCP-LISTEN:2000,reuseaddr,fork \
			    EXEC:"$WORLD/refuser",nofork 3>&- 2>/dev/null &
			fake=$!
			await 5 'ss -Hltn sport = 2000 | grep -q .'
			escape=
			[[ $words != *033* ]] || escape='\\033\[31m'
			fails 1 "the server answered: -ERR \\[SYS/TEMP\\] too many$escape\$" mail.kpopd.test 2000
			kill "$fake"
			await 5 '! ss -Hltn sport = 2000 | grep -q .'
		done
	done
}

# refused STATUS LINE KPOPC_ARGUMENT …: a whole dialogue; the last line on
# standard output, and the only one on standard error (none with status 0), has
# the server's line. Takes the commands from $commands.
refused() {
	local expected=$1 line=$2 status=0
	shift 2
	printf '%s\r\n' "${commands[@]}" |
	    timeout 20 "$KPOPD_BUILD/kpopc" "$@" >"$WORLD/heard" \
		2>"$WORLD/errors" || status=$?
	[ "$status" -eq "$expected" ] &&
	    [ "$(tail -n 1 "$WORLD/heard" | tr -d '\r')" = "$line" ] &&
	    [ "$(cat "$WORLD/errors")" = \
		"$([ "$expected" -eq 0 ] ||
		    echo "kpopc: the server answered: $line")" ] ||
	    {
		    echo "$status, expected: $line"
		    cat "$WORLD/heard" "$WORLD/errors"
		    return 1
	    }
}

@test "a login that the server refuses is status 1, and its line is on standard output for the program, on standard error for the reader" {
	local status=0
	mbox one | store alice
	realm_login bob
	commands=("USER alice" "PASS x" STAT QUIT)
	refused 1 "-ERR [AUTH] this ticket does not open that mailbox" \
	    mail.kpopd.test
	# A program that leaves after a refused USER has had no session, either.
	commands=("USER $(printf '%0300d' 1)" QUIT)
	printf '%s\r\n' "${commands[@]}" |
	    timeout 20 "$KPOPD_BUILD/kpopc" mail.kpopd.test >"$WORLD/heard" \
		2>"$WORLD/errors" || status=$?
	[ "$status" -eq 1 ] &&
	    [ "$(cat "$WORLD/errors")" = \
		"kpopc: the server answered: -ERR line too long" ]
}

# bats test_tags=attack:8-8
@test "of refusals in a row the first one is shown, because it is why the others came" {
	local status=0
	realm_login alice
	tls_make
	server_stop
	server_start -T require $(tls_options)
	printf '%s\r\n' CAPA "USER alice" "PASS x" STAT QUIT |
	    timeout 20 "$KPOPD_BUILD/kpopc" mail.kpopd.test >"$WORLD/heard" \
		2>"$WORLD/errors" || status=$?
	server_stop
	server_start
	[ "$status" -eq 1 ] &&
	    [ "$(cat "$WORLD/errors")" = \
		"kpopc: the server answered: -ERR [AUTH] STLS comes first here" ] || { echo "$status"; cat "$WORLD/heard" "$WORLD/errors"; return 1; }
	# One that was followed by an answer that is good is not.
	realm_login bob
	status=0
	printf '%s\r\n' NOOP "USER alice" "PASS x" STAT QUIT |
	    timeout 20 "$KPOPD_BUILD/kpopc" mail.kpopd.test >"$WORLD/heard" \
		2>"$WORLD/errors" || status=$?
	[ "$status" -eq 1 ] &&
	    [ "$(cat "$WORLD/errors")" \
		= "kpopc: the server answered: -ERR [AUTH] this ticket does not open that mailbox" ] || { echo "$status"; cat "$WORLD/heard" "$WORLD/errors"; return 1; }
}

@test "a message is one write, because others may write to the same file" {
	realm_login bob
	strace -f -e trace=write -e signal=none -o "$WORLD/writes" \
	    "$KPOPD_BUILD/kpopc" mail.kpopd.test \
	    < <(printf '%s\r\n' "USER alice" "PASS x") >/dev/null 2>&1 ||
	    [ $? -eq 1 ]
	[ "$(grep -c 'write(2, "kpopc: the server answered: -ERR' \
	    "$WORLD/writes")" -eq 1 ] &&
	    [ "$(grep -c 'write(2,' "$WORLD/writes")" -eq 1 ] ||
	    { cat "$WORLD/writes"; return 1; }
}

@test "a server that ends without an answer to PASS is status 1" {
	edited 2110 '$_ = "" if $n > 2'
	mbox one | store alice
	realm_login alice
	local status=0
	printf '%s\r\n' "USER alice" "PASS x" QUIT |
	    timeout 20 "$KPOPD_BUILD/kpopc" mail.kpopd.test 2110 \
		>"$WORLD/heard" 2>"$WORLD/errors" || status=$?
	[ "$status" -eq 1 ] ||
	    { echo "$status"; cat "$WORLD/heard" "$WORLD/errors"; return 1; }
	[ "$(cat "$WORLD/errors")" = \
	    "kpopc: the server closed the connection before it answered PASS" ]
}

# bats test_tags=attack:8-3
@test "a server that ends without an answer to QUIT is status 3, whatever came before" {
	mbox one | store alice
	realm_login alice
	# Lines of a message that look like answers.
	{
		from_line
		printf 'Subject: x\n\n--border\n+1\n+OK bye\n-ERR\n+OK bye\nend\n\n'
	} | store alice
	# The greeting, USER's and PASS's answers are three lines; a whole list,
	# a message, half a message, nothing.
	for cut in 'STAT LIST:$_ = "" if /bye/' 'RETR:$_ = "" if $n > 12' \
	    'RETR:$_ = "" if $n > 8' 'STAT:$_ = "" if $n > 3' \
	    'RETR:$_ = "" if $n > 7' 'RETR:$_ = "" if $n > 9' \
	    'RETR:$_ = "" if $n > 10' 'RETR:$_ = "" if $n > 11' \
	    'RETR STAT:$_ = "" if $n > 14' 'STAT DELE:$_ = "" if $n > 5'; do
		edited 2110 "${cut#*:}"
		local commands=("USER alice" "PASS x") status=0
		for command in ${cut%%:*}; do
			commands+=(
			    "$command$([[ $command != [RD]* ]] || echo " 1")")
		done
		printf '%s\r\n' "${commands[@]}" QUIT |
		    timeout 20 "$KPOPD_BUILD/kpopc" mail.kpopd.test 2110 \
			>"$WORLD/heard" 2>"$WORLD/errors" || status=$?
		kill "$middle"
		await 5 '! ss -Hltn sport = 2110 | grep -q .'
		[ "$status" -eq 3 ] &&
		    [ "$(cat "$WORLD/errors")" \
			= "kpopc: the server closed the connection before it answered QUIT" ] || { echo "$cut: $status"; cat "$WORLD/heard" "$WORLD/errors"; return 1; }
	done
}

# bats test_tags=attack:8-4
@test "a server that ends in the middle of an answer is status 3 also where nobody has said QUIT; one that has answered all is not" {
	{ from_line; printf 'Subject: x\n\n--border\n+OK\nend\n\n'; } |
	    store alice
	realm_login alice
	local edit status
	for edit in '$_ = "" if $n > 3' '$_ = "" if $n > 7' \
	    '$_ = "" if $n > 9' ''; do
		edited 2110 "$edit"
		status=0
		printf '%s\r\n' "USER alice" "PASS x" "RETR 1" |
		    timeout 20 "$KPOPD_BUILD/kpopc" mail.kpopd.test 2110 \
			>"$WORLD/heard" 2>"$WORLD/errors" || status=$?
		kill "$middle"
		await 5 '! ss -Hltn sport = 2110 | grep -q .'
		[ "$status" -eq "$([ -z "$edit" ] && echo 0 || echo 3)" ] &&
		    [ "$(cat "$WORLD/errors")" \
			= "${edit:+kpopc: the server closed the connection before it answered the last command}" ] || { echo "$edit: $status"; cat "$WORLD/heard" "$WORLD/errors"; return 1; }
	done
}

# bats test_tags=attack:8-6
@test "a server that has answered QUIT and does not end the connection keeps nobody waiting whose input has ended" {
	local how pids=()
	mbox one | store alice
	mbox one | store bob
	realm_login alice
	tls_make
	server_stop
	server_start $(tls_options)
	edited 2110 '$raw = $holds = 1'
	for how in alice bob; do
		printf '%s\r\n' "USER $how" "PASS x" STAT QUIT |
		    timeout 40 "$KPOPD_BUILD/kpopc" \
			-k "$WORLD/keytabs/$how.keytab" \
			$([ $how = alice ] ||
			    echo "--tls -C $WORLD/tls/ca.pem") \
		    mail.kpopd.test 2110 >"$WORLD/heard.$how" \
		    2>"$WORLD/errors.$how" &
		pids+=($!)
	done
	for how in alice bob; do
		wait "${pids[0]}" && grep -q '^+OK bye' "$WORLD/heard.$how" &&
		    [ ! -s "$WORLD/errors.$how" ] || {
			    cat "$WORLD/heard.$how" "$WORLD/errors.$how"
			    server_stop
			    server_start
			    return 1
		    }
		pids=("${pids[@]:1}")
	done
	server_stop
	server_start
}

@test "a greeting that refuses, after the exchange, is status 1" {
	edited 2110 '$_ = $n == 1 ? "-ERR [SYS/TEMP] not now\r\n" : ""'
	realm_login alice
	commands=("USER alice" "PASS x" QUIT)
	refused 1 "-ERR [SYS/TEMP] not now" mail.kpopd.test 2110
}

# bats test_tags=attack:8-9
@test "errors before a good login, and in the session, are no refusal" {
	mbox one | store alice
	realm_login alice
	commands=(NOOP CAPA XTND "USER bob" "USER alice" "PASS x" "RETR 9" NOOP
	    "PASS x" QUIT)
	refused 0 "+OK bye, 1 messages left" mail.kpopd.test
	# What a message says is no answer.
	{
		from_line
		printf 'Subject: no answer\n\n-ERR\n+OK\n-ERR [AUTH] x\n\n'
	} | store alice
	commands=("USER alice" "PASS x" "RETR 1" QUIT)
	refused 0 "+OK bye, 1 messages left" mail.kpopd.test
	# Whatever was refused before it, or how the login is written, if all is
	# said at once.
	local before
	for before in "PASS y" "APOP y" STLS "PASSWORD x" "PASS y|PASS z" \
	    "QUIT now" "$(printf 'NOOP|%.0s' {1..18})"; do
		readarray -td '|' commands < <(printf '%s' "$before")
		commands+=("USER alice" "PASS x" "RETR 1" QUIT)
		refused 0 "+OK bye, 1 messages left" mail.kpopd.test ||
		    { echo "$before"; return 1; }
		commands=("${commands[@]:0:${#commands[@]}-3}" $'\t pass\tx'
		    "RETR 1" " quit ")
		refused 0 "+OK bye, 1 messages left" mail.kpopd.test ||
		    { echo "$before"; return 1; }
	done
	# Nor is a client that leaves without a login, or says nothing, a
	# refusal of the server's.
	commands=(CAPA QUIT)
	refused 0 "+OK bye" mail.kpopd.test
}

@test "a program that begins TLS through the tunnel: what was refused before it is no refusal of the login" {
	realm_login alice
	tls_make
	server_stop
	server_start $(tls_options)
	commands=(AUTH STLS)
	refused 0 "+OK begin TLS" mail.kpopd.test ||
	    { server_stop; server_start; return 1; }
	server_stop
	server_start
}

@test "a server that closes at once, or in the middle" {
	realm_login alice
	fake_server "true"
	fails 1 'closed the connection' mail.kpopd.test 2000
	kill "$fake"
	await 5 '! ss -Hltn sport = 2000 | grep -q .'
	echo 'sysread STDIN, my $versions, 36; syswrite STDOUT, "\0"' \
	    >"$WORLD/middle"
	fake_server "perl $WORLD/middle"
	fails 1 'closed the connection' mail.kpopd.test 2000
}

@test "the port is 1109 where the services file does not name it, as on Debian" {
	realm_login alice
	sed -i '/^kpop[[:space:]]/d' /etc/services
	run kpopc mail.kpopd.test </dev/null
	[ "$status" -eq 0 ]
	[[ $output == "+OK "* ]]
}

# krb_error CODE: a Perl line that makes $error, a KRB-ERROR with an escape
# sequence in its e-text.
krb_error() {
	printf 'my $code = %d;\n' "$1"
	cat <<-'END'
	sub tlv { my ($tag, $text) = @_; my $n = length $text; chr($tag) . ($n < 128 ? chr $n : "\x81" . chr $n) . $text }
	my $name = tlv(0x30, tlv(0xa0, "\x02\x01\x01") . tlv(0xa1, tlv(0x30, tlv(0x1b, "x"))));
	my $error = tlv(0x7e, tlv(0x30, tlv(0xa0, "\x02\x01\x05") . tlv(0xa1, "\x02\x01\x1e") . tlv(0xa4, tlv(0x18, "20260101000000Z")) .
	    tlv(0xa5, "\x02\x01\x00") . tlv(0xa6, "\x02\x01" . chr $code) . tlv(0xa9, tlv(0x1b, "KPOPD.TEST")) . tlv(0xaa, $name) .
	    tlv(0xab, tlv(0x1b, "\e[31mred\a\n"))));
	END
}

@test "what an unproven server says is printed as text only" {
	realm_login alice
	# As an attacker on the line would send it.
	{ krb_error 41
	  echo '$| = 1; sysread STDIN, my $versions, 36; print "\0"; sysread STDIN, my $request, 4;'
	  echo 'print pack("N", length $error), $error; sleep 1;'; } \
	    >"$WORLD/krberror"
	fake_server "perl $WORLD/krberror"
	fails 1 'refused the ticket: \\033\[31mred\\007\\012$' mail.kpopd.test \
	    2000
}

@test "what an unproven KDC says, too" {
	realm_login alice
	{ krb_error 60
	  echo 'use IO::Socket::INET; my $s = IO::Socket::INET->new(LocalPort => 8899, Proto => "udp") or die;'
	  echo '$s->send($error) while $s->recv(my $request, 65535);'; } \
	    >"$WORLD/kdc"
	perl "$WORLD/kdc" 3>&- &
	fake=$!
	await 5 'ss -Hlun sport = 8899 | grep -q .'
	sed 's/127.0.0.1:88$/127.0.0.1:8899/' /etc/krb5.conf >"$WORLD/evil.conf"
	KRB5_CONFIG=$WORLD/evil.conf fails 1 \
	    'no ticket for .*\\033\[31mred\\007\\012$' -s pop/unheard.of \
	    mail.kpopd.test
}

@test "a server that accepts without proof is not believed" {
	realm_login alice
	# Whoever is in the middle can say "accepted"; only the service can make
	# the AP-REP.
	echo '$| = 1; sysread STDIN, my $versions, 36; print "\0"; sysread STDIN, my $request, 65536;
	    print pack("N", 0), pack("N", 4), "abcd", "+OK hello\r\n"; sleep 1' >"$WORLD/liar"
	fake_server "perl $WORLD/liar"
	fails 1 'the exchange failed: ' mail.kpopd.test 2000
	[[ $output != *hello* ]]
}

# bats test_tags=attack:8-1
@test "a message as long as a false server likes costs kpopc no memory" {
	[ -z "${SANITIZER-}" ] || skip "a sanitizer's memory has no limit"
	realm_login alice
	# In place of a KRB-ERROR, and of the AP-REP.
	for before in '' 'pack("N", 0),'; do
		for size in 0x08000000 0x7fffffff 0xffffffff; do
			echo '$| = 1; sysread STDIN, my $versions, 36; print "\0"; sysread STDIN, my $request, 65536;
			    print '"$before"' pack("N", '$size'); for (1 .. 100) { print "x" x 1048576 or exit }' >"$WORLD/liar"
			fake_server "perl $WORLD/liar"
			fails 1 'the exchange failed: Cannot allocate memory' \
			    mail.kpopd.test 2000
			kill "$fake"
			await 5 '! ss -Hltn sport = 2000 | grep -q .'
		done
	done
}

@test "it is a tunnel: 20 MB come out as they went in, and the end of input is passed on" {
	{
		from_line
		printf 'Subject: large\n\n'
		head -c 15000000 /dev/urandom | base64
		echo
	} | store alice
	realm_login alice
	printf 'USER alice\r\nPASS x\r\nRETR 1\r\nQUIT\r\n' |
	    kpopc mail.kpopd.test | tr -d '\r' |
	    sed '1,/^$/d; /^\.$/,$d' |
	    cmp - <(sed '1,/^$/d' /var/mail/alice | sed '$d')
	# Without QUIT: the server sees our end and closes, and that is an
	# orderly end.
	run \
	    bash -c "printf 'USER alice\r\nPASS x\r\n' | '$KPOPD_BUILD/kpopc' mail.kpopd.test"
	[ "$status" -eq 0 ]
}

@test "a client that writes all its commands before it reads is not kept waiting for ever" {
	{
		from_line
		printf 'Subject: large\n\n'
		head -c 15000000 /dev/urandom | base64
		echo
	} | store alice
	realm_login alice
	cat >"$WORLD/pipeliner" <<-'END'
	use IO::Handle; use IPC::Open2;
	my $pid = open2(my $from, my $to, @ARGV);
	$to->autoflush(1);
	print $to "USER alice\r\nPASS x\r\nRETR 1\r\n";
	sleep 1;
	print $to "NOOP\r\n" x 50000, "QUIT\r\n";
	close $to;
	my $last;
	$last = $_ while <$from>;
	waitpid $pid, 0;
	print $last;
	exit $? >> 8;
	END
	run timeout 30 perl "$WORLD/pipeliner" "$KPOPD_BUILD/kpopc" \
	    mail.kpopd.test
	[ "$status" -eq 0 ]
	[[ $output == "+OK bye"* ]]
}

# in_steps KPOPC_ARGUMENT …: a session in which the program sets its end, which
# is kpopc's too, non-blocking, and waits for each answer.
in_steps() {
	timeout 20 perl -MFcntl \
	    -MSocket -e 'socketpair(my $program, my $end, AF_UNIX, SOCK_STREAM, 0); fcntl $end, F_SETFL, O_RDWR | O_NONBLOCK;
	    if (!(my $pid = fork)) { close $program; open STDIN, "<&", $end; open STDOUT, ">&", $end; exec @ARGV }
	    close $end; my $line = <$program>;
	    for ("USER alice", "PASS x", "STAT", "QUIT") { syswrite $program, "$_\r\n"; $line = <$program> }
	    wait; print $line; exit $? >> 8' "$KPOPD_BUILD/kpopc" "$@"
}

# bats test_tags=attack:8-7
@test "standard input and output that do not block are waited for, by KPOP and with -p" {
	local how
	mbox one | store alice
	realm_login alice
	for how in '' -p; do
		server_stop
		server_start $how
		run in_steps $how mail.kpopd.test 1109
		[ "$status" -eq 0 ] &&
		    [[ $output == "+OK bye, 1 messages left"* ]] || {
			    echo "$how: $status $output"
			    server_stop
			    server_start
			    return 1
		    }
	done
	server_stop
	server_start
}

@test "closed standard input is an empty one, not the connection" {
	realm_login alice
	run bash -c "timeout 5 '$KPOPD_BUILD/kpopc' mail.kpopd.test <&-"
	[ "$status" -eq 0 ]
	[ "${#lines[@]}" -eq 1 ]
	[[ $output == "+OK "* ]]
}

@test "standard input or output that fails is named, with status 3" {
	realm_login alice
	run kpopc mail.kpopd.test <"$WORLD"
	[ "$status" -eq 3 ]
	[[ $output == *"standard input: Is a directory"* ]]
	run bash -c "'$KPOPD_BUILD/kpopc' mail.kpopd.test </dev/null >/dev/full"
	[ "$status" -eq 3 ]
	[[ $output == "kpopc: standard output: No space left on device" ]]
}

# bats test_tags=attack:8-5
@test "a server that has vanished is found, while kpopc waits for it, within two minutes" {
	local how
	mbox one | store alice
	realm_login alice
	tls_make
	server_stop
	server_start $(tls_options)
	for how in '' "--tls -C $WORLD/tls/ca.pem"; do
		pop_open $how
		pop_hear '^\+OK'
		await 5 'ss -Htno dport = 1109 | grep -Eq "timer:\(keepalive,(1min|[0-9.]+(sec|ms))"' || { ss -tno dport = 1109; server_stop; server_start; return 1; }
		pop_close
	done
	server_stop
	server_start
}

@test "a connection that is reset during the session is status 3" {
	local status=0
	mbox one | store alice
	realm_login alice
	pop_login alice
	# What the server has not read when it dies makes the kernel send a
	# reset.
	session=$(child_pid) monitor=$(monitor_pid)
	blind_monitor
	kill -STOP "$session"
	pop_say NOOP
	await 5 'ss -Htn sport = 1109 | awk "\$2 > 0 { found = 1 } END { exit !found }"'
	kill -KILL "$monitor" "$session"
	wait "$pop_pid" || status=$?
	[ "$status" -eq 3 ]
	grep -q '^kpopc: the connection broke: Connection reset' \
	    "$WORLD/kpopc.err"
}

# false_server GREETING CAPA AUTH: a POP3 server with these answers, each the
# inside of a Perl string, and "+OK \e[1m" to all else.
false_server() {
	printf 'my ($greeting, $capa, $auth) = (qq~%s~, qq~%s~, qq~%s~);\n' \
	    "$@" >"$WORLD/false.pl"
	cat >>"$WORLD/false.pl" <<-'END'
	$| = 1;
	print $greeting;
	while (<STDIN>) { print /^CAPA/ ? $capa : /^AUTH/ ? $auth : "+OK \e[1m\r\n" }
	END
	fake_server "perl $WORLD/false.pl"
}

# Ends the false server.
true_again() {
	kill "$fake"
	await 5 '! ss -Hltn sport = 2000 | grep -q .'
}

# says WORDS: kpopc -p as a program hears it, into $WORLD/heard and
# $WORLD/errors; all of it is ASCII without controls.
says() {
	local status=0
	printf '%s\r\n' CAPA "USER alice" "PASS x" QUIT |
	    timeout 50 "$KPOPD_BUILD/kpopc" -p mail.kpopd.test 2000 \
		>"$WORLD/heard" 2>"$WORLD/errors" || status=$?
	cat "$WORLD/heard" "$WORLD/errors" | tr -d '\r\n' |
	    LC_ALL=C grep -q '[^ -~]' &&
	    { cat -v "$WORLD/heard" "$WORLD/errors"; return 99; }
	[ "$(cat "$WORLD/heard" "$WORLD/errors" | wc -c)" -lt 3000 ] ||
	    return 98
	return $status
}

@test "with -p nothing of a server that has proven nothing comes raw: controls, 8 bits, NULs, long lines" {
	realm_login alice
	for bad in '\e]0;owned\a\e[2J' '\x90\xff\xc3\xa9' 'a\0b\e' \
	    "@{['x' x 3000]}\\\\e" '\r+OK \b' '\t\x7f'; do
		false_server \
		    "+OK hello $bad\\r\\n" "+OK $bad\\r\\n${bad}RED\\r\\nuidl\\r\\nUIDL ${bad}\\r\\nSTLS\\r\\n.\\r\\n" "-ERR blink $bad\\r\\n"
		says && return 1 || [ $? -eq 1 ]
		[ "$(tr -d '\r' <"$WORLD/heard" | grep -v blink)" \
		    = "$(printf '%s\n' "+OK USER and PASS come next" \
			"+OK capabilities follow" USER UIDL . \
		    "+OK PASS comes next, with anything")" ] ||
		    { cat -v "$WORLD/heard"; return 1; }
		[ "$(grep -c '^-ERR blink ' "$WORLD/heard")" -eq 1 ]
		[ "$(grep -c '^kpopc: the server answered: -ERR blink ' \
		    "$WORLD/errors")" -eq 1 ]
		true_again
		false_server "-ERR go away $bad\\r\\n" "" ""
		says && return 1 || [ $? -eq 1 ]
		[ ! -s "$WORLD/heard" ]
		grep -q '^kpopc: the server answered: -ERR go away ' \
		    "$WORLD/errors"
		true_again
	done
}

@test "lines and lists without an end, half a line, a server that dribbles: kpopc -p ends" {
	realm_login alice
	false_server "@{['x' x 200000]}" "" ""
	says && return 1 || [ $? -eq 1 ]
	grep -q "kpopc: a line of the server is too long" "$WORLD/errors"
	true_again
	false_server "+OK\\r\\n" "+OK\\r\\n@{[qq|X\\r\\n| x 1000]}" ""
	says && return 1 || [ $? -eq 1 ]
	grep -q "kpopc: the server's capabilities do not end" "$WORLD/errors"
	true_again
	fake_server "printf +OK_ab"
	says && return 1 || [ $? -eq 1 ]
	grep -q 'kpopc: the server closed the connection' "$WORLD/errors"
	true_again
	# A byte a second, for ever, in place of what comes after AUTH.
	false_server "+OK\\r\\n" "+OK\\r\\n.\\r\\n" \
	    "+ @{[map { sleep 1; syswrite STDOUT, 'A'; '' } 1 .. 60]}"
	says && return 1 || [ $? -eq 1 ]
	grep -q 'did not finish the exchange in time' "$WORLD/errors"
}

@test "a server that accepts without proof is not believed with -p, either" {
	realm_login alice
	for auth in "+OK 2 messages" "+ YWJj\\r\\n+OK 2 messages" \
	    "+ \\r\\n+OK 2 messages"; do
		false_server "+OK\\r\\n" "+OK\\r\\n.\\r\\n" "$auth\\r\\n"
		says && return 1 || [ $? -eq 1 ]
		grep -q 'messages' "$WORLD/heard" && return 1
		grep -q 'before it had proven its identity' "$WORLD/errors" ||
		    { cat "$WORLD/errors"; return 1; }
		true_again
	done
}
