/*
 * The dotlock of one mailbox, and the locks that outlive a session: the broker.
 *
 * Runs in a process of its own, as the owner of the mailbox, with the spool's group if
 * only that group may write the directory: on Debian it is root:mail 2775, and
 * mailboxes are often 0660 user:mail, so that a session with the group could
 * read everybody's mail. The broker has the group but no byte of the client: it
 * knows one name, and its other end sends verbs of one byte.
 *
 * What is in a dotlock's place is not always a lock: a user named alice.lock
 * has a mailbox there. So a file is removed only if it is small, holds what
 * programs write into locks, belongs to root, the user or a system account, and
 * is stale. liblockfile checks none of this but the last; so the lock is made
 * here, by O_EXCL, which NFS has had since version 3.
 *
 * A process id is meaningless on another host and in another PID namespace. So
 * a lock of ours names them in a second line, which other programs do not read.
 * A process id may be another process's later. So the broker also has a kernel
 * lock on a dotlock with that line, which ends with it.
 */
#include "config.h"

#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "lock-dotlock.h"
#include "log.h"

#define LOCK_TEXT 128 /* bytes; what programs write into a lock is shorter */
#define LOCK_LINES 4
/* Programs take a lock that was not touched for five minutes for stale. */
#define STALE_SECONDS 300
#define TOUCH_MS 60000
#define BOOT_ID 36 /* characters of a UUID */

/* Where a process id means something. */
struct origin {
	char host[HOST_NAME_MAX + 1];
	char boot[BOOT_ID + 1];
	char space[21]; /* the inode of the PID namespace */
};

static struct origin here; /* host "": unknown */

/* Writes the directory of path into directory[PATH_MAX]. */
static void
directory_of(const char *path, char *directory)
{
	strlcpy(directory, path, PATH_MAX);
	*strrchr(directory, '/') = '\0';
	if (directory[0] == '\0')
		strlcpy(directory, "/", PATH_MAX);
}

bool
lock_needs_group(const struct lock_plan *plan, const char *path, gid_t *group)
{
	char directory[PATH_MAX];
	struct stat st;

	if (!lock_wants_dotlock(plan))
		return false;
	directory_of(path, directory);
	if (lstat(directory, &st) == -1 || !S_ISDIR(st.st_mode))
		return false;
	*group = st.st_gid;
	return st.st_uid == 0 && (st.st_mode & S_IWOTH) == 0 &&
	    (st.st_mode & S_IWGRP) != 0;
}

/* Fills here. A host name with blanks would not be one word of the line. */
static void
find_origin(void)
{
	struct origin o = { .host = "" };
	struct stat st;
	int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd != -1 ? read(fd, o.boot, BOOT_ID) : -1;

	if (fd != -1)
		close(fd);
	if (n != BOOT_ID || stat("/proc/self/ns/pid", &st) == -1 || gethostname(o.host, HOST_NAME_MAX) == -1)
		return;
	for (const char *p = o.host; *p != '\0'; p++)
		if (!isgraph((unsigned char)*p))
			return;
	snprintf(o.space, sizeof(o.space), "%ju", (uintmax_t)st.st_ino);
	here = o;
}

/* Reads the second line of a lock that kpopd made. Returns false if there is none. */
static bool
read_origin(const char *text, struct origin *o)
{
	const char *line = strchr(text, '\n');
	char more;

	return line != NULL && sscanf(line, " %64s %36s %20s %c", o->host, o->boot, o->space, &more) == 3;
}

/* Writes PATH.lock into name[PATH_MAX]. Returns 0, or -1 with errno. */
static int
dotlock_name(const char *path, char *name)
{
	if (snprintf(name, PATH_MAX, "%s.lock", path) < PATH_MAX)
		return 0;
	errno = ENAMETOOLONG;
	return -1;
}

static void
log_obstacle(const char *name, const char *why)
{
	struct log_text shown, words;

	log_event(LOG_WARNING, "failed", "what=\"making the dotlock\" path=%s error=\"%s\"",
	    log_safe(&shown, name), log_words(&words, why));
}

void
lock_broker_prepare(struct lock_kept *k, const struct lock_plan *plan, const char *path, const char *reason)
{
	char directory[PATH_MAX], name[PATH_MAX];

	*k = (struct lock_kept){ .plan = plan, .path = path, .dotlock = -1, .spool = -1, .session = -1 };
	if (!lock_wants_dotlock(plan))
		return;
	directory_of(path, directory);
	k->can_dotlock = faccessat(AT_FDCWD, directory, W_OK, AT_EACCESS) == 0;
	/* The session logs that the directory is absent. */
	if (!k->can_dotlock && errno != ENOENT && dotlock_name(path, name) == 0)
		log_obstacle(name, reason != NULL ? reason : strerror(errno));
	find_origin();
}

/* Returns true if text may be what a program writes into a lock: nothing, a process id, a host. A mailbox begins with "From ". */
static bool
is_lock_text(const char *text)
{
	int lines = 0;

	if (strncmp(text, "From ", 5) == 0)
		return false;
	for (const char *p = text; *p != '\0'; p++) {
		lines += *p == '\n';
		if (*p != '\n' && !isprint((unsigned char)*p))
			return false;
	}
	return lines <= LOCK_LINES;
}

/*
 * Returns true if a process has locked the file to write, or if the kernel
 * cannot tell. Every user can lock it to read, which says nothing.
 */
static bool
is_locked(int fd)
{
	struct flock f = { .l_type = F_RDLCK, .l_whence = SEEK_SET };

	return fcntl(fd, F_OFD_GETLK, &f) == -1 || f.l_type != F_UNLCK;
}

/*
 * Reads what stands at name: no symlink is followed, no FIFO waited for. What
 * cannot be read has an empty text, as the locks of mutt and postfix, which
 * nobody may open. *held: whether a process may have a kernel lock on it.
 * Returns 0, or -1 with errno.
 */
static int
read_lock(const char *name, struct stat *st, char text[LOCK_TEXT + 1], bool *held)
{
	int fd = open(name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	ssize_t n = 0;
	int result;

	text[0] = '\0';
	*held = fd == -1 || is_locked(fd);
	if (fd == -1)
		return errno == ENOENT ? -1 : lstat(name, st);
	result = fstat(fd, st);
	if (result == 0 && S_ISREG(st->st_mode))
		n = read(fd, text, LOCK_TEXT);
	text[n > 0 ? n : 0] = '\0';
	close(fd);
	return result;
}

/* Returns why what was read is no lock, or NULL. */
static const char *
why_no_lock(const struct stat *st, const char *text)
{
	if (!S_ISREG(st->st_mode))
		return "it is not a regular file";
	if (st->st_size > LOCK_TEXT)
		return "it is larger than a lock";
	/* So is a text with a NUL in it, and one that could not be read. */
	if ((off_t)strlen(text) != st->st_size || !is_lock_text(text))
		return "it does not hold what programs write into a lock";
	return NULL;
}

/*
 * Returns true if the file was touched before this machine started, and its
 * holder has not touched it twice when it should have: the holder may be on
 * another host with this name, and this one may have started a moment ago.
 */
static bool
is_older_than_boot(const struct stat *st)
{
	time_t age = time(NULL) - st->st_mtime;
	struct timespec up;

	return clock_gettime(CLOCK_BOOTTIME, &up) == 0 && age > up.tv_sec && age >= 2 * TOUCH_MS / 1000;
}

/*
 * Returns true if the lock is stale. The process id decides alone only in a
 * lock of ours that comes from this boot and PID namespace; elsewhere it may
 * be another process', so there the lock's age has to agree. If that process
 * lives it may have got the id later: then the lock is neither held nor touched.
 */
static bool
is_stale(const struct stat *st, const char *text, bool held)
{
	bool is_old = time(NULL) - st->st_mtime >= STALE_SECONDS;
	long pid = strtol(text, NULL, 10);
	bool has_pid = pid > 0 && pid <= INT_MAX;
	bool is_dead = has_pid && kill((pid_t)pid, 0) == -1 && errno == ESRCH;
	struct origin from;

	if (!read_origin(text, &from))
		return is_old && (!has_pid || is_dead);
	if (here.host[0] == '\0' || strcmp(from.host, here.host) != 0)
		return is_old;
	if (strcmp(from.boot, here.boot) != 0)
		return is_old || is_older_than_boot(st);
	return strcmp(from.space, here.space) == 0 ? is_dead || (is_old && !held) : is_old;
}

/* Returns true if a lock of this owner may be removed; an empty file of another user may be a mailbox. */
static bool
is_trusted_owner(const struct lock_kept *k, uid_t owner)
{
	return owner == 0 || owner == geteuid() || owner < k->plan->least_uid;
}

/* Logs what stands in the dotlock's way, once for each connection. */
static void
log_obstacle_once(struct lock_kept *k, const char *name, const char *why)
{
	if (!k->is_logged)
		log_obstacle(name, why);
	k->is_logged = true;
}

/*
 * Removes what stands at name if it is a stale lock. Returns true if the next
 * try may succeed, else false with errno: EAGAIN for a lock that its holder
 * will remove, another one for what stays until an administrator removes it.
 */
static bool
clear_way(struct lock_kept *k, const char *name)
{
	char text[LOCK_TEXT + 1];
	struct stat st, now;
	const char *why;
	bool stale, trusted, held;

	if (read_lock(name, &st, text, &held) == -1)
		return errno == ENOENT;
	if ((why = why_no_lock(&st, text)) != NULL) {
		log_obstacle_once(k, name, why);
		errno = EEXIST;
		return false;
	}
	stale = is_stale(&st, text, held);
	trusted = is_trusted_owner(k, st.st_uid);
	if (!trusted)
		log_obstacle_once(k, name, "it is another user's file");
	if (!stale || !trusted) {
		errno = stale ? EEXIST : EAGAIN;
		return false;
	}
	/* Another program may have removed it and made its own meanwhile. */
	if (lstat(name, &now) == -1 || now.st_dev != st.st_dev || now.st_ino != st.st_ino)
		return true;
	if (unlink(name) == 0 || errno == ENOENT)
		return true;
	log_obstacle_once(k, name, strerror(errno));
	return false;
}

/*
 * Makes the dotlock. On a full disk it stays empty: otherwise a mailbox there
 * could not be emptied. Returns its descriptor, or -1 with errno.
 */
static int
create(const char *name)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	char text[LOCK_TEXT + 1];
	int fd = open(name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	int n;

	if (fd == -1)
		return -1;
	n = snprintf(text, sizeof(text), "%ld\n", (long)getpid());
	/* The second line says that the lock is there; so it comes later. One that does not fit is left out. */
	if (fcntl(fd, F_OFD_SETLK, &lock) == 0 && here.host[0] != '\0') {
		int more = snprintf(text + n, sizeof(text) - (size_t)n, "%s %s %s\n", here.host, here.boot, here.space);

		n += (size_t)more < sizeof(text) - (size_t)n ? more : 0;
	}
	/* Half a line would be a process id of somebody else. */
	if (write(fd, text, (size_t)n) != n && ftruncate(fd, 0) == -1)
		log_event(LOG_ERR, "failed", "what=\"writing the dotlock\" error=\"%s\"", strerror(errno));
	/* Other programs read the process id. */
	fchmod(fd, 0644);
	return fd;
}

/* Returns true if the dotlock is there, and the one that this process made. */
static bool
is_ours(const struct lock_kept *k, const char *name)
{
	struct stat made, named;

	return fstat(k->dotlock, &made) == 0 && lstat(name, &named) == 0 &&
	    made.st_dev == named.st_dev && made.st_ino == named.st_ino;
}

/* Makes the dotlock unless it is held already, by a session that was killed. Returns 0, or -1 with errno. */
static int
take_dotlock(struct lock_kept *k)
{
	char name[PATH_MAX];

	if (dotlock_name(k->path, name) == -1)
		return -1;
	if (k->dotlock != -1 && is_ours(k, name))
		return 0;
	if (k->dotlock != -1)
		close(k->dotlock);
	if ((k->dotlock = create(name)) != -1)
		return 0;
	if (errno != EEXIST || !clear_way(k, name))
		return -1;
	if ((k->dotlock = create(name)) != -1)
		return 0;
	if (errno == EEXIST)
		errno = EAGAIN;
	return -1;
}

static void
log_dotlock_failure(const char *doing)
{
	log_event(LOG_ERR, "failed", "what=\"%s the dotlock\" error=\"%s\"", doing, strerror(errno));
}

/* Removes the dotlock, but not one that another program made in its place. */
static void
give_dotlock(struct lock_kept *k)
{
	char name[PATH_MAX];

	if (dotlock_name(k->path, name) == 0 && is_ours(k, name) && unlink(name) == -1)
		log_dotlock_failure("removing");
	close(k->dotlock);
	k->dotlock = -1;
}

static void
touch_dotlock(const struct lock_kept *k)
{
	char name[PATH_MAX];

	errno = ENOENT;
	if (dotlock_name(k->path, name) == -1 || !is_ours(k, name) || futimens(k->dotlock, NULL) == -1)
		log_dotlock_failure("touching");
}

/* Returns true if fd is a regular file of the user: all that a session may have its broker keep. */
static bool
is_users_file(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_uid == geteuid();
}

/* Closes what is kept, which unlocks it if the session and its recovery have ended. */
static void
drop_kept(struct lock_kept *k)
{
	if (k->spool != -1)
		close(k->spool);
	if (k->session != -1)
		close(k->session);
	k->spool = k->session = -1;
}

/* Keeps the spool and the session's lock in place of what was kept before. Returns 0 or EINVAL; then nothing is taken. */
static unsigned char
keep(struct lock_kept *k, const int *fds, int n)
{
	if (n != 2 || !is_users_file(fds[0]) || !is_users_file(fds[1]))
		return EINVAL;
	drop_kept(k);
	k->spool = fds[0];
	k->session = fds[1];
	return 0;
}

/* Does what a verb asks for. Returns 0 or an errno. */
static unsigned char
obey(struct lock_kept *k, char verb, const int *fds, int n)
{
	unsigned char answer = EINVAL;

	if (verb == LOCK_KEEP)
		answer = keep(k, fds, n);
	else if (n == 0 && verb == LOCK_TAKE)
		answer = !k->can_dotlock || take_dotlock(k) == 0 ? 0 : (unsigned char)errno;
	else if (n == 0 && verb == LOCK_GIVE && k->dotlock != -1) {
		give_dotlock(k);
		answer = 0;
	}
	while (answer != 0 && n > 0)
		close(fds[--n]);
	return answer;
}

/* Receives a verb and at most two descriptors. Returns how many of these, or -1 if it is not one verb. */
static int
receive(int channel, char *verb, int fds[2])
{
	char text[2] = "";
	struct iovec space = { .iov_base = text, .iov_len = sizeof(text) };
	union {
		char space[CMSG_SPACE(2 * sizeof(int))];
		struct cmsghdr align;
	} control;
	struct msghdr message = { .msg_iov = &space, .msg_iovlen = 1,
		.msg_control = &control, .msg_controllen = sizeof(control) };
	ssize_t size = recvmsg(channel, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	const struct cmsghdr *c = size > 0 ? CMSG_FIRSTHDR(&message) : NULL;
	int n = 0;

	if (c != NULL && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS) {
		n = (int)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
		memcpy(fds, CMSG_DATA(c), (size_t)n * sizeof(int));
	}
	*verb = text[0];
	/* More than two were sent; the kernel has closed the others. */
	if (size == 1 && (message.msg_flags & (MSG_CTRUNC | MSG_TRUNC)) == 0)
		return n;
	while (n > 0)
		close(fds[--n]);
	return -1;
}

void
lock_broker(struct lock_kept *k, int channel)
{
	struct pollfd p = { .fd = channel, .events = POLLIN };

	for (;;) {
		int ready = poll(&p, 1, k->dotlock != -1 ? TOUCH_MS : -1);
		unsigned char answer;
		int fds[2], n;
		char verb;
		ssize_t sent;

		if (ready == 0)
			touch_dotlock(k);
		if (ready == 0 || (ready == -1 && errno == EINTR))
			continue;
		/* The channel's end is an answer; without any the session would wait for ever. */
		if ((n = receive(channel, &verb, fds)) == -1)
			return;
		answer = obey(k, verb, fds, n);
		do
			sent = send(channel, &answer, 1, MSG_NOSIGNAL);
		while (sent == -1 && errno == EINTR);
		if (sent != 1)
			return;
	}
}

void
lock_broker_end(struct lock_kept *k)
{
	if (k->dotlock != -1)
		give_dotlock(k);
	drop_kept(k);
}
