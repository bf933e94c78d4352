#!/usr/bin/env bats
# Checks that a recorded login opens no mailbox a second time, and that the
# replay cache survives damage, full disks and compromised processes.

load helpers/all
load helpers/preload
load helpers/replay

service=pop/mail.kpopd.test

setup() {
	begin_test
	mbox one two | store alice
	mbox three | store bob
	spool_keep
	realm_login alice
	cache_is_old
}

teardown() {
	local status=0
	[ -z "${two_pids-}" ] || two_hosts_end || status=1
	end_test || status=1
	! mountpoint -q "$state" || umount "$state" || status=1
	rm -rf "$cache"
	return $status
}

# as NAME COMMAND …: runs the command with NAME's ticket instead of alice's.
as() {
	KRB5CCNAME=FILE:$WORLD/cc.$1 realm_login "$1"
	KRB5CCNAME=FILE:$WORLD/cc.$1 "${@:2}"
}

# bats test_tags=catalogue:19-2,promise:1
@test "kpopd accepts an AP-REQ once, whatever the skew of the client's clock and the time until it is repeated" {
	preloaded
	as mallory apreq -n $(long && echo 6000 || echo 600) $service \
	    >"$WORLD/many"
	for fast in 299 290 150 1 -1 -150 -290; do
		says 0 0 0
		apreq -o $fast $service >"$WORLD/recorded"
		is_in "$(shows "$WORLD/recorded")" ||
		    { echo "$fast"; return 1; }
		for later in 0 1 150 299 301 302 430 $((290 + fast)) \
		    $((298 + fast)) $((300 + fast)) $((302 + fast)) 600 900; do
			[ $later -ge 0 ] || continue
			says $later 0 0
			# Let another principal fill the cache meanwhile.
			if [ $fast$later = 290302 ]; then
				churn "$WORLD/many" >/dev/null
			fi
			is_out "$(shows "$WORLD/recorded")" ||
			    { echo "$fast s fast, after $later s"; return 1; }
		done
	done
	log_has 'refused .*error="Request is a replay"'
	log_has 'refused .*error="Clock skew too great"'
}

# bats test_tags=catalogue:19-5,promise:1
@test "kpopd refuses a repeated AP-REQ while and after the server's clock has jumped ahead or back" {
	preloaded
	apreq $service >"$WORLD/recorded"
	is_in "$(shows "$WORLD/recorded")"
	for jump in 3600 -3600 86000 -86400; do
		says $jump 0 0
		# A client whose clock has jumped back does not use its ticket.
		# So more logins are added only if the clock jumps ahead.
		if [ $jump -gt 0 ]; then
			as mallory apreq -o $jump -n 30 $service >"$WORLD/many"
			[ "$(churn "$WORLD/many")" -eq 30 ]
		fi
		is_out "$(shows "$WORLD/recorded")"
		says 0 0 0
		is_out "$(shows "$WORLD/recorded")" ||
		    { echo "after $jump"; return 1; }
	done
}

# bats test_tags=catalogue:19-3,promise:1
@test "kpopd refuses a repeated AP-REQ in which a byte outside the encryption has changed" {
	apreq $service >"$WORLD/recorded"
	is_in "$(shows "$WORLD/recorded")"
	options='\x03\x05\x00\x00\x00\x00\x00'
	changes=(
		# Change two of the options.
		"s/$options/\x03\x05\x00\x20\x00\x00\x00/"
		"s/$options/\x03\x05\x00\x00\x00\x00\x01/"
		# Change the realm or the service's name.
		's/KPOPD\.TEST/KPOPD.TEXT/'
		's/mail\.kpopd/mail.kpopx/'
		# Use a longer form of the length, or append a byte.
		's/^\x6e\x82/\x6e\x83\x00/'
		's/$/x/s'
		# Append a field.
		'sub longer { pack "n", 2 + unpack "n", shift }
		s/^\x6e\x82(..)\x30\x82(..)(.*)$/
		    "\x6e\x82" . longer($1) . "\x30\x82" . longer($2) .
		    "$3\xa5\x00"/sex'
	)
	for change in "${changes[@]}"; do
		perl -0777 -pe "$change" "$WORLD/recorded" >"$WORLD/altered"
		! cmp -s "$WORLD/recorded" "$WORLD/altered" ||
		    { echo "$change changes nothing"; return 1; }
		is_out "$(shows "$WORLD/altered")" ||
		    { echo "$change"; return 1; }
	done
	log_has 'refused .*error="Request is a replay"'
}

# bats test_tags=catalogue:19-4
@test "kpopd accepts two AP-REQs of one principal and one time, and refuses each of them a second time" {
	# The two AP-REQs differ only in the confounder.
	now=$(date +%s)
	for i in 1 2; do apreq -t $now $service >"$WORLD/same.$i"; done
	refute cmp -s "$WORLD/same.1" "$WORLD/same.2"
	is_in "$(shows "$WORLD/same.1")"
	is_in "$(shows "$WORLD/same.2")"
	is_out "$(shows "$WORLD/same.1")"
}

# show_gssapi FILE: sends the AP-REQ in FILE as the first token of AUTH GSSAPI
# (RFC 2743 section 3.1). Prints what the server sends.
show_gssapi() {
	perl -0777 -ne \
	    'my $t = "\x06\x09\x2a\x86\x48\x86\xf7\x12\x01\x02\x02\x01\x00$_";
	    print "\x60\x82", pack("n", length $t), $t' "$1" |
	    base64 -w 0 >"$WORLD/token"
	printf 'AUTH GSSAPI %s\r\n*\r\nQUIT\r\n' "$(cat "$WORLD/token")" | wire
}

# bats test_tags=catalogue:19-6
@test "KPOP and AUTH GSSAPI each refuse an AP-REQ that was made for the other, and share one replay cache" {
	preloaded -p
	apreq -o 290 $service >"$WORLD/kpop"
	apreq -o 290 -g $service >"$WORLD/gssapi"
	# A server that accepts the AP-REQ then offers its layers.
	offer=$'\n+ BQ'
	[[ $(show_gssapi "$WORLD/gssapi") == *"$offer"* ]]
	[[ $(show_gssapi "$WORLD/gssapi") != *"$offer"* ]]
	log_has 'refused .*reason="GSSAPI" error="Request is a replay"'
	says 310 0 0
	[[ $(show_gssapi "$WORLD/gssapi") != *"$offer"* ]]
	[[ $(show_gssapi "$WORLD/kpop") != *"$offer"* ]]
	log_has 'refused .*reason="GSSAPI" error="Inappropriate type of checksum in message"'
	says 0 0 0
	server_stop
	server_env="LD_PRELOAD=$preload PRELOAD=$shared" server_start
	is_out "$(shows "$WORLD/gssapi")"
	log_has 'refused .*reason="Kerberos" error="Inappropriate type of checksum in message"'
	is_in "$(shows "$WORLD/kpop")"
	says 310 0 0
	is_out "$(shows "$WORLD/kpop")"
	[ "$(stat -c %h:%s "$cache")" = "1:$(stat -c %s "$cache")" ]
}

# bats test_tags=catalogue:19-7,promise:1
@test "kpopd refuses a whole recorded dialogue of AUTH GSSAPI without mutual authentication, at once and later" {
	preloaded -p
	for fast in 295 0; do
		log_mark
		says 0 0 0
		shared=$WORLD/client.clock says $fast 0 0
		rm -f "$WORLD/recorded"
		socat -r "$WORLD/recorded" TCP-LISTEN:2113,reuseaddr \
		    TCP:127.0.0.1:1109 3>&- 2>/dev/null &
		await 5 'ss -Hltn sport = 2113 | grep -q .'
		run env LD_PRELOAD="$preload" PRELOAD="$WORLD/client.clock" \
		    "$KPOPD_BUILD/tests/programs/gsstalk" 1 0 oneway alice 2113
		[[ $output == *"+OK 2 messages"* ]] ||
		    { echo "$output"; return 1; }
		log_has 'login .*mutual=no .*layer=none '
		for later in 0 200 301 400 590; do
			says $later 0 0
			if [ $later = 301 ]; then
				as mallory apreq \
				    -n $(long && echo 6000 || echo 300) \
				    -g $service >"$WORLD/many"
				churn "$WORLD/many" gssapi >/dev/null
			fi
			run wire <"$WORLD/recorded"
			[[ $output == *"-ERR [AUTH] not authenticated"* &&
			    $output != *messages* ]] ||
			    { echo "$fast $later: $output"; return 1; }
		done
	done
}

@test "kpopd accepts a client of AUTH GSSAPI without mutual authentication" {
	server_stop
	server_start -p
	run "$KPOPD_BUILD/tests/programs/gsstalk" 1 0 oneway
	[[ $output == *"+OK 2 messages"* ]] || { echo "$output"; return 1; }
}

# bats test_tags=promise:1
@test "kpopd accepts one of fifty simultaneous connections with one AP-REQ, even if there is no replay cache yet" {
	for round in 1 2 3; do
		if [ $round -gt 1 ]; then rm -f "$cache"; fi
		# The AP-REQ must be younger than a new cache, which refuses
		# older ones.
		apreq -o 60 $service >"$WORLD/one"
		{
			versions
			framed <"$WORLD/one"
			printf 'QUIT\r\n'
		} >"$WORLD/shown"
		shown=()
		rm -f "$WORLD"/shown.*
		for i in $(seq 50); do
			wire_hex <"$WORLD/shown" >"$WORLD/shown.$i" 3>&- &
			shown+=($!)
		done
		wait "${shown[@]}" || true
		[ "$(grep -l '^00000000002b4f4b20' "$WORLD"/shown.* | wc -l)" \
		    -eq 1 ] || { echo "round $round"; return 1; }
		[ "$(grep -l '^00000000..7e' "$WORLD"/shown.* | wc -l)" -eq 49 ]
	done
}

@test "two services with one state directory share one replay cache" {
	apreq $service >"$WORLD/one"
	is_in "$(shows "$WORLD/one")"
	server_stop
	server_start -t 20
	is_out "$(shows "$WORLD/one")"
	log_has 'refused .*error="Request is a replay"'
}

# bats test_tags=fault:6-2,promise:8
@test "logins work if a user fills the state directory's disk, and fail if the replay cache cannot be made there" {
	server_stop
	mkdir -p "$state"
	mount -t tmpfs -o size=20m,mode=755 st "$state"
	server_start
	run pop alice QUIT
	[[ $output == *"messages left"* ]]
	cp /dev/zero "$state/users/$(id -u alice)/big" 2>/dev/null || true
	[ "$(stat -f -c %a "$state")" -eq 0 ]
	for _ in 1 2 3 4 5 6 7 8 9 10; do
		run pop alice QUIT
		[[ $output == *"messages left"* ]] ||
		    { echo "$output"; return 1; }
	done
	rm -f "$cache"
	cp /dev/zero "$state/users/$(id -u alice)/more" 2>/dev/null || true
	log_mark
	run pop alice QUIT
	[[ $output != *+OK* ]]
	log_has "failed .*what=\"opening the replay cache $cache\" error=\"No space left on device\""
	log_has 'refused .*reason="Kerberos" error="replay cache: it could not be opened"'
	rm -f "$state/users/$(id -u alice)"/{big,more}
	run pop alice QUIT
	[[ $output == *"messages left"* ]]
}

@test "the next connection replaces a damaged replay cache by an empty one, which refuses older AP-REQs" {
	apreq -o -5 $service >"$WORLD/recorded"
	is_in "$(shows "$WORLD/recorded")"
	inode=$(stat -c %i "$cache") size=$(stat -c %s "$cache")
	for damage in 'cache_fill 0' 'cache_fill 255' 'truncate -s 0 $cache' \
	    'truncate -s 5000 $cache' 'truncate -s 99999999 $cache'; do
		eval "$damage"
		log_mark
		is_out "$(shows "$WORLD/recorded")" ||
		    { echo "$damage"; return 1; }
		log_has "replay .*what=\"$cache refuses older authenticators\""
		run pop alice QUIT
		[[ $output == *"messages left"* ]] ||
		    { echo "$damage: $output"; return 1; }
		[ "$(stat -c '%i %s %U %a' "$cache")" = \
		    "$inode $size root 600" ]
	done
	# Overwrite the records and keep the header.
	cache_fill 0 4096
	run pop alice QUIT
	[[ $output == *"messages left"* ]]
}

@test "kpopd refuses logins and logs the replay cache's path if something else is in the cache's place" {
	for make in 'ln -s /etc/passwd' 'mkfifo -m 600' 'mkdir -m 700' \
	    'ln -s nowhere' 'install -o daemon -m 600 /dev/null' \
	    'install -m 660 /dev/null'; do
		rm -rf "$cache"
		$make "$cache"
		log_mark
		run pop alice QUIT
		[[ $output != *+OK* ]] || { echo "$make: $output"; return 1; }
		log_has \
		    "failed .*what=\"opening the replay cache $cache\" error=\""
		[ ! -e "$state/nowhere" ]
	done
	rm -rf "$cache"
	run pop alice QUIT
	[[ $output == *"messages left"* ]]
}

# bring_to_limit NAME: logs NAME in once, and sets NAME's counters in the cache
# to the limit (tests/programs/spend-logins.pl).
bring_to_limit() {
	cache_fill 0 4096
	as "$1" apreq -n 1 $service >"$WORLD/first"
	[ "$(churn "$WORLD/first")" -eq 1 ]
	perl "$BATS_TEST_DIRNAME/programs/spend-logins.pl" "$cache"
}

# bats test_tags=catalogue:19-8
@test "kpopd refuses a principal at its login limit, names it in the log, and accepts other principals" {
	bring_to_limit mallory
	as mallory apreq -n 3 $service >"$WORLD/many"
	[ "$(churn "$WORLD/many")" -eq 0 ]
	log_count 3 'refused .*reason="Kerberos" error="replay cache: too many logins of principal mallory@KPOPD\.TEST"'
	run pop alice QUIT
	[[ $output == *"messages left"* ]]
	as bob run pop bob QUIT
	[[ $output == *"messages left"* ]]
}

# next_login_works: returns true if a login works. The compromised process may
# still run at that time.
next_login_works() {
	[[ $(pop alice QUIT) == *"messages left"* ]]
}

# bats test_tags=fault:16-2
@test "a compromised pre-auth process cannot open, truncate, remove or chmod the replay cache" {
	[ -z "${SANITIZER-}" ] ||
	    skip "there is no filter in a build with sanitizers"
	pop_open
	pop_hear '^\+OK'
	preauth=$(child_pid) size=$(stat -c %s "$cache")
	fd=$(fds "$preauth" | sed -n "s,^\([0-9]*\) $cache\$,\1,p")
	[ -n "$fd" ]
	# The filter permits openat, but the jail does not contain the cache.
	captive "$preauth" "openat -100 /replay 2" \
	    "openat -100 /replay/cache 65 384" "openat -100 /../replay 2" \
	    "pwrite64 $fd x 1 $size"
	for n in $returned; do [ "$n" -lt 0 ]; done
	[ "$(stat -c '%U %a' "$cache")" = "root 600" ]
	# The filter ends the process for each of these calls.
	for call in "ftruncate $fd 0" "fchmod $fd 0" \
	    "unlinkat -100 /krb5.conf 0" "fsync $fd" "flock $fd 2" \
	    "fallocate $fd 3 0 4096"; do
		pop_close
		pop_open
		pop_hear '^\+OK'
		log_mark
		captive "$(child_pid)" "$call"
		log_has "fatal .*the pre-auth process was ended for the system call ${call%% *}" ||
		    { echo "$call"; return 1; }
		[ "$(stat -c '%U %a %s' "$cache")" = "root 600 $size" ]
		next_login_works
	done
	pop_close
}

# bats test_tags=fault:16-3
@test "logins work after a compromised pre-auth process has set all bits of the cache's records and counters" {
	pop alice QUIT
	cache_fill 255 4096
	next_login_works
	next_login_works
	cache_fill 127 4096
	next_login_works
}

# cache_records CTIME STORED: writes a record with these two times into each
# slot of the cache.
cache_records() {
	perl -e \
	    'open my $f, "+<", $ARGV[0] or die; seek $f, 4096 + 3 * 4096 * 8, 0;
	    print $f pack("A16LL", "tag", $ARGV[1], $ARGV[2]) x (4096 * 128)' \
	    "$cache" "$@"
}

@test "kpopd refuses logins while all slots of the replay cache are in use, logs the reason, and accepts logins later" {
	preloaded
	apreq $service >"$WORLD/recorded"
	is_in "$(shows "$WORLD/recorded")"
	cache_records $(($(date +%s) + 290)) 4294967295
	run pop alice QUIT
	[[ $output != *+OK* ]]
	log_has 'refused .*error="replay cache: too many logins"'
	says 600 0 0
	apreq -o 600 $service >"$WORLD/later"
	is_in "$(shows "$WORLD/later")"
}

# two_hosts: starts two kpopd, on 127.0.0.1 and 127.0.0.2, whose state
# directories are one directory, seen through two mounts that cache.
two_hosts() {
	local n=0 name
	two_pids=()
	server_stop
	fuse_twice "$WORLD/host.first" "$WORLD/host.second" cache=3600
	for name in first second; do
		n=$((n + 1))
		perl "$BATS_TEST_DIRNAME/programs/listen.pl" tcp:127.0.0.$n \
		    env ${SANITIZER-} "$KPOPD_BUILD/kpopd" \
		    -d "$WORLD/host.$name/state" -k "$WORLD/server.keytab" \
		    -a 200:200:500:0 3>&- &
		two_pids+=($!)
		await 5 "ss -Hltn src 127.0.0.$n sport = 1109 | grep -q ."
	done
}

# two_hosts_end: ends both, and the mounts.
two_hosts_end() {
	kill "${two_pids[@]}" || true
	wait "${two_pids[@]}" || true
	two_pids=()
	kpopd_ends 10
	fuse_twice_end
}

# show_both MODE COUNT: shows COUNT AP-REQs to both hosts. Prints what
# tests/programs/replay-hosts.py counts.
show_both() {
	apreq -o 60 -n "$2" $service >"$WORLD/both"
	python3 "$BATS_TEST_DIRNAME/programs/replay-hosts.py" "$WORLD/both" \
	    "$1" 127.0.0.1:1109 127.0.0.2:1109
}

# bats test_tags=promise:1
@test "two hosts with one state directory accept an AP-REQ once, even if the kernel keeps the replay cache in memory" {
	two_hosts
	show_both after 1
	for name in first second; do
		# From now on each kernel has all of the cache in memory.
		cat "$WORLD/host.$name/state/replay" >/dev/null
	done
	for mode in after once; do
		run show_both $mode 20
		[[ $output == "never 0, once 20, more 0,"* ]] ||
		    { echo "$mode: $output"; return 1; }
	done
	log_has 'refused .*error="Request is a replay"'
	log_lacks ' (failed|fatal) '
}

@test "two hosts with one state directory can make the replay cache at the same time" {
	two_hosts
	log_mark
	run show_both once 1
	[[ $output == "never 0, once 1, more 0,"* ]] ||
	    { echo "$output"; log_lines; return 1; }
	log_count 1 ' replay .*refuses older authenticators'
}

# check_says [OPTION ...]: prints what kpopd --check says of the replay cache.
check_says() {
	timeout 90 "$KPOPD_BUILD/kpopd" --check -k "$WORLD/server.keytab" "$@" \
	    </dev/null | grep -E '^[a-zFAIL]+ +state [^ ]*/replay:'
}

@test "kpopd --check says whether other hosts accept again what the replay cache has" {
	tls_make
	two_hosts
	show_both after 1
	run check_says -d "$WORLD/host.first/state"
	[[ $output == "ok "*"the hosts that have it accept each"* ]] ||
	    { echo "$output"; return 1; }
	refute check_says -d "$state"
	run check_says -d "$state" -x 127.0.0.1
	[[ $output == "warn "*"can be used on another host"*"tls immediate"* ]]
	run check_says -d "$state" -x 127.0.0.1 $(tls_options) -T require
	[[ $output == "warn "* ]]
	refute check_says -d "$state" -x 127.0.0.1 $(tls_options) -T immediate
	refute check_says -d "$state" -x 127.0.0.1 $(tls_options) -T require -p
}
