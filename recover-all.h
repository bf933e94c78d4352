/* kpopd --recover: see recover-all.c. */
#ifndef RECOVER_ALL_H
#define RECOVER_ALL_H

#include "options.h"

/*
 * Root: finishes the unfinished removals of all users, one mailbox after the
 * other. Prints a line for each mailbox that can be found, even if there was
 * nothing to finish, and for each removal that cannot be reached. Returns 0, or
 * 1 if a removal is left, may be left, or was set aside.
 */
int recover_all(const struct options *o);

#endif
