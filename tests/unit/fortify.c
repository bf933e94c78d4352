/*
 * A test replaces some library calls by its own functions. _FORTIFY_SOURCE
 * renames such calls. This file redirects the renamed calls to the test's
 * functions.
 *
 * Runs in unit tests. libkpopd.a is compiled as kpopd is, so its objects may
 * call __pread_chk instead of pread. The linker's --wrap redirects such a call
 * to this file, which calls the test's __wrap_pread.
 */
#include "config.h"

#include <sys/socket.h>

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

int __wrap___openat_2(int, const char *, int);
int __wrap___poll_chk(struct pollfd *, nfds_t, int, size_t);
ssize_t __wrap___pread_chk(int, void *, size_t, off_t, size_t);
ssize_t __wrap___read_chk(int, void *, size_t, size_t);
ssize_t __wrap___recv_chk(int, void *, size_t, size_t, int);

int
__wrap___openat_2(int at, const char *path, int flags)
{
	return openat(at, path, flags, 0);
}

int
__wrap___poll_chk(struct pollfd *p, nfds_t n, int timeout, size_t room)
{
	(void)room;
	return poll(p, n, timeout);
}

ssize_t
__wrap___pread_chk(int fd, void *to, size_t n, off_t at, size_t room)
{
	(void)room;
	return pread(fd, to, n, at);
}

ssize_t
__wrap___read_chk(int fd, void *to, size_t n, size_t room)
{
	(void)room;
	return read(fd, to, n);
}

ssize_t
__wrap___recv_chk(int fd, void *to, size_t n, size_t room, int flags)
{
	(void)room;
	return recv(fd, to, n, flags);
}
