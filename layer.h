/* What stands between the client and the session: see layer.c. */
#ifndef LAYER_H
#define LAYER_H

#include "options.h"
#include "privsep.h"
#include "monitor-watch.h"

#define LAYER_CHANNEL 3 /* kpopd-tls's descriptor for its messages to the monitor */

/* What the monitor has started for a connection so far. */
struct layers {
	bool tls, gssapi;
};

/*
 * Root: returns true if the certificate works. Known from last time while the
 * files and the cipher suites are the same, else tried. Cipher suites that
 * OpenSSL does not have are fatal.
 */
bool layer_tls_works(const struct options *o);

/*
 * The monitor, root: does what the pre-auth process asks for, at most once each: TLS in a
 * kpopd-tls, or the relay of a GSSAPI layer; from now on fd 0 is the plain
 * side. The process is killed at deadline. Answers the pre-auth process. Returns 0, or -1
 * when the pre-auth process asked for what it may not.
 */
int layer_start(const struct options *o, const struct account *preauth, struct layers *l,
    const struct report *question, struct watch *w, int64_t deadline);

#endif
