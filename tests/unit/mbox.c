/*
 * Unit tests of mbox.c behind maildrop.c: what the messages of a spool are,
 * that the count is what is read, that ids are stable and differ, and that a
 * removal leaves every other octet. Runs as anybody.
 */
#include "config.h"

#include <sys/stat.h>

#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include "lock.h"
#include "log.h"
#include "maildrop.h"
#include "tests/unit/check.h"
#include "tests/unit/drop.h"

#define LOOKS_INTERNAL "Subject: DON'T DELETE THIS MESSAGE -- FOLDER INTERNAL DATA\nX-IMAP: 1 2\n"
#define INTERNAL "From MAILER-DAEMON Mon\n" LOOKS_INTERNAL "\nThis text is internal.\n\n"

/* Spools, and the messages in them as a client gets them, stuffing undone. */
static const struct {
	const char *what;
	struct text spool;
	int count; /* -1: refused */
	struct text messages[MOST];
} cases[] = {
	{ "empty", TEXT(""), 0, { { 0 } } },
	{ "one newline", TEXT("\n"), 0, { { 0 } } },
	{ "two messages", TEXT("From a\nA: b\n\nc\n\nFrom d\nE: f\n\ng\n\n"), 2,
	    { TEXT("A: b\r\n\r\nc\r\n"), TEXT("E: f\r\n\r\ng\r\n") } },
	{ "no final newline", TEXT("From a\nA: b\n\nc"), 1, { TEXT("A: b\r\n\r\nc\r\n") } },
	{ "no separator at the end", TEXT("From a\nA: b\n\nc\n"), 1, { TEXT("A: b\r\n\r\nc\r\n") } },
	{ "CRLF", TEXT("From a\r\nA: b\r\n\r\nc\r\n\r\nFrom d\r\nE: f\r\n\r\ng\r\n\r\n"), 2,
	    { TEXT("A: b\r\n\r\nc\r\n"), TEXT("E: f\r\n\r\ng\r\n") } },
	{ "mixed line ends", TEXT("From a\nA: b\r\n\nc\r\n\r\nFrom d\r\nE: f\n\r\ng\n\n"), 2,
	    { TEXT("A: b\r\n\r\nc\r\n"), TEXT("E: f\r\n\r\ng\r\n") } },
	{ "NULs and 8 bits", TEXT("From a\nA: \0\n\n\0\xff\n\n"), 1, { TEXT("A: \0\r\n\r\n\0\xff\r\n") } },
	{ "From inside a paragraph", TEXT("From a\nA: b\n\nc\nFrom d\n\n"), 1,
	    { TEXT("A: b\r\n\r\nc\r\nFrom d\r\n") } },
	{ "quoted From", TEXT("From a\nA: b\n\n>From d\n\n"), 1, { TEXT("A: b\r\n\r\n>From d\r\n") } },
	{ "from in small letters", TEXT("From a\nA: b\n\nfrom d\n\n"), 1, { TEXT("A: b\r\n\r\nfrom d\r\n") } },
	{ "lying Content-Length", TEXT("From a\nContent-Length: 9999\n\nc\n\nFrom d\nE: f\n\n"), 2,
	    { TEXT("Content-Length: 9999\r\n\r\nc\r\n"), TEXT("E: f\r\n") } },
	{ "empty lines in front", TEXT("\n\nFrom a\nA: b\n\nc\n\n"), 1, { TEXT("A: b\r\n\r\nc\r\n") } },
	{ "several empty lines at the end", TEXT("From a\nA: b\n\nc\n\n\n\nFrom d\nE: f\n\n"), 2,
	    { TEXT("A: b\r\n\r\nc\r\n\r\n\r\n"), TEXT("E: f\r\n") } },
	{ "dots", TEXT("From a\nA: b\n\n.\n..\n.c\n\n"), 1, { TEXT("A: b\r\n\r\n.\r\n..\r\n.c\r\n") } },
	{ "half a message", TEXT("From a\nA: b\n\nc\n\nFrom d"), 2, { TEXT("A: b\r\n\r\nc\r\n"), TEXT("") } },
	{ "nothing but From", TEXT("From \n\nFrom \n\nFrom \n"), 3, { TEXT(""), TEXT(""), TEXT("") } },
	{ "an F alone at the end", TEXT("From a\nA: b\n\nc\n\nF"), 1, { TEXT("A: b\r\n\r\nc\r\n\r\nF\r\n") } },
	{ "internal message", TEXT(INTERNAL "From a\nA: b\n\nc\n\n"), 1, { TEXT("A: b\r\n\r\nc\r\n") } },
	{ "nothing but the internal message", TEXT(INTERNAL), 0, { { 0 } } },
	{ "what looks internal but came by mail", TEXT("From a\nReceived: b\n" LOOKS_INTERNAL "\n"), 1,
	    { TEXT("Received: b\r\nSubject: DON'T DELETE THIS MESSAGE -- "
		   "FOLDER INTERNAL DATA\r\nX-IMAP: 1 2\r\n") } },
	{ "equal messages", TEXT("From a\nA: b\n\nc\n\nFrom a\nA: b\n\nc\n\nFrom a\nA: b\n\nd\n\n"), 3,
	    { TEXT("A: b\r\n\r\nc\r\n"), TEXT("A: b\r\n\r\nc\r\n"), TEXT("A: b\r\n\r\nd\r\n") } },
	{ "no From in front", TEXT("A: b\n\nc\n"), -1, { { 0 } } },
	{ "NULs in front", TEXT("\0\0\0\0\nFrom a\n\n"), -1, { { 0 } } },
};

static int top;

static void
store(const void *p, size_t n)
{
	int fd = openat(top, "spool", O_WRONLY | O_CREAT | O_TRUNC, 0600);

	CHECK(fd != -1 && write(fd, p, n) == (ssize_t)n && close(fd) == 0);
}

static void
append(const char *text)
{
	int fd = openat(top, "spool", O_WRONLY | O_APPEND);

	CHECK(fd != -1 && write(fd, text, strlen(text)) == (ssize_t)strlen(text) && close(fd) == 0);
}

static size_t
load(char *p, size_t size)
{
	int fd = openat(top, "spool", O_RDONLY);
	ssize_t n = read(fd, p, size);

	CHECK(n >= 0 && close(fd) == 0);
	return (size_t)n;
}

static enum drop_error
begin(struct maildrop *drop)
{
	return drop_begin(drop, "mbox:%h/spool");
}

/* Every subset of the messages removed: the rest is served as before, and putting the removed ones' octets back gives the file. */
static void
check_removals(const struct text *spool, int count, const struct text *want)
{
	char after[1024];

	for (unsigned subset = 1; subset < 1u << count; subset++) {
		struct maildrop drop;
		size_t removed, n, k = 0;

		store(spool->p, spool->n);
		CHECK(begin(&drop) == DROP_OK);
		for (int i = 0; i < count; i++)
			if ((subset >> i & 1) != 0)
				maildrop_mark(&drop, (size_t)i + 1);
		CHECK(maildrop_commit(&drop, &removed) == DROP_OK);
		CHECK(removed == (size_t)__builtin_popcount(subset));
		n = load(after, sizeof(after));
		CHECK(n < spool->n);
		/* What stays is a subsequence; removed parts are whole messages, as the next session sees. */
		for (size_t i = 0; i < spool->n && k < n; i++)
			k += spool->p[i] == after[k];
		CHECK(k == n);
		CHECK(begin(&drop) == DROP_OK);
		CHECK(drop.count == (size_t)count - removed);
		n = 0;
		for (int i = 0; i < count; i++)
			if ((subset >> i & 1) == 0)
				drop_check_message(&drop, ++n, &want[i]);
	}
}

static void
finds_and_removes(void)
{
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct maildrop drop;
		uint64_t octets = 0;

		store(cases[i].spool.p, cases[i].spool.n);
		if (cases[i].count == -1) {
			CHECK(begin(&drop) == DROP_DENIED);
			continue;
		}
		CHECK(begin(&drop) == DROP_OK);
		if (drop.count != (size_t)cases[i].count)
			fprintf(stderr, "%s: %zu messages\n", cases[i].what, drop.count);
		CHECK(drop.count == (size_t)cases[i].count);
		for (size_t n = 1; n <= drop.count; n++) {
			drop_check_message(&drop, n, &cases[i].messages[n - 1]);
			octets += maildrop_octets(&drop, n);
		}
		CHECK(octets == drop.octets);
		drop_check_ids(&drop);
		check_removals(&cases[i].spool, cases[i].count, cases[i].messages);
	}
}

static void
uidl_of_first(const char *spool, char id[UIDL_SIZE])
{
	struct maildrop drop;

	store(spool, strlen(spool));
	CHECK(begin(&drop) == DROP_OK && drop.count >= 1);
	maildrop_uidl(&drop, 1, id);
}

static void
ids_survive_readers(void)
{
	char plain[UIDL_SIZE], other[UIDL_SIZE];
	static const char *const same[] = {
		"From x\nA: b\nStatus: RO\nC: d\n\nbody\n\n",
		"From a\nA: b\nX-Status: A\nX-UID: 77\nC: d\nContent-Length: 5\n\nbody\n\n",
		"From a\nA: b\nC: d\nX-Keywords: a\n b\n\tc\n\nother body\n\n",
		"From a\r\nA: b\r\nC: d\r\n\r\nbody\r\n\r\n",
		"From a\nx-mozilla-status: 1\nA: b\nC: d\n\nbody\n\nFrom b\nE: f\n\n",
	};
	static const char *const different[] = {
		"From a\nA: b\nC: e\n\nbody\n\n",
		"From a\nA: b\nC: d\nE: f\n\nbody\n\n",
		"From a\nA: b\nC: d\n Status: folded, not a field\n\nbody\n\n",
	};

	uidl_of_first("From a\nA: b\nC: d\n\nbody\n\n", plain);
	for (size_t i = 0; i < sizeof(same) / sizeof(same[0]); i++) {
		uidl_of_first(same[i], other);
		CHECK(strcmp(plain, other) == 0);
	}
	for (size_t i = 0; i < sizeof(different) / sizeof(different[0]); i++) {
		uidl_of_first(different[i], other);
		CHECK(strcmp(plain, other) != 0);
	}
}

/* A header line longer than the buffer, in CRLF or LF and wherever the cut falls, gives one id. */
static void
long_lines_are_one_line(void)
{
	enum { LONG = 700000 };
	static char spool[LONG + 100];
	char first[UIDL_SIZE] = "", id[UIDL_SIZE];

	for (int shift = 0; shift < 8; shift++) {
		size_t n = (size_t)sprintf(spool, "From %.*s\nA: ", shift, "12345678");

		/* A CR at the very place where a piece of 256 KiB may end. */
		memset(spool + n, 'x', LONG);
		spool[n + 262144 - 12] = '\r';
		strcpy(spool + n + LONG, shift % 2 == 0 ? "\n\nbody\n\n" : "\r\n\r\nbody\r\n\r\n");
		uidl_of_first(spool, id);
		CHECK(first[0] == '\0' || strcmp(first, id) == 0);
		strlcpy(first, id, sizeof(first));
	}
}

static void
foreign_changes_are_noticed(void)
{
	static const char three[] = "From a\nN: 1\n\n1\n\nFrom b\nN: 2\n\n2\n\nFrom c\nN: 3\n\n3\n\n";
	static const char first_gone[] = "From b\nN: 2\n\n2\n\nFrom c\nN: 3\n\n3\n\n";
	char after[200];
	struct maildrop drop;
	struct span s;
	size_t removed;

	/* Another program removes the first message in place: the second is found where it went. */
	store(three, sizeof(three) - 1);
	CHECK(begin(&drop) == DROP_OK);
	maildrop_mark(&drop, 2);
	store(first_gone, sizeof(first_gone) - 1);
	CHECK(maildrop_fetch(&drop, 3, &s) == DROP_CHANGED);
	CHECK(maildrop_commit(&drop, &removed) == DROP_OK && removed == 1);
	CHECK(load(after, sizeof(after)) == 16 && memcmp(after, "From c\nN: 3\n\n3\n\n", 16) == 0);

	/* It removes the marked one itself: the others stay. */
	store(three, sizeof(three) - 1);
	CHECK(begin(&drop) == DROP_OK);
	maildrop_mark(&drop, 1);
	store(first_gone, sizeof(first_gone) - 1);
	CHECK(maildrop_commit(&drop, &removed) == DROP_CHANGED && removed == 0);
	CHECK(load(after, sizeof(after)) == sizeof(first_gone) - 1 &&
	    memcmp(after, first_gone, sizeof(first_gone) - 1) == 0);

	/* It replaces the file: nothing is removed from either. */
	store(three, sizeof(three) - 1);
	CHECK(begin(&drop) == DROP_OK);
	maildrop_mark(&drop, 1);
	CHECK(renameat(top, "spool", top, "old") == 0);
	store(three, sizeof(three) - 1);
	CHECK(maildrop_commit(&drop, &removed) == DROP_CHANGED && removed == 0);
	CHECK(load(after, sizeof(after)) == sizeof(three) - 1);

	/* Mail arrives: it stays, and so does a message that was not marked. */
	store(three, sizeof(three) - 1);
	CHECK(begin(&drop) == DROP_OK);
	maildrop_mark(&drop, 3);
	append("From d\nN: 4\n\n4\n\n");
	CHECK(maildrop_fetch(&drop, 1, &s) == DROP_OK && s.octets == 11);
	CHECK(maildrop_commit(&drop, &removed) == DROP_OK && removed == 1);
	CHECK(load(after, sizeof(after)) == 48);
	CHECK(memcmp(after + 32, "From d\nN: 4\n\n4\n\n", 16) == 0);

	/* A marked message without its end gets one, and more: what nobody has seen is not removed with it. */
	store(three, sizeof(three) - 2);
	CHECK(begin(&drop) == DROP_OK && drop.count == 3);
	maildrop_mark(&drop, 3);
	append("4\nFrom d\nN: 4\n\n4\n\n");
	CHECK(maildrop_fetch(&drop, 3, &s) == DROP_CHANGED);
	CHECK(maildrop_commit(&drop, &removed) == DROP_CHANGED && removed == 0);
	CHECK(load(after, sizeof(after)) == sizeof(three) - 2 + 18);
	/* Nor if it has moved, too. */
	store(three, sizeof(three) - 2);
	CHECK(begin(&drop) == DROP_OK);
	maildrop_mark(&drop, 3);
	store(first_gone, sizeof(first_gone) - 2);
	append("4\nFrom d\nN: 4\n\n4\n\n");
	CHECK(maildrop_commit(&drop, &removed) == DROP_CHANGED && removed == 0);
	CHECK(load(after, sizeof(after)) == sizeof(first_gone) - 2 + 18);
}

int
main(void)
{
	top = drop_directory();
	finds_and_removes();
	ids_survive_readers();
	long_lines_are_one_line();
	foreign_changes_are_noticed();
	return drop_clean_up();
}
