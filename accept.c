/*
 * Accepts connections on a listening fd 0, and makes a process for each.
 *
 * Runs as root, in the listener. inetd or systemd starts the listener once for
 * many connections. The listener looks at addresses, counts connections and
 * forks. It never reads what clients send, and it never has a key. Each child
 * becomes the monitor of one connection, as if inetd had started it, but
 * without the exec.
 *
 * inetd keeps the same socket and waits for connections again after the
 * listener has ended. So a connection in the kernel's queue is served by this
 * listener or the next.
 *
 * The kernel's queue is first come, first served, so the connections of one
 * address could delay all others. Therefore the listener accepts every
 * connection, rejects those above the limits of their address, and orders the
 * rest itself.
 */
#include "config.h"

#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "accept-queue.h"
#include "accept-socket.h"
#include "accept-stale.h"
#include "accept-unable.h"
#include "accept.h"
#include "clock.h"
#include "log.h"

#define REJECTION "-ERR [SYS/TEMP] too many connections, try again later\r\n"
/* After a failed accept the listener accepts nothing for this long. */
#define BACKOFF_MS 500
/*
 * When a connection comes, the listener looks whether it was replaced. This is
 * the least time between two looks.
 */
#define STALE_MS 1000
/*
 * The least time that the listener serves before it ends by itself. Otherwise
 * it could end too often: by default systemd gives a service up after 5 starts
 * in 10 seconds. An upgrade replaces several libraries one after another, and
 * -a may name a short idle time.
 */
#define LIFE_MS 3000
/*
 * The least time between two starts of the helper. A mistake in its options may
 * end each of these processes at once.
 */
#define HELPER_MS 10000
/* The most connections accepted before the listener handles other events. */
#define BATCH 64
/*
 * Descriptors that the listener and its libraries need besides those of the
 * waiting connections.
 */
#define OTHER_FDS 32
/* The alignment of the tables, in bytes. */
#define CACHE_LINE 64

/* The troubles that the listener logs. Each has its own log interval. */
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
	struct limits_state *limits;
	struct accept_queue *queue;
	int signals;        /* a signalfd */
	int64_t resume;     /* ms; before this time nothing is accepted */
	int64_t last_event; /* ms; of the last connection or end of a session */
	int64_t life;       /* ms; before this time it does not end by itself */
	int64_t stale_due;  /* ms; the earliest next look for a replacement */
	pid_t helper;       /* 0: it does not run */
	int64_t helper_due; /* ms; the earliest next start of the helper */
	bool is_stale;      /* accepts nothing; ends when the queue is empty */
	bool is_over;
	struct log_limit troubles[TROUBLES];
};

/*
 * Logs a trouble at most once in its log interval; otherwise any client could
 * flood syslog. address: the client's address, or "none".
 */
static void
log_trouble(struct listener *l, enum trouble t, const char *address)
{
	static const char *const texts[TROUBLES] = {
		[TROUBLE_ALL] = "too many sessions",
		[TROUBLE_EACH] = "too many sessions from this address",
		[TROUBLE_EACH_RATE] =
		    "too many connections in a second from this address",
		[TROUBLE_RATE] = "too many connections in a second, they wait",
		[TROUBLE_QUEUE] = "too many connections wait",
		[TROUBLE_END] = "the listener ends",
		[TROUBLE_FORK] = "making a process for a connection",
		[TROUBLE_ACCEPT] = "accepting a connection",
	};
	int error = errno;
	unsigned more;

	if (!log_due(&l->troubles[t], &more))
		return;
	log_peer(address);
	if (t == TROUBLE_GONE)
		log_event(LOG_INFO, "closed",
		    "reason=\"before it was served\" more=%u", more);
	else if (t == TROUBLE_FORK || t == TROUBLE_ACCEPT)
		log_event(LOG_ERR, "failed", "what=\"%s\" error=\"%s\" more=%u",
		    texts[t], strerror(error), more);
	else
		log_event(LOG_NOTICE, "refused", "reason=\"%s\" more=%u",
		    texts[t], more);
	log_peer("none");
}

/*
 * Logs why a connection gets no session, sends the client one line, and closes
 * the connection. Sends no line if TLS would come first, the client is gone, or
 * the socket would block.
 */
static void
reject(struct listener *l, int fd, enum trouble t,
    const struct address_text *address)
{
	log_trouble(l, t, address->text);
	if (!l->plan->quiet && t != TROUBLE_GONE)
		send(fd, REJECTION, sizeof(REJECTION) - 1,
		    MSG_DONTWAIT | MSG_NOSIGNAL);
	close(fd);
}

/*
 * Returns true if the connection needs no session: it was reset, or the client
 * has ended its side without sending a byte. A client that has sent bytes
 * before it ended its side may still read the answers.
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
 * In the child: becomes the process that inetd would have started, with the
 * connection on descriptors 0 and 1. Closes the descriptors above 2, because
 * some are connections of other clients.
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

/* Removes a waiting connection from the queue and closes it. */
static void
reject_waiting(struct listener *l, int index, enum trouble t)
{
	struct waiting w = queue_remove(l->queue, index);

	limits_return_slot(l->limits, &w.slot);
	reject(l, w.fd, t, &w.address);
}

/*
 * Returns how many ms the next waiting connection must still wait for its
 * session. The queue must not be empty.
 */
static int64_t
next_turn_ms(struct listener *l)
{
	int64_t now = clock_ms(), wait = limits_wait_ms(l->limits, now);
	int64_t due = l->queue->at[queue_next(l->queue)].slot.due - now;

	return due > wait ? due : wait;
}

/*
 * Makes a process for the next waiting connection, or rejects the connection.
 */
static void
begin_session(struct listener *l)
{
	int next = queue_next(l->queue);
	/* A copy, because the child does not inherit the queue's memory. */
	const struct waiting w = l->queue->at[next];
	pid_t pid;

	if (is_gone(w.fd)) {
		reject_waiting(l, next, TROUBLE_GONE);
		return;
	}
	if (limits_is_full(l->limits)) {
		reject_waiting(l, next, TROUBLE_ALL);
		return;
	}
	if ((pid = fork()) == -1) {
		reject_waiting(l, next, TROUBLE_FORK);
		return;
	}
	if (pid == 0)
		become_session(l, w.fd);
	limits_begin_session(l->limits, pid, &w.slot, clock_ms());
	close(w.fd);
	queue_remove(l->queue, next);
}

/*
 * Appends an accepted connection to the queue, or rejects it if it is above a
 * limit.
 */
static void
enqueue(struct listener *l, int fd, const struct sockaddr_storage *from)
{
	static const enum trouble troubles[] = {
		[LIMITS_ALL] = TROUBLE_ALL,
		[LIMITS_EACH] = TROUBLE_EACH,
		[LIMITS_EACH_RATE] = TROUBLE_EACH_RATE,
	};
	struct waiting w = { .fd = fd }, lost;
	struct address_net net;
	bool has_net =
	    !l->plan->is_proxy(l->plan->self, from) && address_net(from, &net);
	enum limits_verdict verdict;

	if (address_write(from, &w.address) == -1) {
		close(fd);
		return;
	}
	/*
	 * A connection that has already ended takes no token of its address.
	 * The client may only have tested whether the port is open.
	 */
	if (is_gone(fd)) {
		reject(l, fd, TROUBLE_GONE, &w.address);
		return;
	}
	verdict = limits_take_slot(l->limits, has_net ? &net : NULL, clock_ms(),
	    &w.slot);
	if (verdict != LIMITS_OK) {
		reject(l, fd, troubles[verdict], &w.address);
		return;
	}
	if (queue_add(l->queue, &w, &lost)) {
		limits_return_slot(l->limits, &lost.slot);
		reject(l, lost.fd, TROUBLE_QUEUE, &lost.address);
	}
}

/* Accepts one connection and queues it. Returns false if there was none. */
static bool
accept_one(struct listener *l)
{
	struct sockaddr_storage from;
	int fd = accept_within_limit(&from);

	l->last_event = clock_ms();
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
		/*
		 * A resource is exhausted, or the new connection already has a
		 * network error. accept(2) reports both.
		 */
		log_trouble(l, TROUBLE_ACCEPT, "none");
		l->resume = clock_ms() + BACKOFF_MS;
		return false;
	}
}

/*
 * Sets is_stale if the listener's program or a library was replaced. In this
 * case the connection in the kernel's queue is for the next listener, which the
 * superserver starts when this one has ended.
 */
static void
look_for_successor(struct listener *l)
{
	int64_t now = clock_ms();

	if (l->is_stale || now < l->life || now < l->stale_due)
		return;
	l->stale_due = now + STALE_MS;
	if (!stale_is_replaced())
		return;
	l->is_stale = true;
	log_event(LOG_NOTICE, "listener",
	    "reason=\"kpopd or a library was replaced\"");
}

/* Starts the helper if there is one to start and it does not run. */
static void
start_helper(struct listener *l)
{
	pid_t pid;

	if (l->plan->start_helper == NULL || l->helper != 0 ||
	    clock_ms() < l->helper_due)
		return;
	l->helper_due = clock_ms() + HELPER_MS;
	if ((pid = l->plan->start_helper(l->plan->self)) != -1)
		l->helper = pid;
}

/* Accepts the connections in the kernel's queue, at most BATCH. */
static void
accept_batch(struct listener *l)
{
	look_for_successor(l);
	if (l->is_stale)
		return;
	start_helper(l);
	for (int n = 0; n < BATCH && accept_one(l) && accept_has_connection(0);)
		n++;
}

/* Removes the sessions whose processes have ended. */
static void
reap_sessions(struct listener *l)
{
	pid_t pid;
	int status;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		if (pid == l->helper)
			l->helper = 0;
		else if (limits_end_session(l->limits, pid))
			l->last_event = clock_ms();
	}
}

/* Reads and obeys the pending signals. */
static void
read_signals(struct listener *l)
{
	struct signalfd_siginfo s;

	while (read(l->signals, &s, sizeof(s)) == (ssize_t)sizeof(s)) {
		if (s.ssi_signo == SIGTERM)
			l->is_over = true;
		if (s.ssi_signo == SIGHUP && !l->plan->reload(l->plan->self))
			l->is_stale = true;
	}
	/* The kernel may merge several SIGCHLD into one. */
	reap_sessions(l);
}

/*
 * Returns how many ms poll may wait for an event; -1: without a limit. Sets
 * is_over if the listener was idle for too long.
 */
static int
set_timeout(struct listener *l)
{
	int64_t now = clock_ms(), left = -1;

	if (l->queue->count > 0)
		left = next_turn_ms(l);
	if (now < l->resume && (left == -1 || l->resume - now < left))
		left = l->resume - now;
	if (left == -1 && l->limits->count == 0 && l->plan->idle > 0) {
		left = l->last_event + (int64_t)l->plan->idle * 1000 - now;
		if (left < l->life - now)
			left = l->life - now;
		l->is_over = l->is_over || left <= 0;
	}
	return left < INT_MAX ? (int)left : INT_MAX;
}

/*
 * Blocks the signals that the listener reads between connections. Returns their
 * signalfd.
 */
static int
open_signals(void)
{
	sigset_t blocked;
	int fd;

	sigemptyset(&blocked);
	sigaddset(&blocked, SIGCHLD);
	sigaddset(&blocked, SIGHUP);
	sigaddset(&blocked, SIGTERM);
	if (sigprocmask(SIG_BLOCK, &blocked, NULL) == -1 ||
	    (fd = signalfd(-1, &blocked, SFD_CLOEXEC | SFD_NONBLOCK)) == -1)
		fatal("preparing for signals");
	return fd;
}

/*
 * Makes the tables of sessions and of waiting connections. A fork does not copy
 * their memory, because no session may read the addresses of other clients.
 */
static void
make_tables(struct listener *l)
{
	size_t queue =
	    (sizeof(*l->queue) + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE;
	size_t size = queue + limits_size(l->plan->limits);
	struct rlimit fds = { 0, 0 };
	uint64_t key[3];
	char *memory = mmap(NULL, size, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED || madvise(memory, size, MADV_DONTFORK) == -1)
		fatal("making the table of sessions");
	l->queue = (struct accept_queue *)(void *)memory;
	l->limits = (struct limits_state *)(void *)(memory + queue);
	l->queue->most = LIMITS_WAITING;
	if (getrlimit(RLIMIT_NOFILE, &fds) == 0 &&
	    fds.rlim_cur < LIMITS_WAITING + OTHER_FDS)
		l->queue->most = fds.rlim_cur > OTHER_FDS ?
		    (int)fds.rlim_cur - OTHER_FDS :
		    1;
	arc4random_buf(key, sizeof(key));
	limits_init(l->limits, l->plan->limits, clock_ms(), key);
}

/*
 * The entries of the array for poll: the signalfd, the listening socket, and
 * from POLL_WAITING on the waiting connections.
 */
enum { POLL_SIGNALS, POLL_SOCKET, POLL_WAITING };

/*
 * Fills the array for poll. For a waiting connection poll reports only its end.
 * Returns the number of entries.
 */
static nfds_t
fill_polls(const struct listener *l, struct pollfd p[])
{
	const struct accept_queue *q = l->queue;

	p[POLL_SIGNALS] = (struct pollfd){ .fd = l->signals, .events = POLLIN };
	p[POLL_SOCKET] =
	    (struct pollfd){ .fd =
				 l->is_stale || clock_ms() < l->resume ? -1 : 0,
		    .events = POLLIN };
	for (int i = 0; i < q->count; i++)
		p[POLL_WAITING + i] = (struct pollfd){ .fd = q->at[i].fd,
			.events = q->at[i].has_ended ? 0 : POLLRDHUP };
	return POLL_WAITING + (nfds_t)q->count;
}

/*
 * Rejects the waiting connections that are gone. p has poll's results, in the
 * queue's order.
 */
static void
reject_gone(struct listener *l, const struct pollfd p[])
{
	for (int i = l->queue->count - 1; i >= 0; i--) {
		if (p[i].revents == 0)
			continue;
		if (is_gone(l->queue->at[i].fd))
			reject_waiting(l, i, TROUBLE_GONE);
		else
			l->queue->at[i].has_ended = true;
	}
}

/*
 * Waits at most timeout ms for an event, handles the pending events, and begins
 * at most one session.
 */
static void
handle_events(struct listener *l, int timeout)
{
	struct pollfd p[POLL_WAITING + LIMITS_WAITING];
	nfds_t n = fill_polls(l, p);

	if (poll(p, n, timeout) == -1) {
		if (errno != EINTR)
			fatal("poll");
		return;
	}
	if (p[POLL_SIGNALS].revents != 0)
		read_signals(l);
	reject_gone(l, p + POLL_WAITING);
	if (p[POLL_SOCKET].revents != 0 && !l->is_over)
		accept_batch(l);
	if (l->queue->count == 0 || l->is_over)
		return;
	if (next_turn_ms(l) == 0)
		begin_session(l);
	else if (limits_wait_ms(l->limits, clock_ms()) > 0)
		log_trouble(l, TROUBLE_RATE, "none");
}

int
accept_connections(const struct accept_plan *plan)
{
	struct listener l = { .plan = plan,
		.last_event = clock_ms(),
		.life = clock_ms() + LIFE_MS };

	make_tables(&l);
	l.signals = open_signals();
	start_helper(&l);
	stale_is_replaced(); /* first call: only notes the present state */
	/*
	 * inetd has asked for a short kernel queue. If the queue is full, the
	 * kernel drops a SYN, and the client repeats it only after a second.
	 */
	listen(0, SOMAXCONN);
	/*
	 * log_open has recorded the descriptor for syslog. If syslogd did not
	 * run at that time, the signalfd may have this descriptor now. So call
	 * log_open again.
	 */
	log_open("kpopd");
	unable_end();
	for (;;) {
		int timeout = set_timeout(&l);

		if (l.is_over || (l.is_stale && l.queue->count == 0))
			break;
		handle_events(&l, timeout);
	}
	while (l.queue->count > 0)
		reject_waiting(&l, 0, TROUBLE_END);
	return 0;
}
