/* TLS as a codec for relay.c: see relay-tls.c. */
#ifndef RELAY_TLS_H
#define RELAY_TLS_H

#include <openssl/ssl.h>

#include "relay.h"

struct tls {
	SSL *ssl;
	BIO *in, *out;
	bool shaken;          /* the handshake is over */
	bool heard;           /* the peer has said something inside TLS */
	bool closed;          /* the peer has said close_notify */
	bool left;            /* the peer's socket has ended, with or without that */
	char error[256];      /* OpenSSL's words, once something has failed */
	int reason;           /* its number for that (SSL_R_...), or 0 */
	void (*greet)(struct tls *t); /* when the handshake is over; may be NULL */
};

extern const struct relay_codec tls_codec; /* its state is a struct tls */

/*
 * Allows only what TLS is trusted for: versions 1.2 and 1.3, without
 * renegotiation and compression, and in 1.2 cipher suites with forward secrecy
 * and AEAD. Returns 0 or -1.
 */
int relay_tls_restrict(SSL_CTX *context);

/*
 * Allows the cipher suites of this list instead: OpenSSL's syntax
 * (openssl-ciphers(1)), with suites of TLS 1.3 in it. Of a version that no word
 * is about the suites stay as they are. Returns NULL, or what is wrong: a word
 * that OpenSSL does not know, or all of it.
 */
const char *relay_tls_set_ciphers(SSL_CTX *context, const char *list);

/* Sets up a connection, the server's or the client's end of it. Returns 0, or -1 without memory. */
int relay_tls_start(struct tls *t, SSL_CTX *context, bool server);

/* The handshake's next step with what has come so far; what it says goes to sealed. Returns 0 or -1. */
int relay_tls_shake_hands(struct tls *t, struct relay_buffer *sealed);

/*
 * The hash of a certificate that binds an inner authentication to it
 * (tls-server-end-point, RFC 5929 §4.1). Returns its size; 0: none.
 */
unsigned relay_tls_hash_certificate(const X509 *certificate, unsigned char hash[EVP_MAX_MD_SIZE]);

/* Keeps OpenSSL's last words in t->error. */
void relay_tls_remember_error(struct tls *t);

#endif
