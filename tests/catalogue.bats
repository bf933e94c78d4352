#!/usr/bin/env bats
# Checks that each row of CATALOGUE.md, FAULTS.md and ATTACKS.md, and each
# promise of SECURITY.md, has a test.
#
# A row begins with its number, such as 17 or 19-3. The promises are numbered
# from 1 to 8. A tag marks a test with the row or the promise that the test
# checks. The tag is "# bats test_tags=catalogue:17" above a Bats test. In a
# unit test it is the comment "catalogue:17". "bats --filter-tags catalogue:17"
# runs the Bats tests of a row.

setup() {
	cd "$BATS_TEST_DIRNAME"
}

# numbers FILE: prints the numbers of the file's rows.
numbers() {
	sed -En 's/^\|([0-9]+(-[0-9]+)?) \|.*/\1/p' "$1"
}

# marks KIND: prints the numbers in the tags of this kind.
marks() {
	{
		sed -n 's/^# bats test_tags=//p' ./*.bats
		grep -hoE '/\* ([a-z]+:[-0-9]+,? )+\*/' unit/*.c
	} | grep -oE "\<$1:[-0-9]+" | cut -d: -f2
}

# keeps FILE KIND LAST: returns true if each row has a test, each tag has a row,
# no row occurs twice, and the rows run from 1 to LAST.
keeps() {
	diff <(numbers "$1" | sort) <(marks "$2" | sort -u)
	diff <(numbers "$1" | sed 's/-.*//' | uniq) <(seq "$3")
	# Check that each row has a number, because a row without one would not
	# be tested.
	[ "$(grep -c '^|' "$1")" -eq \
	    $(($(numbers "$1" | wc -l) + 2 * $(grep -c '^|---' "$1"))) ]
}

@test "each row of the catalogue of bad input has a test, and the rows run from 1 to 88" {
	keeps CATALOGUE.md catalogue 88
}

@test "each row of the list of faults has a test, and the rows run from 1 to 23" {
	keeps FAULTS.md fault 23
}

@test "each row of the list of attacks has a test, and each process has ten attacks" {
	keeps ATTACKS.md attack 9
	for process in 1 2 3 4 5 6 7 8 9; do
		[ "$(numbers ATTACKS.md | grep -c "^$process-")" -ge 10 ]
	done
}

@test "each tag stands above a test, and is a number of one of the lists" {
	local mark='(catalogue|fault|attack|promise):[0-9]+(-[0-9]+)?'
	run grep -hE '^# bats (test|file)_tags=' ./*.bats
	[ "$(grep -hcE "^# bats test_tags=$mark(,$mark)*\$" <<<"$output")" -eq \
	    ${#lines[@]} ]
	awk 'tag && !/^@test / { print FILENAME ": " tag; bad = 1 }
		{ tag = /^# bats test_tags=/ ? $0 : "" }
		END { exit bad }' ./*.bats
}

@test "each promise of SECURITY.md has a test, and no test is marked with a promise that SECURITY.md lacks" {
	local promises
	promises=$(sed -n '/^## Promised/,/^## /s/^\([0-9]*\)\. .*/\1/p' \
	    ../SECURITY.md)
	[ "$promises" = "$(seq 8)" ]
	diff <(echo "$promises") <(marks promise | sort -nu)
}
