/*
 * Accepts a connection from the listening fd 0, which other processes may have
 * as well.
 *
 * Runs as root: in main, and in the listener.
 */
#include "config.h"

#include <sys/socket.h>
#include <sys/time.h>

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>

#include "accept-socket.h"

/* accept is interrupted after it has blocked for this long. */
#define ACCEPT_US 50000

bool
accept_is_listening(void)
{
	int listens = 0;
	socklen_t size = sizeof(listens);

	return getsockopt(0, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) == 0 &&
	    listens;
}

bool
accept_has_connection(int ms)
{
	struct pollfd p = { .fd = 0, .events = POLLIN };

	return poll(&p, 1, ms) > 0;
}

/* Handles SIGALRM, which only has to interrupt accept. */
static void
interrupt_accept(int signal_number)
{
	(void)signal_number;
}

/*
 * After poll has reported a connection, another process with the same socket
 * may take that connection first. Then accept blocks. kpopd does not make the
 * socket non-blocking, because all these processes share that flag. Instead a
 * timer interrupts accept. The timer repeats, because its first signal may come
 * before accept begins.
 */
int
accept_within_limit(struct sockaddr_storage *from)
{
	const struct sigaction alarm = { .sa_handler = interrupt_accept };
	const struct itimerval soon = { { 0, ACCEPT_US }, { 0, ACCEPT_US } };
	const struct itimerval never = { { 0, 0 }, { 0, 0 } };
	socklen_t size = sizeof(*from);
	int fd, error;

	*from = (struct sockaddr_storage){ .ss_family = AF_UNSPEC };
	if (sigaction(SIGALRM, &alarm, NULL) == -1)
		return -1;
	setitimer(ITIMER_REAL, &soon, NULL);
	fd = accept4(0, (struct sockaddr *)from, &size, SOCK_CLOEXEC);
	error = errno;
	setitimer(ITIMER_REAL, &never, NULL);
	errno = error;
	return fd;
}
