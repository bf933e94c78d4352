/* The removal that survives any crash: see journal.c. */
#ifndef JOURNAL_H
#define JOURNAL_H

#include <sys/types.h>

#include <stdbool.h>
#include <stddef.h>

/* Octets [from, to) of the mailbox. */
struct journal_range {
	off_t from, to;
};

enum journal_result {
	JOURNAL_DONE,    /* removed, and on the disk */
	JOURNAL_NOTHING, /* nothing is removed */
	JOURNAL_LATER,   /* decided; the next journal_recover finishes it */
};

/*
 * Removes n ranges, ascending and apart, from the mailbox fd, which is locked
 * for writing. state is the user's state directory. Needs as much free space
 * there as is kept behind the first range. Errors are logged.
 */
enum journal_result journal_remove(int state, int fd,
    const struct journal_range *ranges, size_t n);

/* Whether a removal was broken off, so that the mailbox must be locked for writing and recovered. */
bool journal_pending(int state);

/*
 * Finishes or forgets what was broken off. fd is the mailbox, locked for
 * writing, or -1 when there is none. Returns 0 when the mailbox may be used,
 * -1 when it may not yet (logged).
 */
int journal_recover(int state, int fd);

#endif
