/* AUTH GSSAPI and its security layers: see sasl.c. */
#ifndef SASL_H
#define SASL_H

#include <stdbool.h>
#include <stddef.h>

#include "auth.h"

#define SASL_AUTHZID 256 /* an authorization identity with its NUL */

struct sasl;

enum sasl_result { SASL_MORE, SASL_DONE, SASL_FAILED };

/*
 * Pre-auth process, after auth_open: GSSAPI with the keys that it put in memory; auth
 * screens each AP-REQ before GSSAPI sees it. NULL, having logged why, when
 * there is none to be had.
 */
struct sasl *sasl_open(struct auth *auth);

/*
 * Finds the AP-REQ in a first token of Kerberos' mechanism (RFC 4121 section
 * 4.1) of n bytes. Returns 0 with *ap_req and *size, or -1 if the token is not
 * exactly that.
 */
int sasl_ap_req(const void *token, size_t n, const void **ap_req, size_t *size);

/*
 * Pre-auth process: the connection is inside TLS already, whose certificate has this hash
 * (RFC 5929 §4). If the client sends channel bindings, they must be these, and
 * no layer is offered, because TLS is known to end at the client.
 */
void sasl_inside_tls(struct sasl *s, const void *hash, size_t n);

/* Begins anew: a second attempt of the client's. */
void sasl_begin(struct sasl *s);

/*
 * Takes the client's token of n bytes (RFC 4752 §3.1). MORE: *out, of *size
 * bytes, goes to the client and the next token is awaited. DONE: it is
 * authenticated. FAILED: it is not, and the log says why.
 */
enum sasl_result sasl_step(struct sasl *s, const void *token, size_t n,
    const void **out, size_t *size);

/* After DONE: who it is, and whom they want to be ("" when they did not say). */
int sasl_peer(struct sasl *s, struct auth_peer *peer, char authzid[SASL_AUTHZID]);

/* After DONE: whether a layer was agreed upon. */
bool sasl_has_layer(const struct sasl *s);

/*
 * Pre-auth process, after DONE with a layer: gives it away to sasl_relay, which reads it
 * from the other end of the socket pair handoff, with the n bytes that the
 * client has sent meanwhile. Returns 0, or -1 (logged).
 */
int sasl_hand_over(struct sasl *s, int handoff, const void *unread, size_t n);

/*
 * Relay, jailed: takes the layer over and carries bytes between the client's
 * socket and the plain one until both are done. The first line of the session
 * goes in the clear: it is the answer to AUTH, and only behind a "+OK" the
 * layer begins (RFC 5034 §4). Returns 0, or -1 (logged).
 */
int sasl_relay(int client, int plain, int handoff);

#endif
