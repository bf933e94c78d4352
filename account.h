/* Finds accounts, and decides whether they may log in: see account.c. */
#ifndef ACCOUNT_H
#define ACCOUNT_H

#include <sys/types.h>

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

/*
 * Bytes of a user name with its NUL. useradd(8) without --badname makes names
 * of at most 32 bytes.
 */
#define ACCOUNT_NAME LOGIN_NAME_MAX

struct account {
	char name[ACCOUNT_NAME];
	uid_t uid;
	gid_t gid;
	char home[PATH_MAX];
};

/*
 * The range of uids that may log in. 0 and the uids of nobody (65534, 65535)
 * may not log in, even if the range contains them.
 */
struct account_uids {
	uid_t least, most;
};

/*
 * The domains in which a login NAME@DOMAIN may mean the account NAME; letters
 * match in either case.
 */
struct account_domains {
	const char *host; /* this host's name */
	/*
	 * the service's principal, SERVICE/HOST@REALM: HOST and REALM are
	 * domains
	 */
	const char *service;
	const char *more; /* further ones, with commas; NULL: none */
};

/*
 * The largest uid of a person. Of the two larger uids, one means "none", and
 * the other is nobody's on some systems.
 */
#define ACCOUNT_UID_MOST (UINT32_MAX - 2)

/*
 * Returns true if the name may be looked up in the account database. It must be
 * usable as a component of a path, have no control character, and not begin
 * with "-".
 */
bool account_name_valid(const char *name);

/*
 * Looks up the account whose own name is name. Returns NULL with *a filled, or
 * why the account may not log in. It is refused if it does not exist, if its
 * uid is 0, or if its uid is not in *uids. For the account of a process, uids
 * is NULL and any uid but 0 is accepted.
 */
const char *account_find(const char *name, const struct account_uids *uids,
    struct account *a);

/*
 * Finds the account that a client asks for by text. Returns what account_find
 * returns. The account is the first of these:
 *
 *	the account that the database has for text;
 *	if text is empty, or the ticket's principal (its realm in either
 *	case), the account of the principal's first component;
 *	if text is NAME@DOMAIN with one of the domains, the account of NAME.
 *
 * *a has the account's own name; text may be another spelling of it.
 */
const char *account_find_login(const char *text, const char *principal,
    const struct account_domains *domains, const struct account_uids *uids,
    struct account *a);

/*
 * Looks the account up again, as the user. Returns NULL if the database gives
 * the same uid and home directory, otherwise the reason to refuse the login.
 * krb5_kuserok also looks the user up. If it has got another home directory
 * than the monitor, it has read the wrong .k5login.
 */
const char *account_find_contradiction(const struct account *a,
    const struct account_uids *uids);

/* Finds the account of a uid. Returns what account_find returns. */
const char *account_find_uid(uid_t uid, const struct account_uids *uids,
    struct account *a);

/*
 * Root: asks the shadow database whether the account has expired. Returns NULL,
 * or why the account is closed today. Waits for the answer for at most this
 * many seconds. Asks in a child; otherwise the password hash would stay in the
 * memory of this process and of the session, which is forked later.
 */
const char *account_find_closure(const struct account *a, unsigned seconds);

#endif
