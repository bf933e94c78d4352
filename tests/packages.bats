#!/usr/bin/env bats
# Checks what packages are made of: the tarball, debian/, the examples, and the
# rules for the log. tests/tools/package-cycle is the long form: it builds the
# packages and leads them through their life.

load helpers/all

@test "make dist makes the same tarball from the sources and from a tarball, in any environment, without other files" {
	[ -z "${SANITIZER-}" ] || skip "one build makes the tarball"
	export SOURCE_DATE_EPOCH=1000000000
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
