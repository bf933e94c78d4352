/* Sessions on a maildrop, for the unit tests of the formats (drop.c). */
#ifndef DROP_H
#define DROP_H

#include "maildrop.h"

#define MOST 6 /* messages in a test's mailbox */

struct text {
	const char *p;
	size_t n;
};
#define TEXT(s)                                                                \
	{                                                                      \
		s, sizeof(s) - 1                                               \
	}

/*
 * Makes an empty directory, the home directory of the test's user. Returns the
 * directory's descriptor.
 */
int drop_directory(void);

/*
 * Opens the mailbox that "where" describes in the syntax of -m. Returns the
 * result of maildrop_open.
 */
enum drop_error drop_begin(struct maildrop *drop, const char *where);

/* As drop_begin, but the session may change nothing in the mailbox. */
enum drop_error drop_begin_read_only(struct maildrop *drop, const char *where);

/*
 * Checks that a client gets message n as the text *want after it has removed
 * the dot-stuffing. Checks that LIST reports the size of *want.
 */
void drop_check_message(struct maildrop *drop, size_t n,
    const struct text *want);

/* Checks that all ids are valid (RFC 1939 §7) and different. */
void drop_check_ids(struct maildrop *drop);

/* Removes the directory. Returns main's status. */
int drop_clean_up(void);

#endif
