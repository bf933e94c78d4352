/* The verbs and the locks of the broker: see lock-broker.c. */
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
 * Broker, before it is confined: fills *k. If the plan has a dotlock but none
 * can be made, logs reason, or errno's text if reason is NULL.
 */
void lock_broker_prepare(struct lock_kept *k, const struct lock_plan *plan,
    const char *path, const char *reason);

/*
 * Broker: obeys the verbs from the other end of the channel, and touches the
 * dotlock every minute. Returns when the other end is closed or sends a packet
 * that is not a verb. Does not release the locks in *k.
 */
void lock_broker(struct lock_kept *k, int channel);

/* Broker: releases all locks. */
void lock_broker_end(struct lock_kept *k);

#endif
