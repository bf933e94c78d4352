/*
 * Reads and writes the lines of the server, and the lines of the program that
 * uses kpopc through kpopc's standard input and output.
 *
 * Runs as the caller. The server is not trusted: its lines are bounded, and the
 * exchange before the session has a time limit.
 */
#include "config.h"

#include <sys/socket.h>
#include <sys/wait.h>

#include <err.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "kpopc.h"
#include "process.h"

static void
too_slow(int signal_number)
{
	static const char text[] =
	    "kpopc: the server did not finish the exchange in time\n";

	(void)signal_number;
	if (write(STDERR_FILENO, text, sizeof(text) - 1) == -1)
		_exit(EXIT_REFUSED);
	_exit(EXIT_REFUSED);
}

void
conn_limit_time(long seconds)
{
	sigset_t alarms;

	/*
	 * Unblock SIGALRM, because the program that started kpopc may have
	 * blocked it.
	 */
	sigemptyset(&alarms);
	sigaddset(&alarms, SIGALRM);
	signal(SIGALRM, too_slow);
	sigprocmask(SIG_UNBLOCK, &alarms, NULL);
	alarm((unsigned)seconds);
}

void
conn_unlimit_time(void)
{
	alarm(0);
}

/*
 * Returns true if the last call on fd can be tried again. If the call failed
 * with EAGAIN, waits until fd is ready: another process that shares fd may have
 * made it non-blocking.
 */
static bool
wait_to_retry(int fd, short events)
{
	struct pollfd p = { .fd = fd, .events = events };

	if (errno != EAGAIN)
		return errno == EINTR;
	poll(&p, 1, -1);
	return true;
}

/*
 * Reads one line into text[LINE_MOST] without its end. Reads byte by byte,
 * because the bytes after the line may be for another process. An error message
 * describes the line by `name`. Returns false if fd ends before the line does;
 * text then contains the part of the line that has come.
 */
static bool
read_line(int fd, char *text, const char *name)
{
	size_t n = 0;

	for (;;) {
		ssize_t got = read(fd, text + n, 1);

		if (got == -1 && wait_to_retry(fd, POLLIN))
			continue;
		if (got <= 0) {
			text[n] = '\0';
			return false;
		}
		if (text[n] == '\n')
			break;
		if (++n == LINE_MOST - 1)
			errx(EXIT_REFUSED, "%s is too long", name);
	}
	text[n] = '\0';
	if (n > 0 && text[n - 1] == '\r')
		text[n - 1] = '\0';
	return true;
}

/* Writes n bytes to fd. Returns 0, or -1 with errno. */
static int
write_all(int fd, const void *data, size_t n)
{
	const char *p = data;

	while (n > 0) {
		ssize_t put = write(fd, p, n);

		if (put == -1 && !wait_to_retry(fd, POLLOUT))
			return -1;
		if (put > 0) {
			p += put;
			n -= (size_t)put;
		}
	}
	return 0;
}

/*
 * Makes the kernel send each write at once. Otherwise it would keep a short one
 * until the other side acknowledges an earlier one, which takes 40 ms. A
 * failure is ignored, because everything else still works.
 */
void
conn_send_at_once(int fd)
{
	const int on = 1;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

void
conn_write(int fd, const void *data, size_t n)
{
	if (write_all(fd, data, n) == -1)
		err(EXIT_BROKEN, "the connection broke");
}

void
conn_answer_program(const char *text)
{
	progress->has_answered = true;
	if (write_all(STDOUT_FILENO, text, strlen(text)) == -1 ||
	    write_all(STDOUT_FILENO, "\r\n", 2) == -1)
		err(EXIT_BROKEN, "standard output");
}

bool
conn_read_program(char *text)
{
	return read_line(STDIN_FILENO, text, "a line on standard input");
}

const char *
conn_read_answer(const struct conn *c)
{
	static char text[LINE_MOST];

	/*
	 * A line without an end is not accepted as an answer, unless it is a
	 * refusal.
	 */
	if (!read_line(c->fd, text, "a line of the server") &&
	    !answer_is_refusal(text))
		errx(EXIT_REFUSED, "the server closed the connection");
	return text;
}

const char *
conn_ask(const struct conn *c, const char *text)
{
	/*
	 * If the write fails, conn_read_answer reads the reason or reports the
	 * end of the connection.
	 */
	if (write_all(c->fd, text, strlen(text)) == 0)
		write_all(c->fd, "\r\n", 2);
	return conn_read_answer(c);
}

const char *
conn_read_refusal(int fd)
{
	static const char head[] = "-ERR";
	static char text[TEXT_MAX] = "-";
	size_t n = 1;

	/* Shut down, because otherwise the server might wait for more input. */
	shutdown(fd, SHUT_WR);
	while (n < sizeof(text) - 1 && read(fd, &text[n], 1) == 1 &&
	    text[n] != '\n') {
		if (n == 1 && text[n] == '-')
			continue;
		if (n < sizeof(head) - 1 && text[n] != head[n])
			return NULL;
		n++;
	}
	text[n] = '\0';
	text[strcspn(text, "\r")] = '\0';
	return answer_is_refusal(text) ? text : NULL;
}

void
conn_add_layer(struct conn *c, const void *argument,
    void (*work)(const void *argument, int fd, int cleartext))
{
	int cleartext[2];
	pid_t pid, parent = getpid();

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, cleartext) == -1)
		err(EXIT_REFUSED, "socketpair");
	if ((pid = fork()) == -1)
		err(EXIT_REFUSED, "fork");
	if (pid == 0) {
		/*
		 * End this process when kpopc ends. Otherwise it would run as
		 * long as the server keeps the connection open.
		 */
		if (!process_follow(parent))
			_exit(EXIT_REFUSED);
		close(cleartext[0]);
		work(argument, c->fd, cleartext[1]);
		_exit(EXIT_BROKEN);
	}
	close(cleartext[1]);
	close(c->fd);
	c->fd = cleartext[0];
	c->layers[c->count++] = pid;
}

int
conn_end(struct conn *c, int status)
{
	close(c->fd);
	for (int i = 0; i < c->count; i++) {
		int how;

		if (process_wait(c->layers[i], &how, 0) == -1)
			return EXIT_BROKEN;
		if (how != 0 && status == EXIT_DONE)
			status = EXIT_BROKEN;
	}
	return status;
}
