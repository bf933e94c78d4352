/* The processes between the client and the session: see layer.c. */
#ifndef LAYER_H
#define LAYER_H

#include <stdbool.h>
#include <stdint.h>

#include "monitor-watch.h"
#include "options.h"

/* kpopd-tls's descriptor for its messages to the monitor */
#define LAYER_CHANNEL 3

/* The layers that the monitor has started for a connection. */
struct layers {
	bool tls, gssapi;
};

/*
 * Root: returns true if kpopd-tls can use the certificate, its key and the
 * cipher suites. Starts kpopd-tls to try them. Returns true without a trial if
 * they have not changed since the last successful trial. Ends the process if
 * the list contains a suite that OpenSSL does not have.
 */
bool layer_tls_works(const struct options *o);

/*
 * Root: becomes a kept kpopd-tls (keep-serve.c), which serves the monitors of
 * this state directory.
 */
_Noreturn void layer_keep_tls(const struct options *o);

/*
 * Listener: starts a kept kpopd-tls in a child, which ends at the latest when
 * the listener ends. Returns its pid, or -1 (logged).
 */
pid_t layer_start_kept_tls(const struct options *o);

/*
 * Monitor, root: gives the connection a process that does TLS, or the relay of
 * a GSSAPI layer, and answers the request of the pre-auth process. The process
 * for TLS comes from a kept kpopd-tls, or is a new kpopd-tls. Afterwards the
 * monitor's descriptors 0 and 1 are the cleartext side. The layer's process is
 * killed at the deadline (absolute, ms of CLOCK_MONOTONIC). Returns 0, or -1 if
 * the pre-auth process may not send this request now.
 */
int layer_start_tls(const struct options *o, struct layers *l, struct watch *w,
    int64_t deadline);
int layer_start_gssapi(const struct options *o, const struct account *preauth,
    struct layers *l, struct watch *w, int64_t deadline);

#endif
