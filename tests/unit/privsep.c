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

static enum report_result
after(const void *packet, size_t n, struct report *r)
{
	enum report_result result;

	CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, channel) == 0);
	if (packet != NULL)
		CHECK(send(channel[1], packet, n, 0) == (ssize_t)n);
	result = report_await(channel[0], r, io_now() + 100);
	close(channel[0]);
	close(channel[1]);
	return result;
}

static struct report
good_report(void)
{
	struct report r = { .unread_size = 6, .user = "alice", .unread = "STAT\r\n" };

	r.kind = REPORT_LOGIN;
	strlcpy(r.address, "[2001:db8::1]:4711", sizeof(r.address));
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

	CHECK(after(&good, sizeof(good), &r) == REPORT_GOOD);
	CHECK(memcmp(&good, &r, sizeof(r)) == 0);
	CHECK(after(NULL, 0, &r) == REPORT_LATE);
	memcpy(larger, &good, sizeof(good));
	CHECK(after(larger, sizeof(larger), &r) == REPORT_BAD);
	for (size_t n = 1; n < sizeof(good); n += 7)
		CHECK(after(&good, n, &r) == REPORT_BAD);

	bad = good;
	bad.kind = 'X';
	CHECK(after(&bad, sizeof(bad), &r) == REPORT_BAD);
	bad = good;
	strlcpy(bad.address, "192.0.2.1:1\nlogin user=root", sizeof(bad.address));
	CHECK(after(&bad, sizeof(bad), &r) == REPORT_BAD);
	memset(bad.address, '1', sizeof(bad.address));
	CHECK(after(&bad, sizeof(bad), &r) == REPORT_BAD);
	bad = good;
	memset(bad.peer.layer, 'a', sizeof(bad.peer.layer));
	CHECK(after(&bad, sizeof(bad), &r) == REPORT_BAD);
	bad = good;
	bad.unread_size = IO_IN + 1;
	CHECK(after(&bad, sizeof(bad), &r) == REPORT_BAD);
	bad.unread_size = UINT32_MAX;
	CHECK(after(&bad, sizeof(bad), &r) == REPORT_BAD);
	bad = good;
	memset(bad.user, 'a', sizeof(bad.user));
	CHECK(after(&bad, sizeof(bad), &r) == REPORT_BAD);
	/* What it is a name of is asked later. */
	bad = good;
	strlcpy(bad.user, "../alice\n", sizeof(bad.user));
	CHECK(after(&bad, sizeof(bad), &r) == REPORT_GOOD);
	bad = good;
	memset(bad.peer.principal, 'a', sizeof(bad.peer.principal));
	CHECK(after(&bad, sizeof(bad), &r) == REPORT_BAD);
	bad = good;
	memset(bad.peer.service, 'a', sizeof(bad.peer.service));
	CHECK(after(&bad, sizeof(bad), &r) == REPORT_BAD);
	bad = good;
	memset(bad.peer.enctype, 'a', sizeof(bad.peer.enctype));
	CHECK(after(&bad, sizeof(bad), &r) == REPORT_BAD);
	srandom(1);
	for (int i = 0; i < 1000; i++) {
		for (size_t k = 0; k < sizeof(noise); k++)
			noise[k] = (unsigned char)random();
		CHECK(after(noise, sizeof(noise), &r) == REPORT_BAD);
	}

	/* The gate ends: with nothing said, and with descriptors sent along. */
	CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, fds) == 0);
	close(fds[1]);
	CHECK(report_await(fds[0], &r, io_now() + 1000) == REPORT_NONE);
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
	CHECK(report_await(channel[0], &r, io_now() + 1000) == REPORT_BAD);
}

int
main(void)
{
	reports();
	descriptors_are_refused();
	return 0;
}
