/*
 * Carries octets between a client and a session through a codec: TLS or a security layer of GSSAPI.
 *
 * Runs in processes of their own, jailed, one for each connection; also in
 * kpopc. Neither side can make it hold more than two buffers of fixed size: it
 * reads from one side only what the other has taken. It knows no time limits
 * but the last one: while the session lives, the session's count.
 */
#include "config.h"

#include <sys/socket.h>

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "io.h"
#include "pump.h"

/* When the session has ended: to take the last answer, and to close the line. */
#define LAST_MS 10000
#define LINGER_MS 2000

struct pump {
	int client, plain_in, plain_out;
	bool client_done, plain_done; /* have said all */
	bool told;                    /* plain_out knows that the client has */
	bool patient;
	int64_t until;                /* 0: no limit yet */
	struct pump_buffer plain, sealed;
};

int
pump_put(struct pump_buffer *b, const void *data, size_t n)
{
	/* Nothing may come from nowhere: an empty token's text has no place. */
	if (n == 0)
		return 0;
	if (b->at > 0) {
		memmove(b->data, b->data + b->at, b->end - b->at);
		b->end -= b->at;
		b->at = 0;
	}
	if (n > PUMP_ROOM - b->end)
		return -1;
	memcpy(b->data + b->end, data, n);
	b->end += n;
	return 0;
}

/* Writes what goes without blocking. Returns 0, or -1 when nobody takes it any more. */
static int
drain(int fd, struct pump_buffer *b)
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

/* Reads a piece. Returns its size, 0 at the end, -1 when there is none now. */
static ssize_t
take(int fd, char *data)
{
	ssize_t n = read(fd, data, PUMP_PIECE);

	if (n == -1 && (errno == EAGAIN || errno == EINTR))
		return -1;
	return n > 0 ? n : 0;
}

static bool
is_empty(const struct pump_buffer *b)
{
	return b->at == b->end;
}

/* The client says something, or that it has said all. */
static int
from_client(struct pump *p, const struct pump_codec *codec, void *state)
{
	char data[PUMP_PIECE];
	ssize_t n = take(p->client, data);

	int result = 0;

	if (n > 0)
		result = codec->open(state, data, (size_t)n, &p->plain, &p->sealed);
	p->client_done |= n == 0 || result == PUMP_END;
	return result == -1 ? -1 : 0;
}

/* The session says something, or has ended. */
static int
from_session(struct pump *p, const struct pump_codec *codec, void *state)
{
	char data[PUMP_PIECE];
	ssize_t n = take(p->plain_in, data);

	if (n > 0)
		return codec->seal(state, data, (size_t)n, &p->sealed);
	if (n == -1)
		return 0;
	p->plain_done = true;
	if (!p->patient)
		p->until = io_now() + LAST_MS;
	return codec->finish(state, &p->sealed);
}

/* Waits until something can be done. Returns false when the last time limit is over. */
static bool
await(const struct pump *p, struct pollfd fds[3], bool ready)
{
	int64_t left = p->until == 0 ? -1 : p->until - io_now();

	if (p->until != 0 && left <= 0)
		return false;
	fds[0] = (struct pollfd){ .fd = p->client };
	fds[1] = (struct pollfd){ .fd = p->plain_done ? -1 : p->plain_in };
	fds[2] = (struct pollfd){ .fd = is_empty(&p->plain) ? -1 : p->plain_out,
		.events = POLLOUT };
	if (!p->client_done && is_empty(&p->plain) && is_empty(&p->sealed))
		fds[0].events |= POLLIN;
	if (!is_empty(&p->sealed))
		fds[0].events |= POLLOUT;
	else if (ready)
		fds[1].events = POLLIN;
	if (fds[0].events == 0)
		fds[0].fd = -1;
	return poll(fds, 3, (int)left) >= 0 || errno == EINTR;
}

/* Once the session has ended and all is sent: our end too, and what the client still says is dropped. */
static void
linger(int client)
{
	int64_t until = io_now() + LINGER_MS;
	struct pollfd p = { .fd = client, .events = POLLIN };
	char data[PUMP_PIECE];
	int64_t left;

	shutdown(client, SHUT_WR);
	while ((left = until - io_now()) > 0 && poll(&p, 1, (int)left) > 0 &&
	    take(client, data) > 0)
		;
}

/* One round of the loop. Returns 0 or -1. */
static int
turn(struct pump *p, struct pollfd fds[3], const struct pump_codec *codec, void *state)
{
	if ((fds[0].revents & POLLOUT) != 0 && drain(p->client, &p->sealed) == -1)
		return -1;
	if (fds[2].revents != 0 && drain(p->plain_out, &p->plain) == -1)
		return -1;
	if ((fds[0].revents & ~POLLOUT) != 0 && from_client(p, codec, state) == -1)
		return -1;
	if (fds[1].revents != 0 && from_session(p, codec, state) == -1)
		return -1;
	if (p->client_done && !p->told && is_empty(&p->plain)) {
		p->told = true;
		if (shutdown(p->plain_out, SHUT_WR) == -1 && errno == ENOTSOCK)
			close(p->plain_out);
	}
	return 0;
}

int
pump(int client, int plain_in, int plain_out, bool patient,
    const struct pump_codec *codec, void *state, const char *unread, size_t n)
{
	static struct pump p;
	struct pollfd fds[3];

	p.client = client;
	p.plain_in = plain_in;
	p.plain_out = plain_out;
	if (n > 0 && codec->open(state, unread, n, &p.plain, &p.sealed) == -1)
		return -1;
	p.patient = patient;
	while (!p.plain_done || !is_empty(&p.sealed) ||
	    (patient && (!p.client_done || !is_empty(&p.plain))))
		if (!await(&p, fds, codec->ready(state)) ||
		    turn(&p, fds, codec, state) == -1) {
			/* An alert may tell the client why. */
			drain(client, &p.sealed);
			return -1;
		}
	linger(client);
	return 0;
}
