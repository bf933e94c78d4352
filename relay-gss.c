/*
 * A security layer of GSSAPI as a codec for relay.c: each token behind its length in four bytes.
 *
 * Runs in the relay, jailed, and in kpopc. The peer is not trusted: a token has
 * a limit, and only one that is whole, in order and new is opened.
 *
 * Source: RFC 4422 §3.7, RFC 4752 §3.
 */
#include "config.h"

#include <string.h>

#include "relay-gss.h"

static int
failed(struct relay_gss *w, const char *problem, OM_uint32 major, OM_uint32 minor)
{
	w->problem = problem;
	w->major = major;
	w->minor = minor;
	return -1;
}

size_t
relay_gss_piece(gss_ctx_id_t context, unsigned layer, size_t most)
{
	OM_uint32 piece, minor;
	size_t token = most > RELAY_GSS_TOKEN ? RELAY_GSS_TOKEN : most;

	if (GSS_ERROR(gss_wrap_size_limit(&minor, context, layer == RELAY_GSS_CONFIDENTIALITY,
		GSS_C_QOP_DEFAULT, (OM_uint32)token, &piece)) ||
	    piece < RELAY_GSS_LEAST || piece > token)
		return 0;
	return piece;
}

/* One whole token: n bytes behind the length. */
static int
open_token(struct relay_gss *w, size_t n, struct relay_buffer *plain)
{
	gss_buffer_desc token = { n, w->in + 4 }, text;
	OM_uint32 minor, major;
	int conceals, result;

	/* COMPLETE alone will do: what was replayed or is out of order says so in other bits. */
	major = gss_unwrap(&minor, w->context, &token, &text, &conceals, NULL);
	if (major != GSS_S_COMPLETE)
		return failed(w, "a token that cannot be opened", major, minor);
	result = w->conceals && !conceals ? failed(w, "a token in the clear", 0, 0) :
					    relay_put(plain, text.value, text.length);
	gss_release_buffer(&minor, &text);
	return result;
}

/* The bytes of the token whose length stands at the beginning of in. */
static size_t
token_size(const struct relay_gss *w)
{
	const unsigned char *p = (const unsigned char *)w->in;

	return (size_t)p[0] << 24 | (size_t)p[1] << 16 | (size_t)p[2] << 8 | p[3];
}

static int
relay_gss_open(void *state, const char *data, size_t n, struct relay_buffer *plain,
    struct relay_buffer *sealed)
{
	struct relay_gss *w = state;

	(void)sealed;
	while (n > 0) {
		size_t want = w->have < 4 ? 4 : 4 + token_size(w);
		size_t some = want - w->have < n ? want - w->have : n;

		memcpy(w->in + w->have, data, some);
		w->have += some;
		data += some;
		n -= some;
		if (w->have == 4 && (token_size(w) == 0 || token_size(w) > RELAY_GSS_TOKEN))
			return failed(w, "a token of no possible size", 0, 0);
		if (w->have > 4 && w->have == want) {
			if (open_token(w, want - 4, plain) == -1)
				return -1;
			w->have = 0;
		}
	}
	return 0;
}

static int
seal_piece(struct relay_gss *w, const char *data, size_t n, struct relay_buffer *sealed)
{
	gss_buffer_desc text = { n, (void *)(uintptr_t)data }, token;
	OM_uint32 minor, major;
	unsigned char length[4];
	int result, conceals;

	major = gss_wrap(&minor, w->context, w->conceals, GSS_C_QOP_DEFAULT, &text,
	    &conceals, &token);
	if (major != GSS_S_COMPLETE || (w->conceals && !conceals))
		return failed(w, "making a token", major, minor);
	for (int i = 0; i < 4; i++)
		length[i] = (unsigned char)(token.length >> (24 - 8 * i));
	result = relay_put(sealed, length, 4) == -1 ||
	    relay_put(sealed, token.value, token.length) == -1 ? -1 : 0;
	gss_release_buffer(&minor, &token);
	return result;
}

/* The answer to AUTH, up to its end, goes as it is. Returns how many bytes of data it was. */
static size_t
pass_answer(struct relay_gss *w, const char *data, size_t n, struct relay_buffer *sealed)
{
	size_t i = 0;

	while (i < n && w->output == RELAY_GSS_ANSWER) {
		if (w->line_at < sizeof(w->line))
			w->line[w->line_at++] = data[i];
		if (data[i++] == '\n')
			w->output = memcmp(w->line, "+OK", 3) == 0 ? RELAY_GSS_SEALED : RELAY_GSS_PLAIN;
	}
	return relay_put(sealed, data, i) == 0 ? i : n;
}

static int
relay_gss_seal(void *state, const char *data, size_t n, struct relay_buffer *sealed)
{
	struct relay_gss *w = state;
	size_t at = w->output == RELAY_GSS_ANSWER ? pass_answer(w, data, n, sealed) : 0;

	if (w->output == RELAY_GSS_PLAIN)
		return relay_put(sealed, data + at, n - at);
	while (at < n) {
		size_t some = n - at < w->piece ? n - at : w->piece;

		if (seal_piece(w, data + at, some, sealed) == -1)
			return -1;
		at += some;
	}
	return 0;
}

static int
relay_gss_finish(void *state, struct relay_buffer *sealed)
{
	(void)state, (void)sealed;
	return 0;
}

static bool
relay_gss_ready(void *state)
{
	(void)state;
	return true;
}

const struct relay_codec relay_gss_codec = { relay_gss_open, relay_gss_seal, relay_gss_finish, relay_gss_ready, NULL };
