/* The locks of a mailbox: see lock.c. */
#ifndef LOCK_H
#define LOCK_H

#include <sys/types.h>

#include <stdbool.h>
#include <stdint.h>

enum lock_kind { LOCK_FCNTL, LOCK_FLOCK, LOCK_DOTLOCK };
#define LOCK_KINDS 3

/* How a mailbox is locked: which locks, in this order, and what this process has of the broker's. */
struct lock_plan {
	enum lock_kind kinds[LOCK_KINDS];
	int count;
	uid_t least_uid; /* the uids below it are system accounts */
	int broker;      /* the channel to the broker, which makes the dotlock; -1: none */
	int session;     /* the session's lock, which the broker is to keep during a removal; -1: nothing is kept */
	int kept;        /* recovery: the spool as the killed session opened and locked it; -1: none */
};

/* What a session asks of the broker, one byte each; the answer is a byte, too: 0 or an errno. */
enum lock_verb {
	LOCK_TAKE = 'L', /* make the dotlock, if there is none of ours */
	LOCK_GIVE = 'U', /* remove it */
	LOCK_KEEP = 'K', /* with two descriptors: keep the spool and the session's lock open */
};

/*
 * Blocks (SIG_BLOCK) or unblocks (SIG_UNBLOCK) the signals that stop a service.
 * lock_spool does so while the spool is locked to write; the broker does so
 * from the start of its session.
 */
void lock_signals(int how);

/* Reads "fcntl,dotlock" and the like: each kind at most once. Returns 0 or -1. */
int lock_plan_read(struct lock_plan *plan, const char *text);

/* Returns true if the dotlock is one of the plan's locks. */
bool lock_wants_dotlock(const struct lock_plan *plan);

/* The lock that makes a session the user's only one, until its process ends. */
struct lock_session {
	int fd;      /* which has the lock */
	int place;   /* which has the lock of lock_place; -1: none */
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

/*
 * Takes one more lock for the session: that of the number id, in the directory
 * user that all mailboxes of the user share. Returns 0, or -1 with errno; EAGAIN
 * when another session has it.
 */
int lock_place(int user, uint64_t id, struct lock_session *l);

/*
 * Recovery: takes over the session lock that the broker kept open as fd. Returns false if fd is not the session lock
 * of this state directory (-1: none), or if another session has it.
 */
bool lock_session_kept(int state, int fd);

/* Gives the session's locks back, also if the broker keeps it open, so that the next session need not wait. */
void unlock_session(struct lock_session *l);

/*
 * Locks the spool fd against other programs, to read or
 * to write it, waiting at most ten seconds. Returns 0, or -1 with errno;
 * EAGAIN when somebody holds it all that time. Before it locks to write, it
 * has the broker keep the open file, so that the locks outlive this process.
 */
int lock_spool(const struct lock_plan *plan, int fd, bool to_write);

/* Gives the spool back. */
void unlock_spool(const struct lock_plan *plan, int fd);

#endif
