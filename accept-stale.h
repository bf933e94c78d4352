/* When a listener must end for another one: see accept-stale.c. */
#ifndef ACCEPT_STALE_H
#define ACCEPT_STALE_H

#include <stdbool.h>

/*
 * Lets the kernel kill this process when its parent ends. Returns false if the
 * parent has ended meanwhile. A child of this process is not killed.
 */
bool stale_follow_parent(void);

/*
 * Returns true if this program was replaced since it was started, or a library
 * that it executes since the first call. The first call returns false. Returns
 * false while there is no program at this one's path, because then no other
 * could be started.
 */
bool stale_is_replaced(void);

#endif
