/* The server's half of sendauth: see sendauth.c. */
#ifndef SENDAUTH_H
#define SENDAUTH_H

#include "auth.h"
#include "io.h"

/*
 * Leads the exchange at the beginning of a KPOP connection. Returns 0 with
 * *peer filled, and with all bytes after the AP-REQ still unread; or -1
 * (logged) with an answer in the output, in the client's protocol if it is
 * known.
 */
int sendauth_serve(struct io *io, struct auth *a, struct auth_peer *peer);

#endif
