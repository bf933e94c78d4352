/*
 * Serves one user's mailbox: asks whether the ticket opens the account, then
 * serves POP3.
 *
 * Runs as the user; the monitor's child drops root's rights before it becomes
 * the session. Until the monitor knows that the ticket opens the account, the
 * session has neither the client's socket nor the client's input after the
 * login. Otherwise a client that knows only a user's name could compromise this
 * process and get the user's rights. The names in the login message (s->login)
 * come from the client, too, and the session has them from the start. The
 * session is confined to the mailbox and the state directory before it reads a
 * byte from the client.
 */
#include "config.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "auth-permit.h"
#include "confine.h"
#include "io.h"
#include "lock.h"
#include "maildrop-state.h"
#include "lock-session.h"
#include "log.h"
#include "maildrop.h"
#include "packet.h"
#include "pop3.h"
#include "pop3-trans.h"
#include "session.h"
#include "turn.h"

/*
 * When the same principal logs in again, the earlier session ends if it has
 * been idle for at least the idle limit divided by this.
 */
#define TAKEOVER_PART 20

/*
 * Returns the rule by which the principal may log in, or NULL with *reason. If
 * the access file names the principal, Kerberos is not asked about the user.
 */
static const char *
find_login_rule(const struct session *s, const char **reason)
{
	const struct account *a = &s->user;
	const char *principal = s->login->peer.principal, *rule;

	if (s->right == ACCESS_UNNAMED)
		rule = permit_find_rule(s->auth, principal, s->o->realms,
		    a->name, a->home, reason);
	else
		rule =
		    permit_accepts(s->auth, principal, s->o->realms, reason) ?
		    "access" :
		    NULL;
	if (rule != NULL &&
	    (*reason = account_find_contradiction(a, &s->o->uids)) != NULL)
		rule = NULL;
	return rule;
}

/*
 * Finds whether the ticket opens this account, and sends the answer to the
 * monitor. If Kerberos refuses, sends the cause afterwards, for the log;
 * the client is answered meanwhile. Returns true if the ticket opens the
 * account, and if account_find_contradiction has no reason to refuse the login.
 * The user may have replaced .k5login by a file that blocks this process. In
 * this case the monitor kills the process at the login deadline.
 */
static bool
ask_permission(const struct session *s, int channel)
{
	const struct account *a = &s->user;
	const char *reason = "";
	char cause[PERMIT_CAUSE];
	const char *rule = find_login_rule(s, &reason);

	if (rule != NULL)
		message_send_session(channel, MESSAGE_PERMITTED, rule);
	else
		message_send_session(channel, MESSAGE_REFUSED, reason);
	if (rule == NULL && strcmp(reason, PERMIT_NO_RULE) == 0) {
		permit_explain(s->auth, s->login->peer.principal, a->name,
		    a->home, cause);
		message_send_session(channel, MESSAGE_CAUSE, cause);
	}
	return rule != NULL;
}

/*
 * Takes the client's socket, STATE/users/UID and the client's unread input
 * from the monitor.
 */
static void
take_client(struct session *s, int channel, struct io *io)
{
	struct session_entry entry;
	int fds[2];

	/*
	 * The monitor sends nothing if it could not open STATE/users/UID, or if
	 * it was killed.
	 */
	if (packet_await(channel, &entry, sizeof(entry), fds, 2) == -1)
		_exit(1);
	if (dup2(fds[0], 0) == -1 || dup2(fds[0], 1) == -1)
		fatal("dup2");
	close(fds[0]);
	s->directory = fds[1];
	io_init(io, 0, s->deadline);
	io_prime(io, entry.unread, entry.unread_size);
}

/*
 * Takes the turn to answer the client. If this process has waited for a file
 * system so long that the pre-auth process has answered, logs that and ends the
 * process.
 */
static void
take_turn(void)
{
	if (turn_take())
		return;
	log_event(LOG_NOTICE, "logout",
	    "reason=unavailable error=\"login deadline, a file system does not "
	    "answer\"");
	_exit(0);
}

/* Answers the client that the mailbox is not available. */
static void
answer_unavailable(struct io *io, enum drop_error error)
{
	log_event(LOG_NOTICE, "logout", "reason=%s",
	    error == DROP_BUSY ? "in-use" : "unavailable");
	pop3_unavailable(io, error);
}

/*
 * Answers the client that the session lock cannot be taken, for the reason in
 * errno.
 */
static void
answer_unlocked(const struct lock_session *lock, struct io *io)
{
	if (errno == EAGAIN) {
		log_event(LOG_NOTICE, "logout", "reason=in-use age=%" PRId64,
		    lock->age);
		pop3_occupied(io, lock->age);
	} else {
		log_failed("taking the session lock");
		answer_unavailable(io, DROP_FAILED);
	}
}

/*
 * Takes the session lock, then claims the mailbox under all its paths
 * (maildrop_state_claim), so that the mailbox has no other session. Confines
 * the process last, because another process may create the Maildir while this
 * process waits for the lock. No byte from the client is read before the
 * process is confined. If the lock cannot be taken, does not look at the user's
 * files, because their file system may not answer. Returns true if this process
 * has the mailbox. If not, answers the client and returns false.
 */
static bool
enter_mailbox(const struct session *s, int channel, int state,
    struct lock_session *lock, struct io *io)
{
	enum drop_error claim;
	int error;

	if (lock_session(state, s->login->peer.principal, lock) == -1) {
		error = errno;
		confine_outside(state);
		take_turn();
		errno = error;
		answer_unlocked(lock, io);
		return false;
	}
	claim = maildrop_state_claim(s->mailboxes, s->path, s->directory, state,
	    lock);
	confine_session(s, state);
	take_turn();
	if (claim == DROP_OK) {
		message_send_session(channel, MESSAGE_LOCKED, "");
		return true;
	}
	answer_unavailable(io, claim);
	/* The end of this process might not release it: see lock_broker_end. */
	lock_session_release(lock);
	return false;
}

/* Looks for a takeover request, as io_look_for_takeover asks. */
static int
look_for_login(void *self)
{
	return lock_session_look(self);
}

/*
 * Opens the mailbox and serves POP3 until the client has gone. Returns true if
 * a removal is unfinished that this session may not finish, because it may only
 * read.
 */
static bool
serve_mailbox(const struct session *s, int channel, struct lock_plan *locks,
    struct io *io)
{
	struct maildrop drop;
	struct lock_session lock;
	enum drop_error error;
	int idle = s->o->idle, state = -1;

	io_limits(io, (int64_t)idle * 1000, (int64_t)s->write_timeout * 1000);
	error =
	    maildrop_state_open(s->mailboxes, s->path, s->directory, &state);
	/*
	 * Release the login slot. After this point a session looks at the
	 * user's files only while it has the session lock. So at most one
	 * session of the mailbox can wait for the file system.
	 */
	if (s->slot != -1)
		close(s->slot);
	if (error != DROP_OK) {
		confine_outside(s->directory);
		take_turn();
		answer_unavailable(io, error);
		return false;
	}
	if (!enter_mailbox(s, channel, state, &lock, io))
		return false;
	close(s->directory);
	locks->session = locks->held = lock.fd;
	error = maildrop_open(&drop, s->mailboxes, s->path, state, locks);
	maildrop_compute_ids(&drop, &s->o->uidl);
	io_allow_takeover(io, lock.yield, (int64_t)idle * 1000 / TAKEOVER_PART);
	io_look_for_takeover(io, look_for_login, &lock);
	if (error == DROP_OK)
		pop3_serve(io, &drop);
	else
		answer_unavailable(io, error);
	/*
	 * Release the session lock now. The client may log in again before this
	 * process has ended, because at its end the kernel may need seconds to
	 * free a large journal. If a removal is unfinished, keep the lock for
	 * the broker, which finishes the removal.
	 */
	if (maildrop_unfinished(s->mailboxes, state))
		return s->mailboxes->read_only;
	lock_session_release(&lock);
	return false;
}

void
session_run(struct session *s, int channel)
{
	static struct io io;
	struct lock_plan locks = s->locks;
	struct mailboxes mailboxes = *s->mailboxes;
	bool is_unfinished;

	/* The broker's copy is unchanged, because it may have to recover. */
	mailboxes.read_only = s->right == ACCESS_READ;
	s->mailboxes = &mailboxes;
	if (!ask_permission(s, channel))
		_exit(0);
	take_client(s, channel, &io);
	locks.broker = s->locks_to_broker;
	is_unfinished = serve_mailbox(s, channel, &locks, &io);
	io_linger(&io);
	/*
	 * After another status than 0 the monitor starts the broker, which
	 * finishes the removal.
	 */
	_exit(is_unfinished ? 1 : 0);
}
