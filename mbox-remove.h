/* Removes the marked messages from an mbox: see mbox-remove.c. */
#ifndef MBOX_REMOVE_H
#define MBOX_REMOVE_H

#include "mbox.h"

/*
 * Removes the messages whose bits are set in marks. Stores the number of
 * removed messages in *removed. Returns DROP_OK if all are removed, or
 * DROP_CHANGED if some of them could not be proven (mbox-find.c). Returns
 * DROP_BUSY or DROP_FAILED if none is removed. Returns DROP_LATER if the
 * removal is decided and the mailbox stays locked for the recovery. Errors are
 * logged.
 */
enum drop_error remove_marked(struct mbox *m, const unsigned char *marks,
    size_t *removed);

#endif
