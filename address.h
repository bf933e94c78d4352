/* A peer's address as text, and as what limits count: see address.c. */
#ifndef ADDRESS_H
#define ADDRESS_H

#include <sys/socket.h>

#include <stdbool.h>
#include <stddef.h>

#define ADDRESS_TEXT 80 /* "[address]:port" and a NUL */

/* Whose connections are counted together: an IPv4 address, also within NAT64's prefix, or the /64 of an IPv6 address. */
struct address_net {
	unsigned char bytes[8]; /* IPv4: four bytes behind ff ff 00 00, as no /64 in use begins */
};

/*
 * Writes "192.0.2.1:4711", "[2001:db8::1]:4711", or "local" for a Unix socket.
 * IPv4 in IPv6 is IPv4. Returns 0, or -1 for an address of another sort.
 */
int address_text(const struct sockaddr_storage *a, char text[ADDRESS_TEXT]);

/*
 * Sets *net to the net that *a counts for. Returns false if the address belongs
 * to no net, as a Unix socket's.
 */
bool address_net(const struct sockaddr_storage *a, struct address_net *net);

/*
 * Makes an address from 4 (AF_INET) or 16 (AF_INET6) bytes in network order and
 * a port, for an address that did not come from the kernel.
 */
struct sockaddr_storage address_make(int family, const void *bytes, unsigned port);

/*
 * Writes the 16 bytes of the address as IPv6; IPv4 becomes ::ffff:a.b.c.d.
 * Returns false if it is neither IPv4 nor IPv6.
 */
bool address_bytes(const struct sockaddr_storage *a, unsigned char bytes[16]);

#endif
