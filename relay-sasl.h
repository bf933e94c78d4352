/* The relay of a GSSAPI security layer: see relay-sasl.c. */
#ifndef RELAY_SASL_H
#define RELAY_SASL_H

/*
 * Relay, jailed: receives the layer that sasl_hand_over sends to the socket
 * `handoff`. Then carries bytes between the sockets `client` and `cleartext`
 * until both have ended. The first line from the cleartext side is the answer
 * to AUTH, and is sent without the layer. The layer begins only after a "+OK"
 * (RFC 5034 §4). Returns 0 or -1. An error is logged, unless it is the end or
 * failure of a socket.
 */
int relay_sasl_run(int client, int cleartext, int handoff);

#endif
