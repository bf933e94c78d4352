/* The locks of the spool against other programs: see lock-spool.c. */
#ifndef LOCK_SPOOL_H
#define LOCK_SPOOL_H

#include <stdbool.h>

#include "lock.h"

/*
 * Takes all locks of the plan on the spool, which is open as fd. The locks are
 * for writing if to_write is true, otherwise for reading. Waits at most ten
 * seconds. Before it locks for writing, passes the open file to the broker, so
 * that the locks outlive this process. Afterwards checks that this process
 * still has the session lock. Returns 0, or -1 with errno. errno is EAGAIN if
 * another program held a lock for these ten seconds, or has the session lock.
 */
int lock_spool(const struct lock_plan *plan, int fd, bool to_write);

/* Releases all locks of the plan. */
void lock_spool_release(const struct lock_plan *plan, int fd);

#endif
