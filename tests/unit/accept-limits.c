/* Unit tests of accept-limits.c, accept-sources.c, accept-queue.c and address.c: who may come in while others are there. Runs as anybody. */
#include "config.h"

#include <sys/un.h>

#include <netinet/in.h>

#include <arpa/inet.h>
#include <string.h>

#include "accept-queue.h"
#include "accept-limits.h"
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
	/* attack:6-3 */
	/* NAT64's: the whole of IPv4 is in one /64. */
	CHECK(is_same("64:ff9b::192.0.2.1", "192.0.2.1") && !is_same("64:ff9b::192.0.2.1", "64:ff9b::192.0.2.2"));
	CHECK(is_same("64:ff9b:0:0:1::1", "64:ff9b:0:0:2::1") && !is_same("64:ff9b:0:0:1::1", "64:ff9b::0.0.0.1"));
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

static const uint64_t key[3] = { 0x0123456789abcdef, 0xfedcba9876543210, 0x0f1e2d3c4b5a6978 };

static struct crowd *
crowd(int all, int each, int rate, int each_rate)
{
	const struct crowd_limits most = { .all = all, .each = each, .rate = rate, .each_rate = each_rate };
	struct crowd *t = calloc(1, crowd_size(&most));

	CHECK(t != NULL);
	crowd_init(t, &most, 1000, key);
	return t;
}

/* Lets a session begin. Returns what decided. */
static enum crowd_verdict
begin(struct crowd *t, pid_t pid, const struct address_net *net, int64_t now)
{
	struct crowd_place place;
	enum crowd_verdict verdict = crowd_enter(t, net, now, &place);

	if (verdict == CROWD_FINE)
		crowd_add(t, pid, &place, now);
	return verdict;
}

static void
places(void)
{
	struct address_net a = net_of("192.0.2.1"), b = net_of("192.0.2.2");
	struct crowd *t = crowd(4, 2, 100, 100);
	struct crowd_place place;

	CHECK(begin(t, 10, &a, 1000) == CROWD_FINE);
	CHECK(begin(t, 11, NULL, 1000) == CROWD_FINE);
	CHECK(begin(t, 12, &a, 1000) == CROWD_FINE);
	CHECK(begin(t, 13, &a, 1000) == CROWD_EACH);
	CHECK(!crowd_is_full(t));
	CHECK(begin(t, 13, NULL, 1000) == CROWD_FINE);
	CHECK(crowd_is_full(t));
	CHECK(begin(t, 14, &b, 1000) == CROWD_ALL && begin(t, 14, NULL, 1000) == CROWD_ALL);
	CHECK(!crowd_remove(t, 14));
	/* Whichever goes, the others stay what they are. */
	CHECK(crowd_remove(t, 11) && !crowd_remove(t, 11));
	CHECK(begin(t, 15, &a, 1000) == CROWD_EACH);
	CHECK(crowd_remove(t, 10));
	/* A connection that waits counts for its address, and no more when it is gone. */
	CHECK(crowd_enter(t, &a, 1000, &place) == CROWD_FINE);
	CHECK(begin(t, 15, &a, 1000) == CROWD_EACH);
	CHECK(begin(t, 15, &b, 1000) == CROWD_FINE);
	crowd_leave(t, &place);
	CHECK(begin(t, 16, &a, 1000) == CROWD_FINE);
	CHECK(crowd_remove(t, 13) && crowd_remove(t, 12) && crowd_remove(t, 15) && crowd_remove(t, 16));
	CHECK(t->count == 0);
	free(t);
}

/* How many may come in the ms from start up to end when each comes as early as it may. */
static int
come(struct crowd *t, int64_t start, int64_t end)
{
	int n = 0;

	for (int64_t now = start; now < end;) {
		int wait = crowd_wait(t, now);

		now += wait;
		if (wait > 0 || now >= end)
			continue;
		CHECK(begin(t, 1, NULL, now) == CROWD_FINE);
		CHECK(crowd_remove(t, 1));
		n++;
	}
	return n;
}

static void
rates(void)
{
	struct crowd *t = crowd(1, 1, 50, 50);

	/* As many at once as in a second, then one every 20 ms. */
	CHECK(come(t, 1000, 1001) == 50);
	CHECK(crowd_wait(t, 1001) == 19);
	CHECK(come(t, 1001, 2001) == 50);
	CHECK(come(t, 2001, 3001) == 50);
	/* Quiet is saved up for a second and no longer; and whoever comes after it is counted. */
	CHECK(come(t, 1000000, 1000001) == 50);
	crowd_wait(t, 2000000);
	CHECK(begin(t, 1, NULL, 3000000) == CROWD_FINE);
	CHECK(crowd_remove(t, 1));
	CHECK(come(t, 3000000, 3000001) == 49);
	free(t);
	t = crowd(1, 1, 3, 3);
	CHECK(come(t, 1000, 11000) >= 3 + 29 && come(t, 11000, 21000) <= 31);
	free(t);
	t = crowd(1, 1, CROWD_MOST, 1);
	CHECK(come(t, 1000, 1010) >= CROWD_MOST);
	free(t);
}

/* Counts how many of n connections from the address may begin and end at this moment. */
static int
burst(struct crowd *t, const char *address, int n, int64_t now)
{
	struct address_net net = net_of(address);
	int let_in = 0;

	while (n-- > 0)
		if (begin(t, 1, &net, now) == CROWD_FINE) {
			CHECK(crowd_remove(t, 1));
			let_in++;
		}
	return let_in;
}

/* One address has a rate of its own; others do not notice how often it is over that. */
static void
each_rates(void)
{
	struct crowd *t = crowd(100, 4, 100000, 2);
	struct address_net a = net_of("192.0.2.1");
	int64_t now;

	/* As many at once as it may have sessions, then two a second, who may wait for a second. */
	CHECK(burst(t, "192.0.2.1", 1000, 1000) == 4 + 2);
	CHECK(begin(t, 1, &a, 1499) == CROWD_EACH_RATE);
	CHECK(burst(t, "192.0.2.1", 1000, 1500) == 1);
	CHECK(burst(t, "::ffff:192.0.2.1", 1000, 2000) == 1);
	CHECK(burst(t, "192.0.2.2", 1000, 2000) == 4 + 2);
	for (now = 2000; now < 12000; now++)
		CHECK(burst(t, "192.0.2.1", 1, now) == (now % 500 == 0 && now > 2000));
	/* A /64 is one. */
	CHECK(burst(t, "2001:db8::1", 2, now) == 2 && burst(t, "2001:db8::2", 1000, now) == 2 + 2);
	CHECK(burst(t, "2001:db8:0:1::1", 1000, now) == 4 + 2);
	/* Quiet is saved up until as many may come at once, and no longer, however long it was. */
	CHECK(burst(t, "192.0.2.1", 1000, now + 1000000000000) == 4 + 2);
	free(t);
	/* The rate is what comes at once where it is more. */
	t = crowd(100, 4, 100000, 7);
	CHECK(burst(t, "192.0.2.1", 1000, 1000) == 7 + 7);
	free(t);
}

static struct address_net
numbered(uint64_t n)
{
	struct address_net net;

	for (int i = 0; i < 8; i++)
		net.bytes[i] = (unsigned char)(n >> (56 - 8 * i));
	return net;
}

/* Addresses without end take no place from those in use, lock nobody out, and cost the same each. */
static void
many_addresses(void)
{
	struct crowd *t = crowd(10, 1, 100000, 1);
	struct address_net a = net_of("192.0.2.1"), b = net_of("192.0.2.2"), other;
	int longest = 0;

	CHECK(begin(t, 10, &a, 1000) == CROWD_FINE);
	CHECK(burst(t, "192.0.2.2", 3, 1000) == 2);
	/* Until so many others have come it is remembered. */
	for (uint64_t n = 0; n < CROWD_SEEN; n++) {
		other = numbered(0x20010db800000000 + n);
		CHECK(begin(t, 11, &other, 1000) == CROWD_FINE && crowd_remove(t, 11));
		CHECK(begin(t, 11, &other, 1000) == CROWD_FINE && crowd_remove(t, 11));
		CHECK(begin(t, 11, &other, 1000) == CROWD_EACH_RATE);
	}
	CHECK(begin(t, 11, &b, 1000) == CROWD_EACH_RATE);
	for (uint64_t n = 0; n < 200000; n++) {
		other = numbered(0x20020db800000000 + (n << 16));
		CHECK(begin(t, 11, &other, 1000) == CROWD_FINE && crowd_remove(t, 11));
		CHECK(begin(t, 12, &a, 1000) == CROWD_EACH);
	}
	CHECK(begin(t, 11, &b, 1000) == CROWD_FINE && crowd_remove(t, 11));
	CHECK(t->sources->used == t->sources->room);
	for (int i = 1; i <= t->sources->used; i++) {
		int chain = 0;

		for (int j = i; j != 0; j = t->sources->at[j].chained)
			chain++;
		longest = chain > longest ? chain : longest;
	}
	CHECK(longest <= 16);
	CHECK(crowd_remove(t, 10));
	free(t);
}

/* Random connections and ends against a plain list of what should be. */
static void
model(void)
{
	enum { NETS = 40, PIDS = 200 };
	struct crowd *t = crowd(60, 3, 100000, 100000);
	int used[NETS] = { 0 }, of_pid[PIDS], count = 0;
	uint32_t r = 1;

	memset(of_pid, -1, sizeof(of_pid));
	for (int n = 0; n < 100000; n++) {
		struct address_net net;
		int i, pid;

		r = r * 1664525 + 1013904223;
		i = (int)(r >> 8) % NETS;
		pid = (int)(r >> 16) % PIDS;
		net = numbered((uint64_t)i << 48);
		if (of_pid[pid] != -1) {
			CHECK(crowd_remove(t, pid + 1));
			used[of_pid[pid]]--;
			of_pid[pid] = -1;
			count--;
			continue;
		}
		CHECK(begin(t, pid + 1, &net, 1000 + n) ==
		    (count == 60 ? CROWD_ALL : used[i] == 3 ? CROWD_EACH : CROWD_FINE));
		if (count == 60 || used[i] == 3)
			continue;
		of_pid[pid] = i;
		used[i]++;
		count++;
	}
	CHECK(t->count == count);
	free(t);
}

static struct waiting
waiting(int fd, int64_t rank)
{
	return (struct waiting){ .fd = fd, .place.rank = rank };
}

static void
queues(void)
{
	static struct accept_queue q = { .most = 4 };
	static const int order[] = { 1, 4, 7, 2 };
	const struct { int fd; int64_t rank; } come[] = { { 1, 0 }, { 2, 1000 }, { 3, 2000 }, { 4, 0 } };
	struct waiting w, lost;

	for (int i = 0; i < 4; i++) {
		w = waiting(come[i].fd, come[i].rank);
		CHECK(!queue_add(&q, &w, &lost));
	}
	/* What is not better than the last in turn must go itself, else that. */
	w = waiting(5, 2000);
	CHECK(queue_add(&q, &w, &lost) && lost.fd == 5 && q.count == 4);
	w = waiting(6, 1000);
	CHECK(queue_add(&q, &w, &lost) && lost.fd == 3 && q.count == 4);
	w = waiting(7, 0);
	CHECK(queue_add(&q, &w, &lost) && lost.fd == 6 && q.count == 4);
	/* First those whose address had used least, the oldest of these first. */
	for (int i = 0; i < 4; i++)
		CHECK(queue_remove(&q, queue_next(&q)).fd == order[i]);
	CHECK(q.count == 0);
}

/* A connection of another address goes before the later ones of an address that waits already. */
static void
turns(void)
{
	static struct accept_queue q = { .most = CROWD_WAITING };
	struct crowd *t = crowd(1000, 100, 1, 1);
	struct address_net a = net_of("192.0.2.1"), b = net_of("192.0.2.2");
	struct waiting w = { .fd = 0 }, lost;

	for (w.fd = 0; w.fd < 100; w.fd++) {
		CHECK(crowd_enter(t, &a, 1000, &w.place) == CROWD_FINE);
		CHECK(!queue_add(&q, &w, &lost));
	}
	CHECK(crowd_enter(t, &a, 1000, &w.place) == CROWD_EACH);
	CHECK(crowd_enter(t, &b, 1000, &w.place) == CROWD_FINE);
	CHECK(!queue_add(&q, &w, &lost));
	CHECK(queue_remove(&q, queue_next(&q)).fd == 0);
	CHECK(queue_remove(&q, queue_next(&q)).fd == 100);
	CHECK(queue_remove(&q, queue_next(&q)).fd == 1);
	free(t);
}

/* What is above the rate of its address is due when that allows it, and the earliest rank is due first. */
static void
waits(void)
{
	struct crowd *t = crowd(100, 4, 100000, 2);
	struct address_net a = net_of("192.0.2.1"), b = net_of("192.0.2.2");
	static const int64_t due[] = { 1000, 1000, 1000, 1000, 1500, 2000 };
	struct crowd_place place, first = { .source = 0 }, other;

	for (int i = 0; i < 6; i++) {
		CHECK(crowd_enter(t, &a, 1000, &place) == CROWD_FINE && place.due == due[i]);
		first = i == 4 ? place : first;
		crowd_leave(t, &place);
	}
	CHECK(crowd_enter(t, &a, 1000, &place) == CROWD_EACH_RATE);
	CHECK(crowd_enter(t, &b, 1499, &other) == CROWD_FINE && other.due == 1499 && other.rank < first.rank);
	crowd_leave(t, &other);
	CHECK(crowd_enter(t, NULL, 1499, &other) == CROWD_FINE && other.due == 1499);
	/* In a second it has what it owed, and no more. */
	CHECK(crowd_enter(t, &a, 2500, &place) == CROWD_FINE && place.due == 2500);
	crowd_leave(t, &place);
	CHECK(crowd_enter(t, &a, 2500, &place) == CROWD_FINE && place.due == 3000);
	free(t);
}

/* An address that has been there before is not overtaken for ever by new addresses, however many come. */
static void
no_starvation(void)
{
	static struct accept_queue q = { .most = CROWD_WAITING };
	struct crowd *t = crowd(100000, 20, 1, 25);
	struct address_net b = net_of("192.0.2.2"), other;
	struct waiting w = { .fd = 1 }, lost;
	int64_t now = 1000;
	int next;

	CHECK(begin(t, 1, &b, now) == CROWD_FINE);
	CHECK(crowd_enter(t, &b, now, &w.place) == CROWD_FINE);
	CHECK(!queue_add(&q, &w, &lost));
	/* One comes and one goes each ms; b's must go when its 40 ms have passed. */
	do {
		now++;
		other = numbered((uint64_t)now << 20);
		w.fd = 2;
		CHECK(crowd_enter(t, &other, now, &w.place) == CROWD_FINE);
		CHECK(!queue_add(&q, &w, &lost));
		next = queue_next(&q);
		w = queue_remove(&q, next);
	} while (w.fd != 1 && now < 2000);
	CHECK(now >= 1040 && now <= 1042);
	free(t);
}

int
main(void)
{
	addresses();
	made_addresses();
	places();
	rates();
	each_rates();
	many_addresses();
	model();
	queues();
	turns();
	waits();
	no_starvation();
	return 0;
}
