/* Finds messages of a list by their hashes: see mbox-table.c. */
#ifndef MBOX_TABLE_H
#define MBOX_TABLE_H

#include <stddef.h>
#include <stdint.h>

#include "mbox-list.h"

/*
 * A table of the messages of a list by the hash of their headers, or of headers
 * and bodies. Messages with equal hashes form a chain, in the order of the
 * list. The functions that return a message return its index in the list, or
 * SIZE_MAX.
 */
struct table;

/*
 * Makes a table by header. The table contains the message with the index
 * `first` and all later messages. Never returns NULL.
 */
struct table *table_by_header(const struct list *l, size_t first);

/*
 * Makes a table by header and body of all messages. After mbox-number.c has
 * numbered messages with equal headers, the list has the hashes of their
 * bodies. The hashes of other bodies may be 0. Never returns NULL.
 */
struct table *table_by_body(const struct list *l);

/* Returns the first message with this header. t must be a table by header. */
size_t table_first(const struct table *t, const unsigned char id[UIDL_HASH]);

/*
 * Returns the first message with this header and body. t must be a table by
 * body.
 */
size_t table_first_with_body(const struct table *t,
    const unsigned char id[UIDL_HASH], uint64_t body);

/* Returns the message after message i in its chain. */
size_t table_next(const struct table *t, size_t i);

/*
 * Removes message i from its chain, if i is the first message of the chain and
 * not the only one.
 */
void table_drop_first(struct table *t, size_t i);

/* Frees t, which may be NULL. */
void table_free(struct table *t);

#endif
