/*
 * Reads one header of the PROXY protocol: whom a balancer or stunnel speaks for.
 *
 * Runs in the gate, jailed. A header is believed only from the networks that
 * the administrator named, is required there, and is read to the octet, since
 * what follows may be for another process (TLS). Its size has a limit, its
 * time is the login's.
 *
 * Source: HAProxy's doc/proxy-protocol.txt, versions 1 and 2.
 */
#include "config.h"

#include <sys/socket.h>

#include <netinet/in.h>

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "proxy.h"

#define V1_MOST 107        /* octets of a line with its end and a NUL */
#define V2_MOST 2048       /* behind the head: addresses and extensions */
#define SIGNATURE "\r\n\r\n\0\r\nQUIT\n"
#define SIGNATURE_SIZE 12

static const unsigned char mapped[12] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff };

/* One address or network, n octets of text. */
static int
read_network(struct proxy_network *net, const char *text, size_t n)
{
	char copy[64], *slash;
	const char *problem = NULL;
	int most = 128, least = 0;

	if (n >= sizeof(copy))
		return -1;
	memcpy(copy, text, n);
	copy[n] = '\0';
	*net = (struct proxy_network){ .local = strcmp(copy, "local") == 0 };
	if (net->local)
		return 0;
	if ((slash = strchr(copy, '/')) != NULL)
		*slash++ = '\0';
	if (inet_pton(AF_INET, copy, net->address + sizeof(mapped)) == 1) {
		memcpy(net->address, mapped, sizeof(mapped));
		most = 32;
		least = 96;
	} else if (inet_pton(AF_INET6, copy, net->address) != 1)
		return -1;
	net->bits = 128;
	if (slash != NULL)
		net->bits = least + (int)strtonum(slash, 0, most, &problem);
	return problem == NULL ? 0 : -1;
}

int
proxies_read(struct proxies *p, const char *text)
{
	p->count = 0;
	for (;;) {
		size_t n = strcspn(text, ",");

		if (p->count == PROXY_NETWORKS || read_network(&p->networks[p->count++], text, n) == -1)
			return -1;
		if (text[n] == '\0')
			return 0;
		text += n + 1;
	}
}

static bool
is_in(const struct proxy_network *net, const unsigned char address[16])
{
	int whole = net->bits / 8, rest = net->bits % 8;

	return memcmp(net->address, address, (size_t)whole) == 0 &&
	    (rest == 0 || ((net->address[whole] ^ address[whole]) >> (8 - rest)) == 0);
}

bool
proxies_include(const struct proxies *p, int fd)
{
	union {
		struct sockaddr any;
		struct sockaddr_in four;
		struct sockaddr_in6 six;
		struct sockaddr_storage room;
	} peer = { .room = { 0 } };
	socklen_t size = sizeof(peer);
	unsigned char address[16] = { 0 };

	if (getpeername(fd, &peer.any, &size) == -1)
		return false;
	if (peer.any.sa_family == AF_INET) {
		memcpy(address, mapped, sizeof(mapped));
		memcpy(address + sizeof(mapped), &peer.four.sin_addr, 4);
	} else if (peer.any.sa_family == AF_INET6)
		memcpy(address, &peer.six.sin6_addr, 16);
	else if (peer.any.sa_family != AF_UNIX)
		return false;
	for (int i = 0; i < p->count; i++) {
		const struct proxy_network *net = &p->networks[i];

		if (peer.any.sa_family == AF_UNIX ? net->local :
			!net->local && is_in(net, address))
			return true;
	}
	return false;
}

static int
refuse(const struct io *io, const char *why)
{
	log_event(LOG_NOTICE, "refused", "reason=\"PROXY header: %s\"",
	    io->error == IO_TIMEOUT ? "too late" : io->error != IO_OK ? "closed" : why);
	return -1;
}

static int
write_address(char address[PROXY_ADDRESS], int family, const void *octets, unsigned port)
{
	char text[INET6_ADDRSTRLEN];

	if (inet_ntop(family, octets, text, sizeof(text)) == NULL)
		return -1;
	snprintf(address, PROXY_ADDRESS, family == AF_INET6 ? "[%s]:%u" : "%s:%u", text, port);
	return 0;
}

/* "PROXY TCP4 source destination sourceport destinationport"; begun is its first SIGNATURE_SIZE octets. */
static int
read_v1(struct io *io, const char *begun, char address[PROXY_ADDRESS])
{
	char line[V1_MOST + 1] = "", *words[6], *at = line;
	unsigned char octets[16];
	const char *problem = NULL;
	size_t n = SIGNATURE_SIZE;
	int family;
	unsigned port;

	memcpy(line, begun, n);
	while (line[n - 1] != '\n') {
		if (n == V1_MOST)
			return refuse(io, "too long");
		if (io_exact(io, line + n, 1) == -1)
			return refuse(io, "");
		n++;
	}
	if (line[n - 2] != '\r' || memchr(line, '\0', n) != NULL)
		return refuse(io, "not a line");
	line[n - 2] = '\0';
	if (strncmp(line, "PROXY UNKNOWN", 13) == 0 && (line[13] == '\0' || line[13] == ' '))
		return 0;
	for (int i = 0; i < 6; i++)
		if ((words[i] = strsep(&at, " ")) == NULL)
			return refuse(io, "not all of it");
	family = strcmp(words[1], "TCP4") == 0 ? AF_INET : AF_INET6;
	if (at != NULL || strcmp(words[0], "PROXY") != 0 ||
	    (family == AF_INET6 && strcmp(words[1], "TCP6") != 0) ||
	    inet_pton(family, words[3], octets) != 1 ||
	    inet_pton(family, words[2], octets) != 1)
		return refuse(io, "not understood");
	port = (unsigned)strtonum(words[4], 0, 65535, &problem);
	if (problem == NULL)
		strtonum(words[5], 0, 65535, &problem);
	if (problem != NULL)
		return refuse(io, "no port");
	return write_address(address, family, octets, port);
}

static int
read_v2(struct io *io, char address[PROXY_ADDRESS])
{
	unsigned char head[4], body[V2_MOST];
	size_t n;

	if (io_exact(io, head, sizeof(head)) == -1)
		return refuse(io, "");
	n = (size_t)head[2] << 8 | head[3];
	if (n > sizeof(body))
		return refuse(io, "too long");
	if (io_exact(io, body, n) == -1)
		return refuse(io, "");
	if (head[0] == 0x20) /* LOCAL: the proxy looks whether we live */
		return 0;
	if (head[0] != 0x21)
		return refuse(io, "unknown version or command");
	if (head[1] == 0x11 && n >= 12)
		return write_address(address, AF_INET, body, (unsigned)body[8] << 8 | body[9]);
	if (head[1] == 0x21 && n >= 36)
		return write_address(address, AF_INET6, body, (unsigned)body[32] << 8 | body[33]);
	/* Unspecified, or a Unix socket: there is no address to be had. */
	if (head[1] == 0x00 || (head[1] == 0x31 && n >= 216))
		return 0;
	return refuse(io, "unknown protocol");
}

int
proxy_read(struct io *io, char address[PROXY_ADDRESS])
{
	char begun[SIGNATURE_SIZE];
	int result;

	address[0] = '\0';
	io->frugal = true;
	if (io_exact(io, begun, sizeof(begun)) == -1)
		return refuse(io, "");
	if (memcmp(begun, SIGNATURE, SIGNATURE_SIZE) == 0)
		result = read_v2(io, address);
	else if (memcmp(begun, "PROXY ", 6) == 0)
		result = read_v1(io, begun, address);
	else
		result = refuse(io, "there is none");
	io->frugal = false;
	return result;
}
