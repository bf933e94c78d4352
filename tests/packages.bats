#!/usr/bin/env bats
# Checks what packages are made of: the tarball, debian/, the examples, and the
# rules for the log. tests/tools/package-cycle is the long form: it builds the
# packages and leads them through their life.

load helpers/all

@test "make dist makes the same tarball from the sources and from a tarball, in any environment, without other files" {
	[ -z "${SANITIZER-}" ] || skip "one build makes the tarball"
	export SOURCE_DATE_EPOCH=1000000000
	own_copy "$KPOPD_BUILD"
	make -s -C "$KPOPD_BUILD" dist >/dev/null
	first=$(echo "$KPOPD_BUILD"/kpopd-*.tar.gz)
	mv "$first" "$WORLD/"
	first=$WORLD/${first##*/}
	mkdir "$WORLD/dist"
	tar -C "$WORLD/dist" -xzf "$first" --strip-components=1
	rm -f "$WORLD/dist/bench/client"
	(
		cd "$WORLD/dist"
		# The same files, and only those that git has or would add.
		tr '\n' '\0' <MANIFEST | cmp - <("$top/tests/tools/sources")
		cut -d/ -f1 MANIFEST | sort -u |
		    comm -13 - <(ls -A | sort) >"$WORLD/made"
		# The others are made by autoreconf.
		refute grep -Evx 'MANIFEST|Makefile.in|aclocal.m4|build-aux|config.h.in|configure' \
		    "$WORLD/made"
		umask 077
		export TZ=Pacific/Kiritimati LC_ALL=C.UTF-8
		touch tests/mine bench/mine.o fuzz/mine.log systemd/mine
		./configure --sysconfdir=/etc >/dev/null
		make -s dist >/dev/null
		cmp kpopd-*.tar.gz "$first"
	)
	rm -r "$WORLD/dist" "$first"
	own_copy_end
}

@test "the list of sources has neither what git ignores nor what is removed" {
	mkdir "$WORLD/tree"
	"$top/tests/tools/sources" | tar -C "$top" -c --no-recursion --null \
	    -T - | tar -C "$WORLD/tree" -x
	cd "$WORLD/tree"
	touch tests/mine.o fuzz/mine.log kpopd
	rm NEWS
	touch new
	tests/tools/sources | tr '\0' '\n' >"$WORLD/list"
	cd "$top"
	"$top/tests/tools/sources" | tr '\0' '\n' |
	    diff - "$WORLD/list" >"$WORLD/difference" || true
	rm -r "$WORLD/tree"
	[ "$(grep '^[<>]' "$WORLD/difference" | sort)" = $'< NEWS\n> new' ]
}

# mail_lines: prints the lines since log_mark as syslog's file has them.
mail_lines() {
	log_lines | sed -E 's/^[a-z]+\.[a-z]+ /Nov 29 12:00:00 mail /'
}

# send_text TEXT [ADDRESS]: sends a text, and waits for the end.
send_text() {
	printf "$1" | timeout 20 socat -t 20 - "TCP:${2-127.0.0.1}:1109" \
	    >/dev/null || true
}

@test "fail2ban finds clients of other protocols and no one else, whatever name a client has chosen" {
	log_mark
	send_text 'GET / HTTP/1.1\r\n\r\n'
	send_text 'GET / HTTP/1.1\r\n\r\n' '[::1]'
	send_text 'SSH-2.0-scanner\r\n'
	send_text 'EHLO x\r\n'
	send_text '\377\376\375\374 unknown'
	send_text '\0\0\0\023WRONG_SENDAUTH_V10\0'
	send_text 'USER alice\r\n'
	send_text '\026\003\001\0\0\0'
	send_text ''
	await 5 '[ "$(log_lines | grep -ac refused)" -ge 8 ]'
	realm_login alice
	for name in 'x" reason="HTTP' 'x peer=192.0.2.1:1 reason="SSH client"' \
	    'x%sreason="unknown_protocol"' 'root' 'bob'; do
		printf 'USER %s\r\nPASS x\r\nQUIT\r\n' "$name" |
		    kpopc mail.kpopd.test >/dev/null || true
	done
	cp "$WORLD/server.keytab" "$WORLD/other.keytab"
	printf '%s\r\n' "USER alice" "PASS x" QUIT | kpopc mail.kpopd.test |
	    grep '^+OK bye'
	log_settle
	mail_lines >"$WORLD/mail.log"
	cp "$top/fail2ban/filter.d/kpopd.conf" /etc/fail2ban/filter.d/
	fail2ban-regex --print-all-matched --print-no-missed "$WORLD/mail.log" \
	    /etc/fail2ban/filter.d/kpopd.conf >"$WORLD/report"
	grep -a 'refused' "$WORLD/mail.log" >&2
	sed -nE 's/^\|  .* refused peer=(.*):[0-9]+ reason="(.*)"$/\1 \2/p' \
	    "$WORLD/report" | sort >"$WORLD/found"
	diff "$WORLD/found" - <<-END
	127.0.0.1 HTTP client
	127.0.0.1 SMTP client
	127.0.0.1 SSH client
	127.0.0.1 unknown protocol
	127.0.0.1 wrong sendauth version
	[::1] HTTP client
	END
	# The address that it would ban is the peer's.
	fail2ban-regex -o ip "$WORLD/mail.log" \
	    /etc/fail2ban/filter.d/kpopd.conf | sort | uniq -c |
	    awk '{ print $2, $1 }' >"$WORLD/banned"
	diff "$WORLD/banned" <(printf '%s\n' "127.0.0.1 5" "::1 1")
	"$top/tests/tools/log-rules" "$WORLD/syslog"
}

@test "the jail of fail2ban is disabled, and fail2ban reads it" {
	cp "$top/fail2ban/filter.d/kpopd.conf" /etc/fail2ban/filter.d/
	cp "$top/fail2ban/jail.d/kpopd.conf" /etc/fail2ban/jail.d/
	# This machine may have no log of sshd, whose jail Debian enables.
	printf '[DEFAULT]\nsyslog_mail = %s\n[sshd]\nenabled = false\n' \
	    "$WORLD/mail.log" >/etc/fail2ban/jail.d/zz.conf
	touch "$WORLD/mail.log"
	fail2ban-client -d >"$WORLD/jails"
	refute grep kpopd "$WORLD/jails"
	printf '[kpopd]\nenabled = true\n' >>/etc/fail2ban/jail.d/zz.conf
	fail2ban-client -d >"$WORLD/jails"
	# Both must be true of a line; "+" would mean "or".
	grep "'addjournalmatch', 'SYSLOG_IDENTIFIER=kpopd', '_UID=0'" \
	    "$WORLD/jails"
	echo "backend = polling" >>/etc/fail2ban/jail.d/zz.conf
	fail2ban-client -d >"$WORLD/jails"
	grep -q "'kpopd', 'maxretry', 20" "$WORLD/jails"
	grep -q "'kpopd', 'addlogpath', '$WORLD/mail.log'" "$WORLD/jails"
}

@test "debian/ packages each installed file once, with a manual page for each program, and names the 64-bit architectures" {
	[ -z "${SANITIZER-}" ] || skip "the sanitizer's build is not installed"
	make -s -C "$KPOPD_BUILD" install DESTDIR="$WORLD/deb" >/dev/null
	prefix=$(sed -n 's/^prefix = //p' "$KPOPD_BUILD/Makefile")
	libexec=$(sed -n 's/^libexecdir = //p' "$KPOPD_BUILD/Makefile")
	(cd "$WORLD/deb" && find . -type f -o -path ./var/lib/kpopd) |
	    sed -e 's,^\./,/,' -e "s,^$libexec/,/usr/libexec/," \
		-e "s,^$prefix/,/usr/," \
		-e "s,^/usr/var/,/var/," \
		-e "s,^/usr/lib/systemd/system/.*,/UNITS," |
	    sort -u >"$WORLD/installed"
	# Each line of the lists covers a file that is installed, or one of the
	# sources, and each installed file has one line.
	cat "$top"/debian/kpop?.install | sed 's,\${env:UNITS},UNITS,' |
	    while read -r from to; do
		if [ -n "$to" ]; then
			[ -f "$top/$from" ]
		else
			grep "^/$from\(/\|\$\)" "$WORLD/installed"
		fi || { echo "nothing for $from" >&2; exit 1; }
	done | sort >"$WORLD/packaged"
	diff <(uniq -d "$WORLD/packaged") /dev/null
	diff <(grep -v /var/lib/kpopd "$WORLD/installed") "$WORLD/packaged"
	for program in usr/sbin/kpopd.8 usr/libexec/kpopd-check.8 \
	    usr/libexec/kpopd-tls.8 usr/bin/kpopc.1; do
		name=${program##*/}
		grep -q "/${program%.*}\$" "$WORLD/packaged"
		grep -q "/man/man${name##*.}/$name\$" "$WORLD/packaged"
	done
	rm -r "$WORLD/deb"
	dpkg-parsechangelog -l "$top/debian/changelog" -S Version |
	    grep -Fx "$("$KPOPD_BUILD/kpopd" --version | sed 's/kpopd //')"
	for script in postinst prerm postrm; do
		sh -n "$top/debian/kpopd.$script"
	done
	for arch in $(sed -n 's/^Architecture: //p' "$top/debian/control"); do
		bits=$(dpkg-architecture -f -a"$arch" -qDEB_HOST_ARCH_BITS)
		[ "$bits" = 64 ]
		# The sandbox cannot be made there (sandbox.c).
		[[ $arch != mips* ]]
	done
}

@test "the package kpopd depends on the library that kpopd loads while it runs" {
	local library package
	library=$(sed -n 's/^#define LIBRARY "\(.*\)"$/\1/p' \
	    "$top/load-gss.c")
	package=$(dpkg -S "*/$library" | sed -n '1s/:.*//p')
	[ -n "$package" ]
	sed -n '/^Package: kpopd$/,/^$/p' "$top/debian/control" |
	    grep "^ $package "
}

@test "the installed documents have no dead links" {
	[ -z "${SANITIZER-}" ] || skip "the sanitizer's build is not installed"
	make -s -C "$KPOPD_BUILD" install DESTDIR="$WORLD/doc" >/dev/null
	cd "$WORLD/doc$(sed -n 's/^prefix = //p' "$KPOPD_BUILD/Makefile")"
	pages=$PWD/share/man
	cd share/doc/kpopd
	links=0
	while IFS=: read -r file link; do
		links=$((links + 1))
		[ -e "$link" ] || [ -e "${file%/*}/$link" ] ||
		    { echo "$file: $link"; exit 1; }
	done < <(
		# Not in a block of commands.
		grep -Er '^ {0,3}[^ ].*\]\([^)]*\)' --include=*.md . |
		    sed -nE 's/^([^:]*):.*\]\(([^)]*)\).*/\1:\2/p' |
		    grep -v ':[a-z]*://'
		grep -Eor -e '`[A-Za-z/._-]*\.md`' \
		    -e '`(tests/clients|examples)/[A-Za-z]*\.[a-z]*`' \
		    --include=*.md . | tr -d '`'
	)
	[ "$links" -ge 15 ]
	# The manual pages name only pages that are installed, or others' own.
	cat "$pages"/man*/* |
	    sed -n 's/^\.Xr \(kpop[a-z.-]*\) \([0-9]\).*/\1.\2/p' |
	    sort -u | while read -r page; do
		[ -e "$pages/man${page##*.}/$page" ]
	done
	cd "$top"
	rm -r "$WORLD/doc"
}

@test "the examples work: krb5.conf, fetchmailrc, cron, and the profiles of AppArmor and ufw" {
	# krb5.conf, with the realm of the tests.
	sed -e 's/EXAMPLE\.ORG/KPOPD.TEST/g' \
	    -e 's/kdc\.example\.org/127.0.0.1/' \
	    "$top/examples/krb5.conf" >"$WORLD/krb5.conf"
	# The lines of cron and of fetchmailrc, as alice would use them.
	home=$WORLD/home/alice
	install -o alice -m 600 "$WORLD/keytabs/alice.keytab" \
	    "$home/.mail.keytab"
	sed -e 's/mail\.example\.org/mail.kpopd.test/' \
	    -e 's,sslcertfile.*,sslproto "" mda "cat >>fetched",' \
	    "$top/examples/fetchmailrc" >"$home/.fetchmailrc"
	chown alice "$home/.fetchmailrc"
	chmod 600 "$home/.fetchmailrc"
	mbox one two | store alice
	sed -n 's/^\(KRB5CCNAME=.*\)/export \1/p' "$top/examples/cron" \
	    >"$WORLD/job"
	sed -n 's/^\*\/10 \* \* \* \*[[:space:]]*//p' "$top/examples/cron" \
	    >>"$WORLD/job"
	[ "$(wc -l <"$WORLD/job")" -eq 2 ]
	(cd "$home" && env -i HOME="$home" KRB5_CONFIG="$WORLD/krb5.conf" \
	    PATH=/usr/bin:/bin setpriv --reuid alice --regid alice \
	    --init-groups sh -e "$WORLD/job") 3>&-
	[ "$(grep -c '^Subject:' "$home/fetched")" = 2 ]
	# Both services of fetchmailrc are correct.
	sed -i 's/^#\([p\t]\)/\1/' "$home/.fetchmailrc"
	chown root "$home/.fetchmailrc"
	fetchmail --configdump -f "$home/.fetchmailrc" |
	    grep -c '"protocol":"POP3"' | grep -x 2
	rm -r "$home"/.mail.* "$home"/.fetch* "$home/fetched"
	# ufw's profiles have what ufw requires, and this host's ports.
	python3 - "$top/examples/ufw-kpopd" <<-END
	import configparser, sys
	parser = configparser.RawConfigParser()
	parser.read(sys.argv[1])
	assert [parser[s]["ports"] for s in parser.sections()] == \
	    ["1109/tcp", "110/tcp", "995/tcp"]
	for s in parser.sections():
	    assert parser[s]["title"] and parser[s]["description"]
	END
	apparmor_parser --skip-kernel-load --skip-cache \
	    "$top/examples/apparmor-kpopd"
}
