/*
 * Formats the address of a peer for the log, reads it again, and finds the net
 * that it counts for.
 *
 * Runs in every process. Keeps no state. Only address_of_peer makes a system
 * call. An IPv6 address counts as its /64, because a site has at least a /64
 * and can use another address in it for each connection.
 */
#include "config.h"

#include <netinet/in.h>

#include <arpa/inet.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "address.h"

/* Where the IPv4 address is in ::ffff:a.b.c.d and in 64:ff9b::a.b.c.d. */
#define IPV4_OFFSET 12

union address {
	struct sockaddr_storage room;
	struct sockaddr_in four;
	struct sockaddr_in6 six;
};

/*
 * Returns the address; an IPv4 address in IPv6, as an IPv6 socket reports it,
 * becomes IPv4.
 */
static union address
unmap(const struct sockaddr_storage *a)
{
	union address from = { .room = *a };
	union address to = { .room = { .ss_family = AF_INET } };

	if (a->ss_family != AF_INET6 ||
	    !IN6_IS_ADDR_V4MAPPED(&from.six.sin6_addr))
		return from;
	to.four.sin_port = from.six.sin6_port;
	memcpy(&to.four.sin_addr, from.six.sin6_addr.s6_addr + IPV4_OFFSET, 4);
	return to;
}

int
address_write(const struct sockaddr_storage *a, struct address_text *t)
{
	union address p = unmap(a);
	char host[INET6_ADDRSTRLEN];

	switch (p.room.ss_family) {
	case AF_UNIX:
		strlcpy(t->text, "local", sizeof(t->text));
		return 0;
	case AF_INET:
		if (inet_ntop(AF_INET, &p.four.sin_addr, host, sizeof(host)) ==
		    NULL)
			return -1;
		snprintf(t->text, sizeof(t->text), "%s:%u", host,
		    ntohs(p.four.sin_port));
		return 0;
	case AF_INET6:
		if (inet_ntop(AF_INET6, &p.six.sin6_addr, host, sizeof(host)) ==
		    NULL)
			return -1;
		snprintf(t->text, sizeof(t->text), "[%s]:%u", host,
		    ntohs(p.six.sin6_port));
		return 0;
	default:
		return -1;
	}
}

int
address_read(const char *text, struct sockaddr_storage *a)
{
	unsigned char bytes[16];
	char host[INET6_ADDRSTRLEN];
	const char *colon = strrchr(text, ':'), *problem;
	bool is_six = *text == '[';
	size_t n;
	unsigned port;

	if (colon == NULL)
		return -1;
	n = (size_t)(colon - text);
	if (is_six && (n < 2 || text[n - 1] != ']'))
		return -1;
	text += is_six;
	n -= is_six ? 2 : 0;
	port = (unsigned)strtonum(colon + 1, 0, UINT16_MAX, &problem);
	if (n >= sizeof(host) || problem != NULL)
		return -1;
	memcpy(host, text, n);
	host[n] = '\0';
	if (inet_pton(is_six ? AF_INET6 : AF_INET, host, bytes) != 1)
		return -1;
	*a = address_make(is_six ? AF_INET6 : AF_INET, bytes, port);
	return 0;
}

int
address_of_peer(int fd, struct sockaddr_storage *a, struct address_text *t)
{
	socklen_t size = sizeof(*a);

	*a = (struct sockaddr_storage){ .ss_family = AF_UNSPEC };
	return getpeername(fd, (struct sockaddr *)a, &size) == 0 ?
	    address_write(a, t) :
	    -1;
}

struct sockaddr_storage
address_make(int family, const void *bytes, unsigned port)
{
	union address a = { .room = { .ss_family = (sa_family_t)family } };

	if (family == AF_INET) {
		a.four.sin_port = htons((uint16_t)port);
		memcpy(&a.four.sin_addr, bytes, 4);
	} else {
		a.six.sin6_port = htons((uint16_t)port);
		memcpy(&a.six.sin6_addr, bytes, 16);
	}
	return a.room;
}

bool
address_bytes(const struct sockaddr_storage *a, unsigned char bytes[16])
{
	static const unsigned char mapped[IPV4_OFFSET] = {
		[10] = 0xff, [11] = 0xff
	};
	union address p = unmap(a);

	if (p.room.ss_family == AF_INET) {
		memcpy(bytes, mapped, sizeof(mapped));
		memcpy(bytes + sizeof(mapped), &p.four.sin_addr, 4);
	} else if (p.room.ss_family == AF_INET6)
		memcpy(bytes, &p.six.sin6_addr, 16);
	else
		return false;
	return true;
}

/*
 * Returns true if the address is an IPv4 address after NAT64's well-known
 * prefix (RFC 6052 §2.1). All these addresses are in one /64, so each must
 * count as its IPv4 address.
 */
static bool
is_translated(const struct in6_addr *a)
{
	static const unsigned char prefix[IPV4_OFFSET] = { 0x00, 0x64, 0xff,
		0x9b };

	return memcmp(a->s6_addr, prefix, sizeof(prefix)) == 0;
}

bool
address_net(const struct sockaddr_storage *a, struct address_net *net)
{
	union address p = unmap(a);

	*net = (struct address_net){ .bytes = { 0xff, 0xff } };
	if (p.room.ss_family == AF_INET)
		memcpy(net->bytes + 4, &p.four.sin_addr, 4);
	else if (p.room.ss_family == AF_INET6 &&
	    is_translated(&p.six.sin6_addr))
		memcpy(net->bytes + 4, p.six.sin6_addr.s6_addr + IPV4_OFFSET,
		    4);
	else if (p.room.ss_family == AF_INET6)
		memcpy(net->bytes, p.six.sin6_addr.s6_addr, 8);
	else
		return false;
	return true;
}
