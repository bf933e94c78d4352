/* The service's keys: see auth-keytab.c. */
#ifndef AUTH_KEYTAB_H
#define AUTH_KEYTAB_H

#include <krb5.h>
#include <limits.h>
#include <stdbool.h>

struct auth;

/* The name of the keytab in memory that keytab_load fills. */
#define KEYTAB_IN_MEMORY "MEMORY:preauth"

/*
 * Pre-auth process, as root: copies keys from keytab (NULL: libkrb5's default)
 * to memory. If service is NULL, copies the keys of pop/HOST and pop3/HOST of
 * any host. Otherwise copies only the keys of the principal that service names.
 * Returns 0, or -1 (logged) if the keytab has no such key.
 */
int keytab_load(struct auth *a, const char *keytab, const char *service);

/*
 * Root: writes the path of the keytab (NULL: libkrb5's default) to path.
 * Returns false if the keytab is no file. a may be NULL if keytab is not.
 */
bool keytab_path(struct auth *a, const char *keytab, char path[PATH_MAX]);

/*
 * Returns true if the principal is pop/HOST or pop3/HOST, in upper or lower
 * case.
 */
bool keytab_is_for_pop(krb5_const_principal p);

#endif
