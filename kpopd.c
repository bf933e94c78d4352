/*
 * Reads the options and tells the story: gate, report, drop, serve.
 *
 * Runs as root until it has become somebody else; each function says who. The
 * processes that hold root's code: this file, privsep.c, log.c, the first half
 * of auth.c, and nothing more.
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
#include <getopt.h>
#include <netdb.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "auth.h"
#include "io.h"
#include "log.h"
#include "maildrop.h"
#include "pop3.h"
#include "privsep.h"
#include "sendauth.h"

/* A gate that is stuck in a library, and so cannot keep its deadline itself, is killed this much later. */
#define GRACE_MS 1000
/* A client that takes none of a buffer of output for so long has gone. */
#define STALL_SECONDS 120
#define REPLAY_CACHE "file2:/replay/cache"

struct options {
	const char *keytab;  /* NULL: libkrb5's default */
	const char *service; /* NULL: any pop/ or pop3/ of the keytab */
	const char *where;   /* the mailboxes */
	const char *state;
	const char *user; /* of the gate */
	uid_t least_uid;
	int login, idle; /* seconds */
	struct account gate;
	int64_t deadline; /* for the login: absolute, ms of CLOCK_MONOTONIC */
};

/* By hand a mistake is said on the terminal; under inetd fd 2 is the client, and syslog is told. */
_Noreturn static void
refuse_to_run(bool by_hand, const char *why, const char *what)
{
	struct log_text t;

	if (by_hand)
		fprintf(stderr, "kpopd: %s%s\nusage: kpopd [-d state] [-k keytab]"
		    " [-m mbox:path] [-n uid]\n             [-s principal]"
		    " [-t login[:idle]] [-u user]\n       kpopd --help | --version\n",
		    why, what);
	else
		log_event(LOG_ERR, "fatal", "error=\"%s%s\"", why, log_words(&t, what));
	exit(2);
}

static void
print_help(void)
{
	printf("kpopd: Kerberized POP3 (KPOP), started by xinetd for each connection.\n"
	       "  -d state          directory of locks, journals and the replay cache\n"
	       "  -k keytab         of the service (default: libkrb5's)\n"
	       "  -m mbox:path      mailboxes, with %%u user, %%h home (default: mbox:/var/mail/%%u)\n"
	       "  -n uid            smallest that may log in (default: %d)\n"
	       "  -s principal      the only service to be (default: all pop/ and pop3/ in the keytab)\n"
	       "  -t login[:idle]   limits in seconds (default: 30:600)\n"
	       "  -u user           of the process that reads tickets (default: kpopd)\n"
	       "See kpopd(8).\n", UID_MIN);
}

/* A decimal number in [least, most] up to the end of text or to stop. Returns what follows, or NULL. */
static const char *
number(const char *text, char stop, long least, long most, long *n)
{
	char *end;

	errno = 0;
	*n = strtol(text, &end, 10);
	if (end == text || errno != 0 || *text < '0' || *text > '9' ||
	    *n < least || *n > most || (*end != '\0' && *end != stop))
		return NULL;
	return end;
}

static void
read_times(struct options *o, const char *text, bool by_hand)
{
	long login, idle = o->idle;
	const char *rest = number(text, ':', 1, 3600, &login);

	if (rest != NULL && *rest == ':')
		rest = number(rest + 1, '\0', 1, 86400, &idle);
	if (rest == NULL)
		refuse_to_run(by_hand, "-t takes seconds, as 30:600, not ", text);
	o->login = (int)login;
	o->idle = (int)idle;
}

static void
read_options(struct options *o, int argc, char **argv, bool by_hand)
{
	static const struct option longer[] = {
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'V' },
		{ NULL, 0, NULL, 0 },
	};
	long n;
	int c;

	opterr = 0;
	while ((c = getopt_long(argc, argv, "d:k:m:n:s:t:u:", longer, NULL)) != -1) {
		switch (c) {
		case 'd':
			o->state = optarg;
			break;
		case 'k':
			o->keytab = optarg;
			break;
		case 'm':
			if (!maildrop_valid(optarg))
				refuse_to_run(by_hand, "-m takes mbox:/path with %u and %h, not ", optarg);
			o->where = optarg;
			break;
		case 'n':
			if (number(optarg, '\0', 1, 0x7fffffff, &n) == NULL)
				refuse_to_run(by_hand, "-n takes a uid above 0, not ", optarg);
			o->least_uid = (uid_t)n;
			break;
		case 's':
			o->service = optarg;
			break;
		case 't':
			read_times(o, optarg, by_hand);
			break;
		case 'u':
			o->user = optarg;
			break;
		case 'h':
			print_help();
			exit(0);
		case 'V':
			printf("kpopd %s\n", PACKAGE_VERSION);
			exit(0);
		default:
			refuse_to_run(by_hand, "wrong option or missing argument: ", argv[optind - 1]);
		}
	}
	if (optind < argc)
		refuse_to_run(by_hand, "options only, not ", argv[optind]);
}

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
gate(const struct options *o, int channel)
{
	static struct io io;
	struct report r = { .unread_size = 0 };
	struct auth *auth;
	const char *unread;

	privsep_make_jail(o->state, &o->gate);
	auth = auth_open(o->keytab, o->service, REPLAY_CACHE);
	privsep_jail(o->state, &o->gate);
	io_init(&io, 0, o->deadline);
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
await_report(const struct options *o, int channel, pid_t gate_pid, struct report *r)
{
	enum report_result result = report_await(channel, r, o->deadline + GRACE_MS);
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

static void
log_refusal(const struct report *r, const char *reason)
{
	struct log_text principal;

	log_event(LOG_NOTICE, "refused", "reason=\"%s\" user=%s principal=%s",
	    reason, r->user, log_safe(&principal, r->peer.principal));
}

/* Session, as the user: whether the ticket opens this account. krb5_kuserok may hang on what the user put in its way. */
static bool
is_permitted(const struct options *o, const struct report *r, const struct account *a)
{
	int64_t left = (o->deadline - io_now()) / 1000 + 1;
	struct log_text principal, service;
	const char *how;

	alarm(left > 0 ? (unsigned)left : 1);
	how = auth_permitted(r->peer.principal, a->name, a->home);
	alarm(0);
	if (how == NULL) {
		log_refusal(r, "not permitted to be this user");
		return false;
	}
	log_event(LOG_INFO, "login", "user=%s principal=%s service=%s enctype=%s"
	    " mutual=%s by=%s", a->name, log_safe(&principal, r->peer.principal),
	    log_safe(&service, r->peer.service), r->peer.enctype,
	    r->peer.mutual ? "yes" : "no", how);
	return true;
}

/* Session, as the user: the maildrop, and POP3 over it. */
static void
serve(const struct options *o, const struct account *a, struct io *io)
{
	struct maildrop drop;
	enum drop_error error;
	char path[PATH_MAX];
	int stall = o->idle < STALL_SECONDS ? o->idle : STALL_SECONDS, state;

	snprintf(path, sizeof(path), "%s/users/%u", o->state, (unsigned)a->uid);
	state = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (state == -1)
		fatal("opening %s", path);
	error = maildrop_open(&drop, o->where, a->name, a->home, state);
	io_limits(io, (int64_t)o->idle * 1000, (int64_t)stall * 1000);
	if (error == DROP_OK)
		pop3_serve(io, &drop);
	else {
		log_event(LOG_NOTICE, "logout", "reason=%s",
		    error == DROP_BUSY ? "in-use" : "unavailable");
		pop3_unavailable(io, error);
	}
}

/* The session, from root to the user; or, when nobody may come in, to the gate's user, just for the answer. */
_Noreturn static void
session(const struct options *o, const struct report *r, const struct account *a)
{
	static struct io io;

	privsep_become(a != NULL ? a : &o->gate);
	io_init(&io, 0, o->deadline);
	io_prime(&io, r->unread, r->unread_size);
	if (a != NULL && is_permitted(o, r, a))
		serve(o, a, &io);
	else
		pop3_refuse(&io);
	io_linger(&io);
	_exit(0);
}

/* The monitor, no longer root: keeps inetd's count of connections right, and tells of a session that was killed. */
static void
await_session(pid_t pid)
{
	int status;

	close(0);
	close(1);
	while (waitpid(pid, &status, 0) == -1)
		if (errno != EINTR)
			fatal("waitpid");
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM)
		log_event(LOG_NOTICE, "refused", "reason=\"login deadline, session killed\"");
	else if (WIFSIGNALED(status))
		log_event(LOG_ERR, "fatal", "error=\"the session was ended by signal %d\"",
		    WTERMSIG(status));
}

/* The monitor, root: from the report to the session. */
static void
admit(const struct options *o, const struct report *r)
{
	struct account a;
	const char *refusal = account_find(r->user, o->least_uid, &a);
	pid_t pid;

	if (refusal != NULL)
		log_refusal(r, refusal);
	else
		privsep_make_state(o->state, &a);
	if ((pid = fork()) == -1)
		fatal("fork");
	if (pid == 0)
		session(o, r, refusal == NULL ? &a : NULL);
	privsep_become(refusal == NULL ? &a : &o->gate);
	await_session(pid);
}

/* What must be true of the machine before anybody is served. */
static void
prepare(struct options *o)
{
	const struct rlimit no_core = { 0, 0 };
	const char *refusal;
	int on = 1;

	if (geteuid() != 0)
		fatal("starting without root");
	if (setrlimit(RLIMIT_CORE, &no_core) == -1)
		fatal("setrlimit");
	if ((refusal = account_find(o->user, 1, &o->gate)) != NULL)
		refuse_to_run(false, "the gate's user cannot be used: ", refusal);
	/* An answer shall not wait for the client's delayed ACK. */
	setsockopt(0, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	o->deadline = io_now() + (int64_t)o->login * 1000;
}

int
main(int argc, char **argv)
{
	static struct report report;
	struct options o = {
		.where = "mbox:/var/mail/%u",
		.state = STATE_DIRECTORY,
		.user = "kpopd",
		.least_uid = UID_MIN,
		.login = 30,
		.idle = 600,
	};
	struct stat st;
	char peer[80];
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
	read_options(&o, argc, argv, by_hand);
	if (by_hand || name_peer(peer, sizeof(peer)) == -1)
		refuse_to_run(by_hand, "standard input is no connection; "
		    "xinetd, inetd or systemd starts kpopd", "");
	log_peer(peer);
	prepare(&o);
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, channel) == -1)
		fatal("socketpair");
	if ((pid = fork()) == -1)
		fatal("fork");
	if (pid == 0) {
		close(channel[0]);
		gate(&o, channel[1]);
	}
	close(channel[1]);
	if (await_report(&o, channel[0], pid, &report)) {
		close(channel[0]);
		admit(&o, &report);
	}
	return 0;
}
