/*
 * Obeys POP3 clients in TRANSACTION and removes messages in UPDATE.
 *
 * Runs as the owner of the mailbox. The client is authenticated, but not
 * trusted: its numbers are checked before they select a message. Only QUIT
 * calls maildrop_commit, after the client has acknowledged all answers. So a
 * lost connection, a timeout or an error removes nothing.
 *
 * RFC 1939 §5 and §6.
 */
#include "config.h"

#include <inttypes.h>
#include <string.h>

#include "clock.h"
#include "log.h"
#include "pop3-trans.h"
#include "wire.h"

#define NUMBER 21 /* the digits of a uint64_t, and a NUL */
/*
 * send_lines flushes the output buffer if less than this many bytes are free.
 */
#define LINE_ROOM 4096

/* The session's counters, for the log. */
struct transaction {
	struct maildrop *drop;
	size_t retrieved, topped, removed; /* messages */
	uint64_t wire_size; /* of all parts of messages that were sent */
};

/*
 * Reads a number. text must not be empty. If text consists of digits, stores
 * the number in *n and returns true. Returns false for any other text, and for
 * numbers above UINT64_MAX.
 */
static bool
to_number(const char *text, uint64_t *n)
{
	*n = 0;
	for (; *text >= '0' && *text <= '9'; text++) {
		uint64_t digit = (uint64_t)(*text - '0');

		if (*n > (UINT64_MAX - digit) / 10)
			return false;
		*n = *n * 10 + digit;
	}
	return *text == '\0';
}

/*
 * Reads a message number. Returns the number if the message exists and is not
 * marked. If not, sends an answer with the reason and returns 0.
 */
static size_t
message_number(struct pop3 *p, const char *text)
{
	const struct maildrop *d = p->transaction->drop;
	uint64_t n;

	if (!to_number(text, &n) || n == 0) {
		pop3_err(p, "message numbers are 1, 2, 3 and so on");
		return 0;
	}
	if (n > d->count) {
		pop3_err(p, "no such message");
		return 0;
	}
	if (maildrop_marked(d, (size_t)n)) {
		pop3_err(p, "message is deleted");
		return 0;
	}
	return (size_t)n;
}

static enum pop3_verdict
stat_drop(struct pop3 *p, int count, char **args)
{
	const struct maildrop *d = p->transaction->drop;

	(void)count, (void)args;
	return pop3_ok(p, "%zu %" PRIu64, d->count - d->marked,
	    d->wire_size - d->marked_wire_size);
}

/*
 * Writes n in decimal at the end of text[NUMBER]. Returns a pointer to the
 * first digit. printf would take most of the time that LIST needs for a million
 * messages.
 */
static const char *
decimal(uint64_t n, char text[NUMBER])
{
	char *p = &text[NUMBER - 1];

	*p = '\0';
	do
		*--p = (char)('0' + n % 10);
	while ((n /= 10) != 0);
	return p;
}

/* Writes a line: the text `before`, n, a blank, and the text `about`. */
static void
put_line(struct pop3 *p, const char *before, size_t n, const char *about)
{
	char line[4 + NUMBER + 1 + NUMBER + UIDL_SIZE + 2], number[NUMBER];
	char *end = stpcpy(line, before);

	end = stpcpy(end, decimal(n, number));
	*end++ = ' ';
	end = stpcpy(stpcpy(end, about), "\r\n");
	io_write(p->io, line, (size_t)(end - line));
}

/* Writes one line about message n, for LIST or UIDL. */
typedef void line_about(struct pop3 *p, const char *before, size_t n);

static void
put_size(struct pop3 *p, const char *before, size_t n)
{
	char text[NUMBER];

	put_line(p, before, n,
	    decimal(maildrop_wire_size(p->transaction->drop, n), text));
}

static void
put_uidl(struct pop3 *p, const char *before, size_t n)
{
	char id[UIDL_SIZE];

	maildrop_uidl(p->transaction->drop, n, id);
	put_line(p, before, n, id);
}

/*
 * Answers LIST or UIDL, for one message or for all messages. The function is
 * inline, so that the compiler can replace the pointer `put` by a direct call.
 * That saves 3 % of the time, and a mailbox may have a million messages.
 */
static inline enum pop3_verdict
about_one_or_all(struct pop3 *p, int count, char **args, line_about *put)
{
	const struct maildrop *d = p->transaction->drop;
	size_t n;

	if (count > 1) {
		if ((n = message_number(p, args[1])) != 0)
			put(p, "+OK ", n);
		return POP3_GO_ON;
	}
	pop3_ok(p, "%zu messages", d->count - d->marked);
	for (n = 1; n <= d->count; n++)
		if (!maildrop_marked(d, n))
			put(p, "", n);
	return pop3_end_lines(p);
}

static enum pop3_verdict
list(struct pop3 *p, int count, char **args)
{
	return about_one_or_all(p, count, args, put_size);
}

/*
 * Answers UIDL. If the ids that the messages had on another server cannot be
 * read, refuses the command. Otherwise clients would fetch all messages again.
 */
static enum pop3_verdict
uidl(struct pop3 *p, int count, char **args)
{
	switch (maildrop_load_ids(p->transaction->drop)) {
	case DROP_OK:
		return about_one_or_all(p, count, args, put_uidl);
	case DROP_DENIED:
		return pop3_err(p, "[SYS/PERM] cannot read the unique ids");
	default:
		return pop3_err(p, "[SYS/TEMP] cannot read the unique ids");
	}
}

/*
 * Sends the header of a message and at most body_lines lines of its body. Sends
 * less if the message cannot be read or the connection ends. Returns the wire
 * size of what was sent.
 */
static uint64_t
send_lines(struct pop3 *p, struct span *span, uint64_t body_lines)
{
	static char stored[IO_OUT / 2];
	struct wire w;
	size_t room;
	ssize_t n;

	wire_init(&w, body_lines);
	while (!w.done && p->io->error == IO_OK &&
	    (n = maildrop_read(span, stored, sizeof(stored))) > 0) {
		const char *from = stored;

		for (size_t left = (size_t)n; left > 0 && !w.done;) {
			char *to = io_reserve(p->io, LINE_ROOM, &room);
			size_t some = room / 2 < left ? room / 2 : left;

			io_advance(p->io, wire_put(&w, from, some, to));
			from += some;
			left -= some;
		}
	}
	io_advance(p->io, wire_end(&w, io_reserve(p->io, 2, &room)));
	p->transaction->wire_size += w.wire_size;
	return w.wire_size;
}

/*
 * Sends a message that maildrop_begin has found, and returns the result of
 * maildrop_end. If the connection has ended before the end of a whole message,
 * returns false without maildrop_end. For TOP, does not check whether the
 * connection has ended.
 */
static bool
send_begun(struct pop3 *p, size_t n, struct span *span, uint64_t body_lines)
{
	uint64_t sent = send_lines(p, span, body_lines);

	/*
	 * TOP sends only a part of the message, so its size cannot be compared.
	 */
	if (body_lines != WIRE_ALL)
		sent = span->wire_size;
	/*
	 * If the connection has ended, the message may be incomplete although
	 * the mailbox has not changed.
	 */
	if (p->io->error != IO_OK && sent != span->wire_size)
		return false;
	return maildrop_end(p->transaction->drop, n, span, sent);
}

/*
 * Answers with a message, or its header and body_lines lines of its body. After
 * "+OK" an error can no longer be reported. So if the mailbox has changed or
 * cannot be read, the connection ends without the final dot. By that the client
 * sees that the message is not complete.
 */
static enum pop3_verdict
send_message(struct pop3 *p, size_t n, uint64_t body_lines)
{
	struct transaction *t = p->transaction;
	struct span span;

	switch (maildrop_begin(t->drop, n, &span)) {
	case DROP_OK:
		break;
	case DROP_CHANGED:
		return pop3_err(p,
		    "[SYS/TEMP] another program changed the mailbox");
	default:
		return pop3_err(p, "[SYS/TEMP] cannot read the message");
	}
	if (body_lines == WIRE_ALL)
		pop3_ok(p, "%" PRIu64 " octets", span.wire_size);
	else
		pop3_ok(p, "top of message follows");
	if (!send_begun(p, n, &span, body_lines)) {
		if (p->io->error == IO_OK)
			p->end = span.error != 0 ? "failed" : "changed";
		return POP3_LEAVE;
	}
	if (body_lines == WIRE_ALL)
		t->retrieved++;
	else
		t->topped++;
	return pop3_end_lines(p);
}

static enum pop3_verdict
retr(struct pop3 *p, int count, char **args)
{
	size_t n = message_number(p, args[1]);

	(void)count;
	return n != 0 ? send_message(p, n, WIRE_ALL) : POP3_GO_ON;
}

static enum pop3_verdict
top(struct pop3 *p, int count, char **args)
{
	size_t n = message_number(p, args[1]);
	uint64_t lines;

	(void)count;
	if (n == 0)
		return POP3_GO_ON;
	if (!to_number(args[2], &lines))
		return pop3_err(p, "the number of lines is 0, 1, 2 and so on");
	/* WIRE_ALL, which is UINT64_MAX, means RETR. So pass one line less. */
	return send_message(p, n, lines == WIRE_ALL ? lines - 1 : lines);
}

static enum pop3_verdict
dele(struct pop3 *p, int count, char **args)
{
	size_t n = message_number(p, args[1]);

	(void)count;
	if (n == 0)
		return POP3_GO_ON;
	if (p->transaction->drop->read_only)
		return pop3_err(p, "[SYS/PERM] this login may only read");
	maildrop_mark(p->transaction->drop, n);
	return pop3_ok(p, "message %zu deleted", n);
}

static enum pop3_verdict
noop(struct pop3 *p, int count, char **args)
{
	(void)count, (void)args;
	return pop3_ok(p, "nothing done");
}

static enum pop3_verdict
rset(struct pop3 *p, int count, char **args)
{
	(void)count, (void)args;
	maildrop_reset(p->transaction->drop);
	return pop3_ok(p, "%zu messages", p->transaction->drop->count);
}

/*
 * Refuses LAST. At the beginning of a session the only possible answer would be
 * 0. A client that sends LAST first (fetchmail) would then consider every
 * message new. If LAST is refused, such a client uses UIDL.
 */
static enum pop3_verdict
last(struct pop3 *p, int count, char **args)
{
	(void)count, (void)args;
	return pop3_err(p, "LAST is obsolete since RFC 1725, use UIDL");
}

/*
 * UPDATE: removes the marked messages, but only after the client has
 * acknowledged all answers. Otherwise a message could be removed although a
 * broken connection has kept it from the client. Does not wait if no message is
 * marked.
 */
static enum pop3_verdict
quit(struct pop3 *p, int count, char **args)
{
	enum drop_error error;

	(void)count, (void)args;
	if (p->transaction->drop->marked > 0 &&
	    io_await_acknowledged(p->io) == -1)
		return POP3_LEAVE;
	error = maildrop_commit(p->transaction->drop, &p->transaction->removed);
	p->end = "quit";
	switch (error) {
	case DROP_OK:
		pop3_ok(p, "bye, %zu messages left",
		    p->transaction->drop->count - p->transaction->removed);
		break;
	case DROP_CHANGED:
		pop3_err(p, "some deleted messages not removed");
		break;
	case DROP_BUSY:
		pop3_err(p, "[IN-USE] the mailbox is locked, nothing removed");
		break;
	case DROP_DENIED:
		pop3_err(p, "[SYS/PERM] nothing removed");
		break;
	case DROP_LATER:
		pop3_err(p,
		    "[SYS/TEMP] deleted messages may not be removed yet");
		break;
	case DROP_FAILED:
		pop3_err(p, "[SYS/TEMP] nothing removed");
		break;
	}
	return POP3_LEAVE;
}

const struct pop3_command pop3_trans_commands[] = {
	{ "RETR", 1, 1, retr },
	{ "DELE", 1, 1, dele },
	{ "TOP", 2, 2, top },
	{ "LIST", 0, 1, list },
	{ "UIDL", 0, 1, uidl },
	{ "STAT", 0, 0, stat_drop },
	{ "NOOP", 0, 0, noop },
	{ "RSET", 0, 0, rset },
	{ "LAST", 0, 0, last },
	{ "CAPA", 0, 0, pop3_capa },
	{ "UTF8", 0, 0, pop3_utf8 },
	{ "QUIT", 0, 0, quit },
	{ NULL, 0, 0, NULL },
};

static char command_line[POP3_LINE];

static const struct pop3_state transaction_state = { .commands =
							 pop3_trans_commands,
	.line = command_line,
	.line_size = sizeof(command_line) };

void
pop3_serve(struct io *io, struct maildrop *drop)
{
	struct transaction t = { .drop = drop };
	struct pop3 p = {
		.io = io, .state = &transaction_state, .transaction = &t
	};
	int64_t begin = clock_ms();

	pop3_ok(&p, "%zu messages", drop->count);
	pop3_obey(&p);
	log_event(LOG_INFO, "logout",
	    "reason=%s retrieved=%zu octets=%" PRIu64
	    " topped=%zu deleted=%zu left=%zu seconds=%" PRId64,
	    pop3_why_ended(&p), t.retrieved, t.wire_size, t.topped, t.removed,
	    drop->count - t.removed, (clock_ms() - begin) / 1000);
}
