#!/usr/bin/env bats
# Who is beyond the ends of a layer, or has one of its processes: somebody in the middle, a false server, a compromised kpopd-tls or relay.

load helpers/all

setup_file() { tls_make; }

setup() {
	begin_test
	realm_login alice
	mbox one two three | store alice
}

teardown() {
	for pid in ${middle-} ${fake-}; do kill "$pid" 2>/dev/null || true; done
	server_stop
	end_test
}

# meddled PORT ARGUMENT …: starts meddle.pl there; $middle is its pid.
meddled() {
	perl "$BATS_TEST_DIRNAME/helpers/meddle.pl" "$@" 3>&- 2>"$WORLD/middle.err" &
	middle=$!
	await 5 "ss -Hltn sport = $1 | grep -q ."
}

# Ends it.
alone_again() {
	kill "$middle"
	await 5 '! ss -Hltn sport = 2110 | grep -q .'
	[ ! -s "$WORLD/middle.err" ] || { cat "$WORLD/middle.err"; return 1; }
}

# serve_for tokens|records: the server, and into $options kpopc's options, for a layer of GSSAPI or TLS.
serve_for() {
	if [ "$1" = tokens ]; then
		options=-p
		server_start -p
	else
		options="--tls -C $WORLD/tls/ca.pem"
		server_start $(tls_options)
	fi
}

# through STATUS KPOPC_OPTION …: kpopc through port 2110 marks a message, and ends with this status; $output is what it prints.
through() {
	local expected=$1
	shift
	run bash -c 'printf "%s\r\n" "USER alice" "PASS x" "DELE 1" "RETR 2" QUIT | timeout 20 "$KPOPD_BUILD/kpopc" "$@" mail.kpopd.test 2110 2>"$WORLD/errors"' - "$@"
	[[ $status == $expected ]] || { echo "$how: $status: $output"; cat "$WORLD/errors"; return 1; }
}

@test "the client's tokens and records: somebody in the middle repeats, drops, changes or cuts one, and nothing is removed" {
	for kind in tokens records; do
		serve_for $kind
		for how in left_out flipped huge empty clear half none length_only alert warnings; do
			[ $kind = records ] || [ $how != alert ] || continue
			[ $kind = records ] || [ $how != warnings ] || continue
			mbox one two three | store alice
			spool_keep
			meddled 2110 $kind up $how
			# With tokens kpopc hears the end only, in order or by a reset.
			through $([ $kind = tokens ] && echo '[03]' || echo 3) $options
			[[ $output != *bye* && $output != *"two line 3"* && $output != *forged* ]] || { echo "$kind $how: $output"; return 1; }
			alone_again
			await 5 '! pgrep -x "kpopd|kpopd-tls" >/dev/null'
			spool_untouched || { echo "$kind $how"; return 1; }
		done
		server_stop
	done
}

@test "the server's tokens and records: kpopc prints nothing that was not the server's, once and in order, and says that the connection broke" {
	for kind in tokens records; do
		serve_for $kind
		for how in twice left_out late flipped huge empty clear half none length_only alert; do
			# An end between two tokens is the server's word for all that kpopc can tell.
			[ $kind$how != tokensnone ] || continue
			[ $kind = records ] || [ $how != alert ] || continue
			mbox one two three | store alice
			meddled 2110 $kind down $how
			through 3 $options
			[[ $output != *forged* ]]
			grep -Eq '^kpopc: (the security layer|TLS): ' "$WORLD/errors" || { echo "$kind $how"; cat "$WORLD/errors"; return 1; }
			alone_again
			await 15 '! pgrep -x "kpopd|kpopd-tls" >/dev/null'
		done
		server_stop
	done
}
