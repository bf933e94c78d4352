/* The session, as the user: see session.c. */
#ifndef SESSION_H
#define SESSION_H

#include "visit.h"

/* Returns the write timeout in seconds: a client that takes none of a buffer of output for so long has gone. */
int session_stall(const struct options *o);

/* The session, a child of the monitor's. Becomes the user, asks whether the ticket opens the account, and serves. */
_Noreturn void session(struct visit *v, int channel);

#endif
