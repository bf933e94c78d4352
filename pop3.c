/*
 * Reads POP3 commands and calls their handlers, which are in the table of the
 * current state.
 *
 * Runs as the pre-auth user in its jail for AUTHORIZATION (pop3-auth.c) and for
 * a refusal (refusal.c). Runs as the owner of the mailbox for TRANSACTION and
 * UPDATE (pop3-trans.c). The client is not trusted. A line that is too long is
 * read to its end and refused once. No number from the client decides an
 * allocation, and no byte from the client is part of an answer.
 *
 * A state is a table of commands, with the permitted numbers of arguments. A
 * handler writes one answer. Only a login is answered by another process.
 * pop3-auth.c and pop3-trans.c call this file directly. This file calls them
 * only through their tables.
 *
 * RFC 1939 (POP3), RFC 2449 (CAPA, response codes), RFC 3206 (AUTH and SYS
 * codes). Of RFC 6856, only the command UTF8 is supported.
 */
#include "config.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "foreign.h"
#include "log.h"
#include "pop3.h"

/*
 * The command and at most three arguments are stored. No command uses more than
 * two.
 */
#define WORDS 4

enum pop3_verdict
pop3_ok(struct pop3 *p, const char *format, ...)
{
	char text[256];
	va_list ap;

	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	io_printf(p->io, "+OK %s\r\n", text);
	return POP3_GO_ON;
}

enum pop3_verdict
pop3_err(struct pop3 *p, const char *text)
{
	io_printf(p->io, "-ERR %s\r\n", text);
	return POP3_GO_ON;
}

enum pop3_verdict
pop3_end_lines(struct pop3 *p)
{
	io_write(p->io, ".\r\n", 3);
	return POP3_GO_ON;
}

enum pop3_verdict
pop3_capa(struct pop3 *p, int count, char **args)
{
	(void)count, (void)args;
	pop3_ok(p, "capabilities follow");
	if (p->state->put_capabilities != NULL)
		p->state->put_capabilities(p);
	io_printf(p->io,
	    "TOP\r\nUIDL\r\nPIPELINING\r\nRESP-CODES\r\n"
	    "AUTH-RESP-CODE\r\nEXPIRE NEVER\r\n"
	    "IMPLEMENTATION kpopd-%s\r\n",
	    PACKAGE_VERSION);
	return pop3_end_lines(p);
}

/*
 * Answers "+OK" to clients that send UTF8 although CAPA does not list it.
 * Nothing else is necessary, because mail is always sent as it is stored. CAPA
 * does not list UTF8 because kpopd does not do all that RFC 6856 requires.
 * Besides, if CAPA lists UTF8, libcamel 3.46 (Evolution) sends the command
 * without a line end, and waits for the answer.
 */
enum pop3_verdict
pop3_utf8(struct pop3 *p, int count, char **args)
{
	(void)count, (void)args;
	return pop3_ok(p, "mail is served as it is");
}

/*
 * Ends the next word of *line with a NUL and moves *line past it. Returns the
 * word, or NULL if there is none.
 */
static char *
next_word(char **line)
{
	char *word = *line + strspn(*line, " \t");

	*line = word + strcspn(word, " \t");
	if (**line != '\0')
		*(*line)++ = '\0';
	return *word != '\0' ? word : NULL;
}

/*
 * Splits the rest of a line into words and stores the first WORDS - 1 of them
 * in args, after the command. Returns the number of all words.
 */
static int
split(char *line, char **args)
{
	int count = 0;

	for (char *word; (word = next_word(&line)) != NULL; count++)
		if (count < WORDS - 1)
			args[count + 1] = word;
	return count;
}

/*
 * Stores the rest of a line, without the blanks around it, as one argument in
 * args. Returns the number of arguments: 0 or 1.
 */
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

/*
 * A mail client sends few such lines in a row. A program that does not speak
 * POP3 sends many.
 */
enum pop3_verdict
pop3_not_understood(struct pop3 *p, const char *text)
{
	pop3_err(p, text);
	if (++p->nonsense < POP3_NONSENSE)
		return POP3_GO_ON;
	log_event(LOG_NOTICE, "nonsense", "lines=%d", p->nonsense);
	p->end = "nonsense";
	return POP3_LEAVE;
}

/*
 * Finds the command of a line of `length` bytes in the state's table, and calls
 * the handler of the command.
 */
static enum pop3_verdict
dispatch(struct pop3 *p, char *line, int length)
{
	const struct pop3_command *c;
	char *args[WORDS];
	int count;

	if (memchr(line, '\0', (size_t)length) != NULL) {
		/*
		 * A binary PROXY header, read as lines, begins with two empty
		 * lines and then a line of one NUL.
		 */
		if (p->refused == NULL && length == 1 && p->nonsense == 2)
			p->refused = foreign_protocol("\r\n\r\n");
		return pop3_not_understood(p, "a command has no NUL in it");
	}
	if ((args[0] = next_word(&line)) == NULL)
		return pop3_not_understood(p, "an empty line is not a command");
	for (c = p->state->commands; c->name != NULL; c++) {
		if (strcasecmp(c->name, args[0]) != 0)
			continue;
		p->nonsense = 0;
		count = c->most == POP3_TEXT ? take_rest(line, args) :
					       split(line, args);
		if (count < c->least ||
		    (c->most != POP3_TEXT && count > c->most))
			return pop3_err(p, "wrong number of arguments");
		return c->run(p, count + 1, args);
	}
	return pop3_not_understood(p, "no such command here");
}

/*
 * Returns true if line begins with the state's long_command. Only such a line
 * may be longer than POP3_LINE.
 */
static bool
may_be_long(const struct pop3_state *state, const char *line)
{
	const char *command = state->long_command;

	return command != NULL &&
	    strncasecmp(line, command, strlen(command)) == 0;
}

static enum pop3_verdict
answer_long_line(struct pop3 *p, const char *line)
{
	if (p->state->refuse_long != NULL)
		return p->state->refuse_long(p, line);
	return pop3_not_understood(p, "line too long");
}

enum pop3_verdict
pop3_obey(struct pop3 *p)
{
	char *line = p->state->line;
	enum pop3_verdict verdict = POP3_GO_ON;

	while (verdict == POP3_GO_ON) {
		int length = io_line(p->io, line, p->state->line_size);

		/*
		 * If the first line has no end, `line` contains its beginning.
		 */
		if (!p->has_spoken && p->refused == NULL)
			p->refused = foreign_protocol(line);
		p->has_spoken |= length != IO_LINE_ERROR;
		if (length == IO_LINE_ERROR)
			return POP3_LEAVE;
		if (length >= POP3_LINE && !may_be_long(p->state, line))
			length = IO_LINE_LONG;
		verdict = length == IO_LINE_LONG ? answer_long_line(p, line) :
						   dispatch(p, line, length);
	}
	return verdict;
}

const char *
pop3_why_ended(const struct pop3 *p)
{
	if (p->end != NULL)
		return p->end;
	switch (p->io->error) {
	case IO_CLOSED:
		return "lost";
	case IO_TIMEOUT:
		return "idle";
	case IO_WRITE_TIMEOUT:
		return "stalled";
	case IO_TAKEN_OVER:
		return "yielded";
	default:
		return "failed";
	}
}

void
pop3_refuse(struct io *io)
{
	io_printf(io, "-ERR [AUTH] this ticket does not open that mailbox\r\n");
}

void
pop3_occupied(struct io *io, int64_t age)
{
	io_printf(io,
	    "-ERR [IN-USE] another session has had the mailbox for %" PRId64
	    " seconds\r\n",
	    age);
}

void
pop3_unavailable(struct io *io, enum drop_error error)
{
	struct pop3 p = { .io = io };

	if (error == DROP_BUSY)
		pop3_err(&p, "[IN-USE] another program has locked the mailbox");
	else if (error == DROP_DENIED)
		pop3_err(&p, "[SYS/PERM] the mailbox cannot be opened");
	else
		pop3_err(&p, "[SYS/TEMP] the mailbox cannot be opened now");
}
