/*
 * Sends and receives packets, with descriptors, over the socket pairs between
 * the processes of a connection.
 *
 * Runs as root in main and in the monitor, and without root's rights in the
 * pre-auth process, kpopd-tls, the session, the broker and the recovery. This
 * file does not interpret the bytes of a packet. packet_receive may read from a
 * compromised process, so it accepts no descriptor. packet_await reads only
 * from the monitor and from a kept kpopd-tls, which read nothing from clients.
 */
#include "config.h"

#include <sys/socket.h>

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include "log.h"
#include "packet.h"

void
packet_make_channel(int ends[2])
{
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == -1)
		fatal("socketpair");
}

int
packet_send(int channel, const void *data, size_t n, const int *fds, int k)
{
	struct iovec part = { .iov_base = (void *)(uintptr_t)data,
		.iov_len = n };
	union {
		char bytes[CMSG_SPACE(PACKET_FILES * sizeof(int))];
		struct cmsghdr align;
	} control = { .bytes = { 0 } };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1 };
	ssize_t sent;

	if (k > 0) {
		struct cmsghdr *c;

		message.msg_control = &control;
		message.msg_controllen = CMSG_SPACE((size_t)k * sizeof(int));
		c = CMSG_FIRSTHDR(&message);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN((size_t)k * sizeof(int));
		memcpy(CMSG_DATA(c), fds, (size_t)k * sizeof(int));
	}
	/*
	 * Use send if there are no descriptors, because most filters do not
	 * permit sendmsg.
	 */
	do
		sent = k > 0 ? sendmsg(channel, &message, MSG_NOSIGNAL) :
			       send(channel, data, n, MSG_NOSIGNAL);
	while (sent == -1 && errno == EINTR);
	return sent == (ssize_t)n ? 0 : -1;
}

/* Closes the descriptors that came with a packet. c: its control data. */
static void
close_received(const struct cmsghdr *c)
{
	size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

	for (size_t i = 0; i < n; i++) {
		int fd;

		memcpy(&fd, CMSG_DATA(c) + i * sizeof(fd), sizeof(fd));
		close(fd);
	}
}

int
packet_await(int channel, void *data, size_t n, int *fds, int k)
{
	struct iovec part = { .iov_base = data, .iov_len = n };
	union {
		char bytes[CMSG_SPACE(PACKET_FILES * sizeof(int))];
		struct cmsghdr align;
	} control;
	struct msghdr message = { .msg_iov = &part,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control) };
	const struct cmsghdr *c;
	ssize_t got;

	do
		got = recvmsg(channel, &message, MSG_CMSG_CLOEXEC);
	while (got == -1 && errno == EINTR);
	c = got > 0 ? CMSG_FIRSTHDR(&message) : NULL;
	if (c == NULL || c->cmsg_level != SOL_SOCKET ||
	    c->cmsg_type != SCM_RIGHTS)
		return -1;
	if (got != (ssize_t)n || (message.msg_flags & MSG_TRUNC) != 0 ||
	    c->cmsg_len != CMSG_LEN((size_t)k * sizeof(int))) {
		close_received(c);
		return -1;
	}
	memcpy(fds, CMSG_DATA(c), (size_t)k * sizeof(int));
	return 0;
}

ssize_t
packet_receive(int channel, void *data, size_t size)
{
	struct iovec part = { .iov_base = data, .iov_len = size };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1 };
	ssize_t n = recvmsg(channel, &message, MSG_DONTWAIT);

	if (n == -1)
		return errno == EAGAIN || errno == EINTR ? PACKET_NONE :
							   PACKET_END;
	/*
	 * The kernel opens no descriptor, because message has no buffer for
	 * control data.
	 */
	return (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) == 0 ? n :
								     PACKET_BAD;
}
