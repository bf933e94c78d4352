/* Records which authenticators were used: see replay-cache.c. */
#ifndef REPLAY_CACHE_H
#define REPLAY_CACHE_H

#include <stddef.h>
#include <stdint.h>

/*
 * The file: a head, three rows of counters, a table of buckets. No process
 * writes beyond REPLAY_SIZE. DESIGN has the reasons for the numbers.
 */
#define REPLAY_HEAD 4096 /* bytes of the head */
#define REPLAY_ROWS 3
#define REPLAY_COLUMNS 4096
#define REPLAY_COUNTER 8 /* bytes of a counter */
#define REPLAY_BUCKETS 4096
#define REPLAY_SLOTS 128 /* slots of a bucket */
#define REPLAY_SLOT 24   /* bytes of a slot */
#define REPLAY_SIZE                                                            \
	(REPLAY_HEAD + REPLAY_ROWS * REPLAY_COLUMNS * REPLAY_COUNTER +         \
	    REPLAY_BUCKETS * REPLAY_SLOTS * REPLAY_SLOT)

/*
 * The most authenticators that one principal may use in the current and the
 * previous epoch together. An epoch lasts twice the longest clock skew of all
 * services with this file, and at least ten minutes. The number is a sixteenth
 * of all slots.
 */
#define REPLAY_MOST 32768

struct replay;

/* Some of the bytes that identify an authenticator. */
struct replay_piece {
	const void *data;
	size_t size;
};

/* An authenticator, as a client presents it. */
struct replay_authenticator {
	struct replay_piece principal; /* as text with the realm */
	uint32_t ctime; /* when the client made it, in seconds since 1970 */
	/* together they identify the authenticator */
	const struct replay_piece *pieces;
	size_t count;
};

enum replay_result {
	REPLAY_NEW,      /* it was not recorded before, but is now */
	REPLAY_REPEATED, /* it was recorded before */
	REPLAY_SKEW,     /* its time differs by more than the clock skew */
	REPLAY_EARLIER,  /* it is older than the cache or the last boot */
	REPLAY_TOO_MANY, /* its principal has used REPLAY_MOST */
	REPLAY_FULL,     /* no slot may be reused yet */
	REPLAY_FAILED,   /* the file cannot be locked or used: see errno */
};

/* The time, in seconds. */
struct replay_clock {
	int64_t wall; /* since 1970 */
	int64_t boot; /* since the machine was started */
};

/*
 * Root: opens STATE/replay. Makes the file if it is absent, and repairs it if
 * it is damaged. A file that was made or repaired has its first REPLAY_SIZE
 * bytes allocated. skew: the clock skew that Kerberos permits, in seconds.
 * deadline: when to stop waiting for the lock, in ms of CLOCK_MONOTONIC.
 * Returns NULL (logged) if the file cannot be used.
 */
struct replay *replay_open(const char *state, int skew, int64_t deadline);

/* Records an authenticator, unless it must be refused. */
enum replay_result replay_record(struct replay *r,
    const struct replay_authenticator *a);

/*
 * Does the same as replay_record, but at a given time and without the lock. For
 * replay_record and for tests.
 */
enum replay_result replay_record_at(struct replay *r,
    const struct replay_authenticator *a, const struct replay_clock *now);

#endif
