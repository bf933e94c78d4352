/*
 * Unit tests of relay.c on the server's side. The session's socket must behave
 * in the same way as the client's socket. Runs as any user.
 */
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
#include "relay-gss.h"
#include "tests/unit/check.h"

#define MUCH 200000 /* more bytes than the client's socket can buffer */
/*
 * After at most this number of bytes, the session notices that the client
 * reads.
 */
#define STEP 200000
/* Bytes that are buffered, but acknowledged only when the client reads. */
#define SOME 30000

static int client, session;
static int depth; /* number of relays: 1, or 2 for TLS and GSSAPI */
static pid_t relays[2];

/* A codec for the tests. It sends each byte to the client *state times. */
static int
unwrap_nothing(void *state, const char *data, size_t n,
    struct relay_buffer *cleartext, struct relay_buffer *wrapped)
{
	(void)state, (void)wrapped;
	return relay_put(cleartext, data, n);
}

static int
wrap_larger(void *state, const char *data, size_t n,
    struct relay_buffer *wrapped)
{
	for (size_t i = 0; i < n; i++)
		for (int k = 0; k < *(const int *)state; k++)
			if (relay_put(wrapped, data + i, 1) == -1)
				return -1;
	return 0;
}

static int
finish(void *state, struct relay_buffer *wrapped)
{
	(void)state, (void)wrapped;
	return 0;
}

static bool
is_ready(void *state)
{
	(void)state;
	return true;
}

static struct relay_codec codec = { .unwrap = unwrap_nothing,
	.wrap = wrap_larger,
	.finish = finish,
	.is_ready = is_ready };

/* Starts the relay i between fd and a new socket of the session. Closes fd. */
static void
put_between(int i, int fd, bool listens, int factor)
{
	int pair[2];

	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
	CHECK((relays[i] = fork()) != -1);
	if (relays[i] == 0) {
		int served = listens ? accept(fd, NULL, NULL) : fd;

		if (listens)
			close(fd);
		close(client);
		close(pair[0]);
		/* The second relay is that of GSSAPI. */
		codec.piece = i == 1 ? relay_gss_codec.piece :
				       RELAY_PIECE / (size_t)factor;
		_exit(relay_run(served, pair[1], pair[1], RELAY_SERVER, &codec,
			  &factor, NULL, 0) == 0 ?
			0 :
			1);
	}
	close(fd);
	close(pair[1]);
	session = pair[0];
}

/*
 * Connects a TCP client to a session, through one relay or two. The client's
 * kernel buffers little.
 */
static void
begin(int factor)
{
	struct sockaddr_in to = { .sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t size = sizeof(to);
	int little = 4096, fd = socket(AF_INET, SOCK_STREAM, 0);

	CHECK(bind(fd, (struct sockaddr *)&to, sizeof(to)) == 0 &&
	    listen(fd, 1) == 0);
	CHECK(getsockname(fd, (struct sockaddr *)&to, &size) == 0);
	client = socket(AF_INET, SOCK_STREAM, 0);
	CHECK(setsockopt(client, SOL_SOCKET, SO_RCVBUF, &little,
		  sizeof(little)) == 0);
	CHECK(connect(client, (struct sockaddr *)&to, sizeof(to)) == 0);
	put_between(0, fd, true, factor);
	if (depth == 2)
		put_between(1, session, false, 1);
}

/*
 * Waits until the relays end, and stores their CPU time in *ms. Returns 0 if
 * all relays have ended without an error. Returns 1 if one has not.
 */
static int
end(int64_t *ms)
{
	int bad = 0;

	*ms = 0;
	for (int i = 0; i < depth; i++) {
		struct rusage usage;
		int status;

		CHECK(wait4(relays[i], &status, 0, &usage) == relays[i] &&
		    WIFEXITED(status));
		*ms += (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000 +
		    (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1000;
		bad |= WEXITSTATUS(status);
	}
	return bad;
}

/* Sends n bytes from the session. */
static void
send_bytes(size_t n)
{
	static char text[MUCH];

	for (size_t at = 0; at < n;) {
		ssize_t some = write(session, text, n - at);

		CHECK(some > 0);
		at += (size_t)some;
	}
}

/* Reads n bytes as the client. Pauses after each piece. */
static void
read_bytes(size_t n, useconds_t pause)
{
	char some[20000];

	for (size_t at = 0; at < n;) {
		ssize_t got = read(client, some,
		    n - at < sizeof(some) ? n - at : sizeof(some));

		CHECK(got > 0);
		at += (size_t)got;
		usleep(pause);
	}
}

/* Returns the number of the session's bytes that are not acknowledged. */
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

/*
 * The session counts no unacknowledged bytes as soon as the client has
 * acknowledged everything. Before that, it counts at least one. The sizes of
 * the pieces do not matter.
 */
static void
the_count_is_the_clients(void)
{
	int64_t ms;

	begin(1);
	for (int i = 0; i < 5; i++) {
		static const size_t sizes[] = { 1, 2, RELAY_PIECE,
			RELAY_PIECE + 1, 50000 };

		send_bytes(sizes[i]);
		read_bytes(sizes[i], 0);
		await_nothing_outstanding();
	}
	/*
	 * All bytes except the last one have left the socket pair and are in
	 * the client's kernel. The client does not read them.
	 */
	send_bytes(SOME);
	for (int i = 0; i < 100; i++) {
		CHECK(outstanding() > 0);
		usleep(10000);
	}
	/*
	 * The relay holds back the last byte until it has sent all earlier
	 * bytes.
	 */
	send_bytes(1);
	read_bytes(SOME, 0);
	read_bytes(1, 0);
	await_nothing_outstanding();
	close(session);
	CHECK(read(client, &ms, 1) == 0);
	close(client);
	CHECK(end(&ms) == 0);
	/*
	 * A relay that polls without sleeping would have used a second of CPU
	 * time.
	 */
	CHECK(ms < 500);
}

/*
 * After the session has ended, the relay ends without waiting for
 * acknowledgements. The kernel delivers the rest.
 */
static void
the_end_waits_for_nothing(void)
{
	int64_t ms;

	begin(1);
	send_bytes(SOME);
	read_bytes(1, 0);
	close(session);
	CHECK(end(&ms) == 0);
	read_bytes(SOME - 1, 0);
	CHECK(read(client, &ms, 1) == 0);
	close(client);
}

/*
 * Nothing is lost if the session ends while the relay holds its last byte.
 * Also, nothing is lost if the relay's buffer is too small for the codec's
 * output when the session ends.
 */
static void
the_end_delivers_everything(void)
{
	static const int factors[] = { 1, 6 };

	for (int i = 0; i < 2; i++)
		for (int how = 0; how < 2; how++) {
			int64_t ms;

			begin(factors[i]);
			/*
			 * When the session ends, the socket pair still buffers
			 * bytes that the relay has not read.
			 */
			send_bytes(MUCH);
			if (how == 0)
				close(session);
			else
				CHECK(shutdown(session, SHUT_WR) == 0);
			read_bytes((size_t)factors[i] * MUCH, 1000);
			CHECK(read(client, &ms, 1) == 0);
			close(client);
			CHECK(end(&ms) == 0);
			if (how == 1)
				close(session);
		}
}

/*
 * The session sees a reset at once, even if it has not read what the client
 * sent before. A client that only ends its input does not cause a reset.
 */
static void
a_reset_is_the_end(void)
{
	const struct linger now = { .l_onoff = 1 };
	struct pollfd p;
	int64_t ms;
	char text[8];

	begin(1);
	CHECK(write(client, "QUIT\r\n", 6) == 6 &&
	    shutdown(client, SHUT_WR) == 0);
	CHECK(recv(session, text, 6, MSG_WAITALL) == 6 &&
	    read(session, text, 1) == 0);
	p = (struct pollfd){ .fd = session };
	CHECK(poll(&p, 1, 200) == 0);
	send_bytes(5);
	read_bytes(5, 0);
	close(session);
	CHECK(read(client, text, 1) == 0);
	close(client);
	CHECK(end(&ms) == 0);

	begin(1);
	send_bytes(MUCH / 2);
	CHECK(write(client, "QUIT\r\n", 6) == 6);
	CHECK(setsockopt(client, SOL_SOCKET, SO_LINGER, &now, sizeof(now)) ==
		0 &&
	    close(client) == 0);
	p = (struct pollfd){ .fd = session };
	CHECK(poll(&p, 1, 10000) == 1 && (p.revents & POLLHUP) != 0);
	CHECK(end(&ms) == 1);
	close(session);

	/*
	 * The session also sees the reset if the client has read everything. It
	 * sees the reset even while it does not read the bytes that the relay
	 * has for it.
	 */
	begin(1);
	send_bytes(5);
	read_bytes(5, 0);
	while (send(client, &(char[4096]){ 0 }, 4096,
		   MSG_DONTWAIT | MSG_NOSIGNAL) > 0)
		usleep(100);
	CHECK(setsockopt(client, SOL_SOCKET, SO_LINGER, &now, sizeof(now)) ==
		0 &&
	    close(client) == 0);
	p = (struct pollfd){ .fd = session };
	CHECK(poll(&p, 1, 10000) == 1 && (p.revents & POLLHUP) != 0);
	CHECK(end(&ms) == 1);
	close(session);
}

/*
 * Reads as the client until the session's count of unacknowledged bytes is not
 * `before` any more, but at most STEP bytes. Then the relay has some seconds to
 * notice this.
 */
static void
await_progress(int before)
{
	size_t taken = 0;

	for (int waits = 0; outstanding() == before;) {
		char some[1000];
		ssize_t n = taken >= STEP ?
		    0 :
		    recv(client, some, sizeof(some), MSG_DONTWAIT);

		taken += n > 0 ? (size_t)n : 0;
		CHECK(taken < STEP || waits++ < 20000);
		usleep(300);
	}
}

/*
 * The session can tell a slow client from a dead one. Its count of
 * unacknowledged bytes falls while the client reads.
 */
static void
a_slow_client_is_seen(void)
{
	int64_t ms;
	int before;

	begin(1);
	for (int i = 0; i < 20; i++) {
		while (send(session, &(char[4096]){ 0 }, 4096, MSG_DONTWAIT) >
		    0)
			i = 0;
		usleep(10000);
	}
	for (before = outstanding(); before > 0; before = outstanding())
		await_progress(before);
	close(session);
	/* Read up to the end. A close with unread bytes would send a reset. */
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
		the_end_waits_for_nothing();
		the_end_delivers_everything();
		a_reset_is_the_end();
		a_slow_client_is_seen();
	}
	return 0;
}
