/*
 * Starts kpopd: cleans the process, reads the options, and serves the
 * connection on descriptor 0, or listens there.
 *
 * Runs as root. A connection is served by these processes:
 *
 *	main         root: options, environment, krb5.conf; if descriptor 0
 *	 │           listens, a child for each connection (accept.c)
 *	monitor      root: watches the others, decides, writes the log; reads
 *	 │           nothing of the network, never opens the keytab
 *	 ├ pre-auth  root: copies the keys; then jailed: ticket, USER, PASS;
 *	 │           sends one login to the monitor, and ends
 *	 ├ kpopd-tls, relay  jailed: if there is TLS or a GSSAPI layer
 *	 ├ session   the user: krb5_kuserok; if that permits the login, the
 *	 │           client's socket, the mailbox, POP3
 *	 ├ broker    the user with the spool's group: the dotlock, recovery
 *	 └ refusal   the pre-auth user, jailed: answers in place of a session
 *
 * Copies of key bytes stay in memory after they are freed, and setuid does not
 * clear them; only the end of a process does. So the keys are read in the
 * pre-auth process, and the session is a child of the monitor, which never had
 * them.
 *
 * Files with code that root runs; tests/tools/walls computes the list from
 * the objects and compares:
 *
 *	accept-limits.c accept-queue.c accept-socket.c accept-sources.c
 *	accept-stale.c accept-unable.c accept.c access.c account.c
 *	address.c auth-keytab.c auth-krb5conf.c auth-start.c auth.c
 *	by-hand.c clock.c exposure.c file.c import-run.c keep-ask.c
 *	keep-serve.c keep.c kpopd-tls.c kpopd.c layer.c load-gss.c
 *	load-tls.c lock.c log.c login-defs.c mailboxes.c message.c
 *	monitor-watch.c monitor.c networks.c options-file.c
 *	options-table.c options.c packet.c path.c preauth.c privsep.c
 *	process.c recover-all.c relay-tls.c replay-cache.c resolve.c
 *	root-file.c sandbox.c sasl.c session-setup.c state.c
 *	uidl-scheme.c uidl.c volume.c
 */
#include "config.h"

#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <netinet/in.h>
#include <netinet/tcp.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "accept-socket.h"
#include "accept-stale.h"
#include "accept-unable.h"
#include "accept.h"
#include "account.h"
#include "address.h"
#include "auth-keytab.h"
#include "auth-start.h"
#include "clock.h"
#include "exposure.h"
#include "file.h"
#include "import-run.h"
#include "layer.h"
#include "load-gss.h"
#include "log.h"
#include "monitor.h"
#include "options.h"
#include "recover-all.h"
#include "sandbox.h"
#include "state.h"

#define KPOPD_CHECK LIBEXEC_DIRECTORY "/kpopd-check"

/* What all connections share; read before the first. */
struct server {
	struct options o;
	struct account preauth; /* the account of the pre-auth process */
	struct auth *auth;      /* the krb5.conf snapshot, without keys */
};

/*
 * Opens descriptors 0 to 2 if they are closed, closes all others, and resets
 * what the parent process has set of signals and umask. Returns true if
 * descriptor 0 was open.
 */
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

/*
 * Keeps the variables that the administrator's inetd may set, and removes all
 * others, because libkrb5 would use many of them.
 */
static void
clean_environment(void)
{
	static const char *const kept[] = { "KRB5_CONFIG", "KRB5_KTNAME",
		"TZ" SANITIZER_VARIABLES };
	enum { KEPT = sizeof(kept) / sizeof(kept[0]) };
	char *values[KEPT];

	for (size_t i = 0; i < KEPT; i++) {
		values[i] = getenv(kept[i]);
		if (values[i] != NULL &&
		    (values[i] = strdup(values[i])) == NULL)
			fatal("strdup");
	}
	clearenv();
	for (size_t i = 0; i < KEPT; i++)
		if (values[i] != NULL && setenv(kept[i], values[i], 1) == -1)
			fatal("setenv");
	/* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): the copies are kept */
	if (setenv("PATH", "/usr/sbin:/usr/bin:/sbin:/bin", 1) == -1)
		fatal("setenv");
}

/*
 * Sets the options of the client's socket. Without keepalive the kernel would
 * not notice that a client has gone without closing the connection. With it a
 * lost connection ends after a fifth of the idle limit, at most two minutes,
 * whether the client was to send (keepalive) or to receive (user timeout;
 * tcp(7)).
 */
static void
set_socket(const struct options *o)
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
	/* Otherwise an answer would wait for the client's delayed ACK. */
	setsockopt(0, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

/*
 * Looks for what the kernel or a supervisor does not offer of the sandbox.
 * Serves without it only with -S optional, and logs that.
 */
static void
find_sandbox(struct options *o)
{
	char found[SANDBOX_TEXT], remedy[SANDBOX_TEXT],
	    text[sizeof(found) + sizeof(remedy) + 2];

	o->sandbox.missing = sandbox_find_missing(found, remedy);
	if (o->sandbox.missing == 0)
		return;
	snprintf(text, sizeof(text), "%s. %s", found, remedy);
	if (!o->sandbox.is_optional)
		options_refuse(o, text, ". Or serve without: -S optional");
	log_event(LOG_WARNING, "sandbox", "error=\"%s\"", text);
	sandbox_do_without(o->sandbox.missing);
}

/*
 * Checks the conditions for serving, and reads the pre-auth user's account and
 * krb5.conf, which serve all connections.
 */
static void
prepare_server(struct server *s)
{
	const struct rlimit no_core = { 0, 0 };
	const char *refusal;
	char why[128];

	if (geteuid() != 0)
		fatal("kpopd must be started as root");
	if (setrlimit(RLIMIT_CORE, &no_core) == -1)
		fatal("setrlimit");
	find_sandbox(&s->o);
	if ((refusal = account_find(s->o.user, NULL, &s->preauth)) != NULL) {
		snprintf(why, sizeof(why),
		    "the pre-auth user cannot be used: %s: ", refusal);
		options_log_refusal(why, s->o.user);
	}
	if (s->o.pop3 && (refusal = load_gss()) != NULL)
		options_log_refusal("libgssapi cannot be loaded: ", refusal);
	if ((s->auth = auth_prepare()) == NULL)
		options_log_refusal("Kerberos does not work: ",
		    auth_configuration());
	/*
	 * Do not serve if krb5.conf is missing or empty, because no login would
	 * be permitted. An editor may be writing the file, so it may be empty
	 * only for a moment.
	 */
	if (auth_is_unconfigured(s->auth))
		options_log_refusal("krb5.conf is missing or empty: ",
		    auth_configuration());
	/*
	 * systemd gives the listener mounts of its own. If the file system is
	 * read-only when the listener starts, it stays so for the listener.
	 */
	state_require(s->o.state);
}

/*
 * Listener: keeps a file in memory open, with the krb5.conf that is in use,
 * which kpopd --check reads through /proc.
 */
static void
show_krb5conf(const struct server *s)
{
	static int fd = -1;
	const char *text = auth_krb5conf(s->auth);

	if (fd == -1)
		fd = file_in_memory(AUTH_SHOWN);
	if (fd != -1 && ftruncate(fd, 0) == 0)
		file_write(fd, text, strlen(text), 0);
}

/*
 * Reads the account and krb5.conf again. If one of them cannot be read, keeps
 * its earlier content.
 */
static void
reload_server(struct server *s)
{
	struct account preauth;
	const char *refusal = account_find(s->o.user, NULL, &preauth);
	struct auth *auth = auth_prepare();

	if (refusal != NULL)
		log_failed_at(LOG_ERR, refusal,
		    "looking up the pre-auth user %s again", s->o.user);
	else
		s->preauth = preauth;
	if (auth == NULL)
		return;
	if (auth_is_unconfigured(auth)) {
		log_failed_at(LOG_ERR, "it is absent or empty now",
		    "reading krb5.conf again");
		auth_free(auth);
		return;
	}
	auth_free(s->auth);
	s->auth = auth;
	show_krb5conf(s);
}

/*
 * Listener, at SIGHUP: reads again what it read at its start. Returns false
 * if the options have changed: the listener's tables depend on them, so it
 * ends, and the next one starts with them. If the options have a mistake, the
 * earlier ones stay.
 */
static bool
obey_hangup(void *self)
{
	if (options_have_changed()) {
		log_event(LOG_NOTICE, "listener",
		    "reason=\"the options have changed\"");
		return false;
	}
	reload_server(self);
	return true;
}

/*
 * Checks who can read or change the keytab and the TLS key: at the start of a
 * listener, and before each connection. exposure_warn does not log the same
 * warning before each connection.
 */
static void
warn_of_exposure(const struct server *s, bool is_start)
{
	const struct exposure_place place = { .state = s->o.state,
		.least_user = s->o.least_user,
		.is_start = is_start };
	char path[PATH_MAX];

	if (keytab_path(s->auth, s->o.keytab, path))
		exposure_warn(&place, "keytab", path);
	if (s->o.tls.when != TLS_NO)
		exposure_warn(&place, "tls-key", s->o.tls.key);
}

/*
 * Becomes the monitor of the connection on descriptors 0 and 1, from this peer;
 * descriptor 2 is /dev/null.
 */
static void
serve_connection(struct server *s, const struct sockaddr_storage *peer)
{
	struct monitor m = { .o = &s->o,
		.preauth = &s->preauth,
		.auth = s->auth,
		.peer = peer,
		.is_proxied = networks_include(&s->o.proxies, peer) };

	m.deadline = clock_ms() + (int64_t)s->o.login * 1000;
	set_socket(&s->o);
	warn_of_exposure(s, false);
	s->o.tls.works = s->o.tls.when != TLS_NO && layer_tls_works(&s->o);
	unable_end();
	monitor_run(&m);
}

/*
 * Child of the listener: serves the accepted connection. It opens its own
 * connection to syslog, because syslogd may have been restarted since the
 * listener opened one.
 */
static void
serve_accepted(void *self)
{
	struct sockaddr_storage peer;
	struct address_text text;

	log_open("kpopd");
	/* The client may have reset the connection while it waited. */
	if (address_of_peer(0, &peer, &text) == -1) {
		log_closed();
		return;
	}
	log_peer(text.text);
	serve_connection(self, &peer);
}

/* Returns true if connections from the address begin with a PROXY header. */
static bool
is_proxy(void *self, const struct sockaddr_storage *from)
{
	const struct server *s = self;

	return networks_include(&s->o.proxies, from);
}

/*
 * Listener: starts a kept kpopd-tls. Returns its pid, or -1 if the certificate
 * does not work (logged) or there is no process (logged).
 */
static pid_t
start_kept_tls(void *self)
{
	struct server *s = self;

	s->o.tls.works = s->o.tls.works || layer_tls_works(&s->o);
	return s->o.tls.works ? layer_start_kept_tls(&s->o) : -1;
}

/*
 * Becomes the listener, which listens on descriptor 0. Puts /dev/null on
 * descriptor 1, which may be a copy of the listening socket.
 */
static int
listen_for_clients(struct server *s)
{
	const struct accept_plan plan = { .limits = &s->o.limits,
		.idle = s->o.linger,
		.quiet = s->o.tls.when == TLS_IMMEDIATE,
		.self = s,
		.is_proxy = is_proxy,
		.serve = serve_accepted,
		.reload = obey_hangup,
		.start_helper =
		    s->o.tls.when != TLS_NO ? start_kept_tls : NULL };

	if (dup2(2, 1) == -1)
		fatal("dup2");
	prepare_server(s);
	options_show();
	show_krb5conf(s);
	warn_of_exposure(s, true);
	return accept_connections(&plan);
}

/*
 * Becomes a kept kpopd-tls. Listeners start their own; this one is for services
 * that start kpopd for each connection.
 */
static _Noreturn void
keep_tls(struct options *o, bool listens)
{
	if (geteuid() != 0)
		options_refuse(o, "--keep-tls needs root", "");
	if (listens)
		options_refuse(o, "--keep-tls serves no client", "");
	if (o->tls.when == TLS_NO)
		options_refuse(o, "--keep-tls needs a certificate (-c)", "");
	unable_end();
	find_sandbox(o);
	layer_keep_tls(o);
}

/*
 * Becomes kpopd-check, which reads the same command line. Its first word
 * becomes the path of this program.
 */
static _Noreturn void
check(const struct options *o, char **argv)
{
	static char path[PATH_MAX];

	if (readlink("/proc/self/exe", path, sizeof(path) - 1) != -1)
		argv[0] = path;
	execv(KPOPD_CHECK, argv);
	options_refuse(o, KPOPD_CHECK ": ", strerror(errno));
}

/* Gives a mailbox the ids of another server, or reports what that would do. */
static int
import_ids(struct options *o)
{
	const char *name =
	    o->import_uidl != NULL ? "--import-uidl" : "--uidl-report";

	if (geteuid() != 0)
		options_refuse(o, name, " needs root");
	if (!o->by_hand)
		options_refuse(o, name, " serves no client");
	if (o->import_uidl != NULL && o->uidl_report != NULL)
		options_refuse(o, name, " excludes --uidl-report");
	find_sandbox(o);
	return import_run(o);
}

int
main(int argc, char **argv)
{
	static struct server s;
	struct stat st;
	struct sockaddr_storage peer;
	struct address_text text;
	bool by_hand, listens, is_right;

	/*
	 * If descriptor 0 was closed, descriptor 2 may still be the client's
	 * socket; so this counts as a connection, and nothing is printed.
	 */
	by_hand =
	    clean_process() && (fstat(0, &st) == -1 || !S_ISSOCK(st.st_mode));
	if (!by_hand && dup2(open("/dev/null", O_RDWR | O_CLOEXEC), 2) == -1)
		return 1;
	closefrom(3);
	clean_environment();
	log_open("kpopd");
	listens = !by_hand && accept_is_listening();
	if (listens && !stale_follow_parent())
		return 0;
	if (!by_hand)
		unable_begin(&s.o, listens);
	is_right = options_read(&s.o, argc, argv, by_hand);
	/* kpopd-check reports a mistake, too. */
	if (s.o.check.run && by_hand)
		check(&s.o, argv);
	if (s.o.check.run)
		options_refuse(&s.o, "--check serves no client", "");
	if (!is_right)
		options_refuse_mistake(&s.o);
	if (s.o.tls.is_kept)
		keep_tls(&s.o, listens);
	if (s.o.recover && geteuid() != 0)
		options_refuse(&s.o, "--recover needs root", "");
	if (s.o.recover && listens)
		options_refuse(&s.o, "--recover serves no client", "");
	if (s.o.recover) {
		unable_end();
		find_sandbox(&s.o);
		return recover_all(&s.o);
	}
	if (s.o.import_uidl != NULL || s.o.uidl_report != NULL)
		return import_ids(&s.o);
	if (listens)
		return listen_for_clients(&s);
	if (by_hand || address_of_peer(0, &peer, &text) == -1) {
		/*
		 * The client reset the connection before kpopd started; this
		 * is not an error.
		 */
		if (!by_hand && errno == ENOTCONN) {
			log_closed();
			return 0;
		}
		options_refuse(&s.o,
		    "standard input is not a connection; "
		    "xinetd, inetd or systemd must start kpopd",
		    "");
	}
	log_peer(text.text);
	prepare_server(&s);
	serve_connection(&s, &peer);
	/* exit would run the libraries' destructors, which change 23 pages. */
	_exit(0);
}
