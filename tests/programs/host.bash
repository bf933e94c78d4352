#!/bin/bash
# Is the first process of a host in the tests of several hosts: host.bash NAME
# ADDRESS, run by helpers/hosts.bash in namespaces of its own.
#
# Its directory $WORLD/hosts/NAME is what a disk is to a real host: it stays
# when the host dies, and the next host of this name has it.
set -eu

own=$WORLD/hosts/$1
# What a start removes.
rm -rf "$own/run" "$own/dev"
mkdir -p "$own"/{run,dev,mail,log,srv,glusterd,kpopd}
for directory in /etc /home; do
	[ -e "$own$directory" ] || cp -a "$directory" "$own"
done
[ -e "$own/glusterd/groups" ] ||
    cp -a /var/lib/glusterd/{groups,hooks} "$own/glusterd"

# Sockets and devices first, because the world's /dev and /run disappear.
mount -t tmpfs -o mode=755 host "$own/dev"
for device in null zero full random urandom tty fuse; do
	[ -e "/dev/$device" ] || continue
	touch "$own/dev/$device"
	mount --bind "/dev/$device" "$own/dev/$device"
done
mkdir "$own/dev/shm" "$own/dev/pts"
mount -t devpts -o newinstance,ptmxmode=666,mode=620 host "$own/dev/pts"
ln -s pts/ptmx "$own/dev/ptmx"
chmod 1777 "$own/dev/shm"
ln -s /proc/self/fd "$own/dev/fd"
for n in 0:stdin 1:stdout 2:stderr; do
	ln -s "/proc/self/fd/${n%:*}" "$own/dev/${n#*:}"
done
mount --rbind "$own/dev" /dev
mkdir -p /var/lib/glusterd /var/lib/kpopd
chgrp mail "$own/mail"
chmod 2775 "$own/mail"
mount --bind "$own/etc" /etc
mount --bind "$own/run" /run
mount --bind "$own/home" /home
mount --bind "$own/mail" /var/mail
mount --bind "$own/log" /var/log
mount --bind "$own/srv" /srv
mount --bind "$own/glusterd" /var/lib/glusterd
mount --bind "$own/kpopd" /var/lib/kpopd
mkdir -p /run/gluster /run/lock /run/haproxy /run/sanitizer \
    /var/log/glusterfs /srv/mail /srv/plain /srv/brick
chmod 1777 /run/sanitizer
hostname "$1.example.org"
ip link set lo up
cat >/run/rsyslog.conf <<'CONF'
global(parser.escapeControlCharactersOnReceive="off")
module(load="imuxsock" SysSock.Name="/dev/log" SysSock.RateLimit.Interval="0")
template(name="line" type="string" string="%timegenerated:::date-rfc3339% %syslogfacility-text%.%syslogseverity-text% %syslogtag%%msg%\n")
*.* action(type="omfile" file="/var/log/syslog" template="line")
CONF
rsyslogd -n -f /run/rsyslog.conf -i /run/rsyslogd.pid &
until [ -S /dev/log ] && ip link show eth0 >/dev/null 2>&1; do
	sleep 0.02
done
ip address add "$2/24" dev eth0
ip link set eth0 up
touch /run/ready
# bash reaps what the host's other processes leave.
while :; do sleep 3600 & wait; done
