/* Decides whether a principal may log in as a user: see auth-permit.c. */
#ifndef AUTH_PERMIT_H
#define AUTH_PERMIT_H

#include <stddef.h>

struct auth;

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

/*
 * Writes the path of the user's .k5login, as krb5.conf places it, into
 * path[size]. Returns 0, or -1 if it does not fit or krb5.conf cannot be read.
 */
int permit_locate_k5login(struct auth *a, const char *user, const char *home,
    char *path, size_t size);

#endif
