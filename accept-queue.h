/* Accepted connections that wait for the rate of all: see accept-queue.c. */
#ifndef ACCEPT_QUEUE_H
#define ACCEPT_QUEUE_H

#include <stdbool.h>

#include "accept-limits.h"

struct waiting {
	int fd;
	bool has_ended; /* the client's side, after some bytes: it may still read */
	struct crowd_place place;
	char address[ADDRESS_TEXT];
};

/* In the order of their arrival. */
struct accept_queue {
	int most, count;
	struct waiting at[CROWD_WAITING];
};

/*
 * Appends a connection. If there is no room, sets *lost to the one that must
 * go, which may be the new one, and returns true.
 */
bool queue_add(struct accept_queue *q, const struct waiting *w, struct waiting *lost);

/* Returns the index of the connection to serve next. The queue is not empty. */
int queue_next(const struct accept_queue *q);

/* Removes a connection; the later ones move up. */
struct waiting queue_remove(struct accept_queue *q, int index);

#endif
