#!/usr/bin/env bats
# Strange spools, and what others do to them at the wrong moment: a clear answer, and every kept octet stays.

load helpers/all

setup() {
	begin_test
	realm_login alice
	uid=$(id -u alice)
}

teardown() {
	[ -z "${racer-}" ] || kill "$racer" 2>/dev/null || true
	umount /var/mail/alice 2>/dev/null || true
	umount "$WORLD/ext4" 2>/dev/null || true
	[ ! -d /home/away ] || mv /home/away /home/alice
	end_test
}

# denied 'LOG': the mailbox cannot be opened at all; the log says why.
denied() {
	run pop alice STAT QUIT
	[[ ${lines[-1]} == "-ERR [SYS/PERM]"* ]] || { echo "$output"; return 1; }
	log_has "failed .*$1"
}

@test "a million header lines, and one of 100 MB, are served and removed, in bounded memory" {
	{
		from_line
		perl -e 'print "X-$_: y\n" for 1 .. 1000000; print "X-Long: ", "z" x 100000000, "\n\nbody\n\n"'
		mbox last
	} | store alice
	pop_login alice
	pop_ask STAT '^\+OK 2 '
	[ -n "${SANITIZER-}" ] || [ "$(sed -n 's/VmHWM:[^0-9]*\([0-9]*\).*/\1/p' "/proc/$(child_pid)/status")" -lt 20000 ]
	pop_ask "TOP 2 0"
	while [ "$heard" != . ]; do pop_hear ''; done
	pop_ask "DELE 1"
	pop_patience=30 pop_ask QUIT '^\+OK bye, 1'
	pop_hear_end
	spool_is alice last
}

@test "half a message that a crashed MDA left, and what comes behind it" {
	{ mbox one; from_line; printf 'Subject: half\n\nhalf a li'; } | store alice
	before=$(cat /var/mail/alice | sha256sum)
	run pop alice STAT "RETR 2" QUIT
	[[ $output == *"+OK 2 "*"half a li"* ]]
	[ "$(sha256sum </var/mail/alice)" = "$before" ]
	make_message late | deliver alice
	run pop alice "DELE 1" QUIT
	[[ $output == *"+OK bye"* ]]
	grep -q 'half a li' /var/mail/alice
	grep -q '^Subject: late' /var/mail/alice
	grep -q '^Subject: one' /var/mail/alice && return 1 || :
}

@test "no final newline: the last message goes without a trace, the one before it stays whole" {
	{ mbox one; from_line; printf 'Subject: two\n\nno end'; } | store alice
	pop alice "DELE 2" QUIT
	spool_is alice one
	{ mbox one; from_line; printf 'Subject: two\n\nno end'; } | store alice
	pop alice "DELE 1" QUIT
	cmp /var/mail/alice <(from_line; printf 'Subject: two\n\nno end')
}

@test "a dotlock from the future is somebody's, one without a process becomes stale" {
	mbox one | store alice
	: >/var/mail/alice.lock
	touch -d '+1 hour' /var/mail/alice.lock
	run pop alice STAT QUIT
	[[ ${lines[-1]} == "-ERR [IN-USE] another program"* ]]
	[ -e /var/mail/alice.lock ]
	touch -d '-10 minutes' /var/mail/alice.lock
	run pop alice STAT QUIT
	[[ $output == *"+OK 1 "* ]]
	[ ! -e /var/mail/alice.lock ]
}

@test "a device in the spool's place is refused, and not read" {
	touch /var/mail/alice
	mount --bind /dev/zero /var/mail/alice
	denied 'opening the mailbox" error="(it is not a regular file|Operation not permitted)'
	umount /var/mail/alice
}

@test "a sparse spool of a terabyte keeps its own user busy and nobody else" {
	{ mbox one; from_line; printf 'Subject: hole\n\n'; } | store alice
	truncate -s 1T /var/mail/alice
	pop_open
	pop_hear '^\+OK'
	pop_ask "USER alice"
	pop_say "PASS x"
	log_has 'login .*user=alice'
	mbox two | store bob
	KRB5CCNAME=FILE:$WORLD/bob.cc kinit -k -t "$WORLD/keytabs/bob.keytab" bob
	KRB5CCNAME=FILE:$WORLD/bob.cc run pop bob STAT QUIT
	[[ $output == *"+OK 1 "* ]]
	[ -n "${SANITIZER-}" ] || [ "$(sed -n 's/VmHWM:[^0-9]*\([0-9]*\).*/\1/p' "/proc/$(child_pid)/status")" -lt 20000 ]
	kill -KILL "$(child_pid)"
	pop_hear_end
	[ "$(stat -c %s /var/mail/alice)" -eq $((1 << 40)) ]
	[ ! -e /var/mail/alice.lock ]
}

@test "swapped again and again for a symlink to another's mail: never the other's mail, never a crash" {
	mbox own | store alice
	mbox secret | store bob
	chmod 644 /var/mail/bob
	perl -e 'chdir "/var/mail"; link "alice", "alice.own"; symlink "/var/mail/bob", "alice.link"; my $end = time + 60;
	    while (time < $end) { link "alice.own", "alice.x"; rename "alice.x", "alice"; unlink "alice.own2";
	        symlink "/var/mail/bob", "alice.y"; rename "alice.y", "alice"; }' 3>&- &
	racer=$!
	for _ in $(seq 100); do
		pop alice STAT "RETR 1" "DELE 1" QUIT >>"$WORLD/raced" || true
	done
	kill $racer
	grep -q secret "$WORLD/raced" && return 1 || :
	spool_is bob secret
	cmp /var/mail/alice.own <(mbox own) || [ ! -s /var/mail/alice.own ]
	log_lacks 'fatal'
	rm -f /var/mail/alice*
}

@test "shrunk in the middle of an answer: the connection ends without the dot, and nothing is removed" {
	{ mbox first; from_line; printf 'Subject: large\n\n'; seq 3000000; echo; mbox last; } | store alice
	pop_login alice
	pop_ask "DELE 1"
	pop_say "RETR 2"
	pop_hear '^\+OK'
	mbox first >/var/mail/alice
	cat <&"$pop_in" >"$WORLD/rest"
	[ "$(tail -n 1 "$WORLD/rest" | tr -d '\r')" != . ]
	log_has 'logout .*reason=changed .*deleted=0'
	spool_is alice first
}

@test "an immutable spool and one on a read-only file system: it can be read where it can be opened, QUIT is honest" {
	mbox one two | store alice
	mount --bind /var/mail /var/mail
	mount -o remount,bind,ro /var/mail
	run pop alice STAT QUIT
	umount /var/mail
	[[ ${lines[-1]} == "-ERR [SYS/PERM]"* ]] || { echo "$output"; return 1; }
	log_has 'Read-only file system'
	spool_is alice one two
	# chattr needs a file system that knows it.
	truncate -s 8M "$WORLD/ext4.image"
	mkfs.ext4 -q "$WORLD/ext4.image"
	mkdir -p "$WORLD/ext4"
	mount -o loop "$WORLD/ext4.image" "$WORLD/ext4" || skip "no loop devices for an ext4"
	mbox one two >"$WORLD/ext4/alice"
	chown alice "$WORLD/ext4/alice"
	chmod 755 "$WORLD/ext4"
	server_stop
	server_start -m "mbox:$WORLD/ext4/%u"
	for flag in i a; do
		chattr +$flag "$WORLD/ext4/alice"
		run pop alice "RETR 1" "DELE 1" QUIT
		chattr -$flag "$WORLD/ext4/alice"
		[[ ${lines[-1]} == "-ERR [SYS/"* ]] || { echo "$flag: $output"; return 1; }
		cmp "$WORLD/ext4/alice" <(mbox one two)
	done
	run pop alice "DELE 1" QUIT
	[[ $output == *"+OK bye, 1"* ]]
	server_stop
	server_start
}

@test "a .k5login of a gigabyte, or a directory in its place, lets nobody in whom it does not name" {
	mbox one | store alice
	su alice -c 'truncate -s 1G ~/.k5login'
	run pop alice STAT QUIT
	rm /home/alice/.k5login
	[[ $output == *"-ERR [AUTH]"* || $output != *"+OK 1 "* ]]
	su alice -c 'mkdir ~/.k5login'
	run pop alice STAT QUIT
	rmdir /home/alice/.k5login
	[[ ${lines[-1]} == "-ERR [AUTH]"* ]]
	run pop alice STAT QUIT
	[[ $output == *"+OK 1 "* ]]
}

@test "a home directory that is missing or shut does not keep the spool from its user" {
	mbox one | store alice
	mv /home/alice /home/away
	run pop alice STAT QUIT
	mv /home/away /home/alice
	[[ $output == *"+OK 1 "* ]]
	chmod 0 /home/alice
	run pop alice STAT QUIT
	chmod 755 /home/alice
	[[ $output == *"+OK 1 "* || ${lines[-1]} == "-ERR [AUTH]"* ]]
}

@test "a journal of another mailbox, or half of one, changes nothing: it is set aside" {
	[ -z "${SANITIZER-}" ] || skip "ASan's own system calls are in the way"
	server_stop
	server_start -l fcntl
	doomed=(2)
	mbox one two three >"$WORLD/old"
	killed_quit together fsync 3
	cp "$state/users/$uid/j" "$WORLD/journal"
	rm "$state/users/$uid/j"
	mbox other mail >"$WORLD/alice.other"
	cp "$WORLD/alice.other" /var/mail/alice.other
	chown alice:mail /var/mail/alice.other
	mv /var/mail/alice.other /var/mail/alice
	for size in 100000 5000 4096 4000 100 1; do
		for name in j j.cut; do
			head -c $size "$WORLD/journal" >"$state/users/$uid/$name"
			chown alice "$state/users/$uid/$name"
			run pop alice QUIT
			[[ $output == *"+OK 2 messages"* ]] || { echo "$size $name: $output"; return 1; }
			spool_is alice other mail
		done
	done
	ls "$state/users/$uid" | grep -q '^rescue'
	server_stop
	server_start
}
