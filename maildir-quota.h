/* What a removal tells the quota of a Maildir: see maildir-quota.c. */
#ifndef MAILDIR_QUOTA_H
#define MAILDIR_QUOTA_H

#include <sys/types.h>

#include <stdbool.h>
#include <stdint.h>

/* The messages that a session has removed. Begins as all zeros. */
struct quota {
	uint64_t bytes, messages;
	bool is_uncertain; /* some of them may not have been counted */
};

/* Notes that a message has been removed, a file of this size and of this name. */
void quota_note(struct quota *q, const char *name, off_t size);

/*
 * Appends what was noted to the file maildirsize of the Maildir that is open as
 * dir, which may be O_PATH. If there is no such file, nothing is written. A
 * failure is logged and is no error: other programs count again at times.
 */
void quota_tell(const struct quota *q, int dir);

#endif
