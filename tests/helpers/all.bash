# What every test file loads: the helpers, and a server for the whole file
# unless the file says otherwise.

for helper in server realm mail pop proc crash tls keys torture evidence \
    fuse; do
	# shellcheck source=/dev/null
	source "$BATS_TEST_DIRNAME/helpers/$helper.bash"
done

setup_file() { server_start; }
teardown_file() { server_stop; }
setup() { begin_test; }
teardown() { end_test; }
