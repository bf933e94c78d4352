/* The lines that separate the messages in an mbox file: see mbox-from.c. */
#ifndef MBOX_FROM_H
#define MBOX_FROM_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#define FROM_WORD "From "
#define FROM_SIZE (sizeof(FROM_WORD) - 1)
#define FROM_LOOK 1024 /* bytes that from_separates reads, at most */

/* Returns true if the n bytes at p begin with FROM_WORD. */
static inline bool
from_begins(const char *p, size_t n)
{
	return n >= FROM_SIZE && memcmp(p, FROM_WORD, FROM_SIZE) == 0;
}

/*
 * p is the beginning of a line after an empty line. Returns true if this line
 * separates two messages. n is the number of bytes from p on, at least
 * FROM_LOOK unless the file ends earlier. The function reads only the first
 * FROM_LOOK bytes.
 */
bool from_separates(const char *p, size_t n);

#endif
