/* Unit tests of crowd.c and address.c: who may come in while others are there. Runs as anybody. */
#include "config.h"

#include <sys/un.h>

#include <netinet/in.h>

#include <arpa/inet.h>
#include <string.h>

#include "crowd.h"
#include "tests/unit/check.h"

static struct sockaddr_storage
of(const char *text)
{
	union {
		struct sockaddr_storage room;
		struct sockaddr_in four;
		struct sockaddr_in6 six;
	} a = { .room = { .ss_family = AF_INET } };

	a.four.sin_port = htons(4711);
	if (inet_pton(AF_INET, text, &a.four.sin_addr) == 1)
		return a.room;
	a.room.ss_family = AF_INET6;
	CHECK(inet_pton(AF_INET6, text, &a.six.sin6_addr) == 1);
	a.six.sin6_port = htons(4711);
	return a.room;
}

static struct address_net
net_of(const char *text)
{
	struct sockaddr_storage a = of(text);
	struct address_net net;

	CHECK(address_net(&a, &net));
	return net;
}

static bool
is_same(const char *a, const char *b)
{
	struct address_net one = net_of(a), other = net_of(b);

	return memcmp(&one, &other, sizeof(one)) == 0;
}

static void
check_text(const char *address, const char *expected)
{
	struct sockaddr_storage a = of(address);
	char text[ADDRESS_TEXT];

	CHECK(address_text(&a, text) == 0);
	CHECK(strcmp(text, expected) == 0);
}

static void
addresses(void)
{
	struct sockaddr_storage local = { .ss_family = AF_UNIX }, none = { .ss_family = AF_UNSPEC };
	struct address_net net;
	char text[ADDRESS_TEXT];

	check_text("192.0.2.1", "192.0.2.1:4711");
	check_text("2001:db8::1", "[2001:db8::1]:4711");
	check_text("::ffff:192.0.2.1", "192.0.2.1:4711");
	check_text("ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255", "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:4711");
	CHECK(address_text(&local, text) == 0 && strcmp(text, "local") == 0);
	CHECK(address_text(&none, text) == -1);
	CHECK(!address_net(&local, &net) && !address_net(&none, &net));
	CHECK(is_same("192.0.2.1", "192.0.2.1") && is_same("192.0.2.1", "::ffff:192.0.2.1"));
	CHECK(!is_same("192.0.2.1", "192.0.2.2") && !is_same("::ffff:192.0.2.1", "::ffff:192.0.2.2"));
	CHECK(is_same("2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff"));
	CHECK(!is_same("2001:db8::1", "2001:db8:0:1::1"));
	CHECK(!is_same("::1", "0.0.0.1") && !is_same("::", "0.0.0.0"));
}

/* Checks that an address made of bytes is the one that inet_pton makes, as text and as 16 bytes. */
static void
check_made(int family, const char *text)
{
	struct sockaddr_storage a = of(text), made;
	unsigned char bytes[16], want[16], got[16];
	char one[ADDRESS_TEXT], other[ADDRESS_TEXT];

	CHECK(inet_pton(family, text, bytes) == 1);
	made = address_make(family, bytes, 4711);
	CHECK(address_text(&a, one) == 0 && address_text(&made, other) == 0 && strcmp(one, other) == 0);
	CHECK(address_bytes(&a, want) && address_bytes(&made, got) && memcmp(want, got, 16) == 0);
	CHECK(family == AF_INET ? memcmp(got + 12, bytes, 4) == 0 : memcmp(got, bytes, 16) == 0);
}

static void
made_addresses(void)
{
	struct sockaddr_storage local = { .ss_family = AF_UNIX }, four = of("192.0.2.1"), mapped = of("::ffff:192.0.2.1");
	unsigned char bytes[16], other[16];

	check_made(AF_INET, "192.0.2.1");
	check_made(AF_INET6, "2001:db8::1");
	check_made(AF_INET6, "::ffff:192.0.2.1");
	CHECK(!address_bytes(&local, bytes));
	CHECK(address_bytes(&four, bytes) && address_bytes(&mapped, other) && memcmp(bytes, other, 16) == 0);
}

static struct crowd *
crowd(int all, int each, int rate)
{
	const struct crowd_limits most = { .all = all, .each = each, .rate = rate };
	struct crowd *t = malloc(crowd_size(&most));

	CHECK(t != NULL);
	crowd_init(t, &most, 1000);
	return t;
}

static void
places(void)
{
	struct address_net a = net_of("192.0.2.1"), b = net_of("192.0.2.2");
	struct crowd *t = crowd(4, 2, 100);

	CHECK(crowd_judge(t, &a) == CROWD_FINE);
	crowd_add(t, 10, &a, 1000);
	crowd_add(t, 11, NULL, 1000);
	crowd_add(t, 12, &a, 1000);
	CHECK(crowd_judge(t, &a) == CROWD_EACH);
	CHECK(crowd_judge(t, &b) == CROWD_FINE && crowd_judge(t, NULL) == CROWD_FINE);
	crowd_add(t, 13, NULL, 1000);
	CHECK(crowd_judge(t, &b) == CROWD_ALL && crowd_judge(t, NULL) == CROWD_ALL);
	CHECK(!crowd_remove(t, 14));
	/* Whichever goes, the others stay what they are. */
	CHECK(crowd_remove(t, 11) && !crowd_remove(t, 11));
	CHECK(crowd_judge(t, &a) == CROWD_EACH && crowd_judge(t, &b) == CROWD_FINE);
	CHECK(crowd_remove(t, 10));
	CHECK(crowd_judge(t, &a) == CROWD_FINE);
	CHECK(crowd_remove(t, 13) && crowd_remove(t, 12) && t->count == 0);
	free(t);
}

/* How many may come in the ms from begin up to end when each comes as early as it may. */
static int
come(struct crowd *t, int64_t begin, int64_t end)
{
	int n = 0;

	for (int64_t now = begin; now < end;) {
		int wait = crowd_wait(t, now);

		now += wait;
		if (wait > 0 || now >= end)
			continue;
		crowd_add(t, 1, NULL, now);
		CHECK(crowd_remove(t, 1));
		n++;
	}
	return n;
}

static void
rates(void)
{
	struct crowd *t = crowd(1, 1, 50);

	/* As many at once as in a second, then one every 20 ms. */
	CHECK(come(t, 1000, 1001) == 50);
	CHECK(crowd_wait(t, 1001) == 19);
	CHECK(come(t, 1001, 2001) == 50);
	CHECK(come(t, 2001, 3001) == 50);
	/* Quiet is saved up for a second and no longer; and whoever comes after it is counted. */
	CHECK(come(t, 1000000, 1000001) == 50);
	crowd_wait(t, 2000000);
	crowd_add(t, 1, NULL, 3000000);
	CHECK(crowd_remove(t, 1));
	CHECK(come(t, 3000000, 3000001) == 49);
	free(t);
	t = crowd(1, 1, 3);
	CHECK(come(t, 1000, 11000) >= 3 + 29 && come(t, 11000, 21000) <= 31);
	free(t);
	t = crowd(1, 1, CROWD_MOST);
	CHECK(come(t, 1000, 1010) >= CROWD_MOST);
	free(t);
}

int
main(void)
{
	addresses();
	made_addresses();
	places();
	rates();
	return 0;
}
