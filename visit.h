/* One user's visit, from the report to the end: see visit.c. */
#ifndef VISIT_H
#define VISIT_H

#include <stdint.h>

#include "options.h"
#include "privsep.h"

/*
 * The monitor, root: lets the user of a report in, or refuses. Returns when
 * the session has ended; this process is not root any more then, and fds 0
 * and 1 are closed. auth: without keys. deadline: for the login, absolute, ms
 * of CLOCK_MONOTONIC.
 */
void visit_admit(const struct options *o, const struct account *gate,
    struct auth *auth, const struct report *r, int64_t deadline);

/* Root, by hand: finishes every user's unfinished removal, and prints whose. Returns 0, or 1 when some are left. */
int visit_recover_all(const struct options *o);

#endif
