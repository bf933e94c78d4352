/*
 * Sends STLS, and starts a process that does TLS.
 *
 * Runs as the caller. run_tls_layer runs in a process between the connection
 * and the rest of kpopc. That process passes no byte before it has verified the
 * server's certificate.
 */
#include "config.h"

#include <err.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <unistd.h>

#include "kpopc.h"
#include "relay-tls.h"

/*
 * The descriptor on which the process reports that the certificate is verified.
 */
static int tls_cleartext;

/* Writes the hash of the certificate, after one byte with the hash's size. */
static void
report_certificate(struct relay_tls *t)
{
	unsigned char message[1 + EVP_MAX_MD_SIZE];
	X509 *certificate = SSL_get1_peer_certificate(t->ssl);

	message[0] =
	    (unsigned char)relay_tls_hash_certificate(certificate, message + 1);
	conn_write(tls_cleartext, message, 1 + message[0]);
}

/* Prints why there is no TLS, and ends the process. */
_Noreturn static void
explain_tls(struct relay_tls *t)
{
	long verdict = SSL_get_verify_result(t->ssl);
	const char *why = verdict != X509_V_OK ?
	    X509_verify_cert_error_string(verdict) :
	    answer_printable(t->error, sizeof(t->error));

	/* OpenSSL has no error for it. */
	if (*why == '\0')
		why = "the server closed the connection in the handshake";
	errx(EXIT_REFUSED, "TLS: %s", why);
}

/* Does TLS and verifies the server, in the process between fd and cleartext. */
static void
run_tls_layer(const void *argument, int fd, int cleartext)
{
	static struct relay_tls t = { .on_established = report_certificate };
	static struct relay_buffer hello;
	const struct options *o = argument;
	SSL_CTX *context = SSL_CTX_new(TLS_client_method());

	tls_cleartext = cleartext;
	if (context == NULL || relay_tls_restrict(context) == -1)
		errx(EXIT_REFUSED, "TLS: OpenSSL cannot be initialized");
	if ((o->authorities != NULL ?
		    SSL_CTX_load_verify_file(context, o->authorities) :
		    SSL_CTX_set_default_verify_paths(context)) != 1) {
		report_rate(VERDICT_UNKNOWN);
		errx(EXIT_REFUSED, "TLS: cannot read %s",
		    o->authorities != NULL ? o->authorities :
					     "the system's certificates");
	}
	SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
	if (relay_tls_start(&t, context, false) == -1 ||
	    SSL_set1_host(t.ssl, o->host) != 1 ||
	    SSL_set_tlsext_host_name(t.ssl, o->host) != 1 ||
	    relay_tls_shake_hands(&t, &hello) == -1)
		errx(EXIT_REFUSED, "TLS: OpenSSL cannot be initialized");
	conn_write(fd, hello.data + hello.at, hello.end - hello.at);
	if (relay_run(fd, cleartext, cleartext, RELAY_CLIENT, &relay_tls_codec,
		&t, NULL, 0) == -1 ||
	    !t.is_established)
		explain_tls(&t);
	if (!t.is_closed)
		errx(EXIT_BROKEN,
		    "TLS: the connection ended without close_notify");
	_exit(EXIT_DONE);
}

void
tls_begin(struct conn *c, const struct options *o)
{
	unsigned char size = 0;
	const char *answer;

	report_enter(PHASE_TLS);
	answer = conn_ask(c, "STLS");
	if (!answer_is_good(answer))
		errx(EXIT_REFUSED, "no TLS: %s",
		    answer_printable(answer, TEXT_MAX));
	conn_add_layer(c, o, run_tls_layer);
	if (read(c->fd, &size, 1) != 1 || size > sizeof(c->binding) ||
	    read(c->fd, c->binding, size) != size)
		/* The process has printed the reason. */
		exit(conn_end(c, EXIT_REFUSED));
	c->binding_size = size;
	c->has_tls = true;
	report_enter(PHASE_LOGIN);
}
