/*
 * Tests accept-limits.c, accept-sources.c and accept-queue.c: which connections
 * get a session, and in which order.
 *
 * Runs as any user.
 */
#include "config.h"

#include <arpa/inet.h>
#include <string.h>

#include "accept-queue.h"
#include "accept-limits.h"
#include "tests/unit/check.h"

/* Returns the network of an address. */
static struct address_net
net_of(const char *text)
{
	unsigned char bytes[16];
	int family = strchr(text, ':') != NULL ? AF_INET6 : AF_INET;
	struct sockaddr_storage a;
	struct address_net net;

	CHECK(inet_pton(family, text, bytes) == 1);
	a = address_make(family, bytes, 4711);
	CHECK(address_net(&a, &net));
	return net;
}

static const uint64_t key[3] = { 0x0123456789abcdef, 0xfedcba9876543210,
	0x0f1e2d3c4b5a6978 };

/* Makes an empty state with the given limits. */
static struct limits_state *
new_limits(int all, int each, int rate, int each_rate)
{
	const struct limits_config most = {
		.all = all, .each = each, .rate = rate, .each_rate = each_rate
	};
	struct limits_state *t = calloc(1, limits_size(&most));

	CHECK(t != NULL);
	limits_init(t, &most, 1000, key);
	return t;
}

/*
 * Begins a session if the limits permit it. Returns the verdict of the limits.
 */
static enum limits_verdict
begin(struct limits_state *t, pid_t pid, const struct address_net *net,
    int64_t now)
{
	struct limits_slot slot;
	enum limits_verdict verdict = limits_take_slot(t, net, now, &slot);

	if (verdict == LIMITS_OK)
		limits_begin_session(t, pid, &slot, now);
	return verdict;
}

static void
slots(void)
{
	struct address_net a = net_of("192.0.2.1"), b = net_of("192.0.2.2");
	struct limits_state *t = new_limits(4, 2, 100, 100);
	struct limits_slot slot;

	CHECK(begin(t, 10, &a, 1000) == LIMITS_OK);
	CHECK(begin(t, 11, NULL, 1000) == LIMITS_OK);
	CHECK(begin(t, 12, &a, 1000) == LIMITS_OK);
	CHECK(begin(t, 13, &a, 1000) == LIMITS_EACH);
	CHECK(!limits_is_full(t));
	CHECK(begin(t, 13, NULL, 1000) == LIMITS_OK);
	CHECK(limits_is_full(t));
	CHECK(begin(t, 14, &b, 1000) == LIMITS_ALL &&
	    begin(t, 14, NULL, 1000) == LIMITS_ALL);
	CHECK(!limits_end_session(t, 14));
	/* The session of pid 11 ends. The other sessions are still counted. */
	CHECK(limits_end_session(t, 11) && !limits_end_session(t, 11));
	CHECK(begin(t, 15, &a, 1000) == LIMITS_EACH);
	CHECK(limits_end_session(t, 10));
	/*
	 * A waiting connection counts as one of its address until its slot is
	 * returned.
	 */
	CHECK(limits_take_slot(t, &a, 1000, &slot) == LIMITS_OK);
	CHECK(begin(t, 15, &a, 1000) == LIMITS_EACH);
	CHECK(begin(t, 15, &b, 1000) == LIMITS_OK);
	limits_return_slot(t, &slot);
	CHECK(begin(t, 16, &a, 1000) == LIMITS_OK);
	CHECK(limits_end_session(t, 13) && limits_end_session(t, 12) &&
	    limits_end_session(t, 15) && limits_end_session(t, 16));
	CHECK(t->count == 0);
	free(t);
}

/*
 * Begins each session as early as the rate permits. Returns the number of
 * sessions that begin at or after "start" and before "end".
 */
static int
begin_all(struct limits_state *t, int64_t start, int64_t end)
{
	int n = 0;

	for (int64_t now = start; now < end;) {
		int wait = limits_wait_ms(t, now);

		now += wait;
		if (wait > 0 || now >= end)
			continue;
		CHECK(begin(t, 1, NULL, now) == LIMITS_OK);
		CHECK(limits_end_session(t, 1));
		n++;
	}
	return n;
}

static void
rates(void)
{
	struct limits_state *t = new_limits(1, 1, 50, 50);

	/*
	 * The rate permits the sessions of a whole second at once. After these,
	 * it permits one session every 20 ms.
	 */
	CHECK(begin_all(t, 1000, 1001) == 50);
	CHECK(limits_wait_ms(t, 1001) == 19);
	CHECK(begin_all(t, 1001, 2001) == 50);
	CHECK(begin_all(t, 2001, 3001) == 50);
	/*
	 * Idle time earns at most the credit of one second. The next session
	 * uses up a part of that credit.
	 */
	CHECK(begin_all(t, 1000000, 1000001) == 50);
	limits_wait_ms(t, 2000000);
	CHECK(begin(t, 1, NULL, 3000000) == LIMITS_OK);
	CHECK(limits_end_session(t, 1));
	CHECK(begin_all(t, 3000000, 3000001) == 49);
	free(t);
	t = new_limits(1, 1, 3, 3);
	CHECK(begin_all(t, 1000, 11000) >= 3 + 29 &&
	    begin_all(t, 11000, 21000) <= 31);
	free(t);
	t = new_limits(1, 1, LIMITS_MAX, 1);
	CHECK(begin_all(t, 1000, 1010) >= LIMITS_MAX);
	free(t);
}

/*
 * Tries to begin n sessions from the address at the same time, and ends each
 * one. Returns the number of sessions that the limits permit.
 */
static int
burst(struct limits_state *t, const char *address, int n, int64_t now)
{
	struct address_net net = net_of(address);
	int let_in = 0;

	while (n-- > 0)
		if (begin(t, 1, &net, now) == LIMITS_OK) {
			CHECK(limits_end_session(t, 1));
			let_in++;
		}
	return let_in;
}

/*
 * Each address has its own rate. Connections from one address do not use up the
 * rate of another address.
 */
static void
each_rates(void)
{
	struct limits_state *t = new_limits(100, 4, 100000, 2);
	struct address_net a = net_of("192.0.2.1");
	int64_t now;

	/*
	 * An address may begin as many connections at once as it may have
	 * sessions, four here. Two more may wait for up to a second. After
	 * that, the address may begin two connections a second.
	 */
	CHECK(burst(t, "192.0.2.1", 1000, 1000) == 4 + 2);
	CHECK(begin(t, 1, &a, 1499) == LIMITS_EACH_RATE);
	CHECK(burst(t, "192.0.2.1", 1000, 1500) == 1);
	CHECK(burst(t, "::ffff:192.0.2.1", 1000, 2000) == 1);
	CHECK(burst(t, "192.0.2.2", 1000, 2000) == 4 + 2);
	for (now = 2000; now < 12000; now++)
		CHECK(burst(t, "192.0.2.1", 1, now) ==
		    (now % 500 == 0 && now > 2000));
	/* A /64 network counts as one address. */
	CHECK(burst(t, "2001:db8::1", 2, now) == 2 &&
	    burst(t, "2001:db8::2", 1000, now) == 2 + 2);
	CHECK(burst(t, "2001:db8:0:1::1", 1000, now) == 4 + 2);
	/*
	 * Idle time refills the credit of the address. A very long idle time
	 * does not overflow.
	 */
	CHECK(burst(t, "192.0.2.1", 1000, now + 1000000000000) == 4 + 2);
	free(t);
	/*
	 * If the rate is larger than the number of sessions, the credit is at
	 * most the rate.
	 */
	t = new_limits(100, 4, 100000, 7);
	CHECK(burst(t, "192.0.2.1", 1000, 1000) == 7 + 7);
	free(t);
}

/* Returns the network whose first bytes are those of n. */
static struct address_net
numbered(uint64_t n)
{
	struct address_net net;

	for (int i = 0; i < 8; i++)
		net.bytes[i] = (unsigned char)(n >> (56 - 8 * i));
	return net;
}

/*
 * Very many addresses connect. The addresses with sessions are still counted,
 * no new address is rejected, and the hash chains stay short.
 */
static void
many_addresses(void)
{
	struct limits_state *t = new_limits(10, 1, 100000, 1);
	struct address_net a = net_of("192.0.2.1"), b = net_of("192.0.2.2"),
			   other;
	int longest = 0;

	CHECK(begin(t, 10, &a, 1000) == LIMITS_OK);
	CHECK(burst(t, "192.0.2.2", 3, 1000) == 2);
	/*
	 * An unused address is kept until LIMITS_SEEN other addresses have
	 * connected.
	 */
	for (uint64_t n = 0; n < LIMITS_SEEN; n++) {
		other = numbered(0x20010db800000000 + n);
		CHECK(begin(t, 11, &other, 1000) == LIMITS_OK &&
		    limits_end_session(t, 11));
		CHECK(begin(t, 11, &other, 1000) == LIMITS_OK &&
		    limits_end_session(t, 11));
		CHECK(begin(t, 11, &other, 1000) == LIMITS_EACH_RATE);
	}
	CHECK(begin(t, 11, &b, 1000) == LIMITS_EACH_RATE);
	for (uint64_t n = 0; n < 200000; n++) {
		other = numbered(0x20020db800000000 + (n << 16));
		CHECK(begin(t, 11, &other, 1000) == LIMITS_OK &&
		    limits_end_session(t, 11));
		CHECK(begin(t, 12, &a, 1000) == LIMITS_EACH);
	}
	CHECK(begin(t, 11, &b, 1000) == LIMITS_OK && limits_end_session(t, 11));
	CHECK(t->sources->used == t->sources->room);
	for (int i = 1; i <= t->sources->used; i++) {
		int chain = 0;

		for (int j = i; j != 0; j = t->sources->at[j].chained)
			chain++;
		longest = chain > longest ? chain : longest;
	}
	CHECK(longest <= 16);
	CHECK(limits_end_session(t, 10));
	free(t);
}

/* Compares random beginnings and ends of sessions with a simple model. */
static void
model(void)
{
	enum { NETS = 40, PIDS = 200 };
	struct limits_state *t = new_limits(60, 3, 100000, 100000);
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
			CHECK(limits_end_session(t, pid + 1));
			used[of_pid[pid]]--;
			of_pid[pid] = -1;
			count--;
			continue;
		}
		CHECK(begin(t, pid + 1, &net, 1000 + n) ==
		    (count == 60         ? LIMITS_ALL :
			    used[i] == 3 ? LIMITS_EACH :
					   LIMITS_OK));
		if (count == 60 || used[i] == 3)
			continue;
		of_pid[pid] = i;
		used[i]++;
		count++;
	}
	CHECK(t->count == count);
	free(t);
}

/* Returns a waiting connection with this descriptor and rank. */
static struct waiting
waiting(int fd, int64_t rank)
{
	return (struct waiting){ .fd = fd, .slot.rank = rank };
}

static void
queues(void)
{
	static struct accept_queue q = { .most = 4 };
	static const int order[] = { 1, 4, 7, 2 };
	const struct {
		int fd;
		int64_t rank;
	} come[] = { { 1, 0 }, { 2, 1000 }, { 3, 2000 }, { 4, 0 } };
	struct waiting w, lost;

	for (int i = 0; i < 4; i++) {
		w = waiting(come[i].fd, come[i].rank);
		CHECK(!queue_add(&q, &w, &lost));
	}
	/*
	 * If the queue is full, the connection with the highest rank is lost.
	 * If the new connection has the same rank, the new one is lost.
	 */
	w = waiting(5, 2000);
	CHECK(queue_add(&q, &w, &lost) && lost.fd == 5 && q.count == 4);
	w = waiting(6, 1000);
	CHECK(queue_add(&q, &w, &lost) && lost.fd == 3 && q.count == 4);
	w = waiting(7, 0);
	CHECK(queue_add(&q, &w, &lost) && lost.fd == 6 && q.count == 4);
	/*
	 * The connection with the lowest rank comes first. Among equal ranks,
	 * the oldest connection comes first.
	 */
	for (int i = 0; i < 4; i++)
		CHECK(queue_remove(&q, queue_next(&q)).fd == order[i]);
	CHECK(q.count == 0);
}

/*
 * The first connection of one address is served before the second connection of
 * another address, even if the second connection arrived earlier.
 */
static void
turns(void)
{
	static struct accept_queue q = { .most = LIMITS_WAITING };
	struct limits_state *t = new_limits(1000, 100, 1, 1);
	struct address_net a = net_of("192.0.2.1"), b = net_of("192.0.2.2");
	struct waiting w = { .fd = 0 }, lost;

	for (w.fd = 0; w.fd < 100; w.fd++) {
		CHECK(limits_take_slot(t, &a, 1000, &w.slot) == LIMITS_OK);
		CHECK(!queue_add(&q, &w, &lost));
	}
	CHECK(limits_take_slot(t, &a, 1000, &w.slot) == LIMITS_EACH);
	CHECK(limits_take_slot(t, &b, 1000, &w.slot) == LIMITS_OK);
	CHECK(!queue_add(&q, &w, &lost));
	CHECK(queue_remove(&q, queue_next(&q)).fd == 0);
	CHECK(queue_remove(&q, queue_next(&q)).fd == 100);
	CHECK(queue_remove(&q, queue_next(&q)).fd == 1);
	free(t);
}

/*
 * A connection above the rate of its address becomes due when the rate permits
 * the connection. A connection that is due earlier has a lower rank.
 */
static void
waits(void)
{
	struct limits_state *t = new_limits(100, 4, 100000, 2);
	struct address_net a = net_of("192.0.2.1"), b = net_of("192.0.2.2");
	static const int64_t due[] = { 1000, 1000, 1000, 1000, 1500, 2000 };
	struct limits_slot slot, first = { .source = 0 }, other;

	for (int i = 0; i < 6; i++) {
		CHECK(limits_take_slot(t, &a, 1000, &slot) == LIMITS_OK &&
		    slot.due == due[i]);
		first = i == 4 ? slot : first;
		limits_return_slot(t, &slot);
	}
	CHECK(limits_take_slot(t, &a, 1000, &slot) == LIMITS_EACH_RATE);
	CHECK(limits_take_slot(t, &b, 1499, &other) == LIMITS_OK &&
	    other.due == 1499 && other.rank < first.rank);
	limits_return_slot(t, &other);
	CHECK(limits_take_slot(t, NULL, 1499, &other) == LIMITS_OK &&
	    other.due == 1499);
	/*
	 * A second later the debt of the address is paid, but the address has
	 * no credit.
	 */
	CHECK(limits_take_slot(t, &a, 2500, &slot) == LIMITS_OK &&
	    slot.due == 2500);
	limits_return_slot(t, &slot);
	CHECK(limits_take_slot(t, &a, 2500, &slot) == LIMITS_OK &&
	    slot.due == 3000);
	free(t);
}

/*
 * A bucket of one token a second that owes a token is full after two seconds,
 * and after an hour, too.
 */
static void
debt_at_the_lowest_rate(void)
{
	struct limits_state *t = new_limits(100, 1, 100000, 1);
	struct address_net a = net_of("192.0.2.1");
	struct limits_slot slot;

	for (int i = 0; i < 2; i++) {
		CHECK(limits_take_slot(t, &a, 1000, &slot) == LIMITS_OK &&
		    slot.due == 1000 + i * 1000);
		limits_return_slot(t, &slot);
	}
	CHECK(limits_take_slot(t, &a, 3601000, &slot) == LIMITS_OK &&
	    slot.due == 3601000);
	free(t);
}

/*
 * Very many new addresses connect. They do not delay an older address for ever.
 */
static void
no_starvation(void)
{
	static struct accept_queue q = { .most = LIMITS_WAITING };
	struct limits_state *t = new_limits(100000, 20, 1, 25);
	struct address_net b = net_of("192.0.2.2"), other;
	struct waiting w = { .fd = 1 }, lost;
	int64_t now = 1000;
	int next;

	CHECK(begin(t, 1, &b, now) == LIMITS_OK);
	CHECK(limits_take_slot(t, &b, now, &w.slot) == LIMITS_OK);
	CHECK(!queue_add(&q, &w, &lost));
	/*
	 * In each millisecond one connection arrives and one is served. The
	 * second connection of address b is due after 40 ms, and must be served
	 * at that time.
	 */
	do {
		now++;
		other = numbered((uint64_t)now << 20);
		w.fd = 2;
		CHECK(limits_take_slot(t, &other, now, &w.slot) == LIMITS_OK);
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
	slots();
	rates();
	each_rates();
	many_addresses();
	model();
	queues();
	turns();
	waits();
	debt_at_the_lowest_rate();
	no_starvation();
	return 0;
}
