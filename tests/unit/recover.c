/*
 * Unit test of recovery. A state directory that cannot be read to its end never
 * counts as one without unfinished removals.
 *
 * Runs as any user.
 */
#include "config.h"

#include <sys/stat.h>
#include <sys/wait.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "lock-session.h"
#include "maildrop-state.h"
#include "process.h"
#include "recover.h"
#include "tests/unit/check.h"

static char top[] = "/tmp/kpopd-recover.XXXXXX";
static int user;           /* STATE/users/UID */
static bool is_unreadable; /* readdir fails */

struct dirent *__real_readdir(DIR *);
struct dirent *__wrap_readdir(DIR *);
void __wrap_syslog(int, const char *, ...);
void __wrap___syslog_chk(int, int, const char *, ...);

struct dirent *
__wrap_readdir(DIR *all)
{
	if (!is_unreadable)
		return __real_readdir(all);
	errno = EIO;
	return NULL;
}

void
__wrap_syslog(int priority, const char *format, ...)
{
	(void)priority, (void)format;
}

/* _FORTIFY_SOURCE renames syslog to this. */
void
__wrap___syslog_chk(int priority, int flag, const char *format, ...)
{
	(void)priority, (void)flag, (void)format;
}

/* Returns the exit status of recover_look for the user's directory. */
static int
look(void)
{
	pid_t pid = fork();
	int status;

	CHECK(pid != -1);
	if (pid == 0)
		recover_look(dup(user));
	CHECK(process_wait(pid, &status, 0) == 0 && WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void
look_for_journals(void)
{
	is_unreadable = true;
	CHECK(look() == RECOVERY_UNFINISHED);
	is_unreadable = false;
	CHECK(look() == RECOVERY_NOTHING);
}

/* Takes the mailbox as a session does. */
static enum drop_error
claim(const char *where)
{
	struct mailboxes boxes;
	struct lock_session lock = { .fd = -1 };
	const char *path;
	enum drop_error error;
	int state;

	CHECK(mailboxes_read(&boxes, where) == 0);
	CHECK((path = mailboxes_path(&boxes, "box", top)) != NULL);
	CHECK(maildrop_state_open(&boxes, path, user, &state) == DROP_OK);
	lock.fd = state;
	error = maildrop_state_claim(&boxes, path, user, state, &lock);
	close(lock.identity);
	close(state);
	return error;
}

static void
look_for_other_paths(void)
{
	is_unreadable = true;
	CHECK(claim("mbox:~/%u") == DROP_FAILED);
	is_unreadable = false;
	CHECK(claim("mbox:~/%u") == DROP_OK);
}

int
main(void)
{
	char command[100];

	CHECK(mkdtemp(top) != NULL && chdir(top) == 0);
	CHECK(mkdir("users", 0700) == 0 && mkdir("users/5555", 0700) == 0);
	CHECK((user = open("users/5555", O_RDONLY | O_DIRECTORY)) != -1);
	look_for_journals();
	look_for_other_paths();
	snprintf(command, sizeof(command), "rm -r %s", top);
	CHECK(system(command) == 0);
	return 0;
}
