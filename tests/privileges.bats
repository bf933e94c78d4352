#!/usr/bin/env bats
# What each process may do and has in its memory, seen from /proc and strace.

load helpers/all
load helpers/points

# bats test_tags=promise:2
@test "the pre-auth process is kpopd, alone, in an empty jail whose root it cannot write" {
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
	# What it may write ends where the replay cache does.
	grep -Eq \
	    "Max file size +$(stat -c %s "$state/replay") +$(stat -c %s \
		"$state/replay")" "/proc/$pid/limits"
	# The connection twice, /dev/null, the channel: three sockets, no way to
	# syslog; and the replay cache.
	fds "$pid"
	[ "$(fds "$pid" | grep -c socket:)" -eq 3 ]
	[ "$(fds "$pid" | grep -vc socket:)" -eq 2 ]
	fds "$pid" | grep -q " $state/replay\$"
	[ "$(readlink "/proc/$pid/fd/2")" = /dev/null ]
}

@test "directories that another process has made and not yet opened keep nobody out" {
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

@test "the monitor of a pre-auth process has nothing open but the connection, the channel and syslog" {
	realm_login alice
	pop_open
	pop_hear '^\+OK'
	pid=$(monitor_pid)
	fds "$pid"
	[ "$(fds "$pid" | grep -c socket:)" -eq 4 ]
	[ "$(fds "$pid" | grep -vc socket:)" -eq 1 ]
}

# bats test_tags=fault:17-4,promise:2
@test "the session is the user, with no other group and nothing of root; so is the broker, but for the spool's group" {
	mbox one | store alice
	usermod -aG mail,adm alice
	realm_login alice
	pop_login alice
	usermod -G '' alice
	uid=$(id -u alice)
	gid=$(id -g alice)
	has_nothing "$(child_pid)" "$uid" "$gid"
	# The broker: the spool's group on top, for the dotlock, and it may make
	# one more process.
	pid=$(broker_pid)
	[ "$(field "$pid" Uid)" = "$uid $uid $uid $uid" ]
	mail=$(getent group mail | cut -d: -f3)
	[ "$(field "$pid" Gid)" = "$gid $mail $mail $mail" ]
	[ "$(field "$pid" Groups)" = "$gid" ]
	[ "$(field "$pid" CapPrm)$(field "$pid" CapEff)$(field "$pid" CapInh)" \
	    = "$(printf '%048d' 0)" ]
	[ "$(field "$pid" NoNewPrivs)" = 1 ]
	[ "$(stat -c %u "/proc/$pid/mem")" = 0 ]
	# The connection twice, the monitor, the broker; /dev/null, the state
	# directory, its two locks, the index, the spool's directory, the spool.
	pid=$(child_pid)
	fds "$pid"
	[ "$(fds "$pid" | grep -c socket:)" -eq 4 ]
	for file in /dev/null "$(kept)" "$(kept)/session" "$(kept)/index" \
	    /var/mail /var/mail/alice; do
		fds "$pid" | grep -q " $file\$"
	done
	[ "$(fds "$pid" | wc -l)" -eq 12 ]
	# The broker has the channels to session and monitor, the monitor those
	# to both, and syslog; neither has the connection.
	await 5 '[ "$(sockets "$(broker_pid)")" -eq 2 ]'
	[ "$(sockets "$(monitor_pid)")" -eq 3 ]
	[ "$(field "$(monitor_pid)" Uid)" = "0 0 0 0" ]
	[ "$(stat -c '%U %a' "$state/users/$uid")" = "alice 700" ]
}

# marker: what a client has sent already when PASS is not answered yet; and as
# hexadecimal digits.
marker=marker-5f1d3b0a9c7e
marker_bytes() { printf %s "$marker" | od -An -v -tx1 | tr -d ' \n'; echo; }

@test "a session has nothing of the client's before Kerberos permits it" {
	mbox one | store alice
	realm_login alice
	mkfifo /home/alice/.k5login
	chown alice /home/alice/.k5login
	exec {k5login}<>/home/alice/.k5login
	pop_open
	printf '%s\r\n' "USER alice" "PASS x" "NOOP $marker" >&"$pop_out"
	await 5 \
	    'session=$(pgrep -n -u alice -x kpopd) && reads_fifo "$session" /home/alice/.k5login'
	# The channels to monitor and broker.
	fds "$session"
	[ "$(sockets "$session")" -eq 2 ]
	[ "$(readlink "/proc/$session/fd/0")$(readlink "/proc/$session/fd/1")" \
	    = /dev/null/dev/null ]
	# The check itself: it has to find what is there.
	holds_key "$(monitor_pid)" marker_bytes
	holds_none "$session" marker_bytes
	[ ! -e "$state/users/$(id -u alice)" ]
	echo alice@KPOPD.TEST >&"$k5login"
	exec {k5login}>&-
	pop_hear '^\+OK'; pop_hear '^\+OK'; pop_hear '^\+OK 1 messages'
	pop_hear '^-ERR'
	await 5 \
	    '[ -n "$(broker_pid)" ] && ! grep -q "^Uid:[[:space:]]*0" "/proc/$(broker_pid)/status"'
	holds_none "$(broker_pid)" marker_bytes
	pop_ask QUIT
	rm -f /home/alice/.k5login
}

# bats test_tags=promise:6
@test "who is refused is answered by the pre-auth user, jailed and confined, for whatever reason; nothing is made for the user named" {
	mbox one | store bob
	rm -rf "$state/users"
	realm_login alice
	for user in bob nobody-here daemon ../bob; do
		exec {line}<>/dev/tcp/127.0.0.1/1109
		{
			versions
			apreq pop/mail.kpopd.test | framed
			printf 'USER %s\r\nPASS x\r\n' "$user"
		} >&"$line"
		await 5 'jailed_in refusal | grep -q .'
		refusal=$(jailed_in refusal)
		await 5 \
		    '[ -n "${SANITIZER-}" ] || [ "$(field "$refusal" Seccomp)" = 2 ]'
		has_nothing "$refusal" "$(id -u kpopd)" "$(id -g kpopd)"
		# The connection twice, the channel; /dev/null.
		[ "$(sockets "$refusal")" -eq 3 ]
		[ "$(others "$refusal")" -eq 1 ]
		await 5 '! pgrep -u bob -x kpopd >/dev/null'
		if [ -z "${SANITIZER-}" ]; then
			captive "$refusal" "openat -100 / 65536"
			[ -z "$returned" ]
		fi
		exec {line}>&-
		await 5 '! pgrep -x kpopd >/dev/null'
	done
	[ ! -e "$state/users" ]
}

# bats test_tags=fault:17-1,promise:3
@test "the keys are in the pre-auth process's memory, and in no other process that handles the connection" {
	[ "$(key_bytes | wc -l)" -ge 2 ]
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

# traced: a whole session of alice under strace -ff, one file a process in
# $WORLD/trace.
traced() {
	rm -rf "$WORLD/trace"
	mkdir "$WORLD/trace"
	server_stop
	server_configure
	cat >"$WORLD/traced" <<-END
	#!/bin/sh
	exec strace -ff -o "$WORLD/trace/t" $KPOPD_BUILD/kpopd "\$@"
	END
	chmod 755 "$WORLD/traced"
	sed -i "s,^\([[:space:]]*server[[:space:]]*=\).*,\1 $WORLD/traced,; /rlimit_as/d" "$WORLD/xinetd.conf"
	xinetd_run
	realm_login alice
	run pop alice "RETR 1" "DELE 1" QUIT
	await 5 '! pgrep -x strace >/dev/null'
	server_stop
	server_start
	[[ $output == *"+OK bye, 1 messages left"* ]]
}

@test "the monitor never opens the keytab, and nothing of the user is touched before root is gone" {
	[ -z "${SANITIZER-}" ] || skip "ASan's own system calls are in the way"
	mbox one two | store alice
	traced
	cd "$WORLD/trace"
	# Five processes: who opened the keytab, who asked whether the account
	# has expired, who served, the broker and the monitor.
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
	grep 'openat.*keytab' "$monitor" "$session" && return 1 || :
	# The monitor reads nothing of the network.
	grep -E '^(read|recv[a-z]*|pread64)\((0|1),' "$monitor" && return 1 || :
	# In the session, setresuid comes before whatever is the user's.
	uid=$(id -u alice)
	awk -v \
	    uid="$uid" '/setresuid\(/ { dropped = 1 } /\/home\/|\/var\/mail|users\// && !dropped { exit 1 }' "$session"
	grep -q "setresuid($uid, $uid, $uid)" "$session"
	# In the pre-auth process, it comes before the first byte of the client
	# is read.
	awk \
	    '/setresuid\(/ { dropped = 1 } /recvfrom\(0/ && !dropped { exit 1 }' "$opened"
	grep -q 'chroot("preauth")' "$opened"
}

# bats test_tags=fault:15-1,promise:2
@test "a step of dropping that fails, or lies, ends the connection before any mail" {
	[ -z "${SANITIZER-}" ] || skip "ASan's own system calls are in the way"
	mbox one | store alice
	server_stop
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
		rm -rf "$state"
		server_configure
		cat >"$WORLD/faulty" <<-END
		#!/bin/sh
		exec strace -f -o /dev/null -e inject=$fault $KPOPD_BUILD/kpopd "\$@"
		END
		chmod 755 "$WORLD/faulty"
		sed -i "s,^\([[:space:]]*server[[:space:]]*=\).*,\1 $WORLD/faulty,; /rlimit_as/d" "$WORLD/xinetd.conf"
		xinetd_run
		realm_login alice
		run pop alice STAT QUIT
		log_has \
		    "$(case $fault in
		    mkdirat*) echo 'failed .*making directory' ;;
		    *) echo 'fatal ' ;;
		    esac)" || { echo "with $fault"; return 1; }
		[[ $output != *messages* ]] ||
		    { echo "with $fault: $output"; return 1; }
		server_stop
	done
	server_start
}

# visit_faulty FAULT: alice's login, in which all that is made for her is under
# strace.
visit_faulty() {
	pop_open
	pop_hear '^\+OK'
	attach "$(monitor_pid)" -f -o /dev/null -e "inject=$1"
	pop_ask "USER alice"
	pop_say "PASS x"
}

# broker_faulty FAULT: the same, but the session was made before.
broker_faulty() {
	login_stands
	attach "$monitor" -f -o /dev/null -e "inject=$1"
	echo alice@KPOPD.TEST >&"$k5login"
	exec {k5login}>&-
}

@test "a session that cannot become the user, and a broker that cannot, serve nobody" {
	[ -z "${SANITIZER-}" ] || skip "ASan's own system calls are in the way"
	mbox one | store alice
	spool_keep
	realm_login alice
	for fault in chdir:error=EACCES setgroups:error=EPERM \
	    setresuid:error=EPERM prctl:error=EPERM; do
		log_mark
		visit_faulty "$fault"
		pop_hear_end
		pop_close
		await 5 '! pgrep -x kpopd >/dev/null'
		log_count 1 ' fatal '
		log_lacks ' login '
		log_mark
		broker_faulty "$fault"
		pop_hear '^-ERR \[SYS/TEMP\]'
		pop_hear_end
		pop_close
		await 5 '! pgrep -x kpopd >/dev/null'
		log_count 1 ' fatal '
		log_has 'logout .*reason=unavailable'
		rm -f /home/alice/.k5login
	done
}

@test "a broker's child that cannot give up the spool's group recovers nothing; the next login does" {
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
		strace -q -p "$session" -o /dev/null \
		    -e inject=ftruncate:signal=KILL 2>/dev/null 3>&- &
		await 5 "grep -q '^TracerPid:[[:space:]]*[1-9]' /proc/$session/status"
		log_mark
		pop_say QUIT
		pop_hear_end
		pop_close
		await 5 '! pgrep -x kpopd >/dev/null'
		log_has 'fatal '
		[ -e "$(kept)/j.cut" ]
		run pop alice QUIT
		[[ $output == *"+OK 2 messages"* ]]
		spool_is alice two three
	done
}

@test "directories of ours that are another's, or for others to write, are not used" {
	mbox one | store alice
	spool_keep
	realm_login alice
	pop alice QUIT
	uid=$(id -u alice)
	for strange in "daemon 755 $state" "root 777 $state" \
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
		log_has 'fatal .*has another owner or is writable by others' ||
		    { echo "$strange"; return 1; }
	done
	run pop alice QUIT
	[[ $output == *"+OK 1 messages"* ]]
}

@test "nothing is ever printed to the client but the protocol" {
	# By hand it says so on the terminal; with a connection on its standard
	# input, syslog alone is told.
	run "$KPOPD_BUILD/kpopd" </dev/null
	[ "$status" -eq 2 ]
	[[ $output == *"xinetd"* ]]
	for options in -x '-n 0' '-t 0' '-t 5:' '-m maildir' \
	    '-m mbox:relative' '-D @' '-D a,,b' '-u nobody-here' extra; do
		server_stop
		server_start
		server_stop
		server_start "$options"
		run wire </dev/null
		[ -z "$output" ]
		log_has 'fatal .*error='
	done
	server_stop
	server_start
}

@test "a keytab without a key for us is said to the client in one line and named in the log" {
	server_stop
	server_configure
	sed -i "s,$WORLD/server.keytab,$WORLD/keytabs/alice.keytab," \
	    "$WORLD/xinetd.conf"
	xinetd_run
	run wire </dev/null
	[[ $output == "-ERR [SYS/PERM] the server has no Kerberos key"* ]]
	log_has 'failed .*no key for pop/HOST or pop3/HOST'
	server_stop
	server_configure -s pop/elsewhere.test
	xinetd_run
	run wire </dev/null
	[[ $output == "-ERR [SYS/PERM]"* ]]
	log_has 'failed .*error="it has no key for pop/elsewhere.test@KPOPD.TEST, the principal of -s"'
	server_stop
	server_configure -s pop/two@REALMS@HERE
	xinetd_run
	run wire </dev/null
	[[ $output == "-ERR [SYS/PERM]"* ]]
	log_has 'failed .*what="parsing the principal of -s"'
	server_stop
	server_configure
	sed -i "s,$WORLD/server.keytab,NOSUCHTYPE:$WORLD/server.keytab," \
	    "$WORLD/xinetd.conf"
	xinetd_run
	run wire </dev/null
	[[ $output == "-ERR [SYS/PERM]"* ]]
	log_has 'failed .*what="finding the keytab [^"]+"'
	server_stop
	server_start
}
