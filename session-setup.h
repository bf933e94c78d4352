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
 * Root: fills s->locks, and finds the broker's group. The caller has set
 * s->user, s->mailboxes and s->path. If the mailbox's format has locks, makes
 * the channel for locks. If the mailbox of such a format is outside the home
 * directory, replaces the symlinks that lead to the mailbox's directory. If
 * they cannot be replaced, keeps s->path, sets s->obstacle to the reason, and
 * leaves the broker without the spool's group.
 */
void setup_prepare(struct session *s);

/*
 * Root: starts the broker if s has a channel for locks. The session, or the
 * recovery of --recover, must have been started before. Logs if no process can
 * be made. Closes the broker's end of this channel in this process in any case.
 */
void setup_start_broker(struct session *s, struct watch *w);

/* Closes an end of the channel for locks in this process, if it is open. */
void setup_close_end(int *locks_end);

#endif
