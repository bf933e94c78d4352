/* Sessions on a maildrop, for the unit tests of the formats: see drop.c. */
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
 * Makes an empty directory, the home of the user of all tests. Returns its
 * descriptor.
 */
int drop_directory(void);

/*
 * Opens the mailbox that where describes as -m does. Returns as maildrop_open.
 */
enum drop_error drop_begin(struct maildrop *drop, const char *where);

/*
 * Checks that a client gets message n as want, after it has removed the
 * stuffing, and that LIST has its size.
 */
void drop_check_message(struct maildrop *drop, size_t n,
    const struct text *want);

/* Checks that all ids are valid (RFC 1939 §7) and different. */
void drop_check_ids(struct maildrop *drop);

/* Removes the directory. Returns main's status. */
int drop_clean_up(void);

#endif
