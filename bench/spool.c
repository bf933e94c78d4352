/*
 * Writes a mailbox for the bench, with the same bytes every time. It is an mbox
 * on standard output, or a Maildir.
 *
 * 	bench/spool MESSAGES LEAST MOST [LARGE-EVERY [MAILDIR]]
 *
 * A message has common header fields and LEAST to MOST bytes of text in lines
 * of 60 to 78 columns. Each LARGE-EVERYth message has 1 to 5 MB of base64
 * instead. If LARGE-EVERY is 0, no message has. Some lines begin with a dot,
 * some with ">From ".
 */
#include "config.h"

#include <err.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LINES 4096 /* the number of different lines in the text */

static uint64_t seed = 0x9e3779b97f4a7c15;
static char lines[2][LINES][80]; /* lines[0] is text, lines[1] is base64 */
static size_t lengths[2][LINES];

/*
 * Returns a pseudo-random number that is smaller than the argument. The
 * sequence is the same on every machine (xorshift64*).
 */
static uint64_t
draw(uint64_t below)
{
	seed ^= seed >> 12;
	seed ^= seed << 25;
	seed ^= seed >> 27;
	return ((seed * 0x2545f4914f6cdd1d) >> 32) % below;
}

static void
make_lines(void)
{
	static const char base64[] =
	    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

	for (size_t i = 0; i < LINES; i++) {
		size_t n = 60 + (size_t)draw(19);

		for (size_t k = 0; k < n; k++)
			lines[0][i][k] =
			    draw(6) == 0 ? ' ' : (char)('a' + draw(26));
		if (i % 512 == 1)
			lines[0][i][0] = '.';
		if (i % 1024 == 2)
			memcpy(lines[0][i], ">From ", 6);
		lines[0][i][n] = '\n';
		lengths[0][i] = n + 1;
		for (size_t k = 0; k < 76; k++)
			lines[1][i][k] = base64[draw(64)];
		lines[1][i][76] = '\n';
		lengths[1][i] = 77;
	}
}

static void
put_header(FILE *f, unsigned long n)
{
	uint64_t id = draw(UINT32_MAX);
	unsigned hour = (unsigned)(n / 3600 % 24),
		 minute = (unsigned)(n / 60 % 60), second = (unsigned)(n % 60);

	fprintf(f,
	    "Return-Path: <sender%" PRIu64 "@example.org>\n"
	    "Received: from mx.example.org by mail.kpopd.test\n"
	    "\twith ESMTPS id %08" PRIx64
	    "; Mon, 23 Nov 2026 %02u:%02u:%02u +0000\n"
	    "Message-ID: <%lu.%08" PRIx64 "@example.org>\n"
	    "From: sender@example.org\n"
	    "To: reader@kpopd.test\n"
	    "Subject: message %lu\n\n",
	    id % 997, id, hour, minute, second, n, id, n);
}

static void
put_lines(FILE *f, int kind, uint64_t bytes)
{
	uint64_t put = 0;

	while (put < bytes) {
		size_t i = (size_t)draw(LINES);

		fwrite_unlocked(lines[kind][i], 1, lengths[kind][i], f);
		put += lengths[kind][i];
	}
}

static FILE *
open_file(const char *maildir, unsigned long n)
{
	char path[4096];
	FILE *f;

	snprintf(path, sizeof(path), "%s/new/%lu.M%luP1.mail", maildir,
	    1795413600 + n / 100, n);
	if ((f = fopen(path, "w")) == NULL)
		err(1, "%s", path);
	return f;
}

static void
close_file(FILE *f)
{
	if (fclose(f) != 0)
		err(1, "writing");
}

int
main(int argc, char **argv)
{
	static char buffer[1 << 20];
	unsigned long count, least, most, large, n;
	const char *maildir = argc > 5 ? argv[5] : NULL;

	if (argc < 4)
		errx(2,
		    "usage: spool messages least most [large-every [maildir]]");
	count = strtoul(argv[1], NULL, 10);
	least = strtoul(argv[2], NULL, 10);
	most = strtoul(argv[3], NULL, 10);
	large = argc > 4 ? strtoul(argv[4], NULL, 10) : 0;
	make_lines();
	setvbuf(stdout, buffer, _IOFBF, sizeof(buffer));
	for (n = 1; n <= count; n++) {
		FILE *f = maildir != NULL ? open_file(maildir, n) : stdout;

		if (maildir == NULL)
			fputs("From sender@example.org Mon Nov 23 05:00:00 "
			      "2026\n",
			    f);
		put_header(f, n);
		if (large != 0 && n % large == 0)
			put_lines(f, 1, 1000000 + draw(4000001));
		else
			put_lines(f, 0, least + draw(most - least + 1));
		if (maildir != NULL)
			close_file(f);
		else
			putc('\n', f);
	}
	if (maildir == NULL)
		close_file(stdout);
	return 0;
}
