/*
 * Tests which line maildir-quota.c appends to maildirsize, and which files it
 * does not change.
 *
 * Runs as any user.
 */
#include "config.h"

#include <sys/stat.h>

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "maildir-quota.h"
#include "tests/unit/check.h"

#define FIRST "1000S,5C\n"
#define SIZE_MOST 5120 /* the value in maildir-quota.c */

static int top;

static void
store(const char *text, size_t n)
{
	int fd = openat(top, "maildirsize", O_WRONLY | O_CREAT | O_TRUNC, 0600);

	CHECK(fd != -1 && write(fd, text, n) == (ssize_t)n && close(fd) == 0);
}

/*
 * Checks that the file consists of "text" and then the line "ours". If "ours"
 * is NULL, checks that no line follows "text".
 */
static void
check_file(const char *text, size_t n, const char *ours)
{
	static char there[2 * SIZE_MOST];
	int fd = openat(top, "maildirsize", O_RDONLY);
	size_t more = ours != NULL ? strlen(ours) : 0;

	CHECK(fd != -1 &&
	    read(fd, there, sizeof(there)) == (ssize_t)(n + more) &&
	    close(fd) == 0);
	CHECK(memcmp(there, text, n) == 0 &&
	    (ours == NULL || memcmp(there + n, ours, more) == 0));
}

static void
one_line_for_all_that_was_removed(void)
{
	static const struct {
		const char *names[4];
		const char *line; /* the line that is appended, or NULL */
	} cases[] = {
		{ { NULL }, NULL },
		{ { "1.a" }, "         -70           -1\n" },
		{ { "1.a", "2.b", "3.c" }, "        -210           -3\n" },
		{ { "1.a,S=18" }, "         -18           -1\n" },
		{ { "1.a,S=18:2,S" }, "         -18           -1\n" },
		{ { "1.a,S=18,W=20:2,FRS", "2.b,W=7,S=5" },
		    "         -23           -2\n" },
		{ { "1.a,S=18,S=30" }, "         -30           -1\n" },
		{ { "1.a:2,S=18", ",S=0" }, "         -70           -2\n" },
		{ { "1.a,S=", "2.b,S=-3", "3.c,S=x", "4,S= 5" },
		    "        -280           -4\n" },
		{ { "1,S=9223372036854775807" },
		    "-9223372036854775807           -1\n" },
		{ { "1,S=9223372036854775808", "2,S=99999999999999999999" },
		    "        -140           -2\n" },
		{ { "1,S=9223372036854775807", "2,S=9223372036854775807",
		      "3,S=9223372036854775807" },
		    "-9223372036854775807           -3\n" },
		{ { "1.a,S=18:2,T" }, "           0            0\n" },
		{ { "1.a,S=18:2,ST", "2.b,S=7:2,S" },
		    "          -7           -1\n" },
		{ { ":2,T" }, "           0            0\n" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct quota q = { 0 };

		store(FIRST, sizeof(FIRST) - 1);
		for (size_t k = 0; k < 4 && cases[i].names[k] != NULL; k++)
			quota_note(&q, cases[i].names[k], 70);
		quota_update(&q, top);
		check_file(FIRST, sizeof(FIRST) - 1, cases[i].line);
	}
}

static void
a_line_only_where_one_may_come(void)
{
	static const char line[] = "         -70           -1\n";
	static char full[SIZE_MOST];
	struct quota q = { 0 };
	struct stat st;

	quota_note(&q, "1.a", 70);
	/* A missing file is not made. */
	CHECK(unlinkat(top, "maildirsize", 0) == 0);
	quota_update(&q, top);
	CHECK(fstatat(top, "maildirsize", &st, 0) == -1);
	/*
	 * Nothing is appended to an empty file, because the new line would be
	 * read as the quota.
	 */
	store("", 0);
	quota_update(&q, top);
	check_file("", 0, NULL);
	/*
	 * Nothing is appended to half a line, because the number in that line
	 * would change.
	 */
	store(FIRST "12", sizeof(FIRST) + 1);
	quota_update(&q, top);
	check_file(FIRST "12", sizeof(FIRST) + 1, NULL);
	memset(full, '\n', sizeof(full));
	store(full, SIZE_MOST);
	quota_update(&q, top);
	check_file(full, SIZE_MOST, NULL);
	store(full, SIZE_MOST - 1);
	quota_update(&q, top);
	check_file(full, SIZE_MOST - 1, line);
	/* A directory, a FIFO or a symlink with that name is not changed. */
	CHECK(unlinkat(top, "maildirsize", 0) == 0 &&
	    mkdirat(top, "maildirsize", 0700) == 0);
	quota_update(&q, top);
	CHECK(unlinkat(top, "maildirsize", AT_REMOVEDIR) == 0 &&
	    mkfifoat(top, "maildirsize", 0600) == 0);
	quota_update(&q, top);
	CHECK(unlinkat(top, "maildirsize", 0) == 0);
	store(FIRST, sizeof(FIRST) - 1);
	CHECK(renameat(top, "maildirsize", top, "other") == 0 &&
	    symlinkat("other", top, "maildirsize") == 0);
	quota_update(&q, top);
	check_file(FIRST, sizeof(FIRST) - 1, NULL);
	CHECK(unlinkat(top, "maildirsize", 0) == 0 &&
	    unlinkat(top, "other", 0) == 0);
}

int
main(void)
{
	char directory[] = "/tmp/kpopd-quota.XXXXXX";

	CHECK(mkdtemp(directory) != NULL &&
	    (top = open(directory, O_PATH | O_DIRECTORY)) != -1);
	one_line_for_all_that_was_removed();
	a_line_only_where_one_may_come();
	return rmdir(directory);
}
