/*
 * Tells the story of a connection: a clean process, the gate, its report, the visit.
 *
 * Runs as root until it has become somebody else; each function says who. The
 * files that hold root's code: this one, options.c, visit.c, privsep.c, log.c,
 * the first half of auth.c, and nothing more.
 *
 *	main     options, a clean environment, the connection on fd 0
 *	 ├ gate      root: copies the keys; then jailed: ticket, USER, PASS
 *	 │           → one report to the monitor, and its end
 *	 ├ monitor   root: waits for the report until the deadline; reads nothing
 *	 │           of the network, never opens the keytab; then gives up root
 *	 └ session   the user: krb5_kuserok, the maildrop, POP3
 *
 * Key octets stay on stacks and heaps after they are freed and survive setuid;
 * only the end of a process clears them. So the gate is a process of its own,
 * and the session descends from the monitor.
 */
#include "config.h"

#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <netinet/in.h>
#include <netinet/tcp.h>

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "auth.h"
#include "io.h"
#include "log.h"
#include "options.h"
#include "pop3.h"
#include "privsep.h"
#include "sendauth.h"
#include "visit.h"

/* A gate that is stuck in a library, and so cannot keep its deadline itself, is killed this much later. */
#define GRACE_MS 1000
#define REPLAY_CACHE "file2:/replay/cache"

/* fds 0 to 2 are open, none above; whatever the parent left blocked or ignored is not. */
static void
clean_process(void)
{
	sigset_t none;
	int fd;

	do
		fd = open("/dev/null", O_RDWR);
	while (fd != -1 && fd <= 2);
	closefrom(3);
	for (int s = 1; s < NSIG; s++)
		signal(s, SIG_DFL);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	umask(077);
}

/* Keeps what the admin's inetd may say, drops everything else: libkrb5 would obey much of it. */
static void
clean_environment(void)
{
	static const char *const kept[] = { "KRB5_CONFIG", "KRB5_KTNAME", "TZ" };
	char *values[3];

	for (size_t i = 0; i < 3; i++) {
		values[i] = getenv(kept[i]);
		if (values[i] != NULL && (values[i] = strdup(values[i])) == NULL)
			fatal("strdup");
	}
	clearenv();
	for (size_t i = 0; i < 3; i++)
		if (values[i] != NULL && setenv(kept[i], values[i], 1) == -1)
			fatal("setenv");
	if (setenv("PATH", "/usr/sbin:/usr/bin:/sbin:/bin", 1) == -1)
		fatal("setenv");
}

/* Writes "192.0.2.1:4711" or "[2001:db8::1]:4711" for the other end of fd 0. Returns 0, or -1: no connection. */
static int
name_peer(char *text, size_t size)
{
	struct sockaddr_storage peer;
	socklen_t length = sizeof(peer);
	struct sockaddr_in6 *six = (struct sockaddr_in6 *)&peer;
	char host[64], port[16];

	if (getpeername(0, (struct sockaddr *)&peer, &length) == -1)
		return -1;
	if (peer.ss_family == AF_UNIX) {
		strlcpy(text, "local", size);
		return 0;
	}
	if (peer.ss_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&six->sin6_addr)) {
		struct sockaddr_in four = { .sin_family = AF_INET,
			.sin_port = six->sin6_port };

		memcpy(&four.sin_addr, six->sin6_addr.s6_addr + 12, 4);
		memcpy(&peer, &four, sizeof(four));
		length = sizeof(four);
	}
	if (getnameinfo((struct sockaddr *)&peer, length, host, sizeof(host),
		port, sizeof(port), NI_NUMERICHOST | NI_NUMERICSERV) != 0)
		return -1;
	snprintf(text, size, peer.ss_family == AF_INET6 ? "[%s]:%s" : "%s:%s",
	    host, port);
	return 0;
}

/*
 * The gate. Root until the keys are copied, then jailed as its own user. Ends
 * with a report to the monitor, or without one when nobody is to be let in.
 */
_Noreturn static void
gate(const struct options *o, const struct account *account, int64_t deadline,
    int channel)
{
	static struct io io;
	struct report r = { .unread_size = 0 };
	struct auth *auth;
	const char *unread;

	privsep_make_jail(o->state, account);
	auth = auth_open(o->keytab, o->service, REPLAY_CACHE);
	privsep_jail(o->state, account);
	io_init(&io, 0, deadline);
	if (auth == NULL) {
		io_printf(&io, "-ERR [SYS/PERM] the server has no Kerberos key\r\n");
		io_linger(&io);
		_exit(1);
	}
	if (sendauth_serve(&io, auth, &r.peer) == -1 ||
	    pop3_login(&io, r.peer.principal, r.user, sizeof(r.user)) == -1) {
		io_linger(&io);
		_exit(0);
	}
	/* The monitor takes a user's name or none; what else it was is all the same. */
	if (!account_name_valid(r.user))
		memset(r.user, 0, sizeof(r.user));
	r.unread_size = (uint32_t)io_unread(&io, &unread);
	memcpy(r.unread, unread, r.unread_size);
	if (io_flush(&io) == -1)
		_exit(0);
	if (report_send(channel, &r) == -1)
		fatal("report");
	_exit(0);
}

/* Root: waits for the gate's report, then ends the gate. Returns whether there is a good one. */
static bool
await_report(int64_t deadline, int channel, pid_t gate_pid, struct report *r)
{
	enum report_result result = report_await(channel, r, deadline + GRACE_MS);
	int status;

	kill(gate_pid, SIGKILL);
	while (waitpid(gate_pid, &status, 0) == -1)
		if (errno != EINTR)
			fatal("waitpid");
	if (result == REPORT_NONE && WIFSIGNALED(status))
		log_event(LOG_ERR, "fatal", "error=\"the gate was ended by signal %d\"",
		    WTERMSIG(status));
	if (result == REPORT_BAD)
		log_event(LOG_ALERT, "fatal", "error=\"the gate's report is not one\"");
	if (result == REPORT_LATE)
		log_event(LOG_NOTICE, "refused", "reason=\"login deadline, gate killed\"");
	return result == REPORT_GOOD;
}

/*
 * A line that is cut gives no sign: the kernel has to ask. Found dead after a
 * fifth of the idle limit, at most two minutes, whether the client was to
 * speak (keepalive) or to listen (user timeout; tcp(7)).
 */
static void
watch_line(const struct options *o)
{
	int on = 1, probes = 4;
	int first = o->idle < 600 ? (o->idle + 9) / 10 : 60;
	int interval = (first + probes - 1) / probes;
	int dead = 2 * first * 1000;

	setsockopt(0, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	setsockopt(0, IPPROTO_TCP, TCP_KEEPIDLE, &first, sizeof(first));
	setsockopt(0, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof(interval));
	setsockopt(0, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof(probes));
	setsockopt(0, IPPROTO_TCP, TCP_USER_TIMEOUT, &dead, sizeof(dead));
	/* An answer shall not wait for the client's delayed ACK. */
	setsockopt(0, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

/* What must be true of the machine before anybody is served. */
static void
prepare(const struct options *o, struct account *gate_account)
{
	const struct rlimit no_core = { 0, 0 };
	const char *refusal;

	if (geteuid() != 0)
		fatal("starting without root");
	if (setrlimit(RLIMIT_CORE, &no_core) == -1)
		fatal("setrlimit");
	if ((refusal = account_find(o->user, 1, gate_account)) != NULL)
		options_refuse(false, "the gate's user cannot be used: ", refusal);
	watch_line(o);
}

int
main(int argc, char **argv)
{
	static struct report report;
	static struct account gate_account;
	struct options o;
	struct stat st;
	char peer[80];
	int64_t deadline;
	int channel[2];
	pid_t pid;
	bool by_hand;

	clean_process();
	by_hand = fstat(0, &st) == -1 || !S_ISSOCK(st.st_mode);
	if (!by_hand && dup2(open("/dev/null", O_RDWR | O_CLOEXEC), 2) == -1)
		return 1;
	closefrom(3);
	clean_environment();
	log_open();
	options_read(&o, argc, argv, by_hand);
	if (o.recover && geteuid() != 0)
		options_refuse(by_hand, "--recover needs root", "");
	if (o.recover)
		return visit_recover_all(&o);
	if (by_hand || name_peer(peer, sizeof(peer)) == -1)
		options_refuse(by_hand, "standard input is no connection; "
		    "xinetd, inetd or systemd starts kpopd", "");
	log_peer(peer);
	prepare(&o, &gate_account);
	deadline = io_now() + (int64_t)o.login * 1000;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, channel) == -1)
		fatal("socketpair");
	if ((pid = fork()) == -1)
		fatal("fork");
	if (pid == 0) {
		close(channel[0]);
		gate(&o, &gate_account, deadline, channel[1]);
	}
	close(channel[1]);
	if (await_report(deadline, channel[0], pid, &report)) {
		close(channel[0]);
		visit_admit(&o, &gate_account, &report, deadline);
	}
	return 0;
}
