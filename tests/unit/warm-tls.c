/*
 * Unit test of warm-tls.c: it does both handshakes for each kind of key, and
 * does not use the server's key.
 *
 * Runs as any user.
 */
#include "config.h"

#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

#include "tests/unit/check.h"
#include "warm-tls.h"

/* Returns the public half of a key, with which no signature can be made. */
static EVP_PKEY *
public_half(EVP_PKEY *key)
{
	unsigned char *text = NULL;
	int n = i2d_PUBKEY(key, &text);
	const unsigned char *at = text;
	EVP_PKEY *half;

	CHECK(n > 0);
	half = d2i_PUBKEY(NULL, &at, n);
	CHECK(half != NULL);
	OPENSSL_free(text);
	return half;
}

/* Returns a new RSA-PSS key, which EVP_PKEY_Q_keygen cannot make. */
static EVP_PKEY *
make_pss_key(void)
{
	EVP_PKEY_CTX *context =
	    EVP_PKEY_CTX_new_from_name(NULL, "RSA-PSS", NULL);
	EVP_PKEY *key = NULL;

	CHECK(context != NULL && EVP_PKEY_keygen_init(context) == 1);
	CHECK(EVP_PKEY_CTX_set_rsa_keygen_bits(context, 2048) == 1);
	CHECK(EVP_PKEY_generate(context, &key) == 1);
	EVP_PKEY_CTX_free(context);
	return key;
}

/* Both handshakes are done although the context has no private key. */
static void
warms(EVP_PKEY *key)
{
	SSL_CTX *context = SSL_CTX_new(TLS_server_method());
	EVP_PKEY *half;

	CHECK(key != NULL && context != NULL);
	half = public_half(key);
	CHECK(SSL_CTX_use_PrivateKey(context, half) == 1);
	CHECK(warm_tls(context));
	SSL_CTX_free(context);
	EVP_PKEY_free(half);
	EVP_PKEY_free(key);
}

int
main(void)
{
	SSL_CTX *without_key = SSL_CTX_new(TLS_server_method());

	warms(EVP_RSA_gen(2048));
	warms(make_pss_key());
	warms(EVP_EC_gen("P-256"));
	warms(EVP_EC_gen("P-384"));
	warms(EVP_PKEY_Q_keygen(NULL, NULL, "ED25519"));
	warms(EVP_PKEY_Q_keygen(NULL, NULL, "ED448"));
	CHECK(without_key != NULL && !warm_tls(without_key));
	SSL_CTX_free(without_key);
	return 0;
}
