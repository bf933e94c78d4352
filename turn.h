/* The right to answer the client, which one process has: see turn.c. */
#ifndef TURN_H
#define TURN_H

#include <stdbool.h>
#include <stdint.h>

/*
 * Monitor, before its first fork: makes the turn, which no process has yet. All
 * later children share it. Ends the process (fatal) if there is no memory.
 */
void turn_make(void);

/*
 * Takes the turn. Returns false if another process has it; then this process
 * must not write to the client. Returns true in a process that has it already,
 * and in one that has no monitor.
 */
bool turn_take(void);

/*
 * Takes the turn again after turn_give. Ends the process if another process has
 * it, and with it the client.
 */
void turn_retake(void);

/*
 * Gives the turn back, so that another process may answer the client while this
 * process waits for a file system.
 */
void turn_give(void);

/* Returns true if a process has once given the turn back. */
bool turn_was_given(void);

/*
 * Returns when a client must be answered that has waited since its connection
 * or, if the process waits for a session, since its login at the time `login`
 * (0: no login yet). Both times and `deadline`, the login deadline, are in ms
 * of CLOCK_MONOTONIC. seconds: the time that -t permits for a login.
 */
int64_t turn_end(int64_t deadline, int seconds, int64_t login);

#endif
