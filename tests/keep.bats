#!/usr/bin/env bats
# Checks a kept kpopd-tls: it starts once, and makes a process for each
# connection with TLS.

load helpers/all

# This file keeps a kpopd-tls itself.
unset KEEPS_TLS

setup_file() {
	tls_make
	server_start $(tls_options)
}

setup() {
	begin_test
	realm_login alice
	mbox one two | store alice
	cp "$WORLD"/tls/server.{pem,key} "$WORLD"
	keep_tls -d "$state" $(tls_options)
}

teardown() {
	kill -CONT "$(keeper)" 2>/dev/null || true
	pop_close 2>/dev/null || true
	keep_end
	cp "$WORLD"/server.{pem,key} "$WORLD/tls"
	own_copy_end
	end_test
}

# restart [KPOPD-OPTION ...]: starts xinetd with these options of kpopd, and
# keeps a kpopd-tls.
restart() {
	server_stop
	server_start "$@"
	keep_tls -d "$state" $(tls_options)
}

# tls_open: opens a connection with TLS, until the client has the mailbox. Sets
# $tls to the pid of the process that does TLS.
tls_open() {
	pop_open --tls -C "$WORLD/tls/ca.pem"
	pop_hear '^\+OK'
	pop_ask "USER alice"
	pop_ask "PASS x" '^\+OK 2 messages'
	# A spare process has no epoll descriptor yet.
	tls=
	for tls in $(jailed_in tls); do
		! fds "$tls" | grep -q eventpoll || break
	done
}

# is_of_keeper PID: returns true if the kept kpopd-tls has made the process.
is_of_keeper() {
	[ "$(field "$1" PPid)" = "$(keeper)" ]
}

# of_keeper: prints how many processes of connections the kept kpopd-tls has.
of_keeper() {
	local pid count=0
	for pid in $(jailed_in tls); do
		! is_of_keeper "$pid" || count=$((count + 1))
	done
	echo $count
}

# is_of_monitor PID: returns true if the monitor has started the process.
is_of_monitor() {
	[ "$(field "$1" PPid)" = "$(monitor_pid)" ]
}

# tls_open_kept [CALL:HOW]: does the same as tls_open, with a process that the
# kept kpopd-tls has made. Injects into the kept kpopd-tls first, if CALL:HOW is
# given. On a busy machine its answer to the monitor may come too late, so tries
# five times.
tls_open_kept() {
	local try
	for try in {1..5}; do
		[ $# -eq 0 ] || inject "$(keeper)" "$1"
		tls_open
		! is_of_keeper "$tls" || return 0
		pop_ask QUIT
		pop_close
		[ $# -eq 0 ] || { inject_end; keep_anew; }
		await 5 'no_kpopd'
		log_mark
	done
	return 1
}

# keep_anew: ends the kept kpopd-tls, and keeps another one.
keep_anew() {
	keep_end
	keep_tls -d "$state" $(tls_options)
}

# inject PID CALL:HOW: makes the calls of the process and its children fail or
# wait, as strace(1) describes, until inject_end.
inject() {
	[ -z "${SANITIZER-}" ] ||
	    skip "ASan's own system calls are in the way of strace"
	attach "$1" -f -o "$WORLD/trace" -e trace="${2%%:*}" -e inject="$2"
}

inject_end() {
	kill "$tracer" 2>/dev/null || true
	detached
}

# served_by_monitor CALL:HOW [PATTERN]: injects into the kept kpopd-tls, kills
# its spare process, and logs in. Returns true if the monitor has started the
# kpopd-tls without waiting for an answer that does not come, and if a line of
# the log matches the pattern. On a busy machine any answer may come too late,
# so tries five times, each time with a new kept kpopd-tls.
served_by_monitor() {
	local try
	for try in {1..5}; do
		[ "$try" -eq 1 ] || keep_anew
		log_mark
		inject "$(keeper)" "$1"
		pkill -KILL -P "$(keeper)" || true
		await 5 '[ -z "$(pgrep -P "$(keeper)")" ]'
		tls_open
		is_of_monitor "$tls"
		inject_end
		pop_ask QUIT
		pop_close
		await 5 'no_kpopd'
		! log_lacks 'does not answer' || ! log_has "${2-}" || return 0
	done
	return 1
}

@test "a kept kpopd-tls serves each client by a process with the rights of a new kpopd-tls" {
	tls_open_kept
	uid=$(id -u kpopd-tls)
	has_nothing "$tls" "$uid" "$(id -g kpopd-tls)"
	[ -n "${SANITIZER-}" ] || grep -q '^Seccomp:.2' "/proc/$tls/status"
	[ "$(readlink "/proc/$tls/root")" = "$state/tls" ]
	grep -Eq 'Max open files +16 +16' "/proc/$tls/limits"
	# The client, the cleartext side and the channel to the monitor.
	fds "$tls"
	[ "$(sockets "$tls")" -eq 3 ]
	[ "$(fds "$tls" | grep -c /dev/null)" -eq 3 ]
	[ "$(fds "$tls" | grep -c eventpoll)" -eq 1 ]
	[ "$(fds "$tls" | wc -l)" -eq 7 ]
	holds_key "$tls" tls_key_bytes
	holds_none "$tls"
	pop_ask QUIT
	pop_close
	await 5 'no_kpopd'
	log_has 'kpopd\[[0-9]+\]: tls peer=\S+ version=TLSv1\.3 '
	log_has 'login .*layer=tls '
	log_lacks ' (fatal|failed) '
}

@test "a kept kpopd-tls is not root, has no key of the service, no file and no socket of a client" {
	tls_open_kept
	keeper=$(keeper)
	uid=$(id -u kpopd-tls)
	[ "$(field "$keeper" Uid)" = "$uid $uid $uid $uid" ]
	for name in CapInh CapPrm CapEff CapAmb; do
		[ "$(field "$keeper" $name)" = 0000000000000000 ]
	done
	[ "$(field "$keeper" NoNewPrivs)" = 1 ]
	[ "$(stat -c %u "/proc/$keeper/mem")" = 0 ]
	[ -n "${SANITIZER-}" ] || grep -q '^Seccomp:.2' "/proc/$keeper/status"
	holds_key "$keeper" tls_key_bytes
	holds_none "$keeper"
	# Its listening socket, syslog, and those to the monitor and to the
	# spare process.
	await 5 '[ "$(sockets "$keeper")" -eq 4 ]'
	for fd in $(fds "$keeper" | sed -n 's/.*socket:\[\(.*\)\]$/\1/p'); do
		ss -Htane | refute grep -q "ino:$fd "
	done
	# Built for sanitizers, it has no sandbox. -13 is EACCES.
	[ -z "${SANITIZER-}" ] || return 0
	captive "$keeper" "openat -100 / 65536" "socket 2 1 0"
	[ "$returned" = $'-13\n-13' ] || { echo "$returned"; return 1; }
}

@test "the process of a connection has no descriptor of another connection, or of the kept kpopd-tls" {
	restart -T immediate $(tls_options)
	# On a busy machine the answer to a monitor may come too late.
	for _ in {1..5}; do
		exec {one}<>/dev/tcp/127.0.0.1/1109
		await 5 '[ "$(jailed_in tls | wc -l)" -eq 1 ]'
		exec {two}<>/dev/tcp/127.0.0.1/1109
		await 5 '[ "$(jailed_in tls | wc -l)" -eq 2 ]'
		[ "$(of_keeper)" -lt 2 ] || break
		exec {one}>&- {two}>&-
		await 5 'no_kpopd'
	done
	for pid in $(jailed_in tls); do
		is_of_keeper "$pid"
		await 5 "fds $pid | grep -q eventpoll"
		[ "$(sockets "$pid")" -eq 3 ]
	done
	for pid in $(jailed_in tls) "$(keeper)"; do
		fds "$pid" | sed -n 's/^[0-9]* //p' | grep socket: | sort -u
	done | sort | uniq -d >"$WORLD/shared"
	exec {one}>&- {two}>&-
	cat "$WORLD/shared"
	[ ! -s "$WORLD/shared" ]
}

@test "the processes of a kept kpopd-tls choose different random numbers and keys" {
	restart -T immediate $(tls_options)
	for i in {1..8}; do
		perl "$BATS_TEST_DIRNAME/programs/server-random.pl" \
		    127.0.0.1 1109
	done >"$WORLD/random"
	kill -0 "$(keeper)"
	[ "$(tr ' ' '\n' <"$WORLD/random" | sort -u | wc -l)" -eq 16 ]
}

@test "a new certificate is served at once, and the kept kpopd-tls ends" {
	tls_open_kept
	pop_ask QUIT
	pop_close
	await 5 'no_kpopd'
	# Only the inode change time of the file differs.
	old=$(keeper)
	cp -p "$WORLD/tls/server.pem" "$WORLD/again"
	cat "$WORLD/again" >"$WORLD/tls/server.pem"
	touch -r "$WORLD/again" "$WORLD/tls/server.pem"
	tls_open
	is_of_monitor "$tls"
	await 5 '! kill -0 "$old" 2>/dev/null'
	log_has 'kept peer=none reason="the certificate, the key or the program has changed"$'
	pop_ask QUIT
	pop_close
	keep_tls -d "$state" $(tls_options)
	certificate next "-days 30" /CN=mail.kpopd.test \
	    subjectAltName=DNS:mail.kpopd.test ca
	mv "$WORLD/tls/next.pem" "$WORLD/tls/server.pem"
	mv "$WORLD/tls/next.key" "$WORLD/tls/server.key"
	s_client -starttls pop3 </dev/null >/dev/null || :
	tls_open
	is_of_monitor "$tls"
}

@test "a kept kpopd-tls with other options serves no connection, and stays" {
	restart -C ECDHE+CHACHA20 $(tls_options)
	tls_open
	is_of_monitor "$tls"
	log_has 'tls .* cipher=TLS_'
	kill -0 "$(keeper)"
	log_lacks ' (failed|fatal) '
}

@test "a kept kpopd-tls ends if a library that it executes is replaced" {
	library=$(sed -n 's,.* \(/.*/libssl\.so[^ ]*\)$,\1,p' \
	    "/proc/$(keeper)/maps" | head -n 1)
	cp -p "$library" "$WORLD/library"
	keep_end
	own_copy "$(dirname "$library")"
	# The same bytes in a new inode, as after an upgrade.
	cp -p "$WORLD/library" "$library.new"
	mv "$library.new" "$library"
	keep_tls -d "$state" $(tls_options)
	cp -p "$WORLD/library" "$library.new"
	mv "$library.new" "$library"
	tls_open
	is_of_monitor "$tls"
	await 5 '! kill -0 "$(keeper)" 2>/dev/null'
}

@test "a kept kpopd-tls ends if its program is replaced, although it does not understand the request" {
	keep_end
	own_copy "$KPOPD_BUILD"
	cp -p "$KPOPD_BUILD/kpopd-tls" "$WORLD/program"
	# overlayfs does not show that a file of its lower layer was replaced.
	cp -p "$WORLD/program" "$KPOPD_BUILD/kpopd-tls.new"
	mv "$KPOPD_BUILD/kpopd-tls.new" "$KPOPD_BUILD/kpopd-tls"
	keep_tls -d "$state" $(tls_options)
	cp -p "$WORLD/program" "$KPOPD_BUILD/kpopd-tls.new"
	mv "$KPOPD_BUILD/kpopd-tls.new" "$KPOPD_BUILD/kpopd-tls"
	python3 "$BATS_TEST_DIRNAME/programs/ask-keeper.py" \
	    "$state/tls.sock" 1 7 </dev/null
	await 5 '! kill -0 "$(keeper)" 2>/dev/null'
	log_has 'kept peer=none reason="the certificate, the key or the program has changed"$'
}

@test "a kept kpopd-tls ends for a forbidden system call, and the log names the call" {
	[ -z "${SANITIZER-}" ] || skip "built for sanitizers, without a sandbox"
	tls_open
	captive "$(keeper)" "execve /bin/true 0 0"
	await 5 '! kill -0 "$(keeper)" 2>/dev/null'
	log_has 'kpopd-tls\[[0-9]+\]: fatal peer=none error="a kept kpopd-tls was ended for the system call execve"$'
	pop_ask STAT '^\+OK 2 '
	pop_ask QUIT
}

@test "a client is served although the kept kpopd-tls hangs, and by one process only" {
	kill -STOP "$(keeper)"
	tls_open
	is_of_monitor "$tls"
	log_has 'failed .*what="asking the kept kpopd-tls" error="it does not answer"$'
	[ "$(jailed_in tls | wc -l)" -eq 1 ]
	kill -CONT "$(keeper)"
	pop_ask STAT '^\+OK 2 '
	pop_ask QUIT
	pop_close
	# What it has made late ends without the client.
	await 5 'no_kpopd'
	tls_open_kept
}

@test "a session ends with its kpopd-tls although a kept kpopd-tls hangs" {
	kill -STOP "$(keeper)"
	tls_open
	is_of_monitor "$tls"
	kill -KILL "$tls"
	log_has 'logout .*reason=lost'
	await 5 'no_kpopd'
}

@test "a session ends with its kpopd-tls although a kept kpopd-tls hangs after its answer" {
	tls_open_kept sendmsg:delay_exit=20000000:when=2
	kill -KILL "$tls"
	log_has 'logout .*reason=lost'
	inject_end
	await 5 'no_kpopd'
}

@test "a client does not wait for a kept kpopd-tls that is starting" {
	[ -z "${SANITIZER-}" ] ||
	    skip "ASan's own system calls are in the way of strace"
	keep_end
	rm -f "$WORLD/trace" "$state/tls.sock"
	strace -f -o "$WORLD/trace" -e trace=chroot \
	    -e inject=chroot:delay_exit=20000000:when=1 "$KPOPD_BUILD/kpopd" \
	    --keep-tls -d "$state" $(tls_options) 3>&- >/dev/null 2>&1 &
	starting=$!
	await 5 'grep -qs chroot "$WORLD/trace"'
	[ -S "$state/tls.sock" ]
	tls_open
	is_of_monitor "$tls"
	pop_ask QUIT
	kill -KILL "$(pgrep -P "$starting")"
	wait "$starting" || true
	log_lacks ' (failed|fatal) '
}

@test "a kept kpopd-tls that hangs delays only a bounded number of logins" {
	kill -STOP "$(keeper)"
	mkfifo "$WORLD/end"
	python3 "$BATS_TEST_DIRNAME/programs/ask-keeper.py" \
	    "$state/tls.sock" 2000 0 <"$WORLD/end" >"$WORLD/waiting" 3>&- &
	exec {end}>"$WORLD/end"
	await 5 '[ -s "$WORLD/waiting" ]'
	[ "$(cat "$WORLD/waiting")" -lt 200 ]
	tls_open
	is_of_monitor "$tls"
	log_lacks 'does not answer'
	exec {end}>&-
}

@test "a kept kpopd-tls closes the descriptors of a request that it does not understand" {
	await 5 'fds "$(keeper)" | grep -q pidfd'
	before=$(fds "$(keeper)" | wc -l)
	python3 "$BATS_TEST_DIRNAME/programs/ask-keeper.py" \
	    "$state/tls.sock" 50 7 </dev/null
	python3 "$BATS_TEST_DIRNAME/programs/ask-keeper.py" \
	    "$state/tls.sock" 50 20000 </dev/null
	fds "$(keeper)"
	[ "$(fds "$(keeper)" | wc -l)" -eq "$before" ]
}

@test "a kept kpopd-tls that cannot accept a connection ends, and delays no login" {
	served_by_monitor accept4:error=ENFILE \
	    'fatal .*error="accepting a monitor: Too many open files in system"$'
	await 5 '! kill -0 "$(keeper)" 2>/dev/null'
}

@test "a kept kpopd-tls that cannot answer lets the monitor start a kpopd-tls at once, and stays" {
	served_by_monitor pidfd_open:error=EMFILE
	tls_open_kept
}

@test "a client is served although the spare process of a kept kpopd-tls fails, and the log says why" {
	served_by_monitor close_range:error=ENOSYS \
	    'fatal peer=none error="close_range: Function not implemented"$'
	tls_open_kept
}

@test "a spare process ends for a forbidden system call, and the log names the call" {
	[ -z "${SANITIZER-}" ] || skip "built for sanitizers, without a sandbox"
	captive "$(pgrep -P "$(keeper)")" "execve /bin/true 0 0"
	log_has 'kpopd-tls\[[0-9]+\]: fatal peer=none error="a spare kpopd-tls was ended for the system call execve"$'
	tls_open_kept
	pop_ask QUIT
}

@test "a kept kpopd-tls that cannot fork, or whose spare process hangs, delays no login" {
	served_by_monitor clone,clone3,fork:error=EAGAIN
	log_lacks ' (failed|fatal) '
	served_by_monitor close_range:delay_enter=20000000
	log_lacks ' (failed|fatal) '
	tls_open_kept
}

@test "a signal to the process group of a kept kpopd-tls ends no connection" {
	keep_end
	setsid env ${SANITIZER-} "$KPOPD_BUILD/kpopd" --keep-tls -d "$state" \
	    $(tls_options) 3>&- >"$WORLD/keep.out" 2>&1 &
	echo $! >"$WORLD/keep.pid"
	await 20 'kept_tls_is_ready'
	tls_open_kept
	kill -TERM -- "-$(keeper)"
	await 5 '! kill -0 "$(keeper)" 2>/dev/null'
	pop_ask STAT '^\+OK 2 '
	pop_ask QUIT
}

@test "a kept kpopd-tls ends if openssl.cnf was changed while it started" {
	[ -z "${SANITIZER-}" ] ||
	    skip "ASan's own system calls are in the way of strace"
	keep_end
	strace -D -o "$WORLD/trace" -P "$WORLD/tls/server.pem" -e trace=openat \
	    -e inject=openat:delay_exit=2000000 "$KPOPD_BUILD/kpopd" \
	    --keep-tls -d "$state" $(tls_options) 3>&- \
	    >"$WORLD/keep.out" 2>&1 &
	echo $! >"$WORLD/keep.pid"
	# It has noted openssl.cnf before it opens the certificate.
	await 10 'grep -qs server.pem "$WORLD/trace"'
	touch /etc/ssl/openssl.cnf
	await 20 'kept_tls_is_ready'
	tls_open
	is_of_monitor "$tls"
	await 5 '! kill -0 "$(keeper)" 2>/dev/null'
}

@test "the spare process ends with its kept kpopd-tls, and is replaced if it is killed" {
	first=$(pgrep -P "$(keeper)")
	kill -KILL "$first"
	await 5 "! kill -0 $first 2>/dev/null"
	tls_open_kept
	[ "$tls" != "$first" ]
	await 5 '[ "$(pgrep -P "$(keeper)" | wc -l)" -eq 2 ]'
	spare=$(pgrep -P "$(keeper)" | grep -vx "$tls")
	keep_end
	await 5 "! kill -0 $spare 2>/dev/null"
	pop_ask STAT '^\+OK 2 '
	pop_ask QUIT
	log_lacks ' (failed|fatal) '
}

@test "the connections of a kept kpopd-tls that is killed continue" {
	tls_open_kept
	keep_end
	pop_ask STAT '^\+OK 2 '
	pop_ask "DELE 1"
	pop_ask QUIT '^\+OK bye, 1 messages left'
	pop_close
	await 5 'no_kpopd'
	log_lacks ' (failed|fatal) '
	mbox one two | store alice
	tls_open
	is_of_monitor "$tls"
}

@test "a monitor that is killed before it gives the client leaves nothing in a kept kpopd-tls" {
	restart -T immediate $(tls_options)
	await 5 'fds "$(keeper)" | grep -q pidfd'
	before=$(fds "$(keeper)" | wc -l)
	# The monitor sends the request first, and then the client's socket. On
	# a busy machine the answer to it may come too late.
	for _ in {1..5}; do
		inject "$(cat "$WORLD/xinetd.pid")" \
		    sendmsg:delay_enter=60000000:when=2
		exec {client}<>/dev/tcp/127.0.0.1/1109
		await 5 '[ -n "$(jailed_in tls)" ]'
		tried=$(of_keeper)
		kill -KILL "$(monitor_pid)"
		inject_end
		await 5 'no_kpopd'
		exec {client}>&-
		[ "$tried" -eq 0 ] || break
	done
	[ "$tried" -eq 1 ]
	await 5 '[ "$(fds "$(keeper)" | wc -l)" -eq "$before" ]'
}

@test "the end of a connection's process by a signal is logged as that of a new kpopd-tls" {
	tls_open_kept
	# ASan handles SIGSEGV.
	kill -ABRT "$tls"
	log_has 'fatal .*error="kpopd-tls was ended by signal 6 \(Aborted\)"$'
	log_has 'logout .*reason=lost'
	await 5 'no_kpopd'
}

@test "only root can ask a kept kpopd-tls" {
	local connect="perl -MIO::Socket::UNIX -e '
	    exit !IO::Socket::UNIX->new(Type => SOCK_SEQPACKET,
	    Peer => q($state/tls.sock))'"
	[ "$(stat -c %U:%a "$state/tls.sock")" = root:700 ]
	sh -c "$connect"
	run su alice -s /bin/sh -c "$connect"
	[ "$status" -eq 1 ]
}

@test "a second kept kpopd-tls ends, and the first one goes on" {
	run "$KPOPD_BUILD/kpopd" --keep-tls -d "$state" $(tls_options)
	[ "$status" -eq 1 ]
	log_has 'kept peer=none reason="another kpopd-tls is kept"$'
	tls_open_kept
}

@test "more connections than a kept kpopd-tls has room for are served by new ones" {
	server_stop
	server_start -t 300 -T immediate $(tls_options)
	# It needs up to 64 descriptors for other things.
	ulimit -Sn 66
	keep_tls -d "$state" $(tls_options)
	ulimit -Sn 1024
	for n in 1 2 3 4; do
		exec {held[n]}<>/dev/tcp/127.0.0.1/1109
		await 5 '[ "$(jailed_in tls | wc -l)" -eq "$n" ]'
	done
	# On a busy machine the answer to a monitor may come too late.
	[ "$(of_keeper)" -ge 1 ] && [ "$(of_keeper)" -le 2 ]
	for n in 1 2 3 4; do exec {held[n]}>&-; done
	await 5 'no_kpopd'
}

@test "--keep-tls needs root, a certificate that works, and no client" {
	keep_end
	run "$KPOPD_BUILD/kpopd" --keep-tls -d "$state"
	[ "$status" -eq 2 ]
	[[ $output = *"--keep-tls needs a certificate (-c)"* ]]
	run "$KPOPD_BUILD/kpopd" --keep-tls -d "$state" -c /etc/passwd
	[ "$status" -eq 1 ]
	log_has 'failed peer=none what="reading the certificate /etc/passwd"'
	run su alice -s /bin/sh -c "$KPOPD_BUILD/kpopd --keep-tls -c /x"
	[ "$status" -eq 2 ]
	[[ $output = *"--keep-tls needs root"* ]]
}
