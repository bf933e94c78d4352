/* Verifies a client's ticket and authenticator: see auth.c. */
#ifndef AUTH_H
#define AUTH_H

#include <stddef.h>

/* Bytes of a principal in text form, with its NUL. Longer ones are refused. */
#define AUTH_NAME 512
#define AUTH_ENCTYPE 48 /* bytes of the name of an encryption type */
#define AUTH_LAYER 24   /* bytes of the name of a connection's protection */

/* What the client's ticket proves, and what the client wants. */
struct auth_peer {
	char principal[AUTH_NAME];
	char service[AUTH_NAME];    /* its key has decrypted the ticket */
	char ticket[AUTH_ENCTYPE];  /* the encryption type of that key */
	char session[AUTH_ENCTYPE]; /* encryption type of the session key */
	char mutual;                /* 1 if the client wants an AP-REP */
	/*
	 * the connection's protection, as in the login line of the log
	 * (kpopd(8))
	 */
	char layer[AUTH_LAYER];
};

/*
 * An answer to the client: an AP-REP, a KRB-ERROR, or nothing (size 0). The
 * data belongs to the struct auth and is valid until the next answer is made.
 */
struct auth_answer {
	const char *data;
	size_t size;
};

struct auth;
struct replay;

/*
 * Pre-auth process: makes auth_accept and auth_screen record AP-REQs in this
 * replay cache, and not in libkrb5's. If replay is NULL, every AP-REQ is
 * refused.
 */
void auth_use_replay_cache(struct auth *a, struct replay *replay);

/*
 * Pre-auth process: verifies an AP-REQ (RFC 4120 §3.2) of n bytes that arrived
 * by sendauth, and records it, so it is never accepted again. If the AP-REQ is
 * accepted, returns 0 with *peer filled. *answer is then an AP-REP if the
 * client asks for mutual authentication, otherwise empty. If the AP-REQ is
 * refused, returns -1 (logged), and *answer is a KRB-ERROR, or empty if none
 * can be made.
 */
int auth_accept(struct auth *a, const void *ap_req, size_t n,
    struct auth_peer *peer, struct auth_answer *answer);

/*
 * Pre-auth process: verifies and records an AP-REQ, as auth_accept does. The
 * AP-REQ has arrived in a first token of GSSAPI. The caller passes this token
 * to GSSAPI only if auth_screen returns 0. Fills *peer and returns 0, or
 * returns -1 (logged).
 */
int auth_screen(struct auth *a, const void *ap_req, size_t n,
    struct auth_peer *peer);

/*
 * Pre-auth process: makes a KRB-ERROR for bytes that are not an AP-REQ. *answer
 * is empty if none can be made.
 */
void auth_refuse(struct auth *a, struct auth_answer *answer);

#endif
