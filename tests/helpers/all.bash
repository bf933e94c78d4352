# Loads the helpers, and starts a server for the whole file. A test file may
# replace each of the four functions.

for helper in server realm mail pop proc crash tls keys torture evidence \
    fuse dovecot; do
	# shellcheck source=/dev/null
	source "$BATS_TEST_DIRNAME/helpers/$helper.bash"
done

setup_file() { server_start; }
teardown_file() { server_stop; }
setup() { begin_test; }
teardown() { end_test; }
