/*
 * Gets the client's ticket for the server, from a ccache or with a keytab.
 *
 * Runs as the caller, with the caller's tickets or keytab. Error texts of
 * libkrb5 may contain text from a KDC that has not proven its identity. So
 * these texts are printed encoded.
 */
#include "config.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kpopc-ticket.h"

/* Returns a remedy for a common error, in parentheses, or "". */
static const char *
hint_for(krb5_error_code problem)
{
	switch (problem) {
	case KRB5_FCC_NOFILE:
	case KRB5_CC_NOTFOUND:
		return " (run kinit, or give -k)";
	case KRB5KRB_AP_ERR_TKT_EXPIRED:
		return " (run kinit again)";
	case KRB5KDC_ERR_S_PRINCIPAL_UNKNOWN:
		return " (the realm has no such service; see -s)";
	case KRB5KRB_AP_ERR_SKEW:
		return " (set the clock)";
	case KRB5_KDC_UNREACH:
	case KRB5_REALM_UNKNOWN:
		return " (see krb5.conf(5))";
	default:
		return "";
	}
}

/* Returns the advice for a local program's user, or NULL. */
static const char *
advice_for(krb5_error_code problem)
{
	switch (problem) {
	case KRB5_FCC_NOFILE:
	case KRB5_CC_NOTFOUND:
		return "no Kerberos ticket: run kinit";
	case KRB5KRB_AP_ERR_TKT_EXPIRED:
		return "Kerberos ticket has expired: run kinit";
	case KRB5KRB_AP_ERR_SKEW:
		return "the time of this computer is wrong";
	case KRB5_KDC_UNREACH:
		return "no Kerberos server answers: try again later";
	case KRB5_REALM_UNKNOWN:
	case KRB5_REALM_CANT_RESOLVE:
		return "cannot find a Kerberos server: try later";
	default:
		return NULL;
	}
}

/*
 * Prints `what`, libkrb5's text for the error, and the hint. `what` is the step
 * that has failed, or the name that could not be used. Ends the process with
 * EXIT_REFUSED.
 */
_Noreturn static void
give_up_with_hint(krb5_context context, krb5_error_code problem,
    const char *what, const char *hint)
{
	char line[TEXT_MAX];

	snprintf(line, sizeof(line), "%s: %s", what,
	    krb5_get_error_message(context, problem));
	fprintf(stderr, "kpopc: %s%s\n", answer_printable(line, sizeof(line)),
	    hint);
	exit(EXIT_REFUSED);
}

/*
 * Returns true if all users of the realm, or of the server, would get the
 * error.
 */
static bool
is_common(krb5_error_code problem)
{
	return problem == KRB5_KDC_UNREACH ||
	    problem == KRB5_REALM_CANT_RESOLVE ||
	    problem == KRB5KRB_ERR_GENERIC ||
	    problem == KRB5KDC_ERR_SVC_UNAVAILABLE ||
	    problem == KRB5KDC_ERR_S_PRINCIPAL_UNKNOWN;
}

void
ticket_give_up(const struct ticket *t, krb5_error_code problem,
    const char *what)
{
	progress->advice = advice_for(problem);
	/*
	 * The user's tickets may be good. Without network the KDCs of DNS are
	 * not found.
	 */
	if (is_common(problem) || problem == KRB5_REALM_UNKNOWN)
		progress->lacks_ticket = false;
	give_up_with_hint(t->context, problem, what, hint_for(problem));
}

/*
 * As ticket_give_up, but without a hint, for errors to which the hints do not
 * apply. Such an error shows nothing about the server.
 */
_Noreturn static void
give_up_plainly(const struct ticket *t, krb5_error_code problem,
    const char *what)
{
	report_rate(VERDICT_UNKNOWN);
	give_up_with_hint(t->context, problem, what, "");
}

/* As ticket_give_up. An error of this client shows nothing about the server. */
_Noreturn static void
give_up_ticket(const struct ticket *t, krb5_error_code problem,
    const char *what)
{
	if (!is_common(problem))
		report_rate(VERDICT_UNKNOWN);
	ticket_give_up(t, problem, what);
}

/*
 * Returns the principal of the first key in the keytab. name is the name of the
 * keytab.
 */
static krb5_principal
first_principal(const struct ticket *t, krb5_keytab keytab, const char *name)
{
	krb5_kt_cursor cursor;
	krb5_keytab_entry entry;
	krb5_principal first;
	krb5_error_code problem;

	if ((problem = krb5_kt_start_seq_get(t->context, keytab, &cursor)) !=
		0 ||
	    (problem = krb5_kt_next_entry(t->context, keytab, &entry,
		 &cursor)) != 0 ||
	    (problem = krb5_copy_principal(t->context, entry.principal,
		 &first)) != 0)
		give_up_plainly(t, problem, name);
	krb5_free_keytab_entry_contents(t->context, &entry);
	krb5_kt_end_seq_get(t->context, keytab, &cursor);
	return first;
}

/* Returns the server's principal. */
static krb5_principal
service_of(const struct ticket *t, const struct options *o)
{
	krb5_principal service;
	krb5_error_code problem;

	problem = o->service != NULL ?
	    krb5_parse_name(t->context, o->service, &service) :
	    krb5_sname_to_principal(t->context, o->host, "pop", KRB5_NT_SRV_HST,
		&service);
	if (problem != 0)
		give_up_plainly(t, problem,
		    o->service != NULL ? o->service : o->host);
	return service;
}

/*
 * Gets a ticket-granting ticket with a key of the keytab. Returns a ccache in
 * memory that contains the ticket.
 */
static krb5_ccache
tickets_of_keytab(const struct ticket *t, const struct options *o)
{
	krb5_ccache cache;
	krb5_creds creds;
	krb5_error_code problem;
	krb5_keytab keytab;
	krb5_principal client;

	if ((problem = krb5_kt_resolve(t->context, o->keytab, &keytab)) != 0)
		give_up_plainly(t, problem, o->keytab);
	if (o->principal == NULL)
		client = first_principal(t, keytab, o->keytab);
	else if ((problem = krb5_parse_name(t->context, o->principal,
		      &client)) != 0)
		give_up_plainly(t, problem, o->principal);
	problem = krb5_get_init_creds_keytab(t->context, &creds, client, keytab,
	    0, NULL, NULL);
	if (problem != 0)
		give_up_ticket(t, problem, "no ticket with the keytab");
	if ((problem = krb5_cc_new_unique(t->context, "MEMORY", NULL,
		 &cache)) != 0 ||
	    (problem = krb5_cc_initialize(t->context, cache, client)) != 0 ||
	    (problem = krb5_cc_store_cred(t->context, cache, &creds)) != 0)
		give_up_plainly(t, problem,
		    "cannot store the ticket in memory");
	return cache;
}

/*
 * Returns the ccache to use for the service. GSSAPI would choose the same
 * ccache. In a collection it is the ccache of the principal that .k5identity(5)
 * names for the service, or else a ccache of the service's realm. In all other
 * cases it is the primary ccache.
 */
static krb5_ccache
choose_cache(const struct ticket *t, krb5_principal service)
{
	krb5_ccache cache = NULL;
	krb5_principal chosen = NULL;
	krb5_error_code problem =
	    krb5_cc_select(t->context, service, &cache, &chosen);

	/*
	 * If `chosen` is set, KRB5_CC_NOTFOUND means that the chosen principal
	 * has no tickets. Use the default ccache only if `chosen` is not set.
	 */
	if (problem == KRB5_CC_NOTFOUND && chosen == NULL)
		problem = krb5_cc_default(t->context, &cache);
	if (problem != 0)
		give_up_ticket(t, problem, "no tickets");
	return cache;
}

/*
 * Returns the ccache of tickets_of_keytab if the options give a keytab, and
 * otherwise the ccache of choose_cache. Stores in *client the principal of the
 * tickets in this ccache.
 */
static krb5_ccache
open_cache(const struct ticket *t, const struct options *o,
    krb5_principal service, krb5_principal *client)
{
	krb5_ccache cache = o->keytab != NULL ? tickets_of_keytab(t, o) :
						choose_cache(t, service);
	krb5_error_code problem;

	if ((problem = krb5_cc_get_principal(t->context, cache, client)) != 0)
		give_up_ticket(t, problem, "no tickets");
	return cache;
}

/* Returns the client's ticket for the service. */
static krb5_creds *
get_credentials(const struct ticket *t, krb5_principal service,
    krb5_principal client)
{
	krb5_creds want = { .client = client, .server = service }, *got;
	krb5_error_code problem;
	char *name, *what;

	problem = krb5_get_credentials(t->context, 0, t->cache, &want, &got);
	if (problem == 0)
		return got;
	if (krb5_unparse_name(t->context, want.server, &name) != 0 ||
	    asprintf(&what, "no ticket for %s", name) == -1)
		what = name = (char *)(uintptr_t) "no ticket";
	give_up_ticket(t, problem, what);
}

void
ticket_get(struct ticket *t, const struct options *o)
{
	krb5_error_code problem;
	krb5_principal service, client;

	progress->lacks_ticket = true;
	if ((problem = krb5_init_context(&t->context)) != 0)
		give_up_plainly(t, problem, "Kerberos");
	service = service_of(t, o);
	t->cache = open_cache(t, o, service, &client);
	t->creds = get_credentials(t, service, client);
	progress->lacks_ticket = false;
}

char *
ticket_cache_name(const struct ticket *t)
{
	krb5_error_code problem;
	char *name;

	if ((problem = krb5_cc_get_full_name(t->context, t->cache, &name)) != 0)
		give_up_plainly(t, problem, "the name of the ticket cache");
	return name;
}

char *
ticket_user(const struct ticket *t)
{
	const krb5_data *first =
	    krb5_princ_size(t->context, t->creds->client) > 0 ?
	    krb5_princ_component(t->context, t->creds->client, 0) :
	    NULL;
	char *user = first != NULL ? strndup(first->data, first->length) : NULL;

	if (user == NULL)
		give_up_plainly(t, ENOMEM, "the user's name");
	return user;
}
