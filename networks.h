/* Lists of networks: see networks.c. */
#ifndef NETWORKS_H
#define NETWORKS_H

#include <stdbool.h>

#include "address.h"

#define NETWORKS_MAX 32

struct networks {
	int count;
	struct network {
		unsigned char address[16]; /* IPv4 as ::ffff:a.b.c.d */
		int bits;                  /* of 128 */
		bool local;                /* not a network: Unix sockets */
	} networks[NETWORKS_MAX];
};

/*
 * Reads "192.0.2.1,10.0.0.0/8,2001:db8::/32,local". Returns 0; or -1 if the
 * text has another form, or more than NETWORKS_MAX networks.
 */
int networks_read(struct networks *list, const char *text);

/* Returns true if the address is in one of the networks. */
bool networks_include(const struct networks *list,
    const struct sockaddr_storage *a);

#endif
