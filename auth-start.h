/* Starts Kerberos, once for all processes: see auth-start.c. */
#ifndef AUTH_START_H
#define AUTH_START_H

#include <limits.h>
#include <stdbool.h>

struct auth;

/* Bytes of the path of a .k5login with its NUL. */
#define AUTH_K5LOGIN (PATH_MAX + LOGIN_NAME_MAX + 1)

/*
 * Root: reads krb5.conf once for all processes that are forked later. No later
 * change of the files affects these processes. Reads no key. Returns NULL
 * (logged) if libkrb5 does not start, or if a file changed meanwhile.
 */
struct auth *auth_prepare(void);

/* Frees a struct auth to which the pre-auth process has added nothing. */
void auth_free(struct auth *a);

/* Returns the clock skew that krb5.conf permits, in seconds. */
int auth_skew(const struct auth *a);

/* Returns true if krb5.conf was absent or has no relation. */
bool auth_is_unconfigured(const struct auth *a);

/*
 * Returns the names of the files that libkrb5 reads as krb5.conf, with colons
 * between them, for the log.
 */
const char *auth_configuration(void);

/*
 * Returns the snapshot as the text of one krb5.conf file, or "" if krb5.conf
 * was empty or absent. The pre-auth process writes the text to a file in its
 * jail, where libraries read it. The text belongs to the struct auth.
 */
const char *auth_krb5conf(const struct auth *a);

/*
 * The name of the file in memory in which a listener keeps this text, for
 * kpopd --check.
 */
#define AUTH_SHOWN "krb5.conf"

/*
 * Writes the path of the user's .k5login, as krb5.conf places it. home is the
 * user's home directory. Opens no file. Returns 0 or a krb5 error.
 */
long auth_k5login(const struct auth *a, const char *user, const char *home,
    char path[AUTH_K5LOGIN]);

#endif
