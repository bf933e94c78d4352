#!/usr/bin/env bats
# CATALOGUE.md, FAULTS.md and SECURITY.md keep their promises: every test that they name is there, and no number is missing.

# rows FILE: its lines as NUMBER, a tab, FILE, a tab, NAME.
rows() {
	sed -En 's/^\|([0-9]+) \|.* \|`?(tests\/)?([^|:`]+\.(bats|c)): (.*[^ `])`? ?\|$/\1\t\3\t\5/p' "$1"
}

# keeps FILE LAST: all of this is true of it; its numbers run from 1 to LAST.
keeps() {
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
