/*
 * A peer's address: as text for the log, and as what limits count together.
 *
 * Pure computation, in every process. A site of IPv6 has a /64 at least, in
 * which each connection can come from another address.
 */
#include "config.h"

#include <netinet/in.h>

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include "address.h"

union any {
	struct sockaddr_storage room;
	struct sockaddr_in four;
	struct sockaddr_in6 six;
};

/* IPv4 that came in by an IPv6 socket is IPv4. */
static union any
plain(const struct sockaddr_storage *a)
{
	union any from = { .room = *a }, to = { .room = { .ss_family = AF_INET } };

	if (a->ss_family != AF_INET6 || !IN6_IS_ADDR_V4MAPPED(&from.six.sin6_addr))
		return from;
	to.four.sin_port = from.six.sin6_port;
	memcpy(&to.four.sin_addr, from.six.sin6_addr.s6_addr + 12, 4);
	return to;
}

int
address_text(const struct sockaddr_storage *a, char text[ADDRESS_TEXT])
{
	union any p = plain(a);
	char host[INET6_ADDRSTRLEN];

	switch (p.room.ss_family) {
	case AF_UNIX:
		strlcpy(text, "local", ADDRESS_TEXT);
		return 0;
	case AF_INET:
		if (inet_ntop(AF_INET, &p.four.sin_addr, host, sizeof(host)) == NULL)
			return -1;
		snprintf(text, ADDRESS_TEXT, "%s:%u", host, ntohs(p.four.sin_port));
		return 0;
	case AF_INET6:
		if (inet_ntop(AF_INET6, &p.six.sin6_addr, host, sizeof(host)) == NULL)
			return -1;
		snprintf(text, ADDRESS_TEXT, "[%s]:%u", host, ntohs(p.six.sin6_port));
		return 0;
	default:
		return -1;
	}
}

struct sockaddr_storage
address_make(int family, const void *bytes, unsigned port)
{
	union any a = { .room = { .ss_family = (sa_family_t)family } };

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
	static const unsigned char mapped[12] = { [10] = 0xff, [11] = 0xff };
	union any p = plain(a);

	if (p.room.ss_family == AF_INET) {
		memcpy(bytes, mapped, sizeof(mapped));
		memcpy(bytes + sizeof(mapped), &p.four.sin_addr, 4);
	} else if (p.room.ss_family == AF_INET6)
		memcpy(bytes, &p.six.sin6_addr, 16);
	else
		return false;
	return true;
}

/* Returns true for an IPv4 address behind NAT64's well-known prefix (RFC 6052 §2.1). All of them are in one /64. */
static bool
is_translated(const struct in6_addr *a)
{
	static const unsigned char prefix[12] = { 0x00, 0x64, 0xff, 0x9b };

	return memcmp(a->s6_addr, prefix, sizeof(prefix)) == 0;
}

bool
address_net(const struct sockaddr_storage *a, struct address_net *net)
{
	union any p = plain(a);

	*net = (struct address_net){ .bytes = { 0xff, 0xff } };
	if (p.room.ss_family == AF_INET)
		memcpy(net->bytes + 4, &p.four.sin_addr, 4);
	else if (p.room.ss_family == AF_INET6 && is_translated(&p.six.sin6_addr))
		memcpy(net->bytes + 4, p.six.sin6_addr.s6_addr + 12, 4);
	else if (p.room.ss_family == AF_INET6)
		memcpy(net->bytes, p.six.sin6_addr.s6_addr, 8);
	else
		return false;
	return true;
}
