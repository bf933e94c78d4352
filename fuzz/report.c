/*
 * Fuzz target: report_read over any packet that a compromised pre-auth process could send.
 *
 * Input: one byte how, then a packet, or changes to a good one: place, length,
 * bytes. What holds: a packet is taken exactly when all that privsep.h says of
 * it is so, and no descriptor comes with it.
 */
#include "config.h"

#include <sys/socket.h>

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fuzz/fuzz.h"
#include "privsep.h"

enum { RAW = 1, WITH_FD = 2, SHORTER = 4, LONGER = 8 };

static bool
is_among(const char *text, size_t size, const char *letters)
{
	for (size_t i = 0; i < size; i++) {
		if (text[i] == '\0')
			return true;
		if (strchr(letters, text[i]) == NULL)
			return false;
	}
	return false;
}

static bool
ends(const char *text, size_t size)
{
	return memchr(text, '\0', size) != NULL;
}

/* The sentences of privsep.h, written down again. */
static bool
is_good(const struct report *r)
{
	static const char hex[] = "0123456789abcdefABCDEF.:[]";

	return (r->kind == 'R' || r->kind == 'T' || r->kind == 'L' || r->kind == 'P') &&
	    is_among(r->address.text, sizeof(r->address.text), hex) && ends(r->user, sizeof(r->user)) &&
	    ends(r->peer.principal, sizeof(r->peer.principal)) && ends(r->peer.service, sizeof(r->peer.service)) &&
	    ends(r->peer.ticket, sizeof(r->peer.ticket)) &&
	    ends(r->peer.session, sizeof(r->peer.session)) && ends(r->peer.layer, sizeof(r->peer.layer)) &&
	    r->unread_size <= sizeof(r->unread);
}

/* Changes to a good packet. */
static void
change(struct report *r, struct input *in)
{
	*r = (struct report){ .kind = 'R', .address = { "192.0.2.1:1" }, .user = "alice",
		.unread_size = 6, .unread = "STAT\r\n",
		.peer = { .principal = "alice@R", .service = "pop/h@R", .ticket = "t", .session = "s", .layer = "none" } };
	while (in->left > 0) {
		size_t at = input_below(in, sizeof(*r)), n = input_byte(in);
		const uint8_t *from = input_take(in, &n);

		if (n > sizeof(*r) - at)
			n = sizeof(*r) - at;
		memcpy((char *)r + at, from, n);
	}
}

static void
put(int channel, const void *data, size_t n, bool with_fd)
{
	struct iovec space = { .iov_base = (void *)(uintptr_t)data, .iov_len = n };
	union {
		char space[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = { .space = { 0 } };
	struct msghdr message = { .msg_iov = &space, .msg_iovlen = 1 };

	if (with_fd) {
		struct cmsghdr *c;

		message.msg_control = &control;
		message.msg_controllen = sizeof(control);
		c = CMSG_FIRSTHDR(&message);
		*c = (struct cmsghdr){ .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS,
			.cmsg_len = CMSG_LEN(sizeof(int)) };
		memcpy(CMSG_DATA(c), &channel, sizeof(int));
	}
	HOLDS(sendmsg(channel, &message, 0) == (ssize_t)n);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static int channel[2] = { -1, -1 }, next = -1;
	static struct report packet[2];
	static char space[sizeof(struct report)];
	struct report got, *sent = &packet[0];
	struct input in = { data, size };
	unsigned how = input_byte(&in);
	size_t n = sizeof(*sent);
	ssize_t received;
	bool good;

	if (channel[0] == -1)
		HOLDS(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, channel) == 0);
	memset(packet, 0, sizeof(packet));
	if ((how & RAW) != 0) {
		n = in.left < sizeof(packet) ? in.left : sizeof(packet);
		memcpy(packet, in.at, n);
	} else {
		change(sent, &in);
		n = (how & SHORTER) != 0 ? n - 1 : (how & LONGER) != 0 ? n + 1 : n;
	}
	put(channel[0], sent, n, (how & WITH_FD) != 0);
	memset(&got, 0x55, sizeof(got));
	received = packet_receive(channel[1], space, sizeof(space));
	/* An empty packet is the end to the process that receives it. */
	HOLDS(received == ((how & WITH_FD) != 0 || n > sizeof(space) ? PACKET_BAD : (ssize_t)n));
	good = received == (ssize_t)sizeof(*sent) && is_good(sent);
	HOLDS((received > 0 && report_read(space, (size_t)received, &got)) == good);
	HOLDS(!good || memcmp(&got, sent, sizeof(got)) == 0);
	/* No descriptor has come along: the next one has the number it had. */
	if (next == -1)
		next = dup(0);
	else
		HOLDS(dup(0) == next);
	close(next);
	return 0;
}
