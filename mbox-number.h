/* The unique ids of the messages in an mbox: see mbox-number.c. */
#ifndef MBOX_NUMBER_H
#define MBOX_NUMBER_H

#include <stdbool.h>

#include "mbox-list.h"

/*
 * Numbers the messages that are not numbered yet: decides their unique ids. The
 * mailbox is locked. Bodies are read from it as long as it has the fingerprint
 * *listed. If an id needs the hash of a body that cannot be read, or that of an
 * unverified message which has moved, a random number takes the place of the
 * hash. The list is then no longer saved (source.state becomes -1), and the
 * file of the index no longer changes.
 */
void number_new(struct list *l, const struct fingerprint *listed);

/*
 * Numbers all messages of the new list l, as number_new does. `before` is the
 * list that l replaces. If a message of the replaced list owns an id, no
 * message with another body gets this id.
 */
void number_all(struct list *l, const struct fingerprint *listed,
    struct list *before);

/*
 * Returns true if the message has the id of its header alone, and this id must
 * not be given to a message with another body.
 */
bool number_owns_id(const struct list_record *r);

/*
 * Records a removed message in the list's note, if the message owns the id of
 * its header alone, and the note has no entry with this id. The new entry
 * replaces the oldest of LIST_RETIRED entries.
 */
void number_retire(struct list *l, const struct list_record *r);

/* Writes the unique id of a numbered message. */
void number_uidl(const struct list_message *m, char id[UIDL_SIZE]);

#endif
