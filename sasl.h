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
 * Starts GSSAPI with the keys that keytab_load has put in memory; auth screens
 * each AP-REQ before GSSAPI sees it. Returns NULL (logged) if the keys cannot
 * be used.
 */
struct sasl *sasl_open(struct auth *auth);

/*
 * Finds the AP-REQ in a first token of the Kerberos mechanism (RFC 4121 §4.1)
 * of n bytes. Returns 0 with *ap_req, of *size bytes in the token; or -1 if the
 * token is not exactly that.
 */
int sasl_ap_req(const void *token, size_t n, const void **ap_req, size_t *size);

/*
 * Notes that the connection is inside TLS, whose certificate has this hash of
 * n bytes (RFC 5929 §4). Channel bindings of the client must then match. If
 * they do, no layer is offered, because TLS is known to end at the client.
 */
void sasl_enter_tls(struct sasl *s, const void *hash, size_t n);

/* Discards the last attempt; the client begins another. */
void sasl_begin(struct sasl *s);

/*
 * Takes the client's next token, of n bytes (RFC 4752 §3.1). Returns SASL_MORE
 * with *out, of *size bytes, for the client, whose next token must follow;
 * SASL_DONE if the client is authenticated; or SASL_FAILED (logged). *out
 * belongs to *s, and is valid until the next call.
 */
enum sasl_result sasl_step(struct sasl *s, const void *token, size_t n,
    const void **out, size_t *size);

/*
 * After SASL_DONE: fills *peer, and authzid with the authorization identity, ""
 * if the client sent none. Returns 0, or -1 (logged) if the client has no name.
 */
int sasl_peer(struct sasl *s, struct auth_peer *peer,
    char authzid[SASL_AUTHZID]);

/* After SASL_DONE: returns true if the client has chosen a security layer. */
bool sasl_has_layer(const struct sasl *s);

/*
 * After SASL_DONE with a layer: sends the layer to relay_sasl_run, which has
 * the other end of the socket pair handoff, with n bytes that the client has
 * sent after its last token. Returns 0, or -1 (logged).
 */
int sasl_hand_over(struct sasl *s, int handoff, const void *unread, size_t n);

#endif
