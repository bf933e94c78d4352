/* The broker of a session's locks: see broker.c. */
#ifndef BROKER_H
#define BROKER_H

#include "session.h"

/*
 * Runs the broker. This process must be the user with the spool's group. It
 * does what the session at the other end of s->locks_to_session asks for, until
 * the session ends. If the session left a removal unfinished, starts a child
 * that finishes it at once, before another program can read the mailbox.
 * channel: to the monitor.
 */
_Noreturn void broker_run(struct session *s, int channel);

#endif
