#!/usr/bin/env bats
# Checks several mail hosts that share their mailboxes on a real distributed
# file system, GlusterFS (helpers/hosts.bash), with the set-up of docs/ADMIN.md.

load helpers/all
load helpers/hosts
load helpers/torture

setup_file() {
	[ -z "$(hosts_missing)" ] || return 0
	hosts_begin=$EPOCHREALTIME
	hosts_start || return
	echo "# hosts: started in $(bc <<<"$EPOCHREALTIME - $hosts_begin") s" >&3
}

teardown_file() {
	[ -n "$(hosts_missing)" ] || hosts_stop
}

setup() {
	[ -z "$(hosts_missing)" ] || skip "$(hosts_missing)"
	hosts_mail=/srv/mail
}

teardown() {
	pop_close 2>/dev/null || true
}

@test "each of two hosts serves a mailbox on GlusterFS, directly and through HAProxy" {
	make_message one | hosts_deliver a alice
	make_message two | hosts_deliver b alice
	for server in a b pop pop; do
		run hosts_pop $server alice STAT QUIT
		[ "${lines[2]}" = "+OK 2 messages" ] || { echo "$output"; return 1; }
	done
	hosts_pop a alice "DELE 1" QUIT
	hosts_pop b alice STAT QUIT
}

@test "no message is lost when one host removes while another delivers" {
	local mode store count=12
	! long || count=500
	for mode in default coherent; do
		hosts_mode $mode
		for store in mbox maildir; do
			loss_trial $store $count >"$WORLD/loss" ||
			    { cat "$WORLD/loss"; return 1; }
			sed "s/^# hosts:/& $mode:/" "$WORLD/loss" >&3
		done
	done
}
