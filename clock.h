/* The clock of deadlines and limits: see clock.c. */
#ifndef CLOCK_H
#define CLOCK_H

#include <stdint.h>

/*
 * Returns the milliseconds of CLOCK_MONOTONIC, which no change of the wall
 * clock moves. Keeps errno.
 */
int64_t clock_ms(void);

#endif
