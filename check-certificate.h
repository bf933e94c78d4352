/* What a certificate contains: see check-certificate.c. */
#ifndef CHECK_CERTIFICATE_H
#define CHECK_CERTIFICATE_H

#include <openssl/ssl.h>

#include "check.h"

/*
 * Checks the certificate of this context, and the chain that is sent with it,
 * as clients do: dates, names, purpose, strength and issuers.
 */
void check_certificate_content(struct check *c, SSL_CTX *context);

/*
 * Makes the remedy for a certificate that does not fit the key, or cannot be
 * used.
 */
const char *check_certificate_remedy(struct check *c);

#endif
