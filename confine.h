/* What each process of a session may reach: see confine.c. */
#ifndef CONFINE_H
#define CONFINE_H

#include "session.h"

/*
 * As the user: from now on this process can open only the mailbox and files
 * below state, the mailbox's state directory. It can make only a session's
 * system calls.
 */
void confine_session(const struct session *s, int state);

/*
 * As confine_session, but this process cannot open the mailbox. Does not look
 * the mailbox up, because the mailbox's file system may not answer.
 */
void confine_outside(int state);

/*
 * As the broker: from now on this process can open only files below
 * STATE/users/UID and in the directory that contains the mailbox. It can make
 * only a broker's system calls.
 */
void confine_broker(const struct session *s);

#endif
