# The replay cache's file, and what clients show it.

cache=$state/replay

# cache_is_old: as when it was made long ago; a new one refuses what is older
# than it is.
cache_is_old() {
	cache_is_whole || wire </dev/null >/dev/null
	# The process that makes it may still be at it.
	await 5 cache_is_whole
	perl -e 'open my $f, "+<", $ARGV[0] or die; print $f pack "q", 0' \
	    "$cache"
}

# cache_is_whole: it has its head, which is written last.
cache_is_whole() {
	[ -e "$cache" ] && head -c 24 "$cache" | grep -aq 'kpopd replay 1'
}

# cache_fill BYTE [FROM]: all its bytes, or those from there on.
cache_fill() {
	perl -e 'my ($file, $byte, $from) = @ARGV; open my $f, "+<", $file or die; seek $f, $from, 0;
	    print $f chr($byte) x ((-s $file) - $from)' "$cache" "$1" "${2-0}"
}

# shows FILE: KPOP with this AP-REQ, and alice's session; prints what the server
# says as text.
shows() {
	{ versions; framed <"$1"; printf 'USER alice\r\nPASS x\r\nQUIT\r\n'; } |
	    wire | tr -d '\0\r'
}

# is_in, is_out TEXT: what shows has printed.
is_in() {
	[[ $1 == *"+OK kpopd"*"messages left" ]] ||
	    { echo "not let in: $1"; return 1; }
}

is_out() {
	[[ $1 != *+OK* ]] || { echo "let in: $1"; return 1; }
}

# churn FILE [gssapi]: a login with each of the AP-REQs that stand there after
# their lengths, by KPOP or AUTH GSSAPI; prints how many were accepted.
churn() {
	perl -MSocket \
	    -MMIME::Base64 -e 'my ($file, $how) = @ARGV; my $in = 0; open my $f, "<:raw", $file or die;
	    $SIG{ALRM} = sub { die "churn: no answer\n" };
	    my $hello = pack("N/a*N/a*", "KRB5_SENDAUTH_V1.0\0", "KPOPV1.0\0");
	    while (read $f, my $length, 4) {
		read $f, my $request, unpack "N", $length; alarm 20;
		my $text = $hello . $length . $request;
		if ($how) {
		    my $t = "\x06\x09\x2a\x86\x48\x86\xf7\x12\x01\x02\x02\x01\x00$request";
		    $text = "AUTH GSSAPI " . encode_base64("\x60\x82" . pack("n", length $t) . $t, "") . "\r\n*\r\n";
		}
		socket(my $s, PF_INET, SOCK_STREAM, 0); connect($s, sockaddr_in(1109, INADDR_LOOPBACK)) or die "connect: $!";
		syswrite $s, $text; my $heard = ""; my $good = $how ? qr/\n\+ BQ/ : qr/^\0{5}/; my $bad = $how ? qr/\n-ERR/ : qr/^\0..[^\0]/s;
		while ($heard !~ $good && $heard !~ $bad) { sysread $s, $heard, 4096, length $heard or last }
		$in++ if $heard =~ $good;
	    }
	    print "$in\n"' "$@"
}
