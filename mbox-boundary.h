/* Where a message may end in an mbox file: see mbox-boundary.c. */
#ifndef MBOX_BOUNDARY_H
#define MBOX_BOUNDARY_H

#include <sys/types.h>

#include <stdbool.h>
#include <stddef.h>

#include "mbox-from.h"

/* Bytes after a body that decide: an empty line and what may separate. */
#define BOUNDARY_LOOK (2 + FROM_LOOK)

/*
 * Returns true if a message may end at this offset of fd, a file of this size:
 * at the file's end, or before a line that separates messages after an empty
 * line. Stores the size of the empty line before the offset in *empty, or 0 if
 * that line is not empty. Returns false if the file cannot be read.
 */
bool boundary_is_at(int fd, off_t at, off_t size, off_t *empty);

/*
 * Returns true if a body whose length a Content-Length specifies may end at p.
 * p[-1] is the body's last byte; n bytes follow, up to the file's end or
 * BOUNDARY_LOOK.
 */
bool boundary_ends_body(const char *p, size_t n);

#endif
