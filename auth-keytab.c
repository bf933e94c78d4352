/*
 * Copies the keys of the POP service from a keytab to memory.
 *
 * Runs as root in the pre-auth process, before it enters its jail. Only
 * keytab_is_for_pop, a pure computation, runs later, as the pre-auth user.
 * main, the listener and the monitor run only keytab_path, which opens no
 * keytab. The keytab is trusted. No other key, such as a host/ or HTTP/ key,
 * may be copied, because libkrb5 would try it for every ticket.
 */
#include "config.h"

#include <string.h>
#include <strings.h>

#include "auth-internal.h"
#include "auth-keytab.h"
#include "log.h"

/* libkrb5 takes a name without a type for a path. */
bool
keytab_path(struct auth *a, const char *keytab, char path[PATH_MAX])
{
	static const char *const types[] = { "FILE:", "WRFILE:" };
	char name[PATH_MAX];

	if (keytab == NULL) {
		if (a == NULL ||
		    krb5_kt_default_name(a->context, name, sizeof(name)) != 0)
			return false;
		keytab = name;
	}
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
		if (strncmp(keytab, types[i], strlen(types[i])) == 0)
			return strlcpy(path, keytab + strlen(types[i]),
				   PATH_MAX) < PATH_MAX;
	return (*keytab == '/' || strchr(keytab, ':') == NULL) &&
	    strlcpy(path, keytab, PATH_MAX) < PATH_MAX;
}

/*
 * Emacs' movemail asks for pop3/HOST. Upper case is accepted, because the tools
 * of Active Directory, which does not distinguish case, write keytabs with
 * POP/HOST.
 */
bool
keytab_is_for_pop(krb5_const_principal p)
{
	const krb5_data *first = p->data;

	if (p->length != 2)
		return false;
	return (first->length == 3 &&
		   strncasecmp(first->data, "pop", 3) == 0) ||
	    (first->length == 4 && strncasecmp(first->data, "pop3", 4) == 0);
}

/*
 * Copies the keys for POP from a keytab to a->keys. If `only` is not NULL,
 * copies only the keys of this principal. The principal of the first key
 * becomes a->name. Returns how many keys were copied, or -1 with *problem set.
 */
static int
copy_keys(struct auth *a, krb5_keytab from, krb5_const_principal only,
    krb5_error_code *problem)
{
	krb5_kt_cursor cursor;
	krb5_keytab_entry entry;
	int n = 0;

	if ((*problem = krb5_kt_start_seq_get(a->context, from, &cursor)) != 0)
		return -1;
	while ((*problem = krb5_kt_next_entry(a->context, from, &entry,
		    &cursor)) == 0) {
		bool wanted = keytab_is_for_pop(entry.principal) &&
		    (only == NULL ||
			krb5_principal_compare(a->context, entry.principal,
			    only));

		if (wanted)
			*problem =
			    krb5_kt_add_entry(a->context, a->keys, &entry);
		if (wanted && a->name == NULL && *problem == 0)
			*problem = krb5_copy_principal(a->context,
			    entry.principal, &a->name);
		krb5_free_keytab_entry_contents(a->context, &entry);
		if (*problem != 0)
			break;
		n += wanted;
	}
	krb5_kt_end_seq_get(a->context, from, &cursor);
	return *problem == KRB5_KT_END ? n : -1;
}

/* Parses the principal of -s into *only. Returns 0, or -1 (logged). */
static int
parse_service(struct auth *a, const char *service, krb5_principal *only)
{
	static const char step[] = "parsing the principal of -s";
	struct log_text t;
	krb5_error_code problem = krb5_parse_name(a->context, service, only);

	if (problem != 0) {
		auth_log_failed(a->context, problem, "%s", step);
		return -1;
	}
	if (keytab_is_for_pop(*only))
		return 0;
	log_event(LOG_ERR, "failed",
	    "what=\"%s\" error=\"neither pop/HOST nor pop3/HOST: %s\"", step,
	    log_words(&t, service));
	return -1;
}

/* Logs that the keytab has no key for POP, or no key of the principal of -s. */
static void
log_no_key(struct auth *a, const char *keytab, krb5_const_principal only)
{
	struct log_text t;
	char *name = NULL;

	if (only == NULL)
		log_failed_at(LOG_ERR,
		    "it has no key for pop/HOST or pop3/HOST",
		    "reading the keytab %s", keytab);
	else
		log_event(LOG_ERR, "failed",
		    "what=\"reading the keytab %s\" "
		    "error=\"it has no key for %s, the principal of -s\"",
		    keytab,
		    krb5_unparse_name(a->context, only, &name) == 0 ?
			log_words(&t, name) :
			"its principal");
	krb5_free_unparsed_name(a->context, name);
}

/* Copies the keys of an open keytab to a->keys. Returns 0, or -1 (logged). */
static int
copy_from(struct auth *a, krb5_keytab from, krb5_const_principal only)
{
	struct log_text t;
	krb5_error_code problem;
	int n;

	if (krb5_kt_get_name(a->context, from, a->keytab, KEYTAB_NAME) != 0)
		a->keytab[0] = '\0';
	n = copy_keys(a, from, only, &problem);

	/*
	 * Encode the keytab's name only for an error. Without an error, the
	 * encoding would only delay the login.
	 */
	if (n == -1)
		auth_log_failed(a->context, problem, "reading the keytab %s",
		    log_words(&t, a->keytab));
	else if (n == 0)
		log_no_key(a, log_words(&t, a->keytab), only);
	return n > 0 ? 0 : -1;
}

int
keytab_load(struct auth *a, const char *keytab, const char *service)
{
	krb5_keytab from;
	krb5_principal only = NULL;
	krb5_error_code problem;
	struct log_text t;
	int result;

	if (service != NULL && parse_service(a, service, &only) == -1)
		return -1;
	problem = keytab != NULL ? krb5_kt_resolve(a->context, keytab, &from) :
				   krb5_kt_default(a->context, &from);
	if (problem == 0)
		problem =
		    krb5_kt_resolve(a->context, KEYTAB_IN_MEMORY, &a->keys);
	if (problem != 0) {
		auth_log_failed(a->context, problem, "finding the keytab %s",
		    keytab != NULL ? log_words(&t, keytab) :
				     "of libkrb5's configuration");
		return -1;
	}
	result = copy_from(a, from, only);
	krb5_kt_close(a->context, from);
	krb5_free_principal(a->context, only);
	return result;
}
