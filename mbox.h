/* An open mbox, which mbox.c and its parts share: see mbox.c. */
#ifndef MBOX_H
#define MBOX_H

#include <stdbool.h>

#include "fingerprint.h"
#include "mbox-list.h"
#include "mbox-table.h"
#include "store.h"

/*
 * The fresh list: a list of the mailbox as it is now. mbox-find.c makes it when
 * a message is not at its listed offset.
 */
struct fresh {
	bool exists;
	struct fingerprint mailbox; /* at the time of listing */
	struct list list;
	struct table *by_header, *by_body;
	/* Bit i: message i of this list is taken: the removal must not find it
	 * again. NULL: there is no removal. */
	unsigned char *taken;
};

struct mbox {
	struct store_place place;
	int fd;           /* -1: there is no spool, hence no mail */
	struct list list; /* of the session; POP3's message 1 has index 0 */
	struct fingerprint listed; /* mailbox when `list` was made */
	bool is_removing;          /* the mailbox is locked for a removal */
	struct table *by_body;     /* table of `list`, or NULL */
	struct fresh fresh;
	struct list_message fetched; /* the message that was fetched last */
	struct fingerprint at_fetch; /* mailbox at that time */
};

#endif
