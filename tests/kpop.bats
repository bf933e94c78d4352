#!/usr/bin/env bats
# The exchange before POP3: whose ticket is taken, and what those hear who do not speak Kerberos 5 KPOP.

load helpers/all

setup_file() { server_start -t 2:600; }

service=pop/mail.kpopd.test
greeting='2b4f4b20' # "+OK "

@test "a ticket for pop/ is taken, the server proves itself, and the greeting has no <...>" {
	realm_login alice
	pop_open
	pop_hear '^\+OK '
	[[ $heard != *"<"* ]]
	pop_ask QUIT
	pop_hear_end
	log_lacks 'fatal|failed'
}

@test "a ticket for pop3/, as Emacs' movemail has it, is taken" {
	realm_login alice
	run bash -c "printf 'USER alice\r\nPASS x\r\nQUIT\r\n' | '$KPOPD_BUILD/kpopc' -s pop3/mail.kpopd.test mail.kpopd.test"
	[ "$status" -eq 0 ]
	log_has 'login .*service=pop3/mail.kpopd.test@KPOPD.TEST'
}

@test "without the mutual flag there is no AP-REP, only four zero octets" {
	realm_login alice
	run bash -c "{ $(declare -f versions framed u32 apreq); KPOPD_BUILD=$KPOPD_BUILD; versions; apreq $service | framed; printf 'QUIT\r\n'; } | socat -t5 - TCP:127.0.0.1:1109 | od -An -v -tx1 | tr -d ' \n'"
	echo "$output"
	[[ $output == 0000000000"$greeting"* ]]
}

@test "everything may come in one write: versions, ticket, USER, PASS and commands" {
	mbox one two | store alice
	realm_login alice
	{ versions; apreq -m $service | framed
	  printf 'USER alice\r\nPASS x\r\nSTAT\r\nUIDL 2\r\nQUIT\r\n'; } >"$WORLD/all"
	wire <"$WORLD/all" | tr -d '\r' >"$WORLD/answer"
	grep -aq '^+OK 2 ' "$WORLD/answer"
	[ "$(tail -n 1 "$WORLD/answer")" = "+OK bye, 2 messages left" ]
}

@test "every octet may come by itself" {
	mbox one | store alice
	realm_login alice
	{ versions; apreq $service | framed; printf 'USER alice\r\nPASS x\r\nQUIT\r\n'; } >"$WORLD/all"
	trickle 0.001 <"$WORLD/all" | wire | tail -n 1 | grep -aq '^+OK bye, 1 '
}

@test "a ticket for another service is refused with a KRB-ERROR" {
	realm_login alice
	for other in host/mail.kpopd.test imap/mail.kpopd.test; do
		run wire_hex < <(versions; apreq $other | framed)
		[[ $output == 00* && $output != 0000000000* ]]
		# KRB-ERROR is [APPLICATION 30]; its text ends in NUL.
		[[ ${output:10:2} == 7e && $output == *00 ]]
	done
	log_has 'refused peer=127\.0\.0\.1:[0-9]+ reason="Kerberos"'
	run kpopc -s host/mail.kpopd.test mail.kpopd.test
	[ "$status" -eq 1 ]
	[[ $output == *"refused the ticket"* ]]
}

@test "a ticket of another, trusted realm is taken, but opens nobody's mailbox by itself" {
	realm_other_start
	kinit -k -t "$WORLD/keytabs/eve@OTHER.TEST.keytab" eve@OTHER.TEST
	run pop alice QUIT
	[[ $output == *"-ERR [AUTH]"* ]]
	log_has 'refused .*principal=eve@OTHER.TEST'
	echo eve@OTHER.TEST >/home/alice/.k5login
	chown alice /home/alice/.k5login
	run pop alice QUIT
	rm /home/alice/.k5login
	[[ $output == *"+OK bye"* ]]
	log_has 'login .*principal=eve@OTHER.TEST .*by=k5login'
}

@test "an AP-REQ shown a second time is refused, also from another connection at once" {
	realm_login alice
	apreq $service | framed >"$WORLD/once"
	[[ $({ versions; cat "$WORLD/once"; printf 'QUIT\r\n'; } | wire_hex) == 0000000000"$greeting"* ]]
	for _ in 1 2 3; do
		{ versions; cat "$WORLD/once"; printf 'QUIT\r\n'; } | wire_hex >"$WORLD/again"
		[[ $(cat "$WORLD/again") != *"$greeting"* ]]
	done
	log_has 'error="Request is a replay"'
}

@test "of many connections that show one AP-REQ at the same time, one gets in" {
	realm_login alice
	{ versions; apreq $service | framed; printf 'QUIT\r\n'; } >"$WORLD/same"
	shown=()
	for i in $(seq 10); do
		wire_hex <"$WORLD/same" >"$WORLD/same.$i" 3>&- &
		shown+=($!)
	done
	wait "${shown[@]}" || true
	[ "$(grep -l "^0000000000$greeting" "$WORLD"/same.* | wc -l)" -eq 1 ]
	[ "$(grep -l '^00000000..7e' "$WORLD"/same.* | wc -l)" -eq 9 ]
}

# with_server 'OPTIONS' ['VARIABLES'] COMMAND …: another configuration for one test.
with_server() {
	server_stop
	server_env=$2 server_start $1
	"${@:3}"
	server_stop
	server_start -t 2:600
}

@test "the replay cache cannot be turned off from outside" {
	show_twice() {
		{ versions; apreq $service | framed; printf 'QUIT\r\n'; } >"$WORLD/once"
		first=$(wire_hex <"$WORLD/once")
		second=$(wire_hex <"$WORLD/once")
		log_has 'refused .*error="Request is a replay"'
	}
	sed 's/\[libdefaults\]/&\n default_rcache_name = none:/' /etc/krb5.conf >"$WORLD/none.conf"
	realm_login alice
	with_server '' "KRB5_CONFIG=$WORLD/none.conf KRB5RCACHENAME=none: KRB5RCACHETYPE=none TMPDIR=/nowhere KRB5_TRACE=/run/sanitizer/trace" show_twice
	[[ $first == 0000000000"$greeting"* ]]
	[[ $second == 00*7e* && $second != *"$greeting"* ]]
	[ ! -e /run/sanitizer/trace ]
}

@test "a replay cache that cannot be written lets nobody in" {
	realm_login alice
	kpopc mail.kpopd.test </dev/null
	mv "$state"/gate/replay/cache "$WORLD/cache.kept"
	mkdir "$state"/gate/replay/cache
	run kpopc mail.kpopd.test </dev/null
	rmdir "$state"/gate/replay/cache
	mv "$WORLD/cache.kept" "$state"/gate/replay/cache
	[ "$status" -eq 1 ]
	log_has 'refused .*reason="Kerberos" error="[^"]*directory'
}

@test "an expired ticket and a wrong clock are refused" {
	show_old() {
		# The ticket ends while apreq waits; its authenticator is fresh.
		expired=$({ versions; apreq -w 6 $service | framed; } | wire_hex)
		realm_login alice
		# The authenticator is old; its ticket is good.
		apreq $service >"$WORLD/old"
		sleep 3
		skewed=$({ versions; framed <"$WORLD/old"; } | wire_hex)
	}
	sed 's/\[libdefaults\]/&\n clockskew = 1/' /etc/krb5.conf >"$WORLD/skew.conf"
	realm_login alice -l 4s
	with_server '-t 20' "KRB5_CONFIG=$WORLD/skew.conf" show_old
	[[ $expired == 00*7e* && $expired != *"$greeting"* ]]
	[[ $skewed == 00*7e* && $skewed != *"$greeting"* ]]
	log_begin=0
	log_has 'refused .*error="Ticket expired"'
	log_has 'refused .*error="Clock skew too great"'
}

@test "a wrong sendauth version hears 1, a wrong application version 2, and nothing more" {
	[ "$(versions KRB5_SENDAUTH_V0.9 | wire_hex)" = 01 ]
	[ "$(versions KRB5_SENDAUTH_V1.00 | wire_hex)" = 01 ]
	[ "$({ u32 0; versions; } | wire_hex)" = 01 ]
	log_has 'refused .*reason="sendauth version"'
	[ "$(versions KRB5_SENDAUTH_V1.0 KPOPV0.1 | wire_hex)" = 02 ]
	[ "$(versions KRB5_SENDAUTH_V1.0 '' | wire_hex)" = 02 ]
	[ "$(versions KRB5_SENDAUTH_V1.0 "$(printf '%060000d' 0)" | wire_hex)" = 02 ]
	# Without its NUL it is another string.
	[ "$({ printf KRB5_SENDAUTH_V1.0x | framed; printf 'KPOPV1.0\0' | framed; } | wire_hex)" = 01 ]
	log_has 'refused .*reason="application version"'
}

@test "lengths out of range are refused, and allocate nothing" {
	for n in 0 65537 2147483647 2147483648 4294967295; do
		run wire_hex < <(versions; u32 "$n"; head -c 100000 /dev/zero)
		[[ $output == 00*7e* && $output != *"$greeting"* ]]
	done
	log_has 'refused .*reason="AP-REQ of 4294967295 octets"'
	for n in 2147483647 4294967295; do
		[ -z "$({ u32 "$n"; } | wire_hex)" ]
	done
	log_has 'refused .*reason="unknown protocol"'
}

@test "garbage of all sizes in place of the AP-REQ is refused" {
	for n in 1 2 10 1000 65536; do
		run wire_hex < <(versions; head -c "$n" /dev/urandom | framed)
		[[ $output == 00*7e* && $output != *"$greeting"* ]]
	done
	log_lacks 'signal'
}

@test "a connection cut off after any octet of the exchange ends in silence" {
	realm_login alice
	{ versions; apreq $service | framed; } >"$WORLD/whole"
	size=$(stat -c %s "$WORLD/whole")
	for n in 0 1 3 4 5 22 23 24 27 28 35 36 37 39 40 41 100 $((size - 1)); do
		run wire_hex < <(head -c "$n" "$WORLD/whole")
		[[ $output != *"$greeting"* ]]
	done
	log_has 'reason="closed without a word"'
	log_has 'reason="closed during the exchange"'
	log_lacks 'fatal|signal'
}

@test "a peer whose reading side is shut before the answer gets nowhere" {
	realm_login alice
	perl -MSocket -e 'socket(S, PF_INET, SOCK_STREAM, 0); connect(S, sockaddr_in(1109, INADDR_LOOPBACK)) or die;
	    shutdown(S, 0); syswrite S, $_ for <STDIN>; sleep 1' < <(versions; apreq $service | framed; printf 'USER alice\r\nPASS x\r\n')
	log_lacks 'fatal|signal'
}

@test "Kerberos 4 clients get a line that they can show" {
	run wire < <(printf 'AUTHV0.1KPOPV0.1'; u32 10; printf 0123456789)
	[[ $output == "-ERR Kerberos 4"* ]]
	run wire < <(printf '58 0123456789')
	[[ $output == "-ERR Kerberos 4"* ]]
	log_has 'refused .*reason="Kerberos 4 client"'
}

@test "a POP3 client that speaks first is told what this is; fetchmail's QUIT after a failed exchange, too" {
	run wire < <(printf 'CAPA\r\n')
	[[ $output == "-ERR this is KPOP"* ]]
	log_has 'refused .*reason="plain POP3 client"'
	run wire < <(printf 'QUIT\r\n')
	[[ $output == "-ERR this is KPOP"* ]]
	log_has 'refused .*reason="POP3 QUIT'
}

@test "a TLS hello is answered by the end" {
	run wire_hex < <(printf '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03')
	[ -z "$output" ]
	log_has 'refused .*reason="TLS client"'
}

@test "silence, and a POP3 client that waits for a greeting, hear a line at the deadline" {
	run wire < <(sleep 3)
	[[ $output == "-ERR this is KPOP"* ]]
	log_has 'refused .*reason="silence"'
}

@test "octets that trickle in do not extend the deadline, before or after the ticket" {
	realm_login alice
	begin=$(date +%s%N)
	run wire < <(versions | trickle 0.3)
	log_has 'refused .*reason="slow exchange"'
	run wire < <(versions; apreq $service | framed; for _ in $(seq 50); do printf U; sleep 0.2; done)
	log_has 'refused .*reason="no login: idle"'
	[ $((($(date +%s%N) - begin) / 1000000000)) -lt 9 ]
}

@test "what krb5.conf permits holds however long the client takes" {
	realm_login alice
	# The server's alone, by KRB5_CONFIG: another type than the session key's.
	{ cat /etc/krb5.conf; printf '[libdefaults]\n\tpermitted_enctypes = aes128-cts-hmac-sha256-128\n'; } >"$WORLD/strict.conf"
	server_stop
	server_env="KRB5_CONFIG=$WORLD/strict.conf" server_start
	for pause in 0 1.5; do
		run wire_hex < <(versions; sleep $pause; apreq $service | framed)
		echo "after $pause s: $output"
		[[ ${output:10:2} == 7e ]] || break
	done
	log_has 'refused .*reason="Kerberos" error='
	server_stop
	server_start -t 2:600
	[[ ${output:10:2} == 7e ]]
}

@test "a gate that hangs is killed by the monitor, a second after the deadline" {
	realm_login alice
	pop_open
	pop_hear '^\+OK'
	kill -STOP "$(child_pid)"
	pop_hear_end 5
	log_has 'refused .*reason="login deadline, gate killed"'
	await 2 '! pgrep -x kpopd >/dev/null'
}

@test "a gate that dies leads to no session" {
	realm_login alice
	pop_open
	pop_hear '^\+OK'
	pop_ask "USER alice"
	kill -SEGV "$(child_pid)"
	pop_hear_end 3
	log_has 'fatal .*gate was ended by signal 11'
	log_lacks ' login '
}

@test "no refusal before the login is longer than 77 octets or has % or < in it" {
	for words in 'AUTHV0.1xxxxxxxx' 'CAPA' 'QUIT' '12 x'; do
		run wire < <(printf '%s\r\n' "$words")
		[[ $output == "-ERR "* ]]
		[ ${#output} -lt 78 ]
		[[ $output != *[%\<]* && $output != *lock* && $output != *wait* ]]
	done
}
