/* The dotlock of one mailbox, the file PATH.lock: see lock-dotlock.c. */
#ifndef LOCK_DOTLOCK_H
#define LOCK_DOTLOCK_H

#include <sys/types.h>

#include <stdbool.h>
#include <time.h>

#include "lock.h"

struct dotlock {
	int fd;           /* the dotlock that this process made; -1: none */
	const char *path; /* of the mailbox; lasts as long as the process */
	uid_t least_uid;  /* as in struct lock_plan */
	/* the plan has a dotlock, and the directory is writable */
	bool is_possible;
	/* other hosts may see the directory */
	bool is_shared;
	/*
	 * if is_clock_known: how far the file system's clock is ahead of this
	 * host's, in seconds
	 */
	bool is_clock_known;
	time_t clock_ahead;
	bool is_logged; /* the file in its place has been logged */
};

/*
 * Fills *d. If the plan has a dotlock but no dotlock can be made, logs the text
 * `reason`. If reason is NULL, logs errno's text. Call it before the process is
 * confined.
 */
void dotlock_prepare(struct dotlock *d, const struct lock_plan *plan,
    const char *path, const char *reason);

/*
 * Makes the dotlock unless d already holds it. Removes a stale dotlock first.
 * Returns 0, or -1 with errno. EAGAIN means that another program holds the
 * lock. EEXIST means that another file has the dotlock's name, and only an
 * administrator can remove that file (logged).
 */
int dotlock_take(struct dotlock *d);

/*
 * Removes the dotlock that d holds, unless another program has replaced it by
 * another file.
 */
void dotlock_give(struct dotlock *d);

/*
 * Sets the dotlock's time to now; otherwise other programs would consider it
 * stale.
 */
void dotlock_touch(const struct dotlock *d);

#endif
