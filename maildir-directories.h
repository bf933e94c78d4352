/* The directories of a Maildir: see maildir-directories.c. */
#ifndef MAILDIR_DIRECTORIES_H
#define MAILDIR_DIRECTORIES_H

#include "maildir.h"

/*
 * Returns true if new and cur have vanished since the last login, and the
 * Maildir or the directory that contains it has been replaced. In this case a
 * file system may not be mounted, and the client must not get an empty mailbox.
 */
bool directories_have_vanished(const struct note *note,
    const struct store_place *place);

/*
 * Opens the Maildir and its directories new and cur, and stores their
 * descriptors in *m. If place->create is set, makes absent ones first. An
 * absent directory is not an error. Returns DROP_OK. Returns DROP_DENIED or
 * DROP_FAILED (logged) after an error.
 */
enum drop_error directories_open(struct maildir *m,
    const struct store_place *place);

#endif
