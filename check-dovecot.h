/* Checks Dovecot's configuration: see check-dovecot.c. */
#ifndef CHECK_DOVECOT_H
#define CHECK_DOVECOT_H

struct check;

/*
 * If Dovecot is installed, prints lines about its locks, if kpopd's mailboxes
 * have locks, and about its INBOX. ours: the locks that kpopd can take, as
 * compare_read returns them. procmail: the names of procmail's locks in their
 * order; "" if procmail is not installed.
 */
void dovecot_check(struct check *c, unsigned ours, const char *procmail);

#endif
