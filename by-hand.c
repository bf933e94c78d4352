/*
 * Runs and watches the child that works on a user's mailbox for a person:
 * kpopd --recover, --import-uidl and --uidl-report.
 *
 * Runs as root. It opens nothing of the user, and reads only packets of a fixed
 * size from the child.
 */
#include "config.h"

#include <sys/wait.h>

#include <signal.h>
#include <stdio.h>

#include "by-hand.h"
#include "clock.h"
#include "lock.h"
#include "privsep.h"
#include "process.h"
#include "session-setup.h"

/* After the child has ended, its broker must end within this time. */
#define END_MS 60000

/* What the child has sent so far. */
struct progress {
	bool is_listed, is_locked;
	int lines;
};

void
by_hand_become(const struct account *a)
{
	process_leave_terminal();
	lock_signals(SIG_UNBLOCK);
	privsep_become(a);
}

/* Obeys a message of the child. Returns false if it must not send it. */
static bool
obey_worker(const struct session *s, const struct by_hand *b, struct watch *w,
    struct progress *p, const struct watch_event *e)
{
	struct session_message m;

	if (!message_read_session(e->packet, e->size, &m))
		return false;
	switch (m.kind) {
	case MESSAGE_LISTED:
		if (!b->has_list || p->is_listed || p->is_locked)
			return false;
		p->is_listed = true;
		watch_limit(w, b->role, clock_ms() + b->enter_ms);
		return true;
	case MESSAGE_LOCKED:
		if (p->is_locked)
			return false;
		p->is_locked = true;
		watch_limit(w, b->role, clock_ms() + b->work_ms);
		return true;
	case MESSAGE_REPORT:
	case MESSAGE_MISTAKE:
		if (b->print == NULL || p->lines++ == BY_HAND_LINES)
			return false;
		b->print(s, &m);
		return true;
	default:
		return false;
	}
}

/* Waits until the child and its broker have ended. */
static int
await_end(const struct session *s, const struct by_hand *b, struct watch *w)
{
	struct progress p = { .lines = 0 };
	struct watch_event e;
	int result = -1;

	while (watch_next(w, &e)) {
		if (e.packet != NULL && e.role == b->role) {
			if (!obey_worker(s, b, w, &p, &e))
				watch_kill(w, e.role, WATCH_WRONG);
		} else if (e.packet != NULL)
			watch_kill(w, e.role, WATCH_WRONG);
		else if (e.role == b->role) {
			if (WIFEXITED(e.status))
				result = WEXITSTATUS(e.status);
			/*
			 * If the child was killed, a file system may not
			 * answer. The broker may wait for the same file system,
			 * so it is killed, too.
			 */
			watch_limit(w, ROLE_BROKER,
			    clock_ms() +
				(e.reason == WATCH_ALIVE ? END_MS : 0));
		}
	}
	return result;
}

int
by_hand_run(struct session *s, const struct by_hand *b)
{
	static struct watch w;
	int channel;

	fflush(stdout);
	setup_prepare(s);
	watch_begin(&w);
	if (watch_fork(&w, b->role, b->has_list ? 0 : clock_ms() + b->enter_ms,
		&channel)) {
		setup_close_end(&s->locks_to_session);
		by_hand_become(&s->user);
		b->run(s, channel);
	}
	setup_close_end(&s->locks_to_broker);
	setup_close_end(&s->list);
	setup_start_broker(s, &w);
	return await_end(s, b, &w);
}
