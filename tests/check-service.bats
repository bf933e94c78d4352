#!/usr/bin/env bats
# Checks what kpopd --check says about the superserver that starts kpopd, about
# the port, and about the locks of other mail programs. tests/systemd.bats has
# the same for the units of systemd.

load helpers/all

setup_file() {
	# For programs that stand in for others.
	mount -t tmpfs -o mode=755 kpopd /usr/local/sbin
	mkdir "$WORLD/kept"
	cp -a /etc/services /etc/xinetd.conf /etc/dovecot/dovecot.conf \
	    "$WORLD/kept/"
}

teardown_file() {
	umount -l /usr/local/sbin
}

setup() {
	begin_test
	rm -rf /etc/xinetd.d/* /etc/inetd.conf /usr/local/sbin/*
	cp -a "$WORLD"/kept/{services,xinetd.conf} /etc/
	cp -a "$WORLD/kept/dovecot.conf" /etc/dovecot/
}

teardown() {
	[ -z "${taker-}" ] ||
	    { kill "$taker"; wait "$taker"; } 2>/dev/null || true
	service xinetd stop >/dev/null
	fuse_end
	server_stop
	rm -f /etc/exim4/exim4.conf /run/mountinfo
	[ ! -e "$WORLD/kept/krb5.conf" ] || cp -a "$WORLD/kept/krb5.conf" /etc/
	! mountpoint -q /srv/spool || umount -l /srv/spool
	umount "$(command -v doveconf)" 2>/dev/null || true
	rm -rf /srv/spool /srv/private
	chmod 2775 /var/mail
	chown root:mail /var/mail
	end_test
}

# check [OPTION ...]: runs kpopd --check, which must print nothing on standard
# error. Sets $checked to the lines about the parts of this file.
check() {
	local parts='service|port|xinetd|systemd|locks|spool'
	checked=$(timeout 90 "$KPOPD_BUILD/kpopd" --check "$@" </dev/null \
	    2>"$WORLD/errors" | grep -aE "^[a-zFAIL]+ +($parts)[ :]")
	[ ! -s "$WORLD/errors" ] || { cat "$WORLD/errors" >&2; return 1; }
	[ -n "$checked" ]
}

# says PATTERN: returns true if a line matches the pattern (extended) from its
# beginning.
says() {
	grep -aEq -- "^$1" <<<"$checked" ||
	    { echo "no line matches: $1"; echo "$checked"; return 1; } >&2
}

# says_not PATTERN: returns true if no line matches.
says_not() {
	refute grep -aE -- "^$1" <<<"$checked"
}

# xinetd_entry NAME [LINE ...]: writes the installed file of xinetd, enabled, to
# /etc/xinetd.d/NAME. Each LINE replaces the attribute of its first word.
xinetd_entry() {
	local file=/etc/xinetd.d/$1 line
	shift
	sed -e "s,/usr/sbin/kpopd,$KPOPD_BUILD/kpopd," \
	    -e 's/\(disable[[:space:]]*=\).*/\1 no/' \
	    "$top/xinetd.d/kpop" >"$file"
	for line in "$@"; do
		sed -i -e "/^[[:space:]]*${line%% *}[[:space:]]*[+-]*=/d" \
		    -e "s|^}|\t$line\n}|" "$file"
	done
}

# xinetd_start: starts xinetd with the files in /etc.
xinetd_start() {
	cp /etc/xinetd.conf "$WORLD/xinetd.conf"
	xinetd_run
}

# take_port: starts a program that listens on port 1109.
take_port() {
	socat TCP-LISTEN:1109,reuseaddr,fork /dev/null 3>&- &
	taker=$!
	await 5 'ss -Hltn sport = 1109 | grep -q .'
}

@test "a disabled service of xinetd is named, and one that is enabled and listens is ok" {
	xinetd_entry kpop 'disable = yes'
	check
	says 'FAIL  service /etc/xinetd.d/kpop: no superserver starts kpopd for KPOP: .*disable = yes\. Remedy: sed -i .* /etc/xinetd.d/kpop && service xinetd restart'
	# With these lines xinetd does not start the service either.
	xinetd_entry kpop 'disable = YES   '
	check
	says 'FAIL  service /etc/xinetd.d/kpop: .*it contains disable = yes'
	xinetd_entry kpop 'disable = true'
	check
	says 'FAIL  service /etc/xinetd.d/kpop: .*disable is neither yes nor no'
	xinetd_entry kpop
	sed -i 's/disable.*=/disable=/' /etc/xinetd.d/kpop
	check
	says 'FAIL  service /etc/xinetd.d/kpop: .*a blank before each ='
	xinetd_entry kpop
	sed -i -e '/^{/d' -e 's/^service.*/& {/' /etc/xinetd.d/kpop
	check
	says 'FAIL  service /etc/xinetd.d/kpop: .*needs \{ in the next line'
	xinetd_entry kpop
	check
	says 'FAIL  port 1109: nothing listens, although /etc/xinetd.d/kpop is enabled\. Remedy: service xinetd restart'
	xinetd_start
	check
	says 'ok    port 1109: xinetd \(pid [0-9]+\) listens, for /etc/xinetd.d/kpop$'
	says_not '(FAIL|warn) +(service|port|xinetd)'
	# The file that the running xinetd reads counts.
	server_stop
	rm /etc/xinetd.d/kpop
	server_start
	check -d "$state" -k "$WORLD/server.keytab"
	says "ok    port 1109: xinetd \\(pid [0-9]+\\) listens, for $WORLD/xinetd.conf\$"
	says_not '(FAIL|warn) +(service|port|xinetd)'
}

# mended PATTERN: checks, runs the remedy of the line that matches the pattern,
# and checks that another check has no such line. A remedy may only send a
# signal, so waits until the line is gone.
mended() {
	local remedy gone=$1
	check
	says "$1"
	remedy=$(grep -aE -m 1 -- "^$1" <<<"$checked")
	echo "${remedy#*. Remedy: }"
	bash -c "${remedy#*. Remedy: }" 3>&- >/dev/null
	await 1 'check && says_not "$gone"'
}

# serves_again: returns true if the xinetd that a remedy has started listens for
# kpopd. Stops it.
serves_again() {
	await 5 'ss -Hltn sport = 1109 | grep -q .'
	check
	says 'ok    port 1109: xinetd \(pid [0-9]+\) listens, for /etc/xinetd'
	service xinetd stop
	await 5 '! pgrep -x xinetd'
}

@test "the remedy for an entry of xinetd that is disabled or has a mistake mends the entry, and nothing else in the file" {
	local line
	xinetd_entry kpop 'disable = yes'
	check
	# README has the same command, in two lines.
	line=$(sed -n '/^ *sed -i.*\\$/{N;s/^ *\(.*\)\\\n */\1/p}' \
	    "$top/README.md")
	[[ $line == sed* ]]
	grep -F "Remedy: $line && service xinetd restart" <<<"$checked"
	for line in 'disable = yes' 'disable = true' 'user = nobody' \
	    'socket_type = dgram' 'protocol = udp' 'wait = maybe' 'type = ' \
	    'port = '; do
		xinetd_entry kpop "$line"
		if [ "$line" = 'type = ' ]; then
			sed -i '/^[[:space:]]*type/d' /etc/xinetd.d/kpop
			sed -i '/^kpop[[:space:]]/d' /etc/services
		fi
		mended 'FAIL  service '
		serves_again
	done
	xinetd_entry kpop
	sed -i 's/disable.*=/disable=/' /etc/xinetd.d/kpop
	mended 'FAIL  service /etc/xinetd.d/kpop: .*a blank before each ='
	serves_again
	xinetd_entry kpop
	sed -i -e '/^{/d' -e 's/^service.*/& {/' /etc/xinetd.d/kpop
	mended 'FAIL  service /etc/xinetd.d/kpop: .*needs \{ in the next line'
	serves_again
	mv /etc/xinetd.d/kpop /etc/xinetd.d/kpop.conf~
	mended 'FAIL  service .*whose name contains a dot'
	serves_again
	rm /etc/xinetd.d/*
	xinetd_entry kpop
	for line in 'disabled = kpop' 'disabled = echo kpop time' \
	    'enabled = echo'; do
		sed "s/^{/{\n\t$line/" "$WORLD/kept/xinetd.conf" \
		    >/etc/xinetd.conf
		mended 'FAIL  service /etc/xinetd.d/kpop: .* in the defaults'
		serves_again
		case $line in
		*echo*) grep -q '=.*echo' /etc/xinetd.conf ;;
		*) refute grep disabled /etc/xinetd.conf ;;
		esac
	done
	cp "$WORLD/kept/xinetd.conf" /etc
	for line in '/^	disable/d' ''; do
		xinetd_entry other 'server = /usr/bin/true'
		sed -i "$line" /etc/xinetd.d/other
		mended 'FAIL  service /etc/xinetd.d/other: .* both have port'
		serves_again
	done
	rm /etc/xinetd.d/other
	# Of two services in one file only one is changed.
	xinetd_entry kpop 'disable = yes'
	xinetd_entry pop3 'disable = yes' 'server_args = -p' 'port = 110'
	cat /etc/xinetd.d/pop3 >>/etc/xinetd.d/kpop
	rm /etc/xinetd.d/pop3
	mended 'FAIL  service /etc/xinetd.d/kpop: .*disable = yes'
	[ "$(grep -c 'disable.*yes' /etc/xinetd.d/kpop)" = 1 ]
	serves_again
	check -p
	says 'warn  service /etc/xinetd.d/kpop: no superserver starts kpopd for POP3'
}

@test "a program that has taken the port is named with its pid" {
	xinetd_entry kpop
	take_port
	check
	says "FAIL  port 1109: the port is taken by socat1? \\(pid $taker, uid 0\\), .*Remedy: stop process $taker"
	says_not 'ok +port'
	rm /etc/xinetd.d/kpop
	check
	says "FAIL  port 1109: the port is taken by socat"
	says 'FAIL  service: no superserver'
	# Another port is not looked at.
	check -p
	says_not '.*socat'
}

@test "a program of a user that has the name of a superserver is none" {
	local program
	for program in xinetd kpopd; do
		xinetd_entry kpop
		cp "$(command -v socat)" "/usr/local/sbin/$program"
		setpriv --reuid alice --clear-groups \
		    "/usr/local/sbin/$program" TCP-LISTEN:1109,reuseaddr,fork \
		    /dev/null 3>&- &
		taker=$!
		await 5 'ss -Hltn sport = 1109 | grep -q .'
		check
		says "FAIL  port 1109: the port is taken by $program \\(pid $taker, uid $(id -u alice)\\)"
		says_not 'ok +port'
		kill "$taker"
		await 5 '! ss -Hltn sport = 1109 | grep -q .'
	done
}

@test "a file that a user's program called xinetd would read does not count" {
	cp "$(command -v perl)" /usr/local/sbin/xinetd
	xinetd_entry kpop
	mv /etc/xinetd.d/kpop "$WORLD/alices.conf"
	setpriv --reuid alice --clear-groups /usr/local/sbin/xinetd \
	    -e 'sleep 60' -- -f "$WORLD/alices.conf" 3>&- &
	taker=$!
	await 5 "[ \"\$(readlink /proc/$taker/exe)\" = /usr/local/sbin/xinetd ]"
	check
	says_not ".*alices.conf"
}

@test "another server that xinetd starts on the port is named" {
	xinetd_entry other 'server = /usr/bin/true'
	xinetd_entry pop3-gssapi 'port = 110' 'server_args = -p'
	xinetd_start
	check
	says 'FAIL  port 1109: the port is taken by xinetd \(pid [0-9]+, uid 0\), which starts /usr/bin/true there, because of /etc/xinetd.d/other'
}

@test "a service that other options than those of this check would serve is not missing, but named" {
	xinetd_entry pop3-gssapi 'port = 110' 'server_args = -p'
	check
	says 'warn  service /etc/xinetd.d/pop3-gssapi: no superserver starts kpopd for KPOP; .*Remedy: kpopd --check -p$'
	says_not FAIL' +service'
	check -p
	says 'FAIL  port 110: nothing listens'
	xinetd_entry pop3s 'port = 995' \
	    "server_args = -p -T immediate -c $WORLD/none"
	check -p -T immediate -c "$WORLD/none"
	says 'FAIL  port 995: nothing listens, although /etc/xinetd.d/pop3s'
	says_not '.*port 110'
}

@test "each option that xinetd's entry has otherwise than kpopd.conf or the check is named" {
	printf 'keytab /etc/one.keytab\ntimeouts 40\nstate %s\n' "$state" \
	    >/etc/kpopd.conf
	xinetd_entry kpop \
	    'server_args = -k /etc/other.keytab --timeouts 40 -l fcntl,dotlock' \
	    'env = TZ=UTC KRB5_KTNAME=/etc/third'
	check
	says 'warn  service /etc/xinetd.d/kpop: kpopd is started with keytab /etc/other.keytab, which replaces /etc/one.keytab of the file of options\. Remedy: remove keytab from one'
	says 'warn  service /etc/xinetd.d/kpop: kpopd is started with KRB5_KTNAME=/etc/third,'
	# The defaults, and equal values, are no difference.
	says_not '.*started with (timeouts|locks|state|TZ)'
	xinetd_entry kpop 'server_args = -r OTHER.TEST'
	check
	says 'warn  service /etc/xinetd.d/kpop: kpopd is started with realms OTHER.TEST, but these checks used the default\. Remedy: kpopd --check -r OTHER.TEST$'
	check alice
	says 'warn  service /etc/xinetd.d/kpop: .*Remedy: kpopd --check -r OTHER.TEST alice$'
	check -r OTHER.TEST
	says_not 'warn +service'
	check -d /elsewhere -r OTHER.TEST
	says "warn  service .*started with state $state, but these checks used /elsewhere"
	# A mistake of the file is not the entry's.
	echo nonsense >>/etc/kpopd.conf
	check
	says_not '(FAIL|warn) +service'
}

# connect: has a connection, for which xinetd starts the listener. Sets
# $listener to its pid.
connect() {
	bash -c 'exec 3<>/dev/tcp/127.0.0.1/1109; echo x >&3; cat <&3' \
	    >/dev/null 3>&-
	listener=$(pgrep -x kpopd -P "$(cat "$WORLD/xinetd.pid")")
}

@test "a listener that has not read the options that the file now has is named, and the remedy lets them be read" {
	[ -z "${SANITIZER-}" ] ||
	    skip "the entry gives kpopd no options for sanitizers"
	local listener line remedy
	printf '%s\n' "keytab $WORLD/server.keytab" "state $state" \
	    >/etc/kpopd.conf
	xinetd_entry kpop 'wait = yes' "server_args = -t 50"
	sed -i '/per_source\|instances\|flags/d' /etc/xinetd.d/kpop
	xinetd_start
	connect
	for line in '$s/$/\n# new/' '$s/$/\ntimeouts 40/' '1!G;h;$!d'; do
		# None of these changes an option.
		sed -i "$line" /etc/kpopd.conf
		check -t 50
		says "ok    port 1109: xinetd .* for /etc/xinetd.d/kpop"
		says_not '(warn|FAIL) +service .*listener'
	done
	for line in '/keytab/d' '$s/$/\nkeytab \/etc\/krb5.keytab/' \
	    's/^keytab .*/keytab \/etc\/none/' '$s/$/\npop3-name x/'; do
		sed -i "$line" /etc/kpopd.conf
		check -t 50
		[[ $line != *pop3-name* ]] || break
		says "warn  service /etc/xinetd.d/kpop: the listener \\(pid $listener\\) has not read /etc/kpopd.conf since keytab was changed there\\. Remedy: kill -HUP $listener\$"
		kill -HUP "$listener"
		await 5 "! kill -0 $listener 2>/dev/null"
		check -t 50
		says_not '(warn|FAIL) +service .*listener'
		connect
		check -t 50
		says_not '(warn|FAIL) +service .*listener'
	done
	# A mistake has its own line, because a reload does not help.
	says_not '(warn|FAIL) +service .*listener'
	rm /etc/kpopd.conf
	check -t 50
	says "warn  service .* since (state|keytab) was changed there"
}

@test "a listener that has not read the krb5.conf that the host now has is named, and the remedy lets it be read" {
	[ -z "${SANITIZER-}" ] ||
	    skip "the entry gives kpopd no options for sanitizers"
	local listener line
	printf '%s\n' "keytab $WORLD/server.keytab" "state $state" \
	    >/etc/kpopd.conf
	cp -a /etc/krb5.conf "$WORLD/kept/"
	xinetd_entry kpop 'wait = yes'
	sed -i '/per_source\|instances\|flags/d' /etc/xinetd.d/kpop
	xinetd_start
	connect
	echo '# new' >>/etc/krb5.conf
	check
	says_not '(warn|FAIL) +service .*listener'
	for line in 'dns_lookup_kdc = false' 'rdns = true'; do
		sed -i "s/^\[libdefaults\]/&\n\t$line/" /etc/krb5.conf
		mended "warn  service /etc/xinetd.d/kpop: the listener \\(pid $listener\\) has not read krb5.conf since it was changed\\. Remedy: kill -HUP $listener\$"
	done
	kill -0 "$listener"
	# The entry may name another file.
	cp /etc/krb5.conf "$WORLD/other.conf"
	sed -i '/rdns/d' "$WORLD/other.conf"
	KRB5_CONFIG=$WORLD/other.conf check
	says_not '(warn|FAIL) +service .*listener'
	# A reload does not help.
	: >/etc/krb5.conf
	check
	cp -a "$WORLD/kept/krb5.conf" /etc
	says_not '(warn|FAIL) +service .*listener'
}

@test "a wrong option in xinetd's entry is named, with or without NAMEINARGS" {
	local args
	for args in '-k /etc/k --keytabs x' '--keytabs' 'kpopd -k /etc/k' \
	    '--help' '-t never' '-f /nowhere'; do
		xinetd_entry kpop "server_args = $args"
		check
		says 'FAIL  service /etc/xinetd.d/kpop: kpopd is started with a wrong option: .*(--keytabs|unexpected argument: kpopd|--help|-t takes|/nowhere)'
	done
	xinetd_entry kpop 'server_args = --recover'
	check
	says 'FAIL  service .*serves no client with --recover'
	xinetd_entry kpop 'server_args = kpopd -t 20' \
	    'flags = NODELAY NAMEINARGS'
	check -t 20
	says_not '(FAIL|warn) +service'
}

@test "a kpop that services does not have is named if xinetd needs it" {
	sed -i '/^kpop[[:space:]]/d' /etc/services
	xinetd_entry kpop 'type = '
	check
	says "FAIL  service /etc/xinetd.d/kpop: xinetd does not start it, because services\\(5\\) does not have kpop, .*Remedy: printf '.nkpop 1109/tcp.n' >>/etc/services"
	# A name or a port stands in no remedy that a shell would not take.
	xinetd_entry kpop 'type = ' "port = ';id;'"
	sed -i "s/^service .*/service k';id;'/" /etc/xinetd.d/kpop
	check
	says 'FAIL  service /etc/xinetd.d/kpop: xinetd does not start it, because services\(5\) does not have k.;id;., .*Remedy: write type = UNLISTED and port = 1109 into /etc/xinetd.d/kpop$'
	xinetd_entry kpop
	check
	says_not 'FAIL +service'
	echo 'kpop 1110/tcp' >>/etc/services
	xinetd_entry kpop 'type = '
	check
	says 'FAIL  service /etc/xinetd.d/kpop: .*its port is 1109, and kpop in services\(5\) is 1110'
}

@test "each attribute with which xinetd cannot start kpopd is named" {
	local line
	for line in 'user = nobody' 'socket_type = dgram' 'protocol = udp' \
	    'wait = maybe' 'port = pop3'; do
		xinetd_entry kpop "$line"
		check
		case $line in
		port*) says 'FAIL  service /etc/xinetd.d/kpop: .*needs the number of a port' ;;
		*) says "FAIL  service /etc/xinetd.d/kpop: .*${line%% *} is ${line##* }, and kpopd needs " ;;
		esac
	done
	# These are right, in xinetd's opinion, too.
	xinetd_entry kpop 'wait = NO' 'user = 0' 'socket_type = STREAM' \
	    'type = unlisted' 'protocol = '
	sed -i '/protocol/d' /etc/xinetd.d/kpop
	xinetd_start
	check
	says 'ok    port 1109: xinetd'
	says_not 'FAIL  service'
	server_stop
	xinetd_entry kpop 'server = /nowhere/kpopd'
	check
	says 'FAIL  service .*cannot start /nowhere/kpopd: No such file'
	cp /bin/true /usr/local/sbin/kpopd
	xinetd_entry kpop 'server = /usr/local/sbin/kpopd'
	check
	says 'warn  service .*it starts /usr/local/sbin/kpopd, but these checks'
	xinetd_entry kpop 'wait = yes' 'only_from = 192.0.2.1'
	check
	says 'warn  service .*does not apply only_from'
	xinetd_entry kpop 'bind = 127.0.0.1'
	xinetd_start
	check
	says 'warn  port 1109: only this host can connect'
}

@test "a file that xinetd ignores, and the lists in xinetd's defaults, disable a service" {
	xinetd_entry kpop.conf
	check
	says 'FAIL  service /etc/xinetd.d/kpop.conf: .*xinetd ignores a file whose name contains a dot'
	rm /etc/xinetd.d/kpop.conf
	xinetd_entry kpop
	sed -i 's/^{/{\n\tdisabled = echo kpop/' /etc/xinetd.conf
	check
	says 'FAIL  service /etc/xinetd.d/kpop: .*disabled in the defaults'
	sed -i 's/disabled = .*/enabled = echo/' /etc/xinetd.conf
	check
	says 'FAIL  service /etc/xinetd.d/kpop: .*enabled in the defaults'
	sed -i 's/enabled = .*/&\n\tenabled += kpop/' /etc/xinetd.conf
	check
	says 'FAIL  port 1109: nothing listens'
}

# has_inetd: installs a program that listens as inetd would, because xinetd and
# the packages of inetd exclude each other.
has_inetd() {
	cp "$(command -v socat)" /usr/local/sbin/inetd
}

@test "two superservers that are enabled for one port are both named" {
	has_inetd
	xinetd_entry kpop
	echo "1109 stream tcp nowait root $KPOPD_BUILD/kpopd kpopd" \
	    >/etc/inetd.conf
	check
	says 'FAIL  service /etc/inetd.conf:1: /etc/xinetd.d/kpop and /etc/inetd.conf:1 both have port 1109'
	rm /etc/xinetd.d/kpop
	# One line for IPv4 and one for IPv6 can both listen.
	echo "kpop stream tcp6 nowait root $KPOPD_BUILD/kpopd kpopd" \
	    >>/etc/inetd.conf
	check
	says_not 'FAIL +service'
	# Nor does another server of the same superserver go with it.
	xinetd_entry kpop 'port = 110' 'server_args = -p'
	xinetd_entry pop3 'port = 110' 'server = /usr/sbin/dovecot'
	check -p
	says 'FAIL  service /etc/xinetd.d/pop3: /etc/xinetd.d/kpop and /etc/xinetd.d/pop3 both have port 110.*Remedy: sed -i .* /etc/xinetd.d/pop3 && service xinetd restart'
}

@test "a line of inetd.conf is found if it is a comment, wrong, or in use" {
	has_inetd
	printf '%s\n' '# inetd would start with root /usr/sbin/kpopd kpopd' \
	    "#<off># 1109 stream tcp nowait root $KPOPD_BUILD/kpopd kpopd" \
	    >/etc/inetd.conf
	check
	says 'FAIL  service /etc/inetd.conf:2: no superserver starts kpopd for KPOP: the line is a comment\. Remedy: sed -E -i .*2s.* /etc/inetd.conf && service openbsd-inetd restart'
	sed -i '/^kpop[[:space:]]/d' /etc/services
	printf '%s\n' \
	    "kpop stream udp nowait daemon $KPOPD_BUILD/kpopd kpopd -k /k" \
	    "pop3 stream tcp nowait.40 root:mail /usr/sbin/tcpd $KPOPD_BUILD/kpopd -p" \
	    >/etc/inetd.conf
	check
	says 'FAIL  service /etc/inetd.conf:1: services\(5\) does not have kpop'
	says 'FAIL  service /etc/inetd.conf:1: the user is daemon'
	says 'FAIL  service /etc/inetd.conf:1: the protocol is udp, and kpopd'
	says 'warn  service /etc/inetd.conf:1: kpopd is started with keytab /k'
	check -p
	says 'FAIL  port 110: nothing listens, although /etc/inetd.conf:2'
	/usr/local/sbin/inetd TCP-LISTEN:110,reuseaddr /dev/null 3>&- &
	taker=$!
	await 5 'ss -Hltn sport = 110 | grep -q .'
	check -p
	says "ok    port 110: inetd \\(pid $taker\\) listens, for /etc/inetd.conf:2"
}

@test "the remedy for a line of inetd.conf mends this line and no other" {
	local another="daytime stream tcp nowait nobody internal" kpop
	has_inetd
	# The test's inetd has no service(8).
	ln -s /bin/true /usr/local/sbin/service
	kpop="stream tcp nowait root $KPOPD_BUILD/kpopd kpopd"
	sed -i '/^kpop[[:space:]]/d' /etc/services
	while IFS='|' read -r line wanted; do
		printf '%s\n' "$another" "$line $KPOPD_BUILD/kpopd kpopd" \
		    "$another" >/etc/inetd.conf
		while check && grep '^FAIL  service' <<<"$checked"; do
			mended "$(grep -m 1 -o '^FAIL  service /etc/inetd.conf:2: [a-z]* \?[a-z]*' <<<"$checked")"
		done
		diff - /etc/inetd.conf <<-END
		$another
		$wanted
		$another
		END
	done <<-END
	#<off># 1109 stream tcp nowait root|1109 $kpop
	## 1109	stream tcp nowait root|1109	$kpop
	1109 dgram udp nowait daemon:mail|1109 $kpop
	kpop stream tcp nowait root|kpop $kpop
	END
	grep '^kpop 1109/tcp' /etc/services
	xinetd_entry kpop
	mended 'FAIL  service /etc/inetd.conf:2: .* both have port 1109'
	grep -x "#kpop $kpop" /etc/inetd.conf
	[ "$(grep -cx "$another" /etc/inetd.conf)" = 2 ]
}

@test "hostile files of xinetd and inetd end no check, and none of their bytes reach the terminal" {
	has_inetd
	xinetd_entry kpop $'server_args = -k /\e[31m\a\x80'
	mkfifo /etc/xinetd.d/fifo
	ln -s /dev/zero /etc/xinetd.d/zero
	ln -s loop /etc/xinetd.d/loop
	mkdir /etc/xinetd.d/directory
	head -c 200000 /dev/urandom >/etc/xinetd.d/random
	yes 'service x {' | head -c 60000 >/etc/xinetd.d/many
	head -c 50000 /dev/zero | tr '\0' a >/etc/xinetd.d/long
	echo 'includedir /etc/xinetd.d' >/etc/xinetd.d/circle
	head -c 50000 /dev/urandom >/etc/inetd.conf
	check
	says 'warn  service /etc/xinetd.d/kpop: kpopd is started with keytab /\\033\[31m\\007\\200,'
	[ "$(grep -ac '^warn  service' <<<"$checked")" = 1 ]
	# The remedy may be copied into a shell.
	says ".*Remedy: kpopd --check -k \\\$'/.033\\[31m"
	says 'FAIL  xinetd /etc/xinetd.d/fifo: .*not a regular file'
	refute grep -aP '[^\n -~]' <<<"$checked"
}

# postfix_has LINE: installs Postfix with this line in main.cf. Postfix and
# Exim exclude each other, so without Postfix a program prints what postconf of
# Postfix 3.7 prints.
postfix_has() {
	if [ -x /usr/sbin/postconf ]; then
		echo "$1" >/etc/postfix/main.cf
		return
	fi
	cat >/usr/local/sbin/postconf <<-END
	#!/bin/sh
	for name; do
		case "\$name" in
		"${1%% *}") echo "$1" ;;
		mailbox_delivery_lock) echo "\$name = fcntl, dotlock" ;;
		*) echo "\$name =" ;;
		esac
	done
	END
	chmod 755 /usr/local/sbin/postconf
}

@test "a Postfix that takes another lock than kpopd is named" {
	postfix_has 'mailbox_delivery_lock = flock'
	check
	says 'FAIL  locks postfix: it delivers with flock, and kpopd takes fcntl,dotlock: .*mail can be lost\. Remedy: let kpopd take the locks fcntl,flock,dotlock'
	check -l flock,fcntl,dotlock
	says 'ok    locks postfix'
	postfix_has 'mailbox_delivery_lock = flock, dotlock'
	check
	says 'warn  locks postfix: it delivers with flock,dotlock, and kpopd takes only fcntl,dotlock\. Remedy'
	postfix_has 'mailbox_command = /usr/bin/procmail'
	check
	says 'ok    locks postfix: it does not itself deliver to the spool, because mailbox_command = /usr/bin/procmail'
}

# exim_has LINE ...: configures Exim with a transport that appends to the spool
# and has these lines.
exim_has() {
	mkdir -p /etc/exim4
	{
		printf '%s\n' 'begin transports' 'spool_files:' \
		    '  driver = appendfile' \
		    '  file = /var/mail/$local_part_data' "$@" \
		    'maildirs:' '  driver = appendfile' \
		    '  directory = /home/$local_part_data/Maildir' \
		    '  maildir_format' '  no_use_lockfile' 'elsewhere:' \
		    '  driver = appendfile' '  file = /srv/$local_part_data' \
		    '  no_use_fcntl_lock' '  no_use_lockfile' \
		    '  use_flock_lock'
	} >/etc/exim4/exim4.conf
}

@test "the locks of Exim's transports to the spool are compared" {
	exim_has
	check
	says 'ok    locks exim: spool_files: it delivers with fcntl,dotlock'
	says_not '.*exim: (maildirs|elsewhere)'
	exim_has no_use_fcntl_lock no_use_lockfile use_flock_lock
	check
	says 'FAIL  locks exim: spool_files: it delivers with flock, and'
	exim_has no_use_lockfile use_flock_lock use_fcntl_lock
	check
	says 'warn  locks exim: spool_files: it delivers with fcntl,flock, and'
	# Without a directory for dotlocks only the fcntl lock counts.
	exim_has no_use_fcntl_lock
	chmod 755 /var/mail
	check
	says 'FAIL  locks exim: spool_files: it delivers with dotlock, and kpopd takes fcntl:'
	echo nonsense >/etc/exim4/exim4.conf
	check
	says 'warn  locks exim4: its locks are unknown: it ended with status 1'
}

@test "the locks of procmail, mutt and Dovecot are compared" {
	check
	says 'ok    locks procmail: it delivers with fcntl,dotlock'
	says 'ok    locks mutt: it reads and writes with fcntl,dotlock'
	says 'ok    locks dovecot: it reads with fcntl'
	says 'ok    locks dovecot: it writes with fcntl,dotlock'
	check -l flock
	says 'FAIL  locks procmail: .*and kpopd takes flock:'
	says 'FAIL  locks mutt: '
	check -l dotlock
	says 'FAIL  locks dovecot: it reads with fcntl, and kpopd takes dotlock'
	says 'warn  locks dovecot: it writes with fcntl,dotlock'
}

# dovecot_has LINE ...: adds these settings to Dovecot's configuration. They
# replace those of earlier calls.
dovecot_has() {
	cp -a "$WORLD/kept/dovecot.conf" /etc/dovecot/
	printf '%s\n' "$@" >>/etc/dovecot/dovecot.conf
}

@test "Dovecot's own locks are compared, unless its mail is elsewhere" {
	local setting='mail_location = maildir:~/Maildir'
	! dovecot_is_new || setting='mail_driver = maildir'
	dovecot_has "$setting"
	check -l flock
	says_not '.* locks dovecot: it (reads|writes)'
	dovecot_has 'mbox_write_locks = fcntl flock'
	check
	says 'warn  locks dovecot: it writes with fcntl,flock, and kpopd takes only fcntl,dotlock'
	dovecot_has 'mbox_read_locks = flock' 'mbox_write_locks = flock'
	check
	says 'FAIL  locks dovecot: it reads with flock, and kpopd takes fcntl,dotlock'
	says 'FAIL  locks dovecot: it writes with flock, and kpopd takes fcntl,dotlock'
}

@test "an order of Dovecot's locks is reported if procmail takes them in the other order" {
	dovecot_has 'mbox_write_locks = fcntl dotlock'
	check
	says "warn  locks dovecot: it takes the locks fcntl dotlock in this order, and procmail in the other: .*Remedy: set mbox_write_locks = dotlock fcntl in Dovecot's configuration"
	# Do what the remedy says.
	dovecot_has 'mbox_write_locks = dotlock fcntl'
	check
	says "ok    locks dovecot: it takes its locks in procmail's order: dotlock fcntl"
	says_not 'warn  locks dovecot'
	# One lock has no order.
	dovecot_has 'mbox_write_locks = fcntl'
	check
	says_not ".* locks dovecot: .*order"
}

# dovecot_inbox FORMAT PATH INBOX: sets where Dovecot has its mail. Uses the
# settings of this version of Dovecot.
dovecot_inbox() {
	if dovecot_is_new; then
		dovecot_has "mail_driver = $1" "mail_path = $2" \
		    "mail_inbox_path = $3"
	else
		dovecot_has "mail_location = $1:$2${3:+:INBOX=$3}"
	fi
}

@test "an INBOX of Dovecot's that is not the mailbox of -m is reported" {
	local format path inbox mailboxes user verdict
	while IFS='|' read -r format path inbox mailboxes user verdict; do
		dovecot_inbox "$format" "$path" "$inbox"
		check ${mailboxes:+-m "$mailboxes"} $user
		if [ "$verdict" = same ]; then
			says "ok    locks dovecot: its INBOX is kpopd's mailbox, "
			says_not '.* locks dovecot: its INBOX is [a-z]*:'
		else
			says "warn  locks dovecot: its INBOX is $format:.*, and kpopd serves ${mailboxes:-mbox:/var/mail/%u}: .*Remedy: let mail_[a-z_, ]+ of Dovecot and -m name the same mailbox"
			says_not ".* locks dovecot: its INBOX is kpopd's"
		fi
	done <<-'END'
	mbox|~/mail|/var/mail/%{user}|||same
	mbox|~/mail|/var/mail/%{user}||alice|same
	mbox|~/mail|/var/mail/alice||alice|same
	mbox|~/mail|/var/mail/alice||bob|other
	mbox|~/mail|/var/spool/mail/%{user}|||same
	mbox|~/mail|/var/mail/%{user}|mbox:/var/spool/mail/%u|alice|same
	mbox|~/mail|/srv/mail/%{user}|||other
	mbox|~/mail|/var/mail/%{user}.box|||other
	mbox|~/mail||mbox:~/mail/inbox||same
	mbox|~/mail||||other
	mbox|~/mail|~/mbox|mbox:%h/mbox|alice|same
	maildir|~/Maildir||||other
	maildir|~/Maildir||maildir:~/Maildir||same
	maildir|%{home}/Maildir/||maildir:~/Maildir|alice|same
	maildir|~/Maildir||maildir:~/Mail|alice|other
	mbox|~/mail|/var/mail/%{user}|maildir:~/Maildir||other
	mdbox|~/mdbox||||other
	maildir|/var/mail/%{user}||||other
	END
	# Dovecot may have a variable that is unknown here.
	dovecot_inbox mbox '~/mail' '/var/mail/%{unixtime}'
	check
	says_not '.* locks dovecot: its INBOX'
	# A Dovecot that serves neither IMAP nor POP3 shows no INBOX.
	dovecot_inbox maildir '~/Maildir' ''
	if dovecot_is_new; then
		echo 'protocols = lmtp' >>/etc/dovecot/dovecot.conf
	else
		echo 'protocols =' >>/etc/dovecot/dovecot.conf
	fi
	check
	says_not '.* locks dovecot: its INBOX'
}

# What doveconf 2.4.1 of Debian 13 prints for these settings, of which 2.3 does
# not have some: mail_location mail_driver mail_path mail_inbox_path
# mbox_read_locks mbox_write_locks mbox; and for protocols.
doveconf_new() {
	cat >"$WORLD/doveconf" <<-END
	#!/bin/sh
	if [ "\$*" = protocols ]; then
		printf 'protocols {\n  imap = yes\n}\n'
		exit
	fi
	cat <<'X'
	mail_driver = $1
	mail_path = $2
	mail_inbox_path = $3
	mbox_read_locks = 
	mbox_write_locks = 
	mbox {
	  mail_path = %{home}/mail
	  mailbox_subscriptions_filename = .subscriptions
	  read_locks = fcntl
	  write_locks = $4
	  layout_fs {
	    mail_inbox_path = inbox
	  }
	}
	X
	END
	chmod 755 "$WORLD" "$WORLD/doveconf"
}

@test "the settings of Dovecot 2.4 are read as doveconf prints them" {
	touch "$WORLD/doveconf"
	mount --bind "$WORLD/doveconf" "$(command -v doveconf)"
	doveconf_new mbox '%{home}/mail' '/var/mail/%{user}' 'dotlock fcntl'
	check
	says "ok    locks dovecot: its INBOX is kpopd's mailbox, /var/mail/%\\{user}"
	says 'ok    locks dovecot: it reads with fcntl, as kpopd does'
	says 'ok    locks dovecot: it writes with fcntl,dotlock, as kpopd does'
	says "ok    locks dovecot: it takes its locks in procmail's order: dotlock fcntl"
	doveconf_new mbox '%{home}/mail' '' 'fcntl dotlock'
	check
	says 'warn  locks dovecot: its INBOX is mbox:%\{home}/mail/inbox, and kpopd serves mbox:/var/mail/%u: .*Remedy: let mail_driver, mail_path and mail_inbox_path of Dovecot and -m name the same mailbox'
	says 'warn  locks dovecot: it takes the locks fcntl dotlock in this order'
	doveconf_new maildir '%{home}/Maildir' '' 'dotlock fcntl'
	check -m maildir:~/Maildir alice
	says "ok    locks dovecot: its INBOX is kpopd's mailbox, %\\{home}/Maildir"
	doveconf_new maildir '' '' 'dotlock fcntl'
	check -m maildir:~/Maildir alice
	says "ok    locks dovecot: its INBOX is kpopd's mailbox, %\\{home}/Maildir"
	doveconf_new '' '' '' flock
	check
	says_not '.* locks dovecot: its INBOX'
	says 'FAIL  locks dovecot: it writes with flock, and kpopd takes fcntl,dotlock'
}

@test "a mail program that hangs, floods or prints escape sequences is reported, and the check goes on" {
	[ ! -x /usr/sbin/postconf ] || skip "there is a real postconf"
	local begun=$SECONDS
	printf '#!/bin/sh\n%s\n' "trap '' TERM; yes & sleep 60" \
	    >/usr/local/sbin/postconf
	chmod 755 /usr/local/sbin/postconf
	check
	[ $((SECONDS - begun)) -lt 40 ]
	says 'warn  locks postconf: its locks are unknown: it does not end'
	says 'ok    locks procmail'
	# Bats has a sleep of its own.
	await 5 '! pgrep -fx "sleep 60|yes" >/dev/null'
	printf '#!/bin/sh\nprintf "mailbox_command = \\033[31m\\n"; env >%s\n' \
	    "$WORLD/environment" >/usr/local/sbin/postconf
	TZ=UTC KRB5_CONFIG=/etc/krb5.conf check
	says 'ok    locks postfix: .*mailbox_command = \\033\[31m'
	refute grep -v '^\(PATH\|LC_ALL\|HOME\|TERM\|PWD\|OLDPWD\|SHLVL\|_\)=' \
	    "$WORLD/environment"
}

@test "a spool directory in which no dotlock can be made is named, and the check makes no file there" {
	local before
	before=$(stat -c '%y %z' /var/mail)
	check
	says 'ok    spool /var/mail: dotlocks can be made, by the group mail'
	check alice
	says 'ok    spool /var/mail: dotlocks can be made, by the group mail'
	[ "$(stat -c '%y %z' /var/mail)" = "$before" ]
	chmod 755 /var/mail
	check
	says 'warn  spool /var/mail: no dotlock can be made: Permission denied\. Remedy: chown root:mail /var/mail && chmod 2775 /var/mail'
	check -l fcntl
	says_not '.*dotlock can'
	chmod 1777 /var/mail
	check
	says 'warn  spool /var/mail: every user may write it'
	mkdir /srv/spool
	mount -t tmpfs -o ro,mode=1777 kpopd /srv/spool
	check -m mbox:/srv/spool/%u
	says 'warn  spool /srv/spool: no dotlock can be made: Read-only file system'
	check -m mbox:/var/mail/none/%u
	says '(FAIL|warn)  spool /var/mail/none: '
	# A link of the user is followed as the user.
	check -m mbox:~/mbox alice
	says 'ok    spool /home/alice: dotlocks can be made$'
	mkdir -p /srv/private/there
	chmod 700 /srv/private
	ln -s /srv/private/there /home/alice/link
	check -m mbox:~/link/mbox alice
	rm /home/alice/link
	says 'FAIL  spool /home/alice/link: .*: Permission denied'
	check -m maildir:~/Maildir
	says 'ok    locks: mailboxes of this format have none'
	says_not '.*spool'
}

@test "a spool whose file system does not answer is named, and the check goes on" {
	mkdir -p /srv/spool
	fuse_over /srv/spool
	fuse_sleep
	check -m mbox:/srv/spool/%u
	says 'FAIL  spool /srv/spool/.*: the file system .* does not answer'
	says 'ok    locks procmail'
}

@test "a spool on NFS needs locks that reach the server" {
	[ -z "${SANITIZER-}" ] || skip "ASan's own system calls are in the way"
	local number options
	number=$(mountpoint -d /var/mail)
	# The kernel here has no NFS, so kpopd reads another list of mounts.
	for options in rw,vers=4.2 rw,nolock rw,local_lock=all; do
		echo "9 1 $number / /var/mail rw - nfs4 host:/mail $options" \
		    >/run/mountinfo
		checked=$(strace -f -qq -o /dev/null -P /proc/self/mountinfo \
		    -e trace=openat,open -e inject=openat:poke_enter=@arg2="$(
			printf '/run/mountinfo\0' | od -An -tx1 | tr -d ' \n'
		    )" "$KPOPD_BUILD/kpopd" --check </dev/null) || true
		case $options in
		*lock*) says 'warn  spool /var/mail: it is on NFS, and fcntl locks stay on this host' ;;
		*) says 'ok    spool /var/mail: it is on NFS, with locks of the server; only one host' ;;
		esac
	done
}
