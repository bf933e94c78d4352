/* AUTH GSSAPI until the login: see sasl.c. */
#ifndef SASL_H
#define SASL_H

#include <stdbool.h>
#include <stddef.h>

#include "auth.h"

#define SASL_AUTHZID 256 /* bytes of an authorization identity, with NUL */
#define SASL_HASH 64     /* bytes of a certificate's hash, at most */

struct sasl;

enum sasl_result { SASL_MORE, SASL_DONE, SASL_FAILED };

/*
 * Starts GSSAPI with the keys that keytab_load has put in memory. auth verifies
 * each AP-REQ before GSSAPI sees it. Returns NULL (logged) if the keys cannot
 * be used.
 */
struct sasl *sasl_open(struct auth *auth);

/*
 * Finds the AP-REQ in a token of n bytes. The token must be exactly one first
 * token of the Kerberos mechanism (RFC 4121 §4.1); otherwise returns -1.
 * Returns 0 with a pointer to the AP-REQ in *ap_req and its size in *size.
 */
int sasl_ap_req(const void *token, size_t n, const void **ap_req, size_t *size);

/*
 * Records that the connection is inside TLS. hash, of n bytes, is the hash of
 * the certificate (RFC 5929 §4). If the client sends channel bindings, they
 * must match this hash. If they match, the client itself is the other end of
 * TLS, so no layer is offered. If n is 0 or more than SASL_HASH, the client's
 * channel bindings are not checked, and layers are offered.
 */
void sasl_enter_tls(struct sasl *s, const void *hash, size_t n);

/* Discards the last attempt, because the client begins another. */
void sasl_begin(struct sasl *s);

/*
 * Takes the client's next token, of n bytes (RFC 4752 §3.1). Returns SASL_MORE
 * if *out, of *size bytes, must be sent and the client must answer with a
 * token. Returns SASL_DONE if the client is authenticated, or SASL_FAILED
 * (logged). *out belongs to *s and is valid until the next call.
 */
enum sasl_result sasl_step(struct sasl *s, const void *token, size_t n,
    const void **out, size_t *size);

/*
 * After SASL_DONE: fills *peer. Stores the authorization identity in authzid,
 * or "" if the client sent none. Returns 0, or -1 (logged) if GSSAPI's name of
 * the client is anonymous or differs from the name in the ticket.
 */
int sasl_peer(struct sasl *s, struct auth_peer *peer,
    char authzid[SASL_AUTHZID]);

/* After SASL_DONE: returns true if the client has chosen a security layer. */
bool sasl_has_layer(const struct sasl *s);

/*
 * After SASL_DONE with a layer: sends the layer over the socket `handoff` to
 * the process that runs relay_sasl_run. Also sends the n bytes that the client
 * has sent after its last token. Returns 0, or -1 (logged).
 */
int sasl_hand_over(struct sasl *s, int handoff, const void *unread, size_t n);

#endif
