/* Removes ranges of bytes from a mailbox: see mbox-ranges.c. */
#ifndef MBOX_RANGES_H
#define MBOX_RANGES_H

#include <sys/types.h>

#include <stddef.h>

#include "mbox-journal.h"

/* Bytes [from, to) of the mailbox. */
struct range {
	off_t from, to;
};

enum ranges_result {
	RANGES_REMOVED, /* the removal is on the disk */
	RANGES_KEPT,    /* nothing is removed */
	/*
	 * The next redo_recover finishes the removal. Or there is no journal:
	 * the file is truncated, but the disk may not have the truncation.
	 */
	RANGES_DECIDED,
};

/*
 * Removes n ranges, which ascend and do not overlap, from the mailbox. Needs
 * free space in the state directory for the bytes that are kept after the first
 * range. Errors are logged.
 */
enum ranges_result ranges_remove(const struct journal_box *b,
    const struct range *ranges, size_t n);

#endif
