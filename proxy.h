/* The PROXY protocol: see proxy.c. */
#ifndef PROXY_H
#define PROXY_H

#include <stdbool.h>
#include <stdint.h>

#include "address.h"
#include "io.h"

#define PROXY_NETWORKS 32

/* The networks of proxies, in which every connection begins with a PROXY header. */
struct proxies {
	int count;
	struct proxy_network {
		unsigned char address[16]; /* IPv4 as ::ffff:a.b.c.d */
		int bits;                  /* of 128 */
		bool local;                /* a Unix socket instead */
	} networks[PROXY_NETWORKS];
};

/* Reads "192.0.2.1,10.0.0.0/8,2001:db8::/32,local". Returns 0 or -1. */
int proxies_read(struct proxies *p, const char *text);

/* Returns true if the address belongs to one of them. */
bool proxies_include(const struct proxies *p, const struct sockaddr_storage *a);

/* Returns true if the address of the peer of the socket fd belongs to one of them. */
bool proxies_include_peer(const struct proxies *p, int fd);

/*
 * Reads one header of version 1 or 2, and not an byte more. Returns 0 with
 * the client in address, "" when the proxy speaks for itself or for an unknown
 * one; or -1, logged, when there is no good header.
 */
int proxy_read(struct io *io, char address[ADDRESS_TEXT]);

#endif
