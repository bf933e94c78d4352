/* Runs other programs for a check: see check-program.c. */
#ifndef CHECK_PROGRAM_H
#define CHECK_PROGRAM_H

#include <sys/types.h>

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PROGRAM_SECONDS 5        /* the time that a program may take */
#define PROGRAM_OUTPUT (1 << 16) /* bytes of output with its NUL */

/*
 * Looks for the program with this name in the directories of programs. Returns
 * true with its path.
 */
bool program_find(const char *name, char path[PATH_MAX]);

/*
 * Runs a program with a clean environment, without input, and without a shell.
 * argv[0] is a name, as for program_find; argv ends with NULL. Writes what it
 * prints on standard output and standard error to output, as a string; more
 * than PROGRAM_OUTPUT bytes are left out. Returns NULL if it ends with status
 * 0, otherwise why it does not; the text is valid until the next call. Kills
 * the program after PROGRAM_SECONDS.
 */
const char *program_run(const char *const argv[], char output[PROGRAM_OUTPUT]);

/*
 * Waits for the end of a child that leads a process group, until a time of
 * clock_ms. Then kills the group. Returns true with the status of waitpid(2),
 * or false if the child did not end in time, even if it cannot be killed yet.
 */
bool program_wait(pid_t child, int64_t until, int *status);

#endif
