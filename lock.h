/* The locks of a mailbox: see lock.c. */
#ifndef LOCK_H
#define LOCK_H

#include <sys/types.h>

#include <stdbool.h>
#include <stdint.h>

enum lock_kind { LOCK_FCNTL, LOCK_FLOCK, LOCK_DOTLOCK };
#define LOCK_KINDS 3

/* How mailboxes are locked: which locks, in this order, and by whose hand. */
struct lock_plan {
	enum lock_kind kinds[LOCK_KINDS];
	int count;
	int broker; /* the channel to the broker of this mailbox's dotlock; -1: none */
};

/* Reads "fcntl,dotlock" and the like: each kind at most once. Returns 0 or -1. */
int lock_plan_read(struct lock_plan *plan, const char *text);

/*
 * Root: whether PATH.lock is to be made in a directory of root's that only a
 * group may write besides. Returns that group in *group. False when no dotlock
 * is wanted. No part of path may be the user's to change: the group's rights
 * would follow.
 */
bool lock_needs_broker(const struct lock_plan *plan, const char *path, gid_t *group);

/*
 * The broker, as the user with the spool's group: makes and removes PATH.lock
 * when the channel's other end says so, keeps it fresh meanwhile, and removes
 * it when the other end is gone. Returns then.
 */
void lock_broker(int channel, const char *path);

/* The lock that makes a session the user's only one, until its process ends. */
struct lock_session {
	int fd;      /* which has the lock */
	int yield;   /* becomes readable when the same principal is back and asks for our end; -1: nobody can ask */
	int64_t age; /* when another session has the lock: for how many seconds */
};

/*
 * Takes the user's session lock, in the state directory. A session that the
 * same principal (NULL: nobody) left behind is asked to end, and for that this
 * waits up to a second. Returns 0, or -1 with errno; EAGAIN when another
 * session has the lock.
 */
int lock_session(int state, const char *principal, struct lock_session *l);

/* Gives it back, so that the next session need not wait for this process' end. */
void unlock_session(struct lock_session *l);

/*
 * Locks the spool fd, whose name is path, against other programs, to read or
 * to write it, waiting at most ten seconds. Returns 0, or -1 with errno;
 * EAGAIN when somebody holds it all that time.
 */
int lock_spool(const struct lock_plan *plan, int fd, const char *path, bool to_write);

/* Gives the spool back. */
void unlock_spool(const struct lock_plan *plan, int fd, const char *path);

#endif
