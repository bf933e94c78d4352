#!/usr/bin/env bats
# Who is beyond the ends of a layer, or has one of its processes: somebody in
# the middle, a false server, a compromised kpopd-tls or relay.

load helpers/all

setup_file() { tls_make; }

setup() {
	begin_test
	realm_login alice
	mbox one two three | store alice
}

teardown() {
	for pid in ${middle-} ${fake-}; do kill "$pid" 2>/dev/null || true; done
	umount "$KPOPD_BUILD/kpopd-tls" 2>/dev/null || true
	server_stop
	end_test
}

# meddled PORT ARGUMENT …: starts meddle.pl there; $middle is its pid.
meddled() {
	perl "$BATS_TEST_DIRNAME/programs/meddle.pl" "$@" 3>&- \
	    2>"$WORLD/middle.err" &
	middle=$!
	await 5 "ss -Hltn sport = $1 | grep -q ."
}

# Ends it.
alone_again() {
	kill "$middle"
	await 5 '! ss -Hltn sport = 2110 | grep -q .'
	[ ! -s "$WORLD/middle.err" ] || { cat "$WORLD/middle.err"; return 1; }
}

# serve_for tokens|records: the server, and into $options kpopc's options, for a
# layer of GSSAPI or TLS.
serve_for() {
	if [ "$1" = tokens ]; then
		options=-p
		server_start -p
	else
		options="--tls -C $WORLD/tls/ca.pem"
		server_start $(tls_options)
	fi
}

# through STATUS KPOPC_OPTION …: kpopc through port 2110 marks a message, and
# ends with this status; $output is what it prints.
through() {
	local expected=$1
	shift
	run \
	    bash -c 'printf "%s\r\n" "USER alice" "PASS x" "DELE 1" "RETR 2" QUIT | timeout 20 "$KPOPD_BUILD/kpopc" "$@" mail.kpopd.test 2110 2>"$WORLD/errors"' - "$@"
	[[ $status == $expected ]] ||
	    { echo "$how: $status: $output"; cat "$WORLD/errors"; return 1; }
}

# bats test_tags=attack:2-6,attack:2-7,attack:2-8,attack:3-1,attack:3-2,attack:3-3,attack:3-4,attack:3-8
@test "the client's tokens and records: somebody in the middle repeats, drops, changes or cuts one, and nothing is removed" {
	for kind in tokens records; do
		serve_for $kind
		for how in left_out flipped huge empty clear half none \
		    length_only alert warnings; do
			[ $kind = records ] || [ $how != alert ] || continue
			[ $kind = records ] || [ $how != warnings ] || continue
			mbox one two three | store alice
			spool_keep
			meddled 2110 $kind up $how
			# With tokens kpopc hears the end only, in order or by a
			# reset.
			through $([ $kind = tokens ] && echo '[03]' || echo 3) \
			    $options
			[[ $output != *bye* && $output != *"two line 3"* &&
			    $output != *forged* ]] ||
			    { echo "$kind $how: $output"; return 1; }
			alone_again
			await 5 '! pgrep -x "kpopd|kpopd-tls" >/dev/null'
			spool_untouched || { echo "$kind $how"; return 1; }
		done
		server_stop
	done
}

# bats test_tags=attack:8-16,attack:8-17,attack:8-18
@test "the server's tokens and records: kpopc prints nothing that was not the server's, once and in order, and says that the connection broke" {
	for kind in tokens records; do
		serve_for $kind
		for how in twice left_out late flipped huge empty clear half \
		    none length_only alert; do
			# An end between two tokens is the server's word for all
			# that kpopc can tell.
			[ $kind$how != tokensnone ] || continue
			[ $kind = records ] || [ $how != alert ] || continue
			mbox one two three | store alice
			meddled 2110 $kind down $how
			through 3 $options
			[[ $output != *forged* ]]
			grep -Eq '^kpopc: (the security layer|TLS): ' \
			    "$WORLD/errors" || {
				    echo "$kind $how"
				    cat "$WORLD/errors"
				    return 1
			    }
			alone_again
			await 15 '! pgrep -x "kpopd|kpopd-tls" >/dev/null'
		done
		server_stop
	done
}

# bats test_tags=attack:2-1,attack:2-2,attack:2-3,attack:2-4
@test "before the handshake: whatever comes in place of it is refused at once, or at the deadline if it never ends" {
	server_start -T immediate -t 3 $(tls_options)
	sound=$(openssl s_client -connect 127.0.0.1:1109 </dev/null 2>&1 |
	    grep -c 'BEGIN CERTIFICATE')
	[ "$sound" -ge 1 ]
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
	# Each is a line of perl.
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
	await 5 '! pgrep -x "kpopd|kpopd-tls" >/dev/null'
}

# bats test_tags=attack:2-5
@test "key updates without end, asked for and not, cost kpopd-tls no memory, and the session goes on" {
	server_start -p -T immediate $(tls_options)
	: >"$WORLD/heard"
	exec {keys}> >(timeout 60 openssl s_client -tls1_3 \
	    -CAfile "$WORLD/tls/ca.pem" -connect mail.kpopd.test:1109 \
	    >"$WORLD/heard" 2>&1)
	await 5 'grep -aq "+OK kpopd" "$WORLD/heard"'
	tls=$(jailed_in tls)
	before=$(field "$tls" VmRSS | tr -dc 0-9)
	for _ in 1 2 3 4 5 6 7 8; do
		for _ in $(seq 50); do
			echo K >&"$keys"
			# s_client takes one command a read.
			echo k >&"$keys"
		done
		printf 'NOOP\r\n' >&"$keys"
	done
	# s_client drops what it reads after a command of its own; so this is
	# said until it comes alone.
	await 50 'printf "CAPA\r\n" >&"$keys"; grep -aq "^SASL" "$WORLD/heard"'
	echo \
	    "$(grep -ac KEYUPDATE \
		"$WORLD/heard") updates, $before KB, then $(field "$tls" VmRSS)"
	# A sanitizer keeps what was freed.
	[ -n "${SANITIZER-}" ] ||
	    [ "$(field "$tls" VmRSS | tr -dc 0-9)" -lt $((before + 1024)) ]
	exec {keys}>&-
}

# chained: a session of kpopc behind kpopd-tls and the relay, in which message 1
# is marked; what it says is in $WORLD/heard. Sets $chain, $tls and $relay to
# the processes.
chained() {
	in_the_middle 2110
	: >"$WORLD/heard"
	exec {chain_in}> >(exec "$KPOPD_BUILD/kpopc" -p mail.kpopd.test 2110 \
	    >"$WORLD/heard" 2>"$WORLD/errors")
	printf '%s\r\n' "USER alice" "PASS x" "DELE 1" NOOP >&"$chain_in"
	await 10 '[ "$(grep -c "^+OK" "$WORLD/heard")" -eq 5 ]'
	tls=$(jailed_in tls)
	relay=$(jailed_in relay)
	[ -n "$tls" ] && [ -n "$relay" ]
}

# unchained: nothing of it is left, and nothing was removed.
unchained() {
	exec {chain_in}>&-
	kill "$middle"
	await 15 '! pgrep -x "kpop.*" >/dev/null'
	await 5 '! ss -Hltn sport = 2110 | grep -q .'
	spool_untouched
}

# channel_of PID: its descriptor for the monitor, a SEQPACKET socket.
channel_of() {
	local fd
	for fd in "/proc/$1/fd"/*; do
		ss -Hxp | awk '$1 == "u_seq"' |
		    grep -q "pid=$1,fd=${fd##*/})" && echo "${fd##*/}" && return
	done
}

# bats test_tags=attack:2-9,attack:2-10,attack:2-11,attack:3-9,attack:3-10,attack:3-11
@test "a compromised kpopd-tls or relay logs nothing that its role does not, has no files, sockets or other processes, and removes no mail" {
	[ -z "${SANITIZER-}" ] || skip "built for sanitizers, without a sandbox"
	server_start -p $(tls_options)
	spool_keep
	for who in tls relay; do
		chained
		channel=$(channel_of "${!who}")
		[ -n "$channel" ]
		log_mark
		# Priority 8 is no less than an emergency, which syslogd shows
		# every user.
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
		# A packet that is for nobody.
		captive "${!who}" "sendto $channel Login 6 64 0 0" || :
		log_has 'fatal .*sent a malformed message, and was killed'
		unchained
		for call in "kill 1 9" "ptrace 16 1 0 0" "io_uring_setup 8 x" \
		    "prctl 22 0 0 0 0"; do
			chained
			log_mark
			captive "${!who}" "$call"
			log_has "fatal .*was ended for the system call ${call%% *}\"\$"
			unchained
		done
	done
}

# bats test_tags=attack:2-15,attack:3-12
@test "kpopd-tls or the relay killed in the middle of a session: it ends, and nothing is removed" {
	server_start -p $(tls_options)
	spool_keep
	for who in tls relay; do
		# A sanitizer takes SEGV for a defect.
		for signal in KILL TERM \
		    $([ -n "${SANITIZER-}" ] || echo SEGV); do
			chained
			log_mark
			kill -$signal "${!who}"
			unchained
			log_has "logout .*deleted=0"
			log_has 'fatal .*ended by signal'
		done
	done
}

# bats test_tags=attack:3-5,attack:3-6,attack:3-7
@test "good tokens by the thousand: after the end, of a byte each, empty, byte by byte, as large as may be: obeyed up to the end" {
	server_start -p
	for layer in 2 4; do
		for how in after tiny nothing pieces full; do
			mbox one two three | store alice
			log_mark
			run timeout 20 "$KPOPD_BUILD/tests/programs/gsstalk" \
			    $layer 65536 $how
			case $how in
			# What came after QUIT is nobody's.
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
			await 15 '! pgrep -x kpopd >/dev/null'
			log_has 'logout '
			log_lacks 'fatal|sandbox'
		done
	done
}

# In place of kpopd-tls a program that does this in perl, with the monitor's
# channel on descriptor 3.
false_tls() {
	{ printf '#!/usr/bin/perl\nuse IO::Handle; exit 0 if @ARGV == 3; my $m = IO::Handle->new_from_fd(3, "r+"); my $ready = chr(32) . "h" x 32;\n'
	  printf '%s\n' "$1"; } >"$WORLD/false-tls"
	chmod 755 "$WORLD/false-tls"
}

# bats test_tags=attack:2-12,attack:2-13,attack:2-14
@test "a kpopd-tls that lies when it is ready, dies, closes or floods its channel, or asks what the pre-auth process asks: no login, the end, and others are served" {
	mbox one | store bob
	: >"$WORLD/false-tls"
	mount --bind "$WORLD/false-tls" "$KPOPD_BUILD/kpopd-tls"
	local -A lies=(
		[size_255]='syswrite STDOUT, "\xff" . "h" x 255; sleep 60'
		[size_65]='syswrite STDOUT, "\x41" . "h" x 65; sleep 60'
		[half]='syswrite STDOUT, "\x20hhhhh"; sleep 60'
		[dies]='exit 0'
		[killed]='syswrite STDOUT, $ready; kill 9, $$'
		[channel]='close $m; syswrite STDOUT, $ready; sleep 60'
		[question]='send $m, "\1" . "\0" x 3000, 0; syswrite STDOUT, $ready; sleep 60'
		[large]='send $m, "l" x 60000, 0; syswrite STDOUT, $ready; sleep 60'
		[empty]='send $m, "", 0; syswrite STDOUT, $ready; sleep 60'
		[flood]='my $line = "l\6failed" . "\0" x 16 . "x" x 3000; for (1 .. 3000) { send $m, $line, 0 } syswrite STDOUT, $ready; sleep 60'
		[commands]='syswrite STDOUT, $ready . "USER alice\r\nPASS x\r\nSTAT\r\n"; sleep 60'
	)
	for name in "${!lies[@]}"; do
		# The file that is mounted stays the same one.
		false_tls "${lies[$name]}"
		server_start -p -t 2:20 $(tls_options)
		log_mark
		wire 10 < <(printf 'STLS\r\n'; sleep 8) >"$WORLD/heard" 2>&1 \
		    3>&- &
		stls=$!
		KRB5CCNAME=FILE:$WORLD/ccache.bob realm_login bob
		begin=$(date +%s%N)
		run \
		    bash -c "printf 'USER bob\r\nPASS x\r\nQUIT\r\n' | KRB5CCNAME=FILE:$WORLD/ccache.bob '$KPOPD_BUILD/kpopc' -p mail.kpopd.test 1109"
		spent=$((($(date +%s%N) - begin) / 1000000))
		[[ $output == *"+OK bye, 1 "* && $spent -lt 3000 ]] ||
		    { echo "$name: $spent ms: $output"; return 1; }
		await 9 '! pgrep -x "kpop.*|false.*" >/dev/null' ||
		    { echo "$name"; log_lines; return 1; }
		kill "$stls" || :
		[ "$(log_lines | grep -c ' login ')" -eq 1 ]
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
