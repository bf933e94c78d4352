/* Keeps the list of an mbox between sessions: see mbox-cache.c. */
#ifndef MBOX_CACHE_H
#define MBOX_CACHE_H

#include <stdbool.h>

#include "fingerprint.h"
#include "mbox-list.h"
#include "mbox-scan.h"

/*
 * A mailbox of at most this many bytes is read as a whole whenever it has
 * changed, because that takes less time than the rest of a login. Only tests
 * change this size.
 */
extern off_t cache_small;

/*
 * Loads the list that an earlier session saved. Returns true if there is one.
 */
bool cache_load(struct list *l, const struct list_source *s);

/*
 * Returns true if the mailbox has certainly not changed since its list was
 * made. `now` is the mailbox's fingerprint. A message for which
 * list_is_verified returns false may have changed before the list was made.
 */
bool cache_is_current(const struct list *l, const struct fingerprint *now);

/*
 * Returns true if the mailbox is now in another directory than when the list
 * was saved.
 */
bool cache_is_elsewhere(const struct list *l);

/*
 * Brings the list of a locked mailbox up to date. `now` is the mailbox's
 * fingerprint. If the mailbox is large and has grown, reads only the appended
 * part. In all other cases reads the whole mailbox. Saves the list.
 */
enum scan_result cache_update(struct list *l, const struct fingerprint *now);

/*
 * Reads all of a locked mailbox, makes its list, and saves the list. `now` is
 * the mailbox's fingerprint. `before` is the list that the new list replaces,
 * or NULL. If a message of the replaced list owns an id, no message with
 * another body gets this id.
 */
enum scan_result cache_make(struct list *l, const struct list_source *s,
    const struct fingerprint *now, struct list *before);

/*
 * Saves the list without the marked messages, which this session has just
 * removed from the locked mailbox. Afterwards *l still counts the removed
 * messages, but may have lost their records.
 */
void cache_remove(struct list *l, const unsigned char *marks);

/*
 * Makes the next session read all of the mailbox. Only the ids of the list are
 * still trusted. The list of this session is not saved any more.
 */
void cache_distrust(struct list *l);

#endif
