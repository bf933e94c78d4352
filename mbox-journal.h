/* The removal that survives any crash: see mbox-journal.c. */
#ifndef MBOX_JOURNAL_H
#define MBOX_JOURNAL_H

#include <sys/types.h>

#include <stdbool.h>
#include <stddef.h>

/* Bytes [from, to) of the mailbox. */
struct journal_range {
	off_t from, to;
};

/* The mailbox and the place of its journal. */
struct journal_box {
	int state; /* the state directory of this mailbox alone */
	int fd;    /* the mailbox, locked for writing; -1: there is none */
	int dir;   /* the directory that the mailbox is in; -1: not compared */
};

enum journal_result {
	JOURNAL_DONE,    /* removed, and on the disk */
	JOURNAL_NOTHING, /* nothing is removed */
	JOURNAL_LATER,   /* decided; the next journal_recover finishes it */
};

/*
 * Removes n ranges, ascending and apart, from the mailbox. Needs as much free
 * space in the state directory as is kept after the first range. Errors are
 * logged.
 */
enum journal_result journal_remove(const struct journal_box *b,
    const struct journal_range *ranges, size_t n);

/* Returns true if a removal was broken off, so that the mailbox must be locked for writing and recovered. */
bool journal_pending(int state);

/*
 * Moves journals that an earlier version left in the directory from, where all
 * mailboxes of a uid had theirs, to this mailbox's state directory, if they
 * were made for its inode or are damaged. Returns 0, or -1 (logged).
 */
int journal_adopt(int from, int state, ino_t inode);

/* Returns true if a journal in the directory from was made for this inode. */
bool journal_is_of(int from, ino_t inode);

/*
 * Moves journals that were made for the file of this mailbox under another path
 * from that path's state directory, if they fit the file. Returns 0, or -1 (logged).
 */
int journal_follow(int from, const struct journal_box *b);

/*
 * Finishes or forgets what was broken off. Returns 0 if the mailbox is whole,
 * 1 if a journal did not fit the mailbox and was kept as rescue.* (logged);
 * the mailbox may be used then, too. Returns -1 if the mailbox may not be used
 * yet (logged): it is absent while a removal waits, it may not be mounted, or
 * an error occurred.
 */
int journal_recover(const struct journal_box *b);

#endif
