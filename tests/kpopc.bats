#!/usr/bin/env bats
# The client: its messages for each failure, and that it is a tunnel.

load helpers/all

teardown() {
	[ -z "${fake-}" ] || kill "$fake" 2>/dev/null || true
	end_test
}

# fails STATUS PATTERN ARGUMENT …: one line of this kind on standard error.
fails() {
	run kpopc "${@:3}" </dev/null
	[ "$status" -eq "$1" ]
	[ "${#lines[@]}" -eq 1 ]
	[[ $output =~ ^kpopc:\ .*$2 ]] || { echo "$output"; return 1; }
}

# A server on port 2000 that does what the shell command says.
fake_server() {
	socat TCP-LISTEN:2000,reuseaddr,fork SYSTEM:"$1" 3>&- 2>/dev/null &
	fake=$!
	await 5 'ss -Hltn sport = 2000 | grep -q .'
}

@test "wrong usage says so" {
	for arguments in '' 'a b c' '-x host' '-p alice host'; do
		run kpopc $arguments
		[ "$status" -eq 2 ]
		[[ $output == *usage:* ]]
	done
	run kpopc -V
	[[ $output =~ ^kpopc\ [0-9.]+$ ]]
}

@test "without tickets it says to run kinit" {
	realm_logout
	fails 1 'no tickets: .*kinit' mail.kpopd.test
}

@test "an expired ticket, too" {
	realm_login alice -l 1s
	sleep 2
	fails 1 '(expired).*kinit again' mail.kpopd.test
}

@test "a service that the realm does not know is named" {
	realm_login alice
	fails 1 'no ticket for pop/nowhere@KPOPD\.TEST: .*no such service' -s pop/nowhere mail.kpopd.test
}

@test "an unknown host, a closed port, a KDC that is down" {
	realm_login alice
	fails 1 'nowhere\.invalid port' -s pop/mail.kpopd.test nowhere.invalid
	fails 1 'port 1: Connection refused' mail.kpopd.test 1
	sed 's/127.0.0.1:88/127.0.0.1:9/' /etc/krb5.conf >"$WORLD/nokdc.conf"
	KRB5_CONFIG=$WORLD/nokdc.conf fails 1 'no ticket for .*KDC' -s pop/unheard.of mail.kpopd.test
}

@test "with -k it takes a keytab and leaves no tickets behind" {
	realm_logout
	run bash -c "printf 'USER alice\r\nPASS x\r\nQUIT\r\n' | '$KPOPD_BUILD/kpopc' -k '$WORLD/keytabs/alice.keytab' mail.kpopd.test"
	[[ $output == *"+OK bye"* ]]
	run klist
	[ "$status" -ne 0 ]
	fails 1 'not found' -k /nonexistent mail.kpopd.test
	fails 1 'no ticket with the keytab' -k "$WORLD/keytabs/alice.keytab" -p bob mail.kpopd.test
}

@test "a server that is not KPOP is called so" {
	realm_login alice
	for words in '+OK POP3 here' '-ERR go away' 'SSH-2.0-x' '* OK IMAP'; do
		fake_server "echo '$words'; cat >/dev/null"
		fails 1 'does not speak Kerberos 5 KPOP' mail.kpopd.test 2000
		kill "$fake"
		await 5 '! ss -Hltn sport = 2000 | grep -q .'
	done
}

@test "a server that closes at once, or in the middle" {
	realm_login alice
	fake_server "true"
	fails 1 'closed the connection' mail.kpopd.test 2000
}

@test "what an unproven server says is printed as text only" {
	realm_login alice
	# A KRB-ERROR with an escape sequence in its e-text, as an attacker on the line would send it.
	cat >"$WORLD/krberror" <<-'END'
	sub tlv { my ($tag, $text) = @_; my $n = length $text; chr($tag) . ($n < 128 ? chr $n : "\x81" . chr $n) . $text }
	my $name = tlv(0x30, tlv(0xa0, "\x02\x01\x01") . tlv(0xa1, tlv(0x30, tlv(0x1b, "x"))));
	my $error = tlv(0x7e, tlv(0x30, tlv(0xa0, "\x02\x01\x05") . tlv(0xa1, "\x02\x01\x1e") . tlv(0xa4, tlv(0x18, "20260101000000Z")) .
	    tlv(0xa5, "\x02\x01\x00") . tlv(0xa6, "\x02\x01\x29") . tlv(0xa9, tlv(0x1b, "KPOPD.TEST")) . tlv(0xaa, $name) .
	    tlv(0xab, tlv(0x1b, "\e[31mred\a\n"))));
	$| = 1; sysread STDIN, my $versions, 36; print "\0"; sysread STDIN, my $request, 4;
	print pack("N", length $error), $error; sleep 1;
	END
	fake_server "perl $WORLD/krberror"
	fails 1 'refused the ticket: \\033\[31mred\\007\\012$' mail.kpopd.test 2000
}

@test "a server that accepts without proof is not believed" {
	realm_login alice
	fake_server 'printf "\\0\\0\\0\\0\\0"; printf "\\0\\0\\0\\04abcd"; printf "+OK hello\r\n"; cat >/dev/null'
	run kpopc mail.kpopd.test 2000 </dev/null
	[ "$status" -eq 1 ]
	[[ $output != *hello* ]]
}

@test "it is a tunnel: 20 MB come out as they went in, and the end of input is passed on" {
	{ from_line; printf 'Subject: large\n\n'; head -c 15000000 /dev/urandom | base64; echo; } | store alice
	realm_login alice
	printf 'USER alice\r\nPASS x\r\nRETR 1\r\nQUIT\r\n' | kpopc mail.kpopd.test | tr -d '\r' |
	    sed '1,/^$/d; /^\.$/,$d' | cmp - <(sed '1,/^$/d' /var/mail/alice | sed '$d')
	# Without QUIT: the server sees our end and closes, and that is an orderly end.
	run bash -c "printf 'USER alice\r\nPASS x\r\n' | '$KPOPD_BUILD/kpopc' mail.kpopd.test"
	[ "$status" -eq 0 ]
}

@test "a connection that breaks during the session is status 3 or ends with what there was" {
	mbox one | store alice
	realm_login alice
	pop_login alice
	kill -KILL "$(monitor_pid)" "$(child_pid)"
	pop_hear_end
}
