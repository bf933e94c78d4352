/*
 * Makes the list of another server's ids, which kpopd --import-uidl reads:
 * reads the ids and the headers of all messages.
 *
 * Runs as the caller. The server is not trusted. Nothing that it sends reaches
 * standard output but ids that have the form of RFC 1939. The list is written
 * only when everything was read, and ends with a line that shows that it is
 * whole.
 *
 * Messages are read by TOP only, because RETR makes servers mark a message as
 * seen. A whole message is needed only if its header does not identify it.
 */
#include "config.h"

#include <err.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "kpopc-map.h"
#include "kpopc.h"

/* bytes of a header; mail transfer agents permit much less */
#define HEADER_MOST ((uint64_t)64 << 20)
/* lines of a body that TOP asks for; servers may read it as an int */
#define ALL_LINES 1000000000
#define CAPABILITIES 100 /* most lines of an answer to CAPA */
/*
 * The commands whose answers have not come yet have less than PIPE_BUF bytes.
 * So a write cannot block forever because the server writes first.
 */
#define WINDOW 100

static FILE *output;

void
map_begin(void)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC),
	    fd = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);

	if (null == -1 || fd == -1 || (output = fdopen(fd, "w")) == NULL ||
	    dup2(null, STDOUT_FILENO) == -1)
		err(EXIT_REFUSED, "standard output");
	close(null);
}

/* Sends a command that the next answer belongs to. */
static void
send_command(struct reader *r, const char *command)
{
	strlcpy(r->command, command, sizeof(r->command));
	conn_write(r->fd, command, strlen(command));
	conn_write(r->fd, "\r\n", 2);
}

/*
 * Returns how many commands may be sent before their answers have come, by the
 * answer to CAPA (RFC 2449). An old server may not have this command.
 */
static size_t
ask_window(struct reader *r)
{
	const char *line;
	size_t window = 1;
	int lines = 0;

	send_command(r, "CAPA");
	if (!reader_takes(r))
		return window;
	while ((line = reader_next(r)) != NULL) {
		if (++lines > CAPABILITIES)
			reader_give_up(r, "the capabilities do not end");
		if (strcasecmp(line, "PIPELINING") == 0)
			window = WINDOW;
	}
	return window;
}

/*
 * Reads the ids of all messages. RFC 1939 §7 permits a server to give equal
 * messages one id, and some servers do so for equal headers. The list then has
 * these lines, too. An import gives the id to only one of the messages.
 */
static void
read_ids(struct reader *r, struct ids *ids)
{
	const char *line, *problem;
	size_t first, second, repeated;

	send_command(r, "UIDL");
	reader_expect(r);
	while ((line = reader_next(r)) != NULL)
		if ((problem = ids_add(ids, line)) != NULL)
			errx(EXIT_BROKEN, "UIDL: %s: %s", problem,
			    answer_printable(line, TEXT_MAX));
	if ((repeated = ids_count_repeated(ids, &first, &second)) > 0)
		warnx("UIDL: %zu of %zu messages have the id of an earlier one,"
		      " for example message %zu that of %zu",
		    repeated, ids->count, second, first);
}

/* The commands TOP that are sent, and their answers. */
struct tops {
	struct reader *r;
	struct ids *ids;
	size_t window;
	bool is_whole; /* read whole messages, those with needs_whole */
	size_t sent;   /* the next message that TOP is sent for */
};

/* Returns the first of the messages from i on that must be read, or count. */
static size_t
next_wanted(const struct tops *t, size_t i)
{
	while (t->is_whole && i < t->ids->count && !t->ids->all[i].needs_whole)
		i++;
	return i;
}

/* Sends at most n commands in one piece. Returns how many. */
static size_t
send_tops(struct tops *t, size_t n)
{
	char text[WINDOW * sizeof("TOP 1000000 1000000000\r\n")];
	size_t at = 0, sent = 0;

	for (; sent < n && t->sent < t->ids->count; sent++) {
		at += (size_t)snprintf(text + at, sizeof(text) - at,
		    "TOP %zu %d\r\n", t->sent + 1, t->is_whole ? ALL_LINES : 0);
		t->sent = next_wanted(t, t->sent + 1);
	}
	conn_write(t->r->fd, text, at);
	return sent;
}

/* Reads the answer to TOP for message i. */
static void
read_top(const struct tops *t, size_t i)
{
	static struct uidl_hash h;
	struct id *id = &t->ids->all[i];

	snprintf(t->r->command, sizeof(t->r->command), "TOP %zu", i + 1);
	reader_expect(t->r);
	uidl_hash_begin(&h);
	reader_message(t->r, &h, HEADER_MOST);
	uidl_hash_end(&h);
	if (!t->is_whole)
		ids_put_header(id, &h);
	else if (!ids_put_body(id, &h))
		reader_give_up(t->r, "the header has changed");
}

/* Reads the headers of all messages, or the whole messages that are needed. */
static void
read_tops(struct tops *t)
{
	size_t waiting = 0, i = next_wanted(t, 0);

	t->sent = i;
	while (i < t->ids->count) {
		/* Refill the half, so that writes are few. */
		if (waiting <= t->window / 2)
			waiting += send_tops(t, t->window - waiting);
		read_top(t, i);
		waiting--;
		i = next_wanted(t, i + 1);
	}
}

void
map_session(const struct conn *c, long silence)
{
	static struct reader r;
	struct ids ids = { .all = NULL };
	struct tops t = { .r = &r, .ids = &ids };

	r = (struct reader){ .fd = c->fd, .silence = silence };
	t.window = ask_window(&r);
	read_ids(&r, &ids);
	read_tops(&t);
	ids_mark_equal(&ids);
	t.is_whole = true;
	read_tops(&t);
	send_command(&r, "QUIT");
	/* Nothing was removed, so a refusal changes nothing. */
	reader_takes(&r);
	ids_write(&ids, output);
	ids_free(&ids);
	if (ferror(output) || fclose(output) != 0)
		err(EXIT_BROKEN, "standard output");
}
