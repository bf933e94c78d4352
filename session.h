/* The session, and what the monitor has prepared for it: see session.c. */
#ifndef SESSION_H
#define SESSION_H

#include <sys/types.h>

#include <stdbool.h>
#include <stdint.h>

#include "access.h"
#include "account.h"
#include "auth.h"
#include "lock.h"
#include "lock-broker.h"
#include "lock-dotlock.h"
#include "message.h"
#include "options.h"

/*
 * What the monitor has prepared for one user's session, --recover for a
 * recovery, or --import-uidl for an import, partly by session-setup.c. The
 * session, recovery or import inherits it, and so does the broker.
 */
struct session {
	const struct options *o;
	struct auth *auth; /* the krb5.conf snapshot, without keys */
	struct preauth_message *login; /* NULL: started by hand */
	int64_t deadline;  /* of the login, absolute ms of CLOCK_MONOTONIC */
	int write_timeout; /* in seconds */
	struct account user;
	/*
	 * by the access file: ACCESS_READ, ACCESS_FULL, or ACCESS_UNNAMED; in
	 * the last case Kerberos decides
	 */
	enum access_right right;
	const struct mailboxes *mailboxes;
	const char *path;     /* of the mailbox */
	gid_t group;          /* the broker's */
	const char *obstacle; /* why path could not be resolved, or NULL */
	/*
	 * The login slot, or -1. It is closed before the session waits for the
	 * session lock.
	 */
	int slot;
	int directory; /* STATE/users/UID, opened by root; -1: not yet */
	int state;     /* broker: the mailbox's state directory; -1: none */
	int list;      /* import: the other server's ids; -1: none */
	/*
	 * The two ends of the channel for locks. The broker uses
	 * locks_to_session, and the session uses locks_to_broker. An end is -1
	 * if it is closed in this process, or if the mailbox's format has no
	 * locks.
	 */
	int locks_to_session, locks_to_broker;
	struct lock_plan locks;
	struct lock_kept kept; /* broker: the locks of the mailbox */
};

/*
 * Runs the session, as the user and without the client's socket. Asks whether
 * the ticket opens the account. If it does, takes the client's socket from the
 * monitor and serves the client. channel: to the monitor.
 */
_Noreturn void session_run(struct session *s, int channel);

#endif
