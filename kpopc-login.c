/*
 * The client's lines: POP3 up to the login, and what USER and PASS become.
 *
 * Runs as the caller. What the server says before it is proven, by its
 * certificate or its ticket, may be anybody's. None of it reaches the program on
 * standard output: that program is answered in kpopc's own words, but for the
 * answer to AUTH, which is encoded as by vis(3).
 */
#include "config.h"

#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <err.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "kpopc.h"

#define CAPABILITIES 100 /* lines of an answer to CAPA, at most */

/* Returns true if the last call can be tried again: at once, or once fd is ready, because whoever shares it may have made it non-blocking. */
static bool
may_retry(int fd, short events)
{
	struct pollfd p = { .fd = fd, .events = events };

	if (errno != EAGAIN)
		return errno == EINTR;
	poll(&p, 1, -1);
	return true;
}

/*
 * Reads one line into text[LINE_MOST] without its end, byte by byte, because
 * what follows it is not for us. whose names it in an error. Returns false at
 * the end of fd; text then has what came of a line without an end.
 */
static bool
read_line(int fd, char *text, const char *whose)
{
	size_t n = 0;

	for (;;) {
		ssize_t got = read(fd, text + n, 1);

		if (got == -1 && may_retry(fd, POLLIN))
			continue;
		if (got <= 0) {
			text[n] = '\0';
			return false;
		}
		if (text[n] == '\n')
			break;
		if (++n == LINE_MOST - 1)
			errx(EXIT_REFUSED, "%s is too long", whose);
	}
	text[n] = '\0';
	if (n > 0 && text[n - 1] == '\r')
		text[n - 1] = '\0';
	return true;
}

/* Writes n bytes. Returns 0, or -1 with errno. */
static int
write_all(int fd, const void *data, size_t n)
{
	const char *p = data;

	while (n > 0) {
		ssize_t put = write(fd, p, n);

		if (put == -1 && !may_retry(fd, POLLOUT))
			return -1;
		if (put > 0) {
			p += put;
			n -= (size_t)put;
		}
	}
	return 0;
}

void
line_write(int fd, const void *data, size_t n)
{
	if (write_all(fd, data, n) == -1)
		err(EXIT_BROKEN, "the connection broke");
}

void
line_tell(const char *text)
{
	if (write_all(STDOUT_FILENO, text, strlen(text)) == -1 || write_all(STDOUT_FILENO, "\r\n", 2) == -1)
		err(EXIT_BROKEN, "standard output");
}

const char *
line_hear(const struct line *l)
{
	static char text[LINE_MOST];

	/* Half a line is no answer, but half a refusal is one. */
	if (!read_line(l->fd, text, "a line of the server's") && !line_is_refusal(text))
		errx(EXIT_REFUSED, "the server closed the connection");
	return text;
}

const char *
line_ask(const struct line *l, const char *text)
{
	/* A server that has closed may have said why. line_hear finds out. */
	if (write_all(l->fd, text, strlen(text)) == 0)
		write_all(l->fd, "\r\n", 2);
	return line_hear(l);
}

bool
line_is_good(const char *answer)
{
	return strncmp(answer, "+OK", 3) == 0;
}

bool
line_is_refusal(const char *answer)
{
	return strncmp(answer, "-ERR", 4) == 0;
}

void
line_give_up(const char *answer)
{
	errx(EXIT_REFUSED, "the server says: %s", printable(answer, TEXT_MAX));
}

const char *
line_hear_refusal(int fd)
{
	static const char head[] = "-ERR";
	static char text[TEXT_MAX] = "-";
	size_t n = 1;

	/* It may wait for us. */
	shutdown(fd, SHUT_WR);
	while (n < sizeof(text) - 1 && read(fd, &text[n], 1) == 1 && text[n] != '\n') {
		if (n == 1 && text[n] == '-')
			continue;
		if (n < sizeof(head) - 1 && text[n] != head[n])
			return NULL;
		n++;
	}
	text[n] = '\0';
	text[strcspn(text, "\r")] = '\0';
	return line_is_refusal(text) ? text : NULL;
}

void
line_put_between(struct line *l, const void *what, void (*work)(const void *what, int fd, int plain))
{
	int plain[2];
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, plain) == -1)
		err(EXIT_REFUSED, "socketpair");
	if ((pid = fork()) == -1)
		err(EXIT_REFUSED, "fork");
	if (pid == 0) {
		/* The server may keep the connection open; without kpopc it leads nowhere. */
		if (prctl(PR_SET_PDEATHSIG, SIGKILL) == -1)
			err(EXIT_REFUSED, "prctl");
		close(plain[0]);
		work(what, l->fd, plain[1]);
		_exit(EXIT_BROKEN);
	}
	close(plain[1]);
	close(l->fd);
	l->fd = plain[0];
	l->helpers[l->count++] = pid;
}

void
line_greet(struct line *l, const struct options *o)
{
	const char *answer = line_hear(l);

	if (!line_is_good(answer))
		line_give_up(answer);
	if (o->tls)
		line_begin_tls(l, o);
	line_tell("+OK USER and PASS come next");
}

/* Returns the capability that a line of the server's names, in our own words, or NULL if it is of no use before the login. */
static const char *
known_capability(const char *line)
{
	static const char *const known[] = { "TOP", "UIDL", "PIPELINING", "RESP-CODES", "AUTH-RESP-CODE" };

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (strcasecmp(line, known[i]) == 0)
			return known[i];
	return NULL;
}

/* Answers CAPA: USER, which becomes AUTH, and what the server can do of what kpopc knows. */
static void
answer_capa(const struct line *l)
{
	const char *answer, *capability;
	int lines = 0;

	line_tell("+OK capabilities follow");
	line_tell("USER");
	if (line_is_good(line_ask(l, "CAPA")))
		while (strcmp(answer = line_hear(l), ".") != 0) {
			if (++lines > CAPABILITIES)
				errx(EXIT_REFUSED, "the server's capabilities do not end");
			if ((capability = known_capability(answer)) != NULL)
				line_tell(capability);
		}
	line_tell(".");
}

/* Tells the server that the program leaves. */
static void
leave(const struct line *l)
{
	line_ask(l, "QUIT");
	line_tell("+OK bye");
}

bool
line_login(struct line *l, const struct options *o)
{
	static char text[LINE_MOST];
	char user[LINE_USER + 1] = "";

	while (read_line(STDIN_FILENO, text, "a line on standard input")) {
		char *rest = text, *verb = strsep(&rest, " ");

		/* The server's time, not the program's. */
		limit_time();
		if (strcasecmp(verb, "USER") == 0 && rest != NULL &&
		    strlcpy(user, rest, sizeof(user)) < sizeof(user))
			line_tell("+OK PASS comes next, with anything");
		else if (strcasecmp(verb, "PASS") == 0 && user[0] != '\0') {
			line_authenticate(l, o, user);
			alarm(0);
			return true;
		} else if (strcasecmp(verb, "CAPA") == 0)
			answer_capa(l);
		else if (strcasecmp(verb, "QUIT") == 0) {
			leave(l);
			break;
		} else
			line_tell("-ERR USER and PASS come first");
		alarm(0);
	}
	alarm(0);
	shutdown(l->fd, SHUT_WR);
	return false;
}

int
line_end(struct line *l, int status)
{
	close(l->fd);
	for (int i = 0; i < l->count; i++) {
		int how;

		while (waitpid(l->helpers[i], &how, 0) == -1)
			if (errno != EINTR)
				return EXIT_BROKEN;
		if (how != 0 && status == EXIT_DONE)
			status = EXIT_BROKEN;
	}
	return status;
}
