#!/usr/bin/env bats
# Checks kpopd on file systems that other hosts change. A FUSE file system
# (tests/programs/fuse.pl) lets the kernel keep names, sizes, times and content
# for an hour. A test that writes to $WORLD/fuse is another host: the kernel
# learns of the change only if it asks. The file system also keeps sizes and
# times itself (client=1), until it is asked for more than these.
# tests/hosts.bats has real hosts.

load helpers/all

setup_file() { :; }
teardown_file() { :; }

setup() {
	begin_test
	realm_login alice
	mkdir -p /srv/spool
	chgrp mail /srv/spool
	chmod 2775 /srv/spool
	mbox one two three | store alice
	cp -a "$(spool alice)" /srv/spool
}

teardown() {
	local status=0
	if [ -n "${first-}" ]; then
		kill -KILL "$first"
		umount -l /srv/spool
		first=
	fi
	fuse_end
	end_test || status=1
	rm -rf /srv/spool /home/alice/Maildir
	return $status
}

# share [OPTION ...]: mounts the file system over the spools, and starts kpopd.
share() {
	fuse_over /srv/spool cache=3600 client=1 "$@"
	server_start -m mbox:/srv/spool/%u
}

# elsewhere NAME ...: another host appends these messages to alice's spool.
elsewhere() {
	mbox "$@" >>"$WORLD/fuse/alice"
}

# server_has NAME ...: returns true if the file server has exactly these
# messages of alice.
server_has() {
	cmp "$WORLD/fuse/alice" <(mbox "$@") ||
	    { cat "$WORLD/fuse/alice"; log_lines; return 1; }
}

@test "a message that another host delivers before QUIT stays, whatever is removed" {
	share
	while read -r marked left; do
		mbox one two three >"$WORLD/fuse/alice"
		pop_login alice
		for one in ${marked//,/ }; do pop_ask "DELE $one"; done
		elsewhere new
		pop_say QUIT
		pop_hear '^\+OK bye' || { log_lines; return 1; }
		pop_hear_end
		pop_close
		server_has ${left//,/ } new
	done <<-END
	1,2,3
	2 one,three
	1 two,three
	3 one,two
	1,3 two
	END
	log_lacks recovery
}

@test "a mailbox that another host has changed in place is not taken for the old one" {
	mbox one two six | store alice
	cp -a "$(spool alice)" /srv/spool
	share
	pop_login alice
	pop_say "TOP 1 0"
	pop_hear_lines
	mbox six two one >"$WORLD/fuse/alice"
	pop_say "RETR 1"
	pop_hear_lines
	[[ ${lines[*]} == *"Subject: one"* ]]
	pop_ask "DELE 1"
	mbox new two one >"$WORLD/fuse/alice"
	pop_say QUIT
	pop_hear '^\+OK bye, 2 messages left' || { log_lines; return 1; }
	pop_close
	server_has new two
}

@test "a login finds what another host has just changed, also in its list of the messages" {
	# The list counts as stable, so only the spool's times are compared.
	share behind=3600
	[[ $(pop alice STAT QUIT) == *"+OK 3 messages"* ]]
	elsewhere new
	[[ $(pop alice STAT QUIT) == *"+OK 4 messages"* ]]
	mbox two >"$WORLD/fuse/alice"
	run pop alice "RETR 1" QUIT
	[[ $output == *"Subject: two"* ]] || { echo "$output"; return 1; }
	rm "$WORLD/fuse/alice"
	elsewhere three two one
	chown alice:mail "$WORLD/fuse/alice"
	[[ $(pop alice "TOP 3 0" QUIT) == *"Subject: one"* ]]
}

@test "a login finds a mailbox that another host has just made, although the kernel remembers that there was none" {
	rm /srv/spool/alice
	share
	[[ $(pop alice STAT QUIT) == *"+OK 0 messages"* ]]
	elsewhere four
	chown alice:mail "$WORLD/fuse/alice"
	[[ $(pop alice STAT QUIT) == *"+OK 1 message"* ]]
}

@test "a list is used under another device number, as another host or a new mount has it" {
	share behind=3600 trace=1
	before=$(stat -c %d /srv/spool)
	[[ $(pop alice STAT UIDL QUIT) == *"+OK 3 messages"* ]]
	first=$fuse_pid
	# The first mount stays, because the kernel gives its number away again.
	fuse_mount /srv/spool cache=3600 behind=3600 trace=1
	await 5 "[ \$(stat -c %d /srv/spool) -ne $before ]"
	: >"$WORLD/fuse.log"
	[[ $(pop alice STAT UIDL QUIT) == *"+OK 3 messages"* ]]
	grep '^OPEN /alice' "$WORLD/fuse.log"
	refute grep '^READ /alice' "$WORLD/fuse.log"
}

@test "a mailbox changed within a step of a clock a minute behind or ahead is read again" {
	for behind in 61 -61; do
		mbox one two six >/srv/spool/alice
		chown alice:mail /srv/spool/alice
		share behind=$behind step=100
		[[ $(pop alice "UIDL 1" QUIT) =~ "+OK 1 "([^$'\n']+) ]]
		one=${BASH_REMATCH[1]}
		mbox six two one >"$WORLD/fuse/alice"
		[[ $(pop alice "UIDL 3" QUIT) == *"+OK 3 $one"* ]] ||
		    { echo "$behind"; return 1; }
		server_stop
		fuse_end
	done
}

@test "a login finds an unfinished removal of another host, although the kernel remembers that none was there" {
	server_start -m mbox:/srv/spool/%u
	[[ $(pop alice QUIT) == *"3 messages left" ]]
	own=$(cd "$state/users" && ls -d "$(id -u alice)"/mbox-*)
	fuse_over "$state/users" cache=3600 client=1 listings=1
	[[ $(pop alice QUIT) == *"3 messages left" ]]
	log_lacks rescue
	head -c 5000 /dev/zero >"$WORLD/fuse/$own/j"
	chown alice: "$WORLD/fuse/$own/j"
	[[ $(pop alice QUIT) == *"3 messages left" ]]
	log_has 'rescue .*reason="damaged journal"'
}

@test "a session that has lost its locks removes nothing while the removal of a later session is unfinished" {
	local state=/srv/spool/state later
	share locks=1 lost="$WORLD/lost" fail="$WORLD/fuse.fail"
	server_stop
	server_start -m mbox:/srv/spool/%u -l fcntl
	pop_login alice
	pop_ask "DELE 2"
	await 5 '! pgrep -u kpopd -x kpopd >/dev/null'
	first_session=$(pgrep -xc kpopd)
	touch "$WORLD/lost"
	# The later session and its recovery stop after they have written the
	# kept messages, and before they truncate the mailbox.
	fuse_hang '^WRITE /alice$'
	pop alice "DELE 1" QUIT >"$WORLD/later" 3>&- &
	later=$!
	fuse_hangs
	echo '^FSYNC /alice$' >"$WORLD/fuse.fail"
	fuse_answers
	wait $later || :
	log_has 'what="opening the mailbox" error="Input/output error"'
	await 10 "[ \$(pgrep -xc kpopd) -eq $first_session ]"
	rm "$WORLD/fuse.fail"
	refute server_has two three >/dev/null
	pop_say QUIT
	pop_hear '^-ERR \[SYS/TEMP\]' || { log_lines; return 1; }
	pop_hear_end
	log_has 'what="removing messages" error="the removal of a later session is unfinished'
	[[ $(pop alice STAT QUIT) == *"+OK 2 messages"* ]]
	server_has two three
}

@test "a login is refused if the file server cannot be asked" {
	share fail="$WORLD/fuse.fail"
	for call in 'FSYNC /alice' 'GETATTR /alice'; do
		echo "^$call" >"$WORLD/fuse.fail"
		log_mark
		run pop alice QUIT
		[[ $output == *"-ERR [SYS/TEMP]"* ]] ||
		    { echo "$call: $output"; return 1; }
		log_has 'failed .*mailbox.*Input/output error'
		rm "$WORLD/fuse.fail"
	done
	[[ $(pop alice QUIT) == *"3 messages left" ]]
}

@test "a Maildir shows at once what another host has delivered, renamed and removed" {
	mkdir -p /home/alice/Maildir/{tmp,new,cur}
	for name in one two; do
		make_message $name >"/home/alice/Maildir/new/1.$name.host"
	done
	chown -R alice: /home/alice/Maildir
	fuse_over /home/alice/Maildir cache=3600 client=1 behind=3600 listings=1
	server_start -m maildir:%h/Maildir
	[[ $(pop alice STAT QUIT) == *"+OK 2 messages"* ]]
	[[ $(pop alice STAT QUIT) == *"+OK 2 messages"* ]]
	make_message three | install -o alice /dev/stdin \
	    "$WORLD/fuse/new/2.three.host"
	[[ $(pop alice STAT QUIT) == *"+OK 3 messages"* ]]
	mv "$WORLD/fuse/new/1.two.host" "$WORLD/fuse/cur/1.two.host:2,S"
	rm "$WORLD/fuse/new/1.one.host"
	run pop alice UIDL "RETR 1" QUIT
	[[ $output == *"1 1.two.host"*"2 2.three.host"*"Subject: two"* ]] ||
	    { echo "$output"; log_lines; return 1; }
	pop_login alice
	pop_ask "DELE 1"
	mv "$WORLD/fuse/cur/1.two.host:2,S" "$WORLD/fuse/cur/1.two.host:2,RS"
	make_message four | install -o alice /dev/stdin \
	    "$WORLD/fuse/new/3.four.host"
	pop_say QUIT
	pop_hear '^\+OK bye, 1 messages left' || { log_lines; return 1; }
	pop_close
	[ "$(cd "$WORLD/fuse" && echo {cur,new}/*)" = \
	    "cur/* new/2.three.host new/3.four.host" ]
}

@test "kpopd --check names a file system that other hosts change, and whether its times are kept" {
	for cache in 3600 0; do
		fuse_over /srv/spool cache=$cache
		run "$KPOPD_BUILD/kpopd-check" --check -d "$state" \
		    -m mbox:/srv/spool/%u -k "$WORLD/server.keytab" alice
		said='^warn.*: this host keeps sizes and times .*(fuse)'
		[ $cache = 3600 ] ||
		    said='^ok .*(fuse) is asked for sizes and times'
		grep "$said" <<<"$output" || { echo "$output"; return 1; }
		fuse_end
	done
	run "$KPOPD_BUILD/kpopd-check" --check -d "$state" \
	    -m mbox:/var/mail/%u -k "$WORLD/server.keytab" alice
	[[ $output == *"/var/mail/alice: an mbox"* ]]
	refute grep "file system (" <<<"$output"
}

@test "no login is accepted by an access file that another host extends while it is read" {
	local file=/srv/spool/access before
	share
	server_stop
	server_start -m mbox:/srv/spool/%u --access $file
	echo 'alice@KPOPD.TEST alice full' >"$WORLD/fuse/access"
	fuse_hang '^READ /access'
	pop alice QUIT >"$WORLD/half" 2>&1 3>&- &
	before=$!
	fuse_hangs
	echo '*@KPOPD.TEST * deny' >>"$WORLD/fuse/access"
	fuse_answers
	wait $before || :
	refute grep '^+OK bye' "$WORLD/half"
	log_has 'refused .*access: it changed while it was read'
	echo 'alice@KPOPD.TEST alice full' >"$WORLD/fuse/access"
	pop alice QUIT | grep '^+OK bye'
}

# check_alice [SPOOLS]: prints what kpopd --check finds about alice.
check_alice() {
	"$KPOPD_BUILD/kpopd-check" --check -d "$state" \
	    -m "mbox:${1-/srv/spool}/%u" -k "$WORLD/server.keytab" alice
}

@test "kpopd --check reports if other hosts have only the spools or only the state" {
	local warns='^warn  mailbox /srv/spool: '
	server_start -m mbox:/srv/spool/%u
	pop alice QUIT
	refute grep 'other hosts' < <(check_alice)
	fuse_over /srv/spool
	check_alice | grep "${warns}other hosts may change it, but do not see "
	rm -rf "$state/users"/*
	check_alice | grep "${warns}other hosts may change it, but do not see "
	fuse_end
	fuse_over "$state/users"
	check_alice | grep "${warns}no other host sees it, but other hosts may "
	fuse_end
	mkdir -p /srv/spool/all /srv/spool/state/users
	mv /srv/spool/alice /srv/spool/all
	fuse_over /srv/spool
	local state=/srv/spool/state
	check_alice /srv/spool/all >"$WORLD/all" || :
	grep '^[a-z]*  *mailbox /srv/spool/all' "$WORLD/all"
	refute grep 'other hosts may' "$WORLD/all"
}

@test "no login uses the directory below a mount of STATE/users that is missing" {
	mkdir -p "$state/users"
	chown nobody "$state/users"
	server_start -m mbox:/srv/spool/%u
	run pop alice QUIT
	chown root "$state/users"
	[[ $output == *"-ERR [SYS/TEMP]"* ]]
	log_has 'fatal .*users has another owner, uid '
	[ -z "$(ls "$state/users")" ]
}
