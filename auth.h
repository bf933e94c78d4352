/* Kerberos and nothing else: see auth.c. */
#ifndef AUTH_H
#define AUTH_H

#include <stdbool.h>
#include <stddef.h>

#define AUTH_NAME 512   /* a principal in text form, with its NUL; longer ones are refused */
#define AUTH_ENCTYPE 48 /* the name of an encryption type */
#define AUTH_LAYER 24

/* Who is at the other end, as the ticket says. */
struct auth_peer {
	char principal[AUTH_NAME];
	char service[AUTH_NAME]; /* whose key opened the ticket */
	char ticket[AUTH_ENCTYPE];  /* the encryption type of the ticket, and so of the service's key */
	char session[AUTH_ENCTYPE]; /* the one of the session key in the ticket */
	char mutual; /* whether the client asked for our proof */
	char layer[AUTH_LAYER]; /* what protects the connection: see kpopd(8), login */
};

/* What goes back to the client: an AP-REP, a KRB-ERROR, or nothing (size 0). Owned by the struct auth. */
struct auth_answer {
	const char *data;
	size_t size;
};

struct auth;
struct replay;

#define AUTH_KEYS "MEMORY:pre-auth process" /* where auth_open puts the keys: a keytab of this process */

/*
 * Root: reads krb5.conf, once for all processes that are forked from here on;
 * none of them sees what the files say later. Holds no key. Returns NULL,
 * having logged why, when nobody can be let in.
 */
struct auth *auth_prepare(void);

/* Gives all of it back. */
void auth_forget(struct auth *a);

/* Returns the clock skew that krb5.conf permits, in seconds. */
int auth_skew(const struct auth *a);

/*
 * Pre-auth process, as root: copies the keys for pop/ and pop3/ (or POP/ and so on) of any host, or only those
 * for service if it is not NULL, from keytab (NULL: libkrb5's default) to
 * memory. replay remembers what is accepted; if it is NULL, everything is
 * refused. Returns 0, or -1 when there is no such key, and has logged why.
 */
int auth_open(struct auth *a, const char *keytab, const char *service, struct replay *replay);

/*
 * Pre-auth process: judges an AP-REQ (RFC 4120 §3.2) of n bytes that KPOP's sendauth
 * brought. Returns 0 with *peer filled and *answer an AP-REP when mutual
 * authentication was asked for, else empty; or -1 with *answer a KRB-ERROR for
 * the client, having logged why. It is remembered, and never accepted again.
 */
int auth_accept(struct auth *a, const void *ap_req, size_t n, struct auth_peer *peer, struct auth_answer *answer);

/*
 * Pre-auth process: judges an AP-REQ that a first token of GSSAPI brought, in the same way,
 * before GSSAPI sees that token. Returns 0 with *peer filled, or -1 (logged).
 */
int auth_screen(struct auth *a, const void *ap_req, size_t n, struct auth_peer *peer);

/*
 * Pre-auth process, as root: what krb5.conf said, as one text for a file in the jail, where
 * libraries that read it anew will look; "" when there was none.
 */
const char *auth_configuration(const struct auth *a);

/* Whether krb5.conf said nothing, or was not there. */
bool auth_is_empty(const struct auth *a);

/* Pre-auth process: a KRB-ERROR for something that is no AP-REQ at all. */
void auth_refuse(struct auth *a, struct auth_answer *answer);

/*
 * Session, as the user: whether principal may be the user (krb5_kuserok), who
 * must not be anonymous and be of one of the realms (with commas; NULL: any).
 * Returns NULL if not, with *why; else the rule that allowed it: "k5login" (the
 * file names the principal), "localname" (auth_to_local or the default rule) or
 * "plugin". home is the user's home
 * directory.
 */
const char *auth_permitted(struct auth *a, const char *principal, const char *realms,
    const char *user, const char *home, const char **why);

#endif
