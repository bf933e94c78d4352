/*
 * Fuzz target: sasl.c with any tokens, and then the layer (relay-gss.c).
 *
 * Input: one byte that selects the kind of the input, followed by
 *
 * 	RAW        tokens, each after its size in two bytes
 * 	ENCRYPTED  the cleartext of an authenticator, for a first token
 * 	GENUINE    a dialogue with a genuine client in this process. First
 * 	           come the client's requests (1 byte), the number of the token
 * 	           to alter (1), the offset of the altered byte (2), and the
 * 	           bits to flip (1). Then come whether the client's choice is
 * 	           encrypted (1), the size of the choice (2), and the choice in
 * 	           cleartext. The rest is the client's tokens in the layer.
 * 	           Each of these consists of its kind (1), its size (1) and its
 * 	           text.
 *
 * The target checks that an accepted client is the principal in the ticket, and
 * that the ticket is for the service. A client that breaks no rule must be
 * accepted with the layer and the authzid that it has chosen. Every other
 * client must be refused. The session must get the bytes that the client has
 * wrapped, in order and once, up to the first wrong byte. The client must get
 * the session's answers.
 */
#include "config.h"

#include <sys/endian.h>
#include <sys/socket.h>

#include <gssapi/gssapi.h>
#include <gssapi/gssapi_krb5.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fuzz/fuzz.h"
#include "fuzz/ticket.h"
#include "sasl.h"
#include "sasl-handover.h"
#include "relay-gss.h"

enum { RAW, ENCRYPTED, GENUINE, KINDS };
enum { INSIDE_TLS = 4 }; /* a bit of the first input byte */
enum {
	MUTUAL = 1,
	INTEGRITY = 2,
	SECRECY = 4,
	SEQUENCE = 8,
	BINDING = 16,
	OTHER_BINDING = 32
}; /* bits of struct client's requests */

#define STEPS 8 /* most tokens of a dialogue */

/* servers[0] is outside TLS, and servers[1] is inside TLS. */
static struct sasl *servers[2];
static gss_name_t service;

/* Makes the realm and two servers. Only the first call does this. */
static void
start(void)
{
	gss_buffer_desc name = { sizeof(TICKET_SERVICE) - 1,
		(void *)(uintptr_t)TICKET_SERVICE };
	OM_uint32 minor;

	struct auth *auth = ticket_realm();

	ticket_cache();
	HOLDS((servers[0] = sasl_open(auth)) != NULL &&
	    (servers[1] = sasl_open(auth)) != NULL);
	sasl_enter_tls(servers[1], "hash", 4);
	HOLDS(!GSS_ERROR(gss_import_name(&minor, &name,
	    (gss_OID)GSS_KRB5_NT_PRINCIPAL_NAME, &service)));
}

/*
 * Frees the memory of the last export. The pre-auth process never frees it,
 * because that process ends soon.
 */
OM_uint32 __real_gss_export_sec_context(OM_uint32 *, gss_ctx_id_t *,
    gss_buffer_t);
OM_uint32 __wrap_gss_export_sec_context(OM_uint32 *, gss_ctx_id_t *,
    gss_buffer_t);
OM_uint32
__wrap_gss_export_sec_context(OM_uint32 *minor, gss_ctx_id_t *context,
    gss_buffer_t token)
{
	static gss_buffer_desc last;
	OM_uint32 major;

	gss_release_buffer(minor, &last);
	major = __real_gss_export_sec_context(minor, context, token);
	last = *token;
	return major;
}

/* Checks what the server reports about an accepted client. */
static void
check_peer(struct sasl *server, struct auth_peer *peer,
    char authzid[SASL_AUTHZID])
{
	HOLDS(sasl_peer(server, peer, authzid) == 0);
	HOLDS(strcmp(peer->principal, TICKET_CLIENT) == 0 &&
	    strcmp(peer->service, TICKET_SERVICE) == 0);
	HOLDS(memchr(authzid, '\0', SASL_AUTHZID) != NULL);
	HOLDS(strcmp(peer->ticket, "aes256-cts-hmac-sha1-96") == 0 &&
	    strcmp(peer->session, "aes256-cts-hmac-sha1-96") == 0);
}

/* Sends the input as a series of tokens. */
static void
try_raw(struct sasl *server, struct input in)
{
	enum sasl_result result = SASL_MORE;
	struct auth_peer peer;
	char authzid[SASL_AUTHZID];
	const void *out;
	size_t size;

	for (int i = 0; i < STEPS && result == SASL_MORE; i++) {
		size_t n = input_below(&in, 65536);
		const uint8_t *token = input_take(&in, &n);

		result = sasl_step(server, token, n, &out, &size);
	}
	if (result == SASL_DONE)
		check_peer(server, &peer, authzid);
}

/*
 * Encrypts the input as if it were an authenticator. Sends it to the server in
 * a first token.
 */
static void
try_encrypted(struct sasl *server, struct input in)
{
	static const uint8_t head[] =
	    "\x60\x82\0\0\x06\x09\x2a\x86\x48\x86\xf7\x12\x01\x02\x02\x01";
	static uint8_t token[sizeof(head) + TICKET_MOST];
	uint8_t part[512];
	unsigned how = input_byte(&in);
	size_t part_size = ticket_part(part), size, n;
	const void *out;
	enum sasl_result result;

	memcpy(token, head, sizeof(head));
	n = sizeof(head) +
	    ticket_request(how, part, part_size, in.at,
		in.left < 8192 ? in.left : 8192, token + sizeof(head));
	token[2] = (uint8_t)((n - 4) >> 8);
	token[3] = (uint8_t)(n - 4);
	result = sasl_step(server, token, n, &out, &size);
	HOLDS(result != SASL_DONE);
	HOLDS(result == SASL_FAILED ||
	    (how & (TICKET_WRONG_KEY | TICKET_WRONG_SESSION)) == 0);
	if (result == SASL_MORE)
		HOLDS(sasl_step(server, "", 0, &out, &size) != SASL_DONE);
}

/* A genuine client in this process. */
struct client {
	gss_ctx_id_t context;
	unsigned requests, offered; /* flags */
	unsigned altered; /* number of the token to alter, counted from 1 */
	size_t offset;    /* the offset of the altered byte */
	uint8_t bits;     /* the bits flipped in that byte */
	bool has_altered;
};

/*
 * Sends a token to the server. Alters the token first if its number is
 * c->altered.
 */
static enum sasl_result
send_token(struct client *c, struct sasl *server, gss_buffer_t token,
    const void **out, size_t *size)
{
	static const uint8_t nothing[1];
	enum sasl_result result;
	uint8_t *copy = malloc(token->length + 1);

	HOLDS(copy != NULL);
	if (token->length > 0)
		memcpy(copy, token->value, token->length);
	if (c->altered > 0 && --c->altered == 0 && token->length > 0 &&
	    c->bits != 0) {
		copy[c->offset % token->length] ^= c->bits;
		c->has_altered = true;
	}
	result = sasl_step(server, token->length > 0 ? copy : nothing,
	    token->length, out, size);
	free(copy);
	return result;
}

/*
 * Exchanges tokens until the server sends its offer. Returns false if the
 * server sends no offer.
 */
static bool
negotiate(struct client *c, struct sasl *server, gss_buffer_t offer)
{
	struct gss_channel_bindings_struct bindings = {
		.application_data = { 25,
		    (void *)(uintptr_t) "tls-server-end-point:hash" }
	};
	gss_buffer_desc in = GSS_C_EMPTY_BUFFER, token;
	OM_uint32 minor, flags = 0;

	flags |= (c->requests & MUTUAL) != 0 ? GSS_C_MUTUAL_FLAG : 0;
	flags |= (c->requests & INTEGRITY) != 0 ? GSS_C_INTEG_FLAG : 0;
	flags |= (c->requests & SECRECY) != 0 ? GSS_C_CONF_FLAG : 0;
	flags |= (c->requests & SEQUENCE) != 0 ? GSS_C_SEQUENCE_FLAG : 0;
	if ((c->requests & OTHER_BINDING) != 0)
		bindings.application_data.length--;
	for (int i = 0; i < STEPS; i++) {
		OM_uint32 major = gss_init_sec_context(&minor,
		    GSS_C_NO_CREDENTIAL, &c->context, service,
		    (gss_OID)gss_mech_krb5, flags, 0,
		    (c->requests & (BINDING | OTHER_BINDING)) != 0 ? &bindings :
								     NULL,
		    &in, NULL, &token, NULL, NULL);
		enum sasl_result result;
		const void *out;
		size_t size;

		HOLDS(i > 0 || !GSS_ERROR(major));
		if (GSS_ERROR(major))
			return false;
		result = send_token(c, server, &token, &out, &size);
		gss_release_buffer(&minor, &token);
		HOLDS(result != SASL_DONE);
		if (result == SASL_FAILED)
			return false;
		in = (gss_buffer_desc){ size, (void *)(uintptr_t)out };
		if (major != GSS_S_COMPLETE)
			continue;
		*offer = in;
		/*
		 * With mutual authentication the client sends an empty token to
		 * ask for the offer.
		 */
		if ((c->requests & MUTUAL) == 0 || i > 0)
			return true;
	}
	return false;
}

/* Returns true if the server must accept the client with the given choice. */
static bool
is_good(const struct client *c, const uint8_t *choice, size_t n)
{
	size_t most;

	if (n < 4 || n - 4 >= SASL_AUTHZID ||
	    memchr(choice + 4, '\0', n - 4) != NULL)
		return false;
	most = (size_t)choice[1] << 16 | (size_t)choice[2] << 8 | choice[3];
	if (choice[0] == RELAY_GSS_NONE)
		return true;
	if ((choice[0] != RELAY_GSS_INTEGRITY &&
		choice[0] != RELAY_GSS_CONFIDENTIALITY) ||
	    (c->offered & choice[0]) == 0)
		return false;
	return relay_gss_text_size(c->context, choice[0], most) > 0;
}

/* Receives the exported context of the layer, as the relay does. */
static void
import_layer(struct sasl *server, struct relay_gss *w)
{
	static struct sasl_handover h;
	const ssize_t head = offsetof(struct sasl_handover, data);
	int pair[2];
	gss_buffer_desc token;
	OM_uint32 minor;
	ssize_t n;

	HOLDS(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0);
	HOLDS(sasl_hand_over(server, pair[0], "unread", 6) == 0);
	n = recv(pair[1], &h, sizeof(h), 0);
	HOLDS(n > head + 6 && h.unread_size == 6 &&
	    memcmp(h.data, "unread", 6) == 0);
	token = (gss_buffer_desc){ (size_t)(n - head) - 6, h.data + 6 };
	memset(w, 0, offsetof(struct relay_gss, in));
	HOLDS(gss_import_sec_context(&minor, &token, &w->context) ==
	    GSS_S_COMPLETE);
	w->is_confidential = h.layer == RELAY_GSS_CONFIDENTIALITY;
	w->text_size = h.text_size;
	close(pair[0]);
	close(pair[1]);
}

/* Appends n bytes. */
static void
put_text(struct relay_buffer *b, const void *p, size_t n)
{
	HOLDS(n <= RELAY_ROOM - b->end);
	memcpy(b->data + b->end, p, n);
	b->end += n;
}

/*
 * Wraps text into a token. Appends the length of the token, and then the token.
 */
static void
wrap_text(gss_ctx_id_t context, bool conceal, const uint8_t *p, size_t n,
    struct relay_buffer *wrapped)
{
	gss_buffer_desc text = { n, (void *)(uintptr_t)p }, token;
	OM_uint32 minor;
	uint8_t length[RELAY_GSS_LENGTH];

	HOLDS(!GSS_ERROR(gss_wrap(&minor, context, conceal, GSS_C_QOP_DEFAULT,
	    &text, NULL, &token)));
	be32enc(length, (uint32_t)token.length);
	put_text(wrapped, length, sizeof(length));
	put_text(wrapped, token.value, token.length);
	gss_release_buffer(&minor, &token);
}

/*
 * Makes the bytes that the client sends in the layer from the input. Stores the
 * bytes on the wire in "wrapped". Stores the bytes that the session must get in
 * "cleartext". Returns true if the client breaks no rule.
 */
static bool
make_input(const struct client *c, const struct relay_gss *w, struct input *in,
    struct relay_buffer *wrapped, struct relay_buffer *cleartext)
{
	size_t last = 0;
	bool good = true, altered = false;

	for (int i = 0; i < STEPS && in->left > 0; i++) {
		unsigned how = input_byte(in) % 8;
		size_t n = input_byte(in), end = wrapped->end;
		const uint8_t *p = input_take(in, &n);

		if (how == 0) /* repeat the last token */
			put_text(wrapped, wrapped->data + last, end - last);
		else if (how == 1) /* send raw bytes */
			put_text(wrapped, p, n);
		else { /* a token; 2: with the other protection */
			wrap_text(c->context, w->is_confidential != (how == 2),
			    p, n, wrapped);
			last = end;
		}
		/*
		 * If the altered byte is in the unprotected part of the token's
		 * head, the token may still be unwrapped. The text of the token
		 * is then unchanged.
		 */
		if (how == 3 && n > 0)
			wrapped->data[end + n % (wrapped->end - end)] ^= p[0];
		altered |= how == 3;
		good &= how >= 3 || (how == 2 && !w->is_confidential) ||
		    (how < 2 && end == wrapped->end);
		if (good && how >= 2)
			put_text(cleartext, p, n);
	}
	return good && !altered;
}

/* Checks that the session's answers reach the client. */
static void
check_answers(const struct client *c, struct relay_gss *w)
{
	static const char
	    answer[] = "+OK in the clear\r\n",
	    more[] =
		"+OK this is wrapped in tokens that the client takes\r\n.\r\n";
	static struct relay_buffer out;
	char got[sizeof(more)];
	size_t n = 0;
	OM_uint32 minor;

	out.at = out.end = 0;
	HOLDS(relay_gss_codec.wrap(w, answer, sizeof(answer) - 1, &out) == 0 &&
	    relay_gss_codec.wrap(w, more, sizeof(more) - 1, &out) == 0);
	HOLDS(out.end >= sizeof(answer) - 1 &&
	    memcmp(out.data, answer, sizeof(answer) - 1) == 0);
	for (size_t at = sizeof(answer) - 1; at < out.end;) {
		const unsigned char *p = (const unsigned char *)out.data + at;
		gss_buffer_desc token = { (size_t)p[2] << 8 | p[3],
			(void *)(uintptr_t)(p + 4) },
				text;
		int conceals;

		HOLDS(p[0] == 0 && p[1] == 0 &&
		    token.length <= out.end - at - 4);
		HOLDS(gss_unwrap(&minor, c->context, &token, &text, &conceals,
			  NULL) == GSS_S_COMPLETE);
		HOLDS(conceals == w->is_confidential &&
		    n + text.length < sizeof(more));
		memcpy(got + n, text.value, text.length);
		n += text.length;
		at += 4 + token.length;
		gss_release_buffer(&minor, &text);
	}
	HOLDS(n == sizeof(more) - 1 && memcmp(got, more, n) == 0);
}

/* Checks the layer with pieces of the client's input, and with answers. */
static void
check_layer(struct client *c, struct sasl *server, struct input *in,
    size_t piece)
{
	static struct relay_gss w;
	static struct relay_buffer wrapped, cleartext, got, unused;
	OM_uint32 minor;
	bool good;
	int result = 0;

	import_layer(server, &w);
	wrapped.end = cleartext.end = got.at = got.end = 0;
	good = make_input(c, &w, in, &wrapped, &cleartext);
	for (size_t at = 0; at < wrapped.end && result == 0; at += piece)
		result = relay_gss_codec.unwrap(&w, wrapped.data + at,
		    wrapped.end - at < piece ? wrapped.end - at : piece, &got,
		    &unused);
	HOLDS(!good || (result == 0 && got.end == cleartext.end));
	HOLDS(got.end <= cleartext.end &&
	    memcmp(got.data, cleartext.data, got.end) == 0 && unused.end == 0);
	if (result == 0 && good)
		check_answers(c, &w);
	gss_delete_sec_context(&minor, &w.context, NULL);
}

/*
 * Sends the client's choice and checks the result. Returns true if the client
 * has chosen a layer.
 */
static bool
choose(struct client *c, struct sasl *server, const uint8_t *choice, size_t n,
    bool conceal)
{
	static const char *const names[2][5] = { { "", "none", "integrity", "",
						     "confidentiality" },
		{ "", "tls", "tls+integrity", "", "tls+confidentiality" } };
	gss_buffer_desc text = { n, (void *)(uintptr_t)choice }, token;
	OM_uint32 minor;
	enum sasl_result result;
	struct auth_peer peer;
	char authzid[SASL_AUTHZID];
	const void *out;
	size_t size;

	HOLDS(!GSS_ERROR(gss_wrap(&minor, c->context, conceal,
	    GSS_C_QOP_DEFAULT, &text, NULL, &token)));
	result = send_token(c, server, &token, &out, &size);
	gss_release_buffer(&minor, &token);
	HOLDS(result != SASL_MORE);
	HOLDS(c->has_altered || (result == SASL_DONE) == is_good(c, choice, n));
	if (result != SASL_DONE)
		return false;
	HOLDS(is_good(c, choice, n));
	check_peer(server, &peer, authzid);
	HOLDS(strlen(authzid) == n - 4 &&
	    memcmp(authzid, choice + 4, n - 4) == 0);
	HOLDS(sasl_has_layer(server) == (choice[0] != RELAY_GSS_NONE));
	HOLDS(strcmp(peer.layer, names[server == servers[1]][choice[0]]) == 0);
	HOLDS((peer.mutual != 0) == ((c->requests & MUTUAL) != 0));
	return choice[0] != RELAY_GSS_NONE;
}

/*
 * Checks the layers that the server offers. The server offers all layers, with
 * TLS and without TLS. But it offers no layer to a client that has bound its
 * context to the TLS channel.
 */
static void
check_offer(const struct client *c, const struct sasl *server)
{
	bool bound = server == servers[1] &&
	    (c->requests & (BINDING | OTHER_BINDING)) == BINDING;
	unsigned expected = RELAY_GSS_NONE;

	/* libgssapi's client always asks for integrity and confidentiality. */
	if (!bound && (c->requests & SEQUENCE) != 0)
		expected |= RELAY_GSS_INTEGRITY | RELAY_GSS_CONFIDENTIALITY;
	HOLDS(c->offered == expected);
}

/* Runs a dialogue with a genuine client. */
static void
try_genuine(struct sasl *server, struct input in)
{
	struct client c = { .requests = input_byte(&in),
		.altered = input_byte(&in) % 4 };
	gss_buffer_desc offer = GSS_C_EMPTY_BUFFER, text;
	OM_uint32 minor;
	const uint8_t *choice;
	size_t size;
	bool conceal,
	    foreign = (c.requests & OTHER_BINDING) != 0 && server == servers[1];

	c.offset = input_below(&in, 4096);
	c.bits = input_byte(&in);
	conceal = (input_byte(&in) & 1) != 0;
	/*
	 * Wrong channel bindings belong to another TLS connection, so such a
	 * client is refused.
	 */
	if (!negotiate(&c, server, &offer) || foreign)
		HOLDS(c.has_altered || (foreign && offer.length == 0));
	else if (gss_unwrap(&minor, c.context, &offer, &text, NULL, NULL) ==
	    GSS_S_COMPLETE) {
		HOLDS(text.length == 4);
		c.offered = *(const uint8_t *)text.value;
		check_offer(&c, server);
		gss_release_buffer(&minor, &text);
		size = input_below(&in, 512);
		choice = input_take(&in, &size);
		if (choose(&c, server, choice, size, conceal))
			check_layer(&c, server, &in, 1 + c.offset % 99);
	} else
		HOLDS(c.has_altered);
	gss_delete_sec_context(&minor, &c.context, NULL);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { data, size };
	unsigned first = input_byte(&in);
	struct sasl *server;

	if (service == NULL)
		start();
	server = servers[(first & INSIDE_TLS) != 0];
	ticket_forget_replays();
	sasl_begin(server);
	switch ((first & 3) % KINDS) {
	case RAW:
		try_raw(server, in);
		break;
	case ENCRYPTED:
		try_encrypted(server, in);
		break;
	default:
		try_genuine(server, in);
		break;
	}
	return 0;
}
