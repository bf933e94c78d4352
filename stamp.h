/* Whether a file is surely what it was: see stamp.c. */
#ifndef STAMP_H
#define STAMP_H

#include <stdbool.h>
#include <stdint.h>

/* All fields have 64 bits, so that a stamp can be kept on disk. */
struct stamp {
	uint64_t device, inode;
	int64_t size;
	int64_t mtime, mtime_ns, ctime, ctime_ns;
	uint64_t settled; /* 1: every later change will show in the times; 0: one that comes at once may not */
};

/* What fd is now. Returns 0, or -1 with errno. */
int stamp_take(struct stamp *s, int fd);

struct stat;

/* Does what stamp_take does, and stores in *st all that fstat reports. */
int stamp_take_stat(struct stamp *s, struct stat *st, int fd);

/* As stamp_take, but only to be compared: settled is 0. */
int stamp_look(struct stamp *s, int fd);

/* As stamp_take, where this process has just changed fd, a file, and nobody else can have: makes its mtime unlike any that a change could give it. */
int stamp_put(struct stamp *s, int fd);

/* Whether both look the same; that nothing has changed follows only when the older one is settled. */
bool stamp_same(const struct stamp *a, const struct stamp *b);

/* Whether what now is of is surely what it was at then. */
bool stamp_proves(const struct stamp *then, const struct stamp *now);

#endif
