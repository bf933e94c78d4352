/* Finds a listed message in the mailbox as it is now: see mbox-find.c. */
#ifndef MBOX_FIND_H
#define MBOX_FIND_H

#include <stdbool.h>

#include "mbox.h"

/*
 * Returns message i of the session's list. If the list is damaged, it is first
 * made again from the mailbox; it must then have the same messages, because the
 * client has numbers for them. Ends the process if the list cannot be made
 * again, or if it is found damaged during a removal.
 */
struct list_message find_listed(struct mbox *m, size_t i);

/*
 * Returns true if message i need not be compared with the mailbox: it was
 * listed, and the file has not changed since.
 */
bool find_is_certain(const struct mbox *m, size_t i);

/*
 * Returns true if the message *one is where the list has it, in a mailbox of
 * this size. Reads its header and its ends; reads its body only if other
 * messages could have the same header, because the cost of a removal should
 * depend only on the bytes that it moves.
 */
bool find_is_in_place(struct mbox *m, const struct list_message *one,
    off_t size);

/*
 * Returns true if the list has another message with the header and body of the
 * message *one. It makes no difference which of them is sent, but as many as
 * are not marked must stay.
 */
bool find_has_equal(struct mbox *m, const struct list_message *one);

/*
 * Finds message i in a mailbox of this size, to send it: where the list has it,
 * or where it has moved. Stores in *certain whether the message needed no
 * comparison (find_is_certain). Returns DROP_OK; CHANGED if the message is not
 * there any more; BUSY or FAILED with errno.
 */
enum drop_error find_message(struct mbox *m, size_t i, off_t size,
    struct list_message *where, bool *certain);

/*
 * Prepares a removal, in which each message of the mailbox is found at most
 * once. The mailbox is locked. Returns DROP_OK, or as find_message.
 */
enum drop_error find_begin_removal(struct mbox *m);

/*
 * Finds the message *one, which is not where the list has it, in the mailbox as
 * it is now. In a removal takes the found message. Returns as find_message.
 */
enum drop_error find_moved(struct mbox *m, const struct list_message *one,
    struct list_message *where);

/* Ends what find_begin_removal has begun. */
void find_end_removal(struct mbox *m);

#endif
