/*
 * Unit tests of relay-tls.c. The codec carries all bytes in order, whatever the
 * sizes of the pieces. The hash of a certificate for channel bindings is that
 * of the certificate's signature, but SHA-256 in place of MD5 and SHA-1 (RFC
 * 5929 §4.1).
 *
 * Runs as any user.
 */
#include "config.h"

#include <openssl/rsa.h>
#include <string.h>

#include "relay-tls.h"
#include "tests/unit/check.h"

/* The two ends of a connection, and the bytes on their way to each. */
static struct relay_tls ends[2];
static struct relay_buffer ways[2];
static struct relay_buffer text; /* decrypted by either end */

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

/*
 * Starts both ends for this version of TLS. The server, ends[1], has a
 * certificate for this key.
 */
static void
start(EVP_PKEY *key, int version)
{
	SSL_CTX *contexts[2] = { SSL_CTX_new(TLS_client_method()),
		SSL_CTX_new(TLS_server_method()) };
	X509 *certificate = make_certificate(key, "SHA256", false);

	CHECK(SSL_CTX_use_certificate(contexts[1], certificate) == 1 &&
	    SSL_CTX_use_PrivateKey(contexts[1], key) == 1);
	for (int i = 0; i < 2; i++) {
		SSL_free(ends[i].ssl);
		memset(&ends[i], 0, sizeof(ends[i]));
		ways[i].at = ways[i].end = 0;
		CHECK(relay_tls_restrict(contexts[i]) == 0 &&
		    SSL_CTX_set_max_proto_version(contexts[i], version) == 1);
		CHECK(relay_tls_start(&ends[i], contexts[i], i == 1) == 0);
		SSL_CTX_free(contexts[i]);
	}
	X509_free(certificate);
	CHECK(relay_tls_shake_hands(&ends[0], &ways[1]) == 0);
}

/*
 * Gives end i the bytes that are on their way to it, in pieces of this size.
 * Returns what unwrap returns last.
 */
static int
deliver(int i, size_t piece)
{
	struct relay_buffer *way = &ways[i];
	int result = 0;

	while (result == 0 && way->at < way->end) {
		size_t n = way->end - way->at;

		n = n < piece ? n : piece;
		result = relay_tls_codec.unwrap(&ends[i], way->data + way->at,
		    n, &text, &ways[1 - i]);
		way->at += n;
	}
	way->at = way->end = 0;
	return result;
}

/* Completes the handshake, with the bytes in pieces of this size. */
static void
shake_hands(size_t piece)
{
	while (ways[0].end > 0 || ways[1].end > 0)
		for (int i = 0; i < 2; i++)
			CHECK(deliver(i, piece) == 0);
	CHECK(relay_tls_codec.is_ready(&ends[0]) &&
	    relay_tls_codec.is_ready(&ends[1]) && text.end == 0);
}

/*
 * Each end gets the bytes that the other end has sent. The client then gets the
 * server's end.
 */
static void
carries_all_bytes(size_t piece)
{
	static char data[RELAY_PIECE];

	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (char)(i * 7 + i / 251);
	for (int i = 0; i < 2; i++) {
		CHECK(relay_tls_codec.wrap(&ends[1 - i], data, sizeof(data),
			  &ways[i]) == 0);
		CHECK(relay_tls_codec.wrap(&ends[1 - i], data, 1, &ways[i]) ==
		    0);
		CHECK(deliver(i, piece) == 0 && text.end == sizeof(data) + 1);
		CHECK(memcmp(text.data, data, sizeof(data)) == 0 &&
		    text.data[sizeof(data)] == data[0]);
		text.end = 0;
	}
	CHECK(relay_tls_codec.finish(&ends[1], &ways[0]) == 0);
	CHECK(deliver(0, piece) == RELAY_END && text.end == 0);
}

/* An altered byte ends the connection, and the peer gets an alert. */
static void
refuses_an_altered_byte(void)
{
	CHECK(relay_tls_codec.wrap(&ends[0], "QUIT\r\n", 6, &ways[1]) == 0);
	ways[1].data[ways[1].end - 1] ^= 1;
	CHECK(deliver(1, RELAY_PIECE) == -1 && text.end == 0);
	CHECK(ends[1].error[0] != '\0');
	CHECK(deliver(0, RELAY_PIECE) == -1);
	CHECK(ends[0].reason == SSL_R_SSLV3_ALERT_BAD_RECORD_MAC);
}

int
main(void)
{
	static const size_t pieces[] = { 1, 5, 16384, RELAY_PIECE };
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
	for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++)
		for (size_t i = 0; i < sizeof(pieces) / sizeof(pieces[0]);
		     i++) {
			start(rsa, version);
			shake_hands(pieces[i]);
			carries_all_bytes(pieces[i]);
			start(rsa, version);
			shake_hands(pieces[i]);
			refuses_an_altered_byte();
		}
	EVP_PKEY_free(rsa);
	EVP_PKEY_free(ec);
	EVP_PKEY_free(ed25519);
	return 0;
}
