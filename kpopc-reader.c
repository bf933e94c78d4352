/*
 * Reads the answers of a POP3 server after the login, many bytes at a time.
 *
 * Runs as the caller. The server is not trusted: lines of answers and lists are
 * bounded, and messages are passed on in pieces.
 */
#include "config.h"

#include <err.h>
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "kpopc-map.h"
#include "kpopc.h"

#define ANSWER_MOST 1000 /* bytes of a line of an answer or a list */

void
reader_give_up(const struct reader *r, const char *problem)
{
	errx(EXIT_BROKEN, "%s: %s", r->command, problem);
}

/*
 * Waits until the server has sent something or has closed the connection. Ends
 * the process if it is silent for too long.
 */
static void
await_server(const struct reader *r)
{
	struct pollfd p = { .fd = r->fd, .events = POLLIN };
	int n = poll(&p, 1, (int)(r->silence * 1000));

	if (n == 0)
		errx(EXIT_BROKEN, "%s: the server sent nothing for %ld s",
		    r->command, r->silence);
	if (n == -1 && errno != EINTR)
		err(EXIT_BROKEN, "poll");
}

/* Reads more bytes behind those that are not taken yet. */
static void
receive_more(struct reader *r)
{
	ssize_t n;

	memmove(r->data, r->data + r->at, r->end - r->at);
	r->end -= r->at;
	r->at = 0;
	do {
		await_server(r);
		n = read(r->fd, r->data + r->end, sizeof(r->data) - r->end);
	} while (n == -1 && (errno == EINTR || errno == EAGAIN));
	if (n == -1)
		err(EXIT_BROKEN, "%s: the connection broke", r->command);
	if (n == 0)
		reader_give_up(r,
		    "the server closed the connection before the answer ended");
	r->end += (size_t)n;
}

/*
 * Takes the next line. Returns it without its end and with a NUL, valid until
 * the next call.
 */
static const char *
take_answer_line(struct reader *r)
{
	char *line, *lf;
	size_t n;

	while ((lf = memchr(r->data + r->at, '\n', r->end - r->at)) == NULL &&
	    r->end - r->at <= ANSWER_MOST)
		receive_more(r);
	line = r->data + r->at;
	if (lf == NULL || lf - line > ANSWER_MOST)
		reader_give_up(r, "a line of the answer is too long");
	n = (size_t)(lf - line);
	r->at += n + 1;
	n -= n > 0 && line[n - 1] == '\r';
	line[n] = '\0';
	if (strlen(line) != n)
		reader_give_up(r, "the answer contains a NUL");
	return line;
}

bool
reader_takes(struct reader *r)
{
	const char *line = take_answer_line(r);

	if (!answer_is_good(line) && !answer_is_refusal(line))
		errx(EXIT_BROKEN, "%s: this is no answer of POP3: %s",
		    r->command, answer_printable(line, TEXT_MAX));
	return answer_is_good(line);
}

void
reader_expect(struct reader *r)
{
	const char *line = take_answer_line(r);

	if (!answer_is_good(line))
		errx(EXIT_BROKEN, "%s: the server answered: %s", r->command,
		    answer_printable(line, TEXT_MAX));
}

const char *
reader_next(struct reader *r)
{
	const char *line = take_answer_line(r);

	return strcmp(line, ".") != 0 ? line : NULL;
}

/*
 * Returns true if the next line of a message is the dot that ends it, and takes
 * that line. Otherwise takes the dot of the stuffing, if there is one.
 */
static bool
take_dot(struct reader *r)
{
	size_t n;

	while (r->at == r->end)
		receive_more(r);
	if (r->data[r->at] != '.')
		return false;
	while ((n = r->end - r->at) < 2 ||
	    (n == 2 && r->data[r->at + 1] == '\r'))
		receive_more(r);
	if (r->data[r->at + 1] == '\n')
		r->at += 2;
	else if (memcmp(r->data + r->at + 1, "\r\n", 2) == 0)
		r->at += 3;
	else {
		r->at++;
		return false;
	}
	return true;
}

void
reader_message(struct reader *r, struct uidl_hash *h, uint64_t header_most)
{
	uint64_t header = 0;
	bool begins = true;

	while (!begins || !take_dot(r)) {
		const char *p, *lf;
		size_t n;

		while (r->at == r->end)
			receive_more(r);
		p = r->data + r->at;
		n = r->end - r->at;
		if ((lf = memchr(p, '\n', n)) != NULL)
			n = (size_t)(lf + 1 - p);
		if (!uidl_hash_has_header(h) && (header += n) > header_most)
			reader_give_up(r, "the header is too long");
		uidl_hash_add(h, p, n);
		begins = lf != NULL;
		r->at += n;
	}
}
