/* The unique ids of the messages in an mbox: see mbox-number.c. */
#ifndef MBOX_NUMBER_H
#define MBOX_NUMBER_H

#include <stdbool.h>

#include "mbox-list.h"

/*
 * Numbers the messages that are not numbered yet: makes all ids of the list
 * differ. can_read: the mailbox is what was listed, so that bodies can be read
 * from it. If a body that an id needs cannot be read, its hash is a random
 * number, and the list is not kept (source.state becomes -1).
 */
void number_new(struct list *l, bool can_read);

/*
 * Numbers all messages of a list that replaces the list before; none of them is
 * numbered yet. Ids that messages of that list had are not given to others.
 */
void number_all(struct list *l, struct list *before);

/*
 * Returns true if the message has the id of its header alone, and this id must
 * not be given to a message with another body.
 */
bool number_owns_id(const struct list_record *r);

/*
 * Remembers a message that goes, if it owns the id of its header alone. The
 * oldest of LIST_RETIRED entries is discarded.
 */
void number_retire(struct list *l, const struct list_record *r);

/* Writes the unique id of a numbered message. */
void number_uidl(const struct list_message *m, char id[UIDL_SIZE]);

#endif
