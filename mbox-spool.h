/* Opens and locks the spool file of an mbox: see mbox-spool.c. */
#ifndef MBOX_SPOOL_H
#define MBOX_SPOOL_H

#include <stdbool.h>

#include "mbox.h"

/*
 * Opens the spool and stores the descriptor in m->fd. The spool must be a
 * regular file of the user with one link. If there is no spool, m->fd becomes
 * -1. Returns DROP_OK in both cases. Returns DROP_DENIED or DROP_FAILED
 * (logged) after an error.
 */
enum drop_error spool_open(struct mbox *m);

/*
 * Opens the spool and takes its locks, for writing if to_write is true. Returns
 * as spool_open does, or DROP_BUSY (logged).
 */
enum drop_error spool_open_locked(struct mbox *m, bool to_write);

/*
 * Takes the locks of the open spool, and asks the server of a shared file
 * system what other hosts have changed. Returns DROP_OK. Without the locks
 * returns DROP_BUSY or DROP_FAILED (logged), or DROP_CHANGED (not logged) if
 * another host has replaced the spool.
 */
enum drop_error spool_lock(const struct mbox *m, bool to_write);

/* Releases the locks, if there is a spool. */
void spool_unlock(const struct mbox *m);

/*
 * Leaves the locks to the broker and the recovery that it starts, because no
 * other program may read the spool before the recovery has finished. Releases
 * the locks if there is no broker that keeps them.
 */
void spool_leave_locked(const struct mbox *m);

/*
 * Returns 1 if the spool's name still leads to the file that is open, and 0 if
 * not. Returns -1 with errno if that cannot be found out.
 */
int spool_is_same_file(const struct mbox *m);

/*
 * Returns true if the file has certainly not changed since the session's list
 * was made.
 */
bool spool_is_unchanged(const struct mbox *m);

/* Returns the spool as the source of a list. */
struct list_source spool_source(const struct mbox *m);

#endif
