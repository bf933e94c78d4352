/* Finishes removals: see recover.c. */
#ifndef RECOVER_H
#define RECOVER_H

#include "session.h"

/* How a recovery ended: the exit status of its process. */
enum recovery {
	RECOVERY_FINISHED = 0,
	/* failed (logged); fatal() exits with 1, too */
	RECOVERY_UNREACHABLE = 1,
	RECOVERY_SET_ASIDE = 3,  /* the journal does not fit the mailbox */
	RECOVERY_NOTHING = 4,    /* no removal was unfinished */
	RECOVERY_UNFINISHED = 5, /* recover_look: a removal is unfinished */
	RECOVERY_REPORTED = 6,   /* --recover has printed that it failed */
};

/*
 * Child of the broker, as the user: finishes the removal that the session left,
 * with the locks that the broker kept. If another session has the session lock,
 * exits, because that session finishes the removal. locks_channel: to the
 * broker.
 */
_Noreturn void recover_after_session(const struct session *s,
    int locks_channel);

/*
 * --recover, as the user: finishes a removal of the mailbox. channel: to the
 * root process of --recover, which watches this process.
 */
_Noreturn void recover_by_hand(const struct session *s, int channel);

/*
 * --recover, as the user: looks for unfinished removals in STATE/users/UID,
 * which is open as directory. Exits with RECOVERY_UNFINISHED if it finds one,
 * otherwise with RECOVERY_NOTHING. Also exits with RECOVERY_UNFINISHED if an
 * earlier version left a removal unfinished, or if the directory or the state
 * of a mailbox cannot be read.
 */
_Noreturn void recover_look(int directory);

#endif
