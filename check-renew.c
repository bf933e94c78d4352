/*
 * Makes the remedies for a certificate that must be replaced: the command that
 * makes one that signs itself, or the request to a certificate authority.
 *
 * Runs as root in a child of kpopd-check, because it reads the TLS key.
 */
#include "config.h"

#include <sys/stat.h>

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>

#include "check-quote.h"
#include "check-renew.h"

#define CERTBOT "/etc/letsencrypt/live/"
#define STRONG 112 /* bits of security that clients demand of a key */
#define SUBJECT 64 /* the most bytes of a common name (RFC 5280) */
#define LIST 180   /* bytes of a list of names with its NUL */

/* Parts of the command. */
struct parts {
	struct check_word certificate, key, subject, extension;
	bool has_key;  /* the key can be used */
	bool has_file; /* that of the key, and not that of the certificate */
};

bool
renew_signs_itself(X509 *certificate)
{
	return X509_NAME_cmp(X509_get_subject_name(certificate),
		   X509_get_issuer_name(certificate)) == 0 &&
	    X509_verify(certificate, X509_get0_pubkey(certificate)) == 1;
}

/* Gives no passphrase, as a server. */
static int
give_no_passphrase(char *to, int size, int writing, void *unused)
{
	(void)to, (void)size, (void)writing, (void)unused;
	return -1;
}

/* Returns true if the file has a key that clients accept. */
static bool
has_usable_key(const char *path)
{
	FILE *file = fopen(path, "re");
	EVP_PKEY *key;
	bool is_strong;

	if (file == NULL)
		return false;
	key = PEM_read_PrivateKey(file, NULL, give_no_passphrase, NULL);
	fclose(file);
	is_strong = key != NULL && EVP_PKEY_security_bits(key) >= STRONG;
	EVP_PKEY_free(key);
	return is_strong;
}

/* Returns true if both paths lead to one file. */
static bool
is_same_file(const char *one, const char *other)
{
	struct stat a, b;

	if (stat(one, &a) == -1 || stat(other, &b) == -1)
		return strcmp(one, other) == 0;
	return a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

/* Returns true if OpenSSL takes the name in a list. */
static bool
is_plain_name(const char *name)
{
	return name[strspn(name,
		   "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
		   "0123456789-._*")] == '\0';
}

/*
 * Appends the names that have room to a list in text[LIST], each with the
 * prefix. Appends HOST if there is none.
 */
static void
append_names(char *text, const struct tls_names *names, const char *prefix)
{
	const char *separator = "";

	for (unsigned i = 0; i < names->count; i++) {
		size_t at = strlen(text);

		if (!is_plain_name(names->name[i]) ||
		    at + strlen(",DNS:") + strlen(names->name[i]) >= LIST)
			continue;
		snprintf(text + at, LIST - at, "%s%s%s", separator, prefix,
		    names->name[i]);
		separator = ",";
	}
	if (*separator == '\0') {
		strlcat(text, prefix, LIST);
		strlcat(text, "HOST", LIST);
	}
}

/* Fills the parts. */
static void
make_parts(struct check *c, const struct tls_names *names, struct parts *p)
{
	char subject[sizeof("/CN=") + SUBJECT] = "/";
	char extension[LIST] = "subjectAltName=";
	const char *name = names->count > 0 ? names->name[0] : "HOST";

	/* A longer name is only in the extension. */
	if (is_plain_name(name) && strlen(name) <= SUBJECT)
		snprintf(subject, sizeof(subject), "/CN=%s", name);
	check_quote(&p->subject, subject);
	append_names(extension, names, "DNS:");
	check_quote(&p->extension, extension);
	check_quote(&p->certificate, c->o.tls.certificate);
	check_quote(&p->key, c->o.tls.key);
	p->has_key = has_usable_key(c->o.tls.key);
	p->has_file = !is_same_file(c->o.tls.certificate, c->o.tls.key);
}

/*
 * Makes the command that makes a certificate that signs itself. In a file that
 * the key is in, too, openssl cannot keep the key, but appends to a new one.
 */
static const char *
make_certificate(struct check *c, const struct parts *p, bool is_broken)
{
	const char *key = p->has_file ? p->key.text : p->certificate.text;
	bool keeps_key = p->has_key && p->has_file;
	char aside[(size_t)2 * CHECK_WORD + sizeof("mv -bT  .old; ")] = "";
	const char *remedy;

	if (is_broken)
		snprintf(aside, sizeof(aside), "mv -bT %s %s.old; ",
		    p->certificate.text, p->certificate.text);
	remedy = check_remedy(c,
	    "%sopenssl req -x509 -nodes -days 365 %s %s -subj %s -addext %s "
	    "-addext basicConstraints=critical,CA:FALSE -out %s "
	    "# then copy it to each client",
	    aside, keeps_key ? "-key" : "-newkey rsa:2048 -keyout", key,
	    p->subject.text, p->extension.text, p->certificate.text);
	return remedy != NULL ?
	    remedy :
	    "make a certificate as README.md does in its step 3";
}

/* Makes the command that prints the request that an authority signs. */
static const char *
make_request(struct check *c, const struct parts *p)
{
	const char *remedy = check_remedy(c,
	    "openssl req -new %s %s%s -subj %s -addext %s # for your CA; put "
	    "the certificate that it returns, with its chain, into %s",
	    p->has_key ? "-key" : "-newkey rsa:2048 -nodes -keyout",
	    p->key.text, p->has_key ? "" : ".new", p->subject.text,
	    p->extension.text, p->certificate.text);

	return remedy != NULL ?
	    remedy :
	    "request a certificate for the names of this host from your CA";
}

/*
 * Makes certbot's command for a certificate of certbot, which is in a directory
 * of its name. A renewal keeps the names of the certificate.
 */
static const char *
make_by_certbot(struct check *c, X509 *certificate,
    const struct tls_names *names)
{
	const char *path = c->o.tls.certificate + strlen(CERTBOT);
	char lineage[CHECK_WORD], list[LIST] = "";
	struct check_word name, hosts;

	for (unsigned i = 0; i < names->count; i++)
		if (certificate == NULL ||
		    X509_check_host(certificate, names->name[i],
			strlen(names->name[i]), 0, NULL) == 1)
			return "certbot renew";
	snprintf(lineage, sizeof(lineage), "%.*s", (int)strcspn(path, "/"),
	    path);
	append_names(list, names, "");
	return check_remedy(c, "certbot certonly --cert-name %s -d %s",
	    check_quote(&name, lineage), check_quote(&hosts, list));
}

const char *
renew_certificate(struct check *c, X509 *certificate,
    const struct tls_names *names)
{
	struct parts p;

	if (strncmp(c->o.tls.certificate, CERTBOT, strlen(CERTBOT)) == 0)
		return make_by_certbot(c, certificate, names);
	make_parts(c, names, &p);
	return certificate == NULL || renew_signs_itself(certificate) ?
	    make_certificate(c, &p, certificate == NULL) :
	    make_request(c, &p);
}
