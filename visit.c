/*
 * One user's visit: from the report to the session's end, and to the end of what it left.
 *
 * Begins as root, with the gate's report checked; then the monitor is the user
 * with the spool's group (the broker of the dotlock), and its child is the
 * user alone (the session, or the recovery of a removal). Nothing here has
 * ever had a key. The user is trusted with the user's own mail and nothing
 * else.
 */
#include "config.h"

#include <sys/socket.h>
#include <sys/wait.h>

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "auth.h"
#include "io.h"
#include "lock.h"
#include "lock-dotlock.h"
#include "log.h"
#include "maildrop.h"
#include "pop3.h"
#include "resolve.h"
#include "sandbox.h"
#include "state.h"
#include "visit.h"

/* A client that takes none of a buffer of output for so long has gone. */
#define STALL_SECONDS 120
/* The part of the idle limit after which a session ends when the same principal comes back. */
#define YIELD_PART 20

/* Whoever is refused hears so this much after the question, so that nobody hears how long the reason took to find. */
#define REFUSAL_MS 50

/* One user's visit: who it is, where the mail is, and what let them in. */
struct visit {
	const struct options *o;
	struct auth *auth; /* without keys */
	const struct report *report; /* NULL: recovery by hand */
	int64_t deadline;            /* for the login */
	int64_t asked;               /* when the report came */
	struct account user;
	const struct mailboxes *mailboxes;
	const char *path;
	int directory; /* STATE/users/UID, which root has opened */
	int state;     /* the state directory of the mailbox; -1: not known, or not yet */
	struct lock_plan locks;
	struct lock_kept kept; /* monitor: of the mailbox' locks */
};

static void
log_refusal(const struct report *r, const char *reason)
{
	struct log_text user, principal;

	log_event(LOG_NOTICE, "refused", "reason=\"%s\" user=%s principal=%s",
	    reason, log_safe(&user, r->user), log_safe(&principal, r->peer.principal));
}

/* Returns the seconds until a deadline, at least 1: alarm(0) would be none. */
static unsigned
seconds_until(int64_t deadline)
{
	int64_t left = (deadline - io_now()) / 1000 + 1;

	return left > 0 ? (unsigned)left : 1;
}

/* Session, as the user: whether the ticket opens this account. krb5_kuserok may hang on what the user put in its way. */
static bool
is_permitted(const struct visit *v)
{
	const struct report *r = v->report;
	const struct account *a = &v->user;
	struct log_text user, principal, service, enctype, layer;
	const char *how, *why;

	alarm(seconds_until(v->deadline));
	how = auth_permitted(v->auth, r->peer.principal, v->o->realms, a->name, a->home, &why);
	alarm(0);
	if (how == NULL) {
		log_refusal(r, why);
		return false;
	}
	log_event(LOG_INFO, "login", "user=%s principal=%s service=%s enctype=%s"
	    " mutual=%s layer=%s by=%s", log_safe(&user, a->name), log_safe(&principal, r->peer.principal),
	    log_safe(&service, r->peer.service), log_safe(&enctype, r->peer.enctype),
	    r->peer.mutual ? "yes" : "no", log_safe(&layer, r->peer.layer), how);
	return true;
}

/* As the user: from now on there is nothing but the state directory and the mailbox. */
static void
confine_to_mail(const struct visit *v, int state)
{
	struct sandbox_path within[] = { { state, SANDBOX_OWN }, { -1, SANDBOX_OWN }, { -1, SANDBOX_OWN } };

	maildrop_reach(v->mailboxes, v->path, &within[1], &within[2]);
	sandbox_shut_files(within, 3);
	for (int i = 1; i < 3; i++)
		if (within[i].fd != -1)
			close(within[i].fd);
	sandbox_enter(SANDBOX_SESSION);
}

/* The broker has the mailbox' directory; a child that recovers a removal has it from here, too. */
static void
confine_broker(const struct visit *v)
{
	struct sandbox_path within[] = { { v->directory, SANDBOX_OWN }, { -1, SANDBOX_OWN } };

	maildrop_reach_directory(v->path, &within[1]);
	sandbox_shut_files(within, 2);
	if (within[1].fd != -1)
		close(within[1].fd);
	sandbox_enter(SANDBOX_BROKER);
}

/* Session: answers that its lock cannot be had, by errno. */
static void
explain_lock(const struct lock_session *lock, struct io *io)
{
	if (errno == EAGAIN) {
		log_event(LOG_NOTICE, "logout", "reason=in-use age=%" PRId64, lock->age);
		pop3_occupied(io, lock->age);
	} else {
		log_event(LOG_ERR, "failed", "what=\"the session's lock\" "
		    "error=\"%s\"", strerror(errno));
		pop3_unavailable(io, DROP_FAILED);
	}
}

/* Session: answers that there is no maildrop. */
static void
refuse_mailbox(struct io *io, enum drop_error error)
{
	log_event(LOG_NOTICE, "logout", "reason=%s", error == DROP_BUSY ? "in-use" : "unavailable");
	pop3_unavailable(io, error);
}

/*
 * Session, as the user: takes the lock that makes it the user's only one, then
 * confines itself. A Maildir may be made while it waits, and no byte of the
 * client is read before. Returns false if it has no lock; the client has the
 * answer then.
 */
static bool
enter_mailbox(const struct visit *v, int state, struct lock_session *lock, struct io *io)
{
	bool is_alone = lock_session(state, v->report->peer.principal, lock) == 0;
	int error = errno;
	enum drop_error claim = DROP_OK;

	if (is_alone)
		claim = maildrop_claim(v->mailboxes, v->path, v->directory, state, lock);
	confine_to_mail(v, state);
	errno = error;
	if (!is_alone)
		explain_lock(lock, io);
	else if (claim != DROP_OK)
		refuse_mailbox(io, claim);
	return is_alone && claim == DROP_OK;
}

/* Session, as the user: opens the maildrop and serves POP3 over it. */
static void
serve(const struct visit *v, struct lock_plan *locks, struct io *io)
{
	struct maildrop drop;
	struct lock_session lock;
	enum drop_error error;
	int idle = v->o->idle, state = -1;
	int stall = idle < STALL_SECONDS ? idle : STALL_SECONDS;

	io_limits(io, (int64_t)idle * 1000, (int64_t)stall * 1000);
	if ((error = maildrop_state(v->mailboxes, v->path, v->directory, &state)) != DROP_OK) {
		confine_to_mail(v, v->directory);
		refuse_mailbox(io, error);
		return;
	}
	if (!enter_mailbox(v, state, &lock, io))
		return;
	close(v->directory);
	locks->session = lock.fd;
	error = maildrop_open(&drop, v->mailboxes, v->path, state, locks);
	io_yield(io, lock.yield, (int64_t)idle * 1000 / YIELD_PART);
	if (error == DROP_OK)
		pop3_serve(io, &drop);
	else
		refuse_mailbox(io, error);
	/*
	 * The client may be back before this process has ended: that takes seconds where the journal of gigabytes is
	 * given back. But a removal that is left unfinished is the monitor's, which keeps this lock for it.
	 */
	if (!maildrop_unfinished(v->mailboxes, state))
		unlock_session(&lock);
}

/* The one answer for all reasons. asked: when the report came. */
static void
refuse(struct io *io, int64_t asked)
{
	int64_t left = asked + REFUSAL_MS - io_now();

	if (left > 0)
		poll(NULL, 0, (int)left);
	pop3_refuse(io);
}

/* The session, as the user: whether the ticket lets them in, and all that follows. broker: the channel to the monitor, or -1. */
_Noreturn static void
session(const struct visit *v, int broker)
{
	static struct io io;
	struct lock_plan locks = v->locks;

	locks.broker = broker;
	io_init(&io, 0, v->deadline);
	io_prime(&io, v->report->unread, v->report->unread_size);
	if (is_permitted(v))
		serve(v, &locks, &io);
	else
		refuse(&io, v->asked);
	io_linger(&io);
	_exit(0);
}

/* How the recovery of a mailbox ended; an exit status. */
enum recovery { FINISHED = 0, NOT_REACHABLE = 1, SET_ASIDE = 3, NOTHING_TO_DO = 4 };

/*
 * As the user: finishes a removal, with the locks that the monitor kept of the
 * session that left it. If another session has the lock, that one finishes it.
 * Exits with an enum recovery.
 */
_Noreturn static void
recover(const struct visit *v, int broker)
{
	struct lock_plan locks = v->locks;
	struct lock_session lock;
	struct log_text user;
	/* A child of the broker knows the state already, and what its session claimed. */
	bool by_hand = v->state == -1, is_alone;
	int state = v->state;

	if (by_hand && maildrop_state(v->mailboxes, v->path, v->directory, &state) != DROP_OK)
		_exit(NOT_REACHABLE);
	is_alone = lock_session_kept(state, v->kept.session) || lock_session(state, NULL, &lock) == 0;
	if (by_hand && is_alone && maildrop_claim(v->mailboxes, v->path, v->directory, state, &lock) != DROP_OK)
		_exit(NOT_REACHABLE);
	if (!maildrop_unfinished(v->mailboxes, state))
		_exit(NOTHING_TO_DO);
	locks.broker = broker;
	locks.kept = v->kept.spool;
	confine_to_mail(v, state);
	log_event(LOG_NOTICE, "recovery", "user=%s", log_safe(&user, v->user.name));
	if (!is_alone)
		_exit(NOT_REACHABLE);
	switch (maildrop_recover(v->mailboxes, v->path, state, &locks)) {
	case DROP_OK:
		_exit(FINISHED);
	case DROP_CHANGED:
		_exit(SET_ASIDE);
	default:
		_exit(NOT_REACHABLE);
	}
}

/*
 * For nobody who may come in now: the answer, from a process made like a
 * session's, but with the gate's rights for who is no user here. That a user
 * has no state directory is not for others to hear.
 */
_Noreturn static void
turn_away(const struct account *gate, const struct visit *v, bool refused)
{
	static struct io io;

	privsep_become(refused ? gate : &v->user);
	refused = refused || !is_permitted(v);
	sandbox_enter(SANDBOX_RELAY);
	io_init(&io, 0, v->deadline);
	io_prime(&io, v->report->unread, v->report->unread_size);
	if (refused)
		refuse(&io, v->asked);
	else
		pop3_unavailable(&io, DROP_FAILED);
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
	sandbox_log_offence("the session");
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM)
		log_event(LOG_NOTICE, "refused", "reason=\"login deadline, session killed\"");
	else if (WIFSIGNALED(status))
		log_event(LOG_ERR, "fatal", "error=\"the session was ended by signal %d\"",
		    WTERMSIG(status));
	return status;
}

/*
 * Forks what works for the user, with a channel to the monitor if the mailbox
 * is locked. as_root: this process is still root, else the broker. Returns the
 * monitor's end of the channel (-1: none) and the child's pid in *pid.
 */
static int
start(const struct visit *v, void (*work)(const struct visit *, int),
    bool as_root, pid_t *pid)
{
	int channel[2] = { -1, -1 };

	if (mailboxes_are_locked(v->mailboxes) &&
	    socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, channel) == -1)
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
attend(struct visit *v, int channel, pid_t pid)
{
	if (channel != -1) {
		lock_broker(&v->kept, channel);
		close(channel);
	}
	return await_child(pid);
}

/*
 * Monitor, root: sets v->path to the path without symlinks, as far as root may
 * follow them, and finds the group that makes its dotlock. Returns why a
 * symlink stays, or NULL.
 */
static const char *
find_mailbox(struct visit *v, gid_t *group)
{
	static char path[PATH_MAX];
	const char *reason = NULL;
	bool is_roots = mailboxes_are_locked(v->mailboxes) && mailboxes_are_roots(v->mailboxes);

	if (is_roots && (reason = resolve_directory(v->path, path)) == NULL)
		v->path = path;
	if (!is_roots || !lock_needs_group(&v->locks, v->path, group))
		*group = v->user.gid;
	return reason;
}

/*
 * The monitor, root: makes the worker, gives up root, is its broker, and if it
 * left a removal unfinished lets another one finish it at once, before an MDA
 * or another program looks. Returns the exit status.
 */
static int
visit(struct visit *v)
{
	gid_t group;
	pid_t pid;
	const char *reason;
	int channel, status;

	v->locks = v->o->locks;
	v->locks.least_uid = v->o->uids.least;
	v->kept = (struct lock_kept){ .dotlock = -1, .spool = -1, .session = -1 };
	reason = find_mailbox(v, &group);
	channel = start(v, v->report != NULL ? session : recover, true, &pid);
	/* The session ends when the service is stopped; this process keeps its locks until then. */
	lock_signals(SIG_BLOCK);
	privsep_become_broker(&v->user, group);
	if (channel != -1)
		lock_broker_prepare(&v->kept, &v->locks, v->path, reason);
	if (v->report != NULL && maildrop_state(v->mailboxes, v->path, v->directory, &v->state) != DROP_OK)
		v->state = -1;
	confine_broker(v);
	if (v->report != NULL) {
		close(0);
		close(1);
	}
	status = attend(v, channel, pid);
	if (v->state != -1 && maildrop_unfinished(v->mailboxes, v->state)) {
		channel = start(v, recover, false, &pid);
		status = attend(v, channel, pid);
	}
	lock_broker_end(&v->kept);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

void
visit_admit(const struct options *o, const struct account *gate,
    struct auth *auth, const struct report *r, int64_t deadline)
{
	struct visit v = { .o = o, .auth = auth, .report = r, .deadline = deadline,
		.asked = io_now(), .mailboxes = &o->mailboxes, .directory = -1, .state = -1 };
	const char *refusal = account_find_login(r->user, r->peer.principal, &o->uids, &v.user);
	pid_t pid;

	if (refusal == NULL)
		refusal = account_closed(&v.user, seconds_until(deadline));
	if (refusal == NULL) {
		v.path = mailboxes_path(&o->mailboxes, v.user.name, v.user.home);
		if (v.path == NULL)
			refusal = "the mailbox' name is too long";
	}
	if (refusal == NULL)
		v.directory = state_open(o->state, &v.user, o->mailboxes.text);
	if (v.directory != -1) {
		visit(&v);
		return;
	}
	if (refusal != NULL)
		log_refusal(r, refusal);
	if ((pid = fork()) == -1)
		fatal("fork");
	if (pid == 0)
		turn_away(gate, &v, refusal != NULL);
	privsep_become(gate);
	close(0);
	close(1);
	await_child(pid);
}

/* What --recover has seen so far. */
struct recovery_by_hand {
	const struct options *o;
	bool is_good; /* all are finished */
	uid_t uid;    /* of the last mailbox */
	int directory; /* a copy of its descriptor; -1: none yet */
	bool is_told;  /* that it is not reachable */
};

static const char *
recovery_text(int status)
{
	switch (WIFEXITED(status) ? WEXITSTATUS(status) : NOT_REACHABLE) {
	case FINISHED:
		return "removal finished";
	case SET_ASIDE:
		return "set aside: the removal does not fit the mailbox, see rescue.* in its state directory";
	case NOTHING_TO_DO:
		return "nothing to do";
	default:
		return "not reachable, see syslog";
	}
}

/* Finishes the removal of one mailbox, in a process of its own. Returns that process's wait status. */
static int
recover_in_child(struct visit *v)
{
	pid_t pid;
	int status;

	fflush(stdout);
	if ((pid = fork()) == -1)
		fatal("fork");
	if (pid == 0)
		_exit(visit(v));
	while (waitpid(pid, &status, 0) == -1)
		if (errno != EINTR)
			fatal("waitpid");
	return status;
}

/* Returns why this mailbox cannot be recovered, or NULL with v filled; boxes lasts as long as v. */
static const char *
describe_mailbox(const struct options *o, const struct state_mailbox *m, struct mailboxes *boxes, struct visit *v)
{
	const char *refusal = m->user != NULL ? account_find(m->user, &o->uids, &v->user) :
						account_find_uid(m->uid, &o->uids, &v->user);

	if (refusal != NULL)
		return refusal;
	if (v->user.uid != m->uid)
		return "the user has another uid now";
	*boxes = o->mailboxes;
	if (m->mailboxes != NULL && mailboxes_read(boxes, m->mailboxes) == -1)
		return "not a mailbox that -m can describe";
	v->mailboxes = boxes;
	v->path = mailboxes_path(boxes, v->user.name, v->user.home);
	return v->path != NULL ? NULL : "the mailbox's name is too long";
}

/* Says what is left in the directory of the uid before: no mailbox has had it. */
static void
report_rest(struct recovery_by_hand *r)
{
	if (r->directory == -1)
		return;
	if (state_unfinished(r->directory) && !r->is_told) {
		printf("uid %u: not reachable: a removal in a mailbox that is not known or not there\n", (unsigned)r->uid);
		r->is_good = false;
	}
	close(r->directory);
	r->directory = -1;
	r->is_told = false;
}

/* Root, by hand: recovers one mailbox and says how that ended. */
static void
recover_one(void *self, const struct state_mailbox *m)
{
	struct recovery_by_hand *r = self;
	struct visit v = { .o = r->o, .directory = m->directory, .state = -1 };
	struct mailboxes boxes;
	struct log_text name, path;
	const char *refusal;
	int status;

	if (r->directory != -1 && r->uid != m->uid)
		report_rest(r);
	if (r->directory == -1)
		r->directory = fcntl(m->directory, F_DUPFD_CLOEXEC, 3);
	r->uid = m->uid;
	refusal = describe_mailbox(r->o, m, &boxes, &v);
	if (refusal != NULL && !state_unfinished(m->directory))
		return;
	if (refusal != NULL) {
		printf("%s%suid %u: not reachable: %s\n", m->user != NULL ? log_safe(&name, m->user) : "",
		    m->user != NULL ? ", " : "", (unsigned)m->uid, refusal);
		r->is_good = false;
		r->is_told = true;
		return;
	}
	status = state_unfinished(m->directory) ? recover_in_child(&v) : W_EXITCODE(NOTHING_TO_DO, 0);
	printf("%s (%s): %s\n", log_safe(&name, v.user.name), log_words(&path, v.path), recovery_text(status));
	if (!WIFEXITED(status) || (WEXITSTATUS(status) != FINISHED && WEXITSTATUS(status) != NOTHING_TO_DO)) {
		r->is_good = false;
		r->is_told = true;
	}
}

int
visit_recover_all(const struct options *o)
{
	struct recovery_by_hand r = { .o = o, .is_good = true, .directory = -1 };

	if (state_each(o->state, recover_one, &r) == -1)
		err(1, "%s/users", o->state);
	report_rest(&r);
	return r.is_good ? 0 : 1;
}
