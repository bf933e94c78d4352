/* The state directories of users: see state.c. */
#ifndef STATE_H
#define STATE_H

#include <sys/types.h>

#include "account.h"

/*
 * Root: makes the state directory if it is absent. Ends the process (fatal) if
 * the directory cannot be made or opened, or if root cannot write in it. Also
 * ends the process if root does not own the directory, or if its group or
 * others may write in it.
 */
void state_require(const char *state);

/*
 * Root: opens STATE/users/UID, which the user owns (mode 0700). Creates it and
 * the directories above it if they are absent. If the directory is that of
 * former users of the uid, moves it aside and creates a new one. Records the
 * user's name and `mailboxes`, the argument of -m, for state_each. Returns a
 * descriptor of the directory (read-only, close-on-exec), or -1 (logged). Ends
 * the process (fatal) in the cases in which privsep_make_directory ends it.
 */
int state_open(const char *state, const struct account *a,
    const char *mailboxes);

/*
 * Root: takes one of the few login slots of a uid, for a login that may hang on
 * the user's files. Returns a descriptor (close-on-exec), or -1 with errno.
 * errno is EWOULDBLOCK if no slot is free. The slot is free again when the last
 * copy of the descriptor is closed. Ends the process (fatal) in the cases in
 * which privsep_make_directory ends it.
 */
int state_take_slot(const char *state, uid_t uid);

/* A mailbox that a login has recorded. */
struct state_mailbox {
	uid_t uid;
	/*
	 * NULL: UID.mailboxes is absent, or no line is left in it. An earlier
	 * version recorded only the uid, or a login was killed before it wrote
	 * its line.
	 */
	const char *user;
	const char *mailboxes; /* the argument of -m; NULL if user is NULL */
	int directory;         /* STATE/users/UID, open */
};

/*
 * Root: calls the function `each` for every recorded mailbox. If something
 * cannot be read, goes on with the rest. Returns 0, or -1 with errno if a
 * mailbox may be missing.
 */
int state_each(const char *state,
    void (*each)(void *self, const struct state_mailbox *m), void *self);

#endif
