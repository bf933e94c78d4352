/*
 * Reads a list of networks, and finds whether an address is in one of them.
 *
 * Runs as root in main, the listener and the monitor. Pure computation. The
 * administrator lists networks with -x, as those of proxies, and in the access
 * file.
 */
#include "config.h"

#include <netinet/in.h>

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#include "networks.h"

#define IPV4_BITS 32
#define IPV6_BITS 128
#define MAPPED_BITS (IPV6_BITS - IPV4_BITS) /* of ::ffff:0:0/96 */

/*
 * Reads one address, network or "local", of n bytes of text. Returns 0 or -1.
 */
static int
read_network(struct network *net, const char *text, size_t n)
{
	char copy[64], *slash;
	const char *problem = NULL;
	int most = IPV6_BITS;
	struct in_addr four;

	if (n >= sizeof(copy))
		return -1;
	memcpy(copy, text, n);
	copy[n] = '\0';
	*net = (struct network){ .local = strcmp(copy, "local") == 0 };
	if (net->local)
		return 0;
	if ((slash = strchr(copy, '/')) != NULL)
		*slash++ = '\0';
	if (inet_pton(AF_INET, copy, &four) == 1) {
		struct sockaddr_storage a = address_make(AF_INET, &four, 0);

		address_bytes(&a, net->address);
		most = IPV4_BITS;
	} else if (inet_pton(AF_INET6, copy, net->address) != 1)
		return -1;
	net->bits = IPV6_BITS;
	if (slash != NULL)
		net->bits += (int)strtonum(slash, 0, most, &problem) - most;
	return problem == NULL ? 0 : -1;
}

int
networks_read(struct networks *list, const char *text)
{
	list->count = 0;
	for (;;) {
		size_t n = strcspn(text, ",");

		if (list->count == NETWORKS_MAX ||
		    read_network(&list->networks[list->count++], text, n) == -1)
			return -1;
		if (text[n] == '\0')
			return 0;
		text += n + 1;
	}
}

/*
 * Returns true if the first bits of the address are the network's. An IPv4
 * address is in no larger network of IPv6: "::/0" means IPv6.
 */
static bool
is_in_network(const struct network *net, const unsigned char address[16])
{
	static const unsigned char four[MAPPED_BITS / 8] = {
		[10] = 0xff, [11] = 0xff
	};
	int whole = net->bits / 8, rest = net->bits % 8;

	if (net->bits < MAPPED_BITS && memcmp(address, four, sizeof(four)) == 0)
		return false;
	return memcmp(net->address, address, (size_t)whole) == 0 &&
	    (rest == 0 ||
		((net->address[whole] ^ address[whole]) >> (8 - rest)) == 0);
}

bool
networks_include(const struct networks *list, const struct sockaddr_storage *a)
{
	unsigned char address[16] = { 0 };
	bool is_local = a->ss_family == AF_UNIX;

	if (!is_local && !address_bytes(a, address))
		return false;
	for (int i = 0; i < list->count; i++) {
		const struct network *net = &list->networks[i];

		if (is_local ? net->local :
			       !net->local && is_in_network(net, address))
			return true;
	}
	return false;
}
