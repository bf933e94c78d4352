/*
 * What a mailbox format implements: mbox.c does, maildrop.c alone uses it.
 *
 * Messages are numbered from 0 here; maildrop.c converts. Nothing is ever
 * closed or freed: the process serves one session and ends.
 */
#ifndef STORE_H
#define STORE_H

#include "maildrop.h"

struct store_ops {
	/* Opens the mailbox at path with this user's state directory; *box is passed to the others. */
	enum drop_error (*open)(const char *path, int state, void **box);
	size_t (*count)(const void *box);
	/* As maildrop_octets, maildrop_uidl, maildrop_fetch. */
	uint64_t (*octets)(const void *box, size_t i);
	void (*uidl)(void *box, size_t i, char id[MAILDROP_UIDL]);
	enum drop_error (*fetch)(void *box, size_t i, struct span *s);
	/* As maildrop_commit; bit i of marks (from the lowest of marks[0]) is message i. */
	enum drop_error (*remove)(void *box, const unsigned char *marks, size_t *removed);
};

static inline bool
store_marked(const unsigned char *marks, size_t i)
{
	return (marks[i / 8] >> (i % 8) & 1) != 0;
}

extern const struct store_ops mbox_store;

#endif
