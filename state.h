/* The state directories of users: see state.c. */
#ifndef STATE_H
#define STATE_H

#include <sys/types.h>

#include <stdbool.h>

#include "privsep.h"

/*
 * Root: opens STATE/users/UID, the user's (0700), and makes it and what leads
 * to it if it is absent. Remembers that this user has a mailbox that -m
 * describes as mailboxes, for state_each. A directory that a former user of
 * the uid has left is set aside first. Returns the directory (read-only,
 * close-on-exec), or -1 having logged why.
 */
int state_open(const char *state, const struct account *a, const char *mailboxes);

/*
 * Root: takes one of the few places that a uid has for logins that may still
 * hang on the user's files. Returns a descriptor (close-on-exec), and the place is
 * free when the last copy of it is closed; or -1, with EWOULDBLOCK if none is free.
 */
int state_place(const char *state, uid_t uid);

/* One mailbox that a login has made known; directory is STATE/users/UID, open. */
struct state_mailbox {
	uid_t uid;
	const char *user;      /* NULL: known by the uid alone, from an earlier version */
	const char *mailboxes; /* as -m described it; NULL: as user */
	int directory;
};

/* Root: calls each for all mailboxes that logins have made known. Returns 0, or -1 with errno. */
int state_each(const char *state, void (*each)(void *self, const struct state_mailbox *m), void *self);

/*
 * Returns true if a removal is unfinished in any of the user's mailboxes, or
 * was left by an earlier version. A mailbox that cannot be looked at counts.
 */
bool state_unfinished(int directory);

#endif
