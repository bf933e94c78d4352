/* The server's certificate, key and cipher suites: see load-tls.c. */
#ifndef LOAD_TLS_H
#define LOAD_TLS_H

#include <openssl/ssl.h>

/* The step that has failed. */
enum load_tls_step {
	LOAD_TLS_OPENSSL,     /* OpenSSL does not start */
	LOAD_TLS_CIPHERS,     /* OpenSSL does not have a cipher suite */
	LOAD_TLS_CERTIFICATE, /* the certificate cannot be used */
	LOAD_TLS_KEY,         /* the key cannot be read */
	LOAD_TLS_MATCH        /* the key is that of another certificate */
};

/* Why load_tls has failed. */
struct load_tls_problem {
	enum load_tls_step step;
	/* OpenSSL's text; for LOAD_TLS_CIPHERS the word that is wrong */
	char error[256];
};

/*
 * Makes the server's context: the certificate with its chain and its key, from
 * two files (PEM), and the cipher suites of the list (-C; "": the default).
 * Initializes OpenSSL with less than its default, so call no other function
 * before that initializes OpenSSL. Returns the context, or NULL with *problem.
 */
SSL_CTX *load_tls(const char *certificate, const char *key, const char *ciphers,
    struct load_tls_problem *problem);

#endif
