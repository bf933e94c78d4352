#!/usr/bin/env bats
# Every command of POP3 with good and bad arguments, in the order of the tables.

load helpers/all

setup() {
	begin_test
	mbox one two three | store alice
	realm_login alice
}

# harmless: whatever was said, the log has good logins and good ends, and
# nothing was removed. With spool_keep in front.
harmless() {
	log_count "${1-1}" \
	    ' logout peer=[^ ]+:[0-9]+ reason=quit .* deleted=0 left=3 '
	log_only ' login | logout .* deleted=0 left=3 '
}

# bytes NAME [LINES]: what LIST says of make_message's message.
bytes() {
	make_message "$@" | sed 's/$/\r/' | wc -c
}

no_numbers=(0 -1 +1 1x x1 0x1 1.0 1e0 18446744073709551616
    99999999999999999999999 '١' '%s')
no_messages=(4 2147483647 2147483648 4294967296 18446744073709551615)

# refusal_of LINE: why it is no command of this state, when there is no TLS.
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

# refuses_numbers COMMAND [MORE]: whatever is no number of a message here.
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

@test "CAPA lists what is true, in both states" {
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

@test "UTF8 is not listed, is obeyed before and after the login, and changes nothing; there is no LANG" {
	{
		from_line
		printf 'Message-ID: <utf8@kpopd.test>\nSubject: gr\303\274\303\237e\n\nbody\n\n'
	} | store alice
	for say in NOOP UTF8; do
		printf '%s\r\n' "${say/NOOP/CAPA}" "USER alice" "PASS x" $say \
		    UIDL "RETR 1" QUIT |
		    kpopc mail.kpopd.test >"$WORLD/answer.$say"
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
@test "what is not for this state, or no command at all, is refused, and the session goes on" {
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
@test "commands may be in any case, with blanks behind, and end in a bare LF" {
	spool_keep
	printf 'uSeR alice  \nPaSs x\nstat \t \r\nLiSt 1   \nqUIT\r\n' |
	    kpopc mail.kpopd.test | tr -d '\r' >"$WORLD/answer"
	sed -n 4p "$WORLD/answer" |
	    grep -qx "+OK 3 $((2 * $(bytes one) + $(bytes three)))"
	sed -n 5p "$WORLD/answer" | grep -qx "+OK 1 $(bytes one)"
	tail -n 1 "$WORLD/answer" | grep -q '^+OK bye'
	harmless
}

# bats test_tags=catalogue:26-1
@test "a line of 255 bytes is taken, a longer one is refused once, whatever its length" {
	spool_keep
	pop_login alice
	long() { printf "%*s" "$1" '' | tr ' ' "${2:-x}"; }
	pop_ask "NOOP$(long 249 ' ')" '^\+OK'
	pop_ask "NOOP$(long 250 ' ')" '^-ERR line too long'
	for n in 256 512 1023 1024 1025 65536 1048576; do
		pop_ask "RETR $(long $n)" '^-ERR line too long'
	done
	pop_ask "STAT" '^\+OK 3 '
	pop_ask QUIT
	harmless
}

# bats test_tags=catalogue:23,catalogue:24,catalogue:25
@test "NULs, control characters and 8 bits in commands are refused and never answered back" {
	spool_keep
	printf 'USER alice\r\nPASS x\r\nNO\0OP\r\n\xff\xfe\r\nRETR 1\x01\r\nRETR \xc3\xa9\r\nNOOP\r\0\nSTAT\rSTAT\r\nQUIT\r\n' |
	    kpopc mail.kpopd.test >"$WORLD/answer"
	# NO\0OP, \xff\xfe, RETR 1\x01, RETR é, NOOP\r\0, STAT\rSTAT
	diff <(sed -n '4,9p' "$WORLD/answer" | tr -d '\r') - <<-'END'
		-ERR a command has no NUL in it
		-ERR no such command here
		-ERR message numbers are 1, 2, 3 and so on
		-ERR message numbers are 1, 2, 3 and so on
		-ERR a command has no NUL in it
		-ERR no such command here
	END
	tail -n 1 "$WORLD/answer" | grep -q '^+OK bye, 3'
	LC_ALL=C grep -aq '[^ -~'$'\r'']' "$WORLD/answer" && return 1 || :
	[ -z "$(log_lines | LC_ALL=C grep -a '[^ -~]')" ]
	harmless
}

@test "the number of arguments is checked" {
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

@test "STAT counts what is not deleted" {
	pop_login alice
	pop_ask STAT "^\+OK 3 $((2 * $(bytes one) + $(bytes three)))\$"
	pop_ask "DELE 3"
	pop_ask STAT "^\+OK 2 $((2 * $(bytes one)))\$"
	pop_ask "DELE 1"
	pop_ask "DELE 2"
	pop_ask STAT '^\+OK 0 0$'
	pop_ask RSET
	pop_ask STAT '^\+OK 3 '
	pop_ask QUIT
}

# bats test_tags=catalogue:39-2,catalogue:40-3
@test "LIST gives all or one, without the deleted" {
	spool_keep
	pop_login alice
	pop_say LIST
	pop_hear_lines
	[ "${lines[*]}" = "1 $(bytes one) 2 $(bytes two) 3 $(bytes three)" ]
	pop_ask "LIST 3" "^\+OK 3 $(bytes three)\$"
	pop_ask "LIST 03" "^\+OK 3 "
	refuses_numbers LIST
	pop_ask "DELE 2"
	pop_say LIST
	pop_hear_lines
	[ "${lines[*]}" = "1 $(bytes one) 3 $(bytes three)" ]
	pop_ask RSET
	pop_ask QUIT
	harmless
}

# bats test_tags=catalogue:39-1,catalogue:40-1
@test "RETR gives the message byte for byte" {
	spool_keep
	pop_login alice
	for n in 1:one 2:two 3:three; do
		pop_say "RETR ${n%:*}"
		pop_hear_lines
		diff <(printf '%s\n' "${lines[@]}") <(make_message "${n#*:}")
	done
	refuses_numbers RETR
	pop_ask QUIT
	log_has \
	    'logout .*reason=quit retrieved=3 octets='"$((2 * $(bytes \
		one) + $(bytes three)))"' topped=0 deleted=0 left=3 '
	harmless
}

# bats test_tags=catalogue:39-3,catalogue:40-2,catalogue:41
@test "TOP gives the header and so many lines of the body" {
	spool_keep
	pop_login alice
	for count in 0 1 2 3 4 99999999 2147483648 9223372036854775808 \
	    18446744073709551615; do
		pop_say "TOP 2 $count"
		pop_hear_lines
		diff <(printf '%s\n' "${lines[@]}") \
		    <(make_message two | sed -n "1,/^\$/p; /line/p" |
			head -n \
			    $((6 + (count > 0 && count < 4 ? count : count == 0 ? 0 : 3))))
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
@test "DELE marks once, RSET takes marks off, QUIT removes what is marked" {
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
@test "UIDL gives ids that differ, stay, and are 1 to 70 characters" {
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

@test "LAST is refused, so that clients use UIDL" {
	pop_login alice
	pop_ask LAST '^-ERR LAST is obsolete since RFC 1725, use UIDL$'
	pop_ask QUIT
}

# bats test_tags=catalogue:43
@test "after QUIT nothing is obeyed" {
	spool_keep
	run pop alice QUIT "DELE 1" QUIT
	[ "$(grep -c '^+OK\|^-ERR' <<<"$output")" -eq 4 ]
	harmless
}

@test "a thousand pipelined commands are answered in order" {
	spool_keep
	commands=()
	for _ in $(seq 334); do commands+=("LIST 1" NOOP "LIST 3"); done
	pop alice "${commands[@]}" QUIT >"$WORLD/answer"
	[ "$(wc -l <"$WORLD/answer")" -eq 1006 ]
	[ "$(grep -c "^+OK 1 $(bytes one)\$" "$WORLD/answer")" -eq 334 ]
	[ "$(grep -c "^+OK 3 $(bytes three)\$" "$WORLD/answer")" -eq 334 ]
	harmless
}

@test "pipelined commands over the login are not lost: PASS with up to 1000 bytes behind it" {
	commands=(DELE\ 1)
	for _ in $(seq 150); do commands+=(NOOP); done
	{ versions; apreq pop/mail.kpopd.test | framed
	  printf '%s\r\n' "USER alice" "PASS x" "${commands[@]}" QUIT; } \
	    >"$WORLD/all"
	wire <"$WORLD/all" | tr -d '\r' >"$WORLD/answer"
	[ "$(grep -ac '^+OK nothing done' "$WORLD/answer")" -eq 150 ]
	spool_is alice two three
}

@test "a client that is idle is left, without a word, and nothing is removed" {
	server_stop
	server_start -t 5:1
	spool_keep
	pop_login alice
	pop_ask "DELE 1"
	pop_hear_end 4
	log_has 'logout .*reason=idle .*deleted=0 left=3 '
	# Bytes that trickle in are no command.
	log_mark
	{
		printf 'USER alice\r\nPASS x\r\n'
		printf NOOPNOOPNOOPNOOP | trickle 0.25
	} | kpopc mail.kpopd.test >"$WORLD/answer" || true
	log_has 'logout .*reason=idle '
	server_stop
	server_start
}

# bats test_tags=catalogue:44-5,fault:20
@test "a client that takes nothing of an answer is left, and the mailbox is free again" {
	server_stop
	server_start -t 5:1
	mbox huge | sed '/line 3/q' >"$WORLD/huge"
	head -c 20000000 /dev/zero | tr '\0' 'x' | fold -w 76 >>"$WORLD/huge"
	echo >>"$WORLD/huge"
	store alice <"$WORLD/huge"
	spool_keep
	mkfifo "$WORLD/stuck" 2>/dev/null || true
	{
		printf 'USER alice\r\nPASS x\r\nDELE 1\r\nRSET\r\nRETR 1\r\nQUIT\r\n'
		sleep 6
	} | kpopc mail.kpopd.test >"$WORLD/stuck" 3>&- &
	exec {hold}<"$WORLD/stuck"
	log_has 'login '
	await 5 "log_lines | grep -q 'logout .*reason=stalled .*deleted=0'"
	exec {hold}<&-
	run pop alice QUIT
	[[ $output == *"+OK 1 messages"* ]]
	server_stop
	server_start
}

# bats test_tags=catalogue:44-2
@test "a connection that breaks off after DELE removes nothing" {
	spool_keep
	pop_login alice
	pop_ask "DELE 1"
	pop_cut
	log_has 'logout .*reason=lost .*deleted=0 left=3 '
	# In orderly fashion, but without QUIT: the same.
	printf 'USER alice\r\nPASS x\r\nDELE 1\r\n' | kpopc mail.kpopd.test
	# QUIT without its line end is no QUIT.
	printf 'USER alice\r\nPASS x\r\nDELE 1\r\nQUIT' | kpopc mail.kpopd.test
	log_count 3 ' logout .*reason=lost .*deleted=0 left=3 '
	log_only ' log(in|out) '
}

# bats test_tags=catalogue:21-2
@test "a client that sends nothing but nonsense is sent away, before the login and after; one that errs is not" {
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
@test "a client that goes at any byte of any answer is nobody's loss" {
	# Each command is said when the answer before it is there; so a cut has
	# a place in the dialogue, not in a buffer.
	spool_keep
	talk() {
		apreq pop/mail.kpopd.test >"$WORLD/ticket"
		perl \
		    -MSocket -e 'my ($file, $most) = @ARGV; open F, "<:raw", $file; undef $/; my $ticket = <F>; $SIG{PIPE} = "IGNORE"; alarm 10;
		    my @say = ("KRB5_SENDAUTH_V1.0\0", "KPOPV1.0\0", $ticket); $_ = pack("N", length) . $_ for @say;
		    my @dialogue = ([$say[0] . $say[1], qr/^\0/], [$say[2], qr/^.{4}\+OK.*\r\n$/s], map { ["$_\r\n", /^(LIST|UIDL|CAPA|TOP.*|RETR.*)$/ ? qr/^-ERR.*\r\n$|\r\n\.\r\n$/ : qr/\r\n$/] }
			"USER alice", "PASS x", "STAT", "LIST", "UIDL", "TOP 1 1", "RETR 2", "DELE 1", "NOOP", "FOO", "RETR 1", "RSET", "QUIT");
		    socket(S, PF_INET, SOCK_STREAM, 0); connect(S, sockaddr_in(1109, INADDR_LOOPBACK)) or die; my $all = 0;
		    TALK: for (@dialogue) { syswrite S, $$_[0]; my $heard = ""; while ($heard !~ $$_[1]) {
			last TALK if $all == $most; sysread S, $heard, 1, length $heard or last TALK; $all++ } last if $all == $most }
		    setsockopt S, SOL_SOCKET, SO_LINGER, pack("ii", 1, 0); close S; print "$all\n"' "$WORLD/ticket" "$1"
		await 5 '! pgrep -x kpopd >/dev/null'
	}
	whole=$(talk 1000000)
	[ "$whole" -gt 700 ]
	log_mark
	for at in $(seq 0 "$(long && echo 1 || echo 23)" "$whole"); do
		count_point [ "$(talk "$at")" -eq "$at" ]
	done
	log_count "$points" ' refused .*reason="(closed before the first byte|closed during the exchange|no login: lost)"$| logout .*reason=(lost|quit) .*deleted=0 left=3 '
	log_only ' login | refused .*reason="(closed before the first byte|closed during the exchange|no login: lost)"$| logout .*reason=(lost|quit) .*deleted=0 left=3 '
	points_are_good "clients that go" 30
}
