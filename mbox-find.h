/* Finds a listed message in the mailbox as it is now: see mbox-find.c. */
#ifndef MBOX_FIND_H
#define MBOX_FIND_H

#include <stdbool.h>

#include "mbox.h"

/*
 * Returns message i of the session's list. If the list is damaged, first makes
 * it again from the mailbox. The new list must have the same messages, because
 * the client has their numbers. Ends the process if the messages differ, or if
 * the mailbox has changed in any way since it was listed. Also ends the process
 * if the mailbox cannot be locked or read, or if the list is found damaged
 * during a removal.
 */
struct list_message find_listed(struct mbox *m, size_t i);

/*
 * Returns true if message i need not be compared with the mailbox, because the
 * file has not changed since the message was read.
 */
bool find_is_certain(const struct mbox *m, size_t i);

/*
 * Returns true if the message *one is at its listed offset in a mailbox of this
 * size. Reads the message's header and boundaries. Reads the body only if other
 * messages could have the same header, because a removal would otherwise have
 * to read the bodies of all marked messages.
 */
bool find_is_in_place(struct mbox *m, const struct list_message *one,
    off_t size);

/*
 * Does what find_is_in_place does in the locked mailbox. Without the lock an
 * MDA may have written only a part of the line that follows the message.
 * Returns DROP_OK and stores the size of the mailbox in *size; DROP_CHANGED if
 * the message is not in place; or an error of spool_lock.
 */
enum drop_error find_in_place_locked(struct mbox *m,
    const struct list_message *one, off_t *size);

/*
 * Returns true if the list has another message with the header and body of the
 * message *one. It does not matter which of the two is sent. But a removal must
 * leave as many equal messages as are not marked.
 */
bool find_has_equal(struct mbox *m, const struct list_message *one);

/*
 * Finds message i, in order to send it, in a mailbox that had the size *size
 * just now. The message may be at its listed offset or at another one. Stores
 * the message in *where, and in *size the size of the mailbox at the time when
 * the message was found. Sets *certain to true if find_is_certain has made a
 * comparison unnecessary.
 * Returns DROP_OK, or DROP_CHANGED if the mailbox does not have the message any
 * more. Returns DROP_BUSY or DROP_FAILED, with errno, after an error.
 */
enum drop_error find_message(struct mbox *m, size_t i, off_t *size,
    struct list_message *where, bool *certain);

/*
 * Prepares a removal, during which find_moved finds each message of the mailbox
 * at most once. The caller has locked the mailbox. All messages are found in
 * the fresh list that is made here, even if a program that ignores the locks
 * changes the mailbox. Returns as find_message does.
 */
enum drop_error find_begin_removal(struct mbox *m);

/*
 * Finds the message *one, which may be at another offset than its listed one,
 * in the mailbox as it is now. Stores the found message in *where. During a
 * removal, marks the found message as taken, so that it is not found again.
 * Returns as find_message does.
 */
enum drop_error find_moved(struct mbox *m, const struct list_message *one,
    struct list_message *where);

/* Ends what find_begin_removal has begun. */
void find_end_removal(struct mbox *m);

#endif
