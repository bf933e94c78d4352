/* Limits on the sessions of the listener: see accept-limits.c. */
#ifndef ACCEPT_LIMITS_H
#define ACCEPT_LIMITS_H

#include <sys/types.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "accept-sources.h"
#include "address.h"

/*
 * The largest value of each limit. A state for this many sessions takes less
 * than 8 MiB.
 */
#define LIMITS_MAX 100000
/* The most connections that wait for a session. */
#define LIMITS_WAITING 512
/* How many addresses are kept besides those in use. */
#define LIMITS_SEEN 8192

/* The limits, as -a specifies them. */
struct limits_config {
	int all;       /* sessions */
	int each;      /* sessions from one address, or one /64 of IPv6 */
	int rate;      /* new sessions per second; also the largest burst */
	int each_rate; /* new sessions per second from one address */
};

/*
 * The slot that a connection has from limits_take_slot until limits_return_slot
 * or limits_end_session.
 */
struct limits_slot {
	int source; /* index in sources; 0: no limits for this address */
	/*
	 * The time, in ms, at which the token bucket of the address would be
	 * full without this connection. The connection with the lowest rank is
	 * served first.
	 */
	int64_t rank;
	/*
	 * The time, in ms, at which the bucket has a token for this connection.
	 * The connection is served no earlier. If the waiting connection with
	 * the lowest rank is not due yet, no other one is due, except for the
	 * rounding to a ms.
	 */
	int64_t due;
};

/*
 * The running sessions, and how many more may begin. The caller provides the
 * memory; limits_size returns its size.
 */
struct limits_state {
	struct limits_config most;
	int count;      /* sessions */
	int64_t credit; /* tokens for new sessions, in thousandths */
	int64_t since;  /* time in ms at which credit was computed */
	struct sources *sources;
	struct limits_session {
		pid_t pid;
		int source;
	} sessions[];
};

/* The limit that rejects a connection. */
enum limits_verdict { LIMITS_OK, LIMITS_ALL, LIMITS_EACH, LIMITS_EACH_RATE };

/* Returns the number of bytes of a state with these limits. */
size_t limits_size(const struct limits_config *most);

/*
 * Makes an empty state in limits_size(most) zeroed bytes. now: ms of a clock
 * that never goes back. The key must be random and secret.
 */
void limits_init(struct limits_state *t, const struct limits_config *most,
    int64_t now, const uint64_t key[3]);

/*
 * Returns the time in ms until the rate permits one more session. Returns 0 if
 * the rate permits one now.
 */
int limits_wait_ms(struct limits_state *t, int64_t now);

/*
 * Decides whether a connection may begin a session, at once or after a wait.
 * net: the address for which the connection counts, or NULL if that address has
 * no limits of its own. If the result is LIMITS_OK, fills *slot. Before this
 * call, the caller may have at most LIMITS_WAITING slots without a session.
 */
enum limits_verdict limits_take_slot(struct limits_state *t,
    const struct address_net *net, int64_t now, struct limits_slot *slot);

/* Gives back the slot of a connection that got no session. */
void limits_return_slot(struct limits_state *t, const struct limits_slot *slot);

/* Returns true if no further session may begin. */
bool limits_is_full(const struct limits_state *t);

/* Gives the slot to the session of process pid. The state must not be full. */
void limits_begin_session(struct limits_state *t, pid_t pid,
    const struct limits_slot *slot, int64_t now);

/*
 * Removes the session of process pid, which has ended, and gives back its slot.
 * Returns false if pid had no session.
 */
bool limits_end_session(struct limits_state *t, pid_t pid);

#endif
