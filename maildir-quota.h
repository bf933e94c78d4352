/* The quota of a Maildir, which a removal updates: see maildir-quota.c. */
#ifndef MAILDIR_QUOTA_H
#define MAILDIR_QUOTA_H

#include <sys/types.h>

#include <stdbool.h>
#include <stdint.h>

/* The messages that a session has removed. Begins as all zeros. */
struct quota {
	uint64_t bytes, messages;
	bool is_uncertain; /* the sums may lack some messages */
};

/* Records the removal of a message. name and size are those of its file. */
void quota_note(struct quota *q, const char *name, off_t size);

/*
 * Appends a line for the removed messages to maildirsize in the Maildir that is
 * open as dir (O_PATH suffices). Writes nothing if the Maildir has no such
 * file. A failure is only logged, because other programs compute the quota
 * again from time to time.
 */
void quota_update(const struct quota *q, int dir);

#endif
