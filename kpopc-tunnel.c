/*
 * The client's tunnel: standard input to the connection, the connection to
 * standard output.
 *
 * Runs as the caller. The bytes pass as they are, and the tunnel reads along for
 * the exit status: a program on standard output may not pass on what the server
 * refuses it, or that the answers ended too early.
 */
#include "config.h"

#include <sys/socket.h>

#include <err.h>
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "kpopc.h"

#define QUIT_SECONDS 10

/* The beginnings of the lines of one direction. */
struct lines {
	void (*heard)(const char *line);
	size_t n;
	char text[TEXT_MAX];
};

/* What the tunnel has seen of the login. Each line of the program's has one answer that begins with "+" or "-ERR". */
static struct {
	bool done;              /* a command that ends what is watched was answered with "+OK" */
	uint64_t waiting;       /* lines without an answer; the greeting is the answer to the connection */
	uint64_t ends;          /* of the first 64 of them a bit each, the first one's is 1: such a command */
	const char *name;       /* the last such command's name */
	bool is_refused;        /* the last answer was "-ERR" */
	char refusal[TEXT_MAX]; /* the first of the last "-ERR" in a row, which is why the others came; "": none */
} login;

/* What it has seen of the session. */
static struct {
	bool quits;   /* QUIT was the last line of the program's */
	bool in_list; /* a message or list has begun, and its "." has not come */
} session;

/* Returns true if the first word of a command is this one. Servers ignore blanks before it. */
static bool
is_command(const char *line, const char *word)
{
	const size_t n = strlen(word);

	line += strspn(line, " \t");
	return strncasecmp(line, word, n) == 0 && strcspn(line, " \t") == n;
}

static void
hear_command(const char *line)
{
	/* After STLS the program's TLS hides the login. */
	static const char *const ends[] = { "PASS", "APOP", "STLS" };

	session.quits = is_command(line, "QUIT");
	for (size_t i = 0; login.waiting < 64 && i < sizeof(ends) / sizeof(ends[0]); i++)
		if (is_command(line, ends[i])) {
			login.ends |= UINT64_C(1) << login.waiting;
			login.name = ends[i];
		}
	login.waiting++;
}

/* Counts one answer. */
static void
note_answer(void)
{
	login.waiting -= login.waiting > 0 ? 1 : 0;
	login.ends >>= 1;
}

/*
 * Looks at a line of the session. A message's own lines may look like answers,
 * but its first line is a header's, and a list's is none either.
 */
static void
hear_session(const char *line)
{
	if (!session.in_list && (line_is_good(line) || line_is_refusal(line)))
		note_answer();
	else
		session.in_list = strcmp(line, ".") != 0;
}

static void
hear_answer(const char *line)
{
	bool is_end = (login.ends & 1) != 0;

	if (login.done) {
		hear_session(line);
		return;
	}
	/* Lines of an answer, such as a capability, begin in another way. */
	if (*line != '+' && !line_is_refusal(line))
		return;
	note_answer();
	if (line_is_refusal(line) && !login.is_refused)
		strlcpy(login.refusal, line, sizeof(login.refusal));
	login.is_refused = line_is_refusal(line);
	login.done = is_end && line_is_good(line);
}

static struct lines commands = { .heard = hear_command }, answers = { .heard = hear_answer };

static void
end_line(struct lines *l)
{
	if (l->n > 0 && l->text[l->n - 1] == '\r')
		l->n--;
	l->text[l->n] = '\0';
	l->n = 0;
	l->heard(l->text);
}

/* Reads along: n bytes more. */
static void
watch(struct lines *l, const char *data, size_t n)
{
	while (n > 0) {
		const char *lf = memchr(data, '\n', n);
		size_t some = lf != NULL ? (size_t)(lf - data) : n, room = sizeof(l->text) - 1 - l->n;

		memcpy(l->text + l->n, data, some < room ? some : room);
		l->n += some < room ? some : room;
		if (lf == NULL)
			return;
		end_line(l);
		n -= some + 1;
		data = lf + 1;
	}
}

const char *
tunnel_unanswered(int *status)
{
	const bool is_hidden = login.done && login.name != NULL && strcmp(login.name, "STLS") == 0;
	const bool is_missing = login.done ? login.waiting > 0 || session.in_list : login.ends != 0;

	if (is_hidden || !is_missing)
		return NULL;
	*status = login.done ? EXIT_BROKEN : EXIT_REFUSED;
	if (!login.done)
		return login.name;
	return session.quits ? "QUIT" : "the last command";
}

/* Prints the server's refusal, if the login came to nothing by one. Returns true if it did. */
static bool
say_refusal(void)
{
	/* The last line may lack its end. */
	if (answers.n > 0)
		end_line(&answers);
	if (login.done || login.refusal[0] == '\0')
		return false;
	warnx("the server says: %s", printable(login.refusal, sizeof(login.refusal)));
	return true;
}

/* Bytes on their way in one direction. */
struct way {
	int from, to;
	size_t at, end;
	bool open; /* more may come */
	struct lines *lines; /* who reads along */
	char data[65536];
};

/* Whether poll found the way's descriptor ready, or an error that the next call will tell. */
static bool
ready(const struct pollfd *p)
{
	return (p->revents & (POLLIN | POLLOUT | POLLHUP | POLLERR | POLLNVAL)) != 0;
}

static void
wait_for(struct pollfd *p, const struct way *w)
{
	if (w->at < w->end)
		*p = (struct pollfd){ .fd = w->to, .events = POLLOUT };
	else
		*p = (struct pollfd){ .fd = w->open ? w->from : -1, .events = POLLIN };
}

/*
 * Reads when the buffer is empty, else writes. Returns 0, or -1 with errno.
 *
 * Never more than PIPE_BUF bytes at once: so many a pipe takes without blocking
 * once poll has said so. A client may write all its commands before it reads,
 * and waits for ever if we wait for it in write.
 */
static int
move(struct way *w)
{
	size_t left = w->end - w->at;
	ssize_t n;

	if (left > 0) {
		n = write(w->to, w->data + w->at, left < PIPE_BUF ? left : PIPE_BUF);
		if (n > 0)
			w->at += (size_t)n;
		return n == -1 && errno != EINTR && errno != EAGAIN ? -1 : 0;
	}
	n = read(w->from, w->data, sizeof(w->data));
	if (n == -1)
		return errno == EINTR || errno == EAGAIN ? 0 : -1;
	w->open = n > 0;
	w->at = 0;
	w->end = (size_t)n;
	watch(w->lines, w->data, w->end);
	return 0;
}

/* Says which end of the way failed: while there is something to write, the one written to. */
_Noreturn static void
break_off(const struct way *w)
{
	int fd = w->at < w->end ? w->to : w->from, error = errno;

	if (fd != STDIN_FILENO && fd != STDOUT_FILENO && say_refusal())
		exit(EXIT_REFUSED);
	errno = error;
	err(EXIT_BROKEN, "%s", fd == STDIN_FILENO ? "standard input" :
	    fd == STDOUT_FILENO ? "standard output" : "the connection broke");
}

/*
 * The server takes no more. What it has already said is still read, and its
 * end then looks orderly, so this keeps why: EPIPE alone means that it had
 * closed. Returns 0 for that, else errno.
 */
static int
give_up_sending(struct way *up)
{
	int why = errno;

	if (up->at == up->end)
		break_off(up);
	up->open = false;
	up->at = up->end = 0;
	return why == EPIPE ? 0 : why;
}

/* Returns true if QUIT was the program's last line and all of its lines have their whole answers. */
static bool
is_over(void)
{
	return session.quits && login.waiting == 0 && !session.in_list;
}

/*
 * Waits for either way to go on. Tells the server that standard input has ended
 * unless *is_told: at once, or after QUIT if the server is silent for
 * QUIT_SECONDS. A server ends by itself after QUIT, and the end of the client's
 * TLS would be the end of the whole connection for some (RFC 5246 section
 * 7.2.1), with the answers that are still to come. Ends the process if a server
 * that was told, and has answered QUIT, is silent for so long once more; unless
 * is_full, because then standard output is what is waited for. Returns what
 * poll returns.
 */
static int
await(int fd, struct pollfd p[2], bool has_ended, bool is_full, bool *is_told)
{
	const bool tells = has_ended && !*is_told, ends = *is_told && !is_full && is_over();
	int n = tells && !session.quits ? 0 : poll(p, 2, tells || ends ? QUIT_SECONDS * 1000 : -1);

	if (n == 0 && ends)
		exit(say_refusal() ? EXIT_REFUSED : EXIT_DONE);
	if (n != 0 || !tells)
		return n;
	shutdown(fd, SHUT_WR);
	*is_told = true;
	return poll(p, 2, 0);
}

int
tunnel(int fd, bool has_greeted, bool is_in)
{
	static struct way up, down;
	struct pollfd p[2];
	bool is_told = false;
	int lost = 0;

	login.done = is_in;
	login.waiting = has_greeted ? 0 : 1;
	up = (struct way){ .from = STDIN_FILENO, .to = fd, .open = true, .lines = &commands };
	down = (struct way){ .from = fd, .to = STDOUT_FILENO, .open = true, .lines = &answers };
	while (down.open || down.at < down.end) {
		wait_for(&p[0], &up);
		wait_for(&p[1], &down);
		if (await(fd, p, !up.open && up.at == up.end, down.at < down.end, &is_told) == -1) {
			if (errno == EINTR)
				continue;
			err(EXIT_BROKEN, "poll");
		}
		if (ready(&p[1]) && move(&down) == -1)
			break_off(&down);
		if (ready(&p[0]) && move(&up) == -1)
			lost = give_up_sending(&up);
	}
	if (say_refusal())
		return EXIT_REFUSED;
	if (lost != 0) {
		errno = lost;
		err(EXIT_BROKEN, "the connection broke");
	}
	return EXIT_DONE;
}
