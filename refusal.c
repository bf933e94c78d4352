/*
 * Answers a client that gets no session.
 *
 * Runs as the pre-auth user, in a jail without files. The monitor's child drops
 * root's rights before it calls this file. Every refused login gets the same
 * answer, so a client cannot learn which accounts exist. Only a permitted login
 * whose STATE/users/UID cannot be opened gets another answer.
 */
#include "config.h"

#include <poll.h>
#include <unistd.h>

#include "clock.h"
#include "io.h"
#include "pop3.h"
#include "refusal.h"
#include "sandbox.h"

static struct io client;

/* Gives up all rights that the answer does not need. */
static void
prepare_client(int64_t deadline)
{
	sandbox_shut_files(NULL, 0);
	sandbox_enter(SANDBOX_REFUSAL);
	io_init(&client, 0, deadline);
}

void
refusal_deny(int64_t deadline, int64_t earliest)
{
	int64_t left;

	prepare_client(deadline);
	if ((left = earliest - clock_ms()) > 0)
		poll(NULL, 0, (int)left);
	pop3_refuse(&client);
	io_linger(&client);
	_exit(0);
}

void
refusal_unavailable(int64_t deadline)
{
	prepare_client(deadline);
	pop3_unavailable(&client, DROP_FAILED);
	io_linger(&client);
	_exit(0);
}
