/* The addresses that connections come from lately: see accept-sources.c. */
#ifndef ACCEPT_SOURCES_H
#define ACCEPT_SOURCES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "address.h"

#define SOURCES_WHOLE 1000 /* thousandths in one connection, and ms in a second */
#define SOURCES_WAIT_MS 1000 /* a connection waits for its address at most so long */

/* What is counted per address: its sessions and waiting connections, and a token bucket. */
struct source {
	struct address_net net;
	int in_use;            /* sessions and waiting connections */
	int64_t credit, since; /* thousandths of a connection that may come; ms when that was so */
	int chained;           /* the next one with the same hash; 0: none */
	int older, newer;      /* in the list of those not in use; 0: none */
};

/* The table. It has a fixed size, in the caller's memory. at[0] is unused, so that 0 means none. */
struct sources {
	uint64_t key[3];
	int rate, burst;    /* of each token bucket: connections per second, and at once */
	int room, used;
	int oldest, newest; /* of those not in use */
	uint32_t chains;    /* a power of two; the chains' heads follow at[] */
	struct source at[];
};

/* Returns how many bytes a table of so many addresses needs. */
size_t sources_size(int room);

/* Makes an empty table of zeroed memory. The key must be random and secret. */
void sources_init(struct sources *s, int room, int rate, int burst, const uint64_t key[3]);

/*
 * Finds the address, or gives it the place of the address not in use that was
 * seen least recently. Fewer than room addresses may be in use. Returns its
 * index; never 0.
 */
int sources_get(struct sources *s, const struct address_net *net, int64_t now);

/*
 * Takes one connection from the address's token bucket, which may owe as many
 * as SOURCES_WAIT_MS bring. Returns how many thousandths were missing from the
 * full bucket before that, or -1 if it owes too many.
 */
int64_t sources_take(struct sources *s, int index, int64_t now);

/* Counts one more, or one fewer, session or waiting connection of the address. */
void sources_hold(struct sources *s, int index);
void sources_release(struct sources *s, int index);

#endif
