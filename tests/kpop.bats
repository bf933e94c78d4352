#!/usr/bin/env bats
# Checks the exchange before POP3: which tickets kpopd accepts, and what it
# answers to a client that does not speak KPOP with Kerberos 5.

load helpers/all
load helpers/replay

setup_file() { server_start -t 30:600; }

# No test of this file may change a mailbox.
setup() {
	begin_test
	mbox one two | store alice
	spool_keep
}

service=pop/mail.kpopd.test
greeting='2b4f4b20' # "+OK "

# is_krb_error HEX: returns true if these bytes accept the versions and then
# contain a KRB-ERROR ([APPLICATION 30]) and no greeting.
is_krb_error() {
	[[ $1 == 00*7e* && ${1:10:2} == 7e && $1 != *"$greeting"* ]] ||
	    { echo "the server sent $1"; return 1; }
}

# is_greeting HEX: returns true if these bytes accept the versions and the
# ticket, and the greeting follows at once, without an AP-REP.
is_greeting() {
	[[ $1 == 0000000000"$greeting"* ]] ||
	    { echo "the server sent $1"; return 1; }
}

# short_deadline SECONDS: starts a server with this login deadline.
short_deadline() {
	server_stop
	server_start -t "$1:600"
}

# send_at_once: sends standard input in one write, because the server may close
# the connection before a second write. Prints what the server sends, in
# hexadecimal.
send_at_once() {
	local file="$WORLD/at-once"
	cat >"$file"
	timeout 10 socat -b 131072 -t 10 - TCP:127.0.0.1:1109 <"$file" |
	    od -An -v -tx1 | tr -d ' \n'
}

# refuses_bytes FILE [ERROR]: sends this AP-REQ. Returns true if the server
# answers with a KRB-ERROR and logs exactly one line. The line must be a refusal
# with ERROR, an error of libkrb5.
refuses_bytes() {
	log_mark
	run send_at_once < <(versions; framed <"$1"
	    printf 'USER alice\r\nPASS x\r\nDELE 1\r\nQUIT\r\n')
	is_krb_error "$output" &&
	    log_has "refused peer=127\.0\.0\.1:[0-9]+ reason=\"Kerberos\" error=\"[^\"]*${2-}" &&
	    log_count 1 .
}

# refuses_ticket SERVICE [ERROR [APREQ-OPTION ...]]: sends an AP-REQ with the
# test's ticket. Returns true if refuses_bytes returns true.
refuses_ticket() {
	apreq "${@:3}" "$1" >"$WORLD/refused" &&
	    refuses_bytes "$WORLD/refused" "${2-}"
}

# takes_ticket SERVICE [APREQ-OPTION ...]: sends an AP-REQ with the test's
# ticket. Returns true if the server accepts it.
takes_ticket() {
	run send_at_once \
	    < <(versions; apreq "${@:2}" "$1" | framed; printf 'QUIT\r\n')
	is_greeting "$output"
}

@test "kpopd accepts a ticket for pop/, proves its identity, and sends a greeting without an APOP timestamp" {
	realm_login alice
	pop_open
	pop_hear '^\+OK '
	[[ $heard != *"<"* ]]
	pop_ask QUIT
	pop_hear_end
	log_lacks 'fatal|failed'
}

@test "kpopd accepts a ticket for pop3/, the service that Emacs' movemail asks for" {
	realm_login alice
	run kpopc -s pop3/mail.kpopd.test mail.kpopd.test \
	    < <(printf 'USER alice\r\nPASS x\r\nQUIT\r\n')
	[ "$status" -eq 0 ]
	log_has 'login .*service=pop3/mail.kpopd.test@KPOPD.TEST'
}

@test "kpopd answers an AP-REQ without the mutual flag with four zero bytes and no AP-REP" {
	realm_login alice
	takes_ticket $service
}

# bats test_tags=catalogue:28
@test "kpopd serves a client that sends versions, ticket, USER, PASS and commands in one write" {
	realm_login alice
	{
		versions
		apreq -m $service | framed
		printf 'USER alice\r\nPASS x\r\nSTAT\r\nUIDL 2\r\nQUIT\r\n'
	} >"$WORLD/all"
	wire <"$WORLD/all" | tr -d '\r' >"$WORLD/answer"
	grep -aq '^+OK 2 ' "$WORLD/answer"
	[ "$(tail -n 1 "$WORLD/answer")" = "+OK bye, 2 messages left" ]
	log_has 'logout .*reason=quit retrieved=0 octets=0 topped=0 deleted=0 left=2 '
	log_only ' log(in|out) '
}

@test "kpopd serves a client that sends one byte at a time" {
	realm_login alice
	{
		versions
		apreq $service | framed
		printf 'USER alice\r\nPASS x\r\nQUIT\r\n'
	} >"$WORLD/all"
	trickle 0.001 <"$WORLD/all" | wire | tail -n 1 | grep -aq '^+OK bye, 2 '
}

# wire_text: prints the same as wire, without the NULs.
wire_text() {
	wire | tr -d '\0'
}

# bats test_tags=catalogue:16-2
@test "kpopd refuses an AP-REQ in KPOP that was made for AUTH GSSAPI" {
	realm_login alice
	run wire_text < <(versions; apreq -g $service | framed
	    printf 'USER alice\r\nPASS x\r\nQUIT\r\n')
	[[ $output != *+OK* ]]
	log_has 'refused peer=[^ ]* reason="Kerberos" error="Inappropriate type of checksum in message"'
	log_only 'refused '
	run wire_text < <(versions; apreq $service | framed
	    printf 'USER alice\r\nPASS x\r\nQUIT\r\n')
	[[ $output == *"+OK bye, 2 messages left"* ]]
}

# bats test_tags=catalogue:16-1,promise:1
@test "kpopd refuses a ticket for another service with a KRB-ERROR" {
	realm_login alice
	for other in host/mail.kpopd.test imap/mail.kpopd.test; do
		run wire_hex < <(versions; apreq $other | framed)
		is_krb_error "$output"
		# The text of a KRB-ERROR ends with a NUL.
		[[ $output != 0000000000* && $output == *00 ]]
	done
	log_count 2 'refused peer=127\.0\.0\.1:[0-9]+ reason="Kerberos" error="'
	log_only 'refused '
	run kpopc -s host/mail.kpopd.test mail.kpopd.test
	[ "$status" -eq 1 ]
	[[ $output == *"refused the ticket"* ]]
}

# bats test_tags=catalogue:20-4
@test "a ticket of a trusted realm opens a mailbox only if the user's .k5login names the principal" {
	realm_other_start
	realm_login eve@OTHER.TEST
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

# bats test_tags=catalogue:16-3
@test "kpopd refuses a ticket for its own name in another realm, whose key it does not have" {
	realm_other_start
	admin "addprinc -randkey $service@OTHER.TEST" -r OTHER.TEST
	realm_login eve@OTHER.TEST
	refuses_ticket "$service@OTHER.TEST"
}

# bats test_tags=catalogue:19-1
@test "kpopd refuses an AP-REQ that is sent a second time, also from another address" {
	realm_login alice
	{ versions; apreq $service | framed; printf 'QUIT\r\n'; } >"$WORLD/once"
	is_greeting "$(wire_hex <"$WORLD/once")"
	for _ in 1 2 3; do
		is_krb_error "$(wire_hex <"$WORLD/once")"
	done
	is_krb_error "$(timeout 10 socat -t 10 - \
	    TCP:127.0.0.1:1109,bind=127.0.0.7 <"$WORLD/once" |
	    od -An -v -tx1 | tr -d ' \n')"
	log_count 4 'refused .*reason="Kerberos" error="Request is a replay"'
	log_has 'refused peer=127\.0\.0\.7:.* error="Request is a replay"'
}

# bats test_tags=catalogue:19-9
@test "kpopd accepts an AP-REQ once if ten connections send it at the same time" {
	realm_login alice
	cache_is_old
	{ versions; apreq $service | framed; printf 'QUIT\r\n'; } >"$WORLD/same"
	senders=()
	for i in $(seq 10); do
		wire_hex <"$WORLD/same" >"$WORLD/same.$i" 3>&- &
		senders+=($!)
	done
	wait "${senders[@]}" || true
	[ "$(grep -l "^0000000000$greeting" "$WORLD"/same.* | wc -l)" -eq 1 ]
	[ "$(grep -l '^00000000..7e' "$WORLD"/same.* | wc -l)" -eq 9 ] ||
	    { cat "$WORLD"/same.*; log_lines; return 1; }
	log_count 9 'refused .*reason="Kerberos" error="Request is a replay"'
}

# bats test_tags=catalogue:81-2
@test "neither krb5.conf nor the environment can turn the replay cache off" {
	sed 's/\[libdefaults\]/&\n default_rcache_name = none:/' \
	    /etc/krb5.conf >"$WORLD/none.conf"
	realm_login alice
	server_stop
	server_env="KRB5_CONFIG=$WORLD/none.conf KRB5RCACHENAME=none:"
	server_env+=" KRB5RCACHETYPE=none TMPDIR=/nowhere"
	server_env+=" KRB5_TRACE=/run/sanitizer/trace"
	server_start
	{ versions; apreq $service | framed; printf 'QUIT\r\n'; } >"$WORLD/once"
	is_greeting "$(wire_hex <"$WORLD/once")"
	is_krb_error "$(wire_hex <"$WORLD/once")"
	log_has 'refused .*error="Request is a replay"'
	[ ! -e /run/sanitizer/trace ]
}

# bats test_tags=catalogue:17-1,promise:1
@test "kpopd refuses an expired ticket, and an authenticator older than the clock skew that krb5.conf permits" {
	sed 's/\[libdefaults\]/&\n clockskew = 1/' /etc/krb5.conf \
	    >"$WORLD/skew.conf"
	server_stop
	server_env="KRB5_CONFIG=$WORLD/skew.conf" server_start -t 20
	# The ticket expires while apreq waits. apreq makes the authenticator
	# after the ticket has expired.
	realm_login alice -l 4s
	is_krb_error \
	    "$({ versions; apreq -w 6 $service | framed; } | wire_hex)"
	realm_login alice
	apreq $service >"$WORLD/old"
	# The authenticator becomes older than the clock skew permits. The
	# ticket stays valid meanwhile.
	await_second $((EPOCHSECONDS + 2))
	is_krb_error "$({ versions; framed <"$WORLD/old"; } | wire_hex)"
	log_has 'refused .*error="Ticket expired"'
	log_has 'refused .*error="Clock skew too great"'
}

# bats test_tags=catalogue:17-2
@test "kpopd refuses a ticket that is not valid yet, and a postdated ticket that was never validated" {
	realm_login alice -s 1h -S $service
	# apreq sets its clock ahead, because libkrb5 does not use a ticket
	# before its start time.
	refuses_ticket $service "Ticket not yet valid" -o 3700
	# The start time of this ticket is within the clock skew. The ticket
	# still has the flag "invalid", because it was never validated.
	realm_logout
	realm_login alice -s 30s -S $service
	refuses_ticket $service "Ticket has invalid flag set"
}

# within SECONDS COMMAND ...: runs the command. If the command fails after
# SECONDS or more, the failure may come from the delay alone. The function then
# runs the command again, up to nine times.
within() {
	local begin
	for _ in $(seq 10); do
		begin=$SECONDS
		! "${@:2}" || return 0
		[ $((SECONDS - begin)) -ge "$1" ] || return 1
	done
	return 1
}

# bats test_tags=catalogue:18
@test "kpopd accepts a client clock that differs by up to five minutes, and refuses a larger difference" {
	realm_login alice
	cache_is_old
	# Some time passes before the server checks the client's time. That
	# reduces the difference of a fast clock, and increases the difference
	# of a slow clock.
	takes_ticket $service -o 299
	within 4 takes_ticket $service -o -296
	within 4 refuses_ticket $service "Clock skew too great" -o 305
	# The client's libkrb5 does not use a ticket whose start time is more
	# than five minutes after its own clock. So wait until the ticket is two
	# seconds old.
	sleep 2
	refuses_ticket $service "Clock skew too great" -o -301
}

# bats test_tags=catalogue:20-1,promise:1
@test "kpopd refuses a ticket whose key version or encryption type the keytab does not have" {
	local aes128=aes128-cts-hmac-sha256-128:normal
	local aes256=aes256-cts-hmac-sha1-96:normal
	admin "addprinc -randkey pop/kvno.kpopd.test"
	admin "ktadd -k $WORLD/server.keytab pop/kvno.kpopd.test"
	admin "addprinc -randkey pop/type.kpopd.test"
	admin "ktadd -k $WORLD/server.keytab -e $aes128 pop/type.kpopd.test"
	realm_login alice
	takes_ticket pop/kvno.kpopd.test
	takes_ticket pop/type.kpopd.test
	# The realm gets new keys, but the keytab keeps the old keys.
	admin "cpw -randkey pop/kvno.kpopd.test"
	admin "cpw -randkey -e $aes256 pop/type.kpopd.test"
	realm_login alice
	refuses_ticket pop/kvno.kpopd.test
	refuses_ticket pop/type.kpopd.test
	admin "ktremove -k $WORLD/server.keytab pop/kvno.kpopd.test"
	admin "ktremove -k $WORLD/server.keytab pop/type.kpopd.test"
}

# bats test_tags=catalogue:20-2
@test "kpopd refuses a ticket that claims DES, RC4 or an unknown encryption type" {
	realm_login alice
	for type in 1 2 3 16 23 99; do
		apreq $service >"$WORLD/good"
		# The first EncryptedData is in the ticket. Its type is 18,
		# which is encoded as [0] INTEGER.
		type=$type perl -0777 -pe '
		    s/\xa0\x03\x02\x01\K\x12(?=\xa1)/chr $ENV{type}/es
		' "$WORLD/good" >"$WORLD/bad"
		[ "$(cmp -l "$WORLD/good" "$WORLD/bad" | wc -l)" -eq 1 ]
		refuses_bytes "$WORLD/bad"
	done
}

# bats test_tags=catalogue:20-5,promise:1
@test "kpopd refuses principals with odd characters or long names, and logs them in printable characters" {
	# odd_login NAME: makes the principal, and gets a ticket for it.
	odd_login() {
		realm_logout
		admin "addprinc -randkey $1"
		admin "ktadd -k $WORLD/keytabs/odd.keytab $1"
		# Ask for the service's ticket without a TGT, because the KDC
		# refuses the TGT of some of these principals.
		kinit -k -t "$WORLD/keytabs/odd.keytab" -S $service "$1"
	}
	for name in 'alice\@KPOPD.TEST' 'alice\nx' 'alice\0' 'alice\0x' \
	    '\0alice' 'alice\\' 'alice/x' "$(printf 'alice%0400d' 0)"; do
		odd_login "$name"
		log_mark
		run pop alice "DELE 1" QUIT
		[ "${lines[-1]}" = \
		    "-ERR [AUTH] this ticket does not open that mailbox" ] ||
		    { echo "$name: $output"; return 1; }
		log_has 'refused .*reason="(not permitted to be this user|a NUL in the principal)" user=alice principal=[!-~]+( error="/home/alice/\.k5login: [ -~]+")?$'
		log_count 1 .
	done
	# kpopd refuses a longer principal as malformed.
	odd_login "$(printf 'alice%01019d' 0)"
	refuses_ticket $service "Malformed representation of principal"
}

# bats test_tags=catalogue:7,catalogue:8,catalogue:9,catalogue:10
@test "kpopd answers a wrong sendauth version with the single byte 1, and a wrong application version with the byte 2" {
	[ "$(versions KRB5_SENDAUTH_V0.9 | wire_hex)" = 01 ]
	[ "$(versions KRB5_SENDAUTH_V1.00 | wire_hex)" = 01 ]
	[ "$({ u32 0; versions; } | wire_hex)" = 01 ]
	# The NUL at the end is part of the version.
	[ "$({
		printf KRB5_SENDAUTH_V1.0 | framed
		printf 'KPOPV1.0\0' | framed
	} | wire_hex)" = 01 ]
	[ "$({
		printf KRB5_SENDAUTH_V1.0x | framed
		printf 'KPOPV1.0\0' | framed
	} | wire_hex)" = 01 ]
	log_count 5 \
	    'refused peer=127\.0\.0\.1:[0-9]+ reason="wrong sendauth version"$'
	[ "$(versions KRB5_SENDAUTH_V1.0 KPOPV0.1 | wire_hex)" = 02 ]
	[ "$(versions KRB5_SENDAUTH_V1.0 '' | wire_hex)" = 02 ]
	[ "$(versions KRB5_SENDAUTH_V1.0 "$(printf '%065535d' 0)" | wire_hex)" \
	    = 02 ]
	[ "$({ printf 'KRB5_SENDAUTH_V1.0\0' | framed; u32 0; } | wire_hex)" = \
	    02 ]
	[ "$({
		printf 'KRB5_SENDAUTH_V1.0\0' | framed
		printf KPOPV1.0x | framed
	} | wire_hex)" = 02 ]
	log_count 5 'refused peer=127\.0\.0\.1:[0-9]+ reason="wrong application version"$'
	log_count 10 .
}

# bats test_tags=catalogue:4,catalogue:5,catalogue:6,catalogue:12,promise:5
@test "kpopd refuses a length out of range before it has read that many bytes" {
	for n in 0 65537 2147483647 2147483648 4294967295; do
		log_mark
		run wire_hex < <(versions; u32 "$n"; head -c 100000 /dev/zero)
		is_krb_error "$output"
		log_has "refused .*reason=\"AP-REQ of $n bytes, not of 1 to 65536\"\$"
		log_count 1 .
	done
	for n in 2147483647 2147483648 4294967295; do
		log_mark
		[ -z "$({ u32 "$n"; } | wire_hex)" ]
		log_has 'refused .*reason="unknown protocol"$'
		[ "$({ printf 'KRB5_SENDAUTH_V1.0\0' | framed; u32 "$n"; } |
		    wire_hex)" = 02 ]
		log_has 'refused .*reason="wrong application version"$'
		log_count 2 .
	done
}

@test "kpopd refuses random bytes of any length in place of the AP-REQ" {
	for n in 1 2 10 1000 65536; do
		head -c "$n" /dev/urandom >"$WORLD/garbage"
		refuses_bytes "$WORLD/garbage"
	done
}

# all_points SIZE: prints numbers from 0 to SIZE - 1. For each number, a client
# stops after that many bytes. A long test run gets all numbers. A short run
# gets all numbers within the versions, and every 13th number after the
# versions.
all_points() {
	seq 0 45
	seq 46 "$(if long; then echo 1; else echo 13; fi)" $(($1 - 2))
	echo $(($1 - 1))
}

# peers_end_early HOW: makes a connection for each number of all_points, and
# sends that many bytes of the exchange. Then ends the connection by HOW
# (tests/programs/peers.pl). Returns true if the server has answered nothing
# except the versions, which take 36 bytes. Sets $points to the number of
# connections.
peers_end_early() {
	{ versions; apreq $service | framed; } >"$WORLD/whole"
	all_points "$(stat -c %s "$WORLD/whole")" >"$WORLD/points"
	points=$(wc -l <"$WORLD/points")
	peers "$1" "$WORLD/whole" $(cat "$WORLD/points") >"$WORLD/answers"
	[ "$(wc -l <"$WORLD/answers")" -eq "$points" ]
	awk '$1 < 36 ? $2 != "" : $2 != "00" { print; bad = 1 }
	    END { exit bad }' "$WORLD/answers"
}

# bats test_tags=catalogue:13
@test "kpopd sends nothing more to a client that closes the connection after any byte of the exchange" {
	realm_login alice
	peers_end_early end
	log_count 1 'closed .*reason="before the first byte"$'
	log_count $((points - 1)) \
	    'refused .*reason="closed during the exchange"$'
	log_only ' refused | closed '
	points_are_good "connections closed early" 60
}

# bats test_tags=catalogue:3
@test "a connection that is reset after any byte of the exchange leaves one log line and no process" {
	realm_login alice
	peers_end_early reset
	kpopd_ends 5
	log_count "$points" '(closed .*reason="before the first byte|refused .*reason="closed during the exchange)"$'
	log_only ' refused | closed '
	points_are_good "connections reset early" 60
}

# bats test_tags=catalogue:11
@test "kpopd logs in no client whose reading side is shut before the answer" {
	realm_login alice
	versions >"$WORLD/part.1"
	{ versions; apreq $service | framed; } >"$WORLD/part.2"
	{
		versions
		apreq $service | framed
		printf 'USER alice\r\nPASS x\r\nDELE 1\r\nQUIT\r\n'
	} >"$WORLD/part.3"
	# If the connection is a socket pair, the kernel refuses even the first
	# byte of the answer. krb5_recvauth alone would not notice the error.
	for n in 1 2 3; do
		env ${SANITIZER-} \
		    perl "$BATS_TEST_DIRNAME/programs/half-open.pl" \
		    "$WORLD/part.$n" "$KPOPD_BUILD/kpopd" -d "$state" \
		    -k "$WORLD/server.keytab"
	done
	log_count 1 'refused .*reason="closed during the exchange"$'
	log_count 2 'refused .*reason="no login: lost"$'
	log_count 3 .
}

@test "kpopd answers a Kerberos 4 client with an -ERR line, which the client can show" {
	run wire < <(printf 'AUTHV0.1KPOPV0.1'; u32 10; printf 0123456789)
	[[ $output == "-ERR Kerberos 4"* ]]
	run wire < <(printf '58 0123456789')
	[[ $output == "-ERR Kerberos 4"* ]]
	log_count 2 'refused .*reason="Kerberos 4 client"$'
	log_count 2 .
}

# bats test_tags=catalogue:29-1
@test "kpopd answers that this is KPOP to a POP3 client, and to fetchmail's QUIT after a failed exchange" {
	run wire < <(printf 'CAPA\r\n')
	[[ $output == "-ERR this is KPOP"* ]]
	log_has 'refused .*reason="POP3 client without KPOP"$'
	run wire < <(printf 'QUIT\r\n')
	[[ $output == "-ERR this is KPOP"* ]]
	log_has 'refused .*reason="POP3 QUIT'
	log_count 2 refused
	# No POP3 client begins with DELE.
	run wire < <(printf 'DELETE / HTTP/1.1\r\n\r\n')
	[[ $output == "-ERR this is KPOP"* ]]
	log_has 'refused .*reason="unknown protocol"$'
}

quit="POP3 QUIT, as after a ticket that the client could not get"
pop3="POP3 client without KPOP"
this_is_kpop=2d4552522074686973206973204b504f50 # "-ERR this is KPOP"
kerberos_4=2d455252204b65726265726f732034 # "-ERR Kerberos 4"

# bats test_tags=catalogue:29-2
@test "kpopd logs which other protocol a client speaks, before, between or after the versions" {
	local reason text kind
	while IFS=: read -r reason text; do
		for kind in before between after; do
			log_mark
			run wire_hex < <(case $kind in
			    between) printf 'KRB5_SENDAUTH_V1.0\0' | framed ;;
			    after) versions ;;
			    esac; printf "$text")
			# The log line contains no word of the client's text.
			log_has "refused peer=127\\.0\\.0\\.1:[0-9]+ reason=\"$reason\"\$"
			log_count 1 .
			case $kind in
			between) [ "$output" = 02 ] ;;
			after) is_krb_error "$output" ;;
			*)
				[[ -z $output || $output == "$this_is_kpop"* ||
				    $output == "$kerberos_4"* ]]
				;;
			esac || { echo "$text, $kind: $output"; return 1; }
		done
	done <<-END
		$quit:QUIT\r\n
		$quit:quit\r\n
		$pop3:USER alice\r\n
		$pop3:user alice\r\nPASS secret\r\n
		$pop3:CAPA\r\n
		$pop3:AUTH\r\n
		$pop3:AUTH GSSAPI YIIC\r\n
		$pop3:auth plain\r\n
		$pop3:STLS\r\n
		$pop3:APOP alice 0\r\n
		$pop3:NOOP\n
		$pop3:UTF8\r\n
		Kerberos 4 client:AUTHV0.1KPOPV0.1
		TLS client:\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03
		HTTP client:GET / HTTP/1.1\r\nHost\x3a x\r\n\r\n
		HTTP client:HEAD /\r\n
		HTTP client:CONNECT x\x3a25 HTTP/1.0\r\n
		SSH client:SSH-2.0-x\r\n
		SMTP client:EHLO x\r\n
		PROXY header where none is taken:PROXY TCP4 192.0.2.7 192.0.2.1 1 2\r\n
		PROXY header where none is taken:\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c
	END
}

@test "kpopd distinguishes AUTH from a Kerberos 4 client even if the word comes in two segments" {
	# The pause puts the bytes into two segments.
	run wire < <(printf AUTH; sleep 0.3; printf '\r\n')
	[[ $output == "-ERR this is KPOP"* ]]
	run wire < <(printf AUTH; sleep 0.3; printf 'V0.1')
	[[ $output == "-ERR Kerberos 4"* ]]
	run wire < <(printf AUTH)
	log_count 1 'refused .*reason="POP3 client without KPOP"$'
	log_count 1 'refused .*reason="Kerberos 4 client"$'
	log_count 1 'refused .*reason="closed during the exchange"$'
	log_count 3 .
}

@test "kpopd answers a TLS ClientHello by closing the connection" {
	run wire_hex < <(printf '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03')
	[ -z "$output" ]
	log_has 'refused .*reason="TLS client"'
}

# bats test_tags=catalogue:1
@test "kpopd answers that this is KPOP to a silent client at the login deadline" {
	short_deadline 4
	run hear_only 20
	[[ $output == "-ERR this is KPOP"* ]]
	log_has 'refused .*reason="no byte before the login deadline"$'
	log_count 1 .
}

# bats test_tags=catalogue:2,promise:2
@test "bytes that trickle in do not extend the login deadline, before or after the ticket" {
	short_deadline 6
	realm_login alice
	{ versions; apreq $service | framed; } >"$WORLD/exchange"
	begin=$(date +%s%N)
	[ -z "$(versions | trickle 0.6 | wire_hex 40 2>/dev/null)" ]
	log_has \
	    'refused .*reason="exchange not complete at the login deadline"$'
	{
		cat "$WORLD/exchange"
		for _ in {1..100}; do printf U; sleep 0.2; done
	} 2>/dev/null | wire 40 2>/dev/null | tr -d '\0' >"$WORLD/answer"
	[ "$(tr -d '\r' <"$WORLD/answer")" = "+OK kpopd at your service" ]
	log_has 'refused .*reason="no login: idle"$'
	log_count 2 .
	[ $((($(date +%s%N) - begin) / 1000000000)) -lt 24 ]
}

@test "permitted_enctypes in krb5.conf applies however late the client sends its AP-REQ" {
	realm_login alice
	# Only the server reads this krb5.conf, which does not permit the
	# encryption type of the session key.
	{
		cat /etc/krb5.conf
		printf '[libdefaults]\n\tpermitted_enctypes = aes128-cts-hmac-sha256-128\n'
	} >"$WORLD/strict.conf"
	server_stop
	server_env="KRB5_CONFIG=$WORLD/strict.conf" server_start
	for pause in 0 1.5; do
		run wire_hex \
		    < <(versions; sleep $pause; apreq $service | framed)
		echo "after $pause s:"
		is_krb_error "$output"
	done
	log_count 2 'refused .*reason="Kerberos" error='
}

# bats test_tags=fault:16-4,promise:2
@test "the monitor kills a pre-auth process that hangs at the login deadline" {
	short_deadline 10
	realm_login alice
	pop_open
	pop_hear '^\+OK'
	kill -STOP "$(child_pid)"
	pop_hear_end 20
	log_has 'refused .*reason="login deadline, pre-auth process killed"'
	kpopd_ends 10
}

@test "kpopd starts no session if the pre-auth process dies" {
	realm_login alice
	pop_open
	pop_hear '^\+OK'
	pop_ask "USER alice"
	kill -SEGV "$(child_pid)"
	pop_hear_end 3
	log_has 'fatal .*pre-auth process was ended by signal 11'
	log_lacks ' login '
}

@test "a refusal before the login has at most 77 bytes, and contains neither % nor <" {
	for words in 'AUTHV0.1xxxxxxxx' 'CAPA' 'QUIT' '12 x'; do
		run wire < <(printf '%s\r\n' "$words")
		[[ $output == "-ERR "* ]]
		[ ${#output} -lt 78 ]
		[[ $output != *[%\<]* && $output != *lock* &&
		    $output != *wait* ]]
	done
}
