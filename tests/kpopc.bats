#!/usr/bin/env bats
# Checks kpopc's message for each failure and its exit status. Checks that kpopc
# passes on all bytes unchanged.

load helpers/all

setup() {
	begin_test
	realm_login alice
}

teardown() {
	local pid
	for pid in ${false_pid-} ${middle-}; do
		kill "$pid" 2>/dev/null || true
		wait "$pid" 2>/dev/null || true
	done
	grep -q '^kpop[[:space:]]' /etc/services ||
	    printf 'kpop 1109/tcp\n' >>/etc/services
	end_test
}

# fails STATUS PATTERN KPOPC-ARGUMENT ...: runs kpopc with empty input. Returns
# true if kpopc exits with STATUS and prints one line that matches PATTERN.
fails() {
	run kpopc "${@:3}" </dev/null
	[ "$status" -eq "$1" ] && [ "${#lines[@]}" -eq 1 ] &&
	    [[ $output =~ ^kpopc:\ .*$2 ]] ||
	    { echo "$status: $output"; return 1; }
}

# talk KPOPC-ARGUMENT ...: runs kpopc with the lines $commands as its input.
# Writes $WORLD/output and $WORLD/errors, and sets $status.
talk() {
	status=0
	printf '%s\r\n' "${commands[@]}" |
	    timeout 50 "$KPOPD_BUILD/kpopc" "$@" >"$WORLD/output" \
		2>"$WORLD/errors" || status=$?
}

# ended STATUS [ERROR]: returns true if the kpopc that talk ran has exited with
# STATUS. Standard error must be exactly ERROR. Without ERROR, standard error
# must be empty.
ended() {
	[ "$status" -eq "$1" ] &&
	    [ "$(cat "$WORLD/errors")" = "${2:+kpopc: $2}" ] || {
		echo "status $status, expected: $1 ${2-}"
		cat "$WORLD/output" "$WORLD/errors"
		return 1
	}
}

# last_line_is STATUS LINE KPOPC-ARGUMENT ...: calls talk. Returns true if kpopc
# exits with this status and LINE is the last line of its standard output.
# Unless the status is 0, LINE must also be the only error.
last_line_is() {
	local error=
	[ "$1" -eq 0 ] || error="the server answered: $2"
	talk "${@:3}"
	[ "$(tail -n 1 "$WORLD/output" | tr -d '\r')" = "$2" ] ||
	    { cat "$WORLD/output"; return 1; }
	ended "$1" "$error"
}

# false_krb5 ANSWER [SIZE]: starts a server that does not have the service key
# (tests/programs/false-krb5.pl).
false_krb5() {
	false_server "perl $BATS_TEST_DIRNAME/programs/false-krb5.pl $*"
}

# false_pop3 GREETING CAPA AUTH: starts a POP3 server with these answers
# (tests/programs/false-pop3.pl). Each answer is the content of a Perl string.
false_pop3() {
	FALSE_GREETING=$1 FALSE_CAPA=$2 FALSE_AUTH=$3 \
	    false_server "perl $BATS_TEST_DIRNAME/programs/false-pop3.pl"
}

@test "kpopc prints its usage if its arguments are wrong, and its version with -V" {
	for arguments in '' 'a b c' '-x host' '-u alice host'; do
		run kpopc $arguments
		[ "$status" -eq 2 ]
		[[ $output == *usage:* ]]
	done
	run kpopc -V
	[[ $output =~ ^kpopc\ [0-9.]+$ ]]
}

@test "kpopc without tickets tells the user to run kinit" {
	realm_logout
	fails 1 'no tickets: .*kinit' mail.kpopd.test
}

@test "kpopc with an expired ticket tells the user to run kinit again" {
	realm_login alice -l 1s
	# libkrb5 takes the time that kinit needed for a slow clock. So on a
	# busy machine the ticket expires later than after a second.
	await 20 'fails 1 "(expired).*kinit again" mail.kpopd.test'
}

@test "kpopc names the service if the realm does not know it" {
	fails 1 'no ticket for pop/nowhere@KPOPD\.TEST: .*no such service' \
	    -s pop/nowhere mail.kpopd.test
}

@test "kpopc reports an unknown host, a closed port and a KDC that is down" {
	fails 1 'nowhere\.invalid port' -s pop/mail.kpopd.test nowhere.invalid
	fails 1 'port 1: Connection refused' mail.kpopd.test 1
	sed 's/127.0.0.1:88/127.0.0.1:9/' /etc/krb5.conf >"$WORLD/nokdc.conf"
	KRB5_CONFIG=$WORLD/nokdc.conf fails 1 'no ticket for .*KDC' \
	    -s pop/unheard.of mail.kpopd.test
}

@test "kpopc -k uses a keytab and leaves no tickets in the credential cache" {
	realm_logout
	commands=("USER alice" "PASS x" QUIT)
	talk -k "$WORLD/keytabs/alice.keytab" mail.kpopd.test
	grep '^+OK bye' "$WORLD/output"
	run klist
	[ "$status" -ne 0 ]
	fails 1 'not found' -k /nonexistent mail.kpopd.test
	fails 1 'no ticket with the keytab' -k "$WORLD/keytabs/alice.keytab" \
	    -u bob mail.kpopd.test
}

@test "kpopc reports a server that does not speak KPOP" {
	for greeting in '+OK POP3 here' 'SSH-2.0-x' '* OK IMAP'; do
		false_server "echo '$greeting'; cat >/dev/null"
		fails 1 'does not speak Kerberos 5 KPOP' mail.kpopd.test 2000
		false_end
	done
}

# refuser TEXT END: starts a server that writes TEXT (which printf formats) and
# then runs the shell command END. The program $WORLD/refuser gets the socket
# itself. A socat in between would discard the text if socat could not pass on
# kpopc's bytes.
refuser() {
	printf '#!/bin/sh\nprintf -- "%s"\n%s\n' "$1" "$2" >"$WORLD/refuser"
	chmod 755 "$WORLD/refuser"
	socat TCP-LISTEN:2000,reuseaddr,fork \
	    EXEC:"$WORLD/refuser",nofork 3>&- 2>/dev/null &
	false_pid=$!
	await 5 'ss -Hltn sport = 2000 | grep -q .'
}

# bats test_tags=attack:8-2
@test "kpopc prints the server's refusal before the exchange, escaped, also if the server closes at once" {
	local end text escape
	# The first server waits until the client ends. The second server closes
	# while kpopc may be writing. The third server closes at once.
	for end in 'cat >/dev/null' 'sleep 0.2' true; do
		for text in '-ERR [SYS/TEMP] too many\033[31m\r\n' \
		    '-ERR [SYS/TEMP] too many\r\nmore\r\n' \
		    '-ERR [SYS/TEMP] too many'; do
			refuser "$text" "$end"
			escape=
			[[ $text != *033* ]] || escape='\\033\[31m'
			fails 1 "the server answered: -ERR \\[SYS/TEMP\\] too many$escape\$" mail.kpopd.test 2000
			false_end
		done
	done
}

@test "kpopc ends with status 1 if the server refuses the login, and writes the refusal to both outputs" {
	mbox one | store alice
	realm_login bob
	commands=("USER alice" "PASS x" STAT QUIT)
	last_line_is 1 "-ERR [AUTH] this ticket does not open that mailbox" \
	    mail.kpopd.test
	# The program that uses kpopc may also send QUIT after a refused USER.
	commands=("USER $(printf '%0300d' 1)" QUIT)
	talk mail.kpopd.test
	ended 1 "the server answered: -ERR line too long"
}

# bats test_tags=attack:8-8
@test "kpopc reports the first of several refusals in a row, because the first one causes the others" {
	tls_make
	server_stop
	server_start -T require $(tls_options)
	commands=(CAPA "USER alice" "PASS x" STAT QUIT)
	talk mail.kpopd.test
	ended 1 "the server answered: -ERR [AUTH] STLS comes first here"
	server_stop
	server_start
	# A refusal is not reported if a good answer follows it.
	realm_login bob
	commands=(NOOP "USER alice" "PASS x" STAT QUIT)
	talk mail.kpopd.test
	ended 1 \
	    "the server answered: -ERR [AUTH] this ticket does not open that mailbox"
}

# kpopc uses one write, because another process may write to the same file.
@test "kpopc writes an error message in one write" {
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

@test "kpopc ends with status 1 if the server closes the connection before it answers PASS" {
	edited 2110 '$_ = "" if $n > 2'
	mbox one | store alice
	commands=("USER alice" "PASS x" QUIT)
	talk mail.kpopd.test 2110
	ended 1 "the server closed the connection before it answered PASS"
}

# bats test_tags=attack:8-3
@test "kpopc ends with status 3 if the server closes the connection before it answers QUIT" {
	local case command
	# Some lines of the message look like answers.
	{
		from_line
		printf 'Subject: x\n\n--border\n+1\n+OK bye\n-ERR\n+OK bye\nend\n\n'
	} | store alice
	# Each case contains commands, and an edit that discards the last
	# answers. The greeting and the answers to USER and PASS take three
	# lines. After these, the client gets a list, a message, a part of a
	# message, or nothing.
	for case in 'STAT LIST:$_ = "" if /bye/' 'RETR:$_ = "" if $n > 12' \
	    'RETR:$_ = "" if $n > 8' 'STAT:$_ = "" if $n > 3' \
	    'RETR:$_ = "" if $n > 7' 'RETR:$_ = "" if $n > 9' \
	    'RETR:$_ = "" if $n > 10' 'RETR:$_ = "" if $n > 11' \
	    'RETR STAT:$_ = "" if $n > 14' 'STAT DELE:$_ = "" if $n > 5'; do
		edited 2110 "${case#*:}"
		commands=("USER alice" "PASS x")
		for command in ${case%%:*}; do
			[[ $command != [RD]* ]] || command+=" 1"
			commands+=("$command")
		done
		commands+=(QUIT)
		talk mail.kpopd.test 2110
		edited_end
		ended 3 \
		    "the server closed the connection before it answered QUIT" ||
		    { echo "$case"; return 1; }
	done
}

# bats test_tags=attack:8-4
@test "kpopc without QUIT ends with status 3 if an answer is incomplete, and with 0 if all are complete" {
	local edit
	{ from_line; printf 'Subject: x\n\n--border\n+OK\nend\n\n'; } |
	    store alice
	commands=("USER alice" "PASS x" "RETR 1")
	for edit in '$_ = "" if $n > 3' '$_ = "" if $n > 7' \
	    '$_ = "" if $n > 9' ''; do
		edited 2110 "$edit"
		talk mail.kpopd.test 2110
		edited_end
		if [ -z "$edit" ]; then
			ended 0
		else
			ended 3 \
			    "the server closed the connection before it answered the last command" || { echo "$edit"; return 1; }
		fi
	done
}

# bats test_tags=attack:8-6
@test "kpopc ends after the answer to QUIT and the end of its input, even if the server keeps the connection open" {
	local user pid options pids=()
	mbox one | store alice
	mbox one | store bob
	tls_make
	server_stop
	server_start $(tls_options)
	edited 2110 '$raw = $holds = 1'
	for user in alice bob; do
		options="-k $WORLD/keytabs/$user.keytab"
		[ $user = alice ] || options+=" --tls -C $WORLD/tls/ca.pem"
		printf '%s\r\n' "USER $user" "PASS x" STAT QUIT |
		    timeout 40 "$KPOPD_BUILD/kpopc" $options \
			mail.kpopd.test 2110 >"$WORLD/output.$user" \
			2>"$WORLD/errors.$user" &
		pids+=($!)
	done
	for pid in "${pids[@]}"; do
		wait "$pid" || { cat "$WORLD"/errors.*; return 1; }
	done
	for user in alice bob; do
		grep -q '^+OK bye' "$WORLD/output.$user"
		[ ! -s "$WORLD/errors.$user" ]
	done
}

@test "kpopc ends with status 1 if the greeting after the exchange is a refusal" {
	edited 2110 '$_ = $n == 1 ? "-ERR [SYS/TEMP] not now\r\n" : ""'
	commands=("USER alice" "PASS x" QUIT)
	last_line_is 1 "-ERR [SYS/TEMP] not now" mail.kpopd.test 2110
}

# bats test_tags=attack:8-9
@test "kpopc ends with status 0 after a good login, whatever errors came before it or in the session" {
	local before
	mbox one | store alice
	commands=(NOOP CAPA XTND "USER bob" "USER alice" "PASS x" "RETR 9" NOOP
	    "PASS x" QUIT)
	last_line_is 0 "+OK bye, 1 messages left" mail.kpopd.test
	# A message may contain lines that look like errors.
	{
		from_line
		printf 'Subject: no answer\n\n-ERR\n+OK\n-ERR [AUTH] x\n\n'
	} | store alice
	commands=("USER alice" "PASS x" "RETR 1" QUIT)
	last_line_is 0 "+OK bye, 1 messages left" mail.kpopd.test
	# The client sends all commands at once. The first commands are refused,
	# and then the login succeeds. The commands of the login may contain
	# lower case, blanks and tabs.
	for before in "PASS y" "APOP y" STLS "PASSWORD x" "PASS y|PASS z" \
	    "QUIT now" "$(printf 'NOOP|%.0s' {1..18})"; do
		readarray -td '|' commands < <(printf '%s' "$before")
		commands+=("USER alice" "PASS x" "RETR 1" QUIT)
		last_line_is 0 "+OK bye, 1 messages left" mail.kpopd.test ||
		    { echo "$before"; return 1; }
		commands=("${commands[@]:0:${#commands[@]}-3}" $'\t pass\tx'
		    "RETR 1" " quit ")
		last_line_is 0 "+OK bye, 1 messages left" mail.kpopd.test ||
		    { echo "$before"; return 1; }
	done
	# A client may also leave without a login.
	commands=(CAPA QUIT)
	last_line_is 0 "+OK bye" mail.kpopd.test
}

@test "kpopc ends with status 0 after a successful STLS, whatever was refused before it" {
	tls_make
	server_stop
	server_start $(tls_options)
	commands=(AUTH STLS)
	last_line_is 0 "+OK begin TLS" mail.kpopd.test
}

@test "kpopc reports a server that closes the connection at once or during the exchange" {
	false_server true
	fails 1 'closed the connection' mail.kpopd.test 2000
	false_end
	false_krb5 none
	fails 1 'closed the connection' mail.kpopd.test 2000
}

@test "kpopc uses port 1109 if the services file does not contain kpop" {
	sed -i '/^kpop[[:space:]]/d' /etc/services
	run kpopc mail.kpopd.test </dev/null
	[ "$status" -eq 0 ]
	[[ $output == "+OK "* ]]
}

@test "kpopc escapes the text of a KRB-ERROR from a server that has not authenticated itself" {
	false_krb5 krb-error
	fails 1 'refused the ticket: \\033\[31mred\\007\\012$' mail.kpopd.test \
	    2000
}

@test "kpopc escapes the text of a KRB-ERROR from a KDC that has not authenticated itself" {
	perl "$BATS_TEST_DIRNAME/programs/false-krb5.pl" kdc 8899 3>&- &
	false_pid=$!
	await 5 'ss -Hlun sport = 8899 | grep -q .'
	sed 's/127.0.0.1:88$/127.0.0.1:8899/' /etc/krb5.conf >"$WORLD/evil.conf"
	KRB5_CONFIG=$WORLD/evil.conf fails 1 \
	    'no ticket for .*\\033\[31mred\\007\\012$' -s pop/unheard.of \
	    mail.kpopd.test
}

@test "kpopc rejects a server that accepts the ticket without an AP-REP of the service" {
	false_krb5 accept
	fails 1 'the exchange failed: ' mail.kpopd.test 2000
	[[ $output != *hello* ]]
}

# bats test_tags=attack:8-1
@test "kpopc allocates no memory for an oversized message of a false server" {
	local answer size
	[ -z "${SANITIZER-}" ] || skip "a sanitizer's memory has no limit"
	for answer in long-error long-reply; do
		for size in 08000000 7fffffff ffffffff; do
			false_krb5 $answer $size
			fails 1 'the exchange failed: Cannot allocate memory' \
			    mail.kpopd.test 2000
			false_end
		done
	done
}

# large_mailbox: makes a mailbox for alice with one message of 20 MB.
large_mailbox() {
	{
		from_line
		printf 'Subject: large\n\n'
		head -c 15000000 /dev/urandom | base64
		echo
	} | store alice
}

@test "kpopc passes 20 MB unchanged, and passes on the end of its input" {
	large_mailbox
	printf 'USER alice\r\nPASS x\r\nRETR 1\r\nQUIT\r\n' |
	    kpopc mail.kpopd.test | tr -d '\r' |
	    sed '1,/^$/d; /^\.$/,$d' |
	    cmp - <(sed '1,/^$/d' /var/mail/alice | sed '$d')
	# Without QUIT, the server sees the end of input and closes.
	commands=("USER alice" "PASS x")
	talk mail.kpopd.test
	ended 0
}

@test "kpopc serves a program that writes all its commands before it reads the answers" {
	large_mailbox
	run timeout 30 perl "$BATS_TEST_DIRNAME/programs/pipeliner.pl" \
	    "$KPOPD_BUILD/kpopc" mail.kpopd.test
	[ "$status" -eq 0 ] || { echo "$output"; return 1; }
	[[ $output == "+OK bye"* ]]
}

# bats test_tags=attack:8-7
@test "kpopc waits for non-blocking standard input and output, by KPOP and with -p" {
	local option
	mbox one | store alice
	for option in '' -p; do
		server_stop
		server_start $option
		run timeout 20 perl \
		    "$BATS_TEST_DIRNAME/programs/nonblocking.pl" \
		    "$KPOPD_BUILD/kpopc" $option mail.kpopd.test 1109
		[ "$status" -eq 0 ] &&
		    [[ $output == "+OK bye, 1 messages left"* ]] ||
		    { echo "$option: $status $output"; return 1; }
	done
}

@test "kpopc treats closed standard input as empty input" {
	run bash -c "timeout 30 '$KPOPD_BUILD/kpopc' mail.kpopd.test <&-"
	[ "$status" -eq 0 ]
	[ "${#lines[@]}" -eq 1 ]
	[[ $output == "+OK "* ]]
}

@test "kpopc ends with status 3 if its standard input or output fails, and reports which of them failed" {
	run kpopc mail.kpopd.test <"$WORLD"
	[ "$status" -eq 3 ]
	[[ $output == *"standard input: Is a directory"* ]]
	run bash -c "'$KPOPD_BUILD/kpopc' mail.kpopd.test </dev/null >/dev/full"
	[ "$status" -eq 3 ]
	[[ $output == "kpopc: standard output: No space left on device" ]]
}

# has_keepalive: returns true if the client's connection probes the server after
# two minutes without traffic, or earlier.
has_keepalive() {
	ss -Htno dport = 1109 |
	    grep -Eq 'timer:\(keepalive,(1min|[0-9.]+(sec|ms))'
}

# bats test_tags=attack:8-5
@test "kpopc sets keepalive on its connection, which finds a vanished server within two minutes" {
	local options
	mbox one | store alice
	tls_make
	server_stop
	server_start $(tls_options)
	for options in '' "--tls -C $WORLD/tls/ca.pem"; do
		pop_open $options
		pop_hear '^\+OK'
		await 5 has_keepalive || { ss -tno dport = 1109; return 1; }
		pop_close
	done
}

@test "kpopc ends with status 3 if its connection is reset during the session" {
	local status=0
	mbox one | store alice
	pop_login alice
	# If the server ends before it has read all input, the kernel sends a
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

# is_printable: returns true if the kpopc that talk ran has written only
# printable ASCII, and less than 3000 bytes.
is_printable() {
	cat "$WORLD/output" "$WORLD/errors" >"$WORLD/written"
	tr -d '\r\n' <"$WORLD/written" | refute env LC_ALL=C grep -q '[^ -~]' &&
	    [ "$(wc -c <"$WORLD/written")" -lt 3000 ] ||
	    { cat -v "$WORLD/written"; return 1; }
}

# fails_with_p PATTERN: runs kpopc -p with the false server. Returns true if
# kpopc exits with status 1, its output is printable, and exactly one line of
# its errors matches the pattern.
fails_with_p() {
	commands=(CAPA "USER alice" "PASS x" QUIT)
	talk -p mail.kpopd.test 2000
	is_printable || return
	[ "$status" -eq 1 ] &&
	    [ "$(grep -c "^kpopc: .*$1" "$WORLD/errors")" -eq 1 ] ||
	    { echo "$status"; cat "$WORLD/errors"; return 1; }
}

@test "kpopc -p prints the text of a server that has not authenticated itself as printable ASCII, shortened" {
	local bad
	for bad in '\e]0;owned\a\e[2J' '\x90\xff\xc3\xa9' 'a\0b\e' \
	    "@{['x' x 3000]}\\\\e" '\r+OK \b' '\t\x7f'; do
		false_pop3 "+OK hello $bad\\r\\n" \
		    "+OK $bad\\r\\n${bad}RED\\r\\nuidl\\r\\nUIDL ${bad}\\r\\nSTLS\\r\\n.\\r\\n" "-ERR blink $bad\\r\\n"
		fails_with_p 'the server answered: -ERR blink '
		diff <(tr -d '\r' <"$WORLD/output" | grep -v blink) - <<-END
		+OK USER and PASS come next
		+OK capabilities follow
		USER
		UIDL
		.
		+OK PASS comes next, with anything
		END
		[ "$(grep -c '^-ERR blink ' "$WORLD/output")" -eq 1 ]
		false_end
		false_pop3 "-ERR go away $bad\\r\\n" "" ""
		fails_with_p 'the server answered: -ERR go away '
		[ ! -s "$WORLD/output" ]
		false_end
	done
}

@test "kpopc -p ends if the server sends a line or a list without end, half a line or one byte a second" {
	false_pop3 "@{['x' x 200000]}" "" ""
	fails_with_p 'a line of the server is too long'
	false_end
	false_pop3 "+OK\\r\\n" "+OK\\r\\n@{[qq|X\\r\\n| x 1000]}" ""
	fails_with_p "the server's capabilities do not end"
	false_end
	false_server "printf +OK_ab"
	fails_with_p 'the server closed the connection'
	false_end
	# This server must be slow. Each byte of the answer to AUTH comes in
	# time, but the whole answer does not.
	false_pop3 "+OK\\r\\n" "+OK\\r\\n.\\r\\n" \
	    "+ @{[map { sleep 1; syswrite STDOUT, 'A'; '' } 1 .. 60]}"
	fails_with_p 'did not finish the exchange in time'
}

@test "kpopc -p rejects a server that accepts the login without proof of its identity" {
	local auth
	for auth in "+OK 2 messages" "+ YWJj\\r\\n+OK 2 messages" \
	    "+ \\r\\n+OK 2 messages"; do
		false_pop3 "+OK\\r\\n" "+OK\\r\\n.\\r\\n" "$auth\\r\\n"
		fails_with_p 'before it had proven its identity'
		refute grep messages "$WORLD/output"
		false_end
	done
}
