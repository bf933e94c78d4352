/* Unit tests of io.c over socket pairs: lines, limits, deadlines, the first error stays. Runs as anybody. */
#include "config.h"

#include <sys/socket.h>
#include <sys/wait.h>

#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

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
	io_init(&io, fds[0], io_now() + milliseconds);
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
	int64_t begin = io_now();
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
	CHECK(io_now() - begin >= 1200 && io_now() - begin < 10000);
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
	SAY("123456789012345\n");  /* 16 octets with its end: fits */
	SAY("1234567890123456\n"); /* 17: does not */
	say(endless, sizeof(endless));
	SAY("\nafter\n");
	CHECK(io_line(&io, line, sizeof(line)) == 15);
	CHECK(io_line(&io, line, sizeof(line)) == IO_LINE_LONG);
	CHECK(io_line(&io, line, sizeof(line)) == IO_LINE_LONG);
	CHECK(io_line(&io, line, sizeof(line)) == 5 && strcmp(line, "after") == 0);
	disconnect();
}

static void
a_line_may_come_in_single_octets(void)
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
	int64_t begin = io_now();
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
	CHECK(io_now() - begin >= 290 && io_now() - begin < 2000);
	/* The first error stays, whatever comes. */
	CHECK(io_line(&io, line, sizeof(line)) == IO_LINE_ERROR);
	CHECK(io_flush(&io) == -1 && io.error == IO_TIMEOUT);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	disconnect();

	connect_pair(0);
	io_limits(&io, 300, 300);
	begin = io_now();
	CHECK(io_line(&io, line, sizeof(line)) == IO_LINE_ERROR);
	CHECK(io.error == IO_TIMEOUT && io_now() - begin >= 290);
	disconnect();
}

/* Octets that never stop leave poll nothing to wait for; the deadline holds all the same. */
static void
a_flood_does_not_extend_the_deadline(void)
{
	char line[200];
	int64_t begin = io_now();

	connect_pair(300);
	flooding = true;
	alarm(10);
	CHECK(io_line(&io, line, sizeof(line)) == IO_LINE_ERROR);
	alarm(0);
	flooding = false;
	CHECK(io.error == IO_TIMEOUT);
	CHECK(io_now() - begin >= 290 && io_now() - begin < 2000);
	disconnect();
}

static void
a_peer_that_takes_nothing_stalls(void)
{
	static char much[IO_OUT];
	int64_t begin;

	connect_pair(0);
	io_limits(&io, 60000, 300);
	begin = io_now();
	for (int i = 0; i < 100 && io.error == IO_OK; i++)
		io_write(&io, much, sizeof(much));
	CHECK(io.error == IO_STALLED);
	CHECK(io_now() - begin >= 290 && io_now() - begin < 5000);
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

int
main(void)
{
	signal(SIGPIPE, SIG_IGN);
	wishes_are_granted_when_idle();
	lines_end_in_lf_or_crlf();
	long_lines_are_eaten_whole();
	a_line_may_come_in_single_octets();
	exact_reads_leave_the_rest();
	a_trickle_does_not_extend_the_deadline();
	a_flood_does_not_extend_the_deadline();
	a_peer_that_takes_nothing_stalls();
	output_waits_until_input_is_needed();
	the_end_is_seen();
	return 0;
}
