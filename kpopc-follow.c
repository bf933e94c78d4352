/*
 * Follows the POP3 dialogue in the tunnel, to find the exit status.
 *
 * Runs as the caller: as the user who started kpopc. kpopc reports that the
 * server refused the login. kpopc also reports that the connection ended before
 * the answer to the login or to a later command was complete. The program that
 * uses kpopc might report neither. The server's bytes may come from an
 * attacker, so only the beginning of a line is kept, and a refusal is printed
 * encoded.
 */
#include "config.h"

#include <err.h>
#include <stdint.h>
#include <string.h>
#include <strings.h>

#include "kpopc.h"

/*
 * The number of bits in login.ends. At most this many commands without an
 * answer can be watched.
 */
#define WATCHED 64

/* One direction, line by line. Only the beginning of a long line is kept. */
struct lines {
	void (*follow)(const char *line); /* called at the end of each line */
	size_t n;                         /* bytes of text */
	char text[TEXT_MAX];
};

/*
 * The login so far; `waiting` is also counted after the login. Each line of the
 * program has one answer that begins with "+" or "-ERR".
 */
static struct {
	/*
	 * A command that can end the login was answered with "+OK", or the
	 * login was over at follow_begin.
	 */
	bool done;
	/*
	 * The number of lines of the program that have no answer yet. Before
	 * the greeting it is one higher, because the greeting looks like an
	 * answer.
	 */
	uint64_t waiting;
	/*
	 * One bit for each of these lines, up to WATCHED; the lowest bit is for
	 * the first line. The bit is set if the line is a command that can end
	 * the login.
	 */
	uint64_t ends;
	const char *name; /* of the last such command */
	bool is_refused;  /* the last answer was "-ERR" */
	/*
	 * The first "-ERR" of the last series of refusals, because the first
	 * refusal has caused the others. It is "" if the server has refused
	 * nothing.
	 */
	char refusal[TEXT_MAX];
} login;

/* The program's last line, and the server's last answer after the login. */
static struct {
	/* QUIT was the program's last line, before or after the login */
	bool quits;
	/* the answer has a second line, and its last line, ".", has not come */
	bool in_list;
	/* the program's next line is its first, and must be POP3 */
	bool checks_first;
} session;

/*
 * Returns true if `word` is the first word of the line. Ignores blanks before
 * the word, as servers do.
 */
static bool
is_command(const char *line, const char *word)
{
	const size_t n = strlen(word);

	line += strspn(line, " \t");
	return strncasecmp(line, word, n) == 0 && strcspn(line, " \t") == n;
}

/*
 * Returns true if the line may be the first one of HTTP. A web page can choose
 * the method, which is its first word, and can make the line longer than the
 * part of it that is kept.
 */
static bool
is_http(const char *line)
{
	return strstr(line, " HTTP/") != NULL ||
	    strlen(line) > strlen("USER ") + LINE_USER;
}

void
follow_check_first(const char *line)
{
	static const char *const begins[] = { "CAPA", "USER", "AUTH", "APOP",
		"STLS", "NOOP", "LANG", "UTF8", "QUIT" };

	for (size_t i = 0; i < sizeof(begins) / sizeof(begins[0]); i++)
		if (is_command(line, begins[i]) && !is_http(line))
			return;
	errx(EXIT_REFUSED,
	    "the local program does not speak POP3; it may be a browser");
}

/* Follows a line of the program. */
static void
follow_command(const char *line)
{
	/* After STLS the program's TLS hides the rest of the login. */
	static const char *const ends[] = { "PASS", "APOP", "STLS" };

	if (session.checks_first)
		follow_check_first(line);
	session.checks_first = false;
	session.quits = is_command(line, "QUIT");
	for (size_t i = 0;
	     login.waiting < WATCHED && i < sizeof(ends) / sizeof(ends[0]); i++)
		if (is_command(line, ends[i])) {
			login.ends |= UINT64_C(1) << login.waiting;
			login.name = ends[i];
		}
	login.waiting++;
}

/* Counts one answer. */
static void
count_answer(void)
{
	login.waiting -= login.waiting > 0 ? 1 : 0;
	login.ends >>= 1;
}

/*
 * Follows a line of the session: the first line of an answer, or a further
 * line. The second line of an answer is a header field or a line of a list,
 * which does not look like a new answer. After the second line in_list is set,
 * so that later lines of a message may look like an answer.
 */
static void
follow_session(const char *line)
{
	if (!session.in_list &&
	    (answer_is_good(line) || answer_is_refusal(line)))
		count_answer();
	else
		session.in_list = strcmp(line, ".") != 0;
}

/* Follows a line of the server. */
static void
follow_answer(const char *line)
{
	bool is_end = (login.ends & 1) != 0;

	if (login.done) {
		follow_session(line);
		return;
	}
	/*
	 * Ignore further lines of an answer, for example capabilities. They do
	 * not begin like an answer.
	 */
	if (*line != '+' && !answer_is_refusal(line))
		return;
	count_answer();
	if (answer_is_refusal(line) && !login.is_refused)
		strlcpy(login.refusal, line, sizeof(login.refusal));
	login.is_refused = answer_is_refusal(line);
	login.done = is_end && answer_is_good(line);
}

static struct lines commands = { .follow = follow_command },
		    answers = { .follow = follow_answer };

/* Ends a line of a direction. */
static void
end_followed_line(struct lines *l)
{
	if (l->n > 0 && l->text[l->n - 1] == '\r')
		l->n--;
	l->text[l->n] = '\0';
	l->n = 0;
	l->follow(l->text);
}

/* Follows the next n bytes of a direction. */
static void
follow_bytes(struct lines *l, const char *data, size_t n)
{
	while (n > 0) {
		const char *lf = memchr(data, '\n', n);
		size_t some = lf != NULL ? (size_t)(lf - data) : n,
		       room = sizeof(l->text) - 1 - l->n;

		memcpy(l->text + l->n, data, some < room ? some : room);
		l->n += some < room ? some : room;
		if (lf == NULL)
			return;
		end_followed_line(l);
		n -= some + 1;
		data = lf + 1;
	}
}

void
follow_begin(bool has_greeted, bool is_in)
{
	login.done = is_in;
	login.waiting = has_greeted ? 0 : 1;
}

void
follow_require_pop3(void)
{
	session.checks_first = true;
}

void
follow_program(const char *data, size_t n)
{
	follow_bytes(&commands, data, n);
}

void
follow_server(const char *data, size_t n)
{
	follow_bytes(&answers, data, n);
}

bool
follow_has_quit(void)
{
	return session.quits;
}

bool
follow_is_over(void)
{
	return session.quits && login.waiting == 0 && !session.in_list;
}

const char *
follow_unanswered(int *status)
{
	const bool is_hidden =
	    login.done && login.name != NULL && strcmp(login.name, "STLS") == 0;
	const bool is_missing =
	    login.done ? login.waiting > 0 || session.in_list : login.ends != 0;

	if (is_hidden || !is_missing)
		return NULL;
	*status = login.done ? EXIT_BROKEN : EXIT_REFUSED;
	if (!login.done)
		return login.name;
	return session.quits ? "QUIT" : "the last command";
}

bool
follow_print_refusal(void)
{
	/* The last line may have no end. */
	if (answers.n > 0)
		end_followed_line(&answers);
	if (login.done || login.refusal[0] == '\0')
		return false;
	warnx("the server answered: %s",
	    answer_printable(login.refusal, sizeof(login.refusal)));
	return true;
}
