/* The lines that separate the messages in an mbox file: see mbox-from.c. */
#ifndef MBOX_FROM_H
#define MBOX_FROM_H

#include <stdbool.h>
#include <stddef.h>

#define FROM_WORD "From "
#define FROM_SIZE (sizeof(FROM_WORD) - 1)
#define FROM_LOOK 1024 /* bytes that decide whether a line separates */

/*
 * Returns true if the line that begins at p, after an empty one, separates two
 * messages. n: the bytes at p up to the file's end, or at least FROM_LOOK; no
 * byte after FROM_LOOK is looked at.
 */
bool from_separates(const char *p, size_t n);

#endif
