/*
 * Fuzz target: proxy_read with any beginning of a connection.
 *
 * Input: a byte that selects how the bytes arrive (fuzz/peer.c), then the
 * bytes. The target checks that proxy_read uses no byte after an accepted
 * header. It also checks that the reported address is the one in the header,
 * and that this address has only characters that the monitor accepts.
 */
#include "config.h"

#include <arpa/inet.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz/fuzz.h"
#include "fuzz/peer.h"
#include "log.h"
#include "proxy.h"

/*
 * Returns the size that the header at the beginning of the data specifies.
 * Returns 0 if the header is incomplete.
 */
static size_t
header_size(const uint8_t *data, size_t n)
{
	const uint8_t *lf;
	size_t size;

	if (n >= 16 && memcmp(data, "\r\n\r\n\0\r\nQUIT\n", 12) == 0) {
		size = 16 + ((size_t)data[14] << 8 | data[15]);
		return size <= n ? size : 0;
	}
	lf = memchr(data, '\n', n);
	return lf != NULL ? (size_t)(lf + 1 - data) : 0;
}

/*
 * Checks that the address is IPv4 or IPv6 with a port, in the only form that
 * kpopd writes.
 */
static void
check_form(const char *address)
{
	unsigned char bytes[16];
	char copy[sizeof(struct address_text)], *port;
	bool six = address[0] == '[';

	HOLDS(strlen(address) < sizeof(struct address_text));
	HOLDS(strspn(address, "0123456789abcdef.:[]") == strlen(address));
	strcpy(copy, address + six);
	HOLDS((port = strrchr(copy, ':')) != NULL);
	*port++ = '\0';
	HOLDS(*port != '\0' && strspn(port, "0123456789") == strlen(port) &&
	    atoi(port) <= 65535);
	if (six) {
		HOLDS(port[-2] == ']');
		port[-2] = '\0';
	}
	HOLDS(inet_pton(six ? AF_INET6 : AF_INET, copy, bytes) == 1);
}

/*
 * Writes the address as it must be in the log, without using address.c. Writes
 * an IPv4 address in IPv6 form as IPv4.
 */
static void
expect(char *want, size_t room, int family, const unsigned char *bytes,
    unsigned port)
{
	static const unsigned char mapped[12] = { [10] = 0xff, [11] = 0xff };
	char text[64];

	if (family == AF_INET6 && memcmp(bytes, mapped, sizeof(mapped)) == 0) {
		family = AF_INET;
		bytes += sizeof(mapped);
	}
	inet_ntop(family, bytes, text, sizeof(text));
	snprintf(want, room, family == AF_INET6 ? "[%s]:%u" : "%s:%u", text,
	    port);
}

/*
 * Compares the address with a header of version 1. There the third word is the
 * address, and the fifth word is the port.
 */
static void
check_v1(const uint8_t *data, size_t n, const char *address)
{
	char line[128], family[8], from[64], to[64], want[128];
	unsigned char bytes[16];
	unsigned port, other;

	HOLDS(n <= 107);
	memcpy(line, data, n);
	line[n] = '\0';
	if (address[0] == '\0') {
		HOLDS(strncmp(line, "PROXY UNKNOWN", 13) == 0);
		return;
	}
	HOLDS(sscanf(line, "PROXY %7s %63s %63s %u %u", family, from, to, &port,
		  &other) == 5);
	HOLDS(inet_pton(family[3] == '4' ? AF_INET : AF_INET6, from, bytes) ==
	    1);
	expect(want, sizeof(want), family[3] == '4' ? AF_INET : AF_INET6, bytes,
	    port);
	HOLDS(strcmp(want, address) == 0);
}

/*
 * Compares the address with a header of version 2. There two addresses and two
 * ports follow the head.
 */
static void
check_v2(const uint8_t *data, size_t n, const char *address)
{
	bool six = data[13] == 0x21;
	size_t size = six ? 16 : 4;
	const uint8_t *port = data + 16 + 2 * size;
	char want[128];

	if (address[0] == '\0') {
		HOLDS(data[12] == 0x20 || data[13] == 0x00 || data[13] == 0x31);
		return;
	}
	HOLDS(data[12] == 0x21 && (six || data[13] == 0x11) &&
	    n >= 16 + 2 * size + 4);
	expect(want, sizeof(want), six ? AF_INET6 : AF_INET, data + 16,
	    (unsigned)port[0] << 8 | port[1]);
	HOLDS(strcmp(want, address) == 0);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct io io;
	struct input in = { data, size };
	unsigned manner = input_byte(&in);
	struct address_text client;
	size_t header = header_size(in.at, in.left);
	int result;

	peer_begin(&io, in.at, in.left, manner);
	memset(&client, 'x', sizeof(client));
	result = proxy_read(&io, &client);
	HOLDS(peer.said_size == 0);
	if (result == -1) {
		HOLDS(peer.at <= 16 + 2048);
		return 0;
	}
	fuzz_let_in++;
	HOLDS(result == 0 && header > 0 && peer.at == header &&
	    peer_used(&io) == header);
	if (client.text[0] != '\0')
		check_form(client.text);
	(in.at[0] == 'P' ? check_v1 : check_v2)(in.at, header, client.text);
	return 0;
}
