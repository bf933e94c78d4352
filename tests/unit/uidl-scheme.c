/*
 * Tests the ids that are computed as other servers make them. The expected ids
 * of valid mailboxes are those that Dovecot 2.3.19, UW's ipop3d 2007f, popa3d
 * 1.0.3, solid-pop3d 0.15 and Courier 1.0.16 gave to the same bytes, unless a
 * comment says otherwise.
 *
 * Runs as any user. Whatever the mailbox and the lists of other servers
 * contain, no two messages have one id.
 */
#include "config.h"

#include <sys/stat.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "file.h"
#include "store.h"
#include "tests/unit/check.h"
#include "tests/unit/drop.h"
#include "uidl-trace.h"
#include "uidl-scheme.h"

#define FROM "From a@b.test Mon Nov 23 05:00:00 2026\n"
#define DOVECOT_LIST "Maildir/dovecot-uidlist"
#define COURIER_LIST "Maildir/courierpop3dsizelist"
#define OWN NULL /* the message keeps its own id */

static int top;

/* Writes a file of the home directory, or removes it if text is NULL. */
static void
put_file(const char *name, const char *text)
{
	int fd;

	CHECK(unlinkat(top, name, 0) == 0 || errno == ENOENT ||
	    unlinkat(top, name, AT_REMOVEDIR) == 0);
	if (text == NULL)
		return;
	fd = openat(top, name, O_WRONLY | O_CREAT | O_EXCL, 0600);
	CHECK(fd != -1 && file_write(fd, text, strlen(text), 0) == 0 &&
	    close(fd) == 0);
}

/* Makes a Maildir with the messages 1.a to 4.d. */
static void
make_maildir(void)
{
	CHECK(mkdirat(top, "Maildir", 0700) == 0 || errno == EEXIST);
	CHECK(mkdirat(top, "Maildir/new", 0700) == 0 || errno == EEXIST);
	CHECK(mkdirat(top, "Maildir/cur", 0700) == 0 || errno == EEXIST);
	put_file("Maildir/new/1.a", "Subject: 1\n\n");
	put_file("Maildir/cur/2.b:2,S", "X-UIDL: x2\nSubject: 2\n\n");
	put_file("Maildir/cur/3.c:2,", "Subject: 3\n\n");
	put_file("Maildir/new/4.d", "Subject: 4\n\n");
}

/* Opens the mailbox, which has no map, with this scheme. */
static enum drop_error
open_with(struct maildrop *drop, const char *where, const char *text)
{
	static struct uidl_scheme scheme;

	put_file("state/uidl", NULL);
	CHECK(scheme_read(&scheme, text) == 0);
	CHECK(drop_begin(drop, where) == DROP_OK);
	maildrop_compute_ids(drop, &scheme);
	return maildrop_load_ids(drop);
}

/* Checks the ids of the messages. The list of expected ids ends with "". */
static void
check_ids(const char *where, const char *scheme, const char *const *want)
{
	char id[UIDL_SIZE], own[UIDL_SIZE];
	struct maildrop drop;

	CHECK(open_with(&drop, where, scheme) == DROP_OK);
	for (size_t n = 1; n <= drop.count; n++) {
		const char *expected = want[n - 1];

		maildrop_uidl(&drop, n, id);
		maildrop_own_id(&drop, n, own);
		if (expected == OWN)
			expected = own;
		if (strcmp(id, expected) != 0)
			fprintf(stderr, "%s, message %zu: %s, not %s\n", scheme,
			    n, id, expected);
		CHECK(strcmp(id, expected) == 0);
	}
	CHECK(want[drop.count] != OWN && *want[drop.count] == '\0');
	drop_check_ids(&drop);
}

#define CHECK_MBOX(scheme, ...)                                                \
	check_ids("mbox:~/mbox", scheme,                                       \
	    (const char *const[]){ __VA_ARGS__, "" })
#define CHECK_MAILDIR(scheme, ...)                                             \
	check_ids("maildir:~/Maildir", scheme,                                 \
	    (const char *const[]){ __VA_ARGS__, "" })

/* The names of schemes, and formats. */
static void
test_words(void)
{
	static const char *const good[] = { "none", "dovecot", "uw", "courier",
		"popa3d", "solid-pop3d", "qpopper", "mailutils", "dovecot:%u",
		"dovecot:%f", "dovecot:%v.%u", "dovecot:UID%u-%v",
		"dovecot:%08Xv%08Xu", "dovecot:%%%020u" };
	static const char *const bad[] = { "", "Dovecot",
		"dovecot:", "dovecot:%v", "dovecot:%", "dovecot:%0",
		"dovecot:%0u", "dovecot:%021u", "dovecot:%08Xf", "dovecot:%8u",
		"dovecot:%n", "dovecot:%u %v", "dovecot:%u\n",
		"dovecot:\xc3\xbc%u", "dovecot:%{uid}", "dovecot:%f%m",
		"dovecot:%08999999999999999999999u",
		"dovecot:%u"
		"0123456789012345678901234567890123456789012345678901234567"
		"89012" };
	struct uidl_scheme s;

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		CHECK(scheme_read(&s, good[i]) == 0 &&
		    strcmp(s.text, good[i]) == 0);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		CHECK(scheme_read(&s, bad[i]) == -1);
}

static void
check_format(const char *text, const struct scheme_values *v, const char *want)
{
	struct uidl_scheme s;
	char id[UIDL_SIZE];

	CHECK(scheme_read(&s, text) == 0);
	CHECK(scheme_write(&s, v, id) == (want != NULL));
	CHECK(want == NULL || strcmp(id, want) == 0);
}

static void
test_formats(void)
{
	const struct scheme_values all = { 10, 0xabcdef01, "md5", "1.a:b",
		"guid" };
	const struct scheme_values none = { .uid = 0 };
	const struct scheme_values most = { TRACE_UID_MOST, UINT32_MAX, NULL,
		NULL, NULL };

	check_format("dovecot", &all, "0000000aabcdef01");
	check_format("uw", &all, "abcdef010000000a");
	check_format("dovecot:UID%u-%v", &all, "UID10-2882400001");
	check_format("dovecot:%Xu-%05u-%02Xv%%", &all, "a-00010-abcdef01%");
	check_format("dovecot:%m/%g", &all, "md5/guid");
	check_format("dovecot:%f/%g", &all, "1.a:b/guid");
	check_format("dovecot", &most, "fffffffeffffffff");
	check_format("dovecot", &none, NULL);
	check_format("dovecot:%m", &none, NULL);
	check_format("dovecot:%f", &none, NULL);
	check_format("dovecot:%g", &none, NULL);
	check_format("dovecot:%020u%020u%020u%09u", &all,
	    "00000000000000000010000000000000000000100000000000000000001000000"
	    "0010");
	check_format("dovecot:%020u%020u%020u%011u", &all, NULL);
}

/* UIDs in an mbox. */
static void
test_numbers(void)
{
	put_file("mbox",
	    FROM "X-IMAPbase: 1700000000 0000000006\nX-UID: 2       \n"
		 "Subject: 1\n\nX-UID: 5\n\n" FROM
		 "Subject: 2\nx-uid : 4\n\nb\n\n" FROM "X-UID: 6\r\n\r\n\n");
	CHECK_MBOX("dovecot", "000000026553f100", "000000046553f100",
	    "000000066553f100");
	CHECK_MBOX("uw", "6553f10000000002", "6553f10000000004",
	    "6553f10000000006");
	/* Great numbers; then messages without a valid uid, which are new. */
	put_file("mbox",
	    FROM "Received: x\nX-IMAPbase: 4000000000 4000000003\n"
		 "X-UID: 4000000001\n\nx\n\n" FROM
		 "X-UID: 4000000003\n\nx\n\n" FROM "X-UID: 7\n\nx\n\n" FROM
		 "X-UID: 4100000000\n\nx\n\n" FROM "Subject: x\n\nx\n\n");
	CHECK_MBOX("dovecot", "ee6b2801ee6b2800", "ee6b2803ee6b2800", OWN, OWN,
	    OWN);
	/* The internal message. */
	put_file("mbox",
	    "From MAILER-DAEMON Mon Nov 23 05:00:00 2026\n"
	    "Date: 23 Nov 2026 05:00:00 +0000\n"
	    "From: Mail System Internal Data <MAILER-DAEMON@k>\n"
	    "Subject: DON'T DELETE THIS MESSAGE -- FOLDER INTERNAL DATA\n"
	    "Message-ID: <1@k>\nX-IMAP: 1700000000 0000000009 NonJunk\n"
	    "Status: RO\n\nThis text\n\n" FROM "X-UID: 3\n\nx\n\n" FROM
	    "X-IMAPbase: 1 2\nX-UID: 9\n\nx\n\n" FROM "\nx\n");
	CHECK_MBOX("dovecot", "000000036553f100", "000000096553f100", OWN);
	CHECK_MBOX("uw", "6553f10000000003", "6553f10000000009", OWN);
	/* As mailutils writes it. */
	put_file("mbox",
	    FROM "X-IMAPbase:           1796013625                    7\n"
		 "X-UID: 1\n\nx\n");
	CHECK_MBOX("dovecot", "000000016b0cfe39");
	/* There is no uid above the greatest one. */
	put_file("mbox",
	    FROM "X-IMAPbase: 1 4294967294\nX-UID: 1\n\n\n" FROM
		 "X-UID: 4294967294\n\nx\n\n" FROM "X-UID: 4294967295\n\ny\n");
	CHECK_MBOX("dovecot", "0000000100000001", "fffffffe00000001", OWN);
}

/*
 * Fields that senders have written. Dovecot would give some of these messages
 * new uids. Here, the uids that clients have seen are kept.
 */
static void
test_forged_numbers(void)
{
	put_file("mbox",
	    FROM
	    "X-UID: 77\nX-IMAPbase: 1234 0000000100\nX-UID: 50\n\nx\n\n" FROM
	    "X-UID: 60\nX-UID: 61\n\nx\n\n" FROM "X-UID: 59\n\nx\n\n" FROM
	    "X-UID: 90\n\nx\n\n" FROM "X-UID: 99x\n\nx\n\n" FROM
	    "X-UID: 101\n\nx\n");
	CHECK_MBOX("dovecot", "00000032000004d2", "0000003c000004d2", OWN,
	    "0000005a000004d2", OWN, OWN);
	/* Only the first message can have the uidvalidity. */
	put_file("mbox",
	    FROM "X-UID: 1\n\nx\n\n" FROM "X-IMAPbase: 5 7\nX-UID: 2\n\nx\n");
	CHECK_MBOX("dovecot", OWN, OWN);
	/* No message has a uid twice, and none goes back. */
	put_file("mbox",
	    FROM "X-IMAPbase: 5 7\nX-UID: 7\n\na\n\n" FROM
		 "X-UID: 7\n\nb\n\n" FROM "X-UID: 2\n\nc\n");
	CHECK_MBOX("dovecot", "0000000700000005", OWN, OWN);
}

static const struct store_ops *real_store;

/* Before message 2 is read, Dovecot gives all messages new numbers. */
static enum drop_error
fetch_renumbered(void *box, size_t i, struct span *s)
{
	static const char text[] =
	    FROM "X-IMAPbase: 9 2\nX-UID: 1\nSubject: 1\n\na\n\n" FROM
		 "X-UID: 2\nSubject: 2\n\nb\n";
	int fd;

	if (i == 1) {
		fd = openat(top, "mbox", O_WRONLY);
		CHECK(fd != -1 &&
		    file_write(fd, text, sizeof(text) - 1, 0) == 0 &&
		    close(fd) == 0);
	}
	return real_store->fetch(box, i, s);
}

/*
 * A uid never comes from another numbering than the uidvalidity: together they
 * could be the id of a message that is gone.
 */
static void
test_renumbering(void)
{
	static struct uidl_scheme scheme;
	struct store_ops racing;
	struct maildrop drop;

	put_file("state/uidl", NULL);
	put_file("mbox",
	    FROM "X-IMAPbase: 5 7\nX-UID: 1\nSubject: 1\n\na\n\n" FROM
		 "X-UID: 7\nSubject: 2\n\nb\n");
	CHECK(scheme_read(&scheme, "dovecot:%v.%u") == 0);
	CHECK(drop_begin(&drop, "mbox:~/mbox") == DROP_OK);
	real_store = drop.store;
	racing = *real_store;
	racing.fetch = fetch_renumbered;
	drop.store = &racing;
	maildrop_compute_ids(&drop, &scheme);
	CHECK(maildrop_load_ids(&drop) == DROP_FAILED);
	CHECK(faccessat(top, "state/uidl", F_OK, 0) == -1);
	CHECK_MBOX("dovecot:%v.%u", "9.1", "9.2");
}

/* The disk cannot read the headers of the messages. */
static enum drop_error
fetch_unreadable(void *box, size_t i, struct span *s)
{
	enum drop_error error = real_store->fetch(box, i, s);

	/* To read the memory at 0 fails with EIO. */
	s->fd = open("/proc/self/mem", O_RDONLY);
	CHECK(s->fd != -1);
	s->at = 0;
	return error;
}

/*
 * If the header with the uidvalidity cannot be read, no map is made. It would
 * be final, and would have no ids.
 */
static void
test_unreadable_front(void)
{
	static struct uidl_scheme scheme;
	struct store_ops broken;
	struct maildrop drop;

	put_file("state/uidl", NULL);
	put_file("mbox", FROM "X-IMAPbase: 5 7\nX-UID: 6\n\na\n");
	CHECK(scheme_read(&scheme, "dovecot") == 0);
	CHECK(drop_begin(&drop, "mbox:~/mbox") == DROP_OK);
	real_store = drop.store;
	broken = *real_store;
	broken.fetch = fetch_unreadable;
	drop.store = &broken;
	maildrop_compute_ids(&drop, &scheme);
	CHECK(maildrop_load_ids(&drop) == DROP_FAILED);
	CHECK(faccessat(top, "state/uidl", F_OK, 0) == -1);
	CHECK_MBOX("dovecot", "0000000600000005");
}

/* X-IMAPbase that is not one. */
static void
test_bad_bases(void)
{
	static const char *const bases[] = { "", "0 5", "5", "5x 7", "5 x",
		"5 7x", "-5 7", "4294967296 7", "5 4294967295", "5\n 7",
		"99999999999999999999999 1" };
	char text[256];

	for (size_t i = 0; i < sizeof(bases) / sizeof(bases[0]); i++) {
		snprintf(text, sizeof(text),
		    FROM "X-IMAPbase: %s\nX-UID: 3\n\nx\n", bases[i]);
		put_file("mbox", text);
		CHECK_MBOX("dovecot", OWN);
	}
	put_file("mbox",
	    FROM "X-IMAPbase: 5x 7\nX-IMAPbase: 5 7\nX-IMAPbase: 6 9\n"
		 "X-UID: 3\n\nx\n");
	CHECK_MBOX("dovecot", "0000000300000005");
}

/* Hashes of headers. */
static void
test_hashes(void)
{
#define MESSAGE(n)                                                             \
	FROM "Received: from x by y\n id " n "; Mon, 23 Nov 2026 05:00:0" n    \
	     " +0000\nReceived: from z\nMessage-ID: <m" n                      \
	     "@k>\nDelivered-To: a" n "\nSubject: m" n "\n\nbody " n "\n\n"

	put_file("mbox", MESSAGE("1") MESSAGE("2"));
	CHECK_MBOX("popa3d", "49f70b7a0de958d6", "e19c0a986f8e31da");
	CHECK_MBOX("dovecot:%m", "001bd5d7aebfd91beecc39d24f2abc9e",
	    "faf4f4c1977246867d1082dff0be3f58");
	CHECK_MBOX("dovecot:%g", "001bd5d7aebfd91beecc39d24f2abc9e",
	    "faf4f4c1977246867d1082dff0be3f58");
	CHECK_MBOX("solid-pop3d", "6eeee0fe568ef95d9b175c9b42d05f66",
	    "7a6ebe7777d09d4c8267e3da6452e014");
	/* popa3d gives both the first one's id. */
	put_file("mbox", MESSAGE("1") MESSAGE("1") MESSAGE("2"));
	CHECK_MBOX("popa3d", "49f70b7a0de958d6", OWN, "e19c0a986f8e31da");
#undef MESSAGE
	/* Only Dovecot reads CRLF. */
	put_file("mbox",
	    FROM "Received: from x by y\r\n id 1; Mon, 23 Nov 2026 05:00:01 "
		 "+0000\r\nDelivered-To: a1\r\n\r\nbody\r\n");
	CHECK_MBOX("dovecot:%m", "001bd5d7aebfd91beecc39d24f2abc9e");
}

/* The field X-UIDL. */
static void
test_x_uidl(void)
{
	put_file("mbox",
	    FROM "X-UIDL: first \nX-UIDL: second\n\nx\n\n" FROM
		 "x-uidl:\tvalid\r\n\nx\n\n" FROM "Subject: none\n\nx\n\n" FROM
		 "X-UIDL: first\n\ny\n\n" FROM
		 "X-UIDL: two words\nX-UIDL: \nX-UIDL: third\n\nx\n\n" FROM
		 "Subject: in the body\n\nX-UIDL: body\n");
	CHECK_MBOX("qpopper", "first", "valid", OWN, OWN, "third", OWN);
	make_maildir();
	CHECK_MAILDIR("mailutils", OWN, "x2", OWN, OWN);
}

/* dovecot-uidlist. */
static void
test_dovecot_list(void)
{
	put_file(DOVECOT_LIST, NULL);
	CHECK_MAILDIR("dovecot", OWN, OWN, OWN, OWN);
	CHECK_MAILDIR("dovecot:%f", "1.a", "2.b", "3.c", "4.d");
	put_file(DOVECOT_LIST,
	    "3 V1700000000 N12 G4a7394153afe0c6bec0000007a717a92\n"
	    "3 W50 :1.a\n5 S40 W50 :2.b\n10 :3.c\n11 W50 :gone\n");
	CHECK_MAILDIR("dovecot", "000000036553f100", "000000056553f100",
	    "0000000a6553f100", OWN);
	/* P and G. The later one of two lines counts. */
	put_file(DOVECOT_LIST,
	    "3 N10 V1700000000 P%u G4a7394153afe0c6bec0000007a717a92\n"
	    "3 Pold3 :1.a\n5 P :2.b\n6 Gabc S10 :3.c\n8 W5 :1.a\n"
	    "9 Pfour W50 :4.d\n");
	CHECK_MAILDIR("dovecot", "000000086553f100", "2.b", "000000066553f100",
	    "four");
	CHECK_MAILDIR("dovecot:%g", "1.a", "2.b", "abc", "four");
	/* Version 1, with flags after a name. */
	put_file(DOVECOT_LIST, "1 1700000000 10\n3 1.a\n5 2.b:2,S\n");
	CHECK_MAILDIR("dovecot", "000000036553f100", "000000056553f100", OWN,
	    OWN);
	/* Dovecot has not written the last line to its end yet. */
	put_file(DOVECOT_LIST, "3 V1 N9\n1 :1.a\n2 :2.b");
	CHECK_MAILDIR("dovecot", "0000000100000001", OWN, OWN, OWN);
}

/* What is not a dovecot-uidlist, or only in part. */
static void
test_bad_dovecot_lists(void)
{
	static const char *const heads[] = { "", "\n", "3\n1 :1.a\n",
		"3 N5\n1 :1.a\n", "3 V0 N5\n1 :1.a\n", "3 V\n1 :1.a\n",
		"2 V1 N5\n1 :1.a\n", "33 V1 N5\n1 :1.a\n", "1 x 5\n1 1.a\n",
		"3 V4294967297 N5\n1 :1.a\n", "3 V12345678901\n1 :1.a\n",
		"3 V1x\n1 :1.a\n", "\0003 V1\n1 :1.a\n", "3 V1 N5 :1.a" };

	make_maildir();
	for (size_t i = 0; i < sizeof(heads) / sizeof(heads[0]); i++) {
		put_file(DOVECOT_LIST, heads[i]);
		CHECK_MAILDIR("dovecot", OWN, OWN, OWN, OWN);
		CHECK_MAILDIR("dovecot:u%u", OWN, OWN, OWN, OWN);
	}
	put_file(DOVECOT_LIST,
	    "3 V1 N9\n\n:1.a\n0 :1.a\n4294967297 :1.a\n-1 :1.a\n1\n1 \n1 :\n"
	    "2 W\n1:1.a\n7 P\x7f :2.b\n8 P8 :3.c\n9 P8 :4.d\n");
	CHECK_MAILDIR("dovecot", OWN, OWN, "8", OWN);
	/* The id of one message is another message's own id. */
	put_file(DOVECOT_LIST, "3 V1 N9\n1 P2.b :1.a\n");
	CHECK_MAILDIR("dovecot", "2.b", ":0:6YJiB00SeE01Wo8yzSDKbA", OWN, OWN);
}

/* courierpop3dsizelist. */
static void
test_courier_list(void)
{
	put_file(COURIER_LIST, NULL);
	CHECK_MAILDIR("courier", OWN, OWN, OWN, OWN);
	put_file(COURIER_LIST,
	    "/3 5 1796013626\n1.a 12 1:1796013626:0\n2.b:2,S 38 2:0:1\n"
	    "3.c:2, 5 0:7:0\ngone 5 4:1:0\n");
	CHECK_MAILDIR("courier", "UID1-1796013626", "UID2", OWN, OWN);
	put_file(COURIER_LIST,
	    "/2 5 7\n1.a 12 1:7\n2.b:2,RS 38 18446744073709551615:7\n4.d 1 3");
	CHECK_MAILDIR("courier", "UID1-7", OWN, OWN, OWN);
	put_file(COURIER_LIST,
	    "/3 5 7\n\n \n  \n1.a\n1.a 1\n1.a 1 x:1\n1.a 1 1\n1.a 1 1:\n"
	    "2.b 1 1:18446744073709551616:0\n4.d 1 3:7:0\n3.c 1 3:7:0\n");
	CHECK_MAILDIR("courier", OWN, OWN, "UID3-7", OWN);
	put_file(COURIER_LIST, "/1 5\n1.a 12 1:7\n");
	CHECK_MAILDIR("courier", OWN, OWN, OWN, OWN);
	put_file(COURIER_LIST, NULL);
	/* solid-pop3d hashes the unique names. */
	CHECK_MAILDIR("solid-pop3d", "4e98ad274faf47a40d5d4a0ccfad4843",
	    "4d17423dfce3bb2aa69549522d99884b",
	    "dc3afa79a92495c4762453f74f754005",
	    "441e85f9d25694f597933a3c134dc4ea");
}

/* Checks that a list which is not a file makes UIDL fail, without a map. */
static void
check_refused(void)
{
	struct maildrop drop;
	size_t removed;

	CHECK(open_with(&drop, "maildir:~/Maildir", "dovecot") == DROP_DENIED);
	CHECK(faccessat(top, "state/uidl", F_OK, 0) == -1 && errno == ENOENT);
	CHECK(drop.map == NULL);
	/* A removal is still possible. */
	CHECK(maildrop_commit(&drop, &removed) == DROP_OK);
	put_file(DOVECOT_LIST, NULL);
}

/* The user replaces the list by other things. */
static void
test_replaced_list(void)
{
	int fd;

	put_file(DOVECOT_LIST, NULL);
	CHECK(symlinkat("new/1.a", top, DOVECOT_LIST) == 0);
	check_refused();
	CHECK(mkfifoat(top, DOVECOT_LIST, 0600) == 0);
	check_refused();
	CHECK(mkdirat(top, DOVECOT_LIST, 0700) == 0);
	check_refused();
	put_file(DOVECOT_LIST, "3 V1 N9\n");
	fd = openat(top, DOVECOT_LIST, O_WRONLY);
	CHECK(fd != -1 && ftruncate(fd, ((off_t)256 << 20) + 1) == 0);
	close(fd);
	check_refused();
	if (geteuid() != 0) {
		put_file(DOVECOT_LIST, "3 V1 N9\n");
		CHECK(fchmodat(top, DOVECOT_LIST, 0, 0) == 0);
		check_refused();
	}
}

/*
 * The map is made once, before the first removal. A mailbox without messages
 * has none yet.
 */
static void
test_once(void)
{
	static struct uidl_scheme scheme;
	struct maildrop drop;
	char id[UIDL_SIZE];
	size_t removed;

	put_file("mbox", "");
	CHECK(open_with(&drop, "mbox:~/mbox", "dovecot") == DROP_OK);
	CHECK(faccessat(top, "state/uidl", F_OK, 0) == -1);
	put_file("mbox",
	    FROM "X-IMAPbase: 1700000000 2\nX-UID: 1\nSubject: 1\n\n1\n\n" FROM
		 "X-UID: 2\nSubject: 2\n\n2\n");
	CHECK(drop_begin(&drop, "mbox:~/mbox") == DROP_OK && drop.count == 2);
	CHECK(scheme_read(&scheme, "dovecot") == 0);
	maildrop_compute_ids(&drop, &scheme);
	maildrop_mark(&drop, 1);
	CHECK(maildrop_commit(&drop, &removed) == DROP_OK && removed == 1);
	CHECK(drop_begin(&drop, "mbox:~/mbox") == DROP_OK && drop.count == 1);
	CHECK(scheme_read(&scheme, "popa3d") == 0);
	maildrop_compute_ids(&drop, &scheme);
	CHECK(maildrop_load_ids(&drop) == DROP_OK);
	maildrop_uidl(&drop, 1, id);
	CHECK(strcmp(id, "000000026553f100") == 0);
}

/*
 * If the map cannot be written, as on a full disk, only a removal of all
 * messages is possible. It leaves no message whose id would change.
 */
static void
test_no_map(void)
{
	static struct uidl_scheme scheme;
	struct maildrop drop;
	size_t removed;

	put_file("mbox",
	    FROM "X-IMAPbase: 5 7\nX-UID: 6\n\n1\n\n" FROM "X-UID: 7\n\n2\n");
	CHECK(scheme_read(&scheme, "dovecot") == 0);
	CHECK(mkdirat(top, "state/uidl.tmp", 0700) == 0);
	CHECK(open_with(&drop, "mbox:~/mbox", "dovecot") == DROP_FAILED);
	maildrop_mark(&drop, 1);
	CHECK(maildrop_commit(&drop, &removed) == DROP_FAILED && removed == 0);
	maildrop_mark(&drop, 2);
	CHECK(maildrop_commit(&drop, &removed) == DROP_OK && removed == 2);
	CHECK(unlinkat(top, "state/uidl.tmp", AT_REMOVEDIR) == 0);
	/* A damaged map, which only a person can remove, stops no removal. */
	put_file("mbox", FROM "X-UID: 6\n\n1\n\n" FROM "X-UID: 7\n\n2\n");
	put_file("state/uidl", "x\n");
	CHECK(drop_begin(&drop, "mbox:~/mbox") == DROP_OK);
	maildrop_compute_ids(&drop, &scheme);
	CHECK(maildrop_load_ids(&drop) == DROP_DENIED);
	maildrop_mark(&drop, 1);
	CHECK(maildrop_commit(&drop, &removed) == DROP_OK && removed == 1);
}

/*
 * If the map is lost, another computation gives the same ids. A new message has
 * its own id, which is never that of a message that is gone.
 */
static void
test_lost_map(void)
{
	const char *const text =
	    FROM "X-IMAPbase: 5 7\nX-UID: 7\nSubject: 1\n\n1\n\n" FROM
		 "Subject: 2\n\n2\n\n" FROM "Subject: 3\n\n3\n";
	char before[3][UIDL_SIZE], id[UIDL_SIZE];
	struct maildrop drop;
	size_t removed;

	put_file("mbox", text);
	CHECK(open_with(&drop, "mbox:~/mbox", "dovecot") == DROP_OK);
	for (size_t n = 1; n <= 3; n++)
		maildrop_uidl(&drop, n, before[n - 1]);
	maildrop_mark(&drop, 2);
	CHECK(maildrop_commit(&drop, &removed) == DROP_OK && removed == 1);
	CHECK(open_with(&drop, "mbox:~/mbox", "dovecot") == DROP_OK);
	CHECK(drop.count == 2);
	maildrop_uidl(&drop, 1, id);
	CHECK(strcmp(id, before[0]) == 0);
	maildrop_uidl(&drop, 2, id);
	CHECK(strcmp(id, before[2]) == 0 && strcmp(id, before[1]) != 0);
}

/* Returns the hash of a header that is read in pieces of at most size bytes. */
static void
hash_in_pieces(enum trace_hash whose, const char *text, size_t size,
    char hash[TRACE_HASH_TEXT])
{
	const size_t all = strlen(text);
	struct trace h;
	size_t at = 0;

	trace_begin(&h, whose, false);
	while (at < all && !h.is_complete) {
		size_t n = all - at < size ? all - at : size;
		size_t used = trace_read(&h, text + at, n, at + n == all);

		if (used == 0)
			used = trace_read(&h, text + at, n, true);
		CHECK(used > 0);
		at += used;
	}
	CHECK(h.is_complete && strcmp(h.x_uidl, "x") == 0);
	trace_end(&h, hash);
}

/* The pieces in which a header is read do not change the result. */
static void
test_pieces(void)
{
	static const char text[] =
	    "Received: a\n b\nX-UIDL: x\nDate: d\nMessage-ID: m\n"
	    "Subject: a longer line\nX-Delivery-ID: another longer line\n"
	    "Delivered-To: e\n and a longer folded line\n\nX-UIDL: y\n";
	char whole[TRACE_HASH_TEXT], hash[TRACE_HASH_TEXT];

	for (int whose = TRACE_POPA3D; whose <= TRACE_DOVECOT; whose++) {
		hash_in_pieces((enum trace_hash)whose, text, 1000, whole);
		for (size_t size = 16; size < sizeof(text); size++) {
			hash_in_pieces((enum trace_hash)whose, text, size,
			    hash);
			CHECK(strcmp(hash, whole) == 0);
		}
	}
}

int
main(void)
{
	top = drop_directory();
	CHECK(mkdirat(top, "state", 0700) == 0);
	test_words();
	test_formats();
	test_numbers();
	test_forged_numbers();
	test_renumbering();
	test_unreadable_front();
	test_bad_bases();
	test_hashes();
	test_x_uidl();
	test_dovecot_list();
	test_bad_dovecot_lists();
	test_courier_list();
	test_replaced_list();
	test_once();
	test_no_map();
	test_lost_map();
	test_pieces();
	return drop_clean_up();
}
