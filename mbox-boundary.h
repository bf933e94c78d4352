/* Where a message may end in an mbox file: see mbox-boundary.c. */
#ifndef MBOX_BOUNDARY_H
#define MBOX_BOUNDARY_H

#include <sys/types.h>

#include <stdbool.h>
#include <stddef.h>

#include "mbox-from.h"

/* bytes after a body that are read, at most: an empty line and FROM_LOOK */
#define BOUNDARY_LOOK (2 + FROM_LOOK)

/*
 * Returns true if the offset `at` is a boundary in the file fd. size is the
 * size of the file. A boundary is the file's end, the "From " line of the first
 * message, or a line that follows an empty line and separates messages. Stores
 * in *empty the size of the empty line before the offset, or 0 if there is
 * none. Returns false if the file cannot be read.
 */
bool boundary_is_at(int fd, off_t at, off_t size, off_t *empty);

/*
 * A Content-Length specifies that a body ends at p. p[-1] would be the body's
 * last byte. Returns true if p[-1] is an LF and the bytes from p on permit that
 * a body ends at p. n is the number of bytes from p on: BOUNDARY_LOOK, or fewer
 * if the file ends earlier.
 */
bool boundary_ends_body(const char *p, size_t n);

#endif
