/* Keeps the list of an mbox between sessions: see mbox-cache.c. */
#ifndef MBOX_CACHE_H
#define MBOX_CACHE_H

#include <stdbool.h>

#include "fingerprint.h"
#include "mbox-list.h"
#include "mbox-scan.h"

/*
 * A mailbox of at most this many bytes is read as a whole whenever it has
 * changed, because that costs less than a login. Only tests change it.
 */
extern off_t cache_small;

/* Loads the list that an earlier session kept. Returns true if there is one. */
bool cache_load(struct list *l, const struct list_source *s);

/*
 * Returns true if the list is certainly that of the mailbox, whose fingerprint
 * is now; only messages for which list_is_verified is false may differ.
 */
bool cache_is_current(const struct list *l, const struct fingerprint *now);

/*
 * Returns true if the mailbox is now in another directory than when the list
 * was kept.
 */
bool cache_is_elsewhere(const struct list *l);

/*
 * Makes the list right for its locked mailbox, whose fingerprint is now. If the
 * mailbox is large and has grown, reads what was appended, otherwise reads all
 * of it. Keeps the list.
 */
enum scan_result cache_update(struct list *l, const struct fingerprint *now);

/*
 * Reads all of a locked mailbox, whose fingerprint is now, makes its list, and
 * keeps it. before: the list that the new one replaces, or NULL. Ids that its
 * messages had are not given to others.
 */
enum scan_result cache_make(struct list *l, const struct list_source *s,
    const struct fingerprint *now, struct list *before);

/*
 * Numbers the messages that are not numbered yet, as number_new does, and keeps
 * the list.
 */
void cache_number(struct list *l, bool can_read);

/*
 * Keeps the list without the marked messages, which this session has just
 * removed from the locked mailbox. *l stays the list of the session.
 */
void cache_remove(struct list *l, const unsigned char *marks);

/*
 * Makes the next session read all of the mailbox. Only the ids of the list are
 * still trusted. The list of this session is not kept any more.
 */
void cache_distrust(struct list *l);

#endif
