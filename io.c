/*
 * A buffered connection with a deadline and one place for errors.
 *
 * Runs as the pre-auth user, later as the owner of the mailbox. The peer is not
 * trusted: it may send or take one byte at a time, anything, or nothing.
 *
 * Time is kept by poll and the monotonic clock, never by a signal. Until the
 * login one absolute deadline covers everything; afterwards each line of input
 * and each buffer of output has a limit of its own, which a trickle of bytes
 * does not extend. The first error stays: callers may go on writing and ask
 * once. After it no line is handed out, even if it is buffered already; a dead
 * connection orders nothing. Whoever else wants the connection's end says so by another descriptor,
 * and is heard while the peer is silent. Input and output are sockets, used without blocking and without
 * changing the flags that other processes on the same socket would see.
 */
#include "config.h"

#include <sys/ioctl.h>
#include <sys/socket.h>

#include <errno.h>
#include <limits.h>
#include <linux/sockios.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "io.h"

#define LINGER_MS 2000
/* The kernel reports no event for an acknowledgement, so it is asked again after steps that grow to this. */
#define STEP_MS 50

void
io_init(struct io *io, int fd, int64_t deadline)
{
	io->fd = fd;
	io->deadline = deadline;
	io->idle = io->stall = 0;
	io->wish = -1;
	io->patience = 0;
	io->frugal = false;
	io->error = IO_OK;
	io->line_size = 0;
	io->in_at = io->in_end = io->out_end = 0;
}

void
io_limits(struct io *io, int64_t idle, int64_t stall)
{
	io->deadline = 0;
	io->idle = idle;
	io->stall = stall;
}

void
io_switch(struct io *io, int fd)
{
	io->fd = fd;
	io->in_at = io->in_end = 0;
}

void
io_yield(struct io *io, int wish, int64_t patience)
{
	io->wish = wish;
	io->patience = patience;
}

void
io_prime(struct io *io, const void *data, size_t n)
{
	memcpy(io->in, data, n);
	io->in_at = 0;
	io->in_end = n;
}

size_t
io_unread(const struct io *io, const char **data)
{
	*data = io->in + io->in_at;
	return io->in_end - io->in_at;
}

static int
failed(struct io *io, enum io_error error)
{
	if (io->error == IO_OK)
		io->error = error;
	return -1;
}

/* The moment at which a wait that begins now has to end. */
static int64_t
limit(const struct io *io, int64_t span)
{
	return io->deadline != 0 ? io->deadline : clock_ms() + span;
}

/* Whether there was a wish for this connection's end. They are repeated, so those that come too early are forgotten. */
static bool
hear_wishes(struct io *io)
{
	char wishes[64];

	if (read(io->wish, wishes, sizeof(wishes)) > 0)
		return true;
	io->wish = -1;
	return false;
}

/*
 * Waits for events, an error or the peer's end until the moment given. begin:
 * since when the peer has been silent. Returns 1, 0 if the time is over, or -1
 * with io->error set.
 */
static int
watch(struct io *io, short events, int64_t begin, int64_t until)
{
	for (;;) {
		struct pollfd p[2] = { { .fd = io->fd, .events = events },
			{ .fd = io->wish, .events = POLLIN } };
		int64_t left = until - clock_ms();
		int n = poll(p, 2, left > INT_MAX ? INT_MAX : left > 0 ? (int)left : 0);

		if (n < 0 && errno != EINTR)
			return failed(io, IO_FAILED);
		if (n > 0 && p[0].revents != 0)
			return 1;
		if (n > 0 && p[1].revents != 0 && hear_wishes(io) && clock_ms() - begin >= io->patience)
			return failed(io, IO_YIELDED);
		if (n <= 0 && clock_ms() >= until)
			return 0;
	}
}

/* Waits for events until the moment given. Returns 0 or -1. */
static int
await(struct io *io, short events, int64_t until, enum io_error late)
{
	int64_t now = clock_ms();

	if (now >= until)
		return failed(io, late);
	switch (watch(io, events, now, until)) {
	case 1:
		return 0;
	case 0:
		return failed(io, late);
	default:
		return -1;
	}
}

/* What an errno of send or recv says about the connection. */
static enum io_error
what_happened(int error)
{
	switch (error) {
	case EPIPE:
	case ECONNRESET:
	case ECONNABORTED:
	case ETIMEDOUT:
	case EHOSTUNREACH:
	case ENETUNREACH:
		return IO_CLOSED;
	default:
		return IO_FAILED;
	}
}

int
io_flush(struct io *io)
{
	int64_t until = limit(io, io->stall);
	size_t at = 0;

	while (io->error == IO_OK && at < io->out_end) {
		ssize_t n = send(io->fd, io->out + at, io->out_end - at,
		    MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n >= 0)
			at += (size_t)n;
		else if (errno == EAGAIN || errno == EWOULDBLOCK)
			await(io, POLLOUT, until, IO_STALLED);
		else if (errno != EINTR)
			failed(io, what_happened(errno));
	}
	io->out_end = 0;
	return io->error == IO_OK ? 0 : -1;
}

/* Returns how many of the bytes sent the peer has not acknowledged; 0 if the kernel cannot tell. */
static int
outstanding(const struct io *io)
{
	int n;

	return ioctl(io->fd, SIOCOUTQ, &n) == 0 ? n : 0;
}

int
io_await_acknowledged(struct io *io)
{
	int least = INT_MAX, step = 1;
	int64_t begin = 0, until = 0;

	if (io_flush(io) == -1)
		return -1;
	for (;;) {
		int left = outstanding(io), result;
		int64_t now = clock_ms();

		if (left < least) {
			least = left;
			begin = now;
			until = limit(io, io->stall);
		}
		if (left > 0 && now >= until)
			return failed(io, IO_STALLED);
		/*
		 * No event is asked for: a reset and the end of a relay are reported all the
		 * same. The look comes after the count, because a relay that dies drops what
		 * it has not read, and the count is 0 then.
		 */
		result = watch(io, 0, begin, left == 0 ? now : now + step < until ? now + step : until);
		if (result != 0)
			return result == 1 ? failed(io, IO_CLOSED) : -1;
		if (left == 0)
			return 0;
		step = 2 * step < STEP_MS ? 2 * step : STEP_MS;
	}
}

/* Reads what has come, one to most bytes, behind what is in the buffer. Returns 0 or -1. */
static int
fill(struct io *io, int64_t until, size_t most)
{
	if (io_flush(io) == -1)
		return -1;
	if (io->in_at > 0) {
		memmove(io->in, io->in + io->in_at, io->in_end - io->in_at);
		io->in_end -= io->in_at;
		io->in_at = 0;
	}
	if (most > IO_IN - io->in_end)
		most = IO_IN - io->in_end;
	for (;;) {
		ssize_t n;

		/* A peer that has always sent more leaves poll nothing to wait for. */
		if (clock_ms() >= until)
			return failed(io, IO_TIMEOUT);
		n = recv(io->fd, io->in + io->in_end, most, MSG_DONTWAIT);
		if (n > 0) {
			io->in_end += (size_t)n;
			return 0;
		}
		if (n == 0)
			return failed(io, IO_CLOSED);
		if (errno == EAGAIN || errno == EWOULDBLOCK) {
			if (await(io, POLLIN, until, IO_TIMEOUT) == -1)
				return -1;
		} else if (errno != EINTR)
			return failed(io, what_happened(errno));
	}
}

int
io_line(struct io *io, char *line, size_t size)
{
	int64_t until = limit(io, io->idle);
	size_t n = 0;

	io->line_size = 0;
	/* Lines that are buffered already belong to a connection that is dead. */
	if (io->error != IO_OK)
		return IO_LINE_ERROR;
	for (;;) {
		char *begin = io->in + io->in_at;
		size_t some = io->in_end - io->in_at;
		char *lf = memchr(begin, '\n', some);
		size_t kept;

		if (lf != NULL)
			some = (size_t)(lf + 1 - begin);
		io->in_at += some;
		io->line_size += some;
		kept = some < size - n ? some : size - n;
		memcpy(line + n, begin, kept);
		n += kept;
		if (lf == NULL && fill(io, until, IO_IN) == -1)
			return IO_LINE_ERROR;
		if (lf == NULL)
			continue;
		n--;
		if (io->line_size > size) {
			line[n] = '\0';
			return IO_LINE_LONG;
		}
		if (n > 0 && line[n - 1] == '\r')
			n--;
		line[n] = '\0';
		return (int)n;
	}
}

int
io_exact(struct io *io, void *data, size_t n)
{
	int64_t until = limit(io, io->idle);
	char *to = data;

	if (io->error != IO_OK)
		return -1;
	while (n > 0) {
		size_t have = io->in_end - io->in_at;

		if (have == 0) {
			if (fill(io, until, io->frugal ? n : IO_IN) == -1)
				return -1;
			continue;
		}
		if (have > n)
			have = n;
		memcpy(to, io->in + io->in_at, have);
		io->in_at += have;
		to += have;
		n -= have;
	}
	return 0;
}

char *
io_room(struct io *io, size_t need, size_t *room)
{
	if (IO_OUT - io->out_end < need)
		io_flush(io);
	*room = IO_OUT - io->out_end;
	return io->out + io->out_end;
}

void
io_put(struct io *io, size_t n)
{
	io->out_end += n;
}

void
io_write(struct io *io, const void *data, size_t n)
{
	const char *from = data;

	while (n > 0 && io->error == IO_OK) {
		size_t room;
		char *to = io_room(io, 1, &room);

		if (room > n)
			room = n;
		memcpy(to, from, room);
		io_put(io, room);
		from += room;
		n -= room;
	}
}

void
io_printf(struct io *io, const char *format, ...)
{
	char text[512];
	va_list ap;
	int n;

	va_start(ap, format);
	n = vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	if (n < 0 || (size_t)n >= sizeof(text))
		failed(io, IO_FAILED);
	else
		io_write(io, text, (size_t)n);
}

void
io_last_words(struct io *io, const void *data, size_t n)
{
	if (io->error != IO_TIMEOUT)
		return;
	io->error = IO_OK;
	io_write(io, data, n);
	io_flush(io);
	io->error = IO_TIMEOUT;
	shutdown(io->fd, SHUT_WR);
}

void
io_linger(struct io *io)
{
	int64_t until = clock_ms() + LINGER_MS;

	if (io_flush(io) == -1 || shutdown(io->fd, SHUT_WR) == -1)
		return;
	if (io->deadline != 0 && until > io->deadline)
		until = io->deadline;
	io->deadline = until;
	do
		io->in_at = io->in_end = 0;
	while (fill(io, until, IO_IN) == 0);
}
