/*
 * Answers the clients of a kpopd that cannot start, because of a mistake in its
 * options or because something on the machine is missing for a while.
 *
 * Runs as root, in main before main can serve, and in the monitor if the
 * pre-auth process cannot serve. Sends one line to each client and reads
 * nothing.
 *
 * The superserver starts a listener again for the next connection. But inetd
 * and systemd give up a service that ends too often. Then its port stays
 * closed: with inetd for ten minutes, with systemd until an administrator
 * comes. So a listener that cannot start keeps the socket for a pause, and
 * answers in place of a server.
 */
#include "config.h"

#include <sys/socket.h>

#include <unistd.h>

#include "accept-socket.h"
#include "accept-unable.h"
#include "clock.h"
#include "log.h"

#define TEXT "[SYS/TEMP] the server cannot serve now, try again later"
#define ANSWER "-ERR " TEXT "\r\n"
/*
 * The same as a KRB-ERROR (RFC 4120 §5.9.1) with its length (sendauth.c), for a
 * client that waits for the answer to its AP-REQ. The code is 29,
 * KDC_ERR_SVC_UNAVAILABLE. Clients ignore time, realm and server. The text ends
 * in a NUL, because old clients print it as a C string.
 */
#define KRB_ERROR                                                              \
	"\000\000\000\206"                                                     \
	"~\201\2030\201\200"                                                   \
	"\240\003\002\001\005\241\003\002\001\036"                             \
	"\244\021\030\01720260101000000Z"                                      \
	"\245\003\002\001\000\246\003\002\001\035"                             \
	"\251\007\033\005KPOPD"                                                \
	"\252\0220\020\240\003\002\001\000\241\0110\007\033\005kpopd"          \
	"\253:\0338" TEXT "\000"

_Static_assert(sizeof(KRB_ERROR) - 1 == 4 + 0206, "the length is right");

/*
 * The pause, in ms. By default systemd gives a service up after 5 starts in 10
 * seconds, and openbsd-inetd after 256 in a minute.
 */
#define UNABLE_MS 5000
/* The least time between two accepts, in ms, if accept fails. */
#define BACKOFF_MS 50

static const struct options *options;
static bool is_listener;

void
unable_answer(int fd, bool is_inside_tls, bool is_ticket)
{
	const char *answer = is_ticket ? KRB_ERROR : ANSWER;
	size_t n = is_ticket ? sizeof(KRB_ERROR) - 1 : sizeof(ANSWER) - 1;

	if (options->tls.when != TLS_IMMEDIATE || is_inside_tls)
		send(fd, answer, n, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* Answers each client that connects, until the pause is over. */
static void
answer_all(void)
{
	int64_t now = clock_ms(), end = now + UNABLE_MS;

	for (; now < end; now = clock_ms()) {
		struct sockaddr_storage from;
		int fd;

		if (!accept_has_connection((int)(end - now)))
			continue;
		if ((fd = accept_within_limit(&from)) == -1) {
			usleep(BACKOFF_MS * 1000);
			continue;
		}
		unable_answer(fd, false, false);
		close(fd);
	}
}

/* What a fatal error does before the process ends. */
static void
answer_clients(void)
{
	if (is_listener)
		answer_all();
	else
		unable_answer(0, false, false);
}

void
unable_begin(const struct options *o, bool listens)
{
	options = o;
	is_listener = listens;
	log_before_end(answer_clients);
}

void
unable_end(void)
{
	log_before_end(NULL);
}
