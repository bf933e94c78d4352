/* Accepts connections on a listening fd 0: see accept.c. */
#ifndef ACCEPT_H
#define ACCEPT_H

#include <sys/socket.h>
#include <sys/types.h>

#include <stdbool.h>

#include "accept-limits.h"

struct accept_plan {
	const struct limits_config *limits;
	/*
	 * Seconds without a session or connection after which the listener
	 * ends; 0: never.
	 */
	int idle;
	/*
	 * Rejected clients are sent no line, because connections begin with
	 * TLS.
	 */
	bool quiet;
	void *self; /* the first argument of these functions: */
	/*
	 * Returns true for a proxy's address. The limits for one address do not
	 * apply to it.
	 */
	bool (*is_proxy)(void *self, const struct sockaddr_storage *from);
	/* Serves one connection, on fds 0 and 1, in a child. */
	void (*serve)(void *self);
	/*
	 * On SIGHUP: reads the configuration again. Returns false if the
	 * listener must end, because only a new listener can use the new
	 * options.
	 */
	bool (*reload)(void *self);
	/*
	 * Starts a process that helps the sessions, and that ends with the
	 * listener. Returns its pid, or -1. Called at the start, and with a
	 * later connection if the process has ended or was not started. May be
	 * NULL.
	 */
	pid_t (*start_helper)(void *self);
};

/*
 * Calls unable_end when it can serve. Gives each connection a process, until
 * SIGTERM comes, the listener is idle for too long, kpopd was replaced, or
 * reload returns false. Sessions then continue without the listener. Returns 0,
 * the exit status. If fd 0 no longer listens, ends the process (fatal).
 */
int accept_connections(const struct accept_plan *plan);

#endif
