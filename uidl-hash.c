/*
 * Hashes a message so that it can be recognized on another server; pure
 * computation.
 *
 * Runs as the owner of the mailbox, in kpopd --import-uidl and --uidl-report,
 * and as the caller of kpopc. The bytes come from any sender.
 *
 * The header's hash is the one that the unique ids of an mbox contain
 * (mbox-scan.c), whatever the format of the mailbox. It leaves out the fields
 * that servers and mail readers change. So it is equal on two servers, one of
 * which has added such fields or stores CRLF.
 */
#include "config.h"

#include <string.h>

#include "uidl-hash.h"

void
uidl_hash_begin(struct uidl_hash *h)
{
	memset(h, 0, sizeof(*h));
	header_begin(&h->header_state, false);
	hash_body_begin(&h->body_state);
}

/* Takes the first bytes of a line of the header, or the whole line. */
static void
take_first(struct uidl_hash *h)
{
	const char *p = h->first;
	size_t n = h->held;

	if (header_is_empty_line(p, n)) {
		h->in = UIDL_HASH_BODY;
		return;
	}
	header_take(&h->header_state, p, n, true);
	h->in = p[n - 1] == '\n' ? UIDL_HASH_BEGIN : UIDL_HASH_LINE;
	h->held = 0;
}

/*
 * Takes bytes of the header up to the end of a line, or fewer. Returns their
 * number. fields_read needs the first FIELDS_LOOK bytes of a line in one piece.
 */
static size_t
take_header(struct uidl_hash *h, const char *p, size_t n)
{
	const char *lf = memchr(p, '\n', n);

	if (lf != NULL)
		n = (size_t)(lf + 1 - p);
	if (h->in == UIDL_HASH_LINE) {
		header_take(&h->header_state, p, n, false);
		if (lf != NULL)
			h->in = UIDL_HASH_BEGIN;
		return n;
	}
	if (n > sizeof(h->first) - h->held)
		n = sizeof(h->first) - h->held;
	memcpy(h->first + h->held, p, n);
	h->held += n;
	if (h->held == sizeof(h->first) || h->first[h->held - 1] == '\n')
		take_first(h);
	return n;
}

void
uidl_hash_add(struct uidl_hash *h, const char *p, size_t n)
{
	const char *end = p + n;

	while (p < end && h->in != UIDL_HASH_BODY)
		p += take_header(h, p, (size_t)(end - p));
	if (p < end)
		hash_body_add(&h->body_state, p, (size_t)(end - p));
}

bool
uidl_hash_has_header(const struct uidl_hash *h)
{
	return h->in == UIDL_HASH_BODY;
}

/*
 * If the message ends within a header, hashes the header as if its last line
 * had ended, as mbox-scan.c does. A CR alone may be the first half of an empty
 * line.
 */
static void
end_last_line(struct uidl_hash *h)
{
	bool is_cr = h->held == 1 && h->first[0] == '\r';

	if (h->in == UIDL_HASH_BEGIN && h->held > 0)
		take_first(h);
	if (h->in == UIDL_HASH_LINE && !is_cr)
		header_end_line(&h->header_state);
}

void
uidl_hash_end(struct uidl_hash *h)
{
	end_last_line(h);
	h->is_weak = header_is_weak(&h->header_state);
	header_end(&h->header_state, h->header);
	h->body = hash_body_end(&h->body_state);
}
