/*
 * The client's TLS: STLS, and a process between the connection and the rest.
 *
 * Runs as the caller. The process speaks cleartext with the rest of kpopc, and
 * nothing passes it before the server's certificate has been verified.
 */
#include "config.h"

#include <err.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <unistd.h>

#include "kpopc.h"
#include "relay-tls.h"

/* Where greet tells the parent that the certificate is good. */
static int tls_plain;

static void
tell_ready(struct relay_tls *t)
{
	unsigned char message[1 + EVP_MAX_MD_SIZE];
	X509 *certificate = SSL_get1_peer_certificate(t->ssl);

	message[0] = (unsigned char)relay_tls_hash_certificate(certificate, message + 1);
	line_write(tls_plain, message, 1 + message[0]);
}

_Noreturn static void
explain_tls(struct relay_tls *t)
{
	long verdict = SSL_get_verify_result(t->ssl);

	errx(EXIT_REFUSED, "TLS: %s", verdict != X509_V_OK ?
		X509_verify_cert_error_string(verdict) : printable(t->error, sizeof(t->error)));
}

/* In a process of its own: TLS with a verified server. */
static void
run_tls(const void *what, int fd, int plain)
{
	static struct relay_tls t = { .on_established = tell_ready };
	static struct relay_buffer hello;
	const struct options *o = what;
	SSL_CTX *context = SSL_CTX_new(TLS_client_method());

	tls_plain = plain;
	if (context == NULL || relay_tls_restrict(context) == -1)
		errx(EXIT_REFUSED, "TLS: OpenSSL does not start");
	if ((o->authorities != NULL ? SSL_CTX_load_verify_file(context, o->authorities) :
				      SSL_CTX_set_default_verify_paths(context)) != 1)
		errx(EXIT_REFUSED, "TLS: cannot read %s",
		    o->authorities != NULL ? o->authorities : "the system's certificates");
	SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
	if (relay_tls_start(&t, context, false) == -1 || SSL_set1_host(t.ssl, o->host) != 1 ||
	    SSL_set_tlsext_host_name(t.ssl, o->host) != 1 || relay_tls_shake_hands(&t, &hello) == -1)
		errx(EXIT_REFUSED, "TLS: OpenSSL does not start");
	line_write(fd, hello.data + hello.at, hello.end - hello.at);
	if (relay_run(fd, plain, plain, RELAY_CLIENT, &relay_tls_codec, &t, NULL, 0) == -1 || !t.is_established)
		explain_tls(&t);
	if (!t.is_closed)
		errx(EXIT_BROKEN, "TLS: the connection was cut off");
	_exit(EXIT_DONE);
}

void
line_begin_tls(struct line *l, const struct options *o)
{
	unsigned char size = 0;
	const char *answer = line_ask(l, "STLS");

	if (!line_is_good(answer))
		errx(EXIT_REFUSED, "no TLS: %s", printable(answer, TEXT_MAX));
	line_put_between(l, o, run_tls);
	if (read(l->fd, &size, 1) != 1 || size > sizeof(l->binding) ||
	    read(l->fd, l->binding, size) != size)
		exit(line_end(l, EXIT_REFUSED)); /* its process has said why */
	l->binding_size = size;
	l->has_tls = true;
}
