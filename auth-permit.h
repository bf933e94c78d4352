/* Decides whether a principal may log in as a user: see auth-permit.c. */
#ifndef AUTH_PERMIT_H
#define AUTH_PERMIT_H

struct auth;

/*
 * Session, as the user: finds the rule by which a principal may log in as the
 * user (krb5_kuserok). Refuses a principal that is anonymous or contains a NUL,
 * or whose realm is not one of realms (separated by commas; NULL: any). home is
 * the user's home directory. Returns "k5login" if .k5login names the principal,
 * "localname" if auth_to_local or the default rule permits the login, or
 * "plugin" if a plugin does. If the login is refused, returns NULL and stores
 * the reason for the log in *why. In a reason, each character except letters,
 * digits, blanks and ".,:_-" becomes "_" (message_send_session).
 */
const char *permit_find_rule(struct auth *a, const char *principal,
    const char *realms, const char *user, const char *home, const char **why);

#endif
