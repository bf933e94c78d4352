/* Removes the marked messages from an mbox: see mbox-remove.c. */
#ifndef MBOX_REMOVE_H
#define MBOX_REMOVE_H

#include "mbox.h"

/*
 * Removes the messages whose bits are set in marks. If some are removed, or
 * their removal is decided, stores their number in *removed. Otherwise *removed
 * may stay unchanged. Returns DROP_OK if all are removed. Returns DROP_CHANGED
 * if some of them could not be proven (mbox-find.c), or if another program has
 * replaced the mailbox. Returns DROP_BUSY or DROP_FAILED if none is removed.
 * Returns DROP_LATER if the removal is decided, but not certainly finished,
 * even if some messages could not be proven. Then the mailbox stays locked for
 * the recovery, if there is a broker that keeps the locks. Errors are logged.
 */
enum drop_error remove_marked(struct mbox *m, const unsigned char *marks,
    size_t *removed);

#endif
