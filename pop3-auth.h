/* AUTHORIZATION, POP3's state before the login: see pop3-auth.c. */
#ifndef POP3_AUTH_H
#define POP3_AUTH_H

#include <stdbool.h>
#include <stddef.h>

#include "io.h"
#include "pop3.h"

/*
 * What the pre-auth process offers before the login, and what it calls for
 * that.
 */
struct pop3_preauth {
	void *self; /* passed to the functions */
	/*
	 * The principal of the ticket (KPOP); NULL: the ticket comes with AUTH
	 * (POP3 mode).
	 */
	const char *principal;
	bool has_gssapi; /* POP3 mode: AUTH GSSAPI is offered */
	bool has_tls;    /* STLS is offered */
	bool needs_tls;  /* no login is accepted outside TLS */
	bool inside_tls;
	/* Starts TLS. Returns the socket with its cleartext, or -1. */
	int (*prepare_tls)(void *self);
	/*
	 * Does one step of AUTH GSSAPI with a token of n bytes; first: the
	 * first step of a new attempt. Returns 1 with a challenge of *size
	 * bytes, valid until the next call, 0 when the attempt is done, or -1
	 * when it has failed.
	 */
	int (*authenticate)(void *self, bool first, const void *token, size_t n,
	    const void **challenge, size_t *size);
	/*
	 * Stores the authorization identity ("": not sent) of the attempt that
	 * authenticate has finished. Returns 0, or -1 if the client is not
	 * authenticated.
	 */
	int (*get_authzid)(void *self, const char **authzid);
};

/*
 * Greets the client and obeys it until USER and PASS, or AUTH. Returns 0 with
 * USER's argument, or AUTH's authorization identity ("" if the client sent
 * none), as the client wrote it, in user[size]; PASS or AUTH is not answered
 * yet. Returns -1 (logged) if the client has left or was too slow.
 */
int pop3_login(struct io *io, const struct pop3_preauth *preauth, char *user,
    size_t size);

#endif
