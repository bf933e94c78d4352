/* Descriptors and child processes: see process.c. */
#ifndef PROCESS_H
#define PROCESS_H

#include <sys/types.h>

/*
 * Waits for the child pid. The arguments are those of waitpid(2). If a signal
 * interrupts the wait, waits again. Returns 0, or -1 with errno.
 */
int process_wait(pid_t pid, int *status, int options);

/*
 * Replaces the client's socket, descriptors 0 and 1, by descriptor 2, which is
 * /dev/null. Fatal on failure.
 */
void process_leave_client(void);

/* Replaces a terminal, descriptors 0 to 2, by /dev/null. Fatal on failure. */
void process_leave_terminal(void);

/*
 * Closes all descriptors above 2 except kept, which is above 2. Fatal on
 * failure.
 */
void process_close_others(int kept);

#endif
