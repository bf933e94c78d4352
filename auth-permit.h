/* Decides whether a principal may log in as a user: see auth-permit.c. */
#ifndef AUTH_PERMIT_H
#define AUTH_PERMIT_H

#include <stdbool.h>
#include <stddef.h>

struct auth;

/* The reason of permit_find_rule that permit_explain explains. */
#define PERMIT_NO_RULE "not permitted to be this user"

#define PERMIT_CAUSE 256 /* bytes of a cause with its NUL */

/*
 * Returns true if the realm of n bytes is one of realms, which commas separate.
 */
bool permit_has_realm(const char *realms, const char *realm, size_t n);

/*
 * Session, as the user: returns true unless this principal may log in as no
 * user. A principal may not log in if it is anonymous, contains a NUL or is
 * malformed, or if its realm is not one of realms (separated by commas; NULL:
 * any). In this case stores the reason for the log in *why.
 */
bool permit_accepts(struct auth *a, const char *principal, const char *realms,
    const char **why);

/*
 * Session, as the user: finds the rule by which a principal may log in as the
 * user (krb5_kuserok). Refuses a principal that permit_accepts refuses. home is
 * the user's home directory. Returns "k5login" if .k5login names the principal,
 * "localname" if auth_to_local or the default rule permits the login, or
 * "plugin" if a plugin does. If the login is refused, returns NULL and stores
 * the reason for the log in *why. In a reason, each character except letters,
 * digits, blanks and ".,:_-" becomes "_" (message_send_session).
 */
const char *permit_find_rule(struct auth *a, const char *principal,
    const char *realms, const char *user, const char *home, const char **why);

/*
 * Session, as the user: writes the cause for which permit_find_rule has refused
 * the principal for PERMIT_NO_RULE. Its subject is the .k5login of
 * auth_k5login. It reads the user's files once more, so call it only after the
 * refusal was sent: otherwise the time of the answer could show that the
 * account exists. The caller must encode the characters that a reason may not
 * contain.
 */
void permit_explain(struct auth *a, const char *principal, const char *user,
    const char *home, char cause[PERMIT_CAUSE]);

#endif
