/*
 * Tests wire.c. Every message must give the same lines and the same size,
 * whatever the sizes of the pieces in which it is converted.
 *
 * Runs as any user.
 */
#include "config.h"

#include <stdbool.h>
#include <string.h>

#include "tests/unit/check.h"
#include "wire.h"

struct text {
	const char *p;
	size_t n;
};
#define TEXT(s)                                                                \
	{                                                                      \
		s, sizeof(s) - 1                                               \
	}

/*
 * Messages as they are stored and as they are sent, and the size that LIST
 * reports.
 */
static const struct {
	struct text stored, sent;
	uint64_t wire_size;
} messages[] = {
	{ TEXT(""), TEXT(""), 0 },
	{ TEXT("\n"), TEXT("\r\n"), 2 },
	{ TEXT("\r\n"), TEXT("\r\n"), 2 },
	{ TEXT("a\nb\n"), TEXT("a\r\nb\r\n"), 6 },
	{ TEXT("a\r\nb\r\n"), TEXT("a\r\nb\r\n"), 6 },
	{ TEXT("a\r\nb\n"), TEXT("a\r\nb\r\n"), 6 },
	{ TEXT("no end"), TEXT("no end\r\n"), 8 },
	{ TEXT("."), TEXT("..\r\n"), 3 },
	{ TEXT(".\n"), TEXT("..\r\n"), 3 },
	{ TEXT("..\n.a\n"), TEXT("...\r\n..a\r\n"), 8 },
	{ TEXT("a.\n.\n"), TEXT("a.\r\n..\r\n"), 7 },
	{ TEXT("\n.\n"), TEXT("\r\n..\r\n"), 5 },
	{ TEXT("a\rb\n"), TEXT("a\rb\r\n"), 5 },
	{ TEXT("a\r\r\n"), TEXT("a\r\r\n"), 4 },
	{ TEXT("\r"), TEXT("\r\r\n"), 3 },
	{ TEXT("\r.\n"), TEXT("\r.\r\n"), 4 },
	{ TEXT("a\0b\n\0\n"), TEXT("a\0b\r\n\0\r\n"), 8 },
	{ TEXT("\xff\x80\n"), TEXT("\xff\x80\r\n"), 4 },
};

/*
 * Converts the text t in pieces of at most "step" bytes. Writes the result to
 * out[], and returns its size.
 */
static size_t
convert(struct wire *w, struct text t, size_t step, char *out)
{
	size_t at = 0;

	for (size_t from = 0; from < t.n; from += step) {
		size_t n = t.n - from < step ? t.n - from : step;

		at += wire_put(w, t.p + from, n, out + at);
	}
	return at + wire_end(w, out + at);
}

static void
converts_and_counts(void)
{
	char out[64];

	for (size_t i = 0; i < sizeof(messages) / sizeof(messages[0]); i++) {
		for (size_t step = 1; step <= 8; step++) {
			struct wire w, counting;
			size_t n, counted;

			wire_init(&w, WIRE_ALL);
			n = convert(&w, messages[i].stored, step, out);
			CHECK(n == messages[i].sent.n);
			CHECK(memcmp(out, messages[i].sent.p, n) == 0);
			CHECK(w.wire_size == messages[i].wire_size);

			wire_init(&counting, WIRE_ALL);
			counted = wire_put(&counting, messages[i].stored.p,
			    messages[i].stored.n, NULL);
			counted += wire_end(&counting, NULL);
			CHECK(counting.wire_size == w.wire_size &&
			    counted == n);
		}
	}
}

static void
top_stops_after_its_lines(void)
{
	static const struct text stored = TEXT("A: b\r\nC: d\n\n1\n.2\n\n4");
	static const struct {
		uint64_t lines;
		struct text sent;
	} tops[] = {
		{ 0, TEXT("A: b\r\nC: d\r\n\r\n") },
		{ 1, TEXT("A: b\r\nC: d\r\n\r\n1\r\n") },
		{ 2, TEXT("A: b\r\nC: d\r\n\r\n1\r\n..2\r\n") },
		{ 3, TEXT("A: b\r\nC: d\r\n\r\n1\r\n..2\r\n\r\n") },
		{ 4, TEXT("A: b\r\nC: d\r\n\r\n1\r\n..2\r\n\r\n4\r\n") },
		{ UINT64_MAX - 1,
		    TEXT("A: b\r\nC: d\r\n\r\n1\r\n..2\r\n\r\n4\r\n") },
	};
	char out[64];

	for (size_t i = 0; i < sizeof(tops) / sizeof(tops[0]); i++) {
		for (size_t step = 1; step <= stored.n; step++) {
			struct wire w;
			size_t n;

			wire_init(&w, tops[i].lines);
			n = convert(&w, stored, step, out);
			CHECK(n == tops[i].sent.n);
			CHECK(memcmp(out, tops[i].sent.p, n) == 0);
		}
	}
}

/*
 * Removes the stuffing as a client does, and compares the result with the
 * stored lines.
 */
static void
random_messages_come_back(void)
{
	static const char letters[] = "a.\n\r\n.\0\xff";
	char stored[200], out[2 * sizeof(stored) + 2], back[sizeof(out)];

	srandom(1939);
	for (int round = 0; round < 20000; round++) {
		struct wire w;
		size_t n = (size_t)random() % sizeof(stored), m, to = 0,
		       from = 0;
		bool begins = true;

		for (size_t i = 0; i < n; i++)
			stored[i] =
			    letters[(size_t)random() % (sizeof(letters) - 1)];
		wire_init(&w, WIRE_ALL);
		m = convert(&w, (struct text){ stored, n },
		    1 + (size_t)random() % 50, out);
		for (size_t i = 0; i < m; i++) {
			if (!(begins && out[i] == '.'))
				back[to++] = out[i];
			else
				CHECK(i + 1 < m && out[i + 1] != '\r');
			if (begins && out[i] == '.')
				back[to++] = out[++i];
			begins = out[i] == '\n';
		}
		CHECK(w.wire_size == to);
		CHECK(m == 0 || (out[m - 2] == '\r' && out[m - 1] == '\n'));
		for (size_t i = 0; i < n; i++) {
			if (stored[i] == '\n' &&
			    (i == 0 || stored[i - 1] != '\r'))
				CHECK(back[from++] == '\r');
			CHECK(back[from++] == stored[i]);
		}
		CHECK(from == to || (from + 2 == to && stored[n - 1] != '\n'));
	}
}

int
main(void)
{
	converts_and_counts();
	top_stops_after_its_lines();
	random_messages_come_back();
	return 0;
}
