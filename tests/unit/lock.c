/*
 * Tests lock.c, lock-session.c, lock-spool.c, lock-broker.c, lock-dotlock.c and
 * resolve.c. Runs as any user, but skips some cases unless it is run as root.
 *
 * The tests cover the syntax of lock plans (-l), the spool's group and stale
 * locks. They cover the broker's answers, the locks that the broker keeps, how
 * it touches the dotlock, a session lock that was lost, and a full disk. They
 * cover dotlocks that several hosts see, and the symlinks that resolve.c lets
 * root follow. The poll of this test waits 20 ms instead of a minute. While
 * is_full is set, write and pwrite fail as on a full disk.
 */
#include "config.h"

#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <poll.h>
#include <stdbool.h>
#include <signal.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "lock.h"
#include "lock-broker.h"
#include "lock-session.h"
#include "lock-spool.h"
#include "log.h"
#include "resolve.h"
#include "tests/unit/check.h"

static bool is_full;
static int full_error = ENOSPC; /* of write and pwrite while is_full is set */
static time_t up; /* seconds since the boot; if 0, the real ones */
/* the number of lines that this process and the brokers have logged */
static volatile int *lines;
static char directory[] = "/tmp/kpopd-lock.XXXXXX";
static char spool[64], dotlock[70];

int __real_poll(struct pollfd *, nfds_t, int);
int __wrap_poll(struct pollfd *, nfds_t, int);

int
__wrap_poll(struct pollfd *p, nfds_t n, int timeout)
{
	return __real_poll(p, n, timeout == -1 ? -1 : 20);
}

int __real_clock_gettime(clockid_t, struct timespec *);
int __wrap_clock_gettime(clockid_t, struct timespec *);

int
__wrap_clock_gettime(clockid_t clock, struct timespec *t)
{
	int result = __real_clock_gettime(clock, t);

	if (clock == CLOCK_BOOTTIME && up != 0)
		t->tv_sec = up;
	return result;
}

static bool is_shared;   /* all file systems count as those of a file server */
static time_t clock_lag; /* of this host's clock, in seconds */

time_t __real_time(time_t *);
time_t __wrap_time(time_t *);

time_t
__wrap_time(time_t *to)
{
	time_t now = __real_time(NULL) - clock_lag;

	if (to != NULL)
		*to = now;
	return now;
}

int __real_fstatfs(int, struct statfs *);
int __wrap_fstatfs(int, struct statfs *);

int
__wrap_fstatfs(int fd, struct statfs *fs)
{
	int result = __real_fstatfs(fd, fs);

	if (is_shared)
		fs->f_type = NFS_SUPER_MAGIC;
	return result;
}

/* What another program writes into its dotlock just before the next read. */
static const char *late;

ssize_t __real_read(int, void *, size_t);
ssize_t __wrap_read(int, void *, size_t);

ssize_t
__wrap_read(int fd, void *to, size_t size)
{
	struct stat own, named;
	int file;

	if (late != NULL && fstat(fd, &own) == 0 &&
	    stat(dotlock, &named) == 0 && own.st_ino == named.st_ino) {
		size_t n = strlen(late);

		CHECK((file = open(dotlock, O_WRONLY | O_CLOEXEC)) != -1 &&
		    write(file, late, n) == (ssize_t)n && close(file) == 0);
		late = NULL;
	}
	return __real_read(fd, to, size);
}

ssize_t __real_write(int, const void *, size_t);
ssize_t __wrap_write(int, const void *, size_t);

ssize_t
__wrap_write(int fd, const void *from, size_t size)
{
	if (!is_full)
		return __real_write(fd, from, size);
	errno = full_error;
	return -1;
}

ssize_t __real_pwrite(int, const void *, size_t, off_t);
ssize_t __wrap_pwrite(int, const void *, size_t, off_t);

ssize_t
__wrap_pwrite(int fd, const void *from, size_t size, off_t at)
{
	if (!is_full || size == 0)
		return __real_pwrite(fd, from, size, at);
	errno = full_error;
	return -1;
}

void
log_event(int priority, const char *event, const char *format, ...)
{
	(void)priority, (void)event, (void)format;
	++*lines;
}

void
log_failed(const char *format, ...)
{
	(void)format;
	++*lines;
}

void
log_failed_at(int priority, const char *why, const char *format, ...)
{
	(void)priority, (void)why, (void)format;
	++*lines;
}

const char *
log_safe(struct log_text *t, const char *text)
{
	(void)t;
	return text;
}

const char *
log_words(struct log_text *t, const char *text)
{
	(void)t;
	return text;
}

void
fatal(const char *format, ...)
{
	fprintf(stderr, "fatal: %s\n", format);
	abort();
}

static void
plans(void)
{
	static const char *const bad[] = { "", ",", "fcntl,", ",fcntl",
		"fcntl,fcntl", "FCNTL", "fcntl dotlock", "lockf",
		"fcntl,flock,dotlock,fcntl" };
	struct lock_plan plan;

	CHECK(lock_plan_read(&plan, "dotlock,flock,fcntl") == 0 &&
	    plan.count == 3 && plan.broker == -1 &&
	    plan.kinds[0] == LOCK_DOTLOCK && plan.kinds[1] == LOCK_FLOCK &&
	    plan.kinds[2] == LOCK_FCNTL);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		CHECK(lock_plan_read(&plan, bad[i]) == -1);
}

static void
group_is_needed_for_roots_directories(void)
{
	struct lock_plan with, without;
	gid_t group;

	CHECK(lock_plan_read(&with, "fcntl,dotlock") == 0 &&
	    lock_plan_read(&without, "fcntl,flock") == 0);
	CHECK(!lock_needs_group(&without, spool, &group));
	/*
	 * Only root can write to the first directory. Everyone can write to the
	 * second. The third belongs to another user. The fourth does not exist.
	 */
	CHECK(!lock_needs_group(&with, "/alice", &group));
	CHECK(!lock_needs_group(&with, "/tmp/alice", &group));
	CHECK(!lock_needs_group(&with, spool, &group));
	CHECK(!lock_needs_group(&with, "/nowhere/at/all/alice", &group));
	/*
	 * This case changes the group of the directory, which only root can do.
	 */
	if (geteuid() == 0) {
		CHECK(chown(directory, 0, 8) == 0 &&
		    chmod(directory, 02775) == 0);
		CHECK(lock_needs_group(&with, spool, &group) && group == 8);
		CHECK(chown(directory, 0, 0) == 0 &&
		    chmod(directory, 0700) == 0);
	}
}

/* Sends a verb. Returns the answer: 0 or an errno. */
static int
ask(int channel, char verb)
{
	unsigned char answer;

	CHECK(send(channel, &verb, 1, MSG_NOSIGNAL) == 1 &&
	    recv(channel, &answer, 1, 0) == 1);
	return answer;
}

/*
 * Sends a verb with n descriptors. Returns the answer, or -1 if the broker has
 * closed the channel.
 */
static int
pass(int channel, char verb, const int *fds, size_t n)
{
	struct iovec space = { .iov_base = &verb, .iov_len = 1 };
	union {
		char space[CMSG_SPACE(4 * sizeof(int))];
		struct cmsghdr align;
	} control = { .space = { 0 } };
	struct msghdr message = { .msg_iov = &space,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = CMSG_SPACE(n * sizeof(int)) };
	struct cmsghdr *c = CMSG_FIRSTHDR(&message);
	unsigned char answer;
	ssize_t got;

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(n * sizeof(int));
	memcpy(CMSG_DATA(c), fds, n * sizeof(int));
	CHECK(sendmsg(channel, &message, MSG_NOSIGNAL) == 1);
	CHECK((got = recv(channel, &answer, 1, 0)) >= 0);
	return got == 0 ? -1 : answer;
}

/* Returns the number of open descriptors below 256. */
static int
count_descriptors(void)
{
	int n = 0;

	for (int fd = 0; fd < 256; fd++)
		n += fcntl(fd, F_GETFD) != -1;
	return n;
}

/*
 * Starts a broker for path. When the channel to the session ends, the broker
 * serves the argument "next". This is the channel of a recovery, or -1 if there
 * is none. Stores the broker's pid in *pid. Returns the channel to the broker.
 */
static int
start_broker(const char *path, int next, pid_t *pid)
{
	static struct lock_plan plan;
	int channel[2];

	CHECK(lock_plan_read(&plan, "fcntl,dotlock") == 0);
	plan.least_uid = 1000;
	CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, channel) == 0 &&
	    (*pid = fork()) != -1);
	if (*pid == 0) {
		struct lock_kept kept;
		int before;

		close(channel[0]);
		lock_broker_prepare(&kept, &plan, path, NULL);
		before = count_descriptors();
		lock_broker(&kept, channel[1]);
		if (next != -1)
			lock_broker(&kept, next);
		lock_broker_end(&kept);
		/*
		 * The broker must have closed all descriptors that it received.
		 */
		_exit(count_descriptors() == before ? 0 : 1);
	}
	close(channel[1]);
	return channel[0];
}

/* Closes the channel, and checks that the broker ends without an error. */
static void
end_broker(int channel, pid_t pid)
{
	int status;

	close(channel);
	CHECK(waitpid(pid, &status, 0) == pid && status == 0);
}

static void
brokers(void)
{
	const struct timespec long_ago[2] = { { .tv_sec = 1000 },
		{ .tv_sec = 1000 } };
	static char too_long[PATH_MAX];
	struct stat st;
	pid_t pid;
	int channel = start_broker(spool, -1, &pid);

	CHECK(ask(channel, 'U') == EINVAL && ask(channel, 'X') == EINVAL &&
	    ask(channel, '\0') == EINVAL);
	CHECK(ask(channel, 'L') == 0 && stat(dotlock, &st) == 0 &&
	    st.st_size > 0 && (st.st_mode & 0777) == 0644);
	/* A recovery asks for the dotlock while the broker still holds it. */
	CHECK(ask(channel, 'L') == 0);
	/*
	 * The broker must touch the dotlock as long as the broker holds it.
	 * Otherwise other programs could remove the dotlock after five minutes.
	 */
	CHECK(utimensat(AT_FDCWD, dotlock, long_ago, 0) == 0);
	for (int tries = 0;
	     stat(dotlock, &st) == 0 && st.st_mtime == 1000 && tries < 500;
	     tries++)
		__real_poll(NULL, 0, 10);
	CHECK(st.st_mtime > 1000 && *lines == 0);
	/*
	 * If another program removes the dotlock, the broker logs that and
	 * continues.
	 */
	CHECK(unlink(dotlock) == 0);
	for (int tries = 0; *lines == 0 && tries < 500; tries++)
		__real_poll(NULL, 0, 10);
	CHECK(*lines > 0);
	/* A dotlock that another program has made instead is not removed. */
	CHECK(close(open(dotlock, O_WRONLY | O_CREAT, 0600)) == 0);
	CHECK(ask(channel, 'U') == 0 && stat(dotlock, &st) == 0 &&
	    unlink(dotlock) == 0);
	/* The broker removes the dotlock when the other end is closed. */
	CHECK(ask(channel, 'L') == 0 && stat(dotlock, &st) == 0);
	end_broker(channel, pid);
	CHECK(stat(dotlock, &st) == -1);
	/* A packet of two bytes is not a verb, so it ends the broker. */
	channel = start_broker(spool, -1, &pid);
	CHECK(ask(channel, 'L') == 0 &&
	    send(channel, "LU", 2, MSG_NOSIGNAL) == 2);
	CHECK(recv(channel, too_long, 1, 0) == 0);
	end_broker(channel, pid);
	CHECK(stat(dotlock, &st) == -1);

	/*
	 * The directory is writable, so the broker tries to make the dotlock.
	 */
	memset(too_long, 'x', sizeof(too_long) - 2);
	memcpy(too_long, spool, (size_t)(strrchr(spool, '/') + 1 - spool));
	channel = start_broker(too_long, -1, &pid);
	CHECK(ask(channel, 'L') != 0);
	end_broker(channel, pid);
}

/* Locks or unlocks all of a file. Returns 0, or -1 with errno. */
static int
take_lock(int fd, short type)
{
	struct flock f = { .l_type = type, .l_whence = SEEK_SET };

	return fcntl(fd, F_OFD_SETLK, &f);
}

/* Opens a file, and makes it if it is absent. Returns its descriptor. */
static int
open_file(const char *name)
{
	int fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	CHECK(fd != -1);
	return fd;
}

/*
 * The broker keeps two regular files of the user, and accepts no others. The
 * locks of these files and the dotlock must outlive the session.
 */
static void
kept_locks(void)
{
	char name[80];
	int ends[2], next[2], fds[3], channel, other;
	struct stat st;
	pid_t pid;

	snprintf(name, sizeof(name), "%s/session", directory);
	CHECK(pipe(ends) == 0 &&
	    socketpair(AF_UNIX, SOCK_SEQPACKET, 0, next) == 0);
	fds[0] = open_file(spool);
	fds[1] = open_file(name);
	fds[2] = fds[0];
	channel = start_broker(spool, next[1], &pid);
	close(next[1]);
	CHECK(pass(channel, 'K', fds, 1) == EINVAL &&
	    pass(channel, 'L', fds, 2) == EINVAL &&
	    pass(channel, 'X', fds, 2) == EINVAL);
	CHECK(pass(channel, 'K', (const int[]){ fds[0], ends[0] }, 2) ==
	    EINVAL);
	CHECK(pass(channel, 'K', (const int[]){ fds[0], channel }, 2) ==
		EINVAL &&
	    ask(channel, 'K') == EINVAL);
	CHECK(pass(channel, 'K',
		  (const int[]){
		      open("/dev/null", O_RDWR | O_CLOEXEC), fds[1] },
		  2) == EINVAL);
	if (geteuid() != 0)
		CHECK(pass(channel, 'K',
			  (const int[]){
			      open("/etc/passwd", O_RDONLY | O_CLOEXEC),
			      fds[1] },
			  2) == EINVAL);
	CHECK(pass(channel, 'K', fds, 2) == 0 &&
	    pass(channel, 'K', fds, 2) == 0 && ask(channel, 'L') == 0);
	CHECK(take_lock(fds[0], F_WRLCK) == 0 &&
	    take_lock(fds[1], F_WRLCK) == 0);
	/*
	 * Close the session's descriptors, as the kernel does if the session is
	 * killed.
	 */
	close(fds[0]);
	close(fds[1]);
	close(channel);
	/* Now the broker serves the recovery. */
	CHECK(ask(next[0], 'L') == 0);
	fds[0] = open_file(spool);
	fds[1] = open_file(name);
	CHECK(take_lock(fds[0], F_RDLCK) == -1 &&
	    take_lock(fds[1], F_WRLCK) == -1 && stat(dotlock, &st) == 0);
	/* A packet with more than two descriptors ends the broker. */
	CHECK(pass(next[0], 'K', fds, 3) == -1);
	end_broker(next[0], pid);
	CHECK(take_lock(fds[0], F_WRLCK) == 0 &&
	    take_lock(fds[1], F_WRLCK) == 0 && stat(dotlock, &st) == -1);
	/*
	 * If the session releases a lock, the broker no longer holds this lock
	 * either.
	 */
	channel = start_broker(spool, -1, &pid);
	CHECK(pass(channel, 'K', fds, 2) == 0 &&
	    take_lock(fds[0], F_UNLCK) == 0);
	other = open_file(spool);
	CHECK(take_lock(other, F_WRLCK) == 0);
	end_broker(channel, pid);
	CHECK(unlink(name) == 0 && unlink(spool) == 0);
}

/*
 * On a full disk the session lock names no principal, so no login asks this
 * session to end. One line is logged.
 */
static void
full_disk_signs_nothing(void)
{
	struct lock_session l = { .fd = -1 };
	struct stat st;
	char name[80];
	int state = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	CHECK(lock_session(state, "alice@EXAMPLE.ORG", &l) == 0);
	CHECK(fstat(l.fd, &st) == 0 && st.st_size == 17);
	lock_session_release(&l);
	*lines = 0;
	is_full = true;
	CHECK(lock_session(state, "alice@EXAMPLE.ORG", &l) == 0);
	is_full = false;
	CHECK(fstat(l.fd, &st) == 0 && st.st_size == 0);
	CHECK(*lines == 1);
	*lines = 0;
	lock_session_release(&l);
	snprintf(name, sizeof(name), "%s/yield", directory);
	CHECK(unlink(name) == 0);
	snprintf(name, sizeof(name), "%s/session", directory);
	CHECK(unlink(name) == 0 && close(state) == 0);
}

/* A recovery takes over only the session lock of its own state directory. */
static void
take_over(void)
{
	struct lock_session l = { .fd = -1 }, second = { .fd = -1 };
	char name[80];
	int state = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int other = open_file(spool), copy;

	CHECK(lock_session(state, NULL, &l) == 0);
	CHECK((copy = fcntl(l.fd, F_DUPFD_CLOEXEC, 0)) != -1);
	CHECK(!lock_session_kept(state, -1) &&
	    !lock_session_kept(state, other) && lock_session_kept(state, copy));
	/*
	 * If the session that is asked to end has already closed the FIFO, that
	 * is not worth a line of the log.
	 */
	CHECK(pwrite(l.fd, "a@B", 3, 0) == 3);
	is_full = true, full_error = EPIPE, *lines = 0;
	CHECK(lock_session(state, "a@B", &second) == -1 && errno == EAGAIN &&
	    *lines == 0);
	full_error = EACCES;
	CHECK(lock_session(state, "a@B", &second) == -1 && *lines > 0);
	is_full = false, full_error = ENOSPC, *lines = 0;
	/* The lock can be released while a copy of its descriptor is open. */
	lock_session_release(&l);
	CHECK(lock_session(state, NULL, &l) == 0 &&
	    !lock_session_kept(state, copy));
	snprintf(name, sizeof(name), "%s/yield", directory);
	CHECK(unlink(name) == 0);
	snprintf(name, sizeof(name), "%s/session", directory);
	CHECK(unlink(name) == 0 && unlink(spool) == 0);
}

/*
 * If a session has lost its session lock and another session has it, the first
 * one does not lock the spool for writing. It releases the spool's locks. A
 * file server takes a lock away without a word; here a copy of the descriptor
 * releases it.
 */
static void
lost_session_lock(void)
{
	struct lock_session one = { .fd = -1 }, two = { .fd = -1 };
	int state = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int fd = open_file(spool), other = open_file(spool);
	struct lock_plan plan;
	char name[80];

	CHECK(lock_plan_read(&plan, "fcntl") == 0 &&
	    lock_session(state, NULL, &one) == 0);
	plan.held = one.fd;
	CHECK(lock_spool(&plan, fd, true) == 0);
	lock_spool_release(&plan, fd);
	CHECK(take_lock(dup(one.fd), F_UNLCK) == 0 &&
	    lock_session(state, NULL, &two) == 0);
	CHECK(lock_spool(&plan, fd, true) == -1 && errno == EAGAIN &&
	    take_lock(other, F_WRLCK) == 0 && take_lock(other, F_UNLCK) == 0);
	/* Reading harms nothing. */
	CHECK(lock_spool(&plan, fd, false) == 0);
	lock_spool_release(&plan, fd);
	/* The other session has ended, so the first one has the lock again. */
	lock_session_release(&two);
	CHECK(lock_spool(&plan, fd, true) == 0 &&
	    lock_session(state, NULL, &two) == -1);
	lock_spool_release(&plan, fd);
	lock_session_release(&one);
	snprintf(name, sizeof(name), "%s/session", directory);
	CHECK(unlink(name) == 0 && unlink(spool) == 0);
	snprintf(name, sizeof(name), "%s/yield", directory);
	CHECK(unlink(name) == 0 && close(fd) == 0 && close(other) == 0 &&
	    close(state) == 0);
}

/*
 * The lock of an identity excludes other sessions of the same identity until
 * its session releases the lock.
 */
static void
identities(void)
{
	struct lock_session one = { .fd = -1, .identity = -1 },
			    two = { .fd = -1, .identity = -1 };
	char name[80];
	int state = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	CHECK(lock_session(state, NULL, &one) == 0 && one.identity == -1);
	CHECK(lock_session_identity(state, UINT64_MAX, &one) == 0);
	CHECK(lock_session_identity(state, UINT64_MAX, &two) == -1 &&
	    errno == EAGAIN && two.identity == -1);
	CHECK(lock_session_identity(state, 0, &two) == 0 &&
	    close(two.identity) == 0);
	lock_session_release(&one);
	CHECK(one.identity == -1 &&
	    lock_session_identity(state, UINT64_MAX, &two) == 0 &&
	    close(two.identity) == 0);
	snprintf(name, sizeof(name), "%s/places", directory);
	CHECK(unlink(name) == 0 && symlink("/dev/null", name) == 0);
	CHECK(lock_session_identity(state, 0, &two) == -1 && errno == ELOOP &&
	    unlink(name) == 0);
	snprintf(name, sizeof(name), "%s/yield", directory);
	CHECK(unlink(name) == 0);
	snprintf(name, sizeof(name), "%s/session", directory);
	CHECK(unlink(name) == 0 && close(state) == 0);
}

/*
 * If other hosts may see the state directory, a login that finds the session
 * lock taken leaves a request in a file, which the session finds once. The user
 * may put anything in the file's place.
 */
static void
requests_of_other_hosts(void)
{
	struct lock_session one = { .fd = -1 }, two = { .fd = -1 };
	int state = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	char file[80], name[80];
	struct stat st;

	snprintf(file, sizeof(file), "%s/takeover", directory);
	CHECK(lock_session(state, "a@B", &one) == 0);
	CHECK(lock_session_look(&one) == -1);
	CHECK(lock_session(state, "a@B", &two) == -1 && errno == EAGAIN &&
	    stat(file, &st) == -1);
	is_shared = true;
	CHECK(lock_session_look(&one) == 0);
	/* Only a login of the same principal asks. */
	CHECK(lock_session(state, "b@B", &two) == -1 && errno == EAGAIN &&
	    stat(file, &st) == -1);
	CHECK(lock_session(state, "a@B", &two) == -1 && errno == EAGAIN &&
	    stat(file, &st) == 0 && (st.st_mode & 0777) == 0600);
	CHECK(lock_session_look(&one) == 1 && lock_session_look(&one) == 0);
	CHECK(lock_session(state, "a@B", &two) == -1 &&
	    lock_session_look(&one) == 1);
	CHECK(*lines == 0);
	CHECK(unlink(file) == 0 && lock_session_look(&one) == 0);
	CHECK(mkfifo(file, 0600) == 0 && lock_session_look(&one) == 0);
	CHECK(unlink(file) == 0 && symlink("/dev/zero", file) == 0 &&
	    lock_session_look(&one) == 0);
	CHECK(unlink(file) == 0 && mkdir(file, 0700) == 0 &&
	    lock_session_look(&one) == 0);
	CHECK(lock_session(state, "a@B", &two) == -1 && errno == EAGAIN &&
	    *lines > 0);
	is_shared = false, *lines = 0;
	lock_session_release(&one);
	CHECK(rmdir(file) == 0);
	snprintf(name, sizeof(name), "%s/yield", directory);
	CHECK(unlink(name) == 0);
	snprintf(name, sizeof(name), "%s/session", directory);
	CHECK(unlink(name) == 0 && close(state) == 0);
}

/* Writes a dotlock of n bytes that was touched age seconds ago. */
static void
put_dotlock(const char *text, size_t n, int age)
{
	struct timespec times[2];
	int fd;

	unlink(dotlock);
	CHECK((fd = open(dotlock, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC,
		   0600)) != -1);
	CHECK(write(fd, text, n) == (ssize_t)n);
	times[0] = times[1] =
	    (struct timespec){ .tv_sec = __real_time(NULL) - age };
	CHECK(futimens(fd, times) == 0 && close(fd) == 0);
}

/*
 * Returns true if the broker removes the given dotlock and makes its own. If
 * the broker does not, checks that the dotlock is unchanged and that the
 * broker's answer is the errno "answer".
 */
static bool
is_removed(const char *text, size_t n, int age, int answer)
{
	char now[300];
	pid_t pid;
	int channel, answered, fd;

	put_dotlock(text, n, age);
	channel = start_broker(spool, -1, &pid);
	answered = ask(channel, 'L');
	if (answered != 0) {
		CHECK(answered == answer &&
		    (fd = open(dotlock, O_RDONLY | O_CLOEXEC)) != -1);
		CHECK(read(fd, now, sizeof(now)) == (ssize_t)n &&
		    memcmp(now, text, n) == 0 && close(fd) == 0);
	}
	end_broker(channel, pid);
	CHECK((unlink(dotlock) == 0) == (answered != 0));
	return answered == 0;
}

/*
 * Returns true if the given dotlock stays while its file is locked, as a broker
 * locks it, and is removed after the file is unlocked. While the file is not
 * locked, the pid in the dotlock counts as the pid of an unrelated process.
 */
static bool
is_held_while_locked(const char *text, size_t n, int age)
{
	pid_t pid;
	int channel, fd, held, free;

	put_dotlock(text, n, age);
	CHECK((fd = open(dotlock, O_RDWR | O_CLOEXEC)) != -1 &&
	    take_lock(fd, F_WRLCK) == 0);
	channel = start_broker(spool, -1, &pid);
	held = ask(channel, 'L');
	CHECK(take_lock(fd, F_UNLCK) == 0);
	free = ask(channel, 'L');
	/* The broker locks the dotlock that it makes. */
	if (free == 0)
		CHECK(close(fd) == 0 &&
		    (fd = open(dotlock, O_RDWR | O_CLOEXEC)) != -1 &&
		    take_lock(fd, F_WRLCK) == -1);
	close(fd);
	end_broker(channel, pid);
	return held == EAGAIN && free == 0;
}

/* Reads the second line of a dotlock of kpopd: host, boot and namespace. */
static void
find_line(char *line, size_t size)
{
	char text[200];
	pid_t pid;
	int channel = start_broker(spool, -1, &pid), fd;
	ssize_t n;

	CHECK(ask(channel, 'L') == 0 &&
	    (fd = open(dotlock, O_RDONLY | O_CLOEXEC)) != -1);
	CHECK((n = read(fd, text, sizeof(text) - 1)) > 0 && close(fd) == 0);
	text[n] = '\0';
	CHECK(atoi(text) == pid && strchr(text, '\n') != NULL);
	strlcpy(line, strchr(text, '\n') + 1, size);
	end_broker(channel, pid);
}

/* Returns the pid of a process that has ended. */
static pid_t
dead_process(void)
{
	pid_t pid = fork();

	if (pid == 0)
		_exit(0);
	CHECK(pid != -1 && waitpid(pid, NULL, 0) == pid);
	return pid;
}

/*
 * Stale locks are removed. Other locks are kept, and so are files that are not
 * locks.
 */
static void
stale_locks(void)
{
	char ours[128], dead[16], living[16], text[300];
	static const char mail[] = "From a Mon Nov 23 05:00:00 2026\n\nx\n";
	const int old = 360, fresh = 240, before_boot = 1000000000;
	size_t n;

	snprintf(dead, sizeof(dead), "%d\n", dead_process());
	snprintf(living, sizeof(living), "%d\n", getpid());
	/*
	 * If there is no second line, the lock is stale only if it is old and
	 * its pid is not in use.
	 */
	CHECK(!is_removed(dead, strlen(dead), fresh, EAGAIN) &&
	    is_removed(dead, strlen(dead), old, 0));
	CHECK(!is_removed(living, strlen(living), old, EAGAIN) &&
	    !is_removed(dead, strlen(dead), -3600, EAGAIN));
	CHECK(!is_removed("", 0, fresh, EAGAIN) && is_removed("", 0, old, 0));
	CHECK(is_removed("0", 1, old, 0) &&
	    !is_removed("0", 1, fresh, EAGAIN) &&
	    is_removed("4000000:host\n", 13, old, 0));
	/* These files are not locks, however old they are. */
	CHECK(!is_removed(mail, sizeof(mail) - 1, old, EEXIST) &&
	    !is_removed("From ", 5, old, EEXIST));
	CHECK(!is_removed("1\0", 2, old, EEXIST) &&
	    !is_removed("1\n\n\n\n\n", 6, old, EEXIST) &&
	    !is_removed("\xc3\xa4", 2, old, EEXIST));
	memset(text, '1', sizeof(text));
	CHECK(is_removed(text, 128, old, 0) &&
	    !is_removed(text, 129, old, EEXIST));

	find_line(ours, sizeof(ours));
	n = (size_t)snprintf(text, sizeof(text), "%s%s", dead, ours);
	CHECK(n <= 128 && is_removed(text, n, 0, 0));
	n = (size_t)snprintf(text, sizeof(text), "%s%s", living, ours);
	CHECK(!is_removed(text, n, fresh, EAGAIN) &&
	    is_held_while_locked(text, n, old));
	/*
	 * If the namespace or the host differs, only the age decides, because
	 * the process cannot be seen from here.
	 */
	n = (size_t)snprintf(text, sizeof(text), "%s%.*s1\n", dead,
	    (int)strlen(ours) - 1, ours);
	CHECK(!is_removed(text, n, fresh, EAGAIN) &&
	    is_removed(text, n, old, 0));
	n = (size_t)snprintf(text, sizeof(text), "%sx%s", dead, ours);
	CHECK(!is_removed(text, n, fresh, EAGAIN) &&
	    is_removed(text, n, old, 0));
	/*
	 * A lock of an earlier boot is stale at once, unless it was touched
	 * after this boot.
	 */
	n = (size_t)snprintf(text, sizeof(text), "%s%s", living, ours);
	memcpy(strchr(strchr(text, '\n'), ' ') + 1, "00000000", 8);
	CHECK(!is_removed(text, n, 0, EAGAIN) &&
	    is_removed(text, n, before_boot, 0));
	/*
	 * Another host may have the same name, and a lock that this host uses
	 * may be a minute old. Such a lock must not be removed just after this
	 * machine has started.
	 */
	up = 10;
	CHECK(!is_removed(text, n, 61, EAGAIN) && is_removed(text, n, 150, 0));
	up = 140;
	CHECK(!is_removed(text, n, 130, EAGAIN) && is_removed(text, n, 150, 0));
	up = 0;
}

/*
 * On a file system that other hosts see, a pid of another program may be that
 * of a process of another host. So only the age decides, unless the lock names
 * this host.
 */
static void
shared_locks_of_others(void)
{
	char living[16], text[128], host[HOST_NAME_MAX + 1];
	const int old = 360, fresh = 240;

	CHECK(gethostname(host, sizeof(host)) == 0);
	snprintf(living, sizeof(living), "%d\n", getpid());
	CHECK(!is_removed(living, strlen(living), old, EAGAIN));
	snprintf(text, sizeof(text), "%d:%s.other\n", getpid(), host);
	CHECK(is_removed(text, strlen(text), old, 0));
	is_shared = true;
	CHECK(is_removed(living, strlen(living), old, 0) &&
	    !is_removed(living, strlen(living), fresh, EAGAIN));
	CHECK(is_removed(text, strlen(text), old, 0) &&
	    !is_removed(text, strlen(text), fresh, EAGAIN));
	snprintf(text, sizeof(text), "%d:%s\n", getpid(), host);
	CHECK(!is_removed(text, strlen(text), old, EAGAIN));
	/*
	 * The file server's clock decides, and not this host's clock, which is
	 * ten minutes slow or fast here.
	 */
	clock_lag = 600;
	CHECK(is_removed(living, strlen(living), old, 0) &&
	    !is_removed(living, strlen(living), fresh, EAGAIN));
	clock_lag = -600;
	CHECK(is_removed(living, strlen(living), old, 0) &&
	    !is_removed(living, strlen(living), fresh, EAGAIN));
	clock_lag = 0;
	is_shared = false;
}

/*
 * On such a file system the first line of kpopd's dotlock contains no pid for
 * other programs, and the dotlock of a dead broker of another host is removed
 * when the broker has missed two touches and no process holds the kernel lock.
 */
static void
shared_locks_of_brokers(void)
{
	char ours[128], text[300], other[310];
	const int touched = 30, missed = 45, old = 360;
	struct stat st;
	pid_t pid;
	int channel, fd;
	ssize_t size;
	size_t n;

	is_shared = true;
	channel = start_broker(spool, -1, &pid);
	CHECK(ask(channel, 'L') == 0 &&
	    (fd = open(dotlock, O_RDONLY | O_CLOEXEC)) != -1);
	CHECK((size = read(fd, text, sizeof(text) - 1)) > 0 && close(fd) == 0);
	n = (size_t)size;
	text[n] = '\0';
	end_broker(channel, pid);
	snprintf(ours, sizeof(ours), " %d\n", (int)pid);
	CHECK(atoi(text) == 0 && strncmp(text, "0\n", 2) == 0 &&
	    strcmp(strrchr(text, ' '), ours) == 0);
	/* The broker has ended, and its pid is known on this host. */
	CHECK(is_removed(text, n, 0, 0));
	snprintf(other, sizeof(other), "0\nx%s", text + 2);
	n = strlen(other);
	CHECK(!is_removed(other, n, touched, EAGAIN) &&
	    is_removed(other, n, missed, 0));
	CHECK(is_held_while_locked(other, n, missed));
	/* A kernel lock does not protect a lock that is five minutes old. */
	put_dotlock(other, n, old);
	CHECK((fd = open(dotlock, O_RDWR | O_CLOEXEC)) != -1 &&
	    take_lock(fd, F_WRLCK) == 0);
	channel = start_broker(spool, -1, &pid);
	CHECK(ask(channel, 'L') == 0);
	end_broker(channel, pid);
	CHECK(close(fd) == 0 && stat(dotlock, &st) == -1);
	is_shared = false;
	CHECK(!is_removed(other, n, missed, EAGAIN));
}

/*
 * A program makes its dotlock and then writes into it. If the broker looks in
 * between, the file is a lock that is not stale.
 */
static void
half_written(void)
{
	pid_t pid;
	int channel;

	put_dotlock("", 0, 0);
	late = "1:mail.kpopd.test";
	*lines = 0;
	channel = start_broker(spool, -1, &pid);
	CHECK(ask(channel, 'L') == EAGAIN && *lines == 0);
	CHECK(ask(channel, 'L') == EAGAIN && *lines == 0);
	CHECK(unlink(dotlock) == 0 && ask(channel, 'L') == 0);
	end_broker(channel, pid);
	late = NULL;
}

/*
 * An empty file of another ordinary user may be a mailbox, so it is not
 * removed.
 */
static void
owners(void)
{
	static const struct {
		uid_t uid;
		bool stays;
	} owners[] = { { 0, false }, { 8, false }, { 999, false },
		{ 1000, true }, { 65534, true } };
	struct stat st;

	if (geteuid() != 0)
		return;
	for (size_t i = 0; i < sizeof(owners) / sizeof(owners[0]); i++) {
		pid_t pid;
		int channel;

		put_dotlock("", 0, 3600);
		CHECK(chown(dotlock, owners[i].uid, 8) == 0);
		*lines = 0;
		channel = start_broker(spool, -1, &pid);
		CHECK(ask(channel, 'L') == (owners[i].stays ? EEXIST : 0));
		/* The broker logs the refusal only once. */
		CHECK(!owners[i].stays ||
		    (ask(channel, 'L') == EEXIST && *lines == 1));
		end_broker(channel, pid);
		CHECK((stat(dotlock, &st) == 0) == owners[i].stays);
		unlink(dotlock);
	}
	*lines = 0;
}

/*
 * A FIFO, a directory or a symlink in place of the dotlock is an error. The
 * broker does not wait for a FIFO and does not follow the symlink.
 */
static void
obstacles(void)
{
	pid_t pid;
	int channel = start_broker(spool, -1, &pid);

	CHECK(mkfifo(dotlock, 0666) == 0 && ask(channel, 'L') == EEXIST &&
	    unlink(dotlock) == 0);
	CHECK(mkdir(dotlock, 0700) == 0 && ask(channel, 'L') == EEXIST &&
	    rmdir(dotlock) == 0);
	CHECK(symlink("/no/such/place", dotlock) == 0 &&
	    ask(channel, 'L') == EEXIST && unlink(dotlock) == 0);
	CHECK(ask(channel, 'L') == 0);
	end_broker(channel, pid);
}

static void
full_disks(void)
{
	char name[PATH_MAX];
	struct stat st;
	pid_t pid;
	int channel;

	is_full = true;
	channel = start_broker(spool, -1, &pid);
	CHECK(ask(channel, 'L') == 0 && stat(dotlock, &st) == 0 &&
	    st.st_size == 0);
	CHECK(ask(channel, 'U') == 0 && stat(dotlock, &st) == -1);
	end_broker(channel, pid);
	is_full = false;
	/* The name is too long with ".lock" appended. */
	snprintf(name, sizeof(name), "%s/%0252d", directory, 0);
	channel = start_broker(name, -1, &pid);
	CHECK(ask(channel, 'L') == ENAMETOOLONG);
	end_broker(channel, pid);
}

/*
 * Returns true if resolve.c resolves "path" to the path in "to". If "to" is
 * NULL, returns true if "path" is not resolved.
 */
static bool
leads_to(const char *path, const char *to)
{
	char resolved[PATH_MAX];
	const char *reason = resolve_directory(path, resolved);

	return to == NULL ? reason != NULL && reason[0] != '\0' :
			    reason == NULL && strcmp(resolved, to) == 0;
}

/* Tests symlinks on the way to a spool, in a directory that belongs to root. */
static void
symlinks(void)
{
	static char top[] = "/var/lib/kpopd-lock.XXXXXX";
	char path[PATH_MAX], real[PATH_MAX];

	CHECK(leads_to("/alice", "/alice") &&
	    leads_to("//usr/./bin/../bin//alice", "/usr/bin/alice"));
	CHECK(leads_to("/no/such/place/alice", NULL) &&
	    leads_to("/etc/passwd/alice", NULL));
	/* All users can write to /tmp. */
	CHECK(leads_to("/tmp/alice", "/tmp/alice") &&
	    leads_to("/tmp/x/alice", NULL));
	if (geteuid() != 0)
		return;
	CHECK(mkdtemp(top) != NULL && chdir(top) == 0 && chmod(top, 0755) == 0);
	CHECK(mkdir("mail", 02775) == 0 && chmod("mail", 02775) == 0 &&
	    mkdir("spool", 0755) == 0);
	CHECK(symlink("../mail", "spool/mail") == 0 &&
	    symlink("loop", "loop") == 0);
	snprintf(real, sizeof(real), "%s/mail/alice", top);
	snprintf(path, sizeof(path), "%s/spool/mail/alice", top);
	CHECK(leads_to(path, real));
	snprintf(path, sizeof(path), "%s/absolute/alice", top);
	snprintf(real, sizeof(real), "%s/spool/mail", top);
	CHECK(symlink(real, "absolute") == 0);
	snprintf(real, sizeof(real), "%s/mail/alice", top);
	CHECK(leads_to(path, real));
	snprintf(path, sizeof(path), "%s/loop/alice", top);
	CHECK(leads_to(path, NULL));
	/*
	 * Other users can write to the directory, so they could change where
	 * the path leads.
	 */
	snprintf(path, sizeof(path), "%s/spool/mail/alice", top);
	CHECK(chmod("spool", 0775) == 0 && leads_to(path, NULL));
	CHECK(chmod("spool", 0757) == 0 && leads_to(path, NULL));
	CHECK(chmod("spool", 0755) == 0 && chown("spool", 1000, 0) == 0 &&
	    leads_to(path, NULL));
	CHECK(chdir("/") == 0);
	snprintf(path, sizeof(path), "rm -r %s", top);
	CHECK(system(path) == 0);
}

int
main(void)
{
	lines = mmap(NULL, sizeof(*lines), PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK(lines != MAP_FAILED && mkdtemp(directory) != NULL);
	snprintf(spool, sizeof(spool), "%s/alice", directory);
	snprintf(dotlock, sizeof(dotlock), "%s.lock", spool);
	plans();
	group_is_needed_for_roots_directories();
	brokers();
	kept_locks();
	full_disk_signs_nothing();
	take_over();
	lost_session_lock();
	identities();
	requests_of_other_hosts();
	stale_locks();
	shared_locks_of_others();
	shared_locks_of_brokers();
	half_written();
	owners();
	obstacles();
	full_disks();
	symlinks();
	return rmdir(directory);
}
