#!/usr/bin/env bats
# Clients that mean harm: what they send costs little, breaks nothing and
# reaches the log only as text.

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

# memory PID: its largest resident size so far, in KiB.
memory() {
	sed -n 's/VmHWM:[^0-9]*\([0-9]*\).*/\1/p' "/proc/$1/status"
}

# bats test_tags=catalogue:26-4
@test "before the login an endless line costs no memory and ends at the deadline" {
	{
		versions
		apreq pop/mail.kpopd.test | framed
		tr '\0' x </dev/zero
	} 2>/dev/null | wire 2>/dev/null | tr -d '\0' >"$WORLD/answer" 3>&- &
	log_begin_here=$SECONDS
	sleep 2
	[ -n "${SANITIZER-}" ] || [ "$(memory "$(child_pid)")" -lt 16384 ]
	await 6 '! pgrep -x kpopd >/dev/null'
	[ $((SECONDS - log_begin_here)) -lt 9 ]
	log_count 1 'refused .*reason="no login: idle"$'
	log_count 1 .
	# The line has no end, so no answer either.
	grep -a . "$WORLD/answer" | tr -d '\r' |
	    cmp - <(echo "+OK kpopd at your service")
}

# bats test_tags=catalogue:26-5,promise:5
@test "after the login an endless line costs no memory, and the mailbox stays" {
	{
		printf 'USER alice\r\nPASS x\r\nDELE 1\r\n'
		timeout 3 cat /dev/zero || true
		printf '\r\nNOOP\r\n'
	} |
	    kpopc mail.kpopd.test >"$WORLD/answer" 3>&- &
	log_has 'login '
	sleep 1
	[ -n "${SANITIZER-}" ] || [ "$(memory "$(child_pid)")" -lt 16384 ]
	wait $!
	[ "$(grep -c '^-ERR line too long' "$WORLD/answer")" -eq 1 ]
	log_has 'logout .*reason=lost .*deleted=0 left=2 '
	log_only ' log(in|out) '
	tail -n 1 "$WORLD/answer" | grep -q '^+OK nothing done'
}

# bats test_tags=catalogue:27
@test "a million pipelined NOOPs are answered" {
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
@test "every verb with arguments of all sizes and with format directives is answered by one line" {
	verbs=($(pop_verbs kpop_commands gssapi_commands pop3_trans_commands)
	    XTND)
	for verb in "${verbs[@]}"; do
		for size in 1 200 249 250 251 254 255 256 512 1024 65536; do
			printf '%s %s\r\n' "$verb" \
			    "$(printf "%${size}s" '' | tr ' ' 7)"
		done
		printf '%s %%n%%s%%n%%s\r\n' "$verb"
		# Or it would be sent away for nonsense.
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
	grep -q '7\{20\}\|%' "$WORLD/answer" && return 1 || :
	{ printf 'CAPA\r\n'; cat "$WORLD/verbs" | grep -v '^PASS'; } |
	    kpopc mail.kpopd.test >"$WORLD/answer" || [ $? -eq 1 ]
	grep -q '7\{20\}\|%' "$WORLD/answer" && return 1 || :
	log_has 'logout .*deleted=0 left=2 '
	log_only ' login | logout .*deleted=0 left=2 | refused .*reason="no login: (left|lost)"$| nonsense '
}

# bats test_tags=promise:5
@test "nothing a client sends reaches the log raw" {
	admin 'addprinc -randkey "x y=z"""'
	admin "ktadd -k $WORLD/keytabs/odd.keytab \"x y=z\"\"\""
	kinit -k -t "$WORLD/keytabs/odd.keytab" 'x y=z"'
	run pop alice QUIT
	log_has 'refused .*principal=x.040y=z.042@KPOPD\.TEST$'
	{
		versions
		apreq pop/mail.kpopd.test | framed
		printf 'USER \x1b[2J\x07\xff evil\r\nUSER \x1b[2J\x07\xff\r\nPASS \x1b]0;\x07\r\n'
	} | wire >/dev/null
	[ -z "$(log_lines | LC_ALL=C grep -a '[^ -~]')" ]
}

@test "a hundred silent peers and garbage do not hinder a login" {
	for _ in $(seq 60); do
		sleep 8 | wire 8 >/dev/null 2>&1 3>&- &
	done
	await 5 '[ $(pgrep -cx kpopd) -ge 100 ]'
	begin=$(date +%s%N)
	run pop alice STAT QUIT
	[[ $output == *"+OK bye"* ]]
	[ $((($(date +%s%N) - begin) / 1000000)) -lt 1000 ]
	await 9 '! pgrep -x kpopd >/dev/null'
}

# bats test_tags=catalogue:14,promise:1
@test "bits of a good AP-REQ flipped one by one let nobody in" {
	# The options and the service's name in front are protected by nothing,
	# and need not be: the key decides.
	apreq pop/mail.kpopd.test >"$WORLD/good"
	sealed=$(($(grep -abo mail.kpopd.test "$WORLD/good" | head -n 1 |
	    cut -d: -f1) + 45))
	size=$(stat -c %s "$WORLD/good")
	[ $((size - sealed)) -gt 300 ]
	log_mark
	# The long form takes each bit of each byte.
	if long; then step=1; else step=73; fi
	sent=0
	for bit in $(seq 0 $step $((size * 8 - 1))); do
		at=$((bit / 8))
		apreq pop/mail.kpopd.test >"$WORLD/whole"
		perl \
		    -0777 -pe 'BEGIN { $bit = shift; $at = int($bit / 8) } substr($_, $at, 1) = chr(ord(substr($_, $at, 1)) ^ (1 << $bit % 8)) if $at < length' \
		    "$bit" "$WORLD/whole" >"$WORLD/bad"
		# One may be shorter than the first was; nothing is flipped
		# behind its end.
		! cmp -s "$WORLD/bad" "$WORLD/whole" || continue
		sent=$((sent + 1))
		run \
		    wire_hex < <(versions; framed \
			<"$WORLD/bad"; printf 'USER bob\r\nPASS x\r\n')
		[ "$at" -lt "$sealed" ] ||
		    [[ $output == 00*7e* && $output != *2b4f4b* ]] ||
		    { echo "octet $at: $output"; return 1; }
	done
	# Each has its line: Kerberos does not take it, or takes the ticket that
	# it is all the same, and bob's mailbox is not alice's.
	log_count $sent ' refused peer=[^ ]+:[0-9]+ reason="(Kerberos" error="|not permitted to be this user" user=bob )'
	log_count $sent .
	points=$sent
	points_are_good "flipped bits" 50
}

# bats test_tags=catalogue:15
@test "an AP-REQ that nests a hundred thousand times is refused" {
	run wire_hex < <(versions; perl -e 'print "\x30\x80" x 32768' | framed)
	[[ $output == 00*7e* ]]
	run \
	    wire_hex < <(versions; perl -e \
		'print "\x6e\x80" . "\x30\x80" x 32000' | framed)
	[[ $output == 00*7e* ]]
	log_count 2 'refused .*reason="Kerberos" error="'
	log_count 2 .
}

@test "however often a message that is gone is asked for, the log has one line of it" {
	for format in mbox maildir; do
		if [ $format = maildir ]; then
			server_stop
			server_start -m 'maildir:~/Maildir'
			su alice -c 'umask 077; mkdir -p ~/Maildir/new ~/Maildir/cur ~/Maildir/tmp'
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
		# Not all at once: the answers are read as the commands are
		# said.
		for _ in $(seq 20); do
			for _ in $(seq 50); do pop_say "RETR 1"; done
			for _ in $(seq 50); do
				pop_hear '^-ERR \[SYS/TEMP\] another program changed the mailbox$'
			done
		done
		pop_ask QUIT
		pop_hear_end
		log_has 'logout '
		log_count 1 'failed .*what="reading message 1" error="another program changed the mailbox" more=0$'
	done
	rm -r /home/alice/Maildir
	server_stop
	server_start -t 5
}
