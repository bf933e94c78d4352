/*
 * Asks a kept kpopd-tls (keep-serve.c) to do TLS for a connection.
 *
 * Runs as root, in the monitor. The kept kpopd-tls runs as the TLS user and
 * reads nothing from clients. Only after its answer does the monitor send the
 * client's socket, to the process that the answer names. So if no answer comes
 * in time, the monitor can start a kpopd-tls of its own, and two processes
 * never serve the same client.
 */
#include "config.h"

#include <sys/socket.h>

#include <errno.h>
#include <poll.h>
#include <unistd.h>

#include "keep-ask.h"
#include "log.h"
#include "packet.h"

/*
 * The monitor waits this long for the answer, which takes a millisecond if the
 * kept kpopd-tls does not hang.
 */
#define ANSWER_MS 1000

/*
 * Connects to the kept kpopd-tls. Returns the socket, or -1. An error is logged
 * unless it only means that no kpopd-tls is kept.
 */
static int
reach(const char *state)
{
	struct sockaddr_un address;
	int fd;

	if (keep_address(&address, state) == -1)
		return -1;
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd == -1)
		fatal("socket");
	/* Only root can make a socket there, or connect to it. */
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
		return fd;
	if (errno != ENOENT && errno != ECONNREFUSED)
		log_failed_at(LOG_WARNING, NULL,
		    "connecting to the kept kpopd-tls");
	close(fd);
	return -1;
}

/* Waits for the answer on p->control. Returns 0 with the rest of *p, or -1. */
static int
await_answer(struct keep_process *p)
{
	struct pollfd event = { .fd = p->control, .events = POLLIN };
	struct keep_answer answer;
	int result;

	do
		result = poll(&event, 1, ANSWER_MS);
	while (result == -1 && errno == EINTR);
	if (result == 0)
		log_failed_at(LOG_WARNING, "it does not answer",
		    "asking the kept kpopd-tls");
	if (result != 1 ||
	    packet_await(p->control, &answer, sizeof(answer), &p->process, 1) ==
		-1)
		return -1;
	/* monitor-watch.c takes 0 for a child that is not there. */
	if (answer.pid <= 0) {
		close(p->process);
		return -1;
	}
	p->pid = answer.pid;
	return 0;
}

int
keep_ask(const char *state, const struct keep_setup *setup, int cleartext,
    int channel, struct keep_process *p)
{
	const int fds[2] = { cleartext, channel };

	if ((p->control = reach(state)) == -1)
		return -1;
	if (packet_send(p->control, setup, sizeof(*setup), fds, 2) == 0 &&
	    await_answer(p) == 0)
		return 0;
	close(p->control);
	return -1;
}

int
keep_give_client(const struct keep_process *p, int client)
{
	return packet_send(p->control, "", 1, &client, 1);
}
