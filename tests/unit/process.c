/*
 * Tests process_follow of process.c: a process ends with its parent, also if
 * the parent has ended before.
 *
 * Runs as any user.
 */
#include "config.h"

#include <sys/wait.h>

#include <signal.h>
#include <unistd.h>

#include "process.h"
#include "tests/unit/check.h"

#define FOLLOWS 'f'
#define REFUSED 'r'

/*
 * Makes a process whose child calls process_follow, before or after the process
 * has ended. Returns what the child reports, after the child has ended.
 */
static char
follow(bool early)
{
	int report[2], go[2];
	char answer = 0, byte;
	pid_t parent;

	CHECK(pipe(report) == 0 && pipe(go) == 0);
	CHECK((parent = fork()) != -1);
	if (parent == 0) {
		parent = getpid();
		CHECK(close(report[0]) == 0);
		if (fork() == 0) {
			CHECK(close(go[1]) == 0);
			while (!early && getppid() == parent)
				usleep(1000);
			answer = process_follow(parent) ? FOLLOWS : REFUSED;
			CHECK(write(report[1], &answer, 1) == 1);
			if (answer == FOLLOWS)
				pause();
			_exit(0);
		}
		CHECK(close(go[1]) == 0);
		/* Waits until it may end. */
		_exit(read(go[0], &byte, 1) == 0 ? 0 : 1);
	}
	CHECK(close(report[1]) == 0);
	if (!early)
		close(go[1]);
	CHECK(read(report[0], &answer, 1) == 1);
	if (early)
		close(go[1]);
	CHECK(process_wait(parent, NULL, 0) == 0);
	/* The child has the other end until it ends. */
	CHECK(read(report[0], &byte, 1) == 0);
	close(report[0]);
	close(go[0]);
	return answer;
}

int
main(void)
{
	/* If a child is not killed, this test does not end otherwise. */
	alarm(60);
	CHECK(follow(true) == FOLLOWS);
	CHECK(follow(false) == REFUSED);
	return 0;
}
