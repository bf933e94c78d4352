/* What the checks of Kerberos share: see check-keys.c. */
#ifndef CHECK_KEYS_H
#define CHECK_KEYS_H

#include <krb5.h>
#include <netdb.h>

#include "check.h"

#define CHECK_REALM 256     /* bytes of a realm with its NUL */
#define CHECK_PRINCIPAL 512 /* bytes of a principal with its NUL */

/* The keys of a keytab. */
enum check_keys {
	KEYS_OF_SERVICE, /* those that kpopd uses: pop/ and pop3/, or of -s */
	KEYS_OF_KEYTAB,  /* all in kpopd's keytab */
	KEYS_OF_HOST     /* all in libkrb5's default keytab */
};

/*
 * In a child (check_in_child), because it reads keys: calls visit for each of
 * these keys, until visit returns false. Returns 0 or a krb5 error.
 */
krb5_error_code keys_visit(struct check *c, enum check_keys which,
    bool (*visit)(void *self, const krb5_keytab_entry *key), void *self);

/*
 * Writes the host's full name, by DNS or /etc/hosts, in lower case. Returns
 * host. Without a full name it is the name of gethostname. May wait for DNS.
 */
const char *host_full_name(char host[NI_MAXHOST]);

/* Returns true for a name that each host has for itself. */
bool host_is_local(const char *name);

/*
 * Returns true if a name leads to this host: it is its own, that of an address,
 * or an alias (check-names.c). May wait for DNS.
 */
bool host_has_name(const char *name);

/*
 * In a child: writes the realm of the first key of the service; without one,
 * krb5.conf's default realm; without one, the host's domain in upper case, for
 * a remedy.
 */
void realm_guess(struct check *c, char realm[CHECK_REALM]);

/*
 * Writes a principal, or "?" if no memory is left, to name. Returns name. A
 * longer principal is cut.
 */
const char *principal_write(struct check *c, krb5_const_principal p,
    char name[CHECK_PRINCIPAL]);

/*
 * Returns true if libkrb5 accepts tickets of this type, with the
 * permitted_enctypes of krb5.conf.
 */
bool type_is_permitted(struct check *c, krb5_enctype type);

/*
 * Returns true if the name can be part of a quoted argument of kadmin or sed.
 * The DNS and those who made the keytab, who may be others, have a part in some
 * names.
 */
bool keys_is_plain(const char *name);

/* Makes the remedy: get a key for this principal into kpopd's keytab. */
const char *remedy_add_key(struct check *c, const char *principal);

/*
 * Makes the remedy if the KDC has the principal with a key that the keytab does
 * not have. The keytab never gets that key, so tickets with it stay useless.
 */
const char *remedy_new_key(struct check *c, const char *principal);

#endif
