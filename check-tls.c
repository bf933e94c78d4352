/*
 * Checks the files of the certificate and its key, and whether kpopd-tls can
 * use them with the cipher suites.
 *
 * Runs as root in kpopd-check. A child loads the files, as kpopd-tls does
 * (load-tls.c); so the key is not in a process whose children become a user.
 */
#include "config.h"

#include <sys/stat.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "check-certificate.h"
#include "check-quote.h"
#include "check.h"
#include "exposure.h"
#include "load-tls.h"

#define SECONDS 60 /* for the files, and for DNS */
#define ROUNDS 20  /* the most packets of a handshake in one direction */
#define KPOPD_TLS LIBEXEC_DIRECTORY "/kpopd-tls"

/*
 * Checks that a path is a regular file. Returns true, with its status, if it
 * is. OpenSSL would wait for the writer of a FIFO.
 */
static bool
check_tls_file(struct check *c, const char *kind, const char *path,
    struct stat *st)
{
	struct check_word w;
	bool is_there = stat(path, st) == 0;

	if (is_there && S_ISREG(st->st_mode))
		return true;
	check_fail(c, kind, path,
	    check_remedy(c, "install -m 0%o NEW.pem %s",
		strcmp(kind, "tls-key") == 0 ? 0600 : 0644,
		check_quote(&w, path)),
	    "%s: kpopd does not offer TLS",
	    is_there ? "is not a regular file" : strerror(errno));
	return false;
}

/* Warns if other users can read the key. */
static void
check_tls_secrecy(struct check *c, const struct stat *st)
{
	struct check_word w;
	char reason[EXPOSURE_REASON], real[PATH_MAX];
	const char *key = c->o.tls.key;

	check_quote(&w, key);
	if (exposure_find(st, c->o.least_user, reason))
		check_warn(c, "tls-key", key,
		    check_remedy(c, "chown root:root %s && chmod 600 %s",
			w.text, w.text),
		    "is not secret: %s", reason);
	else
		check_ok(c, "tls-key", key, "no other user can read it");
	check_path(c, "tls-key", key, real);
}

/* Reports the step of load_tls that has failed. */
static void
complain_of_tls(struct check *c, const struct load_tls_problem *problem)
{
	struct check_word key;

	check_quote(&key, c->o.tls.key);
	switch (problem->step) {
	case LOAD_TLS_OPENSSL:
		check_fail(c, "tls", NULL, "openssl version -a",
		    "OpenSSL does not start: %s", problem->error);
		break;
	case LOAD_TLS_CIPHERS:
		check_fail(c, "tls-ciphers", c->o.tls.ciphers,
		    "openssl ciphers -s -v",
		    "OpenSSL has no cipher suites %s: kpopd serves no client",
		    problem->error);
		break;
	case LOAD_TLS_CERTIFICATE:
		check_fail(c, "tls-certificate", c->o.tls.certificate,
		    check_certificate_remedy(c), "cannot be used: %s",
		    problem->error);
		break;
	case LOAD_TLS_KEY:
		/* This command also removes a passphrase. */
		check_fail(c, "tls-key", c->o.tls.key,
		    check_remedy(c, "openssl pkey -in %s -out NEW.pem",
			key.text),
		    "cannot be used, or needs a passphrase: %s",
		    problem->error);
		break;
	case LOAD_TLS_MATCH:
		check_fail(c, "tls-key", c->o.tls.key,
		    check_certificate_remedy(c),
		    "is not the key of the certificate %s: install the key of "
		    "this certificate, or a certificate for this key",
		    c->o.tls.certificate);
		break;
	}
}

/*
 * Lets a client with this version of TLS, and OpenSSL's usual cipher suites,
 * shake hands with the server. Returns true if that works.
 */
static bool
shake_hands(SSL_CTX *server, int version)
{
	SSL_CTX *context = SSL_CTX_new(TLS_client_method());
	SSL *ends[2] = { SSL_new(server),
		context != NULL ? SSL_new(context) : NULL };
	BIO *pair[2];
	bool is_done = false;

	if (ends[0] == NULL || ends[1] == NULL ||
	    BIO_new_bio_pair(&pair[0], 0, &pair[1], 0) != 1)
		return false;
	SSL_set_min_proto_version(ends[1], version);
	SSL_set_max_proto_version(ends[1], version);
	SSL_set_accept_state(ends[0]);
	SSL_set_connect_state(ends[1]);
	for (int i = 0; i < 2; i++)
		SSL_set_bio(ends[i], pair[i], pair[i]);
	for (int i = 0; i < ROUNDS && !is_done; i++) {
		SSL_do_handshake(ends[1]);
		SSL_do_handshake(ends[0]);
		is_done = SSL_is_init_finished(ends[0]) &&
		    SSL_is_init_finished(ends[1]);
	}
	for (int i = 0; i < 2; i++)
		SSL_free(ends[i]);
	SSL_CTX_free(context);
	return is_done;
}

/*
 * Checks that clients can begin TLS: the cipher suites may not fit the key, or
 * may leave a version of TLS without any.
 */
static void
check_tls_handshake(struct check *c, SSL_CTX *context)
{
	bool has_12 = shake_hands(context, TLS1_2_VERSION);
	bool has_13 = shake_hands(context, TLS1_3_VERSION);
	const char *ciphers =
	    *c->o.tls.ciphers != '\0' ? c->o.tls.ciphers : NULL;

	if (has_12 && has_13)
		check_ok(c, "tls-ciphers", ciphers,
		    "clients with TLS 1.2 and 1.3 can shake hands");
	else if (has_12 || has_13)
		check_warn(c, "tls-ciphers", ciphers, "openssl ciphers -s -v",
		    "usual clients with TLS 1.%d cannot shake hands",
		    has_12 ? 3 : 2);
	else
		check_fail(c, "tls-ciphers", ciphers, "openssl ciphers -s -v",
		    "usual clients cannot shake hands");
}

/* Checks that the files can be used, and what the certificate contains. */
static void
check_tls_pair(struct check *c)
{
	struct load_tls_problem problem;
	SSL_CTX *context = load_tls(c->o.tls.certificate, c->o.tls.key,
	    c->o.tls.ciphers, &problem);

	if (context == NULL) {
		complain_of_tls(c, &problem);
		return;
	}
	check_tls_handshake(c, context);
	check_certificate_content(c, context);
	SSL_CTX_free(context);
}

/* Does what check_tls does, in a child, which has the TLS key afterwards. */
static void
check_tls_in_child(struct check *c)
{
	struct stat certificate, key;

	if (!check_tls_file(c, "tls-certificate", c->o.tls.certificate,
		&certificate) ||
	    !check_tls_file(c, "tls-key", c->o.tls.key, &key))
		return;
	check_tls_secrecy(c, &key);
	check_tls_pair(c);
}

/* Warns that no client can use TLS. */
static void
warn_without_tls(struct check *c)
{
	struct check_word w;

	check_quote(&w, c->o.config != NULL ? c->o.config : CONFIG_FILE);
	check_warn(c, "tls", NULL,
	    c->o.tls.certificate != NULL ?
		"remove the option tls (-T)" :
		check_remedy(c,
		    "set tls-certificate and tls-key in %s, as README.md does "
		    "in its steps 3 and 4",
		    w.text),
	    "is not offered: clients that demand TLS, as fetchmail does by "
	    "default, refuse to log in");
}

void
check_tls(struct check *c)
{
	if (c->o.tls.certificate == NULL || c->o.tls.when == TLS_NO) {
		warn_without_tls(c);
		return;
	}
	if (access(KPOPD_TLS, X_OK) == -1)
		check_fail(c, "tls", KPOPD_TLS, "install the package again",
		    "cannot be started: %m");
	if (!check_in_child(c, SECONDS, check_tls_in_child))
		check_fail(c, "tls", NULL, "resolvectl status",
		    "the check did not end; DNS or a file system may not "
		    "answer");
}
