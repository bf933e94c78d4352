/*
 * Does handshakes in memory, so that OpenSSL has made the tables that a
 * handshake needs.
 *
 * Runs as the TLS user, in the jail of a kept kpopd-tls. It reads no file and
 * nothing from a client. OpenSSL looks an algorithm up when it first uses the
 * algorithm. The processes that kpopd-tls forks after these handshakes need not
 * do that.
 *
 * The handshakes use a new key. The first use of an RSA key makes the secret
 * numbers that blind its operations. If this process made them for the server's
 * key, all its children would begin with the same numbers.
 */
#include "config.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

#include "relay-tls.h"
#include "warm-tls.h"

/* The size of a new RSA key, in bits. Larger keys take the same code. */
#define RSA_BITS 2048

/*
 * Sets the size or the curve of the key that context will make, which is of the
 * kind of `like`. Returns true if that works, or if keys of this kind have
 * neither.
 */
static bool
set_size(EVP_PKEY_CTX *context, const EVP_PKEY *like)
{
	char group[64];

	if (EVP_PKEY_is_a(like, "RSA") || EVP_PKEY_is_a(like, "RSA-PSS"))
		return EVP_PKEY_CTX_set_rsa_keygen_bits(context, RSA_BITS) > 0;
	if (!EVP_PKEY_is_a(like, "EC"))
		return true;
	return EVP_PKEY_get_group_name(like, group, sizeof(group), NULL) == 1 &&
	    EVP_PKEY_CTX_set_group_name(context, group) > 0;
}

/* Returns a new key of the kind of `like`, or NULL. */
static EVP_PKEY *
make_key(const EVP_PKEY *like)
{
	EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_name(NULL,
	    EVP_PKEY_get0_type_name(like), NULL);
	EVP_PKEY *key = NULL;

	if (context == NULL || EVP_PKEY_keygen_init(context) <= 0 ||
	    !set_size(context, like) || EVP_PKEY_generate(context, &key) <= 0)
		key = NULL;
	EVP_PKEY_CTX_free(context);
	return key;
}

/* Returns a certificate for the key, signed with it, or NULL. */
static X509 *
sign_certificate(EVP_PKEY *key)
{
	X509 *c = X509_new();
	const EVP_MD *digest = EVP_sha256();

	/* The signatures of these kinds have their own hash function. */
	if (EVP_PKEY_is_a(key, "ED25519") || EVP_PKEY_is_a(key, "ED448"))
		digest = NULL;
	if (c != NULL && X509_set_version(c, X509_VERSION_3) == 1 &&
	    X509_gmtime_adj(X509_getm_notBefore(c), 0) != NULL &&
	    X509_gmtime_adj(X509_getm_notAfter(c), 3600) != NULL &&
	    X509_set_pubkey(c, key) == 1 && X509_sign(c, key, digest) > 0)
		return c;
	X509_free(c);
	return NULL;
}

/*
 * Gives each end what the other end sends, until both have nothing more to
 * send. Then passes one byte of data in each direction.
 */
static void
exchange(struct relay_tls *client, struct relay_tls *server)
{
	static struct relay_buffer to_client, to_server, cleartext;

	to_client.end = to_server.end = cleartext.end = 0;
	relay_tls_shake_hands(client, &to_server);
	while (to_server.end > 0) {
		if (relay_tls_codec.unwrap(server, to_server.data,
			to_server.end, &cleartext, &to_client) != 0)
			return;
		to_server.end = 0;
		if (to_client.end == 0)
			break;
		if (relay_tls_codec.unwrap(client, to_client.data,
			to_client.end, &cleartext, &to_server) != 0)
			return;
		to_client.end = 0;
	}
	if (relay_tls_codec.wrap(client, "", 1, &to_server) == 0)
		relay_tls_codec.unwrap(server, to_server.data, to_server.end,
		    &cleartext, &to_client);
	to_client.end = 0;
	if (relay_tls_codec.wrap(server, "", 1, &to_client) == 0)
		relay_tls_codec.unwrap(client, to_client.data, to_client.end,
		    &cleartext, &to_server);
}

/*
 * Does one handshake of this version with these two contexts. Returns true if
 * both ends have completed it.
 */
static bool
warm_version(SSL_CTX *clients, SSL_CTX *servers, int version)
{
	struct relay_tls client = { .ssl = NULL }, server = { .ssl = NULL };

	if (relay_tls_start(&client, clients, false) == 0 &&
	    relay_tls_start(&server, servers, true) == 0 &&
	    SSL_set_max_proto_version(client.ssl, version) == 1)
		exchange(&client, &server);
	SSL_free(client.ssl);
	SSL_free(server.ssl);
	return client.has_data && server.has_data;
}

bool
warm_tls(SSL_CTX *context)
{
	EVP_PKEY *own = SSL_CTX_get0_privatekey(context),
		 *key = own != NULL ? make_key(own) : NULL;
	X509 *certificate = key != NULL ? sign_certificate(key) : NULL;
	SSL_CTX *clients = SSL_CTX_new(TLS_client_method()),
		*servers = SSL_CTX_new(TLS_server_method());
	bool works = false;

	if (certificate != NULL && clients != NULL && servers != NULL &&
	    SSL_CTX_use_certificate(servers, certificate) == 1 &&
	    SSL_CTX_use_PrivateKey(servers, key) == 1) {
		SSL_CTX_set_num_tickets(servers, 0);
		works = warm_version(clients, servers, TLS1_3_VERSION);
		works &= warm_version(clients, servers, TLS1_2_VERSION);
	}
	SSL_CTX_free(clients);
	SSL_CTX_free(servers);
	X509_free(certificate);
	EVP_PKEY_free(key);
	ERR_clear_error();
	return works;
}
