#!/usr/bin/env bats
# Checks that make install puts each file in its place, that the services are
# disabled, and that the installed programs run and are hardened.

load helpers/all

setup_file() { :; }
teardown_file() { :; }

@test "make install installs all programs, manuals and disabled services, and xinetd runs kpopd from there" {
	[ -z "${SANITIZER-}" ] || skip "the sanitizer's build is not installed"
	make -s -C "$KPOPD_BUILD" install DESTDIR="$WORLD/root" >/dev/null
	prefix=$WORLD/root$(sed -n 's/^prefix = //p' "$KPOPD_BUILD/Makefile")
	for file in sbin/kpopd bin/kpopc share/man/man8/kpopd.8 \
	    share/man/man5/kpopd.conf.5 share/man/man5/kpopd.access.5 \
	    share/man/man1/kpopc.1 \
	    share/doc/kpopd/examples/kpopd.conf; do
		[ -f "$prefix/$file" ]
	done
	# No file of options: the administrator writes it.
	[ "$(ls "$WORLD/root/etc")" = xinetd.d ]
	[ -x \
	    "$WORLD/root$(sed -n 's/^libexecdir = //p' \
		"$KPOPD_BUILD/Makefile")/kpopd-tls" ]
	for service in kpop pop3-gssapi; do
		grep -Eq 'disable[[:space:]]*= yes' \
		    "$WORLD/root/etc/xinetd.d/$service"
		grep -Eq \
		    "server[[:space:]]*= ${prefix#"$WORLD"/root}/sbin/kpopd\$" \
		    "$WORLD/root/etc/xinetd.d/$service"
	done
	grep -q "^ExecStart=${prefix#"$WORLD"/root}/sbin/kpopd\$" \
	    "$prefix/lib/systemd/system/kpopd.service"
	grep -q '^Accept=no' "$prefix/lib/systemd/system/kpopd.socket"
	for file in "$top"/systemd/kpopd* "$top"/systemd/user/* \
	    "$top"/systemd/*.d/*; do
		file=${file#"$top/systemd/"} file=${file%.in}
		case $file in
		user/*) file=systemd/$file ;;
		*.d/*) ;;
		*) file=systemd/system/$file ;;
		esac
		grep -q . "$prefix/lib/$file"
		refute grep '@[a-z]*@' "$prefix/lib/$file"
	done
	KPOPD_BUILD=$prefix/sbin server_start
	realm_login alice
	printf '%s\r\n' "USER alice" "PASS x" QUIT |
	    "$prefix/bin/kpopc" mail.kpopd.test | grep '^+OK bye'
	make -s -C "$KPOPD_BUILD" uninstall DESTDIR="$WORLD/root" >/dev/null
	[ -z "$(find "$WORLD/root" -type f)" ]
}

@test "configure puts systemd's files where it is told, or nowhere" {
	local file
	mkdir "$WORLD/placed"
	cd "$WORLD/placed"
	"$top/configure" --prefix=/usr --with-systemdsystemunitdir=/units \
	    --with-systemduserunitdir=/user-units \
	    --with-sysusersdir=no >"$WORLD/configure.log"
	make -s install-nodist_systemdsystemunitDATA \
	    install-nodist_systemduserunitDATA \
	    install-nodist_sysusersDATA install-nodist_tmpfilesDATA \
	    DESTDIR="$WORLD/placed/root" >>"$WORLD/configure.log"
	[ "$(ls root/units)" = \
	    "$(ls "$top/systemd" | sed -n '/^kpopd/s/\.in$//p')" ]
	[ "$(ls root/user-units)" = $'kpopc@.service\nkpopc@.socket' ]
	# systemd.pc has the places if the prefix is systemd's own. On Debian 13
	# it is in a package that is not needed.
	file=$(pkg-config --variable=tmpfilesdir systemd ||
	    echo /usr/lib/tmpfiles.d)/kpopd.conf
	[ "$(find root -type f ! -path 'root/*units/*')" = "root$file" ]
}

@test "configure refuses a 32-bit machine, and prints the reason" {
	mkdir "$WORLD/narrow"
	cd "$WORLD/narrow"
	# Links for this machine, so that no 32-bit C library is needed.
	cat >cc <<-"END"
	#!/bin/sh
	for word; do
		[ "$word" != -c ] || exec gcc -m32 "$@"
	done
	exec gcc "$@"
	END
	chmod +x cc
	echo 'int x;' >x.c
	./cc -c x.c || skip "this compiler has no 32-bit mode"
	run "$top/configure" CC="$PWD/cc"
	[ "$status" -ne 0 ]
	[[ $output == *"64-bit machine... no"* ]]
	[[ $output == *"error: kpopd needs a 64-bit machine: "* ]]
	[ ! -e Makefile ]
}

# xinetd_lines: prints the lines that xinetd has logged since log_mark.
xinetd_lines() {
	tail -n "+$((log_begin + 1))" "$WORLD/syslog" |
	    grep -a ' xinetd\[' || true
}

@test "xinetd reads the shipped configuration files without an error, and listens on no port while they are disabled" {
	cat "$top"/xinetd.d/* >"$WORLD/xinetd.conf"
	xinetd -dontfork -f "$WORLD/xinetd.conf" -pidfile "$WORLD/xinetd.pid" \
	    >"$WORLD/xinetd.out" 2>&1 3>&- &
	# xinetd logs this once it has read its configuration. Without an
	# enabled service it then exits.
	await 10 'xinetd_lines | grep -q "no services\|0 available services"'
	ss -Hltn '( sport = 1109 or sport = 110 )' | refute grep .
	xinetd_lines | refute grep -ai 'error\|bad\|unknown'
	kill $! 2>/dev/null || true
	rm -f "$WORLD/xinetd.pid"
}

@test "the installed programs have PIE, RELRO, a stack protector, FORTIFY and no library beyond their needs" {
	[ -z "${SANITIZER-}" ] || skip "the sanitizer's build has other needs"
	make -s -C "$KPOPD_BUILD" install DESTDIR="$WORLD/hard" >/dev/null
	common='libbsd|libmd|libc\.so|libresolv'
	kerberos='libkrb5|libcom_err|libk5crypto'
	openssl='libssl|libcrypto'
	for program in kpopd kpopc kpopd-tls; do
		case $program in
		kpopd) libraries="$common|$kerberos" ;;
		kpopd-tls) libraries="$common|$openssl" ;;
		kpopc) libraries="$common|$kerberos|libgssapi_krb5|$openssl" ;;
		esac
		installed=$(find "$WORLD/hard" -type f -perm -100 \
		    -name "$program")
		readelf -h "$installed" | grep -q 'Type:.*DYN'
		readelf -ld "$installed" >"$WORLD/elf"
		grep -q 'FLAGS_1.*PIE' "$WORLD/elf"
		grep -q GNU_RELRO "$WORLD/elf"
		grep -Eq 'BIND_NOW|FLAGS.*NOW' "$WORLD/elf"
		refute grep 'GNU_STACK.*RWE' "$WORLD/elf"
		nm -D "$installed" | grep -q __stack_chk_fail
		nm -D "$installed" | grep -q '_chk@'
		grep NEEDED "$WORLD/elf" | refute grep -Ev "$libraries"
	done
	rm -r "$WORLD/hard"
}

@test "kpopd --version prints the version, and kpopd --help the options" {
	run "$KPOPD_BUILD/kpopd" --version
	[[ $status -eq 0 && $output =~ ^kpopd\ [0-9.]+$ ]]
	run "$KPOPD_BUILD/kpopd" --help
	[[ $status -eq 0 && $output == *"-k, --keytab keytab"* ]]
}
