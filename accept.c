/*
 * Accepts connections on a listening fd 0, and makes a process of each.
 *
 * Runs as root: the listener, which inetd or systemd starts once for many
 * connections. It looks at addresses, counts and forks; of what clients send it
 * reads nothing, and it never has a key. A session's processes are those that
 * inetd would have started: the child is the monitor, and only the exec is
 * saved.
 *
 * inetd has the same socket and listens again when this process has ended; so
 * whatever waits in the kernel's queue is served, by this process or the next.
 */
#include "config.h"

#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "accept.h"
#include "io.h"
#include "log.h"

#define NO_PLACE "-ERR [SYS/TEMP] too many connections, try again later\r\n"
/* After an error that is not the connection's own, such as no more descriptors. */
#define REST_MS 500
/* An accept that has nothing to take any more is given up. */
#define TAKE_US 50000

enum trouble { TROUBLE_ALL, TROUBLE_EACH, TROUBLE_RATE, TROUBLE_FORK, TROUBLE_ACCEPT, TROUBLES };

struct listener {
	const struct accept_plan *plan;
	struct crowd *table;
	int signals;
	int64_t rest;  /* until then nothing is accepted */
	int64_t since; /* when somebody came or went last */
	bool is_over;
	struct log_limit troubles[TROUBLES];
};

bool
accept_is_due(void)
{
	int listens = 0;
	socklen_t size = sizeof(listens);

	return getsockopt(0, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) == 0 && listens;
}

/* One line a minute for each sort, however often it happens: whoever can connect could flood syslog. */
static void
tell(struct listener *l, enum trouble t, const char *address)
{
	static const char *const texts[TROUBLES] = {
		[TROUBLE_ALL] = "too many sessions",
		[TROUBLE_EACH] = "too many sessions from this address",
		[TROUBLE_RATE] = "too many connections in a second, they wait",
		[TROUBLE_FORK] = "making a process for a connection",
		[TROUBLE_ACCEPT] = "accepting a connection",
	};
	int error = errno;
	unsigned more;

	if (!log_due(&l->troubles[t], &more))
		return;
	log_peer(address);
	if (t == TROUBLE_FORK || t == TROUBLE_ACCEPT)
		log_event(LOG_ERR, "failed", "what=\"%s\" error=\"%s\" more=%u",
		    texts[t], strerror(error), more);
	else
		log_event(LOG_NOTICE, "refused", "reason=\"%s\" more=%u", texts[t], more);
	log_peer("none");
}

/* One word to whom there is no place for, if it costs no waiting. */
static void
turn_away(struct listener *l, int fd, enum trouble t, const char *address)
{
	tell(l, t, address);
	if (!l->plan->quiet)
		send(fd, NO_PLACE, sizeof(NO_PLACE) - 1, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* The child: as inetd would have started it, with the connection and nothing of the listener's. */
_Noreturn static void
become_session(struct listener *l, int fd)
{
	sigset_t none;

	if (dup2(fd, 0) == -1 || dup2(fd, 1) == -1)
		fatal("dup2");
	close(fd);
	close(l->signals);
	signal(SIGALRM, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	l->plan->serve(l->plan->self);
	_exit(0);
}

static void
begin_session(struct listener *l, int fd, const struct sockaddr_storage *from)
{
	struct address_net net;
	const struct address_net *counted = address_net(from, &net) ? &net : NULL;
	char address[ADDRESS_TEXT];
	enum crowd_verdict verdict = crowd_judge(l->table, counted);
	pid_t pid;

	if (address_text(from, address) == -1)
		return;
	if (verdict != CROWD_FINE) {
		turn_away(l, fd, verdict == CROWD_ALL ? TROUBLE_ALL : TROUBLE_EACH, address);
		return;
	}
	if ((pid = fork()) == -1) {
		turn_away(l, fd, TROUBLE_FORK, address);
		return;
	}
	if (pid == 0)
		become_session(l, fd);
	crowd_add(l->table, pid, counted, io_now());
}

/* Interrupts an accept. */
static void
ring(int signal_number)
{
	(void)signal_number;
}

/*
 * A connection, or -1. That there was one a moment ago does not say that there
 * is one still: others may have the socket, and whether it blocks is theirs to
 * say as well. So a timer ends the wait, again and again, in case it rings
 * before accept begins.
 */
static int
take(struct sockaddr_storage *from)
{
	const struct itimerval soon = { { 0, TAKE_US }, { 0, TAKE_US } }, never = { { 0, 0 }, { 0, 0 } };
	socklen_t size = sizeof(*from);
	int fd, error;

	*from = (struct sockaddr_storage){ .ss_family = AF_UNSPEC };
	setitimer(ITIMER_REAL, &soon, NULL);
	fd = accept4(0, (struct sockaddr *)from, &size, SOCK_CLOEXEC);
	error = errno;
	setitimer(ITIMER_REAL, &never, NULL);
	errno = error;
	return fd;
}

static void
accept_one(struct listener *l)
{
	struct sockaddr_storage from;
	int fd = take(&from);

	l->since = io_now();
	if (fd != -1) {
		begin_session(l, fd, &from);
		close(fd);
		return;
	}
	switch (errno) {
	case EAGAIN:
	case EINTR:
	case ECONNABORTED:
		return;
	case EBADF:
	case EINVAL:
	case ENOTSOCK:
		fatal("accept");
	default:
		/* Too few of something; or the network's, which accept(2) has return from here. */
		tell(l, TROUBLE_ACCEPT, "none");
		l->rest = io_now() + REST_MS;
	}
}

static void
reap(struct listener *l)
{
	pid_t pid;
	int status;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		if (crowd_remove(l->table, pid))
			l->since = io_now();
}

static void
hear_signals(struct listener *l)
{
	struct signalfd_siginfo s;

	while (read(l->signals, &s, sizeof(s)) == (ssize_t)sizeof(s)) {
		if (s.ssi_signo == SIGTERM)
			l->is_over = true;
		if (s.ssi_signo == SIGHUP)
			l->plan->reload(l->plan->self);
	}
	/* Several ends may be one signal. */
	reap(l);
}

/* How long to wait for a connection or a signal, ms, and in *may_accept whether a connection is wanted now. */
static int
patience(struct listener *l, bool *may_accept)
{
	int64_t now = io_now(), left = -1;
	int wait = crowd_wait(l->table, now);

	*may_accept = wait == 0 && now >= l->rest;
	if (now < l->rest)
		left = l->rest - now;
	else if (wait > 0)
		left = wait;
	else if (l->table->count == 0 && l->plan->idle > 0) {
		left = l->since + (int64_t)l->plan->idle * 1000 - now;
		l->is_over = l->is_over || left <= 0;
	}
	return left < INT_MAX ? (int)left : INT_MAX;
}

/* Whether a connection waits now. */
static bool
is_wanted(void)
{
	struct pollfd p = { .fd = 0, .events = POLLIN };

	return poll(&p, 1, 0) > 0;
}

/* Signals are heard between connections and nowhere else; they have no handlers, but for the timer's. */
static int
hold_signals(void)
{
	const struct sigaction bell = { .sa_handler = ring };
	sigset_t heard;
	int fd;

	sigemptyset(&heard);
	sigaddset(&heard, SIGCHLD);
	sigaddset(&heard, SIGHUP);
	sigaddset(&heard, SIGTERM);
	if (sigprocmask(SIG_BLOCK, &heard, NULL) == -1 || sigaction(SIGALRM, &bell, NULL) == -1 ||
	    (fd = signalfd(-1, &heard, SFD_CLOEXEC | SFD_NONBLOCK)) == -1)
		fatal("preparing for signals");
	return fd;
}

/* Who is connected is no business of the sessions': children do not have this memory. */
static struct crowd *
make_table(const struct crowd_limits *most)
{
	size_t size = crowd_size(most);
	struct crowd *t = mmap(NULL, size, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (t == MAP_FAILED || madvise(t, size, MADV_DONTFORK) == -1)
		fatal("making the table of sessions");
	crowd_init(t, most, io_now());
	return t;
}

int
accept_connections(const struct accept_plan *plan)
{
	struct listener l = { .plan = plan, .since = io_now() };

	l.table = make_table(plan->limits);
	l.signals = hold_signals();
	/* All that the kernel has room for may wait, not inetd's few: who finds no place tries again only after a second. */
	listen(0, SOMAXCONN);
	/* What syslog has for a line to syslogd, without one yet, would be taken for the signals' number. */
	log_open("kpopd");
	for (;;) {
		bool may_accept;
		int left = patience(&l, &may_accept);
		struct pollfd p[] = {
			{ .fd = l.signals, .events = POLLIN },
			{ .fd = may_accept ? 0 : -1, .events = POLLIN },
		};

		if (l.is_over)
			return 0;
		if (!may_accept && l.rest <= io_now() && is_wanted())
			tell(&l, TROUBLE_RATE, "none");
		if (poll(p, 2, left) == -1 && errno != EINTR)
			fatal("poll");
		if (p[0].revents != 0)
			hear_signals(&l);
		if (p[1].revents != 0 && !l.is_over)
			accept_one(&l);
	}
}
