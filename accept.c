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
 *
 * The kernel's queue is first come, first served: the connections of one
 * address could keep all others waiting. So the listener accepts all that come,
 * closes what is over its address's limits, and orders the rest by itself.
 */
#include "config.h"

#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "accept-queue.h"
#include "accept.h"
#include "clock.h"
#include "io.h"
#include "log.h"

#define NO_PLACE "-ERR [SYS/TEMP] too many connections, try again later\r\n"
/* After an error that is not the connection's own, such as no more descriptors. */
#define REST_MS 500
/* An accept that has nothing to take any more is given up. */
#define TAKE_US 50000

/* So many are accepted before signals and the waiting connections are looked at again. */
#define BATCH 64
/* The descriptors that the listener has besides the waiting connections, and some that libraries may need. */
#define OTHER_FDS 32

enum trouble {
	TROUBLE_ALL,
	TROUBLE_EACH,
	TROUBLE_EACH_RATE,
	TROUBLE_RATE,
	TROUBLE_QUEUE,
	TROUBLE_GONE,
	TROUBLE_END,
	TROUBLE_FORK,
	TROUBLE_ACCEPT,
	TROUBLES
};

struct listener {
	const struct accept_plan *plan;
	struct crowd *table;
	struct accept_queue *queue;
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
		[TROUBLE_EACH_RATE] = "too many connections in a second from this address",
		[TROUBLE_RATE] = "too many connections in a second, they wait",
		[TROUBLE_QUEUE] = "too many connections wait",
		[TROUBLE_GONE] = "closed before it was served",
		[TROUBLE_END] = "the listener ends",
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

/* Closes a connection that is not served, with one line to the client if that costs no waiting. */
static void
turn_away(struct listener *l, int fd, enum trouble t, const char *address)
{
	tell(l, t, address);
	if (!l->plan->quiet && t != TROUBLE_GONE)
		send(fd, NO_PLACE, sizeof(NO_PLACE) - 1, MSG_DONTWAIT | MSG_NOSIGNAL);
	close(fd);
}

/*
 * Returns true if nothing can come of the connection: it was reset, or the
 * client's side has ended without a byte. With some bytes before the end it may
 * be a client that writes everything and then reads.
 */
static bool
is_gone(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLRDHUP };
	int unread = 0;

	if (poll(&p, 1, 0) <= 0)
		return false;
	if (p.revents & (POLLERR | POLLHUP | POLLNVAL))
		return true;
	return ioctl(fd, FIONREAD, &unread) == 0 && unread == 0;
}

/*
 * Becomes what inetd would have started: a process with the connection and
 * nothing of the listener's, least of all the connections that wait.
 */
_Noreturn static void
become_session(struct listener *l, int fd)
{
	sigset_t none;

	if (dup2(fd, 0) == -1 || dup2(fd, 1) == -1)
		fatal("dup2");
	closefrom(3);
	signal(SIGALRM, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	l->plan->serve(l->plan->self);
	_exit(0);
}

/* Ends the wait of a connection, and the connection, without a session. */
static void
drop_waiting(struct listener *l, int index, enum trouble t)
{
	struct waiting w = queue_remove(l->queue, index);

	crowd_leave(l->table, &w.place);
	turn_away(l, w.fd, t, w.address);
}

/* Returns how many ms it takes until the first waiting connection, of at least one, may have a process. */
static int64_t
until_turn(struct listener *l)
{
	int64_t now = clock_ms(), wait = crowd_wait(l->table, now);
	int64_t due = l->queue->at[queue_next(l->queue)].place.due - now;

	return due > wait ? due : wait;
}

/* Gives the waiting connection whose turn it is a process. */
static void
begin_session(struct listener *l)
{
	int next = queue_next(l->queue);
	/* A copy, because the child does not have the queue. */
	const struct waiting w = l->queue->at[next];
	pid_t pid;

	if (is_gone(w.fd)) {
		drop_waiting(l, next, TROUBLE_GONE);
		return;
	}
	if (crowd_is_full(l->table)) {
		drop_waiting(l, next, TROUBLE_ALL);
		return;
	}
	if ((pid = fork()) == -1) {
		drop_waiting(l, next, TROUBLE_FORK);
		return;
	}
	if (pid == 0)
		become_session(l, w.fd);
	crowd_add(l->table, pid, &w.place, clock_ms());
	close(w.fd);
	queue_remove(l->queue, next);
}

/* Appends an accepted connection to those that wait, if its address's limits let it in. */
static void
enqueue(struct listener *l, int fd, const struct sockaddr_storage *from)
{
	static const enum trouble troubles[] = { [CROWD_ALL] = TROUBLE_ALL,
		[CROWD_EACH] = TROUBLE_EACH, [CROWD_EACH_RATE] = TROUBLE_EACH_RATE };
	struct waiting w = { .fd = fd }, lost;
	struct address_net net;
	bool has_net = !l->plan->is_proxy(l->plan->self, from) && address_net(from, &net);
	enum crowd_verdict verdict;

	if (address_text(from, w.address) == -1) {
		close(fd);
		return;
	}
	/* Costs its address nothing, because a program may look whether the port is open. */
	if (is_gone(fd)) {
		turn_away(l, fd, TROUBLE_GONE, w.address);
		return;
	}
	verdict = crowd_enter(l->table, has_net ? &net : NULL, clock_ms(), &w.place);
	if (verdict != CROWD_FINE) {
		turn_away(l, fd, troubles[verdict], w.address);
		return;
	}
	if (queue_add(l->queue, &w, &lost)) {
		crowd_leave(l->table, &lost.place);
		turn_away(l, lost.fd, TROUBLE_QUEUE, lost.address);
	}
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

/* Accepts one connection. Returns false if there was none. */
static bool
accept_one(struct listener *l)
{
	struct sockaddr_storage from;
	int fd = take(&from);

	l->since = clock_ms();
	if (fd != -1) {
		enqueue(l, fd, &from);
		return true;
	}
	switch (errno) {
	case EAGAIN:
	case EINTR:
	case ECONNABORTED:
		return false;
	case EBADF:
	case EINVAL:
	case ENOTSOCK:
		fatal("accept");
	default:
		/* Too few of something; or the network's, which accept(2) has return from here. */
		tell(l, TROUBLE_ACCEPT, "none");
		l->rest = clock_ms() + REST_MS;
		return false;
	}
}

/* Returns true if a connection waits in the kernel's queue. */
static bool
is_wanted(void)
{
	struct pollfd p = { .fd = 0, .events = POLLIN };

	return poll(&p, 1, 0) > 0;
}

/* Accepts the connections that have come, a batch at most. */
static void
accept_batch(struct listener *l)
{
	for (int n = 0; n < BATCH && accept_one(l) && is_wanted();)
		n++;
}

static void
reap(struct listener *l)
{
	pid_t pid;
	int status;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		if (crowd_remove(l->table, pid))
			l->since = clock_ms();
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

/* Returns how many ms the listener may wait for a connection or a signal; -1: for ever. */
static int
patience(struct listener *l)
{
	int64_t now = clock_ms(), left = -1;

	if (l->queue->count > 0)
		left = until_turn(l);
	if (now < l->rest && (left == -1 || l->rest - now < left))
		left = l->rest - now;
	if (left == -1 && l->table->count == 0 && l->plan->idle > 0) {
		left = l->since + (int64_t)l->plan->idle * 1000 - now;
		l->is_over = l->is_over || left <= 0;
	}
	return left < INT_MAX ? (int)left : INT_MAX;
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

/*
 * Makes the tables of who is connected and who waits. Children do not have this
 * memory, because it is no business of the sessions.
 */
static void
make_tables(struct listener *l)
{
	size_t queue = (sizeof(*l->queue) + 63) / 64 * 64, size = queue + crowd_size(l->plan->limits);
	struct rlimit fds = { 0, 0 };
	uint64_t key[3];
	char *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED || madvise(memory, size, MADV_DONTFORK) == -1)
		fatal("making the table of sessions");
	l->queue = (struct accept_queue *)(void *)memory;
	l->table = (struct crowd *)(void *)(memory + queue);
	l->queue->most = CROWD_WAITING;
	if (getrlimit(RLIMIT_NOFILE, &fds) == 0 && fds.rlim_cur < CROWD_WAITING + OTHER_FDS)
		l->queue->most = fds.rlim_cur > OTHER_FDS ? (int)fds.rlim_cur - OTHER_FDS : 1;
	arc4random_buf(key, sizeof(key));
	crowd_init(l->table, l->plan->limits, clock_ms(), key);
}

/* Sets up what to poll: signals, the socket, and the ends of the waiting connections. Returns how many. */
static nfds_t
fill_polls(const struct listener *l, struct pollfd p[])
{
	const struct accept_queue *q = l->queue;

	p[0] = (struct pollfd){ .fd = l->signals, .events = POLLIN };
	p[1] = (struct pollfd){ .fd = clock_ms() < l->rest ? -1 : 0, .events = POLLIN };
	for (int i = 0; i < q->count; i++)
		p[2 + i] = (struct pollfd){ .fd = q->at[i].fd,
			.events = q->at[i].has_ended ? 0 : POLLRDHUP };
	return 2 + (nfds_t)q->count;
}

/* Drops the waiting connections that are gone; p has what poll says of each. */
static void
drop_gone(struct listener *l, const struct pollfd p[])
{
	for (int i = l->queue->count - 1; i >= 0; i--) {
		if (p[i].revents == 0)
			continue;
		if (is_gone(l->queue->at[i].fd))
			drop_waiting(l, i, TROUBLE_GONE);
		else
			l->queue->at[i].has_ended = true;
	}
}

/* Waits for one event and handles what there is; one session at most begins. */
static void
handle_events(struct listener *l, int left)
{
	struct pollfd p[2 + CROWD_WAITING];
	nfds_t n = fill_polls(l, p);

	if (poll(p, n, left) == -1) {
		if (errno != EINTR)
			fatal("poll");
		return;
	}
	if (p[0].revents != 0)
		hear_signals(l);
	drop_gone(l, p + 2);
	if (p[1].revents != 0 && !l->is_over)
		accept_batch(l);
	if (l->queue->count == 0 || l->is_over)
		return;
	if (until_turn(l) == 0)
		begin_session(l);
	else if (crowd_wait(l->table, clock_ms()) > 0)
		tell(l, TROUBLE_RATE, "none");
}

int
accept_connections(const struct accept_plan *plan)
{
	struct listener l = { .plan = plan, .since = clock_ms() };

	make_tables(&l);
	l.signals = hold_signals();
	/* All that the kernel has room for may wait, not inetd's few: who finds no place tries again only after a second. */
	listen(0, SOMAXCONN);
	/* What syslog has for a line to syslogd, without one yet, would be taken for the signals' number. */
	log_open("kpopd");
	for (;;) {
		int left = patience(&l);

		if (l.is_over)
			break;
		handle_events(&l, left);
	}
	while (l.queue->count > 0)
		drop_waiting(&l, 0, TROUBLE_END);
	return 0;
}
