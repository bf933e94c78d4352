/*
 * Carries bytes between a client and a session through a codec: TLS or a
 * security layer of GSSAPI.
 *
 * Runs in the relay and in kpopd-tls, jailed, as a user without rights; and in
 * kpopc, as the caller. Neither side is trusted. Each side can make this
 * process hold at most one buffer of fixed size. A side is read only after the
 * other side has taken the bytes read before. Until the session ends, no time
 * limit applies here, because the session has its own.
 *
 * On the server's side, the session's socket must behave like the client's: the
 * session must see the end of the connection, and which bytes the client has
 * acknowledged. So the relay passes the last byte from the session on, but
 * leaves a copy of the byte in the session's socket until the client has
 * acknowledged it. As long as the copy is there, the session counts the byte as
 * unacknowledged (io_await_acknowledged).
 */
#include "config.h"

#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <netinet/in.h>
#include <netinet/tcp.h>

#include <errno.h>
#include <limits.h>
#include <linux/sockios.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "relay.h"

/* After the session's end the client has this time to take the last bytes. */
#define LAST_MS 10000
/*
 * At the end, input is dropped for this time before the connection is closed.
 */
#define LINGER_MS 2000
/*
 * The kernel reports no event for an acknowledgement, so the relay asks
 * repeatedly. The pause before the next question doubles each time, up to this.
 */
#define STEP_MS 50
/*
 * The most bytes that may be unsent in the client's socket. The kernel's
 * default may be megabytes. The session would see no progress until the client
 * has acknowledged all these bytes, and would take a slow client for a dead
 * one.
 */
#define UNSENT 32768

struct relay {
	const struct relay_codec *codec;
	void *state; /* the codec's */
	int client, cleartext_in, cleartext_out;
	enum relay_side side;
	bool client_ended, cleartext_ended; /* no more input comes from it */
	/* cleartext_out was shut down after the client's end */
	bool end_passed;
	/* RELAY_CLIENT: the input's end was sent to the server */
	bool end_sent;
	/* the session's process has ended; some of its bytes may be unread */
	bool session_ended;
	int64_t until; /* ms of CLOCK_MONOTONIC; 0: no limit yet */
	struct relay_buffer cleartext, wrapped;
	char piece[RELAY_PIECE]; /* what was read last, from either side */
	/* The rest is used on the server's side only. */
	/* 1 if the first byte in cleartext_in was passed on, else 0 */
	size_t held;
	bool no_hold; /* the session has shut down its side, so hold no byte */
	int edge;     /* epoll: readable if cleartext_in has new bytes */
	int step;     /* ms until the relay asks for acknowledgements again */
};

int
relay_put(struct relay_buffer *b, const void *data, size_t n)
{
	/* If n is 0, data may be NULL: an empty token has no text. */
	if (n == 0)
		return 0;
	if (b->at > 0) {
		memmove(b->data, b->data + b->at, b->end - b->at);
		b->end -= b->at;
		b->at = 0;
	}
	if (n > RELAY_ROOM - b->end)
		return -1;
	memcpy(b->data + b->end, data, n);
	b->end += n;
	return 0;
}

/*
 * Writes as much of the buffer as possible without blocking. Returns 0, or -1
 * if the other end is gone.
 */
static int
drain(int fd, struct relay_buffer *b)
{
	ssize_t n = send(fd, b->data + b->at, b->end - b->at,
	    MSG_DONTWAIT | MSG_NOSIGNAL);

	/* A writable pipe takes PIPE_BUF bytes without blocking (pipe(7)). */
	if (n == -1 && errno == ENOTSOCK)
		n = write(fd, b->data + b->at,
		    b->end - b->at < PIPE_BUF ? b->end - b->at : PIPE_BUF);
	if (n == -1)
		return errno == EAGAIN || errno == EINTR ? 0 : -1;
	b->at += (size_t)n;
	if (b->at == b->end)
		b->at = b->end = 0;
	return 0;
}

/* Returns true if the last call failed only because no input has come yet. */
static bool
is_temporary(void)
{
	return errno == EAGAIN || errno == EINTR;
}

static bool
is_drained(const struct relay_buffer *b)
{
	return b->at == b->end;
}

/* Reads a piece from the client and unwraps it. Returns 0 or -1. */
static int
read_client(struct relay *p)
{
	ssize_t n = read(p->client, p->piece, RELAY_PIECE);
	int result = 0;

	if (n == -1 && is_temporary())
		return 0;
	/*
	 * A reset differs from an end of input. The session executes commands
	 * that came before an end of input, but no commands that came before a
	 * reset.
	 */
	if (n == -1 && p->side == RELAY_SERVER)
		return -1;
	if (n > 0)
		result = p->codec->unwrap(p->state, p->piece, (size_t)n,
		    &p->cleartext, &p->wrapped);
	if (n == 0 && p->codec->note_client_end != NULL)
		p->codec->note_client_end(p->state);
	p->client_ended |= n <= 0 || result == RELAY_END;
	return result == -1 ? -1 : 0;
}

/*
 * Returns true if the client has acknowledged all bytes, or if the kernel
 * cannot count the unacknowledged bytes.
 */
static bool
is_acknowledged(const struct relay *p)
{
	int n;

	return is_drained(&p->wrapped) &&
	    (ioctl(p->client, SIOCOUTQ, &n) == -1 || n <= 0);
}

/*
 * Reads a piece from the session, and returns as read(2) does. If p->held was
 * 1, the first byte of the piece was already passed on. The last byte of the
 * piece is also left in the socket, and p->held becomes 1. If the session
 * has shut down its side, or if more than a piece has come, no byte of the
 * piece is left in the socket, and p->held becomes 0.
 */
static ssize_t
read_and_hold(struct relay *p)
{
	struct epoll_event event = { .events = 0 };
	int waiting = 0;
	ssize_t n = 0;

	/*
	 * Clear the edge before counting the bytes. Otherwise the edge of bytes
	 * that come after the count would be lost.
	 */
	epoll_wait(p->edge, &event, 1, 0);
	p->no_hold |= (event.events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0;
	if (ioctl(p->cleartext_in, FIONREAD, &waiting) == -1 || waiting == 0 ||
	    waiting > (int)p->codec->piece || p->no_hold) {
		p->held = 0;
		return recv(p->cleartext_in, p->piece, p->codec->piece,
		    MSG_DONTWAIT);
	}
	if (waiting > 1)
		n = recv(p->cleartext_in, p->piece, (size_t)waiting - 1,
		    MSG_DONTWAIT);
	if (n < waiting - 1) {
		p->held = 0;
		return n;
	}
	p->held = recv(p->cleartext_in, p->piece + n, 1,
		      MSG_PEEK | MSG_DONTWAIT) == 1;
	p->step = 1;
	return n + (ssize_t)p->held;
}

/* Removes the held byte from its socket if the client has acknowledged it. */
static void
release_held(struct relay *p)
{
	char byte;

	if (p->held > 0 && is_acknowledged(p) &&
	    recv(p->cleartext_in, &byte, 1, MSG_DONTWAIT) == 1)
		p->held = 0;
}

/*
 * Reads a piece from the session and wraps it. If the session has ended, ends
 * the stream to the client. Returns 0 or -1.
 */
static int
read_session(struct relay *p)
{
	size_t passed = p->held;
	ssize_t n = p->side == RELAY_SERVER ?
	    read_and_hold(p) :
	    read(p->cleartext_in, p->piece, p->codec->piece);

	if (n > 0)
		return (size_t)n > passed ?
		    p->codec->wrap(p->state, p->piece + passed,
			(size_t)n - passed, &p->wrapped) :
		    0;
	if (n == -1 && is_temporary())
		return 0;
	p->cleartext_ended = true;
	if (p->side == RELAY_SERVER)
		p->until = clock_ms() + LAST_MS;
	return p->codec->finish(p->state, &p->wrapped);
}

/* Returns the events of the session's side for which to wait. */
static struct pollfd
session_events(const struct relay *p)
{
	bool takes = is_drained(&p->wrapped) && p->codec->is_ready(p->state);

	if (p->cleartext_ended || (p->session_ended && !takes))
		return (struct pollfd){ .fd = -1 };
	if (!takes)
		return (struct pollfd){ .fd = p->cleartext_in };
	return (struct pollfd){ .fd = p->held > 0 ? p->edge : p->cleartext_in,
		.events = POLLIN };
}

/*
 * Returns the events of the client for which to wait. On the server's side the
 * descriptor is always set, so that poll reports a reset or hangup of the
 * client.
 */
static struct pollfd
client_events(const struct relay *p)
{
	struct pollfd client = { .fd = p->client };

	if (!p->client_ended && is_drained(&p->cleartext) &&
	    is_drained(&p->wrapped))
		client.events |= POLLIN;
	if (!is_drained(&p->wrapped))
		client.events |= POLLOUT;
	if (client.events == 0 && p->side == RELAY_CLIENT)
		client.fd = -1;
	return client;
}

/* Waits for events. Returns false if the time limit has passed. */
static bool
await_events(struct relay *p, struct pollfd fds[3])
{
	int64_t left = p->until == 0 ? -1 : p->until - clock_ms();

	if (p->until != 0 && left <= 0)
		return false;
	if (p->held > 0 && is_drained(&p->wrapped)) {
		left = left == -1 || left > p->step ? p->step : left;
		p->step = 2 * p->step < STEP_MS ? 2 * p->step : STEP_MS;
	}
	fds[0] = client_events(p);
	fds[1] = session_events(p);
	fds[2] =
	    (struct pollfd){ .fd = is_drained(&p->cleartext) ? -1 :
							       p->cleartext_out,
		    .events = POLLOUT };
	return poll(fds, 3, (int)left) >= 0 || errno == EINTR;
}

/*
 * Ends the connection after everything was sent. Drops what the client still
 * sends, because closing a socket with unread input would reset the connection.
 */
static void
linger(struct relay *p)
{
	int64_t until = clock_ms() + LINGER_MS;
	struct pollfd client = { .fd = p->client, .events = POLLIN };
	int64_t left;

	shutdown(p->client, SHUT_WR);
	while ((left = until - clock_ms()) > 0 &&
	    poll(&client, 1, (int)left) > 0 &&
	    read(p->client, p->piece, RELAY_PIECE) > 0)
		;
}

/* Handles the events of the session's side. Returns 0 or -1. */
static int
serve_session(struct relay *p, const struct pollfd *event)
{
	if (event->revents == 0) {
		release_held(p);
		return 0;
	}
	/*
	 * The session's process has ended. The bytes that it has left in the
	 * socket can be read only after the client has taken the bytes in the
	 * buffer. The client has LAST_MS to take all these bytes.
	 */
	if (event->events == 0 && !is_drained(&p->wrapped)) {
		p->session_ended = true;
		if (p->side == RELAY_SERVER)
			p->until = clock_ms() + LAST_MS;
		return 0;
	}
	return read_session(p);
}

/*
 * In kpopc, sends the end of the program's input to the server, after all of
 * the input was sent. A layer of GSSAPI has no token for the end. Without this
 * shutdown the server would wait for commands and keep the mailbox locked.
 */
static void
send_end(struct relay *p)
{
	if (p->side != RELAY_CLIENT || p->end_sent || !p->cleartext_ended ||
	    !is_drained(&p->wrapped))
		return;
	p->end_sent = true;
	shutdown(p->client, SHUT_WR);
}

/*
 * Passes the client's end on to the cleartext side, after all bytes before it.
 */
static void
pass_end(struct relay *p)
{
	if (!p->client_ended || p->end_passed || !is_drained(&p->cleartext))
		return;
	p->end_passed = true;
	if (shutdown(p->cleartext_out, SHUT_WR) == -1 && errno == ENOTSOCK)
		close(p->cleartext_out);
}

/* Handles the events of one round. Returns 0 or -1. */
static int
relay_events(struct relay *p, const struct pollfd fds[3])
{
	/*
	 * Do not pass on the commands of a client whose connection is dead. The
	 * relay ends, and the session notices the end of its socket.
	 */
	if (p->side == RELAY_SERVER &&
	    (fds[0].revents & (POLLERR | POLLHUP)) != 0)
		return -1;
	if ((fds[0].revents & POLLOUT) != 0 &&
	    drain(p->client, &p->wrapped) == -1)
		return -1;
	if (fds[2].revents != 0 && drain(p->cleartext_out, &p->cleartext) == -1)
		return -1;
	/*
	 * Handle the session's side before the client's next command. When the
	 * session then reads the command, it already knows that the client has
	 * acknowledged the answers.
	 */
	if (serve_session(p, &fds[1]) == -1)
		return -1;
	if ((fds[0].revents & ~POLLOUT) != 0 && read_client(p) == -1)
		return -1;
	send_end(p);
	pass_end(p);
	return 0;
}

/*
 * Returns true if the cleartext side has ended and its bytes were sent. In
 * kpopc, the server must also have ended, and its bytes were passed on.
 */
static bool
is_done(const struct relay *p)
{
	if (!p->cleartext_ended || !is_drained(&p->wrapped))
		return false;
	return p->side == RELAY_SERVER ||
	    (p->client_ended && is_drained(&p->cleartext));
}

/* Prepares the sockets for read_and_hold. Returns 0 or -1. */
static int
prepare_to_hold(struct relay *p)
{
	struct epoll_event event = { .events = EPOLLIN | EPOLLRDHUP | EPOLLET };
	int unsent = UNSENT;

	setsockopt(p->client, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &unsent,
	    sizeof(unsent));
	p->edge = epoll_create1(EPOLL_CLOEXEC);
	return p->edge == -1 ?
	    -1 :
	    epoll_ctl(p->edge, EPOLL_CTL_ADD, p->cleartext_in, &event);
}

int
relay_run(int client, int cleartext_in, int cleartext_out, enum relay_side side,
    const struct relay_codec *codec, void *state, const char *unread, size_t n)
{
	static struct relay p;
	struct pollfd fds[3];

	p.codec = codec;
	p.state = state;
	p.client = client;
	p.cleartext_in = cleartext_in;
	p.cleartext_out = cleartext_out;
	p.side = side;
	if (side == RELAY_SERVER && prepare_to_hold(&p) == -1)
		return -1;
	if (n > 0 &&
	    codec->unwrap(state, unread, n, &p.cleartext, &p.wrapped) == -1)
		return -1;
	while (!is_done(&p))
		if (!await_events(&p, fds) || relay_events(&p, fds) == -1) {
			/*
			 * The buffer may contain an alert, which gives the
			 * client the reason.
			 */
			drain(client, &p.wrapped);
			return -1;
		}
	linger(&p);
	return 0;
}
