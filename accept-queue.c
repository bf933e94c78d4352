/*
 * Orders the accepted connections that wait for the rate of all.
 *
 * Runs in the listener, as root. Pure computation. Each connection has the
 * moment at which its address would have made up for the earlier ones by its
 * own rate. The earliest of these is served first: of connections that come
 * together the first one of an address goes before the second of any other, and
 * no connection waits for all that come later. Among equals the oldest is first.
 * If there is no room, the last in this order must go.
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
		if (q->at[i].place.rank >= q->at[last].place.rank)
			last = i;
	if (w->place.rank >= q->at[last].place.rank) {
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
		if (q->at[i].place.rank < q->at[first].place.rank)
			first = i;
	return first;
}

struct waiting
queue_remove(struct accept_queue *q, int index)
{
	struct waiting w = q->at[index];

	q->count--;
	memmove(&q->at[index], &q->at[index + 1], (size_t)(q->count - index) * sizeof(w));
	return w;
}
