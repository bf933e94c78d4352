/*
 * Simulates a client in memory for the code that uses an io, without system
 * calls and without waiting.
 *
 * The linker replaces the calls by the __wrap_ functions (--wrap). The clock
 * advances only when poll waits for an event that does not come, so that
 * timeouts of minutes pass at once.
 */
#include "config.h"

#include <sys/ioctl.h>
#include <sys/socket.h>

#include <errno.h>
#include <linux/sockios.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "fuzz/peer.h"

struct peer peer;
static bool hesitated;

void
peer_begin(struct io *io, const uint8_t *data, size_t size, unsigned manner)
{
	static const size_t pieces[] = { 65536, 1, 3, 100 };
	char *said = peer.said;
	size_t room = peer.room;

	peer = (struct peer){ .data = data,
		.size = size,
		.piece = pieces[manner & 3],
		.hesitates = (manner & 4) != 0,
		.end = (manner >> 3 & 3) % 3,
		.takes = (manner & 0x20) != 0 ? 700 : SIZE_MAX,
		.said = said,
		.room = room,
		.clock = 1000 };
	hesitated = false;
	io_init(io, 0, peer.clock + 30000);
}

size_t
peer_used(const struct io *io)
{
	const char *unread;

	return peer.at - io_unread(io, &unread);
}

ssize_t __wrap_recv(int, void *, size_t, int);
ssize_t
__wrap_recv(int fd, void *to, size_t n, int flags)
{
	size_t left = peer.size - peer.at;

	(void)fd;
	HOLDS((flags & MSG_DONTWAIT) != 0 && n > 0);
	if (peer.hesitates && !hesitated && left > 0) {
		hesitated = true;
		errno = EAGAIN;
		return -1;
	}
	hesitated = false;
	if (left == 0) {
		errno = peer.end == PEER_WAITS ? EAGAIN : ECONNRESET;
		return peer.end == PEER_CLOSES ? 0 : -1;
	}
	if (n > left)
		n = left;
	if (n > peer.piece)
		n = peer.piece;
	memcpy(to, peer.data + peer.at, n);
	peer.at += n;
	return (ssize_t)n;
}

/* _FORTIFY_SOURCE renames recv to __recv_chk. */
ssize_t __wrap___recv_chk(int, void *, size_t, size_t, int);
ssize_t
__wrap___recv_chk(int fd, void *to, size_t n, size_t room, int flags)
{
	HOLDS(n <= room);
	return __wrap_recv(fd, to, n, flags);
}

ssize_t __wrap_send(int, const void *, size_t, int);
ssize_t
__wrap_send(int fd, const void *from, size_t n, int flags)
{
	(void)fd;
	HOLDS((flags & MSG_DONTWAIT) != 0 && (flags & MSG_NOSIGNAL) != 0);
	if (peer.said_size >= peer.takes) {
		errno = peer.end == PEER_WAITS ? EAGAIN : EPIPE;
		return -1;
	}
	if (n > peer.piece)
		n = peer.piece;
	if (peer.said_size + n > peer.room) {
		peer.room = 2 * (peer.said_size + n);
		HOLDS((peer.said = realloc(peer.said, peer.room)) != NULL);
	}
	memcpy(peer.said + peer.said_size, from, n);
	peer.said_size += n;
	return (ssize_t)n;
}

/*
 * Stores the number of bytes that are not acknowledged. The number is 1 if the
 * client accepts no more bytes, and 0 if it does.
 */
int __wrap_ioctl(int, unsigned long, int *);
int
__wrap_ioctl(int fd, unsigned long request, int *n)
{
	(void)fd;
	HOLDS(request == SIOCOUTQ);
	*n = peer.said_size >= peer.takes;
	return 0;
}

int __wrap_poll(struct pollfd *, nfds_t, int);
int
__wrap_poll(struct pollfd *p, nfds_t n, int timeout)
{
	bool has_room = peer.said_size < peer.takes;
	bool ready = p->events == 0   ? !has_room && peer.end != PEER_WAITS :
	    (p->events & POLLIN) != 0 ? peer.at < peer.size ||
		peer.end != PEER_WAITS :
					has_room;

	HOLDS((timeout > 0 || p->events == 0) && n >= 1);
	for (nfds_t i = 1; i < n; i++)
		p[i].revents = 0;
	p->revents = !ready ? 0 : p->events == 0 ? POLLERR : p->events;
	if (!ready)
		peer.clock += timeout;
	return ready;
}

int __wrap___poll_chk(struct pollfd *, nfds_t, int, size_t);
int
__wrap___poll_chk(struct pollfd *p, nfds_t n, int timeout, size_t size)
{
	HOLDS(n * sizeof(*p) <= size);
	return __wrap_poll(p, n, timeout);
}

int __real_clock_gettime(clockid_t, struct timespec *);
int __wrap_clock_gettime(clockid_t, struct timespec *);
int
__wrap_clock_gettime(clockid_t which, struct timespec *t)
{
	/* auth_prepare compares krb5.conf's times with the real time. */
	if (which == CLOCK_REALTIME)
		return __real_clock_gettime(which, t);
	HOLDS(which == CLOCK_MONOTONIC || which == CLOCK_BOOTTIME);
	/* Pretend that the machine was booted long ago. */
	if (which == CLOCK_BOOTTIME) {
		*t = (struct timespec){ .tv_sec = 1000000 };
		return 0;
	}
	*t = (struct timespec){ .tv_sec = peer.clock / 1000,
		.tv_nsec = (long)(peer.clock % 1000 * 1000000) };
	return 0;
}
