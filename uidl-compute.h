/* Finds the ids that another server gave the messages: see uidl-compute.c. */
#ifndef UIDL_COMPUTE_H
#define UIDL_COMPUTE_H

#include "maildrop.h"

struct store_ops;
struct uidl_scheme;

/*
 * Session, as the user: adds to the map the id that a server of this scheme
 * gave each message of the open mailbox. box and count are those of the store.
 * Returns DROP_OK. Returns DROP_CHANGED if another program changed the mailbox
 * meanwhile, and DROP_DENIED or DROP_FAILED after another error (all logged).
 */
enum drop_error compute_ids(const struct store_ops *store, void *box,
    size_t count, const struct uidl_scheme *scheme, struct uidl_map *map);

#endif
