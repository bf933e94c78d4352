/*
 * Keeps two processes of a connection from answering the client at once, and
 * one of them able to answer.
 *
 * Runs in the monitor as root, and in its children as their users.
 *
 * A process that waits for a file system of a server that does not answer can
 * neither write to the client nor be killed. So another process must write that
 * the server cannot serve now. But the first process may be about to write an
 * answer itself. So only a process that has taken the turn may write. A process
 * takes the turn when all that could hang is behind it, and gives it back
 * before it looks at files again. The turn is a number in memory that all
 * processes of a connection share. A compromised process can change it, but
 * that affects only the answers to its own client.
 */
#include "config.h"

#include <sys/mman.h>

#include <stdatomic.h>
#include <unistd.h>

#include "log.h"
#include "turn.h"

/*
 * A client is answered this long before the login deadline, or a sixth of the
 * login time before it, because clients wait as long as kpopd does by default.
 */
#define EARLY_MS 5000
#define EARLY_PART 6
/* After the login, the session has at least this time to take its locks. */
#define SESSION_MS 15000

static struct turn {
	_Atomic(int) holder; /* the pid of the process with the turn; 0: none */
	_Atomic(bool) was_given;
} * turn; /* NULL: this process has no monitor */

void
turn_make(void)
{
	void *page = mmap(NULL, sizeof(*turn), PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (page == MAP_FAILED)
		fatal("mmap");
	turn = page;
}

bool
turn_take(void)
{
	int none = 0, self = getpid();

	return turn == NULL || turn->holder == self ||
	    atomic_compare_exchange_strong(&turn->holder, &none, self);
}

void
turn_retake(void)
{
	if (!turn_take())
		_exit(0);
}

void
turn_give(void)
{
	int self = getpid();

	if (turn == NULL)
		return;
	turn->was_given = true;
	atomic_compare_exchange_strong(&turn->holder, &self, 0);
}

bool
turn_was_given(void)
{
	return turn != NULL && turn->was_given;
}

int64_t
turn_end(int64_t deadline, int seconds, int64_t login)
{
	int64_t part = (int64_t)seconds * 1000 / EARLY_PART;
	int64_t end = deadline - (part < EARLY_MS ? part : EARLY_MS);

	return login != 0 && end < login + SESSION_MS ? login + SESSION_MS :
							end;
}
