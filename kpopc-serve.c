/*
 * Serves one local program: starts a session with the server for it, and
 * answers the program itself if there is no session.
 *
 * Runs as the caller, with --listen, in one process for each connection. A
 * process of its own has the session. The program is of the same user, but a
 * browser may be that program, so the session obeys only a client of POP3.
 */
#include "config.h"

#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <ctype.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "kpopc.h"
#include "process.h"

#define STAND_IN_SECONDS 60 /* for a program that gets no session */
#define REASON_MOST 480     /* bytes; a line of POP3 has at most 512 */

/* Makes the progress shared with the processes that will be started. */
static void
share_progress(void)
{
	void *shared = mmap(NULL, sizeof(*progress), PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (shared == MAP_FAILED)
		err(EXIT_REFUSED, "mmap");
	progress = shared;
}

/*
 * Starts the process of the session. Descriptors 0 and 1 are the program's
 * connection. Returns the pid, and stores in *errors a descriptor that reads
 * what the session writes to standard error.
 */
static pid_t
start_local_session(const struct options *o,
    int (*run)(const struct options *o), int *errors)
{
	int ends[2];
	pid_t pid, parent = getpid();

	if (pipe2(ends, O_CLOEXEC) == -1)
		err(EXIT_REFUSED, "pipe");
	if ((pid = fork()) == -1)
		err(EXIT_REFUSED, "fork");
	if (pid == 0) {
		if (!process_follow(parent))
			exit(EXIT_REFUSED);
		if (dup2(ends[1], STDERR_FILENO) == -1)
			_exit(EXIT_REFUSED);
		close(ends[0]);
		close(ends[1]);
		exit(run(o));
	}
	close(ends[1]);
	*errors = ends[0];
	return pid;
}

/*
 * Returns for how many ms neither the program nor kpopc has sent anything. If
 * the kernel does not report that, returns 0.
 */
static long
idle_ms(void)
{
	struct tcp_info info;
	socklen_t size = sizeof(info);

	if (getsockopt(STDIN_FILENO, IPPROTO_TCP, TCP_INFO, &info, &size) == -1)
		return 0;
	return info.tcpi_last_data_sent < info.tcpi_last_data_recv ?
	    info.tcpi_last_data_sent :
	    info.tcpi_last_data_recv;
}

/*
 * Copies what the session writes to standard error, until it ends. Keeps the
 * beginning in reason[REASON_MOST]. Ends the session if it is idle for too
 * long.
 */
static void
follow_errors(int errors, pid_t session, long idle_most, char *reason)
{
	struct pollfd p = { .fd = errors, .events = POLLIN };
	char text[REASON_MOST];
	size_t have = 0, room;
	long left;
	ssize_t n;

	for (;;) {
		left = idle_most - idle_ms();
		if (left <= 0) {
			warnx("ended a connection that was idle");
			kill(session, SIGKILL);
			progress->is_over = true;
			break;
		}
		if (poll(&p, 1, (int)(left + 1)) < 1)
			continue;
		if ((n = read(errors, text, sizeof(text))) <= 0)
			break;
		/* If this fails, the program still gets its answer. */
		fwrite(text, 1, (size_t)n, stderr);
		room = REASON_MOST - 1 - have;
		room = (size_t)n < room ? (size_t)n : room;
		memcpy(reason + have, text, room);
		have += room;
	}
	reason[have] = '\0';
	close(errors);
}

/*
 * Writes into answer[TEXT_MAX] the refusal for the program: the advice, or the
 * first line of the reason.
 */
static void
make_refusal(char *answer, const char *reason)
{
	static const char name[] = "kpopc: ";
	size_t n;

	if (strncmp(reason, name, strlen(name)) == 0)
		reason += strlen(name);
	snprintf(answer, TEXT_MAX, "-ERR [%s] %s",
	    progress->lacks_ticket ? "AUTH" : "SYS/TEMP",
	    progress->advice != NULL ? progress->advice :
		*reason != '\0'      ? reason :
				       "kpopc failed without a reason");
	answer[strcspn(answer, "\n")] = '\0';
	n = strlen(answer);
	for (size_t i = 0; i < n; i++)
		if (!isprint((unsigned char)answer[i]))
			answer[i] = '?';
}

/*
 * Greets the program in place of the server, and refuses its login. The refusal
 * is the answer to USER, because some programs do not show a greeting or an
 * answer to PASS that is a refusal: see kpopc(1), LISTENING.
 */
static void
stand_in(const char *refusal)
{
	static char line[LINE_MOST];

	conn_answer_program("+OK USER and PASS come next");
	while (conn_read_program(line)) {
		line[strcspn(line, " ")] = '\0';
		if (strcasecmp(line, "CAPA") == 0)
			conn_answer_program("+OK capabilities follow\r\n"
					    "USER\r\nRESP-CODES\r\n"
					    "AUTH-RESP-CODE\r\n.");
		else if (strcasecmp(line, "QUIT") == 0) {
			conn_answer_program("+OK bye");
			return;
		} else
			conn_answer_program(refusal);
	}
}

int
serve_program(int fd, pid_t parent, const struct options *o,
    int (*run)(const struct options *o))
{
	char reason[REASON_MOST] = "", refusal[TEXT_MAX];
	int errors, status;
	pid_t session;

	if (!process_follow(parent))
		exit(EXIT_REFUSED);
	if (dup2(fd, STDIN_FILENO) == -1 || dup2(fd, STDOUT_FILENO) == -1)
		err(EXIT_REFUSED, "dup2");
	close(fd);
	conn_send_at_once(STDOUT_FILENO);
	share_progress();
	session = start_local_session(o, run, &errors);
	follow_errors(errors, session, o->idle * 1000, reason);
	if (process_wait(session, &status, 0) == -1 || status == 0 ||
	    progress->is_over)
		return EXIT_DONE;
	make_refusal(refusal, reason);
	/* The program may not read, or not write. */
	signal(SIGALRM, SIG_DFL);
	alarm(STAND_IN_SECONDS);
	if (progress->has_answered)
		conn_answer_program(refusal);
	else
		stand_in(refusal);
	return EXIT_DONE;
}
