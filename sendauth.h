/* The server's half of sendauth: see sendauth.c. */
#ifndef SENDAUTH_H
#define SENDAUTH_H

#include "auth.h"
#include "io.h"

/*
 * Leads the exchange at the beginning of a KPOP connection. Returns 0 with
 * *peer filled, and with all bytes after the AP-REQ still unread; or -1
 * (logged): the answer that fits the client's protocol is in the output.
 */
int sendauth_serve(struct io *io, struct auth *a, struct auth_peer *peer);

#endif
