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

#include <dirent.h>
#include <err.h>
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
#include "lock.h"
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
	struct lock_plan locks;
	bool recover;     /* by hand: finish what crashes left, serve nobody */
	int64_t deadline; /* for the login: absolute, ms of CLOCK_MONOTONIC */
};

/* One user's visit: who it is, where the mail is, and what let them in. */
struct visit {
	const struct options *o;
	const struct report *report; /* NULL: recovery by hand */
	struct account user;
	const char *path;
	gid_t group; /* of the broker; the user's own when there is none */
	bool has_broker;
};

/* By hand a mistake is said on the terminal; under inetd fd 2 is the client, and syslog is told. */
_Noreturn static void
refuse_to_run(bool by_hand, const char *why, const char *what)
{
	struct log_text t;

	if (by_hand)
		fprintf(stderr, "kpopd: %s%s\nusage: kpopd [-d state] [-k keytab]"
		    " [-l locks] [-m mbox:path]\n             [-n uid] [-s principal]"
		    " [-t login[:idle]] [-u user]\n       kpopd --recover [-d state]"
		    " [-l locks] [-m mbox:path] [-n uid]\n       kpopd --help | --version\n",
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
	       "  -l locks          of mailboxes, in this order: fcntl, flock, dotlock (default: fcntl,dotlock)\n"
	       "  -m mbox:path      mailboxes, with %%u user, %%h home (default: mbox:/var/mail/%%u)\n"
	       "  -n uid            smallest that may log in (default: %d)\n"
	       "  -s principal      the only service to be (default: all pop/ and pop3/ in the keytab)\n"
	       "  -t login[:idle]   limits in seconds (default: 30:600)\n"
	       "  -u user           of the process that reads tickets (default: kpopd)\n"
	       "  --recover         finish the removals that a crash broke off, at boot, before mail is delivered\n"
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
		{ "recover", no_argument, NULL, 'R' },
		{ "version", no_argument, NULL, 'V' },
		{ NULL, 0, NULL, 0 },
	};
	long n;
	int c;

	opterr = 0;
	while ((c = getopt_long(argc, argv, "d:k:l:m:n:s:t:u:", longer, NULL)) != -1) {
		switch (c) {
		case 'd':
			o->state = optarg;
			break;
		case 'k':
			o->keytab = optarg;
			break;
		case 'l':
			if (lock_plan_read(&o->locks, optarg) == -1)
				refuse_to_run(by_hand, "-l takes fcntl, flock and dotlock with commas, not ", optarg);
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
		case 'R':
			o->recover = true;
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

/* The user's state directory, opened by the user. */
static int
open_state(const struct options *o, uid_t uid)
{
	char path[PATH_MAX];
	int fd;

	snprintf(path, sizeof(path), "%s/users/%u", o->state, (unsigned)uid);
	fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd == -1)
		fatal("opening %s", path);
	return fd;
}

/* Session, as the user: the maildrop, and POP3 over it. */
static void
serve(const struct visit *v, const struct lock_plan *locks, struct io *io)
{
	struct maildrop drop;
	enum drop_error error;
	int idle = v->o->idle;
	int stall = idle < STALL_SECONDS ? idle : STALL_SECONDS;

	error = maildrop_open(&drop, v->path, open_state(v->o, v->user.uid), locks);
	io_limits(io, (int64_t)idle * 1000, (int64_t)stall * 1000);
	if (error == DROP_OK)
		pop3_serve(io, &drop);
	else {
		log_event(LOG_NOTICE, "logout", "reason=%s",
		    error == DROP_BUSY ? "in-use" : "unavailable");
		pop3_unavailable(io, error);
	}
}

/* The session, as the user: whether the ticket lets them in, and all that follows. broker: the channel, or -1. */
_Noreturn static void
session(const struct visit *v, int broker)
{
	static struct io io;
	struct lock_plan locks = v->o->locks;

	locks.broker = broker;
	io_init(&io, 0, v->o->deadline);
	io_prime(&io, v->report->unread, v->report->unread_size);
	if (is_permitted(v->o, v->report, &v->user))
		serve(v, &locks, &io);
	else
		pop3_refuse(&io);
	io_linger(&io);
	_exit(0);
}

/* As the user: finishes a removal. */
_Noreturn static void
recover(const struct visit *v, int broker)
{
	struct lock_plan locks = v->o->locks;

	locks.broker = broker;
	log_event(LOG_NOTICE, "recovery", "user=%s", v->user.name);
	_exit(maildrop_recover(v->path, open_state(v->o, v->user.uid), &locks) ==
	    DROP_OK ? 0 : 1);
}

/* For nobody who may come in: the answer, from a process made like a session's but with the gate's rights. */
_Noreturn static void
refuse(const struct options *o, const struct report *r)
{
	static struct io io;

	privsep_become(&o->gate);
	io_init(&io, 0, o->deadline);
	io_prime(&io, r->unread, r->unread_size);
	pop3_refuse(&io);
	io_linger(&io);
	_exit(0);
}

/* The monitor, no longer root: waits for a child, and tells when it was killed. Returns its wait status. */
static int
await_child(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, 0) == -1)
		if (errno != EINTR)
			fatal("waitpid");
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM)
		log_event(LOG_NOTICE, "refused", "reason=\"login deadline, session killed\"");
	else if (WIFSIGNALED(status))
		log_event(LOG_ERR, "fatal", "error=\"the session was ended by signal %d\"",
		    WTERMSIG(status));
	return status;
}

/*
 * Forks what works for the user, with a channel to the broker where there is
 * one. as_root: this process is still root, else the broker. Returns the
 * broker's end of the channel (-1: none) and the child's number in *pid.
 */
static int
start(const struct visit *v, void (*work)(const struct visit *, int),
    bool as_root, pid_t *pid)
{
	int channel[2] = { -1, -1 };

	if (v->has_broker && socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, channel) == -1)
		fatal("socketpair");
	if ((*pid = fork()) == -1)
		fatal("fork");
	if (*pid == 0) {
		if (channel[0] != -1)
			close(channel[0]);
		if (as_root)
			privsep_become(&v->user);
		else
			privsep_leave_broker(&v->user);
		work(v, channel[1]);
	}
	if (channel[1] != -1)
		close(channel[1]);
	return channel[0];
}

/* The broker's life with one child: serves it, sees it end. Returns its wait status. */
static int
attend(const struct visit *v, int channel, pid_t pid)
{
	if (channel != -1) {
		lock_broker(channel, v->path);
		close(channel);
	}
	return await_child(pid);
}

/*
 * The monitor, root: makes the worker, gives up root, is its broker, and if it
 * left a removal unfinished lets another one finish it at once, before an MDA
 * or another program looks. Returns the exit status.
 */
static int
visit(struct visit *v)
{
	pid_t pid;
	int channel, status;

	privsep_make_state(v->o->state, &v->user);
	v->has_broker = !maildrop_in_home(v->o->where) &&
	    lock_needs_broker(&v->o->locks, v->path, &v->group);
	if (!v->has_broker)
		v->group = v->user.gid;
	channel = start(v, v->report != NULL ? session : recover, true, &pid);
	privsep_become_broker(&v->user, v->group);
	if (v->report != NULL) {
		close(0);
		close(1);
	}
	status = attend(v, channel, pid);
	if (v->report != NULL && maildrop_unfinished(open_state(v->o, v->user.uid))) {
		channel = start(v, recover, false, &pid);
		status = attend(v, channel, pid);
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

/* The monitor, root: from the report to the session. */
static void
admit(const struct options *o, const struct report *r)
{
	struct visit v = { .o = o, .report = r };
	const char *refusal = account_find(r->user, o->least_uid, &v.user);
	pid_t pid;

	if (refusal == NULL) {
		v.path = maildrop_path(o->where, v.user.name, v.user.home);
		if (v.path == NULL)
			refusal = "the mailbox' name is too long";
	}
	if (refusal == NULL) {
		visit(&v);
		return;
	}
	log_refusal(r, refusal);
	if ((pid = fork()) == -1)
		fatal("fork");
	if (pid == 0)
		refuse(o, r);
	privsep_become(&o->gate);
	close(0);
	close(1);
	await_child(pid);
}

/* Root, by hand: one user's unfinished removal, in a process of its own. Returns whether it is finished. */
static bool
recover_user(const struct options *o, uid_t uid)
{
	struct visit v = { .o = o };
	const char *refusal = account_find_uid(uid, o->least_uid, &v.user);
	pid_t pid;
	int status;

	if (refusal == NULL &&
	    (v.path = maildrop_path(o->where, v.user.name, v.user.home)) == NULL)
		refusal = "the mailbox' name is too long";
	if (refusal != NULL) {
		printf("uid %u: %s\n", (unsigned)uid, refusal);
		return false;
	}
	fflush(stdout);
	if ((pid = fork()) == -1)
		fatal("fork");
	if (pid == 0)
		_exit(visit(&v));
	while (waitpid(pid, &status, 0) == -1)
		if (errno != EINTR)
			fatal("waitpid");
	printf("%s: %s\n", v.user.name, status == 0 ? "removal finished" :
		"not finished, see syslog");
	return status == 0;
}

/* Root, by hand: every state directory with an unfinished removal. Returns the exit status. */
static int
recover_all(const struct options *o)
{
	char path[PATH_MAX];
	const struct dirent *entry;
	DIR *users;
	long uid;
	bool good = true;

	snprintf(path, sizeof(path), "%s/users", o->state);
	if ((users = opendir(path)) == NULL) {
		if (errno == ENOENT)
			return 0;
		err(1, "%s", path);
	}
	while ((entry = readdir(users)) != NULL) {
		int state;

		if (number(entry->d_name, '\0', 1, UINT32_MAX - 1L, &uid) == NULL)
			continue;
		state = openat(dirfd(users), entry->d_name,
		    O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (state == -1)
			continue;
		if (maildrop_unfinished(state) && !recover_user(o, (uid_t)uid))
			good = false;
		close(state);
	}
	closedir(users);
	return good ? 0 : 1;
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
	lock_plan_read(&o.locks, "fcntl,dotlock");
	read_options(&o, argc, argv, by_hand);
	if (o.recover) {
		if (geteuid() != 0)
			refuse_to_run(by_hand, "--recover needs root", "");
		return recover_all(&o);
	}
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
