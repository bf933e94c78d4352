/* Accounts: who may log in: see account.c. */
#ifndef ACCOUNT_H
#define ACCOUNT_H

#include <sys/types.h>

#include <limits.h>
#include <stdbool.h>

#define USER_NAME 33 /* useradd(8): at most 32 octets; and a NUL */

struct account {
	char name[USER_NAME];
	uid_t uid;
	gid_t gid;
	char home[PATH_MAX];
};

/* Whether name is a Unix user's name: [A-Za-z0-9_][A-Za-z0-9._-]{0,31}. */
bool account_name_valid(const char *name);

/*
 * Looks name up. Returns NULL and fills *a, or says why nobody may log in
 * under it: no such user, uid 0, uid below least.
 */
const char *account_find(const char *name, uid_t least, struct account *a);

/* The same by uid. */
const char *account_find_uid(uid_t uid, uid_t least, struct account *a);

#endif
