/* The broker of a session's locks: see broker.c. */
#ifndef BROKER_H
#define BROKER_H

#include "session.h"

/*
 * Runs the broker. This process must be the user with the spool's group. Until
 * the session ends, the broker does what the session requests over
 * s->locks_to_session. If the session left a removal unfinished, the broker
 * starts a child that finishes the removal at once, before another program can
 * read the mailbox. In --recover (s->login is NULL), a recovery takes the place
 * of the session, and the broker starts no child. channel: to the monitor, or
 * to the root process of --recover.
 */
_Noreturn void broker_run(struct session *s, int channel);

#endif
