/*
 * TLS on one side, plain text on the other: a program of its own, one process for each TLS connection.
 *
 * Started by the monitor as root with the client on fd 0 and the plain side on
 * fd 1; reads certificate and key, then shuts itself into an empty directory
 * as a user of its own, and only then looks at the client. It has the TLS key
 * and this connection's plain text, and neither the service's key nor a file.
 * Being a program of its own it also keeps OpenSSL, whose start costs more
 * than a whole plain login, out of kpopd.
 *
 * When it is ready it says so on the plain side, in one octet with the size of
 * what follows: the hash of its certificate, for channel bindings (RFC 5929
 * §4.1). The client may speak when the gate has told it so.
 *
 * TLS 1.2 and 1.3, without renegotiation, compression and resumption: a
 * process that serves one connection has nobody to resume.
 */
#include "config.h"

#include <sys/stat.h>

#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "log.h"
#include "privsep.h"
#include "pump.h"

/* Says what OpenSSL has to complain about, and forgets it. */
static void
complain(int priority, const char *event, const char *what)
{
	struct log_text t;
	char text[256] = "";
	unsigned long error = ERR_peek_last_error();

	if (error != 0)
		ERR_error_string_n(error, text, sizeof(text));
	log_event(priority, event, "%s=\"%s\" error=\"%s\"",
	    strcmp(event, "refused") == 0 ? "reason" : "what", what, log_words(&t, text));
	ERR_clear_error();
}

/* A key that asks for a passphrase has nobody to ask. */
static int
no_passphrase(char *to, int size, int writing, void *unused)
{
	(void)to, (void)size, (void)writing, (void)unused;
	return -1;
}

/* Loads certificate, chain and key. Returns NULL, and has logged why, when they do not work. */
static SSL_CTX *
load(const char *certificate, const char *key)
{
	SSL_CTX *context = SSL_CTX_new(TLS_server_method());
	const char *what = NULL;

	if (context == NULL || SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION) != 1) {
		complain(LOG_ERR, "failed", "starting OpenSSL");
		return NULL;
	}
	SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
	    SSL_OP_NO_TICKET | SSL_OP_CIPHER_SERVER_PREFERENCE);
	SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_num_tickets(context, 0);
	SSL_CTX_set_default_passwd_cb(context, no_passphrase);
	if (SSL_CTX_use_certificate_chain_file(context, certificate) != 1)
		what = "reading the certificate";
	else if (SSL_CTX_use_PrivateKey_file(context, key, SSL_FILETYPE_PEM) != 1)
		what = "reading the certificate's key";
	else if (SSL_CTX_check_private_key(context) != 1)
		what = "the key is not the certificate's";
	if (what == NULL)
		return context;
	complain(LOG_ERR, "failed", what);
	SSL_CTX_free(context);
	return NULL;
}

/* The hash that binds the inner authentication to this certificate: SHA-256 in place of what is weaker. */
static unsigned
hash_certificate(SSL_CTX *context, unsigned char hash[EVP_MAX_MD_SIZE])
{
	const X509 *certificate = SSL_CTX_get0_certificate(context);
	const EVP_MD *digest = EVP_sha256();
	int nid = NID_undef;
	unsigned n = 0;

	if (OBJ_find_sigid_algs(X509_get_signature_nid(certificate), &nid, NULL) == 1 &&
	    nid != NID_undef && nid != NID_md5 && nid != NID_sha1 &&
	    EVP_get_digestbynid(nid) != NULL)
		digest = EVP_get_digestbynid(nid);
	return X509_digest(certificate, digest, hash, &n) == 1 ? n : 0;
}

/* The octets of the network go through OpenSSL's memory: pump.c has the sockets. */
struct tls {
	SSL *ssl;
	BIO *in, *out;
	bool shaken;
};

/* What OpenSSL wants to send. */
static int
collect(struct tls *t, struct pump_buffer *sealed)
{
	char data[PUMP_PIECE];
	int n;

	while ((n = BIO_read(t->out, data, sizeof(data))) > 0)
		if (pump_put(sealed, data, (size_t)n) == -1)
			return -1;
	return 0;
}

/* Whether the last call's result is an error, and no mere wish for more octets. */
static bool
is_broken(const struct tls *t, int result)
{
	int error = SSL_get_error(t->ssl, result);

	return error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE &&
	    error != SSL_ERROR_ZERO_RETURN;
}

/* Goes on with the handshake. Returns 0 or -1. */
static int
shake_hands(struct tls *t)
{
	int result = SSL_accept(t->ssl);

	if (result == 1) {
		t->shaken = true;
		log_event(LOG_INFO, "tls", "version=%s cipher=%s",
		    SSL_get_version(t->ssl), SSL_get_cipher_name(t->ssl));
	} else if (is_broken(t, result)) {
		complain(LOG_NOTICE, "refused", "TLS handshake");
		return -1;
	}
	return 0;
}

static int
tls_open(void *state, const char *data, size_t n, struct pump_buffer *plain,
    struct pump_buffer *sealed)
{
	struct tls *t = state;
	char text[PUMP_PIECE];
	int got = 0, failure = 0;

	if (BIO_write(t->in, data, (int)n) != (int)n)
		return -1;
	if (!t->shaken)
		failure = shake_hands(t);
	while (failure == 0 && t->shaken &&
	    (got = SSL_read(t->ssl, text, sizeof(text))) > 0)
		failure = pump_put(plain, text, (size_t)got);
	if (failure == 0 && t->shaken && is_broken(t, got)) {
		complain(LOG_NOTICE, "failed", "TLS");
		failure = -1;
	}
	/* An alert that says why is for the client, too. */
	if (collect(t, sealed) == -1)
		failure = -1;
	return failure;
}

static int
tls_seal(void *state, const char *data, size_t n, struct pump_buffer *sealed)
{
	struct tls *t = state;

	if (!t->shaken || SSL_write(t->ssl, data, (int)n) != (int)n)
		return -1;
	return collect(t, sealed);
}

/* close_notify, so that the client knows that nothing was cut off. */
static int
tls_finish(void *state, struct pump_buffer *sealed)
{
	struct tls *t = state;

	if (t->shaken)
		SSL_shutdown(t->ssl);
	return collect(t, sealed);
}

static bool
tls_ready(void *state)
{
	return ((const struct tls *)state)->shaken;
}

static const struct pump_codec codec = { tls_open, tls_seal, tls_finish, tls_ready };

static void
start_tls(struct tls *t, SSL_CTX *context)
{
	t->ssl = SSL_new(context);
	t->in = BIO_new(BIO_s_mem());
	t->out = BIO_new(BIO_s_mem());
	if (t->ssl == NULL || t->in == NULL || t->out == NULL)
		fatal("memory for TLS");
	SSL_set_bio(t->ssl, t->in, t->out);
	SSL_set_accept_state(t->ssl);
}

/* Says that all is well, and the certificate's hash. */
static void
report_ready(SSL_CTX *context)
{
	unsigned char message[1 + EVP_MAX_MD_SIZE];

	message[0] = (unsigned char)hash_certificate(context, message + 1);
	if (write(1, message, 1 + message[0]) != 1 + message[0])
		fatal("telling the gate");
}

int
main(int argc, char **argv)
{
	static struct account account;
	static struct tls t;
	const char *refusal;
	SSL_CTX *context;

	log_open("kpopd-tls");
	/* Started by kpopd alone: CERTIFICATE KEY, and unless they are only to be tried, USER STATE PEER. */
	if (argc != 3 && argc != 6) {
		fprintf(stderr, "kpopd-tls: started by kpopd(8)\n");
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	if (argc == 6)
		log_peer(argv[5]);
	if ((context = load(argv[1], argv[2])) == NULL)
		return 1;
	if (argc == 3)
		return 0;
	if ((refusal = account_find(argv[3], 1, &account)) != NULL) {
		log_event(LOG_ERR, "fatal", "error=\"kpopd-tls's user cannot be used: %s\"", refusal);
		return 1;
	}
	privsep_make_jail(argv[4], "tls", NULL);
	privsep_jail(argv[4], "tls", &account);
	start_tls(&t, context);
	report_ready(context);
	return pump(0, 1, 1, &codec, &t, NULL, 0) == 0 ? 0 : 1;
}
