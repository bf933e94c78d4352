/*
 * Unit tests of mbox-scan.c, with mbox-boundary.c, mbox-fields.c and
 * mbox-hash.c. The file is read in pieces. The tests check that the messages
 * found do not depend on where the pieces end. They check what a scan reports
 * of a message, the hash of a body, and where a message may end. Runs as any
 * user.
 */
#include "config.h"

#include <sys/mman.h>

#include <string.h>
#include <unistd.h>

#include "mbox-boundary.h"
#include "mbox-scan.h"
#include "tests/unit/check.h"

#define MOST 8
#define PIECE 262144 /* bytes that mbox-scan.c reads at a time */
#define DATE "Mon Nov 23 05:00:00 2026"

static int fd;
static struct scan_message found[MOST];
static size_t count;

static void
keep(void *self, const struct scan_message *one)
{
	(void)self;
	CHECK(count < MOST);
	found[count++] = *one;
}

static void
store(const char *text, size_t n)
{
	CHECK(ftruncate(fd, 0) == 0 && pwrite(fd, text, n, 0) == (ssize_t)n);
}

/* Scans the file. Returns its size. */
static off_t
scan(bool quoted)
{
	off_t size = lseek(fd, 0, SEEK_END), end;

	count = 0;
	CHECK(scan_messages(fd, 0, size, quoted, keep, NULL, &end) ==
		SCAN_DONE &&
	    end == size);
	return size;
}

static void
scan_text(const char *text, bool quoted)
{
	store(text, strlen(text));
	scan(quoted);
}

/*
 * Returns the hash that scan_body computes for message i. If the scan has
 * reported a hash for that message, checks that both hashes are equal.
 */
static uint64_t
body_of(size_t i, off_t size)
{
	off_t to = i + 1 < count ? found[i + 1].at : size;
	uint64_t hash = 0;

	CHECK(scan_body(fd, found[i].at, to, &hash) == 0 && hash != 0);
	CHECK(found[i].body == (found[i].weak ? hash : 0));
	return hash;
}

/*
 * Puts each kind of boundary, lines that are no boundaries, and the end of a
 * Content-Length at each offset around the end of a piece.
 */
static void
the_end_of_a_piece_hides_nothing(void)
{
	static const struct {
		const char *boundary;
		size_t count;
	} cases[] = {
		{ "\n\nFrom b " DATE "\nN: 2\n\n", 2 },
		{ "\r\n\r\nFrom b " DATE "\r\n\r\n", 2 },
		{ "\n\nFrom b\nN: 2\n\n", 2 },
		{ "\n\nFrom b\r\n>From c\nN: 2\n\n", 2 },
		{ "\n\nFrom b\n\nN: 2\n\n", 1 },
		{ "\n\nFrom b " DATE " x\n\nN: 2\n\n", 1 },
		{ "\n\nFrom b " DATE, 2 },
		{ "\n\nFrom ", 1 },
		{ "\n\nF", 1 },
	};
	static char text[PIECE + 4096], with[PIECE + 4096];

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		for (int shift = -1100; shift <= 20;
		     shift += shift > -80 ? 1 : 37) {
			size_t n = (size_t)sprintf(text,
				   "From a\nMessage-ID: 1\n\n"),
			       body = n, m;
			uint64_t hash;
			off_t size;

			memset(text + n, 'x', sizeof(text) - n);
			n = (size_t)(PIECE + shift);
			strcpy(text + n, cases[i].boundary);
			store(text, n + strlen(cases[i].boundary));
			size = scan(false);
			CHECK(count == cases[i].count);
			CHECK(count == 1 ||
			    (size_t)found[1].at ==
				n + 2 + (*cases[i].boundary == '\r') * 2);
			hash = body_of(0, size);
			if (cases[i].count == 1)
				continue;
			/*
			 * Repeat the check with a Content-Length that ends at
			 * this offset. Then also put a boundary inside that
			 * length.
			 */
			m = (size_t)sprintf(with,
			    "From a\nMessage-ID: 1\nContent-Length: %zu\n\n",
			    n + 1 + (*cases[i].boundary == '\r') - body);
			memcpy(with + m, text + body,
			    n + strlen(cases[i].boundary) - body);
			store(with, m + n + strlen(cases[i].boundary) - body);
			size = scan(false);
			CHECK(count == 2 && !found[0].right_if_grown &&
			    body_of(0, size) == hash);
			memcpy(with + PIECE - 1000, "\n\nFrom b\nN: 3\n\n", 15);
			store(with, m + n + strlen(cases[i].boundary) - body);
			size = scan(false);
			if (PIECE - 1000 + 15 < m + n - body) {
				CHECK(count == 2 && !found[0].right_if_grown &&
				    body_of(0, size) != hash);
				scan(true);
				CHECK(count == 3);
			}
		}
}

static void
what_identifies_is_known(void)
{
	static const struct {
		const char *text;
		bool weak, right_if_grown, right_if_shrunk;
	} cases[] = {
		{ "From a\nmessage-id: 1\n\nx\n", false, false, false },
		{ "From a\nReceived: 1\n\nx\n", false, false, false },
		{ "From a\nX-Received: 1\n\nReceived: x\n", true, false,
		    false },
		{ "From a\nA:\n Received: 1\n\nx\n", true, false, false },
		{ "From a\nA: 1\n", true, false, false },
		{ "From a", true, false, false },
		{ "From a\nContent-Length: 3\n\nx\n", true, true, true },
		{ "From a\nContent-Length: 3\n\n", true, true, true },
		{ "From a\nContent-Length: 2\n\nx\n", true, true, false },
		{ "From a\nContent-Length: 2\n\nx\n\n", true, false, false },
		{ "From a\nContent-Length: 0\n\n", true, false, false },
		{ "From a\nContent-Length: 2\n\nx\nFrom b " DATE, true, true,
		    false },
		{ "From a\nContent-Length: 2\n\nx\n\nFrom b", true, true,
		    false },
		{ "From a\nContent-Length: x\n\nx\n", true, false, false },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		scan_text(cases[i].text, false);
		CHECK(count == 1 && found[0].weak == cases[i].weak &&
		    found[0].right_if_grown == cases[i].right_if_grown);
		body_of(0, (off_t)strlen(cases[i].text));
		CHECK(found[0].right_if_shrunk == cases[i].right_if_shrunk);
		scan_text(cases[i].text, true);
		CHECK(count == 1 && found[0].weak == cases[i].weak &&
		    !found[0].right_if_grown && !found[0].right_if_shrunk);
	}
}

/*
 * A Content-Length that ends in a later message may become right by a removal.
 */
static void
a_length_may_become_right_by_a_removal(void)
{
	for (int length = 0; length < 60; length++) {
		char text[200];
		int first, body, all;

		body = sprintf(text, "From a\nContent-Length: %d\n\n", length);
		first = body + sprintf(text + body, "x\n\n");
		all = first +
		    sprintf(text + first,
			"From b\nA: b\n\ny\n\nFrom c\nA: c\n\nz\n\n");
		store(text, (size_t)all);
		scan(false);
		if (length == all - body - 1) {
			CHECK(count == 1 && !found[0].right_if_grown &&
			    !found[0].right_if_shrunk);
			continue;
		}
		CHECK(found[0].right_if_shrunk ==
		    (length > found[1].at - body));
		CHECK(!found[1].right_if_shrunk && !found[1].right_if_grown);
	}
}

/*
 * A Content-Length field of more than 64 bytes is bad, whether it is in one
 * piece or in two.
 */
static void
a_long_length_field_is_bad(void)
{
	static char text[PIECE + 1000];

	for (int blanks = 1; blanks < 100; blanks++)
		for (int shift = -70; shift < 10; shift += 3) {
			size_t n =
			    (size_t)sprintf(text, "From a\nMessage-ID: 1\nX: ");

			memset(text + n, 'x', sizeof(text) - n);
			n = (size_t)(PIECE + shift);
			n += (size_t)sprintf(text + n,
			    "\nContent-Length:%*s13\n\nx\n\nFrom b\nA:\n\nFrom "
			    "c\nA: c\n\n",
			    blanks, "");
			store(text, n);
			scan(false);
			/*
			 * The Content-Length is good if the name, blanks,
			 * digits and line end have at most 64 bytes together.
			 */
			CHECK(count == (15 + blanks + 3 <= 64 ? 2 : 3));
		}
}

/*
 * When a mailbox grows, a Content-Length may become right. That is possible
 * only if too few bytes follow the end of the length to decide now.
 */
static void
a_length_far_from_the_end_cannot_become_right(void)
{
	char text[3000];
	size_t n = (size_t)sprintf(text, "From a\nContent-Length: 3\n\nx\n");

	for (size_t more = FROM_LOOK - 10; more < FROM_LOOK + 10; more++) {
		memset(text + n, 'x', more);
		store(text, n + more);
		scan(false);
		CHECK(count == 1 &&
		    found[0].right_if_grown == (more - 1 < 2 + FROM_LOOK));
	}
}

/*
 * Tests for each kind of body where the header and the body end. If there is no
 * body, the empty line after the header belongs to the message.
 */
static void
a_body_may_be_missing(void)
{
	static const struct {
		const char *text;
		bool has_body;
		uint64_t wire_size, header;
	} cases[] = {
		{ "From a", false, 0, 0 },
		{ "From a\n", false, 0, 0 },
		{ "From a\n\n", false, 2, 0 },
		{ "From a\n\n\n", true, 2, 0 },
		{ "From a\nA: b", false, 6, 6 },
		{ "From a\nA: b\n", false, 6, 6 },
		{ "From a\nA: b\n\n", false, 8, 6 },
		{ "From a\r\nA: b\r\n\r\n", false, 8, 6 },
		{ "From a\nA: b\n\n\n", true, 8, 6 },
		{ "From a\nA: b\r\n\n\r\n", true, 8, 6 },
		{ "From a\nA: b\n\n\n\n", true, 10, 6 },
		{ "From a\nA: b\n\n\r", true, 11, 6 },
		{ "From a\nA: b\n\nx", true, 11, 6 },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		for (int next = 0; next < 2; next++) {
			char text[200];
			off_t size = (off_t)strlen(cases[i].text), empty;

			snprintf(text, sizeof(text), "%s%s", cases[i].text,
			    next != 0 ? "From b " DATE "\nC: d\n\ne\n" : "");
			scan_text(text, false);
			CHECK(boundary_is_at(fd, size, (off_t)strlen(text),
				  &empty) == (next == 0 || empty > 0));
			if (next != 0 && empty == 0)
				continue;
			CHECK(count == (size_t)next + 1 &&
			    found[0].wire_size == cases[i].wire_size &&
			    found[0].header == cases[i].header);
			CHECK(scan_has_body(fd, 0, size) == cases[i].has_body);
		}
	/* The result is also true if no message begins at that offset. */
	CHECK(scan_has_body(fd, 1, 3));
}

static uint64_t
hash_of(const char *message)
{
	store(message, strlen(message));
	count = 1;
	found[0] = (struct scan_message){ .at = 0 };
	return body_of(0, (off_t)strlen(message));
}

static void
a_body_has_one_hash(void)
{
	static const char *const same[] = {
		"From a\nA: b\n\nx\n\r\ry\n",
		"From a\r\nA: b\r\n\r\nx\r\n\r\ry\r\n",
		"From b " DATE "\nC: d\nMessage-ID: 1\n\nx\r\n\r\ry",
		"From a\nContent-Length: 2\n\nx\n\r\ry\n\n\n\r\n",
	};
	static const char *const different[] = { "From a\n\nx\n\r\ry\n\r",
		"From a\n\nx\n\r\ry \n", "From a\n\nx\n\ry\n",
		"From a\n\n\nx\n\r\ry\n", "From a\n\nx\n\n\r\ry\n",
		"From a\n\n", "From a\n\n\r", "From a\n\nx",
		"From a\n\nFrom b\nA: b\n\n" };
	static const char *const empty[] = { "From a", "From a\n",
		"From a\nA: b\n", "From a\nA: b\n\n", "From a\n\n\r\n\n" };
	uint64_t hash = hash_of(same[0]),
		 hashes[sizeof(different) / sizeof(different[0])];

	for (size_t i = 0; i < sizeof(same) / sizeof(same[0]); i++)
		CHECK(hash_of(same[i]) == hash);
	for (size_t i = 0; i < sizeof(different) / sizeof(different[0]); i++) {
		hashes[i] = hash_of(different[i]);
		CHECK(hashes[i] != hash);
		for (size_t k = 0; k < i; k++)
			CHECK(hashes[k] != hashes[i]);
	}
	for (size_t i = 0; i < sizeof(empty) / sizeof(empty[0]); i++)
		CHECK(hash_of(empty[i]) == hash_of(empty[0]));
	/* Only one CR belongs to the line end. */
	CHECK(hash_of("From a\n\n\r\r\n") == hash_of("From a\n\n\r"));
	CHECK(scan_body(fd, 0, 1000, &hash) == -1 &&
	    scan_body(fd, 1, 3, &hash) == -1);
}

/* Many line ends and CRs are at the ends of pieces. */
static void
a_long_body_has_one_hash(void)
{
	static char lf[PIECE + 200], crlf[2 * PIECE + 400];
	size_t n = (size_t)sprintf(lf, "From a\n\n");
	uint64_t hash, other;

	while (n < sizeof(lf) - 1) {
		size_t line = n % 7 * 3 % 5;

		for (; line > 0 && n < sizeof(lf) - 1; line--)
			lf[n++] = line == 1 ? '\r' : 'x';
		for (size_t k = n % 3 == 0 ? 70 : 1;
		     k > 0 && n < sizeof(lf) - 1; k--)
			lf[n++] = '\n';
	}
	lf[n++] = 'x';
	/*
	 * Replace each CR before an LF, because it would belong to the line
	 * end.
	 */
	for (size_t i = 1; i < n; i++)
		if (lf[i] == '\n' && lf[i - 1] == '\r')
			lf[i - 1] = 'y';
	store(lf, n);
	CHECK(scan_body(fd, 0, (off_t)n, &hash) == 0);
	for (int shift = 0; shift < 5; shift++) {
		size_t m =
		    (size_t)sprintf(crlf, "From %.*s\r\n\r\n", shift, "abcdef");

		for (size_t i = 8; i < n; i++) {
			if (lf[i] == '\n')
				crlf[m++] = '\r';
			crlf[m++] = lf[i];
		}
		store(crlf, m);
		CHECK(scan_body(fd, 0, (off_t)m, &other) == 0 && other == hash);
	}
}

static void
boundaries_are_known(void)
{
	static const char text[] =
	    "\n\r\nFrom a\n\nx\n\nFrom here on\n\nFrom b\nA: b\n\ny\nFrom "
	    "c " DATE "\n\r\nFrom d " DATE "\n\nz";
	off_t size = (off_t)sizeof(text) - 1, empty;

	store(text, sizeof(text) - 1);
	for (off_t at = 0; at <= size; at++) {
		bool is = at == 3 || strncmp(text + at, "From b", 6) == 0 ||
		    strncmp(text + at, "From d", 6) == 0 || at == size;

		CHECK(boundary_is_at(fd, at, size, &empty) == is);
		if (is)
			CHECK(empty ==
			    (at == size                  ? 0 :
				    text[at - 2] == '\r' ? 2 :
							   1));
	}
	CHECK(!boundary_is_at(fd, size + 1, size, &empty) &&
	    !boundary_is_at(fd, size + 1, size + 1, &empty));
	/*
	 * The file is cut off before "\nz", where it ends after a line with
	 * text, and before "z", where it ends after an empty line.
	 */
	CHECK(boundary_is_at(fd, size - 2, size - 2, &empty) && empty == 0);
	CHECK(boundary_is_at(fd, size - 1, size - 1, &empty) && empty == 1);
	scan(false);
	CHECK(count == 3 && found[0].at == 3);
	for (size_t i = 0; i < count; i++)
		CHECK(boundary_is_at(fd, found[i].at, size, &empty));
}

int
main(void)
{
	CHECK((fd = memfd_create("spool", MFD_CLOEXEC)) != -1);
	the_end_of_a_piece_hides_nothing();
	what_identifies_is_known();
	a_length_may_become_right_by_a_removal();
	a_long_length_field_is_bad();
	a_length_far_from_the_end_cannot_become_right();
	a_body_may_be_missing();
	a_body_has_one_hash();
	a_long_body_has_one_hash();
	boundaries_are_known();
	return 0;
}
