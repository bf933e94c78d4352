/* Finishes a removal from its journal: see mbox-redo.c. */
#ifndef MBOX_REDO_H
#define MBOX_REDO_H

#include <sys/types.h>

#include <stdbool.h>

#include "mbox-journal.h"

/*
 * Does the remaining steps of the box's own journal, until it is gone. Returns
 * 0, or 1 if a journal was kept as rescue.* (logged). Returns -1 (logged) after
 * an error, or if another process has renamed or unlinked the journal.
 */
int redo_finish(const struct journal_box *b);

/*
 * Recovers the mailbox after a crash: finishes the removal, or discards it if
 * it was not decided. Returns 0 if the mailbox is whole, or 1 if a journal was
 * damaged or did not fit and was kept as rescue.* (logged). The mailbox may be
 * used in both cases. Returns -1 (logged) if there is a journal but no mailbox,
 * if the mailbox's file system may not be mounted, or if an error occurred. In
 * these cases the mailbox may not be used yet. Returns 0 if neither a journal
 * nor a mailbox exists.
 */
int redo_recover(const struct journal_box *b);

/*
 * Returns 0 if the mailbox may be absent, or -1 (logged) if a removal in it has
 * been decided.
 */
int redo_accept_absence(int state);

/*
 * Returns true if the state directory has a journal or cannot be listed
 * (logged). Then the mailbox must be locked for writing and recovered.
 */
bool redo_is_pending(int state);

/*
 * Moves journals of an earlier version to this mailbox's state directory. That
 * version kept the journals of all mailboxes of a uid in one directory, which
 * is open as `from`. Moves a journal if it was made for this inode or is
 * damaged, unless the mailbox's state directory has a journal in the same
 * state. Returns 0, or -1 (logged).
 */
int redo_adopt(int from, int state, ino_t inode);

/* Returns true if a journal in the directory `from` was made for this inode. */
bool redo_is_of(int from, ino_t inode);

/*
 * Moves journals of this mailbox to its state directory. `from` is the state
 * directory of another path that led to the mailbox. Moves a journal if it has
 * the mailbox's inode and fits the mailbox, unless the mailbox's state
 * directory has a journal in the same state. Returns 0, or -1 (logged).
 */
int redo_follow(int from, const struct journal_box *b);

#endif
