/* The networks of proxies, as -x lists them: see proxies.c. */
#ifndef PROXIES_H
#define PROXIES_H

#include <stdbool.h>

#include "address.h"

#define PROXIES_MAX 32

/* The networks from which every connection begins with a PROXY header. */
struct proxies {
	int count;
	struct proxy_network {
		unsigned char address[16]; /* IPv4 as ::ffff:a.b.c.d */
		int bits;                  /* of 128 */
		bool local;                /* not a network: Unix sockets */
	} networks[PROXIES_MAX];
};

/* Reads "192.0.2.1,10.0.0.0/8,2001:db8::/32,local". Returns 0 or -1. */
int proxies_read(struct proxies *p, const char *text);

/* Returns true if the address is in one of the networks. */
bool proxies_include(const struct proxies *p, const struct sockaddr_storage *a);

#endif
