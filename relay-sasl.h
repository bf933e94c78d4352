/* The relay of a GSSAPI security layer: see relay-sasl.c. */
#ifndef RELAY_SASL_H
#define RELAY_SASL_H

/*
 * Relay, jailed: receives the layer that sasl_hand_over sends to handoff. Then
 * carries bytes between the sockets client and cleartext until both have ended.
 * The first line from cleartext, the answer to AUTH, is sent as it is. The
 * layer begins only after a "+OK" (RFC 5034 §4). Returns 0, or -1 (logged,
 * unless a socket has ended or failed).
 */
int relay_sasl_run(int client, int cleartext, int handoff);

#endif
