/*
 * Reads the keytab, and names this host and its realm, for the checks of
 * Kerberos.
 *
 * Runs as root in children of kpopd-check. Only these read keys, because a
 * later child becomes a user.
 */
#include "config.h"

#include <sys/socket.h>
#include <sys/stat.h>

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "auth-internal.h"
#include "auth-keytab.h"
#include "check-keys.h"

const char *
principal_write(struct check *c, krb5_const_principal p,
    char name[CHECK_PRINCIPAL])
{
	char *text = NULL;
	bool ok = krb5_unparse_name(c->auth->context, p, &text) == 0;

	strlcpy(name, ok ? text : "?", CHECK_PRINCIPAL);
	krb5_free_unparsed_name(c->auth->context, text);
	return name;
}

/* Parses the principal of -s. Returns 0 or a krb5 error; NULL without -s. */
static krb5_error_code
parse_only(struct check *c, krb5_principal *only)
{
	*only = NULL;
	return c->o.service == NULL ?
	    0 :
	    krb5_parse_name(c->auth->context, c->o.service, only);
}

/*
 * Returns false if the keytab is a file that cannot be read without waiting,
 * for example a FIFO.
 */
static bool
is_readable(struct check *c, const char *keytab)
{
	char path[PATH_MAX];
	struct stat st;

	return !keytab_path(c->auth, keytab, path) ||
	    (stat(path, &st) == 0 && S_ISREG(st.st_mode));
}

krb5_error_code
keys_visit(struct check *c, enum check_keys which,
    bool (*visit)(void *self, const krb5_keytab_entry *key), void *self)
{
	krb5_context context = c->auth->context;
	krb5_keytab keytab;
	krb5_kt_cursor cursor;
	krb5_keytab_entry key;
	krb5_principal only;
	krb5_error_code problem = parse_only(c, &only);
	const char *name = which == KEYS_OF_HOST ? NULL : c->o.keytab;
	bool goes_on = true;

	if (problem == 0 && !is_readable(c, name))
		return ENOENT;
	if (problem == 0)
		problem = name != NULL ?
		    krb5_kt_resolve(context, name, &keytab) :
		    krb5_kt_default(context, &keytab);
	if (problem == 0)
		problem = krb5_kt_start_seq_get(context, keytab, &cursor);
	if (problem != 0)
		return problem;
	while (goes_on &&
	    (problem = krb5_kt_next_entry(context, keytab, &key, &cursor)) ==
		0) {
		if (which != KEYS_OF_SERVICE ||
		    (keytab_is_for_pop(key.principal) &&
			(only == NULL ||
			    krb5_principal_compare(context, key.principal,
				only))))
			goes_on = visit(self, &key);
		krb5_free_keytab_entry_contents(context, &key);
	}
	krb5_kt_end_seq_get(context, keytab, &cursor);
	krb5_kt_close(context, keytab);
	krb5_free_principal(context, only);
	return problem == KRB5_KT_END ? 0 : problem;
}

bool
keys_is_plain(const char *name)
{
	return name[strspn(name,
		   "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
		   "0123456789-._/@")] == '\0';
}

bool
host_is_local(const char *name)
{
	return strncmp(name, "localhost", strlen("localhost")) == 0 ||
	    strncmp(name, "ip6-", strlen("ip6-")) == 0;
}

/*
 * Writes the path of kpopd's keytab. Returns false if the path or the principal
 * cannot be part of a command.
 */
static bool
write_keytab(struct check *c, const char *principal, char path[PATH_MAX])
{
	if (!keytab_path(c->auth, c->o.keytab, path))
		strlcpy(path, c->o.keytab != NULL ? c->o.keytab : "KEYTAB",
		    PATH_MAX);
	return keys_is_plain(principal) && keys_is_plain(path);
}

const char *
remedy_add_key(struct check *c, const char *principal)
{
	const char *host = strchr(principal, '/');
	char path[PATH_MAX];

	if (host != NULL && host_is_local(host + 1))
		return "hostnamectl set-hostname HOST.DOMAIN, with the name "
		       "that clients use";
	if (!write_keytab(c, principal, path))
		return "add a key for the principal by kadmin";
	return check_remedy(c,
	    "kadmin -q 'addprinc -randkey %s'; kadmin -q 'ktadd -k %s %s' # "
	    "then "
	    "users who cannot log in need a new ticket: kinit",
	    principal, path, principal);
}

const char *
remedy_new_key(struct check *c, const char *principal)
{
	char path[PATH_MAX];

	if (!write_keytab(c, principal, path))
		return "make a new key for the principal by ktadd of kadmin";
	return check_remedy(c,
	    "kadmin -q 'ktadd -k %s %s' # then users who cannot log in need a "
	    "new ticket: kinit",
	    path, principal);
}

bool
type_is_permitted(struct check *c, krb5_enctype type)
{
	krb5_enctype *types, *p;
	bool found;

	if (krb5_get_permitted_enctypes(c->auth->context, &types) != 0)
		return true;
	for (p = types; *p != 0 && *p != type;)
		p++;
	found = *p != 0;
	krb5_free_enctypes(c->auth->context, types);
	return found;
}

const char *
host_full_name(char host[NI_MAXHOST])
{
	const struct addrinfo hints = { .ai_flags = AI_CANONNAME,
		.ai_socktype = SOCK_STREAM };
	struct addrinfo *found;

	if (gethostname(host, NI_MAXHOST) == -1)
		strlcpy(host, "localhost", NI_MAXHOST);
	host[NI_MAXHOST - 1] = '\0';
	if (getaddrinfo(host, NULL, &hints, &found) == 0) {
		if (found->ai_canonname != NULL &&
		    !host_is_local(found->ai_canonname))
			strlcpy(host, found->ai_canonname, NI_MAXHOST);
		freeaddrinfo(found);
	}
	for (char *p = host; *p != '\0'; p++)
		*p = (char)tolower((unsigned char)*p);
	return host;
}

/* Copies the realm of the first key. */
static bool
copy_realm(void *realm, const krb5_keytab_entry *key)
{
	snprintf(realm, CHECK_REALM, "%.*s", (int)key->principal->realm.length,
	    key->principal->realm.data);
	return false;
}

void
realm_guess(struct check *c, char realm[CHECK_REALM])
{
	char host[NI_MAXHOST], *found;
	const char *domain;

	realm[0] = '\0';
	keys_visit(c, KEYS_OF_SERVICE, copy_realm, realm);
	if (realm[0] != '\0')
		return;
	if (krb5_get_default_realm(c->auth->context, &found) == 0) {
		strlcpy(realm, found, CHECK_REALM);
		krb5_free_default_realm(c->auth->context, found);
		return;
	}
	domain = strchr(host_full_name(host), '.');
	strlcpy(realm, domain != NULL ? domain + 1 : "EXAMPLE.ORG",
	    CHECK_REALM);
	for (char *p = realm; *p != '\0'; p++)
		*p = (char)toupper((unsigned char)*p);
}
