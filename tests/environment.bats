#!/usr/bin/env bats
# Checks kpopd with any inherited variables, descriptors, signals, umask and
# limits. A session must be as usual, or be refused with a reason in the log.

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
	end_test
}

# is_usual: runs a session of alice. Returns true if the answers, the log and
# the spool are as usual.
is_usual() {
	log_mark
	pop alice STAT "RETR 1" "UIDL 2" QUIT >"$WORLD/answers"
	cmp "$WORLD/usual" "$WORLD/answers" && log_says_quits "1 0 2" &&
	    spool_kept
}

# is_usual_or_refused: runs a session of alice. Returns true if it is as usual,
# and then adds 1 to $served. Also returns true if the answers contain only
# greetings and protocol errors, and the log has the reason.
is_usual_or_refused() {
	log_mark
	pop alice STAT "RETR 1" "UIDL 2" QUIT >"$WORLD/answers" || true
	spool_kept || return
	cmp -s "$WORLD/usual" "$WORLD/answers" &&
	    { served=$((${served-0} + 1)); return; }
	! grep -v '^+OK kpopd at\|^+OK PASS comes\|^-ERR \[' \
	    "$WORLD/answers" || return
	log_has ': (fatal|failed|refused) .*(error|reason)='
}

# k5login_names_bob: makes a .k5login that admits bob to alice's mailbox, and
# therefore not alice.
k5login_names_bob() {
	echo bob@KPOPD.TEST >/home/alice/.k5login
	chown alice /home/alice/.k5login
}

# set_variable NAME=VALUE: starts later kpopds with this variable, if the server
# was started with $with_variable.
set_variable() {
	printf '%s\n' "$1" >"$WORLD/variable"
}

with_variable="WORLD=$WORLD;"' exec env "$(cat "$WORLD/variable")" "$@"'

# inherit HOW: prints a shell command that starts kpopd through
# tests/programs/inherit.pl.
inherit() {
	echo "exec perl '$BATS_TEST_DIRNAME/programs/inherit.pl' $1 \"\$@\""
}

# bats test_tags=catalogue:81-1
@test "kpopd ignores each variable that libkrb5, OpenSSL, the C library or the linker would obey" {
	library=$(ls /lib/*/libBrokenLocale.so.1 | head -n 1)
	[ -n "$library" ]
	rm -rf "$WORLD/trace"
	server_under "$with_variable"
	for setting in KRB5_TRACE="$WORLD/trace" KRB5RCACHENAME=none: \
	    KRB5RCACHETYPE=none KRB5RCACHEDIR=/nowhere \
	    KRB5CCNAME=FILE:/nowhere \
	    KRB5_CLIENT_KTNAME=/nowhere KRB5_KDC_PROFILE=/nowhere \
	    KRB5_KPASSWD=/nowhere GSS_MECH_CONFIG=/nowhere TMPDIR=/nowhere \
	    HOME=/nowhere USER=root LOGNAME=root PATH=/nowhere \
	    SHELL=/bin/false IFS=a LANG=tr_TR.UTF-8 LC_ALL=tr_TR.UTF-8 \
	    LOCPATH=/nowhere NLSPATH=/nowhere GCONV_PATH=/nowhere \
	    GETCONF_DIR=/nowhere HOSTALIASES=/etc/passwd LOCALDOMAIN=nowhere \
	    RES_OPTIONS=nowhere TZDIR=/nowhere MALLOC_TRACE="$WORLD/trace" \
	    MALLOC_CHECK_=3 GLIBC_TUNABLES=glibc.malloc.perturb=165 \
	    SSLKEYLOGFILE="$WORLD/trace" \
	    OPENSSL_CONF=/nowhere SSL_CERT_FILE=/nowhere LISTEN_FDS=3 \
	    NOTIFY_SOCKET=/nowhere \
	    LD_LIBRARY_PATH=/nowhere LD_BIND_NOW=1 LD_PRELOAD="$library" \
	    LD_DEBUG_OUTPUT="$WORLD/trace" LD_PROFILE_OUTPUT="$WORLD"; do
		[ -z "${SANITIZER-}" ] ||
		    [[ ! $setting =~ ^(LD|MALLOC|GLIBC)_ ]] || continue
		set_variable "$setting"
		is_usual || { echo "with $setting"; return 1; }
		[ ! -e "$WORLD/trace" ]
	done
}

# bats test_tags=catalogue:81-6
@test "kpopd takes any file in TZ as a time zone or as none, and logs nothing of its content" {
	server_under "$with_variable"
	for zone in /etc/passwd :/etc/shadow /dev/zero ../../../etc/passwd \
	    /nowhere Europe/Berlin XYZ-25 "$(printf '%01000d' 0)" ''; do
		set_variable "TZ=$zone"
		is_usual || { echo "with TZ=$zone"; return 1; }
		log_lines | refute grep 'root:\|alice:'
	done
}

# bats test_tags=catalogue:81-3
@test "kpopd without -k obeys KRB5_KTNAME, and refuses every login and logs why if that file is missing" {
	server_under "$with_variable"
	server_stop
	sed -i "s,-k [^ ]*server.keytab,," "$WORLD/xinetd.conf"
	xinetd_run
	set_variable "KRB5_KTNAME=$WORLD/server.keytab"
	is_usual
	set_variable KRB5_KTNAME=/nowhere
	is_usual_or_refused
	run wire </dev/null
	[[ $output == "-ERR [SYS/PERM] the server has no Kerberos key"* ]]
	log_has 'failed .*what="reading the keytab [^"]+" error='
	[ "${served-0}" -eq 0 ]
}

# bats test_tags=catalogue:81-4,catalogue:81-5
@test "kpopd refuses every login and logs why if krb5.conf is missing, empty or malformed" {
	server_under "$with_variable"
	: >"$WORLD/empty.conf"
	echo '[libdefaults' >"$WORLD/bad.conf"
	# libkrb5 treats a missing file as an empty one, with no default realm.
	for file in /nowhere "$WORLD/empty.conf" "$WORLD/bad.conf" /etc; do
		set_variable "KRB5_CONFIG=$file"
		is_usual_or_refused
		run wire </dev/null
		[[ $output == "-ERR [SYS/TEMP] the server cannot serve now"* ]]
		[ $file != /nowhere ] ||
		    log_has 'error="krb5.conf is missing or empty: /nowhere"$'
		log_has 'fatal .*error="(krb5.conf is missing or empty|Kerberos does not work): /[^"]+"$'
	done
	log_has 'failed .*what="initializing libkrb5 from krb5.conf" error='
	[ "${served-0}" -eq 0 ]
}

# bats test_tags=catalogue:81-7
@test "kpopd-tls has no library that was preloaded into kpopd, and no variables but PATH and TZ" {
	[ -z "${SANITIZER-}" ] ||
	    skip "kpopd-tls gets the sanitizers' variables"
	tls_make
	library=$(ls /lib/*/libBrokenLocale.so.1 | head -n 1)
	variables="LD_PRELOAD=$library KRB5_TRACE=$WORLD/trace TZ=UTC SECRET=1"
	server_under "export $variables; exec \"\$@\"" $(tls_options)
	pop_open --tls -C "$WORLD/tls/ca.pem"
	pop_hear '^\+OK'
	pop_ask "USER alice"
	grep -q BrokenLocale "/proc/$(monitor_pid)/maps"
	tls=$(pgrep -n -x kpopd-tls)
	grep -q libssl "/proc/$tls/maps"
	refute grep BrokenLocale "/proc/$tls/maps"
	[ "$(tr '\0' '\n' <"/proc/$tls/environ" | cut -d= -f1 | sort |
	    tr '\n' ' ')" = "PATH TZ " ]
	pop_ask "PASS x"
	pop_ask QUIT '^\+OK bye, 2'
	log_says_quits "0 0 2"
	spool_kept
}

# bats test_tags=catalogue:82-1,catalogue:82-2
@test "kpopd serves without descriptors 1 and 2; without descriptor 0 it sends nothing and logs an error" {
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
		*) is_usual || { echo "with $closed"; return 1; } ;;
		esac
		server_stop
	done
}

# session_is_clean: runs a session of alice. Fails if it has more rights or
# descriptors than in privileges.bats, or ignores other signals than SIGPIPE and
# SIGXFSZ.
session_is_clean() {
	pop_login_locking alice
	has_nothing "$(child_pid)" "$(id -u alice)" "$(id -g alice)"
	[ "$(field "$(child_pid)" SigIgn)" = 0000000001001000 ]
	[ "$(fds "$(child_pid)" | wc -l)" -eq 12 ]
	[ "$(fds "$(broker_pid)" | wc -l)" -lt 11 ]
	pop_ask QUIT
	pop_hear_end
	pop_close
}

# bats test_tags=catalogue:83
@test "kpopd closes a thousand descriptors that its caller left open" {
	# If kpopd kept a copy of the connection, the connection would not end.
	for what in null connection; do
		server_under "ulimit -n 4096
			$(inherit "$what=$WORLD/descriptors")"
		is_usual
		[ "$(cat "$WORLD/descriptors")" -ge 1003 ]
		session_is_clean
		server_stop
	done
}

# signals_work: returns true if the login deadline ends a login that hangs, and
# if the monitor notices a killed session. The monitor needs SIGCHLD for that.
signals_work() {
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
	kpopd_ends 5
	spool_kept
}

# bats test_tags=catalogue:84-1
@test "kpopd works as usual although its caller ignores all signals, SIGCHLD, SIGPIPE and SIGALRM too" {
	server_under "$(inherit ignored)" -t 10:600
	is_usual
	session_is_clean
	signals_work
}

# bats test_tags=catalogue:84-2
@test "kpopd works as usual although its caller blocks all signals, SIGCHLD, SIGPIPE and SIGALRM too" {
	server_under "$(inherit blocked)" -t 10:600
	is_usual
	session_is_clean
	signals_work
}

# bats test_tags=catalogue:85
@test "kpopd started with a umask of 0 creates no file that others can read or write" {
	server_under 'umask 0; exec "$@"'
	rm -rf "$state"
	[ -z "${SANITIZER-}" ] || { server_stop; xinetd_run; }
	is_usual
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
	# Test the mode of the journal, which exists only during a removal.
	server_stop
	server_under 'umask 0; exec "$@"' -l fcntl
	mbox one two >"$WORLD/old"
	doomed=(1)
	killed_quit together fsync 3
	[ "$(stat -c '%U %a' "$(kept)/j")" = "alice 600" ]
	pop alice QUIT
	spool_is alice two
}

# set_limit 'ULIMIT-OPTIONS': starts later kpopds with this limit, if the server
# was started with $with_limit.
set_limit() {
	echo "$1" >"$WORLD/limit"
}

with_limit="WORLD=$WORLD;"' ulimit $(cat "$WORLD/limit") && exec "$@"'

# bats test_tags=catalogue:86-1
@test "kpopd with few descriptors serves a session as usual, or refuses it and logs why" {
	# With fewer than four descriptors, the linker cannot load the
	# libraries.
	server_under "$with_limit"
	for n in {4..20}; do
		set_limit "-n $n"
		is_usual_or_refused || { echo "with $n descriptors"; return 1; }
	done
	# 20 descriptors are enough.
	[ "${served-0}" -ge 1 ]
	is_usual
	# A lack of descriptors must not admit a principal.
	k5login_names_bob
	for n in {4..20..2}; do
		set_limit "-n $n"
		served=0
		is_usual_or_refused
		[ "$served" -eq 0 ]
		refute grep messages "$WORLD/answers"
	done
}

# bats test_tags=catalogue:86-2
@test "kpopd with a limit of file sizes admits a login only if the limit permits the whole replay cache" {
	server_under "$with_limit"
	whole=$(($(stat -c %s "$state/replay") / 1024))
	# With a lower limit (in KiB), no part of the cache is written.
	for n in $((whole - 1)) 1000 64 1 0; do
		rm -f "$state/replay"
		set_limit "-f $n"
		served=0
		is_usual_or_refused || { echo "with $n KiB"; return 1; }
		[ "${served-0}" -eq 0 ]
		log_has "failed .*what=\"opening the replay cache $state/replay\" error=\"File too large\""
		log_mark
	done
	set_limit "-f $whole"
	is_usual
	set_limit "-f 64"
	for n in 1 2 3; do
		served=0
		is_usual_or_refused
		[ "${served-0}" -eq 0 ]
	done
	log_has \
	    'refused .*reason="Kerberos" error="replay cache: File too large"'
}

# bats test_tags=catalogue:86-4
@test "kpopd with a limit of no processes serves as usual, but the next login finishes a killed session's removal" {
	[ -z "${SANITIZER-}" ] || skip "ASan's own system calls are in the way"
	server_under "$with_limit"
	for n in 0 1; do
		set_limit "-u $n"
		is_usual || { echo "with $n processes"; return 1; }
	done
	mbox one two three >"$WORLD/old"
	doomed=(1)
	set_limit "-u 0"
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
