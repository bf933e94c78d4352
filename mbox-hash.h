/* Hashes of headers and bodies, equal for LF and CRLF: see mbox-hash.c. */
#ifndef MBOX_HASH_H
#define MBOX_HASH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "uidl.h"

/* The hash of a header, from which a message's unique id is made. */
struct hash_header {
	XXH3_state_t state;
	bool held_cr; /* a CR ended the last part; an LF may follow */
};

void hash_header_begin(struct hash_header *h);

/*
 * Adds a line, or a part of a line, with its LF if it has one. n must not be 0.
 * The function is inline, because it is called for each line of each header.
 */
static inline void
hash_header_add(struct hash_header *h, const char *p, size_t n)
{
	bool ends = p[n - 1] == '\n';

	if (h->held_cr && !(ends && n == 1))
		XXH3_128bits_update(&h->state, "\r", 1);
	h->held_cr = n > ends && p[n - ends - 1] == '\r';
	if (!h->held_cr) {
		XXH3_128bits_update(&h->state, p, n);
		return;
	}
	XXH3_128bits_update(&h->state, p, n - ends - 1);
	if (ends) {
		XXH3_128bits_update(&h->state, "\n", 1);
		h->held_cr = false;
	}
}

void hash_header_end(const struct hash_header *h, unsigned char id[UIDL_HASH]);

/* The hash of a body. */
struct hash_body {
	XXH3_state_t state;
	bool held_cr;     /* the last byte was a CR that is not hashed yet */
	uint64_t held_lf; /* line ends before that CR, not hashed yet */
};

void hash_body_begin(struct hash_body *h);

/* Adds any number of bytes of the body. */
void hash_body_add(struct hash_body *h, const char *p, size_t n);

/* Ends the body. Returns its hash, which is never 0. */
uint64_t hash_body_end(struct hash_body *h);

#endif
