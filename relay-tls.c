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

/*
 * Gives OpenSSL up to n of the next bytes from the peer. Returns their number.
 * If none are left, returns -1, and OpenSSL waits for the next piece.
 */
static int
read_input(BIO *bio, char *data, int n)
{
	struct relay_tls *t = BIO_get_data(bio);
	size_t some = t->in_size < (size_t)n ? t->in_size : (size_t)n;

	BIO_clear_retry_flags(bio);
	if (some == 0) {
		BIO_set_retry_read(bio);
		return -1;
	}
	memcpy(data, t->in, some);
	t->in += some;
	t->in_size -= some;
	return (int)some;
}

/*
 * Appends the n bytes that OpenSSL sends to the buffer for the peer. Returns n,
 * or -1 if there is no room.
 */
static int
write_output(BIO *bio, const char *data, int n)
{
	const struct relay_tls *t = BIO_get_data(bio);

	BIO_clear_retry_flags(bio);
	return relay_put(t->out, data, (size_t)n) == 0 ? n : -1;
}

/* Reports to OpenSSL that its output is flushed. Obeys no other command. */
static long
control(BIO *bio, int command, long number, void *argument)
{
	(void)bio, (void)number, (void)argument;
	return command == BIO_CTRL_FLUSH ? 1 : 0;
}

/* Makes the BIO of a connection. Returns NULL if no memory is left. */
static BIO *
make_bio(struct relay_tls *t)
{
	static BIO_METHOD *method;
	BIO *bio;

	if (method == NULL &&
	    ((method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK,
		  "relay")) == NULL ||
		BIO_meth_set_read(method, read_input) != 1 ||
		BIO_meth_set_write(method, write_output) != 1 ||
		BIO_meth_set_ctrl(method, control) != 1))
		return NULL;
	if ((bio = BIO_new(method)) == NULL)
		return NULL;
	BIO_set_data(bio, t);
	BIO_set_init(bio, 1);
	return bio;
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
	BIO *bio = make_bio(t);

	t->ssl = SSL_new(context);
	if (t->ssl == NULL || bio == NULL)
		return -1;
	SSL_set_bio(t->ssl, bio, bio);
	if (server)
		SSL_set_accept_state(t->ssl);
	else
		SSL_set_connect_state(t->ssl);
	return 0;
}

int
relay_tls_shake_hands(struct relay_tls *t, struct relay_buffer *wrapped)
{
	int result;

	/*
	 * If the handshake fails, an alert is put into this buffer, too. It
	 * gives the peer the reason.
	 */
	t->out = wrapped;
	result = SSL_do_handshake(t->ssl);
	if (result != 1)
		return note_failure(t, result) ? -1 : 0;
	t->is_established = true;
	if (t->on_established != NULL)
		t->on_established(t);
	return 0;
}

/*
 * Decrypts the next record into the free part of *cleartext. Returns the number
 * of its bytes. Returns 0 or less if there is no whole record, or no room.
 */
static int
decrypt_record(struct relay_tls *t, struct relay_buffer *cleartext)
{
	int got = SSL_read(t->ssl, cleartext->data + cleartext->end,
	    (int)(RELAY_ROOM - cleartext->end));

	if (got <= 0)
		return got;
	t->has_data = true;
	cleartext->end += (size_t)got;
	return got;
}

static int
tls_decrypt(void *state, const char *data, size_t n,
    struct relay_buffer *cleartext, struct relay_buffer *wrapped)
{
	struct relay_tls *t = state;
	int got;

	t->in = data;
	t->in_size = n;
	t->out = wrapped;
	if (!t->is_established && relay_tls_shake_hands(t, wrapped) == -1)
		return -1;
	if (!t->is_established)
		return 0;
	while ((got = decrypt_record(t, cleartext)) > 0)
		;
	if (note_failure(t, got))
		return -1;
	return t->is_closed ? RELAY_END : 0;
}

static int
tls_encrypt(void *state, const char *data, size_t n,
    struct relay_buffer *wrapped)
{
	struct relay_tls *t = state;

	t->out = wrapped;
	if (t->is_established && SSL_write(t->ssl, data, (int)n) == (int)n)
		return 0;
	relay_tls_keep_error(t);
	return -1;
}

/*
 * Sends close_notify; otherwise the peer could not distinguish the end from a
 * truncation by an attacker.
 */
static int
tls_finish(void *state, struct relay_buffer *wrapped)
{
	struct relay_tls *t = state;

	t->out = wrapped;
	if (t->is_established)
		SSL_shutdown(t->ssl);
	return 0;
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

const struct relay_codec relay_tls_codec = { .piece = RELAY_PIECE,
	.unwrap = tls_decrypt,
	.wrap = tls_encrypt,
	.finish = tls_finish,
	.is_ready = tls_is_ready,
	.note_client_end = tls_note_client_end };
