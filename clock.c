/*
 * Reads the clock that deadlines and limits use.
 *
 * Runs in every process. This is the monotonic clock, so an administrator or
 * NTP that sets the wall clock neither ends nor extends a session.
 */
#include "config.h"

#include <time.h>

#include "clock.h"

int64_t
clock_ms(void)
{
	struct timespec t;

	/* This cannot fail, because the kernel has this clock. */
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}
