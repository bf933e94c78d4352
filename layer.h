/* What stands between the client and the session: see layer.c. */
#ifndef LAYER_H
#define LAYER_H

#include "options.h"
#include "privsep.h"

/* What the monitor has started for a connection so far. */
struct layers {
	bool tls, gssapi;
	pid_t pids[2];
	int count;
};

/*
 * Root: returns true if the certificate works. Known from last time while the
 * files and the cipher suites are the same, else tried. Cipher suites that
 * OpenSSL does not have are fatal.
 */
bool layer_tls_works(const struct options *o);

/*
 * The monitor, root: does what the gate asks for, at most once each: TLS in a
 * kpopd-tls, or the relay of a GSSAPI layer; from now on fd 0 is the plain
 * side. Answers on the channel. Returns 0, or -1 when the gate asked for what
 * it may not.
 */
int layer_start(const struct options *o, const struct account *gate,
    struct layers *l, const struct report *question, int channel);

/* Waits for what was started, which ends when the plain side has. */
void layer_await_end(const struct layers *l);

#endif
