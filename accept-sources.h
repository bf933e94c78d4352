/* The addresses that connections came from last: see accept-sources.c. */
#ifndef ACCEPT_SOURCES_H
#define ACCEPT_SOURCES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "address.h"

/*
 * The thousandths of one token, and the ms of one second. So a rate in tokens
 * per second is the same number in thousandths per ms.
 */
#define SOURCES_WHOLE 1000
/* The rate of its address can delay a connection by this many ms at most. */
#define SOURCES_WAIT_MS 1000

/* One address: how many connections it has, and its token bucket. */
struct source {
	struct address_net net;
	int in_use;       /* sessions and waiting connections */
	int64_t credit;   /* thousandths of a token; negative: owed */
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
	int rate, burst;    /* a bucket gains rate a second, up to burst */
	int room, used;     /* addresses: at most; now */
	int oldest, newest; /* of the addresses not in use */
	uint32_t chains;    /* how many: a power of two; heads follow at[] */
	struct source at[];
};

/* Returns the number of bytes of a table of room addresses. */
size_t sources_size(int room);

/* Makes an empty table in zeroed memory. The key must be random and secret. */
void sources_init(struct sources *s, int room, int rate, int burst,
    const uint64_t key[3]);

/*
 * Finds the address. If it is not in the table, gives it an unused entry, or
 * the entry of the least recently seen address that is not in use. The caller
 * must make sure that fewer than room addresses are in use. Returns its index,
 * which is never 0.
 */
int sources_get(struct sources *s, const struct address_net *net, int64_t now);

/*
 * Takes a token for one connection from the address's bucket. The bucket may
 * owe as many tokens as it earns in SOURCES_WAIT_MS. If it would owe more,
 * takes none and returns -1. Otherwise returns by how many thousandths of a
 * token the bucket was not full before the call.
 */
int64_t sources_take(struct sources *s, int index, int64_t now);

/* Counts one more session or waiting connection of the address. */
void sources_hold(struct sources *s, int index);

/* Counts one fewer session or waiting connection of the address. */
void sources_release(struct sources *s, int index);

#endif
