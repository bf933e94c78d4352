/* Connections on a listening fd 0: see accept.c. */
#ifndef ACCEPT_H
#define ACCEPT_H

#include <stdbool.h>

#include "accept-limits.h"

struct accept_plan {
	const struct crowd_limits *limits;
	int idle;     /* seconds without a session and a connection, then it ends; 0: never */
	bool quiet;   /* nothing is said to those who find no place: it would be no TLS */
	void *self;   /* for the three: */
	/* Returns true if the address is a proxy's, which has many clients: it has no limits of its own. */
	bool (*is_proxy)(void *self, const struct sockaddr_storage *from);
	void (*serve)(void *self);  /* in a child: one connection, on fds 0 and 1 */
	void (*reload)(void *self); /* reads anew what was read once */
};

/* Whether fd 0 is a listening socket. */
bool accept_is_due(void);

/*
 * Root: gives each connection a process, until SIGTERM or idleness. Sessions
 * go on by themselves then. Returns the exit status: 0, or 1 when fd 0 does
 * not listen any more.
 */
int accept_connections(const struct accept_plan *plan);

#endif
