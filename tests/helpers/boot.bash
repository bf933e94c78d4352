# Boots a real systemd as the first process of a container. Its root is an
# overlay of this machine's root, or of the root of another Debian in
# $BOOT_BASE. Its network is that of tests/world.

# boot_obstacle: sets $why to the reason why systemd cannot be booted here, or
# to nothing. Sets $group to a control group for systemd's processes.
boot_obstacle() {
	why=
	[ -z "${SANITIZER-}" ] ||
	    { why="the build with sanitizers is not installed"; return 0; }
	[ -x /lib/systemd/systemd ] || { why="there is no systemd"; return 0; }
	cgroups=/sys/fs/cgroup
	[ ! -d /sys/fs/cgroup/unified ] || cgroups=/sys/fs/cgroup/unified
	[ -e "$cgroups/cgroup.procs" ] &&
	    group=$(mktemp -d "$cgroups/kpopd-test.XXXXXX" 2>/dev/null) ||
	    why="cgroup2 cannot be written"
}

# boot_make: makes the container's root, $root. kpopd is installed there as a
# distribution does, and the root has the users, realm and names of tests/world.
boot_make() {
	root=$WORLD/machine
	mkdir -p "$root" "$WORLD/machine.up" "$WORLD/machine.work"
	mount -t overlay machine "$root" -o \
	    "lowerdir=${BOOT_BASE:-/},upperdir=$WORLD/machine.up,workdir=$WORLD/machine.work"
	mkdir -p "$WORLD/machine.build"
	# kpopd is built again, because its programs contain absolute paths to
	# each other.
	(
		cd "$WORLD/machine.build" &&
		    "$top/configure" --prefix=/usr --sysconfdir=/etc \
			--localstatedir=/var --libexecdir=/usr/libexec &&
		    make -j2 && make install DESTDIR="$root"
	) >"$WORLD/machine.log" 2>&1 ||
	    { tail "$WORLD/machine.log" >&2; return 1; }
	for file in passwd group shadow krb5.conf hosts services; do
		rm -rf "$root/etc/$file"
		cp "/etc/$file" "$root/etc/$file"
	done
	mkdir -p "$root/etc/systemd/system" "$root/home" "$root/etc/kpopd"
	rm -rf "$root"/etc/systemd/system/*.wants \
	    "$root"/etc/systemd/system/kpopd* "$root"/var/mail/* "$root"/home/*
	cp "$WORLD/server.keytab" "$root/etc/krb5.keytab"
	for user in alice bob carol; do
		install -d -o "$user" -g "$user" -m 700 "$root/home/$user"
	done
	echo kpopd-test >"$root/etc/hostname"
	cat >"$root/etc/systemd/system/test.target" <<-END
	[Unit]
	Requires=systemd-journald.service
	After=systemd-journald.service sockets.target
	Wants=sockets.target systemd-journald-dev-log.socket
	END
}

# boot_start: starts systemd, and waits until it answers. Sets $booter to the
# pid of the process that started it.
boot_start() {
	cat >"$WORLD/init" <<-END
	# A user's systemd looks its group up.
	chmod 755 $group
	echo \$\$ >$group/cgroup.procs
	exec unshare --cgroup --mount --pid --ipc --uts --fork \\
	    --kill-child bash -ec '
		cd $root
		mount --make-rprivate /
		mount -t proc proc proc
		mount -t sysfs -o ro sysfs sys
		mount -t cgroup2 cgroup2 sys/fs/cgroup
		mount -t tmpfs -o mode=755 tmpfs run
		mount -t tmpfs -o mode=1777 tmpfs tmp
		mount -t tmpfs -o mode=755 tmpfs dev
		for d in null zero full random urandom tty; do
			touch dev/\$d
			mount --bind /dev/\$d dev/\$d
		done
		mkdir dev/shm dev/pts
		ln -s pts/ptmx dev/ptmx
		ln -s /proc/self/fd dev/fd
		pivot_root . mnt
		umount -l /mnt
		# As systemd does on a machine: services see later mounts.
		mount --make-rshared /
		exec env -i container=kpopd-test \\
		    PATH=/usr/sbin:/usr/bin:/sbin:/bin \\
		    /lib/systemd/systemd --system --unit=test.target \\
		    --log-target=journal --show-status=no
	'
	END
	setpriv --pdeathsig KILL bash "$WORLD/init" >"$WORLD/machine.console" \
	    2>&1 3>&- </dev/null &
	booter=$!
	await 10 'machine_pid >/dev/null'
	await 30 'inside systemctl is-active --quiet test.target' ||
	    { cat "$WORLD/machine.console" >&2; return 1; }
}

# machine_pid: prints systemd's pid outside the container. systemd's children
# have its name until they begin their programs.
machine_pid() {
	pgrep -P "$booter" -x systemd
}

# inside COMMAND ...: runs the command in the container.
inside() {
	nsenter -t "$(machine_pid)" -m -p -i -u -C -r -w "$@"
}

# boot_stop: kills systemd, and removes the control group. Does nothing if that
# was done before.
boot_stop() {
	[ -d "$group" ] || return 0
	kill -KILL "$(machine_pid)" "$booter" 2>/dev/null || :
	wait "$booter" 2>/dev/null || :
	await 10 'grep -q "populated 0" "$group/cgroup.events"' || :
	find "$group" -depth -type d -exec rmdir {} \;
}
