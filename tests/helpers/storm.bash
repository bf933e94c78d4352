# Makes MDAs deliver to alice while clients fetch, and records what happens to
# each message (tests/programs/storm.pl). Test files that need this file load
# it.

setup() {
	begin_test
	realm_login alice
	export STORM="$WORLD/storm" KPOPD_BUILD
	mkdir -p "$STORM"
	store alice </dev/null
	exim_configure
	pids=()
}

teardown() {
	[ ${#pids[@]} -eq 0 ] || kill "${pids[@]}" 2>/dev/null || true
	rm -rf "$STORM"
	end_test
}

# exim_configure: configures a real exim that serves only local mailboxes. exim
# adds no Received field, because the field would differ at each attempt.
exim_configure() {
	cat >/etc/exim4/exim4.conf <<-END
	primary_hostname = mail.kpopd.test
	spool_directory = $WORLD/exim
	log_file_path = syslog
	received_header_text =
	keep_environment =
	begin routers
	local:
	  driver = accept
	  check_local_user
	  transport = spool
	begin transports
	spool:
	  driver = appendfile
	  file = /var/mail/\$local_part_data
	  group = mail
	  mode = 0660
	  lock_interval = 1s
	begin retry
	* * F,1h,1s
	END
}

# storm COMMAND ...: runs tests/programs/storm.pl.
storm() {
	timeout 120 perl "$BATS_TEST_DIRNAME/programs/storm.pl" "$@"
}

# by_procmail, by_exim, by_postfix: deliver standard input to alice. exim queues
# a message if the mailbox is locked for too long.
by_procmail() {
	deliver alice
}

by_exim() {
	exim4 -i -odi -f sender@kpopd.test alice
}

by_postfix() {
	setpriv --reuid alice --regid mail --clear-groups perl \
	    "$BATS_TEST_DIRNAME/programs/locker.pl" /var/mail/alice
}

# worker MDA FIRST STEP LAST GAP: delivers the messages FIRST, FIRST + STEP and
# so on up to LAST. Delivers one message every GAP seconds, if the MDA is fast
# enough. Then waits until exim's queue is empty.
worker() {
	local n begin=$EPOCHREALTIME
	for n in $(seq "$2" "$3" "$4"); do
		until "by_$1" <"$STORM/$n"; do sleep 0.1; done
		echo "$n" >>"$STORM/delivered"
		sleep "$(awk "BEGIN {
		    rest = $begin + ($n - $2) / $3 * $5 - $EPOCHREALTIME
		    print (rest > 0 ? rest : 0)
		}")"
	done
	[ "$1" != exim ] ||
	    until [ "$(exim4 -bpc)" -eq 0 ]; do exim4 -qff; sleep 0.2; done
}

# storm_of COUNT GAP: starts two workers for each MDA.
storm_of() {
	local n mdas=(procmail exim postfix)
	storm make "$1"
	for n in 1 2 3 4 5 6; do
		worker "${mdas[n % 3]}" "$n" 6 "$1" "$2" 3>&- &
		pids+=($!)
	done
}

# storm_lasts: returns true while a worker still delivers.
storm_lasts() {
	kill -0 "${pids[@]}" 2>/dev/null
}
