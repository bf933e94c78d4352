/* The server's half of sendauth: see sendauth.c. */
#ifndef SENDAUTH_H
#define SENDAUTH_H

#include "auth.h"
#include "io.h"

/*
 * Leads the exchange at the beginning of a KPOP connection. Returns 0 with
 * *peer filled; all bytes after the AP-REQ are then still unread. Returns -1
 * (logged) if it refuses the client; the answer is then in the output.
 */
int sendauth_serve(struct io *io, struct auth *a, struct auth_peer *peer);

#endif
