/*
 * Unit tests of privsep.c: what the monitor takes for a report. Runs as anybody.
 */
#include "config.h"

#include <sys/socket.h>

#include <string.h>
#include <unistd.h>

#include "log.h"
#include "privsep.h"
#include "tests/unit/check.h"

static int channel[2];

/* Returns true if a monitor takes this packet for a report. */
static bool
taken(const void *packet, size_t n, struct report *r)
{
	char space[sizeof(*r)];
	ssize_t size;

	CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, channel) == 0);
	CHECK(send(channel[1], packet, n, 0) == (ssize_t)n);
	size = packet_receive(channel[0], space, sizeof(space));
	close(channel[0]);
	close(channel[1]);
	CHECK(size == (n > sizeof(space) ? PACKET_BAD : (ssize_t)n));
	return size > 0 && report_read(space, (size_t)size, r);
}

static struct report
good_report(void)
{
	struct report r = { .unread_size = 6, .user = "alice", .unread = "STAT\r\n" };

	r.kind = REPORT_LOGIN;
	strlcpy(r.address.text, "[2001:db8::1]:4711", sizeof(r.address.text));
	strlcpy(r.peer.principal, "alice@KPOPD.TEST", sizeof(r.peer.principal));
	return r;
}

static void
reports(void)
{
	struct report good = good_report(), r, bad;
	char larger[sizeof(r) + 1] = { 0 };
	unsigned char noise[sizeof(r)];
	int fds[2];

	CHECK(taken(&good, sizeof(good), &r));
	CHECK(memcmp(&good, &r, sizeof(r)) == 0);
	memcpy(larger, &good, sizeof(good));
	CHECK(!taken(larger, sizeof(larger), &r));
	for (size_t n = 1; n < sizeof(good); n += 7)
		CHECK(!taken(&good, n, &r));

	bad = good;
	bad.kind = 'X';
	CHECK(!taken(&bad, sizeof(bad), &r));
	bad = good;
	strlcpy(bad.address.text, "192.0.2.1:1\nlogin user=root", sizeof(bad.address.text));
	CHECK(!taken(&bad, sizeof(bad), &r));
	memset(bad.address.text, '1', sizeof(bad.address.text));
	CHECK(!taken(&bad, sizeof(bad), &r));
	bad = good;
	memset(bad.peer.layer, 'a', sizeof(bad.peer.layer));
	CHECK(!taken(&bad, sizeof(bad), &r));
	bad = good;
	bad.unread_size = IO_IN + 1;
	CHECK(!taken(&bad, sizeof(bad), &r));
	bad.unread_size = UINT32_MAX;
	CHECK(!taken(&bad, sizeof(bad), &r));
	bad = good;
	memset(bad.user, 'a', sizeof(bad.user));
	CHECK(!taken(&bad, sizeof(bad), &r));
	/* What it is a name of is asked later. */
	bad = good;
	strlcpy(bad.user, "../alice\n", sizeof(bad.user));
	CHECK(taken(&bad, sizeof(bad), &r));
	bad = good;
	memset(bad.peer.principal, 'a', sizeof(bad.peer.principal));
	CHECK(!taken(&bad, sizeof(bad), &r));
	bad = good;
	memset(bad.peer.service, 'a', sizeof(bad.peer.service));
	CHECK(!taken(&bad, sizeof(bad), &r));
	bad = good;
	memset(bad.peer.ticket, 'a', sizeof(bad.peer.ticket));
	CHECK(!taken(&bad, sizeof(bad), &r));
	bad = good;
	memset(bad.peer.session, 'a', sizeof(bad.peer.session));
	CHECK(!taken(&bad, sizeof(bad), &r));
	srandom(1);
	for (int i = 0; i < 1000; i++) {
		for (size_t k = 0; k < sizeof(noise); k++)
			noise[k] = (unsigned char)random();
		CHECK(!taken(noise, sizeof(noise), &r));
	}

	/* The pre-auth process ends: with nothing said, and with descriptors sent along. */
	CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, fds) == 0);
	CHECK(packet_receive(fds[0], &r, sizeof(r)) == PACKET_NONE);
	close(fds[1]);
	CHECK(packet_receive(fds[0], &r, sizeof(r)) == PACKET_END);
	close(fds[0]);
}

static void
descriptors_are_refused(void)
{
	struct report good = good_report(), r;
	struct iovec part = { &good, sizeof(good) };
	union {
		char room[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = { .room = { 0 } };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1,
		.msg_control = control.room, .msg_controllen = sizeof(control.room) };
	struct cmsghdr *head = CMSG_FIRSTHDR(&message);

	head->cmsg_level = SOL_SOCKET;
	head->cmsg_type = SCM_RIGHTS;
	head->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(head), &(int){ 0 }, sizeof(int));
	CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, channel) == 0);
	CHECK(sendmsg(channel[1], &message, 0) == (ssize_t)sizeof(good));
	CHECK(packet_receive(channel[0], &r, sizeof(r)) == PACKET_BAD);
}

int
main(void)
{
	reports();
	descriptors_are_refused();
	return 0;
}
