/* Starts Kerberos, once for all processes: see auth-start.c. */
#ifndef AUTH_START_H
#define AUTH_START_H

#include <stdbool.h>

struct auth;

/*
 * Root: reads krb5.conf, once for all processes that are forked later; no
 * later change of the files reaches them. Holds no key. Returns NULL (logged)
 * if libkrb5 does not start.
 */
struct auth *auth_prepare(void);

/* Frees it. The pre-auth process's part must be empty. */
void auth_free(struct auth *a);

/* Returns the clock skew that krb5.conf permits, in seconds. */
int auth_skew(const struct auth *a);

/* Returns true if krb5.conf was absent or has no relation. */
bool auth_is_unconfigured(const struct auth *a);

/*
 * Returns the snapshot as the text of one krb5.conf file, for a file in the
 * jail, which libraries read there; "" if krb5.conf was empty or absent. The
 * text is the struct auth's.
 */
const char *auth_krb5conf(const struct auth *a);

#endif
