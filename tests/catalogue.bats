#!/usr/bin/env bats
# CATALOGUE.md, FAULTS.md, ATTACKS.md and SECURITY.md keep their promises: every test that they name is there.

# rows FILE: its lines as NUMBER, a tab, FILE, a tab, NAME.
rows() {
	sed -En 's/^\|([0-9]+) \|.* \|`?(tests\/)?([^|:`]+\.(bats|c)): (.*[^ `])`? ?\|$/\1\t\3\t\5/p' "$1"
}

# names_tests FILE: all its rows can be read, and every test that it names is there.
names_tests() {
	local missing=0
	# A row that cannot be read would not be looked at.
	[ "$(rows "$1" | wc -l)" -eq "$(grep -c '^|[0-9]' "$1")" ]
	while IFS=$'\t' read -r number file name; do
		case $file in
		*.bats) grep -Fxq -- "@test \"$name\" {" "$file" ;;
		*) grep -Fq -- "$name" "$file" ;;
		esac || { echo "$1, $number: $file has no test \"$name\""; missing=1; }
	done < <(rows "$1")
	[ $missing -eq 0 ]
}

# keeps FILE LAST: that, and its numbers run from 1 to LAST.
keeps() {
	names_tests "$1"
	diff <(rows "$1" | cut -f1 | uniq) <(seq "$2")
}

setup() {
	cd "$BATS_TEST_DIRNAME"
}

@test "each test that the catalogue of bad input names is there, and the numbers run from 1 to 86" {
	keeps CATALOGUE.md 86
}

@test "each test that the list of faults names is there, and the numbers run from 1 to 20" {
	keeps FAULTS.md 20
}

@test "each promise of SECURITY.md has tests, and each that it names is there" {
	keeps ../SECURITY.md 8
}

@test "each test that the list of attacks names is there, and each process has ten attacks" {
	keeps ATTACKS.md 9
	for number in 1 2 3 4 5 6 7 8 9; do
		[ "$(rows ATTACKS.md | cut -f1 | grep -cx $number)" -ge 10 ]
	done
}
