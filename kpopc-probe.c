/*
 * Probes a server for a monitoring system: logs in, sends STAT and QUIT, and
 * reports the result in one line.
 *
 * Runs as the caller. One process supervises another, which does the work with
 * the rest of kpopc. So the time limit holds whatever the other waits for, even
 * in a library, and each error that the other prints becomes the one line. The
 * server is not trusted, see kpopc-report.c.
 */
#include "config.h"

#include <sys/socket.h>
#include <sys/wait.h>

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "clock.h"
#include "kpopc.h"
#include "process.h"

#define NUMBER_DIGITS 18 /* of a number in the answer to STAT, at most */

/*
 * Reads what the other process prints as its errors until it ends. Stores the
 * first bytes in text[REPORT_TEXT]. Returns false if the deadline, a time of
 * clock_ms, comes first.
 */
static bool
read_errors(int fd, char *text, int64_t deadline)
{
	static char rest[REPORT_TEXT];
	struct pollfd p = { .fd = fd, .events = POLLIN };
	size_t n = 0;

	for (;;) {
		int64_t left = deadline - clock_ms();
		size_t room = REPORT_TEXT - 1 - n;
		ssize_t got;

		text[n] = '\0';
		if (left <= 0)
			return false;
		if (poll(&p, 1, (int)left) != 1)
			continue;
		got = read(fd, room > 0 ? text + n : rest,
		    room > 0 ? room : sizeof(rest));
		if (got == 0)
			return true;
		if (got > 0 && room > 0)
			n += (size_t)got;
	}
}

/*
 * Returns the first of the error messages, without the program's name before
 * it, which a link may have changed. The first has caused the others.
 */
static const char *
first_message(char *text)
{
	size_t n = strcspn(text, " \n");

	text[strcspn(text, "\n")] = '\0';
	return n > 0 && text[n - 1] == ':' && text[n] == ' ' ? text + n + 1 :
							       text;
}

/*
 * Waits for the process pid, whose errors come from fd, and prints the line.
 * Returns the exit status.
 */
static int
supervise(const struct options *o, pid_t pid, int fd)
{
	static char text[REPORT_TEXT];
	int64_t deadline = clock_ms() + (int64_t)(o->limit * 1000);
	int how = 0;

	if (!read_errors(fd, text, deadline)) {
		/*
		 * The kernel kills the other process when this one ends. Do not
		 * wait for that, because a file system may delay it.
		 */
		snprintf(text, sizeof(text), "not done after %g s", o->limit);
		return report_obstacle(text);
	}
	if (process_wait(pid, &how, 0) == -1)
		report_give_up(strerror(errno));
	if (how == 0)
		return report_result(o);
	if (WIFSIGNALED(how) || text[0] == '\0')
		snprintf(text, sizeof(text), "kpopc ended with wait status %#x",
		    (unsigned)how);
	return report_obstacle(first_message(text));
}

/*
 * Makes this process end with its parent, the supervisor, print nothing and
 * read nothing.
 */
static void
obey_supervisor(pid_t supervisor, int errors)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (null == -1 || dup2(errors, STDERR_FILENO) == -1 ||
	    dup2(null, STDIN_FILENO) == -1 || dup2(null, STDOUT_FILENO) == -1)
		err(EXIT_REFUSED, "cannot begin");
	if (!process_follow(supervisor))
		exit(EXIT_REFUSED);
}

void
probe_start(const struct options *o)
{
	int errors[2];
	pid_t pid, supervisor = getpid();

	report_begin();
	if (pipe2(errors, O_CLOEXEC) == -1 || (pid = fork()) == -1)
		report_give_up(strerror(errno));
	if (pid != 0) {
		close(errors[1]);
		exit(supervise(o, pid, errors[0]));
	}
	obey_supervisor(supervisor, errors[1]);
	close(errors[0]);
	close(errors[1]);
}

/*
 * Logs in as the user. If the server reports that another session has the
 * mailbox, it has let the probe in, so this is only a warning.
 */
static void
log_in(struct conn *c, const struct options *o, const char *user)
{
	static const char in_use[] = "-ERR [IN-USE]";
	const char *answer = login_as(c, o, user);

	if (strncasecmp(answer, in_use, sizeof(in_use) - 1) == 0)
		report_rate(VERDICT_WARNING);
	answer_expect_good(answer);
}

/* Reads a decimal number at *text, and sets *text to its end. */
static bool
take_count(const char **text, uint64_t *number)
{
	size_t n = strspn(*text, "0123456789");

	if (n == 0 || n > NUMBER_DIGITS)
		return false;
	*number = strtoull(*text, NULL, 10);
	*text += n;
	return true;
}

/*
 * Reports the numbers in an answer to STAT. A blank and more text may follow
 * the numbers (RFC 1939 section 5).
 */
static void
read_stat(const char *answer)
{
	const char *p = answer + strlen("+OK ");
	uint64_t messages, bytes;

	if (strncmp(answer, "+OK ", strlen("+OK ")) != 0 ||
	    !take_count(&p, &messages) || *p++ != ' ' ||
	    !take_count(&p, &bytes) || (*p != '\0' && *p != ' '))
		errx(EXIT_BROKEN, "the answer to STAT has no two numbers: %s",
		    answer_printable(answer, TEXT_MAX));
	report_maildrop(messages, bytes);
}

void
probe_session(struct conn *c, const struct options *o, const char *user)
{
	if (!login_is_word(user)) {
		report_rate(VERDICT_UNKNOWN);
		errx(EXIT_REFUSED, "not a user's name (see -l)");
	}
	report_user(user);
	log_in(c, o, user);
	report_enter(PHASE_STAT);
	read_stat(answer_expect_good(conn_ask(c, "STAT")));
	report_enter(PHASE_QUIT);
	answer_expect_good(conn_ask(c, "QUIT"));
	shutdown(c->fd, SHUT_WR);
}
