/*
 * Takes the locks that make sure that a mailbox has only one session, and asks
 * an earlier session to end.
 *
 * Runs in the session, the recovery and --check, as the owner of the mailbox.
 * The owner can also take these locks in other programs, so every wait is
 * bounded.
 *
 * The file of the session lock contains the principal of the session that has
 * the lock. So after a broken connection, the same principal can open the
 * mailbox again. The new login writes a takeover request to a FIFO in the same
 * directory, and the earlier session ends if it is idle.
 *
 * A FIFO connects only processes of one host. If other hosts may see the
 * directory, the login also writes its request to a file, and an idle session
 * reads that file now and then. Each request differs from the one before, so
 * the session notices a new one without a clock. Only the user and root can
 * write to the directory.
 */
#include "config.h"

#include <sys/stat.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "file.h"
#include "lock.h"
#include "lock-session.h"
#include "log.h"
#include "volume.h"

#define LOCK_FILE "session"
#define YIELD_FIFO "yield"
#define REQUEST_FILE "takeover"
#define IDENTITY_FILE "places" /* named by an earlier version */
/*
 * How long to wait after an earlier session was asked to end. An idle session
 * ends at once.
 */
#define SESSION_WAIT_MS 1000
#define SESSION_STEP_MS 50
/*
 * How long to wait if the earlier session may run on another host. It looks for
 * requests once in a second, and its file system may show it a file as it was a
 * second ago.
 */
#define SHARED_WAIT_MS 4000
/* The time after which the request in the file is repeated. */
#define SHARED_REPEAT_MS 500
/*
 * Bytes of a principal. A session whose principal is longer is not asked to
 * end.
 */
#define PRINCIPAL_MOST 1024

/*
 * Opens the FIFO of takeover requests, and makes it if it is absent. Returns
 * its descriptor, or -1.
 */
static int
open_yield(int state, int flags)
{
	struct stat st;
	int fd;

	flags |= O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
	fd = openat(state, YIELD_FIFO, flags);
	if (fd == -1 && errno == ENOENT) {
		if (mkfifoat(state, YIELD_FIFO, 0600) == -1 && errno != EEXIST)
			return -1;
		fd = openat(state, YIELD_FIFO, flags);
	}
	if (fd != -1 && (fstat(fd, &st) == -1 || !S_ISFIFO(st.st_mode))) {
		close(fd);
		fd = -1;
	}
	return fd;
}

/*
 * Returns true if the session that has the lock on fd is a session of this
 * principal.
 */
static bool
is_session_of(int fd, const char *principal)
{
	char holder[PRINCIPAL_MOST];
	size_t n = strlen(principal);

	return pread(fd, holder, sizeof(holder), 0) == (ssize_t)n &&
	    memcmp(holder, principal, n) == 0;
}

/* Logs errno, and that no takeover request could be written. */
static void
log_unrequested(void)
{
	log_failed_at(LOG_WARNING, NULL, "asking another session to end");
}

/* Writes a takeover request to the FIFO. */
static void
request_here(int state)
{
	int fd = open_yield(state, O_WRONLY);

	/*
	 * If the FIFO is full, it contains enough requests. If no process reads
	 * it, the other session has just ended.
	 */
	if (fd != -1 && write(fd, "", 1) == -1 && errno != EAGAIN &&
	    errno != EPIPE)
		log_unrequested();
	if (fd != -1)
		close(fd);
}

/* Writes a takeover request to the file, for a session on another host. */
static void
request_elsewhere(int state)
{
	uint8_t request[LOCK_SESSION_REQUEST];
	int fd = openat(state, REQUEST_FILE,
	    O_WRONLY | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC,
	    0600);

	arc4random_buf(request, sizeof(request));
	if (fd == -1 || file_write(fd, request, sizeof(request), 0) == -1)
		log_unrequested();
	file_close(fd);
}

/*
 * Writes a takeover request for the session that has the lock. The login has
 * waited for `waited` ms.
 */
static void
request_takeover(int state, bool is_shared, int waited)
{
	request_here(state);
	if (is_shared && waited % SHARED_REPEAT_MS == 0)
		request_elsewhere(state);
}

/* Logs that the session lock does not have its principal or its time. */
static void
log_unsigned(void)
{
	log_failed_at(LOG_WARNING, NULL,
	    "writing the principal into the session lock");
}

/*
 * Writes the principal into the file of the session lock; the file's mtime is
 * the time at which the session began. If the principal cannot be written,
 * empties the file, so that no login asks this session to end. Failures are
 * only logged.
 */
static void
sign(int fd, const char *principal)
{
	size_t n = strlen(principal);
	bool is_signed = pwrite(fd, principal, n, 0) == (ssize_t)n;

	if (!is_signed)
		log_unsigned();
	if ((ftruncate(fd, is_signed ? (off_t)n : 0) == -1 ||
		futimens(fd, NULL) == -1) &&
	    is_signed)
		log_unsigned();
}

/*
 * Takes the session lock on fd. Asks an earlier session of the same principal
 * to end, and waits for that. Returns 0, or -1 with errno: EAGAIN if another
 * session keeps the lock; then *age is its age in seconds.
 */
static int
take_session(int state, int fd, const char *principal, int64_t *age)
{
	struct timespec step = { .tv_nsec = SESSION_STEP_MS * 1000000L };
	int most = SESSION_WAIT_MS;
	struct stat st;

	for (int waited = 0; lock_fcntl(fd, F_WRLCK) == -1;
	     waited += SESSION_STEP_MS) {
		if (errno != EAGAIN)
			return -1;
		if (waited == 0 && volume_is_shared(state))
			most = SHARED_WAIT_MS;
		if (waited >= most || principal == NULL ||
		    !is_session_of(fd, principal)) {
			*age =
			    fstat(fd, &st) == 0 ? time(NULL) - st.st_mtime : 0;
			errno = EAGAIN;
			return -1;
		}
		request_takeover(state, most == SHARED_WAIT_MS, waited);
		nanosleep(&step, NULL);
	}
	return 0;
}

int
lock_session(int state, const char *principal, struct lock_session *l)
{
	int fd = openat(state, LOCK_FILE,
	    O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);

	if (fd == -1 || take_session(state, fd, principal, &l->age) == -1) {
		file_close(fd);
		return -1;
	}
	sign(fd, principal != NULL ? principal : "");
	/*
	 * Open the FIFO for writing, too. Otherwise poll would report the end
	 * of the FIFO after a requesting process has closed it.
	 */
	l->yield = open_yield(state, O_RDWR);
	l->state = state;
	memset(l->request, 0, sizeof(l->request));
	l->fd = fd;
	l->identity = -1;
	return 0;
}

int
lock_session_look(struct lock_session *l)
{
	uint8_t request[LOCK_SESSION_REQUEST];
	bool is_new = false;
	int fd;

	if (!volume_is_shared(l->state))
		return -1;
	/*
	 * Open the file each time, because that makes most file systems ask
	 * their servers. If it cannot be read, there is no request.
	 */
	fd = openat(l->state, REQUEST_FILE,
	    O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (fd != -1 && file_read(fd, request, sizeof(request), 0) == 0) {
		is_new = memcmp(request, l->request, sizeof(request)) != 0;
		memcpy(l->request, request, sizeof(request));
	}
	file_close(fd);
	return is_new;
}

bool
lock_session_is_held(int state)
{
	struct flock f = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	int fd = openat(state, LOCK_FILE,
	    O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	bool held =
	    fd != -1 && fcntl(fd, F_OFD_GETLK, &f) == 0 && f.l_type != F_UNLCK;

	if (fd != -1)
		close(fd);
	return held;
}

/* Locks one byte of a file. Returns 0, or -1 with errno; EAGAIN: not free. */
static int
lock_byte(int fd, off_t at)
{
	struct flock f = { .l_type = F_WRLCK,
		.l_whence = SEEK_SET,
		.l_start = at,
		.l_len = 1 };

	if (fcntl(fd, F_OFD_SETLK, &f) == 0)
		return 0;
	if (errno == EACCES)
		errno = EAGAIN;
	return -1;
}

int
lock_session_identity(int user, uint64_t id, struct lock_session *l)
{
	struct timespec step = { .tv_nsec = SESSION_STEP_MS * 1000000L };
	int waited = 0;

	l->identity = openat(user, IDENTITY_FILE,
	    O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);
	if (l->identity == -1)
		return -1;
	/*
	 * If a session is killed, the kernel releases its locks one after the
	 * other. So this login may have got the session lock a moment before
	 * this lock is free.
	 */
	while (lock_byte(l->identity, (off_t)(id >> 2)) == -1) {
		if (errno != EAGAIN || waited >= SESSION_WAIT_MS) {
			file_close(l->identity);
			l->identity = -1;
			return -1;
		}
		nanosleep(&step, NULL);
		waited += SESSION_STEP_MS;
	}
	return 0;
}

bool
lock_session_kept(int state, int fd)
{
	int named = openat(state, LOCK_FILE,
	    O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	bool is_session_lock =
	    fd != -1 && named != -1 && file_is_same(fd, named);

	if (named != -1)
		close(named);
	return is_session_lock && lock_fcntl(fd, F_WRLCK) == 0;
}

void
lock_session_release(struct lock_session *l)
{
	/*
	 * The next session takes the session lock first, so it must be free
	 * last.
	 */
	if (l->identity != -1)
		close(l->identity);
	/*
	 * close alone would not release the lock if the broker has the same
	 * open file.
	 */
	lock_fcntl(l->fd, F_UNLCK);
	close(l->fd);
	l->fd = l->identity = -1;
}
