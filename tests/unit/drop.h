/* Sessions on a maildrop, for the unit tests of the stores: see drop.c. */
#ifndef DROP_H
#define DROP_H

#include "maildrop.h"

#define MOST 6 /* messages in a test's mailbox */

struct text {
	const char *p;
	size_t n;
};
#define TEXT(s) { s, sizeof(s) - 1 }

/* A new empty directory, which is the home of the one user, opened. */
int drop_directory(void);

/* Opens the mailbox that -m describes, as a session does. */
enum drop_error drop_begin(struct maildrop *drop, const char *where);

/* Message n is exactly this, as a client gets it, stuffing undone; LIST has promised its bytes. */
void drop_check_message(struct maildrop *drop, size_t n, const struct text *want);

/* All ids are what RFC 1939 allows, and differ. */
void drop_check_ids(struct maildrop *drop);

/* Takes the directory away. Returns main's status. */
int drop_clean_up(void);

#endif
