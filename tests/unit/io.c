/*
 * Tests io.c over socket pairs and loopback TCP: lines, timeouts, deadlines,
 * acknowledgements and takeover requests. After an error, every later call must
 * report that error.
 *
 * Runs as any user.
 */
#include "config.h"

#include <sys/socket.h>
#include <sys/wait.h>

#include <netinet/in.h>

#include <arpa/inet.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "io.h"
#include "tests/unit/check.h"

static struct io io;
static int client;

/* While "flooding" is set, recv always finds more input. */
static bool flooding;

ssize_t __real_recv(int, void *, size_t, int);
ssize_t __wrap_recv(int, void *, size_t, int);
ssize_t
__wrap_recv(int fd, void *to, size_t n, int flags)
{
	if (!flooding)
		return __real_recv(fd, to, n, flags);
	memset(to, 'x', n);
	return (ssize_t)n;
}

/* Makes a connection between the variables "io" and "client". */
static void
connect_pair(int64_t milliseconds)
{
	int fds[2];

	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
	io_init(&io, fds[0], clock_ms() + milliseconds);
	client = fds[1];
}

static void
disconnect(void)
{
	close(io.fd);
	close(client);
}

static void
send_text(const char *text, size_t n)
{
	CHECK(write(client, text, n) == (ssize_t)n);
}
#define SEND(text) send_text(text, sizeof(text) - 1)

/*
 * A takeover request ends a connection if the client is idle. It does not
 * matter whether io reads or writes at that time. If the client is not idle,
 * the request is discarded.
 */
static void
takeover_requests_end_an_idle_connection(void)
{
	static char much[1 << 22];
	char line[16];
	int64_t begin = clock_ms();
	int request[2];

	CHECK(pipe(request) == 0);
	connect_pair(60000);
	io_allow_takeover(&io, request[0], 300);
	CHECK(write(request[1], "", 1) == 1);
	SEND("one\r\n");
	CHECK(io_line(&io, line, sizeof(line)) == 3);
	/*
	 * The request came before the client was idle, and is not granted
	 * later.
	 */
	if (fork() == 0) {
		usleep(600000);
		SEND("two\r\n");
		usleep(600000);
		CHECK(write(request[1], "", 1) == 1);
		usleep(600000);
		_exit(0);
	}
	CHECK(io_line(&io, line, sizeof(line)) == 3 &&
	    strcmp(line, "two") == 0);
	CHECK(io_line(&io, line, sizeof(line)) == IO_LINE_ERROR &&
	    io.error == IO_TAKEN_OVER);
	CHECK(clock_ms() - begin >= 1200 && clock_ms() - begin < 10000);
	wait(NULL);
	disconnect();

	connect_pair(60000);
	io_allow_takeover(&io, request[0], 100);
	if (fork() == 0) {
		usleep(300000);
		CHECK(write(request[1], "", 1) == 1);
		sleep(1);
		_exit(0);
	}
	io_write(&io, much, sizeof(much));
	CHECK(io_flush(&io) == -1 && io.error == IO_TAKEN_OVER);
	wait(NULL);
	disconnect();

	/*
	 * If the writing end is closed, no request can come. The connection
	 * continues.
	 */
	close(request[1]);
	connect_pair(300);
	io_allow_takeover(&io, request[0], 0);
	CHECK(io_line(&io, line, sizeof(line)) == IO_LINE_ERROR &&
	    io.error == IO_TIMEOUT);
	close(request[0]);
	disconnect();
}

static void
lines_end_in_lf_or_crlf(void)
{
	char line[16];

	connect_pair(2000);
	SEND("one\r\ntwo\n\r\n\na\rb\r\nx\0y\n");
	CHECK(io_line(&io, line, sizeof(line)) == 3 &&
	    strcmp(line, "one") == 0);
	CHECK(io_line(&io, line, sizeof(line)) == 3 &&
	    strcmp(line, "two") == 0);
	CHECK(io_line(&io, line, sizeof(line)) == 0);
	CHECK(io_line(&io, line, sizeof(line)) == 0);
	CHECK(io_line(&io, line, sizeof(line)) == 3 &&
	    strcmp(line, "a\rb") == 0);
	CHECK(io_line(&io, line, sizeof(line)) == 3 &&
	    memcmp(line, "x\0y", 4) == 0);
	disconnect();
}

static void
long_lines_are_read_to_their_end(void)
{
	static char endless[5000];
	char line[16];

	memset(endless, 'x', sizeof(endless));
	connect_pair(2000);
	/* With the line end, the first line has 16 bytes, which fit. */
	SEND("123456789012345\n");
	/* The second line has 17 bytes, which do not fit. */
	SEND("1234567890123456\n");
	send_text(endless, sizeof(endless));
	SEND("\nafter\n");
	CHECK(io_line(&io, line, sizeof(line)) == 15);
	CHECK(io_line(&io, line, sizeof(line)) == IO_LINE_LONG);
	CHECK(io.line_size == 17 && strcmp(line, "123456789012345") == 0);
	CHECK(io_line(&io, line, sizeof(line)) == IO_LINE_LONG);
	CHECK(io.line_size == sizeof(endless) + 1 &&
	    strcmp(line, "xxxxxxxxxxxxxxx") == 0);
	CHECK(io_line(&io, line, sizeof(line)) == 5 &&
	    strcmp(line, "after") == 0);
	CHECK(io.line_size == 6);
	disconnect();
}

static void
a_line_may_come_in_single_bytes(void)
{
	static const char text[] = "USER alice\r\nPASS x\r\n";
	char line[32];
	pid_t pid;

	connect_pair(5000);
	if ((pid = fork()) == 0) {
		for (size_t i = 0; i < sizeof(text) - 1; i++) {
			usleep(1000);
			send_text(text + i, 1);
		}
		_exit(0);
	}
	CHECK(io_line(&io, line, sizeof(line)) == 10 &&
	    strcmp(line, "USER alice") == 0);
	CHECK(io_line(&io, line, sizeof(line)) == 6 &&
	    strcmp(line, "PASS x") == 0);
	waitpid(pid, NULL, 0);
	disconnect();
}

static void
exact_reads_leave_the_rest(void)
{
	const char *rest;
	char data[8];

	connect_pair(2000);
	SEND("12345678STAT\r\n");
	CHECK(io_exact(&io, data, 8) == 0 && memcmp(data, "12345678", 8) == 0);
	CHECK(io_unread(&io, &rest) == 6 && memcmp(rest, "STAT\r\n", 6) == 0);
	io_prime(&io, "NOOP\n", 5);
	CHECK(io_line(&io, data, sizeof(data)) == 4 &&
	    strcmp(data, "NOOP") == 0);
	disconnect();
}

static void
a_trickle_does_not_extend_the_deadline(void)
{
	char line[200];
	int64_t begin = clock_ms();
	pid_t pid;

	connect_pair(300);
	if ((pid = fork()) == 0)
		for (;;) {
			usleep(20000);
			if (send(client, "x", 1, MSG_NOSIGNAL) != 1)
				_exit(0);
		}
	CHECK(io_line(&io, line, sizeof(line)) == IO_LINE_ERROR);
	CHECK(io.error == IO_TIMEOUT);
	CHECK(clock_ms() - begin >= 290 && clock_ms() - begin < 2000);
	/* All later calls report the first error. */
	CHECK(io_line(&io, line, sizeof(line)) == IO_LINE_ERROR);
	CHECK(io_flush(&io) == -1 && io.error == IO_TIMEOUT);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	disconnect();

	connect_pair(0);
	io_limits(&io, 300, 300);
	begin = clock_ms();
	CHECK(io_line(&io, line, sizeof(line)) == IO_LINE_ERROR);
	CHECK(io.error == IO_TIMEOUT && clock_ms() - begin >= 290);
	disconnect();
}

/*
 * If input never stops, poll always returns at once. The deadline must end the
 * connection all the same.
 */
static void
a_flood_does_not_extend_the_deadline(void)
{
	char line[200];
	int64_t begin = clock_ms();

	connect_pair(300);
	flooding = true;
	alarm(10);
	CHECK(io_line(&io, line, sizeof(line)) == IO_LINE_ERROR);
	alarm(0);
	flooding = false;
	CHECK(io.error == IO_TIMEOUT);
	CHECK(clock_ms() - begin >= 290 && clock_ms() - begin < 2000);
	disconnect();
}

static void
a_peer_that_takes_nothing_exceeds_the_write_timeout(void)
{
	static char much[IO_OUT];
	int64_t begin;

	connect_pair(0);
	io_limits(&io, 60000, 300);
	begin = clock_ms();
	for (int i = 0; i < 100 && io.error == IO_OK; i++)
		io_write(&io, much, sizeof(much));
	CHECK(io.error == IO_WRITE_TIMEOUT);
	CHECK(clock_ms() - begin >= 290 && clock_ms() - begin < 5000);
	io_write(&io, much, sizeof(much));
	CHECK(io.error == IO_WRITE_TIMEOUT && io_flush(&io) == -1);
	disconnect();
}

static void
output_waits_until_input_is_needed(void)
{
	char line[16], got[64];

	connect_pair(2000);
	SEND("a\nb\n");
	CHECK(io_line(&io, line, sizeof(line)) == 1);
	io_printf(&io, "+OK %d\r\n", 1);
	CHECK(io_line(&io, line, sizeof(line)) == 1);
	CHECK(recv(client, got, sizeof(got), MSG_DONTWAIT) == -1);
	io_printf(&io, "+OK %d\r\n", 2);
	CHECK(io_flush(&io) == 0);
	CHECK(recv(client, got, sizeof(got), MSG_DONTWAIT) == 14);
	disconnect();
}

static void
the_end_is_seen(void)
{
	char line[16];

	connect_pair(2000);
	SEND("half");
	shutdown(client, SHUT_WR);
	CHECK(io_line(&io, line, sizeof(line)) == IO_LINE_ERROR);
	CHECK(io.error == IO_CLOSED);
	disconnect();

	connect_pair(2000);
	close(client);
	io_write(&io, "x", 1);
	io_flush(&io);
	CHECK(io.error == IO_CLOSED);
	close(io.fd);
}

/* After an error no input is returned, even if it was read before the error. */
static void
an_error_ends_the_input(void)
{
	char line[16], data[4];

	connect_pair(2000);
	SEND("one\ntwo\nthree\n");
	CHECK(io_line(&io, line, sizeof(line)) == 3);
	close(client);
	io_write(&io, "x", 1);
	CHECK(io_flush(&io) == -1 && io.error == IO_CLOSED);
	CHECK(io_line(&io, line, sizeof(line)) == IO_LINE_ERROR);
	CHECK(io_exact(&io, data, 1) == -1);
	CHECK(io.error == IO_CLOSED);
	close(io.fd);
}

/*
 * A client that was too slow gets one more answer. None of its later lines is
 * read.
 */
static void
an_answer_to_a_timeout_does_not_reopen_the_input(void)
{
	char line[16], got[16];

	connect_pair(100);
	CHECK(io_line(&io, line, sizeof(line)) == IO_LINE_ERROR &&
	    io.error == IO_TIMEOUT);
	SEND("late\n");
	io_answer_timeout(&io, "bye\n", 4);
	CHECK(recv(client, got, sizeof(got), MSG_DONTWAIT) == 4 &&
	    memcmp(got, "bye\n", 4) == 0);
	CHECK(io.error == IO_TIMEOUT);
	CHECK(io_line(&io, line, sizeof(line)) == IO_LINE_ERROR);
	/* After the answer, io has shut down the direction to the client. */
	CHECK(recv(client, got, sizeof(got), MSG_DONTWAIT) == 0);
	disconnect();

	/* A lost connection gets no answer. */
	connect_pair(2000);
	shutdown(client, SHUT_WR);
	CHECK(io_line(&io, line, sizeof(line)) == IO_LINE_ERROR &&
	    io.error == IO_CLOSED);
	io_answer_timeout(&io, "bye\n", 4);
	CHECK(recv(client, got, sizeof(got), MSG_DONTWAIT) == -1);
	disconnect();
}

#define MUCH 200000

/*
 * Makes a TCP connection. The kernel buffers little on the client's side, and
 * much on the side of io.
 */
static void
connect_tcp(void)
{
	struct sockaddr_in to = { .sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t size = sizeof(to);
	int little = 4096, much = 2 * MUCH,
	    fd = socket(AF_INET, SOCK_STREAM, 0);

	CHECK(bind(fd, (struct sockaddr *)&to, sizeof(to)) == 0 &&
	    listen(fd, 1) == 0);
	CHECK(getsockname(fd, (struct sockaddr *)&to, &size) == 0);
	client = socket(AF_INET, SOCK_STREAM, 0);
	CHECK(setsockopt(client, SOL_SOCKET, SO_RCVBUF, &little,
		  sizeof(little)) == 0);
	CHECK(connect(client, (struct sockaddr *)&to, sizeof(to)) == 0);
	io_init(&io, accept(fd, NULL, NULL), 0);
	CHECK(setsockopt(io.fd, SOL_SOCKET, SO_SNDBUF, &much, sizeof(much)) ==
	    0);
	close(fd);
}

static void
connect_unix(void)
{
	connect_pair(0);
	io.deadline = 0;
}

/* Sends n bytes. They stay in the kernel until the client reads. */
static void
send_much(size_t n)
{
	static char much[MUCH];

	io_limits(&io, 60000, 400);
	io_write(&io, much, n);
	CHECK(io_flush(&io) == 0);
}

static int looks; /* the number of calls of answer_look */

/* Answers each look with *self. */
static int
answer_look(void *self)
{
	looks++;
	return *(int *)self;
}

/*
 * The first look in an idle time never ends the connection, because the request
 * may be old. A client that is not idle is not looked for, and no look follows
 * one that finds that no request can come.
 */
static void
the_second_look_of_an_idle_time_ends_the_connection(void)
{
	int64_t begin = clock_ms();
	char line[16];
	int answer = 1;
	pid_t pid;

	connect_pair(60000);
	io_allow_takeover(&io, -1, 800);
	io_look_for_takeover(&io, answer_look, &answer);
	if ((pid = fork()) == 0) {
		for (int i = 0; i < 20; i++) {
			SEND("NOOP\r\n");
			usleep(20000);
		}
		usleep(1300000);
		SEND("idle\r\n");
		pause();
		_exit(0);
	}
	for (int i = 0; i < 20; i++)
		CHECK(io_line(&io, line, sizeof(line)) == 4 && looks == 0);
	CHECK(io_line(&io, line, sizeof(line)) == 4 &&
	    strcmp(line, "idle") == 0 && looks == 1);
	CHECK(io_line(&io, line, sizeof(line)) == IO_LINE_ERROR &&
	    io.error == IO_TAKEN_OVER && looks == 3);
	CHECK(clock_ms() - begin >= 3400);
	disconnect();
	CHECK(kill(pid, SIGKILL) == 0 && waitpid(pid, NULL, 0) == pid);

	answer = -1;
	looks = 0;
	connect_pair(2500);
	io_allow_takeover(&io, -1, 0);
	io_look_for_takeover(&io, answer_look, &answer);
	CHECK(io_line(&io, line, sizeof(line)) == IO_LINE_ERROR &&
	    io.error == IO_TIMEOUT && looks == 1);
	disconnect();

	/* A wait in many steps is one idle time. */
	answer = 1;
	looks = 0;
	connect_unix();
	send_much(1000);
	io_limits(&io, 60000, 60000);
	io_allow_takeover(&io, -1, 0);
	io_look_for_takeover(&io, answer_look, &answer);
	CHECK(io_await_acknowledged(&io) == -1 && io.error == IO_TAKEN_OVER &&
	    looks == 2);
	disconnect();
}

/*
 * Forks a process that becomes the client. Returns the pid in the parent and 0
 * in the child, like fork(2).
 */
static pid_t
begin_client(void)
{
	pid_t pid = fork();

	if (pid != 0)
		close(client);
	else
		close(io.fd);
	return pid;
}

static void
read_all(size_t n, useconds_t pause)
{
	char some[10000];
	ssize_t got;

	for (size_t at = 0; at < n; at += (size_t)got) {
		usleep(pause);
		CHECK((got = read(client, some, sizeof(some))) > 0);
	}
}

static void (*const connections[])(void) = { connect_tcp, connect_unix };

/*
 * io does not wait for a client that has read everything. That is also true if
 * the client has shut down its sending direction.
 */
static void
what_was_read_needs_no_wait(void)
{
	for (size_t i = 0; i < 2; i++) {
		int64_t begin;

		connections[i]();
		send_much(1000);
		read_all(1000, 0);
		shutdown(client, SHUT_WR);
		begin = clock_ms();
		CHECK(io_await_acknowledged(&io) == 0 && io.error == IO_OK);
		CHECK(clock_ms() - begin < 200);
		disconnect();
	}
	/* TCP acknowledges bytes although the program has not read them. */
	connect_tcp();
	send_much(1000);
	CHECK(io_await_acknowledged(&io) == 0);
	disconnect();
}

static void
what_is_not_acknowledged_exceeds_the_write_timeout(void)
{
	for (size_t i = 0; i < 2; i++) {
		int64_t begin;

		connections[i]();
		send_much(MUCH / 2);
		begin = clock_ms();
		CHECK(io_await_acknowledged(&io) == -1 &&
		    io.error == IO_WRITE_TIMEOUT);
		CHECK(clock_ms() - begin >= 390 && clock_ms() - begin < 5000);
		disconnect();
	}
}

/*
 * The wait for a slow client may last longer than the write timeout, because
 * the timeout begins anew at each acknowledgement. The test also passes on a
 * slow machine.
 */
static void
a_slow_client_is_waited_for(void)
{
	for (size_t i = 0; i < 2; i++) {
		int64_t begin = clock_ms();
		size_t n = MUCH / 2;

		connections[i]();
		if (begin_client() == 0) {
			read_all(n, 120000);
			usleep(100000);
			_exit(0);
		}
		send_much(0);
		io_limits(&io, 60000, 1000);
		for (size_t at = 0; at < n; at += 5000) {
			static char some[5000];

			io_write(&io, some, sizeof(some));
			CHECK(io_flush(&io) == 0);
		}
		CHECK(io_await_acknowledged(&io) == 0 && io.error == IO_OK);
		CHECK(clock_ms() - begin > 1000);
		wait(NULL);
		close(io.fd);
	}
}

/*
 * If io notices, before or during the wait, that the client has ended, io
 * reports an error at once. It does so even if the client has read everything.
 */
static void
a_dead_client_acknowledges_nothing(void)
{
	const struct linger now = { .l_onoff = 1 };

	for (size_t i = 0; i < 2; i++)
		for (int when = 0; when < 3; when++) {
			size_t n = when == 0 ? 1000 : MUCH / 2;
			int64_t begin;

			connections[i]();
			setsockopt(client, SOL_SOCKET, SO_LINGER, &now,
			    sizeof(now));
			send_much(n);
			io_limits(&io, 60000, 60000);
			if (when == 0)
				read_all(n, 0);
			if (when < 2)
				close(client);
			else if (begin_client() == 0) {
				usleep(200000);
				close(client);
				_exit(0);
			}
			begin = clock_ms();
			CHECK(io_await_acknowledged(&io) == -1 &&
			    io.error == IO_CLOSED);
			CHECK(clock_ms() - begin < 5000);
			if (when == 2)
				wait(NULL);
			close(io.fd);
		}
}

static void
a_wait_sends_first_and_permits_a_takeover(void)
{
	int request[2], ends[2];
	char got[8];

	connect_unix();
	io_limits(&io, 60000, 200);
	io_write(&io, "+OK\r\n", 5);
	CHECK(io_await_acknowledged(&io) == -1 && io.error == IO_WRITE_TIMEOUT);
	CHECK(recv(client, got, sizeof(got), MSG_DONTWAIT) == 5);
	disconnect();

	CHECK(pipe(request) == 0 && write(request[1], "", 1) == 1);
	connect_unix();
	send_much(1000);
	io_limits(&io, 60000, 60000);
	io_allow_takeover(&io, request[0], 0);
	CHECK(io_await_acknowledged(&io) == -1 && io.error == IO_TAKEN_OVER);
	disconnect();

	/*
	 * If the kernel cannot count the unacknowledged bytes, io does not
	 * wait.
	 */
	CHECK(pipe(ends) == 0);
	io_init(&io, ends[0], 0);
	io_limits(&io, 60000, 60000);
	CHECK(io_await_acknowledged(&io) == 0);
}

int
main(void)
{
	signal(SIGPIPE, SIG_IGN);
	an_error_ends_the_input();
	an_answer_to_a_timeout_does_not_reopen_the_input();
	what_was_read_needs_no_wait();
	what_is_not_acknowledged_exceeds_the_write_timeout();
	a_slow_client_is_waited_for();
	a_dead_client_acknowledges_nothing();
	a_wait_sends_first_and_permits_a_takeover();
	takeover_requests_end_an_idle_connection();
	the_second_look_of_an_idle_time_ends_the_connection();
	lines_end_in_lf_or_crlf();
	long_lines_are_read_to_their_end();
	a_line_may_come_in_single_bytes();
	exact_reads_leave_the_rest();
	a_trickle_does_not_extend_the_deadline();
	a_flood_does_not_extend_the_deadline();
	a_peer_that_takes_nothing_exceeds_the_write_timeout();
	output_waits_until_input_is_needed();
	the_end_is_seen();
	return 0;
}
