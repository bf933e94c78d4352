#!/usr/bin/env bats
# Checks each POP3 command with good and bad arguments, in the order of kpopd's
# tables of commands.

load helpers/all

setup() {
	begin_test
	mbox one two three | store alice
	realm_login alice
}

# harmless [SESSIONS]: returns true if the log contains only lines of SESSIONS
# sessions (one by default). Each session must have logged in, ended by QUIT and
# removed nothing.
harmless() {
	log_count "${1-1}" \
	    ' logout peer=[^ ]+:[0-9]+ reason=quit .* deleted=0 left=3 '
	log_only ' login | logout .* deleted=0 left=3 '
}

# wire_size NAME [LINES]: prints the size that POP3 reports for the message that
# make_message makes.
wire_size() {
	make_message "$@" | sed 's/$/\r/' | wc -c
}

# The first list contains strings that are not message numbers. The second list
# contains numbers of messages that do not exist.
no_numbers=(0 -1 +1 1x x1 0x1 1.0 1e0 18446744073709551616
    99999999999999999999999 '١' '%s')
no_messages=(4 2147483647 2147483648 4294967296 18446744073709551615)

# refusal_of LINE: prints a pattern for the answer to LINE, which is not a
# command in $state, from a server without TLS.
refusal_of() {
	case $1 in
	*[!\ ]*)
		[ "$1" = STLS ] && [ "${state-before}" = before ] &&
		    echo '^-ERR no TLS here$' ||
		    echo '^-ERR no such command here$'
		;;
	*) echo '^-ERR an empty line is not a command$' ;;
	esac
}

# refuses_numbers COMMAND [ARGUMENT]: returns true if the command refuses each
# invalid message number and the number of a deleted message.
refuses_numbers() {
	local n
	for n in "${no_numbers[@]}"; do
		pop_ask "$1 $n${2:+ $2}" \
		    '^-ERR message numbers are 1, 2, 3 and so on$'
	done
	for n in "${no_messages[@]}"; do
		pop_ask "$1 $n${2:+ $2}" '^-ERR no such message$'
	done
	pop_ask "$1  1 1${2:+ $2}" '^-ERR wrong number of arguments$'
	pop_ask "DELE 2"
	pop_ask "$1 2${2:+ $2}" '^-ERR message is deleted$'
	pop_ask "RSET"
}

@test "CAPA lists USER only before the login, and the other capabilities also after it" {
	always=(TOP UIDL PIPELINING RESP-CODES AUTH-RESP-CODE "EXPIRE NEVER")
	pop_open
	pop_hear '^\+OK'
	for state in before after; do
		pop_say CAPA
		pop_hear_lines
		if [ $state = before ]; then
			[ "${lines[0]}" = USER ]
			lines=("${lines[@]:1}")
		fi
		[ "${lines[*]:0:6}" = "${always[*]}" ]
		[[ ${lines[6]} =~ ^"IMPLEMENTATION kpopd-"[0-9.]+$ ]]
		[ "${#lines[@]}" -eq 7 ]
		[ $state = after ] ||
		    { pop_ask "USER alice"; pop_ask "PASS x"; }
	done
	pop_ask QUIT
}

@test "kpopd accepts UTF8 before and after the login, sends the same bytes after UTF8, and refuses LANG" {
	{
		from_line
		printf 'Message-ID: <utf8@kpopd.test>\n'
		printf 'Subject: gr\303\274\303\237e\n\nbody\n\n'
	} | store alice
	for command in NOOP UTF8; do
		printf '%s\r\n' "${command/NOOP/CAPA}" "USER alice" "PASS x" \
		    $command UIDL "RETR 1" QUIT |
		    kpopc mail.kpopd.test >"$WORLD/answer.$command"
	done
	grep -q '^+OK mail is served as it is' "$WORLD/answer.UTF8"
	[ "$(grep -c '^+OK mail is served as it is' "$WORLD/answer.UTF8")" \
	    -eq 2 ]
	grep -q "^Subject: $(printf 'gr\303\274\303\237e')" "$WORLD/answer.UTF8"
	diff <(sed -n '/octets/,$p' "$WORLD/answer.NOOP") \
	    <(sed -n '/octets/,$p' "$WORLD/answer.UTF8")
	pop_open
	pop_hear '^\+OK'
	for state in before after; do
		pop_ask UTF8 '^\+OK mail is served as it is$'
		pop_ask "UTF8 USER" '^-ERR wrong number of arguments$'
		pop_ask LANG '^-ERR no such command here$'
		pop_ask "LANG *" '^-ERR no such command here$'
		[ $state = after ] ||
		    { pop_ask "USER alice"; pop_ask "PASS x"; }
	done
	pop_ask QUIT
}

# bats test_tags=catalogue:21-1,catalogue:29-4
@test "kpopd refuses commands of the other state and unknown commands, and the session goes on" {
	local state=before
	spool_keep
	pop_open
	pop_hear '^\+OK'
	others=$(comm -13 <(pop_verbs kpop_commands) \
	    <(pop_verbs gssapi_commands pop3_trans_commands))
	[[ $others == *RETR* ]]
	for command in $others "RETR 1" "DELE 1" "TOP 1 1" STLS "AUTH GSSAPI" \
	    "APOP a b" XTND FOO ''; do
		pop_ask "$command" "$(refusal_of "$command")"
	done
	pop_ask "USER alice"
	pop_ask "PASS x"
	state=after
	others=$(comm -13 <(pop_verbs pop3_trans_commands) \
	    <(pop_verbs kpop_commands gssapi_commands))
	[[ $others == *PASS* ]]
	for command in $others "USER alice" "PASS x" "APOP a b" "XTND XMIT" \
	    XDELE ST STATS ''; do
		pop_ask "$command" "$(refusal_of "$command")"
	done
	pop_ask NOOP
	pop_ask 'DELE 1'
	for command in '' ' ' FOO; do
		pop_ask "$command" "$(refusal_of "$command")"
	done
	pop_ask RSET
	pop_ask QUIT
	harmless
}

# bats test_tags=catalogue:22
@test "kpopd accepts commands in any case, with blanks at the end, and with a bare LF" {
	spool_keep
	printf 'uSeR alice  \nPaSs x\nstat \t \r\nLiSt 1   \nqUIT\r\n' |
	    kpopc mail.kpopd.test | tr -d '\r' >"$WORLD/answer"
	sed -n 4p "$WORLD/answer" |
	    grep -qx "+OK 3 $((2 * $(wire_size one) + $(wire_size three)))"
	sed -n 5p "$WORLD/answer" | grep -qx "+OK 1 $(wire_size one)"
	tail -n 1 "$WORLD/answer" | grep -q '^+OK bye'
	harmless
}

# bats test_tags=catalogue:26-1
@test "kpopd accepts a line of 255 bytes, and sends one refusal of a longer line, whatever its length" {
	spool_keep
	pop_login alice
	repeat() { printf "%*s" "$2" '' | tr ' ' "$1"; }
	pop_ask "NOOP$(repeat ' ' 249)" '^\+OK'
	pop_ask "NOOP$(repeat ' ' 250)" '^-ERR line too long'
	for n in 256 512 1023 1024 1025 65536 1048576; do
		pop_ask "RETR $(repeat x $n)" '^-ERR line too long'
	done
	pop_ask "STAT" '^\+OK 3 '
	pop_ask QUIT
	harmless
}

# bats test_tags=catalogue:23,catalogue:24,catalogue:25
@test "kpopd refuses NULs, control characters and 8-bit bytes in commands, and does not send them back" {
	spool_keep
	{
		printf 'USER alice\r\nPASS x\r\n'
		printf 'NO\0OP\r\n'
		printf '\xff\xfe\r\n'
		printf 'RETR 1\x01\r\n'
		printf 'RETR \xc3\xa9\r\n'
		printf 'NOOP\r\0\n'
		printf 'STAT\rSTAT\r\n'
		printf 'QUIT\r\n'
	} | kpopc mail.kpopd.test >"$WORLD/answer"
	diff <(sed -n '4,9p' "$WORLD/answer" | tr -d '\r') - <<-'END'
		-ERR a command has no NUL in it
		-ERR no such command here
		-ERR message numbers are 1, 2, 3 and so on
		-ERR message numbers are 1, 2, 3 and so on
		-ERR a command has no NUL in it
		-ERR no such command here
	END
	tail -n 1 "$WORLD/answer" | grep -q '^+OK bye, 3'
	refute env LC_ALL=C grep -aq '[^ -~'$'\r'']' "$WORLD/answer"
	[ -z "$(log_lines | LC_ALL=C grep -a '[^ -~]')" ]
	harmless
}

@test "kpopd refuses each command with a wrong number of arguments" {
	spool_keep
	pop_login alice
	pop_commands pop3_trans_commands >"$WORLD/commands"
	while read -r name least most; do
		for count in $(seq 0 9); do
			[ "$count" -ge "$least" ] && [ "$count" -le "$most" ] ||
			    pop_ask "$name$(seq -s '' -f ' %g' "$count")" \
				'^-ERR wrong number of arguments'
		done
	done <"$WORLD/commands"
	pop_ask QUIT
	harmless
}

@test "STAT counts the messages that are not marked as deleted" {
	local size=$((2 * $(wire_size one) + $(wire_size three)))
	pop_login alice
	pop_ask STAT "^\+OK 3 $size\$"
	pop_ask "DELE 3"
	pop_ask STAT "^\+OK 2 $((2 * $(wire_size one)))\$"
	pop_ask "DELE 1"
	pop_ask "DELE 2"
	pop_ask STAT '^\+OK 0 0$'
	pop_ask RSET
	pop_ask STAT '^\+OK 3 '
	pop_ask QUIT
}

# bats test_tags=catalogue:39-2,catalogue:40-3
@test "LIST lists one message or all, without those that are marked as deleted" {
	local list
	list="1 $(wire_size one) 2 $(wire_size two) 3 $(wire_size three)"
	spool_keep
	pop_login alice
	pop_say LIST
	pop_hear_lines
	[ "${lines[*]}" = "$list" ]
	pop_ask "LIST 3" "^\+OK 3 $(wire_size three)\$"
	pop_ask "LIST 03" "^\+OK 3 "
	refuses_numbers LIST
	pop_ask "DELE 2"
	pop_say LIST
	pop_hear_lines
	[ "${lines[*]}" = "1 $(wire_size one) 3 $(wire_size three)" ]
	pop_ask RSET
	pop_ask QUIT
	harmless
}

# bats test_tags=catalogue:39-1,catalogue:40-1
@test "RETR sends the message byte for byte" {
	local octets=$((2 * $(wire_size one) + $(wire_size three)))
	spool_keep
	pop_login alice
	for n in 1:one 2:two 3:three; do
		pop_say "RETR ${n%:*}"
		pop_hear_lines
		diff <(printf '%s\n' "${lines[@]}") <(make_message "${n#*:}")
	done
	refuses_numbers RETR
	pop_ask QUIT
	log_has "logout .*reason=quit retrieved=3 octets=$octets topped=0 deleted=0 left=3 "
	harmless
}

# bats test_tags=catalogue:39-3,catalogue:40-2,catalogue:41
@test "TOP sends the header and as many lines of the body as the client asks for" {
	local count header=6
	spool_keep
	pop_login alice
	# Each word contains the number of lines that the client requests, and
	# the number of lines that TOP must send. The body has three lines.
	for count in 0:0 1:1 2:2 3:3 4:3 99999999:3 2147483648:3 \
	    9223372036854775808:3 18446744073709551615:3; do
		pop_say "TOP 2 ${count%:*}"
		pop_hear_lines
		diff <(printf '%s\n' "${lines[@]}") \
		    <(make_message two | head -n $((header + ${count#*:})))
	done
	pop_ask "TOP 1 " '^-ERR wrong number of arguments$'
	for count in -1 +1 x 1x 18446744073709551616 '%s'; do
		pop_ask "TOP 1 $count" \
		    '^-ERR the number of lines is 0, 1, 2 and so on$'
	done
	refuses_numbers TOP 1
	pop_ask QUIT
	log_has 'logout .*retrieved=0 octets=[1-9][0-9]* topped=9 '
	harmless
}

# bats test_tags=catalogue:39-4,catalogue:42
@test "DELE marks a message once, RSET removes the marks, QUIT removes the marked messages" {
	pop_login alice
	spool_mark
	refuses_numbers DELE
	pop_ask "DELE 2"
	pop_ask "DELE 2" '^-ERR message is deleted'
	pop_ask "DELE 1"
	pop_ask RSET '^\+OK 3'
	pop_ask "DELE 2"
	spool_kept
	pop_ask QUIT '^\+OK bye, 2 messages left'
	pop_hear_end
	spool_is alice one three
	[ "$(stat -c %U:%G:%a /var/mail/alice)" = alice:mail:660 ]
	log_has 'logout .*reason=quit .*deleted=1 left=2 '
	log_only ' log(in|out) '
}

# bats test_tags=catalogue:39-5,catalogue:40-4
@test "UIDL lists unique ids of 1 to 70 characters, which later sessions list again" {
	pop_login alice
	pop_say UIDL
	pop_hear_lines
	first=("${lines[@]}")
	[ "${#first[@]}" -eq 3 ]
	[ "$(printf '%s\n' "${first[@]}" | cut -d' ' -f2 | sort -u | wc -l)" \
	    -eq 3 ]
	for n in 1 2 3; do
		[[ ${first[n - 1]} =~ ^$n\ [!-~]{1,70}$ ]]
		pop_ask "UIDL $n" "^\+OK ${first[n - 1]//./\\.}\$"
	done
	spool_mark
	refuses_numbers UIDL
	pop_ask "DELE 1"
	spool_kept
	pop_ask QUIT
	pop_hear_end
	spool_is alice two three
	log_has 'logout .*reason=quit .*deleted=1 left=2 '
	log_only ' log(in|out) '
	rm -r "$state"/users
	pop_login alice
	pop_say UIDL
	pop_hear_lines
	[ "${lines[*]#* }" = "${first[*]:1:2}" ] ||
	    [ "${lines[0]#* } ${lines[1]#* }" = \
		"${first[1]#* } ${first[2]#* }" ]
	pop_ask QUIT
}

@test "kpopd refuses LAST and tells the client to use UIDL" {
	pop_login alice
	pop_ask LAST '^-ERR LAST is obsolete since RFC 1725, use UIDL$'
	pop_ask QUIT
}

# bats test_tags=catalogue:43
@test "kpopd obeys no command after QUIT" {
	spool_keep
	run pop alice QUIT "DELE 1" QUIT
	[ "$(grep -c '^+OK\|^-ERR' <<<"$output")" -eq 4 ]
	harmless
}

@test "kpopd answers a thousand pipelined commands in order" {
	spool_keep
	commands=()
	for _ in $(seq 334); do commands+=("LIST 1" NOOP "LIST 3"); done
	pop alice "${commands[@]}" QUIT >"$WORLD/answer"
	[ "$(wc -l <"$WORLD/answer")" -eq 1006 ]
	[ "$(grep -c "^+OK 1 $(wire_size one)\$" "$WORLD/answer")" -eq 334 ]
	[ "$(grep -c "^+OK 3 $(wire_size three)\$" "$WORLD/answer")" -eq 334 ]
	harmless
}

@test "kpopd loses none of the commands that a client pipelines after PASS" {
	commands=("DELE 1")
	for _ in $(seq 150); do commands+=(NOOP); done
	{
		versions
		apreq pop/mail.kpopd.test | framed
		printf '%s\r\n' "USER alice" "PASS x" "${commands[@]}" QUIT
	} >"$WORLD/all"
	wire <"$WORLD/all" | tr -d '\r' >"$WORLD/answer"
	[ "$(grep -ac '^+OK nothing done' "$WORLD/answer")" -eq 150 ]
	spool_is alice two three
}

@test "kpopd disconnects an idle client without an answer, and removes nothing" {
	server_stop
	server_start -t 30:4
	spool_keep
	pop_begin alice
	pop_ask "DELE 1"
	pop_hear_end
	log_has 'logout .*reason=idle .*deleted=0 left=3 '
	# Bytes without a line end do not extend the idle limit. The client ends
	# when the server has closed the connection.
	log_mark
	{
		printf 'USER alice\r\nPASS x\r\n'
		printf 'NOOP%.0s' {1..60} | trickle 0.25
	} | kpopc mail.kpopd.test >"$WORLD/answer" || true
	log_has 'logout .*reason=idle '
}

# bats test_tags=catalogue:44-5,fault:20
@test "kpopd disconnects a client that does not read an answer, and the mailbox is free again" {
	server_stop
	server_start -t 30:1
	mbox huge | sed '/line 3/q' >"$WORLD/huge"
	head -c 20000000 /dev/zero | tr '\0' 'x' | fold -w 76 >>"$WORLD/huge"
	echo >>"$WORLD/huge"
	store alice <"$WORLD/huge"
	spool_keep
	pop_open
	printf '%s\r\n' "USER alice" "PASS x" "DELE 1" RSET "RETR 1" QUIT \
	    >&"$pop_out"
	log_has 'logout .*reason=stalled .*deleted=0'
	pop_close
	# The session logs its end before it releases its locks.
	kpopd_ends 5
	run pop alice QUIT
	[[ $output == *"+OK 1 messages"* ]]
}

# bats test_tags=catalogue:44-2
@test "kpopd removes nothing if the connection ends without QUIT after DELE" {
	spool_keep
	pop_login alice
	pop_ask "DELE 1"
	pop_cut
	log_has 'logout .*reason=lost .*deleted=0 left=3 '
	kpopd_ends 5
	# This client closes the connection without a reset.
	printf 'USER alice\r\nPASS x\r\nDELE 1\r\n' | kpopc mail.kpopd.test
	# QUIT without its line end is not a command.
	printf 'USER alice\r\nPASS x\r\nDELE 1\r\nQUIT' | kpopc mail.kpopd.test
	log_count 3 ' logout .*reason=lost .*deleted=0 left=3 '
	log_only ' log(in|out) '
}

# bats test_tags=catalogue:21-2
@test "kpopd disconnects a client after 20 unknown commands in a row, and after no other errors" {
	mbox one | store alice
	spool_keep
	realm_login alice
	pop_open
	pop_hear '^\+OK'
	for _ in $(seq 20); do
		pop_ask "GET / HTTP/1.1" '^-ERR no such command here$'
	done
	pop_hear_end
	pop_close
	log_has 'nonsense .*lines=20$'
	log_has 'refused .*reason="HTTP client"$'
	log_count 2 .
	log_mark
	pop_login alice
	pop_ask "DELE 1"
	for _ in $(seq 19); do
		pop_ask nonsense '^-ERR no such command here$'
	done
	pop_ask NOOP
	for _ in $(seq 19); do
		pop_ask '' '^-ERR an empty line is not a command$'
	done
	pop_ask "RETR 9" '^-ERR no such message$'
	for _ in $(seq 20); do
		pop_ask nonsense '^-ERR no such command here$'
	done
	pop_hear_end
	log_has 'logout .*reason=nonsense .*deleted=0 left=1 '
}

# bats test_tags=catalogue:44-1
@test "kpopd removes nothing if the client resets the connection after any byte of any answer" {
	local refused='closed .*reason="before the first byte"$|refused .*reason="(closed during the exchange|no login: lost)"$'
	local logout='logout .*reason=(lost|quit) .*deleted=0 left=3 '
	spool_keep
	# hang_up BYTES: runs tests/programs/hang-up.pl, and waits until the
	# server has ended the session.
	hang_up() {
		apreq pop/mail.kpopd.test >"$WORLD/ticket"
		perl "$BATS_TEST_DIRNAME/programs/hang-up.pl" \
		    "$WORLD/ticket" "$1"
		kpopd_ends 5
	}
	whole=$(hang_up 1000000)
	[ "$whole" -gt 700 ]
	log_mark
	for at in $(seq 0 "$(long && echo 1 || echo 23)" "$whole"); do
		count_point [ "$(hang_up "$at")" -eq "$at" ]
	done
	log_count "$points" " $refused| $logout"
	log_only " login | $refused| $logout"
	points_are_good "clients that reset" 30
}
