/* What stands between the client and the session: see layer.c. */
#ifndef LAYER_H
#define LAYER_H

#include "options.h"
#include "privsep.h"
#include "watch.h"

#define LAYER_CHANNEL 3 /* kpopd-tls's descriptor for its messages to the monitor */

/* What the monitor has started for a connection so far. */
struct layers {
	bool tls, gssapi;
};

/*
 * The monitor, root: whether the certificate works. Known from last time while
 * the files are the same, else tried.
 */
bool layer_tls_works(const struct options *o);

/*
 * The monitor, root: does what the gate asks for, at most once each: TLS in a
 * kpopd-tls, or the relay of a GSSAPI layer; from now on fd 0 is the plain
 * side. The process is killed at deadline. Answers the gate. Returns 0, or -1
 * when the gate asked for what it may not.
 */
int layer_start(const struct options *o, const struct account *gate, struct layers *l,
    const struct report *question, struct watch *w, int64_t deadline);

#endif
