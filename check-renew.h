/* Remedies that make a new certificate: see check-renew.c. */
#ifndef CHECK_RENEW_H
#define CHECK_RENEW_H

#include <openssl/x509.h>

#include "check.h"

#define TLS_NAMES_MOST 16 /* names of the host that are checked */
#define TLS_NAME_SIZE 256 /* bytes of such a name with its NUL */

/* The names by which clients know this host. */
struct tls_names {
	unsigned count;
	unsigned lookups; /* of aliases */
	char name[TLS_NAMES_MOST][TLS_NAME_SIZE];
};

/* Returns true if no authority has signed the certificate. */
bool renew_signs_itself(X509 *certificate);

/*
 * Makes the remedy for a certificate (NULL: it cannot be read) that must be
 * replaced by one for these names. If it signs itself, or cannot be read, the
 * remedy makes another one in its place, for the key in the file of the options
 * if clients can use that.
 */
const char *renew_certificate(struct check *c, X509 *certificate,
    const struct tls_names *names);

#endif
