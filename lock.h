/* Which locks a mailbox has, and in which order: see lock.c. */
#ifndef LOCK_H
#define LOCK_H

#include <sys/types.h>

#include <stdbool.h>

enum lock_kind { LOCK_FCNTL, LOCK_FLOCK, LOCK_DOTLOCK };
#define LOCK_KINDS 3

/*
 * The locks of a mailbox in the order in which they are taken, and the
 * descriptors that this process needs for them.
 */
struct lock_plan {
	enum lock_kind kinds[LOCK_KINDS];
	int count;
	uid_t least_uid; /* lower uids are system accounts */
	/* channel to the broker, which makes the dotlock; -1: none */
	int broker;
	/*
	 * The session lock, which the broker keeps during a removal. If it is
	 * -1, the broker keeps no locks.
	 */
	int session;
	/*
	 * The session lock, which this process must still have when it locks
	 * the spool for writing. If it is -1, that is not checked.
	 */
	int held;
	/*
	 * In a recovery: the descriptor with which the killed session locked
	 * the spool, or -1.
	 */
	int kept;
};

/*
 * The requests of a session to the broker. Each is a packet of one byte. The
 * broker's answer is also a packet of one byte: 0 or an errno.
 */
enum lock_verb {
	/*
	 * Make the dotlock, unless the broker holds it already. The answer is
	 * also 0 if the broker cannot write to the mailbox's directory.
	 */
	LOCK_TAKE = 'L',
	LOCK_GIVE = 'U', /* remove the dotlock */
	/*
	 * keep open the two descriptors in the packet: the spool and the
	 * session lock
	 */
	LOCK_KEEP = 'K',
};

/*
 * Reads a list of kinds, for example "fcntl,dotlock", with each kind at most
 * once. Returns 0, or -1 if text is not such a list.
 */
int lock_plan_read(struct lock_plan *plan, const char *text);

/* Returns true if the dotlock is one of the plan's locks. */
bool lock_wants_dotlock(const struct lock_plan *plan);

/*
 * Root: returns true if the plan has a dotlock, and the directory of the
 * dotlock belongs to root and is writable by a group, but not by all users.
 * Stores that group in *group. The user must not be able to change any
 * component of path, because the broker of that user gets the group's rights.
 */
bool lock_needs_group(const struct lock_plan *plan, const char *path,
    gid_t *group);

/*
 * Locks the whole file that is open as fd, with F_RDLCK or F_WRLCK, or unlocks
 * it with F_UNLCK. Does not wait. Returns 0, or -1 with errno. errno is EAGAIN
 * if another process has locked the file.
 */
int lock_fcntl(int fd, short type);

/*
 * Blocks (SIG_BLOCK) or unblocks (SIG_UNBLOCK) the signals that stop a service.
 * The session blocks them while the spool is locked for writing. The monitor
 * blocks them when it has received the login message, the broker at its start.
 */
void lock_signals(int how);

#endif
