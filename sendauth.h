/* The server's half of sendauth: see sendauth.c. */
#ifndef SENDAUTH_H
#define SENDAUTH_H

#include "auth.h"
#include "io.h"

/*
 * Leads the exchange at the beginning of a KPOP connection. Returns 0 with
 * *peer filled, and leaves all bytes after the AP-REQ unread. If it refuses the
 * client, appends the answer to the output of *io and returns -1 (logged).
 */
int sendauth_serve(struct io *io, struct auth *a, struct auth_peer *peer);

#endif
