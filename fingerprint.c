/*
 * Takes fingerprints of files: inode, size and times, which prove later that a
 * file has not changed.
 *
 * Runs in the session, as the owner of the mailbox. A file system takes its
 * times from a clock that advances in ticks. Of two changes in one tick, the
 * second change alters the fingerprint only if it alters the size. So a
 * fingerprint proves something only if it was taken after the tick of the last
 * change. fingerprint_put makes an exception: it sets an mtime that lies
 * between two ticks. A fingerprint that proves something is marked as stable.
 * No process waits for a stable fingerprint. If a fingerprint is not stable,
 * the next login reads the file again.
 */
#include "config.h"

#include <sys/stat.h>

#include <time.h>

#include "fingerprint.h"
#include "volume.h"

#define NS_PER_S INT64_C(1000000000)
/*
 * Four ticks of the slowest kernel (100 Hz), for file systems that take their
 * times from this machine's clock.
 */
#define TICKS_NS (4 * NS_PER_S / 100)
/* For other local file systems: FAT has times in steps of two seconds. */
#define COARSE_NS (60 * NS_PER_S)
/*
 * For shared file systems. The host that made the last change may have another
 * clock. Kerberos permits each clock to be wrong by five minutes, so two clocks
 * may differ by ten.
 */
#define SHARED_NS (11 * 60 * NS_PER_S)

/*
 * Returns how old the last change of a file must be, in ns, for a stable
 * fingerprint. This depends on the file system of fd.
 */
static int64_t
stable_age(int fd, dev_t device)
{
	switch (volume_of(fd, device)) {
	case VOLUME_LOCAL:
		return TICKS_NS;
	case VOLUME_COARSE:
		return COARSE_NS;
	default:
		return SHARED_NS;
	}
}

/* Copies the result of fstat for fd; stable is 0. */
static void
copy_status(struct fingerprint *s, const struct stat *st, int fd)
{
	*s = (struct fingerprint){ .device = volume_device(fd, st),
		.inode = st->st_ino,
		.size = st->st_size,
		.mtime = st->st_mtim.tv_sec,
		.mtime_ns = st->st_mtim.tv_nsec,
		.ctime = st->st_ctim.tv_sec,
		.ctime_ns = st->st_ctim.tv_nsec };
}

int
fingerprint_look(struct fingerprint *s, int fd)
{
	struct stat st;

	if (fstat(fd, &st) == -1)
		return -1;
	copy_status(s, &st, fd);
	return 0;
}

int
fingerprint_take_stat(struct fingerprint *s, struct stat *st, int fd)
{
	struct timespec now;
	int64_t changed, needed;

	if (clock_gettime(CLOCK_REALTIME_COARSE, &now) == -1 ||
	    fstat(fd, st) == -1)
		return -1;
	copy_status(s, st, fd);
	changed = s->mtime * NS_PER_S + s->mtime_ns;
	if (changed < s->ctime * NS_PER_S + s->ctime_ns)
		changed = s->ctime * NS_PER_S + s->ctime_ns;
	needed = stable_age(fd, st->st_dev);
	/*
	 * The file system may have times in whole seconds, as ext4 with small
	 * inodes has.
	 */
	if (s->mtime_ns == 0 && s->ctime_ns == 0 && needed < COARSE_NS)
		needed = COARSE_NS;
	s->stable = fingerprint_ns(&now) - changed > needed;
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

	/*
	 * A host whose clock is behind ours could change the file again without
	 * a change of its times: GlusterFS never sets them back for a write.
	 */
	if (volume_is_shared(fd))
		return fingerprint_look(s, fd);
	if (clock_gettime(CLOCK_REALTIME, &times[1]) == -1)
		return -1;
	times[1].tv_nsec |= 1;
	if (futimens(fd, times) == -1 || fstat(fd, &st) == -1)
		return -1;
	copy_status(s, &st, fd);
	/*
	 * The mtime is now a time of the finer clock. A later write sets the
	 * mtime to the beginning of a tick, so it cannot set the same mtime.
	 * The fingerprint is not stable if the file system has truncated the
	 * mtime, or if the mtime equals the ctime, which is the beginning of a
	 * tick.
	 */
	s->stable = fingerprint_ns(&st.st_mtim) == fingerprint_ns(&times[1]) &&
	    fingerprint_ns(&st.st_mtim) != fingerprint_ns(&st.st_ctim);
	return 0;
}

bool
fingerprint_same(const struct fingerprint *a, const struct fingerprint *b)
{
	return a->device == b->device && a->inode == b->inode &&
	    a->size == b->size && a->mtime == b->mtime &&
	    a->mtime_ns == b->mtime_ns && a->ctime == b->ctime &&
	    a->ctime_ns == b->ctime_ns;
}

bool
fingerprint_matches(const struct fingerprint *then,
    const struct fingerprint *now)
{
	return then->stable == 1 && fingerprint_same(then, now);
}
