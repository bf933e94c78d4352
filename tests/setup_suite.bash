# What bats runs once before the first file of a command and once after the
# last.

setup_suite() { :; }

# teardown_suite: ends each sleep whose test has ended. Bats' countdown to
# BATS_TEST_TIMEOUT is one if the test was so short that its countdown had not
# yet begun. Such a sleep has bats' output open, so bats would wait for it.
teardown_suite() {
	pkill -P 1 -x sleep || :
}
