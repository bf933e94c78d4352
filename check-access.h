/* What the access file lets a user's principals do: see check-access.c. */
#ifndef CHECK_ACCESS_H
#define CHECK_ACCESS_H

#include "check.h"

struct access_answer;

/* After check_access: prints each line of the file that names the account. */
void check_access_user(struct check *c);

/*
 * After check_access: finds what a principal may do as the account, if its
 * connection meets the conditions. Needs no right to the file.
 */
void check_access_of(const struct check *c, const char *principal,
    struct access_answer *answer);

#endif
