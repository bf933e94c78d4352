#!/usr/bin/env bats
# What is installed: where, in which state, and that it runs from there.

load helpers/all

setup_file() { :; }
teardown_file() { :; }

teardown() {
	server_stop
	end_test
}

@test "make install puts everything in its place, disabled, and xinetd runs it from there" {
	[ -z "${SANITIZER-}" ] || skip "the sanitizer's build is not installed"
	make -s -C "$KPOPD_BUILD" install DESTDIR="$WORLD/root" >/dev/null
	prefix=$WORLD/root$(sed -n 's/^prefix = //p' "$KPOPD_BUILD/Makefile")
	for file in sbin/kpopd bin/kpopc share/man/man8/kpopd.8 \
	    share/man/man1/kpopc.1; do
		[ -f "$prefix/$file" ]
	done
	[ -x \
	    "$WORLD/root$(sed -n 's/^libexecdir = //p' \
		"$KPOPD_BUILD/Makefile")/kpopd-tls" ]
	for service in kpop pop3-gssapi; do
		grep -Eq 'disable[[:space:]]*= yes' \
		    "$prefix/etc/xinetd.d/$service"
		grep -Eq \
		    "server[[:space:]]*= ${prefix#"$WORLD"/root}/sbin/kpopd\$" \
		    "$prefix/etc/xinetd.d/$service"
	done
	grep -q "^ExecStart=${prefix#"$WORLD"/root}/sbin/kpopd\$" \
	    "$prefix/lib/systemd/system/kpopd.service"
	grep -q '^Accept=no' "$prefix/lib/systemd/system/kpopd.socket"
	KPOPD_BUILD=$prefix/sbin server_start
	realm_login alice
	run \
	    bash -c "printf 'USER alice\r\nPASS x\r\nQUIT\r\n' | '$prefix/bin/kpopc' mail.kpopd.test"
	[[ $output == *"+OK bye"* ]]
	make -s -C "$KPOPD_BUILD" uninstall DESTDIR="$WORLD/root" >/dev/null
	[ -z "$(find "$WORLD/root" -type f)" ]
}

@test "xinetd takes our files as they are, and does not serve while they are disabled" {
	cat "$top"/xinetd.d/* >"$WORLD/xinetd.conf"
	xinetd -dontfork -f "$WORLD/xinetd.conf" -pidfile "$WORLD/xinetd.pid" \
	    >"$WORLD/xinetd.out" 2>&1 3>&- &
	sleep 0.5
	ss -Hltn '( sport = 1109 or sport = 110 )' | grep -q . && return 1 || :
	grep -a 'xinetd\[' "$WORLD/syslog" | tail -n 5 |
	    grep -ai 'error\|bad\|unknown' && return 1 || :
	kill $! 2>/dev/null || true
	rm -f "$WORLD/xinetd.pid"
}

@test "the installed programs have PIE, full RELRO, a stack protector, FORTIFY and no needless library: OpenSSL is not in kpopd, Kerberos not in kpopd-tls" {
	[ -z "${SANITIZER-}" ] || skip "the sanitizer's build has other needs"
	make -s -C "$KPOPD_BUILD" install DESTDIR="$WORLD/hard" >/dev/null
	ours='libbsd|libmd|libc\.so|libresolv'
	for program in kpopd kpopc kpopd-tls; do
		case $program in
		kpopd)
			libraries=$ours'|libkrb5|libcom_err|libk5crypto|libgssapi_krb5'
			;;
		kpopd-tls) libraries=$ours'|libssl|libcrypto' ;;
		kpopc)
			libraries=$ours'|libkrb5|libcom_err|libk5crypto|libgssapi_krb5|libssl|libcrypto'
			;;
		esac
		installed=$(find "$WORLD/hard" -type f -perm -100 \
		    -name "$program")
		readelf -h "$installed" | grep -q 'Type:.*DYN'
		readelf -ld "$installed" >"$WORLD/elf"
		grep -q 'FLAGS_1.*PIE' "$WORLD/elf"
		grep -q GNU_RELRO "$WORLD/elf"
		grep -Eq 'BIND_NOW|FLAGS.*NOW' "$WORLD/elf"
		grep -q 'GNU_STACK.*RWE' "$WORLD/elf" && return 1 || :
		nm -D "$installed" | grep -q __stack_chk_fail
		nm -D "$installed" | grep -q '_chk@'
		grep NEEDED "$WORLD/elf" | grep -Ev "$libraries" && return 1 ||
		    :
	done
	rm -r "$WORLD/hard"
}

@test "help and version are printed when asked for" {
	run "$KPOPD_BUILD/kpopd" --version
	[[ $status -eq 0 && $output =~ ^kpopd\ [0-9.]+$ ]]
	run "$KPOPD_BUILD/kpopd" --help
	[[ $status -eq 0 && $output == *"-k keytab"* ]]
}
