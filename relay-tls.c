/*
 * Encrypts and decrypts a connection by TLS.
 *
 * Runs in kpopd-tls and in kpopc. kpopd-tls prepares the context as root, and
 * then runs as the TLS user in a jail. kpopc runs as the caller. OpenSSL gets
 * the bytes of the network in memory and has no socket. The peer is not
 * trusted; OpenSSL is trusted.
 */
#include "config.h"

#include <openssl/err.h>
#include <stdlib.h>
#include <string.h>

#include "relay-tls.h"

/*
 * The suites of TLS 1.2 with forward secrecy and AEAD. All suites of TLS 1.3
 * have both.
 */
#define CIPHERS "ECDHE+AESGCM:ECDHE+CHACHA20"
/* Bytes of a cipher list, at most. -C permits fewer (TLS_CIPHERS_MOST). */
#define LIST_MOST 2048
#define SEPARATORS ":,; " /* between words of a cipher list, as for OpenSSL */

void
relay_tls_keep_error(struct relay_tls *t)
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

/* Appends the bytes that OpenSSL wants to send. Returns 0 or -1. */
static int
collect_output(struct relay_tls *t, struct relay_buffer *wrapped)
{
	char data[RELAY_PIECE];
	int n;

	while ((n = BIO_read(t->out, data, sizeof(data))) > 0)
		if (relay_put(wrapped, data, (size_t)n) == -1)
			return -1;
	return 0;
}

/*
 * Records why the last call of OpenSSL, which has returned `result`, did not
 * succeed. Returns true for an error. Returns false if the peer has sent
 * close_notify, or if OpenSSL waits for more bytes.
 */
static bool
note_failure(struct relay_tls *t, int result)
{
	int error = SSL_get_error(t->ssl, result);

	t->is_closed |= error == SSL_ERROR_ZERO_RETURN;
	if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE ||
	    t->is_closed)
		return false;
	relay_tls_keep_error(t);
	return true;
}

unsigned
relay_tls_hash_certificate(X509 *certificate,
    unsigned char hash[EVP_MAX_MD_SIZE])
{
	/*
	 * RFC 5929 specifies the hash function of the certificate's signature,
	 * but SHA-256 in place of MD5 and SHA-1. The parameters of an
	 * RSASSA-PSS signature name its hash function.
	 */
	const EVP_MD *digest = EVP_sha256();
	int nid = NID_undef;
	unsigned n = 0;

	if (X509_get_signature_info(certificate, &nid, NULL, NULL, NULL) == 1 &&
	    nid != NID_undef && nid != NID_md5 && nid != NID_sha1 &&
	    EVP_get_digestbynid(nid) != NULL)
		digest = EVP_get_digestbynid(nid);
	return X509_digest(certificate, digest, hash, &n) == 1 ? n : 0;
}

int
relay_tls_restrict(SSL_CTX *context)
{
	SSL_CTX_set_options(context,
	    SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
	/* openssl.cnf may demand a newer version. */
	if (SSL_CTX_get_min_proto_version(context) < TLS1_2_VERSION &&
	    SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION) != 1)
		return -1;
	return SSL_CTX_set_cipher_list(context, CIPHERS) == 1 ? 0 : -1;
}

/* Returns true if a word of a cipher list names a suite of TLS 1.3. */
static bool
is_of_tls13(const char *word)
{
	return strncmp(word, "TLS_", 4) == 0;
}

/* Returns true if OpenSSL has this suite of TLS 1.3. */
static bool
has_suite(SSL_CTX *scratch, const char *word)
{
	const STACK_OF(SSL_CIPHER) *suites;

	if (SSL_CTX_set_ciphersuites(scratch, word) != 1)
		return false;
	/* OpenSSL ignores a suite that it does not have. */
	suites = SSL_CTX_get_ciphers(scratch);
	for (int i = 0; i < sk_SSL_CIPHER_num(suites); i++)
		if (strcmp(SSL_CIPHER_get_name(sk_SSL_CIPHER_value(suites, i)),
			word) == 0)
			return true;
	return false;
}

/*
 * Returns true if this word of a cipher list names at least one suite that
 * OpenSSL has, also after "!", "-" or "+". Also returns true if the word is a
 * command. Each word is tried alone, because OpenSSL ignores unknown words of a
 * longer list.
 */
static bool
has_word(SSL_CTX *scratch, const char *word)
{
	if (is_of_tls13(word))
		return has_suite(scratch, word);
	word += strspn(word, "!-+");
	/* A command, such as @SECLEVEL, is checked with the whole list. */
	return *word == '@' || SSL_CTX_set_cipher_list(scratch, word) == 1;
}

const char *
relay_tls_set_ciphers(SSL_CTX *context, const char *list)
{
	/* Static, because a word of the copy is returned. */
	static char copy[LIST_MOST];
	static char tls12[LIST_MOST + 1], tls13[LIST_MOST + 1];
	char *rest = copy, *word;
	SSL_CTX *scratch;

	if (strlcpy(copy, list, sizeof(copy)) >= sizeof(copy))
		return list;
	if ((scratch = SSL_CTX_new(TLS_method())) == NULL)
		return "for lack of memory";
	tls12[0] = tls13[0] = '\0';
	while ((word = strsep(&rest, SEPARATORS)) != NULL) {
		char *to = is_of_tls13(word) ? tls13 : tls12;

		if (*word == '\0')
			continue;
		if (!has_word(scratch, word))
			break;
		strlcat(to, word, sizeof(tls12));
		strlcat(to, ":", sizeof(tls12));
	}
	SSL_CTX_free(scratch);
	if (word != NULL)
		return word;
	if ((*tls12 == '\0' && *tls13 == '\0') ||
	    (*tls12 != '\0' && SSL_CTX_set_cipher_list(context, tls12) != 1) ||
	    (*tls13 != '\0' && SSL_CTX_set_ciphersuites(context, tls13) != 1))
		return list;
	return NULL;
}

int
relay_tls_start(struct relay_tls *t, SSL_CTX *context, bool server)
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
relay_tls_shake_hands(struct relay_tls *t, struct relay_buffer *wrapped)
{
	int result = SSL_do_handshake(t->ssl);
	int failure = result != 1 && note_failure(t, result) ? -1 : 0;

	if (result == 1) {
		t->is_established = true;
		if (t->on_established != NULL)
			t->on_established(t);
	}
	/*
	 * After a failure these bytes may be an alert, which gives the peer the
	 * reason.
	 */
	return collect_output(t, wrapped) == -1 ? -1 : failure;
}

static int
tls_decrypt(void *state, const char *data, size_t n,
    struct relay_buffer *cleartext, struct relay_buffer *wrapped)
{
	struct relay_tls *t = state;
	char text[RELAY_PIECE];
	int got = 0, failure = 0;

	if (BIO_write(t->in, data, (int)n) != (int)n ||
	    (!t->is_established && relay_tls_shake_hands(t, wrapped) == -1))
		return -1;
	while (failure == 0 && t->is_established &&
	    (got = SSL_read(t->ssl, text, sizeof(text))) > 0) {
		t->has_data = true;
		failure = relay_put(cleartext, text, (size_t)got);
	}
	if (failure == 0 && t->is_established && note_failure(t, got))
		failure = -1;
	if (collect_output(t, wrapped) == -1 || failure == -1)
		return -1;
	return t->is_closed ? RELAY_END : 0;
}

static int
tls_encrypt(void *state, const char *data, size_t n,
    struct relay_buffer *wrapped)
{
	struct relay_tls *t = state;

	if (!t->is_established || SSL_write(t->ssl, data, (int)n) != (int)n) {
		relay_tls_keep_error(t);
		return -1;
	}
	return collect_output(t, wrapped);
}

/*
 * Sends close_notify; otherwise the peer could not distinguish the end from a
 * truncation by an attacker.
 */
static int
tls_finish(void *state, struct relay_buffer *wrapped)
{
	struct relay_tls *t = state;

	if (t->is_established)
		SSL_shutdown(t->ssl);
	return collect_output(t, wrapped);
}

static bool
tls_is_ready(void *state)
{
	return ((const struct relay_tls *)state)->is_established;
}

static void
tls_note_client_end(void *state)
{
	((struct relay_tls *)state)->client_ended = true;
}

const struct relay_codec relay_tls_codec = { .unwrap = tls_decrypt,
	.wrap = tls_encrypt,
	.finish = tls_finish,
	.is_ready = tls_is_ready,
	.note_client_end = tls_note_client_end };
