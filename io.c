/*
 * Reads and writes a connection through buffers, with a deadline and one sticky
 * error.
 *
 * Runs in the pre-auth process and in the refusal process, as the pre-auth user
 * in a jail. Runs in the session, as the owner of the mailbox. The peer is not
 * trusted: it may send or take one byte at a time, any bytes, or none.
 *
 * Timeouts use poll and the monotonic clock, never a signal. Until the login
 * one absolute deadline applies to everything. After the login each line of
 * input and each buffer of output has its own timeout, which single bytes do
 * not extend. The first error stays set, so callers may continue to write and
 * check for an error at the end. After an error io_line returns no line, not
 * even a buffered one, because commands of a dead connection must not be
 * obeyed. Other processes share the socket. So its flags are not changed, and
 * each call passes MSG_DONTWAIT.
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
/*
 * The kernel does not report acknowledgements as events. So
 * io_await_acknowledged asks repeatedly, after pauses that double up to this.
 */
#define STEP_MS 50
/* The pause between two looks for a takeover request. */
#define LOOK_MS 1000

void
io_init(struct io *io, int fd, int64_t deadline)
{
	io->fd = fd;
	io->deadline = deadline;
	io->idle = io->write_timeout = 0;
	io->takeover = -1;
	io->takeover_idle = 0;
	io->look = NULL;
	io->look_begin = 0;
	io->no_read_ahead = false;
	io->error = IO_OK;
	io->line_size = 0;
	io->in_at = io->in_end = io->out_end = 0;
}

void
io_limits(struct io *io, int64_t idle, int64_t write_timeout)
{
	io->deadline = 0;
	io->idle = idle;
	io->write_timeout = write_timeout;
}

void
io_switch(struct io *io, int fd)
{
	io->fd = fd;
	io->in_at = io->in_end = 0;
}

void
io_allow_takeover(struct io *io, int takeover, int64_t idle)
{
	io->takeover = takeover;
	io->takeover_idle = idle;
}

void
io_look_for_takeover(struct io *io, int (*look)(void *self), void *self)
{
	io->look = look;
	io->look_self = self;
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

/* Sets the error unless there was one before. Returns -1. */
static int
set_error(struct io *io, enum io_error error)
{
	if (io->error == IO_OK)
		io->error = error;
	return -1;
}

/*
 * Returns the time, in ms of CLOCK_MONOTONIC, at which a wait that begins now
 * with this timeout must end.
 */
static int64_t
end_of_wait(const struct io *io, int64_t timeout)
{
	return io->deadline != 0 ? io->deadline : clock_ms() + timeout;
}

/*
 * Reads and discards the takeover requests that have come. Returns true if any
 * had come. If none can be read, stops waiting for requests and returns false.
 * If the peer has not been idle for long enough, a request has no effect, but
 * the new login repeats the request.
 */
static bool
take_takeover_requests(struct io *io)
{
	char requests[64];

	if (read(io->takeover, requests, sizeof(requests)) > 0)
		return true;
	io->takeover = -1;
	return false;
}

/*
 * Returns when the next look for a takeover request is due, if the peer has
 * been idle since the time `begin`.
 */
static int64_t
find_next_look(struct io *io, int64_t begin)
{
	if (io->look == NULL)
		return INT64_MAX;
	if (io->look_begin != begin) {
		io->look_begin = begin;
		io->look_due = begin + io->takeover_idle;
		io->has_looked = false;
	}
	return io->look_due;
}

/*
 * Looks for a takeover request. Returns true if one has come since the look
 * before, and the peer was idle at both times.
 */
static bool
look_for_request(struct io *io)
{
	bool is_second = io->has_looked;
	int found = io->look(io->look_self);

	io->has_looked = true;
	io->look_due = clock_ms() + LOOK_MS;
	if (found == -1)
		io->look = NULL;
	return found == 1 && is_second;
}

/*
 * Waits for events, an error or the end of the connection, at most until the
 * time `until`. The peer has been idle since the time `begin`. Returns 1 if
 * something has come, 0 if the time is over, or -1 with io->error set.
 */
static int
poll_until(struct io *io, short events, int64_t begin, int64_t until)
{
	for (;;) {
		struct pollfd p[2] = { { .fd = io->fd, .events = events },
			{ .fd = io->takeover, .events = POLLIN } };
		int64_t look = find_next_look(io, begin);
		int64_t left = (look < until ? look : until) - clock_ms();
		int n = poll(p, 2,
		    left > INT_MAX ? INT_MAX :
			left > 0   ? (int)left :
				     0);

		if (n < 0 && errno != EINTR)
			return set_error(io, IO_FAILED);
		if (n > 0 && p[0].revents != 0)
			return 1;
		if (n > 0 && p[1].revents != 0 && take_takeover_requests(io) &&
		    clock_ms() - begin >= io->takeover_idle)
			return set_error(io, IO_TAKEN_OVER);
		if (clock_ms() >= look && look_for_request(io))
			return set_error(io, IO_TAKEN_OVER);
		if (n <= 0 && clock_ms() >= until)
			return 0;
	}
}

/*
 * Waits for events, at most until the time `until`. Returns 0, or -1 with
 * io->error set. If the time is over, sets io->error to `late`.
 */
static int
wait_for_events(struct io *io, short events, int64_t until, enum io_error late)
{
	int64_t now = clock_ms();

	if (now >= until)
		return set_error(io, late);
	switch (poll_until(io, events, now, until)) {
	case 1:
		return 0;
	case 0:
		return set_error(io, late);
	default:
		return -1;
	}
}

/* Returns the io_error for an errno of send or recv. */
static enum io_error
error_of_errno(int error)
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
	int64_t until = end_of_wait(io, io->write_timeout);
	size_t at = 0;

	while (io->error == IO_OK && at < io->out_end) {
		ssize_t n = send(io->fd, io->out + at, io->out_end - at,
		    MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n >= 0)
			at += (size_t)n;
		else if (errno == EAGAIN || errno == EWOULDBLOCK)
			wait_for_events(io, POLLOUT, until, IO_WRITE_TIMEOUT);
		else if (errno != EINTR)
			set_error(io, error_of_errno(errno));
	}
	io->out_end = 0;
	return io->error == IO_OK ? 0 : -1;
}

/*
 * Returns how many sent bytes the peer has not acknowledged, or 0 if the kernel
 * cannot count them.
 */
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
			until = end_of_wait(io, io->write_timeout);
		}
		if (left > 0 && now >= until)
			return set_error(io, IO_WRITE_TIMEOUT);
		/*
		 * poll reports a reset and the end of a relay even if no event
		 * is requested. Call poll after counting. If a relay dies, the
		 * kernel discards the bytes that the relay has not read. The
		 * count is then 0 although the client has not acknowledged
		 * these bytes.
		 */
		result = poll_until(io, 0, begin,
		    left == 0              ? now :
			now + step < until ? now + step :
					     until);
		if (result != 0)
			return result == 1 ? set_error(io, IO_CLOSED) : -1;
		if (left == 0)
			return 0;
		step = 2 * step < STEP_MS ? 2 * step : STEP_MS;
	}
}

/*
 * Reads at least one and at most `most` bytes, and appends them to the input
 * buffer. Returns 0, or -1 with io->error set.
 */
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

		/*
		 * Check the time here, too, because poll is not called as long
		 * as recv finds input.
		 */
		if (clock_ms() >= until)
			return set_error(io, IO_TIMEOUT);
		n = recv(io->fd, io->in + io->in_end, most, MSG_DONTWAIT);
		if (n > 0) {
			io->in_end += (size_t)n;
			return 0;
		}
		if (n == 0)
			return set_error(io, IO_CLOSED);
		if (errno == EAGAIN || errno == EWOULDBLOCK) {
			if (wait_for_events(io, POLLIN, until, IO_TIMEOUT) ==
			    -1)
				return -1;
		} else if (errno != EINTR)
			return set_error(io, error_of_errno(errno));
	}
}

int
io_line(struct io *io, char *line, size_t size)
{
	int64_t until = end_of_wait(io, io->idle);
	size_t n = 0;

	io->line_size = 0;
	/* After an error, buffered lines belong to a dead connection. */
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
	int64_t until = end_of_wait(io, io->idle);
	char *to = data;

	if (io->error != IO_OK)
		return -1;
	while (n > 0) {
		size_t have = io->in_end - io->in_at;

		if (have == 0) {
			if (fill(io, until, io->no_read_ahead ? n : IO_IN) ==
			    -1)
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
io_reserve(struct io *io, size_t need, size_t *room)
{
	if (IO_OUT - io->out_end < need)
		io_flush(io);
	*room = IO_OUT - io->out_end;
	return io->out + io->out_end;
}

void
io_advance(struct io *io, size_t n)
{
	io->out_end += n;
}

void
io_write(struct io *io, const void *data, size_t n)
{
	const char *from = data;

	while (n > 0 && io->error == IO_OK) {
		size_t room;
		char *to = io_reserve(io, 1, &room);

		if (room > n)
			room = n;
		memcpy(to, from, room);
		io_advance(io, room);
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
		set_error(io, IO_FAILED);
	else
		io_write(io, text, (size_t)n);
}

void
io_answer_timeout(struct io *io, const void *data, size_t n)
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
