/*
 * Loads the server's certificate and key, and allows the cipher suites.
 *
 * Runs as root, in kpopd-tls before it enters its jail, and in kpopd-check. It
 * reads nothing from a client.
 */
#include "config.h"

#include <openssl/decoder.h>
#include <openssl/err.h>
#include <string.h>

#include "load-tls.h"
#include "relay-tls.h"

/*
 * Keeps the step, and OpenSSL's last error. A key of another certificate is a
 * step of its own: OpenSSL may notice it while it reads the key.
 */
static void
keep_problem(struct load_tls_problem *problem, enum load_tls_step step)
{
	struct relay_tls t = { .ssl = NULL };
	unsigned long error = ERR_peek_last_error();

	if (step == LOAD_TLS_KEY && ERR_GET_LIB(error) == ERR_LIB_X509 &&
	    (ERR_GET_REASON(error) == X509_R_KEY_VALUES_MISMATCH ||
		ERR_GET_REASON(error) == X509_R_KEY_TYPE_MISMATCH))
		step = LOAD_TLS_MATCH;
	problem->step = step;
	relay_tls_keep_error(&t);
	strlcpy(problem->error, t.error, sizeof(problem->error));
}

/*
 * Refuses to give a passphrase, because a server has no terminal to ask for
 * one.
 */
static int
refuse_passphrase(char *to, int size, int writing, void *unused)
{
	(void)to, (void)size, (void)writing, (void)unused;
	return -1;
}

/*
 * Allows the cipher suites of -C. Returns 0, or -1 with *problem. Any other
 * list would not be the administrator's choice.
 */
static int
set_ciphers(SSL_CTX *context, const char *list,
    struct load_tls_problem *problem)
{
	const char *wrong;

	if (*list == '\0' ||
	    (wrong = relay_tls_set_ciphers(context, list)) == NULL)
		return 0;
	problem->step = LOAD_TLS_CIPHERS;
	strlcpy(problem->error, wrong, sizeof(problem->error));
	return -1;
}

/* Sets what does not depend on the certificate. Returns 0 or -1. */
static int
set_context(SSL_CTX *context, const char *ciphers,
    struct load_tls_problem *problem)
{
	if (context == NULL || relay_tls_restrict(context) == -1) {
		keep_problem(problem, LOAD_TLS_OPENSSL);
		return -1;
	}
	SSL_CTX_set_options(context,
	    SSL_OP_NO_TICKET | SSL_OP_CIPHER_SERVER_PREFERENCE);
	/* For suites with DHE, which -C may name. */
	SSL_CTX_set_dh_auto(context, 1);
	SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_num_tickets(context, 0);
	SSL_CTX_set_default_passwd_cb(context, refuse_passphrase);
	return set_ciphers(context, ciphers, problem);
}

/*
 * Decodes the first PEM block of the file, if it is a key of this type without
 * a passphrase. Returns it, or NULL.
 */
static EVP_PKEY *
decode_key(const char *path, const char *type)
{
	EVP_PKEY *key = NULL;
	BIO *file = BIO_new_file(path, "r");
	OSSL_DECODER_CTX *decoder = OSSL_DECODER_CTX_new_for_pkey(&key, "PEM",
	    NULL, type, EVP_PKEY_KEYPAIR, NULL, NULL);

	if (file != NULL && decoder != NULL &&
	    OSSL_DECODER_CTX_set_pem_password_cb(decoder, refuse_passphrase,
		NULL) == 1)
		OSSL_DECODER_from_bio(decoder, file);
	OSSL_DECODER_CTX_free(decoder);
	BIO_free(file);
	return key;
}

/*
 * Reads the key. Returns true if OpenSSL takes it with the certificate.
 *
 * First expects the key to have the certificate's type, because OpenSSL takes
 * much longer to prepare for keys of all types. If that fails, lets OpenSSL
 * read the file in its own way, which accepts more kinds of files and records
 * the reason for a failure.
 */
static bool
use_key(SSL_CTX *context, const char *path)
{
	X509 *certificate = SSL_CTX_get0_certificate(context);
	EVP_PKEY *key = decode_key(path,
	    EVP_PKEY_get0_type_name(X509_get0_pubkey(certificate)));
	bool is_used = key != NULL && SSL_CTX_use_PrivateKey(context, key) == 1;

	EVP_PKEY_free(key);
	ERR_clear_error();
	return is_used ||
	    SSL_CTX_use_PrivateKey_file(context, path, SSL_FILETYPE_PEM) == 1;
}

/* Reads the two files. Returns 0, or -1 with *problem. */
static int
read_files(SSL_CTX *context, const char *certificate, const char *key,
    struct load_tls_problem *problem)
{
	if (SSL_CTX_use_certificate_chain_file(context, certificate) != 1)
		keep_problem(problem, LOAD_TLS_CERTIFICATE);
	else if (!use_key(context, key))
		keep_problem(problem, LOAD_TLS_KEY);
	else if (SSL_CTX_check_private_key(context) != 1)
		keep_problem(problem, LOAD_TLS_MATCH);
	else
		return 0;
	return -1;
}

SSL_CTX *
load_tls(const char *certificate, const char *key, const char *ciphers,
    struct load_tls_problem *problem)
{
	SSL_CTX *context;

	/*
	 * TLS fetches its ciphers by itself, so no table of their names is
	 * necessary. The kernel frees the memory of a process that ends, and is
	 * faster than OpenSSL. OpenSSL still reads openssl.cnf.
	 */
	OPENSSL_init_crypto(OPENSSL_INIT_NO_ADD_ALL_CIPHERS |
		OPENSSL_INIT_NO_ATEXIT,
	    NULL);
	context = SSL_CTX_new(TLS_server_method());
	if (set_context(context, ciphers, problem) == 0 &&
	    read_files(context, certificate, key, problem) == 0)
		return context;
	SSL_CTX_free(context);
	return NULL;
}
