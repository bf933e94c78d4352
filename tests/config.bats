#!/usr/bin/env bats
# Checks that kpopd reads its options from /etc/kpopd.conf and the file of -f,
# that the command line wins, and that a mistake is logged with file and line
# and never printed to the client.

load helpers/all

setup_file() {
	server_start
	begin_replay_cache
	server_stop
}
teardown_file() { :; }
setup() {
	begin_test
	realm_login alice
	mbox one | store alice
	rm -rf /etc/kpopd.conf
}
teardown() { end_test; }

# conf [LINE ...]: writes these lines to /etc/kpopd.conf, after those that every
# server of the tests needs.
conf() {
	printf '%s\n' "# Written by tests/config.bats." "" "state $state" \
	    "keytab $WORLD/server.keytab" "$@" >/etc/kpopd.conf
}

# without_options: removes the options that server_configure has written, and
# starts xinetd.
without_options() {
	server_configure
	sed -i "/server_args/d" "$WORLD/xinetd.conf"
	xinetd_run
}

# greeting: prints what kpopd sends to a client that says nothing, until it
# closes the connection or five seconds have passed.
greeting() {
	timeout 5 bash -c 'exec 5<>/dev/tcp/127.0.0.1/1109; cat <&5' || :
}

@test "kpopd started by xinetd without an option reads /etc/kpopd.conf" {
	without_options
	conf "mailboxes mbox:$WORLD/held/%u"
	mkdir -m 755 "$WORLD/held"
	mbox one two >"$WORLD/held/alice"
	chown alice "$WORLD/held/alice"
	run pop alice QUIT
	[[ $output == *"+OK 2 messages"* ]]
	# The next connection reads it again.
	conf
	run pop alice QUIT
	[[ $output == *"+OK 1 messages"* ]]
}

@test "an option on the command line wins over the file, whole, and -f names another file" {
	conf "realms NOWHERE.TEST" "timeouts 30:7"
	server_start -r KPOPD.TEST
	run pop alice QUIT
	[[ $output == *"+OK 1 messages"* ]]
	server_stop
	server_start
	run pop alice QUIT
	[[ $output == *"-ERR [AUTH]"* ]]
	server_stop
	sed /realms/d /etc/kpopd.conf >"$WORLD/other.conf"
	server_start --config="$WORLD/other.conf"
	run pop alice QUIT
	[[ $output == *"+OK 1 messages"* ]]
}
