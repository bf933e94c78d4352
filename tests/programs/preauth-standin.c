/*
 * Sends to the monitor what kpopd's children never send, but a compromised
 * child could.
 *
 * 	preauth-standin PID KIND SEED
 * 	preauth-standin PID line EVENT TEXT [COUNT [PRIORITY]]
 * 	preauth-standin PID flood EVENT TEXT
 * 	preauth-standin PID message KIND TEXT
 *
 * Uses the channel of the process PID. This process is a pre-auth process that
 * the test has stopped, or another child of the monitor. KIND selects the kind
 * of packets. SEED selects random packets. Runs as root, from tests.
 */
#include "config.h"

#include <sys/socket.h>
#include <sys/syscall.h>

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "log.h"
#include "message.h"
#include "packet.h"

/*
 * Returns a copy of the descriptor of the channel to the monitor. The channel
 * is the last SEQPACKET socket of the process. A session's first SEQPACKET
 * socket leads to the broker instead.
 */
static int
take_channel(pid_t pid)
{
	int process = (int)syscall(SYS_pidfd_open, pid, 0), channel = -1;

	if (process == -1)
		err(1, "pidfd_open");
	for (int n = 0; n < 64; n++) {
		int fd = (int)syscall(SYS_pidfd_getfd, process, n, 0), type = 0;
		socklen_t size = sizeof(type);

		if (fd == -1)
			continue;
		if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) == 0 &&
		    type == SOCK_SEQPACKET)
			channel = fd;
	}
	if (channel == -1)
		errx(1, "no channel in %d", (int)pid);
	return channel;
}

static struct preauth_message
good(char kind)
{
	struct preauth_message r = { .kind = kind };

	strlcpy(r.user, "alice", sizeof(r.user));
	strlcpy(r.peer.principal, "alice@KPOPD.TEST", sizeof(r.peer.principal));
	strlcpy(r.peer.layer, "none", sizeof(r.peer.layer));
	return r;
}

/* Sends a packet with 32 descriptors. */
static ssize_t
send_descriptors(int channel, const void *data, size_t n)
{
	struct iovec space = { .iov_base = (void *)data, .iov_len = n };
	union {
		char space[CMSG_SPACE(32 * sizeof(int))];
		struct cmsghdr align;
	} control = { .space = { 0 } };
	struct msghdr message = { .msg_iov = &space,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control) };
	struct cmsghdr *c = CMSG_FIRSTHDR(&message);
	int fds[32];

	for (int i = 0; i < 32; i++)
		fds[i] = open("/etc/shadow", O_RDONLY | O_CLOEXEC);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(fds));
	memcpy(CMSG_DATA(c), fds, sizeof(fds));
	return sendmsg(channel, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* Makes the message invalid in one of several ways. */
static void
spoil(struct preauth_message *r, unsigned how)
{
	switch (how % 8) {
	case 0:
		memset(r->user, 'a', sizeof(r->user));
		break;
	case 1:
		memset(r->peer.service, 's', sizeof(r->peer.service));
		break;
	case 2:
		memset(r->peer.principal, 'p', sizeof(r->peer.principal));
		break;
	case 3:
		r->unread_size = sizeof(r->unread) + 1;
		break;
	case 4:
		r->unread_size = UINT32_MAX;
		break;
	case 5:
		r->kind = (char)(r->kind ^ 0x55);
		break;
	case 6:
		strlcpy(r->address.text, "1.2.3.4:5\ninjected",
		    sizeof(r->address.text));
		break;
	default:
		memset(r->peer.layer, 'l', sizeof(r->peer.layer));
	}
}

/* Sends log lines. Returns the result of the last send. */
static ssize_t
send_lines(int channel, const char *event, const char *text, int count,
    int priority)
{
	struct log_packet p = { .kind = LOG_LINE,
		.priority = (unsigned char)priority };
	ssize_t n = 1;

	strlcpy(p.event, event, sizeof(p.event));
	strlcpy(p.text, text, sizeof(p.text));
	while (count-- > 0 && n != -1)
		n = send(channel, &p,
		    offsetof(struct log_packet, text) + strlen(p.text),
		    MSG_NOSIGNAL);
	return n;
}

/*
 * Requests a layer. Then sends to the relay n bytes that are not a GSSAPI
 * context.
 */
static ssize_t
mislead_relay(int channel, struct preauth_message *r, const void *data,
    size_t n)
{
	char verdict;
	int handoff;

	r->kind = MESSAGE_LAYER;
	if (message_send_preauth(channel, r) == -1 ||
	    packet_await(channel, &verdict, 1, &handoff, 1) == -1)
		return -1;
	return send(handoff, data, n, MSG_NOSIGNAL);
}

/*
 * Sends lines until the other end is closed. Does not sleep while the socket is
 * full.
 */
static ssize_t
flood(int channel, const char *event, const char *text)
{
	struct log_packet p = { .kind = LOG_LINE, .priority = LOG_NOTICE };

	strlcpy(p.event, event, sizeof(p.event));
	strlcpy(p.text, text, sizeof(p.text));
	while (send(channel, &p,
		   offsetof(struct log_packet, text) + strlen(p.text),
		   MSG_NOSIGNAL | MSG_DONTWAIT) != -1 ||
	    errno == EAGAIN)
		;
	return 1;
}

/* Sends a message of a session, a broker or a recovery. */
static ssize_t
send_message(int channel, char kind, const char *text)
{
	struct session_message m = { .kind = kind };

	strlcpy(m.text, text, sizeof(m.text));
	return send(channel, &m, sizeof(m), MSG_NOSIGNAL);
}

int
main(int argc, char **argv)
{
	static char large[200000];
	const char *kind;
	struct preauth_message r;
	int channel;
	ssize_t n = -1;

	if (argc < 4)
		errx(2, "usage: preauth-standin PID KIND SEED");
	kind = argv[2];
	srandom((unsigned)atoi(argv[3]));
	channel = take_channel(atoi(argv[1]));
	r = good(MESSAGE_LOGIN);
	for (size_t i = 0; i < sizeof(large); i++)
		large[i] = (char)random();
	if (strcmp(kind, "line") == 0 && argc > 4)
		n = send_lines(channel, argv[3], argv[4],
		    argc > 5 ? atoi(argv[5]) : 1,
		    argc > 6 ? atoi(argv[6]) : LOG_NOTICE);
	else if (strcmp(kind, "flood") == 0 && argc > 4)
		n = flood(channel, argv[3], argv[4]);
	else if (strcmp(kind, "message") == 0 && argc > 4)
		n = send_message(channel, argv[3][0], argv[4]);
	else if (strcmp(kind, "layer") == 0) {
		r.kind = MESSAGE_LAYER;
		n = send(channel, &r, sizeof(r), MSG_NOSIGNAL);
	} else if (strcmp(kind, "relay") == 0)
		n = mislead_relay(channel, &r, large,
		    (size_t)random() % 70000 + 1);
	else if (strcmp(kind, "peer") == 0) {
		r.kind = MESSAGE_PEER;
		strlcpy(r.address.text, "192.0.2.66:1", sizeof(r.address.text));
		n = send(channel, &r, sizeof(r), MSG_NOSIGNAL);
	} else if (strcmp(kind, "login") == 0)
		n = message_send_preauth(channel, &r) == 0 ? 1 : -1;
	else if (strcmp(kind, "empty") == 0)
		n = send(channel, "", 0, MSG_NOSIGNAL);
	else if (strcmp(kind, "size") == 0)
		n = send(channel, large, (size_t)random() % sizeof(large),
		    MSG_NOSIGNAL);
	else if (strcmp(kind, "short") == 0)
		n = send(channel, &r, sizeof(r) - 1, MSG_NOSIGNAL);
	else if (strcmp(kind, "random") == 0)
		n = send(channel, large, sizeof(r), MSG_NOSIGNAL);
	else if (strcmp(kind, "spoiled") == 0) {
		spoil(&r, (unsigned)random());
		n = send(channel, &r, sizeof(r), MSG_NOSIGNAL);
	} else if (strcmp(kind, "descriptors") == 0)
		n = send_descriptors(channel, &r, sizeof(r));
	else if (strcmp(kind, "questions") == 0) {
		/* The monitor accepts only the first request of each kind. */
		for (int i = 0; i < 1000; i++) {
			r.kind = i % 2 == 0 ? MESSAGE_TLS : MESSAGE_LAYER;
			if (send(channel, &r, sizeof(r),
				MSG_NOSIGNAL | MSG_DONTWAIT) > 0)
				n = 1;
		}
	} else
		errx(2, "no such kind: %s", kind);
	if (n == -1)
		err(1, "send");
	return 0;
}
