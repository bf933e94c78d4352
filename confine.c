/*
 * Confines the processes of a session to the user's mailbox and state.
 *
 * Runs as the user: in the session, in the broker, and in a recovery. The
 * permitted directories are opened as the user, so confinement gives no access
 * that the user does not have.
 */
#include "config.h"

#include <unistd.h>

#include "confine.h"
#include "maildrop.h"
#include "sandbox.h"

void
confine_session(const struct session *s, int state)
{
	struct sandbox_path within[] = { { state, SANDBOX_OWN },
		{ -1, SANDBOX_OWN }, { -1, SANDBOX_OWN } };

	maildrop_reach(s->mailboxes, s->path, &within[1], &within[2]);
	sandbox_shut_files(within, 3);
	for (int i = 1; i < 3; i++)
		if (within[i].fd != -1)
			close(within[i].fd);
	sandbox_enter(SANDBOX_SESSION);
}

void
confine_outside(int state)
{
	const struct sandbox_path within = { state, SANDBOX_OWN };

	sandbox_shut_files(&within, 1);
	sandbox_enter(SANDBOX_SESSION);
}

/*
 * Permits the directory that contains the mailbox, because the broker makes the
 * dotlock there. A recovery that the broker starts inherits this confinement,
 * and it must reach the mailbox in the same directory.
 */
void
confine_broker(const struct session *s)
{
	struct sandbox_path within[] = { { s->directory, SANDBOX_OWN },
		{ -1, SANDBOX_OWN } };

	maildrop_reach_directory(s->path, &within[1]);
	sandbox_shut_files(within, 2);
	if (within[1].fd != -1)
		close(within[1].fd);
	sandbox_enter(SANDBOX_BROKER);
}
