/* The addresses of the last connections: see accept-sources.c. */
#ifndef ACCEPT_SOURCES_H
#define ACCEPT_SOURCES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "address.h"

/*
 * Tokens are counted in thousandths. A second also has a thousand ms, so a
 * bucket that gets n tokens per second gets n thousandths per ms.
 */
#define SOURCES_WHOLE 1000
/* The rate of an address delays a connection by at most this many ms. */
#define SOURCES_WAIT_MS 1000

/* One address: how many connections it has, and its token bucket. */
struct source {
	struct address_net net;
	int in_use;       /* sessions and waiting connections */
	int64_t credit;   /* tokens in thousandths; negative: owed */
	int64_t since;    /* time in ms at which credit was computed */
	int chained;      /* next address with the same hash; 0: none */
	int older, newer; /* neighbours in the list below */
};

/*
 * The table of addresses. The caller provides the memory; sources_size returns
 * its size. at[0] is unused, so index 0 means none. The addresses that are not
 * in use form a list, in the order in which they were last seen.
 */
struct sources {
	uint64_t key[3];
	int rate, burst;    /* tokens per second; tokens in a full bucket */
	int room, used;     /* most addresses; addresses in the table */
	int oldest, newest; /* the ends of the list */
	uint32_t chains;    /* number of hash chains; their heads follow at[] */
	struct source at[];
};

/* Returns the number of bytes of a table for `room` addresses. */
size_t sources_size(int room);

/* Makes an empty table in zeroed memory. The key must be random and secret. */
void sources_init(struct sources *s, int room, int rate, int burst,
    const uint64_t key[3]);

/*
 * Returns the index of the address, which is never 0. If the table does not
 * have the address, adds it. In a full table, the new address replaces the
 * least recently seen address that is not in use. The caller must make sure
 * that fewer than `room` addresses are in use.
 */
int sources_get(struct sources *s, const struct address_net *net, int64_t now);

/*
 * Takes a token for one connection from the address's bucket. The bucket may
 * owe as many tokens as it earns in SOURCES_WAIT_MS. If the bucket would owe
 * more, takes no token and returns -1. After taking a token, returns how many
 * thousandths of a token were missing in the bucket before.
 */
int64_t sources_take(struct sources *s, int index, int64_t now);

/* Counts one more session or waiting connection of the address. */
void sources_hold(struct sources *s, int index);

/* Counts one fewer session or waiting connection of the address. */
void sources_release(struct sources *s, int index);

#endif
