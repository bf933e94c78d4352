# A library between kpopd and its libraries (tests/programs/preload.c). It can
# make the clock jump and allocations fail.

shared=$WORLD/preload
preload=$KPOPD_BUILD/tests/programs/preload.so

# preloaded [KPOPD-OPTION ...]: starts a server with the library.
preloaded() {
	[ -z "${SANITIZER-}" ] || skip "ASan has its own allocator and clock"
	changed=yes
	says 0 0 0
	server_stop
	server_env="LD_PRELOAD=$preload PRELOAD=$shared" server_start "$@"
}

# says JUMP FROM MANY: tells the library to move the clock by JUMP seconds, and
# to make MANY allocations fail, from number FROM on.
says() {
	perl -e 'my $f;
	    open $f, "+<", $ARGV[0] or open $f, ">", $ARGV[0] or die;
	    print $f pack "q4", @ARGV[1 .. 3], 0' "$shared" "$@"
	chmod 666 "$shared"
}
