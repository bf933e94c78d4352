/*
 * Copies standard input to the connection and the connection to standard
 * output.
 *
 * Runs as the caller. The bytes pass unchanged. They may come from an attacker
 * unless the connection has TLS or a layer.
 */
#include "config.h"

#include <sys/socket.h>

#include <err.h>
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

#include "kpopc.h"

#define QUIT_SECONDS 10

/* One direction. */
struct way {
	int from, to;
	size_t at, end; /* data[at] to data[end - 1] are to be written */
	bool open;      /* more input may come */
	/* Gets all bytes that were read. */
	void (*follow)(const char *data, size_t n);
	char data[65536];
};

/*
 * Returns true if poll has found the descriptor ready, or an error, which the
 * next call will report.
 */
static bool
is_ready(const struct pollfd *p)
{
	return (p->revents &
		   (POLLIN | POLLOUT | POLLHUP | POLLERR | POLLNVAL)) != 0;
}

/* Makes poll wait for the next step of the way. */
static void
prepare_poll(struct pollfd *p, const struct way *w)
{
	if (w->at < w->end)
		*p = (struct pollfd){ .fd = w->to, .events = POLLOUT };
	else
		*p = (struct pollfd){ .fd = w->open ? w->from : -1,
			.events = POLLIN };
}

/*
 * Reads if the buffer is empty, otherwise writes. Returns 0, or -1 with errno.
 *
 * Never writes more than PIPE_BUF bytes at once, because a pipe that is ready
 * takes that many without blocking. A program may write all its commands before
 * it reads. If kpopc blocked in write meanwhile, both would wait forever.
 */
static int
move(struct way *w)
{
	size_t left = w->end - w->at;
	ssize_t n;

	if (left > 0) {
		n = write(w->to, w->data + w->at,
		    left < PIPE_BUF ? left : PIPE_BUF);
		if (n > 0)
			w->at += (size_t)n;
		return n == -1 && errno != EINTR && errno != EAGAIN ? -1 : 0;
	}
	n = read(w->from, w->data, sizeof(w->data));
	if (n == -1)
		return errno == EINTR || errno == EAGAIN ? 0 : -1;
	w->open = n > 0;
	w->at = 0;
	w->end = (size_t)n;
	w->follow(w->data, w->end);
	return 0;
}

/*
 * Prints which end of the way failed, and ends the process. If the buffer has
 * bytes to write, the writing failed. If the buffer is empty, the reading
 * failed. If the connection failed after the server had refused the login,
 * prints the refusal instead.
 */
_Noreturn static void
break_off(const struct way *w)
{
	int fd = w->at < w->end ? w->to : w->from, error = errno;

	if (fd != STDIN_FILENO && fd != STDOUT_FILENO && follow_print_refusal())
		exit(EXIT_REFUSED);
	errno = error;
	err(EXIT_BROKEN, "%s",
	    fd == STDIN_FILENO      ? "standard input" :
		fd == STDOUT_FILENO ? "standard output" :
				      "the connection broke");
}

/*
 * Stops sending, because a write to the server failed. kpopc still reads what
 * the server has sent. Returns 0 if the server had closed the connection
 * (EPIPE), otherwise errno. The caller must keep this errno, because after it
 * the server's bytes seem to end normally. Ends the process if reading standard
 * input failed.
 */
static int
give_up_sending(struct way *up)
{
	int why = errno;

	if (up->at == up->end)
		break_off(up);
	up->open = false;
	up->at = up->end = 0;
	return why == EPIPE ? 0 : why;
}

/*
 * Waits until a way can continue. Returns what poll returns.
 *
 * has_ended: no more bytes will be sent, because standard input has ended or a
 * write to the server failed. In this case kpopc shuts down its direction of
 * the connection and sets *is_shut, unless *is_shut is set already. If the
 * program's last line was not QUIT, kpopc does so at once. If it was QUIT,
 * kpopc does so only after QUIT_SECONDS in which no way could continue, because
 * a server closes the connection after QUIT anyway. Some servers end the whole
 * connection when the client ends TLS (RFC 5246 section 7.2.1), so an early
 * shutdown could lose answers.
 *
 * Ends the process if a server has answered QUIT and sends nothing for
 * QUIT_SECONDS after the shutdown. is_full: bytes for standard output are not
 * written yet. In this case the wait after the shutdown has no time limit.
 */
static int
wait_for_ways(int fd, struct pollfd p[2], bool has_ended, bool is_full,
    bool *is_shut)
{
	const bool shuts = has_ended && !*is_shut,
		   ends = *is_shut && !is_full && follow_is_over();
	int n = shuts && !follow_has_quit() ?
	    0 :
	    poll(p, 2, shuts || ends ? QUIT_SECONDS * 1000 : -1);

	if (n == 0 && ends)
		exit(follow_print_refusal() ? EXIT_REFUSED : EXIT_DONE);
	if (n != 0 || !shuts)
		return n;
	shutdown(fd, SHUT_WR);
	*is_shut = true;
	return poll(p, 2, 0);
}

int
tunnel_run(int fd)
{
	static struct way up, down;
	struct pollfd p[2];
	bool is_shut = false;
	int lost = 0;

	up = (struct way){ .from = STDIN_FILENO,
		.to = fd,
		.open = true,
		.follow = follow_program };
	down = (struct way){ .from = fd,
		.to = STDOUT_FILENO,
		.open = true,
		.follow = follow_server };
	progress->is_over = true;
	while (down.open || down.at < down.end) {
		prepare_poll(&p[0], &up);
		prepare_poll(&p[1], &down);
		if (wait_for_ways(fd, p, !up.open && up.at == up.end,
			down.at < down.end, &is_shut) == -1) {
			if (errno == EINTR)
				continue;
			err(EXIT_BROKEN, "poll");
		}
		if (is_ready(&p[1]) && move(&down) == -1)
			break_off(&down);
		if (is_ready(&p[0]) && move(&up) == -1)
			lost = give_up_sending(&up);
	}
	if (follow_print_refusal())
		return EXIT_REFUSED;
	if (lost != 0) {
		errno = lost;
		err(EXIT_BROKEN, "the connection broke");
	}
	return EXIT_DONE;
}
