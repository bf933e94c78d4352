/* The locks of a mailbox: see lock.c. */
#ifndef LOCK_H
#define LOCK_H

#include <sys/types.h>

#include <stdbool.h>

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

/*
 * The one session per user: locks the file "session" in the state directory
 * until the process ends. Returns its descriptor, or -1 with errno; EAGAIN
 * when another session has it.
 */
int lock_session(int state);

/*
 * Locks the spool fd, whose name is path, against other programs, to read or
 * to write it, waiting at most ten seconds. Returns 0, or -1 with errno;
 * EAGAIN when somebody holds it all that time.
 */
int lock_spool(const struct lock_plan *plan, int fd, const char *path, bool to_write);

/* Gives the spool back. */
void unlock_spool(const struct lock_plan *plan, int fd, const char *path);

#endif
