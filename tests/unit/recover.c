/*
 * Unit tests of recovery. A state directory that cannot be read to its end
 * never counts as one without unfinished removals. A recovery can prolong its
 * time only once. --recover prints a line, however a process ends.
 *
 * Runs as any user. The children keep that user's rights.
 */
#include "config.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "lock-session.h"
#include "log.h"
#include "maildrop-state.h"
#include "message.h"
#include "privsep.h"
#include "process.h"
#include "recover.h"
#include "recover-all.h"
#include "tests/unit/check.h"

static char top[] = "/tmp/kpopd-recover.XXXXXX";
static int user;           /* STATE/users/UID */
static bool is_unreadable; /* readdir fails */

/* what the process for a mailbox does when it looks the account up */
static enum { FIND, FAIL, CRASH } lookup;
static int locks; /* how often the recovery reports that it is locked */

const char *__wrap_account_find_uid(uid_t, const struct account_uids *,
    struct account *);
void __wrap_privsep_become(const struct account *);
void __wrap_recover_by_hand(const struct session *, int);
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

const char *
__wrap_account_find_uid(uid_t uid, const struct account_uids *uids,
    struct account *a)
{
	(void)uids;
	if (lookup == FAIL)
		fatal("the lookup");
	if (lookup == CRASH)
		raise(SIGKILL);
	*a = (struct account){ .name = "box", .uid = uid };
	strlcpy(a->home, top, sizeof(a->home));
	return NULL;
}

void
__wrap_privsep_become(const struct account *a)
{
	(void)a;
}

/* Replaces a recovery. It finishes if it may send its messages. */
void
__wrap_recover_by_hand(const struct session *s, int channel)
{
	char end;

	for (int i = 0; i < locks; i++)
		message_send_session(channel, MESSAGE_LOCKED, "");
	/* Wait until the messages are read. If one is wrong, this is killed. */
	shutdown(channel, SHUT_WR);
	while (read(channel, &end, 1) > 0)
		;
	CHECK(unlinkat(s->directory, "mbox-1/j", 0) == 0);
	_exit(RECOVERY_FINISHED);
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

/*
 * Runs --recover for one user with an unfinished removal. Returns true if its
 * exit status and what it prints are these.
 */
static bool
recovers(int status, const char *text)
{
	struct options o = { .state = top };
	char printed[1000];
	size_t n;

	close(openat(user, "mbox-1/j", O_CREAT | O_WRONLY, 0600));
	CHECK(mailboxes_read(&o.mailboxes, "maildir:~/%u") == 0);
	CHECK(freopen("printed", "w+", stdout) != NULL);
	if (recover_all(&o) != status || fflush(stdout) == EOF)
		return false;
	rewind(stdout);
	n = fread(printed, 1, sizeof(printed) - 1, stdout);
	printed[n] = '\0';
	return strstr(printed, text) != NULL;
}

static void
recover_one_user(void)
{
	CHECK(chdir(top) == 0 && mkdir("users/5555/mbox-1", 0700) == 0);
	for (locks = 0; locks < 2; locks++)
		CHECK(recovers(0, ": removal finished\n"));
	for (; locks < 4; locks++)
		CHECK(recovers(1, ": not reachable, see syslog\n"));
	lookup = FAIL;
	CHECK(recovers(1, "uid 5555: not reachable, see syslog\n"));
	lookup = CRASH;
	CHECK(recovers(1, "uid 5555: not reachable: ended by signal 9 "));
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
	recover_one_user();
	snprintf(command, sizeof(command), "rm -r %s", top);
	CHECK(system(command) == 0);
	return 0;
}
