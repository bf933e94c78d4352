#!/usr/bin/env bats
# Verifies small instances of the models of removals and takeovers with spin.
# make model verifies the larger ones.

@test "no state of the models of removals and takeovers has an error, and without any one safeguard some state has" {
	[ -z "${SANITIZER-}" ] || skip "the models do not contain the build"
	run "$BATS_TEST_DIRNAME/model/run" short
	echo "$output"
	[ "$status" -eq 0 ]
	[[ $output =~ '# model: '[1-9][0-9]*' points, 0 bad'$ ]]
}
