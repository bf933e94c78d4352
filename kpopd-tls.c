/*
 * Serves one connection by TLS: the client on one side, cleartext on the other.
 *
 * Runs as root while it reads the certificate and the key, then as the TLS user
 * in an empty jail. It reads from the client only in the jail. It has the TLS
 * key and this connection's cleartext, but neither the service's key nor a
 * file. The monitor starts it with the client on fd 0, the cleartext side on fd
 * 1 and the channel to the monitor on LAYER_CHANNEL. It is a program of its
 * own, because OpenSSL takes longer to start than a whole login without TLS. So
 * only connections with TLS pay for OpenSSL.
 *
 * A kept kpopd-tls has started once and forks a process for each connection
 * (keep-serve.c). The process has the same rights as one that the monitor
 * starts.
 *
 * When kpopd-tls is ready, it sends the hash of its certificate to the
 * cleartext side, for channel bindings (RFC 5929 §4.1). It sends one byte with
 * the size of the hash, then the hash. The pre-auth process answers STLS only
 * after that.
 *
 * kpopd-tls offers TLS 1.2 and 1.3 without renegotiation and compression. It
 * offers no resumption, because the process serves one connection. Unless -C
 * specifies others, the cipher suites have forward secrecy and AEAD.
 */
#include "config.h"

#include <sys/socket.h>

#include <openssl/conf.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "keep-serve.h"
#include "layer.h"
#include "load-tls.h"
#include "log.h"
#include "options.h"
#include "privsep.h"
#include "process.h"
#include "relay-tls.h"
#include "sandbox.h"
#include "warm-tls.h"

/*
 * Logs why the certificate cannot be used, and ends the process. A wrong list
 * of -C has an exit status of its own, because main must not serve then: any
 * other list would not be the administrator's choice.
 */
static _Noreturn void
refuse_to_serve(const struct load_tls_problem *problem, const char *certificate,
    const char *key)
{
	struct log_text c, k, error;

	log_words(&c, certificate);
	log_words(&k, key);
	log_words(&error, problem->error);
	switch (problem->step) {
	case LOAD_TLS_OPENSSL:
		log_failed_at(LOG_ERR, error.text, "initializing OpenSSL");
		break;
	case LOAD_TLS_CIPHERS:
		log_event(LOG_ERR, "fatal",
		    "error=\"-C: OpenSSL has no cipher suites %s\"",
		    error.text);
		exit(TLS_BAD_CIPHERS);
	case LOAD_TLS_CERTIFICATE:
		log_failed_at(LOG_ERR, error.text, "reading the certificate %s",
		    c.text);
		break;
	case LOAD_TLS_KEY:
		log_failed_at(LOG_ERR, error.text, "reading the key %s",
		    k.text);
		break;
	case LOAD_TLS_MATCH:
		log_failed_at(LOG_ERR, error.text,
		    "comparing the key %s with the certificate %s", k.text,
		    c.text);
		break;
	}
	exit(1);
}

/* Logs the version and the cipher suite of the handshake. */
static void
log_handshake(struct relay_tls *t)
{
	log_event(LOG_INFO, "tls", "version=%s cipher=%s",
	    SSL_get_version(t->ssl), SSL_get_cipher_name(t->ssl));
}

/* Sends the pre-auth process the certificate's hash: TLS is ready. */
static void
send_ready(SSL_CTX *context, int cleartext)
{
	unsigned char message[1 + EVP_MAX_MD_SIZE];

	message[0] = (unsigned char)
	    relay_tls_hash_certificate(SSL_CTX_get0_certificate(context),
		message + 1);
	if (write(cleartext, message, 1 + message[0]) != 1 + message[0])
		fatal("sending the certificate's hash to the pre-auth process");
}

/* Returns true if the client has sent cleartext in place of the handshake. */
static bool
got_cleartext(const struct relay_tls *t)
{
	return !t->is_established &&
	    (t->reason == SSL_R_WRONG_VERSION_NUMBER ||
		t->reason == SSL_R_HTTP_REQUEST ||
		t->reason == SSL_R_HTTPS_PROXY_REQUEST);
}

/*
 * Returns why the connection has ended, in plain words, or NULL if there is
 * only OpenSSL's text. Neither text contains a byte from the client.
 *
 * A client can send these alerts at any time. But a client that has sent data
 * inside TLS has accepted the certificate, so its alert has another reason.
 * Likewise, an error after the handshake does not come from cleartext.
 */
static const char *
explain_tls_error(const struct relay_tls *t)
{
	static const struct {
		int reason;
		const char *words;
	} alerts[] = {
#define REFUSED "the client does not take the certificate: "
		{ SSL_R_SSLV3_ALERT_BAD_CERTIFICATE,
		    REFUSED "bad_certificate" },
		{ SSL_R_SSLV3_ALERT_UNSUPPORTED_CERTIFICATE,
		    REFUSED "unsupported_certificate" },
		{ SSL_R_SSLV3_ALERT_CERTIFICATE_REVOKED,
		    REFUSED "certificate_revoked" },
		{ SSL_R_SSLV3_ALERT_CERTIFICATE_EXPIRED,
		    REFUSED "certificate_expired" },
		{ SSL_R_SSLV3_ALERT_CERTIFICATE_UNKNOWN,
		    REFUSED "certificate_unknown" },
		{ SSL_R_TLSV1_ALERT_UNKNOWN_CA, REFUSED "unknown_ca" },
		{ SSL_R_TLSV1_BAD_CERTIFICATE_STATUS_RESPONSE,
		    REFUSED "bad_certificate_status_response" },
	};

	for (size_t i = 0;
	     !t->has_data && i < sizeof(alerts) / sizeof(alerts[0]); i++)
		if (alerts[i].reason == t->reason)
			return alerts[i].words;
	return got_cleartext(t) ? "cleartext, not TLS" : NULL;
}

/*
 * Lets OpenSSL read what the client sent before it reset the connection.
 * relay_run reads nothing from a dead client, but the log should have the
 * client's alert. Data is dropped.
 */
static void
read_last_alert(struct relay_tls *t, int client)
{
	static struct relay_buffer cleartext, wrapped;
	static char data[RELAY_PIECE];
	ssize_t n;

	while ((n = recv(client, data, sizeof(data), MSG_DONTWAIT)) > 0)
		if (relay_tls_codec.unwrap(t, data, (size_t)n, &cleartext,
			&wrapped) != 0)
			return;
}

/* Logs why the connection has ended, unless it has ended in order. */
static void
log_tls_end(const struct relay_tls *t, bool is_lost)
{
	const char *words = explain_tls_error(t);
	struct log_text error;

	/* The pre-auth process logs the end of a client that sent nothing. */
	if (BIO_number_read(SSL_get_rbio(t->ssl)) == 0)
		return;
	/*
	 * Clients that use GnuTLS verify the certificate after the handshake,
	 * and send no alert.
	 */
	if (words == NULL && t->error[0] == '\0' && t->is_established &&
	    !t->has_data && (is_lost || t->is_closed || t->client_ended))
		words = "closed after the handshake, as by a client that does "
			"not take the certificate";
	if (words != NULL)
		log_event(LOG_NOTICE, "refused", "reason=\"%s\"", words);
	else if (t->error[0] == '\0')
		return;
	else if (t->is_established)
		log_failed_at(LOG_NOTICE, log_words(&error, t->error), "TLS");
	else
		log_event(LOG_NOTICE, "refused",
		    "reason=\"TLS handshake\" error=\"%s\"",
		    log_words(&error, t->error));
}

/* As root: finds the account of the TLS user. Returns 0, or -1 (logged). */
static int
find_tls_user(const char *name, struct account *account)
{
	const char *refusal = account_find(name, NULL, account);

	if (refusal == NULL)
		return 0;
	log_event(LOG_ERR, "fatal",
	    "error=\"the user %s of kpopd-tls cannot be used: %s\"", name,
	    refusal);
	return -1;
}

/* The connection of this process. */
static struct relay_tls connection;

/*
 * Prepares OpenSSL for the connection of this process. The connection need not
 * exist yet.
 */
static void
prepare(void *context)
{
	connection.on_established = log_handshake;
	if (relay_tls_start(&connection, context, true) == -1)
		fatal("allocating memory for TLS");
}

/*
 * In the jail: lets OpenSSL serve the client, after prepare. Returns the exit
 * status: 0 if the connection has ended as TLS requires, else 1.
 */
static int
serve(SSL_CTX *context, const struct keep_ends *ends)
{
	struct relay_tls *t = &connection;
	bool is_lost;

	sandbox_enter(SANDBOX_TLS);
	send_ready(context, ends->cleartext);
	is_lost = relay_run(ends->client, ends->cleartext, ends->cleartext,
		      RELAY_SERVER, &relay_tls_codec, t, NULL, 0) == -1;
	if (is_lost && t->error[0] == '\0')
		read_last_alert(t, ends->client);
	log_tls_end(t, is_lost);
	return is_lost ? 1 : 0;
}

/* As root: serves the connection on descriptors 0 and 1. */
static int
serve_once(SSL_CTX *context, char **arguments)
{
	const char *user = arguments[3], *state = arguments[4];
	const struct keep_ends ends = {
		.client = 0, .cleartext = 1, .channel = LAYER_CHANNEL
	};
	static struct account account;

	if (find_tls_user(user, &account) == -1)
		return 1;
	privsep_make_jail(state, "tls");
	privsep_jail(state, "tls", &account);
	sandbox_shut_files(NULL, 0);
	prepare(context);
	return serve(context, &ends);
}

/*
 * As root: becomes a kept kpopd-tls, which ends at the latest when the process
 * `parent` ends (0: no process). Returns the exit status if that fails.
 */
static int
keep(SSL_CTX *context, const struct keep_setup *setup, char **arguments,
    pid_t parent)
{
	const char *user = arguments[3], *state = arguments[4];
	const struct keep_plan plan = {
		.setup = setup, .prepare = prepare, .self = context
	};
	static struct account account;
	struct keep_ends ends;

	if (find_tls_user(user, &account) == -1 || !keep_begin(state))
		return 1;
	privsep_jail_keeper(state, "tls", &account);
	if (parent != 0 && !process_follow(parent))
		return 0;
	warm_tls(context);
	keep_listen();
	sandbox_shut_files(NULL, 0);
	sandbox_enter(SANDBOX_KEEPER);
	keep_serve(&plan, &ends);
	/*
	 * This is the process of a connection. exit would run the libraries'
	 * destructors, and the kernel would first copy the pages that they
	 * change.
	 */
	_exit(serve(context, &ends));
}

/*
 * As root: describes and notes the files of a kept kpopd-tls before they are
 * read. So if a file changes while it is read, the next request finds that.
 * Returns false (logged) if the certificate or the key is missing.
 */
static bool
look_at_files(struct keep_setup *setup, char **arguments)
{
	char *configuration = CONF_get1_default_config_file();

	keep_note_files(configuration);
	OPENSSL_free(configuration);
	return keep_describe(setup, (const char *const *)arguments) == 0;
}

/*
 * The arguments are CERTIFICATE KEY CIPHERS [USER STATE MISSING [PARENT]].
 * Without the others, the process only tests whether the first three can be
 * used. MISSING is a digit: the parts of the sandbox that main found missing
 * (sandbox.h). With PARENT the process becomes a kept kpopd-tls (keep-serve.c),
 * which ends at the latest when the process with this pid ends (0: no process).
 */
int
main(int argc, char **argv)
{
	static struct keep_setup setup;
	struct load_tls_problem problem;
	SSL_CTX *context;

	if (argc != 4 && argc != 7 && argc != 8) {
		fprintf(stderr, "kpopd-tls: started by kpopd(8)\n");
		return 1;
	}
	if (argc == 7)
		log_through(LAYER_CHANNEL);
	else
		log_open("kpopd-tls");
	signal(SIGPIPE, SIG_IGN);
	if (argc == 8 && !keep_lock(argv[5])) {
		/* A listener tries this again and again. */
		if (strcmp(argv[7], "0") == 0)
			log_event(LOG_NOTICE, "kept",
			    "reason=\"another kpopd-tls is kept\"");
		return 1;
	}
	if (argc == 8 && !look_at_files(&setup, argv + 1))
		return 1;
	context = load_tls(argv[1], argv[2], argv[3], &problem);
	if (context == NULL)
		refuse_to_serve(&problem, argv[1], argv[2]);
	if (argc == 4)
		return 0;
	sandbox_do_without((unsigned)(*argv[6] - '0'));
	if (argc == 8)
		return keep(context, &setup, argv + 1,
		    (pid_t)strtol(argv[7], NULL, 10));
	return serve_once(context, argv + 1);
}
