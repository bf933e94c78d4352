#!/usr/bin/env bats
# Checks kpopc --probe: its line, its exit status and its trace in the server's
# log, with sound, broken, hanging and hostile servers.

load helpers/all

# The principal and the mailbox of the monitoring system.
watcher=probe/watch.kpopd.test
keytab=$WORLD/keytabs/probe.watch.kpopd.test.keytab

setup_file() {
	tls_make
	realm_add "$watcher"
	server_start
}

setup() {
	begin_test
	realm_login alice
	echo "$watcher@KPOPD.TEST" >/home/carol/.k5login
	mbox one two three | store carol
}

teardown() {
	local pid
	for pid in ${middle-} ${false_pid-}; do
		kill "$pid" 2>/dev/null || true
		wait "$pid" 2>/dev/null || true
	done
	[ -z "${kdc_stopped-}" ] ||
	    kill -CONT "$(cat "$WORLD/krb5kdc.pid")"
	rm -f /home/carol/.k5login
	end_test
}

# is_line WORD [PATTERN]: returns true if the last probe printed the verdict
# WORD, exactly one line of printable ASCII, and nothing as an error. PATTERN
# (extended) must match the text after the verdict up to the performance data.
is_line() {
	local text=${output#KPOP $1 - }
	[ "$text" != "$output" ] && [[ ${text% | *} =~ ^${2-.*}$ ]] &&
	    [ "$(wc -l <"$WORLD/output")" -eq 1 ] &&
	    [ ! -s "$WORLD/errors" ] &&
	    refute env LC_ALL=C grep -q '[^ -~]' "$WORLD/output"
}

# probe WORD PATTERN KPOPC-ARGUMENT ...: runs kpopc --probe. Returns true if its
# exit status is that of the verdict WORD, and is_line WORD PATTERN.
probe() {
	local expected word
	local -A statuses=([OK]=0 [WARNING]=1 [CRITICAL]=2 [UNKNOWN]=3)
	expected=${statuses[$1]} status=0
	timeout 20 "$KPOPD_BUILD/kpopc" --probe "${@:3}" >"$WORLD/output" \
	    2>"$WORLD/errors" </dev/null || status=$?
	output=$(<"$WORLD/output")
	[ "$status" -eq "$expected" ] && is_line "$1" "$2" || {
		echo "status $status, expected: $1 $2"
		cat -v "$WORLD/output" "$WORLD/errors"
		return 1
	}
}

# probe_carol WORD PATTERN KPOPC-ARGUMENT ...: probes carol's mailbox as the
# monitoring system does.
probe_carol() {
	probe "$1" "$2" -k "$keytab" -l carol "${@:3}"
}

# hangs PHASE KPOPC-ARGUMENT ...: probes with a time limit. Returns true if the
# phase was not done by then, and no process is left. A busy machine may need
# more than a second for the phases before.
hangs() {
	local limit
	for limit in 1 5 15; do
		probe_carol CRITICAL "$1: not done after $limit s, from .*" \
		    -t "$limit" "${@:2}" || continue
		await 10 '! pgrep -x kpopc >/dev/null'
		return
	done
	return 1
}

# bytes: prints the size of carol's mailbox as POP3 counts it.
bytes() {
	pop carol STAT QUIT | sed -n 's/^+OK [0-9]* \([0-9]*\)$/\1/p'
}

@test "kpopc --probe prints one line with the mailbox, the user, its own address and the time of each phase" {
	local size times data address='(127\.0\.0\.1|\[::1\]):[0-9]+'
	realm_login carol
	rm /home/carol/.k5login
	size=$(bytes)
	probe OK "3 messages, $size bytes, login as carol, from $address" \
	    mail.kpopd.test
	times='[0-9]+\.[0-9]{3}s;;;0'
	data="time=$times ticket=$times connect=$times login=$times"
	[[ ${output#* | } =~ ^$data\ stat=$times\ quit=$times$ ]]
}

@test "kpopc --probe works by KPOP and by -p, with and without TLS, with a port and each family of addresses" {
	local mode family
	for mode in '' -p; do
		server_stop
		server_start $mode $(tls_options)
		for tls in '' "--tls -C $WORLD/tls/ca.pem"; do
			probe_carol OK '3 messages, .* from 127\..*' -4 \
			    $mode $tls mail.kpopd.test 1109
			probe_carol OK '3 messages, .* from \[::1\].*' -6 \
			    $mode $tls mail.kpopd.test 1109
			[ -z "$tls" ] || [[ $output == *" tls="* ]]
			probe_carol OK '.*' $mode $tls \
			    -s pop/mail.kpopd.test -u "$watcher" \
			    mail.kpopd.test 1109
		done
	done
	probe_carol OK '.*' -p -s pop/mail.kpopd.test 127.0.0.1 1109
}

@test "The server's log has the address that kpopc --probe prints and the principal of the monitoring system" {
	local mode address
	for mode in '' -p; do
		server_stop
		server_start $mode
		log_mark
		probe_carol OK '3 messages, .*' $mode mail.kpopd.test 1109
		[[ $output =~ ,\ from\ ([^ ]+)\ \| ]]
		address=${BASH_REMATCH[1]//[\[\]]/.}
		log_has ": login peer=$address user=carol principal=$watcher@KPOPD.TEST .* by=k5login"
		log_has ": logout peer=$address reason=quit retrieved=0 octets=0 topped=0 deleted=0 left=3 "
		# The log names each login of the principal, whatever the client
		# does then.
		log_count 1 ": login .* principal=$watcher@"
		# The line of a refusal has the address, too.
		probe CRITICAL 'login: .*-ERR \[AUTH\].*, from .*' $mode \
		    -k "$keytab" -l alice mail.kpopd.test 1109
		[[ $output =~ ,\ from\ (.+)$ ]]
		log_has ": refused peer=${BASH_REMATCH[1]//[\[\]]/.} reason=\"not permitted to be this user\" user=alice "
	done
}

@test "kpopc --probe changes nothing of the mailbox, not even the access time of its file" {
	local accessed maildir=/home/carol/Maildir
	touch -a -d '3 days ago' /var/mail/carol
	accessed=$(stat -c %x /var/mail/carol)
	# The first login reads the whole mailbox, the second has an index.
	probe_carol OK '3 messages, .*' mail.kpopd.test
	[ "$(stat -c %x /var/mail/carol)" = "$accessed" ]
	spool_mark
	probe_carol OK '3 messages, .*' mail.kpopd.test
	spool_kept
	install -d -o carol -g carol -m 700 "$maildir"/{,new,cur,tmp}
	make_message new >"$maildir/new/1790000000.1.kpopd"
	make_message seen >"$maildir/cur/1790000001.1.kpopd:2,S"
	chown carol: "$maildir"/*/*
	server_stop
	server_start -m maildir:~/Maildir
	spool_place=$maildir
	spool_mark
	probe_carol OK '2 messages, .*' mail.kpopd.test
	spool_kept
	rm -r "$maildir"
}

@test "kpopc --probe rates its time by -w and -c, which the performance data repeat" {
	probe_carol OK '.*' -w 90 -c 100.5 mail.kpopd.test
	[[ $output == *" | time="*"s;90;100.5;0 "* ]]
	probe_carol OK '.*' -c 100 mail.kpopd.test
	[[ $output == *" | time="*"s;;100;0 "* ]]
	probe_carol WARNING \
	    'took [0-9.]+ s, of these [0-9.]+ s for (login|ticket): 3 messages, .*' \
	    -w 0.0001 -c 90 mail.kpopd.test
	probe_carol CRITICAL 'took .*: 3 messages, .*' -w 0.0001 -c 0.0001 \
	    mail.kpopd.test
	[[ $output == *" | time="*"s;0.0001;0.0001;0 ticket="*" quit="* ]]
}

@test "the times of kpopc --probe have no delay of its own" {
	local fast=' stat=0\.0[0-2].* quit=0\.0[0-2]'
	# With delayed acknowledgments each command takes 40 ms more. A busy
	# machine delays some.
	for _ in {1..50}; do
		probe_carol OK '.*' mail.kpopd.test
		[[ ! $output =~ $fast ]] || return 0
	done
	echo "$output"
	return 1
}

@test "kpopc --probe reports wrong usage as UNKNOWN, and kpopc refuses the options of a probe without it" {
	local bad
	for bad in '' 'a b c' '-w x h' '-w 0 h' '-w -1 h' '-c nan h' \
	    '-t inf h' '-t 1e9 h' '-w 2 -c 1 h' '-u alice h' '-Z h' \
	    '--nonsense h' 'h -k' '-t 1|2 h' '--cleartext h'; do
		probe UNKNOWN 'wrong usage.*, see kpopc\(1\)' $bad ||
		    { echo "$bad"; return 1; }
	done
	probe UNKNOWN "wrong usage: 1s, see .*" -w 1s mail.kpopd.test
	probe UNKNOWN "wrong usage: -Z, see .*" -pZ mail.kpopd.test
	for bad in '-w 1' '-c 1' '-t 1' '-l alice'; do
		run kpopc $bad mail.kpopd.test
		[ "$status" -eq 2 ] && [[ $output == *usage:* ]] ||
		    { echo "$bad: $status $output"; return 1; }
	done
}

@test "kpopc --probe sends no user's name that could be a command of its own" {
	local bad
	for bad in '' $'carol\r\nDELE 1' $'\t' "$(printf 'x%.0s' {1..256})"; do
		log_mark
		probe UNKNOWN "login: not a user's name .*" -k "$keytab" \
		    -l "$bad" mail.kpopd.test
		log_lacks ' login '
	done
}

@test "kpopc --probe without a usable ticket or keytab of its own is UNKNOWN" {
	local k=$WORLD/keytabs
	realm_login alice -l 1s
	await_second $((EPOCHSECONDS + 2))
	probe UNKNOWN 'ticket: .*expired.*kinit again.*' mail.kpopd.test
	realm_logout
	probe UNKNOWN 'ticket: no tickets: .*' mail.kpopd.test
	probe UNKNOWN 'ticket: .*/nonexistent.* not found' -k /nonexistent \
	    mail.kpopd.test
	probe UNKNOWN 'ticket: .* no suitable keys for bob@KPOPD.TEST' \
	    -k "$keytab" -u bob mail.kpopd.test
	realm_add former
	cp "$k/former.keytab" "$WORLD/old.keytab"
	admin "cpw -randkey former"
	probe UNKNOWN 'ticket: no ticket with the keytab: .*' \
	    -k "$WORLD/old.keytab" mail.kpopd.test
	admin "delprinc -force former"
	probe UNKNOWN "ticket: .*'former@KPOPD.TEST' not found.*" \
	    -k "$WORLD/old.keytab" mail.kpopd.test
}

# kdc_send SIGNAL: sends the KDC a signal. After STOP, teardown continues it.
kdc_send() {
	kdc_stopped=yes
	kill "-$1" "$(cat "$WORLD/krb5kdc.pid")"
}

@test "kpopc --probe is CRITICAL if no KDC answers, the service has no key, or the host does not listen" {
	kdc_send STOP
	probe_carol CRITICAL 'ticket: not done after 1 s' -t 1 \
	    mail.kpopd.test
	kdc_send CONT
	sed 's/127.0.0.1:88$/127.0.0.1:9/' /etc/krb5.conf >"$WORLD/nokdc.conf"
	KRB5_CONFIG=$WORLD/nokdc.conf probe_carol CRITICAL \
	    'ticket: no ticket with the keytab: Cannot contact any KDC.*' \
	    mail.kpopd.test
	probe_carol CRITICAL \
	    'ticket: no ticket for pop/nowhere@.*no such service.*' \
	    -s pop/nowhere mail.kpopd.test
	probe_carol CRITICAL 'connect: .* port 1: Connection refused' \
	    mail.kpopd.test 1
	probe_carol CRITICAL 'connect: nowhere.invalid port .*' \
	    -s pop/mail.kpopd.test nowhere.invalid
	server_stop
	probe_carol CRITICAL 'connect: .*: Connection refused' mail.kpopd.test
}

@test "kpopc --probe is CRITICAL if the server speaks another protocol or has no key for the ticket" {
	# Both wait for the other's first byte.
	hangs login -p mail.kpopd.test 1109
	server_stop
	server_start -k /nonexistent
	probe_carol CRITICAL 'login: .*' mail.kpopd.test
	server_stop
	server_start -p
	probe_carol CRITICAL 'login: the server does not speak .*' \
	    mail.kpopd.test
	probe_carol CRITICAL 'tls: no TLS: -ERR .*' -p --tls \
	    mail.kpopd.test 1109
}

@test "kpopc --probe --tls names the fault of a certificate: unknown authority, expired, another host" {
	local ca="-C $WORLD/tls/ca.pem"
	certificate old "$(expired_dates)" /CN=x \
	    'subjectAltName=DNS:mail.kpopd.test\n' ca
	certificate other "-days 9" /CN=x 'subjectAltName=DNS:other.test\n' ca
	server_stop
	server_start $(tls_options)
	probe_carol OK '.*' --tls $ca mail.kpopd.test
	probe_carol UNKNOWN 'tls: TLS: cannot read /nonexistent, .*' --tls \
	    -C /nonexistent mail.kpopd.test
	probe_carol CRITICAL 'tls: TLS: self-signed certificate .*' --tls \
	    mail.kpopd.test
	server_stop
	server_start -c "$WORLD/tls/old.pem" -K "$WORLD/tls/old.key"
	probe_carol CRITICAL 'tls: TLS: certificate has expired, .*' --tls \
	    $ca mail.kpopd.test
	server_stop
	server_start -c "$WORLD/tls/other.pem" -K "$WORLD/tls/other.key"
	probe_carol CRITICAL 'tls: TLS: hostname mismatch, .*' --tls $ca \
	    mail.kpopd.test
}

@test "kpopc --probe is a WARNING if another session has the mailbox, but not if a false server pretends this" {
	local mode
	echo alice@KPOPD.TEST >>/home/carol/.k5login
	for mode in '' -p; do
		server_stop
		server_start $mode
		realm_login alice
		pop_open $mode
		pop_hear '^\+OK'
		pop_ask "USER carol"
		pop_ask "PASS x"
		probe_carol WARNING \
		    'login: the server answered: -ERR \[IN-USE\].*' $mode \
		    mail.kpopd.test 1109
		pop_close
	done
	FALSE_GREETING='+OK\r\n' FALSE_CAPA='' \
	    FALSE_AUTH='-ERR [IN-USE] a\r\n' \
	    false_server "perl $BATS_TEST_DIRNAME/programs/false-pop3.pl"
	probe_carol CRITICAL 'login: the server answered: -ERR \[IN-USE\] a.*' \
	    -p mail.kpopd.test 2000
}

@test "kpopc --probe ends within its time limit, whichever answer the server leaves out, and leaves no process" {
	local case
	false_server 'exec sleep 60'
	hangs login mail.kpopd.test 2000
	hangs login -p mail.kpopd.test 2000
	false_end
	false_server 'echo +OK; read -r line; echo +OK; exec sleep 60'
	hangs tls -p --tls mail.kpopd.test 2000
	false_end
	# The greeting and the answers to USER and PASS come before that to
	# STAT.
	for case in 1:login 3:login 4:stat 5:quit; do
		edited 2110 "\$holds = 1; \$_ = '' if \$n >= ${case%:*}"
		hangs "${case#*:}" mail.kpopd.test 2110
		edited_end
	done
}

@test "kpopc --probe ends if one of its two processes is killed" {
	false_server 'exec sleep 60'
	"$KPOPD_BUILD/kpopc" --probe -k "$keytab" mail.kpopd.test 2000 \
	    3>&- >/dev/null &
	await 5 '[ "$(pgrep -cx kpopc)" -eq 2 ]'
	kill -KILL $!
	wait $! || :
	await 5 '! pgrep -x kpopc >/dev/null'
	# If only the other process is killed, the line reports it.
	"$KPOPD_BUILD/kpopc" --probe -k "$keytab" mail.kpopd.test 2000 \
	    3>&- >"$WORLD/output" &
	await 5 'pkill -KILL -x kpopc -P $!'
	refute wait $!
	grep '^KPOP CRITICAL - .*: kpopc ended with wait status 0x9' \
	    "$WORLD/output"
	await 5 '! pgrep -x kpopc >/dev/null'
}

# bats test_tags=attack:8-2
@test "kpopc --probe prints one line of printable ASCII without performance data, whatever a hostile server answers" {
	local answer hostile=(
	    '+OK 1|time=0s 2' '+OK 1' '+OK' '+OK -1 2' '+OK 1 2x' '+OK 1  2'
	    '+OK 9999999999999999999 1' '+OK 1 2\nKPOP OK - x' '+OK\0 1 2'
	    '-ERR a|b=1;2\e[31m\x90\xff<b>`id`$(id)&amp;' '\x00\xff|'
	    '* OK IMAP' '' '@{["-ERR " . "|" x 20000]}' '@{["x" x 200000]}')
	for answer in "${hostile[@]}"; do
		edited 2110 "\$_ = qq~$answer\\r\\n~ if \$n == 4"
		probe_carol CRITICAL '(stat|quit): .*' mail.kpopd.test 2110
		# Escape sequences are encoded once.
		[[ $answer != *e\[31* || $output == *[!\\]\\033\[31m* ]]
		[[ $output != *[\|\<\>\`\$\&]* && ${#output} -lt 4200 ]] ||
		    { echo "$answer: $output"; return 1; }
		edited_end
	done
}

@test "kpopc --probe prints no raw byte of a server that has not proven its identity" {
	local answer
	for answer in '-ERR |time=0s\e]0;x\a\r\n' '\x90|\r\n' '|' \
	    "@{['x' x 200000]}" '+OK\r\n'; do
		FALSE_GREETING=$answer FALSE_CAPA= FALSE_AUTH='+OK |\e\r\n' \
		    false_server \
		    "perl $BATS_TEST_DIRNAME/programs/false-pop3.pl"
		probe_carol CRITICAL 'login: .*' -p -t 4 mail.kpopd.test 2000
		[[ $output != *\|* ]] || { echo "$output"; return 1; }
		false_end
	done
}

@test "kpopc --probe rejects a server that closes the connection early or ends the session with -ERR" {
	local case
	for case in 1:login 4:stat 5:quit; do
		edited 2110 "return if \$n < ${case%:*};
		    system qw(pkill -KILL -P), \$\$; exit"
		probe_carol CRITICAL \
		    "${case#*:}: the server closed the connection, .*" \
		    mail.kpopd.test 2110
		edited_end
	done
	edited 2110 '$_ = "-ERR [SYS/TEMP] lost\r\n" if $n == 5'
	probe_carol CRITICAL \
	    'quit: the server answered: -ERR \[SYS/TEMP\] lost, .*' \
	    mail.kpopd.test 2110
}

@test "kpopc --probe works if SIGCHLD is ignored, descriptors are closed or a link names it, and reports that it cannot write" {
	perl -e '$SIG{CHLD} = "IGNORE"; exec @ARGV' "$KPOPD_BUILD/kpopc" \
	    --probe -k "$keytab" -l carol mail.kpopd.test | grep '^KPOP OK - '
	run bash -c "'$KPOPD_BUILD/kpopc' --probe -k '$keytab' -l carol \
	    mail.kpopd.test <&- 2>&-"
	[ "$status" -eq 0 ]
	run bash -c "'$KPOPD_BUILD/kpopc' --probe -k '$keytab' -l carol \
	    mail.kpopd.test >/dev/full"
	[ "$status" -eq 3 ]
	# As plugins are often installed.
	ln -s "$KPOPD_BUILD/kpopc" "$WORLD/check_kpop"
	run "$WORLD/check_kpop" --probe -k "$keytab" mail.kpopd.test 1
	[[ $output == "KPOP CRITICAL - connect: mail.kpopd.test port 1: "* ]]
}

# example TEXT: prints the commands that follow the line TEXT in kpopc(1), for
# this realm, host and build.
example() {
	awk -v text="$1" '
	index($0, text) == 1 { found = 1 }
	inside && /^\.Ed/ { exit }
	inside
	found && /^\.Bd/ { inside = 1 }' "$top/kpopc.1" |
	    sed -e 's/\\e$/\\/' -e 's/EXAMPLE\.ORG/KPOPD.TEST/' \
		-e 's/^kadmin /kadmin.local /' \
		-e "s,\(/usr/bin/\)\?kpopc ,$KPOPD_BUILD/kpopc ," \
		-e 's/mail\.example\.org/mail.kpopd.test/' \
		-e "s,/var/log/mail.log,$WORLD/syslog,"
}

@test "The examples of kpopc(1) for Nagios, cron and the log work as the monitoring system's user" {
	mkdir -p /etc/nagios
	useradd nagios
	server_stop
	server_start $(tls_options)
	example "On a host with" | sh -e
	example "On the server:" | sh -e
	example "For Nagios" | tr -d '\n' |
	    sed -e 's/.*command_line//' -e 's/\\ / /g' -e 's/}$//' \
		-e 's/\$HOSTNAME\$/mail.kpopd.test/' \
		-e 's/-w 2 -c 5/-w 60 -c 90/' >"$WORLD/nagios"
	chmod 644 "$WORLD/nagios"
	run su nagios -s /bin/sh -c \
	    "export SSL_CERT_FILE=$WORLD/tls/ca.pem; . $WORLD/nagios"
	echo "$output"
	[ "$status" -eq 0 ]
	[[ $output == "KPOP OK - 0 messages, 0 bytes, login as watch, from "* ]]
	[[ $output == *" | time="*"s;60;90;0 "*" tls="* ]]
	# From cron it prints nothing, unless it fails.
	cd "$WORLD/home/root"
	cp /etc/nagios/kpop.keytab .
	example "From cron, which" >"$WORLD/cron"
	run sh "$WORLD/cron"
	[ "$status" -eq 0 ] && [ -z "$output" ]
	# Of the three logins only alice's is left by grep.
	pop alice QUIT
	log_count 3 ': login peer='
	run bash -c "$(example "Therefore these commands")"
	echo "$output"
	[[ $output == *": login peer="*" user=alice "* ]]
	[[ $output != *user=watch* ]]
	server_stop
	run sh "$WORLD/cron"
	[[ $output == "KPOP CRITICAL - connect: "*": Connection refused" ]]
}
