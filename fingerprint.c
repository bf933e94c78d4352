/*
 * Says whether a file is surely what it was: its size and times, and when they were looked at.
 *
 * Runs as the owner of the mailbox. A file system takes its times from a clock
 * that stands still between two ticks: of two changes in one tick the second
 * shows only if it changes the size. So a stamp proves something later only if
 * the tick of the last change was over when it was taken. Nobody has to sleep
 * for that: a stamp that is not settled says so, and whoever relied on it
 * looks again next time.
 */
#include "config.h"

#include <sys/stat.h>
#include <sys/vfs.h>

#include <linux/magic.h>
#include <time.h>

#include "fingerprint.h"

#define NS_PER_S INT64_C(1000000000)
/* Four ticks of the slowest kernel (100 Hz): file systems here take their times from the clock of this machine. */
#define TICKS_NS (4 * NS_PER_S / 100)
/* For others, whose clock or granularity is unknown: FAT counts by two seconds, a server's clock may be wrong. */
#define STRANGER_NS (60 * NS_PER_S)

/* Asks the file system of fd how long ago the last change must be before a later one shows for certain, in ns. */
static int64_t
ask_settling_time(int fd)
{
	struct statfs fs;

	if (fstatfs(fd, &fs) == -1)
		return STRANGER_NS;
	switch ((unsigned long)fs.f_type) {
	case EXT4_SUPER_MAGIC:
	case XFS_SUPER_MAGIC:
	case BTRFS_SUPER_MAGIC:
	case F2FS_SUPER_MAGIC:
	case TMPFS_MAGIC:
		return TICKS_NS;
	default:
		return STRANGER_NS;
	}
}

/* Returns what ask_settling_time does. A session stamps thousands of files on one device, so it asks only once. */
static int64_t
settling_time(int fd, uint64_t device)
{
	static uint64_t asked;
	static int64_t answer = -1;

	if (answer == -1 || device != asked) {
		answer = ask_settling_time(fd);
		asked = device;
	}
	return answer;
}

static int64_t
ns(const struct timespec *t)
{
	return t->tv_sec * NS_PER_S + t->tv_nsec;
}

static void
copy(struct fingerprint *s, const struct stat *st)
{
	*s = (struct fingerprint){ .device = st->st_dev, .inode = st->st_ino, .size = st->st_size,
		.mtime = st->st_mtim.tv_sec, .mtime_ns = st->st_mtim.tv_nsec,
		.ctime = st->st_ctim.tv_sec, .ctime_ns = st->st_ctim.tv_nsec };
}

int
fingerprint_look(struct fingerprint *s, int fd)
{
	struct stat st;

	if (fstat(fd, &st) == -1)
		return -1;
	copy(s, &st);
	return 0;
}

int
fingerprint_take_stat(struct fingerprint *s, struct stat *st, int fd)
{
	struct timespec now;
	int64_t changed, needed;

	if (clock_gettime(CLOCK_REALTIME_COARSE, &now) == -1 || fstat(fd, st) == -1)
		return -1;
	copy(s, st);
	changed = s->mtime * NS_PER_S + s->mtime_ns;
	if (changed < s->ctime * NS_PER_S + s->ctime_ns)
		changed = s->ctime * NS_PER_S + s->ctime_ns;
	needed = settling_time(fd, s->device);
	/* Times in whole seconds: an ext4 with small inodes, or one of those that count so. */
	if (s->mtime_ns == 0 && s->ctime_ns == 0)
		needed = STRANGER_NS;
	s->settled = ns(&now) - changed > needed;
	return 0;
}

int
fingerprint_take(struct fingerprint *s, int fd)
{
	struct stat st;

	return fingerprint_take_stat(s, &st, fd);
}

int
fingerprint_put(struct fingerprint *s, int fd)
{
	struct timespec times[2] = { { .tv_nsec = UTIME_OMIT } };
	struct stat st;

	if (clock_gettime(CLOCK_REALTIME, &times[1]) == -1)
		return -1;
	times[1].tv_nsec |= 1;
	if (futimens(fd, times) == -1 || fstat(fd, &st) == -1)
		return -1;
	copy(s, &st);
	/* The finer clock's time, unless the file system cut it off: no tick begins there. */
	s->settled = ns(&st.st_mtim) == ns(&times[1]) && ns(&st.st_mtim) != ns(&st.st_ctim);
	return 0;
}

bool
fingerprint_same(const struct fingerprint *a, const struct fingerprint *b)
{
	return a->device == b->device && a->inode == b->inode && a->size == b->size &&
	    a->mtime == b->mtime && a->mtime_ns == b->mtime_ns &&
	    a->ctime == b->ctime && a->ctime_ns == b->ctime_ns;
}

bool
fingerprint_matches(const struct fingerprint *then, const struct fingerprint *now)
{
	return then->settled == 1 && fingerprint_same(then, now);
}
