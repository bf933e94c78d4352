/* Verifies what a client proves with its ticket: see auth.c. */
#ifndef AUTH_H
#define AUTH_H

#include <stddef.h>

/* Bytes of a principal in text form, with its NUL; longer ones are refused. */
#define AUTH_NAME 512
#define AUTH_ENCTYPE 48 /* bytes of the name of an encryption type */
#define AUTH_LAYER 24   /* bytes of the name of a connection's protection */

/* The client, as its ticket proves. */
struct auth_peer {
	char principal[AUTH_NAME];
	char service[AUTH_NAME];    /* whose key has decrypted the ticket */
	char ticket[AUTH_ENCTYPE];  /* the encryption type of that key */
	char session[AUTH_ENCTYPE]; /* of the session key in the ticket */
	char mutual;            /* 1 if the client wants the server's proof */
	char layer[AUTH_LAYER]; /* the protection: kpopd(8), login */
};

/*
 * An answer to the client: an AP-REP, a KRB-ERROR, or nothing (size 0). The
 * data is the struct auth's, and valid until its next answer.
 */
struct auth_answer {
	const char *data;
	size_t size;
};

struct auth;
struct replay;

/*
 * Pre-auth process: records accepted AP-REQs in this replay cache, and in none
 * of libkrb5's. If it is NULL, every AP-REQ is refused.
 */
void auth_use_replay_cache(struct auth *a, struct replay *replay);

/*
 * Pre-auth process: verifies an AP-REQ (RFC 4120 §3.2) of n bytes that arrived
 * by sendauth, and records it: it is never accepted again. Returns 0 with
 * *peer filled and *answer an AP-REP if the client asks for mutual
 * authentication, else empty; or -1 (logged) with *answer a KRB-ERROR.
 */
int auth_accept(struct auth *a, const void *ap_req, size_t n,
    struct auth_peer *peer, struct auth_answer *answer);

/*
 * Pre-auth process: verifies and records in the same way an AP-REQ that arrived
 * in a first token of GSSAPI, before GSSAPI sees that token. Returns 0 with
 * *peer filled, or -1 (logged).
 */
int auth_screen(struct auth *a, const void *ap_req, size_t n,
    struct auth_peer *peer);

/* Pre-auth process: makes a KRB-ERROR for bytes that are not an AP-REQ. */
void auth_refuse(struct auth *a, struct auth_answer *answer);

#endif
