/* Remembers which authenticators were shown: see replay-cache.c. */
#ifndef REPLAY_CACHE_H
#define REPLAY_CACHE_H

#include <stddef.h>
#include <stdint.h>

/*
 * The file: a head, three rows of counters, a table of buckets. No process
 * writes beyond this size. DESIGN has the reasons for the numbers.
 */
#define REPLAY_HEAD 4096
#define REPLAY_ROWS 3
#define REPLAY_COLUMNS 4096
#define REPLAY_COUNTER 8 /* bytes */
#define REPLAY_BUCKETS 4096
#define REPLAY_SLOTS 128
#define REPLAY_SLOT 24 /* bytes */
#define REPLAY_SIZE (REPLAY_HEAD + REPLAY_ROWS * REPLAY_COLUMNS * REPLAY_COUNTER + REPLAY_BUCKETS * REPLAY_SLOTS * REPLAY_SLOT)

/* What one principal may show within twice the clock skew: a sixteenth of the slots. */
#define REPLAY_MOST 32768

struct replay;

/* Bytes of an authenticator. */
struct replay_piece {
	const void *data;
	size_t size;
};

/* What a client shows. */
struct replay_authenticator {
	struct replay_piece principal;     /* whose it is, as text with the realm */
	uint32_t ctime;                    /* when its client made it, in seconds since 1970 */
	const struct replay_piece *pieces; /* all that tells it from others */
	size_t count;
};

enum replay_result {
	REPLAY_NEW,      /* it was never shown, and is remembered now */
	REPLAY_SHOWN,    /* it was shown before */
	REPLAY_SKEW,     /* its time is more than the clock skew away */
	REPLAY_EARLIER,  /* it is older than the cache or this boot of the machine */
	REPLAY_TOO_MANY, /* its principal has shown REPLAY_MOST */
	REPLAY_FULL,     /* there is no slot that may be used again */
	REPLAY_FAILED,   /* the file could not be locked, read or written: see errno */
};

/* Seconds. */
struct replay_clock {
	int64_t wall; /* since 1970 */
	int64_t boot; /* since the machine was started */
};

/*
 * Root: opens STATE/replay, and first makes it or puts it right, with all its
 * space. skew: the clock skew that Kerberos permits, in seconds. deadline:
 * absolute, ms of CLOCK_MONOTONIC, for all waiting. Returns NULL (logged) if
 * there is no file that can be relied upon.
 */
struct replay *replay_open(const char *state, int skew, int64_t deadline);

/* Remembers an authenticator, unless it must be refused. */
enum replay_result replay_show(struct replay *r, const struct replay_authenticator *a);

/* Does the same by a given clock and without the lock; for replay_show, and for tests. */
enum replay_result replay_show_at(struct replay *r, const struct replay_authenticator *a, const struct replay_clock *now);

#endif
