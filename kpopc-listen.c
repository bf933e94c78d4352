/*
 * Listens on the loopback addresses, and starts a process for each connection
 * of the same user: kpopc --listen.
 *
 * Runs as the caller. Reads nothing from a connection and nothing from the
 * server. Other users of the machine can connect, so each connection is refused
 * unless the kernel reports that a process of the same user has made it.
 */
#include "config.h"

#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "kpopc.h"

#define SOCKETS_MOST 8   /* listening sockets */
#define PROGRAMS_MOST 64 /* connections at once */
#define FIRST_PASSED 3   /* the first descriptor of sd_listen_fds(3) */
#define LOG_SECONDS 60   /* the log interval */

/* The listening sockets. */
static struct pollfd sockets[SOCKETS_MOST];
static nfds_t socket_count;

/* The processes for connections; 0 is a free slot. */
static pid_t children[PROGRAMS_MOST];

/* A signal has come that ends kpopc. */
static volatile sig_atomic_t stops;

/* Returns true if the address is a loopback address. */
static bool
is_loopback(const struct sockaddr_storage *a)
{
	const struct sockaddr_in *v4 = (const void *)a;
	const struct sockaddr_in6 *v6 = (const void *)a;

	return a->ss_family == AF_INET ?
	    ntohl(v4->sin_addr.s_addr) >> 24 == IN_LOOPBACKNET :
	    a->ss_family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&v6->sin6_addr);
}

/* Adds a listening socket. */
static void
add_socket(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	/*
	 * Do not block in accept, because a client may disconnect before it is
	 * accepted.
	 */
	if (flags == -1 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) == -1 ||
	    fcntl(fd, F_SETFD, FD_CLOEXEC) == -1)
		err(EXIT_REFUSED, "a listening socket");
	sockets[socket_count++] = (struct pollfd){ .fd = fd, .events = POLLIN };
}

/*
 * Listens on the address. If this machine does not have its family, does
 * nothing and returns false.
 */
static bool
listen_on(const char *address, const char *port)
{
	const struct addrinfo hints = { .ai_flags = AI_NUMERICHOST,
		.ai_socktype = SOCK_STREAM };
	const int on = 1;
	struct addrinfo *a;
	int error = getaddrinfo(address, port, &hints, &a), fd;

	if (error != 0)
		errx(EXIT_REFUSED, "port %s: %s", port, gai_strerror(error));
	fd = socket(a->ai_family, a->ai_socktype, 0);
	/* An earlier kpopc may have left connections in TIME_WAIT. */
	if (fd != -1)
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (fd == -1 || bind(fd, a->ai_addr, a->ai_addrlen) == -1 ||
	    listen(fd, SOMAXCONN) == -1) {
		if (errno != EAFNOSUPPORT && errno != EADDRNOTAVAIL)
			err(EXIT_REFUSED, "%s port %s", address, port);
		if (fd != -1)
			close(fd);
		freeaddrinfo(a);
		return false;
	}
	freeaddrinfo(a);
	add_socket(fd);
	return true;
}

/*
 * Checks that the passed descriptor is a socket that listens on a loopback
 * address. Ends the process if it is not, because other machines must not reach
 * kpopc.
 */
static void
check_passed(int fd)
{
	struct sockaddr_storage a = { .ss_family = AF_UNSPEC };
	socklen_t size = sizeof(a);
	int listens = 0, type = 0;
	socklen_t n = sizeof(listens), m = sizeof(type);

	if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &n) == -1 ||
	    getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &m) == -1 ||
	    getsockname(fd, (struct sockaddr *)&a, &size) == -1 || !listens ||
	    type != SOCK_STREAM)
		errx(EXIT_REFUSED,
		    "descriptor %d is not a listening socket"
		    " (the socket unit needs Accept=no)",
		    fd);
	if (!is_loopback(&a))
		errx(EXIT_REFUSED,
		    "descriptor %d does not listen on a loopback address"
		    " (the socket unit needs ListenStream=127.0.0.1:PORT)",
		    fd);
}

/* Takes the sockets that a manager of services has passed: sd_listen_fds(3). */
static void
take_passed(void)
{
	const char *pid = getenv("LISTEN_PID"), *count = getenv("LISTEN_FDS");
	long n = count != NULL ? strtol(count, NULL, 10) : 0;

	if (pid == NULL || strtol(pid, NULL, 10) != (long)getpid() || n < 1)
		errx(EXIT_REFUSED,
		    "no sockets were passed: start the socket unit of systemd,"
		    " or use --listen with a port");
	if (n > SOCKETS_MOST)
		errx(EXIT_REFUSED, "more than %d sockets were passed",
		    SOCKETS_MOST);
	for (int i = 0; i < (int)n; i++) {
		check_passed(FIRST_PASSED + i);
		add_socket(FIRST_PASSED + i);
	}
	unsetenv("LISTEN_PID");
	unsetenv("LISTEN_FDS");
	unsetenv("LISTEN_FDNAMES");
}

static void
open_sockets(const char *port)
{
	bool has_ipv4;

	if (strcmp(port, LISTEN_PASSED) == 0) {
		take_passed();
		return;
	}
	has_ipv4 = listen_on("127.0.0.1", port);
	if (!listen_on("::1", port) && !has_ipv4)
		errx(EXIT_REFUSED, "this machine has no loopback address");
}

/* Handles the signals: those that end kpopc, and SIGCHLD. */
static void
note_signal(int signal_number)
{
	if (signal_number != SIGCHLD)
		stops = 1;
}

/*
 * Sets the handler of the signals, and stores them in *all. Leaves those that
 * are ignored: nohup(1) and shells let a program ignore SIGHUP or SIGINT if it
 * is to live on without its terminal.
 */
static void
set_handlers(void (*handler)(int), sigset_t *all)
{
	static const int numbers[] = { SIGCHLD, SIGTERM, SIGINT, SIGHUP };
	const struct sigaction action = { .sa_handler = handler };
	struct sigaction before;

	sigemptyset(all);
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		sigaddset(all, numbers[i]);
		if (sigaction(numbers[i], NULL, &before) == -1 ||
		    (before.sa_handler != SIG_IGN &&
			sigaction(numbers[i], &action, NULL) == -1))
			err(EXIT_REFUSED, "sigaction");
	}
}

/* Handles the signals, and blocks them except while the process waits. */
static void
take_signals(void)
{
	sigset_t all;

	set_handlers(note_signal, &all);
	sigprocmask(SIG_SETMASK, &all, NULL);
}

/*
 * In a child: restores the signals, and closes the sockets. Blocks no signal,
 * even if the program that started kpopc did.
 */
static void
leave_listener(void)
{
	sigset_t set;

	for (nfds_t i = 0; i < socket_count; i++)
		close(sockets[i].fd);
	set_handlers(SIG_DFL, &set);
	sigemptyset(&set);
	sigprocmask(SIG_SETMASK, &set, NULL);
}

/*
 * Reaps the children that have ended, and frees their slots. The others are
 * processes whose parent has ended.
 */
static void
reap_ended(void)
{
	pid_t pid;

	while ((pid = waitpid(-1, NULL, WNOHANG)) > 0)
		for (int i = 0; i < PROGRAMS_MOST; i++)
			if (children[i] == pid)
				children[i] = 0;
}

/*
 * Ends all children, and waits for them. A child may ignore SIGTERM, as this
 * process may.
 */
static void
end_children(void)
{
	for (int i = 0; i < PROGRAMS_MOST; i++)
		if (children[i] != 0)
			kill(children[i], SIGKILL);
	while (waitpid(-1, NULL, 0) != -1 || errno == EINTR)
		;
}

/* Returns a free slot in children, or NULL. */
static pid_t *
free_slot(void)
{
	for (int i = 0; i < PROGRAMS_MOST; i++)
		if (children[i] == 0)
			return &children[i];
	return NULL;
}

/* Returns true at most once in the log interval. */
static bool
may_log(void)
{
	static time_t last;
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	if (last != 0 && now.tv_sec - last < LOG_SECONDS)
		return false;
	last = now.tv_sec;
	return true;
}

/*
 * Writes the answer and closes the connection. Does not wait for the client. If
 * the client has sent a few lines already, reads them; otherwise the kernel
 * would discard the answer.
 */
static void
turn_away(int fd, const char *answer)
{
	char unread[4096];

	send(fd, answer, strlen(answer), MSG_DONTWAIT | MSG_NOSIGNAL);
	shutdown(fd, SHUT_WR);
	recv(fd, unread, sizeof(unread), MSG_DONTWAIT);
	close(fd);
}

/*
 * Returns true if a process of this user has made the connection. If not, turns
 * the connection away.
 */
static bool
is_permitted(int fd)
{
	uid_t owner;

	if (peer_find(fd, &owner) == -1) {
		turn_away(fd,
		    "-ERR [AUTH] kpopc cannot find the user that made this"
		    " connection\r\n");
		if (may_log())
			warnx("refused a connection, because the kernel"
			      " reports no user for it");
		return false;
	}
	if (owner == geteuid())
		return true;
	turn_away(fd,
	    "-ERR [AUTH] only the user that runs kpopc may use this"
	    " port\r\n");
	if (may_log())
		warnx("refused a connection of uid %u", owner);
	return false;
}

/* Accepts a connection and starts a process for it. */
static void
accept_program(int listener, const struct options *o,
    int (*run)(const struct options *o))
{
	int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	pid_t *slot, parent = getpid();

	if (fd == -1) {
		/* If descriptors or memory are short, do not try at once. */
		if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
			nanosleep(&(struct timespec){ .tv_nsec = 100000000 },
			    NULL);
		return;
	}
	if (!is_permitted(fd))
		return;
	if ((slot = free_slot()) == NULL) {
		turn_away(fd,
		    "-ERR [SYS/TEMP] too many connections to kpopc at once,"
		    " close one\r\n");
		return;
	}
	if ((*slot = fork()) == -1) {
		*slot = 0;
		warn("fork");
		turn_away(fd,
		    "-ERR [SYS/TEMP] kpopc cannot start a process, try again"
		    " later\r\n");
		return;
	}
	if (*slot == 0) {
		leave_listener();
		exit(serve_program(fd, parent, o, run));
	}
	close(fd);
}

int
listen_run(const struct options *o, int (*run)(const struct options *o))
{
	sigset_t none;

	/*
	 * The kernel reports the uid of all users that a user namespace does
	 * not have as this one.
	 */
	if (!peer_is_distinct(geteuid()))
		errx(EXIT_REFUSED,
		    "cannot distinguish other users' processes from those of"
		    " this user, which has the uid for unknown users (%u)",
		    geteuid());
	open_sockets(o->listen);
	/* So this process reaps the layers of a session that was killed. */
	if (prctl(PR_SET_CHILD_SUBREAPER, 1) == -1)
		err(EXIT_REFUSED, "prctl");
	take_signals();
	sigemptyset(&none);
	while (!stops) {
		reap_ended();
		if (ppoll(sockets, socket_count, NULL, &none) == -1) {
			if (errno != EINTR)
				err(EXIT_BROKEN, "poll");
			continue;
		}
		for (nfds_t i = 0; i < socket_count; i++)
			if (sockets[i].revents != 0)
				accept_program(sockets[i].fd, o, run);
	}
	end_children();
	return EXIT_DONE;
}
