/* Descriptors and child processes: see process.c. */
#ifndef PROCESS_H
#define PROCESS_H

#include <sys/types.h>

/*
 * Waits for the child pid as waitpid(2) does, also if a signal interrupts it.
 * options: waitpid's. Returns 0 with what waitpid stores in *status, or -1
 * with errno.
 */
int process_wait(pid_t pid, int *status, int options);

/*
 * Replaces the client's socket, descriptors 0 and 1, by what descriptor 2 is:
 * /dev/null. Fatal on failure.
 */
void process_leave_client(void);

/* Replaces a terminal, descriptors 0 to 2, by /dev/null. Fatal on failure. */
void process_leave_terminal(void);

#endif
