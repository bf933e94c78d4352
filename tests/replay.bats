#!/usr/bin/env bats
# What was recorded on the way opens nothing later: the replay cache, its file,
# and what may happen to it.

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
	[ -z "${mounted-}" ] || umount "$mounted" || status=1
	end_test || status=1
	rm -rf "$cache"
	[ -z "${changed-}" ] || { server_stop; server_start; }
	return $status
}

# of NAME COMMAND …: with NAME's ticket in place of alice's.
of() {
	KRB5CCNAME=FILE:$WORLD/cc.$1 realm_login "$1"
	KRB5CCNAME=FILE:$WORLD/cc.$1 "${@:2}"
}

# bats test_tags=catalogue:19-2,promise:1
@test "an AP-REQ is accepted once, however fast or slow its client's clock and however late it comes again" {
	preloaded
	of mallory apreq -n $(long && echo 6000 || echo 600) $service \
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
			# Others fill the cache meanwhile.
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
@test "a server's clock that jumps ahead or back, and returns, forgets nothing" {
	preloaded
	apreq $service >"$WORLD/recorded"
	is_in "$(shows "$WORLD/recorded")"
	for jump in 3600 -3600 86000 -86400; do
		says $jump 0 0
		# By a client whose clock has jumped as well; before its time a
		# client would not use its ticket.
		if [ $jump -gt 0 ]; then
			of mallory apreq -o $jump -n 30 $service >"$WORLD/many"
			[ "$(churn "$WORLD/many")" -eq 30 ]
		fi
		is_out "$(shows "$WORLD/recorded")"
		says 0 0 0
		is_out "$(shows "$WORLD/recorded")" ||
		    { echo "after $jump"; return 1; }
	done
}

# bats test_tags=catalogue:19-3,promise:1
@test "a recorded AP-REQ that is altered where nothing protects it is the same one" {
	apreq $service >"$WORLD/recorded"
	is_in "$(shows "$WORLD/recorded")"
	# The options; the realm and name of the service; longer lengths; more
	# behind it, inside and out.
	for change in 's/\x03\x05\x00\x00\x00\x00\x00/\x03\x05\x00\x20\x00\x00\x00/' 's/\x03\x05\x00\x00\x00\x00\x00/\x03\x05\x00\x00\x00\x00\x01/' \
	    's/KPOPD\.TEST/KPOPD.TEXT/' 's/mail\.kpopd/mail.kpopx/' \
	    's/^\x6e\x82/\x6e\x83\x00/' 's/$/x/s' \
	    's/^\x6e\x82(..)\x30\x82(..)(.*)$/"\x6e\x82" . pack("n", 2 + unpack "n", $1) . "\x30\x82" . pack("n", 2 + unpack "n", $2) . "$3\xa5\x00"/se'; do
		perl -0777 -pe "$change" "$WORLD/recorded" >"$WORLD/altered"
		! cmp -s "$WORLD/recorded" "$WORLD/altered" ||
		    { echo "$change changes nothing"; return 1; }
		is_out "$(shows "$WORLD/altered")" ||
		    { echo "$change"; return 1; }
	done
	log_has 'refused .*error="Request is a replay"'
}

# bats test_tags=catalogue:19-4
@test "clients of one principal at once are no replays of each other" {
	# All but the confounder is the same.
	now=$(date +%s)
	for i in 1 2; do apreq -t $now $service >"$WORLD/same.$i"; done
	! cmp -s "$WORLD/same.1" "$WORLD/same.2"
	is_in "$(shows "$WORLD/same.1")"
	is_in "$(shows "$WORLD/same.2")"
	is_out "$(shows "$WORLD/same.1")"
}

# as_gssapi FILE: an AP-REQ as a first token of AUTH GSSAPI (RFC 2743 section
# 3.1); what the server says.
as_gssapi() {
	perl -0777 -ne \
	    'my $t = "\x06\x09\x2a\x86\x48\x86\xf7\x12\x01\x02\x02\x01\x00$_";
	    print "\x60\x82", pack("n", length $t), $t' "$1" |
	    base64 -w 0 >"$WORLD/token"
	printf 'AUTH GSSAPI %s\r\n*\r\nQUIT\r\n' "$(cat "$WORLD/token")" | wire
}

# bats test_tags=catalogue:19-6
@test "what was made for KPOP opens no AUTH GSSAPI, nor the reverse, nor either twice; both remember in one file" {
	preloaded -p
	apreq -o 290 $service >"$WORLD/kpop"
	apreq -o 290 -g $service >"$WORLD/gssapi"
	# The offer, which is a token of the mechanism.
	[[ $(as_gssapi "$WORLD/gssapi") == *$'\n+ BQ'* ]]
	[[ $(as_gssapi "$WORLD/gssapi") != *$'\n+ BQ'* ]]
	log_has 'refused .*reason="GSSAPI" error="Request is a replay"'
	says 310 0 0
	[[ $(as_gssapi "$WORLD/gssapi") != *$'\n+ BQ'* ]]
	[[ $(as_gssapi "$WORLD/kpop") != *$'\n+ BQ'* ]]
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
@test "a whole AUTH GSSAPI without mutual authentication, recorded, is good once; so it is with a fast clock, and later" {
	preloaded -p
	for fast in 295 0; do
		says 0 0 0
		perl -e 'open my $f, ">", $ARGV[0] or die; print $f pack "q4", $ARGV[1], 0, 0, 0' "$WORLD/client.clock" $fast
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
				of mallory apreq \
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

@test "real clients of AUTH GSSAPI without mutual authentication are let in" {
	changed=yes
	server_stop
	server_start -p
	run "$KPOPD_BUILD/tests/programs/gsstalk" 1 0 oneway
	[[ $output == *"+OK 2 messages"* ]] || { echo "$output"; return 1; }
}

# bats test_tags=promise:1
@test "of fifty connections that show one AP-REQ at once, one gets in, also where the cache has to be made first" {
	for round in 1 2 3; do
		if [ $round -gt 1 ]; then rm -f "$cache"; fi
		# One made now is not older than the new cache.
		apreq -o 2 $service >"$WORLD/one"
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

@test "two services with one state directory share one cache" {
	changed=yes
	apreq $service >"$WORLD/one"
	is_in "$(shows "$WORLD/one")"
	server_stop
	server_start -t 20
	is_out "$(shows "$WORLD/one")"
	log_has 'refused .*error="Request is a replay"'
}

# bats test_tags=fault:6-2,promise:8
@test "a user who fills the disk of the state directory keeps nobody out; where the cache finds no space, nobody gets in" {
	changed=yes
	server_stop
	mkdir -p "$state"
	mount -t tmpfs -o size=20m,mode=755 st "$state"
	mounted=$state
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
	server_stop
}

@test "zeros, garbage, half a file: put right by the next connection; what is older is refused then" {
	apreq -o -5 $service >"$WORLD/recorded"
	is_in "$(shows "$WORLD/recorded")"
	inode=$(stat -c %i "$cache") size=$(stat -c %s "$cache")
	for harm in 'cache_fill 0' 'cache_fill 255' 'truncate -s 0 $cache' \
	    'truncate -s 5000 $cache' 'truncate -s 99999999 $cache'; do
		eval "$harm"
		log_mark
		is_out "$(shows "$WORLD/recorded")" ||
		    { echo "$harm"; return 1; }
		log_has "replay .*what=\"$cache is begun anew\""
		run pop alice QUIT
		[[ $output == *"messages left"* ]] ||
		    { echo "$harm: $output"; return 1; }
		[ "$(stat -c '%i %s %U %a' "$cache")" = \
		    "$inode $size root 600" ]
	done
	# Without the head, which is whole: records that nobody has made.
	cache_fill 0 4096
	run pop alice QUIT
	[[ $output == *"messages left"* ]]
}

@test "what root has put in the cache's place by mistake lets nobody in, and the log names it" {
	for what in 'ln -s /etc/passwd' 'mkfifo -m 600' 'mkdir -m 700' \
	    'ln -s nowhere' 'install -o daemon -m 600 /dev/null' \
	    'install -m 660 /dev/null'; do
		rm -rf "$cache"
		$what "$cache"
		log_mark
		run pop alice QUIT
		[[ $output != *+OK* ]] || { echo "$what: $output"; return 1; }
		log_has \
		    "failed .*what=\"opening the replay cache $cache\" error=\""
		[ ! -e "$state/nowhere" ]
	done
	rm -rf "$cache"
	run pop alice QUIT
	[[ $output == *"messages left"* ]]
}

@test "what the version before has left is taken away" {
	rm -f "$cache"
	mkdir -p -m 700 "$state/preauth/replay"
	: >"$state/preauth/replay/cache"
	chown -R kpopd: "$state/preauth/replay"
	run pop alice QUIT
	[[ $output == *"messages left"* ]]
	[ ! -e "$state/preauth/replay" ]
}

# at_limit NAME: a login of NAME's; then as if it had shown as many as it may.
at_limit() {
	cache_fill 0 4096
	of "$1" apreq -n 1 $service >"$WORLD/first"
	[ "$(churn "$WORLD/first")" -eq 1 ]
	perl -e 'open my $f, "+<", $ARGV[0] or die; seek $f, 4096, 0; read $f, my $t, 3 * 4096 * 8; my $n = 0;
	    for (0 .. length($t) / 8 - 1) { my ($epoch, $now, $before) = unpack "LSS", substr $t, 8 * $_, 8; next unless $now;
		$n++; seek $f, 4096 + 8 * $_, 0; print $f pack "LSS", $epoch, 32768, $before }
	    $n == 3 or die "$n counters"' "$cache"
}

# bats test_tags=catalogue:19-8
@test "a principal at its limit is refused, and the log names it; nobody else is" {
	at_limit mallory
	of mallory apreq -n 3 $service >"$WORLD/many"
	[ "$(churn "$WORLD/many")" -eq 0 ]
	log_count 3 'refused .*reason="Kerberos" error="replay cache: too many logins of principal mallory@KPOPD\.TEST"'
	run pop alice QUIT
	[[ $output == *"messages left"* ]]
	of bob run pop bob QUIT
	[[ $output == *"messages left"* ]]
}

# next_gets_in: a login while the compromised process may still be there.
next_gets_in() {
	[[ $(pop alice QUIT) == *"messages left"* ]]
}

# bats test_tags=fault:16-2
@test "a compromised pre-auth process can neither open, shorten, remove nor chmod the cache; the next login goes on" {
	[ -z "${SANITIZER-}" ] ||
	    skip "there is no filter in a build with sanitizers"
	changed=yes
	server_stop
	server_start -t 4
	pop_open
	pop_hear '^\+OK'
	preauth=$(child_pid)
	fd=$(fds "$preauth" | sed -n "s,^\([0-9]*\) $cache\$,\1,p")
	[ -n "$fd" ]
	# Opening is permitted by the filter, and by nothing else.
	captive "$preauth" "openat -100 /replay 2" \
	    "openat -100 /replay/cache 65 384" "openat -100 /../replay 2" \
	    "pwrite64 $fd x 1 $(stat -c %s "$cache")"
	for n in $returned; do [ "$n" -lt 0 ]; done
	[ "$(stat -c '%U %a' "$cache")" = "root 600" ]
	# Each of these ends it.
	for call in "ftruncate $fd 0" "fchmod $fd 0" \
	    "unlinkat -100 /krb5.conf 0" "fsync $fd" "flock $fd 2" \
	    "fallocate $fd 3 0 4096"; do
		pop_close
		pop_open
		pop_hear '^\+OK'
		log_mark
		captive "$(child_pid)" "$call"
		log_has "fatal .*the pre-auth process was ended for the system call ${call%% *}" || { echo "$call"; return 1; }
		[ "$(stat -c '%U %a %s' "$cache")" = \
		    "root 600 $(stat -c %s "$cache")" ]
		next_gets_in
	done
	pop_close
}

# bats test_tags=fault:16-3
@test "records and counters of all ones, as a compromised pre-auth process could leave them, keep nobody out" {
	pop alice QUIT
	cache_fill 255 4096
	next_gets_in
	next_gets_in
	cache_fill 127 4096
	next_gets_in
}

# cache_records CTIME STORED: each slot has such a record.
cache_records() {
	perl -e \
	    'open my $f, "+<", $ARGV[0] or die; seek $f, 4096 + 3 * 4096 * 8, 0;
	    print $f pack("A16LL", "tag", $ARGV[1], $ARGV[2]) x (4096 * 128)' \
	    "$cache" "$@"
}

@test "where each slot is needed everybody is refused, the log says why, and it ends with the times of the records" {
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
