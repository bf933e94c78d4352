/* Unit tests of relay.c on the server's side: what the session's socket tells of the client. Runs as anybody. */
#include "config.h"

#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <netinet/in.h>

#include <arpa/inet.h>
#include <errno.h>
#include <linux/sockios.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "relay.h"
#include "tests/unit/check.h"

#define MUCH 200000 /* more than goes into the client's socket */
#define STEP 200000 /* that a client takes at most before its session sees it */
#define SOME 30000  /* that goes, and is more than a client that does not read acknowledges */

static int client, session;
static int depth; /* pumps in a row: TLS or a layer of GSSAPI; or both */
static pid_t relays[2];

/* A codec that makes each byte for the client *state bytes of its kind. */
static int
open_as_is(void *state, const char *data, size_t n, struct relay_buffer *plain, struct relay_buffer *sealed)
{
	(void)state, (void)sealed;
	return relay_put(plain, data, n);
}

static int
seal_larger(void *state, const char *data, size_t n, struct relay_buffer *sealed)
{
	for (size_t i = 0; i < n; i++)
		for (int k = 0; k < *(const int *)state; k++)
			if (relay_put(sealed, data + i, 1) == -1)
				return -1;
	return 0;
}

static int
finish(void *state, struct relay_buffer *sealed)
{
	(void)state, (void)sealed;
	return 0;
}

static bool
ready(void *state)
{
	(void)state;
	return true;
}

static const struct relay_codec codec = { open_as_is, seal_larger, finish, ready, NULL };

/* Puts a pump between the connection and the session's next socket. fd is closed here. */
static void
put_between(int i, int fd, bool listens, int factor)
{
	int plain[2];

	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, plain) == 0);
	CHECK((relays[i] = fork()) != -1);
	if (relays[i] == 0) {
		int served = listens ? accept(fd, NULL, NULL) : fd;

		if (listens)
			close(fd);
		close(client);
		close(plain[0]);
		_exit(relay_run(served, plain[1], plain[1], RELAY_SERVER, &codec, &factor, NULL, 0) == 0 ? 0 : 1);
	}
	close(fd);
	close(plain[1]);
	session = plain[0];
}

/* A client by TCP, whose kernel takes little ahead, and a session, with a pump or two between them. */
static void
begin(int factor)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t size = sizeof(to);
	int little = 4096, fd = socket(AF_INET, SOCK_STREAM, 0);

	CHECK(bind(fd, (struct sockaddr *)&to, sizeof(to)) == 0 && listen(fd, 1) == 0);
	CHECK(getsockname(fd, (struct sockaddr *)&to, &size) == 0);
	client = socket(AF_INET, SOCK_STREAM, 0);
	CHECK(setsockopt(client, SOL_SOCKET, SO_RCVBUF, &little, sizeof(little)) == 0);
	CHECK(connect(client, (struct sockaddr *)&to, sizeof(to)) == 0);
	put_between(0, fd, true, factor);
	if (depth == 2)
		put_between(1, session, false, 1);
}

/* Waits for the pumps' end. Returns 0 if it was a good one for all, else 1; *ms is the CPU time that they took. */
static int
end(int64_t *ms)
{
	int bad = 0;

	*ms = 0;
	for (int i = 0; i < depth; i++) {
		struct rusage usage;
		int status;

		CHECK(wait4(relays[i], &status, 0, &usage) == relays[i] && WIFEXITED(status));
		*ms += (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000 +
		    (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1000;
		bad |= WEXITSTATUS(status);
	}
	return bad;
}

static void
say(size_t n)
{
	static char text[MUCH];

	for (size_t at = 0; at < n;) {
		ssize_t some = write(session, text, n - at);

		CHECK(some > 0);
		at += (size_t)some;
	}
}

/* Reads n bytes of the client's, in pieces with pauses between them. */
static void
hear(size_t n, useconds_t pause)
{
	char some[20000];

	for (size_t at = 0; at < n;) {
		ssize_t got = read(client, some, n - at < sizeof(some) ? n - at : sizeof(some));

		CHECK(got > 0);
		at += (size_t)got;
		usleep(pause);
	}
}

static int
outstanding(void)
{
	int n;

	CHECK(ioctl(session, SIOCOUTQ, &n) == 0);
	return n;
}

static void
await_nothing_outstanding(void)
{
	int64_t until = clock_ms() + 10000;

	while (outstanding() > 0) {
		CHECK(clock_ms() < until);
		usleep(1000);
	}
}

/* The session's count is 0 when the client has all, and not before, however the pieces come. */
static void
the_count_is_the_clients(void)
{
	int64_t ms;

	begin(1);
	for (int i = 0; i < 5; i++) {
		static const size_t sizes[] = { 1, 2, RELAY_PIECE, RELAY_PIECE + 1, 50000 };

		say(sizes[i]);
		hear(sizes[i], 0);
		await_nothing_outstanding();
	}
	/* All of this has left the pair but the last byte: it is in the kernel's hands, and its client does not read. */
	say(SOME);
	for (int i = 0; i < 100; i++) {
		CHECK(outstanding() > 0);
		usleep(10000);
	}
	/* A last piece that comes by itself is held, too, behind what is still to be sent. */
	say(1);
	hear(SOME, 0);
	hear(1, 0);
	await_nothing_outstanding();
	close(session);
	CHECK(read(client, &ms, 1) == 0);
	close(client);
	CHECK(end(&ms) == 0);
	/* A pump that does not sleep while it waits would have taken the second of the wait. */
	CHECK(ms < 500);
}

/* A session that is gone waits for no acknowledgement: the pump ends, and the kernel delivers the rest. */
static void
nobody_is_left_to_wait(void)
{
	int64_t ms;

	begin(1);
	say(SOME);
	hear(1, 0);
	close(session);
	CHECK(end(&ms) == 0);
	hear(SOME - 1, 0);
	CHECK(read(client, &ms, 1) == 0);
	close(client);
}

/* The session ends while its last piece is held, and while more is unread than the buffer could hold of what it becomes. */
static void
the_end_delivers_everything(void)
{
	static const int factors[] = { 1, 6 };

	for (int i = 0; i < 2; i++)
		for (int how = 0; how < 2; how++) {
			int64_t ms;

			begin(factors[i]);
			/* What is unread at the end is what fits into the pair. */
			say(MUCH / 2);
			if (how == 0)
				close(session);
			else
				CHECK(shutdown(session, SHUT_WR) == 0);
			hear((size_t)factors[i] * MUCH / 2, 1000);
			CHECK(read(client, &ms, 1) == 0);
			close(client);
			CHECK(end(&ms) == 0);
			if (how == 1)
				close(session);
		}
}

/* A reset shows at once, although the session has not read what the client said before. An end of its side does not. */
static void
a_reset_is_the_end(void)
{
	const struct linger now = { .l_onoff = 1 };
	struct pollfd p;
	int64_t ms;
	char text[8];

	begin(1);
	CHECK(write(client, "QUIT\r\n", 6) == 6 && shutdown(client, SHUT_WR) == 0);
	CHECK(recv(session, text, 6, MSG_WAITALL) == 6 && read(session, text, 1) == 0);
	p = (struct pollfd){ .fd = session };
	CHECK(poll(&p, 1, 200) == 0);
	say(5);
	hear(5, 0);
	close(session);
	CHECK(read(client, text, 1) == 0);
	close(client);
	CHECK(end(&ms) == 0);

	begin(1);
	say(MUCH / 2);
	CHECK(write(client, "QUIT\r\n", 6) == 6);
	CHECK(setsockopt(client, SOL_SOCKET, SO_LINGER, &now, sizeof(now)) == 0 && close(client) == 0);
	p = (struct pollfd){ .fd = session };
	CHECK(poll(&p, 1, 10000) == 1 && (p.revents & POLLHUP) != 0);
	CHECK(end(&ms) == 1);
	close(session);

	/* Even if the client had heard all, and whether or not the pump has something to pass on that the session does not take. */
	begin(1);
	say(5);
	hear(5, 0);
	while (send(client, &(char[4096]){ 0 }, 4096, MSG_DONTWAIT | MSG_NOSIGNAL) > 0)
		usleep(100);
	CHECK(setsockopt(client, SOL_SOCKET, SO_LINGER, &now, sizeof(now)) == 0 && close(client) == 0);
	p = (struct pollfd){ .fd = session };
	CHECK(poll(&p, 1, 10000) == 1 && (p.revents & POLLHUP) != 0);
	CHECK(end(&ms) == 1);
	close(session);
}

/* A client that is slow does not look dead: the session's count falls again and again while it reads. */
static void
a_slow_client_is_seen(void)
{
	size_t taken = 0;
	int64_t ms;
	int before;

	begin(1);
	for (int i = 0; i < 20; i++) {
		while (send(session, &(char[4096]){ 0 }, 4096, MSG_DONTWAIT) > 0)
			i = 0;
		usleep(10000);
	}
	for (before = outstanding(); before > 0; before = outstanding(), taken = 0)
		while (outstanding() == before) {
			char some[1000];
			ssize_t n = recv(client, some, sizeof(some), MSG_DONTWAIT);

			taken += n > 0 ? (size_t)n : 0;
			CHECK(taken < STEP);
			usleep(300);
		}
	close(session);
	/* Everything, up to the end: what it leaves unread would be a reset. */
	while (recv(client, &(char[4096]){ 0 }, 4096, 0) > 0)
		;
	close(client);
	CHECK(end(&ms) == 0);
}

int
main(void)
{
	signal(SIGPIPE, SIG_IGN);
	alarm(120);
	for (depth = 1; depth <= 2; depth++) {
		the_count_is_the_clients();
		nobody_is_left_to_wait();
		the_end_delivers_everything();
		a_reset_is_the_end();
		a_slow_client_is_seen();
	}
	return 0;
}
