/*
 * Reads the lines of dovecot-uidlist, in which Dovecot keeps the IMAP uids of a
 * Maildir's messages.
 *
 * Runs in the session, as the owner of the mailbox; pure computation. The file
 * belongs to the user, who can write anything there.
 *
 *	3 V1300000000 N5 G4a7394153afe0c6bec0000007a717a92
 *	1 W38 :1000000001.M1P2.host
 *	2 S36 W38 P000000244b3c9f00 :1000000002.M2P2.host
 *
 * The first line has the version and the uidvalidity. Each other line has a
 * uid, fields that begin with a letter, and after the colon the unique name of
 * the file. P is the id that POP3 clients get in place of the one that the
 * format makes; an empty P means the unique name. Version 1, which Courier
 * writes, too, has "1 VALIDITY NEXT", and "UID NAME" in the other lines.
 *
 * Dovecot writes a new file and renames it, or appends to the file. In both
 * cases each line that has its line end is complete.
 */
#include "config.h"

#include <string.h>

#include "uidl-dovecot.h"

/* What remains of a line. */
struct rest {
	const char *p, *end;
};

/* Skips blanks. */
static void
skip_blanks(struct rest *r)
{
	while (r->p < r->end && *r->p == ' ')
		r->p++;
}

/* Takes the bytes up to the next blank. */
static struct dovecot_bytes
take_field(struct rest *r)
{
	struct dovecot_bytes word = { r->p, 0 };

	while (r->p < r->end && *r->p != ' ')
		r->p++;
	word.n = (size_t)(r->p - word.at);
	skip_blanks(r);
	return word;
}

/*
 * Returns the number that these bytes are, or 0 if they are not a number of 32
 * bits.
 */
static uint32_t
number_of(const char *p, size_t n)
{
	uint64_t number = 0;

	if (n == 0 || n > 10)
		return 0;
	for (size_t i = 0; i < n; i++) {
		if (p[i] < '0' || p[i] > '9')
			return 0;
		number = number * 10 + (uint64_t)(p[i] - '0');
	}
	return number <= UINT32_MAX ? (uint32_t)number : 0;
}

bool
dovecot_read_head(struct dovecot_head *h, const char *p, size_t n)
{
	struct rest r = { p, p + n };
	struct dovecot_bytes word = take_field(&r);

	*h = (struct dovecot_head){ .version = 0 };
	if (word.n != 1 || (*word.at != '1' && *word.at != '3'))
		return false;
	h->version = *word.at - '0';
	while (r.p < r.end && h->validity == 0) {
		word = take_field(&r);
		if (h->version == 1)
			h->validity = number_of(word.at, word.n);
		else if (*word.at == 'V')
			h->validity = number_of(word.at + 1, word.n - 1);
		if (h->version == 1)
			break;
	}
	return h->validity != 0;
}

bool
dovecot_read_line(struct dovecot_line *l, const struct dovecot_head *h,
    const char *p, size_t n)
{
	struct rest r = { p, p + n };
	struct dovecot_bytes word = take_field(&r);
	const char *colon;

	*l = (struct dovecot_line){ .uid = number_of(word.at, word.n) };
	while (h->version == 3 && r.p < r.end && *r.p != ':') {
		word = take_field(&r);
		if (*word.at == 'P')
			l->uidl =
			    (struct dovecot_bytes){ word.at + 1, word.n - 1 };
		else if (*word.at == 'G')
			l->guid =
			    (struct dovecot_bytes){ word.at + 1, word.n - 1 };
	}
	if (h->version == 3)
		r.p += r.p < r.end;
	l->name = (struct dovecot_bytes){ r.p, (size_t)(r.end - r.p) };
	colon = memchr(l->name.at, ':', l->name.n);
	if (colon != NULL)
		l->name.n = (size_t)(colon - l->name.at);
	return l->uid != 0 && l->name.n > 0;
}
