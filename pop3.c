/*
 * Speaks RFC 1939 and its extensions in two tables, over an io and a maildrop.
 *
 * The first table runs as the pre-auth user in its jail, the second as the owner
 * of the mailbox. The client is not trusted: a line that is too long is read
 * to its end and refused once, nothing it sends decides an allocation, and
 * nothing of it stands in an answer.
 *
 * A state is a table of commands with their numbers of arguments; a handler
 * gives exactly one answer, by ending in ok() or no(). Only QUIT in
 * TRANSACTION leads to maildrop_commit, and only after the client has
 * acknowledged all answers: a lost connection, a timeout or an error removes
 * nothing.
 *
 * RFC 1939 (POP3), RFC 2449 (CAPA, response codes), RFC 3206 (AUTH and SYS
 * codes), RFC 2595 (STLS), RFC 5034 (AUTH). Of RFC 6856 the word UTF8 alone.
 */
#include "config.h"

#include <inttypes.h>
#include <limits.h>
#include <netinet/in.h>
#include <resolv.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "clock.h"
#include "foreign.h"
#include "log.h"
#include "pop3.h"
#include "wire.h"

#define LINE 255 /* RFC 2449 §4: bytes of a command with its CRLF */
#define TOKEN 65536 /* bytes of a SASL token */
#define TOKEN_LINE (4 * ((TOKEN + 2) / 3) + 3) /* in base64, with CRLF or a NUL */
#define TOKEN_ROOM (TOKEN + LINE) /* for what a line that is read whole can have, which is a little more */
#define ATTEMPTS 3  /* of AUTH */
#define NONSENSE 20 /* lines in a row that are no command; a client errs once, a program that is none goes on */
#define WORDS 4  /* a command and its arguments: TOP has most; and one too many */
#define ANY INT_MAX
#define TEXT (-1) /* most: the rest of the line is one argument, with the blanks in it */
#define NUMBER 21 /* the digits of a uint64_t, and a NUL */

/* What a handler leaves behind. */
enum verdict { GO_ON, LOGIN, LEAVE };

struct session {
	struct io *io;
	struct maildrop *drop;
	/* AUTHORIZATION */
	const struct pop3_preauth *preauth;
	const char *principal;
	char *user; /* USER's argument, or whom AUTH wishes to be; belongs to the caller of pop3_login */
	size_t user_size;
	bool has_user, inside_tls;
	bool has_spoken; /* a line has come since the connection, or STLS, began */
	const char *why; /* what the client has been refused, for the log if it leaves then; NULL: nothing of note */
	int attempts;
	int nonsense;
	/* TRANSACTION */
	size_t retrieved, topped, removed;
	uint64_t wire_size; /* sent of messages */
	const char *end; /* how it ended, for the log */
};

struct command {
	const char *name;
	int least, most; /* arguments */
	enum verdict (*run)(struct session *s, int count, char **args);
};

static enum verdict ok(struct session *, const char *, ...)
    __attribute__((format(printf, 2, 3)));

/* The two answers there are. */
static enum verdict
ok(struct session *s, const char *format, ...)
{
	char text[256];
	va_list ap;

	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	io_printf(s->io, "+OK %s\r\n", text);
	return GO_ON;
}

static enum verdict
no(struct session *s, const char *text)
{
	io_printf(s->io, "-ERR %s\r\n", text);
	return GO_ON;
}

static enum verdict
end_list(struct session *s)
{
	io_write(s->io, ".\r\n", 3);
	return GO_ON;
}

/* Whether STLS would be obeyed now. */
static bool
can_stls(const struct session *s)
{
	return s->preauth != NULL && s->preauth->has_tls && !s->inside_tls;
}

/* Whether nobody is let in as it is now. */
static bool
is_too_open(const struct session *s)
{
	return s->preauth->needs_tls && !s->inside_tls;
}

/* Refuses a login outside TLS. */
static enum verdict
require_tls(struct session *s)
{
	s->why = "login without TLS, which is required";
	return no(s, "[AUTH] STLS comes first here");
}

static enum verdict
capa(struct session *s, int count, char **args)
{
	(void)count, (void)args;
	ok(s, "capabilities follow");
	if (s->preauth != NULL && s->preauth->principal != NULL)
		io_printf(s->io, "USER\r\n");
	if (s->preauth != NULL && s->preauth->has_gssapi && !is_too_open(s))
		io_printf(s->io, "SASL GSSAPI\r\n");
	if (can_stls(s))
		io_printf(s->io, "STLS\r\n");
	io_printf(s->io, "TOP\r\nUIDL\r\nPIPELINING\r\nRESP-CODES\r\n"
			 "AUTH-RESP-CODE\r\nEXPIRE NEVER\r\n"
			 "IMPLEMENTATION kpopd-%s\r\n", PACKAGE_VERSION);
	return end_list(s);
}

/*
 * Obeys clients that send UTF8 without asking: mail is sent as it is stored in
 * any case. CAPA does not list it, because kpopd does not keep the promise of
 * RFC 6856, and libcamel 3.46 (Evolution) sends a listed UTF8 without a line
 * end and waits.
 */
static enum verdict
utf8(struct session *s, int count, char **args)
{
	(void)count, (void)args;
	return ok(s, "mail is served as it is");
}

static enum verdict
user(struct session *s, int count, char **args)
{
	(void)count;
	if (is_too_open(s))
		return require_tls(s);
	s->has_user = strlcpy(s->user, args[1], s->user_size) < s->user_size;
	if (!s->has_user)
		return no(s, "no user has a name that long");
	return ok(s, "PASS comes next, with anything");
}

/* What PASS says is never looked at: the ticket has said it all. */
static enum verdict
pass(struct session *s, int count, char **args)
{
	(void)count, (void)args;
	if (!s->has_user)
		return no(s, "USER comes first");
	return LOGIN;
}

/* USER and PASS where no ticket has said anything yet. */
static enum verdict
no_password(struct session *s, int count, char **args)
{
	(void)count, (void)args;
	s->why = "login by password, and only AUTH GSSAPI is served";
	return no(s, "[AUTH] no passwords here, only AUTH GSSAPI");
}

/*
 * What the client sent behind STLS in the clear is not looked at, neither now
 * nor as if it had come inside (RFC 2595 §2.4; CVE-2011-0411): it ends the
 * connection.
 */
static enum verdict
stls(struct session *s, int count, char **args)
{
	const char *unread;
	int fd;

	(void)count, (void)args;
	if (s->inside_tls)
		return no(s, "TLS has begun already");
	s->why = can_stls(s) ? NULL : "STLS, which is not offered";
	if (!can_stls(s))
		return no(s, "no TLS here");
	if (io_unread(s->io, &unread) > 0) {
		log_event(LOG_NOTICE, "refused", "reason=\"commands in the clear behind STLS\"");
		no(s, "nothing may follow STLS before TLS");
		return LEAVE;
	}
	/* The connection is kpopd-tls' by now, whatever became of that: nothing more can be said here. */
	if ((fd = s->preauth->prepare_tls(s->preauth->self)) == -1) {
		no(s, "[SYS/TEMP] TLS cannot be had now");
		return LEAVE;
	}
	ok(s, "begin TLS");
	if (io_flush(s->io) == -1)
		return LEAVE;
	io_switch(s->io, fd);
	s->inside_tls = true;
	s->has_user = s->has_spoken = false;
	return GO_ON;
}

/* A SASL challenge. Returns whether it could be written. */
static bool
put_challenge(struct session *s, const void *challenge, size_t n)
{
	static char text[TOKEN_LINE];

	if (b64_ntop(challenge, n, text, sizeof(text)) == -1)
		return false;
	io_write(s->io, "+ ", 2);
	io_write(s->io, text, strlen(text));
	io_write(s->io, "\r\n", 2);
	return true;
}

/* Logs why AUTH ends and answers with text. */
static enum verdict
refuse_auth(struct session *s, const char *reason, const char *text)
{
	log_event(LOG_NOTICE, "refused", "reason=\"GSSAPI: %s\"", reason);
	return no(s, text);
}

/* Refuses a token of n bytes. The log has its size, because a ticket can grow with the number of its owner's groups. */
static enum verdict
refuse_token(struct session *s, uint64_t n)
{
	log_event(LOG_NOTICE, "refused", "reason=\"GSSAPI token of %" PRIu64 " bytes\"", n);
	return no(s, "the token is too large");
}

/* Decodes the token in text into token[TOKEN_ROOM]. Returns its size, or -1 if it is none or too large (answered). */
static int
decode_token(struct session *s, const char *text, unsigned char *token)
{
	int n = b64_pton(text, token, TOKEN_ROOM);

	if (n == -1)
		refuse_auth(s, "not base64", "this is not base64");
	if (n > TOKEN)
		refuse_token(s, (uint64_t)n);
	return n <= TOKEN ? n : -1;
}

/* Returns how many bytes n bytes of base64 stand for. */
static uint64_t
decoded_size(uint64_t n)
{
	return n / 4 * 3;
}

/* Reads the client's next token from a line of its own into token[TOKEN_ROOM]. Returns its size; -1: cancelled or none (answered); -2: the connection's end. */
static int
read_token(struct session *s, unsigned char *token)
{
	static char line[TOKEN_LINE];
	int n = io_line(s->io, line, sizeof(line));

	if (n == IO_LINE_ERROR)
		return -2;
	if (n == IO_LINE_LONG) {
		refuse_token(s, decoded_size(s->io->line_size));
		return -1;
	}
	if (strcmp(line, "*") == 0) {
		refuse_auth(s, "cancelled by the client", "cancelled");
		return -1;
	}
	/* An empty token is an empty line. Clients that write it as AUTH's empty argument are understood. */
	if (strcmp(line, "=") == 0)
		return 0;
	return decode_token(s, strlen(line) == (size_t)n ? line : "!", token);
}

/* The dialogue of AUTH; token holds n bytes of the initial response (0: none). */
static enum verdict
authenticate(struct session *s, unsigned char *token, int n)
{
	const void *challenge = "";
	const char *wish;
	size_t size = 0;
	/* Without an initial response the first challenge is empty. */
	int result = n == 0 ? 1 : s->preauth->authenticate(s->preauth->self, true, token, (size_t)n, &challenge, &size);
	bool first = n == 0;

	while (result == 1) {
		if (!put_challenge(s, challenge, size))
			return no(s, "[SYS/TEMP] a token too large");
		if ((n = read_token(s, token)) < 0)
			return n == -1 ? GO_ON : LEAVE;
		result = s->preauth->authenticate(s->preauth->self, first, token, (size_t)n, &challenge, &size);
		first = false;
	}
	/* Half a name would be another one, and an empty one is the principal's. */
	if (result == -1 || s->preauth->who(s->preauth->self, &s->principal, &wish) == -1 ||
	    strlcpy(s->user, wish, s->user_size) >= s->user_size)
		return no(s, "[AUTH] not authenticated");
	return LOGIN;
}

/* Returns what becomes of the connection after an attempt that ended with verdict: too many of them end it. */
static enum verdict
count_attempt(struct session *s, enum verdict verdict)
{
	return verdict == GO_ON && ++s->attempts == ATTEMPTS ? LEAVE : verdict;
}

static enum verdict
auth(struct session *s, int count, char **args)
{
	static unsigned char token[TOKEN_ROOM];
	int n = 0;

	if (count == 1) {
		ok(s, "mechanisms follow");
		if (s->preauth->has_gssapi && !is_too_open(s))
			io_printf(s->io, "GSSAPI\r\n");
		return end_list(s);
	}
	s->why = NULL;
	if (strcasecmp(args[1], "GSSAPI") != 0) {
		s->why = "AUTH by another mechanism than GSSAPI";
		return no(s, "[AUTH] the only mechanism is GSSAPI");
	}
	if (!s->preauth->has_gssapi)
		return no(s, "[SYS/PERM] the server has no Kerberos key");
	if (is_too_open(s))
		return require_tls(s);
	if (count > 2 && strcmp(args[2], "=") != 0 &&
	    (n = decode_token(s, args[2], token)) == -1)
		return count_attempt(s, GO_ON);
	return count_attempt(s, authenticate(s, token, n));
}

static enum verdict
leave(struct session *s, int count, char **args)
{
	(void)count, (void)args;
	ok(s, "bye");
	return LEAVE;
}

/* KPOP: the ticket has been shown. */
static const struct command with_ticket[] = {
	{ "CAPA", 0, 0, capa },
	{ "STLS", 0, 0, stls },
	{ "UTF8", 0, 0, utf8 },
	{ "USER", 1, TEXT, user },
	{ "PASS", 0, ANY, pass },
	{ "QUIT", 0, 0, leave },
	{ NULL, 0, 0, NULL },
};

/* POP3 mode. */
static const struct command without_ticket[] = {
	{ "CAPA", 0, 0, capa },
	{ "STLS", 0, 0, stls },
	{ "UTF8", 0, 0, utf8 },
	{ "AUTH", 0, 2, auth },
	{ "USER", 0, ANY, no_password },
	{ "PASS", 0, ANY, no_password },
	{ "APOP", 0, ANY, no_password },
	{ "QUIT", 0, 0, leave },
	{ NULL, 0, 0, NULL },
};

/* A word, which is never empty: digits and nothing else, up to the largest uint64_t. */
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

/* Reads a message number with every refusal there is. Returns it, or 0 having answered. */
static size_t
number(struct session *s, const char *text)
{
	uint64_t n;

	if (!to_number(text, &n) || n == 0) {
		no(s, "message numbers are 1, 2, 3 and so on");
		return 0;
	}
	if (n > s->drop->count) {
		no(s, "no such message");
		return 0;
	}
	if (maildrop_marked(s->drop, (size_t)n)) {
		no(s, "message is deleted");
		return 0;
	}
	return (size_t)n;
}

static enum verdict
stat_drop(struct session *s, int count, char **args)
{
	const struct maildrop *d = s->drop;

	(void)count, (void)args;
	return ok(s, "%zu %" PRIu64, d->count - d->marked, d->wire_size - d->marked_wire_size);
}

/* Writes n in decimal at the end of text[NUMBER]. Returns where it begins. A mailbox has a million of them: printf would take longer than all the rest. */
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

/* A line "before n about". */
static void
put_line(struct session *s, const char *before, size_t n, const char *about)
{
	char line[4 + NUMBER + 1 + NUMBER + UIDL_SIZE + 2], number[NUMBER];
	char *p = stpcpy(line, before);

	p = stpcpy(p, decimal(n, number));
	*p++ = ' ';
	p = stpcpy(stpcpy(p, about), "\r\n");
	io_write(s->io, line, (size_t)(p - line));
}

/* One line about message n; LIST and UIDL differ only here. */
typedef void line_about(struct session *s, const char *before, size_t n);

static void
put_size(struct session *s, const char *before, size_t n)
{
	char text[NUMBER];

	put_line(s, before, n, decimal(maildrop_wire_size(s->drop, n), text));
}

static void
put_uidl(struct session *s, const char *before, size_t n)
{
	char id[UIDL_SIZE];

	maildrop_uidl(s->drop, n, id);
	put_line(s, before, n, id);
}

static enum verdict
about_one_or_all(struct session *s, int count, char **args, line_about *put)
{
	size_t n;

	if (count > 1) {
		if ((n = number(s, args[1])) != 0)
			put(s, "+OK ", n);
		return GO_ON;
	}
	ok(s, "%zu messages", s->drop->count - s->drop->marked);
	for (n = 1; n <= s->drop->count; n++)
		if (!maildrop_marked(s->drop, n))
			put(s, "", n);
	return end_list(s);
}

static enum verdict
list(struct session *s, int count, char **args)
{
	return about_one_or_all(s, count, args, put_size);
}

static enum verdict
uidl(struct session *s, int count, char **args)
{
	return about_one_or_all(s, count, args, put_uidl);
}

/* Converts the message of span into the output. Returns its wire size, for maildrop_end. */
static uint64_t
send_lines(struct session *s, struct span *span, uint64_t body_lines)
{
	static char stored[IO_OUT / 2];
	struct wire w;
	size_t room;
	ssize_t n = 0;

	wire_init(&w, body_lines);
	while (!w.done && s->io->error == IO_OK &&
	    (n = maildrop_read(span, stored, sizeof(stored))) > 0) {
		const char *from = stored;

		for (size_t left = (size_t)n; left > 0 && !w.done;) {
			char *to = io_room(s->io, 4096, &room);
			size_t some = room / 2 < left ? room / 2 : left;

			io_put(s->io, wire_put(&w, from, some, to));
			from += some;
			left -= some;
		}
	}
	io_put(s->io, wire_end(&w, io_room(s->io, 2, &room)));
	s->wire_size += w.wire_size;
	/* TOP's answer does not announce a size. */
	return body_lines == WIRE_ALL ? w.wire_size : span->wire_size;
}

/*
 * A message's answer. Behind "+OK" there is no way back to "-ERR": when the
 * mailbox turns out to have changed, the connection ends without the final
 * dot, so that the client does not take half a message for a whole one.
 */
static enum verdict
send_message(struct session *s, size_t n, uint64_t body_lines)
{
	struct span span;
	uint64_t sent;

	switch (maildrop_begin(s->drop, n, &span)) {
	case DROP_OK:
		break;
	case DROP_CHANGED:
		return no(s, "[SYS/TEMP] another program changed the mailbox");
	default:
		return no(s, "[SYS/TEMP] cannot read the message");
	}
	if (body_lines == WIRE_ALL)
		ok(s, "%" PRIu64 " bytes", span.wire_size);
	else
		ok(s, "top of message follows");
	sent = send_lines(s, &span, body_lines);
	if (!maildrop_end(s->drop, n, &span, sent)) {
		if (s->io->error == IO_OK)
			s->end = "changed";
		return LEAVE;
	}
	if (body_lines == WIRE_ALL)
		s->retrieved++;
	else
		s->topped++;
	return end_list(s);
}

static enum verdict
retr(struct session *s, int count, char **args)
{
	size_t n = number(s, args[1]);

	(void)count;
	return n != 0 ? send_message(s, n, WIRE_ALL) : GO_ON;
}

static enum verdict
top(struct session *s, int count, char **args)
{
	size_t n = number(s, args[1]);
	uint64_t lines;

	(void)count;
	if (n == 0)
		return GO_ON;
	if (!to_number(args[2], &lines))
		return no(s, "the number of lines is 0, 1, 2 and so on");
	/* As many as there can be is not the same promise as RETR's. */
	return send_message(s, n, lines == WIRE_ALL ? lines - 1 : lines);
}

static enum verdict
dele(struct session *s, int count, char **args)
{
	size_t n = number(s, args[1]);

	(void)count;
	if (n == 0)
		return GO_ON;
	maildrop_mark(s->drop, n);
	return ok(s, "message %zu deleted", n);
}

static enum verdict
noop(struct session *s, int count, char **args)
{
	(void)count, (void)args;
	return ok(s, "nothing done");
}

static enum verdict
rset(struct session *s, int count, char **args)
{
	(void)count, (void)args;
	maildrop_reset(s->drop);
	return ok(s, "%zu messages", s->drop->count);
}

/*
 * A LAST that begins at 0 in each session would make every message new for
 * clients that ask it first (fetchmail); refused, they use UIDL.
 */
static enum verdict
last(struct session *s, int count, char **args)
{
	(void)count, (void)args;
	return no(s, "LAST left POP3 in 1994, UIDL took its place");
}

/*
 * UPDATE. Removes nothing unless the client has acknowledged all answers;
 * otherwise a message could be lost together with the connection on which it
 * was sent. Without marks there is nothing to wait for.
 */
static enum verdict
quit(struct session *s, int count, char **args)
{
	enum drop_error error;

	(void)count, (void)args;
	if (s->drop->marked > 0 && io_await_acknowledged(s->io) == -1)
		return LEAVE;
	error = maildrop_commit(s->drop, &s->removed);
	s->end = "quit";
	switch (error) {
	case DROP_OK:
		ok(s, "bye, %zu messages left", s->drop->count - s->removed);
		break;
	case DROP_CHANGED:
		no(s, "some deleted messages not removed");
		break;
	case DROP_BUSY:
		no(s, "[IN-USE] the mailbox is locked, nothing removed");
		break;
	case DROP_DENIED:
		no(s, "[SYS/PERM] nothing removed");
		break;
	case DROP_LATER:
		no(s, "[SYS/TEMP] the next login will finish the removal");
		break;
	case DROP_FAILED:
		no(s, "[SYS/TEMP] nothing removed");
		break;
	}
	return LEAVE;
}

static const struct command transaction[] = {
	{ "RETR", 1, 1, retr },
	{ "DELE", 1, 1, dele },
	{ "TOP", 2, 2, top },
	{ "LIST", 0, 1, list },
	{ "UIDL", 0, 1, uidl },
	{ "STAT", 0, 0, stat_drop },
	{ "NOOP", 0, 0, noop },
	{ "RSET", 0, 0, rset },
	{ "LAST", 0, 0, last },
	{ "CAPA", 0, 0, capa },
	{ "UTF8", 0, 0, utf8 },
	{ "QUIT", 0, 0, quit },
	{ NULL, 0, 0, NULL },
};

/* Cuts the next word off *line, in place. Returns NULL if there is none. */
static char *
cut_word(char **line)
{
	char *word = *line + strspn(*line, " \t");

	*line = word + strcspn(word, " \t");
	if (**line != '\0')
		*(*line)++ = '\0';
	return *word != '\0' ? word : NULL;
}

/* Cuts the rest of the line into words, of which args holds what there is room for after the command. Returns how many there are. */
static int
split(char *line, char **args)
{
	int count = 0;

	for (char *word; (word = cut_word(&line)) != NULL; count++)
		if (count < WORDS - 1)
			args[count + 1] = word;
	return count;
}

/* Takes the rest of the line, without the blanks around it, as one argument. Returns how many there are. */
static int
take_rest(char *line, char **args)
{
	size_t n;

	line += strspn(line, " \t");
	for (n = strlen(line); n > 0 && strchr(" \t", line[n - 1]) != NULL; n--)
		;
	line[n] = '\0';
	args[1] = line;
	return n > 0 ? 1 : 0;
}

/* Answers a line that is no command; too many of them in a row are the end. */
static enum verdict
not_understood(struct session *s, const char *text)
{
	no(s, text);
	if (++s->nonsense < NONSENSE)
		return GO_ON;
	log_event(LOG_NOTICE, "nonsense", "lines=%d", s->nonsense);
	s->end = "nonsense";
	return LEAVE;
}

static enum verdict
dispatch(struct session *s, const struct command *table, char *line, int length)
{
	char *args[WORDS];
	int count;

	if (memchr(line, '\0', (size_t)length) != NULL) {
		/* As lines, a binary PROXY header begins with two empty ones and a NUL. */
		if (s->why == NULL && length == 1 && s->nonsense == 2)
			s->why = foreign_protocol("\r\n\r\n");
		return not_understood(s, "a command has no NUL in it");
	}
	if ((args[0] = cut_word(&line)) == NULL)
		return not_understood(s, "an empty line is no command");
	for (; table->name != NULL; table++) {
		if (strcasecmp(table->name, args[0]) != 0)
			continue;
		s->nonsense = 0;
		count = table->most == TEXT ? take_rest(line, args) : split(line, args);
		if (count < table->least || (table->most != TEXT && count > table->most))
			return no(s, "wrong number of arguments");
		return table->run(s, count + 1, args);
	}
	return not_understood(s, "no such command here");
}

/* Answers a line that is too long. One of AUTH has a token in it. */
static enum verdict
refuse_long_line(struct session *s, const struct command *table, const char *line)
{
	static const char command[] = "AUTH GSSAPI ";
	const size_t n = sizeof(command) - 1;

	if (table != without_ticket || strncasecmp(line, command, n) != 0 || !s->preauth->has_gssapi || is_too_open(s))
		return not_understood(s, "line too long");
	return count_attempt(s, refuse_token(s, decoded_size(s->io->line_size - n)));
}

/* Obeys commands until one of them changes the state or the connection ends. */
static enum verdict
obey(struct session *s, const struct command *table)
{
	static char line[TOKEN_LINE + LINE];
	/* RFC 5034 §4 forbids an initial response that makes the line longer, but every Kerberos token would. */
	size_t most = table == without_ticket ? sizeof(line) : LINE;
	enum verdict verdict = GO_ON;

	while (verdict == GO_ON) {
		int length = io_line(s->io, line, most);

		/* Of a line without an end the beginning is there all the same. */
		if (!s->has_spoken && s->why == NULL)
			s->why = foreign_protocol(line);
		s->has_spoken |= length != IO_LINE_ERROR;
		if (length == IO_LINE_ERROR)
			return LEAVE;
		if (length >= LINE && strncasecmp(line, "AUTH ", 5) != 0)
			length = IO_LINE_LONG;
		verdict = length == IO_LINE_LONG ? refuse_long_line(s, table, line) :
		    dispatch(s, table, line, length);
	}
	return verdict;
}

static const char *
why_ended(enum io_error error)
{
	switch (error) {
	case IO_CLOSED:
		return "lost";
	case IO_TIMEOUT:
		return "idle";
	case IO_STALLED:
		return "stalled";
	case IO_YIELDED:
		return "yielded";
	default:
		return "failed";
	}
}

/* Logs why there is no login: what the client was refused before it left, or how it ended. */
static void
log_no_login(const struct session *s)
{
	enum io_error error = s->io->error;

	if (s->why != NULL)
		log_event(LOG_NOTICE, "refused", "reason=\"%s\"", s->why);
	else
		log_event(LOG_NOTICE, "refused", "reason=\"no login: %s\"", error == IO_OK ? "left" : why_ended(error));
}

int
pop3_login(struct io *io, const struct pop3_preauth *preauth, char *user_name, size_t size)
{
	struct session s = { .io = io, .preauth = preauth, .principal = preauth->principal,
		.user = user_name, .user_size = size, .inside_tls = preauth->inside_tls };

	ok(&s, "kpopd at your service");
	/* What the client has not heard so far it hears now, or it is gone: the last moment to say so in the log. */
	if (obey(&s, preauth->principal != NULL ? with_ticket : without_ticket) == LOGIN &&
	    io_flush(io) == 0)
		return 0;
	log_no_login(&s);
	return -1;
}

void
pop3_refuse(struct io *io)
{
	io_printf(io, "-ERR [AUTH] this ticket does not open that mailbox\r\n");
}

void
pop3_occupied(struct io *io, int64_t age)
{
	io_printf(io, "-ERR [IN-USE] another session has had the mailbox for %"
	    PRId64 " seconds\r\n", age);
}

void
pop3_unavailable(struct io *io, enum drop_error error)
{
	struct session s = { .io = io };

	if (error == DROP_BUSY)
		no(&s, "[IN-USE] another program has locked the mailbox");
	else if (error == DROP_DENIED)
		no(&s, "[SYS/PERM] the mailbox cannot be opened");
	else
		no(&s, "[SYS/TEMP] the mailbox cannot be opened now");
}

void
pop3_serve(struct io *io, struct maildrop *drop)
{
	struct session s = { .io = io, .drop = drop };
	int64_t begin = clock_ms();

	ok(&s, "%zu messages", drop->count);
	obey(&s, transaction);
	if (s.end == NULL)
		s.end = why_ended(io->error);
	log_event(LOG_INFO, "logout", "reason=%s retrieved=%zu octets=%" PRIu64
	    " topped=%zu deleted=%zu left=%zu seconds=%" PRId64, s.end,
	    s.retrieved, s.wire_size, s.topped, s.removed, drop->count - s.removed,
	    (clock_ms() - begin) / 1000);
}
