/*
 * The locks of a mailbox: kernel lock and dotlock in the order configured; one session per user; the broker.
 *
 * Runs as the owner of the mailbox, who can also take these locks elsewhere:
 * every wait is bounded. The broker runs as the owner with the spool's group.
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
 * Why a broker: on Debian the spool directory is root:mail 2775, and
 * mailboxes are often 0660 user:mail. A session with that group could read
 * everybody's mail. The broker has the group but no octet of the client: it
 * knows one name, and its other end says 'L' or 'U', one octet each.
 */
#include "config.h"

#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <lockfile.h>
#include <poll.h>
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
#define HOLDER 1024 /* octets of a principal; longer ones are nobody's */
/* A dotlock without a living process behind it is stale after five minutes. */
#define TOUCH_MS 60000

int
lock_plan_read(struct lock_plan *plan, const char *text)
{
	static const char *const names[LOCK_KINDS] = { "fcntl", "flock", "dotlock" };
	bool seen[LOCK_KINDS] = { false };

	*plan = (struct lock_plan){ .broker = -1 };
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

static bool
wants_dotlock(const struct lock_plan *plan)
{
	for (int i = 0; i < plan->count; i++)
		if (plan->kinds[i] == LOCK_DOTLOCK)
			return true;
	return false;
}

/* The directory of path into directory[PATH_MAX]. */
static void
directory_of(const char *path, char *directory)
{
	strlcpy(directory, path, PATH_MAX);
	*strrchr(directory, '/') = '\0';
	if (directory[0] == '\0')
		strlcpy(directory, "/", PATH_MAX);
}

bool
lock_needs_broker(const struct lock_plan *plan, const char *path, gid_t *group)
{
	char directory[PATH_MAX];
	struct stat st;

	if (!wants_dotlock(plan))
		return false;
	directory_of(path, directory);
	if (lstat(directory, &st) == -1 || !S_ISDIR(st.st_mode))
		return false;
	*group = st.st_gid;
	return st.st_uid == 0 && (st.st_mode & S_IWOTH) == 0 &&
	    (st.st_mode & S_IWGRP) != 0;
}

/* PATH.lock into name[PATH_MAX]. Returns 0 or -1. */
static int
dotlock_name(const char *path, char *name)
{
	if (snprintf(name, PATH_MAX, "%s.lock", path) < PATH_MAX)
		return 0;
	errno = ENAMETOOLONG;
	return -1;
}

/*
 * Makes a lock with no number in it, which needs no space: on a full disk a
 * mailbox that could not be locked could not be emptied either. It is valid
 * for five minutes from when it was touched last. Returns 0, or -1 with errno.
 */
static int
make_empty_dotlock(const char *name)
{
	int fd = open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);

	if (fd != -1) {
		close(fd);
		return 0;
	}
	if (errno == EEXIST) {
		/* A stale one makes room for the next try. */
		if (lockfile_check(name, L_PID) == -1)
			unlink(name);
		errno = EAGAIN;
	}
	return -1;
}

/* Makes PATH.lock with our number in it, or takes a stale one's place. Returns 0, or -1 with errno. */
static int
make_dotlock(const char *path)
{
	char name[PATH_MAX];
	struct stat st;

	if (dotlock_name(path, name) == -1)
		return -1;
	/* liblockfile opens what stands there to read a number; a FIFO would keep it for ever. */
	if (stat(name, &st) == 0 && !S_ISREG(st.st_mode)) {
		errno = EEXIST;
		return -1;
	}
	switch (lockfile_create(name, 0, L_PID)) {
	case L_SUCCESS:
		return 0;
	case L_MAXTRYS:
		errno = EAGAIN;
		return -1;
	default:
		return errno == ENOSPC || errno == EDQUOT ? make_empty_dotlock(name) : -1;
	}
}

static void
remove_dotlock(const char *path)
{
	char name[PATH_MAX];

	if (dotlock_name(path, name) == -1 || lockfile_remove(name) == -1)
		log_event(LOG_ERR, "failed", "what=\"removing the dotlock\" "
		    "error=\"%s\"", strerror(errno));
}

static void
touch_dotlock(const char *path)
{
	char name[PATH_MAX];

	if (dotlock_name(path, name) == -1 || lockfile_touch(name) == -1)
		log_event(LOG_ERR, "failed", "what=\"touching the dotlock\" "
		    "error=\"%s\"", strerror(errno));
}

/* Answers one verb with 0 or an errno, as one octet. Returns 0, or -1 when there was no answering. */
static int
obey(int channel, const char *path, char verb, bool *held)
{
	unsigned char answer = 0;
	ssize_t n;

	if (verb == 'L' && !*held) {
		*held = make_dotlock(path) == 0;
		answer = *held ? 0 : (unsigned char)errno;
	} else if (verb == 'U' && *held) {
		remove_dotlock(path);
		*held = false;
	} else
		answer = EINVAL;
	do
		n = send(channel, &answer, 1, MSG_NOSIGNAL);
	while (n == -1 && errno == EINTR);
	return n == 1 ? 0 : -1;
}

void
lock_broker(int channel, const char *path)
{
	struct pollfd p = { .fd = channel, .events = POLLIN };
	bool held = false;

	for (;;) {
		char verb[2];
		ssize_t n;
		int ready = poll(&p, 1, held ? TOUCH_MS : -1);

		if (ready == 0)
			touch_dotlock(path);
		if (ready == 0 || (ready == -1 && errno == EINTR))
			continue;
		n = recv(channel, verb, sizeof(verb), MSG_DONTWAIT);
		/* The channel's end is an answer; without any the session would wait for ever. */
		if (n != 1 || obey(channel, path, verb[0], &held) == -1)
			break;
	}
	if (held)
		remove_dotlock(path);
}

/* Says a verb to the broker. Returns 0, or -1 with errno. */
static int
ask_broker(int channel, char verb)
{
	unsigned char answer;
	ssize_t n;

	if (send(channel, &verb, 1, MSG_NOSIGNAL) != 1)
		return -1;
	do
		n = recv(channel, &answer, 1, 0);
	while (n == -1 && errno == EINTR);
	if (n == 1 && answer == 0)
		return 0;
	errno = n == 1 ? answer : EPIPE;
	return -1;
}

/* Whether a dotlock can be made from here at all; where nobody but root could, MDAs make none either. */
static bool
can_dotlock(const struct lock_plan *plan, const char *path)
{
	char directory[PATH_MAX];

	directory_of(path, directory);
	return plan->broker != -1 || access(directory, W_OK) == 0;
}

static int
dotlock(const struct lock_plan *plan, const char *path, bool on)
{
	if (!can_dotlock(plan, path))
		return 0;
	if (plan->broker != -1)
		return ask_broker(plan->broker, on ? 'L' : 'U');
	if (on)
		return make_dotlock(path);
	remove_dotlock(path);
	return 0;
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
take(const struct lock_plan *plan, enum lock_kind kind, int fd,
    const char *path, bool to_write)
{
	switch (kind) {
	case LOCK_FCNTL:
		return kernel_lock(fd, to_write ? F_WRLCK : F_RDLCK);
	case LOCK_FLOCK:
		return flock(fd, (to_write ? LOCK_EX : LOCK_SH) | LOCK_NB);
	default:
		return dotlock(plan, path, true);
	}
}

static void
give(const struct lock_plan *plan, enum lock_kind kind, int fd, const char *path)
{
	switch (kind) {
	case LOCK_FCNTL:
		kernel_lock(fd, F_UNLCK);
		break;
	case LOCK_FLOCK:
		flock(fd, LOCK_UN);
		break;
	case LOCK_DOTLOCK:
		dotlock(plan, path, false);
		break;
	}
}

/* All of them or none. */
static int
take_all(const struct lock_plan *plan, int fd, const char *path, bool to_write)
{
	for (int i = 0; i < plan->count; i++) {
		int error;

		if (take(plan, plan->kinds[i], fd, path, to_write) == 0)
			continue;
		error = errno;
		while (--i >= 0)
			give(plan, plan->kinds[i], fd, path);
		errno = error;
		return -1;
	}
	return 0;
}

int
lock_spool(const struct lock_plan *plan, int fd, const char *path, bool to_write)
{
	int waited = 0;

	while (take_all(plan, fd, path, to_write) == -1) {
		int step = STEP_LEAST_MS + (int)arc4random_uniform(STEP_LEAST_MS);
		struct timespec t = { .tv_nsec = step * 1000000L };

		if (errno != EAGAIN || (waited += step) > WAIT_MS)
			return -1;
		nanosleep(&t, NULL);
	}
	return 0;
}

void
unlock_spool(const struct lock_plan *plan, int fd, const char *path)
{
	for (int i = plan->count - 1; i >= 0; i--)
		give(plan, plan->kinds[i], fd, path);
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
	return 0;
}

void
unlock_session(struct lock_session *l)
{
	close(l->fd);
	l->fd = -1;
}
