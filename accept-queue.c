/*
 * Decides which of the waiting connections is served next.
 *
 * Runs as root, in the listener. Pure computation.
 *
 * A connection's rank is the time at which the token bucket of its address
 * would be full if the connection had not come (accept-limits.h). The
 * connection with the lowest rank is served first. Of connections with equal
 * ranks, the oldest is served first. Several connections may come together from
 * addresses with full buckets. Then the first connection of each address is
 * served before the second connection of any address. No connection waits for
 * ever, because later connections get higher and higher ranks. If the queue is
 * full, the connection that would be served last is rejected.
 */
#include "config.h"

#include <string.h>

#include "accept-queue.h"

bool
queue_add(struct accept_queue *q, const struct waiting *w, struct waiting *lost)
{
	int last = 0;

	if (q->count < q->most) {
		q->at[q->count++] = *w;
		return false;
	}
	for (int i = 1; i < q->count; i++)
		if (q->at[i].slot.rank >= q->at[last].slot.rank)
			last = i;
	if (w->slot.rank >= q->at[last].slot.rank) {
		*lost = *w;
		return true;
	}
	*lost = queue_remove(q, last);
	q->at[q->count++] = *w;
	return true;
}

int
queue_next(const struct accept_queue *q)
{
	int first = 0;

	for (int i = 1; i < q->count; i++)
		if (q->at[i].slot.rank < q->at[first].slot.rank)
			first = i;
	return first;
}

struct waiting
queue_remove(struct accept_queue *q, int index)
{
	struct waiting w = q->at[index];

	q->count--;
	memmove(&q->at[index], &q->at[index + 1],
	    (size_t)(q->count - index) * sizeof(w));
	return w;
}
