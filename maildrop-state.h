/* Where a mailbox and its state are: see maildrop-state.c. */
#ifndef MAILDROP_STATE_H
#define MAILDROP_STATE_H

#include "maildrop.h"

struct store_place;

/*
 * As the user: opens the state directory of the mailbox at path, and makes it
 * if it is absent. The directory is in STATE/users/UID, which is open as
 * `user`, and its name is the same for all spellings of the path. Stores the
 * directory's descriptor in *state and returns DROP_OK. After an error logs it
 * and returns DROP_DENIED or DROP_FAILED. The current directory of the process
 * becomes "/".
 */
enum drop_error maildrop_state_open(const struct mailboxes *b, const char *path,
    int user, int *state);

/*
 * --check, as the user: does the same as maildrop_state_open, but makes
 * nothing. Returns the descriptor, or -1 if the directory does not exist or
 * cannot be opened (not always logged).
 */
int maildrop_state_find(const struct mailboxes *b, const char *path, int user);

/*
 * As the user, with the session lock of state: makes this session the only one
 * of the mailbox under all paths that lead to it. Then takes over unfinished
 * removals from the state directories of the other paths. Also takes over the
 * removals that an earlier version left in the directory `user`, which all
 * mailboxes of the uid shared. Returns DROP_OK, or DROP_BUSY if another session
 * has the mailbox. After an error logs it and returns DROP_DENIED or
 * DROP_FAILED.
 */
enum drop_error maildrop_state_claim(const struct mailboxes *b,
    const char *path, int user, int state, struct lock_session *lock);

/*
 * As the user: opens the directory that contains the mailbox, and fills path,
 * name and dir of *place. path must last as long as *place. Returns DROP_OK.
 * After an error logs it and returns DROP_DENIED or DROP_FAILED.
 */
enum drop_error maildrop_state_place(struct store_place *place,
    const char *path);

#endif
