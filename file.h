/* Reads, writes, compares and closes files: see file.c. */
#ifndef FILE_H
#define FILE_H

#include <sys/types.h>

#include <stdbool.h>
#include <stddef.h>

/*
 * Reads exactly n bytes of fd, beginning at the offset `at`. Returns 0, or -1
 * with errno. errno is ENODATA if the file has fewer bytes there.
 */
int file_read(int fd, void *to, size_t n, off_t at);

/*
 * Writes n bytes to fd, beginning at the offset `at`. Returns 0, or -1 with
 * errno. After an error some of the bytes may have been written.
 */
int file_write(int fd, const void *from, size_t n, off_t at);

/*
 * Makes an empty file in memory, which only root may open, through /proc. The
 * name is for those who look for it there. Returns the descriptor, or -1 with
 * errno.
 */
int file_in_memory(const char *name);

/* Returns true if both descriptors refer to the same file. */
bool file_is_same(int a, int b);

/* Closes fd unless it is -1. Keeps errno. */
void file_close(int fd);

#endif
