/* The broker of a session's locks: see broker.c. */
#ifndef BROKER_H
#define BROKER_H

#include "session.h"

/*
 * Runs the broker. This process must be the user with the spool's group. Until
 * the session ends, the broker does what the session requests over
 * s->locks_to_session. If the session left a removal unfinished, the broker
 * starts a child that finishes the removal at once, before another program can
 * read the mailbox. channel: to the monitor.
 */
_Noreturn void broker_run(struct session *s, int channel);

#endif
