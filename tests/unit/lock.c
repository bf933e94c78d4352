/*
 * Unit tests of lock.c: what a plan may say, whom the broker works for and what
 * it answers, a dotlock that is kept fresh, one on a full disk.
 * Runs as anybody. In place of a minute it waits 20 ms (poll), and liblockfile finds no space when told so.
 */
#include "config.h"

#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <lockfile.h>
#include <poll.h>
#include <stdbool.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "lock.h"
#include "log.h"
#include "tests/unit/check.h"

static bool is_full;
static volatile int *lines; /* how many were logged, in brokers, too */
static char directory[] = "/tmp/kpopd-lock.XXXXXX";
static char spool[64], dotlock[70];

int __real_poll(struct pollfd *, nfds_t, int);
int __wrap_poll(struct pollfd *, nfds_t, int);

int
__wrap_poll(struct pollfd *p, nfds_t n, int timeout)
{
	return __real_poll(p, n, timeout == -1 ? -1 : 20);
}

int __real_lockfile_create(const char *, int, int);
int __wrap_lockfile_create(const char *, int, int);

int
__wrap_lockfile_create(const char *name, int retries, int flags)
{
	if (!is_full)
		return __real_lockfile_create(name, retries, flags);
	errno = ENOSPC;
	return L_TMPWRITE;
}

void
log_event(int priority, const char *event, const char *format, ...)
{
	(void)priority, (void)event, (void)format;
	++*lines;
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
	static const char *const bad[] = { "", ",", "fcntl,", ",fcntl", "fcntl,fcntl", "FCNTL", "fcntl dotlock", "lockf", "fcntl,flock,dotlock,fcntl" };
	struct lock_plan plan;

	CHECK(lock_plan_read(&plan, "dotlock,flock,fcntl") == 0 && plan.count == 3 && plan.broker == -1 &&
	    plan.kinds[0] == LOCK_DOTLOCK && plan.kinds[1] == LOCK_FLOCK && plan.kinds[2] == LOCK_FCNTL);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		CHECK(lock_plan_read(&plan, bad[i]) == -1);
}

static void
who_needs_a_broker(void)
{
	struct lock_plan with, without;
	gid_t group;

	CHECK(lock_plan_read(&with, "fcntl,dotlock") == 0 && lock_plan_read(&without, "fcntl,flock") == 0);
	CHECK(!lock_needs_broker(&without, spool, &group));
	/* Root's alone; of somebody else, or for all to write; none. */
	CHECK(!lock_needs_broker(&with, "/alice", &group));
	CHECK(!lock_needs_broker(&with, "/tmp/alice", &group));
	CHECK(!lock_needs_broker(&with, spool, &group));
	CHECK(!lock_needs_broker(&with, "/nowhere/at/all/alice", &group));
	/* Only root can make one such. */
	if (geteuid() == 0) {
		CHECK(chown(directory, 0, 8) == 0 && chmod(directory, 02775) == 0);
		CHECK(lock_needs_broker(&with, spool, &group) && group == 8);
		CHECK(chown(directory, 0, 0) == 0 && chmod(directory, 0700) == 0);
	}
}

/* The answer to a verb: 0 or an errno. */
static int
say(int channel, char verb)
{
	unsigned char answer;

	CHECK(send(channel, &verb, 1, MSG_NOSIGNAL) == 1 && recv(channel, &answer, 1, 0) == 1);
	return answer;
}

/* A broker for path, in a process of its own. */
static int
start_broker(const char *path, pid_t *pid)
{
	int channel[2];

	CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, channel) == 0 && (*pid = fork()) != -1);
	if (*pid == 0) {
		close(channel[0]);
		lock_broker(channel[1], path);
		_exit(0);
	}
	close(channel[1]);
	return channel[0];
}

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
	const struct timespec long_ago[2] = { { .tv_sec = 1000 }, { .tv_sec = 1000 } };
	static char too_long[PATH_MAX];
	struct stat st;
	pid_t pid;
	int channel = start_broker(spool, &pid);

	CHECK(say(channel, 'U') == EINVAL && say(channel, 'X') == EINVAL && say(channel, '\0') == EINVAL);
	CHECK(say(channel, 'L') == 0 && stat(dotlock, &st) == 0 && st.st_size > 0);
	CHECK(say(channel, 'L') == EINVAL);
	/* It is touched while it is held, or after five minutes anybody may take it away. */
	CHECK(utimensat(AT_FDCWD, dotlock, long_ago, 0) == 0);
	for (int tries = 0; stat(dotlock, &st) == 0 && st.st_mtime == 1000 && tries < 500; tries++)
		__real_poll(NULL, 0, 10);
	CHECK(st.st_mtime > 1000 && *lines == 0);
	/* Where somebody has taken it away it goes on, and the log has it. */
	CHECK(unlink(dotlock) == 0);
	for (int tries = 0; *lines == 0 && tries < 500; tries++)
		__real_poll(NULL, 0, 10);
	CHECK(*lines > 0);
	CHECK(say(channel, 'U') == 0 && stat(dotlock, &st) == -1);
	/* Whose other end goes gives its lock back. */
	CHECK(say(channel, 'L') == 0 && stat(dotlock, &st) == 0);
	end_broker(channel, pid);
	CHECK(stat(dotlock, &st) == -1);
	/* Two octets are no verb, but the end. */
	channel = start_broker(spool, &pid);
	CHECK(say(channel, 'L') == 0 && send(channel, "LU", 2, MSG_NOSIGNAL) == 2);
	CHECK(recv(channel, too_long, 1, 0) == 0);
	end_broker(channel, pid);
	CHECK(stat(dotlock, &st) == -1);

	memset(too_long, 'x', sizeof(too_long) - 2);
	channel = start_broker(too_long, &pid);
	CHECK(say(channel, 'L') == ENAMETOOLONG);
	end_broker(channel, pid);
}

static void
full_disks(void)
{
	struct lock_plan plan;
	struct stat st;
	char name[PATH_MAX];

	CHECK(lock_plan_read(&plan, "dotlock") == 0);
	is_full = true;
	CHECK(lock_spool(&plan, -1, spool, true) == 0 && stat(dotlock, &st) == 0 && st.st_size == 0);
	unlock_spool(&plan, -1, spool);
	CHECK(stat(dotlock, &st) == -1);
	/* Neither can be made: with ".lock" behind it the name is too long. */
	snprintf(name, sizeof(name), "%s/%0252d", directory, 0);
	CHECK(lock_spool(&plan, -1, name, true) == -1 && errno == ENAMETOOLONG);
	is_full = false;
}

int
main(void)
{
	lines = mmap(NULL, sizeof(*lines), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK(lines != MAP_FAILED && mkdtemp(directory) != NULL);
	snprintf(spool, sizeof(spool), "%s/alice", directory);
	snprintf(dotlock, sizeof(dotlock), "%s.lock", spool);
	plans();
	who_needs_a_broker();
	brokers();
	full_disks();
	return rmdir(directory);
}
