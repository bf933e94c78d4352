/*
 * Logs in with AUTH GSSAPI, and starts a process for the security layer.
 *
 * Runs as the caller. run_gss_layer runs in a process between the connection
 * and the rest of kpopc. The server is trusted only after GSSAPI has verified
 * the proof of the server's identity. After that the offer of layers is
 * trusted, because GSSAPI protects it. All bytes before the proof, and the
 * answer to AUTH, may come from an attacker.
 */
#include "config.h"

#include <err.h>
#include <gssapi/gssapi.h>
#include <gssapi/gssapi_ext.h>
#include <gssapi/gssapi_krb5.h>
#include <resolv.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kpopc.h"
#include "relay-gss.h"

#define BINDING_PREFIX "tls-server-end-point:" /* RFC 5929 §4 */

_Noreturn static void
give_up_gss(const char *what, OM_uint32 major, OM_uint32 minor)
{
	OM_uint32 unused, more = 0;
	gss_buffer_desc text = { 0, NULL };

	gss_display_status(&unused, minor != 0 ? minor : major,
	    minor != 0 ? GSS_C_MECH_CODE : GSS_C_GSS_CODE,
	    (gss_OID)gss_mech_krb5, &more, &text);
	errx(EXIT_REFUSED, "%s: %s", what,
	    text.length > 0 ? answer_printable(text.value, text.length) :
			      "unknown error");
}

/* The state of AUTH GSSAPI. */
struct dialogue {
	gss_ctx_id_t context;
	gss_cred_id_t cred;
	gss_name_t service;
	unsigned layer;
	size_t piece; /* bytes of cleartext in one token */
	unsigned char token[RELAY_GSS_TOKEN]; /* the server's last token */
	int n;                                /* bytes of that token */
};

static void
prepare_dialogue(struct dialogue *d, const struct options *o)
{
	gss_key_value_element_desc ccache = { "ccache", o->cache };
	gss_key_value_set_desc store = { 1, &ccache };
	char name[TEXT_MAX];
	gss_buffer_desc text = { 0, name };
	OM_uint32 major, minor;

	snprintf(name, sizeof(name), o->service != NULL ? "%s" : "pop@%s",
	    o->service != NULL ? o->service : o->host);
	text.length = strlen(name);
	major = gss_import_name(&minor, &text,
	    o->service != NULL ? (gss_OID)GSS_KRB5_NT_PRINCIPAL_NAME :
				 GSS_C_NT_HOSTBASED_SERVICE,
	    &d->service);
	if (GSS_ERROR(major))
		give_up_gss("the service's name", major, minor);
	major = gss_acquire_cred_from(&minor, GSS_C_NO_NAME, GSS_C_INDEFINITE,
	    GSS_C_NO_OID_SET, GSS_C_INITIATE, &store, &d->cred, NULL, NULL);
	if (GSS_ERROR(major))
		give_up_gss("no tickets", major, minor);
}

/*
 * Sends a token of n bytes, and reads the server's next token into d. Returns
 * NULL. If the server's answer is not a token, returns the answer.
 */
static const char *
trade(const struct conn *c, struct dialogue *d, const void *token, size_t n)
{
	/*
	 * Do not limit the token, which contains the ticket. The server decides
	 * whether it is too large.
	 */
	const size_t size = 4 * ((n + 2) / 3) + 1;
	char *text = malloc(size);
	const char *answer;

	if (text == NULL || b64_ntop(token, n, text, size) == -1)
		errx(EXIT_REFUSED, "a token is too large");
	answer = conn_ask(c, text);
	free(text);
	if (answer[0] != '+' || answer[1] != ' ')
		return answer;
	d->n = b64_pton(answer + 2, d->token, sizeof(d->token));
	if (d->n == -1)
		errx(EXIT_REFUSED, "the server's token is not base64");
	return NULL;
}

/*
 * Exchanges the tokens that establish the GSSAPI context. Returns NULL after
 * the server has proven its identity and sent its offer of layers. If an answer
 * is not a token, returns that answer. It may be a refusal, or an "+OK" of an
 * attacker.
 */
static const char *
establish_context(const struct conn *c, struct dialogue *d)
{
	char binding[sizeof(BINDING_PREFIX) + sizeof(c->binding)];
	struct gss_channel_bindings_struct bindings = {
		.application_data = { sizeof(BINDING_PREFIX) - 1 +
			c->binding_size,
		    binding }
	};
	OM_uint32 major, minor, flags = 0;
	const char *refusal;

	memcpy(binding, BINDING_PREFIX, sizeof(BINDING_PREFIX) - 1);
	memcpy(binding + sizeof(BINDING_PREFIX) - 1, c->binding,
	    c->binding_size);
	d->n = 0;
	do {
		gss_buffer_desc in = { (size_t)d->n, d->token }, out;

		major = gss_init_sec_context(&minor, d->cred, &d->context,
		    d->service, (gss_OID)gss_mech_krb5,
		    GSS_C_MUTUAL_FLAG | GSS_C_INTEG_FLAG | GSS_C_CONF_FLAG |
			GSS_C_SEQUENCE_FLAG | GSS_C_REPLAY_FLAG,
		    0,
		    c->binding_size > 0 ? &bindings : GSS_C_NO_CHANNEL_BINDINGS,
		    &in, NULL, &out, &flags, NULL);
		if (GSS_ERROR(major))
			give_up_gss("no ticket for the server", major, minor);
		if ((refusal = trade(c, d, out.value, out.length)) != NULL)
			return refusal;
		gss_release_buffer(&minor, &out);
	} while ((major & GSS_S_CONTINUE_NEEDED) != 0);
	if ((flags & GSS_C_MUTUAL_FLAG) == 0)
		errx(EXIT_REFUSED, "the server did not prove its identity");
	return NULL;
}

/*
 * Returns the layer to use, one of those that the server offers. Inside TLS no
 * layer is needed, because the server's certificate was verified. Outside TLS,
 * RELAY_GSS_NONE is chosen only if the options permit cleartext. Ends the
 * process if none of the offered layers can be used.
 */
static unsigned
pick_layer(const struct conn *c, const struct options *o, unsigned offered)
{
	if (c->has_tls && (offered & RELAY_GSS_NONE) != 0)
		return RELAY_GSS_NONE;
	if ((offered & RELAY_GSS_CONFIDENTIALITY) != 0)
		return RELAY_GSS_CONFIDENTIALITY;
	if ((offered & RELAY_GSS_INTEGRITY) != 0)
		return RELAY_GSS_INTEGRITY;
	if ((offered & RELAY_GSS_NONE) == 0)
		errx(EXIT_REFUSED,
		    "the server offers no layer that kpopc supports");
	if (!o->cleartext)
		errx(EXIT_REFUSED,
		    "the server offers no security layer (use "
		    "--tls, or --cleartext)");
	return RELAY_GSS_NONE;
}

/*
 * Sends the choice of a layer and the user's name. Returns the answer to AUTH.
 */
static const char *
send_choice(const struct conn *c, const struct options *o, struct dialogue *d,
    const char *user)
{
	gss_buffer_desc token = { (size_t)d->n, d->token }, text, out;
	unsigned char choice[4 + LINE_USER] = { 0 };
	const unsigned char *offer;
	OM_uint32 minor,
	    major = gss_unwrap(&minor, d->context, &token, &text, NULL, NULL);
	const char *answer;
	size_t n;

	if (major != GSS_S_COMPLETE || text.length != 4)
		give_up_gss("the server's offer of layers", major, minor);
	offer = text.value;
	d->layer = pick_layer(c, o, offer[0]);
	d->piece = relay_gss_text_size(d->context, d->layer,
	    (size_t)offer[1] << 16 | (size_t)offer[2] << 8 | offer[3]);
	if (d->layer != RELAY_GSS_NONE && d->piece == 0)
		errx(EXIT_REFUSED, "the server's tokens are too small");
	choice[0] = (unsigned char)d->layer;
	choice[1] = d->layer != RELAY_GSS_NONE ? RELAY_GSS_TOKEN >> 16 : 0;
	n = strlen(user);
	memcpy(choice + 4, user, n);
	text = (gss_buffer_desc){ 4 + n, choice };
	major = gss_wrap(&minor, d->context, 0, GSS_C_QOP_DEFAULT, &text, NULL,
	    &out);
	if (GSS_ERROR(major))
		give_up_gss("the choice of a layer", major, minor);
	answer = trade(c, d, out.value, out.length);
	if (answer == NULL)
		errx(EXIT_REFUSED, "the server does not end AUTH");
	return answer;
}

/* Runs the security layer, in the process between fd and cleartext. */
static void
run_gss_layer(const void *argument, int fd, int cleartext)
{
	static struct relay_gss w = { .output = RELAY_GSS_WRAPPED };
	const struct dialogue *d = argument;

	w.context = d->context;
	w.is_confidential = d->layer == RELAY_GSS_CONFIDENTIALITY;
	w.text_size = d->piece;
	if (relay_run(fd, cleartext, cleartext, RELAY_CLIENT, &relay_gss_codec,
		&w, NULL, 0) == -1)
		errx(EXIT_BROKEN, "the security layer: %s",
		    w.problem != NULL ? w.problem : "the connection broke");
	if (w.have > 0)
		errx(EXIT_BROKEN,
		    "the security layer: the connection ended within a token");
	_exit(EXIT_DONE);
}

const char *
auth_login(struct conn *c, const struct options *o, const char *user)
{
	static struct dialogue d;
	const char *answer;
	bool finished = false;

	memset(&d, 0, sizeof(d));
	prepare_dialogue(&d, o);
	answer = conn_ask(c, "AUTH GSSAPI");
	if (strcmp(answer, "+ ") == 0 || strcmp(answer, "+") == 0) {
		answer = establish_context(c, &d);
		finished = answer == NULL;
		if (finished)
			answer = send_choice(c, o, &d, user);
	}
	/*
	 * Accept "+OK" only after the server's proof. Otherwise an attacker
	 * could send "+OK" and so avoid the proof and the layer.
	 */
	if (!answer_is_refusal(answer) && !(finished && answer_is_good(answer)))
		errx(EXIT_REFUSED, "the server ended AUTH %s: %s",
		    finished ? "without an answer" :
			       "before it had proven its identity",
		    answer_printable(answer, TEXT_MAX));
	progress->is_over = true;
	conn_answer_program(answer_printable(answer, TEXT_MAX));
	if (!finished)
		answer_give_up(answer);
	if (answer_is_good(answer) && d.layer != RELAY_GSS_NONE)
		conn_add_layer(c, &d, run_gss_layer);
	return answer;
}
