/*
 * Unit tests of mbox.c through maildrop.c, with fixed and random mailboxes.
 * They check which messages a spool has, and that LIST and STAT report the
 * sizes that RETR sends. They check that ids differ and stay the same, and that
 * a removal keeps every other byte. Runs as any user.
 */
#include "config.h"

#include <sys/stat.h>
#include <sys/wait.h>

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <regex.h>
#include <stdbool.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "index.h"
#include "mbox-cache.h"
#include "mbox-table.h"
#include "lock.h"
#include "log.h"
#include "maildrop.h"
#include "tests/unit/check.h"
#include "tests/unit/drop.h"
#include "wire.h"

#define INTERNAL_SUBJECT                                                       \
	"Subject: DON'T DELETE THIS MESSAGE -- FOLDER INTERNAL DATA\n"
#define INTERNAL_FROM "From: Mail System Internal Data <MAILER-DAEMON@h>\n"
#define THOUSAND 1000 /* messages */
#define DATE "Mon Nov 23 05:00:00 2026"
#define LOOKS_INTERNAL INTERNAL_FROM INTERNAL_SUBJECT "X-IMAP: 1 2\n"
#define INTERNAL                                                               \
	"From MAILER-DAEMON " DATE "\n" LOOKS_INTERNAL                         \
	"\nThis text is internal.\n\n"
/*
 * A message that resembles the internal message, and the text that a client
 * gets.
 */
#define NEARLY(from, header, crlf)                                             \
	TEXT(from header "\n"), 1,                                             \
	{                                                                      \
		TEXT(crlf "\r\n")                                              \
	}

/*
 * Spools. Each has the list of the messages that a client gets, without
 * dot-stuffing.
 */
static const struct {
	const char *what;
	struct text spool;
	int count; /* number of messages; -1 if the spool is refused */
	struct text messages[MOST];
} cases[] = {
	{ "empty", TEXT(""), 0, { { 0 } } },
	{ "one newline", TEXT("\n"), 0, { { 0 } } },
	{ "two messages", TEXT("From a\nA: b\n\nc\n\nFrom d\nE: f\n\ng\n\n"), 2,
	    { TEXT("A: b\r\n\r\nc\r\n"), TEXT("E: f\r\n\r\ng\r\n") } },
	{ "no final newline", TEXT("From a\nA: b\n\nc"), 1,
	    { TEXT("A: b\r\n\r\nc\r\n") } },
	{ "no separator at the end", TEXT("From a\nA: b\n\nc\n"), 1,
	    { TEXT("A: b\r\n\r\nc\r\n") } },
	{ "CRLF",
	    TEXT("From a\r\nA: b\r\n\r\nc\r\n\r\nFrom d\r\nE: "
		 "f\r\n\r\ng\r\n\r\n"),
	    2, { TEXT("A: b\r\n\r\nc\r\n"), TEXT("E: f\r\n\r\ng\r\n") } },
	{ "mixed line ends",
	    TEXT("From a\nA: b\r\n\nc\r\n\r\nFrom d\r\nE: f\n\r\ng\n\n"), 2,
	    { TEXT("A: b\r\n\r\nc\r\n"), TEXT("E: f\r\n\r\ng\r\n") } },
	{ "NULs and 8 bits", TEXT("From a\nA: \0\n\n\0\xff\n\n"), 1,
	    { TEXT("A: \0\r\n\r\n\0\xff\r\n") } },
	{ "From inside a paragraph", TEXT("From a\nA: b\n\nc\nFrom d\n\n"), 1,
	    { TEXT("A: b\r\n\r\nc\r\nFrom d\r\n") } },
	{ "quoted From", TEXT("From a\nA: b\n\n>From d\n\n"), 1,
	    { TEXT("A: b\r\n\r\n>From d\r\n") } },
	{ "from in small letters", TEXT("From a\nA: b\n\nfrom d\n\n"), 1,
	    { TEXT("A: b\r\n\r\nfrom d\r\n") } },
	{ "the word alone",
	    TEXT("From a\nA: b\n\nc\n\nFrom the very beginning of a "
		 "sentence.\n\n"),
	    1,
	    { TEXT("A: b\r\n\r\nc\r\n\r\nFrom the very beginning of a "
		   "sentence.\r\n") } },
	{ "a date, no header",
	    TEXT("From a\nA: b\n\nc\n\nFrom d " DATE "\n\ne\n\n"), 2,
	    { TEXT("A: b\r\n\r\nc\r\n"), TEXT("\r\ne\r\n") } },
	{ "Content-Length of text that is not quoted",
	    TEXT("From a\nContent-Length: 40\n\nc\n\nFrom d " DATE
		 "\nE: f\n\nFrom d\nE: f\n\n"),
	    2,
	    { TEXT("Content-Length: 40\r\n\r\nc\r\n\r\nFrom d " DATE
		   "\r\nE: f\r\n"),
		TEXT("E: f\r\n\r\n") } },
	{ "Content-Length up to the end",
	    TEXT("From a\nContent-Length: 15\n\nc\n\nFrom d\nE: f\n"), 2,
	    { TEXT("Content-Length: 15\r\n\r\nc\r\n"), TEXT("E: f\r\n") } },
	{ "Content-Length up to the empty line at the end",
	    TEXT("From a\nContent-Length: 15\n\nc\n\nFrom d\nE: f\n\n"), 1,
	    { TEXT("Content-Length: 15\r\n\r\nc\r\n\r\nFrom d\r\nE: f\r\n") } },
	{ "Content-Length one too short",
	    TEXT("From a\nContent-Length: 14\n\nc\n\nFrom d\nE: f\n\n"), 2,
	    { TEXT("Content-Length: 14\r\n\r\nc\r\n"), TEXT("E: f\r\n\r\n") } },
	{ "Content-Length with the empty line",
	    TEXT("From a\nContent-Length: 16\n\nc\n\nFrom d\nE: f\n\nFrom "
		 "e\nG: h\n\n"),
	    3,
	    { TEXT("Content-Length: 16\r\n\r\nc\r\n"), TEXT("E: f\r\n\r\n"),
		TEXT("G: h\r\n\r\n") } },
	{ "Content-Length in CRLF",
	    TEXT("From a\r\nContent-Length: 19\r\n\r\nc\r\n\r\nFrom d\r\nE: "
		 "f\r\n\r\nFrom e\r\nG: h\r\n\r\n"),
	    2,
	    { TEXT("Content-Length: 19\r\n\r\nc\r\n\r\nFrom d\r\nE: f\r\n"),
		TEXT("G: h\r\n\r\n") } },
	{ "Content-Length 0",
	    TEXT("From a\nContent-Length: 0\n\n\nFrom d\nE: f\n\n"), 2,
	    { TEXT("Content-Length: 0\r\n\r\n"), TEXT("E: f\r\n\r\n") } },
	{ "Content-Length that ends before prose",
	    TEXT("From a\nContent-Length: 2\n\nc\n\nFrom here\n\nFrom e\nG: "
		 "h\n\n"),
	    2,
	    { TEXT("Content-Length: 2\r\n\r\nc\r\n\r\nFrom here\r\n"),
		TEXT("G: h\r\n\r\n") } },
	{ "two Content-Lengths",
	    TEXT("From a\nContent-Length: 15\nContent-Length: 2\n\nc\n\nFrom "
		 "d\nE: f\n\n"),
	    2,
	    { TEXT("Content-Length: 15\r\nContent-Length: 2\r\n\r\nc\r\n"),
		TEXT("E: f\r\n\r\n") } },
	{ "negative Content-Length",
	    TEXT("From a\nContent-Length: -15\n\nc\n\nFrom d\nE: f\n\n"), 2,
	    { TEXT("Content-Length: -15\r\n\r\nc\r\n"),
		TEXT("E: f\r\n\r\n") } },
	{ "Content-Length beyond all numbers",
	    TEXT("From a\nContent-Length: 18446744073709551631\n\nc\n\nFrom "
		 "d\nE: f\n\n"),
	    2,
	    { TEXT("Content-Length: 18446744073709551631\r\n\r\nc\r\n"),
		TEXT("E: f\r\n\r\n") } },
	{ "folded Content-Length",
	    TEXT("From a\nContent-Length: 1\n 5\n\nc\n\nFrom d\nE: f\n\n"), 2,
	    { TEXT("Content-Length: 1\r\n 5\r\n\r\nc\r\n"),
		TEXT("E: f\r\n\r\n") } },
	{ "Content-Length and more",
	    TEXT("From a\nContent-Length: 15 x\n\nc\n\nFrom d\nE: f\n\n"), 2,
	    { TEXT("Content-Length: 15 x\r\n\r\nc\r\n"),
		TEXT("E: f\r\n\r\n") } },
	{ "lying Content-Length",
	    TEXT("From a\nContent-Length: 9999\n\nc\n\nFrom d\nE: f\n\n"), 2,
	    { TEXT("Content-Length: 9999\r\n\r\nc\r\n"),
		TEXT("E: f\r\n\r\n") } },
	{ "empty lines in front", TEXT("\n\nFrom a\nA: b\n\nc\n\n"), 1,
	    { TEXT("A: b\r\n\r\nc\r\n") } },
	{ "several empty lines at the end",
	    TEXT("From a\nA: b\n\nc\n\n\n\nFrom d\nE: f\n\n"), 2,
	    { TEXT("A: b\r\n\r\nc\r\n\r\n\r\n"), TEXT("E: f\r\n\r\n") } },
	{ "dots", TEXT("From a\nA: b\n\n.\n..\n.c\n\n"), 1,
	    { TEXT("A: b\r\n\r\n.\r\n..\r\n.c\r\n") } },
	{ "half a message", TEXT("From a\nA: b\n\nc\n\nFrom d"), 1,
	    { TEXT("A: b\r\n\r\nc\r\n\r\nFrom d\r\n") } },
	{ "half a message with its date",
	    TEXT("From a\nA: b\n\nc\n\nFrom d " DATE), 2,
	    { TEXT("A: b\r\n\r\nc\r\n"), TEXT("") } },
	{ "a header and the empty line that ends it",
	    TEXT("From a\nA: b\n\nFrom d\nE: f\n\nFrom g\nH: i\n\n"), 3,
	    { TEXT("A: b\r\n\r\n"), TEXT("E: f\r\n\r\n"),
		TEXT("H: i\r\n\r\n") } },
	{ "a header and two empty lines",
	    TEXT("From a\nA: b\n\n\nFrom d\nE: f\n\n\nFrom g\nH: i\n\n\n"), 3,
	    { TEXT("A: b\r\n\r\n"), TEXT("E: f\r\n\r\n"),
		TEXT("H: i\r\n\r\n") } },
	{ "a header and three empty lines, CRLF",
	    TEXT("From a\r\nA: b\r\n\r\n\r\n\r\nFrom d\r\nE: f\r\n\r\n\n"), 2,
	    { TEXT("A: b\r\n\r\n\r\n"), TEXT("E: f\r\n\r\n") } },
	{ "a header without an empty line at the end",
	    TEXT("From a\nA: b\n\nFrom d\nE: f\n"), 2,
	    { TEXT("A: b\r\n\r\n"), TEXT("E: f\r\n") } },
	{ "nothing but From", TEXT("From \n\nFrom \n\nFrom \n"), 1,
	    { TEXT("\r\nFrom \r\n\r\nFrom \r\n") } },
	{ "nothing but dates",
	    TEXT("From " DATE "\n\nFrom " DATE "\n\nFrom " DATE "\n"), 3,
	    { TEXT("\r\n"), TEXT("\r\n"), TEXT("") } },
	{ "empty lines and no header in front",
	    TEXT("\n\r\nFrom a\n\nc\n\nFrom d\nE: f\n\n"), 2,
	    { TEXT("\r\nc\r\n"), TEXT("E: f\r\n\r\n") } },
	{ "an F alone at the end", TEXT("From a\nA: b\n\nc\n\nF"), 1,
	    { TEXT("A: b\r\n\r\nc\r\n\r\nF\r\n") } },
	{ "internal message", TEXT(INTERNAL "From a\nA: b\n\nc\n\n"), 1,
	    { TEXT("A: b\r\n\r\nc\r\n") } },
	{ "nothing but the internal message", TEXT(INTERNAL), 0, { { 0 } } },
	{ "internal message of c-client",
	    TEXT("From MAILER-DAEMON Mon Nov 23 05:00:00 2026\nDate: 23 Nov "
		 "2026 05:00:00 +0100\n"
		 "From: Mail System Internal Data "
		 "<MAILER-DAEMON@h>\n" INTERNAL_SUBJECT
		 "Message-ID: <1795406400@h>\nX-IMAP: 1795406400 0000000017 "
		 "$Forwarded Junk\nStatus: RO\n\ntext\n\n"),
	    0, { { 0 } } },
	{ "internal message of Dovecot",
	    TEXT("From MAILER_DAEMON  Mon Nov 23 05:00:00 2026\nDate: Mon, 23 "
		 "Nov 2026 05:00:00 +0100\n"
		 "From: Mail System Internal Data "
		 "<MAILER-DAEMON@h>\n" INTERNAL_SUBJECT
		 "Message-ID: <1795406400@h>\nX-IMAP: 1795406400 "
		 "0000000017\nStatus: RO\n\ntext\n\n"),
	    0, { { 0 } } },
	{ "internal message, CRLF",
	    TEXT("From MAILER-DAEMON x\r\nFrom: \"Mail System Internal Data\" "
		 "<MAILER-DAEMON@h>\r\n"
		 "Subject: DON'T DELETE THIS MESSAGE -- FOLDER INTERNAL "
		 "DATA\r\nX-IMAPbase: 1 2\r\n\r\n"),
	    0, { { 0 } } },
	{ "what looks internal but came by mail",
	    NEARLY("From MAILER-DAEMON x\n", "Received: b\n" LOOKS_INTERNAL,
		"Received: b\r\nFrom: Mail System Internal Data "
		"<MAILER-DAEMON@h>\r\n"
		"Subject: DON'T DELETE THIS MESSAGE -- FOLDER INTERNAL "
		"DATA\r\nX-IMAP: 1 2\r\n") },
	{ "what looks internal but a user sent",
	    NEARLY("From a\n", LOOKS_INTERNAL,
		"From: Mail System Internal Data <MAILER-DAEMON@h>\r\n"
		"Subject: DON'T DELETE THIS MESSAGE -- FOLDER INTERNAL "
		"DATA\r\nX-IMAP: 1 2\r\n") },
	{ "an internal subject that goes on",
	    NEARLY("From MAILER-DAEMON x\n",
		INTERNAL_FROM "X-IMAP: 1 2\nSubject: DON'T DELETE THIS MESSAGE "
			      "-- FOLDER INTERNAL DATA, it says\n",
		"From: Mail System Internal Data <MAILER-DAEMON@h>\r\nX-IMAP: "
		"1 2\r\n"
		"Subject: DON'T DELETE THIS MESSAGE -- FOLDER INTERNAL DATA, "
		"it says\r\n") },
	{ "an internal subject that is folded",
	    NEARLY("From MAILER-DAEMON x\n",
		LOOKS_INTERNAL INTERNAL_SUBJECT " it says\n",
		"From: Mail System Internal Data <MAILER-DAEMON@h>\r\n"
		"Subject: DON'T DELETE THIS MESSAGE -- FOLDER INTERNAL "
		"DATA\r\nX-IMAP: 1 2\r\n"
		"Subject: DON'T DELETE THIS MESSAGE -- FOLDER INTERNAL "
		"DATA\r\n it says\r\n") },
	{ "an internal message from a user",
	    NEARLY("From MAILER-DAEMON x\n",
		INTERNAL_SUBJECT "From: root\nX-IMAP: 1 2\n",
		"Subject: DON'T DELETE THIS MESSAGE -- FOLDER INTERNAL "
		"DATA\r\nFrom: root\r\nX-IMAP: 1 2\r\n") },
	{ "an internal message without its numbers",
	    NEARLY("From MAILER-DAEMON x\n",
		INTERNAL_FROM INTERNAL_SUBJECT "X-IMAP: 1\n",
		"From: Mail System Internal Data <MAILER-DAEMON@h>\r\n"
		"Subject: DON'T DELETE THIS MESSAGE -- FOLDER INTERNAL "
		"DATA\r\nX-IMAP: 1\r\n") },
	{ "equal messages",
	    TEXT("From a\nA: b\n\nc\n\nFrom a\nA: b\n\nc\n\nFrom a\nA: "
		 "b\n\nd\n\n"),
	    3,
	    { TEXT("A: b\r\n\r\nc\r\n"), TEXT("A: b\r\n\r\nc\r\n"),
		TEXT("A: b\r\n\r\nd\r\n") } },
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

	CHECK(fd != -1 &&
	    write(fd, text, strlen(text)) == (ssize_t)strlen(text) &&
	    close(fd) == 0);
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
	/*
	 * A session leaves its descriptors open until its process ends. Close
	 * those of the last session here.
	 */
	closefrom(top + 1);
	return drop_begin(drop, "mbox:%h/spool");
}

/*
 * Removes every subset of the messages. Checks that the other messages are
 * served as before, and that the file only lost bytes.
 */
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
		/*
		 * The remaining bytes are a subsequence of the file. The next
		 * session checks that whole messages were removed.
		 */
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

/*
 * The linker replaces fstat by this function (--wrap). While tick is set, fstat
 * reports it as the mtime and ctime of every file, as if all changes were in
 * one tick of the clock.
 */
static struct timespec tick;
int __real_fstat(int, struct stat *);
int __wrap_fstat(int, struct stat *);
int
__wrap_fstat(int fd, struct stat *st)
{
	int result = __real_fstat(fd, st);

	if (tick.tv_sec != 0)
		st->st_mtim = st->st_ctim = tick;
	return result;
}

/*
 * If the mailbox was last changed long ago, a session trusts the list without
 * reading the messages. The list must then contain exactly the messages of the
 * file.
 */
static void
finds_in_stable_mailboxes(void)
{
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct maildrop drop;

		if (cases[i].count == -1)
			continue;
		tick.tv_sec = 1000000000;
		tick.tv_nsec = 1;
		unlinkat(top, "state/index", 0);
		store(cases[i].spool.p, cases[i].spool.n);
		for (int known = 0; known < 2; known++) {
			CHECK(begin(&drop) == DROP_OK &&
			    drop.count == (size_t)cases[i].count);
			for (size_t n = 1; n <= drop.count; n++)
				drop_check_message(&drop, n,
				    &cases[i].messages[n - 1]);
		}
		tick.tv_sec = 0;
	}
	unlinkat(top, "state/index", 0);
}

static void
finds_and_removes(void)
{
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct maildrop drop;
		uint64_t wire_size = 0;

		store(cases[i].spool.p, cases[i].spool.n);
		if (cases[i].count == -1) {
			CHECK(begin(&drop) == DROP_DENIED);
			continue;
		}
		CHECK(begin(&drop) == DROP_OK);
		if (drop.count != (size_t)cases[i].count)
			fprintf(stderr, "%s: %zu messages\n", cases[i].what,
			    drop.count);
		CHECK(drop.count == (size_t)cases[i].count);
		for (size_t n = 1; n <= drop.count; n++) {
			drop_check_message(&drop, n, &cases[i].messages[n - 1]);
			wire_size += maildrop_wire_size(&drop, n);
		}
		CHECK(wire_size == drop.wire_size);
		drop_check_ids(&drop);
		check_removals(&cases[i].spool, cases[i].count,
		    cases[i].messages);
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
		"From a\nA: b\nX-Status: A\nX-UID: 77\nC: d\nContent-Length: "
		"5\n\nbody\n\n",
		"From a\nA: b\nC: d\nX-Keywords: a\n b\n\tc\n\nbody\n\n",
		"From a\r\nA: b\r\nC: d\r\n\r\nbody\r\n\r\n",
		"From a\nx-mozilla-status: 1\nA: b\nC: d\n\nbody\n\nFrom b\nE: "
		"f\n\n",
		"From a\nA: b\nC: d\nX-Label: one, two\n\nbody\n\n",
		"From a\nx-label:\nA: b\nX-LABEL: one\n two\nC: d\n\nbody\n\n",
		"From a\nA: b\nC: d\nX-RMAIL-ATTRIBUTES: "
		"A-------\nX-RMAIL-KEYWORDS: foo\n\nbody\n\n",
		"From a\nA: b\nC: d\nLines: 2\nX-Gnus-Article-Number: 1   Sun, "
		"29 Nov 2026 06:02:00 +0000\n\nbody\n\n",
		"From a\nA: b\nC: d\nX-Gnus-Newsgroup: mail:1   Sun, 29 Nov "
		"2026 06:02:00 +0000\n\nbody\n\n",
		"From a\nX-VM-Labels: (\"foo\")\nX-VM-v5-Data: ([t "
		"nil]\n\t[nil nil]\n\t(\"foo\"))\nA: b\nC: d\n\nbody\n\n",
		"From a\r\nX-Mozilla-Status: 0005\r\nX-Mozilla-Status2: "
		"00000000\r\nX-Mozilla-Keys: $label1    \r\nA: b\nC: "
		"d\n\r\nbody\n\n",
		"From a\nA: b\nC: d\nX-Evolution: 00000001-0018\n\nbody\n\n",
	};
	static const char *const different[] = {
		"From a\nA: b\nC: e\n\nbody\n\n",
		"From a\nA: b\nC: d\nE: f\n\nbody\n\n",
		"From a\nA: b\nC: d\n Status: folded, not a field\n\nbody\n\n",
		"From a\nA: b\nC: d\nX-Spam-Status: No\n\nbody\n\n",
		"From a\nA: b\nC: d\nX-Bogosity: Unsure\n\nbody\n\n",
		"From a\nA: b\nC: d\nX-Account-Key: account1\n\nbody\n\n",
		"From a\nA: b\nC: d\nReferences: <1@kpopd.test>\n\nbody\n\n",
		"From a\nA: b\nC: d\nX-Labels: one\n\nbody\n\n",
		"From a\nA: b\nC: d\nX-Label-Old: one\n\nbody\n\n",
		"From a\nA: b\nC: d\nLabel: one\n\nbody\n\n",
		"From a\nA: b\nC: d\nX-VMailer: one\n\nbody\n\n",
		"From a\nA: b\nC: d\nX-\n\nbody\n\n",
		"From a\nA: b\nC: d\nX-Content-Length: 5\n\nbody\n\n",
	};

	uidl_of_first("From a\nA: b\nC: d\n\nbody\n\n", plain);
	/*
	 * If a new version of kpopd changed this id, clients would fetch all
	 * mail again.
	 */
	uidl_of_first(
	    "From a\nMessage-ID: <1@kpopd.test>\nA: b\nC: d\n\nbody\n\n",
	    other);
	CHECK(strcmp(other, "u8qgfnhpdQGMoo7Ys21HeQ") == 0);
	/*
	 * A header with a Message-ID identifies its message, so the body does
	 * not change the id. Without a Message-ID, the id also depends on the
	 * body.
	 */
	uidl_of_first(
	    "From a\nMessage-ID: <1@kpopd.test>\nA: b\nC: d\n\nother body\n\n",
	    other);
	CHECK(strcmp(other, "u8qgfnhpdQGMoo7Ys21HeQ") == 0);
	uidl_of_first("From a\nA: b\nC: d\n\nother body\n\n", other);
	CHECK(strncmp(plain, other, UIDL_HASH_TEXT) == 0 &&
	    strcmp(plain, other) != 0);
	for (size_t i = 0; i < sizeof(same) / sizeof(same[0]); i++) {
		uidl_of_first(same[i], other);
		CHECK(strcmp(plain, other) == 0);
	}
	for (size_t i = 0; i < sizeof(different) / sizeof(different[0]); i++) {
		uidl_of_first(different[i], other);
		CHECK(strcmp(plain, other) != 0);
	}
}

/*
 * Earlier versions did not hash the empty line after a header without a body.
 * Such messages must still have the ids that the earlier versions gave them.
 */
static void
ids_of_empty_bodies_stay(void)
{
	static const struct {
		const char *header, *id;
	} headers[] = {
		{ "Message-ID: <1@kpopd.test>\nA: b\n",
		    "-GuBR1-3DBvlQg-eG1VYlg" },
		{ "A: b\nC: d\n", "7O3BpUMPJSWUWT2_Zg-tEA.38dea2dcbd21b74b" },
		{ "", "maoG0wFHmNhgAcMkRo1Jfw.38dea2dcbd21b74b" },
	};
	static const char *const ends[] = { "", "\n", "\n\n",
		"\nFrom b " DATE "\nE: f\n\n",
		"\n\nFrom b " DATE "\nE: f\n\n" };
	char id[UIDL_SIZE], spool[200];

	for (size_t i = 0; i < sizeof(headers) / sizeof(headers[0]); i++)
		for (size_t k = 0; k < sizeof(ends) / sizeof(ends[0]); k++) {
			snprintf(spool, sizeof(spool), "From a\n%s%s",
			    headers[i].header, ends[k]);
			uidl_of_first(spool, id);
			CHECK(strcmp(id, headers[i].id) == 0);
		}
}

/*
 * The last line of a truncated header may have no line end. Another program may
 * add this line end and then append a message. The message with the truncated
 * header must keep its id.
 */
static void
a_truncated_header_keeps_its_id(void)
{
	static const char *const headers[] = { "Message-ID: 1\nA: b", "A: b",
		"A:", "A: b\n c", "A: b\nStatus: O" };
	static const char *const ends[] = { "", "\r", "\n", "\r\n", "\n\n",
		"\r\n\r\n", "\n\nFrom b " DATE "\nE: f\n\n" };
	char first[UIDL_SIZE], id[UIDL_SIZE], spool[200];

	for (size_t i = 0; i < sizeof(headers) / sizeof(headers[0]); i++)
		for (size_t k = 0; k < sizeof(ends) / sizeof(ends[0]); k++) {
			snprintf(spool, sizeof(spool), "From a\n%s%s",
			    headers[i], ends[k]);
			uidl_of_first(spool, k == 0 ? first : id);
			CHECK(k == 0 || strcmp(id, first) == 0);
		}
	/*
	 * A CR that may be half of the empty line after the header is not
	 * hashed.
	 */
	uidl_of_first("From a\nA: b\n", first);
	uidl_of_first("From a\nA: b\n\r", id);
	CHECK(strcmp(id, first) == 0);
}

/*
 * A header line that is longer than the buffer gives the same id with CRLF and
 * LF, wherever the buffer's end splits it.
 */
static void
long_lines_are_one_line(void)
{
	enum { LONG = 700000 };
	static char spool[LONG + 100];
	char first[UIDL_SIZE] = "", id[UIDL_SIZE];

	for (int shift = 0; shift < 8; shift++) {
		size_t n =
		    (size_t)sprintf(spool, "From %.*s\nA: ", shift, "12345678");

		/*
		 * Put a CR near offset 256 KiB, where the first piece that is
		 * read may end.
		 */
		memset(spool + n, 'x', LONG);
		spool[n + 262144 - 12] = '\r';
		strcpy(spool + n + LONG,
		    shift % 2 == 0 ? "\n\nbody\n\n" : "\r\n\r\nbody\r\n\r\n");
		uidl_of_first(spool, id);
		CHECK(first[0] == '\0' || strcmp(first, id) == 0);
		strlcpy(first, id, sizeof(first));
	}
}

/*
 * The mailbox ends within the second header, one byte after a CR. That CR must
 * not count as a line end, wherever the pieces end in which kpopd reads the
 * file.
 */
static void
an_end_after_a_cr_is_not_a_line_end(void)
{
	static char spool[262144 + 10];
	struct maildrop drop;
	struct span s;

	for (size_t cr = 262144 - 4; cr < 262144 + 4; cr++) {
		size_t n =
		    (size_t)sprintf(spool, "From a\nN: 1\n\n1\n\nFrom b\nN: ");

		memset(spool + n, 'x', sizeof(spool) - n);
		spool[cr] = '\r';
		store(spool, cr + 2);
		CHECK(begin(&drop) == DROP_OK && drop.count == 2);
		/* The fingerprint is not stable, so maildrop_begin reads the
		 * message again and compares it with the list. */
		CHECK(maildrop_begin(&drop, 2, &s) == DROP_OK);
	}
}

/*
 * Overwrites message 1 in place with a message of the same size, as another
 * program may do. Then checks that message 1 is sent as the text in "wanted".
 */
static void
check_rewritten(const char *before, const char *now, const char *wanted)
{
	struct maildrop drop;
	char text[200];
	struct span s;

	CHECK(strlen(before) == strlen(now));
	store(before, strlen(before));
	CHECK(begin(&drop) == DROP_OK && drop.count == 2);
	store(now, strlen(now));
	CHECK(maildrop_begin(&drop, 1, &s) == DROP_OK &&
	    s.bytes == strlen(wanted));
	CHECK(maildrop_read(&s, text, sizeof(text)) ==
		(ssize_t)strlen(wanted) &&
	    memcmp(text, wanted, strlen(wanted)) == 0);
}

/*
 * When mail readers rewrite fields, a header may end at another offset than the
 * offset in the list. Whether the message has a body then depends on the file,
 * not on the list.
 */
static void
a_body_that_came_or_went_is_seen(void)
{
	static const char without[] = "From a\nMessage-ID: 1\nStatus: "
				      "ROO\n\nFrom b\nMessage-ID: 2\n\n2\n\n";
	static const char with[] =
	    "From a\nMessage-ID: 1\n\n0123456789\n\nFrom b\nMessage-ID: "
	    "2\n\n2\n\n";

	check_rewritten(without, with, "Message-ID: 1\n\n0123456789\n");
	check_rewritten(with, without, "Message-ID: 1\nStatus: ROO\n\n");
}

/*
 * Rewrites the kept list as a list of the given kind. Makes the sizes of
 * messages without a body too small, because earlier versions counted too few
 * bytes. Returns true if the list's fingerprint is stable.
 */
static bool
age_list(const char *kind)
{
	int state = openat(top, "state", O_RDONLY | O_DIRECTORY);
	struct index *now = index_load(state, "mbox   4"), *old;
	uint64_t record[64];

	CHECK(now != NULL && index_record_size(now) <= sizeof(record));
	old = index_new(state, kind, index_record_size(now));
	for (size_t i = 0; i < index_count(now); i++) {
		const void *p = index_get(now, i);

		CHECK(p != NULL);
		memcpy(record, p, index_record_size(now));
		/*
		 * The second field is the wire size. Messages without a body
		 * have a header of 16 bytes and an empty line here.
		 */
		if (record[1] == 16 + 2)
			record[1] -= 2;
		index_put(old, i, record);
	}
	index_save(old, index_note(now), INDEX_NOTE);
	CHECK(close(state) == 0);
	return ((const struct list_note *)index_note(now))->mailbox.stable == 1;
}

/*
 * The sizes in the list of an earlier version are not used, because that
 * version counted other bytes. The ids in that list are still used. Without
 * them, a message could get the id of an equal message that was removed before.
 */
static void
an_earlier_list_gives_ids_and_no_sizes(void)
{
	static const char three[] =
	    "From a\nMessage-ID: 1\n\n1\n\nFrom b\nMessage-ID: 1\n\n2\n\nFrom "
	    "c\nMessage-ID: 33\n\n";
	static const struct text last = TEXT("Message-ID: 33\r\n\r\n");
	char first[UIDL_SIZE], second[UIDL_SIZE], id[UIDL_SIZE];
	struct maildrop drop;
	size_t removed;

	for (int large = 0; large < 2; large++) {
		cache_small = large != 0 ? 0 : (off_t)4 << 20;
		unlinkat(top, "state/index", 0);
		store(three, sizeof(three) - 1);
		CHECK(begin(&drop) == DROP_OK && drop.count == 3);
		maildrop_uidl(&drop, 1, first);
		maildrop_uidl(&drop, 2, second);
		CHECK(strcmp(first, second) != 0);
		maildrop_mark(&drop, 1);
		CHECK(maildrop_commit(&drop, &removed) == DROP_OK &&
		    removed == 1);
		/* Wait until the fingerprint is stable. */
		CHECK(nanosleep(&(struct timespec){ .tv_nsec = 100000000 },
			  NULL) == 0);
		CHECK(begin(&drop) == DROP_OK && drop.count == 2);
		CHECK(age_list("mbox   3"));
		/* A list of the current kind would be continued when a large
		 * mailbox grows. */
		if (large != 0)
			append("From d\nMessage-ID: 4\n\n");
		CHECK(begin(&drop) == DROP_OK &&
		    drop.wire_size ==
			15 + 2 + 3 + last.n + (large != 0 ? 15 + 2 : 0));
		maildrop_uidl(&drop, 1, id);
		CHECK(strcmp(id, second) == 0);
		drop_check_message(&drop, 2, &last);
		/* A list of an unknown kind is not used at all. */
		age_list("mbox   0");
		CHECK(begin(&drop) == DROP_OK);
		maildrop_uidl(&drop, 1, id);
		CHECK(strcmp(id, first) == 0);
	}
	cache_small = (off_t)4 << 20;
}

/*
 * Several messages have the same header and body, and some of them are marked.
 * QUIT keeps as many messages as were not marked, even if all of them have
 * moved.
 */
static void
equal_messages_keep_their_number(void)
{
	static const char other[] = "From b\nN: 2\n\n2\n\n",
			  equal[] = "From a\nN: 1\n\n1\n\n";
	char spool[200], want[200], after[200];
	struct maildrop drop;
	size_t removed;

	for (int marked = 2; marked <= 3; marked++) {
		/* Another program removes one of the two equal messages and the
		 * message before them, so the remaining one has moved. */
		snprintf(spool, sizeof(spool), "%s%s%s", other, equal, equal);
		store(spool, strlen(spool));
		CHECK(begin(&drop) == DROP_OK && drop.count == 3);
		maildrop_mark(&drop, (size_t)marked);
		store(equal, strlen(equal));
		CHECK(maildrop_commit(&drop, &removed) == DROP_CHANGED &&
		    removed == 0);
		CHECK(load(after, sizeof(after)) == strlen(equal) &&
		    memcmp(after, equal, strlen(equal)) == 0);
		/*
		 * Another program removes only the message before the two equal
		 * ones. QUIT then removes one of the two and keeps the other.
		 */
		store(spool, strlen(spool));
		CHECK(begin(&drop) == DROP_OK);
		maildrop_mark(&drop, (size_t)marked);
		snprintf(want, sizeof(want), "%s%s", equal, equal);
		store(want, strlen(want));
		CHECK(maildrop_commit(&drop, &removed) == DROP_OK &&
		    removed == 1);
		CHECK(load(after, sizeof(after)) == strlen(equal) &&
		    memcmp(after, equal, strlen(equal)) == 0);
	}
}

static void
foreign_changes_are_noticed(void)
{
	static const char three[] =
	    "From a\nN: 1\n\n1\n\nFrom b\nN: 2\n\n2\n\nFrom c\nN: 3\n\n3\n\n";
	static const char equal[] =
	    "From a\nN: 1\n\n1\n\nFrom a\nN: 1\n\n2\n\nFrom c\nN: 3\n\n3\n\n";
	static const char first_gone[] =
	    "From b\nN: 2\n\n2\n\nFrom c\nN: 3\n\n3\n\n";
	char after[200];
	struct maildrop drop;
	struct span s;
	size_t removed;

	/* Another program removes the first message in place. The second is
	 * found at its new offset. */
	store(three, sizeof(three) - 1);
	CHECK(begin(&drop) == DROP_OK);
	maildrop_mark(&drop, 2);
	store(first_gone, sizeof(first_gone) - 1);
	CHECK(maildrop_begin(&drop, 3, &s) == DROP_OK && s.at == 16 + 7 &&
	    s.wire_size == 11);
	CHECK(maildrop_begin(&drop, 1, &s) == DROP_CHANGED);
	CHECK(maildrop_commit(&drop, &removed) == DROP_OK && removed == 1);
	CHECK(load(after, sizeof(after)) == 16 &&
	    memcmp(after, "From c\nN: 3\n\n3\n\n", 16) == 0);

	/* Another program removes the marked message: the others stay. */
	store(three, sizeof(three) - 1);
	CHECK(begin(&drop) == DROP_OK);
	maildrop_mark(&drop, 1);
	store(first_gone, sizeof(first_gone) - 1);
	CHECK(maildrop_commit(&drop, &removed) == DROP_CHANGED && removed == 0);
	CHECK(load(after, sizeof(after)) == sizeof(first_gone) - 1 &&
	    memcmp(after, first_gone, sizeof(first_gone) - 1) == 0);

	/* Another program replaces the file: both files stay as they are. */
	store(three, sizeof(three) - 1);
	CHECK(begin(&drop) == DROP_OK);
	maildrop_mark(&drop, 1);
	CHECK(renameat(top, "spool", top, "old") == 0);
	store(three, sizeof(three) - 1);
	CHECK(maildrop_commit(&drop, &removed) == DROP_CHANGED && removed == 0);
	CHECK(load(after, sizeof(after)) == sizeof(three) - 1);

	/* Mail arrives: it stays, as do the messages that are not marked. */
	store(three, sizeof(three) - 1);
	CHECK(begin(&drop) == DROP_OK);
	maildrop_mark(&drop, 3);
	append("From d\nN: 4\n\n4\n\n");
	CHECK(maildrop_begin(&drop, 1, &s) == DROP_OK && s.wire_size == 11);
	CHECK(maildrop_commit(&drop, &removed) == DROP_OK && removed == 1);
	CHECK(load(after, sizeof(after)) == 48);
	CHECK(memcmp(after + 32, "From d\nN: 4\n\n4\n\n", 16) == 0);

	/*
	 * Two messages have the same header and size. Another program removes
	 * the marked one. The other message is then at the offset of the marked
	 * one, and is kept.
	 */
	store(equal, sizeof(equal) - 1);
	CHECK(begin(&drop) == DROP_OK && drop.count == 3);
	maildrop_mark(&drop, 1);
	store(equal + 16, sizeof(equal) - 1 - 16);
	CHECK(maildrop_commit(&drop, &removed) == DROP_CHANGED && removed == 0);
	CHECK(load(after, sizeof(after)) == sizeof(equal) - 1 - 16);
	/* While both are in the file, either can be removed. */
	store(equal, sizeof(equal) - 1);
	CHECK(begin(&drop) == DROP_OK);
	maildrop_mark(&drop, 2);
	append("From d\nN: 4\n\n4\n\n");
	CHECK(maildrop_commit(&drop, &removed) == DROP_OK && removed == 1);
	CHECK(load(after, sizeof(after)) == sizeof(equal) - 1 &&
	    memcmp(after, equal, 16) == 0 &&
	    memcmp(after + 16, equal + 32, 16) == 0);

	/*
	 * A marked message was half delivered. Another program completes it and
	 * delivers one more. The client has not seen the new bytes, so QUIT
	 * keeps the whole message.
	 */
	store(three, sizeof(three) - 2);
	CHECK(begin(&drop) == DROP_OK && drop.count == 3);
	maildrop_mark(&drop, 3);
	append("4\nFrom d\nN: 4\n\n4\n\n");
	CHECK(maildrop_begin(&drop, 3, &s) == DROP_CHANGED);
	CHECK(maildrop_commit(&drop, &removed) == DROP_CHANGED && removed == 0);
	CHECK(load(after, sizeof(after)) == sizeof(three) - 2 + 18);
	/* QUIT also keeps the half delivered message if it has moved. */
	store(three, sizeof(three) - 2);
	CHECK(begin(&drop) == DROP_OK);
	maildrop_mark(&drop, 3);
	store(first_gone, sizeof(first_gone) - 2);
	append("4\nFrom d\nN: 4\n\n4\n\n");
	CHECK(maildrop_commit(&drop, &removed) == DROP_CHANGED && removed == 0);
	CHECK(load(after, sizeof(after)) == sizeof(first_gone) - 2 + 18);
}

/*
 * The linker replaces fdatasync by this function (--wrap). A removal begins
 * with this call, and the mailbox must be locked then.
 */
static int synced, synced_unlocked;
int __real_fdatasync(int);
int __wrap_fdatasync(int);
int
__wrap_fdatasync(int fd)
{
	struct flock f = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	int other = openat(top, "spool", O_RDWR | O_CLOEXEC);

	CHECK(other != -1 && fcntl(other, F_OFD_GETLK, &f) == 0 &&
	    close(other) == 0);
	synced++;
	synced_unlocked += f.l_type == F_UNLCK;
	return __real_fdatasync(fd);
}

/* Overwrites a part of one block of the kept list. */
static void
damage_index(off_t block)
{
	int fd = openat(top, "state/index", O_WRONLY);

	CHECK(fd != -1 && pwrite(fd, "damage", 6, block * 4096 + 100) == 6 &&
	    close(fd) == 0);
}

/*
 * If the mailbox may have changed, a removal needs all records of the list. A
 * damaged list is built again before the mailbox is locked for the removal,
 * even if the damage is not at a marked message. Building the list later would
 * release the lock.
 */
static void
a_damaged_list_ends_no_lock(void)
{
	enum { COUNT = 2000 };
	static char spool[COUNT * 40];
	struct maildrop drop;
	size_t n = 0, removed;

	for (int i = 0; i < COUNT; i++)
		n += (size_t)sprintf(spool + n, "From a\nN: %d\n\n1\n\n",
		    i < 2 ? 0 : i);
	store(spool, n);
	CHECK(begin(&drop) == DROP_OK && drop.count == COUNT);
	maildrop_mark(&drop, 1);
	damage_index(12);
	synced = synced_unlocked = 0;
	CHECK(maildrop_commit(&drop, &removed) == DROP_OK && removed == 1);
	CHECK(synced > 0 && synced_unlocked == 0);
	CHECK(begin(&drop) == DROP_OK && drop.count == COUNT - 1);
}

/*
 * The linker replaces futimens by this function (--wrap). kpopd calls it when a
 * removal is done. If there is a text, another program appends it first,
 * without a lock.
 */
static const char *appended;
int __real_futimens(int, const struct timespec *);
int __wrap_futimens(int, const struct timespec *);
int
__wrap_futimens(int fd, const struct timespec *times)
{
	struct stat st;

	if (appended != NULL) {
		CHECK(__real_fstat(fd, &st) == 0 &&
		    pwrite(fd, appended, strlen(appended), st.st_size) ==
			(ssize_t)strlen(appended));
		appended = NULL;
	}
	return __real_futimens(fd, times);
}

/*
 * Two messages with one header are removed, of which the first owns the id of
 * the header alone. Meanwhile a program that ignores the locks appends a third
 * message with this header. It does not get that id, because a client may have
 * fetched the first message. The messages are removed from the end of the
 * mailbox, and from its beginning.
 */
static void
a_removed_id_is_not_given_to_a_late_message(void)
{
#define EQUAL "From b\nMessage-ID: 2\n\n2\n\nFrom c\nMessage-ID: 2\n\n3\n\n"
#define OTHER "From a\nMessage-ID: 1\n\n1\n\n"
	static const char *const spools[] = { OTHER EQUAL, EQUAL OTHER };
	char kept[UIDL_SIZE], owned[UIDL_SIZE], late[UIDL_SIZE];
	struct maildrop drop;
	size_t removed;

	for (size_t i = 0; i < 2; i++) {
		tick = (struct timespec){ .tv_sec = 1000000000, .tv_nsec = 1 };
		unlinkat(top, "state/index", 0);
		store(spools[i], strlen(spools[i]));
		CHECK(begin(&drop) == DROP_OK && drop.count == 3);
		maildrop_uidl(&drop, i == 0 ? 1 : 3, kept);
		maildrop_uidl(&drop, 2 - i, owned);
		maildrop_mark(&drop, 2 - i);
		maildrop_mark(&drop, 3 - i);
		appended = "From d\nMessage-ID: 2\n\n4\n\n";
		CHECK(maildrop_commit(&drop, &removed) == DROP_OK &&
		    removed == 2 && appended == NULL);
		tick.tv_sec = 0;
		CHECK(begin(&drop) == DROP_OK && drop.count == 2);
		maildrop_uidl(&drop, 2, late);
		CHECK(strcmp(late, owned) != 0);
		maildrop_uidl(&drop, 1, late);
		CHECK(strcmp(late, kept) == 0);
	}
#undef EQUAL
#undef OTHER
}

/*
 * If there is a text, another program overwrites the mailbox with it, without a
 * lock, after this number of calls of the two functions below.
 */
static const char *overwritten;
static size_t overwritten_after;

static void
overwrite(void)
{
	if (overwritten == NULL || overwritten_after-- > 0)
		return;
	store(overwritten, strlen(overwritten));
	tick.tv_nsec++;
	overwritten = NULL;
}

/*
 * The linker replaces table_next by this function (--wrap). The function counts
 * the messages over which searches pass. If dies is true, the session is killed
 * there.
 */
static size_t passed;
static bool dies;
size_t __real_table_next(const struct table *, size_t);
size_t __wrap_table_next(const struct table *, size_t);
size_t
__wrap_table_next(const struct table *ids, size_t i)
{
	passed++;
	overwrite();
	if (dies)
		_exit(0);
	return __real_table_next(ids, i);
}

/* The linker replaces boundary_is_at by this function (--wrap). */
bool __real_boundary_is_at(int, off_t, off_t, off_t *);
bool __wrap_boundary_is_at(int, off_t, off_t, off_t *);
bool
__wrap_boundary_is_at(int fd, off_t at, off_t size, off_t *empty)
{
	bool result = __real_boundary_is_at(fd, at, size, empty);

	overwrite();
	return result;
}

/* The three messages of the tests below. The first two have one header. */
#define FIRST "From a\nMessage-ID: 1\n\n1\n\n"
#define SECOND "From b\nMessage-ID: 1\n\n2\n\n"
#define THIRD "From c\nMessage-ID: 3\n\n3\n\n"

/*
 * Opens a session on a mailbox that another program has just written. Stores
 * the ids of all messages.
 */
static void
ids_of(const char *spool, char ids[3][UIDL_SIZE])
{
	struct maildrop drop;

	store(spool, strlen(spool));
	tick.tv_nsec++;
	memset(ids, 0, 3 * sizeof(*ids));
	CHECK(begin(&drop) == DROP_OK && drop.count <= 3);
	for (size_t n = 1; n <= drop.count; n++)
		maildrop_uidl(&drop, n, ids[n - 1]);
}

/*
 * Mail that arrives after the listing changes no id, and a client gets also
 * messages whose header does not identify them, whether it asks for ids or not.
 */
static void
mail_after_the_listing_changes_no_id(void)
{
	static const struct text second = TEXT("Message-ID: 1\r\n\r\n2\r\n");
	char want[3][UIDL_SIZE], ids[3][UIDL_SIZE];
	struct maildrop drop;

	tick = (struct timespec){ .tv_sec = 1000000000, .tv_nsec = 1 };
	cache_small = 0;
	for (int known = 0; known < 2; known++) {
		unlinkat(top, "state/index", 0);
		ids_of(FIRST SECOND THIRD, want);
		unlinkat(top, "state/index", 0);
		if (known != 0)
			ids_of(FIRST, ids);
		store(FIRST SECOND, strlen(FIRST SECOND));
		tick.tv_nsec++;
		CHECK(begin(&drop) == DROP_OK && drop.count == 2);
		append(THIRD);
		tick.tv_nsec++;
		drop_check_message(&drop, 2, &second);
		for (size_t n = 1; n <= 2; n++) {
			maildrop_uidl(&drop, n, ids[n - 1]);
			CHECK(strcmp(ids[n - 1], want[n - 1]) == 0);
		}
		ids_of(FIRST SECOND THIRD, ids);
		CHECK(memcmp(ids, want, sizeof(ids)) == 0);
		/* A new list has the same ids. */
		cache_small = (off_t)4 << 20;
		ids_of(FIRST SECOND THIRD, ids);
		CHECK(memcmp(ids, want, sizeof(ids)) == 0);
		cache_small = 0;
	}
	unlinkat(top, "state/index", 0);
	cache_small = (off_t)4 << 20;
	tick.tv_sec = 0;
}

/*
 * A program that ignores the locks moves the messages while a login lists them
 * and reads the bodies of two messages with one header. In the next session
 * each has its id: the body of the second does not become the owner of the
 * first one's id.
 */
static void
a_body_that_moved_owns_no_id(void)
{
	char want[3][UIDL_SIZE], ids[3][UIDL_SIZE];
	struct maildrop drop;
	bool is_over = false;
	struct span span;

	tick = (struct timespec){ .tv_sec = 1000000000, .tv_nsec = 1 };
	cache_small = 0;
	for (size_t k = 0; !is_over; k++) {
		unlinkat(top, "state/index", 0);
		ids_of(FIRST SECOND THIRD, want);
		unlinkat(top, "state/index", 0);
		ids_of(THIRD FIRST, ids);
		store(THIRD FIRST SECOND THIRD,
		    strlen(THIRD FIRST SECOND THIRD));
		tick.tv_nsec++;
		overwritten = FIRST SECOND THIRD;
		overwritten_after = k;
		CHECK(begin(&drop) == DROP_OK);
		/* A message that is not in its place leads to a new list. */
		for (size_t n = 1; n <= drop.count; n++)
			maildrop_begin(&drop, n, &span);
		is_over = overwritten != NULL;
		overwritten = NULL;
		tick.tv_nsec++;
		ids_of(FIRST SECOND THIRD, ids);
		if (!is_over)
			CHECK(memcmp(ids, want, sizeof(ids)) == 0);
	}
	unlinkat(top, "state/index", 0);
	cache_small = (off_t)4 << 20;
	tick.tv_sec = 0;
}

/*
 * Writes the list in the state directory again as earlier versions did if the
 * client had asked for no id: no message has one.
 */
static void
forget_the_ids(void)
{
	int state = openat(top, "state", O_RDONLY | O_DIRECTORY);
	struct index *now = index_load(state, "mbox   4"), *old;
	char bytes[INDEX_NOTE];
	struct list_note note;

	CHECK(now != NULL);
	old = index_new(state, "mbox   4", sizeof(struct list_record));
	for (size_t i = 0; i < index_count(now); i++) {
		struct list_record r;

		memcpy(&r, index_get(now, i), sizeof(r));
		r.flags &= ~(LIST_SHARED | LIST_SUFFIXED);
		r.body = 0;
		index_put(old, i, &r);
	}
	memcpy(bytes, index_note(now), sizeof(bytes));
	memcpy(&note, bytes, sizeof(note));
	CHECK(note.mailbox.stable == 1 && note.numbered == index_count(now));
	note.numbered = 0;
	memcpy(bytes, &note, sizeof(note));
	index_save(old, bytes, sizeof(bytes));
	CHECK(close(state) == 0);
}

/* The messages in a list of an earlier version that has no ids yet get ids. */
static void
a_list_without_ids_is_made_anew(void)
{
	char want[3][UIDL_SIZE], ids[3][UIDL_SIZE];
	struct maildrop drop;

	tick = (struct timespec){ .tv_sec = 1000000000, .tv_nsec = 1 };
	cache_small = 0;
	unlinkat(top, "state/index", 0);
	ids_of(FIRST SECOND THIRD, want);
	forget_the_ids();
	CHECK(begin(&drop) == DROP_OK && drop.count == 3);
	for (size_t n = 1; n <= 3; n++) {
		maildrop_uidl(&drop, n, ids[n - 1]);
		CHECK(strcmp(ids[n - 1], want[n - 1]) == 0);
	}
	cache_small = (off_t)4 << 20;
	tick.tv_sec = 0;
}

/*
 * Another program has exchanged two of many messages, and a message with the
 * header of the first one has arrived. The poll does not notice the exchange by
 * its sample. The first one keeps its id: the body that is now at its offset
 * does not become the owner.
 */
static void
a_message_that_moved_keeps_its_id(void)
{
	static char text[THOUSAND * 40];
	char want[UIDL_SIZE], id[UIDL_SIZE];
	char *const last = text + sizeof(text);
	struct maildrop drop;

	tick = (struct timespec){ .tv_sec = 1000000000, .tv_nsec = 1 };
	cache_small = 0;
	unlinkat(top, "state/index", 0);
	for (int large = 0; large < 2; large++) {
		char *p = text;

		for (int i = 0; i < THOUSAND; i++) {
			/* Large: messages 500 and 501 are exchanged. */
			int k = large && (i == 500 || i == 501) ? 1001 - i : i;

			p += snprintf(p, (size_t)(last - p),
			    "From a\nMessage-ID: %04d\n\n%04d\n\n", k, k);
		}
		if (large)
			p += snprintf(p, (size_t)(last - p),
			    "From a\nMessage-ID: 0500\n\nnew\n\n");
		store(text, (size_t)(p - text));
		tick.tv_nsec++;
		CHECK(begin(&drop) == DROP_OK);
		maildrop_uidl(&drop, 501, want);
	}
	/* A new list. */
	cache_small = (off_t)4 << 20;
	append("From a\nMessage-ID: new\n\n\n");
	tick.tv_nsec++;
	CHECK(begin(&drop) == DROP_OK && drop.count == THOUSAND + 2);
	maildrop_uidl(&drop, 502, id);
	CHECK(strchr(id, '.') == NULL);
	tick.tv_sec = 0;
}

/*
 * A message is found although the mailbox has changed twice in one tick, and
 * the list that was made between the changes is out of date. Only its body
 * distinguishes the message from another one with the same header.
 */
static void
a_shared_header_is_found_after_two_changes(void)
{
	static const struct text one = TEXT("Message-ID: 1\r\n\r\n1\r\n");
	struct maildrop drop;
	struct span s;

	store(FIRST SECOND THIRD, strlen(FIRST SECOND THIRD));
	CHECK(begin(&drop) == DROP_OK && drop.count == 3);
	CHECK(clock_gettime(CLOCK_REALTIME, &tick) == 0);
	store(SECOND THIRD FIRST, strlen(SECOND THIRD FIRST));
	CHECK(maildrop_begin(&drop, 2, &s) == DROP_OK);
	store(THIRD FIRST SECOND, strlen(THIRD FIRST SECOND));
	/* Wait until the tick has passed. */
	CHECK(nanosleep(&(struct timespec){ .tv_nsec = 100000000 }, NULL) == 0);
	drop_check_message(&drop, 1, &one);
	tick.tv_sec = 0;
}

/*
 * A message gets the header of an older one during the session, and the session
 * makes a new list. Then the older message is removed, and the session makes
 * one more list. The other message still does not have the id of the older one,
 * which a client may have fetched.
 */
static void
the_second_new_list_knows_the_first(void)
{
	char old[3][UIDL_SIZE], ids[3][UIDL_SIZE];
	struct maildrop drop;
	struct span s;

	unlinkat(top, "state/index", 0);
	ids_of(FIRST, old);
	CHECK(begin(&drop) == DROP_OK && drop.count == 1);
	store(THIRD FIRST SECOND, strlen(THIRD FIRST SECOND));
	/* No body was listed, so the older message cannot be proven. */
	CHECK(maildrop_begin(&drop, 1, &s) == DROP_CHANGED);
	store(THIRD SECOND, strlen(THIRD SECOND));
	CHECK(maildrop_begin(&drop, 1, &s) == DROP_CHANGED);
	ids_of(THIRD SECOND, ids);
	CHECK(strcmp(ids[1], old[0]) != 0);
	unlinkat(top, "state/index", 0);
}

/*
 * A session is killed after it has replaced records in the list of a large
 * mailbox, whose last message has become longer. The next session reports the
 * size of the mailbox.
 */
static void
a_killed_login_leaves_the_size_right(void)
{
	static const char longer[] =
	    "From b\nMessage-ID: 1\nStatus: RO\n\n2\n\n";
	char spool[200];
	struct maildrop drop;
	uint64_t wire_size;
	pid_t child;
	int status;

	cache_small = 0;
	unlinkat(top, "state/index", 0);
	store(THIRD, strlen(THIRD));
	tick = (struct timespec){ .tv_sec = 1000000000, .tv_nsec = 1 };
	CHECK(begin(&drop) == DROP_OK && drop.count == 1);
	tick.tv_sec = 0;
	append(SECOND);
	/* This list is not stable, and reads the second message again. */
	CHECK(begin(&drop) == DROP_OK && drop.count == 2);
	snprintf(spool, sizeof(spool), "%s%s%s", THIRD, longer, FIRST);
	store(spool, strlen(spool));
	child = fork();
	if (child == 0) {
		dies = true;
		begin(&drop);
		_exit(1);
	}
	CHECK(child != -1 && waitpid(child, &status, 0) == child &&
	    status == 0);
	CHECK(begin(&drop) == DROP_OK && drop.count == 3);
	wire_size = drop.wire_size;
	unlinkat(top, "state/index", 0);
	CHECK(begin(&drop) == DROP_OK && drop.wire_size == wire_size);
	cache_small = (off_t)4 << 20;
}

/*
 * The linker replaces pread and fstatat by these functions (--wrap). While
 * unreadable is true, the spool cannot be read. While unnamed is true, its name
 * cannot be looked up.
 */
static bool unreadable, unnamed;
ssize_t __real_pread(int, void *, size_t, off_t);
ssize_t __wrap_pread(int, void *, size_t, off_t);
ssize_t __wrap___pread_chk(int, void *, size_t, off_t, size_t);
int __real_fstatat(int, const char *, struct stat *, int);
int __wrap_fstatat(int, const char *, struct stat *, int);

static bool
is_spool(int fd)
{
	struct stat st, spool;

	return __real_fstat(fd, &st) == 0 &&
	    __real_fstatat(top, "spool", &spool, 0) == 0 &&
	    st.st_ino == spool.st_ino;
}

ssize_t
__wrap_pread(int fd, void *to, size_t n, off_t at)
{
	if (unreadable && is_spool(fd)) {
		errno = EIO;
		return -1;
	}
	return __real_pread(fd, to, n, at);
}

ssize_t
__wrap___pread_chk(int fd, void *to, size_t n, off_t at, size_t room)
{
	CHECK(n <= room);
	return __wrap_pread(fd, to, n, at);
}

int
__wrap_fstatat(int dir, const char *name, struct stat *st, int flags)
{
	if (unnamed && strcmp(name, "spool") == 0) {
		errno = EACCES;
		return -1;
	}
	return __real_fstatat(dir, name, st, flags);
}

/*
 * The linker replaces the functions that log an error by these (--wrap). They
 * store the error's text.
 */
static char logged[100];
void __wrap_log_failed_at(int, const char *, const char *, ...);
void __wrap_log_failed(const char *, ...);
void
__wrap_log_failed_at(int priority, const char *why, const char *format, ...)
{
	(void)priority, (void)format;
	strlcpy(logged, why != NULL ? why : strerror(errno), sizeof(logged));
}

void
__wrap_log_failed(const char *format, ...)
{
	__wrap_log_failed_at(0, NULL, format);
}

/*
 * A removal that fails because the mailbox cannot be read, or its name cannot
 * be looked up, names that error and no change by another program.
 */
static void
an_error_is_no_change(void)
{
	for (int way = 0; way < 2; way++) {
		struct maildrop drop;
		size_t removed;

		store(FIRST THIRD, strlen(FIRST THIRD));
		CHECK(begin(&drop) == DROP_OK && drop.count == 2);
		maildrop_mark(&drop, 1);
		append(SECOND);
		unreadable = way == 0;
		unnamed = way == 1;
		CHECK(maildrop_commit(&drop, &removed) == DROP_FAILED &&
		    removed == 0);
		CHECK(strcmp(logged, strerror(way == 0 ? EIO : EACCES)) == 0);
		unreadable = false;
		/* A login names the error, too. */
		CHECK(way == 0 || begin(&drop) == DROP_FAILED);
		CHECK(strcmp(logged, strerror(way == 0 ? EIO : EACCES)) == 0);
		unnamed = false;
	}
}

#define MESSAGE(n) "From a\nMessage-ID: " n "\n\n" n "\n\n"

/*
 * Two of five messages are removed. At any moment of the search for them, a
 * program that ignores the locks moves all messages. The others are kept. Some
 * of the moves make the list of the mailbox much longer.
 */
static void
a_removal_keeps_what_moves_meanwhile(void)
{
	static const char five[] =
	    MESSAGE("1") MESSAGE("2") MESSAGE("3") MESSAGE("4") MESSAGE("5");
	static const char *const others[] = { MESSAGE("1"), MESSAGE("3"),
		MESSAGE("5") };
	enum { ONE = sizeof(MESSAGE("1")) - 1, MANY_OTHERS = 300 };
	static char spool[MANY_OTHERS * (ONE + 10)], left[sizeof(spool)];
	bool is_over = false;

	for (size_t k = 0; !is_over; k++) {
		is_over = true;
		for (int way = 0; way < 4; way++) {
			struct maildrop drop;
			size_t removed, n = 0;

			tick = (struct timespec){ .tv_sec = 1000000000 };
			unlinkat(top, "state/index", 0);
			snprintf(spool, sizeof(spool), "%s%s", MESSAGE("0"),
			    five);
			store(spool, strlen(spool));
			CHECK(begin(&drop) == DROP_OK && drop.count == 6);
			maildrop_mark(&drop, 3);
			maildrop_mark(&drop, 5);
			/* In half of the cases the messages have moved before,
			 * and must be searched. */
			if (way % 2 != 0) {
				store(five, strlen(five));
				tick.tv_nsec++;
			}
			for (int i = 0; way >= 2 && i < MANY_OTHERS; i++)
				n += (size_t)sprintf(spool + n,
				    "From b\nMessage-ID: b%d\n\n\n", i);
			snprintf(spool + n, sizeof(spool) - n, "%s%s%s",
			    way % 2 != 0 ? MESSAGE("6") : "", five,
			    way % 2 == 0 ? MESSAGE("6") : "");
			overwritten = spool;
			overwritten_after = k;
			maildrop_commit(&drop, &removed);
			is_over &= overwritten != NULL;
			tick.tv_sec = 0;
			if (overwritten != NULL)
				continue;
			n = load(left, sizeof(left) - 1);
			left[n] = '\0';
			CHECK(n == strlen(spool) - removed * ONE);
			for (size_t i = 0; i < 3; i++)
				CHECK(strstr(left, others[i]) != NULL);
		}
	}
	overwritten = NULL;
}

/*
 * Two changes in one tick of the clock leave the same times. A fingerprint that
 * was taken between the two changes must not be trusted after the second
 * change.
 */
static void
two_changes_in_a_tick_are_two(void)
{
	static const char first[] =
	    "From a\nMessage-ID: 1\n\n1\n\nFrom b\nMessage-ID: 2\n\n2\n\nFrom "
	    "c\nMessage-ID: 3\n\n3\n\n";
	static const char second[] =
	    "From b\nMessage-ID: 2\n\n2\n\nFrom c\nMessage-ID: 3\n\n3\n\nFrom "
	    "a\nMessage-ID: 1\n\n1\n\n";
	static const char third[] =
	    "From c\nMessage-ID: 3\n\n3\n\nFrom a\nMessage-ID: 1\n\n1\n\nFrom "
	    "b\nMessage-ID: 2\n\n2\n\n";
	static const char wanted[] =
	    "From c\nMessage-ID: 3\n\n3\n\nFrom b\nMessage-ID: 2\n\n2\n\n";
	static const struct text one = TEXT("Message-ID: 1\r\n\r\n1\r\n");
	char after[200];
	struct maildrop drop;
	struct span s;
	size_t removed;

	for (int fetched = 0; fetched < 2; fetched++) {
		store(first, sizeof(first) - 1);
		CHECK(begin(&drop) == DROP_OK && drop.count == 3);
		CHECK(clock_gettime(CLOCK_REALTIME, &tick) == 0);
		store(second, sizeof(second) - 1);
		CHECK(maildrop_begin(&drop, 2, &s) == DROP_OK);
		store(third, sizeof(third) - 1);
		/* Wait until the tick has passed. */
		CHECK(nanosleep(&(struct timespec){ .tv_nsec = 100000000 },
			  NULL) == 0);
		if (fetched != 0)
			drop_check_message(&drop, 1, &one);
		maildrop_mark(&drop, 1);
		CHECK(maildrop_commit(&drop, &removed) == DROP_OK &&
		    removed == 1);
		tick.tv_sec = 0;
		CHECK(load(after, sizeof(after)) == sizeof(wanted) - 1 &&
		    memcmp(after, wanted, sizeof(wanted) - 1) == 0);
	}
}

/*
 * Among very many equal messages, some are still at their offsets and the
 * others have moved. A search must not pass over every message that an earlier
 * search has matched.
 */
static void
equal_messages_are_found_soon(void)
{
	enum { HALF = 2000 };
	static char spool[2 * HALF * 40];
	struct maildrop drop;
	size_t removed;

	for (int grown = 0; grown < 2; grown++) {
		size_t n = 0;

		for (int i = 0; i <= 2 * HALF; i++)
			n += (size_t)sprintf(spool + n,
			    "From a\nN: 1\n%s\n%s\n\n",
			    i == HALF && grown != 0 ? "Status: RO\n" : "",
			    i == HALF ? "other" : "1");
		store(spool, n);
		if (grown == 0)
			CHECK(begin(&drop) == DROP_OK &&
			    drop.count == 2 * HALF + 1);
	}
	for (size_t i = 2; i <= HALF; i += 2)
		maildrop_mark(&drop, i);
	passed = 0;
	CHECK(maildrop_commit(&drop, &removed) == DROP_OK &&
	    removed == HALF / 2);
	CHECK(passed < (size_t)20 * HALF);
	CHECK(begin(&drop) == DROP_OK && drop.count == 2 * HALF + 1 - HALF / 2);
}

/* The pieces of random mailboxes: everything that a parser distinguishes. */
static const struct text pieces[] = { TEXT("From "), TEXT("From a\n"),
	TEXT("\nFrom a\n"), TEXT("\n\nFrom a\n"), TEXT("\r\n\r\nFrom a\r\n"),
	TEXT("\n\nFrom a\nA: b\n\nc\n\n"), TEXT("\n\nFrom " DATE "\n"),
	TEXT("From \"a b\" " DATE " +0100\n\n"),
	TEXT("\n\nFrom a " DATE " prose\n"), TEXT("From MAILER-DAEMON \n"),
	TEXT("From MAILER_DAEMON  " DATE "\n"), TEXT("\n"), TEXT("\n\n"),
	TEXT("\r\n"), TEXT("\r"), TEXT("\0"), TEXT(">From a\n"), TEXT("."),
	TEXT("\n.\n"), TEXT("F"), TEXT("\nfrom a\n"), TEXT("\n From a\n"),
	TEXT("A: b\n"), TEXT("A: c\r\n"), TEXT("Status: RO\n"),
	TEXT("status: O\r\n folded\n"), TEXT("\nX-IMAP: 1 2\n"),
	TEXT("Received: d\n"), TEXT("\xff\xfe"), TEXT("Content-Length: 3\n"),
	TEXT("Content-Length: 12\n\n"), TEXT("Content-Length: 0\n\n"),
	TEXT("Content-Length: 20\r\n"), TEXT(INTERNAL_FROM),
	TEXT("message-id: a\n"), TEXT(LOOKS_INTERNAL) };

#define LARGEST ((size_t)2 << 20)
#define MANY 300

static uint32_t seed, state_of_chance;
static char file[LARGEST], after[LARGEST], want[2 * LARGEST], sent[3 * LARGEST];

/* Prints the seed of the mailbox at which a check has failed. */
static void
print_seed(void)
{
	if (seed != 0)
		fprintf(stderr, "with seed %u\n", seed);
}

/*
 * Returns a random number that is smaller than the argument. The sequence is
 * the same on every machine.
 */
static uint32_t
chance(uint32_t below)
{
	state_of_chance ^= state_of_chance << 13;
	state_of_chance ^= state_of_chance >> 17;
	state_of_chance ^= state_of_chance << 5;
	return state_of_chance % below;
}

static size_t
put_piece(size_t n, const struct text *piece)
{
	memcpy(file + n, piece->p, piece->n);
	return n + piece->n;
}

/*
 * Fills the array "file" with a random mailbox. Returns the size of the
 * mailbox. In a large mailbox, lines end near the multiples of 256 KiB, because
 * kpopd reads pieces of that size.
 */
static size_t
make_random(bool large)
{
	static const struct text from = TEXT("From a\n");
	size_t n = chance(8) == 0 ? 0 : put_piece(0, &from);

	for (uint32_t left = chance(large ? 20 : 50); left > 0; left--)
		if (large && chance(4) == 0) {
			size_t line = ((size_t)256 << 10) -
			    n % ((size_t)256 << 10) + chance(8);

			line -= line > 16 ? 16 : 0;
			if (n + line + 100 * 20 > LARGEST)
				continue;
			memset(file + n, chance(3) == 0 ? '.' : 'x', line);
			n = put_piece(n + line, &pieces[chance(4) + 1]);
		} else
			n = put_piece(n,
			    &pieces[chance(sizeof(pieces) /
				sizeof(pieces[0]))]);
	return n;
}

static size_t
line_end(size_t at, size_t end)
{
	const char *lf = memchr(file + at, '\n', end - at);

	return lf != NULL ? (size_t)(lf + 1 - file) : end;
}

static bool
is_empty_line(size_t at, size_t end)
{
	return end > at && file[end - 1] == '\n' &&
	    (end - at == 1 || (end - at == 2 && file[at] == '\r'));
}

static bool
line_has(size_t at, size_t end, const char *prefix)
{
	return end - at >= strlen(prefix) &&
	    strncasecmp(file + at, prefix, strlen(prefix)) == 0;
}

/* Returns true if the line ends with a date. Uses a regular expression. */
static bool
has_date(const char *p, const char *end)
{
	static regex_t date;
	static bool ready;
	char line[1025];
	size_t n = (size_t)(end - p);

	if (!ready)
		CHECK(
		    regcomp(&date,
			"^From .*(Nov) +[0-9]{1,2} "
			"+[0-9]{1,2}:[0-9]{2}(:[0-9]{2})?"
			"( [+-][0-9]{4})? +[0-9]{4}( [+-][0-9]{4})?[ \t]*\r?$",
			REG_EXTENDED) == 0);
	ready = true;
	for (size_t i = 0; i < n; i++)
		line[i] = p[i] == '\0' ? '0' : p[i];
	line[n] = '\0';
	return regexec(&date, line, 0, NULL, 0) == 0;
}

/*
 * Returns true if the line at file[i], which follows an empty line, separates
 * two messages.
 */
static bool
separates(size_t i, size_t n)
{
	size_t end = n - i < 1024 ? n : i + 1024, next = line_end(i, end),
	       k = next;

	if (end - i < 5 || memcmp(file + i, "From ", 5) != 0)
		return false;
	if (next == end && file[end - 1] != '\n')
		return n - i < 1024 && has_date(file + i, file + end);
	if (has_date(file + i, file + next - 1) ||
	    (end - next >= 6 && memcmp(file + next, ">From ", 6) == 0))
		return true;
	while (k < end && file[k] > ' ' && file[k] < 127 && file[k] != ':')
		k++;
	return k < end && k > next && isalpha((unsigned char)file[next]) &&
	    file[k] == ':' &&
	    !(end - k >= 3 && file[k + 1] == '/' && file[k + 2] == '/');
}

/*
 * Returns the offset at which the body from file[i] on ends according to its
 * Content-Length. Returns i if the Content-Length is wrong.
 */
static size_t
end_of_body(size_t i, long long length, size_t n)
{
	size_t end, empty;

	if (length < 0 || (unsigned long long)length > n - i)
		return i;
	end = i + (size_t)length;
	empty = line_end(end, n);
	empty = end < n && is_empty_line(end, empty) ? empty : end;
	return file[end - 1] == '\n' && empty > end &&
		(empty == n || separates(empty, n)) ?
	    end :
	    i;
}

/*
 * Returns the value of the Content-Length field at file[i]. Returns the
 * argument "length", which is the earlier value, if file[i] begins another
 * field. The value -1 means that there was no Content-Length yet. The value -2
 * means that one is invalid, or that two of them differ.
 */
static long long
length_field(size_t i, size_t next, long long length)
{
	char text[40] = "", *end;
	long long now;

	if (!line_has(i, next, "Content-Length:"))
		return length;
	memcpy(text, file + i + 15, next - i - 15 < 39 ? next - i - 15 : 39);
	now = strtoll(text, &end, 10);
	end += *end == '\r';
	return *end == '\n' &&
		isdigit((unsigned char)end[-1 - (end[-1] == '\r')]) &&
		(length == -1 || length == now) ?
	    now :
	    -2;
}

/*
 * Splits the first n bytes of "file" into messages. Stores in at[] the offset
 * of each message and the end of the last message. Returns the number of
 * messages, or -1 if "file" is not a mailbox.
 */
static int
split(size_t n, size_t *at)
{
	bool blank = true, header = false, is_length = false;
	long long length = -1;
	int count = 0;

	for (size_t i = 0, next; i < n; i = next) {
		next = line_end(i, n);
		if (blank && !header &&
		    (count == 0 ?
			    n - i >= 5 && memcmp(file + i, "From ", 5) == 0 :
			    separates(i, n))) {
			at[count++] = i;
			header = true;
			length = -1;
			is_length = blank = false;
			continue;
		}
		blank = is_empty_line(i, next);
		if (count == 0 && !blank)
			return -1;
		if (header && (file[i] == ' ' || file[i] == '\t'))
			length = is_length ? -2 : length;
		else if (header) {
			is_length = line_has(i, next, "Content-Length:");
			length = length_field(i, next, length);
		}
		if (header && blank) {
			size_t end = end_of_body(next, length, n);

			header = false;
			/* The body may end before an empty line. */
			if (end > next) {
				blank = file[end - 1] == '\n' &&
				    (file[end - 2] == '\n' ||
					(file[end - 2] == '\r' &&
					    file[end - 3] == '\n'));
				next = end;
			}
		}
	}
	at[count] = n;
	return count;
}

/*
 * Returns true if the first message of "file", the bytes [at, end), is the
 * internal message of other programs.
 */
static bool
looks_internal(size_t at, size_t end)
{
	bool imap = false, subject = false, from = false, other = false;
	bool mail = !line_has(at, end, "From MAILER-DAEMON ") &&
	    !line_has(at, end, "From MAILER_DAEMON ");

	for (size_t i = line_end(at, end), next; i < end; i = next) {
		next = line_end(i, end);
		if (is_empty_line(i, next))
			break;
		if (line_has(i, next, " ") || line_has(i, next, "\t")) {
			mail |= other;
			continue;
		}
		other = line_has(i, next, "Subject:");
		imap |= line_has(i, next, "X-IMAP: 1 2\n");
		subject |= line_has(i, next, INTERNAL_SUBJECT);
		mail |= other && !line_has(i, next, INTERNAL_SUBJECT);
		from |= line_has(i, next,
		    "From: Mail System Internal Data <MAILER-DAEMON@");
		mail |= line_has(i, next, "Received:") ||
		    (line_has(i, next, "From:") &&
			!line_has(i, next,
			    "From: Mail System Internal Data <MAILER-DAEMON@"));
	}
	return imap && subject && from && !mail;
}

/*
 * Writes the message in the bytes [at, end) of "file" to the array "want". The
 * written message is what POP3 sends: it is dot-stuffed and has no "From "
 * line. An empty last line is left out unless that line ends the header.
 * Returns the number of bytes written. Stores the size without dot-stuffing in
 * *wire_size.
 */
static size_t
as_sent(size_t at, size_t end, size_t *wire_size)
{
	size_t i = line_end(at, end), m = 0, last = i, stuffed = 0;
	bool is_body = false;

	for (size_t k = i; k < end; k = line_end(k, end)) {
		is_body |= k > i && is_empty_line(last, k);
		last = k;
	}
	if (is_body && is_empty_line(last, end))
		end = last;
	for (size_t next; i < end; i = next) {
		size_t length;

		next = line_end(i, end);
		length = next - i - (file[next - 1] == '\n');
		if (length > 0 && file[i] == '.') {
			want[m++] = '.';
			stuffed++;
		}
		memcpy(want + m, file + i, length);
		m += length;
		/* A CR belongs to the line end only before an LF. */
		if (file[next - 1] == '\n' && length > 0 &&
		    file[i + length - 1] == '\r')
			m--;
		memcpy(want + m, "\r\n", 2);
		m += 2;
	}
	*wire_size = m - stuffed;
	return m;
}

/* Checks that the bytes [at, end) of "file" are sent as message n. */
static void
check_sent(struct maildrop *drop, size_t n, size_t at, size_t end)
{
	static char stored[70000];
	size_t wire_size, length = as_sent(at, end, &wire_size), m = 0;
	struct span s;
	struct wire w;
	ssize_t got;

	CHECK(maildrop_wire_size(drop, n) == wire_size);
	CHECK(maildrop_begin(drop, n, &s) == DROP_OK &&
	    s.wire_size == wire_size);
	wire_init(&w, WIRE_ALL);
	while ((got = maildrop_read(&s, stored,
		    1 + chance(sizeof(stored) - 1))) > 0)
		m += wire_put(&w, stored, (size_t)got, sent + m);
	m += wire_end(&w, sent + m);
	CHECK(got == 0 && m == length && memcmp(sent, want, m) == 0);
}

/* Returns true if both ids were made from the same header. */
static bool
same_header(const char *a, const char *b)
{
	return strncmp(a, b, 22) == 0;
}

static void
check_random(size_t n)
{
	static char ids[MANY][UIDL_SIZE];
	static size_t at[MANY], now[MANY], end[MANY];
	struct maildrop drop;
	uint64_t wire_size = 0;
	size_t removed, kept = 0, marked = 0, left = 0;
	int count = split(n, at), first, hidden = -1;
	bool gone[MANY] = { false };

	store(file, n);
	if (count == -1) {
		CHECK(begin(&drop) == DROP_DENIED);
		return;
	}
	CHECK(begin(&drop) == DROP_OK);
	first = count > 0 && at[0] == 0 && looks_internal(0, at[1]) ? 1 : 0;
	CHECK(drop.count == (size_t)(count - first));
	for (int i = first; i < count; i++) {
		check_sent(&drop, (size_t)(i - first) + 1, at[i], at[i + 1]);
		wire_size += maildrop_wire_size(&drop, (size_t)(i - first) + 1);
		maildrop_uidl(&drop, (size_t)(i - first) + 1, ids[i]);
		for (int k = first; k < i; k++)
			CHECK(strcmp(ids[k], ids[i]) != 0);
	}
	CHECK(drop.wire_size == wire_size);
	/* Copy the bytes that must be kept to the array "after". */
	memcpy(after, file, kept = count > 0 ? at[0] : n);
	for (int i = 0; i < count; i++) {
		if (i >= first && chance(2) == 0) {
			gone[i] = true;
			maildrop_mark(&drop, (size_t)(i - first) + 1);
			marked++;
			continue;
		}
		/*
		 * If a message that looks internal has become the first one, it
		 * is the internal message.
		 */
		if (i >= first && kept == 0 && looks_internal(at[i], at[i + 1]))
			hidden = i;
		memcpy(after + kept, file + at[i], at[i + 1] - at[i]);
		kept += at[i + 1] - at[i];
	}
	CHECK(maildrop_commit(&drop, &removed) == DROP_OK && removed == marked);
	CHECK(load(sent, sizeof(sent)) == kept &&
	    memcmp(sent, after, kept) == 0);
	/*
	 * A Content-Length that was wrong may be right after the removal. kpopd
	 * then trusts it.
	 */
	memcpy(file, after, kept);
	if (split(kept, now) != count - (int)marked)
		return;
	for (int i = 0, k = 0; i < count; i++)
		if (!gone[i]) {
			at[i] = now[k];
			end[i] = now[++k];
		}
	/* The next session finds the same messages with the same ids, except
	 * that equal messages may have other ordinals. */
	CHECK(begin(&drop) == DROP_OK &&
	    drop.count == (size_t)(count - first) - marked - (hidden != -1));
	for (int i = first; i < count; i++) {
		char id[UIDL_SIZE];
		bool is_shared = false;

		if (gone[i] || i == hidden)
			continue;
		for (int k = first; k < count; k++)
			is_shared |= k != i && same_header(ids[k], ids[i]);
		maildrop_uidl(&drop, ++left, id);
		CHECK(is_shared ? same_header(id, ids[i]) :
				  strcmp(id, ids[i]) == 0);
		check_sent(&drop, left, at[i], end[i]);
	}
}

/*
 * Checks that all messages from number first on are sent whole. Copies their
 * ids and returns the sum of their wire sizes.
 */
static uint64_t
check_all_sent(struct maildrop *drop, const size_t *at, int first, int count,
    char ids[][UIDL_SIZE])
{
	uint64_t wire_size = 0;

	CHECK(drop->count == (size_t)(count - first));
	for (int i = first; i < count; i++) {
		size_t n = (size_t)(i - first) + 1;

		if (chance(2) == 0)
			maildrop_uidl(drop, n, ids[i]);
		check_sent(drop, n, at[i], at[i + 1]);
		wire_size += maildrop_wire_size(drop, n);
		maildrop_uidl(drop, n, ids[i]);
	}
	return wire_size;
}

/*
 * Lets a mailbox with a stable fingerprint grow from a random size. Then opens
 * three sessions, which must find the same messages. The second session trusts
 * the kept list. The third session reads the whole mailbox.
 */
static void
check_grown(size_t n)
{
	static char ids[MANY][UIDL_SIZE], again[MANY][UIDL_SIZE];
	static size_t at[MANY];
	struct maildrop drop;
	int count = split(n, at), first;
	size_t half = count > 0 && chance(4) > 0 ?
	    at[chance((uint32_t)count + 1)] :
	    chance((uint32_t)n + 1);

	if (count == -1)
		return;
	first = count > 0 && at[0] == 0 && looks_internal(0, at[1]) ? 1 : 0;
	unlinkat(top, "state/index", 0);
	tick.tv_sec = 1000000000;
	tick.tv_nsec = 1;
	cache_small = chance(4) == 0 ? (off_t)4 << 20 : 0;
	store(file, half);
	if (begin(&drop) == DROP_OK)
		for (size_t k = 1; k <= drop.count; k++)
			if (chance(2) == 0)
				maildrop_uidl(&drop, k, ids[0]);
	store(file, n);
	for (int known = 0; known < 3; known++) {
		/* The third session has no list. */
		if (known == 2)
			unlinkat(top, "state/index", 0);
		tick.tv_nsec += known == 0;
		CHECK(begin(&drop) == DROP_OK);
		CHECK(check_all_sent(&drop, at, first, count,
			  known == 0 ? ids : again) == drop.wire_size);
		for (int i = first; i < count; i++)
			CHECK(known == 0 || strcmp(ids[i], again[i]) == 0);
	}
	tick.tv_sec = 0;
	cache_small = (off_t)4 << 20;
}

static void
random_mailboxes(uint32_t small, uint32_t large)
{
	atexit(print_seed);
	for (uint32_t k = 1; k <= small + large; k++) {
		seed = k;
		state_of_chance = k * 2654435761u;
		check_random(make_random(k > small));
		closefrom(top + 1);
		check_grown(make_random(k > small));
		/* Close the descriptors that the sessions left open. */
		closefrom(top + 1);
	}
	seed = 0;
}

/* The argument is the number of random mailboxes. */
int
main(int argc, char **argv)
{
	uint32_t many = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : 200;

	top = drop_directory();
	finds_in_stable_mailboxes();
	finds_and_removes();
	ids_survive_readers();
	ids_of_empty_bodies_stay();
	a_truncated_header_keeps_its_id();
	a_body_that_came_or_went_is_seen();
	an_earlier_list_gives_ids_and_no_sizes();
	long_lines_are_one_line();
	an_end_after_a_cr_is_not_a_line_end();
	foreign_changes_are_noticed();
	equal_messages_keep_their_number();
	a_damaged_list_ends_no_lock();
	a_removed_id_is_not_given_to_a_late_message();
	mail_after_the_listing_changes_no_id();
	a_body_that_moved_owns_no_id();
	a_list_without_ids_is_made_anew();
	a_message_that_moved_keeps_its_id();
	a_removal_keeps_what_moves_meanwhile();
	a_killed_login_leaves_the_size_right();
	the_second_new_list_knows_the_first();
	an_error_is_no_change();
	a_shared_header_is_found_after_two_changes();
	two_changes_in_a_tick_are_two();
	equal_messages_are_found_soon();
	random_mailboxes(many, many / 10);
	return drop_clean_up();
}
