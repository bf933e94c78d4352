/* RFC 1939 and its extensions: see pop3.c. */
#ifndef POP3_H
#define POP3_H

#include "io.h"
#include "maildrop.h"

/* What the pre-auth process can do before the login, and what it has found out. */
struct pop3_preauth {
	void *self; /* for the functions */
	/* Whom the ticket names (KPOP); NULL: nobody yet, AUTH comes first (POP3 mode). */
	const char *principal;
	bool has_gssapi;  /* POP3 mode: AUTH GSSAPI can be had */
	bool has_tls;     /* STLS can be had */
	bool needs_tls;   /* before anything that lets somebody in */
	bool inside_tls;
	/* Makes TLS ready: the socket on which its plain text will be, or -1. */
	int (*prepare_tls)(void *self);
	/*
	 * One step of AUTH GSSAPI; first: it is a new attempt. As sasl_step: 1
	 * and a challenge, 0 when it is done, -1 when it failed.
	 */
	int (*authenticate)(void *self, bool first, const void *token, size_t n,
	    const void **challenge, size_t *size);
	/* After authenticate: the principal, and whom they want to be ("": not said). -1: nobody. */
	int (*who)(void *self, const char **principal, const char **wish);
};

/*
 * AUTHORIZATION: greets and waits for USER and PASS, or AUTH. Returns 0 with
 * what USER named, or AUTH's authorization identity ("" if the client sent
 * none), in user[size], as the client wrote it; PASS or AUTH is not answered
 * yet. Returns -1 when the client left or was too slow.
 */
int pop3_login(struct io *io, const struct pop3_preauth *preauth, char *user, size_t size);

/* PASS's answer when the login is refused: the same for whatever reason. */
void pop3_refuse(struct io *io);

/* PASS's answer when another session has the maildrop, for so many seconds now. */
void pop3_occupied(struct io *io, int64_t age);

/* PASS's answer when the maildrop cannot be opened. */
void pop3_unavailable(struct io *io, enum drop_error error);

/* PASS's good answer, then TRANSACTION and, behind QUIT alone, UPDATE. Logs the end. */
void pop3_serve(struct io *io, struct maildrop *drop);

#endif
