/*
 * Waits for child processes, ends a process with its parent, replaces standard
 * descriptors by /dev/null, and closes descriptors.
 *
 * Runs in every process.
 */
#include "config.h"

#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include "clock.h"
#include "log.h"
#include "process.h"

#define TRY_STEP_MS 2 /* between two looks of process_try */

int
process_wait(pid_t pid, int *status, int options)
{
	pid_t ended;

	do
		ended = waitpid(pid, status, options);
	while (ended == -1 && errno == EINTR);
	return ended == -1 ? -1 : 0;
}

bool
process_follow(pid_t parent)
{
	/* The parent may have ended before the prctl. */
	return prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 && getppid() == parent;
}

int
process_try(void (*act)(const char *argument), const char *argument, int ms)
{
	int64_t until = clock_ms() + ms;
	pid_t child = fork(), ended;
	int status;

	if (child == -1)
		return -1;
	if (child == 0) {
		act(argument);
		_exit(0);
	}
	while ((ended = waitpid(child, &status, WNOHANG)) == 0 &&
	    clock_ms() < until)
		poll(NULL, 0, TRY_STEP_MS);
	if (ended == child && WIFEXITED(status))
		return WEXITSTATUS(status);
	if (ended == 0)
		kill(child, SIGKILL);
	errno = ended == 0 ? ETIMEDOUT : ECHILD;
	return -1;
}

void
process_leave_client(void)
{
	if (dup2(2, 0) == -1 || dup2(2, 1) == -1)
		fatal("dup2");
}

void
process_leave_terminal(void)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (null == -1 || dup2(null, 0) == -1 || dup2(null, 1) == -1 ||
	    dup2(null, 2) == -1)
		fatal("/dev/null");
	close(null);
}

void
process_close_others(int kept)
{
	if ((kept > 3 && syscall(SYS_close_range, 3, kept - 1, 0) == -1) ||
	    syscall(SYS_close_range, kept + 1, UINT_MAX, 0) == -1)
		fatal("close_range");
}
