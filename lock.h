/* The locks of a mailbox: see lock.c. */
#ifndef LOCK_H
#define LOCK_H

#include <stdbool.h>

/*
 * The one session per user: locks the file "session" in the state directory
 * until the process ends. Returns 0, or -1 with errno; EAGAIN when another
 * session has it.
 */
int lock_session(int state);

/*
 * Locks the spool fd against other programs, to read or to write it, waiting
 * at most ten seconds. Returns 0, or -1 with errno; EAGAIN when somebody
 * holds it all that time.
 */
int lock_spool(int fd, bool to_write);

/* Gives the spool back. */
void unlock_spool(int fd);

#endif
