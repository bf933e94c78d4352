#!/usr/bin/env bats
# Checks that kpopd --check names what is wrong with krb5.conf, the keytab, the
# host's names, the clock and the KDC's key. Most tests then run the remedy that
# it prints, and check that nothing is wrong afterwards.

load helpers/all
load helpers/preload

# These need no server.
setup_file() {
	cp /etc/krb5.conf "$WORLD/krb5.conf.kept"
	cp /etc/hosts "$WORLD/hosts.kept"
	cat /etc/resolv.conf >"$WORLD/resolv.conf.kept" || true
}

teardown_file() { :; }

setup() {
	begin_test
	mark=$(wc -l <"$WORLD/syslog")
	keytab=$WORLD/check/kpopd.keytab
	rm -rf "$WORLD/check" /etc/krb5.keytab
	mkdir -m 755 "$WORLD/check"
	admin "ktadd -norandkey -k $keytab pop/mail.kpopd.test"
}

teardown() {
	[ -z "${writer-}" ] || { kill "$writer"; wait "$writer" || true; }
	[ -z "${kdc-}" ] || kdc_restore
	kill -CONT "$(cat "$WORLD/krb5kdc.pid")"
	cat "$WORLD/resolv.conf.kept" >/etc/resolv.conf
	cat "$WORLD/krb5.conf.kept" >/etc/krb5.conf
	cat "$WORLD/hosts.kept" >/etc/hosts
	hostname mail.kpopd.test
	end_test
}

# check [KPOPD-OPTION ...]: runs kpopd --check with the keytab. Sets $output and
# $status. Fails if a raw byte is printed, or a line is logged.
check() {
	run env ${SANITIZER-} "$KPOPD_BUILD/kpopd" --check -d "$state" \
	    -k "$keytab" "$@" </dev/null
	refute grep -q '[^ -~]' <<<"$output"
	log_written
	refute grep -aE ' kpopd[-a-z]*(\[[0-9]+\])?:' \
	    <(tail -n "+$((mark + 1))" "$WORLD/syslog")
}

# has VERDICT PATTERN ...: checks that a line with this verdict matches the
# patterns (extended), in this order. With FAIL the exit status must be 1.
has() {
	local verdict=$1 pattern=$2
	shift 2
	[ $# -eq 0 ] || pattern+=$(printf '.*%s' "$@")
	grep -Eq "^$verdict +$pattern" <<<"$output" || {
		printf 'no %s %s in:\n%s\n' "$verdict" "$pattern" "$output" >&2
		return 1
	}
	[ "$verdict" != FAIL ] || [ "$status" -eq 1 ]
}

# is_fine: checks that nothing about Kerberos is wrong.
is_fine() {
	has ok 'ticket pop/mail\.kpopd\.test@' 'the keytab has its key'
	local kinds='krb5\.conf|realm|keytab|key|name|clock|ticket|log'
	refute grep -E "^(warn|FAIL) +($kinds)[ :]" <<<"$output"
}

# remedy PATTERN: runs the remedy of the first line that matches the pattern
# (extended), with kadmin.local for kadmin.
remedy() {
	local command
	command=$(grep -E -m 1 "$1" <<<"$output")
	command=${command##*. Remedy: }
	eval "${command//kadmin -q/kadmin.local -q}" \
	    >"$WORLD/kadmin.log" 2>&1 ||
	    { echo "$command"; cat "$WORLD/kadmin.log"; return 1; } >&2
}

# forge PRINCIPAL KVNO TYPE: replaces the keytab by one with this key, which the
# KDC does not have.
forge() {
	rm "$keytab"
	printf '%s\n' "addent -password -p $1 -k $2 -e $3" forged \
	    "wkt $keytab" | ktutil >/dev/null
}

# kdc_start [VARIABLE=VALUE ...]: starts the KDC again with these variables.
kdc_start() {
	local pid
	kdc=changed
	pid=$(cat "$WORLD/krb5kdc.pid")
	kill "$pid" 2>/dev/null || true
	await 5 "! kill -0 $pid 2>/dev/null"
	# Bats waits for the end of each process that has one of its pipes.
	env "$@" perl -MPOSIX -e 'POSIX::close($_) for 3 .. 255; exec @ARGV' \
	    krb5kdc -r KPOPD.TEST -n -P "$WORLD/krb5kdc.pid" \
	    >/dev/null 2>&1 &
	await 5 'ss -Hlun sport = 88 | grep -q .'
}

# kdc_restore: starts the KDC as tests/world has started it.
kdc_restore() {
	kdc_start KRB5_KDC_PROFILE="$WORLD/kdc.conf"
	unset kdc
}

# edit EXPRESSION: edits krb5.conf by sed.
edit() {
	sed -i "$1" /etc/krb5.conf
}

# permit_aes128: makes $WORLD/check/krb5.conf, which permits one type. The KDC
# would obey it in /etc/krb5.conf.
permit_aes128() {
	local types='permitted_enctypes = aes128-cts-hmac-sha256-128'
	sed "s/^\[libdefaults\]/&\n\t$types/" /etc/krb5.conf \
	    >"$WORLD/check/krb5.conf"
}

@test "kpopd --check finds nothing wrong with Kerberos where clients can log in" {
	check
	is_fine
	has ok 'krb5\.conf /etc/krb5\.conf: '
	has ok 'realm KPOPD\.TEST: '
	has ok "keytab $keytab: mode 0600"
	has ok 'key pop/mail\.kpopd\.test@KPOPD\.TEST: kvno [0-9]+: aes256-'
	has ok 'name mail\.kpopd\.test: '
	has ok 'clock: [0-9] s from '
}

@test "kpopd --check names a keytab that others can read, change or own" {
	chmod 644 "$keytab"
	check
	has FAIL "keytab $keytab: mode 0644: every user can read it"
	remedy 'mode 0644'
	[ "$(stat -c %a "$keytab")" = 600 ]
	chown alice "$keytab"
	check
	has FAIL "keytab $keytab: .*uid $(id -u alice) owns it"
	remedy 'owns it'
	check
	is_fine
	setfacl -m u:alice:r "$keytab" 2>/dev/null || return 0
	check
	has '(warn|FAIL)' "keytab $keytab: .*(access control list|group 0)"
}

@test "kpopd --check names each directory in which a user can replace the keytab, also through a symlink" {
	chmod 777 "$WORLD/check"
	check
	has FAIL "keytab $WORLD/check: .*mode 0777"
	remedy 'mode 0777'
	mkdir "$WORLD/check/alice"
	chown alice "$WORLD/check/alice"
	ln -s "$keytab" "$WORLD/check/alice/link"
	ln -s alice/link "$WORLD/check/link"
	check -k "$WORLD/check/link"
	has FAIL "keytab $WORLD/check/alice: uid $(id -u alice) owns"
	remedy "owns this directory"
	check -k "$WORLD/check/link"
	is_fine
	# A directory such as /tmp is sticky.
	chmod 1777 "$WORLD/check"
	check
	is_fine
}

@test "kpopd --check names a missing keytab, and a missing or endless path to it" {
	rm "$keytab"
	check
	has FAIL "keytab $keytab: No such file or directory"
	remedy "^FAIL +keytab"
	check
	is_fine
	check -k "$WORLD/nowhere/kpopd.keytab"
	has FAIL "keytab $WORLD/nowhere/kpopd\.keytab: No such" \
	    ": $WORLD/nowhere\."
	ln -s loop "$WORLD/check/loop"
	check -k "$WORLD/check/loop"
	has FAIL "keytab $WORLD/check/loop: Too many levels"
	check -k check/kpopd.keytab
	has warn 'keytab check/kpopd\.keytab: ' \
	    'directory in which it is started'
}

@test "kpopd --check names a keytab that is not a file, empty or damaged, and ends" {
	local begin=$SECONDS
	mkfifo "$WORLD/check/fifo"
	check -k "$WORLD/check/fifo"
	[ $((SECONDS - begin)) -lt 14 ]
	has FAIL "keytab $WORLD/check/fifo: not a regular file"
	check -k "$WORLD/check"
	has FAIL "keytab $WORLD/check: not a regular file"
	cp "$keytab" "$WORLD/check/whole"
	for how in ': >"$keytab"' 'head -c 40 "$WORLD/check/whole" >"$keytab"' \
	    'head -c 100000 /dev/urandom >"$keytab"'; do
		eval "$how"
		chmod 600 "$keytab"
		check
		has FAIL "keytab $keytab: .*(version|End of file|it has no key)"
		remedy "^FAIL +keytab $keytab: "
		check
		is_fine
	done
}

@test "kpopd --check names the option keytab where it has looked into libkrb5's keytab" {
	local hint="libkrb5's default; the option keytab \(-k\) names another"
	run env ${SANITIZER-} "$KPOPD_BUILD/kpopd" --check </dev/null
	has FAIL 'keytab /etc/krb5\.keytab: No such file or directory; this' \
	    "is $hint"
	admin "ktadd -norandkey -k /etc/krb5.keytab host/mail.kpopd.test"
	run env ${SANITIZER-} "$KPOPD_BUILD/kpopd" --check </dev/null
	has FAIL 'keytab /etc/krb5\.keytab: it has no key for pop/HOST or pop3/HOST; its principals: host/mail\.kpopd\.test@KPOPD\.TEST; this is' "$hint"
	check -k "$WORLD/check/none"
	has FAIL "keytab $WORLD/check/none: No such file or directory\. Rem"
}

@test "kpopd --check names the keytab of libkrb5 and of KRB5_KTNAME" {
	cp "$keytab" /etc/krb5.keytab
	rm "$keytab"
	run env ${SANITIZER-} "$KPOPD_BUILD/kpopd" --check </dev/null
	has ok 'keytab /etc/krb5\.keytab: .*libkrb5'
	is_fine
	mv /etc/krb5.keytab "$keytab"
	run env ${SANITIZER-} KRB5_KTNAME="FILE:$keytab" \
	    "$KPOPD_BUILD/kpopd" --check </dev/null
	has ok "keytab $keytab: .*KRB5_KTNAME"
	is_fine
}

@test "kpopd --check names a keytab that has keys of other services only" {
	admin "ktadd -norandkey -k $WORLD/check/host host/mail.kpopd.test"
	mv "$WORLD/check/host" "$keytab"
	check
	has FAIL "keytab $keytab: it has no key for pop/HOST " \
	    'host/mail\.kpopd\.test@'
	remedy "no key for pop/HOST"
	check
	is_fine
}

@test "kpopd --check names a principal with the short name of the host" {
	admin 'addprinc -randkey pop/mail'
	rm "$keytab"
	admin "ktadd -norandkey -k $keytab pop/mail"
	sed -i 's/ localhost$/ mail localhost/' /etc/hosts
	check
	has warn 'name mail: .*no key for mail\.kpopd\.test'
	has FAIL 'name mail\.kpopd\.test: no name of this host leads to a key'
	remedy '^FAIL +name'
	check
	has ok 'name mail: the keytab has a key for mail\.kpopd\.test'
	has ok 'ticket pop/mail\.kpopd\.test@'
	refute grep '^FAIL  name' <<<"$output"
	admin 'delprinc -force pop/mail'
}

@test "kpopd --check names POP/ in upper case, unless the KDC gives its key to clients that ask for pop/" {
	local name
	for name in POP/mail.kpopd.test pop/Mail.kpopd.test; do
		admin "addprinc -randkey $name"
		rm "$keytab"
		admin "ktadd -norandkey -k $keytab $name"
		check
		has ok "key $name@KPOPD\.TEST: kvno 1: "
		has FAIL 'ticket pop/mail\.kpopd\.test@KPOPD\.TEST: '
		has FAIL 'key pop/mail\.kpopd\.test@KPOPD\.TEST: ' \
		    'only with capital letters' 'does not ignore case'
		remedy 'only with capital letters'
		check
		is_fine
		admin "delprinc -force $name"
	done
	# The KDC of Active Directory has one key for both names.
	rm "$keytab"
	admin "ktadd -norandkey -k $WORLD/check/lower pop/mail.kpopd.test"
	perl -0777 -pe 's/\x00\x03pop\x00/\x00\x03POP\x00/g' \
	    "$WORLD/check/lower" >"$keytab"
	chmod 600 "$keytab"
	check
	has warn 'key pop/mail\.kpopd\.test@' \
	    'right only if the KDC ignores case'
	admin "ktadd -norandkey -k /etc/krb5.keytab host/mail.kpopd.test"
	check
	has ok 'key POP/mail\.kpopd\.test@'
	is_fine
}

@test "kpopd --check compares the kvno of the keytab with the KDC's" {
	local old new
	# A host has its own key in libkrb5's keytab.
	admin "ktadd -norandkey -k /etc/krb5.keytab host/mail.kpopd.test"
	old=$(klist -k "$keytab" | awk '/ pop\// { print $1; exit }')
	new=$((old + 1))
	admin 'cpw -randkey pop/mail.kpopd.test'
	# Another service has a key with the new kvno.
	cp "$keytab" "$WORLD/check/old"
	forge pop3/mail.kpopd.test "$new" aes256-cts
	printf '%s\n' "rkt $WORLD/check/old" "wkt $keytab" | ktutil >/dev/null
	check
	admin "ktrem -k $keytab pop3/mail.kpopd.test"
	has FAIL 'ticket pop/mail\.kpopd\.test@KPOPD\.TEST: ' \
	    "the KDC's key has kvno $new, the keytab's newest has $old"
	has FAIL 'ticket pop/.*Remedy: kadmin -q .ktadd '
	remedy '^FAIL +ticket pop/'
	check
	is_fine
}

@test "kpopd --check says that the KDC has another key if only the old key could get a ticket" {
	admin 'cpw -randkey pop/mail.kpopd.test'
	for how in - +; do
		admin "modprinc ${how}requires_preauth pop/mail.kpopd.test"
		check
		has FAIL 'ticket pop/mail\.kpopd\.test@' \
		    'the KDC has another key'
		has ok clock
	done
	has FAIL 'ticket pop/.*Remedy: kadmin -q .ktadd '
	remedy '^FAIL +ticket pop'
	check
	is_fine
	admin 'modprinc -requires_preauth pop/mail.kpopd.test'
}

@test "kpopd --check names another key under the KDC's kvno, and a type that the keytab lacks" {
	local kvno
	admin "ktadd -norandkey -k /etc/krb5.keytab host/mail.kpopd.test"
	kvno=$(klist -k "$keytab" | awk '/ pop\// { print $1; exit }')
	forge pop/mail.kpopd.test "$kvno" aes256-cts
	check
	has FAIL 'ticket pop/mail\.kpopd\.test@' "not the KDC's, " \
	    "same kvno, $kvno"
	rm "$keytab"
	admin "ktadd -norandkey -k $WORLD/check/all pop/mail.kpopd.test"
	printf '%s\n' "rkt $WORLD/check/all" 'delent 1' "wkt $keytab" |
	    ktutil >/dev/null
	check
	has FAIL 'ticket pop/mail\.kpopd\.test@' \
	    'type aes256-cts-hmac-sha1-96, which'
	has FAIL 'ticket pop/.*Remedy: kadmin -q .ktadd '
	remedy '^FAIL +ticket pop'
	check
	is_fine
}

@test "kpopd --check names principals that the KDC does not have, or does not let be a client" {
	admin 'addprinc -randkey pop3/gone.test'
	admin "ktadd -k $keytab pop3/gone.test"
	admin 'delprinc -force pop3/gone.test'
	check
	has warn 'ticket pop3/gone\.test@KPOPD\.TEST: the KDC issues none'
	has ok 'ticket pop/mail\.kpopd\.test@'
	admin "ktrem -k $keytab pop3/gone.test"
	admin 'modprinc -allow_tix pop/mail.kpopd.test'
	check
	admin 'modprinc +allow_tix pop/mail.kpopd.test'
	has warn 'ticket: .*kvno was not compared'
	has ok clock
}

@test "kpopd --check names a clock that is ten minutes from the KDC's, whichever is ahead" {
	local off way
	for off in 600 -600; do
		says $off 0 0
		kdc_start LD_PRELOAD="$preload" PRELOAD="$shared"
		check
		[ $off = 600 ] && way=ahead || way=behind
		has FAIL "clock: the KDC's clock is (60|59)[0-9] s $way"
		grep -Eq 'clock: .*Remedy: (chronyc|timedatectl) ' <<<"$output"
	done
	says 120 0 0
	check
	has warn "clock: the KDC's clock is 1[12][0-9] s ahead"
	# Without libkrb5's correction there is no ticket.
	says 600 0 0
	edit 's/^\[libdefaults\]/&\n\tkdc_timesync = 0/'
	for how in - +; do
		admin "modprinc ${how}requires_preauth pop/mail.kpopd.test"
		check
		has FAIL "clock: the KDC's clock is (60|59)[0-9] s ahead"
		has warn 'ticket: ' '[Cc]lock skew too great'
	done
	admin 'modprinc -requires_preauth pop/mail.kpopd.test'
}

@test "kpopd --check says that nothing was compared if no KDC answers" {
	edit 's/kdc = 127.0.0.1:88/kdc = 127.0.0.1:89/'
	check
	has warn "clock: not compared with the KDC's: Cannot contact any KDC"
	has warn "ticket: the KDC's kvno was not compared"
	refute grep '^FAIL  \(clock\|ticket\)' <<<"$output"
	edit '/kdc = 127.0.0.1:89/d'
	check
	has warn "clock: not compared with the KDC's: Cannot find KDC"
}

@test "kpopd --check ends if neither DNS nor the KDC answers" {
	local begin=$SECONDS dns answers
	echo 'nameserver 127.0.0.1' >/etc/resolv.conf
	socat -u UDP-RECV:53 /dev/null 3>&- &
	dns=$!
	await 5 'ss -Hlun sport = 53 | grep -q .'
	kill -STOP "$(cat "$WORLD/krb5kdc.pid")"
	# /etc/hosts has the name of this host, but not that of the other run.
	unshare --uts sh -c 'hostname nowhere.example.net; exec "$@"' - \
	    "$KPOPD_BUILD/kpopd" --check -k "$keytab" </dev/null \
	    >"$WORLD/check/answers" 3>&- &
	answers=$!
	check
	kill -CONT "$(cat "$WORLD/krb5kdc.pid")"
	wait "$answers" || true
	kill "$dns"
	has warn 'clock: the KDC did not answer within [0-9]+ s'
	output=$(<"$WORLD/check/answers")
	has warn 'name: .*not found within [0-9]+ s; DNS may not answer'
	[ $((SECONDS - begin)) -lt 60 ]
}

@test "kpopd --check names a krb5.conf that has no default_realm, or another realm than the keytab" {
	edit /default_realm/d
	check
	has FAIL 'krb5\.conf /etc/krb5\.conf: it has no default_realm'
	remedy 'no default_realm'
	check
	is_fine
	edit 's/default_realm = .*/default_realm = kpopd.test/'
	printf '[domain_realm]\n.kpopd.test = KPOPD.TEST\n' >>/etc/krb5.conf
	check
	has warn 'realm kpopd\.test: default_realm is not the realm of the ' \
	    'KPOPD\.TEST'
	remedy 'not the realm of the keytab'
	check
	is_fine
	grep -q '^\.kpopd\.test = KPOPD\.TEST$' /etc/krb5.conf
}

@test "kpopd --check names a krb5.conf that is missing, empty, damaged or writable by others" {
	: >/etc/krb5.conf
	check
	has FAIL 'krb5\.conf /etc/krb5\.conf: missing or empty'
	rm /etc/krb5.conf
	check
	has FAIL 'krb5\.conf /etc/krb5\.conf: missing or empty'
	(cat "$WORLD/krb5.conf.kept"; echo '}') >/etc/krb5.conf
	check
	has FAIL 'krb5\.conf /etc/krb5\.conf: libkrb5 cannot read it: .*brace'
	cat "$WORLD/krb5.conf.kept" >/etc/krb5.conf
	mkfifo "$WORLD/check/fifo"
	run env ${SANITIZER-} KRB5_CONFIG="$WORLD/check/fifo" timeout 20 \
	    "$KPOPD_BUILD/kpopd" --check </dev/null
	has FAIL "krb5\.conf $WORLD/check/fifo: not a regular file"
	chmod 666 /etc/krb5.conf
	check
	has FAIL 'krb5\.conf /etc/krb5\.conf: others than root can change it'
	remedy 'can change it'
	check
	is_fine
}

@test "kpopd --check checks the keytab, or fails because krb5.conf changes while it is read" {
	local n failed=0
	"$top/tests/programs/rewrite.pl" "by line" "$WORLD/krb5.conf.kept" \
	    /etc/krb5.conf "$WORLD/rest" 3>&- &
	writer=$!
	for n in $(seq 20); do
		check
		if grep -q '^FAIL *krb5\.conf' <<<"$output"; then
			[ "$status" -eq 1 ]
			failed=$((failed + 1))
		else
			grep -Eq '^[a-z]+ +key pop/' <<<"$output"
		fi
	done
	[ "$failed" -gt 0 ]
}

@test "kpopd --check names an alias of the host for which the keytab has no key" {
	echo '127.0.0.9 mail.kpopd.test pop.kpopd.test' >>/etc/hosts
	echo '192.0.2.9 other.kpopd.test far.kpopd.test' >>/etc/hosts
	check
	has warn 'name pop\.kpopd\.test: the keytab has no key for this ' \
	    'mail\.kpopd\.test'
	refute grep -E '(other|far)\.kpopd' <<<"$output"
	edit 's/^\[libdefaults\]/&\n\tdns_canonicalize_hostname = false/'
	check
	has warn 'name pop\.kpopd\.test: the keytab has no key for pop\.' \
	    'clients cannot'
	remedy 'clients cannot'
	check
	has ok 'name pop\.kpopd\.test: '
	is_fine
	admin 'delprinc -force pop/pop.kpopd.test'
}

@test "kpopd --check names a host name for which the keytab has no key, also that of an address" {
	ip addr add 192.0.2.5/32 dev lo
	printf '%s\n' '192.0.2.5 mx5.kpopd.test' '192.0.2.5 second.kpopd.test' \
	    '127.0.0.1 blocked.example.com' >>/etc/hosts
	check
	ip addr del 192.0.2.5/32 dev lo
	has warn 'name mx5\.kpopd\.test: ' 'no key for mx5\.kpopd\.test'
	has warn 'name second\.kpopd\.test: ' 'no key for second\.kpopd\.test'
	refute grep blocked <<<"$output"
	hostname elsewhere.test
	check
	has warn 'name elsewhere\.test: ' 'no key for elsewhere\.test'
	has ok 'name mail\.kpopd\.test: '
	refute grep '^FAIL  name' <<<"$output"
}

# only_key HOST: replaces the keytab by one that has only the key pop/HOST.
only_key() {
	admin "addprinc -randkey pop/$1"
	rm "$keytab"
	admin "ktadd -norandkey -k $keytab pop/$1"
}

@test "kpopd --check names a keytab that has keys for another host only" {
	local other
	echo '192.0.2.9 mail2.kpopd.test' >>/etc/hosts
	for other in mail2.kpopd.test imap; do
		only_key "$other"
		check
		has FAIL 'name mail\.kpopd\.test: the keytab has no key for a name of this host, but for' \
		    "$other: " 'clients of this host cannot log in'
		# With a balancer this may be right.
		check -s "pop/$other"
		has warn 'name mail\.kpopd\.test: the keytab has no key for a name of this host, but for' "$other: "
		refute grep '^FAIL  name' <<<"$output"
		check -x 192.0.2.1
		refute grep '^FAIL  name' <<<"$output"
		check
		remedy '^FAIL +name'
		check
		has ok 'name mail\.kpopd\.test: '
		refute grep '^FAIL  name' <<<"$output"
		admin "delprinc -force pop/$other"
	done
}

@test "kpopd --check finds the names of this host by their addresses, too" {
	echo '192.0.2.5 service.kpopd.test' >>/etc/hosts
	ip addr add 192.0.2.5/32 dev lo
	only_key service.kpopd.test
	check
	ip addr del 192.0.2.5/32 dev lo
	has ok 'name service\.kpopd\.test: '
	refute grep '^FAIL  name' <<<"$output"
	admin 'delprinc -force pop/service.kpopd.test'
}

@test "kpopd --check names a host name whose address leads back to localhost, and never makes a key for that" {
	local hosts
	edit '/rdns/d'
	for hosts in $'127.0.0.1 localhost\n127.0.0.1 mail.kpopd.test' \
	    $'127.0.0.1\tlocalhost mail.kpopd.test mail mail-2' \
	    $'127.0.0.1 localhost mail.kpopd.test\n::1 localhost mail'; do
		for name in mail.kpopd.test mail; do
			[[ $hosts == *" $name"* ]] || continue
			hostname "$name"
			echo "$hosts" >/etc/hosts
			check
			has warn 'name mail\.kpopd\.test: its address leads back to localhost, by /etc/hosts or the DNS: ' \
			    'ask for pop/localhost'
			refute grep '^FAIL  name' <<<"$output"
			refute grep 'Remedy: .*pop/localhost' <<<"$output"
			remedy 'name mail\.kpopd\.test: '
			check
			has ok 'name mail\.kpopd\.test: '
			refute grep 'leads back' <<<"$output"
			grep -q '^127\.0\.0\.1[[:space:]]*localhost' /etc/hosts
			[[ $hosts != *mail-2* ]] ||
			    grep -q '^127\.0\.0\.1.* mail-2$' /etc/hosts
		done
	done
	# Without any key, the key is for the host's own name.
	hostname mail.kpopd.test
	echo '127.0.0.1 localhost mail.kpopd.test' >/etc/hosts
	rm "$keytab"
	check
	has FAIL "keytab $keytab: " 'ktadd .* pop/mail\.kpopd\.test'
	hostname localhost
	check
	has FAIL "keytab $keytab: " 'Remedy: hostnamectl set-hostname '
}

@test "kpopd --check names keys whose types are weak or not permitted" {
	forge pop/mail.kpopd.test 2 rc4-hmac
	edit 's/^\[libdefaults\]/&\n\tallow_weak_crypto = true\n\tallow_rc4 = true/'
	check
	has warn 'key pop/mail\.kpopd\.test@KPOPD\.TEST: kvno 2: ' \
	    'its types are weak: arcfour-hmac'
	permit_aes128
	KRB5_CONFIG=$WORLD/check/krb5.conf check
	has FAIL 'key pop/mail\.kpopd\.test@KPOPD\.TEST: kvno 2: krb5\.conf ' \
	    'permit none ' arcfour-hmac
}

@test "kpopd --check names a ticket whose type krb5.conf does not permit" {
	permit_aes128
	KRB5_CONFIG=$WORLD/check/krb5.conf check
	has ok 'key pop/mail\.kpopd\.test@'
	has FAIL 'ticket pop/mail\.kpopd\.test@' \
	    'type aes256-cts-hmac-sha1-96, which krb5\.conf .* not permit'
}

@test "kpopd --check reports the types of the newest keys only" {
	local kvno
	edit 's/^\[libdefaults\]/&\n\tallow_weak_crypto = true\n\tallow_rc4 = true/'
	forge pop/mail.kpopd.test 1 rc4-hmac
	admin "ktadd -norandkey -k $keytab pop/mail.kpopd.test"
	check
	is_fine
	refute grep arcfour <<<"$output"
	cp "$keytab" "$WORLD/check/both"
	forge pop/mail.kpopd.test 250 rc4-hmac
	printf '%s\n' "rkt $WORLD/check/both" "wkt $keytab" | ktutil >/dev/null
	check
	has warn 'key pop/mail\.kpopd\.test@KPOPD\.TEST: kvno 250: ' \
	    'types are weak: arcfour-hmac'
}

# From a krb5.conf that kpopd does not read, but libkrb5 does.
@test "kpopd --check prints what it would log, and logs nothing" {
	local i
	for i in {1..9}; do echo "$i = {"; done >"$WORLD/check/deep"
	echo 'a = b' >>"$WORLD/check/deep"
	for i in {1..9}; do echo '}'; done >>"$WORLD/check/deep"
	(echo '[deep]'; cat "$WORLD/check/deep") >>/etc/krb5.conf
	check
	has warn 'log: failed what="reading krb5\.conf" error='
}

@test "the first process of kpopd --check reads no key" {
	local first
	strace -f -qq -e trace=openat -o "$WORLD/check/trace" \
	    env ${SANITIZER-} "$KPOPD_BUILD/kpopd" --check -k "$keytab" \
	    </dev/null >/dev/null || true
	read -r first _ <"$WORLD/check/trace"
	grep -qF "\"$keytab\"" "$WORLD/check/trace"
	refute grep -E "^$first .*\"$keytab\"" "$WORLD/check/trace"
}

@test "kpopd --check respects the principal of -s and the realms of -r" {
	admin "ktadd -norandkey -k $keytab pop3/mail.kpopd.test"
	check -s pop/mail.kpopd.test -r KPOPD.TEST,OTHER.TEST
	is_fine
	refute grep -q 'pop3/' <<<"$output"
	check -s POP/mail.kpopd.test
	has FAIL "keytab $keytab: it has no key for POP/mail\.kpopd\.test; " \
	    'its principals: ' 'pop3?/mail\.kpopd\.test@'
	check -s host/mail.kpopd.test
	has FAIL 'key host/mail\.kpopd\.test: .*not pop/HOST or pop3/HOST'
	check -s pop/mail@KPOPD.TEST@KPOPD.TEST
	has FAIL 'key pop/mail@KPOPD\.TEST@KPOPD\.TEST: [Mm]alformed'
	check -r NOWHERE.TEST
	has warn 'realm KPOPD\.TEST: .*\(-r\) refuses .*: NOWHERE\.TEST'
}

@test "kpopd --check prints names with control characters encoded, as text and as JSON" {
	local odd=$WORLD/check/$'a\e[31m\nok  b'
	check -k "$odd"
	has FAIL "keytab $WORLD/check/a" 'ok  b: No such file'
	forge $'host/\e[31m\xc3\xa4' 2 aes256-cts
	check
	has FAIL "keytab $keytab: it has no key for pop/HOST " 'host/' \
	    '@KPOPD\.TEST'
	run env ${SANITIZER-} "$KPOPD_BUILD/kpopd" --check --json -k "$odd" \
	    </dev/null
	perl -MJSON::PP -e '
		while (<STDIN>) {
			my $o = decode_json($_);
			$found ||= $o->{kind} eq "keytab" &&
			    $o->{verdict} eq "FAIL" && $o->{name} eq $ARGV[0];
		}
		exit !$found' "$odd" <<<"$output"
}

@test "kpopd --check finds nothing wrong with a keytab of two realms, whether one trusts the other or not" {
	local other=$WORLD/check/other.keytab
	local name=pop/mail.kpopd.test@OTHER.TEST
	realm_other_start
	admin "addprinc -randkey $name" -r OTHER.TEST
	admin "ktadd -k $other $name" -r OTHER.TEST
	printf '%s\n' "rkt $keytab" "wkt $other" | ktutil >/dev/null
	mv "$other" "$keytab"
	check
	is_fine
	has ok "ticket ${name//./\\.}: the keytab has its key"
	admin "modprinc -allow_tix krbtgt/KPOPD.TEST@OTHER.TEST" -r OTHER.TEST
	check
	is_fine
	has ok "ticket ${name//./\\.}: the keytab has its key"
	# No key is that of a client in the other realm.
	admin "modprinc -allow_tix pop/mail.kpopd.test"
	check
	has warn 'ticket pop/mail\.kpopd\.test@KPOPD\.TEST: no key ' \
	    'as a client in its realm, so its kvno was not compared: ' \
	    'database$'
	admin "modprinc +allow_tix pop/mail.kpopd.test"
	admin "modprinc +allow_tix krbtgt/KPOPD.TEST@OTHER.TEST" -r OTHER.TEST
	admin "delprinc -force $name" -r OTHER.TEST
}

@test "no remedy of kpopd --check has a principal, realm or path that a shell would not take as it is" {
	local bad="'\$(id)'" line
	forge "pop/mail.kpopd.test$bad@OTHER$bad" 1 rc4-hmac
	for line in '' /default_realm/d; do
		edit "$line"
		check
		has warn 'key pop/.*its types are weak'
		refute grep -F "$bad" <(grep -o 'Remedy: .*' <<<"$output")
	done
	cat "$WORLD/krb5.conf.kept" >/etc/krb5.conf
	keytab="$WORLD/check/a'b"
	admin "ktadd -norandkey -k $WORLD/check/ab pop/mail.kpopd.test"
	mv "$WORLD/check/ab" "$keytab"
	hostname other.kpopd.test
	check
	has warn 'name other' 'add a key for the principal by kadmin$'
	refute grep -F "a'b" <(grep -o 'Remedy: kadmin.*' <<<"$output")
}
