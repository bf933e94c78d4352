/* Prepares what a session and its broker need: see session-setup.c. */
#ifndef SESSION_SETUP_H
#define SESSION_SETUP_H

#include "monitor-watch.h"
#include "session.h"

/*
 * Initializes *s with these options, without a user and without open
 * descriptors.
 */
void setup_begin(struct session *s, const struct options *o);

/*
 * Root: fills the rest of *s from s->user, s->mailboxes and s->path. Finds the
 * broker's group. If the mailbox's format has locks, makes the channel for
 * locks. It then also replaces the symlinks in a path outside the home
 * directory.
 */
void setup_prepare(struct session *s);

/*
 * Root: starts the broker of a session that has been started, if s has a
 * channel for locks. Closes the broker's end of this channel in this process.
 */
void setup_start_broker(struct session *s, struct watch *w);

/* Closes an end of the channel for locks in this process, if it is open. */
void setup_close_end(int *locks_end);

#endif
