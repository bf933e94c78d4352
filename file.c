/*
 * Reads and writes exactly n bytes of a file, even if a signal interrupts a
 * call or a call transfers fewer bytes. Makes files in memory.
 *
 * Runs in the session and in the recovery, as the owner of the mailbox, and as
 * root in main, for the file of options, in the listener, for what kpopd
 * --check reads, and in the monitor, for the state directory.
 */
#include "config.h"

#include <sys/mman.h>
#include <sys/stat.h>

#include <errno.h>
#include <unistd.h>

#include "file.h"

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif

int
file_read(int fd, void *to, size_t n, off_t at)
{
	for (char *p = to; n > 0;) {
		ssize_t got = pread(fd, p, n, at);

		if (got == -1 && errno == EINTR)
			continue;
		if (got <= 0) {
			errno = got == 0 ? ENODATA : errno;
			return -1;
		}
		p += got;
		at += got;
		n -= (size_t)got;
	}
	return 0;
}

int
file_write(int fd, const void *from, size_t n, off_t at)
{
	for (const char *p = from; n > 0;) {
		ssize_t put = pwrite(fd, p, n, at);

		if (put == -1 && errno == EINTR)
			continue;
		if (put <= 0) {
			errno = put == 0 ? EIO : errno;
			return -1;
		}
		p += put;
		at += put;
		n -= (size_t)put;
	}
	return 0;
}

int
file_in_memory(const char *name)
{
	int fd = memfd_create(name, MFD_CLOEXEC | MFD_NOEXEC_SEAL);

	/* A kernel before Linux 6.3 does not know the second flag. */
	if (fd == -1 && errno == EINVAL)
		fd = memfd_create(name, MFD_CLOEXEC);
	if (fd != -1)
		fchmod(fd, 0600);
	return fd;
}

bool
file_is_same(int a, int b)
{
	struct stat one, other;

	return fstat(a, &one) == 0 && fstat(b, &other) == 0 &&
	    one.st_dev == other.st_dev && one.st_ino == other.st_ino;
}

void
file_close(int fd)
{
	int error = errno;

	if (fd != -1)
		close(fd);
	errno = error;
}
