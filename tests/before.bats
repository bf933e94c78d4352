#!/usr/bin/env bats
# What somebody on the network, or in a compromised pre-auth process, can try
# before a login: see ATTACKS.md, number 1.

load helpers/all
load helpers/replay

service=pop/mail.kpopd.test

setup() {
	begin_test
	mbox one | store alice
	spool_keep
	realm_login alice
}

teardown() {
	local status=0
	end_test || status=1
	[ -z "${changed-}" ] || { server_stop; server_start; }
	return $status
}

# server_is OPTION …: another server until the test ends.
server_is() {
	changed=yes
	server_stop
	server_start "$@"
	cache_is_old
}

# says TOKEN-FILE …: AUTH GSSAPI with these tokens one after the other, then
# QUIT.
says() {
	{
		printf 'AUTH GSSAPI\r\n'
		for token; do base64 -w 0 "$token"; printf '\r\n'; done
		printf '*\r\nQUIT\r\n'
	} | wire | tr -d '\r'
}

# token [PREFIX]: an AP-REQ on standard input as a first token of the mechanism.
token() {
	perl \
	    -0777 -ne 'my $t = "\x06\x09\x2a\x86\x48\x86\xf7\x12\x01\x02\x02\x01\x00$_"; print "\x60\x82", pack("n", length $t), $t'
}

# nobody_fell: no process has crashed, and the next login is served.
nobody_fell() {
	log_lacks 'ended by signal|was killed|login |fatal'
	printf 'CAPA\r\nQUIT\r\n' | wire >/dev/null
}

# bats test_tags=attack:1-1,attack:1-2,attack:1-3
@test "a client with a ticket that lies inside the proven checksum of GSSAPI: lengths, flags, credentials that are none" {
	server_is -p
	zeros=00000000000000000000000000000000
	for lie in "" 10 10000000 10000000$zeros 0f000000${zeros}00000000 \
	    ffffffff${zeros}00000000 00000000${zeros}3e000000 \
	    10000000${zeros}01000000 10000000${zeros}010000000100 \
	    10000000${zeros}01000000010000ff \
	    10000000${zeros}010000000100ffff \
	    10000000${zeros}0100000001000400deadbeef \
	    10000000${zeros}01000000020004007630820100 \
	    10000000${zeros}010000000100ff00$(printf '76%.0s' $(seq 255)) \
	    10000000${zeros}3e00000000000000ffffffff \
	    10000000${zeros}00000000$(printf 'ff%.0s' $(seq 2000)); do
		apreq -g -c "$lie" $service | token >"$WORLD/token"
		log_mark
		run says "$WORLD/token"
		[[ $output == *+OK* && $output != *messages* ]] ||
		    { echo "$lie: $output"; return 1; }
		nobody_fell

	done
	pop_login_gssapi
}

# pop_login_gssapi: alice gets in by AUTH GSSAPI.
pop_login_gssapi() {
	run kpopc -p mail.kpopd.test 1109 \
	    < <(printf 'USER alice\r\nPASS x\r\nQUIT\r\n')
	[[ $output == *"messages left"* ]] || { echo "$output"; return 1; }
}

# bats test_tags=attack:1-4,attack:1-5
@test "a client of DCE's style, and one that delegates its ticket, gets no further than others" {
	server_is -p
	zeros=00000000000000000000000000000000
	for dce in 1000 1002 103e; do
		apreq -gm -c 10000000$zeros${dce:2:2}${dce:0:2}0000 $service \
		    >"$WORLD/raw"
		# Without the head, as DCE has it, the AP-REQ is none that was
		# judged; with it the third token is awaited.
		run says "$WORLD/raw"
		[[ $output == *"-ERR [AUTH]"* ]]
		token <"$WORLD/raw" >"$WORLD/token"
		# Its own token again in place of the third.
		run says "$WORLD/token" "$WORLD/token" "$WORLD/raw"
		[[ $output != *"messages"* && $output == *"-ERR"* ]] ||
		    { echo "$output"; return 1; }
		nobody_fell
	done
	realm_login alice -f
	pop_login_gssapi
	[ -z \
	    "$(find "$state/preauth" /tmp -name 'krb5cc*' \
		-newer "$WORLD/token")" ]
}

# bats test_tags=attack:1-6,attack:1-7
@test "authorization data in the authenticator: nested a thousand times, a PAC that is none, of types that say more: nothing more is opened" {
	cache_is_old
	# IF-RELEVANT around IF-RELEVANT (RFC 4120 section 5.2.6.1).
	perl -e 'sub l { my $n = shift; $n < 128 ? chr $n : "\x82" . pack "n", $n } my $in = "\x30\x00";
	    for (1 .. 1500) { my $c = "\xa1" . l(2 + length($in) + (length($in) < 128 ? 0 : 2)) . "\x04" . l(length $in) . $in;
		$c = "\xa0\x03\x02\x01\x01$c"; $c = "\x30" . l(length $c) . $c; my $n = "\x30" . l(length $c) . $c;
		last if length $n > 40000; $in = $n } print $in' \
	    >"$WORLD/nested"
	head -c 5000 /dev/urandom >"$WORLD/garbage"
	perl -e 'print pack("VVVVVV", 0xffffffff, 0, 1, 0xffffffff, 0xfffffff0, 0xffffffff)' >"$WORLD/pac"
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
			} | wire >"$WORLD/heard"
			! tr -d '\0' <"$WORLD/heard" | grep -a 'messages' ||
			    return 1
			nobody_fell
		done
	done
	run pop alice QUIT
	[[ $output == *"messages left"* ]]
}

# bats test_tags=attack:1-8,attack:1-9
@test "other Kerberos messages, and tickets for the realm itself, in place of the AP-REQ" {
	cache_is_old
	apreq -m $service >"$WORLD/request"
	{ versions; framed <"$WORLD/request"; } |
	    timeout 3 socat -t 1 - TCP:127.0.0.1:1109 >"$WORLD/heard" || true
	# The server's proof goes back to it.
	perl -0777 -ne 's/^\0{5}//; print substr $_, 4, unpack "N", $_' \
	    "$WORLD/heard" >"$WORLD/proof"
	[ "$(head -c 1 "$WORLD/proof" | od -An -tx1)" = " 6f" ]
	apreq krbtgt/KPOPD.TEST@KPOPD.TEST >"$WORLD/tgt"
	apreq -g krbtgt/KPOPD.TEST@KPOPD.TEST >"$WORLD/tgt.gssapi"
	apreq kadmin/changepw >"$WORLD/changepw" ||
	    cp "$WORLD/tgt" "$WORLD/changepw"
	for kind in 61 6a 6b 6c 6d 6f 74 75 76 7e; do
		perl -0777 -pe "s/^./\\x$kind/s" "$WORLD/request" \
		    >"$WORLD/kind.$kind"
	done
	token <"$WORLD/request" >"$WORLD/wrapped"
	for message in "$WORLD"/{proof,tgt,tgt.gssapi,changepw,kind.*,wrapped}; do
		is_out "$(shows "$message")" || { echo "$message"; return 1; }
	done
	log_has 'refused .*reason="Kerberos"'
	nobody_fell
}

# bats test_tags=attack:1-10,attack:1-11
@test "two services with one state directory and a key each: neither takes the other's ticket, what one refused the other takes once" {
	realm_has_pop3 || {
		admin "addprinc -randkey pop3/mail.kpopd.test"
		admin "ktadd -k $WORLD/server.keytab pop3/mail.kpopd.test"
	}
	server_is -s pop3/mail.kpopd.test
	apreq $service >"$WORLD/pop"
	is_out "$(shows "$WORLD/pop")"
	server_is -s pop/mail.kpopd.test
	is_in "$(shows "$WORLD/pop")"
	apreq pop3/mail.kpopd.test >"$WORLD/pop3"
	is_out "$(shows "$WORLD/pop3")"
	server_is
	is_in "$(shows "$WORLD/pop3")"
	server_is -p
	token <"$WORLD/pop3" >"$WORLD/token"
	run says "$WORLD/token"
	[[ $output != *messages* && $output != *$'\n+ BQ'* ]]
}

realm_has_pop3() {
	klist -k "$WORLD/server.keytab" | grep -q 'pop3/mail.kpopd.test'
}

# bats test_tags=attack:1-15,attack:1-16
@test "PROXY headers where none belongs: twice, inside TLS, behind the ticket; before KPOP one is taken, and LOCAL's address is not" {
	tls_make
	server_is -x 127.0.0.1
	header='PROXY TCP4 192.0.2.7 192.0.2.1 4711 1109\r\n'
	apreq $service >"$WORLD/request"
	run bash -c 'tr -d "\0\r" <"$1"' \
	    - <({
		    printf "$header"
		    versions
		    framed <"$WORLD/request"
		    printf 'USER alice\r\nPASS x\r\nQUIT\r\n'
	    } | wire)
	[[ $output == *"messages left"* ]] ||
	    { echo "$output"; log_has nothing; return 1; }
	log_has 'login peer=192\.0\.2\.7:4711 user=alice'
	is_out \
	    "$( {
		    printf "$header$header"
		    versions
		    framed <"$WORLD/request"
	    } | wire | tr -d '\0\r')"
	log_has 'refused peer=192\.0\.2\.7:4711 reason="PROXY header where none is taken"'
	apreq $service >"$WORLD/request"
	{
		printf "$header"
		versions
		framed <"$WORLD/request"
		printf "${header/.7/.66}QUIT\r\n"
	} | wire >/dev/null
	# LOCAL with an address that it may not have.
	{
		printf '\r\n\r\n\0\r\nQUIT\n\x20\x11\x00\x0c\xc0\x00\x02\x42\xc0\x00\x02\x01\x12\x67\x04\x55QUIT\r\n'
	} | wire >/dev/null
	log_lacks '192\.0\.2\.66'
	server_is -p -T immediate -x 127.0.0.1 $(tls_options)
	printf "${header/.7/.66}QUIT\r\n" | s_client >/dev/null || true
	{
		printf "$header"
		await 5 'pgrep -x kpopd-tls >/dev/null'
		printf "${header/.7/.66}"
	} | wire 5 >/dev/null || true
	log_lacks '192\.0\.2\.66'
}

# bats test_tags=attack:1-17
@test "a compromised pre-auth process tells the relay nonsense: it ends, and nobody else is harmed" {
	server_is -p
	for seed in 1 2 3 4 5 6 7 8 9 10; do
		pop_open -p
		pop_hear '^\+OK'
		"$KPOPD_BUILD/tests/programs/preauth-standin" "$(child_pid)" \
		    relay $seed
		pop_close
	done
	log_lacks ' login |ended by signal'
	log_has 'fatal .*malformed handover of a security layer from the pre-auth process'
	pop_login_gssapi
}

# bats test_tags=attack:1-18
@test "a compromised pre-auth process that floods the monitor ends at the deadline; others are served meanwhile" {
	server_is -t 4
	pop_open
	pop_hear '^\+OK'
	preauth=$(child_pid)
	timeout 20 "$KPOPD_BUILD/tests/programs/preauth-standin" "$preauth" \
	    line failed "what=flood" 100000000 3>&- 2>/dev/null &
	flood=$!
	run pop alice QUIT
	[[ $output == *"messages left"* ]]
	await 8 "! kill -0 $preauth 2>/dev/null"
	kill $flood 2>/dev/null || true
	[ "$(log_lines | grep -c 'what=flood')" -le 102 ]
}

# bats test_tags=attack:1-19,attack:1-20
@test "a compromised pre-auth process can make the cache no larger, not even by appending, and so no skew longer" {
	[ -z "${SANITIZER-}" ] ||
	    skip "there is no filter in a build with sanitizers"
	cache_is_old
	size=$(stat -c %s "$cache")
	pop_open
	pop_hear '^\+OK'
	preauth=$(child_pid)
	fd=$(fds "$preauth" | sed -n "s,^\([0-9]*\) $cache\$,\1,p")
	# O_APPEND | O_RDWR: a write goes to the end, wherever it was to go;
	# F_SETLEASE is not on the list.
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
		log_has "fatal .*the pre-auth process was ended for the system call ${call%% *}" || { echo "$call"; return 1; }
	done
}

# bats test_tags=attack:1-21
@test "somebody in the middle begins AUTH and lets the client's TLS come behind it: nothing of it counts inside" {
	tls_make
	server_is -p $(tls_options)
	for end in '*' '!'; do
		of_mallory apreq -gm $service | token >"$WORLD/token.$end"
	done
	# The first token of mallory's, then STLS, then what would end the
	# exchange, or a name.
	cat >"$WORLD/inject" <<-END
	import base64, socket, ssl
	c = ssl.create_default_context(cafile="$WORLD/tls/ca.pem")
	def line(s):
	    b = b""
	    while not b.endswith(b"\n"):
	        d = s.recv(1)
	        if not d: break
	        b += d
	    return b
	for end in "*", "!":
	    s = socket.create_connection(("127.0.0.1", 1109)); line(s)
	    token = base64.b64encode(open("$WORLD/token." + end, "rb").read())
	    s.sendall(b"AUTH GSSAPI " + token + b"\r\n"); print("token", line(s)[:2])
	    s.sendall((b"STLS" if end == "!" else b"*") + b"\r\n"); print("in the exchange", line(s)[:4])
	    s.sendall(b"USER alice\r\n"); line(s)
	    s.sendall(b"STLS\r\n"); print("stls", line(s)[:3])
	    t = c.wrap_socket(s, server_hostname="mail.kpopd.test")
	    for say in b"", base64.b64encode(b"x" * 60), b"PASS x", b"STAT", b"STLS":
	        t.sendall(say + b"\r\n"); print("inside", line(t)[:4])
	    t.close()
	END
	run timeout 20 python3 "$WORLD/inject"
	[ "$(echo "$output" | grep -c "inside b'-ERR'")" -eq 10 ] ||
	    { echo "$output"; return 1; }
	[ "$(echo "$output" | grep -c "stls b'+OK'")" -eq 2 ] ||
	    { echo "$output"; return 1; }
	log_lacks ' login '
}

# of_mallory COMMAND …: with mallory's ticket in place of alice's.
of_mallory() {
	KRB5CCNAME=FILE:$WORLD/cc.mallory realm_login mallory
	KRB5CCNAME=FILE:$WORLD/cc.mallory "$@"
}
