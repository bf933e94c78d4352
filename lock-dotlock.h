/* The broker's part of the locks, the dotlock above all: see lock-dotlock.c. */
#ifndef LOCK_DOTLOCK_H
#define LOCK_DOTLOCK_H

#include <sys/types.h>

#include <stdbool.h>

#include "lock.h"

/* What the broker holds of one mailbox. */
struct lock_kept {
	const struct lock_plan *plan;
	const char *path; /* of the mailbox */
	bool can_dotlock; /* one is wanted, and its directory can be written */
	bool is_logged;   /* what stands in the dotlock's way */
	int dotlock;      /* the dotlock that this process made; -1: none */
	int spool;        /* the open file that has the session's locks on the spool; -1: none */
	int session;      /* the open file that has the session lock; -1: none */
};

/*
 * Root: returns true if PATH.lock is wanted and its directory is root's and
 * writable by a group besides, but not by others. Returns that group in *group.
 * No part of path may be the user's to change: the group's rights would follow.
 */
bool lock_needs_group(const struct lock_plan *plan, const char *path, gid_t *group);

/*
 * Monitor, as the user, with the spool's group if it needs it, before it is
 * confined: fills *k. Logs if a dotlock is wanted and none can be made; reason
 * (NULL: errno's) is why then.
 */
void lock_broker_prepare(struct lock_kept *k, const struct lock_plan *plan, const char *path, const char *reason);

/*
 * Monitor: does what the channel's other end asks for, and keeps the dotlock
 * fresh. Returns when the other end is gone; then *k still has its locks.
 */
void lock_broker(struct lock_kept *k, int channel);

/* Monitor: gives all locks back. */
void lock_broker_end(struct lock_kept *k);

#endif
