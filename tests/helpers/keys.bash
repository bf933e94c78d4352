# Looks for keys in the memory of processes.

# key_bytes: prints the service's long-term keys in hexadecimal, one on each
# line.
key_bytes() {
	klist -Kkt "$WORLD/server.keytab" |
	    sed -n 's/.*pop.*(0x\([0-9a-f]*\)).*/\1/p'
}

# tls_key_bytes: prints a prime of the certificate's key in both byte orders. In
# the key file the most significant byte comes first. In OpenSSL's memory the
# least significant byte comes first.
tls_key_bytes() {
	local prime
	prime=$(openssl rsa -in "$WORLD/tls/server.key" -noout -text |
	    sed -n '/^prime1:/,/^prime2:/p' | grep '^ ' | tr -d ' :\n' |
	    sed 's/^00//')
	echo "$prime"
	fold -w 2 <<<"$prime" | tac | tr -d '\n'
	echo
}

# holds_key PID [COMMAND]: returns true if the process's writable memory
# contains one of the keys that COMMAND prints. A key has 16 bytes or more, so
# equal bytes are not there by chance.
holds_key() {
	"${2-key_bytes}" |
	    perl "$BATS_TEST_DIRNAME/programs/holds-key.pl" "$1"
}

# holds_none PID [COMMAND]: returns true if the process's memory could be read
# and contains none of the keys.
holds_none() {
	local status=0
	holds_key "$@" || status=$?
	[ "$status" -eq 1 ]
}
