/*
 * Locks the spool against other programs: kernel locks and dotlock, in the
 * configured order.
 *
 * Runs in the session and in the recovery, as the owner of the mailbox. The
 * owner can also take these locks in other programs, so every wait is bounded.
 * The broker makes the dotlock (lock-dotlock.c).
 *
 * A process never waits for one lock while it holds another lock. If another
 * program holds one of the locks, this process releases all locks before the
 * next try. Otherwise two programs that take locks in different orders could
 * wait for each other (Debian policy 11.6).
 *
 * If a session is killed while it removes messages, no other program may read
 * the mailbox before the removal is finished. So before the session locks the
 * spool for writing, it passes the descriptors that hold its locks to the
 * broker. The recovery inherits them.
 */
#include "config.h"

#include <sys/file.h>
#include <sys/socket.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "file.h"
#include "lock-spool.h"
#include "packet.h"

/* An MDA holds the lock for one delivery: procmail for about a second. */
#define WAIT_MS 10000
/*
 * The pause between two tries: a random time from this to twice this. With a
 * fixed time, two programs could forever try at the same moments.
 */
#define STEP_LEAST_MS 50

/*
 * Receives the broker's answer. Returns 0, or -1 with the errno that the answer
 * contains.
 */
static int
receive_answer(int channel)
{
	unsigned char answer;
	ssize_t n;

	do
		n = recv(channel, &answer, 1, 0);
	while (n == -1 && errno == EINTR);
	if (n == 1 && answer == 0)
		return 0;
	errno = n == 1 ? answer : EPIPE;
	return -1;
}

/* Sends a verb to the broker. Returns 0, or -1 with errno. */
static int
ask_broker(int channel, enum lock_verb verb)
{
	const char byte = (char)verb;

	return send(channel, &byte, 1, MSG_NOSIGNAL) == 1 ?
	    receive_answer(channel) :
	    -1;
}

/*
 * Passes the spool and the session lock to the broker, so that their locks
 * outlive this process. Returns 0, or -1 with errno.
 */
static int
ask_to_keep(const struct lock_plan *plan, int spool)
{
	const int fds[2] = { spool, plan->session };
	const char verb = LOCK_KEEP;

	return packet_send(plan->broker, &verb, 1, fds, 2) == 0 ?
	    receive_answer(plan->broker) :
	    -1;
}

/* Takes one lock without waiting. Returns 0, or -1 with errno. */
static int
take_one(const struct lock_plan *plan, enum lock_kind kind, int fd,
    bool to_write)
{
	switch (kind) {
	case LOCK_FCNTL:
		return lock_fcntl(fd, to_write ? F_WRLCK : F_RDLCK);
	case LOCK_FLOCK:
		return flock(fd, (to_write ? LOCK_EX : LOCK_SH) | LOCK_NB);
	default:
		return ask_broker(plan->broker, LOCK_TAKE);
	}
}

/* Releases one lock. */
static void
give_one(const struct lock_plan *plan, enum lock_kind kind, int fd)
{
	switch (kind) {
	case LOCK_FCNTL:
		lock_fcntl(fd, F_UNLCK);
		break;
	case LOCK_FLOCK:
		flock(fd, LOCK_UN);
		break;
	case LOCK_DOTLOCK:
		ask_broker(plan->broker, LOCK_GIVE);
		break;
	}
}

/* Takes all locks or none. Returns 0, or -1 with errno. */
static int
take_all(const struct lock_plan *plan, int fd, bool to_write)
{
	for (int i = 0; i < plan->count; i++) {
		int error;

		if (take_one(plan, plan->kinds[i], fd, to_write) == 0)
			continue;
		error = errno;
		while (--i >= 0)
			give_one(plan, plan->kinds[i], fd);
		errno = error;
		return -1;
	}
	return 0;
}

/*
 * Returns the descriptor of the spool with which the locks are taken. In a
 * recovery this is the descriptor of the killed session, which the broker has
 * kept. The session's locks belong to the open file of that descriptor. So no
 * other program can lock the spool after the session and before the recovery.
 */
static int
locked_through(const struct lock_plan *plan, int fd)
{
	return plan->kept != -1 && file_is_same(plan->kept, fd) ? plan->kept :
								  fd;
}

/*
 * Returns 0 if this process, which has locked the spool for writing, still has
 * the session lock. Otherwise releases the locks and returns -1 with errno. A
 * file server gives the locks of a host away if it cannot reach the host for a
 * time, and the host's processes do not notice. If another session has had the
 * session lock since, it may have left a removal unfinished. errno is EAGAIN if
 * it still has the lock.
 */
static int
check_session_lock(const struct lock_plan *plan, int fd)
{
	int error;

	if (plan->held == -1 || lock_fcntl(plan->held, F_WRLCK) == 0)
		return 0;
	error = errno;
	lock_spool_release(plan, fd);
	errno = error;
	return -1;
}

int
lock_spool(const struct lock_plan *plan, int fd, bool to_write)
{
	int waited = 0;

	if (to_write && plan->session != -1 && ask_to_keep(plan, fd) == -1)
		return -1;
	fd = locked_through(plan, fd);
	for (;;) {
		int step =
		    STEP_LEAST_MS + (int)arc4random_uniform(STEP_LEAST_MS);
		struct timespec t = { .tv_nsec = step * 1000000L };

		/*
		 * Block the signals that stop the service. They could end this
		 * process within a removal, and other programs could then read
		 * a half-changed spool.
		 */
		if (to_write)
			lock_signals(SIG_BLOCK);
		if (take_all(plan, fd, to_write) == 0)
			return to_write ? check_session_lock(plan, fd) : 0;
		if (to_write)
			lock_signals(SIG_UNBLOCK);
		if (errno != EAGAIN || (waited += step) > WAIT_MS)
			return -1;
		nanosleep(&t, NULL);
	}
}

void
lock_spool_release(const struct lock_plan *plan, int fd)
{
	fd = locked_through(plan, fd);
	for (int i = plan->count - 1; i >= 0; i--)
		give_one(plan, plan->kinds[i], fd);
	lock_signals(SIG_UNBLOCK);
}
