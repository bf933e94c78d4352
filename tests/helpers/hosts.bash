# Several mail hosts with one distributed file system: a real GlusterFS with
# three bricks, two KDCs and HAProxy. Each host has namespaces of its own within
# those of tests/world, and the addresses and names of examples/hosts, whose
# files it uses unchanged.
#
#	a, b	mail hosts: brick, mounts, kpopd
#	c	brick, second KDC
#	p	pop.example.org: HAProxy, first KDC
#	x	clients
#
# A host's disk is $WORLD/hosts/NAME. Test files that need this file load it.

hosts_all="a b c p x"
hosts_bricks="a b c"
hosts_users="alice bob carol"

# host_address NAME: prints the host's address.
host_address() {
	case $1 in
	a) echo 192.0.2.1 ;;
	b) echo 192.0.2.2 ;;
	c) echo 192.0.2.3 ;;
	p) echo 192.0.2.9 ;;
	x) echo 192.0.2.10 ;;
	esac
}

# hosts_missing: prints why the hosts cannot be had here, or nothing.
hosts_missing() {
	local program
	for program in glusterd gluster mount.glusterfs haproxy krb5kdc; do
		command -v "$program" >/dev/null ||
		    { echo "$program is not installed"; return; }
	done
	[ -c /dev/fuse ] && (: <>/dev/fuse) 2>/dev/null ||
	    echo "this kernel has no FUSE"
}

# host NAME COMMAND ...: runs the command on the host.
host() {
	local pid
	pid=$(cat "$WORLD/hosts/$1/pid") || return
	shift
	nsenter -t "$pid" -m -n -p -u -i -- env -i LC_ALL=C HOME=/root \
	    PATH=/usr/sbin:/usr/bin:/sbin:/bin WORLD="$WORLD" \
	    KPOPD_BUILD="$KPOPD_BUILD" ${host_env-} "$@"
}

# host_daemon NAME COMMAND ...: runs a command there that leaves a process that
# goes on.
host_daemon() {
	host "$@" </dev/null >>"$WORLD/hosts/$1/console" 2>&1 3>&- 4>&- ||
	    { cat "$WORLD/hosts/$1/console" >&2; return 1; }
}

# host_boot NAME: starts the host's first process, its syslogd and its network.
host_boot() {
	local own=$WORLD/hosts/$1 address unshare pid=
	address=$(host_address "$1")
	mkdir -p "$own"
	# A host that has died may have left this file.
	rm -f "$own/run/ready"
	setsid unshare --mount --net --pid --uts --ipc --fork --kill-child \
	    --mount-proc bash "$BATS_TEST_DIRNAME/programs/host.bash" "$1" \
	    "$address" </dev/null >"$own/console" 2>&1 3>&- &
	unshare=$!
	await 20 "pid=\$(cat /proc/$unshare/task/$unshare/children) &&
	    [ -n \"\$pid\" ] &&
	    [ ! /proc/self/ns/net -ef /proc/\${pid% }/ns/net ]" ||
	    { cat "$own/console"; return 1; }
	echo "${pid% }" >"$own/pid"
	ip link add "v-$1" type veth peer name eth0 netns "${pid% }"
	ip link set "v-$1" master hosts up
	await 20 "[ -e $own/run/ready ]" || { cat "$own/console"; return 1; }
}

# hosts_names: prints the /etc/hosts of all hosts.
hosts_names() {
	local name
	echo "127.0.0.1 localhost"
	for name in $hosts_all; do
		echo "$(host_address "$name") $name.example.org"
	done
	echo "$(host_address p) pop.example.org kdc1.example.org"
	echo "$(host_address c) kdc2.example.org"
}

# hosts_boot: starts all hosts, with the files of examples/hosts.
hosts_boot() {
	local name own pids=()
	ip link add hosts type bridge
	ip link set hosts up
	mkdir -p "$WORLD/hosts"
	for name in $hosts_all; do
		host_boot "$name" &
		pids+=($!)
	done
	for name in "${pids[@]}"; do wait "$name" || return; done
	for name in $hosts_all; do
		own=$WORLD/hosts/$name
		hosts_names >"$own/etc/hosts"
		cp "$top/examples/hosts/krb5.conf" "$own/etc/krb5.conf"
		cp "$top/examples/hosts/kpopd.conf" "$own/etc/kpopd.conf"
		cat "$top/examples/hosts/fstab" >>"$own/etc/fstab"
		mkdir -p "$own/etc/haproxy"
		cp "$top/examples/hosts/haproxy.cfg" "$own/etc/haproxy"
		cp "$top/examples/hosts/gluster-group" \
		    "$own/glusterd/groups/kpopd"
		# The bricks are on a tmpfs, which does not have the times of a
		# disk.
		printf '%s\n' debug.delay-gen=posix \
		    "delay-gen.delay-duration=${hosts_disk-3000}" \
		    delay-gen.enable=fsync,ftruncate,rename \
		    delay-gen.delay-percentage=100 \
		    >"$own/glusterd/groups/disk"
	done
}

# hosts_realm: makes the realm EXAMPLE.ORG and the keytabs, and starts both
# KDCs. The second KDC has a copy of the first one's database.
hosts_realm() {
	local own=$WORLD/hosts name
	cat >"$own/kdc.conf" <<-END
	[realms]
		EXAMPLE.ORG = {
			database_name = /var/lib/kpopd/principal
			key_stash_file = /var/lib/kpopd/stash
			acl_file = /var/lib/kpopd/acl
			kdc_ports = 88
			kdc_tcp_ports = 88
		}
	END
	cp "$own/kdc.conf" "$own/p/etc/kdc.conf"
	cp "$own/kdc.conf" "$own/c/etc/kdc.conf"
	{
		for name in $hosts_users; do
			echo "addprinc -randkey $name"
			echo "ktadd -k $own/$name.keytab $name"
		done
		for name in pop a b; do
			echo "addprinc -randkey pop/$name.example.org"
		done
		for name in a b; do
			echo "ktadd -norandkey -k $own/$name/etc/kpopd.keytab" \
			    "pop/pop.example.org pop/$name.example.org"
		done
	} >"$own/kadmin.in"
	local host_env=KRB5_KDC_PROFILE=/etc/kdc.conf
	host p kdb5_util create -r EXAMPLE.ORG -s -P throwaway
	host p kadmin.local <"$own/kadmin.in"
	host p kdb5_util dump "$own/dump"
	cp "$own/p/kpopd/stash" "$own/c/kpopd/stash"
	host c kdb5_util load "$own/dump"
	hosts_kdc p
	hosts_kdc c
}

# hosts_kdc HOST: starts the host's KDC.
hosts_kdc() {
	host_env=KRB5_KDC_PROFILE=/etc/kdc.conf host_daemon "$1" \
	    krb5kdc -r EXAMPLE.ORG -P /run/krb5kdc.pid
	await 5 "host $1 ss -Hlun sport = 88 | grep -q ."
}

# host_glusterd HOST: starts the host's glusterd, which starts the brick if it
# is part of a volume. Waits until glusterd answers.
host_glusterd() {
	host_daemon "$1" glusterd --log-file=/var/log/glusterfs/glusterd.log
	await 20 "host $1 gluster --mode=script pool list >/dev/null 2>&1"
}

# gluster_on HOST ARGUMENT ...: runs gluster(8) there.
gluster_on() {
	local name=$1
	shift
	host "$name" gluster --mode=script "$@"
}

# admin_block FIRST: prints the commands of docs/ADMIN.md that begin so.
admin_block() {
	"$top/tests/programs/document-blocks.py" "$top/docs/ADMIN.md" "$1"
}

# hosts_volume: starts glusterd on all hosts of bricks, and makes the volume as
# the documentation has it.
hosts_volume() {
	local name pids=()
	for name in $hosts_bricks; do
		host_glusterd "$name" &
		pids+=($!)
	done
	for name in "${pids[@]}"; do wait "$name"; done
	admin_block "gluster peer probe" | host a bash
	await 20 "[ \$(gluster_on c pool list | grep -c Connected) -eq 3 ] &&
	    [ \$(gluster_on b pool list | grep -c Connected) -eq 3 ]"
	admin_block "gluster volume create" | sed \
	    's/^\(gluster volume \)start/\1set mail group disk\n&/' |
	    host a bash
	await 20 'bricks_are_up a b c'
}

# bricks_are_up HOST ...: returns true if the bricks of these hosts are online.
bricks_are_up() {
	local name status
	status=$(gluster_on c volume status mail --xml 2>/dev/null |
	    tr -d ' \n') || return
	for name; do
		grep -Eq "<hostname>$name.example.org</hostname><path>/[^<]*</path><peerid>[^<]*</peerid><status>1<" \
		    <<<"$status" || return
	done
}

# host_mount HOST [DIRECTORY ...]: mounts the volume with the documented options
# on /srv/mail, and with GlusterFS's own on /srv/plain, or only on one of them.
host_mount() {
	local name=$1 directory
	shift
	[ $# -gt 0 ] || set -- /srv/mail /srv/plain
	for directory; do
		case $directory in
		/srv/mail) host_daemon "$name" mount /srv/mail ;;
		*) host_daemon "$name" mount -t glusterfs localhost:/mail \
		    "$directory" ;;
		esac || return
		await 10 "host $name mountpoint -q $directory"
	done
}

# hosts_mode coherent|loose|caching|default: sets the volume's options to those
# of examples/hosts (coherent), to GlusterFS's own (default), to these with the
# timeouts of examples/hosts (caching), or to those of examples/hosts without
# client.strict-locks (loose). Sets $hosts_mail to the mount that fits, and
# starts kpopd there. Mounts anew, because calls may fail for a moment after the
# options of a mounted volume have changed.
hosts_mode() {
	local name
	gluster_on a volume set mail group kpopd
	hosts_mail=/srv/mail
	case $1 in
	coherent) ;;
	loose) set -- "$1" '^client.strict-locks' ;;
	caching) hosts_mail=/srv/plain && set -- "$1" '^performance' ;;
	*) hosts_mail=/srv/plain ;;
	esac
	[ "$1" = coherent ] ||
	    for name in $(cut -d= -f1 "$top/examples/hosts/gluster-group" |
		grep "${2-.}"); do
		gluster_on a volume reset mail "$name"
	done
	for name in a b; do
		kpopd_off $name
		! host $name mountpoint -q "$hosts_mail" ||
		    host $name umount -l "$hosts_mail"
		host_mount $name "$hosts_mail"
		kpopd_on $name
	done
	echo "$1" >"$WORLD/hosts/mode"
}

# hosts_proxy: starts HAProxy on p.
hosts_proxy() {
	host_daemon p haproxy -D -f /etc/haproxy/haproxy.cfg \
	    -p /run/haproxy.pid
	await 5 'host p ss -Hltn sport = 1109 | grep -q .'
}

# hosts_start: starts all of it, with kpopd on a and b.
hosts_start() {
	hosts_boot || return
	hosts_realm >"$WORLD/hosts/realm.log" 2>&1 &
	local realm=$! name
	hosts_volume >"$WORLD/hosts/volume.log" 2>&1 ||
	    { cat "$WORLD/hosts/volume.log" >&2; return 1; }
	wait $realm || { cat "$WORLD/hosts/realm.log" >&2; return 1; }
	hosts_mail=/srv/mail
	host_mount a
	host_mount b
	admin_block "mkdir -p /srv/mail" | host a bash
	host a mkdir /srv/mail/maildir
	for name in a b; do kpopd_on "$name"; done
	hosts_proxy
	for name in $hosts_users; do
		host x kinit -c "FILE:/run/$name" -k \
		    -t "$WORLD/hosts/$name.keytab" "$name"
	done
}

# hosts_stop: ends all hosts, and keeps what kpopd has logged.
hosts_stop() {
	local name
	for name in $hosts_all; do
		[ ! -e "$WORLD/hosts/$name/pid" ] || host_kill "$name"
		cat "$WORLD/hosts/$name"/log/syslog 2>/dev/null |
		    sed 's/^[^ ]* //' | grep -a ' kpopd' >>"$WORLD/syslog" || :
	done
	ip link del hosts || :
}

# kpopd_on HOST [KPOPD-OPTION ...]: starts kpopd on the host, with
# examples/hosts/kpopd.conf and these options, in place of one that runs. A host
# that returns has the same options.
kpopd_on() {
	local name=$1
	shift
	kpopd_off "$name"
	printf "${1+%s\n}" "$@" >"$WORLD/hosts/$name/options"
	[ "$hosts_mail" = /srv/mail ] || set -- -d "$hosts_mail/kpopd" \
	    -m "mbox:$hosts_mail/spool/%u" "$@"
	# A listener ends with its parent, so that must be the first process.
	host "$name" setsid -f bash -c '
	    [ $PPID -eq 1 ] || while kill -0 $PPID 2>/dev/null; do
		    sleep 0.02
	    done
	    echo $$ >/run/kpopd.pid
	    exec perl "$@"' bash "$BATS_TEST_DIRNAME/programs/listen.pl" \
	    tcp:0.0.0.0 "$KPOPD_BUILD/kpopd" -a 200:200:500:0 "$@" </dev/null \
	    >"$WORLD/hosts/$name/kpopd.out" 2>&1 3>&-
	await 60 "host $name pgrep -x kpopd >/dev/null &&
	    host $name ss -Hltn sport = 1109 | grep -q ." || {
		cat "$WORLD/hosts/$name/kpopd.out" >&2
		tail -n 20 "$WORLD/hosts/$name/log/syslog" >&2
		host "$name" ps axf >&2
		return 1
	}
}

# kpopd_off HOST: ends all processes of kpopd on the host.
kpopd_off() {
	host "$1" pkill -KILL -x kpopd || return 0
	await 5 "! host $1 pgrep -x kpopd >/dev/null"
}

# hosts_pop SERVER USER COMMAND ...: runs a whole session from x with the server
# (a, b, or pop, which is HAProxy), and prints the answers without CRs. The exit
# status is kpopc's.
hosts_pop() {
	local server=$1 user=$2
	shift 2
	printf '%s\r\n' "USER $user" "PASS x" "$@" |
	    host_env="KRB5CCNAME=FILE:/run/$user" host x \
		"$KPOPD_BUILD/kpopc" "$server.example.org" 1109 | tr -d '\r'
	return "${PIPESTATUS[1]}"
}

# hosts_dial SERVER USER: begins a dialogue of the user from x with the server,
# as pop_run does.
hosts_dial() {
	local host_env="KRB5CCNAME=FILE:/run/$2"
	pop_run host x "$KPOPD_BUILD/kpopc" "$1.example.org" 1109
}

# hosts_open SERVER USER: begins a dialogue and logs in.
hosts_open() {
	hosts_dial "$@"
	pop_hear '^\+OK'
	pop_ask "USER $2"
	pop_ask "PASS x"
}

# hosts_abandon: ends the dialogue, of whose host the client may hear nothing.
hosts_abandon() {
	[ -n "${pop_pid-}" ] || return 0
	host x pkill -KILL -x kpopc || :
	pop_close
}

# hosts_deliver HOST USER: appends standard input to the user's mailbox, on the
# host, as an MDA does (tests/programs/append.py).
hosts_deliver() {
	host "$1" /usr/bin/python3 "$BATS_TEST_DIRNAME/programs/append.py" \
	    mbox "$hosts_mail/spool/$2" "$2"
}

# hosts_store USER [HOST]: writes standard input unchanged to the user's
# mailbox, from b or this host.
hosts_store() {
	host "${2-b}" bash -c 'cat >"$1" && chown "$2:mail" "$1" &&
	    chmod 660 "$1" && sync "$1"' bash "$hosts_mail/spool/$1" "$1"
}

# hosts_has USER FILE: returns true if each brick has exactly this mailbox.
hosts_has() {
	local name
	for name in $hosts_bricks; do
		cmp "$WORLD/hosts/$name/srv/brick/mail/spool/$1" "$2" || return
	done
}

# host_session HOST USER: prints the pid of the user's session on the host.
host_session() {
	local pid first
	first=$(cat "$WORLD/hosts/$1/pid")
	for pid in $(pgrep -x kpopd -U "$2"); do
		[ ! "/proc/$pid/ns/net" -ef "/proc/$first/ns/net" ] ||
		    [[ $(readlink "/proc/$pid/fd/0") != socket:* ]] ||
		    echo "$pid"
	done
}

# host_log_lines HOST: prints all lines that kpopd has logged on the host.
host_log_lines() {
	grep -a ' kpopd' "$WORLD/hosts/$1/log/syslog"
}

# host_log HOST PATTERN: waits until kpopd has logged a line there that matches
# (extended).
host_log() {
	await 10 "host_log_lines $1 | grep -Eq -- '$2'"
}

# hosts_complaints: prints what kpopd has logged last on the hosts, except
# logins and HAProxy's checks.
hosts_complaints() {
	local name
	for name in a b; do
		host_log_lines $name |
		    grep -Ev ' login | logout .*reason=quit|peer=192.0.2.9:' |
		    tail -n 20 | sed "s/^/$name /"
	done
}

# host_cut HOST: takes the host's network away.
host_cut() {
	ip link del "v-$1"
}

# host_kill HOST: kills all processes of the host.
host_kill() {
	local pid
	pid=$(cat "$WORLD/hosts/$1/pid")
	kill -KILL "$pid"
	rm "$WORLD/hosts/$1/pid"
}

# host_die HOST: takes the host's network and kills all its processes, so that
# nothing tells the others.
host_die() {
	host_cut "$1"
	host_kill "$1"
	host_is_dead "$1"
}

# host_is_dead HOST: notes when the host died, for host_return.
host_is_dead() {
	echo $SECONDS >"$WORLD/hosts/$1/death"
}

# brick_may_start HOST: returns true if the host has been dead for as long as
# examples/hosts makes glusterd wait.
brick_may_start() {
	local wait
	wait=$(sed -n 's/^ExecStartPre=.* //p' \
	    "$top/examples/hosts/glusterd-wait.conf")
	[ $((SECONDS - $(cat "$WORLD/hosts/$1/death"))) -gt "$wait" ]
}

# host_return HOST: starts a host that has died: its brick, mounts, kpopd.
host_return() {
	local options
	host_boot "$1"
	if [[ " $hosts_bricks " == *" $1 "* ]]; then
		await 20 "brick_may_start $1"
		host_glusterd "$1"
	fi
	case $1 in
	a | b)
		host_mount "$1" "$hosts_mail"
		mapfile -t options <"$WORLD/hosts/$1/options"
		kpopd_on "$1" ${options+"${options[@]}"}
		;;
	c) hosts_kdc c ;;
	p)
		hosts_kdc p
		hosts_proxy
		;;
	esac
}

# brick_die HOST: kills the host's brick alone.
brick_die() {
	host "$1" pkill -KILL -x glusterfsd
}

# brick_return HOST: starts the brick again.
brick_return() {
	gluster_on "$1" volume start mail force
	await 20 "bricks_are_up $1"
}

# is_healed: makes GlusterFS heal what a brick has missed, and returns true if
# each brick has what the others have.
is_healed() {
	local info
	gluster_on c volume heal mail >/dev/null 2>&1 || :
	info=$(gluster_on c volume heal mail info 2>/dev/null) &&
	    [ "$(grep -c '^Number of entries: 0$' <<<"$info")" -eq 3 ]
}

# net_cut HOST OTHER ...: nothing that the host sends arrives at the others, and
# nothing of theirs at the host. The others' frames go to no interface.
net_cut() {
	local name=$1 other
	shift
	for other; do
		neighbour "$name" "$other"
		neighbour "$other" "$name"
	done
}

neighbour() {
	host "$1" ip neigh replace "$(host_address "$2")" \
	    lladdr 02:00:00:00:00:01 dev eth0 nud permanent
}

# net_heal HOST OTHER ...: ends net_cut.
net_heal() {
	local name=$1 other
	shift
	for other; do
		host "$name" ip neigh del "$(host_address "$other")" dev eth0
		host "$other" ip neigh del "$(host_address "$name")" dev eth0
	done
}

# hosts_storm COMMAND ...: runs tests/programs/hosts-storm.py on this side.
# hosts_storm_on HOST COMMAND ... runs it on the host.
hosts_storm() {
	STORM=$WORLD/storm /usr/bin/python3 \
	    "$BATS_TEST_DIRNAME/programs/hosts-storm.py" "$@"
}

hosts_storm_on() {
	local name=$1 host_env="STORM=$WORLD/storm"
	shift
	host "$name" /usr/bin/python3 \
	    "$BATS_TEST_DIRNAME/programs/hosts-storm.py" "$@"
}

# hosts_empty: removes all mail and the state.
hosts_empty() {
	host b bash -c "cd $hosts_mail &&
	    rm -rf spool/* maildir/* kpopd/users"
}

# hosts_maildirs: lets a and b serve Maildirs, which it makes.
hosts_maildirs() {
	local name user
	for user in $hosts_users; do
		host a bash -c 'mkdir -p "$1/$2"/{new,cur,tmp} &&
		    chown -R "$2:$2" "$1/$2"' bash "$hosts_mail/maildir" "$user"
	done
	for name in a b; do
		kpopd_on $name -m "maildir:$hosts_mail/maildir/%u"
	done
}

# storm_begin mbox|maildir: starts an MDA on a and b, and a client for each user
# of $hosts_users on x, which comes through HAProxy.
storm_begin() {
	local user
	storm_store=$1 storm_place=$hosts_mail/spool
	[ "$1" = mbox ] || storm_place=$hosts_mail/maildir
	rm -rf "$WORLD/storm"
	mkdir "$WORLD/storm"
	storm_pids=()
	[ "$1" = mbox ] || hosts_maildirs
	for user in $hosts_users; do
		[ "$1" = maildir ] || hosts_store "$user" </dev/null
		hosts_storm_on x client "$1" pop.example.org "$user" \
		    3>&- 2>"$WORLD/storm/client.$user" &
		storm_pids+=($!)
	done
	storm_deliver a
	storm_deliver b
}

# storm_deliver HOST: starts the MDA on the host, after each start of the host.
storm_deliver() {
	hosts_storm_on "$1" deliver "$1" "$storm_store" "$storm_place" \
	    $hosts_users 3>&- 2>"$WORLD/storm/deliver.$1" &
	storm_pids+=($!)
}

# host_dies_in PHASE HOST: ends the host as host_die does, while a client is in
# this phase (login, retr, quit), or at any time (any).
host_dies_in() {
	hosts_storm strike "$1" "$2" "$(cat "$WORLD/hosts/$2/pid")" $hosts_users
	rm "$WORLD/hosts/$2/pid"
	host_is_dead "$2"
}

# storm_end: waits until the MDAs and clients have ended, and checks the result.
storm_end() {
	local pid
	touch "$WORLD/storm/stop"
	await 60 '! host a pgrep -f "hosts-storm.py deliver" >/dev/null &&
	    ! host b pgrep -f "hosts-storm.py deliver" >/dev/null'
	touch "$WORLD/storm/calm"
	for pid in "${storm_pids[@]}"; do wait "$pid" || :; done
	hosts_storm check "$storm_store" $hosts_users >"$WORLD/storm/result" ||
	    { cat "$WORLD/storm/result"; return 1; }
	cat "$WORLD/storm/result" >&3
	storm_is_good
}

# storm_is_good: returns true if nothing was wrong up to now.
storm_is_good() {
	[ ! -e "$WORLD/storm/bad" ] ||
	    { cat "$WORLD/storm/bad"; rm "$WORLD/storm/bad"; return 1; }
}

# loss_trial mbox|maildir COUNT: runs tests/programs/hosts-loss.py in alice's
# mailbox, in the mode of hosts_mode. Returns false if a message was lost.
loss_trial() {
	local store=$1 count=$2 place=$hosts_mail/loss-$1 pids=() name pid
	local result=0
	rm -rf "$WORLD/storm"
	mkdir "$WORLD/storm"
	mkfifo "$WORLD/storm"/{ask,done}.{a,b}
	host a bash -c "rm -rf $place; mkdir -p $place; chgrp mail $place
	    chmod 2775 $place; [ $store = mbox ] ||
	    install -d -o alice -g alice -m 700 $place/alice{,/tmp,/new,/cur}"
	for name in a b; do
		kpopd_on "$name" -d "$hosts_mail/kpopd" -m "$store:$place/%u" \
		    -l fcntl
		host_env="STORM=$WORLD/storm" host "$name" /usr/bin/python3 \
		    "$BATS_TEST_DIRNAME/programs/hosts-loss.py" deliver \
		    "$name" "$store" "$place" alice 3>&- \
		    2>"$WORLD/storm/deliver.$name" &
		pids+=($!)
	done
	host_env="STORM=$WORLD/storm" host x /usr/bin/python3 \
	    "$BATS_TEST_DIRNAME/programs/hosts-loss.py" trial "$store" alice \
	    "$count" || result=1
	[ $result = 0 ] || kill "${pids[@]}"
	for pid in "${pids[@]}"; do wait "$pid" || :; done
	cat "$WORLD/storm"/deliver.*
	storm_is_good && [ $result = 0 ]
}

# storm_abandon: ends the storm without a result, if it still runs.
storm_abandon() {
	local pid
	[ -d "$WORLD/storm" ] || return 0
	touch "$WORLD/storm/stop" "$WORLD/storm/calm"
	for pid in "${storm_pids[@]}"; do wait "$pid" || :; done
	rm -rf "$WORLD/storm"
}
