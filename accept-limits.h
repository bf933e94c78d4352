/* Who may come in while others are there: see accept-limits.c. */
#ifndef ACCEPT_LIMITS_H
#define ACCEPT_LIMITS_H

#include <sys/types.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "address.h"
#include "accept-sources.h"

#define CROWD_MOST 100000   /* of each; a table of so many sessions has 8 MiB */
#define CROWD_WAITING 512   /* connections that wait for the rate */
#define CROWD_SEEN 8192     /* addresses that are remembered besides those in use */

struct crowd_limits {
	int all;       /* sessions */
	int each;      /* sessions from one address, or one /64 of IPv6 */
	int rate;      /* new sessions per second; as many at once after a quiet second */
	int each_rate; /* new sessions per second from one address; at once as many as it may have */
};

/* One connection's part in the limits, from crowd_enter until crowd_leave or crowd_remove. */
struct crowd_place {
	int source;   /* in sources; 0: an address that is not limited by itself */
	int64_t rank; /* ms at which its address's token bucket is full without it; the earlier is served first */
	int64_t due;  /* ms at which the bucket has a token for it; not before. The earliest rank is due first */
};

/* The sessions there are. Of a fixed size, in the caller's memory. */
struct crowd {
	struct crowd_limits most;
	int count;
	int64_t credit, since; /* thousandths of a session that may come; ms when that was so */
	struct sources *sources;
	struct crowd_session {
		pid_t pid;
		int source;
	} sessions[];
};

enum crowd_verdict { CROWD_FINE, CROWD_ALL, CROWD_EACH, CROWD_EACH_RATE };

/* Returns how many bytes a table needs. */
size_t crowd_size(const struct crowd_limits *most);

/*
 * Makes an empty table of so many zeroed bytes. now: ms of any clock that does
 * not go back. The key must be random and secret.
 */
void crowd_init(struct crowd *t, const struct crowd_limits *most, int64_t now, const uint64_t key[3]);

/* Ms from now until the rate allows one more session; 0 when it does. */
int crowd_wait(struct crowd *t, int64_t now);

/*
 * Decides whether a connection may begin a session, at once or after waiting
 * for the rate of all. net: what it counts for, or NULL if no address is
 * limited. With CROWD_FINE the connection has a place; at most CROWD_WAITING
 * places may be without a session at a time.
 */
enum crowd_verdict crowd_enter(struct crowd *t, const struct address_net *net, int64_t now,
    struct crowd_place *place);

/* Gives the place back: no session came of it. */
void crowd_leave(struct crowd *t, const struct crowd_place *place);

/* Returns true if there are as many sessions as there may be. */
bool crowd_is_full(const struct crowd *t);

/* Makes the place a session's, while the table is not full. */
void crowd_add(struct crowd *t, pid_t pid, const struct crowd_place *place, int64_t now);

/* Removes the session of a process that has ended. Returns false if it was none. */
bool crowd_remove(struct crowd *t, pid_t pid);

#endif
