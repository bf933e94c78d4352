# The shim between kpopd and its library (tests/programs/preload.c): a clock
# that jumps, allocations that fail.

shared=$WORLD/preload
preload=$KPOPD_BUILD/tests/programs/preload.so

# preloaded [OPTION …]: a server with the shim between it and its library.
preloaded() {
	[ -z "${SANITIZER-}" ] || skip "ASan has its own allocator and clock"
	changed=yes
	says 0 0 0
	server_stop
	server_env="LD_PRELOAD=$preload PRELOAD=$shared" server_start "$@"
}

# says JUMP FROM MANY: what the shim does from now on.
says() {
	perl -e 'my $f; open $f, "+<", $ARGV[0] or open $f, ">", $ARGV[0] or die; print $f pack "q4", @ARGV[1 .. 3], 0' "$shared" "$@"
	chmod 666 "$shared"
}
