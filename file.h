/* Reads and writes all of n bytes at an offset, or fails: see file.c. */
#ifndef FILE_H
#define FILE_H

#include <sys/types.h>

#include <stdbool.h>
#include <stddef.h>

/*
 * Reads n bytes of fd from the offset at on. Returns 0, or -1 with errno:
 * ENODATA if the file ends before that.
 */
int file_read(int fd, void *to, size_t n, off_t at);

/*
 * Writes n bytes to fd from the offset at on. Returns 0, or -1 with errno; then
 * some of the bytes may have been written.
 */
int file_write(int fd, const void *from, size_t n, off_t at);

/* Returns true if both descriptors refer to the same file. */
bool file_is_same(int a, int b);

#endif
