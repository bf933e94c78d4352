/*
 * Waits for child processes.
 *
 * Runs in every process that has children.
 */
#include "config.h"

#include <sys/wait.h>

#include <errno.h>

#include "process.h"

int
process_wait(pid_t pid, int *status, int options)
{
	pid_t ended;

	do
		ended = waitpid(pid, status, options);
	while (ended == -1 && errno == EINTR);
	return ended == -1 ? -1 : 0;
}
