/*
 * Reads the plan of a mailbox's locks. Takes fcntl locks and blocks signals on
 * behalf of other source files, for example lock-spool.c.
 *
 * lock_plan_read and lock_needs_group run as root, in main, the monitor and
 * --recover. lock_fcntl runs in the session and the recovery, as the owner of
 * the mailbox. The other functions run as root or as the owner.
 *
 * fcntl locks are open-file-description locks (fcntl(2)). They exclude the
 * POSIX locks that MDAs take. kpopd does not take POSIX locks, because such a
 * lock is lost when a library closes any other descriptor of the same file.
 */
#include "config.h"

#include <sys/stat.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>

#include "lock.h"
#include "path.h"

int
lock_plan_read(struct lock_plan *plan, const char *text)
{
	static const char *const names[LOCK_KINDS] = { "fcntl", "flock",
		"dotlock" };
	bool seen[LOCK_KINDS] = { false };

	*plan = (struct lock_plan){
		.broker = -1, .session = -1, .held = -1, .kept = -1
	};
	for (;;) {
		size_t n = strcspn(text, ",");
		int kind = 0;

		while (kind < LOCK_KINDS &&
		    (strlen(names[kind]) != n ||
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

bool
lock_needs_group(const struct lock_plan *plan, const char *path, gid_t *group)
{
	char directory[PATH_MAX];
	struct stat st;

	if (!lock_wants_dotlock(plan))
		return false;
	path_split(path, directory);
	if (lstat(directory, &st) == -1 || !S_ISDIR(st.st_mode))
		return false;
	*group = st.st_gid;
	return st.st_uid == 0 && (st.st_mode & S_IWOTH) == 0 &&
	    (st.st_mode & S_IWGRP) != 0;
}

int
lock_fcntl(int fd, short type)
{
	struct flock f = { .l_type = type, .l_whence = SEEK_SET };

	if (fcntl(fd, F_OFD_SETLK, &f) == 0)
		return 0;
	if (errno == EACCES)
		errno = EAGAIN;
	return -1;
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
