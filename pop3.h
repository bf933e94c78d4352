/*
 * The command loop of POP3 and the replies that all its states share: see
 * pop3.c.
 */
#ifndef POP3_H
#define POP3_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "io.h"
#include "maildrop.h"

#define POP3_LINE 255 /* bytes of a command with its CRLF (RFC 2449 §4) */
/* This many lines in a row that are not commands end the connection. */
#define POP3_NONSENSE 20
#define POP3_ANY INT_MAX /* for `most`: any number of arguments */
/* for `most`: the rest of the line is one argument, with the blanks in it */
#define POP3_TEXT (-1)

/* What the loop does after a command. */
enum pop3_verdict { POP3_GO_ON, POP3_LOGIN, POP3_LEAVE };

struct pop3;

/* A row of a state's table of commands. */
struct pop3_command {
	const char *name; /* NULL: the end of the table */
	int least, most;  /* arguments; `most` may be POP3_ANY or POP3_TEXT */
	/*
	 * Obeys the command and writes one answer. args[0] is the command,
	 * args[1] to args[count - 1] are the arguments. With POP3_ANY, args has
	 * only the first WORDS - 1 arguments (pop3.c), but count counts all.
	 */
	enum pop3_verdict (*run)(struct pop3 *p, int count, char **args);
};

/* A state of POP3: its commands, and what else differs between the states. */
struct pop3_state {
	const struct pop3_command *commands;
	/*
	 * Buffer for the client's lines, and its size: at least POP3_LINE. A
	 * larger buffer permits longer lines, but only for long_command.
	 */
	char *line;
	size_t line_size;
	const char *long_command; /* its name and a blank; NULL: none */
	/*
	 * Answers a line that is too long. `line` contains the beginning of
	 * that line. If the function is NULL, a line that is too long is
	 * answered like any line that is not a command.
	 */
	enum pop3_verdict (*refuse_long)(struct pop3 *p, const char *line);
	/*
	 * Writes the lines of CAPA that only this state has. NULL: it has none.
	 */
	void (*put_capabilities)(struct pop3 *p);
};

/* A connection in one of its states. */
struct pop3 {
	struct io *io;
	const struct pop3_state *state;
	/* for pop3-auth.c; NULL in TRANSACTION */
	struct authorization *authorization;
	/* for pop3-trans.c; NULL in AUTHORIZATION */
	struct transaction *transaction;
	/*
	 * The client has sent a line since this state of POP3 began, or since
	 * TLS began.
	 */
	bool has_spoken;
	int nonsense; /* lines in a row that were not commands */
	/*
	 * The reason of the last refusal, which is logged if the client leaves
	 * without a login. If it is NULL, the log line describes how the
	 * connection ended.
	 */
	const char *refused;
	/* How a command ended the connection, for the log; NULL: none did. */
	const char *end;
};

/*
 * Reads commands and obeys them, until one of them changes the state
 * (POP3_LOGIN) or the connection ends (POP3_LEAVE).
 */
enum pop3_verdict pop3_obey(struct pop3 *p);

/* Answers "+OK" with a text of less than 256 bytes. Returns POP3_GO_ON. */
enum pop3_verdict pop3_ok(struct pop3 *p, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Answers "-ERR" with text. Returns POP3_GO_ON. */
enum pop3_verdict pop3_err(struct pop3 *p, const char *text);

/* Ends the lines of an answer with a dot. Returns POP3_GO_ON. */
enum pop3_verdict pop3_end_lines(struct pop3 *p);

/*
 * Answers "-ERR" with text to a line that is not a command. Returns POP3_GO_ON.
 * After POP3_NONSENSE such lines in a row, logs that and returns POP3_LEAVE.
 */
enum pop3_verdict pop3_not_understood(struct pop3 *p, const char *text);

/* Handlers of the commands that every state has. */
enum pop3_verdict pop3_capa(struct pop3 *p, int count, char **args);
enum pop3_verdict pop3_utf8(struct pop3 *p, int count, char **args);

/* Returns the words with which the log describes the connection's end. */
const char *pop3_why_ended(const struct pop3 *p);

/*
 * Answers PASS or AUTH if the login is refused, with the same text for every
 * reason.
 */
void pop3_refuse(struct io *io);

/*
 * Answers PASS or AUTH if another session has had the mailbox for age seconds.
 */
void pop3_occupied(struct io *io, int64_t age);

/* Answers PASS or AUTH if the mailbox cannot be opened. */
void pop3_unavailable(struct io *io, enum drop_error error);

#endif
