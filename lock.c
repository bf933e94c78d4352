/*
 * The kernel locks of a mailbox: one session per user, and the spool.
 *
 * Runs as the owner of the mailbox, who can also take these locks elsewhere:
 * every wait is bounded.
 *
 * Open-file-description locks (fcntl(2)) exclude the POSIX locks of MDAs, but
 * are not lost when some library closes another descriptor of the same file.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#include "lock.h"

/* An MDA holds the lock for a delivery: procmail for about a second. */
#define WAIT_TRIES 100
#define WAIT_STEP_NS 100000000 /* 0.1 s, ten seconds in all */

static int
set(int fd, short type)
{
	struct flock f = { .l_type = type, .l_whence = SEEK_SET };

	if (fcntl(fd, F_OFD_SETLK, &f) == 0)
		return 0;
	if (errno == EACCES)
		errno = EAGAIN;
	return -1;
}

int
lock_session(int state)
{
	int fd = openat(state, "session",
	    O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);

	return fd == -1 ? -1 : set(fd, F_WRLCK);
}

int
lock_spool(int fd, bool to_write)
{
	const struct timespec step = { .tv_nsec = WAIT_STEP_NS };
	int tries = 0;

	while (set(fd, to_write ? F_WRLCK : F_RDLCK) == -1) {
		if (errno != EAGAIN || ++tries == WAIT_TRIES)
			return -1;
		nanosleep(&step, NULL);
	}
	return 0;
}

void
unlock_spool(int fd)
{
	set(fd, F_UNLCK);
}
