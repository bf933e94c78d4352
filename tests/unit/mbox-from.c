/*
 * Unit tests of mbox-from.c. They check which lines separate messages. They
 * check that the bytes after the first FROM_LOOK bytes do not matter. Runs as
 * any user.
 */
#include "config.h"

#include <string.h>

#include "mbox-from.h"
#include "tests/unit/check.h"

/* Lines that end in a date. */
static const char *const dates[] = {
	"From a@b.test Mon Nov 23 05:00:00 2026",
	"From a@b.test  Mon Nov 23 05:00:00 2026",
	"From a@b.test Mon Nov  3 05:00:00 2026",
	"From a@b.test Mon Nov 3 5:00:00 2026",
	"From a@b.test Mon Nov 03 05:00 2026",
	"From a@b.test Thu nov 23 05:00 2026 \t",
	"From a@b.test Nov 23 05:00:00 2026",
	"From Mon Nov 23 05:00:00 2026",
	"From  Mon Nov 23 05:00:00 2026",
	"From - Mon Nov 23 05:00:00 2026",
	"From ???@??? Mon Nov 23 05:00:00 2026",
	"From MAILER-DAEMON Mon Nov 23 05:00:00 2026",
	"From \"John Q. Public\"@b.test Mon Nov 23 05:00:00 2026",
	"From John Q. Public <a@b.test> Mon Nov 23 05:00:00 2026",
	"From May Nov 5 Mon Nov 23 05:00:00 2026",
	"From a@b.test Mon Nov 23 05:00:00 MET 2026",
	"From a@b.test Wed Aug  2 00:39:12 MET DST 1995",
	"From a@b.test Mon Nov 23 05:00:00 +0100 2026",
	"From a@b.test Mon Nov 23 05:00:00 2026 +0100",
	"From a@b.test Mon Nov 23 05:00:00 2026 -05:00",
	"From a@b.test Mon Nov 23 05:00:00 2026 +0100 (CET)",
	"From a@b.test Mon Nov 23 05:00:00 +0100 2026 (Central European Time)",
	"From a@b.test Mon Nov 23 05:00:00 2026 GMT+1",
	"From a@b.test Mon, 23 Nov 2026 05:00:00 +0100",
	"From a@b.test 23 Nov 2026 05:00",
	"From a@b.test Mon, 3 Nov 2026 5:00:60 +0100 (CET)",
	"From a!b Mon Nov 23 05:00 2026 remote from c",
	"From b Mon Nov 23 05:00:00 GMT 2026 remote from c.test ",
};

/* Lines that do not end in a date. */
static const char *const text[] = {
	"From ",
	"From a",
	"From the very beginning of a sentence.",
	"from a@b.test Mon Nov 23 05:00:00 2026",
	"From: a@b.test Mon Nov 23 05:00:00 2026",
	"From\ta@b.test Mon Nov 23 05:00:00 2026",
	">From a@b.test Mon Nov 23 05:00:00 2026",
	"From a@b.test Mon Nov 23 05:00:00 2026 the office is closed.",
	"From a@b.test Mon Nov 23 05:00:00 2026.",
	"From a@b.test Mon Nov 23 05:00:00 2026 remote",
	"From a@b.test Mon Nov 23 05:00:00 2026 remote from",
	"From a@b.test Mon Nov 23 05:00:00 2026 remote from c and d",
	"From a@b.test Mon Nov 23 05:00:00 MET DST GMT 2026",
	"From a@b.test Mon Nov 23 05:00:00 MET DST 2026 +0100",
	"From a@b.test Mon Nov 32 05:00:00 2026",
	"From a@b.test Mon Nov 23 25:00:00 2026",
	"From a@b.test Mon Nov 23 05:61:00 2026",
	"From a@b.test Mon Nov 23 05:00:99 2026",
	"From a@b.test Mon Nov 23 005:00 2026",
	"From a@b.test Mon Nov 23 05:00:00 26",
	"From a@b.test Mon Nov 23 05:00:00 20260",
	"From a@b.test Mon Nov 23 05:00:00",
	"From a@b.test Mon November 23 05:00:00 2026",
	"From a@b.test Mon Nov 23 2026",
	"From Nov 23 on we have 2026",
	"From 9:00 to 17:00 on Nov 23 2026",
	"From Nov 23 05:00 to Nov 24 06:00 2026 the net is down",
	"From 2026 on",
	"From Montag, 23. November 2026, 05:00 Uhr",
};

/*
 * Lines after a "From " line. Some of these lines make the "From " line a
 * separator, and the others do not.
 */
static const char *const headers[] = { "Name: x", "name:", "Return-Path: <>",
	"X-1_2!: x", "N:", ">From b x", ">From " };
static const char *const others[] = { "", "Name", "Name :", " Name: x",
	"\tName: x", "http://x.test/", "12:30 is too late", ": x", ">Name: x",
	">From", "From b", "Na me: x", "N\xc3\xa4me: x", "-- ", "Name\1: x" };

static bool
separates(const char *line, const char *end, const char *next)
{
	char all[4096];
	int n = snprintf(all, sizeof(all), "%s%s%s", line, end, next);
	char *exact = malloc((size_t)n + 1);
	bool does;

	/*
	 * The copy is as small as possible, so that a sanitizer finds a read
	 * after the end of the copy.
	 */
	CHECK(exact != NULL);
	memcpy(exact, all, (size_t)n);
	does = from_separates(exact, (size_t)n);
	free(exact);
	return does;
}

static void
check_line(const char *line, bool date)
{
	static const char *const ends[] = { "\n", "\r\n", "\n\n",
		"\r\n\r\ntext\r\n", "\ntext\n" };

	/* The line is at the end of the file, with and without its line end. */
	if (separates(line, "", "") != date)
		fprintf(stderr, "%s\n", line);
	CHECK(separates(line, "", "") == date);
	for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++)
		CHECK(separates(line, ends[i], "") == date);
	for (size_t i = 0; i < sizeof(headers) / sizeof(headers[0]); i++) {
		CHECK(separates(line, "\n", headers[i]) ==
		    (strncmp(line, "From ", 5) == 0));
		CHECK(separates(line, "\r\n", headers[i]) ==
		    (strncmp(line, "From ", 5) == 0));
		CHECK(separates(line, "\n\n", headers[i]) == date);
	}
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		CHECK(separates(line, "\n", others[i]) == date);
}

/* Checks that no byte after the first FROM_LOOK bytes is read. */
static void
only_the_first_bytes_decide(void)
{
	static const char *const tails[] = { " Mon Nov 23 05:00:00 2026\n",
		"\nName: x\n", "\n>From x\n" };
	static char line[FROM_LOOK + 100];

	for (size_t i = 0; i < sizeof(tails) / sizeof(tails[0]); i++)
		for (size_t at = FROM_LOOK - 60; at < FROM_LOOK + 20; at++) {
			bool with_all, with_look;

			memset(line, 'x', sizeof(line));
			memcpy(line, "From ", 5);
			memcpy(line + at, tails[i], strlen(tails[i]));
			with_all = from_separates(line, sizeof(line));
			with_look = from_separates(line, FROM_LOOK);
			CHECK(with_all == with_look);
			/* These bytes are needed to decide: the line end after
			 * the date, or the colon after the name and two more
			 * bytes. */
			CHECK(with_all ==
			    (at +
				    (i == 0        ? strlen(tails[i]) :
					    i == 1 ? 6 :
						     7) <=
				FROM_LOOK));
		}
}

int
main(void)
{
	for (size_t i = 0; i < sizeof(dates) / sizeof(dates[0]); i++)
		check_line(dates[i], true);
	for (size_t i = 0; i < sizeof(text) / sizeof(text[0]); i++)
		check_line(text[i], false);
	only_the_first_bytes_decide();
	return 0;
}
