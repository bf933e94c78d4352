/* The place and format of the mailboxes: see mailboxes.c. */
#ifndef MAILBOXES_H
#define MAILBOXES_H

#include <stdbool.h>
#include <stddef.h>

struct store_ops;

struct mailboxes {
	const struct store_ops *store;
	const char *text;   /* the whole argument of -m */
	const char *format; /* the name of the state directory begins with it */
	/*
	 * The path of a mailbox, with %u for the user and %h or a leading ~ for
	 * the home directory. It is absolute after these are replaced.
	 */
	const char *template;
	bool create; /* absent mailboxes are made */
	bool quoted; /* Content-Length is not trusted (mboxo) */
	/*
	 * This login may change nothing in the mailbox. No -m sets it; the
	 * session does.
	 */
	bool read_only;
};

/*
 * Reads "FORMAT:PATH" with one of the formats of -m. Keeps a pointer to text.
 * Returns 0 or -1.
 */
int mailboxes_read(struct mailboxes *b, const char *text);

/*
 * Returns the path of this user's mailbox, valid until the next call; or NULL
 * if it is too long or not absolute.
 */
const char *mailboxes_path(const struct mailboxes *b, const char *user,
    const char *home);

/* Why mailboxes_path has returned NULL. */
#define MAILBOXES_NO_PATH "the path of the mailbox is too long, or not absolute"

/*
 * Returns the store of the i-th format, counted from 0; NULL after the last.
 * Two formats may have the same store.
 */
const struct store_ops *mailboxes_store(size_t i);

/*
 * Returns true if other programs lock these mailboxes. Then the session must
 * lock them, too, with the broker's help.
 */
bool mailboxes_are_locked(const struct mailboxes *b);

/*
 * Returns true if the path does not lead through the home directory, where the
 * user can place symlinks. Only then may root, or the broker with the spool's
 * group, look at the path.
 */
bool mailboxes_are_outside_home(const struct mailboxes *b);

#endif
