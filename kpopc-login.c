/*
 * Obeys the program on standard input until the login, and turns its USER and
 * PASS into AUTH.
 *
 * Runs as the caller. Until the server has proven its identity by its
 * certificate or by Kerberos, its bytes may come from an attacker. Of these
 * bytes only the answer to AUTH reaches standard output, encoded by vis(3).
 * kpopc writes all other answers itself.
 */
#include "config.h"

#include <sys/socket.h>

#include <ctype.h>
#include <err.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "kpopc.h"

#define CAPABILITIES 100 /* most lines of an answer to CAPA */

void
login_greet(struct conn *c, const struct options *o)
{
	const char *answer = conn_read_answer(c);

	if (!answer_is_good(answer))
		answer_give_up(answer);
	if (o->tls)
		tls_begin(c, o);
	conn_answer_program("+OK USER and PASS come next");
}

/*
 * Returns the capability that a line of the server names, in kpopc's own
 * spelling, or NULL if kpopc does not pass it on.
 */
static const char *
known_capability(const char *line)
{
	static const char *const known[] = { "TOP", "UIDL", "PIPELINING",
		"RESP-CODES", "AUTH-RESP-CODE" };

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (strcasecmp(line, known[i]) == 0)
			return known[i];
	return NULL;
}

/*
 * Answers CAPA with USER, which kpopc turns into AUTH, and the server's
 * capabilities that kpopc supports.
 */
static void
answer_capa(const struct conn *c)
{
	const char *answer, *capability;
	int lines = 0;

	conn_answer_program("+OK capabilities follow");
	conn_answer_program("USER");
	if (answer_is_good(conn_ask(c, "CAPA")))
		while (strcmp(answer = conn_read_answer(c), ".") != 0) {
			if (++lines > CAPABILITIES)
				errx(EXIT_REFUSED,
				    "the server's capabilities do not end");
			if ((capability = known_capability(answer)) != NULL)
				conn_answer_program(capability);
		}
	conn_answer_program(".");
}

/* Sends QUIT to the server, because the program has sent it. */
static void
quit_server(const struct conn *c)
{
	conn_ask(c, "QUIT");
	conn_answer_program("+OK bye");
}

bool
login_serve(struct conn *c, const struct options *o)
{
	static char text[LINE_MOST];
	char user[LINE_USER + 1] = "";
	const char *answer;
	bool is_first = o->listen != NULL;

	while (conn_read_program(text)) {
		char *rest = text, *verb;

		if (is_first)
			follow_check_first(text);
		is_first = false;
		verb = strsep(&rest, " ");
		/* The limit counts the server's time, not the program's. */
		conn_limit_time(EXCHANGE_SECONDS);
		if (strcasecmp(verb, "USER") == 0 && rest != NULL &&
		    strlcpy(user, rest, sizeof(user)) < sizeof(user))
			conn_answer_program(
			    "+OK PASS comes next, with anything");
		else if (strcasecmp(verb, "PASS") == 0 && user[0] != '\0') {
			answer = auth_login(c, o, user);
			/* The server would refuse the same ticket again. */
			if (!answer_is_good(answer))
				answer_give_up(answer);
			conn_unlimit_time();
			return true;
		} else if (strcasecmp(verb, "CAPA") == 0)
			answer_capa(c);
		else if (strcasecmp(verb, "QUIT") == 0) {
			quit_server(c);
			break;
		} else
			conn_answer_program("-ERR USER and PASS come first");
		conn_unlimit_time();
	}
	conn_unlimit_time();
	shutdown(c->fd, SHUT_WR);
	return false;
}

bool
login_is_word(const char *text)
{
	size_t n = strlen(text);

	for (size_t i = 0; i < n; i++)
		if (iscntrl((unsigned char)text[i]))
			return false;
	return n > 0 && n <= LINE_USER;
}

const char *
login_as(struct conn *c, const struct options *o, const char *user)
{
	char command[sizeof("USER ") + LINE_USER];
	const char *answer;

	if (o->pop3 && o->password == NULL)
		return auth_login(c, o, user);
	snprintf(command, sizeof(command), "USER %s", user);
	answer_expect_good(conn_ask(c, command));
	snprintf(command, sizeof(command), "PASS %s",
	    o->password != NULL ? o->password : "x");
	answer = conn_ask(c, command);
	explicit_bzero(command, sizeof(command));
	return answer;
}
