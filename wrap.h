/* A security layer of GSSAPI as a codec for pump.c: see wrap.c. */
#ifndef WRAP_H
#define WRAP_H

#include <gssapi/gssapi.h>

#include "pump.h"

#define WRAP_TOKEN 65536 /* octets of a token, at most; RFC 4752 §3.1 allows more */
/* Less room for text in a token of the peer's is no use. */
#define WRAP_LEAST 16

/* The layers as they stand on the wire (RFC 4752 §3.3). */
enum { WRAP_NONE = 1, WRAP_INTEGRITY = 2, WRAP_CONFIDENTIALITY = 4 };

struct wrap {
	gss_ctx_id_t context;
	bool conceals;
	size_t piece; /* octets of text that make a token the peer takes */
	/* What is said next: a server's answer to AUTH in the clear; all, in the clear; all, in tokens. */
	enum { WRAP_ANSWER, WRAP_PLAIN, WRAP_SEALED } output;
	char line[3]; /* how the answer begins */
	size_t line_at;
	const char *problem; /* once something has failed */
	OM_uint32 major, minor;
	size_t have; /* octets of in */
	char in[4 + WRAP_TOKEN];
};

extern const struct pump_codec wrap_codec; /* its state is a struct wrap */

/*
 * How much text fits into a token of most octets for the peer, with this
 * layer. Returns 0 when too little does.
 */
size_t wrap_piece(gss_ctx_id_t context, unsigned layer, size_t most);

#endif
