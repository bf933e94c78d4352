/*
 * Answers a client that gets no session.
 *
 * Runs as the pre-auth user, in a jail without files. The monitor's child drops
 * root's rights before it calls this file. Every refused login gets the same
 * answer, so a client cannot learn which accounts exist. Another answer is for
 * a permitted login whose STATE/users/UID cannot be opened, and for every login
 * while the access file has a mistake.
 */
#include "config.h"

#include <poll.h>
#include <unistd.h>

#include "clock.h"
#include "io.h"
#include "pop3.h"
#include "refusal.h"
#include "sandbox.h"
#include "turn.h"

static struct io client;

/*
 * Gives up all rights that the answer does not need, and waits until the
 * earliest time of the answer.
 */
static void
prepare_client(int64_t deadline, int64_t earliest)
{
	int64_t left;

	sandbox_shut_files(NULL, 0);
	sandbox_enter(SANDBOX_REFUSAL);
	io_init(&client, 0, deadline);
	if ((left = earliest - clock_ms()) > 0)
		poll(NULL, 0, (int)left);
	/* The pre-auth process may have answered meanwhile. */
	if (!turn_take())
		_exit(0);
}

void
refusal_deny(int64_t deadline, int64_t earliest)
{
	prepare_client(deadline, earliest);
	pop3_refuse(&client);
	io_linger(&client);
	_exit(0);
}

void
refusal_unavailable(int64_t deadline, int64_t earliest)
{
	prepare_client(deadline, earliest);
	pop3_unavailable(&client, DROP_FAILED);
	io_linger(&client);
	_exit(0);
}
