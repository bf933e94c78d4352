/*
 * Does the exchange of AUTH GSSAPI (RFC 4752, in POP3 by RFC 5034) until the
 * login.
 *
 * Runs in the pre-auth process, which has the service's keys: as root in
 * sasl_open, then as the pre-auth user in its jail. The client's bytes are not
 * trusted; the GSSAPI library is trusted. If a security layer was negotiated,
 * the relay (relay-sasl.c) gets the GSSAPI context, but no key of the service.
 *
 *	C: tokens of gss_init_sec_context    S: those of gss_accept_sec_context
 *	S: wrapped: the layers offered (one byte), and the size of the largest
 *	   token that the server accepts (three bytes)
 *	C: wrapped: the layer chosen (one byte), the size of the largest token
 *	   that the client accepts (three bytes), and the authorization identity
 */
#include "config.h"

#include <sys/socket.h>

#include <gssapi/gssapi.h>
#include <gssapi/gssapi_ext.h>
#include <gssapi/gssapi_krb5.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "auth-keytab.h"
#include "der.h"
#include "log.h"
#include "relay-gss.h"
#include "sasl.h"
#include "sasl-handover.h"
#include "sasl-status.h"

#define CHOICE_HEAD 4  /* bytes of an offer, and of a choice without authzid */
#define TAG_TOKEN 0x60 /* tag of a first token (RFC 2743 §3.1) */
#define BINDING_PREFIX "tls-server-end-point:" /* RFC 5929 §4 */
/*
 * MIT Kerberos 1.18 does not report that the client's channel bindings matched.
 * With that version, layers are offered even if they matched.
 */
#ifndef GSS_C_CHANNEL_BOUND_FLAG
#define GSS_C_CHANNEL_BOUND_FLAG 0
#endif

struct sasl {
	struct auth *auth;
	/* the client, as auth_screen has verified it */
	struct auth_peer screened;
	gss_cred_id_t cred;
	gss_ctx_id_t context;
	gss_name_t client;
	enum { NEGOTIATE, OFFER, CHOICE, FINISHED } state; /* the next step */
	OM_uint32 flags;
	unsigned layer;
	size_t text_size; /* bytes of text in a token that the client accepts */
	gss_buffer_desc out;
	char authzid[SASL_AUTHZID];
	bool inside_tls;
	size_t binding_size;
	char binding[sizeof(BINDING_PREFIX) + SASL_HASH];
};

/* Logs that a step of GSSAPI failed for a reason in the server. */
static void
log_failed_step(const char *step, OM_uint32 major, OM_uint32 minor)
{
	struct log_text t;

	log_failed_at(LOG_ERR, sasl_status(&t, major, minor), "%s", step);
}

/* Logs GSSAPI's error, and that the client is refused. Returns SASL_FAILED. */
static enum sasl_result
refuse_by_gss(const char *reason, OM_uint32 major, OM_uint32 minor)
{
	struct log_text t;

	log_event(LOG_NOTICE, "refused", "reason=\"%s\" error=\"%s\"", reason,
	    sasl_status(&t, major, minor));
	return SASL_FAILED;
}

/* Logs that the client is refused. Returns SASL_FAILED. */
static enum sasl_result
refuse_sasl(const char *reason)
{
	log_event(LOG_NOTICE, "refused", "reason=\"GSSAPI: %s\"", reason);
	return SASL_FAILED;
}

struct sasl *
sasl_open(struct auth *auth)
{
	struct sasl *s = calloc(1, sizeof(*s));
	gss_OID_set_desc krb5 = { 1, (gss_OID)gss_mech_krb5 };
	gss_key_value_element_desc keytab = { "keytab", KEYTAB_IN_MEMORY };
	gss_key_value_set_desc store = { 1, &keytab };
	OM_uint32 major, minor;

	if (s == NULL)
		fatal("calloc");
	s->auth = auth;
	major = gss_acquire_cred_from(&minor, GSS_C_NO_NAME, GSS_C_INDEFINITE,
	    &krb5, GSS_C_ACCEPT, &store, &s->cred, NULL, NULL);
	if (GSS_ERROR(major)) {
		log_failed_step("acquiring GSSAPI credentials from the keytab",
		    major, minor);
		free(s);
		return NULL;
	}
	return s;
}

void
sasl_enter_tls(struct sasl *s, const void *hash, size_t n)
{
	s->inside_tls = true;
	if (n == 0 || n > SASL_HASH)
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

/*
 * Sets *out and *size to the token in s->out, which GSSAPI has made. Returns
 * SASL_MORE.
 */
static enum sasl_result
send_token(struct sasl *s, const void **out, size_t *size)
{
	*out = s->out.value;
	*size = s->out.length;
	return SASL_MORE;
}

/*
 * Returns the layers that the client may choose from, as RELAY_GSS_ flags.
 *
 * A layer is offered even inside TLS, because the other end of TLS may be an
 * attacker between client and server. Only matching channel bindings prove that
 * the client is the other end. In this case no layer is needed.
 *
 * RFC 4752 §3.1 demands that the client ask for sequencing. A client that has
 * not asked for sequencing gets no layer, because GSSAPI would unwrap a
 * replayed token a second time.
 */
static unsigned
find_layers(const struct sasl *s)
{
	unsigned layers = RELAY_GSS_NONE;

	if ((s->flags & GSS_C_CHANNEL_BOUND_FLAG) != 0 ||
	    (s->flags & GSS_C_SEQUENCE_FLAG) == 0)
		return layers;
	if ((s->flags & GSS_C_INTEG_FLAG) != 0)
		layers |= RELAY_GSS_INTEGRITY;
	if ((s->flags & GSS_C_CONF_FLAG) != 0)
		layers |= RELAY_GSS_CONFIDENTIALITY;
	return layers;
}

/*
 * Makes the offer of layers and stores it in *out and *size. Returns SASL_MORE
 * or SASL_FAILED.
 */
static enum sasl_result
make_offer(struct sasl *s, const void **out, size_t *size)
{
	unsigned char bytes[CHOICE_HEAD] = { (unsigned char)find_layers(s) };
	gss_buffer_desc text = { sizeof(bytes), bytes };
	OM_uint32 major, minor;

	if (bytes[0] != RELAY_GSS_NONE)
		bytes[1] = RELAY_GSS_TOKEN >> 16;
	major = gss_wrap(&minor, s->context, 0, GSS_C_QOP_DEFAULT, &text, NULL,
	    &s->out);
	if (GSS_ERROR(major))
		return refuse_by_gss("GSSAPI: cannot wrap the offer of layers",
		    major, minor);
	s->state = CHOICE;
	return send_token(s, out, size);
}

int
sasl_ap_req(const void *token, size_t n, const void **ap_req, size_t *size)
{
	/*
	 * The mechanism's object identifier, then the token's type, 01 00. The
	 * NUL that ends the string is the last byte.
	 */
	static const unsigned char head[] =
	    "\x06\x09\x2a\x86\x48\x86\xf7\x12\x01\x02\x02\x01";
	struct der all = { token, n }, in;

	if (!der_take(&all, TAG_TOKEN, &in) || all.left > 0 ||
	    in.left <= sizeof(head) || memcmp(in.at, head, sizeof(head)) != 0)
		return -1;
	*ap_req = in.at + sizeof(head);
	*size = in.left - sizeof(head);
	return 0;
}

/*
 * Calls auth_screen, which verifies and records the AP-REQ in a first token.
 * Returns 0, or -1 (logged). GSSAPI itself would use the replay cache of
 * libkrb5, which discards an authenticator too early (replay-cache.c). Without
 * mutual authentication, an attacker could then replay a whole exchange.
 */
static int
screen_token(struct sasl *s, gss_buffer_t token)
{
	const void *ap_req;
	size_t size;

	if (sasl_ap_req(token->value, token->length, &ap_req, &size) == 0)
		return auth_screen(s->auth, ap_req, size, &s->screened);
	refuse_sasl("not a first token of Kerberos");
	return -1;
}

/*
 * Passes a token to the mechanism. Returns SASL_MORE with the mechanism's next
 * token or the offer of layers, or SASL_FAILED.
 */
static enum sasl_result
accept_token(struct sasl *s, gss_buffer_t token, const void **out, size_t *size)
{
	struct gss_channel_bindings_struct bindings = {
		.application_data = { s->binding_size, s->binding }
	};
	OM_uint32 major, minor;

	if (s->context == GSS_C_NO_CONTEXT && screen_token(s, token) == -1)
		return SASL_FAILED;
	major = gss_accept_sec_context(&minor, &s->context, s->cred, token,
	    s->binding_size > 0 ? &bindings : GSS_C_NO_CHANNEL_BINDINGS,
	    &s->client, NULL, &s->out, &s->flags, NULL, NULL);
	if (GSS_ERROR(major))
		return refuse_by_gss("GSSAPI", major, minor);
	if ((major & GSS_S_CONTINUE_NEEDED) != 0)
		return send_token(s, out, size);
	/* Without mutual authentication the mechanism has no token to send. */
	if (s->out.length == 0)
		return make_offer(s, out, size);
	s->state = OFFER;
	return send_token(s, out, size);
}

/* Returns true if the layer is one that was offered to the client. */
static bool
is_offered(const struct sasl *s, unsigned layer)
{
	return (layer == RELAY_GSS_NONE || layer == RELAY_GSS_INTEGRITY ||
		   layer == RELAY_GSS_CONFIDENTIALITY) &&
	    (layer & find_layers(s)) != 0;
}

/*
 * Reads the client's choice, text of n bytes. Returns SASL_DONE or
 * SASL_FAILED.
 */
static enum sasl_result
read_choice(struct sasl *s, const unsigned char *text, size_t n)
{
	if (n < CHOICE_HEAD || n - CHOICE_HEAD >= sizeof(s->authzid))
		return refuse_sasl("the choice of a layer has a wrong size");
	s->layer = text[0];
	if (!is_offered(s, s->layer))
		return refuse_sasl("a layer that was not offered");
	if (memchr(text + CHOICE_HEAD, '\0', n - CHOICE_HEAD) != NULL)
		return refuse_sasl("an authorization identity with a NUL");
	memcpy(s->authzid, text + CHOICE_HEAD, n - CHOICE_HEAD);
	s->authzid[n - CHOICE_HEAD] = '\0';
	s->state = FINISHED;
	if (s->layer == RELAY_GSS_NONE)
		return SASL_DONE;
	s->text_size = relay_gss_text_size(s->context, s->layer,
	    (size_t)text[1] << 16 | (size_t)text[2] << 8 | text[3]);
	return s->text_size > 0 ?
	    SASL_DONE :
	    refuse_sasl("the client accepts only tokens too small for a layer");
}

/* Unwraps and reads the client's choice. Returns SASL_DONE or SASL_FAILED. */
static enum sasl_result
accept_choice(struct sasl *s, gss_buffer_t token)
{
	gss_buffer_desc text;
	OM_uint32 minor,
	    major = gss_unwrap(&minor, s->context, token, &text, NULL, NULL);
	enum sasl_result result;

	if (major != GSS_S_COMPLETE)
		return refuse_by_gss(
		    "GSSAPI: cannot unwrap the choice of a layer", major,
		    minor);
	result = read_choice(s, text.value, text.length);
	gss_release_buffer(&minor, &text);
	return result;
}

enum sasl_result
sasl_step(struct sasl *s, const void *token, size_t n, const void **out,
    size_t *size)
{
	gss_buffer_desc in = { n, (void *)(uintptr_t)token };
	OM_uint32 minor;

	gss_release_buffer(&minor, &s->out);
	switch (s->state) {
	case NEGOTIATE:
		return accept_token(s, &in, out, size);
	case OFFER:
		return n == 0 ?
		    make_offer(s, out, size) :
		    refuse_sasl("a token in place of the empty line before "
				"the offer of layers");
	case CHOICE:
		return accept_choice(s, &in);
	default:
		return SASL_FAILED;
	}
}

/* Writes the text form of a name to to[AUTH_NAME]. Returns 0 or -1. */
static int
display_name(gss_name_t name, char *to)
{
	gss_buffer_desc text;
	OM_uint32 minor;
	bool fits;

	if (name == GSS_C_NO_NAME ||
	    GSS_ERROR(gss_display_name(&minor, name, &text, NULL)))
		return -1;
	fits = text.length < AUTH_NAME &&
	    memchr(text.value, '\0', text.length) == NULL;
	if (fits) {
		memcpy(to, text.value, text.length);
		to[text.length] = '\0';
	}
	gss_release_buffer(&minor, &text);
	return fits ? 0 : -1;
}

/* Returns the name of the connection's protection, for the log. */
static const char *
name_layer(const struct sasl *s)
{
	switch (s->layer) {
	case RELAY_GSS_CONFIDENTIALITY:
		return s->inside_tls ? "tls+confidentiality" :
				       "confidentiality";
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

	/*
	 * Take what auth_screen has found in the AP-REQ. GSSAPI has accepted
	 * the same bytes later.
	 */
	*peer = s->screened;
	peer->mutual = (s->flags & GSS_C_MUTUAL_FLAG) != 0 ? 1 : 0;
	strlcpy(peer->layer, name_layer(s), sizeof(peer->layer));
	memcpy(authzid, s->authzid, SASL_AUTHZID);
	if (display_name(s->client, name) == 0 &&
	    strcmp(name, peer->principal) == 0 &&
	    (s->flags & GSS_C_ANON_FLAG) == 0)
		return 0;
	refuse_sasl("the client has no name, or not the ticket's");
	return -1;
}

bool
sasl_has_layer(const struct sasl *s)
{
	return s->layer != RELAY_GSS_NONE;
}

int
sasl_hand_over(struct sasl *s, int handoff, const void *unread, size_t n)
{
	static const char step[] = "handing the security layer to the relay";
	static struct sasl_handover h;
	gss_buffer_desc token;
	OM_uint32 minor,
	    major = gss_export_sec_context(&minor, &s->context, &token);
	size_t size = offsetof(struct sasl_handover, data) + n;
	int room = 2 * (int)sizeof(h);

	if (GSS_ERROR(major) || token.length > sizeof(h.data) - n) {
		log_failed_step(step, major, minor);
		return -1;
	}
	h.layer = s->layer;
	h.text_size = (uint32_t)s->text_size;
	h.unread_size = (uint32_t)n;
	memcpy(h.data, unread, n);
	memcpy(h.data + n, token.value, token.length);
	size += token.length;
	setsockopt(handoff, SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
	if (send(handoff, &h, size, MSG_NOSIGNAL) == (ssize_t)size)
		return 0;
	log_failed("%s", step);
	return -1;
}
