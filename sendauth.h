/* The server's half of sendauth: see sendauth.c. */
#ifndef SENDAUTH_H
#define SENDAUTH_H

#include "auth.h"
#include "io.h"

/*
 * Leads the exchange at the beginning of a KPOP connection. Returns 0 with
 * *peer filled, and leaves all bytes after the AP-REQ unread. Returns -1
 * (logged) if the client is refused. The answer, if there is one, is then
 * appended to the output of *io. A client that is too slow has already been
 * sent its answer, because after IO_TIMEOUT no more output is sent.
 */
int sendauth_serve(struct io *io, struct auth *a, struct auth_peer *peer);

#endif
