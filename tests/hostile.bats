#!/usr/bin/env bats
# Checks that hostile input costs little, breaks nothing, and is logged in
# printable characters only.

load helpers/all

setup_file() {
	server_start -t 5
	begin_replay_cache
}

setup() {
	begin_test
	mbox one two | store alice
	spool_keep
	realm_login alice
}

# takes_little_memory: returns true if the process of the newest connection has
# always had less than 16 MiB of memory.
takes_little_memory() {
	local peak
	peak=$(field "$(child_pid)" VmHWM)
	[ -n "$peak" ] || return 1
	[ -n "${SANITIZER-}" ] || [ "${peak% kB}" -lt 16384 ]
}

# has_received BYTES: returns true if the server has received at least BYTES
# bytes on a connection.
has_received() {
	ss -Htin sport = 1109 | grep -o 'bytes_received:[0-9]*' |
	    awk -F : -v bytes="$1" '
		$2 >= bytes { found = 1 }
		END { exit !found }'
}

# bats test_tags=catalogue:26-4
@test "an endless line before the login costs no memory and ends at the login deadline" {
	server_stop
	server_start -t 15
	{
		versions
		apreq pop/mail.kpopd.test | framed
	} >"$WORLD/opening"
	{
		cat "$WORLD/opening"
		tr '\0' x </dev/zero
	} 2>/dev/null | wire 60 2>/dev/null | tr -d '\0' >"$WORLD/answer" 3>&- &
	# The kernel does not buffer that many bytes for the server, so kpopd
	# must have read some.
	await 10 "has_received $((32 * 1024 * 1024))"
	takes_little_memory
	wait $! || :
	log_count 1 'refused .*reason="no login: idle"$'
	log_count 1 .
	# The server answers a line only after its line end.
	grep -a . "$WORLD/answer" | tr -d '\r' |
	    cmp - <(echo "+OK kpopd at your service")
}

# bats test_tags=catalogue:26-5,promise:5
@test "a line of 256 MiB after the login costs no memory, and the session goes on" {
	pop_login alice
	pop_ask "DELE 1"
	head -c $((256 * 1024 * 1024)) /dev/zero >&"$pop_out"
	pop_ask '' '^-ERR line too long'
	takes_little_memory
	pop_ask NOOP '^\+OK nothing done'
	pop_close
	log_has 'logout .*reason=lost .*deleted=0 left=2 '
	log_only ' log(in|out) '
}

# bats test_tags=catalogue:27
@test "kpopd answers a million pipelined NOOPs" {
	{
		printf 'USER alice\r\nPASS x\r\n'
		yes $'NOOP\r' | head -n 1000000
		printf 'QUIT\r\n'
	} | kpopc mail.kpopd.test |
	    grep -c '^+OK nothing done' >"$WORLD/count"
	[ "$(cat "$WORLD/count")" -eq 1000000 ]
	log_has 'logout .*reason=quit .*deleted=0 left=2 '
	log_only ' log(in|out) '
}

# bats test_tags=catalogue:38-2,promise:5
@test "kpopd answers each command with one line, whatever the size and the bytes of its argument" {
	verbs=($(pop_verbs kpop_commands gssapi_commands pop3_trans_commands)
	    XTND)
	for verb in "${verbs[@]}"; do
		for size in 1 200 249 250 251 254 255 256 512 1024 65536; do
			printf '%s %s\r\n' "$verb" \
			    "$(printf "%${size}s" '' | tr ' ' 7)"
		done
		printf '%s %%n%%s%%n%%s\r\n' "$verb"
		# A valid command in between keeps kpopd from disconnecting the
		# client for unknown commands.
		printf 'UTF8\r\n'
	done >"$WORLD/verbs"
	{
		printf 'USER alice\r\nPASS x\r\n'
		cat "$WORLD/verbs"
		printf 'QUIT\r\n'
	} | kpopc mail.kpopd.test >"$WORLD/answer"
	[ "$(wc -l <"$WORLD/answer")" \
	    -eq $((3 + $(wc -l <"$WORLD/verbs") + 1)) ]
	[ "$(grep -c '^+OK' "$WORLD/answer")" -eq $((4 + ${#verbs[@]})) ]
	refute grep -q '7\{20\}\|%' "$WORLD/answer"
	{ printf 'CAPA\r\n'; grep -v '^PASS' "$WORLD/verbs"; } |
	    kpopc mail.kpopd.test >"$WORLD/answer" || [ $? -eq 1 ]
	refute grep -q '7\{20\}\|%' "$WORLD/answer"
	log_has 'logout .*deleted=0 left=2 '
	log_only ' login | logout .*deleted=0 left=2 | refused .*reason="no login: (left|lost)"$| nonsense '
}

# bats test_tags=promise:5
@test "kpopd's log has only printable characters, whatever a client sends" {
	admin 'addprinc -randkey "x y=z"""'
	admin "ktadd -k $WORLD/keytabs/odd.keytab \"x y=z\"\"\""
	kinit -k -t "$WORLD/keytabs/odd.keytab" 'x y=z"'
	run pop alice QUIT
	log_has 'refused .*principal=x.040y=z.042@KPOPD\.TEST error="[^"]+ makes the principal another user"$'
	{
		versions
		apreq pop/mail.kpopd.test | framed
		printf 'USER \x1b[2J\x07\xff evil\r\n'
		printf 'USER \x1b[2J\x07\xff\r\n'
		printf 'PASS \x1b]0;\x07\r\n'
	} | wire >/dev/null
	log_has 'refused .*\033'
	LC_ALL=C log_lacks '[^ -~]'
}

@test "a login does not wait for sixty silent clients" {
	server_stop
	server_start -t 60
	for _ in $(seq 60); do
		hear_only 90 >/dev/null 2>&1 3>&- &
	done
	await 20 '[ $(pgrep -cx kpopd) -ge 100 ]'
	begin=$SECONDS
	run pop alice STAT QUIT
	[[ $output == *"+OK bye"* ]]
	[ $((SECONDS - begin)) -lt 20 ]
	pkill -x socat
	kpopd_ends 20
}

# bats test_tags=catalogue:14,promise:1
@test "kpopd refuses an AP-REQ in which any bit of its encrypted parts is flipped" {
	# The options and the service's name come before the encrypted parts.
	# Nothing protects them, so kpopd may accept a flipped bit there. Only
	# the key decides which service a ticket is for.
	apreq pop/mail.kpopd.test >"$WORLD/good"
	encrypted=$(($(grep -abo mail.kpopd.test "$WORLD/good" | head -n 1 |
	    cut -d: -f1) + 45))
	size=$(stat -c %s "$WORLD/good")
	[ $((size - encrypted)) -gt 300 ]
	log_mark
	# A long test run flips each bit of each byte.
	if long; then step=1; else step=73; fi
	sent=0
	for bit in $(seq 0 $step $((size * 8 - 1))); do
		at=$((bit / 8))
		apreq pop/mail.kpopd.test >"$WORLD/whole"
		perl -0777 -pe 'BEGIN { $bit = shift }
		    vec($_, $bit, 1) ^= 1 if $bit < 8 * length' \
		    "$bit" "$WORLD/whole" >"$WORLD/bad"
		# This AP-REQ may be shorter than the first one. If it is too
		# short, it does not contain the bit.
		! cmp -s "$WORLD/bad" "$WORLD/whole" || continue
		sent=$((sent + 1))
		run wire_hex < <(versions; framed <"$WORLD/bad"
		    printf 'USER bob\r\nPASS x\r\n')
		[ "$at" -lt "$encrypted" ] ||
		    [[ $output == 00*7e* && $output != *2b4f4b* ]] ||
		    { echo "byte $at: $output"; return 1; }
	done
	# Each AP-REQ leads to one log line. If a flipped bit does not matter,
	# alice's ticket is still valid, but does not open bob's mailbox.
	log_count $sent ' refused peer=[^ ]+:[0-9]+ reason="(Kerberos" error="|not permitted to be this user" user=bob )'
	log_count $sent .
	points=$sent
	points_are_good "flipped bits" 50
}

# bats test_tags=catalogue:15
@test "kpopd refuses an AP-REQ with 32,000 nested ASN.1 elements" {
	run wire_hex < <(versions; perl -e 'print "\x30\x80" x 32768' | framed)
	[[ $output == 00*7e* ]]
	run wire_hex < <(versions
	    perl -e 'print "\x6e\x80", "\x30\x80" x 32000' | framed)
	[[ $output == 00*7e* ]]
	log_count 2 'refused .*reason="Kerberos" error="'
	log_count 2 .
}

@test "kpopd logs once that a message is gone, however often the client asks for it" {
	for format in mbox maildir; do
		if [ $format = maildir ]; then
			server_stop
			server_start -m 'maildir:~/Maildir'
			su alice -c 'umask 077
			    mkdir -p ~/Maildir/new ~/Maildir/cur ~/Maildir/tmp'
			for name in one two; do
				make_message $name |
				    su alice -c "cat >~/Maildir/new/$name"
			done
		fi
		log_mark
		pop_login alice
		if [ $format = maildir ]; then
			rm /home/alice/Maildir/new/one
		else
			mbox two three four >/var/mail/alice
			spool_keep
		fi
		pop_ask STAT
		# Send fifty commands at a time. If client and server both had
		# more output than the sockets can buffer, both would wait to
		# write, and neither would read.
		for _ in $(seq 20); do
			for _ in $(seq 50); do pop_say "RETR 1"; done
			for _ in $(seq 50); do
				pop_hear '^-ERR \[SYS/TEMP\] another program changed the mailbox$'
			done
		done
		pop_ask QUIT
		pop_hear_end
		log_has 'logout '
		log_count 1 'failed .*what="reading message 1" error="another program changed the mailbox" more=0 mailbox=/[^ ]+$'
	done
	rm -r /home/alice/Maildir
}
