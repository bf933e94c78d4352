/* The server's half of sendauth: see sendauth.c. */
#ifndef SENDAUTH_H
#define SENDAUTH_H

#include "auth.h"
#include "io.h"

/*
 * Leads the exchange at the beginning of a KPOP connection. Returns 0 with
 * *peer filled, and not an byte behind the AP-REQ used up; or -1: whoever it
 * was has had the answer that fits, and the log has the reason.
 */
int sendauth_serve(struct io *io, struct auth *a, struct auth_peer *peer);

#endif
