/* The service's keys: see auth-keytab.c. */
#ifndef AUTH_KEYTAB_H
#define AUTH_KEYTAB_H

#include <krb5.h>
#include <stdbool.h>

struct auth;

/* The keytab in this process's memory that keytab_load fills. */
#define KEYTAB_IN_MEMORY "MEMORY:preauth"

/*
 * Pre-auth process, as root: copies keys from keytab (NULL: libkrb5's default)
 * to memory. These are the keys for pop/HOST and pop3/HOST of any host, or, if
 * service is not NULL, only those of the principal service. Returns 0, or -1
 * (logged) if there is no such key.
 */
int keytab_load(struct auth *a, const char *keytab, const char *service);

/*
 * Returns true if the principal is pop/HOST or pop3/HOST, with letters of
 * either case.
 */
bool keytab_is_for_pop(krb5_const_principal p);

#endif
