/*
 * Tells the story of a connection: a clean process, the pre-auth process, its report, the visit.
 *
 * Runs as root until it has become somebody else; each function says who. The
 * files that hold root's code: this one, options.c, accept.c, accept-queue.c,
 * account.c, accept-limits.c, accept-sources.c, address.c, a look-up of proxy.c, auth-krb5conf.c,
 * monitor-watch.c, visit.c, resolve.c, state.c, layer.c, privsep.c, log.c, the
 * beginnings of preauth.c, session.c, recover.c, auth.c, replay-cache.c, sasl.c,
 * lock-dotlock.c and kpopd-tls.c, and nothing more.
 *
 *	main     options, a clean environment, krb5.conf; the connection on fd 0,
 *	 │       or, when fd 0 listens, a process for each: accept.c
 *	monitor      root: watches the others, writes the log; reads nothing of
 *	 │           the network, never opens the keytab
 *	 ├ pre-auth process      root: copies the keys; then jailed: ticket, USER, PASS
 *	 │           → one report to the monitor, and its end
 *	 ├ kpopd-tls or relay, when there is TLS or a layer of GSSAPI
 *	 ├ session   the user: krb5_kuserok; if that permits, the client's socket,
 *	 │           the maildrop, POP3
 *	 ├ broker    the user with the spool's group: the dotlock, recovery
 *	 └ refusal   the pre-auth user, jailed: the answer if nobody comes in
 *
 * Key bytes stay on stacks and heaps after they are freed and survive setuid;
 * only the end of a process clears them. So the pre-auth process is a process of its own,
 * and the session descends from the monitor.
 */
#include "config.h"

#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <netinet/in.h>
#include <netinet/tcp.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "accept.h"
#include "address.h"
#include "auth-start.h"
#include "clock.h"
#include "preauth.h"
#include "io.h"
#include "layer.h"
#include "log.h"
#include "options.h"
#include "privsep.h"
#include "recover.h"
#include "visit.h"
#include "monitor-watch.h"

/* A pre-auth process that is stuck in a library, and so cannot keep its deadline itself, is killed this much later. */
#define GRACE_MS 1000

/* What there is before the connection; with a listening fd 0 once for many. */
struct server {
	struct options o;
	struct account preauth;
	struct auth *auth; /* without keys; NULL: Kerberos does not work */
	bool is_proxied;   /* the peer of this connection is a proxy, which names the client */
};

/* fds 0 to 2 are open, none above; whatever the parent left blocked or ignored is not. Returns whether fd 0 was open. */
static bool
clean_process(void)
{
	bool had_input = fcntl(0, F_GETFD) != -1;
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
	return had_input;
}

/* Keeps what the admin's inetd may say, drops everything else: libkrb5 would obey much of it. */
static void
clean_environment(void)
{
	static const char *const kept[] = { "KRB5_CONFIG", "KRB5_KTNAME", "TZ" SANITIZER_VARIABLES };
	enum { KEPT = sizeof(kept) / sizeof(kept[0]) };
	char *values[KEPT];

	for (size_t i = 0; i < KEPT; i++) {
		values[i] = getenv(kept[i]);
		if (values[i] != NULL && (values[i] = strdup(values[i])) == NULL)
			fatal("strdup");
	}
	clearenv();
	for (size_t i = 0; i < KEPT; i++)
		if (values[i] != NULL && setenv(kept[i], values[i], 1) == -1)
			fatal("setenv");
	if (setenv("PATH", "/usr/sbin:/usr/bin:/sbin:/bin", 1) == -1) /* NOLINT(clang-analyzer-unix.Malloc): the copies are kept */
		fatal("setenv");
}

/* The name of the other end of fd 0. Returns 0, or -1: no connection. */
static int
name_peer(char text[ADDRESS_TEXT])
{
	struct sockaddr_storage peer;
	socklen_t length = sizeof(peer);

	if (getpeername(0, (struct sockaddr *)&peer, &length) == -1)
		return -1;
	return address_text(&peer, text);
}

/* Root: takes the client's address from the pre-auth process, once and before all else, and only if the peer is a proxy. Returns 0 or -1. */
static int
take_peer(const struct layers *layers, bool *is_proxy, const struct report *r)
{
	if (!*is_proxy || layers->tls || layers->gssapi)
		return -1;
	*is_proxy = false;
	log_peer(r->address);
	return 0;
}

/* Root: watches the pre-auth process and does what it asks for. Returns true with its report in *r if that is a login. */
static bool
await_login(const struct server *s, struct watch *w, int64_t deadline, struct report *r)
{
	struct layers layers = { .tls = false };
	struct watch_event e;
	bool is_proxy = s->is_proxied;

	while (watch_next(w, &e)) {
		if (e.role == ROLE_PREAUTH && e.packet == NULL)
			return false;
		if (e.packet == NULL)
			continue;
		if (e.role == ROLE_PREAUTH && report_read(e.packet, e.size, r)) {
			if (r->kind == REPORT_LOGIN)
				return true;
			if ((r->kind == REPORT_PEER ? take_peer(&layers, &is_proxy, r) :
				layer_start(&s->o, &s->preauth, &layers, r, w, deadline + (int64_t)2 * GRACE_MS)) == 0)
				continue;
		}
		watch_kill(w, e.role, WATCH_WRONG);
	}
	return false;
}

/* Root: one connection, from the pre-auth process to the end of whatever it came to. */
static void
monitor(const struct server *s, struct watch *w, int64_t deadline)
{
	static struct report report;
	struct watch_event e;

	if (await_login(s, w, deadline, &report)) {
		watch_kill(w, ROLE_PREAUTH, WATCH_DISMISSED);
		visit_admit(&s->o, &s->preauth, s->auth, &report, deadline, w);
		return;
	}
	visit_leave_client();
	while (watch_next(w, &e))
		;
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

/* What must be true of the machine before anybody is served, and what is read once. */
static void
prepare(struct server *s)
{
	const struct rlimit no_core = { 0, 0 };
	const char *refusal;

	if (geteuid() != 0)
		fatal("starting without root");
	if (setrlimit(RLIMIT_CORE, &no_core) == -1)
		fatal("setrlimit");
	if ((refusal = account_find(s->o.user, NULL, &s->preauth)) != NULL)
		options_refuse(false, "the pre-auth user cannot be used: ", refusal);
	s->auth = auth_prepare();
}

/* Reads it anew. What is wrong now does not end what worked so far. */
static void
reload(void *self)
{
	struct server *s = self;
	struct account preauth;
	const char *refusal = account_find(s->o.user, NULL, &preauth);
	struct auth *auth = auth_prepare();

	if (refusal != NULL)
		log_event(LOG_ERR, "failed", "what=\"reading the pre-auth user again\" "
		    "error=\"%s\"", refusal);
	else
		s->preauth = preauth;
	/* Somebody may be saving it now. */
	if (auth != NULL && auth_is_unconfigured(auth) && s->auth != NULL && !auth_is_unconfigured(s->auth)) {
		log_event(LOG_ERR, "failed", "what=\"reading krb5.conf again\" "
		    "error=\"there is nothing in it\"");
		auth_free(auth);
		return;
	}
	if (auth == NULL)
		return;
	if (s->auth != NULL)
		auth_free(s->auth);
	s->auth = auth;
}

/* Root: one connection, on fds 0 and 1, with fd 2 on /dev/null and syslog behind it. */
static void
serve(struct server *s)
{
	static struct watch w;
	int64_t deadline = clock_ms() + (int64_t)s->o.login * 1000;
	int channel;

	watch_line(&s->o);
	s->o.tls.works = s->o.tls.when != TLS_NO && layer_tls_works(&s->o);
	/* Before the client can end the connection; its address would be gone then. */
	s->is_proxied = s->o.proxies.count > 0 && proxies_include_peer(&s->o.proxies, 0);
	watch_begin(&w);
	if (watch_fork(&w, ROLE_PREAUTH, deadline + GRACE_MS, &channel))
		preauth(&s->o, &s->preauth, s->auth, deadline, channel);
	monitor(s, &w, deadline);
}

/* A child of the listener. It has a line to syslog of its own: the listener's may be older than syslogd. */
static void
serve_accepted(void *self)
{
	char peer[ADDRESS_TEXT];

	log_open("kpopd");
	/* Reset while it waited. */
	if (name_peer(peer) == -1)
		return;
	log_peer(peer);
	serve(self);
}

/* Returns true if connections from the address begin with a PROXY header. */
static bool
is_proxy(void *self, const struct sockaddr_storage *from)
{
	const struct server *s = self;

	return proxies_include(&s->o.proxies, from);
}

/* The listener. It holds what the sessions' processes would hold of it: syslog, and /dev/null for the rest. */
static int
listen_on(struct server *s)
{
	const struct accept_plan plan = { .limits = &s->o.limits, .idle = s->o.linger,
		.quiet = s->o.tls.when == TLS_IMMEDIATE, .self = s,
		.is_proxy = is_proxy, .serve = serve_accepted, .reload = reload };

	if (dup2(2, 1) == -1)
		fatal("dup2");
	prepare(s);
	/* What is wrong with certificate and cipher suites is said at the start. */
	if (s->o.tls.when != TLS_NO)
		layer_tls_works(&s->o);
	return accept_connections(&plan);
}

int
main(int argc, char **argv)
{
	static struct server s;
	struct stat st;
	char peer[ADDRESS_TEXT];
	bool by_hand;

	/* Without fd 0 the client may all the same be on fd 2, where who starts it by hand would read. */
	by_hand = clean_process() && (fstat(0, &st) == -1 || !S_ISSOCK(st.st_mode));
	if (!by_hand && dup2(open("/dev/null", O_RDWR | O_CLOEXEC), 2) == -1)
		return 1;
	closefrom(3);
	clean_environment();
	log_open("kpopd");
	options_read(&s.o, argc, argv, by_hand);
	if (s.o.recover && geteuid() != 0)
		options_refuse(by_hand, "--recover needs root", "");
	if (s.o.recover)
		return recover_all(&s.o);
	if (!by_hand && accept_is_due())
		return listen_on(&s);
	if (by_hand || name_peer(peer) == -1) {
		/* Reset before we were started: nothing is wrong here. */
		if (!by_hand && errno == ENOTCONN) {
			log_event(LOG_NOTICE, "refused", "reason=\"closed before the first byte\"");
			return 0;
		}
		options_refuse(by_hand, "standard input is no connection; "
		    "xinetd, inetd or systemd starts kpopd", "");
	}
	log_peer(peer);
	prepare(&s);
	serve(&s);
	return 0;
}
