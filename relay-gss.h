/* A security layer of GSSAPI as a codec for relay.c: see relay-gss.c. */
#ifndef RELAY_GSS_H
#define RELAY_GSS_H

#include <gssapi/gssapi.h>

#include "relay.h"

#define RELAY_GSS_TOKEN 65536 /* bytes of a token, at most; RFC 4752 §3.1 allows more */
/* Less room for text in a token of the peer's is no use. */
#define RELAY_GSS_LEAST 16

/* The layers as they stand on the wire (RFC 4752 §3.3). */
enum { RELAY_GSS_NONE = 1, RELAY_GSS_INTEGRITY = 2, RELAY_GSS_CONFIDENTIALITY = 4 };

struct relay_gss {
	gss_ctx_id_t context;
	bool conceals;
	size_t piece; /* bytes of text that make a token the peer takes */
	/* What is said next: a server's answer to AUTH in the clear; all, in the clear; all, in tokens. */
	enum { RELAY_GSS_ANSWER, RELAY_GSS_PLAIN, RELAY_GSS_SEALED } output;
	char line[3]; /* how the answer begins */
	size_t line_at;
	const char *problem; /* once something has failed */
	OM_uint32 major, minor;
	size_t have; /* bytes of in */
	char in[4 + RELAY_GSS_TOKEN];
};

extern const struct relay_codec relay_gss_codec; /* its state is a struct relay_gss */

/*
 * How much text fits into a token of most bytes for the peer, with this
 * layer. Returns 0 when too little does.
 */
size_t relay_gss_piece(gss_ctx_id_t context, unsigned layer, size_t most);

#endif
