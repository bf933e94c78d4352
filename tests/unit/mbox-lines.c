/*
 * Unit tests of mbox-lines.c. The fast functions and the portable ones must
 * give the same results as a loop over single bytes. The tests use random bytes
 * and difficult ones, in pieces of any size. Runs as any user.
 */
#include "config.h"

#include <stdbool.h>
#include <string.h>

#include "mbox-lines.h"
#include "tests/unit/check.h"

#define MOST 700

/* All bytes passed so far, after an empty line. */
static char seen[MOST + 2] = "\n\n";
static size_t count = 2;

static bool
is_after_empty(void)
{
	return seen[count - 1] == '\n' &&
	    (seen[count - 2] == '\n' ||
		(count > 2 && seen[count - 2] == '\r' &&
		    seen[count - 3] == '\n'));
}

/* Does the work of lines_until_from byte by byte. */
static size_t
pass_bytes(const char *p, size_t n, uint64_t *bare, bool to_from)
{
	size_t i = 0;

	for (; i < n && !(to_from && p[i] == 'F' && is_after_empty()); i++) {
		*bare += p[i] == '\n' && seen[count - 1] != '\r';
		seen[count++] = p[i];
	}
	return i;
}

typedef size_t pass(struct lines *, const char *, size_t, uint64_t *);

/* Has the type of lines_until_from, but never stops before the end. */
static size_t
count_all(struct lines *l, const char *p, size_t n, uint64_t *bare)
{
	*bare += lines_bare(l, p, n);
	return n;
}

/*
 * Passes the text in random pieces to the function "fast", and compares each
 * result. Continues after each F at which the function stops.
 */
static void
compare(pass *fast, const char *text, size_t n, bool to_from)
{
	struct lines l = LINES_BEGIN;
	uint64_t bare = 0, want = 0;

	count = 2;
	for (size_t at = 0; at < n;) {
		size_t some = 1 + (size_t)random() % (n - at), did;

		did = pass_bytes(text + at, some, &want, to_from);
		CHECK(fast(&l, text + at, some, &bare) == did);
		CHECK(bare == want);
		CHECK(lines_at_begin(&l) == (seen[count - 1] == '\n'));
		CHECK(lines_after_empty(&l) == is_after_empty());
		at += did;
		if (did == some)
			continue;
		CHECK(text[at] == 'F');
		lines_pass(&l);
		seen[count++] = text[at++];
	}
}

static void
compare_all(const char *text, size_t n)
{
	for (int times = 0; times < 4; times++) {
		compare(lines_until_from, text, n, true);
		compare(lines_until_from_portable, text, n, true);
		compare(count_all, text, n, false);
	}
}

int
main(void)
{
	static const char alphabet[] = "\n\n\n\r\rFFx\0\xff\x8a\x0b\x09\x7f";
	char text[MOST];

	srandom(1);
	for (int i = 0; i < 20000; i++) {
		size_t n = 1 + (size_t)random() % MOST,
		       letters = 1 + (size_t)random() % (sizeof(alphabet) - 1);

		for (size_t k = 0; k < n; k++)
			text[k] = alphabet[(size_t)random() % letters];
		compare_all(text, n);
	}
	/* Try each combination of bytes at each offset in a word. */
	for (size_t at = 0; at < 70; at++) {
		memset(text, 'x', sizeof(text));
		memcpy(text + at, "\n\nF\n\r\nF\r\n\r\nF\r\rF\n\nf", 19);
		compare_all(text, at + 19);
		compare_all(text, 200);
	}
	return 0;
}
