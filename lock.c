/*
 * The locks of a mailbox: kernel locks and dotlock in the order configured; one session per user.
 *
 * Runs as the owner of the mailbox, who can also take these locks elsewhere:
 * every wait is bounded. The dotlock is made by the broker (lock-dotlock.c).
 *
 * Open-file-description locks (fcntl(2)) exclude the POSIX locks of MDAs, but
 * are not lost when some library closes another descriptor of the same file.
 *
 * All locks are tried without waiting; if one is taken by somebody else, all
 * are given back before the next try, so that programs with another order
 * cannot wait for each other (Debian policy 11.6).
 *
 * The user's session lock has the principal's name in it, so that whoever
 * comes back after a broken connection can have the mailbox: a FIFO beside it
 * carries the wish, and the old session decides whether it is idle.
 *
 * A session that is killed while it removes messages leaves a mailbox that no
 * other program may read before the removal is finished. Therefore it passes
 * the descriptors that hold its locks to the broker before it locks to write;
 * the recovery inherits them.
 */
#include "config.h"

#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "lock.h"
#include "log.h"

/* An MDA holds the lock for a delivery: procmail for about a second. */
#define WAIT_MS 10000
#define STEP_LEAST_MS 50 /* and up to as much again, so that two do not go in step */
/* A session that is asked to end, and may, does so at once. */
#define SESSION_WAIT_MS 1000
#define SESSION_STEP_MS 50
#define HOLDER 1024 /* bytes of a principal; longer ones are nobody's */

int
lock_plan_read(struct lock_plan *plan, const char *text)
{
	static const char *const names[LOCK_KINDS] = { "fcntl", "flock", "dotlock" };
	bool seen[LOCK_KINDS] = { false };

	*plan = (struct lock_plan){ .broker = -1, .session = -1, .kept = -1 };
	for (;;) {
		size_t n = strcspn(text, ",");
		int kind = 0;

		while (kind < LOCK_KINDS && (strlen(names[kind]) != n ||
						strncmp(text, names[kind], n) != 0))
			kind++;
		if (kind == LOCK_KINDS || seen[kind])
			return -1;
		seen[kind] = true;
		plan->kinds[plan->count++] = (enum lock_kind)kind;
		if (text[n] == '\0')
			return 0;
		text += n + 1;
	}
}

bool
lock_wants_dotlock(const struct lock_plan *plan)
{
	for (int i = 0; i < plan->count; i++)
		if (plan->kinds[i] == LOCK_DOTLOCK)
			return true;
	return false;
}

/* Receives the broker's answer. Returns 0, or -1 with the errno that it names. */
static int
hear_answer(int channel)
{
	unsigned char answer;
	ssize_t n;

	do
		n = recv(channel, &answer, 1, 0);
	while (n == -1 && errno == EINTR);
	if (n == 1 && answer == 0)
		return 0;
	errno = n == 1 ? answer : EPIPE;
	return -1;
}

/* Sends a verb to the broker. Returns 0, or -1 with errno. */
static int
ask_broker(int channel, enum lock_verb verb)
{
	const char byte = (char)verb;

	return send(channel, &byte, 1, MSG_NOSIGNAL) == 1 ? hear_answer(channel) : -1;
}

/* Passes the spool and the session's lock to the broker, so that their locks outlive this process. Returns 0, or -1 with errno. */
static int
ask_to_keep(const struct lock_plan *plan, int spool)
{
	const int fds[2] = { spool, plan->session };
	char byte = LOCK_KEEP;
	struct iovec space = { .iov_base = &byte, .iov_len = 1 };
	union {
		char space[CMSG_SPACE(sizeof(fds))];
		struct cmsghdr align;
	} control = { .space = { 0 } };
	struct msghdr message = { .msg_iov = &space, .msg_iovlen = 1,
		.msg_control = &control, .msg_controllen = sizeof(control) };
	struct cmsghdr *c = CMSG_FIRSTHDR(&message);
	ssize_t n;

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(fds));
	memcpy(CMSG_DATA(c), fds, sizeof(fds));
	do
		n = sendmsg(plan->broker, &message, MSG_NOSIGNAL);
	while (n == -1 && errno == EINTR);
	return n == 1 ? hear_answer(plan->broker) : -1;
}

void
lock_signals(int how)
{
	sigset_t stop;

	sigemptyset(&stop);
	sigaddset(&stop, SIGHUP);
	sigaddset(&stop, SIGINT);
	sigaddset(&stop, SIGTERM);
	sigprocmask(how, &stop, NULL);
}

static int
kernel_lock(int fd, short type)
{
	struct flock f = { .l_type = type, .l_whence = SEEK_SET };

	if (fcntl(fd, F_OFD_SETLK, &f) == 0)
		return 0;
	if (errno == EACCES)
		errno = EAGAIN;
	return -1;
}

static int
take(const struct lock_plan *plan, enum lock_kind kind, int fd, bool to_write)
{
	switch (kind) {
	case LOCK_FCNTL:
		return kernel_lock(fd, to_write ? F_WRLCK : F_RDLCK);
	case LOCK_FLOCK:
		return flock(fd, (to_write ? LOCK_EX : LOCK_SH) | LOCK_NB);
	default:
		return ask_broker(plan->broker, LOCK_TAKE);
	}
}

static void
give(const struct lock_plan *plan, enum lock_kind kind, int fd)
{
	switch (kind) {
	case LOCK_FCNTL:
		kernel_lock(fd, F_UNLCK);
		break;
	case LOCK_FLOCK:
		flock(fd, LOCK_UN);
		break;
	case LOCK_DOTLOCK:
		ask_broker(plan->broker, LOCK_GIVE);
		break;
	}
}

/* All of them or none. */
static int
take_all(const struct lock_plan *plan, int fd, bool to_write)
{
	for (int i = 0; i < plan->count; i++) {
		int error;

		if (take(plan, plan->kinds[i], fd, to_write) == 0)
			continue;
		error = errno;
		while (--i >= 0)
			give(plan, plan->kinds[i], fd);
		errno = error;
		return -1;
	}
	return 0;
}

static bool
is_same_file(int a, int b)
{
	struct stat one, other;

	return fstat(a, &one) == 0 && fstat(b, &other) == 0 &&
	    one.st_dev == other.st_dev && one.st_ino == other.st_ino;
}

/*
 * Returns the descriptor of the spool that the locks are taken through. In a
 * recovery it is the killed session's, which has them: no other program gets
 * one in between.
 */
static int
locked_through(const struct lock_plan *plan, int fd)
{
	return plan->kept != -1 && is_same_file(plan->kept, fd) ? plan->kept : fd;
}

int
lock_spool(const struct lock_plan *plan, int fd, bool to_write)
{
	int waited = 0;

	if (to_write && plan->session != -1 && ask_to_keep(plan, fd) == -1)
		return -1;
	fd = locked_through(plan, fd);
	for (;;) {
		int step = STEP_LEAST_MS + (int)arc4random_uniform(STEP_LEAST_MS);
		struct timespec t = { .tv_nsec = step * 1000000L };

		/* A service that is stopped would otherwise leave half a removal, for other programs to read. */
		if (to_write)
			lock_signals(SIG_BLOCK);
		if (take_all(plan, fd, to_write) == 0)
			return 0;
		if (to_write)
			lock_signals(SIG_UNBLOCK);
		if (errno != EAGAIN || (waited += step) > WAIT_MS)
			return -1;
		nanosleep(&t, NULL);
	}
}

void
unlock_spool(const struct lock_plan *plan, int fd)
{
	fd = locked_through(plan, fd);
	for (int i = plan->count - 1; i >= 0; i--)
		give(plan, plan->kinds[i], fd);
	lock_signals(SIG_UNBLOCK);
}

/* The FIFO by which a session is asked to end. Returns it open, or -1. */
static int
open_yield(int state, int flags)
{
	struct stat st;
	int fd;

	if (mkfifoat(state, "yield", 0600) == -1 && errno != EEXIST)
		return -1;
	fd = openat(state, "yield", flags | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (fd != -1 && (fstat(fd, &st) == -1 || !S_ISFIFO(st.st_mode))) {
		close(fd);
		fd = -1;
	}
	return fd;
}

/* Whether the session that has the lock on fd is this principal's. */
static bool
is_session_of(int fd, const char *principal)
{
	char holder[HOLDER];
	size_t n = strlen(principal);

	return pread(fd, holder, sizeof(holder), 0) == (ssize_t)n &&
	    memcmp(holder, principal, n) == 0;
}

/* Asks it to end. */
static void
ask_to_yield(int state)
{
	int fd = open_yield(state, O_WRONLY);

	/* A full FIFO has been asked often enough. */
	if (fd != -1 && write(fd, "", 1) == -1 && errno != EAGAIN)
		log_event(LOG_WARNING, "failed", "what=\"asking another session to end\" "
		    "error=\"%s\"", strerror(errno));
	if (fd != -1)
		close(fd);
}

/* Says whose the lock on fd is, and by the file's time since when. What cannot be said is left out. */
static void
sign(int fd, const char *principal)
{
	size_t n = strlen(principal);

	if (pwrite(fd, principal, n, 0) != (ssize_t)n)
		n = 0;
	if (ftruncate(fd, (off_t)n) == -1 || futimens(fd, NULL) == -1)
		log_event(LOG_WARNING, "failed", "what=\"signing the session's lock\" "
		    "error=\"%s\"", strerror(errno));
}

int
lock_session(int state, const char *principal, struct lock_session *l)
{
	struct timespec step = { .tv_nsec = SESSION_STEP_MS * 1000000L };
	struct stat st;
	int fd = openat(state, "session",
	    O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);

	if (fd == -1)
		return -1;
	for (int waited = 0; kernel_lock(fd, F_WRLCK) == -1; waited += SESSION_STEP_MS) {
		if (errno != EAGAIN)
			return -1;
		if (waited >= SESSION_WAIT_MS || principal == NULL ||
		    !is_session_of(fd, principal)) {
			l->age = fstat(fd, &st) == 0 ? time(NULL) - st.st_mtime : 0;
			errno = EAGAIN;
			return -1;
		}
		ask_to_yield(state);
		nanosleep(&step, NULL);
	}
	sign(fd, principal != NULL ? principal : "");
	/* Open for writing, too: else the FIFO would be at its end whenever an asker leaves. */
	l->yield = open_yield(state, O_RDWR);
	l->fd = fd;
	l->place = -1;
	return 0;
}

int
lock_place(int user, uint64_t id, struct lock_session *l)
{
	struct flock f = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = (off_t)(id >> 2), .l_len = 1 };
	int error;

	l->place = openat(user, "places", O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);
	if (l->place == -1)
		return -1;
	if (fcntl(l->place, F_OFD_SETLK, &f) == 0)
		return 0;
	error = errno == EACCES ? EAGAIN : errno;
	close(l->place);
	l->place = -1;
	errno = error;
	return -1;
}

bool
lock_session_kept(int state, int fd)
{
	int named = openat(state, "session", O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	bool is_it = fd != -1 && named != -1 && is_same_file(fd, named);

	if (named != -1)
		close(named);
	return is_it && kernel_lock(fd, F_WRLCK) == 0;
}

void
unlock_session(struct lock_session *l)
{
	/* Not by close alone, because the broker may have the same open file. */
	kernel_lock(l->fd, F_UNLCK);
	close(l->fd);
	if (l->place != -1)
		close(l->place);
	l->fd = l->place = -1;
}
