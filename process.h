/* Descriptors and child processes: see process.c. */
#ifndef PROCESS_H
#define PROCESS_H

#include <sys/types.h>

#include <stdbool.h>

/*
 * Waits for the child pid. The arguments are those of waitpid(2). If a signal
 * interrupts the wait, waits again. Returns 0, or -1 with errno.
 */
int process_wait(pid_t pid, int *status, int options);

/*
 * Lets the kernel kill this process with SIGKILL when its parent ends. Returns
 * false if the kernel refuses, or if the process `parent` is not the parent any
 * more. A child of this process is not killed. A change of the uid undoes it
 * (prctl(2)), so call it afterwards.
 */
bool process_follow(pid_t parent);

/*
 * Runs act(argument) in a child, because it may wait for a file system. Returns
 * the child's exit status, which is 0 if act has returned, or -1 with errno. If
 * the child has not ended after ms milliseconds, kills it; errno is then
 * ETIMEDOUT. If a signal has ended the child, errno is ECHILD.
 */
int process_try(void (*act)(const char *argument), const char *argument,
    int ms);

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
