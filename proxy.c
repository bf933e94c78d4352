/*
 * Reads one header of the PROXY protocol, in which a proxy names its client.
 *
 * Runs in the pre-auth process, jailed. Reads no byte after the header, because
 * kpopd-tls may have to read the bytes that follow. The size of a header is
 * limited; it must arrive before the login deadline.
 *
 * Source: HAProxy's doc/proxy-protocol.txt, versions 1 and 2.
 */
#include "config.h"

#include <sys/endian.h>
#include <sys/socket.h>

#include <netinet/in.h>

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "proxy.h"

/*
 * Bytes that are read before the version is known. In version 2 they are the
 * signature.
 */
#define BEGINNING 12
#define SIGNATURE "\r\n\r\n\0\r\nQUIT\n"

/* Version 1: the longest line, with its CRLF. */
#define V1_MAX 107
#define V1_UNKNOWN "PROXY UNKNOWN"

/* Version 2: the most bytes of addresses and extensions that are accepted. */
#define V2_MAX 2048
/* The first byte of the head: version and command. */
#define V2_LOCAL 0x20
#define V2_PROXY 0x21
/*
 * The second byte: address family and transport. SIZE: bytes of the addresses;
 * PORT: offset of the client's port.
 */
#define V2_UNSPECIFIED 0x00
#define V2_TCP4 0x11
#define V2_TCP4_SIZE 12
#define V2_TCP4_PORT 8
#define V2_TCP6 0x21
#define V2_TCP6_SIZE 36
#define V2_TCP6_PORT 32
#define V2_UNIX 0x31
#define V2_UNIX_SIZE 216

/*
 * Logs why the header is refused: the connection's error, or `reason` if the
 * connection has no error. Returns -1.
 */
static int
refuse_header(const struct io *io, const char *reason)
{
	if (io->error == IO_TIMEOUT)
		reason = "too late";
	else if (io->error != IO_OK)
		reason = "connection closed";
	log_event(LOG_NOTICE, "refused", "reason=\"PROXY header: %s\"", reason);
	return -1;
}

/* Writes the address that a header contains as text. Returns 0 or -1. */
static int
write_client(struct address_text *client, int family, const void *bytes,
    unsigned port)
{
	struct sockaddr_storage a = address_make(family, bytes, port);

	return address_write(&a, client);
}

/*
 * Reads a port of version 1: decimal digits without leading zeros. Returns the
 * port or -1.
 */
static int
read_port(const char *text)
{
	const char *problem = NULL;
	int port;

	if (text[strspn(text, "0123456789")] != '\0' ||
	    (text[0] == '0' && text[1] != '\0'))
		return -1;
	port = (int)strtonum(text, 0, 65535, &problem);
	return problem == NULL ? port : -1;
}

/*
 * Reads the line "PROXY TCP4 source destination sourceport destinationport".
 * `begun` contains the first BEGINNING bytes of the line. Returns as proxy_read
 * does.
 */
static int
read_v1(struct io *io, const char *begun, struct address_text *client)
{
	char line[V1_MAX + 1] = "", *words[6], *at = line, end;
	unsigned char bytes[16];
	size_t n = BEGINNING;
	int family, port;

	memcpy(line, begun, n);
	while (line[n - 1] != '\n') {
		if (n == V1_MAX)
			return refuse_header(io, "too long");
		if (io_exact(io, line + n, 1) == -1)
			return refuse_header(io, "");
		n++;
	}
	if (line[n - 2] != '\r' || memchr(line, '\0', n) != NULL)
		return refuse_header(io, "not a line that ends in CRLF");
	line[n - 2] = '\0';
	end = line[sizeof(V1_UNKNOWN) - 1];
	if (strncmp(line, V1_UNKNOWN, sizeof(V1_UNKNOWN) - 1) == 0 &&
	    (end == '\0' || end == ' '))
		return 0;
	for (int i = 0; i < 6; i++)
		if ((words[i] = strsep(&at, " ")) == NULL)
			return refuse_header(io, "too few words");
	family = strcmp(words[1], "TCP4") == 0 ? AF_INET : AF_INET6;
	if (at != NULL || strcmp(words[0], "PROXY") != 0 ||
	    (family == AF_INET6 && strcmp(words[1], "TCP6") != 0) ||
	    inet_pton(family, words[3], bytes) != 1 ||
	    inet_pton(family, words[2], bytes) != 1)
		return refuse_header(io, "malformed");
	if ((port = read_port(words[4])) == -1 || read_port(words[5]) == -1)
		return refuse_header(io, "malformed port");
	return write_client(client, family, bytes, (unsigned)port);
}

/*
 * Reads a header of version 2 after its signature. Returns as proxy_read does.
 */
static int
read_v2(struct io *io, struct address_text *client)
{
	unsigned char head[4], body[V2_MAX];
	size_t n;

	if (io_exact(io, head, sizeof(head)) == -1)
		return refuse_header(io, "");
	n = be16dec(head + 2);
	if (n > sizeof(body))
		return refuse_header(io, "too long");
	if (io_exact(io, body, n) == -1)
		return refuse_header(io, "");
	/* The proxy only tests whether the server is alive. */
	if (head[0] == V2_LOCAL)
		return 0;
	if (head[0] != V2_PROXY)
		return refuse_header(io, "unknown version or command");
	if (head[1] == V2_TCP4 && n >= V2_TCP4_SIZE)
		return write_client(client, AF_INET, body,
		    be16dec(body + V2_TCP4_PORT));
	if (head[1] == V2_TCP6 && n >= V2_TCP6_SIZE)
		return write_client(client, AF_INET6, body,
		    be16dec(body + V2_TCP6_PORT));
	/* These contain no address that the log could show. */
	if (head[1] == V2_UNSPECIFIED ||
	    (head[1] == V2_UNIX && n >= V2_UNIX_SIZE))
		return 0;
	return refuse_header(io, "unknown protocol");
}

int
proxy_read(struct io *io, struct address_text *client)
{
	char begun[BEGINNING];
	int result;

	client->text[0] = '\0';
	io->no_read_ahead = true;
	if (io_exact(io, begun, 1) == -1 && io->error == IO_CLOSED) {
		log_closed();
		return -1;
	}
	if (io_exact(io, begun + 1, sizeof(begun) - 1) == -1)
		return refuse_header(io, "");
	if (memcmp(begun, SIGNATURE, sizeof(begun)) == 0)
		result = read_v2(io, client);
	else if (memcmp(begun, "PROXY ", 6) == 0)
		result = read_v1(io, begun, client);
	else
		result = refuse_header(io, "missing");
	io->no_read_ahead = false;
	return result;
}
