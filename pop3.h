/* RFC 1939 and its extensions: see pop3.c. */
#ifndef POP3_H
#define POP3_H

#include "io.h"
#include "maildrop.h"

/*
 * AUTHORIZATION, after the ticket: greets and waits for USER and PASS. Returns
 * 0 with the user's name in user[size], "" when it can be no user's name; PASS
 * is not answered yet. Returns -1 when the client left or was too slow.
 * principal is who the ticket names: as USER it means its first component.
 */
int pop3_login(struct io *io, const char *principal, char *user, size_t size);

/* PASS's answer when the login is refused: the same for whatever reason. */
void pop3_refuse(struct io *io);

/* PASS's answer when another session has the maildrop, for so many seconds now. */
void pop3_occupied(struct io *io, int64_t age);

/* PASS's answer when the maildrop cannot be opened. */
void pop3_unavailable(struct io *io, enum drop_error error);

/* PASS's good answer, then TRANSACTION and, behind QUIT alone, UPDATE. Logs the end. */
void pop3_serve(struct io *io, struct maildrop *drop);

#endif
