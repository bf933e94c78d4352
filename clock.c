/*
 * Reads the clock that deadlines and limits use.
 *
 * Runs in every process. It is the monotonic clock: a wall clock that an
 * administrator or NTP sets neither ends a session nor extends one.
 */
#include "config.h"

#include <time.h>

#include "clock.h"

int64_t
clock_ms(void)
{
	struct timespec t;

	/* Cannot fail: the clock exists, and t is ours. */
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}
