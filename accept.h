/* Accepts connections on a listening fd 0: see accept.c. */
#ifndef ACCEPT_H
#define ACCEPT_H

#include <sys/socket.h>

#include <stdbool.h>

#include "accept-limits.h"

struct accept_plan {
	const struct limits_config *limits;
	/*
	 * Seconds without a session or connection after which the listener
	 * ends; 0: never.
	 */
	int idle;
	/* A rejected connection is sent nothing, because it begins with TLS. */
	bool quiet;
	void *self; /* the first argument of these functions: */
	/* Returns true for a proxy's address: it has no limits of its own. */
	bool (*is_proxy)(void *self, const struct sockaddr_storage *from);
	/* Serves one connection, on fds 0 and 1, in a child. */
	void (*serve)(void *self);
	/* Reads again what was read before the first connection. */
	void (*reload)(void *self);
};

/*
 * Gives each connection a process, until SIGTERM comes, the listener is idle
 * for too long, or its program was replaced. Sessions then continue without it.
 * Returns the exit status 0; if fd 0 no longer listens, it ends the process
 * (fatal).
 */
int accept_connections(const struct accept_plan *plan);

#endif
