/*
 * Reads in a message's header what other servers make their unique ids from:
 * the fields that IMAP servers and qpopper write, and hashes of other fields.
 *
 * Runs in the session, as the owner of the mailbox; pure computation. A sender
 * can write each of these fields, with any value and any length.
 *
 * The hashes are MD5 over the values, or the lines, of some fields:
 *
 *	popa3d        the lines, with their ends and folded lines, of
 *	              Delivered-To, X-Delivery-ID, and up to the first Received:
 *	              that field, Date and Message-ID
 *	Dovecot       the same fields, but only their values, without line ends
 *	solid-pop3d   the first line of each Received, Date, Message-Id and
 *	              Subject, written in exactly these letters
 */
#include "config.h"

#include <string.h>
#include <strings.h>

#include "uidl-trace.h"

void
trace_begin(struct trace *h, enum trace_hash whose, bool at_front)
{
	*h = (struct trace){ .whose = whose, .at_front = at_front };
	MD5Init(&h->md5);
}

void
trace_accept(struct trace *h, uint32_t least, uint32_t most)
{
	h->least = least;
	h->most = most;
}

/* Returns true if c is a blank of a header. */
static bool
is_field_blank(char c)
{
	return c == ' ' || c == '\t';
}

/* Returns true if a line begins with these letters, in upper or lower case. */
static bool
begins_with(const char *p, size_t n, const char *name)
{
	return n >= strlen(name) && strncasecmp(p, name, strlen(name)) == 0;
}

/*
 * Returns the value of a field if a line has this name, with or without blanks
 * before the colon and after it. Otherwise returns NULL.
 */
static const char *
value_of(const char *p, size_t n, const char *name)
{
	const char *end = p + n;

	if (!begins_with(p, n, name))
		return NULL;
	for (p += strlen(name); p < end && is_field_blank(*p); p++)
		;
	if (p == end || *p != ':')
		return NULL;
	for (p++; p < end && is_field_blank(*p); p++)
		;
	return p;
}

/*
 * Reads a number of at most 32 bits. Stores its end in *end. Returns 0 if there
 * is none, or if it is greater.
 */
static uint32_t
read_uint32(const char *p, const char *last, const char **end)
{
	uint64_t number = 0;

	for (; p < last && *p >= '0' && *p <= '9'; p++)
		if (number <= UINT32_MAX)
			number = number * 10 + (uint64_t)(*p - '0');
	*end = p;
	return number <= UINT32_MAX ? (uint32_t)number : 0;
}

/* Returns the end of a line without its line end and the blanks before that. */
static const char *
trimmed_end(const char *p, size_t n)
{
	const char *end = p + n;

	while (end > p &&
	    (is_field_blank(end[-1]) || end[-1] == '\n' || end[-1] == '\r'))
		end--;
	return end;
}

/*
 * Reads X-IMAPbase or X-IMAP: uidvalidity, last uid, keywords. Only the first
 * one with two numbers counts.
 */
static void
read_base(struct trace *h, const char *value, const char *end)
{
	uint32_t validity = read_uint32(value, end, &value), last;
	const char *number;

	if (h->validity != 0 || validity == 0 || value == end ||
	    !is_field_blank(*value))
		return;
	while (value < end && is_field_blank(*value))
		value++;
	last = read_uint32(value, end, &number);
	if (number == value || (number < end && !is_field_blank(*number)) ||
	    last > TRACE_UID_MOST)
		return;
	h->validity = validity;
	h->last = last;
	trace_accept(h, 1, last);
}

/*
 * Reads X-UID. A sender can write this field, so only a uid counts that the
 * mailbox has already given, and that is greater than those before it.
 */
static void
read_x_uid(struct trace *h, const char *value, const char *end)
{
	const char *number;
	uint32_t uid = read_uint32(value, end, &number);

	if (h->uid == 0 && number == end && uid >= h->least && uid <= h->most)
		h->uid = uid;
}

/* Reads X-UIDL. The first one that can be an id counts. */
static void
read_x_uidl(struct trace *h, const char *value, const char *end)
{
	const size_t n = (size_t)(end - value);

	if (h->x_uidl[0] != '\0' || value >= end || !uidl_is_valid(value, n))
		return;
	memcpy(h->x_uidl, value, n);
	h->x_uidl[n] = '\0';
}

/* Reads the first line of a field. */
static void
read_field(struct trace *h, const char *p, size_t n)
{
	const char *end = trimmed_end(p, n), *value;

	if (*p != 'X' && *p != 'x')
		return;
	if (h->at_front &&
	    ((value = value_of(p, n, "X-IMAPbase")) != NULL ||
		(value = value_of(p, n, "X-IMAP")) != NULL))
		read_base(h, value, end);
	else if ((value = value_of(p, n, "X-UID")) != NULL)
		read_x_uid(h, value, end);
	else if ((value = value_of(p, n, "X-UIDL")) != NULL)
		read_x_uidl(h, value, end);
}

/* Adds bytes to the hash. */
static void
add_to_hash(struct trace *h, const char *p, size_t n)
{
	MD5Update(&h->md5, (const uint8_t *)p, n);
}

/* Decides if popa3d hashes the field that begins with this line. */
static bool
is_of_popa3d(struct trace *h, const char *p, size_t n)
{
	if (begins_with(p, n, "Received:")) {
		bool is_first = !h->has_received;

		h->has_received = true;
		return is_first;
	}
	return begins_with(p, n, "Delivered-To:") ||
	    (*p == 'X' && begins_with(p, n, "X-Delivery-ID:")) ||
	    (!h->has_received &&
		(begins_with(p, n, "Date:") ||
		    begins_with(p, n, "Message-ID:")));
}

/* Returns true if solid-pop3d hashes this line. */
static bool
is_of_solid(const char *p, size_t n)
{
	static const char *const names[] = {
		"Received:", "Date:", "Message-Id:", "Subject:"
	};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (n >= strlen(names[i]) &&
		    memcmp(p, names[i], strlen(names[i])) == 0)
			return true;
	return false;
}

/*
 * Returns the value of the field that begins with this line if Dovecot hashes
 * the field, otherwise NULL.
 */
static const char *
value_of_dovecot(struct trace *h, const char *p, size_t n)
{
	const char *value;

	if ((value = value_of(p, n, "Received")) != NULL) {
		bool is_first = !h->has_received;

		h->has_received = true;
		return is_first ? value : NULL;
	}
	if ((value = value_of(p, n, "Delivered-To")) != NULL ||
	    (value = value_of(p, n, "X-Delivery-ID")) != NULL)
		return value;
	if (h->has_received)
		return NULL;
	if ((value = value_of(p, n, "Date")) != NULL)
		return value;
	return value_of(p, n, "Message-ID");
}

/*
 * Hashes a line, or a part of a line. `starts` is false for the parts of a line
 * that follow its first part.
 */
static void
hash_line(struct trace *h, const char *p, size_t n, bool starts)
{
	bool begins = starts && !is_field_blank(*p);
	const char *value = p, *end = p + n;

	switch (h->whose) {
	case TRACE_POPA3D:
		if (begins)
			h->is_hashed = is_of_popa3d(h, p, n);
		break;
	case TRACE_SOLID:
		if (starts)
			h->is_hashed = is_of_solid(p, n);
		break;
	case TRACE_DOVECOT:
		if (begins) {
			value = value_of_dovecot(h, p, n);
			h->is_hashed = value != NULL;
		}
		if (end > p && end[-1] == '\n')
			end--;
		if (end > p && end[-1] == '\r')
			end--;
		break;
	}
	if (h->is_hashed && value < end)
		add_to_hash(h, value, (size_t)(end - value));
}

size_t
trace_read(struct trace *h, const char *p, size_t n, bool all)
{
	const char *const begin = p, *const end = p + n;

	while (p < end && !h->is_complete) {
		const char *lf = memchr(p, '\n', (size_t)(end - p));
		size_t length = (size_t)((lf != NULL ? lf + 1 : end) - p);
		bool starts = !h->in_line;

		if (lf == NULL && !all)
			break;
		h->in_line = lf == NULL;
		h->is_complete = starts && lf != NULL &&
		    (length == 1 || (length == 2 && *p == '\r'));
		if (!h->is_complete) {
			if (starts && !is_field_blank(*p))
				read_field(h, p, length);
			hash_line(h, p, length, starts);
		}
		p += length;
	}
	return (size_t)(p - begin);
}

void
trace_write(const unsigned char *hash, size_t n, char *text)
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < n; i++) {
		*text++ = digits[hash[i] >> 4];
		*text++ = digits[hash[i] & 15];
	}
	*text = '\0';
}

void
trace_end(struct trace *h, char hash[TRACE_HASH_TEXT])
{
	unsigned char digest[TRACE_HASH], turned[8];

	MD5Final(digest, &h->md5);
	if (h->whose != TRACE_POPA3D) {
		trace_write(digest, sizeof(digest), hash);
		return;
	}
	/* popa3d writes two words, whose first byte is the lowest. */
	for (size_t i = 0; i < sizeof(turned); i++)
		turned[i] = digest[i ^ 3];
	trace_write(turned, sizeof(turned), hash);
}
