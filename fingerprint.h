/* Whether a file is surely what it was: see fingerprint.c. */
#ifndef FINGERPRINT_H
#define FINGERPRINT_H

#include <stdbool.h>
#include <stdint.h>

/* All fields have 64 bits, so that a stamp can be kept on disk. */
struct fingerprint {
	uint64_t device, inode;
	int64_t size;
	int64_t mtime, mtime_ns, ctime, ctime_ns;
	uint64_t settled; /* 1: every later change will show in the times; 0: one that comes at once may not */
};

/* What fd is now. Returns 0, or -1 with errno. */
int fingerprint_take(struct fingerprint *s, int fd);

struct stat;

/* Does what fingerprint_take does, and stores in *st all that fstat reports. */
int fingerprint_take_stat(struct fingerprint *s, struct stat *st, int fd);

/* As fingerprint_take, but only to be compared: settled is 0. */
int fingerprint_look(struct fingerprint *s, int fd);

/* As fingerprint_take, where this process has just changed fd, a file, and nobody else can have: makes its mtime unlike any that a change could give it. */
int fingerprint_put(struct fingerprint *s, int fd);

/* Whether both look the same; that nothing has changed follows only when the older one is settled. */
bool fingerprint_same(const struct fingerprint *a, const struct fingerprint *b);

/* Whether what now is of is surely what it was at then. */
bool fingerprint_matches(const struct fingerprint *then, const struct fingerprint *now);

#endif
