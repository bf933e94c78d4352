/* The accepted connections that wait for a session: see accept-queue.c. */
#ifndef ACCEPT_QUEUE_H
#define ACCEPT_QUEUE_H

#include <stdbool.h>

#include "accept-limits.h"
#include "address.h"

struct waiting {
	int fd;
	bool has_ended; /* the client sent bytes, then shut down its side */
	struct limits_slot slot;
	struct address_text address;
};

/* Waiting connections in the order of their arrival. */
struct accept_queue {
	int most, count;
	struct waiting at[LIMITS_WAITING];
};

/*
 * Appends a connection. Returns false if the queue was not full. If the queue
 * was full, returns true, and *lost is the connection that would be served
 * last, which may be the new one. The queue does not contain *lost.
 */
bool queue_add(struct accept_queue *q, const struct waiting *w,
    struct waiting *lost);

/*
 * Returns the index of the connection to serve next. The queue must not be
 * empty.
 */
int queue_next(const struct accept_queue *q);

/*
 * Removes and returns a connection. The index of each later connection
 * decreases by one.
 */
struct waiting queue_remove(struct accept_queue *q, int index);

#endif
