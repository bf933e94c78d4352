#!/usr/bin/env bats
# Checks that kpopd --check names each mistake in the file of options, the
# accounts, the state directory and the certificate. Its remedies are run, and
# kpopd itself must serve or refuse as --check reports.

load helpers/all

setup_file() {
	tls_make
	start_bare
}

setup() {
	begin_test
	realm_login alice
	mbox one | store alice
	held=$WORLD/held
	mkdir "$held"
	conf
}

teardown() {
	! mountpoint -q "$WORLD/small" ||
	    { kpopd_ends 5; umount "$WORLD/small"; }
	rm -rf "$WORLD/small" "$state" /etc/kpopd.access*
	for user in kpopd kpopd-tls; do
		id "$user" >/dev/null 2>&1 || add_account "$user"
	done
	end_test
}

# start_bare [KPOPD-OPTION ...]: starts xinetd, which starts kpopd with these
# options only. The others are in /etc/kpopd.conf, which --check reads, too.
start_bare() {
	server_configure
	sed -i "s|^\([[:space:]]*server_args[[:space:]]*=\).*|\1 $*|" \
	    "$WORLD/xinetd.conf"
	[ $# -gt 0 ] || sed -i /server_args/d "$WORLD/xinetd.conf"
	xinetd_run
}

# conf [LINE ...]: writes /etc/kpopd.conf: the state directory and the keytab,
# which are lines 1 and 2, and these lines.
conf() {
	printf '%s\n' "state ${state_now-$state}" \
	    "keytab $WORLD/server.keytab" "$@" >"$WORLD/conf.new"
	mv "$WORLD/conf.new" /etc/kpopd.conf
}

# add_account NAME [USERADD-OPTION ...]: makes an account of kpopd's processes.
add_account() {
	useradd --system --home-dir /nonexistent --shell /usr/sbin/nologin \
	    "${@:2}" "$1"
}

# check [ARGUMENT ...]: runs kpopd --check. Sets $output and $status.
check() {
	run env ${SANITIZER-} "$KPOPD_BUILD/kpopd" --check "$@" </dev/null
	case $status in
	0) lacks FAIL ;;
	1) grep -q '^FAIL  ' <<<"$output" ;;
	*) echo "status $status: $output"; return 1 ;;
	esac
}

# names PATTERN: returns true if a line of the last check matches the pattern
# (extended). Sets $remedy to the command in it.
names() {
	local line
	line=$(grep -E -m 1 -- "^$1" <<<"$output") ||
	    { printf 'no line is %s:\n%s\n' "$1" "$output" >&2; return 1; }
	remedy=${line#*. Remedy: }
}

# lacks PATTERN: returns true if no line of the last check matches the pattern.
lacks() {
	! grep -E -- "^$1" <<<"$output" >&2
}

# mended PATTERN: checks, runs the remedy of the line that matches the pattern,
# and checks that another check has no such line.
mended() {
	check
	names "$1"
	bash -c "$remedy" >/dev/null
	check
	lacks "$1"
}

# session: has a session of alice.
session() {
	pop alice QUIT 2>/dev/null || :
}

# serves: returns true if alice can log in. A new replay cache refuses the
# tickets of its first second.
serves() {
	await 10 '[[ $(session) == *"+OK 1 messages"* ]]'
}

# refuses PATTERN: returns true if alice cannot log in, and kpopd logs a line
# that matches the pattern (extended).
refuses() {
	log_mark
	run session
	[[ $output != *"+OK 1 messages"* ]]
	log_has "$1"
}

# refuses_as_named KIND: checks, and returns true if kpopd refuses to start, and
# its log has the text of the line of this kind.
refuses_as_named() {
	local text
	check
	names "FAIL  $1"
	text=$(grep -E -m 1 "^FAIL  $1" <<<"$output" |
	    sed -E 's/^FAIL  [a-z]+ [^ ]+: (.*)\. Remedy: .*/\1/')
	log_mark
	session
	log_settle
	log_lines | grep -F " fatal " | grep -F "error=\"$text\"" ||
	    { echo "not logged: $text" >&2; log_lines >&2; return 1; }
}

@test "the file of options in force is named, whether it exists or not" {
	check
	names 'ok    options /etc/kpopd.conf: has no mistake'
	cp /etc/kpopd.conf "$held/other.conf"
	rm /etc/kpopd.conf
	check -f "$held/other.conf"
	names "ok    options $held/other.conf: has no mistake"
	check -d "$state"
	names 'ok    options /etc/kpopd.conf: does not exist; the command line and the defaults are in force'
}

@test "the lines of --check come in the order in which a login needs their things" {
	local order
	conf "tls-certificate $WORLD/tls/server.pem" \
	    "tls-key $WORLD/tls/server.key"
	check alice
	order=$(awk '{ sub(/:$/, "", $2); print $2 }' <<<"$output" | uniq)
	diff <(echo $order) - <<-END
	options account access sandbox state krb5.conf realm keytab key name clock ticket tls-key tls-ciphers tls-certificate port account principal spool locks mailbox
	END
}

@test "a wrong option is named with file and line, in the words with which kpopd refuses to serve" {
	for line in "timeouts soon" "nonsense" "tls require" "keytab /x" "tls" \
	    $'\x1b[31m red'; do
		conf "# a comment" "$line"
		refuses_as_named 'options /etc/kpopd.conf: /etc/kpopd.conf:4: '
		[[ $remedy == "vi +4 /etc/kpopd.conf" ]]
	done
	printf 'keytab \0\n' >/etc/kpopd.conf
	check
	names 'FAIL  options /etc/kpopd.conf: /etc/kpopd.conf:1: a control char'
	[[ $remedy == "vi +1 /etc/kpopd.conf" ]]
	head -c 70000 /dev/zero | tr '\0' '\n' >/etc/kpopd.conf
	check
	names 'FAIL  options /etc/kpopd.conf: /etc/kpopd.conf: it has more than'
	[[ $remedy == "vi /etc/kpopd.conf" ]]
	conf "tls-ciphers AES"
	refuses_as_named 'options /etc/kpopd.conf: /etc/kpopd.conf:3: '
	[[ $remedy == "vi +3 /etc/kpopd.conf" ]]
	conf
	check -t soon
	names 'FAIL  options: -t takes seconds, as 30:600, not soon\. Remedy: kpopd --help'
	check --nonsense
	names 'FAIL  options: unknown option'
	check -f "$held/missing.conf"
	names "FAIL  options $held/missing.conf: $held/missing.conf: No such file or directory\. Remedy: ls -l $held/missing.conf"
}

@test "a file of options that others may write, or that is empty or another user's, is mended by the remedy" {
	local how
	for how in 'chmod 666 F' 'chmod 664 F' 'chown alice F' ': >F' \
	    'mv F F.new; ln -s F.new F; chown -h alice F' 'rm F; mkdir F'; do
		conf
		eval "${how//F//etc/kpopd.conf}"
		refuses_as_named 'options /etc/kpopd.conf: /etc/kpopd.conf: '
		mended 'FAIL  options'
		rm -rf /etc/kpopd.conf*
	done
	conf
	serves
}

# access [LINE ...]: writes the access file.
access() {
	printf '%s\n' "$@" >/etc/kpopd.access
	touch -d '1 minute ago' /etc/kpopd.access
}

# keeps_all_out PATTERN: checks that a line about the access file matches the
# pattern, that no client gets in, and that the line's remedy mends that.
keeps_all_out() {
	check
	names "FAIL  access /etc/kpopd.access: no client may log in: $1"
	refuses 'refused .*reason="the access file cannot be used"'
	case $remedy in
	vi*) [[ $remedy = "vi +2 /etc/kpopd.access" ]]
	    access 'alice@KPOPD.TEST alice full' ;;
	*) bash -c "$remedy" ;;
	esac
	check
	lacks 'FAIL  access'
	serves
}

@test "a mistake in the access file is named with its line, keeps every client out, and is mended by the remedy" {
	check
	names 'ok    access /etc/kpopd.access: does not exist; the rules of Kerberos are in force'
	access 'alice@KPOPD.TEST alice full' '*/*@* * deny'
	check
	names 'ok    access /etc/kpopd.access: has no mistake; 2 lines'
	access 'alice@KPOPD.TEST alice full' 'bob@KPOPD.TEST alice nothing'
	keeps_all_out 'line 2: the right is not read, full or deny'
	chmod 666 /etc/kpopd.access
	keeps_all_out 'others than root may write it'
	chown alice /etc/kpopd.access
	keeps_all_out 'it does not belong to root'
	: >/etc/kpopd.access
	keeps_all_out 'it is empty'
	rm /etc/kpopd.access
	mkdir /etc/kpopd.access
	keeps_all_out 'it is not a regular file'
}

@test "a line of the access file whose user is not an account is named" {
	access 'alice@KPOPD.TEST alice full' 'bob@KPOPD.TEST bobby read' \
	    '*@* * deny' 'bob@KPOPD.TEST Alice full'
	check
	names 'warn  access /etc/kpopd.access: line 2 has no effect; its user is not an account: unknown user'
	names 'warn  access /etc/kpopd.access: line 4 has no effect; its user is not an account: '
	[ "$(grep -c '^warn  access' <<<"$output")" -eq 2 ]
}

@test "a sandbox that the kernel or a container forbids is named, as kpopd logs it, and counts as a warning with -S optional" {
	[ -z "${SANITIZER-}" ] || skip "this build has no sandbox"
	check
	names 'ok    sandbox: seccomp and Landlock are offered here'
	poor=$KPOPD_BUILD/tests/programs/poor
	while read -r error calls; do
		echo "$error $calls"
		run "$poor" -e "$error" $calls -- "$KPOPD_BUILD/kpopd" --check
		names 'FAIL  sandbox: the sandbox cannot be made: no (seccomp|Landlock) \(.*\. Remedy: Permit the system calls .*, or use a kernel that has (it|both)\. Or serve without: write sandbox optional into kpopd\.conf'
		run "$poor" -e "$error" $calls -- "$KPOPD_BUILD/kpopd" --check \
		    -S optional
		names 'warn  sandbox: .*; kpopd serves without \(-S optional\)\. Remedy: Permit the system calls'
	done <<-END
	EPERM landlock_create_ruleset
	ENOSYS seccomp
	EPERM seccomp landlock_create_ruleset
	END
	# A journal needs no usage.
	run "$poor" -e EPERM seccomp -- "$KPOPD_BUILD/kpopd" --recover \
	    -d "$state" </dev/null
	[[ $status -eq 2 && $output == "kpopd: the sandbox cannot be made: "* ]]
	[[ $output != *usage:* ]]
}

@test "kpopd prints the usage only after a mistake of the command line" {
	local command
	for command in "--recover -d $state" ""; do
		run setpriv --reuid alice --clear-groups "$KPOPD_BUILD/kpopd" \
		    $command </dev/null
		[[ $status -eq 2 && ${#lines[@]} -eq 1 ]] ||
		    { echo "$output"; return 1; }
	done
	run "$KPOPD_BUILD/kpopd" -q </dev/null
	[[ $status -eq 2 && $output == *"usage: kpopd"* ]]
}

@test "a missing user of kpopd is named, and the remedy makes it" {
	userdel kpopd
	refuses \
	    'fatal .*the pre-auth user cannot be used: unknown user: kpopd"$'
	mended 'FAIL  account kpopd: the pre-auth process cannot become this user: unknown user\. Remedy: useradd --system '
	names 'ok    account kpopd: uid [0-9]+, gid [0-9]+, for the pre-auth'
	serves
	conf "user root"
	refuses 'fatal .*the pre-auth user cannot be used: uid 0: root"$'
	check
	names 'FAIL  account root: .* uid 0\. Remedy: give -u kpopd'
	conf 'user $(touch /etc/ran)'
	check
	names 'FAIL  account \$\(touch /etc/ran\): .*\. Remedy: give -u kpopd'
}

@test "a missing user of kpopd-tls is named, and the remedy makes it" {
	conf "tls-certificate $WORLD/tls/server.pem" \
	    "tls-key $WORLD/tls/server.key"
	userdel kpopd-tls
	log_mark
	run tls_session
	[[ $output != *"+OK bye"* ]]
	log_has 'fatal .*the user kpopd-tls of kpopd-tls cannot be used: unknown user"$'
	mended 'FAIL  account kpopd-tls: the process that does TLS cannot become this user: unknown user\. Remedy: useradd --system '
	run tls_session
	[[ $output == *"+OK bye"* ]] || { echo "$output"; return 1; }
	# Without TLS the user is not needed.
	userdel kpopd-tls
	conf
	check
	lacks 'FAIL  account'
}

# tls_session: has a session of alice inside TLS, and prints it.
tls_session() {
	printf '%s\r\n' "USER alice" "PASS x" QUIT |
	    kpopc --tls -C "$WORLD/tls/ca.pem" mail.kpopd.test 2>&1
}

# gssapi_session: has a session of alice by AUTH GSSAPI, and prints it.
gssapi_session() {
	printf '%s\r\n' "USER alice" "PASS x" QUIT |
	    kpopc -p mail.kpopd.test 1109 2>&1
}

@test "users of kpopd that were made again with another uid are no obstacle to a login, and are not warned about" {
	conf "tls-certificate $WORLD/tls/server.pem" \
	    "tls-key $WORLD/tls/server.key"
	server_stop
	start_bare -p
	await 10 '[[ $(gssapi_session) == *"+OK 1 messages"* ]]'
	for user in kpopd kpopd-tls; do
		userdel "$user"
		add_account "$user" --uid "$((${#user} + 900))"
	done
	check
	names 'ok    account kpopd-tls: uid 909,'
	lacks '(warn|FAIL)  (account|state) .*(kpopd|krb5.conf):'
	run gssapi_session
	[[ $output == *"+OK 1 messages"* ]] || { echo "$output"; return 1; }
}

@test "after the remedy for a newer key of the KDC old tickets are valid, and other users need a new one" {
	local old=$KRB5CCNAME
	serves
	admin 'cpw -randkey pop/mail.kpopd.test'
	# A ticket with the KDC's key, which the keytab never has.
	export KRB5CCNAME=FILE:$held/new
	realm_login alice
	refuses 'refused '
	check
	names "FAIL  ticket pop/mail.kpopd.test@KPOPD.TEST: .*\. Remedy: kadmin -q 'ktadd -k $WORLD/server.keytab pop/mail.kpopd.test@KPOPD.TEST' # then users who cannot log in need a new ticket: kinit$"
	bash -c "${remedy//kadmin -q/kadmin.local -q}"
	check
	names "ok    ticket pop/mail.kpopd.test@KPOPD.TEST: "
	refuses 'refused '
	realm_login alice
	serves
	export KRB5CCNAME=$old
	serves
}

@test "a user of kpopd that shares its uid with a user, a person or nobody is named" {
	local uid
	uid=$(id -u alice)
	userdel kpopd
	add_account kpopd --non-unique --uid "$uid"
	check
	names "warn  account kpopd: has the same uid $uid as alice, whose processes can disturb the pre-auth process\. Remedy: usermod --uid [0-9]+ kpopd"
	serves
	mended 'warn  account kpopd'
	names 'ok    account kpopd: uid [1-9][0-9][0-9],'
	serves
	conf "user alice"
	check
	names 'warn  account alice: has uid [0-9]+; from 1000 on uids are those of people\. Remedy: give -u kpopd'
	conf "user nobody"
	check
	names 'warn  account nobody: has uid 65534, which other programs use'
	conf "user kpopd-tls" "tls-certificate $WORLD/tls/server.pem" \
	    "tls-key $WORLD/tls/server.key"
	check
	names 'warn  account kpopd-tls: is the user of -u and of -U; .*\. Remedy: give -u kpopd$'
	conf "tls-user kpopd" "tls-certificate $WORLD/tls/server.pem" \
	    "tls-key $WORLD/tls/server.key"
	check
	names 'warn  account kpopd: is the user of -u and of -U; .*\. Remedy: give -U kpopd-tls$'
}

@test "a state directory that is not root's alone, or is no directory, is named, and the remedy mends it" {
	local how
	for how in 'chmod 777 S' 'chmod 775 S' 'chown alice S' \
	    'rm -rf S; touch S'; do
		rm -rf "$state"*
		serves
		eval "${how//S/$state}"
		refuses ' fatal '
		mended "FAIL  state $state:"
		serves
	done
	rm -rf "$state"*
	mkdir "$held/state"
	ln -s "$held/state" "$state"
	refuses ' fatal .*cannot open directory'
	check
	names "FAIL  state $state: is a symbolic link, which kpopd does not follow\. Remedy: give -d what readlink -f $state prints"
}

@test "a missing state directory is named: whether kpopd can make it, and the remedy" {
	check
	names "warn  state $state: is not there; the first connection makes it\..* Remedy: install -d -m 0755 $state"
	[ ! -e "$state" ]
	serves
	check
	lacks "(warn|FAIL)  state $state: is not there"
	state_now=$held/not/there
	conf
	refuses ' fatal .*cannot write in directory|making directory'
	mended "FAIL  state $state_now: kpopd cannot make it: .*No such file or directory\. Remedy: install -d"
	serves
	check -d relative
	names 'warn  state relative: depends on the directory in which kpopd starts'
}

@test "directories above the state that others may write are named, and the remedy mends them" {
	mkdir -p "$held/a/b/state" "$held/c"
	ln -s "$held/a/b" "$held/c/link"
	state_now=$held/c/link/state
	conf
	chmod 777 "$held/a"
	chown alice "$held/c"
	check
	names "FAIL  state $held/c: uid $(id -u alice) owns this directory, and can replace what is in it"
	mended "FAIL  state $held/a: others than root can replace what is in this directory \(mode 0777\)\. Remedy: chmod go-w $held/a"
	mended "FAIL  state $held/c"
	chmod 1777 "$held/a"
	check
	lacks 'FAIL  state'
	serves
}

@test "a full file system of the state is named, and a removal there fails" {
	mkdir "$WORLD/small"
	mount -t tmpfs -o size=1m,mode=755 small "$WORLD/small"
	state_now=$WORLD/small
	conf
	refuses 'opening the replay cache .*No space left on device'
	check
	names "FAIL  state $state_now: the replay cache needs [0-9]+ KiB more, but [0-9]+ KiB are free: every login is refused\. Remedy: du "
	bash -c "$remedy" | grep "$WORLD/small"
	mount -o remount,size=20m "$WORLD/small"
	check
	names "warn  state $state_now: only [0-9]+ MiB are free"
	serves
	kpopd_ends 5
	cat /dev/zero >"$WORLD/small/fill" 2>/dev/null || :
	check
	names "FAIL  state $state_now: its file system is full: users cannot remove messages\. Remedy: du "
	{ mbox one two; from_line; make_message three 9999; echo; } |
	    store alice
	run pop alice "DELE 2" QUIT
	[[ $output == *"-ERR "* && $output != *"+OK bye"* ]] ||
	    { echo "$output"; return 1; }
	mbox one | store alice
	mount -o remount,size=200m "$WORLD/small"
	check
	names "ok    state $state_now: [0-9]+ MiB are free, with room for the replay cache"
	serves
}

@test "a file system of the state without inodes is named, and a login there fails" {
	mkdir "$WORLD/small"
	mount -t tmpfs -o size=100m,nr_inodes=12,mode=755 small "$WORLD/small"
	state_now=$WORLD/small
	conf
	touch "$WORLD/small/"{1..7}
	refuses 'No space left on device'
	check
	names "FAIL  state $state_now: its file system has no inodes left: .*\. Remedy: du .*--inodes"
	bash -c "$remedy" | grep "$WORLD/small"
	mount -o remount,nr_inodes=500 "$WORLD/small"
	serves
	check
	names "warn  state $state_now: only [0-9]+ inodes are free"
}

@test "a read-only file system of the state is named, and the remedy makes it writable" {
	mkdir "$WORLD/small"
	mount -t tmpfs -o mode=755 small "$WORLD/small"
	state_now=$WORLD/small
	conf
	serves
	kpopd_ends 5
	mount -o remount,ro "$WORLD/small"
	refuses ' fatal .*cannot write in directory'
	mended "FAIL  state $state_now: its file system is read-only"
	serves
}

@test "entries of the state with a wrong owner, mode or type are named, and the remedy mends them" {
	local how uid
	uid=$(id -u alice)
	for how in 'chmod 777 preauth' 'chown bob preauth' \
	    'rmdir preauth; touch preauth' 'chmod 775 users' \
	    'chown bob users' 'chown bob logins' 'chmod 777 logins' \
	    'chmod 644 replay' 'chown bob replay' 'ln replay other' \
	    'mv replay other; ln -s other replay' \
	    "chown bob users/$uid" "mv users/$uid users/x; touch users/$uid"
	do
		rm -rf "$state"
		serves
		(cd "$state" && eval "$how")
		refuses ' (fatal|failed) '
		mended "FAIL  state $state/[a-z]+(/$uid)?: "
		names "ok    state $state: what is in it has the right owners and modes" || return
		serves
	done
}

@test "each directory of the state that a process has as its root is named if others may write it, and the remedy mends it" {
	local jail how
	for jail in preauth relay tls refusal; do
		for how in 'chmod 777' 'chmod 731' 'chown alice'; do
			rm -rf "$state"
			serves
			install -d -m 711 "$state/$jail"
			$how "$state/$jail"
			mended "FAIL  state $state/$jail: "
			[ "$(stat -c '%a %u' "$state/$jail")" = "711 0" ]
		done
	done
}

@test "entries of the state that others may read are warned about, and the next login works" {
	local how
	for how in 'chmod 755 logins' 'chmod 755 users' \
	    "chmod 644 users/$(id -u alice).mailboxes" 'touch tls.works' \
	    'touch tls.lock' 'mkdir tls.lock' \
	    'ln -s x exposed.keytab'; do
		rm -rf "$state"
		serves
		(cd "$state" && umask 0 && eval "$how")
		mended "warn  state $state/"
		serves
	done
}

@test "each of many wrong entries is not listed, only the first ten" {
	serves
	for uid in {2000..2020}; do
		mkdir "$state/users/$uid"
		chown 1 "$state/users/$uid"
	done
	check
	[ "$(grep -c "^FAIL  state $state/users/20" <<<"$output")" -eq 10 ]
	names "warn  state $state/users: may have more entries like these"
}

# certificate NAME OPENSSL-X509-OPTION ...: makes $held/NAME.pem with
# $held/NAME.key for mail.kpopd.test, signed by the authority of tls_make. $alt
# replaces its subjectAltName, $more is a further extension, $new the kind of
# its key.
certificate() {
	(
		cd "$held"
		openssl req -newkey ${new-ec -pkeyopt ec_paramgen_curve:P-256} \
		    -nodes \
		    -subj /CN=mail.kpopd.test -keyout "$1.key" -out "$1.csr"
		printf '%s\n' ${alt-subjectAltName=DNS:mail.kpopd.test} \
		    ${more-} authorityKeyIdentifier=keyid >"$1.ext"
		openssl x509 -req -in "$1.csr" -CA "$WORLD/tls/ca.pem" \
		    -CAkey "$WORLD/tls/ca.key" -CAcreateserial \
		    -extfile "$1.ext" -out "$1.pem" "${@:2}"
		chmod 600 "$1.key"
	) >"$WORLD/openssl.log" 2>&1 || { cat "$WORLD/openssl.log"; return 1; }
	conf_tls "$held/$1.pem" "$held/$1.key"
}

# conf_tls CERTIFICATE KEY [LINE ...]: writes the file of options.
conf_tls() {
	conf "tls-certificate $1" "tls-key $2" "${@:3}"
}

# offers_tls: returns true if kpopd lists STLS.
offers_tls() {
	printf 'CAPA\r\nQUIT\r\n' | kpopc mail.kpopd.test | grep -q '^STLS'
}

# offers_no_tls STEP: returns true if kpopd does not list STLS, and logs that
# this step (extended) failed.
offers_no_tls() {
	log_mark
	refute offers_tls
	log_has "failed .*what=\"$1\" error=\"[^\"]+\"\$"
}

# client_takes [OPENSSL-OPTION ...]: returns true if a client takes the
# certificate. It knows the authority of tls_make.
client_takes() {
	server_stop
	start_bare -p
	run s_client -starttls pop3 "$@" < <(printf 'QUIT\r\n')
	[[ $output == *"+OK bye"* ]]
}

@test "a certificate or key that is missing, broken or does not fit is named, and kpopd offers no TLS" {
	local pem=$WORLD/tls/server.pem key=$WORLD/tls/server.key
	conf_tls "$pem" "$key"
	check
	names "ok    tls-certificate $pem: is for mail.kpopd.test"
	names "ok    tls-key $key: no other user can read it"
	offers_tls
	conf_tls "$held/none.pem" "$key"
	check
	names "FAIL  tls-certificate $held/none.pem: No such file or directory: kpopd does not offer TLS\. Remedy: install -m 0644 NEW.pem $held/none.pem"
	offers_no_tls "looking for $held/none.pem"
	conf_tls "$pem" "$held/none.key"
	check
	names "FAIL  tls-key $held/none.key: No such file or directory: kpopd does not offer TLS\. Remedy: install -m 0600 NEW.pem $held/none.key"
	offers_no_tls "looking for $held/none.key"
	# The key of another certificate, of the same and of another type.
	openssl genrsa -out "$held/rsa.key" 2048
	openssl ecparam -name prime256v1 -genkey -noout -out "$held/ec.key"
	for other in rsa ec; do
		conf_tls "$pem" "$held/$other.key"
		check
		names "FAIL  tls-key $held/$other.key: is not the key of the certificate $pem: install the key of this certificate, or a certificate for this key\. Remedy: openssl req -new -key $held/$other.key .* # for your CA"
		bash -c "$remedy" | openssl req -noout -verify
		offers_no_tls \
		    "comparing the key $held/$other.key with the certificate $pem"
	done
	openssl pkey -in "$key" -aes128 -passout pass:x -out "$held/locked.key"
	conf_tls "$pem" "$held/locked.key"
	check
	names "FAIL  tls-key $held/locked.key: cannot be used, or needs a passphrase: .*\. Remedy: openssl pkey -in $held/locked.key -out NEW.pem"
	offers_no_tls "reading the key $held/locked.key"
	cd "$held"
	bash -c "$remedy -passin pass:x"
	mv NEW.pem locked.key
	check
	lacks 'FAIL  tls'
	offers_tls
	echo nothing >"$held/broken.pem"
	conf_tls "$held/broken.pem" "$key"
	check
	names "FAIL  tls-certificate $held/broken.pem: cannot be used: "
	offers_no_tls "reading the certificate $held/broken.pem"
	mended "FAIL  tls-certificate $held/broken.pem: cannot be used: "
	names "ok    tls-certificate $held/broken.pem: is for mail.kpopd.test"
	[ "$(<"$held/broken.pem.old")" = nothing ]
	offers_tls
}

@test "a certificate that has expired, is not valid yet or expires soon is named, as clients judge it" {
	certificate soon -days 10
	check
	names "warn  tls-certificate $held/soon.pem: expires in (9|10) days, on 20..-..-.. ..:.. UTC\. Remedy: openssl req -new -key $held/soon.key -subj /CN=mail.kpopd.test -addext subjectAltName=DNS:mail.kpopd.test # for your CA; put the certificate that it returns, with its chain, into $held/soon.pem$"
	bash -c "$remedy" | grep -- '-BEGIN CERTIFICATE REQUEST-'
	client_takes
	certificate late $(expired_dates)
	check
	names "FAIL  tls-certificate $held/late.pem: has expired on 20..-..-.. ..:.. UTC: clients refuse it\. Remedy: openssl req "
	refute client_takes
	grep -q 'certificate has expired' "$WORLD/s_client.err"
	# Before 3.4, only "openssl ca" makes a certificate of the future.
	printf '%s\n' '[ca]' default_ca=x '[x]' "database=$held/index" \
	    "serial=$held/serial" "new_certs_dir=$held" default_md=sha256 \
	    policy=p '[p]' commonName=supplied >"$held/ca.conf"
	touch "$held/index"
	echo 77 >"$held/serial"
	certificate early
	openssl ca -batch -config "$held/ca.conf" -in "$held/early.csr" \
	    -cert "$WORLD/tls/ca.pem" -keyfile "$WORLD/tls/ca.key" \
	    -extfile "$held/early.ext" -out "$held/early.pem" -notext \
	    -startdate 20400101000000Z -enddate 20410101000000Z
	check
	names "FAIL  tls-certificate $held/early.pem: is not valid before 2040-01-01 00:00 UTC: clients refuse it\. Remedy: date -u"
	refute client_takes
}

@test "a certificate for another name is named, as clients judge it" {
	alt=subjectAltName=DNS:other.test,DNS:www.other.test certificate other
	check
	names "FAIL  tls-certificate $held/other.pem: is not for mail.kpopd.test, but for other.test, www.other.test: clients refuse it\. Remedy: openssl req "
	refute client_takes
	grep -qi 'hostname mismatch' "$WORLD/s_client.err"
	# An alias of the host is one of its names for Kerberos, too.
	sed -i 's/^127.*/& www.other.test/' /etc/hosts
	check
	lacks 'FAIL  tls'
	names "warn  tls-certificate $held/other.pem: is not for mail.kpopd.test, but for other.test, www.other.test: clients that use this name refuse it"
	sed -i 's/ www.other.test//' /etc/hosts
	alt=subjectAltName=DNS:*.kpopd.test certificate star
	check
	names "ok    tls-certificate $held/star.pem: is for mail.kpopd.test"
	client_takes
	# Another name of the host, which has a principal.
	admin "addprinc -randkey pop/pop.kpopd2.test"
	cp "$WORLD/server.keytab" "$held/two.keytab"
	admin "ktadd -k $held/two.keytab pop/pop.kpopd2.test"
	check -k "$held/two.keytab"
	names "ok    tls-certificate $held/star.pem: is for mail.kpopd.test"
	names "warn  tls-certificate $held/star.pem: is not for pop.kpopd2.test, but for \*.kpopd.test: clients that use this name refuse it"
	check -k "$held/two.keytab" -s pop/pop.kpopd2.test
	names "FAIL  tls-certificate $held/star.pem: is not for pop.kpopd2.test"
	alt= certificate old
	check
	names "warn  tls-certificate $held/old.pem: has mail.kpopd.test only in its subject, not as a subjectAltName"
}

# self NAME SUBJECT-ALT-NAMES [OPENSSL-OPTION ...]: makes $held/NAME.pem with
# $held/NAME.key, which signs itself, as README.md does. $new is the kind of its
# key.
self() {
	openssl req -x509 -newkey ${new-rsa:2048} -nodes -days 365 \
	    -subj /CN=mail.kpopd.test -addext "subjectAltName=$2" \
	    -addext basicConstraints=critical,CA:FALSE "${@:3}" \
	    -keyout "$held/$1.key" -out "$held/$1.pem" \
	    >"$WORLD/openssl.log" 2>&1 ||
	    { cat "$WORLD/openssl.log"; return 1; }
	conf_tls "$held/$1.pem" "$held/$1.key"
}

# is_mended NAME PATTERN: runs the remedy of the line of $held/NAME.pem that
# matches the pattern. Checks that clients then take the certificate, and that
# it still signs itself, as that of README.md does.
is_mended() {
	local pem=$held/$1.pem
	mended "$2"
	lacks '(warn|FAIL)  tls-certificate .*: (expires|is not for|has )'
	lacks 'FAIL  tls'
	names "ok    tls-certificate $pem: is for mail.kpopd.test"
	names "warn  tls-certificate $pem: signs itself"
	openssl x509 -in "$pem" -noout -text | grep 'CA:FALSE'
	client_takes -CAfile "$pem"
}

@test "a certificate that signs itself is warned about, also if this system knows it" {
	local hash pem=$held/self.pem
	self self DNS:mail.kpopd.test
	for known in no yes; do
		hash=$(openssl x509 -in "$pem" -noout -hash)
		[ $known = no ] || cp "$pem" "/etc/ssl/certs/$hash.0"
		check
		names "warn  tls-certificate $pem: signs itself: clients refuse it unless they have a copy\. Remedy: copy $pem to each client, and name it there \(fetchmail: sslcertfile $pem\)$"
		lacks 'FAIL  tls'
	done
	rm "/etc/ssl/certs/$hash.0"
}

@test "the remedy for a certificate that signs itself and cannot be used makes a new one in its place" {
	self late DNS:mail.kpopd.test,DNS:*.kpopd.test
	openssl x509 -in "$held/late.pem" -signkey "$held/late.key" \
	    $(expired_dates) -out "$held/late.new"
	mv "$held/late.new" "$held/late.pem"
	cp "$held/late.key" "$held/kept.key"
	is_mended late "FAIL  tls-certificate $held/late.pem: has expired"
	# It keeps its other names and its key.
	openssl x509 -in "$held/late.pem" -noout -text | grep -F '*.kpopd.test'
	cmp "$held/late.key" "$held/kept.key"
	self soon DNS:mail.kpopd.test -days 3
	is_mended soon "warn  tls-certificate $held/soon.pem: expires in"
	self other DNS:other.test
	is_mended other "FAIL  tls-certificate $held/other.pem: is not for mail.* # then copy it to each client$"
	refute grep other.test <(openssl x509 -in "$held/other.pem" -text)
	self old email:root@kpopd.test
	is_mended old "warn  tls-certificate $held/old.pem: has mail.kpopd.test only in its subject"
	self client DNS:mail.kpopd.test -addext extendedKeyUsage=clientAuth
	is_mended client "FAIL  tls-certificate $held/client.pem: .*purpose"
}

@test "the remedy for a certificate that signs itself makes another key, if that is weak or in the same file" {
	new=rsa:1024 self weak DNS:mail.kpopd.test
	conf_tls "$held/weak.pem" "$held/weak.key" "tls-ciphers ALL:@SECLEVEL=0"
	is_mended weak "warn  tls-certificate $held/weak.pem: .*key too weak"
	new=rsa:1024 self weak DNS:mail.kpopd.test
	conf_tls "$held/weak.pem" "$held/weak.key" "tls-ciphers ALL:@SECLEVEL=2"
	is_mended weak "FAIL  tls-certificate $held/weak.pem: cannot be used: "
	self one DNS:other.test
	cat "$held/one.key" >>"$held/one.pem"
	chmod 600 "$held/one.pem"
	conf "tls-certificate $held/one.pem"
	is_mended one "FAIL  tls-certificate $held/one.pem: is not for mail"
}

@test "the remedy for a key that is not that of a certificate that signs itself makes a certificate for it" {
	self one DNS:mail.kpopd.test
	openssl ecparam -name prime256v1 -genkey -noout -out "$held/one.key"
	cp "$held/one.key" "$held/kept.key"
	is_mended one "FAIL  tls-key $held/one.key: is not the key of the certificate $held/one.pem: install the key of this certificate, or a certificate for this key"
	cmp "$held/one.key" "$held/kept.key"
	# A command that has no room is replaced by words.
	cd "$held"
	mkdir -p "$(printf 'x%.0s' {1..150})" "$(printf 'y%.0s' {1..150})"
	self other DNS:other.test
	cp other.pem x*/
	cp other.key y*/
	conf_tls "$(echo "$held"/x*/*.pem)" "$(echo "$held"/y*/*.key)"
	check
	names "FAIL  tls-certificate .*: is not for .*\. Remedy: make a certificate as README.md does in its step 3$"
}

@test "a certificate of certbot is renewed by certbot, which gets the names if these are wrong" {
	local live=/etc/letsencrypt/live/mail
	mkdir -p "$live"
	self other DNS:other.test
	cp "$held/other.pem" "$live/fullchain.pem"
	conf_tls "$live/fullchain.pem" "$held/other.key"
	check
	names "FAIL  tls-certificate $live/fullchain.pem: is not for mail.kpopd.test.*\. Remedy: certbot certonly --cert-name mail -d mail.kpopd.test$"
	self soon DNS:mail.kpopd.test -days 3
	cp "$held/soon.pem" "$live/fullchain.pem"
	conf_tls "$live/fullchain.pem" "$held/soon.key"
	check
	names "warn  tls-certificate $live/fullchain.pem: expires in .*\. Remedy: certbot renew$"
	rm -r /etc/letsencrypt
}

@test "a new certificate is for all names of the keytab" {
	local name
	cp "$WORLD/server.keytab" "$held/two.keytab"
	for name in pop.kpopd2.test imap.kpopd2.test; do
		admin "addprinc -randkey pop/$name"
		admin "ktadd -k $held/two.keytab pop/$name"
	done
	sed -i "s,^keytab.*,keytab $held/two.keytab," /etc/kpopd.conf
	self two DNS:mail.kpopd.test
	sed -i "s,^keytab.*,keytab $held/two.keytab," /etc/kpopd.conf
	mended "warn  tls-certificate $held/two.pem: is not for pop.kpopd2.test"
	for name in mail.kpopd.test pop.kpopd2.test imap.kpopd2.test; do
		names "ok    tls-certificate $held/two.pem: is for $name"
	done
}

@test "a certificate for this host is not blamed if the keytab has keys for another host only" {
	echo '192.0.2.9 mail2.kpopd.test' >>/etc/hosts
	admin "addprinc -randkey pop/mail2.kpopd.test"
	admin "ktadd -k $held/mail2.keytab pop/mail2.kpopd.test"
	self good DNS:mail.kpopd.test
	check -k "$held/mail2.keytab"
	names 'FAIL  name mail.kpopd.test: the keytab has no key for a name of this host, but for mail2.kpopd.test: '
	names "ok    tls-certificate $held/good.pem: is for mail.kpopd.test"
	lacks '(warn|FAIL)  tls-certificate .*is not for'
	self bad DNS:other.test
	check -k "$held/mail2.keytab"
	names "FAIL  tls-certificate $held/bad.pem: is not for mail.kpopd.test, but for other.test"
	# If both are for the other host, that is the one that clients know.
	self both DNS:mail2.kpopd.test
	check -k "$held/mail2.keytab"
	names "ok    tls-certificate $held/both.pem: is for mail2.kpopd.test"
	sed -i /mail2/d /etc/hosts
}

@test "no TLS is warned about, because fetchmail needs it" {
	local how
	for how in '' 'tls no'; do
		conf ${how:+"$how"}
		check
		names 'warn  tls: is not offered: clients that demand TLS, as fetchmail does by default, refuse to log in\. Remedy: set tls-certificate and tls-key in /etc/kpopd\.conf, as README\.md does in its steps 3 and 4'
	done
	conf
	kinit -k -t "$WORLD/keytabs/alice.keytab" alice
	echo 'poll mail.kpopd.test proto KPOP auth kerberos_v5 user alice' \
	    >"$held/fetchmailrc"
	chmod 600 "$held/fetchmailrc"
	run timeout 20 fetchmail --nodetach --nosyslog -f "$held/fetchmailrc" \
	    --pidfile "$held/pid" -i "$held/ids" --mda cat
	[[ $status -ne 0 && $output == *"upgrade to TLS failed"* ]] ||
	    { echo "$output"; return 1; }
	certificate right
	conf_tls "$held/right.pem" "$held/right.key" 'tls no'
	check
	names 'warn  tls: is not offered: .*\. Remedy: remove the option tls \(-T\)$'
}

@test "a certificate of an authority that this system does not know is warned about, and others are refused" {
	local ca=/etc/ssl/certs/kpopd-test.pem hash
	certificate right
	check
	names "warn  tls-certificate $held/right.pem: neither this file nor this system has the issuer /CN=throwaway-ca: clients without the issuer refuse the certificate\. Remedy: get the certificate of this issuer from your CA, and append it to $held/right.pem$"
	cat "$WORLD/tls/ca.pem" >>"$held/right.pem"
	check
	names "warn  tls-certificate $held/right.pem: leads to /CN=throwaway-ca, which this system does not trust: other clients that do not trust it refuse the certificate\. Remedy: copy $held/right.pem, which contains the certificate of this authority, to each client, and name it there \(fetchmail: sslcertfile $held/right.pem\)$"
	client_takes -CAfile "$held/right.pem"
	hash=$(openssl x509 -in "$WORLD/tls/ca.pem" -noout -hash)
	cp "$WORLD/tls/ca.pem" "/etc/ssl/certs/$hash.0"
	check
	names "ok    tls-certificate $held/right.pem: leads to a certificate authority that this system trusts"
	more=extendedKeyUsage=clientAuth certificate client
	check
	rm "/etc/ssl/certs/$hash.0"
	names "FAIL  tls-certificate $held/client.pem: .*purpose.*: clients refuse it\. Remedy: openssl req -new .* # for your CA"
	refute client_takes
}

@test "the remedy for a certificate without its issuer's gets the issuer's from the URL in the certificate" {
	local port=8080 web
	mkdir "$held/web"
	openssl x509 -in "$WORLD/tls/ca.pem" -outform DER >"$held/web/ca.crt"
	python3 -m http.server --bind 127.0.0.1 -d "$held/web" $port 3>&- \
	    >/dev/null 2>&1 &
	web=$!
	await 5 "ss -Hltn sport = $port | grep -q ."
	more="authorityInfoAccess=caIssuers;URI:http://127.0.0.1:$port/ca.crt" \
	    certificate right
	mended "warn  tls-certificate $held/right.pem: neither this file nor this system has the issuer /CN=throwaway-ca.*\. Remedy: .*curl "
	names "warn  tls-certificate $held/right.pem: leads to /CN=throwaway-ca"
	# Without a line feed at its end the file has its own last line, too.
	more="authorityInfoAccess=caIssuers;URI:http://127.0.0.1:$port/ca.crt" \
	    certificate right
	printf %s "$(<"$held/right.pem")" >"$held/new.pem"
	cp "$held/new.pem" "$held/right.pem"
	mended "warn  tls-certificate $held/right.pem: neither this file nor this system has the issuer /CN=throwaway-ca.*\. Remedy: "
	kill $web
	names "warn  tls-certificate $held/right.pem: leads to /CN=throwaway-ca"
}

@test "a key of the certificate that others can read is warned about, and the remedy hides it" {
	certificate right
	for how in 'chmod 644' 'chmod 640' 'chown alice'; do
		chgrp users "$held/right.key"
		$how "$held/right.key"
		mended "warn  tls-key $held/right.key: is not secret: "
	done
	# A group of the system may read it.
	chgrp kpopd "$held/right.key"
	chmod 640 "$held/right.key"
	check
	lacks 'warn  tls-key'
	offers_tls
}

@test "cipher suites that OpenSSL does not have are named, and kpopd refuses them" {
	certificate right
	conf_tls "$held/right.pem" "$held/right.key" \
	    "tls-ciphers ECDHE+AESGCM:NOTHING"
	check
	names 'FAIL  tls-ciphers ECDHE\+AESGCM:NOTHING: OpenSSL has no cipher suites NOTHING: kpopd serves no client\. Remedy: openssl ciphers'
	refuses 'fatal .*OpenSSL'
	bash -c "$remedy" | grep -q ECDHE
	conf_tls "$held/right.pem" "$held/right.key" "tls-ciphers ECDHE+AESGCM"
	check
	names 'ok    tls-ciphers ECDHE\+AESGCM: clients with TLS 1.2 and 1.3 can shake hands'
	serves
	# These are for a key of another type.
	conf_tls "$held/right.pem" "$held/right.key" "tls-ciphers aRSA+AESGCM"
	check
	names 'warn  tls-ciphers aRSA\+AESGCM: usual clients with TLS 1.2 cannot shake hands'
	refute client_takes -tls1_2
	client_takes -tls1_3
}

@test "a weak key is named: one that OpenSSL refuses, and one that only clients refuse" {
	new=rsa:1024 certificate weak
	conf_tls "$held/weak.pem" "$held/weak.key" "tls-ciphers ALL:@SECLEVEL=2"
	check
	names "FAIL  tls-certificate $held/weak.pem: cannot be used: .*key too small"
	refute offers_tls
	conf_tls "$held/weak.pem" "$held/weak.key" "tls-ciphers ALL:@SECLEVEL=0"
	check
	names "warn  tls-certificate $held/weak.pem: .*key too weak.*: many clients refuse it\. Remedy: openssl req -new -newkey rsa:2048 -nodes -keyout $held/weak.key.new -subj "
	offers_tls
	bash -c "$remedy" | openssl req -noout -verify
	[ "$(stat -c %a "$held/weak.key.new")" = 600 ]
}

@test "each line of --check --json is JSON, and no line reaches a terminal raw, whatever bytes a path has" {
	local wild=$'wild \x1b[31m\n FAIL  "quoted" \\ \xc3\xa9\xff \x7f$(touch ran)\t\''
	cd "$held"
	wild=$held/$wild
	local arguments=(-d "$wild" -u "$wild" -c "$wild" -K "$wild" -k "$wild")
	check "${arguments[@]}"
	# Printable ASCII only, and each line is one of --check.
	refute grep -aq '[^ -~]' <<<"$output"
	refute grep -avE '^(ok  |warn|FAIL)  [a-z0-9-]+' <<<"$output"
	grep '^FAIL  tls-certificate ' <<<"$output"
	# The remedy is for this very path.
	names 'warn  state .*is not there'
	bash -c "$remedy"
	[ -d "$wild" ]
	[ ! -e ran ]
	# A path that is too long for a remedy is left out. One that begins with
	# "-" is no option.
	check -c "/$(printf 'x%.0s' {1..250})" -K -r
	names 'FAIL  tls-certificate /x+: .*\. Remedy: install -m 0644 NEW.pem PATH$'
	check -c "$WORLD/tls/server.pem" -K -r
	names 'FAIL  tls-key -r: .*\. Remedy: install -m 0600 NEW.pem ./-r$'
	run env ${SANITIZER-} "$KPOPD_BUILD/kpopd" --check --json \
	    "${arguments[@]}" </dev/null
	[ "$status" -eq 1 ]
	python3 "$BATS_TEST_DIRNAME/programs/json-lines.py" <<<"$output"
	[ "$(wc -l <<<"$output")" -gt 5 ]
}

@test "kpopd --check that xinetd starts serves no client and logs that, but does not send it" {
	server_stop
	start_bare --check
	run wire 30 </dev/null
	[[ $output == "-ERR [SYS/TEMP] "* && $output != *check* ]]
	log_has 'fatal .*error="--check serves no client"'
}

@test "kpopd --check checks nothing unless root runs it, and exits with 2" {
	chmod 711 "$WORLD"
	run setpriv --reuid alice --regid alice --clear-groups \
	    env ${SANITIZER-} "$KPOPD_BUILD/kpopd" --check </dev/null
	[ "$status" -eq 2 ]
	[[ $output == "kpopd-check: must be started as root" ]]
}
