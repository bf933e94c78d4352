/*
 * Asks the KDC for its time, and for tickets for the service, and tries the
 * keys of the keytab on these.
 *
 * Runs as root in a child of kpopd-check, because it reads keys and may wait
 * long for a KDC. A key of the keytab serves as that of a client; tickets are
 * only in memory.
 */
#include "config.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "auth-internal.h"
#include "auth-keytab.h"
#include "auth-start.h"
#include "check-keys.h"

#define SECONDS 15     /* for a KDC; libkrb5 asks the next one after one */
#define CLIENTS_MOST 6 /* that are tried; a failed one counts at some KDCs */
#define SERVICES_MOST 16
#define TYPE 64 /* bytes of a type's name with its NUL */

/* What the KDC has answered. */
struct kdc {
	struct check *c;
	krb5_context context;
	krb5_principal clients[CLIENTS_MOST], services[SERVICES_MOST];
	int client_count, service_count;
	/* the keytab has the service in lower case, as clients ask for it */
	bool is_spelled[SERVICES_MOST];
	krb5_keytab keytab;        /* has the keys of clients */
	krb5_ccache tickets;       /* of client; NULL: there is no TGT */
	krb5_principal client;     /* that got a TGT */
	krb5_error_code problem;   /* of the last client */
	char error[CHECK_COMMAND]; /* its text */
	krb5_principal wrong;      /* a service whose key the KDC refused */
	bool has_time;
	int ahead;  /* seconds that the KDC is ahead */
	int served; /* services with the right key */
};

/* The keys of the keytab, compared with a ticket. */
struct fit {
	struct check *c;
	const char *name; /* of the service */
	const krb5_ticket *ticket;
	bool has_kvno, has_type;
	krb5_kvno newest;
};

/*
 * Adds a principal to a list of at most `most`, unless the list has it. Returns
 * its place, or -1 if there is no room.
 */
static int
add_principal(const struct kdc *k, krb5_principal *list, int *count, int most,
    krb5_const_principal p)
{
	for (int i = 0; i < *count; i++)
		if (krb5_principal_compare(k->context, list[i], p))
			return i;
	if (*count == most ||
	    krb5_copy_principal(k->context, p, &list[*count]) != 0)
		return -1;
	return (*count)++;
}

/* Adds the principal of a key as a client. */
static bool
add_client(void *self, const krb5_keytab_entry *key)
{
	struct kdc *k = self;

	add_principal(k, k->clients, &k->client_count, CLIENTS_MOST,
	    key->principal);
	return true;
}

/*
 * Adds the principal of a key as a service, with the name for which clients
 * ask, which is in lower case.
 */
static bool
note_service(void *self, const krb5_keytab_entry *key)
{
	struct kdc *k = self;
	krb5_principal p;
	int place;

	if (krb5_copy_principal(k->context, key->principal, &p) != 0)
		return true;
	for (int i = 0; i < p->length; i++)
		for (unsigned j = 0; j < p->data[i].length; j++)
			p->data[i].data[j] =
			    (char)tolower((unsigned char)p->data[i].data[j]);
	place =
	    add_principal(k, k->services, &k->service_count, SERVICES_MOST, p);
	if (place != -1 &&
	    krb5_principal_compare(k->context, p, key->principal))
		k->is_spelled[place] = true;
	krb5_free_principal(k->context, p);
	return true;
}

/* Notes the KDC's time, which was in an answer between two local times. */
static void
note_time(struct kdc *k, time_t kdc, time_t before, time_t after)
{
	k->has_time = true;
	k->ahead = 0;
	if (kdc > after)
		k->ahead = (int)(kdc - after);
	else if (kdc < before)
		k->ahead = (int)(kdc - before);
}

/* Notes the time in a KRB-ERROR or a ticket. */
static void
note_answer(struct kdc *k, krb5_init_creds_context request, time_t before)
{
	krb5_ticket_times times;
	krb5_error *error = NULL;
	time_t after = time(NULL);

	if (k->problem == 0 &&
	    krb5_init_creds_get_times(k->context, request, &times) == 0)
		note_time(k, (uint32_t)times.authtime, before, after);
	else if (krb5_init_creds_get_error(k->context, request, &error) == 0 &&
	    error != NULL)
		note_time(k, (uint32_t)error->stime, before, after);
	krb5_free_error(k->context, error);
}

/* Keeps the text of the last problem. */
static void
note_problem(struct kdc *k, krb5_error_code problem)
{
	const char *text = krb5_get_error_message(k->context, problem);

	strlcpy(k->error, text, sizeof(k->error));
	krb5_free_error_message(k->context, text);
}

/*
 * Asks for a TGT for a client; keytab is NULL for one without a key. Returns 0
 * with *tgt filled, or a krb5 error.
 */
static krb5_error_code
ask_tgt(struct kdc *k, krb5_principal client, krb5_keytab keytab,
    krb5_creds *tgt)
{
	krb5_init_creds_context request = NULL;
	time_t before = time(NULL);

	k->problem = krb5_init_creds_init(k->context, client, NULL, NULL, 0,
	    NULL, &request);
	if (k->problem == 0)
		k->problem = keytab != NULL ?
		    krb5_init_creds_set_keytab(k->context, request, keytab) :
		    krb5_init_creds_set_password(k->context, request, "");
	if (k->problem == 0)
		k->problem = krb5_init_creds_get(k->context, request);
	note_problem(k, k->problem);
	if (request != NULL)
		note_answer(k, request, before);
	if (k->problem == 0)
		k->problem =
		    krb5_init_creds_get_creds(k->context, request, tgt);
	krb5_init_creds_free(k->context, request);
	return k->problem;
}

/* Puts a TGT into a new ccache in memory. */
static void
keep_tgt(struct kdc *k, krb5_principal client, krb5_creds *tgt)
{
	if (krb5_cc_new_unique(k->context, "MEMORY", NULL, &k->tickets) == 0 &&
	    krb5_cc_initialize(k->context, k->tickets, client) == 0 &&
	    krb5_cc_store_cred(k->context, k->tickets, tgt) == 0)
		k->client = client;
	else
		k->tickets = NULL;
	krb5_free_cred_contents(k->context, tgt);
}

/* Returns true if a KDC cannot be asked at all. */
static bool
is_unreachable(krb5_error_code problem)
{
	return problem == KRB5_KDC_UNREACH || problem == KRB5_REALM_UNKNOWN ||
	    problem == KRB5_REALM_CANT_RESOLVE;
}

/* Returns true if the KDC has another key for the client than the keytab. */
static bool
is_wrong_key(krb5_error_code problem)
{
	return problem == KRB5KRB_AP_ERR_BAD_INTEGRITY ||
	    problem == KRB5KDC_ERR_PREAUTH_FAILED;
}

/* Notes the service whose key, as that of a client, the KDC has refused. */
static void
note_wrong_key(struct kdc *k, krb5_const_principal client)
{
	for (int i = 0; i < k->service_count; i++)
		if (krb5_principal_compare(k->context, k->services[i], client))
			k->wrong = k->services[i];
}

/*
 * Tries the clients of one keytab until one gets a TGT: those of one realm, or
 * all if `of` is NULL. A realm without a KDC is asked only once.
 */
static void
try_clients(struct kdc *k, krb5_const_principal of)
{
	krb5_const_principal dead = NULL;
	krb5_creds tgt;

	for (int i = 0; i < k->client_count && k->tickets == NULL; i++) {
		krb5_principal client = k->clients[i];
		krb5_error_code problem;

		if ((of != NULL &&
			!krb5_realm_compare(k->context, of, client)) ||
		    (dead != NULL &&
			krb5_realm_compare(k->context, dead, client)))
			continue;
		problem = ask_tgt(k, client, k->keytab, &tgt);
		if (problem == 0)
			keep_tgt(k, client, &tgt);
		else if (is_unreachable(problem))
			dead = client;
		else if (is_wrong_key(problem))
			note_wrong_key(k, client);
	}
}

/*
 * Gets a TGT in the realm of the service, if a key is that of a client there.
 * Otherwise keeps the TGT, because one realm may trust the other.
 */
static void
change_realm(struct kdc *k, krb5_const_principal service)
{
	krb5_ccache tickets = k->tickets;

	if (krb5_realm_compare(k->context, service, k->client))
		return;
	k->tickets = NULL;
	try_clients(k, service);
	if (k->tickets == NULL)
		k->tickets = tickets;
}

/* Gets a TGT: with a key of kpopd's keytab, or of libkrb5's default keytab. */
static void
get_tgt(struct kdc *k)
{
	struct check *c = k->c;

	keys_visit(c, KEYS_OF_SERVICE, add_client, k);
	keys_visit(c, KEYS_OF_KEYTAB, add_client, k);
	if ((c->o.keytab != NULL ?
		    krb5_kt_resolve(k->context, c->o.keytab, &k->keytab) :
		    krb5_kt_default(k->context, &k->keytab)) == 0)
		try_clients(k, NULL);
	if (k->tickets != NULL || c->o.keytab == NULL ||
	    is_unreachable(k->problem))
		return;
	k->client_count = 0;
	keys_visit(c, KEYS_OF_HOST, add_client, k);
	if (krb5_kt_default(k->context, &k->keytab) == 0)
		try_clients(k, NULL);
}

/*
 * Gets at least the KDC's time, which is in its answer to a client that it does
 * not have.
 */
static void
get_time(struct kdc *k)
{
	char realm[CHECK_REALM];
	krb5_principal unknown;
	krb5_creds tgt;

	realm_guess(k->c, realm);
	if (krb5_build_principal(k->context, &unknown, (unsigned)strlen(realm),
		realm, "kpopd-check", "clock", (char *)NULL) != 0)
		return;
	if (ask_tgt(k, unknown, NULL, &tgt) == 0)
		krb5_free_cred_contents(k->context, &tgt);
	krb5_free_principal(k->context, unknown);
}

/* Returns the command that sets the clock. */
static const char *
set_clock(void)
{
	return access("/usr/bin/chronyc", X_OK) == 0 ?
	    "chronyc makestep" :
	    "timedatectl set-ntp true";
}

/* Prints the difference of the clocks. */
static void
check_clock(struct kdc *k)
{
	int skew = auth_skew(k->c->auth), off = abs(k->ahead);
	const char *way = k->ahead > 0 ? "ahead of" : "behind";

	if (!k->has_time)
		check_warn(k->c, "clock", NULL, NULL,
		    "not compared with the KDC's: %s", k->error);
	else if (off > skew)
		check_fail(k->c, "clock", NULL, set_clock(),
		    "the KDC's clock is %d s %s this host's: tickets are "
		    "refused from %d s on (clockskew)",
		    off, way, skew);
	else if (off > skew / 5)
		check_warn(k->c, "clock", NULL, set_clock(),
		    "the KDC's clock is %d s %s this host's; clockskew is "
		    "%d s",
		    off, way, skew);
	else
		check_ok(k->c, "clock", NULL, "%d s from the KDC's", off);
}

/* Compares a key of the service, in any case, with the ticket. */
static bool
compare_key(void *self, const krb5_keytab_entry *key)
{
	struct fit *f = self;
	const krb5_enc_data *sealed = &f->ticket->enc_part;
	char name[CHECK_PRINCIPAL];

	if (strcasecmp(principal_write(f->c, key->principal, name), f->name) !=
	    0)
		return true;
	if (key->vno == sealed->kvno) {
		f->has_kvno = true;
		f->has_type =
		    f->has_type || key->key.enctype == sealed->enctype;
	}
	if (key->vno > f->newest)
		f->newest = key->vno;
	return true;
}

/* Tries the keytab's keys on a ticket for a service. */
static void
try_ticket(struct kdc *k, const char *name, krb5_ticket *ticket)
{
	struct fit f = { .c = k->c, .name = name, .ticket = ticket };
	const char *remedy;
	char type[TYPE];
	bool fits;
	unsigned kvno = ticket->enc_part.kvno;

	if (krb5_enctype_to_name(ticket->enc_part.enctype, false, type,
		sizeof(type)) != 0)
		strlcpy(type, "unknown", sizeof(type));
	keys_visit(k->c, KEYS_OF_SERVICE, compare_key, &f);
	remedy = remedy_new_key(k->c, name);
	fits = krb5_server_decrypt_ticket_keytab(k->context, k->c->auth->keys,
		   ticket) == 0;
	k->served += fits;
	if (!type_is_permitted(k->c, ticket->enc_part.enctype))
		check_fail(k->c, "ticket", name,
		    "add the type to permitted_enctypes in krb5.conf",
		    "the KDC uses a key of the type %s, which krb5.conf or "
		    "libkrb5 does not permit",
		    type);
	else if (fits)
		check_ok(k->c, "ticket", name,
		    "the keytab has its key: kvno %u, %s", kvno, type);
	else if (!f.has_kvno)
		check_fail(k->c, "ticket", name, remedy,
		    "the KDC's key has kvno %u, the keytab's newest has %u",
		    kvno, f.newest);
	else if (!f.has_type)
		check_fail(k->c, "ticket", name, remedy,
		    "the KDC uses a key of the type %s, which the keytab does "
		    "not have",
		    type);
	else
		check_fail(k->c, "ticket", name, remedy,
		    "the keytab's key is not the KDC's, although it has the "
		    "same kvno, %u",
		    kvno);
}

/* Gets a ticket for a service. */
static void
ask_ticket(struct kdc *k, krb5_principal service)
{
	struct check *c = k->c;
	krb5_creds wanted = { .server = service }, *got;
	krb5_ticket *ticket;
	char name[CHECK_PRINCIPAL];
	krb5_error_code problem;

	change_realm(k, service);
	wanted.client = k->client;
	problem =
	    krb5_get_credentials(k->context, 0, k->tickets, &wanted, &got);
	principal_write(c, service, name);
	if (problem == 0 &&
	    (problem = krb5_decode_ticket(&got->ticket, &ticket)) == 0) {
		try_ticket(k, name, ticket);
		return;
	}
	note_problem(k, problem);
	if (!krb5_realm_compare(k->context, service, k->client)) {
		check_warn(c, "ticket", name, NULL,
		    "no key can be used as a client in its realm, so its kvno "
		    "was "
		    "not compared: %s",
		    k->error);
		return;
	}
	check_warn(c, "ticket", name,
	    problem == KRB5KDC_ERR_S_PRINCIPAL_UNKNOWN ?
		remedy_add_key(c, name) :
		NULL,
	    "the KDC issues none, so no client can log in with it: %s",
	    k->error);
}

/*
 * Checks the case of a service's name, in which clients and the keytab differ.
 * The KDC of Active Directory ignores case; others do not. has_key: the ticket
 * for the name in lower case has a key of the keytab.
 */
static void
check_case(struct kdc *k, int place, bool has_key)
{
	static const char remark[] =
	    "clients ask for it in this case, and the keytab has it only with "
	    "capital letters";
	struct check *c = k->c;
	char name[CHECK_PRINCIPAL];
	const char *remedy;

	if (k->is_spelled[place] || has_key)
		return;
	principal_write(c, k->services[place], name);
	remedy = remedy_add_key(c, name);
	if (k->tickets != NULL)
		check_fail(c, "key", name, remedy,
		    "%s: this KDC does not ignore case, as Active Directory "
		    "does",
		    remark);
	else
		check_warn(c, "key", name, remedy,
		    "%s: right only if the KDC ignores case, as Active "
		    "Directory does",
		    remark);
}

/* Prints that the KDC was not asked for tickets, or has refused a key. */
static void
print_no_tgt(struct kdc *k)
{
	char name[CHECK_PRINCIPAL];

	if (k->wrong != NULL) {
		principal_write(k->c, k->wrong, name);
		check_fail(k->c, "ticket", name, remedy_new_key(k->c, name),
		    "the KDC has another key, probably with a newer kvno, than "
		    "the keytab");
	} else
		check_warn(k->c, "ticket", NULL, NULL,
		    "the KDC's kvno was not compared with the keytab's: %s",
		    k->error);
}

/* Child: asks the KDC. */
static void
ask_kdc(struct check *c)
{
	static struct kdc k;
	char error[CHECK_COMMAND];

	k.c = c;
	k.context = c->auth->context;
	keys_visit(c, KEYS_OF_SERVICE, note_service, &k);
	get_tgt(&k);
	strlcpy(error, k.error, sizeof(error));
	if (!k.has_time && !is_unreachable(k.problem))
		get_time(&k);
	check_clock(&k);
	strlcpy(k.error, error, sizeof(k.error));
	if (k.tickets == NULL) {
		if (k.service_count > 0)
			print_no_tgt(&k);
		for (int i = 0; i < k.service_count; i++)
			check_case(&k, i, false);
		return;
	}
	/* As kpopd does. */
	if (k.service_count > 0 &&
	    keytab_load(c->auth, c->o.keytab, c->o.service) == -1)
		return;
	for (int i = 0; i < k.service_count; i++) {
		int served = k.served;

		ask_ticket(&k, k.services[i]);
		check_case(&k, i, k.served > served);
	}
	if (k.served == 0 && k.service_count > 0)
		check_fail(c, "ticket", NULL, NULL,
		    "no key of the keytab is the KDC's: no client can log in");
}

void
check_kdc(struct check *c)
{
	if (c->auth != NULL && !check_in_child(c, SECONDS, ask_kdc))
		check_warn(c, "clock", NULL, NULL,
		    "the KDC did not answer within %d s; the clock and the "
		    "kvno were not compared, or only in part",
		    SECONDS);
}
