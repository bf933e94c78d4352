/* The session, and what the monitor has prepared for it: see session.c. */
#ifndef SESSION_H
#define SESSION_H

#include <sys/types.h>

#include <stdbool.h>
#include <stdint.h>

#include "account.h"
#include "auth.h"
#include "lock.h"
#include "lock-broker.h"
#include "lock-dotlock.h"
#include "message.h"
#include "options.h"

/*
 * One user's session: what session-setup.c has prepared. The session and its
 * broker inherit it.
 */
struct session {
	const struct options *o;
	struct auth *auth; /* the krb5.conf snapshot, without keys */
	struct preauth_message *login; /* NULL: a recovery by --recover */
	int64_t deadline;  /* of the login, absolute ms of CLOCK_MONOTONIC */
	int write_timeout; /* in s, for a client that takes no output */
	struct account user;
	const struct mailboxes *mailboxes;
	const char *path;     /* of the mailbox */
	gid_t group;          /* the broker's */
	const char *obstacle; /* why there can be no dotlock, or NULL */
	int slot; /* closed before the session waits for its lock; -1: none */
	int directory; /* STATE/users/UID, which root opened; -1: not yet */
	int state;     /* the mailbox's state directory; -1: not yet, or none */
	/*
	 * The channel for locks: the broker's end and the session's end. -1:
	 * closed in this process, or the mailbox is not locked.
	 */
	int locks_to_session, locks_to_broker;
	struct lock_plan locks;
	struct lock_kept kept; /* broker: the locks of the mailbox */
};

/*
 * Runs the session, in a process that is already the user's and does not have
 * the client. Asks whether the ticket opens the account, and if so takes the
 * client from the monitor and serves it. channel: to the monitor.
 */
_Noreturn void session_run(struct session *s, int channel);

#endif
