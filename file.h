/* All of a piece of a file, or an error: see file.c. */
#ifndef FILE_H
#define FILE_H

#include <sys/types.h>

#include <stddef.h>

/* Reads n bytes of fd, from the offset at on, into to. Returns 0, or -1 with errno: ENODATA, the file ends before. */
int file_read(int fd, void *to, size_t n, off_t at);

/* Writes n bytes to fd, from the offset at on. Returns 0, or -1 with errno; some may have been written. */
int file_write(int fd, const void *from, size_t n, off_t at);

#endif
