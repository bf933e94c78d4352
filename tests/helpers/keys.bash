# Whose memory holds a key.

# key_bytes: the service's long-term keys, each as hexadecimal digits.
key_bytes() {
	klist -Kkt "$WORLD/server.keytab" |
	    sed -n 's/.*pop.*(0x\([0-9a-f]*\)).*/\1/p'
}

# tls_key_bytes: a prime of the certificate's key, as it is written, and as
# OpenSSL keeps it, the last byte first.
tls_key_bytes() {
	local prime
	prime=$(openssl rsa -in "$WORLD/tls/server.key" -noout -text |
	    sed -n '/^prime1:/,/^prime2:/p' | grep '^ ' | tr -d ' :\n' |
	    sed 's/^00//')
	echo "$prime"
	fold -w 2 <<<"$prime" | tac | tr -d '\n'
	echo
}

# holds_key PID [COMMAND]: one of the keys that COMMAND prints is in its
# writable memory. Each has 16 bytes or more, so no accident.
holds_key() {
	"${2-key_bytes}" | perl -e '
		my ($pid) = @ARGV; my @keys = map { chomp; pack "H*", $_ } <STDIN>; @keys or die "no keys";
		open my $maps, "<", "/proc/$pid/maps" or die; open my $mem, "<:raw", "/proc/$pid/mem" or die;
		my $found = 0; my $read = 0;
		while (<$maps>) {
			/^([0-9a-f]+)-([0-9a-f]+) rw/ or next;
			my ($from, $size) = (hex $1, hex($2) - hex $1);
			next if $size > 1 << 30;
			sysseek $mem, $from, 0; sysread $mem, my $text, $size or next;
			$read += length $text;
			$found++ for grep { index($text, $_) >= 0 } @keys;
		}
		$read > 100000 or die "read nothing of $pid"; exit($found ? 0 : 1);' "$1"
}

# holds_none PID [COMMAND]: it does not, and could be looked at.
holds_none() {
	local status=0
	holds_key "$@" || status=$?
	[ "$status" -eq 1 ]
}

# jailed_in NAME: the process whose root directory is STATE/NAME.
jailed_in() {
	local pid
	for pid in $(pgrep -x 'kpopd|kpopd-tls'); do
		[ "$(readlink "/proc/$pid/root")" != "$state/$1" ] ||
		    echo "$pid"
	done
}
