/* TLS as a codec for relay.c: see relay-tls.c. */
#ifndef RELAY_TLS_H
#define RELAY_TLS_H

#include <openssl/ssl.h>

#include "relay.h"

/* One TLS connection. */
struct relay_tls {
	SSL *ssl;
	const char *in; /* bytes from the peer that OpenSSL has not read */
	size_t in_size;
	struct relay_buffer *out; /* gets what OpenSSL sends */
	bool is_established;      /* the handshake is complete */
	bool has_data;            /* the peer has sent data inside TLS */
	bool is_closed;           /* the peer has sent close_notify */
	bool client_ended; /* the peer's socket has ended without an error */
	char error[256];   /* OpenSSL's text, once something has failed */
	int reason;        /* OpenSSL's error number (SSL_R_...), or 0 */
	/* Called once when the handshake is complete; may be NULL. */
	void (*on_established)(struct relay_tls *t);
};

extern const struct relay_codec relay_tls_codec; /* state: a struct relay_tls */

/*
 * Restricts a context to TLS 1.2 and 1.3, or to one of them if openssl.cnf
 * demands that, without renegotiation and compression. Restricts TLS 1.2 to
 * cipher suites with forward secrecy and AEAD. Returns 0 or -1.
 */
int relay_tls_restrict(SSL_CTX *context);

/*
 * Replaces the permitted cipher suites by those of this list. The list has
 * OpenSSL's syntax (openssl-ciphers(1)), but may also name suites of TLS 1.3.
 * If the list has no suite for a version of TLS, this version keeps its suites.
 * Returns NULL if the list was accepted. Returns the first word that names no
 * suite of OpenSSL, or the whole list if it is too long or OpenSSL refuses it.
 * If no memory is left, returns words that report this.
 */
const char *relay_tls_set_ciphers(SSL_CTX *context, const char *list);

/*
 * Prepares the server's or the client's end of a connection. Returns 0, or -1
 * if no memory is left.
 */
int relay_tls_start(struct relay_tls *t, SSL_CTX *context, bool server);

/*
 * Continues the handshake with the bytes that have come so far. Appends the
 * bytes to send to *wrapped. Returns 0 or -1.
 */
int relay_tls_shake_hands(struct relay_tls *t, struct relay_buffer *wrapped);

/*
 * Hashes a certificate as tls-server-end-point does (RFC 5929 §4.1), for
 * channel bindings. Returns the hash's size, or 0 if there is none.
 */
unsigned relay_tls_hash_certificate(X509 *certificate,
    unsigned char hash[EVP_MAX_MD_SIZE]);

/* Keeps OpenSSL's last error in t->error and t->reason. */
void relay_tls_keep_error(struct relay_tls *t);

#endif
