/* Accounts: who may log in: see account.c. */
#ifndef ACCOUNT_H
#define ACCOUNT_H

#include <sys/types.h>

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

/* Bytes of a user name with its NUL: as many as Unix has; useradd(8) stops at 32 without --badname. */
#define ACCOUNT_NAME LOGIN_NAME_MAX

struct account {
	char name[ACCOUNT_NAME];
	uid_t uid;
	gid_t gid;
	char home[PATH_MAX];
};

/* The uids that may log in; 0 and those of nobody never do. */
struct account_uids {
	uid_t least, most;
};

/* The domains of which a login's text NAME@DOMAIN may mean NAME. Letters may be of either case. */
struct account_domains {
	const char *host;    /* this host's name */
	const char *service; /* a principal SERVICE/HOST@REALM: its host and its realm */
	const char *more;    /* with commas; NULL: none */
};

/* The largest uid that can be a person's: the two after it mean "none" and, to some systems, nobody. */
#define ACCOUNT_UID_MOST (UINT32_MAX - 2)

/*
 * Returns true if name may be looked up in the account database: it is one
 * component of a path, has no control character, and does not begin with "-".
 */
bool account_name_valid(const char *name);

/*
 * Looks name up, which has to be the account's own. Returns NULL and fills *a,
 * or says why nobody may log in under it: no such user, uid 0, not one of uids.
 * uids NULL: the account of a process, not of a person; any uid but 0 will do.
 */
const char *account_find(const char *name, const struct account_uids *uids, struct account *a);

/*
 * Finds the account that a client asks for: the one that the database has for
 * text. If there is none and text is empty, or the principal of the ticket with
 * its realm in any case, it is the account of the principal's first component.
 * If it is neither but NAME@DOMAIN with one of the domains, it is the account
 * of NAME. Returns as account_find; *a has the account's own name, of which
 * the text may be another spelling.
 */
const char *account_find_login(const char *text, const char *principal, const struct account_domains *domains,
    const struct account_uids *uids, struct account *a);

/* The same by uid. */
const char *account_find_uid(uid_t uid, const struct account_uids *uids, struct account *a);

/*
 * Root: asks the shadow database, in a process of its own, because a password
 * hash would stay in memory and this process becomes the user's. Returns why
 * the account is closed today, or NULL. Waits for at most so many seconds.
 */
const char *account_closed(const struct account *a, unsigned seconds);

#endif
