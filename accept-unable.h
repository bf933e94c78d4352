/* Answers the clients of a kpopd that cannot start: see accept-unable.c. */
#ifndef ACCEPT_UNABLE_H
#define ACCEPT_UNABLE_H

#include <stdbool.h>

/*
 * From here on, a fatal error of this process is answered to the client on fd 0
 * before the process ends. If fd 0 listens, every client that connects is
 * answered, for UNABLE_MS milliseconds.
 */
void unable_begin(bool listens);

/* Clients begin with TLS; so they are sent nothing. */
void unable_quiet(void);

/* kpopd can serve: a fatal error is only logged again. */
void unable_end(void);

#endif
