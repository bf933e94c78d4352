/* The address of a peer: see address.c. */
#ifndef ADDRESS_H
#define ADDRESS_H

#include <sys/socket.h>

#include <stdbool.h>

/*
 * An address in the form that the log has: "192.0.2.1:4711",
 * "[2001:db8::1]:4711", or "local" for a Unix socket.
 */
struct address_text {
	char text[80]; /* with its NUL */
};

/*
 * The addresses whose connections are counted together. This is one IPv4
 * address, even if NAT64 has translated it (RFC 6052 §2.1), or the /64 of an
 * IPv6 address.
 */
struct address_net {
	/*
	 * The /64; or the IPv4 address after ff ff 00 00, with which no /64 in
	 * use begins.
	 */
	unsigned char bytes[8];
};

/*
 * Writes the address as text. IPv4 in IPv6 becomes IPv4; the zone of a
 * link-local address is left out. Returns 0, or -1 if the address is not an
 * IPv4, IPv6 or Unix address.
 */
int address_write(const struct sockaddr_storage *a, struct address_text *t);

/*
 * Reads an IPv4 or IPv6 address with its port, in the form that address_write
 * writes. Returns 0, or -1 if the text has another form.
 */
int address_read(const char *text, struct sockaddr_storage *a);

/*
 * Gets the address of the peer of the socket fd, and writes it as text. Returns
 * 0; or -1, with errno if there is no peer. Ask only once for each connection,
 * because the kernel discards the address when the peer resets the connection.
 */
int address_of_peer(int fd, struct sockaddr_storage *a, struct address_text *t);

/*
 * Sets *net to the net that *a counts for. Returns false if *a is not an IPv4
 * or IPv6 address.
 */
bool address_net(const struct sockaddr_storage *a, struct address_net *net);

/*
 * Makes an address of a port in host order, and of 4 bytes (AF_INET) or 16
 * bytes (AF_INET6) in network order. This is for addresses that do not come
 * from the kernel.
 */
struct sockaddr_storage address_make(int family, const void *bytes,
    unsigned port);

/*
 * Writes the 16 bytes of an IPv6 address; an IPv4 address becomes
 * ::ffff:a.b.c.d. Returns false if *a is neither.
 */
bool address_bytes(const struct sockaddr_storage *a, unsigned char bytes[16]);

#endif
