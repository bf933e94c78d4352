#!/usr/bin/env bats
# What whoever starts kpopd leaves to it: variables, descriptors, signals,
# umask, limits. The client hears the protocol, the log is told, the mailbox is
# kept.

load helpers/all

setup_file() {
	server_start
	mbox one two | store alice
	realm_login alice
	pop alice STAT "RETR 1" "UIDL 2" QUIT >"$WORLD/usual"
	grep -q '^+OK bye, 2 messages left' "$WORLD/usual"
	server_stop
}

setup() {
	begin_test
	mbox one two | store alice
	realm_login alice
	spool_mark
}

teardown() {
	rm -f /home/alice/.k5login
	server_stop
	end_test
}

# as_ever: a session of alice hears, and leaves in the log and in the spool,
# what it would without all this.
as_ever() {
	log_mark
	pop alice STAT "RETR 1" "UIDL 2" QUIT >"$WORLD/heard"
	cmp "$WORLD/usual" "$WORLD/heard" && log_says_quits "1 0 2" &&
	    spool_kept
}

# or_refused: a session is as ever, or hears nothing of the mailbox and no word
# that is not the protocol's, and the log says why.
or_refused() {
	log_mark
	pop alice STAT "RETR 1" "UIDL 2" QUIT >"$WORLD/heard" || true
	spool_kept || return
	cmp -s "$WORLD/usual" "$WORLD/heard" &&
	    { served=$((${served-0} + 1)); return; }
	[ -z \
	    "$(grep -v '^+OK kpopd at\|^+OK PASS comes\|^-ERR \[' \
		"$WORLD/heard")" ] || { cat "$WORLD/heard"; return 1; }
	log_has ': (fatal|failed|refused) .*(error|reason)='
}

# another_is_named: alice's .k5login lets in somebody else, and so not alice.
another_is_named() {
	echo bob@KPOPD.TEST >/home/alice/.k5login
	chown alice /home/alice/.k5login
}

# variable NAME=VALUE: kpopd is started with it.
variable() {
	printf '%s\n' "$1" >"$WORLD/variable"
}

by_variable='exec env "$(cat "$WORLD/variable")" "$@"'

# bats test_tags=catalogue:81-1
@test "each variable that libkrb5, the C library or the linker would obey changes nothing" {
	library=$(ls /lib/*/libBrokenLocale.so.1 | head -n 1)
	[ -n "$library" ]
	server_under "WORLD=$WORLD; $by_variable"
	for one in KRB5_TRACE="$WORLD/trace" KRB5RCACHENAME=none: \
	    KRB5RCACHETYPE=none KRB5RCACHEDIR=/nowhere \
	    KRB5CCNAME=FILE:/nowhere \
	    KRB5_CLIENT_KTNAME=/nowhere KRB5_KDC_PROFILE=/nowhere \
	    KRB5_KPASSWD=/nowhere GSS_MECH_CONFIG=/nowhere TMPDIR=/nowhere \
	    HOME=/nowhere USER=root LOGNAME=root PATH=/nowhere \
	    SHELL=/bin/false IFS=a LANG=tr_TR.UTF-8 LC_ALL=tr_TR.UTF-8 \
	    LOCPATH=/nowhere NLSPATH=/nowhere GCONV_PATH=/nowhere \
	    GETCONF_DIR=/nowhere HOSTALIASES=/etc/passwd LOCALDOMAIN=nowhere \
	    RES_OPTIONS=nowhere TZDIR=/nowhere MALLOC_TRACE="$WORLD/trace" \
	    MALLOC_CHECK_=3 GLIBC_TUNABLES=nowhere \
	    SSLKEYLOGFILE="$WORLD/trace" \
	    OPENSSL_CONF=/nowhere SSL_CERT_FILE=/nowhere LISTEN_FDS=3 \
	    NOTIFY_SOCKET=/nowhere \
	    LD_LIBRARY_PATH=/nowhere LD_BIND_NOW=1 LD_PRELOAD="$library" \
	    LD_DEBUG_OUTPUT="$WORLD/trace" LD_PROFILE_OUTPUT="$WORLD"; do
		[ -z "${SANITIZER-}" ] ||
		    [[ $one != LD_* && $one != MALLOC_* && $one != GLIBC_* ]] ||
		    continue
		variable "$one"
		as_ever || { echo "with $one"; return 1; }
		[ ! -e "$WORLD/trace" ]
	done
}

# bats test_tags=catalogue:81-6
@test "TZ may be any file: it is taken for a zone or for none, and nothing of it is said" {
	server_under "WORLD=$WORLD; $by_variable"
	for zone in /etc/passwd :/etc/shadow /dev/zero ../../../etc/passwd \
	    /nowhere Europe/Berlin XYZ-25 "$(printf '%01000d' 0)" ''; do
		variable "TZ=$zone"
		as_ever || { echo "with TZ=$zone"; return 1; }
		log_lines | grep 'root:\|alice:' && return 1 || :
	done
}

# bats test_tags=catalogue:81-3
@test "KRB5_KTNAME is obeyed: with a file that is not there nobody is let in, and the log says so" {
	server_under "WORLD=$WORLD; $by_variable"
	# Without -k.
	sed -i "s,-k [^ ]*server.keytab,," "$WORLD/xinetd.conf"
	kill -HUP "$(cat "$WORLD/xinetd.pid")"
	sleep 0.5
	variable "KRB5_KTNAME=$WORLD/server.keytab"
	as_ever
	variable KRB5_KTNAME=/nowhere
	or_refused
	run wire </dev/null
	[[ $output == "-ERR [SYS/PERM] the server has no Kerberos key"* ]]
	log_has 'failed .*what="reading the keytab [^"]+" error='
	[ "${served-0}" -eq 0 ]
}

# bats test_tags=catalogue:81-4,catalogue:81-5
@test "without a krb5.conf, or with one that is none, the log says why nobody gets in" {
	server_under "WORLD=$WORLD; $by_variable"
	: >"$WORLD/empty.conf"
	# What is not there is empty, as libkrb5 has it: then no realm is ours.
	for file in /nowhere "$WORLD/empty.conf"; do
		variable "KRB5_CONFIG=$file"
		or_refused
		log_has 'refused .*reason="not permitted to be this user" user=alice principal=alice@KPOPD\.TEST$'
	done
	[ "$(tail -n 1 "$WORLD/heard")" = \
	    "-ERR [AUTH] this ticket does not open that mailbox" ]
	echo '[libdefaults' >"$WORLD/bad.conf"
	for file in "$WORLD/bad.conf" /etc; do
		variable "KRB5_CONFIG=$file"
		or_refused
		run wire </dev/null
		[[ $output == \
		    "-ERR [SYS/PERM] the server has no Kerberos key"* ]]
		log_has \
		    'failed .*what="initializing libkrb5 from krb5.conf" error='
	done
	[ "${served-0}" -eq 0 ]
}

# bats test_tags=catalogue:81-7
@test "what is preloaded into kpopd is not preloaded into kpopd-tls, whose environment has nothing of the caller's" {
	[ -z "${SANITIZER-}" ] || skip "the sanitizers' variables are handed on"
	tls_make
	library=$(ls /lib/*/libBrokenLocale.so.1 | head -n 1)
	server_under "export LD_PRELOAD=$library KRB5_TRACE=$WORLD/trace TZ=UTC SECRET=1; exec \"\$@\"" $(tls_options)
	pop_open --tls -C "$WORLD/tls/ca.pem"
	pop_hear '^\+OK'
	pop_ask "USER alice"
	grep -q BrokenLocale "/proc/$(monitor_pid)/maps"
	tls=$(pgrep -n -x kpopd-tls)
	grep -q libssl "/proc/$tls/maps"
	grep BrokenLocale "/proc/$tls/maps" && return 1 || :
	[ "$(tr '\0' '\n' <"/proc/$tls/environ" | cut -d= -f1 | sort |
	    tr '\n' ' ')" = "PATH TZ " ]
	pop_ask "PASS x"
	pop_ask QUIT '^\+OK bye, 2'
	log_says_quits "0 0 2"
	spool_kept
}

# bats test_tags=catalogue:82-1,catalogue:82-2
@test "descriptors 0 to 2, each closed or not: without 0 nobody is there to be served, and nothing is said to anybody but the log" {
	for closed in '1>&-' '2>&-' '1>&- 2>&-' '0<&-' '0<&- 1>&-' '0<&- 2>&-' \
	    '0<&- 1>&- 2>&-'; do
		server_under "exec \"\$@\" $closed"
		case $closed in
		0*)
			log_mark
			run wire </dev/null
			[ -z "$output" ] ||
			    { echo "with $closed: $output"; return 1; }
			log_has \
			    'fatal .*error="standard input is not a connection'
			spool_kept
			;;
		*) as_ever || { echo "with $closed"; return 1; } ;;
		esac
		server_stop
	done
}

# It has 11 descriptors and not what it was started with: see privileges.bats
# for which.
session_is_clean() {
	pop_login alice
	has_nothing "$(child_pid)" "$(id -u alice)" "$(id -g alice)"
	[ "$(field "$(child_pid)" SigIgn)" = 0000000001001000 ]
	[ "$(fds "$(child_pid)" | wc -l)" -eq 12 ]
	[ "$(fds "$(broker_pid)" | wc -l)" -lt 11 ]
	pop_ask QUIT
	pop_hear_end
	pop_close
}

# bats test_tags=catalogue:83
@test "a thousand descriptors that were left open are closed" {
	# As much as perl itself has, and the connection itself, which would
	# keep it from ending.
	for what in 'open(F, "+<", "/dev/null"); fileno F' 0; do
		server_under "ulimit -n 4096; WORLD=$WORLD"'
			exec perl -MPOSIX -e '\''my $what = '"$what"'; for (10 .. 1009) { dup2($what, $_) // die }
			    open(N, ">", shift); print N scalar(my @n = glob "/proc/self/fd/*"), "\n"; close N; exec @ARGV'\'' "$WORLD/many" "$@"'
		as_ever
		[ "$(cat "$WORLD/many")" -ge 1003 ]
		session_is_clean
		server_stop
	done
}

# ends_in_time: the login deadline ends a login that hangs; a child that is
# killed is seen, which is SIGCHLD's.
ends_in_time() {
	mkfifo /home/alice/.k5login
	chown alice /home/alice/.k5login
	log_mark
	run pop alice QUIT
	rm /home/alice/.k5login
	[[ $output != *messages* ]]
	log_has 'refused .*reason="login deadline, session killed"'
	log_mark
	pop_login alice
	pop_ask "DELE 1"
	kill -KILL "$(child_pid)"
	pop_hear_end
	log_has 'fatal .*session was ended by signal 9'
	pop_close
	await 5 '! pgrep -x kpopd >/dev/null'
	spool_kept
}

# bats test_tags=catalogue:84-1
@test "signals ignored, SIGCHLD, SIGPIPE and SIGALRM among them: they are not, when it matters" {
	server_under 'exec perl -e '\''$SIG{$_} = "IGNORE" for grep !/^(NUM|ZERO|KILL|STOP|RT)/, keys %SIG; exec @ARGV'\'' "$@"' -t 2:600
	as_ever
	session_is_clean
	ends_in_time
}

# bats test_tags=catalogue:84-2
@test "signals blocked, SIGCHLD, SIGPIPE and SIGALRM among them: they are not, when it matters" {
	server_under 'exec perl -MPOSIX -e '\''my $all = POSIX::SigSet->new; $all->fillset; sigprocmask(SIG_BLOCK, $all) or die; exec @ARGV'\'' "$@"' -t 2:600
	as_ever
	session_is_clean
	ends_in_time
}

# bats test_tags=catalogue:85
@test "a umask of 0: nothing that is made can be read or written by others" {
	server_under 'umask 0; exec "$@"'
	rm -rf "$state"
	[ -z "${SANITIZER-}" ] || { server_stop; xinetd_run; }
	as_ever
	pop_login alice
	pop_ask "DELE 1"
	pop_ask QUIT
	pop_hear_end
	uid=$(id -u alice)
	own=users/$uid/$(basename "$(kept)")
	[ "$(cd "$state" &&
	    stat -c '%n %U %a' users "users/$uid.mailboxes" "users/$uid" \
	    "users/$uid"/* "$own"/* preauth replay | sort)" = "$(sort <<-END
	users root 700
	users/$uid.mailboxes root 600
	users/$uid alice 700
	users/$uid/places alice 600
	$own alice 700
	$own/mailbox alice 600
	$own/index alice 600
	$own/session alice 600
	$own/yield alice 600
	preauth root 711
	replay root 600
	END
	)" ]
	[ "$(stat -c '%U:%G %a' /var/mail/alice)" = "alice:mail 660" ]
	[ -z "${SANITIZER-}" ] || return 0
	[ "$(stat -c '%U %a' "$state")" = "root 755" ]
	# In the middle of a removal: the journal.
	server_stop
	server_under 'umask 0; exec "$@"' -l fcntl
	mbox one two >"$WORLD/old"
	doomed=(1)
	killed_quit together fsync 3
	[ "$(stat -c '%U %a' "$(kept)/j")" = "alice 600" ]
	pop alice QUIT
	spool_is alice two
}

# limited 'ULIMIT OPTIONS': kpopd is started with this limit.
limited() {
	echo "$1" >"$WORLD/limit"
}

by_limit='ulimit $(cat "$WORLD/limit") && exec "$@"'

# bats test_tags=catalogue:86-1
@test "few descriptors: served as ever, or not at all with a word in the log; never let in for want of one" {
	# With fewer than four no program starts that has libraries: that is the
	# linker's to say.
	server_under "WORLD=$WORLD; $by_limit"
	for n in {4..20}; do
		limited "-n $n"
		or_refused || { echo "with $n descriptors"; return 1; }
	done
	# 20 are enough.
	[ "${served-0}" -ge 1 ]
	as_ever
	another_is_named
	for n in {4..20..2}; do
		limited "-n $n"
		served=0
		or_refused
		[ "$served" -eq 0 ]
		grep -q messages "$WORLD/heard" && return 1 || :
	done
}

# bats test_tags=catalogue:86-2
@test "files may have no byte, or few: nobody is let in without the whole replay cache; with it, as ever" {
	server_under "WORLD=$WORLD; $by_limit"
	whole=$(($(stat -c %s "$state/replay") / 1024))
	# In KiB: it is neither made nor written in part.
	for n in $((whole - 1)) 1000 64 1 0; do
		rm -f "$state/replay"
		limited "-f $n"
		served=0
		or_refused || { echo "with $n KiB"; return 1; }
		[ "${served-0}" -eq 0 ]
		log_has "failed .*what=\"opening the replay cache $state/replay\" error=\"File too large\""
		log_mark
	done
	limited "-f $whole"
	as_ever
	limited "-f 64"
	for n in 1 2 3; do
		served=0
		or_refused
		[ "${served-0}" -eq 0 ]
	done
	log_has \
	    'refused .*reason="Kerberos" error="replay cache: File too large"'
}

# bats test_tags=catalogue:86-4
@test "no processes: root may make its own; what a killed session leaves to the broker is left to the next login" {
	[ -z "${SANITIZER-}" ] || skip "ASan's own system calls are in the way"
	server_under "WORLD=$WORLD; $by_limit"
	for n in 0 1; do
		limited "-u $n"
		as_ever || { echo "with $n processes"; return 1; }
	done
	mbox one two three >"$WORLD/old"
	doomed=(1)
	limited "-u 0"
	log_mark
	killed_quit alone fsync 3
	log_has 'fatal .*error="fork: Resource temporarily unavailable"'
	[ -e "$(kept)/j" ]
	run pop alice QUIT
	[[ $output == *"+OK 2 messages"*"+OK bye, 2 messages left" ]]
	log_has 'recovery .*state=j$'
	spool_is alice two three
	no_journal
}
