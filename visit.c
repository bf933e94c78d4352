/*
 * One user's visit, as the monitor sees it: from the report to the last process's end.
 *
 * Runs as root, with the pre-auth process's report checked. Nothing here has ever had a key.
 * The user's session (session.c) asks Kerberos, as the user, whether the ticket
 * opens the account, and has nothing of the client then. If it does not, a
 * process of the pre-auth user answers the client, for every reason alike.
 * Otherwise the session gets the client's socket, and the broker (recover.c) is
 * made. Whatever the user does to the user's processes, this one sees them end.
 */
#include "config.h"

#include <sys/socket.h>

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "auth.h"
#include "clock.h"
#include "io.h"
#include "lock.h"
#include "log.h"
#include "maildrop.h"
#include "pop3.h"
#include "recover.h"
#include "resolve.h"
#include "sandbox.h"
#include "session.h"
#include "state.h"
#include "visit.h"

/* Every refusal comes so long after the question; otherwise the time would tell how long the reason took to find. */
#define REFUSAL_MS 50
/* A login looks this often whether there is a place, and is refused so long before its deadline. */
#define PLACE_MS 50
#define NO_PLACE_MS 1000
/* From the permission to the session lock. */
#define ENTER_MS 30000
/* The broker ends after its session, at once unless it finishes a removal, which may be one of a hundred gigabytes. */
#define END_MS 60000
#define RECOVERY_MS 3600000

/* The monitor's view of a visit. */
enum verdict { ASKING, PERMITTED, REFUSED };

void
visit_say(int channel, enum visit_kind kind, const char *text)
{
	struct visit_message m = { .kind = (char)kind };

	strlcpy(m.text, text, sizeof(m.text));
	if (packet_send(channel, &m, sizeof(m), NULL, 0) == -1)
		fatal("the monitor is gone");
}

bool
visit_read(const void *packet, size_t n, struct visit_message *m)
{
	if (n != sizeof(*m))
		return false;
	memcpy(m, packet, sizeof(*m));
	return memchr(m->text, '\0', sizeof(m->text)) != NULL &&
	    m->text[strspn(m->text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 .,:_-")] == '\0';
}

void
visit_leave_client(void)
{
	if (dup2(2, 0) == -1 || dup2(2, 1) == -1)
		fatal("dup2");
}

void
visit_confine(const struct visit *v, int state)
{
	struct sandbox_path within[] = { { state, SANDBOX_OWN }, { -1, SANDBOX_OWN }, { -1, SANDBOX_OWN } };

	maildrop_reach(v->mailboxes, v->path, &within[1], &within[2]);
	sandbox_shut_files(within, 3);
	for (int i = 1; i < 3; i++)
		if (within[i].fd != -1)
			close(within[i].fd);
	sandbox_enter(SANDBOX_SESSION);
}

void
visit_confine_outside(int state)
{
	const struct sandbox_path within = { state, SANDBOX_OWN };

	sandbox_shut_files(&within, 1);
	sandbox_enter(SANDBOX_SESSION);
}

void
visit_prepare(struct visit *v)
{
	static char path[PATH_MAX];
	bool is_locked = mailboxes_are_locked(v->mailboxes);
	bool is_roots = is_locked && mailboxes_are_outside_home(v->mailboxes);

	v->locks = v->o->locks;
	v->locks.least_uid = v->o->uids.least;
	v->kept = (struct lock_kept){ .dotlock.fd = -1, .spool = -1, .session = -1 };
	v->locks_of[0] = v->locks_of[1] = -1;
	if (is_roots && (v->obstacle = resolve_directory(v->path, path)) == NULL)
		v->path = path;
	if (!is_roots || !lock_needs_group(&v->locks, v->path, &v->group))
		v->group = v->user.gid;
	if (is_locked && socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, v->locks_of) == -1)
		fatal("socketpair");
}

void
visit_start_broker(struct visit *v, struct watch *w)
{
	int channel;

	if (v->locks_of[0] == -1)
		return;
	if (watch_fork(w, ROLE_BROKER, 0, &channel))
		broker(v, channel);
	close(v->locks_of[0]);
	v->locks_of[0] = -1;
}

static void
log_refusal(const struct report *r, const char *reason)
{
	struct log_text user, principal;

	/* NOLINTBEGIN(bugprone-signal-handler,cert-sig30-c): end_lookup says why */
	log_event(LOG_NOTICE, "refused", "reason=\"%s\" user=%s principal=%s",
	    reason, log_safe(&user, r->user), log_safe(&principal, r->peer.principal));
	/* NOLINTEND(bugprone-signal-handler,cert-sig30-c) */
}

static void
log_login(const struct visit *v, const char *how)
{
	const struct report *r = v->report;
	struct log_text user, principal, service, ticket, session, layer;

	log_event(LOG_INFO, "login", "user=%s principal=%s service=%s ticket=%s session=%s"
	    " mutual=%s layer=%s by=%s", log_safe(&user, v->user.name), log_safe(&principal, r->peer.principal),
	    log_safe(&service, r->peer.service), log_safe(&ticket, r->peer.ticket),
	    log_safe(&session, r->peer.session), r->peer.mutual ? "yes" : "no", log_safe(&layer, r->peer.layer), how);
}

/* The refusal: shuts itself in as the pre-auth user and answers; is_refused: else the maildrop is not available. */
_Noreturn static void
answer(const struct visit *v, bool is_refused)
{
	static struct io io;
	int64_t left;

	lock_signals(SIG_UNBLOCK);
	privsep_make_jail(v->o->state, "refusal");
	privsep_jail(v->o->state, "refusal", v->preauth);
	sandbox_shut_files(NULL, 0);
	sandbox_enter(SANDBOX_REFUSAL);
	io_init(&io, 0, v->deadline);
	if (is_refused && (left = v->asked + REFUSAL_MS - clock_ms()) > 0)
		poll(NULL, 0, (int)left);
	if (is_refused)
		pop3_refuse(&io);
	else
		pop3_unavailable(&io, DROP_FAILED);
	io_linger(&io);
	_exit(0);
}

/* Has the client answered that nobody comes in. */
static void
turn_away(struct visit *v, struct watch *w, bool is_refused)
{
	int channel;

	watch_kill(w, ROLE_SESSION, WATCH_DISMISSED);
	if (v->locks_of[0] != -1)
		close(v->locks_of[0]);
	v->locks_of[0] = -1;
	if (watch_fork(w, ROLE_REFUSAL, v->deadline + (int64_t)2 * REFUSAL_MS, &channel))
		answer(v, is_refused);
	visit_leave_client();
}

/* Lets the session in: it gets the client. */
static void
let_in(struct visit *v, struct watch *w, const char *how)
{
	struct visit_entry entry = { .unread_size = v->report->unread_size };
	int64_t soon = clock_ms() + ENTER_MS;
	int fds[2] = { 0 };

	log_login(v, how);
	/* Made for those alone who may have it. */
	if ((fds[1] = state_open(v->o->state, &v->user, v->o->mailboxes.text)) == -1) {
		turn_away(v, w, false);
		return;
	}
	memcpy(entry.unread, v->report->unread, sizeof(entry.unread));
	watch_limit(w, ROLE_SESSION, v->deadline > soon ? v->deadline : soon);
	/* A session that is gone shows in what comes next. */
	packet_send(watch_channel(w, ROLE_SESSION), &entry, sizeof(entry), fds, 2);
	explicit_bzero(&entry, sizeof(entry));
	visit_leave_client();
	v->directory = fds[1];
	visit_start_broker(v, w);
	close(v->directory);
}

/* Does what a child's message asks for. Returns false if it may not ask for it now. */
static bool
obey(struct visit *v, struct watch *w, const struct watch_event *e, enum verdict *verdict)
{
	struct visit_message m;

	if (!visit_read(e->packet, e->size, &m))
		return false;
	if (e->role == ROLE_SESSION && *verdict == ASKING && m.kind == VISIT_PERMITTED) {
		*verdict = PERMITTED;
		let_in(v, w, m.text);
	} else if (e->role == ROLE_SESSION && *verdict == ASKING && m.kind == VISIT_REFUSED) {
		*verdict = REFUSED;
		log_refusal(v->report, m.text);
		turn_away(v, w, true);
	} else if (e->role == ROLE_SESSION && *verdict == PERMITTED && m.kind == VISIT_LOCKED)
		watch_limit(w, ROLE_SESSION, 0);
	else if (e->role == ROLE_BROKER && m.kind == VISIT_RECOVERS && !v->is_recovering) {
		v->is_recovering = true;
		watch_limit(w, ROLE_BROKER, clock_ms() + RECOVERY_MS);
	} else
		return false;
	return true;
}

/* Bounds what is left when the process that spoke with the client has ended. */
static void
note_end(const struct visit *v, struct watch *w, enum verdict verdict)
{
	int64_t now = clock_ms();
	int64_t stall = now + (int64_t)session_stall(v->o) * 1000;

	if (verdict == ASKING)
		visit_leave_client();
	watch_limit(w, ROLE_TLS, stall);
	watch_limit(w, ROLE_RELAY, stall);
}

/*
 * Takes a place for the session. Otherwise a user whose files are on a file
 * system that does not answer could have processes that nobody can end, as many
 * as connections. Returns false if no place has become free in time.
 */
static bool
take_place(struct visit *v)
{
	while ((v->place = state_place(v->o->state, v->user.uid)) == -1 && errno == EWOULDBLOCK) {
		if (clock_ms() >= v->deadline - NO_PLACE_MS)
			return false;
		poll(NULL, 0, PLACE_MS);
	}
	/* A full disk, on which there cannot be one, keeps nobody out. */
	return true;
}

/* Makes the session, which asks first. */
static void
ask(struct visit *v, struct watch *w)
{
	int channel;

	visit_prepare(v);
	if (watch_fork(w, ROLE_SESSION, v->deadline, &channel)) {
		if (v->locks_of[0] != -1)
			close(v->locks_of[0]);
		session(v, channel);
	}
	if (v->locks_of[1] != -1)
		close(v->locks_of[1]);
	v->locks_of[1] = -1;
	if (v->place != -1)
		close(v->place);
	v->place = -1;
}

/* The login that a lookup is for. */
static const struct report *looked_up;

static void
end_lookup(int signal_number)
{
	(void)signal_number;
	/* The process ends here, and the log may wait for what was interrupted: then the alarm ends it. */
	signal(SIGALRM, SIG_DFL);
	alarm(1);
	log_refusal(looked_up, "login deadline, the account database does not answer");
	_exit(1);
}

/* Returns the seconds until a deadline, at least 1: alarm(0) would be none. */
static unsigned
seconds_until(int64_t deadline)
{
	int64_t left = (deadline - clock_ms()) / 1000 + 1;

	return left > 0 ? (unsigned)left : 1;
}

/* As account_find_login, then account_closed; at the deadline this process ends, because the C library's lookups cannot be interrupted. */
static const char *
look_up(struct visit *v)
{
	const struct report *r = v->report;
	char host[HOST_NAME_MAX + 1];
	const struct account_domains domains = { .host = host, .service = r->peer.service, .more = v->o->domains };
	const char *refusal;

	/* The kernel may leave a name that fills the array without its NUL. */
	if (gethostname(host, sizeof(host)) == -1)
		host[0] = '\0';
	host[sizeof(host) - 1] = '\0';
	looked_up = r;
	signal(SIGALRM, end_lookup);
	alarm(seconds_until(v->deadline));
	refusal = account_find_login(r->user, r->peer.principal, &domains, &v->o->uids, &v->user);
	alarm(0);
	signal(SIGALRM, SIG_DFL);
	return refusal == NULL ? account_closed(&v->user, seconds_until(v->deadline)) : refusal;
}

void
visit_admit(const struct options *o, const struct account *preauth, struct auth *auth, struct report *r,
    int64_t deadline, struct watch *w)
{
	static struct visit v;
	enum verdict verdict = ASKING;
	struct watch_event e;
	const char *refusal;

	v = (struct visit){ .o = o, .auth = auth, .preauth = preauth, .report = r, .deadline = deadline,
		.asked = clock_ms(), .mailboxes = &o->mailboxes, .directory = -1, .state = -1, .place = -1,
		.locks_of = { -1, -1 } };
	/* When the service is stopped, this process sees the others end. */
	lock_signals(SIG_BLOCK);
	watch_limit(w, ROLE_TLS, 0);
	watch_limit(w, ROLE_RELAY, 0);
	refusal = look_up(&v);
	if (refusal == NULL && (v.path = mailboxes_path(&o->mailboxes, v.user.name, v.user.home)) == NULL)
		refusal = "the mailbox' name is too long";
	if (refusal == NULL && !take_place(&v))
		refusal = "too many logins of this user wait for the user's files";
	if (refusal == NULL)
		ask(&v, w);
	else {
		verdict = REFUSED;
		log_refusal(r, refusal);
		turn_away(&v, w, true);
	}
	while (watch_next(w, &e)) {
		if (e.packet != NULL) {
			if (!obey(&v, w, &e, &verdict))
				watch_kill(w, e.role, WATCH_WRONG);
			continue;
		}
		if (e.role == ROLE_SESSION || e.role == ROLE_REFUSAL)
			note_end(&v, w, verdict);
		/* The broker may have seen the session end before this process did. */
		if (e.role == ROLE_SESSION && !v.is_recovering)
			watch_limit(w, ROLE_BROKER, clock_ms() + END_MS);
	}
}
