/* kpopd --recover: see recover-all.c. */
#ifndef RECOVER_ALL_H
#define RECOVER_ALL_H

#include "options.h"

/*
 * Root: finishes the unfinished removals of all users, one mailbox after the
 * other, and prints how each ended. Returns 0, or 1 if some are left.
 */
int recover_all(const struct options *o);

#endif
