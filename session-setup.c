/*
 * Prepares what a session and its broker need, and starts the broker.
 *
 * Runs as root: in the monitor, and in --recover's process for one mailbox. It
 * opens nothing in a directory that the user can change.
 */
#include "config.h"

#include <limits.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "broker.h"
#include "lock.h"
#include "log.h"
#include "maildrop.h"
#include "packet.h"
#include "privsep.h"
#include "process.h"
#include "resolve.h"
#include "session-setup.h"

/* The write timeout, unless the idle limit is shorter. */
#define WRITE_SECONDS 120

void
setup_begin(struct session *s, const struct options *o)
{
	memset(s, 0, sizeof(*s));
	s->o = o;
	s->write_timeout = o->idle < WRITE_SECONDS ? o->idle : WRITE_SECONDS;
	s->slot = s->directory = s->state = s->list = -1;
	s->locks_to_session = s->locks_to_broker = -1;
	s->kept.dotlock.fd = s->kept.spool = s->kept.session = -1;
}

void
setup_prepare(struct session *s)
{
	static char path[PATH_MAX];
	bool is_locked = mailboxes_are_locked(s->mailboxes);
	bool is_roots = is_locked && mailboxes_are_outside_home(s->mailboxes);
	int ends[2];

	s->locks = s->o->locks;
	s->locks.least_uid = s->o->least_user;
	if (is_roots &&
	    (s->obstacle = resolve_directory(s->path, path)) == NULL)
		s->path = path;
	if (!is_roots || s->obstacle != NULL ||
	    !lock_needs_group(&s->locks, s->path, &s->group))
		s->group = s->user.gid;
	if (!is_locked)
		return;
	packet_make_channel(ends);
	s->locks_to_session = ends[0];
	s->locks_to_broker = ends[1];
}

void
setup_close_end(int *locks_end)
{
	if (*locks_end != -1)
		close(*locks_end);
	*locks_end = -1;
}

void
setup_start_broker(struct session *s, struct watch *w)
{
	int channel, is_child;

	if (s->locks_to_session == -1)
		return;
	/*
	 * Without a broker the session gets no answer to its verb, and tells
	 * the client. This process must still log the end of the session.
	 */
	is_child = watch_try_fork(w, ROLE_BROKER, 0, &channel);
	if (is_child == -1)
		log_failed("making a process for the broker");
	if (is_child == 1) {
		if (s->login != NULL)
			explicit_bzero(s->login, sizeof(*s->login));
		else
			process_leave_terminal();
		/*
		 * Stopping the service must not end the broker before the
		 * session, because the broker keeps the session's locks.
		 */
		lock_signals(SIG_BLOCK);
		privsep_become_broker(&s->user, s->group);
		broker_run(s, channel);
	}
	setup_close_end(&s->locks_to_session);
}
