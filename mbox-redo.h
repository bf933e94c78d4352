/* Finishes a removal that its journal decides: see mbox-redo.c. */
#ifndef MBOX_REDO_H
#define MBOX_REDO_H

#include <sys/types.h>

#include <stdbool.h>

#include "mbox-journal.h"

/*
 * Does the remaining steps of the removal, until there is no journal.
 * Returns 0; 1 if a journal was set aside; or -1 (logged).
 */
int redo_finish(const struct journal_box *b);

/*
 * Recovers the mailbox after a crash: finishes the removal, or discards it if
 * it was not decided. Returns 0 if the mailbox is whole, or 1 if a journal did
 * not fit and was kept as rescue.* (logged); the mailbox may be used then, too.
 * Returns -1 (logged) if the mailbox may not be used yet: it is absent, it may
 * not be mounted, or an error occurred.
 */
int redo_recover(const struct journal_box *b);

/*
 * Returns true if a removal is not finished, so that the mailbox must be locked
 * for writing and recovered.
 */
bool redo_is_pending(int state);

/*
 * Moves journals that an earlier version left in the directory from, where all
 * mailboxes of a uid had theirs, to this mailbox's state directory, if they
 * were made for its inode or are damaged. Returns 0, or -1 (logged).
 */
int redo_adopt(int from, int state, ino_t inode);

/* Returns true if a journal in the directory from was made for this inode. */
bool redo_is_of(int from, ino_t inode);

/*
 * Moves journals that were made for the file of this mailbox under another path
 * from that path's state directory, if they fit the file. Returns 0, or -1
 * (logged).
 */
int redo_follow(int from, const struct journal_box *b);

#endif
