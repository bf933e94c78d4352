/*
 * Reads one header of the PROXY protocol: whom a balancer or stunnel speaks for.
 *
 * Runs in the pre-auth process, jailed; the listener asks, as root, whether an address is a
 * proxy's. A header is believed only from the networks that
 * the administrator named, is required there, and is read to the byte, since
 * what follows may be for another process (TLS). Its size has a limit, its
 * time is the login's.
 *
 * Source: HAProxy's doc/proxy-protocol.txt, versions 1 and 2.
 */
#include "config.h"

#include <sys/socket.h>

#include <netinet/in.h>

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "proxy.h"

#define V1_MOST 107        /* bytes of a line with its end and a NUL */
#define V2_MOST 2048       /* behind the head: addresses and extensions */
#define SIGNATURE "\r\n\r\n\0\r\nQUIT\n"
#define SIGNATURE_SIZE 12

/* One address or network, n bytes of text. */
static int
read_network(struct proxy_network *net, const char *text, size_t n)
{
	char copy[64], *slash;
	const char *problem = NULL;
	int most = 128, least = 0;
	struct in_addr four;

	if (n >= sizeof(copy))
		return -1;
	memcpy(copy, text, n);
	copy[n] = '\0';
	*net = (struct proxy_network){ .local = strcmp(copy, "local") == 0 };
	if (net->local)
		return 0;
	if ((slash = strchr(copy, '/')) != NULL)
		*slash++ = '\0';
	if (inet_pton(AF_INET, copy, &four) == 1) {
		struct sockaddr_storage a = address_make(AF_INET, &four, 0);

		address_bytes(&a, net->address);
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
proxies_include(const struct proxies *p, const struct sockaddr_storage *a)
{
	unsigned char address[16] = { 0 };
	bool is_local = a->ss_family == AF_UNIX;

	if (!is_local && !address_bytes(a, address))
		return false;
	for (int i = 0; i < p->count; i++) {
		const struct proxy_network *net = &p->networks[i];

		if (is_local ? net->local : !net->local && is_in(net, address))
			return true;
	}
	return false;
}

bool
proxies_include_peer(const struct proxies *p, int fd)
{
	struct sockaddr_storage peer = { .ss_family = AF_UNSPEC };
	socklen_t size = sizeof(peer);

	return getpeername(fd, (struct sockaddr *)&peer, &size) == 0 && proxies_include(p, &peer);
}

static int
refuse(const struct io *io, const char *why)
{
	log_event(LOG_NOTICE, "refused", "reason=\"PROXY header: %s\"",
	    io->error == IO_TIMEOUT ? "too late" : io->error != IO_OK ? "closed" : why);
	return -1;
}

/* Writes the header's address as address_text writes a peer's, so that the log has one form of each. */
static int
write_address(char address[ADDRESS_TEXT], int family, const void *bytes, unsigned port)
{
	struct sockaddr_storage a = address_make(family, bytes, port);

	return address_text(&a, address);
}

/* Reads a port as the protocol has it: decimal digits without leading zeros. Returns it, or -1. */
static int
read_port(const char *text)
{
	const char *problem = NULL;
	int port;

	if (text[strspn(text, "0123456789")] != '\0' || (text[0] == '0' && text[1] != '\0'))
		return -1;
	port = (int)strtonum(text, 0, 65535, &problem);
	return problem == NULL ? port : -1;
}

/* "PROXY TCP4 source destination sourceport destinationport"; begun is its first SIGNATURE_SIZE bytes. */
static int
read_v1(struct io *io, const char *begun, char address[ADDRESS_TEXT])
{
	char line[V1_MOST + 1] = "", *words[6], *at = line;
	unsigned char bytes[16];
	size_t n = SIGNATURE_SIZE;
	int family, port;

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
	    inet_pton(family, words[3], bytes) != 1 ||
	    inet_pton(family, words[2], bytes) != 1)
		return refuse(io, "not understood");
	if ((port = read_port(words[4])) == -1 || read_port(words[5]) == -1)
		return refuse(io, "no port");
	return write_address(address, family, bytes, (unsigned)port);
}

static int
read_v2(struct io *io, char address[ADDRESS_TEXT])
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
proxy_read(struct io *io, char address[ADDRESS_TEXT])
{
	char begun[SIGNATURE_SIZE];
	int result;

	address[0] = '\0';
	io->no_read_ahead = true;
	if (io_exact(io, begun, sizeof(begun)) == -1)
		return refuse(io, "");
	if (memcmp(begun, SIGNATURE, SIGNATURE_SIZE) == 0)
		result = read_v2(io, address);
	else if (memcmp(begun, "PROXY ", 6) == 0)
		result = read_v1(io, begun, address);
	else
		result = refuse(io, "there is none");
	io->no_read_ahead = false;
	return result;
}
