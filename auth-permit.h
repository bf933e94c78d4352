/* Decides whether a principal may log in as a user: see auth-permit.c. */
#ifndef AUTH_PERMIT_H
#define AUTH_PERMIT_H

#include <stdbool.h>
#include <stddef.h>

struct auth;

/*
 * Returns true if the realm of n bytes is one of realms, which commas separate.
 */
bool permit_has_realm(const char *realms, const char *realm, size_t n);

/*
 * Session, as the user: finds the rule by which a principal may log in as the
 * user (krb5_kuserok). The principal must not be anonymous, and its realm must
 * be one of realms (separated by commas; NULL: any). home is the user's home
 * directory. Returns "k5login" if .k5login names the principal, "localname" if
 * auth_to_local or the default rule permits the login, or "plugin" if a plugin
 * does. If no rule permits the login, returns NULL and stores the reason for
 * the log in *why. A reason must consist of letters, digits, blanks and
 * ".,:_-"; otherwise the monitor rejects it (message_read_session).
 */
const char *permit_find_rule(struct auth *a, const char *principal,
    const char *realms, const char *user, const char *home, const char **why);

#endif
