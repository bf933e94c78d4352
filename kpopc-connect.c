/*
 * Connects to the host: tries its addresses in turn, each with a time limit.
 *
 * Runs as the caller.
 */
#include "config.h"

#include <sys/socket.h>

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <unistd.h>

#include "kpopc.h"

#define KPOP_PORT "1109"
#define POP3_PORT "110"
#define CONNECT_SECONDS 10 /* for each of the host's addresses */

/* Returns the port's number or name. */
static const char *
port_of(const struct options *o)
{
	if (o->port != NULL)
		return o->port;
	if (o->pop3)
		return POP3_PORT;
	return getservbyname("kpop", "tcp") != NULL ? "kpop" : KPOP_PORT;
}

/* Connects fd within this many seconds. Returns 0, or -1 with errno. */
static int
connect_within(int fd, const struct addrinfo *a, int seconds)
{
	struct pollfd p = { .fd = fd, .events = POLLOUT };
	int flags = fcntl(fd, F_GETFL), failure = 0, n;
	socklen_t size = sizeof(failure);

	if (flags == -1 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) == -1)
		return -1;
	if (connect(fd, a->ai_addr, a->ai_addrlen) == -1) {
		if (errno != EINPROGRESS)
			return -1;
		/* SIGSTOP and SIGCONT interrupt poll; wait again. */
		while ((n = poll(&p, 1, seconds * 1000)) == -1 &&
		    errno == EINTR)
			;
		if (n != 1) {
			errno = n == 0 ? ETIMEDOUT : errno;
			return -1;
		}
		if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &failure, &size) == -1)
			return -1;
		if ((errno = failure) != 0)
			return -1;
	}
	return fcntl(fd, F_SETFL, flags);
}

/*
 * Makes the kernel probe a server that has sent nothing for a minute. If the
 * server does not reply for another minute, the kernel ends the connection.
 * Without the probes kpopc would wait forever for a server that has
 * disappeared. The server may take any time for an answer, because it may have
 * to finish a long removal first. A failure is ignored, because everything else
 * still works.
 */
static void
watch_server(int fd)
{
	const int on = 1, first = 60, interval = 10, probes = 6;

	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &first, sizeof(first));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof(interval));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof(probes));
}

int
connect_to(const struct options *o)
{
	const struct addrinfo hints = { .ai_family = o->family,
		.ai_socktype = SOCK_STREAM };
	struct addrinfo *list, *a;
	const char *port = port_of(o);
	int fd = -1, error = getaddrinfo(o->host, port, &hints, &list);

	progress->advice = "cannot reach the mail server: try later";
	if (error != 0)
		errx(EXIT_REFUSED, "%s port %s: %s", o->host, port,
		    gai_strerror(error));
	for (a = list; a != NULL; a = a->ai_next) {
		fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC, 0);
		if (fd != -1 && connect_within(fd, a, CONNECT_SECONDS) == 0)
			break;
		error = errno;
		if (fd != -1)
			close(fd);
		fd = -1;
		errno = error;
	}
	if (fd == -1)
		err(EXIT_REFUSED, "%s port %s", o->host, port);
	freeaddrinfo(list);
	progress->advice = NULL;
	watch_server(fd);
	conn_send_at_once(fd);
	return fd;
}
