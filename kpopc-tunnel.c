/*
 * The client's tunnel: standard input to the connection, the connection to
 * standard output.
 *
 * Runs as the caller. The bytes pass as they are. Until the login the tunnel
 * reads along: a program on standard output may not pass on what the server
 * refuses it, and the exit status would say that there was a session.
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
	bool done;                /* a command that ends what is watched was answered with "+OK" */
	uint64_t asked, answered; /* lines; the greeting is the answer to the connection */
	uint64_t last;            /* the number of such a command that waits for its answer; 0: none */
	const char *name;         /* its name */
	char refusal[TEXT_MAX];   /* the last "-ERR"; "": none */
} login;

/* QUIT was the last line of the program's. */
static bool quits;

static void
hear_command(const char *line)
{
	/* After STLS the program's TLS hides the login. */
	static const char *const ends[] = { "PASS", "APOP", "STLS" };

	quits = strcasecmp(line, "QUIT") == 0;
	login.asked++;
	for (size_t i = 0; login.last == 0 && i < sizeof(ends) / sizeof(ends[0]); i++)
		if (strncasecmp(line, ends[i], 4) == 0) {
			login.last = login.asked;
			login.name = ends[i];
		}
}

static void
hear_answer(const char *line)
{
	/* Lines of an answer, such as a capability, begin in another way. */
	if (*line != '+' && !line_is_refusal(line))
		return;
	login.answered++;
	if (line_is_refusal(line))
		strlcpy(login.refusal, line, sizeof(login.refusal));
	if (login.answered != login.last)
		return;
	login.last = 0;
	login.done = line_is_good(line);
}

/* The first byte of the server's last line in the session, with or without its end; NUL: none came. */
static char last_answer;

/* Looks at n bytes more of the server's, of which the lines before the last do not matter. */
static void
note_last(const char *data, size_t n)
{
	static bool begins = true;
	const char *lf = memrchr(data, '\n', n - 1);

	if (lf != NULL)
		last_answer = lf[1];
	else if (begins)
		last_answer = data[0];
	begins = data[n - 1] == '\n';
}

static struct lines commands = { .heard = hear_command }, answers = { .heard = hear_answer };

static void
end_line(struct lines *l)
{
	l->text[l->n] = '\0';
	l->text[strcspn(l->text, "\r")] = '\0';
	l->n = 0;
	l->heard(l->text);
}

/* Reads along: n bytes more. Of the answers of a session only the last one counts, because messages are in them. */
static void
watch(struct lines *l, const char *data, size_t n)
{
	size_t i;

	for (i = 0; i < n && !(login.done && l == &answers); i++)
		if (data[i] == '\n')
			end_line(l);
		else if (l->n < sizeof(l->text) - 1)
			l->text[l->n++] = data[i];
	if (i < n)
		note_last(data + i, n - i);
}

const char *
tunnel_unanswered(void)
{
	if (!login.done && login.last != 0)
		return login.name;
	/* The answer to QUIT is the last line, and no list or message ends like this. */
	return login.done && quits && last_answer != '+' && last_answer != '-' ? "QUIT" : NULL;
}

/* Prints the server's refusal, if the login came to nothing by one. Returns true if it did. */
static bool
say_refusal(void)
{
	/* The last line may lack its end. */
	if (!login.done && answers.n > 0)
		end_line(&answers);
	if (login.done || login.refusal[0] == '\0')
		return false;
	warnx("the server says: %s", printable(login.refusal, sizeof(login.refusal)));
	return true;
}

/* Octets on their way in one direction. */
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
 * Never more than PIPE_BUF octets at once: so many a pipe takes without blocking
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

/*
 * Waits for either way to go on. Tells the server that standard input has ended
 * unless *is_told: at once, or after QUIT if the server is silent for
 * QUIT_SECONDS. A server ends by itself after QUIT, and the end of the client's
 * TLS would be the end of the whole connection for some (RFC 5246 section
 * 7.2.1), with the answers that are still to come. Returns what poll returns.
 */
static int
await(int fd, struct pollfd p[2], bool has_ended, bool *is_told)
{
	const bool tells = has_ended && !*is_told;
	int n = tells && !quits ? 0 : poll(p, 2, tells ? QUIT_SECONDS * 1000 : -1);

	if (n != 0 || !tells)
		return n;
	shutdown(fd, SHUT_WR);
	*is_told = true;
	return poll(p, 2, -1);
}

int
tunnel(int fd, bool has_greeted, bool is_in)
{
	static struct way up, down;
	struct pollfd p[2];
	bool is_told = false;
	int lost = 0;

	login.done = is_in;
	login.asked = has_greeted ? 0 : 1;
	up = (struct way){ .from = STDIN_FILENO, .to = fd, .open = true, .lines = &commands };
	down = (struct way){ .from = fd, .to = STDOUT_FILENO, .open = true, .lines = &answers };
	while (down.open || down.at < down.end) {
		wait_for(&p[0], &up);
		wait_for(&p[1], &down);
		if (await(fd, p, !up.open && up.at == up.end, &is_told) == -1) {
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
