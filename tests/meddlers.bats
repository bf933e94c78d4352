#!/usr/bin/env bats
# Checks that attacks on a security layer fail: by a man in the middle, a
# malicious client, and a compromised kpopd-tls or relay.

load helpers/all

setup_file() { tls_make; }

setup() {
	begin_test
	realm_login alice
	mbox one two three | store alice
}

teardown() {
	for pid in ${middle-} ${silent-}; do
		kill "$pid" 2>/dev/null || true
	done
	umount -l "$KPOPD_BUILD/kpopd-tls" 2>/dev/null || true
	end_test
}

# meddle PORT ARGUMENT ...: starts a man in the middle on this port
# (tests/programs/meddle.pl). Sets $middle to its pid.
meddle() {
	perl "$BATS_TEST_DIRNAME/programs/meddle.pl" "$@" 3>&- \
	    2>"$WORLD/middle.err" &
	middle=$!
	await 5 "ss -Hltn sport = $1 | grep -q ."
}

# meddle_end: ends the man in the middle. Fails if its program has reported
# errors.
meddle_end() {
	kill "$middle"
	await 5 '! ss -Hltn sport = 2110 | grep -q .'
	[ ! -s "$WORLD/middle.err" ] || { cat "$WORLD/middle.err"; return 1; }
}

# serve_layer tokens|records: starts a server for the GSSAPI layer (tokens) or
# for TLS (records). Sets $options to the options with which kpopc uses that
# layer.
serve_layer() {
	if [ "$1" = tokens ]; then
		options=-p
		server_start -p
	else
		options="--tls -C $WORLD/tls/ca.pem"
		server_start $(tls_options)
	fi
}

# session_on_2110 KPOPC-OPTION ...: runs a session through port 2110 that marks
# a message. Returns kpopc's status.
session_on_2110() {
	printf '%s\r\n' "USER alice" "PASS x" "DELE 1" "RETR 2" QUIT |
	    timeout 20 "$KPOPD_BUILD/kpopc" "$@" mail.kpopd.test 2110 \
		2>"$WORLD/errors"
}

# ends_with STATUS KPOPC-OPTION ...: calls session_on_2110. Returns true if
# kpopc's status matches the pattern STATUS. Sets $output to kpopc's output.
ends_with() {
	local expected=$1
	shift
	run session_on_2110 "$@"
	[[ $status == $expected ]] ||
	    { echo "$how: $status: $output"; cat "$WORLD/errors"; return 1; }
}

# bats test_tags=attack:2-6,attack:2-7,attack:2-8,attack:3-1,attack:3-2,attack:3-3,attack:3-4,attack:3-8
@test "kpopd removes nothing if a man in the middle drops, changes or truncates a client's token or record" {
	for kind in tokens records; do
		serve_layer $kind
		for how in left_out flipped huge empty clear half none \
		    length_only alert warnings; do
			[ $kind = records ] || [ $how != alert ] || continue
			[ $kind = records ] || [ $how != warnings ] || continue
			mbox one two three | store alice
			spool_keep
			meddle 2110 $kind up $how
			# With tokens, kpopc notices only a FIN or a reset, by
			# which the connection ends.
			status_expected=3
			[ $kind = records ] || status_expected='[03]'
			ends_with "$status_expected" $options
			[[ $output != *bye* && $output != *"two line 3"* &&
			    $output != *forged* ]] ||
			    { echo "$kind $how: $output"; return 1; }
			meddle_end
			await 5 'no_kpopd'
			spool_untouched || { echo "$kind $how"; return 1; }
		done
		server_stop
	done
}

# bats test_tags=attack:8-16,attack:8-17,attack:8-18
@test "kpopc prints nothing that a man in the middle forged, repeated or delayed, and reports the broken layer" {
	for kind in tokens records; do
		serve_layer $kind
		for how in twice left_out late flipped huge empty clear half \
		    none length_only alert; do
			# If the connection ends between two tokens, kpopc
			# cannot know whether the server or an attacker has
			# ended the connection.
			[ $kind$how != tokensnone ] || continue
			[ $kind = records ] || [ $how != alert ] || continue
			mbox one two three | store alice
			meddle 2110 $kind down $how
			ends_with 3 $options
			[[ $output != *forged* ]]
			grep -Eq '^kpopc: (the security layer|TLS): ' \
			    "$WORLD/errors" || {
				    echo "$kind $how"
				    cat "$WORLD/errors"
				    return 1
			    }
			meddle_end
			await 15 'no_kpopd'
		done
		server_stop
	done
}

# bats test_tags=attack:2-1,attack:2-2,attack:2-3,attack:2-4
@test "kpopd-tls refuses a malformed TLS handshake at once, or at the login deadline if it never ends" {
	server_start -T immediate -t 3 $(tls_options)
	await 20 'openssl s_client -connect 127.0.0.1:1109 </dev/null 2>&1 |
	    grep "BEGIN CERTIFICATE"'
	# Each value is a Perl expression.
	local -A hellos=(
		[sslv2]='"\x80\x2e\1\0\2\0\x15\0\0\0\x10" . "x" x 100'
		[record_too_large]='"\x16\3\1\xff\xff" . "x" x 65535'
		[hello_of_16_MB]='"\x16\3\1\x40\0\1\xff\xff\xff" . "x" x 16380 . ("\x16\3\1\x40\0" . "x" x 16384) x 20'
		[hello_of_128_KB_by_bytes]='join "", map "\x16\3\1\0\1$_", "\1", "\0", "\xff", "\xff", ("x") x 5000, "\x16\3\1\xff\xff" . "y" x 65535'
		[data]='"\x17\3\3\0\5hello" x 10'
		[alerts]='"\x15\3\3\0\2\1\x5a" x 20000'
		[alert_fatal]='"\x15\3\3\0\2\2\x28"'
		[close_notify]='"\x15\3\3\0\2\1\0"'
		[empty]='"\x16\3\1\0\0" x 50000'
		[ccs]='"\x14\3\3\0\1\1" x 50000'
		[key_update]='"\x16\3\3\0\5\x18\0\0\1\1" x 10'
		[finished]='"\x16\3\3\0\x24\x14\0\0\x20" . "x" x 32'
		[server_hello]='"\x16\3\3\0\x26\2\0\0\x22\3\3" . "x" x 32'
		[heartbeat]='"\x18\3\3\0\3\1\xff\xff" x 100'
		[type_255]='"\xff\3\3\0\2xx" x 100'
		[version_9]='"\x16\x09\x09\0\2xx" x 100'
	)
	for name in "${!hellos[@]}"; do
		log_mark
		begin=$(date +%s%N)
		run wire 8 < <(perl -e "print ${hellos[$name]}" 2>/dev/null)
		spent=$((($(date +%s%N) - begin) / 1000000))
		[ "$spent" -lt 7000 ] || { echo "$name: $spent ms"; return 1; }
		[[ $output != *+OK* && $output != *-ERR* ]] ||
		    { echo "$name: $output"; return 1; }
		log_has 'refused .*reason=' || { echo "$name"; return 1; }
		log_lacks 'sandbox|ended by signal|forbidden'
		echo "$name $spent"
	done
	await 5 'no_kpopd'
}

# bats test_tags=attack:2-5
@test "key updates without end, requested or not, cost kpopd-tls no memory, and the session continues" {
	server_start -p -T immediate $(tls_options)
	: >"$WORLD/answers"
	exec {keys}> >(timeout 60 openssl s_client -tls1_3 \
	    -CAfile "$WORLD/tls/ca.pem" -connect mail.kpopd.test:1109 \
	    >"$WORLD/answers" 2>&1)
	await 5 'grep -aq "+OK kpopd" "$WORLD/answers"'
	tls=$(jailed_in tls)
	before=$(field "$tls" VmRSS | tr -dc 0-9)
	for _ in 1 2 3 4 5 6 7 8; do
		for _ in $(seq 50); do
			# s_client accepts only one command from each read.
			echo K >&"$keys"
			echo k >&"$keys"
		done
		printf 'NOOP\r\n' >&"$keys"
	done
	# s_client discards all input that it reads together with one of its own
	# commands. So repeat CAPA until s_client reads a CAPA separately. In
	# lower case, because "C" is a command of OpenSSL 3.5.
	await 50 'printf "capa\r\n" >&"$keys"
	    grep -aq "^SASL" "$WORLD/answers"'
	echo "$(grep -ac KEYUPDATE "$WORLD/answers") updates, $before KB," \
	    "then $(field "$tls" VmRSS)"
	# Skip this in sanitizer builds, because a sanitizer keeps freed memory.
	[ -n "${SANITIZER-}" ] ||
	    [ "$(field "$tls" VmRSS | tr -dc 0-9)" -lt $((before + 1024)) ]
	exec {keys}>&-
}

# layers_open: begins a session with a GSSAPI layer inside TLS, and marks
# message 1. The answers are in $WORLD/answers. Sets $tls and $relay to the pids
# of kpopd-tls and the relay.
layers_open() {
	in_the_middle 2110
	: >"$WORLD/answers"
	exec {commands}> >(exec "$KPOPD_BUILD/kpopc" -p mail.kpopd.test 2110 \
	    >"$WORLD/answers" 2>"$WORLD/errors")
	printf '%s\r\n' "USER alice" "PASS x" "DELE 1" NOOP >&"$commands"
	await 10 '[ "$(grep -c "^+OK" "$WORLD/answers")" -eq 5 ]'
	tls=$(jailed_in tls)
	relay=$(jailed_in relay)
	[ -n "$tls" ] && [ -n "$relay" ]
}

# layers_close: ends the session of layers_open, and waits until all its
# processes end. Returns true if no message was removed.
layers_close() {
	exec {commands}>&-
	kill "$middle"
	await 15 'no_kpopd && ! pgrep -x kpopc >/dev/null'
	await 5 '! ss -Hltn sport = 2110 | grep -q .'
	spool_untouched
}

# channel_of PID: prints the number of the process's descriptor for the channel
# to the monitor, a SEQPACKET socket whose other end the monitor has.
channel_of() {
	local fd inode peer
	while read -r fd inode; do
		peer=$(ss -Hx | awk -v inode="${inode//[!0-9]/}" \
		    '$1 == "u_seq" && $6 == inode { print $8 }')
		if [ -n "$peer" ] &&
		    fds "$(monitor_pid)" | grep -qF "socket:[$peer]"; then
			echo "$fd"
			return
		fi
	done < <(fds "$1")
}

# bats test_tags=attack:2-9,attack:2-10,attack:2-11,attack:3-9,attack:3-10,attack:3-11
@test "a compromised kpopd-tls or relay can log only its own events, gets no files or sockets, and removes no mail" {
	[ -z "${SANITIZER-}" ] || skip "a build with sanitizers has no sandbox"
	server_start -p $(tls_options)
	spool_keep
	for who in tls relay; do
		layers_open
		channel=$(channel_of "${!who}")
		[ -n "$channel" ]
		log_mark
		# Priority 8 is "emergency" in another facility. syslogd shows
		# such a line to every user.
		captive "${!who}" "sendto $channel l"$'\x08'"failed 30 64 0 0" \
		    "sendto $channel l"$'\x06'"login 30 64 0 0" \
		    "sendto $channel l"$'\x06'"logout 30 64 0 0" \
		    "sendto $channel l"$'\x05'"../refused 30 64 0 0" \
		    "socket 1 2 0" "socket 2 1 0" \
		    "openat -100 /etc/passwd 0" \
		    "openat -100 /../../etc/passwd 0" \
		    "openat -100 /new 65 384" "connect 0 x 2"
		[ "$(tr '\n' ' ' <<<"$returned")" = \
		    "30 30 30 30 -13 -13 $(sed -n 7,9p <<<"$returned" |
			tr '\n' ' ')-13 " ]
		[ "$(sed -n 7,9p <<<"$returned" | grep -c '^-')" -eq 3 ]
		log_has 'failed peer='
		log_lacks 'mail\.emerg'
		log_lacks ' (login|logout) peer='
		log_has 'fatal .*logged a forbidden event: login'
		log_has 'fatal .*logged a forbidden event: logout'
		log_has 'fatal .*logged a forbidden event: \.\./refused'
		# The monitor does not accept a message of this kind.
		captive "${!who}" "sendto $channel Login 6 64 0 0" || :
		log_has 'fatal .*sent a malformed message, and was killed'
		layers_close
		for call in "kill 1 9" "ptrace 16 1 0 0" "io_uring_setup 8 x" \
		    "prctl 22 0 0 0 0"; do
			layers_open
			log_mark
			captive "${!who}" "$call"
			log_has "fatal .*was ended for the system call ${call%% *}\"\$"
			layers_close
		done
	done
}

# bats test_tags=attack:2-15,attack:3-12
@test "a session whose kpopd-tls or relay is killed ends without removing a message" {
	server_start -p $(tls_options)
	spool_keep
	for who in tls relay; do
		# In a sanitizer build, SEGV would only cause a report.
		for signal in KILL TERM \
		    $([ -n "${SANITIZER-}" ] || echo SEGV); do
			layers_open
			log_mark
			kill -$signal "${!who}"
			layers_close
			log_has "logout .*deleted=0"
			log_has 'fatal .*ended by signal'
		done
	done
}

# bats test_tags=attack:3-5,attack:3-6,attack:3-7
@test "a session obeys good tokens of any size and speed until QUIT, and no token after QUIT" {
	server_start -p
	for layer in 2 4; do
		for how in after tiny nothing pieces full; do
			mbox one two three | store alice
			log_mark
			run timeout 20 "$KPOPD_BUILD/tests/programs/gsstalk" \
			    $layer 65536 $how
			case $how in
			after)
				[[ $output == *"+OK bye"* &&
				    $output != *"two line 3"* ]] &&
				    spool_is alice two three
				;;
			*)
				[[ $status -eq 0 &&
				    $output == *"two line 3"* ]] &&
				    spool_is alice one two three
				;;
			esac || {
				echo "$layer $how: $status ${output: -600}"
				return 1
			}
			[ $how != tiny ] ||
			    [ "$(grep -c '^+OK' <<<"$output")" -ge 200 ] ||
			    { echo "$output" | grep -c '^+OK'; return 1; }
			kpopd_ends 15
			log_has 'logout '
			log_lacks 'fatal|sandbox'
		done
	done
}

# false_tls HOW: writes $WORLD/false-tls, which runs tests/programs/false-tls.pl
# and is mounted over kpopd-tls. The name of its process is also kpopd-tls.
false_tls() {
	cat >"$WORLD/false-tls" <<-END
	#!/usr/bin/perl
	@ARGV = ('$1', @ARGV);
	do '$BATS_TEST_DIRNAME/programs/false-tls.pl';
	die \$@ || \$!;
	END
	chmod 755 "$WORLD/false-tls"
}

# pop_as_bob: runs a session of bob by AUTH GSSAPI with bob's ticket.
pop_as_bob() {
	printf '%s\r\n' "USER bob" "PASS x" QUIT |
	    KRB5CCNAME=FILE:$WORLD/ccache.bob kpopc -p mail.kpopd.test 1109
}

# bats test_tags=attack:2-12,attack:2-13,attack:2-14
@test "a kpopd-tls that lies, dies or floods its channel admits no login, is ended, and delays no other client" {
	mbox one | store bob
	: >"$WORLD/false-tls"
	mount --bind "$WORLD/false-tls" "$KPOPD_BUILD/kpopd-tls"
	KRB5CCNAME=FILE:$WORLD/ccache.bob realm_login bob
	for name in size_255 size_65 half dies killed channel question large \
	    empty flood commands; do
		# false_tls rewrites the file in place, because the file's inode
		# is mounted.
		false_tls $name
		server_start -p -t 8:20 $(tls_options)
		log_mark
		rm -f "$WORLD/answers"
		# The client sends nothing for longer than the login deadline.
		wire 20 < <(printf 'STLS\r\n'; sleep 14) \
		    >"$WORLD/answers" 2>&1 3>&- &
		silent=$!
		await 5 'grep -aqs "^+OK" "$WORLD/answers"'
		begin=$(date +%s%N)
		run pop_as_bob
		spent=$((($(date +%s%N) - begin) / 1000000))
		[[ $output == *"+OK bye, 1 "* && $spent -lt 7000 ]] ||
		    { echo "$name: $spent ms: $output"; return 1; }
		await 20 'no_kpopd && ! pgrep -x "kpopc|false.*" >/dev/null' ||
		    { echo "$name"; log_lines; return 1; }
		kill "$silent" || :
		log_count 1 ' login '
		[ "$(log_lines | wc -l)" -lt 120 ]
		case $name in
		flood)
			log_has \
			    'withheld .*process="kpopd-tls" lines=(2900|289.)'
			;;
		large | question)
			log_has 'fatal .*kpopd-tls sent a malformed message, and was killed'
			;;
		esac
		server_stop
	done
}
