/* The monitor of a connection: see monitor.c. */
#ifndef MONITOR_H
#define MONITOR_H

#include <sys/socket.h>

#include <stdbool.h>
#include <stdint.h>

#include "account.h"
#include "auth.h"
#include "options.h"

/* What the monitor of a connection is given. */
struct monitor {
	const struct options *o;
	const struct account *preauth; /* the account of the pre-auth process */
	struct auth *auth; /* the krb5.conf snapshot, without keys */
	const struct sockaddr_storage *peer; /* the address of the peer */
	bool is_proxied;  /* the peer is a proxy, which names the client */
	int64_t deadline; /* for the login, absolute ms of CLOCK_MONOTONIC */
	/*
	 * What the pre-auth process does first, as root, because it looks at
	 * STATE, whose file system may not answer; with the argument self.
	 */
	void (*prepare)(void *self);
	void *self;
};

/*
 * Root: serves the connection on descriptors 0 and 1. Starts its processes, and
 * returns when the last of them has ended. Never returns in a child.
 */
void monitor_run(const struct monitor *m);

#endif
