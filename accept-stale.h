/* When a listener must end for another one: see accept-stale.c. */
#ifndef ACCEPT_STALE_H
#define ACCEPT_STALE_H

#include <stdbool.h>

/*
 * Lets this process get SIGTERM when its parent ends. Returns false if the
 * parent has ended meanwhile. A child of this process gets no such signal.
 */
bool stale_follow_parent(void);

/*
 * Returns true if this program or a library that it executes was replaced since
 * the first call, which returns false. Returns false while there is no program
 * at this one's path, because then no other could be started.
 */
bool stale_is_replaced(void);

#endif
