/* The addresses that connections came from last: see accept-sources.c. */
#ifndef ACCEPT_SOURCES_H
#define ACCEPT_SOURCES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "address.h"

/* One connection in thousandths, and one second in ms. */
#define SOURCES_WHOLE 1000
/* The longest wait, in ms, of a connection for the rate of its address. */
#define SOURCES_WAIT_MS 1000

/* One address: how many connections it has, and its token bucket. */
struct source {
	struct address_net net;
	int in_use;       /* sessions and waiting connections */
	int64_t credit;   /* thousandths of a connection that may come */
	int64_t since;    /* ms at which credit was computed */
	int chained;      /* the next one with the same hash; 0: none */
	int older, newer; /* in the list of those not in use; 0: none */
};

/*
 * The table, in memory of a fixed size that the caller provides. at[0] is
 * unused, so index 0 means none.
 */
struct sources {
	uint64_t key[3];
	int rate, burst;    /* tokens of a bucket: per second; when full */
	int room, used;     /* addresses: at most; now */
	int oldest, newest; /* of the addresses not in use */
	uint32_t chains;    /* a power of two; their heads follow at[] */
	struct source at[];
};

/* Returns the number of bytes of a table of room addresses. */
size_t sources_size(int room);

/* Makes an empty table in zeroed memory. The key must be random and secret. */
void sources_init(struct sources *s, int room, int rate, int burst,
    const uint64_t key[3]);

/*
 * Finds the address. If it is not in the table, gives it an unused entry, or
 * the entry of the least recently seen address that is not in use. Fewer than
 * room addresses may be in use. Returns its index, which is never 0.
 */
int sources_get(struct sources *s, const struct address_net *net, int64_t now);

/*
 * Takes a token for one connection from the address's bucket. The bucket may
 * owe as many tokens as it earns in SOURCES_WAIT_MS. Returns how many
 * thousandths of a token were missing from a full bucket before the call, or -1
 * if the bucket would owe too many.
 */
int64_t sources_take(struct sources *s, int index, int64_t now);

/* Counts one more session or waiting connection of the address. */
void sources_hold(struct sources *s, int index);

/* Counts one fewer session or waiting connection of the address. */
void sources_release(struct sources *s, int index);

#endif
