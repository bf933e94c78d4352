/* A security layer of GSSAPI as a codec for relay.c: see relay-gss.c. */
#ifndef RELAY_GSS_H
#define RELAY_GSS_H

#include <gssapi/gssapi.h>

#include "relay.h"

/* Bytes of a token, at most; RFC 4752 §3.1 allows more. */
#define RELAY_GSS_TOKEN 65536
/*
 * Bytes of text for which the peer's largest token must have room. A peer that
 * takes only smaller tokens is refused.
 */
#define RELAY_GSS_LEAST 16
#define RELAY_GSS_LENGTH 4 /* bytes of the length before a token */

/* The layers, as flags on the wire (RFC 4752 §3.3). */
enum {
	RELAY_GSS_NONE = 1,
	RELAY_GSS_INTEGRITY = 2,
	RELAY_GSS_CONFIDENTIALITY = 4,
};

/* How output is sent. */
enum relay_gss_output {
	RELAY_GSS_ANSWER,    /* a server's answer to AUTH: in cleartext */
	RELAY_GSS_CLEARTEXT, /* in cleartext until the end */
	RELAY_GSS_WRAPPED,   /* in tokens */
};

struct relay_gss {
	gss_ctx_id_t context;
	bool is_confidential; /* the layer has confidentiality */
	size_t text_size;     /* most bytes of text in a token for the peer */
	enum relay_gss_output output;
	char line[3]; /* the beginning of the answer to AUTH */
	size_t line_at;
	const char *problem;    /* the step that failed; NULL: none */
	OM_uint32 major, minor; /* GSSAPI's error; 0: none */
	size_t have;            /* bytes of `in` that have come */
	char in[RELAY_GSS_LENGTH + RELAY_GSS_TOKEN];
};

extern const struct relay_codec relay_gss_codec; /* state: a struct relay_gss */

/*
 * Returns how many bytes of text fit into a token of token_size bytes with this
 * layer. A token_size above RELAY_GSS_TOKEN counts as RELAY_GSS_TOKEN. Returns
 * 0 if fewer than RELAY_GSS_LEAST bytes fit, or if GSSAPI fails.
 */
size_t relay_gss_text_size(gss_ctx_id_t context, unsigned layer,
    size_t token_size);

#endif
