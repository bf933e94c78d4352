/*
 * Reads the header of one message and hashes it, for the unique ids of an mbox;
 * pure computation.
 *
 * Runs as the owner of the mailbox, on bytes from any sender; and in kpopc, on
 * bytes from another server.
 *
 * The hash leaves out the fields that mail readers rewrite, with their folded
 * lines (mbox-fields.c).
 */
#include "config.h"

#include "mbox-header.h"

void
header_begin(struct header *h, bool at_front)
{
	fields_begin(&h->fields, at_front);
	hash_header_begin(&h->hash);
}

/*
 * A program that appends another message ends an unfinished line first. The
 * hash must stay the same, so the LF is hashed already now.
 */
void
header_end_line(struct header *h)
{
	if (!h->fields.is_rewritten)
		hash_header_add(&h->hash, "\n", 1);
}

void
header_end(const struct header *h, unsigned char id[UIDL_HASH])
{
	hash_header_end(&h->hash, id);
}

bool
header_is_weak(const struct header *h)
{
	return !h->fields.has_id && !h->fields.has_received;
}
