/*
 * The session: asks whether the ticket opens the account, then serves the mailbox.
 *
 * Begins as root, then is the user for good. Until the monitor has its verdict
 * it has neither the client's socket nor a byte of the client's: a process that
 * a client could take over would be the user whom the client has merely named.
 * Before it reads a byte it is confined to the mailbox and the state directory.
 */
#include "config.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "auth.h"
#include "io.h"
#include "lock.h"
#include "log.h"
#include "maildrop.h"
#include "pop3.h"
#include "pop3-trans.h"
#include "session.h"

#define STALL_SECONDS 120
/* The part of the idle limit after which a session ends when the same principal comes back. */
#define YIELD_PART 20

int
session_stall(const struct options *o)
{
	return o->idle < STALL_SECONDS ? o->idle : STALL_SECONDS;
}

/*
 * Returns why the account database says something else about the user than it
 * said to the monitor, or NULL. krb5_kuserok has looked the user up by itself:
 * with another answer it has read the .k5login of another home directory.
 */
static const char *
find_contradiction(const struct visit *v)
{
	static struct account now;
	const char *refusal = account_find(v->user.name, &v->o->uids, &now);

	if (refusal != NULL)
		return refusal;
	return now.uid == v->user.uid && strcmp(now.home, v->user.home) == 0 ? NULL :
	    "the account database contradicts itself";
}

/* Asks Kerberos whether the ticket opens this account, and tells the monitor. It may hang on what the user put in its way. */
static bool
is_permitted(const struct visit *v, int channel)
{
	const struct account *a = &v->user;
	const char *why = "";
	const char *how = auth_permitted(v->auth, v->report->peer.principal, v->o->realms, a->name, a->home, &why);

	if (how != NULL && (why = find_contradiction(v)) != NULL)
		how = NULL;
	visit_say(channel, how != NULL ? VISIT_PERMITTED : VISIT_REFUSED, how != NULL ? how : why);
	return how != NULL;
}

/* Takes the client, the user's state directory and what the client has sent already. */
static void
take_client(struct visit *v, int channel, struct io *io)
{
	struct visit_entry entry;
	int fds[2];

	/* Nothing: there is no state directory, or the monitor was killed. */
	if (packet_await(channel, &entry, sizeof(entry), fds, 2) == -1)
		_exit(1);
	if (dup2(fds[0], 0) == -1 || dup2(fds[0], 1) == -1)
		fatal("dup2");
	close(fds[0]);
	v->directory = fds[1];
	io_init(io, 0, v->deadline);
	io_prime(io, entry.unread, entry.unread_size);
}

/* Answers that the session lock cannot be had, by errno. */
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

/* Answers that there is no maildrop. */
static void
refuse_mailbox(struct io *io, enum drop_error error)
{
	log_event(LOG_NOTICE, "logout", "reason=%s", error == DROP_BUSY ? "in-use" : "unavailable");
	pop3_unavailable(io, error);
}

/*
 * Takes the lock that makes the session the user's only one, then confines
 * itself. A Maildir may be made while it waits, and no byte of the client is
 * read before. Without the lock it does not look at the user's files, which may
 * not answer. Returns false if it has no lock; the client has the answer then.
 */
static bool
enter_mailbox(const struct visit *v, int channel, int state, struct lock_session *lock, struct io *io)
{
	enum drop_error claim;
	int error;

	if (lock_session(state, v->report->peer.principal, lock) == -1) {
		error = errno;
		visit_confine_outside(state);
		errno = error;
		explain_lock(lock, io);
		return false;
	}
	claim = maildrop_claim(v->mailboxes, v->path, v->directory, state, lock);
	visit_confine(v, state);
	if (claim != DROP_OK)
		refuse_mailbox(io, claim);
	else
		visit_say(channel, VISIT_LOCKED, "");
	return claim == DROP_OK;
}

/* Opens the maildrop and serves POP3 over it. */
static void
serve(const struct visit *v, int channel, struct lock_plan *locks, struct io *io)
{
	struct maildrop drop;
	struct lock_session lock;
	enum drop_error error;
	int idle = v->o->idle, state = -1;

	io_limits(io, (int64_t)idle * 1000, (int64_t)session_stall(v->o) * 1000);
	error = maildrop_state(v->mailboxes, v->path, v->directory, &state);
	/* From here on one session of a mailbox alone looks at the user's files. The others wait for it, or end. */
	if (v->place != -1)
		close(v->place);
	if (error != DROP_OK) {
		visit_confine_outside(v->directory);
		refuse_mailbox(io, error);
		return;
	}
	if (!enter_mailbox(v, channel, state, &lock, io))
		return;
	close(v->directory);
	locks->session = lock.fd;
	error = maildrop_open(&drop, v->mailboxes, v->path, state, locks);
	io_allow_takeover(io, lock.yield, (int64_t)idle * 1000 / YIELD_PART);
	if (error == DROP_OK)
		pop3_serve(io, &drop);
	else
		refuse_mailbox(io, error);
	/*
	 * The client may be back before this process has ended: that takes seconds where the journal of gigabytes is
	 * given back. But a removal that is left unfinished is the broker's, which keeps this lock for it.
	 */
	if (!maildrop_unfinished(v->mailboxes, state))
		unlock_session(&lock);
}

void
session(struct visit *v, int channel)
{
	static struct io io;
	struct lock_plan locks = v->locks;

	visit_leave_client();
	explicit_bzero(v->report->unread, sizeof(v->report->unread));
	lock_signals(SIG_UNBLOCK);
	privsep_become(&v->user);
	if (!is_permitted(v, channel))
		_exit(0);
	take_client(v, channel, &io);
	locks.broker = v->locks_of[1];
	serve(v, channel, &locks, &io);
	io_linger(&io);
	_exit(0);
}
