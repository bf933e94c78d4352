/*
 * TLS on one side, plain text on the other: a program of its own, one process for each TLS connection.
 *
 * Started by the monitor as root with the client on fd 0, the plain side on
 * fd 1 and the channel to the monitor on LAYER_CHANNEL; reads certificate and key, then shuts itself into an empty directory
 * as a user of its own, and only then looks at the client. It has the TLS key
 * and this connection's plain text, and neither the service's key nor a file.
 * Being a program of its own it also keeps OpenSSL, whose start costs more
 * than a whole plain login, out of kpopd.
 *
 * When it is ready it says so on the plain side, in one byte with the size of
 * what follows: the hash of its certificate, for channel bindings (RFC 5929
 * §4.1). The client may speak when the pre-auth process has told it so.
 *
 * TLS 1.2 and 1.3, without renegotiation, compression and resumption: a
 * process that serves one connection has nobody to resume. Cipher suites have
 * forward secrecy and AEAD unless -C says otherwise.
 */
#include "config.h"

#include <sys/socket.h>
#include <sys/stat.h>

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "layer.h"
#include "log.h"
#include "options.h"
#include "privsep.h"
#include "sandbox.h"
#include "relay-tls.h"

/* Logs what OpenSSL could not do. */
static void
complain(const char *what)
{
	struct tls t = { .ssl = NULL };
	struct log_text words;

	relay_tls_remember_error(&t);
	log_event(LOG_ERR, "failed", "what=\"%s\" error=\"%s\"", what,
	    log_words(&words, t.error));
}

/* A key that asks for a passphrase has nobody to ask. */
static int
no_passphrase(char *to, int size, int writing, void *unused)
{
	(void)to, (void)size, (void)writing, (void)unused;
	return -1;
}

/* Allows the cipher suites that -C names. A bad list is fatal, because any other one would not be what the administrator wants. */
static void
set_ciphers(SSL_CTX *context, const char *list)
{
	struct log_text words;
	const char *wrong = relay_tls_set_ciphers(context, list);

	if (wrong == NULL)
		return;
	log_event(LOG_ERR, "fatal", "error=\"-C: OpenSSL has no cipher suites %s\"", log_words(&words, wrong));
	exit(TLS_BAD_CIPHERS);
}

/* Loads certificate, chain and key. Returns NULL, and has logged why, when they do not work. */
static SSL_CTX *
load(const char *certificate, const char *key, const char *ciphers)
{
	SSL_CTX *context = SSL_CTX_new(TLS_server_method());
	const char *what = NULL;

	if (context == NULL || relay_tls_restrict(context) == -1) {
		complain("starting OpenSSL");
		return NULL;
	}
	if (*ciphers != '\0')
		set_ciphers(context, ciphers);
	SSL_CTX_set_options(context, SSL_OP_NO_TICKET | SSL_OP_CIPHER_SERVER_PREFERENCE);
	/* For suites with DHE, which -C may name. */
	SSL_CTX_set_dh_auto(context, 1);
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
	complain(what);
	SSL_CTX_free(context);
	return NULL;
}

static void
log_handshake(struct tls *t)
{
	log_event(LOG_INFO, "tls", "version=%s cipher=%s",
	    SSL_get_version(t->ssl), SSL_get_cipher_name(t->ssl));
}

/* Says that all is well, and the certificate's hash. */
static void
report_ready(SSL_CTX *context)
{
	unsigned char message[1 + EVP_MAX_MD_SIZE];

	message[0] = (unsigned char)relay_tls_hash_certificate(
	    SSL_CTX_get0_certificate(context), message + 1);
	if (write(1, message, 1 + message[0]) != 1 + message[0])
		fatal("telling the pre-auth process");
}

/*
 * Returns our words for what ended a connection, or NULL if OpenSSL's have to do. None of the client's bytes are in either.
 *
 * A client can send each of these alerts, and cleartext, at any time. But one that has
 * spoken inside TLS has taken the certificate, and after the handshake there was TLS.
 */
static const char *
explain(const struct tls *t)
{
	static const struct {
		int reason;
		const char *words;
	} certificate[] = {
#define REFUSED "the client does not take the certificate: "
		{ SSL_R_SSLV3_ALERT_BAD_CERTIFICATE, REFUSED "bad_certificate" },
		{ SSL_R_SSLV3_ALERT_UNSUPPORTED_CERTIFICATE, REFUSED "unsupported_certificate" },
		{ SSL_R_SSLV3_ALERT_CERTIFICATE_REVOKED, REFUSED "certificate_revoked" },
		{ SSL_R_SSLV3_ALERT_CERTIFICATE_EXPIRED, REFUSED "certificate_expired" },
		{ SSL_R_SSLV3_ALERT_CERTIFICATE_UNKNOWN, REFUSED "certificate_unknown" },
		{ SSL_R_TLSV1_ALERT_UNKNOWN_CA, REFUSED "unknown_ca" },
		{ SSL_R_TLSV1_BAD_CERTIFICATE_STATUS_RESPONSE, REFUSED "bad_certificate_status_response" },
	};

	for (size_t i = 0; !t->heard && i < sizeof(certificate) / sizeof(certificate[0]); i++)
		if (certificate[i].reason == t->reason)
			return certificate[i].words;
	return !t->shaken && (t->reason == SSL_R_WRONG_VERSION_NUMBER || t->reason == SSL_R_HTTP_REQUEST ||
	    t->reason == SSL_R_HTTPS_PROXY_REQUEST) ? "cleartext, not TLS" : NULL;
}

/*
 * Lets OpenSSL read what a client has sent before it reset the connection, for
 * the log alone: the alert that says why is there, and the pump passes nothing
 * on of a dead client. What else it contains is dropped.
 */
static void
read_last_alert(struct tls *t)
{
	static struct relay_buffer plain, sealed;
	char data[RELAY_PIECE];
	ssize_t n;

	while ((n = recv(0, data, sizeof(data), MSG_DONTWAIT)) > 0)
		if (tls_codec.open(t, data, (size_t)n, &plain, &sealed) != 0)
			return;
}

/* Logs what ended the connection, if that was not its end in order. */
static void
log_end(const struct tls *t, bool is_lost)
{
	const char *words = explain(t);
	struct log_text error;

	/* GnuTLS' clients look at the certificate after the handshake, and send no alert. */
	if (words == NULL && t->error[0] == '\0' && t->shaken && !t->heard && (is_lost || t->closed || t->left))
		words = "closed after the handshake, as by a client that does not take the certificate";
	if (words != NULL)
		log_event(LOG_NOTICE, "refused", "reason=\"%s\"", words);
	else if (t->error[0] != '\0')
		log_event(LOG_NOTICE, t->shaken ? "failed" : "refused", "%s error=\"%s\"",
		    t->shaken ? "what=\"TLS\"" : "reason=\"TLS handshake\"", log_words(&error, t->error));
}

int
main(int argc, char **argv)
{
	static struct account account;
	static struct tls t;
	const char *refusal;
	SSL_CTX *context;
	bool is_lost;

	/* Started by kpopd alone: CERTIFICATE KEY CIPHERS, and unless they are only to be tried, USER STATE. */
	if (argc != 4 && argc != 6) {
		fprintf(stderr, "kpopd-tls: started by kpopd(8)\n");
		return 1;
	}
	if (argc == 4)
		log_open("kpopd-tls");
	else
		log_through(LAYER_CHANNEL);
	signal(SIGPIPE, SIG_IGN);
	if ((context = load(argv[1], argv[2], argv[3])) == NULL)
		return 1;
	if (argc == 4)
		return 0;
	if ((refusal = account_find(argv[4], NULL, &account)) != NULL) {
		log_event(LOG_ERR, "fatal", "error=\"kpopd-tls's user cannot be used: %s\"", refusal);
		return 1;
	}
	privsep_make_jail(argv[5], "tls");
	privsep_jail(argv[5], "tls", &account);
	sandbox_shut_files(NULL, 0);
	sandbox_enter(SANDBOX_TLS);
	t.greet = log_handshake;
	if (relay_tls_start(&t, context, true) == -1)
		fatal("memory for TLS");
	report_ready(context);
	is_lost = pump(0, 1, 1, RELAY_SERVER, &tls_codec, &t, NULL, 0) == -1;
	if (is_lost && t.error[0] == '\0')
		read_last_alert(&t);
	log_end(&t, is_lost);
	return is_lost ? 1 : 0;
}
