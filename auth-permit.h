/* Whether a principal may be a user: see auth-permit.c. */
#ifndef AUTH_PERMIT_H
#define AUTH_PERMIT_H

struct auth;

/*
 * Session, as the user: finds the rule that permits a principal to be the user
 * (krb5_kuserok). The principal must not be anonymous, and its realm must be
 * one of realms (separated by commas; NULL: any). home is the user's home
 * directory. Returns "k5login" (the file names the principal), "localname"
 * (auth_to_local or the default rule) or "plugin"; or NULL with the reason for
 * the log in *why. The monitor accepts a reason only of letters, digits, blanks
 * and ".,:_-" (message_read_session).
 */
const char *permit_find_rule(struct auth *a, const char *principal,
    const char *realms, const char *user, const char *home, const char **why);

#endif
