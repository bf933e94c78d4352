/* The broker, and what finishes removals: see recover.c. */
#ifndef RECOVER_H
#define RECOVER_H

#include "options.h"
#include "visit.h"

/*
 * The broker, a child of the monitor's, root at first: serves the worker at the
 * other end of v->locks_of[0], and if that one left a removal unfinished, has
 * it finished at once, before an MDA or another program looks.
 */
_Noreturn void broker(struct visit *v, int channel);

/* Root, by hand: finishes every user's unfinished removal, and prints whose. Returns 0, or 1 when some are left. */
int recover_all(const struct options *o);

#endif
