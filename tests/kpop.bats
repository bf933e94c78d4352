#!/usr/bin/env bats
# The exchange before POP3: whose ticket is taken, and what those hear who do
# not speak Kerberos 5 KPOP.

load helpers/all
load helpers/replay

setup_file() { server_start -t 2:600; }

# No test here may change a mailbox: none says QUIT behind DELE.
setup() {
	begin_test
	mbox one two | store alice
	spool_keep
}

service=pop/mail.kpopd.test
greeting='2b4f4b20' # "+OK "

# refuses_bytes FILE [ERROR]: this AP-REQ hears a KRB-ERROR and the end; the log
# has the one refusal, with this in libkrb5's words.
refuses_bytes() {
	log_mark
	run \
	    wire_hex < <(versions; framed \
		<"$1"; printf 'USER alice\r\nPASS x\r\nDELE 1\r\nQUIT\r\n')
	[[ $output == 00*7e* && ${output:10:2} == 7e &&
	    $output != *"$greeting"* ]] || { echo "heard $output"; return 1; }
	log_has "refused peer=127\.0\.0\.1:[0-9]+ reason=\"Kerberos\" error=\"[^\"]*${2-}"
	log_count 1 .
}

# refuses_ticket SERVICE [ERROR [APREQ-OPTION ...]]: the same for the ccache's
# ticket.
refuses_ticket() {
	apreq "${@:3}" "$1" >"$WORLD/refused"
	refuses_bytes "$WORLD/refused" "${2-}"
}

# takes_ticket SERVICE [APREQ-OPTION ...]: it does not.
takes_ticket() {
	run wire_hex \
	    < <(versions; apreq "${@:2}" "$1" | framed; printf 'QUIT\r\n')
	[[ $output == 0000000000"$greeting"* ]] ||
	    { echo "heard $output"; return 1; }
}

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
	run \
	    bash -c "printf 'USER alice\r\nPASS x\r\nQUIT\r\n' | '$KPOPD_BUILD/kpopc' -s pop3/mail.kpopd.test mail.kpopd.test"
	[ "$status" -eq 0 ]
	log_has 'login .*service=pop3/mail.kpopd.test@KPOPD.TEST'
}

@test "without the mutual flag there is no AP-REP, only four zero bytes" {
	realm_login alice
	run bash \
	    -c \
	    "{ $(declare -f versions framed u32 \
		apreq); KPOPD_BUILD=$KPOPD_BUILD; versions; apreq $service | framed; printf 'QUIT\r\n'; } | socat -t5 - TCP:127.0.0.1:1109 | od -An -v -tx1 | tr -d ' \n'"
	echo "$output"
	[[ $output == 0000000000"$greeting"* ]]
}

# bats test_tags=catalogue:28
@test "everything may come in one write: versions, ticket, USER, PASS and commands" {
	realm_login alice
	{ versions; apreq -m $service | framed
	  printf 'USER alice\r\nPASS x\r\nSTAT\r\nUIDL 2\r\nQUIT\r\n'; } \
	    >"$WORLD/all"
	wire <"$WORLD/all" | tr -d '\r' >"$WORLD/answer"
	grep -aq '^+OK 2 ' "$WORLD/answer"
	[ "$(tail -n 1 "$WORLD/answer")" = "+OK bye, 2 messages left" ]
	log_has 'logout .*reason=quit retrieved=0 octets=0 topped=0 deleted=0 left=2 '
	log_only ' log(in|out) '
}

@test "every byte may come by itself" {
	realm_login alice
	{
		versions
		apreq $service | framed
		printf 'USER alice\r\nPASS x\r\nQUIT\r\n'
	} >"$WORLD/all"
	trickle 0.001 <"$WORLD/all" | wire | tail -n 1 | grep -aq '^+OK bye, 2 '
}

# text: what wire prints, without its NULs.
text() {
	wire | tr -d '\0'
}

# bats test_tags=catalogue:16-2
@test "an AP-REQ that was made for GSSAPI is refused: what is held back of AUTH GSSAPI opens nothing here" {
	realm_login alice
	run \
	    text < <(versions; apreq -g pop/mail.kpopd.test |
		framed; printf 'USER alice\r\nPASS x\r\nQUIT\r\n')
	[[ $output != *+OK* ]]
	log_has 'refused peer=[^ ]* reason="Kerberos" error="Inappropriate type of checksum in message"'
	log_only 'refused '
	run \
	    text < <(versions; apreq pop/mail.kpopd.test |
		framed; printf 'USER alice\r\nPASS x\r\nQUIT\r\n')
	[[ $output == *"+OK bye, 2 messages left"* ]]
}

# bats test_tags=catalogue:16-1,promise:1
@test "a ticket for another service is refused with a KRB-ERROR" {
	realm_login alice
	for other in host/mail.kpopd.test imap/mail.kpopd.test; do
		run wire_hex < <(versions; apreq $other | framed)
		[[ $output == 00* && $output != 0000000000* ]]
		# KRB-ERROR is [APPLICATION 30]; its text ends in NUL.
		[[ ${output:10:2} == 7e && $output == *00 ]]
	done
	log_count 2 'refused peer=127\.0\.0\.1:[0-9]+ reason="Kerberos" error="'
	log_only 'refused '
	run kpopc -s host/mail.kpopd.test mail.kpopd.test
	[ "$status" -eq 1 ]
	[[ $output == *"refused the ticket"* ]]
}

# bats test_tags=catalogue:20-4
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

# bats test_tags=catalogue:16-3
@test "a ticket for our name in another realm, whose key is not ours, is refused" {
	realm_other_start
	admin "addprinc -randkey pop/mail.kpopd.test@OTHER.TEST" -r OTHER.TEST
	kinit -k -t "$WORLD/keytabs/eve@OTHER.TEST.keytab" eve@OTHER.TEST
	refuses_ticket "$service@OTHER.TEST"
}

# bats test_tags=catalogue:19-1
@test "an AP-REQ shown a second time is refused, also from another connection at once" {
	realm_login alice
	apreq $service | framed >"$WORLD/once"
	[[ $({ versions; cat "$WORLD/once"; printf 'QUIT\r\n'; } |
	    wire_hex) == 0000000000"$greeting"* ]]
	for _ in 1 2 3; do
		{ versions; cat "$WORLD/once"; printf 'QUIT\r\n'; } |
		    wire_hex >"$WORLD/again"
		[[ $(cat "$WORLD/again") != *"$greeting"* ]]
	done
	# From another address, too.
	{ versions; cat "$WORLD/once"; printf 'QUIT\r\n'; } |
	    timeout 10 socat -t 10 - TCP:127.0.0.1:1109,bind=127.0.0.7 |
	    od -An -v -tx1 | tr -d ' \n' >"$WORLD/again"
	[[ $(cat "$WORLD/again") == 00*7e* &&
	    $(cat "$WORLD/again") != *"$greeting"* ]]
	log_count 4 'refused .*reason="Kerberos" error="Request is a replay"'
	log_has 'refused peer=127\.0\.0\.7:.* error="Request is a replay"'
}

# bats test_tags=catalogue:19-9
@test "of many connections that show one AP-REQ at the same time, one gets in" {
	realm_login alice
	cache_is_old
	{ versions; apreq $service | framed; printf 'QUIT\r\n'; } >"$WORLD/same"
	shown=()
	for i in $(seq 10); do
		wire_hex <"$WORLD/same" >"$WORLD/same.$i" 3>&- &
		shown+=($!)
	done
	wait "${shown[@]}" || true
	[ "$(grep -l "^0000000000$greeting" "$WORLD"/same.* | wc -l)" -eq 1 ]
	[ "$(grep -l '^00000000..7e' "$WORLD"/same.* | wc -l)" -eq 9 ] ||
	    { cat "$WORLD"/same.*; log_lines; return 1; }
	log_count 9 'refused .*reason="Kerberos" error="Request is a replay"'
}

# with_server 'OPTIONS' ['VARIABLES'] COMMAND …: another configuration for one
# test.
with_server() {
	server_stop
	server_env=$2 server_start $1
	"${@:3}"
	server_stop
	server_start -t 2:600
}

# bats test_tags=catalogue:81-2
@test "the replay cache cannot be turned off from outside" {
	show_twice() {
		{
			versions
			apreq $service | framed
			printf 'QUIT\r\n'
		} >"$WORLD/once"
		first=$(wire_hex <"$WORLD/once")
		second=$(wire_hex <"$WORLD/once")
		log_has 'refused .*error="Request is a replay"'
	}
	sed 's/\[libdefaults\]/&\n default_rcache_name = none:/' \
	    /etc/krb5.conf >"$WORLD/none.conf"
	realm_login alice
	with_server '' "KRB5_CONFIG=$WORLD/none.conf KRB5RCACHENAME=none: KRB5RCACHETYPE=none TMPDIR=/nowhere KRB5_TRACE=/run/sanitizer/trace" show_twice
	[[ $first == 0000000000"$greeting"* ]]
	[[ $second == 00*7e* && $second != *"$greeting"* ]]
	[ ! -e /run/sanitizer/trace ]
}

# bats test_tags=catalogue:17-1,promise:1
@test "an expired ticket and a wrong clock are refused" {
	show_old() {
		# The ticket ends while apreq waits; its authenticator is fresh.
		expired=$({ versions; apreq -w 6 $service | framed; } |
		    wire_hex)
		realm_login alice
		# The authenticator is old; its ticket is good.
		apreq $service >"$WORLD/old"
		sleep 3
		skewed=$({ versions; framed <"$WORLD/old"; } | wire_hex)
	}
	sed 's/\[libdefaults\]/&\n clockskew = 1/' /etc/krb5.conf \
	    >"$WORLD/skew.conf"
	realm_login alice -l 4s
	with_server '-t 20' "KRB5_CONFIG=$WORLD/skew.conf" show_old
	[[ $expired == 00*7e* && $expired != *"$greeting"* ]]
	[[ $skewed == 00*7e* && $skewed != *"$greeting"* ]]
	log_begin=0
	log_has 'refused .*error="Ticket expired"'
	log_has 'refused .*error="Clock skew too great"'
}

# bats test_tags=catalogue:17-2
@test "a ticket that is not valid yet, and a postdated one that nobody has validated, are refused" {
	realm_login alice -s 1h -S $service
	# libkrb5 would not show it before its time.
	refuses_ticket $service "Ticket not yet valid" -o 3700
	# It has begun, as far as clocks can be trusted, and is marked invalid
	# all the same.
	realm_logout
	realm_login alice -s 30s -S $service
	refuses_ticket $service "Ticket has invalid flag set"
}

# bats test_tags=catalogue:18
@test "clocks may differ by five minutes and not by a second more, in both directions" {
	realm_login alice
	cache_is_old
	# What takes time on the way makes a fast clock less wrong and a slow
	# one more: four seconds' patience where that would let in or keep out.
	takes_ticket $service -o 299
	takes_ticket $service -o -296
	refuses_ticket $service "Clock skew too great" -o 305
	# The client's libkrb5 would not use a ticket that by its clock begins
	# more than five minutes from now.
	sleep 2
	refuses_ticket $service "Clock skew too great" -o -301
}

# bats test_tags=catalogue:20-1,promise:1
@test "a ticket under a key, or of a type, that the keytab does not have is refused" {
	admin "addprinc -randkey pop/kvno.kpopd.test"
	admin "ktadd -k $WORLD/server.keytab pop/kvno.kpopd.test"
	admin "addprinc -randkey pop/type.kpopd.test"
	admin "ktadd -k $WORLD/server.keytab -e aes128-cts-hmac-sha256-128:normal pop/type.kpopd.test"
	realm_login alice
	takes_ticket pop/kvno.kpopd.test
	takes_ticket pop/type.kpopd.test
	# The realm goes on to new keys, the keytab does not.
	admin "cpw -randkey pop/kvno.kpopd.test"
	admin \
	    "cpw -randkey -e aes256-cts-hmac-sha1-96:normal pop/type.kpopd.test"
	realm_login alice
	refuses_ticket pop/kvno.kpopd.test
	refuses_ticket pop/type.kpopd.test
	admin "ktremove -k $WORLD/server.keytab pop/kvno.kpopd.test"
	admin "ktremove -k $WORLD/server.keytab pop/type.kpopd.test"
}

# bats test_tags=catalogue:20-2
@test "a ticket that says it is DES, RC4 or of a type that there is not is refused" {
	realm_login alice
	for type in 1 2 3 16 23 99; do
		apreq $service >"$WORLD/good"
		# The first EncryptedData is the ticket's: [0] INTEGER 18.
		type=$type perl \
		    -0777 -pe 's/\xa0\x03\x02\x01\x12\xa1/"\xa0\x03\x02\x01" . chr($ENV{type}) . "\xa1"/es' "$WORLD/good" >"$WORLD/bad"
		[ "$(cmp -l "$WORLD/good" "$WORLD/bad" | wc -l)" -eq 1 ]
		refuses_bytes "$WORLD/bad"
	done
}

# bats test_tags=catalogue:20-5,promise:1
@test "principals with odd characters, and long ones, are nobody's user and reach the log as text" {
	odd_login() {
		realm_logout
		admin "addprinc -randkey $1"
		admin "ktadd -k $WORLD/keytabs/odd.keytab $1"
		# Not by way of a TGT, which the KDC does not take from some of
		# them.
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
		log_has 'refused .*reason="(not permitted to be this user|a NUL in the principal)" user=alice principal=[!-~]+$'
		log_count 1 .
	done
	# What is too long for us is no principal.
	odd_login "$(printf 'alice%01019d' 0)"
	refuses_ticket $service "Malformed representation of principal"
}

# bats test_tags=catalogue:7,catalogue:8,catalogue:9,catalogue:10
@test "a wrong sendauth version hears 1, a wrong application version 2, and nothing more" {
	[ "$(versions KRB5_SENDAUTH_V0.9 | wire_hex)" = 01 ]
	[ "$(versions KRB5_SENDAUTH_V1.00 | wire_hex)" = 01 ]
	[ "$({ u32 0; versions; } | wire_hex)" = 01 ]
	# Without its NUL it is another string.
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
@test "lengths out of range are refused, and allocate nothing" {
	for n in 0 65537 2147483647 2147483648 4294967295; do
		log_mark
		run wire_hex < <(versions; u32 "$n"; head -c 100000 /dev/zero)
		[[ $output == 00*7e* && ${output:10:2} == 7e &&
		    $output != *"$greeting"* ]]
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

@test "garbage of all sizes in place of the AP-REQ is refused" {
	for n in 1 2 10 1000 65536; do
		head -c "$n" /dev/urandom >"$WORLD/garbage"
		refuses_bytes "$WORLD/garbage"
	done
}

# all_points SIZE: from none to all but one of so many bytes: each in the
# versions and behind them in the long form, else some.
all_points() {
	seq 0 45
	seq 46 "$(if long; then echo 1; else echo 13; fi)" $(($1 - 2))
	echo $(($1 - 1))
}

# bats test_tags=catalogue:13
@test "a connection cut off after any byte of the exchange ends in silence" {
	realm_login alice
	{ versions; apreq $service | framed; } >"$WORLD/whole"
	all_points "$(stat -c %s "$WORLD/whole")" >"$WORLD/points"
	peers end "$WORLD/whole" $(cat "$WORLD/points") >"$WORLD/heard"
	# The versions, 36 bytes, have their answer; nothing else has.
	awk '$1 < 36 ? $2 != "" : $2 != "00" { print; bad = 1 } END { exit bad }' "$WORLD/heard"
	log_count 1 'refused .*reason="closed before the first byte"$'
	log_count $(($(wc -l <"$WORLD/points") - 1)) \
	    'refused .*reason="closed during the exchange"$'
	log_only ' refused '
	points=$(wc -l <"$WORLD/points")
	points_are_good "cuts of the exchange" 60
}

# bats test_tags=catalogue:3
@test "a connection reset after any byte of the exchange leaves a line in the log and no process" {
	realm_login alice
	{ versions; apreq $service | framed; } >"$WORLD/whole"
	all_points "$(stat -c %s "$WORLD/whole")" >"$WORLD/points"
	peers reset "$WORLD/whole" $(cat "$WORLD/points") >"$WORLD/heard"
	awk '$1 < 36 ? $2 != "" : $2 != "00" { print; bad = 1 } END { exit bad }' "$WORLD/heard"
	await 5 '! pgrep -x kpopd >/dev/null'
	log_count \
	    "$(wc -l \
		<"$WORLD/points")" 'refused .*reason="closed (before the first byte|during the exchange)"$'
	log_only ' refused '
	points=$(wc -l <"$WORLD/points")
	points_are_good "resets of the exchange" 60
}

# bats test_tags=catalogue:11
@test "a peer whose reading side is shut before the answer gets nowhere" {
	realm_login alice
	versions >"$WORLD/part.1"
	{ versions; apreq $service | framed; } >"$WORLD/part.2"
	{
		versions
		apreq $service | framed
		printf 'USER alice\r\nPASS x\r\nDELE 1\r\nQUIT\r\n'
	} >"$WORLD/part.3"
	# On a socket pair the first byte of the answer cannot be written: where
	# krb5_recvauth says that all is well.
	for n in 1 2 3; do
		env ${SANITIZER-} perl \
		    -MSocket -e 'socketpair(C, S, AF_UNIX, SOCK_STREAM, 0) or die; open F, "<", shift; undef $/; syswrite C, <F>;
		    shutdown(C, 0); unless (fork) { open STDIN, "<&S"; open STDOUT, ">&S"; open STDERR, ">&S"; close C; exec @ARGV } close S; wait' \
		    "$WORLD/part.$n" "$KPOPD_BUILD/kpopd" -d "$state" \
		    -k "$WORLD/server.keytab"
	done
	log_count 1 'refused .*reason="closed during the exchange"$'
	log_count 2 'refused .*reason="no login: lost"$'
	log_count 3 .
}

@test "Kerberos 4 clients get a line that they can show" {
	run wire < <(printf 'AUTHV0.1KPOPV0.1'; u32 10; printf 0123456789)
	[[ $output == "-ERR Kerberos 4"* ]]
	run wire < <(printf '58 0123456789')
	[[ $output == "-ERR Kerberos 4"* ]]
	log_count 2 'refused .*reason="Kerberos 4 client"$'
	log_count 2 .
}

# bats test_tags=catalogue:29-1
@test "a POP3 client that speaks first is told what this is; fetchmail's QUIT after a failed exchange, too" {
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

# bats test_tags=catalogue:29-2
@test "the log names what spoke in place of KPOP, before the versions, between them and in place of the AP-REQ" {
	local reason text kind
	while IFS=: read -r reason text; do
		for kind in before between after; do
			log_mark
			# Not a word of it is in the log.
			run wire_hex < <(case $kind in
			    between) printf 'KRB5_SENDAUTH_V1.0\0' | framed ;;
			    after) versions ;;
			    esac; printf "$text")
			log_has "refused peer=127\\.0\\.0\\.1:[0-9]+ reason=\"$reason\"\$"
			log_count 1 .
			case $kind in
			between) [ "$output" = 02 ] ;;
			after)
				[[ $output == 00*7e* && ${output:10:2} == 7e ]]
				;;
			*)
				[[ -z $output ||
				    $output == \
					2d4552522074686973206973204b504f50* ||
					$output == \
					    2d455252204b65726265726f732034* ]]
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

@test "AUTH by itself is no Kerberos 4 client, however it is cut" {
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

@test "a TLS hello is answered by the end" {
	run wire_hex < <(printf '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03')
	[ -z "$output" ]
	log_has 'refused .*reason="TLS client"'
}

# bats test_tags=catalogue:1
@test "silence, and a POP3 client that waits for a greeting, hear a line at the deadline" {
	run wire < <(sleep 3)
	[[ $output == "-ERR this is KPOP"* ]]
	log_has 'refused .*reason="no byte before the login deadline"$'
	log_count 1 .
}

# bats test_tags=catalogue:2,promise:2
@test "bytes that trickle in do not extend the deadline, before or after the ticket" {
	realm_login alice
	begin=$(date +%s%N)
	[ -z "$(versions | trickle 0.3 | wire_hex 2>/dev/null)" ]
	log_has \
	    'refused .*reason="exchange not complete at the login deadline"$'
	{
		versions
		apreq $service | framed
		for _ in $(seq 50); do printf U; sleep 0.2; done
	} 2>/dev/null | wire 2>/dev/null | tr -d '\0' >"$WORLD/answer"
	[ "$(tr -d '\r' <"$WORLD/answer")" = "+OK kpopd at your service" ]
	log_has 'refused .*reason="no login: idle"$'
	log_count 2 .
	[ $((($(date +%s%N) - begin) / 1000000000)) -lt 9 ]
}

@test "what krb5.conf permits holds however long the client takes" {
	realm_login alice
	# The server's alone, by KRB5_CONFIG: another type than the session
	# key's.
	{
		cat /etc/krb5.conf
		printf '[libdefaults]\n\tpermitted_enctypes = aes128-cts-hmac-sha256-128\n'
	} >"$WORLD/strict.conf"
	server_stop
	server_env="KRB5_CONFIG=$WORLD/strict.conf" server_start
	for pause in 0 1.5; do
		run wire_hex \
		    < <(versions; sleep $pause; apreq $service | framed)
		echo "after $pause s: $output"
		[[ ${output:10:2} == 7e ]] || break
	done
	log_has 'refused .*reason="Kerberos" error='
	server_stop
	server_start -t 2:600
	[[ ${output:10:2} == 7e ]]
}

# bats test_tags=fault:16-4,promise:2
@test "a pre-auth process that hangs is killed by the monitor, a second after the deadline" {
	realm_login alice
	pop_open
	pop_hear '^\+OK'
	kill -STOP "$(child_pid)"
	pop_hear_end 5
	log_has 'refused .*reason="login deadline, pre-auth process killed"'
	await 2 '! pgrep -x kpopd >/dev/null'
}

@test "a pre-auth process that dies leads to no session" {
	realm_login alice
	pop_open
	pop_hear '^\+OK'
	pop_ask "USER alice"
	kill -SEGV "$(child_pid)"
	pop_hear_end 3
	log_has 'fatal .*pre-auth process was ended by signal 11'
	log_lacks ' login '
}

@test "no refusal before the login is longer than 77 bytes or has % or < in it" {
	for words in 'AUTHV0.1xxxxxxxx' 'CAPA' 'QUIT' '12 x'; do
		run wire < <(printf '%s\r\n' "$words")
		[[ $output == "-ERR "* ]]
		[ ${#output} -lt 78 ]
		[[ $output != *[%\<]* && $output != *lock* &&
		    $output != *wait* ]]
	done
}
