#!/usr/bin/env bats
# Checks that kpopd reads its options from /etc/kpopd.conf and the file of -f,
# that the command line wins, and that a mistake is logged with file and line
# and never sent to the client.

load helpers/all

setup_file() {
	server_start
	begin_replay_cache
	server_stop
	tls_make
}

teardown_file() { :; }

setup() {
	begin_test
	realm_login alice
	mbox one | store alice
}

teardown() {
	[ -z "${writer-}" ] || kill "$writer" 2>/dev/null || true
	pop_close 2>/dev/null || true
	server_stop
	[ ! -e "$WORLD/krb5.conf.kept" ] ||
	    mv "$WORLD/krb5.conf.kept" /etc/krb5.conf
	end_test
}

# conf [LINE ...]: writes /etc/kpopd.conf: the lines that every server of the
# tests needs, which are 1 and 2, and these.
conf() {
	printf '%s\n' "state $state" "keytab $WORLD/server.keytab" "$@" \
	    >"$WORLD/conf.new"
	chmod 644 "$WORLD/conf.new"
	mv "$WORLD/conf.new" /etc/kpopd.conf
}

# start_bare: starts xinetd, which starts kpopd without an option for each
# connection.
start_bare() {
	server_configure
	sed -i /server_args/d "$WORLD/xinetd.conf"
	xinetd_run
}

# start_bare_listener: does the same with "wait = yes".
start_bare_listener() {
	server_configure
	sed -i -e /server_args/d -e 's/\(wait[[:space:]]*=\).*/\1 yes/' \
	    -e '/per_source\|instances\|flags/d' "$WORLD/xinetd.conf"
	xinetd_run
}

# sent_to_mute: prints what kpopd sends to a client that sends nothing but the
# end of its side.
sent_to_mute() {
	timeout 20 perl -MIO::Socket::IP -e '
		my $s = IO::Socket::IP->new("127.0.0.1:1109") or exit 0;
		$s->shutdown(1);
		print while <$s>;'
}

# refuses ERROR: connects, and checks that kpopd logs this error of the options
# (a pattern, extended), and tells the client no more than to try again later.
refuses() {
	log_mark
	run sent_to_mute
	[[ $output == "-ERR [SYS/TEMP] the server cannot serve now"*$'\r' ]] ||
	    { echo "sent: $output" >&2; return 1; }
	log_has "kpopd\\[[0-9]+\\]: fatal peer=[^ ]+ error=\"$1\"$"
	log_count 1 ' kpopd\[[0-9]+\]: fatal '
}

# answers NUMBER: has a session of alice, who has this number of messages.
answers() {
	run pop alice QUIT
	[[ $output == *"+OK $1 messages"* ]] ||
	    { echo "not $1 messages: $output" >&2; return 1; }
}

# spool_elsewhere NAME ...: makes $WORLD/held/alice with these messages.
spool_elsewhere() {
	mkdir -p -m 755 "$WORLD/held"
	mbox "$@" >"$WORLD/held/alice"
	chown alice "$WORLD/held/alice"
}

@test "kpopd that xinetd starts without an option reads /etc/kpopd.conf, anew for each connection" {
	spool_elsewhere one two
	conf "# mail of the old host" "  mailboxes 	mbox:$WORLD/held/%u  "
	start_bare
	answers 2
	conf
	answers 1
}

@test "an option on the command line wins over the file, whole, and -f names another file" {
	conf "realms NOWHERE.TEST" "timeouts 30:7"
	server_start -r KPOPD.TEST
	answers 1
	server_stop
	server_start
	run pop alice QUIT
	[[ $output == *"-ERR [AUTH]"* ]]
	server_stop
	sed /realms/d /etc/kpopd.conf >"$WORLD/other.conf"
	server_start --config="$WORLD/other.conf"
	answers 1
}

@test "kpopd -p takes all other options from the file, TLS included" {
	conf "tls-certificate $WORLD/tls/server.pem" \
	    "tls-key $WORLD/tls/server.key" "tls require"
	start_bare
	run s_client -starttls pop3 < <(printf 'QUIT\r\n')
	[[ $output != *"+OK bye"* ]]
	kpopc --tls -C "$WORLD/tls/ca.pem" mail.kpopd.test \
	    < <(printf '%s\r\n' "USER alice" "PASS x" QUIT) | grep '^+OK bye'
	server_stop
	sed -i '/^\t*server\t/a server_args = -p' "$WORLD/xinetd.conf"
	xinetd_run
	run s_client -starttls pop3 < <(printf '%s\r\n' CAPA QUIT)
	[[ $output == *"SASL GSSAPI"*"+OK bye"* ]]
}

@test "each mistake in the file is logged with file and line, once, and not sent to the client" {
	start_bare
	while IFS='|' read -r line error; do
		conf "# comment" "$line"
		refuses "/etc/kpopd\\.conf:4: $error"
	done <<-'END'
	keytabs /k|unknown word: keytabs
	state /s|repeated: state
	tls|its argument is missing: tls
	pop3 yes|takes no argument: pop3
	recover|an option of the command line only: recover
	limits 1,2|limits takes up to five numbers, as 200:20:50:300:25, not 1,2
	tls "no"|tls takes no, offer, require or immediate, not \\042no\\042
	tls offer|tls needs a certificate: -c, tls-certificate
	keytab=/k|a line is NAME or NAME ARGUMENT, with a blank between them
	END
	# The words of another file, which may be secret, are not logged.
	cp /etc/shadow /etc/kpopd.conf
	chown root /etc/kpopd.conf
	refuses '/etc/kpopd\.conf:1: a line is NAME or NAME ARGUMENT, with a blank between them'
	# A mistake counts although the command line has the option.
	server_stop
	conf "realms"
	server_start -r KPOPD.TEST
	refuses '/etc/kpopd\.conf:3: its argument is missing: realms'
	rm /etc/kpopd.conf
	answers 1
	conf "mailboxes mbox:/nowhere"
	answers 0
	server_stop
	server_start -f "$WORLD/none.conf"
	refuses "$WORLD/none\\.conf: No such file or directory"
}

@test "a client of a service that begins with TLS gets no answer in cleartext if the file has a mistake" {
	conf "keytabs /k"
	server_start -p -T immediate
	run sent_to_mute
	[ -z "$output" ]
	log_has 'fatal .*unknown word: keytabs'
	server_stop
	conf "tls immediate" "keytabs /k"
	start_bare
	run sent_to_mute
	[ -z "$output" ]
	log_has 'fatal .*:4: unknown word: keytabs'
	# What comes after the mistake counts.
	for line in "keytabs /k" "keytab=/k" $'pop3\r'; do
		conf "$line" "tls immediate"
		log_mark
		run sent_to_mute
		[ -z "$output" ] || { echo "$line: $output" >&2; return 1; }
		log_has 'fatal .*error="/etc/kpopd\.conf:3: '
		log_count 1 fatal
	done
}

@test "a wrong cipher list in the file is logged with file and line, too" {
	conf "tls-certificate $WORLD/tls/server.pem" \
	    "tls-key $WORLD/tls/server.key" "tls-ciphers ECDHE+AESGCM:NOSUCH"
	start_bare
	log_mark
	run sent_to_mute
	log_has 'fatal .*error="/etc/kpopd\.conf:5: tls-ciphers takes cipher suites that OpenSSL has, not ECDHE\+AESGCM:NOSUCH"$'
}

# bats test_tags=attack:9-22,promise:1
@test "a file that is not root's, or that others may write, or that is no file, serves no client" {
	start_bare
	file=/etc/kpopd.conf
	conf
	chown alice $file
	refuses "$file: it does not belong to root"
	chown root $file
	others="$file: others than root may write it \\(see chmod 644\\)"
	for mode in 664 646 666; do
		chmod $mode $file
		refuses "$others"
	done
	chmod 644 $file
	setfacl -m u:alice:rw $file 2>/dev/null || chmod g+w $file
	refuses "$others"
	conf
	install -o alice -m 644 $file /home/alice/kpopd.conf
	ln -sf /home/alice/kpopd.conf $file
	refuses "$file: it does not belong to root"
	rm /home/alice/kpopd.conf
	refuses "$file: No such file or directory"
	conf
	mv $file "$WORLD/other.conf"
	ln -s "$WORLD/other.conf" $file
	answers 1
	chown -h alice $file
	refuses "$file: it does not belong to root"
	rm $file
	mkfifo $file
	refuses "$file: it is not a regular file"
	rm $file
	mkdir $file
	refuses "$file: it is not a regular file"
	rmdir $file
	: >$file
	refuses "$file: it is empty; remove it, or write a comment into it"
	truncate -s 1G $file
	refuses "$file: it has more than 64 KiB"
	printf 'pop3\r\n' >$file
	refuses "$file:1: a carriage return"
	printf '#\npop3\0\n' >$file
	refuses "$file:2: a control character"
	printf '#\npop3' >$file
	refuses "$file:2: the last line has no line feed; the file is .*"
}

# was_slow: returns true if the writer rested for longer than 50 ms between two
# writes since the last call. A busy machine can stop it for that long, and then
# kpopd may take what is there for the whole file (kpopd.conf(5)). The writer
# answers after its next write, so a rest that has not ended counts, too.
was_slow() {
	rm -f "$WORLD/rest"
	kill -USR1 "$writer"
	await 10 '[ -s "$WORLD/rest" ]'
	[ "$(cat "$WORLD/rest")" -gt 50 ]
}

# serves_none_while HOW FILE: returns true if 40 logins of alice fail, whom
# $WORLD/conf does not permit, while rewrite.pl writes it to FILE again and
# again. Runs $before_login before each. Afterwards FILE is whole.
serves_none_while() {
	"$top/tests/programs/rewrite.pl" "$1" "$WORLD/conf" "$2" \
	    "$WORLD/rest" 3>&- &
	writer=$!
	# The writer has begun when FILE is incomplete or absent.
	await 5 "! cmp -s '$WORLD/conf' '$2'"
	for _ in $(seq 40); do
		${before_login-}
		run pop alice QUIT
		[[ $output != *"+OK 1 messages"* ]] || was_slow ||
		    { echo "$1: $output" >&2; return 1; }
	done
	kill "$writer"
	wait "$writer" || :
	# The writer may have been killed while it wrote.
	install -m 644 "$WORLD/conf" "$2"
}

# bats test_tags=attack:9-23,promise:1
@test "a client that connects while the file is written is refused, or served with all options that restrict it" {
	# The restriction is in the last line.
	printf '%s\n' "timeouts 20:600" \
	    "# $(head -c 5000 /dev/zero | tr '\0' x)" "realms NOWHERE.TEST" \
	    >"$WORLD/conf"
	install -m 644 "$WORLD/conf" /etc/kpopd.conf
	server_start
	for how in "in place" "by line" beside; do
		log_mark
		serves_none_while "$how" /etc/kpopd.conf
		[ "$how" = beside ] ||
		    log_has 'fatal .*/etc/kpopd.conf: it changed while'
		log_mark
		run pop alice QUIT
		[[ $output == *"-ERR [AUTH]"* ]]
		log_has 'refused .*realm'
	done
}

# deny_in_krb5_conf: writes a krb5.conf to $WORLD/conf whose end does not permit
# alice, and installs it. Clients use the earlier one.
deny_in_krb5_conf() {
	cp /etc/krb5.conf "$WORLD/krb5.conf.kept"
	cp /etc/krb5.conf "$WORLD/client.conf"
	export KRB5_CONFIG=$WORLD/client.conf
	{
		cat /etc/krb5.conf
		yes "# $(head -c 1000 /dev/zero | tr '\0' x)" | head -n 5
		printf '[realms]\nKPOPD.TEST = {\n'
		printf '\tauth_to_local = RULE:[1:nobody]\n}\n'
	} >"$WORLD/conf"
	install -m 644 "$WORLD/conf" /etc/krb5.conf
}

# bats test_tags=attack:9-23,promise:1
@test "a client that connects while krb5.conf is written is refused, or served by all of its rules" {
	deny_in_krb5_conf
	server_start
	for how in "by line" "in place"; do
		log_mark
		serves_none_while "$how" /etc/krb5.conf
		log_has 'failed .*"reading krb5.conf" error="it changed while'
		log_mark
		run pop alice QUIT
		log_has 'refused .*user=alice'
	done
}

# hang_up: tells the listener to read krb5.conf again.
hang_up() {
	kill -HUP "$listener"
}

# bats test_tags=attack:9-23,promise:1
@test "a listener keeps its krb5.conf if the file is written at SIGHUP" {
	deny_in_krb5_conf
	conf
	start_bare_listener
	run pop alice QUIT
	log_has 'refused .*user=alice'
	listener=$(pgrep -o -x kpopd)
	log_mark
	before_login=hang_up serves_none_while "by line" /etc/krb5.conf
	[ "$(pgrep -o -x kpopd)" = "$listener" ]
	log_has 'failed .*"reading krb5.conf" error="it changed while'
	log_mark
	run pop alice QUIT
	log_has 'refused .*user=alice'
}

@test "a listener with a mistake in the file logs it once and answers all clients; the next one serves when it is corrected" {
	conf "tls offer"
	start_bare_listener
	refuses '/etc/kpopd\.conf:3: tls needs a certificate: .*'
	for _ in 1 2 3; do
		run sent_to_mute
		[[ $output == "-ERR [SYS/TEMP] "* ]]
	done
	log_count 1 fatal
	conf
	kpopd_ends 20
	answers 1
}

@test "at SIGHUP a listener with changed options ends, its sessions do not, and the next one has the new options" {
	spool_elsewhere one two
	conf
	start_bare_listener
	answers 1
	listener=$(pgrep -o -x kpopd)
	# Nothing has changed but a comment.
	conf "# new"
	kill -HUP "$listener"
	answers 1
	[ "$(pgrep -o -x kpopd)" = "$listener" ]
	# A mistake: the earlier options stay.
	log_mark
	conf "mailboxes mbox:$WORLD/held/%u" "tls offer"
	kill -HUP "$listener"
	log_has 'failed peer=none what="reading the options again" error="/etc/kpopd\.conf:4: tls needs a certificate: -c, tls-certificate"$'
	answers 1
	rm /etc/kpopd.conf
	mkdir /etc/kpopd.conf
	kill -HUP "$listener"
	log_has 'failed .*what="reading the options again" error="/etc/kpopd\.conf: it is not a regular file"$'
	rmdir /etc/kpopd.conf
	answers 1
	[ "$(pgrep -o -x kpopd)" = "$listener" ]
	# A session goes on when its listener ends.
	pop_open
	pop_hear '^\+OK'
	pop_ask "USER alice"
	pop_ask "PASS x" '^\+OK 1 messages'
	conf "mailboxes mbox:$WORLD/held/%u"
	kill -HUP "$listener"
	log_has 'listener peer=none reason="the options have changed"$'
	await 5 "! kill -0 $listener 2>/dev/null"
	pop_ask STAT '^\+OK 1 '
	answers 2
	[ "$(pgrep -n -x kpopd -P "$(<"$WORLD/xinetd.pid")")" != "$listener" ]
	pop_ask QUIT '^\+OK bye'
	pop_hear_end
}

@test "a listener with changed options first serves the connections that wait for their turn" {
	conf pop3 "limits 100:100:1:300:1"
	start_bare_listener
	exec {first}<>/dev/tcp/127.0.0.1/1109
	read -r -u "$first" line
	[[ $line == "+OK "* ]]
	listener=$(pgrep -o -x kpopd)
	# The listener has its socket and that of syslog, when it has closed the
	# first connection, which it has given to a monitor.
	await 5 "[ \$(ls -l /proc/$listener/fd | grep -c socket:) -eq 2 ]"
	# The other ones within a second wait for their turn.
	for n in {1..5}; do
		exec {held[n]}<>/dev/tcp/127.0.0.1/1109
	done
	await 5 "[ \$(ls -l /proc/$listener/fd | grep -c socket:) -ge 3 ]"
	conf pop3
	kill -HUP "$listener"
	for n in {1..5}; do
		read -r -t 30 -u "${held[n]}" line
		[[ $line == "+OK "* ]]
	done
	await 20 "! kill -0 $listener 2>/dev/null"
	exec {first}>&-
	for n in {1..5}; do exec {held[n]}>&-; done
}

@test "kpopd --recover reads the file: it looks into the state directory that the file names" {
	conf
	start_bare
	answers 1
	server_stop
	run "$KPOPD_BUILD/kpopd" --recover
	[ "$status" -eq 0 ]
	[ "$output" = "alice (/var/mail/alice): nothing to do" ]
	conf "limits"
	run "$KPOPD_BUILD/kpopd" --recover </dev/null
	[ "$status" -eq 2 ]
	error="its argument is missing: limits"
	[ "$output" = "kpopd: /etc/kpopd.conf:3: $error" ]
}

@test "the installed example is accepted, as it is and with each of its lines" {
	run "$KPOPD_BUILD/kpopd" -f "$top/examples/kpopd.conf" </dev/null
	[[ $output == *"standard input is not a connection"* ]]
	sed 's/^#\([a-z]\)/\1/' "$top/examples/kpopd.conf" >"$WORLD/example"
	chmod 644 "$WORLD/example"
	[ "$(grep -c '^[a-z]' "$WORLD/example")" -ge 18 ]
	run "$KPOPD_BUILD/kpopd" -f "$WORLD/example" </dev/null
	[[ $output == *"standard input is not a connection"* ]]
}
