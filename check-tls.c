/*
 * Checks the files of the certificate and its key, and whether kpopd-tls can
 * use them with the cipher suites.
 *
 * Runs as root in kpopd-check. It loads the files as kpopd-tls does (load-tls).
 */
#include "config.h"

#include <sys/stat.h>

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "check-certificate.h"
#include "check-path.h"
#include "check.h"
#include "exposure.h"
#include "load-tls.h"

#define KPOPD_TLS LIBEXEC_DIRECTORY "/kpopd-tls"

/* Checks that a file exists. Returns true, with its status, if it does. */
static bool
check_tls_file(struct check *c, const char *kind, const char *path,
    struct stat *st)
{
	struct check_word w;

	if (stat(path, st) == 0)
		return true;
	check_fail(c, kind, path,
	    check_remedy(c, "install -m 0%o NEW.pem %s",
		strcmp(kind, "tls-key") == 0 ? 0600 : 0644,
		check_quote(&w, path)),
	    "%m: kpopd does not offer TLS");
	return false;
}

/* Warns if other users can read the key. */
static void
check_tls_secrecy(struct check *c, const struct stat *st)
{
	struct check_word w;
	char reason[EXPOSURE_REASON];
	const char *key = c->o.tls.key;

	check_quote(&w, key);
	if (exposure_find(st, c->o.least_user, reason))
		check_warn(c, "tls-key", key,
		    check_remedy(c, "chown root:root %s && chmod 600 %s",
			w.text, w.text),
		    "is no secret: %s", reason);
	else
		check_ok(c, "tls-key", key, "no other user can read it");
}

/* Reports the step of load_tls that has failed. */
static void
complain_of_tls(struct check *c, const struct load_tls_problem *problem)
{
	struct check_word certificate, key;

	check_quote(&certificate, c->o.tls.certificate);
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
		    check_remedy(c, "openssl x509 -in %s -noout -text",
			certificate.text),
		    "cannot be used: %s", problem->error);
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
		    check_remedy(c,
			"openssl x509 -in %s -noout -pubkey; "
			"openssl pkey -in %s -pubout",
			certificate.text, key.text),
		    "is not the key of the certificate %s",
		    c->o.tls.certificate);
		break;
	}
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
	if (*c->o.tls.ciphers != '\0')
		check_ok(c, "tls-ciphers", c->o.tls.ciphers,
		    "OpenSSL has them");
	check_certificate_content(c, context);
	SSL_CTX_free(context);
}

void
check_tls(struct check *c)
{
	struct stat certificate, key;

	if (c->o.tls.certificate == NULL || c->o.tls.when == TLS_NO) {
		check_ok(c, "tls", NULL, "is not offered (-c, -T)");
		return;
	}
	if (access(KPOPD_TLS, X_OK) == -1)
		check_fail(c, "tls", KPOPD_TLS, "install the package again",
		    "cannot be started: %m");
	if (check_tls_file(c, "tls-certificate", c->o.tls.certificate,
		&certificate) &&
	    check_tls_file(c, "tls-key", c->o.tls.key, &key)) {
		check_tls_secrecy(c, &key);
		check_tls_pair(c);
	}
}
