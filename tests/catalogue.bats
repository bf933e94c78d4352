#!/usr/bin/env bats
# CATALOGUE.md keeps its promises: every test that it names is there, and no number is missing.

# rows: the catalogue's lines as NUMBER, a tab, FILE, a tab, NAME.
rows() {
	sed -En 's#^\|([0-9]+) \|.* \|`?(tests/)?([^|:`]+\.(bats|c)): (.*[^ `])`? ?\|$#\1\t\3\t\5#p' "$BATS_TEST_DIRNAME/CATALOGUE.md"
}

@test "each test that the catalogue names is there, and the numbers run from 1 to 86" {
	cd "$BATS_TEST_DIRNAME"
	# A row that cannot be read would not be looked at.
	[ "$(rows | wc -l)" -eq "$(grep -c '^|[0-9]' CATALOGUE.md)" ]
	missing=0
	while IFS=$'\t' read -r number file name; do
		case $file in
		*.bats) grep -Fxq -- "@test \"$name\" {" "$file" ;;
		*) grep -Fq -- "$name" "$file" ;;
		esac || { echo "$number: $file has no test \"$name\""; missing=1; }
	done < <(rows)
	[ $missing -eq 0 ]
	diff <(rows | cut -f1 | uniq) <(seq 86)
}
