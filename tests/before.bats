#!/usr/bin/env bats
# Checks that attacks before a login fail. The attackers are a client on the
# network, and a compromised pre-auth process (ATTACKS.md, number 1).

load helpers/all
load helpers/replay

service=pop/mail.kpopd.test

setup() {
	begin_test
	mbox one | store alice
	spool_keep
	realm_login alice
}

# serve [KPOPD-OPTION ...]: replaces the server by one with these options. Makes
# the new server's replay cache accept tickets that are older than the server.
serve() {
	server_stop
	server_start "$@"
	cache_is_old
}

# auth_with TOKEN-FILE ...: sends AUTH GSSAPI with these tokens one after the
# other, then QUIT. Prints the answers.
auth_with() {
	{
		printf 'AUTH GSSAPI\r\n'
		for token; do base64 -w 0 "$token"; printf '\r\n'; done
		printf '*\r\nQUIT\r\n'
	} | wire | tr -d '\r'
}

# first_token: reads an AP-REQ from standard input. Prints the first token of
# GSSAPI's Kerberos mechanism with that AP-REQ (RFC 4121 section 4.1).
first_token() {
	perl -0777 -ne '
	    my $oid = "\x06\x09\x2a\x86\x48\x86\xf7\x12\x01\x02\x02";
	    my $token = "$oid\x01\x00$_";
	    print "\x60\x82", pack("n", length $token), $token'
}

# no_process_failed: returns true if no process has crashed or was killed, no
# login was logged, and the server still accepts connections.
no_process_failed() {
	log_lacks 'ended by signal|was killed|login |fatal'
	printf 'CAPA\r\nQUIT\r\n' | wire >/dev/null
}

# bats test_tags=attack:1-1,attack:1-2,attack:1-3
@test "kpopd refuses a GSSAPI checksum with wrong lengths, flags or credentials, and goes on serving" {
	serve -p
	zeros=00000000000000000000000000000000
	for checksum in "" 10 10000000 10000000$zeros 0f000000${zeros}00000000 \
	    ffffffff${zeros}00000000 00000000${zeros}3e000000 \
	    10000000${zeros}01000000 10000000${zeros}010000000100 \
	    10000000${zeros}01000000010000ff \
	    10000000${zeros}010000000100ffff \
	    10000000${zeros}0100000001000400deadbeef \
	    10000000${zeros}01000000020004007630820100 \
	    10000000${zeros}010000000100ff00$(printf '76%.0s' $(seq 255)) \
	    10000000${zeros}3e00000000000000ffffffff \
	    10000000${zeros}00000000$(printf 'ff%.0s' $(seq 2000)); do
		apreq -g -c "$checksum" $service | first_token >"$WORLD/token"
		log_mark
		run auth_with "$WORLD/token"
		[[ $output == *+OK* && $output != *messages* ]] ||
		    { echo "$checksum: $output"; return 1; }
		no_process_failed
	done
	gssapi_login_works
}

# gssapi_login_works: returns true if alice can log in by AUTH GSSAPI.
gssapi_login_works() {
	run kpopc -p mail.kpopd.test 1109 \
	    < <(printf 'USER alice\r\nPASS x\r\nQUIT\r\n')
	[[ $output == *"messages left"* ]] || { echo "$output"; return 1; }
}

# bats test_tags=attack:1-4,attack:1-5
@test "kpopd refuses DCE-style GSSAPI, and stores no ticket that a client delegates" {
	serve -p
	zeros=00000000000000000000000000000000
	for dce in 1000 1002 103e; do
		apreq -gm -c 10000000$zeros${dce:2:2}${dce:0:2}0000 $service \
		    >"$WORLD/raw"
		# A DCE client sends the AP-REQ without the token's header. Such
		# an AP-REQ is not a valid first token. With the header, kpopd
		# would expect a third token.
		run auth_with "$WORLD/raw"
		[[ $output == *"-ERR [AUTH]"* ]]
		first_token <"$WORLD/raw" >"$WORLD/token"
		# The client sends its first token twice. Then it sends the
		# AP-REQ as the third token.
		run auth_with "$WORLD/token" "$WORLD/token" "$WORLD/raw"
		[[ $output != *"messages"* && $output == *"-ERR"* ]] ||
		    { echo "$output"; return 1; }
		no_process_failed
	done
	realm_login alice -f
	gssapi_login_works
	[ -z "$(find "$state/preauth" /tmp -name 'krb5cc*' \
	    -newer "$WORLD/token")" ]
}

# bats test_tags=attack:1-6,attack:1-7
@test "authorization data in the authenticator, nested or malformed, opens no other user's mailbox" {
	cache_is_old
	for data in nested pac; do
		perl "$BATS_TEST_DIRNAME/programs/authdata.pl" $data \
		    >"$WORLD/$data"
	done
	head -c 5000 /dev/urandom >"$WORLD/garbage"
	: >"$WORLD/none"
	for data in 1:nested 128:pac 1:garbage 4:garbage 5:garbage 8:garbage \
	    64:garbage 96:garbage 97:garbage 128:garbage 142:garbage \
	    143:garbage 512:garbage -1:garbage 1:none 128:none; do
		for how in "" -g; do
			log_mark
			apreq $how -a "${data%:*}:$WORLD/${data#*:}" $service \
			    >"$WORLD/request"
			[ -z "$how" ] ||
			    { is_out "$(shows "$WORLD/request")"; continue; }
			{
				versions
				framed <"$WORLD/request"
				printf 'USER bob\r\nPASS x\r\nQUIT\r\n'
			} | wire >"$WORLD/answers"
			refute grep -a messages "$WORLD/answers"
			no_process_failed
		done
	done
	run pop alice QUIT
	[[ $output == *"messages left"* ]]
}

# bats test_tags=attack:1-8,attack:1-9
@test "kpopd refuses other Kerberos messages, and tickets for the realm, in place of the AP-REQ" {
	cache_is_old
	apreq -m $service >"$WORLD/request"
	{ versions; framed <"$WORLD/request"; } | wire >"$WORLD/answers"
	# The AP-REP from the server is one of the messages.
	perl -0777 -ne 's/^\0{5}//; print substr $_, 4, unpack "N", $_' \
	    "$WORLD/answers" >"$WORLD/proof"
	[ "$(head -c 1 "$WORLD/proof" | od -An -tx1)" = " 6f" ]
	apreq krbtgt/KPOPD.TEST@KPOPD.TEST >"$WORLD/tgt"
	apreq -g krbtgt/KPOPD.TEST@KPOPD.TEST >"$WORLD/tgt.gssapi"
	apreq kadmin/changepw >"$WORLD/changepw" ||
	    cp "$WORLD/tgt" "$WORLD/changepw"
	for kind in 61 6a 6b 6c 6d 6f 74 75 76 7e; do
		perl -0777 -pe "s/^./\\x$kind/s" "$WORLD/request" \
		    >"$WORLD/kind.$kind"
	done
	first_token <"$WORLD/request" >"$WORLD/wrapped"
	for message in "$WORLD"/{proof,tgt,tgt.gssapi,changepw,wrapped} \
	    "$WORLD"/kind.*; do
		is_out "$(shows "$message")" || { echo "$message"; return 1; }
	done
	log_has 'refused .*reason="Kerberos"'
	no_process_failed
}

# keytab_has_pop3: returns true if the server's keytab has a key for pop3.
keytab_has_pop3() {
	klist -k "$WORLD/server.keytab" | grep -q 'pop3/mail.kpopd.test'
}

# bats test_tags=attack:1-10,attack:1-11
@test "a service refuses a ticket for another service with the same state directory, which then accepts it once" {
	keytab_has_pop3 || {
		admin "addprinc -randkey pop3/mail.kpopd.test"
		admin "ktadd -k $WORLD/server.keytab pop3/mail.kpopd.test"
	}
	serve -s pop3/mail.kpopd.test
	apreq $service >"$WORLD/pop"
	is_out "$(shows "$WORLD/pop")"
	serve -s pop/mail.kpopd.test
	is_in "$(shows "$WORLD/pop")"
	apreq pop3/mail.kpopd.test >"$WORLD/pop3"
	is_out "$(shows "$WORLD/pop3")"
	serve
	is_in "$(shows "$WORLD/pop3")"
	serve -p
	first_token <"$WORLD/pop3" >"$WORLD/token"
	run auth_with "$WORLD/token"
	[[ $output != *messages* && $output != *$'\n+ BQ'* ]]
}

# bats test_tags=attack:1-15,attack:1-16
@test "kpopd accepts one PROXY header, before KPOP or TLS, and ignores the address of LOCAL" {
	tls_make
	serve -x 127.0.0.1
	header='PROXY TCP4 192.0.2.7 192.0.2.1 4711 1109\r\n'
	apreq $service >"$WORLD/request"
	{
		printf "$header"
		versions
		framed <"$WORLD/request"
		printf 'USER alice\r\nPASS x\r\nQUIT\r\n'
	} | wire | tr -d '\0\r' >"$WORLD/answers"
	is_in "$(<"$WORLD/answers")"
	log_has 'login peer=192\.0\.2\.7:4711 user=alice'
	{
		printf "$header$header"
		versions
		framed <"$WORLD/request"
	} | wire | tr -d '\0\r' >"$WORLD/answers"
	is_out "$(<"$WORLD/answers")"
	log_has 'refused peer=192\.0\.2\.7:4711 reason="PROXY header where none is taken"'
	apreq $service >"$WORLD/request"
	{
		printf "$header"
		versions
		framed <"$WORLD/request"
		printf "${header/.7/.66}QUIT\r\n"
	} | wire >/dev/null
	# A LOCAL header with an address must not set that address.
	printf '%b' '\r\n\r\n\0000\r\nQUIT\n\x20\x11\x00\x0c' \
	    '\xc0\x00\x02\x42\xc0\x00\x02\x01\x12\x67\x04\x55' 'QUIT\r\n' |
	    wire >/dev/null
	log_lacks '192\.0\.2\.66'
	serve -p -T immediate -x 127.0.0.1 $(tls_options)
	printf "${header/.7/.66}QUIT\r\n" | s_client >/dev/null || true
	{
		printf "$header"
		await 5 'jailed_in tls | grep -q .'
		printf "${header/.7/.66}"
	} | wire 30 >/dev/null || true
	log_lacks '192\.0\.2\.66'
}

# bats test_tags=attack:1-17
@test "a malformed handover from a compromised pre-auth process ends the connection, and others are served" {
	serve -p
	for seed in 1 2 3 4 5 6 7 8 9 10; do
		pop_open -p
		pop_hear '^\+OK'
		"$KPOPD_BUILD/tests/programs/preauth-standin" "$(child_pid)" \
		    relay $seed
		pop_close
	done
	log_lacks ' login |ended by signal'
	log_has 'fatal .*malformed handover of a security layer from the pre-auth process'
	gssapi_login_works
}

# bats test_tags=attack:1-18
@test "a pre-auth process that floods the monitor is killed at the deadline, and others are served meanwhile" {
	serve -t 10
	pop_open
	pop_hear '^\+OK'
	preauth=$(child_pid)
	timeout 40 "$KPOPD_BUILD/tests/programs/preauth-standin" "$preauth" \
	    line failed "what=flood" 100000000 3>&- 2>/dev/null &
	flooder=$!
	log_has what=flood
	run pop alice QUIT
	[[ $output == *"messages left"* ]]
	await 20 "! kill -0 $preauth 2>/dev/null"
	kill $flooder 2>/dev/null || true
	kpopd_ends 5
	log_written
	[ "$(log_lines | grep -c 'what=flood')" -le 102 ]
}

# bats test_tags=attack:1-19,attack:1-20
@test "the sandbox keeps a compromised pre-auth process from enlarging the replay cache and from other calls" {
	[ -z "${SANITIZER-}" ] ||
	    skip "there is no filter in a build with sanitizers"
	cache_is_old
	size=$(stat -c %s "$cache")
	pop_open
	pop_hear '^\+OK'
	preauth=$(child_pid)
	fd=$(fds "$preauth" | sed -n "s,^\([0-9]*\) $cache\$,\1,p")
	# With O_APPEND | O_RDWR (1026), a write appends to the file, whatever
	# offset the call specifies.
	captive "$preauth" "fcntl $fd 4 1026" "pwrite64 $fd x 1 0"
	[ "$(echo "$returned" | sed -n 2p)" -eq -27 ] ||
	    { echo "$returned"; return 1; }
	[ "$(stat -c %s "$cache")" -eq "$size" ]
	run pop alice QUIT
	[[ $output == *"messages left"* ]]
	for call in "fcntl $fd 1024 1" "fcntl $fd 8 1" "fcntl $fd 10 9" \
	    "fcntl $fd 0 50" "fcntl $fd 1033 1" "prlimit64 0 1 0 0" \
	    "kill -1 9" "ptrace 16 1" \
	    "process_vm_readv 1 0 0 0 0 0" "pidfd_open 1 0" \
	    "io_uring_setup 1 0" "memfd_create x 0" "shmget 1 4096 512" \
	    "keyctl 0 -3 0" \
	    "setpriority 0 0 19" "sched_setaffinity 0 8 0" "mq_open x 64 0 0" \
	    "perf_event_open 0 0 -1 -1 0" "userfaultfd 0" "unshare 0x10000000" \
	    "inotify_init1 0"; do
		pop_close
		pop_open
		pop_hear '^\+OK'
		log_mark
		captive "$(child_pid)" "$call"
		ended="the pre-auth process was ended for the system call"
		log_has "fatal .*$ended ${call%% *}" ||
		    { echo "$call"; return 1; }
	done
}

# bats test_tags=attack:1-21
@test "an AUTH exchange that a man in the middle begins before STLS has no effect inside TLS" {
	tls_make
	serve -p $(tls_options)
	for how in cancel command; do
		of_mallory apreq -gm $service | first_token >"$WORLD/token"
		run timeout 20 python3 \
		    "$BATS_TEST_DIRNAME/programs/stls-in-auth.py" \
		    "$WORLD/tls/ca.pem" "$WORLD/token" $how
		[ "$(grep -c "inside b'-ERR'" <<<"$output")" -eq 5 ] &&
		    grep -q "stls b'+OK'" <<<"$output" ||
		    { echo "$how: $output"; return 1; }
	done
	log_lacks ' login '
}

# of_mallory COMMAND ...: runs the command with mallory's ticket instead of
# alice's.
of_mallory() {
	KRB5CCNAME=FILE:$WORLD/cc.mallory realm_login mallory
	KRB5CCNAME=FILE:$WORLD/cc.mallory "$@"
}
