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

# bytes: prints the size of carol's mailbox as POP3 counts it.
bytes() {
	pop carol STAT QUIT | sed -n 's/^+OK [0-9]* \([0-9]*\)$/\1/p'
}

# false_server COMMAND: starts a server on port 2000 that runs the shell command
# for each client. Sets $false_pid.
false_server() {
	socat TCP-LISTEN:2000,reuseaddr,fork SYSTEM:"$1" 3>&- 2>/dev/null &
	false_pid=$!
	await 5 'ss -Hltn sport = 2000 | grep -q .'
}

# false_end, edited_end: end the server that false_server or edited has started.
false_end() {
	kill "$false_pid"
	await 5 '! ss -Hltn sport = 2000 | grep -q .'
}

edited_end() {
	kill "$middle"
	await 5 '! ss -Hltn sport = 2110 | grep -q .'
}

@test "kpopc --probe prints one line with the mailbox, the user, its own address and the time of each phase" {
	local size times
	realm_login carol
	rm /home/carol/.k5login
	size=$(bytes)
	probe OK "3 messages, $size bytes, login as carol from (127.0.0.1|\\[::1\\]):[0-9]+" mail.kpopd.test
	times='[0-9]+\.[0-9]{3}s;;;0'
	[[ $output =~ \ \|\ time=$times\ ticket=$times\ connect=$times\ login=$times\ stat=$times\ quit=$times$ ]]
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
