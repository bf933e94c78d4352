/* AUTHORIZATION, POP3's state before the login: see pop3-auth.c. */
#ifndef POP3_AUTH_H
#define POP3_AUTH_H

#include <stdbool.h>
#include <stddef.h>

#include "io.h"
#include "pop3.h"

/*
 * What the pre-auth process offers to a client before the login, and the
 * functions with which pop3-auth.c does what is offered.
 */
struct pop3_preauth {
	void *self; /* passed to the functions */
	/*
	 * KPOP: the principal of the ticket. POP3 mode: NULL, because the
	 * ticket comes with AUTH.
	 */
	const char *principal;
	bool has_gssapi; /* POP3 mode: AUTH GSSAPI is offered */
	bool has_tls;    /* STLS is offered */
	bool needs_tls;  /* no login is accepted outside TLS */
	bool inside_tls;
	/* Starts TLS. Returns the socket for the cleartext, or -1. */
	int (*prepare_tls)(void *self);
	/*
	 * Does one step of AUTH GSSAPI with a token of n bytes. first: this
	 * step begins an attempt. Returns 1 if the client must get *challenge,
	 * of *size bytes, which is valid until the next call. Returns 0 if no
	 * step is left, or -1 if the attempt has failed.
	 */
	int (*authenticate)(void *self, bool first, const void *token, size_t n,
	    const void **challenge, size_t *size);
	/*
	 * Stores the authzid of the attempt that authenticate has finished, or
	 * "" if the client sent none. Returns 0, or -1 if the client is not
	 * authenticated.
	 */
	int (*get_authzid)(void *self, const char **authzid);
};

/*
 * Greets the client and obeys it until it logs in, with USER and PASS or with
 * AUTH. Stores USER's argument or AUTH's authzid ("": none) in user[size], as
 * the client wrote it, and returns 0. PASS or AUTH is not answered yet. Returns
 * -1 if there is no login, and logs why. For example, the client left or was
 * too slow, or its last permitted attempt of AUTH failed.
 */
int pop3_login(struct io *io, const struct pop3_preauth *preauth, char *user,
    size_t size);

#endif
