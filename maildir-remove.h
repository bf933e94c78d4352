/* The removal of messages from a Maildir: see maildir-remove.c. */
#ifndef MAILDIR_REMOVE_H
#define MAILDIR_REMOVE_H

#include "store.h"

/* Removes the marked messages: the member `remove` of maildir_store. */
enum drop_error maildir_remove(void *box, const unsigned char *marks,
    size_t *removed);

#endif
