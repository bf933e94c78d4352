/*
 * Wraps and unwraps the tokens of a security layer of GSSAPI. The length of a
 * token is sent before the token.
 *
 * Runs in the relay, as the pre-auth user in a jail, and in kpopc, as the
 * caller. The code of this file makes no system call. The peer is not trusted.
 * A token's size has a limit. Only whole tokens are unwrapped. A token that is
 * out of sequence, or a replay, ends the connection.
 *
 * Source: RFC 4422 §3.7, RFC 4752 §3.
 */
#include "config.h"

#include <sys/endian.h>

#include <string.h>

#include "relay-gss.h"

/* Records which step has failed, for the log. Returns -1. */
static int
fail_gss(struct relay_gss *w, const char *problem, OM_uint32 major,
    OM_uint32 minor)
{
	w->problem = problem;
	w->major = major;
	w->minor = minor;
	return -1;
}

size_t
relay_gss_text_size(gss_ctx_id_t context, unsigned layer, size_t token_size)
{
	OM_uint32 text_size, minor;
	size_t limit =
	    token_size > RELAY_GSS_TOKEN ? RELAY_GSS_TOKEN : token_size;

	if (GSS_ERROR(gss_wrap_size_limit(&minor, context,
		layer == RELAY_GSS_CONFIDENTIALITY, GSS_C_QOP_DEFAULT,
		(OM_uint32)limit, &text_size)) ||
	    text_size < RELAY_GSS_LEAST || text_size > limit)
		return 0;
	return text_size;
}

/* Unwraps the whole token of n bytes in w->in. Returns 0 or -1. */
static int
unwrap_token(struct relay_gss *w, size_t n, struct relay_buffer *cleartext)
{
	gss_buffer_desc token = { n, w->in + RELAY_GSS_LENGTH }, text;
	OM_uint32 minor, major;
	int is_confidential, result;

	major = gss_unwrap(&minor, w->context, &token, &text, &is_confidential,
	    NULL);
	if (GSS_ERROR(major))
		return fail_gss(w, "a token that cannot be unwrapped", major,
		    minor);
	/* Bits of major report a replay or a gap in the sequence. */
	if (major != GSS_S_COMPLETE)
		return fail_gss(w, "a token repeated or out of sequence", 0, 0);
	result = w->is_confidential && !is_confidential ?
	    fail_gss(w, "a token without confidentiality", 0, 0) :
	    relay_put(cleartext, text.value, text.length);
	gss_release_buffer(&minor, &text);
	return result;
}

/* Returns the size of the token whose length is at the beginning of w->in. */
static size_t
token_size(const struct relay_gss *w)
{
	return be32dec(w->in);
}

static int
relay_gss_unwrap(void *state, const char *data, size_t n,
    struct relay_buffer *cleartext, struct relay_buffer *wrapped)
{
	struct relay_gss *w = state;

	(void)wrapped;
	while (n > 0) {
		size_t want = w->have < RELAY_GSS_LENGTH ?
		    RELAY_GSS_LENGTH :
		    RELAY_GSS_LENGTH + token_size(w);
		size_t some = want - w->have < n ? want - w->have : n;

		memcpy(w->in + w->have, data, some);
		w->have += some;
		data += some;
		n -= some;
		if (w->have == RELAY_GSS_LENGTH &&
		    (token_size(w) == 0 || token_size(w) > RELAY_GSS_TOKEN))
			return fail_gss(w, "a token of 0 or of too many bytes",
			    0, 0);
		if (w->have > RELAY_GSS_LENGTH && w->have == want) {
			if (unwrap_token(w, want - RELAY_GSS_LENGTH,
				cleartext) == -1)
				return -1;
			w->have = 0;
		}
	}
	return 0;
}

/* Wraps n bytes into one token. Returns 0 or -1. */
static int
wrap_token(struct relay_gss *w, const char *data, size_t n,
    struct relay_buffer *wrapped)
{
	gss_buffer_desc text = { n, (void *)(uintptr_t)data }, token;
	OM_uint32 minor, major;
	unsigned char length[RELAY_GSS_LENGTH];
	int result, is_confidential;

	major = gss_wrap(&minor, w->context, w->is_confidential,
	    GSS_C_QOP_DEFAULT, &text, &is_confidential, &token);
	if (major != GSS_S_COMPLETE || (w->is_confidential && !is_confidential))
		return fail_gss(w, "wrapping a token", major, minor);
	be32enc(length, (uint32_t)token.length);
	result = relay_put(wrapped, length, sizeof(length)) == -1 ||
		relay_put(wrapped, token.value, token.length) == -1 ?
	    -1 :
	    0;
	gss_release_buffer(&minor, &token);
	return result;
}

/*
 * Sends the server's answer to AUTH in cleartext, up to the end of its line.
 * Stores in *at how many of the n bytes belong to the answer. Returns 0 or -1.
 */
static int
pass_answer(struct relay_gss *w, const char *data, size_t n,
    struct relay_buffer *wrapped, size_t *at)
{
	size_t i = 0;

	while (i < n && w->output == RELAY_GSS_ANSWER) {
		if (w->line_at < sizeof(w->line))
			w->line[w->line_at++] = data[i];
		if (data[i++] == '\n')
			w->output = memcmp(w->line, "+OK", 3) == 0 ?
			    RELAY_GSS_WRAPPED :
			    RELAY_GSS_CLEARTEXT;
	}
	*at = i;
	return relay_put(wrapped, data, i);
}

static int
relay_gss_wrap(void *state, const char *data, size_t n,
    struct relay_buffer *wrapped)
{
	struct relay_gss *w = state;
	size_t at = 0;

	if (w->output == RELAY_GSS_ANSWER &&
	    pass_answer(w, data, n, wrapped, &at) == -1)
		return -1;
	if (w->output == RELAY_GSS_CLEARTEXT)
		return relay_put(wrapped, data + at, n - at);
	while (at < n) {
		size_t some = n - at < w->text_size ? n - at : w->text_size;

		if (wrap_token(w, data + at, some, wrapped) == -1)
			return -1;
		at += some;
	}
	return 0;
}

/* A layer of GSSAPI has no token for the end. */
static int
relay_gss_finish(void *state, struct relay_buffer *wrapped)
{
	(void)state, (void)wrapped;
	return 0;
}

static bool
relay_gss_is_ready(void *state)
{
	(void)state;
	return true;
}

/*
 * A peer that takes only the smallest tokens gets up to 92 bytes for each
 * RELAY_GSS_LEAST bytes of text. So a piece of 40 KiB becomes 230 KiB.
 */
#define PIECE ((size_t)40 << 10)
_Static_assert(PIECE <= RELAY_PIECE, "relay.c reads no piece of this size");

const struct relay_codec relay_gss_codec = { .piece = PIECE,
	.unwrap = relay_gss_unwrap,
	.wrap = relay_gss_wrap,
	.finish = relay_gss_finish,
	.is_ready = relay_gss_is_ready };
