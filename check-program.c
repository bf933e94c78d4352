/*
 * Runs other programs for a check: without a shell, with a clean environment,
 * and for a bounded time.
 *
 * Runs as root in kpopd-check. The programs run as root, too, because some of
 * them print their settings only to root.
 */
#include "config.h"

#include <sys/wait.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "check-program.h"
#include "clock.h"
#include "process.h"

#define STEP_MS 10
#define NOT_STARTED 127

bool
program_find(const char *name, char path[PATH_MAX])
{
	static const char *const directories[] = { "/usr/sbin", "/usr/bin",
		"/sbin", "/bin", "/usr/local/sbin", "/usr/local/bin" };

	for (size_t i = 0; i < sizeof(directories) / sizeof(directories[0]);
	     i++) {
		snprintf(path, PATH_MAX, "%s/%s", directories[i], name);
		if (access(path, X_OK) == 0)
			return true;
	}
	return false;
}

bool
program_wait(pid_t child, int64_t until, int *status)
{
	pid_t ended;

	while ((ended = waitpid(child, status, WNOHANG)) != child &&
	    (ended == 0 || errno == EINTR) && clock_ms() < until)
		poll(NULL, 0, STEP_MS);
	/* Children that it has left end, too. */
	kill(-child, SIGKILL);
	if (ended == child)
		return true;
	/* A killed child ends at once, unless a file system does not answer. */
	until = clock_ms() + 1000;
	while (waitpid(child, status, WNOHANG) == 0 && clock_ms() < until)
		poll(NULL, 0, STEP_MS);
	return false;
}

/* Child: becomes the program. */
static _Noreturn void
become_program(const char *path, char *const argv[], int output, pid_t parent)
{
	static char *const environment[] = {
		"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", "HOME=/",
		"TERM=dumb", NULL
	};
	int null = open("/dev/null", O_RDONLY);

	setsid();
	if (!process_follow(parent) || null == -1 || chdir("/") == -1 ||
	    dup2(null, 0) == -1 || dup2(output, 1) == -1 ||
	    dup2(output, 2) == -1)
		_exit(NOT_STARTED);
	closefrom(3);
	execve(path, argv, environment);
	_exit(NOT_STARTED);
}

/*
 * Reads what a program prints until it closes the pipe or the time is over.
 * Replaces each NUL.
 */
static void
read_output(int fd, int64_t until, char output[PROGRAM_OUTPUT])
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	char rest[4096];
	size_t had = 0;
	ssize_t n = 1;

	while (n > 0) {
		int64_t left = until - clock_ms();
		size_t room = PROGRAM_OUTPUT - 1 - had;

		if (left <= 0 || poll(&p, 1, (int)left) <= 0)
			break;
		if (room == 0)
			n = read(fd, rest, sizeof(rest));
		else if ((n = read(fd, output + had, room)) > 0)
			had += (size_t)n;
	}
	for (size_t i = 0; i < had; i++)
		if (output[i] == '\0')
			output[i] = '?';
	output[had] = '\0';
}

/* Returns NULL if the status means success, otherwise what it means. */
static const char *
name_status(int status)
{
	static char text[64];

	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return NULL;
	if (WIFEXITED(status) && WEXITSTATUS(status) == NOT_STARTED)
		return "it cannot be started";
	if (WIFEXITED(status))
		snprintf(text, sizeof(text), "it ended with status %d",
		    WEXITSTATUS(status));
	else
		snprintf(text, sizeof(text), "it was ended by signal %d",
		    WTERMSIG(status));
	return text;
}

const char *
program_run(const char *const argv[], char output[PROGRAM_OUTPUT])
{
	char path[PATH_MAX];
	int64_t until = clock_ms() + (int64_t)PROGRAM_SECONDS * 1000;
	int pipe_ends[2], status;
	pid_t child, parent = getpid();

	*output = '\0';
	if (!program_find(argv[0], path))
		return "it is not installed";
	if (pipe2(pipe_ends, O_CLOEXEC) == -1)
		return strerror(errno);
	if ((child = fork()) == 0)
		become_program(path, (char *const *)argv, pipe_ends[1], parent);
	close(pipe_ends[1]);
	if (child != -1)
		read_output(pipe_ends[0], until, output);
	close(pipe_ends[0]);
	if (child == -1)
		return "it cannot be started";
	return program_wait(child, until, &status) ? name_status(status) :
						     "it does not end";
}
