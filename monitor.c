/*
 * Decides what the processes of one connection may do: the monitor.
 *
 * Runs as root, from the start of the pre-auth process to the end of the last
 * process of the connection. It reads nothing from the network and never opens
 * the keytab. It reads only the messages of its children, and checks each
 * message before it uses the content. OpenSSH's monitor is the model.
 *
 * The pre-auth process sends a login. The monitor looks the account up and
 * starts the session (session.c). The session asks Kerberos, as the user,
 * whether the ticket opens the account. Until Kerberos has answered, the
 * session has neither the client's socket nor the client's input. If the ticket
 * does not open the account, the refusal process (refusal.c) answers the
 * client. Otherwise the session gets the client's socket. The broker (broker.c)
 * is then started, if the mailbox's format has locks. The session and the
 * refusal process become another user in this file, before they call session.c
 * or refusal.c.
 */
#include "config.h"

#include <sys/socket.h>

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "accept-unable.h"
#include "access.h"
#include "address.h"
#include "auth-start.h"
#include "clock.h"
#include "layer.h"
#include "lock.h"
#include "log.h"
#include "maildrop.h"
#include "message.h"
#include "monitor.h"
#include "monitor-watch.h"
#include "packet.h"
#include "preauth.h"
#include "privsep.h"
#include "process.h"
#include "refusal.h"
#include "session.h"
#include "session-setup.h"
#include "state.h"
#include "turn.h"

/*
 * The pre-auth process ends itself at its deadline. The monitor kills it this
 * long after the deadline, in case it hangs in a library.
 */
#define GRACE_MS 1000
/* How long to wait until a client has taken the answer of answer_unserved. */
#define LINGER_MS 2000
/*
 * A refused login is answered no earlier than this after the login message,
 * plus the time to read the access file, whatever the reason. Otherwise the
 * client could learn the reason from the time that the refusal took. A refusal
 * that takes longer is not delayed.
 */
#define REFUSAL_MS 50
/*
 * The monitor looks for a free login slot once in SLOT_MS. If no slot has
 * become free when only NO_SLOT_MS are left until the login deadline, the
 * monitor refuses the login.
 */
#define SLOT_MS 50
#define NO_SLOT_MS 1000
/*
 * The pre-auth process may take this long to answer in place of a session, and
 * is killed afterwards.
 */
#define STAND_IN_MS 5000
/* A permitted session has at least this time to take the session lock. */
#define ENTER_MS 30000
/*
 * The broker may run for END_MS after its session has ended. If the broker
 * finishes a removal, it may run for RECOVERY_MS, because a mailbox may contain
 * a hundred gigabytes.
 */
#define END_MS 60000
#define RECOVERY_MS 3600000

/* What the monitor finds out about the connection before the login. */
struct connection {
	struct layers layers;
	/*
	 * The peer is a proxy that has not named its client. The address of the
	 * client is then unknown.
	 */
	bool is_unnamed;
	struct sockaddr_storage from; /* the client's address */
	bool is_answered;             /* by answer_unserved */
};

/* The monitor's state of one login. */
struct admission {
	struct session s;
	const struct connection *connection;
	const struct account *preauth;
	struct watch *w;
	/* when the login message came, plus the time to read the access file */
	int64_t asked;
	enum { ASKING, PERMITTED, REFUSED } verdict;
	char reason[MESSAGE_TEXT]; /* REFUSED: why */
	struct access_answer access;
	/* the broker has reported that it finishes a removal */
	bool is_recovering;
};

/* The login that is refused while the log lacks the refusal; NULL: none. */
static struct admission *unlogged;

/*
 * Takes the client's address, which the pre-auth process has read in a PROXY
 * header. All later log lines contain this address. Returns 0. Returns -1 if
 * the peer is not a proxy, if the pre-auth process has sent another message
 * before, or if the text is not an address.
 */
static int
take_peer(struct connection *c, const struct preauth_message *message)
{
	if (!c->is_unnamed || c->layers.tls || c->layers.gssapi ||
	    address_read(message->address.text, &c->from) == -1)
		return -1;
	c->is_unnamed = false;
	log_peer(message->address.text);
	return 0;
}

/*
 * Takes the turn if the pre-auth process does not have it. Then that process
 * waits for a file system, or has ended before it could serve, and this process
 * tells the client that the server cannot serve now. Returns true if it did.
 * Waits a little until the client has closed the connection, because closing it
 * before would destroy an answer that follows unread input.
 */
static bool
answer_unserved(const struct options *o, struct connection *c)
{
	struct pollfd client = { .fd = 0, .events = 0 };

	if (c->is_answered || !turn_take())
		return false;
	c->is_answered = true;
	/* The pre-auth process has given the turn away in the replay cache. */
	unable_answer(0, c->layers.tls, !o->pop3 && turn_was_given());
	shutdown(0, SHUT_WR);
	poll(&client, 1, LINGER_MS);
	return true;
}

/*
 * Kills the pre-auth process if it waits for a file system although the client
 * must be answered now.
 */
static void
end_hung_preauth(const struct options *o, struct watch *w, struct connection *c)
{
	if (!turn_take())
		return;
	watch_kill(w, ROLE_PREAUTH, WATCH_DISMISSED);
	log_event(LOG_NOTICE, "refused",
	    "reason=\"login deadline, a file system does not answer\"");
	answer_unserved(o, c);
	process_leave_client();
}

/*
 * Does what the pre-auth process asks for, until it sends a login. Returns true
 * with the login in *message, or false if the pre-auth process has ended
 * without one.
 */
static bool
await_login(const struct monitor *m, struct watch *w, struct connection *c,
    struct preauth_message *message)
{
	int64_t layer_deadline = m->deadline + (int64_t)2 * GRACE_MS;
	struct watch_event e;

	while (watch_next(w, &e)) {
		int result = -1;

		if (e.is_reminder)
			end_hung_preauth(m->o, w, c);
		else if (e.role == ROLE_PREAUTH && e.packet == NULL) {
			answer_unserved(m->o, c);
			return false;
		}
		if (e.packet == NULL)
			continue;
		if (e.role == ROLE_PREAUTH &&
		    message_read_preauth(e.packet, e.size, message)) {
			if (message->kind == MESSAGE_LOGIN)
				return true;
			if (message->kind == MESSAGE_PEER)
				result = take_peer(c, message);
			else if (message->kind == MESSAGE_TLS)
				result = layer_start_tls(m->o, &c->layers, w,
				    layer_deadline);
			else
				result = layer_start_gssapi(m->o, m->preauth,
				    &c->layers, w, layer_deadline);
		}
		if (result == -1)
			watch_kill(w, e.role, WATCH_WRONG);
	}
	return false;
}

static void
log_refusal(const struct preauth_message *login, const char *reason)
{
	struct log_text user, principal;

	/* NOLINTBEGIN(bugprone-signal-handler,cert-sig30-c): see end_lookup */
	log_event(LOG_NOTICE, "refused", "reason=\"%s\" user=%s principal=%s",
	    reason, log_safe(&user, login->user),
	    log_safe(&principal, login->peer.principal));
	/* NOLINTEND(bugprone-signal-handler,cert-sig30-c) */
}

/* Logs the refusal with its cause, which a rule in the file at path has. */
static void
log_refusal_by(const struct admission *a, const char *path, const char *cause)
{
	const struct preauth_message *login = a->s.login;
	struct log_text user, principal, shown;

	log_event(a->access.right == ACCESS_MISTAKE ? LOG_ERR : LOG_NOTICE,
	    "refused", "reason=\"%s\" user=%s principal=%s error=\"%s%s\"",
	    a->reason, log_safe(&user, login->user),
	    log_safe(&principal, login->peer.principal),
	    log_words(&shown, path), cause);
}

/*
 * Logs that Kerberos has refused the login, with the cause that the session has
 * sent. The session may be compromised, so it does not send the path of
 * .k5login.
 */
static void
log_kerberos_refusal(const struct admission *a, const char *sent)
{
	const struct account *account = &a->s.user;
	char path[AUTH_K5LOGIN], cause[sizeof(": ") + MESSAGE_TEXT];

	if (auth_k5login(a->s.auth, account->name, account->home, path) != 0)
		strlcpy(path, ".k5login", sizeof(path));
	snprintf(cause, sizeof(cause), ": %s", sent);
	log_refusal_by(a, path, cause);
}

/* Logs that the access file has refused the login, and by which line. */
static void
log_access_refusal(const struct admission *a)
{
	char cause[32 + ACCESS_WHY];

	if (a->access.line > 0)
		snprintf(cause, sizeof(cause), ":%u: %s", a->access.line,
		    a->access.why);
	else
		snprintf(cause, sizeof(cause), ": %s", a->access.why);
	log_refusal_by(a, access_path(a->s.o->access), cause);
}

static void
log_login(const struct session *s, const char *rule)
{
	const struct auth_peer *peer = &s->login->peer;
	struct log_text user, principal, service, ticket, session, layer;

	log_event(LOG_INFO, "login",
	    "user=%s principal=%s service=%s ticket=%s session=%s"
	    " mutual=%s layer=%s by=%s rights=%s",
	    log_safe(&user, s->user.name),
	    log_safe(&principal, peer->principal),
	    log_safe(&service, peer->service), log_safe(&ticket, peer->ticket),
	    log_safe(&session, peer->session), peer->mutual ? "yes" : "no",
	    log_safe(&layer, peer->layer), rule,
	    s->right == ACCESS_READ ? "read" : "full");
}

/*
 * Starts the refusal process, which answers the client in place of a session.
 * Returns true in the refusal process, which is then jailed as the pre-auth
 * user.
 */
static bool
fork_refusal(struct admission *a)
{
	struct session *s = &a->s;
	int channel;

	setup_close_end(&s->locks_to_session);
	if (watch_fork(a->w, ROLE_REFUSAL,
		s->deadline + (int64_t)2 * REFUSAL_MS, &channel)) {
		lock_signals(SIG_UNBLOCK);
		privsep_make_jail(s->o->state, "refusal");
		privsep_jail(s->o->state, "refusal", a->preauth);
		return true;
	}
	process_leave_client();
	return false;
}

/*
 * Logs the refusal that the log lacks, if there is one, with the cause that the
 * session has sent (NULL: none). The session is not needed any more.
 */
static void
end_refusal(const char *cause)
{
	const struct admission *a = unlogged;

	if (a == NULL)
		return;
	unlogged = NULL;
	if (cause != NULL)
		log_kerberos_refusal(a, cause);
	else if (a->access.why[0] != '\0')
		log_access_refusal(a);
	else
		log_refusal(a->s.login, a->reason);
	watch_kill(a->w, ROLE_SESSION, WATCH_DISMISSED);
}

/* Logs the refusal before a fatal error, for example of fork, ends kpopd. */
static void
end_unlogged(void)
{
	end_refusal(NULL);
}

/*
 * Refuses the login: starts the process that answers the client. end_refusal
 * logs the refusal. The client must not wait for syslog or for the session's
 * cause; otherwise the time could show that the account exists.
 */
static void
refuse_login(struct admission *a, const char *reason)
{
	a->verdict = REFUSED;
	strlcpy(a->reason, reason, sizeof(a->reason));
	unlogged = a;
	log_before_end(end_unlogged);
	/* The session may hang in the user's files while it finds the cause. */
	watch_dismiss(a->w, ROLE_SESSION, a->s.deadline);
	if (!fork_refusal(a))
		return;
	if (a->access.right == ACCESS_MISTAKE)
		refusal_unavailable(a->s.deadline, a->asked + REFUSAL_MS);
	refusal_deny(a->s.deadline, a->asked + REFUSAL_MS);
}

/*
 * Returns the seconds until a deadline, at least 1, because alarm(0) sets no
 * alarm.
 */
static unsigned
seconds_until(int64_t deadline)
{
	int64_t left = (deadline - clock_ms()) / 1000 + 1;

	return left > 0 ? (unsigned)left : 1;
}

/*
 * From now until end_limit, SIGALRM at the deadline runs this handler, which
 * must end the process. For work that the C library or the kernel may never
 * finish, for example a question to the account database.
 */
static void
begin_limit(int64_t deadline, void (*handler)(int))
{
	/* A second SIGALRM is not blocked, and ends the process. */
	const struct sigaction action = { .sa_handler = handler,
		.sa_flags = SA_NODEFER | SA_RESETHAND };

	if (sigaction(SIGALRM, &action, NULL) == -1)
		fatal("sigaction");
	alarm(seconds_until(deadline));
}

static void
end_limit(void)
{
	alarm(0);
	signal(SIGALRM, SIG_DFL);
}

/*
 * Signal handler: logs that the user does not get the mailbox, and ends the
 * process. The client gets no answer.
 */
static void
end_state(int signal_number)
{
	(void)signal_number;
	alarm(1); /* see end_lookup */
	/* NOLINTBEGIN(bugprone-signal-handler,cert-sig30-c): see end_lookup */
	log_event(LOG_NOTICE, "logout",
	    "reason=unavailable error=\"login deadline, the account database "
	    "or the file system of the state directory does not answer\"");
	/* NOLINTEND(bugprone-signal-handler,cert-sig30-c) */
	_exit(1);
}

/*
 * Opens the state directory of the user who logs in. This may ask the account
 * database for former users of the uid, and wait for another login that does.
 * Returns a descriptor, or -1 (logged). Ends the process if it has not
 * succeeded by the login deadline.
 */
static int
open_state(const struct session *s)
{
	int fd;

	begin_limit(s->deadline, end_state);
	fd = state_open(s->o->state, &s->user, s->o->mailboxes.text);
	end_limit();
	return fd;
}

/*
 * Starts the broker if the mailbox's format has locks. Closes what only the
 * broker needs.
 */
static void
start_broker(struct admission *a)
{
	watch_request(a->w, -1);
	setup_start_broker(&a->s, a->w);
	close(a->s.directory);
	a->s.directory = -1;
}

/*
 * After the end of a permitted session that has not needed a broker: starts the
 * broker, which looks for an unfinished removal. If the session's status is 0,
 * starts no broker, and only closes what the broker would need.
 */
static void
end_without_broker(struct admission *a, int status)
{
	if (status == 0)
		setup_close_end(&a->s.locks_to_session);
	start_broker(a);
}

/*
 * Logs the permitted login, and sends the client's socket to the session. If
 * the mailbox's format has locks, starts the broker, or waits for the session's
 * first request if the broker makes no dotlock. If the user's state
 * directory cannot be opened, logs the login and the logout, and starts the
 * refusal process in place of the session and the broker.
 */
static void
permit_login(struct admission *a, const char *rule)
{
	struct session *s = &a->s;
	struct session_entry entry = { .unread_size = s->login->unread_size };
	int64_t soon = clock_ms() + ENTER_MS;
	int fds[2] = { 0 };

	a->verdict = PERMITTED;
	log_login(s, rule);
	/*
	 * The state directory is opened only now, because only users who may
	 * log in get one.
	 */
	if ((fds[1] = open_state(s)) == -1) {
		watch_kill(a->w, ROLE_SESSION, WATCH_DISMISSED);
		log_event(LOG_NOTICE, "logout", "reason=unavailable");
		if (fork_refusal(a))
			refusal_unavailable(s->deadline, 0);
		return;
	}
	memcpy(entry.unread, s->login->unread, sizeof(entry.unread));
	watch_limit(a->w, ROLE_SESSION,
	    s->deadline > soon ? s->deadline : soon);
	/*
	 * If this fails because the session has ended, the next event reports
	 * that end.
	 */
	packet_send(watch_channel(a->w, ROLE_SESSION), &entry, sizeof(entry),
	    fds, 2);
	explicit_bzero(&entry, sizeof(entry));
	process_leave_client();
	s->directory = fds[1];
	/*
	 * Most sessions find no new mail and remove nothing, so they need no
	 * lock. The broker is started when the session sends its first verb.
	 */
	watch_request(a->w, s->locks_to_session);
}

/*
 * The session has taken its locks and answers the client: the session has no
 * deadline any more, and the pre-auth process no longer stands in for it.
 */
static void
dismiss_preauth(struct admission *a)
{
	watch_limit(a->w, ROLE_SESSION, 0);
	watch_kill(a->w, ROLE_PREAUTH, WATCH_DISMISSED);
}

/*
 * Does what the session's message asks for. Returns false if the session may
 * not send this message now.
 */
static bool
obey_session(struct admission *a, const struct session_message *m)
{
	if (a->verdict == ASKING && m->kind == MESSAGE_PERMITTED)
		permit_login(a, m->text);
	else if (a->verdict == ASKING && m->kind == MESSAGE_REFUSED)
		refuse_login(a, m->text);
	else if (unlogged != NULL && m->kind == MESSAGE_CAUSE)
		end_refusal(m->text);
	else if (a->verdict == PERMITTED && m->kind == MESSAGE_LOCKED)
		dismiss_preauth(a);
	else
		return false;
	return true;
}

/*
 * Gives the broker more time if its message reports that it finishes a removal.
 * Returns false for any other message, and for a second message.
 */
static bool
obey_broker(struct admission *a, const struct session_message *m)
{
	if (m->kind != MESSAGE_RECOVERS || a->is_recovering)
		return false;
	a->is_recovering = true;
	watch_limit(a->w, ROLE_BROKER, clock_ms() + RECOVERY_MS);
	return true;
}

/*
 * Does what a child's packet asks for. Returns false if the packet is
 * malformed, or if the child may not send it now.
 */
static bool
obey_child(struct admission *a, const struct watch_event *e)
{
	struct session_message m;

	if (!message_read_session(e->packet, e->size, &m))
		return false;
	if (e->role == ROLE_SESSION)
		return obey_session(a, &m);
	return e->role == ROLE_BROKER && obey_broker(a, &m);
}

/* Sets deadlines for the remaining processes when a child has ended. */
static void
note_end(struct admission *a, const struct watch_event *e)
{
	enum role role = e->role;
	int64_t now = clock_ms(),
		written = now + (int64_t)a->s.write_timeout * 1000;

	if (role == ROLE_SESSION)
		end_refusal(NULL);
	if (role == ROLE_SESSION && a->s.directory != -1)
		end_without_broker(a, e->status);
	/* A session that has refused the login has no client. */
	if (role == ROLE_REFUSAL ||
	    (role == ROLE_SESSION && a->verdict != REFUSED)) {
		if (a->verdict == ASKING)
			process_leave_client();
		watch_kill(a->w, ROLE_PREAUTH, WATCH_DISMISSED);
		watch_limit(a->w, ROLE_TLS, written);
		watch_limit(a->w, ROLE_RELAY, written);
	}
	/*
	 * The broker may notice the end of the session before this process
	 * does. If the broker already finishes a removal, keep the deadline
	 * that obey_broker has set.
	 */
	if (role == ROLE_SESSION && !a->is_recovering)
		watch_limit(a->w, ROLE_BROKER, now + END_MS);
}

/*
 * Takes one of the user's login slots for the session. A session that waits for
 * a file system that does not answer cannot be killed. The slots bound the
 * number of such sessions. Returns false if no slot has become free in time.
 */
static bool
take_slot(struct session *s)
{
	while ((s->slot = state_take_slot(s->o->state, s->user.uid)) == -1 &&
	    errno == EWOULDBLOCK) {
		if (clock_ms() >= s->deadline - NO_SLOT_MS)
			return false;
		poll(NULL, 0, SLOT_MS);
	}
	/*
	 * On any other error, for example a full disk, the login continues
	 * without a slot.
	 */
	return true;
}

/* Starts the session, which first asks whether the ticket opens the account. */
static void
start_session(struct admission *a)
{
	struct session *s = &a->s;
	int channel;

	setup_prepare(s);
	if (watch_fork(a->w, ROLE_SESSION, s->deadline, &channel)) {
		setup_close_end(&s->locks_to_session);
		process_leave_client();
		explicit_bzero(s->login->unread, sizeof(s->login->unread));
		lock_signals(SIG_UNBLOCK);
		privsep_become(&s->user);
		session_run(s, channel);
	}
	setup_close_end(&s->locks_to_broker);
	if (s->slot != -1)
		close(s->slot);
	s->slot = -1;
}

/* The login whose account is being looked up. */
static const struct preauth_message *looked_up;

/*
 * Signal handler: logs that the login is refused, and ends the process, because
 * a lookup in the C library cannot be cancelled. The client gets no answer.
 */
static void
end_lookup(int signal_number)
{
	(void)signal_number;
	/*
	 * log_refusal may wait for a lock that the interrupted code holds. In
	 * that case the alarm ends the process, because of begin_limit's flags.
	 */
	alarm(1);
	log_refusal(looked_up,
	    "login deadline, the account database does not answer");
	_exit(1);
}

/*
 * Fills s->user with the account that the client asks for. Returns NULL, or the
 * reason to refuse the login. Ends the process if the account database does not
 * answer before the deadline.
 */
static const char *
find_user(struct session *s)
{
	const struct preauth_message *login = s->login;
	char host[HOST_NAME_MAX + 1];
	const struct account_domains domains = { .host = host,
		.service = login->peer.service,
		.more = s->o->domains };
	const char *refusal;

	/* gethostname may omit the NUL if the name fills the array. */
	if (gethostname(host, sizeof(host)) == -1)
		host[0] = '\0';
	host[sizeof(host) - 1] = '\0';
	looked_up = login;
	begin_limit(s->deadline, end_lookup);
	refusal = account_find_login(login->user, login->peer.principal,
	    &domains, &s->o->uids, &s->user);
	end_limit();
	return refusal == NULL ?
	    account_find_closure(&s->user, seconds_until(s->deadline)) :
	    refusal;
}

/*
 * Finds what the login may do by the access file. While this file has a
 * mistake, every login is refused for that reason, whatever else could be the
 * reason (`refusal`, or NULL). Otherwise the answer would show which accounts
 * exist. Does not count the time to read the file: a file that has just changed
 * takes longer than REFUSAL_MS, which must hide the other times. Returns NULL,
 * or the reason to refuse the login.
 */
static const char *
find_right(struct admission *a, const char *refusal)
{
	struct session *s = &a->s;
	const struct connection *c = a->connection;
	const struct access_login login = {
		.principal = s->login->peer.principal,
		.user = refusal == NULL ? s->user.name : "",
		.from = c->is_unnamed ? NULL : &c->from,
		.has_tls = c->layers.tls,
		.has_layer = c->layers.tls || c->layers.gssapi,
	};
	int64_t begin = clock_ms();

	access_decide(s->o->access, &login, &a->access);
	a->asked += clock_ms() - begin;
	if (a->access.right == ACCESS_MISTAKE)
		return "the access file cannot be used";
	if (refusal != NULL) {
		a->access.why[0] = '\0';
		return refusal;
	}
	s->right = a->access.right;
	return s->right == ACCESS_DENIED ? "denied by the access file" : NULL;
}

/*
 * Finds the user, the mailbox and a login slot. Returns NULL, or the reason to
 * refuse the login.
 */
static const char *
find_mailbox(struct admission *a)
{
	struct session *s = &a->s;
	const char *refusal = find_right(a, find_user(s));

	if (refusal != NULL)
		return refusal;
	s->mailboxes = &s->o->mailboxes;
	if ((s->path = mailboxes_path(s->mailboxes, s->user.name,
		 s->user.home)) == NULL)
		return MAILBOXES_NO_PATH;
	return take_slot(s) ?
	    NULL :
	    "too many logins of this user wait for the user's files";
}

/*
 * Refuses the login, or starts the session, which asks whether the login is
 * permitted. Then watches and obeys the processes until the last one has ended.
 */
static void
admit_login(const struct monitor *m, struct watch *w,
    const struct connection *c, struct preauth_message *login)
{
	static struct admission a;
	struct watch_event e;
	const char *refusal;

	setup_begin(&a.s, m->o);
	a.preauth = m->preauth;
	a.w = w;
	a.connection = c;
	a.asked = clock_ms();
	a.s.auth = m->auth;
	a.s.login = login;
	a.s.deadline = m->deadline;
	/*
	 * Stopping the service must not end the monitor before the other
	 * processes have ended.
	 */
	lock_signals(SIG_BLOCK);
	watch_limit(w, ROLE_TLS, 0);
	watch_limit(w, ROLE_RELAY, 0);
	watch_remind(w, 0);
	watch_limit(w, ROLE_PREAUTH,
	    turn_end(m->deadline, m->o->login, a.asked) + STAND_IN_MS);
	if ((refusal = find_mailbox(&a)) == NULL)
		start_session(&a);
	else {
		refuse_login(&a, refusal);
		end_refusal(NULL);
	}
	while (watch_next(w, &e)) {
		if (e.is_request)
			start_broker(&a);
		else if (e.packet == NULL)
			note_end(&a, &e);
		else if (!obey_child(&a, &e))
			watch_kill(w, e.role, WATCH_WRONG);
	}
}

void
monitor_run(const struct monitor *m)
{
	static struct watch w;
	static struct preauth_message message;
	struct connection c = { .is_unnamed = m->is_proxied, .from = *m->peer };
	struct watch_event e;
	int channel;

	watch_begin(&w);
	turn_make();
	if (watch_fork(&w, ROLE_PREAUTH, m->deadline + GRACE_MS, &channel)) {
		m->prepare(m->self);
		preauth(m->o, m->preauth, m->auth, m->is_proxied, m->deadline,
		    channel);
	}
	watch_remind(&w, turn_end(m->deadline, m->o->login, 0));
	if (await_login(m, &w, &c, &message)) {
		admit_login(m, &w, &c, &message);
		return;
	}
	process_leave_client();
	while (watch_next(&w, &e))
		;
}
