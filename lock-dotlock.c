/*
 * Makes, refreshes and removes the dotlock of one mailbox, and removes stale
 * dotlocks.
 *
 * Runs in the broker, as the owner of the mailbox, with the spool's group if
 * only that group may write to the directory (lock-broker.c).
 *
 * A file with a dotlock's name is not always a lock: the mailbox of a user
 * named alice.lock has the name of alice's dotlock. So kpopd removes a file
 * only if it is small and stale and contains only what programs write into
 * locks. The file must also belong to root, the user or a system account. kpopd
 * does not use liblockfile, which checks only whether the file is stale. kpopd
 * makes the dotlock with O_EXCL, which NFS supports since version 3.
 *
 * A pid means nothing on another host, after a reboot or in another PID
 * namespace. So the second line of kpopd's dotlocks contains host, boot and
 * namespace. Other programs do not read that line. After a process has ended,
 * another process may get the same pid. So the broker also holds a kernel lock
 * on each dotlock that has a second line. The kernel lock ends with the broker.
 *
 * Other programs look for the pid in the first line on their own host. So if
 * other hosts may see the file system, the first line is 0, which is no pid,
 * and the pid is at the end of the second line. Programs then judge the dotlock
 * by its age, as kpopd judges their dotlocks on such a file system.
 */
#include "config.h"

#include <sys/stat.h>

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "file.h"
#include "lock-dotlock.h"
#include "log.h"
#include "path.h"
#include "volume.h"

#define LOCK_TEXT 128 /* bytes; programs write less into a lock */
#define LOCK_LINES 4
/* Programs consider a lock stale if it was not touched for five minutes. */
#define STALE_SECONDS 300
/*
 * A broker sets the time of its lock every TOUCH_MS (lock-broker.c), or
 * SHARED_TOUCH_MS if other hosts may see the lock. If the time is this old, the
 * broker has twice failed to set it.
 */
#define TOUCHED_SECONDS 120
#define SHARED_TOUCHED_SECONDS 40
#define BOOT_ID 36 /* characters of a UUID */

/* Where a pid is valid. */
struct origin {
	char host[HOST_NAME_MAX + 1];
	char boot[BOOT_ID + 1];
	char space[21]; /* the inode of the PID namespace */
	int pid;        /* 0: unknown */
};

static struct origin here; /* of this process; unknown if host is "" */

/*
 * Stores the origin of this process in `here`. Stores nothing if the host name
 * contains a blank, because the name must be one word of the lock's second
 * line.
 */
static void
find_origin(void)
{
	struct origin o = { .host = "" };
	struct stat st;
	int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd != -1 ? read(fd, o.boot, BOOT_ID) : -1;

	if (fd != -1)
		close(fd);
	if (n != BOOT_ID || stat("/proc/self/ns/pid", &st) == -1 ||
	    gethostname(o.host, HOST_NAME_MAX) == -1)
		return;
	for (const char *p = o.host; *p != '\0'; p++)
		if (!isgraph((unsigned char)*p))
			return;
	snprintf(o.space, sizeof(o.space), "%ju", (uintmax_t)st.st_ino);
	here = o;
}

/*
 * Returns the pid with which the text begins, or 0 if it begins with none. *end
 * is the text after it.
 */
static int
read_pid(const char *text, const char **end)
{
	char *after;
	long pid = strtol(text, &after, 10);

	*end = after;
	return pid > 0 && pid <= INT_MAX ? (int)pid : 0;
}

/*
 * Reads the second line that kpopd writes into a dotlock, and the pid, which is
 * in this line or in the first. Returns false if text has no such line.
 */
static bool
read_origin(const char *text, struct origin *o)
{
	const char *line = strchr(text, '\n'), *end;
	char more;
	int words;

	if (line == NULL)
		return false;
	o->pid = read_pid(text, &end);
	words = sscanf(line, " %64s %36s %20s %c", o->host, o->boot, o->space,
	    &more);
	return words == 3 ||
	    (words == 4 &&
		sscanf(line, " %*s %*s %*s %9d %c", &o->pid, &more) == 1);
}

/* Writes PATH.lock into name[PATH_MAX]. Returns 0, or -1 with errno. */
static int
name_dotlock(const char *path, char name[PATH_MAX])
{
	if (snprintf(name, PATH_MAX, "%s.lock", path) < PATH_MAX)
		return 0;
	errno = ENAMETOOLONG;
	return -1;
}

/* Logs why the dotlock cannot be made. */
static void
log_obstacle(const char *name, const char *why)
{
	struct log_text shown, words;

	log_event(LOG_WARNING, "failed",
	    "what=\"making the dotlock\" path=%s error=\"%s\"",
	    log_safe(&shown, name), log_words(&words, why));
}

/* Logs that a step on the dotlock has failed, with errno. */
static void
log_dotlock_failure(const char *doing, const char *name)
{
	struct log_text shown;

	log_failed("%s the dotlock %s", doing, log_safe(&shown, name));
}

/* Returns true if other hosts may see the directory. */
static bool
is_shared_directory(const char *directory)
{
	int fd = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
	bool is_shared = fd != -1 && volume_is_shared(fd);

	file_close(fd);
	return is_shared;
}

void
dotlock_prepare(struct dotlock *d, const struct lock_plan *plan,
    const char *path, const char *reason)
{
	char directory[PATH_MAX], name[PATH_MAX];

	*d = (struct dotlock){
		.fd = -1, .path = path, .least_uid = plan->least_uid
	};
	if (!lock_wants_dotlock(plan))
		return;
	path_split(path, directory);
	d->is_possible = faccessat(AT_FDCWD, directory, W_OK, AT_EACCESS) == 0;
	d->is_shared = d->is_possible && is_shared_directory(directory);
	/* The session logs an absent directory. */
	if (!d->is_possible && errno != ENOENT && name_dotlock(path, name) == 0)
		log_obstacle(name, reason != NULL ? reason : strerror(errno));
	find_origin();
}

/*
 * Returns true if text may be what a program writes into a lock: nothing, a
 * pid, or a host name. Returns false if text begins like a mailbox, with "From
 * ".
 */
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
 * Returns true if a process has locked the file for writing, or if the kernel
 * cannot report that. Read locks do not count, because every user can take one.
 */
static bool
is_locked(int fd)
{
	struct flock f = { .l_type = F_RDLCK, .l_whence = SEEK_SET };

	return fcntl(fd, F_OFD_GETLK, &f) == -1 || f.l_type != F_UNLCK;
}

/*
 * Reads the file at `name` into text. Follows no symlink and does not wait at a
 * FIFO. Sets *held to true if a process may hold a kernel lock on the file. If
 * the file cannot be opened, text becomes empty, because mutt and postfix make
 * locks that kpopd cannot open. Returns 0, or -1 with errno: EAGAIN if the file
 * grew, because a program that has just made its lock is writing into it.
 */
static int
read_lock(const char *name, struct stat *st, char text[LOCK_TEXT + 1],
    bool *held)
{
	int fd = open(name,
	    O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	struct stat before;
	ssize_t n = 0;
	int result;

	text[0] = '\0';
	*held = fd == -1 || is_locked(fd);
	if (fd == -1)
		return errno == ENOENT ? -1 : lstat(name, st);
	result = fstat(fd, &before);
	if (result == 0 && S_ISREG(before.st_mode))
		n = read(fd, text, LOCK_TEXT);
	text[n > 0 ? n : 0] = '\0';
	if (result == 0 && (result = fstat(fd, st)) == 0 &&
	    st->st_size != before.st_size) {
		errno = EAGAIN;
		result = -1;
	}
	file_close(fd);
	return result;
}

/* Returns why the file is not a lock, or NULL if it is one. */
static const char *
why_no_lock(const struct stat *st, const char *text)
{
	if (!S_ISREG(st->st_mode))
		return "it is not a regular file";
	if (st->st_size > LOCK_TEXT)
		return "it is larger than a lock";
	/*
	 * A text that contains a NUL, or could not be read, is shorter than the
	 * file.
	 */
	if ((off_t)strlen(text) != st->st_size || !is_lock_text(text))
		return "it does not contain what programs write into a lock";
	return NULL;
}

/*
 * Finds how far the clock of the lock's file system is ahead of this host's, in
 * seconds; 0 if that cannot be found. On NFS the server's clock sets the times
 * of files. Makes a file for a moment.
 */
static time_t
measure_clock(const struct dotlock *d)
{
	char name[PATH_MAX];
	struct stat st;
	time_t ahead = 0;
	int fd;

	if (snprintf(name, sizeof(name), "%s.lock.%08x", d->path,
		arc4random()) >= PATH_MAX)
		return 0;
	fd = open(name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
	    0600);
	if (fd == -1)
		return 0;
	if (fstat(fd, &st) == 0)
		ahead = st.st_mtime - time(NULL);
	unlink(name);
	close(fd);
	return ahead;
}

/* Returns how long ago the lock was touched, in seconds. */
static time_t
lock_age(struct dotlock *d, const struct stat *st)
{
	if (d->is_shared && !d->is_clock_known) {
		d->clock_ahead = measure_clock(d);
		d->is_clock_known = true;
	}
	return time(NULL) + d->clock_ahead - st->st_mtime;
}

/*
 * Returns true if a lock of this age was last touched before the boot of this
 * machine, and at least TOUCHED_SECONDS ago. The second condition protects the
 * lock of another host that has the same name as this host. If this machine has
 * just started, the time of such a lock may also be before the boot.
 */
static bool
is_older_than_boot(time_t age)
{
	struct timespec up;

	return clock_gettime(CLOCK_BOOTTIME, &up) == 0 && age > up.tv_sec &&
	    age >= TOUCHED_SECONDS;
}

/* Returns true if a process of this PID namespace has this pid. */
static bool
is_living(int pid)
{
	return pid > 0 && (kill(pid, 0) == 0 || errno != ESRCH);
}

/*
 * Returns true if the lock of another program contains the pid of a process of
 * this host. Dovecot writes PID:HOST. A pid without a host is the pid of a
 * process of this host only if no other host sees the lock.
 */
static bool
is_held_here(const struct dotlock *d, const char *text)
{
	const char *end;
	int pid = read_pid(text, &end);
	size_t n;

	if (*end != ':')
		return !d->is_shared && is_living(pid);
	n = strcspn(++end, "\n");
	return strlen(here.host) == n && strncmp(end, here.host, n) == 0 &&
	    is_living(pid);
}

/*
 * Returns true if a lock of kpopd from this host, boot and PID namespace is
 * stale. If its pid is the pid of a process, the process may be a later one.
 * Then the lock is stale if it is old and no process holds the kernel lock.
 */
static bool
is_left_here(const struct origin *from, bool is_old, bool held)
{
	return (from->pid > 0 && !is_living(from->pid)) || (is_old && !held);
}

/*
 * Returns true if the lock is stale.
 *
 * A lock of another program is stale if it is old and is_held_here returns
 * false. The pid alone does not decide, because it may be the pid of a process
 * on another host.
 *
 * A lock of kpopd from another host or PID namespace is stale if it is old. If
 * several hosts see the lock, it is also stale if no process holds the kernel
 * lock and the broker has not touched it in time. Only both together prove
 * that, because a file system may not report locks of another host, and may
 * keep a broker waiting. A lock of kpopd from an earlier boot is stale if it is
 * old, or if is_older_than_boot returns true.
 */
static bool
is_stale(struct dotlock *d, const struct stat *st, const char *text, bool held)
{
	time_t age = lock_age(d, st);
	bool is_old = age >= STALE_SECONDS;
	bool is_lost =
	    is_old || (d->is_shared && !held && age >= SHARED_TOUCHED_SECONDS);
	struct origin from;

	if (!read_origin(text, &from))
		return is_old && !is_held_here(d, text);
	if (here.host[0] == '\0' || strcmp(from.host, here.host) != 0)
		return is_lost;
	if (strcmp(from.boot, here.boot) != 0)
		return is_old || is_older_than_boot(age);
	return strcmp(from.space, here.space) == 0 ?
	    is_left_here(&from, is_old, held) :
	    is_lost;
}

/*
 * Returns true if a lock of this owner may be removed. An empty file of another
 * ordinary user may be a mailbox.
 */
static bool
is_trusted_owner(const struct dotlock *d, uid_t owner)
{
	return owner == 0 || owner == geteuid() || owner < d->least_uid;
}

/* Logs the obstacle at the dotlock's name, at most once for each connection. */
static void
log_obstacle_once(struct dotlock *d, const char *name, const char *why)
{
	if (!d->is_logged)
		log_obstacle(name, why);
	d->is_logged = true;
}

/*
 * Removes the file at `name` if it is a stale lock. Returns 0 if the caller can
 * try to make the dotlock again. Returns -1 with EAGAIN if the file is a lock
 * that is not stale. Returns -1 with another errno if only an administrator can
 * remove the file.
 */
static int
remove_stale(struct dotlock *d, const char *name)
{
	char text[LOCK_TEXT + 1];
	struct stat st, now;
	const char *why;
	bool stale, trusted, held;

	if (read_lock(name, &st, text, &held) == -1)
		return errno == ENOENT ? 0 : -1;
	if ((why = why_no_lock(&st, text)) != NULL) {
		log_obstacle_once(d, name, why);
		errno = EEXIST;
		return -1;
	}
	stale = is_stale(d, &st, text, held);
	trusted = is_trusted_owner(d, st.st_uid);
	if (!trusted)
		log_obstacle_once(d, name, "it belongs to another user");
	if (!stale || !trusted) {
		errno = stale ? EEXIST : EAGAIN;
		return -1;
	}
	/*
	 * Meanwhile another program may have replaced this lock by its own
	 * lock.
	 */
	if (lstat(name, &now) == -1 || now.st_dev != st.st_dev ||
	    now.st_ino != st.st_ino)
		return 0;
	if (unlink(name) == 0 || errno == ENOENT)
		return 0;
	log_obstacle_once(d, name, strerror(errno));
	return -1;
}

/*
 * Makes the dotlock. If the disk is full, the dotlock stays empty; that is no
 * error, because users must be able to remove mail from a full disk. Returns
 * the dotlock's descriptor, or -1 with errno.
 */
static int
make_dotlock(const char *name, bool is_shared)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	char text[LOCK_TEXT + 1];
	int fd = open(name,
	    O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	int n;

	if (fd == -1)
		return -1;
	n = snprintf(text, sizeof(text), "%d\n", is_shared ? 0 : getpid());
	/*
	 * A second line means that a broker holds a kernel lock on the file. So
	 * take the kernel lock first. A second line that does not fit is left
	 * out.
	 */
	if (fcntl(fd, F_OFD_SETLK, &lock) == 0 && here.host[0] != '\0') {
		int more = snprintf(text + n, sizeof(text) - (size_t)n,
		    is_shared ? "%s %s %s %d\n" : "%s %s %s\n", here.host,
		    here.boot, here.space, getpid());

		n += (size_t)more < sizeof(text) - (size_t)n ? more : 0;
	}
	/*
	 * Empty the file after a partial write, because a part of the pid may
	 * be the pid of another process.
	 */
	if (write(fd, text, (size_t)n) != n && ftruncate(fd, 0) == -1)
		log_dotlock_failure("writing", name);
	/* Permit other programs to read the pid. */
	fchmod(fd, 0644);
	return fd;
}

/* Returns true if the file at `name` is the dotlock that this process made. */
static bool
is_ours(const struct dotlock *d, const char *name)
{
	struct stat made, named;

	return fstat(d->fd, &made) == 0 && lstat(name, &named) == 0 &&
	    made.st_dev == named.st_dev && made.st_ino == named.st_ino;
}

/* Does what dotlock_take does. errno may also be ESTALE. */
static int
try_dotlock(struct dotlock *d)
{
	char name[PATH_MAX];

	if (name_dotlock(d->path, name) == -1)
		return -1;
	/*
	 * This broker may still hold the dotlock for a killed session when the
	 * recovery asks for it.
	 */
	if (d->fd != -1 && is_ours(d, name))
		return 0;
	if (d->fd != -1)
		close(d->fd);
	if ((d->fd = make_dotlock(name, d->is_shared)) != -1)
		return 0;
	if (errno != EEXIST || remove_stale(d, name) == -1)
		return -1;
	if ((d->fd = make_dotlock(name, d->is_shared)) != -1)
		return 0;
	if (errno == EEXIST)
		errno = EAGAIN;
	return -1;
}

int
dotlock_take(struct dotlock *d)
{
	int result = try_dotlock(d);

	/* Another host has just replaced the file that this host knows. */
	if (result == -1 && errno == ESTALE)
		errno = EAGAIN;
	return result;
}

void
dotlock_give(struct dotlock *d)
{
	char name[PATH_MAX];

	if (name_dotlock(d->path, name) == 0 && is_ours(d, name) &&
	    unlink(name) == -1)
		log_dotlock_failure("removing", name);
	close(d->fd);
	d->fd = -1;
}

void
dotlock_touch(const struct dotlock *d)
{
	char name[PATH_MAX] = "";

	errno = ENOENT;
	if (name_dotlock(d->path, name) == -1 || !is_ours(d, name) ||
	    futimens(d->fd, NULL) == -1)
		log_dotlock_failure("touching", name);
}
