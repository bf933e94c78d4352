/* A person's work on a user's mailbox: see by-hand.c. */
#ifndef BY_HAND_H
#define BY_HAND_H

#include <stdint.h>

#include "monitor-watch.h"
#include "session.h"

/*
 * What a child must do for a mailbox, and how much time it has. A time begins
 * at one of its messages; each message counts once.
 */
struct by_hand {
	enum role role;
	void (*run)(const struct session *s, int channel); /* does not return */
	/* how long it may need for the session lock */
	int64_t enter_ms;
	/* its time begins with MESSAGE_LISTED, not at the start */
	bool has_list;
	/* how long it may need after MESSAGE_LOCKED */
	int64_t work_ms;
	/*
	 * Prints a line: MESSAGE_REPORT or MESSAGE_MISTAKE, at most
	 * BY_HAND_LINES in all. NULL: the child must not send such messages.
	 */
	void (*print)(const struct session *s, const struct session_message *m);
};

#define BY_HAND_LINES 20

/*
 * Root: runs a child that becomes the user s->user, and waits until the child
 * and its broker have ended. If the mailbox's format has locks, also starts a
 * broker. Kills a process that takes too long, or that sends another message.
 * Closes s->list. Returns the exit status of the child, or -1 if it did not
 * exit by itself.
 */
int by_hand_run(struct session *s, const struct by_hand *b);

/* Child: drops root's rights and leaves the terminal. */
void by_hand_become(const struct account *a);

#endif
