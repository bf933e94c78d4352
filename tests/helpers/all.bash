# What every test file loads.
for helper in server realm mail pop; do
	# shellcheck source=/dev/null
	source "$BATS_TEST_DIRNAME/helpers/$helper.bash"
done
