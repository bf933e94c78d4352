/*
 * Decides which lines separate the messages of an mbox file; pure computation.
 *
 * Runs as the owner of the mailbox, on bytes from any sender.
 *
 * The text of a message may contain lines that begin with "From ". Some
 * programs do not quote such a line if the message has a Content-Length. So not
 * every line that begins with "From " separates messages. Such a line separates
 * messages if it ends with a date, or if the next line can be the first line of
 * a header:
 *
 *	From anything [weekday] Month day time [zone] year [zone]
 *	From anything [weekday,] day Month year time [zone]
 *	From anything
 *	Name: ...
 *	From anything
 *	>From anything
 *
 * The sender may be missing or quoted, may contain blanks, or may be "-" or
 * "???@???"; so any sender is accepted. UUCP's "remote from X" may follow the
 * date. If any other word follows the date, the line does not end with a date.
 */
#include "config.h"

#include <string.h>
#include <strings.h>

#include "mbox-from.h"

#define MONTHS "JanFebMarAprMayJunJulAugSepOctNovDec"
#define ZONES 2     /* "+0100 (CET)" and "MET DST" are two zones each */
#define ZONE_NAME 6 /* letters of a zone's name, at most */

/*
 * The rest of a line. Each take_ function looks for a certain text at p, for
 * example a number. If the text is there, the function moves p to its end and
 * returns true. If not, the function returns false, and may have moved p
 * nevertheless.
 */
struct text {
	const char *p, *end;
};

static bool
is_blank(char c)
{
	return c == ' ' || c == '\t';
}

static bool
is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool
is_upper(char c)
{
	return c >= 'A' && c <= 'Z';
}

/* Returns true if a field's name may contain c (RFC 5322 section 2.2). */
static bool
is_name_char(char c)
{
	return c > ' ' && c <= '~' && c != ':';
}

/* Returns true if a word ends at t->p. */
static bool
ends_word(const struct text *t)
{
	return t->p == t->end || is_blank(*t->p);
}

static bool
take_blanks(struct text *t)
{
	const char *begin = t->p;

	while (t->p < t->end && is_blank(*t->p))
		t->p++;
	return t->p > begin;
}

static bool
take_char(struct text *t, char c)
{
	if (t->p == t->end || *t->p != c)
		return false;
	t->p++;
	return true;
}

/*
 * Takes a number. It must have at least `least` and at most `most` digits, and
 * must not exceed `greatest`.
 */
static bool
take_number(struct text *t, int least, int most, int greatest)
{
	int n = 0, value = 0;

	for (; t->p < t->end && is_digit(*t->p) && n < most; n++)
		value = 10 * value + (*t->p++ - '0');
	return n >= least && value <= greatest &&
	    (t->p == t->end || !is_digit(*t->p));
}

static bool
take_word(struct text *t, const char *word)
{
	size_t n = strlen(word);

	if ((size_t)(t->end - t->p) < n || memcmp(t->p, word, n) != 0)
		return false;
	t->p += n;
	return ends_word(t);
}

static bool
take_month(struct text *t)
{
	if (t->end - t->p < 3)
		return false;
	for (const char *month = MONTHS; *month != '\0'; month += 3)
		if (strncasecmp(t->p, month, 3) == 0) {
			t->p += 3;
			return ends_word(t);
		}
	return false;
}

static bool
take_day(struct text *t)
{
	return take_number(t, 1, 2, 31) && ends_word(t);
}

static bool
take_year(struct text *t)
{
	return take_number(t, 4, 4, 9999) && ends_word(t);
}

static bool
take_time(struct text *t)
{
	if (!take_number(t, 1, 2, 23) || !take_char(t, ':') ||
	    !take_number(t, 2, 2, 59))
		return false;
	return ends_word(t) ||
	    (take_char(t, ':') && take_number(t, 2, 2, 60) && ends_word(t));
}

/* Takes an offset from UTC, with its sign: +0100, -05:00, +1. */
static bool
take_offset(struct text *t)
{
	if (!take_char(t, '+') && !take_char(t, '-'))
		return false;
	if (!take_number(t, 1, 4, 9999))
		return false;
	return ends_word(t) ||
	    (take_char(t, ':') && take_number(t, 2, 2, 59) && ends_word(t));
}

/*
 * Takes a zone. A zone is an offset, a name in capital letters that an offset
 * may follow, or anything in parentheses.
 */
static bool
take_zone(struct text *t)
{
	const char *begin = t->p;

	if (take_char(t, '(')) {
		while (t->p < t->end && *t->p != ')')
			t->p++;
		return take_char(t, ')') && ends_word(t);
	}
	while (t->p < t->end && is_upper(*t->p))
		t->p++;
	if (t->p - begin > ZONE_NAME)
		return false;
	return (t->p > begin && ends_word(t)) || take_offset(t);
}

/*
 * Takes up to `most` zones, each after blanks. Returns `most` less the number
 * of taken zones.
 */
static int
take_zones(struct text *t, int most)
{
	for (; most > 0; most--) {
		struct text zone = *t;

		if (!take_blanks(&zone) || !take_zone(&zone))
			break;
		*t = zone;
	}
	return most;
}

/* Takes "Month day time [zone] year [zone]". */
static bool
take_ctime(struct text *t)
{
	int most;

	if (!take_month(t) || !take_blanks(t) || !take_day(t) ||
	    !take_blanks(t) || !take_time(t))
		return false;
	most = take_zones(t, ZONES);
	if (!take_blanks(t) || !take_year(t))
		return false;
	take_zones(t, most);
	return true;
}

/* Takes "day Month year time [zone]". */
static bool
take_mail_date(struct text *t)
{
	if (!take_day(t) || !take_blanks(t) || !take_month(t) ||
	    !take_blanks(t) || !take_year(t) || !take_blanks(t) ||
	    !take_time(t))
		return false;
	take_zones(t, ZONES);
	return true;
}

/* Returns true if the rest is blank, or "remote from" and one word. */
static bool
is_nothing_more(struct text t)
{
	take_blanks(&t);
	if (t.p == t.end)
		return true;
	if (!take_word(&t, "remote") || !take_blanks(&t) ||
	    !take_word(&t, "from") || !take_blanks(&t))
		return false;
	while (!ends_word(&t))
		t.p++;
	take_blanks(&t);
	return t.p == t.end;
}

/* Returns true if t ends with a date. */
static bool
ends_in_date(struct text t)
{
	if (t.p < t.end && t.end[-1] == '\r')
		t.end--;
	while (t.p < t.end) {
		struct text ctime = t, mail = t;

		if ((take_ctime(&ctime) && is_nothing_more(ctime)) ||
		    (take_mail_date(&mail) && is_nothing_more(mail)))
			return true;
		while (!ends_word(&t))
			t.p++;
		take_blanks(&t);
	}
	return false;
}

/*
 * Returns true if a header can begin at t. The header must begin with a field's
 * name and a colon. It may also begin with ">From ", because UUCP wrote several
 * such lines before a header.
 */
static bool
begins_header(struct text t)
{
	static const char quoted[] = ">" FROM_WORD;
	const char *begin = t.p;
	size_t n = (size_t)(t.end - t.p);

	if (n >= sizeof(quoted) - 1 &&
	    memcmp(t.p, quoted, sizeof(quoted) - 1) == 0)
		return true;
	while (t.p < t.end && is_name_char(*t.p))
		t.p++;
	/*
	 * A digit at the beginning may belong to a time within text. A colon
	 * before "//" belongs to a URL.
	 */
	if (t.p == begin || !(is_upper((char)(*begin & ~0x20))) ||
	    !take_char(&t, ':'))
		return false;
	return t.end - t.p < 2 || memcmp(t.p, "//", 2) != 0;
}

bool
from_separates(const char *p, size_t n)
{
	size_t look = n < FROM_LOOK ? n : FROM_LOOK;
	const char *end = p + look, *lf;

	if (!from_begins(p, look))
		return false;
	lf = memchr(p, '\n', look);
	if (lf == NULL)
		return look < FROM_LOOK &&
		    ends_in_date((struct text){ p + FROM_SIZE, end });
	/*
	 * Check the next line first, because that is cheap and usually decides.
	 */
	return begins_header((struct text){ lf + 1, end }) ||
	    ends_in_date((struct text){ p + FROM_SIZE, lf });
}
