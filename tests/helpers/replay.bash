# Prepares the replay cache's file, and sends AP-REQs to the server.

cache=$state/replay

# cache_is_old: makes the cache look as if it was made long ago. A new cache
# refuses AP-REQs that are older than itself.
cache_is_old() {
	cache_is_whole || wire </dev/null >/dev/null
	# Another process may still be writing the cache.
	await 5 cache_is_whole
	perl -e 'open my $f, "+<", $ARGV[0] or die; print $f pack "q", 0' \
	    "$cache"
}

# cache_is_whole: returns true if the cache is complete. The header is written
# last.
cache_is_whole() {
	[ -e "$cache" ] && head -c 24 "$cache" | grep -aq 'kpopd replay 1'
}

# cache_fill BYTE [FROM]: overwrites the bytes of the cache with BYTE. If FROM
# is given, overwrites only the bytes from that offset on.
cache_fill() {
	perl -e 'my ($file, $byte, $from) = @ARGV;
	    open my $f, "+<", $file or die;
	    seek $f, $from, 0;
	    print $f chr($byte) x ((-s $file) - $from)' "$cache" "$1" "${2-0}"
}

# shows FILE: logs in by KPOP as alice with this AP-REQ. Prints what the server
# sends, as text.
shows() {
	{ versions; framed <"$1"; printf 'USER alice\r\nPASS x\r\nQUIT\r\n'; } |
	    wire | tr -d '\0\r'
}

# is_in TEXT, is_out TEXT: TEXT is the output of shows. is_in returns true if it
# shows a login, and is_out if it shows a refusal.
is_in() {
	[[ $1 == *"+OK kpopd"*"messages left" ]] ||
	    { echo "not let in: $1"; return 1; }
}

is_out() {
	[[ $1 != *+OK* ]] || { echo "let in: $1"; return 1; }
}

# churn FILE [gssapi]: runs tests/programs/churn.pl.
churn() {
	perl "$BATS_TEST_DIRNAME/programs/churn.pl" "$@"
}
