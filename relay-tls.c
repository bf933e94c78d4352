/*
 * TLS as a codec for relay.c.
 *
 * Runs in kpopd-tls, jailed, and in kpopc. The bytes of the network go through
 * OpenSSL's memory: the sockets are the pump's. The peer is not trusted;
 * OpenSSL is.
 */
#include "config.h"

#include <openssl/err.h>
#include <stdlib.h>
#include <string.h>

#include "relay-tls.h"

/* For TLS 1.2. All suites of TLS 1.3 are of this kind. */
#define CIPHERS "ECDHE+AESGCM:ECDHE+CHACHA20"
#define LIST_MOST 2048 /* bytes of a cipher list; an option has fewer (TLS_CIPHERS_MOST) */
#define SEPARATORS ":,; "

void
relay_tls_remember_error(struct tls *t)
{
	unsigned long error = ERR_peek_last_error();

	if (error != 0 && ERR_GET_LIB(error) == ERR_LIB_SSL)
		t->reason = ERR_GET_REASON(error);
	if (error != 0)
		ERR_error_string_n(error, t->error, sizeof(t->error));
	else if (t->error[0] == '\0')
		strlcpy(t->error, "unexpected end", sizeof(t->error));
	ERR_clear_error();
}

/* What OpenSSL wants to send. */
static int
collect(struct tls *t, struct relay_buffer *sealed)
{
	char data[RELAY_PIECE];
	int n;

	while ((n = BIO_read(t->out, data, sizeof(data))) > 0)
		if (relay_put(sealed, data, (size_t)n) == -1)
			return -1;
	return 0;
}

/* Whether the last call's result is an error, and no mere wish for more bytes. */
static bool
is_broken(struct tls *t, int result)
{
	int error = SSL_get_error(t->ssl, result);

	t->closed |= error == SSL_ERROR_ZERO_RETURN;
	if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE || t->closed)
		return false;
	relay_tls_remember_error(t);
	return true;
}

unsigned
relay_tls_hash_certificate(const X509 *certificate, unsigned char hash[EVP_MAX_MD_SIZE])
{
	/* That of the certificate's signature, but SHA-256 in place of what is weaker. */
	const EVP_MD *digest = EVP_sha256();
	int nid = NID_undef;
	unsigned n = 0;

	if (OBJ_find_sigid_algs(X509_get_signature_nid(certificate), &nid, NULL) == 1 &&
	    nid != NID_undef && nid != NID_md5 && nid != NID_sha1 &&
	    EVP_get_digestbynid(nid) != NULL)
		digest = EVP_get_digestbynid(nid);
	return X509_digest(certificate, digest, hash, &n) == 1 ? n : 0;
}

int
relay_tls_restrict(SSL_CTX *context)
{
	SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
	return SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION) == 1 &&
	    SSL_CTX_set_cipher_list(context, CIPHERS) == 1 ? 0 : -1;
}

static bool
is_of_tls13(const char *word)
{
	return strncmp(word, "TLS_", 4) == 0;
}

/* Returns true if a suite of TLS 1.3 or a word of a cipher list is known. OpenSSL itself ignores what it does not know. */
static bool
is_known(SSL_CTX *scratch, const char *word)
{
	const STACK_OF(SSL_CIPHER) *suites;

	if (!is_of_tls13(word)) {
		word += strspn(word, "!-+");
		/* Commands are checked with the whole list. */
		return *word == '@' || SSL_CTX_set_cipher_list(scratch, word) == 1;
	}
	if (SSL_CTX_set_ciphersuites(scratch, word) != 1)
		return false;
	suites = SSL_CTX_get_ciphers(scratch);
	for (int i = 0; i < sk_SSL_CIPHER_num(suites); i++)
		if (strcmp(SSL_CIPHER_get_name(sk_SSL_CIPHER_value(suites, i)), word) == 0)
			return true;
	return false;
}

const char *
relay_tls_set_ciphers(SSL_CTX *context, const char *list)
{
	/* Static, because a word of the copy is returned. */
	static char copy[LIST_MOST], old[LIST_MOST + 1], new[LIST_MOST + 1]; /* suites of TLS 1.2, and of 1.3 */
	char *rest = copy, *word;
	SSL_CTX *scratch;

	if (strlcpy(copy, list, sizeof(copy)) >= sizeof(copy))
		return list;
	if ((scratch = SSL_CTX_new(TLS_method())) == NULL)
		return "for lack of memory";
	old[0] = new[0] = '\0';
	while ((word = strsep(&rest, SEPARATORS)) != NULL) {
		char *to = is_of_tls13(word) ? new : old;

		if (*word == '\0')
			continue;
		if (!is_known(scratch, word))
			break;
		strlcat(to, word, sizeof(old));
		strlcat(to, ":", sizeof(old));
	}
	SSL_CTX_free(scratch);
	if (word != NULL)
		return word;
	if ((*old == '\0' && *new == '\0') || (*old != '\0' && SSL_CTX_set_cipher_list(context, old) != 1) ||
	    (*new != '\0' && SSL_CTX_set_ciphersuites(context, new) != 1))
		return list;
	return NULL;
}

int
relay_tls_start(struct tls *t, SSL_CTX *context, bool server)
{
	t->ssl = SSL_new(context);
	t->in = BIO_new(BIO_s_mem());
	t->out = BIO_new(BIO_s_mem());
	if (t->ssl == NULL || t->in == NULL || t->out == NULL)
		return -1;
	SSL_set_bio(t->ssl, t->in, t->out);
	if (server)
		SSL_set_accept_state(t->ssl);
	else
		SSL_set_connect_state(t->ssl);
	return 0;
}

int
relay_tls_shake_hands(struct tls *t, struct relay_buffer *sealed)
{
	int result = SSL_do_handshake(t->ssl);
	int failure = result != 1 && is_broken(t, result) ? -1 : 0;

	if (result == 1) {
		t->shaken = true;
		if (t->greet != NULL)
			t->greet(t);
	}
	/* An alert that says why is for the peer, too. */
	return collect(t, sealed) == -1 ? -1 : failure;
}

static int
tls_open(void *state, const char *data, size_t n, struct relay_buffer *plain,
    struct relay_buffer *sealed)
{
	struct tls *t = state;
	char text[RELAY_PIECE];
	int got = 0, failure = 0;

	if (BIO_write(t->in, data, (int)n) != (int)n ||
	    (!t->shaken && relay_tls_shake_hands(t, sealed) == -1))
		return -1;
	while (failure == 0 && t->shaken &&
	    (got = SSL_read(t->ssl, text, sizeof(text))) > 0) {
		t->heard = true;
		failure = relay_put(plain, text, (size_t)got);
	}
	if (failure == 0 && t->shaken && is_broken(t, got))
		failure = -1;
	if (collect(t, sealed) == -1 || failure == -1)
		return -1;
	return t->closed ? RELAY_END : 0;
}

static int
tls_seal(void *state, const char *data, size_t n, struct relay_buffer *sealed)
{
	struct tls *t = state;

	if (!t->shaken || SSL_write(t->ssl, data, (int)n) != (int)n) {
		relay_tls_remember_error(t);
		return -1;
	}
	return collect(t, sealed);
}

/* close_notify, so that the peer knows that nothing was cut off. */
static int
tls_finish(void *state, struct relay_buffer *sealed)
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

static void
tls_left(void *state)
{
	((struct tls *)state)->left = true;
}

const struct relay_codec tls_codec = { tls_open, tls_seal, tls_finish, tls_ready, tls_left };
