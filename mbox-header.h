/* Reads the header of one message and hashes it: see mbox-header.c. */
#ifndef MBOX_HEADER_H
#define MBOX_HEADER_H

#include <stdbool.h>
#include <stddef.h>

#include "mbox-fields.h"
#include "mbox-hash.h"

struct header {
	struct fields fields;
	struct hash_header hash;
};

/* Begins a message. at_front: it begins at offset 0 of an mbox. */
void header_begin(struct header *h, bool at_front);

/*
 * Takes a line of the header, with its LF if it has one, or a part of a line.
 * begins: p points to the beginning of the line; then the part has at least
 * FIELDS_LOOK bytes, unless the line is shorter. n must not be 0. Do not pass
 * the empty line that ends the header. The function is inline, because it is
 * called for each line of each header.
 */
static inline void
header_take(struct header *h, const char *p, size_t n, bool begins)
{
	if (begins && *p != ' ' && *p != '\t')
		fields_read(&h->fields, p, n);
	else
		fields_continue(&h->fields);
	if (!h->fields.is_rewritten)
		hash_header_add(&h->hash, p, n);
}

/* Returns true if these n bytes are the empty line that ends a header. */
static inline bool
header_is_empty_line(const char *p, size_t n)
{
	return p[n - 1] == '\n' && (n == 1 || (n == 2 && *p == '\r'));
}

/*
 * Ends a line that has bytes but no LF, because the message ends there. Call it
 * before header_end.
 */
void header_end_line(struct header *h);

/* Stores the hash of the header. */
void header_end(const struct header *h, unsigned char id[UIDL_HASH]);

/*
 * Returns true if the header does not identify the message: it has neither
 * Message-ID nor Received.
 */
bool header_is_weak(const struct header *h);

#endif
