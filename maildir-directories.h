/* The directories of a Maildir: see maildir-directories.c. */
#ifndef MAILDIR_DIRECTORIES_H
#define MAILDIR_DIRECTORIES_H

#include "maildir.h"

/*
 * Returns true if there were messages last time, their directories are absent
 * now, and the directory that contained them has been replaced. Then a file
 * system may not be mounted, and the client must not get an empty mailbox.
 */
bool directories_have_vanished(const struct note *note,
    const struct store_place *place);

/*
 * Opens the Maildir, new and cur into *m; makes them first if place->create is
 * set. An absent directory is not an error. Returns DROP_OK; DENIED or FAILED
 * (logged).
 */
enum drop_error directories_open(struct maildir *m,
    const struct store_place *place);

#endif
