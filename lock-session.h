/*
 * The locks that make sure that a mailbox has only one session: see
 * lock-session.c.
 */
#ifndef LOCK_SESSION_H
#define LOCK_SESSION_H

#include <stdbool.h>
#include <stdint.h>

#define LOCK_SESSION_REQUEST 16 /* bytes of a takeover request in the file */

/*
 * The locks of a session. lock_session_release releases them. Otherwise they
 * end with the process, but a session lock that the broker keeps does not.
 */
struct lock_session {
	int fd; /* has the session lock of the mailbox's state directory */
	int identity; /* has the lock of lock_session_identity; -1: none */
	/*
	 * Becomes readable when a new login of the same principal asks this
	 * session to end. If it is -1, no login can ask.
	 */
	int yield;
	int state; /* the state directory; must stay open */
	/* the last takeover request that lock_session_look has found */
	uint8_t request[LOCK_SESSION_REQUEST];
	/*
	 * if another session has the lock: the seconds since that session took
	 * it
	 */
	int64_t age;
};

/*
 * Takes the session lock in the state directory. If a session of the same
 * principal has the lock, asks that session to end, and waits up to a second,
 * or up to four seconds if that session may run on another host. If principal
 * is NULL, asks no session. Returns 0, or -1 with errno. If another session has
 * the lock, errno is EAGAIN and l->age is set.
 */
int lock_session(int state, const char *principal, struct lock_session *l);

/*
 * Session: looks for a takeover request of a login on another host. Returns 1
 * if there is another request than at the call before, otherwise 0. Returns -1
 * if no other host sees the state directory.
 */
int lock_session_look(struct lock_session *l);

/*
 * Returns true if a session or a recovery has the session lock of the state
 * directory.
 */
bool lock_session_is_held(int state);

/*
 * Takes one more lock for the session, on the byte that id selects in a file.
 * The file is in the directory `user`, which all mailboxes of the user share.
 * Waits up to a second for the lock. Returns 0, or -1 with errno. errno is
 * EAGAIN if another session has the lock.
 */
int lock_session_identity(int user, uint64_t id, struct lock_session *l);

/*
 * Recovery: takes over the session lock that the broker kept open as fd (-1:
 * none). Returns false if fd is not the session lock of this state directory,
 * or if another session has the lock.
 */
bool lock_session_kept(int state, int fd);

/*
 * Releases the session's locks even if the broker still has their files open.
 * So the next session need not wait for the broker.
 */
void lock_session_release(struct lock_session *l);

#endif
