/*
 * Carries bytes between a client and a session through a codec: TLS or a security layer of GSSAPI.
 *
 * Runs in processes of their own, jailed, one for each connection; also in
 * kpopc. Neither side can make it hold more than two buffers of fixed size: it
 * reads from one side only what the other has taken. It knows no time limits
 * but the last one: while the session lives, the session's count.
 *
 * On the server's side the session's socket is as true as the client's own: its
 * end is the end of the connection, and what is sent on it is acknowledged only
 * when the client has acknowledged it. So the last byte of what the session has
 * sent is passed on and stays in its socket until then. The session counts it
 * there (io_await_acknowledged).
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
#include "io.h"
#include "relay.h"

/* When the session has ended: to take the last answer, and to close the line. */
#define LAST_MS 10000
#define LINGER_MS 2000
/* The kernel reports no event for an acknowledgement, so it is asked again after steps that grow to this. */
#define STEP_MS 50
/*
 * What may wait unsent in the client's socket. Otherwise it could be megabytes,
 * and the session would see no progress until all of it is acknowledged: a slow
 * client would look like a dead one.
 */
#define UNSENT 65536

struct relay {
	int client, plain_in, plain_out;
	bool client_done, plain_done; /* have said all */
	bool told;                    /* plain_out knows that the client has */
	bool is_ended;                /* the client, which is the server on kpopc's side, knows that plain_in has */
	bool gone;                    /* the session's process has ended; some of what it said may be unread */
	enum relay_side side;
	/* Server's side only. */
	size_t held; /* 1 if the first byte in plain_in was passed on already, else 0 */
	bool over;   /* the session has ended its side, so nothing is held any more */
	int edge;    /* epoll: readable when something has come into plain_in since the last look */
	int step;    /* ms until the client's acknowledgement is asked for again */
	int64_t until;                /* 0: no limit yet */
	struct relay_buffer plain, sealed;
};

int
relay_put(struct relay_buffer *b, const void *data, size_t n)
{
	/* Nothing may come from nowhere: an empty token's text has no place. */
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

/* Writes what goes without blocking. Returns 0, or -1 when nobody takes it any more. */
static int
drain(int fd, struct relay_buffer *b)
{
	ssize_t n = send(fd, b->data + b->at, b->end - b->at, MSG_DONTWAIT | MSG_NOSIGNAL);

	/* A pipe that is ready takes so much without blocking (pipe(7)). */
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

/* Reads a piece. Returns its size, 0 at the end, or -1 with errno. */
static ssize_t
take(int fd, char *data)
{
	return read(fd, data, RELAY_PIECE);
}

/* Returns true if the last call failed only because there is nothing now. */
static bool
is_nothing_now(void)
{
	return errno == EAGAIN || errno == EINTR;
}

static bool
is_empty(const struct relay_buffer *b)
{
	return b->at == b->end;
}

/* The client says something, or that it has said all. */
static int
from_client(struct relay *p, const struct relay_codec *codec, void *state)
{
	char data[RELAY_PIECE];
	ssize_t n = take(p->client, data);
	int result = 0;

	if (n == -1 && is_nothing_now())
		return 0;
	/* A reset is not an end of input. The session must not take it for one, because it obeys what came before an end. */
	if (n == -1 && p->side == RELAY_SERVER)
		return -1;
	if (n > 0)
		result = codec->open(state, data, (size_t)n, &p->plain, &p->sealed);
	if (n == 0 && codec->left != NULL)
		codec->left(state);
	p->client_done |= n <= 0 || result == RELAY_END;
	return result == -1 ? -1 : 0;
}

/* Returns true if the client has acknowledged all that was sent, or if the kernel cannot tell. */
static bool
is_acknowledged(const struct relay *p)
{
	int n;

	return is_empty(&p->sealed) && (ioctl(p->client, SIOCOUTQ, &n) == -1 || n <= 0);
}

/*
 * Reads a piece of what the session says, as take. p->held of its bytes were
 * passed on before. The last byte for now is read, too, but stays in the socket.
 */
static ssize_t
take_or_hold(struct relay *p, char *data)
{
	struct epoll_event event = { .events = 0 };
	int waiting = 0;
	ssize_t n = 0;

	/* The edge is cleared before the count; otherwise what comes after the count could raise none. */
	epoll_wait(p->edge, &event, 1, 0);
	p->over |= (event.events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0;
	if (ioctl(p->plain_in, FIONREAD, &waiting) == -1 || waiting == 0 || waiting > (int)RELAY_PIECE || p->over) {
		p->held = 0;
		return recv(p->plain_in, data, RELAY_PIECE, MSG_DONTWAIT);
	}
	if (waiting > 1)
		n = recv(p->plain_in, data, (size_t)waiting - 1, MSG_DONTWAIT);
	if (n < waiting - 1) {
		p->held = 0;
		return n;
	}
	p->held = recv(p->plain_in, data + n, 1, MSG_PEEK | MSG_DONTWAIT) == 1;
	p->step = 1;
	return n + (ssize_t)p->held;
}

/* Consumes the held byte if the client has acknowledged it. */
static void
release(struct relay *p)
{
	char byte;

	if (p->held > 0 && is_acknowledged(p) && recv(p->plain_in, &byte, 1, MSG_DONTWAIT) == 1)
		p->held = 0;
}

/* The session says something, or has ended. */
static int
from_session(struct relay *p, const struct relay_codec *codec, void *state)
{
	char data[RELAY_PIECE];
	size_t passed = p->held;
	ssize_t n = p->side == RELAY_SERVER ? take_or_hold(p, data) : take(p->plain_in, data);

	if (n > 0)
		return (size_t)n > passed ? codec->seal(state, data + passed, (size_t)n - passed, &p->sealed) : 0;
	if (n == -1 && is_nothing_now())
		return 0;
	p->plain_done = true;
	if (p->side == RELAY_SERVER)
		p->until = clock_ms() + LAST_MS;
	return codec->finish(state, &p->sealed);
}

/* Which events of the session's side are waited for. */
static struct pollfd
session_events(const struct relay *p, bool ready)
{
	bool takes = is_empty(&p->sealed) && ready;

	if (p->plain_done || (p->gone && !takes))
		return (struct pollfd){ .fd = -1 };
	if (!takes)
		return (struct pollfd){ .fd = p->plain_in };
	return (struct pollfd){ .fd = p->held > 0 ? p->edge : p->plain_in, .events = POLLIN };
}

/* Which events of the client are waited for. Its death is one at all times on the server's side. */
static struct pollfd
client_events(const struct relay *p)
{
	struct pollfd client = { .fd = p->client };

	if (!p->client_done && is_empty(&p->plain) && is_empty(&p->sealed))
		client.events |= POLLIN;
	if (!is_empty(&p->sealed))
		client.events |= POLLOUT;
	if (client.events == 0 && p->side == RELAY_CLIENT)
		client.fd = -1;
	return client;
}

/* Waits until something can be done. Returns false when the last time limit is over. */
static bool
await(struct relay *p, struct pollfd fds[3], bool ready)
{
	int64_t left = p->until == 0 ? -1 : p->until - clock_ms();

	if (p->until != 0 && left <= 0)
		return false;
	if (p->held > 0 && is_empty(&p->sealed)) {
		left = left == -1 || left > p->step ? p->step : left;
		p->step = 2 * p->step < STEP_MS ? 2 * p->step : STEP_MS;
	}
	fds[0] = client_events(p);
	fds[1] = session_events(p, ready);
	fds[2] = (struct pollfd){ .fd = is_empty(&p->plain) ? -1 : p->plain_out,
		.events = POLLOUT };
	return poll(fds, 3, (int)left) >= 0 || errno == EINTR;
}

/* Once the session has ended and all is sent: our end too, and what the client still says is dropped. */
static void
linger(int client)
{
	int64_t until = clock_ms() + LINGER_MS;
	struct pollfd p = { .fd = client, .events = POLLIN };
	char data[RELAY_PIECE];
	int64_t left;

	shutdown(client, SHUT_WR);
	while ((left = until - clock_ms()) > 0 && poll(&p, 1, (int)left) > 0 &&
	    take(client, data) > 0)
		;
}

/* What the session's side shows. Returns 0 or -1. */
static int
hear_session(struct relay *p, const struct pollfd *event, const struct relay_codec *codec, void *state)
{
	if (event->revents == 0) {
		release(p);
		return 0;
	}
	/* Its process has ended, and the client has to take something before the rest can be read: no longer than the last answer may take. */
	if (event->events == 0 && !is_empty(&p->sealed)) {
		p->gone = true;
		if (p->side == RELAY_SERVER)
			p->until = clock_ms() + LAST_MS;
		return 0;
	}
	return from_session(p, codec, state);
}

/*
 * On kpopc's side, passes the end of input on once all before it is sent.
 * Otherwise the server would wait for commands, and keep the mailbox locked,
 * since a layer of GSSAPI has no sign for the end.
 */
static void
pass_end(struct relay *p)
{
	if (p->side != RELAY_CLIENT || p->is_ended || !p->plain_done || !is_empty(&p->sealed))
		return;
	p->is_ended = true;
	shutdown(p->client, SHUT_WR);
}

/* One round of the loop. Returns 0 or -1. */
static int
turn(struct relay *p, struct pollfd fds[3], const struct relay_codec *codec, void *state)
{
	/* A dead client orders nothing: what it said is not passed on, and the session sees the end of its socket. */
	if (p->side == RELAY_SERVER && (fds[0].revents & (POLLERR | POLLHUP)) != 0)
		return -1;
	if ((fds[0].revents & POLLOUT) != 0 && drain(p->client, &p->sealed) == -1)
		return -1;
	if (fds[2].revents != 0 && drain(p->plain_out, &p->plain) == -1)
		return -1;
	/* Before the client's next command: a session that has it sees that the answers were acknowledged. */
	if (hear_session(p, &fds[1], codec, state) == -1)
		return -1;
	if ((fds[0].revents & ~POLLOUT) != 0 && from_client(p, codec, state) == -1)
		return -1;
	pass_end(p);
	if (p->client_done && !p->told && is_empty(&p->plain)) {
		p->told = true;
		if (shutdown(p->plain_out, SHUT_WR) == -1 && errno == ENOTSOCK)
			close(p->plain_out);
	}
	return 0;
}

/* Prepares for holding what is not acknowledged. Returns 0 or -1. */
static int
prepare_to_hold(struct relay *p)
{
	struct epoll_event event = { .events = EPOLLIN | EPOLLRDHUP | EPOLLET };
	int unsent = UNSENT;

	setsockopt(p->client, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &unsent, sizeof(unsent));
	p->edge = epoll_create1(EPOLL_CLOEXEC);
	return p->edge == -1 ? -1 : epoll_ctl(p->edge, EPOLL_CTL_ADD, p->plain_in, &event);
}

int
pump(int client, int plain_in, int plain_out, enum relay_side side,
    const struct relay_codec *codec, void *state, const char *unread, size_t n)
{
	static struct relay p;
	struct pollfd fds[3];

	p.client = client;
	p.plain_in = plain_in;
	p.plain_out = plain_out;
	p.side = side;
	if (side == RELAY_SERVER && prepare_to_hold(&p) == -1)
		return -1;
	if (n > 0 && codec->open(state, unread, n, &p.plain, &p.sealed) == -1)
		return -1;
	while (!p.plain_done || !is_empty(&p.sealed) ||
	    (side == RELAY_CLIENT && (!p.client_done || !is_empty(&p.plain))))
		if (!await(&p, fds, codec->ready(state)) ||
		    turn(&p, fds, codec, state) == -1) {
			/* An alert may tell the client why. */
			drain(client, &p.sealed);
			return -1;
		}
	linger(client);
	return 0;
}
