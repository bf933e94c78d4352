/* Recognizes a message on another server by its hashes: see uidl-hash.c. */
#ifndef UIDL_HASH_H
#define UIDL_HASH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mbox-hash.h"
#include "mbox-header.h"

/* A message whose bytes are passed in any number of parts. */
struct uidl_hash {
	/* After uidl_hash_end: */
	unsigned char header[UIDL_HASH]; /* the header's hash */
	uint64_t body;                   /* the body's hash, never 0 */
	bool is_weak; /* has neither Message-ID nor Received */
	/* The rest belongs to uidl-hash.c. */
	struct header header_state;
	struct hash_body body_state;
	enum { UIDL_HASH_BEGIN, UIDL_HASH_LINE, UIDL_HASH_BODY } in;
	char first[FIELDS_LOOK]; /* the first bytes of a line of the header */
	size_t held;             /* bytes used of first */
};

/* Begins a message. */
void uidl_hash_begin(struct uidl_hash *h);

/*
 * Adds n bytes of the message. Line ends may be LF or CRLF; bytes that POP3
 * adds (the dot at the begin of a line) must not be among them.
 */
void uidl_hash_add(struct uidl_hash *h, const char *p, size_t n);

/*
 * Returns true if the header is complete. If only the header's hash is needed,
 * no more bytes need be added.
 */
bool uidl_hash_has_header(const struct uidl_hash *h);

/* Ends the message, and sets the hashes. */
void uidl_hash_end(struct uidl_hash *h);

#endif
