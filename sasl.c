/*
 * AUTH GSSAPI (RFC 4752, in POP3 by RFC 5034) and its security layers.
 *
 * Its first half runs in the pre-auth process, where the keys are. When a layer was agreed
 * upon, the context alone is given away to the second half, which runs in a
 * jailed process of its own that descends from the monitor: it never had a
 * key. The client's bytes are not trusted; the GSSAPI library is.
 *
 *	C: tokens of gss_init_sec_context    S: those of gss_accept_sec_context
 *	S: wrapped: one byte, the layers offered; three, the largest token
 *	   that we take
 *	C: wrapped: one byte, the layer chosen; three, the largest it takes;
 *	   the authorization identity
 */
#include "config.h"

#include <sys/socket.h>

#include <errno.h>
#include <gssapi/gssapi.h>
#include <gssapi/gssapi_ext.h>
#include <gssapi/gssapi_krb5.h>
#include <krb5.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "der.h"
#include "log.h"
#include "sasl.h"
#include "relay-gss.h"

#define BINDING_PREFIX "tls-server-end-point:" /* RFC 5929 §4 */
/* MIT Kerberos 1.18 does not report that the client's channel bindings matched. Then layers are offered all the same. */
#ifndef GSS_C_CHANNEL_BOUND_FLAG
#define GSS_C_CHANNEL_BOUND_FLAG 0
#endif

struct sasl {
	struct auth *auth;
	struct auth_peer screened; /* whom auth has found in the AP-REQ */
	gss_cred_id_t cred;
	gss_ctx_id_t context;
	gss_name_t client;
	enum { NEGOTIATE, OFFER, CHOICE, FINISHED } state;
	OM_uint32 flags;
	unsigned layer;
	size_t piece; /* bytes of text that make a token the client takes */
	gss_buffer_desc out;
	char authzid[SASL_AUTHZID];
	bool inside_tls;
	size_t binding_size;
	char binding[sizeof(BINDING_PREFIX) + 64];
};

/* Logs what failed, in the mechanism's words. */
static void
complain(int priority, const char *event, const char *what, OM_uint32 major, OM_uint32 minor)
{
	struct log_text t;
	char text[256] = "";
	OM_uint32 unused, more = 0;
	gss_buffer_desc words;
	/* The mechanism has no words for wrong channel bindings. */
	bool of_mechanism = minor != 0 && GSS_ROUTINE_ERROR(major) != GSS_S_BAD_BINDINGS;

	if (gss_display_status(&unused, of_mechanism ? minor : major,
		of_mechanism ? GSS_C_MECH_CODE : GSS_C_GSS_CODE,
		(gss_OID)gss_mech_krb5, &more, &words) == GSS_S_COMPLETE) {
		snprintf(text, sizeof(text), "%.*s", (int)words.length, (char *)words.value);
		gss_release_buffer(&unused, &words);
	}
	log_event(priority, event, "%s=\"%s\" error=\"%s\"",
	    strcmp(event, "refused") == 0 ? "reason" : "what", what, log_words(&t, text));
}

struct sasl *
sasl_open(struct auth *auth)
{
	struct sasl *s = calloc(1, sizeof(*s));
	gss_OID_set_desc krb5 = { 1, (gss_OID)gss_mech_krb5 };
	gss_key_value_element_desc keytab = { "keytab", AUTH_KEYS };
	gss_key_value_set_desc store = { 1, &keytab };
	OM_uint32 major, minor;

	if (s == NULL)
		fatal("calloc");
	s->auth = auth;
	major = gss_acquire_cred_from(&minor, GSS_C_NO_NAME, GSS_C_INDEFINITE,
	    &krb5, GSS_C_ACCEPT, &store, &s->cred, NULL, NULL);
	if (GSS_ERROR(major)) {
		complain(LOG_ERR, "failed", "opening the keys for GSSAPI", major, minor);
		free(s);
		return NULL;
	}
	return s;
}

void
sasl_inside_tls(struct sasl *s, const void *hash, size_t n)
{
	s->inside_tls = true;
	if (n == 0 || n > 64)
		return;
	memcpy(s->binding, BINDING_PREFIX, sizeof(BINDING_PREFIX) - 1);
	memcpy(s->binding + sizeof(BINDING_PREFIX) - 1, hash, n);
	s->binding_size = sizeof(BINDING_PREFIX) - 1 + n;
}

void
sasl_begin(struct sasl *s)
{
	OM_uint32 minor;

	gss_delete_sec_context(&minor, &s->context, GSS_C_NO_BUFFER);
	gss_release_name(&minor, &s->client);
	s->state = NEGOTIATE;
}

/* Hands out what the mechanism made. */
static enum sasl_result
more(struct sasl *s, const void **out, size_t *size)
{
	*out = s->out.value;
	*size = s->out.length;
	return SASL_MORE;
}

/*
 * Returns the layers that the client may choose from.
 *
 * Being inside TLS is no reason to offer less: somebody in the middle may have
 * begun TLS, and the client may know of none. Only a client that has bound the
 * channel knows that it shares this TLS with the server.
 *
 * A client that has not asked for the order of tokens to be kept, as it must
 * (RFC 4752 §3.1), gets no layer, because a token sent again would be opened
 * again.
 */
static unsigned
offered(const struct sasl *s)
{
	unsigned layers = RELAY_GSS_NONE;

	if ((s->flags & GSS_C_CHANNEL_BOUND_FLAG) != 0 || (s->flags & GSS_C_SEQUENCE_FLAG) == 0)
		return layers;
	if ((s->flags & GSS_C_INTEG_FLAG) != 0)
		layers |= RELAY_GSS_INTEGRITY;
	if ((s->flags & GSS_C_CONF_FLAG) != 0)
		layers |= RELAY_GSS_CONFIDENTIALITY;
	return layers;
}

static enum sasl_result
offer(struct sasl *s, const void **out, size_t *size)
{
	unsigned char text[4] = { (unsigned char)offered(s), 0, 0, 0 };
	gss_buffer_desc plain = { sizeof(text), text };
	OM_uint32 major, minor;

	if (text[0] != RELAY_GSS_NONE)
		text[1] = RELAY_GSS_TOKEN >> 16;
	major = gss_wrap(&minor, s->context, 0, GSS_C_QOP_DEFAULT, &plain, NULL, &s->out);
	if (GSS_ERROR(major)) {
		complain(LOG_NOTICE, "refused", "GSSAPI offer", major, minor);
		return SASL_FAILED;
	}
	s->state = CHOICE;
	return more(s, out, size);
}

static enum sasl_result refuse(const char *reason);

int
sasl_ap_req(const void *token, size_t n, const void **ap_req, size_t *size)
{
	/* The mechanism's object identifier, and the token's kind, whose second byte is the string's NUL. */
	static const unsigned char head[] = "\x06\x09\x2a\x86\x48\x86\xf7\x12\x01\x02\x02\x01";
	struct der all = { token, n }, in;

	if (!der_take(&all, 0x60, &in) || all.left > 0 ||
	    in.left <= sizeof(head) || memcmp(in.at, head, sizeof(head)) != 0)
		return -1;
	*ap_req = in.at + sizeof(head);
	*size = in.left - sizeof(head);
	return 0;
}

/*
 * Has the AP-REQ in a first token judged and remembered. Without mutual
 * authentication a recorded exchange is good as a whole, and GSSAPI's own
 * memory is as short as libkrb5's. Returns 0, or -1 (logged).
 */
static int
screen(struct sasl *s, gss_buffer_t token)
{
	const void *ap_req;
	size_t size;

	if (sasl_ap_req(token->value, token->length, &ap_req, &size) == 0)
		return auth_screen(s->auth, ap_req, size, &s->screened);
	refuse("not a first token of Kerberos");
	return -1;
}

static enum sasl_result
negotiate(struct sasl *s, gss_buffer_t token, const void **out, size_t *size)
{
	struct gss_channel_bindings_struct bindings = { .application_data = {
	    s->binding_size, s->binding } };
	OM_uint32 major, minor;

	if (s->context == GSS_C_NO_CONTEXT && screen(s, token) == -1)
		return SASL_FAILED;
	major = gss_accept_sec_context(&minor, &s->context, s->cred, token,
	    s->binding_size > 0 ? &bindings : GSS_C_NO_CHANNEL_BINDINGS,
	    &s->client, NULL, &s->out, &s->flags, NULL, NULL);
	if (GSS_ERROR(major)) {
		complain(LOG_NOTICE, "refused", "GSSAPI", major, minor);
		return SASL_FAILED;
	}
	if ((major & GSS_S_CONTINUE_NEEDED) != 0)
		return more(s, out, size);
	/* The client without mutual authentication awaits no token of ours. */
	if (s->out.length == 0)
		return offer(s, out, size);
	s->state = OFFER;
	return more(s, out, size);
}

static enum sasl_result
refuse(const char *reason)
{
	log_event(LOG_NOTICE, "refused", "reason=\"GSSAPI: %s\"", reason);
	return SASL_FAILED;
}

/* The client's choice: text of n bytes. */
static enum sasl_result
read_choice(struct sasl *s, const unsigned char *text, size_t n)
{
	if (n < 4 || n - 4 >= sizeof(s->authzid))
		return refuse("a choice of the wrong size");
	s->layer = text[0];
	if ((s->layer != RELAY_GSS_NONE && s->layer != RELAY_GSS_INTEGRITY && s->layer != RELAY_GSS_CONFIDENTIALITY) ||
	    (s->layer & offered(s)) == 0)
		return refuse("a layer that was not offered");
	if (memchr(text + 4, '\0', n - 4) != NULL)
		return refuse("an authorization identity with a NUL");
	memcpy(s->authzid, text + 4, n - 4);
	s->authzid[n - 4] = '\0';
	s->state = FINISHED;
	if (s->layer == RELAY_GSS_NONE)
		return SASL_DONE;
	s->piece = relay_gss_piece(s->context, s->layer,
	    (size_t)text[1] << 16 | (size_t)text[2] << 8 | text[3]);
	return s->piece > 0 ? SASL_DONE : refuse("tokens too small for the layer");
}

static enum sasl_result
choose(struct sasl *s, gss_buffer_t token)
{
	gss_buffer_desc text;
	OM_uint32 minor, major = gss_unwrap(&minor, s->context, token, &text, NULL, NULL);
	enum sasl_result result;

	if (major != GSS_S_COMPLETE) {
		complain(LOG_NOTICE, "refused", "GSSAPI choice", major, minor);
		return SASL_FAILED;
	}
	result = read_choice(s, text.value, text.length);
	gss_release_buffer(&minor, &text);
	return result;
}

enum sasl_result
sasl_step(struct sasl *s, const void *token, size_t n, const void **out, size_t *size)
{
	gss_buffer_desc in = { n, (void *)(uintptr_t)token };
	OM_uint32 minor;

	gss_release_buffer(&minor, &s->out);
	switch (s->state) {
	case NEGOTIATE:
		return negotiate(s, &in, out, size);
	case OFFER:
		return n == 0 ? offer(s, out, size) : refuse("a token too many");
	case CHOICE:
		return choose(s, &in);
	default:
		return SASL_FAILED;
	}
}

/* A name's text form into to[AUTH_NAME]. Returns 0 or -1. */
static int
name_of(gss_name_t name, char *to)
{
	gss_buffer_desc text;
	OM_uint32 minor;
	bool fits;

	if (name == GSS_C_NO_NAME || GSS_ERROR(gss_display_name(&minor, name, &text, NULL)))
		return -1;
	fits = text.length < AUTH_NAME && memchr(text.value, '\0', text.length) == NULL;
	if (fits) {
		memcpy(to, text.value, text.length);
		to[text.length] = '\0';
	}
	gss_release_buffer(&minor, &text);
	return fits ? 0 : -1;
}

/* Returns what protects the connection, for the log. */
static const char *
name_layer(const struct sasl *s)
{
	switch (s->layer) {
	case RELAY_GSS_CONFIDENTIALITY:
		return s->inside_tls ? "tls+confidentiality" : "confidentiality";
	case RELAY_GSS_INTEGRITY:
		return s->inside_tls ? "tls+integrity" : "integrity";
	default:
		return s->inside_tls ? "tls" : "none";
	}
}

int
sasl_peer(struct sasl *s, struct auth_peer *peer, char authzid[SASL_AUTHZID])
{
	char name[AUTH_NAME];

	/* What auth has found in the AP-REQ, the bytes that GSSAPI has judged after it. */
	*peer = s->screened;
	peer->mutual = (s->flags & GSS_C_MUTUAL_FLAG) != 0 ? 1 : 0;
	strlcpy(peer->layer, name_layer(s), sizeof(peer->layer));
	memcpy(authzid, s->authzid, SASL_AUTHZID);
	if (name_of(s->client, name) == 0 && strcmp(name, peer->principal) == 0 &&
	    /* Somebody without a name is nobody. */
	    (s->flags & GSS_C_ANON_FLAG) == 0)
		return 0;
	refuse("no name");
	return -1;
}

bool
sasl_has_layer(const struct sasl *s)
{
	return s->layer != RELAY_GSS_NONE;
}

/* What goes from the pre-auth process to the relay: this, the unread bytes, the context. */
struct handover {
	uint32_t layer, piece;
	uint32_t unread_size;
	char data[RELAY_GSS_TOKEN + RELAY_GSS_TOKEN]; /* a context with what a ticket brings */
};

int
sasl_hand_over(struct sasl *s, int handoff, const void *unread, size_t n)
{
	static struct handover h;
	gss_buffer_desc token;
	OM_uint32 minor, major = gss_export_sec_context(&minor, &s->context, &token);
	size_t size = offsetof(struct handover, data) + n;
	int room = 2 * (int)sizeof(h);

	if (GSS_ERROR(major) || token.length > sizeof(h.data) - n) {
		complain(LOG_ERR, "failed", "giving the layer away", major, minor);
		return -1;
	}
	h.layer = s->layer;
	h.piece = (uint32_t)s->piece;
	h.unread_size = (uint32_t)n;
	memcpy(h.data, unread, n);
	memcpy(h.data + n, token.value, token.length);
	size += token.length;
	setsockopt(handoff, SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
	if (send(handoff, &h, size, MSG_NOSIGNAL) == (ssize_t)size)
		return 0;
	log_event(LOG_ERR, "failed", "what=\"giving the layer away\" error=\"%s\"",
	    strerror(errno));
	return -1;
}

int
sasl_relay(int client, int plain, int handoff)
{
	static struct handover h;
	static struct relay_gss w;
	const size_t head = offsetof(struct handover, data);
	ssize_t n = recv(handoff, &h, sizeof(h), 0);
	gss_buffer_desc token;
	OM_uint32 major, minor;

	/* Nothing: the pre-auth process ended before it could. */
	if (n <= 0)
		return -1;
	if ((size_t)n < head || h.unread_size > (size_t)n - head ||
	    h.piece < RELAY_GSS_LEAST || h.piece > RELAY_GSS_TOKEN) {
		log_event(LOG_ALERT, "fatal", "error=\"the pre-auth process's handover is not one\"");
		return -1;
	}
	token.value = h.data + h.unread_size;
	token.length = (size_t)n - head - h.unread_size;
	major = gss_import_sec_context(&minor, &token, &w.context);
	if (GSS_ERROR(major)) {
		complain(LOG_ERR, "failed", "taking the layer over", major, minor);
		return -1;
	}
	w.conceals = h.layer == RELAY_GSS_CONFIDENTIALITY;
	w.piece = h.piece;
	w.output = RELAY_GSS_ANSWER;
	if (pump(client, plain, plain, RELAY_SERVER, &relay_gss_codec, &w,
		h.data, h.unread_size) == 0)
		return 0;
	if (w.problem != NULL)
		complain(LOG_NOTICE, "failed", w.problem, w.major, w.minor);
	return -1;
}
