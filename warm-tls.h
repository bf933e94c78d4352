/* Makes OpenSSL ready for handshakes: see warm-tls.c. */
#ifndef WARM_TLS_H
#define WARM_TLS_H

#include <openssl/ssl.h>
#include <stdbool.h>

/*
 * Does handshakes of TLS 1.2 and 1.3 in memory, with a new key of the same kind
 * as the key of this context. Does not use the context's own key. Returns true
 * if both handshakes were completed. Otherwise the first handshake in a process
 * that is forked later only takes longer.
 */
bool warm_tls(SSL_CTX *context);

#endif
