/*
 * Finishes a removal that a killed session or a power failure left unfinished.
 *
 * Runs as the user: after a session in a child of the broker, otherwise in a
 * child of --recover. The user may have put anything in place of the files that
 * this code reads. So no code of this file runs as root.
 */
#include "config.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "confine.h"
#include "lock.h"
#include "maildrop-state.h"
#include "lock-session.h"
#include "log.h"
#include "maildrop.h"
#include "mbox-journal-names.h"
#include "recover.h"

/*
 * Releases the session lock that this process has taken (-1: none), and ends
 * the process. The end alone might not release the lock: see lock_broker_end.
 */
_Noreturn static void
leave(int lock, int status)
{
	if (lock != -1)
		lock_fcntl(lock, F_UNLCK);
	_exit(status);
}

/*
 * Finishes a removal in the mailbox whose state directory is open as `state`.
 * This process has the session lock of that directory.
 */
_Noreturn static void
finish_removal(const struct session *s, int state, struct lock_plan *locks)
{
	int own = locks->held != s->kept.session ? locks->held : -1;

	switch (maildrop_recover(s->mailboxes, s->path, state, locks)) {
	case DROP_OK:
		leave(own, RECOVERY_FINISHED);
	case DROP_CHANGED:
		leave(own, RECOVERY_SET_ASIDE);
	default:
		leave(own, RECOVERY_UNREACHABLE);
	}
}

static void
log_recovery(const struct session *s)
{
	struct log_text user;

	log_event(LOG_NOTICE, "recovery", "user=%s",
	    log_safe(&user, s->user.name));
}

/*
 * Ends a process that has not got the session lock, for the reason in error.
 */
_Noreturn static void
leave_locked(int error)
{
	errno = error;
	log_failed_at(LOG_ERR,
	    error == EAGAIN ? "another process has the session lock" : NULL,
	    "finishing a removal");
	_exit(RECOVERY_UNREACHABLE);
}

void
recover_after_session(const struct session *s, int locks_channel)
{
	struct lock_plan locks = s->locks;
	struct lock_session lock;
	bool is_kept = lock_session_kept(s->state, s->kept.session);
	bool is_alone = is_kept || lock_session(s->state, NULL, &lock) == 0;
	int error = errno;

	if (!maildrop_unfinished(s->mailboxes, s->state))
		leave(is_alone && !is_kept ? lock.fd : -1, RECOVERY_NOTHING);
	locks.broker = locks_channel;
	locks.kept = s->kept.spool;
	confine_session(s, s->state);
	log_recovery(s);
	if (!is_alone)
		leave_locked(error);
	locks.held = is_kept ? s->kept.session : lock.fd;
	finish_removal(s, s->state, &locks);
}

void
recover_by_hand(const struct session *s, int channel)
{
	struct lock_plan locks = s->locks;
	struct lock_session lock;
	int state, error;
	bool is_alone;

	if (maildrop_state_open(s->mailboxes, s->path, s->directory, &state) !=
	    DROP_OK)
		_exit(RECOVERY_UNREACHABLE);
	is_alone = lock_session(state, NULL, &lock) == 0;
	error = errno;
	if (is_alone &&
	    maildrop_state_claim(s->mailboxes, s->path, s->directory, state,
		&lock) != DROP_OK)
		leave(lock.fd, RECOVERY_UNREACHABLE);
	if (!maildrop_unfinished(s->mailboxes, state))
		leave(is_alone ? lock.fd : -1, RECOVERY_NOTHING);
	locks.broker = s->locks_to_broker;
	confine_session(s, state);
	log_recovery(s);
	if (!is_alone)
		leave_locked(error);
	message_send_session(channel, MESSAGE_LOCKED, "");
	locks.held = lock.fd;
	finish_removal(s, state, &locks);
}

/*
 * Returns true if an entry of STATE/users/UID may belong to an unfinished
 * removal. Such an entry is a journal that an earlier version has left, or a
 * mailbox's state directory that contains a journal or cannot be read.
 */
static bool
is_unfinished(int directory, const char *name)
{
	int state;
	char journal[JOURNAL_NAME];
	bool result;

	if (strcmp(name, "j") == 0 || strcmp(name, "j.cut") == 0)
		return true;
	state = openat(directory, name,
	    O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (state == -1)
		return errno != ENOTDIR && errno != ENOENT && errno != ELOOP;
	result = journal_find(state, JOURNAL_DECIDED | JOURNAL_WRITTEN,
		     journal) != 0;
	close(state);
	return result;
}

/*
 * Reads the names through the descriptor that root has opened. The user may not
 * be able to open the directory: kpopd or the machine may have crashed before
 * root gave the directory to the user. Such a directory is empty.
 */
void
recover_look(int directory)
{
	DIR *all = fdopendir(directory);
	const struct dirent *entry;
	bool found = all == NULL;

	/*
	 * An earlier process may have read the directory to its end through
	 * this descriptor.
	 */
	if (all != NULL)
		rewinddir(all);
	while (!found && (errno = 0, (entry = readdir(all)) != NULL))
		found = entry->d_name[0] != '.' &&
		    is_unfinished(directory, entry->d_name);
	/* If nothing was found, errno is that of readdir; 0: the end. */
	_exit(found || errno != 0 ? RECOVERY_UNFINISHED : RECOVERY_NOTHING);
}
