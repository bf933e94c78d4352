/* The broker's locks, and the requests that it obeys: see lock-broker.c. */
#ifndef LOCK_BROKER_H
#define LOCK_BROKER_H

#include "lock-dotlock.h"

/* The locks that the broker holds on one mailbox. */
struct lock_kept {
	struct dotlock dotlock;
	/* the open file with the session's locks on the spool; -1: none */
	int spool;
	int session; /* the open file with the session lock; -1: none */
};

/*
 * Broker, before it is confined: fills *k. If the plan has a dotlock but the
 * broker cannot write to the mailbox's directory, logs the text `reason`. If
 * reason is NULL, logs why the broker cannot write there. Does not log an
 * absent directory, because the session logs that.
 */
void lock_broker_prepare(struct lock_kept *k, const struct lock_plan *plan,
    const char *path, const char *reason);

/*
 * Broker: obeys the requests (enum lock_verb) of a session or a recovery on the
 * channel, and sets the dotlock's time every minute. Answers EINVAL to an
 * unknown verb. Returns when the other end of the channel is closed, or when a
 * packet has more than one byte or more than two descriptors. Does not release
 * the locks in *k.
 */
void lock_broker(struct lock_kept *k, int channel);

/* Broker: releases all locks. */
void lock_broker_end(struct lock_kept *k);

#endif
