/*
 * The client's layers and login: STLS, AUTH GSSAPI, and what USER and PASS become.
 *
 * Runs as the caller. TLS and a layer of GSSAPI are each a process between the
 * connection and the rest, which speaks plain POP3 with it. The server is not
 * trusted before TLS has verified its certificate, or GSSAPI its ticket.
 */
#include "config.h"

#include <sys/socket.h>
#include <sys/wait.h>

#include <netinet/in.h>

#include <err.h>
#include <errno.h>
#include <gssapi/gssapi.h>
#include <gssapi/gssapi_ext.h>
#include <gssapi/gssapi_krb5.h>
#include <openssl/x509v3.h>
#include <resolv.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "kpopc.h"
#include "tls.h"
#include "wrap.h"

#define LINE 100000 /* a SASL token of 64 KiB in base64, and more */
#define USER_MOST 255
#define BINDING_PREFIX "tls-server-end-point:" /* RFC 5929 §4 */

/* One line into text[LINE] without its end, octet by octet: what follows it is not for us. Returns false at the end. */
static bool
read_line(int fd, char *text)
{
	size_t n = 0;

	for (;;) {
		ssize_t got = read(fd, text + n, 1);

		if (got == -1 && errno == EINTR)
			continue;
		if (got <= 0)
			return false;
		if (text[n] == '\n')
			break;
		if (++n == LINE - 1)
			errx(EXIT_REFUSED, "a line without an end");
	}
	text[n] = '\0';
	if (n > 0 && text[n - 1] == '\r')
		text[n - 1] = '\0';
	return true;
}

static void
write_all(int fd, const void *data, size_t n)
{
	const char *p = data;

	while (n > 0) {
		ssize_t put = write(fd, p, n);

		if (put == -1 && errno != EINTR)
			err(EXIT_BROKEN, "%s", fd == STDOUT_FILENO ? "standard output" : "the connection broke");
		if (put > 0) {
			p += put;
			n -= (size_t)put;
		}
	}
}

static void
say(int fd, const char *text)
{
	write_all(fd, text, strlen(text));
	write_all(fd, "\r\n", 2);
}

/* The server's next line. */
static const char *
hear(const struct line *l)
{
	static char text[LINE];

	if (!read_line(l->fd, text))
		errx(EXIT_REFUSED, "the server closed the connection");
	return text;
}

static bool
is_good(const char *answer)
{
	return strncmp(answer, "+OK", 3) == 0;
}

/* Puts a process between the connection and us: work gets the connection and its end of the plain side. */
static void
put_between(struct line *l, const void *what, void (*work)(const void *what, int fd, int plain))
{
	int plain[2];
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, plain) == -1)
		err(EXIT_REFUSED, "socketpair");
	if ((pid = fork()) == -1)
		err(EXIT_REFUSED, "fork");
	if (pid == 0) {
		close(plain[0]);
		work(what, l->fd, plain[1]);
		_exit(EXIT_BROKEN);
	}
	close(plain[1]);
	close(l->fd);
	l->fd = plain[0];
	l->helpers[l->count++] = pid;
}

/* Where greet tells the parent that the certificate is good. */
static int tls_plain;

static void
tell_ready(struct tls *t)
{
	unsigned char message[1 + EVP_MAX_MD_SIZE];
	X509 *certificate = SSL_get1_peer_certificate(t->ssl);

	message[0] = (unsigned char)tls_hash_certificate(certificate, message + 1);
	write_all(tls_plain, message, 1 + message[0]);
}

_Noreturn static void
explain_tls(struct tls *t)
{
	long verdict = SSL_get_verify_result(t->ssl);

	errx(EXIT_REFUSED, "TLS: %s", verdict != X509_V_OK ?
		X509_verify_cert_error_string(verdict) : printable(t->error, sizeof(t->error)));
}

/* In a process of its own: TLS with a verified server. */
static void
run_tls(const void *what, int fd, int plain)
{
	static struct tls t = { .greet = tell_ready };
	static struct pump_buffer hello;
	const struct options *o = what;
	SSL_CTX *context = SSL_CTX_new(TLS_client_method());

	tls_plain = plain;
	if (context == NULL || SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION) != 1)
		errx(EXIT_REFUSED, "TLS: OpenSSL does not start");
	if ((o->authorities != NULL ? SSL_CTX_load_verify_file(context, o->authorities) :
				      SSL_CTX_set_default_verify_paths(context)) != 1)
		errx(EXIT_REFUSED, "TLS: cannot read %s",
		    o->authorities != NULL ? o->authorities : "the system's certificates");
	SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
	if (tls_start(&t, context, false) == -1 || SSL_set1_host(t.ssl, o->host) != 1 ||
	    SSL_set_tlsext_host_name(t.ssl, o->host) != 1 || tls_shake_hands(&t, &hello) == -1)
		errx(EXIT_REFUSED, "TLS: OpenSSL does not start");
	write_all(fd, hello.data + hello.at, hello.end - hello.at);
	if (pump(fd, plain, plain, PUMP_CLIENT, &tls_codec, &t, NULL, 0) == -1 || !t.shaken)
		explain_tls(&t);
	if (!t.closed)
		errx(EXIT_BROKEN, "TLS: the connection was cut off");
	_exit(EXIT_DONE);
}

/* STLS, and the certificate verified when this returns. */
static void
begin_tls(struct line *l, const struct options *o)
{
	unsigned char size = 0;
	const char *answer;

	say(l->fd, "STLS");
	answer = hear(l);
	if (!is_good(answer))
		errx(EXIT_REFUSED, "no TLS: %s", printable(answer, LINE));
	put_between(l, o, run_tls);
	if (read(l->fd, &size, 1) != 1 || size > sizeof(l->binding) ||
	    read(l->fd, l->binding, size) != size)
		exit(line_end(l, EXIT_REFUSED)); /* its process has said why */
	l->binding_size = size;
	l->has_tls = true;
}

void
line_greet(struct line *l, const struct options *o)
{
	char greeting[TEXT_MAX];
	const char *answer = hear(l);

	strlcpy(greeting, answer, sizeof(greeting));
	if (!is_good(greeting))
		errx(EXIT_REFUSED, "the server says: %s", printable(greeting, sizeof(greeting)));
	if (o->tls)
		begin_tls(l, o);
	say(STDOUT_FILENO, greeting);
}

_Noreturn static void
give_up_gss(const char *what, OM_uint32 major, OM_uint32 minor)
{
	OM_uint32 unused, more = 0;
	gss_buffer_desc text = { 0, NULL };

	gss_display_status(&unused, minor != 0 ? minor : major,
	    minor != 0 ? GSS_C_MECH_CODE : GSS_C_GSS_CODE, (gss_OID)gss_mech_krb5, &more, &text);
	errx(EXIT_REFUSED, "%s: %s", what,
	    text.length > 0 ? printable(text.value, text.length) : "unknown error");
}

/* A dialogue of AUTH GSSAPI. */
struct dialogue {
	gss_ctx_id_t context;
	gss_cred_id_t cred;
	gss_name_t service;
	unsigned layer;
	size_t piece;
	unsigned char token[WRAP_TOKEN]; /* the server's last */
	int n;
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
	major = gss_import_name(&minor, &text, o->service != NULL ?
		(gss_OID)GSS_KRB5_NT_PRINCIPAL_NAME : GSS_C_NT_HOSTBASED_SERVICE, &d->service);
	if (GSS_ERROR(major))
		give_up_gss("the service's name", major, minor);
	major = gss_acquire_cred_from(&minor, GSS_C_NO_NAME, GSS_C_INDEFINITE,
	    GSS_C_NO_OID_SET, GSS_C_INITIATE, &store, &d->cred, NULL, NULL);
	if (GSS_ERROR(major))
		give_up_gss("no tickets", major, minor);
}

/* Says a token and hears the next. Returns NULL, or the answer that is none. */
static const char *
trade(const struct line *l, struct dialogue *d, const void *token, size_t n)
{
	static char text[LINE];
	const char *answer;

	if (b64_ntop(token, n, text, sizeof(text)) == -1)
		errx(EXIT_REFUSED, "a token too large");
	say(l->fd, text);
	answer = hear(l);
	if (answer[0] != '+' || answer[1] != ' ')
		return answer;
	d->n = b64_pton(answer + 2, d->token, sizeof(d->token));
	if (d->n == -1)
		errx(EXIT_REFUSED, "the server's token is not base64");
	return NULL;
}

/* The tokens of the context. Returns NULL when it stands and the layers' offer has come, or the server's refusal. */
static const char *
negotiate(const struct line *l, struct dialogue *d)
{
	char binding[sizeof(BINDING_PREFIX) + sizeof(l->binding)];
	struct gss_channel_bindings_struct bindings = { .application_data = {
	    sizeof(BINDING_PREFIX) - 1 + l->binding_size, binding } };
	OM_uint32 major, minor;
	const char *refusal;

	memcpy(binding, BINDING_PREFIX, sizeof(BINDING_PREFIX) - 1);
	memcpy(binding + sizeof(BINDING_PREFIX) - 1, l->binding, l->binding_size);
	d->n = 0;
	do {
		gss_buffer_desc in = { (size_t)d->n, d->token }, out;

		major = gss_init_sec_context(&minor, d->cred, &d->context, d->service,
		    (gss_OID)gss_mech_krb5, GSS_C_MUTUAL_FLAG | GSS_C_INTEG_FLAG |
			GSS_C_CONF_FLAG | GSS_C_SEQUENCE_FLAG | GSS_C_REPLAY_FLAG, 0,
		    l->binding_size > 0 ? &bindings : GSS_C_NO_CHANNEL_BINDINGS,
		    &in, NULL, &out, NULL, NULL);
		if (GSS_ERROR(major))
			give_up_gss("no ticket for the server", major, minor);
		if ((refusal = trade(l, d, out.value, out.length)) != NULL)
			return refusal;
		gss_release_buffer(&minor, &out);
	} while ((major & GSS_S_CONTINUE_NEEDED) != 0);
	return NULL;
}

/* The best layer of the server's offer; inside TLS none. Returns the answer to it all. */
static const char *
choose(const struct line *l, struct dialogue *d, const char *user)
{
	gss_buffer_desc token = { (size_t)d->n, d->token }, text, out;
	unsigned char choice[4 + USER_MOST] = { 0 };
	const unsigned char *offer;
	OM_uint32 minor, major = gss_unwrap(&minor, d->context, &token, &text, NULL, NULL);
	const char *answer;
	size_t n;

	if (major != GSS_S_COMPLETE || text.length != 4)
		give_up_gss("the server's offer of layers", major, minor);
	offer = text.value;
	d->layer = WRAP_NONE;
	if (!l->has_tls && (offer[0] & WRAP_CONFIDENTIALITY) != 0)
		d->layer = WRAP_CONFIDENTIALITY;
	else if (!l->has_tls && (offer[0] & WRAP_INTEGRITY) != 0)
		d->layer = WRAP_INTEGRITY;
	d->piece = wrap_piece(d->context, d->layer,
	    (size_t)offer[1] << 16 | (size_t)offer[2] << 8 | offer[3]);
	if (d->layer != WRAP_NONE && d->piece == 0)
		errx(EXIT_REFUSED, "the server's tokens are too small");
	choice[0] = (unsigned char)d->layer;
	choice[1] = d->layer != WRAP_NONE ? WRAP_TOKEN >> 16 : 0;
	n = strlen(user);
	memcpy(choice + 4, user, n);
	text = (gss_buffer_desc){ 4 + n, choice };
	major = gss_wrap(&minor, d->context, 0, GSS_C_QOP_DEFAULT, &text, NULL, &out);
	if (GSS_ERROR(major))
		give_up_gss("the choice of a layer", major, minor);
	answer = trade(l, d, out.value, out.length);
	if (answer == NULL)
		errx(EXIT_REFUSED, "the server does not come to an end of AUTH");
	return answer;
}

/* In a process of its own: the layer. */
static void
run_layer(const void *what, int fd, int plain)
{
	static struct wrap w = { .output = WRAP_SEALED };
	const struct dialogue *d = what;

	w.context = d->context;
	w.conceals = d->layer == WRAP_CONFIDENTIALITY;
	w.piece = d->piece;
	if (pump(fd, plain, plain, PUMP_CLIENT, &wrap_codec, &w, NULL, 0) == -1)
		errx(EXIT_BROKEN, "the security layer: %s",
		    w.problem != NULL ? w.problem : "the connection broke");
	_exit(EXIT_DONE);
}

/* AUTH GSSAPI as user; its answer goes to standard output. Returns whether it was good. */
static bool
authenticate(struct line *l, const struct options *o, const char *user)
{
	static struct dialogue d;
	const char *answer;

	memset(&d, 0, sizeof(d));
	prepare_dialogue(&d, o);
	say(l->fd, "AUTH GSSAPI");
	answer = hear(l);
	if (strcmp(answer, "+ ") == 0 || strcmp(answer, "+") == 0) {
		answer = negotiate(l, &d);
		if (answer == NULL)
			answer = choose(l, &d, user);
	}
	say(STDOUT_FILENO, answer);
	if (!is_good(answer))
		return false;
	if (d.layer != WRAP_NONE)
		put_between(l, &d, run_layer);
	return true;
}

/* CAPA's answer, with USER, which we turn into AUTH. */
static void
pass_capabilities(const struct line *l)
{
	const char *answer;

	say(l->fd, "CAPA");
	answer = hear(l);
	say(STDOUT_FILENO, answer);
	if (!is_good(answer))
		return;
	say(STDOUT_FILENO, "USER");
	do
		say(STDOUT_FILENO, answer = hear(l));
	while (strcmp(answer, ".") != 0);
}

bool
line_login(struct line *l, const struct options *o)
{
	static char text[LINE];
	char user[USER_MOST + 1] = "";

	while (read_line(STDIN_FILENO, text)) {
		char *rest = text, *verb = strsep(&rest, " ");

		if (strcasecmp(verb, "USER") == 0 && rest != NULL &&
		    strlcpy(user, rest, sizeof(user)) < sizeof(user))
			say(STDOUT_FILENO, "+OK PASS comes next, with anything");
		else if (strcasecmp(verb, "PASS") == 0 && user[0] != '\0') {
			if (authenticate(l, o, user))
				return true;
		} else if (strcasecmp(verb, "CAPA") == 0)
			pass_capabilities(l);
		else if (strcasecmp(verb, "QUIT") == 0) {
			say(l->fd, "QUIT");
			say(STDOUT_FILENO, hear(l));
			break;
		} else
			say(STDOUT_FILENO, "-ERR USER and PASS come first");
	}
	shutdown(l->fd, SHUT_WR);
	return false;
}

int
line_end(struct line *l, int status)
{
	close(l->fd);
	for (int i = 0; i < l->count; i++) {
		int how;

		while (waitpid(l->helpers[i], &how, 0) == -1)
			if (errno != EINTR)
				return EXIT_BROKEN;
		if (how != 0 && status == EXIT_DONE)
			status = EXIT_BROKEN;
	}
	return status;
}
