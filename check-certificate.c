/*
 * Checks the certificate as clients do: its dates, its names, its purpose and
 * strength, and the chain of its issuers.
 *
 * Runs as root in a child of kpopd-check, because it reads the keytab and the
 * TLS key, and DNS may not answer. It compares the certificate with the names
 * that clients use: those of the keytab's principals, or the host's own.
 */
#include "config.h"

#include <sys/socket.h>

#include <krb5.h>
#include <limits.h>
#include <netdb.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#include "auth-keytab.h"
#include "check-certificate.h"
#include "check-keys.h"
#include "check-quote.h"
#include "check-renew.h"

#define SOON_DAYS 14 /* a certificate that ends sooner is worth a warning */
/* OpenSSL's security level of most clients: 112 bits. */
#define USUAL_LEVEL 2
#define LOOKUPS_MOST 4  /* names of the certificate that are looked up */
#define NAMES_SHOWN 400 /* bytes of the list of a certificate's names */

/* Adds a name unless it is in the list, or has no domain. */
static void
add_tls_name(struct tls_names *names, const char *name, size_t n)
{
	char copy[TLS_NAME_SIZE];

	if (n >= sizeof(copy) || memchr(name, '\0', n) != NULL ||
	    memchr(name, '.', n) == NULL || names->count == TLS_NAMES_MOST)
		return;
	snprintf(copy, sizeof(copy), "%.*s", (int)n, name);
	if (host_is_local(copy))
		return;
	for (unsigned i = 0; i < names->count; i++)
		if (strcasecmp(names->name[i], copy) == 0)
			return;
	strlcpy(names->name[names->count++], copy, TLS_NAME_SIZE);
}

/* Adds the host's own name. */
static void
add_own_tls_name(struct tls_names *names)
{
	const struct addrinfo hints = { .ai_flags = AI_CANONNAME,
		.ai_socktype = SOCK_STREAM };
	struct addrinfo *list;
	char host[HOST_NAME_MAX + 1] = "";

	gethostname(host, sizeof(host) - 1);
	if (getaddrinfo(host, NULL, &hints, &list) == 0) {
		if (list->ai_canonname != NULL)
			add_tls_name(names, list->ai_canonname,
			    strlen(list->ai_canonname));
		freeaddrinfo(list);
	}
	add_tls_name(names, host, strlen(host));
}

/* Adds the hosts of the keytab's principals for POP. */
static void
add_principal_names(struct tls_names *names, krb5_context context,
    krb5_keytab keytab)
{
	krb5_kt_cursor cursor;
	krb5_keytab_entry entry;

	if (krb5_kt_start_seq_get(context, keytab, &cursor) != 0)
		return;
	while (krb5_kt_next_entry(context, keytab, &entry, &cursor) == 0) {
		if (keytab_is_for_pop(entry.principal)) {
			const krb5_data *host = &entry.principal->data[1];

			add_tls_name(names, host->data, host->length);
		}
		krb5_free_keytab_entry_contents(context, &entry);
	}
	krb5_kt_end_seq_get(context, keytab, &cursor);
}

/* Adds the hosts of the principals for POP in the keytab (NULL: libkrb5's). */
static void
add_keytab_names(struct tls_names *names, const char *path)
{
	krb5_context context;
	krb5_keytab keytab;

	if (krb5_init_context(&context) != 0)
		return;
	if ((path != NULL ? krb5_kt_resolve(context, path, &keytab) :
			    krb5_kt_default(context, &keytab)) == 0) {
		add_principal_names(names, context, keytab);
		krb5_kt_close(context, keytab);
	}
	krb5_free_context(context);
}

/* Writes the time as "2026-11-29 15:00 UTC". Returns text. */
static const char *
show_time(const ASN1_TIME *time, char text[32])
{
	struct tm tm;

	if (ASN1_TIME_to_tm(time, &tm) != 1 ||
	    strftime(text, 32, "%Y-%m-%d %H:%M UTC", &tm) == 0)
		strlcpy(text, "no time", 32);
	return text;
}

/*
 * Calls the function for each DNS name of the certificate, until it returns
 * true. Returns true if it has returned true.
 */
static bool
find_dns_name(const X509 *certificate,
    bool (*each)(void *self, const char *name), void *self)
{
	GENERAL_NAMES *all =
	    X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
	bool found = false;

	for (int i = 0; !found && i < sk_GENERAL_NAME_num(all); i++) {
		char copy[TLS_NAME_SIZE];
		int type;
		const ASN1_STRING *name =
		    GENERAL_NAME_get0_value(sk_GENERAL_NAME_value(all, i),
			&type);

		if (type != GEN_DNS)
			continue;
		snprintf(copy, sizeof(copy), "%.*s", ASN1_STRING_length(name),
		    (const char *)ASN1_STRING_get0_data(name));
		found = each(self, copy);
	}
	GENERAL_NAMES_free(all);
	return found;
}

/* Appends a name to a list of names. Returns false, so that all are added. */
static bool
append_name(void *self, const char *name)
{
	char *list = self;

	if (*list != '\0')
		strlcat(list, ", ", NAMES_SHOWN);
	strlcat(list, name, NAMES_SHOWN);
	return false;
}

/* Writes the certificate's DNS names, with commas. Returns text. */
static const char *
show_names(const X509 *certificate, char text[NAMES_SHOWN])
{
	*text = '\0';
	find_dns_name(certificate, append_name, text);
	if (*text == '\0')
		strlcpy(text, "no host", NAMES_SHOWN);
	return text;
}

/*
 * Returns true if the name is an alias of one of the host's. libkrb5 looks the
 * alias up, and so finds the principal of a name that is not in the
 * certificate.
 */
static bool
is_alias(void *self, const char *name)
{
	const struct addrinfo hints = { .ai_flags = AI_CANONNAME,
		.ai_socktype = SOCK_STREAM };
	struct tls_names *names = self;
	struct addrinfo *list;
	bool is = false;

	/* A name server that does not answer takes seconds for each name. */
	if (*name == '*' || ++names->lookups > LOOKUPS_MOST)
		return false;
	if (getaddrinfo(name, NULL, &hints, &list) != 0)
		return false;
	for (unsigned i = 0; i < names->count; i++)
		is |= list->ai_canonname != NULL &&
		    strcasecmp(list->ai_canonname, names->name[i]) == 0;
	freeaddrinfo(list);
	return is;
}

/* Returns true if the certificate is for this name. */
static bool
is_for_name(X509 *certificate, const char *name, unsigned flags)
{
	return X509_check_host(certificate, name, strlen(name), flags, NULL) ==
	    1;
}

/* Returns true if the certificate is for one of the names. */
static bool
is_for_names(X509 *certificate, const struct tls_names *names)
{
	for (unsigned i = 0; i < names->count; i++)
		if (is_for_name(certificate, names->name[i], 0))
			return true;
	return false;
}

/*
 * Replaces names that do not lead to this host by the host's own, unless the
 * certificate is for the former only: then both the keytab and the certificate
 * are for another host, or for a balancer. certificate may be NULL.
 */
static void
prefer_own_names(X509 *certificate, struct tls_names *names)
{
	static struct tls_names own;

	for (unsigned i = 0; i < names->count; i++)
		if (host_has_name(names->name[i]))
			return;
	own.count = 0;
	add_own_tls_name(&own);
	if (own.count > 0 &&
	    (certificate == NULL || is_for_names(certificate, &own) ||
		!is_for_names(certificate, names)))
		*names = own;
}

/*
 * Finds the names by which clients know this host: those of the principals
 * whose keys are used, or the host's own if no principal is for this host.
 */
static void
find_tls_names(const struct check *c, X509 *certificate,
    struct tls_names *names)
{
	const char *service = c->o.service;
	const char *host = service != NULL ? strchr(service, '/') : NULL;

	names->count = names->lookups = 0;
	if (host != NULL)
		add_tls_name(names, host + 1, strcspn(host + 1, "@"));
	else
		add_keytab_names(names, c->o.keytab);
	if (host == NULL || names->count == 0)
		prefer_own_names(certificate, names);
}

/* Adds a DNS name of the certificate. Returns false, so that all are added. */
static bool
add_dns_name(void *self, const char *name)
{
	add_tls_name(self, name, strlen(name));
	return false;
}

/*
 * Makes the remedy: a certificate for the names of the host. A certificate for
 * this host keeps its other names.
 */
static const char *
renew(struct check *c, X509 *certificate, const struct tls_names *names)
{
	static struct tls_names all;

	all = *names;
	if (certificate != NULL && is_for_names(certificate, names))
		find_dns_name(certificate, add_dns_name, &all);
	return renew_certificate(c, certificate, &all);
}

const char *
check_certificate_remedy(struct check *c)
{
	static struct tls_names names;
	FILE *file = fopen(c->o.tls.certificate, "re");
	X509 *certificate =
	    file != NULL ? PEM_read_X509(file, NULL, NULL, NULL) : NULL;
	const char *remedy;

	if (file != NULL)
		fclose(file);
	find_tls_names(c, certificate, &names);
	remedy = renew(c, certificate, &names);
	X509_free(certificate);
	return remedy;
}

/* Checks from when and until when the certificate is valid. */
static void
check_certificate_dates(struct check *c, X509 *certificate,
    const struct tls_names *names)
{
	const ASN1_TIME *from = X509_get0_notBefore(certificate);
	const ASN1_TIME *until = X509_get0_notAfter(certificate);
	const char *path = c->o.tls.certificate;
	int days = 0, seconds = 0;
	char text[32];

	/* A wrong clock may be the cause; the remedy shows the time. */
	if (X509_cmp_current_time(from) >= 0)
		check_fail(c, "tls-certificate", path, "date -u",
		    "is not valid before %s: clients refuse it",
		    show_time(from, text));
	else if (X509_cmp_current_time(until) <= 0)
		check_fail(c, "tls-certificate", path,
		    renew(c, certificate, names),
		    "has expired on %s: clients refuse it",
		    show_time(until, text));
	else if (ASN1_TIME_diff(&days, &seconds, NULL, until) == 1 &&
	    days < SOON_DAYS)
		check_warn(c, "tls-certificate", path,
		    renew(c, certificate, names), "expires in %d days, on %s",
		    days, show_time(until, text));
	else
		check_ok(c, "tls-certificate", path, "is valid until %s",
		    show_time(until, text));
}

/* Reports whether the certificate is for one name of the host. */
static void
check_certificate_name(struct check *c, X509 *certificate,
    const struct tls_names *names, const char *name)
{
	char list[NAMES_SHOWN];
	const char *path = c->o.tls.certificate;

	if (is_for_name(certificate, name, X509_CHECK_FLAG_NEVER_CHECK_SUBJECT))
		check_ok(c, "tls-certificate", path, "is for %s", name);
	else if (is_for_name(certificate, name, 0))
		check_warn(c, "tls-certificate", path,
		    renew(c, certificate, names),
		    "has %s only in its subject, not as a subjectAltName: many "
		    "clients refuse it",
		    name);
	else
		check_warn(c, "tls-certificate", path,
		    renew(c, certificate, names),
		    "is not for %s, but for %s: clients that use this name "
		    "refuse it",
		    name, show_names(certificate, list));
}

/*
 * Checks that the certificate is for the host's names. A host may have names
 * that no client uses, so it is a FAIL only if no name fits.
 */
static void
check_certificate_names(struct check *c, X509 *certificate,
    struct tls_names *names)
{
	char list[NAMES_SHOWN];
	const char *path = c->o.tls.certificate;

	show_names(certificate, list);
	if (names->count == 0)
		check_warn(c, "tls-certificate", path, "hostname -f",
		    "is for %s; the name of this host is not known", list);
	else if (!is_for_names(certificate, names) &&
	    !find_dns_name(certificate, is_alias, names))
		check_fail(c, "tls-certificate", path,
		    renew(c, certificate, names),
		    "is not for %s, but for %s: clients refuse it",
		    names->name[0], list);
	else
		for (unsigned i = 0; i < names->count; i++)
			check_certificate_name(c, certificate, names,
			    names->name[i]);
}

/* Ignores the dates of the certificate itself; they have their own line. */
static int
ignore_own_dates(int is_right, X509_STORE_CTX *v)
{
	int error = X509_STORE_CTX_get_error(v);

	return is_right ||
	    (X509_STORE_CTX_get_error_depth(v) == 0 &&
		(error == X509_V_ERR_CERT_HAS_EXPIRED ||
		    error == X509_V_ERR_CERT_NOT_YET_VALID));
}

/* How a client judges the certificate. */
struct judgement {
	int error; /* X509_V_OK, or OpenSSL's first error */
	int depth; /* of the error: 0 is the certificate itself */
	/*
	 * the certificate that has the error, its issuer, and the address of
	 * the issuer's certificate; "": unknown
	 */
	char subject[TLS_NAME_SIZE], issuer[TLS_NAME_SIZE], url[TLS_NAME_SIZE];
};

/* Writes the address at which the issuer offers its certificate. */
static void
find_issuer_url(const X509 *certificate, char url[TLS_NAME_SIZE])
{
	AUTHORITY_INFO_ACCESS *all =
	    X509_get_ext_d2i(certificate, NID_info_access, NULL, NULL);

	for (int i = 0; i < sk_ACCESS_DESCRIPTION_num(all); i++) {
		const ACCESS_DESCRIPTION *a =
		    sk_ACCESS_DESCRIPTION_value(all, i);
		int type;
		const ASN1_STRING *text =
		    GENERAL_NAME_get0_value(a->location, &type);

		if (OBJ_obj2nid(a->method) == NID_ad_ca_issuers &&
		    type == GEN_URI &&
		    strncmp((const char *)ASN1_STRING_get0_data(text), "http",
			4) == 0)
			snprintf(url, TLS_NAME_SIZE, "%.*s",
			    ASN1_STRING_length(text),
			    (const char *)ASN1_STRING_get0_data(text));
	}
	AUTHORITY_INFO_ACCESS_free(all);
}

/*
 * Judges the certificate as a client does that has this system's certificate
 * authorities and the chain that kpopd sends; and the certificate if it signs
 * itself.
 */
static void
judge_as_client(SSL_CTX *context, X509 *certificate, struct judgement *j)
{
	STACK_OF(X509) *chain = NULL;
	X509_STORE *store = X509_STORE_new();
	X509_STORE_CTX *v = X509_STORE_CTX_new();
	const X509 *at;

	*j = (struct judgement){ .error = X509_V_ERR_OUT_OF_MEM };
	SSL_CTX_get0_chain_certs(context, &chain);
	if (store == NULL || v == NULL ||
	    X509_STORE_set_default_paths(store) != 1 ||
	    (renew_signs_itself(certificate) &&
		X509_STORE_add_cert(store, certificate) != 1) ||
	    X509_STORE_CTX_init(v, store, certificate, chain) != 1 ||
	    X509_STORE_CTX_set_default(v, "ssl_server") != 1)
		return;
	X509_VERIFY_PARAM_set_auth_level(X509_STORE_CTX_get0_param(v),
	    USUAL_LEVEL);
	X509_STORE_CTX_set_verify_cb(v, ignore_own_dates);
	j->error =
	    X509_verify_cert(v) == 1 ? X509_V_OK : X509_STORE_CTX_get_error(v);
	j->depth = X509_STORE_CTX_get_error_depth(v);
	if ((at = X509_STORE_CTX_get_current_cert(v)) != NULL) {
		X509_NAME_oneline(X509_get_subject_name(at), j->subject,
		    TLS_NAME_SIZE);
		X509_NAME_oneline(X509_get_issuer_name(at), j->issuer,
		    TLS_NAME_SIZE);
		find_issuer_url(at, j->url);
	}
	X509_STORE_CTX_free(v);
	X509_STORE_free(store);
}

/*
 * Makes the command that adds the issuer's certificate to the chain. A public
 * authority offers it; a private one seldom does. The file may have no line
 * feed at its end.
 */
static const char *
add_issuer(struct check *c, const struct judgement *j)
{
	struct check_word path, url;

	check_quote(&path, c->o.tls.certificate);
	if (*j->url == '\0')
		return check_remedy(c,
		    "get the certificate of this issuer from your CA, and "
		    "append it to %s",
		    path.text);
	return check_remedy(c,
	    "(echo; curl %s | openssl x509 -inform DER) >>%s",
	    check_quote(&url, j->url), path.text);
}

/*
 * Makes the remedy: clients get the file. what is a part of the sentence, or
 * "".
 */
static const char *
copy_to_clients(struct check *c, const char *what)
{
	struct check_word w;

	check_quote(&w, c->o.tls.certificate);
	return check_remedy(c,
	    "copy %s%s to each client, and name it there (fetchmail: "
	    "sslcertfile %s)",
	    w.text, what, w.text);
}

/* Reports a certificate that clients can use if they know who has signed it. */
static void
report_signer(struct check *c, X509 *certificate)
{
	const char *path = c->o.tls.certificate;

	if (renew_signs_itself(certificate))
		check_warn(c, "tls-certificate", path, copy_to_clients(c, ""),
		    "signs itself: clients refuse it unless they have a copy");
	else
		check_ok(c, "tls-certificate", path,
		    "leads to a certificate authority that this system trusts");
}

/* Reports an error for which clients refuse the certificate. */
static void
report_refusal(struct check *c, X509 *certificate,
    const struct tls_names *names, const struct judgement *j)
{
	const char *text = X509_verify_cert_error_string(j->error);
	const char *path = c->o.tls.certificate;

	switch (j->error) {
	case X509_V_ERR_EE_KEY_TOO_SMALL:
	case X509_V_ERR_CA_KEY_TOO_SMALL:
	case X509_V_ERR_CA_MD_TOO_WEAK:
		check_warn(c, "tls-certificate", path,
		    renew(c, certificate, names),
		    "%s (%s): many clients refuse it", text, j->subject);
		break;
	default:
		check_fail(c, "tls-certificate", path,
		    j->depth == 0 ?
			renew(c, certificate, names) :
			"get the certificate and its chain from your CA again",
		    "%s (%s): clients refuse it", text, j->subject);
		break;
	}
}

/* Checks the chain, the purpose and the strength. */
static void
check_certificate_chain(struct check *c, SSL_CTX *context, X509 *certificate,
    const struct tls_names *names)
{
	const char *path = c->o.tls.certificate;
	struct judgement j;

	judge_as_client(context, certificate, &j);
	switch (j.error) {
	case X509_V_OK:
		report_signer(c, certificate);
		break;
	case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
	case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
		check_warn(c, "tls-certificate", path,
		    copy_to_clients(c,
			", which contains the certificate of this authority,"),
		    "leads to %s, which this system does not trust: other "
		    "clients that do not trust it refuse the certificate",
		    j.subject);
		break;
	case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
	case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
	case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
		check_warn(c, "tls-certificate", path, add_issuer(c, &j),
		    "neither this file nor this system has the issuer %s: "
		    "clients without the issuer refuse the certificate",
		    j.issuer);
		break;
	default:
		report_refusal(c, certificate, names, &j);
		break;
	}
}

void
check_certificate_content(struct check *c, SSL_CTX *context)
{
	static struct tls_names names;
	X509 *certificate = SSL_CTX_get0_certificate(context);

	find_tls_names(c, certificate, &names);
	check_certificate_dates(c, certificate, &names);
	check_certificate_names(c, certificate, &names);
	check_certificate_chain(c, context, certificate, &names);
}
