/* Answers the clients of a kpopd that cannot start: see accept-unable.c. */
#ifndef ACCEPT_UNABLE_H
#define ACCEPT_UNABLE_H

#include <stdbool.h>

#include "options.h"

/*
 * From here on, a fatal error of this process is answered to the client on fd 0
 * before the process ends. If fd 0 listens, every client that connects is
 * answered, for UNABLE_MS milliseconds. Clients are sent nothing if *o then
 * says that they begin with TLS. *o is read only at the fatal error, so the
 * caller may fill *o after this call. *o must stay valid.
 */
void unable_begin(const struct options *o, bool listens);

/*
 * Sends a client that gets no other answer that the server cannot serve now, if
 * its socket takes the line at once. Sends nothing if clients begin with TLS,
 * unless is_inside_tls. is_ticket: a KPOP client has sent its ticket, and waits
 * for the answer to that. Only after unable_begin.
 */
void unable_answer(int fd, bool is_inside_tls, bool is_ticket);

/*
 * Ends what unable_begin has begun, because kpopd can serve now: a fatal error
 * is still logged, but no longer answered.
 */
void unable_end(void);

#endif
