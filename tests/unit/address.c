/*
 * Tests address.c. A client's address may come from the listener's accept, from
 * the peer of fd 0 under inetd, or from either version of the PROXY header. The
 * text of the address must be the same in all cases.
 *
 * Runs as any user.
 */
#include "config.h"

#include <sys/endian.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <netinet/in.h>

#include <arpa/inet.h>
#include <string.h>
#include <unistd.h>

#include "address.h"
#include "clock.h"
#include "proxy.h"
#include "tests/unit/check.h"

#define PORT 4711
#define LIMIT_MS 10000

/* An address of any family. */
union any {
	struct sockaddr_storage room;
	struct sockaddr_in four;
	struct sockaddr_in6 six;
	struct sockaddr_un local;
};

/* Reads an IPv4 or IPv6 address from a text, and adds the port PORT. */
static struct sockaddr_storage
parse(const char *text)
{
	union any a = { .room = { .ss_family = AF_INET } };

	a.four.sin_port = htons(PORT);
	if (inet_pton(AF_INET, text, &a.four.sin_addr) == 1)
		return a.room;
	a.room.ss_family = AF_INET6;
	CHECK(inet_pton(AF_INET6, text, &a.six.sin6_addr) == 1);
	a.six.sin6_port = htons(PORT);
	return a.room;
}

/* Returns true if the address is written as expected. */
static bool
is_written(const struct sockaddr_storage *a, const char *expected)
{
	struct address_text t;

	return address_write(a, &t) == 0 && strcmp(t.text, expected) == 0;
}

static void
check_text(const char *address, const char *expected)
{
	struct sockaddr_storage a = parse(address);

	CHECK(is_written(&a, expected));
}

static void
text(void)
{
	struct sockaddr_storage local = { .ss_family = AF_UNIX };
	struct sockaddr_storage none = { .ss_family = AF_UNSPEC };
	union any zoned = { .room = parse("fe80::1") };
	struct address_text t;

	check_text("192.0.2.1", "192.0.2.1:4711");
	check_text("2001:db8::1", "[2001:db8::1]:4711");
	check_text("::ffff:192.0.2.1", "192.0.2.1:4711");
	check_text("ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255",
	    "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:4711");
	zoned.six.sin6_scope_id = 1;
	CHECK(is_written(&zoned.room, "[fe80::1]:4711"));
	CHECK(is_written(&local, "local"));
	CHECK(address_write(&none, &t) == -1);
}

/* Returns true if both addresses belong to the same net. */
static bool
is_same_net(const char *a, const char *b)
{
	struct sockaddr_storage first = parse(a), second = parse(b);
	struct address_net one, other;

	CHECK(address_net(&first, &one) && address_net(&second, &other));
	return memcmp(&one, &other, sizeof(one)) == 0;
}

static void
nets(void)
{
	struct sockaddr_storage local = { .ss_family = AF_UNIX };
	struct sockaddr_storage none = { .ss_family = AF_UNSPEC };
	struct address_net net;

	CHECK(!address_net(&local, &net) && !address_net(&none, &net));
	CHECK(is_same_net("192.0.2.1", "192.0.2.1"));
	CHECK(is_same_net("192.0.2.1", "::ffff:192.0.2.1"));
	CHECK(!is_same_net("192.0.2.1", "192.0.2.2"));
	CHECK(!is_same_net("::ffff:192.0.2.1", "::ffff:192.0.2.2"));
	CHECK(is_same_net("2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff"));
	CHECK(!is_same_net("2001:db8::1", "2001:db8:0:1::1"));
	/* attack:6-3 */
	/* NAT64's prefix has all IPv4 addresses in one /64. */
	CHECK(is_same_net("64:ff9b::192.0.2.1", "192.0.2.1"));
	CHECK(!is_same_net("64:ff9b::192.0.2.1", "64:ff9b::192.0.2.2"));
	CHECK(is_same_net("64:ff9b:0:0:1::1", "64:ff9b:0:0:2::1"));
	CHECK(!is_same_net("64:ff9b:0:0:1::1", "64:ff9b::0.0.0.1"));
	CHECK(!is_same_net("::1", "0.0.0.1"));
	CHECK(!is_same_net("::", "0.0.0.0"));
}

/*
 * Makes an address from bytes, and another one by inet_pton. Checks that both
 * have the same text and the same 16 bytes.
 */
static void
check_made(int family, const char *text)
{
	struct sockaddr_storage a = parse(text), made;
	unsigned char bytes[16], want[16], got[16];
	struct address_text one, other;

	CHECK(inet_pton(family, text, bytes) == 1);
	made = address_make(family, bytes, PORT);
	CHECK(address_write(&a, &one) == 0);
	CHECK(address_write(&made, &other) == 0);
	CHECK(strcmp(one.text, other.text) == 0);
	CHECK(address_bytes(&a, want) && address_bytes(&made, got));
	CHECK(memcmp(want, got, 16) == 0);
	if (family == AF_INET)
		CHECK(memcmp(got + 12, bytes, 4) == 0);
	else
		CHECK(memcmp(got, bytes, 16) == 0);
}

static void
bytes(void)
{
	struct sockaddr_storage local = { .ss_family = AF_UNIX };
	struct sockaddr_storage four = parse("192.0.2.1");
	struct sockaddr_storage mapped = parse("::ffff:192.0.2.1");
	unsigned char one[16], other[16];

	check_made(AF_INET, "192.0.2.1");
	check_made(AF_INET6, "2001:db8::1");
	check_made(AF_INET6, "::ffff:192.0.2.1");
	CHECK(!address_bytes(&local, one));
	CHECK(address_bytes(&four, one) && address_bytes(&mapped, other));
	CHECK(memcmp(one, other, 16) == 0);
}

/* Checks that proxy_read finds the expected address in a header of n bytes. */
static void
check_header(const void *header, size_t n, const char *expected)
{
	static struct io io;
	struct address_text t;
	int ends[2];

	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
	CHECK(write(ends[1], header, n) == (ssize_t)n);
	io_init(&io, ends[0], clock_ms() + LIMIT_MS);
	CHECK(proxy_read(&io, &t) == 0);
	CHECK(strcmp(t.text, expected) == 0);
	close(ends[0]);
	close(ends[1]);
}

/* Checks both versions of a PROXY header with this client. */
static void
check_headers(int family, const char *client, unsigned port,
    const char *expected)
{
	/*
	 * The header has version 2's signature, the command PROXY, family and
	 * size. Then come two addresses and two ports.
	 */
	unsigned char v2[16 + 36] = "\r\n\r\n\0\r\nQUIT\n\x21";
	size_t size = family == AF_INET ? 4 : 16;
	char v1[107];
	int n;

	n = snprintf(v1, sizeof(v1), "PROXY TCP%c %s %s %u 110\r\n",
	    family == AF_INET ? '4' : '6', client, client, port);
	check_header(v1, (size_t)n, expected);
	v2[13] = family == AF_INET ? 0x11 : 0x21;
	v2[15] = (unsigned char)(2 * size + 4);
	CHECK(inet_pton(family, client, v2 + 16) == 1);
	CHECK(inet_pton(family, client, v2 + 16 + size) == 1);
	be16enc(v2 + 16 + 2 * size, (uint16_t)port);
	check_header(v2, 16 + 2 * size + 4, expected);
}

/*
 * Listens on all addresses of IPv4 and IPv6, and connects to the given loopback
 * address. The kernel gives the client the same address. Takes the client's
 * address from accept, from the peer of the accepted socket, and from PROXY
 * headers. Checks that the text is the same and contains the given host. The
 * argument "header" is the address in IPv6 form. It is NULL if the address is
 * already IPv6.
 */
static void
check_connection(const char *address, const char *header, const char *host)
{
	union any to = { .room = { .ss_family = AF_INET6 } };
	union any from = { .room = parse(address) };
	union any accepted = { .room = { .ss_family = AF_UNSPEC } };
	bool is_four = from.room.ss_family == AF_INET;
	int listener = socket(AF_INET6, SOCK_STREAM, 0);
	int client = socket(from.room.ss_family, SOCK_STREAM, 0);
	socklen_t size = sizeof(to.six);
	socklen_t from_size = is_four ? sizeof(from.four) : sizeof(from.six);
	struct sockaddr_storage peer;
	struct address_text t;
	char expected[128];
	unsigned port;
	int fd, off = 0;

	CHECK(setsockopt(listener, IPPROTO_IPV6, IPV6_V6ONLY, &off,
		  sizeof(off)) == 0);
	CHECK(bind(listener, (struct sockaddr *)&to.six, sizeof(to.six)) == 0);
	CHECK(listen(listener, 1) == 0);
	CHECK(getsockname(listener, (struct sockaddr *)&to.six, &size) == 0);
	if (is_four)
		from.four.sin_port = to.six.sin6_port;
	else
		from.six.sin6_port = to.six.sin6_port;
	CHECK(connect(client, (struct sockaddr *)&from.room, from_size) == 0);
	size = sizeof(accepted);
	fd = accept(listener, (struct sockaddr *)&accepted.room, &size);
	CHECK(fd != -1);
	/* An IPv4 client of the listener has an IPv6 address here. */
	CHECK(accepted.room.ss_family == AF_INET6);
	port = ntohs(accepted.six.sin6_port);
	snprintf(expected, sizeof(expected), "%s:%u", host, port);

	CHECK(is_written(&accepted.room, expected));
	CHECK(address_of_peer(fd, &peer, &t) == 0);
	CHECK(strcmp(t.text, expected) == 0);
	check_headers(is_four ? AF_INET : AF_INET6, address, port, expected);
	if (header != NULL)
		check_headers(AF_INET6, header, port, expected);
	close(fd);
	close(client);
	close(listener);
}

/* Returns true if this machine has IPv6. */
static bool
has_ipv6(void)
{
	union any a = { .room = parse("::1") };
	int fd = socket(AF_INET6, SOCK_STREAM, 0);
	bool has;

	a.six.sin6_port = 0;
	has =
	    fd != -1 && bind(fd, (struct sockaddr *)&a.six, sizeof(a.six)) == 0;
	if (fd != -1)
		close(fd);
	return has;
}

static void
one_form(void)
{
	struct sockaddr_storage peer;
	struct address_text t;
	int ends[2];

	if (has_ipv6()) {
		check_connection("127.0.0.1", "::ffff:127.0.0.1", "127.0.0.1");
		check_connection("::1", NULL, "[::1]");
	} else
		fprintf(stderr, "no IPv6 here: connections are not tested\n");
	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
	CHECK(address_of_peer(ends[0], &peer, &t) == 0);
	CHECK(strcmp(t.text, "local") == 0);
	CHECK(pipe(ends) == 0 && address_of_peer(ends[0], &peer, &t) == -1);
}

int
main(void)
{
	text();
	nets();
	bytes();
	one_form();
	return 0;
}
