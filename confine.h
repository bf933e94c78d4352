/* What each process of a session may reach: see confine.c. */
#ifndef CONFINE_H
#define CONFINE_H

#include "session.h"

/*
 * As the user: from now on this process reaches no file but the mailbox and
 * state, the mailbox's state directory, and makes no system call but a
 * session's.
 */
void confine_session(const struct session *s, int state);

/* As confine_session, but without the mailbox, at which it does not look. */
void confine_outside(int state);

/*
 * As the broker: from now on this process reaches only STATE/users/UID and the
 * directory that contains the mailbox, and makes only a broker's system calls.
 */
void confine_broker(const struct session *s);

#endif
