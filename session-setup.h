/* Prepares what a session and its broker need: see session-setup.c. */
#ifndef SESSION_SETUP_H
#define SESSION_SETUP_H

#include "monitor-watch.h"
#include "session.h"

/*
 * Sets *s to a session with these options, for no user yet, without a
 * descriptor.
 */
void setup_begin(struct session *s, const struct options *o);

/*
 * Root: fills the rest of *s from s->user, s->mailboxes and s->path. Replaces
 * the symlinks in the path, as far as root may follow them; finds the broker's
 * group; makes the channel for locks if the mailbox is locked.
 */
void setup_prepare(struct session *s);

/*
 * Root: starts the broker of the session that was started last, if the mailbox
 * is locked, and closes the broker's end of the channel here.
 */
void setup_start_broker(struct session *s, struct watch *w);

/* Closes an end of the channel for locks in this process, if it is open. */
void setup_close_end(int *locks_end);

#endif
