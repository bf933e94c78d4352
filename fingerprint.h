/*
 * Fingerprints of files, which later prove that a file has not changed: see
 * fingerprint.c.
 */
#ifndef FINGERPRINT_H
#define FINGERPRINT_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

/*
 * The fingerprint of a file. All fields have 64 bits, because an index stores
 * fingerprints on the disk.
 */
struct fingerprint {
	uint64_t device, inode;
	int64_t size;
	int64_t mtime, mtime_ns, ctime, ctime_ns;
	/*
	 * 1 if every later change alters the fingerprint; 0 if a change in the
	 * same tick of the clock may leave the other fields as they are
	 */
	uint64_t stable;
};

/* Takes the fingerprint of fd. Returns 0, or -1 with errno. */
int fingerprint_take(struct fingerprint *s, int fd);

struct stat;

/* Does what fingerprint_take does, and stores the result of fstat in *st. */
int fingerprint_take_stat(struct fingerprint *s, struct stat *st, int fd);

/*
 * Takes the fingerprint of fd for a comparison only: stable is 0. Returns 0, or
 * -1 with errno.
 */
int fingerprint_look(struct fingerprint *s, int fd);

/*
 * Takes the fingerprint of a file that this process has just changed, while no
 * other process can change it. Sets an mtime that no later change can give the
 * file. Returns 0, or -1 with errno.
 */
int fingerprint_put(struct fingerprint *s, int fd);

/*
 * Returns true if a and b are equal; does not compare stable. Equality proves
 * that the file has not changed only if the older fingerprint is stable.
 */
bool fingerprint_same(const struct fingerprint *a, const struct fingerprint *b);

/*
 * `then` and `now` are an earlier and a later fingerprint of a file. Returns
 * true if they prove that the file has not changed in between.
 */
bool fingerprint_matches(const struct fingerprint *then,
    const struct fingerprint *now);

/* Returns a file's time in nanoseconds since 1970. */
static inline int64_t
fingerprint_ns(const struct timespec *t)
{
	return t->tv_sec * INT64_C(1000000000) + t->tv_nsec;
}

#endif
