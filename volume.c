/*
 * Asks the server of a shared file system what other hosts have changed.
 *
 * Runs in the session, the recovery and the broker, as the owner of the
 * mailbox. Runs as root in main, the listener and the monitor, for files of
 * options and access and for STATE/users. Also runs as root in the pre-auth
 * process, before its jail, for the replay cache.
 *
 * Other hosts can change a file system that is not local. The kernel and the
 * file system's client keep sizes, times, names and content for some time, and
 * a lock does not make them ask the server. So the other files of kpopd call
 * volume_ask when they have opened a file, when they have locked it, and before
 * and after they send a message of it.
 *
 * volume_ask does three things, because none of them is enough alone
 * (measured with GlusterFS 10.3 through FUSE):
 *
 *	fsync          the client of the file system learns the present size and
 *	               times from the server
 *	statx          with AT_STATX_FORCE_SYNC: the kernel learns them from the
 *	               client
 *	posix_fadvise  with POSIX_FADV_DONTNEED: the kernel drops the content
 *
 * The times of a directory are only asked for together with its names. So
 * volume_ask_directory reads the names first.
 */
#include "config.h"

#include <sys/stat.h>
#include <sys/vfs.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "file.h"
#include "volume.h"

/* These are not in linux/magic.h. */
#define BCACHEFS_MAGIC 0xca451a4eU
#define JFS_MAGIC 0x3153464aU
#define ZFS_MAGIC 0x2fc12fc1U

#define SHARED_DEVICE UINT64_MAX
/*
 * How long a name may lead to a file that another host has replaced, or to
 * none. By default FUSE keeps names for a second, and the client of GlusterFS
 * for another one.
 */
#define STALE_MS 3000
#define STALE_STEP_MS 100

static enum volume
ask_kind(int fd)
{
	struct statfs fs;

	if (fstatfs(fd, &fs) == -1)
		return VOLUME_SHARED;
	switch ((unsigned long)fs.f_type) {
	case EXT4_SUPER_MAGIC:
	case XFS_SUPER_MAGIC:
	case BTRFS_SUPER_MAGIC:
	case F2FS_SUPER_MAGIC:
	case TMPFS_MAGIC:
		return VOLUME_LOCAL;
	case BCACHEFS_MAGIC:
	case JFS_MAGIC:
	case MSDOS_SUPER_MAGIC:
	case NILFS_SUPER_MAGIC:
	case OVERLAYFS_SUPER_MAGIC:
	case RAMFS_MAGIC:
	case REISERFS_SUPER_MAGIC:
	case ZFS_MAGIC:
		return VOLUME_COARSE;
	default:
		return VOLUME_SHARED;
	}
}

/* A session takes thousands of fingerprints on one device. */
enum volume
volume_of(int fd, dev_t device)
{
	static dev_t asked;
	static enum volume answer;
	static bool has_answer;

	if (!has_answer || device != asked) {
		answer = ask_kind(fd);
		asked = device;
		has_answer = true;
	}
	return answer;
}

bool
volume_is_shared(int fd)
{
	return ask_kind(fd) == VOLUME_SHARED;
}

/*
 * Each mount of a shared file system has another device, also on one host after
 * it was mounted again. If another file system is mounted in its place, the
 * inodes, sizes and times of its files differ.
 */
uint64_t
volume_device(int fd, const struct stat *st)
{
	return volume_of(fd, st->st_dev) == VOLUME_SHARED ? SHARED_DEVICE :
							    st->st_dev;
}

void
volume_forget(int fd)
{
	if (volume_is_shared(fd))
		posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
}

/* Does what volume_ask does on a shared file system. */
static int
ask_server(int fd)
{
	struct statx st;
	int error = 0;

	/* Some file systems, and all pipes, have no fsync. */
	if ((fsync(fd) == -1 && errno != EINVAL && errno != EROFS) ||
	    statx(fd, "", AT_EMPTY_PATH | AT_STATX_FORCE_SYNC,
		STATX_BASIC_STATS, &st) == -1)
		return -1;
	if (S_ISREG(st.stx_mode)) {
		error = posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
		if (error == 0 && st.stx_nlink == 0)
			error = ESTALE;
	}
	errno = error;
	return error == 0 ? 0 : -1;
}

int
volume_ask(int fd)
{
	return volume_is_shared(fd) ? ask_server(fd) : 0;
}

/*
 * Asks for the times after the open, which makes the client of the file system
 * ask the server. The kernel has kept the names with the times, and reads them
 * again if it learns of other ones.
 */
DIR *
volume_open_names(int dir)
{
	int copy = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *stream = NULL;
	struct statx st;

	if (copy != -1 &&
	    (!volume_is_shared(copy) ||
		statx(copy, "", AT_EMPTY_PATH | AT_STATX_FORCE_SYNC,
		    STATX_BASIC_STATS, &st) == 0))
		stream = fdopendir(copy);
	if (stream == NULL)
		file_close(copy);
	return stream;
}

int
volume_each_name(int dir, int (*visit)(void *self, const char *name),
    void *self)
{
	DIR *stream = volume_open_names(dir);
	const struct dirent *d;
	int result = 0, error;

	if (stream == NULL)
		return -1;
	while (result == 0 && (errno = 0, (d = readdir(stream)) != NULL))
		result = visit(self, d->d_name);
	/* If no visit has ended the loop, errno is that of readdir; 0: end. */
	if (result == 0 && errno != 0)
		result = -1;
	error = errno;
	closedir(stream);
	errno = error;
	return result;
}

static int
ignore_name(void *self, const char *name)
{
	(void)self, (void)name;
	return 0;
}

int
volume_ask_directory(int fd)
{
	if (!volume_is_shared(fd))
		return 0;
	return volume_each_name(fd, ignore_name, NULL) == -1 ? -1 :
							       ask_server(fd);
}

void
volume_outlast_names(int fd)
{
	const struct timespec all = { .tv_sec = STALE_MS / 1000 };

	if (volume_is_shared(fd))
		nanosleep(&all, NULL);
}

/*
 * Returns true if the server has a file of this name. With FUSE, a call that
 * would make a name always asks the server. This call makes none, because a
 * directory cannot have a second link.
 */
static bool
is_at_server(int dir, const char *name)
{
	return linkat(dir, ".", dir, name, 0) == -1 && errno == EEXIST;
}

/*
 * Returns true if a file that could not be opened for the error in errno may be
 * there a moment later. Keeps errno.
 */
static bool
may_appear(int dir, const char *name)
{
	int error = errno;
	bool answer = error == ESTALE ||
	    (error == ENOENT && volume_is_shared(dir) &&
		is_at_server(dir, name));

	errno = error;
	return answer;
}

int
volume_open(int dir, const char *name, int flags)
{
	const struct timespec step = { .tv_nsec = STALE_STEP_MS * 1000000L };

	for (int waited = 0;; waited += STALE_STEP_MS) {
		int fd = openat(dir, name, flags);

		if (fd != -1 && volume_ask(fd) == 0)
			return fd;
		file_close(fd);
		if (waited >= STALE_MS || !may_appear(dir, name))
			return -1;
		nanosleep(&step, NULL);
	}
}
