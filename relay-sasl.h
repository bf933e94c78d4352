/* The relay of a GSSAPI security layer: see relay-sasl.c. */
#ifndef RELAY_SASL_H
#define RELAY_SASL_H

/*
 * Relay, jailed: receives the layer that sasl_hand_over sends to the socket
 * `handoff`. Then carries bytes between the sockets `client` and `cleartext`
 * until the cleartext side has ended. The first line from the cleartext side is
 * the answer to AUTH, and is sent without the layer. If this line is a "+OK",
 * all later output is inside the layer (RFC 5034 §4). All input is inside the
 * layer. Returns 0 or -1. An error is logged, unless a socket has ended or
 * failed, or relay_run's time limit has passed.
 */
int relay_sasl_run(int client, int cleartext, int handoff);

#endif
