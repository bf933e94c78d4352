#!/usr/bin/env bats
# Checks by /proc and strace which rights and descriptors each process has, and
# what its memory contains.

load helpers/all
load helpers/points

setup_file() {
	server_start
	begin_replay_cache
}

teardown() {
	rm -f /home/alice/.k5login
	usermod -G '' alice
	end_test
}

# server_under_strace STRACE-OPTION ...: replaces the server by one that runs
# kpopd under strace, without a limit of address space.
server_under_strace() {
	server_stop
	server_configure
	cat >"$WORLD/traced" <<-END
	#!/bin/sh
	exec strace $* $KPOPD_BUILD/kpopd "\$@"
	END
	chmod 755 "$WORLD/traced"
	sed -i -e '/rlimit_as/d' \
	    -e "s,^\([[:space:]]*server[[:space:]]*=\).*,\1 $WORLD/traced," \
	    "$WORLD/xinetd.conf"
	xinetd_run
}

# bats test_tags=promise:2
@test "the pre-auth process runs as kpopd with no other rights, in an empty jail that it cannot write" {
	realm_login alice
	pop_open
	pop_hear '^\+OK'
	pid=$(child_pid)
	has_nothing "$pid" "$(id -u kpopd)" "$(id -g kpopd)"
	[ "$(readlink "/proc/$pid/root")" = "$state/preauth" ]
	[ "$(readlink "/proc/$pid/cwd")" = "$state/preauth" ]
	[ "$(stat -c '%U %a' "$state/preauth")" = "root 711" ]
	[ -z "$(ls "$state/preauth" | grep -Evx 'krb5.conf|run')" ]
	[ "$(stat -c '%U %a' "$state/replay")" = "root 600" ]
	[ -n "${SANITIZER-}" ] ||
	    grep -Eq 'Max address space +67108864 +67108864' "/proc/$pid/limits"
	grep -Eq 'Max open files +16 +16' "/proc/$pid/limits"
	# The limit of the file size is the size of the replay cache.
	size=$(stat -c %s "$state/replay")
	grep -Eq "Max file size +$size +$size" "/proc/$pid/limits"
	# The process has the connection twice, the channel to the monitor,
	# /dev/null and the replay cache, but no socket for syslog.
	fds "$pid"
	[ "$(fds "$pid" | grep -c socket:)" -eq 3 ]
	[ "$(fds "$pid" | grep -vc socket:)" -eq 2 ]
	fds "$pid" | grep -q " $state/replay\$"
	[ "$(readlink "/proc/$pid/fd/2")" = /dev/null ]
}

@test "a state directory that another process has made but not yet opened to others fails no login" {
	mbox one | store alice
	realm_login alice
	run pop alice QUIT
	for made in preauth users .; do
		chmod 700 "$state/$made"
		run pop alice QUIT
		[[ $output == *"+OK bye, 1 messages left" ]] ||
		    { echo "$made: $output"; return 1; }
	done
	[ "$(stat -c '%a' "$state" "$state/preauth" "$state/users" |
	    tr '\n' ' ')" = "755 711 700 " ]
}

@test "the monitor of a pre-auth process has only the connection, its channel, syslog and /dev/null open" {
	realm_login alice
	pop_open
	pop_hear '^\+OK'
	pid=$(monitor_pid)
	# The monitor may not have closed its child's ends yet.
	await 10 '[ "$(sockets "$pid")" -eq 4 ]' || { fds "$pid"; return 1; }
	[ "$(fds "$pid" | grep -vc socket:)" -eq 1 ]
}

# bats test_tags=fault:17-4,promise:2
@test "the session has the user's rights only, and the broker the spool's group in addition" {
	mbox one | store alice
	usermod -aG mail,adm alice
	realm_login alice
	pop_login alice
	uid=$(id -u alice)
	gid=$(id -g alice)
	has_nothing "$(child_pid)" "$uid" "$gid"
	# The broker has the spool's group for the dotlock. It may make one more
	# process.
	pid=$(broker_pid)
	[ "$(field "$pid" Uid)" = "$uid $uid $uid $uid" ]
	mail=$(getent group mail | cut -d: -f3)
	[ "$(field "$pid" Gid)" = "$gid $mail $mail $mail" ]
	[ "$(field "$pid" Groups)" = "$gid" ]
	[ "$(field "$pid" CapPrm)$(field "$pid" CapEff)$(field "$pid" CapInh)" \
	    = "$(printf '%048d' 0)" ]
	[ "$(field "$pid" NoNewPrivs)" = 1 ]
	[ "$(stat -c %u "/proc/$pid/mem")" = 0 ]
	# The session has the connection twice, the channels to monitor and
	# broker, /dev/null, the state directory, its two locks, the index, the
	# spool's directory and the spool.
	pid=$(child_pid)
	fds "$pid"
	[ "$(fds "$pid" | grep -c socket:)" -eq 4 ]
	for file in /dev/null "$(kept)" "$(kept)/session" "$(kept)/index" \
	    /var/mail /var/mail/alice; do
		fds "$pid" | grep -q " $file\$"
	done
	[ "$(fds "$pid" | wc -l)" -eq 12 ]
	# The broker has the channels to session and monitor. The monitor has
	# the channels to both, and syslog. Neither has the connection.
	await 5 '[ "$(sockets "$(broker_pid)")" -eq 2 ]'
	await 10 '[ "$(sockets "$(monitor_pid)")" -eq 3 ]'
	[ "$(field "$(monitor_pid)" Uid)" = "0 0 0 0" ]
	[ "$(stat -c '%U %a' "$state/users/$uid")" = "alice 700" ]
}

# The client sends this marker before PASS is answered.
marker=marker-5f1d3b0a9c7e

# marker_bytes: prints the marker in hexadecimal digits.
marker_bytes() {
	printf %s "$marker" | od -An -v -tx1 | tr -d ' \n'
	echo
}

@test "a session has no descriptor or data of the client before Kerberos permits the login" {
	mbox one | store alice
	realm_login alice
	mkfifo /home/alice/.k5login
	chown alice /home/alice/.k5login
	exec {k5login}<>/home/alice/.k5login
	pop_open
	printf '%s\r\n' "USER alice" "PASS x" "NOOP $marker" >&"$pop_out"
	await 5 'session=$(pgrep -n -u alice -x kpopd) &&
	    reads_fifo "$session" /home/alice/.k5login'
	# The session has the channels to monitor and broker.
	fds "$session"
	[ "$(sockets "$session")" -eq 2 ]
	[ "$(readlink "/proc/$session/fd/0")$(readlink "/proc/$session/fd/1")" \
	    = /dev/null/dev/null ]
	# Check that holds_key finds the text in the process that has it.
	holds_key "$(monitor_pid)" marker_bytes
	holds_none "$session" marker_bytes
	[ ! -e "$state/users/$(id -u alice)" ]
	echo alice@KPOPD.TEST >&"$k5login"
	exec {k5login}>&-
	pop_hear '^\+OK'
	pop_hear '^\+OK'
	pop_hear '^\+OK 1 messages'
	pop_hear '^-ERR'
	await 5 '[ -n "$(broker_pid)" ] && broker_has_dropped'
	holds_none "$broker" marker_bytes
	pop_ask QUIT
}

# begins_refusal USER: begins a login of alice as USER, which is refused. Stops
# the process that answers, as soon as it is confined, and sets $refusal to its
# pid. The connection is $connection. Returns false if the process has ended
# before; it does so two seconds after its answer.
begins_refusal() {
	exec {connection}<>/dev/tcp/127.0.0.1/1109
	{
		versions
		apreq pop/mail.kpopd.test | framed
		printf 'USER %s\r\nPASS x\r\n' "$1"
	} >&"$connection"
	await 5 'refusal=$(jailed_in refusal) && [ -n "$refusal" ] &&
	    [ "$(field "$refusal" NoNewPrivs)" = 1 ] &&
	    { [ -n "${SANITIZER-}" ] ||
		[ "$(field "$refusal" Seccomp)" = 2 ]; } &&
	    kill -STOP "$refusal"' && return
	exec {connection}>&-
	return 1
}

# refuse USER: does begins_refusal until the process is found.
refuse() {
	await 60 "begins_refusal $1"
}

# dies_of_openat USER: returns true if the process that answers a refused login
# is killed when it calls openat. Returns false also if the process has ended
# before.
dies_of_openat() {
	local result=0
	refuse "$1"
	kill -CONT "$refusal"
	captive "$refusal" "openat -100 / 65536" && [ -z "$returned" ] ||
	    result=1
	exec {connection}>&-
	kpopd_ends 5
	return $result
}

# bats test_tags=promise:6
@test "a confined process of the pre-auth user answers a refused login, and no state is made for the user" {
	mbox one | store bob
	rm -rf "$state/users"
	realm_login alice
	for user in bob nobody-here daemon ../bob; do
		refuse $user
		has_nothing "$refusal" "$(id -u kpopd)" "$(id -g kpopd)"
		# The process has the connection twice, the channel and
		# /dev/null.
		[ "$(sockets "$refusal")" -eq 3 ]
		[ "$(others "$refusal")" -eq 1 ]
		await 5 '! pgrep -u bob -x kpopd >/dev/null'
		kill -CONT "$refusal"
		exec {connection}>&-
		kpopd_ends 5
		[ -n "${SANITIZER-}" ] || await 20 "dies_of_openat $user"
	done
	[ ! -e "$state/users" ]
}

# bats test_tags=fault:17-1,promise:3
@test "the service's keys are in the memory of the pre-auth process only" {
	[ "$(key_bytes | wc -l)" -ge 2 ]
	# To read a mailbox for the first time, the session needs a broker.
	mbox one | store alice
	realm_login alice
	pop_open
	pop_hear '^\+OK'
	holds_key "$(child_pid)"
	run holds_key "$(monitor_pid)"
	[ "$status" -eq 1 ]
	pop_ask "USER alice"
	pop_ask "PASS x"
	for process in child broker monitor; do
		run holds_key "$(${process}_pid)"
		[ "$status" -eq 1 ]
	done
}

# traced_session: runs a whole session of alice under strace. Writes the system
# calls of each process to a separate file in $WORLD/trace.
traced_session() {
	rm -rf "$WORLD/trace"
	mkdir "$WORLD/trace"
	server_under_strace -ff -o "$WORLD/trace/t"
	realm_login alice
	run pop alice "RETR 1" "DELE 1" QUIT
	await 5 '! pgrep -x strace >/dev/null'
	[[ $output == *"+OK bye, 1 messages left"* ]]
}

@test "the monitor never opens the keytab, and no process touches the user's files as root" {
	[ -z "${SANITIZER-}" ] || skip "ASan's own system calls are in the way"
	mbox one two | store alice
	traced_session
	cd "$WORLD/trace"
	# The five processes are the pre-auth process, the session, the broker,
	# the monitor, and the process that checks whether the account has
	# expired.
	[ "$(ls | wc -l)" -eq 5 ]
	opened=$(grep -l 'server.keytab' t.* |
	    xargs grep -l 'openat.*server.keytab')
	monitor=$(grep -l '^execve' t.*)
	session=$(grep -l 'O_NOATIME' t.*)
	[ "$(wc -w <<<"$opened")" -eq 1 ]
	[ "$(wc -w <<<"$session")" -eq 1 ]
	[ "$opened" != "$monitor" ]
	[ "$opened" != "$session" ]
	[ "$session" != "$monitor" ]
	refute grep 'openat.*keytab' "$monitor" "$session"
	# The monitor reads nothing from the network.
	refute grep -E '^(read|recv[a-z]*|pread64)\((0|1),' "$monitor"
	# The session calls setresuid before it uses the user's files.
	uid=$(id -u alice)
	awk '/setresuid\(/ { dropped = 1 }
	    /\/home\/|\/var\/mail|users\// && !dropped { exit 1 }' "$session"
	grep -q "setresuid($uid, $uid, $uid)" "$session"
	# The pre-auth process calls setresuid before it reads from the client.
	awk '/setresuid\(/ { dropped = 1 }
	    /recvfrom\(0/ && !dropped { exit 1 }' "$opened"
	grep -q 'chroot("preauth")' "$opened"
}

# bats test_tags=fault:15-1,promise:2
@test "kpopd ends the connection before any mail is read if a step of giving up root fails or has no effect" {
	[ -z "${SANITIZER-}" ] || skip "ASan's own system calls are in the way"
	mbox one | store alice
	for fault in setgroups:error=EPERM setresgid:error=EPERM \
	    setresuid:error=EAGAIN setgroups:retval=0 \
	    setresgid:retval=0 setresuid:retval=0 chroot:error=EPERM \
	    chroot:retval=0 capset:error=EPERM \
	    prctl:error=EINVAL prctl:retval=0 prctl:error=EPERM:when=3 \
	    prlimit64:error=EPERM prlimit64:error=EPERM:when=3 \
	    prlimit64:error=EPERM:when=4 \
	    fchown:error=EPERM fchmod:error=EPERM mkdirat:error=EROFS \
	    capget:error=EPERM setuid:retval=0 setgid:retval=0 \
	    access,faccessat,faccessat2:retval=0; do
		server_stop
		rm -rf "$state"
		server_under_strace -f -o /dev/null -e "inject=$fault"
		realm_login alice
		run pop alice STAT QUIT
		case $fault in
		mkdirat*) event='failed .*making directory' ;;
		*) event='fatal ' ;;
		esac
		log_has "$event" || { echo "with $fault"; return 1; }
		[[ $output != *messages* ]] ||
		    { echo "with $fault: $output"; return 1; }
	done
}

# login_faulty FAULT: begins a login of alice. The monitor and all processes
# that it starts have this fault.
login_faulty() {
	pop_open
	pop_hear '^\+OK'
	attach "$(monitor_pid)" -f -o /dev/null -e "inject=$1"
	pop_ask "USER alice"
	pop_say "PASS x"
}

# broker_faulty FAULT: begins a login of alice. The monitor and the broker have
# this fault, but the session does not.
broker_faulty() {
	login_stands
	attach "$monitor" -f -o /dev/null -e "inject=$1"
	echo alice@KPOPD.TEST >&"$k5login"
	exec {k5login}>&-
}

@test "kpopd ends the connection if the session or the broker cannot become the user" {
	[ -z "${SANITIZER-}" ] || skip "ASan's own system calls are in the way"
	mbox one | store alice
	spool_keep
	realm_login alice
	for fault in chdir:error=EACCES setgroups:error=EPERM \
	    setresuid:error=EPERM prctl:error=EPERM; do
		log_mark
		login_faulty "$fault"
		pop_hear_end
		pop_close
		kpopd_ends 5
		log_count 1 ' fatal '
		log_lacks ' login '
		log_mark
		broker_faulty "$fault"
		pop_hear '^-ERR \[SYS/TEMP\]'
		pop_hear_end
		pop_close
		kpopd_ends 5
		log_count 1 ' fatal '
		log_has 'logout .*reason=unavailable'
		rm -f /home/alice/.k5login
	done
}

@test "the next login finishes a removal if the broker's child cannot give up the spool's group" {
	[ -z "${SANITIZER-}" ] || skip "ASan's own system calls are in the way"
	realm_login alice
	for fault in setresgid:error=EPERM setresgid:retval=0 \
	    prctl:error=EPERM; do
		mbox one two three | store alice
		pop_login alice
		pop_ask "DELE 1"
		session=$(child_pid) broker=$(broker_pid)
		attach "$broker" -f -o /dev/null -e "inject=$fault" \
		    -e signal=none
		attach "$session" -o /dev/null \
		    -e inject=ftruncate:signal=KILL
		log_mark
		pop_say QUIT
		pop_hear_end
		pop_close
		kpopd_ends 5
		log_has 'fatal '
		[ -e "$(kept)/j.cut" ]
		run pop alice QUIT
		[[ $output == *"+OK 2 messages"* ]]
		spool_is alice two three
	done
}

@test "kpopd does not use a directory of its own that has another owner or is writable by others" {
	mbox one | store alice
	spool_keep
	realm_login alice
	pop alice QUIT
	uid=$(id -u alice)
	for strange in "daemon 755 $state" "root 777 $state" \
	    "root 1777 $state" \
	    "daemon 711 $state/preauth" "root 733 $state/preauth" \
	    "daemon 711 $state/users" \
	    "root 713 $state/users" "daemon 700 $state/users/$uid"; do
		set -- $strange
		was=$(stat -c '%U:%G %a' "$3")
		chown "$1" "$3"
		chmod "$2" "$3"
		log_mark
		run pop alice QUIT
		chown "${was% *}" "$3"
		chmod "${was#* }" "$3"
		[[ $output != *messages* ]] ||
		    { echo "$strange: $output"; return 1; }
		why="has another owner, uid $(id -u "$1"): run chown"
		why+=" $(id -u "${was%%:*}") $3"
		[ "$1" != root ] || printf -v why '%s, mode %04d: run %s' \
		    "is writable by others" "$2" "chmod go-w $3"
		log_has "fatal .*error=\"directory $3 $why\"\$" ||
		    { echo "$strange"; return 1; }
	done
	run pop alice QUIT
	[[ $output == *"+OK 1 messages"* ]]
}

@test "kpopd prints an error to its caller, but only logs it if standard input is a connection" {
	local later="the server cannot serve now, try again later"
	run "$KPOPD_BUILD/kpopd" </dev/null
	[ "$status" -eq 2 ]
	[[ $output == *"xinetd"* ]]
	for options in -x '-n 0' '-t 0' '-t 5:' '-m maildir' \
	    '-m mbox:relative' '-D @' '-D a,,b' '-u nobody-here' extra; do
		server_stop
		server_start "$options"
		run wire </dev/null
		[ "$output" = "-ERR [SYS/TEMP] $later"$'\r' ]
		log_has 'fatal .*error='
	done
}

# server_with_keytab KEYTAB [KPOPD-OPTION ...]: replaces the server by one with
# this keytab.
server_with_keytab() {
	local keytab=$1
	shift
	server_stop
	server_configure "$@"
	sed -i "s,$WORLD/server.keytab,$keytab," "$WORLD/xinetd.conf"
	xinetd_run
}

@test "kpopd reports a keytab without a usable key to the client in one line, and its reason in the log" {
	server_with_keytab "$WORLD/keytabs/alice.keytab"
	run wire </dev/null
	[[ $output == "-ERR [SYS/PERM] the server has no Kerberos key"* ]]
	log_has "failed .* keytab FILE:$WORLD/keytabs/alice.keytab\" error="
	log_has 'failed .*error="it has no key for pop/HOST or pop3/HOST"$'
	server_with_keytab "$WORLD/nowhere.keytab"
	run wire </dev/null
	[[ $output == "-ERR [SYS/PERM]"* ]]
	log_has "failed .* keytab FILE:$WORLD/nowhere.keytab\" error="
	server_with_keytab "$WORLD/server.keytab" -s pop/elsewhere.test
	run wire </dev/null
	[[ $output == "-ERR [SYS/PERM]"* ]]
	log_has 'failed .*error="it has no key for pop/elsewhere.test@KPOPD.TEST, the principal of -s"'
	server_with_keytab "$WORLD/server.keytab" -s pop/two@REALMS@HERE
	run wire </dev/null
	[[ $output == "-ERR [SYS/PERM]"* ]]
	log_has 'failed .*what="parsing the principal of -s"'
	server_with_keytab "NOSUCHTYPE:$WORLD/server.keytab"
	run wire </dev/null
	[[ $output == "-ERR [SYS/PERM]"* ]]
	log_has 'failed .*what="finding the keytab [^"]+"'
}

# exposes FILE REASON COMMAND ...: changes the key file by the command. Returns
# true if the next connection logs a warning about the file, and a later one
# does not. If the reason is empty, none does. Every connection is served.
exposes() {
	local file=$1 reason=$2 lines=1
	shift 2
	[ -n "$reason" ] || lines=0
	log_mark
	"$@"
	for _ in 1 2; do
		[[ $(pop alice QUIT) == *"+OK bye"* ]] || return
	done
	log_count "$lines" "mail\.warning kpopd.* exposed peer=\S+ file=\"$file\" reason=\"$reason; run chown root:root and chmod 600\"\$" &&
	    log_count "$lines" ' exposed ' || { echo "$*"; return 1; }
}

@test "a keytab or TLS key that other users can read or write is used, and logged once an hour and after each change" {
	realm_login alice
	mbox one | store alice
	key=$WORLD/exposed.keytab
	server_stop
	for name in keytab tls-key; do
		note=$state/exposed.$name
		rm -f "$note"
		if [ $name = keytab ]; then
			cp "$WORLD/server.keytab" "$key"
			chmod 600 "$key"
			server_start -k "FILE:$key"
		else
			tls_make
			key=$WORLD/tls/server.key
			server_start $(tls_options)
		fi
		exposes "$key" "" chmod 600 "$key"
		exposes "$key" "every user can read it" chmod 604 "$key"
		exposes "$key" "every user can write it" chmod 602 "$key"
		exposes "$key" "" chmod 660 "$key"
		exposes "$key" "group 7000 can write it" chgrp 7000 "$key"
		exposes "$key" "group 7000 can read it" chmod 640 "$key"
		exposes "$key" "group 100 can read it" chgrp 100 "$key"
		# A group of the system, as ssl-cert.
		exposes "$key" "" chgrp 99 "$key"
		exposes "$key" "group 99 can write it" chmod 620 "$key"
		exposes "$key" "uid 7000 owns it" chown 7000 "$key"
		# An hour later, and after the clock was set back.
		exposes "$key" "uid 7000 owns it" touch -d '-1 hour' "$note"
		exposes "$key" "uid 7000 owns it" touch -d '+1 hour' "$note"
		[ "$(stat -c '%u %a %s' "$note")" = "0 600 0" ]
		exposes "$key" "" chown 0:0 "$key"
		chmod 600 "$key"
		server_stop
	done
	# A group of the users counts, also of those who may not log in.
	server_start -n 7001 -k "$WORLD/exposed.keytab"
	log_mark
	chgrp 7000 "$WORLD/exposed.keytab"
	chmod 640 "$WORLD/exposed.keytab"
	run pop alice QUIT
	log_has 'exposed .* reason="group 7000 can read it;'
	chown 0:0 "$WORLD/exposed.keytab"
	server_stop
	# What a symlink leads to counts.
	ln -s "$WORLD/exposed.keytab" "$WORLD/link"
	server_start -k "$WORLD/link"
	exposes "$WORLD/link" "every user can read it" \
	    chmod 604 "$WORLD/exposed.keytab"
	rm "$WORLD/link"
	server_stop
	# The default keytab counts, too.
	server_env=KRB5_KTNAME=FILE:$WORLD/exposed.keytab server_configure
	sed -i 's/-k [^ ]*//' "$WORLD/xinetd.conf"
	xinetd_run
	exposes "$WORLD/exposed.keytab" "every user can read it" \
	    chmod 644 "$WORLD/exposed.keytab"
	rm -f "$WORLD/exposed.keytab"
}
