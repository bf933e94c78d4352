# Loads the helpers. Starts one server for the whole test file. A test file may
# replace each of the four functions below.

for helper in server realm mail pop proc crash tls keys torture evidence \
    fuse dovecot; do
	# shellcheck source=/dev/null
	source "$BATS_TEST_DIRNAME/helpers/$helper.bash"
done

setup_file() { server_start; }
teardown_file() { server_stop; }
setup() { begin_test; }
teardown() { end_test; }
