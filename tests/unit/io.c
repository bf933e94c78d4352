/* Unit tests of io.c over socket pairs and loopback TCP: lines, limits, deadlines, acknowledgements, the first error stays. Runs as anybody. */
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

/* A peer that has always sent more, however fast it is read. */
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

/* A new connection: io on one end, client the other. */
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
say(const char *text, size_t n)
{
	CHECK(write(client, text, n) == (ssize_t)n);
}
#define SAY(text) say(text, sizeof(text) - 1)

/* A wish ends a connection that is silent, whether it was to speak or to listen, and is forgotten by one that is not. */
static void
wishes_are_granted_when_idle(void)
{
	static char much[1 << 22];
	char line[16];
	int64_t begin = clock_ms();
	int wish[2];

	CHECK(pipe(wish) == 0);
	connect_pair(60000);
	io_yield(&io, wish[0], 300);
	CHECK(write(wish[1], "", 1) == 1);
	SAY("one\r\n");
	CHECK(io_line(&io, line, sizeof(line)) == 3);
	/* The early one was not for what comes later. */
	if (fork() == 0) {
		usleep(600000);
		SAY("two\r\n");
		usleep(600000);
		CHECK(write(wish[1], "", 1) == 1);
		usleep(600000);
		_exit(0);
	}
	CHECK(io_line(&io, line, sizeof(line)) == 3 && strcmp(line, "two") == 0);
	CHECK(io_line(&io, line, sizeof(line)) == IO_LINE_ERROR && io.error == IO_YIELDED);
	CHECK(clock_ms() - begin >= 1200 && clock_ms() - begin < 10000);
	wait(NULL);
	disconnect();

	connect_pair(60000);
	io_yield(&io, wish[0], 100);
	if (fork() == 0) {
		usleep(300000);
		CHECK(write(wish[1], "", 1) == 1);
		sleep(1);
		_exit(0);
	}
	io_write(&io, much, sizeof(much));
	CHECK(io_flush(&io) == -1 && io.error == IO_YIELDED);
	wait(NULL);
	disconnect();

	/* Nobody left who could wish: the connection goes on. */
	close(wish[1]);
	connect_pair(300);
	io_yield(&io, wish[0], 0);
	CHECK(io_line(&io, line, sizeof(line)) == IO_LINE_ERROR && io.error == IO_TIMEOUT);
	close(wish[0]);
	disconnect();
}

static void
lines_end_in_lf_or_crlf(void)
{
	char line[16];

	connect_pair(2000);
	SAY("one\r\ntwo\n\r\n\na\rb\r\nx\0y\n");
	CHECK(io_line(&io, line, sizeof(line)) == 3 && strcmp(line, "one") == 0);
	CHECK(io_line(&io, line, sizeof(line)) == 3 && strcmp(line, "two") == 0);
	CHECK(io_line(&io, line, sizeof(line)) == 0);
	CHECK(io_line(&io, line, sizeof(line)) == 0);
	CHECK(io_line(&io, line, sizeof(line)) == 3 && strcmp(line, "a\rb") == 0);
	CHECK(io_line(&io, line, sizeof(line)) == 3 && memcmp(line, "x\0y", 4) == 0);
	disconnect();
}

static void
long_lines_are_eaten_whole(void)
{
	static char endless[5000];
	char line[16];

	memset(endless, 'x', sizeof(endless));
	connect_pair(2000);
	SAY("123456789012345\n");  /* 16 bytes with its end: fits */
	SAY("1234567890123456\n"); /* 17: does not */
	say(endless, sizeof(endless));
	SAY("\nafter\n");
	CHECK(io_line(&io, line, sizeof(line)) == 15);
	CHECK(io_line(&io, line, sizeof(line)) == IO_LINE_LONG);
	CHECK(io.line_size == 17 && strcmp(line, "123456789012345") == 0);
	CHECK(io_line(&io, line, sizeof(line)) == IO_LINE_LONG);
	CHECK(io.line_size == sizeof(endless) + 1 && strcmp(line, "xxxxxxxxxxxxxxx") == 0);
	CHECK(io_line(&io, line, sizeof(line)) == 5 && strcmp(line, "after") == 0);
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
			say(text + i, 1);
		}
		_exit(0);
	}
	CHECK(io_line(&io, line, sizeof(line)) == 10 && strcmp(line, "USER alice") == 0);
	CHECK(io_line(&io, line, sizeof(line)) == 6 && strcmp(line, "PASS x") == 0);
	waitpid(pid, NULL, 0);
	disconnect();
}

static void
exact_reads_leave_the_rest(void)
{
	const char *rest;
	char data[8];

	connect_pair(2000);
	SAY("12345678STAT\r\n");
	CHECK(io_exact(&io, data, 8) == 0 && memcmp(data, "12345678", 8) == 0);
	CHECK(io_unread(&io, &rest) == 6 && memcmp(rest, "STAT\r\n", 6) == 0);
	io_prime(&io, "NOOP\n", 5);
	CHECK(io_line(&io, data, sizeof(data)) == 4 && strcmp(data, "NOOP") == 0);
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
	/* The first error stays, whatever comes. */
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

/* Bytes that never stop leave poll nothing to wait for; the deadline holds all the same. */
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
a_peer_that_takes_nothing_stalls(void)
{
	static char much[IO_OUT];
	int64_t begin;

	connect_pair(0);
	io_limits(&io, 60000, 300);
	begin = clock_ms();
	for (int i = 0; i < 100 && io.error == IO_OK; i++)
		io_write(&io, much, sizeof(much));
	CHECK(io.error == IO_STALLED);
	CHECK(clock_ms() - begin >= 290 && clock_ms() - begin < 5000);
	io_write(&io, much, sizeof(much));
	CHECK(io.error == IO_STALLED && io_flush(&io) == -1);
	disconnect();
}

static void
output_waits_until_input_is_needed(void)
{
	char line[16], got[64];

	connect_pair(2000);
	SAY("a\nb\n");
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
	SAY("half");
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

/* After an error nothing is handed out, even if it was read before the error. */
static void
an_error_ends_the_input(void)
{
	char line[16], data[4];

	connect_pair(2000);
	SAY("one\ntwo\nthree\n");
	CHECK(io_line(&io, line, sizeof(line)) == 3);
	close(client);
	io_write(&io, "x", 1);
	CHECK(io_flush(&io) == -1 && io.error == IO_CLOSED);
	CHECK(io_line(&io, line, sizeof(line)) == IO_LINE_ERROR);
	CHECK(io_exact(&io, data, 1) == -1);
	CHECK(io.error == IO_CLOSED);
	close(io.fd);
}

/* A client that was too slow gets a last text, but no later line of it is read. */
static void
last_words_do_not_reopen_the_input(void)
{
	char line[16], got[16];

	connect_pair(100);
	CHECK(io_line(&io, line, sizeof(line)) == IO_LINE_ERROR && io.error == IO_TIMEOUT);
	SAY("late\n");
	io_last_words(&io, "bye\n", 4);
	CHECK(recv(client, got, sizeof(got), MSG_DONTWAIT) == 4 && memcmp(got, "bye\n", 4) == 0);
	CHECK(io.error == IO_TIMEOUT);
	CHECK(io_line(&io, line, sizeof(line)) == IO_LINE_ERROR);
	/* And its end. */
	CHECK(recv(client, got, sizeof(got), MSG_DONTWAIT) == 0);
	disconnect();

	/* A connection that is lost gets none. */
	connect_pair(2000);
	shutdown(client, SHUT_WR);
	CHECK(io_line(&io, line, sizeof(line)) == IO_LINE_ERROR && io.error == IO_CLOSED);
	io_last_words(&io, "bye\n", 4);
	CHECK(recv(client, got, sizeof(got), MSG_DONTWAIT) == -1);
	disconnect();
}

#define MUCH 200000

/* A new connection by TCP, whose client takes little into its kernel. */
static void
connect_tcp(void)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t size = sizeof(to);
	int little = 4096, much = 2 * MUCH, fd = socket(AF_INET, SOCK_STREAM, 0);

	CHECK(bind(fd, (struct sockaddr *)&to, sizeof(to)) == 0 && listen(fd, 1) == 0);
	CHECK(getsockname(fd, (struct sockaddr *)&to, &size) == 0);
	client = socket(AF_INET, SOCK_STREAM, 0);
	CHECK(setsockopt(client, SOL_SOCKET, SO_RCVBUF, &little, sizeof(little)) == 0);
	CHECK(connect(client, (struct sockaddr *)&to, sizeof(to)) == 0);
	io_init(&io, accept(fd, NULL, NULL), 0);
	CHECK(setsockopt(io.fd, SOL_SOCKET, SO_SNDBUF, &much, sizeof(much)) == 0);
	close(fd);
}

static void
connect_unix(void)
{
	connect_pair(0);
	io.deadline = 0;
}

/* Sends n bytes into the kernel, which the client has not read. */
static void
send_much(size_t n)
{
	static char much[MUCH];

	io_limits(&io, 60000, 400);
	io_write(&io, much, n);
	CHECK(io_flush(&io) == 0);
}

/* Lets a process be the client. */
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

/* Whoever has read all was never waited for; a client that ended only its own side neither. */
static void
what_was_taken_needs_no_wait(void)
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
	/* TCP acknowledges for a program that does not read. */
	connect_tcp();
	send_much(1000);
	CHECK(io_await_acknowledged(&io) == 0);
	disconnect();
}

static void
what_nobody_takes_stalls(void)
{
	for (size_t i = 0; i < 2; i++) {
		int64_t begin;

		connections[i]();
		send_much(MUCH / 2);
		begin = clock_ms();
		CHECK(io_await_acknowledged(&io) == -1 && io.error == IO_STALLED);
		CHECK(clock_ms() - begin >= 390 && clock_ms() - begin < 5000);
		disconnect();
	}
}

/* However long it takes altogether. Each wait is shorter than the limit, even on a slow machine. */
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

/* Its end is an error at once, whether before the wait or in it, and even if it had taken everything. */
static void
a_dead_client_acknowledges_nothing(void)
{
	const struct linger now = { .l_onoff = 1 };

	for (size_t i = 0; i < 2; i++)
		for (int when = 0; when < 3; when++) {
			size_t n = when == 0 ? 1000 : MUCH / 2;
			int64_t begin;

			connections[i]();
			setsockopt(client, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
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
			CHECK(io_await_acknowledged(&io) == -1 && io.error == IO_CLOSED);
			CHECK(clock_ms() - begin < 5000);
			if (when == 2)
				wait(NULL);
			close(io.fd);
		}
}

static void
a_wait_sends_first_and_yields(void)
{
	int wish[2], ends[2];
	char got[8];

	connect_unix();
	io_limits(&io, 60000, 200);
	io_write(&io, "+OK\r\n", 5);
	CHECK(io_await_acknowledged(&io) == -1 && io.error == IO_STALLED);
	CHECK(recv(client, got, sizeof(got), MSG_DONTWAIT) == 5);
	disconnect();

	CHECK(pipe(wish) == 0 && write(wish[1], "", 1) == 1);
	connect_unix();
	send_much(1000);
	io_limits(&io, 60000, 60000);
	io_yield(&io, wish[0], 0);
	CHECK(io_await_acknowledged(&io) == -1 && io.error == IO_YIELDED);
	disconnect();

	/* A kernel that cannot say holds nobody up. */
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
	last_words_do_not_reopen_the_input();
	what_was_taken_needs_no_wait();
	what_nobody_takes_stalls();
	a_slow_client_is_waited_for();
	a_dead_client_acknowledges_nothing();
	a_wait_sends_first_and_yields();
	wishes_are_granted_when_idle();
	lines_end_in_lf_or_crlf();
	long_lines_are_eaten_whole();
	a_line_may_come_in_single_bytes();
	exact_reads_leave_the_rest();
	a_trickle_does_not_extend_the_deadline();
	a_flood_does_not_extend_the_deadline();
	a_peer_that_takes_nothing_stalls();
	output_waits_until_input_is_needed();
	the_end_is_seen();
	return 0;
}
