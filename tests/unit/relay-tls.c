/*
 * Unit test of relay-tls.c: the hash of a certificate for channel bindings is
 * that of the certificate's signature, but SHA-256 in place of MD5 and SHA-1
 * (RFC 5929 §4.1).
 *
 * Runs as any user.
 */
#include "config.h"

#include <openssl/rsa.h>
#include <string.h>

#include "relay-tls.h"
#include "tests/unit/check.h"

/*
 * Returns a certificate that the key has signed with this hash function; NULL:
 * with the one that the key's algorithm contains.
 */
static X509 *
make_certificate(EVP_PKEY *key, const char *digest, bool is_pss)
{
	EVP_MD_CTX *context = EVP_MD_CTX_new();
	EVP_PKEY_CTX *signing;
	X509 *certificate = X509_new();

	CHECK(context != NULL && certificate != NULL);
	CHECK(X509_set_version(certificate, 2) == 1);
	CHECK(X509_gmtime_adj(X509_getm_notBefore(certificate), 0) != NULL);
	CHECK(X509_gmtime_adj(X509_getm_notAfter(certificate), 60) != NULL);
	CHECK(X509_set_pubkey(certificate, key) == 1);
	CHECK(EVP_DigestSignInit(context, &signing,
		  digest != NULL ? EVP_get_digestbyname(digest) : NULL, NULL,
		  key) == 1);
	CHECK(!is_pss ||
	    EVP_PKEY_CTX_set_rsa_padding(signing, RSA_PKCS1_PSS_PADDING) > 0);
	CHECK(X509_sign_ctx(certificate, context) > 0);
	EVP_MD_CTX_free(context);
	return certificate;
}

static void
hashes_as(EVP_PKEY *key, const char *digest, bool is_pss, const char *wanted)
{
	X509 *certificate = make_certificate(key, digest, is_pss);
	unsigned char hash[EVP_MAX_MD_SIZE], expected[EVP_MAX_MD_SIZE];
	unsigned n;

	CHECK(X509_digest(certificate, EVP_get_digestbyname(wanted), expected,
		  &n) == 1);
	CHECK(relay_tls_hash_certificate(certificate, hash) == n);
	CHECK(memcmp(hash, expected, n) == 0);
	X509_free(certificate);
}

int
main(void)
{
	static const char *const digests[][2] = { { "MD5", "SHA256" },
		{ "SHA1", "SHA256" }, { "SHA224", "SHA224" },
		{ "SHA256", "SHA256" }, { "SHA384", "SHA384" },
		{ "SHA512", "SHA512" } };
	EVP_PKEY *rsa = EVP_RSA_gen(2048), *ec = EVP_EC_gen("P-256"),
		 *ed25519 = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");

	CHECK(rsa != NULL && ec != NULL && ed25519 != NULL);
	for (size_t i = 0; i < sizeof(digests) / sizeof(digests[0]); i++) {
		hashes_as(rsa, digests[i][0], false, digests[i][1]);
		/* The other signatures do not exist with MD5. */
		if (i == 0)
			continue;
		hashes_as(rsa, digests[i][0], true, digests[i][1]);
		hashes_as(ec, digests[i][0], false, digests[i][1]);
	}
	/* RFC 5929 leaves this hash undefined. */
	hashes_as(ed25519, NULL, false, "SHA256");
	EVP_PKEY_free(rsa);
	EVP_PKEY_free(ec);
	EVP_PKEY_free(ed25519);
	return 0;
}
